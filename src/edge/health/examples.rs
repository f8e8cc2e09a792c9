//! What health looks like, for the OpenAPI document.

use serde_json::{Value, json};

const AT: &str = "2026-11-27T10:00:00Z";

pub(super) fn database() -> Value {
    json!({"status": "healthy", "configured": true, "latency_ms": 2, "checked_at": AT, "commits": 812, "failed_commits": 0,
        "pending_bytes": 0, "size_bytes": 1_048_576})
}

pub(super) fn gemini() -> Value {
    json!({"status": "unhealthy", "configured": true, "latency_ms": 480,
        "error": "The AI model is overloaded or cannot be reached at the moment. Please try again.", "circuit": "half_open",
        "last_success": AT, "last_failure": "2026-11-27T10:00:30Z", "last_failure_code": "upstream_unavailable",
        "running": 0, "limit": 256, "waiting": 0, "retry_budget": 20})
}

pub(super) fn composio() -> Value {
    json!({"status": "healthy", "configured": true, "latency_ms": 210, "circuit": "closed", "last_success": AT,
        "last_failure": null, "last_failure_code": null, "running": 0, "limit": 64, "waiting": 0})
}

pub(super) fn detailed() -> Value {
    json!({"status": "degraded", "timestamp": AT, "version": env!("CARGO_PKG_VERSION"), "environment": "production",
        "services": {"database": database(), "composio": composio(), "gemini": gemini()},
        "sessions": 12, "connections": 40})
}
