//! Every error has the one shape, whoever made it.

use kronos_testkit::HttpReply;
use serde_json::{Value, json};

use crate::harness::Edge;

/// Checks the shape and returns code and rows' fields.
fn shape(reply: &HttpReply, status: u16) -> (String, Vec<String>) {
    let body = reply.expect(status);
    let error = &body["error"];
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
    assert_eq!(error["request_id"].as_str(), reply.header("x-request-id"), "{body}");
    assert!(error["message"].is_string() && error["details"].is_object(), "{body}");
    assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let rows = error["details"]["errors"].as_array().cloned().unwrap_or_default();
    assert!(
        rows.iter()
            .all(|row| row["message"].is_string() && row["type"].is_string()),
        "{body}"
    );
    let fields = rows
        .iter()
        .map(|row| row["field"].as_str().unwrap_or("").to_owned())
        .collect();
    (error["code"].as_str().unwrap_or("").to_owned(), fields)
}

#[actix_web::test]
async fn unknown_paths_and_methods() {
    let edge = Edge::open().await;
    for path in ["/", "/nope", "/api/v1/nope", "/api/v1/auth/nope"] {
        assert_eq!(shape(&edge.get(path, None).await, 404).0, "NOT_FOUND", "{path}");
    }
    let reply = edge.call("DELETE", "/api/v1/auth/login", &[], None).await;
    assert_eq!(shape(&reply, 405).0, "METHOD_NOT_ALLOWED");
    assert_eq!(reply.header("allow"), Some("POST"));
    let reply = edge.call("POST", "/health", &[], None).await;
    assert_eq!(shape(&reply, 405).0, "METHOD_NOT_ALLOWED");
    assert_eq!(reply.header("allow"), Some("GET, HEAD"));
    assert_eq!(edge.call("HEAD", "/health", &[], None).await.status, 200);
    edge.finish().await;
}

#[actix_web::test]
async fn bodies_that_cannot_be_read() {
    let edge = Edge::with(|config| {
        config.auth.mode = kronos::config::AuthMode::Development;
        config.server.body_bytes = 4096;
    })
    .await;
    let login = "/api/v1/auth/login";
    let raw = async |headers: &str, body: &str| raw(edge.addr, login, headers, body).await;
    assert_eq!(
        shape(&raw("Content-Type: application/json\r\n", "{").await, 422),
        ("VALIDATION_ERROR".into(), vec!["body".into()])
    );
    assert_eq!(
        shape(&raw("Content-Type: application/json\r\n", "[1]").await, 422).1,
        ["body"]
    );
    assert_eq!(
        shape(&raw("Content-Type: application/json\r\n", "").await, 422).1,
        ["body"]
    );
    assert_eq!(
        shape(&raw("Content-Type: application/json\r\n", "\u{fffd}").await, 422).1,
        ["body"]
    );
    assert_eq!(
        shape(&raw("Content-Type: text/plain\r\n", "{}").await, 415).0,
        "UNSUPPORTED_MEDIA_TYPE"
    );
    assert_eq!(
        shape(
            &raw("Content-Type: application/json\r\nContent-Encoding: gzip\r\n", "{}").await,
            415
        )
        .0,
        "UNSUPPORTED_MEDIA_TYPE"
    );
    let fits = format!("{{\"a\":\"{}\"}}", "x".repeat(4096 - 8));
    assert_eq!(fits.len(), 4096);
    assert_eq!(shape(&raw("", &fits).await, 422).1, ["body.username", "body.password"]);
    let reply = raw("", &format!("{fits} ")).await;
    assert_eq!(shape(&reply, 413).0, "PAYLOAD_TOO_LARGE");
    assert_eq!(reply.json()["error"]["details"]["limit"], 4096);
    edge.finish().await;
}

#[actix_web::test]
async fn fields_queries_and_paths_that_are_wrong() {
    let edge = Edge::open().await;
    let body = json!({"username": "a", "email": "b", "password": 1});
    let reply = edge.post("/api/v1/auth/signup", None, body).await;
    let fields = ["body.username", "body.email", "body.email", "body.password"];
    let (code, got) = shape(&reply, 422);
    assert_eq!(code, "VALIDATION_ERROR");
    assert!(
        got.iter().all(|field| fields.contains(&field.as_str())) && got.len() >= 3,
        "{got:?}"
    );
    for (query, field) in [
        ("limit=0", "query.limit"),
        ("limit=101", "query.limit"),
        ("limit=x", "query.limit"),
        ("cursor=x", "query.cursor"),
    ] {
        assert_eq!(
            shape(&edge.get(&format!("/api/v1/chat/?{query}"), None).await, 422).1,
            [field],
            "{query}"
        );
    }
    assert_eq!(shape(&edge.get("/api/v1/chat/new", None).await, 422).1, ["path.id"]);
    assert_eq!(shape(&edge.get("/api/v1/chat/nowhere", None).await, 404).0, "NOT_FOUND");
    let body = json!({"message": "", "temperature": 3, "max_tokens": 65537, "conversation_id": "a b"});
    let (_, rows) = shape(&edge.post("/api/v1/chat/message", None, body).await, 422);
    assert_eq!(
        rows,
        [
            "body.message",
            "body.conversation_id",
            "body.temperature",
            "body.max_tokens"
        ]
    );
    edge.finish().await;
}

#[actix_web::test]
async fn a_user_may_not_act_for_another() {
    let edge = Edge::start().await;
    let pair = edge.login("ada").await;
    let body = json!({"message": "hi", "user_id": "somebody"});
    assert_eq!(
        shape(&edge.post("/api/v1/chat/message", Some(&pair.access), body).await, 403).0,
        "AUTHORIZATION_ERROR"
    );
    assert_eq!(
        shape(
            &edge.get("/api/v1/chat/?user_id=somebody", Some(&pair.access)).await,
            403
        )
        .0,
        "AUTHORIZATION_ERROR"
    );
    let list: Value = edge.get("/api/v1/chat/", Some(&pair.access)).await.expect(200);
    assert_eq!(list, json!({"items": [], "next_cursor": null}));
    edge.finish().await;
}

/// One request with headers and a body as they are.
async fn raw(address: std::net::SocketAddr, path: &str, headers: &str, body: &str) -> HttpReply {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(address).await.expect("connects");
    let length = body.len();
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream
        .write_all(format!("{head}{body}").as_bytes())
        .await
        .expect("writes");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("reads");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
    let mut lines = head.lines();
    let status = lines
        .next()
        .and_then(|line| line.split(' ').nth(1))
        .and_then(|code| code.parse().ok())
        .expect("a status");
    let pair = |line: &str| {
        line.split_once(": ")
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
    };
    HttpReply {
        status,
        headers: lines.filter_map(pair).collect(),
        body: body.as_bytes().to_vec(),
    }
}
