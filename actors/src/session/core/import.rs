//! A conversation that begins with what was said elsewhere: all of it in one decision, so that it is there or not at all. Pure.
//!
//! In the log it is a run of its own whose text messages have the roles and times they came with: every AG-UI client reads
//! it as it reads an answer, and no event of it is larger than one of an answer.

use kronos_protocol::{
    error::ErrorCode,
    event::{Outcome, RunFinished, RunStarted, TextMessageContent, TextMessageEnd, TextMessageStart, TextRole},
    ids::RunId,
    version::AG_UI_VERSION,
};
use serde_json::{Map, Value, json};

use super::{
    super::{
        log::MAX_DELTA_BYTES,
        message::{Import, Past, SessionError},
        state::State,
    },
    Answer, Decision, Env, inbox, start_new,
    turn::pieces,
};
use crate::config::SessionConfig;

/// Takes the history and starts the turn of its last message.
pub(super) fn begin(state: &State, import: Import, env: &mut Env<'_>) -> Decision {
    let Import { history, submit } = import;
    // Sent again because the answer was lost: the history came with it.
    if let Some(answer) = inbox::known(state, &submit) {
        return Decision::answer(answer);
    }
    if let Err(error) = validate(&history, env.config).and_then(|()| inbox::validate(&submit, env.config)) {
        return Decision::answer(Err(error));
    }
    if env.draining {
        let error = SessionError::new(ErrorCode::ShuttingDown, "the server restarts").after_ms(1000);
        return Decision::answer(Err(error));
    }
    if !state.is_blank() {
        let error = SessionError::new(ErrorCode::Conflict, "the conversation has begun already");
        return Decision::answer(Err(
            error.with_details(json!({"resource": "Conversation", "field": "messages"}))
        ));
    }
    let mut decision = Decision::default();
    tell(&mut decision, history, env);
    let (event, run) = start_new(&mut decision, state, &submit, env);
    decision.answer = Some(Ok(Answer::Sent {
        event,
        run: Some(run),
        queued: None,
    }));
    decision
}

/// Appends the history as a run that is over at once.
fn tell(decision: &mut Decision, history: Vec<Past>, env: &mut Env<'_>) {
    if history.is_empty() {
        return;
    }
    let (run, now, thread) = ((env.fresh_run)(), env.now_ms, env.thread.to_string());
    let mut started = RunStarted::new(thread.clone(), run.clone());
    started.protocol_version = Some(AG_UI_VERSION.to_owned());
    started.metadata = Some(imported());
    decision.push(Some(&run), started, now);
    for past in history {
        say(decision, &run, past, env);
    }
    let mut finished = RunFinished::new(thread, run.clone());
    finished.outcome = Some(Outcome::Success {
        pending_tool_call_ids: None,
    });
    finished.metadata = Some(imported());
    decision.push(Some(&run), finished, now);
}

fn say(decision: &mut Decision, run: &RunId, past: Past, env: &Env<'_>) {
    let Past { id, role, text, at_ms } = past;
    let at = at_ms.unwrap_or(env.now_ms);
    let mut begun = TextMessageStart::new(id.clone());
    begun.role = Some(role);
    decision.push(Some(run), begun, at);
    for piece in pieces(&text, MAX_DELTA_BYTES) {
        decision.push(Some(run), TextMessageContent::new(id.clone(), piece.to_owned()), at);
    }
    decision.push(Some(run), TextMessageEnd::new(id), at);
}

fn imported() -> Map<String, Value> {
    Map::from_iter([("kronos".to_owned(), json!({"imported": true}))])
}

fn validate(history: &[Past], config: &SessionConfig) -> Result<(), SessionError> {
    let over = |text: &str, limit: usize, name: &str| {
        SessionError::new(ErrorCode::TooLarge, text).with_details(json!({"limit": limit, "name": name}))
    };
    // The message that is answered counts too.
    if history.len() >= config.import_messages {
        return Err(over(
            "the history has too many messages",
            config.import_messages,
            "import_messages",
        ));
    }
    let mut all = 0;
    for past in history {
        let chars = past.text.chars().count();
        if chars == 0 {
            return Err(inbox::invalid("messages", "a message needs at least one character"));
        }
        if chars > config.message_chars {
            return Err(over(
                "a message of the history is too long",
                config.message_chars,
                "message_chars",
            ));
        }
        if !matches!(past.role, TextRole::User | TextRole::Assistant | TextRole::System) {
            return Err(inbox::invalid(
                "messages",
                "a message is of the user, the assistant or the system",
            ));
        }
        all += chars;
    }
    if all > config.import_chars {
        return Err(over("the history is too long", config.import_chars, "import_chars"));
    }
    Ok(())
}
