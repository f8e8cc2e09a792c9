//! The yardstick: the same loads on the server and on a bare proxy, in interleaved rounds; ratios within one run, one table.

mod cancel;
mod flush;
pub(crate) mod machine;
mod memory;
mod samples;
mod sends;
mod servers;
mod storm;
mod streams;
mod table;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde_json::json;

use crate::process::{self, Place};
use crate::stream::Way;
use machine::Machine;
use samples::Samples;

/// What can be measured by itself.
const NAMES: [&str; 8] = [
    "stream50",
    "stream600",
    "saturated",
    "sends1",
    "sends500",
    "cancel",
    "memory",
    "storm",
];

/// How much is measured.
#[derive(Debug, Args)]
pub(crate) struct BaselineArgs {
    /// Less of everything in one round: under a minute, to see that it works
    #[arg(long)]
    quick: bool,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Measure only this; may be given several times
    #[arg(long, value_name = "NAME", value_parser = NAMES)]
    only: Vec<String>,
    /// Write all numbers to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    place: PlaceArgs,
}

/// Where the binaries are.
#[derive(Debug, Args)]
pub(crate) struct PlaceArgs {
    /// Build the server and the simulator first, also when they are there
    #[arg(long)]
    build: bool,
    /// Take the server and the simulator from this folder [default: that of this binary]
    #[arg(long, value_name = "FOLDER")]
    binaries: Option<PathBuf>,
    /// Keep the data below this folder: on the disk to measure [default: that of this binary]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
}

impl PlaceArgs {
    /// Finds the binaries, and builds what is missing.
    pub(crate) fn place(&self) -> anyhow::Result<Place> {
        let own = std::env::current_exe()?;
        let own = own.parent().context("the folder of this binary")?;
        let binaries = self.binaries.clone().unwrap_or_else(|| own.to_owned());
        let is_there = |binary: &&str| binaries.join(binary).exists();
        if self.build || !["kronos", "kronos-sim"].iter().all(is_there) {
            let status = Command::new("cargo")
                .args(["build", "--release", "--package", "kronos", "--bin", "kronos"])
                .args(["--package", "kronos-sim", "--bin", "kronos-sim"])
                .status()?;
            ensure!(status.success(), "cargo build: {status}");
        }
        let folder = self.folder.clone().unwrap_or_else(|| own.to_owned());
        Ok(Place {
            binaries: fs::canonicalize(binaries)?,
            folder: fs::canonicalize(folder)?,
        })
    }
}

/// A run.
struct Baseline {
    place: Place,
    quick: bool,
    rounds: usize,
    only: Vec<String>,
    /// This server knows `DURABILITY`.
    relaxed: bool,
    samples: Samples,
}

impl Baseline {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }

    fn served_ways(&self) -> impl Iterator<Item = Way> + use<> {
        [Way::Bare, Way::Commit]
            .into_iter()
            .chain(self.relaxed.then_some(Way::Relaxed))
    }

    /// Says on stderr what is measured now.
    #[expect(clippy::unused_self, reason = "it belongs to the run")]
    fn progress(&self, name: &str, round: usize, way: Way) -> anyhow::Result<()> {
        Ok(writeln!(std::io::stderr(), "round {}: {name} {way:?}", round + 1)?)
    }
}

/// Measures and prints the table.
pub(crate) fn run(args: &BaselineArgs) -> anyhow::Result<ExitCode> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let place = args.place.place()?;
    let mut bench = Baseline {
        relaxed: process::knows(&place, "DURABILITY")?,
        quick: args.quick,
        rounds: if args.quick { 1 } else { args.rounds },
        only: args.only.clone(),
        samples: Samples::default(),
        place,
    };
    let machine = Machine::read(&bench.place)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(measure(&mut bench))?;
    let machine = machine.finish()?;
    write!(std::io::stdout(), "{}", table::render(&machine, &bench))?;
    if let Some(file) = &args.json {
        let numbers = json!({"machine": machine, "rounds": bench.rounds, "samples": bench.samples});
        fs::write(file, serde_json::to_string_pretty(&numbers)?)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(bench: &mut Baseline) -> anyhow::Result<()> {
    sends::measure(bench).await?;
    streams::measure(bench).await?;
    cancel::measure(bench).await?;
    memory::measure(bench).await?;
    storm::measure(bench).await
}
