//! The cursors of a connection: one parked pull each, so that a reader is never ahead of its socket.

use std::time::Duration;

use actix::{AsyncContext, Handler};
use bytes::Bytes;
use kronos_protocol::{
    ids::SessionId,
    position::{Cursor, Seq},
    server::{CaughtUp, ServerFrame},
};
use rand::Rng;

use super::{
    Connection, Ctx, Standing,
    lane::{Attachment, Early, Entry, Lane, Origin, Outcome, Start},
    output::{about, wire},
};
use crate::{
    session::{
        marks::Note,
        message::{
            Attach, Attached, AttachmentId, Delivery, Form, Payload, ReplyTo, SessionCall, SessionCommand,
            SessionError, SessionReply,
        },
    },
    tally::{Counted, Tally},
};

/// First pause before a lost session is looked for again; doubled each time.
const RECOVERY_FIRST_MS: u64 = 50;
/// Longest pause.
const RECOVERY_LONGEST_MS: u64 = 5_000;
/// Pause after a session refused a pull because its mailbox was full.
const PULL_AGAIN: Duration = Duration::from_millis(50);

/// What is known of a cursor when its session answers.
pub(super) struct Standpoint {
    pub(super) number: u64,
    pub(super) from: Start,
    /// The client was told, before its session went away.
    pub(super) caught_up: bool,
}

impl Connection {
    /// Makes the command that starts a new cursor.
    pub(super) fn attach_command(&mut self, from: Start, ctx: &mut Ctx) -> SessionCommand {
        self.next_number += 1;
        SessionCommand::Attach(Attach {
            attachment: AttachmentId {
                connection: self.id.clone(),
                number: self.next_number,
            },
            client: self.client.clone(),
            form: Form::Frame(self.codec),
            after: from.after,
            tail: from.tail,
            sink: ctx.address().recipient(),
        })
    }

