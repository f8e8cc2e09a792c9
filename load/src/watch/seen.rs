//! What was seen so far: totals, the series of seconds, and whether the load tester itself was too slow.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::system::Reading;
use crate::meter::{Latency, Measured};
use crate::report::{Point, Second, Usage, Used};

/// Above this share of a core the load tester's thread is what is measured.
const BUSY: f64 = 0.85;
/// Timers that are later than this on average are, too.
const LATE: Duration = Duration::from_millis(50);
/// For so many seconds in a row.
const PATIENCE: u32 = 3;
/// Below this share of idle time the machine is out of CPU.
const EXHAUSTED: f64 = 0.05;
/// Seconds that percentiles of the live view look back.
const RECENT: usize = 5;

/// Everything that was seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Since the start.
    pub(super) totals: Measured,
    /// Second by second.
    pub(super) series: Vec<Second>,
    /// What the processes used.
    pub(super) processes: BTreeMap<String, Usage>,
    /// Share of a core that the busiest thread took in the last second.
    pub(super) busiest: f64,
    /// Why nothing counts.
    pub(super) void: Option<String>,
    recent: VecDeque<Measured>,
    busy_for: u32,
    late_for: u32,
    exhausted: u32,
    gone: Vec<&'static str>,
}

/// A second: when it ended, how long it was, what the levels are then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tick {
    /// Seconds from the start.
    pub(super) at: f64,
    /// How long it was.
    pub(super) seconds: f64,
    /// What the stages want.
    pub(super) wanted: f64,
    /// Users at its end.
    pub(super) users: i64,
    /// Websockets at its end.
    pub(super) sockets: i64,
}

impl Seen {
    /// Takes in a second.
    pub(super) fn second(&mut self, tick: Tick, measured: Measured, reading: &Reading) {
        self.totals.add(&measured);
        self.usage(tick, reading);
        self.judge(tick, &measured, reading);
        self.series.push(Second {
            at: tick.at,
            seconds: tick.seconds,
            wanted: tick.wanted,
            users: tick.users,
            sockets: tick.sockets,
            counts: measured.counts.clone(),
            errors: measured.errors.values().sum(),
            broken: measured.broken.values().sum(),
            latencies: points(&measured),
            processes: used(tick, reading),
            lag_ms: measured.lag.worst.as_secs_f64() * 1e3,
        });
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(measured);
    }

    /// Returns what was measured in the last seconds.
    pub(super) fn recent(&self) -> Measured {
        let mut sum = Measured::default();
        self.recent.iter().for_each(|one| sum.add(one));
        sum
    }

    /// Returns what makes figures doubtful.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = Vec::new();
        if self.exhausted > 0 {
            warnings.push(format!(
                "in {} of {} seconds the machine had less than {:.0} % of its CPU left: server and load tester shared it",
                self.exhausted,
                self.series.len(),
                EXHAUSTED * 100.0
            ));
        }
        warnings.extend(
            self.gone
                .iter()
                .map(|name| format!("the process {name} ended before the load did")),
        );
        warnings
    }

    fn usage(&mut self, tick: Tick, reading: &Reading) {
        for (name, (cpu, memory)) in &reading.processes {
            let usage = self.processes.entry((*name).to_owned()).or_default();
            usage.cpu_seconds += cpu.as_secs_f64();
            usage.cpu_mean = usage.cpu_seconds / tick.at.max(f64::MIN_POSITIVE);
            if counts(tick) {
                usage.cpu_max = usage.cpu_max.max(cpu.as_secs_f64() / tick.seconds);
            }
            usage.memory_last = *memory;
            usage.memory_max = usage.memory_max.max(*memory);
        }
        self.gone.extend(&reading.gone);
    }

    /// Says whether the load tester was too slow.
    fn judge(&mut self, tick: Tick, measured: &Measured, reading: &Reading) {
        if !counts(tick) {
            return;
        }
        self.busiest = reading.busiest.as_secs_f64() / tick.seconds;
        let again = |is: bool, before: u32| if is { before + 1 } else { 0 };
        self.busy_for = again(self.busiest > BUSY, self.busy_for);
        self.late_for = again(measured.lag.mean() > LATE, self.late_for);
        // With nothing of the server here the machine may be busy with whatever it likes.
        let is_local = self.processes.len() > 1;
        self.exhausted += u32::from(is_local && reading.idle.is_some_and(|idle| idle < EXHAUSTED));
        if self.void.is_some() {
            return;
        }
        let from = tick.at - f64::from(PATIENCE);
        if self.busy_for >= PATIENCE {
            self.void = Some(format!(
                "the load tester's thread used {:.0} % of a core from {from:.0} s on, more than {:.0} % for {PATIENCE} s",
                self.busiest * 100.0,
                BUSY * 100.0
            ));
        } else if self.late_for >= PATIENCE {
            self.void = Some(format!(
                "the load tester's timers were {} ms late on average from {from:.0} s on, more than {} ms for {PATIENCE} s",
                measured.lag.mean().as_millis(),
                LATE.as_millis()
            ));
        }
    }
}

