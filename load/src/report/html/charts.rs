//! The charts of a report.

use super::super::show::{bytes, clock, number};
use super::super::{Figures, Report, Second};
use super::axis::times;
use super::chart::{Chart, Line};
use super::span;
use crate::meter::{Count, Latency};

/// Most places along the time: a longer load is drawn in longer steps.
const PLACES: usize = 120;

/// How the seconds of a step become one value.
#[derive(Clone, Copy)]
enum Fold {
    Mean,
    Max,
}

/// A load along its time.
struct Timeline<'a> {
    report: &'a Report,
    steps: Vec<&'a [Second]>,
}

impl<'a> Timeline<'a> {
    fn new(report: &'a Report) -> Self {
        let size = report.series.len().div_ceil(PLACES).max(1);
        // The last second is cut short by the end: what is per second in it says little.
        let last = report
            .series
            .last()
            .is_some_and(|last| last.seconds < 0.5 && report.series.len() > 2);
        let series = report
            .series
            .get(..report.series.len() - usize::from(last))
            .unwrap_or_default();
        Self {
            report,
            steps: series.chunks(size).collect(),
        }
    }

    fn line(&self, name: &str, colour: usize, fold: Fold, value: impl Fn(&Second) -> Option<f64>) -> Line {
        let step = |step: &&[Second]| -> Option<f64> {
            let values: Vec<f64> = step.iter().filter_map(&value).collect();
            #[expect(clippy::cast_precision_loss, reason = "seconds of a step")]
            let count = values.len() as f64;
            let folded = match fold {
                Fold::Mean => values.iter().sum::<f64>() / count,
                Fold::Max => values.iter().copied().fold(0.0, f64::max),
            };
            (count > 0.0).then_some(folded)
        };
        Line {
            name: name.to_owned(),
            values: self.steps.iter().map(step).collect(),
            colour,
            is_dashed: false,
        }
    }

    fn rate(&self, name: &str, colour: usize, count: Count) -> Line {
        self.line(name, colour, Fold::Mean, |second| Some(second.rate(count)))
    }

    fn chart(&self, title: &str, note: &str, unit: fn(f64) -> String, lines: Vec<Line>) -> Chart {
        let end = self.report.series.last().map_or(1.0, |last| last.at).max(0.1);
        let ends = self.steps.iter().filter_map(|step| step.last());
        let mut over = 0.0;
        let stages = self.report.settings.stages.iter().map(|stage| {
            over += stage.seconds;
            over / end
        });
        Chart {
            title: title.to_owned(),
            note: note.to_owned(),
            places: ends.map(|second| (second.at / end, clock(second.at))).collect(),
            ticks: times(end).into_iter().map(|(at, label)| (at / end, label)).collect(),
            marks: stages.filter(|mark| (0.005..0.995).contains(mark)).collect(),
            lines,
            unit,
            base: 10.0,
            may_be_log: false,
        }
    }
}

fn grid(charts: impl IntoIterator<Item = Chart>) -> String {
    let drawn: String = charts
        .into_iter()
        .filter(|chart| !chart.is_empty())
        .map(|chart| chart.draw())
        .collect();
    if drawn.is_empty() {
        drawn
    } else {
        format!("<div class=\"charts\">\n{drawn}</div>\n")
    }
}

fn per_second(value: f64) -> String {
    format!("{}/s", number(value))
}

/// Offered and achieved, users and sockets, deltas, errors.
#[expect(clippy::cast_precision_loss, reason = "counts of a second")]
pub(super) fn load(report: &Report) -> String {
    let time = Timeline::new(report);
    let wanted = Line {
        is_dashed: true,
        ..time.line("wanted", 3, Fold::Mean, |second| Some(second.wanted))
    };
    let mut rates = vec![
        time.rate("offered", 0, Count::Offered),
        time.rate("started", 1, Count::Started),
        time.rate("completed", 2, Count::Completed),
    ];
    let mut levels = vec![
        time.line("users", 0, Fold::Mean, |second| Some(second.users as f64)),
        time.line("sockets", 1, Fold::Mean, |second| Some(second.sockets as f64)),
    ];
    if report.settings.model == "open" {
        rates.push(wanted)
    } else {
        levels.push(wanted)
    }
    let deltas = vec![time.rate("deltas", 0, Count::Deltas)];
    let sent = vec![
        time.rate("commands", 0, Count::Commands),
        time.rate("messages", 1, Count::Sends),
    ];
    let troubles = vec![
        time.line("errors", 4, Fold::Mean, |second| {
            Some(second.errors as f64 / second.seconds.max(1e-3))
        }),
        time.line("broken promises", 5, Fold::Mean, |second| {
            Some(second.broken as f64 / second.seconds.max(1e-3))
        }),
    ];
    let lag = vec![time.line("worst timer", 0, Fold::Max, |second| Some(second.lag_ms * 1e3))];
    grid([
        time.chart(
            "Users a second",
            "What was offered and what was achieved",
            per_second,
            rates,
        ),
        time.chart("Users and sockets", "At it, and open", number, levels),
        time.chart("Deltas a second", "Pieces of texts that arrived", per_second, deltas),
        time.chart("Commands a second", "What was sent", per_second, sent),
        time.chart(
            "Errors a second",
            "Refused commands and lost connections",
            per_second,
            troubles,
        ),
        time.chart(
            "Lateness of the load tester",
            "Its own timers, the worst of each second",
            span,
            lag,
        ),
    ])
}

