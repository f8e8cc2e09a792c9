//! What a session decides: `decide(state, input, env) -> Decision`. All rules of a conversation are here.
//!
//! Pure: no actix, IO, clock or randomness; times and ids come in with [`Env`]. The actor appends the events of a
//! decision to the log, folds them into the state, and performs the effects.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use kronos_protocol::{
    client::{RunOptions, SessionSettings},
    error::{ErrorCode, RunErrorCode},
    event::{Custom, Event, Outcome, RunError, RunFinished, RunStarted, TokenUsage},
    ids::{InterruptId, MessageId, RunId, SessionId},
    message::{Message, RunInput, UserContent, UserMessage},
    position::Seq,
    version::AG_UI_VERSION,
};
use serde_json::{Map, Value, json};

use super::{
    log::Stored,
    message::{AnsweredBy, Edit, Import, Resume, SessionError, Submit},
    state::{Intent, RUN_CANCELLED, RunCancelled, RunRecord, Stage, State, add_usage},
};
use crate::{
    clock::Millis,
    config::SessionConfig,
    gemini::{Calling, Content, Failed, Function, Progress, Usage},
    tools::{self, Link, Offer},
};

mod branches;
mod import;
mod inbox;
pub mod questions;
mod settings;
mod steps;
mod turn;

pub(super) use self::turn::reasoning_id;
use self::turn::{run_error, token_usage};

/// `CUSTOM` name, within a run: an attempt failed before anything was shown, another follows:
/// `{attempt, code, afterMs, message}`.
pub const RETRY: &str = "kronos.retry";
/// `CUSTOM` name, within a run: something the user should know: `{code, message}`.
pub const NOTICE: &str = "kronos.notice";

/// What comes in with an input: the time, the rules, and ids minted outside.
pub struct Env<'a> {
    /// Wall-clock time.
    pub now_ms: Millis,
    /// The bounds.
    pub config: &'a SessionConfig,
    /// The session as its clients name it.
    pub thread: &'a SessionId,
    /// Its settings.
    pub settings: &'a SessionSettings,
    /// Mints the id of a run.
    pub fresh_run: &'a mut dyn FnMut() -> RunId,
    /// New runs are refused: the process drains.
    pub draining: bool,
}

/// What a session reacts to.
#[derive(Debug)]
pub enum Input {
    /// A user message.
    Submit(Submit),
    /// What was said elsewhere, and a user message.
    Import(Box<Import>),
    /// Another title.
    Rename(String),
    /// Other settings.
    Configure(Box<SessionSettings>),
    /// Another text for an earlier message.
    Edit(Box<Edit>),
    /// Another answer to a message.
    Regenerate(Option<MessageId>),
    /// Another branch.
    SelectBranch(String),
    /// Answers to questions.
    Resume(Box<Resume>),
    /// The user has an account of this toolkit.
    Connected(String),
    /// Questions may have lapsed.
    Expire,
    /// What the active run may work with.
    Offered(RunId, Offer),
    /// A call of the active run is over.
    Called(RunId, String, tools::Outcome),
    /// A link to connect an account of this toolkit, or why there is none.
    Linked(RunId, String, Result<Link, String>),
    /// The conversation up to this message, summed up; empty when nobody could.
    Summarized(RunId, MessageId, String),
    /// The active run goes on: what was decided last is in the state now.
    Continue(RunId),
    /// A queued message is taken back.
    Unqueue(MessageId),
    /// The active run is to stop.
    Cancel(Option<RunId>),
    /// The model answers.
    Progress(RunId, Progress),
    /// The active run's wall time is over.
    Deadline(RunId),
    /// The session was folded again: a run that nobody runs any more is closed and tried again.
    Recovered,
    /// The last run has ended: the next message that waits may start.
    Next,
    /// The process goes down: the active run is closed now and tried again after the restart.
    Interrupt,
    /// A fact for a user's feed.
    Notify(String, Value),
}

