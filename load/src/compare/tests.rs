use super::*;
use crate::meter::{Count, Latency};
use crate::report::{Figures, synthetic};
use crate::threshold::Judged;

/// The same load again: everything is another second's noise, and `slower` times as slow.
fn again(seconds: u32, slower: f64) -> Report {
    let mut report = synthetic::report(seconds);
    let scale = |value: &mut u64| {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small"
        )]
        let scaled = (*value as f64 * slower) as u64;
        *value = scaled;
    };
    let ends: Vec<_> = report.series.iter().map(|second| second.at).collect();
    report.series.rotate_left(7 % ends.len());
    for (second, at) in report.series.iter_mut().zip(ends) {
        second.at = at;
        let point = second.latencies.get_mut(&Latency::FirstToken).unwrap();
        scale(&mut point.p50_us);
        scale(&mut point.p99_us);
    }
    let figures: &mut Figures = &mut report.latencies.get_mut(&Latency::FirstToken).unwrap().corrected;
    scale(&mut figures.p50_us);
    scale(&mut figures.p99_us);
    report
}

fn verdict(comparison: &Comparison, figure: &str) -> Verdict {
    comparison
        .figures
        .iter()
        .find(|row| row.figure == figure)
        .map(|row| row.verdict)
        .expect("the figure")
}

#[test]
fn the_same_load_is_within_the_noise() {
    for seconds in [12, 30, 90, 300] {
        let comparison = compare(&[synthetic::report(seconds)], &[again(seconds, 1.0)], 0.05);
        assert!(!comparison.worse);
        for row in &comparison.figures {
            assert_eq!(row.verdict, Verdict::Noise, "{seconds} {row:?}");
        }
        assert!(comparison.figures.len() >= 6 && comparison.changes.is_empty() && comparison.warnings.is_empty());
    }
}

#[test]
fn what_is_slower_is_worse_and_what_is_faster_better() {
    let comparison = compare(&[synthetic::report(60)], &[again(60, 1.2)], 0.05);
    assert!(comparison.worse);
    assert_eq!(verdict(&comparison, "p50(first_token)"), Verdict::Worse);
    assert_eq!(verdict(&comparison, "p99(first_token)"), Verdict::Worse);
    assert_eq!(verdict(&comparison, "rate(deltas)"), Verdict::Noise);
    let row = &comparison.figures[0];
    let estimate = row.estimate.unwrap();
    assert!(
        estimate.low < 1.2 && 1.2 < estimate.high && estimate.low > 1.1,
        "{estimate:?}"
    );
    assert!((row.after / row.before - 1.2).abs() < 0.01);

    let comparison = compare(&[again(60, 1.2)], &[synthetic::report(60)], 0.05);
    assert_eq!(verdict(&comparison, "p50(first_token)"), Verdict::Better);
    assert!(!comparison.worse);
    let comparison = compare(&[synthetic::report(60)], &[again(60, 1.2)], 0.25);
    assert_eq!(
        verdict(&comparison, "p50(first_token)"),
        Verdict::Noise,
        "it is tolerated"
    );
}

#[test]
fn less_throughput_and_more_cpu_are_worse() {
    let mut after = again(60, 1.0);
    for second in &mut after.series {
        *second.counts.get_mut(&Count::Deltas).unwrap() /= 2;
        second.processes.get_mut("server").unwrap().memory *= 2;
    }
    let comparison = compare(&[synthetic::report(60)], &[after], 0.05);
    assert_eq!(verdict(&comparison, "rate(deltas)"), Verdict::Worse);
    assert_eq!(verdict(&comparison, "memory(server)"), Verdict::Worse);
    assert_eq!(verdict(&comparison, "cpu(server)"), Verdict::Noise);
    assert_eq!(verdict(&comparison, "cpu(server) for each delta"), Verdict::Worse);
}

