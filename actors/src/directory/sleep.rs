//! Sessions that left memory under their sockets: the directory keeps the attachments, and any input wakes the session.

use actix::prelude::*;
use kronos_protocol::ids::{SessionId, UserId};

use super::{Directory, DirectoryRef};
use crate::{
    session::{
        Origin,
        message::{AttachmentId, Payload, Sleeper},
        metrics,
    },
    tally::{self, Tally},
};

/// A session leaves memory; its readers stay attached.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct FallAsleep {
    pub(crate) session: SessionId,
    pub(crate) sleepers: Vec<Sleeper>,
}

impl Handler<FallAsleep> for Directory {
    type Result = ();

    fn handle(&mut self, msg: FallAsleep, _: &mut Self::Context) {
        if self.node.parked(|parked| parked.contains_key(&msg.session)) {
            // It was parked while it left: its readers attach again, and learn why they cannot.
            return msg.sleepers.iter().for_each(|sleeper| sleeper.tell(Payload::Woken));
        }
        metrics::handles().asleep.increment(count(&msg.sleepers));
        let replaced = self.asleep.insert(msg.session, msg.sleepers.into_boxed_slice());
        metrics::handles()
            .asleep
            .decrement(replaced.map_or(0.0, |sleepers| count(&sleepers)));
        self.note_hibernated();
    }
}

/// A reader of a session that sleeps is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct Forget {
    pub(super) session: SessionId,
    pub(super) wire: SessionId,
    pub(super) attachment: AttachmentId,
}

impl Handler<Forget> for Directory {
    type Result = ();

    fn handle(&mut self, forget: Forget, ctx: &mut Self::Context) {
        let Forget {
            session,
            wire,
            attachment,
        } = forget;
        let Some(sleepers) = self.asleep.remove(&session) else {
            // It was woken meanwhile, and notices at its next delivery.
            return;
        };
        self.note_hibernated();
        let before = sleepers.len();
        let mut left = sleepers.into_vec();
        left.retain(|sleeper| sleeper.attachment != attachment);
        if left.len() == before {
            self.asleep.insert(session, left.into_boxed_slice());
            return self.note_hibernated();
        }
        metrics::handles().asleep.decrement(1.0);
        if left.is_empty() {
            if !self.live.contains_key(&session) {
                self.node.unroute(&session);
            }
            return;
        }
        self.asleep.insert(session.clone(), left.into_boxed_slice());
        self.note_hibernated();
        // The others are told that a device has left; whoever stops just now is woken by the next input.
        if !self.live.contains_key(&session) {
            self.activate(&session, wire, Origin::Stored, ctx.address());
        }
    }
}

impl Directory {
    /// Takes the readers of a session that wakes.
    pub(super) fn take_sleepers(&mut self, session: &SessionId) -> Vec<Sleeper> {
        let sleepers = self.asleep.remove(session).unwrap_or_default().into_vec();
        metrics::handles().asleep.decrement(count(&sleepers));
        self.note_hibernated();
        sleepers
    }

    /// Says how many sessions sleep under their sockets on this core.
    fn note_hibernated(&self) {
        tally::set(Tally::Hibernated, i64::try_from(self.asleep.len()).unwrap_or(i64::MAX));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge of a few")]
fn count(sleepers: &[Sleeper]) -> f64 {
    sleepers.len() as f64
}

impl DirectoryRef {
    /// Takes an attachment of a session that is not in memory down, without waking it. `wire` is the session as the client
    /// of `user` names it.
    pub(crate) fn forget(&self, user: &UserId, wire: &SessionId, attachment: AttachmentId) {
        let session = if wire.is_feed_alias() {
            Self::feed_of(user)
        } else {
            Some(wire.clone())
        };
        let Some(session) = session else { return };
        let Some(directory) = self.node.routed(&session) else {
            return;
        };
        let forget = Forget {
            session,
            wire: wire.clone(),
            attachment,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "at most one for each attachment, and one that is refused would be kept for ever"
        )]
        directory.do_send(forget);
    }
}
