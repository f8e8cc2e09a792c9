//! Replays the recorded requests of Google's SDKs: the same request gets an answer of the same shape.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests, too")]

use std::path::Path;

use kronos_sim::{GeminiSim, SimConfig, SimHandle};
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};

/// Starts a simulator without pauses.
fn fast() -> SimHandle {
    let config = SimConfig {
        tokens_per_second: 0.0,
        first_token_ms: 0,
        ..SimConfig::default()
    };
    GeminiSim::start(config).unwrap()
}

/// A client of its own connections.
fn client() -> Client {
    // Another test of the process may have installed it already.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().no_proxy().build().unwrap()
}

struct Answer {
    status: u64,
    media: String,
    body: Vec<u8>,
    /// Whether the body ended properly.
    whole: bool,
}

async fn replay(sim: &SimHandle, request: &Value) -> Answer {
    let mut url = Url::parse(&format!("{}{}", sim.url(), request["path"].as_str().unwrap())).unwrap();
    for (name, value) in request["query"].as_object().unwrap() {
        url.query_pairs_mut().append_pair(name, value.as_str().unwrap());
    }
    let method = Method::from_bytes(request["method"].as_str().unwrap().as_bytes()).unwrap();
    let client = client();
    let mut send = client.request(method, url);
    for (name, value) in request["headers"].as_object().unwrap() {
        send = send.header(name, value.as_str().unwrap());
    }
    if !request["body"].is_null() {
        send = send.body(request["body"].to_string());
    }
    let mut response = send.send().await.unwrap();
    let status = u64::from(response.status().as_u16());
    let media = response.headers()["content-type"].to_str().unwrap().to_owned();
    let mut body = Vec::new();
    let whole = loop {
        match response.chunk().await {
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            Ok(None) => break true,
            Err(_) => break false,
        }
    };
    Answer {
        status,
        media,
        body,
        whole,
    }
}

/// The shape of a JSON value: names and types, the first item of a list. Values only where clients branch on them.
fn shape(value: &Value) -> Value {
    const TELLING: &[&str] = &[
        "finishReason",
        "status",
        "code",
        "role",
        "@type",
        "blockReason",
        "reason",
        "name",
        "modelVersion",
        "thought",
    ];
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "thoughtSignature" && *name != "finishMessage")
            .map(|(name, inner)| {
                let telling = TELLING.contains(&name.as_str()) && !inner.is_object() && !inner.is_array();
                let shaped = if telling { inner.clone() } else { shape(inner) };
                (name.clone(), shaped)
            })
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(items) => items.first().map_or(json!([]), |first| json!([shape(first)])),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!("number"),
        Value::Bool(_) => json!("bool"),
        Value::Null => Value::Null,
    }
}

fn check_document(name: &str, expected: &Value, answer: &Answer) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    let mut expected = expected.clone();
    let mut actual = body.clone();
    if expected["error"].is_object() {
        assert_eq!(actual["error"]["message"], expected["error"]["message"], "{name}");
    }
    // Names made by the server; a summary of thoughts is up to the model.
    for value in [&mut expected, &mut actual] {
        if value["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("cachedContents/"))
        {
            value["name"] = json!("cachedContents/x");
        }
        value["usageMetadata"]
            .as_object_mut()
            .map(|usage| usage.remove("cachedContentTokenCount"));
    }
    assert_eq!(shape(&actual), shape(&expected), "{name}");
    assert_eq!(answer.media, "application/json; charset=UTF-8", "{name}");
    if let Some(models) = expected["models"].as_array() {
        let names = |list: &[Value]| list.iter().map(|model| model["name"].clone()).collect::<Vec<_>>();
        assert_eq!(names(body["models"].as_array().unwrap()), names(models), "{name}");
        assert_eq!(body["nextPageToken"], expected["nextPageToken"], "{name}");
    }
}

