//! Where and when a run was made.

use std::fs;
use std::process::Command;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::clock;
use crate::process::Place;

/// The machine, the time, the versions.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The model of the processor.
    pub(crate) cpu: String,
    /// How many cores.
    pub(crate) cores: usize,
    /// How much memory.
    pub(crate) memory_gib: u64,
    /// The kernel's version.
    pub(crate) kernel: String,
    /// The day.
    pub(crate) date: String,
    /// What was measured, and what measured.
    pub(crate) versions: String,
    /// Load average of the last minute, before and after: what others did meanwhile is in every number.
    pub(crate) load_before: String,
    /// The same after the run.
    pub(crate) load_after: String,
}

impl Machine {
    /// Reads everything that is known before the run.
    pub(super) fn read(place: &Place) -> anyhow::Result<Self> {
        let server = place.binaries.join("kronos").display().to_string();
        let versions = [
            said(&server, &["--version"]),
            said("git", &["rev-parse", "--short=12", "HEAD"]),
        ];
        Self::here(versions.into_iter().flatten().collect::<Vec<_>>().join(", "))
    }

    /// Reads everything that is known of the machine and the time.
    pub(crate) fn here(versions: String) -> anyhow::Result<Self> {
        let seconds = i64::try_from(clock::micros() / 1_000_000)?;
        Ok(Self {
            cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gib: field("/proc/meminfo", "MemTotal")
                .and_then(|size| size.trim_end_matches(" kB").parse::<u64>().ok())
                .unwrap_or_default()
                .div_ceil(1024 * 1024),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            date: OffsetDateTime::from_unix_timestamp(seconds)?.date().to_string(),
            versions,
            load_before: load()?,
            load_after: String::new(),
        })
    }

    /// Reads what is known after the run.
    pub(crate) fn finish(mut self) -> anyhow::Result<Self> {
        self.load_after = load()?;
        Ok(self)
    }
}

fn load() -> anyhow::Result<String> {
    let text = fs::read_to_string("/proc/loadavg")?;
    Ok(text.split(' ').next().unwrap_or_default().to_owned())
}

fn field(file: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Returns the first line that a command writes; nothing when it fails.
fn said(command: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(command).args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    output.status.success().then_some(line)
}
