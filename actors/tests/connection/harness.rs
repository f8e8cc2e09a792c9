//! A server with nothing but the websocket: the real actor, directory, sessions and store.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::ServerHandle, web};
use actix_web_actors::ws;
use futures_util::future::BoxFuture;
use kronos_actors::{
    clock::Clock,
    config::{ConnectionConfig, GeminiConfig, SessionConfig, StoreBackend, StoreConfig},
    connection::{self, ConnectionDeps, Upgrade, metrics::ConnectionMetrics, registry::ConnectionsRef},
    directory::DirectoryRef,
    gemini::GeminiShared,
    principal::{AuthError, Authenticator, Principal},
    session::message::{ReplyTo, SessionCall, SessionCommand},
    store::service::{self, StoreService},
    tools::ToolsRef,
};
use kronos_protocol::{Codec, ServerInfo};
use kronos_testkit::{ConnectOptions, RawFrame, RawWs, WsClient};
use serde_json::{Value, json};

/// The longest wait of a test for anything.
const LIMIT: Duration = Duration::from_secs(20);

/// Tokens of tests: `user`, `user:token id`, `user:token id:end in milliseconds`, and some that go wrong.
struct TestTokens;

impl Authenticator for TestTokens {
    fn authenticate(&self, token: Option<String>) -> BoxFuture<'static, Result<Principal, AuthError>> {
        Box::pin(async move {
            match token.as_deref() {
                None => Err(AuthError::Missing),
                Some("expired") => Err(AuthError::Expired),
                Some("unavailable") => Err(AuthError::Unavailable),
                Some("never") => std::future::pending().await,
                Some("panic") => panic!("provoked by a test"),
                Some(token) => Ok(principal(token)),
            }
        })
    }
}

/// The principal of a token.
pub(crate) fn principal(token: &str) -> Principal {
    let mut parts = token.split(':');
    Principal {
        user: parts.next().unwrap().parse().unwrap(),
        name: None,
        superuser: false,
        login: parts.next().map(str::to_owned),
        expires_at_ms: parts.next().map(|end| end.parse().unwrap()),
    }
}

/// The server under test.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) clock: Clock,
    pub(crate) connections: ConnectionsRef,
    pub(crate) directory: DirectoryRef,
    handle: ServerHandle,
}

/// Starts a server with changed bounds.
pub(crate) async fn server(change: impl FnOnce(&mut ConnectionConfig)) -> Server {
    drop(rustls::crypto::ring::default_provider().install_default());
    let clock = Clock::default();
    let mut config = ConnectionConfig::default();
    change(&mut config);
    let sessions = SessionConfig::default();
    let store = StoreConfig {
        backend: StoreBackend::Memory,
        ..StoreConfig::default()
    };
    let store = StoreService::start(service::open(&store).unwrap(), &store, clock.clone()).unwrap();
    let gemini = GeminiShared::new(GeminiConfig::default(), clock.clone()).unwrap();
    let limits = connection::limits(&config, &sessions);
    let directory = DirectoryRef::new(
        sessions,
        store.clone(),
        gemini,
        ToolsRef::new(store, clock.clone(), Arc::default()),
        clock.clone(),
    );
    directory.join();
    let connections = ConnectionsRef::new(&config);
    let deps = Arc::new(ConnectionDeps {
        clock: clock.clone(),
        config,
        limits,
        server: ServerInfo::default(),
        authenticator: Arc::new(TestTokens),
        directory: directory.clone(),
        metrics: ConnectionMetrics::new(),
    });
    let state = (deps, connections.clone());
    let http = HttpServer::new(move || {
        let of_worker = state.1.clone();
        state.0.directory.join();
        App::new()
            .app_data(web::Data::new((state.0.clone(), of_worker)))
            .route("/ws", web::get().to(upgrade))
    })
    .workers(1)
    .client_disconnect_timeout(Duration::from_secs(1))
    .disable_signals()
    .bind("127.0.0.1:0")
    .unwrap();
    let addr = http.addrs()[0];
    let running = http.run();
    let handle = running.handle();
    drop(actix_web::rt::spawn(running));
    Server {
        addr,
        clock,
        connections,
        directory,
        handle,
    }
}

