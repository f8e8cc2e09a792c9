//! What is not part of this version says so.

use serde_json::{Value, json};

use crate::harness::{Answer as _, Edge};

/// Every route of the section Agent: method, path, and the setting that it names.
fn routes() -> Vec<(&'static str, String, &'static str)> {
    let mut routes = Vec::new();
    for (method, path) in [
        ("POST", "invoke"),
        ("POST", "stream"),
        ("POST", "analyze-intent"),
        ("POST", "ag-ui"),
        ("GET", "capabilities"),
        ("GET", "runs/r_1"),
        ("POST", "runs/r_1/cancel"),
        ("POST", "runs/r_1/approvals/t_1"),
    ] {
        routes.push((method, format!("/api/v1/agent/{path}"), "GEMINI_API_KEY"));
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
    edge.call("DELETE", "/api/v1/agent/invoke", &[], None).await.is(405);
    edge.finish().await;
}
