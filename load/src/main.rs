//! Records chat sessions, replays them at any rate, checks every promise on the way, and measures.

mod bare;
mod baseline;
mod clock;
mod compare;
mod http;
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
mod scrub;
mod stamps;
mod stats;
mod stream;
mod threshold;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Records chat sessions, replays them at any rate, checks every promise on the way, and measures.
#[derive(Debug, Parser)]
#[command(name = "kronos-load", version, after_help = report::EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Replay scenarios or recordings against a server; exit code 0 when everything held
    Run(Box<run::RunArgs>),
    /// Show the scenarios that ship
    Scenarios(scenario::ScenariosArgs),
    /// Run a proxy in front of a server that writes down every session that passes
    Record(proxy::RecordArgs),
    /// Make a recording of hand-written steps
    Script(scenario::ScriptArgs),
    /// Replace what people said in a recording by text of the same length and shape
    Scrub(scrub::ScrubArgs),
    /// Say what got better or worse between two loads, beyond the noise; exit code 1 when anything got worse
    Compare(compare::CompareArgs),
    /// Measure the server against a bare proxy, in turns, and print one table of figures and ratios
    Baseline(baseline::BaselineArgs),
    /// Measure what metrics and the flight recorder cost; exit code 1 when it is more than it may be
    Instruments(instruments::InstrumentsArgs),
    /// Let one input in a hundred panic; exit code 1 when anybody else sees an error
    Panics(panics::PanicsArgs),
    /// Run a proxy in front of a server that breaks promises on purpose: to see that they are missed
    FaultProxy(proxy::FaultArgs),
    /// Run the yardstick: a websocket in front of the model, and nothing else
    BareProxy(bare::BareArgs),
}

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Scenarios(args) => args.run(),
        Command::Record(args) => proxy::run_recorder(&args).map(|()| ExitCode::SUCCESS),
        Command::Script(args) => args.run(),
        Command::Scrub(args) => args.run(),
        Command::Compare(args) => compare::run(&args),
        Command::Baseline(args) => baseline::run(&args),
        Command::Instruments(args) => instruments::run(&args),
        Command::Panics(args) => panics::run(&args),
        Command::FaultProxy(args) => proxy::run_faulty(&args).map(|()| ExitCode::SUCCESS),
        Command::BareProxy(args) => bare::run(&args).map(|()| ExitCode::SUCCESS),
    }
}
