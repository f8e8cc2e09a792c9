//! The state of a session: `apply(state, event)`, the fold of its log.
//!
//! Pure. Whatever is here can be had again from the log; nothing else decides what a session is.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
};

use kronos_protocol::{
    client::{RunOptions, SendMode},
    error::RunErrorCode,
    event::{Event, RunError, RunFinished, RunStarted, TextMessageStart, TextRole},
    ids::{MessageId, RunId},
    message::{Message, UserContent},
    position::Seq,
    verify::{OrderError, Verifier},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::log::Stored;
use crate::clock::Millis;

/// `CUSTOM` name of a message that waits behind a run: `{messageId, queued, message, mode}`.
pub const MESSAGE_ACCEPTED: &str = "kronos.message_accepted";
/// `CUSTOM` name of a queued message that was taken back: `{messageId}`.
pub const MESSAGE_UNQUEUED: &str = "kronos.message_unqueued";

/// `CUSTOM` name of a new title: `{title}`.
pub const TITLE_CHANGED: &str = "kronos.title_changed";

/// What [`TITLE_CHANGED`] carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Retitled {
    /// The title.
    pub title: String,
}

/// What [`MESSAGE_ACCEPTED`] carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Its id.
    pub message_id: MessageId,
    /// It waits.
    pub queued: bool,
    /// The user message.
    pub message: Message,
    /// How it waits.
    pub mode: SendMode,
}

/// What [`MESSAGE_UNQUEUED`] carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unqueued {
    /// The message.
    pub message_id: MessageId,
}

/// What a `RUN_STARTED` keeps beside it, unseen by clients.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RunRecord {
    /// The number of this attempt at its turn, from 1.
    pub attempt: u32,
    /// Options that came with the message.
    #[serde(default)]
    pub options: RunOptions,
}

/// A message of the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Said {
    /// Its id.
    pub id: MessageId,
    /// When it was begun.
    pub at_ms: Millis,
    /// Who said it, and what.
    pub body: Body,
    /// Left out of what the model reads: blocked, or an attempt that was made again.
    pub hidden_from_model: bool,
}

/// What was said.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// By the user.
    User(UserContent),
    /// By whoever set the conversation up; the model reads it as its system prompt.
    System(String),
    /// By the assistant.
    Assistant {
        /// The text so far.
        text: String,
        /// It is complete.
        complete: bool,
        /// The provider's raw parts, to be sent back unchanged.
        parts: Option<Vec<Value>>,
    },
}

impl Body {
    /// The text of it.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::User(content) => content.text(),
            Self::System(text) | Self::Assistant { text, .. } => Cow::Borrowed(text),
        }
    }

    fn push(&mut self, delta: &str) {
        match self {
            Self::User(UserContent::Text(text)) | Self::System(text) | Self::Assistant { text, .. } => {
                text.push_str(delta);
            }
            // What came as parts came whole.
            Self::User(UserContent::Parts(_)) => {}
        }
    }
}

/// A message that waits behind the active run.
#[derive(Debug, Clone, PartialEq)]
pub struct Queued {
    /// Its id.
    pub id: MessageId,
    /// What it says.
    pub content: UserContent,
    /// Options of its run.
    pub options: RunOptions,
}

/// The active run.
#[derive(Debug, Clone, PartialEq)]
pub struct ActiveRun {
    /// Its id.
    pub id: RunId,
    /// The message it answers.
    pub message: MessageId,
    /// The number of this attempt at its turn.
    pub attempt: u32,
    /// Options that came with the message.
    pub options: RunOptions,
    /// When it started.
    pub started_ms: Millis,
}

/// A turn whose last run was interrupted (crash, drain) and which may be tried again.
#[derive(Debug, Clone, PartialEq)]
pub struct InterruptedTurn {
    /// The message to answer.
    pub message: MessageId,
    /// Attempts made.
    pub attempts: u32,
    /// Options that came with the message.
    pub options: RunOptions,
}

/// What became of a `send`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Seq of the event that first carried the message.
    pub seq: Seq,
    /// The first run that answers it.
    pub run: Option<RunId>,
    /// It was taken back.
    pub removed: bool,
}