    /// Takes a cursor that stands, in the place of the one before, and asks for its first batch.
    pub(super) fn activate(&mut self, key: &SessionId, standpoint: Standpoint, attached: Attached, ctx: &mut Ctx) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let Standpoint {
            number,
            from,
            caught_up,
        } = standpoint;
        let attachment = Attachment {
            number,
            session: attached.session,
            epoch: attached.epoch,
            seq: attached.start,
            head: attached.head,
            caught_up,
            resume: from,
            recovering: None,
            starved: false,
            asleep: false,
            _counted: Counted::new(Tally::Attachments),
        };
        if let Some(before) = lane.attachment.replace(attachment) {
            self.numbers.remove(&before.number);
        }
        self.numbers.insert(number, key.clone());
        let early = lane.early.take().filter(|early| early.number == number);
        if attached.recovered {
            self.tell_caught_up(key, attached.start, ctx);
        }
        let (presence, ended) = early.map_or((None, None), |early| (early.presence, early.ended));
        if let Some(bytes) = presence {
            self.write(bytes, ctx);
        }
        match ended {
            Some(error) => self.ended(key, error, ctx),
            None => self.pull(key, ctx),
        }
    }

    /// Tells the client once that it has everything there was when it attached.
    fn tell_caught_up(&mut self, key: &SessionId, upto: Seq, ctx: &mut Ctx) {
        let Some(attachment) = self.lanes.get_mut(key).and_then(|lane| lane.attachment.as_mut()) else {
            return;
        };
        if !attachment.caught_up && upto >= attachment.head {
            attachment.caught_up = true;
            let frame = CaughtUp::new(attachment.session.clone(), upto);
            self.frame(&ServerFrame::CaughtUp(frame), ctx);
        }
    }

    /// Asks for what is after the cursor, if there is room to write it; else when there is.
    pub(super) fn pull(&mut self, key: &SessionId, ctx: &mut Ctx) {
        let Standing::Known(caller) = &self.standing else {
            return;
        };
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let room = self.link.has_room();
        let Some(attachment) = lane
            .attachment
            .as_mut()
            .filter(|attachment| attachment.recovering.is_none() && !attachment.asleep)
        else {
            return;
        };
        attachment.starved = !room;
        if !room {
            return;
        }
        let number = attachment.number;
        let command = SessionCommand::Pull {
            attachment: AttachmentId {
                connection: self.id.clone(),
                number,
            },
            after: attachment.seq,
        };
        let call = SessionCall {
            caller: caller.clone(),
            command,
            reply: ReplyTo::NONE,
        };
        let refused = match lane.target() {
            Some(target) => target.call(call).err().map(|refused| refused.1),
            None => Some(SessionError::closed()),
        };
        match refused {
            None => {}
            Some(error) if error.closed => self.ended(key, error, ctx),
            Some(_) => {
                let key = key.clone();
                ctx.run_later(PULL_AGAIN, move |this, ctx| {
                    if this.numbers.get(&number) == Some(&key) {
                        this.pull(&key, ctx);
                    }
                });
            }
        }
    }

    /// Pulls for the cursors that had to wait for room.
    pub(super) fn pull_starved(&mut self, ctx: &mut Ctx) {
        let starved = |lane: &Lane<_>| lane.attachment.as_ref().is_some_and(|attachment| attachment.starved);
        let keys: Vec<_> = self
            .lanes
            .iter()
            .filter(|(_, lane)| starved(lane))
            .map(|(key, _)| key.clone())
            .collect();
        for key in keys {
            self.pull(&key, ctx);
        }
    }

    /// Takes a batch: writes it, moves the cursor, asks for the next.
    fn delivered(&mut self, key: &SessionId, upto: Seq, bytes: Bytes, ctx: &mut Ctx) {
        let Some(attachment) = self.lanes.get_mut(key).and_then(|lane| lane.attachment.as_mut()) else {
            return;
        };
        attachment.seq = upto;
        attachment.resume = Start {
            after: Some(Cursor::new(attachment.epoch.clone(), upto)),
            tail: None,
        };
        self.write(bytes, ctx);
        self.tell_caught_up(key, upto, ctx);
        self.pull(key, ctx);
    }

    /// Notes that a batch was written.
    fn written(&self, note: &Note) {
        if let Some(read) = note.read {
            let took = self.deps.clock.instant().saturating_duration_since(read);
            self.deps.metrics.delta_delivery.record(took.as_secs_f64());
        }
    }

    /// Takes the news that a cursor has ended: its session is looked for again, or the client is told.
    fn ended(&mut self, key: &SessionId, error: SessionError, ctx: &mut Ctx) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let Some(attachment) = &mut lane.attachment else { return };
        if error.closed {
            if attachment.recovering.is_none() {
                attachment.recovering = Some(0);
                lane.lost();
                self.recover_later(key, ctx);
            }
            return;
        }
        let session = attachment.session.clone();
        self.drop_cursor(key);
        self.refuse_cursor(&session, error, ctx);
        self.flush(key, ctx);
    }

    /// Takes the news that a session leaves memory under its cursor.
    fn fell_asleep(&mut self, key: &SessionId) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        lane.lost();
        if let Some(attachment) = &mut lane.attachment {
            attachment.asleep = true;
        }
    }

    /// Sets the cursor of a session that slept up again, unless that is under way.
    pub(super) fn wake(&mut self, key: &SessionId, ctx: &mut Ctx) {
        let Some(lane) = self.lanes.get_mut(key) else { return };
        let leaving = lane.is_leaving();
        let Some(attachment) = lane
            .attachment
            .as_mut()
            .filter(|attachment| attachment.recovering.is_none() && !leaving)
        else {
            return;
        };
        attachment.asleep = false;
        attachment.recovering = Some(0);
        let number = attachment.number;
        self.recover(key, number, ctx);
    }

    fn refuse_cursor(&mut self, session: &SessionId, error: SessionError, ctx: &mut Ctx) {
        let frame = ServerFrame::error(None, about(session.as_str(), wire(error)));
        self.frame(&frame, ctx);
    }

    /// Forgets the cursor that stands.
    pub(super) fn drop_cursor(&mut self, key: &SessionId) {
        if let Some(attachment) = self.lanes.get_mut(key).and_then(|lane| lane.attachment.take()) {
            self.numbers.remove(&attachment.number);
        }
    }

    fn recover_later(&mut self, key: &SessionId, ctx: &mut Ctx) {
        let Some(attachment) = self.lanes.get(key).and_then(|lane| lane.attachment.as_ref()) else {
            return;
        };
        let (number, failures) = (attachment.number, attachment.recovering.unwrap_or(0));
        let key = key.clone();
        ctx.run_later(pause(failures), move |this, ctx| this.recover(&key, number, ctx));
    }

    /// Attaches again where the cursor stands, unless the client has done something about it itself.
    fn recover(&mut self, key: &SessionId, number: u64, ctx: &mut Ctx) {
        let Some(lane) = self.lanes.get(key).filter(|lane| lane.newest_number() == Some(number)) else {
            return;
        };
        let Some(from) = lane.attachment.as_ref().map(|attachment| attachment.resume.clone()) else {
            return;
        };
        let command = self.attach_command(from, ctx);
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.push(Entry::new(Origin::Recovery, command));
        }
        self.pump(key, ctx);
    }

    /// Goes on with a recovery that waited for the client's own attach, when that has failed.
    pub(super) fn recover_again(&mut self, key: &SessionId, ctx: &mut Ctx) {
        let attachment = self.lanes.get(key).and_then(|lane| lane.attachment.as_ref());
        if attachment.is_some_and(|attachment| attachment.recovering.is_some()) {
            self.recover_later(key, ctx);
        }
    }

    /// Takes the answer to a recovery.
    pub(super) fn recovered(
        &mut self,
        key: &SessionId,
        command: Option<SessionCommand>,
        outcome: Outcome,
        ctx: &mut Ctx,
    ) {
        let Some(SessionCommand::Attach(asked)) = command else {
            return;
        };
        let Some(attachment) = self.lanes.get_mut(key).and_then(|lane| lane.attachment.as_mut()) else {
            return;
        };
        match outcome {
            Ok(SessionReply::Attached(attached)) => {
                let from = Start {
                    after: asked.after,
                    tail: asked.tail,
                };
                let caught_up = attachment.caught_up;
                let standpoint = Standpoint {
                    number: asked.attachment.number,
                    from,
                    caught_up,
                };
                self.activate(key, standpoint, attached, ctx);
            }
            Ok(_) => self.fail("a session answered something else", ctx),
            Err(error) if error.closed || error.code.retry() => {
                attachment.recovering = Some(attachment.recovering.unwrap_or(0).saturating_add(1));
                self.recover_later(key, ctx);
            }
            Err(error) => {
                let session = attachment.session.clone();
                self.drop_cursor(key);
                self.refuse_cursor(&session, error, ctx);
            }
        }
    }

    /// Keeps what a session says to a cursor whose `ok` still waits for its turn.
    fn too_early(&mut self, number: u64, payload: Payload) {
        let Some(lane) = self
            .lanes
            .values_mut()
            .find(|lane| lane.newest_number() == Some(number))
        else {
            return;
        };
        let early = lane.early.get_or_insert_default();
        if early.number != number {
            *early = Early {
                number,
                ..Early::default()
            };
        }
        match payload {
            Payload::Presence { bytes } => early.presence = Some(bytes),
            Payload::Ended { error } => early.ended = Some(error),
            // Nothing was pulled, and without a pull no session sleeps.
            Payload::Frame { .. } | Payload::Entries { .. } | Payload::Asleep | Payload::Woken => {}
        }
    }

    /// Lets go of all sessions.
    pub(super) fn leave(&mut self) {
        let Standing::Known(caller) = &self.standing else {
            return;
        };
        for (key, lane) in &self.lanes {
            for number in lane.numbers() {
                let attachment = AttachmentId {
                    connection: self.id.clone(),
                    number,
                };
                let command = SessionCommand::Detach {
                    attachment: attachment.clone(),
                };
                let call = SessionCall {
                    caller: caller.clone(),
                    command,
                    reply: ReplyTo::NONE,
                };
                // A session that is full misses the next pull; of one that is not in memory the directory keeps the cursor.
                let gone = match lane.target() {
                    Some(target) => target.call(call).is_err_and(|refused| refused.1.closed),
                    None => true,
                };
                if gone {
                    self.deps.directory.forget(&caller.user, key, attachment);
                }
            }
        }
        self.lanes.clear();
        self.numbers.clear();
    }
}

