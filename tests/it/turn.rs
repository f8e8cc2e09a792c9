//! One turn, over every way in: the same transcript in the store.

use kronos_protocol::SendMode;
use serde_json::json;

use crate::harness::kronos;

const QUESTION: &str = "What is the capital of Switzerland?";

#[tokio::test]
async fn a_turn_is_the_same_over_json_msgpack_rest_and_the_terminal_client() {
    let kronos = kronos().await;
    let mut stored = Vec::new();

    let mut json = kronos.client("ann").await;
    let session = json.attach_new().await;
    let answer = json.ask(&session, "m_1", QUESTION).await;
    assert!(
        answer.contains("Bern"),
        "the simulator answers what was asked: {answer}"
    );
    stored.push(kronos.stored("ann", session.as_str()).await);

    let mut msgpack = kronos.msgpack("ann").await;
    let session = msgpack.attach_new().await;
    msgpack.ask(&session, "m_1", QUESTION).await;
    stored.push(kronos.stored("ann", session.as_str()).await);

    let body = json!({"message": QUESTION, "user_id": "ann"});
    let reply = kronos.server.post("/api/v1/chat/message", &[], &body).await.expect(200);
    assert_eq!(reply["message"], json!(answer));
    stored.push(kronos.stored("ann", reply["conversation_id"].as_str().unwrap()).await);

    let once = std::process::Command::new(env!("CARGO_BIN_EXE_kronos"))
        .args([
            "chat",
            "--url",
            &kronos.server.ws_url(),
            "--user",
            "ann",
            "--once",
            QUESTION,
        ])
        .output()
        .expect("kronos chat runs");
    assert!(once.status.success(), "{}", String::from_utf8_lossy(&once.stderr));
    assert_eq!(String::from_utf8_lossy(&once.stdout).trim(), answer.trim());
    let list = kronos.server.get("/api/v1/chat/?user_id=ann", &[]).await.expect(200);
    let newest = list["items"][0]["id"].as_str().expect("the newest conversation");
    stored.push(kronos.stored("ann", newest).await);
    assert_eq!(list["items"].as_array().unwrap().len(), 4);

    for other in &stored[1..] {
        assert_eq!(other, &stored[0]);
    }
    assert_eq!(stored[0].len(), 2);
}

#[tokio::test]
async fn a_message_over_rest_appears_live_on_an_attached_socket() {
    let kronos = kronos().await;
    let mut socket = kronos.client("ann").await;
    let session = socket.attach_new().await;
    let body = json!({"message": "Hello!", "user_id": "ann", "conversation_id": session});
    let reply = kronos.server.post("/api/v1/chat/message", &[], &body).await.expect(200);
    socket
        .until("the answer on the socket", |client| {
            client.transcript(&session).last_answer() == reply["message"].as_str().unwrap()
        })
        .await;
}

#[tokio::test]
async fn the_model_reads_the_turns_before_and_the_usage_is_told() {
    let kronos = kronos().await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "My name is Ada.").await;
    client.ask(&session, "m_2", "What did I say before?").await;
    let requests = kronos.gemini.requests();
    let contents = requests.last().unwrap().body["contents"].as_array().unwrap().clone();
    let roles: Vec<_> = contents
        .iter()
        .map(|content| content["role"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(roles, ["user", "model", "user"]);
    let signed = contents[1]["parts"]
        .as_array()
        .unwrap()
        .iter()
        .any(|part| part["thoughtSignature"].is_string());
    assert!(signed, "the thought signature went back unchanged");
    let events = client.transcript(&session);
    let shown = format!("{events:?}");
    assert!(!shown.contains("thoughtSignature"), "signatures are never shown");
}

#[tokio::test]
async fn the_ack_of_a_send_comes_before_its_events() {
    let kronos = kronos().await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    for n in 0..20 {
        let sent = client
            .send(&session, &format!("m_{n}"), "[[tokens 3]] go", SendMode::Queue)
            .await;
        let before = client.cursor(&session).map_or(0, |cursor| cursor.seq);
        assert!(
            before < sent.seq,
            "event {} was shown before its send was acknowledged",
            sent.seq
        );
        client.until_idle(&session).await;
    }
}
