//! `POST /chat/conversation`: a history goes on here.

use kronos_testkit::{ConnectOptions, WsClient};
use serde_json::{Value, json};

use super::{refusals, say, simulated, told};
use crate::harness::{Answer as _, Edge};

const PATH: &str = "/api/v1/chat/conversation";

fn said(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

fn history() -> Value {
    json!({"temperature": 0.5, "max_tokens": 50, "messages": [
        said("system", "Answer in one word."),
        {"role": "user", "content": "What is the capital of France?", "timestamp": "2020-02-03T04:05:06Z"},
        {"role": "assistant", "content": "Paris.", "timestamp": "2020-02-03T04:05:07.500000"},
        said("user", "And of Switzerland?"),
    ]})
}

#[actix_web::test]
async fn a_history_is_stored_with_roles_and_times_and_its_last_message_is_answered() {
    let (edge, sim) = simulated(0.0, |_| {}).await;
    let pair = edge.login("ada").await;
    let token = Some(pair.access.as_str());
    let answer = edge.post(PATH, token, history()).await.expect(200);
    assert!(
        answer["message"].as_str().is_some_and(|text| !text.is_empty()),
        "{answer}"
    );
    let asked = sim.requests().pop().expect("a request").body;
    assert_eq!(asked["systemInstruction"]["parts"][0]["text"], "Answer in one word.");
    let roles: Vec<_> = asked["contents"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["role"].clone())
        .collect();
    assert_eq!(roles, ["user", "model", "user"]);
    assert_eq!(asked["contents"][1]["parts"][0]["text"], "Paris.");
    assert_eq!(asked["generationConfig"]["maxOutputTokens"], 50);

    let id = answer["conversation_id"].as_str().expect("an id");
    let shown = edge.get(&format!("/api/v1/chat/{id}"), token).await.expect(200);
    let lines: Vec<_> = shown["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| (m["role"].clone(), m["content"].clone()))
        .collect();
    assert_eq!(
        lines[..4],
        [
            (json!("system"), json!("Answer in one word.")),
            (json!("user"), json!("What is the capital of France?")),
            (json!("assistant"), json!("Paris.")),
            (json!("user"), json!("And of Switzerland?")),
        ]
    );
    assert_eq!(lines[4], (json!("assistant"), answer["message"].clone()));
    assert_eq!(shown["messages"][1]["timestamp"], "2020-02-03T04:05:06Z");
    assert_eq!(shown["messages"][2]["timestamp"], "2020-02-03T04:05:07.5Z");
    assert_eq!(
        (&shown["title"], &shown["message_count"]),
        (&json!("What is the capital of France?"), &json!(4))
    );

    // The system prompt stays the conversation's.
    say(&edge, &pair, Some(id), "And of Italy?").await;
    let asked = sim.requests().pop().expect("a request").body;
    assert_eq!(asked["systemInstruction"]["parts"][0]["text"], "Answer in one word.");
    assert_eq!(asked["contents"].as_array().map(Vec::len), Some(5));
    edge.finish().await;
}

#[actix_web::test]
async fn sockets_read_a_history_event_by_event_and_as_a_snapshot() {
    let (edge, _sim) = simulated(0.0, |config| config.auth.mode = kronos::config::AuthMode::Development).await;
    let mut feed = WsClient::connect(&format!("ws://{}/ws", edge.addr), ConnectOptions::user("bob")).await;
    feed.attach("@me", None).await;
    let mut body = history();
    body["user_id"] = json!("bob");
    // One that is longer than an event may be.
    body["messages"][2]["content"] = json!("wörter ".repeat(3000));
    let answer = edge.post(PATH, None, body).await.expect(200);
    let id = answer["conversation_id"].as_str().expect("an id");
    assert_eq!(
        told(&mut feed, "@me", "kronos.conversation_created").await["id"],
        json!(id)
    );

    let url = format!("ws://{}/ws", edge.addr);
    let mut one = WsClient::connect(&url, ConnectOptions::user("bob")).await;
    one.attach(id, None).await;
    one.until_caught_up(id).await;
    let roles: Vec<_> = one
        .transcript(id)
        .messages
        .iter()
        .map(|message| message.role.clone())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "user", "assistant"]);
    let mut other = WsClient::connect(&url, ConnectOptions::user("bob")).await;
    let foreign = "e_foreign:1".parse().unwrap();
    assert!(!other.attach(id, Some(foreign)).await.recovered);
    other.until_caught_up(id).await;
    assert_eq!(other.transcript(id), one.transcript(id));
    edge.finish().await;
}

#[actix_web::test]
async fn a_history_may_be_as_long_as_its_bounds() {
    let (edge, _sim) = simulated(0.0, |config| {
        config.session.import_messages = 3;
        config.session.import_chars = 10;
    })
    .await;
    let pair = edge.login("ada").await;
    let token = Some(pair.access.as_str());
    for (messages, chars, status) in [
        (2, 1, 200),
        (3, 1, 200),
        (4, 1, 422),
        (2, 9, 200),
        (2, 10, 200),
        (2, 11, 422),
    ] {
        let mut all = vec![said("user", &"ä".repeat(chars)); messages - 1];
        all.push(said("user", "hi"));
        let reply = edge.post(PATH, token, json!({"messages": all})).await;
        assert_eq!(reply.status, status, "{messages} of {chars}: {}", reply.text());
        if status == 422 {
            let error = &reply.json()["error"]["details"]["errors"][0];
            assert_eq!(
                (&error["field"], &error["type"]),
                (&json!("body.messages"), &json!("too_long"))
            );
        }
    }
    assert!(refusals(&edge, "import_messages").await >= 1 && refusals(&edge, "import_chars").await >= 1);
    edge.finish().await;
}

#[actix_web::test]
async fn what_is_no_history_is_refused_and_makes_no_conversation() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let pair = edge.login("ada").await;
    let token = Some(pair.access.as_str());
    let long = "x".repeat(32_001);
    for (messages, field) in [
        (json!(null), "body.messages"),
        (json!([]), "body.messages"),
        (json!("hi"), "body.messages"),
        (json!(["hi"]), "body.messages.0"),
        (json!([said("assistant", "hi")]), "body.messages"),
        (json!([said("robot", "hi"), said("user", "hi")]), "body.messages.0.role"),
        (json!([said("user", "")]), "body.messages.0.content"),
        (json!([said("user", &long)]), "body.messages.0.content"),
        (
            json!([{"role": "user", "content": "hi", "timestamp": "soon"}]),
            "body.messages.0.timestamp",
        ),
    ] {
        let error = edge.post(PATH, token, json!({"messages": messages})).await.expect(422);
        assert_eq!(error["error"]["details"]["errors"][0]["field"], field, "{error}");
    }
    let mut other = history();
    other["user_id"] = json!("somebody-else");
    edge.post(PATH, token, other).await.is(403);
    edge.post(PATH, None, history()).await.is(401);
    assert_eq!(edge.get("/api/v1/chat/", token).await.expect(200)["items"], json!([]));
    edge.finish().await;
}

#[actix_web::test]
async fn a_history_whose_answer_fails_is_stored_all_the_same() {
    let edge = Edge::start().await;
    let pair = edge.login("ada").await;
    let token = Some(pair.access.as_str());
    let error = edge.post(PATH, token, history()).await.expect(503);
    assert_eq!(error["error"]["code"], "CONFIGURATION_ERROR");
    let list = edge.get("/api/v1/chat/", token).await.expect(200);
    assert_eq!(list["items"][0]["message_count"], 3);
    edge.finish().await;
}
