//! What a session is asked and what it answers: data only, so that the asker may one day be on another node.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use kronos_protocol::{
    client::{ClientInfo, RunOptions, SendMode, SessionSettings},
    codec::Codec,
    entry::LogEntry,
    error::ErrorCode,
    event::{TextRole, TokenUsage},
    ids::{ConnectionId, EpochId, InterruptId, MessageId, RunId, SessionId, UserId},
    message::{Interrupt, Message as ChatMessage, ResumeAnswer, ResumeStatus, Tool as ClientTool, UserContent},
    position::{Cursor, Seq},
};
use serde::{Deserialize, Serialize};
use tokio::sync::oneshot;

use super::marks::Note;
use crate::{
    clock::Millis,
    mailbox::{Mailbox, Queued},
    principal::Principal,
    store::SessionMeta,
    trace::Cause,
};

/// One command for a session, with who asks and where the answer goes.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SessionCall {
    /// Who asks. A caller that may not see the session gets `not_found`.
    pub caller: Arc<Principal>,
    /// What is asked.
    pub command: SessionCommand,
    /// Where the answer goes; dropped unanswered it answers [`SessionError::closed`] by itself.
    pub reply: ReplyTo,
}

/// A call on its way.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Posted {
    /// The call.
    pub(crate) call: SessionCall,
    /// Its place in the mailbox.
    pub(crate) queued: Queued,
}

/// The commands.
#[derive(Debug, Clone)]
pub enum SessionCommand {
    /// Starts a cursor. Answer: [`SessionReply::Attached`], then nothing until the first pull.
    Attach(Attach),
    /// Ends a cursor. Answer: [`SessionReply::Done`], also when there was none.
    Detach {
        /// The cursor.
        attachment: AttachmentId,
    },
    /// Asks for what is after `after`: one [`Delivery`] now or when there is news. No answer through [`ReplyTo`]
    /// (use [`ReplyTo::NONE`]). A second pull replaces the first.
    Pull {
        /// The cursor.
        attachment: AttachmentId,
        /// The last seq the reader has.
        after: Seq,
    },
    /// Offers a user message. Answer when durable: [`SessionReply::Sent`].
    Submit(Submit),
    /// Takes a queued message back. Answer when durable: [`SessionReply::Done`].
    Unqueue {
        /// The message.
        id: MessageId,
    },
    /// Stops the active run (or `run` only if it is the active one). Answer when durable: [`SessionReply::Cancelled`].
    Cancel {
        /// The run; absent: the active one.
        run: Option<RunId>,
    },
    /// Says that a device's user types, or has stopped. Answer: [`SessionReply::Done`].
    Typing {
        /// The cursor of that device.
        attachment: AttachmentId,
        /// Whether they type.
        on: bool,
    },
    /// Begins the conversation with what was said elsewhere, and answers its last message. Answer when all of it is durable:
    /// [`SessionReply::Sent`]; `conflict` when the conversation has begun already.
    Import(Import),
    /// Gives the conversation a title. Answer when durable: [`SessionReply::Done`].
    Rename {
        /// 1 to `title_chars` characters.
        title: String,
    },
    /// Answers questions that a run ended with. Answer when durable: [`SessionReply::Resumed`]; `conflict` (details:
    /// [`Verdict`]) when one was answered already, `not_found` for one that was never asked, `validation` for a payload that
    /// does not fit.
    Resume(Resume),
    /// Says something else in place of an earlier message, and runs from there; what followed stays as a branch. A run that is
    /// active is stopped. Answer when durable: [`SessionReply::Sent`].
    Edit(Edit),
    /// Answers an earlier message again; what followed stays as a branch. A run that is active is stopped. Answer when durable:
    /// [`SessionReply::Sent`].
    Regenerate {
        /// The message to answer, or the answer to replace; `None`: the last.
        message: Option<MessageId>,
    },
    /// Changes settings: what is absent stays. Answer when durable: [`SessionReply::Settings`].
    Configure(Box<SessionSettings>),
    /// Goes on in another branch. Answer when durable: [`SessionReply::Done`].
    SelectBranch {
        /// The branch.
        branch: String,
    },
    /// Reads what became of a run. Answer: [`SessionReply::Run`]; `not_found` for one that is not (any more) known.
    Run {
        /// The run.
        run: RunId,
    },
    /// The user has an account of this toolkit now: whatever waited for it goes on. Answer: [`SessionReply::Done`].
    Connected {
        /// The toolkit.
        toolkit: String,
    },
    /// Reads a page of the conversation. Answer: [`SessionReply::View`]; `not_found` for a message that is not in it.
    View(Page),
    /// Deletes the conversation. Answer when durable: [`SessionReply::Done`]; from then on it does not exist.
    Delete {
        /// Refuse with `busy` while it has unfinished work.
        unless_busy: bool,
    },
    /// Deletes whatever it is, a feed too, with its run: its owner is gone. Also one whose log cannot be read. Answer when
    /// durable: [`SessionReply::Done`].
    Erase,
    /// Appends a `CUSTOM` event without a run (a user's feed). Answer when durable: [`SessionReply::Done`].
    Notify {
        /// Its name, `kronos.…`.
        name: String,
        /// Its value.
        value: serde_json::Value,
    },
}

