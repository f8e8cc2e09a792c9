//! `storm`: all sockets cut and back at once in mid-reply; nothing may be lost, nothing may come twice.

use std::cell::{Cell, RefCell};
use std::io::Write as _;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use tokio::sync::{Semaphore, watch};
use tokio::task::LocalSet;
use tokio::time::timeout;

use crate::baseline::PlaceArgs;
use crate::clock;
use crate::follow::Follower;
use crate::peer::Attached;
use crate::process::{self, Process};
use crate::stats::percentile;

/// Deltas a second of each answer.
const PACE: f64 = 2.0;
/// Words of each answer: it takes 30 s, so that the storm meets all of them in the middle.
const WORDS: usize = 60;
/// Connections that are opened at once before the storm, and when the log is read after it.
const CALM: usize = 100;
/// How long a client tries to come back.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time in which an answer must have come to its end.
const ANSWER: Duration = Duration::from_secs(180);
/// Violations that are printed; all are counted.
const SHOWN: usize = 20;

/// How large.
#[derive(Debug, Args)]
pub(crate) struct StormArgs {
    /// Sockets, each attached to a session of its own
    #[arg(long, default_value_t = 5000)]
    sockets: usize,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What all clients share.
struct Shared {
    server: std::net::SocketAddr,
    calm: Semaphore,
    streaming: Cell<usize>,
    attached: Cell<usize>,
    retries: Cell<usize>,
    began: Cell<Option<Instant>>,
    /// Microseconds until each was attached again.
    spans: RefCell<Vec<u32>>,
}

/// Runs it; the exit code says whether anything was lost or doubled.
pub(crate) fn run(args: &StormArgs) -> anyhow::Result<ExitCode> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wrong = runtime.block_on(check(args))?;
    Ok(ExitCode::from(u8::from(wrong)))
}

async fn check(args: &StormArgs) -> anyhow::Result<bool> {
    let place = args.place.place()?;
    let simulator = process::simulator(&place, PACE).await?;
    let server = process::kronos(&place, simulator.address(), &[("PING_INTERVAL", "300s")]).await?;
    LocalSet::new().run_until(blow(args, &server)).await
}

async fn blow(args: &StormArgs, server: &Process) -> anyhow::Result<bool> {
    let mut out = std::io::stdout();
    let shared = Rc::new(Shared {
        server: server.address(),
        calm: Semaphore::new(CALM),
        streaming: Cell::new(0),
        attached: Cell::new(0),
        retries: Cell::new(0),
        began: Cell::new(None),
        spans: RefCell::default(),
    });
    let (cut, storm) = watch::channel(false);
    let clients: Vec<_> = (0..args.sockets)
        .map(|number| tokio::task::spawn_local(client(Rc::clone(&shared), format!("s{number}"), storm.clone())))
        .collect();
    // A client that fails before it streams would be waited for in vain.
    while shared.streaming.get() < args.sockets && !clients.iter().any(tokio::task::JoinHandle::is_finished) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shared.began.set(Some(clock::instant()));
    cut.send(true)?;
    let mut violations = Vec::new();
    for client in clients {
        match client.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => violations.push(format!("{error:#}")),
            Err(panicked) => violations.push(panicked.to_string()),
        }
    }
    let mut spans = shared.spans.take();
    writeln!(
        out,
        "{} sockets cut in mid-reply; {} attached again, the last after {:.2} s (p50 {:.2} s), {} attempts were refused",
        args.sockets,
        shared.attached.get(),
        percentile(&mut spans, 1.0) / 1e6,
        percentile(&mut spans, 0.5) / 1e6,
        shared.retries.get()
    )?;
    for violation in violations.iter().take(SHOWN) {
        writeln!(out, "VIOLATION: {violation}")?;
    }
    writeln!(
        out,
        "{} of {} sessions: every event once and in order, text equal to the log",
        args.sockets - violations.len(),
        args.sockets
    )?;
    if !violations.is_empty() {
        writeln!(out, "{}", server.last_words())?;
    }
    Ok(!violations.is_empty())
}

/// One client: asks, is cut in the middle, comes back, reads to the end, compares with the log.
async fn client(shared: Rc<Shared>, user: String, mut storm: watch::Receiver<bool>) -> anyhow::Result<()> {
    let mut follower = Follower::default();
    let calm = shared.calm.acquire().await?;
    let mut attached = Attached::create(shared.server, &user).await.context("first attach")?;
    attached.say("m_1", &format!("[[tokens {WORDS}]]")).await?;
    while follower.deltas == 0 {
        follower.take(&timeout(ANSWER, attached.frame()).await??)?;
    }
    drop(calm);
    shared.streaming.set(shared.streaming.get() + 1);
    loop {
        tokio::select! {
            frame = attached.frame() => follower.take(&frame?)?,
            stormed = storm.wait_for(|cut| *cut) => {
                stormed?;
                break;
            }
        }
    }
    ensure!(follower.finished == 0, "the answer ended before the storm");
    let (session, epoch) = (attached.session, attached.epoch);
    attached.socket.cut();
    let mut attached = back(&shared, &user, &session, &epoch, follower.seq).await?;
    ensure!(attached.epoch == epoch, "another epoch: history was lost");
    while follower.finished == 0 {
        follower
            .take(&timeout(ANSWER, attached.frame()).await??)
            .with_context(|| session.clone())?;
    }
    drop(attached);
    compare(&shared, &user, &session, &follower)
        .await
        .with_context(|| session.clone())
}

/// Comes back at once, and tries again when it is refused.
async fn back(shared: &Shared, user: &str, session: &str, epoch: &str, seq: u64) -> anyhow::Result<Attached> {
    let began = shared.began.get().context("a storm")?;
    loop {
        match Attached::resume(shared.server, user, session, Some((epoch, seq))).await {
            Ok(attached) => {
                shared.attached.set(shared.attached.get() + 1);
                let span = u32::try_from(began.elapsed().as_micros())?;
                shared.spans.borrow_mut().push(span);
                return Ok(attached);
            }
            Err(error) if began.elapsed() > PATIENCE => return Err(error.context("not attached again")),
            Err(_refused) => {
                shared.retries.set(shared.retries.get() + 1);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

/// Reads the log from its start and compares.
async fn compare(shared: &Shared, user: &str, session: &str, seen: &Follower) -> anyhow::Result<()> {
    let _calm = shared.calm.acquire().await?;
    let mut attached = Attached::resume(shared.server, user, session, None).await?;
    let mut log = Follower::default();
    while log.finished == 0 {
        log.take(&timeout(ANSWER, attached.frame()).await??)?;
    }
    ensure!(
        log.seq == seen.seq,
        "the log ends at {}, the client at {}",
        log.seq,
        seen.seq
    );
    ensure!(
        log.text == seen.text,
        "the log says {:?}, the client read {:?}",
        log.text,
        seen.text
    );
    let words = log.text.split_whitespace().count();
    ensure!(words == WORDS, "{words} words instead of {WORDS}");
    Ok(())
}
