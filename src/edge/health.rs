//! Health and metrics. Asks no upstream: it reads the state that real traffic left.

use actix_web::{HttpResponse, http::header, web};
use kronos_protocol::error::ErrorCode;
use serde_json::{Value, json};

use super::{EdgeState, error::ApiError, rfc3339};
use crate::telemetry;

/// Answers whether this process serves.
pub(super) async fn health() -> HttpResponse {
    json_now(json!({"status": "healthy"})).await
}

pub(super) async fn live() -> HttpResponse {
    json_now(json!({"status": "alive"})).await
}

pub(super) async fn ready(state: web::Data<EdgeState>) -> Result<HttpResponse, ApiError> {
    let reason = match state.readiness.reason() {
        Some(reason) => Some(reason),
        None if state.wiring.store.healthy() => None,
        None => Some("store"),
    };
    match reason {
        None => Ok(json_now(json!({"status": "ready"})).await),
        Some(reason) => {
            let code = if reason == "store" {
                ErrorCode::Storage
            } else {
                ErrorCode::ShuttingDown
            };
            Err(ApiError::new(code, "The server is not ready").with_details(json!({"reason": reason})))
        }
    }
}

pub(super) async fn detailed(state: web::Data<EdgeState>) -> HttpResponse {
    let (database, gemini, composio) = (
        database_state(&state),
        json!(state.wiring.gemini_health()),
        composio_state(),
    );
    let status = match (database["status"].as_str(), gemini["status"].as_str()) {
        (Some("healthy"), Some("healthy" | "simulated" | "not_configured")) => "healthy",
        (Some("healthy"), _) => "degraded",
        _ => "unhealthy",
    };
    json_now(json!({
        "status": status,
        "timestamp": rfc3339(state.clock.now_ms()),
        "version": env!("CARGO_PKG_VERSION"),
        "environment": state.environment.as_str(),
        "services": {"database": database, "composio": composio, "gemini": gemini},
        "sessions": state.wiring.directory.live(),
        "connections": state.wiring.connections.count(),
    }))
    .await
}

pub(super) async fn database(state: web::Data<EdgeState>) -> HttpResponse {
    json_now(database_state(&state)).await
}

pub(super) async fn gemini(state: web::Data<EdgeState>) -> HttpResponse {
    json_now(json!(state.wiring.gemini_health())).await
}

pub(super) async fn composio() -> HttpResponse {
    json_now(composio_state()).await
}

fn database_state(state: &EdgeState) -> Value {
    let healthy = state.wiring.store.healthy();
    let error = (!healthy).then_some("the store does not take writes");
    let status = if healthy { "healthy" } else { "unhealthy" };
    let stats = state.wiring.store.stats();
    json!({"status": status, "configured": true, "latency_ms": null, "error": error,
        "commits": stats.commits, "failed_commits": stats.failed, "pending_bytes": stats.pending_bytes,
        "size_bytes": state.wiring.store.size_bytes()})
}

fn composio_state() -> Value {
    json!({"status": "not_configured", "configured": false, "latency_ms": null, "error": null})
}

async fn json_now(body: Value) -> HttpResponse {
    std::future::ready(
        HttpResponse::Ok()
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .json(body),
    )
    .await
}

/// The metrics in Prometheus' text format.
pub(super) async fn metrics() -> Result<HttpResponse, ApiError> {
    let handle = telemetry::recorder().ok_or_else(|| ApiError::new(ErrorCode::NotConfigured, "Metrics are off"))?;
    // Rendering takes milliseconds with many series: not on a thread that serves sockets.
    let text = web::block(|| handle.render())
        .await
        .map_err(|_canceled| ApiError::internal())?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(text))
}
