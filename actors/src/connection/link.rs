//! What the three parts of one websocket share: the guard before the actor, the actor, and the body behind it.
//!
//! All three live in one task, and the [`watch`](super::watch) that looks at them from outside on the same thread, so plain
//! cells do. Nothing here decides anything about a conversation.
//!
//! **How far a peer has read** is known from its pongs. The kernel takes what is sent whether or not anybody reads it, and
//! tells of a slow reader only when a buffer of a hundred kilobytes has filled: too late to see one that takes a kilobyte a
//! second, which then looks dead for minutes. So a ping that carries its position goes out with every so many bytes (a
//! *mark*), and nothing more is pulled while too much is unread beyond the last mark that was answered. A peer that answers
//! no mark in time reads nothing.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::Stream;
use kronos_protocol::close::CloseCode;

use super::{body::HangUp, observe::Vitals};

/// Bytes that may be written in one turn (one poll by whoever writes) before further pulls wait for the next.
///
/// It polls when the socket took all of the last turn (the HTTP dispatcher: below 32 KiB to send), so a reader that stalls
/// has at most this much, one batch and what was in the mailbox waiting for it.
pub(super) const TURN_BYTES: usize = 64 * 1024;
/// Marks within what may be unread: a peer that reads a quarter of it shows that it reads.
const MARKS: u64 = 4;
/// Most bytes between two marks, however much may be unread: less than what the kernel takes for a peer that does not read.
const MARK_BYTES: u64 = 64 * 1024;
/// The slowest reader of large frames that counts as one, in bytes a millisecond: there is no mark within a frame, so one
/// that is larger than what may be unread takes its time.
const SLOWEST: u64 = 4;

/// The shared cells.
#[derive(Debug)]
pub(super) struct Link {
    /// Largest message in bytes, for now.
    limit: Cell<usize>,
    /// Frames that the guard has let pass, and those of them that the actor has handled.
    passed: Cell<u64>,
    handled: Cell<u64>,
    /// Anything came since the last look.
    heard: Cell<bool>,
    /// Why the guard lets nothing pass any more.
    violation: Cell<Option<CloseCode>>,
    /// Bytes left in this turn.
    budget: Cell<usize>,
    /// Pulls wait for the next turn; it has begun.
    deferred: Cell<bool>,
    resumed: Cell<bool>,
    /// Bytes that may be written beyond the last answered mark.
    unread_limit: u64,
    /// Bytes written so far; where the newest mark stands, and the newest one that was answered.
    written: Cell<u64>,
    marked: Cell<u64>,
    confirmed: Cell<u64>,
    /// Where the newest mark stands that is owed no answer.
    asked: Cell<u64>,
    /// Since when an answer to a mark is owed.
    owed_since: Cell<Option<Instant>>,
    /// A close frame is out, or the socket was cut.
    closed: Cell<bool>,
    hang_up: HangUp,
    /// What others may see of it.
    vitals: Arc<Vitals>,
}

impl Link {
    /// A link for messages of at most `limit` bytes, of which `unread` may be on their way to the peer.
    pub(super) fn new(limit: usize, unread: usize, hang_up: HangUp) -> Rc<Self> {
        Rc::new(Self {
            limit: Cell::new(limit),
            passed: Cell::new(0),
            handled: Cell::new(0),
            heard: Cell::new(true),
            violation: Cell::new(None),
            budget: Cell::new(TURN_BYTES),
            deferred: Cell::new(false),
            resumed: Cell::new(false),
            unread_limit: u64::try_from(unread).unwrap_or(u64::MAX),
            written: Cell::new(0),
            marked: Cell::new(0),
            confirmed: Cell::new(0),
            asked: Cell::new(0),
            owed_since: Cell::new(None),
            closed: Cell::new(false),
            hang_up,
            vitals: Arc::default(),
        })
    }

