//! Turns over REST and over websockets, with the simulated model.

use std::time::Duration;

use kronos_testkit::{ConnectOptions, RawWs, WsClient};
use serde_json::{Value, json};

use crate::harness::{Answer as _, Edge};

async fn simulated(required: bool) -> Edge {
    Edge::with(|config| {
        config.simulator.start = true;
        config.simulator.tokens_per_second = 0.0;
        if !required {
            config.auth.mode = kronos::config::AuthMode::Development;
        }
    })
    .await
}

#[actix_web::test]
async fn the_options_of_a_message_reach_the_model() {
    let (edge, sim) = super::simulated(0.0, |_| {}).await;
    let pair = edge.login("ada").await;
    let body = json!({"message": "hi", "system_prompt": "Be brief.", "temperature": 1.5, "max_tokens": 77,
        "model": "gemini-2.5-pro"});
    let answer = edge
        .post("/api/v1/chat/message", Some(&pair.access), body)
        .await
        .expect(200);
    assert_eq!(answer["cancelled"], false);
    let asked = sim.requests().pop().expect("a request");
    assert!(asked.path.contains("gemini-2.5-pro"), "{}", asked.path);
    assert_eq!(asked.body["systemInstruction"]["parts"][0]["text"], "Be brief.");
    assert_eq!(asked.body["generationConfig"]["temperature"], 1.5);
    assert_eq!(asked.body["generationConfig"]["maxOutputTokens"], 77);
    for (body, field) in [
        (json!({"message": "hi", "model": "../x"}), "body.model"),
        (json!({"message": "hi", "temperature": "1"}), "body.temperature"),
        (json!({}), "body.message"),
    ] {
        let error = edge
            .post("/api/v1/chat/message", Some(&pair.access), body)
            .await
            .expect(422);
        assert_eq!(error["error"]["details"]["errors"][0]["field"], field);
    }
    let other = json!({"message": "hi", "user_id": "somebody-else"});
    edge.post("/api/v1/chat/message", Some(&pair.access), other)
        .await
        .is(403);
    edge.post("/api/v1/chat/message", None, json!({"message": "hi"}))
        .await
        .is(401);
    edge.finish().await;
}

#[actix_web::test]
async fn a_message_that_was_taken_back_is_a_conflict() {
    let (edge, _sim) = super::simulated(50.0, |config| config.auth.mode = kronos::config::AuthMode::Development).await;
    let mut socket = WsClient::connect(&url(&edge), ConnectOptions::user("bob")).await;
    let session = socket.attach_new().await;
    socket
        .send(&session, "m_1", "[[tokens 400]] go", kronos_protocol::SendMode::Queue)
        .await;
    socket.until_running(&session).await;
    let body = json!({"message": "and then?", "user_id": "bob", "conversation_id": session});
    let waiting = edge.post("/api/v1/chat/message", None, body);
    let taking_back = async {
        let id = super::streams::queued(&mut socket, &session).await;
        let unqueue = json!({"op": "unqueue", "session": session, "id": id});
        socket.request(unqueue).await.expect("taken back");
    };
    let (reply, ()) = tokio::join!(waiting, taking_back);
    assert_eq!(reply.expect(409)["error"]["code"], "CONFLICT");
    edge.finish().await;
}

#[actix_web::test]
async fn a_turn_is_answered_stored_and_listed() {
    let edge = simulated(true).await;
    let pair = edge.login("ada").await;
    let token = Some(pair.access.as_str());
    let first = edge
        .post(
            "/api/v1/chat/message",
            token,
            json!({"message": "What is the capital of Switzerland?"}),
        )
        .await
        .expect(200);
    assert!(
        first["message"].as_str().is_some_and(|text| !text.is_empty()),
        "{first}"
    );
    assert!(
        first["timestamp"].is_string() && first["message_id"].is_string() && first["usage"].is_object(),
        "{first}"
    );
    let id = first["conversation_id"].as_str().expect("an id").to_owned();
    let body = json!({"message": "And of France?", "conversation_id": id});
    let second = edge.post("/api/v1/chat/message", token, body).await.expect(200);
    assert_eq!(second["conversation_id"].as_str(), Some(id.as_str()));
    let shown = edge.get(&format!("/api/v1/chat/{id}"), token).await.expect(200);
    let roles: Vec<_> = shown["messages"]
        .as_array()
        .expect("messages")
        .iter()
        .map(|m| m["role"].as_str())
        .collect();
    assert_eq!(
        roles,
        [Some("user"), Some("assistant"), Some("user"), Some("assistant")]
    );
    assert!(shown["messages"][0]["timestamp"].is_string());
    assert_eq!(shown["messages"][1]["content"], first["message"]);
    let page = edge
        .get(
            &format!(
                "/api/v1/chat/{id}?before={}",
                shown["messages"][2]["id"].as_str().expect("an id")
            ),
            token,
        )
        .await
        .expect(200);
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(2));
    let list = edge.get("/api/v1/chat/", token).await.expect(200);
    assert_eq!(list["items"][0]["id"].as_str(), Some(id.as_str()));
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    edge.finish().await;
}

