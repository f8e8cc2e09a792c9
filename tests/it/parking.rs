//! A session that fails again and again is parked, stays so over restarts, and opens again when its operator says so.

use std::process::Command;

use futures_util::future::LocalBoxFuture;
use kronos_protocol::{ErrorCode, SendMode, SessionId, WireError};
use kronos_testkit::WsClient;
use serde_json::json;

use crate::harness::{Kronos, kronos_with};

async fn attach(kronos: &Kronos, session: &SessionId) -> (WsClient, Result<(), WireError>) {
    let mut client = kronos.client("ann").await;
    let reply = client.request(json!({"op": "attach", "session": session})).await;
    (client, reply.map(drop))
}

/// A server with a session that has panicked once too often, and that session.
pub(crate) fn parked() -> LocalBoxFuture<'static, (Kronos, SessionId)> {
    Box::pin(park())
}

async fn park() -> (Kronos, SessionId) {
    let env = [("FAULT_INJECTION", "true"), ("SESSION_MAX_RESTARTS", "2")];
    let kronos = kronos_with(400.0, &env).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    client.finish().await;
    for n in 0..10 {
        let (mut client, attached) = attach(&kronos, &session).await;
        match attached {
            Ok(()) => {
                let id = format!("bad_{n}");
                let refused = client.try_send(&session, &id, "[[panic]]", SendMode::Queue).await;
                assert!(refused.is_err(), "what panicked is not acknowledged");
            }
            Err(error) => {
                assert_eq!(error.code, ErrorCode::Parked);
                // Commits are in order: when this one is durable, the mark of the parked session is.
                client.attach_new().await;
                return (kronos, session);
            }
        }
    }
    panic!("never parked: {}", kronos.server.output());
}

/// Runs `kronos sessions unpark`, and returns what it printed.
fn unpark(kronos: &Kronos, session: &SessionId, options: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kronos"))
        .args(["sessions", "unpark", session.as_str()])
        .args(options)
        .env_clear()
        .env("DATABASE_URL", format!("sled://{}", kronos.server.data_dir().display()))
        .env("PORT", "1")
        .current_dir(kronos.server.dir())
        .output()
        .expect("kronos runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn a_parked_session_opens_again_through_a_running_server() {
    let (kronos, session) = parked().await;
    let mut other = kronos.client("ann").await;
    let theirs = other.attach_new().await;
    other.ask(&theirs, "m_1", "Hello!").await;
    let options = ["--user", "ann", "--url"].map(str::to_owned);
    let options = [&options[..], &[kronos.server.http_url()]].concat();
    assert!(unpark(&kronos, &session, &options).contains("is open again"));
    assert!(unpark(&kronos, &session, &options).contains("was not parked"));
    let stranger = format!("/api/v1/chat/{session}/unpark?user_id=bob");
    assert_eq!(kronos.server.post(&stranger, &[], &json!({})).await.status, 404);
    let (mut client, attached) = attach(&kronos, &session).await;
    attached.expect("open");
    client.ask(&session, "m_2", "Are you there?").await;
    client.finish().await;
    other.finish().await;
}

#[tokio::test]
async fn a_parked_session_stays_so_over_a_restart_and_opens_again_without_a_server() {
    let (mut kronos, session) = parked().await;
    kronos.server.restart().await;
    let (_, attached) = attach(&kronos, &session).await;
    assert_eq!(attached.expect_err("parked still").code, ErrorCode::Parked);
    kronos.server.kill9();
    assert!(unpark(&kronos, &session, &[]).contains("is open again"));
    kronos.server.restart().await;
    let (client, attached) = attach(&kronos, &session).await;
    attached.expect("open");
    assert_eq!(
        kronos.stored("ann", session.as_str()).await.len(),
        2,
        "nothing was lost"
    );
    client.finish().await;
}
