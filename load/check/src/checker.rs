//! The promises of the protocol, checked on every frame a client receives.
//!
//! Pure: frames and commands go in, a [`Violation`] comes out. What a session was sent is in `checker/track.rs`.

mod track;

use std::collections::{HashMap, VecDeque};

use kronos_protocol::{
    AttachTarget, Command, Cursor, EventKind, MessageId, OkBody, Ref, RunId, Seq, ServerFrame, SessionId,
};

pub use track::Track;

/// A promise that the server broke.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Positions were left out.
    #[error("session {session}: gap: after seq {after} came {found}")]
    Gap {
        /// The session.
        session: SessionId,
        /// The last position before.
        after: Seq,
        /// The position that came instead of the next one.
        found: Seq,
    },
    /// A position came again, alone or within a merged entry.
    #[error("session {session}: seq {found} came again, {after} had been reached")]
    Repeated {
        /// The session.
        session: SessionId,
        /// The last position before.
        after: Seq,
        /// The position that came again.
        found: Seq,
    },
    /// An entry's `first` is behind its `seq`, or its event is not one that may be merged.
    #[error("session {session}: seq {seq} cannot be merged from {first} on: {kind}")]
    Merged {
        /// The session.
        session: SessionId,
        /// The entry's `first`.
        first: Seq,
        /// The entry's `seq`.
        seq: Seq,
        /// The event's type.
        kind: EventKind,
    },
    /// The epoch changed without an `attach`.
    #[error("session {session}: epoch {found} at seq {seq}, attached in {epoch}")]
    Epoch {
        /// The session.
        session: SessionId,
        /// The epoch of the attachment.
        epoch: String,
        /// The epoch of the frame.
        found: String,
        /// The first position in the frame.
        seq: Seq,
    },
    /// Something came for a session that is not attached.
    #[error("session {session}: {op} came, but it is not attached")]
    NotAttached {
        /// The session.
        session: SessionId,
        /// What came.
        op: &'static str,
    },
    /// The reply to `attach` promised something else than what came, or contradicts itself.
    #[error("session {session}: attach: {what} (seq {seq})")]
    Attach {
        /// The session.
        session: SessionId,
        /// The position at which it shows.
        seq: Seq,
        /// What is wrong.
        what: &'static str,
    },
    /// The events of the run are not in an order that AG-UI's verifier accepts.
    #[error("session {session}: seq {seq}, run {run}: {reason}")]
    Order {
        /// The session.
        session: SessionId,
        /// The position.
        seq: Seq,
        /// The run.
        run: RunId,
        /// What the verifier says.
        reason: String,
    },
    /// A reply came to a `ref` that was not asked, or a second one.
    #[error("ref {reference}: a reply that nobody waits for")]
    Reply {
        /// The `ref`.
        reference: Ref,
    },
    /// The reply to a later command of the same session came first.
    #[error("ref {reference}: its reply overtook that of {waiting} (same session)")]
    Overtook {
        /// The reply that came.
        reference: Ref,
        /// The command that was sent before it.
        waiting: Ref,
    },
}

/// A command that waits for its reply.
#[derive(Debug, Clone)]
struct Asked {
    reference: Ref,
    what: What,
}

/// What of a command matters for its reply.
#[derive(Debug, Clone)]
enum What {
    Attach { after: Option<Cursor>, tail: bool },
    Detach(SessionId),
    Send(SessionId, MessageId),
    Unqueue(SessionId, MessageId),
    Other,
}

impl What {
    fn of(command: &Command) -> Self {
        match command {
            Command::Attach(attach) => Self::Attach {
                after: attach.after.clone(),
                tail: attach.tail.is_some(),
            },
            Command::Detach(detach) => Self::Detach(detach.session.clone()),
            Command::Send(send) => Self::Send(send.session.clone(), send.id.clone()),
            Command::Unqueue(unqueue) => Self::Unqueue(unqueue.session.clone(), unqueue.id.clone()),
            Command::Hello(_)
            | Command::Cancel(_)
            | Command::Resume(_)
            | Command::Edit(_)
            | Command::Regenerate(_)
            | Command::Settings(_)
            | Command::Typing(_)
            | Command::TokenUpdate(_)
            | Command::Ping => Self::Other,
        }
    }
}

/// Follows one client: what it asked, and what every session has been sent.
#[derive(Debug, Default)]
pub struct Checker {
    sessions: HashMap<SessionId, Track>,
    /// By session as the command names it; replies keep the order of commands within one.
    waiting: HashMap<String, VecDeque<Asked>>,
    /// Keeps no transcripts.
    lean: bool,
}

impl Checker {
    /// Returns one that keeps no transcripts: those of its tracks stay empty.
    #[must_use]
    pub fn lean() -> Self {
        Self {
            lean: true,
            ..Self::default()
        }
    }

    /// Takes note of a command before it is sent.
    pub fn asked(&mut self, reference: &Ref, command: &Command) {
        self.wait_for(lane(reference, command), reference, What::of(command));
    }

    /// Takes note that something with this `ref` is sent that is not a command of this protocol version.
    pub fn asked_anything(&mut self, reference: &Ref) {
        self.wait_for(String::new(), reference, What::Other);
    }

    fn wait_for(&mut self, lane: String, reference: &Ref, what: What) {
        self.waiting.entry(lane).or_default().push_back(Asked {
            reference: reference.clone(),
            what,
        });
    }

