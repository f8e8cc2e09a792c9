//! One turn, followed from its message to its end, over interruptions.

use std::{sync::Arc, time::Duration};

use kronos_protocol::{
    entry::LogEntry,
    error::{ErrorCode, RunErrorCode},
    event::{Event, Outcome, RunError, RunFinished, RunStarted, TokenUsage},
    ids::{EpochId, MessageId, RunId},
    message::Interrupt,
    position::Seq,
};
use serde_json::{Value, json};

use super::{Batch, SessionReader};
use crate::{
    directory::{DirectoryRef, SessionRef},
    principal::Principal,
    session::{message::SessionError, state::MESSAGE_UNQUEUED},
};

/// Time in which an interrupted turn must have started again.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);

/// A cursor that sees only what belongs to one turn: its run, and the runs in which it is tried again.
pub struct TurnReader {
    directory: DirectoryRef,
    session: SessionRef,
    caller: Arc<Principal>,
    reader: SessionReader,
    /// What it answers, if that is known.
    message: Option<MessageId>,
    /// The run it begins with, when that is known.
    first: Option<RunId>,
    /// It lies before what is followed: of the event with the message, or with the answers that the first run goes on with.
    seq: Seq,
    run: Option<RunId>,
    /// Of this run all but its end was seen, in a history that is no more.
    seen: Option<RunId>,
    will_retry: bool,
    ended: bool,
}

impl TurnReader {
    /// Follows the turn of `message`, whose event has `seq`.
    ///
    /// # Errors
    /// What the session answers.
    pub async fn attach(
        directory: &DirectoryRef,
        session: &SessionRef,
        caller: &Arc<Principal>,
        message: &MessageId,
        seq: Seq,
    ) -> Result<Self, SessionError> {
        Self::follow(directory, session, caller, (Some(message.clone()), None), seq).await
    }

    /// Follows `run`, which begins after `seq`, and the runs in which it is tried again: by the message that its turn answers,
    /// if that is known.
    ///
    /// # Errors
    /// What the session answers.
    pub async fn attach_run(
        directory: &DirectoryRef,
        session: &SessionRef,
        caller: &Arc<Principal>,
        (run, message): (&RunId, Option<&MessageId>),
        seq: Seq,
    ) -> Result<Self, SessionError> {
        let what = (message.cloned(), Some(run.clone()));
        Self::follow(directory, session, caller, what, seq).await
    }

    async fn follow(
        directory: &DirectoryRef,
        session: &SessionRef,
        caller: &Arc<Principal>,
        (message, first): (Option<MessageId>, Option<RunId>),
        seq: Seq,
    ) -> Result<Self, SessionError> {
        let reader = SessionReader::attach(directory, session, caller, seq.saturating_sub(1)).await?;
        Ok(Self {
            directory: directory.clone(),
            session: session.clone(),
            caller: Arc::clone(caller),
            reader,
            message,
            first,
            seq,
            run: None,
            seen: None,
            will_retry: false,
            ended: false,
        })
    }

    /// The history that the positions belong to.
    #[must_use]
    pub fn epoch(&self) -> &EpochId {
        self.reader.epoch()
    }

    /// The run that is active for this turn, as far as it was read.
    #[must_use]
    pub fn run(&self) -> Option<&RunId> {
        self.run.as_ref().filter(|_| !self.ended)
    }

    /// The turn is over.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.ended
    }

    /// Waits for the next entries of the turn; none when what came belongs to something else. May be dropped and called again.
    ///
    /// # Errors
    /// When the session is gone, the message was taken back before its run (`conflict`), or an interrupted turn does not start
    /// again.
    pub async fn next(&mut self) -> Result<Vec<LogEntry>, SessionError> {
        let epoch = self.reader.epoch().clone();
        let batch = if self.will_retry {
            actix::clock::timeout(RETRY_TIMEOUT, self.reader.next())
                .await
                .map_err(|_elapsed| SessionError::closed())??
        } else {
            self.reader.next().await?
        };
        if batch.snapshot || batch.epoch != epoch {
            self.start_over().await?;
            return Ok(Vec::new());
        }
        self.pick(&batch)
    }

    /// What was shown last may be lost: the turn is read from its message again, and what was seen of it is left out.
    async fn start_over(&mut self) -> Result<(), SessionError> {
        let session = self.directory.resolve(self.session.id()).await?;
        let after = self.seq.saturating_sub(1);
        self.reader = SessionReader::attach(&self.directory, &session, &self.caller, after).await?;
        self.session = session;
        self.seen = self.run.take();
        self.will_retry = false;
        Ok(())
    }

    fn pick(&mut self, batch: &Batch) -> Result<Vec<LogEntry>, SessionError> {
        let mut picked = Vec::new();
        for entry in batch.entries.iter() {
            if self.ended {
                break;
            }
            if self.is_ours(entry)? && self.is_new(entry) {
                picked.push(entry.clone());
            }
        }
        Ok(picked)
    }

    fn is_ours(&mut self, entry: &LogEntry) -> Result<bool, SessionError> {
        match &entry.event {
            Event::RunStarted(event) if self.begins_with(event) => {
                self.run.clone_from(&entry.run);
                self.will_retry = false;
            }
            Event::Custom(event)
                if entry.run.is_none()
                    && event.name == MESSAGE_UNQUEUED
                    && self.first.is_none()
                    && event.value.get("messageId").and_then(Value::as_str)
                        == self.message.as_ref().map(MessageId::as_str) =>
            {
                let error = SessionError::new(ErrorCode::Conflict, "the message was taken back");
                return Err(error.with_details(json!({"resource": "Message", "field": "id"})));
            }
            _ => {}
        }
        if self.run.is_none() || entry.run != self.run {
            return Ok(false);
        }
        match &entry.event {
            Event::RunFinished(_) => self.ended = true,
            Event::RunError(error) if will_retry(error) => {
                self.will_retry = true;
                self.run = None;
            }
            Event::RunError(_) => self.ended = true,
            _ => {}
        }
        Ok(true)
    }

    /// Whether a run is the one that is followed, or tries it again.
    fn begins_with(&self, event: &RunStarted) -> bool {
        let mut messages = event.input.iter().flat_map(|input| &input.messages);
        let mut answers = || messages.any(|message| Some(message.id()) == self.message.as_ref());
        match &self.first {
            Some(first) => event.run_id == *first || self.will_retry && answers(),
            None => answers(),
        }
    }

    fn is_new(&mut self, entry: &LogEntry) -> bool {
        if self.seen.is_none() || self.seen != entry.run {
            return true;
        }
        let end = matches!(entry.event, Event::RunFinished(_) | Event::RunError(_));
        if end {
            self.seen = None;
        }
        end
    }
}