/// Something to do outside.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Find out what the run may work with: comes back as [`Input::Offered`].
    Offer {
        /// For this run.
        run: RunId,
        /// Toolkits by slug; `None`: as usual.
        toolkits: Option<Vec<String>>,
        /// What the user said.
        hint: String,
    },
    /// Ask the model.
    Generate(Box<Generate>),
    /// Make a call, once everything that was decided with it is durable: comes back as [`Input::Called`].
    Execute(Box<Execute>),
    /// Make a link with which the user connects an account, unless one is being made for this run: comes back as
    /// [`Input::Linked`].
    Link {
        /// For this run.
        run: RunId,
        /// The toolkit.
        toolkit: String,
    },
    /// Sum up what the model will not read any more: comes back as [`Input::Summarized`].
    Summarize {
        /// For this run.
        run: RunId,
        /// The first message that it still reads.
        from: MessageId,
        /// What came before.
        transcript: String,
    },
    /// Decide again ([`Input::Continue`]) when the events are in the state.
    Continue(RunId),
    /// Close the upstream connections of this run, and abandon its calls.
    Stop(RunId),
}

/// A call to make.
#[derive(Debug, Clone, PartialEq)]
pub struct Execute {
    /// For this run.
    pub run: RunId,
    /// The tool.
    pub tool: String,
    /// Its intent, as it is in the log.
    pub intent: Intent,
    /// The arguments.
    pub arguments: Map<String, Value>,
}

/// A generation to start.
#[derive(Debug, Clone, PartialEq)]
pub struct Generate {
    /// For this run.
    pub run: RunId,
    /// With these options.
    pub options: RunOptions,
    /// After these turns.
    pub contents: Vec<Content>,
    /// What the model may call.
    pub functions: Arc<[Function]>,
    /// Whether it may.
    pub calling: Calling,
    /// What it is told beside its system prompt.
    pub notes: Option<String>,
}

/// How the input is answered once its events are durable.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// Nothing to say.
    Done,
    /// A message was taken: the index of its event among the decision's, its run or its place in the queue.
    Sent {
        /// Index into [`Decision::events`].
        event: usize,
        /// The run it started.
        run: Option<RunId>,
        /// Its place in the queue, from 1.
        queued: Option<u32>,
    },
    /// A message had been taken before.
    Duplicate {
        /// Where.
        seq: Seq,
        /// Its run.
        run: Option<RunId>,
        /// Its place in the queue, from 1.
        queued: Option<u32>,
    },
    /// The run that was stopped.
    Cancelled {
        /// `None`: there was none.
        run: Option<RunId>,
        /// Tokens used until then.
        usage: Option<TokenUsage>,
    },
    /// Answers were taken.
    Resumed {
        /// Index into [`Decision::events`].
        event: usize,
        /// The run that goes on.
        run: Option<RunId>,
        /// Questions that are open still.
        open: Vec<InterruptId>,
    },
    /// The settings have changed.
    Configured,
}

/// What follows from an input.
#[derive(Debug, Default)]
pub struct Decision {
    /// Events to append, in order.
    pub events: Vec<Stored>,
    /// What is stored beside them, in the same commit: whole results of calls, by call.
    pub documents: Vec<(String, Bytes)>,
    /// Bounds that were reached, to be counted.
    pub reached: Vec<&'static str>,
    /// Things to do, in order.
    pub effects: Vec<Effect>,
    /// How the input is answered.
    pub answer: Option<Result<Answer, SessionError>>,
}

impl Decision {
    fn answer(result: Result<Answer, SessionError>) -> Self {
        Self {
            answer: Some(result),
            ..Self::default()
        }
    }

    fn push(&mut self, run: Option<&RunId>, event: impl Into<Event>, now: Millis) -> usize {
        self.push_private(run, event, now, None)
    }

    fn push_private(
        &mut self,
        run: Option<&RunId>,
        event: impl Into<Event>,
        now: Millis,
        private: Option<Value>,
    ) -> usize {
        self.events
            .push(Stored::new(run.cloned(), event.into().with_timestamp(now), private));
        self.events.len() - 1
    }
}

/// What a running answer has used so far; kept by the actor beside the state because it is not in the log before the end.
#[derive(Debug, Clone, Default)]
pub struct Running {
    /// Tokens, when upstream said so.
    pub usage: Option<Usage>,
    /// The model that answers.
    pub model: Option<String>,
    /// What the active run may work with, once that is known.
    pub offer: Option<Offer>,
    /// Links that were made for it, by toolkit, or why there is none.
    pub links: HashMap<String, Result<Link, String>>,
    /// Toolkits of which the user has connected an account since the run began.
    pub connected: BTreeSet<String>,
    /// The conversation was trimmed for this run.
    pub trimmed: bool,
}

