//! Health and metrics. A request here asks no upstream and no disk: it reads the state that real traffic and a slow probe left.

use std::sync::{Mutex, MutexGuard, PoisonError};

use actix_web::{HttpResponse, http::header, web};
use kronos_actors::{
    clock::Millis, composio::ComposioStatus, gemini::GeminiStatus, metrics as names, upstream::CircuitState,
};
use kronos_protocol::error::ErrorCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::{
    EdgeState,
    endpoint::{Endpoint, Tag, get},
    error::ApiError,
    rfc3339,
};
use crate::telemetry::recorder;

mod examples;
mod probe;

pub(crate) use probe::Prober;

pub(super) fn endpoints() -> Vec<Endpoint> {
    let open = |endpoint: Endpoint, id, summary| endpoint.named(id, Tag::Health, summary).public().uncounted();
    vec![
        open(
            get(&["/health", "/api/v1/health/", "/api/v1/health"], health),
            "health",
            "Whether the server answers",
        )
        .returns::<Alive>(200, "It does", || json!({"status": "healthy"})),
        open(get(&["/health/live"], live), "health_live", "Whether the process lives").returns::<Alive>(
            200,
            "It does",
            || json!({"status": "alive"}),
        ),
        open(
            get(&["/health/ready"], ready),
            "health_ready",
            "Whether requests should come here",
        )
        .about("503 while the server starts, drains, or is without its store; `details.reason` says which.")
        .returns::<Alive>(200, "They should", || json!({"status": "ready"}))
        .fails(&[ErrorCode::ShuttingDown, ErrorCode::Storage]),
        open(
            get(&["/api/v1/health/detailed"], detailed),
            "health_detailed",
            "Everything about the server's health",
        )
        .about(
            "`unhealthy`: the store does not work, nothing can be served. `degraded`: an upstream does not work. Asking costs \
             no upstream anything: it tells what traffic and a slow background probe found.",
        )
        .returns::<DetailedHealth>(200, "The server and its services", examples::detailed),
        open(
            get(&["/api/v1/health/database"], database),
            "health_database",
            "The health of the store",
        )
        .returns::<DatabaseHealth>(200, "The store, whatever its status", examples::database),
        open(
            get(&["/api/v1/health/gemini"], gemini),
            "health_gemini",
            "The health of the model's service",
        )
        .returns::<GeminiHealth>(200, "The service, whatever its status", examples::gemini),
        open(
            get(&["/api/v1/health/composio"], composio),
            "health_composio",
            "The health of Composio",
        )
        .returns::<ComposioHealth>(200, "Composio, whatever its status", examples::composio),
        open(get(&["/metrics"], metrics), "metrics", "Metrics for Prometheus").sends(
            200,
            "Prometheus' text format",
            "text/plain; version=0.0.4; charset=utf-8",
            "# TYPE kronos_connections gauge\nkronos_connections 2\n",
        )
        .fails(&[ErrorCode::NotConfigured]),
    ]
}

/// What probes left.
#[derive(Debug, Default)]
pub(crate) struct Health {
    probed: Mutex<Probed>,
}

/// The last probe of each service that has no other memory.
#[derive(Debug, Clone, Copy, Default)]
struct Probed {
    database: Option<Outcome>,
}

/// How one probe ended.
#[derive(Debug, Clone, Copy)]
struct Outcome {
    at_ms: Millis,
    latency_ms: u64,
    /// What is wrong, in words that are safe to show.
    error: Option<&'static str>,
}

impl Health {
    fn probed(&self) -> MutexGuard<'_, Probed> {
        self.probed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with the store, if anything: it cannot be written, or did not answer the last probe.
    fn store_error(&self, state: &EdgeState) -> Option<&'static str> {
        if state.wiring.store.healthy() {
            self.probed().database.and_then(|outcome| outcome.error)
        } else {
            Some("the store does not take writes")
        }
    }
}

/// One word about a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ServiceStatus {
    /// As far as is known it works.
    Healthy,
    /// It does not.
    Unhealthy,
    /// There is no key for it.
    NotConfigured,
    /// Its answers are simulated.
    Simulated,
}

impl From<GeminiStatus> for ServiceStatus {
    fn from(status: GeminiStatus) -> Self {
        match status {
            GeminiStatus::Healthy => Self::Healthy,
            GeminiStatus::Unhealthy => Self::Unhealthy,
            GeminiStatus::NotConfigured => Self::NotConfigured,
            GeminiStatus::Simulated => Self::Simulated,
        }
    }
}

