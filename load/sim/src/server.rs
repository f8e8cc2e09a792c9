//! Starts and stops a simulator on threads of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};

use crate::config::SimConfig;
use crate::record::RecordedRequest;
use crate::routes;
use crate::script::ScriptedReply;
use crate::shared::Shared;

/// Idle connections are kept this long, as a real front end does.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

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
        let (ready, started) = mpsc::sync_channel(1);
        let state = Arc::clone(&shared);
        let thread = thread::Builder::new().name("kronos-sim".to_owned()).spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                match bind(address, state) {
                    Ok((address, server)) => {
                        if ready.send(Ok((address, server.handle()))).is_ok()
                            && let Err(error) = server.await
                        {
                            tracing::error!(%error, "simulator stopped");
                        }
                    }
                    Err(error) => drop(ready.send(Err(error))),
                }
            });
        })?;
        let (address, server) = started
            .recv()
            .map_err(|gone| io::Error::other(format!("simulator did not start: {gone}")))??;
        Ok(SimHandle {
            address,
            shared,
            server,
            thread: Some(thread),
        })
    }
}

fn bind(address: (String, u16), state: Arc<Shared>) -> io::Result<(SocketAddr, actix_web::dev::Server)> {
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::from(Arc::clone(&state)))
            .configure(routes::configure)
    })
    .workers(1)
    .disable_signals()
    .keep_alive(KEEP_ALIVE)
    .tcp_nodelay(true)
    .backlog(4096)
    // A client that closed its side is gone: noticed at once, not at the next failing write.
    .h1_allow_half_closed(false)
    .bind(address)?;
    let address = server
        .addrs()
        .first()
        .copied()
        .ok_or_else(|| io::Error::other("no address was bound"))?;
    Ok((address, server.run()))
}

/// A running simulator; it stops when the handle is dropped.
#[derive(Debug)]
pub struct SimHandle {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl SimHandle {
    /// Returns the base URL without a trailing slash: `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
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

impl Drop for SimHandle {
    fn drop(&mut self) {
        // The command is sent by the call itself; awaiting it would only wait for the end, which the join does.
        drop(self.server.stop(false));
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("simulator thread panicked");
        }
    }
}
