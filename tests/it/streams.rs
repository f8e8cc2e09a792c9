//! Event streams over real connections: leaving, coming back, reading nothing, a server that dies.

use std::{collections::BTreeMap, time::Duration};

use kronos_protocol::{Event, LogEntry, SendMode};
use kronos_sim::Outcome;
use kronos_testkit::{SseClient, SseEvent, eventually, text_of};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
};

use crate::harness::{Kronos, kronos_with};

const LIMIT: Duration = Duration::from_secs(20);

async fn open(kronos: &Kronos, method: &str, path: &str, last_id: Option<&str>, body: Option<Value>) -> SseClient {
    let headers: Vec<_> = last_id.map(|id| ("Last-Event-ID", id)).into_iter().collect();
    let opened = SseClient::open(kronos.server.address(), method, path, &headers, body.as_ref()).await;
    let stream = opened.expect("an answer");
    assert_eq!(stream.reply.status, 200, "{}", stream.reply.text());
    stream
}

async fn stream(kronos: &Kronos, body: Value) -> SseClient {
    open(kronos, "POST", "/api/v1/chat/stream", None, Some(body)).await
}

fn events_of(id: &str) -> String {
    format!("/api/v1/chat/{id}/events?user_id=ann")
}

async fn say(kronos: &Kronos, text: &str) -> String {
    let body = json!({"message": text, "user_id": "ann"});
    let answer = kronos.server.post("/api/v1/chat/message", &[], &body).await.expect(200);
    answer["conversation_id"].as_str().unwrap().to_owned()
}

/// How the requests to the model have ended.
fn outcomes(kronos: &Kronos) -> Vec<Outcome> {
    kronos
        .gemini
        .requests()
        .into_iter()
        .map(|request| request.outcome)
        .collect()
}

async fn until_model(kronos: &Kronos, what: &str, wanted: impl Fn(&[Outcome]) -> bool) {
    eventually(LIMIT, what, || async {
        let outcomes = outcomes(kronos);
        if wanted(&outcomes) { Ok(()) } else { Err(outcomes) }
    })
    .await;
}

fn left_alone(outcomes: &[Outcome]) -> bool {
    matches!(outcomes.last(), Some(Outcome::ClientGone { .. }))
}

