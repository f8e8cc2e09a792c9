//! Events in general: any event survives both codecs, and the verifier keeps its word about any stream.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use kronos_protocol::event::{RunError, RunFinished, RunStarted, ToolCallResult};
use kronos_protocol::{Codec, Event, EventKind, Incoming, OpenEntity, Verifier};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Fields of every event: name, an example of its type, and whether it is required. `°`: takes `subagentRunId`.
const FIELDS: &[(&str, &[&str])] = &[
    (
        "RUN_STARTED",
        &[
            "!threadId s",
            "!runId i",
            "protocolVersion s",
            "parentRunId i",
            "input input",
        ],
    ),
    (
        "RUN_FINISHED",
        &[
            "!threadId s",
            "!runId i",
            "result any",
            "outcome outcome",
            "usage usage",
        ],
    ),
    ("RUN_ERROR", &["!message s", "code s", "usage usage"]),
    ("STEP_STARTED", &["°", "!stepName s"]),
    ("STEP_FINISHED", &["°", "!stepName s"]),
    ("TEXT_MESSAGE_START", &["°", "!messageId i", "role role", "name s"]),
    ("TEXT_MESSAGE_CONTENT", &["°", "!messageId i", "!delta s"]),
    ("TEXT_MESSAGE_END", &["°", "!messageId i"]),
    (
        "TEXT_MESSAGE_CHUNK",
        &["°", "messageId i", "role role", "delta s", "name s"],
    ),
    (
        "TOOL_CALL_START",
        &["°", "!toolCallId s", "!toolCallName s", "parentMessageId i"],
    ),
    ("TOOL_CALL_ARGS", &["°", "!toolCallId s", "!delta s"]),
    ("TOOL_CALL_END", &["°", "!toolCallId s"]),
    (
        "TOOL_CALL_CHUNK",
        &["°", "toolCallId s", "toolCallName s", "parentMessageId i", "delta s"],
    ),
    (
        "TOOL_CALL_RESULT",
        &["°", "!messageId i", "!toolCallId s", "!content content", "role tool"],
    ),
    ("STATE_SNAPSHOT", &["°", "!snapshot any"]),
    ("STATE_DELTA", &["°", "!delta patch"]),
    ("MESSAGES_SNAPSHOT", &["!messages messages"]),
    (
        "ACTIVITY_SNAPSHOT",
        &[
            "°",
            "!messageId i",
            "!activityType s",
            "!content object",
            "replace bool",
        ],
    ),
    (
        "ACTIVITY_DELTA",
        &["°", "!messageId i", "!activityType s", "!patch patch"],
    ),
    ("REASONING_START", &["°", "!messageId i"]),
    ("REASONING_END", &["°", "!messageId i"]),
    ("REASONING_MESSAGE_START", &["°", "!messageId i", "!role reasoning"]),
    ("REASONING_MESSAGE_CONTENT", &["°", "!messageId i", "!delta s"]),
    ("REASONING_MESSAGE_END", &["°", "!messageId i"]),
    ("REASONING_MESSAGE_CHUNK", &["°", "messageId i", "delta s"]),
    (
        "REASONING_ENCRYPTED_VALUE",
        &["°", "!subtype subtype", "!entityId s", "!encryptedValue s"],
    ),
    (
        "SUBAGENT_STARTED",
        &[
            "!subagentRunId s",
            "!name s",
            "description s",
            "parentSubagentRunId s",
            "parentToolCallId s",
            "parentMessageId i",
        ],
    ),
    (
        "SUBAGENT_FINISHED",
        &["!subagentRunId s", "result any", "outcome suspended"],
    ),
    ("SUBAGENT_ERROR", &["!subagentRunId s", "!message s", "code s"]),
    ("CUSTOM", &["°", "!name s", "!value any"]),
    ("RAW", &["°", "!event any", "source s"]),
];

/// What every event may have besides.
const COMMON: &[&str] = &["timestamp int", "metadata object", "rawEvent any"];

