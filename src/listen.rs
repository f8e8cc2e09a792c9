//! The listener: actix-web's own `HttpServer` with a watched socket below it.

use std::{
    io,
    net::{SocketAddr, TcpListener, ToSocketAddrs as _},
};

use actix_http::HttpService;
use actix_server::{Server, ServerBuilder};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    App,
    dev::{AppConfig, Extensions},
    middleware::from_fn,
    rt::net::TcpStream,
    web,
};
use kronos_actors::{config::ConnectionConfig, directory::DirectoryRef};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    StartError,
    config::{Config, Environment},
    edge::{
        self, EdgeState,
        stream::{Pace, Watched},
        ws::WsState,
    },
};

/// Seconds that requests get to end once the server stops; sockets are gone by then.
const STOP_SECONDS: u64 = 1;

/// Connections of a worker beyond its websockets: requests, probes.
const SPARE_CONNECTIONS: usize = 1024;

/// Binds every address of `HOST` and returns the server, with the first address.
pub(crate) fn listen(
    config: &Config,
    state: &web::Data<EdgeState>,
    sockets: &web::Data<WsState>,
) -> Result<(Server, SocketAddr), StartError> {
    let server = &config.server;
    let host = server.host.trim_start_matches('[').trim_end_matches(']');
    let failed = |cause| StartError::Listen {
        address: format!("{}:{}", server.host, server.port),
        cause,
    };
    let addresses = (host, server.port).to_socket_addrs().map_err(failed)?;
    let mut builder = Server::build()
        .workers(crate::workers(config))
        .max_concurrent_connections(
            config.connection.max_connections + config.connection.max_event_streams + SPARE_CONNECTIONS,
        )
        .shutdown_timeout(STOP_SECONDS)
        .disable_signals();
    let (mut first, mut refused) = (None, io::ErrorKind::AddrNotAvailable.into());
    for address in addresses {
        match bind(address, server.backlog).and_then(|listener| Ok((listener.local_addr()?, listener))) {
            Ok((bound, listener)) => {
                builder = serve(builder, listener, bound, config, state, sockets).map_err(failed)?;
                first.get_or_insert(bound);
            }
            Err(error) => refused = error,
        }
    }
    let first = first.ok_or_else(|| failed(refused))?;
    Ok((builder.run(), first))
}

fn bind(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A server that starts again must not wait for sockets of the one before.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn serve(
    builder: ServerBuilder,
    listener: TcpListener,
    address: SocketAddr,
    config: &Config,
    state: &web::Data<EdgeState>,
    sockets: &web::Data<WsState>,
) -> io::Result<ServerBuilder> {
    let stopping = builder.graceful_shutdown_signal();
    let (state, sockets) = (state.clone(), sockets.clone());
    let (server, tuning) = (config.server.clone(), config.connection.clone());
    let pace = Pace {
        head: server.request_timeout,
        answer: server.answer_timeout,
        rest: server.disconnect_timeout,
    };
    let hsts = server.environment == Environment::Production;
    builder.listen(format!("http-{address}"), listener, move || {
        let stopping = stopping.clone();
        let tuning = tuning.clone();
        let app = App::new()
            .app_data(state.clone())
            .app_data(directory(&state))
            .app_data(sockets.clone())
            .configure(edge::routes)
            .wrap(from_fn(edge::request::observe))
            .into_factory()
            .map_err(|error: actix_web::Error| error.error_response());
        let http = HttpService::build()
            .graceful_shutdown_signal(move || {
                let stopping = stopping.clone();
                async move { stopping.notified().await }
            })
            .keep_alive(server.keep_alive)
            // The watched socket has a time-out for every head; this one would know the first only.
            .client_request_timeout(std::time::Duration::ZERO)
            .client_disconnect_timeout(server.disconnect_timeout)
            .local_addr(address)
            .on_connect_ext(move |socket: &Watched, data: &mut Extensions| tune(socket, data, &tuning))
            .h1(map_config(app, |()| AppConfig::default()));
        let (pace, clock) = (pace.clone(), state.clock.clone());
        fn_service(move |socket: TcpStream| {
            let peer = socket.peer_addr().ok();
            let watched = Watched::new(socket, pace.clone(), clock.clone(), hsts);
            async move { Ok((watched, peer)) }
        })
        .and_then(http)
    })
}

/// Makes this worker's thread a core, and returns what its handlers find sessions with.
fn directory(state: &EdgeState) -> web::Data<DirectoryRef> {
    state.wiring.directory.join();
    web::Data::new(state.wiring.directory.clone())
}

fn tune(socket: &Watched, data: &mut Extensions, config: &ConnectionConfig) {
    data.insert(socket.link());
    let Some(stream) = socket.socket() else { return };
    // The peer is gone already, mostly.
    if let Err(error) = edge::ws::tune_socket(stream, config) {
        tracing::debug!(%error, "socket not tuned");
    }
    data.insert(edge::ws::Socket::of(stream));
}
