//! The three ways to an answer: from the simulator itself, through the bare proxy, through the server.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::bare::{self, CANCEL, DONE};
use crate::clock;
use crate::http;
use crate::stamps::{Stamps, find};

/// The path of the model's stream.
const STREAM: &str = "/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse";
/// Where a delta is in a frame, of the server and of the proxy.
const DELTA: &str = "\"delta\":\"";
/// Where a delta is in the model's events.
const TEXT: &str = "\"text\":\"";

/// What one turn showed.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// Microseconds from the question to the first delta.
    pub(crate) first: u32,
    /// Age of each delta at its arrival, in microseconds.
    pub(crate) ages: Vec<u32>,
}

impl Turn {
    fn arrived(&mut self, asked: u64, sent: u64, now: u64) {
        if self.ages.is_empty() {
            self.first = age(asked, now);
        }
        self.ages.push(age(sent, now));
    }
}

fn age(then: u64, now: u64) -> u32 {
    u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX)
}

/// A websocket with small buffers.
#[derive(Debug)]
pub(crate) struct Socket(Box<WebSocketStream<TcpStream>>);

impl Socket {
    /// Connects; `path` may have a query.
    pub(crate) async fn connect(address: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let url = format!("ws://{address}{path}");
        let (socket, _) = client_async_with_config(url, stream, Some(bare::small_buffers())).await?;
        Ok(Self(Box::new(socket)))
    }

    /// Sends text.
    pub(crate) async fn send(&mut self, text: impl Into<Utf8Bytes>) -> anyhow::Result<()> {
        Ok(self.0.send(Message::Text(text.into())).await?)
    }

    /// Sends several texts at once.
    pub(crate) async fn send_all(&mut self, texts: impl IntoIterator<Item = String>) -> anyhow::Result<()> {
        for text in texts {
            self.0.feed(Message::Text(text.into())).await?;
        }
        Ok(self.0.flush().await?)
    }

