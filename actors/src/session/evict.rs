//! Leaving memory because an operator wants it: as if it were idle, or with its run closed as interrupted.

use tokio::sync::oneshot;

use super::*;
use crate::directory::Staying;

/// Leaves memory when everything is durable. The directory hands the session out no more meanwhile.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Evict {
    /// A run is closed as interrupted; else it is a reason to stay.
    pub(crate) force: bool,
    /// Readers who have everything stay attached; else all are told that it closed, and look for it again.
    pub(crate) keep_readers: bool,
    /// `busy` when it stays; what the store said when it cannot commit.
    pub(crate) done: oneshot::Sender<Result<Evicted, SessionError>>,
}

/// A session has left memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Evicted {
    /// A run was closed for it, which is tried again when the session is next activated.
    pub(crate) interrupted: bool,
}

/// A session that leaves as soon as everything is durable.
pub(super) struct Leaving {
    evict: Evict,
    interrupted: bool,
}

impl Handler<Evict> for Session {
    type Result = ();

    fn handle(&mut self, evict: Evict, ctx: &mut Self::Context) {
        // Whoever asked did not wait so long, or has gone.
        if evict.done.is_closed() {
            return;
        }
        if self.deleting {
            return self.refuse_to_leave(evict, busy("the conversation is being deleted"));
        }
        let running = self.state.run.is_some();
        let queued = !self.state.queue.is_empty() && !self.state.waits();
        if (running || queued) && !evict.force {
            return self.refuse_to_leave(evict, busy("a run is active"));
        }
        self.leaving = Some(Leaving {
            evict,
            interrupted: running,
        });
        if !matches!(self.life, Life::Live) {
            return self.leave(ctx);
        }
        self.flush_due = true;
        if running {
            self.drive(Input::Interrupt, ReplyTo::NONE, ctx);
        } else {
            self.flush(ctx);
        }
    }
}

fn busy(why: &str) -> SessionError {
    SessionError::new(ErrorCode::Busy, why).after_ms(1000)
}

impl Session {
    /// Everything is durable: it goes, and its readers are looked after.
    pub(super) fn leave(&mut self, ctx: &mut Context<Self>) {
        let Some(Leaving { evict, interrupted }) = self.leaving.take() else {
            return;
        };
        metrics::handles().passivations.increment(1);
        if evict.keep_readers {
            // One that is behind finds the session again: it would learn nothing while that sleeps.
            self.readers.end_busy(&SessionError::closed());
            self.fall_asleep();
        }
        // The directory hears of the exit whether or not anybody listens here.
        drop(evict.done.send(Ok(Evicted { interrupted })));
        ctx.stop();
    }

    /// Whether it is about to leave: nothing is taken any more. Stays after all when whoever asked has given up.
    pub(super) fn is_leaving(&mut self, ctx: &mut Context<Self>) -> bool {
        let given_up = |leaving: &mut Leaving| leaving.evict.done.is_closed();
        if self.leaving.take_if(given_up).is_none() {
            return self.leaving.is_some();
        }
        if matches!(self.life, Life::Live) && self.state.retriable(self.deps.config.max_run_attempts).is_some() {
            self.drive(Input::Recovered, ReplyTo::NONE, ctx);
        }
        false
    }

    /// It cannot leave: what was to be durable first is not.
    pub(super) fn stay(&mut self, failure: &SessionError) {
        if let Some(leaving) = self.leaving.take() {
            self.refuse_to_leave(leaving.evict, failure.clone());
        }
    }

    fn refuse_to_leave(&self, evict: Evict, why: SessionError) {
        drop(evict.done.send(Err(why)));
        let staying = Staying {
            session: self.id.clone(),
        };
        #[expect(clippy::disallowed_methods, reason = "one per Evict; others wait for it")]
        self.deps.directory.do_send(staying);
    }
}
