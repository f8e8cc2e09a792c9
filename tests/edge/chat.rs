//! The routes under `/chat`.

mod events;
mod export;
mod history;
mod manage;
pub(crate) mod streams;
mod turns;

use kronos::config::Config;
use kronos_protocol::{Event, ServerFrame};
use kronos_sim::{GeminiSim, SimConfig, SimHandle};
use kronos_testkit::{SseClient, SseEvent, WsClient};
use serde_json::{Value, json};
use std::time::Duration;

use crate::harness::{Edge, Pair};

/// A server that wants tokens, with a model that writes so many tokens a second.
pub(crate) async fn simulated(tokens_per_second: f64, change: impl FnOnce(&mut Config)) -> (Edge, SimHandle) {
    let pace = SimConfig {
        tokens_per_second,
        first_token_ms: 0,
        ..SimConfig::default()
    };
    let sim = GeminiSim::start(pace).expect("the simulator starts");
    let edge = Edge::with(|config| {
        config.gemini.base_url = sim.url();
        config.gemini.api_key = Some("test-key".into());
        change(config);
    })
    .await;
    (edge, sim)
}

fn bearer(pair: &Pair) -> String {
    format!("Bearer {}", pair.access)
}

/// Opens a stream.
pub(crate) async fn open(edge: &Edge, method: &str, path: &str, pair: &Pair, body: Option<Value>) -> SseClient {
    open_with(edge, method, path, pair, &[], body).await
}

pub(crate) async fn open_with(
    edge: &Edge,
    method: &str,
    path: &str,
    pair: &Pair,
    headers: &[(&str, &str)],
    body: Option<Value>,
) -> SseClient {
    let bearer = bearer(pair);
    let headers = [&[("Authorization", bearer.as_str())], headers].concat();
    let opened = SseClient::open(edge.addr, method, path, &headers, body.as_ref()).await;
    opened.expect("an answer")
}

/// Says something and waits for the answer; the conversation's id.
pub(crate) async fn say(edge: &Edge, pair: &Pair, conversation: Option<&str>, text: &str) -> String {
    let body = json!({"message": text, "conversation_id": conversation});
    let answer = edge.post("/api/v1/chat/message", Some(&pair.access), body).await;
    let answer = answer.expect(200);
    answer["conversation_id"].as_str().expect("an id").to_owned()
}

pub(crate) fn kinds(events: &[SseEvent]) -> Vec<String> {
    events.iter().map(SseEvent::kind).collect()
}

/// How often `bound` refused something.
pub(crate) async fn refusals(edge: &Edge, bound: &str) -> u64 {
    let metrics = edge.get("/metrics", None).await.text();
    let series = format!("kronos_refusals_total{{bound=\"{bound}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0, |value| value.trim().parse().expect("a number"))
}

/// Waits until a socket is told of something that has no event of AG-UI's; its value.
async fn told(socket: &mut WsClient, session: &str, name: &str) -> Value {
    loop {
        let ServerFrame::Events(events) = socket.next_frame(Duration::from_secs(10)).await else {
            continue;
        };
        if events.session.as_str() != session {
            continue;
        }
        for entry in events.events {
            match entry.event {
                Event::Custom(custom) if custom.name == name => return custom.value,
                _ => {}
            }
        }
    }
}
