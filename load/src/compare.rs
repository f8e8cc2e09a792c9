//! What got better or worse between two loads, beyond the noise that the loads themselves show.

mod changes;
mod figures;
mod noise;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::report::Report;
use crate::report::show::number;
use changes::Change;
use figures::Figure;
use noise::{Estimate, Side};

/// What is compared.
#[derive(Debug, Args)]
#[command(after_help = "\
Each figure is compared in steps of the loads' time, so that what varies within a load is not taken for a change: better and worse
are what lies beyond the 99 % interval of that noise and beyond --tolerance. What varies from load to load shows only when several
are given: --a x.json --a y.json --b z.json --b w.json, made in turns.

Exit codes: 0 nothing got worse, 1 something did, 2 they cannot be compared (a file is missing, or a load is void).")]
pub(crate) struct CompareArgs {
    /// The report (JSON) before
    #[arg(required_unless_present = "a", conflicts_with_all = ["a", "b"])]
    before: Option<PathBuf>,
    /// The report (JSON) after
    #[arg(required_unless_present = "b")]
    after: Option<PathBuf>,
    /// A report before; may be given several times
    #[arg(long, value_name = "FILE", requires = "b")]
    a: Vec<PathBuf>,
    /// A report after; may be given several times
    #[arg(long, value_name = "FILE", requires = "a")]
    b: Vec<PathBuf>,
    /// Differences up to this many percent are noise, whatever the intervals say
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    tolerance: f64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What is said of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// It is beyond the noise, in the good direction.
    Better,
    /// It is beyond the noise, in the bad direction.
    Worse,
    /// It may be chance.
    Noise,
    /// There is too little to tell: fewer than ten steps.
    TooShort,
    /// It is different; neither is better.
    Different,
}

/// A figure of both.
#[derive(Debug, Serialize)]
struct Row {
    figure: String,
    before: f64,
    after: f64,
    unit: &'static str,
    #[serde(flatten)]
    estimate: Option<Estimate>,
    verdict: Verdict,
    #[serde(skip)]
    show: fn(f64) -> String,
}

/// Everything that is said.
#[derive(Debug, Serialize)]
struct Comparison {
    worse: bool,
    figures: Vec<Row>,
    changes: Vec<Change>,
    warnings: Vec<String>,
}

/// Compares and says so.
pub(crate) fn run(args: &CompareArgs) -> anyhow::Result<ExitCode> {
    let comparison = match compare_files(args) {
        Ok(comparison) => comparison,
        Err(error) => {
            writeln!(std::io::stderr(), "{error:#}")?;
            return Ok(ExitCode::from(2));
        }
    };
    let text = if args.json {
        serde_json::to_string_pretty(&comparison)? + "\n"
    } else {
        comparison.text()
    };
    write!(std::io::stdout(), "{text}")?;
    Ok(ExitCode::from(u8::from(comparison.worse)))
}

fn compare_files(args: &CompareArgs) -> anyhow::Result<Comparison> {
    let read = |one: &Option<PathBuf>, several: &[PathBuf]| -> anyhow::Result<Vec<Report>> {
        let files = one.iter().chain(several);
        let reports: Vec<(PathBuf, Report)> = files
            .map(|file| Ok((file.clone(), Report::read(file)?)))
            .collect::<anyhow::Result<_>>()?;
        for (file, report) in &reports {
            if let Some(reason) = &report.void {
                bail!("{}: the load is void: {reason}", file.display());
            }
        }
        Ok(reports.into_iter().map(|(_, report)| report).collect())
    };
    let (before, after) = (read(&args.before, &args.a)?, read(&args.after, &args.b)?);
    ensure!(
        !before.is_empty() && !after.is_empty(),
        "a report before and one after are needed"
    );
    Ok(compare(&before, &after, args.tolerance / 100.0))
}

fn compare(before: &[Report], after: &[Report], tolerance: f64) -> Comparison {
    let figures = figures::common(before, after);
    // The same load in the same order: what happened at the same time can be set against each other.
    let is_paired = before.len() == after.len()
        && before
            .iter()
            .zip(after)
            .all(|(one, other)| one.settings.stages == other.settings.stages);
    let rows: Vec<Row> = figures
        .into_iter()
        .map(|figure| row(&figure, before, after, is_paired, tolerance))
        .collect();
    let changes = changes::changes(before, after);
    Comparison {
        worse: rows
            .iter()
            .map(|row| row.verdict)
            .chain(changes.iter().map(|change| change.verdict))
            .any(|verdict| verdict == Verdict::Worse),
        figures: rows,
        changes,
        warnings: changes::warnings(before, after),
    }
}

fn row(figure: &Figure, before: &[Report], after: &[Report], is_paired: bool, tolerance: f64) -> Row {
    let shortest = before
        .iter()
        .chain(after)
        .map(|report| noise::steady(report).len())
        .min()
        .unwrap_or_default();
    let side = |reports: &[Report]| Side::of(reports, shortest, |seconds| (figure.step)(seconds));
    let estimate = noise::ratio(&side(before), &side(after), is_paired);
    let verdict = match &estimate {
        None => Verdict::TooShort,
        Some(estimate) if estimate.is_noise(tolerance) => Verdict::Noise,
        Some(estimate) if (estimate.ratio > 1.0) == figure.more_is_better => Verdict::Better,
        Some(_) => Verdict::Worse,
    };
    let middle = |reports: &[Report]| {
        let all = reports.iter().filter_map(|report| (figure.whole)(report));
        crate::stats::Spread::of(all).map_or(0.0, |spread| spread.median)
    };
    Row {
        figure: figure.name.clone(),
        before: middle(before),
        after: middle(after),
        unit: figure.unit,
        estimate,
        verdict,
        show: figure.show,
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Noise => "within the noise",
            Self::TooShort => "too short to tell",
            Self::Different => "different",
        }
    }
}

impl Comparison {
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        writeln!(
            text,
            "\n  {:<30}{:>12}{:>12}   {:<26}",
            "figure", "before", "after", "ratio (99 % interval)"
        )
        .ok();
        for row in &self.figures {
            let (before, after) = ((row.show)(row.before), (row.show)(row.after));
            let ratio = row.estimate.as_ref().map_or_else(String::new, |estimate| {
                format!("{:.3} ({:.3} – {:.3})", estimate.ratio, estimate.low, estimate.high)
            });
            let verdict = row.verdict.word();
            writeln!(
                text,
                "  {:<30}{before:>12}{after:>12}   {ratio:<26}{verdict}",
                row.figure
            )
            .ok();
        }
        if !self.changes.is_empty() {
            text.push('\n');
        }
        for change in &self.changes {
            writeln!(text, "  {}: {}  {}", change.what, change.how, change.verdict.word()).ok();
        }
        for warning in &self.warnings {
            writeln!(text, "\n  warning: {warning}").ok();
        }
        let count = |verdict| {
            let figures = self.figures.iter().map(|row| row.verdict);
            figures
                .chain(self.changes.iter().map(|change| change.verdict))
                .filter(|one| *one == verdict)
                .count()
        };
        let (worse, better) = (count(Verdict::Worse), count(Verdict::Better));
        #[expect(clippy::cast_precision_loss, reason = "a handful of figures")]
        let (worse, better) = (number(worse as f64), number(better as f64));
        writeln!(text, "\n  {worse} worse, {better} better.").ok();
        text
    }
}

#[cfg(test)]
mod tests;
