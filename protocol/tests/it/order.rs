//! The verifier keeps its word about any stream, and what it closes is closed.

use kronos_protocol::event::{RunError, RunFinished, RunStarted, ToolCallResult};
use kronos_protocol::{Event, EventKind, OpenEntity, Verifier};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::any_event::{FIELDS, cases, known};

/// Events over few ids and owners, so that they meet.
fn meeting() -> impl Strategy<Value = Value> {
    let owner = || prop::option::weighted(0.3, prop::sample::select(vec!["s1", "s2"]));
    let id = || prop::sample::select(vec!["a", "b"]);
    let kinds: Vec<_> = FIELDS
        .iter()
        .map(|(kind, _)| *kind)
        .filter(|kind| *kind != "RUN_ERROR")
        .collect();
    let kinds = (prop::sample::select(kinds), id(), id(), owner(), any::<u8>());
    kinds.prop_map(|(kind, id, other, owner, bits)| {
        let mut event = json!({ "type": kind });
        let (_, fields) = FIELDS.iter().find(|(name, _)| *name == kind).unwrap();
        for (place, field) in fields.iter().enumerate() {
            let (name, _) = field.trim_start_matches('!').split_once(' ').unwrap_or((field, ""));
            if !field.starts_with('!') && bits >> (place % 8) & 1 == 0 {
                continue;
            }
            event[name] = match name {
                "°" => continue,
                "messages" => json!([{ "role": "assistant", "id": id, "toolCalls": [
                    { "id": other, "type": "function", "function": { "name": "f", "arguments": "" } },
                ] }]),
                "input" | "outcome" | "usage" => continue,
                "snapshot" | "content" if kind != "TOOL_CALL_RESULT" => json!({}),
                "role" if kind == "TOOL_CALL_RESULT" => json!("tool"),
                "role" if kind == "REASONING_MESSAGE_START" => json!("reasoning"),
                "role" => json!("assistant"),
                "subtype" => json!(if bits & 1 == 0 { "message" } else { "tool-call" }),
                "delta" | "patch" if ["STATE_DELTA", "ACTIVITY_DELTA"].contains(&kind) => json!([]),
                "replace" => json!(bits & 1 == 0),
                "subagentRunId" | "parentSubagentRunId" => json!(if bits & 2 == 0 { "s1" } else { "s2" }),
                "parentMessageId" => json!(other),
                "toolCallName" | "name" | "activityType" => json!("f"),
                _ => json!(id),
            };
        }
        if fields.contains(&"°")
            && let Some(owner) = owner
        {
            event["subagentRunId"] = json!(owner);
        }
        event
    })
}

fn started() -> Verifier {
    let mut verifier = Verifier::new();
    let run = "r"
        .parse()
        .map(|run: kronos_protocol::RunId| RunStarted::new("t", run))
        .unwrap();
    verifier.accept(&run.into()).unwrap();
    verifier
}

fn finished() -> Event {
    RunFinished::new("t", "r".parse::<kronos_protocol::RunId>().unwrap()).into()
}

/// Feeds a stream, leaving out what is refused and the end of the run.
fn fed(events: &[Value]) -> Verifier {
    let mut verifier = started();
    for event in events
        .iter()
        .map(known)
        .filter(|event| event.kind() != EventKind::RunFinished)
    {
        let open = verifier.open().to_vec();
        let checked = verifier.check(&event);
        assert_eq!(verifier.accept(&event), checked);
        if checked.is_err() {
            assert_eq!(verifier.open(), open);
        }
    }
    verifier
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn closers_bring_any_open_stream_to_an_end(events in prop::collection::vec(meeting(), 0..40)) {
        let mut verifier = fed(&events);
        verifier.check(&RunError::new("boom").into()).unwrap();
        for closer in verifier.closers(7) {
            prop_assert_eq!(closer.timestamp(), Some(7));
            verifier.accept(&closer).unwrap();
        }
        prop_assert!(verifier.unanswered_calls().is_empty());
        verifier.accept(&finished()).unwrap();
        prop_assert!(verifier.open().is_empty() && !verifier.is_running());
        prop_assert!(verifier.closers(7).is_empty());
    }
}

fn accept_all(verifier: &mut Verifier, events: &[Value]) {
    for event in events {
        verifier.accept(&known(event)).unwrap();
    }
}

