//! Every metric that a load shows with `--metrics`: its name, kind, help and labels. THE list.
//!
//! Tables only, so that the tests of the dashboards can read this file as it is.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution with the buckets [`BUCKETS`].
    Histogram,
}

/// The declaration of a metric.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Metric {
    /// Its name.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) kind: Kind,
    /// What it says, in one sentence.
    pub(crate) help: &'static str,
    /// Its labels, each with every value that it may have; none: values are not known before.
    pub(crate) labels: &'static [(&'static str, &'static [&'static str])],
}

/// Upper bounds of latencies in seconds: as fine as a server on the same machine needs, as wide as one that hangs.
pub(crate) const BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0,
];

/// The latencies.
pub(crate) const LATENCY: &[&str] = &[
    "connect",
    "attach",
    "ack",
    "first_token",
    "token_gap",
    "delivery",
    "cancel_to_silence",
    "resume",
    "approval",
];

/// The processes that may be on this machine; the load tester is `client`.
pub(crate) const PROCESS: &[&str] = &["client", "composio", "server", "simulator"];

const ANY: &[&str] = &[];

macro_rules! metrics {
    ($($name:literal, $kind:ident, [$($label:literal: $values:expr),*], $help:literal;)+) => {
        /// All of them.
        pub(crate) const ALL: &[Metric] = &[
            $(Metric { name: $name, kind: Kind::$kind, help: $help, labels: &[$(($label, $values)),*] },)+
        ];
    };
}

metrics! {
    "kronos_load_info", Gauge, ["scenario": ANY, "model": &["open", "closed"], "version": ANY],
        "Always 1: the scenario that runs, whether its stages are arrivals (open) or users (closed), the load tester's version.";
    "kronos_load_wanted", Gauge, [],
        "What the stages want now: arrivals a second, or users.";
    "kronos_load_progress_ratio", Gauge, [],
        "How much of the stages is over, from 0 to 1.";
    "kronos_load_users", Gauge, [],
        "Users that are at it.";
    "kronos_load_sockets", Gauge, [],
        "Open websockets.";
    "kronos_load_offered_total", Counter, [],
        "Users that the schedule wanted to begin.";
    "kronos_load_started_total", Counter, [],
        "Users that began.";
    "kronos_load_completed_total", Counter, [],
        "Users that came to the end of what they do.";
    "kronos_load_commands_total", Counter, [],
        "Commands that were sent.";
    "kronos_load_sends_total", Counter, [],
        "Messages that were sent.";
    "kronos_load_events_total", Counter, [],
        "Events that arrived, merged ones counted for all of them.";
    "kronos_load_deltas_total", Counter, [],
        "Deltas of texts that arrived, merged ones counted for all of them.";
    "kronos_load_runs_total", Counter, [],
        "Runs that ended.";
    "kronos_load_in_bytes_total", Counter, [],
        "Bytes of frames that arrived.";
    "kronos_load_out_bytes_total", Counter, [],
        "Bytes of frames that were sent.";
    "kronos_load_cuts_total", Counter, [],
        "Connections that were cut on purpose.";
    "kronos_load_resumes_total", Counter, [],
        "Joins after a cut, and after connections that the server ended.";
    "kronos_load_errors_total", Counter, ["code": ANY],
        "Refused commands and lost connections: a code of the protocol, a close code, or connect, timeout, io.";
    "kronos_load_broken_promises_total", Counter, ["check": ANY],
        "Events that were lost, repeated, reordered or taken back, and everything else that must never be.";
    "kronos_load_latency_seconds", Histogram, ["latency": LATENCY],
        "Latencies as clients felt them, from when they were intended to begin.";
    "kronos_load_process_cpu_seconds_total", Counter, ["process": PROCESS],
        "CPU time since the start of the load of the processes on the load tester's machine; the load tester is client.";
    "kronos_load_process_resident_memory_bytes", Gauge, ["process": PROCESS],
        "Resident memory of the processes on the load tester's machine.";
    "kronos_load_busiest_thread_ratio", Gauge, [],
        "Share of a core that the load tester's busiest thread took in the last second: above 0.85 for three seconds voids the run.";
    "kronos_load_timer_lag_seconds", Gauge, [],
        "By how much the load tester's worst timer was late in the last second.";
    "kronos_load_void", Gauge, [],
        "1 when the load tester itself was too slow, so that nothing it measured counts.";
}
