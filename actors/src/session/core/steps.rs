//! The loop of a run: a step of the model, its calls, their results, the next step. Pure.
//!
//! Where a run stands is read off the state, never remembered beside it: [`proceed`] looks at what is there and does the next
//! thing, so that a restart goes on at the same place.

use bytes::Bytes;
use kronos_protocol::{
    client::{ToolPolicy, ToolRule},
    error::RunErrorCode,
    event::{
        ActivityDelta, ActivitySnapshot, Custom, ReasoningEnd, ReasoningMessageEnd, RunError, StepFinished,
        StepStarted, TextMessageContent, TextMessageEnd, TextMessageStart, TextRole, TokenUsage, ToolCallArgs,
        ToolCallEnd, ToolCallResult, ToolCallStart, ToolRole,
    },
    ids::{MessageId, RunId},
    message::UserContent,
    patch::PatchOp,
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        context,
        log::MAX_DELTA_BYTES,
        state::{
            ActiveRun, CONTEXT_TRIMMED, Call, CallDecision, Decided, Intent, Queued, ResultRecord, ResultStatus, Stage,
            State, Step, TOOL_CALLS, TOOL_PROGRESS, ToolCalls, ToolCallsRecord, Trimmed, add_usage,
        },
    },
    Decision, Effect, Env, Execute, Generate, NOTICE, RETRY, Running, fail, questions,
    turn::{answer_id, pieces, reasoning_id, tail_of},
};
use crate::{
    clock::Millis,
    gemini::{self, Calling, Finished, Function, FunctionCall},
    tools::{self, Outcome, Tool},
};

/// The toolkit of tools that the client runs itself.
const CLIENT: &str = "client";

/// Does the next thing that the active run needs, if there is any.
pub(super) fn proceed(state: &State, running: &Running, run: &RunId, env: &mut Env<'_>) -> Decision {
    let Some(active) = state.run.as_ref().filter(|active| active.id == *run) else {
        return Decision::default();
    };
    let mut decision = Decision::default();
    match &state.step {
        Some(step) if waits(step, running) => {}
        Some(step) if step.calls.iter().any(|call| call.stage != Stage::Answered) => {
            questions::ask(&mut decision, state, running, active, step, env);
        }
        _ => match &state.step_open {
            Some(name) => {
                decision.push(Some(run), StepFinished::new(name.clone()), env.now_ms);
                decision.effects.push(Effect::Continue(run.clone()));
            }
            None => model_step(&mut decision, state, running, active, env),
        },
    }
    decision
}

/// Whether something is on its way for the step.
fn waits(step: &Step, running: &Running) -> bool {
    step.calls.iter().any(|call| match call.stage {
        Stage::Sent => true,
        Stage::Connecting => !running.links.contains_key(toolkit_of(call)),
        Stage::Announced | Stage::Asking | Stage::Unknown | Stage::Client | Stage::Answered => false,
    })
}

pub(super) fn toolkit_of(call: &Call) -> &str {
    call.intent.as_ref().map_or("", |intent| intent.toolkit.as_str())
}

/// The same of the call with this id.
pub(super) fn toolkit_of_call<'a>(state: &'a State, id: &str) -> &'a str {
    let mut calls = state.step.iter().flat_map(|step| &step.calls);
    calls.find(|call| call.id == id).map_or("", toolkit_of)
}

