//! The HTTP surface: the whole route table, and what its handlers share.
//!
//! No conversation rule and no upstream call belongs under here: a handler reads a request, asks the domain, and writes
//! the answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use actix_web::{
    HttpResponse,
    web::{self, ServiceConfig},
};
use kronos_actors::clock::{Clock, Millis};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use self::{
    accounts::Accounts, docs::asyncapi::AsyncApi, endpoint::Endpoint, error::ApiError, headers::Origins,
    health::Health, limits::Limits, openapi::OpenApi, ws::WsState,
};
use crate::{
    config::{AuthMode, Config, Environment, Network},
    wiring::Wiring,
};

pub mod accounts;
mod admin;
mod agent;
mod analyze;
mod auth;
mod body;
pub(crate) mod chat;
pub(crate) mod composio;
mod compress;
mod docs;
pub(crate) mod endpoint;
pub mod error;
pub(crate) mod headers;
pub(crate) mod health;
mod input;
pub(crate) mod limits;
mod memories;
pub(crate) mod openapi;
mod peer;
pub(crate) mod request;
mod socket;
pub(crate) mod stream;
mod users;
pub mod ws;

/// What handlers share; one per process.
pub struct EdgeState {
    /// Time.
    pub(crate) clock: Clock,
    /// Users and tokens.
    pub(crate) accounts: Accounts,
    /// Everything behind the edge.
    pub(crate) wiring: Wiring,
    /// Whether requests should come here.
    pub(crate) readiness: Arc<Readiness>,
    /// Origins of browsers that may call.
    pub(crate) origins: Origins,
    /// Proxies whose word counts.
    pub(crate) trusted_proxies: Vec<Network>,
    /// How many requests one may make.
    pub(crate) limits: Limits,
    /// What is known of the services behind.
    pub(crate) health: Arc<Health>,
    /// Time in which a body must have come.
    pub(crate) body_timeout: Duration,
    /// Bounds of requests.
    pub(crate) bounds: input::Bounds,
    /// Where browsers may be sent back to.
    pub(crate) redirects: composio::Redirects,
    /// Rules of answers that go on.
    pub(crate) streams: chat::StreamRules,
    /// What the agent is, and who follows its runs.
    pub(crate) agent: agent::Agent,
    /// What the server tells about itself.
    pub(crate) openapi: OpenApi,
    /// What the websocket speaks.
    pub(crate) asyncapi: AsyncApi,
    /// Send `Strict-Transport-Security`.
    pub(crate) hsts: bool,
    /// What the server is run as.
    pub(crate) environment: Environment,
    /// Time in which what operators ask for must answer.
    pub(crate) admin_timeout: Duration,
    /// Ends the process when an operator wants it.
    pub(crate) departure: admin::node::Departure,
}

/// Every endpoint of the server.
pub(crate) fn endpoints() -> Vec<Endpoint> {
    [
        openapi::endpoints(),
        docs::endpoints(),
        health::endpoints(),
        auth::endpoints(),
        users::endpoints(),
        memories::endpoints(),
        analyze::endpoints(),
        chat::endpoints(),
        agent::endpoints(),
        composio::endpoints(),
        socket::endpoints(),
        admin::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The route table.
pub(crate) fn routes(app: &mut ServiceConfig) {
    endpoint::register(app, endpoints());
    app.default_service(web::to(not_found));
}

async fn not_found(request: actix_web::HttpRequest) -> Result<HttpResponse, ApiError> {
    Err(std::future::ready(ApiError::not_found("Path", request.path())).await)
}

/// Whether requests should come here: starting, ready, draining.
#[derive(Debug, Default)]
pub struct Readiness(AtomicU8);

impl Readiness {
    const READY: u8 = 1;
    const DRAINING: u8 = 2;

    /// The server answers.
    pub(crate) fn ready(&self) {
        self.0.store(Self::READY, Ordering::Release);
    }

    /// The server is going away.
    pub(crate) fn draining(&self) {
        self.0.store(Self::DRAINING, Ordering::Release);
    }

    /// Why requests should not come here, if so.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self.0.load(Ordering::Acquire) {
            Self::READY => None,
            Self::DRAINING => Some("draining"),
            _ => Some("starting"),
        }
    }
}

/// Writes a stored time as RFC 3339 in UTC.
pub(crate) fn rfc3339(ms: Millis) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000)
        .ok()
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| "1970-01-01T00:00:00Z".to_owned())
}

/// Returns the bounds of requests.
pub(crate) fn bounds(config: &Config) -> input::Bounds {
    input::Bounds::of(config)
}

/// Writes the OpenAPI document of a server with this configuration.
pub(crate) fn openapi_document(config: &Config) -> serde_json::Value {
    let about = openapi::About {
        bounds: bounds(config),
        takes_guests: config.auth.mode == AuthMode::Development,
    };
    openapi::document(&endpoints(), about)
}

/// Returns what the agent's routes know.
pub(crate) fn agent(config: &Config) -> agent::Agent {
    agent::Agent::of(config)
}

/// Returns what lets an operator end the process.
pub(crate) fn departure() -> admin::node::Departure {
    admin::node::Departure::default()
}

/// Returns the AsyncAPI document.
pub(crate) fn asyncapi(config: &Config) -> AsyncApi {
    AsyncApi::new(config)
}

/// Returns what the upgrade of websockets needs.
pub(crate) fn sockets(config: &Config, state: &web::Data<EdgeState>) -> web::Data<WsState> {
    let accounts = Arc::new(state.accounts.clone());
    let (guests, origins) = (accounts.clone(), state.origins.clone());
    web::Data::new(WsState {
        deps: state.wiring.connection_deps(config, &state.clock, accounts.clone()),
        connections: state.wiring.connections.clone(),
        tickets: accounts,
        guests: Arc::new(move |user| guests.guest(Some(user))),
        origins: Arc::new(move |origin, host| origins.allow(origin, host)),
    })
}
