//! `instruments`: what measuring costs. The same server with everything on and with everything off, the same load, in turns.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::baseline::PlaceArgs;
use crate::process::{self, Place, Process};
use crate::stats::Spread;
use crate::stream::{self, Load, Way};

/// Of the processor time of a delta the instruments may take so much.
const TARGET: f64 = 1.05;
/// What turns the instruments off.
const OFF: &[(&str, &str)] = &[("METRICS_ENABLED", "false"), ("RECORDER_TURNS", "0")];
/// What is the same for both.
const BOTH: &[(&str, &str)] = &[("SESSION_IDLE_TIMEOUT", "1s")];

/// What can be measured by itself.
const NAMES: [&str; 3] = ["stream50", "stream600", "saturated"];

/// How much is measured.
#[derive(Debug, Args)]
pub(crate) struct InstrumentsArgs {
    /// Rounds; each measures both servers, every other one in the other order
    #[arg(long, default_value_t = 10)]
    rounds: usize,
    /// Measure only this; may be given several times
    #[arg(long, value_name = "NAME", value_parser = NAMES)]
    only: Vec<String>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// One of the loads, and what both servers took for a delta in each round, in microseconds.
struct Kind {
    name: &'static str,
    label: &'static str,
    sessions: usize,
    deltas: usize,
    pace: f64,
    off: Vec<f64>,
    on: Vec<f64>,
}

impl Kind {
    const fn new(name: &'static str, label: &'static str, sessions: usize, deltas: usize, pace: f64) -> Self {
        Self {
            name,
            label,
            sessions,
            deltas,
            pace,
            off: Vec::new(),
            on: Vec::new(),
        }
    }
}

/// Runs it and prints a table; the exit code is 1 when a median misses the target.
pub(crate) fn run(args: &InstrumentsArgs) -> anyhow::Result<ExitCode> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let place = args.place.place()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let kinds = runtime.block_on(measure(&place, args))?;
    let mut out = std::io::stdout();
    writeln!(out, "| CPU of a delta, µs | off | on | on / off | target | met |")?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    let mut missed = false;
    for kind in &kinds {
        let ratio = Spread::of(kind.on.iter().zip(&kind.off).map(|(on, off)| on / off));
        let spreads = (
            Spread::of(kind.off.iter().copied()),
            Spread::of(kind.on.iter().copied()),
            ratio,
        );
        let (Some(off), Some(on), Some(ratio)) = spreads else {
            continue;
        };
        let met = ratio.median <= TARGET;
        missed |= !met;
        let met = if met { "yes" } else { "**no**" };
        writeln!(out, "| {} | {off} | {on} | {ratio} | ≤ {TARGET} | {met} |", kind.label)?;
    }
    Ok(ExitCode::from(u8::from(missed)))
}

async fn measure(place: &Place, args: &InstrumentsArgs) -> anyhow::Result<Vec<Kind>> {
    let mut kinds = vec![
        Kind::new("stream50", "50 sessions, 50 deltas/s each", 50, 300, 50.0),
        Kind::new("stream600", "600 sessions, 50 deltas/s each", 600, 300, 50.0),
        Kind::new("saturated", "50 sessions, saturated", 50, 4000, 0.0),
    ];
    kinds.retain(|kind| args.only.is_empty() || args.only.iter().any(|only| only == kind.name));
    let simulator = process::simulator(place, 50.0).await?;
    for round in 0..args.rounds.max(1) {
        // New ones: where a process happens to have its memory is worth some percent.
        let on = process::kronos(place, simulator.address(), BOTH).await?;
        let off = process::kronos(place, simulator.address(), &[BOTH, OFF].concat()).await?;
        for kind in &mut kinds {
            writeln!(std::io::stderr(), "round {}: {}", round + 1, kind.label)?;
            let pace = json!({"tokens_per_second": kind.pace});
            process::configure(&simulator, &pace).await?;
            let mut turn = [(true, &on), (false, &off)];
            if round % 2 == 1 {
                turn.reverse();
            }
            for (is_on, server) in turn {
                let spent = one(kind, &simulator, server, round).await?;
                if is_on { &mut kind.on } else { &mut kind.off }.push(spent);
            }
        }
    }
    Ok(kinds)
}

/// Runs one load; returns the microseconds of processor time for each delta.
async fn one(kind: &Kind, simulator: &Process, server: &Process, round: usize) -> anyhow::Result<f64> {
    let peers = stream::open(Way::Commit, simulator, Some(server), kind.sessions, round).await?;
    let load = Load {
        sessions: kind.sessions,
        deltas: kind.deltas,
        paced: kind.pace > 0.0,
    };
    let streamed = stream::run(load, peers, simulator, Some(server)).await?;
    Ok(streamed.cpu_us)
}
