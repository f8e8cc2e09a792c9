//! `idle`: many sockets attached to sessions that sleep: what each takes, and that they wake.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt as _, stream};
use rand::seq::index;
use rand::{SeedableRng as _, rngs::StdRng};
use tokio::time::timeout;

use crate::baseline::{PlaceArgs, asleep, live_sessions};
use crate::clock;
use crate::follow::Follower;
use crate::peer::{Attached, Peer};
use crate::process;
use crate::stats::percentile;
use crate::stream::{self as load, Way, count};

/// Time in which one that is woken must have answered.
const ANSWER: Duration = Duration::from_secs(10);
/// Sessions that are woken at once.
const AT_ONCE: usize = 10;

/// How many.
#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    /// Sockets, each attached to a session of its own
    #[arg(long, default_value_t = 10_000)]
    sockets: usize,
    /// Sessions that are woken afterwards
    #[arg(long, default_value_t = 100)]
    woken: usize,
    /// Chooses those
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Most bytes that a socket may take
    #[arg(long, value_name = "BYTES")]
    most_bytes: Option<f64>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Runs it; the exit code says whether everything woke.
pub(crate) fn run(args: &IdleArgs) -> anyhow::Result<ExitCode> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let wrong = runtime.block_on(check(args))?;
    Ok(ExitCode::from(u8::from(wrong)))
}

async fn check(args: &IdleArgs) -> anyhow::Result<bool> {
    let mut out = std::io::stdout();
    let place = args.place.place()?;
    let simulator = process::simulator(&place, 0.0).await?;
    let env = [("SESSION_IDLE_TIMEOUT", "1s"), ("PING_INTERVAL", "300s")];
    let server = process::kronos(&place, simulator.address(), &env).await?;
    drop(load::open(Way::Commit, &simulator, Some(&server), 100, 0).await?);
    asleep(Way::Commit, &server).await?;
    let before = process::resident(server.pid())?;
    let began = clock::instant();
    let mut peers = load::open(Way::Commit, &simulator, Some(&server), args.sockets, 1).await?;
    let opened = began.elapsed();
    let slept = asleep(Way::Commit, &server).await?;
    let grown = process::resident(server.pid())?.saturating_sub(before);
    let each = count(usize::try_from(grown)?) / count(args.sockets);
    let live = live_sessions(&server).await?;
    writeln!(
        out,
        "{} sockets attached in {:.1} s; {live} sessions in memory; {:.1} KiB resident for each socket ({:.0} MiB in all)",
        args.sockets,
        opened.as_secs_f64(),
        each / 1024.0,
        count(usize::try_from(grown)?) / 1_048_576.0
    )?;
    let mut random = StdRng::seed_from_u64(args.seed);
    let mut chosen = index::sample(&mut random, peers.len(), args.woken.min(peers.len())).into_vec();
    chosen.sort_unstable_by(|a, b| b.cmp(a));
    let woken: Vec<Peer> = chosen.into_iter().map(|at| peers.swap_remove(at)).collect();
    let number = woken.len();
    let answers: Vec<anyhow::Result<u32>> = stream::iter(woken).map(wake).buffer_unordered(AT_ONCE).collect().await;
    let mut spans = Vec::new();
    let mut wrong = 0;
    for answer in answers {
        match answer {
            Ok(span) => spans.push(span),
            Err(error) => {
                wrong += 1;
                writeln!(out, "VIOLATION: {error:#}")?;
            }
        }
    }
    writeln!(
        out,
        "{} of {number} woken sessions (seed {}) answered; first delta after {:.1} ms (p50), {:.1} ms (p99)",
        spans.len(),
        args.seed,
        percentile(&mut spans, 0.5) / 1e3,
        percentile(&mut spans, 0.99) / 1e3
    )?;
    let heavy = args.most_bytes.is_some_and(|most| each > most);
    if heavy {
        writeln!(out, "VIOLATION: {each:.0} bytes for each socket")?;
    }
    if !slept {
        writeln!(
            out,
            "note: {live} sessions did not fall asleep while their sockets stayed"
        )?;
    }
    Ok(wrong > 0 || heavy)
}

/// Asks and waits for the whole answer; returns the microseconds to its first delta.
async fn wake(peer: Peer) -> anyhow::Result<u32> {
    let Peer::Kronos(attached) = peer else {
        anyhow::bail!("not a session")
    };
    timeout(ANSWER, answer(attached)).await?
}

async fn answer(mut attached: Attached) -> anyhow::Result<u32> {
    let mut follower = Follower {
        seq: attached.head,
        ..Follower::default()
    };
    let asked = clock::micros();
    attached.say("m_1", "What is the capital of Japan?").await?;
    let mut first = 0;
    while follower.finished == 0 {
        follower.take(&attached.frame().await?)?;
        if first == 0 && follower.deltas > 0 {
            first = u32::try_from(clock::micros() - asked)?;
        }
    }
    anyhow::ensure!(follower.text.contains("Tokyo"), "another answer: {}", follower.text);
    Ok(first)
}
