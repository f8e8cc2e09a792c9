//! The conversation as one picture: the snapshot for a cursor that cannot be served event by event, and the view that
//! REST shows. Pure.

use kronos_protocol::{
    entry::LogEntry,
    event::{
        ActivitySnapshot, Custom, Event, MessagesSnapshot, Outcome, ReasoningMessageStart, ReasoningStart, RunFinished,
        RunStarted, StepStarted, TextMessageStart,
    },
    ids::{MessageId, RunId, SessionId},
    message::{AssistantMessage, FunctionCall, Interrupt, Message, SystemMessage, ToolCall, ToolMessage, UserMessage},
    position::Seq,
    version::AG_UI_VERSION,
};
use serde_json::json;

use super::{
    core::reasoning_id,
    log::Stored,
    message::{CallView, RunStatus, RunView},
    message::{Page, View},
    state::{Body, ResultStatus, Said, Stage, State, Step, TOOL_PROGRESS},
};
use crate::{
    clock::Millis,
    store::{StoreError, StoredSession},
};

/// Bytes of text in a page that is counted from a place: what an export holds of a conversation at a time.
pub const PAGE_BYTES: usize = 128 * 1024;

/// `CUSTOM` name, in a snapshot: the messages that wait: `{messages}`.
pub const QUEUE_SNAPSHOT: &str = "kronos.queue_snapshot";

/// A message in AG-UI's form.
pub fn message(said: &Said) -> Message {
    match &said.body {
        Body::User(content) => Message::User(UserMessage::new(said.id.clone(), content.clone())),
        Body::System(text) => Message::System(SystemMessage::new(said.id.clone(), text.clone())),
        Body::Assistant { text, calls, .. } => {
            let mut message = AssistantMessage::new(said.id.clone());
            message.content = (!text.is_empty() || calls.is_empty()).then(|| text.clone());
            let calls: Vec<ToolCall> = calls
                .iter()
                .map(|call| {
                    ToolCall::new(
                        call.id.clone(),
                        FunctionCall::new(call.name.clone(), call.arguments.clone()),
                    )
                })
                .collect();
            message.tool_calls = (!calls.is_empty()).then_some(calls);
            Message::Assistant(message)
        }
        Body::Tool {
            call, content, status, ..
        } => {
            let mut message = ToolMessage::new(said.id.clone(), content.clone(), call.clone());
            message.error = (*status != ResultStatus::Done).then(|| status.as_str().to_owned());
            Message::Tool(message)
        }
    }
}

/// A page of the messages with the time of each, and the place of the first; `None` when the page names a message that is
/// not there.
pub fn page(state: &State, page: &Page) -> Option<(usize, Vec<(Millis, Message)>)> {
    let range = match page {
        Page::Before { message, limit } => {
            let upto = match message {
                None => state.messages.len(),
                Some(id) => state.messages.iter().position(|said| said.id == *id)?,
            };
            upto.saturating_sub(*limit)..upto
        }
        Page::From { place, limit } => {
            let mut bytes = 0;
            let fits = |said: &&Said| {
                let first = bytes == 0;
                bytes += said.body.text().len();
                first || bytes <= PAGE_BYTES
            };
            let rest = state.messages.iter().skip(*place).take(*limit);
            let count = rest.take_while(fits).count();
            *place..place.saturating_add(count)
        }
    };
    let said = state.messages.get(range.clone()).unwrap_or_default();
    let shown = said.iter().map(|said| (said.at_ms, message(said))).collect();
    Some((range.start, shown))
}