    /// Waits for the next text.
    pub(crate) async fn next(&mut self) -> anyhow::Result<Utf8Bytes> {
        loop {
            match self.0.next().await.context("the connection has ended")?? {
                Message::Text(text) => return Ok(text),
                Message::Close(why) => bail!("closed: {why:?}"),
                Message::Ping(_) | Message::Pong(_) | Message::Binary(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Cuts the connection as a lost network does once it is noticed: a reset, no close frame.
    pub(crate) fn cut(self) {
        // Without it, the port would be taken for a minute.
        SockRef::from(self.0.get_ref()).set_linger(Some(Duration::ZERO)).ok();
    }
}

/// A frame of the server, as far as a load tester reads it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Frame {
    /// `ok`, `error`, `events`, …
    pub(crate) op: String,
    /// The command that it answers.
    #[serde(rename = "ref")]
    pub(crate) reference: Option<String>,
    /// The session.
    pub(crate) session: Option<String>,
    /// The history that it belongs to.
    pub(crate) epoch: Option<String>,
    /// The head of the log.
    pub(crate) head: Option<u64>,
    /// Why a command failed.
    pub(crate) code: Option<String>,
    /// The same for people.
    pub(crate) message: Option<String>,
}

/// A websocket to the server, attached to one session.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The websocket.
    pub(crate) socket: Socket,
    /// Whom it connected as.
    pub(crate) user: String,
    /// Its session.
    pub(crate) session: String,
    /// The history that its position belongs to.
    pub(crate) epoch: String,
    /// The head of the log when it attached.
    pub(crate) head: u64,
    commands: u64,
}

impl Attached {
    /// Connects and attaches a new session.
    pub(crate) async fn create(address: SocketAddr, user: &str) -> anyhow::Result<Self> {
        Self::open(address, user, "new", None).await
    }

    /// Connects and attaches a known session after a position: one round trip for the upgrade, one for the rest.
    pub(crate) async fn resume(
        address: SocketAddr,
        user: &str,
        session: &str,
        after: Option<(&str, u64)>,
    ) -> anyhow::Result<Self> {
        Self::open(address, user, session, after).await
    }

    async fn open(address: SocketAddr, user: &str, session: &str, after: Option<(&str, u64)>) -> anyhow::Result<Self> {
        let mut socket = Socket::connect(address, &format!("/ws?user={user}")).await?;
        let hello = json!({"op": "hello", "ref": "hello"});
        let mut attach = json!({"op": "attach", "ref": "attach", "session": session});
        if let Some((epoch, seq)) = after {
            attach["after"] = json!({"epoch": epoch, "seq": seq});
        }
        socket.send_all([hello.to_string(), attach.to_string()]).await?;
        loop {
            let frame = read(&mut socket).await?;
            if frame.reference.as_deref() == Some("attach") {
                return Ok(Self {
                    socket,
                    user: user.to_owned(),
                    session: frame.session.context("a session")?,
                    epoch: frame.epoch.context("an epoch")?,
                    head: frame.head.unwrap_or_default(),
                    commands: 0,
                });
            }
        }
    }

    /// Waits for the next frame; one that says `error` is an error.
    pub(crate) async fn frame(&mut self) -> anyhow::Result<Frame> {
        read(&mut self.socket).await
    }

    /// Sends a command about the session, with the fields of `command`, and returns its `ref`.
    pub(crate) async fn command(&mut self, mut command: Value) -> anyhow::Result<String> {
        self.commands += 1;
        let reference = self.commands.to_string();
        command["session"] = json!(self.session);
        command["ref"] = json!(reference);
        self.socket.send(command.to_string()).await?;
        Ok(reference)
    }

    /// Sends a command and waits for its reply; everything else that comes meanwhile is dropped.
    pub(crate) async fn ask(&mut self, command: Value) -> anyhow::Result<Frame> {
        let reference = self.command(command).await?;
        loop {
            let frame = self.frame().await?;
            if frame.reference.as_deref() == Some(reference.as_str()) {
                return Ok(frame);
            }
        }
    }

    /// Sends a message.
    pub(crate) async fn say(&mut self, id: &str, content: &str) -> anyhow::Result<String> {
        self.command(json!({"op": "send", "id": id, "content": content})).await
    }
}

async fn read(socket: &mut Socket) -> anyhow::Result<Frame> {
    let text = socket.next().await?;
    let frame: Frame = serde_json::from_str(&text).with_context(|| format!("not a frame: {text}"))?;
    if frame.op == "error" {
        bail!(
            "{}: {}",
            frame.code.unwrap_or_default(),
            frame.message.unwrap_or_default()
        );
    }
    Ok(frame)
}

/// Whom a session asks.
#[derive(Debug)]
pub(crate) enum Peer {
    /// The simulator.
    Direct(SocketAddr),
    /// The bare proxy.
    Bare(Socket),
    /// The server.
    Kronos(Attached),
}

impl Peer {
    /// Asks once and reads the answer to its end.
    pub(crate) async fn turn(&mut self, id: &str, question: &str) -> anyhow::Result<Turn> {
        match self {
            Self::Direct(address) => direct(*address, question).await,
            Self::Bare(socket) => {
                let asked = clock::micros();
                socket.send(question.to_owned()).await?;
                frames(socket, asked, |text| Ok(text == DONE)).await
            }
            Self::Kronos(attached) => {
                let asked = clock::micros();
                attached.say(id, question).await?;
                frames(&mut attached.socket, asked, run_ended).await
            }
        }
    }

    /// Stops the answer that is being written.
    pub(crate) async fn cancel(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Direct(_) => bail!("a stream that is read directly is not cancelled"),
            Self::Bare(socket) => socket.send(CANCEL).await,
            Self::Kronos(attached) => attached.command(json!({"op": "cancel"})).await.map(drop),
        }
    }

    /// Asks, cancels when a delta has come, reads to the end; returns when it cancelled.
    pub(crate) async fn cancelled_turn(&mut self, id: &str, question: &str) -> anyhow::Result<u64> {
        match self {
            Self::Direct(_) => {}
            Self::Bare(socket) => socket.send(question.to_owned()).await?,
            Self::Kronos(attached) => attached.say(id, question).await.map(drop)?,
        }
        self.until(|text| Ok(find(text.as_bytes(), DELTA.as_bytes()).is_some()))
            .await?;
        let cancelled = clock::micros();
        self.cancel().await?;
        self.until(|text| Ok(text == DONE || run_ended(text)?)).await?;
        Ok(cancelled)
    }

    async fn until(&mut self, mut found: impl FnMut(&str) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        let socket = match self {
            Self::Direct(_) => bail!("no websocket"),
            Self::Bare(socket) => socket,
            Self::Kronos(attached) => &mut attached.socket,
        };
        loop {
            let text = socket.next().await?;
            if found(&text)? {
                return Ok(());
            }
        }
    }
}

/// Says whether a frame ends a run.
fn run_ended(text: &str) -> anyhow::Result<bool> {
    // The end of a run is a short frame or the end of one; deltas have no such words.
    let bytes = text.as_bytes();
    if find(bytes, b"\"RUN_ERROR\"").is_some() || text.starts_with("{\"op\":\"error\"") {
        bail!("the run failed: {text}");
    }
    Ok(find(bytes, b"\"RUN_FINISHED\"").is_some())
}

async fn frames(socket: &mut Socket, asked: u64, ended: impl Fn(&str) -> anyhow::Result<bool>) -> anyhow::Result<Turn> {
    let mut turn = Turn::default();
    loop {
        let text = socket.next().await?;
        let now = clock::micros();
        Stamps::read(DELTA, text.as_bytes(), |sent| turn.arrived(asked, sent, now));
        if ended(&text)? {
            return Ok(turn);
        }
    }
}

/// Reads an answer from the simulator itself.
async fn direct(address: SocketAddr, question: &str) -> anyhow::Result<Turn> {
    let body = json!({"contents": [{"role": "user", "parts": [{"text": question}]}]}).to_string();
    let asked = clock::micros();
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    stream
        .write_all(http::head(address, "POST", STREAM, &body).as_bytes())
        .await?;
    let (mut turn, mut stamps) = (Turn::default(), Stamps::new(TEXT));
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(turn);
        }
        let now = clock::micros();
        stamps.read_piece(buffer.get(..read).unwrap_or_default(), |sent| {
            turn.arrived(asked, sent, now);
        });
    }
}