impl Running {
    /// Takes in what is not in the log. To be called with every input, before it is decided.
    pub fn observe(&mut self, state: &State, input: &Input) {
        let active = |run: &RunId| state.run.as_ref().is_some_and(|active| active.id == *run);
        match input {
            Input::Progress(run, progress) if active(run) => match progress {
                Progress::Started { model } => self.model = Some(model.clone()),
                Progress::Delta { usage: Some(usage), .. } => self.usage = Some(*usage),
                // It is in the log then.
                Progress::Finished(_) => self.usage = None,
                _ => {}
            },
            Input::Offered(run, offer) if active(run) => self.offer = Some(offer.clone()),
            Input::Linked(run, toolkit, link) if active(run) => {
                self.links.insert(toolkit.clone(), link.clone());
            }
            Input::Connected(toolkit) if state.run.is_some() => {
                self.connected.insert(toolkit.clone());
            }
            Input::Called(run, call, tools::Outcome::NotConnected { .. }) if active(run) => {
                // Tried with the account that was made by this link, it needs another.
                let toolkit = steps::toolkit_of_call(state, call);
                if self.links.contains_key(toolkit) && self.connected.remove(toolkit) {
                    self.links.remove(toolkit);
                }
            }
            Input::Summarized(run, ..) if active(run) => self.trimmed = true,
            _ => {}
        }
    }

    /// Another request to the model begins: what the last one used is in the log.
    pub fn asks(&mut self) {
        self.usage = None;
        self.model = None;
    }
}

/// Decides what follows from `input`.
pub fn decide(state: &State, running: &Running, input: Input, env: &mut Env<'_>) -> Decision {
    match input {
        Input::Submit(submit) => inbox::offer(state, running, submit, env),
        Input::Import(import) => import::begin(state, *import, env),
        Input::Rename(title) => settings::rename(state, title, env),
        Input::Configure(change) => settings::configure(state, *change, env),
        Input::Edit(edit) => branches::edit(state, running, *edit, env),
        Input::Regenerate(message) => branches::regenerate(state, running, message, env),
        Input::SelectBranch(branch) => branches::select(state, &branch, env),
        Input::Resume(resume) => questions::resume(state, *resume, env),
        Input::Connected(toolkit) => questions::connected(state, &toolkit, env),
        Input::Expire => questions::expire(state, env),
        Input::Offered(run, offer) => {
            let active = state.run.as_ref().is_some_and(|active| active.id == run);
            if active {
                steps::offered(&run, &offer.missing, env)
            } else {
                Decision::default()
            }
        }
        Input::Called(run, call, outcome) => steps::finished(state, running, &run, &call, outcome, env),
        Input::Linked(run, ..) | Input::Continue(run) => steps::proceed(state, running, &run, env),
        Input::Summarized(run, from, summary) => {
            let active = state.run.as_ref().is_some_and(|active| active.id == run);
            if active {
                steps::trimmed(&run, from, &summary, env)
            } else {
                Decision::default()
            }
        }
        Input::Unqueue(id) => inbox::unqueue(state, &id, env),
        Input::Cancel(run) => cancel(state, running, run.as_ref(), env),
        Input::Progress(run, progress) => {
            let active = state.run.as_ref().is_some_and(|active| active.id == run);
            if active {
                turn::advance(state, running, &run, progress, env)
            } else {
                Decision::default()
            }
        }
        Input::Deadline(run) => {
            let active = state.run.as_ref().is_some_and(|active| active.id == run);
            if active {
                deadline(state, running, &run, env)
            } else {
                Decision::default()
            }
        }
        Input::Recovered => recovered(state, env),
        Input::Next => next(state, env),
        Input::Interrupt => interrupted(state, running, env),
        Input::Notify(name, value) => {
            let mut decision = Decision::answer(Ok(Answer::Done));
            decision.push(None, Custom::new(name, value), env.now_ms);
            decision
        }
    }
}

