//! The JSON schemas say what is read and written: no more, no less, as far as a schema can.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use jsonschema::Validator;
use kronos_protocol::schema::{self, FRAMES};
use kronos_protocol::*;
use proptest::prelude::*;
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use crate::any_event::any_event;

fn reader<T: JsonSchema>() -> Validator {
    validator(SchemaSettings::draft2020_12().for_deserialize(), |generator| {
        generator.root_schema_for::<T>()
    })
}

fn writer<T: JsonSchema>() -> Validator {
    validator(SchemaSettings::draft2020_12().for_serialize(), |generator| {
        generator.root_schema_for::<T>()
    })
}

fn validator(
    settings: SchemaSettings,
    make: impl FnOnce(&mut schemars::SchemaGenerator) -> schemars::Schema,
) -> Validator {
    let schema = make(&mut settings.into_generator()).to_value();
    assert!(jsonschema::meta::is_valid(&schema));
    jsonschema::draft202012::new(&schema).unwrap()
}

static COMMAND: LazyLock<Validator> = LazyLock::new(reader::<ClientFrame>);
static FRAME_READ: LazyLock<Validator> = LazyLock::new(reader::<ServerFrame>);
static FRAME_WRITTEN: LazyLock<Validator> = LazyLock::new(writer::<ServerFrame>);
static EVENT_READ: LazyLock<Validator> = LazyLock::new(reader::<Event>);
static EVENT_WRITTEN: LazyLock<Validator> = LazyLock::new(writer::<Event>);

fn accepts(validator: &Validator, value: &Value, about: &str) {
    if let Err(error) = validator.validate(value) {
        panic!("{about}: {error}: {value}");
    }
}

fn golden(side: &str) -> Vec<(&'static str, Value)> {
    let mine = FRAMES.iter().filter(|(name, _)| name.starts_with(side));
    mine.map(|(name, text)| (*name, serde_json::from_str(text).unwrap()))
        .collect()
}

fn entries() -> Vec<Value> {
    serde_json::from_str(schema::ENTRIES).unwrap()
}

#[test]
fn every_golden_file_is_among_the_examples() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/frames");
    let files: BTreeSet<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(files, FRAMES.iter().map(|(name, _)| format!("{name}.json")).collect());
}

#[test]
fn golden_frames_fit_their_schemas() {
    for (name, frame) in golden("client_") {
        accepts(&COMMAND, &frame, name);
    }
    for (name, frame) in golden("server_") {
        accepts(&FRAME_READ, &frame, name);
        accepts(&FRAME_WRITTEN, &frame, name);
    }
}

#[test]
fn golden_entries_are_one_of_each_kind_in_the_form_that_is_written() {
    let read: Vec<LogEntry> = serde_json::from_str(schema::ENTRIES).unwrap();
    let kinds: Vec<_> = read.iter().map(|entry| entry.event.kind()).collect();
    assert_eq!(kinds, EventKind::ALL);
    assert_eq!(serde_json::to_value(&read).unwrap(), Value::from(entries()));
    for entry in entries() {
        accepts(&EVENT_READ, &entry["event"], "read");
        accepts(&EVENT_WRITTEN, &entry["event"], "written");
    }
}

#[test]
fn every_kind_has_an_example_and_a_schema_of_its_own() {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let mut seen = BTreeSet::new();
    for op in Op::ALL.iter().copied() {
        assert!(!schema::examples_of_command(op).is_empty(), "{op}");
        assert!(seen.insert(op.schema(&mut generator).to_value().to_string()), "{op}");
        assert!(!op.about().is_empty());
    }
    for kind in OkKind::ALL.iter().copied() {
        assert!(!schema::examples_of_ok(kind).is_empty(), "{kind}");
        assert!(
            seen.insert(kind.schema(&mut generator).to_value().to_string()),
            "{kind}"
        );
    }
    for op in ServerOp::ALL.iter().copied() {
        assert!(!schema::examples_of_frame(op).is_empty(), "{op}");
        assert!(seen.insert(op.schema(&mut generator).to_value().to_string()), "{op}");
    }
    for kind in EventKind::ALL.iter().copied() {
        assert!(schema::example_of_event(kind).is_some(), "{kind}");
        assert!(
            seen.insert(kind.schema(&mut generator).to_value().to_string()),
            "{kind}"
        );
    }
}

