//! The figures that are compared: each of a whole load, and of a step of its time.

use std::collections::BTreeSet;

use crate::meter::{Count, Latency};
use crate::report::show::{bytes, micros, number};
use crate::report::{Point, Report, Second, Used};

/// What a figure is in some seconds.
type Step = Box<dyn Fn(&[Second]) -> Option<f64>>;

/// A figure in a whole load.
type Whole = Box<dyn Fn(&Report) -> Option<f64>>;

/// A figure.
pub(super) struct Figure {
    pub(super) name: String,
    /// The unit of its values.
    pub(super) unit: &'static str,
    pub(super) more_is_better: bool,
    /// Of the load.
    pub(super) whole: Whole,
    /// Of a step.
    pub(super) step: Step,
    /// How people read it.
    pub(super) show: fn(f64) -> String,
}

/// Returns what both sides have.
pub(super) fn common(before: &[Report], after: &[Report]) -> Vec<Figure> {
    let in_all = |has: &dyn Fn(&Report) -> bool| before.iter().chain(after).all(has);
    let mut figures = Vec::new();
    for latency in Latency::ALL {
        if in_all(&|report| {
            report
                .latencies
                .get(latency)
                .is_some_and(|both| both.corrected.count > 0)
        }) {
            figures.push(of_latency(
                *latency,
                "p50",
                |point| point.p50_us,
                |figures| figures.p50_us,
            ));
            figures.push(of_latency(
                *latency,
                "p99",
                |point| point.p99_us,
                |figures| figures.p99_us,
            ));
        }
    }
    for count in [Count::Started, Count::Completed, Count::Deltas] {
        if in_all(&|report| report.counted(count) > 0) {
            figures.push(of_rate(count));
        }
    }
    let names: BTreeSet<&String> = before.iter().flat_map(|report| report.processes.keys()).collect();
    for name in names {
        if in_all(&|report| report.processes.contains_key(name)) {
            figures.push(of_cpu(name));
            figures.push(of_memory(name));
            if in_all(&|report| report.counted(Count::Deltas) > 0) {
                figures.push(of_cpu_per_delta(name));
            }
        }
    }
    figures
}

#[expect(clippy::cast_precision_loss, reason = "microseconds and samples")]
fn of_latency(
    latency: Latency,
    name: &str,
    of: fn(&Point) -> u64,
    whole: fn(&crate::report::Figures) -> u64,
) -> Figure {
    Figure {
        name: format!("{name}({})", latency.name()),
        unit: "us",
        more_is_better: false,
        whole: Box::new(move |report| Some(whole(&report.latencies.get(&latency)?.corrected) as f64)),
        // By samples: a second with one of them says little.
        step: Box::new(move |seconds| {
            let points = seconds.iter().filter_map(|second| second.latencies.get(&latency));
            let (sum, count) = points.fold((0.0, 0.0), |(sum, count), point| {
                (sum + of(point) as f64 * point.count as f64, count + point.count as f64)
            });
            (count > 0.0).then(|| sum / count)
        }),
        show: micros,
    }
}

fn length(seconds: &[Second]) -> f64 {
    seconds
        .iter()
        .map(|second| second.seconds)
        .sum::<f64>()
        .max(f64::MIN_POSITIVE)
}

#[expect(clippy::cast_precision_loss, reason = "counts of a load")]
fn counted(seconds: &[Second], count: Count) -> f64 {
    seconds
        .iter()
        .filter_map(|second| second.counts.get(&count))
        .sum::<u64>() as f64
}

fn of_rate(count: Count) -> Figure {
    Figure {
        name: format!("rate({})", count.name()),
        unit: "per_second",
        more_is_better: true,
        whole: Box::new(move |report| Some(report.rate(count))),
        step: Box::new(move |seconds| Some(counted(seconds, count) / length(seconds))),
        show: |value| format!("{}/s", number(value)),
    }
}

/// Sums what a process used, each second weighed by its length.
fn used(seconds: &[Second], name: &str, of: impl Fn(&Used) -> f64) -> Option<f64> {
    let values: Vec<f64> = seconds
        .iter()
        .filter_map(|second| Some(of(second.processes.get(name)?) * second.seconds))
        .collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

fn of_cpu(name: &str) -> Figure {
    let (whole, step) = (name.to_owned(), name.to_owned());
    Figure {
        name: format!("cpu({name})"),
        unit: "cores",
        more_is_better: false,
        whole: Box::new(move |report| Some(report.processes.get(&whole)?.cpu_mean)),
        step: Box::new(move |seconds| Some(used(seconds, &step, |used| used.cpu)? / length(seconds))),
        show: |value| format!("{value:.2} cores"),
    }
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
fn of_memory(name: &str) -> Figure {
    let (whole, step) = (name.to_owned(), name.to_owned());
    Figure {
        name: format!("memory({name})"),
        unit: "bytes",
        more_is_better: false,
        whole: Box::new(move |report| Some(report.processes.get(&whole)?.memory_max as f64)),
        step: Box::new(move |seconds| Some(used(seconds, &step, |used| used.memory as f64)? / length(seconds))),
        show: bytes,
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a load")]
fn of_cpu_per_delta(name: &str) -> Figure {
    let (whole, step) = (name.to_owned(), name.to_owned());
    Figure {
        name: format!("cpu({name}) for each delta"),
        unit: "us",
        more_is_better: false,
        whole: Box::new(move |report| {
            let usage = report.processes.get(&whole)?;
            Some(usage.cpu_seconds * 1e6 / report.counted(Count::Deltas) as f64)
        }),
        step: Box::new(move |seconds| {
            let deltas = counted(seconds, Count::Deltas);
            let cpu = used(seconds, &step, |used| used.cpu)?;
            (deltas > 0.0).then(|| cpu * 1e6 / deltas)
        }),
        show: micros,
    }
}
