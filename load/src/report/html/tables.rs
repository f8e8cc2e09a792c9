//! The tables of a report.

use super::super::show::{bytes, clock, number};
use super::super::summary::{number_of, span_of};
use super::super::{Breach, Figures, Report};
use super::charts::title;
use super::{escape, section};
use crate::meter::Count;

/// Broken promises that are shown with their frames.
const SHOWN: usize = 20;

/// A table: heads, and rows of cells; the first column is text, the others are numbers.
fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let head: String = heads.iter().map(|head| format!("<th>{}</th>", escape(head))).collect();
    let row = |cells: Vec<String>| {
        // A second way to read the row above.
        let class = if cells.iter().any(|cell| cell.starts_with('·')) {
            " class=\"sub\""
        } else {
            ""
        };
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        format!("<tr{class}>{cells}</tr>\n")
    };
    let body: String = rows.into_iter().map(row).collect();
    if body.is_empty() {
        return String::new();
    }
    format!("<div class=\"wide\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table></div>\n")
}

/// What makes the figures doubtful.
pub(super) fn notes(report: &Report) -> String {
    let void = report.void.iter().map(|reason| format!("Void: {reason}."));
    let warnings = report.warnings.iter().map(|warning| format!("Warning: {warning}."));
    let all: String = void
        .chain(warnings)
        .map(|note| format!("<p class=\"note\">{}</p>\n", escape(&note)))
        .collect();
    all
}

/// What had to hold.
pub(super) fn thresholds(report: &Report) -> String {
    let row = |judged: &crate::threshold::Judged| {
        let (class, mark) = if judged.passed { ("good", "✓") } else { ("bad", "✗") };
        let (text, value) = (escape(&judged.text), escape(&judged.value));
        format!("<tr class=\"{class}\"><td><b>{mark}</b> <code>{text}</code></td><td>{value}</td></tr>\n")
    };
    let rows: String = report.thresholds.iter().map(row).collect();
    section(
        "Thresholds",
        &format!(
            "<div class=\"wide\"><table class=\"thresholds\">\n<thead><tr><th>Must hold</th><th>Measured</th></tr></thead>\n\
             <tbody>\n{rows}</tbody></table></div>\n"
        ),
    )
}

/// What was broken, with the frames that show it.
pub(super) fn breaches(report: &Report) -> String {
    if report.broken.is_empty() {
        return String::new();
    }
    let counts = table(
        &["Check", "Broken"],
        report
            .broken
            .iter()
            .map(|(check, count)| vec![check.clone(), number_of(*count)]),
    );
    let shown: String = report.breaches.iter().take(SHOWN).enumerate().map(breach).collect();
    let rest = report
        .breaches()
        .saturating_sub(report.breaches.len().min(SHOWN) as u64);
    let rest = if rest > 0 {
        format!("<p class=\"note\">And {} more.</p>\n", number_of(rest))
    } else {
        String::new()
    };
    section("Broken promises", &(counts + &shown + &rest))
}

fn breach((index, breach): (usize, &Breach)) -> String {
    let open = if index < 3 { " open" } else { "" };
    let seq = breach.seq.map_or_else(|| "–".to_owned(), |seq| seq.to_string());
    let facts = [
        ("session", breach.session.as_str()),
        ("seq", seq.as_str()),
        ("device", breach.device.as_str()),
        ("script", breach.script.as_str()),
    ];
    let facts: String = facts
        .iter()
        .map(|(name, value)| format!("{name} <b>{}</b> ", escape(value)))
        .collect();
    let frames = |title: &str, frames: &[String]| {
        let frames: String = frames
            .iter()
            .map(|frame| format!("<li>{}</li>", escape(frame)))
            .collect();
        if frames.is_empty() {
            String::new()
        } else {
            format!("<h4>{title}</h4><ol class=\"frames\">{frames}</ol>")
        }
    };
    format!(
        "<details class=\"breach\"{open}><summary><code>{}</code> {}</summary>\n<p>{facts}</p>\n{}{}</details>\n",
        escape(&breach.check),
        escape(&breach.what),
        frames("Last frames that the client sent", &breach.sent),
        frames("Last frames that it received", &breach.received)
    )
}

