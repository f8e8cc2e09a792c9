//! Idle sockets cost a socket, not a session: what nobody needs leaves memory, and wakes when something is said.
//!
//! 300 sockets by default; the long run:
//! ```text
//! KRONOS_SOCKETS=10000 cargo test --release --test chaos idle -- --nocapture
//! ```

use std::time::Duration;

use futures_util::{StreamExt as _, future::join_all, stream};
use kronos_protocol::{SendMode, SessionId};
use kronos_testkit::{KronosProc, WsClient, eventually};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom as _};
use tokio::time::Instant;

use crate::harness::{Kronos, LIMIT, guest, kronos, number, seed};

const AT_ONCE: usize = 64;
/// One of so many conversations has a second device.
const SECOND_DEVICE: usize = 10;

struct Client {
    session: SessionId,
    socket: WsClient,
    second: Option<WsClient>,
}

async fn start(kronos: &Kronos, number: usize) -> Client {
    let user = format!("user-{number}");
    let mut socket = kronos.server.connect(guest(&user, number)).await;
    let session = socket.attach_new().await;
    socket.until_caught_up(&session).await;
    let mut second = None;
    if number.is_multiple_of(SECOND_DEVICE) {
        let mut device = kronos.server.connect(guest(&user, number + 1)).await;
        device.attach(&session, None).await;
        device.until_caught_up(&session).await;
        second = Some(device);
    }
    Client {
        session,
        socket,
        second,
    }
}

impl Client {
    /// Says something; returns how long its ack took.
    async fn wakes(&mut self, turn: usize) -> Duration {
        let (session, id) = (&self.session, format!("m_{turn}"));
        let asked = Instant::now();
        let sent = self
            .socket
            .send(session, &id, "[[tokens 8]] wake up", SendMode::Queue)
            .await;
        let acked = asked.elapsed();
        self.socket.until_idle(session).await;
        assert_eq!(self.socket.transcript(session).messages.len(), 2 * turn);
        if let Some(second) = &mut self.second {
            let past = |client: &WsClient| client.cursor(session).is_some_and(|cursor| cursor.seq > sent.seq);
            second.until("the events of the other device", past).await;
            second.until_idle(session).await;
            assert_eq!(second.transcript(session), self.socket.transcript(session));
        }
        acked
    }

    fn shown(&self) -> usize {
        self.socket.transcript(&self.session).messages.len()
    }
}

/// The sum of a metric's samples.
async fn metric(server: &KronosProc, name: &str) -> u64 {
    let text = server.get("/metrics", &[]).await.text();
    let of = |line: &&str| line.split(['{', ' ']).next() == Some(name);
    let value = |line: &str| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok());
    text.lines().filter(of).filter_map(value).sum()
}

/// Resident memory of the server in KiB; 0 where `/proc` does not tell.
fn resident_kib(server: &KronosProc) -> u64 {
    let status = server
        .pid()
        .and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok())
        .unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

async fn all_asleep(server: &KronosProc, sockets: usize) {
    eventually(LIMIT, "every session leaves memory", || async {
        match metric(server, "kronos_sessions_live").await {
            0 => Ok(()),
            live => Err(format!("{live} live")),
        }
    })
    .await;
    let connections = metric(server, "kronos_connections").await;
    assert_eq!(connections, sockets as u64, "their sockets stay");
}

#[tokio::test]
async fn idle_sockets_sleep_and_wake_when_something_is_said() {
    let (sockets, seed) = (number("KRONOS_SOCKETS", 300), seed());
    println!("KRONOS_SEED={seed} KRONOS_SOCKETS={sockets}");
    let many = (2 * sockets).to_string();
    let env = [
        ("SESSION_IDLE_TIMEOUT", "1s"),
        ("MAX_CONNECTIONS", many.as_str()),
        ("MAX_CONNECTIONS_PER_ADDRESS", many.as_str()),
    ];
    let kronos = kronos(0.0, &env).await;
    let before = resident_kib(&kronos.server);
    let connecting = stream::iter(0..sockets).map(|number| start(&kronos, number));
    let mut clients: Vec<Client> = connecting.buffer_unordered(AT_ONCE).collect().await;
    let all = sockets + clients.iter().filter(|client| client.second.is_some()).count();
    all_asleep(&kronos.server, all).await;
    let bytes = resident_kib(&kronos.server).saturating_sub(before) * 1024 / all as u64;

    clients.shuffle(&mut StdRng::seed_from_u64(seed));
    let (woken, others) = clients.split_at_mut((sockets / 10).min(100));
    let mut acks = Vec::new();
    for turn in 1..=2 {
        acks.extend(join_all(woken.iter_mut().map(|client| client.wakes(turn))).await);
        // Asleep again, and the next word wakes it again.
        all_asleep(&kronos.server, all).await;
    }
    let second = woken.iter().filter(|client| client.second.is_some()).count();
    acks.sort_unstable();
    println!(
        "sockets {all}, bytes a socket {bytes}, woken {} twice ({second} with a second device), \
         ack of what wakes: median {:?}, longest {:?}",
        woken.len(),
        acks[acks.len() / 2],
        acks[acks.len() - 1]
    );
    assert!(second > 0, "a second device has seen the events of another");
    assert!(others.iter().all(|client| client.shown() == 0), "the others sleep on");
}
