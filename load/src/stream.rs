//! One load: some sessions that each ask once and read the answer, and what that cost whom.

use std::time::Duration;

use anyhow::Context as _;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::Serialize;
use tokio::task::LocalSet;

use crate::clock;
use crate::peer::{Attached, Peer, Socket, Turn};
use crate::process::{self, Process};
use crate::stats::percentile;

/// Connections that are opened at once while a load is prepared.
const OPENING: usize = 64;
/// Over this time sessions of a paced load begin, so that their deltas do not come in step.
const STAGGER: Duration = Duration::from_secs(1);
/// After the last answer: what is done then (packing) belongs to it.
const SETTLE: Duration = Duration::from_millis(300);

/// A way to the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, PartialOrd, Ord)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// The simulator itself.
    Direct,
    /// The bare proxy.
    Bare,
    /// The server, that commits before it shows.
    Commit,
    /// The server with `DURABILITY=relaxed`.
    Relaxed,
}

/// What all sessions of a load do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// How many.
    pub(crate) sessions: usize,
    /// Deltas of each answer.
    pub(crate) deltas: usize,
    /// The simulator keeps a pace: sessions begin one after the other.
    pub(crate) paced: bool,
}

/// What a load came to.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Streamed {
    /// Deltas that arrived.
    pub(crate) deltas: usize,
    /// Deltas per second, from the first question to the last end.
    pub(crate) deltas_per_second: f64,
    /// Age of a delta at its arrival, in milliseconds.
    pub(crate) delta_p50_ms: f64,
    /// The same, of the slowest in a hundred.
    pub(crate) delta_p99_ms: f64,
    /// From the question to the first delta.
    pub(crate) first_p50_ms: f64,
    /// The same, of the slowest in a hundred.
    pub(crate) first_p99_ms: f64,
    /// Processor time of the way for each delta, in microseconds; 0 when there is nothing in between.
    pub(crate) cpu_us: f64,
    /// Processor time of this load tester for each delta.
    pub(crate) driver_cpu_us: f64,
    /// The part of one core that this load tester used.
    pub(crate) driver_busy: f64,
    /// The part of one core that the simulator used.
    pub(crate) simulator_busy: f64,
}

/// Opens `count` peers; `round` keeps their users apart.
pub(crate) async fn open(
    way: Way,
    simulator: &Process,
    server: Option<&Process>,
    count: usize,
    round: usize,
) -> anyhow::Result<Vec<Peer>> {
    let open_one = |number: usize| async move {
        let Some(server) = server.filter(|_| way != Way::Direct) else {
            return Ok(Peer::Direct(simulator.address()));
        };
        if way == Way::Bare {
            return Ok(Peer::Bare(Socket::connect(server.address(), "/ws").await?));
        }
        let attached = Attached::create(server.address(), &format!("u{round}x{number}")).await?;
        anyhow::Ok(Peer::Kronos(attached))
    };
    stream::iter(0..count)
        .map(open_one)
        .buffer_unordered(OPENING)
        .try_collect()
        .await
}

/// Lets all sessions ask once and read to the end.
pub(crate) async fn run(
    load: Load,
    peers: Vec<Peer>,
    simulator: &Process,
    server: Option<&Process>,
) -> anyhow::Result<Streamed> {
    let busy = || -> anyhow::Result<[Duration; 3]> {
        let served = server.map_or(Ok(Duration::ZERO), |server| process::cpu(server.pid()))?;
        Ok([
            served,
            process::cpu(std::process::id())?,
            process::cpu(simulator.pid())?,
        ])
    };
    let (before, began) = (busy()?, clock::instant());
    let turns = all_turns(load, peers).await?;
    let took = began.elapsed();
    tokio::time::sleep(SETTLE).await;
    let after = busy()?;
    let [served, driver, simulated] = std::array::from_fn(|at| after[at].saturating_sub(before[at]));
    let mut ages: Vec<u32> = turns.iter().flat_map(|turn| turn.ages.iter().copied()).collect();
    let mut firsts: Vec<u32> = turns.iter().map(|turn| turn.first).collect();
    let wanted = load.sessions * load.deltas;
    anyhow::ensure!(ages.len() == wanted, "{} of {wanted} deltas arrived", ages.len());
    let each = |spent: Duration| spent.as_secs_f64() * 1e6 / count(ages.len());
    Ok(Streamed {
        deltas: ages.len(),
        deltas_per_second: count(ages.len()) / took.as_secs_f64(),
        cpu_us: each(served),
        driver_cpu_us: each(driver),
        driver_busy: driver.as_secs_f64() / took.as_secs_f64(),
        simulator_busy: simulated.as_secs_f64() / took.as_secs_f64(),
        delta_p50_ms: percentile(&mut ages, 0.5) / 1e3,
        delta_p99_ms: percentile(&mut ages, 0.99) / 1e3,
        first_p50_ms: percentile(&mut firsts, 0.5) / 1e3,
        first_p99_ms: percentile(&mut firsts, 0.99) / 1e3,
    })
}

/// A part of the period of a delta, spread evenly over the sessions: starts at equal distances would be in step again when the
/// distance is the period itself.
fn phase(number: u32) -> f64 {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    const PERIOD: f64 = 0.02;
    PERIOD * (f64::from(number) * GOLDEN).fract()
}

async fn all_turns(load: Load, peers: Vec<Peer>) -> anyhow::Result<Vec<Turn>> {
    let question = format!("[[clock]][[tokens {}]]", load.deltas);
    let local = LocalSet::new();
    let count = u32::try_from(peers.len()).unwrap_or(u32::MAX);
    let tasks: Vec<_> = peers
        .into_iter()
        .zip(0_u32..)
        .map(|(mut peer, number)| {
            let question = question.clone();
            let wait = if load.paced {
                STAGGER.mul_f64(f64::from(number) / f64::from(count.max(1)) + phase(number))
            } else {
                Duration::ZERO
            };
            local.spawn_local(async move {
                tokio::time::sleep(wait).await;
                peer.turn("m_1", &question).await
            })
        })
        .collect();
    let collect = async {
        let mut turns = Vec::with_capacity(tasks.len());
        for task in tasks {
            turns.push(task.await.context("a session panicked")??);
        }
        Ok(turns)
    };
    local.run_until(collect).await
}

/// Returns a count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts of a run, far below 2^52")]
pub(crate) fn count(items: usize) -> f64 {
    items as f64
}
