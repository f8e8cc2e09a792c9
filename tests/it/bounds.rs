//! Every bound of the socket and of the session: just below, at, and one above it, with its code and its metric.

use std::time::Duration;

use kronos_protocol::{CloseReason, ErrorCode, SendMode, WireError};
use kronos_testkit::{ConnectOptions, Handshake, RawFrame, RawWs, eventually};
use serde_json::{Value, json};

use crate::{
    harness::{Kronos, kronos_with},
    rfc6455::{answer, stranger, welcomed},
};

const LIMIT: Duration = Duration::from_secs(10);

/// A server with one small bound.
async fn with(name: &str, value: &str) -> Kronos {
    kronos_with(100.0, &[(name, value), ("WORKERS", "1")]).await
}

/// The bound refused so often, and nothing else was refused.
async fn expect_refusals(kronos: &Kronos, bound: &str, times: u64) {
    let counted = || async { kronos.refusals(bound).await == times };
    eventually(LIMIT, &format!("{times} refusals of {bound}"), counted).await;
}

fn expect_error(error: &WireError, code: ErrorCode, bound: &str, limit: u64) {
    assert_eq!((error.code, error.retry), (code, code.retry()), "{error:?}");
    assert_eq!(
        (&error.details["name"], &error.details["limit"]),
        (&json!(bound), &json!(limit)),
        "{error:?}"
    );
    assert!(error.after_ms.is_some() || !code.retry(), "{error:?}");
}

async fn knock(kronos: &Kronos, path: &str) -> (RawWs, Handshake) {
    let mut socket = RawWs::connect(kronos.server.address(), LIMIT).await.unwrap();
    let headers = [
        ("Host", "kronos.test"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    let answer = socket.handshake(path, &headers).await.unwrap();
    (socket, answer)
}

/// Three may come in, and a fourth when one has left.
async fn expect_three(kronos: &Kronos, bound: &str, path: impl Fn(u32) -> String) {
    let mut open = Vec::new();
    for n in 0..3 {
        let (socket, answer) = knock(kronos, &path(n)).await;
        assert_eq!(answer.status, 101, "{bound}: {n}");
        open.push(socket);
    }
    let (_, answer) = knock(kronos, &path(3)).await;
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("5")),
        "{bound}"
    );
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(body["error"]["code"], "SERVICE_UNAVAILABLE");
    expect_refusals(kronos, bound, 1).await;
    drop(open.pop());
    let again = || async { knock(kronos, &path(3)).await.1.status == 101 };
    eventually(LIMIT, "a place is free again", again).await;
}

#[tokio::test]
async fn connections_of_the_process() {
    let kronos = with("MAX_CONNECTIONS", "3").await;
    expect_three(&kronos, "connections", |n| format!("/ws?user=u{n}")).await;
}

#[tokio::test]
async fn connections_of_a_user() {
    let kronos = with("MAX_CONNECTIONS_PER_USER", "3").await;
    expect_three(&kronos, "connections_per_user", |_| "/ws?user=ann".to_owned()).await;
    let bob = ConnectOptions::user("bob");
    kronos.server.connect(bob).await.finish().await;
}

#[tokio::test]
async fn connections_of_an_address() {
    let kronos = with("MAX_CONNECTIONS_PER_ADDRESS", "3").await;
    expect_three(&kronos, "connections_per_address", |n| format!("/ws?user=u{n}")).await;
    kronos.server.get("/health/live", &[]).await.expect(200);
}

