//! The flight recorder: where the time of each of the last runs went.
//!
//! A [`Timeline`] is made when a run begins and travels with what is done for it: everybody adds to cells of fixed size, and
//! nothing is kept for each delta. The recorder holds the newest; the oldest goes first. Nothing of what was said is in it.
//!
//! The cells of a phase belong to the core of the run's session, which alone writes them, except those that websockets write
//! (`Timeline::wrote` and what follows it).

use std::{
    array,
    collections::VecDeque,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kronos_protocol::{
    event::TokenUsage,
    ids::{RunId, SessionId},
};
use metrics::gauge;

use crate::{clock::Millis, metrics as names};

mod report;

pub use report::{CallReport, Gaps, MomentReport, PhaseReport, Tokens, TurnReport, TurnSummary};

/// Calls of tools that a timeline names; of more it counts the time.
const CALLS: usize = 16;
/// Characters of a tool's name that it keeps.
const NAME_CHARS: usize = 64;
/// Gaps between texts are counted by powers of two, in milliseconds.
const GAPS: usize = 20;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident: $count:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name {
            $($(#[$about])* $variant,)+
        }

        impl $name {
            const ALL: &'static [Self] = &[$(Self::$variant,)+];

            const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }

        const $count: usize = $name::ALL.len();
    };
}

words! {
    /// What time is spent on.
    Phase: PHASES {
        /// The message waited behind another run, before this one began.
        Queue = "queue",
        /// Messages of the run waited in the session's mailbox.
        Mailbox = "mailbox",
        /// The session decided.
        Decide = "decide",
        /// Commits with something of the run in them, from the hand-over to the store until they were durable.
        Commit = "commit",
        /// Text was durable and not written: each time that was measured, on each device.
        Write = "write",
        /// The tools were asked for.
        Offer = "offer",
        /// The conversation was summed up.
        Summary = "summary",
        /// The model's service had no permit.
        Permit = "permit",
        /// Requests to the model until the first byte of their answer, or until they failed.
        Request = "request",
        /// More of an answer was waited for.
        Upstream = "upstream",
        /// Chunks were read.
        Parse = "parse",
        /// Pauses between attempts.
        Pause = "pause",
        /// Calls waited until their intents were durable.
        Intents = "intents",
        /// Calls of tools, and links, were waited for: at least one.
        Tools = "tools",
    }
}

impl Phase {
    /// Whether the run does nothing else meanwhile: such phases add up.
    const fn is_exclusive(self) -> bool {
        match self {
            Self::Queue | Self::Mailbox | Self::Decide | Self::Commit | Self::Write => false,
            Self::Offer
            | Self::Summary
            | Self::Permit
            | Self::Request
            | Self::Upstream
            | Self::Parse
            | Self::Pause
            | Self::Intents
            | Self::Tools => true,
        }
    }
}

words! {
    /// What a timeline notes the time of.
    Moment: MOMENTS {
        /// The first request left for the model.
        Request = "request",
        /// The first byte of an answer came.
        FirstByte = "first_byte",
        /// Readers may see text.
        FirstToken = "first_token",
        /// The first device was written it.
        FirstTokenWritten = "first_token_written",
        /// Readers may see the last text.
        LastToken = "last_token",
        /// The end was decided.
        End = "end",
        /// It is durable.
        EndDurable = "end_durable",
        /// It was written to the last device that was attached.
        EndWritten = "end_written",
        /// The last device has answered the ping behind it.
        Acked = "acked",
    }
}

#[derive(Debug, Default)]
struct Spent {
    nanos: AtomicU64,
    longest: AtomicU64,
    count: AtomicU32,
}

/// Adds to a cell that nobody else writes.
fn grow(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).saturating_add(by), Ordering::Relaxed);
}

