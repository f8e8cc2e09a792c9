//! The AsyncAPI document: valid, complete, and true of its own examples.
//!
//! `asyncapi-3.0.0.json.gz` is AsyncAPI's own schema: `schemas/3.0.0-without-$id.json` of the npm package `@asyncapi/specs`
//! 6.11.1 (Apache-2.0).

use std::collections::BTreeSet;

use jsonschema::Validator;
use kronos_protocol::{
    client::Op,
    close::CloseCode,
    codec::Codec,
    error::{ErrorCode, RunErrorCode},
    event::EventKind,
    server::{OkKind, ServerOp},
};
use serde_json::{Value, json};

use super::unpack;
use crate::harness::Edge;

/// The document of a server with bounds of its own.
async fn document() -> Value {
    let edge = Edge::with(|config| {
        config.session.message_chars = 1234;
        config.connection.attachments = 7;
    })
    .await;
    let document = edge.get("/asyncapi.json", None).await.expect(200);
    edge.finish().await;
    document
}

/// A validator of a message's payload.
pub(super) fn payload(document: &Value, message: &str) -> Validator {
    let schema = &document["components"]["messages"][message]["payload"];
    assert!(schema.is_object(), "{message} is not described");
    let whole = json!({"allOf": [schema], "components": document["components"]});
    jsonschema::draft7::new(&whole).unwrap_or_else(|error| panic!("{message}: {error}"))
}

#[actix_web::test]
async fn it_is_what_asyncapi_calls_a_document() {
    let schema: Value = serde_json::from_slice(&unpack(include_bytes!("asyncapi-3.0.0.json.gz"))).unwrap();
    let validator = jsonschema::draft7::new(&schema).unwrap();
    let document = document().await;
    let errors: Vec<String> = validator
        .iter_errors(&document)
        .map(|error| format!("{}: {error:.200}", error.instance_path()))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let mut broken = document;
    broken["operations"]["send"]["action"] = json!("shout");
    assert!(!validator.is_valid(&broken), "the schema refuses nothing");
}

fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                match inner.as_str() {
                    Some(reference) if name == "$ref" => drop(found.insert(reference)),
                    _ => references(inner, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[actix_web::test]
async fn references_lead_somewhere_and_everything_is_referred_to() {
    let document = document().await;
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    for reference in &found {
        let pointer = reference.strip_prefix('#').expect("only within the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for part in ["messages", "schemas", "securitySchemes"] {
        for name in document["components"][part].as_object().unwrap().keys() {
            assert!(
                found.contains(format!("#/components/{part}/{name}").as_str()),
                "{part} {name} is not used"
            );
        }
    }
    for name in document["channels"]["ws"]["messages"].as_object().unwrap().keys() {
        let reference = format!("#/channels/ws/messages/{name}");
        assert!(found.contains(reference.as_str()), "no operation has {name}");
    }
}

#[actix_web::test]
async fn every_command_frame_event_and_code_is_in_it() {
    let document = document().await;
    let messages = &document["components"]["messages"];
    let operations = &document["operations"];
    let frames = ServerOp::ALL
        .iter()
        .filter(|op| **op != ServerOp::Ok)
        .map(|op| op.to_string());
    let expected: BTreeSet<String> = Op::ALL
        .iter()
        .map(|op| op.to_string())
        .chain(OkKind::ALL.iter().map(|kind| format!("ok.{kind}")))
        .chain(frames.clone())
        .chain(EventKind::ALL.iter().map(|kind| format!("events.{kind}")))
        .collect();
    let described: BTreeSet<String> = messages.as_object().unwrap().keys().cloned().collect();
    assert_eq!(described, expected);
    let expected: BTreeSet<String> = Op::ALL
        .iter()
        .map(|op| op.to_string())
        .chain(frames.map(|op| format!("send_{op}")))
        .collect();
    assert_eq!(
        operations.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>(),
        expected
    );
    let channel = &document["channels"]["ws"];
    let codes = |list: &str| -> Vec<Value> {
        let rows = channel[list].as_array().unwrap().iter();
        rows.map(|row| {
            assert!(row["description"].as_str().is_some_and(|text| text.len() > 5), "{row}");
            assert!(row["retry"].is_boolean(), "{row}");
            row["code"].clone()
        })
        .collect()
    };
    assert_eq!(
        codes("x-close-codes"),
        CloseCode::ALL.iter().map(|code| json!(code.code())).collect::<Vec<_>>()
    );
    assert_eq!(
        codes("x-error-codes"),
        ErrorCode::ALL.iter().map(|code| json!(code)).collect::<Vec<_>>()
    );
    assert_eq!(
        codes("x-run-error-codes"),
        RunErrorCode::ALL.iter().map(|code| json!(code)).collect::<Vec<_>>()
    );
    assert_eq!(channel["x-codecs"].as_object().unwrap().len(), Codec::ALL.len());
    assert_eq!(
        channel["bindings"]["ws"]["headers"]["properties"]["Sec-WebSocket-Protocol"]["enum"],
        json!(Codec::SUBPROTOCOLS)
    );
    assert_eq!(channel["x-limits"]["message_chars"]["limit"], 1234);
    assert_eq!(channel["x-limits"]["attachments"]["limit"], 7);
}

#[actix_web::test]
async fn every_message_has_an_example_that_its_schema_accepts_and_the_server_reads() {
    let document = document().await;
    for (name, message) in document["components"]["messages"].as_object().unwrap() {
        let validator = payload(&document, name);
        let examples = message["examples"].as_array().unwrap();
        assert!(!examples.is_empty(), "{name}");
        assert!(message["summary"].as_str().is_some_and(|text| text.len() > 5), "{name}");
        for example in examples {
            let frame = &example["payload"];
            if let Err(error) = validator.validate(frame) {
                panic!("{name}: {error}");
            }
            let bytes = frame.to_string();
            match name.parse::<Op>() {
                Ok(op) => assert_eq!(Codec::Json.decode_client(bytes.as_bytes()).unwrap().command.op(), op),
                Err(_) => drop(Codec::Json.decode_server(bytes.as_bytes()).unwrap()),
            }
        }
        assert!(!validator.is_valid(&json!({"op": "later"})), "{name}");
    }
    let other = &document["components"]["messages"]["events.RAW"]["examples"][0]["payload"];
    assert!(
        !payload(&document, "events.CUSTOM").is_valid(other),
        "an event of another kind"
    );
}
