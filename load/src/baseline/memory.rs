//! Resident memory of an idle attached socket whose session sleeps, at 1,000 and 9,000 of them, and of what is left of such a session
//! when its socket is gone.

use std::time::Duration;

use super::Baseline;
use crate::clock;
use crate::http;
use crate::peer::Peer;
use crate::process::{self, Process};
use crate::stream::{self, Way, count};

/// Time in which sessions must have fallen asleep; when they have not, what they take is counted.
const ASLEEP: Duration = Duration::from_secs(8);
/// Time for an allocator to give back what it will.
const REST: Duration = Duration::from_millis(500);
/// Most time for that after all sockets are gone, the time without change that ends it, and the least that is a change.
const GIVEN_BACK: Duration = Duration::from_secs(30);
const STILL: Duration = Duration::from_secs(4);
const STEP: u64 = 1 << 20;
/// Sockets that come and go before, so that what is made once does not count.
const WARM: usize = 100;

/// Measures all ways round by round, each time with new processes.
pub(super) async fn measure(bench: &mut Baseline) -> anyhow::Result<()> {
    if !bench.wants("memory") {
        return Ok(());
    }
    let steps = if bench.quick { [200, 1000] } else { [1000, 9000] };
    for round in 0..bench.rounds {
        for way in bench.served_ways() {
            bench.progress("memory", round, way)?;
            let simulator = process::simulator(&bench.place, 0.0).await?;
            let server = start(bench, way, &simulator).await?;
            let measures = ["small", "large", "stored"];
            for (measure, bytes) in measures.into_iter().zip(grow(way, &simulator, &server, steps).await?) {
                bench.samples.add(&format!("memory.{measure}"), way, bytes / 1024.0);
            }
        }
    }
    Ok(())
}

async fn start(bench: &Baseline, way: Way, simulator: &Process) -> anyhow::Result<Process> {
    if way == Way::Bare {
        return process::bare(&bench.place, simulator.address()).await;
    }
    let mut env = vec![("SESSION_IDLE_TIMEOUT", "1s"), ("PING_INTERVAL", "300s")];
    env.extend((way == Way::Relaxed).then_some(("DURABILITY", "relaxed")));
    process::kronos(&bench.place, simulator.address(), &env).await
}

/// Returns bytes for each socket after each step, and then for each session when all sockets are gone.
async fn grow(way: Way, simulator: &Process, server: &Process, steps: [usize; 2]) -> anyhow::Result<[f64; 3]> {
    drop(stream::open(way, simulator, Some(server), WARM, 0).await?);
    asleep(way, server).await?;
    let before = process::resident(server.pid())?;
    let mut peers: Vec<Peer> = Vec::new();
    let mut taken = [0.0; 3];
    for ((step, taken), round) in steps.into_iter().zip(&mut taken).zip(1..) {
        peers.extend(stream::open(way, simulator, Some(server), step - peers.len(), round).await?);
        asleep(way, server).await?;
        let grown = process::resident(server.pid())?.saturating_sub(before);
        *taken = count(usize::try_from(grown)?) / count(step);
    }
    let sessions = peers.len();
    drop(peers);
    let left = settled(server).await?.saturating_sub(before);
    if let Some(stored) = taken.last_mut() {
        *stored = count(usize::try_from(left)?) / count(sessions);
    }
    Ok(taken)
}

/// Returns what is resident when it shrinks no more: an allocator gives back what it will in some seconds.
async fn settled(server: &Process) -> anyhow::Result<u64> {
    let deadline = clock::instant() + GIVEN_BACK;
    let mut smallest = process::resident(server.pid())?;
    let mut since = clock::instant();
    while since.elapsed() < STILL && clock::instant() < deadline {
        tokio::time::sleep(REST).await;
        let now = process::resident(server.pid())?;
        if now + STEP < smallest {
            (smallest, since) = (now, clock::instant());
        }
    }
    Ok(smallest.min(process::resident(server.pid())?))
}

/// Waits until no session is in memory, or until it is clear that this will not happen.
async fn asleep(way: Way, server: &Process) -> anyhow::Result<bool> {
    let deadline = clock::instant() + ASLEEP;
    let mut slept = way == Way::Bare;
    while !slept && clock::instant() < deadline {
        slept = live_sessions(server).await? == 0;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(REST).await;
    Ok(slept)
}

/// Returns how many sessions the server holds in memory.
async fn live_sessions(server: &Process) -> anyhow::Result<u64> {
    let reply = http::request(server.address(), "GET", "/metrics", None).await?;
    let text = reply.text();
    let value = text.lines().find_map(|line| line.strip_prefix("kronos_sessions_live "));
    Ok(value.and_then(|value| value.trim().parse().ok()).unwrap_or(0))
}
