//! The seam between the edge and the domain: where the store, the model's service and the directories are made.
//!
//! Everything that the edge knows about how the domain is started and stopped is in this file.

use std::{future::Future, io, sync::Arc, time::Duration};

use kronos_actors::{
    clock::Clock,
    config::{RetentionConfig, StoreBackend},
    connection::{self, ConnectionDeps, metrics::ConnectionMetrics, registry::ConnectionsRef},
    directory::DirectoryRef,
    gemini::{GeminiConfigError, GeminiHealth, GeminiProbe, GeminiShared},
    principal::Authenticator,
    retention,
    store::{
        StoreError,
        service::{self, StoreRef, StoreService},
    },
    tools::ToolsRef,
};
use kronos_protocol::server::ServerInfo;
use kronos_sim::{GeminiSim, SimConfig, SimHandle};
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
    gemini: Arc<GeminiShared>,
    /// Ends with this.
    _simulator: Option<SimHandle>,
}

/// Why the domain cannot start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WiringError {
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The simulated model cannot be started.
    #[error("the simulated model cannot be started: {0}")]
    Simulator(io::Error),
    /// With these settings no request could be made.
    #[error(transparent)]
    Gemini(#[from] GeminiConfigError),
}

impl Wiring {
    /// Opens the store and starts the services. With a simulated model, `config.gemini` points at it afterwards.
    pub(crate) async fn start(config: &mut Config, clock: &Clock) -> Result<Self, WiringError> {
        let simulator = if config.simulator.start {
            Some(start_simulator(config)?)
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
        let connections = ConnectionsRef::new(&config.connection);
        Ok(Self {
            store,
            connections,
            directory,
            tools,
            gemini,
            _simulator: simulator,
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
    let simulator = GeminiSim::start(pace).map_err(WiringError::Simulator)?;
    config.gemini.base_url = simulator.url();
    config.gemini.api_key = Some(SecretString::from(SIMULATOR_KEY));
    config.gemini.simulated = true;
    Ok(simulator)
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
