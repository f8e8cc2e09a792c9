//! What the machine and its processes do: read from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use crate::process;

/// A process that is watched.
#[derive(Debug)]
struct Watched {
    name: &'static str,
    pid: u32,
    gone: bool,
    cpu: Duration,
}

/// Reads what the processes and the machine did since it read the last time.
#[derive(Debug)]
pub(super) struct System {
    watched: Vec<Watched>,
    threads: BTreeMap<String, u64>,
    machine: Option<(u64, u64)>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// By process: time of a core since the last reading, and resident bytes now.
    pub(super) processes: BTreeMap<&'static str, (Duration, u64)>,
    /// Time of a core that the busiest thread of this process took.
    pub(super) busiest: Duration,
    /// Share of the machine's time that nobody used, 0 to 1; `None` when it is not known.
    pub(super) idle: Option<f64>,
    /// Processes that ended since the last reading.
    pub(super) gone: Vec<&'static str>,
}

impl System {
    /// Begins; this process is `client`.
    pub(super) fn new(processes: &[(&'static str, u32)]) -> Self {
        let own = ("client", std::process::id());
        let watched = processes.iter().copied().chain([own]).map(|(name, pid)| Watched {
            name,
            pid,
            gone: false,
            cpu: process::cpu(pid).unwrap_or_default(),
        });
        Self {
            watched: watched.collect(),
            threads: threads(),
            machine: machine(),
        }
    }

    /// Reads.
    pub(super) fn read(&mut self) -> Reading {
        let mut reading = Reading::default();
        for watched in self.watched.iter_mut().filter(|watched| !watched.gone) {
            let (Ok(cpu), Ok(memory)) = (process::cpu(watched.pid), process::resident(watched.pid)) else {
                watched.gone = true;
                reading.gone.push(watched.name);
                continue;
            };
            // A thread that ended takes its time with it.
            let used = cpu.saturating_sub(watched.cpu);
            watched.cpu = cpu;
            let sum = reading.processes.entry(watched.name).or_default();
            *sum = (sum.0 + used, sum.1 + memory);
        }
        let threads = threads();
        let ran = threads.iter().map(|(id, ran)| {
            let before = self.threads.get(id).copied().unwrap_or_default();
            ran.saturating_sub(before)
        });
        reading.busiest = Duration::from_nanos(ran.max().unwrap_or_default());
        self.threads = threads;
        let now = machine();
        if let (Some((idle_before, all_before)), Some((idle, all))) = (self.machine, now) {
            reading.idle = share(idle.saturating_sub(idle_before), all.saturating_sub(all_before));
        }
        self.machine = now;
        reading
    }
}

#[expect(clippy::cast_precision_loss, reason = "hundredths of seconds")]
fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// Returns how many nanoseconds each thread of this process has run.
fn threads() -> BTreeMap<String, u64> {
    let Ok(entries) = fs::read_dir("/proc/self/task") else {
        return BTreeMap::new();
    };
    let thread = |entry: fs::DirEntry| {
        let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        let ran = text.split_whitespace().next()?.parse().ok()?;
        Some((entry.file_name().to_string_lossy().into_owned(), ran))
    };
    entries.flatten().filter_map(thread).collect()
}

/// Returns the machine's idle time and all of its time so far.
fn machine() -> Option<(u64, u64)> {
    jiffies(&fs::read_to_string("/proc/stat").ok()?)
}

fn jiffies(stat: &str) -> Option<(u64, u64)> {
    // user nice system idle iowait irq softirq steal; what guests use is in user already.
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let all: Vec<u64> = line
        .split_whitespace()
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    let idle = all.get(3)? + all.get(4)?;
    Some((idle, all.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_is_idle_and_waiting() {
        let text = "cpu  100 1 50 800 20 3 4 5 90 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(jiffies(text), Some((820, 983)));
        assert_eq!(jiffies("intr 1"), None);
    }

    #[test]
    fn work_of_this_process_is_seen() {
        let mut system = System::new(&[]);
        let mut used = Duration::ZERO;
        // The kernel books time by ticks: work until it shows.
        for round in 0..u64::MAX {
            let reading = system.read();
            used += reading.busiest.min(reading.processes["client"].0);
            assert!(reading.processes["client"].1 > 0);
            if used > Duration::from_millis(5) {
                break;
            }
            std::hint::black_box((0..100_000).fold(round, |sum: u64, n| sum.wrapping_mul(31) ^ n));
        }
    }

    #[test]
    fn a_process_that_ended_is_said_once() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let mut system = System::new(&[("server", child.id())]);
        assert!(system.read().processes.contains_key("server"));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(system.read().gone, ["server"]);
        assert!(system.read().gone.is_empty());
    }
}
