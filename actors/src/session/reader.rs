//! A cursor inside the process: REST reads a session exactly as a socket does, by pulls.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use kronos_protocol::{
    entry::LogEntry,
    error::RunErrorCode,
    event::{Event, RunError, TokenUsage},
    ids::{MessageId, RunId},
    message::Message as ChatMessage,
    position::Seq,
};
use serde_json::Value;
use tokio::sync::mpsc;

use super::message::{
    Attach, AttachmentId, Delivery, Form, Payload, ReplyTo, SessionCall, SessionCommand, SessionError, SessionReply,
};
use crate::{
    directory::{DirectoryRef, SessionRef},
    ids,
    principal::Principal,
};

/// A batch and the end notice: a session has at most one of each on its way.
const DELIVERIES: usize = 2;
/// Time in which an interrupted turn must have started again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// Takes deliveries for a future.
struct Inbox(mpsc::Sender<Delivery>);

impl Actor for Inbox {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Inbox {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, ctx: &mut Self::Context) {
        if self.0.try_send(delivery).is_err() {
            ctx.stop();
        }
    }
}

/// A cursor on a session for a future: REST, SSE, exports.
pub struct SessionReader {
    directory: DirectoryRef,
    session: SessionRef,
    caller: Arc<Principal>,
    attachment: AttachmentId,
    deliveries: mpsc::Receiver<Delivery>,
    after: Seq,
}

impl SessionReader {
    /// Attaches a cursor that reads what comes after `after`.
    ///
    /// # Errors
    /// What the session answers: `not_found`, `overloaded`, …
    pub async fn attach(
        directory: &DirectoryRef,
        session: &SessionRef,
        caller: &Arc<Principal>,
        after: Seq,
    ) -> Result<Self, SessionError> {
        let attachment = AttachmentId {
            connection: ids::connection(),
            number: 1,
        };
        let deliveries = subscribe(session, caller, &attachment).await?;
        let (directory, session, caller) = (directory.clone(), session.clone(), Arc::clone(caller));
        Ok(Self {
            directory,
            session,
            caller,
            attachment,
            deliveries,
            after,
        })
    }

    /// Waits for the next delivery; while the session sleeps there is none.
    async fn delivery(&mut self) -> Option<Payload> {
        loop {
            match self.deliveries.recv().await.map(|delivery| delivery.payload) {
                Some(Payload::Asleep) => {}
                other => return other,
            }
        }
    }

    /// Waits for the next batch. A session that restarts is found again.
    ///
    /// # Errors
    /// When the session is gone for good.
    pub async fn next(&mut self) -> Result<Arc<Vec<LogEntry>>, SessionError> {
        loop {
            let command = SessionCommand::Pull {
                attachment: self.attachment.clone(),
                after: self.after,
            };
            let pull = SessionCall {
                caller: Arc::clone(&self.caller),
                command,
                reply: ReplyTo::NONE,
            };
            let ended = match self.session.call(pull) {
                Err(refused) => refused.1,
                Ok(()) => match self.delivery().await {
                    Some(Payload::Entries { upto, entries, .. }) => {
                        self.after = upto;
                        return Ok(entries);
                    }
                    Some(Payload::Ended { error }) => error,
                    Some(Payload::Woken) => SessionError::closed().after_ms(0),
                    Some(Payload::Frame { .. } | Payload::Presence { .. } | Payload::Asleep) => continue,
                    None => SessionError::closed(),
                },
            };
            if !ended.closed && ended.after_ms.is_none() {
                return Err(ended);
            }
            actix::clock::sleep(Duration::from_millis(ended.after_ms.unwrap_or(200))).await;
            self.session = self.directory.resolve(self.session.id()).await?;
            self.deliveries = subscribe(&self.session, &self.caller, &self.attachment).await?;
        }
    }
}

impl Drop for SessionReader {
    fn drop(&mut self) {
        let command = SessionCommand::Detach {
            attachment: self.attachment.clone(),
        };
        let call = SessionCall {
            caller: Arc::clone(&self.caller),
            command,
            reply: ReplyTo::NONE,
        };
        // A session that cannot take it notices at its next delivery.
        drop(self.session.call(call));
    }
}

async fn subscribe(
    session: &SessionRef,
    caller: &Arc<Principal>,
    attachment: &AttachmentId,
) -> Result<mpsc::Receiver<Delivery>, SessionError> {
    let (tx, rx) = mpsc::channel(DELIVERIES);
    let sink = Inbox(tx).start().recipient();
    let attach = Attach {
        attachment: attachment.clone(),
        client: None,
        form: Form::Entries,
        after: None,
        tail: None,
        sink,
    };
    ask(session, caller, SessionCommand::Attach(attach)).await?;
    Ok(rx)
}

