//! The control routes under `/sim`: the handle of the simulator for other processes.

use actix_web::{HttpResponse, web};
use serde_json::{Value, json};

use crate::config::SimConfig;
use crate::error::{ApiError, response};
use crate::script::ScriptedReply;
use crate::shared::Shared;

pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/sim/health", web::get().to(health))
        .route("/sim/requests", web::get().to(requests))
        .route("/sim/requests", web::delete().to(clear))
        .route("/sim/config", web::get().to(show_config))
        .route("/sim/config", web::put().to(set_config))
        .route("/sim/script", web::post().to(script));
}

type State = web::Data<Shared>;

async fn health() -> HttpResponse {
    answer(&json!({"status": "ok"}))
}

async fn requests(state: State) -> HttpResponse {
    answer(&json!(state.recorder.all()))
}

async fn clear(state: State) -> HttpResponse {
    state.clear();
    answer(&json!({}))
}

async fn show_config(state: State) -> HttpResponse {
    answer(&json!(*state.config()))
}

/// Changes the fields that are given and returns the whole configuration.
async fn set_config(state: State, body: web::Bytes) -> HttpResponse {
    let merged = serde_json::from_slice::<serde_json::Map<String, Value>>(&body).and_then(|changes| {
        let mut config = serde_json::to_value(&*state.config())?;
        changes.into_iter().for_each(|(name, value)| config[name] = value);
        serde_json::from_value::<SimConfig>(config)
    });
    match merged {
        Ok(merged) => {
            state.set_config(|config| *config = merged);
            answer(&json!(*state.config()))
        }
        Err(error) => ApiError::invalid(&error.to_string()).response(false),
    }
}

/// Queues one reply or a list of them.
async fn script(state: State, body: web::Bytes) -> HttpResponse {
    let steps = serde_json::from_slice::<Value>(&body).and_then(|value| match value {
        list @ Value::Array(_) => serde_json::from_value::<Vec<ScriptedReply>>(list),
        one => serde_json::from_value::<ScriptedReply>(one).map(|one| vec![one]),
    });
    match steps {
        Ok(steps) => {
            let queued = steps.len();
            state.push_script(steps);
            answer(&json!({"queued": queued}))
        }
        Err(error) => ApiError::invalid(&error.to_string()).response(false),
    }
}

fn answer(body: &Value) -> HttpResponse {
    response(200).body(body.to_string())
}
