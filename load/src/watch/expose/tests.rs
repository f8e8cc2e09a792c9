use std::process::{Command, Stdio};

use super::*;
use crate::meter::{Broken, Latency, Meter};
use crate::report::synthetic;
use crate::watch::metrics::{LATENCY, PROCESS};
use crate::watch::seen::Tick;
use crate::watch::system::Reading;

/// Everything has been there once.
fn seen() -> Seen {
    let (mut seen, meter) = (Seen::default(), Meter::default());
    for latency in Latency::ALL {
        meter.span(*latency, Duration::from_millis(30), Duration::from_millis(10));
        meter.span(*latency, Duration::from_secs(100), Duration::from_millis(10));
    }
    for count in Count::ALL {
        meter.count(*count, 7);
    }
    meter.error("odd \"code\"\\\n");
    meter.broken(Broken {
        check: "gap",
        session: String::new(),
        seq: None,
        device: String::new(),
        script: String::new(),
        what: String::new(),
        sent: Vec::new(),
        received: Vec::new(),
    });
    let used = (Duration::from_millis(500), 1 << 20);
    let reading = Reading {
        processes: [("server", used), ("client", used)].into(),
        ..Reading::default()
    };
    let tick = Tick {
        at: 1.0,
        seconds: 1.0,
        wanted: 5.0,
        users: 2,
        sockets: 3,
    };
    seen.second(tick, meter.take(), &reading);
    seen
}

fn text() -> String {
    render(&seen(), &synthetic::report(10).settings)
}

#[test]
fn every_metric_has_a_sample() {
    let text = text();
    for metric in ALL {
        let sample = |line: &str| line.starts_with(metric.name) && line.len() > metric.name.len();
        assert!(text.lines().any(sample), "{}", metric.name);
    }
    for line in [
        "kronos_load_users 2",
        "kronos_load_deltas_total 7",
        "kronos_load_in_bytes_total 7",
        "kronos_load_progress_ratio 0.1",
        "kronos_load_errors_total{code=\"odd \\\"code\\\"\\\\\\n\"} 1",
        "kronos_load_broken_promises_total{check=\"gap\"} 1",
        "kronos_load_latency_seconds_bucket{latency=\"ack\",le=\"0.02\"} 0",
        "kronos_load_latency_seconds_bucket{latency=\"ack\",le=\"0.05\"} 1",
        "kronos_load_latency_seconds_bucket{latency=\"ack\",le=\"+Inf\"} 2",
        "kronos_load_latency_seconds_count{latency=\"ack\"} 2",
        "kronos_load_process_cpu_seconds_total{process=\"server\"} 0.5",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n{text}");
    }
}

#[test]
fn every_count_has_a_metric_and_every_label_its_values() {
    let counts: Vec<_> = ALL.iter().filter_map(|metric| counter(metric.name)).collect();
    let all = Count::ALL
        .iter()
        .filter(|count| !matches!(count, Count::BytesIn | Count::BytesOut));
    assert!(all.eq(&counts));
    assert!(
        Latency::ALL
            .iter()
            .map(|latency| latency.name())
            .eq(LATENCY.iter().copied())
    );
    assert!(PROCESS.contains(&"client"));
}

#[test]
fn promtool_has_nothing_to_complain_of() {
    let Ok(mut child) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        return;
    };
    child.stdin.take().unwrap().write_all(text().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

fn ask(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_is_served_and_its_port_is_free_afterwards() {
    let exposed = Exposed::start("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = exposed.address();
    exposed.show("kronos_load_users 5\n".to_owned());
    // Somebody who says nothing and leaves.
    drop(TcpStream::connect(address).unwrap());
    let answer = ask(address, "/metrics?x=1");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nkronos_load_users 5\n"), "{answer}");
    assert!(ask(address, "/").starts_with("HTTP/1.1 404"));
    drop(exposed);
    Exposed::start(address).unwrap();
}
