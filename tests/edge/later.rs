//! What is not configured says so.

use serde_json::{Value, json};

use crate::harness::{Answer as _, Edge};

/// Every route of the section Composio: method, path, and the setting that it names.
fn routes() -> Vec<(&'static str, String, &'static str)> {
    let mut routes = Vec::new();
    for (method, path) in [
        ("POST", "connections/initiate"),
        ("POST", "connections/initiate-enhanced"),
        ("GET", "connections/ada"),
        ("GET", "connections/account/ca_1"),
        ("POST", "connections/ca_1/enable"),
        ("POST", "connections/ca_1/disable"),
        ("POST", "connections/ca_1/refresh"),
        ("DELETE", "connections/ca_1"),
        ("POST", "tools/execute"),
        ("GET", "auth-configs"),
        ("POST", "auth-configs"),
        ("GET", "auth-configs/ac_1"),
        ("PUT", "auth-configs/ac_1"),
        ("DELETE", "auth-configs/ac_1"),
        ("GET", "toolkits"),
        ("GET", "toolkits/gmail/actions"),
    ] {
        routes.push((method, format!("/api/v1/composio/{path}"), "COMPOSIO_API_KEY"));
    }
    routes
}

fn is_missing(body: &Value, setting: &str) {
    assert_eq!(body["error"]["code"], "CONFIGURATION_ERROR", "{body}");
    assert_eq!(body["error"]["details"], json!({"config_key": setting}));
}

#[actix_web::test]
async fn every_route_wants_a_token_and_names_the_setting_that_is_missing() {
    let edge = Edge::start().await;
    let ada = edge.login("ada").await;
    for (method, path, setting) in routes() {
        edge.call(method, &path, &[], None).await.is(401);
        let bearer = format!("Bearer {}", ada.access);
        let reply = edge.call(method, &path, &[("Authorization", &bearer)], None).await;
        assert_eq!(reply.status, 503, "{method} {path}: {}", reply.text());
        is_missing(&reply.json(), setting);
        assert_eq!(reply.header("retry-after"), None, "no use in trying again");
    }
    is_missing(
        &edge
            .post("/api/v1/composio/webhook", None, json!({"type": "x"}))
            .await
            .expect(503),
        "COMPOSIO_API_KEY",
    );
    edge.call("DELETE", "/api/v1/composio/toolkits", &[], None)
        .await
        .is(405);
    edge.finish().await;
}

#[actix_web::test]
async fn composio_says_whether_it_is_configured() {
    let path = "/api/v1/composio/health";
    for key in [None, Some("key")] {
        let edge = Edge::with(|config| {
            config.composio.api_key = key.map(Into::into);
            config.server.health_probe_interval = std::time::Duration::ZERO;
        })
        .await;
        let ada = edge.login("ada").await;
        edge.get(path, None).await.is(401);
        let body = edge.get(path, Some(&ada.access)).await.expect(200);
        assert_eq!(body["configured"], key.is_some());
        assert!(body["message"].as_str().is_some_and(|text| text.contains("Composio")));
        let health = edge.get("/api/v1/health/composio", None).await.expect(200);
        let status = if key.is_some() { "healthy" } else { "not_configured" };
        assert_eq!(
            (&health["configured"], &health["status"]),
            (&json!(key.is_some()), &json!(status))
        );
        let reply = edge
            .get("/api/v1/composio/toolkits", Some(&ada.access))
            .await
            .expect(503);
        is_missing(&reply, "COMPOSIO_API_KEY");
        edge.finish().await;
    }
}
