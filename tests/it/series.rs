//! Each series moves under the event that it is for.

use std::{
    io::Write as _,
    process::{Command, Stdio},
    time::Duration,
};

use kronos_protocol::SendMode;
use kronos_sim::{ComposioScript, ComposioSim, ComposioSimConfig};
use kronos_testkit::eventually;
use serde_json::json;

use crate::{
    harness::{Kronos, kronos, kronos_with},
    observe::Scrape,
};

const LIMIT: Duration = Duration::from_secs(10);

/// Waits until the series of `name` with these labels are `value` together.
async fn until(kronos: &Kronos, name: &str, labels: &[(&str, &str)], value: f64) {
    eventually(LIMIT, &format!("{name}{labels:?} is {value}"), || async {
        let now = Scrape::take(&kronos.server).await.sum(name, labels);
        if now == value { Ok(()) } else { Err(now) }
    })
    .await;
}

#[tokio::test]
async fn promtool_has_no_complaint_about_a_scrape() {
    let kronos = kronos().await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "What is the capital of Japan?").await;
    let scrape = kronos.server.get("/metrics", &[]).await.text();
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool of the Debian package prometheus");
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(scrape.as_bytes()).unwrap();
    drop(input);
    let said = promtool.wait_with_output().unwrap();
    let words = [said.stdout, said.stderr].concat();
    assert!(
        said.status.success() && words.is_empty(),
        "{}",
        String::from_utf8_lossy(&words)
    );
}

#[tokio::test]
async fn what_may_happen_has_its_series_before_it_does() {
    let kronos = kronos().await;
    let scrape = Scrape::take(&kronos.server).await;
    for (name, labels) in [
        ("kronos_runs_total", &[("outcome", "failed")][..]),
        ("kronos_session_restarts_total", &[("reason", "panic")]),
        ("kronos_store_commit_errors_total", &[]),
        ("kronos_store_read_errors_total", &[]),
        (
            "kronos_gemini_requests_total",
            &[("model", "gemini-3.8-flash"), ("outcome", "upstream_unavailable")],
        ),
        ("kronos_gemini_retries_total", &[("reason", "upstream_unavailable")]),
        ("kronos_refusals_total", &[("bound", "gemini_waiting")]),
        ("kronos_closes_total", &[("code", "4429")]),
        (
            "kronos_tool_calls_total",
            &[("source", "composio"), ("outcome", "unknown")],
        ),
    ] {
        assert_eq!(scrape.count(name, labels), 1, "{name}{labels:?}");
    }
}

#[tokio::test]
async fn a_model_that_a_client_names_is_no_label() {
    let kronos = kronos().await;
    let body = json!({"message": "Hello!", "user_id": "ann", "model": "secret-model"});
    kronos.server.post("/api/v1/chat/message", &[], &body).await;
    until(&kronos, "kronos_gemini_requests_total", &[("model", "other")], 1.0).await;
    let scrape = kronos.server.get("/metrics", &[]).await.text();
    assert!(!scrape.contains("secret-model"));
}

#[tokio::test]
async fn the_circuit_of_the_model_is_shown_while_it_is_open() {
    let env = [
        ("GEMINI_BREAKER_FAILURES", "1"),
        ("GEMINI_BREAKER_OPEN", "1s"),
        ("GEMINI_MAX_ATTEMPTS", "1"),
    ];
    let kronos = kronos_with(400.0, &env).await;
    let body = json!({"message": "[[503]] a", "user_id": "ann"});
    kronos.server.post("/api/v1/chat/message", &[], &body).await;
    let failed = [("outcome", "upstream_unavailable")];
    until(&kronos, "kronos_gemini_requests_total", &failed, 1.0).await;
    // Time alone half opens it; a success closes it.
    until(&kronos, "kronos_gemini_circuit", &[], 1.0).await;
    let body = json!({"message": "Hello!", "user_id": "ann"});
    kronos.server.post("/api/v1/chat/message", &[], &body).await.expect(200);
    until(&kronos, "kronos_gemini_circuit", &[], 0.0).await;
}