/// The smallest upgrade: the real one is the edge's.
async fn upgrade(
    request: HttpRequest,
    payload: web::Payload,
    state: web::Data<(Arc<ConnectionDeps>, ConnectionsRef)>,
) -> HttpResponse {
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let credentials = match header("authorization").map(|value| value.trim_start_matches("Bearer ").to_owned()) {
        Some(token) => state.0.authenticator.authenticate(Some(token)).await.map(Some),
        None => Ok(None),
    };
    let subprotocol = header("sec-websocket-protocol");
    let codec = subprotocol.and_then(Codec::from_subprotocol);
    let Ok(permit) = state.1.admit(None, request.peer_addr().map(|peer| peer.ip())) else {
        return HttpResponse::ServiceUnavailable().finish();
    };
    let mut response = ws::handshake(&request).unwrap();
    if let Some(name) = subprotocol {
        response.insert_header(("sec-websocket-protocol", name));
    }
    let upgrade = Upgrade {
        codec: codec.unwrap_or_default(),
        credentials,
        permit,
        hang_up: kronos_actors::connection::HangUp::default(),
    };
    response.streaming(connection::serve(state.0.clone(), upgrade, payload))
}

impl Server {
    /// Opens a socket and says nothing.
    pub(crate) async fn raw(&self) -> RawWs {
        self.raw_with(&[]).await
    }

    /// The same with more headers.
    pub(crate) async fn raw_with(&self, headers: &[(&str, &str)]) -> RawWs {
        RawWs::open(self.addr, "/ws", headers, LIMIT).await.unwrap()
    }

    /// Opens a socket and says hello with `token`.
    pub(crate) async fn raw_known(&self, token: &str) -> RawWs {
        let mut socket = self.raw().await;
        let welcome = ask(&mut socket, json!({"op": "hello", "ref": "h", "token": token})).await;
        assert_eq!(welcome["op"], "ok", "{welcome}");
        socket
    }

    /// A client that keeps the books.
    pub(crate) async fn client(&self, token: &str) -> WsClient {
        WsClient::connect(&format!("ws://{}/ws", self.addr), ConnectOptions::token(token)).await
    }

    /// Appends an event to a user's feed.
    pub(crate) async fn notify(&self, user: &str, value: Value) {
        let feed = self.directory.feed(&user.parse().unwrap()).await.unwrap();
        let (reply, answer) = ReplyTo::oneshot();
        let command = SessionCommand::Notify {
            name: "kronos.test".to_owned(),
            value,
        };
        feed.call(SessionCall {
            caller: Arc::new(principal(user)),
            command,
            reply,
        })
        .unwrap();
        answer.await.unwrap().unwrap();
    }

    /// Ends the test: no connection may be left.
    pub(crate) async fn finish(self) {
        assert!(
            self.connections.wait_empty(LIMIT).await,
            "{} connections are left",
            self.connections.count()
        );
        self.handle.stop(false).await;
    }
}

/// Sends a text.
pub(crate) async fn say(socket: &mut RawWs, command: Value) {
    socket.send(&RawFrame::text(&command.to_string())).await.unwrap();
}

/// Reads the next text frame.
pub(crate) async fn hear(socket: &mut RawWs) -> Value {
    loop {
        let frame = socket.next_frame().await.unwrap().expect("the connection is open");
        match frame.opcode {
            1 => return serde_json::from_slice(&frame.payload).unwrap(),
            9 => socket.send(&RawFrame::new(10, frame.payload)).await.unwrap(),
            _ => panic!("expected text, got {frame:?}"),
        }
    }
}

/// Sends a command and reads the next frame.
pub(crate) async fn ask(socket: &mut RawWs, command: Value) -> Value {
    say(socket, command).await;
    hear(socket).await
}
