//! Commands of the client: which session they are for, and what they become there. What they mean is the session's.

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use kronos_protocol::{
    client::{Attach, AttachTarget, ClientFrame, Command, FrameError, Op, Resume, Send, SessionSettings, Typing},
    close::{CloseCode, CloseReason},
    error::ErrorCode,
    ids::{Ref, SessionId},
    server::{OkBody, Pong, WireError},
};

use super::{
    Connection, Ctx, Standing,
    hello::rfc3339,
    lane::{Entry, Origin, Outcome, Start},
    output::{bound, wire},
    rate::Verdict,
};
use crate::{
    ids,
    principal::Principal,
    session::message::{self, AttachmentId, SessionCommand, SessionError, SessionReply, Submit},
};

/// What a client waits when it is over a bound of its connection.
const BOUND_MS: u64 = 500;

impl Connection {
    /// Takes a frame.
    pub(super) fn command(&mut self, frame: ClientFrame, ctx: &mut Ctx) {
        let ClientFrame { reference, command } = frame;
        let op = command.op();
        let principal = match (&self.standing, &command) {
            (Standing::Known(principal), _) => principal.clone(),
            (Standing::Stranger { .. }, Command::Hello(_)) => return self.greeting(reference, command, ctx),
            (Standing::Stranger { .. }, _) => {
                let error = WireError::of(ErrorCode::Unauthenticated, "say hello first");
                return self.refuse(Some(op), Some(reference), error, ctx);
            }
        };
        let limit = self.deps.config.pending_commands;
        if self.pending >= limit {
            return self.refuse(
                Some(op),
                Some(reference),
                bound("pending_commands", limit, BOUND_MS),
                ctx,
            );
        }
        let origin = Origin::Client {
            op,
            reference: reference.clone(),
        };
        match command {
            Command::Hello(_) => self.greeting(reference, command, ctx),
            Command::TokenUpdate(update) => self.token(reference, update, ctx),
            Command::Ping => {
                let time = rfc3339(self.deps.clock.now_ms());
                self.confirm(op, reference, Pong::new(time), ctx);
            }
            Command::Attach(attach) => self.attach(reference, attach, &principal, ctx),
            Command::Detach(detach) => self.detach(&detach.session, origin, ctx),
            Command::Send(send) => self.submit(send, origin, ctx),
            Command::Unqueue(unqueue) => {
                self.dispatch(
                    &unqueue.session,
                    origin,
                    SessionCommand::Unqueue { id: unqueue.id },
                    ctx,
                );
            }
            Command::Cancel(cancel) => {
                self.dispatch(&cancel.session, origin, SessionCommand::Cancel { run: cancel.run }, ctx);
            }
            Command::Typing(typing) => self.typing(&typing, origin, ctx),
            Command::Resume(resume) => self.resume(resume, &principal, origin, ctx),
            Command::Edit(edit) => {
                let change = message::Edit {
                    message: edit.message,
                    submit: Submit::new(ids::user_message(), edit.content),
                };
                self.dispatch(&edit.session, origin, SessionCommand::Edit(change), ctx);
            }
            Command::Regenerate(again) => {
                let command = SessionCommand::Regenerate { message: again.message };
                self.dispatch(&again.session, origin, command, ctx);
            }
            Command::Settings(change) => {
                let command = SessionCommand::Configure(Box::new(change.settings));
                self.dispatch(&change.session, origin, command, ctx);
            }
        }
    }

    fn greeting(&mut self, reference: Ref, command: Command, ctx: &mut Ctx) {
        if let Command::Hello(hello) = command {
            self.hello(reference, hello, ctx);
        }
    }

    /// Counts a message against the bound on commands per second; [`Verdict::Taken`] is `None`.
    pub(super) fn too_fast(&mut self) -> Option<Verdict> {
        let config = &self.deps.config;
        let verdict = self.rate.take(
            self.deps.clock.instant(),
            config.commands_per_second,
            config.commands_burst,
        );
        (verdict != Verdict::Taken).then_some(verdict)
    }

