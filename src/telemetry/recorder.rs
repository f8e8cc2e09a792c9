//! The metrics recorder. Names of metrics live in `kronos_actors::metrics`.

use std::{sync::OnceLock, time::Duration};

use kronos_actors::{
    mailbox,
    metrics::{self, ALL, Kind},
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

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
    super::report();
    Some(handle.render())
}
