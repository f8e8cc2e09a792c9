//! Reports for tests: a load whose figures are known.

use super::*;

/// A scenario that held, of that many seconds; figures vary a little from second to second, the same way each time.
pub(crate) fn report(seconds: u32) -> Report {
    let series: Vec<Second> = (1..=seconds).map(second).collect();
    let total = |count| {
        series
            .iter()
            .filter_map(|second| second.counts.get(&count))
            .sum::<u64>()
    };
    let counts = [
        Count::Offered,
        Count::Started,
        Count::Commands,
        Count::Events,
        Count::Deltas,
    ];
    let mut histogram = hdrhistogram::Histogram::new(3).unwrap();
    for second in &series {
        let point = second.latencies[&Latency::FirstToken];
        histogram.record_n(point.p50_us, 98).unwrap();
        histogram.record_n(point.p99_us, 2).unwrap();
    }
    let figures = Figures::of(&histogram);
    Report {
        kronos_load: VERSION,
        version: "0.1.0".to_owned(),
        settings: settings(seconds),
        target: "ws://127.0.0.1:4000".to_owned(),
        server: Some(Server {
            name: "kronos".to_owned(),
            version: "0.1.0".to_owned(),
        }),
        machine: Machine {
            cpu: "A processor".to_owned(),
            cores: 2,
            ..Machine::default()
        },
        started_at: "2026-01-02T03:04:05Z".to_owned(),
        seconds: f64::from(seconds),
        passed: true,
        void: None,
        interrupted: false,
        warnings: Vec::new(),
        thresholds: vec![Judged {
            text: "errors == 0".to_owned(),
            value: "0".to_owned(),
            passed: true,
        }],
        errors: BTreeMap::new(),
        broken: BTreeMap::new(),
        breaches: Vec::new(),
        counts: counts.into_iter().map(|count| (count, total(count))).collect(),
        latencies: [(
            Latency::FirstToken,
            Both {
                corrected: figures.clone(),
                raw: figures,
            },
        )]
        .into(),
        processes: [(
            "server".to_owned(),
            Usage {
                cpu_mean: 0.5,
                cpu_max: 0.6,
                memory_max: 100 << 20,
                ..Usage::default()
            },
        )]
        .into(),
        series,
    }
}

fn settings(seconds: u32) -> Settings {
    let stage = |part: f64, to| Stage {
        seconds: f64::from(seconds) * part,
        to,
    };
    Settings {
        scenario: "synthetic".to_owned(),
        about: "Numbers that are made up".to_owned(),
        seed: 1,
        model: "open".to_owned(),
        stages: vec![stage(0.25, 100.0), stage(0.5, 100.0), stage(0.25, 0.0)],
        speed: 1.0,
        codec: "json".to_owned(),
        mix: vec![("chat".to_owned(), 1)],
        network: Vec::new(),
    }
}

/// Something between -1 and 1 that looks like noise.
fn noise(seed: u32) -> f64 {
    let mixed = seed.wrapping_mul(2_654_435_761) ^ (seed << 13);
    f64::from(mixed % 2_001) / 1_000.0 - 1.0
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "small positive numbers"
)]
fn second(at: u32) -> Second {
    let vary = |of: f64, lane: u32| (of * (1.0 + 0.05 * noise(at * 7 + lane))).round() as u64;
    let point = Point {
        count: 100,
        p50_us: vary(20_000.0, 1),
        p99_us: vary(60_000.0, 2),
    };
    let used = Used {
        cpu: 0.5 + 0.05 * noise(at * 7 + 3),
        memory: vary(1e8, 4),
    };
    Second {
        at: f64::from(at),
        seconds: 1.0,
        wanted: 100.0,
        users: 50,
        sockets: 60,
        counts: [
            (Count::Offered, 100),
            (Count::Started, 100),
            (Count::Commands, vary(200.0, 5)),
            (Count::Events, vary(6_000.0, 6)),
            (Count::Deltas, vary(5_000.0, 6)),
        ]
        .into(),
        errors: 0,
        broken: 0,
        latencies: [(Latency::FirstToken, point)].into(),
        processes: [("server".to_owned(), used)].into(),
        lag_ms: 0.5,
    }
}
