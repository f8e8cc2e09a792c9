//! A strict websocket client: it checks every promise of the protocol on every frame.

mod connect;
mod session;

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use kronos_protocol::server::Welcome;
use kronos_protocol::{CloseReason, Codec, Command, OkBody, Ref, ServerFrame, WireError};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

pub use connect::ConnectOptions;
use kronos_check::Checker;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What a command was answered.
pub type Reply = Result<OkBody, WireError>;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The close code; 1005 for a close frame without one, 1006 when there was no close frame.
    pub code: u16,
    /// The close reason as it came.
    pub text: String,
}

impl Closed {
    /// Returns the close reason as the protocol has it; `None` when it has another form.
    #[must_use]
    pub fn reason(&self) -> Option<CloseReason> {
        CloseReason::decode(&self.text)
    }
}

/// A client of one websocket. It reads only while it is asked to, so a test can be a slow reader.
///
/// Every method that waits panics after the limit of [`ConnectOptions`], and every frame that breaks a promise panics at
/// once, with the session and the position. What was seen of a session outlives the connection:
/// [`WsClient::reconnect`] and [`WsClient::reattach`] go on where it was cut.
#[derive(Debug)]
pub struct WsClient {
    options: ConnectOptions,
    socket: Option<Socket>,
    checker: Checker,
    /// Frames that are no replies and that nobody has taken yet.
    inbox: VecDeque<ServerFrame>,
    replies: HashMap<Ref, Reply>,
    next_ref: u64,
    welcome: Option<Welcome>,
    closed: Option<Closed>,
}