/// Asks the model, after whatever must come before.
fn model_step(decision: &mut Decision, state: &State, running: &Running, active: &ActiveRun, env: &mut Env<'_>) {
    let run = &active.id;
    let Some(offer) = &running.offer else {
        let toolkits = active
            .record
            .options
            .toolkits
            .clone()
            .or_else(|| env.settings.toolkits.clone());
        let hint = state
            .user_content(&active.message)
            .map(|content| content.text().into_owned());
        return decision.effects.push(Effect::Offer {
            run: run.clone(),
            toolkits,
            hint: hint.unwrap_or_default(),
        });
    };
    let steered: Vec<&Queued> = state.queue.iter().filter(|queued| queued.is_steering()).collect();
    if !steered.is_empty() {
        for queued in steered {
            hand_over(decision, run, queued, env.now_ms);
        }
        return decision.effects.push(Effect::Continue(run.clone()));
    }
    if !running.trimmed
        && let Some(from) = context::to_trim(state, &active.message, env.config.context_tokens)
    {
        let transcript = context::transcript(state, &from);
        return decision.effects.push(Effect::Summarize {
            run: run.clone(),
            from,
            transcript,
        });
    }
    // A plain answer has told of no step, and was one.
    let step = active.record.steps.max(active.answers) + 1;
    if step > env.config.max_steps {
        decision.reached.push("max_steps");
        let mut error = RunError::new("The answer took too many steps and was stopped.");
        error.code = Some(RunErrorCode::TooManySteps.as_str().to_owned());
        error.usage = super::all_usage(state, running);
        return fail(decision, state, run, error, env.now_ms);
    }
    let functions = functions(&offer.tools, active, env);
    // A plain answer is one step: there is nothing to tell.
    if !functions.is_empty() || active.answers > 0 {
        decision.push(Some(run), StepStarted::new(format!("step-{step}")), env.now_ms);
    }
    let calling = match (step >= env.config.max_steps, active.record.mends) {
        (true, _) => Calling::None,
        (false, 0) => Calling::Auto,
        (false, _) => Calling::Validated,
    };
    decision.effects.push(Effect::Generate(Box::new(Generate {
        run: run.clone(),
        options: active.record.options.clone(),
        contents: context::contents(state),
        functions: functions.into(),
        calling,
        notes: notes(&offer.notes, active.record.context.as_deref()),
    })));
}

/// What the model is told beside its system prompt.
fn notes(notes: &[String], context: Option<&str>) -> Option<String> {
    let mut told = String::new();
    if !notes.is_empty() {
        told.push_str("What the user asked you to remember:\n");
        for note in notes {
            told.push_str("- ");
            told.push_str(note);
            told.push('\n');
        }
    }
    if let Some(context) = context {
        told.push_str("What the application tells you:\n");
        told.push_str(context);
    }
    (!told.is_empty()).then_some(told)
}

/// What the model may call: the tools that no rule denies, and those of the client.
fn functions(tools: &[Tool], active: &ActiveRun, env: &Env<'_>) -> Vec<Function> {
    let allowed = tools
        .iter()
        .filter(|tool| rule(&tool.name, env) != Some(ToolRule::Deny));
    let ours = allowed.map(|tool| Function {
        name: tool.name.clone(),
        description: tool.description.clone(),
        parameters: tool.parameters.clone(),
    });
    let of_client = active.record.client_tools.iter();
    let of_client = of_client.filter(|tool| !tools.iter().any(|ours| ours.name == tool.name));
    let of_client = of_client.map(|tool| Function {
        name: tool.name.clone(),
        description: tool.description.clone(),
        parameters: tool.parameters.clone().map(Into::into),
    });
    ours.chain(of_client).collect()
}

fn rule(tool: &str, env: &Env<'_>) -> Option<ToolRule> {
    env.settings.tool_rules.as_ref()?.get(tool).copied()
}

/// Puts a message that was steered into the run where the model reads it next.
fn hand_over(decision: &mut Decision, run: &RunId, queued: &Queued, now: Millis) {
    let id = &queued.id;
    let mut start = TextMessageStart::new(id.clone());
    start.role = Some(TextRole::User);
    let (text, whole) = match &queued.content {
        UserContent::Text(text) => (text.clone(), None),
        // Parts have no place in a text message: clients read the text of them, the model all.
        UserContent::Parts(_) => (
            queued.content.text().into_owned(),
            Some(json!({"content": queued.content})),
        ),
    };
    decision.push_private(Some(run), start, now, whole);
    for piece in pieces(&text, MAX_DELTA_BYTES) {
        decision.push(Some(run), TextMessageContent::new(id.clone(), piece.to_owned()), now);
    }
    decision.push(Some(run), TextMessageEnd::new(id.clone()), now);
}

/// The beginning of the conversation was summed up, or could not be.
pub(super) fn trimmed(run: &RunId, from: MessageId, summary: &str, env: &Env<'_>) -> Decision {
    let mut decision = Decision::default();
    let value = json!(Trimmed { from });
    let beside = json!({"summary": summary});
    decision.reached.push("context_tokens");
    decision.push_private(Some(run), Custom::new(CONTEXT_TRIMMED, value), env.now_ms, Some(beside));
    decision.effects.push(Effect::Continue(run.clone()));
    decision
}

