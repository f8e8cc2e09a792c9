//! Clients that are slow, stop, or do not speak HTTP: each is answered in the one shape where it can be, and cut.

use std::time::Duration;

use kronos::config::{AuthMode, Config};
use kronos_testkit::HttpReply;
use serde_json::json;

use crate::{
    harness::{Answer as _, Edge},
    wire::Wire,
};

const ME: &str = "GET /api/v1/auth/me HTTP/1.1\r\nHost: x\r\n\r\n";

/// A server for guests that waits a moment only for the rest of what it refused.
async fn impatient(change: impl FnOnce(&mut Config)) -> Edge {
    Edge::with(|config| {
        config.auth.mode = AuthMode::Development;
        config.server.disconnect_timeout = Duration::from_millis(300);
        change(config);
    })
    .await
}

/// Checks that an answer that may be made by none of our handlers has our shape and our headers.
fn in_shape(reply: &HttpReply, status: u16, code: &str) {
    let body = reply.expect(status);
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(body["error"]["request_id"].is_string());
    assert_eq!(body["error"]["request_id"].as_str(), reply.header("x-request-id"));
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert!(reply.header("content-security-policy").is_some() && reply.header("x-process-time").is_some());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.header("date").is_some());
}

async fn refusals(edge: &Edge, bound: &str) -> u64 {
    let text = edge.get("/metrics", None).await.text();
    let name = format!("kronos_refusals_total{{bound=\"{bound}\"}} ");
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(&name)?.trim().parse().ok());
    value.unwrap_or(0)
}

