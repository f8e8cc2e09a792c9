//! What a session decides: `decide(state, input, env) -> Decision`. All rules of a conversation are here.
//!
//! Pure: no actix, IO, clock or randomness; times and ids come in with [`Env`]. The actor appends the events of a
//! decision to the log, folds them into the state, and performs the effects.

use kronos_protocol::{
    client::{RunOptions, SendMode},
    error::{ErrorCode, RunErrorCode},
    event::{
        Custom, Event, Outcome, ReasoningEnd, ReasoningMessageContent, ReasoningMessageEnd, ReasoningMessageStart,
        ReasoningStart, RunError, RunFinished, RunStarted, TextMessageContent, TextMessageEnd, TextMessageStart,
        TokenUsage,
    },
    ids::{MessageId, RunId, SessionId},
    message::{Message, RunInput, UserContent, UserMessage},
    position::Seq,
    version::AG_UI_VERSION,
};
use serde_json::{Map, Value, json};

use super::{
    context,
    log::{MAX_DELTA_BYTES, Stored},
    message::{SessionError, Submit},
    state::{Accepted, Body, MESSAGE_ACCEPTED, MESSAGE_UNQUEUED, RunRecord, State, Unqueued},
};
use crate::{
    clock::Millis,
    config::SessionConfig,
    gemini::{Content, Failed, Finished, Progress, Usage},
};

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
        self.events.push(Stored {
            run: run.cloned(),
            event: event.into().with_timestamp(now),
            private,
        });
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
        Input::Submit(submit) => offer(state, running, submit, env),
        Input::Unqueue(id) => unqueue(state, &id, env),
        Input::Cancel(run) => cancel(state, running, run.as_ref(), env),
        Input::Progress(run, progress) => {
            let active = state.run.as_ref().is_some_and(|active| active.id == run);
            if active {
                advance(state, running, &run, progress, env)
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

fn validate(submit: &Submit, config: &SessionConfig) -> Result<(), SessionError> {
    let chars = submit.content.text().chars().count();
    if chars == 0 {
        return Err(invalid("content", "a message needs at least one character"));
    }
    if chars > config.message_chars {
        return Err(SessionError::new(ErrorCode::TooLarge, "the message is too long")
            .with_details(json!({"limit": config.message_chars, "chars": chars, "name": "message_chars"})));
    }
    let options = &submit.run;
    if options.temperature.is_some_and(|value| !(0.0..=2.0).contains(&value)) {
        return Err(invalid("run.temperature", "must be from 0 to 2"));
    }
    if options.max_tokens.is_some_and(|value| !(1..=65_536).contains(&value)) {
        return Err(invalid("run.max_tokens", "must be from 1 to 65536"));
    }
    if options.model.as_ref().is_some_and(|model| !is_model_name(model)) {
        return Err(invalid("run.model", "is not a model's name"));
    }
    if options
        .system_prompt
        .as_ref()
        .is_some_and(|prompt| prompt.chars().count() > config.message_chars)
    {
        return Err(invalid("run.system_prompt", "is too long"));
    }
    Ok(())
}

/// A model's name goes into a path: letters, digits, `.`, `_`, `-`.
fn is_model_name(model: &str) -> bool {
    (1..=100).contains(&model.len()) && model.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

fn invalid(field: &str, message: &str) -> SessionError {
    SessionError::new(ErrorCode::Validation, format!("{field}: {message}"))
        .with_details(json!({"errors": [{"field": field, "message": message, "type": "value_error"}]}))
}

fn offer(state: &State, running: &Running, submit: Submit, env: &mut Env<'_>) -> Decision {
    if let Some(answer) = known(state, &submit) {
        return Decision::answer(answer);
    }
    if let Err(error) = validate(&submit, env.config) {
        return Decision::answer(Err(error));
    }
    if env.draining {
        let error = SessionError::new(ErrorCode::ShuttingDown, "the server restarts").after_ms(1000);
        return Decision::answer(Err(error));
    }
    if state.run.is_none() {
        return begin(state, &submit, env);
    }
    match submit.mode {
        SendMode::Queue => enqueue(state, &submit, env),
        SendMode::Reject => Decision::answer(Err(SessionError::new(ErrorCode::Busy, "a run is active").after_ms(1000))),
        SendMode::Steer => Decision::answer(Err(SessionError::new(
            ErrorCode::Unsupported,
            "mode steer is not supported yet",
        ))),
        SendMode::Interrupt => {
            let mut decision = Decision::default();
            close_cancelled(&mut decision, state, running, env);
            let run = (env.fresh_run)();
            let event = start_new(&mut decision, &submit, &run, env);
            let contents = context::contents(state, Some(&submit.content));
            decision.effects.push(generate(run.clone(), submit.run, contents));
            decision.answer = Some(Ok(Answer::Sent {
                event,
                run: Some(run),
                queued: None,
            }));
            decision
        }
    }
}

/// The answer to a message that was taken before: the same again, or a conflict when the id is used for something else.
fn known(state: &State, submit: &Submit) -> Option<Result<Answer, SessionError>> {
    let conflict = |what: &str| {
        SessionError::new(ErrorCode::Conflict, format!("message id {} {what}", submit.id))
            .with_details(json!({"resource": "Message", "field": "id"}))
    };
    let Some(sent) = state.sends.get(&submit.id) else {
        let taken = state.messages.iter().any(|said| said.id == submit.id);
        return taken.then(|| Err(conflict("is taken")));
    };
    if state
        .user_content(&submit.id)
        .is_some_and(|content| *content != submit.content)
    {
        return Some(Err(conflict("was used for another message")));
    }
    let queued = state.queue.iter().position(|queued| queued.id == submit.id).map(place);
    Some(Ok(Answer::Duplicate {
        seq: sent.seq,
        run: sent.run.clone(),
        queued,
    }))
}

fn place(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX).saturating_add(1)
}

fn begin(state: &State, submit: &Submit, env: &mut Env<'_>) -> Decision {
    let mut decision = Decision::default();
    let run = (env.fresh_run)();
    let event = start_new(&mut decision, submit, &run, env);
    let contents = context::contents(state, Some(&submit.content));
    decision
        .effects
        .push(generate(run.clone(), submit.run.clone(), contents));
    decision.answer = Some(Ok(Answer::Sent {
        event,
        run: Some(run),
        queued: None,
    }));
    decision
}

fn enqueue(state: &State, submit: &Submit, env: &Env<'_>) -> Decision {
    if state.queue.len() >= env.config.inbox_messages {
        let error = SessionError::new(ErrorCode::Overloaded, "too many messages wait in this conversation")
            .with_details(json!({"limit": env.config.inbox_messages, "name": "inbox_messages"}))
            .after_ms(2000);
        return Decision::answer(Err(error));
    }
    let mut decision = Decision::default();
    let message = user_message(&submit.id, &submit.content);
    let value = json!(Accepted {
        message_id: submit.id.clone(),
        queued: true,
        message,
        mode: submit.mode
    });
    let private = json!(RunRecord {
        attempt: 0,
        options: submit.run.clone()
    });
    let event = decision.push_private(None, Custom::new(MESSAGE_ACCEPTED, value), env.now_ms, Some(private));
    decision.answer = Some(Ok(Answer::Sent {
        event,
        run: None,
        queued: Some(place(state.queue.len())),
    }));
    decision
}

fn unqueue(state: &State, id: &MessageId, env: &Env<'_>) -> Decision {
    if !state.queue.iter().any(|queued| queued.id == *id) {
        let removed = state.sends.get(id).map(|sent| sent.removed);
        return Decision::answer(match removed {
            Some(true) => Ok(Answer::Done),
            Some(false) => Err(SessionError::new(ErrorCode::Conflict, "the message has been started")
                .with_details(json!({"resource": "Message", "field": "id"}))),
            None => Err(
                SessionError::new(ErrorCode::NotFound, format!("Message not found: {id}"))
                    .with_details(json!({"resource": "Message", "identifier": id.as_str()})),
            ),
        });
    }
    let mut decision = Decision::answer(Ok(Answer::Done));
    decision.push(
        None,
        Custom::new(MESSAGE_UNQUEUED, json!(Unqueued { message_id: id.clone() })),
        env.now_ms,
    );
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

fn advance(state: &State, running: &Running, run: &RunId, progress: Progress, env: &mut Env<'_>) -> Decision {
    let mut decision = Decision::default();
    match progress {
        Progress::Started { .. } => {}
        Progress::Retrying {
            attempt,
            code,
            after_ms,
        } => {
            let message = "The model did not answer; trying again.";
            let value = json!({"attempt": attempt, "code": code.as_str(), "afterMs": after_ms, "message": message});
            decision.push(Some(run), Custom::new(RETRY, value), env.now_ms);
        }
        Progress::Thought { text } => think(&mut decision, state, run, &text, env.now_ms),
        Progress::Delta { text, .. } => say(&mut decision, state, run, &text, env.now_ms),
        Progress::Finished(finished) => {
            finish(&mut decision, state, run, finished, env);
        }
        Progress::Failed(failed) => {
            let error = run_error(&failed, running);
            fail(&mut decision, state, run, error, env.now_ms);
        }
    }
    decision
}

/// The id of the run's answer: one per run, derived, so that it needs no randomness here.
fn answer_id(run: &RunId) -> MessageId {
    derived("a_", run)
}

pub(super) fn reasoning_id(run: &RunId) -> MessageId {
    derived("t_", run)
}

fn derived(prefix: &str, run: &RunId) -> MessageId {
    let tail = run.as_str().strip_prefix("r_").unwrap_or(run.as_str());
    MessageId::from_trusted(format!("{prefix}{tail}"))
}

fn answer_open(state: &State, id: &MessageId) -> bool {
    state
        .messages
        .iter()
        .rev()
        .any(|said| said.id == *id && matches!(said.body, Body::Assistant { complete: false, .. }))
}

fn say(decision: &mut Decision, state: &State, run: &RunId, text: &str, now: Millis) {
    let id = answer_id(run);
    if !answer_open(state, &id) {
        if state.reasoning_open {
            decision.push(Some(run), ReasoningMessageEnd::new(reasoning_id(run)), now);
            decision.push(Some(run), ReasoningEnd::new(reasoning_id(run)), now);
        }
        decision.push(Some(run), TextMessageStart::new(id.clone()), now);
    }
    for piece in pieces(text, MAX_DELTA_BYTES) {
        decision.push(Some(run), TextMessageContent::new(id.clone(), piece.to_owned()), now);
    }
}

fn think(decision: &mut Decision, state: &State, run: &RunId, text: &str, now: Millis) {
    let id = reasoning_id(run);
    if answer_open(state, &answer_id(run)) {
        return;
    }
    if !state.reasoning_open {
        decision.push(Some(run), ReasoningStart::new(id.clone()), now);
        decision.push(Some(run), ReasoningMessageStart::new(id.clone()), now);
    }
    for piece in pieces(text, MAX_DELTA_BYTES) {
        decision.push(
            Some(run),
            ReasoningMessageContent::new(id.clone(), piece.to_owned()),
            now,
        );
    }
}

/// Cuts a text into pieces of at most `max` bytes, between characters.
fn pieces(text: &str, max: usize) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut at = rest.len().min(max);
        while !rest.is_char_boundary(at) {
            at -= 1;
        }
        let (head, tail) = rest.split_at(at);
        rest = tail;
        Some(head)
    })
}

