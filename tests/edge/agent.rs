//! The routes under `/agent`.

mod agui;
mod capabilities;
mod copilot;
mod intent;
mod invoke;
mod runs;
mod tools;

use kronos_protocol::verify_stream;
use kronos_testkit::{SseClient, SseEvent, text_of};
use serde_json::{Value, json};

use crate::{
    chat::open,
    harness::{Edge, Pair},
};

const AG_UI: &str = "/api/v1/agent/ag-ui";

/// What a client of AG-UI 1.0 sends.
fn input(thread: &str, run: &str, messages: Value) -> Value {
    json!({"threadId": thread, "runId": run, "protocolVersion": "1.0", "messages": messages, "state": {}, "tools": [],
        "context": [], "forwardedProps": {}})
}

fn user(id: &str, text: &str) -> Value {
    json!({"id": id, "role": "user", "content": text})
}

fn with(mut body: Value, name: &str, value: Value) -> Value {
    body[name] = value;
    body
}

/// Starts a run as an AG-UI client does.
async fn run(edge: &Edge, pair: &Pair, body: Value) -> SseClient {
    let stream = open(edge, "POST", AG_UI, pair, Some(body)).await;
    assert_eq!(stream.reply.status, 200, "{}", stream.reply.text());
    assert_eq!(stream.reply.header("content-type"), Some("text/event-stream"));
    stream
}

/// Starts a run and reads it to its end.
async fn whole(edge: &Edge, pair: &Pair, body: Value) -> Vec<SseEvent> {
    let events = run(edge, pair, body).await.rest().await;
    check(&events);
    events
}

/// It is what the official client takes.
fn check(events: &[SseEvent]) {
    let values: Vec<Value> = events.iter().map(SseEvent::json).collect();
    verify_stream(&values).unwrap_or_else(|error| panic!("{error:?}: {values:#?}"));
}

/// The same run: what is told twice may come in other pieces.
fn same(one: &[SseEvent], other: &[SseEvent]) {
    let all = |events: &[SseEvent]| {
        let pieces = |kind: &str| kind.ends_with("_CONTENT") || kind.ends_with("_ARGS");
        let whole: Vec<Value> = events
            .iter()
            .filter(|event| !pieces(&event.kind()))
            .map(SseEvent::json)
            .collect();
        (whole, text_of(events))
    };
    assert_eq!(all(one), all(other));
}

fn last(events: &[SseEvent]) -> Value {
    events.last().expect("an event").json()
}
