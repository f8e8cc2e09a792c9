//! Slow clients beside many good ones: heads that drip, bodies that drip, answers that nobody reads.
//!
//! 1,000 requests at once and 300 slow clients by default; the long run:
//! ```text
//! KRONOS_REQUESTS=5000 KRONOS_SLOW=3000 cargo test --release --test chaos slow_clients -- --nocapture
//! ```

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use kronos_testkit::{KronosProc, eventually};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::harness::{LIMIT, kronos, number};

/// Pause between the bytes that a slow client sends.
const DRIP: Duration = Duration::from_millis(100);
/// Most that the server may take for all of it, in KiB: 1,300 connections of it have a few tens of KiB each.
const MEMORY_KIB: u64 = 96 * 1024;

/// How a client is slow.
#[derive(Debug, Clone, Copy)]
enum Slow {
    Head,
    Body,
    Reader,
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

/// Is slow until the server cuts it, or the test is over.
async fn be_slow(server: std::net::SocketAddr, how: Slow, over: Arc<AtomicBool>, cut: Arc<AtomicUsize>) {
    let mut stream = TcpStream::connect(server).await.expect("connects");
    let mut went = match how {
        Slow::Head => {
            stream
                .write_all(b"GET /api/v1/chat/ HTTP/1.1\r\nHost: x\r\nX-Drip: ")
                .await
        }
        Slow::Body => {
            let head = "POST /api/v1/chat/message HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n";
            stream.write_all(head.as_bytes()).await
        }
        Slow::Reader => Ok(()),
    };
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(100);
    while went.is_ok() && !over.load(Ordering::Relaxed) {
        let sending = match how {
            Slow::Head | Slow::Body => {
                sleep(DRIP).await;
                timeout(LIMIT, stream.write_all(b"x")).await
            }
            // Its window and the server's fill up; from then on nothing moves, until it is cut.
            Slow::Reader => timeout(LIMIT, stream.write_all(requests.as_bytes())).await,
        };
        went = sending.unwrap_or(Ok(()));
    }
    if went.is_err() {
        cut.fetch_add(1, Ordering::Relaxed);
    }
}

/// One good request; how long it took.
async fn ask(server: std::net::SocketAddr, path: &str) -> Result<Duration, String> {
    let begun = Instant::now();
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    match timeout(LIMIT, exchange).await {
        Ok(Ok(answer)) if answer.starts_with("HTTP/1.1 200") => Ok(begun.elapsed()),
        other => Err(format!("{path}: {other:?}")),
    }
}

#[tokio::test]
async fn slow_clients_are_cut_and_nobody_else_sees_an_error() {
    let (requests, slow) = (number("KRONOS_REQUESTS", 1000), number("KRONOS_SLOW", 300));
    println!("KRONOS_REQUESTS={requests} KRONOS_SLOW={slow}");
    let env = [
        ("REQUEST_TIMEOUT", "3s"),
        ("BODY_TIMEOUT", "3s"),
        ("ANSWER_TIMEOUT", "3s"),
        ("HEALTH_PROBE_INTERVAL", "1s"),
        // Counted, but not refused: it is all one address and one user.
        ("RATE_LIMIT_PER_ADDRESS", "100000000"),
        ("RATE_LIMIT_PER_USER", "100000000"),
    ];
    let kronos = kronos(0.0, &env).await;
    let server = kronos.server.address();
    let before = resident_kib(&kronos.server);
    let (over, cut) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let kinds = [Slow::Head, Slow::Body, Slow::Reader].into_iter().cycle().take(slow);
    let slow_ones: Vec<JoinHandle<()>> = kinds
        .map(|how| tokio::spawn(be_slow(server, how, Arc::clone(&over), Arc::clone(&cut))))
        .collect();
    let (mut rounds, mut times, mut most) = (0, Vec::new(), before);
    // As long as any of them is left, and at least three times.
    while rounds < 3 || cut.load(Ordering::Relaxed) < slow {
        assert!(rounds < 200, "{} of {slow} were cut", cut.load(Ordering::Relaxed));
        let paths = ["/health", "/api/v1/chat/?user_id=ann"]
            .into_iter()
            .cycle()
            .take(requests);
        for answer in join_all(paths.map(|path| ask(server, path))).await {
            times.push(answer.expect("a good request is answered"));
        }
        most = most.max(resident_kib(&kronos.server));
        rounds += 1;
    }
    over.store(true, Ordering::Relaxed);
    join_all(slow_ones).await;
    times.sort_unstable();
    println!(
        "{rounds} rounds of {requests} at once beside {slow} slow clients, all cut; median {:?}, p99 {:?}, longest {:?}; memory \
         {before} KiB before, {most} KiB at most",
        times[times.len() / 2],
        times[times.len() * 99 / 100],
        times[times.len() - 1]
    );
    assert!(
        most - before < MEMORY_KIB * (requests + slow) as u64 / 1300,
        "{before} KiB, then {most} KiB"
    );
    let text = kronos.server.get("/metrics", &[]).await.text();
    for bound in ["request_timeout", "body_timeout", "answer_timeout"] {
        let name = format!("kronos_refusals_total{{bound=\"{bound}\"}} ");
        let count = text
            .lines()
            .find_map(|line| line.strip_prefix(&name)?.trim().parse::<usize>().ok());
        assert!(count >= Some(slow / 3), "{bound}: {count:?}");
    }
    let active = "kronos_http_requests_active 1";
    eventually(LIMIT, "no request is left but this one", || async {
        kronos.server.get("/metrics", &[]).await.text().contains(active)
    })
    .await;
}