#[test]
fn every_field_of_every_schema_is_described() {
    for settings in [
        SchemaSettings::draft2020_12().for_deserialize(),
        SchemaSettings::draft2020_12().for_serialize(),
    ] {
        let mut generator = settings.into_generator();
        let roots = [
            generator.subschema_for::<ClientFrame>(),
            generator.subschema_for::<ServerFrame>(),
        ];
        assert_eq!(roots.map(schemars::Schema::to_value)[0]["$ref"], "#/$defs/ClientFrame");
        for (name, schema) in generator.take_definitions(true) {
            assert!(schema["description"].is_string(), "{name}");
            assert!(!schema.to_string().contains("[`"), "{name}: a link of rustdoc");
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                let telling = schema.get("const").is_some();
                assert!(telling || schema["description"].is_string(), "{name}.{field}");
            }
        }
    }
}

#[test]
fn optional_fields_of_parts_and_outcomes_are_not_null() {
    let part = |metadata: Value| {
        let source = json!({ "type": "url", "value": "https://example.com/a.png", "mimeType": "image/png" });
        let content = json!([{ "type": "image", "source": source, "metadata": metadata }]);
        json!({ "op": "send", "ref": "1", "session": "s", "id": "m", "content": content })
    };
    let finished = |ids: Value| {
        let outcome = json!({ "type": "success", "pendingToolCallIds": ids });
        json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": outcome })
    };
    let questions = |interrupts: Value| {
        let outcome = json!({ "type": "interrupt", "interrupts": interrupts });
        json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": outcome })
    };
    for (frame, fits) in [
        (part(json!(null)), false),
        (part(json!({})), true),
        (part(json!([null])), true),
    ] {
        assert_eq!(COMMAND.is_valid(&frame), fits, "{frame}");
        assert_eq!(
            Codec::Json.decode_client(frame.to_string().as_bytes()).is_ok(),
            fits,
            "{frame}"
        );
    }
    for (event, fits) in [
        (finished(json!(null)), false),
        (finished(json!([])), true),
        (questions(json!([])), false),
        (questions(json!([{ "id": "i", "reason": "r" }])), true),
    ] {
        assert_eq!(EVENT_READ.is_valid(&event), fits, "{event}");
        assert_eq!(serde_json::from_value::<Event>(event.clone()).is_ok(), fits, "{event}");
    }
}