/// All latencies, from the intended start; where the actual one says something else, that too.
pub(super) fn latencies(report: &Report) -> String {
    let row = |name: String, figures: &Figures| {
        let spans = [
            figures.min_us,
            figures.p50_us,
            figures.p75_us,
            figures.p90_us,
            figures.p95_us,
            figures.p99_us,
            figures.p999_us,
            figures.max_us,
        ];
        let cells = spans.into_iter().map(span_of);
        [name, number_of(figures.count)]
            .into_iter()
            .chain(cells)
            .chain([super::span(figures.mean_us)])
            .collect()
    };
    let measured = report.latencies.iter().filter(|(_, both)| both.corrected.count > 0);
    let rows = measured.flat_map(|(latency, both)| {
        let raw = (both.raw != both.corrected).then(|| row("· from its actual start".to_owned(), &both.raw));
        std::iter::once(row(title(*latency), &both.corrected)).chain(raw)
    });
    let heads = [
        "Latency", "Count", "Min", "p50", "p75", "p90", "p95", "p99", "p99.9", "Max", "Mean",
    ];
    table(&heads, rows)
}

/// What was counted, errors by code, what the processes used.
#[expect(clippy::cast_precision_loss, reason = "bytes of a load")]
pub(super) fn counts(report: &Report) -> String {
    let count = |count: &Count| {
        let (all, rate) = (report.counted(*count), report.rate(*count));
        let is_bytes = matches!(count, Count::BytesIn | Count::BytesOut);
        let (all, rate) = if is_bytes {
            (bytes(all as f64), bytes(rate))
        } else {
            (number_of(all), number(rate))
        };
        vec![count.about().to_owned(), all, format!("{rate}/s")]
    };
    let counted = Count::ALL
        .iter()
        .filter(|count| report.counts.contains_key(count))
        .map(count);
    let errors = report.errors.iter().map(|(code, count)| {
        let rate = *count as f64 / report.seconds.max(f64::MIN_POSITIVE);
        vec![code.clone(), number_of(*count), format!("{}/s", number(rate))]
    });
    let processes = report.processes.iter().map(|(name, usage)| {
        vec![
            name.clone(),
            format!("{:.2}", usage.cpu_mean),
            format!("{:.2}", usage.cpu_max),
            bytes(usage.memory_max as f64),
        ]
    });
    [
        table(&["Counted", "All", "Rate"], counted),
        table(&["Error", "All", "Rate"], errors),
        table(&["Process", "Cores, mean", "Cores, most", "Memory, most"], processes),
    ]
    .concat()
}

/// Where and how it was measured.
pub(super) fn settings(report: &Report) -> String {
    let (machine, settings) = (&report.machine, &report.settings);
    let stages: Vec<_> = settings
        .stages
        .iter()
        .map(|stage| format!("to {} over {}", number(stage.to), clock(stage.seconds)))
        .collect();
    let mix: Vec<_> = settings
        .mix
        .iter()
        .map(|(script, weight)| format!("{script} × {weight}"))
        .collect();
    let unit = if settings.model == "open" {
        "arrivals a second"
    } else {
        "users"
    };
    let rows = [
        ("Processor", format!("{}, {} cores", machine.cpu, machine.cores)),
        ("Memory", format!("{} GiB", machine.memory_gib)),
        ("Kernel", machine.kernel.clone()),
        (
            "Load average",
            format!("{} before, {} after", machine.load_before, machine.load_after),
        ),
        ("Load tester", format!("kronos-load {}", report.version)),
        ("Stages", format!("{} ({unit})", stages.join(", then "))),
        ("Scripts", mix.join(", ")),
        ("Codec", settings.codec.clone()),
        (
            "Network",
            if settings.network.is_empty() {
                "as it is".to_owned()
            } else {
                settings.network.join("; ")
            },
        ),
        (
            "Speed",
            format!("{} (think times are divided by it)", number(settings.speed)),
        ),
        ("Seed", settings.seed.to_string()),
    ];
    let row =
        |(name, value): &(&str, String)| format!("<tr><th>{}</th><td>{}</td></tr>\n", escape(name), escape(value));
    let rows: String = rows.iter().map(row).collect();
    format!("<div class=\"wide\"><table class=\"facts\"><tbody>\n{rows}</tbody></table></div>\n")
}
