//! Every metric: its name, kind, unit, help, and every label with every value. THE list; nothing is measured under a name that
//! is not here.
//!
//! Names are `kronos_<noun>_<unit>[_total]`; what every process has is called as everywhere (`process_…`). Labels come from
//! closed sets only (`labels.rs`): never a user, a session or a path. `buckets.rs` has the bounds of the histograms.

use std::sync::atomic::{AtomicBool, Ordering};

use metrics::{Label, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use self::Kind::{Counter, Gauge, Histogram};

pub mod buckets;
pub mod labels;

pub use self::labels::Values;
use self::{buckets::*, labels::*};
use crate::principal::AuthError;

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution, counted in buckets with these upper bounds.
    Histogram(&'static [f64]),
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
    /// Its labels, each with every value that it may have.
    pub labels: &'static [(&'static str, Values)],
}

macro_rules! metrics {
    ($($const:ident = $name:literal, $kind:expr, $unit:ident, [$($label:ident: $values:expr),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub const $const: &str = $name;
        )+

        /// All of them.
        pub const ALL: &[Metric] = &[
            $(Metric {
                name: $const,
                kind: $kind,
                unit: Unit::$unit,
                help: $help,
                labels: &[$((stringify!($label), $values)),*],
            },)+
        ];
    };
}

metrics! {
    HTTP_REQUESTS = "kronos_http_requests_total", Counter, Count, [method: METHOD, route: ROUTE, status: STATUS],
        "Requests answered, by route pattern and status class.";
    HTTP_DURATION = "kronos_http_request_duration_seconds", Histogram(SECONDS), Seconds, [method: METHOD, route: ROUTE],
        "Time from the head of a request to the head of its answer.";
    HTTP_ACTIVE = "kronos_http_requests_active", Gauge, Count, [],
        "Requests that wait for their answer.";
    HTTP_PANICS = "kronos_http_panics_total", Counter, Count, [],
        "Requests whose handler panicked.";
    HTTP_BODY_ERRORS = "kronos_http_broken_answers_total", Counter, Count, [reason: one(&["panic", "error"])],
        "Answers that broke off after their head: panic, or error when their source failed.";
    RATE_LIMIT_UNCOUNTED = "kronos_rate_limit_uncounted_total", Counter, Count, [],
        "Requests that no rate limit counted because RATE_LIMIT_KEYS users and addresses were counted already.";
    PROBES = "kronos_health_probes_total", Counter, Count, [service: one(&["database", "gemini", "composio"]), result: OK_OR_FAILED],
        "Probes of what the server needs, by service (database, gemini, composio): ok or failed.";
    LOGINS = "kronos_logins_total", Counter, Count, [result: one(&["ok", "refused"])],
        "Logins: ok or refused.";
    REFRESHES = "kronos_refreshes_total", Counter, Count, [result: one(&["ok", "refused", "reused"])],
        "Refreshes of tokens: ok, refused or reused (a family was revoked).";
    PASSWORD_WAITING = "kronos_password_hashes_waiting", Gauge, Count, [],
        "Logins and signups that wait for their hash or are being hashed.";
    TICKETS = "kronos_tickets", Gauge, Count, [],
        "Tickets that wait for their use.";
    JWKS_FETCHES = "kronos_jwks_fetches_total", Counter, Count, [result: OK_OR_FAILED],
        "Fetches of the identity provider's keys: ok or failed.";
    JWKS_KEYS = "kronos_jwks_keys", Gauge, Count, [],
        "Keys of the identity provider that tokens are checked with.";
    USERS_DELETED = "kronos_users_deleted_total", Counter, Count, [],
        "Users who were deleted with everything that was theirs.";
    DELETIONS_UNFINISHED = "kronos_user_deletions_unfinished", Gauge, Count, [],
        "Deleted users of whom something is left still.";
    CONNECTIONS = "kronos_connections", Gauge, Count, [],
        "Websockets that are open now.";
    EVENT_STREAMS = "kronos_event_streams", Gauge, Count, [],
        "Event streams over HTTP that are open now.";
    EVENT_STREAMS_ENDED = "kronos_event_streams_ended_total", Counter, Count, [reason: one(&["finished", "left", "not_reading", "revoked", "expired", "restart", "failed"])],
        "Event streams that ended: finished, left, not_reading, revoked, expired, restart, failed.";
    FRAMES_IN = "kronos_frames_in_total", Counter, Count, [codec: CODEC],
        "Messages from websocket clients.";
    FRAMES_OUT = "kronos_frames_out_total", Counter, Count, [codec: CODEC],
        "Messages to websocket clients.";
    BYTES_IN = "kronos_frames_in_bytes_total", Counter, Bytes, [codec: CODEC],
        "Bytes of the messages from websocket clients.";
    BYTES_OUT = "kronos_frames_out_bytes_total", Counter, Bytes, [codec: CODEC],
        "Bytes of the messages to websocket clients.";
    COMMANDS = "kronos_commands_total", Counter, Count, [op: OP, outcome: one(&["ok", "error"])],
        "Commands answered: ok or error; what could not be read at all has the op unknown.";
    CLOSES = "kronos_closes_total", Counter, Count, [code: CLOSE_CODE],
        "Close frames sent: a code of the protocol, none, or other for an echo of the client's own.";
    REFUSALS = "kronos_refusals_total", Counter, Count, [bound: one(BOUNDS)],
        "What was refused because a bound was reached, by the bound's name.";
    SESSIONS_LIVE = "kronos_sessions_live", Gauge, Count, [],
        "Sessions in memory.";
    SESSIONS_PARKED = "kronos_sessions_parked", Gauge, Count, [],
        "Sessions closed because they panicked too often.";
    ATTACHMENTS_ASLEEP = "kronos_attachments_asleep", Gauge, Count, [],
        "Attachments whose session is not in memory.";
    SESSION_ACTIVATIONS = "kronos_session_activations_total", Counter, Count, [],
        "Logs folded into a session.";
    SESSION_PASSIVATIONS = "kronos_session_passivations_total", Counter, Count, [],
        "Idle sessions that left memory.";
    SESSION_RESTARTS = "kronos_session_restarts_total", Counter, Count, [reason: one(&["panic", "hang", "commit", "order"])],
        "Sessions that folded their log again: after a panic, a hang, a failed commit, a broken order.";
    EVENTS_APPENDED = "kronos_events_appended_total", Counter, Count, [],
        "Events that sessions decided, before deltas of one commit merge.";
    SNAPSHOTS = "kronos_snapshots_total", Counter, Count, [],
        "Snapshots made for cursors that could not be served event by event.";
    EPOCHS = "kronos_epochs_total", Counter, Count, [],
        "Histories begun anew because text that was shown before its commit may have been lost (DURABILITY=relaxed).";
    RUNS_INTERRUPTED = "kronos_runs_interrupted_total", Counter, Count, [],
        "Runs found interrupted when a log was folded.";
    RETENTION_DELETED = "kronos_retention_deleted_total", Counter, Count, [rule: one(&["age", "count"])],
        "Conversations deleted by retention, by the rule: age or count.";
    STORE_COMMIT_DURATION = "kronos_store_commit_duration_seconds", Histogram(DISK_SECONDS), Seconds, [],
        "Time of one group commit, its sync included.";
    STORE_COMMIT_REQUESTS = "kronos_store_commit_requests", Histogram(COUNT), Count, [],
        "Requests that shared one group commit.";
    STORE_COMMIT_ERRORS = "kronos_store_commit_errors_total", Counter, Count, [],
        "Group commits that failed.";
    STORE_PENDING_BYTES = "kronos_store_pending_bytes", Gauge, Bytes, [],
        "Bytes that wait for their commit.";
    STORE_RESTARTS = "kronos_store_restarts_total", Counter, Count, [thread: one(&["committer", "reader"])],
        "Threads of the store that panicked and began again: committer or reader.";
    STORE_SIZE_BYTES = "kronos_store_size_bytes", Gauge, Bytes, [],
        "Bytes that the store takes on its medium.";
    GEMINI_REQUESTS = "kronos_gemini_requests_total", Counter, Count, [model: Values::Model, outcome: GENERATION_OUTCOME],
        "Generations that ended: finished, truncated, cancelled, abandoned, or the code of a failure.";
    GEMINI_FIRST_TOKEN = "kronos_gemini_first_token_seconds", Histogram(UPSTREAM_SECONDS), Seconds, [],
        "Time from a request to the first text or thought of its answer.";
    GEMINI_TOKENS = "kronos_gemini_tokens_total", Counter, Count, [kind: one(&["prompt", "cached", "answer", "thoughts"])],
        "Tokens of all requests: prompt (cached ones included), cached, answer, thoughts.";
    GEMINI_RETRIES = "kronos_gemini_retries_total", Counter, Count, [reason: RUN_ERROR],
        "Attempts that were repeated, by the code of the failure.";
    GEMINI_FUNCTIONS_LEFT_OUT = "kronos_gemini_functions_left_out_total", Counter, Count, [reason: one(&["name", "property", "twice", "bound", "refused"])],
        "Functions that were not declared to the model: name, property, twice, bound, or refused by it.";
    GEMINI_RETRY_BUDGET = "kronos_gemini_retry_budget", Gauge, Count, [],
        "Attempts after the first that could be paid for now: successes add to it, each such attempt takes one.";
    GEMINI_LIMIT = "kronos_gemini_concurrency_limit", Gauge, Count, [],
        "Generations that may hold a permit now: halved when the model pushes back, one more for each success.";
    GEMINI_RESTARTS = "kronos_gemini_restarts_total", Counter, Count, [],
        "Panics of the Gemini service of a core, each followed by a restart.";
    GEMINI_RUNNING = "kronos_gemini_running", Gauge, Count, [],
        "Generations that hold a permit.";
    GEMINI_WAITING = "kronos_gemini_waiting", Gauge, Count, [],
        "Generations that wait for a permit.";
    COMPOSIO_REQUESTS = "kronos_composio_requests_total", Counter, Count, [operation: COMPOSIO_OPERATION, outcome: COMPOSIO_OUTCOME],
        "Requests to Composio, each attempt, by operation: ok or the kind of a failure.";
    COMPOSIO_DURATION = "kronos_composio_request_duration_seconds", Histogram(UPSTREAM_SECONDS), Seconds, [operation: COMPOSIO_OPERATION],
        "Time of one request to Composio.";
    COMPOSIO_RETRIES = "kronos_composio_retries_total", Counter, Count, [reason: COMPOSIO_OUTCOME],
        "Requests to Composio that were made again, by the kind of the failure.";
    COMPOSIO_RETRY_BUDGET = "kronos_composio_retry_budget", Gauge, Count, [],
        "Attempts after the first that could be paid for now.";
    COMPOSIO_RUNNING = "kronos_composio_running", Gauge, Count, [],
        "Requests to Composio under way.";
    COMPOSIO_WAITING = "kronos_composio_waiting", Gauge, Count, [],
        "Requests to Composio that wait for their turn.";
    COMPOSIO_LIMIT = "kronos_composio_concurrency_limit", Gauge, Count, [],
        "Requests that may be under way now: halved when Composio pushes back, one more for each success.";
    COMPOSIO_CIRCUIT = "kronos_composio_circuit", Gauge, Count, [],
        "What the circuit breaker does: 0 closed, 1 half open, 2 open.";
    COMPOSIO_CALLS = "kronos_composio_calls_total", Counter, Count, [toolkit: TOOLKIT, outcome: CALL_OUTCOME],
        "Calls of tools, by toolkit (other for most): done, failed, not_connected, unknown (nobody knows whether it had its effect).";
    COMPOSIO_CONNECTION_CHANGES = "kronos_composio_connection_changes_total", Counter, Count, [status: ACCOUNT_STATUS],
        "Changes of connected accounts, by their new status.";
    COMPOSIO_WATCHERS = "kronos_composio_watchers", Gauge, Count, [],
        "Connections in the making that are watched.";
    COMPOSIO_CATALOGUE_AGE = "kronos_composio_catalogue_age_seconds", Gauge, Seconds, [],
        "Age of what was last read of the catalogue.";
    COMPOSIO_EVENTS = "kronos_composio_events_total", Counter, Count, [result: one(&["told", "ignored", "duplicate", "forged", "malformed", "failed"])],
        "Events that Composio sent: told, ignored, duplicate, forged, malformed, failed.";
    COMPOSIO_FORGETS_UNFINISHED = "kronos_composio_forgets_unfinished", Gauge, Count, [],
        "Deleted users whose accounts are left at Composio still.";
    TOOL_CALLS = "kronos_tool_calls_total", Counter, Count, [source: SOURCE, outcome: one(&["done", "failed", "not_connected", "unknown", "abandoned"])],
        "Calls of tools that ended, by source (kronos, composio): done, failed, not_connected, unknown, abandoned.";
    TOOL_DURATION = "kronos_tool_call_duration_seconds", Histogram(UPSTREAM_SECONDS), Seconds, [source: SOURCE],
        "Time of a call of a tool, of those that ended.";
    TOOL_OFFERS = "kronos_tool_offers_total", Counter, Count, [result: one(&["whole", "partial"])],
        "Offers of tools to runs: whole, or partial when some could not be had (in time).";
    AUTH_FAILURES = "kronos_auth_failures_total", Counter, Count, [reason: one(&["missing", "invalid", "expired", "revoked", "unavailable", "no_key"])],
        "Requests and websockets whose token was refused, by the reason.";
    ATTACHMENTS = "kronos_attachments", Gauge, Count, [],
        "Cursors that websockets have on sessions, those of sleeping sessions too.";
    SESSIONS_HIBERNATED = "kronos_sessions_hibernated", Gauge, Count, [],
        "Sessions that left memory while websockets stay attached to them.";
    MAILBOX_MESSAGES = "kronos_mailbox_messages", Gauge, Count, [actor: ACTOR],
        "Messages that wait in mailboxes, by the kind of actor.";
    MAILBOX_WAIT = "kronos_mailbox_wait_seconds", Histogram(QUICK_SECONDS), Seconds, [actor: ACTOR],
        "Time that a message waited in a mailbox, by the kind of actor.";
    EVENTS_MERGED = "kronos_events_merged_total", Counter, Count, [],
        "Events that became part of the one before them, because both wait for the same commit.";
    EVENTS_DELIVERED = "kronos_events_delivered_total", Counter, Count, [],
        "Events in the batches that sessions gave to cursors, each once for each cursor.";
    CURSOR_LAG = "kronos_cursor_lag_events", Gauge, Count, [],
        "Events that the slowest cursor of any live session has not asked for.";
    CURSORS_LAGGING = "kronos_cursors_lagging", Gauge, Count, [],
        "Cursors that have not asked for what is there for more than a second.";
    DELTA_DELIVERY = "kronos_delta_delivery_seconds", Histogram(QUICK_SECONDS), Seconds, [],
        "Time from the upstream's chunk to the write of its text to a websocket, its commit included.";
    RUNS = "kronos_runs_total", Counter, Count, [outcome: one(&["finished", "waiting", "failed", "cancelled", "interrupted"])],
        "Runs that ended: finished, waiting (for an answer of a person), failed, cancelled, interrupted (by a crash or a drain).";
    RUNS_ACTIVE = "kronos_runs_active", Gauge, Count, [],
        "Runs that work now.";
    RUN_FAILURES = "kronos_run_failures_total", Counter, Count, [code: RUN_ERROR],
        "Runs that failed, by the code that their clients were told.";
    RUN_DURATION = "kronos_run_duration_seconds", Histogram(UPSTREAM_SECONDS), Seconds, [],
        "Time from the start of a run to its end.";
    RUN_FIRST_TOKEN = "kronos_run_first_token_seconds", Histogram(UPSTREAM_SECONDS), Seconds, [],
        "Time from the start of a run to its first text that readers may see.";
    TOKEN_GAP = "kronos_token_gap_seconds", Histogram(SECONDS), Seconds, [],
        "Time between two texts of one answer that readers may see, of some of them.";
    QUESTIONS_WAITING = "kronos_questions_waiting", Gauge, Count, [],
        "Questions to people (approvals, missing accounts, unknown outcomes, client tools) that wait for their answer.";
    QUESTION_OLDEST = "kronos_question_oldest_seconds", Gauge, Seconds, [],
        "Age of the oldest question that waits; 0 when none does.";
    QUESTION_WAIT = "kronos_question_wait_seconds", Histogram(HUMAN_SECONDS), Seconds, [],
        "Time from a question to its answer, or to its end without one.";
    PERMIT_WAIT = "kronos_permit_wait_seconds", Histogram(SECONDS), Seconds, [upstream: one(&["gemini", "composio"])],
        "Time that a call waited for its permit, by upstream.";
    GEMINI_CIRCUIT = "kronos_gemini_circuit", Gauge, Count, [],
        "What the circuit breaker does: 0 closed, 1 half open, 2 open.";
    GEMINI_COST = "kronos_gemini_cost_dollars_total", Counter, Count, [model: Values::Model],
        "Estimated cost of all requests in US dollars, by GEMINI_PRICES; a model without a price is not here.";
    COMPOSIO_CONNECTIONS = "kronos_composio_connections", Gauge, Count, [status: ACCOUNT_STATUS],
        "Connected accounts of this server's users, by their last known status.";
    STORE_READ_DURATION = "kronos_store_read_duration_seconds", Histogram(DISK_SECONDS), Seconds, [],
        "Time of one read of the store, its wait for a reader included.";
    STORE_READ_ERRORS = "kronos_store_read_errors_total", Counter, Count, [],
        "Reads of the store that failed.";
    STORE_COMMIT_BYTES = "kronos_store_commit_bytes", Histogram(BYTES), Bytes, [],
        "Bytes of one group commit.";
    ARBITER_LAG = "kronos_arbiter_lag_seconds", Histogram(QUICK_SECONDS), Seconds, [arbiter: one(&["core", "composio"])],
        "How late a timer fires on the threads of the actors: what else wants to run waits as long.";
    READY = "kronos_ready", Gauge, Count, [],
        "1 when requests should come here, else 0.";
    BUILD_INFO = "kronos_build_info", Gauge, Count, [version: Values::Build, profile: one(&["debug", "release"])],
        "Always 1; its labels say what runs.";
    LOG_LINES = "kronos_log_lines_total", Counter, Count, [level: LEVEL],
        "Log lines written, by level.";
    LOG_LINES_DROPPED = "kronos_log_lines_dropped_total", Counter, Count, [reason: one(&["burst", "slow_disk"])],
        "Log lines left out: burst (more than LOG_BURST of one place in a second), slow_disk (a log file did not take them).";
    TRACE_SPANS = "kronos_trace_spans_total", Counter, Count, [result: one(&["exported", "dropped"])],
        "Spans for the OTLP collector: exported, or dropped because it did not take them.";
    TURNS_RECORDED = "kronos_turns_recorded", Gauge, Count, [],
        "Runs whose timeline the flight recorder holds.";
    PROCESS_CPU = "process_cpu_seconds_total", Counter, Seconds, [],
        "Time that the process used on all cores.";
    PROCESS_MEMORY = "process_resident_memory_bytes", Gauge, Bytes, [],
        "Memory that the process has in use.";
    PROCESS_VIRTUAL = "process_virtual_memory_bytes", Gauge, Bytes, [],
        "Address space of the process.";
    PROCESS_FILES = "process_open_fds", Gauge, Count, [],
        "Files and sockets that the process has open.";
    PROCESS_MAX_FILES = "process_max_fds", Gauge, Count, [],
        "Files and sockets that it may have open.";
    PROCESS_THREADS = "process_threads", Gauge, Count, [],
        "Threads of the process.";
    PROCESS_START = "process_start_time_seconds", Gauge, Seconds, [],
        "When the process started, in seconds since the Unix epoch.";
}

/// Counters that grow by fractions. Those of the recorder are whole numbers: these are held as gauges and shown as counters.
pub const FRACTIONS: &[&str] = &[GEMINI_COST, PROCESS_CPU];

/// Gauges for which 0 would be a lie before they are set.
const NOT_ZERO: &[&str] = &[
    STORE_SIZE_BYTES,
    COMPOSIO_CATALOGUE_AGE,
    COMPOSIO_CONNECTIONS,
    PROCESS_CPU,
    PROCESS_MEMORY,
    PROCESS_VIRTUAL,
    PROCESS_FILES,
    PROCESS_MAX_FILES,
    PROCESS_THREADS,
    PROCESS_START,
];

/// Most series of one metric that are there from the start; each bucket of a histogram is one.
const TOUCHED: usize = 128;

/// Names of the bounds whose refusals are counted: the values of the label of [`REFUSALS`].
pub const BOUNDS: &[&str] = &[
    "agent_client_tools",
    "agent_context_chars",
    "answer_timeout",
    "attachments",
    "body_bytes",
    "body_timeout",
    "call_mends",
    "calls_per_step",
    "commands_per_second",
    "composio_pending",
    "composio_pending_per_user",
    "composio_response_bytes",
    "composio_retry_budget",
    "composio_waiting",
    "composio_webhook_ids",
    "connections",
    "connections_per_address",
    "connections_per_user",
    "context_tokens",
    "event_streams",
    "event_streams_per_user",
    "frame_bytes",
    "gemini_functions",
    "gemini_retry_budget",
    "gemini_waiting",
    "import_chars",
    "import_messages",
    "inbox_messages",
    "jwks_bytes",
    "max_steps",
    "max_tickets",
    "memories",
    "memory_chars",
    "message_chars",
    "password_waiting",
    "pending_commands",
    "pre_auth_frame_bytes",
    "question_timeout",
    "rate_limit_auth",
    "rate_limit_per_address",
    "rate_limit_per_user",
    "request_timeout",
    "session_attachments",
    "session_mailbox",
    "store_pending_bytes",
    "stored_result_bytes",
    "tool_offer_timeout",
    "tool_result_bytes",
];

static MEASURED: AtomicBool = AtomicBool::new(true);

/// Whether metrics are on: what costs more than counting is not even begun without them.
#[must_use]
pub fn is_measured() -> bool {
    MEASURED.load(Ordering::Relaxed)
}

/// Says that metrics are off; before anything is measured.
pub fn turn_off() {
    MEASURED.store(false, Ordering::Relaxed);
}

/// Counts a refusal, if `bound` is one of [`BOUNDS`]. Refusals are rare: the handle is looked up each time.
pub fn refused(bound: &str) {
    if let Some(bound) = BOUNDS.iter().find(|known| **known == bound) {
        metrics::counter!(REFUSALS, "bound" => *bound).increment(1);
    }
}

/// Counts a token that was not taken, or could not be checked: on every path once, where the refusal is made.
pub fn auth_failed(error: &AuthError) {
    counter!(AUTH_FAILURES, "reason" => error.as_str()).increment(1);
}

/// Tells the installed recorder what each metric means.
pub fn describe() {
    for metric in ALL {
        match metric.kind {
            Counter => describe_counter!(metric.name, metric.unit, metric.help),
            Gauge => describe_gauge!(metric.name, metric.unit, metric.help),
            Histogram(_) => describe_histogram!(metric.name, metric.unit, metric.help),
        }
    }
}

/// Begins every series that is known beforehand, at 0: a rate does not see the first increment of one that was not there.
///
/// Left out is what has a label with an open set (route, model, build), or more than a hundred series.
pub fn touch() {
    for metric in ALL.iter().filter(|metric| !NOT_ZERO.contains(&metric.name)) {
        metric.touch(None);
    }
}

/// Begins the outcomes of a model.
pub fn touch_model(model: &str) {
    let of_models = |metric: &&Metric| metric.labels.iter().any(|(_, values)| *values == Values::Model);
    // What costs something begins with its price.
    for metric in ALL.iter().filter(of_models).filter(|metric| metric.name != GEMINI_COST) {
        metric.touch(Some(model));
    }
}

impl Metric {
    fn touch(&self, model: Option<&str>) {
        for labels in self.known_series(model) {
            match self.kind {
                Counter if FRACTIONS.contains(&self.name) => gauge!(self.name, labels).increment(0.0),
                Counter => counter!(self.name, labels).increment(0),
                Gauge => gauge!(self.name, labels).increment(0.0),
                Histogram(_) => drop(histogram!(self.name, labels)),
            }
        }
    }

    /// The labels of all its series; none when they are not known, or too many.
    fn known_series(&self, model: Option<&str>) -> Vec<Vec<Label>> {
        let of_one = match self.kind {
            Histogram(bounds) => bounds.len(),
            Counter | Gauge => 1,
        };
        let mut series = vec![Vec::new()];
        for (name, values) in self.labels {
            let values: Vec<Label> = match (values, model) {
                (Values::One(values), _) => values
                    .iter()
                    .map(|value| Label::from_static_parts(name, value))
                    .collect(),
                (Values::Model, Some(model)) => vec![Label::new(*name, model.to_owned())],
                (Values::Model | Values::Route | Values::Build, _) => return Vec::new(),
            };
            if series.len() * values.len() * of_one > TOUCHED {
                return Vec::new();
            }
            let with = |labels: &Vec<Label>, value: &Label| [labels.as_slice(), std::slice::from_ref(value)].concat();
            series = series
                .iter()
                .flat_map(|labels| values.iter().map(move |value| with(labels, value)))
                .collect();
        }
        series
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_their_kind_and_are_unique() {
        let mut seen = HashSet::new();
        for metric in ALL {
            assert!(seen.insert(metric.name), "{} twice", metric.name);
            let ours = metric.name.starts_with("kronos_") || metric.name.starts_with("process_");
            assert!(ours, "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                metric.kind == Counter,
                "{}",
                metric.name
            );
            let unit = metric.name.trim_end_matches("_total");
            assert_eq!(
                unit.ends_with("_seconds"),
                metric.unit == Unit::Seconds,
                "{}",
                metric.name
            );
            assert_eq!(unit.ends_with("_bytes"), metric.unit == Unit::Bytes, "{}", metric.name);
            assert!(metric.help.ends_with('.'), "{}", metric.name);
            assert!(
                metric.kind == Counter || !FRACTIONS.contains(&metric.name),
                "{}",
                metric.name
            );
            if let Histogram(bounds) = metric.kind {
                assert!(bounds.is_sorted_by(|a, b| a < b), "{}", metric.name);
            }
        }
    }
    #[test]
    fn the_series_of_closed_sets_are_known_beforehand() {
        let series = |name| {
            let metric = ALL.iter().find(|metric| metric.name == name);
            metric.expect("declared").known_series(None)
        };
        assert_eq!(series(SESSIONS_LIVE), [Vec::new()]);
        let commands = series(COMMANDS);
        let Values::One(ops) = OP else { panic!("not a list") };
        assert_eq!(commands.len(), ops.len() * 2);
        let label = |name, value| Label::from_static_parts(name, value);
        assert!(commands.contains(&vec![label("op", "send"), label("outcome", "error")]));
        assert_eq!(series(TOOL_DURATION).len(), 2);
        for open in [HTTP_REQUESTS, GEMINI_REQUESTS, BUILD_INFO, COMPOSIO_REQUESTS] {
            assert!(series(open).is_empty(), "{open}");
        }
    }
}