/// Folds a session as the store has it, without an actor: for an operator's look at a store that nobody serves.
///
/// # Errors
/// [`StoreError::Corrupt`] when a record cannot be read or may not follow the one before.
pub fn of_stored(stored: StoredSession, wanted: &Page) -> Result<View, StoreError> {
    let mut state = State::default();
    let mut head = 0;
    for record in &stored.records {
        head = record.seq;
        let damaged = |what: String| StoreError::Corrupt {
            at: format!("{} seq {head}", stored.meta.session),
            what,
        };
        let event = Stored::decode(record).map_err(|error| damaged(error.to_string()))?;
        state.apply(head, &event).map_err(|error| damaged(error.to_string()))?;
    }
    let run = state.run.as_ref().map(|run| run.id.clone());
    let (from, messages) = page(&state, wanted).unwrap_or_default();
    Ok(View {
        messages,
        from,
        total: state.messages.len(),
        meta: stored.meta,
        head,
        run,
    })
}

/// The AG-UI form of "here is where we are": a run is opened, the messages are given (the newest that fit into
/// `max_bytes`), what is still open is opened again; without an active run the run is closed at once.
///
/// `None` when not even the newest message, or not all that wait, fit: then only the log itself tells it.
pub fn snapshot(state: &State, thread: &SessionId, at: Seq, now: Millis, max_bytes: usize) -> Option<Vec<LogEntry>> {
    let waiting: Vec<Message> = state
        .queue
        .iter()
        .map(|queued| Message::User(UserMessage::new(queued.id.clone(), queued.content.clone())))
        .collect();
    let newest = newest_messages(state, max_bytes.checked_sub(size(&waiting))?)?;
    let run = state
        .run
        .as_ref()
        .map_or_else(|| RunId::from_trusted(format!("r_snapshot_{at}")), |run| run.id.clone());
    let mut events: Vec<Event> = Vec::new();
    let mut started = RunStarted::new(thread.to_string(), run.clone());
    started.protocol_version = Some(AG_UI_VERSION.to_owned());
    events.push(started.into());

    let truncated = newest.len() < state.messages.len();
    let mut snapshot = MessagesSnapshot::new(newest);
    if truncated {
        let about = json!({"truncated": true, "total": state.messages.len()});
        snapshot.metadata = Some(serde_json::Map::from_iter([("kronos".to_owned(), about)]));
    }
    events.push(snapshot.into());

    if !waiting.is_empty() {
        events.push(Custom::new(QUEUE_SNAPSHOT, json!({"messages": waiting})).into());
    }
    if state.run.is_some() {
        open_again(&mut events, state, &run);
    } else {
        let mut finished = RunFinished::new(thread.to_string(), run.clone());
        finished.outcome = Some(waiting_for(state));
        events.push(finished.into());
    }
    let entries = events.into_iter().map(|event| {
        let mut entry = LogEntry::new(at, event.with_timestamp(now));
        entry.run = Some(run.clone());
        entry
    });
    Some(entries.collect())
}

/// What is open in the active run, opened again, and how its calls get on.
fn open_again(events: &mut Vec<Event>, state: &State, run: &RunId) {
    if let Some(step) = &state.step_open {
        events.push(StepStarted::new(step.clone()).into());
    }
    if state.reasoning_open {
        events.push(ReasoningStart::new(reasoning_id(run, state)).into());
        events.push(ReasoningMessageStart::new(reasoning_id(run, state)).into());
    }
    if let Some(id) = &state.text_open {
        events.push(TextMessageStart::new(id.clone()).into());
    }
    for call in state.step.iter().flat_map(|step| &step.calls) {
        if call.stage == Stage::Sent {
            let mut content = serde_json::Map::new();
            content.insert("toolCallId".to_owned(), json!(call.id));
            content.insert("tool".to_owned(), json!(call.name));
            content.insert("status".to_owned(), json!("running"));
            let id = MessageId::from_trusted(format!("progress_{}", call.id));
            events.push(ActivitySnapshot::new(id, TOOL_PROGRESS.to_owned(), content).into());
        }
    }
}

