//! What the model reads: the turns of a conversation as Gemini contents. Pure.

use std::collections::HashMap;

use kronos_protocol::{
    ids::MessageId,
    message::{ContentPart, Source, UserContent},
};
use serde_json::{Value, json};

use super::state::{Body, ResultStatus, Said, State};
use crate::gemini::{Content, Role, calls_of, function_response};

/// Bytes of JSON that a token takes, about: what the size of a conversation is judged by before anybody has counted it.
const BYTES_PER_TOKEN: usize = 4;
/// Characters of a transcript that is to be summed up: the newest.
const TRANSCRIPT_CHARS: usize = 200_000;
/// Characters of a call's result in it.
const RESULT_CHARS: usize = 400;

/// What the model reads of the conversation: all that is not hidden from it, or a summary of the beginning and the rest.
#[must_use]
pub fn contents(state: &State) -> Vec<Content> {
    let mut turns: Vec<Content> = Vec::new();
    let (from, summary) = beginning(state);
    if let Some(summary) = summary.filter(|summary| !summary.is_empty()) {
        let text = format!("Summary of what was said before, which is left out here:\n{summary}");
        push(&mut turns, Role::User, vec![json!({"text": text})]);
    }
    let results = results(state);
    for said in state.messages.iter().skip(from) {
        push_said(&mut turns, said, &results);
    }
    turns
}

/// The place of the first message that the model reads, and the summary of those before it.
fn beginning(state: &State) -> (usize, Option<&str>) {
    let Some(summary) = &state.summary else {
        return (0, None);
    };
    match state.messages.iter().position(|said| said.id == summary.from) {
        Some(at) => (at, Some(summary.text.as_str())),
        // It is of a branch that was left.
        None => (0, None),
    }
}

/// The first message that the model is to read from now on, when all of it would be more than `limit` tokens: whole turns are
/// left out, until half of that is left. Never the turn of `current`.
#[must_use]
pub fn to_trim(state: &State, current: &MessageId, limit: usize) -> Option<MessageId> {
    let (from, _) = beginning(state);
    let results = results(state);
    let sizes: Vec<usize> = state
        .messages
        .iter()
        .skip(from)
        .map(|said| {
            let mut alone = Vec::new();
            push_said(&mut alone, said, &results);
            let bytes = |part: &Value| part.to_string().len();
            alone.iter().flat_map(|turn| &turn.parts).map(bytes).sum::<usize>() / BYTES_PER_TOKEN
        })
        .collect();
    let mut left: usize = sizes.iter().sum();
    if left <= limit {
        return None;
    }
    let last = state.messages.iter().position(|said| said.id == *current)?;
    let mut kept = None;
    for (at, said) in state
        .messages
        .iter()
        .enumerate()
        .skip(from)
        .take((last + 1).saturating_sub(from))
    {
        if at > from && matches!(said.body, Body::User(_)) {
            kept = Some(said.id.clone());
            if left <= limit / 2 {
                break;
            }
        }
        left = left.saturating_sub(sizes.get(at - from).copied().unwrap_or(0));
    }
    kept
}

/// What is left out when the model reads from `from` on, as a text to be summed up, with the summary of what was left out
/// before.
#[must_use]
pub fn transcript(state: &State, from: &MessageId) -> String {
    let (begin, summary) = beginning(state);
    let mut text = String::new();
    if let Some(summary) = summary.filter(|summary| !summary.is_empty()) {
        text.push_str("Earlier: ");
        text.push_str(summary);
        text.push('\n');
    }
    let left_out = state.messages.iter().skip(begin).take_while(|said| said.id != *from);
    for said in left_out.filter(|said| !said.hidden_from_model) {
        let who = match said.body {
            Body::User(_) => "User: ",
            Body::Assistant { .. } => "Assistant: ",
            Body::Tool { .. } => "Tool result: ",
            Body::System(_) => continue,
        };
        let all = said.body.text();
        let limit = if matches!(said.body, Body::Tool { .. }) {
            RESULT_CHARS
        } else {
            usize::MAX
        };
        text.push_str(who);
        text.extend(all.chars().take(limit));
        text.push('\n');
    }
    let skip = text.chars().count().saturating_sub(TRANSCRIPT_CHARS);
    text.chars().skip(skip).collect()
}

