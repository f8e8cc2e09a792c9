//! What becomes of a message: taken, queued, refused, known already, taken back. Pure.

use kronos_protocol::{
    client::{RunOptions, SendMode},
    error::ErrorCode,
    event::Custom,
    ids::MessageId,
    limits,
    message::{ContentPart, UserContent},
};
use serde_json::json;

use super::{
    super::{
        message::{SessionError, Submit},
        state::{Accepted, MESSAGE_ACCEPTED, MESSAGE_UNQUEUED, RunRecord, State, Unqueued},
    },
    Answer, Decision, Env, Running, close_cancelled, record_of, start_new, user_message,
};
use crate::config::SessionConfig;

pub(super) fn validate(submit: &Submit, config: &SessionConfig) -> Result<(), SessionError> {
    let chars = submit.content.text().chars().count();
    let parts: &[ContentPart] = match &submit.content {
        UserContent::Text(_) => &[],
        UserContent::Parts(parts) => parts,
    };
    let has_media = parts.iter().any(|part| !matches!(part, ContentPart::Text { .. }));
    if chars == 0 && !has_media {
        return Err(invalid("content", "a message needs at least one character"));
    }
    if parts.len() > limits::PARTS {
        return Err(invalid("content", "too many parts"));
    }
    if chars > config.message_chars {
        return Err(SessionError::new(ErrorCode::TooLarge, "the message is too long")
            .with_details(json!({"limit": config.message_chars, "chars": chars, "name": "message_chars"})));
    }
    validate_options(&submit.run)
}

fn validate_options(options: &RunOptions) -> Result<(), SessionError> {
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
        .is_some_and(|prompt| prompt.chars().count() > limits::SYSTEM_PROMPT_CHARS)
    {
        return Err(invalid("run.system_prompt", "is too long"));
    }
    Ok(())
}

/// A model's name goes into a path: letters, digits, `.`, `_`, `-`.
pub(super) fn is_model_name(model: &str) -> bool {
    (1..=100).contains(&model.len()) && model.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
}

pub(super) fn invalid(field: &str, message: &str) -> SessionError {
    SessionError::new(ErrorCode::Validation, format!("{field}: {message}"))
        .with_details(json!({"errors": [{"field": field, "message": message, "type": "value_error"}]}))
}

pub(super) fn offer(state: &State, running: &Running, submit: Submit, env: &mut Env<'_>) -> Decision {
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
        if submit.mode == SendMode::Reject && state.waits() {
            let error = SessionError::new(ErrorCode::Busy, "a run waits for answers").after_ms(1000);
            return Decision::answer(Err(error));
        }
        // Messages that waited behind the run wait for the answers too; without any, this one stands in place of answers.
        if state.waits() && !state.queue.is_empty() {
            return enqueue(state, &submit, env);
        }
        return begin(state, &submit, env);
    }
    match submit.mode {
        SendMode::Queue | SendMode::Steer => enqueue(state, &submit, env),
        SendMode::Reject => Decision::answer(Err(SessionError::new(ErrorCode::Busy, "a run is active").after_ms(1000))),
        SendMode::Interrupt => {
            let mut decision = Decision::default();
            close_cancelled(&mut decision, state, running, env);
            let (event, run) = start_new(&mut decision, state, &submit, env);
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
pub(super) fn known(state: &State, submit: &Submit) -> Option<Result<Answer, SessionError>> {
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
    let (event, run) = start_new(&mut decision, state, submit, env);
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
        ..record_of(submit)
    });
    let event = decision.push_private(None, Custom::new(MESSAGE_ACCEPTED, value), env.now_ms, Some(private));
    decision.answer = Some(Ok(Answer::Sent {
        event,
        run: None,
        queued: Some(place(state.queue.len())),
    }));
    decision
}

pub(super) fn unqueue(state: &State, id: &MessageId, env: &Env<'_>) -> Decision {
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