impl Handler<Delivery> for Connection {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, ctx: &mut Ctx) {
        let number = delivery.attachment.number;
        delivery.queued.taken();
        if self.closing || delivery.attachment.connection != self.id {
            return;
        }
        let Some(key) = self.numbers.get(&number).cloned() else {
            return self.too_early(number, delivery.payload);
        };
        match delivery.payload {
            Payload::Frame { upto, bytes } => {
                self.delivered(&key, upto, bytes, ctx);
                if let Some(note) = delivery.note {
                    self.written(&note);
                }
            }
            Payload::Presence { bytes } => self.write(bytes, ctx),
            Payload::Asleep => self.fell_asleep(&key),
            Payload::Woken => self.wake(&key, ctx),
            Payload::Ended { error } => self.ended(&key, error, ctx),
            // This reader takes frames.
            Payload::Entries { .. } => {}
        }
    }
}

/// The pause before attempt number `failures`, between half and all of it.
fn pause(failures: u32) -> Duration {
    let longest = RECOVERY_FIRST_MS
        .saturating_mul(1 << failures.min(10))
        .min(RECOVERY_LONGEST_MS);
    Duration::from_millis(rand::rng().random_range(longest / 2..=longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound() {
        for (failures, longest) in [(0, 50), (1, 100), (6, 3200), (7, 5000), (u32::MAX, 5000)] {
            let pause = pause(failures).as_millis();
            assert!((longest / 2..=longest).contains(&pause), "{failures}: {pause}");
        }
    }
}
