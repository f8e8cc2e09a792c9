//! What a session decides: `decide(state, input, env) -> Decision`. All rules of a conversation are here.
//!
//! Pure: no actix, IO, clock or randomness; times and ids come in with [`Env`]. The actor appends the events of a
//! decision to the log, folds them into the state, and performs the effects.

use kronos_protocol::{
    client::RunOptions,
    error::{ErrorCode, RunErrorCode},
    event::{Custom, Event, Outcome, RunError, RunFinished, RunStarted, TokenUsage},
    ids::{MessageId, RunId, SessionId},
    message::{Message, RunInput, UserContent, UserMessage},
    position::Seq,
    version::AG_UI_VERSION,
};
use serde_json::{Map, Value, json};

use super::{
    context,
    log::Stored,
    message::{Import, SessionError, Submit},
    state::{Retitled, RunRecord, State, TITLE_CHANGED},
};
use crate::{
    clock::Millis,
    config::SessionConfig,
    gemini::{Content, Failed, Progress, Usage},
};

mod import;
mod inbox;
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
    /// Ask the model.
    Generate(Box<Generate>),
    /// Close the upstream connection of this run.
    Stop(RunId),
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
}

/// What follows from an input.
#[derive(Debug, Default)]
pub struct Decision {
    /// Events to append, in order.
    pub events: Vec<Stored>,
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
}

/// Decides what follows from `input`.
pub fn decide(state: &State, running: &Running, input: Input, env: &mut Env<'_>) -> Decision {
    match input {
        Input::Submit(submit) => inbox::offer(state, running, submit, env),
        Input::Import(import) => import::begin(state, *import, env),
        Input::Rename(title) => rename(state, title, env),
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

fn rename(state: &State, title: String, env: &Env<'_>) -> Decision {
    let limit = env.config.title_chars;
    if title.is_empty() || title.chars().count() > limit {
        return Decision::answer(Err(SessionError::new(
            ErrorCode::Validation,
            format!("title: 1 to {limit} characters"),
        )
        .with_details(json!({"field": "title", "limit": limit}))));
    }
    let mut decision = Decision::answer(Ok(Answer::Done));
    if state.title.as_ref() != Some(&title) {
        decision.push(None, Custom::new(TITLE_CHANGED, json!(Retitled { title })), env.now_ms);
    }
    decision
}

fn cancel(state: &State, running: &Running, wanted: Option<&RunId>, env: &mut Env<'_>) -> Decision {
    let active = state.run.as_ref().map(|run| run.id.clone());
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
    close_cancelled(&mut decision, state, running, env);
    let usage = active.as_ref().and_then(|_| token_usage(running));
    decision.answer = Some(Ok(Answer::Cancelled { run: active, usage }));
    decision
}

/// Closes what is open and ends the active run as cancelled.
fn close_cancelled(decision: &mut Decision, state: &State, running: &Running, env: &Env<'_>) {
    let now = env.now_ms;
    let Some(run) = &state.run else { return };
    close_open(decision, state, &run.id, now);
    let mut finished = RunFinished::new(env.thread.to_string(), run.id.clone());
    finished.outcome = Some(Outcome::Cancelled);
    finished.usage = token_usage(running).map(|usage| vec![usage]);
    decision.push(Some(&run.id), finished, now);
    decision.effects.push(Effect::Stop(run.id.clone()));
}

fn close_open(decision: &mut Decision, state: &State, run: &RunId, now: Millis) {
    for event in state.verifier.closers(now) {
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

fn start_new(decision: &mut Decision, submit: &Submit, run: &RunId, env: &Env<'_>) -> usize {
    let record = RunRecord {
        attempt: 1,
        options: submit.run.clone(),
    };
    start(decision, run, user_message(&submit.id, &submit.content), &record, env)
}

fn generate(run: RunId, options: RunOptions, contents: Vec<Content>) -> Effect {
    Effect::Generate(Box::new(Generate { run, options, contents }))
}

/// Starts the run of the first message that waits, when nothing stands before it.
fn next(state: &State, env: &mut Env<'_>) -> Decision {
    let mut decision = Decision::default();
    let free = state.run.is_none() && state.retriable(env.config.max_run_attempts).is_none() && !env.draining;
    let Some(queued) = state.queue.front().filter(|_| free) else {
        return decision;
    };
    let run = (env.fresh_run)();
    let record = RunRecord {
        attempt: 1,
        options: queued.options.clone(),
    };
    start(
        &mut decision,
        &run,
        user_message(&queued.id, &queued.content),
        &record,
        env,
    );
    let contents = context::contents(state, Some(&queued.content));
    decision.effects.push(generate(run, queued.options.clone(), contents));
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
    fail(&mut decision, state, run, run_error(&failed, running), env.now_ms);
    decision.effects.push(Effect::Stop(run.clone()));
    decision
}

/// Closes the active run as interrupted: its partial text stays.
fn close_interrupted(decision: &mut Decision, state: &State, running: &Running, env: &Env<'_>) {
    let Some(run) = &state.run else { return };
    let will_retry = run.attempt < env.config.max_run_attempts;
    let again = if will_retry { " It starts again." } else { "" };
    let mut error = RunError::new(format!("The answer was interrupted.{again}"));
    let about = json!({"willRetry": will_retry, "attempts": run.attempt});
    error.metadata = Some(Map::from_iter([("kronos".to_owned(), about)]));
    error.code = Some(RunErrorCode::Interrupted.as_str().to_owned());
    error.usage = token_usage(running).map(|usage| vec![usage]);
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

/// After a fold: a run that nobody runs is closed and its turn tried again.
fn recovered(state: &State, env: &mut Env<'_>) -> Decision {
    let mut decision = Decision::default();
    close_interrupted(&mut decision, state, &Running::default(), env);
    if env.draining {
        return decision;
    }
    let active = state.run.as_ref().map(|run| (&run.message, run.attempt, &run.options));
    let turn = active.or_else(|| {
        state
            .interrupted
            .as_ref()
            .map(|turn| (&turn.message, turn.attempts, &turn.options))
    });
    match turn {
        Some((message, attempts, options)) if attempts < env.config.max_run_attempts => {
            let Some(content) = state.user_content(message) else {
                return decision;
            };
            let run = (env.fresh_run)();
            let record = RunRecord {
                attempt: attempts + 1,
                options: options.clone(),
            };
            start(&mut decision, &run, user_message(message, content), &record, env);
            let contents = context::contents_of_retry(state, message);
            decision.effects.push(generate(run, options.clone(), contents));
        }
        _ => {}
    }
    decision
}

/// The seq that the reply names: that of the decision's event, given the seqs of all of them.
pub fn seq_of(answer: &Answer, seqs: &[Seq]) -> Option<Seq> {
    match answer {
        Answer::Sent { event, .. } => seqs.get(*event).copied(),
        Answer::Duplicate { seq, .. } => Some(*seq),
        Answer::Done | Answer::Cancelled { .. } => None,
    }
}
