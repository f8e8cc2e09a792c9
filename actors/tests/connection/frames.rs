//! Frames of the websocket protocol, right and wrong.

use futures_util::future::join_all;
use kronos_testkit::{RawFrame, RawWs};
use serde_json::json;

use crate::harness::{Server, ask, hear, server};

async fn closes(server: &Server, bytes: &[u8], code: u16) {
    let mut socket = server.raw().await;
    socket.send_bytes(bytes).await.unwrap();
    socket.expect_close(code).await;
    // A client answers a close frame; then the server ends the connection.
    socket.send(&RawFrame::close(code, "")).await.unwrap();
    socket.expect_eof().await.unwrap();
}

#[actix_web::test]
async fn each_broken_rule_is_answered_with_its_close_code() {
    let server = server(|_| {}).await;
    let text = |text: &str| RawFrame::text(text);
    let cases = [
        (text("{}").with_rsv(4), 1002),
        (RawFrame::new(3, ""), 1002),
        (RawFrame::new(11, ""), 1002),
        (RawFrame::new(9, vec![0; 126]), 1002),
        (RawFrame::new(9, "").not_final(), 1002),
        (RawFrame::new(0, "x"), 1002),
        (text("{}").unmasked(), 1002),
        (RawFrame::new(1, vec![b'a', 0xC0, 0x80]), 1007),
        (RawFrame::new(2, "x"), 1003),
        (text("not json"), 4400),
        (text("[]"), 4400),
        (RawFrame::new(8, vec![3]), 1002),
        (RawFrame::close(1005, ""), 1002),
        (RawFrame::new(8, vec![3, 0xE8, 0xFF]), 1007),
    ];
    let shared = &server;
    join_all(cases.map(|(frame, code)| async move { closes(shared, &frame.encode(), code).await })).await;
    server.finish().await;
}

#[actix_web::test]
async fn text_is_refused_at_its_first_wrong_byte_not_at_its_end() {
    let server = server(|_| {}).await;
    let frame = RawFrame::new(1, [b"{\"op\":\xFF".as_slice(), &[b' '; 100]].concat()).encode();
    closes(&server, &frame[..20], 1007).await;
    server.finish().await;
}

#[actix_web::test]
async fn a_message_over_the_limit_is_refused_by_its_header() {
    let server = server(|config| {
        config.pre_auth_frame_bytes = 200;
        config.frame_bytes = 1000;
    })
    .await;
    let header = |length: u64| RawFrame::text("").declaring(length).encode()[..4].to_vec();
    closes(&server, &header(201), 1009).await;
    closes(&server, &RawFrame::text("").declaring(1 << 40).encode()[..10], 1009).await;
    let fragments = [
        RawFrame::new(1, vec![b' '; 150]).not_final(),
        RawFrame::new(0, vec![b' '; 51]),
    ];
    closes(&server, &fragments.map(|frame| frame.encode()).concat(), 1009).await;

    let mut socket = server.raw_known("ann").await;
    let padded = |length: usize| format!("{:<length$}", json!({"op": "ping", "ref": "p"}).to_string());
    socket.send(&RawFrame::text(&padded(1000))).await.unwrap();
    assert_eq!(hear(&mut socket).await["ref"], "p");
    socket.send_bytes(&header(1001)).await.unwrap();
    socket.expect_close(1009).await;
    drop(socket);
    server.finish().await;
}

#[actix_web::test]
async fn the_code_arrives_although_the_peer_goes_on_sending() {
    let server = server(|_| {}).await;
    let mut socket = server.raw().await;
    let frame = RawFrame::new(2, vec![0; 500_000]).encode();
    socket.send_bytes(&frame).await.unwrap();
    socket.expect_close(1009).await;
    drop(socket);
    server.finish().await;
}

