//! How an answer grows: from the model's progress to events. Pure.

use kronos_protocol::{
    event::{
        Custom, Event, Outcome, ReasoningEnd, ReasoningMessageContent, ReasoningMessageEnd, ReasoningMessageStart,
        ReasoningStart, RunError, RunFinished, TextMessageContent, TextMessageEnd, TextMessageStart, TokenUsage,
    },
    ids::{MessageId, RunId},
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        log::MAX_DELTA_BYTES,
        state::{Body, State},
    },
    Decision, Env, NOTICE, RETRY, Running, fail,
};
use crate::{
    clock::Millis,
    gemini::{Failed, Finished, Progress, Usage},
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
        Progress::Started { .. } | Progress::Call(_) => {}
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

pub(in crate::session) fn reasoning_id(run: &RunId) -> MessageId {
    derived("t_", run)
}

fn derived(prefix: &str, run: &RunId) -> MessageId {
    MessageId::from_trusted(format!("{prefix}{}", tail_of(run)))
}

fn tail_of(run: &RunId) -> &str {
    run.as_str().strip_prefix("r_").unwrap_or(run.as_str())
}

fn answer_open(state: &State, id: &MessageId) -> bool {
    state
        .messages
        .iter()
        .rev()
        .any(|said| said.id == *id && matches!(said.body, Body::Assistant { complete: false, .. }))
}

/// The id of the run's answer while it is being written: the same one for every delta, not made anew.
fn open_answer<'a>(state: &'a State, run: &RunId) -> Option<&'a MessageId> {
    let said = state.messages.last()?;
    let open = matches!(said.body, Body::Assistant { complete: false, .. });
    let tail = said.id.as_str().strip_prefix("a_");
    (open && tail == Some(tail_of(run))).then_some(&said.id)
}

fn say(decision: &mut Decision, state: &State, run: &RunId, text: &str, now: Millis) {
    let known = open_answer(state, run).cloned();
    let id = known.unwrap_or_else(|| answer_id(run));
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

pub(super) fn run_error(failed: &Failed, running: &Running) -> RunError {
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
