//! What a client must not send: every refusal has its code, and the server goes on.

use std::time::Duration;

use futures_util::future::join_all;
use kronos_protocol::{ErrorCode, SendMode, ServerFrame, WireError};
use kronos_testkit::{ConnectOptions, RawFrame, RawWs, WsClient, eventually, opcode};
use serde_json::{Value, json};

use crate::{
    harness::{Kronos, kronos, kronos_with},
    rfc6455::{answer, still_answers, stranger, welcomed},
};

const LIMIT: Duration = Duration::from_secs(10);

/// The most memory the server has had so far, in KiB.
fn peak_kib(kronos: &Kronos) -> u64 {
    let pid = kronos.server.pid().expect("it runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .expect("its peak");
    line.trim().trim_end_matches("kB").trim().parse().expect("a number")
}

/// Sends a command on a connection that must refuse it and go on.
async fn refused(client: &mut WsClient, command: Value) -> WireError {
    let shown = command.to_string();
    match client.request(command).await {
        Ok(done) => panic!("{shown} was done: {done:?}"),
        Err(error) => error,
    }
}

async fn expect_refusal(client: &mut WsClient, code: ErrorCode, command: Value) {
    let shown = command.to_string();
    let error = refused(client, command).await;
    assert_eq!((error.code, error.retry), (code, code.retry()), "{shown}: {error:?}");
}

/// Sends a message that is no frame: an error without `ref` must come, then 4400.
async fn expect_bad_frame(kronos: &Kronos, binary: bool, bytes: Vec<u8>) {
    let what = String::from_utf8_lossy(&bytes).chars().take(60).collect::<String>();
    let mut client = match binary {
        true => kronos.msgpack("mallory").await,
        false => kronos.client("mallory").await,
    };
    match binary {
        true => client.send_binary(bytes).await,
        false => client.send_text(&String::from_utf8(bytes).expect("text")).await,
    }
    match client.next_frame(LIMIT).await {
        ServerFrame::Error { reference: None, error } => assert_eq!(error.code, ErrorCode::BadFrame, "{what}"),
        other => panic!("{what}: {other:?}"),
    }
    let closed = client.closed().await;
    assert_eq!(
        (closed.code, closed.text.as_str()),
        (4400, r#"{"retry":false}"#),
        "{what}"
    );
}

#[tokio::test]
async fn malformed_json_is_told_and_closes_with_4400() {
    let kronos = kronos().await;
    let texts = [
        "",
        " ",
        "{",
        "}",
        "null",
        "1",
        "\"text\"",
        "[]",
        r#"[{"op":"ping","ref":"1"}]"#,
        r#"{"op":"ping","ref":"1"} x"#,
        r#"{"op":"ping","ref":"1"}{"op":"ping","ref":"2"}"#,
        r#"{"op":"ping","ref":"1",}"#,
        r#"{'op':'ping'}"#,
        r#"{"op":"ping","ref":"1","x":NaN}"#,
        r#"{"op":"ping","ref":"1","x":1e999}"#,
        r#"{"op":"ping","ref":"\ud800"}"#,
        "{\"op\":\"ping\",\"ref\":\"\u{1}\"}",
        "\u{feff}{\"op\":\"ping\",\"ref\":\"1\"}",
        r#"{"op":"ping","ref":"1","op":"ping"}"#,
        r#"{"op":"ping","ref":"1","ref":"2"}"#,
        r#"{"op":"ping","ref":"1","x":{"a":1,"a":2}}"#,
    ];
    let nested = |depth: usize| {
        format!(
            r#"{{"op":"ping","ref":"1","x":{}{}}}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        )
    };
    let deep = [
        nested(64),
        nested(100_000),
        "[".repeat(200_000),
        r#"{"a":"#.repeat(40_000),
    ];
    let cases = texts.into_iter().map(str::to_owned).chain(deep);
    join_all(cases.map(|text| expect_bad_frame(&kronos, false, text.into_bytes()))).await;
    let mut client = kronos.client("ann").await;
    client.send_text(&nested(63)).await;
    client
        .reply(&"1".parse().unwrap())
        .await
        .expect("as deep as is allowed");
    still_answers(&kronos).await;
}

/// A ping in MessagePack with one more field, whose value is `value`.
fn msgpack_with(value: &[u8]) -> Vec<u8> {
    [&b"\x83\xa2op\xa4ping\xa3ref\xa11\xa1x"[..], value].concat()
}

#[tokio::test]
async fn malformed_msgpack_is_told_and_closes_with_4400() {
    let kronos = kronos().await;
    let mut cases: Vec<Vec<u8>> = vec![
        b"".to_vec(),
        b"\xc0".to_vec(),
        b"\xc1".to_vec(),
        b"\x01".to_vec(),
        b"\x90".to_vec(),
        b"{\"op\":\"ping\",\"ref\":\"1\"}".to_vec(),
        [&msgpack_with(b"\xc0")[..], b"\xc0"].concat(),
        msgpack_with(b""),
        msgpack_with(b"\xc1"),
        msgpack_with(b"\xa2a"),
        msgpack_with(b"\xa1\xff"),
        msgpack_with(b"\xc4\x01a"),
        msgpack_with(b"\xd4\x01a"),
        msgpack_with(b"\x81\x01\x01"),
        msgpack_with(b"\x82\xa1a\x01\xa1a\x02"),
        msgpack_with(b"\xcb\x7f\xf8\0\0\0\0\0\0"),
        b"\x83\xa2op\xa4ping\xa3ref\xa11\xa2op\xa4ping".to_vec(),
        [vec![0x91; 200_000], vec![0xc0]].concat(),
        msgpack_with(&[vec![0x91; 64], vec![0xc0]].concat()),
    ];
    // Strings, bytes, lists, maps and extensions that say they have 2 GiB or 4 Gi entries.
    for length in [[0x7f, 0xff, 0xff, 0xff], [0xff; 4]] {
        for kind in [0xdb, 0xc6, 0xdd, 0xdf, 0xc9] {
            let declared = [&[kind][..], &length, b"abc"].concat();
            cases.push(msgpack_with(&declared));
            cases.push(declared);
        }
    }
    let before = peak_kib(&kronos);
    join_all(cases.into_iter().map(|bytes| expect_bad_frame(&kronos, true, bytes))).await;
    let grown = peak_kib(&kronos) - before;
    assert!(grown < 64 * 1024, "what was only declared took {grown} KiB");
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_frame_of_two_gib_that_was_only_declared_takes_no_memory() {
    let kronos = kronos().await;
    still_answers(&kronos).await;
    let before = peak_kib(&kronos);
    let cases = (0..50).map(|_| async {
        let mut socket = welcomed(&kronos).await;
        let header = RawFrame::new(opcode::TEXT, vec![b'x'; 1024])
            .declaring(1 << 31)
            .encode();
        socket.send_bytes(&header).await.unwrap();
        socket.expect_close(1009).await;
    });
    join_all(cases).await;
    let grown = peak_kib(&kronos) - before;
    assert!(grown < 32 * 1024, "grown by {grown} KiB");
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_command_that_cannot_be_taken_is_an_error_and_the_connection_goes_on() {
    let kronos = kronos().await;
    let mut client = kronos.client("ann").await;
    for (code, command) in [
        (ErrorCode::Unsupported, json!({"op": "fly"})),
        (ErrorCode::Unsupported, json!({"op": "PING"})),
        (ErrorCode::Unsupported, json!({"op": ""})),
        (ErrorCode::Validation, json!({})),
        (ErrorCode::Validation, json!({"op": null})),
        (ErrorCode::Validation, json!({"op": 1})),
        (ErrorCode::Validation, json!({"op": "attach"})),
        (ErrorCode::Validation, json!({"op": "attach", "session": 7})),
        (ErrorCode::Validation, json!({"op": "attach", "session": null})),
        (ErrorCode::Validation, json!({"op": "attach", "session": ""})),
        (
            ErrorCode::Validation,
            json!({"op": "attach", "session": "s".repeat(65)}),
        ),
        (ErrorCode::Validation, json!({"op": "attach", "session": "white space"})),
        (
            ErrorCode::Validation,
            json!({"op": "attach", "session": "new", "tail": -1}),
        ),
        (
            ErrorCode::Validation,
            json!({"op": "attach", "session": "new", "title": ["x"]}),
        ),
        (ErrorCode::Validation, json!({"op": "detach"})),
        (
            ErrorCode::Validation,
            json!({"op": "send", "session": "s", "content": "x"}),
        ),
        (ErrorCode::Validation, json!({"op": "send", "session": "s", "id": "m"})),
        (
            ErrorCode::Validation,
            json!({"op": "send", "session": "s", "id": "", "content": "x"}),
        ),
        (
            ErrorCode::Validation,
            json!({"op": "send", "session": "s", "id": "m", "content": 7}),
        ),
        (
            ErrorCode::Validation,
            json!({"op": "send", "session": "s", "id": "m", "content": "x", "mode": "fast"}),
        ),
        (
            ErrorCode::Validation,
            json!({"op": "send", "session": "s", "id": "m", "content": "x", "run": 7}),
        ),
        (
            ErrorCode::Validation,
            json!({"op": "typing", "session": "s", "on": "yes"}),
        ),
        (
            ErrorCode::Validation,
            json!({"op": "resume", "session": "s", "answers": {}}),
        ),
        (ErrorCode::Validation, json!({"op": "token"})),
        (ErrorCode::Validation, json!({"op": "token", "token": 7})),
        (ErrorCode::Conflict, json!({"op": "hello"})),
        (ErrorCode::Conflict, json!({"op": "typing", "session": "s", "on": true})),
    ] {
        expect_refusal(&mut client, code, command).await;
    }
    client
        .request(json!({"op": "ping", "later": [1]}))
        .await
        .expect("unknown fields are ignored");
    client.finish().await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_ref_must_be_there_and_have_at_most_64_characters() {
    let kronos = kronos().await;
    let mut client = kronos.client("ann").await;
    for bad in [
        json!({"op": "ping"}),
        json!({"op": "ping", "ref": null}),
        json!({"op": "ping", "ref": 1}),
        json!({"op": "ping", "ref": ""}),
        json!({"op": "ping", "ref": "a\u{7f}b"}),
        json!({"op": "ping", "ref": "r".repeat(65)}),
        json!({"op": "ping", "ref": "😀".repeat(65)}),
        json!({"op": "fly"}),
    ] {
        client.send_text(&bad.to_string()).await;
        match client.next_frame(LIMIT).await {
            ServerFrame::Error { reference: None, error } => {
                assert_eq!(
                    (error.code, &error.details["field"]),
                    (ErrorCode::Validation, &json!("ref")),
                    "{bad}"
                );
            }
            other => panic!("{bad}: {other:?}"),
        }
    }
    for good in ["r".repeat(64), "😀".repeat(64)] {
        client
            .request(json!({"op": "ping", "ref": good}))
            .await
            .expect("a ref within the bound");
    }
    client.finish().await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_session_that_is_unknown_and_one_of_somebody_else_are_the_same_answer() {
    let kronos = kronos().await;
    let mut owner = kronos.client("ann").await;
    let theirs = owner.attach_new().await;
    owner.ask(&theirs, "m_1", "a secret").await;
    let unknown = "0192aaaa-0000-7000-8000-000000000000";
    let mut client = kronos.client("mallory").await;
    for mut command in [
        json!({"op": "attach"}),
        json!({"op": "attach", "after": {"epoch": "e_1", "seq": 1}}),
        json!({"op": "send", "id": "m_2", "content": "Hello!"}),
        json!({"op": "send", "id": "m_1", "content": "a secret"}),
        json!({"op": "unqueue", "id": "m_1"}),
        json!({"op": "cancel"}),
    ] {
        let mut answers = Vec::new();
        for session in [unknown, theirs.as_str()] {
            command["session"] = json!(session);
            let error = refused(&mut client, command.clone()).await;
            assert_eq!(error.code, ErrorCode::NotFound, "{command}");
            answers.push(serde_json::to_string(&error).unwrap().replace(session, "<id>"));
        }
        assert_eq!(answers[0], answers[1], "{command}");
    }
    let mut answers = Vec::new();
    for session in [unknown, theirs.as_str()] {
        let reply = kronos
            .server
            .get(&format!("/api/v1/chat/{session}?user_id=mallory"), &[])
            .await;
        let mut body = reply.expect(404);
        body["error"]["request_id"] = Value::Null;
        answers.push(body.to_string().replace(session, "<id>"));
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(
        kronos.stored("ann", theirs.as_str()).await.len(),
        2,
        "nothing was added"
    );
    client.finish().await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused_and_one_from_elsewhere_starts_over() {
    let kronos = kronos().await;
    let mut owner = kronos.client("ann").await;
    let session = owner.attach_new().await;
    owner.ask(&session, "m_1", "Hello!").await;
    let cursor = owner.cursor(&session).unwrap();
    let epoch = cursor.epoch.as_str();
    let mut client = kronos.client("ann").await;
    for after in [
        json!({"epoch": epoch, "seq": -1}),
        json!({"epoch": epoch, "seq": "1"}),
        json!({"epoch": epoch, "seq": 1.5}),
        json!({"epoch": epoch, "seq": 1e30}),
        json!({"epoch": epoch}),
        json!({"seq": 1}),
        json!({"epoch": "", "seq": 1}),
        json!({"epoch": 7, "seq": 1}),
        json!(format!("{epoch}:1")),
        json!(1),
    ] {
        let command = json!({"op": "attach", "session": session, "after": after});
        expect_refusal(&mut client, ErrorCode::Validation, command).await;
    }
    for (epoch, seq) in [
        (epoch, cursor.seq + 1),
        (epoch, u64::MAX),
        ("e_elsewhere", 0),
        ("e_elsewhere", cursor.seq),
    ] {
        let mut fresh = kronos.client("ann").await;
        let after = kronos_protocol::Cursor::new(epoch.parse::<kronos_protocol::EpochId>().unwrap(), seq);
        let attached = fresh.attach(&session, Some(after)).await;
        assert!(!attached.recovered, "{epoch}:{seq}");
        fresh.until_caught_up(&session).await;
        assert_eq!(fresh.transcript(&session), owner.transcript(&session), "{epoch}:{seq}");
        fresh.ask(&session, &format!("m_{epoch}_{seq}"), "and on?").await;
        owner.until_caught_up(&session).await;
        owner
            .until("the same", |owner| owner.cursor(&session) == fresh.cursor(&session))
            .await;
    }
    still_answers(&kronos).await;
}

#[tokio::test]
async fn who_does_not_say_hello_is_closed_with_4408_whatever_else_it_says() {
    let kronos = kronos_with(400.0, &[("HELLO_TIMEOUT", "400ms")]).await;
    let mut known = welcomed(&kronos).await;
    let mut silent = stranger(&kronos, &[]).await;
    let mut chatty = stranger(&kronos, &[]).await;
    for n in 0..3 {
        let command = json!({"op": "attach", "ref": format!("{n}"), "session": "new"});
        chatty.send(&RawFrame::text(&command.to_string())).await.unwrap();
        let refused = answer(&mut chatty).await;
        assert_eq!(
            (&refused["ref"], &refused["code"]),
            (&json!(n.to_string()), &json!("unauthenticated"))
        );
    }
    chatty.send(&RawFrame::text("[").not_final()).await.unwrap();
    for socket in [&mut silent, &mut chatty] {
        assert_eq!(socket.expect_close(4408).await, r#"{"retry":true}"#);
    }
    known.send(&RawFrame::text(r#"{"op":"ping","ref":"1"}"#)).await.unwrap();
    assert_eq!(answer(&mut known).await["ref"], "1");
    still_answers(&kronos).await;
}

#[tokio::test]
async fn hello_is_said_once_and_with_the_codec_that_was_chosen() {
    let kronos = kronos().await;
    let mut client = kronos
        .server
        .connect(ConnectOptions {
            hello: false,
            ..ConnectOptions::user("ann")
        })
        .await;
    expect_refusal(&mut client, ErrorCode::Unauthenticated, json!({"op": "ping"})).await;
    expect_refusal(&mut client, ErrorCode::Unsupported, json!({"op": "fly"})).await;
    expect_refusal(
        &mut client,
        ErrorCode::Validation,
        json!({"op": "hello", "codec": "xml"}),
    )
    .await;
    expect_refusal(
        &mut client,
        ErrorCode::Validation,
        json!({"op": "hello", "codec": "msgpack"}),
    )
    .await;
    expect_refusal(
        &mut client,
        ErrorCode::Validation,
        json!({"op": "hello", "client": "a name"}),
    )
    .await;
    client.hello().await;
    expect_refusal(&mut client, ErrorCode::Conflict, json!({"op": "hello"})).await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    client.finish().await;
    still_answers(&kronos).await;
}

/// Shakes hands with an `Origin` and returns the answer.
async fn from_origin(kronos: &Kronos, host: &str, origin: &str) -> kronos_testkit::Handshake {
    let mut socket = RawWs::connect(kronos.server.address(), LIMIT).await.unwrap();
    let headers = [
        ("Host", host),
        ("Origin", origin),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    socket.handshake("/ws?user=ann", &headers).await.unwrap()
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_unless_they_are_listed() {
    let listed = ("ALLOWED_HOSTS", r#"["https://app.example.com", "dev.example.com"]"#);
    let kronos = kronos_with(400.0, &[listed]).await;
    let host = kronos.server.address().to_string();
    let same = format!("http://{host}");
    for (origin, status) in [
        (same.as_str(), 101),
        ("https://app.example.com", 101),
        ("http://dev.example.com:3000", 101),
        ("http://app.example.com", 403),
        ("https://app.example.com.evil.test", 403),
        ("https://evil.test", 403),
        ("http://127.0.0.1", 403),
        ("null", 403),
        ("", 403),
    ] {
        let answer = from_origin(&kronos, &host, origin).await;
        assert_eq!(answer.status, status, "{origin:?}");
        if status == 403 {
            let body: Value = serde_json::from_str(&answer.body).expect("JSON");
            assert_eq!(body["error"]["code"], "AUTHORIZATION_ERROR", "{origin:?}");
            assert_eq!(body["error"]["request_id"].as_str(), answer.header("x-request-id"));
        }
    }
    still_answers(&kronos).await;
}

fn attach_new() -> Value {
    json!({"op": "attach", "session": "new"})
}

#[tokio::test]
async fn a_connection_attaches_exactly_as_many_sessions_as_its_bound() {
    let kronos = kronos_with(400.0, &[("CONNECTION_ATTACHMENTS", "3")]).await;
    let mut client = kronos.client("ann").await;
    assert_eq!(client.welcome().limits.attachments, 3);
    let first = client.attach_new().await;
    let mut asked = Vec::new();
    for _ in 0..4 {
        asked.push(client.start(attach_new()).await);
    }
    let mut made = 0;
    for reference in &asked {
        match client.reply(reference).await {
            Ok(_) => made += 1,
            Err(error) => assert_eq!(
                (error.code, &error.details, error.retry),
                (ErrorCode::Overloaded, &json!({"name": "attachments", "limit": 3}), true)
            ),
        }
    }
    assert_eq!(made, 2, "also those that were on their way counted");
    client.attach(&first, None).await;
    client.detach(&first).await.expect("detached");
    client.attach_new().await;
    let error = refused(&mut client, json!({"op": "attach", "session": first})).await;
    assert_eq!(error.code, ErrorCode::Overloaded);
    client.finish().await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn more_commands_than_may_wait_are_refused_each_with_its_ref() {
    let kronos = kronos_with(400.0, &[("PENDING_COMMANDS", "4")]).await;
    let mut socket = welcomed(&kronos).await;
    for (count, refusals) in [(3, false), (4, false), (60, true), (4, false)] {
        let frames = (0..count).map(|n| {
            RawFrame::text(&json!({"op": "attach", "session": "new", "ref": n.to_string()}).to_string()).encode()
        });
        let bytes: Vec<u8> = frames.flatten().collect();
        socket.send_bytes(&bytes).await.unwrap();
        let mut refs = Vec::new();
        let mut refused = 0;
        let mut attached = Vec::new();
        while refs.len() < count {
            let reply = answer(&mut socket).await;
            match reply["op"].as_str().unwrap() {
                "ok" => attached.push(reply["session"].clone()),
                "error" => {
                    assert_eq!(
                        (&reply["code"], &reply["retry"]),
                        (&json!("overloaded"), &json!(true)),
                        "{reply}"
                    );
                    assert_eq!(reply["details"]["name"], "pending_commands");
                    assert!(reply["after_ms"].is_u64());
                    refused += 1;
                }
                _ => continue,
            }
            refs.push(reply["ref"].as_str().unwrap().parse::<usize>().unwrap());
        }
        refs.sort_unstable();
        assert_eq!(refs, (0..count).collect::<Vec<_>>(), "one reply each");
        assert_eq!(refused > 0, refusals, "{refused} of {count}");
        detach_all(&mut socket, &attached).await;
    }
    still_answers(&kronos).await;
}

async fn detach_all(socket: &mut RawWs, sessions: &[Value]) {
    for session in sessions {
        let detach = json!({"op": "detach", "session": session, "ref": "d"}).to_string();
        socket.send(&RawFrame::text(&detach)).await.unwrap();
        while answer(socket).await["ref"] != "d" {}
    }
}

/// Tries to open one more websocket at `path`; its status, and the body of a refusal.
async fn status_of(kronos: &Kronos, path: &str) -> (RawWs, kronos_testkit::Handshake) {
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

fn expect_full(answer: &kronos_testkit::Handshake) {
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));
    let body: Value = serde_json::from_str(&answer.body).expect("JSON");
    assert_eq!(body["error"]["code"], "SERVICE_UNAVAILABLE");
}

#[tokio::test]
async fn the_process_takes_exactly_as_many_connections_as_its_bound() {
    let kronos = kronos_with(400.0, &[("MAX_CONNECTIONS", "3")]).await;
    let mut open = Vec::new();
    for n in 0..3 {
        let (socket, answer) = status_of(&kronos, &format!("/ws?user=u{n}")).await;
        assert_eq!(answer.status, 101, "connection {n}");
        open.push(socket);
    }
    expect_full(&status_of(&kronos, "/ws").await.1);
    kronos.server.get("/health/ready", &[]).await.expect(200);
    let mut closing = open.pop().unwrap();
    closing.send(&RawFrame::close(1000, "")).await.unwrap();
    closing.expect_close(1000).await;
    // One that is cut without a word gives its place back as well.
    drop(open.pop());
    let again = || async { (status_of(&kronos, "/ws?user=ann").await.1.status == 101).then_some(()) };
    eventually(LIMIT, "a place is free again", again).await;
    drop(open);
    eventually(LIMIT, "places are free", || async {
        WsClient::try_connect(&kronos.server.ws_url(), ConnectOptions::user("bob"))
            .await
            .map(drop)
    })
    .await;
    let full = || async { status_of(&kronos, "/ws?user=eve").await.1.status == 101 };
    eventually(LIMIT, "all are gone", full).await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_user_has_exactly_as_many_connections_as_its_bound() {
    let kronos = kronos_with(400.0, &[("MAX_CONNECTIONS_PER_USER", "2")]).await;
    let mut first = kronos.client("ann").await;
    let mut second = kronos.client("ann").await;
    expect_full(&status_of(&kronos, "/ws?user=ann").await.1);
    // Who is known only from hello is refused there: with an error, then 1013.
    let guest = ConnectOptions {
        hello: false,
        ..ConnectOptions::default()
    };
    let mut guests = Vec::new();
    for _ in 0..2 {
        guests.push(kronos.server.connect(ConnectOptions::default()).await);
    }
    let mut third = kronos.server.connect(guest).await;
    let error = refused(&mut third, json!({"op": "hello"})).await;
    assert_eq!((error.code, error.retry), (ErrorCode::Overloaded, true));
    let closed = third.closed().await;
    assert_eq!(
        (closed.code, closed.reason().map(|reason| reason.retry)),
        (1013, Some(true))
    );
    for client in [&mut first, &mut second] {
        client.request(json!({"op": "ping"})).await.expect("the others stay");
    }
    first.finish().await;
    eventually(LIMIT, "the place is free", || async {
        WsClient::try_connect(&kronos.server.ws_url(), ConnectOptions::user("ann"))
            .await
            .map(drop)
    })
    .await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn commands_about_what_is_not_there_are_refused_and_change_nothing() {
    let kronos = kronos().await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    let answer = client
        .transcript(&session)
        .messages
        .last()
        .expect("an answer")
        .id
        .clone();
    let long = "x".repeat(201);
    let rules: serde_json::Map<String, Value> = (0..257).map(|n| (format!("TOOL_{n}"), json!("ask"))).collect();
    for (code, mut command) in [
        (
            ErrorCode::NotFound,
            json!({"op": "edit", "message": "m_9", "content": "Hi!"}),
        ),
        (
            ErrorCode::Validation,
            json!({"op": "edit", "message": answer, "content": "Hi!"}),
        ),
        (
            ErrorCode::Validation,
            json!({"op": "edit", "message": "m_1", "content": ""}),
        ),
        (ErrorCode::NotFound, json!({"op": "regenerate", "message": "m_9"})),
        (
            ErrorCode::NotFound,
            json!({"op": "resume", "answers": [{"interrupt": "i_1", "status": "resolved"}]}),
        ),
        (ErrorCode::Validation, json!({"op": "resume", "answers": []})),
        (ErrorCode::Validation, json!({"op": "settings", "title": ""})),
        (ErrorCode::Validation, json!({"op": "settings", "title": long})),
        (ErrorCode::Validation, json!({"op": "settings", "model": "../secret"})),
        (ErrorCode::Validation, json!({"op": "settings", "tool_rules": rules})),
        (
            ErrorCode::NotFound,
            json!({"op": "settings", "title": "Good", "branch": "b_none"}),
        ),
    ] {
        command["session"] = json!(session);
        expect_refusal(&mut client, code, command).await;
    }
    client.ask(&session, "m_2", "And on?").await;
    assert_eq!(kronos.stored("ann", session.as_str()).await.len(), 4);
    client.finish().await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_message_has_at_most_32000_characters_whatever_their_bytes() {
    let kronos = kronos().await;
    // The model answers with three words.
    let of = |chars: usize| format!("[[tokens 3]] {}", "😀".repeat(chars - 13));
    let (most, more) = (of(32_000), of(32_001));
    for mut client in [kronos.client("ann").await, kronos.msgpack("ann").await] {
        let session = client.attach_new().await;
        let error = client
            .try_send(&session, "m_1", &more, SendMode::Queue)
            .await
            .unwrap_err();
        assert_eq!(error.code, ErrorCode::TooLarge);
        assert_eq!(
            (&error.details["limit"], &error.details["chars"]),
            (&json!(32_000), &json!(32_001))
        );
        client.ask(&session, "m_1", &most).await;
        assert_eq!(kronos.stored("ann", session.as_str()).await[0], format!("user: {most}"));
        let parts = |first: &str, second: &str| {
            let parts = [first, second].map(|text| json!({"type": "text", "text": text}));
            json!({"op": "send", "session": session, "id": "m_2", "content": parts})
        };
        expect_refusal(&mut client, ErrorCode::TooLarge, parts(&most, "x")).await;
        for empty in [json!(""), json!([])] {
            let command = json!({"op": "send", "session": session, "id": "m_3", "content": empty});
            expect_refusal(&mut client, ErrorCode::Validation, command).await;
        }
        client.finish().await;
    }
    let post = |text: &str| json!({"message": text, "user_id": "ann"});
    let reply = kronos.server.post("/api/v1/chat/message", &[], &post(&more)).await;
    let error = reply.expect(422);
    let row = &error["error"]["details"]["errors"][0];
    assert_eq!(
        (&row["field"], &row["type"]),
        (&json!("body.message"), &json!("string_too_long"))
    );
    kronos
        .server
        .post("/api/v1/chat/message", &[], &post(&most))
        .await
        .expect(200);
    kronos
        .server
        .post("/api/v1/chat/message", &[], &post(""))
        .await
        .expect(422);
    still_answers(&kronos).await;
}
