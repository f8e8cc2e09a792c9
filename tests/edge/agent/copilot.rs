//! CopilotKit's client with this server as its runtime.

use kronos_testkit::{SseEvent, text_of};
use serde_json::{Value, json};

use super::{check, input, last, run, user};
use crate::{
    chat::{kinds, open, simulated},
    harness::{Answer as _, Edge, Pair},
};

const BASE: &str = "/api/v1/agent/copilotkit";

async fn call(edge: &Edge, pair: &Pair, what: &str, body: Value) -> Vec<SseEvent> {
    let path = format!("{BASE}/agent/default/{what}");
    let mut stream = open(edge, "POST", &path, pair, Some(body)).await;
    assert_eq!(stream.reply.status, 200, "{}", stream.reply.text());
    let events = stream.rest().await;
    check(&events);
    events
}

#[actix_web::test]
async fn the_runtime_says_what_it_is() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let pair = edge.login("ada").await;
    edge.get(&format!("{BASE}/info"), None).await.is(401);
    let info = edge.get(&format!("{BASE}/info"), Some(&pair.access)).await.expect(200);
    assert_eq!(
        (&info["mode"], &info["audioFileTranscriptionEnabled"]),
        (&json!("sse"), &json!(false))
    );
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    let agent = &info["agents"]["default"];
    assert_eq!(agent["name"], "default");
    assert_eq!(agent["capabilities"]["humanInTheLoop"]["approvals"], true);
    for what in ["run", "connect"] {
        let path = format!("{BASE}/agent/other/{what}");
        let body = input("t", "r", json!([user("u1", "hello")]));
        edge.post(&path, Some(&pair.access), body).await.is(404);
    }
    edge.post(&format!("{BASE}/agent/other/stop/t"), Some(&pair.access), json!({}))
        .await
        .is(404);
    edge.finish().await;
}

#[actix_web::test]
async fn a_thread_is_run_and_shown_again() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    // Before there is anything, there is nothing to show.
    assert_eq!(call(&edge, &ada, "connect", input("t", "c-0", json!([]))).await, []);
    let ran = call(
        &edge,
        &ada,
        "run",
        input("t", "run-1", json!([user("u1", "[[tokens 5]] go")])),
    )
    .await;
    assert_eq!(last(&ran)["type"], "RUN_FINISHED");
    let shown = call(&edge, &ada, "connect", input("t", "c-1", json!([]))).await;
    assert_eq!(kinds(&shown), ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]);
    assert_eq!(shown[0].json()["threadId"], "t");
    let messages = &shown[1].json()["messages"];
    assert_eq!(messages[0], user("u1", "[[tokens 5]] go"));
    assert_eq!(messages[1]["content"], json!(text_of(&ran)));
    // Nobody else sees it, or stops it.
    assert_eq!(call(&edge, &eve, "connect", input("t", "c-1", json!([]))).await, []);
    edge.post(&format!("{BASE}/agent/default/stop/t"), Some(&eve.access), json!({}))
        .await
        .is(404);
    edge.finish().await;
}

#[actix_web::test]
async fn a_page_that_connects_in_mid_run_gets_the_rest_live() {
    let (edge, _sim) = simulated(50.0, |_| {}).await;
    let pair = edge.login("ada").await;
    let mut stream = run(
        &edge,
        &pair,
        input("t", "run-1", json!([user("u1", "[[tokens 40]] go")])),
    )
    .await;
    let mut first = stream.until(|event| event.kind() == "TEXT_MESSAGE_CONTENT").await;
    let shown = call(&edge, &pair, "connect", input("t", "c-1", json!([]))).await;
    first.extend(stream.rest().await);
    let kinds = kinds(&shown);
    assert_eq!(kinds[..2], ["RUN_STARTED", "MESSAGES_SNAPSHOT"]);
    assert!(kinds.contains(&"TEXT_MESSAGE_START".to_owned()), "{kinds:?}");
    assert_eq!(last(&shown)["type"], "RUN_FINISHED");
    let before = shown[1].json()["messages"][1]["content"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(before + &text_of(&shown), text_of(&first));
    edge.finish().await;
}

#[actix_web::test]
async fn a_run_is_stopped_by_its_thread_and_goes_on_without_its_page() {
    let (edge, _sim) = simulated(50.0, |config| {
        config.agent.disconnect_grace = std::time::Duration::ZERO;
        config.connection.sse_heartbeat = std::time::Duration::from_millis(50);
    })
    .await;
    let pair = edge.login("ada").await;
    let path = format!("{BASE}/agent/default/run");
    let body = input("t 1", "run-1", json!([user("u1", "[[tokens 900]] go")]));
    let mut stream = open(&edge, "POST", &path, &pair, Some(body)).await;
    stream.until(|event| event.kind() == "TEXT_MESSAGE_CONTENT").await;
    drop(stream);
    let busy = input("t 1", "run-2", json!([user("u2", "hello")]));
    edge.post(&path, Some(&pair.access), busy).await.is(409);
    // It goes on: whoever connects sees it grow.
    let connect = format!("{BASE}/agent/default/connect");
    let mut shown = open(&edge, "POST", &connect, &pair, Some(input("t 1", "c", json!([])))).await;
    let mut events = shown.until(|event| event.kind() == "TEXT_MESSAGE_CONTENT").await;
    let stop = format!("{BASE}/agent/default/stop/t%201");
    let stopped = edge
        .post(&stop, Some(&pair.access), json!({"runId": "run-1"}))
        .await
        .expect(200);
    assert_eq!(stopped["stopped"], true);
    events.extend(shown.rest().await);
    check(&events);
    assert_eq!(last(&events)["outcome"], json!({"type": "cancelled"}));
    let stopped = edge
        .call(
            "POST",
            &stop,
            &[("Authorization", &format!("Bearer {}", pair.access))],
            None,
        )
        .await;
    assert_eq!(stopped.expect(200), json!({"stopped": false, "run_id": null}));
    edge.finish().await;
}
