//! What the AsyncAPI document says against what the server does.

use std::{collections::HashMap, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use jsonschema::Validator;
use kronos::config::AuthMode;
use kronos_sim::{GeminiSim, SimConfig};
use kronos_testkit::{ConnectOptions, WsClient};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use super::asyncapi::payload;
use crate::harness::Edge;

#[actix_web::test]
async fn every_command_that_it_tells_of_is_supported() {
    let edge = Edge::open().await;
    let document = edge.get("/asyncapi.json", None).await.expect(200);
    let url = format!("ws://{}/ws", edge.addr);
    let mut client = WsClient::connect(&url, ConnectOptions::user("ada")).await;
    let session = client.attach_new().await;
    for op in document["operations"]
        .as_object()
        .unwrap()
        .keys()
        .filter(|name| !name.starts_with("send_"))
    {
        // They are about the connection: a second `hello`, another user's token.
        if ["hello", "token"].contains(&op.as_str()) {
            continue;
        }
        for example in document["components"]["messages"][op]["examples"].as_array().unwrap() {
            let mut frame = example["payload"].clone();
            frame.as_object_mut().unwrap().remove("ref");
            if op != "attach" && frame.get("session").is_some() {
                frame["session"] = json!(session);
            }
            let answer = client.request(frame).await;
            let code = answer.err().map(|error| error.code.to_string());
            assert_ne!(code.as_deref(), Some("unsupported"), "{op}");
        }
    }
    client.cut();
    edge.finish().await;
}

/// A client that has the document and nothing else.
struct Reader {
    document: Value,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    validators: HashMap<String, Validator>,
    seen: Vec<String>,
}

impl Reader {
    fn fits(&mut self, message: &str, frame: &Value) -> bool {
        let document = &self.document;
        let known = self.validators.entry(message.to_owned());
        known.or_insert_with(|| payload(document, message)).is_valid(frame)
    }

    async fn say(&mut self, op: &str, mut frame: Value) -> Value {
        (frame["op"], frame["ref"]) = (json!(op), json!(op));
        assert!(self.fits(op, &frame), "{op}: {frame}");
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
        loop {
            let next = self.next(Some(op)).await;
            if next["ref"] == op {
                return next;
            }
        }
    }

    /// Reads a frame and looks for a message of the document that it is.
    async fn next(&mut self, asked: Option<&str>) -> Value {
        let text = loop {
            let next = tokio::time::timeout(Duration::from_secs(10), self.socket.next()).await;
            if let Message::Text(text) = next.expect("in time").unwrap().unwrap() {
                break text;
            }
        };
        let frame: Value = serde_json::from_str(&text).unwrap();
        let op = frame["op"].as_str().unwrap();
        let operation = match asked.filter(|asked| frame["ref"] == *asked) {
            Some(asked) => &self.document["operations"][asked]["reply"],
            None => &self.document["operations"][format!("send_{op}")],
        };
        let messages = operation["messages"].as_array().unwrap_or_else(|| panic!("{frame}"));
        let names = messages.iter().map(|message| message["$ref"].as_str().unwrap());
        let names: Vec<String> = names.map(|name| name.rsplit('/').next().unwrap().to_owned()).collect();
        let fitting: Vec<String> = names.into_iter().filter(|name| self.fits(name, &frame)).collect();
        assert!(!fitting.is_empty(), "no message is this: {frame}");
        for entry in frame["events"].as_array().into_iter().flatten() {
            let kind = format!("events.{}", entry["event"]["type"].as_str().unwrap());
            assert!(fitting.contains(&kind), "{kind}: {frame}");
        }
        self.seen.extend(fitting);
        frame
    }
}

#[actix_web::test]
async fn every_frame_of_a_conversation_is_one_of_its_messages() {
    let gemini = GeminiSim::start(SimConfig {
        tokens_per_second: 400.0,
        first_token_ms: 1,
        ..SimConfig::default()
    })
    .unwrap();
    let edge = Edge::with(|config| {
        config.auth.mode = AuthMode::Development;
        config.gemini.base_url = gemini.url().parse().expect("a URL");
        config.gemini.api_key = Some("test-key".into());
    })
    .await;
    let document = edge.get("/asyncapi.json", None).await.expect(200);
    let (socket, _) = connect_async(format!("ws://{}/api/v1/ws?user=ada", edge.addr))
        .await
        .unwrap();
    let mut reader = Reader {
        document,
        socket,
        validators: HashMap::new(),
        seen: Vec::new(),
    };
    reader
        .say("hello", json!({"client": {"name": "reader", "version": "1"}}))
        .await;
    let session = reader.say("attach", json!({"session": "new"})).await["session"].clone();
    reader.say("typing", json!({"session": session, "on": true})).await;
    reader
        .say(
            "send",
            json!({"session": session, "id": "m_1", "content": "Hello there!"}),
        )
        .await;
    while !reader.seen.iter().any(|name| name == "events.RUN_FINISHED") {
        reader.next(None).await;
    }
    reader.say("ping", json!({})).await;
    reader.say("cancel", json!({"session": session})).await;
    reader
        .say("settings", json!({"session": session, "title": "A title"}))
        .await;
    reader
        .say("regenerate", json!({"session": session, "message": "m_9"}))
        .await;
    reader.say("detach", json!({"session": session})).await;
    for expected in [
        "ok.welcome",
        "ok.attached",
        "ok.sent",
        "ok.pong",
        "caught_up",
        "error",
        "events.TEXT_MESSAGE_CONTENT",
    ] {
        assert!(
            reader.seen.iter().any(|name| name == expected),
            "{expected}: {:?}",
            reader.seen
        );
    }
    reader.socket.close(None).await.ok();
    edge.finish().await;
}
