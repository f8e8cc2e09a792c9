//! `run`: replays a scenario or recordings against a server, or against one that it starts itself.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::baseline::PlaceArgs;
use crate::meter::Meter;
use crate::process::{self, Process};
use crate::replay::{self, Options, Outcome, Target};
use crate::report::{self, OutputArgs};
use crate::scenario::{self, CodecMix, Overrides, Scenario, Users};
use crate::watch;

/// Tokens a second of the simulator that `--spawn` starts, where the scenario does not say.
const PACE: f64 = 50.0;
/// Where the server listens when nobody says.
const URL: &str = "ws://127.0.0.1:8000/ws";
/// What a spawned server gets that the one of the benchmark does not: as many users as there are ports for.
const ROOM: &[(&str, &str)] = &[
    ("MAX_CONNECTIONS", "100000"),
    ("MAX_CONNECTIONS_PER_USER", "100000"),
    ("MAX_CONNECTIONS_PER_ADDRESS", "100000"),
    ("PASSWORD_WAITING", "10000"),
];

/// What is replayed where.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// A scenario that ships with this program (see `scenarios`), a file `*.toml`, or recordings `*.kronosrec`
    #[arg(required = true, value_name = "SCENARIO")]
    scenario: Vec<String>,
    /// The server's websocket [default: ws://127.0.0.1:8000/ws]
    #[arg(long, conflicts_with = "spawn")]
    url: Option<String>,
    /// Start the simulators and the server, measure them, and stop them in the end
    #[arg(long)]
    spawn: bool,
    /// Divide think times by this
    #[arg(long, value_name = "FACTOR")]
    speed: Option<f64>,
    /// Users at a time at the peak (the closed model)
    #[arg(long, value_name = "N", conflicts_with = "rate")]
    users: Option<f64>,
    /// Arrivals a second at the peak (the open model)
    #[arg(long, value_name = "N")]
    rate: Option<f64>,
    /// How long the stages take together, such as 30s or 5m
    #[arg(long, value_name = "TIME", value_parser = scenario::parse_span)]
    duration: Option<Duration>,
    /// Time for those who are at it when the stages are over
    #[arg(long, value_name = "TIME", value_parser = scenario::parse_span)]
    grace: Option<Duration>,
    /// Most users at a time in the open model
    #[arg(long, value_name = "N")]
    max_users: Option<usize>,
    /// What devices speak that do not say
    #[arg(long)]
    codec: Option<CodecArg>,
    /// Draws everything that is drawn
    #[arg(long)]
    seed: Option<u64>,
    /// Let each user sign up and log in
    #[arg(long, conflicts_with = "tokens")]
    sign_up: bool,
    /// Take the access tokens in this file, one a line, in turns
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// The share of the users (0 to 1) whose log is read again in the end and compared
    #[arg(long, value_name = "SHARE", default_value_t = 1.0)]
    audit_share: f64,
    /// Serve metrics for Prometheus here while it runs, such as 127.0.0.1:9100
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// No live view
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    place: PlaceArgs,
}

/// What devices speak.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CodecArg {
    /// JSON
    Json,
    /// MessagePack
    Msgpack,
    /// Each device draws one
    Mixed,
}

impl RunArgs {
    fn overrides(&self) -> Overrides {
        let users_kind = if self.sign_up {
            Some(Users::SignUp)
        } else {
            self.tokens.clone().map(Users::Tokens)
        };
        Overrides {
            speed: self.speed,
            users: self.users,
            rate: self.rate,
            duration: self.duration,
            codec: self.codec.map(|codec| match codec {
                CodecArg::Json => CodecMix::Json,
                CodecArg::Msgpack => CodecMix::Msgpack,
                CodecArg::Mixed => CodecMix::Mixed,
            }),
            seed: self.seed,
            grace: self.grace,
            max_users: self.max_users,
            users_kind,
        }
    }
}

/// The processes of `--spawn`.
struct Spawned {
    simulator: Process,
    server: Process,
}