#[test]
fn several_loads_show_what_varies_between_them() {
    // Each side has a slow and a fast day: one load alone would look like a change.
    let before = [again(60, 1.0), again(60, 1.3), again(60, 0.8)];
    let after = [again(60, 1.3), again(60, 0.8), again(60, 1.0)];
    let one = compare(&before[..1], &after[..1], 0.05);
    assert_eq!(verdict(&one, "p50(first_token)"), Verdict::Worse);
    let all = compare(&before, &after, 0.05);
    assert_eq!(verdict(&all, "p50(first_token)"), Verdict::Noise);
}

#[test]
fn a_short_load_says_nothing() {
    let comparison = compare(&[synthetic::report(5)], &[again(5, 3.0)], 0.05);
    assert!(comparison.figures.iter().all(|row| row.verdict == Verdict::TooShort));
    assert!(!comparison.worse);
}

#[test]
fn counts_and_thresholds_that_changed() {
    let judged = |text: &str, passed| Judged {
        text: text.to_owned(),
        value: String::new(),
        passed,
    };
    let (mut before, mut after) = (synthetic::report(30), synthetic::report(30));
    before.errors = [("busy".to_owned(), 100), ("io".to_owned(), 50), ("gone".to_owned(), 30)].into();
    after.errors = [
        ("busy".to_owned(), 110),
        ("io".to_owned(), 100),
        ("timeout".to_owned(), 30),
    ]
    .into();
    after.broken.insert("gap".to_owned(), 1);
    before.thresholds = vec![judged("a", true), judged("b", false), judged("c", true)];
    after.thresholds = vec![judged("a", false), judged("b", true), judged("d", true)];
    let comparison = compare(&[before], &[after], 0.05);
    let found: Vec<_> = comparison
        .changes
        .iter()
        .map(|change| (change.what.as_str(), change.verdict))
        .collect();
    let expected = [
        ("errors(busy)", Verdict::Noise),
        ("errors(gone)", Verdict::Better),
        ("errors(io)", Verdict::Worse),
        ("errors(timeout)", Verdict::Worse),
        ("broken(gap)", Verdict::Worse),
        ("a", Verdict::Worse),
        ("b", Verdict::Better),
        ("c", Verdict::Different),
        ("d", Verdict::Different),
    ];
    assert_eq!(found, expected);
    assert!(comparison.worse);
    let text = comparison.text();
    assert!(
        text.contains("errors(io): 50 → 100  WORSE") && text.contains("4 worse, 2 better."),
        "{text}"
    );
}

#[test]
fn loads_that_differ_are_said_to() {
    let (mut before, mut after) = (synthetic::report(30), synthetic::report(30));
    after.settings.scenario = "other".to_owned();
    after.settings.speed = 10.0;
    after.machine.cores = 64;
    before.interrupted = true;
    before.warnings.push("hot".to_owned());
    let warnings = compare(&[before], &[after], 0.05).warnings.join("\n");
    for part in [
        "scenarios differ: other | synthetic",
        "speeds differ",
        "machines differ",
        "before: it was interrupted",
        "before: hot",
    ] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
}

#[test]
fn void_loads_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut report = synthetic::report(30);
    let write = |name: &str, report: &Report| {
        let file = folder.path().join(name);
        std::fs::write(&file, serde_json::to_string(report).unwrap()).unwrap();
        file
    };
    let good = write("good.json", &report);
    report.void = Some("it was busy".to_owned());
    let void = write("void.json", &report);
    let args = |before: PathBuf, after: PathBuf| CompareArgs {
        before: Some(before),
        after: Some(after),
        a: Vec::new(),
        b: Vec::new(),
        tolerance: 5.0,
        json: true,
    };
    let error = compare_files(&args(good.clone(), void.clone()))
        .unwrap_err()
        .to_string();
    assert!(error.contains("void.json: the load is void: it was busy"), "{error}");
    let comparison = compare_files(&args(good.clone(), good)).unwrap();
    let json = serde_json::to_value(&comparison).unwrap();
    assert_eq!(
        (json["worse"].as_bool(), json["figures"][0]["verdict"].as_str()),
        (Some(false), Some("noise"))
    );
    assert_eq!(json["figures"][0]["ratio"], 1.0);
}
