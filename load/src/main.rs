//! Records chat sessions, replays them at any rate, checks every promise on the way, and measures.

mod bare;
mod baseline;
mod clock;
mod follow;
mod http;
mod idle;
mod instruments;
mod meter;
mod panics;
mod peer;
mod process;
mod proxy;
mod recording;
mod replay;
mod report;
mod run;
mod scenario;
mod script;
mod stamps;
mod stats;
mod storm;
mod stream;
mod threshold;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Measures Kronos against a bare proxy, and checks it under load.
#[derive(Debug, Parser)]
#[command(name = "kronos-load", version, after_help = report::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the server against a bare proxy, in turns, and print one table of figures and ratios
    Baseline(baseline::BaselineArgs),
    /// Measure what metrics and the flight recorder cost; exit code 1 when it is more than it may be
    Instruments(instruments::InstrumentsArgs),
    /// Attach many sockets to sessions that sleep; exit code 1 when one does not wake
    Idle(idle::IdleArgs),
    /// Cut many sockets in mid-reply and let them come back; exit code 1 when anything is lost or comes twice
    Storm(storm::StormArgs),
    /// Let one input in a hundred panic; exit code 1 when anybody else sees an error
    Panics(panics::PanicsArgs),
    /// Replay scenarios or recordings against a server; exit code 0 when everything held
    Run(Box<run::RunArgs>),
    /// Show the scenarios that ship
    Scenarios(scenario::ScenariosArgs),
    /// Run a proxy in front of a server that breaks promises on purpose: to see that they are missed
    FaultProxy(proxy::FaultArgs),
    /// Run a proxy in front of a server that writes down every session that passes
    Record(proxy::RecordArgs),
    /// Run the yardstick: a websocket in front of the model, and nothing else
    BareProxy(bare::BareArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Baseline(args) => baseline::run(&args),
        Command::Instruments(args) => instruments::run(&args),
        Command::Idle(args) => idle::run(&args),
        Command::Storm(args) => storm::run(&args),
        Command::Panics(args) => panics::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Scenarios(args) => args.run(),
        Command::FaultProxy(args) => proxy::run_faulty(&args).map(|()| ExitCode::SUCCESS),
        Command::Record(args) => proxy::run_recorder(&args).map(|()| ExitCode::SUCCESS),
        Command::BareProxy(args) => bare::run(&args).map(|()| ExitCode::SUCCESS),
    }
}