/// Says whether it was long enough to say something about shares of time.
fn counts(tick: Tick) -> bool {
    tick.seconds >= 0.5
}

fn points(measured: &Measured) -> BTreeMap<Latency, Point> {
    let point = |histogram: &hdrhistogram::Histogram<u64>| Point {
        count: histogram.len(),
        p50_us: histogram.value_at_quantile(0.5),
        p99_us: histogram.value_at_quantile(0.99),
    };
    let all = measured.latencies.iter();
    all.map(|(latency, pair)| (*latency, point(&pair.corrected))).collect()
}

fn used(tick: Tick, reading: &Reading) -> BTreeMap<String, Used> {
    let used = |(name, (cpu, memory)): (&&str, &(Duration, u64))| {
        let cpu = cpu.as_secs_f64() / tick.seconds.max(f64::MIN_POSITIVE);
        ((*name).to_owned(), Used { cpu, memory: *memory })
    };
    reading.processes.iter().map(used).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{Count, Meter};

    fn tick(at: u32) -> Tick {
        Tick {
            at: f64::from(at),
            seconds: 1.0,
            wanted: 1.0,
            users: 2,
            sockets: 3,
        }
    }

    fn reading(busy_ms: u64, idle: f64) -> Reading {
        let server = (Duration::from_millis(500), 1 << 20);
        let client = (Duration::from_millis(busy_ms), 1 << 19);
        Reading {
            processes: [("server", server), ("client", client)].into(),
            busiest: Duration::from_millis(busy_ms),
            idle: Some(idle),
            gone: Vec::new(),
        }
    }

    fn seen(busy_ms: &[u64], late_ms: &[u64]) -> Seen {
        let (mut seen, meter) = (Seen::default(), Meter::default());
        for (at, busy) in (1..).zip(busy_ms) {
            if let Some(late) = late_ms.get(at as usize - 1) {
                meter.lag(Duration::from_millis(*late));
            }
            seen.second(tick(at), meter.take(), &reading(*busy, 0.5));
        }
        seen
    }

    #[test]
    fn a_busy_load_tester_voids_the_run() {
        assert_eq!(seen(&[900, 900, 800, 900, 900], &[]).void, None, "never three in a row");
        let void = seen(&[100, 900, 910, 920, 100], &[]).void.unwrap();
        assert!(void.contains("92 % of a core from 1 s on"), "{void}");
    }

    #[test]
    fn late_timers_void_the_run() {
        assert_eq!(seen(&[1; 4], &[60, 60, 10, 60]).void, None);
        let void = seen(&[1; 4], &[10, 60, 70, 80]).void.unwrap();
        assert!(void.contains("80 ms late on average from 1 s on"), "{void}");
    }

    #[test]
    fn a_machine_out_of_cpu_is_a_warning() {
        let mut seen = seen(&[100], &[]);
        assert!(seen.warnings().is_empty());
        seen.second(tick(2), Measured::default(), &reading(100, 0.01));
        assert!(
            seen.warnings()[0].starts_with("in 1 of 2 seconds"),
            "{:?}",
            seen.warnings()
        );
        assert_eq!(seen.void, None);
        let gone = Reading {
            gone: vec!["server"],
            ..Reading::default()
        };
        seen.second(tick(3), Measured::default(), &gone);
        assert!(seen.warnings()[1].contains("server ended"));
    }

    #[test]
    fn a_second_is_in_the_series_and_in_the_totals() {
        let (mut seen, meter) = (Seen::default(), Meter::default());
        for at in 1..=2 {
            meter.count(Count::Deltas, 10);
            meter.error("busy");
            let span = Duration::from_millis(u64::from(at) * 10);
            meter.span(Latency::Ack, span, span);
            seen.second(tick(at), meter.take(), &reading(100, 0.5));
        }
        assert_eq!(seen.totals.counted(Count::Deltas), 20);
        let last = seen.series.last().unwrap();
        assert_eq!(
            (last.errors, last.users, last.sockets, last.counts[&Count::Deltas]),
            (1, 2, 3, 10)
        );
        assert_eq!(last.latencies[&Latency::Ack].count, 1);
        assert_eq!(last.latencies[&Latency::Ack].p99_us / 100, 200);
        assert_eq!(
            last.processes["server"],
            Used {
                cpu: 0.5,
                memory: 1 << 20
            }
        );
        assert_eq!(seen.processes["server"].cpu_mean, 0.5);
        assert_eq!(seen.recent().latencies[&Latency::Ack].corrected.len(), 2);
    }
}
