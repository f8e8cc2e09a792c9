//! The seam between the edge and the domain: where the store, the model's service and the directories are made.
//!
//! Everything that the edge knows about how the domain is started and stopped is in this file.

use std::{future::Future, io, sync::Arc, time::Duration};

use kronos_actors::{
    clock::Clock,
    composio::{Awake, ComposioConfigError, ComposioDeps, ComposioRef},
    config::{RetentionConfig, StoreBackend},
    connection::{self, ConnectionDeps, metrics::ConnectionMetrics, registry::ConnectionsRef},
    directory::DirectoryRef,
    gemini::{GeminiConfigError, GeminiHealth, GeminiProbe, GeminiShared},
    principal::{Authenticator, Principal},
    retention,
    session::{message::SessionCommand, reader},
    store::{
        StoreError,
        service::{self, StoreRef, StoreService},
    },
    tools::ToolsRef,
};
use kronos_protocol::{
    error::ErrorCode,
    ids::{SessionId, UserId},
    server::ServerInfo,
};
use kronos_sim::{ComposioHandle, ComposioSim, ComposioSimConfig, GeminiSim, SimConfig, SimHandle};
use secrecy::SecretString;

use crate::config::Config;

/// The key that the simulator is asked with: it wants one, any will do.
const SIMULATOR_KEY: &str = "simulated";

/// Everything behind the edge.
pub(crate) struct Wiring {
    /// The store.
    pub(crate) store: StoreRef,
    /// The open websockets.
    pub(crate) connections: ConnectionsRef,
    /// The sessions.
    pub(crate) directory: DirectoryRef,
    /// What runs may work with.
    pub(crate) tools: ToolsRef,
    /// Tools of other services.
    pub(crate) composio: ComposioRef,
    gemini: Arc<GeminiShared>,
    /// End with this.
    _simulators: (Option<SimHandle>, Option<ComposioHandle>),
}