fn messages() -> Value {
    json!([
        { "role": "developer", "id": "1", "content": "a", "name": "n" },
        { "role": "system", "id": "2", "content": "b", "encryptedValue": "x" },
        { "role": "user", "id": "3", "content": [{ "type": "text", "text": "c" }], "subagentRunId": "s" },
        { "role": "assistant", "id": "4", "toolCalls": [
            { "id": "c", "type": "function", "function": { "name": "f", "arguments": "{" }, "metadata": { "k": null } },
        ] },
        { "role": "tool", "id": "5", "content": "e", "toolCallId": "c", "error": "no" },
        { "role": "activity", "id": "6", "activityType": "k.p", "content": { "done": 1 } },
        { "role": "reasoning", "id": "7", "content": "g", "metadata": {} },
    ])
}

fn input() -> Value {
    json!({
        "threadId": "t", "runId": "r", "messages": messages(), "protocolVersion": "1.0", "parentRunId": "p",
        "state": { "a": 1 }, "forwardedProps": [1],
        "tools": [{ "name": "f", "description": "d", "parameters": { "type": "object" }, "metadata": {} }],
        "context": [{ "description": "d", "value": "v" }],
        "resume": [{ "interruptId": "i", "status": "resolved", "payload": { "approved": false } }],
    })
}

/// A strategy for a field's type.
fn typed(kind: &str) -> BoxedStrategy<Value> {
    let examples = match kind {
        "s" => return ".{0,16}".prop_map(Value::from).boxed(),
        "i" => return "[a-zA-Z0-9_-]{1,20}".prop_map(Value::from).boxed(),
        "int" => return any::<i64>().prop_map(Value::from).boxed(),
        "any" => return any_json().boxed(),
        "object" => {
            return prop::collection::hash_map(".{0,6}", any_json(), 0..4)
                .prop_map(Value::from_iter)
                .boxed();
        }
        "bool" => vec![json!(true), json!(false)],
        "role" => vec![json!("developer"), json!("system"), json!("assistant"), json!("user")],
        "tool" => vec![json!("tool")],
        "reasoning" => vec![json!("reasoning")],
        "subtype" => vec![json!("message"), json!("tool-call")],
        "usage" => vec![
            json!([]),
            json!([{ "provider": "p", "cachedInputTokens": u64::MAX }, {}]),
        ],
        "outcome" => vec![
            json!({ "type": "success" }),
            json!({ "type": "success", "pendingToolCallIds": ["c"] }),
            json!({ "type": "cancelled" }),
            json!({ "type": "interrupt", "interrupts": [{ "id": "i", "reason": "tool_call", "expiresAt": "x" }] }),
        ],
        "suspended" => vec![
            json!({ "type": "success" }),
            json!({ "type": "suspended", "interruptIds": ["i"] }),
        ],
        "content" => vec![json!("x"), json!([{ "type": "text", "text": "x" }])],
        "patch" => vec![
            json!([]),
            json!([{ "op": "add", "path": "", "value": null }, { "op": "remove", "path": "/a~1b/0" }]),
            json!([{ "op": "move", "from": "/a", "path": "/b" }, { "op": "copy", "from": "/a", "path": "/b" }]),
            json!([{ "op": "test", "path": "/-", "value": 1.5 }, { "op": "replace", "path": "/~0", "value": [] }]),
        ],
        "messages" => vec![messages()],
        "input" => vec![input()],
        other => panic!("{other}"),
    };
    prop::sample::select(examples).boxed()
}

/// JSON that is not null at the top.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-1e9..1e9_f64).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".{0,4}", prop_oneof![Just(Value::Null), inner], 0..4)
                .prop_map(Value::from_iter),
        ]
    })
}

