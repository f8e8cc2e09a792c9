//! RFC 6455 to the letter, over a socket that may break every rule.

use std::time::Duration;

use futures_util::future::join_all;
use kronos_protocol::Codec;
use kronos_testkit::{RawFrame, RawWs, ReceivedFrame, opcode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Kronos, kronos, kronos_with};

const LIMIT: Duration = Duration::from_secs(10);

/// Opens a socket that has not said hello.
pub(crate) async fn stranger(kronos: &Kronos, headers: &[(&str, &str)]) -> RawWs {
    RawWs::open(kronos.server.address(), "/ws?user=raw", headers, LIMIT)
        .await
        .expect("the upgrade")
}

/// Opens a socket and says hello.
pub(crate) async fn welcomed(kronos: &Kronos) -> RawWs {
    let mut socket = stranger(kronos, &[]).await;
    socket
        .send(&RawFrame::text(r#"{"op":"hello","ref":"h"}"#))
        .await
        .expect("sent");
    assert_eq!(answer(&mut socket).await["ref"], "h");
    socket
}

/// Reads the next message, which must be one whole text frame of JSON.
pub(crate) async fn answer(socket: &mut RawWs) -> Value {
    let frame = frame(socket).await;
    assert_eq!(frame.opcode, opcode::TEXT, "{frame:?}");
    serde_json::from_slice(&frame.payload).expect("JSON")
}

/// Asks on another socket for an answer, which shows that the server as a whole is well.
pub(crate) async fn still_answers(kronos: &Kronos) {
    let mut client = kronos.client("bystander").await;
    let session = client.attach_new().await;
    let answer = client.ask(&session, "m_1", "What is the capital of Switzerland?").await;
    assert!(answer.contains("Bern"), "{answer}");
    client.finish().await;
}

/// Reads the next frame; answers the pings by which the server learns how far it was read.
async fn frame(socket: &mut RawWs) -> ReceivedFrame {
    loop {
        let frame = socket.next_frame().await.expect("a frame").expect("not the end");
        assert!(frame.fin && frame.rsv == 0, "{frame:?}");
        if frame.opcode != opcode::PING {
            return frame;
        }
        socket
            .send(&RawFrame::new(opcode::PONG, frame.payload))
            .await
            .expect("sent");
    }
}

/// A command that is answered with its `ref`.
fn ping(reference: &str) -> String {
    json!({"op": "ping", "ref": reference}).to_string()
}

/// The same, padded to `bytes`.
fn padded_ping(bytes: usize) -> String {
    format!("{:<bytes$}", ping("p"))
}

async fn expect_answer(socket: &mut RawWs, reference: &str) {
    let answer = answer(socket).await;
    assert_eq!(
        (&answer["op"], &answer["ref"]),
        (&json!("ok"), &json!(reference)),
        "{answer}"
    );
}

async fn expect_pong(socket: &mut RawWs, payload: &[u8]) {
    let frame = frame(socket).await;
    assert_eq!((frame.opcode, frame.payload.as_slice()), (opcode::PONG, payload));
}

/// Reads frames until the close frame and compares its code; then the server must close the connection.
async fn expect_end(socket: &mut RawWs, code: u16, what: &str) -> String {
    let (found, reason) = match socket.close_code().await {
        Ok(close) => close,
        Err(error) => panic!("{what}: {error:#}"),
    };
    assert_eq!(found, code, "{what}: {reason}");
    if let Err(error) = socket.expect_eof().await {
        panic!("{what}: {error:#}");
    }
    reason
}

/// Sends the frames on a socket of their own, and one more command behind them that nobody may answer.
async fn violates(kronos: &Kronos, code: u16, what: String, frames: Vec<RawFrame>) {
    let mut socket = welcomed(kronos).await;
    let mut bytes: Vec<u8> = frames.iter().flat_map(RawFrame::encode).collect();
    bytes.extend(RawFrame::text(&ping("after")).encode());
    socket.send_bytes(&bytes).await.expect("sent");
    let close = frame(&mut socket).await;
    let (found, reason) = close.close().unwrap_or_else(|| panic!("{what}: {close:?}"));
    assert_eq!(found, code, "{what}: {reason}");
    assert_eq!(reason, r#"{"retry":false}"#, "{what}");
    assert_eq!(socket.next_frame().await.expect("the end"), None, "{what}");
}

async fn all_violate(kronos: &Kronos, code: u16, cases: Vec<(String, Vec<RawFrame>)>) {
    let cases = cases
        .into_iter()
        .map(|(what, frames)| violates(kronos, code, what, frames));
    join_all(cases).await;
}

fn text(bytes: &[u8]) -> RawFrame {
    RawFrame::new(opcode::TEXT, bytes)
}

fn more(bytes: &[u8]) -> RawFrame {
    RawFrame::new(opcode::CONTINUATION, bytes)
}

#[tokio::test]
async fn fragments_are_put_together_and_pings_between_them_are_answered_at_once() {
    let kronos = kronos().await;
    let mut socket = welcomed(&kronos).await;
    let message = ping("f");
    let (head, tail) = message.as_bytes().split_at(9);
    let payload: Vec<u8> = (0..125).map(|byte| byte ^ 0xA5).collect();
    socket.send(&text(head).not_final()).await.unwrap();
    for payload in [&[][..], b"x", &payload] {
        socket.send(&RawFrame::new(opcode::PING, payload)).await.unwrap();
        expect_pong(&mut socket, payload).await;
    }
    socket.send(&RawFrame::new(opcode::PONG, "nobody asked")).await.unwrap();
    socket.send(&more(b"").not_final()).await.unwrap();
    socket.send(&more(tail)).await.unwrap();
    expect_answer(&mut socket, "f").await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_message_may_come_in_any_number_of_fragments_and_any_size_of_tcp_segments() {
    let kronos = kronos().await;
    let mut socket = welcomed(&kronos).await;
    let message = ping("tiny");
    let mut bytes = text(b"").not_final().encode();
    for byte in message.bytes() {
        bytes.extend(more(&[byte]).not_final().encode());
        bytes.extend(more(b"").not_final().encode().repeat(20));
        bytes.extend(RawFrame::new(opcode::PING, [byte]).encode());
    }
    bytes.extend(more(b"").encode());
    socket.send_bytes(&bytes).await.unwrap();
    for byte in message.bytes() {
        expect_pong(&mut socket, &[byte]).await;
    }
    expect_answer(&mut socket, "tiny").await;

    let long = padded_ping(400);
    let frames = [
        text(&long.as_bytes()[..130]).not_final(),
        RawFrame::new(opcode::PING, "between"),
        more(&long.as_bytes()[130..]),
    ];
    for byte in frames.iter().flat_map(RawFrame::encode) {
        socket.send_bytes(&[byte]).await.unwrap();
    }
    expect_pong(&mut socket, b"between").await;
    expect_answer(&mut socket, "p").await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn many_frames_in_one_segment_are_answered_one_by_one_in_order() {
    let kronos = kronos().await;
    let mut socket = welcomed(&kronos).await;
    let mut bytes = Vec::new();
    for n in 0..300 {
        bytes.extend(RawFrame::new(opcode::PING, format!("{n}")).encode());
        bytes.extend(RawFrame::new(opcode::PONG, "").encode());
        bytes.extend(RawFrame::text(&ping(&format!("c{n}"))).encode());
    }
    socket.send_bytes(&bytes).await.unwrap();
    for n in 0..300 {
        expect_pong(&mut socket, n.to_string().as_bytes()).await;
        expect_answer(&mut socket, &format!("c{n}")).await;
    }
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_character_may_be_split_over_fragments_at_every_byte() {
    let kronos = kronos().await;
    let mut socket = welcomed(&kronos).await;
    // The first and the last character of every length, and the neighbours of the surrogates.
    let reference = "\u{80}\u{7ff}\u{800}\u{d7ff}\u{e000}\u{ffff}\u{10000}\u{10ffff}é€😀".replace('\u{80}', "\u{a0}");
    let message = ping(&reference);
    for at in 1..message.len() {
        let (head, tail) = message.as_bytes().split_at(at);
        socket.send(&text(head).not_final()).await.unwrap();
        socket.send(&more(tail)).await.unwrap();
        expect_answer(&mut socket, &reference).await;
    }
    still_answers(&kronos).await;
}

/// Byte sequences that are not UTF-8, whatever follows.
const NOT_UTF8: [&[u8]; 16] = [
    b"\x80",
    b"\xbf",
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xc3\x28",
    b"\xe0\x80",
    b"\xe0\x9f",
    b"\xe2\x82\x28",
    b"\xed\xa0",
    b"\xed\xbf",
    b"\xf0\x80",
    b"\xf0\x8f",
    b"\xf4\x90",
    b"\xf5",
    b"\xfe",
    b"\xff",
];

#[tokio::test]
async fn text_that_is_not_utf8_is_1007_however_it_is_cut() {
    let kronos = kronos().await;
    let mut cases = Vec::new();
    for bad in NOT_UTF8 {
        let bytes = [br#"{"op":"ping","ref":""#, bad, b"\"}"].concat();
        cases.push((format!("{bad:x?} in one frame"), vec![text(&bytes)]));
        for at in 20..=20 + bad.len() {
            let (head, tail) = bytes.split_at(at);
            cases.push((
                format!("{bad:x?} cut at {at}"),
                vec![text(head).not_final(), RawFrame::new(opcode::PONG, ""), more(tail)],
            ));
        }
    }
    for short in [&b"\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x98"] {
        cases.push((format!("{short:x?} at the end"), vec![text(short)]));
        cases.push((
            format!("{short:x?} before an empty end"),
            vec![text(short).not_final(), more(b"")],
        ));
    }
    all_violate(&kronos, 1007, cases).await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_bad_byte_is_1007_before_its_message_or_even_its_frame_is_complete() {
    let kronos = kronos().await;
    let server = &kronos;
    let hasty = NOT_UTF8.iter().map(|bad| async move {
        let what = format!("{bad:x?}");
        let mut socket = welcomed(server).await;
        let unfinished = text(&[b"{\"op\":", *bad].concat()).not_final();
        socket.send(&unfinished).await.unwrap();
        expect_end(&mut socket, 1007, &what).await;
        let mut socket = welcomed(server).await;
        socket.send(&text(bad).declaring(100)).await.unwrap();
        expect_end(&mut socket, 1007, &what).await;
    });
    join_all(hasty).await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn frames_that_the_rfc_forbids_are_1002() {
    let kronos = kronos().await;
    let whole = || RawFrame::text(&ping("x"));
    let mut cases = vec![
        ("a continuation of nothing".to_owned(), vec![more(b"x")]),
        (
            "an unfinished continuation of nothing".to_owned(),
            vec![more(b"").not_final()],
        ),
        (
            "a second message within the first".to_owned(),
            vec![text(b"a").not_final(), whole()],
        ),
        (
            "a binary message within a text".to_owned(),
            vec![text(b"a").not_final(), RawFrame::new(opcode::BINARY, "b").not_final()],
        ),
        (
            "a continuation with a reserved bit".to_owned(),
            vec![text(b" ").not_final(), more(b"").with_rsv(1)],
        ),
        ("unmasked text".to_owned(), vec![whole().unmasked()]),
        (
            "unmasked ping".to_owned(),
            vec![RawFrame::new(opcode::PING, "").unmasked()],
        ),
        ("unmasked close".to_owned(), vec![RawFrame::close(1000, "").unmasked()]),
        ("a length of 2^63".to_owned(), vec![text(b"").declaring(1 << 63)]),
        ("a length of 2^64 - 1".to_owned(), vec![text(b"").declaring(u64::MAX)]),
    ];
    for rsv in 1..=7 {
        cases.push((format!("text with reserved bits {rsv}"), vec![whole().with_rsv(rsv)]));
        cases.push((
            format!("ping with reserved bits {rsv}"),
            vec![RawFrame::new(opcode::PING, "").with_rsv(rsv)],
        ));
    }
    for unknown in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        cases.push((format!("opcode {unknown}"), vec![RawFrame::new(unknown, "")]));
        cases.push((
            format!("opcode {unknown} within a message"),
            vec![text(b"a").not_final(), RawFrame::new(unknown, "b")],
        ));
    }
    for control in [opcode::CLOSE, opcode::PING, opcode::PONG] {
        cases.push((
            format!("fragmented control {control}"),
            vec![RawFrame::new(control, "").not_final()],
        ));
        for length in [126, 127, 65_535, 65_536] {
            cases.push((
                format!("control {control} of {length} bytes"),
                vec![RawFrame::new(control, vec![3; length])],
            ));
        }
    }
    all_violate(&kronos, 1002, cases).await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_length_in_a_longer_form_than_it_needs_is_1002() {
    let kronos = kronos().await;
    let short = |length: u16| [&[0x81, 0xFE][..], &length.to_be_bytes()].concat();
    let long = |length: u64| [&[0x81, 0xFF][..], &length.to_be_bytes()].concat();
    let headers = [
        short(0),
        short(5),
        short(125),
        long(0),
        long(5),
        long(126),
        long(65_535),
    ];
    let server = &kronos;
    let cases = headers.iter().map(|header| async move {
        let mut socket = welcomed(server).await;
        socket.send_bytes(header).await.unwrap();
        expect_end(&mut socket, 1002, &format!("{header:x?}")).await;
    });
    join_all(cases).await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn messages_may_have_exactly_the_bytes_that_welcome_tells() {
    const FRAME: usize = 8 * 1024;
    const PRE_AUTH: usize = 4 * 1024;
    let kronos = kronos_with(400.0, &[("FRAME_BYTES", "8KiB"), ("PRE_AUTH_FRAME_BYTES", "4KiB")]).await;
    assert_eq!(kronos.client("ann").await.welcome().limits.frame_bytes, FRAME);
    for bytes in [FRAME - 1, FRAME] {
        let mut socket = welcomed(&kronos).await;
        socket.send(&RawFrame::text(&padded_ping(bytes))).await.unwrap();
        expect_answer(&mut socket, "p").await;
        let message = padded_ping(bytes);
        for (n, part) in message.as_bytes().chunks(1000).enumerate() {
            let part = if n == 0 { text(part) } else { more(part) };
            socket.send(&part.not_final()).await.unwrap();
        }
        socket.send(&more(b"")).await.unwrap();
        expect_answer(&mut socket, "p").await;
    }
    for bytes in [PRE_AUTH - 1, PRE_AUTH] {
        let mut socket = stranger(&kronos, &[]).await;
        let hello = format!("{:<bytes$}", r#"{"op":"hello","ref":"h"}"#);
        socket.send(&RawFrame::text(&hello)).await.unwrap();
        expect_answer(&mut socket, "h").await;
    }
    for bytes in [FRAME as u64 + 1, 1 << 31, (1 << 63) - 1] {
        let mut socket = welcomed(&kronos).await;
        socket.send_bytes(&header_alone(opcode::TEXT, bytes)).await.unwrap();
        expect_end(&mut socket, 1009, "the header alone").await;
    }
    let mut socket = stranger(&kronos, &[]).await;
    socket
        .send_bytes(&header_alone(opcode::TEXT, PRE_AUTH as u64 + 1))
        .await
        .unwrap();
    let reason = expect_end(&mut socket, 1009, "before hello").await;
    assert_eq!(reason, r#"{"retry":false}"#);
    still_answers(&kronos).await;
}

#[tokio::test]
async fn fragments_count_together_for_the_limit() {
    let kronos = kronos_with(400.0, &[("FRAME_BYTES", "8KiB"), ("PRE_AUTH_FRAME_BYTES", "4KiB")]).await;
    let mut socket = welcomed(&kronos).await;
    socket.send(&text(&vec![b' '; 8_000]).not_final()).await.unwrap();
    socket.send(&more(&[b' '; 191]).not_final()).await.unwrap();
    socket
        .send(&RawFrame::new(opcode::PING, vec![b'p'; 125]))
        .await
        .unwrap();
    expect_pong(&mut socket, &[b'p'; 125]).await;
    socket.send_bytes(&header_alone(opcode::CONTINUATION, 2)).await.unwrap();
    expect_end(&mut socket, 1009, "the sum is one over").await;
    still_answers(&kronos).await;
}

/// The header of a final frame of 126 bytes or more, without mask and payload.
fn header_alone(opcode: u8, bytes: u64) -> Vec<u8> {
    let mut header = RawFrame::new(opcode, "").unmasked().declaring(bytes).encode();
    header[1] |= 0x80;
    header
}

#[tokio::test]
async fn a_close_frame_is_answered_with_its_code_and_the_connection_ends() {
    // The socket ends with the close handshake, not with the time that an HTTP client has to take its answer.
    let kronos = kronos_with(400.0, &[("DISCONNECT_TIMEOUT", "10m")]).await;
    let codes = [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4401, 4999,
    ];
    let cases = codes.map(|code| (code, RawFrame::close(code, "bye, 世界")));
    let empty = (1005, RawFrame::new(opcode::CLOSE, ""));
    let longest = (1000, RawFrame::close(1000, &"x".repeat(123)));
    let cases = cases.into_iter().chain([empty, longest]).map(|(code, close)| {
        let kronos = &kronos;
        async move {
            let mut socket = welcomed(kronos).await;
            socket.send(&close).await.unwrap();
            expect_end(&mut socket, code, "the echo").await;
        }
    });
    join_all(cases).await;
    let mut early = stranger(&kronos, &[]).await;
    early.send(&RawFrame::close(1000, "")).await.unwrap();
    expect_end(&mut early, 1000, "before hello").await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_close_frame_that_may_not_be_sent_is_1002_and_a_reason_that_is_no_text_1007() {
    let kronos = kronos().await;
    let codes = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535];
    let mut cases: Vec<_> = codes
        .iter()
        .map(|code| (format!("close {code}"), vec![RawFrame::close(*code, "")]))
        .collect();
    cases.push(("one byte".to_owned(), vec![RawFrame::new(opcode::CLOSE, [3])]));
    all_violate(&kronos, 1002, cases).await;
    let reasons = NOT_UTF8.into_iter().chain([&b"\xe2\x82"[..]]).map(|reason| {
        let body = [&1000_u16.to_be_bytes()[..], reason].concat();
        (format!("reason {reason:x?}"), vec![RawFrame::new(opcode::CLOSE, body)])
    });
    all_violate(&kronos, 1007, reasons.collect()).await;
    still_answers(&kronos).await;
}

#[tokio::test]
async fn what_came_before_a_close_is_answered_and_nothing_after_it() {
    let kronos = kronos().await;
    let mut owner = kronos.client("raw").await;
    let session = owner.attach_new().await;
    let mut socket = welcomed(&kronos).await;
    let send = json!({"op": "send", "ref": "s", "session": session, "id": "m_late", "content": "Hello!"});
    let frames = [
        RawFrame::text(&ping("before")),
        RawFrame::new(opcode::PING, "before"),
        text(b"{\"unfinished\"").not_final(),
        RawFrame::close(1000, ""),
        RawFrame::new(opcode::PING, "after"),
        RawFrame::text(&send.to_string()),
    ];
    let bytes: Vec<u8> = frames.iter().flat_map(RawFrame::encode).collect();
    socket.send_bytes(&bytes).await.unwrap();
    expect_answer(&mut socket, "before").await;
    expect_pong(&mut socket, b"before").await;
    assert_eq!(frame(&mut socket).await.close(), Some((1000, String::new())));
    assert_eq!(
        socket.next_frame().await.unwrap(),
        None,
        "the server closes and says no more"
    );
    owner.ask(&session, "m_1", "Hello!").await;
    assert!(owner.transcript(&session).message("m_late").is_none());
    still_answers(&kronos).await;
}

#[tokio::test]
async fn a_message_of_the_other_type_than_the_subprotocol_has_is_1003() {
    let kronos = kronos().await;
    let msgpack = Codec::Msgpack.encode(&json!({"op": "ping", "ref": "1"})).unwrap();
    let mut json = welcomed(&kronos).await;
    json.send(&RawFrame::new(opcode::BINARY, msgpack)).await.unwrap();
    expect_end(&mut json, 1003, "MessagePack on a JSON socket").await;
    let mut binary = stranger(&kronos, &[("Sec-WebSocket-Protocol", "kronos.v1.msgpack")]).await;
    binary
        .send(&RawFrame::text(r#"{"op":"hello","ref":"h"}"#))
        .await
        .unwrap();
    expect_end(&mut binary, 1003, "JSON on a MessagePack socket").await;
    let mut binary = stranger(&kronos, &[("Sec-WebSocket-Protocol", "kronos.v1.msgpack")]).await;
    binary
        .send(&RawFrame::new(opcode::BINARY, b"\xff\xfe\x80"))
        .await
        .unwrap();
    expect_end(&mut binary, 4400, "bytes are not text, so they need not be UTF-8").await;
    still_answers(&kronos).await;
}

/// The headers of a correct handshake.
const HANDSHAKE: [(&str, &str); 5] = [
    ("Host", "kronos.test"),
    ("Upgrade", "websocket"),
    ("Connection", "keep-alive, Upgrade"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("Sec-WebSocket-Version", "13"),
];

/// The handshake with one header changed, or left out.
fn handshake_with(name: &str, value: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    HANDSHAKE
        .into_iter()
        .filter_map(|(known, usual)| {
            if known == name {
                value.map(|value| (known, value))
            } else {
                Some((known, usual))
            }
        })
        .collect()
}

#[tokio::test]
async fn a_handshake_that_is_not_one_is_refused_with_a_reason() {
    let kronos = kronos().await;
    let cases = [
        ("Sec-WebSocket-Key", None, 400),
        ("Sec-WebSocket-Key", Some(""), 400),
        ("Sec-WebSocket-Key", Some("dGhlIHNhbXBsZQ=="), 400),
        ("Sec-WebSocket-Key", Some("not base64!"), 400),
        ("Sec-WebSocket-Version", None, 400),
        ("Sec-WebSocket-Version", Some("8"), 426),
        ("Sec-WebSocket-Version", Some("7"), 426),
        ("Sec-WebSocket-Version", Some("14"), 426),
        ("Upgrade", None, 400),
        ("Upgrade", Some("h2c"), 400),
        ("Connection", None, 400),
        ("Connection", Some("keep-alive"), 400),
    ];
    for (name, value, status) in cases {
        let mut socket = RawWs::connect(kronos.server.address(), LIMIT).await.unwrap();
        let answer = socket.handshake("/ws", &handshake_with(name, value)).await.unwrap();
        assert_eq!(answer.status, status, "{name}: {value:?}");
        let hint = answer.header("sec-websocket-version");
        assert_eq!(hint, (status == 426).then_some("13"), "{name}: {value:?}");
        assert!(answer.header("x-request-id").is_some(), "{name}: {value:?}");
    }
    for path in ["/ws", "/api/v1/ws"] {
        let mut socket = RawWs::connect(kronos.server.address(), LIMIT).await.unwrap();
        let answer = socket
            .handshake(path, &handshake_with("Upgrade", Some("WebSocket")))
            .await
            .unwrap();
        assert_eq!(answer.status, 101, "{path}");
    }
    still_answers(&kronos).await;
}

#[tokio::test]
async fn only_get_of_http_1_1_opens_a_websocket() {
    let kronos = kronos().await;
    for (line, status) in [
        ("POST /ws HTTP/1.1", "405"),
        ("PUT /ws HTTP/1.1", "405"),
        ("HEAD /ws HTTP/1.1", "400"),
        ("GET /ws HTTP/1.0", "400"),
    ] {
        let head: String = HANDSHAKE
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        let mut stream = tokio::net::TcpStream::connect(kronos.server.address()).await.unwrap();
        stream
            .write_all(format!("{line}\r\n{head}\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = [0; 12];
        tokio::time::timeout(LIMIT, stream.read_exact(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&answer[9..], status.as_bytes(), "{line}");
    }
    still_answers(&kronos).await;
}

#[tokio::test]
async fn the_first_subprotocol_that_is_known_is_chosen_and_no_extension_is() {
    let kronos = kronos().await;
    let cases = [
        (None, 101, None),
        (Some("kronos.v1.json"), 101, Some("kronos.v1.json")),
        (
            Some("kronos.v1.msgpack, kronos.v1.json"),
            101,
            Some("kronos.v1.msgpack"),
        ),
        (
            Some("graphql-ws,kronos.v1.json ,kronos.v1.msgpack"),
            101,
            Some("kronos.v1.json"),
        ),
        (Some("kronos.v2.json"), 400, None),
        (Some("Kronos.V1.Json"), 400, None),
    ];
    for (offered, status, chosen) in cases {
        let mut socket = RawWs::connect(kronos.server.address(), LIMIT).await.unwrap();
        let mut headers = HANDSHAKE.to_vec();
        headers.push(("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"));
        headers.extend(offered.map(|offered| ("Sec-WebSocket-Protocol", offered)));
        let answer = socket.handshake("/ws?user=raw", &headers).await.unwrap();
        assert_eq!(
            (answer.status, answer.header("sec-websocket-protocol")),
            (status, chosen),
            "{offered:?}"
        );
        assert_eq!(answer.header("sec-websocket-extensions"), None);
        if (status, chosen) == (101, None) {
            socket
                .send(&RawFrame::text(r#"{"op":"hello","ref":"h"}"#))
                .await
                .unwrap();
            expect_answer(&mut socket, "h").await;
            socket.send(&RawFrame::text(&ping("1")).with_rsv(4)).await.unwrap();
            expect_end(&mut socket, 1002, "a compressed frame").await;
        }
    }
    still_answers(&kronos).await;
}

/// A client that does not wait for the answer to its handshake: what it sends at once comes in with the head of its request.
#[tokio::test]
async fn what_is_sent_behind_the_handshake_is_read() {
    let kronos = kronos().await;
    let mut socket = RawWs::connect(kronos.server.address(), LIMIT).await.unwrap();
    let head = HANDSHAKE.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let mut bytes = format!("GET /ws?user=raw HTTP/1.1\r\n{head}\r\n").into_bytes();
    bytes.extend(RawFrame::text(r#"{"op":"hello","ref":"h"}"#).encode());
    bytes.extend(RawFrame::text(&padded_ping(8 * 1024)).encode());
    socket.send_bytes(&bytes).await.unwrap();
    let mut stream = socket.into_stream();
    let (mut read, mut piece) = (Vec::new(), [0; 4096]);
    let has = |read: &[u8], text: &str| String::from_utf8_lossy(read).contains(text);
    while !has(&read, r#""ref":"p""#) {
        let count = tokio::time::timeout(LIMIT, stream.read(&mut piece))
            .await
            .unwrap()
            .unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&read));
        read.extend_from_slice(&piece[..count]);
    }
    assert!(has(&read, "101 Switching Protocols") && has(&read, r#""ref":"h""#));
    still_answers(&kronos).await;
}
