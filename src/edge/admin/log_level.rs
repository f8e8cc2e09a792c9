//! Which log lines are written, changed while the server runs.

use std::time::Duration;

use actix_web::{HttpResponse, web};
use kronos_actors::clock::Millis;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    edge::{
        EdgeState,
        accounts::Accounts,
        auth::Caller,
        endpoint::{Endpoint, Tag, get, put},
        error::ApiError,
        input::{Fields, Input, Json, field},
        rfc3339,
    },
    telemetry::logs::{
        level::{self, InEffect},
        read_level,
    },
};

/// Longest filter, in characters.
const FILTER_CHARS: usize = 1000;
/// Longest time for which a level is changed, in seconds: a day.
const LONGEST: u64 = 86_400;

/// A change.
#[derive(Debug)]
struct NewLevel {
    level: String,
    during: Option<Duration>,
}

impl Input for NewLevel {
    const NAME: &'static str = "NewLogLevel";

    fn read(fields: &mut Fields) -> Option<Self> {
        let about = field("level")
            .doc("As `LOG_LEVEL`: trace, debug, info, warning, error, off, or a filter such as `info,kronos_actors=debug`.")
            .example("debug");
        let schema = || json!({"type": "string", "minLength": 1, "maxLength": FILTER_CHARS});
        let level = fields.value(about, true, schema, |value| {
            let text = value.as_str().filter(|text| text.chars().count() <= FILTER_CHARS);
            text.and_then(read_level)
                .ok_or_else(|| "Input should be a level, or a filter such as info,kronos=debug".to_owned())
        });
        let about = field("for_seconds")
            .doc("Goes back by itself after so long to the last level that was set for good.")
            .example(600);
        let during = fields.integer(about, 1, LONGEST).map(Duration::from_secs);
        Some(Self { level: level?, during })
    }
}

/// Which log lines are written.
#[derive(Debug, Serialize, JsonSchema)]
struct LogLevel {
    /// A level or a filter.
    level: String,
    /// The one before this change; absent where nothing was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    was: Option<String>,
    /// When it ends; null: it stays.
    until: Option<String>,
    /// What comes then.
    then: Option<String>,
}

impl LogLevel {
    fn of(now: InEffect, was: Option<String>) -> Self {
        let until = |at: Millis| rfc3339(at);
        Self {
            level: now.level,
            was,
            until: now.then.as_ref().map(|then| until(then.at_ms)),
            then: now.then.map(|then| then.level),
        }
    }
}

async fn show(caller: Caller) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let now = level::in_effect().ok_or_else(ApiError::internal)?;
    Ok(std::future::ready(HttpResponse::Ok().json(LogLevel::of(now, None))).await)
}

async fn change(state: web::Data<EdgeState>, caller: Caller, body: Json<NewLevel>) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let NewLevel { level, during } = body.0;
    let changed = level::change(level, during, caller.principal.user.as_str(), &state.clock);
    let (was, now) = changed.map_err(|level::NotOurs| ApiError::internal())?;
    Ok(std::future::ready(HttpResponse::Ok().json(LogLevel::of(now, Some(was.level)))).await)
}

const PATH: &[&str] = &["/api/v1/admin/log-level"];

/// The endpoints of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(PATH, show)
            .named("log_level_show", Tag::Admin, "Show which log lines are written")
            .superuser()
            .returns::<LogLevel>(200, "What is in effect", || {
                json!({"level": "info", "until": null, "then": null})
            }),
        put(PATH, change)
            .named("log_level_update", Tag::Admin, "Change which log lines are written")
            .about("Of this process, until it ends: `LOG_LEVEL` says what it starts with. One log line says who changed it.")
            .superuser()
            .body::<NewLevel>()
            .returns::<LogLevel>(200, "What is in effect from here on", changed_example),
    ]
}

fn changed_example() -> Value {
    json!({"level": "debug", "was": "info", "until": "2026-01-01T12:10:00.000Z", "then": "info"})
}
