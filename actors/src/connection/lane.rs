//! One session as one connection sees it: the commands that wait for their reply, in order, and the cursor.
//!
//! Pure: says what is to be sent and what is to be answered next, sends and answers nothing. Generic over the reference
//! to the session, so that the order can be tested without one.

use std::collections::VecDeque;

use bytes::Bytes;
use kronos_protocol::{
    client::Op,
    ids::{EpochId, Ref, SessionId},
    position::{Cursor, Seq},
};

use crate::{
    session::message::{SessionCommand, SessionError, SessionReply},
    tally::Counted,
};

/// What a session made of a command.
pub(super) type Outcome = Result<SessionReply, SessionError>;

/// Who is waiting for an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    /// The client's command of this name and `ref`.
    Client {
        /// Its name.
        op: Op,
        /// What the client calls it.
        reference: Ref,
    },
    /// Nobody but the connection: the cursor of this attempt is set up again after its session went away.
    Recovery,
}

/// One command on its way.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) origin: Origin,
    /// Kept to be sent again, once: commands are idempotent. `None` for what the connection answered itself.
    pub(super) command: Option<SessionCommand>,
    state: Progress,
    resent: bool,
}

#[derive(Debug)]
enum Progress {
    /// Not sent, or to be sent again.
    Waiting,
    /// Sent to the session's incarnation of this number.
    Sent { slot: u64, incarnation: u64 },
    /// Answered, but not at the front yet.
    Done(Outcome),
}

impl Entry {
    /// An entry for the session.
    pub(super) fn new(origin: Origin, command: SessionCommand) -> Self {
        Self {
            origin,
            command: Some(command),
            state: Progress::Waiting,
            resent: false,
        }
    }

    /// An entry that only waits for its turn.
    pub(super) fn answered(origin: Origin, outcome: Outcome) -> Self {
        Self {
            origin,
            command: None,
            state: Progress::Done(outcome),
            resent: false,
        }
    }

    fn attach_number(&self) -> Option<u64> {
        match &self.command {
            Some(SessionCommand::Attach(attach)) => Some(attach.attachment.number),
            _ => None,
        }
    }
}

/// Where a cursor begins.
#[derive(Debug, Clone)]
pub(super) struct Start {
    pub(super) after: Option<Cursor>,
    pub(super) tail: Option<u32>,
}

/// A cursor on a session.
#[derive(Debug)]
pub(super) struct Attachment {
    pub(super) number: u64,
    /// The session as the client names it.
    pub(super) session: SessionId,
    pub(super) epoch: EpochId,
    /// The last event written.
    pub(super) seq: Seq,
    /// The newest event when it was attached.
    pub(super) head: Seq,
    /// The client was told that it has everything up to `head`.
    pub(super) caught_up: bool,
    /// From where the client asked, while nothing was delivered; then the last event written.
    pub(super) resume: Start,
    /// Set while the session is being looked for again: how often that failed.
    pub(super) recovering: Option<u32>,
    /// A pull waits for room to write.
    pub(super) starved: bool,
    /// Its session has left memory; the cursor is set up again before anything else is asked of it.
    pub(super) asleep: bool,
    pub(super) _counted: Counted,
}

/// What a session said to a cursor before the client was told that it stands.
#[derive(Debug, Default)]
pub(super) struct Early {
    pub(super) number: u64,
    pub(super) presence: Option<Bytes>,
    pub(super) ended: Option<SessionError>,
}

/// The lane of one session.
#[derive(Debug)]
pub(super) struct Lane<R> {
    target: Option<R>,
    /// Counts the references that were found; a reply of an older one may still be under way.
    incarnation: u64,
    pub(super) resolving: bool,
    entries: VecDeque<Entry>,
    pub(super) attachment: Option<Attachment>,
    pub(super) early: Option<Early>,
}

impl<R> Default for Lane<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> Lane<R> {
    pub(super) fn new() -> Self {
        Self {
            target: None,
            incarnation: 0,
            resolving: false,
            entries: VecDeque::new(),
            attachment: None,
            early: None,
        }
    }

    pub(super) fn target(&self) -> Option<&R> {
        self.target.as_ref()
    }

    /// Takes the reference that the directory found.
    pub(super) fn found(&mut self, target: R) {
        self.target = Some(target);
        self.incarnation += 1;
        self.resolving = false;
    }

