//! The edge of Kronos: HTTP, websockets, configuration, signals. What a conversation is, is in `kronos-actors`.
//!
//! ```no_run
//! # async fn start() -> Result<(), Box<dyn std::error::Error>> {
//! let server = kronos::Server::bind(kronos::config::Config::default()).await?;
//! println!("http://{}", server.addr());
//! server.run(kronos::Stop::default()).await?;
//! # Ok(())
//! # }
//! ```

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use actix_web::web;
use kronos_actors::{clock::Clock, config::RetentionConfig, store::StoreError};

use crate::{
    config::Config,
    edge::{
        EdgeState, Readiness,
        accounts::{Accounts, AccountsError, Reach},
        headers,
        health::Prober,
        limits::Limits,
    },
    wiring::{Wiring, WiringError},
};

pub mod chat;
pub mod cli;
pub mod config;
pub mod edge;
mod listen;
mod shutdown;
mod telemetry;
mod wiring;

pub use shutdown::Stop;
pub use telemetry::TelemetryError;

/// How often expired tokens and logins are deleted.
const SWEEP: Duration = Duration::from_secs(600);

/// Why a server does not start. One line for an operator.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Host and port.
        address: String,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The store cannot be opened.
    #[error("cannot open the store {url}")]
    Store {
        /// `DATABASE_URL`.
        url: String,
        /// Why.
        #[source]
        cause: StoreError,
    },
    /// Log lines or traces cannot be written.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
    /// Another part cannot be started.
    #[error("cannot start: {0}")]
    Other(String),
}

/// A server whose socket is open: connections wait until it runs.
pub struct Server {
    http: actix_web::dev::Server,
    addr: SocketAddr,
    state: web::Data<EdgeState>,
    readiness: Arc<Readiness>,
    workers: usize,
    drain_deadline: Duration,
    retention: RetentionConfig,
    prober: Option<Prober>,
}

impl Server {
    /// Opens the store, starts the services and binds the listener. Within an actix system.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        Self::bind_with(config, Clock::default()).await
    }

    /// The same with a clock that tests can move.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn bind_with(mut config: Config, clock: Clock) -> Result<Self, StartError> {
        // A second call finds it installed: that is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        telemetry::start(&config)?;
        telemetry::recorder::install(config.metrics.enabled);
        let wiring = Wiring::start(&mut config, &clock)
            .await
            .map_err(|error| start_error(&config, error))?;
        let state = Self::state(&config, clock, wiring).await?;
        let readiness = Arc::clone(&state.readiness);
        let sockets = edge::sockets(&config, &state);
        let (http, addr) = listen::listen(&config, &state, &sockets)?;
        if let Some(url) = edge::composio::callback_url(&config, addr) {
            state.wiring.composio.set_callback(url);
        }
        let (workers, drain_deadline) = (workers(&config), config.server.drain_deadline);
        Ok(Self {
            http,
            addr,
            state,
            readiness,
            workers,
            drain_deadline,
            prober: Prober::new(&config),
            retention: config.retention,
        })
    }

    async fn state(config: &Config, clock: Clock, wiring: Wiring) -> Result<web::Data<EdgeState>, StartError> {
        let reach = Reach {
            connections: wiring.connections.clone(),
            directory: wiring.directory.clone(),
            composio: wiring.composio.clone(),
        };
        let accounts = Accounts::start(config.auth.clone(), clock.clone(), wiring.store.clone(), reach).await;
        let accounts = accounts.map_err(|error| match error {
            AccountsError::Store(cause) => start_error(config, cause.into()),
            AccountsError::Hash(_) | AccountsError::Client(_) => StartError::Other(error.to_string()),
        })?;
        let limits = Limits::new(&config.server, clock.clone());
        Ok(web::Data::new(EdgeState {
            clock,
            accounts,
            wiring,
            readiness: Arc::default(),
            origins: headers::Origins::new(&config.server.allowed_hosts),
            trusted_proxies: config.server.trusted_proxies.clone(),
            limits,
            health: Arc::default(),
            redirects: edge::composio::Redirects::of(config),
            body_timeout: config.server.body_timeout,
            bounds: edge::bounds(config),
            streams: edge::chat::StreamRules::of(config),
            agent: edge::agent(config),
            openapi: edge::openapi_document(config).into(),
            asyncapi: edge::asyncapi(config),
            hsts: config.server.environment == config::Environment::Production,
            environment: config.server.environment,
            admin_timeout: config.server.admin_timeout,
            departure: edge::departure(),
        }))
    }

    /// Returns where it listens.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until `stop` is signalled, then drains: see [`Stop`].
    ///
    /// # Errors
    /// The listener failed while it ran.
    pub async fn run(self, stop: Stop) -> io::Result<()> {
        let Self {
            http,
            state,
            readiness,
            workers,
            drain_deadline,
            retention,
            prober,
            ..
        } = self;
        let handle = http.handle();
        state.departure.by(&stop);
        let housekeeping = actix_web::rt::spawn(housekeep(state.clone()));
        let retention = state.wiring.retention(retention, state.clock.clone());
        let retention = actix_web::rt::spawn(retention);
        let probing = prober.map(|prober| actix_web::rt::spawn(prober.run(state.clone())));
        let starting = actix_web::rt::spawn(get_ready(state.clone(), Arc::clone(&readiness), workers));
        let mut serving = std::pin::pin!(http);
        let ended = tokio::select! {
            result = &mut serving => Some(result),
            () = stop.signalled(1) => None,
        };
        starting.abort();
        retention.abort();
        if let Some(probing) = probing {
            probing.abort();
        }
        let result = match ended {
            Some(result) => {
                state.wiring.close().await;
                result
            }
            None => {
                let drain = shutdown::drain(&state.wiring, &readiness, &handle, &stop, drain_deadline);
                tokio::join!(serving, drain).0
            }
        };
        housekeeping.abort();
        result
    }
}

fn start_error(config: &Config, error: WiringError) -> StartError {
    match error {
        WiringError::Store(cause) => StartError::Store {
            url: config.store_url(),
            cause,
        },
        WiringError::Simulator(..) | WiringError::Gemini(_) | WiringError::Composio(_) => {
            StartError::Other(error.to_string())
        }
    }
}

pub(crate) fn workers(config: &Config) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if config.server.workers == 0 {
        cores()
    } else {
        config.server.workers
    }
}

/// Says that the server is ready once every worker holds sessions, then takes up what was left unfinished.
async fn get_ready(state: web::Data<EdgeState>, readiness: Arc<Readiness>, cores: usize) {
    state.wiring.directory.joined(cores).await;
    readiness.ready();
    tokio::join!(state.accounts.resume_removals(), state.wiring.recover());
}

async fn housekeep(state: web::Data<EdgeState>) {
    let (mut upkeep, mut sweep) = (
        tokio::time::interval(telemetry::recorder::UPKEEP),
        tokio::time::interval(SWEEP),
    );
    loop {
        tokio::select! {
            _ = upkeep.tick() => {
                // Takes long only when nobody scrapes; on a blocking thread it disturbs no socket.
                drop(web::block(telemetry::recorder::upkeep).await);
            }
            _ = sweep.tick() => state.accounts.sweep().await,
        }
    }
}
