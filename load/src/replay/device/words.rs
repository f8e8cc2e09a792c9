//! What a device says: commands wait for their replies, and are said again when a connection ends before or the server is busy.

use std::time::{Duration, Instant};

use bytes::Bytes;
use kronos_protocol::server::WireError;
use kronos_protocol::{Command, ErrorCode, Ref, RunId, SendMode};

use super::super::clocks::Start;
use super::super::user::User;
use super::super::wire::{Lost, Wire};
use super::{Device, Link, Order, wide};
use crate::clock;
use crate::meter::Count;

/// A command that the server is too busy for is sent so often.
const TRIES: u32 = 5;
/// The pause before, where the server says nothing; doubled each time.
pub(super) const RETRY: Duration = Duration::from_millis(200);

/// A command without a reply.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) command: Command,
    pub(super) start: Start,
    /// What it is called on this connection; `None` when it is still to be written.
    reference: Option<Ref>,
    /// Not to be written before.
    not_before: Option<Instant>,
    /// Times that it was refused with `retry`.
    tries: u32,
    /// It was written before, on another connection or in vain.
    again: bool,
    /// The planned end of a connection stopped its clock.
    anew: bool,
    /// The run that a cancel without one was about, and the runs there were.
    active: Option<RunId>,
    runs: usize,
}

impl Device {
    /// Says something, now or when it is there again.
    pub(crate) fn say(&self, command: Command, intended: Instant, user: &User) {
        let view = user.view.borrow();
        self.waiting.borrow_mut().push_back(Waiting {
            start: Start {
                intended,
                began: intended,
            },
            reference: None,
            not_before: None,
            tries: 0,
            again: false,
            anew: false,
            active: view.active().map(|run| run.id.clone()),
            runs: view.runs.len(),
            command,
        });
        drop(view);
        self.order(Order::Say);
    }

    /// Whether every command has its reply.
    pub(crate) fn has_all_replies(&self) -> bool {
        self.waiting.borrow().is_empty()
    }

    /// Makes what has no reply ready to be said again on the next connection, as far as it may be.
    ///
    /// `send` and `resume` are the same to the server however often they come; settings are set to the same again; a cancel names the
    /// run that it was about; whether an `edit` or `regenerate` took effect is seen then. `typing` and `ping` are of no use any more.
    pub(super) fn ended(&self, user: &User, planned: bool) {
        let mut waiting = self.waiting.borrow_mut();
        waiting.retain_mut(|waiting| {
            let written = waiting.reference.take().is_some();
            waiting.again |= written;
            waiting.anew |= planned;
            match &mut waiting.command {
                Command::Typing(_) | Command::Ping => !written,
                Command::Cancel(cancel) if written && cancel.run.is_none() => {
                    cancel.run.clone_from(&waiting.active);
                    cancel.run.is_some()
                }
                _ => true,
            }
        });
        drop(waiting);
        let mut clocks = self.clocks.borrow_mut();
        if planned {
            clocks.forget();
        } else {
            clocks.interrupted();
        }
        user.changed.notify_one();
    }

    /// Writes every command that waits for it, in order.
    pub(super) async fn speak(&self, user: &User, wire: &mut Wire) -> Result<(), Lost> {
        let mut wrote = false;
        while let Some(bytes) = self.next_words(user)? {
            user.engine.meter.count(Count::BytesOut, wide(bytes.len()));
            wire.feed(bytes).await?;
            wrote = true;
        }
        if wrote {
            wire.flush().await?;
        }
        Ok(())
    }

    /// Returns the next frame to write.
    fn next_words(&self, user: &User) -> Result<Option<Bytes>, Lost> {
        let now = clock::instant();
        let mut waiting = self.waiting.borrow_mut();
        // Edits that were cut off are not the same to the server when they come twice: a new run says that the first was taken.
        let runs = user.view.borrow().runs.len();
        waiting.retain(|waiting| {
            let once = matches!(waiting.command, Command::Edit(_) | Command::Regenerate(_));
            !(once && waiting.again && waiting.reference.is_none() && waiting.tries == 0 && runs > waiting.runs)
        });
        let next = waiting
            .iter_mut()
            .find(|waiting| waiting.reference.is_none() && waiting.not_before.is_none_or(|at| at <= now));
        let Some(next) = next else {
            return Ok(None);
        };
        let (reference, bytes) = self.frame(user, next.command.clone())?;
        next.reference = Some(reference);
        next.start.began = now;
        if std::mem::take(&mut next.anew) && next.again {
            next.start.intended = now;
        }
        self.first_words(user, next);
        Ok(Some(bytes))
    }

    fn first_words(&self, user: &User, said: &Waiting) {
        let meter = &user.engine.meter;
        meter.count(Count::Commands, 1);
        match &said.command {
            Command::Send(send) => {
                meter.count(Count::Sends, 1);
                if send.mode == SendMode::Interrupt {
                    user.view.borrow_mut().stopping();
                }
            }
            Command::Cancel(_) | Command::Edit(_) | Command::Regenerate(_) => user.view.borrow_mut().stopping(),
            _ => {}
        }
        if !said.again {
            let mut clocks = self.clocks.borrow_mut();
            clocks.said(&said.command, said.start, said.active.as_ref());
        }
    }

    /// Takes the command out of those that wait.
    pub(super) fn replied(&self, user: &User, reference: &Ref, now: Instant) -> Option<Waiting> {
        let mut waiting = self.waiting.borrow_mut();
        let place = waiting
            .iter()
            .position(|waiting| waiting.reference.as_ref() == Some(reference))?;
        user.replied.set(Some(now));
        user.changed.notify_one();
        waiting.remove(place)
    }

    pub(super) fn refused(
        &self,
        user: &User,
        reference: Option<&Ref>,
        error: &WireError,
        now: Instant,
    ) -> Result<bool, Lost> {
        let after = error.after_ms.map(Duration::from_millis);
        let waiting = reference.and_then(|reference| self.replied(user, reference, now));
        let Some(mut waiting) = waiting else {
            if self.link.get() == Link::Joining {
                let after = error.retry.then_some(after.unwrap_or(RETRY));
                return Err(Lost::Unwelcome(error.code.as_str().to_owned(), after));
            }
            user.engine.refused(error, "nothing", &user.script.name);
            return Ok(false);
        };
        if is_fair(&waiting, error.code) {
            self.clocks.borrow_mut().refused(&waiting.command);
            return Ok(false);
        }
        if error.retry && waiting.tries < TRIES {
            let pause = after.unwrap_or(RETRY.saturating_mul(1 << waiting.tries));
            waiting.tries += 1;
            waiting.again = true;
            waiting.reference = None;
            waiting.not_before = Some(now + pause);
            self.waiting.borrow_mut().push_back(waiting);
            user.remind(self, now + pause);
            return Ok(false);
        }
        self.clocks.borrow_mut().refused(&waiting.command);
        user.engine
            .refused(error, waiting.command.op().as_str(), &user.script.name);
        Ok(false)
    }
}

/// Whether a refusal is an answer like any other.
fn is_fair(waiting: &Waiting, code: ErrorCode) -> bool {
    match &waiting.command {
        // That is what the mode is for.
        Command::Send(send) => send.mode == SendMode::Reject && code == ErrorCode::Busy,
        // The run has ended, the message has been started: who stops something may always come too late.
        Command::Cancel(_) | Command::Unqueue(_) => {
            code == ErrorCode::Conflict || (waiting.again && code == ErrorCode::NotFound)
        }
        // It was taken before the connection was cut.
        Command::Resume(_) => waiting.again && code == ErrorCode::Conflict,
        _ => false,
    }
}