#[actix_web::test]
async fn a_head_that_does_not_come_is_408_on_the_first_and_on_any_later_request() {
    let edge = impatient(|config| config.server.request_timeout = Duration::from_secs(1)).await;
    let before = refusals(&edge, "request_timeout").await;
    let mut first = Wire::open(edge.addr).await;
    first.send("GET /health HTTP/1.1\r\nHost:").await;
    in_shape(&first.answer().await, 408, "REQUEST_TIMEOUT");
    assert!(first.end().await.is_empty());

    let mut later = Wire::open(edge.addr).await;
    for _ in 0..2 {
        later.send(ME).await;
        later.answer().await.is(200);
    }
    later.send("GET /health HT").await;
    let reply = later.answer().await;
    in_shape(&reply, 408, "REQUEST_TIMEOUT");
    assert_eq!(reply.header("connection"), Some("close"));
    assert!(later.end().await.is_empty());

    // One that drips is as late as one that stops.
    let mut dripping = Wire::open(edge.addr).await;
    dripping.send(ME).await;
    dripping.answer().await.is(200);
    for byte in ME.bytes().cycle() {
        if !dripping.send([byte]).await || refusals(&edge, "request_timeout").await >= before + 3 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Who says nothing at all is told nothing: a browser opens connections ahead.
    let silent = Wire::open(edge.addr).await;
    assert!(silent.end().await.is_empty());
    assert!(refusals(&edge, "request_timeout").await >= before + 4);
    edge.finish().await;
}

#[actix_web::test]
async fn an_idle_connection_is_kept_as_long_as_it_may() {
    let edge = impatient(|config| config.server.request_timeout = Duration::from_secs(1)).await;
    let mut wire = Wire::open(edge.addr).await;
    wire.send(ME).await;
    wire.answer().await.is(200);
    // Longer than a head may take: nothing has begun.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    wire.send(ME).await;
    wire.answer().await.is(200);
    edge.finish().await;
}

#[actix_web::test]
async fn a_body_that_does_not_come_is_408_and_the_connection_ends() {
    let edge = impatient(|config| config.server.body_timeout = Duration::from_millis(300)).await;
    let before = refusals(&edge, "body_timeout").await;
    let heads = [
        "Content-Length: 100\r\n\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        "Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
        "Upgrade: websocket\r\nConnection: upgrade\r\n\r\n{",
    ];
    for head in heads {
        let mut wire = Wire::open(edge.addr).await;
        wire.send(format!("POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\n{head}"))
            .await;
        let text = String::from_utf8(wire.end().await).expect("text");
        let text = text.strip_prefix("HTTP/1.1 100 Continue\r\n\r\n").unwrap_or(&text);
        let reply = kronos_testkit::parse_reply(text.as_bytes()).expect("an answer");
        in_shape(&reply, 408, "REQUEST_TIMEOUT");
        assert_eq!(reply.header("connection"), Some("close"), "{head}");
    }
    assert_eq!(refusals(&edge, "body_timeout").await, before + 4);
    // A drip keeps nothing alive.
    let mut wire = Wire::open(edge.addr).await;
    wire.send("POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n")
        .await;
    while refusals(&edge, "body_timeout").await < before + 5 {
        wire.send("x").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    edge.finish().await;
}

#[actix_web::test]
async fn a_body_that_nobody_reads_holds_no_connection() {
    let edge = impatient(|_| {}).await;
    for head in [
        "Content-Length: 100\r\n\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ] {
        for path in ["/health", "/nope", "/api/v1/auth/ticket"] {
            let mut wire = Wire::open(edge.addr).await;
            let method = if path == "/health" { "GET" } else { "POST" };
            wire.send(format!("{method} {path} HTTP/1.1\r\nHost: x\r\n{head}"))
                .await;
            let reply = wire.answer().await;
            assert!([200, 404].contains(&reply.status), "{path}: {}", reply.text());
            assert_eq!(reply.header("connection"), Some("close"), "{path}");
            assert!(wire.end().await.is_empty());
        }
    }
    edge.finish().await;
}

#[actix_web::test]
async fn a_body_over_the_limit_is_413_whoever_would_read_it() {
    let edge = impatient(|config| config.server.body_bytes = 1024).await;
    let before = refusals(&edge, "body_bytes").await;
    let body = |bytes: usize| "x".repeat(bytes);
    for path in ["/api/v1/auth/login", "/api/v1/auth/ticket", "/nope"] {
        let mut wire = Wire::open(edge.addr).await;
        wire.send(format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1025\r\n\r\n{}",
            body(1025)
        ))
        .await;
        let reply = wire.answer().await;
        in_shape(&reply, 413, "PAYLOAD_TOO_LARGE");
        assert_eq!(reply.json()["error"]["details"], json!({"limit": 1024}));
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(wire.end().await.is_empty());
    }
    for (bytes, status) in [(1023, 422), (1024, 422), (1025, 413)] {
        let mut wire = Wire::open(edge.addr).await;
        let chunks = format!("{:x}\r\n{}\r\n0\r\n\r\n", bytes, body(bytes));
        wire.send(format!(
            "POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        ))
        .await;
        let reply = wire.answer().await;
        assert_eq!(reply.status, status, "{bytes}: {}", reply.text());
        if status == 422 {
            // What was read to its end leaves the connection as it was.
            wire.send(ME).await;
            wire.answer().await.is(200);
        }
    }
    assert_eq!(refusals(&edge, "body_bytes").await, before + 4);
    edge.finish().await;
}

#[actix_web::test]
async fn what_is_no_http_is_answered_in_our_shape_too() {
    let edge = impatient(|_| {}).await;
    let large = format!(
        "GET / HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n",
        "x".repeat(200 * 1024)
    );
    let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X-A: b\r\n".repeat(200));
    for (text, status, code) in [
        ("nonsense\r\n\r\n", 400, "VALIDATION_ERROR"),
        ("GET / HTTP/9.9\r\n\r\n", 400, "VALIDATION_ERROR"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "VALIDATION_ERROR"),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
            400,
            "VALIDATION_ERROR",
        ),
        (large.as_str(), 431, "PAYLOAD_TOO_LARGE"),
        (many.as_str(), 431, "PAYLOAD_TOO_LARGE"),
    ] {
        let mut wire = Wire::open(edge.addr).await;
        wire.send(text).await;
        let reply = wire.answer().await;
        in_shape(&reply, status, code);
        assert_eq!(reply.header("connection"), Some("close"));
        assert!(wire.end().await.is_empty());
        // Also after a request that was answered.
        let mut wire = Wire::open(edge.addr).await;
        wire.send(ME).await;
        wire.answer().await.is(200);
        wire.send(text).await;
        in_shape(&wire.answer().await, status, code);
    }
    let mut wire = Wire::open(edge.addr).await;
    wire.send("POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
        .await;
    let reply = wire.answer().await;
    assert!([400, 422].contains(&reply.status), "{}", reply.text());
    edge.finish().await;
}

#[actix_web::test]
async fn a_client_that_does_not_read_its_answer_is_cut() {
    let edge = impatient(|config| config.server.answer_timeout = Duration::from_millis(500)).await;
    let before = refusals(&edge, "answer_timeout").await;
    let mut wire = Wire::open(edge.addr).await;
    // Many answers, none of which is read.
    let request = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(50);
    loop {
        let sending = tokio::time::timeout(Duration::from_millis(20), wire.send(&request)).await;
        if sending == Ok(false) || refusals(&edge, "answer_timeout").await > before {
            break;
        }
    }
    kronos_testkit::eventually(Duration::from_secs(10), "the reader is cut", async || {
        refusals(&edge, "answer_timeout").await > before
    })
    .await;
    wire.stream().set_nodelay(true).ok();
    edge.finish().await;
}

#[actix_web::test]
async fn answers_to_head_have_a_length_and_no_body() {
    let edge = Edge::open().await;
    for path in ["/health", "/api/v1/auth/me", "/nope", "/openapi.json"] {
        let mut wire = Wire::open(edge.addr).await;
        wire.send(format!(
            "HEAD {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip, br\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ))
        .await;
        let text = String::from_utf8(wire.end().await).expect("text");
        let (head, rest) = text
            .split_once("\r\n\r\n")
            .unwrap_or_else(|| panic!("{path}: {text:?}"));
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        assert!(length.is_some_and(|length| length != "0"), "{path}: {head}");
        assert!(rest.starts_with("HTTP/1.1 200"), "{path}: {rest}");
    }
    edge.finish().await;
}
