//! Runs: what is being answered now, and what waits for people.

use actix_web::{HttpResponse, web};
use kronos_actors::directory::{DirectoryRef, observe::SeenSession};
use kronos_protocol::ids::{SessionId, UserId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    page::{self, Paging, Wanted},
    sessions::RunSeen,
};
use crate::edge::{
    EdgeState,
    accounts::Accounts,
    auth::Caller,
    endpoint::{Endpoint, Tag, get},
    error::ApiError,
    input::{Fields, Input, QueryOf, field},
};

/// The endpoints of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/admin/runs"], list)
            .named("admin_runs", Tag::Admin, "List runs")
            .about(
                "Those that run and those that wait for people, of the sessions in memory, in the order of the sessions' ids: a session \
                 has one at most. A session that does not answer may hide one: it is listed with `answering` false. A page may be short \
                 although there is a next one.",
            )
            .superuser()
            .query::<ListRuns>()
            .returns::<Runs>(200, "A page of the list", || json!({"items": [example()], "next_cursor": null})),
    ]
}

fn example() -> Value {
    json!({
        "session": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80", "owner": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f79", "answering": true,
        "questions": 0,
        "run": {
            "id": "r_AZJvPoscfT6fACsdXG5_gAECAwQFBg", "state": "running", "started_at": "2026-11-27T12:00:00Z", "age_ms": 1234,
            "attempt": 1, "steps": 1, "model": "gemini-2.5-flash", "waits_for": ["model"],
        },
    })
}

/// A session's run.
#[derive(Debug, Serialize, JsonSchema)]
struct RunItem {
    /// The session.
    session: SessionId,
    /// Whose it is; null when that cannot be told now.
    owner: Option<UserId>,
    /// False: the session did not answer in time.
    answering: bool,
    /// Questions that nobody has answered.
    questions: usize,
    /// The run; null when the session does not answer.
    run: Option<RunSeen>,
}

/// A page of runs.
#[derive(Debug, Serialize, JsonSchema)]
struct Runs {
    /// In the order of their sessions' ids.
    items: Vec<RunItem>,
    /// `cursor` of the next page; null when this is the last.
    next_cursor: Option<String>,
}

struct ListRuns {
    paging: Paging,
    user: Option<UserId>,
    state: Option<&'static str>,
    older_than_s: u64,
}

impl Input for ListRuns {
    const NAME: &'static str = "ListRuns";

    fn read(fields: &mut Fields) -> Option<Self> {
        let paging = Paging::read(fields);
        let user = fields.id(field("user").doc("Only runs of this user"));
        let state = fields.word(
            field("state").doc("Only those that run, or that wait for people"),
            &["running", "waiting"],
        );
        let about = field("older_than_s").doc("Only runs that started so many seconds ago, or earlier");
        let older_than_s = fields.integer(about, 0, u64::from(u32::MAX));
        Some(Self {
            paging,
            user,
            state,
            older_than_s: older_than_s.unwrap_or(0),
        })
    }
}

async fn list(
    edge: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    query: QueryOf<ListRuns>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let ListRuns {
        paging,
        user,
        state,
        older_than_s,
    } = query.0;
    let now_ms = edge.clock.now_ms();
    let oldest = i64::try_from(older_than_s.saturating_mul(1000)).map_or(i64::MIN, |age| now_ms.saturating_sub(age));
    let wanted = Wanted {
        paging,
        user,
        and: move |session: &SeenSession| {
            let Some(run) = session.standing.seen().and_then(|seen| seen.run.as_ref()) else {
                return session.standing.is_silent();
            };
            let word = if run.waits { "waiting" } else { "running" };
            state.is_none_or(|state| state == word) && run.started_ms <= oldest
        },
    };
    let (found, next_cursor) = page::sessions(&directory, wanted, edge.admin_timeout).await;
    let items = found.into_iter().map(|seen| item(seen, now_ms)).collect();
    Ok(HttpResponse::Ok().json(Runs { items, next_cursor }))
}

fn item(seen: SeenSession, now_ms: i64) -> RunItem {
    let observed = seen.standing.seen();
    RunItem {
        answering: observed.is_some(),
        questions: observed.map_or(0, |observed| observed.questions),
        run: observed.and_then(|observed| Some(RunSeen::of(observed.run.clone()?, now_ms))),
        session: seen.session,
        owner: seen.owner,
    }
}
