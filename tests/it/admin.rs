//! What an operator does to a process: over REST, and with the command line.

use std::{process::Command, time::Duration};

use kronos_protocol::{ErrorCode, ServerFrame};
use kronos_testkit::{ConnectOptions, WsClient};
use serde_json::{Value, json};

use crate::harness::{Kronos, kronos_with};

const PASSWORD: &str = "correct horse";

/// A server that wants tokens, and the token of a superuser.
async fn with_root() -> (Kronos, String) {
    let env = [
        ("AUTH_MODE", "required"),
        ("SECRET_KEY", "a secret of the tests, 32 bytes and more"),
        ("FIRST_SUPERUSER_USERNAME", "root"),
        ("FIRST_SUPERUSER_EMAIL", "root@example.com"),
        ("FIRST_SUPERUSER_PASSWORD", PASSWORD),
    ];
    let kronos = kronos_with(400.0, &env).await;
    let token = log_in(&kronos).await;
    (kronos, token)
}

async fn log_in(kronos: &Kronos) -> String {
    let body = json!({"username": "root", "password": PASSWORD});
    let pair = kronos.server.post("/api/v1/auth/login", &[], &body).await.expect(200);
    pair["access_token"].as_str().expect("a token").to_owned()
}

async fn client(kronos: &Kronos, token: &str) -> WsClient {
    kronos.server.connect(ConnectOptions::token(token)).await
}

/// Runs a command against the server; returns what it printed.
fn run(kronos: &Kronos, token: &str, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_kronos"))
        .args(arguments)
        .args(["--url", &kronos.server.http_url()])
        .env_clear()
        .env("KRONOS_TOKEN", token)
        .current_dir(kronos.server.dir())
        .output()
        .expect("kronos runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

async fn drains(mut kronos: Kronos, client: &mut WsClient) {
    while !matches!(client.next_frame(Duration::from_secs(10)).await, ServerFrame::Goaway(_)) {}
    assert_eq!(client.closed().await.code, 1012);
    let status = kronos.server.wait(Duration::from_secs(20)).await;
    assert!(status.success(), "{status}\n{}", kronos.server.output());
}

#[tokio::test]
async fn a_drain_ends_the_process_as_sigterm_does() {
    let (kronos, token) = with_root().await;
    let mut client = client(&kronos, &token).await;
    client.attach_new().await;
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let answer = kronos
        .server
        .request("POST", "/api/v1/admin/drain", &headers, None)
        .await;
    assert_eq!(answer.expect(202)["begun"], true);
    drains(kronos, &mut client).await;
}

#[tokio::test]
async fn the_command_line_does_what_the_routes_do() {
    let (mut kronos, token) = with_root().await;
    let mut device = client(&kronos, &token).await;
    let session = device.attach_new().await;
    device.ask(&session, "m_1", "[[tokens 3]] hello").await;
    let connection = device.welcome().connection.to_string();
    let listed = run(&kronos, &token, &["connections", "list"]);
    assert!(listed.contains(&connection) && listed.contains("json"), "{listed}");
    let json: Value = serde_json::from_str(&run(&kronos, &token, &["connections", "list", "--json"])).unwrap();
    assert_eq!(json["items"][0]["id"], connection.as_str());
    assert!(run(&kronos, &token, &["runs", "list"]).contains("none"));
    let id = session.as_str();
    assert!(run(&kronos, &token, &["sessions", "evict", id]).contains("left memory"));
    assert!(run(&kronos, &token, &["sessions", "evict", id]).contains("was not in memory"));
    assert!(run(&kronos, &token, &["sessions", "park", id]).contains("is out of service"));
    assert!(run(&kronos, &token, &["connections", "close", &connection]).contains("closes with 1012"));
    assert_eq!(device.closed().await.code, 1012);

    // Parked by an operator, it stays so over a restart.
    kronos.server.sigterm();
    kronos.server.wait(Duration::from_secs(20)).await;
    kronos.server.restart().await;
    let token = log_in(&kronos).await;
    let mut device = client(&kronos, &token).await;
    let attach = json!({"op": "attach", "session": session});
    assert_eq!(
        device.request(attach.clone()).await.expect_err("parked").code,
        ErrorCode::Parked
    );
    assert!(run(&kronos, &token, &["sessions", "unpark", id]).contains("is open again"));
    device.request(attach).await.expect("open");
    assert!(run(&kronos, &token, &["drain"]).contains("drains"));
    drains(kronos, &mut device).await;
}
