//! What a load came to: for people, for programs, for a browser.

mod figures;
pub(crate) mod html;
pub(crate) mod show;
pub(crate) mod summary;
#[cfg(test)]
pub(crate) mod synthetic;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::baseline::machine::Machine;
use crate::meter::{Broken, Count, Latency, Server};
use crate::threshold::Judged;
pub(crate) use figures::{Both, Figures};

/// The version of the JSON report that is written and read.
pub(crate) const VERSION: u32 = 1;

/// What the exit codes of a load mean, for `--help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes of a load, the first that applies:
  97   a promise was broken: an event was lost, repeated, reordered or taken back
  98   void: the load tester itself was too slow, so nothing that it measured counts
  99   a threshold did not hold
  105  it was interrupted before its end
  1    it could not run
  0    everything held";

/// Where it is written, beside the summary on stdout.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct OutputArgs {
    /// Write everything to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a report to this file: one page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub(crate) report: Option<PathBuf>,
}

/// Everything that is known of a load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The version of this shape.
    pub(crate) kronos_load: u32,
    /// The version of the load tester.
    pub(crate) version: String,
    /// What was run.
    pub(crate) settings: Settings,
    /// The server's address.
    pub(crate) target: String,
    /// What the server said it is.
    pub(crate) server: Option<Server>,
    /// Where the load tester ran.
    pub(crate) machine: Machine,
    /// When it began, RFC 3339.
    pub(crate) started_at: String,
    /// How long it took.
    pub(crate) seconds: f64,
    /// Everything held.
    pub(crate) passed: bool,
    /// Why nothing that was measured counts.
    pub(crate) void: Option<String>,
    /// Somebody ended it early.
    pub(crate) interrupted: bool,
    /// What makes figures doubtful without voiding them.
    pub(crate) warnings: Vec<String>,
    /// What had to hold.
    pub(crate) thresholds: Vec<Judged>,
    /// Refused commands and lost connections by code.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Broken promises by check.
    pub(crate) broken: BTreeMap<String, u64>,
    /// The first broken promises, whole.
    pub(crate) breaches: Vec<Breach>,
    /// What was counted.
    pub(crate) counts: BTreeMap<Count, u64>,
    /// What took how long.
    pub(crate) latencies: BTreeMap<Latency, Both>,
    /// What the processes on this machine used.
    pub(crate) processes: BTreeMap<String, Usage>,
    /// Second by second.
    pub(crate) series: Vec<Second>,
}

/// What was run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The scenario's name.
    pub(crate) scenario: String,
    /// What it is for.
    pub(crate) about: String,
    /// Whatever was drawn was drawn from it.
    pub(crate) seed: u64,
    /// `open`: stages are arrivals a second. `closed`: users at a time.
    pub(crate) model: String,
    /// One after the other.
    pub(crate) stages: Vec<Stage>,
    /// What think times were divided by.
    pub(crate) speed: f64,
    /// `json`, `msgpack` or `mixed`.
    pub(crate) codec: String,
    /// Names of the scripts and their weights.
    pub(crate) mix: Vec<(String, u32)>,
    /// Cuts, storms, devices and slow readers, in words.
    pub(crate) network: Vec<String>,
}

/// A part of the load.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Stage {
    /// How long it takes.
    pub(crate) seconds: f64,
    /// Arrivals a second or users at its end.
    pub(crate) to: f64,
}

/// A broken promise with what shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Breach {
    /// The check: a stable name.
    pub(crate) check: String,
    /// The session.
    pub(crate) session: String,
    /// The position at which it shows, if it has one.
    pub(crate) seq: Option<u64>,
    /// The device that saw it.
    pub(crate) device: String,
    /// The script that the user follows.
    pub(crate) script: String,
    /// What was expected and what came.
    pub(crate) what: String,
    /// The last frames that the client sent, oldest first.
    pub(crate) sent: Vec<String>,
    /// The last frames that it received.
    pub(crate) received: Vec<String>,
}

impl From<Broken> for Breach {
    fn from(broken: Broken) -> Self {
        Self {
            check: broken.check.to_owned(),
            session: broken.session,
            seq: broken.seq,
            device: broken.device,
            script: broken.script,
            what: broken.what,
            sent: broken.sent,
            received: broken.received,
        }
    }
}