/// For each latency, along the time and by share.
pub(super) fn latencies(report: &Report) -> String {
    let time = Timeline::new(report);
    let measured = report.latencies.iter().filter(|(_, both)| both.corrected.count > 0);
    let charts = measured.flat_map(|(latency, both)| {
        let name = title(*latency);
        let along = vec![
            time.line("p50", 0, Fold::Mean, |second| {
                point(second, *latency, |point| point.p50_us)
            }),
            time.line("p99", 4, Fold::Max, |second| {
                point(second, *latency, |point| point.p99_us)
            }),
        ];
        [
            Chart {
                may_be_log: true,
                ..time.chart(&name, latency.about(), span, along)
            },
            curve(&format!("{name}, by share"), &both.corrected, &both.raw),
        ]
    });
    grid(charts)
}

#[expect(clippy::cast_precision_loss, reason = "microseconds below ten minutes")]
fn point(second: &Second, latency: Latency, of: fn(&super::super::Point) -> u64) -> Option<f64> {
    let point = second.latencies.get(&latency).filter(|point| point.count > 0)?;
    Some(of(point) as f64)
}

/// `first_token` is `First token`.
pub(super) fn title(latency: Latency) -> String {
    let name = latency.name().replace('_', " ");
    let mut letters = name.chars();
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).collect()
}

/// Latency by share of the samples; each nine has the same length.
#[expect(clippy::cast_precision_loss, reason = "microseconds below ten minutes")]
fn curve(title: &str, corrected: &Figures, raw: &Figures) -> Chart {
    let nines = |share: f64| -(1.0 - share).log10();
    let end = corrected.curve.last().map_or(1.0, |(share, _)| nines(*share)).max(0.5) * 1.05;
    let line = |name: &str, figures: &Figures, colour, is_dashed| Line {
        name: name.to_owned(),
        values: figures.curve.iter().map(|(_, value)| Some(*value as f64)).collect(),
        colour,
        is_dashed,
    };
    let label = |share: f64| format!("{} %", shortest(share * 100.0));
    let ticks = [0.0, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999];
    Chart {
        title: title.to_owned(),
        note: "From the intended start, and from the actual one".to_owned(),
        places: corrected
            .curve
            .iter()
            .map(|(share, _)| (nines(*share) / end, label(*share)))
            .collect(),
        ticks: ticks
            .into_iter()
            .filter(|share| nines(*share) <= end)
            .map(|share| (nines(share) / end, label(share)))
            .collect(),
        marks: Vec::new(),
        lines: vec![line("corrected", corrected, 0, false), line("raw", raw, 2, true)],
        unit: span,
        base: 10.0,
        may_be_log: true,
    }
}

/// `99.9` and `99.995`, never `99.99000000000001`.
fn shortest(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// CPU and memory of the processes.
#[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
pub(super) fn resources(report: &Report) -> String {
    let time = Timeline::new(report);
    let lines = |of: fn(&super::super::Used) -> f64| -> Vec<Line> {
        let all = report.processes.keys().enumerate();
        all.map(|(colour, name)| {
            time.line(name, colour % 6, Fold::Mean, |second| {
                second.processes.get(name).map(of)
            })
        })
        .collect()
    };
    let cores = |value: f64| format!("{value:.2} cores");
    let cpu = time.chart(
        "CPU",
        "Cores, by process; the load tester is client",
        cores,
        lines(|used| used.cpu),
    );
    let memory = time.chart(
        "Memory",
        "Resident, by process",
        bytes,
        lines(|used| used.memory as f64),
    );
    grid([cpu, Chart { base: 1024.0, ..memory }])
}