    /// What others may see of it.
    pub(super) fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.get()
    }

    pub(super) fn set_limit(&self, bytes: usize) {
        self.limit.set(bytes);
    }

    /// Notes bytes from the peer.
    pub(super) fn hear(&self) {
        self.heard.set(true);
    }

    /// Whether anything came since the last call.
    pub(super) fn take_heard(&self) -> bool {
        self.heard.replace(false)
    }

    pub(super) fn pass(&self, frames: u64) {
        self.passed.set(self.passed.get().saturating_add(frames));
    }

    pub(super) fn handle(&self) {
        self.handled.set(self.handled.get().saturating_add(1));
    }

    /// Whether the actor has seen every frame that the guard let pass.
    pub(super) fn idle(&self) -> bool {
        self.passed == self.handled
    }

    pub(super) fn violate(&self, code: CloseCode) {
        self.violation.set(Some(code));
    }

    /// Whether a violation waits for the actor.
    pub(super) fn is_violated(&self) -> bool {
        self.violation.get().is_some()
    }

    /// Begins a turn: there is room to write.
    pub(super) fn begin_turn(&self) {
        self.budget.set(TURN_BYTES);
        if self.deferred.replace(false) {
            self.resumed.set(true);
        }
    }

    /// Notes bytes written in this turn; returns the mark to send behind them when one is due.
    pub(super) fn spend(&self, bytes: usize, now: impl FnOnce() -> Instant) -> Option<[u8; 8]> {
        self.budget.set(self.budget.get().saturating_sub(bytes));
        let written = self
            .written
            .get()
            .saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
        self.written.set(written);
        self.vitals.went(written);
        if written.saturating_sub(self.marked.get()) < MARK_BYTES.min(self.unread_limit / MARKS) {
            return None;
        }
        self.marked.set(written);
        if self.owed_since.get().is_none() {
            self.owed_since.set(Some(now()));
        }
        Some(written.to_be_bytes())
    }

    /// Takes the answer to a ping; whether it was one to a mark.
    pub(super) fn confirm(&self, pong: &[u8], now: impl FnOnce() -> Instant) -> bool {
        let Ok(position) = pong.try_into().map(u64::from_be_bytes) else {
            return false;
        };
        if position <= self.confirmed.get() || position > self.marked.get().max(self.asked.get()) {
            return false;
        }
        self.confirmed.set(position);
        self.vitals.confirmed(position);
        self.owed_since.set((position < self.marked.get()).then(now));
        true
    }

    /// A mark behind everything that was written, for whoever wants to know when it was read: nothing follows when it is not
    /// answered. The mark is `None` where one stands already; its place is what [`Link::confirmed`] will have reached.
    pub(super) fn ask(&self) -> (u64, Option<[u8; 8]>) {
        let written = self.written.get();
        self.asked.set(written);
        (written, (self.marked.get() != written).then(|| written.to_be_bytes()))
    }

    /// Bytes that the peer has read, as far as its answers tell.
    pub(super) fn confirmed(&self) -> u64 {
        self.confirmed.get()
    }

    /// Bytes written since the last mark that was answered.
    fn unread(&self) -> u64 {
        self.written.get().saturating_sub(self.confirmed.get())
    }

    /// Whether the peer owes an answer to a mark for longer than `limit`, and than its own size excuses.
    pub(super) fn reads_nothing(&self, now: Instant, limit: Duration) -> bool {
        let beyond = self.unread().saturating_sub(self.unread_limit.saturating_mul(2));
        let limit = limit.saturating_add(Duration::from_millis(beyond / SLOWEST));
        self.owed_since
            .get()
            .is_some_and(|since| now.saturating_duration_since(since) >= limit)
    }

    /// Notes that the end is said or made; whether it was not before.
    pub(super) fn close(&self) -> bool {
        !self.closed.replace(true)
    }

    /// The handle that ends the socket.
    pub(super) fn hang_up(&self) -> &HangUp {
        &self.hang_up
    }

    /// Whether there is room for one more batch. If not, [`Signal::Resume`] comes with the next turn, or a mark is owed.
    pub(super) fn has_room(&self) -> bool {
        if self.unread() >= self.unread_limit {
            return false;
        }
        let room = self.budget.get() > 0;
        if !room {
            self.deferred.set(true);
        }
        room
    }
}

/// What the actor learns from its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// The peer broke the websocket protocol after the frames handled so far.
    Violation(CloseCode),
    /// There is room again for what waited.
    Resume,
}

/// The signals as a stream in the actor's context, which polls it every time it is polled itself.
pub(super) struct Signals(pub(super) Rc<Link>);