#[tokio::test]
async fn who_waits_for_a_permit_is_measured() {
    let env = [("GEMINI_MAX_CONCURRENT", "1"), ("GEMINI_IDLE_TIMEOUT", "30s")];
    let kronos = kronos_with(400.0, &env).await;
    let mut first = kronos.client("ann").await;
    let stalled = first.attach_new().await;
    first
        .send(&stalled, "m_1", "[[stall]] [[tokens 40]] a", SendMode::Queue)
        .await;
    until(&kronos, "kronos_gemini_running", &[], 1.0).await;
    let mut second = kronos.client("bob").await;
    let session = second.attach_new().await;
    second.send(&session, "m_1", "Hello!", SendMode::Queue).await;
    until(&kronos, "kronos_gemini_waiting", &[], 1.0).await;
    let waits = [("upstream", "gemini")];
    let scrape = Scrape::take(&kronos.server).await;
    assert_eq!(scrape.sum("kronos_permit_wait_seconds_count", &waits), 1.0);
    assert_eq!(scrape.sum("kronos_permit_wait_seconds_sum", &waits), 0.0);
    first.cancel(&stalled).await.expect("cancelled");
    until(&kronos, "kronos_permit_wait_seconds_count", &waits, 2.0).await;
    let scrape = Scrape::take(&kronos.server).await;
    assert!(scrape.sum("kronos_permit_wait_seconds_sum", &waits) > 0.0);
}

#[tokio::test]
async fn every_core_watches_how_late_it_is() {
    let kronos = kronos_with(400.0, &[("WORKERS", "2")]).await;
    for arbiter in ["core", "composio"] {
        eventually(LIMIT, "it has looked", || async {
            let scrape = Scrape::take(&kronos.server).await;
            scrape.sum("kronos_arbiter_lag_seconds_count", &[("arbiter", arbiter)]) >= 2.0
        })
        .await;
    }
}

#[tokio::test]
async fn accounts_are_counted_by_their_status_also_after_a_restart() {
    let composio = ComposioSim::start(ComposioSimConfig::default()).expect("the simulator starts");
    let url = composio.url();
    let env = [
        ("COMPOSIO_BASE_URL", url.as_str()),
        ("COMPOSIO_API_KEY", "ak_test"),
        ("COMPOSIO_BACKOFF", "5ms"),
    ];
    let mut kronos = kronos_with(400.0, &env).await;
    let id = composio.connect("ann", "github").expect("an account");
    composio.script(vec![ComposioScript::fault("503")]);
    let list = "/api/v1/composio/connections/ann";
    kronos.server.get(list, &[]).await.expect(200);
    let accounts = "kronos_composio_connections";
    until(&kronos, accounts, &[("status", "ACTIVE")], 1.0).await;
    let scrape = Scrape::take(&kronos.server).await;
    for (name, labels) in [
        (
            "kronos_composio_requests_total",
            &[("operation", "accounts_list"), ("outcome", "unavailable")][..],
        ),
        (
            "kronos_composio_requests_total",
            &[("operation", "accounts_list"), ("outcome", "ok")],
        ),
        ("kronos_composio_retries_total", &[("reason", "unavailable")]),
        ("kronos_permit_wait_seconds_count", &[("upstream", "composio")]),
    ] {
        assert_eq!(scrape.sum(name, labels), 1.0, "{name}{labels:?}");
    }
    assert!(composio.set_status(&id, "EXPIRED"));
    let shown = format!("/api/v1/composio/connections/account/{id}?user_id=ann");
    kronos.server.get(&shown, &[]).await.expect(200);
    until(&kronos, accounts, &[("status", "EXPIRED")], 1.0).await;
    until(&kronos, accounts, &[], 1.0).await;
    let changed = "kronos_composio_connection_changes_total";
    until(&kronos, changed, &[("status", "EXPIRED")], 1.0).await;
    kronos.server.restart().await;
    until(&kronos, accounts, &[("status", "EXPIRED")], 1.0).await;
    let gone = format!("/api/v1/composio/connections/{id}?user_id=ann");
    kronos.server.request("DELETE", &gone, &[], None).await.expect(200);
    until(&kronos, accounts, &[], 0.0).await;
}
