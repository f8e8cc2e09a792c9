//! A short load that touches everything, and every trouble that a server can be put into from outside.

use std::time::Duration;

use kronos_protocol::{ErrorCode, SendMode};
use kronos_sim::ComposioScript;
use kronos_testkit::{ConnectOptions, RawFrame, SseClient, eventually};
use serde_json::json;

use crate::{
    agent::{Agent, Device, ISSUE, agent_with},
    rfc6455::{answer, welcomed},
    slow_readers::dead_reader,
};

const LIMIT: Duration = Duration::from_secs(30);

/// Bounds and time-outs that are reached soon.
const SOON: &[(&str, &str)] = &[
    ("COMPOSIO_EXECUTE_TIMEOUT", "1s"),
    ("FAULT_INJECTION", "true"),
    ("GEMINI_BACKOFF", "5ms"),
    ("GEMINI_BREAKER_FAILURES", "6"),
    ("GEMINI_BREAKER_OPEN", "3s"),
    ("GEMINI_MAX_ATTEMPTS", "3"),
    ("HEALTH_PROBE_INTERVAL", "500ms"),
    ("LOG_BURST", "1"),
    ("PENDING_COMMANDS", "100"),
    ("RATE_LIMIT_AUTH", "6"),
    ("SESSION_IDLE_TIMEOUT", "2s"),
    ("SESSION_MAILBOX", "4"),
    ("SESSION_MAX_RESTARTS", "2"),
    ("WORKERS", "1"),
    // Long enough that the reader is seen lagging by some scrapes before it is cut.
    ("WRITE_TIMEOUT", "6s"),
];

/// A server whose bounds are reached soon, with tools.
pub(super) async fn server() -> Agent {
    let agent = agent_with(SOON).await;
    agent.composio.connect("ann", "github").unwrap();
    agent.composio.script(vec![ComposioScript::fault("503").at("/tools")]);
    agent
}

/// What stays open until the end: a device whose question waits for its answer, and a reader over HTTP.
pub(super) struct Kept(
    #[expect(dead_code, reason = "held")] Device,
    #[expect(dead_code, reason = "held")] SseClient,
);

/// Everything, one after the other.
pub(super) async fn everything(agent: &Agent) -> Kept {
    Box::pin(chats(agent)).await;
    let reader = Box::pin(rest(agent)).await;
    let waiting = Box::pin(tools(agent)).await;
    Box::pin(who_comes_in(agent)).await;
    Box::pin(full_mailbox(agent)).await;
    Box::pin(stalled_reader(agent)).await;
    Box::pin(panic_loop(agent)).await;
    // The last: for some seconds nobody is answered.
    Box::pin(model_down(agent)).await;
    Kept(waiting, reader)
}

/// Both codecs, a retry, failures, a cancel, a second device, refused commands.
async fn chats(agent: &Agent) {
    let kronos = &agent.kronos;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "[[tokens 40]] a story").await;
    client
        .ask(&session, "m_2", "[[503-once]] What is the capital of Japan?")
        .await;
    client.ask(&session, "m_3", "[[blocked]] a").await;
    client.ask(&session, "m_4", "[[400]] a").await;
    client
        .send(&session, "m_5", "[[stall]] [[tokens 40]] a", SendMode::Queue)
        .await;
    client.until_running(&session).await;
    client.cancel(&session).await.expect("cancelled");
    client
        .request(json!({"op": "attach", "session": "none"}))
        .await
        .unwrap_err();
    let mut msgpack = kronos.msgpack("ann").await;
    msgpack.attach(&session, None).await;
    msgpack.until_caught_up(&session).await;
    msgpack.ask(&session, "m_6", "[[tokens 60]] another story").await;
    client.finish().await;
    msgpack.finish().await;
}

/// A turn, a stream and a history over HTTP; routes that are not there.
async fn rest(agent: &Agent) -> SseClient {
    let server = &agent.kronos.server;
    let body = json!({"message": "What is the capital of Italy?", "user_id": "ann"});
    let reply = server.post("/api/v1/chat/message", &[], &body).await.expect(200);
    let id = reply["conversation_id"].as_str().unwrap();
    server
        .get(&format!("/api/v1/chat/{id}?user_id=ann"), &[])
        .await
        .expect(200);
    let mut stream = SseClient::open(server.address(), "POST", "/api/v1/chat/stream", &[], Some(&body))
        .await
        .unwrap();
    stream.rest().await;
    server.get("/api/v1/nowhere", &[]).await.expect(404);
    let failing = json!({"message": "[[400]] a", "user_id": "ann"});
    for _ in 0..3 {
        assert!(server.post("/api/v1/chat/message", &[], &failing).await.status >= 500);
    }
    let events = format!("/api/v1/chat/{id}/events?user_id=ann");
    SseClient::open(server.address(), "GET", &events, &[], None)
        .await
        .unwrap()
}