fn cancel(state: &State, running: &Running, wanted: Option<&RunId>, env: &mut Env<'_>) -> Decision {
    // A run that waits for people may be given up as well.
    let waiting = state
        .waits()
        .then(|| state.runs.back().map(|past| past.id.clone()))
        .flatten();
    let active = state.run.as_ref().map(|run| run.id.clone()).or(waiting);
    if let Some(wanted) = wanted
        && active.as_ref() != Some(wanted)
    {
        return Decision::answer(Err(SessionError::new(
            ErrorCode::Conflict,
            format!("run {wanted} is not active"),
        )
        .with_details(json!({"resource": "Run", "field": "run"}))));
    }
    let mut decision = Decision::default();
    let usage = state.run.as_ref().and_then(|_| token_usage(running));
    if state.run.is_some() {
        close_cancelled(&mut decision, state, running, env);
    } else {
        let by = AnsweredBy {
            device: Some("cancel".to_owned()),
            ..AnsweredBy::default()
        };
        questions::drop_all(&mut decision, state, "cancelled", &by, env);
        if let Some(run) = &active {
            let value = json!(RunCancelled { run_id: run.clone() });
            decision.push(None, Custom::new(RUN_CANCELLED, value), env.now_ms);
        }
    }
    decision.answer = Some(Ok(Answer::Cancelled { run: active, usage }));
    decision
}

/// Closes what is open and ends the active run as cancelled.
fn close_cancelled(decision: &mut Decision, state: &State, running: &Running, env: &Env<'_>) {
    let now = env.now_ms;
    let Some(run) = &state.run else { return };
    steps::settle(decision, state, &run.id, "The user stopped the answer.", env);
    close_open(decision, state, &run.id, now);
    let mut finished = RunFinished::new(env.thread.to_string(), run.id.clone());
    finished.outcome = Some(Outcome::Cancelled);
    finished.usage = all_usage(state, running);
    decision.push(Some(&run.id), finished, now);
    decision.effects.push(Effect::Stop(run.id.clone()));
}

/// What the active run has used, one entry per model: its complete answers, and the one that is being written.
fn all_usage(state: &State, running: &Running) -> Option<Vec<TokenUsage>> {
    let mut all = state.run.as_ref().map(|run| run.spent.clone()).unwrap_or_default();
    if let Some(usage) = token_usage(running) {
        add_usage(&mut all, &usage);
    }
    (!all.is_empty()).then_some(all)
}

/// What closes everything that is open. A call that something was decided about gets its result elsewhere: from the run that
/// goes on with it, or from [`steps::settle`].
fn closers(state: &State, now: Millis) -> Vec<Event> {
    let decided = |call: &str| {
        let calls = state.step.iter().flat_map(|step| &step.calls);
        calls
            .into_iter()
            .any(|known| known.id == call && known.stage != Stage::Announced)
    };
    let mut closers = state.verifier.closers(now);
    closers.retain(|event| !matches!(event, Event::ToolCallResult(result) if decided(&result.tool_call_id)));
    closers
}

fn close_open(decision: &mut Decision, state: &State, run: &RunId, now: Millis) {
    for event in closers(state, now) {
        decision.push(Some(run), event, now);
    }
}

fn fail(decision: &mut Decision, state: &State, run: &RunId, error: RunError, now: Millis) {
    close_open(decision, state, run, now);
    decision.push(Some(run), error, now);
}

fn user_message(id: &MessageId, content: &UserContent) -> Message {
    Message::User(UserMessage::new(id.clone(), content.clone()))
}

/// Appends the `RUN_STARTED` that carries a user message; returns its index.
fn start(decision: &mut Decision, run: &RunId, message: Message, record: &RunRecord, env: &Env<'_>) -> usize {
    let thread = env.thread.to_string();
    let mut started = RunStarted::new(thread.clone(), run.clone());
    started.protocol_version = Some(AG_UI_VERSION.to_owned());
    started.input = Some(Box::new(RunInput::new(thread, run.clone(), vec![message])));
    decision.push_private(Some(run), started, env.now_ms, Some(json!(record)))
}

/// What belongs to the turn of a message.
fn record_of(submit: &Submit) -> RunRecord {
    RunRecord {
        attempt: 1,
        options: submit.run.clone(),
        context: submit.context.clone(),
        client_tools: submit.client_tools.clone(),
        ..RunRecord::default()
    }
}

/// Starts the turn of a message: what an older turn left open is ended. Returns the index of the message's event, and the run.
fn start_new(decision: &mut Decision, state: &State, submit: &Submit, env: &mut Env<'_>) -> (usize, RunId) {
    let by = AnsweredBy {
        device: Some("message".to_owned()),
        ..AnsweredBy::default()
    };
    questions::drop_all(decision, state, "superseded", &by, env);
    let run = (env.fresh_run)();
    let message = user_message(&submit.id, &submit.content);
    let event = start(decision, &run, message, &record_of(submit), env);
    if state.run.is_none() {
        questions::supersede(decision, state, &run, env);
    }
    decision.effects.push(Effect::Continue(run.clone()));
    (event, run)
}