/// Tools are offered: the model can be asked.
pub(super) fn offered(run: &RunId, missing: &[String], env: &Env<'_>) -> Decision {
    let mut decision = Decision::default();
    if !missing.is_empty() {
        let value = json!({"code": "tools_missing", "message": missing.join(" ")});
        decision.push(Some(run), Custom::new(NOTICE, value), env.now_ms);
    }
    decision.effects.push(Effect::Continue(run.clone()));
    decision
}

/// The model makes a call: shown as soon as it was read.
pub(super) fn announce(
    decision: &mut Decision,
    state: &State,
    run: &RunId,
    call: &FunctionCall,
    at: usize,
    now: Millis,
) {
    if state.reasoning_open && at == 0 {
        let thoughts = reasoning_id(run, state);
        decision.push(Some(run), ReasoningMessageEnd::new(thoughts.clone()), now);
        decision.push(Some(run), ReasoningEnd::new(thoughts), now);
    }
    let id = call_id(run, state, at);
    let mut start = ToolCallStart::new(id.clone(), call.name.clone());
    start.parent_message_id = Some(answer_id(run, state));
    decision.push(Some(run), start, now);
    let arguments = serde_json::to_string(&call.arguments).unwrap_or_else(|_| "{}".to_owned());
    for piece in pieces(&arguments, MAX_DELTA_BYTES) {
        decision.push(Some(run), ToolCallArgs::new(id.clone(), piece.to_owned()), now);
    }
    decision.push(Some(run), ToolCallEnd::new(id), now);
}

/// The id of a call: unique in the session, derived, so that it needs no randomness here.
fn call_id(run: &RunId, state: &State, at: usize) -> String {
    let answers = state.run.as_ref().map_or(0, |run| run.answers);
    format!("call_{}_{}_{}", tail_of(run), answers + 1, at + 1)
}

/// How many calls of the answer that is being written are in the log.
pub(super) fn announced(state: &State, run: &RunId) -> usize {
    let id = answer_id(run, state);
    state
        .step
        .as_ref()
        .filter(|step| step.message == id)
        .map_or(0, |step| step.calls.len())
}

/// What is to become of one call of an answer.
struct Judged<'a> {
    id: String,
    name: &'a str,
    tool: Option<&'a Tool>,
    toolkit: Option<String>,
    decision: Decided,
    arguments: &'a Map<String, Value>,
    why: Option<String>,
    /// The bound that it is over.
    reached: Option<&'static str>,
}

/// The answer makes calls: decides about each, writes the intents, and lets those leave that may.
pub(super) fn decide(
    decision: &mut Decision,
    state: &State,
    running: &Running,
    active: &ActiveRun,
    finished: Finished,
    usage: TokenUsage,
    env: &Env<'_>,
) {
    let (run, now) = (&active.id, env.now_ms);
    let calls = gemini::calls_of(&finished.parts);
    let judged: Vec<Judged<'_>> = calls
        .iter()
        .enumerate()
        .map(|(at, call)| judge(state, running, active, call, at, env))
        .collect();
    decision.reached.extend(judged.iter().filter_map(|call| call.reached));
    let refused = judged.iter().any(|call| call.decision == Decided::Refused);
    if refused && active.record.mends >= env.config.max_call_mends {
        decision.reached.push("call_mends");
        let mut error = RunError::new("The model made calls that cannot be made, again and again.");
        error.code = Some(RunErrorCode::MalformedCall.as_str().to_owned());
        let mut spent = active.spent.clone();
        add_usage(&mut spent, &usage);
        error.usage = Some(spent);
        return fail(decision, state, run, error, now);
    }
    for (at, call) in calls.iter().enumerate().skip(announced(state, run)) {
        announce(decision, state, run, call, at, now);
    }
    close_text(decision, state, run, now);
    let record = ToolCallsRecord {
        parts: Some(finished.parts),
        usage: Some(usage),
        intents: judged.iter().filter_map(|call| intent_of(call, env)).collect(),
        mend: refused,
    };
    let decided = judged.iter().map(|call| CallDecision {
        tool_call_id: call.id.clone(),
        tool: call.name.to_owned(),
        toolkit: call.toolkit.clone(),
        read_only: call.tool.is_some_and(|tool| tool.read_only),
        decision: call.decision,
        message: call.why.clone(),
    });
    write(decision, run, decided.collect(), record.clone(), now);
    for call in &judged {
        let intent = record.intents.iter().find(|intent| intent.call == call.id);
        match (call.decision, intent) {
            (Decided::Run, Some(intent)) => {
                leave(decision, run, call.name, intent, call.arguments.clone(), now);
            }
            (Decided::Refused, _) => {
                let why = call.why.as_deref().unwrap_or("not possible");
                answer(
                    decision,
                    run,
                    &call.id,
                    json!({"error": why}),
                    ResultStatus::Refused,
                    env,
                );
            }
            _ => {}
        }
    }
    decision.effects.push(Effect::Continue(run.clone()));
}