    /// Forgets a reference that leads nowhere.
    pub(super) fn lost(&mut self) {
        self.target = None;
    }

    /// Whether nothing keeps the lane.
    pub(super) fn is_idle(&self) -> bool {
        self.entries.is_empty() && self.attachment.is_none() && !self.resolving
    }

    /// Whether there is or will be a cursor, as far as commands tell.
    pub(super) fn is_attached(&self) -> bool {
        self.newest_number().is_some()
    }

    /// Number of the newest cursor: one that stands, or one asked for.
    pub(super) fn newest_number(&self) -> Option<u64> {
        let asked = self.entries.iter().rev().find_map(Entry::attach_number);
        asked.or(self.attachment.as_ref().map(|attachment| attachment.number))
    }

    /// Whether the newest cursor is about to be taken down.
    pub(super) fn is_leaving(&self) -> bool {
        let last = self.entries.iter().rev().find_map(|entry| match &entry.command {
            Some(SessionCommand::Detach { .. }) => Some(true),
            Some(SessionCommand::Attach(_)) => Some(false),
            _ => None,
        });
        last.unwrap_or(false)
    }

    /// All cursors that the session may know of.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u64> {
        let standing = self.attachment.as_ref().map(|attachment| attachment.number);
        self.entries.iter().filter_map(Entry::attach_number).chain(standing)
    }

    pub(super) fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    /// Whether something is to be sent, now or once the session was found.
    pub(super) fn wants_target(&self) -> bool {
        self.entries
            .iter()
            .any(|entry| matches!(entry.state, Progress::Waiting))
    }

    /// Returns the command to send next to the present target.
    ///
    /// Nothing is sent while an older incarnation still owes an answer: that command may have to be sent again, and
    /// must not be overtaken.
    pub(super) fn next_to_send(&self) -> Option<&SessionCommand> {
        for entry in &self.entries {
            match entry.state {
                Progress::Waiting => return entry.command.as_ref(),
                Progress::Sent { incarnation, .. } if incarnation != self.incarnation => return None,
                Progress::Sent { .. } | Progress::Done(_) => {}
            }
        }
        None
    }

    fn first_waiting(&mut self) -> Option<&mut Entry> {
        self.entries
            .iter_mut()
            .find(|entry| matches!(entry.state, Progress::Waiting))
    }

    /// Notes that the command of [`Self::next_to_send`] was taken.
    pub(super) fn sent(&mut self, slot: u64) {
        let incarnation = self.incarnation;
        if let Some(entry) = self.first_waiting() {
            entry.state = Progress::Sent { slot, incarnation };
        }
    }

    /// Notes that the command of [`Self::next_to_send`] was refused. A closed target is forgotten.
    pub(super) fn refused(&mut self, error: SessionError) {
        if error.closed {
            self.lost();
        }
        if let Some(entry) = self.first_waiting() {
            settle(entry, Err(error));
        }
    }

    /// Takes the answer to the command that was sent with `slot`.
    pub(super) fn answer(&mut self, slot: u64, outcome: Outcome) {
        let current = self.incarnation;
        let mut found = self.entries.iter_mut().filter_map(|entry| match entry.state {
            Progress::Sent {
                slot: sent,
                incarnation,
            } if sent == slot => Some((entry, incarnation)),
            _ => None,
        });
        let Some((entry, incarnation)) = found.next() else {
            return;
        };
        let closed = outcome.as_ref().is_err_and(|error| error.closed);
        settle(entry, outcome);
        if closed && incarnation == current {
            self.lost();
        }
    }

    /// Notes that the session cannot be found: what waits for it is answered with that.
    pub(super) fn unreachable(&mut self, error: &SessionError) {
        self.resolving = false;
        for entry in self
            .entries
            .iter_mut()
            .filter(|entry| matches!(entry.state, Progress::Waiting))
        {
            entry.state = Progress::Done(Err(error.clone()));
        }
    }

    /// Takes the oldest entry, if it is answered.
    pub(super) fn pop(&mut self) -> Option<(Entry, Outcome)> {
        if !matches!(self.entries.front()?.state, Progress::Done(_)) {
            return None;
        }
        let mut entry = self.entries.pop_front()?;
        match std::mem::replace(&mut entry.state, Progress::Waiting) {
            Progress::Done(outcome) => Some((entry, outcome)),
            Progress::Waiting | Progress::Sent { .. } => None,
        }
    }
}

