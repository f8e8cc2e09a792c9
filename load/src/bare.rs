//! The yardstick: the least that somebody would write to bring a model's answer to a websocket. No history, no store, no resume; a
//! text message is a question, each delta of the answer is one frame, and `cancel` drops the request.
//!
//! Tuned as fairly as the server: no delay on both sides, small buffers, one worker per core, HTTP/1.1 to the model.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config};

use crate::stamps::find;

/// The message that stops an answer.
pub(crate) const CANCEL: &str = "cancel";
/// The frame after the last delta.
pub(crate) const DONE: &str = r#"{"done":true}"#;
/// Connections that the kernel may hold until they are accepted, as the server's default.
const BACKLOG: u32 = 8192;
/// Threads, as the server takes on the machine of two cores that it is measured on.
const MAX_WORKERS: usize = 2;

/// Where the proxy listens and asks.
#[derive(Debug, Args)]
pub(crate) struct BareArgs {
    /// Port to listen on
    #[arg(long)]
    port: u16,
    /// Address of the model's API, such as http://127.0.0.1:8090
    #[arg(long)]
    upstream: String,
}

#[derive(Serialize)]
struct Delta<'a> {
    delta: &'a str,
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    candidates: Vec<Candidate>,
}

#[derive(Deserialize)]
struct Candidate {
    #[serde(default)]
    content: Content,
}

#[derive(Default, Deserialize)]
struct Content {
    #[serde(default)]
    parts: Vec<Part>,
}

#[derive(Deserialize)]
struct Part {
    #[serde(default)]
    text: String,
}

/// Small buffers: the defaults touch 128 KiB for each socket. Frames that come at once leave in one write.
pub(crate) fn small_buffers() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4096)
        .write_buffer_size(4096)
}

/// Runs the proxy until it is killed.
pub(crate) fn run(args: &BareArgs) -> anyhow::Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers.min(MAX_WORKERS))
        .enable_all()
        .build()?
        .block_on(serve(args))
}

async fn serve(args: &BareArgs) -> anyhow::Result<()> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let client = reqwest::Client::builder()
        .http1_only()
        .tcp_nodelay(true)
        .no_proxy()
        .tls_certs_only([])
        .connect_timeout(Duration::from_secs(5))
        .build()?;
    let upstream = format!(
        "{}/v1beta/models/gemini-3.8-flash:streamGenerateContent?alt=sse",
        args.upstream
    );
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, args.port)))?;
    let listener = socket.listen(BACKLOG)?;
    loop {
        let (stream, _) = listener.accept().await?;
        let (client, upstream) = (client.clone(), upstream.clone());
        tokio::spawn(async move {
            // A client that leaves is no error.
            drop(connection(stream, client, upstream).await);
        });
    }
}

async fn connection(mut stream: TcpStream, client: reqwest::Client, upstream: String) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut first = [0; 6];
    stream.peek(&mut first).await?;
    if &first == b"GET / " {
        // Whoever waits for the start. What is left unread would reset the connection.
        let mut request = [0; 1024];
        loop {
            let read = stream.read(&mut request).await?;
            if read == 0 || request.get(..read).is_some_and(|part| part.ends_with(b"\r\n\r\n")) {
                break;
            }
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            .await?;
        return Ok(());
    }
    let mut socket = accept_async_with_config(stream, Some(small_buffers())).await?;
    while let Some(message) = socket.next().await {
        if let Message::Text(question) = message?
            && question != CANCEL
        {
            answer(&mut socket, &client, &upstream, &question).await?;
        }
    }
    Ok(())
}

/// Streams one answer; returns when it is complete or cancelled.
async fn answer(
    socket: &mut WebSocketStream<TcpStream>,
    client: &reqwest::Client,
    upstream: &str,
    question: &str,
) -> anyhow::Result<()> {
    let body = json!({"contents": [{"role": "user", "parts": [{"text": question}]}]});
    let request = client.post(upstream).header("x-goog-api-key", "benchmark").json(&body);
    let mut response = request.send().await?.error_for_status()?;
    let mut events = Vec::new();
    loop {
        let piece = tokio::select! {
            piece = response.chunk() => piece?,
            message = socket.next() => match message.context("closed")?? {
                Message::Text(text) if text == CANCEL => break,
                Message::Text(_) => bail!("one question at a time"),
                _ => continue,
            },
        };
        let Some(piece) = piece else { break };
        events.extend_from_slice(&piece);
        let mut used = 0;
        while let Some(end) = find(events.get(used..).unwrap_or_default(), b"\r\n\r\n") {
            let event = events.get(used..used + end).unwrap_or_default();
            used += end + 4;
            let Some(data) = event.strip_prefix(b"data: ") else {
                continue;
            };
            for delta in texts(data)? {
                let frame = serde_json::to_string(&Delta { delta: &delta })?;
                socket.feed(Message::Text(Utf8Bytes::from(frame))).await?;
            }
        }
        events.drain(..used);
        // One flush for what came at once.
        socket.flush().await?;
    }
    drop(response);
    socket.send(Message::Text(Utf8Bytes::from_static(DONE))).await?;
    Ok(())
}

fn texts(data: &[u8]) -> anyhow::Result<impl Iterator<Item = String>> {
    let chunk: Chunk = serde_json::from_slice(data)?;
    let parts = chunk
        .candidates
        .into_iter()
        .flat_map(|candidate| candidate.content.parts);
    Ok(parts.map(|part| part.text).filter(|text| !text.is_empty()))
}