fn finish(decision: &mut Decision, state: &State, run: &RunId, finished: Finished, env: &Env<'_>) {
    let now = env.now_ms;
    let id = answer_id(run);
    for event in state.verifier.closers(now) {
        let private = match &event {
            Event::TextMessageEnd(TextMessageEnd { message_id, .. }) if *message_id == id => {
                Some(json!({"parts": finished.parts}))
            }
            _ => None,
        };
        decision.push_private(Some(run), event, now, private);
    }
    if finished.truncated {
        let value = json!({"code": "max_tokens", "message": "The answer was cut off at its length limit."});
        decision.push(Some(run), Custom::new(NOTICE, value), now);
    }
    let mut event = RunFinished::new(env.thread.to_string(), run.clone());
    event.outcome = Some(Outcome::Success {
        pending_tool_call_ids: None,
    });
    event.usage = Some(vec![usage_of(&finished.usage, &finished.model)]);
    let mut about = Map::new();
    about.insert("finishReason".to_owned(), json!(finished.finish_reason));
    about.insert("model".to_owned(), json!(finished.model));
    if let Some(response) = finished.response_id {
        about.insert("responseId".to_owned(), json!(response));
    }
    event.metadata = Some(Map::from_iter([("kronos".to_owned(), Value::Object(about))]));
    decision.push(Some(run), event, now);
}

