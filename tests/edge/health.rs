//! Health and metrics.

use kronos::config::Environment;
use serde_json::json;

use crate::harness::{Answer as _, Edge};

#[actix_web::test]
async fn health_needs_no_token_and_has_its_shape() {
    let edge = Edge::start().await;
    for path in ["/health", "/api/v1/health/", "/api/v1/health"] {
        assert_eq!(
            edge.get(path, None).await.expect(200),
            json!({"status": "healthy"}),
            "{path}"
        );
    }
    edge.get("/health/live", None).await.is(200);
    edge.get("/health/ready", None).await.is(200);
    let body = edge.get("/api/v1/health/detailed", None).await.expect(200);
    assert_eq!(
        (body["status"].as_str(), body["environment"].as_str()),
        (Some("healthy"), Some("development"))
    );
    assert!(body["timestamp"].is_string() && body["version"].is_string());
    for service in ["database", "composio", "gemini"] {
        let alone = edge.get(&format!("/api/v1/health/{service}"), None).await.expect(200);
        assert_eq!(alone["status"], body["services"][service]["status"], "{service}");
        assert!(alone["configured"].is_boolean());
    }
    assert_eq!(body["services"]["composio"]["status"], "not_configured");
    edge.finish().await;
}

#[actix_web::test]
async fn a_simulated_model_says_so_and_production_never_simulates() {
    let gemini = "/api/v1/health/gemini";
    let simulated = Edge::with(|config| config.simulator.start = true).await;
    assert_eq!(simulated.get(gemini, None).await.expect(200)["status"], "simulated");
    simulated.finish().await;
    let production = Edge::with(|config| config.server.environment = Environment::Production).await;
    assert_eq!(
        production.get(gemini, None).await.expect(200)["status"],
        "not_configured"
    );
    production.finish().await;
}

#[actix_web::test]
async fn every_metric_shown_is_declared() {
    let edge = Edge::start().await;
    edge.login("ada").await;
    edge.get("/nope/some/user", None).await;
    let text = edge.get("/metrics", None).await.text();
    assert!(
        text.contains("kronos_http_requests_total") && text.contains("kronos_http_request_duration_seconds_bucket")
    );
    assert!(
        text.contains(r#"route="unmatched""#) && !text.contains("some/user"),
        "paths are no labels"
    );
    for line in text.lines().filter(|line| line.starts_with("# TYPE kronos_")) {
        let name = line.split(' ').nth(2).expect("a name");
        assert!(
            kronos_actors::metrics::ALL.iter().any(|metric| metric.name == name),
            "{name} is not declared"
        );
    }
    edge.finish().await;
}