/// What a process used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Seconds of a core, all of them.
    pub(crate) cpu_seconds: f64,
    /// Cores on average.
    pub(crate) cpu_mean: f64,
    /// Cores in the busiest second.
    pub(crate) cpu_max: f64,
    /// Resident bytes when it was last seen.
    pub(crate) memory_last: u64,
    /// Most resident bytes.
    pub(crate) memory_max: u64,
}

/// What happened in one second.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Second {
    /// Its end, in seconds from the start.
    pub(crate) at: f64,
    /// How long it was in truth.
    pub(crate) seconds: f64,
    /// What the stages wanted at its end: arrivals a second, or users.
    pub(crate) wanted: f64,
    /// Users at its end.
    pub(crate) users: i64,
    /// Open websockets at its end.
    pub(crate) sockets: i64,
    /// What was counted in it.
    pub(crate) counts: BTreeMap<Count, u64>,
    /// Errors in it.
    pub(crate) errors: u64,
    /// Promises that were broken in it.
    pub(crate) broken: u64,
    /// Latencies of what ended in it.
    pub(crate) latencies: BTreeMap<Latency, Point>,
    /// What the processes used.
    pub(crate) processes: BTreeMap<String, Used>,
    /// By how many milliseconds the load tester's worst timer was late.
    pub(crate) lag_ms: f64,
}

/// A latency in one second, from the intended start.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Point {
    /// Samples.
    pub(crate) count: u64,
    /// Half of them were faster.
    pub(crate) p50_us: u64,
    /// 99 of 100 were faster.
    pub(crate) p99_us: u64,
}

/// What a process used in one second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Used {
    /// Cores.
    pub(crate) cpu: f64,
    /// Resident bytes at its end.
    pub(crate) memory: u64,
}

impl Second {
    /// Returns a count per second.
    #[expect(clippy::cast_precision_loss, reason = "counts of a second")]
    pub(crate) fn rate(&self, count: Count) -> f64 {
        let counted = self.counts.get(&count).copied().unwrap_or_default();
        counted as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }
}

impl Report {
    /// Returns a count.
    pub(crate) fn counted(&self, count: Count) -> u64 {
        self.counts.get(&count).copied().unwrap_or_default()
    }

    /// Returns a count per second of the whole load.
    #[expect(clippy::cast_precision_loss, reason = "counts of a load")]
    pub(crate) fn rate(&self, count: Count) -> f64 {
        self.counted(count) as f64 / self.seconds.max(f64::MIN_POSITIVE)
    }

    /// Returns the number of broken promises.
    pub(crate) fn breaches(&self) -> u64 {
        self.broken.values().sum()
    }

    /// Returns the exit code: what [`EXIT_CODES`] says.
    pub(crate) fn exit_code(&self) -> u8 {
        if self.breaches() > 0 {
            97
        } else if self.void.is_some() {
            98
        } else if self.thresholds.iter().any(|judged| !judged.passed) {
            99
        } else if self.interrupted {
            105
        } else {
            0
        }
    }

    /// Reads one that was written with `--json`.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let read = || -> anyhow::Result<Self> {
            let value: serde_json::Value = serde_json::from_slice(&fs::read(file)?)?;
            let version = value.get("kronos_load").and_then(serde_json::Value::as_u64);
            let version = version.context("not a report of kronos-load")?;
            ensure!(
                version == u64::from(VERSION),
                "version {version} of the report, {VERSION} is known"
            );
            Ok(serde_json::from_value(value)?)
        };
        read().with_context(|| file.display().to_string())
    }
}

/// Prints the summary, writes the files, and returns the exit code: 0 when everything held, else what [`EXIT_CODES`] says.
pub(crate) fn conclude(report: &Report, args: &OutputArgs) -> anyhow::Result<ExitCode> {
    write!(std::io::stdout(), "{}", summary::Summary(report))?;
    if let Some(file) = &args.json {
        let text = serde_json::to_string(report)?;
        fs::write(file, text).with_context(|| file.display().to_string())?;
    }
    if let Some(file) = &args.report {
        fs::write(file, html::page(report)).with_context(|| file.display().to_string())?;
    }
    Ok(ExitCode::from(report.exit_code()))
}

#[cfg(test)]
mod tests;