/// Keeps an outcome, or lets the command be sent once more when its session had closed.
fn settle(entry: &mut Entry, outcome: Outcome) {
    let closed = outcome.as_ref().is_err_and(|error| error.closed);
    if closed && !entry.resent {
        entry.resent = true;
        entry.state = Progress::Waiting;
    } else {
        entry.state = Progress::Done(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::message::Page;

    fn push(lane: &mut Lane<&'static str>, name: &str) {
        let origin = Origin::Client {
            op: Op::Cancel,
            reference: name.parse().unwrap(),
        };
        lane.push(Entry::new(origin, SessionCommand::View(Page::last(1))));
    }

    fn popped(lane: &mut Lane<&'static str>) -> Vec<(String, bool)> {
        std::iter::from_fn(|| lane.pop())
            .map(|(entry, outcome)| match entry.origin {
                Origin::Client { reference, .. } => (reference.to_string(), outcome.is_ok()),
                Origin::Recovery => ("recovery".to_owned(), outcome.is_ok()),
            })
            .collect()
    }

    fn send_all(lane: &mut Lane<&'static str>, slots: &mut u64) {
        while lane.target().is_some() && lane.next_to_send().is_some() {
            *slots += 1;
            lane.sent(*slots);
        }
    }

    #[test]
    fn replies_come_in_the_order_of_commands() {
        let (mut lane, mut slots) = (Lane::new(), 0);
        push(&mut lane, "a");
        push(&mut lane, "b");
        lane.push(Entry::answered(
            Origin::Client {
                op: Op::Edit,
                reference: "c".parse().unwrap(),
            },
            Err(SessionError::closed()),
        ));
        assert!(lane.wants_target());
        lane.found("session");
        send_all(&mut lane, &mut slots);
        lane.answer(2, Ok(SessionReply::Done));
        assert!(popped(&mut lane).is_empty());
        lane.answer(1, Ok(SessionReply::Done));
        let expected = [("a", true), ("b", true), ("c", false)].map(|(name, ok)| (name.to_owned(), ok));
        assert_eq!(popped(&mut lane), expected);
        assert!(lane.is_idle());
    }

    #[test]
    fn a_closed_session_is_asked_once_more_in_order_and_then_reported() {
        let (mut lane, mut slots) = (Lane::new(), 0);
        push(&mut lane, "a");
        push(&mut lane, "b");
        lane.found("first");
        send_all(&mut lane, &mut slots);
        lane.answer(1, Err(SessionError::closed()));
        assert!(lane.target().is_none(), "a dead reference is forgotten");
        lane.found("second");
        push(&mut lane, "c");
        send_all(&mut lane, &mut slots);
        assert_eq!(slots, 3, "c waits: b is still owed by the first one");
        lane.answer(2, Err(SessionError::closed()));
        assert!(
            lane.target().is_some(),
            "news of the first one says nothing about the second"
        );
        send_all(&mut lane, &mut slots);
        assert_eq!(slots, 5);
        lane.answer(3, Err(SessionError::closed()));
        lane.answer(4, Ok(SessionReply::Done));
        lane.answer(5, Ok(SessionReply::Done));
        let expected = [("a", false), ("b", true), ("c", true)].map(|(name, ok)| (name.to_owned(), ok));
        assert_eq!(popped(&mut lane), expected);
    }

    #[test]
    fn a_session_that_is_not_found_answers_what_waits() {
        let mut lane: Lane<&'static str> = Lane::new();
        push(&mut lane, "a");
        lane.resolving = true;
        lane.unreachable(&SessionError::not_found(&"s".parse().unwrap()));
        assert_eq!(popped(&mut lane), [("a".to_owned(), false)]);
    }

    #[test]
    fn a_refused_command_is_answered_and_a_closed_target_tried_again() {
        let (mut lane, mut slots) = (Lane::new(), 0);
        push(&mut lane, "a");
        push(&mut lane, "b");
        lane.found("first");
        lane.refused(SessionError::new(kronos_protocol::error::ErrorCode::Overloaded, "full"));
        assert_eq!(popped(&mut lane), [("a".to_owned(), false)]);
        lane.refused(SessionError::closed());
        assert!(lane.target().is_none() && lane.wants_target());
        lane.found("second");
        send_all(&mut lane, &mut slots);
        lane.answer(1, Ok(SessionReply::Done));
        assert_eq!(popped(&mut lane), [("b".to_owned(), true)]);
    }
}