fn count(cell: &AtomicU32) {
    cell.store(cell.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Spent {
    fn add(&self, time: Duration) {
        let time = nanos(time);
        grow(&self.nanos, time);
        if time > self.longest.load(Ordering::Relaxed) {
            self.longest.store(time, Ordering::Relaxed);
        }
        count(&self.count);
    }

    /// The same from several threads.
    fn add_shared(&self, time: Duration) {
        let time = nanos(time);
        self.nanos.fetch_add(time, Ordering::Relaxed);
        self.longest.fetch_max(time, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
struct End {
    outcome: &'static str,
    code: Option<&'static str>,
    tokens: Tokens,
}

/// A call of a tool.
#[derive(Debug)]
struct Call {
    id: String,
    tool: Box<str>,
    began: u64,
    ended: Option<(u64, &'static str)>,
}

/// What is written rarely.
#[derive(Debug, Default)]
struct Words {
    model: Option<Box<str>>,
    calls: Vec<Call>,
}

/// Where the time of one run goes.
#[derive(Debug)]
pub struct Timeline {
    run: RunId,
    session: SessionId,
    attempt: u32,
    started: Instant,
    started_ms: Millis,
    phases: [Spent; PHASES],
    /// Microseconds since the start, and one: 0 is never.
    moments: [AtomicU64; MOMENTS],
    gaps: [AtomicU32; GAPS],
    longest_gap: AtomicU64,
    deltas: AtomicU32,
    generations: AtomicU32,
    attempts: AtomicU32,
    retries: AtomicU32,
    /// Devices that were written the end, and those of them that have answered.
    written: AtomicU32,
    acked: AtomicU32,
    end: OnceLock<End>,
    words: Mutex<Words>,
}

impl Timeline {
    fn words(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn micros(&self, at: Instant) -> u64 {
        let since = at.saturating_duration_since(self.started);
        u64::try_from(since.as_micros()).unwrap_or(u64::MAX - 1)
    }

    /// Time was spent.
    pub(crate) fn add(&self, phase: Phase, time: Duration) {
        self.phases[phase as usize].add(time);
    }

    /// Notes when something happened first.
    pub(crate) fn first(&self, moment: Moment, at: Instant) {
        let cell = &self.moments[moment as usize];
        if cell.load(Ordering::Relaxed) == 0 {
            // Of two threads either was first.
            cell.store(self.micros(at) + 1, Ordering::Relaxed);
        }
    }

    /// Notes when something happened last.
    fn last(&self, moment: Moment, at: Instant) {
        self.moments[moment as usize].fetch_max(self.micros(at) + 1, Ordering::Relaxed);
    }

    /// Readers may see more text; `gap` after the last one of the same answer.
    pub(crate) fn shown(&self, at: Instant, gap: Option<Duration>) {
        self.first(Moment::FirstToken, at);
        self.moments[Moment::LastToken as usize].store(self.micros(at) + 1, Ordering::Relaxed);
        if let Some(gap) = gap {
            let millis = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
            let bucket = usize::try_from(u64::BITS - millis.leading_zeros()).unwrap_or(GAPS);
            count(&self.gaps[bucket.min(GAPS - 1)]);
            let gap = nanos(gap);
            if gap > self.longest_gap.load(Ordering::Relaxed) {
                self.longest_gap.store(gap, Ordering::Relaxed);
            }
        }
    }

    /// A text of the model's was taken.
    pub(crate) fn delta(&self) {
        count(&self.deltas);
    }

    /// The model is asked.
    pub(crate) fn asked(&self, model: &str) {
        count(&self.generations);
        let mut words = self.words();
        if words.model.as_deref() != Some(model) {
            words.model = Some(cut(model));
        }
    }

    /// A request leaves.
    pub(crate) fn attempted(&self, at: Instant) {
        count(&self.attempts);
        self.first(Moment::Request, at);
    }

    /// Another one will follow.
    pub(crate) fn retried(&self) {
        count(&self.retries);
    }

    /// A call leaves.
    pub(crate) fn call_began(&self, id: &str, tool: &str, at: Instant) {
        let mut words = self.words();
        if words.calls.len() < CALLS {
            words.calls.push(Call {
                id: id.to_owned(),
                tool: cut(tool),
                began: self.micros(at),
                ended: None,
            });
        }
    }

    /// A call is over.
    pub(crate) fn call_ended(&self, id: &str, outcome: &'static str, at: Instant) {
        let ended = self.micros(at);
        let mut words = self.words();
        let mut open = words.calls.iter_mut().filter(|call| call.ended.is_none());
        if let Some(call) = open.find(|call| call.id == id) {
            call.ended = Some((ended, outcome));
        }
    }

    /// The end is decided.
    pub(crate) fn ended(
        &self,
        (outcome, code): (&'static str, Option<&'static str>),
        usage: Option<&Vec<TokenUsage>>,
        at: Instant,
    ) {
        self.first(Moment::End, at);
        let end = End {
            outcome,
            code,
            tokens: Tokens::of(usage.map(Vec::as_slice).unwrap_or_default()),
        };
        // A run ends once.
        self.end.get_or_init(|| end);
    }

    /// Text was written to a websocket, so long after readers might see it.
    pub(crate) fn wrote(&self, after: Duration) {
        self.phases[Phase::Write as usize].add_shared(after);
    }

    /// The first text was written to a websocket.
    pub(crate) fn wrote_first(&self, at: Instant) {
        self.first(Moment::FirstTokenWritten, at);
    }

    /// The end was written to a websocket.
    pub(crate) fn wrote_end(&self, at: Instant) {
        self.last(Moment::EndWritten, at);
        self.written.fetch_add(1, Ordering::Relaxed);
    }

    /// Its client has read the end.
    pub(crate) fn acked(&self, at: Instant) {
        self.last(Moment::Acked, at);
        self.acked.fetch_add(1, Ordering::Relaxed);
    }
}

fn cut(text: &str) -> Box<str> {
    text.chars().take(NAME_CHARS).collect::<String>().into()
}

/// The newest timelines of a process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Flight(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    size: usize,
    turns: Mutex<VecDeque<Arc<Timeline>>>,
}

/// What a run is, when it begins.
pub(crate) struct Begun<'a> {
    pub(crate) run: &'a RunId,
    pub(crate) session: &'a SessionId,
    /// The number of the attempt at its turn.
    pub(crate) attempt: u32,
    pub(crate) at: Instant,
    pub(crate) at_ms: Millis,
}

impl Flight {
    /// A recorder of `size` runs; 0: none, and nothing is measured for it.
    #[must_use]
    pub fn new(size: usize) -> Self {
        gauge!(names::TURNS_RECORDED).set(0.0);
        Self(Arc::new(Inner {
            size,
            turns: Mutex::default(),
        }))
    }

    /// Whether anything is recorded.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.size > 0
    }

    fn turns(&self) -> MutexGuard<'_, VecDeque<Arc<Timeline>>> {
        self.0.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A run begins. The oldest gives way when there are as many as may be.
    pub(crate) fn begin(&self, begun: &Begun<'_>) -> Option<Arc<Timeline>> {
        if !self.is_on() {
            return None;
        }
        let timeline = Arc::new(Timeline {
            run: begun.run.clone(),
            session: begun.session.clone(),
            attempt: begun.attempt,
            started: begun.at,
            started_ms: begun.at_ms,
            phases: array::from_fn(|_| Spent::default()),
            moments: array::from_fn(|_| AtomicU64::new(0)),
            gaps: array::from_fn(|_| AtomicU32::new(0)),
            longest_gap: AtomicU64::new(0),
            deltas: AtomicU32::new(0),
            generations: AtomicU32::new(0),
            attempts: AtomicU32::new(0),
            retries: AtomicU32::new(0),
            written: AtomicU32::new(0),
            acked: AtomicU32::new(0),
            end: OnceLock::new(),
            words: Mutex::default(),
        });
        let mut turns = self.turns();
        let oldest = (turns.len() >= self.0.size).then(|| turns.pop_front());
        turns.push_back(Arc::clone(&timeline));
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        gauge!(names::TURNS_RECORDED).set(turns.len() as f64);
        drop(turns);
        drop(oldest);
        Some(timeline)
    }

    /// The timeline of a run, if it is held.
    #[must_use]
    pub fn of(&self, run: &RunId) -> Option<Arc<Timeline>> {
        self.turns().iter().rev().find(|turn| turn.run == *run).cloned()
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Timeline>> {
        self.turns().iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests;
