//! `hello`, `token`, and what a bad or ended token does.

use std::time::Duration;

use kronos_testkit::RawFrame;
use serde_json::{Value, json};

use crate::harness::{ask, hear, say, server};

#[actix_web::test]
async fn hello_is_first_and_once() {
    let server = server(|config| config.ping_interval = Duration::from_secs(7)).await;
    let mut socket = server.raw().await;
    let early = ask(&mut socket, json!({"op": "ping", "ref": "1"})).await;
    assert_eq!(
        (&early["op"], &early["ref"], &early["code"]),
        (&json!("error"), &json!("1"), &json!("unauthenticated"))
    );
    let other = ask(
        &mut socket,
        json!({"op": "hello", "ref": "2", "token": "ann", "codec": "msgpack"}),
    )
    .await;
    assert_eq!(other["code"], "validation");
    let welcome = ask(&mut socket, json!({"op": "hello", "ref": "3", "token": "ann"})).await;
    assert_eq!((&welcome["op"], &welcome["user"]["id"]), (&json!("ok"), &json!("ann")));
    assert_eq!(
        (&welcome["ping_seconds"], &welcome["limits"]["frame_bytes"]),
        (&json!(7), &json!(524_288))
    );
    let again = ask(&mut socket, json!({"op": "hello", "ref": "4", "token": "ann"})).await;
    assert_eq!(again["code"], "conflict");
    let pong = ask(&mut socket, json!({"op": "ping", "ref": "5"})).await;
    assert!(pong["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{pong}");
    drop(socket);
    server.finish().await;
}

#[actix_web::test]
async fn bad_tokens_are_told_and_closed() {
    let server = server(|config| config.hello_timeout = Duration::from_millis(300)).await;
    let missing = json!({"op": "hello", "ref": "1"});
    let with = |token: &str| json!({"op": "hello", "ref": "1", "token": token});
    let cases = [
        (missing, "unauthenticated", 4401, json!({"retry": false})),
        (with("expired"), "unauthenticated", 4401, json!({"retry": false})),
        (
            with("unavailable"),
            "storage",
            1013,
            json!({"retry": true, "after_ms": 2000}),
        ),
        (with("never"), "storage", 1013, json!({"retry": true, "after_ms": 2000})),
    ];
    for (hello, code, close, reason) in cases {
        let mut socket = server.raw().await;
        let error = ask(&mut socket, hello).await;
        assert_eq!((&error["ref"], &error["code"]), (&json!("1"), &json!(code)));
        let told: Value = serde_json::from_str(&socket.expect_close(close).await).unwrap();
        assert_eq!(told, reason);
    }
    server.finish().await;
}

#[actix_web::test]
async fn credentials_of_the_upgrade_do_instead_of_a_token() {
    let server = server(|_| {}).await;
    let mut socket = server.raw_with(&[("authorization", "Bearer ann")]).await;
    let welcome = ask(&mut socket, json!({"op": "hello", "ref": "1"})).await;
    assert_eq!(welcome["user"]["id"], "ann");
    drop(socket);
    let mut socket = server.raw_with(&[("authorization", "Bearer ann")]).await;
    let error = ask(&mut socket, json!({"op": "hello", "ref": "1", "token": "bob"})).await;
    assert_eq!(error["code"], "forbidden");
    socket.expect_close(4403).await;
    let mut socket = server.raw_with(&[("authorization", "Bearer expired")]).await;
    assert_eq!(socket.expect_close(4401).await, r#"{"retry":false}"#);
    drop(socket);
    server.finish().await;
}

#[actix_web::test]
async fn who_says_no_hello_in_time_is_closed() {
    let server = server(|config| config.hello_timeout = Duration::from_millis(50)).await;
    let mut socket = server.raw().await;
    socket.expect_close(4408).await;
    // Whoever does not answer the close frame is cut a moment later.
    socket.expect_eof().await.unwrap();
    server.finish().await;
}

#[actix_web::test]
async fn a_silent_peer_is_pinged_and_then_gone() {
    let server = server(|config| config.ping_interval = Duration::from_millis(60)).await;
    let mut socket = server.raw_known("ann").await;
    let ping = socket.next_frame().await.unwrap().unwrap();
    assert_eq!(ping.opcode, 9);
    socket.send(&RawFrame::new(10, ping.payload)).await.unwrap();
    socket.expect_close(1001).await;
    socket.expect_eof().await.unwrap();
    server.finish().await;
}

#[actix_web::test]
async fn a_fresh_token_of_the_same_user_extends_and_the_end_of_one_closes() {
    let server = server(|_| {}).await;
    let end = server.clock.now_ms() + 3_600_000;
    let mut socket = server.raw_known(&format!("ann:one:{end}")).await;
    let other = ask(&mut socket, json!({"op": "token", "ref": "1", "token": "bob"})).await;
    assert_eq!(other["code"], "forbidden");
    let bad = ask(&mut socket, json!({"op": "token", "ref": "2", "token": "expired"})).await;
    assert_eq!(bad["code"], "unauthenticated");
    let soon = server.clock.now_ms() + 300;
    let extended = ask(
        &mut socket,
        json!({"op": "token", "ref": "3", "token": format!("ann:two:{soon}")}),
    )
    .await;
    assert!(
        extended["expires_at"].as_str().is_some_and(|time| time.ends_with('Z')),
        "{extended}"
    );
    assert_eq!(
        server.connections.close_login("one"),
        0,
        "the old token is not the connection's any more"
    );
    socket.expect_close(4401).await;
    drop(socket);
    server.finish().await;
}

#[actix_web::test]
async fn revocation_closes_the_connections_of_the_token_or_the_user() {
    let server = server(|_| {}).await;
    let mut one = server.raw_known("ann:one").await;
    let mut two = server.raw_known("ann:two").await;
    let mut bob = server.raw_known("bob:three").await;
    assert_eq!(server.connections.close_login("one"), 1);
    assert_eq!(one.expect_close(4401).await, r#"{"retry":false}"#);
    assert_eq!(server.connections.close_user(&"ann".parse().unwrap()), 2);
    two.expect_close(4401).await;
    assert_eq!(ask(&mut bob, json!({"op": "ping", "ref": "1"})).await["op"], "ok");
    drop((one, two, bob));
    server.finish().await;
}

#[actix_web::test]
async fn going_away_is_announced_and_then_done() {
    let server = server(|_| {}).await;
    let mut socket = server.raw_known("ann").await;
    server.connections.goaway_all("drain", Duration::from_millis(1000));
    let goaway = hear(&mut socket).await;
    assert_eq!((&goaway["op"], &goaway["reason"]), (&json!("goaway"), &json!("drain")));
    let after = goaway["reconnect_after_ms"].as_u64().unwrap();
    assert!((1000..=2000).contains(&after), "{after}");
    say(&mut socket, json!({"op": "ping", "ref": "still here"})).await;
    assert_eq!(hear(&mut socket).await["op"], "ok");
    server
        .connections
        .close_all(kronos_protocol::CloseCode::Restart, Duration::from_millis(100));
    let reason: Value = serde_json::from_str(&socket.expect_close(1012).await).unwrap();
    assert_eq!(reason["retry"], true);
    assert!((100..=200).contains(&reason["after_ms"].as_u64().unwrap()), "{reason}");
    drop(socket);
    server.finish().await;
}

#[actix_web::test]
async fn a_panic_ends_its_connection_with_1011_and_no_other() {
    let server = server(|_| {}).await;
    let mut bystander = server.raw_known("bob").await;
    let mut socket = server.raw().await;
    say(&mut socket, json!({"op": "hello", "ref": "1", "token": "panic"})).await;
    socket.expect_close(1011).await;
    socket.expect_eof().await.unwrap();
    assert_eq!(ask(&mut bystander, json!({"op": "ping", "ref": "1"})).await["op"], "ok");
    drop((socket, bystander));
    server.finish().await;
}