#[actix_web::test]
async fn frames_before_the_wrong_one_are_answered_first() {
    let server = server(|_| {}).await;
    let mut socket = server.raw_known("ann").await;
    let pings: Vec<_> = (0..40)
        .map(|n| RawFrame::text(&json!({"op": "ping", "ref": n.to_string()}).to_string()))
        .collect();
    let mut bytes: Vec<_> = pings.iter().flat_map(RawFrame::encode).collect();
    bytes.extend(RawFrame::new(3, "").encode());
    socket.send_bytes(&bytes).await.unwrap();
    for n in 0..40 {
        assert_eq!(hear(&mut socket).await["ref"], n.to_string());
    }
    socket.expect_close(1002).await;
    drop(socket);
    server.finish().await;
}

#[actix_web::test]
async fn fragments_and_pings_between_them_are_one_message_and_pongs() {
    let server = server(|_| {}).await;
    let mut socket = server.raw_known("ann").await;
    let text = json!({"op": "ping", "ref": "é€😀"}).to_string().into_bytes();
    for (index, byte) in text.iter().enumerate() {
        let first = RawFrame::new(u8::from(index == 0), vec![*byte]).not_final();
        socket.send(&first).await.unwrap();
    }
    socket.send(&RawFrame::new(9, "between")).await.unwrap();
    let pong = socket.next_frame().await.unwrap().unwrap();
    assert_eq!((pong.opcode, pong.payload.as_slice()), (10, b"between".as_slice()));
    socket.send(&RawFrame::new(10, "nobody asked")).await.unwrap();
    socket.send(&RawFrame::new(0, "")).await.unwrap();
    assert_eq!(hear(&mut socket).await["ref"], "é€😀");
    end(socket).await;
    server.finish().await;
}

/// Closes as a client does.
async fn end(mut socket: RawWs) {
    socket.send(&RawFrame::close(1000, "bye")).await.unwrap();
    assert_eq!(socket.expect_close(1000).await, "");
    socket.expect_eof().await.unwrap();
}

#[actix_web::test]
async fn a_close_frame_is_echoed_with_its_code_and_ends_everything() {
    let server = server(|_| {}).await;
    for code in [1000, 1001, 1011, 3000, 4999] {
        let mut socket = server.raw_known("ann").await;
        let after = RawFrame::text(&json!({"op": "ping", "ref": "late"}).to_string());
        let bytes = [RawFrame::close(code, "bye"), after]
            .map(|frame| frame.encode())
            .concat();
        socket.send_bytes(&bytes).await.unwrap();
        let frame = socket.next_frame().await.unwrap().unwrap();
        assert_eq!(frame.close(), Some((code, String::new())));
        socket.expect_eof().await.unwrap();
    }
    let mut socket = server.raw().await;
    socket.send(&RawFrame::new(8, "")).await.unwrap();
    assert_eq!(socket.close_code().await.unwrap().0, 1005);
    socket.expect_eof().await.unwrap();
    server.finish().await;
}

#[actix_web::test]
async fn messagepack_is_binary_and_refuses_text() {
    let server = server(|_| {}).await;
    let mut client = kronos_testkit::WsClient::connect(
        &format!("ws://{}/ws", server.addr),
        kronos_testkit::ConnectOptions::token("ann").codec(kronos_protocol::Codec::Msgpack),
    )
    .await;
    client.send_text("{}").await;
    assert_eq!(client.close_code().await, 1003);
    drop(client);
    server.finish().await;
}

#[actix_web::test]
async fn a_flood_of_pongs_is_taken_without_harm() {
    let server = server(|_| {}).await;
    let mut socket = server.raw_known("ann").await;
    let flood: Vec<u8> = std::iter::repeat_n(RawFrame::new(10, "").encode(), 200_000)
        .flatten()
        .collect();
    socket.send_bytes(&flood).await.unwrap();
    assert_eq!(
        ask(&mut socket, json!({"op": "ping", "ref": "after"})).await["ref"],
        "after"
    );
    end(socket).await;
    server.finish().await;
}
