//! Titles, deletion, pages of messages.

use kronos_protocol::{ErrorCode, SendMode, ServerFrame};
use kronos_sim::Outcome;
use kronos_testkit::{ConnectOptions, HttpReply, WsClient, eventually};
use serde_json::{Value, json};
use std::time::Duration;

use super::{bearer, open, say, simulated, told};
use crate::harness::{Answer as _, Edge, Pair};

async fn call(edge: &Edge, method: &str, path: &str, pair: &Pair, body: Option<Value>) -> HttpReply {
    let bearer = bearer(pair);
    edge.call(method, path, &[("Authorization", &bearer)], body.as_ref())
        .await
}

async fn socket(edge: &Edge, pair: &Pair) -> WsClient {
    WsClient::connect(&format!("ws://{}/ws", edge.addr), ConnectOptions::token(&pair.access)).await
}

#[actix_web::test]
async fn a_title_is_seen_live_and_listed_and_stays() {
    let (edge, _sim) = simulated(0.0, |config| config.session.idle_timeout = Duration::from_millis(200)).await;
    let pair = edge.login("ada").await;
    let id = say(&edge, &pair, None, "hello").await;
    let path = format!("/api/v1/chat/{id}");
    let (mut device, mut feed) = (socket(&edge, &pair).await, socket(&edge, &pair).await);
    device.attach(&id, None).await;
    device.until_caught_up(&id).await;
    feed.attach("@me", None).await;
    let item = call(&edge, "PATCH", &path, &pair, Some(json!({"title": "Greetings"})))
        .await
        .expect(200);
    assert_eq!((&item["id"], &item["title"]), (&json!(id), &json!("Greetings")));
    assert_eq!(
        told(&mut device, &id, "kronos.title_changed").await,
        json!({"title": "Greetings"})
    );
    let updated = told(&mut feed, "@me", "kronos.conversation_updated").await;
    assert_eq!(updated, json!({"id": id, "title": "Greetings"}));
    let list = edge.get("/api/v1/chat/", Some(&pair.access)).await.expect(200);
    assert_eq!(list["items"][0]["title"], "Greetings");

    // The same title again is no news; a later turn does not change it, nor does leaving memory.
    let before = device.cursor(&id);
    call(&edge, "PATCH", &path, &pair, Some(json!({"title": "Greetings"})))
        .await
        .is(200);
    say(&edge, &pair, Some(&id), "on").await;
    device
        .until("the next turn", |device| device.transcript(&id).messages.len() == 4)
        .await;
    assert_ne!(device.cursor(&id), before);
    drop(device);
    eventually(Duration::from_secs(10), "it leaves memory", async || {
        let metrics = edge.get("/metrics", None).await.text();
        !metrics.contains("kronos_session_passivations_total 0")
    })
    .await;
    assert_eq!(
        edge.get(&path, Some(&pair.access)).await.expect(200)["title"],
        "Greetings"
    );
    let attached = socket(&edge, &pair).await.attach(&id, None).await;
    assert_eq!(attached.settings.title.as_deref(), Some("Greetings"));
    edge.finish().await;
}

#[actix_web::test]
async fn a_title_has_its_bounds_and_its_owner() {
    let (edge, _sim) = simulated(0.0, |config| config.session.title_chars = 10).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let id = say(&edge, &ada, None, "hello").await;
    let path = format!("/api/v1/chat/{id}");
    for (title, status) in [
        (json!("ä".repeat(9)), 200),
        (json!("ä".repeat(10)), 200),
        (json!("ä".repeat(11)), 422),
        (json!(""), 422),
        (json!(null), 422),
        (json!(7), 422),
    ] {
        let reply = call(&edge, "PATCH", &path, &ada, Some(json!({"title": title}))).await;
        assert_eq!(reply.status, status, "{title}: {}", reply.text());
    }
    let title = || Some(json!({"title": "mine"}));
    call(&edge, "PATCH", &path, &eve, title()).await.is(404);
    call(
        &edge,
        "PATCH",
        "/api/v1/chat/0192aaaa-0000-7000-8000-000000000000",
        &ada,
        title(),
    )
    .await
    .is(404);
    let other = json!({"title": "mine", "user_id": "somebody"});
    call(&edge, "PATCH", &path, &ada, Some(other)).await.is(403);
    edge.call("PATCH", &path, &[], title().as_ref()).await.is(401);
    edge.finish().await;
}

