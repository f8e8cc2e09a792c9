//! Runs a simulator's server on threads of its own.

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpServer, web};

/// Idle connections are kept this long, as a real front end does.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// A server that runs; it stops when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    address: SocketAddr,
    server: ServerHandle,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    /// Starts a server with one worker and returns once it accepts connections; may be called from any context.
    ///
    /// # Errors
    /// The address is in use or cannot be bound, or a thread cannot be started.
    pub(crate) fn start<F>(address: (String, u16), configure: F) -> io::Result<Self>
    where
        F: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
    {
        let (ready, started) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("kronos-sim".to_owned()).spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                match bind(address, configure) {
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
        Ok(Self {
            address,
            server,
            thread: Some(thread),
        })
    }

    /// Returns the base URL without a trailing slash: `http://127.0.0.1:PORT`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Running {
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

fn bind<F>(address: (String, u16), configure: F) -> io::Result<(SocketAddr, actix_web::dev::Server)>
where
    F: Fn(&mut web::ServiceConfig) + Clone + Send + 'static,
{
    let server = HttpServer::new(move || App::new().configure(configure.clone()))
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
