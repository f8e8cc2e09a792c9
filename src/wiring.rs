//! THE seam between the edge and the domain: where the store, the model's service and the directories are made.
//!
//! Everything that the edge knows about how the domain is started and stopped is in this file.

use std::{future::Future, io, sync::Arc, time::Duration};

use kronos_actors::{
    clock::Clock,
    config::StoreBackend,
    connection::registry::ConnectionsRef,
    directory::DirectoryRef,
    gemini::GeminiShared,
    store::{
        StoreError,
        service::{self, StoreRef, StoreService},
    },
};
use kronos_sim::{GeminiSim, SimConfig, SimHandle};
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::config::Config;

/// The key that the simulator is asked with: it wants one, any will do.
const SIMULATOR_KEY: &str = "simulated";

/// Everything behind the edge.
pub(crate) struct Wiring {
    /// The store.
    pub(crate) store: StoreRef,
    /// The open websockets.
    pub(crate) connections: ConnectionsRef,
    /// Finds sessions.
    pub(crate) directory: DirectoryRef,
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
    /// The model's settings make no sense.
    #[error("the model's service cannot be started: {0}")]
    Gemini(String),
}

impl Wiring {
    /// Opens the store and starts the services. With a simulated model, `config.gemini` points at it afterwards.
    pub(crate) async fn start(config: &mut Config, clock: &Clock) -> Result<Self, WiringError> {
        let simulator = if config.simulator.start {
            Some(start_simulator(config)?)
        } else {
            None
        };
        let store = open_store(config, clock).await?;
        let gemini = GeminiShared::new(config.gemini.clone(), clock.clone())
            .map_err(|error| WiringError::Gemini(error.to_string()))?;
        let directory = DirectoryRef::new(
            config.session.clone(),
            store.clone(),
            Arc::clone(&gemini),
            clock.clone(),
        );
        let connections = ConnectionsRef::new(&config.connection);
        Ok(Self {
            store,
            connections,
            directory,
            gemini,
            _simulator: simulator,
        })
    }

    /// Makes the calling worker's thread a core: sessions of its connections live there.
    pub(crate) fn join(&self) {
        self.directory.join();
    }

    /// Waits until every worker has joined, then takes up what a crash or a drain left unfinished.
    pub(crate) async fn recover(&self, workers: usize) {
        self.directory.joined(workers).await;
        match self.directory.recover().await {
            Ok(0) => {}
            Ok(sessions) => tracing::info!(sessions, "took up unfinished conversations"),
            Err(error) => tracing::error!(%error, "unfinished conversations cannot be found"),
        }
    }

    /// Returns the model's state as `/health` shows it.
    pub(crate) fn gemini_health(&self) -> Value {
        json!(self.gemini.health())
    }

    /// Returns how many sessions are in memory.
    pub(crate) fn session_count(&self) -> usize {
        self.directory.live()
    }

    /// Lets runs finish, at most for `limit` and until `hurry`; what still runs then is closed as interrupted.
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

async fn open_store(config: &Config, clock: &Clock) -> Result<StoreRef, StoreError> {
    let store = config.store.clone();
    // Reading what a crash left behind may take a moment.
    let opened = tokio::task::spawn_blocking(move || service::open(&store)).await;
    let opened = opened.map_err(|error| StoreError::Io(error.to_string()))??;
    StoreService::start(opened, &config.store, clock.clone())
}

/// Opens the store for a command that only reads; what does not exist is not made.
pub(crate) async fn open_existing(config: &Config) -> anyhow::Result<StoreRef> {
    if let StoreBackend::Sled(path) = &config.store.backend
        && !path.exists()
    {
        anyhow::bail!("{} does not exist", path.display());
    }
    Ok(open_store(config, &Clock::default()).await?)
}
