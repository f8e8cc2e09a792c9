use super::*;
use crate::meter::{Broken, Count, Latency};
use crate::scenario::{Network, Part, Spawn, Stage, Users};
use crate::script::Script;

fn scenario(thresholds: &[&str]) -> Scenario {
    Scenario {
        name: "test".to_owned(),
        about: "A test".to_owned(),
        seed: 1,
        model: Model::Open,
        stages: vec![Stage {
            over: Duration::from_secs(10),
            to: 100.0,
        }],
        grace: Duration::ZERO,
        max_users: 10,
        speed: 1.0,
        codec: CodecMix::Mixed,
        users: Users::Named,
        mix: vec![Part {
            weight: 3,
            script: Script {
                name: "chat".to_owned(),
                ..Script::default()
            },
        }],
        network: Network {
            devices: 2,
            slow_share: 0.25,
            slow_bytes_per_second: 100,
            ..Network::default()
        },
        thresholds: thresholds.iter().map(|text| text.parse().unwrap()).collect(),
        spawn: Spawn::default(),
    }
}

fn quiet() -> Options {
    Options {
        target: "ws://here".to_owned(),
        quiet: true,
        ..Options::default()
    }
}

fn watched(thresholds: &[&str], load: impl FnOnce(&Meter)) -> Report {
    let meter = Meter::default();
    let watch = start(meter.clone(), &scenario(thresholds), quiet()).unwrap();
    load(&meter);
    watch.finish().unwrap()
}

fn broken() -> Broken {
    Broken {
        check: "gap",
        session: "s".to_owned(),
        seq: Some(3),
        device: "phone".to_owned(),
        script: "chat".to_owned(),
        what: "after 1 came 3".to_owned(),
        sent: Vec::new(),
        received: vec!["{}".to_owned()],
    }
}

#[test]
fn what_was_measured_is_in_the_report() {
    let report = watched(&["p99(ack) < 1s", "deltas >= 6000"], |meter| {
        meter.server("kronos", "1.2.3");
        meter.count(Count::Deltas, 6_000);
        meter.span(Latency::Ack, Duration::from_millis(30), Duration::from_millis(10));
    });
    assert!(report.passed, "{:?}", report.thresholds);
    let texts: Vec<_> = report.thresholds.iter().map(|judged| judged.text.as_str()).collect();
    assert_eq!(texts, ["p99(ack) < 1s", "deltas >= 6000", "broken == 0"]);
    assert_eq!(report.counted(Count::Deltas), 6_000);
    assert_eq!(report.latencies[&Latency::Ack].corrected.count, 1);
    assert!(report.latencies[&Latency::Ack].raw.max_us < 11_000);
    assert_eq!(report.server.unwrap().version, "1.2.3");
    assert_eq!(report.settings.mix, [("chat".to_owned(), 3)]);
    assert_eq!(report.settings.network.len(), 2, "{:?}", report.settings.network);
    assert!(report.processes["client"].memory_max > 0);
    let deltas: u64 = report.series.iter().map(|second| second.counts[&Count::Deltas]).sum();
    assert_eq!(deltas, 6_000, "the rest of a second counts");
}

#[test]
fn broken_promises_fail_whatever_the_thresholds_say() {
    let report = watched(&["deltas >= 0", "broken(other) == 0"], |meter| meter.broken(broken()));
    assert_eq!((report.passed, report.exit_code()), (false, 97));
    assert_eq!(report.broken["gap"], 1);
    assert_eq!(report.breaches[0].seq, Some(3));
    assert!(
        report
            .thresholds
            .iter()
            .any(|judged| judged.text == "broken == 0" && !judged.passed)
    );
}

#[test]
fn without_thresholds_there_must_be_no_errors() {
    let report = watched(&[], |meter| meter.error("busy"));
    assert_eq!(report.exit_code(), 99);
    let report = watched(&["events >= 0"], |meter| meter.error("busy"));
    assert_eq!(report.exit_code(), 0, "it says what it wants");
    let report = watched(&[], Meter::interrupt);
    assert_eq!((report.exit_code(), report.interrupted), (105, true));
}

#[test]
fn seconds_follow_each_other() {
    let meter = Meter::default();
    let watch = start(meter.clone(), &scenario(&[]), quiet()).unwrap();
    for _ in 0..2 {
        meter.count(Count::Events, 1);
        while meter.is_counted(Count::Events) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    let report = watch.finish().unwrap();
    assert!(report.series.len() >= 2);
    let ends: Vec<_> = report.series.iter().map(|second| second.at).collect();
    assert!(ends.is_sorted());
    let sum: f64 = report.series.iter().map(|second| second.seconds).sum();
    assert!((sum - report.seconds).abs() < 1e-6);
    assert!(report.series[0].wanted > 0.0);
}
