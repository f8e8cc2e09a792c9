//! The table: what was measured, the ratios, the targets and whether they are met.

use std::fmt::Write as _;

use super::Baseline;
use super::machine::Machine;
use super::samples::Samples;
use crate::stats::{Short, Spread};
use crate::stream::Way;

/// What a row should come to.
enum Target {
    /// It only informs.
    None,
    /// The ratio to the base, with `commit` and with `relaxed`.
    Ratio { commit: f64, relaxed: f64 },
    /// What it adds: one flush and 0.3 ms with `commit`, this ratio to the base with `relaxed`.
    FlushAndRatio(f64),
    /// What it adds: at most so many milliseconds more than the base.
    NearBase(f64),
    /// The value itself, of the server.
    AtMost(f64),
}

/// One row.
struct Row {
    measure: &'static str,
    label: &'static str,
    /// The column that ratios are taken to.
    base: Way,
    /// Values are what a way adds to the direct one.
    added: bool,
    target: Target,
}

const fn row(measure: &'static str, label: &'static str, target: Target) -> Row {
    Row {
        measure,
        label,
        base: Way::Bare,
        added: false,
        target,
    }
}

const fn added(measure: &'static str, label: &'static str, target: Target) -> Row {
    Row {
        added: true,
        ..row(measure, label, target)
    }
}

const fn to_direct(measure: &'static str, label: &'static str) -> Row {
    Row {
        base: Way::Direct,
        ..row(measure, label, Target::None)
    }
}

const CPU: Target = Target::Ratio {
    commit: 1.5,
    relaxed: 1.3,
};

const ROWS: &[Row] = &[
    added(
        "stream50.delta_p50",
        "delta, 50 sessions: added p50, ms",
        Target::FlushAndRatio(1.5),
    ),
    added("stream50.delta_p99", "delta, 50 sessions: added p99, ms", Target::None),
    added(
        "stream50.first_p50",
        "first delta, 50 sessions: added p50, ms",
        Target::NearBase(2.0),
    ),
    added(
        "stream50.first_p99",
        "first delta, 50 sessions: added p99, ms",
        Target::None,
    ),
    added(
        "stream600.delta_p50",
        "delta, 600 sessions: added p50, ms",
        Target::None,
    ),
    added(
        "stream600.delta_p99",
        "delta, 600 sessions: added p99, ms",
        Target::None,
    ),
    added(
        "stream600.first_p50",
        "first delta, 600 sessions: added p50, ms",
        Target::NearBase(2.0),
    ),
    added(
        "stream600.first_p99",
        "first delta, 600 sessions: added p99, ms",
        Target::None,
    ),
    row("stream50.cpu", "CPU of a delta, 50 sessions, µs", CPU),
    row("stream600.cpu", "CPU of a delta, 600 sessions, µs", CPU),
    row("saturated.cpu", "CPU of a delta, saturated, µs", CPU),
    row("saturated.rate", "deltas/s, saturated", Target::None),
    row(
        "memory.small",
        "resident of an idle attached socket, 1,000 of them, KiB",
        Target::AtMost(14.0),
    ),
    row(
        "memory.large",
        "resident of an idle attached socket, 9,000 of them, KiB",
        Target::AtMost(14.0),
    ),
    row(
        "memory.stored",
        "resident of a session that sleeps and that nobody attends, 9,000 of them, KiB",
        Target::None,
    ),
    row(
        "storm.all",
        "storm: 9,000 sockets cut, all attached again, s",
        Target::Ratio {
            commit: 1.5,
            relaxed: 1.5,
        },
    ),
    to_direct("flush.p50", "raw fdatasync loop: p50, ms"),
    to_direct("flush.p99", "raw fdatasync loop: p99, ms"),
    to_direct("sends1.rate", "durable commands/s, 1 session (direct: the raw loop)"),
    to_direct(
        "sends500.rate",
        "durable commands/s, 500 sessions (direct: the raw loop)",
    ),
    row(
        "cancel.p50",
        "cancel until the upstream is closed: p50, ms",
        Target::None,
    ),
    row(
        "cancel.p99",
        "cancel until the upstream is closed: p99, ms",
        Target::AtMost(50.0),
    ),
    row(
        "stream50.driver_cpu",
        "load tester: CPU of a delta, 50 sessions, µs",
        Target::None,
    ),
    row(
        "stream600.driver_busy",
        "load tester: cores used, 600 sessions",
        Target::None,
    ),
    row(
        "stream600.simulator_busy",
        "simulator: cores used, 600 sessions",
        Target::None,
    ),
    row(
        "saturated.driver_busy",
        "load tester: cores used, saturated",
        Target::None,
    ),
    row(
        "saturated.simulator_busy",
        "simulator: cores used, saturated",
        Target::None,
    ),
];