fn will_retry(error: &RunError) -> bool {
    let interrupted = error.code.as_deref() == Some(RunErrorCode::Interrupted.as_str());
    interrupted && about(error.metadata.as_ref(), "willRetry").and_then(Value::as_bool) == Some(true)
}

/// A field of `metadata.kronos`.
fn about<'a>(metadata: Option<&'a serde_json::Map<String, Value>>, name: &str) -> Option<&'a Value> {
    metadata?.get("kronos")?.get(name)
}

/// How a turn ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnResult {
    /// The run that ended.
    pub run: Option<RunId>,
    /// The assistant's last message, if it said anything.
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
    /// The questions that the run ended with.
    pub interrupts: Vec<Interrupt>,
    /// Calls that are left for the client to run.
    pub pending_calls: Vec<String>,
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
}

/// Follows the turn of `message` (whose event has `seq`) to its end, over interruptions.
///
/// # Errors
/// As [`TurnReader::next`].
pub async fn run_to_end(
    directory: &DirectoryRef,
    session: &SessionRef,
    caller: &Arc<Principal>,
    message: &MessageId,
    seq: Seq,
) -> Result<TurnResult, SessionError> {
    let mut turn = TurnReader::attach(directory, session, caller, message, seq).await?;
    let mut follow = Follow::default();
    loop {
        for entry in turn.next().await? {
            if let Some(result) = follow.see(&entry)
                && turn.ended()
            {
                return Ok(result);
            }
        }
    }
}

impl Follow {
    fn see(&mut self, entry: &LogEntry) -> Option<TurnResult> {
        match &entry.event {
            Event::RunStarted(event) => {
                *self = Self {
                    run: Some(event.run_id.clone()),
                    ..Self::default()
                };
                None
            }
            Event::TextMessageStart(event) => {
                if self.message_id.as_ref() != Some(&event.message_id) {
                    self.text.clear();
                }
                self.message_id = Some(event.message_id.clone());
                None
            }
            Event::TextMessageContent(event) => {
                self.text.push_str(&event.delta);
                None
            }
            Event::RunFinished(event) => Some(self.finished(event)),
            Event::RunError(event) => Some(self.failed(event)),
            _ => None,
        }
    }

    fn finished(&mut self, event: &RunFinished) -> TurnResult {
        self.model = about(event.metadata.as_ref(), "model")
            .and_then(Value::as_str)
            .map(ToOwned::to_owned);
        let mut result = self.result(event.timestamp, event.usage.clone(), None);
        match event.outcome.clone() {
            Some(Outcome::Cancelled) => result.cancelled = true,
            Some(Outcome::Interrupt { interrupts }) => result.interrupts = interrupts,
            Some(Outcome::Success { pending_tool_call_ids }) => {
                result.pending_calls = pending_tool_call_ids.unwrap_or_default();
            }
            None => {}
        }
        result
    }

    fn failed(&mut self, event: &RunError) -> TurnResult {
        let number = |name: &str| about(event.metadata.as_ref(), name).and_then(Value::as_u64);
        let error = TurnError {
            code: event.code.clone().unwrap_or_default(),
            message: event.message.clone(),
            after_ms: number("afterMs"),
            upstream_status: number("upstreamStatus"),
            retryable: about(event.metadata.as_ref(), "retryable").and_then(Value::as_bool),
        };
        self.result(event.timestamp, event.usage.clone(), Some(error))
    }

    fn result(&mut self, at: Option<i64>, usage: Option<Vec<TokenUsage>>, error: Option<TurnError>) -> TurnResult {
        TurnResult {
            run: self.run.take(),
            message_id: self.message_id.take(),
            text: std::mem::take(&mut self.text),
            model: self.model.take(),
            usage: usage.unwrap_or_default(),
            finished_at_ms: at.unwrap_or_default(),
            cancelled: false,
            interrupts: Vec::new(),
            pending_calls: Vec::new(),
            error,
        }
    }
}