fn judge<'a>(
    state: &State,
    running: &'a Running,
    active: &'a ActiveRun,
    call: &'a FunctionCall,
    at: usize,
    env: &Env<'_>,
) -> Judged<'a> {
    let id = call_id(&active.id, state, at);
    let tool = running
        .offer
        .iter()
        .flat_map(|offer| &offer.tools)
        .find(|tool| tool.name == call.name);
    let client = active.record.client_tools.iter().find(|tool| tool.name == call.name);
    let mut judged = Judged {
        id,
        name: &call.name,
        tool,
        toolkit: tool.map(|tool| tool.toolkit.clone()),
        decision: Decided::Refused,
        arguments: &call.arguments,
        why: None,
        reached: None,
    };
    let parameters = tool.and_then(|tool| tool.parameters.as_deref());
    let rule = rule(&call.name, env);
    if at >= env.config.max_calls_per_step {
        judged.reached = Some("calls_per_step");
        judged.why = Some(format!(
            "too many calls at once: at most {}",
            env.config.max_calls_per_step
        ));
    } else if active.record.steps >= env.config.max_steps {
        judged.reached = Some("max_steps");
        judged.why = Some("no more calls are possible in this turn: answer now".to_owned());
    } else if tool.is_none() && client.is_some() {
        judged.toolkit = Some(CLIENT.to_owned());
        judged.decision = Decided::Client;
    } else if tool.is_none() || rule == Some(ToolRule::Deny) {
        judged.why = Some("there is no such tool".to_owned());
    } else if let Err(why) = tools::check_arguments(parameters, &call.arguments) {
        judged.why = Some(format!("the arguments do not fit: {why}"));
    } else {
        let policy = active
            .record
            .options
            .tool_policy
            .or(env.settings.tool_policy)
            .unwrap_or_default();
        let asks = match (rule, policy) {
            (Some(ToolRule::Auto), _) | (None | Some(ToolRule::Deny), ToolPolicy::Auto) => false,
            (Some(ToolRule::Ask), _) | (_, ToolPolicy::AskAll) => true,
            (_, ToolPolicy::AskWrites) => tool.is_some_and(|tool| tool.asks),
        };
        judged.decision = if asks { Decided::Ask } else { Decided::Run };
    }
    judged
}

fn intent_of(call: &Judged<'_>, env: &Env<'_>) -> Option<Intent> {
    let tool = call
        .tool
        .filter(|_| matches!(call.decision, Decided::Run | Decided::Ask))?;
    let schema = (call.decision == Decided::Ask).then(|| tool.parameters.as_deref().cloned());
    Some(Intent {
        call: call.id.clone(),
        key: key(env, &call.id, 1),
        toolkit: tool.toolkit.clone(),
        version: tool.version.clone(),
        read_only: tool.read_only,
        repeatable: tool.repeatable,
        arguments: None,
        schema: schema.flatten(),
    })
}

/// The idempotency key of the n-th time that a call may have an effect.
pub(super) fn key(env: &Env<'_>, call: &str, time: u32) -> String {
    format!("{}:{call}:{time}", env.thread)
}

/// Writes what was decided about calls.
pub(super) fn write(
    decision: &mut Decision,
    run: &RunId,
    calls: Vec<CallDecision>,
    record: ToolCallsRecord,
    now: Millis,
) {
    let value = json!(ToolCalls { calls });
    decision.push_private(Some(run), Custom::new(TOOL_CALLS, value), now, Some(json!(record)));
}

