//! What holds for every operation alike, found out from what the document says of it.

use std::time::Duration;

use kronos_testkit::HttpReply;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::document::{Document, Operation};
use crate::harness::{Edge, rooted};

/// An id that nobody has.
const NOBODY: &str = "0192aaaa-0000-7000-8000-000000000000";

async fn call(edge: &Edge, operation: &Operation, path: &str, token: Option<&str>, body: Option<&Value>) -> HttpReply {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<(&str, &str)> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
    edge.call(&operation.method, path, &headers, body).await
}

fn is_error(reply: &HttpReply, status: u16, id: &str) {
    assert_eq!(reply.status, status, "{id}: {}", reply.text());
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_else(|_| panic!("{id}: {}", reply.text()));
    assert_eq!(
        body["error"]["request_id"].as_str(),
        reply.header("x-request-id"),
        "{id}"
    );
    assert!(body["error"]["details"].is_object(), "{id}: {body}");
}

#[actix_web::test]
async fn examples_stand_by_their_schemas() {
    let edge = Edge::start().await;
    let document = Document::of(&edge).await;
    for id in document.operations.keys() {
        document.check_examples(id);
    }
    edge.finish().await;
}

#[actix_web::test]
async fn without_a_token_or_with_a_bad_one_it_is_401() {
    let edge = Edge::start().await;
    let document = Document::of(&edge).await;
    let mut guarded = 0;
    for (id, operation) in &document.operations {
        let documented = operation.statuses().contains(&401);
        if operation.is_guarded() {
            assert!(documented, "{id}");
            guarded += 1;
            for token in [None, Some("forged.token.here")] {
                let reply = call(
                    &edge,
                    operation,
                    &operation.path_with(NOBODY),
                    token,
                    operation.example().as_ref(),
                )
                .await;
                is_error(&reply, 401, id);
                assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{id}");
                document.check(id, &reply);
            }
        }
    }
    assert!(guarded > 10, "{guarded}");
    edge.finish().await;
}

#[actix_web::test]
async fn other_methods_are_405_with_what_is_allowed() {
    let edge = Edge::start().await;
    let document = Document::of(&edge).await;
    for (id, operation) in &document.operations {
        let path = operation.path_with(NOBODY);
        let reply = edge.call("TRACE", &path, &[], None).await;
        is_error(&reply, 405, id);
        let allowed: Vec<&str> = reply.header("allow").unwrap_or_default().split(", ").collect();
        assert!(allowed.contains(&operation.method.as_str()), "{id}: {allowed:?}");
        for other in document
            .operations
            .values()
            .filter(|other| other.path == operation.path)
        {
            assert!(allowed.contains(&other.method.as_str()), "{id}: {allowed:?}");
        }
    }
    edge.finish().await;
}

async fn raw(edge: &Edge, operation: &Operation, token: &str, headers: &str, body: &[u8]) -> HttpReply {
    let path = operation.path_with(NOBODY);
    let head = format!(
        "{} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n{headers}\r\n",
        operation.method, edge.addr
    );
    let exchange = async {
        let mut stream = TcpStream::connect(edge.addr).await.expect("connects");
        stream.write_all(head.as_bytes()).await.expect("sends");
        // A server that has refused already may have closed.
        drop(stream.write_all(body).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        kronos_testkit::parse_reply(&answer).expect("an answer")
    };
    tokio::time::timeout(Duration::from_secs(20), exchange)
        .await
        .expect("an answer in time")
}

#[actix_web::test]
async fn bodies_that_cannot_be_read_are_refused_in_one_shape() {
    let edge = Edge::with(|config| {
        config.server.body_bytes = 1024;
        rooted(config);
    })
    .await;
    let document = Document::of(&edge).await;
    let root = edge.superuser().await;
    for (id, operation) in &document.operations {
        if operation.example().is_none() {
            continue;
        }
        let text = |kind: &str, body: &str| format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len());
        let large = format!(r#"{{"x":"{}"}}"#, "x".repeat(1024));
        for (headers, body, status) in [
            (text("text/plain", "{}"), "{}", 415),
            (text("application/json", "{\"a\":"), "{\"a\":", 422),
            (text("application/json", "[]"), "[]", 422),
            (text("application/json", "{\"a\":\"\u{0}\"}"), "{\"a\":\"\u{0}\"}", 422),
            (text("application/json", &large), large.as_str(), 413),
        ] {
            let reply = raw(&edge, operation, &root.access, &headers, body.as_bytes()).await;
            is_error(&reply, status, &format!("{id} {body:.20}"));
            document.check(id, &reply);
        }
        let chunked = format!("{:x}\r\n{large}\r\n0\r\n\r\n", large.len());
        let headers = "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n";
        let reply = raw(&edge, operation, &root.access, headers, chunked.as_bytes()).await;
        is_error(&reply, 413, id);
        let bytes = b"{\"a\":\"\xff\xfe\"}";
        let headers = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", bytes.len());
        is_error(&raw(&edge, operation, &root.access, &headers, bytes).await, 422, id);
    }
    edge.finish().await;
}

#[actix_web::test]
async fn bodies_that_do_not_come_are_408() {
    let edge = Edge::with(|config| {
        config.server.body_timeout = Duration::from_millis(200);
        rooted(config);
    })
    .await;
    let document = Document::of(&edge).await;
    let root = edge.superuser().await;
    for (id, operation) in &document.operations {
        let documented = operation.statuses().contains(&408);
        assert_eq!(documented, operation.example().is_some(), "{id}");
        if documented {
            let headers = "Content-Type: application/json\r\nContent-Length: 10\r\n";
            let reply = raw(&edge, operation, &root.access, headers, b"{").await;
            is_error(&reply, 408, id);
            document.check(id, &reply);
        }
    }
    edge.finish().await;
}

#[actix_web::test]
async fn too_many_requests_are_429() {
    let edge = Edge::with(|config| config.server.rate_limit_per_address = 1).await;
    // The one request that is allowed.
    let document = Document::of(&edge).await;
    for (id, operation) in &document.operations {
        let path = operation.path_with(NOBODY);
        let reply = call(&edge, operation, &path, None, operation.example().as_ref()).await;
        if operation.statuses().contains(&429) {
            is_error(&reply, 429, id);
            document.check(id, &reply);
        } else {
            assert_ne!(reply.status, 429, "{id}");
        }
    }
    edge.finish().await;
}

/// A value that a schema does not allow.
fn wrong(schema: &Value) -> Option<&'static str> {
    match schema["type"].as_str() {
        Some("integer" | "number" | "boolean") => Some("x"),
        _ if schema["enum"].is_array() => Some("no-such-word"),
        _ if schema["minLength"].as_u64().is_some_and(|least| least > 0) => Some(""),
        _ => None,
    }
}