impl SessionCommand {
    /// Whether a run may begin with it.
    #[must_use]
    pub const fn may_begin_a_run(&self) -> bool {
        matches!(
            self,
            Self::Submit(_) | Self::Import(_) | Self::Resume(_) | Self::Edit(_) | Self::Regenerate { .. }
        )
    }
}

/// One cursor: a connection and a number that it never uses twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttachmentId {
    /// The connection.
    pub connection: ConnectionId,
    /// The connection's own number for this attachment.
    pub number: u64,
}

/// Starts a cursor.
#[derive(Debug, Clone)]
pub struct Attach {
    /// Its id. Another attachment of the same connection to this session is replaced.
    pub attachment: AttachmentId,
    /// What the client said about itself.
    pub client: Option<ClientInfo>,
    /// The form in which the reader takes events.
    pub form: Form,
    /// The last event the reader has; `None` from the beginning.
    pub after: Option<Cursor>,
    /// Only the last n events of history (when `after` is absent).
    pub tail: Option<u32>,
    /// Where deliveries go; at most one batch and one presence frame are ever on their way.
    pub sink: Recipient<Delivery>,
}

/// The form in which a reader takes events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Encoded `events` frames, shared by all readers of the same codec and position.
    Frame(Codec),
    /// Entries, for readers inside the process (REST).
    Entries,
}

/// A user message on its way in.
#[derive(Debug, Clone)]
pub struct Submit {
    /// Chosen by the client: message id and idempotency key.
    pub id: MessageId,
    /// The text or parts.
    pub content: UserContent,
    /// What to do when a run is active.
    pub mode: SendMode,
    /// Options of the run it starts.
    pub run: RunOptions,
    /// What the model is to know beside the conversation, in this turn only.
    pub context: Option<String>,
    /// Tools that the client runs itself.
    pub client_tools: Vec<ClientTool>,
}

impl Submit {
    /// A message with everything else as usual.
    #[must_use]
    pub fn new(id: MessageId, content: UserContent) -> Self {
        Self {
            id,
            content,
            mode: SendMode::default(),
            run: RunOptions::default(),
            context: None,
            client_tools: Vec::new(),
        }
    }
}

/// Answers to questions.
#[derive(Debug, Clone)]
pub struct Resume {
    /// The answers: questions ([`Interrupt`]) by id.
    pub answers: Vec<ResumeAnswer>,
    /// Results of calls that the client ran itself, by call.
    pub results: Vec<(String, UserContent)>,
    /// Refuse unless every open question is answered, as AG-UI has it.
    pub all: bool,
    /// Who answers.
    pub by: AnsweredBy,
}

/// Who answered a question.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AnsweredBy {
    /// The user; absent: nobody (a deadline, a connection that was made).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<UserId>,
    /// The websocket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<ConnectionId>,
    /// The client program, or `rest`, `deadline`, `connection`, `message`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}

