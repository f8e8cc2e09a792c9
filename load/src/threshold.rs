//! What must hold at the end of a load: `p99(first_token) < 300ms`, `errors == 0`.

mod grammar;

use serde::{Deserialize, Serialize};

use crate::meter::{Count, Latency};
use crate::report::show::{bytes, micros, number, percent};
use crate::report::{Figures, Report};

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Threshold {
    /// As it was written.
    pub(crate) text: String,
    subject: Subject,
    operator: Operator,
    /// Microseconds, bytes, cores, a number, or a share from 0 to 1: as its subject is measured.
    limit: f64,
}

/// What came of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Judged {
    /// The threshold as it was written.
    pub(crate) text: String,
    /// What was measured, for people; the reason when nothing was.
    pub(crate) value: String,
    /// Whether it held.
    pub(crate) passed: bool,
}

/// What is compared.
#[derive(Debug, Clone, PartialEq)]
enum Subject {
    /// A figure of a latency, in microseconds.
    Latency {
        latency: Latency,
        raw: bool,
        figure: Figure,
    },
    /// Samples of a latency.
    Samples(Latency),
    /// A count.
    Count(Count),
    /// A count per second.
    Rate(Count),
    /// Errors, all or of one code.
    Errors(Option<String>),
    /// Errors for each command and each user that was to begin.
    ErrorRate,
    /// Broken promises, all or of one check.
    Broken(Option<String>),
    /// Cores that a process used on average.
    Cpu(String),
    /// The most memory of a process, in bytes.
    Memory(String),
}

/// A figure of a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Figure {
    Min,
    P50,
    P75,
    P90,
    P95,
    P99,
    P999,
    Max,
    Mean,
}

/// How it is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Less,
    AtMost,
    More,
    AtLeast,
    Equal,
}

impl Operator {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Less => value < limit,
            Self::AtMost => value <= limit,
            Self::More => value > limit,
            Self::AtLeast => value >= limit,
            Self::Equal => (value - limit).abs() < f64::EPSILON * limit.abs().max(1.0),
        }
    }
}

impl Figure {
    #[expect(clippy::cast_precision_loss, reason = "microseconds below ten minutes")]
    fn of(self, figures: &Figures) -> f64 {
        let micros = match self {
            Self::Min => figures.min_us,
            Self::P50 => figures.p50_us,
            Self::P75 => figures.p75_us,
            Self::P90 => figures.p90_us,
            Self::P95 => figures.p95_us,
            Self::P99 => figures.p99_us,
            Self::P999 => figures.p999_us,
            Self::Max => figures.max_us,
            Self::Mean => return figures.mean_us,
        };
        micros as f64
    }
}

impl Subject {
    /// Returns what was measured and how people read it; an error says why there is nothing.
    #[expect(clippy::cast_precision_loss, reason = "counts of a load")]
    fn measured(&self, report: &Report) -> Result<(f64, String), String> {
        let plain = |count: u64| Ok((count as f64, number(count as f64)));
        let of = |counts: &std::collections::BTreeMap<String, u64>, name: &Option<String>| match name {
            Some(name) => counts.get(name).copied().unwrap_or_default(),
            None => counts.values().sum(),
        };
        let process = |name: &String| {
            let usage = report.processes.get(name);
            usage.ok_or_else(|| format!("no process {name} was watched"))
        };
        match self {
            Self::Latency { latency, raw, figure } => {
                let both = report.latencies.get(latency).filter(|both| both.corrected.count > 0);
                let both = both.ok_or_else(|| format!("no {} was measured", latency.name()))?;
                let value = figure.of(if *raw { &both.raw } else { &both.corrected });
                Ok((value, micros(value)))
            }
            Self::Samples(latency) => plain(report.latencies.get(latency).map_or(0, |both| both.corrected.count)),
            Self::Count(count) => plain(report.counted(*count)),
            Self::Rate(count) => {
                let rate = report.rate(*count);
                Ok((rate, format!("{}/s", number(rate))))
            }
            Self::Errors(code) => plain(of(&report.errors, code)),
            Self::ErrorRate => {
                let tries = report.counted(Count::Commands) + report.counted(Count::Offered);
                let share = of(&report.errors, &None) as f64 / tries.max(1) as f64;
                Ok((share, percent(share)))
            }
            Self::Broken(check) => plain(of(&report.broken, check)),
            Self::Cpu(name) => {
                let cores = process(name)?.cpu_mean;
                Ok((cores, format!("{cores:.2} cores")))
            }
            Self::Memory(name) => {
                let most = process(name)?.memory_max as f64;
                Ok((most, bytes(most)))
            }
        }
    }
}

impl Threshold {
    /// Says whether it held.
    pub(crate) fn judge(&self, report: &Report) -> Judged {
        let (value, passed) = match self.subject.measured(report) {
            Ok((value, shown)) => (shown, self.operator.holds(value, self.limit)),
            Err(reason) => (reason, false),
        };
        Judged {
            text: self.text.clone(),
            value,
            passed,
        }
    }

    /// Says whether it is about broken promises, all of them.
    pub(crate) fn is_about_all_broken(&self) -> bool {
        self.subject == Subject::Broken(None)
    }
}

#[cfg(test)]
mod tests;
