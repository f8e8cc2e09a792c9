//! Runs the simulators as a process of their own.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use kronos_sim::{ComposioSim, ComposioSimConfig, GeminiSim, SimConfig};

/// Exit code for arguments that cannot be used, such as a port that is taken.
const USAGE: u8 = 2;

/// Simulators of Google's Gemini API and, when asked, of Composio's API over real HTTP.
#[derive(Debug, Parser)]
#[command(name = "kronos-sim", version)]
struct Args {
    /// Address to listen on
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Port of the Gemini simulator; 0 takes any free one
    #[arg(long, default_value_t = 8090)]
    port: u16,
    /// Port of the Composio simulator, which otherwise does not run; 0 takes any free one
    #[arg(long)]
    composio_port: Option<u16>,
    /// How the outside reaches the Composio simulator, for the links it gives out
    #[arg(long)]
    composio_public_url: Option<String>,
    /// Seed of texts, ids and random faults
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Pace of answers; 0 is as fast as possible
    #[arg(long, default_value_t = 60.0)]
    tokens_per_second: f64,
    /// Milliseconds before the first chunk
    #[arg(long, default_value_t = 150)]
    first_token_ms: u64,
    /// Tokens (words) in one chunk
    #[arg(long, default_value_t = 4)]
    tokens_per_chunk: u32,
    /// Add to each chunk the time at which it left
    #[arg(long)]
    stamp_chunks: bool,
    /// Probability (0 to 1) that a generate request fails
    #[arg(long, default_value_t = 0.0)]
    fault_rate: f64,
    /// Faults of which --fault-rate picks one
    #[arg(long, value_delimiter = ',')]
    fault_kinds: Vec<String>,
    /// Requests kept for GET /sim/requests
    #[arg(long, default_value_t = 1000)]
    max_recorded: usize,
}

impl From<Args> for SimConfig {
    fn from(args: Args) -> Self {
        let defaults = Self::default();
        Self {
            host: args.host,
            port: args.port,
            seed: args.seed,
            tokens_per_second: args.tokens_per_second,
            first_token_ms: args.first_token_ms,
            tokens_per_chunk: args.tokens_per_chunk,
            stamp_chunks: args.stamp_chunks,
            fault_rate: args.fault_rate,
            fault_kinds: if args.fault_kinds.is_empty() {
                defaults.fault_kinds.clone()
            } else {
                args.fault_kinds
            },
            max_recorded: args.max_recorded,
            ..defaults
        }
    }
}

fn main() -> anyhow::Result<ExitCode> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let args = Args::parse();
    let composio = args.composio_port.map(|port| ComposioSimConfig {
        host: args.host.clone(),
        port,
        seed: args.seed,
        max_recorded: args.max_recorded,
        public_url: args.composio_public_url.clone(),
        ..ComposioSimConfig::default()
    });
    let config = SimConfig::from(args);
    let place = format!("{}:{}", config.host, config.port);
    let sim = match GeminiSim::start(config) {
        Ok(sim) => sim,
        Err(error) => return refuse(&place, &error),
    };
    let place = composio
        .as_ref()
        .map(|config| format!("{}:{}", config.host, config.port));
    let composio = match composio.map(ComposioSim::start).transpose() {
        Ok(composio) => composio,
        Err(error) => return refuse(&place.unwrap_or_default(), &error),
    };
    writeln!(std::io::stdout(), "{}", sim.url())?;
    if let Some(composio) = &composio {
        writeln!(std::io::stdout(), "{}", composio.url())?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(terminated())?;
    sim.stop();
    drop(composio);
    Ok(ExitCode::SUCCESS)
}

fn refuse(place: &str, error: &std::io::Error) -> anyhow::Result<ExitCode> {
    writeln!(std::io::stderr(), "kronos-sim: cannot listen on {place}: {error}")?;
    Ok(ExitCode::from(USAGE))
}

/// Waits for ctrl-c or SIGTERM.
async fn terminated() -> std::io::Result<()> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted,
        _ = terminate.recv() => Ok(()),
    }
}
