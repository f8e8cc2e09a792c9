//! The summary on stdout.

use std::fmt;

use super::show::{bytes, clock, micros, number};
use super::{Breach, Figures, Report};
use crate::meter::Count;

/// Broken promises that are printed whole; all are in the files.
const SHOWN: usize = 5;
/// Characters of a frame that are printed.
const FRAME: usize = 300;

/// What a terminal gets.
pub(crate) struct Summary<'a>(pub(crate) &'a Report);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        heading(f, report)?;
        latencies(f, report)?;
        counts(f, report)?;
        processes(f, report)?;
        breaches(f, report)?;
        thresholds(f, report)?;
        for warning in &report.warnings {
            writeln!(f, "\n  warning: {warning}")?;
        }
        writeln!(f, "\n  {}", verdict(report))
    }
}

/// What it came to, in a sentence.
pub(crate) fn verdict(report: &Report) -> String {
    let failed = report.thresholds.iter().filter(|judged| !judged.passed).count();
    let early = if report.interrupted {
        " It was interrupted before its end."
    } else {
        ""
    };
    let verdict = match (report.breaches(), &report.void) {
        (1, _) => "FAILED: a promise was broken.".to_owned(),
        (broken @ 2.., _) => format!("FAILED: {} promises were broken.", number_of(broken)),
        (0, Some(reason)) => format!("VOID: {reason}. Nothing that was measured counts."),
        (0, None) if failed > 0 => format!(
            "FAILED: {failed} of {} thresholds did not hold.",
            report.thresholds.len()
        ),
        (0, None) => "PASSED: everything held.".to_owned(),
    };
    verdict + early
}

#[expect(clippy::cast_precision_loss, reason = "counts of a load")]
pub(super) fn number_of(count: u64) -> String {
    number(count as f64)
}

fn heading(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let settings = &report.settings;
    let server = report.server.as_ref().map_or_else(String::new, |server| {
        format!(" ({} {})", printable(&server.name), printable(&server.version))
    });
    writeln!(f, "\n  {}: {}", settings.scenario, settings.about)?;
    writeln!(f, "  {}{server}", report.target)?;
    let speed = if (settings.speed - 1.0).abs() > f64::EPSILON {
        format!(", {} times as fast", number(settings.speed))
    } else {
        String::new()
    };
    let (length, model) = (clock(report.seconds), &settings.model);
    writeln!(
        f,
        "  {length}, {model} model, {}{speed}, began {}",
        settings.codec, report.started_at
    )
}

fn latencies(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    if report.latencies.is_empty() {
        return Ok(());
    }
    let heads = ["count", "min", "p50", "p90", "p99", "p99.9", "max"];
    write!(f, "\n  {:<18}", "latency")?;
    heads.iter().try_for_each(|head| write!(f, "{head:>10}"))?;
    writeln!(f)?;
    let row = |f: &mut fmt::Formatter<'_>, name: &str, figures: &Figures| {
        write!(f, "  {name:<18}{:>10}", number_of(figures.count))?;
        let spans = [
            figures.min_us,
            figures.p50_us,
            figures.p90_us,
            figures.p99_us,
            figures.p999_us,
            figures.max_us,
        ];
        spans.iter().try_for_each(|span| write!(f, "{:>10}", span_of(*span)))?;
        writeln!(f)
    };
    for (latency, both) in &report.latencies {
        row(f, latency.name(), &both.corrected)?;
        // Where the load was late, or the server did not take it, the two come apart.
        if both.raw.p99_us.saturating_mul(11) / 10 < both.corrected.p99_us {
            row(f, "  from its start", &both.raw)?;
        }
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "microseconds below ten minutes")]
pub(super) fn span_of(span: u64) -> String {
    micros(span as f64)
}

fn counts(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    writeln!(f)?;
    for count in Count::ALL.iter().filter(|count| report.counts.contains_key(count)) {
        #[expect(clippy::cast_precision_loss, reason = "bytes of a load")]
        let (counted, rate) = match count {
            Count::BytesIn | Count::BytesOut => (bytes(report.counted(*count) as f64), bytes(report.rate(*count))),
            Count::Offered
            | Count::Started
            | Count::Completed
            | Count::Commands
            | Count::Sends
            | Count::Events
            | Count::Deltas
            | Count::Runs
            | Count::Cuts
            | Count::Resumes => (number_of(report.counted(*count)), number(report.rate(*count))),
        };
        writeln!(f, "  {:<18}{counted:>12}{:>14}", count.name(), format!("{rate}/s"))?;
    }
    let errors: u64 = report.errors.values().sum();
    writeln!(f, "  {:<18}{:>12}", "errors", number_of(errors))?;
    for (code, count) in &report.errors {
        writeln!(f, "    {:<16}{:>12}", printable(code), number_of(*count))?;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
fn processes(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    if report.processes.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "\n  {:<18}{:>12}{:>14}{:>14}",
        "process", "CPU mean", "CPU max", "memory max"
    )?;
    for (name, usage) in &report.processes {
        let (mean, max) = (format!("{:.2}", usage.cpu_mean), format!("{:.2} cores", usage.cpu_max));
        writeln!(
            f,
            "  {name:<18}{mean:>12}{max:>14}{:>14}",
            bytes(usage.memory_max as f64)
        )?;
    }
    Ok(())
}

fn breaches(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    if report.broken.is_empty() {
        return Ok(());
    }
    writeln!(f, "\n  broken promises")?;
    for (check, count) in &report.broken {
        writeln!(f, "    {check:<24}{:>8}", number_of(*count))?;
    }
    for breach in report.breaches.iter().take(SHOWN) {
        one(f, breach)?;
    }
    let rest = report.breaches().saturating_sub(SHOWN as u64);
    if rest > 0 {
        writeln!(f, "\n    and {} more", number_of(rest))?;
    }
    Ok(())
}

fn one(f: &mut fmt::Formatter<'_>, breach: &Breach) -> fmt::Result {
    let seq = breach.seq.map_or_else(String::new, |seq| format!(", seq {seq}"));
    writeln!(f, "\n    {}: {}", breach.check, printable(&breach.what))?;
    let (session, device) = (printable(&breach.session), printable(&breach.device));
    writeln!(
        f,
        "      session {session}{seq}, device {device}, script {}",
        printable(&breach.script)
    )?;
    let frames = breach.sent.iter().map(|frame| ("→", frame));
    for (way, frame) in frames.chain(breach.received.iter().map(|frame| ("←", frame))) {
        writeln!(f, "      {way} {}", cut(frame))?;
    }
    Ok(())
}

fn cut(frame: &str) -> String {
    let short: String = frame.chars().take(FRAME).collect();
    let mark = if short.len() < frame.len() { " …" } else { "" };
    printable(&short) + mark
}

/// Returns text without what a terminal would obey: frames are the server's.
pub(crate) fn printable(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

fn thresholds(f: &mut fmt::Formatter<'_>, report: &Report) -> fmt::Result {
    let width = report.thresholds.iter().map(|judged| judged.text.chars().count()).max();
    let width = width.unwrap_or_default();
    writeln!(f)?;
    for judged in &report.thresholds {
        let mark = if judged.passed { "✓" } else { "✗" };
        writeln!(f, "  {mark} {:<width$}   {}", judged.text, judged.value)?;
    }
    Ok(())
}
