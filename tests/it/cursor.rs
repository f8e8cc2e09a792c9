//! Cursors: from the start, from the middle, from nowhere; the feed; presence.

use kronos_protocol::{Attach, AttachTarget, Cursor, ErrorCode, SendMode, ServerFrame};
use kronos_testkit::WsClient;
use std::time::Duration;

use crate::harness::{kronos, kronos_with};

async fn second_device(kronos: &crate::harness::Kronos, session: &str, after: Option<Cursor>) -> (WsClient, bool) {
    let mut client = kronos.client("ann").await;
    let attached = client.attach(session, after).await;
    (client, attached.recovered)
}

#[tokio::test]
async fn a_reader_from_any_cursor_sees_the_same_conversation() {
    let kronos = kronos_with(0.0, &[("SESSION_TAIL_BYTES", "4096")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    for n in 0..4 {
        client.ask(&session, &format!("m_{n}"), "[[tokens 300]] write").await;
    }
    let head = client.cursor(&session).expect("a cursor");
    let (mut all, recovered) = second_device(&kronos, session.as_str(), None).await;
    assert!(recovered);
    all.until_caught_up(&session).await;
    assert_eq!(all.transcript(&session), client.transcript(&session));
    for seq in [1, head.seq / 2, head.seq - 1, head.seq] {
        let after = Cursor::new(head.epoch.clone(), seq);
        let (mut tail, recovered) = second_device(&kronos, session.as_str(), Some(after)).await;
        assert!(recovered, "the gap after {seq} is served event by event");
        tail.until_caught_up(&session).await;
        assert_eq!(tail.cursor(&session), Some(head.clone()));
    }
}

#[tokio::test]
async fn a_cursor_that_cannot_be_served_gets_a_snapshot_and_goes_on() {
    let kronos = kronos_with(60.0, &[]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    client
        .send(&session, "m_2", "[[tokens 60]] tell me more", SendMode::Queue)
        .await;
    client
        .until("some text", |client| client.transcript(&session).lines().len() >= 4)
        .await;
    let epoch = client.cursor(&session).expect("a cursor").epoch;
    let foreign = Cursor::new(
        "e_of_another_history".parse::<kronos_protocol::EpochId>().unwrap(),
        2_u64,
    );
    let future = Cursor::new(epoch, 1_000_000_u64);
    for cursor in [foreign, future] {
        let (mut other, recovered) = second_device(&kronos, session.as_str(), Some(cursor)).await;
        assert!(!recovered);
        other.until_caught_up(&session).await;
        other.until_idle(&session).await;
        client.until_idle(&session).await;
        assert_eq!(other.transcript(&session), client.transcript(&session));
    }
}

#[tokio::test]
async fn a_tail_is_the_last_events_of_history() {
    let kronos = kronos().await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    let head = client.cursor(&session).expect("a cursor").seq;
    let mut other = kronos.client("ann").await;
    let attach = Attach {
        tail: Some(2),
        ..Attach::new(AttachTarget::of(session.clone()))
    };
    let attached = other.try_attach(attach).await.expect("attached");
    assert_eq!(attached.head, head);
    let frame = other.next_frame(Duration::from_secs(5)).await;
    let ServerFrame::Events(events) = frame else {
        panic!("{frame:?}")
    };
    assert_eq!(
        events.events.first().map(kronos_protocol::LogEntry::first_seq),
        Some(head - 1)
    );
}

#[tokio::test]
async fn the_feed_tells_of_new_conversations_on_every_device() {
    let kronos = kronos().await;
    let (mut one, mut two) = (kronos.client("ann").await, kronos.msgpack("ann").await);
    one.attach("@me", None).await;
    two.attach("@me", None).await;
    let session = one.attach_new().await;
    for client in [&mut one, &mut two] {
        let id = session.clone();
        client
            .until("the feed's event", |client| {
                client.cursor("@me").is_some_and(|cursor| cursor.seq >= 1)
            })
            .await;
        drop(id);
    }
    let mut other = kronos.client("bob").await;
    other.attach("@me", None).await;
    other.until_caught_up("@me").await;
    assert_eq!(
        other.cursor("@me").map_or(0, |cursor| cursor.seq),
        0,
        "a feed is its user's alone"
    );
}

#[tokio::test]
async fn devices_see_each_other_type() {
    let kronos = kronos().await;
    let (mut one, mut two) = (kronos.client("ann").await, kronos.client("ann").await);
    let session = one.attach_new().await;
    two.attach(&session, None).await;
    two.request(serde_json::json!({"op": "typing", "session": session, "on": true}))
        .await
        .expect("typing");
    loop {
        let frame = one.next_frame(Duration::from_secs(5)).await;
        if let ServerFrame::Presence(presence) = frame
            && presence.devices.len() == 2
            && presence.devices.iter().any(|device| device.typing)
        {
            break;
        }
    }
}

#[tokio::test]
async fn somebody_elses_conversation_is_not_found() {
    let kronos = kronos().await;
    let (mut ann, mut bob) = (kronos.client("ann").await, kronos.client("bob").await);
    let session = ann.attach_new().await;
    ann.ask(&session, "m_1", "Hello!").await;
    for target in [session.as_str(), "@ann", "0192aaaa-0000-7000-8000-000000000000"] {
        let attach = Attach::new(AttachTarget::of(target.parse().unwrap()));
        let error = bob.try_attach(attach).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::NotFound, "{target}");
    }
    let error = bob
        .try_send(&session, "m_2", "mine", SendMode::Queue)
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let own = bob.attach_new().await;
    bob.ask(&own, "m_1", "still works").await;
}

#[tokio::test]
async fn an_idle_conversation_leaves_memory_and_comes_back() {
    let kronos = kronos_with(0.0, &[("SESSION_IDLE_TIMEOUT", "1s")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    client.detach(&session).await.expect("detached");
    kronos_testkit::eventually(Duration::from_secs(10), "the session leaves memory", || async {
        let metrics = kronos.server.get("/metrics", &[]).await.text();
        metrics.lines().any(|line| {
            line.strip_prefix("kronos_session_passivations_total ")
                .is_some_and(|count| count.trim() != "0")
        })
    })
    .await;
    let attached = client.reattach(&session).await;
    assert!(attached.recovered);
    client.ask(&session, "m_2", "Are you there?").await;
}

/// The value of a metric without labels.
async fn metric(kronos: &crate::harness::Kronos, name: &str) -> u64 {
    let text = kronos.server.get("/metrics", &[]).await.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map_or(0, |value| value.trim().parse().expect("a number"))
}

#[tokio::test]
async fn twenty_devices_at_once_wake_a_conversation_once() {
    let kronos = kronos_with(0.0, &[("SESSION_IDLE_TIMEOUT", "1s")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    let shown = client.transcript(&session);
    client.detach(&session).await.expect("detached");
    kronos_testkit::eventually(Duration::from_secs(10), "all sessions leave memory", || async {
        metric(&kronos, "kronos_sessions_live").await == 0
    })
    .await;
    let before = metric(&kronos, "kronos_session_activations_total").await;
    let mut devices = Vec::new();
    for _ in 0..20 {
        devices.push(kronos.client("ann").await);
    }
    let attaches = devices.iter_mut().map(|device| device.attach(&session, None));
    futures_util::future::join_all(attaches).await;
    for device in &mut devices {
        device.until_caught_up(&session).await;
        assert_eq!(device.transcript(&session), shown);
    }
    assert_eq!(metric(&kronos, "kronos_session_activations_total").await, before + 1);
}

#[tokio::test]
async fn one_socket_follows_many_conversations() {
    let kronos = kronos_with(200.0, &[]).await;
    let mut client = kronos.client("ann").await;
    let mut sessions = Vec::new();
    for _ in 0..10 {
        sessions.push(client.attach_new().await);
    }
    for (n, session) in sessions.iter().enumerate() {
        client
            .send(session, "m_1", &format!("[[tokens {}]] go", 20 + n), SendMode::Queue)
            .await;
    }
    for session in &sessions {
        client.until_idle(session).await;
        assert_eq!(client.transcript(session).messages.len(), 2);
    }
    client.finish().await;
}
