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

use actix_web::{
    App, HttpServer,
    middleware::{Compress, from_fn},
    rt::net::TcpStream,
    web,
};
use futures_util::future::BoxFuture;
use kronos_actors::{
    clock::Clock,
    connection::{self, ConnectionDeps, metrics::ConnectionMetrics},
    principal::{AuthError, Principal},
    store::StoreError,
};
use kronos_protocol::server::ServerInfo;

use crate::{
    config::Config,
    edge::{
        EdgeState, Readiness,
        accounts::{Accounts, AccountsError},
        headers,
        ws::{self, TicketTaker, WsState},
    },
    wiring::{Wiring, WiringError},
};

pub mod chat;
pub mod cli;
pub mod config;
pub mod edge;
mod shutdown;
pub mod telemetry;
mod wiring;

pub use shutdown::Stop;

/// How often expired tokens and logins are deleted.
const SWEEP: Duration = Duration::from_secs(600);

/// Time for which a closed connection may still take what was written to it.
const DISCONNECT: Duration = Duration::from_secs(1);

/// Seconds that requests get to end once the server stops; sockets are gone by then.
const STOP_SECONDS: u64 = 1;

/// Connections of a worker beyond its websockets: requests, probes.
const SPARE_CONNECTIONS: usize = 1024;

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
        telemetry::recorder();
        let wiring = Wiring::start(&mut config, &clock)
            .await
            .map_err(|error| start_error(&config, error))?;
        let state = Self::state(&config, clock, wiring).await?;
        let readiness = Arc::clone(&state.readiness);
        let sockets = web::Data::new(sockets(&config, &state));
        let workers = workers(&config);
        let (http, addr) = listen(&config, workers, state.clone(), sockets)?;
        Ok(Self {
            http,
            addr,
            state,
            readiness,
            workers,
            drain_deadline: config.server.drain_deadline,
        })
    }

    async fn state(config: &Config, clock: Clock, wiring: Wiring) -> Result<web::Data<EdgeState>, StartError> {
        let connections = wiring.connections.clone();
        let on_revoked = Box::new(move |token: &str| {
            connections.close_token(token);
        });
        let accounts = Accounts::start(config.auth.clone(), clock.clone(), wiring.store.clone(), on_revoked).await;
        let accounts = accounts.map_err(|error| match error {
            AccountsError::Store(cause) => start_error(config, cause.into()),
            AccountsError::Hash(_) => StartError::Other(error.to_string()),
        })?;
        Ok(web::Data::new(EdgeState {
            clock,
            accounts,
            wiring,
            readiness: Arc::default(),
            origins: headers::Origins::new(&config.server.allowed_hosts),
            body_bytes: config.server.body_bytes,
            message_chars: config.session.message_chars,
            hsts: config.server.environment == config::Environment::Production,
            environment: config.server.environment,
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
            ..
        } = self;
        let handle = http.handle();
        let housekeeping = actix_web::rt::spawn(housekeep(state.clone()));
        let mut serving = std::pin::pin!(http);
        let recovering = actix_web::rt::spawn({
            let (state, readiness) = (state.clone(), Arc::clone(&readiness));
            async move {
                state.wiring.directory.joined(workers).await;
                readiness.ready();
                state.wiring.recover(workers).await;
            }
        });
        let ended = tokio::select! {
            result = &mut serving => Some(result),
            () = stop.signalled(1) => None,
        };
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
        recovering.abort();
        result
    }
}

fn start_error(config: &Config, error: WiringError) -> StartError {
    match error {
        WiringError::Store(cause) => StartError::Store {
            url: config.store_url(),
            cause,
        },
        WiringError::Simulator(_) | WiringError::Gemini(_) => StartError::Other(error.to_string()),
    }
}

fn workers(config: &Config) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if config.server.workers == 0 {
        cores
    } else {
        config.server.workers
    }
}

/// Takes tickets from the accounts.
struct Tickets(Accounts);

impl TicketTaker for Tickets {
    fn take(&self, ticket: &str) -> BoxFuture<'static, Result<Principal, AuthError>> {
        Box::pin(std::future::ready(self.0.redeem(ticket).ok_or(AuthError::Invalid)))
    }
}

fn sockets(config: &Config, state: &web::Data<EdgeState>) -> WsState {
    let simulated = config.gemini.simulated;
    let deps = ConnectionDeps {
        clock: state.clock.clone(),
        config: config.connection.clone(),
        limits: connection::limits(&config.connection, &config.session),
        server: ServerInfo {
            name: "kronos".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            simulated,
        },
        authenticator: Arc::new(state.accounts.clone()),
        directory: state.wiring.directory.clone(),
        metrics: ConnectionMetrics::new(),
    };
    let (origins, accounts) = (state.clone(), state.accounts.clone());
    WsState {
        deps: Arc::new(deps),
        connections: state.wiring.connections.clone(),
        tickets: Arc::new(Tickets(state.accounts.clone())),
        guests: Arc::new(move |user| accounts.guest(Some(user))),
        origins: Arc::new(move |origin, host| origins.origins.allow(origin, host)),
    }
}

fn listen(
    config: &Config,
    workers: usize,
    state: web::Data<EdgeState>,
    sockets: web::Data<WsState>,
) -> Result<(actix_web::dev::Server, SocketAddr), StartError> {
    let server = &config.server;
    let address = (server.host.trim_start_matches('[').trim_end_matches(']'), server.port);
    let failed = |cause| StartError::Listen {
        address: format!("{}:{}", server.host, server.port),
        cause,
    };
    let connection = config.connection.clone();
    let http = HttpServer::new(move || {
        state.wiring.join();
        App::new()
            .app_data(state.clone())
            .app_data(web::Data::new(state.wiring.directory.clone()))
            .app_data(sockets.clone())
            .configure(edge::routes)
            .wrap(from_fn(headers::cors))
            .wrap(from_fn(headers::keep_small))
            .wrap(Compress::default())
            .wrap(from_fn(edge::request::observe))
    })
    .workers(workers)
    .backlog(server.backlog)
    .max_connections(config.connection.max_connections + SPARE_CONNECTIONS)
    .keep_alive(server.keep_alive)
    .client_request_timeout(server.request_timeout)
    .client_disconnect_timeout(DISCONNECT)
    .tcp_nodelay(true)
    .on_connect(move |stream, _| {
        if let Some(stream) = stream.downcast_ref::<TcpStream>()
            && let Err(error) = ws::tune_socket(stream, &connection)
        {
            tracing::debug!(%error, "a socket took no options");
        }
    })
    .shutdown_timeout(STOP_SECONDS)
    .disable_signals()
    .bind(address)
    .map_err(failed)?;
    let addr = http
        .addrs()
        .first()
        .copied()
        .ok_or_else(|| failed(io::ErrorKind::AddrNotAvailable.into()))?;
    Ok((http.run(), addr))
}

async fn housekeep(state: web::Data<EdgeState>) {
    let (mut upkeep, mut sweep) = (tokio::time::interval(telemetry::UPKEEP), tokio::time::interval(SWEEP));
    loop {
        tokio::select! {
            _ = upkeep.tick() => {
                if let Some(recorder) = telemetry::recorder() {
                    // Takes long only when nobody scrapes; on a blocking thread it disturbs no socket.
                    drop(web::block(|| recorder.run_upkeep()).await);
                }
            }
            _ = sweep.tick() => state.accounts.sweep().await,
        }
    }
}
