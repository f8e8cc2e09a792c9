//! `panics`: one input in a hundred makes its session panic; nobody else may notice, and parked sessions open again.

use std::cell::Cell;
use std::io::Write as _;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use serde_json::json;
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::baseline::PlaceArgs;
use crate::http;
use crate::peer::{Attached, Peer};
use crate::process::{self, Process};
use crate::stats::{Spread, percentile};

/// Deltas a second of each answer.
const PACE: f64 = 50.0;
/// Words of each answer.
const WORDS: usize = 50;
/// Questions of each session in a round.
const TURNS: usize = 5;
/// Of so many sessions one gets bad inputs.
const ONE_IN: usize = 100;
/// What makes a session panic.
const BAD: &str = "[[panic]]";
/// Time in which a turn must have ended.
const ANSWER: Duration = Duration::from_secs(60);
/// The p99 of the others with panics, at most, over theirs without.
const TARGET: f64 = 1.2;

/// How large.
#[derive(Debug, Args)]
pub(crate) struct PanicsArgs {
    /// Sessions that ask at the same time
    #[arg(long, default_value_t = 200)]
    sessions: usize,
    /// Rounds without and with panics, in turn
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What a round came to.
#[derive(Default)]
struct Round {
    /// Ages of the deltas of the sessions that were left alone.
    ages: Vec<u32>,
    errors: Vec<String>,
}

/// Runs it; the exit code says whether anybody else saw an error or a parked session stayed closed.
pub(crate) fn run(args: &PanicsArgs) -> anyhow::Result<ExitCode> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wrong = runtime.block_on(check(args))?;
    Ok(ExitCode::from(u8::from(wrong)))
}

async fn check(args: &PanicsArgs) -> anyhow::Result<bool> {
    let place = args.place.place()?;
    let simulator = process::simulator(&place, PACE).await?;
    let faults = [("FAULT_INJECTION", "true"), ("LOG_LEVEL", "off")];
    let server = process::kronos(&place, simulator.address(), &faults).await?;
    let server = Rc::new(server);
    let mut out = std::io::stdout();
    let (mut ratios, mut errors, mut parked) = (Vec::new(), Vec::new(), 0);
    for number in 0..args.rounds {
        let quiet = round(&server, args.sessions, number, false).await?;
        let noisy = round(&server, args.sessions, number, true).await?;
        let (mut calm, mut rough) = (quiet.ages, noisy.ages);
        let (calm, rough) = (percentile(&mut calm, 0.99) / 1e3, percentile(&mut rough, 0.99) / 1e3);
        writeln!(
            out,
            "round {}: p99 of the others {calm:.2} ms without panics, {rough:.2} ms with; parked and opened again: {}",
            number + 1,
            noisy.parked
        )?;
        ratios.push(rough / calm);
        parked += noisy.parked;
        errors.extend(quiet.errors.into_iter().chain(noisy.errors));
    }
    let panics = panics_of(&server).await?;
    let spread = Spread::of(ratios).context("rounds")?;
    writeln!(
        out,
        "{} sessions, {} of 100 inputs bad, {panics} panics, {parked} sessions parked and opened again; p99 of the others with \
         panics over without: {spread} (target {TARGET}); errors that others saw: {}",
        args.sessions,
        100 / ONE_IN,
        errors.len()
    )?;
    for error in errors.iter().take(20) {
        writeln!(out, "VIOLATION: {error}")?;
    }
    Ok(!errors.is_empty() || panics == 0)
}

/// One round, as it was seen.
struct Seen {
    ages: Vec<u32>,
    errors: Vec<String>,
    parked: usize,
}

async fn round(server: &Rc<Process>, sessions: usize, round: usize, noisy: bool) -> anyhow::Result<Seen> {
    let parked = Rc::new(Cell::new(0));
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..sessions)
        .map(|number| {
            let (server, parked) = (Rc::clone(server), Rc::clone(&parked));
            let user = format!("p{round}x{}x{number}", u8::from(noisy));
            local.spawn_local(async move {
                if noisy && number % ONE_IN == 0 {
                    victim(&server, &user, &parked).await.map(|()| Vec::new())
                } else {
                    bystander(&server, &user).await
                }
            })
        })
        .collect();
    let collect = async {
        let mut seen = Round::default();
        for task in tasks {
            match task.await.context("a task panicked")? {
                Ok(mut ages) => seen.ages.append(&mut ages),
                Err(error) => seen.errors.push(format!("{error:#}")),
            }
        }
        anyhow::Ok(seen)
    };
    let Round { ages, errors } = local.run_until(collect).await?;
    Ok(Seen {
        ages,
        errors,
        parked: parked.get(),
    })
}

/// Asks good questions and reads the answers.
async fn bystander(server: &Process, user: &str) -> anyhow::Result<Vec<u32>> {
    let mut peer = Peer::Kronos(Attached::create(server.address(), user).await?);
    let mut ages = Vec::new();
    for turn in 0..TURNS {
        let question = format!("[[clock]][[tokens {WORDS}]]");
        let answer = timeout(ANSWER, peer.turn(&format!("m_{turn}"), &question)).await;
        ages.append(&mut answer.context("no answer in time")??.ages);
    }
    Ok(ages)
}

/// Sends bad inputs until the session is parked, opens it again, and gets an answer.
async fn victim(server: &Process, user: &str, parked: &Cell<usize>) -> anyhow::Result<()> {
    let session = Attached::create(server.address(), user).await?.session;
    for turn in 0..TURNS {
        // It may be parked by now: then it cannot be attached.
        let Ok(mut attached) = Attached::resume(server.address(), user, &session, None).await else {
            break;
        };
        let bad = json!({"op": "send", "id": format!("bad_{turn}"), "content": BAD});
        let answer = timeout(ANSWER, attached.ask(bad)).await.context("no reply in time")?;
        ensure!(answer.is_err(), "an input that panicked was acknowledged");
    }
    if let Err(refused) = Attached::resume(server.address(), user, &session, None).await {
        ensure!(refused.to_string().starts_with("parked"), "{refused:#}");
        let path = format!("/api/v1/chat/{session}/unpark?user_id={user}");
        let reply = http::request(server.address(), "POST", &path, None).await?;
        ensure!(reply.status == 200, "unpark: {}", reply.text());
        parked.set(parked.get() + 1);
    }
    let attached = Attached::resume(server.address(), user, &session, None).await?;
    let mut peer = Peer::Kronos(attached);
    let answer = timeout(ANSWER, peer.turn("good", "[[clock]][[tokens 5]]")).await;
    let answer = answer.context("no answer after the panics")??;
    if answer.ages.is_empty() {
        bail!("an empty answer after the panics");
    }
    Ok(())
}

/// Returns how often a session panicked, as the server counts it.
async fn panics_of(server: &Process) -> anyhow::Result<u64> {
    let metrics = http::request(server.address(), "GET", "/metrics", None).await?;
    let text = metrics.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("kronos_session_restarts_total{reason=\"panic\"} "));
    line.map_or(Ok(0), |count| Ok(count.trim().parse()?))
}