/// The fold of a session's log.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The conversation, oldest first.
    pub messages: Vec<Said>,
    /// Messages that wait.
    pub queue: VecDeque<Queued>,
    /// The active run.
    pub run: Option<ActiveRun>,
    /// A turn to try again.
    pub interrupted: Option<InterruptedTurn>,
    /// Every user message ever taken, by id.
    pub sends: HashMap<MessageId, Sent>,
    /// The model's thinking is being shown.
    pub reasoning_open: bool,
    /// The ordering rules of AG-UI.
    pub verifier: Verifier,
    /// When the last turn ended, or the last message came.
    pub updated_ms: Millis,
    /// The title, when it was changed since the conversation was made.
    pub title: Option<String>,
}

impl State {
    /// Takes an event into account.
    ///
    /// # Errors
    /// [`OrderError`] when the event may not follow what is there: nothing was changed then.
    pub fn apply(&mut self, seq: Seq, stored: &Stored) -> Result<(), OrderError> {
        if stored.run.is_some() {
            self.verifier.accept(&stored.event)?;
        }
        let at_ms = stored.event.timestamp().unwrap_or(0);
        match &stored.event {
            Event::RunStarted(event) => self.run_started(seq, event, stored.private.as_ref(), at_ms),
            Event::RunFinished(event) => self.run_finished(event, at_ms),
            Event::RunError(event) => self.run_failed(event, at_ms),
            Event::ReasoningMessageStart(_) => self.reasoning_open = true,
            Event::ReasoningMessageEnd(_) => self.reasoning_open = false,
            Event::TextMessageStart(event) => self.message_started(event, at_ms),
            Event::TextMessageContent(event) => {
                if let Some(body) = self.body_mut(&event.message_id) {
                    body.push(&event.delta);
                }
            }
            Event::TextMessageEnd(event) => {
                let raw = stored
                    .private
                    .as_ref()
                    .and_then(|private| private.get("parts"))
                    .and_then(Value::as_array);
                if let Some(Body::Assistant { complete, parts, .. }) = self.body_mut(&event.message_id) {
                    *complete = true;
                    *parts = raw.cloned();
                }
            }
            Event::Custom(event) if stored.run.is_none() => {
                self.custom(seq, &event.name, &event.value, stored.private.as_ref());
            }
            _ => {}
        }
        Ok(())
    }

    fn body_mut(&mut self, id: &MessageId) -> Option<&mut Body> {
        self.messages
            .iter_mut()
            .rev()
            .find(|said| said.id == *id)
            .map(|said| &mut said.body)
    }

    fn run_started(&mut self, seq: Seq, event: &RunStarted, private: Option<&Value>, at_ms: Millis) {
        let record: RunRecord = private
            .and_then(|value| serde_json::from_value(value.clone()).ok())
            .unwrap_or_default();
        let mut answers = None;
        for message in event.input.iter().flat_map(|input| &input.messages) {
            let Message::User(user) = message else { continue };
            answers = Some(user.id.clone());
            self.queue.retain(|queued| queued.id != user.id);
            let run = Some(event.run_id.clone());
            let sent = self.sends.entry(user.id.clone()).or_insert(Sent {
                seq,
                run: None,
                removed: false,
            });
            sent.run = sent.run.take().or(run);
            match self.messages.iter().position(|said| said.id == user.id) {
                // The turn is tried again: what the earlier attempt said is not for the model.
                Some(at) => self
                    .messages
                    .iter_mut()
                    .skip(at + 1)
                    .for_each(|said| said.hidden_from_model = true),
                None => self.messages.push(Said {
                    id: user.id.clone(),
                    at_ms,
                    body: Body::User(user.content.clone()),
                    hidden_from_model: false,
                }),
            }
        }
        self.interrupted = None;
        self.reasoning_open = false;
        self.updated_ms = at_ms;
        self.run = answers.map(|message| ActiveRun {
            id: event.run_id.clone(),
            message,
            attempt: record.attempt.max(1),
            options: record.options,
            started_ms: at_ms,
        });
    }

    fn run_finished(&mut self, _event: &RunFinished, at_ms: Millis) {
        self.run = None;
        self.updated_ms = at_ms;
    }

