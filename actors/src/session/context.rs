//! What the model reads: the turns of a conversation as Gemini contents. Pure.

use kronos_protocol::{
    ids::MessageId,
    message::{ContentPart, Source, UserContent},
};
use serde_json::{Value, json};

use super::state::{Body, Said, State};
use crate::gemini::{Content, Role};

/// The conversation so far, then `next`.
pub fn contents(state: &State, next: Option<&UserContent>) -> Vec<Content> {
    let mut turns: Vec<Content> = Vec::new();
    for said in &state.messages {
        push_said(&mut turns, said);
    }
    if let Some(content) = next {
        push(&mut turns, Role::User, user_parts(content));
    }
    turns
}

/// The conversation up to and including the message whose turn is tried again.
pub fn contents_of_retry(state: &State, message: &MessageId) -> Vec<Content> {
    let mut turns = Vec::new();
    for said in &state.messages {
        if said.id == *message {
            if let Body::User(content) = &said.body {
                push(&mut turns, Role::User, user_parts(content));
            }
            break;
        }
        push_said(&mut turns, said);
    }
    turns
}

fn push_said(turns: &mut Vec<Content>, said: &Said) {
    if said.hidden_from_model {
        return;
    }
    match &said.body {
        Body::User(content) => push(turns, Role::User, user_parts(content)),
        Body::Assistant { parts: Some(parts), .. } if !parts.is_empty() => push(turns, Role::Model, parts.clone()),
        Body::Assistant { text, .. } if !text.is_empty() => push(turns, Role::Model, vec![json!({"text": text})]),
        Body::System(_) | Body::Assistant { .. } => {}
    }
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