/// Replaces one value somewhere in `value`: the `place`th of all, counted through.
fn replaced(value: &mut Value, place: &mut usize, with: &Value) -> bool {
    if *place == 0 {
        *value = with.clone();
        return true;
    }
    *place -= 1;
    match value {
        Value::Object(fields) => fields.values_mut().any(|inner| replaced(inner, place, with)),
        Value::Array(items) => items.iter_mut().any(|inner| replaced(inner, place, with)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn places(value: &Value) -> usize {
    1 + match value {
        Value::Object(fields) => fields.values().map(places).sum(),
        Value::Array(items) => items.iter().map(places).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

/// Removes one field somewhere in `value`.
fn removed(value: &mut Value, place: &mut usize) -> bool {
    match value {
        Value::Object(fields) => {
            if *place < fields.len() {
                let key = fields.keys().nth(*place).cloned().unwrap();
                fields.remove(&key);
                return true;
            }
            *place -= fields.len();
            fields.values_mut().any(|inner| removed(inner, place))
        }
        Value::Array(items) => items.iter_mut().any(|inner| removed(inner, place)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Values that are wrong in most places.
fn wrong() -> Vec<Value> {
    let id = "x".repeat(129);
    vec![
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(7),
        json!(4_294_967_296_u64),
        json!(""),
        json!("a b"),
        json!("new"),
        json!("\u{7f}"),
        json!(id),
        json!("queue"),
        json!([]),
        json!([null]),
        json!({}),
        json!({ "type": "later" }),
        json!({ "role": "later" }),
    ]
}

/// Every golden frame with one value replaced or one field removed.
fn damaged(frames: &[Value]) -> Vec<Value> {
    let mut all = Vec::new();
    for frame in frames {
        for place in 0..places(frame) {
            for wrong in wrong() {
                let mut damaged = frame.clone();
                assert!(replaced(&mut damaged, &mut place.clone(), &wrong));
                all.push(damaged);
            }
            let mut damaged = frame.clone();
            if removed(&mut damaged, &mut place.clone()) {
                all.push(damaged);
            }
        }
    }
    all
}

#[test]
fn a_damaged_command_is_refused_by_the_schema_exactly_when_it_is_refused() {
    let frames: Vec<_> = golden("client_").into_iter().map(|(_, frame)| frame).collect();
    let (mut read, mut refused) = (0, 0);
    for frame in damaged(&frames) {
        let result = Codec::Json.decode_client(frame.to_string().as_bytes());
        assert_eq!(COMMAND.is_valid(&frame), result.is_ok(), "{frame} {result:?}");
        if result.is_ok() { read += 1 } else { refused += 1 }
    }
    assert!(read > 100 && refused > 500, "{read} {refused}");
}

#[test]
fn a_damaged_frame_is_refused_by_the_schema_when_it_is_refused() {
    let frames: Vec<_> = golden("server_").into_iter().map(|(_, frame)| frame).collect();
    let (mut read, mut refused) = (0, 0);
    for frame in damaged(&frames) {
        let result = Codec::Json.decode_server(frame.to_string().as_bytes());
        if result.is_ok() {
            accepts(&FRAME_READ, &frame, "read");
            read += 1;
        } else if frame["op"] != "ok" {
            // The bodies of `ok` are told apart by their fields, and the one without any fits them all.
            assert!(!FRAME_READ.is_valid(&frame), "{frame} {result:?}");
            refused += 1;
        }
    }
    assert!(read > 100 && refused > 500, "{read} {refused}");
}

#[test]
fn a_damaged_event_is_refused_by_the_schema_exactly_when_it_is_refused() {
    let events: Vec<_> = entries().into_iter().map(|mut entry| entry["event"].take()).collect();
    let (mut read, mut refused) = (0, 0);
    for event in damaged(&events) {
        let result = serde_json::from_value::<Event>(event.clone());
        assert_eq!(EVENT_READ.is_valid(&event), result.is_ok(), "{event} {result:?}");
        if result.is_ok() { read += 1 } else { refused += 1 }
    }
    assert!(read > 100 && refused > 500, "{read} {refused}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_event_fits_its_schema_as_read_and_as_written(value in any_event()) {
        accepts(&EVENT_READ, &value, "read");
        let event: Event = serde_json::from_value(value).unwrap();
        accepts(&EVENT_WRITTEN, &serde_json::to_value(&event).unwrap(), "written");
    }

    #[test]
    fn an_id_is_what_its_schema_says(text in ".{0,3}|[ -~]{0,130}|\\PC{60,70}|new") {
        let value = Value::from(text.as_str());
        for (read, valid) in [
            (SessionId::try_from(text.as_str()).is_ok(), ids::<SessionId>(&value)),
            (MessageId::try_from(text.as_str()).is_ok(), ids::<MessageId>(&value)),
            (Ref::try_from(text.as_str()).is_ok(), ids::<Ref>(&value)),
        ] {
            prop_assert_eq!(read, valid, "{}", text);
        }
    }
}

fn ids<T: JsonSchema>(value: &Value) -> bool {
    reader::<T>().is_valid(value)
}
