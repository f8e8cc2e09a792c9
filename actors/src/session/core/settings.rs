//! The settings of a session. Pure.

use kronos_protocol::{client::SessionSettings, error::ErrorCode, event::Custom, limits};
use serde_json::json;

use super::{
    super::{
        message::SessionError,
        state::{Retitled, SETTINGS_CHANGED, State, TITLE_CHANGED},
    },
    Answer, Decision, Env, branches, inbox,
};

/// Toolkits that a session may name.
const MAX_TOOLKITS: usize = 64;
/// Rules for single tools that a session may have.
const MAX_RULES: usize = 256;
/// Bytes of the name of a toolkit or a tool.
const MAX_NAME: usize = 128;

/// Gives the conversation a title.
pub(super) fn rename(state: &State, title: String, env: &Env<'_>) -> Decision {
    if let Err(error) = check_title(&title, env) {
        return Decision::answer(Err(error));
    }
    let mut decision = Decision::answer(Ok(Answer::Done));
    retitle(&mut decision, state, title, env);
    decision
}

fn retitle(decision: &mut Decision, state: &State, title: String, env: &Env<'_>) {
    if state.title.as_ref() != Some(&title) {
        decision.push(None, Custom::new(TITLE_CHANGED, json!(Retitled { title })), env.now_ms);
    }
}

fn check_title(title: &str, env: &Env<'_>) -> Result<(), SessionError> {
    let limit = env.config.title_chars;
    if title.is_empty() || title.chars().count() > limit {
        return Err(
            SessionError::new(ErrorCode::Validation, format!("title: 1 to {limit} characters"))
                .with_details(json!({"field": "title", "limit": limit})),
        );
    }
    Ok(())
}

/// Changes what the change names.
pub(super) fn configure(state: &State, mut change: SessionSettings, env: &Env<'_>) -> Decision {
    if let Err(error) = check(&change, env) {
        return Decision::answer(Err(error));
    }
    let mut decision = match change.branch.take() {
        None => Decision::answer(Ok(Answer::Configured)),
        Some(branch) => branches::select(state, &branch, env),
    };
    if decision.answer.as_ref().is_some_and(Result::is_err) {
        return decision;
    }
    if let Some(title) = change.title.take() {
        retitle(&mut decision, state, title, env);
    }
    if change != SessionSettings::default() {
        decision.push(None, Custom::new(SETTINGS_CHANGED, json!(change)), env.now_ms);
    }
    decision
}

fn check(change: &SessionSettings, env: &Env<'_>) -> Result<(), SessionError> {
    if let Some(title) = &change.title {
        check_title(title, env)?;
    }
    if change.model.as_ref().is_some_and(|model| !inbox::is_model_name(model)) {
        return Err(inbox::invalid("model", "is not a model's name"));
    }
    let prompt = change.system_prompt.as_ref();
    if prompt.is_some_and(|prompt| prompt.chars().count() > limits::SYSTEM_PROMPT_CHARS) {
        return Err(inbox::invalid("system_prompt", "is too long"));
    }
    let named = |name: &String| (1..=MAX_NAME).contains(&name.len());
    if let Some(toolkits) = &change.toolkits
        && (toolkits.len() > MAX_TOOLKITS || !toolkits.iter().all(named))
    {
        return Err(inbox::invalid("toolkits", "must be at most 64 names"));
    }
    if let Some(rules) = &change.tool_rules
        && (rules.len() > MAX_RULES || !rules.keys().all(named))
    {
        return Err(inbox::invalid("tool_rules", "must be rules for at most 256 tools"));
    }
    Ok(())
}
