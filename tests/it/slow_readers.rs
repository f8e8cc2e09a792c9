//! Readers that are slow, dead or gone: what they cost, what they see, and that nobody else notices.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{SinkExt as _, StreamExt as _};
use kronos_protocol::{SendMode, SessionId};
use kronos_testkit::{RawFrame, RawWs, WsClient, eventually, opcode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Interval, MissedTickBehavior, interval},
};
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::WebSocketConfig},
};

use crate::harness::{Kronos, kronos_with};

const LIMIT: Duration = Duration::from_secs(20);
/// Most memory that a test's stream and its readers may take, in KiB.
const FLAT: u64 = 24 * 1024;

/// A socket of which so many bytes are read in each interval, and no more.
struct Throttled {
    inner: TcpStream,
    bytes: usize,
    tick: Interval,
}

impl Throttled {
    async fn connect(kronos: &Kronos, bytes: usize, every: Duration) -> Self {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            inner: TcpStream::connect(kronos.server.address()).await.unwrap(),
            bytes,
            tick,
        }
    }
}

impl AsyncRead for Throttled {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        ready!(self.tick.poll_tick(cx));
        let mut bytes = vec![0; self.bytes.min(buffer.remaining())];
        let mut part = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut part))?;
        buffer.put_slice(part.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Throttled {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// A device that reads slowly, as a library on a bad network does: it answers pings when it comes to them.
struct Slow {
    socket: WebSocketStream<Throttled>,
    text: String,
    last: u64,
}

impl Slow {
    async fn attach(kronos: &Kronos, session: &SessionId, bytes: usize, every: Duration) -> Self {
        let stream = Throttled::connect(kronos, bytes, every).await;
        let url = format!("{}?user=ann", kronos.server.ws_url());
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let request = url.into_client_request().unwrap();
        let (mut socket, _) = client_async_with_config(request, stream, Some(config)).await.unwrap();
        for command in [
            json!({"op": "hello", "ref": "1"}),
            json!({"op": "attach", "ref": "2", "session": session}),
        ] {
            socket.send(Message::text(command.to_string())).await.unwrap();
        }
        Self {
            socket,
            text: String::new(),
            last: 0,
        }
    }

    /// Reads until the run has ended; each event must come once and in order.
    async fn until_finished(&mut self) {
        loop {
            let message = self.socket.next().await.expect("not the end").expect("a message");
            let text = match message {
                Message::Text(text) => text,
                Message::Close(close) => panic!("closed: {close:?}"),
                _ => continue,
            };
            let frame: Value = serde_json::from_str(&text).unwrap();
            for entry in frame["events"].as_array().into_iter().flatten() {
                let seq = entry["seq"].as_u64().unwrap();
                assert_eq!(entry["first"].as_u64().unwrap_or(seq), self.last + 1, "{entry}");
                self.last = seq;
                let event = &entry["event"];
                match event["type"].as_str().unwrap() {
                    "TEXT_MESSAGE_CONTENT" => self.text.push_str(event["delta"].as_str().unwrap()),
                    "RUN_FINISHED" => return,
                    _ => {}
                }
            }
        }
    }
}

/// Attaches a session and reads nothing from then on.
pub(crate) async fn dead_reader(kronos: &Kronos, session: &SessionId) -> RawWs {
    let mut socket = RawWs::open(kronos.server.address(), "/ws?user=ann", &[], LIMIT)
        .await
        .unwrap();
    for command in [
        json!({"op": "hello", "ref": "1"}),
        json!({"op": "attach", "ref": "2", "session": session}),
    ] {
        socket.send(&RawFrame::text(&command.to_string())).await.unwrap();
    }
    socket
}

/// Memory of the server in KiB: what is resident now.
fn resident(kronos: &Kronos) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", kronos.server.pid().unwrap())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// Reads a stream of `tokens` to its end and leaves; the text, and for how long it stood still at most.
///
/// It leaves because a client that does not read on answers no pings: soon it is a dead reader, too.
async fn read_on(mut client: WsClient, session: &SessionId, tokens: u32) -> (String, Duration) {
    let text = format!("[[tokens {tokens}]] a long story");
    client.send(session, "m_1", &text, SendMode::Queue).await;
    client.until_running(session).await;
    let (mut longest, mut last) = (Duration::ZERO, Instant::now());
    while client.active_run(session).is_some() {
        let before = client.cursor(session);
        client.until("news", |client| client.cursor(session) != before).await;
        longest = longest.max(last.elapsed());
        last = Instant::now();
    }
    let answer = client.transcript(session).last_answer().to_owned();
    client.finish().await;
    (answer, longest)
}

#[tokio::test]
async fn readers_that_take_nothing_are_cut_with_4450_and_cost_nothing() {
    const DEAD: u64 = 10;
    let kronos = kronos_with(1000.0, &[("WRITE_TIMEOUT", "2s")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_0", "[[tokens 2000]] to warm up").await;
    let before = resident(&kronos);
    let mut dead = Vec::new();
    for _ in 0..DEAD {
        dead.push(dead_reader(&kronos, &session).await);
    }
    let (_, silence) = read_on(client, &session, 6000).await;
    assert!(silence < Duration::from_secs(1), "the other reader waited {silence:?}");
    let all_cut = || async { kronos.closes(4450).await >= DEAD };
    eventually(LIMIT, "all are closed with 4450", all_cut).await;
    let gone = || async { kronos.series("kronos_connections").await == 0 };
    eventually(LIMIT, "all are gone", gone).await;
    assert_eq!(kronos.closes(4450).await, DEAD, "once each");
    let grown = resident(&kronos).saturating_sub(before);
    assert!(grown < FLAT, "{grown} KiB more");
    for socket in &mut dead {
        assert_eq!(socket.expect_close(4450).await, r#"{"retry":true}"#);
        socket.expect_eof().await.unwrap();
    }
}

/// With nothing held back the dispatcher itself is stuck, and the actor with it: only the watch can end that.
#[tokio::test]
async fn a_connection_that_is_stuck_in_writing_is_cut_from_outside() {
    let env = [
        ("WRITE_TIMEOUT", "2s"),
        ("UNREAD_BYTES", "1GiB"),
        ("LOG_LEVEL", "warn,kronos_actors::connection=debug"),
    ];
    let kronos = kronos_with(8000.0, &env).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let socket = dead_reader(&kronos, &session).await;
    // A megabyte: more than the buffers of both kernels take.
    let text = format!("[[tokens 3]] {}", "😀".repeat(31_000));
    for n in 0..8 {
        client.ask(&session, &format!("m_{n}"), &text).await;
    }
    client.finish().await;
    let cut = || async {
        let state = (kronos.closes(4450).await, kronos.series("kronos_connections").await);
        if state == (1, 0) { Ok(()) } else { Err(state) }
    };
    eventually(LIMIT, "it is cut and counted", cut).await;
    let output = kronos.server.output();
    assert_eq!(
        output.matches("cutting connection").count(),
        1,
        "not by its own actor: {output}"
    );
    let mut rest = Vec::new();
    let mut stream = socket.into_stream();
    let ended = tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest)).await;
    drop(ended.expect("what was sent, and the end"));
}

#[tokio::test]
async fn a_slow_reader_lives_and_ends_with_the_same_text() {
    let kronos = kronos_with(1000.0, &[("WRITE_TIMEOUT", "3s")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let before = resident(&kronos);
    // Eight kilobytes a second for a time-out that is a tenth of the default one.
    let mut slow = Slow::attach(&kronos, &session, 800, Duration::from_millis(100)).await;
    let begun = Instant::now();
    let ((answer, silence), ()) = tokio::join!(read_on(client, &session, 8000), slow.until_finished());
    assert!(silence < Duration::from_secs(1), "the other reader waited {silence:?}");
    let took = begun.elapsed();
    assert!(
        took > Duration::from_secs(6),
        "not slow enough to show anything: {took:?}"
    );
    assert_eq!(slow.text, answer);
    assert_eq!(kronos.closes(4450).await, 0);
    let grown = resident(&kronos).saturating_sub(before);
    assert!(grown < FLAT, "{grown} KiB more");
}

#[tokio::test]
async fn no_more_is_sent_than_may_be_unread() {
    const UNREAD: usize = 8 * 1024;
    const BATCH: usize = 8 * 1024;
    let env = [("WRITE_TIMEOUT", "2s"), ("UNREAD_BYTES", "8KiB")];
    let kronos = kronos_with(2000.0, &env).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    // It reads all that comes and answers no ping, so the server does not know.
    let mut silent = dead_reader(&kronos, &session).await;
    let reading = async {
        let mut bytes = 0;
        loop {
            let frame = silent.next_frame().await.unwrap().expect("a close frame first");
            match frame.opcode {
                opcode::TEXT => bytes += frame.payload.len(),
                opcode::CLOSE => return (bytes, frame.close().unwrap().0),
                _ => {}
            }
        }
    };
    let ((bytes, code), _) = tokio::join!(reading, read_on(client, &session, 6000));
    assert_eq!(code, 4450);
    assert!((UNREAD..UNREAD + BATCH + 1024).contains(&bytes), "{bytes}");
}

/// Sends a signal to the server's process.
fn signal(kronos: &Kronos, name: &str) {
    let pid = kronos.server.pid().unwrap();
    let status = std::process::Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status();
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn a_server_that_stood_still_takes_nobody_for_dead() {
    let env = [
        ("WRITE_TIMEOUT", "800ms"),
        ("PING_INTERVAL", "800ms"),
        ("UNREAD_BYTES", "4KiB"),
    ];
    let kronos = kronos_with(400.0, &env).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client
        .send(&session, "m_1", "[[tokens 1200]] a long story", SendMode::Queue)
        .await;
    let pauses = async {
        for _ in 0..2 {
            eventually(LIMIT, "it answers", || async { kronos.closes(4450).await == 0 }).await;
            signal(&kronos, "STOP");
            // Nothing happens that could be waited for.
            tokio::time::sleep(Duration::from_secs(2)).await;
            signal(&kronos, "CONT");
        }
    };
    let ((), ()) = tokio::join!(client.until_idle(&session), pauses);
    let answer = client.transcript(&session).last_answer().to_owned();
    assert_eq!(answer.split_whitespace().count(), 1200);
    assert_eq!((kronos.closes(4450).await, kronos.closes(1001).await), (0, 0));
    client.finish().await;
}

#[tokio::test]
async fn a_peer_that_answers_no_ping_is_gone_after_two_intervals() {
    let kronos = kronos_with(400.0, &[("PING_INTERVAL", "700ms")]).await;
    let begun = Instant::now();
    let mut socket = RawWs::open(kronos.server.address(), "/ws?user=ann", &[], LIMIT)
        .await
        .unwrap();
    socket
        .send(&RawFrame::text(r#"{"op":"hello","ref":"1"}"#))
        .await
        .unwrap();
    let gone = || async { kronos.series("kronos_connections").await == 0 && kronos.closes(1001).await == 1 };
    eventually(LIMIT, "it is gone", gone).await;
    assert!(
        begun.elapsed() > Duration::from_millis(1400),
        "not before two intervals"
    );
    assert_eq!(socket.expect_close(1001).await, r#"{"retry":true}"#);
    socket.expect_eof().await.unwrap();
}