    /// Returns the commands that have no reply yet.
    #[must_use]
    pub fn unanswered(&self) -> Vec<Ref> {
        self.waiting
            .values()
            .flatten()
            .map(|asked| asked.reference.clone())
            .collect()
    }

    /// Takes note that the connection is gone: nothing is attached, no reply will come. Positions are kept.
    pub fn disconnected(&mut self) {
        self.waiting.clear();
        for track in self.sessions.values_mut() {
            track.detach();
        }
    }

    /// Checks a frame that was received.
    ///
    /// # Errors
    /// The promise that it breaks.
    pub fn received(&mut self, frame: &ServerFrame) -> Result<(), Violation> {
        match frame {
            ServerFrame::Ok { reference, body } => {
                let what = self.answered(reference)?;
                self.done(what, body)
            }
            ServerFrame::Error {
                reference: Some(reference),
                ..
            } => self.answered(reference).map(|_| ()),
            ServerFrame::Error { reference: None, .. } | ServerFrame::Goaway(_) => Ok(()),
            ServerFrame::Events(events) => self.attached(&events.session, "events")?.events(events),
            ServerFrame::CaughtUp(frame) => self.attached(&frame.session, "caught_up")?.caught_up(frame.seq),
            ServerFrame::Presence(frame) => self.attached(&frame.session, "presence").map(|_| ()),
        }
    }

    fn answered(&mut self, reference: &Ref) -> Result<What, Violation> {
        let place = |lane: &VecDeque<Asked>| lane.iter().position(|asked| &asked.reference == reference);
        let found = self
            .waiting
            .iter_mut()
            .find_map(|(name, lane)| Some((name.clone(), place(lane)?, lane)));
        let unknown = || Violation::Reply {
            reference: reference.clone(),
        };
        let (name, at, lane) = found.ok_or_else(unknown)?;
        let asked = lane.remove(at).ok_or_else(unknown)?;
        match lane.front().filter(|_| at > 0) {
            Some(waiting) => Err(Violation::Overtook {
                reference: asked.reference,
                waiting: waiting.reference.clone(),
            }),
            None => {
                if lane.is_empty() {
                    self.waiting.remove(&name);
                }
                Ok(asked.what)
            }
        }
    }

    /// Goes on after `seq`, whatever came before: for who has reported that positions were left out or came again.
    pub(crate) fn resync(&mut self, session: &SessionId, seq: Seq) {
        if let Some(track) = self.sessions.get_mut(session) {
            track.resync(seq);
        }
    }

    fn done(&mut self, what: What, body: &OkBody) -> Result<(), Violation> {
        match (what, body) {
            (What::Attach { after, tail }, OkBody::Attached(attached)) => {
                let track = self
                    .sessions
                    .entry(attached.session.clone())
                    .or_insert_with(|| Track::new(attached, self.lean));
                track.attach(attached, after.as_ref(), tail)
            }
            (What::Detach(session), _) => {
                if let Some(track) = self.sessions.get_mut(&session) {
                    track.detach();
                }
                Ok(())
            }
            (What::Send(session, id), OkBody::Sent(sent)) => {
                if let Some(track) = self.sessions.get_mut(&session) {
                    track.sent(id, sent);
                }
                Ok(())
            }
            (What::Unqueue(session, id), _) => {
                if let Some(track) = self.sessions.get_mut(&session) {
                    track.unqueued(&id);
                }
                Ok(())
            }
            (What::Attach { .. } | What::Send(..) | What::Other, _) => Ok(()),
        }
    }

    fn attached(&mut self, session: &SessionId, op: &'static str) -> Result<&mut Track, Violation> {
        let attached = self.sessions.get_mut(session).filter(|track| track.is_attached());
        attached.ok_or_else(|| Violation::NotAttached {
            session: session.clone(),
            op,
        })
    }

    /// Returns what is known of a session, if it was ever attached.
    pub fn track(&self, session: &str) -> Option<&Track> {
        self.sessions.get(session)
    }
}

/// Names the order a command belongs to. A new session has no name yet, so each `attach` for one stands alone.
fn lane(reference: &Ref, command: &Command) -> String {
    match command {
        Command::Attach(attach) => match &attach.session {
            AttachTarget::New { .. } => format!("new {reference}"),
            AttachTarget::Existing(_) | AttachTarget::Feed => attach.session.as_str().to_owned(),
        },
        Command::Detach(command) => command.session.as_str().to_owned(),
        Command::Send(command) => command.session.as_str().to_owned(),
        Command::Unqueue(command) => command.session.as_str().to_owned(),
        Command::Cancel(command) => command.session.as_str().to_owned(),
        Command::Resume(command) => command.session.as_str().to_owned(),
        Command::Edit(command) => command.session.as_str().to_owned(),
        Command::Regenerate(command) => command.session.as_str().to_owned(),
        Command::Settings(command) => command.session.as_str().to_owned(),
        Command::Typing(command) => command.session.as_str().to_owned(),
        Command::Hello(_) | Command::TokenUpdate(_) | Command::Ping => String::new(),
    }
}

/// Whether several events of this kind may travel as one entry.
fn may_be_merged(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::TextMessageContent | EventKind::ToolCallArgs | EventKind::ReasoningMessageContent
    )
}

#[cfg(test)]
mod tests;