/// What the last run ended with: the questions that are open still, calls that the client is to make, or nothing.
fn waiting_for(state: &State) -> Outcome {
    let interrupts: Vec<Interrupt> = state
        .step
        .iter()
        .flat_map(Step::questions)
        .filter(|question| question.verdict.is_none())
        .map(|question| question.interrupt.clone())
        .collect();
    if !interrupts.is_empty() {
        return Outcome::Interrupt { interrupts };
    }
    let calls = state.step.iter().flat_map(|step| &step.calls);
    let client: Vec<String> = calls
        .filter(|call| call.stage == Stage::Client)
        .map(|call| call.id.clone())
        .collect();
    Outcome::Success {
        pending_tool_call_ids: (!client.is_empty()).then_some(client),
    }
}

/// What became of a run; `None` when it is not one of the newest of this session.
pub fn run(state: &State, session: &SessionId, id: &RunId) -> Option<RunView> {
    let past = state.runs.iter().rev().find(|past| past.id == *id)?;
    let active = state.run.as_ref().filter(|active| active.id == *id);
    let interrupts = match (past.status, waiting_for(state)) {
        (RunStatus::Waiting, Outcome::Interrupt { interrupts }) => interrupts,
        _ => Vec::new(),
    };
    Some(RunView {
        run: past.id.clone(),
        session: session.clone(),
        message: past.message.clone(),
        status: past.status,
        started_ms: past.started_ms,
        ended_ms: past.ended_ms,
        steps: active.map_or(past.steps, |active| active.record.steps).max(1),
        usage: active.map_or_else(|| past.usage.clone(), |active| active.spent.clone()),
        error: past.error.clone(),
        calls: calls_of_turn(state, &past.message),
        interrupts,
        next: past.next.clone(),
    })
}

/// The calls of the turn that answers a message.
fn calls_of_turn(state: &State, message: &MessageId) -> Vec<CallView> {
    let Some(from) = state.messages.iter().position(|said| said.id == *message) else {
        return Vec::new();
    };
    let of_turn = |said: &&Said| {
        // A message that was steered in belongs to it too.
        let begins = |past: &super::state::PastRun| past.message == said.id;
        !matches!(said.body, Body::User(_)) || !state.runs.iter().any(begins)
    };
    let mut calls: Vec<CallView> = Vec::new();
    for said in state.messages.iter().skip(from + 1).take_while(of_turn) {
        match &said.body {
            Body::Assistant { calls: made, .. } => calls.extend(made.iter().map(|call| CallView {
                id: call.id.clone(),
                tool: call.name.clone(),
                toolkit: None,
                arguments: call.arguments.clone(),
                status: "announced".to_owned(),
                result: None,
            })),
            Body::Tool {
                call, content, status, ..
            } => {
                if let Some(known) = calls.iter_mut().find(|known| known.id == *call) {
                    status.as_str().clone_into(&mut known.status);
                    known.result = Some(content.text().into_owned());
                }
            }
            Body::User(_) | Body::System(_) => {}
        }
    }
    for call in state.step.iter().flat_map(|step| &step.calls) {
        let Some(known) = calls.iter_mut().find(|known| known.id == call.id) else {
            continue;
        };
        known.toolkit = call.intent.as_ref().map(|intent| intent.toolkit.clone());
        let status = match call.stage {
            Stage::Announced => "announced",
            Stage::Asking | Stage::Connecting | Stage::Client => "waiting",
            Stage::Sent => "running",
            Stage::Unknown => "unknown",
            Stage::Answered => continue,
        };
        status.clone_into(&mut known.status);
    }
    calls
}

/// The newest messages that fit into `max_bytes`, oldest first; `None` when there are some and none fits.
fn newest_messages(state: &State, max_bytes: usize) -> Option<Vec<Message>> {
    let mut bytes = 0;
    let mut newest = Vec::new();
    for said in state.messages.iter().rev() {
        let message = message(said);
        bytes += size(&message);
        if bytes > max_bytes {
            break;
        }
        newest.push(message);
    }
    newest.reverse();
    (state.messages.is_empty() || !newest.is_empty()).then_some(newest)
}

/// Bytes as JSON, the larger of the two codecs.
fn size(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX, |bytes| bytes.len())
}
