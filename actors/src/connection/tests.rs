//! What only the inside can provoke: a session that ends under an attached connection.

use std::{pin::Pin, time::Duration};

use futures_util::StreamExt;
use kronos_protocol::ids::UserId;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::{registry::ConnectionsRef, *};
use crate::{
    config::{GeminiConfig, StoreBackend, StoreConfig},
    gemini::GeminiShared,
    session::{
        life::Finish,
        message::{ReplyTo, SessionCall, SessionCommand},
    },
    store::service::{self, StoreService},
};

/// Takes any token for the name of a user.
struct Names;

impl Authenticator for Names {
    fn authenticate(
        &self,
        token: Option<String>,
    ) -> futures_util::future::BoxFuture<'static, Result<Principal, AuthError>> {
        Box::pin(std::future::ready(
            token.ok_or(AuthError::Missing).map(|name| ann(&name)),
        ))
    }
}

fn ann(name: &str) -> Principal {
    let user = name.parse().unwrap();
    Principal {
        user,
        name: None,
        superuser: false,
        login: None,
        expires_at_ms: None,
    }
}

fn directory(clock: &Clock) -> DirectoryRef {
    drop(rustls::crypto::ring::default_provider().install_default());
    let store = StoreConfig {
        backend: StoreBackend::Memory,
        ..StoreConfig::default()
    };
    let store = StoreService::start(service::open(&store).unwrap(), &store, clock.clone()).unwrap();
    let gemini = GeminiShared::new(GeminiConfig::default(), clock.clone()).unwrap();
    let directory = DirectoryRef::new(
        SessionConfig::default(),
        store.clone(),
        gemini,
        crate::tools::ToolsRef::new(store, clock.clone(), Arc::default()),
        clock.clone(),
    );
    directory.join();
    directory
}

/// A connection without a network: bytes go in through a channel, come out of the body.
struct Peer {
    input: mpsc::Sender<Result<Bytes, PayloadError>>,
    body: Pin<Box<dyn Stream<Item = io::Result<Bytes>>>>,
    read: Vec<u8>,
}

impl Peer {
    fn connect(directory: &DirectoryRef, clock: &Clock) -> Self {
        let config = ConnectionConfig::default();
        let connections = ConnectionsRef::new(&config);
        let deps = ConnectionDeps {
            clock: clock.clone(),
            limits: limits(&config, &SessionConfig::default()),
            config,
            server: ServerInfo::default(),
            authenticator: Arc::new(Names),
            directory: directory.clone(),
            metrics: ConnectionMetrics::new(),
        };
        let (input, payload) = mpsc::channel(64);
        let payload =
            futures_util::stream::unfold(payload, |mut payload| async { Some((payload.recv().await?, payload)) });
        let upgrade = Upgrade {
            codec: Codec::Json,
            credentials: Ok(None),
            permit: connections.admit(None, None).unwrap(),
            hang_up: crate::connection::HangUp::default(),
        };
        let body = Box::pin(serve(Arc::new(deps), upgrade, Box::pin(payload)));
        Self {
            input,
            body,
            read: Vec::new(),
        }
    }

    async fn say(&self, command: Value) {
        let text = command.to_string();
        let length = u8::try_from(text.len()).unwrap();
        assert!(length < 126);
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend(text.bytes());
        self.input.send(Ok(Bytes::from(frame))).await.unwrap();
    }

    /// The next text that is no presence.
    async fn hear(&mut self) -> Value {
        loop {
            if let Some(text) = self.take_frame() {
                let frame: Value = serde_json::from_slice(&text).unwrap();
                if frame["op"] != "presence" {
                    return frame;
                }
                continue;
            }
            let more = tokio::time::timeout(Duration::from_secs(20), self.body.next()).await;
            self.read
                .extend(more.expect("a frame in time").expect("an open connection").unwrap());
        }
    }

    fn take_frame(&mut self) -> Option<Vec<u8>> {
        let [first, short, ..] = self.read[..] else { return None };
        assert_eq!(first, 0x81, "a whole text");
        let (header, length) = match short {
            126 => (
                4,
                usize::from(u16::from_be_bytes([*self.read.get(2)?, *self.read.get(3)?])),
            ),
            127 => panic!("too long for this test"),
            short => (2, usize::from(short)),
        };
        let text = self.read.get(header..header + length)?.to_vec();
        self.read.drain(..header + length);
        Some(text)
    }
}

async fn notify(directory: &DirectoryRef, user: &UserId, value: Value) {
    let feed = directory.feed(user).await.unwrap();
    let (reply, answer) = ReplyTo::oneshot();
    let command = SessionCommand::Notify {
        name: "kronos.test".to_owned(),
        value,
    };
    feed.call(SessionCall {
        caller: Arc::new(ann(user.as_str())),
        command,
        reply,
    })
    .unwrap();
    answer.await.unwrap().unwrap();
}

/// Stops the live actor of a feed, as a drain does.
async fn stop(directory: &DirectoryRef, user: &UserId) {
    let feed = directory.feed(user).await.unwrap();
    let (done, finished) = oneshot::channel();
    feed.addr().send(Finish { done }).await.unwrap();
    finished.await.unwrap();
}

#[actix::test]
async fn a_session_that_ends_is_found_again_and_its_reader_notices_nothing() {
    let clock = Clock::default();
    let directory = directory(&clock);
    let user: UserId = "ann".parse().unwrap();
    notify(&directory, &user, json!(1)).await;
    let mut peer = Peer::connect(&directory, &clock);
    peer.say(json!({"op": "hello", "ref": "1", "token": "ann"})).await;
    assert_eq!(peer.hear().await["op"], "ok");
    peer.say(json!({"op": "attach", "ref": "2", "session": "@me"})).await;
    assert_eq!(peer.hear().await["ref"], "2");
    assert_eq!(peer.hear().await["events"][0]["seq"], 1);
    assert_eq!(peer.hear().await["op"], "caught_up");
    for round in 2..5_u64 {
        stop(&directory, &user).await;
        notify(&directory, &user, json!(round)).await;
        let frame = peer.hear().await;
        assert_eq!(
            (&frame["op"], &frame["events"][0]["seq"]),
            (&json!("events"), &json!(round)),
            "{frame}"
        );
    }
}

#[actix::test]
async fn a_command_to_a_session_that_ended_is_sent_again() {
    let clock = Clock::default();
    let directory = directory(&clock);
    let user: UserId = "ann".parse().unwrap();
    let mut peer = Peer::connect(&directory, &clock);
    peer.say(json!({"op": "hello", "ref": "1", "token": "ann"})).await;
    assert_eq!(peer.hear().await["op"], "ok");
    peer.say(json!({"op": "attach", "ref": "2", "session": "@me"})).await;
    assert_eq!(peer.hear().await["ref"], "2");
    assert_eq!(peer.hear().await["op"], "caught_up");
    // The connection is not polled meanwhile: the end is in its mailbox, behind the command in its input.
    peer.say(json!({"op": "cancel", "ref": "3", "session": "@me"})).await;
    stop(&directory, &user).await;
    let reply = peer.hear().await;
    assert_eq!((&reply["op"], &reply["ref"]), (&json!("ok"), &json!("3")), "{reply}");
}