/// What became of a question: in `details` of the `conflict` that a later answer gets, and in `kronos.interrupt_answered`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// The question.
    pub interrupt_id: InterruptId,
    /// The call it was about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Whether it was answered.
    pub status: ResumeStatus,
    /// In one word: `approved`, `rejected`, `retry`, `skip`, `result`, `connected`, `cancelled`, `expired`, `superseded`.
    pub verdict: String,
    /// Who answered.
    pub answered_by: AnsweredBy,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: Millis,
}

/// Another text for an earlier message.
#[derive(Debug, Clone)]
pub struct Edit {
    /// The message to change.
    pub message: MessageId,
    /// What it says now, with the new message's id.
    pub submit: Submit,
}

/// A conversation that was held elsewhere, and the message that is to be answered here.
#[derive(Debug, Clone)]
pub struct Import {
    /// What was said before, oldest first.
    pub history: Vec<Past>,
    /// The message to answer.
    pub submit: Submit,
}

/// A message that was said elsewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct Past {
    /// Its id here.
    pub id: MessageId,
    /// Who said it.
    pub role: TextRole,
    /// What was said.
    pub text: String,
    /// When, if known.
    pub at_ms: Option<Millis>,
}

/// A part of a conversation's messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// The newest of all, or of those before a message.
    Before {
        /// The message; `None`: the end.
        message: Option<MessageId>,
        /// At most so many.
        limit: usize,
    },
    /// Those from a place on, at most [`PAGE_BYTES`](super::view::PAGE_BYTES) of text (one larger message comes alone).
    From {
        /// The place of the first, counted from 0.
        place: usize,
        /// At most so many.
        limit: usize,
    },
}

impl Page {
    /// The newest `limit` messages.
    #[must_use]
    pub const fn last(limit: usize) -> Self {
        Self::Before { message: None, limit }
    }
}

/// The answers.
#[derive(Debug, Clone)]
pub enum SessionReply {
    /// Nothing to add.
    Done,
    /// The cursor stands.
    Attached(Attached),
    /// The message is durable.
    Sent {
        /// Seq of the event that carries the message.
        seq: Seq,
        /// The run it started, if it did.
        run: Option<RunId>,
        /// Its place in the queue, from 1, if it waits.
        queued: Option<u32>,
        /// It had been taken before: nothing was done now.
        duplicate: bool,
    },
    /// The run is over; `None`: there was none.
    Cancelled {
        /// The run.
        run: Option<RunId>,
        /// Tokens used until then.
        usage: Option<TokenUsage>,
    },
    /// The answers are taken.
    Resumed {
        /// Seq of the event that took the last of them.
        seq: Seq,
        /// The run that goes on; `None`: other questions are open still.
        run: Option<RunId>,
        /// The questions that are open still.
        open: Vec<InterruptId>,
    },
    /// The settings as they are now.
    Settings(Box<SessionSettings>),
    /// A run.
    Run(Box<RunView>),
    /// The conversation.
    View(Box<View>),
}

/// What became of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunView {
    /// The run.
    pub run: RunId,
    /// Its session.
    pub session: SessionId,
    /// The message that its turn answers.
    pub message: MessageId,
    /// Where it stands.
    pub status: RunStatus,
    /// When it began, in milliseconds since the Unix epoch.
    pub started_ms: Millis,
    /// When it ended.
    pub ended_ms: Option<Millis>,
    /// Steps it has taken.
    pub steps: u32,
    /// Tokens it used.
    pub usage: Vec<TokenUsage>,
    /// Code and text of what it failed with.
    pub error: Option<(String, String)>,
    /// Calls of the turn that this run made or goes on with.
    pub calls: Vec<CallView>,
    /// Open questions, when it waits for answers.
    pub interrupts: Vec<Interrupt>,
    /// The run that went on after this one was interrupted or answered.
    pub next: Option<RunId>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunStatus {
    /// It works.
    Running,
    /// It ended with questions that are open.
    Waiting,
    /// It ended with questions, which were answered since.
    Answered,
    /// It is done.
    Succeeded,
    /// It failed.
    Failed,
    /// Somebody stopped it.
    Cancelled,
}

