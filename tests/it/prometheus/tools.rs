//! `promtool` over what is written, and over what a server answers.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::{grafana, process::find};
use crate::harness::kronos;

/// Runs it in the folder `grafana`; what it said must be nothing but praise.
fn promtool(arguments: &[&str], stdin: &str) {
    let Some(promtool) = find("promtool") else { return };
    let mut child = Command::new(promtool)
        .args(arguments)
        .current_dir(grafana(""))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    assert!(!said.contains("FAILED"), "{said}");
}

#[test]
fn the_rules_are_right() {
    promtool(&["check", "rules", "alerts.yaml"], "");
}

#[test]
fn the_configuration_is_right() {
    promtool(&["check", "config", "prometheus.yml"], "");
}

#[test]
fn each_trouble_fires_its_alerts_and_health_none() {
    promtool(&["test", "rules", "alerts_test.yaml"], "");
}

#[tokio::test]
async fn a_scrape_has_nothing_that_prometheus_complains_of() {
    let kronos = kronos().await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "What is the capital of Japan?").await;
    client.finish().await;
    let scrape = kronos.server.get("/metrics", &[]).await.text();
    promtool(&["check", "metrics"], &scrape);
}
