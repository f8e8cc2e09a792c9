//! Messages that arrive while a run is active, and the same message twice.

use kronos_protocol::{ErrorCode, SendMode};
use serde_json::json;

use crate::harness::{kronos, kronos_with};

const LONG: &str = "[[tokens 400]] tell me a long story";

#[tokio::test]
async fn a_queued_message_waits_and_can_be_taken_back() {
    let kronos = kronos_with(100.0, &[]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.send(&session, "m_1", LONG, SendMode::Queue).await;
    let second = client.send(&session, "m_2", "and then?", SendMode::Queue).await;
    let third = client.send(&session, "m_3", "and after that?", SendMode::Queue).await;
    assert_eq!((second.queued, third.queued), (Some(1), Some(2)));
    client
        .request(json!({"op": "unqueue", "session": session, "id": "m_2"}))
        .await
        .expect("taken back");
    client
        .request(json!({"op": "unqueue", "session": session, "id": "m_2"}))
        .await
        .expect("again is the same");
    let error = client
        .request(json!({"op": "unqueue", "session": session, "id": "m_9"}))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    client.cancel(&session).await.expect("cancelled");
    client.until_idle(&session).await;
    let transcript = client.transcript(&session);
    assert!(transcript.message("m_3").is_some(), "the third was started");
    assert!(transcript.message("m_2").is_none(), "the second never was");
    let error = client
        .request(json!({"op": "unqueue", "session": session, "id": "m_3"}))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
}

#[tokio::test]
async fn interrupt_stops_the_run_and_reject_leaves_it() {
    let kronos = kronos_with(100.0, &[]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let first = client.send(&session, "m_1", LONG, SendMode::Queue).await;
    let refused = client
        .try_send(&session, "m_2", "no", SendMode::Reject)
        .await
        .unwrap_err();
    assert_eq!(refused.code, ErrorCode::Busy);
    assert!(refused.retry);
    let second = client.send(&session, "m_3", "Hello!", SendMode::Interrupt).await;
    assert!(second.run.is_some() && second.run != first.run);
    client.until_idle(&session).await;
    assert!(client.transcript(&session).message("m_3").is_some());
    assert!(
        client.transcript(&session).message("m_2").is_none(),
        "a refused message leaves no trace"
    );
}

#[tokio::test]
async fn the_inbox_takes_exactly_as_many_as_its_bound() {
    let kronos = kronos_with(50.0, &[("SESSION_INBOX_MESSAGES", "3")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.send(&session, "m_0", LONG, SendMode::Queue).await;
    for n in 1..=3 {
        let sent = client.send(&session, &format!("m_{n}"), "next", SendMode::Queue).await;
        assert_eq!(sent.queued, Some(n));
    }
    let error = client
        .try_send(&session, "m_4", "too many", SendMode::Queue)
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Overloaded);
    assert!(error.after_ms.is_some());
}

#[tokio::test]
async fn a_message_sent_twice_on_two_connections_is_applied_once() {
    let kronos = kronos().await;
    let (mut one, mut two) = (kronos.client("ann").await, kronos.msgpack("ann").await);
    let session = one.attach_new().await;
    two.attach(&session, None).await;
    let first = one.send(&session, "m_1", "Hello!", SendMode::Queue).await;
    let again = two.send(&session, "m_1", "Hello!", SendMode::Queue).await;
    assert!(!first.duplicate && again.duplicate);
    assert_eq!((first.seq, &first.run), (again.seq, &again.run));
    let other = two
        .try_send(&session, "m_1", "Something else", SendMode::Queue)
        .await
        .unwrap_err();
    assert_eq!(other.code, ErrorCode::Conflict);
    one.until_idle(&session).await;
    two.until_idle(&session).await;
    assert_eq!(one.transcript(&session), two.transcript(&session));
    assert_eq!(kronos.gemini.requests().len(), 1);
}

#[tokio::test]
async fn cancel_closes_the_upstream_connection_and_says_what_was_used() {
    let kronos = kronos_with(100.0, &[]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let sent = client.send(&session, "m_1", LONG, SendMode::Queue).await;
    client
        .until("some text", |client| {
            !client.transcript(&session).last_answer().is_empty()
        })
        .await;
    let cancelled = client.cancel(&session).await.expect("cancelled");
    assert_eq!(cancelled.run, sent.run);
    assert!(cancelled.usage.is_some());
    client.until_idle(&session).await;
    kronos_testkit::eventually_now(
        std::time::Duration::from_secs(5),
        "the upstream connection is closed",
        || format!("{:?}", kronos.gemini.requests()[0].outcome).contains("ClientGone"),
    )
    .await;
    let nothing = client.cancel(&session).await.expect("nothing to cancel is fine");
    assert_eq!(nothing.run, None);
    let error = client
        .request(json!({"op": "cancel", "session": session, "run": sent.run}))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Conflict);
}