/// Asks a session and waits for the answer.
///
/// # Errors
/// What the session answers.
pub async fn ask(
    session: &SessionRef,
    caller: &Arc<Principal>,
    command: SessionCommand,
) -> Result<SessionReply, SessionError> {
    let (reply, answer) = ReplyTo::oneshot();
    session
        .call(SessionCall {
            caller: Arc::clone(caller),
            command,
            reply,
        })
        .map_err(|refused| refused.1)?;
    answer.await.unwrap_or_else(|_| Err(SessionError::closed()))
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnResult {
    /// The assistant's message, if it said anything.
    pub message_id: Option<MessageId>,
    /// Its text.
    pub text: String,
    /// The model that answered.
    pub model: Option<String>,
    /// Tokens used.
    pub usage: Vec<TokenUsage>,
    /// When it ended, in milliseconds since the Unix epoch.
    pub finished_at_ms: i64,
    /// The run was cancelled.
    pub cancelled: bool,
    /// The run failed.
    pub error: Option<TurnError>,
}

/// Why a turn failed.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnError {
    /// A [`RunErrorCode`], as text.
    pub code: String,
    /// A sentence for the user.
    pub message: String,
    /// When a later try may succeed, in milliseconds.
    pub after_ms: Option<u64>,
    /// HTTP status of the upstream, when it answered.
    pub upstream_status: Option<u64>,
    /// Whether a later try may succeed, where the failure itself says so.
    pub retryable: Option<bool>,
}

#[derive(Default)]
struct Follow {
    run: Option<RunId>,
    message_id: Option<MessageId>,
    text: String,
    model: Option<String>,
    will_retry: bool,
}

/// Follows the turn of `message` (whose event has `seq`) to its end, over interruptions.
///
/// # Errors
/// When the session is gone, or an interrupted turn does not start again.
pub async fn run_to_end(
    directory: &DirectoryRef,
    session: &SessionRef,
    caller: &Arc<Principal>,
    message: &MessageId,
    seq: Seq,
) -> Result<TurnResult, SessionError> {
    let mut reader = SessionReader::attach(directory, session, caller, seq.saturating_sub(1)).await?;
    let mut follow = Follow::default();
    loop {
        let entries = if follow.will_retry {
            actix::clock::timeout(RETRY_TIMEOUT, reader.next())
                .await
                .map_err(|_elapsed| SessionError::closed())??
        } else {
            reader.next().await?
        };
        for entry in entries.iter() {
            if let Some(result) = follow.see(entry, message) {
                return Ok(result);
            }
        }
    }
}

impl Follow {
    fn see(&mut self, entry: &LogEntry, message: &MessageId) -> Option<TurnResult> {
        match &entry.event {
            Event::RunStarted(event) => {
                let messages = event.input.iter().flat_map(|input| &input.messages);
                if messages.map(ChatMessage::id).any(|id| id == message) {
                    *self = Self {
                        run: entry.run.clone(),
                        ..Self::default()
                    };
                }
                None
            }
            _ if self.run.is_none() || entry.run != self.run => None,
            Event::TextMessageStart(event) => {
                self.message_id = Some(event.message_id.clone());
                None
            }
            Event::TextMessageContent(event) => {
                self.text.push_str(&event.delta);
                None
            }
            Event::RunFinished(event) => {
                let about = event.metadata.as_ref().and_then(|metadata| metadata.get("kronos"));
                self.model = about
                    .and_then(|about| about.get("model"))
                    .and_then(Value::as_str)
                    .map(ToOwned::to_owned);
                let cancelled = matches!(event.outcome, Some(kronos_protocol::event::Outcome::Cancelled));
                Some(self.result(event.timestamp, event.usage.clone(), cancelled, None))
            }
            Event::RunError(event) => self.failed(event),
            _ => None,
        }
    }

    fn failed(&mut self, event: &RunError) -> Option<TurnResult> {
        let about = event.metadata.as_ref().and_then(|metadata| metadata.get("kronos"));
        let number = |name: &str| about.and_then(|about| about.get(name)).and_then(Value::as_u64);
        let interrupted = event.code.as_deref() == Some(RunErrorCode::Interrupted.as_str());
        if interrupted && about.and_then(|about| about.get("willRetry")).and_then(Value::as_bool) == Some(true) {
            self.will_retry = true;
            self.run = None;
            return None;
        }
        let error = TurnError {
            code: event.code.clone().unwrap_or_default(),
            message: event.message.clone(),
            after_ms: number("afterMs"),
            upstream_status: number("upstreamStatus"),
            retryable: about.and_then(|about| about.get("retryable")).and_then(Value::as_bool),
        };
        Some(self.result(event.timestamp, event.usage.clone(), false, Some(error)))
    }

    fn result(
        &mut self,
        at: Option<i64>,
        usage: Option<Vec<TokenUsage>>,
        cancelled: bool,
        error: Option<TurnError>,
    ) -> TurnResult {
        TurnResult {
            message_id: self.message_id.take(),
            text: std::mem::take(&mut self.text),
            model: self.model.take(),
            usage: usage.unwrap_or_default(),
            finished_at_ms: at.unwrap_or_default(),
            cancelled,
            error,
        }
    }
}
