//! The routes of what is not built into this version: tools through Composio, and the agent that uses them.
//!
//! They are there, want a token like the others, and say what is missing: a client can tell "not on this server" from "no such
//! path". The code is the same whether a key is missing or this version has no use for it yet: what a client can do about it
//! is the same, nothing. What an operator can do stands in the text.

use actix_web::{
    HttpResponse, Route,
    http::Method,
    web::{self, ServiceConfig},
};
use serde::Serialize;

use super::{EdgeState, at, auth::Caller, error::ApiError, get, post};

const COMPOSIO: &str = "COMPOSIO_API_KEY";
const GEMINI: &str = "GEMINI_API_KEY";

/// Registers them.
pub(super) fn routes(app: &mut ServiceConfig) {
    let composio = |method| (method, Route::new().to(tools));
    let agent = |method| (method, Route::new().to(agent));
    app.service(at(["/api/v1/composio/health"], [get(health)]))
        .service(at(["/api/v1/composio/webhook"], [post(webhook)]));
    for path in ["initiate", "initiate-enhanced"] {
        let path = format!("/api/v1/composio/connections/{path}");
        app.service(at([path], [composio(Method::POST)]));
    }
    for action in ["enable", "disable", "refresh"] {
        let path = format!("/api/v1/composio/connections/{{account_id}}/{action}");
        app.service(at([path], [composio(Method::POST)]));
    }
    app.service(at(
        ["/api/v1/composio/connections/account/{account_id}"],
        [composio(Method::GET)],
    ))
    .service(at(
        ["/api/v1/composio/connections/{id}"],
        [composio(Method::GET), composio(Method::DELETE)],
    ))
    .service(at(["/api/v1/composio/tools/execute"], [composio(Method::POST)]))
    .service(at(
        ["/api/v1/composio/auth-configs"],
        [composio(Method::GET), composio(Method::POST)],
    ))
    .service(at(
        ["/api/v1/composio/auth-configs/{id}"],
        [composio(Method::GET), composio(Method::PUT), composio(Method::DELETE)],
    ))
    .service(at(["/api/v1/composio/toolkits"], [composio(Method::GET)]))
    .service(at(
        ["/api/v1/composio/toolkits/{slug}/actions"],
        [composio(Method::GET)],
    ))
    .service(at(["/api/v1/agent/capabilities"], [agent(Method::GET)]))
    .service(at(["/api/v1/agent/runs/{run_id}"], [agent(Method::GET)]));
    for path in [
        "invoke",
        "stream",
        "analyze-intent",
        "ag-ui",
        "runs/{run_id}/cancel",
        "runs/{run_id}/approvals/{tool_call_id}",
    ] {
        app.service(at([format!("/api/v1/agent/{path}")], [agent(Method::POST)]));
    }
}

/// What `GET /composio/health` says.
#[derive(Debug, Serialize)]
struct ComposioHealth {
    configured: bool,
    message: &'static str,
}

async fn health(state: web::Data<EdgeState>, _caller: Caller) -> HttpResponse {
    let configured = state.health.composio_configured();
    let message = if configured {
        "Composio is configured, but this version of the server calls no tools yet"
    } else {
        "Composio is not configured: COMPOSIO_API_KEY is not set"
    };
    std::future::ready(HttpResponse::Ok().json(ComposioHealth { configured, message })).await
}

async fn tools(state: web::Data<EdgeState>, _caller: Caller) -> Result<HttpResponse, ApiError> {
    std::future::ready(Err(no_tools(&state))).await
}

/// What Composio calls carries a signature instead of a token.
async fn webhook(state: web::Data<EdgeState>) -> Result<HttpResponse, ApiError> {
    std::future::ready(Err(no_tools(&state))).await
}

async fn agent(state: web::Data<EdgeState>, _caller: Caller) -> Result<HttpResponse, ApiError> {
    let message = if state.wiring.gemini_health().configured {
        "The agent is not part of this version of the server"
    } else {
        "The agent is not configured: GEMINI_API_KEY is not set"
    };
    std::future::ready(Err(ApiError::not_configured(message, GEMINI))).await
}

fn no_tools(state: &EdgeState) -> ApiError {
    let message = if state.health.composio_configured() {
        "Composio is configured, but this version of the server calls no tools yet"
    } else {
        "Composio is not configured: COMPOSIO_API_KEY is not set"
    };
    ApiError::not_configured(message, COMPOSIO)
}