impl From<ComposioStatus> for ServiceStatus {
    fn from(status: ComposioStatus) -> Self {
        match status {
            ComposioStatus::Healthy => Self::Healthy,
            ComposioStatus::Unhealthy => Self::Unhealthy,
            ComposioStatus::NotConfigured => Self::NotConfigured,
            ComposioStatus::Simulated => Self::Simulated,
        }
    }
}

/// What the circuit breaker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Circuit {
    /// Requests pass.
    Closed,
    /// Requests are refused.
    Open,
    /// One request passes, to find out.
    HalfOpen,
}

impl From<CircuitState> for Circuit {
    fn from(state: CircuitState) -> Self {
        match state {
            CircuitState::Closed => Self::Closed,
            CircuitState::Open => Self::Open,
            CircuitState::HalfOpen => Self::HalfOpen,
        }
    }
}

/// One word about the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum ServerStatus {
    /// Everything works that is configured.
    Healthy,
    /// It serves, but an upstream does not.
    Degraded,
    /// It cannot serve: its store does not work.
    Unhealthy,
}

/// That the process is there.
#[derive(Debug, Serialize, JsonSchema)]
struct Alive {
    status: &'static str,
}

/// The store.
#[derive(Debug, Serialize, JsonSchema)]
struct DatabaseHealth {
    status: ServiceStatus,
    configured: bool,
    /// Time of the last commit, in milliseconds, from traffic or from a probe.
    latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// When it was last probed.
    #[schemars(extend("format" = "date-time"))]
    checked_at: Option<String>,
    commits: u64,
    failed_commits: u64,
    /// Bytes that wait for their commit.
    pending_bytes: usize,
    /// Bytes on the medium.
    size_bytes: Option<u64>,
}

/// The model's service.
#[derive(Debug, Serialize, JsonSchema)]
struct GeminiHealth {
    status: ServiceStatus,
    configured: bool,
    /// Time to the first byte of recent answers, in milliseconds.
    latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    circuit: Circuit,
    #[schemars(extend("format" = "date-time"))]
    last_success: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    last_failure: Option<String>,
    /// The class of the last failure.
    last_failure_code: Option<&'static str>,
    running: usize,
    limit: usize,
    waiting: usize,
    retry_budget: u64,
}

/// Composio.
#[derive(Debug, Serialize, JsonSchema)]
struct ComposioHealth {
    status: ServiceStatus,
    configured: bool,
    /// Time of recent answers that no tool was waited for, in milliseconds.
    latency_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    circuit: Circuit,
    #[schemars(extend("format" = "date-time"))]
    last_success: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    last_failure: Option<String>,
    /// The kind of the last failure.
    last_failure_code: Option<&'static str>,
    running: usize,
    limit: usize,
    waiting: usize,
}

/// All services.
#[derive(Debug, Serialize, JsonSchema)]
struct Services {
    database: DatabaseHealth,
    composio: ComposioHealth,
    gemini: GeminiHealth,
}

/// Everything about the server.
#[derive(Debug, Serialize, JsonSchema)]
struct DetailedHealth {
    status: ServerStatus,
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    version: &'static str,
    environment: &'static str,
    services: Services,
    /// Sessions in memory.
    sessions: usize,
    /// Open websockets.
    connections: usize,
}

/// Answers whether this process serves.
pub(super) async fn health() -> HttpResponse {
    now(&Alive { status: "healthy" }).await
}

pub(super) async fn live() -> HttpResponse {
    now(&Alive { status: "alive" }).await
}

pub(super) async fn ready(state: web::Data<EdgeState>) -> Result<HttpResponse, ApiError> {
    match unready(&state) {
        Some((code, reason)) => {
            let details = json!({"reason": reason, "operation": "ready"});
            Err(ApiError::new(code, "The server is not ready").with_details(details))
        }
        None => Ok(now(&Alive { status: "ready" }).await),
    }
}

/// Why requests should not come here, if so.
fn unready(state: &EdgeState) -> Option<(ErrorCode, &'static str)> {
    let of_store = || state.health.store_error(state).map(|_| (ErrorCode::Storage, "store"));
    let of_server = state.readiness.reason().map(|reason| (ErrorCode::ShuttingDown, reason));
    of_server.or_else(of_store)
}

