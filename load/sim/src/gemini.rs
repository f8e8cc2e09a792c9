//! The handle of the Gemini simulator.

use std::io;
use std::sync::Arc;

use actix_web::web;

use crate::config::SimConfig;
use crate::record::RecordedRequest;
use crate::routes;
use crate::script::ScriptedReply;
use crate::server::Running;
use crate::shared::Shared;

/// The Gemini simulator.
#[derive(Debug, Clone, Copy)]
pub struct GeminiSim;

impl GeminiSim {
    /// Starts a simulator and returns its handle once it accepts connections.
    ///
    /// It runs on threads of its own with one worker, so it may be started from any context.
    ///
    /// # Errors
    /// The address is in use or cannot be bound, or a thread cannot be started.
    pub fn start(config: SimConfig) -> io::Result<SimHandle> {
        let address = (config.host.clone(), config.port);
        let shared = Arc::new(Shared::new(config));
        let state = web::Data::from(Arc::clone(&shared));
        let server = Running::start(address, move |app| {
            app.app_data(state.clone()).configure(routes::configure);
        })?;
        Ok(SimHandle { server, shared })
    }
}

/// A running simulator; it stops when the handle is dropped.
#[derive(Debug)]
pub struct SimHandle {
    server: Running,
    shared: Arc<Shared>,
}

impl SimHandle {
    /// Returns the base URL without a trailing slash: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Returns the recorded requests, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.recorder.all()
    }

    /// Forgets recorded requests, the rest of the script and the counts of `[[503x2]]`.
    pub fn clear(&self) {
        self.shared.clear();
    }

    /// Queues replies for the next generate requests, one each; then answers are made up again.
    pub fn script(&self, steps: Vec<ScriptedReply>) {
        self.shared.push_script(steps);
    }

    /// Changes the configuration of requests that arrive from now on.
    pub fn set_config(&self, f: impl FnOnce(&mut SimConfig)) {
        self.shared.set_config(f);
    }

    /// Stops the simulator: open connections are dropped, the port is free when this returns.
    pub fn stop(self) {
        drop(self);
    }
}
