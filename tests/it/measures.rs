//! Metrics of sessions, cursors and runs: each trouble shows where it should, and is gone when the trouble is.

use std::time::Duration;

use kronos_protocol::SendMode;
use kronos_testkit::eventually;
use serde_json::{Value, json};

use crate::{
    agent::{Agent, Device, ISSUE, agent_with},
    harness::{Kronos, kronos_with},
    slow_readers::dead_reader,
};

const LIMIT: Duration = Duration::from_secs(20);

/// The value of a series, labels and all; 0 when there is none.
async fn series(kronos: &Kronos, name: &str) -> f64 {
    let text = kronos.server.get("/metrics", &[]).await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

async fn until(kronos: &Kronos, name: &str, what: &str, fits: impl Fn(f64) -> bool) {
    eventually(LIMIT, &format!("{name} {what}"), || async {
        let value = series(kronos, name).await;
        if fits(value) { Ok(()) } else { Err(value) }
    })
    .await;
}

#[tokio::test]
async fn a_reader_that_takes_nothing_lags_until_it_is_gone() {
    let kronos = kronos_with(1000.0, &[("UNREAD_BYTES", "16KiB")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let dead = dead_reader(&kronos, &session).await;
    until(&kronos, "kronos_attachments", "counts both", |value| value == 2.0).await;
    client.ask(&session, "m_1", "[[tokens 3000]] a long story").await;
    until(&kronos, "kronos_cursors_lagging", "tells of one", |value| value == 1.0).await;
    assert!(series(&kronos, "kronos_cursor_lag_events").await > 0.0);
    drop(dead);
    until(&kronos, "kronos_cursors_lagging", "tells of none", |value| value == 0.0).await;
    until(&kronos, "kronos_cursor_lag_events", "is none", |value| value == 0.0).await;
    until(&kronos, "kronos_attachments", "counts one", |value| value == 1.0).await;
    assert!(series(&kronos, "kronos_delta_delivery_seconds_count").await > 0.0);
    let appended = series(&kronos, "kronos_events_appended_total").await;
    let merged = series(&kronos, "kronos_events_merged_total").await;
    let delivered = series(&kronos, "kronos_events_delivered_total").await;
    assert!(
        merged < appended && delivered >= appended - merged,
        "{appended} {merged} {delivered}"
    );
}

#[tokio::test]
async fn runs_are_counted_by_how_they_end() {
    let kronos = kronos_with(400.0, &[("GEMINI_BACKOFF", "5ms")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "[[tokens 200]] a").await;
    client.ask(&session, "m_2", "[[400]] a").await;
    client
        .send(&session, "m_3", "[[stall]] [[tokens 40]] a", SendMode::Queue)
        .await;
    client.until_running(&session).await;
    until(&kronos, "kronos_runs_active", "counts it", |value| value == 1.0).await;
    client.cancel(&session).await.expect("cancelled");
    until(&kronos, "kronos_runs_active", "counts none", |value| value == 0.0).await;
    for (outcome, count) in [("finished", 1.0), ("failed", 1.0), ("cancelled", 1.0)] {
        let name = format!("kronos_runs_total{{outcome=\"{outcome}\"}}");
        until(&kronos, &name, "counts one", |value| value == count).await;
    }
    let failed = "kronos_run_failures_total{code=\"upstream_error\"}";
    assert_eq!(series(&kronos, failed).await, 1.0);
    assert_eq!(series(&kronos, "kronos_run_duration_seconds_count").await, 3.0);
    assert!(series(&kronos, "kronos_run_first_token_seconds_count").await >= 1.0);
    assert!(series(&kronos, "kronos_token_gap_seconds_count").await >= 1.0);
}

async fn waiting(agent: &Agent, count: f64) {
    until(&agent.kronos, "kronos_questions_waiting", "is right", |value| {
        value == count
    })
    .await;
}

#[tokio::test]
async fn questions_wait_over_a_passivation_and_a_restart_until_they_are_answered() {
    let mut agent = agent_with(&[("SESSION_IDLE_TIMEOUT", "1s")]).await;
    agent.composio.connect("ann", "github").unwrap();
    waiting(&agent, 0.0).await;
    let mut device = Device::new(&agent, "ann").await;
    device.say("m_1", ISSUE).await;
    let questions: Vec<Value> = device.questions().await;
    waiting(&agent, 1.0).await;
    until(&agent.kronos, "kronos_sessions_hibernated", "counts it", |value| {
        value >= 1.0
    })
    .await;
    waiting(&agent, 1.0).await;
    until(&agent.kronos, "kronos_question_oldest_seconds", "grows", |value| {
        value > 0.0
    })
    .await;
    agent.kronos.server.restart().await;
    waiting(&agent, 1.0).await;
    until(&agent.kronos, "kronos_question_oldest_seconds", "goes on", |value| {
        value > 1.0
    })
    .await;
    assert_eq!(series(&agent.kronos, "kronos_question_wait_seconds_count").await, 0.0);
    let session = device.session.clone();
    let mut device = Device::again(&agent, &session, "ann").await;
    device.answer(&questions[0], json!({"approved": true})).await.unwrap();
    waiting(&agent, 0.0).await;
    assert_eq!(series(&agent.kronos, "kronos_question_oldest_seconds").await, 0.0);
    assert_eq!(series(&agent.kronos, "kronos_question_wait_seconds_count").await, 1.0);
}

#[tokio::test]
async fn questions_of_a_deleted_conversation_wait_no_more() {
    let mut agent = agent_with(&[]).await;
    agent.composio.connect("ann", "github").unwrap();
    let mut device = Device::new(&agent, "ann").await;
    device.say("m_1", ISSUE).await;
    device.questions().await;
    waiting(&agent, 1.0).await;
    let path = format!("/api/v1/chat/{}?user_id=ann", device.session);
    let reply = agent.kronos.server.request("DELETE", &path, &[], None).await;
    assert!(reply.status < 300, "{}", reply.status);
    waiting(&agent, 0.0).await;
    agent.kronos.server.restart().await;
    waiting(&agent, 0.0).await;
}