pub(super) async fn detailed(state: web::Data<EdgeState>) -> HttpResponse {
    let services = Services {
        database: database_state(&state),
        composio: composio_state(&state),
        gemini: gemini_state(&state),
    };
    let upstreams = [services.composio.status, services.gemini.status];
    let status = if services.database.status != ServiceStatus::Healthy {
        ServerStatus::Unhealthy
    } else if upstreams.contains(&ServiceStatus::Unhealthy) {
        ServerStatus::Degraded
    } else {
        ServerStatus::Healthy
    };
    now(&DetailedHealth {
        status,
        timestamp: rfc3339(state.clock.now_ms()),
        version: env!("CARGO_PKG_VERSION"),
        environment: state.environment.as_str(),
        services,
        sessions: state.wiring.directory.live(),
        connections: state.wiring.connections.count(),
    })
    .await
}

pub(super) async fn database(state: web::Data<EdgeState>) -> HttpResponse {
    now(&database_state(&state)).await
}

pub(super) async fn gemini(state: web::Data<EdgeState>) -> HttpResponse {
    now(&gemini_state(&state)).await
}

pub(super) async fn composio(state: web::Data<EdgeState>) -> HttpResponse {
    now(&composio_state(&state)).await
}

fn database_state(state: &EdgeState) -> DatabaseHealth {
    let error = state.health.store_error(state);
    let probed = state.health.probed().database;
    let stats = state.wiring.store.stats();
    let latency = stats
        .latency
        .map(|latency| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX));
    DatabaseHealth {
        status: word(error),
        configured: true,
        latency_ms: latency.or(probed.map(|outcome| outcome.latency_ms)),
        error,
        checked_at: probed.map(|outcome| rfc3339(outcome.at_ms)),
        commits: stats.commits,
        failed_commits: stats.failed,
        pending_bytes: stats.pending_bytes,
        size_bytes: state.wiring.store.size_bytes(),
    }
}

fn gemini_state(state: &EdgeState) -> GeminiHealth {
    let health = state.wiring.gemini_health();
    GeminiHealth {
        status: health.status.into(),
        configured: health.configured,
        latency_ms: health.latency_ms,
        error: health.error,
        circuit: health.circuit.into(),
        last_success: health.last_success_ms.map(rfc3339),
        last_failure: health.last_failure.map(|(at_ms, _)| rfc3339(at_ms)),
        last_failure_code: health.last_failure.map(|(_, code)| code.as_str()),
        running: health.running,
        limit: health.limit,
        waiting: health.waiting,
        retry_budget: health.retry_budget,
    }
}

fn composio_state(state: &EdgeState) -> ComposioHealth {
    let health = state.wiring.composio.health();
    ComposioHealth {
        status: health.status.into(),
        configured: health.configured,
        latency_ms: health.latency_ms,
        error: health.error,
        circuit: health.circuit.into(),
        last_success: health.last_success_ms.map(rfc3339),
        last_failure: health.last_failure.map(|(at_ms, _)| rfc3339(at_ms)),
        last_failure_code: health.last_failure.map(|(_, kind)| kind),
        running: health.running,
        limit: health.limit,
        waiting: health.waiting,
    }
}

fn word(error: Option<&'static str>) -> ServiceStatus {
    match error {
        None => ServiceStatus::Healthy,
        Some(_) => ServiceStatus::Unhealthy,
    }
}

async fn now(body: &impl Serialize) -> HttpResponse {
    std::future::ready(
        HttpResponse::Ok()
            .insert_header((header::CACHE_CONTROL, "no-store"))
            .json(body),
    )
    .await
}

/// The metrics in Prometheus' text format.
pub(super) async fn metrics(state: web::Data<EdgeState>) -> Result<HttpResponse, ApiError> {
    let ready = if unready(&state).is_none() { 1.0 } else { 0.0 };
    ::metrics::gauge!(names::READY).set(ready);
    state.wiring.report();
    // Not on a thread that serves sockets.
    let text = web::block(recorder::render)
        .await
        .map_err(|_canceled| ApiError::internal())?;
    let off = || {
        ApiError::new(ErrorCode::NotConfigured, "Metrics are off")
            .with_details(json!({"config_key": "METRICS_ENABLED"}))
    };
    let text = text.ok_or_else(off)?;
    Ok(HttpResponse::Ok()
        .content_type("text/plain; version=0.0.4; charset=utf-8")
        .body(text))
}
