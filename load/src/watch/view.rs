//! The live view: a few lines on a terminal, drawn over each other; else a plain line every five seconds.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};

use super::seen::Seen;
use crate::meter::{Count, Latency, Measured};
use crate::report::Settings;
use crate::report::show::{bytes, clock, micros, number};
use crate::report::summary::printable;

/// Seconds between two plain lines.
const PLAIN: f64 = 5.0;
/// Cells of the progress bar.
const BAR: usize = 24;

/// Where the load is, for whoever waits.
#[derive(Debug)]
pub(super) enum View {
    /// Nothing.
    Quiet,
    /// A line now and then; when the last one was.
    Plain(f64),
    /// Lines that are drawn over; how many there are.
    Terminal(usize),
}

impl View {
    /// Looks where stderr goes.
    pub(super) fn new(quiet: bool) -> Self {
        if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() {
            Self::Terminal(0)
        } else {
            Self::Plain(0.0)
        }
    }

    /// Shows where it is.
    pub(super) fn show(&mut self, seen: &Seen, settings: &Settings) {
        let text = match self {
            Self::Quiet => return,
            Self::Plain(last) => {
                let at = seen.series.last().map_or(0.0, |last| last.at);
                // A second takes a little longer than a second.
                if at + 0.5 < *last + PLAIN {
                    return;
                }
                *last = at;
                line(seen, settings)
            }
            Self::Terminal(drawn) => {
                let lines = lines(seen, settings);
                let text = redraw(*drawn, &lines);
                *drawn = lines.len();
                text
            }
        };
        // A terminal that is gone is no reason to end the load.
        std::io::stderr().write_all(text.as_bytes()).ok();
    }

    /// Takes it away.
    pub(super) fn clear(&mut self) {
        if let Self::Terminal(drawn) = self {
            std::io::stderr().write_all(redraw(*drawn, &[]).as_bytes()).ok();
            *drawn = 0;
        }
    }
}

/// Writes lines over those that are there. Nothing wraps: a narrow terminal cuts them.
fn redraw(drawn: usize, lines: &[String]) -> String {
    let mut text = String::from("\u{1b}[?7l");
    if drawn > 0 {
        // Writing into a string does not fail.
        write!(text, "\u{1b}[{drawn}F").ok();
    }
    text.push_str("\u{1b}[J");
    lines.iter().for_each(|line| {
        text.push_str(line);
        text.push('\n');
    });
    text.push_str("\u{1b}[?7h");
    text
}

/// Where in the stages a time is: number of the stage from 1, share of all of them.
fn place(settings: &Settings, at: f64) -> (usize, f64) {
    let length: f64 = settings.stages.iter().map(|stage| stage.seconds).sum();
    let mut end = 0.0;
    let over = settings.stages.iter().take_while(|stage| {
        end += stage.seconds;
        end <= at
    });
    let stage = (over.count() + 1).min(settings.stages.len());
    (stage, (at / length.max(1e-3)).clamp(0.0, 1.0))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a handful of cells"
)]
fn bar(share: f64) -> String {
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    "█".repeat(full) + &"░".repeat(BAR - full)
}

#[expect(clippy::cast_precision_loss, reason = "bytes of memory")]
fn lines(seen: &Seen, settings: &Settings) -> Vec<String> {
    let Some(last) = seen.series.last() else {
        return Vec::new();
    };
    let (stage, share) = place(settings, last.at);
    let length: f64 = settings.stages.iter().map(|stage| stage.seconds).sum();
    let rest = if share < 1.0 {
        format!("stage {stage}/{}", settings.stages.len())
    } else {
        "waits for the last".to_owned()
    };
    let mut lines = vec![
        format!(
            "{}  {} {} / {}  {rest}",
            printable(&settings.scenario),
            bar(share),
            clock(last.at.round()),
            clock(length)
        ),
        format!(
            "users {}  sockets {}  deltas {}/s  offered {}/s  started {}/s  completed {}/s",
            last.users,
            last.sockets,
            number(last.rate(Count::Deltas).round()),
            number(last.rate(Count::Offered)),
            number(last.rate(Count::Started)),
            number(last.rate(Count::Completed)),
        ),
    ];
    let recent = seen.recent();
    lines.extend(Latency::ALL.iter().filter_map(|latency| {
        let (p50, p99) = recently(&recent, *latency)?;
        Some(format!("  {:<18} p50 {p50:>9}   p99 {p99:>9}", latency.name()))
    }));
    lines.push(troubles(seen));
    let processes = seen.processes.iter().map(|(name, usage)| {
        let cpu = last.processes.get(name).map_or(0.0, |used| used.cpu);
        format!("{name} {cpu:.2} cores {}", bytes(usage.memory_last as f64))
    });
    lines.push(processes.collect::<Vec<_>>().join("  "));
    lines.extend(seen.void.as_ref().map(|reason| format!("VOID: {reason}")));
    lines
}

