//! The routes of what is not built into this version: tools through Composio.
//!
//! They are there, want a token like the others, and say what is missing: a client can tell "not on this server" from "no such
//! path". The code is the same whether a key is missing or this version has no use for it yet: what a client can do about it
//! is the same, nothing. What an operator can do stands in the text.

use actix_web::{HttpResponse, web};
use kronos_protocol::{error::ErrorCode, ids::UserId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, delete, get, post, put},
    error::ApiError,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    let mut endpoints = vec![
        get(&["/api/v1/composio/health"], health)
            .named("composio_health", Tag::Composio, "Whether Composio is configured")
            .returns::<ComposioConfigured>(200, "Whether it is", example),
        // What Composio calls carries a signature instead of a token.
        post(&["/api/v1/composio/webhook"], webhook)
            .named("composio_webhook", Tag::Composio, "Take an event of Composio")
            .public()
            .unbuilt()
            .fails(&[ErrorCode::NotConfigured]),
    ];
    endpoints.extend(connections().into_iter().chain(toolkits()));
    endpoints
}

fn tool(endpoint: Endpoint, id: &'static str, summary: &'static str) -> Endpoint {
    missing(endpoint.named(id, Tag::Composio, summary))
}

fn missing(endpoint: Endpoint) -> Endpoint {
    endpoint
        .about("Not part of this version: it says which setting is missing.")
        .unbuilt()
        .fails(&[ErrorCode::NotConfigured])
}

fn connections() -> Vec<Endpoint> {
    const ACCOUNT: &str = "Id of the connected account.";
    vec![
        tool(
            post(&["/api/v1/composio/connections/initiate"], tools),
            "composio_initiate",
            "Begin to connect an account",
        ),
        tool(
            post(&["/api/v1/composio/connections/initiate-enhanced"], tools),
            "composio_initiate_enhanced",
            "Begin to connect an account of an app",
        ),
        tool(
            get(&["/api/v1/composio/connections/account/{account_id}"], tools),
            "composio_account",
            "Show a connected account",
        )
        .path::<UserId>("account_id", ACCOUNT),
        tool(
            post(&["/api/v1/composio/connections/{account_id}/enable"], tools),
            "composio_enable",
            "Enable a connected account",
        )
        .path::<UserId>("account_id", ACCOUNT),
        tool(
            post(&["/api/v1/composio/connections/{account_id}/disable"], tools),
            "composio_disable",
            "Disable a connected account",
        )
        .path::<UserId>("account_id", ACCOUNT),
        tool(
            post(&["/api/v1/composio/connections/{account_id}/refresh"], tools),
            "composio_refresh",
            "Refresh a connected account",
        )
        .path::<UserId>("account_id", ACCOUNT),
        tool(
            get(&["/api/v1/composio/connections/{id}"], tools),
            "composio_connections",
            "List a user's connected accounts",
        )
        .path::<UserId>("id", "Id of the user."),
        tool(
            delete(&["/api/v1/composio/connections/{id}"], tools),
            "composio_disconnect",
            "Delete a connected account",
        )
        .path::<UserId>("id", ACCOUNT),
    ]
}

fn toolkits() -> Vec<Endpoint> {
    const CONFIG: &str = "Id of the auth config.";
    vec![
        tool(
            post(&["/api/v1/composio/tools/execute"], tools),
            "composio_execute",
            "Call a tool",
        ),
        tool(
            get(&["/api/v1/composio/auth-configs"], tools),
            "composio_auth_configs",
            "List auth configs",
        ),
        tool(
            post(&["/api/v1/composio/auth-configs"], tools),
            "composio_auth_config_create",
            "Make an auth config",
        ),
        tool(
            get(&["/api/v1/composio/auth-configs/{id}"], tools),
            "composio_auth_config",
            "Show an auth config",
        )
        .path::<UserId>("id", CONFIG),
        tool(
            put(&["/api/v1/composio/auth-configs/{id}"], tools),
            "composio_auth_config_update",
            "Change an auth config",
        )
        .path::<UserId>("id", CONFIG),
        tool(
            delete(&["/api/v1/composio/auth-configs/{id}"], tools),
            "composio_auth_config_delete",
            "Delete an auth config",
        )
        .path::<UserId>("id", CONFIG),
        tool(
            get(&["/api/v1/composio/toolkits"], tools),
            "composio_toolkits",
            "List toolkits",
        ),
        tool(
            get(&["/api/v1/composio/toolkits/{slug}/actions"], tools),
            "composio_actions",
            "List the tools of a toolkit",
        )
        .path::<UserId>("slug", "Name of the toolkit."),
    ]
}

/// What `GET /composio/health` says.
#[derive(Debug, Serialize, JsonSchema)]
struct ComposioConfigured {
    /// There is a key.
    configured: bool,
    /// For people.
    message: &'static str,
}

fn example() -> Value {
    json!(ComposioConfigured {
        configured: false,
        message: NO_KEY,
    })
}

const NO_KEY: &str = "Composio is not configured: COMPOSIO_API_KEY is not set";
const NO_TOOLS: &str = "Composio is configured, but this version of the server calls no tools yet";

fn message(state: &EdgeState) -> &'static str {
    if state.health.composio_configured() {
        NO_TOOLS
    } else {
        NO_KEY
    }
}

async fn health(state: web::Data<EdgeState>, _caller: Caller) -> HttpResponse {
    let (configured, message) = (state.health.composio_configured(), message(&state));
    std::future::ready(HttpResponse::Ok().json(ComposioConfigured { configured, message })).await
}

async fn tools(state: web::Data<EdgeState>, _caller: Caller) -> Result<HttpResponse, ApiError> {
    webhook(state).await
}

async fn webhook(state: web::Data<EdgeState>) -> Result<HttpResponse, ApiError> {
    std::future::ready(Err(ApiError::not_configured(message(&state), "COMPOSIO_API_KEY"))).await
}