impl Stream for Signals {
    type Item = Signal;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Signal>> {
        if self.0.resumed.replace(false) {
            return Poll::Ready(Some(Signal::Resume));
        }
        if self.0.idle()
            && let Some(code) = self.0.violation.take()
        {
            return Poll::Ready(Some(Signal::Violation(code)));
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::clock::Clock;

    fn link() -> Rc<Link> {
        Link::new(1, 1 << 30, HangUp::default())
    }

    #[test]
    fn pulls_beyond_a_turn_wait_for_the_next() {
        let link = link();
        let mut signals = Signals(link.clone());
        let now = || Clock::default().instant();
        assert_eq!(link.spend(TURN_BYTES - 1, now), None);
        assert!(link.has_room());
        assert!(link.spend(2, now).is_some(), "a mark is due however much may be unread");
        assert!(!link.has_room());
        assert_eq!(signals.next().now_or_never(), None);
        link.begin_turn();
        assert_eq!(signals.next().now_or_never(), Some(Some(Signal::Resume)));
        assert!(link.has_room());
        link.begin_turn();
        assert_eq!(signals.next().now_or_never(), None, "nothing waits");
    }

    #[test]
    fn a_violation_comes_after_the_frames_before_it() {
        let link = link();
        let mut signals = Signals(link.clone());
        link.pass(1);
        link.violate(CloseCode::Protocol);
        assert_eq!(signals.next().now_or_never(), None);
        link.handle();
        assert_eq!(
            signals.next().now_or_never(),
            Some(Some(Signal::Violation(CloseCode::Protocol)))
        );
        assert_eq!(signals.next().now_or_never(), None, "once");
    }

    #[test]
    fn marks_come_with_every_quarter_and_what_is_unread_has_its_bound() {
        let (link, now) = (Link::new(1, 400, HangUp::default()), Clock::default().instant());
        let mark = |bytes| link.spend(bytes, || now).map(u64::from_be_bytes);
        assert_eq!(
            [mark(99), mark(1), mark(99), mark(150)],
            [None, Some(100), None, Some(349)]
        );
        assert_eq!([mark(50), mark(0)], [None, None]);
        assert!(link.has_room(), "399 of 400");
        assert_eq!(mark(1), None);
        assert!(!link.has_room(), "400 of 400");
        for wrong in [&b""[..], b"pong", &350_u64.to_be_bytes(), &0_u64.to_be_bytes()] {
            assert!(!link.confirm(wrong, || now));
        }
        assert!(link.confirm(&100_u64.to_be_bytes(), || now));
        assert!(link.has_room(), "300 of 400");
        assert!(link.confirm(&349_u64.to_be_bytes(), || now));
        assert!(!link.confirm(&349_u64.to_be_bytes(), || now), "once");
    }

    #[test]
    fn a_mark_that_is_asked_for_tells_what_was_read_and_is_owed_no_answer() {
        let (link, now) = (Link::new(1, 400, HangUp::default()), Clock::default().instant());
        assert_eq!(link.spend(60, || now), None);
        assert_eq!(link.ask(), (60, Some(60_u64.to_be_bytes())));
        assert!(!link.reads_nothing(now + Duration::from_secs(3600), Duration::from_secs(30)));
        assert!(!link.confirm(&61_u64.to_be_bytes(), || now), "nobody was asked there");
        assert!(link.confirm(&60_u64.to_be_bytes(), || now) && link.confirmed() == 60);
        assert_eq!(link.spend(40, || now), Some(100_u64.to_be_bytes()));
        assert_eq!(link.ask(), (100, None), "there is one");
        assert!(link.confirm(&100_u64.to_be_bytes(), || now) && link.confirmed() == 100);
    }

    #[test]
    fn who_answers_no_mark_in_time_reads_nothing() {
        let (link, start) = (Link::new(1, 400, HangUp::default()), Clock::default().instant());
        let (limit, after) = (Duration::from_secs(30), |seconds| start + Duration::from_secs(seconds));
        let silent = |seconds| link.reads_nothing(after(seconds), limit);
        assert!(!silent(3600), "nothing was sent");
        assert!(link.spend(100, || start).is_some() && link.spend(100, || after(9)).is_some());
        assert_eq!([silent(29), silent(30)], [false, true], "the first mark counts");
        assert!(link.confirm(&100_u64.to_be_bytes(), || after(29)));
        assert_eq!(
            [silent(58), silent(59)],
            [false, true],
            "it reads on: the next one counts from here"
        );
        assert!(link.confirm(&200_u64.to_be_bytes(), || after(58)));
        assert!(!silent(3600), "it owes nothing");
        assert!(link.spend(40_800, || after(100)).is_some());
        assert_eq!(
            [silent(139), silent(140)],
            [false, true],
            "ten seconds more for a large frame"
        );
    }
}
