//! `POST /chat/stream`: a turn as AG-UI events.

use kronos_protocol::{SendMode, SessionId, verify_stream};
use kronos_testkit::{ConnectOptions, SseClient, SseEvent, WsClient, eventually, text_of};
use serde_json::{Value, json};
use std::time::Duration;

use super::{kinds, open, refusals, say, simulated, told};
use crate::harness::{Answer as _, Edge};

const PATH: &str = "/api/v1/chat/stream";

/// Waits until a message waits behind a run; its id.
pub(crate) async fn queued(socket: &mut WsClient, session: &SessionId) -> String {
    let value = told(socket, session.as_str(), "kronos.message_accepted").await;
    value["messageId"].as_str().expect("an id").to_owned()
}

/// It is what the official client takes: in order, from the start of a run to its end.
fn check(events: &[SseEvent]) {
    let values: Vec<Value> = events.iter().map(SseEvent::json).collect();
    verify_stream(&values).expect("an order that AG-UI's verifier accepts");
    let mut last = 0;
    for event in events {
        assert_eq!(event.event, None);
        // What the server says by itself, when the log could not in time, is no event of it.
        let Some(id) = event.id.as_ref() else {
            assert_eq!(event.json()["code"], "shutting_down");
            continue;
        };
        let seq: u64 = id.rsplit_once(':').expect("epoch and seq").1.parse().expect("a number");
        assert!(seq > last, "{id} after {last}");
        last = seq;
    }
}

#[actix_web::test]
async fn a_turn_is_streamed_from_its_start_to_its_end() {
    let (edge, _sim) = simulated(300.0, |_| {}).await;
    let pair = edge.login("ada").await;
    let mut stream = open(&edge, "POST", PATH, &pair, Some(json!({"message": "[[tokens 30]] go"}))).await;
    for (name, value) in [
        ("content-type", "text/event-stream"),
        ("cache-control", "no-store"),
        ("x-accel-buffering", "no"),
    ] {
        assert_eq!(stream.reply.header(name), Some(value), "{name}");
    }
    assert_eq!(
        (stream.reply.status, stream.reply.header("content-encoding")),
        (200, None)
    );
    let events = stream.rest().await;
    check(&events);
    let kinds = kinds(&events);
    assert_eq!(kinds.first().map(String::as_str), Some("RUN_STARTED"));
    assert_eq!(kinds.last().map(String::as_str), Some("RUN_FINISHED"));
    let id = events[0].json()["threadId"]
        .as_str()
        .expect("the conversation")
        .to_owned();
    let shown = edge
        .get(&format!("/api/v1/chat/{id}"), Some(&pair.access))
        .await
        .expect(200);
    assert_eq!(shown["messages"][1]["content"], json!(text_of(&events)));

    // The next turn of the same conversation is a stream of its own.
    let body = json!({"message": "[[tokens 3]] on", "conversation_id": id, "temperature": 0.1});
    let next = open(&edge, "POST", PATH, &pair, Some(body)).await.rest().await;
    check(&next);
    assert_ne!(next[0].json()["runId"], events[0].json()["runId"]);
    edge.finish().await;
}

#[actix_web::test]
async fn a_turn_that_waits_is_streamed_without_the_one_before() {
    let (edge, _sim) = simulated(100.0, |config| {
        config.connection.sse_heartbeat = Duration::from_millis(100)
    })
    .await;
    let pair = edge.login("ada").await;
    let id = say(&edge, &pair, None, "hello").await;
    let body = |text: &str| Some(json!({"message": text, "conversation_id": id}));
    let mut first = open(&edge, "POST", PATH, &pair, body("[[tokens 60]] first")).await;
    first.until(|event| event.kind() == "RUN_STARTED").await;
    let mut second = open(&edge, "POST", PATH, &pair, body("[[tokens 5]] second")).await;
    let (rest, events) = (first.rest().await, second.rest().await);
    assert_eq!(rest.last().map(SseEvent::kind).as_deref(), Some("RUN_FINISHED"));
    check(&events);
    assert_eq!(
        events[0].json()["input"]["messages"][0]["content"],
        "[[tokens 5]] second"
    );
    assert!(second.comments > 0, "while it waits there are comments");
    edge.finish().await;
}

#[actix_web::test]
async fn a_turn_that_is_interrupted_goes_on_in_the_same_stream() {
    let (edge, _sim) = simulated(60.0, |config| config.session.fault_injection = true).await;
    let pair = edge.login("ada").await;
    let id = say(&edge, &pair, None, "hello").await;
    let body = json!({"message": "[[tokens 40]] go", "conversation_id": id});
    let mut stream = open(&edge, "POST", PATH, &pair, Some(body)).await;
    let mut events = stream.until(|event| event.kind() == "TEXT_MESSAGE_CONTENT").await;
    let poison = json!({"message": "[[panic]]", "conversation_id": id});
    let poisoned = edge.post("/api/v1/chat/message", Some(&pair.access), poison).await;
    assert_eq!(poisoned.status, 503, "{}", poisoned.text());
    events.extend(stream.rest().await);
    check(&events);
    let ends: Vec<_> = kinds(&events)
        .into_iter()
        .filter(|kind| kind.starts_with("RUN_"))
        .collect();
    assert!(ends.len() >= 4, "{ends:?}");
    assert_eq!(ends[..2], ["RUN_STARTED", "RUN_ERROR"]);
    assert_eq!(ends[ends.len() - 2..], ["RUN_STARTED", "RUN_FINISHED"]);
    edge.finish().await;
}