#[expect(clippy::cast_precision_loss, reason = "microseconds below ten minutes")]
fn recently(recent: &Measured, latency: Latency) -> Option<(String, String)> {
    let pair = recent
        .latencies
        .get(&latency)
        .filter(|pair| !pair.corrected.is_empty())?;
    let at = |share| micros(pair.corrected.value_at_quantile(share) as f64);
    Some((at(0.5), at(0.99)))
}

fn troubles(seen: &Seen) -> String {
    let several = |all: Vec<(&str, u64)>| {
        let total: u64 = all.iter().map(|(_, count)| count).sum();
        let most = all.iter().max_by_key(|(_, count)| *count);
        most.map_or_else(|| "0".to_owned(), |(name, _)| format!("{total} ({})", printable(name)))
    };
    let errors = seen.totals.errors.iter().map(|(code, count)| (code.as_str(), *count));
    let broken = seen.totals.broken.iter().map(|(check, count)| (*check, *count));
    format!(
        "errors {}  broken promises {}",
        several(errors.collect()),
        several(broken.collect())
    )
}

fn line(seen: &Seen, settings: &Settings) -> String {
    let Some(last) = seen.series.last() else {
        return String::new();
    };
    let (stage, _) = place(settings, last.at);
    let recent = seen.recent();
    let mut text = format!(
        "{:>7.1} s  stage {stage}/{}  users {}  sockets {}  started {}/s  deltas {}/s",
        last.at,
        settings.stages.len(),
        last.users,
        last.sockets,
        number(last.rate(Count::Started)),
        number(last.rate(Count::Deltas).round()),
    );
    for latency in [Latency::FirstToken, Latency::Delivery] {
        if let Some((p50, p99)) = recently(&recent, latency) {
            write!(text, "  {} {p50}/{p99}", latency.name()).ok();
        }
    }
    text.push_str("  ");
    text.push_str(&troubles(seen));
    if let Some(reason) = &seen.void {
        write!(text, "  VOID: {reason}").ok();
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::meter::Meter;
    use crate::report::synthetic;
    use crate::watch::seen::Tick;
    use crate::watch::system::Reading;

    fn seen() -> Seen {
        let (mut seen, meter) = (Seen::default(), Meter::default());
        let settings = synthetic::report(20).settings;
        for at in 1..=6 {
            meter.count(Count::Deltas, 1_200);
            meter.error("busy\u{1b}[2J");
            meter.span(
                Latency::FirstToken,
                Duration::from_millis(30),
                Duration::from_millis(10),
            );
            let tick = Tick {
                at: f64::from(at),
                seconds: 1.0,
                wanted: 5.0,
                users: 2,
                sockets: 3,
            };
            let used = (Duration::from_millis(500), 3 << 20);
            let reading = Reading {
                processes: [("server", used)].into(),
                ..Reading::default()
            };
            seen.second(tick, meter.take(), &reading);
        }
        assert_eq!(place(&settings, 6.0).0, 2);
        seen
    }

    #[test]
    fn a_terminal_is_drawn_over() {
        let (seen, settings) = (seen(), synthetic::report(20).settings);
        let lines = lines(&seen, &settings);
        let text = lines.join("\n");
        for part in [
            "6 s / 20 s  stage 2/3",
            "users 2  sockets 3  deltas 1,200/s",
            "first_token        p50   30.0 ms",
            "errors 6 (busy",
            "broken promises 0",
            "server 0.50 cores 3.00 MiB",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        assert!(!text.contains('\u{1b}'));
        assert!(redraw(lines.len(), &lines).starts_with("\u{1b}[?7l\u{1b}[5F\u{1b}[J"));
        assert!(!redraw(0, &lines).contains('F'));
    }

    #[test]
    fn plain_lines_are_five_seconds_apart() {
        let (seen, settings) = (seen(), synthetic::report(20).settings);
        let mut view = View::Plain(0.0);
        view.show(&seen, &settings);
        assert!(matches!(view, View::Plain(last) if last > 5.0));
        let text = line(&seen, &settings);
        assert!(
            text.contains("first_token 30.0 ms/30.0 ms") && text.ends_with('\n'),
            "{text}"
        );
        let mut early = View::Plain(3.0);
        early.show(&seen, &settings);
        assert!(matches!(early, View::Plain(last) if last < 4.0));
    }

    #[test]
    fn the_last_stage_does_not_end() {
        let settings = synthetic::report(20).settings;
        assert_eq!(place(&settings, 0.0), (1, 0.0));
        assert_eq!(place(&settings, 100.0), (3, 1.0));
        assert_eq!(bar(0.5).chars().filter(|cell| *cell == '█').count(), BAR / 2);
    }
}