/// Any event as JSON, with any of its optional fields.
fn any_event() -> impl Strategy<Value = Value> {
    prop::sample::select(FIELDS).prop_flat_map(|(kind, fields)| {
        let lane = fields.contains(&"°").then_some("subagentRunId s");
        let fields = fields
            .iter()
            .copied()
            .filter(|field| *field != "°")
            .chain(lane)
            .chain(COMMON.iter().copied());
        let strategies: Vec<_> = fields
            .map(|field| {
                let (name, kind) = field.trim_start_matches('!').split_once(' ').unwrap();
                let value = match field.starts_with('!') {
                    true => typed(kind).prop_map(Some).boxed(),
                    false => prop::option::weighted(0.4, typed(kind)).boxed(),
                };
                (Just(name.to_owned()), value)
            })
            .collect();
        strategies.prop_map(move |fields| {
            let mut object = Map::from_iter([("type".to_owned(), Value::from(kind))]);
            object.extend(
                fields
                    .into_iter()
                    .filter_map(|(name, value)| value.map(|value| (name, value))),
            );
            Value::Object(object)
        })
    })
}

fn known(value: &Value) -> Event {
    match Event::decode_value(value.clone()) {
        Ok(Incoming::Known(event)) => event,
        other => panic!("{value}: {other:?}"),
    }
}

#[test]
fn the_table_of_fields_has_every_event() {
    let kinds: Vec<_> = FIELDS
        .iter()
        .map(|(kind, _)| kind.parse::<EventKind>().unwrap())
        .collect();
    assert_eq!(kinds, EventKind::ALL);
}

/// So many cases; a failing one is printed, not kept in a file.
fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn any_event_survives_both_codecs(value in any_event()) {
        let event = known(&value);
        prop_assert_eq!(&serde_json::to_value(&event).unwrap(), &value);
        for codec in Codec::ALL {
            prop_assert_eq!(&codec.decode_value(&codec.encode(&event).unwrap()).unwrap(), &value);
        }
        prop_assert_eq!(&serde_json::from_slice::<Event>(&Codec::Json.encode(&event).unwrap()).unwrap(), &event);
        prop_assert_eq!(&rmp_serde::from_slice::<Event>(&Codec::Msgpack.encode(&event).unwrap()).unwrap(), &event);
        prop_assert_eq!(&serde_json::from_value::<Event>(value).unwrap(), &event);
    }

    #[test]
    fn a_required_field_must_be_there_and_null_is_not_it(value in any_event()) {
        let (_, fields) = FIELDS.iter().find(|(kind, _)| value["type"] == *kind).unwrap();
        for field in fields.iter().filter_map(|field| field.strip_prefix('!')) {
            let (name, kind) = field.split_once(' ').unwrap();
            let mut without = value.clone();
            without.as_object_mut().unwrap().remove(name);
            let error = Event::decode_value(without).unwrap_err().to_string();
            prop_assert!(error.contains(name) && error.contains("missing"), "{}", error);
            let mut null = value.clone();
            null[name] = Value::Null;
            prop_assert_eq!(Event::decode_value(null).is_ok(), kind == "any", "{}", name);
        }
    }

    #[test]
    fn null_is_absent_for_four_optional_fields_and_refused_for_the_others(value in any_event()) {
        let (_, fields) = FIELDS.iter().find(|(kind, _)| value["type"] == *kind).unwrap();
        let optional = fields.iter().filter(|field| !field.starts_with('!') && **field != "°").chain(COMMON);
        for name in optional.map(|field| field.split_once(' ').unwrap().0) {
            let mut null = value.clone();
            null[name] = Value::Null;
            let mut without = value.clone();
            without.as_object_mut().unwrap().remove(name);
            match Event::decode_value(null) {
                Ok(read) => {
                    prop_assert!(["parentMessageId", "outcome", "result", "rawEvent"].contains(&name), "{}", name);
                    prop_assert_eq!(read, Incoming::Known(known(&without)));
                }
                Err(error) => {
                    prop_assert!(!["parentMessageId", "outcome", "result", "rawEvent"].contains(&name), "{}", name);
                    prop_assert!(error.to_string().contains(name), "{}", error);
                }
            }
        }
    }
}

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