/// Calls that work, fail, ask first, and whose outcome nobody knows; an account that is missing, and comes.
async fn tools(agent: &Agent) -> Device {
    let mut device = Device::new(agent, "ann").await;
    device
        .say("m_1", r#"[[call calculate {"expression":"6*7"}]] please"#)
        .await;
    device.finished().await;
    device.say("m_2", ISSUE).await;
    let questions = device.questions().await;
    device.answer(&questions[0], json!({"approved": true})).await.unwrap();
    device.finished().await;
    let change = json!({"op": "settings", "session": device.session, "tool_policy": "auto"});
    device.client.request(change).await.unwrap();
    let failing = r#"[[call GITHUB_CREATE_ISSUE {"owner":"acme","repo":"missing-shop","title":"x"}]] please"#;
    for n in 0..2 {
        device.say(&format!("f_{n}"), failing).await;
        device.finished().await;
    }
    for (n, action) in ["skip", "retry"].into_iter().enumerate() {
        let hang = ComposioScript::fault("hang-after-effect").on("GITHUB_CREATE_ISSUE");
        agent.composio.script(vec![hang]);
        device.say(&format!("u_{n}"), ISSUE).await;
        let questions = device.questions().await;
        assert_eq!(questions[0]["reason"], "kronos:unknown_outcome");
        device.answer(&questions[0], json!({"action": action})).await.unwrap();
        device.finished().await;
    }
    let mut other = Device::new(agent, "bob").await;
    let change = json!({"op": "settings", "session": other.session, "toolkits": ["github"], "tool_policy": "auto"});
    other.client.request(change).await.unwrap();
    other.say("m_1", ISSUE).await;
    let questions = other.questions().await;
    let connection = questions[0]["metadata"]["kronos"]["connectionId"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(agent.composio.set_status(&connection, "ACTIVE"));
    other.finished().await;
    other
        .client
        .request(json!({"op": "settings", "session": other.session, "tool_policy": "ask_all"}))
        .await
        .unwrap();
    other.say("m_2", ISSUE).await;
    other.questions().await;
    other
}

/// Logins good and bad, a refresh, a bad token, a rate limit.
async fn who_comes_in(agent: &Agent) {
    let server = &agent.kronos.server;
    let login = |password: &str| json!({"username": "demo", "password": password});
    let tokens = server.post("/api/v1/auth/login", &[], &login("demo")).await.expect(200);
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap());
    let body = json!({"refresh_token": tokens["refresh_token"]});
    server.post("/api/v1/auth/refresh", &[], &body).await;
    server
        .post("/api/v1/auth/ticket", &[("authorization", &bearer)], &json!({}))
        .await
        .expect(200);
    server
        .get("/api/v1/auth/me", &[("authorization", "Bearer nonsense")])
        .await
        .expect(401);
    let mut refused = Vec::new();
    while refused.last() != Some(&429) {
        assert!(refused.len() < 20, "{refused:?}");
        refused.push(server.post("/api/v1/auth/login", &[], &login("wrong")).await.status);
    }
    assert!(refused.contains(&401), "{refused:?}");
}

/// More commands in one segment than the mailbox of their session takes.
async fn full_mailbox(agent: &Agent) {
    let kronos = &agent.kronos;
    let mut socket = welcomed(kronos).await;
    let attach = json!({"op": "attach", "session": "new", "ref": "a"}).to_string();
    socket.send(&RawFrame::text(&attach)).await.unwrap();
    let session = answer(&mut socket).await["session"].clone();
    let frame = |n: usize| json!({"op": "cancel", "session": session, "ref": n.to_string()}).to_string();
    let bytes: Vec<u8> = (0..60).flat_map(|n| RawFrame::text(&frame(n)).encode()).collect();
    socket.send_bytes(&bytes).await.unwrap();
    let full = || async { kronos.refusals("session_mailbox").await > 0 };
    eventually(LIMIT, "a full mailbox", full).await;
}

/// A reader that takes nothing, beside one that does.
async fn stalled_reader(agent: &Agent) {
    let kronos = &agent.kronos;
    kronos.gemini.set_config(|config| config.tokens_per_second = 1500.0);
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let _dead = dead_reader(kronos, &session).await;
    client.ask(&session, "m_1", "[[tokens 6000]] a long story").await;
    let cut = || async { kronos.closes(4450).await > 0 };
    eventually(LIMIT, "the dead reader is cut", cut).await;
    client.finish().await;
    kronos.gemini.set_config(|config| config.tokens_per_second = 400.0);
}

/// A session that panics until it is parked.
async fn panic_loop(agent: &Agent) {
    let mut client = agent.kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    for n in 0..10 {
        let mut client = agent.kronos.client("ann").await;
        match client.request(json!({"op": "attach", "session": session})).await {
            Ok(_) => {
                client
                    .try_send(&session, &format!("p_{n}"), "[[panic]]", SendMode::Queue)
                    .await
                    .unwrap_err();
            }
            Err(error) => {
                assert_eq!(error.code, ErrorCode::Parked);
                return;
            }
        }
    }
    panic!("never parked");
}

/// A model that answers 503 until its circuit opens.
async fn model_down(agent: &Agent) {
    let mut client = agent.kronos.server.connect(ConnectOptions::user("ann")).await;
    let session = client.attach_new().await;
    for n in 0..6 {
        client.ask(&session, &format!("m_{n}"), "[[503]] a").await;
    }
    client.finish().await;
}