#[actix_web::test]
async fn what_is_somebody_elses_is_not_found() {
    let edge = simulated(true).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let turn = edge
        .post("/api/v1/chat/message", Some(&ada.access), json!({"message": "hi"}))
        .await
        .expect(200);
    let id = turn["conversation_id"].as_str().expect("an id");
    edge.get(&format!("/api/v1/chat/{id}"), Some(&ada.access)).await.is(200);
    edge.get(&format!("/api/v1/chat/{id}"), Some(&eve.access)).await.is(404);
    let body = json!({"message": "hi", "conversation_id": id});
    edge.post("/api/v1/chat/message", Some(&eve.access), body).await.is(404);
    assert_eq!(
        edge.get("/api/v1/chat/", Some(&eve.access)).await.expect(200)["items"],
        json!([])
    );
    edge.finish().await;
}

#[actix_web::test]
async fn the_list_continues_after_its_cursor() {
    let edge = simulated(true).await;
    let pair = edge.login("ada").await;
    let token = Some(pair.access.as_str());
    for _ in 0..3 {
        edge.post("/api/v1/chat/message", token, json!({"message": "hi"}))
            .await
            .is(200);
    }
    let mut seen = Vec::new();
    let mut path = "/api/v1/chat/?limit=2".to_owned();
    loop {
        let page = edge.get(&path, token).await.expect(200);
        seen.extend(
            page["items"]
                .as_array()
                .expect("items")
                .iter()
                .map(|item| item["id"].clone()),
        );
        match &page["next_cursor"] {
            Value::String(cursor) => path = format!("/api/v1/chat/?limit=2&cursor={cursor}"),
            _ => break,
        }
    }
    assert_eq!(seen.len(), 3);
    seen.dedup();
    assert_eq!(seen.len(), 3);
    edge.finish().await;
}

#[actix_web::test]
async fn without_a_key_a_turn_says_what_is_missing() {
    let edge = Edge::open().await;
    let error = edge
        .post("/api/v1/chat/message", None, json!({"message": "hi", "user_id": "bob"}))
        .await
        .expect(503);
    assert_eq!(error["error"]["code"], "CONFIGURATION_ERROR");
    assert_eq!(error["error"]["details"]["config_key"], "GEMINI_API_KEY");
    let list = edge.get("/api/v1/chat/?user_id=bob", None).await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(edge.get("/api/v1/chat/", None).await.expect(200)["items"], json!([]));
    edge.finish().await;
}

fn url(edge: &Edge) -> String {
    format!("ws://{}/ws", edge.addr)
}

#[actix_web::test]
async fn a_ticket_opens_one_websocket() {
    let edge = simulated(true).await;
    let pair = edge.login("ada").await;
    let ticket = edge
        .call(
            "POST",
            "/api/v1/auth/ticket",
            &[("Authorization", &format!("Bearer {}", pair.access))],
            None,
        )
        .await
        .expect(200);
    let options = || ConnectOptions {
        ticket: ticket["ticket"].as_str().map(str::to_owned),
        ..ConnectOptions::default()
    };
    let socket = WsClient::connect(&url(&edge), options()).await;
    assert_eq!(socket.welcome().user.name.as_deref(), Some("ada"));
    let again = ConnectOptions {
        hello: false,
        ..options()
    };
    assert_eq!(WsClient::connect(&url(&edge), again).await.close_code().await, 4401);
    edge.finish().await;
}

#[actix_web::test]
async fn a_development_guest_says_who_it_is() {
    let edge = simulated(false).await;
    let bob = || ConnectOptions {
        user: Some("bob".to_owned()),
        ..ConnectOptions::default()
    };
    let socket = WsClient::connect(&url(&edge), bob()).await;
    assert_eq!(socket.welcome().user.id.as_str(), "bob");
    let other = WsClient::connect(&url(&edge), ConnectOptions::default()).await;
    assert_eq!(other.welcome().user.id.as_str(), "dev");
    edge.finish().await;
    let closed = simulated(true).await;
    assert!(WsClient::try_connect(&url(&closed), bob()).await.is_err());
    closed.finish().await;
}

#[actix_web::test]
async fn logout_closes_the_websockets_of_its_token() {
    let edge = simulated(true).await;
    let pair = edge.login("ada").await;
    let ticket = edge
        .call(
            "POST",
            "/api/v1/auth/ticket",
            &[("Authorization", &format!("Bearer {}", pair.access))],
            None,
        )
        .await
        .expect(200);
    let options = ConnectOptions {
        ticket: ticket["ticket"].as_str().map(str::to_owned),
        ..ConnectOptions::default()
    };
    let mut socket = WsClient::connect(&url(&edge), options).await;
    edge.post("/api/v1/auth/logout", Some(&pair.access), json!({}))
        .await
        .is(200);
    assert_eq!(socket.close_code().await, 4401);
    edge.finish().await;
}

#[actix_web::test]
async fn a_browser_of_another_origin_is_refused_before_the_upgrade() {
    let edge = simulated(false).await;
    let mut socket = RawWs::connect(edge.addr, Duration::from_secs(5))
        .await
        .expect("connects");
    let headers = [
        ("Host", "kronos.example.com"),
        ("Origin", "https://evil.example.com"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let reply = socket.handshake("/ws", &headers).await.expect("an answer");
    assert_eq!(reply.status, 403);
    assert_eq!(reply.header("x-frame-options"), Some("DENY"));
    assert!(reply.header("x-request-id").is_some());
    edge.finish().await;
}
