//! The control routes under `/sim`: the handle of the simulator for other processes.

use actix_web::{HttpResponse, web};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::accounts::{self, STATUSES, Wish};
use super::auth_configs;
use super::config::ComposioSimConfig;
use super::deliver::{self, WebhookOrder};
use super::error::ApiError;
use super::script::ComposioScript;
use super::state::{State, Store};

type Shared = web::Data<State>;

pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .route(
            "/sim/health",
            web::get().to(async || answer(200, &json!({"status": "ok"}))),
        )
        .route(
            "/sim/requests",
            web::get().to(async |state: Shared| answer(200, &json!(state.recorder.all()))),
        )
        .route("/sim/requests", web::delete().to(clear))
        .route("/sim/reset", web::post().to(reset))
        .route(
            "/sim/config",
            web::get().to(async |state: Shared| answer(200, &json!(*state.config()))),
        )
        .route("/sim/config", web::put().to(set_config))
        .route("/sim/script", web::post().to(script))
        .route(
            "/sim/script",
            web::get().to(async |state: Shared| answer(200, &json!({"queued": state.script().len()}))),
        )
        .route(
            "/sim/effects",
            web::get().to(async |state: Shared| answer(200, &json!(state.store().effects.all()))),
        )
        .route("/sim/effects", web::delete().to(clear_effects))
        .route("/sim/accounts", web::post().to(account))
        .route("/sim/connections/{id}", web::post().to(connection))
        .route("/sim/clock", web::post().to(clock))
        .route("/sim/webhooks", web::post().to(webhook))
        .route(
            "/sim/webhooks",
            web::get().to(async |state: Shared| answer(200, &json!(state.store().deliveries))),
        );
}

async fn clear(state: Shared) -> HttpResponse {
    state.clear();
    answer(200, &json!({}))
}

async fn reset(state: Shared) -> HttpResponse {
    state.reset();
    answer(200, &json!({}))
}

async fn clear_effects(state: Shared) -> HttpResponse {
    state.store().effects.clear();
    answer(200, &json!({}))
}

/// Changes the fields that are given and returns the whole configuration.
async fn set_config(state: Shared, body: web::Bytes) -> HttpResponse {
    let merged = serde_json::from_slice::<serde_json::Map<String, Value>>(&body).and_then(|changes| {
        let mut config = serde_json::to_value(&*state.config())?;
        changes.into_iter().for_each(|(name, value)| config[name] = value);
        serde_json::from_value::<ComposioSimConfig>(config)
    });
    match merged {
        Ok(merged) => {
            state.set_config(|config| *config = merged);
            answer(200, &json!(*state.config()))
        }
        Err(error) => bad(&error.to_string()),
    }
}

/// Queues one step or a list of them.
async fn script(state: Shared, body: web::Bytes) -> HttpResponse {
    let steps = read::<Value>(&body).and_then(|value| match value {
        list @ Value::Array(_) => serde_json::from_value::<Vec<ComposioScript>>(list),
        one => serde_json::from_value::<ComposioScript>(one).map(|one| vec![one]),
    });
    match steps {
        Ok(steps) => {
            let queued = steps.len();
            state.script().push(steps);
            answer(200, &json!({"queued": queued}))
        }
        Err(error) => bad(&error.to_string()),
    }
}

/// An account that is there without anybody having opened a link.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewAccount {
    pub(crate) user_id: String,
    pub(crate) toolkit: String,
    #[serde(default)]
    pub(crate) auth_config_id: Option<String>,
    #[serde(default)]
    pub(crate) id: Option<String>,
    #[serde(default)]
    pub(crate) alias: Option<String>,
    #[serde(default)]
    pub(crate) status: Option<String>,
}

