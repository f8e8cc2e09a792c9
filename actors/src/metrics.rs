//! Every metric: its name, kind, unit, help and closed set of labels; and held handles, because looking one up costs more
//! than counting.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, counter, gauge};

/// Handles of the sessions' metrics.
pub struct SessionMetrics {
    /// Live sessions.
    pub live: Gauge,
    /// Sessions parked after too many panics.
    pub parked: Gauge,
    /// Logs folded.
    pub activations: Counter,
    /// Sessions that left memory.
    pub passivations: Counter,
    /// Restarts after a panic.
    pub restarted_panic: Counter,
    /// Restarts after a failed commit.
    pub restarted_commit: Counter,
    /// Restarts because the core broke the order of events.
    pub restarted_order: Counter,
    /// Calls refused because a mailbox was full.
    pub mailbox_full: Counter,
    /// Events appended.
    pub events_appended: Counter,
    /// Snapshots made for cursors that could not be served.
    pub snapshots: Counter,
    /// Runs found interrupted when a log was folded.
    pub runs_interrupted: Counter,
}

/// The handles. Ask for them only after the recorder is installed: earlier ones count nothing.
pub fn session() -> &'static SessionMetrics {
    static HANDLES: LazyLock<SessionMetrics> = LazyLock::new(|| SessionMetrics {
        live: gauge!("kronos_sessions_live"),
        parked: gauge!("kronos_sessions_parked"),
        activations: counter!("kronos_session_activations_total"),
        passivations: counter!("kronos_session_passivations_total"),
        restarted_panic: counter!("kronos_session_restarts_total", "reason" => "panic"),
        restarted_commit: counter!("kronos_session_restarts_total", "reason" => "commit"),
        restarted_order: counter!("kronos_session_restarts_total", "reason" => "order"),
        mailbox_full: counter!("kronos_session_mailbox_full_total"),
        events_appended: counter!("kronos_events_appended_total"),
        snapshots: counter!("kronos_snapshots_total"),
        runs_interrupted: counter!("kronos_runs_interrupted_total"),
    });
    &HANDLES
}