#[tokio::test]
async fn connections_of_an_address_behind_a_proxy() {
    for (trusted, second) in [(r#"["127.0.0.1"]"#, 101), ("[]", 503)] {
        let env = [("MAX_CONNECTIONS_PER_ADDRESS", "1"), ("TRUSTED_PROXIES", trusted)];
        let kronos = kronos_with(100.0, &env).await;
        let from = async |address: &str| {
            let mut socket = RawWs::connect(kronos.server.address(), LIMIT).await.unwrap();
            let headers = [
                ("Host", "kronos.test"),
                ("Upgrade", "websocket"),
                ("Connection", "Upgrade"),
                ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("Sec-WebSocket-Version", "13"),
                ("X-Forwarded-For", address),
            ];
            let answer = socket.handshake("/ws?user=ann", &headers).await.unwrap();
            (socket, answer.status)
        };
        let (_first, status) = from("192.0.2.1").await;
        assert_eq!(status, 101);
        let (_second, status) = from("192.0.2.2").await;
        assert_eq!(status, second, "{trusted}");
        assert_eq!(from("203.0.113.7, 192.0.2.1").await.1, 503, "{trusted}");
    }
}

#[tokio::test]
async fn commands_per_second() {
    let kronos = kronos_with(100.0, &[("COMMANDS_PER_SECOND", "1"), ("COMMANDS_BURST", "5")]).await;
    let mut client = kronos.client("ann").await;
    // `hello` was the first.
    for _ in 1..5 {
        client.request(json!({"op": "ping"})).await.expect("within the burst");
    }
    let error = client.request(json!({"op": "ping"})).await.expect_err("one more");
    expect_error(&error, ErrorCode::RateLimited, "commands_per_second", 1);
    let wait = error.after_ms.unwrap();
    assert!((1..=1001).contains(&wait), "{wait}");
    // Who keeps asking takes what comes back.
    let begun = tokio::time::Instant::now();
    while client.request(json!({"op": "ping"})).await.is_err() {
        assert!(begun.elapsed() < LIMIT, "never served again");
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
    assert!(kronos.refusals("commands_per_second").await >= 1);
    client.finish().await;
}

#[tokio::test]
async fn who_sends_too_fast_and_goes_on_is_closed() {
    let kronos = kronos_with(100.0, &[("COMMANDS_PER_SECOND", "1"), ("COMMANDS_BURST", "5")]).await;
    let mut socket = welcomed(&kronos).await;
    // Not even what is no command is free: unknown ones, ones without a `ref`.
    let mut frames: Vec<String> = (0..3)
        .map(|n| json!({"op": "ping", "ref": n.to_string()}).to_string())
        .collect();
    frames.push(json!({"op": "dance", "ref": "3"}).to_string());
    frames.extend(vec![json!({"op": "ping"}).to_string(); 6]);
    frames.push(json!({"op": "ping", "ref": "never"}).to_string());
    let bytes: Vec<u8> = frames.iter().flat_map(|text| RawFrame::text(text).encode()).collect();
    socket.send_bytes(&bytes).await.unwrap();
    let mut codes = Vec::new();
    for _ in 0..10 {
        let reply = answer(&mut socket).await;
        codes.push(reply["code"].as_str().unwrap_or("ok").to_owned());
    }
    let expected = ["ok", "ok", "ok", "unsupported"].into_iter().chain(["rate_limited"; 6]);
    assert_eq!(codes, expected.collect::<Vec<_>>());
    let reason = CloseReason::decode(&socket.expect_close(4429).await).expect("a reason");
    assert!(
        reason.retry && reason.after_ms.is_some_and(|ms| (4000..=5001).contains(&ms)),
        "{reason:?}"
    );
    expect_refusals(&kronos, "commands_per_second", 6).await;
    assert_eq!(kronos.closes(4429).await, 1);
}

#[tokio::test]
async fn attachments_of_a_connection() {
    let kronos = with("CONNECTION_ATTACHMENTS", "3").await;
    let mut client = kronos.client("ann").await;
    for _ in 0..3 {
        client.attach_new().await;
    }
    let error = client
        .request(json!({"op": "attach", "session": "new"}))
        .await
        .expect_err("a fourth");
    expect_error(&error, ErrorCode::Overloaded, "attachments", 3);
    expect_refusals(&kronos, "attachments", 1).await;
    client.finish().await;
}

#[tokio::test]
async fn attachments_of_a_session() {
    let kronos = with("SESSION_ATTACHMENTS", "3").await;
    let mut first = kronos.client("ann").await;
    let session = first.attach_new().await;
    let mut others = Vec::new();
    for _ in 0..2 {
        let mut client = kronos.client("ann").await;
        client.attach(&session, None).await;
        others.push(client);
    }
    let mut fourth = kronos.client("ann").await;
    let attach = json!({"op": "attach", "session": session});
    let error = fourth.request(attach.clone()).await.expect_err("a fourth");
    expect_error(&error, ErrorCode::Overloaded, "session_attachments", 3);
    expect_refusals(&kronos, "session_attachments", 1).await;
    others.pop().unwrap().finish().await;
    let limit = Duration::from_secs(5);
    let mut free = false;
    let begun = tokio::time::Instant::now();
    while !free && begun.elapsed() < limit {
        free = fourth.request(attach.clone()).await.is_ok();
    }
    assert!(free, "a place is free again");
}

#[tokio::test]
async fn pending_commands_of_a_connection() {
    let kronos = with("PENDING_COMMANDS", "3").await;
    let mut socket = welcomed(&kronos).await;
    for count in [2, 3] {
        assert_eq!(refused_at_once(&mut socket, count).await, 0, "{count} commands at once");
    }
    // A fast server may have answered the first before it reads the last: then they were not four at once.
    let mut refused = 0;
    for _ in 0..50 {
        refused = refused_at_once(&mut socket, 4).await;
        if refused > 0 {
            break;
        }
    }
    assert_eq!(refused, 1, "4 commands at once");
    expect_refusals(&kronos, "pending_commands", 1).await;
}

/// Sends commands in one piece, and returns how many of them were one too many.
async fn refused_at_once(socket: &mut RawWs, count: usize) -> usize {
    let frame = |n: usize| json!({"op": "attach", "session": "new", "ref": n.to_string()}).to_string();
    let bytes: Vec<u8> = (0..count).flat_map(|n| RawFrame::text(&frame(n)).encode()).collect();
    socket.send_bytes(&bytes).await.unwrap();
    let (mut replies, mut errors) = (0, 0);
    while replies < count {
        let reply = answer(socket).await;
        replies += usize::from(reply["op"] == "ok" || reply["op"] == "error");
        if reply["op"] == "error" {
            errors += 1;
            assert_eq!(
                (&reply["code"], &reply["details"]),
                (&json!("overloaded"), &json!({"name": "pending_commands", "limit": 3}))
            );
        }
    }
    errors
}

#[tokio::test]
async fn bytes_of_a_frame() {
    let env = [("FRAME_BYTES", "8KiB"), ("PRE_AUTH_FRAME_BYTES", "4KiB")];
    let kronos = kronos_with(100.0, &env).await;
    let hello = json!({"op": "hello", "ref": "h"}).to_string();
    let ping = json!({"op": "ping", "ref": "p"}).to_string();
    for bytes in [4095, 4096] {
        let mut socket = stranger(&kronos, &[]).await;
        socket.send(&RawFrame::text(&format!("{hello:<bytes$}"))).await.unwrap();
        assert_eq!(answer(&mut socket).await["ref"], "h");
        for bytes in [2 * bytes, 2 * bytes + 1] {
            socket.send(&RawFrame::text(&format!("{ping:<bytes$}"))).await.unwrap();
            if bytes <= 8192 {
                assert_eq!(answer(&mut socket).await["ref"], "p");
            } else {
                socket.expect_close(1009).await;
            }
        }
    }
    expect_refusals(&kronos, "frame_bytes", 1).await;
    let mut socket = stranger(&kronos, &[]).await;
    socket.send(&RawFrame::text(&" ".repeat(4097))).await.unwrap();
    socket.expect_close(1009).await;
    expect_refusals(&kronos, "pre_auth_frame_bytes", 1).await;
    assert_eq!(kronos.refusals("frame_bytes").await, 1);
    assert_eq!(kronos.closes(1009).await, 2);
}

#[tokio::test]
async fn characters_of_a_message() {
    let kronos = with("MAX_MESSAGE_CHARS", "20").await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    for (id, chars) in [("m_1", 19), ("m_2", 20)] {
        client.ask(&session, id, &"é".repeat(chars)).await;
    }
    let error = client
        .try_send(&session, "m_3", &"é".repeat(21), SendMode::Queue)
        .await
        .expect_err("one more");
    assert_eq!(
        (error.code, error.retry, &error.details["limit"]),
        (ErrorCode::TooLarge, false, &json!(20))
    );
    expect_refusals(&kronos, "message_chars", 1).await;
    client.finish().await;
}

#[tokio::test]
async fn messages_of_an_inbox() {
    let kronos = with("SESSION_INBOX_MESSAGES", "3").await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client
        .send(&session, "m_0", "[[tokens 2000]] a long story", SendMode::Queue)
        .await;
    for n in 1..=3 {
        let sent = client.send(&session, &format!("m_{n}"), "next", SendMode::Queue).await;
        assert_eq!(sent.queued, Some(n));
    }
    let error = client
        .try_send(&session, "m_4", "one more", SendMode::Queue)
        .await
        .expect_err("a fourth");
    expect_error(&error, ErrorCode::Overloaded, "inbox_messages", 3);
    expect_refusals(&kronos, "inbox_messages", 1).await;
}

#[tokio::test]
async fn commands_in_the_mailbox_of_a_session() {
    let env = [("SESSION_MAILBOX", "4"), ("PENDING_COMMANDS", "100"), ("WORKERS", "1")];
    let kronos = kronos_with(100.0, &env).await;
    let mut socket = welcomed(&kronos).await;
    let attach = json!({"op": "attach", "session": "new", "ref": "a"}).to_string();
    socket.send(&RawFrame::text(&attach)).await.unwrap();
    let session = answer(&mut socket).await["session"].clone();
    // One segment is handled in one go, before the session has its turn.
    for (count, refused) in [(3, false), (4, false), (60, true)] {
        let frame = |n: usize| json!({"op": "cancel", "session": session, "ref": n.to_string()}).to_string();
        let bytes: Vec<u8> = (0..count).flat_map(|n| RawFrame::text(&frame(n)).encode()).collect();
        socket.send_bytes(&bytes).await.unwrap();
        let (mut replies, mut full) = (0, 0);
        while replies < count {
            let reply = answer(&mut socket).await;
            replies += usize::from(reply["op"] == "ok" || reply["op"] == "error");
            if reply["code"] == "overloaded" {
                full += 1;
                assert!(reply["after_ms"].is_u64() && reply["retry"] == true, "{reply}");
            }
        }
        assert_eq!(full > 0, refused, "{full} of {count}");
        expect_refusals(&kronos, "session_mailbox", full).await;
    }
}

#[tokio::test]
async fn time_until_hello() {
    let kronos = with("HELLO_TIMEOUT", "300ms").await;
    let mut known = welcomed(&kronos).await;
    let mut silent = stranger(&kronos, &[]).await;
    assert_eq!(silent.expect_close(4408).await, r#"{"retry":true}"#);
    assert_eq!(kronos.closes(4408).await, 1);
    known.send(&RawFrame::text(r#"{"op":"ping","ref":"1"}"#)).await.unwrap();
    assert_eq!(answer(&mut known).await["ref"], "1");
}