/// Results by the call that they answer.
fn results(state: &State) -> HashMap<&str, &Said> {
    let of_call = |said: &'_ Said| matches!(said.body, Body::Tool { .. });
    let tools = state.messages.iter().filter(|said| of_call(said));
    tools
        .filter_map(|said| match &said.body {
            Body::Tool { call, .. } => Some((call.as_str(), said)),
            Body::User(_) | Body::System(_) | Body::Assistant { .. } => None,
        })
        .collect()
}

fn push_said(turns: &mut Vec<Content>, said: &Said, results: &HashMap<&str, &Said>) {
    if said.hidden_from_model {
        return;
    }
    match &said.body {
        Body::User(content) => push(turns, Role::User, user_parts(content)),
        Body::Assistant {
            parts: Some(parts),
            calls,
            ..
        } if !parts.is_empty() => {
            push(turns, Role::Model, parts.clone());
            // Every call has its result right behind it, in the order of the calls.
            let answers = calls_of(parts).into_iter().enumerate().map(|(at, call)| {
                let result = calls.get(at).and_then(|ours| results.get(ours.id.as_str()));
                function_response(&call, result.map_or_else(unanswered, |said| response(&said.body)))
            });
            let answers: Vec<Value> = answers.collect();
            if !answers.is_empty() {
                push(turns, Role::User, answers);
            }
        }
        Body::Assistant { text, .. } if !text.is_empty() => push(turns, Role::Model, vec![json!({"text": text})]),
        Body::System(_) | Body::Assistant { .. } | Body::Tool { .. } => {}
    }
}

fn unanswered() -> Value {
    json!({"error": "it is not known what became of the call"})
}

/// A result as the model reads it.
fn response(body: &Body) -> Value {
    let text = body.text();
    let value = serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned()));
    let mut response = match body {
        Body::Tool {
            status: ResultStatus::Done,
            ..
        } => json!({"output": value}),
        _ if value.is_object() => value,
        _ => json!({"error": value}),
    };
    if let Body::Tool {
        edited: Some(edited), ..
    } = body
    {
        // Its own arguments are what the model reads beside it.
        response["note"] = json!("The user changed the arguments of this call.");
        response["arguments"] = json!(edited);
    }
    response
}

/// Neighbours of the same role become one turn: the model reads turns that alternate.
fn push(turns: &mut Vec<Content>, role: Role, parts: Vec<Value>) {
    match turns.last_mut() {
        Some(last) if last.role == role => last.parts.extend(parts),
        _ => turns.push(Content { role, parts }),
    }
}

fn user_parts(content: &UserContent) -> Vec<Value> {
    match content {
        UserContent::Text(text) => vec![json!({"text": text})],
        UserContent::Parts(parts) => parts.iter().map(user_part).collect(),
    }
}

fn user_part(part: &ContentPart) -> Value {
    let source = match part {
        ContentPart::Text { text, .. } => return json!({"text": text}),
        ContentPart::Image { source, .. }
        | ContentPart::Audio { source, .. }
        | ContentPart::Video { source, .. }
        | ContentPart::Document { source, .. } => source,
    };
    match source {
        Source::Data { value, mime_type } => json!({"inlineData": {"mimeType": mime_type, "data": value}}),
        Source::Url { value, mime_type } | Source::File { value, mime_type, .. } => match mime_type {
            Some(mime_type) => json!({"fileData": {"mimeType": mime_type, "fileUri": value}}),
            None => json!({"fileData": {"fileUri": value}}),
        },
    }
}
