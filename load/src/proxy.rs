//! The proxy in the middle: between clients and a server, it passes on what both say, and lets somebody look at each message or change
//! it (`proxy/record.rs`, `proxy/fault.rs`).
//!
//! The handshake is passed on as it is, and so is everything that is no websocket: REST works through it, and the server refuses whom
//! it would refuse. Frames are passed on byte by byte, pings and close frames too; what one side does to its connection, the other
//! side sees. A side that reads slowly is written to slowly: nothing is queued.

mod fault;
mod frames;
mod handshake;
mod record;

use std::cell::RefCell;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::{Bytes, BytesMut};
use kronos_protocol::Codec;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::LocalSet;

pub(crate) use fault::{FaultArgs, run as run_faulty};
pub(crate) use record::{RecordArgs, run as run_recorder};

use frames::{Messages, Way};
use handshake::Opened;

/// How long one direction may go on when the other has ended.
const LINGER: Duration = Duration::from_secs(10);
/// Bytes that are read at once.
const PIECE: usize = 16 * 1024;

/// What becomes of a message.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It is passed on as it is.
    Pass,
    /// These are sent in its place, as messages of the same kind.
    Instead(Vec<Bytes>),
    /// It is passed on after a time; what comes behind it waits.
    Later(Duration),
    /// Both connections are reset.
    Reset,
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// With a close frame of this code.
    Closed(Option<u16>),
    /// Without one.
    Cut,
}

/// Somebody who looks at the messages of one connection.
pub(crate) trait Between {
    /// A message of the client.
    fn up(&mut self, message: &[u8]) -> Verdict;

    /// A message of the server.
    fn down(&mut self, message: &[u8]) -> Verdict;

    /// The connection is over.
    fn ended(&mut self, _ending: Ending) {}
}

/// The server behind the proxy.
#[derive(Debug, Clone)]
pub(crate) struct Upstream {
    /// `host:port`.
    authority: String,
    /// Where the websocket is, for a client that asks for `/`.
    path: String,
}

impl std::str::FromStr for Upstream {
    type Err = anyhow::Error;

    fn from_str(url: &str) -> anyhow::Result<Self> {
        let rest = url.strip_prefix("ws://").or_else(|| url.strip_prefix("http://"));
        let rest = rest.context("expected ws://HOST:PORT/PATH; the proxy does not speak TLS")?;
        let (authority, path) = rest.split_once('/').unwrap_or((rest, "ws"));
        ensure!(!authority.is_empty(), "expected ws://HOST:PORT/PATH");
        let port = if authority
            .rsplit_once(':')
            .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
        {
            ""
        } else {
            ":80"
        };
        Ok(Self {
            authority: format!("{authority}{port}"),
            path: format!("/{path}"),
        })
    }
}

/// Runs a proxy until Ctrl-C; `between` is asked for somebody for each websocket.
fn run<B: Between + 'static>(
    listen: SocketAddr,
    upstream: &Upstream,
    between: impl FnMut(Codec) -> B + 'static,
) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind(listen).await.with_context(|| format!("{listen}"))?;
        let listen = listener.local_addr()?;
        say(&format!(
            "listening on ws://{listen}/ws, in front of ws://{}{}",
            upstream.authority, upstream.path
        ));
        let serving = serve(listener, upstream.clone(), between);
        tokio::select! {
            result = serving => result,
            stopped = stopped() => stopped,
        }
    })
}

async fn stopped() -> anyhow::Result<()> {
    let mut terminated = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminated.recv() => {}
    }
    Ok(())
}

async fn serve<B: Between + 'static>(
    listener: TcpListener,
    upstream: Upstream,
    between: impl FnMut(Codec) -> B + 'static,
) -> anyhow::Result<()> {
    let between = Rc::new(RefCell::new(between));
    loop {
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) => {
                // Descriptors may be scarce for a moment.
                say(&format!("a connection was not accepted: {error}"));
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let (upstream, between) = (upstream.clone(), Rc::clone(&between));
        tokio::task::spawn_local(async move {
            let between = move |codec| between.borrow_mut()(codec);
            if let Err(error) = connection(client, &upstream, between).await {
                say(&format!("a connection failed: {error:#}"));
            }
        });
    }
}

