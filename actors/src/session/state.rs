//! The state of a session: `apply(state, event)`, the fold of its log.
//!
//! Pure. Whatever is here can be had again from the log; nothing else decides what a session is.

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
};

use kronos_protocol::{
    client::{SendMode, SessionSettings},
    error::RunErrorCode,
    event::{
        Event, Outcome, RunError, RunFinished, RunStarted, TextMessageStart, TextRole, TokenUsage, ToolCallResult,
        ToolCallStart,
    },
    ids::{MessageId, RunId},
    message::{Message, UserContent},
    position::Seq,
    verify::{OrderError, Verifier},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{
    core::RETRY,
    log::Stored,
    message::{RunStatus, Verdict},
};
use crate::clock::Millis;

mod branch;
mod turn;

pub use branch::{BRANCH_SELECTED, BRANCHED, Branch, BranchSelected, Branched, Branches, MAIN};
pub use turn::{
    ActiveRun, Call, CallDecision, Decided, INTERRUPT_ANSWERED, Intent, InterruptedTurn, PastRun, Question, Queued,
    RUN_CANCELLED, ResultRecord, ResultStatus, RunCancelled, RunRecord, Sent, Stage, Step, TOOL_CALLS, TOOL_PROGRESS,
    ToolCalls, ToolCallsRecord,
};

/// Runs and verdicts that a session remembers beside its messages: the newest.
const REMEMBERED: usize = 256;

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

/// `CUSTOM` name of changed settings: the settings that changed.
pub const SETTINGS_CHANGED: &str = "kronos.settings_changed";
/// `CUSTOM` name, within a run: the model reads a summary in place of what came before: `{from}`, the first message it reads.
pub const CONTEXT_TRIMMED: &str = "kronos.context_trimmed";

/// What [`CONTEXT_TRIMMED`] carries; beside it, unseen, the summary.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trimmed {
    /// The first message that the model still reads.
    pub from: MessageId,
}

/// What the model reads in place of the beginning of the conversation.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// The first message that it still reads.
    pub from: MessageId,
    /// What was said before; empty when nobody could sum it up.
    pub text: String,
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
        /// The calls it makes, in order.
        calls: Vec<CallText>,
    },
    /// By a tool.
    Tool {
        /// The call it answers.
        call: String,
        /// What it returned, as clients and the model have it.
        content: UserContent,
        /// What came of the call.
        status: ResultStatus,
        /// The whole result is stored beside the log.
        stored: bool,
        /// Arguments that a person gave in place of the model's.
        edited: Option<Map<String, Value>>,
    },
}

/// A call as the model wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallText {
    /// Its id.
    pub id: String,
    /// The tool.
    pub name: String,
    /// The arguments as JSON text.
    pub arguments: String,
}

impl Body {
    /// The text of it.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::User(content) | Self::Tool { content, .. } => content.text(),
            Self::System(text) | Self::Assistant { text, .. } => Cow::Borrowed(text),
        }
    }

    fn assistant() -> Self {
        Self::Assistant {
            text: String::new(),
            complete: false,
            parts: None,
            calls: Vec::new(),
        }
    }

    fn push(&mut self, delta: &str) {
        match self {
            Self::User(UserContent::Text(text)) | Self::System(text) | Self::Assistant { text, .. } => {
                text.push_str(delta);
            }
            // What came as parts came whole.
            Self::User(UserContent::Parts(_)) | Self::Tool { .. } => {}
        }
    }
}

/// The fold of a session's log.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The conversation, oldest first: the messages of the chosen branch.
    pub messages: Vec<Said>,
    /// The branches of the conversation.
    pub branches: Branches,
    /// Messages that wait.
    pub queue: VecDeque<Queued>,
    /// The active run.
    pub run: Option<ActiveRun>,
    /// A turn to try again.
    pub interrupted: Option<InterruptedTurn>,
    /// The step whose calls are not all answered.
    pub step: Option<Step>,
    /// The newest runs, oldest first.
    pub runs: VecDeque<PastRun>,
    /// What became of the newest questions, oldest first.
    pub verdicts: VecDeque<Verdict>,
    /// Every user message ever taken, by id.
    pub sends: HashMap<MessageId, Sent>,
    /// The model's thinking is being shown.
    pub reasoning_open: bool,
    /// The answer that is being written.
    pub text_open: Option<MessageId>,
    /// The step that is open.
    pub step_open: Option<String>,
    /// The ordering rules of AG-UI.
    pub verifier: Verifier,
    /// When the last turn ended, or the last message came.
    pub updated_ms: Millis,
    /// The title, when it was changed since the conversation was made.
    pub title: Option<String>,
    /// Settings that were changed since the conversation was made.
    pub settings: SessionSettings,
    /// What the model reads in place of the beginning.
    pub summary: Option<Summary>,
}

