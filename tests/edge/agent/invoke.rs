//! One message, the whole run.

use kronos_protocol::SendMode;
use kronos_testkit::{ConnectOptions, SseEvent, WsClient};
use serde_json::json;

use super::check;
use crate::{
    chat::{kinds, open, say, simulated, streams::queued},
    harness::{Answer as _, Edge},
};

const INVOKE: &str = "/api/v1/agent/invoke";
const STREAM: &str = "/api/v1/agent/stream";

#[actix_web::test]
async fn the_guides_call_works_without_a_token_in_development() {
    let edge = Edge::with(|config| {
        config.simulator.start = true;
        config.simulator.tokens_per_second = 0.0;
        config.auth.mode = kronos::config::AuthMode::Development;
    })
    .await;
    let body = json!({"message": "What can you do?", "user_id": "test-user"});
    let answer = edge.post(INVOKE, None, body).await.expect(200);
    assert!(
        answer["response"].as_str().is_some_and(|text| !text.is_empty()),
        "{answer}"
    );
    assert_eq!(
        (&answer["user_id"], &answer["status"]),
        (&json!("test-user"), &json!("succeeded"))
    );
    for field in ["timestamp", "run_id", "conversation_id", "message_id", "model"] {
        assert!(answer[field].is_string(), "{field}: {answer}");
    }
    assert_eq!(answer["interrupts"], json!([]));
    assert!(answer["usage"]["totalTokens"].is_u64());
    edge.finish().await;
}

#[actix_web::test]
async fn a_run_is_a_turn_of_its_conversation() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let id = say(&edge, &ada, None, "hello").await;
    let body = json!({"message": "[[tokens 4]] go", "conversation_id": id});
    let answer = edge.post(INVOKE, Some(&ada.access), body.clone()).await.expect(200);
    assert_eq!(answer["conversation_id"], json!(id));
    let shown = edge
        .get(&format!("/api/v1/chat/{id}"), Some(&ada.access))
        .await
        .expect(200);
    assert_eq!(shown["messages"][3]["content"], answer["response"]);
    // To somebody else it is not there.
    for path in [INVOKE, STREAM] {
        let refused = edge.post(path, Some(&eve.access), body.clone()).await.expect(404);
        assert_eq!(refused["error"]["code"], "NOT_FOUND");
        let other = json!({"message": "hi", "user_id": "somebody-else"});
        edge.post(path, Some(&ada.access), other).await.is(403);
        edge.post(path, None, json!({"message": "hi"})).await.is(401);
        for (body, field) in [
            (json!({}), "body.message"),
            (json!({"message": "hi", "context": [1]}), "body.context"),
            (json!({"message": "hi", "context": "x".repeat(16_001)}), "body.context"),
            (json!({"message": "hi", "toolkits": "github"}), "body.toolkits"),
            (json!({"message": "hi", "tool_policy": "never"}), "body.tool_policy"),
        ] {
            let error = edge.post(path, Some(&ada.access), body).await.expect(422);
            assert_eq!(error["error"]["details"]["errors"][0]["field"], field);
        }
    }
    edge.finish().await;
}

#[actix_web::test]
async fn a_run_is_streamed_from_its_start_to_its_end() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let ada = edge.login("ada").await;
    let body =
        json!({"message": "[[tokens 4]] go", "context": {"a": 1}, "toolkits": ["kronos"], "tool_policy": "auto"});
    let mut stream = open(&edge, "POST", STREAM, &ada, Some(body)).await;
    assert_eq!(stream.reply.header("content-type"), Some("text/event-stream"));
    let events: Vec<SseEvent> = stream.rest().await;
    check(&events);
    let kinds = kinds(&events);
    assert_eq!(kinds.first().map(String::as_str), Some("RUN_STARTED"));
    assert_eq!(kinds.last().map(String::as_str), Some("RUN_FINISHED"));
    edge.finish().await;
}

#[actix_web::test]
async fn a_message_that_was_taken_back_is_a_conflict() {
    let (edge, _sim) = simulated(50.0, |config| config.auth.mode = kronos::config::AuthMode::Development).await;
    let mut socket = WsClient::connect(&format!("ws://{}/ws", edge.addr), ConnectOptions::user("bob")).await;
    let session = socket.attach_new().await;
    socket.send(&session, "m_1", "[[tokens 900]] go", SendMode::Queue).await;
    socket.until_running(&session).await;
    let body = json!({"message": "later", "user_id": "bob", "conversation_id": session});
    let invoked = edge.post(INVOKE, None, body.clone());
    let taken_back = async {
        let id = queued(&mut socket, &session).await;
        let unqueue = json!({"op": "unqueue", "session": session, "id": id});
        socket.request(unqueue).await.expect("taken back");
    };
    let (invoked, ()) = tokio::join!(invoked, taken_back);
    assert_eq!(invoked.expect(409)["error"]["code"], "CONFLICT");
    let mut stream = kronos_testkit::SseClient::open(edge.addr, "POST", STREAM, &[], Some(&body))
        .await
        .expect("an answer");
    let id = queued(&mut socket, &session).await;
    let unqueue = json!({"op": "unqueue", "session": session, "id": id});
    socket.request(unqueue).await.expect("taken back");
    let events = stream.rest().await;
    assert_eq!(kinds(&events), ["RUN_ERROR"]);
    assert_eq!(events[0].json()["code"], "conflict");
    edge.finish().await;
}

#[actix_web::test]
async fn a_model_that_fails_is_told() {
    let (edge, _sim) = simulated(0.0, |config| config.gemini.max_attempts = 1).await;
    let ada = edge.login("ada").await;
    let error = edge
        .post(INVOKE, Some(&ada.access), json!({"message": "[[503]] go"}))
        .await
        .expect(503);
    assert_eq!(error["error"]["code"], "EXTERNAL_SERVICE_ERROR");
    edge.finish().await;
    let edge = Edge::start().await;
    let ada = edge.login("ada").await;
    let error = edge
        .post(INVOKE, Some(&ada.access), json!({"message": "go"}))
        .await
        .expect(503);
    assert_eq!(error["error"]["details"]["config_key"], "GEMINI_API_KEY");
    edge.finish().await;
}
