//! Bounds, each just below, at and above; and what cannot be done.

use serde_json::{Value, json};

use crate::harness::{ask, hear, say, server};

fn error(reply: &Value) -> (&str, &str) {
    (
        reply["ref"].as_str().unwrap_or("null"),
        reply["code"].as_str().unwrap_or("none"),
    )
}

#[actix_web::test]
async fn unreadable_commands_are_answered_and_unreadable_frames_close() {
    let server = server(|_| {}).await;
    let mut socket = server.raw_known("ann").await;
    let cases = [
        (json!({"op": "dance", "ref": "1"}), ("1", "unsupported")),
        (json!({"op": "send", "ref": "2"}), ("2", "validation")),
        (json!({"op": "ping"}), ("null", "validation")),
        (json!({"ref": "3"}), ("3", "validation")),
        (
            json!({"op": "edit", "ref": "4", "session": "s", "message": "m", "content": "c"}),
            ("4", "not_found"),
        ),
        (
            json!({"op": "typing", "ref": "5", "session": "s", "on": true}),
            ("5", "conflict"),
        ),
        (
            json!({"op": "attach", "ref": "6", "session": "nothing"}),
            ("6", "not_found"),
        ),
        (
            json!({"op": "cancel", "ref": "7", "session": "nothing"}),
            ("7", "not_found"),
        ),
    ];
    for (command, expected) in cases {
        let reply = ask(&mut socket, command).await;
        assert_eq!(error(&reply), expected, "{reply}");
    }
    let detached = ask(&mut socket, json!({"op": "detach", "ref": "8", "session": "nothing"})).await;
    assert_eq!(detached["op"], "ok");
    socket.send(&kronos_testkit::RawFrame::text("{")).await.unwrap();
    let reply = hear(&mut socket).await;
    assert_eq!(error(&reply), ("null", "bad_frame"));
    socket.expect_close(4400).await;
    drop(socket);
    server.finish().await;
}

#[actix_web::test]
async fn the_process_and_each_user_have_a_bound_on_connections() {
    let server = server(|config| {
        config.max_connections = 3;
        config.max_connections_per_user = 1;
    })
    .await;
    let ann = server.raw_known("ann").await;
    let mut again = server.raw().await;
    let refused = ask(&mut again, json!({"op": "hello", "ref": "1", "token": "ann"})).await;
    assert_eq!(error(&refused), ("1", "overloaded"));
    assert_eq!(refused["details"], json!({"name": "connections_per_user", "limit": 1}));
    again.expect_close(1013).await;
    drop(again);
    let limit = std::time::Duration::from_secs(9);
    kronos_testkit::eventually(limit, "the place is given back", async || {
        server.connections.count() == 1
    })
    .await;
    let bob = server.raw_known("bob").await;
    let eve = server.raw_known("eve").await;
    let refused = kronos_testkit::RawWs::open(server.addr, "/ws", &[], std::time::Duration::from_secs(9)).await;
    assert!(refused.unwrap_err().to_string().contains("503"));
    drop((ann, bob, eve));
    server.finish().await;
}

#[actix_web::test]
async fn a_socket_has_a_bound_on_attachments() {
    let server = server(|config| config.attachments = 2).await;
    let mut client = server.client("ann").await;
    let first = client.attach_new().await;
    let second = client.attach_new().await;
    let refused = client.request(json!({"op": "attach", "session": "new"})).await;
    let refused = serde_json::to_value(refused.unwrap_err()).unwrap();
    assert_eq!(
        (&refused["code"], &refused["details"]["name"]),
        (&json!("overloaded"), &json!("attachments"))
    );
    client.attach(&first, None).await;
    client.detach(&second).await.unwrap();
    client.attach_new().await;
    client.finish().await;
    server.finish().await;
}

#[actix_web::test]
async fn commands_over_the_bound_are_refused_at_once() {
    let server = server(|config| config.pending_commands = 2).await;
    let mut socket = server.raw_known("ann").await;
    let mut bytes = Vec::new();
    for n in 0..3 {
        let command = json!({"op": "attach", "ref": n.to_string(), "session": "new"});
        bytes.extend(kronos_testkit::RawFrame::text(&command.to_string()).encode());
    }
    socket.send_bytes(&bytes).await.unwrap();
    let refused = hear(&mut socket).await;
    assert_eq!(error(&refused), ("2", "overloaded"));
    assert_eq!(refused["details"]["name"], "pending_commands");
    let mut done = 0;
    while done < 2 {
        let frame = hear(&mut socket).await;
        assert_ne!(frame["op"], "error", "{frame}");
        done += usize::from(frame["op"] == "ok");
    }
    say(&mut socket, json!({"op": "attach", "ref": "again", "session": "new"})).await;
    while hear(&mut socket).await["ref"] != "again" {}
    drop(socket);
    server.finish().await;
}
