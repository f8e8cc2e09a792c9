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
    for (accepted, coding) in [
        ("gzip", Some("gzip")),
        ("br", Some("br")),
        ("gzip, deflate, br, zstd", Some("br")),
        ("br;q=0.1, gzip", Some("gzip")),
        ("identity;q=0", None),
        ("*;q=0", None),
        ("zstd", None),
    ] {
        let reply = edge
            .call("GET", "/openapi.json", &[("Accept-Encoding", accepted)], None)
            .await;
        assert_eq!(
            (reply.status, reply.header("content-encoding")),
            (200, coding),
            "{accepted}"
        );
        assert_eq!(reply.header("vary"), Some("Origin, Accept-Encoding"));
    }
    edge.finish().await;
}

#[actix_web::test]
async fn browsers_of_other_origins_see_all_that_they_need() {
    let edge = Edge::with(|config| config.server.allowed_hosts = vec!["https://app.example.com".to_owned()]).await;
    let origin = ("Origin", "https://app.example.com");
    for path in ["/api/v1/auth/me", "/nope"] {
        let reply = edge.call("GET", path, &[origin], None).await;
        let exposed = reply.header("access-control-expose-headers").expect("exposed headers");
        for name in [
            "x-request-id",
            "x-process-time",
            "retry-after",
            "ratelimit-limit",
            "ratelimit-remaining",
            "ratelimit-reset",
        ] {
            assert!(exposed.contains(name), "{name}");
        }
        assert_eq!(reply.header("access-control-allow-credentials"), None);
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
    let asked = [origin, ("Access-Control-Request-Method", "DELETE")];
    let reply = edge.call("OPTIONS", "/nowhere/at/all", &asked, None).await;
    assert_eq!(reply.status, 204);
    let methods = reply.header("access-control-allow-methods").expect("methods");
    assert!(methods.contains("DELETE") && methods.contains("PATCH"), "{methods}");
    let headers = reply.header("access-control-allow-headers").expect("headers");
    assert!(
        headers.contains("authorization") && headers.contains("last-event-id"),
        "{headers}"
    );
    assert!(
        reply
            .header("vary")
            .is_some_and(|vary| vary.contains("Access-Control-Request-Method"))
    );
    // Without the question of a preflight it is a method like any other.
    assert_eq!(edge.call("OPTIONS", "/health", &[origin], None).await.status, 405);
    edge.finish().await;
}

#[actix_web::test]
async fn a_page_cannot_say_that_it_is_the_servers_own() {
    let edge = Edge::start().await;
    let headers = [
        ("Origin", "https://evil.example.com"),
        ("X-Forwarded-Host", "evil.example.com"),
        ("Forwarded", "host=evil.example.com"),
    ];
    let reply = edge.call("GET", "/nope", &headers, None).await;
    assert_eq!(reply.header("access-control-allow-origin"), None);
    edge.finish().await;
    let behind = Edge::with(|config| {
        config.server.trusted_proxies = vec![kronos::config::Network::read("127.0.0.1").expect("a network")];
    })
    .await;
    let reply = behind.call("GET", "/nope", &headers, None).await;
    assert!(reply.header("access-control-allow-origin").is_some());
    behind.finish().await;
}
