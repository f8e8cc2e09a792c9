//! The routes under `/composio`, over the simulator of Composio.

mod accounts;
mod configs;
mod connect;
mod execute;
mod webhook;

use std::{collections::VecDeque, time::Duration};

use kronos::config::Config;
use kronos_protocol::{Event, ServerFrame};
use kronos_sim::{ComposioHandle, ComposioSim, ComposioSimConfig};
use kronos_testkit::{ConnectOptions, HttpReply, WsClient};
use serde_json::{Value, json};

use crate::harness::{Edge, Pair, rooted};

/// The key that no answer and no log may show.
const KEY: &str = "ak_a_secret_key";
const LIMIT: Duration = Duration::from_secs(10);
const EXECUTE: &str = "/api/v1/composio/tools/execute";

/// A server that wants tokens, with a Composio of its own.
async fn simulated(change: impl FnOnce(&mut Config)) -> (Edge, ComposioHandle) {
    let sim = ComposioSim::start(ComposioSimConfig::default()).expect("the simulator starts");
    let edge = over(&sim, change).await;
    (edge, sim)
}

/// A server over a Composio.
async fn over(sim: &ComposioHandle, change: impl FnOnce(&mut Config)) -> Edge {
    Edge::with(|config| {
        config.composio.base_url = sim.url();
        config.composio.api_key = Some(KEY.into());
        config.composio.backoff = Duration::from_millis(5);
        config.composio.max_backoff = Duration::from_secs(2);
        rooted(config);
        change(config);
    })
    .await
}

fn connection(rest: &str) -> String {
    format!("/api/v1/composio/connections/{rest}")
}

async fn call(edge: &Edge, method: &str, path: &str, pair: &Pair, body: Option<&Value>) -> HttpReply {
    let bearer = format!("Bearer {}", pair.access);
    let reply = edge.call(method, path, &[("Authorization", &bearer)], body).await;
    assert!(!reply.text().contains(KEY), "{}", reply.text());
    reply
}

async fn id_of(edge: &Edge, pair: &Pair) -> String {
    let me = edge.get("/api/v1/auth/me", Some(&pair.access)).await.expect(200);
    me["id"].as_str().expect("an id").to_owned()
}

/// A websocket on the user's feed. Several events may come in one frame: what nobody asked for yet waits.
struct Feed {
    socket: WsClient,
    waiting: VecDeque<(String, Value)>,
}

impl Feed {
    async fn on(edge: &Edge, options: ConnectOptions) -> Self {
        let mut socket = WsClient::connect(&format!("ws://{}/ws", edge.addr), options).await;
        socket.attach("@me", None).await;
        Self {
            socket,
            waiting: VecDeque::new(),
        }
    }
}

async fn feed(edge: &Edge, pair: &Pair) -> Feed {
    let options = ConnectOptions {
        bearer: Some(pair.access.clone()),
        ..ConnectOptions::default()
    };
    Feed::on(edge, options).await
}

/// The next thing of a name that a feed is told.
async fn told(feed: &mut Feed, name: &str) -> Value {
    loop {
        while let Some((known, value)) = feed.waiting.pop_front() {
            if known == name {
                return value;
            }
        }
        let ServerFrame::Events(events) = feed.socket.next_frame(LIMIT).await else {
            continue;
        };
        for entry in events.events {
            if let Event::Custom(custom) = entry.event {
                feed.waiting.push_back((custom.name, custom.value));
            }
        }
    }
}

async fn changed(feed: &mut Feed) -> Value {
    told(feed, "kronos.connection_changed").await
}

/// Begins a connection; its id and its page.
async fn initiate(edge: &Edge, pair: &Pair, body: Value) -> (String, String) {
    let path = connection("initiate");
    let begun = call(edge, "POST", &path, pair, Some(&body)).await.expect(200);
    let text = |name: &str| begun[name].as_str().expect("a text").to_owned();
    assert_eq!(begun["status"], "INITIATED");
    (text("connection_id"), text("redirect_url"))
}

/// What a browser meets: the status, where it is sent on to, and the page.
struct Page {
    status: u16,
    location: Option<String>,
    policy: String,
    text: String,
}

/// Opens an address as a browser does, without following.
async fn browse(url: &str, form: Option<&str>) -> Page {
    let client = kronos_actors::http::client(false, LIMIT).expect("a client");
    let request = match form {
        Some(form) => client
            .post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned()),
        None => client.get(url),
    };
    let answer = request.send().await.expect("an answer");
    let header = |name: &str| {
        let value = answer.headers().get(name);
        value.and_then(|value| value.to_str().ok()).map(str::to_owned)
    };
    Page {
        status: answer.status().as_u16(),
        location: header("location"),
        policy: header("content-security-policy").unwrap_or_default(),
        text: answer.text().await.expect("a page"),
    }
}

/// Clicks through the page of a connection; where the browser is sent.
pub(crate) async fn decide(page: &str, decision: &str) -> Option<String> {
    assert_eq!(browse(page, None).await.status, 200);
    browse(page, Some(&format!("decision={decision}"))).await.location
}

/// Gives a user an account that works.
async fn connected(edge: &Edge, sim: &ComposioHandle, pair: &Pair, toolkit: &str) -> String {
    let user = id_of(edge, pair).await;
    sim.connect(&user, toolkit).expect("an account")
}

async fn execute(edge: &Edge, pair: &Pair, action: &str, params: Value) -> Value {
    let body = json!({"action_name": action, "params": params});
    call(edge, "POST", EXECUTE, pair, Some(&body)).await.expect(200)
}