/// What a client sees of one event: the kinds of its parts, the ending, an error.
fn summary(event: &str) -> Value {
    let framing = event.split('{').next().unwrap();
    let end: String = event.chars().rev().take_while(|c| c.is_whitespace()).collect();
    let Some(start) = event.find('{') else {
        return json!([event]);
    };
    let json: Value = serde_json::from_str(event[start..].trim()).unwrap();
    let candidate = &json["candidates"][0];
    let parts: Vec<Value> = candidate["content"]["parts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(kind)
        .collect();
    let usage = json["usageMetadata"]["promptTokenCount"].is_number();
    json!([
        framing,
        end,
        parts,
        candidate["finishReason"],
        json["error"],
        json["promptFeedback"],
        usage
    ])
}

fn kind(part: &Value) -> Value {
    if part["functionCall"].is_object() {
        return json!([part["functionCall"]["name"], part["thoughtSignature"].is_string()]);
    }
    json!(if part["thought"] == true { "thought" } else { "text" })
}

/// Drops repeated text events: how a text is cut is free.
fn summaries(events: &[String]) -> Vec<Value> {
    let mut all: Vec<Value> = events.iter().map(|event| summary(event)).collect();
    all.dedup();
    all
}

/// Cuts a stream into events; what has no frame is one event.
fn events(body: &str) -> Vec<String> {
    let mut events = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let ends = ["\r\n\r\n", "\n\n", "}\r\n"]
            .iter()
            .filter_map(|end| rest.find(end).map(|at| at + end.len()));
        let framed = !rest.starts_with('{');
        let end = if framed {
            ends.min().unwrap_or(rest.len())
        } else {
            rest.len()
        };
        let end = if framed && rest[end..].starts_with("\r\n") {
            end + 2
        } else {
            end
        };
        events.push(rest[..end].to_owned());
        rest = &rest[end..];
    }
    events
}

fn check_stream(name: &str, expected: &Value, answer: &Answer) {
    let body = std::str::from_utf8(&answer.body).unwrap();
    let expected: Vec<String> = expected
        .as_array()
        .unwrap()
        .iter()
        .map(|event| event.as_str().unwrap().to_owned())
        .collect();
    let found = events(body);
    // A thinking model signs plain answers, too: the last text of a capture and its finishReason come as two events.
    let normal = |events: &[String]| {
        let mut all = summaries(events);
        if let Some(at) = all
            .iter()
            .rposition(|event| event[3] == "STOP" && event[2] == json!(["text"]))
        {
            let mut plain = all[at].clone();
            plain[3] = Value::Null;
            if at == 0 || all[at - 1] != plain {
                all.insert(at, plain);
            }
        }
        all
    };
    assert_eq!(normal(&found), normal(&expected), "{name}: {body}");
    assert_eq!(answer.media, "text/event-stream", "{name}");
    let ids: std::collections::HashSet<Value> = found
        .iter()
        .filter_map(|event| serde_json::from_str::<Value>(event.get(event.find('{')?..)?.trim()).ok())
        .filter(|chunk| chunk["error"].is_null())
        .map(|chunk| chunk["responseId"].clone())
        .collect();
    assert_eq!(ids.len(), 1, "{name}: one responseId");
}

#[tokio::test]
async fn every_capture_gets_an_answer_of_its_shape() {
    let sim = fast();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    assert!(files.len() > 70, "captures are missing");
    for file in files {
        let capture: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let name = capture["name"].as_str().unwrap();
        let expected = &capture["response"];
        let answer = replay(&sim, &capture["request"]).await;
        assert_eq!(Some(answer.status), expected["status"].as_u64(), "{name}");
        assert_eq!(
            answer.whole,
            !name.ends_with("stream_truncated"),
            "{name}: end of the body"
        );
        if expected["sse_chunks"].is_array() {
            check_stream(name, &expected["sse_chunks"], &answer);
        } else {
            check_document(name, &expected["body"], &answer);
        }
    }
    sim.stop();
}
