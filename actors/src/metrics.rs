//! Every metric: its name, kind, unit, help and closed set of labels. THE list; nothing is measured that is not here.
//! And held handles of what is counted often, because looking one up costs more than counting.
//!
//! Names are `kronos_<noun>_<unit>[_total]`. Labels come from closed sets only: never a user, a session or a path.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::{connection::metrics as connection, gemini::metric as gemini, store::service::metrics as store};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// The declaration of a metric.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit.
    pub unit: Unit,
    /// What it says, in one sentence.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
}

macro_rules! metrics {
    ($($const:ident = $name:literal, $kind:ident, $unit:ident, [$($label:literal),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $const: &str = $name;
        )+

        /// Those whose names are here.
        const OWN: &[Metric] = &[
            $(Metric { name: $const, kind: Kind::$kind, unit: Unit::$unit, help: $help, labels: &[$($label),*] },)+
        ];
    };
}

metrics! {
    HTTP_REQUESTS = "kronos_http_requests_total", Counter, Count, ["method", "route", "status"],
        "Requests answered, by route pattern and status class.";
    HTTP_DURATION = "kronos_http_request_duration_seconds", Histogram, Seconds, ["method", "route"],
        "Time from the head of a request to the head of its answer.";
    HTTP_ACTIVE = "kronos_http_requests_active", Gauge, Count, [],
        "Requests that wait for their answer.";
    HTTP_PANICS = "kronos_http_panics_total", Counter, Count, [],
        "Requests whose handler panicked.";
    LOGINS = "kronos_logins_total", Counter, Count, ["result"],
        "Logins: ok or refused.";
    REFRESHES = "kronos_refreshes_total", Counter, Count, ["result"],
        "Refreshes of tokens: ok, refused or reused (a family was revoked).";
    PASSWORD_WAITING = "kronos_password_hashes_waiting", Gauge, Count, [],
        "Logins and signups that wait for their hash or are being hashed.";
    TICKETS = "kronos_tickets", Gauge, Count, [],
        "Tickets that wait for their use.";
    SESSIONS_LIVE = "kronos_sessions_live", Gauge, Count, [],
        "Sessions in memory.";
    SESSIONS_PARKED = "kronos_sessions_parked", Gauge, Count, [],
        "Sessions parked after too many panics.";
    SESSION_ACTIVATIONS = "kronos_session_activations_total", Counter, Count, [],
        "Logs folded.";
    SESSION_PASSIVATIONS = "kronos_session_passivations_total", Counter, Count, [],
        "Sessions that left memory.";
    SESSION_RESTARTS = "kronos_session_restarts_total", Counter, Count, ["reason"],
        "Restarts of sessions: after a panic, a failed commit or a broken order of events.";
    SESSION_MAILBOX_FULL = "kronos_session_mailbox_full_total", Counter, Count, [],
        "Calls refused because the mailbox of a session was full.";
    EVENTS_APPENDED = "kronos_events_appended_total", Counter, Count, [],
        "Events appended to logs.";
    SNAPSHOTS = "kronos_snapshots_total", Counter, Count, [],
        "Snapshots made for cursors that could not be served event by event.";
    RUNS_INTERRUPTED = "kronos_runs_interrupted_total", Counter, Count, [],
        "Runs found interrupted when a log was folded.";
}

/// Those whose names live beside the handles that count them.
const ELSEWHERE: &[Metric] = &[
    elsewhere(connection::CONNECTIONS, Kind::Gauge, Unit::Count, "Websockets that are open.", &[]),
    elsewhere(connection::FRAMES_IN, Kind::Counter, Unit::Count, "Messages from clients.", &["codec"]),
    elsewhere(connection::FRAMES_OUT, Kind::Counter, Unit::Count, "Messages to clients.", &["codec"]),
    elsewhere(connection::BYTES_IN, Kind::Counter, Unit::Bytes, "Bytes of the messages from clients.", &["codec"]),
    elsewhere(connection::BYTES_OUT, Kind::Counter, Unit::Bytes, "Bytes of the messages to clients.", &["codec"]),
    elsewhere(connection::COMMANDS, Kind::Counter, Unit::Count, "Commands answered.", &["op", "outcome"]),
    elsewhere(connection::CLOSES, Kind::Counter, Unit::Count, "Close frames sent.", &["code"]),
    elsewhere(store::COMMIT_DURATION_SECONDS, Kind::Histogram, Unit::Seconds, "Time of one group commit.", &[]),
    elsewhere(store::COMMIT_REQUESTS, Kind::Histogram, Unit::Count, "Requests that shared one commit.", &[]),
    elsewhere(store::COMMIT_ERRORS_TOTAL, Kind::Counter, Unit::Count, "Commits that failed as a whole.", &[]),
    elsewhere(store::PENDING_BYTES, Kind::Gauge, Unit::Bytes, "Requests that wait for their commit.", &[]),
    elsewhere(store::SIZE_BYTES, Kind::Gauge, Unit::Bytes, "What the store takes on its medium.", &[]),
    elsewhere(gemini::REQUESTS, Kind::Counter, Unit::Count, "Generations that ended.", &["outcome"]),
    elsewhere(gemini::FIRST_TOKEN, Kind::Histogram, Unit::Seconds, "Time to the first text of an answer.", &[]),
    elsewhere(gemini::TOKENS, Kind::Counter, Unit::Count, "Tokens of all requests.", &["kind"]),
    elsewhere(gemini::RETRIES, Kind::Counter, Unit::Count, "Attempts that were repeated.", &["reason"]),
    elsewhere(gemini::RUNNING, Kind::Gauge, Unit::Count, "Generations that hold a permit.", &[]),
    elsewhere(gemini::WAITING, Kind::Gauge, Unit::Count, "Generations that wait for a permit.", &[]),
];

const fn elsewhere(
    name: &'static str,
    kind: Kind,
    unit: Unit,
    help: &'static str,
    labels: &'static [&'static str],
) -> Metric {
    Metric { name, kind, unit, help, labels }
}

/// Returns the declaration of every metric.
pub fn all() -> impl Iterator<Item = &'static Metric> {
    OWN.iter().chain(ELSEWHERE)
}

/// Tells the installed recorder what each metric means.
pub fn describe() {
    for metric in all() {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.unit, metric.help),
            Kind::Gauge => describe_gauge!(metric.name, metric.unit, metric.help),
            Kind::Histogram => describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

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
        live: gauge!(SESSIONS_LIVE),
        parked: gauge!(SESSIONS_PARKED),
        activations: counter!(SESSION_ACTIVATIONS),
        passivations: counter!(SESSION_PASSIVATIONS),
        restarted_panic: counter!(SESSION_RESTARTS, "reason" => "panic"),
        restarted_commit: counter!(SESSION_RESTARTS, "reason" => "commit"),
        restarted_order: counter!(SESSION_RESTARTS, "reason" => "order"),
        mailbox_full: counter!(SESSION_MAILBOX_FULL),
        events_appended: counter!(EVENTS_APPENDED),
        snapshots: counter!(SNAPSHOTS),
        runs_interrupted: counter!(RUNS_INTERRUPTED),
    });
    &HANDLES
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_their_kind_and_are_unique() {
        let mut seen = HashSet::new();
        for metric in all() {
            assert!(seen.insert(metric.name), "{} twice", metric.name);
            assert!(metric.name.starts_with("kronos_"), "{}", metric.name);
            assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
        }
    }
}
