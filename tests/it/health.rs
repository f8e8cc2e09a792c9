//! Health as operators see it: what traffic shows, what a slow probe finds, and that asking costs nothing.

use std::time::Duration;

use kronos_testkit::eventually;
use serde_json::Value;

use crate::harness::{Kronos, kronos_with};

const LIMIT: Duration = Duration::from_secs(10);

async fn health(kronos: &Kronos, service: &str) -> Value {
    let path = format!("/api/v1/health/{service}");
    kronos.server.get(&path, &[]).await.expect(200)
}

/// Waits until a service has a status, and returns what it says.
async fn until(kronos: &Kronos, service: &str, status: &str) -> Value {
    eventually(LIMIT, &format!("{service} is {status}"), || async {
        let health = health(kronos, service).await;
        if health["status"] == status {
            Ok(health)
        } else {
            Err(health)
        }
    })
    .await
}

/// Waits until a service was asked at least once.
async fn until_checked(kronos: &Kronos, service: &str, mark: &str) -> Value {
    eventually(LIMIT, &format!("{service} was asked"), || async {
        let health = health(kronos, service).await;
        if health[mark].is_string() {
            Ok(health)
        } else {
            Err(health)
        }
    })
    .await
}

#[tokio::test]
async fn a_probe_finds_out_what_no_traffic_tells_and_costs_no_tokens() {
    let kronos = kronos_with(0.0, &[("HEALTH_PROBE_INTERVAL", "200ms")]).await;
    let gemini = until_checked(&kronos, "gemini", "last_success").await;
    assert_eq!(
        (&gemini["status"], &gemini["configured"]),
        (&"healthy".into(), &true.into())
    );
    assert!(gemini["latency_ms"].is_u64() && gemini["error"].is_null(), "{gemini}");
    assert_eq!(gemini["circuit"], "closed");
    let database = until_checked(&kronos, "database", "checked_at").await;
    assert!(
        database["latency_ms"].is_u64() && database["commits"].as_u64() > Some(0),
        "{database}"
    );
    let composio = health(&kronos, "composio").await;
    assert_eq!(composio["status"], "simulated");

    let asked = kronos.gemini.requests();
    assert!(!asked.is_empty());
    for request in &asked {
        assert_eq!(request.method, "GET", "{request:?}");
        assert!(request.path.contains("/models/gemini"), "{request:?}");
        assert_eq!(request.headers["x-goog-api-key"], "***");
        assert!(!request.query.contains_key("key"), "{request:?}");
    }
    // Asking for health asks nobody else.
    kronos.server.get("/api/v1/health/detailed", &[]).await.expect(200);
    assert!(
        kronos
            .series(r#"kronos_health_probes_total{service="gemini",result="ok"}"#)
            .await
            > 0
    );
}

#[tokio::test]
async fn a_key_that_is_refused_shows_without_any_traffic_and_goes_when_it_is_taken() {
    let kronos = kronos_with(0.0, &[("HEALTH_PROBE_INTERVAL", "200ms")]).await;
    until_checked(&kronos, "gemini", "last_success").await;
    kronos
        .gemini
        .set_config(|config| config.invalid_keys = vec!["test-key".to_owned()]);
    let gemini = until(&kronos, "gemini", "unhealthy").await;
    assert_eq!(gemini["last_failure_code"], "upstream_auth");
    assert!(
        gemini["error"].as_str().is_some_and(|text| text.contains("key")),
        "{gemini}"
    );
    assert_eq!(gemini["circuit"], "closed", "a probe is no traffic");
    let all = kronos.server.get("/api/v1/health/detailed", &[]).await.expect(200);
    assert_eq!(
        (&all["status"], &all["services"]["gemini"]["status"]),
        (&"degraded".into(), &"unhealthy".into())
    );
    kronos.server.get("/health", &[]).await.expect(200);
    kronos.server.get("/health/ready", &[]).await.expect(200);
    kronos.gemini.set_config(|config| config.invalid_keys = Vec::new());
    let gemini = until(&kronos, "gemini", "healthy").await;
    assert!(
        gemini["error"].is_null() && gemini["last_failure"].is_string(),
        "{gemini}"
    );
}

#[tokio::test]
async fn an_upstream_that_is_gone_degrades_and_a_circuit_that_may_try_again_says_so() {
    let env = [
        ("HEALTH_PROBE_INTERVAL", "100ms"),
        ("GEMINI_BREAKER_FAILURES", "1"),
        ("GEMINI_BREAKER_OPEN", "300ms"),
        ("GEMINI_MAX_ATTEMPTS", "1"),
    ];
    let kronos = kronos_with(0.0, &env).await;
    let body = serde_json::json!({"message": "[[503]] a", "user_id": "ann"});
    kronos.server.post("/api/v1/chat/message", &[], &body).await.expect(503);
    // Nobody asks again: time alone makes it half open, and a probe that is answered makes it well.
    let gemini = until(&kronos, "gemini", "healthy").await;
    assert_eq!(gemini["circuit"], "half_open", "{gemini}");
    assert_eq!(gemini["last_failure_code"], "upstream_unavailable");
    let Kronos { server, gemini } = kronos;
    gemini.stop();
    let all = eventually(LIMIT, "it is degraded", || async {
        let all = server.get("/api/v1/health/detailed", &[]).await.expect(200);
        if all["status"] == "degraded" { Ok(all) } else { Err(all) }
    })
    .await;
    assert_eq!(all["services"]["database"]["status"], "healthy");
    let text = all.to_string();
    assert!(!text.contains("127.0.0.1") && !text.contains("test-key"), "{text}");
}

#[tokio::test]
async fn composio_is_reached_or_it_is_not() {
    // The simulator of the model knows no route of Composio: that it answers is what counts.
    let gemini = kronos_sim::GeminiSim::start(kronos_sim::SimConfig::default()).expect("the simulator starts");
    for (url, status, overall) in [
        (gemini.url(), "healthy", "healthy"),
        ("http://127.0.0.1:9".to_owned(), "unhealthy", "degraded"),
    ] {
        let env = [
            ("HEALTH_PROBE_INTERVAL", "200ms"),
            ("COMPOSIO_API_KEY", "a-secret-key"),
            ("COMPOSIO_BASE_URL", url.as_str()),
        ];
        let kronos = kronos_with(0.0, &env).await;
        let composio = until_checked(
            &kronos,
            "composio",
            if status == "healthy" {
                "last_success"
            } else {
                "last_failure"
            },
        )
        .await;
        assert_eq!(
            (&composio["status"], &composio["configured"]),
            (&status.into(), &true.into()),
            "{composio}"
        );
        assert_eq!(composio["latency_ms"].is_u64(), status == "healthy");
        assert_eq!(composio["error"].is_string(), status == "unhealthy", "{composio}");
        let all = kronos.server.get("/api/v1/health/detailed", &[]).await.expect(200);
        assert_eq!(all["status"], overall, "{all}");
        assert!(!all.to_string().contains("a-secret-key"));
    }
    let asked = gemini.requests();
    assert!(asked.iter().any(|request| request.path == "/api/v3.1/toolkits") || asked.is_empty());
}

#[tokio::test]
async fn without_an_interval_nobody_is_asked() {
    let kronos = kronos_with(0.0, &[("HEALTH_PROBE_INTERVAL", "0")]).await;
    for _ in 0..20 {
        kronos.server.get("/api/v1/health/detailed", &[]).await.expect(200);
    }
    assert!(kronos.gemini.requests().is_empty());
    let gemini = health(&kronos, "gemini").await;
    assert_eq!(
        (&gemini["status"], &gemini["last_success"]),
        (&"healthy".into(), &Value::Null)
    );
}
