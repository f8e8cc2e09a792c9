//! How thresholds are written: a subject, an operator, a value with its unit.

use std::str::FromStr;

use anyhow::{Context as _, bail};

use super::{Figure, Operator, Subject, Threshold};
use crate::meter::{Count, Latency};

/// Longer ones first: `<=` begins with `<`.
const OPERATORS: [(&str, Operator); 5] = [
    ("<=", Operator::AtMost),
    (">=", Operator::AtLeast),
    ("==", Operator::Equal),
    ("<", Operator::Less),
    (">", Operator::More),
];

const FIGURES: [(&str, Figure); 10] = [
    ("p50", Figure::P50),
    ("p75", Figure::P75),
    ("p90", Figure::P90),
    ("p95", Figure::P95),
    ("p99", Figure::P99),
    ("p99.9", Figure::P999),
    ("min", Figure::Min),
    ("max", Figure::Max),
    ("avg", Figure::Mean),
    ("mean", Figure::Mean),
];

/// Microseconds of a unit.
const TIMES: [(&str, f64); 5] = [("us", 1.0), ("µs", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 60e6)];

/// Bytes of a unit.
const SIZES: [(&str, f64); 7] = [
    ("B", 1.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
];

impl FromStr for Threshold {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let text = text.trim();
        let threshold = || -> anyhow::Result<Self> {
            let (subject, operator, value) = split(text)?;
            let subject = subject.parse::<Subject>()?;
            Ok(Self {
                text: text.to_owned(),
                limit: limit(&subject, value)?,
                subject,
                operator,
            })
        };
        threshold().with_context(|| format!("threshold `{text}`"))
    }
}

/// Splits at the operator.
fn split(text: &str) -> anyhow::Result<(&str, Operator, &str)> {
    let at = text.find(['<', '>', '=']);
    let (subject, rest) = text.split_at(at.context("no operator: one of < <= > >= ==")?);
    let found = OPERATORS
        .iter()
        .find_map(|(sign, operator)| Some((*operator, rest.strip_prefix(sign)?)));
    let (operator, value) = found.context("no such operator: one of < <= > >= ==")?;
    Ok((subject.trim(), operator, value.trim()))
}

impl FromStr for Subject {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let Some((name, rest)) = text.split_once('(') else {
            return match text {
                "errors" => Ok(Self::Errors(None)),
                "error_rate" => Ok(Self::ErrorRate),
                "broken" => Ok(Self::Broken(None)),
                _ => count(text).map(Self::Count).with_context(|| what_is_known(text)),
            };
        };
        let of = rest.strip_suffix(')').context("a parenthesis is not closed")?.trim();
        let of_name = || of.to_owned();
        match name.trim() {
            "count" => latency(of).map(Self::Samples),
            "rate" => count(of).map(Self::Rate),
            "errors" => Ok(Self::Errors(Some(of_name()))),
            "broken" => Ok(Self::Broken(Some(of_name()))),
            "cpu" => Ok(Self::Cpu(of_name())),
            "memory" => Ok(Self::Memory(of_name())),
            name => {
                let (figure, raw) = name.strip_prefix("raw.").map_or((name, false), |figure| (figure, true));
                let figure = FIGURES.iter().find(|(known, _)| *known == figure);
                let (_, figure) = *figure.with_context(|| what_is_known(name))?;
                let latency = latency(of)?;
                Ok(Self::Latency { latency, raw, figure })
            }
        }
    }
}

/// Says what there is.
fn what_is_known(name: &str) -> String {
    let figures: Vec<_> = FIGURES.iter().map(|(name, _)| *name).collect();
    format!(
        "`{name}` is not known: {} and count of a latency (`raw.` before them: from the actual start), rate of a count, a count, \
         errors, errors(CODE), error_rate, broken, broken(CHECK), cpu(PROCESS), memory(PROCESS)",
        figures.join(", ")
    )
}

fn latency(name: &str) -> anyhow::Result<Latency> {
    let all: Vec<_> = Latency::ALL.iter().map(|one| one.name()).collect();
    Latency::named(name).with_context(|| format!("no latency `{name}`: one of {}", all.join(", ")))
}

fn count(name: &str) -> anyhow::Result<Count> {
    let all: Vec<_> = Count::ALL.iter().map(|one| one.name()).collect();
    Count::named(name).with_context(|| format!("no count `{name}`: one of {}", all.join(", ")))
}

/// Reads a value in the unit that its subject has.
fn limit(subject: &Subject, text: &str) -> anyhow::Result<f64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_');
    let (digits, unit) = text.split_at(end.unwrap_or(text.len()));
    let value: f64 = digits
        .replace('_', "")
        .parse()
        .with_context(|| format!("`{text}` is not a number"))?;
    let unit = unit.trim();
    let scale = |units: &[(&str, f64)], kind: &str| -> anyhow::Result<f64> {
        let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
        let found = units.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale);
        found.with_context(|| format!("`{text}`: {kind} needs a unit: {}", names.join(", ")))
    };
    let factor = match subject {
        Subject::Latency { .. } => scale(&TIMES, "a latency")?,
        Subject::Memory(_) => scale(&SIZES, "memory")?,
        Subject::ErrorRate if unit == "%" => 0.01,
        Subject::Rate(_) if unit == "/s" => 1.0,
        Subject::Cpu(_) if unit == "cores" => 1.0,
        Subject::Samples(_)
        | Subject::Count(_)
        | Subject::Rate(_)
        | Subject::Errors(_)
        | Subject::ErrorRate
        | Subject::Broken(_)
        | Subject::Cpu(_) => {
            if !unit.is_empty() {
                bail!("`{text}`: a number without `{unit}`");
            }
            1.0
        }
    };
    Ok(value * factor)
}
