//! What every answer carries.

use kronos::config::Environment;

use crate::harness::Edge;

#[actix_web::test]
async fn every_answer_has_the_security_headers_and_an_id() {
    let edge = Edge::start().await;
    for path in ["/health", "/nope", "/api/v1/auth/me", "/metrics"] {
        let reply = edge.get(path, None).await;
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("x-frame-options"), Some("DENY"));
        assert_eq!(reply.header("referrer-policy"), Some("strict-origin-when-cross-origin"));
        assert!(reply.header("permissions-policy").is_some());
        let policy = reply.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'") && !policy.contains("unsafe"),
            "{policy}"
        );
        assert!(reply.header("strict-transport-security").is_none());
        assert!(reply.header("x-request-id").is_some_and(|id| id.starts_with("req_")));
        assert!(
            reply
                .header("x-process-time")
                .is_some_and(|time| time.parse::<f64>().is_ok())
        );
        assert!(reply.header("content-encoding").is_none());
    }
    edge.finish().await;
    let production = Edge::with(|config| config.server.environment = Environment::Production).await;
    assert!(
        production
            .get("/health", None)
            .await
            .header("strict-transport-security")
            .is_some()
    );
    production.finish().await;
}

#[actix_web::test]
async fn a_sane_request_id_is_taken_and_another_is_replaced() {
    let edge = Edge::start().await;
    for (given, taken) in [
        ("abc-1.2_3", true),
        ("a b", false),
        ("<x>", false),
        (&"x".repeat(128), true),
        (&"x".repeat(129), false),
    ] {
        let reply = edge.call("GET", "/nope", &[("X-Request-ID", given)], None).await;
        assert_eq!(reply.header("x-request-id") == Some(given), taken, "{given}");
        assert_eq!(
            reply.json()["error"]["request_id"].as_str(),
            reply.header("x-request-id")
        );
    }
    edge.finish().await;
}

#[actix_web::test]
async fn other_origins_may_read_only_when_listed() {
    let edge = Edge::with(|config| config.server.allowed_hosts = vec!["https://app.example.com".to_owned()]).await;
    let preflight = async |origin: &str| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        edge.call("OPTIONS", "/api/v1/auth/login", &headers, None).await
    };
    let good = preflight("https://app.example.com").await;
    assert_eq!(
        (good.status, good.header("access-control-allow-origin")),
        (204, Some("https://app.example.com"))
    );
    let bad = preflight("https://evil.example.com").await;
    assert_eq!(bad.header("access-control-allow-origin"), None);
    let error = edge
        .call("GET", "/nope", &[("Origin", "https://app.example.com")], None)
        .await;
    assert_eq!(
        (error.status, error.header("access-control-allow-origin")),
        (404, Some("https://app.example.com"))
    );
    edge.finish().await;
}

#[actix_web::test]
async fn large_bodies_are_compressed_and_small_ones_are_not() {
    let edge = Edge::start().await;
    let headers = [("Accept-Encoding", "gzip")];
    assert_eq!(
        edge.call("GET", "/health", &headers, None)
            .await
            .header("content-encoding"),
        None
    );
    for _ in 0..3 {
        edge.get("/health", None).await;
    }
    assert_eq!(
        edge.call("GET", "/metrics", &headers, None)
            .await
            .header("content-encoding"),
        Some("gzip")
    );
    edge.finish().await;
}
