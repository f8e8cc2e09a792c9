//! Between the lanes and the sessions: sends what may be sent, answers the client in order.

use actix::{ActorFutureExt, AsyncContext, Handler, WrapFuture};
use kronos_protocol::{
    client::Op,
    ids::{Ref, SessionId},
    server::{Attached, Cancelled, OkBody, Sent, SettingsReply},
};

use super::{
    Connection, Ctx, Standing,
    cursors::Standpoint,
    lane::{Entry, Origin, Outcome, Start},
    output::wire,
};
use crate::session::message::{self, Reply, ReplyTo, SessionCall, SessionCommand, SessionReply};
use crate::trace::Cause;

impl Connection {
    /// Sends what the lane has to send, looking for its session first if need be, then answers what is answered.
    pub(super) fn pump(&mut self, key: &SessionId, ctx: &mut Ctx) {
        let Standing::Known(caller) = &self.standing else {
            return;
        };
        while let Some(lane) = self.lanes.get_mut(key).filter(|lane| lane.wants_target()) {
            let Some(target) = lane.target() else {
                self.resolve(key, ctx);
                break;
            };
            let Some(command) = lane.next_to_send() else { break };
            self.next_slot += 1;
            let mut reply = ReplyTo::mailbox(ctx.address().recipient(), self.next_slot);
            if command.may_begin_a_run() {
                reply = reply.caused_by(Cause {
                    request: None,
                    connection: Some(self.id.clone()),
                    trace: self.trace.clone(),
                });
            }
            let call = SessionCall {
                caller: caller.clone(),
                command: command.clone(),
                reply,
            };
            match target.call(call) {
                Ok(()) => {
                    lane.sent(self.next_slot);
                    self.slots.insert(self.next_slot, key.clone());
                }
                // Dropping the call answers a slot that nobody waits for.
                Err(refused) => lane.refused(refused.1),
            }
        }
        self.flush(key, ctx);
    }

    /// Asks the directory for the lane's session.
    fn resolve(&mut self, key: &SessionId, ctx: &mut Ctx) {
        let Standing::Known(caller) = &self.standing else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(key).filter(|lane| !lane.resolving) else {
            return;
        };
        lane.resolving = true;
        let (directory, user, key) = (self.deps.directory.clone(), caller.user.clone(), key.clone());
        let session = key.clone();
        let found = async move {
            if session.is_feed_alias() {
                directory.feed(&user).await
            } else {
                directory.resolve(&session).await
            }
        };
        ctx.spawn(found.into_actor(self).map(move |found, this, ctx| {
            if let Some(lane) = this.lanes.get_mut(&key) {
                match found {
                    Ok(target) => lane.found(target),
                    Err(error) => lane.unreachable(&error),
                }
            }
            this.pump(&key, ctx);
        }));
    }

    /// Answers the client as far as the order allows, and drops a lane that nothing keeps.
    pub(super) fn flush(&mut self, key: &SessionId, ctx: &mut Ctx) {
        while let Some((entry, outcome)) = self.lanes.get_mut(key).and_then(|lane| lane.pop()) {
            let Entry { origin, command, .. } = entry;
            match origin {
                Origin::Client { op, reference } => {
                    self.pending = self.pending.saturating_sub(1);
                    self.answer(key, (op, reference), command, outcome, ctx);
                }
                Origin::Recovery => self.recovered(key, command, outcome, ctx),
            }
        }
        if self.lanes.get(key).is_some_and(|lane| lane.is_idle()) {
            self.lanes.remove(key);
        }
    }

    fn answer(
        &mut self,
        key: &SessionId,
        (op, reference): (Op, Ref),
        command: Option<SessionCommand>,
        outcome: Outcome,
        ctx: &mut Ctx,
    ) {
        match (command, outcome) {
            (Some(SessionCommand::Detach { .. }), _) => {
                // Whatever the session says, nothing of it is passed on any more.
                self.drop_cursor(key);
                self.confirm(op, reference, OkBody::Done, ctx);
            }
            (Some(SessionCommand::Attach(asked)), Ok(SessionReply::Attached(attached))) => {
                let body = Attached {
                    settings: attached.settings.clone(),
                    ..Attached::new(
                        attached.session.clone(),
                        attached.epoch.clone(),
                        attached.head,
                        attached.recovered,
                    )
                };
                self.confirm(op, reference, body, ctx);
                let from = Start {
                    after: asked.after,
                    tail: asked.tail,
                };
                let standpoint = Standpoint {
                    number: asked.attachment.number,
                    from,
                    caught_up: false,
                };
                self.activate(key, standpoint, attached, ctx);
            }
            (Some(SessionCommand::Attach(_)), Err(error)) => {
                self.refuse(Some(op), Some(reference), wire(error), ctx);
                self.recover_again(key, ctx);
            }
            (_, Ok(reply)) => match body(reply) {
                Some(body) => self.confirm(op, reference, body, ctx),
                None => self.fail("a session answered something else", ctx),
            },
            (_, Err(error)) => self.refuse(Some(op), Some(reference), wire(error), ctx),
        }
    }
}

/// What `ok` carries for an answer; `None` for answers to what a client cannot ask.
fn body(reply: SessionReply) -> Option<OkBody> {
    match reply {
        SessionReply::Done => Some(OkBody::Done),
        SessionReply::Sent {
            seq,
            run,
            queued,
            duplicate,
        } => Some(
            Sent {
                run,
                queued,
                duplicate,
                ..Sent::new(seq)
            }
            .into(),
        ),
        SessionReply::Cancelled { run, usage } => Some(
            Cancelled {
                run,
                usage: usage.map(|usage| vec![usage]),
            }
            .into(),
        ),
        SessionReply::Resumed { seq, run, .. } => Some(Sent { run, ..Sent::new(seq) }.into()),
        SessionReply::Settings(settings) => Some(SettingsReply::new(*settings).into()),
        SessionReply::Attached(message::Attached { .. }) | SessionReply::View(_) | SessionReply::Run(_) => None,
    }
}

impl Handler<Reply> for Connection {
    type Result = ();

    fn handle(&mut self, reply: Reply, ctx: &mut Ctx) {
        reply.queued.taken();
        let Some(key) = self.slots.remove(&reply.slot) else {
            return;
        };
        if self.closing {
            return;
        }
        if let Some(lane) = self.lanes.get_mut(&key) {
            lane.answer(reply.slot, reply.result);
        }
        self.pump(&key, ctx);
    }
}
