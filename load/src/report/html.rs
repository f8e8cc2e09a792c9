//! The report as one page: no script, no network, nothing beside the file. Charts are drawn here, tooltips are style sheets.

mod axis;
mod chart;
mod charts;
mod tables;

use super::Report;
use super::show::{clock, micros, number};
use super::summary::{number_of, verdict};
use crate::meter::{Count, Latency};

/// The style sheet.
const STYLE: &str = include_str!("html/style.css");

/// Nothing may be loaded and nothing run, whatever a server put into its frames.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// Returns text that a browser shows as it is, in elements and in attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' | '\t' => escaped.push(c),
            c if c.is_control() => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// Writes the page.
pub(crate) fn page(report: &Report) -> String {
    let title = escape(&format!("{} · kronos-load", report.settings.scenario));
    let parts = [
        header(report),
        tiles(report),
        tables::notes(report),
        tables::thresholds(report),
        tables::breaches(report),
        section("Load", &charts::load(report)),
        section("Latency", &(tables::latencies(report) + &charts::latencies(report))),
        section("Resources", &charts::resources(report)),
        section("Counts and errors", &tables::counts(report)),
        section("Machine and settings", &tables::settings(report)),
    ];
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{}\n</main>\n</body>\n</html>\n",
        parts.join("\n")
    )
}

/// A heading and what is below it; nothing when there is nothing.
fn section(title: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    format!("<section>\n<h2>{}</h2>\n{content}</section>", escape(title))
}

fn header(report: &Report) -> String {
    let (class, word) = match report.exit_code() {
        0 => ("good", "Passed"),
        98 => ("odd", "Void"),
        105 => ("odd", "Interrupted"),
        _ => ("bad", "Failed"),
    };
    let settings = &report.settings;
    let server = report.server.as_ref().map_or_else(
        || "server unknown".to_owned(),
        |server| format!("{} {}", server.name, server.version),
    );
    let speed = if (settings.speed - 1.0).abs() > f64::EPSILON {
        format!(" · {} times as fast", number(settings.speed))
    } else {
        String::new()
    };
    let facts = format!(
        "{} · {server} · {} · {} model{speed} · {}",
        report.target,
        clock(report.seconds),
        settings.model,
        report.started_at
    );
    format!(
        "<header>\n<p class=\"brand\">kronos-load <span>load report</span></p>\n\
         <div class=\"title\"><h1>{}</h1><span class=\"pill {class}\">{word}</span></div>\n\
         <p class=\"about\">{}</p>\n<p class=\"facts\">{}</p>\n<p class=\"verdict {class}\">{}</p>\n</header>",
        escape(&settings.scenario),
        escape(&settings.about),
        escape(&facts),
        escape(&verdict(report))
    )
}

/// The figures that are looked at first.
fn tiles(report: &Report) -> String {
    let mut tiles: Vec<(String, String, String, bool)> = Vec::new();
    for (latency, label) in [
        (Latency::FirstToken, "First token"),
        (Latency::Delivery, "Delivery of a delta"),
        (Latency::Ack, "Reply to a command"),
    ] {
        if let Some(both) = report.latencies.get(&latency).filter(|both| both.corrected.count > 0) {
            let (p50, p99) = (super::summary::span_of(both.corrected.p50_us), both.corrected.p99_us);
            let p99 = format!("median, p99 {}", super::summary::span_of(p99));
            tiles.push((label.to_owned(), p50, p99, false));
        }
    }
    let most = |of: fn(&super::Second) -> i64| report.series.iter().map(of).max().unwrap_or_default();
    let (users, sockets) = (most(|second| second.users), most(|second| second.sockets));
    let count = |value: i64| number_of(u64::try_from(value).unwrap_or_default());
    let deltas = format!("{}/s", number(report.rate(Count::Deltas).round()));
    let all = format!("{} in all", number_of(report.counted(Count::Deltas)));
    tiles.push(("Deltas".to_owned(), deltas, all, false));
    tiles.push((
        "Users at a time".to_owned(),
        count(users),
        format!("most · {} sockets", count(sockets)),
        false,
    ));
    let errors: u64 = report.errors.values().sum();
    let most_often = report.errors.iter().max_by_key(|(_, count)| **count);
    let kinds = most_often.map_or_else(|| "none".to_owned(), |(code, _)| format!("mostly {code}"));
    tiles.push(("Errors".to_owned(), number_of(errors), kinds, errors > 0));
    let broken = report.breaches();
    let events = format!("in {} events", number_of(report.counted(Count::Events)));
    tiles.push(("Broken promises".to_owned(), number_of(broken), events, broken > 0));
    let tile = |(label, value, note, is_bad): &(String, String, String, bool)| {
        let class = if *is_bad { " class=\"bad\"" } else { "" };
        let (label, value, note) = (escape(label), escape(value), escape(note));
        format!("<div{class}><dt>{label}</dt><dd>{value}<small>{note}</small></dd></div>\n")
    };
    format!(
        "<dl class=\"tiles\">\n{}</dl>",
        tiles.iter().map(tile).collect::<String>()
    )
}

/// A latency in microseconds, for axes and tooltips.
pub(super) fn span(value: f64) -> String {
    micros(value)
}

#[cfg(test)]
mod tests;
