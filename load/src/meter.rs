//! What is measured while a load runs: latencies, counts, errors, broken promises.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Declares a closed set of names, with what each is for people.
macro_rules! names {
    ($(#[doc = $about:literal])* $name:ident { $( #[doc = $doc:literal] $variant:ident = $text:literal ),* $(,)? }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

            /// The one of that name.
            pub(crate) fn named(name: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|one| one.name() == name)
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

/// A number that goes up and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Users that are at it.
    Users,
    /// Open websockets.
    Sockets,
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
    /// Nothing yet.
    pub(crate) fn new() -> Self {
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
    /// How late the load tester's own timers were.
    pub(crate) lag: Lag,
}

impl Measured {
    /// Adds what was measured in another span.
    pub(crate) fn add(&mut self, other: &Self) {
        for (latency, pair) in &other.latencies {
            let sum = self.latencies.entry(*latency).or_insert_with(Pair::new);
            // Both have the same bounds: nothing can be too large.
            sum.corrected.add(&pair.corrected).ok();
            sum.raw.add(&pair.raw).ok();
        }
        for (count, by) in &other.counts {
            *self.counts.entry(*count).or_default() += by;
        }
        for (code, by) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += by;
        }
        for (check, by) in &other.broken {
            *self.broken.entry(check).or_default() += by;
        }
        self.lag.add(&other.lag);
    }

    /// Returns a count.
    pub(crate) fn counted(&self, count: Count) -> u64 {
        self.counts.get(&count).copied().unwrap_or_default()
    }
}

/// How late timers fired: above some milliseconds the load tester itself is what is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Lag {
    /// How many fired.
    pub(crate) timers: u64,
    /// By how much all of them together were late.
    pub(crate) sum: Duration,
    /// By how much the worst one was.
    pub(crate) worst: Duration,
}

impl Lag {
    fn add(&mut self, other: &Self) {
        self.timers += other.timers;
        self.sum = self.sum.saturating_add(other.sum);
        self.worst = self.worst.max(other.worst);
    }

    /// Returns by how much they were late on average; zero without timers.
    pub(crate) fn mean(&self) -> Duration {
        let timers = u32::try_from(self.timers).unwrap_or(u32::MAX);
        self.sum.checked_div(timers).unwrap_or_default()
    }
}

/// What a server says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Server {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: String,
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
    /// Codes of errors so far: the server names them, so there is a bound.
    codes: BTreeSet<String>,
    server: Option<Server>,
    interrupted: bool,
}

/// Broken promises that are kept whole; all are counted.
const KEPT: usize = 100;
/// Codes of errors that are told apart; further ones are counted as [`OTHER`].
const CODES: usize = 64;
/// The code of errors whose own is one too many.
const OTHER: &str = "other";

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
        if let Some(count) = inner.now.errors.get_mut(code) {
            *count += 1;
            return;
        }
        let known = inner.codes.contains(code) || inner.codes.len() < CODES;
        let code = if known { code } else { OTHER };
        inner.codes.insert(code.to_owned());
        *inner.now.errors.entry(code.to_owned()).or_default() += 1;
    }

    /// Takes note of how late a timer of the load tester fired.
    pub(crate) fn lag(&self, late: Duration) {
        let one = Lag {
            timers: 1,
            sum: late,
            worst: late,
        };
        self.inner().now.lag.add(&one);
    }

    /// Takes note of what the server says it is.
    pub(crate) fn server(&self, name: &str, version: &str) {
        let mut inner = self.inner();
        if inner.server.is_none() {
            inner.server = Some(Server {
                name: name.to_owned(),
                version: version.to_owned(),
            });
        }
    }

    /// Returns what the server said it is.
    pub(crate) fn who(&self) -> Option<Server> {
        self.inner().server.clone()
    }

    /// Takes note that somebody ended the load early.
    pub(crate) fn interrupt(&self) {
        self.inner().interrupted = true;
    }

    /// Says whether somebody ended the load early.
    pub(crate) fn interrupted(&self) -> bool {
        self.inner().interrupted
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

    /// Says whether something was counted that nobody has taken.
    #[cfg(test)]
    pub(crate) fn is_counted(&self, count: Count) -> bool {
        self.inner().now.counted(count) > 0
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_of_a_latency() {
        let meter = Meter::default();
        let (corrected, raw) = (Duration::from_millis(30), Duration::from_millis(10));
        meter.span(Latency::Ack, corrected, raw);
        let taken = meter.take();
        let pair = &taken.latencies[&Latency::Ack];
        assert_eq!(pair.corrected.max() / 100, 300);
        assert_eq!(pair.raw.max() / 100, 100);
        assert!(meter.take().latencies.is_empty(), "it was taken");
    }

    #[test]
    fn too_long_and_too_short_ones_are_counted() {
        let meter = Meter::default();
        meter.span(Latency::Connect, Duration::MAX, Duration::ZERO);
        let taken = meter.take();
        let pair = &taken.latencies[&Latency::Connect];
        assert_eq!((pair.corrected.len(), pair.raw.len()), (1, 1));
        assert_eq!(pair.raw.max(), 1);
        assert!(pair.corrected.max() >= LONGEST);
    }

    #[test]
    fn a_sum_of_spans_has_everything() {
        let meter = Meter::default();
        let mut sum = Measured::default();
        for late in [5, 15] {
            meter.span(Latency::Ack, Duration::from_millis(1), Duration::from_millis(1));
            meter.count(Count::Events, 3);
            meter.error("busy");
            meter.lag(Duration::from_millis(late));
            sum.add(&meter.take());
        }
        assert_eq!(sum.latencies[&Latency::Ack].corrected.len(), 2);
        assert_eq!(sum.counted(Count::Events), 6);
        assert_eq!(sum.errors["busy"], 2);
        assert_eq!(sum.lag.worst, Duration::from_millis(15));
        assert_eq!(sum.lag.mean(), Duration::from_millis(10));
    }

    #[test]
    fn a_server_cannot_invent_codes_without_end() {
        let meter = Meter::default();
        for code in 0..CODES + 10 {
            meter.error(&format!("code{code}"));
        }
        let errors = meter.take().errors;
        assert_eq!(errors.len(), CODES + 1);
        assert_eq!(errors[OTHER], 10);
        meter.error("code0");
        meter.error("new");
        let errors = meter.take().errors;
        assert_eq!((errors["code0"], errors[OTHER]), (1, 1), "also in the next span");
    }

    #[test]
    fn names_are_those_of_files() {
        for latency in Latency::ALL {
            assert_eq!(serde_json::to_value(latency).unwrap(), latency.name());
            assert_eq!(Latency::named(latency.name()), Some(*latency));
        }
        for count in Count::ALL {
            assert_eq!(serde_json::to_value(count).unwrap(), count.name());
        }
    }
}
