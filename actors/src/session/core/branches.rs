//! Edits and other answers: the conversation goes another way, what followed stays as a branch. Pure.

use kronos_protocol::{error::ErrorCode, event::Custom, ids::MessageId};
use serde_json::json;

use super::{
    super::{
        message::{AnsweredBy, Edit, SessionError, Submit},
        state::{BRANCH_SELECTED, BRANCHED, Body, BranchSelected, Branched, State},
    },
    Answer, Decision, Env, Running, close_cancelled, inbox, questions, start_new,
    turn::tail_of,
};

/// Says something else in place of an earlier message.
pub(super) fn edit(state: &State, running: &Running, edit: Edit, env: &mut Env<'_>) -> Decision {
    let Edit { message, submit } = edit;
    if let Some(answer) = inbox::known(state, &submit) {
        return Decision::answer(answer);
    }
    if let Err(error) = inbox::validate(&submit, env.config) {
        return Decision::answer(Err(error));
    }
    match place(state, &message) {
        Ok(at) => begin(state, running, at, &submit, env),
        Err(error) => Decision::answer(Err(error)),
    }
}

/// Answers a message again: this one, that of this answer, or the last.
pub(super) fn regenerate(state: &State, running: &Running, message: Option<MessageId>, env: &mut Env<'_>) -> Decision {
    let upto = match message {
        None => Ok(state.messages.len()),
        Some(id) => match state.messages.iter().position(|said| said.id == id) {
            Some(at) => Ok(at + 1),
            None => Err(not_found(&id)),
        },
    };
    let found = upto.and_then(|upto| {
        let before = state
            .messages
            .iter()
            .take(upto)
            .rposition(|said| matches!(said.body, Body::User(_)));
        before.ok_or_else(|| SessionError::new(ErrorCode::Conflict, "there is no message to answer"))
    });
    let at = match found {
        Ok(at) => at,
        Err(error) => return Decision::answer(Err(error)),
    };
    let Some((said, Body::User(content))) = state.messages.get(at).map(|said| (said, &said.body)) else {
        return Decision::default();
    };
    if said.hidden_from_model {
        let why = "the message was blocked: say it in other words";
        return Decision::answer(Err(SessionError::new(ErrorCode::Conflict, why)));
    }
    // As it was asked the first time.
    let before = state.runs.iter().rev().find(|past| past.message == said.id);
    let submit = Submit {
        run: before.map(|past| past.options.clone()).unwrap_or_default(),
        ..Submit::new(said.id.clone(), content.clone())
    };
    begin(state, running, at + 1, &submit, env)
}

/// Goes on in another branch.
pub(super) fn select(state: &State, branch: &str, env: &Env<'_>) -> Decision {
    if !state.branches.has(branch) {
        let error = SessionError::new(ErrorCode::NotFound, "Branch not found");
        return Decision::answer(Err(
            error.with_details(json!({"resource": "Branch", "identifier": branch}))
        ));
    }
    if state.run.is_some() || state.waits() {
        return Decision::answer(Err(SessionError::new(ErrorCode::Busy, "a run is active").after_ms(1000)));
    }
    let mut decision = Decision::answer(Ok(Answer::Configured));
    if state.branches.chosen() != branch {
        let value = json!(BranchSelected {
            branch: branch.to_owned()
        });
        decision.push(None, Custom::new(BRANCH_SELECTED, value), env.now_ms);
    }
    decision
}

fn not_found(id: &MessageId) -> SessionError {
    SessionError::new(ErrorCode::NotFound, format!("Message not found: {id}"))
        .with_details(json!({"resource": "Message", "identifier": id.as_str()}))
}

/// The place of a user's message in the conversation.
fn place(state: &State, id: &MessageId) -> Result<usize, SessionError> {
    let at = state.messages.iter().position(|said| said.id == *id);
    let at = at.ok_or_else(|| not_found(id))?;
    match state.messages.get(at).map(|said| &said.body) {
        Some(Body::User(_)) => Ok(at),
        _ => Err(inbox::invalid("message", "is not a message of the user")),
    }
}

/// Branches off before the message at `at`, and starts the turn of `submit` there.
fn begin(state: &State, running: &Running, at: usize, submit: &Submit, env: &mut Env<'_>) -> Decision {
    if env.draining {
        let error = SessionError::new(ErrorCode::ShuttingDown, "the server restarts").after_ms(1000);
        return Decision::answer(Err(error));
    }
    let mut decision = Decision::default();
    close_cancelled(&mut decision, state, running, env);
    let by = AnsweredBy {
        device: Some("edit".to_owned()),
        ..AnsweredBy::default()
    };
    questions::drop_all(&mut decision, state, "superseded", &by, env);
    // The branch is named by an id that is minted for it and by nothing else.
    let name = (env.fresh_run)();
    let value = json!(Branched {
        branch: format!("b_{}", tail_of(&name)),
        parent: state.branches.chosen().to_owned(),
        after: at
            .checked_sub(1)
            .and_then(|at| state.messages.get(at))
            .map(|said| said.id.clone()),
    });
    decision.push(None, Custom::new(BRANCHED, value), env.now_ms);
    // The calls of the step that was open are on the branch that was left.
    let left = State {
        branches: state.branches.clone(),
        ..State::default()
    };
    let (event, run) = start_new(&mut decision, &left, submit, env);
    decision.answer = Some(Ok(Answer::Sent {
        event,
        run: Some(run),
        queued: None,
    }));
    decision
}