/// Why the domain cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WiringError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A simulator cannot be started.
    #[error("the simulated {0} cannot be started: {1}")]
    Simulator(&'static str, io::Error),
    /// With these settings no request could be made.
    #[error(transparent)]
    Gemini(#[from] GeminiConfigError),
    /// The same of Composio.
    #[error(transparent)]
    Composio(#[from] ComposioConfigError),
}

impl Wiring {
    /// Opens the store and starts the services. With simulators, `config.gemini` and `config.composio` point at them
    /// afterwards.
    pub(crate) async fn start(config: &mut Config, clock: &Clock) -> Result<Self, WiringError> {
        let simulator = if config.simulator.start {
            Some(start_simulator(config)?)
        } else {
            None
        };
        let composio_simulator = if config.simulator.start_composio {
            Some(start_composio(config, clock)?)
        } else {
            None
        };
        let gemini = GeminiShared::new(config.gemini.clone(), clock.clone())?;
        let store = open_store(config, clock).await?;
        let tools = ToolsRef::new(store.clone(), clock.clone(), Arc::new(config.tools.clone()));
        let directory = DirectoryRef::new(
            config.session.clone(),
            store.clone(),
            Arc::clone(&gemini),
            tools.clone(),
            clock.clone(),
        );
        directory.load_parked().await?;
        directory.load_questions().await?;
        let connections = ConnectionsRef::new(&config.connection);
        let composio = ComposioRef::start(ComposioDeps {
            config: config.composio.clone(),
            clock: clock.clone(),
            store: store.clone(),
            directory: directory.clone(),
            awake: awake(&directory),
        })
        .await?;
        tools.set_composio(Some(composio.clone()));
        Ok(Self {
            store,
            connections,
            directory,
            tools,
            composio,
            gemini,
            _simulators: (simulator, composio_simulator),
        })
    }

    /// Returns what websockets share.
    pub(crate) fn connection_deps(
        &self,
        config: &Config,
        clock: &Clock,
        authenticator: Arc<dyn Authenticator>,
    ) -> Arc<ConnectionDeps> {
        Arc::new(ConnectionDeps {
            clock: clock.clone(),
            config: config.connection.clone(),
            limits: connection::limits(&config.connection, &config.session),
            server: ServerInfo {
                name: "kronos".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                simulated: config.gemini.simulated,
            },
            authenticator,
            directory: self.directory.clone(),
            metrics: ConnectionMetrics::new(),
        })
    }

    /// Activates what a crash or a drain left unfinished.
    pub(crate) async fn recover(&self) {
        self.composio.resume().await;
        match self.directory.recover().await {
            Ok(0) => {}
            Ok(sessions) => tracing::info!(sessions, "took up unfinished conversations"),
            Err(error) => tracing::error!(%error, "unfinished conversations cannot be found"),
        }
    }

    /// Deletes what is to be kept no longer, now and then.
    pub(crate) fn retention(&self, config: RetentionConfig, clock: Clock) -> impl Future<Output = ()> + use<> {
        retention::run(config, self.directory.clone(), self.store.clone(), clock)
    }

    /// Shows in the metrics what time alone has changed: before each scrape.
    pub(crate) fn report(&self) {
        self.gemini.report();
        self.composio.report();
    }

    /// Returns the model's state.
    pub(crate) fn gemini_health(&self) -> GeminiHealth {
        self.gemini.health()
    }

    /// Returns what asks the model's service something that costs nothing; `None` where there is nothing to ask.
    pub(crate) fn gemini_probe(&self) -> Option<GeminiProbe> {
        let probe = GeminiProbe::new(&self.gemini);
        let probe = probe.inspect_err(|error| tracing::error!(%error, "no probe of the model's service"));
        probe.ok().flatten()
    }

    /// Returns the time in which an analysis must be done.
    pub(crate) fn analysis_timeout(&self) -> Duration {
        self.gemini.config().analysis_timeout
    }

    /// Lets runs finish, at most for `limit` or until `hurry`; what still runs then is closed as interrupted.
    pub(crate) async fn drain(&self, limit: Duration, hurry: impl Future<Output = ()>) {
        self.directory.drain(limit, hurry).await;
    }

    /// Commits what is pending and closes the store.
    pub(crate) async fn close(&self) {
        // Composio tells feeds, and sessions ask Composio: neither would ever end.
        self.tools.set_composio(None);
        self.store.close().await;
    }
}

fn start_simulator(config: &mut Config) -> Result<SimHandle, WiringError> {
    let pace = SimConfig {
        seed: config.simulator.seed,
        tokens_per_second: config.simulator.tokens_per_second,
        extra_models: vec![config.gemini.model.clone()],
        ..SimConfig::default()
    };
    let simulator = GeminiSim::start(pace).map_err(|error| WiringError::Simulator("model", error))?;
    config.gemini.base_url = simulator.url();
    config.gemini.api_key = Some(SecretString::from(SIMULATOR_KEY));
    config.gemini.simulated = true;
    Ok(simulator)
}

fn start_composio(config: &mut Config, clock: &Clock) -> Result<ComposioHandle, WiringError> {
    // What it made before is gone with its process, but the store remembers the ids: none may come again.
    let world = ComposioSimConfig {
        seed: config.simulator.seed ^ clock.now_ms().unsigned_abs(),
        ..ComposioSimConfig::default()
    };
    let simulator = ComposioSim::start(world).map_err(|error| WiringError::Simulator("Composio", error))?;
    config.composio.base_url = simulator.url();
    config.composio.api_key = Some(SecretString::from(SIMULATOR_KEY));
    config.composio.simulated = true;
    Ok(simulator)
}

/// Returns what tells a session that an account is there: true when the session knows it durably, or is gone.
fn awake(directory: &DirectoryRef) -> Awake {
    let directory = directory.clone();
    Arc::new(move |user: UserId, session: SessionId, toolkit: String| {
        let directory = directory.clone();
        Box::pin(async move {
            let caller = Arc::new(Principal {
                user,
                name: None,
                superuser: false,
                login: None,
                expires_at_ms: None,
            });
            let told = match directory.resolve(&session).await {
                Ok(found) => reader::ask(&found, &caller, SessionCommand::Connected { toolkit }).await,
                Err(error) => Err(error),
            };
            match told {
                Ok(_) => true,
                Err(error) if error.code == ErrorCode::NotFound => true,
                Err(error) => {
                    tracing::warn!(session.id = %session, %error, "a session does not hear of an account");
                    !error.closed && error.after_ms.is_none()
                }
            }
        })
    })
}

/// Opens the store on a blocking thread: after a crash it reads what is left of the write-ahead log.
async fn open_store(config: &Config, clock: &Clock) -> Result<StoreRef, StoreError> {
    let settings = config.store.clone();
    let opened = actix_web::web::block(move || service::open(&settings)).await;
    let store = opened.map_err(|_panicked| StoreError::Io("opening it panicked".to_owned()))??;
    StoreService::start(store, &config.store, clock.clone())
}

/// Opens the store for a command, made when it does not exist.
pub(crate) async fn open(config: &Config) -> anyhow::Result<StoreRef> {
    Ok(open_store(config, &Clock::default()).await?)
}

/// Opens the store for a command; what does not exist is not made.
pub(crate) async fn open_existing(config: &Config) -> anyhow::Result<StoreRef> {
    if let StoreBackend::Sled(path) = &config.store.backend
        && !path.exists()
    {
        anyhow::bail!("{} does not exist", path.display());
    }
    Ok(open_store(config, &Clock::default()).await?)
}
