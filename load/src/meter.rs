//! What is measured while a load runs: latencies, counts, errors, broken promises.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Declares a closed set of names, with what each is for people.
macro_rules! names {
    ($(#[doc = $about:literal])* $name:ident { $( #[doc = $doc:literal] $variant:ident = $text:literal ),* $(,)? }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub(crate) enum $name { $( #[doc = $doc] $variant ),* }

        impl $name {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name in thresholds, files and metrics.
            pub(crate) const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// What it is, for people.
            pub(crate) const fn about(self) -> &'static str {
                match self { $(Self::$variant => $doc.trim_ascii()),* }
            }
        }
    };
}

names! {
    /// A latency.
    Latency {
        /// From the intended connection to the end of the websocket's handshake
        Connect = "connect",
        /// From the websocket to everything that there was of the session, for the first time
        Attach = "attach",
        /// From a command to its reply
        Ack = "ack",
        /// From a message, or the end of the run before it, to the first delta of its answer
        FirstToken = "first_token",
        /// Between two deltas of an answer on one device
        TokenGap = "token_gap",
        /// From the stamp that the simulator wrote into a delta to its arrival
        Delivery = "delivery",
        /// From a cancel to the last event of the run
        CancelToSilence = "cancel_to_silence",
        /// From the return after a cut to everything that was missed
        Resume = "resume",
        /// From the answer to a question to the next event of its session
        Approval = "approval",
    }
}

names! {
    /// A count.
    Count {
        /// Users that the schedule wanted to begin
        Offered = "offered",
        /// Users that began
        Started = "started",
        /// Users that came to the end of what they do
        Completed = "completed",
        /// Commands that were sent
        Commands = "commands",
        /// Messages that were sent
        Sends = "sends",
        /// Events that arrived, merged ones counted for all of them
        Events = "events",
        /// Deltas of texts that arrived, merged ones counted for all of them
        Deltas = "deltas",
        /// Runs that ended
        Runs = "runs",
        /// Bytes of frames that arrived
        BytesIn = "bytes_in",
        /// Bytes of frames that were sent
        BytesOut = "bytes_out",
        /// Connections that were cut on purpose
        Cuts = "cuts",
        /// Joins after a cut, and after connections that the server ended
        Resumes = "resumes",
    }
}

names! {
    /// A number that goes up and down.
    Level {
        /// Users that are at it
        Users = "users",
        /// Open websockets
        Sockets = "sockets",
    }
}

/// A latency, both ways: from when it was intended to begin, and from when it did.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// From the intended start: what a user feels when the load tester or the server is late (no coordinated omission).
    pub(crate) corrected: Histogram<u64>,
    /// From the actual start.
    pub(crate) raw: Histogram<u64>,
}

/// Largest latency that is told apart, in microseconds: ten minutes. Longer ones count as it.
const LONGEST: u64 = 600_000_000;

impl Pair {
    fn new() -> Self {
        let histogram = || {
            let histogram = Histogram::new_with_bounds(1, LONGEST, 3);
            histogram.unwrap_or_else(|_| Histogram::new(3).unwrap_or_else(|_| unreachable!("3 digits are allowed")))
        };
        Self {
            corrected: histogram(),
            raw: histogram(),
        }
    }
}

/// What was measured in some span of time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// By latency, in microseconds.
    pub(crate) latencies: BTreeMap<Latency, Pair>,
    /// By count.
    pub(crate) counts: BTreeMap<Count, u64>,
    /// Refused commands and lost connections by code: an error code of the protocol, a close code, or `connect`, `timeout`, `io`.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Broken promises by check.
    pub(crate) broken: BTreeMap<&'static str, u64>,
}

/// A promise that was broken, with what shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Broken {
    /// The check: a stable name.
    pub(crate) check: &'static str,
    /// The session.
    pub(crate) session: String,
    /// The position at which it shows, if it has one.
    pub(crate) seq: Option<u64>,
    /// The device that saw it.
    pub(crate) device: String,
    /// The script that the user follows.
    pub(crate) script: String,
    /// What was expected and what came.
    pub(crate) what: String,
    /// The last frames that the client sent, oldest first, cut to a length.
    pub(crate) sent: Vec<String>,
    /// The last frames that it received.
    pub(crate) received: Vec<String>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Since the last [`Meter::take`].
    now: Measured,
    levels: BTreeMap<Level, i64>,
    broken: Vec<Broken>,
}

/// Broken promises that are kept whole; all are counted.
const KEPT: usize = 100;

/// Where everything is recorded. A handle: clones record into the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Mutex<Inner>>);

impl Meter {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records something that was to begin at `intended`, began at `began` and was done at `done`.
    pub(crate) fn latency(&self, latency: Latency, intended: Instant, began: Instant, done: Instant) {
        self.span(
            latency,
            done.saturating_duration_since(intended),
            done.saturating_duration_since(began),
        );
    }

    /// Records both spans of a latency.
    pub(crate) fn span(&self, latency: Latency, corrected: Duration, raw: Duration) {
        let mut inner = self.inner();
        let pair = inner.now.latencies.entry(latency).or_insert_with(Pair::new);
        pair.corrected.saturating_record(micros(corrected));
        pair.raw.saturating_record(micros(raw));
    }

    /// Counts.
    pub(crate) fn count(&self, count: Count, by: u64) {
        *self.inner().now.counts.entry(count).or_default() += by;
    }

    /// Counts an error.
    pub(crate) fn error(&self, code: &str) {
        let mut inner = self.inner();
        match inner.now.errors.get_mut(code) {
            Some(count) => *count += 1,
            None => drop(inner.now.errors.insert(code.to_owned(), 1)),
        }
    }

    /// Moves a level.
    pub(crate) fn level(&self, level: Level, by: i64) {
        *self.inner().levels.entry(level).or_default() += by;
    }

    /// Takes note of a broken promise.
    pub(crate) fn broken(&self, broken: Broken) {
        let mut inner = self.inner();
        *inner.now.broken.entry(broken.check).or_default() += 1;
        if inner.broken.len() < KEPT {
            inner.broken.push(broken);
        }
    }

    /// Returns what was measured since the last time.
    pub(crate) fn take(&self) -> Measured {
        std::mem::take(&mut self.inner().now)
    }

    /// Returns a level.
    pub(crate) fn at(&self, level: Level) -> i64 {
        self.inner().levels.get(&level).copied().unwrap_or_default()
    }

    /// Returns the first broken promises.
    pub(crate) fn violations(&self) -> Vec<Broken> {
        self.inner().broken.clone()
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(LONGEST).max(1)
}
