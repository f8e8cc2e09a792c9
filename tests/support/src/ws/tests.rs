//! The client against a server that says what a test has written down.

use futures_util::{SinkExt as _, StreamExt as _};
use kronos_protocol::SendMode;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use super::*;

/// Per connection: for each command that comes, the frames to answer with. `ref` is filled in; `close` closes.
type Script = Vec<Vec<Vec<Value>>>;

async fn serve(codec: Codec, script: Script) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for connection in script {
            let (stream, _) = listener.accept().await.unwrap();
            #[expect(clippy::result_large_err, reason = "the callback's type is given")]
            let choose = |_: &Request, mut response: Response| {
                let chosen = codec.subprotocol().parse().unwrap();
                response.headers_mut().insert("sec-websocket-protocol", chosen);
                Ok(response)
            };
            let mut socket = accept_hdr_async(stream, choose).await.unwrap();
            for answers in connection {
                let Some(Ok(command)) = socket.next().await else { return };
                let command = codec.decode_value(&command.into_data()).unwrap();
                for mut frame in answers {
                    if let Some(code) = frame.get("close").and_then(Value::as_u64) {
                        let frame = CloseFrame {
                            code: (code as u16).into(),
                            reason: r#"{"retry":true}"#.into(),
                        };
                        socket.close(Some(frame)).await.unwrap();
                        continue;
                    }
                    if frame["ref"] == "" {
                        frame["ref"] = command["ref"].clone();
                    }
                    let bytes = codec.encode(&frame).unwrap();
                    let message = match codec {
                        Codec::Json => Message::text(String::from_utf8(bytes.to_vec()).unwrap()),
                        Codec::Msgpack => Message::Binary(bytes),
                    };
                    socket.send(message).await.unwrap();
                }
            }
            while let Some(Ok(_)) = socket.next().await {}
        }
    });
    url
}

fn welcome() -> Vec<Value> {
    vec![json!({"op": "ok", "ref": "", "connection": "c", "user": {"id": "u"}})]
}

fn attached(head: u64) -> Value {
    json!({"op": "ok", "ref": "", "session": "s", "epoch": "e", "head": head, "recovered": true})
}

fn caught_up(seq: u64) -> Value {
    json!({"op": "caught_up", "session": "s", "seq": seq})
}

fn events(first: u64, events: &[Value]) -> Value {
    let entries: Vec<_> = (first..)
        .zip(events)
        .map(|(seq, event)| json!({"seq": seq, "run": "r", "event": event}))
        .collect();
    json!({"op": "events", "session": "s", "epoch": "e", "events": entries})
}

fn turn() -> Vec<Value> {
    vec![
        json!({"type": "RUN_STARTED", "threadId": "s", "runId": "r", "input": {"threadId": "s", "runId": "r",
            "messages": [{"id": "m", "role": "user", "content": "hi"}], "tools": [], "context": []}}),
        json!({"type": "TEXT_MESSAGE_START", "messageId": "a"}),
        json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "a", "delta": "Hello"}),
        json!({"type": "TEXT_MESSAGE_END", "messageId": "a"}),
        json!({"type": "RUN_FINISHED", "threadId": "s", "runId": "r"}),
    ]
}

#[tokio::test]
async fn a_turn_is_followed_over_a_cut_in_both_codecs() {
    for codec in [Codec::Json, Codec::Msgpack] {
        let sent = json!({"op": "ok", "ref": "", "seq": 1, "run": "r"});
        let first = vec![
            welcome(),
            vec![attached(0), caught_up(0)],
            vec![events(1, &turn()[..2]), sent, events(3, &turn()[2..3])],
        ];
        let second = vec![welcome(), vec![attached(5), events(4, &turn()[3..]), caught_up(5)]];
        let url = serve(codec, vec![first, second]).await;
        let mut client = WsClient::connect(&url, ConnectOptions::user("ann").codec(codec)).await;
        let session = client.attach_new().await;
        client.until_caught_up(&session).await;
        assert_eq!(client.send(&session, "m", "hi", SendMode::Queue).await.seq, 1);
        client
            .until("the first word", |client| {
                client.transcript("s").last_answer() == "Hello"
            })
            .await;
        assert!(client.active_run(&session).is_some());
        client.reconnect(&url).await;
        client.reattach(&session).await;
        client.until_idle(&session).await;
        assert_eq!(client.transcript(&session).lines(), ["user: hi", "assistant: Hello"]);
        assert_eq!(client.cursor(&session).unwrap().to_string(), "e:5");
    }
}

#[tokio::test]
#[should_panic(expected = "session s: gap: after seq 1 came 3")]
async fn a_gap_fails_the_test_that_reads_it() {
    let script = vec![vec![
        welcome(),
        vec![attached(3), events(1, &turn()[..1]), events(3, &turn()[2..3])],
    ]];
    let url = serve(Codec::Json, script).await;
    let mut client = WsClient::connect(&url, ConnectOptions::default()).await;
    client.attach("s", None).await;
    client.until_caught_up("s").await;
}

#[tokio::test]
async fn a_refusal_and_a_close_are_told() {
    let refused = json!({"op": "error", "ref": "", "code": "busy", "message": "m", "retry": true});
    let script = vec![vec![welcome(), vec![refused], vec![json!({"close": 4401})]]];
    let url = serve(Codec::Json, script).await;
    let mut client = WsClient::connect(&url, ConnectOptions::default()).await;
    let error = client
        .request(json!({"op": "cancel", "session": "s"}))
        .await
        .unwrap_err();
    assert_eq!(error.code.as_str(), "busy");
    client.send_text(r#"{"op":"what","ref":"mine"}"#).await;
    let closed = client.closed().await;
    assert_eq!((closed.code, closed.reason().unwrap().retry), (4401, true));
    assert!(client.is_closed());
}

#[tokio::test]
#[should_panic(expected = "the reply to ref r2: the server closed with 1012")]
async fn a_close_instead_of_a_reply_fails_at_once() {
    let url = serve(Codec::Json, vec![vec![welcome(), vec![json!({"close": 1012})]]]).await;
    let mut client = WsClient::connect(&url, ConnectOptions::default()).await;
    client.attach_new().await;
}
