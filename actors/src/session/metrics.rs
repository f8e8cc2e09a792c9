//! Held handles of the sessions' metrics: looking one up costs more than counting.

use std::sync::LazyLock;

use kronos_protocol::error::RunErrorCode;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::metrics as names;

/// Handles of the sessions' metrics.
pub(crate) struct SessionMetrics {
    /// Live sessions.
    pub(crate) live: Gauge,
    /// Sessions parked after too many panics.
    pub(crate) parked: Gauge,
    /// Attachments of sessions that are not in memory.
    pub(crate) asleep: Gauge,
    /// Logs folded.
    pub(crate) activations: Counter,
    /// Sessions that left memory.
    pub(crate) passivations: Counter,
    /// Restarts after a panic.
    pub(crate) restarted_panic: Counter,
    /// Restarts of sessions that hung.
    pub(crate) restarted_hang: Counter,
    /// Restarts after a failed commit.
    pub(crate) restarted_commit: Counter,
    /// Restarts because the core broke the order of events.
    pub(crate) restarted_order: Counter,
    /// Snapshots made for cursors that could not be served.
    pub(crate) snapshots: Counter,
    /// New epochs: text that was shown early was lost.
    pub(crate) epochs: Counter,
    /// Runs found interrupted when a log was folded.
    pub(crate) runs_interrupted: Counter,
    /// Time of runs that ended.
    pub(crate) run_duration: Histogram,
    /// Time to the first text.
    pub(crate) first_token: Histogram,
    /// Time between two texts.
    pub(crate) token_gap: Histogram,
    /// Time that questions were open.
    pub(crate) question_wait: Histogram,
}

/// A run ended. Runs are rare beside deltas: the handles are looked up each time.
pub(crate) fn run_ended(outcome: &'static str, code: Option<RunErrorCode>) {
    counter!(names::RUNS, "outcome" => outcome).increment(1);
    if let Some(code) = code {
        counter!(names::RUN_FAILURES, "code" => code.as_str()).increment(1);
    }
}

/// The handles. Ask for them only after the recorder is installed: earlier ones count nothing.
pub(crate) fn handles() -> &'static SessionMetrics {
    static HANDLES: LazyLock<SessionMetrics> = LazyLock::new(|| SessionMetrics {
        live: gauge!(names::SESSIONS_LIVE),
        parked: gauge!(names::SESSIONS_PARKED),
        asleep: gauge!(names::ATTACHMENTS_ASLEEP),
        activations: counter!(names::SESSION_ACTIVATIONS),
        passivations: counter!(names::SESSION_PASSIVATIONS),
        restarted_panic: counter!(names::SESSION_RESTARTS, "reason" => "panic"),
        restarted_hang: counter!(names::SESSION_RESTARTS, "reason" => "hang"),
        restarted_commit: counter!(names::SESSION_RESTARTS, "reason" => "commit"),
        restarted_order: counter!(names::SESSION_RESTARTS, "reason" => "order"),
        snapshots: counter!(names::SNAPSHOTS),
        epochs: counter!(names::EPOCHS),
        runs_interrupted: counter!(names::RUNS_INTERRUPTED),
        run_duration: histogram!(names::RUN_DURATION),
        first_token: histogram!(names::RUN_FIRST_TOKEN),
        token_gap: histogram!(names::TOKEN_GAP),
        question_wait: histogram!(names::QUESTION_WAIT),
    });
    &HANDLES
}