impl Spawned {
    async fn start(place: &PlaceArgs, scenario: &Scenario) -> anyhow::Result<Self> {
        let place = place.place()?;
        let (simulator, composio) = process::simulators(&place, PACE, scenario.spawn.composio).await?;
        if !scenario.spawn.sim.is_null() {
            process::configure(&simulator, &scenario.spawn.sim).await?;
        }
        let composio = composio.map(|address| format!("http://{address}"));
        let mut env = ROOM.to_vec();
        if let Some(composio) = &composio {
            env.extend([("COMPOSIO_BASE_URL", composio.as_str()), ("COMPOSIO_API_KEY", "load")]);
        }
        env.extend(
            scenario
                .spawn
                .env
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str())),
        );
        let server = process::kronos(&place, simulator.address(), &env).await?;
        Ok(Self { simulator, server })
    }
}

/// Replays and reports; the exit code says whether everything held.
pub(crate) fn run(args: &RunArgs) -> anyhow::Result<ExitCode> {
    // As many sockets as there may be; a lower limit shows as errors of those that were not opened.
    rlimit::increase_nofile_limit(u64::MAX)?;
    let scenario = scenario::load(&args.scenario, &args.overrides())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(load(args, &scenario))
}

async fn load(args: &RunArgs, scenario: &Scenario) -> anyhow::Result<ExitCode> {
    let stop = interruptions()?;
    let mut early = stop.clone();
    let spawned = tokio::select! {
        spawned = spawn(args, scenario) => spawned?,
        _ = early.wait_for(|stop| *stop > 0) => bail!("interrupted"),
    };
    let url = match &spawned {
        Some(spawned) => format!("ws://{}/ws", spawned.server.address()),
        None => args.url.clone().unwrap_or_else(|| URL.to_owned()),
    };
    let target = Target::of(&url).await?;
    let processes = spawned
        .iter()
        .flat_map(|spawned| [("server", spawned.server.pid()), ("simulator", spawned.simulator.pid())]);
    let meter = Meter::default();
    let watch_options = watch::Options {
        target: url,
        processes: processes.collect(),
        metrics: args.metrics,
        quiet: args.quiet,
    };
    let options = Options {
        audit_share: args.audit_share,
        stop,
    };
    let watch = watch::start(meter.clone(), scenario, watch_options)?;
    let outcome = replay::run(scenario, target, meter.clone(), options).await?;
    if outcome.interrupted {
        meter.interrupt();
    }
    let report = watch.finish()?;
    say(&outcome)?;
    let code = report::conclude(&report, &args.output)?;
    let broke = !report.errors.is_empty() || report.breaches() > 0;
    if let Some(spawned) = spawned.as_ref().filter(|_| broke) {
        let words = spawned.server.last_words();
        if !words.trim().is_empty() {
            writeln!(std::io::stderr(), "the server's last words:\n{words}")?;
        }
    }
    Ok(code)
}

async fn spawn(args: &RunArgs, scenario: &Scenario) -> anyhow::Result<Option<Spawned>> {
    match args.spawn {
        true => Spawned::start(&args.place, scenario).await.map(Some),
        false => Ok(None),
    }
}

/// Counts how often somebody presses Ctrl-C, or ends this process politely: the first lets the load come to an early end, the second ends it at once.
fn interruptions() -> anyhow::Result<tokio::sync::watch::Receiver<u8>> {
    let (sender, receiver) = tokio::sync::watch::channel(0_u8);
    let mut interrupts = signal(SignalKind::interrupt())?;
    let mut ends = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupts.recv() => {}
                _ = ends.recv() => {}
            }
            sender.send_modify(|count| *count = count.saturating_add(1));
        }
    });
    Ok(receiver)
}

/// Names those who did not come to the end.
fn say(outcome: &Outcome) -> anyhow::Result<()> {
    let mut out = std::io::stderr();
    for (what, times) in &outcome.refused {
        writeln!(out, "refused {times} times: {what}")?;
    }
    for user in &outcome.unfinished {
        writeln!(out, "unfinished: {user}")?;
    }
    for user in &outcome.gave_up {
        writeln!(out, "gave up: {user}")?;
    }
    if outcome.interrupted {
        writeln!(out, "interrupted: what follows is not the whole load").context("stderr")?;
    }
    Ok(())
}
