//! The routes of what is not built into this version: the agent that uses tools.
//!
//! They are there, want a token like the others, and say what is missing: a client can tell "not on this server" from "no such
//! path". The code is the same whether a key is missing or this version has no use for it yet: what a client can do about it
//! is the same, nothing. What an operator can do stands in the text.

use super::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, get, post},
    error::ApiError,
};
use actix_web::{HttpResponse, web};
use kronos_protocol::{
    error::ErrorCode,
    ids::{RunId, UserId},
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    agents()
}

fn run(endpoint: Endpoint, id: &'static str, summary: &'static str) -> Endpoint {
    missing(endpoint.named(id, Tag::Agent, summary))
}

fn missing(endpoint: Endpoint) -> Endpoint {
    endpoint
        .about("Not part of this version: it says which setting is missing.")
        .unbuilt()
        .fails(&[ErrorCode::NotConfigured])
}

fn agents() -> Vec<Endpoint> {
    const RUN: &str = "Id of the run.";
    vec![
        run(
            post(&["/api/v1/agent/invoke"], agent),
            "agent_invoke",
            "Run the agent to its end",
        ),
        run(
            post(&["/api/v1/agent/stream"], agent),
            "agent_stream",
            "Run the agent and watch",
        ),
        run(
            post(&["/api/v1/agent/analyze-intent"], agent),
            "agent_analyze_intent",
            "Find out what a text wants",
        ),
        run(
            post(&["/api/v1/agent/ag-ui"], agent),
            "agent_ag_ui",
            "Run the agent for an AG-UI client",
        ),
        run(
            get(&["/api/v1/agent/capabilities"], agent),
            "agent_capabilities",
            "What the agent can do",
        ),
        run(
            get(&["/api/v1/agent/runs/{run_id}"], agent),
            "agent_run",
            "Show a run of the agent",
        )
        .path::<RunId>("run_id", RUN),
        run(
            post(&["/api/v1/agent/runs/{run_id}/cancel"], agent),
            "agent_cancel",
            "Cancel a run of the agent",
        )
        .path::<RunId>("run_id", RUN),
        run(
            post(&["/api/v1/agent/runs/{run_id}/approvals/{tool_call_id}"], agent),
            "agent_approve",
            "Approve or reject a call of a tool",
        )
        .path::<RunId>("run_id", RUN)
        .path::<UserId>("tool_call_id", "Id of the call."),
    ]
}

async fn agent(state: web::Data<EdgeState>, _caller: Caller) -> Result<HttpResponse, ApiError> {
    let message = if state.wiring.gemini_health().configured {
        "The agent is not part of this version of the server"
    } else {
        "The agent is not configured: GEMINI_API_KEY is not set"
    };
    std::future::ready(Err(ApiError::not_configured(message, "GEMINI_API_KEY"))).await
}