    fn run_failed(&mut self, event: &RunError, at_ms: Millis) {
        self.updated_ms = at_ms;
        let Some(run) = self.run.take() else { return };
        match event.code.as_deref() {
            Some(code) if code == RunErrorCode::Interrupted.as_str() => {
                self.interrupted = Some(InterruptedTurn {
                    message: run.message,
                    attempts: run.attempt,
                    options: run.options,
                });
            }
            // A blocked message stays blocked in the history: the model is not asked about it again.
            Some(code) if code == RunErrorCode::Blocked.as_str() => {
                if let Some(at) = self.messages.iter().position(|said| said.id == run.message) {
                    self.messages
                        .iter_mut()
                        .skip(at)
                        .for_each(|said| said.hidden_from_model = true);
                }
            }
            _ => {}
        }
    }

    fn message_started(&mut self, event: &TextMessageStart, at_ms: Millis) {
        let body = match event.role {
            // What was said elsewhere comes as messages of all roles.
            Some(TextRole::User) => Body::User(UserContent::Text(String::new())),
            Some(TextRole::System | TextRole::Developer) => Body::System(String::new()),
            Some(TextRole::Assistant) | None => Body::Assistant {
                text: String::new(),
                complete: false,
                parts: None,
            },
        };
        self.messages.push(Said {
            id: event.message_id.clone(),
            at_ms,
            body,
            hidden_from_model: false,
        });
    }

    fn custom(&mut self, seq: Seq, name: &str, value: &Value, private: Option<&Value>) {
        match name {
            MESSAGE_ACCEPTED => {
                let Ok(accepted) = serde_json::from_value::<Accepted>(value.clone()) else {
                    return;
                };
                let Message::User(user) = accepted.message else { return };
                let record: RunRecord = private
                    .and_then(|value| serde_json::from_value(value.clone()).ok())
                    .unwrap_or_default();
                self.sends.insert(
                    user.id.clone(),
                    Sent {
                        seq,
                        run: None,
                        removed: false,
                    },
                );
                self.queue.push_back(Queued {
                    id: user.id,
                    content: user.content,
                    options: record.options,
                });
            }
            MESSAGE_UNQUEUED => {
                let Ok(removed) = serde_json::from_value::<Unqueued>(value.clone()) else {
                    return;
                };
                self.queue.retain(|queued| queued.id != removed.message_id);
                if let Some(sent) = self.sends.get_mut(&removed.message_id) {
                    sent.removed = true;
                }
            }
            TITLE_CHANGED => {
                if let Ok(retitled) = serde_json::from_value::<Retitled>(value.clone()) {
                    self.title = Some(retitled.title);
                }
            }
            _ => {}
        }
    }

    /// Nothing was ever said in it.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.messages.is_empty() && self.sends.is_empty() && self.run.is_none()
    }

    /// There is a run, a message that waits, or a turn to try again (of at most `max_attempts`).
    pub fn has_work(&self, max_attempts: u32) -> bool {
        self.run.is_some() || !self.queue.is_empty() || self.retriable(max_attempts).is_some()
    }

    /// The interrupted turn, if it may be tried again.
    pub fn retriable(&self, max_attempts: u32) -> Option<&InterruptedTurn> {
        self.interrupted.as_ref().filter(|turn| turn.attempts < max_attempts)
    }

    /// What a message says, wherever it is.
    pub fn user_content(&self, id: &MessageId) -> Option<&UserContent> {
        let said = self
            .messages
            .iter()
            .find(|said| said.id == *id)
            .and_then(|said| match &said.body {
                Body::User(content) => Some(content),
                Body::System(_) | Body::Assistant { .. } => None,
            });
        said.or_else(|| {
            self.queue
                .iter()
                .find(|queued| queued.id == *id)
                .map(|queued| &queued.content)
        })
    }

    /// Messages of users and assistant.
    pub fn message_count(&self) -> u64 {
        let said = |said: &&Said| !matches!(said.body, Body::System(_));
        u64::try_from(self.messages.iter().filter(said).count()).unwrap_or(u64::MAX)
    }
}
