//! THE seam between the edge and the domain: where the store, the model's service and the directories are made.
//!
//! Everything that the edge knows about how the domain is started and stopped is in this file.

use std::{io, time::Duration};

use kronos_actors::{
    clock::Clock,
    config::StoreBackend,
    connection::registry::ConnectionsRef,
    directory::DirectoryRef,
    store::{StoreError, service::StoreRef},
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
    simulated: bool,
    configured: bool,
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
}

impl Wiring {
    /// Opens the store and starts the services. With a simulated model, `config.gemini` points at it afterwards.
    pub(crate) async fn start(config: &mut Config, clock: &Clock) -> Result<Self, WiringError> {
        let simulator = if config.simulator.start { Some(start_simulator(config)?) } else { None };
        let store = open_store(config).await?;
        // SEAM: GeminiShared::new(&config.gemini, clock.clone()) and kronos_actors::system go here.
        let _ = clock;
        Ok(Self {
            store,
            connections: ConnectionsRef::new(&config.connection),
            simulated: config.gemini.simulated,
            configured: config.gemini.api_key.is_some(),
            _simulator: simulator,
        })
    }

    /// Makes the directory of one worker; called on the worker's own thread.
    pub(crate) fn directory(&self) -> DirectoryRef {
        // SEAM: the system's core of this thread.
        DirectoryRef
    }

    /// Returns the model's state as `/health` shows it.
    pub(crate) fn gemini_health(&self) -> Value {
        // SEAM: GeminiShared::health(): status, latency, circuit.
        let status = match (self.simulated, self.configured) {
            (true, _) => "simulated",
            (false, true) => "healthy",
            (false, false) => "not_configured",
        };
        json!({"status": status, "configured": self.configured, "latency_ms": null, "error": null, "circuit": null})
    }

    /// Returns how many sessions are in memory.
    pub(crate) fn session_count(&self) -> usize {
        // SEAM: the system's count.
        0
    }

    /// Lets runs finish, at most for `limit`; what still runs then is closed as interrupted.
    pub(crate) async fn drain(&self, limit: Duration) {
        // SEAM: system.drain(limit).await.
        let _ = limit;
        std::future::ready(()).await;
    }

    /// Commits what is pending and closes the store.
    pub(crate) async fn close(&self) {
        if let Err(error) = self.store.close().await {
            tracing::error!(%error, "store not closed cleanly");
        }
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

async fn open_store(config: &Config) -> Result<StoreRef, StoreError> {
    let _ = config;
    Ok(std::future::ready(StoreRef::stub()).await)
}

/// Opens the store for a command that only reads; what does not exist is not made.
pub(crate) async fn open_existing(config: &Config) -> anyhow::Result<StoreRef> {
    if let StoreBackend::Sled(path) = &config.store.backend
        && !path.exists()
    {
        anyhow::bail!("{} does not exist", path.display());
    }
    Ok(open_store(config).await?)
}
