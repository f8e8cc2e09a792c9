//! Cursors: what is attached is delivered, once, in order, and no faster than it is read.

use std::time::Duration;

use kronos_protocol::Cursor;
use kronos_testkit::RawWs;
use serde_json::{Value, json};

use crate::harness::{ask, hear, say, server};

/// The next frame that is no presence: that may come at any time.
async fn hear_log(socket: &mut RawWs) -> Value {
    loop {
        let frame = hear(socket).await;
        if frame["op"] != "presence" {
            return frame;
        }
    }
}

/// Seqs of the events in a frame.
fn seqs(frame: &Value) -> Vec<u64> {
    let events = frame["events"].as_array().map(Vec::as_slice).unwrap_or_default();
    events.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect()
}

#[actix_web::test]
async fn an_attach_is_answered_then_filled_then_caught_up_then_live() {
    let server = server(|_| {}).await;
    for n in 1..=3 {
        server.notify("ann", json!(n)).await;
    }
    let mut socket = server.raw_known("ann").await;
    let attached = ask(&mut socket, json!({"op": "attach", "ref": "1", "session": "@me"})).await;
    assert_eq!(
        (&attached["op"], &attached["head"]),
        (&json!("ok"), &json!(3)),
        "{attached}"
    );
    let mut seen = Vec::new();
    while seen.last() != Some(&3) {
        let frame = hear_log(&mut socket).await;
        assert_eq!(
            (&frame["op"], &frame["session"]),
            (&json!("events"), &json!("@me")),
            "{frame}"
        );
        seen.extend(seqs(&frame));
    }
    let caught_up = hear_log(&mut socket).await;
    assert_eq!(
        (&caught_up["op"], &caught_up["seq"]),
        (&json!("caught_up"), &json!(3)),
        "{caught_up}"
    );
    server.notify("ann", json!("live")).await;
    assert_eq!(seqs(&hear_log(&mut socket).await), [4]);
    drop(socket);
    server.finish().await;
}

#[actix_web::test]
async fn a_cursor_at_the_head_is_caught_up_at_once_and_another_attach_moves_it() {
    let server = server(|_| {}).await;
    for n in 1..=3 {
        server.notify("ann", json!(n)).await;
    }
    let mut client = server.client("ann").await;
    let attached = client.attach("@me", None).await;
    client.until_caught_up("@me").await;
    client
        .attach("@me", Some(Cursor::new(attached.epoch.clone(), 3_u64)))
        .await;
    client.until_caught_up("@me").await;
    server.notify("ann", json!("live")).await;
    client
        .until("the live event", |client| {
            client.cursor("@me").is_some_and(|cursor| cursor.seq == 4)
        })
        .await;
    client.finish().await;
    server.finish().await;
}

#[actix_web::test]
async fn a_detached_cursor_gets_nothing_and_a_cut_one_goes_on() {
    let server = server(|_| {}).await;
    let mut client = server.client("ann").await;
    client.attach("@me", None).await;
    client.until_caught_up("@me").await;
    server.notify("ann", json!(1)).await;
    client
        .until("the first", |client| {
            client.cursor("@me").is_some_and(|cursor| cursor.seq == 1)
        })
        .await;
    client.cut();
    server.notify("ann", json!(2)).await;
    client.reconnect(&format!("ws://{}/ws", server.addr)).await;
    client.reattach("@me").await;
    client
        .until("the missed one", |client| {
            client.cursor("@me").is_some_and(|cursor| cursor.seq == 2)
        })
        .await;
    client.detach("@me").await.unwrap();
    server.notify("ann", json!(3)).await;
    client.request(json!({"op": "ping"})).await.unwrap();
    assert_eq!(client.cursor("@me").unwrap().seq, 2);
    client.finish().await;
    server.finish().await;
}

#[actix_web::test]
async fn pipelined_commands_are_answered_in_order_and_events_come_after_their_ok() {
    let server = server(|_| {}).await;
    server.notify("ann", json!(1)).await;
    let mut socket = server.raw_known("ann").await;
    let commands = [
        json!({"op": "attach", "ref": "1", "session": "@me"}),
        json!({"op": "typing", "ref": "2", "session": "@me", "on": true}),
        json!({"op": "resume", "ref": "3", "session": "@me", "answers": []}),
        json!({"op": "detach", "ref": "4", "session": "@me"}),
        json!({"op": "attach", "ref": "5", "session": "@me"}),
        json!({"op": "cancel", "ref": "6", "session": "@me"}),
    ];
    for command in commands {
        say(&mut socket, command).await;
    }
    let mut answered = Vec::new();
    while answered.len() < 6 {
        let frame = hear(&mut socket).await;
        match frame["ref"].as_str() {
            Some(reference) => answered.push(reference.to_owned()),
            None => assert!(!answered.is_empty(), "nothing before the first ok: {frame}"),
        }
    }
    assert_eq!(answered, ["1", "2", "3", "4", "5", "6"]);
    drop(socket);
    server.finish().await;
}

#[actix_web::test]
async fn a_reader_that_stalls_misses_nothing_and_holds_nobody_up() {
    // As much as the kernel takes, for as long as the machine takes: other tests are about those bounds.
    let server = server(|config| {
        config.unread_bytes = 1 << 30;
        config.write_timeout = Duration::from_secs(600);
    })
    .await;
    let mut stalled = server.raw_known("ann").await;
    say(&mut stalled, json!({"op": "attach", "ref": "1", "session": "@me"})).await;
    let mut live = server.client("ann").await;
    live.attach("@me", None).await;
    let text = "x".repeat(8000);
    for n in 0..2200_u64 {
        server.notify("ann", json!(text)).await;
        live.until("the live reader", |client| {
            client.cursor("@me").is_some_and(|cursor| cursor.seq == n + 1)
        })
        .await;
    }
    let mut next = 1;
    while next <= 2200 {
        for seq in seqs(&hear(&mut stalled).await) {
            assert_eq!(seq, next);
            next += 1;
        }
    }
    live.finish().await;
    drop(stalled);
    server.finish().await;
}

#[actix_web::test]
async fn a_connection_that_ends_lets_go_of_its_sessions() {
    let server = server(|_| {}).await;
    let mut watcher = server.raw_known("ann").await;
    say(&mut watcher, json!({"op": "attach", "ref": "1", "session": "@me"})).await;
    let mut other = server.client("ann").await;
    other.attach("@me", None).await;
    let devices = async |watcher: &mut RawWs, count: usize| loop {
        let frame = hear(watcher).await;
        if frame["op"] == "presence"
            && frame["devices"]
                .as_array()
                .is_some_and(|devices| devices.len() == count)
        {
            break;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), devices(&mut watcher, 2))
        .await
        .unwrap();
    other.cut();
    tokio::time::timeout(Duration::from_secs(20), devices(&mut watcher, 1))
        .await
        .unwrap();
    drop((watcher, other));
    server.finish().await;
}