/// Renders the whole report in Markdown.
pub(super) fn render(machine: &Machine, bench: &Baseline) -> String {
    let mut text = format!(
        "{} · {} cores · {} GiB · Linux {} · {} · {} · {} interleaved rounds, median (min – max) · load average {} before, {} after\n\n\
         | | direct | bare | commit | relaxed | commit / bare | relaxed / bare | target | met |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        machine.cpu,
        machine.cores,
        machine.memory_gib,
        machine.kernel,
        machine.date,
        machine.versions,
        bench.rounds,
        machine.load_before,
        machine.load_after,
    );
    for row in ROWS {
        text.push_str(&line(row, &bench.samples).unwrap_or_default());
    }
    text
}

/// Renders a row; nothing when it was not measured.
fn line(row: &Row, samples: &Samples) -> Option<String> {
    let [direct, bare, commit, relaxed] =
        [Way::Direct, Way::Bare, Way::Commit, Way::Relaxed].map(|way| value(row, samples, way));
    if direct.is_none() && commit.is_none() {
        return None;
    }
    let ratios = [Way::Commit, Way::Relaxed].map(|way| samples.ratio(row.measure, way, row.base, row.added));
    let (target, met) = judge(row, samples, [commit, relaxed], ratios);
    let mut text = format!("| {} ", row.label);
    for cell in [direct, bare, commit, relaxed].into_iter().chain(ratios) {
        match cell {
            Some(spread) => write!(text, "| {spread} ").ok()?,
            None => text.push_str("| – "),
        }
    }
    writeln!(text, "| {target} | {met} |").ok()?;
    Some(text)
}

/// Returns what a cell shows: the direct way itself, of the others what they add when the row asks for that.
fn value(row: &Row, samples: &Samples, way: Way) -> Option<Spread> {
    if row.added && way != Way::Direct {
        samples.added(row.measure, way)
    } else {
        samples.spread(row.measure, way)
    }
}

/// Returns the target in words, and whether the medians meet it.
fn judge(row: &Row, samples: &Samples, values: [Option<Spread>; 2], ratios: [Option<Spread>; 2]) -> (String, String) {
    let [commit, _] = values;
    let value_of = |way| value(row, samples, way);
    let (words, bounds) = match row.target {
        Target::None => return (String::new(), String::new()),
        Target::Ratio { commit, relaxed } => (
            format!("{commit} / {relaxed} × bare"),
            [(ratios[0], commit), (ratios[1], relaxed)],
        ),
        Target::FlushAndRatio(ratio) => {
            let flush = samples
                .spread("flush.p50", Way::Direct)
                .map_or(0.0, |flush| flush.median);
            (
                format!("flush + 0.3 = {} / {ratio} × bare", Short(flush + 0.3)),
                [(commit, flush + 0.3), (ratios[1], ratio)],
            )
        }
        Target::NearBase(more) => {
            let base = value_of(Way::Bare).map_or(0.0, |bare| bare.median);
            (
                format!("bare + {more}"),
                [(values[0], base + more), (values[1], base + more)],
            )
        }
        Target::AtMost(bound) => (format!("≤ {bound}"), [(values[0], bound), (values[1], bound)]),
    };
    let verdicts = bounds.map(|(found, bound)| match found {
        Some(found) if found.median <= bound => "yes",
        Some(_) => "**no**",
        None => "n/a",
    });
    (words, verdicts.join(" / "))
}
