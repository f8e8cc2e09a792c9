//! `GET /chat/{id}/events`: the log of a session, live and as it is now.

use kronos_protocol::LogEntry;
use kronos_testkit::{SseClient, SseEvent, eventually, text_of};
use serde_json::{Value, json};
use std::time::Duration;

use super::{kinds, open, open_with, say, simulated};
use crate::harness::{Answer as _, Edge, Pair};

fn path(id: &str) -> String {
    format!("/api/v1/chat/{id}/events")
}

async fn follow(edge: &Edge, pair: &Pair, id: &str) -> SseClient {
    let stream = open(edge, "GET", &path(id), pair, None).await;
    assert_eq!(stream.reply.status, 200, "{}", stream.reply.text());
    stream
}

async fn caught_up(stream: &mut SseClient) -> Vec<SseEvent> {
    let mut events = stream.until(|event| event.event.as_deref() == Some("caught_up")).await;
    events.pop();
    events
}

/// Every position once, in order, from the first on.
fn check(events: &[SseEvent]) -> u64 {
    events.iter().fold(0, |last, event| {
        let entry: LogEntry = serde_json::from_value(event.json()).expect("an entry");
        assert_eq!(entry.first_seq(), last + 1, "{event:?}");
        let id = event.id.as_ref().expect("an id");
        assert!(id.ends_with(&format!(":{}", entry.seq)), "{id}");
        entry.seq
    })
}

#[actix_web::test]
async fn a_log_is_told_from_the_beginning_and_then_live() {
    let (edge, _sim) = simulated(300.0, |config| {
        config.connection.sse_heartbeat = Duration::from_millis(50)
    })
    .await;
    let pair = edge.login("ada").await;
    let id = say(&edge, &pair, None, "[[tokens 20]] go").await;
    let mut stream = follow(&edge, &pair, &id).await;
    assert_eq!(stream.reply.header("content-type"), Some("text/event-stream"));
    assert_eq!(stream.reply.header("cache-control"), Some("no-store"));
    let mut events = caught_up(&mut stream).await;
    assert_eq!(stream.retry_ms, Some(1000));
    say(&edge, &pair, Some(&id), "[[tokens 10]] on").await;
    events.extend(stream.until(|event| event.kind() == "RUN_FINISHED").await);
    check(&events);
    assert_eq!(kinds(&events).iter().filter(|kind| *kind == "RUN_STARTED").count(), 2);
    let shown = edge
        .get(&format!("/api/v1/chat/{id}"), Some(&pair.access))
        .await
        .expect(200);
    let answers = [1, 3].map(|at| shown["messages"][at]["content"].as_str().expect("a text").to_owned());
    assert_eq!(text_of(&events), answers.concat());
    eventually(Duration::from_secs(10), "comments", async || {
        let edge = &edge;
        edge.get("/metrics", None)
            .await
            .text()
            .contains("kronos_event_streams 1")
    })
    .await;
    edge.finish().await;
}

#[actix_web::test]
async fn a_reader_goes_on_from_any_position_exactly() {
    // Packed turns have merged deltas; the memory is too small for the log.
    let (edge, _sim) = simulated(0.0, |config| config.session.tail_bytes = 4096).await;
    let pair = edge.login("ada").await;
    let id = say(&edge, &pair, None, "[[tokens 600]] go").await;
    say(&edge, &pair, Some(&id), "[[tokens 600]] on").await;
    let all = caught_up(&mut follow(&edge, &pair, &id).await).await;
    let head = check(&all);
    let (whole, last) = (
        text_of(&all),
        all.last().and_then(|event| event.id.clone()).expect("an id"),
    );
    let epoch = last.rsplit_once(':').expect("epoch").0;
    for seq in [0, 1, 2, head / 3, head / 2, head - 1, head] {
        let after = format!("{epoch}:{seq}");
        let query = format!("{}?after={after}", path(&id));
        // The header wins: a browser sends it to the address it was opened with.
        let elsewhere = format!("{}?after={epoch}:0", path(&id));
        for (path, headers) in [(query, vec![]), (elsewhere, vec![("Last-Event-ID", after.as_str())])] {
            let mut stream = open_with(&edge, "GET", &path, &pair, &headers, None).await;
            let rest = caught_up(&mut stream).await;
            let next = rest
                .first()
                .map(|event| serde_json::from_value::<LogEntry>(event.json()).unwrap().first_seq());
            assert_eq!(next, (seq < head).then_some(seq + 1), "after {after}");
            assert!(whole.ends_with(&text_of(&rest)), "after {after}");
        }
    }
    edge.finish().await;
}

#[actix_web::test]
async fn a_position_of_another_history_gets_a_snapshot_and_goes_on() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let pair = edge.login("ada").await;
    let id = say(&edge, &pair, None, "hello").await;
    let query = format!("{}?after=e_foreign:7", path(&id));
    let mut stream = open(&edge, "GET", &query, &pair, None).await;
    let snapshot = caught_up(&mut stream).await;
    assert_eq!(kinds(&snapshot), ["RUN_STARTED", "MESSAGES_SNAPSHOT", "RUN_FINISHED"]);
    assert!(snapshot.iter().all(|event| event.json()["snapshot"] == true));
    let ids: Vec<_> = snapshot.iter().map(|event| event.id.is_some()).collect();
    assert_eq!(
        ids,
        [false, false, true],
        "one that is cut in between must get it again"
    );
    say(&edge, &pair, Some(&id), "and then?").await;
    let live = stream.until(|event| event.kind() == "RUN_FINISHED").await;
    assert!(live.iter().all(|event| event.json().get("snapshot").is_none()));
    let resumed = stream.last_id.clone().expect("a position");
    let mut again = open_with(&edge, "GET", &path(&id), &pair, &[("Last-Event-ID", &resumed)], None).await;
    assert_eq!(caught_up(&mut again).await, []);
    edge.finish().await;
}

