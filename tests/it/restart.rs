//! Restarts in mid-run, gentle and rough: clients are told, come back, and see the turn taken up again.

use std::time::Duration;

use kronos_protocol::{SendMode, ServerFrame};
use kronos_testkit::WsClient;

use crate::harness::{Kronos, kronos_with};

const LONG: &str = "[[tokens 300]] tell me a long story";

async fn in_mid_run(kronos: &Kronos) -> (WsClient, kronos_protocol::SessionId) {
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.send(&session, "m_1", LONG, SendMode::Queue).await;
    client
        .until("some text", |client| {
            client.transcript(&session).last_answer().len() > 20
        })
        .await;
    (client, session)
}

/// The client's own checker has verified by then that nothing was taken back, repeated or left out.
async fn taken_up_again(kronos: &Kronos, mut client: WsClient, session: &str) {
    let shown = client.transcript(session).last_answer().to_owned();
    client.reconnect(&kronos.server.ws_url()).await;
    let attached = client.reattach(session).await;
    assert!(attached.recovered, "the cursor survives a restart");
    client
        .until("the turn tried again", |client| {
            let transcript = client.transcript(session);
            transcript
                .messages
                .iter()
                .filter(|message| message.role == "assistant")
                .count()
                >= 2
        })
        .await;
    client.until_idle(session).await;
    let transcript = client.transcript(session);
    let answers: Vec<_> = transcript
        .messages
        .iter()
        .filter(|message| message.role == "assistant")
        .collect();
    assert_eq!(answers.len(), 2, "the interrupted answer and the new one");
    assert!(answers[0].text.starts_with(&shown), "what was shown is still there");
    assert!(answers[1].text.len() > answers[0].text.len(), "the new one is complete");
    let stored = kronos.stored("ann", session).await;
    assert_eq!(stored.len(), 3);
}

#[tokio::test]
async fn sigterm_in_mid_run_is_told_and_the_turn_is_taken_up_again() {
    let mut kronos = kronos_with(40.0, &[("DRAIN_DEADLINE", "300ms")]).await;
    let (mut client, session) = in_mid_run(&kronos).await;
    kronos.server.sigterm();
    loop {
        if let ServerFrame::Goaway(goaway) = client.next_frame(Duration::from_secs(5)).await {
            assert!(goaway.reconnect_after_ms > 0);
            break;
        }
    }
    let closed = client.closed().await;
    assert_eq!(closed.code, 1012);
    assert!(closed.reason().is_some_and(|reason| reason.retry));
    let status = kronos.server.wait(Duration::from_secs(10)).await;
    assert!(status.success(), "a drained server exits with 0: {status}");
    kronos.gemini.set_config(|config| config.tokens_per_second = 0.0);
    kronos.server.restart().await;
    taken_up_again(&kronos, client, session.as_str()).await;
}

#[tokio::test]
async fn a_run_that_ends_within_the_drain_deadline_is_not_interrupted() {
    let mut kronos = kronos_with(100.0, &[("DRAIN_DEADLINE", "10s")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client
        .send(&session, "m_1", "[[tokens 60]] a short story", SendMode::Queue)
        .await;
    client.until_running(&session).await;
    kronos.server.sigterm();
    client.until_idle(&session).await;
    assert_eq!(client.closed().await.code, 1012);
    assert!(kronos.server.wait(Duration::from_secs(10)).await.success());
    assert_eq!(client.transcript(&session).messages.len(), 2);
}

#[tokio::test]
async fn kill_9_in_mid_run_takes_nothing_back_and_the_turn_is_taken_up_again() {
    let mut kronos = kronos_with(40.0, &[]).await;
    let (mut client, session) = in_mid_run(&kronos).await;
    kronos.server.kill9();
    client.cut();
    kronos.gemini.set_config(|config| config.tokens_per_second = 0.0);
    kronos.server.restart().await;
    taken_up_again(&kronos, client, session.as_str()).await;
}

#[tokio::test]
async fn queued_messages_survive_kill_9_in_their_order() {
    let mut kronos = kronos_with(40.0, &[]).await;
    let (mut client, session) = in_mid_run(&kronos).await;
    client
        .send(&session, "m_2", "[[tokens 2]] second", SendMode::Queue)
        .await;
    client
        .send(&session, "m_3", "[[tokens 2]] third", SendMode::Queue)
        .await;
    kronos.server.kill9();
    client.cut();
    kronos.gemini.set_config(|config| config.tokens_per_second = 0.0);
    kronos.server.restart().await;
    client.reconnect(&kronos.server.ws_url()).await;
    client.reattach(&session).await;
    client
        .until("the third answer", |client| {
            client.transcript(&session).message("m_3").is_some()
        })
        .await;
    client.until_idle(&session).await;
    let asked: Vec<_> = client
        .transcript(&session)
        .messages
        .iter()
        .filter(|message| message.role == "user")
        .map(|message| message.id.clone())
        .collect();
    assert_eq!(asked, ["m_1", "m_2", "m_3"]);
}