#[tokio::test]
async fn a_client_that_leaves_during_a_message_does_not_stop_the_turn() {
    let kronos = kronos_with(100.0, &[]).await;
    let id = say(&kronos, "hello").await;
    let body = json!({"message": "[[tokens 150]] go", "user_id": "ann", "conversation_id": id}).to_string();
    let mut client = TcpStream::connect(kronos.server.address()).await.unwrap();
    let head = format!(
        "POST /api/v1/chat/message HTTP/1.1\r\nHost: kronos\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    until_model(&kronos, "the turn runs", |outcomes| outcomes.len() == 2).await;
    drop(client);
    until_model(&kronos, "it runs to its end", |outcomes| {
        outcomes == [Outcome::Completed, Outcome::Completed]
    })
    .await;
    let whole = || async { kronos.stored("ann", &id).await.len() == 4 };
    eventually(LIMIT, "the answer is stored", whole).await;
    let answer = kronos.stored("ann", &id).await.pop().unwrap();
    assert_eq!(answer.split_whitespace().count(), 151, "with its role: {answer}");
}

#[tokio::test]
async fn a_reader_that_leaves_stops_the_run_only_if_it_asked_to() {
    for (cancel, text) in [
        (true, "[[tokens 2000]] go"),
        (true, "[[stall]] go"),
        (false, "[[tokens 150]] go"),
    ] {
        let kronos = kronos_with(100.0, &[]).await;
        let body = json!({"message": text, "user_id": "ann", "cancel_on_disconnect": cancel});
        let mut reader = stream(&kronos, body).await;
        let events = reader.until(|event| event.kind() == "TEXT_MESSAGE_CONTENT").await;
        let id = events[0].json()["threadId"].as_str().unwrap().to_owned();
        drop(reader);
        if cancel {
            until_model(&kronos, "the model is left alone", left_alone).await;
            let lines = || async { finished(&kronos, &id).await == Some(json!({"type": "cancelled"})) };
            eventually(LIMIT, "the run is cancelled", lines).await;
        } else {
            until_model(&kronos, "it runs to its end", |outcomes| {
                outcomes == [Outcome::Completed]
            })
            .await;
            let success = || async { finished(&kronos, &id).await == Some(json!({"type": "success"})) };
            eventually(LIMIT, "the run is finished", success).await;
        }
        assert_eq!(kronos.series("kronos_event_streams").await, 0);
    }
}

/// How the last run of a conversation has ended, if it has.
async fn finished(kronos: &Kronos, id: &str) -> Option<Value> {
    let reply = kronos
        .server
        .get(&events_of(id), &[("Accept", "application/x-ndjson")])
        .await;
    let text = reply.text();
    let last: Value = serde_json::from_str(text.lines().last()?).unwrap();
    (last["event"]["type"] == "RUN_FINISHED").then(|| last["event"]["outcome"].clone())
}

#[tokio::test]
async fn a_reader_that_leaves_while_its_message_waits_takes_it_back() {
    let kronos = kronos_with(50.0, &[]).await;
    let mut socket = kronos.client("ann").await;
    let session = socket.attach_new().await;
    socket.send(&session, "m_1", "[[tokens 300]] go", SendMode::Queue).await;
    socket.until_running(&session).await;
    let body = |text: &str, cancel: bool| json!({"message": text, "user_id": "ann", "conversation_id": session, "cancel_on_disconnect": cancel});
    let leaving = stream(&kronos, body("not any more", true)).await;
    let staying = stream(&kronos, body("all the same", false)).await;
    drop((leaving, staying));
    socket.until_idle(&session).await;
    let done = || async { kronos.stored("ann", session.as_str()).await.len() == 4 };
    eventually(LIMIT, "the other one is answered", done).await;
    let lines = kronos.stored("ann", session.as_str()).await;
    assert_eq!(lines[2], "user: all the same");
}

/// Texts of the messages of a log, by id.
fn texts(entries: &[LogEntry]) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for entry in entries {
        if let Event::TextMessageContent(content) = &entry.event {
            let text: &mut String = texts.entry(content.message_id.to_string()).or_default();
            text.push_str(&content.delta);
        }
    }
    texts
}

fn entries(events: &[SseEvent]) -> Vec<LogEntry> {
    let of_log = events.iter().filter(|event| event.event.is_none());
    of_log
        .map(|event| serde_json::from_value(event.json()).unwrap())
        .collect()
}

fn contiguous(entries: &[LogEntry]) {
    let mut last = 0;
    for entry in entries {
        assert_eq!(entry.first_seq(), last + 1, "{entry:?}");
        last = entry.seq;
    }
}

/// The texts of the assistant as REST shows them.
async fn answers(kronos: &Kronos, id: &str) -> BTreeMap<String, String> {
    let shown = kronos
        .server
        .get(&format!("/api/v1/chat/{id}?user_id=ann"), &[])
        .await
        .expect(200);
    let messages = shown["messages"].as_array().unwrap().clone();
    let answers = messages
        .into_iter()
        .filter(|message| message["role"] == "assistant" && message["content"] != "");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    answers
        .map(|message| (text(&message["id"]), text(&message["content"])))
        .collect()
}

