//! What the three parts of one websocket share: the guard before the actor, the actor, and the body behind it.
//!
//! All three live in one task, so plain cells do. Nothing here decides anything about a conversation.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use futures_util::Stream;
use kronos_protocol::close::CloseCode;

/// Bytes that may be written in one turn (one poll by the HTTP dispatcher) before further pulls wait for the next.
///
/// The dispatcher polls only while it has less than 32 KiB to send, so a reader that stalls has at most this much, one
/// batch and what was in the mailbox waiting for it.
pub(super) const TURN_BYTES: usize = 64 * 1024;

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
}

impl Link {
    pub(super) fn new(limit: usize) -> Rc<Self> {
        Rc::new(Self {
            limit: Cell::new(limit),
            passed: Cell::new(0),
            handled: Cell::new(0),
            heard: Cell::new(true),
            violation: Cell::new(None),
            budget: Cell::new(TURN_BYTES),
            deferred: Cell::new(false),
            resumed: Cell::new(false),
        })
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

    /// Begins a turn: the dispatcher has room.
    pub(super) fn begin_turn(&self) {
        self.budget.set(TURN_BYTES);
        if self.deferred.replace(false) {
            self.resumed.set(true);
        }
    }

    /// Notes bytes written in this turn.
    pub(super) fn spend(&self, bytes: usize) {
        self.budget.set(self.budget.get().saturating_sub(bytes));
    }

    /// Whether this turn has room for one more batch; if not, [`Signal::Resume`] comes with the next one.
    pub(super) fn has_room(&self) -> bool {
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

    #[test]
    fn pulls_beyond_a_turn_wait_for_the_next() {
        let link = Link::new(1);
        let mut signals = Signals(link.clone());
        link.spend(TURN_BYTES - 1);
        assert!(link.has_room());
        link.spend(2);
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
        let link = Link::new(1);
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
}
