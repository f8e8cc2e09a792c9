//! Any event as JSON: a table of all fields, and strategies made from it.

use kronos_protocol::{Event, Incoming};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Fields of every event: name, an example of its type, and whether it is required. `°`: takes `subagentRunId`.
pub(crate) const FIELDS: &[(&str, &[&str])] = &[
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
pub(crate) const COMMON: &[&str] = &["timestamp int", "metadata object", "rawEvent any"];

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
pub(crate) fn any_event() -> impl Strategy<Value = Value> {
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

pub(crate) fn known(value: &Value) -> Event {
    match Event::decode_value(value.clone()) {
        Ok(Incoming::Known(event)) => event,
        other => panic!("{value}: {other:?}"),
    }
}

/// So many cases; a failing one is printed, not kept in a file.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}
