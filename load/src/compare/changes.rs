//! What is counted rather than measured, and what makes two loads hard to compare.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Verdict;
use crate::report::{Report, Settings};

/// Something that is not as before.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Change {
    pub(super) what: String,
    pub(super) how: String,
    pub(super) verdict: Verdict,
}

/// Standard deviations of a count beyond which it is no chance: 99 of 100 lie within.
const CHANCE: f64 = 2.58;

/// Counts by name of all loads of a side, and how long they took together.
struct Counted {
    counts: BTreeMap<String, u64>,
    seconds: f64,
}

impl Counted {
    fn of(reports: &[Report], counts: fn(&Report) -> &BTreeMap<String, u64>) -> Self {
        let mut all = BTreeMap::new();
        for (name, count) in reports.iter().flat_map(counts) {
            *all.entry(name.clone()).or_default() += count;
        }
        let seconds = reports.iter().map(|report| report.seconds).sum();
        Self { counts: all, seconds }
    }
}

/// Returns errors, broken promises and thresholds that changed.
pub(super) fn changes(before: &[Report], after: &[Report]) -> Vec<Change> {
    let of = |reports, counts| Counted::of(reports, counts);
    let errors = counts(
        "errors",
        &of(before, |report| &report.errors),
        &of(after, |report| &report.errors),
        CHANCE,
    );
    // One is one too many: there is no chance in it.
    let broken = counts(
        "broken",
        &of(before, |report| &report.broken),
        &of(after, |report| &report.broken),
        0.0,
    );
    errors
        .into_iter()
        .chain(broken)
        .chain(thresholds(before, after))
        .collect()
}

#[expect(clippy::cast_precision_loss, reason = "counts of a load")]
fn counts(kind: &str, before: &Counted, after: &Counted, chance: f64) -> Vec<Change> {
    let names: BTreeSet<&String> = before.counts.keys().chain(after.counts.keys()).collect();
    let change = |name: &String| {
        let of = |side: &Counted| side.counts.get(name).copied().unwrap_or_default();
        let (old, new) = (of(before), of(after));
        // A longer load has more of everything.
        let longer = after.seconds / before.seconds.max(f64::MIN_POSITIVE);
        let expected = old as f64 * longer;
        let spread = (new as f64 + expected * longer).sqrt().max(1.0);
        let distance = (new as f64 - expected) / spread;
        let verdict = match distance {
            more if more > chance => Verdict::Worse,
            less if less < -chance => Verdict::Better,
            _ => Verdict::Noise,
        };
        let how = format!("{old} → {new}");
        (old != new).then(|| Change {
            what: format!("{kind}({name})"),
            how,
            verdict,
        })
    };
    names.into_iter().filter_map(change).collect()
}

/// A threshold holds on a side when it does in all of its loads.
fn thresholds(before: &[Report], after: &[Report]) -> Vec<Change> {
    let held = |reports: &[Report]| {
        let mut all: BTreeMap<String, bool> = BTreeMap::new();
        for judged in reports.iter().flat_map(|report| &report.thresholds) {
            *all.entry(judged.text.clone()).or_insert(true) &= judged.passed;
        }
        all
    };
    let (before, after) = (held(before), held(after));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    let change = |name: &String| {
        let (how, verdict) = match (before.get(name), after.get(name)) {
            (Some(true), Some(false)) => ("held → does not hold", Verdict::Worse),
            (Some(false), Some(true)) => ("did not hold → holds", Verdict::Better),
            (None, Some(true)) => ("was not asked → holds", Verdict::Different),
            (None, Some(false)) => ("was not asked → does not hold", Verdict::Different),
            (Some(_), None) => ("is not asked any more", Verdict::Different),
            (Some(_), Some(_)) | (None, None) => return None,
        };
        Some(Change {
            what: name.clone(),
            how: how.to_owned(),
            verdict,
        })
    };
    names.into_iter().filter_map(change).collect()
}

/// A part of the settings, to be compared.
type Field = fn(&Settings) -> String;

/// Returns what makes a comparison doubtful.
pub(super) fn warnings(before: &[Report], after: &[Report]) -> Vec<String> {
    let all = || before.iter().chain(after);
    let mut warnings = Vec::new();
    let fields: [(&str, Field); 9] = [
        ("scenarios", |settings| settings.scenario.clone()),
        ("models", |settings| settings.model.clone()),
        ("stages", |settings| format!("{:?}", settings.stages)),
        ("speeds", |settings| settings.speed.to_string()),
        ("codecs", |settings| settings.codec.clone()),
        ("scripts", |settings| format!("{:?}", settings.mix)),
        ("seeds", |settings| settings.seed.to_string()),
        ("networks", |settings| settings.network.join("; ")),
        ("purposes", |settings| settings.about.clone()),
    ];
    for (name, of) in fields {
        let values: BTreeSet<String> = all().map(|report| of(&report.settings)).collect();
        if values.len() > 1 {
            let values: Vec<_> = values.into_iter().collect();
            warnings.push(format!("the {name} differ: {}", values.join(" | ")));
        }
    }
    let machines: BTreeSet<String> = all()
        .map(|report| {
            let machine = &report.machine;
            format!(
                "{}, {} cores, {} GiB, {}",
                machine.cpu, machine.cores, machine.memory_gib, machine.kernel
            )
        })
        .collect();
    if machines.len() > 1 {
        let machines: Vec<_> = machines.into_iter().collect();
        warnings.push(format!("the machines differ: {}", machines.join(" | ")));
    }
    for (side, reports) in [("before", before), ("after", after)] {
        for report in reports {
            if report.interrupted {
                warnings.push(format!("{side}: it was interrupted before its end"));
            }
            warnings.extend(report.warnings.iter().map(|warning| format!("{side}: {warning}")));
        }
    }
    warnings
}