/// One call of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct CallView {
    /// The call.
    pub id: String,
    /// The tool.
    pub tool: String,
    /// Its toolkit, once known.
    pub toolkit: Option<String>,
    /// The arguments as JSON text.
    pub arguments: String,
    /// `announced`, `waiting`, `running`, `done`, `failed`, `rejected`, `unknown`, …
    pub status: String,
    /// What it returned (cut when large), once it has.
    pub result: Option<String>,
}

/// A cursor that stands.
#[derive(Debug, Clone)]
pub struct Attached {
    /// The session, as the client names it (`@me` for a feed).
    pub session: SessionId,
    /// Identity of its history.
    pub epoch: EpochId,
    /// The newest committed event.
    pub head: Seq,
    /// The gap follows event by event; false: the first batch is a snapshot.
    pub recovered: bool,
    /// Where the reader's first pull starts.
    pub start: Seq,
    /// The session's settings.
    pub settings: SessionSettings,
}

/// A conversation as it is now (what is committed), with a page of its messages.
#[derive(Debug, Clone)]
pub struct View {
    /// Its listing.
    pub meta: SessionMeta,
    /// The messages of the page, oldest first, with the time of each in milliseconds since the Unix epoch.
    pub messages: Vec<(Millis, ChatMessage)>,
    /// The place of the page's first message in the conversation, counted from 0.
    pub from: usize,
    /// Messages of the conversation, system messages too.
    pub total: usize,
    /// The newest committed event.
    pub head: Seq,
    /// The active run.
    pub run: Option<RunId>,
}

/// What a session sends to a reader on its own.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Delivery {
    /// The cursor it is for.
    pub attachment: AttachmentId,
    /// What it is.
    pub payload: Payload,
    /// What is to be noted when it is written.
    pub(crate) note: Option<Box<Note>>,
    /// Its place in the mailbox.
    pub(crate) queued: Queued,
}

impl Delivery {
    /// A delivery on its way.
    #[must_use]
    pub fn new(attachment: AttachmentId, payload: Payload) -> Self {
        Self {
            attachment,
            payload,
            note: None,
            queued: Queued::new(Mailbox::Connection),
        }
    }
}

/// The kinds of [`Delivery`].
#[derive(Debug, Clone)]
pub enum Payload {
    /// The answer to a pull: the reader now has everything up to `upto`.
    Frame {
        /// Last seq in it.
        upto: Seq,
        /// An encoded `events` frame.
        bytes: Bytes,
    },
    /// The answer to a pull of [`Form::Entries`].
    Entries {
        /// Last seq in it.
        upto: Seq,
        /// It is a snapshot, not the log.
        snapshot: bool,
        /// The entries.
        entries: Arc<Vec<LogEntry>>,
    },
    /// An encoded `presence` frame.
    Presence {
        /// The frame.
        bytes: Bytes,
    },
    /// The session leaves memory because nobody needs it; the cursor stands. Nothing to do: [`Payload::Woken`] comes when
    /// there may be news, and any command finds the session again through the directory.
    Asleep,
    /// A session that slept is in memory again: attach again where the cursor stands.
    Woken,
    /// The cursor has ended: the session is gone, parked, or this attachment was replaced.
    Ended {
        /// Why.
        error: SessionError,
    },
}

/// An attachment of a session that is not in memory: what its directory keeps of it.
#[derive(Debug, Clone)]
pub struct Sleeper {
    /// The cursor.
    pub attachment: AttachmentId,
    /// Where [`Payload::Woken`] goes.
    pub sink: Recipient<Delivery>,
}

impl Sleeper {
    /// Tells the reader; one that is gone needs no telling.
    pub(crate) fn tell(&self, payload: Payload) {
        drop(self.sink.try_send(Delivery::new(self.attachment.clone(), payload)));
    }
}