#[tokio::test]
async fn a_reader_that_is_cut_again_and_again_gets_the_exact_same_text() {
    let kronos = kronos_with(100.0, &[]).await;
    let id = say(&kronos, "hello").await;
    let body = json!({"message": "[[tokens 200]] go", "user_id": "ann", "conversation_id": id});
    let mut own = stream(&kronos, body).await;
    let reading = async {
        let (mut all, mut last_id): (Vec<SseEvent>, Option<String>) = (Vec::new(), None);
        let mut cuts = 0;
        loop {
            let mut reader = open(&kronos, "GET", &events_of(&id), last_id.as_deref(), None).await;
            for _ in 0..4 {
                all.extend(reader.next().await);
                let ends = all.iter().filter(|event| event.kind() == "RUN_FINISHED").count();
                if ends == 2 {
                    return (all, cuts);
                }
            }
            last_id = reader.last_id.clone().or(last_id);
            cuts += 1;
        }
    };
    let ((all, cuts), streamed) = tokio::join!(reading, own.rest());
    assert!(cuts > 5, "{cuts}");
    let entries = entries(&all);
    contiguous(&entries);
    let answers = answers(&kronos, &id).await;
    assert_eq!(texts(&entries), answers);
    assert!(answers.values().any(|answer| *answer == text_of(&streamed)));
}

#[tokio::test]
async fn a_reader_goes_on_after_kill_9_in_mid_answer() {
    let mut kronos = kronos_with(60.0, &[]).await;
    let id = say(&kronos, "hello").await;
    let mut socket = kronos.client("ann").await;
    socket.attach(&id, None).await;
    let mut reader = open(&kronos, "GET", &events_of(&id), None, None).await;
    let mut all = reader.until(|event| event.event.as_deref() == Some("caught_up")).await;
    socket.send(&id, "m_2", "[[tokens 120]] go", SendMode::Queue).await;
    for _ in 0..6 {
        all.extend(reader.next().await);
    }
    kronos.server.kill9();
    // What was on its way is read to the break.
    let broken = loop {
        match reader.try_next().await {
            Ok(Some(event)) => all.push(event),
            other => break other,
        }
    };
    assert!(broken.is_err(), "a server that dies does not end the body");
    kronos.server.restart().await;
    let last_id = reader.last_id.clone().unwrap();
    let mut again = open(&kronos, "GET", &events_of(&id), Some(&last_id), None).await;
    all.extend(again.until(|event| event.kind() == "RUN_FINISHED").await);
    let entries = entries(&all);
    contiguous(&entries);
    assert_eq!(texts(&entries), answers(&kronos, &id).await);
    let interrupted = entries
        .iter()
        .any(|entry| matches!(&entry.event, Event::RunError(error) if error.code.as_deref() == Some("interrupted")));
    assert!(interrupted, "it was in mid-answer");
}

/// A conversation that is more than the kernels of both sides hold for a reader that does not read.
async fn long(kronos: &Kronos) -> String {
    let messages: Vec<_> = (0..16)
        .map(|_| json!({"role": "user", "content": "x".repeat(31_000)}))
        .collect();
    let body = json!({"messages": messages, "user_id": "ann"});
    let made = kronos
        .server
        .post("/api/v1/chat/conversation", &[], &body)
        .await
        .expect(200);
    made["conversation_id"].as_str().unwrap().to_owned()
}

/// Asks for a stream and reads nothing of it; the kernel takes `buffer` bytes for it.
async fn dead_reader(kronos: &Kronos, path: &str, buffer: u32) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(buffer).unwrap();
    let mut stream = socket.connect(kronos.server.address()).await.unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: kronos\r\nAccept-Encoding: identity\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream
}