/// Starts the run of the first message that waits, when nothing stands before it.
fn next(state: &State, env: &mut Env<'_>) -> Decision {
    let mut decision = Decision::default();
    let free = state.run.is_none()
        && state.retriable(env.config.max_run_attempts).is_none()
        && !state.goes_on()
        && !state.waits()
        && !env.draining;
    let Some(queued) = state.queue.front().filter(|_| free) else {
        return decision;
    };
    let submit = Submit {
        run: queued.record.options.clone(),
        context: queued.record.context.clone(),
        client_tools: queued.record.client_tools.clone(),
        ..Submit::new(queued.id.clone(), queued.content.clone())
    };
    start_new(&mut decision, state, &submit, env);
    decision
}

fn deadline(state: &State, running: &Running, run: &RunId, env: &mut Env<'_>) -> Decision {
    let mut decision = Decision::default();
    let failed = Failed {
        code: RunErrorCode::Deadline,
        message: "The answer took too long and was stopped.".to_owned(),
        retryable: true,
        after_ms: None,
        upstream_status: None,
        reason: None,
        usage: running.usage.unwrap_or_default(),
        attempts: 1,
    };
    steps::settle(
        &mut decision,
        state,
        run,
        "The answer took too long and was stopped.",
        env,
    );
    fail(
        &mut decision,
        state,
        run,
        run_error(&failed, state, running),
        env.now_ms,
    );
    decision.effects.push(Effect::Stop(run.clone()));
    decision
}

/// The attempts at the active turn since it last got on.
fn attempts(run: &super::state::ActiveRun) -> u32 {
    if run.progressed { 0 } else { run.record.attempt }
}

/// Closes the active run as interrupted: its partial text stays, and so do its calls.
fn close_interrupted(decision: &mut Decision, state: &State, running: &Running, env: &Env<'_>) {
    let Some(run) = &state.run else { return };
    let will_retry = attempts(run) < env.config.max_run_attempts;
    let again = if will_retry { " It starts again." } else { "" };
    let mut error = RunError::new(format!("The answer was interrupted.{again}"));
    let about = json!({"willRetry": will_retry, "attempts": run.record.attempt});
    error.metadata = Some(Map::from_iter([("kronos".to_owned(), about)]));
    error.code = Some(RunErrorCode::Interrupted.as_str().to_owned());
    error.usage = all_usage(state, running);
    if !will_retry {
        steps::settle(decision, state, &run.id, "The answer was interrupted.", env);
    }
    fail(decision, state, &run.id, error, env.now_ms);
}

fn interrupted(state: &State, running: &Running, env: &Env<'_>) -> Decision {
    let mut decision = Decision::default();
    if let Some(run) = &state.run {
        close_interrupted(&mut decision, state, running, env);
        decision.effects.push(Effect::Stop(run.id.clone()));
    }
    decision
}

/// After a fold: a run that nobody runs is closed and its turn tried again, from the step where it stood.
fn recovered(state: &State, env: &mut Env<'_>) -> Decision {
    let mut decision = Decision::default();
    close_interrupted(&mut decision, state, &Running::default(), env);
    if env.draining {
        return decision;
    }
    if state.goes_on() {
        questions::restart(&mut decision, state, env);
        return decision;
    }
    let active = state.run.as_ref().map(|run| (&run.message, &run.record, attempts(run)));
    let turn = active.or_else(|| {
        let turn = state.interrupted.as_ref()?;
        Some((&turn.message, &turn.record, turn.record.attempt))
    });
    match turn {
        Some((message, record, attempts)) if attempts < env.config.max_run_attempts => {
            let Some(content) = state.user_content(message) else {
                return decision;
            };
            let record = RunRecord {
                attempt: attempts + 1,
                ..record.clone()
            };
            questions::retry(&mut decision, state, user_message(message, content), &record, env);
        }
        _ => {}
    }
    decision
}

/// The seq that the reply names: that of the decision's event, given the seqs of all of them.
pub fn seq_of(answer: &Answer, seqs: &[Seq]) -> Option<Seq> {
    match answer {
        Answer::Sent { event, .. } | Answer::Resumed { event, .. } => seqs.get(*event).copied(),
        Answer::Duplicate { seq, .. } => Some(*seq),
        Answer::Done | Answer::Cancelled { .. } | Answer::Configured => None,
    }
}
