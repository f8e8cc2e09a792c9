//! What Prometheus reads: the text, and the thread that serves it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context as _;

use super::metrics::{ALL, BUCKETS, Kind, Metric};
use super::seen::Seen;
use crate::meter::{Count, Latency, Pair};
use crate::report::Settings;

/// Codes of errors that are there from the start, at 0: a rate needs something to begin from.
const ERRORS: &[&str] = &["connect", "io", "timeout", "unfinished"];

/// Checks that are there from the start, at 0.
const CHECKS: &[&str] = &["gap", "order", "repeated"];

/// How long somebody who asks may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest request that is read.
const REQUEST: usize = 8 * 1024;

/// Somebody who answers `GET /metrics`.
#[derive(Debug)]
pub(super) struct Exposed {
    text: Arc<Mutex<String>>,
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Exposed {
    /// Begins to answer.
    pub(super) fn start(address: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).with_context(|| format!("--metrics {address}"))?;
        let (text, ended) = (Arc::<Mutex<String>>::default(), Arc::<AtomicBool>::default());
        let address = listener.local_addr()?;
        let shared = (Arc::clone(&text), Arc::clone(&ended));
        let serve = move || {
            let (text, ended) = shared;
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let text = text.lock().unwrap_or_else(PoisonError::into_inner).clone();
                // Whoever does not read or leaves gets nothing, and the next one is served.
                answer(stream, &text).ok();
            }
        };
        let thread = std::thread::Builder::new().name("metrics".to_owned()).spawn(serve)?;
        Ok(Self {
            text,
            address,
            ended,
            thread: Some(thread),
        })
    }

    /// Shows this from now on.
    pub(super) fn show(&self, text: String) {
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    /// Returns where it listens.
    #[cfg(test)]
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Exposed {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // Wakes it from its wait.
        let woken = TcpStream::connect_timeout(&self.address, PATIENCE).is_ok();
        if let Some(thread) = self.thread.take().filter(|_| woken) {
            thread.join().ok();
        }
    }
}

fn answer(mut stream: TcpStream, text: &str) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (mut request, mut buffer) = (Vec::new(), [0; 1024]);
    while !request.windows(4).any(|part| part == b"\r\n\r\n") && request.len() < REQUEST {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            read => request.extend_from_slice(buffer.get(..read).unwrap_or_default()),
        }
    }
    let path = request.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    let path = path.split(|byte| *byte == b'?').next().unwrap_or_default();
    let (status, text) = match path {
        b"/metrics" => ("200 OK", text),
        _ => ("404 Not Found", "there is only /metrics\n"),
    };
    let length = text.len();
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{text}"
    )
}

/// Writes labels: `{a="b"}`, or nothing.
fn labels(all: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    let all: Vec<_> = all
        .iter()
        .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
        .collect();
    if all.is_empty() {
        return String::new();
    }
    format!("{{{}}}", all.join(","))
}

/// Writes what was seen in Prometheus' text format.
pub(super) fn render(seen: &Seen, settings: &Settings) -> String {
    let mut text = String::new();
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let name = metric.name;
        // Writing into a string does not fail.
        writeln!(text, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help).ok();
        if metric.kind == Kind::Histogram {
            let nothing = Pair::new();
            for latency in Latency::ALL {
                let pair = seen.totals.latencies.get(latency).unwrap_or(&nothing);
                histogram(&mut text, name, latency.name(), pair);
            }
        }
        for (labels, value) in samples(metric, seen, settings) {
            writeln!(text, "{name}{labels} {value}").ok();
        }
    }
    text
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
fn samples(metric: &Metric, seen: &Seen, settings: &Settings) -> Vec<(String, f64)> {
    let name = metric.name;
    // Where there are several, they are written out.
    let label = metric.labels.first().map_or("", |(label, _)| label);
    let one = |value: f64| vec![(String::new(), value)];
    let last = seen.series.last();
    let length: f64 = settings.stages.iter().map(|stage| stage.seconds).sum();
    let processes = |value: &dyn Fn(&crate::report::Usage) -> f64| {
        let all = seen.processes.iter();
        all.map(|(process, usage)| (labels(&[(label, process)]), value(usage)))
            .collect()
    };
    match name {
        "kronos_load_info" => {
            let info = [
                ("scenario", settings.scenario.as_str()),
                ("model", settings.model.as_str()),
                ("version", env!("CARGO_PKG_VERSION")),
            ];
            vec![(labels(&info), 1.0)]
        }
        "kronos_load_wanted" => one(last.map_or(0.0, |last| last.wanted)),
        "kronos_load_progress_ratio" => one(last.map_or(0.0, |last| (last.at / length.max(1e-3)).min(1.0))),
        "kronos_load_users" => one(last.map_or(0.0, |last| last.users as f64)),
        "kronos_load_sockets" => one(last.map_or(0.0, |last| last.sockets as f64)),
        "kronos_load_busiest_thread_ratio" => one(seen.busiest),
        "kronos_load_timer_lag_seconds" => one(last.map_or(0.0, |last| last.lag_ms / 1e3)),
        "kronos_load_void" => one(f64::from(u8::from(seen.void.is_some()))),
        "kronos_load_in_bytes_total" => one(seen.totals.counted(Count::BytesIn) as f64),
        "kronos_load_out_bytes_total" => one(seen.totals.counted(Count::BytesOut) as f64),
        "kronos_load_errors_total" => {
            let all = seen.totals.errors.iter().map(|(code, count)| (code.as_str(), *count));
            by(label, all.collect(), ERRORS)
        }
        "kronos_load_broken_promises_total" => {
            let all = seen.totals.broken.iter().map(|(check, count)| (*check, *count));
            by(label, all.collect(), CHECKS)
        }
        "kronos_load_process_cpu_seconds_total" => processes(&|usage| usage.cpu_seconds),
        "kronos_load_process_resident_memory_bytes" => processes(&|usage| usage.memory_last as f64),
        _ => counter(name).map_or_else(Vec::new, |count| one(seen.totals.counted(count) as f64)),
    }
}

/// Writes counts by a label; values that are known before are there at 0.
#[expect(clippy::cast_precision_loss, reason = "metrics are floats")]
fn by(label: &str, mut counts: BTreeMap<&str, u64>, known: &[&'static str]) -> Vec<(String, f64)> {
    for value in known {
        counts.entry(value).or_default();
    }
    counts
        .iter()
        .map(|(value, count)| (labels(&[(label, value)]), *count as f64))
        .collect()
}

/// Returns the count of a metric `kronos_load_…_total`.
fn counter(name: &str) -> Option<Count> {
    Count::named(name.strip_prefix("kronos_load_")?.strip_suffix("_total")?)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "bounds in microseconds"
)]
fn histogram(text: &mut String, name: &str, latency: &str, pair: &Pair) {
    let all = &pair.corrected;
    for bound in BUCKETS {
        let below = all.count_between(0, (bound * 1e6) as u64);
        writeln!(text, "{name}_bucket{{latency=\"{latency}\",le=\"{bound}\"}} {below}").ok();
    }
    let (count, sum) = (all.len(), all.mean() * all.len() as f64 / 1e6);
    writeln!(text, "{name}_bucket{{latency=\"{latency}\",le=\"+Inf\"}} {count}").ok();
    writeln!(text, "{name}_sum{{latency=\"{latency}\"}} {sum}").ok();
    writeln!(text, "{name}_count{{latency=\"{latency}\"}} {count}").ok();
}

#[cfg(test)]
mod tests;