/// One connection from its first byte to its last.
async fn connection<B: Between>(
    mut client: TcpStream,
    upstream: &Upstream,
    between: impl FnOnce(Codec) -> B,
) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    let connected = TcpStream::connect(&upstream.authority).await;
    let mut server = match connected {
        Ok(server) => server,
        Err(error) => {
            let bad = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            client.write_all(bad).await?;
            return Err(error).with_context(|| upstream.authority.clone());
        }
    };
    server.set_nodelay(true)?;
    match handshake::pass(&mut client, &mut server, upstream).await? {
        Opened::Websocket { codec, up, down } => {
            let between = RefCell::new(between(codec));
            let ending = websocket(&mut client, &mut server, (up, down), &between).await;
            between.borrow_mut().ended(ending);
        }
        Opened::Other => {
            // Whoever leaves first is no error.
            drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
        }
        Opened::Nothing => {}
    }
    Ok(())
}

/// Passes on messages until both sides are done, or one is cut: then so is the other.
async fn websocket<B: Between>(
    client: &mut TcpStream,
    server: &mut TcpStream,
    (up, down): (BytesMut, BytesMut),
    between: &RefCell<B>,
) -> Ending {
    let done = Notify::new();
    let (mut upward, mut downward) = (Messages::new(Way::Up, up), Messages::new(Way::Down, down));
    let result = {
        let (client_reads, client_writes) = client.split();
        let (server_reads, server_writes) = server.split();
        let both = async {
            tokio::try_join!(
                pump(
                    client_reads,
                    server_writes,
                    &mut upward,
                    |message| between.borrow_mut().up(message),
                    &done
                ),
                pump(
                    server_reads,
                    client_writes,
                    &mut downward,
                    |message| between.borrow_mut().down(message),
                    &done
                ),
            )
        };
        let too_long = async {
            done.notified().await;
            tokio::time::sleep(LINGER).await;
        };
        tokio::select! {
            both = both => both.map(drop),
            () = too_long => Ok(()),
        }
    };
    if result.is_err() {
        // A reset goes on as one.
        for side in [client, server] {
            SockRef::from(&*side).set_linger(Some(Duration::ZERO)).ok();
        }
    }
    match (upward.closed(), downward.closed()) {
        (Some(code), _) | (None, Some(code)) => Ending::Closed(code),
        (None, None) => Ending::Cut,
    }
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    messages: &mut Messages,
    mut look: impl FnMut(&[u8]) -> Verdict,
    done: &Notify,
) -> io::Result<()> {
    let mut out = Vec::new();
    loop {
        while let Some(frames) = messages.next()? {
            let Some(message) = frames.message() else {
                out.extend_from_slice(frames.bytes());
                continue;
            };
            match look(message) {
                Verdict::Pass => out.extend_from_slice(frames.bytes()),
                Verdict::Instead(others) => {
                    for other in others {
                        frames.write_instead(other, &mut out)?;
                    }
                }
                Verdict::Later(time) => {
                    to.write_all(&out).await?;
                    out.clear();
                    tokio::time::sleep(time).await;
                    out.extend_from_slice(frames.bytes());
                }
                Verdict::Reset => return Err(io::Error::from(io::ErrorKind::ConnectionReset)),
            }
        }
        if !out.is_empty() {
            to.write_all(&out).await?;
            out.clear();
        }
        messages.buffer().reserve(PIECE);
        if from.read_buf(messages.buffer()).await? == 0 {
            break;
        }
    }
    // The other side may be gone already.
    to.shutdown().await.ok();
    done.notify_one();
    Ok(())
}

/// Says something to whoever runs it.
fn say(line: &str) {
    // There is nobody to tell that nobody listens.
    writeln!(io::stderr(), "{line}").ok();
}