/// Lets a call leave once its intent, which is written, is durable.
pub(super) fn leave(
    decision: &mut Decision,
    run: &RunId,
    tool: &str,
    intent: &Intent,
    arguments: Map<String, Value>,
    now: Millis,
) {
    let mut content = Map::new();
    content.insert("toolCallId".to_owned(), json!(intent.call));
    content.insert("tool".to_owned(), json!(tool));
    content.insert("toolkit".to_owned(), json!(intent.toolkit));
    content.insert("status".to_owned(), json!("running"));
    let progress = ActivitySnapshot::new(progress_id(&intent.call), TOOL_PROGRESS.to_owned(), content);
    decision.push(Some(run), progress, now);
    decision.effects.push(Effect::Execute(Box::new(Execute {
        run: run.clone(),
        tool: tool.to_owned(),
        intent: intent.clone(),
        arguments,
    })));
}

fn progress_id(call: &str) -> MessageId {
    MessageId::from_trusted(format!("progress_{call}"))
}

/// What came of a call.
pub(super) fn finished(
    state: &State,
    running: &Running,
    run: &RunId,
    call: &str,
    outcome: Outcome,
    env: &mut Env<'_>,
) -> Decision {
    let mut decision = Decision::default();
    let of_run = state.run.as_ref().is_some_and(|active| active.id == *run);
    let call = state
        .step
        .iter()
        .flat_map(|step| &step.calls)
        .find(|known| known.id == call);
    let Some(call) = call.filter(|call| of_run && call.stage == Stage::Sent) else {
        return decision;
    };
    match outcome {
        Outcome::Done(value) => {
            let (content, whole) = cut(value, &mut decision.reached, env);
            if let Some(whole) = whole {
                decision.documents.push((call.id.clone(), whole));
            }
            answer_with(&mut decision, run, &call.id, &content, ResultStatus::Done, env);
            progress(&mut decision, run, &call.id, ResultStatus::Done.as_str(), env.now_ms);
        }
        Outcome::Failed(message) => {
            let message = shorten(&message, env.config.tool_result_bytes);
            answer(
                &mut decision,
                run,
                &call.id,
                json!({"error": message}),
                ResultStatus::Failed,
                env,
            );
            progress(&mut decision, run, &call.id, ResultStatus::Failed.as_str(), env.now_ms);
        }
        Outcome::Unknown(message) => {
            write(
                &mut decision,
                run,
                vec![decided(call, Decided::Unknown, Some(message))],
                ToolCallsRecord::default(),
                env.now_ms,
            );
            progress(&mut decision, run, &call.id, ResultStatus::Unknown.as_str(), env.now_ms);
        }
        Outcome::NotConnected { message, .. } => {
            let (why, toolkit) = (Some(message), toolkit_of(call));
            write(
                &mut decision,
                run,
                vec![decided(call, Decided::Connect, why)],
                ToolCallsRecord::default(),
                env.now_ms,
            );
            progress(&mut decision, run, &call.id, "waiting", env.now_ms);
            // One link serves every call that needs this account.
            if !running.links.contains_key(toolkit) {
                decision.effects.push(Effect::Link {
                    run: run.clone(),
                    toolkit: toolkit.to_owned(),
                });
            }
        }
    }
    decision.effects.push(Effect::Continue(run.clone()));
    decision
}

pub(super) fn decided(call: &Call, decision: Decided, message: Option<String>) -> CallDecision {
    CallDecision {
        tool_call_id: call.id.clone(),
        tool: call.name.clone(),
        toolkit: call.intent.as_ref().map(|intent| intent.toolkit.clone()),
        read_only: call.intent.as_ref().is_some_and(|intent| intent.read_only),
        decision,
        message,
    }
}

/// Writes the result of a call.
pub(super) fn answer(
    decision: &mut Decision,
    run: &RunId,
    call: &str,
    content: Value,
    status: ResultStatus,
    env: &Env<'_>,
) {
    let content = UserContent::Text(content.to_string());
    answer_with(decision, run, call, &content, status, env);
}

/// The same with its content as clients have it.
pub(super) fn answer_with(
    decision: &mut Decision,
    run: &RunId,
    call: &str,
    content: &UserContent,
    status: ResultStatus,
    env: &Env<'_>,
) {
    let id = MessageId::from_trusted(format!("result_{call}"));
    let mut result = ToolCallResult::new(id, call.to_owned(), content.clone());
    result.role = Some(ToolRole::Tool);
    let stored = decision.documents.iter().any(|(stored, _)| stored == call);
    let record = json!(ResultRecord { status, stored });
    decision.push_private(Some(run), result, env.now_ms, Some(record));
}

