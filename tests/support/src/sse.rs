//! A reader of event streams: server-sent events over HTTP/1.1, one at a time, as strict as the strictest of clients.
//!
//! Lines end with LF; what is neither a field nor a comment is an error; the end of the body and a broken connection are told
//! apart.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::http::{HttpReply, parse_reply};

/// Longest that the next event may take.
const LIMIT: Duration = Duration::from_secs(20);

/// One server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// Its `id`, if it has one of its own.
    pub id: Option<String>,
    /// Its `event`, if it has one.
    pub event: Option<String>,
    /// Its data.
    pub data: String,
}

impl SseEvent {
    /// Returns the data as JSON.
    ///
    /// # Panics
    /// When it is not.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("not JSON ({error}): {:?}", self.data))
    }

    /// Returns the `type` of an AG-UI event, whether it comes alone or in an entry of the log; empty for anything else.
    ///
    /// # Panics
    /// When the data is not JSON.
    #[must_use]
    pub fn kind(&self) -> String {
        let data = self.json();
        let event = data.get("event").unwrap_or(&data);
        event["type"].as_str().unwrap_or_default().to_owned()
    }
}

/// A stream that is being read.
#[derive(Debug)]
pub struct SseClient {
    stream: TcpStream,
    /// The head of the answer, and its body when that is not a stream.
    pub reply: HttpReply,
    raw: Vec<u8>,
    text: Vec<u8>,
    ended: bool,
    /// Comments that came.
    pub comments: usize,
    /// The last `retry`.
    pub retry_ms: Option<u64>,
    /// The last `id`: what a browser would send as `Last-Event-ID`.
    pub last_id: Option<String>,
}

impl SseClient {
    /// Sends a request and reads the head of the answer; all of it when it is no stream.
    ///
    /// # Errors
    /// The server cannot be reached, or does not speak HTTP.
    pub async fn open(
        address: SocketAddr,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Self> {
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let body = body.map(Value::to_string).unwrap_or_default();
        if !body.is_empty() {
            text.push_str(&format!(
                "Content-Type: application/json\r\nContent-Length: {}\r\n",
                body.len()
            ));
        }
        text.push_str("\r\n");
        text.push_str(&body);
        let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.write_all(text.as_bytes()).await.context("cannot send")?;
        let mut client = Self {
            stream,
            reply: HttpReply {
                status: 0,
                headers: Vec::new(),
                body: Vec::new(),
            },
            raw: Vec::new(),
            text: Vec::new(),
            ended: false,
            comments: 0,
            retry_ms: None,
            last_id: None,
        };
        timeout(LIMIT, client.head()).await.context("no answer in time")??;
        Ok(client)
    }

    async fn head(&mut self) -> anyhow::Result<()> {
        let end = loop {
            if let Some(at) = find(&self.raw, b"\r\n\r\n") {
                break at + 4;
            }
            ensure!(self.read().await?, "no head");
        };
        let head = self.raw.drain(..end).collect::<Vec<_>>();
        let text = String::from_utf8_lossy(&head).to_ascii_lowercase();
        if text.contains("transfer-encoding: chunked") {
            // As if the body were empty: it comes later.
            self.reply = parse_reply(&[head.as_slice(), b"0\r\n\r\n"].concat())?;
            // All of a short one may have come with the head.
            return self.dechunk();
        }
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(Ok(0), str::parse::<usize>)?;
        while self.raw.len() < length {
            ensure!(self.read().await?, "the body is not whole");
        }
        self.ended = true;
        self.reply = parse_reply(&[head, self.raw.drain(..length).collect()].concat())?;
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<bool> {
        let mut bytes = [0; 4096];
        let count = self.stream.read(&mut bytes).await.context("cannot read")?;
        self.raw.extend_from_slice(&bytes[..count]);
        Ok(count > 0)
    }

    /// Takes whole chunks out of what was read.
    fn dechunk(&mut self) -> anyhow::Result<()> {
        while let Some(end) = find(&self.raw, b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..end])?;
            let size = usize::from_str_radix(size, 16).with_context(|| format!("chunk size {size:?}"))?;
            if self.raw.len() < end + 2 + size + 2 {
                return Ok(());
            }
            self.text.extend_from_slice(&self.raw[end + 2..end + 2 + size]);
            self.raw.drain(..end + 2 + size + 2);
            self.ended |= size == 0;
        }
        Ok(())
    }

    /// Takes the next frame out of the text.
    fn frame(&mut self) -> anyhow::Result<Option<SseEvent>> {
        while let Some(end) = find(&self.text, b"\n\n") {
            let frame = String::from_utf8(self.text.drain(..end + 2).collect())?;
            ensure!(!frame.contains('\r'), "CR in {frame:?}");
            let mut event = SseEvent::default();
            let mut data = Vec::new();
            for line in frame.lines().filter(|line| !line.is_empty()) {
                match line.split_once(": ") {
                    Some(("id", id)) => event.id = Some(id.to_owned()),
                    Some(("event", name)) => event.event = Some(name.to_owned()),
                    Some(("data", text)) => data.push(text),
                    Some(("retry", ms)) => self.retry_ms = Some(ms.parse()?),
                    _ if line.starts_with(':') => self.comments += 1,
                    _ => bail!("neither a field nor a comment: {line:?}"),
                }
            }
            if event.id.is_some() {
                self.last_id.clone_from(&event.id);
            }
            if !data.is_empty() {
                event.data = data.join("\n");
                return Ok(Some(event));
            }
        }
        Ok(None)
    }

    /// Waits for the next event; `None` at the end of the body.
    ///
    /// # Errors
    /// The connection broke off, or what came is no event stream.
    pub async fn try_next(&mut self) -> anyhow::Result<Option<SseEvent>> {
        loop {
            if let Some(event) = self.frame()? {
                return Ok(Some(event));
            }
            if self.ended {
                ensure!(self.text.is_empty(), "half an event at the end");
                return Ok(None);
            }
            let more = timeout(LIMIT, self.read()).await.context("nothing came in time")??;
            self.dechunk()?;
            ensure!(more || self.ended, "the stream was broken off");
        }
    }

    /// The same where a broken connection is a failure of the test.
    ///
    /// # Panics
    /// On an error of [`SseClient::try_next`].
    pub async fn next(&mut self) -> Option<SseEvent> {
        self.try_next().await.expect("an event stream")
    }

    /// Reads until an event is as asked; returns all that came, it too.
    ///
    /// # Panics
    /// When the stream ends before.
    pub async fn until(&mut self, wanted: impl Fn(&SseEvent) -> bool) -> Vec<SseEvent> {
        let mut all = Vec::new();
        loop {
            let event = self.next().await;
            let event = event.unwrap_or_else(|| panic!("the stream ended after {all:#?}"));
            let found = wanted(&event);
            all.push(event);
            if found {
                return all;
            }
        }
    }

    /// Reads to the end of the body.
    pub async fn rest(&mut self) -> Vec<SseEvent> {
        let mut all = Vec::new();
        while let Some(event) = self.next().await {
            all.push(event);
        }
        all
    }

    /// Returns the socket, to stop reading it.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }
}

/// Puts the text of an answer together from its events, alone or in entries of the log.
#[must_use]
pub fn text_of(events: &[SseEvent]) -> String {
    let delta = |event: &SseEvent| {
        let data = event.json();
        let event = data.get("event").unwrap_or(&data);
        event["delta"].as_str().map(str::to_owned)
    };
    let text = events.iter().filter(|event| event.kind() == "TEXT_MESSAGE_CONTENT");
    text.filter_map(delta).collect()
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