    /// Refuses what came too fast; closes when that does not help.
    pub(super) fn slow_down(&mut self, op: Option<Op>, reference: Option<Ref>, verdict: Verdict, ctx: &mut Ctx) {
        let (Verdict::Refused(wait) | Verdict::Hopeless(wait)) = verdict else {
            return;
        };
        let after_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).saturating_add(1);
        let limit = self.deps.config.commands_per_second;
        let error = WireError {
            code: ErrorCode::RateLimited,
            ..bound("commands_per_second", limit, after_ms)
        };
        self.refuse(op, reference, error, ctx);
        if matches!(verdict, Verdict::Hopeless(_)) {
            let reason = CloseReason {
                retry: true,
                after_ms: Some(after_ms),
            };
            self.close_with(CloseCode::RateLimited, reason, ctx);
        }
    }

    /// Takes what could not be read as a frame.
    pub(super) fn unreadable(&mut self, error: FrameError, ctx: &mut Ctx) {
        let fatal = error.fatal;
        let op = error
            .details
            .get("op")
            .and_then(|op| op.as_str())
            .and_then(|op| op.parse().ok());
        let reference = error.reference.clone();
        self.refuse(op, reference, error.into(), ctx);
        if fatal {
            self.close(CloseCode::BadFrame, ctx);
        }
    }

    /// Puts a command into the lane of its session, behind those that are there.
    fn dispatch(&mut self, session: &SessionId, origin: Origin, command: SessionCommand, ctx: &mut Ctx) {
        self.pending += 1;
        if self.is_asleep(session) && !matches!(command, SessionCommand::Attach(_)) {
            self.wake(session, ctx);
        }
        self.lanes
            .entry(session.clone())
            .or_default()
            .push(Entry::new(origin, command));
        self.pump(session, ctx);
    }

    /// Answers a command without the session, but not before the answers that come first.
    fn settle(&mut self, session: &SessionId, origin: Origin, outcome: Outcome, ctx: &mut Ctx) {
        if let Some(lane) = self.lanes.get_mut(session).filter(|lane| lane.has_entries()) {
            self.pending += 1;
            return lane.push(Entry::answered(origin, outcome));
        }
        let Origin::Client { op, reference } = origin else {
            return;
        };
        match outcome {
            Ok(_) => self.confirm(op, reference, OkBody::Done, ctx),
            Err(error) => self.refuse(Some(op), Some(reference), wire(error), ctx),
        }
    }

    fn submit(&mut self, send: Send, origin: Origin, ctx: &mut Ctx) {
        let Send {
            session,
            id,
            content,
            mode,
            run,
            ..
        } = send;
        self.dispatch(
            &session,
            origin,
            SessionCommand::Submit(Submit {
                mode,
                run,
                ..Submit::new(id, content)
            }),
            ctx,
        );
    }

    /// Answers questions of a session's run, in the name of this device.
    fn resume(&mut self, resume: Resume, principal: &Principal, origin: Origin, ctx: &mut Ctx) {
        let answers = message::Resume {
            answers: resume.answers.into_iter().map(Into::into).collect(),
            results: Vec::new(),
            all: false,
            by: message::AnsweredBy {
                user: Some(principal.user.clone()),
                connection: Some(self.id.clone()),
                device: self.client.as_ref().map(|client| client.name.to_string()),
            },
        };
        self.dispatch(&resume.session, origin, SessionCommand::Resume(answers), ctx);
    }

    /// Ends the newest cursor on a session. Without one it is done already.
    fn detach(&mut self, session: &SessionId, origin: Origin, ctx: &mut Ctx) {
        match self.newest_attachment(session) {
            Some(attachment) if self.is_asleep(session) => {
                if let Standing::Known(caller) = &self.standing {
                    self.deps.directory.forget(&caller.user, session, attachment);
                }
                self.drop_cursor(session);
                self.settle(session, origin, Ok(SessionReply::Done), ctx);
                self.flush(session, ctx);
            }
            Some(attachment) => self.dispatch(session, origin, SessionCommand::Detach { attachment }, ctx),
            None => self.settle(session, origin, Ok(SessionReply::Done), ctx),
        }
    }

    fn typing(&mut self, typing: &Typing, origin: Origin, ctx: &mut Ctx) {
        if self.is_asleep(&typing.session) {
            // It is the cursor's new number that the session will know.
            self.wake(&typing.session, ctx);
        }
        match self.newest_attachment(&typing.session) {
            Some(attachment) => {
                let command = SessionCommand::Typing {
                    attachment,
                    on: typing.on,
                };
                self.dispatch(&typing.session, origin, command, ctx);
            }
            None => {
                let error = SessionError::new(ErrorCode::Conflict, "attach the session first");
                self.settle(&typing.session, origin, Err(error), ctx);
            }
        }
    }

    /// Whether the session has left memory under the cursor that stands, and nothing waits to be asked of it.
    fn is_asleep(&self, session: &SessionId) -> bool {
        let lane = self.lanes.get(session).filter(|lane| !lane.has_entries());
        lane.and_then(|lane| lane.attachment.as_ref())
            .is_some_and(|attachment| attachment.asleep)
    }

    fn newest_attachment(&self, session: &SessionId) -> Option<AttachmentId> {
        let number = self.lanes.get(session)?.newest_number()?;
        Some(AttachmentId {
            connection: self.id.clone(),
            number,
        })
    }

    /// Starts a cursor: on a session, on the caller's feed, or on a session made for it.
    fn attach(&mut self, reference: Ref, attach: Attach, principal: &Arc<Principal>, ctx: &mut Ctx) {
        let Attach { session, after, tail } = attach;
        let key = match &session {
            AttachTarget::Existing(id) => Some(id.clone()),
            AttachTarget::Feed => Some(self.feed.clone()),
            AttachTarget::New { .. } => None,
        };
        let origin = Origin::Client {
            op: Op::Attach,
            reference: reference.clone(),
        };
        let again = key
            .as_ref()
            .and_then(|key| self.lanes.get(key))
            .is_some_and(|lane| lane.is_attached());
        let limit = self.deps.config.attachments;
        if !again && self.lanes.values().filter(|lane| lane.is_attached()).count() + self.creating >= limit {
            return self.refuse(
                Some(Op::Attach),
                Some(reference),
                bound("attachments", limit, BOUND_MS),
                ctx,
            );
        }
        match (session, key) {
            (AttachTarget::New { title, settings }, _) => {
                self.create(
                    origin,
                    title,
                    settings.unwrap_or_default(),
                    Start { after, tail },
                    principal,
                    ctx,
                );
            }
            (_, Some(key)) => {
                let command = self.attach_command(Start { after, tail }, ctx);
                self.dispatch(&key, origin, command, ctx);
            }
            (AttachTarget::Existing(_) | AttachTarget::Feed, None) => self.fail("an attach without a session", ctx),
        }
    }

    /// Makes a session and attaches it.
    fn create(
        &mut self,
        origin: Origin,
        title: Option<String>,
        settings: SessionSettings,
        start: Start,
        owner: &Arc<Principal>,
        ctx: &mut Ctx,
    ) {
        self.pending += 1;
        self.creating += 1;
        let (directory, owner) = (self.deps.directory.clone(), owner.clone());
        let made = async move { directory.create(&owner, title, settings).await };
        ctx.spawn(made.into_actor(self).map(move |made, this, ctx| {
            this.pending = this.pending.saturating_sub(1);
            this.creating = this.creating.saturating_sub(1);
            match made {
                Ok(session) => {
                    let key = session.id().clone();
                    this.lanes.entry(key.clone()).or_default().found(session);
                    let command = this.attach_command(start, ctx);
                    this.dispatch(&key, origin, command, ctx);
                }
                Err(error) => {
                    let Origin::Client { op, reference } = origin else {
                        return;
                    };
                    this.refuse(Some(op), Some(reference), wire(error), ctx);
                }
            }
        }));
    }
}
