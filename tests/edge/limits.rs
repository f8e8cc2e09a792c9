//! Rate limits: who is counted, where, and what answers say about it.

use std::time::Duration;

use kronos::config::{AuthMode, Network};
use kronos_testkit::HttpReply;
use serde_json::json;

use crate::harness::{Answer as _, Edge};

fn number(reply: &HttpReply, name: &str) -> u64 {
    let value = reply.header(name).unwrap_or_else(|| panic!("no {name}"));
    value.parse().expect("a number")
}

fn refused(reply: &HttpReply, limit: u64) {
    let body = reply.expect(429);
    assert_eq!(body["error"]["code"], "RATE_LIMIT_EXCEEDED");
    assert_eq!(body["error"]["details"], json!({"limit": limit, "window_seconds": 60}));
    assert_eq!(body["error"]["request_id"].as_str(), reply.header("x-request-id"));
    let wait = number(reply, "retry-after");
    assert!((1..=120).contains(&wait), "{wait}");
    assert_eq!(number(reply, "ratelimit-reset"), wait, "one moment");
    assert_eq!(
        (number(reply, "ratelimit-limit"), number(reply, "ratelimit-remaining")),
        (limit, 0)
    );
}

#[actix_web::test]
async fn an_address_has_its_limit_and_each_answer_says_how_it_stands() {
    let edge = Edge::with(|config| {
        config.server.rate_limit_per_address = 3;
        config.auth.mode = AuthMode::Development;
    })
    .await;
    for left in [2, 1, 0] {
        let reply = edge.get("/api/v1/auth/me", None).await;
        reply.is(200);
        assert_eq!(
            (number(&reply, "ratelimit-limit"), number(&reply, "ratelimit-remaining")),
            (3, left)
        );
        assert!((60..=120).contains(&number(&reply, "ratelimit-reset")));
        assert_eq!(reply.header("ratelimit-policy"), Some("3;w=60"));
        assert_eq!(reply.header("retry-after"), None);
    }
    refused(&edge.get("/api/v1/auth/me", None).await, 3);
    refused(&edge.get("/nope", None).await, 3);
    // Probes, metrics and preflights are not counted, and not refused.
    for path in ["/health", "/health/ready", "/api/v1/health/detailed", "/metrics"] {
        let reply = edge.get(path, None).await;
        reply.is(200);
        assert_eq!(reply.header("ratelimit-limit"), None, "{path}");
    }
    let headers = [("Origin", "http://x"), ("Access-Control-Request-Method", "GET")];
    edge.call("OPTIONS", "/nope", &headers, None).await.is(204);
    let metrics = edge.get("/metrics", None).await.text();
    assert!(
        metrics.contains(r#"kronos_refusals_total{bound="rate_limit_per_address"}"#),
        "{metrics}"
    );
    edge.finish().await;
}

#[actix_web::test]
async fn a_user_has_its_limit_wherever_it_calls_from() {
    let edge = Edge::with(|config| {
        config.server.rate_limit_per_user = 2;
        config.server.trusted_proxies = vec![Network::read("127.0.0.1").expect("a network")];
    })
    .await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let me = async |token: &str, from: &str| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", bearer.as_str()), ("X-Forwarded-For", from)];
        edge.call("GET", "/api/v1/auth/me", &headers, None).await
    };
    for (from, left) in [("192.0.2.1", 1), ("192.0.2.2", 0)] {
        let reply = me(&ada.access, from).await;
        reply.is(200);
        assert_eq!(
            (number(&reply, "ratelimit-limit"), number(&reply, "ratelimit-remaining")),
            (2, left),
            "the tighter of the two limits"
        );
    }
    refused(&me(&ada.access, "192.0.2.3").await, 2);
    me(&eve.access, "192.0.2.3").await.is(200);
    // A bad token is nobody's.
    let reply = me("x", "192.0.2.3").await;
    reply.is(401);
    assert_eq!(number(&reply, "ratelimit-limit"), 12_000);
    edge.finish().await;
}

#[actix_web::test]
async fn passwords_can_be_tried_a_few_times_only_however_the_path_is_written() {
    let edge = Edge::with(|config| config.server.rate_limit_auth = 3).await;
    let body = json!({"username": "ada", "password": "wrong"});
    for path in ["/api/v1/auth/login", "/api/v1/auth/l%6Fgin", "/api/v1/auth/login?x=1"] {
        edge.post(path, None, body.clone()).await.is(401);
    }
    for path in [
        "/api/v1/auth/login",
        "/api/v1/auth/l%6fgin",
        "/api/v1/auth/refresh",
        "/api/v1/auth/signup",
    ] {
        refused(&edge.post(path, None, body.clone()).await, 3);
    }
    edge.get("/api/v1/auth/me", None).await.is(401);
    edge.finish().await;
}

#[actix_web::test]
async fn only_a_trusted_proxy_says_who_asks() {
    let limit = |config: &mut kronos::config::Config| config.server.rate_limit_per_address = 1;
    let ask = async |edge: &Edge, from: &str| edge.call("GET", "/nope", &[("X-Forwarded-For", from)], None).await;
    let plain = Edge::with(limit).await;
    ask(&plain, "192.0.2.1").await.is(404);
    refused(&ask(&plain, "192.0.2.2").await, 1);
    plain.finish().await;

    let behind = Edge::with(|config| {
        limit(config);
        config.server.trusted_proxies = vec![Network::read("127.0.0.0/8").expect("a network")];
    })
    .await;
    ask(&behind, "192.0.2.1").await.is(404);
    ask(&behind, "192.0.2.2, 127.0.0.9").await.is(404);
    refused(&ask(&behind, "10.9.9.9, 192.0.2.1").await, 1);
    // One site of IPv6 is one client.
    ask(&behind, "2001:db8:1:2::1").await.is(404);
    refused(&ask(&behind, "2001:db8:1:2:ffff::2").await, 1);
    ask(&behind, "2001:db8:1:3::1").await.is(404);
    // What cannot be read is the proxy's own, and never somebody else's.
    ask(&behind, "unknown").await.is(404);
    refused(&ask(&behind, "192.0.2.9, garbage").await, 1);
    behind.finish().await;
}

#[actix_web::test]
async fn a_window_ends_and_limits_of_nothing_limit_nothing() {
    let edge = Edge::with(|config| {
        config.server.rate_limit_per_address = 1;
        config.server.rate_limit_window = Duration::from_secs(1);
    })
    .await;
    edge.get("/nope", None).await.is(404);
    kronos_testkit::eventually(Duration::from_secs(10), "it is served again", async || {
        edge.get("/nope", None).await.status == 404
    })
    .await;
    edge.finish().await;
    let free = Edge::with(|config| {
        config.server.rate_limit_per_address = 0;
        config.server.rate_limit_per_user = 0;
        config.server.rate_limit_auth = 0;
    })
    .await;
    let reply = free.get("/nope", None).await;
    reply.is(404);
    assert_eq!(reply.header("ratelimit-limit"), None);
    free.finish().await;
}