/// Makes an account that is ACTIVE, or what `status` says, and returns it; makes an auth config when there is none.
pub(crate) fn make_account(state: &State, store: &mut Store, wish: NewAccount) -> Result<Value, ApiError> {
    let slug = &wish.toolkit;
    let toolkit = state
        .catalog
        .toolkit(slug)
        .ok_or_else(|| ApiError::unknown_toolkit(slug))?;
    let status = wish.status.as_deref().unwrap_or("ACTIVE");
    if !STATUSES.contains(&status) {
        return Err(ApiError::bad_body(vec![format!("status: Unknown status {status}")]));
    }
    let known = store.auth_configs.iter().rfind(|config| match &wish.auth_config_id {
        Some(id) => config.id == *id,
        None => config.toolkit == toolkit.slug && config.enabled,
    });
    let config = match (known.cloned(), &wish.auth_config_id, toolkit.auth.first()) {
        (Some(config), _, _) => config,
        (None, Some(id), _) => return Err(ApiError::unknown_auth_config(id)),
        (None, None, None) => return Err(ApiError::bad_auth_config(format!("Toolkit {slug} needs no account"))),
        (None, None, Some(auth)) => auth_configs::add(state, store, toolkit, &auth.mode, auth.managed, &Value::Null),
    };
    let account = accounts::add(
        state,
        store,
        &config,
        Wish {
            user_id: wish.user_id,
            alias: wish.alias,
            kind: None,
            id: wish.id,
        },
    )?;
    accounts::set_status(store, &account.id, "ACTIVE", None, state.now());
    if status != "ACTIVE" {
        accounts::set_status(store, &account.id, status, None, state.now());
    }
    let made = store.accounts.iter().find(|own| own.id == account.id);
    Ok(made.map(|own| accounts::render(store, own)).unwrap_or_default())
}

async fn account(state: Shared, body: web::Bytes) -> HttpResponse {
    let wish = match read::<NewAccount>(&body) {
        Ok(wish) => wish,
        Err(error) => return bad(&error.to_string()),
    };
    match make_account(&state, &mut state.store(), wish) {
        Ok(account) => answer(201, &account),
        Err(error) => answer(error.status, &error.body("control")),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStatus {
    status: String,
    #[serde(default)]
    reason: Option<String>,
}

/// Sets a status and tells the subscriber about an account that expires; `false` when there is no such account.
pub(crate) fn change_status(state: &State, store: &mut Store, id: &str, status: &str, reason: Option<&str>) -> bool {
    let usual = (status == "EXPIRED").then_some("Permanent auth error during token refresh");
    let known = accounts::set_status(store, id, status, reason.or(usual), state.now());
    if known && status == "EXPIRED" {
        deliver::account_expired(state, store, id);
    }
    known
}

async fn connection(state: Shared, id: web::Path<String>, body: web::Bytes) -> HttpResponse {
    let wish = match read::<NewStatus>(&body) {
        Ok(wish) if STATUSES.contains(&wish.status.as_str()) => wish,
        Ok(wish) => return bad(&format!("unknown status {}", wish.status)),
        Err(error) => return bad(&error.to_string()),
    };
    let mut store = state.store();
    if change_status(&state, &mut store, &id, &wish.status, wish.reason.as_deref()) {
        answer(200, &json!({"id": *id, "status": wish.status}))
    } else {
        let error = ApiError::unknown_account(&id);
        answer(error.status, &error.body("control"))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ahead {
    advance_ms: i64,
}

async fn clock(state: Shared, body: web::Bytes) -> HttpResponse {
    match read::<Ahead>(&body) {
        Ok(ahead) => {
            state.advance(ahead.advance_ms);
            answer(200, &json!({"now": super::state::stamp(state.now())}))
        }
        Err(error) => bad(&error.to_string()),
    }
}

async fn webhook(state: Shared, body: web::Bytes) -> HttpResponse {
    let order = match read::<WebhookOrder>(&body) {
        Ok(order) => order,
        Err(error) => return bad(&error.to_string()),
    };
    match deliver::deliver(&state, &order).await {
        Ok(deliveries) => answer(200, &json!({"deliveries": deliveries})),
        Err(error) => bad(&error.to_string()),
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(body)
}

fn bad(message: &str) -> HttpResponse {
    answer(400, &ApiError::bad_body(vec![message.to_owned()]).body("control"))
}

fn answer(status: u16, body: &Value) -> HttpResponse {
    crate::error::response(status).body(body.to_string())
}
