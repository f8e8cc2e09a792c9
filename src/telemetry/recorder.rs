//! The metrics recorder. Names of metrics live in `kronos_actors::metrics`.

use std::{sync::OnceLock, time::Duration};

use kronos_actors::{
    directory::questions,
    mailbox,
    metrics::{self, ALL, FRACTIONS, Kind},
    tally,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::collector;

/// How often drained samples are folded into histograms; nobody else does it, and they pile up otherwise.
pub(crate) const UPKEEP: Duration = Duration::from_secs(5);

static RECORDER: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Installs the process' recorder, the first time. Before anything is measured: handles made earlier count nothing.
pub(crate) fn install(enabled: bool) {
    RECORDER.get_or_init(|| {
        if !enabled {
            metrics::turn_off();
            return None;
        }
        let builder = ALL
            .iter()
            .try_fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
                Kind::Histogram(bounds) => {
                    builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)
                }
                Kind::Counter | Kind::Gauge => Ok(builder),
            });
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        let handle = handle
            .inspect_err(|error| tracing::error!(%error, "metrics are off"))
            .ok();
        metrics::describe();
        metrics::touch();
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        ::metrics::gauge!(metrics::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "profile" => profile).set(1.0);
        handle
    });
}

/// Folds samples into histograms.
pub(crate) fn upkeep() {
    if let Some(handle) = RECORDER.get().and_then(Option::as_ref) {
        handle.run_upkeep();
    }
}

/// Renders everything in Prometheus' text format; `None` when metrics are off. Takes milliseconds with many series.
pub(crate) fn render() -> Option<String> {
    let handle = RECORDER.get().and_then(Option::as_ref)?;
    mailbox::report();
    tally::report();
    questions::report();
    super::report();
    process();
    Some(as_counters(handle.render()))
}

/// Shows what the system knows of this process.
fn process() {
    let seen = collector::collect();
    #[expect(clippy::cast_precision_loss, reason = "gauges; exact up to 9 PB")]
    let whole = |value: Option<u64>| value.map(|value| value as f64);
    for (name, value) in [
        (metrics::PROCESS_CPU, seen.cpu_seconds_total),
        (metrics::PROCESS_MEMORY, whole(seen.resident_memory_bytes)),
        (metrics::PROCESS_VIRTUAL, whole(seen.virtual_memory_bytes)),
        (metrics::PROCESS_FILES, whole(seen.open_fds)),
        (metrics::PROCESS_MAX_FILES, whole(seen.max_fds)),
        (metrics::PROCESS_THREADS, whole(seen.threads)),
        (metrics::PROCESS_START, whole(seen.start_time_seconds)),
    ] {
        if let Some(value) = value {
            ::metrics::gauge!(name).set(value);
        }
    }
}

/// Gives the counters that are held as gauges their type.
fn as_counters(mut text: String) -> String {
    const HELD_AS: &str = "gauge";
    for name in FRACTIONS {
        let start = format!("# TYPE {name} ");
        let at = text.find(&format!("{start}{HELD_AS}\n")).map(|at| at + start.len());
        if let Some(at) = at {
            text.replace_range(at..at + HELD_AS.len(), "counter");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_grows_by_fractions_is_shown_as_a_counter() {
        let text = "# TYPE kronos_ready gauge\nkronos_ready 1\n# TYPE process_cpu_seconds_total gauge\n";
        let shown = "# TYPE kronos_ready gauge\nkronos_ready 1\n# TYPE process_cpu_seconds_total counter\n";
        assert_eq!(as_counters(text.to_owned()), shown);
    }
}
