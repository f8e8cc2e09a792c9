//! The events that end a run's open parts when the run is stopped.

use super::{OpenEntity, Verifier};
use crate::event::{
    Event, ReasoningEnd, ReasoningMessageEnd, StepFinished, SubagentError, TextMessageEnd, ToolCallEnd, ToolCallResult,
    ToolRole,
};
use crate::ids::MessageId;

/// What the result of a stopped call says.
const STOPPED: &str = r#"{"status":"stopped"}"#;

pub(super) fn closers(verifier: &Verifier, timestamp: i64) -> Vec<Event> {
    if !verifier.is_running() {
        return Vec::new();
    }
    let mut after = verifier.clone();
    let mut events = Vec::new();
    let mut close = |event: Option<Event>| {
        // Accepting cannot fail, for the closer is made from what is open and who owns it. If it did, leaving the event
        // out would be right: RUN_ERROR may follow anything.
        if let Some(event) = event.map(|event| event.with_timestamp(timestamp))
            && after.accept(&event).is_ok()
        {
            events.push(event);
        }
    };
    let is_open = |call: &&String| {
        verifier
            .open()
            .iter()
            .any(|open| matches!(open, OpenEntity::ToolCall(id) if id == *call))
    };
    for call in verifier.unanswered_calls().iter().filter(|call| !is_open(call)) {
        close(stopped(verifier, call));
    }
    for entity in verifier.open().iter().rev() {
        // The terminal event itself ends what chunks hold.
        if !verifier.lanes.holds(entity) {
            close(Some(closer(verifier, entity)));
        }
        if let OpenEntity::ToolCall(call) = entity
            && verifier.unanswered_calls().contains(call)
        {
            close(stopped(verifier, call));
        }
    }
    events
}

/// The event that closes `entity`, tagged with who owns it.
fn closer(verifier: &Verifier, entity: &OpenEntity) -> Event {
    let subagent_run_id = verifier.brackets.owner(entity);
    match entity {
        OpenEntity::TextMessage(id) => TextMessageEnd {
            subagent_run_id,
            ..TextMessageEnd::new(id)
        }
        .into(),
        OpenEntity::ToolCall(id) => ToolCallEnd {
            subagent_run_id,
            ..ToolCallEnd::new(id)
        }
        .into(),
        OpenEntity::Step { name, .. } => StepFinished {
            subagent_run_id,
            ..StepFinished::new(name)
        }
        .into(),
        OpenEntity::ReasoningMessage(id) => ReasoningMessageEnd {
            subagent_run_id,
            ..ReasoningMessageEnd::new(id)
        }
        .into(),
        OpenEntity::ReasoningSpan(id) => ReasoningEnd {
            subagent_run_id,
            ..ReasoningEnd::new(id)
        }
        .into(),
        OpenEntity::Subagent(id) => SubagentError {
            code: Some("stopped".to_owned()),
            ..SubagentError::new(id, "stopped")
        }
        .into(),
    }
}

/// The result of a call that was stopped.
fn stopped(verifier: &Verifier, call: &String) -> Option<Event> {
    let result = ToolCallResult {
        role: Some(ToolRole::Tool),
        subagent_run_id: verifier.brackets.owner(&OpenEntity::ToolCall(call.clone())),
        ..ToolCallResult::new(result_id(call)?, call, STOPPED)
    };
    Some(result.into())
}

/// The message id of a stopped call's result: the call's id where it fits, else as much of it as does and a hash.
fn result_id(call: &str) -> Option<MessageId> {
    const KEPT: usize = 96;
    MessageId::try_from(format!("{call}.stopped")).ok().or_else(|| {
        let start: String = call.chars().filter(|c| !c.is_control()).take(KEPT).collect();
        // FNV-1a: stable over versions, as the log keeps the id.
        let hash = call.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        MessageId::try_from(format!("{start}.{hash:016x}.stopped")).ok()
    })
}