#[test]
fn a_stopped_run_is_closed_from_the_inside_out() {
    let mut verifier = started();
    accept_all(
        &mut verifier,
        &[
            json!({ "type": "TOOL_CALL_START", "toolCallId": "done", "toolCallName": "f" }),
            json!({ "type": "TOOL_CALL_END", "toolCallId": "done" }),
            json!({ "type": "TOOL_CALL_RESULT", "messageId": "t", "toolCallId": "done", "content": "ok" }),
            json!({ "type": "TOOL_CALL_START", "toolCallId": "called", "toolCallName": "f" }),
            json!({ "type": "TOOL_CALL_END", "toolCallId": "called" }),
            json!({ "type": "SUBAGENT_STARTED", "subagentRunId": "s", "name": "n" }),
            json!({ "type": "STEP_STARTED", "stepName": "model", "subagentRunId": "s" }),
            json!({ "type": "REASONING_START", "messageId": "g" }),
            json!({ "type": "REASONING_MESSAGE_START", "messageId": "g", "role": "reasoning" }),
            json!({ "type": "TEXT_MESSAGE_START", "messageId": "m", "subagentRunId": "s" }),
            json!({ "type": "TOOL_CALL_START", "toolCallId": "calling", "toolCallName": "f", "parentMessageId": "m" }),
        ],
    );
    assert_eq!(verifier.open().len(), 6);
    assert_eq!(verifier.open().first(), Some(&OpenEntity::Subagent("s".to_owned())));
    assert_eq!(verifier.unanswered_calls(), ["called", "calling"]);
    let stopped = r#"{"status":"stopped"}"#;
    let expected = [
        json!({ "type": "TOOL_CALL_RESULT", "messageId": "called.stopped", "toolCallId": "called", "content": stopped, "role": "tool" }),
        json!({ "type": "TOOL_CALL_END", "toolCallId": "calling", "subagentRunId": "s" }),
        json!({ "type": "TOOL_CALL_RESULT", "messageId": "calling.stopped", "toolCallId": "calling", "content": stopped, "role": "tool", "subagentRunId": "s" }),
        json!({ "type": "TEXT_MESSAGE_END", "messageId": "m", "subagentRunId": "s" }),
        json!({ "type": "REASONING_MESSAGE_END", "messageId": "g" }),
        json!({ "type": "REASONING_END", "messageId": "g" }),
        json!({ "type": "STEP_FINISHED", "stepName": "model", "subagentRunId": "s" }),
        json!({ "type": "SUBAGENT_ERROR", "subagentRunId": "s", "message": "stopped", "code": "stopped" }),
    ];
    let expected: Vec<_> = expected.iter().map(|value| known(value).with_timestamp(5)).collect();
    assert_eq!(verifier.closers(5), expected);
}

#[test]
fn the_result_of_a_stopped_call_has_an_id_of_its_own_whatever_the_call_is_called() {
    let mut verifier = started();
    let names = [
        "",
        "a\nb",
        "\u{1f600}",
        &"x".repeat(500),
        &format!("{}y", "x".repeat(500)),
    ];
    for name in names {
        accept_all(
            &mut verifier,
            &[json!({ "type": "TOOL_CALL_START", "toolCallId": name, "toolCallName": "f" })],
        );
    }
    let closers = verifier.closers(0);
    let results: Vec<&ToolCallResult> = closers
        .iter()
        .filter_map(|event| {
            if let Event::ToolCallResult(result) = event {
                Some(result)
            } else {
                None
            }
        })
        .collect();
    let ids: std::collections::BTreeSet<_> = results.iter().map(|result| result.message_id.clone()).collect();
    assert_eq!(ids.len(), names.len());
}

#[test]
fn chunks_are_ended_by_the_end_of_the_run() {
    let mut verifier = started();
    accept_all(
        &mut verifier,
        &[
            json!({ "type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "x" }),
            json!({ "type": "TOOL_CALL_CHUNK", "toolCallId": "c", "toolCallName": "f", "subagentRunId": "s" }),
        ],
    );
    assert_eq!(verifier.open().len(), 2);
    let results: Vec<_> = verifier.closers(0).iter().map(Event::kind).collect();
    assert_eq!(results, [EventKind::ToolCallResult]);
    verifier.accept(&finished()).unwrap();
    assert!(verifier.open().is_empty());
}

#[test]
fn an_end_that_a_chunk_stream_needs_for_itself_is_refused() {
    let mut verifier = started();
    accept_all(
        &mut verifier,
        &[json!({ "type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "x", "subagentRunId": "s" })],
    );
    let end = known(&json!({ "type": "TEXT_MESSAGE_END", "messageId": "m" }));
    assert!(
        verifier
            .check(&end)
            .unwrap_err()
            .to_string()
            .contains("could not be closed")
    );
}
