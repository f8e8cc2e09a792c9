//! Latency and processor time of each delta: 50 and 600 sessions at 50 deltas a second, and 50 as fast as it goes.

use std::time::Duration;

use serde_json::json;

use super::{Baseline, flush, servers::Servers};
use crate::process;
use crate::stream::{self, Load, Streamed, Way};

/// Deltas a second of a paced session.
const PACE: f64 = 50.0;
/// How long single flushes are measured in each round.
const FLUSHES: Duration = Duration::from_secs(1);

/// One of the loads.
struct Kind {
    name: &'static str,
    sessions: usize,
    deltas: usize,
    pace: f64,
}

fn kinds(quick: bool) -> [Kind; 3] {
    let (paced, fast) = if quick { (100, 500) } else { (300, 2000) };
    let kind = |name, sessions, deltas, pace| Kind {
        name,
        sessions,
        deltas,
        pace,
    };
    [
        kind("stream50", 50, paced, PACE),
        kind("stream600", 600, paced, PACE),
        kind("saturated", 50, fast, 0.0),
    ]
}

/// Measures all ways round by round.
pub(super) async fn measure(bench: &mut Baseline) -> anyhow::Result<()> {
    let kinds: Vec<Kind> = kinds(bench.quick)
        .into_iter()
        .filter(|kind| bench.wants(kind.name))
        .collect();
    if kinds.is_empty() {
        return Ok(());
    }
    let servers = Servers::start(bench, &[("SESSION_IDLE_TIMEOUT", "1s")]).await?;
    for round in 0..bench.rounds {
        // Beside the latencies that are held against it.
        let flush = flush::raw(&bench.place.folder, FLUSHES)?;
        bench.samples.add("flush.p50", Way::Direct, flush.p50_ms);
        bench.samples.add("flush.p99", Way::Direct, flush.p99_ms);
        for kind in &kinds {
            let pace = json!({"tokens_per_second": kind.pace});
            process::configure(&servers.simulator, &pace).await?;
            for (way, server) in servers.ways() {
                bench.progress(kind.name, round, way)?;
                let peers = stream::open(way, &servers.simulator, server, kind.sessions, round).await?;
                let load = Load {
                    sessions: kind.sessions,
                    deltas: kind.deltas,
                    paced: kind.pace > 0.0,
                };
                let streamed = stream::run(load, peers, &servers.simulator, server).await?;
                for (number, value) in numbers(&streamed) {
                    bench.samples.add(&format!("{}.{number}", kind.name), way, value);
                }
            }
        }
    }
    Ok(())
}

fn numbers(streamed: &Streamed) -> [(&'static str, f64); 9] {
    [
        ("delta_p50", streamed.delta_p50_ms),
        ("delta_p99", streamed.delta_p99_ms),
        ("first_p50", streamed.first_p50_ms),
        ("first_p99", streamed.first_p99_ms),
        ("cpu", streamed.cpu_us),
        ("rate", streamed.deltas_per_second),
        ("driver_cpu", streamed.driver_cpu_us),
        ("driver_busy", streamed.driver_busy),
        ("simulator_busy", streamed.simulator_busy),
    ]
}
