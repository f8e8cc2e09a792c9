//! The drain sequence, in order, with a deadline for each step. A second signal skips the waiting, never the commit.

use std::{future::Future, sync::Arc, time::Duration};

use actix_web::dev::ServerHandle;
use kronos_protocol::close::CloseCode;
use tokio::sync::watch;

use crate::edge::Readiness;
use crate::wiring::Wiring;

/// What clients are told to wait before they come back; each draws up to as long again.
const RECONNECT_AFTER: Duration = Duration::from_millis(500);

/// Time for close frames to reach their sockets, and for requests that were being answered.
const FLUSH: Duration = Duration::from_secs(1);

/// Asks a running server to stop: once to drain, twice to stop waiting. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(Arc<watch::Sender<u32>>);

impl Default for Stop {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(0)))
    }
}

impl Stop {
    /// Signals once.
    pub fn signal(&self) {
        self.0.send_modify(|count| *count += 1);
    }

    /// Whether it was signalled.
    pub(crate) fn is_signalled(&self) -> bool {
        *self.0.borrow() > 0
    }

    /// Waits until it was signalled `times` times.
    pub(crate) async fn signalled(&self, times: u32) {
        let mut count = self.0.subscribe();
        // The sender lives in self: it cannot be gone.
        drop(count.wait_for(|count| *count >= times).await);
    }

    /// Signals at every SIGTERM and Ctrl-C from now on.
    ///
    /// # Errors
    /// The process cannot have a handler for them.
    pub fn on_signals(&self) -> std::io::Result<()> {
        use tokio::signal::unix::{SignalKind, signal};
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = self.clone();
        actix_web::rt::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                stop.signal();
            }
        });
        Ok(())
    }
}

/// Runs the sequence.
pub(crate) async fn drain(wiring: &Wiring, readiness: &Readiness, server: &ServerHandle, stop: &Stop, limit: Duration) {
    tracing::info!(
        limit_ms = limit.as_millis(),
        connections = wiring.connections.count(),
        "draining"
    );
    readiness.draining();
    wiring.directory.stop_new_runs();
    server.pause().await;
    wiring.connections.goaway_all("shutdown", RECONNECT_AFTER);
    // Skips its own waiting when hurried, never its commits.
    wiring.drain(limit, stop.signalled(2)).await;
    wiring.connections.close_all(CloseCode::Restart, RECONNECT_AFTER);
    unless_hurried(stop, async {
        if !wiring.connections.wait_empty(FLUSH).await {
            tracing::warn!(connections = wiring.connections.count(), "connections cut");
        }
    })
    .await;
    // Waits for requests that are being answered, at most for the server's own shutdown time-out.
    unless_hurried(stop, server.stop(true)).await;
    server.stop(false).await;
    wiring.close().await;
    tracing::info!("stopped");
}

async fn unless_hurried(stop: &Stop, waiting: impl Future<Output = ()>) {
    tokio::select! {
        () = waiting => {}
        () = stop.signalled(2) => {}
    }
}