#[actix_web::test]
async fn lines_are_what_there_is_now() {
    let (edge, _sim) = simulated(0.0, |config| config.session.tail_bytes = 4096).await;
    let pair = edge.login("ada").await;
    let id = say(&edge, &pair, None, "[[tokens 900]] go").await;
    let lines = async |query: &str| {
        let path = format!("{}{query}", path(&id));
        let bearer = super::bearer(&pair);
        let headers = [("Authorization", bearer.as_str()), ("Accept", "application/x-ndjson")];
        let reply = edge.call("GET", &path, &headers, None).await;
        reply.is(200);
        assert_eq!(reply.header("content-type"), Some("application/x-ndjson"));
        let lines = reply.text();
        lines
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
            .collect::<Vec<_>>()
    };
    let all = lines("").await;
    let mut last = 0;
    for line in &all {
        let entry: LogEntry = serde_json::from_value(line.clone()).expect("an entry");
        assert_eq!(entry.first_seq(), last + 1);
        last = entry.seq;
    }
    assert_eq!(all.last().expect("lines")["event"]["type"], "RUN_FINISHED");
    let epoch = all[0]["epoch"].as_str().expect("the epoch");
    assert!(lines(&format!("?after={epoch}:{last}")).await.is_empty());
    assert_eq!(lines(&format!("?after={epoch}:{}", last - 1)).await.len(), 1);
    assert_eq!(lines("?after=e_foreign:1").await.len(), 3, "a snapshot");
    edge.finish().await;
}

/// Reads the last event: why the stream ends; then it ends.
async fn goodbye(stream: &mut SseClient) -> Value {
    let mut rest = stream.until(|event| event.event.as_deref() == Some("closed")).await;
    assert_eq!(stream.next().await, None);
    rest.pop().expect("a last event").json()
}

#[actix_web::test]
async fn a_stream_ends_with_its_login_its_token_its_session_and_the_server() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let (of_ada, of_eve) = (say(&edge, &ada, None, "hi").await, say(&edge, &eve, None, "hi").await);
    let mut one = follow(&edge, &ada, &of_ada).await;
    let mut other = follow(&edge, &eve, &of_eve).await;
    edge.post("/api/v1/auth/logout", Some(&ada.access), json!({}))
        .await
        .is(200);
    let why = goodbye(&mut one).await;
    assert_eq!(
        (&why["code"], &why["retry"]),
        (&json!("unauthenticated"), &json!(false))
    );
    open(&edge, "GET", &path(&of_ada), &ada, None).await.reply.is(401);

    let mut second = follow(&edge, &eve, &of_eve).await;
    let gone = format!("/api/v1/chat/{of_eve}");
    let bearer = super::bearer(&eve);
    edge.call("DELETE", &gone, &[("Authorization", &bearer)], None)
        .await
        .is(204);
    for stream in [&mut other, &mut second] {
        assert_eq!(goodbye(stream).await["code"], "not_found");
    }
    let next = say(&edge, &eve, None, "hi").await;
    let mut third = follow(&edge, &eve, &next).await;
    edge.clock.advance(Duration::from_secs(31 * 60));
    assert_eq!(goodbye(&mut third).await["code"], "unauthenticated");

    let fresh = json!({"refresh_token": eve.refresh});
    let eve = Pair::of(&edge.post("/api/v1/auth/refresh", None, fresh).await.expect(200));
    let mut last = follow(&edge, &eve, &next).await;
    let (why, ()) = tokio::join!(goodbye(&mut last), edge.finish());
    assert_eq!((&why["code"], &why["retry"]), (&json!("shutting_down"), &json!(true)));
}

#[actix_web::test]
async fn what_cannot_be_followed_is_refused_before_the_stream_begins() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let id = say(&edge, &ada, None, "hi").await;
    open(&edge, "GET", &path(&id), &eve, None).await.reply.is(404);
    open(&edge, "GET", &path("0192aaaa-0000-7000-8000-000000000000"), &ada, None)
        .await
        .reply
        .is(404);
    open(&edge, "GET", &path("@me"), &ada, None).await.reply.is(404);
    edge.get(&path(&id), None).await.is(401);
    let other = format!("{}?user_id=somebody", path(&id));
    open(&edge, "GET", &other, &ada, None).await.reply.is(403);
    for after in ["7", "e_1:", "e_1:x", ":1"] {
        let query = format!("{}?after={after}", path(&id));
        let error = open(&edge, "GET", &query, &ada, None).await.reply.expect(422);
        assert_eq!(
            error["error"]["details"]["errors"][0]["field"], "query.after",
            "{after}"
        );
    }
    let bad = open_with(&edge, "GET", &path(&id), &ada, &[("Last-Event-ID", "seven")], None).await;
    let error = bad.reply.expect(422);
    assert_eq!(error["error"]["details"]["errors"][0]["field"], "header.last-event-id");
    let head = edge
        .call("HEAD", &path(&id), &[("Authorization", &super::bearer(&ada))], None)
        .await;
    head.is(200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    edge.finish().await;
}