/// The answer to a [`SessionCall`], for an actor.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct Reply {
    /// The number the asker gave.
    pub slot: u64,
    /// The answer.
    pub result: Result<SessionReply, SessionError>,
    /// Its place in the mailbox.
    pub(crate) queued: Queued,
}

/// Why a session did not do what it was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct SessionError {
    /// The code that clients, metrics and tests use.
    pub code: ErrorCode,
    /// The text that people read.
    pub message: String,
    /// More, as JSON; null when there is none.
    pub details: serde_json::Value,
    /// When a temporary error may be gone, in milliseconds.
    pub after_ms: Option<u64>,
    /// The session's actor ended before it could answer: ask the directory again and resend, once.
    pub closed: bool,
}

impl SessionError {
    /// An error with a code and a text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            details: serde_json::Value::Null,
            after_ms: None,
            closed: false,
        }
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: serde_json::Value) -> Self {
        self.details = details;
        self
    }

    /// The same with a time after which to try again.
    #[must_use]
    pub fn after_ms(mut self, after_ms: u64) -> Self {
        self.after_ms = Some(after_ms);
        self
    }

    /// The session's actor is gone.
    pub fn closed() -> Self {
        Self {
            closed: true,
            ..Self::new(ErrorCode::Overloaded, "the session is restarting")
        }
        .after_ms(200)
    }

    /// There is no such session, or it is somebody else's.
    pub fn not_found(session: &SessionId) -> Self {
        Self::new(ErrorCode::NotFound, format!("Conversation not found: {session}"))
            .with_details(serde_json::json!({"resource": "Conversation", "identifier": session.as_str()}))
    }
}

/// Where an answer goes. Dropped unanswered, it says that the session closed, so that nobody waits for ever.
#[derive(Debug)]
pub struct ReplyTo {
    target: Option<Target>,
    /// What asks, for the run that this may begin.
    cause: Option<Box<Cause>>,
}

enum Target {
    Mailbox { recipient: Recipient<Reply>, slot: u64 },
    Oneshot(oneshot::Sender<Result<SessionReply, SessionError>>),
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Mailbox { slot, .. } => write!(f, "Mailbox({slot})"),
            Self::Oneshot(_) => write!(f, "Oneshot"),
        }
    }
}

impl ReplyTo {
    /// Nobody waits.
    pub const NONE: Self = Self {
        target: None,
        cause: None,
    };

    /// Answers into an actor's mailbox. Each call takes its own clone of the address, so that the answer always has a
    /// place (actix counts `try_send` per clone).
    pub fn mailbox(recipient: Recipient<Reply>, slot: u64) -> Self {
        Self {
            target: Some(Target::Mailbox { recipient, slot }),
            cause: None,
        }
    }

    /// Says what asks, for the run that this may begin.
    #[must_use]
    pub fn caused_by(mut self, cause: Cause) -> Self {
        self.cause = Some(Box::new(cause));
        self
    }

    /// Takes what asks.
    pub(super) fn take_cause(&mut self) -> Option<Box<Cause>> {
        self.cause.take()
    }

    /// Answers a future. What asks is the HTTP request that this task serves, if any.
    pub fn oneshot() -> (Self, oneshot::Receiver<Result<SessionReply, SessionError>>) {
        let (tx, rx) = oneshot::channel();
        let reply = Self {
            target: Some(Target::Oneshot(tx)),
            cause: Cause::here(),
        };
        (reply, rx)
    }

    /// Answers.
    pub fn send(mut self, result: Result<SessionReply, SessionError>) {
        self.deliver(result);
    }

    fn deliver(&mut self, result: Result<SessionReply, SessionError>) {
        match self.target.take() {
            // A closed asker has no use for the answer.
            Some(Target::Mailbox { recipient, slot }) => drop(recipient.try_send(Reply {
                slot,
                result,
                queued: Queued::new(Mailbox::Connection),
            })),
            Some(Target::Oneshot(tx)) => drop(tx.send(result)),
            None => {}
        }
    }
}

impl Drop for ReplyTo {
    fn drop(&mut self) {
        if self.target.is_some() {
            self.deliver(Err(SessionError::closed()));
        }
    }
}
