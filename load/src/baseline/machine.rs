//! Where and when a run was made.

use std::fs;
use std::process::Command;

use serde::Serialize;
use time::OffsetDateTime;

use crate::clock;
use crate::process::Place;

/// The machine, the time, the versions.
#[derive(Debug, Serialize)]
pub(super) struct Machine {
    pub(super) cpu: String,
    pub(super) cores: usize,
    pub(super) memory_gib: u64,
    pub(super) kernel: String,
    pub(super) date: String,
    pub(super) versions: String,
    /// Load average of the last minute, before and after: what others did meanwhile is in every number.
    pub(super) load_before: String,
    pub(super) load_after: String,
}

impl Machine {
    /// Reads everything that is known before the run.
    pub(super) fn read(place: &Place) -> anyhow::Result<Self> {
        let server = place.binaries.join("kronos").display().to_string();
        let versions = [
            said(&server, &["--version"]),
            said("git", &["rev-parse", "--short=12", "HEAD"]),
        ];
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
            versions: versions.into_iter().flatten().collect::<Vec<_>>().join(", "),
            load_before: load()?,
            load_after: String::new(),
        })
    }

    /// Reads what is known after the run.
    pub(super) fn finish(mut self) -> anyhow::Result<Self> {
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