impl WsClient {
    /// Connects, and says hello unless the options say otherwise.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn connect(url: &str, options: ConnectOptions) -> Self {
        match Self::try_connect(url, options).await {
            Ok(client) => client,
            Err(error) => panic!("{url}: {error:#}"),
        }
    }

    /// Connects, and says hello unless the options say otherwise.
    ///
    /// # Errors
    /// The server cannot be reached, refuses the upgrade, or answers hello with an error. An upgrade that was refused
    /// is a [`tungstenite::Error::Http`](Error::Http) with the response.
    pub async fn try_connect(url: &str, options: ConnectOptions) -> anyhow::Result<Self> {
        let mut client = Self {
            options,
            socket: None,
            checker: Checker::default(),
            inbox: VecDeque::new(),
            replies: HashMap::new(),
            next_ref: 0,
            welcome: None,
            closed: None,
        };
        client.open(url).await?;
        Ok(client)
    }

    /// Connects again, also to another server, with the same options. Nothing is attached then; positions are kept.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn reconnect(&mut self, url: &str) {
        if let Err(error) = self.open(url).await {
            panic!("{url}: {error:#}");
        }
    }

    /// Connects again like [`WsClient::reconnect`], when the server lets it.
    ///
    /// # Errors
    /// As [`WsClient::try_connect`].
    pub async fn try_reconnect(&mut self, url: &str) -> anyhow::Result<()> {
        self.open(url).await
    }

    /// Cuts the connection without a close frame, as a lost network does.
    pub fn cut(&mut self) {
        self.socket = None;
        self.checker.disconnected();
    }

    /// Returns what the server answered to hello.
    ///
    /// # Panics
    /// When nobody said hello.
    #[must_use]
    pub fn welcome(&self) -> &Welcome {
        self.welcome.as_ref().expect("nobody said hello")
    }

    /// Sends a command given as JSON, with a `ref` unless it has one, and waits for the reply.
    ///
    /// # Panics
    /// When there is no reply in time.
    pub async fn request(&mut self, command: Value) -> Reply {
        let reference = self.start(command).await;
        self.reply(&reference).await
    }

    /// Sends a typed command and waits for the reply.
    ///
    /// # Panics
    /// When there is no reply in time.
    pub async fn command(&mut self, command: impl Into<Command>) -> Reply {
        let reference = self.mint_ref();
        let frame = kronos_protocol::ClientFrame::new(reference.clone(), command);
        self.checker.asked(&reference, &frame.command);
        self.transmit(&serde_json::to_value(&frame).expect("a frame is JSON"))
            .await;
        self.reply(&reference).await
    }

    /// Sends a typed command; `None` when the connection ends before the reply has come, as it does when a server is killed.
    ///
    /// # Panics
    /// When neither comes in time.
    pub async fn attempt(&mut self, command: impl Into<Command>) -> Option<Reply> {
        if self.socket.is_none() || self.closed.is_some() {
            return None;
        }
        let reference = self.mint_ref();
        let frame = kronos_protocol::ClientFrame::new(reference.clone(), command);
        self.checker.asked(&reference, &frame.command);
        self.transmit(&serde_json::to_value(&frame).expect("a frame is JSON"))
            .await;
        let deadline = self.deadline();
        loop {
            if let Some(reply) = self.replies.remove(&reference) {
                return Some(reply);
            }
            if !self.try_pump(deadline).await {
                assert!(
                    self.closed.is_some(),
                    "no reply to ref {reference} within {:?}",
                    self.options.limit
                );
                return self.replies.remove(&reference);
            }
        }
    }

    /// Sends a command given as JSON without waiting; returns its `ref` for [`WsClient::reply`].
    ///
    /// # Panics
    /// When it is no object, or cannot be sent.
    pub async fn start(&mut self, mut command: Value) -> Ref {
        let fields = command.as_object_mut().expect("a command is an object");
        let reference = match fields.get("ref").and_then(Value::as_str) {
            Some(reference) => reference.parse().expect("a ref that can be answered"),
            None => self.mint_ref(),
        };
        fields.insert("ref".to_owned(), reference.as_str().into());
        self.note(&command);
        self.transmit(&command).await;
        reference
    }

    /// Waits for the reply to a command.
    ///
    /// # Panics
    /// When it does not come in time, or the server closes instead.
    pub async fn reply(&mut self, reference: &Ref) -> Reply {
        let deadline = self.deadline();
        loop {
            if let Some(reply) = self.replies.remove(reference) {
                return reply;
            }
            self.pump(deadline, &format!("the reply to ref {reference}")).await;
        }
    }

    /// Sends a text message as it is, frame or not. A `ref` in it is taken note of.
    pub async fn send_text(&mut self, text: &str) {
        self.note_bytes(text.as_bytes());
        self.transmit_message(Message::text(text)).await;
    }

    /// Sends a binary message as it is, frame or not. A `ref` in it is taken note of.
    pub async fn send_binary(&mut self, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        self.note_bytes(&bytes);
        self.transmit_message(Message::binary(bytes)).await;
    }

    /// Returns the next frame that is no reply, one that came while something else was awaited included.
    ///
    /// # Panics
    /// When none comes within `limit`.
    pub async fn next_frame(&mut self, limit: Duration) -> ServerFrame {
        match self.try_next_frame(limit).await {
            Some(frame) => frame,
            None => panic!("no frame within {limit:?}"),
        }
    }

    /// Returns the next frame that is no reply; `None` when none comes within `limit` or the server closes.
    pub async fn try_next_frame(&mut self, limit: Duration) -> Option<ServerFrame> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(frame) = self.inbox.pop_front() {
                return Some(frame);
            }
            if !self.try_pump(deadline).await {
                return None;
            }
        }
    }

    /// Reads on until `condition` holds.
    ///
    /// # Panics
    /// When it does not in time: with `what`.
    pub async fn until(&mut self, what: &str, mut condition: impl FnMut(&Self) -> bool) {
        let deadline = self.deadline();
        while !condition(self) {
            self.pump(deadline, what).await;
        }
    }

    /// Closes with 1000 and waits until the server has closed too.
    ///
    /// # Panics
    /// When a command has no reply, or the server does not close.
    pub async fn finish(mut self) {
        let unanswered = self.checker.unanswered();
        assert!(unanswered.is_empty(), "commands without a reply: {unanswered:?}");
        let socket = self.socket.as_mut().expect("finish: not connected");
        match socket.close(None).await {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {}
            Err(error) => panic!("close: {error}"),
        }
        self.closed().await;
    }

    /// Reads on until the server closes; returns the close code (see [`Closed::code`]).
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn close_code(&mut self) -> u16 {
        self.closed().await.code
    }

    /// Reads on until the server closes; returns how.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn closed(&mut self) -> Closed {
        let deadline = self.deadline();
        loop {
            if let Some(closed) = &self.closed {
                return closed.clone();
            }
            if !self.try_pump(deadline).await && self.closed.is_none() {
                panic!("not closed within {:?}", self.options.limit);
            }
        }
    }

    /// Whether the server has closed, as far as it was read.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.is_some()
    }

    fn deadline(&self) -> Instant {
        Instant::now() + self.options.limit
    }

    fn mint_ref(&mut self) -> Ref {
        self.next_ref += 1;
        format!("r{}", self.next_ref).parse().expect("a ref")
    }

    /// Takes note of whatever in `bytes` will be answered.
    fn note_bytes(&mut self, bytes: &[u8]) {
        if let Ok(value) = self.options.codec.decode_value(bytes) {
            self.note(&value);
        }
    }

    fn note(&mut self, frame: &Value) {
        let Some(reference) = frame
            .get("ref")
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok())
        else {
            return;
        };
        match Codec::Json.decode_client(frame.to_string().as_bytes()) {
            Ok(frame) => self.checker.asked(&reference, &frame.command),
            Err(_) => self.checker.asked_anything(&reference),
        }
    }

    async fn transmit(&mut self, frame: &Value) {
        let bytes = self.options.codec.encode(frame).expect("JSON fits both codecs");
        let message = match self.options.codec {
            Codec::Json => Message::text(String::from_utf8(bytes.to_vec()).expect("JSON is UTF-8")),
            Codec::Msgpack => Message::Binary(bytes),
        };
        self.transmit_message(message).await;
    }

    async fn transmit_message(&mut self, message: Message) {
        let limit = self.options.limit;
        let socket = self.socket.as_mut().expect("send: not connected");
        match tokio::time::timeout(limit, socket.send(message)).await {
            Ok(Ok(())) => {}
            // Its close frame, or the end of the stream, tells more.
            Ok(Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_) | Error::Protocol(_))) => {}
            Ok(Err(error)) => panic!("send: {error}"),
            Err(_) => panic!("send: the server took nothing for {limit:?}"),
        }
    }

    async fn pump(&mut self, deadline: Instant, what: &str) {
        if !self.try_pump(deadline).await {
            match &self.closed {
                Some(closed) => panic!(
                    "waiting for {what}: the server closed with {} {}",
                    closed.code, closed.text
                ),
                None => panic!("not within {:?}: {what}", self.options.limit),
            }
        }
    }

    /// Reads one message; false when none came in time or the connection is closed.
    async fn try_pump(&mut self, deadline: Instant) -> bool {
        let Some(socket) = self.socket.as_mut().filter(|_| self.closed.is_none()) else {
            return false;
        };
        let Ok(message) = timeout_at(deadline, socket.next()).await else {
            return false;
        };
        match message {
            Some(Ok(Message::Text(text))) => self.take(Codec::Json, text.as_bytes()),
            Some(Ok(Message::Binary(bytes))) => self.take(Codec::Msgpack, &bytes),
            Some(Ok(Message::Close(frame))) => {
                let (code, text) = frame.map_or((1005, String::new()), |frame| {
                    (frame.code.into(), frame.reason.as_str().to_owned())
                });
                self.end(code, text);
                return false;
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Err(error)) => {
                self.end(1006, error.to_string());
                return false;
            }
            None => {
                self.end(1006, String::new());
                return false;
            }
        }
        true
    }

    fn end(&mut self, code: u16, text: String) {
        self.closed = Some(Closed { code, text });
        self.checker.disconnected();
    }

    fn take(&mut self, codec: Codec, bytes: &[u8]) {
        assert_eq!(codec, self.options.codec, "a frame in the wrong codec");
        let frame = match codec.decode_server(bytes) {
            Ok(frame) => frame,
            Err(error) => panic!("{error}: {}", String::from_utf8_lossy(bytes)),
        };
        if let Err(violation) = self.checker.received(&frame) {
            panic!("{violation}\nin the frame: {}", serde_json::json!(frame));
        }
        match frame {
            ServerFrame::Ok { reference, body } => {
                self.replies.insert(reference, Ok(body));
            }
            ServerFrame::Error {
                reference: Some(reference),
                error,
            } => {
                self.replies.insert(reference, Err(error));
            }
            other => self.inbox.push_back(other),
        }
    }
}

#[cfg(test)]
mod tests;