/// Reads what is kept beside an event; what is not there, or of another version, reads as nothing.
fn private<T: DeserializeOwned>(stored: Option<&Value>) -> Option<T> {
    stored.and_then(|value| T::deserialize(value).ok())
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
        let beside = stored.private.as_ref();
        match &stored.event {
            Event::RunStarted(event) => self.run_started(seq, event, beside, at_ms),
            Event::RunFinished(event) => self.run_finished(event, at_ms),
            Event::RunError(event) => self.run_failed(event, at_ms),
            Event::StepStarted(event) => self.step_started(&event.step_name),
            Event::StepFinished(_) => self.step_finished(),
            Event::ReasoningMessageStart(_) => self.reasoning_open = true,
            Event::ReasoningMessageEnd(_) => self.reasoning_open = false,
            Event::TextMessageStart(event) => self.message_started(seq, event, beside, at_ms),
            Event::TextMessageContent(event) => {
                if let Some(body) = self.body_mut(&event.message_id) {
                    body.push(&event.delta);
                }
            }
            Event::TextMessageEnd(event) => self.message_ended(&event.message_id, beside),
            Event::ToolCallStart(event) => self.call_started(event, at_ms),
            Event::ToolCallArgs(event) => self.call_grows(&event.tool_call_id, &event.delta),
            Event::ToolCallResult(event) => self.call_answered(event, beside, at_ms),
            Event::Custom(event) => {
                if stored.run.is_some() {
                    self.custom_of_run(&event.name, &event.value, beside);
                } else {
                    self.custom(seq, &event.name, &event.value, beside);
                }
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

    fn run_started(&mut self, seq: Seq, event: &RunStarted, beside: Option<&Value>, at_ms: Millis) {
        let record: RunRecord = private(beside).unwrap_or_default();
        let mut answers = record.message.clone();
        for message in event.input.iter().flat_map(|input| &input.messages) {
            let Message::User(user) = message else { continue };
            answers = Some(user.id.clone());
            self.taken_by(&user.id, seq, &event.run_id);
            match self.messages.iter().position(|said| said.id == user.id) {
                // The turn is tried again.
                Some(_) => self.hide_attempts(&user.id),
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
        self.text_open = None;
        self.step_open = None;
        self.updated_ms = at_ms;
        let Some(message) = answers else { return };
        self.steering_ends(&message);
        if let Some(before) = self
            .runs
            .iter_mut()
            .rev()
            .find(|past| past.message == message && past.next.is_none())
        {
            if before.status == RunStatus::Waiting {
                before.status = RunStatus::Answered;
            }
            before.next = Some(event.run_id.clone());
        }
        if let Some(waiting) = self
            .runs
            .iter_mut()
            .rev()
            .find(|past| past.status == RunStatus::Waiting)
        {
            waiting.status = RunStatus::Answered;
        }
        remember(
            &mut self.runs,
            PastRun {
                id: event.run_id.clone(),
                message: message.clone(),
                status: RunStatus::Running,
                started_ms: at_ms,
                ended_ms: None,
                steps: record.steps,
                usage: Vec::new(),
                options: record.options.clone(),
                error: None,
                next: None,
            },
        );
        self.run = Some(ActiveRun {
            id: event.run_id.clone(),
            message,
            record: RunRecord {
                attempt: record.attempt.max(1),
                ..record
            },
            started_ms: at_ms,
            answers: 0,
            progressed: false,
            spent: Vec::new(),
        });
    }

    /// When another turn begins, that of `message`, what was steered into the last one waits like any other.
    fn steering_ends(&mut self, message: &MessageId) {
        if self.runs.back().is_none_or(|past| past.message != *message) {
            self.queue.iter_mut().for_each(|queued| queued.mode = SendMode::Queue);
        }
    }

    /// What was begun to say to a message, and is said again, is not for the model.
    fn hide_attempts(&mut self, message: &MessageId) {
        let after = self.messages.iter_mut().skip_while(|said| said.id != *message);
        after.for_each(|said| said.hidden_from_model |= matches!(said.body, Body::Assistant { parts: None, .. }));
    }

    /// A message leaves the queue, if it was there: this run answers it.
    fn taken_by(&mut self, id: &MessageId, seq: Seq, run: &RunId) {
        self.queue.retain(|queued| queued.id != *id);
        let sent = self.sends.entry(id.clone()).or_insert(Sent {
            seq,
            run: None,
            removed: false,
        });
        if sent.run.is_none() {
            sent.run = Some(run.clone());
        }
    }

    fn run_over(&mut self, status: RunStatus, usage: Option<&Vec<TokenUsage>>, at_ms: Millis) -> Option<ActiveRun> {
        self.updated_ms = at_ms;
        self.text_open = None;
        self.reasoning_open = false;
        self.step_open = None;
        self.forget_answered_step();
        let run = self.run.take()?;
        if let Some(past) = self.runs.iter_mut().rev().find(|past| past.id == run.id) {
            past.status = status;
            past.ended_ms = Some(at_ms);
            past.steps = run.record.steps;
            past.usage = usage.cloned().unwrap_or_default();
        }
        Some(run)
    }

    fn run_finished(&mut self, event: &RunFinished, at_ms: Millis) {
        let (status, interrupts) = match &event.outcome {
            Some(Outcome::Interrupt { interrupts }) => (RunStatus::Waiting, interrupts.as_slice()),
            Some(Outcome::Success {
                pending_tool_call_ids: Some(_),
            }) => (RunStatus::Waiting, &[][..]),
            Some(Outcome::Cancelled) => (RunStatus::Cancelled, &[][..]),
            Some(Outcome::Success { .. }) | None => (RunStatus::Succeeded, &[][..]),
        };
        let run = self.run_over(status, event.usage.as_ref(), at_ms);
        if let (Some(step), Some(run)) = (&mut self.step, run) {
            step.turn = (run.message, run.record);
        }
        for interrupt in interrupts {
            let id = interrupt.tool_call_id.as_deref().unwrap_or_default();
            if let Some(call) = self.call_mut(id) {
                call.asked += 1;
                call.question = Some(Question {
                    asked_ms: at_ms,
                    interrupt: interrupt.clone(),
                    verdict: None,
                });
            }
        }
    }

    fn run_failed(&mut self, event: &RunError, at_ms: Millis) {
        let Some(run) = self.run_over(RunStatus::Failed, event.usage.as_ref(), at_ms) else {
            return;
        };
        if let Some(past) = self.runs.iter_mut().rev().find(|past| past.id == run.id) {
            past.error = Some((event.code.clone().unwrap_or_default(), event.message.clone()));
        }
        if let Some(step) = &mut self.step {
            step.turn = (run.message.clone(), run.record.clone());
        }
        match event.code.as_deref() {
            Some(code) if code == RunErrorCode::Interrupted.as_str() => {
                // One that got on may be interrupted as often as it likes.
                let attempt = if run.progressed { 0 } else { run.record.attempt };
                self.interrupted = Some(InterruptedTurn {
                    message: run.message,
                    record: RunRecord { attempt, ..run.record },
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

    fn step_started(&mut self, name: &str) {
        self.step_open = Some(name.to_owned());
        let number = name.rsplit('-').next().and_then(|number| number.parse().ok());
        if let (Some(run), Some(number)) = (&mut self.run, number) {
            run.record.steps = number;
        }
    }

    fn step_finished(&mut self) {
        self.step_open = None;
        self.forget_answered_step();
    }

    fn forget_answered_step(&mut self) {
        let answered = |step: &Step| step.calls.iter().all(|call| call.stage == Stage::Answered);
        if self.step.as_ref().is_some_and(answered) {
            self.step = None;
        }
    }

    fn message_started(&mut self, seq: Seq, event: &TextMessageStart, beside: Option<&Value>, at_ms: Millis) {
        let body = match event.role {
            // What was said elsewhere comes as messages of all roles; what is handed to a run comes as the user's.
            Some(TextRole::User) => {
                if let Some(run) = self.run.as_ref().map(|run| run.id.clone()) {
                    self.taken_by(&event.message_id, seq, &run);
                }
                let whole = beside.and_then(|beside| beside.get("content"));
                let whole = whole.and_then(|content| UserContent::deserialize(content).ok());
                Body::User(whole.unwrap_or_else(|| UserContent::Text(String::new())))
            }
            Some(TextRole::System | TextRole::Developer) => Body::System(String::new()),
            Some(TextRole::Assistant) | None => {
                if self.run.is_some() {
                    self.text_open = Some(event.message_id.clone());
                }
                if let Some(Body::Assistant { .. }) = self.body_mut(&event.message_id) {
                    // It has made calls already.
                    return;
                }
                Body::assistant()
            }
        };
        self.messages.push(Said {
            id: event.message_id.clone(),
            at_ms,
            body,
            hidden_from_model: false,
        });
    }

    fn message_ended(&mut self, id: &MessageId, beside: Option<&Value>) {
        if self.text_open.as_ref() == Some(id) {
            self.text_open = None;
        }
        let raw = beside.and_then(|beside| beside.get("parts")).and_then(Value::as_array);
        let usage = private::<TokenUsage>(beside.and_then(|beside| beside.get("usage")));
        if let Some(Body::Assistant { complete, parts, .. }) = self.body_mut(id) {
            *complete = true;
            *parts = raw.cloned();
        }
        if raw.is_some() {
            self.answer_complete(usage);
        }
    }

    fn answer_complete(&mut self, usage: Option<TokenUsage>) {
        if let Some(run) = &mut self.run {
            run.answers += 1;
            run.progressed = true;
            if let Some(usage) = usage {
                add_usage(&mut run.spent, &usage);
            }
        }
    }

    fn call_mut(&mut self, id: &str) -> Option<&mut Call> {
        self.step.as_mut()?.calls.iter_mut().find(|call| call.id == id)
    }

    fn call_started(&mut self, event: &ToolCallStart, at_ms: Millis) {
        let Some(run) = &self.run else { return };
        let Some(parent) = event.parent_message_id.clone() else {
            return;
        };
        let (message, record) = (run.message.clone(), run.record.clone());
        if self.body_mut(&parent).is_none() {
            self.messages.push(Said {
                id: parent.clone(),
                at_ms,
                body: Body::assistant(),
                hidden_from_model: false,
            });
        }
        let (id, name) = (event.tool_call_id.clone(), event.tool_call_name.clone());
        if let Some(Body::Assistant { calls, .. }) = self.body_mut(&parent) {
            calls.push(CallText {
                id: id.clone(),
                name: name.clone(),
                arguments: String::new(),
            });
        }
        if self.step.as_ref().is_none_or(|step| step.message != parent) {
            self.step = Some(Step {
                message: parent,
                turn: (message, record),
                calls: Vec::new(),
            });
        }
        if let Some(step) = &mut self.step {
            step.calls.push(Call {
                id,
                name,
                arguments: String::new(),
                stage: Stage::Announced,
                intent: None,
                question: None,
                asked: 0,
            });
        }
    }

    fn call_grows(&mut self, id: &str, delta: &str) {
        if let Some(call) = self.call_mut(id) {
            call.arguments.push_str(delta);
        }
        let said = self.messages.iter_mut().rev().find_map(|said| match &mut said.body {
            Body::Assistant { calls, .. } => calls.iter_mut().find(|call| call.id == id),
            Body::User(_) | Body::System(_) | Body::Tool { .. } => None,
        });
        if let Some(call) = said {
            call.arguments.push_str(delta);
        }
    }

    fn call_answered(&mut self, event: &ToolCallResult, beside: Option<&Value>, at_ms: Millis) {
        let record = private::<ResultRecord>(beside);
        let status = record.as_ref().map_or(ResultStatus::Stopped, |record| record.status);
        let mut edited = None;
        if let Some(call) = self.call_mut(&event.tool_call_id) {
            call.stage = Stage::Answered;
            edited = call.intent.as_ref().and_then(|intent| intent.arguments.clone());
        }
        if self.step_open.is_none() {
            self.forget_answered_step();
        }
        // What ends the calls of a run that is stopped is no progress.
        let done = matches!(
            status,
            ResultStatus::Done | ResultStatus::Failed | ResultStatus::Refused
        );
        if let Some(run) = self.run.as_mut().filter(|_| done) {
            run.progressed = true;
        }
        self.messages.push(Said {
            id: event.message_id.clone(),
            at_ms,
            body: Body::Tool {
                call: event.tool_call_id.clone(),
                content: event.content.clone(),
                status,
                stored: record.is_some_and(|record| record.stored),
                edited,
            },
            hidden_from_model: false,
        });
    }

    fn custom_of_run(&mut self, name: &str, value: &Value, beside: Option<&Value>) {
        match name {
            TOOL_CALLS => {
                if let Ok(decided) = ToolCalls::deserialize(value) {
                    self.calls_decided(decided, private(beside).unwrap_or_default());
                }
            }
            RETRY => {
                let mend = beside.and_then(|beside| beside.get("mend")).is_some();
                if let Some(run) = self.run.as_mut().filter(|_| mend) {
                    run.record.mends += 1;
                    // Nobody could read it: the next one is another answer.
                    run.answers += 1;
                    let message = run.message.clone();
                    self.hide_attempts(&message);
                }
            }
            CONTEXT_TRIMMED => {
                if let Ok(trimmed) = Trimmed::deserialize(value) {
                    let text = beside.and_then(|beside| beside.get("summary")).and_then(Value::as_str);
                    self.summary = Some(Summary {
                        from: trimmed.from,
                        text: text.unwrap_or_default().to_owned(),
                    });
                }
            }
            _ => {}
        }
    }

    fn calls_decided(&mut self, decided: ToolCalls, record: ToolCallsRecord) {
        if let Some(raw) = record.parts {
            let message = self.step.as_ref().map(|step| step.message.clone());
            if let Some(Body::Assistant { parts, complete, .. }) = message.and_then(|id| self.body_mut(&id)) {
                *parts = Some(raw);
                *complete = true;
            }
            self.answer_complete(record.usage);
        }
        if let Some(run) = self.run.as_mut().filter(|_| record.mend) {
            run.record.mends += 1;
        }
        let mut intents = record.intents;
        for decision in decided.calls {
            let intent = intents.iter().position(|intent| intent.call == decision.tool_call_id);
            let intent = intent.map(|at| intents.swap_remove(at));
            let Some(call) = self.call_mut(&decision.tool_call_id) else {
                continue;
            };
            call.stage = match decision.decision {
                Decided::Run => Stage::Sent,
                Decided::Ask => Stage::Asking,
                Decided::Unknown => Stage::Unknown,
                Decided::Connect => Stage::Connecting,
                Decided::Client => Stage::Client,
                Decided::Refused => call.stage,
            };
            call.question = None;
            if let Some(intent) = intent {
                if let Some(arguments) = &intent.arguments {
                    call.arguments = serde_json::to_string(arguments).unwrap_or_default();
                }
                call.intent = Some(intent);
            }
        }
    }

    fn custom(&mut self, seq: Seq, name: &str, value: &Value, beside: Option<&Value>) {
        match name {
            MESSAGE_ACCEPTED => {
                if let Ok(accepted) = Accepted::deserialize(value) {
                    self.message_accepted(seq, accepted, beside);
                }
            }
            MESSAGE_UNQUEUED => {
                let Ok(removed) = Unqueued::deserialize(value) else {
                    return;
                };
                self.queue.retain(|queued| queued.id != removed.message_id);
                if let Some(sent) = self.sends.get_mut(&removed.message_id) {
                    sent.removed = true;
                }
            }
            TITLE_CHANGED => {
                if let Ok(retitled) = Retitled::deserialize(value) {
                    self.title = Some(retitled.title);
                }
            }
            SETTINGS_CHANGED => {
                if let Ok(change) = SessionSettings::deserialize(value) {
                    overlay(&mut self.settings, change);
                }
            }
            INTERRUPT_ANSWERED => {
                if let Ok(verdict) = Verdict::deserialize(value) {
                    self.question_answered(verdict, beside.and_then(|beside| beside.get("payload")));
                }
            }
            RUN_CANCELLED => {
                if let Ok(cancelled) = RunCancelled::deserialize(value) {
                    self.given_up(&cancelled.run_id);
                }
            }
            BRANCHED => {
                if let Ok(branched) = Branched::deserialize(value) {
                    self.branch(&branched);
                }
            }
            BRANCH_SELECTED => {
                if let Ok(selected) = BranchSelected::deserialize(value) {
                    self.select_branch(&selected.branch);
                }
            }
            _ => {}
        }
    }

    fn message_accepted(&mut self, seq: Seq, accepted: Accepted, beside: Option<&Value>) {
        let Message::User(user) = accepted.message else { return };
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
            mode: accepted.mode,
            record: private(beside).unwrap_or_default(),
        });
    }

    fn question_answered(&mut self, verdict: Verdict, payload: Option<&Value>) {
        let of_call = verdict.tool_call_id.clone().unwrap_or_default();
        let question = self.call_mut(&of_call).and_then(|call| call.question.as_mut());
        if let Some(question) = question.filter(|question| question.interrupt.id == verdict.interrupt_id) {
            question.verdict = Some((verdict.clone(), payload.cloned()));
        }
        let given_up = !self.waits() && !self.goes_on();
        if let Some(past) = self
            .runs
            .back_mut()
            .filter(|past| given_up && past.status == RunStatus::Waiting)
        {
            past.status = RunStatus::Cancelled;
        }
        remember(&mut self.verdicts, verdict);
    }

    /// Nobody waits for the calls of this run any more; the next turn ends them.
    fn given_up(&mut self, run: &RunId) {
        if let Some(past) = self.runs.iter_mut().rev().find(|past| past.id == *run) {
            past.status = RunStatus::Cancelled;
        }
        for call in self.step.iter_mut().flat_map(|step| &mut step.calls) {
            call.question = None;
            match call.stage {
                Stage::Asking | Stage::Connecting | Stage::Client => call.stage = Stage::Announced,
                Stage::Announced | Stage::Sent | Stage::Unknown | Stage::Answered => {}
            }
        }
    }

    /// Calls whose whole results are stored beside the log, on every branch.
    pub fn stored_results(&self) -> impl Iterator<Item = &str> {
        let all = self.messages.iter().chain(self.branches.iter().flat_map(Branch::tail));
        all.filter_map(|said| match &said.body {
            Body::Tool { call, stored: true, .. } => Some(call.as_str()),
            Body::User(_) | Body::System(_) | Body::Assistant { .. } | Body::Tool { .. } => None,
        })
    }

    /// Nothing was ever said in it.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.messages.is_empty() && self.sends.is_empty() && self.run.is_none()
    }

    /// There is a run, a message that waits, answers to go on with, or a turn to try again (of at most `max_attempts`).
    pub fn has_work(&self, max_attempts: u32) -> bool {
        self.run.is_some() || !self.queue.is_empty() || self.goes_on() || self.retriable(max_attempts).is_some()
    }

    /// The interrupted turn, if it may be tried again.
    pub fn retriable(&self, max_attempts: u32) -> Option<&InterruptedTurn> {
        self.interrupted
            .as_ref()
            .filter(|turn| turn.record.attempt < max_attempts)
    }

    /// A run waits for people: it has ended with questions, or with calls for the client, and not all are answered.
    #[must_use]
    pub fn waits(&self) -> bool {
        let open = |step: &Step| {
            let client = step.calls.iter().any(|call| call.stage == Stage::Client);
            client || step.has_open_questions()
        };
        self.run.is_none() && self.step.as_ref().is_some_and(open)
    }

    /// What waits for people: questions and calls of the client's, each with when it was asked.
    pub fn asked(&self) -> impl Iterator<Item = (&str, Millis)> {
        let ended = self
            .runs
            .back()
            .and_then(|past| past.ended_ms)
            .unwrap_or(self.updated_ms);
        let step = self.step.iter().filter(|_| self.run.is_none());
        step.flat_map(|step| &step.calls).filter_map(move |call| {
            let question = call.question.as_ref().filter(|question| question.verdict.is_none());
            match (call.stage, question) {
                (Stage::Answered, _) => None,
                (_, Some(question)) => Some((question.interrupt.id.as_str(), question.asked_ms)),
                (Stage::Client, None) => Some((call.id.as_str(), ended)),
                _ => None,
            }
        })
    }

    /// Every question of the last run is answered, and some answer wants it to go on.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        let goes_on = |step: &Step| {
            let wanted = |question: &Question| {
                let verdict = question.verdict.as_ref().map(|(verdict, _)| verdict.verdict.as_str());
                verdict.is_some_and(|word| !matches!(word, "cancelled" | "expired" | "superseded"))
            };
            let client = step.calls.iter().any(|call| call.stage == Stage::Client);
            !client && !step.has_open_questions() && step.questions().any(wanted)
        };
        self.run.is_none() && self.interrupted.is_none() && self.step.as_ref().is_some_and(goes_on)
    }

    /// What a message says, wherever it is.
    pub fn user_content(&self, id: &MessageId) -> Option<&UserContent> {
        let said = self
            .messages
            .iter()
            .find(|said| said.id == *id)
            .and_then(|said| match &said.body {
                Body::User(content) => Some(content),
                Body::System(_) | Body::Assistant { .. } | Body::Tool { .. } => None,
            });
        said.or_else(|| {
            self.queue
                .iter()
                .find(|queued| queued.id == *id)
                .map(|queued| &queued.content)
        })
    }

    /// Messages of users and assistant; of the assistant's those that say something.
    pub fn message_count(&self) -> u64 {
        let said = |said: &&Said| match &said.body {
            Body::User(_) => true,
            Body::Assistant { text, calls, .. } => calls.is_empty() || !text.is_empty(),
            Body::System(_) | Body::Tool { .. } => false,
        };
        u64::try_from(self.messages.iter().filter(said).count()).unwrap_or(u64::MAX)
    }
}

/// Adds to a list that keeps the newest.
fn remember<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() >= REMEMBERED {
        list.pop_front();
    }
    list.push_back(item);
}

/// Adds what was used to the entry of its model.
pub fn add_usage(all: &mut Vec<TokenUsage>, more: &TokenUsage) {
    let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
        (None, None) => None,
        (a, b) => Some(a.unwrap_or(0) + b.unwrap_or(0)),
    };
    let same = |used: &&mut TokenUsage| used.model == more.model && used.provider == more.provider;
    match all.iter_mut().find(same) {
        None => all.push(more.clone()),
        Some(used) => {
            used.input_tokens = sum(used.input_tokens, more.input_tokens);
            used.output_tokens = sum(used.output_tokens, more.output_tokens);
            used.total_tokens = sum(used.total_tokens, more.total_tokens);
            used.reasoning_tokens = sum(used.reasoning_tokens, more.reasoning_tokens);
            used.cached_input_tokens = sum(used.cached_input_tokens, more.cached_input_tokens);
            used.cache_write_input_tokens = sum(used.cache_write_input_tokens, more.cache_write_input_tokens);
        }
    }
}

/// Puts what `change` names in place of what is there.
pub fn overlay(settings: &mut SessionSettings, change: SessionSettings) {
    let SessionSettings {
        title,
        model,
        tool_policy,
        toolkits,
        system_prompt,
        tool_rules,
        branch,
    } = change;
    settings.title = title.or(settings.title.take());
    settings.model = model.or(settings.model.take());
    settings.tool_policy = tool_policy.or(settings.tool_policy.take());
    settings.toolkits = toolkits.or(settings.toolkits.take());
    settings.system_prompt = system_prompt.or(settings.system_prompt.take());
    settings.tool_rules = tool_rules.or(settings.tool_rules.take());
    settings.branch = branch.or(settings.branch.take());
}