#[actix_web::test]
async fn a_turn_that_fails_or_is_cancelled_or_taken_back_ends_as_a_run_does() {
    let edge = Edge::start().await;
    let pair = edge.login("ada").await;
    let mut stream = open(&edge, "POST", PATH, &pair, Some(json!({"message": "hi"}))).await;
    let events = stream.rest().await;
    check(&events);
    assert_eq!(events.last().expect("an end").json()["code"], "not_configured");
    edge.finish().await;

    let (edge, _sim) = simulated(50.0, |config| config.auth.mode = kronos::config::AuthMode::Development).await;
    let mut socket = WsClient::connect(&format!("ws://{}/ws", edge.addr), ConnectOptions::user("bob")).await;
    let session = socket.attach_new().await;
    socket.send(&session, "m_1", "[[tokens 900]] go", SendMode::Queue).await;
    socket.until_running(&session).await;
    let body = json!({"message": "later", "user_id": "bob", "conversation_id": session});
    let mut waiting = SseClient::open(edge.addr, "POST", PATH, &[], Some(&body))
        .await
        .expect("an answer");
    let id = queued(&mut socket, &session).await;
    let unqueue = json!({"op": "unqueue", "session": session, "id": id});
    socket.request(unqueue).await.expect("taken back");
    let events = waiting.rest().await;
    assert_eq!(kinds(&events), ["RUN_ERROR"]);
    assert_eq!(events[0].json()["code"], "conflict");

    let mut other = SseClient::open(edge.addr, "POST", PATH, &[], Some(&body))
        .await
        .expect("an answer");
    socket
        .request(json!({"op": "cancel", "session": session}))
        .await
        .expect("cancelled");
    other.until(|event| event.kind() == "RUN_STARTED").await;
    socket
        .request(json!({"op": "cancel", "session": session}))
        .await
        .expect("cancelled");
    let end = other.rest().await.pop().expect("an end").json();
    assert!(end["type"] == "RUN_FINISHED", "{end}");
    edge.finish().await;
}

#[actix_web::test]
async fn what_is_wrong_is_told_before_the_stream_begins() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let id = say(&edge, &ada, None, "hello").await;
    let post = async |body: Value| edge.post(PATH, Some(&eve.access), body).await;
    post(json!({"message": "hi", "conversation_id": id})).await.is(404);
    post(json!({"message": "hi", "conversation_id": "0192aaaa-0000-7000-8000-000000000000"}))
        .await
        .is(404);
    post(json!({"message": "hi", "user_id": "somebody-else"})).await.is(403);
    edge.post(PATH, None, json!({"message": "hi"})).await.is(401);
    for (body, field) in [
        (json!({}), "body.message"),
        (
            json!({"message": "hi", "cancel_on_disconnect": "yes"}),
            "body.cancel_on_disconnect",
        ),
        (json!({"message": "hi", "max_tokens": 0}), "body.max_tokens"),
    ] {
        let error = post(body).await.expect(422);
        assert_eq!(error["error"]["details"]["errors"][0]["field"], field);
    }
    edge.finish().await;
}

#[actix_web::test]
async fn streams_have_bounds_for_a_user_and_for_the_server() {
    for (bound, per_user, all) in [("event_streams_per_user", 2, 9), ("event_streams", 9, 2)] {
        let (edge, _sim) = simulated(0.0, |config| {
            config.connection.max_event_streams_per_user = per_user;
            config.connection.max_event_streams = all;
            // Only writing shows that a reader has left.
            config.connection.sse_heartbeat = Duration::from_millis(100);
        })
        .await;
        let pair = edge.login("ada").await;
        let id = say(&edge, &pair, None, "hello").await;
        let path = format!("/api/v1/chat/{id}/events");
        let before = refusals(&edge, bound).await;
        let _first = open(&edge, "GET", &path, &pair, None).await;
        let second = open(&edge, "GET", &path, &pair, None).await;
        assert_eq!(second.reply.status, 200);
        for (method, path, body) in [
            ("GET", path.as_str(), None),
            ("POST", PATH, Some(json!({"message": "hi"}))),
            ("GET", &format!("/api/v1/chat/{id}/export"), None),
        ] {
            let refused = open(&edge, method, path, &pair, body).await.reply;
            let error = refused.expect(503);
            assert_eq!(error["error"]["code"], "SERVICE_UNAVAILABLE");
            assert_eq!(error["error"]["details"], json!({"name": bound, "limit": 2}));
            assert_eq!(refused.header("retry-after"), Some("5"));
        }
        assert!(refusals(&edge, bound).await >= before + 3);
        drop(second);
        let free = async || {
            open(&edge, "POST", PATH, &pair, Some(json!({"message": "hi"})))
                .await
                .reply
                .status
                == 200
        };
        eventually(Duration::from_secs(20), "a place is free again", free).await;
        edge.finish().await;
    }
}

#[actix_web::test]
async fn a_server_that_goes_away_ends_the_stream_of_a_turn_as_a_run() {
    let (edge, _sim) = simulated(20.0, |_| {}).await;
    let pair = edge.login("ada").await;
    let mut stream = open(
        &edge,
        "POST",
        PATH,
        &pair,
        Some(json!({"message": "[[tokens 900]] go"})),
    )
    .await;
    let mut events = stream.until(|event| event.kind() == "TEXT_MESSAGE_CONTENT").await;
    let (rest, ()) = tokio::join!(stream.rest(), edge.finish());
    events.extend(rest);
    check(&events);
    let end = events.last().expect("an end").json();
    assert_eq!(end["type"], "RUN_ERROR");
    assert!(end["code"] == "interrupted" || end["code"] == "shutting_down", "{end}");
}
