//! AG-UI's own vectors: sequences that the official clients were run on.

use std::fs;
use std::path::Path;

use kronos_protocol::{Codec, Event, Incoming, LogEntry, RunId, Verifier, verify_stream};
use serde::Deserialize;
use serde_json::{Value, json};

fn fixture(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ag-ui").join(name);
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every capture but the two that have another form.
fn captures() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ag-ui");
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.retain(|name| {
        name.ends_with(".json") && !["negative.json", "proposal_envelope_frames.json"].contains(&name.as_str())
    });
    names.sort();
    assert_eq!(names.len(), 19);
    names.into_iter().map(|name| (name.clone(), fixture(&name))).collect()
}

fn events(capture: &Value) -> Vec<Vec<Value>> {
    let streams = capture["streams"].as_array().unwrap();
    streams
        .iter()
        .map(|stream| stream["events"].as_array().unwrap().clone())
        .collect()
}

fn known(value: &Value) -> Event {
    match Event::decode_value(value.clone()).unwrap() {
        Incoming::Known(event) => event,
        Incoming::Unknown { kind } => panic!("{kind} is not known"),
    }
}

#[test]
fn every_captured_event_is_written_as_it_was_read() {
    for (name, capture) in captures() {
        for value in events(&capture).iter().flatten() {
            let event = known(value);
            assert_eq!(&serde_json::to_value(&event).unwrap(), value, "{name}");
            assert_eq!(event.timestamp(), value["timestamp"].as_i64(), "{name}");
            assert_eq!(event.kind().as_str(), value["type"], "{name}");
        }
    }
}

#[test]
fn every_captured_event_survives_both_codecs() {
    for (name, capture) in captures() {
        for value in events(&capture).iter().flatten() {
            let event = known(value);
            for codec in Codec::ALL {
                let bytes = codec.encode(&event).unwrap();
                assert_eq!(&codec.decode_value(&bytes).unwrap(), value, "{name} {codec}");
            }
            let direct: Event = rmp_serde::from_slice(&Codec::Msgpack.encode(&event).unwrap()).unwrap();
            assert_eq!(direct, event, "{name}");
            let direct: Event = serde_json::from_slice(&Codec::Json.encode(&event).unwrap()).unwrap();
            assert_eq!(direct, event, "{name}");
            let direct: Event = serde_json::from_str(&value.to_string()).unwrap();
            assert_eq!(direct, event, "{name}");
        }
    }
}

#[test]
fn every_captured_stream_is_accepted() {
    for (name, capture) in captures() {
        for stream in events(&capture) {
            assert_eq!(verify_stream(&stream), Ok(()), "{name}");
        }
    }
}

#[test]
fn every_negative_vector_ends_as_with_the_official_client() {
    let vectors = fixture("negative.json");
    let cases = vectors["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 59);
    let mut wrong = Vec::new();
    for case in cases {
        let expected = case["expect"]["1.0.0"].as_str().unwrap();
        let result = verify_stream(case["events"].as_array().unwrap());
        let as_expected = match &result {
            Ok(()) => expected == "accepts",
            Err(text) => text.contains(expected),
        };
        if !as_expected {
            wrong.push(format!("{}: expected {expected:?}, got {result:?}", case["name"]));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_list_or_a_number_is_no_tagged_object() {
    let started = |content: Value| {
        json!({ "type": "RUN_STARTED", "threadId": "t", "runId": "r", "input": {
            "threadId": "t", "runId": "r", "messages": [{ "role": "user", "id": "m", "content": content }],
        } })
    };
    let finished =
        |outcome: Value| json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": outcome });
    let delta = |op: Value| json!({ "type": "STATE_DELTA", "delta": [op] });
    let refused = [
        started(json!([["text", "x"]])),
        started(json!([{ "type": 0, "text": "x" }])),
        started(json!([{ "type": "image", "source": ["url", "x"] }])),
        finished(json!(["cancelled"])),
        finished(json!({ "type": 2 })),
        delta(json!(["remove", "/a"])),
        delta(json!({ "op": 1, "path": "/a" })),
        json!([["CUSTOM", "n", 1]]),
        json!({ "type": 29, "name": "n", "value": 1 }),
    ];
    for value in refused {
        assert!(Event::decode_value(value.clone()).is_err(), "{value}");
    }
}

#[test]
fn the_envelopes_of_the_proposal_are_entries_and_their_runs_are_accepted() {
    let proposal = fixture("proposal_envelope_frames.json");
    let entries: Vec<LogEntry> = proposal["frames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|frame| LogEntry::deserialize(frame).unwrap())
        .collect();
    let projection = &proposal["projections"][0];
    let mut verifier = Verifier::new();
    let mut seqs = Vec::new();
    for entry in entries
        .iter()
        .filter(|entry| entry.run.as_ref().map(RunId::as_str) == projection["run"].as_str())
    {
        verifier.accept(&entry.event).unwrap();
        seqs.push(entry.seq);
    }
    assert_eq!(json!(seqs), projection["seqs"]);
    assert!(!verifier.is_running());
}

#[test]
fn events_stay_small() {
    assert!(size_of::<Event>() <= 224, "{}", size_of::<Event>());
}