#[tokio::test]
async fn a_reader_that_takes_nothing_is_cut_and_a_slow_one_is_not() {
    let kronos = kronos_with(0.0, &[("WRITE_TIMEOUT", "3s"), ("SSE_HEARTBEAT", "500ms")]).await;
    let id = long(&kronos).await;
    let mut dead = Vec::new();
    for path in [
        events_of(&id),
        format!("/api/v1/chat/{id}/export?user_id=ann&format=recording"),
        format!("/api/v1/chat/{id}/export?user_id=ann&format=json"),
    ] {
        dead.push(dead_reader(&kronos, &path, 4096).await);
    }
    let path = format!("/api/v1/chat/{id}/export?user_id=ann");
    let mut slow = dead_reader(&kronos, &path, 32 * 1024).await;
    let begun = tokio::time::Instant::now();
    let reading = async {
        let (mut all, mut bytes) = (Vec::new(), vec![0; 4096]);
        while !all.ends_with(b"]}\r\n0\r\n\r\n") {
            let count = slow.read(&mut bytes).await.unwrap();
            assert!(count > 0, "cut after {} bytes", all.len());
            all.extend_from_slice(&bytes[..count]);
            // The pace of the reader: what it reads of takes longer than two time-outs.
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
        all.len()
    };
    let cut = async {
        let series = "kronos_event_streams_ended_total{reason=\"not_reading\"}";
        eventually(LIMIT, "all are cut", || async { kronos.series(series).await == 3 }).await;
    };
    let (read, ()) = tokio::join!(reading, cut);
    assert!(read > 16 * 31_000, "{read}");
    assert!(
        begun.elapsed() > Duration::from_secs(6),
        "not slow enough to show anything"
    );
    let gone = || async { kronos.series("kronos_event_streams").await == 0 };
    eventually(LIMIT, "their places are free", gone).await;
    for mut stream in dead {
        let mut rest = Vec::new();
        // The end, or a reset: not the end of the body.
        drop(
            tokio::time::timeout(LIMIT, stream.read_to_end(&mut rest))
                .await
                .expect("the connection ends"),
        );
        assert!(!rest.ends_with(b"0\r\n\r\n"));
    }
    assert_eq!(kronos.stored("ann", &id).await.len(), 17, "nobody else noticed");
}

#[tokio::test]
async fn a_turn_is_the_same_on_sockets_and_streams_whoever_began_it() {
    let kronos = kronos_with(200.0, &[]).await;
    let mut socket = kronos.client("ann").await;
    let session = socket.attach_new().await;
    let id = session.as_str().to_owned();
    let mut follower = open(&kronos, "GET", &events_of(&id), None, None).await;
    let by_socket = socket.ask(&session, "m_1", "[[tokens 20]] from the socket").await;
    let seen = follower.until(|event| event.kind() == "RUN_FINISHED").await;
    assert_eq!(text_of(&seen), by_socket);

    let body = json!({"message": "[[tokens 20]] from the stream", "user_id": "ann", "conversation_id": id});
    let by_stream = text_of(&stream(&kronos, body).await.rest().await);
    let answered = |client: &kronos_testkit::WsClient| client.transcript(&session).last_answer() == by_stream;
    socket.until("the answer on the socket", answered).await;
    let seen = follower.until(|event| event.kind() == "RUN_FINISHED").await;
    assert_eq!(text_of(&seen), by_stream);
    assert_eq!(
        socket.transcript(&session).lines()[2],
        "user: [[tokens 20]] from the stream"
    );
}

#[tokio::test]
async fn a_history_is_there_after_kill_9_as_a_whole() {
    let mut kronos = kronos_with(20.0, &[]).await;
    let messages = json!([
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is the capital of France?"},
        {"role": "assistant", "content": "Paris."},
        {"role": "user", "content": "[[tokens 60]] And of Switzerland?"},
    ]);
    let body = json!({"messages": messages, "user_id": "ann"}).to_string();
    let mut client = TcpStream::connect(kronos.server.address()).await.unwrap();
    let head = format!(
        "POST /api/v1/chat/conversation HTTP/1.1\r\nHost: kronos\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    until_model(&kronos, "the turn runs", |outcomes| !outcomes.is_empty()).await;
    kronos.server.kill9();
    kronos.server.restart().await;
    let list = kronos.server.get("/api/v1/chat/?user_id=ann", &[]).await.expect(200);
    let items = list["items"].as_array().unwrap();
    // The model is asked after the decision, not after the commit: all of it is there, or nothing.
    let Some(item) = items.first() else { return };
    let id = item["id"].as_str().unwrap();
    let lines = kronos.stored("ann", id).await;
    assert_eq!(
        lines[..3],
        [
            "system: Be brief.",
            "user: What is the capital of France?",
            "assistant: Paris."
        ]
    );
    let answered = || async { finished(&kronos, id).await == Some(json!({"type": "success"})) };
    eventually(LIMIT, "the turn is tried again", answered).await;
}