fn run_error(failed: &Failed, running: &Running) -> RunError {
    let mut error = RunError::new(failed.message.clone());
    error.code = Some(failed.code.as_str().to_owned());
    if failed.usage != Usage::default() {
        let model = running.model.as_deref().unwrap_or_default();
        error.usage = Some(vec![usage_of(&failed.usage, model)]);
    }
    let mut about = Map::new();
    about.insert("retryable".to_owned(), json!(failed.retryable));
    about.insert("attempts".to_owned(), json!(failed.attempts));
    if let Some(after_ms) = failed.after_ms {
        about.insert("afterMs".to_owned(), json!(after_ms));
    }
    if let Some(reason) = &failed.reason {
        about.insert("reason".to_owned(), json!(reason));
    }
    if let Some(status) = failed.upstream_status {
        about.insert("upstreamStatus".to_owned(), json!(status));
    }
    error.metadata = Some(Map::from_iter([("kronos".to_owned(), Value::Object(about))]));
    error
}

fn token_usage(running: &Running) -> Option<TokenUsage> {
    running
        .usage
        .as_ref()
        .map(|usage| usage_of(usage, running.model.as_deref().unwrap_or_default()))
}

fn usage_of(usage: &Usage, model: &str) -> TokenUsage {
    TokenUsage {
        provider: Some("google".to_owned()),
        model: (!model.is_empty()).then(|| model.to_owned()),
        input_tokens: Some(usage.prompt),
        output_tokens: Some(usage.answer + usage.thoughts),
        total_tokens: Some(usage.total),
        reasoning_tokens: (usage.thoughts > 0).then_some(usage.thoughts),
        cached_input_tokens: (usage.cached > 0).then_some(usage.cached),
        cache_write_input_tokens: None,
    }
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