#[actix_web::test]
async fn queries_and_paths_that_break_their_schema_are_422() {
    let edge = Edge::with(rooted).await;
    let document = Document::of(&edge).await;
    let root = edge.superuser().await;
    for (id, operation) in &document.operations {
        let path = operation.path_with(NOBODY);
        for parameter in operation.query() {
            let name = parameter["name"].as_str().expect("a name");
            let Some(value) = wrong(&parameter["schema"]) else {
                continue;
            };
            let body = operation.about["requestBody"]["required"]
                .as_bool()
                .and_then(|_| operation.example());
            let body = body.filter(|_| operation.about["requestBody"]["required"] == true);
            let path = format!("{path}?{name}={value}");
            let reply = call(&edge, operation, &path, Some(&root.access), body.as_ref()).await;
            is_error(&reply, 422, &format!("{id} {name}"));
            document.check(id, &reply);
            let body: Value = serde_json::from_slice(&reply.body).expect("JSON");
            let fields = body["error"]["details"]["errors"].as_array().expect("rows").clone();
            let named = format!("query.{name}");
            assert!(
                fields.iter().any(|row| row["field"] == named.as_str()),
                "{id}: {fields:?}"
            );
        }
        if operation.path.contains('{') && operation.statuses().contains(&422) {
            let path = operation.path_with("%C3%A4%22");
            let reply = call(
                &edge,
                operation,
                &path,
                Some(&root.access),
                operation.example().as_ref(),
            )
            .await;
            is_error(&reply, 422, id);
        }
    }
    edge.finish().await;
}

#[actix_web::test]
async fn what_nobody_has_is_404_and_other_roles_are_403() {
    let edge = Edge::simulated().await;
    let document = Document::of(&edge).await;
    let (ada, root) = (edge.login("ada").await, edge.superuser().await);
    for (id, operation) in &document.operations {
        let statuses = operation.statuses();
        let body = operation.example();
        if operation.path.contains('{') && statuses.contains(&404) {
            let path = operation.path_with(NOBODY);
            let reply = call(&edge, operation, &path, Some(&root.access), body.as_ref()).await;
            is_error(&reply, 404, id);
            document.check(id, &reply);
        }
        let other = |mut body: Value| {
            body["user_id"] = json!("somebody-else");
            body
        };
        let names_user = body.as_ref().is_some_and(|_| operation.takes(&document, "user_id"));
        let query_user = operation.query().any(|parameter| parameter["name"] == "user_id");
        if names_user && statuses.contains(&403) {
            let reply = call(
                &edge,
                operation,
                &operation.path_with(NOBODY),
                Some(&ada.access),
                body.map(other).as_ref(),
            )
            .await;
            is_error(&reply, 403, id);
            document.check(id, &reply);
        } else if query_user && statuses.contains(&403) {
            let path = format!("{}?user_id=somebody-else", operation.path_with(NOBODY));
            let reply = call(&edge, operation, &path, Some(&ada.access), None).await;
            is_error(&reply, 403, id);
            document.check(id, &reply);
        } else if statuses.contains(&403) {
            let path = operation.path_with(NOBODY);
            let reply = call(&edge, operation, &path, Some(&ada.access), body.as_ref()).await;
            is_error(&reply, 403, id);
            document.check(id, &reply);
        }
    }
    edge.finish().await;
}

impl Operation {
    /// Whether its body has such a field.
    fn takes(&self, document: &Document, field: &str) -> bool {
        let schema = document.resolve(&self.about["requestBody"]["content"]["application/json"]["schema"]);
        schema["properties"][field].is_object()
    }
}
