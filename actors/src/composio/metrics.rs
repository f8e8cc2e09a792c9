//! Held handles of the service's metrics.

use std::{sync::LazyLock, time::Duration};

use metrics::{Gauge, counter, gauge, histogram};

use super::wire::AccountStatus;
use crate::{metrics as names, tools::Outcome, upstream::Gauges};

/// Handles of the metrics without labels.
pub(super) struct ComposioMetrics {
    pub(super) permits: Gauges,
    pub(super) retry_budget: Gauge,
    pub(super) watchers: Gauge,
    pub(super) circuit: Gauge,
    pub(super) forgets: Gauge,
}

/// The handles. Ask for them only after the recorder is installed: earlier ones count nothing.
pub(super) fn handles() -> &'static ComposioMetrics {
    static HANDLES: LazyLock<ComposioMetrics> = LazyLock::new(|| ComposioMetrics {
        permits: Gauges {
            running: gauge!(names::COMPOSIO_RUNNING),
            limit: gauge!(names::COMPOSIO_LIMIT),
            waiting: gauge!(names::COMPOSIO_WAITING),
            wait: histogram!(names::PERMIT_WAIT, "upstream" => "composio"),
        },
        retry_budget: gauge!(names::COMPOSIO_RETRY_BUDGET),
        watchers: gauge!(names::COMPOSIO_WATCHERS),
        circuit: gauge!(names::COMPOSIO_CIRCUIT),
        forgets: gauge!(names::COMPOSIO_FORGETS_UNFINISHED),
    });
    &HANDLES
}

/// A request is over.
pub(super) fn request(op: &'static str, outcome: &'static str, took: Duration) {
    counter!(names::COMPOSIO_REQUESTS, "operation" => op, "outcome" => outcome).increment(1);
    histogram!(names::COMPOSIO_DURATION, "operation" => op).record(took.as_secs_f64());
}

/// A request is made once more.
pub(super) fn retry(reason: &'static str) {
    counter!(names::COMPOSIO_RETRIES, "reason" => reason).increment(1);
}

/// A tool's call is over.
pub(super) fn call(toolkit: &str, outcome: &Outcome) {
    let word = match outcome {
        Outcome::Done(_) => "done",
        Outcome::Failed(_) => "failed",
        Outcome::NotConnected { .. } => "not_connected",
        Outcome::Unknown(_) => "unknown",
    };
    counter!(names::COMPOSIO_CALLS, "toolkit" => names::labels::toolkit(toolkit), "outcome" => word).increment(1);
}

/// The state of a connection has changed.
pub(super) fn changed(status: AccountStatus) {
    counter!(names::COMPOSIO_CONNECTION_CHANGES, "status" => status.as_str()).increment(1);
}

/// What was read of the catalogue is so old; there is no such series before.
pub(super) fn age(age: Duration) {
    gauge!(names::COMPOSIO_CATALOGUE_AGE).set(age.as_secs_f64());
}

/// Accounts of that status.
pub(super) fn accounts(status: AccountStatus) -> Gauge {
    gauge!(names::COMPOSIO_CONNECTIONS, "status" => status.as_str())
}

/// An event of Composio's came.
pub(super) fn event(result: &'static str) {
    counter!(names::COMPOSIO_EVENTS, "result" => result).increment(1);
}