#[actix_web::test]
async fn a_deleted_conversation_is_gone_with_its_run_and_everybody_is_told() {
    let (edge, sim) = simulated(20.0, |_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let id = say(&edge, &ada, None, "[[tokens 1]] hello").await;
    let path = format!("/api/v1/chat/{id}");
    let (mut device, mut feed) = (socket(&edge, &ada).await, socket(&edge, &ada).await);
    device.attach(&id, None).await;
    feed.attach("@me", None).await;
    device.send(&id, "m_1", "[[tokens 900]] go", SendMode::Queue).await;
    device.until_running(&id).await;
    let body = json!({"message": "later", "conversation_id": id});
    let mut stream = open(&edge, "POST", "/api/v1/chat/stream", &ada, Some(body)).await;

    call(&edge, "DELETE", &path, &eve, None).await.is(404);
    edge.call("DELETE", &path, &[], None).await.is(401);
    call(&edge, "DELETE", &format!("{path}?user_id=somebody"), &ada, None)
        .await
        .is(403);
    let gone = call(&edge, "DELETE", &path, &ada, None).await;
    assert_eq!((gone.status, gone.body.len()), (204, 0));
    loop {
        if let ServerFrame::Error { error, .. } = device.next_frame(Duration::from_secs(10)).await {
            assert_eq!(
                (error.code, &error.details["session"]),
                (ErrorCode::NotFound, &json!(id))
            );
            break;
        }
    }
    assert_eq!(
        told(&mut feed, "@me", "kronos.conversation_deleted").await,
        json!({"id": id})
    );
    let end = stream.rest().await.pop().expect("an end").json();
    assert_eq!((&end["type"], &end["code"]), (&json!("RUN_ERROR"), &json!("not_found")));
    let stopped = async || {
        sim.requests()
            .iter()
            .any(|request| matches!(request.outcome, Outcome::ClientGone { .. }))
    };
    eventually(Duration::from_secs(10), "the model is left alone", stopped).await;
    for (method, body) in [("GET", None), ("DELETE", None), ("PATCH", Some(json!({"title": "x"})))] {
        call(&edge, method, &path, &ada, body).await.is(404);
    }
    assert_eq!(
        edge.get("/api/v1/chat/", Some(&ada.access)).await.expect(200)["items"],
        json!([])
    );
    edge.finish().await;
}

#[actix_web::test]
async fn messages_are_read_page_by_page() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let history: Vec<_> = (0..251)
        .map(|n| json!({"role": "user", "content": format!("message {n}")}))
        .collect();
    let made = edge
        .post(
            "/api/v1/chat/conversation",
            Some(&ada.access),
            json!({"messages": history}),
        )
        .await;
    let id = made.expect(200)["conversation_id"].as_str().expect("an id").to_owned();
    let path = format!("/api/v1/chat/{id}/messages");
    let (mut query, mut pages) = ("?limit=100".to_owned(), Vec::new());
    loop {
        let page = call(&edge, "GET", &format!("{path}{query}"), &ada, None)
            .await
            .expect(200);
        pages.push(page["items"].as_array().expect("items").clone());
        let Some(before) = page["next_before"].as_str() else {
            break;
        };
        query = format!("?limit=100&before={before}");
    }
    assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [100, 100, 52]);
    let all: Vec<_> = pages.iter().rev().flatten().collect();
    assert_eq!(
        (&all[0]["content"], &all[250]["content"]),
        (&json!("message 0"), &json!("message 250"))
    );
    assert_eq!(all[251]["role"], "assistant");

    // One conversation shows the same pages.
    let shown = call(&edge, "GET", &format!("/api/v1/chat/{id}"), &ada, None)
        .await
        .expect(200);
    assert_eq!(
        (&shown["messages"], &shown["next_before"]),
        (&json!(pages[0]), &pages[0][0]["id"])
    );
    for (query, status) in [
        ("?limit=1", 200),
        ("?limit=100", 200),
        ("?limit=0", 422),
        ("?limit=101", 422),
        ("?limit=ten", 422),
        ("?before=m_unknown", 422),
    ] {
        let reply = call(&edge, "GET", &format!("{path}{query}"), &ada, None).await;
        assert_eq!(reply.status, status, "{query}: {}", reply.text());
    }
    let unknown = call(&edge, "GET", &format!("/api/v1/chat/{id}?before=m_unknown"), &ada, None)
        .await
        .expect(422);
    assert_eq!(unknown["error"]["details"]["errors"][0]["field"], "query.before");
    call(&edge, "GET", &path, &eve, None).await.is(404);
    edge.get(&path, None).await.is(401);
    edge.finish().await;
}
