//! How an answer grows: from the model's progress to events. Pure.

use kronos_protocol::{
    error::RunErrorCode,
    event::{
        Custom, Event, Outcome, ReasoningEnd, ReasoningMessageContent, ReasoningMessageEnd, ReasoningMessageStart,
        ReasoningStart, RunError, RunFinished, TextMessageContent, TextMessageStart, TokenUsage,
    },
    ids::{MessageId, RunId},
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        log::MAX_DELTA_BYTES,
        state::{ActiveRun, State, add_usage},
    },
    Decision, Effect, Env, NOTICE, RETRY, Running, closers, fail, steps,
};
use crate::{
    clock::Millis,
    gemini::{Failed, Finished, Progress, Usage, calls_of},
};

pub(super) fn advance(
    state: &State,
    running: &Running,
    run: &RunId,
    progress: Progress,
    env: &mut Env<'_>,
) -> Decision {
    let mut decision = Decision::default();
    match progress {
        Progress::Started { .. } => {}
        Progress::Waiting => {
            let message = "Many answers are being written; this one begins when it is its turn.";
            let value = json!({"code": "waiting", "message": message});
            decision.push(Some(run), Custom::new(NOTICE, value), env.now_ms);
        }
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
        Progress::Call(call) => {
            let at = steps::announced(state, run);
            steps::announce(&mut decision, state, run, &call, at, env.now_ms);
        }
        Progress::Finished(finished) => {
            let Some(active) = &state.run else { return decision };
            let usage = usage_of(&finished.usage, &finished.model);
            if calls_of(&finished.parts).is_empty() {
                finish(&mut decision, state, active, finished, usage, env);
            } else {
                steps::decide(&mut decision, state, running, active, finished, usage, env);
            }
        }
        Progress::Failed(failed) => {
            let active = state
                .run
                .as_ref()
                .filter(|active| active.record.mends < env.config.max_call_mends);
            match active {
                Some(active) if failed.code == RunErrorCode::MalformedCall => {
                    steps::mend(&mut decision, state, active, env);
                }
                _ => {
                    let mends = state.run.as_ref().map_or(0, |run| run.record.mends);
                    let failed = match failed.code {
                        RunErrorCode::MalformedCall => Failed {
                            attempts: failed.attempts.saturating_add(mends),
                            ..failed
                        },
                        _ => failed,
                    };
                    fail(
                        &mut decision,
                        state,
                        run,
                        run_error(&failed, state, running),
                        env.now_ms,
                    );
                }
            }
        }
    }
    decision
}

/// The id of the answer that comes next: one per answer of a run, derived, so that it needs no randomness here.
pub(super) fn answer_id(run: &RunId, state: &State) -> MessageId {
    derived("a_", run, state)
}

pub(in crate::session) fn reasoning_id(run: &RunId, state: &State) -> MessageId {
    derived("t_", run, state)
}

fn derived(prefix: &str, run: &RunId, state: &State) -> MessageId {
    let tail = tail_of(run);
    match state.run.as_ref().map_or(0, |run| run.answers) {
        0 => MessageId::from_trusted(format!("{prefix}{tail}")),
        answers => MessageId::from_trusted(format!("{prefix}{tail}_{}", answers + 1)),
    }
}

pub(super) fn tail_of(run: &RunId) -> &str {
    run.as_str().strip_prefix("r_").unwrap_or(run.as_str())
}

fn say(decision: &mut Decision, state: &State, run: &RunId, text: &str, now: Millis) {
    let id = match &state.text_open {
        // The same one for every delta, not made anew.
        Some(open) => open.clone(),
        None => {
            let id = answer_id(run, state);
            if state.reasoning_open {
                decision.push(Some(run), ReasoningMessageEnd::new(reasoning_id(run, state)), now);
                decision.push(Some(run), ReasoningEnd::new(reasoning_id(run, state)), now);
            }
            decision.push(Some(run), TextMessageStart::new(id.clone()), now);
            id
        }
    };
    for piece in pieces(text, MAX_DELTA_BYTES) {
        decision.push(Some(run), TextMessageContent::new(id.clone(), piece.to_owned()), now);
    }
}

fn think(decision: &mut Decision, state: &State, run: &RunId, text: &str, now: Millis) {
    if state.text_open.is_some() {
        return;
    }
    let id = reasoning_id(run, state);
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
pub(super) fn pieces(text: &str, max: usize) -> impl Iterator<Item = &str> {
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

fn finish(
    decision: &mut Decision,
    state: &State,
    active: &ActiveRun,
    finished: Finished,
    usage: TokenUsage,
    env: &Env<'_>,
) {
    let (run, now) = (&active.id, env.now_ms);
    // A message that was steered into the run is answered by it, in a further step.
    let steered = state.queue.iter().any(|queued| queued.is_steering());
    let goes_on = steered && state.text_open.is_some() && active.record.steps.max(1) < env.config.max_steps;
    for event in closers(state, now) {
        if goes_on && matches!(event, Event::StepFinished(_)) {
            continue;
        }
        let private = match &event {
            Event::TextMessageEnd(end) if state.text_open.as_ref() == Some(&end.message_id) => Some(match goes_on {
                true => json!({"parts": finished.parts, "usage": usage}),
                false => json!({"parts": finished.parts}),
            }),
            _ => None,
        };
        decision.push_private(Some(run), event, now, private);
    }
    if finished.truncated {
        let value = json!({"code": "max_tokens", "message": "The answer was cut off at its length limit."});
        decision.push(Some(run), Custom::new(NOTICE, value), now);
    }
    if goes_on {
        return decision.effects.push(Effect::Continue(run.clone()));
    }
    let mut event = RunFinished::new(env.thread.to_string(), run.clone());
    event.outcome = Some(Outcome::Success {
        pending_tool_call_ids: None,
    });
    let mut all = active.spent.clone();
    add_usage(&mut all, &usage);
    event.usage = Some(all);
    let mut about = Map::new();
    about.insert("finishReason".to_owned(), json!(finished.finish_reason));
    about.insert("model".to_owned(), json!(finished.model));
    if let Some(response) = finished.response_id {
        about.insert("responseId".to_owned(), json!(response));
    }
    event.metadata = Some(Map::from_iter([("kronos".to_owned(), Value::Object(about))]));
    decision.push(Some(run), event, now);
}

pub(super) fn run_error(failed: &Failed, state: &State, running: &Running) -> RunError {
    let mut error = RunError::new(failed.message.clone());
    error.code = Some(failed.code.as_str().to_owned());
    let mut used = state.run.as_ref().map(|run| run.spent.clone()).unwrap_or_default();
    if failed.usage != Usage::default() {
        let model = running.model.as_deref().unwrap_or_default();
        add_usage(&mut used, &usage_of(&failed.usage, model));
    }
    error.usage = (!used.is_empty()).then_some(used);
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

pub(super) fn token_usage(running: &Running) -> Option<TokenUsage> {
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