fn progress(decision: &mut Decision, run: &RunId, call: &str, status: &str, now: Millis) {
    let Ok(path) = "/status".try_into() else { return };
    let value = json!(status);
    let patch = vec![PatchOp::Replace { path, value }];
    let delta = ActivityDelta::new(progress_id(call), TOOL_PROGRESS.to_owned(), patch);
    decision.push(Some(run), delta, now);
}

/// The result as clients and the model have it, and all of it when that is less.
fn cut(value: Value, reached: &mut Vec<&'static str>, env: &Env<'_>) -> (UserContent, Option<Bytes>) {
    let text = value.to_string();
    if text.len() <= env.config.tool_result_bytes {
        return (UserContent::Text(text), None);
    }
    reached.push("tool_result_bytes");
    let fits = text.len() <= env.config.stored_result_bytes;
    if !fits {
        reached.push("stored_result_bytes");
    }
    let shown = shorten(&text, env.config.tool_result_bytes);
    let note = json!({
        "truncated": true,
        "bytes": text.len(),
        "shown_bytes": shown.len(),
        "stored": fits,
        "note": "the result was too large: this is the beginning of its JSON text",
        "beginning": shown,
    });
    (UserContent::Text(note.to_string()), fits.then(|| Bytes::from(text)))
}

/// The beginning of a text, at most so many bytes of it.
fn shorten(text: &str, bytes: usize) -> &str {
    pieces(text, bytes.max(4)).next().unwrap_or_default()
}

/// Ends the calls of a run that is stopped: each gets a result that says what is known of it.
pub(super) fn settle(decision: &mut Decision, state: &State, run: &RunId, why: &str, env: &Env<'_>) {
    for call in state.step.iter().flat_map(|step| &step.calls) {
        let repeatable = call.intent.as_ref().is_some_and(|intent| intent.repeatable);
        let (status, message) = match call.stage {
            // The closers of the run end those.
            Stage::Announced | Stage::Answered => continue,
            Stage::Sent if repeatable => (ResultStatus::Stopped, why.to_owned()),
            Stage::Sent | Stage::Unknown => (
                ResultStatus::Unknown,
                format!("{why} It is not known whether the call was carried out."),
            ),
            Stage::Asking | Stage::Connecting | Stage::Client => (ResultStatus::Rejected, why.to_owned()),
        };
        answer(decision, run, &call.id, json!({"error": message}), status, env);
        if call.stage == Stage::Sent {
            progress(decision, run, &call.id, status.as_str(), env.now_ms);
        }
    }
}

/// Ends what the model was writing, but neither the step nor its calls.
pub(super) fn close_text(decision: &mut Decision, state: &State, run: &RunId, now: Millis) {
    if state.reasoning_open {
        let ended = decision
            .events
            .iter()
            .any(|stored| matches!(stored.event, kronos_protocol::event::Event::ReasoningEnd(_)));
        if !ended {
            let thoughts = reasoning_id(run, state);
            decision.push(Some(run), ReasoningMessageEnd::new(thoughts.clone()), now);
            decision.push(Some(run), ReasoningEnd::new(thoughts), now);
        }
    }
    if let Some(id) = &state.text_open {
        decision.push(Some(run), TextMessageEnd::new(id.clone()), now);
    }
}

/// The model's answer was no call that can be read: it is asked again, at most so often.
pub(super) fn mend(decision: &mut Decision, state: &State, active: &ActiveRun, env: &Env<'_>) {
    let (run, now) = (&active.id, env.now_ms);
    close_text(decision, state, run, now);
    for call in state.step.iter().flat_map(|step| &step.calls) {
        if call.stage == Stage::Announced {
            let error = json!({"error": "the call was cut off"});
            answer(decision, run, &call.id, error, ResultStatus::Stopped, env);
        }
    }
    let value = json!({
        "attempt": active.record.mends + 2,
        "code": RunErrorCode::MalformedCall.as_str(),
        "afterMs": 0,
        "message": "The model made a call that cannot be read; it is asked again.",
    });
    let beside = json!({"mend": true});
    decision.push_private(Some(run), Custom::new(RETRY, value), now, Some(beside));
    decision.effects.push(Effect::Continue(run.clone()));
}
