use super::*;
use crate::report::{Both, Usage, synthetic};

fn judge(text: &str, report: &Report) -> Judged {
    text.parse::<Threshold>().unwrap().judge(report)
}

fn held(text: &str, report: &Report) -> bool {
    judge(text, report).passed
}

fn refused(text: &str) -> String {
    format!("{:#}", text.parse::<Threshold>().unwrap_err())
}

/// First tokens of 1 to 1000 ms, 40 commands, 10 users, 2 errors in 10 seconds, a server with 1.25 cores and 300 MiB.
fn report() -> Report {
    let mut report = synthetic::report(10);
    let mut histogram = hdrhistogram::Histogram::new(3).unwrap();
    (1..=1000_u64).for_each(|ms| histogram.record(ms * 1000).unwrap());
    let corrected = Figures::of(&histogram);
    let raw = Figures {
        p99_us: 5_000,
        ..corrected.clone()
    };
    report.latencies = [(Latency::FirstToken, Both { corrected, raw })].into();
    report.counts = [(Count::Commands, 30), (Count::Offered, 10), (Count::Deltas, 20_000)].into();
    report.errors = [("busy".to_owned(), 2)].into();
    report.broken.clear();
    let usage = Usage {
        cpu_mean: 1.25,
        memory_max: 300 << 20,
        ..Usage::default()
    };
    report.processes = [("server".to_owned(), usage)].into();
    report
}

#[test]
fn latencies_by_figure_and_unit() {
    let report = report();
    for (text, expected) in [
        ("p50(first_token) < 502ms", true),
        ("p50(first_token) < 499ms", false),
        ("p99(first_token) < 1s", true),
        ("p99(first_token) > 0.9s", true),
        ("p99.9(first_token) <= 1.1s", true),
        ("min(first_token) <= 1001us", true),
        ("max(first_token) < 1m", true),
        ("avg(first_token) >= 500 ms", true),
        ("raw.p99(first_token) == 5ms", true),
        ("raw.p99(first_token)<5ms", false),
        ("count(first_token) == 1000", true),
    ] {
        assert_eq!(held(text, &report), expected, "{text}: {:?}", judge(text, &report));
    }
}

#[test]
fn everything_else() {
    let report = report();
    for (text, expected) in [
        ("deltas > 19_999", true),
        ("rate(deltas) >= 2000", true),
        ("rate(deltas) > 2000/s", false),
        ("errors == 0", false),
        ("errors(busy) <= 2", true),
        ("errors(timeout) == 0", true),
        ("error_rate < 5.1%", true),
        ("error_rate < 0.05", false),
        ("broken == 0", true),
        ("cpu(server) < 1.5", true),
        ("cpu(server) < 1.2 cores", false),
        ("memory(server) < 500MiB", true),
        ("memory(server) < 300MB", false),
    ] {
        assert_eq!(held(text, &report), expected, "{text}: {:?}", judge(text, &report));
    }
}

#[test]
fn what_was_not_measured_does_not_hold() {
    let report = report();
    let judged = judge("p99(resume) < 1s", &report);
    assert_eq!(
        (judged.passed, judged.value.as_str()),
        (false, "no resume was measured")
    );
    assert!(!held("cpu(simulator) < 1", &report));
    assert!(held("count(resume) == 0", &report));
}

#[test]
fn mistakes_are_explained() {
    for (text, says) in [
        ("p99(first) < 1s", "one of connect, attach, ack, first_token"),
        ("p42(ack) < 1s", "p50, p75, p90"),
        ("p99(ack) < 1", "us, µs, ms, s, m"),
        ("p99(ack) 1s", "no operator"),
        ("p99(ack) = 1s", "no such operator"),
        ("p99(ack < 1s", "not closed"),
        ("events > many", "not a number"),
        ("events > 1s", "a number without `s`"),
        ("events2 > 1", "`events2` is not known"),
        ("memory(server) < 500", "KiB, MiB, GiB"),
        ("rate(first_token) > 1", "one of offered, started"),
    ] {
        let error = refused(text);
        assert!(error.contains(says), "{text}: {error}");
        assert!(error.contains(text), "{error}");
    }
}
