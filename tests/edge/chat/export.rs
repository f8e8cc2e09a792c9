//! `GET /chat/{id}/export`: a conversation to take away.

use kronos_protocol::{
    Command,
    recording::{Header, Line},
};
use kronos_testkit::HttpReply;
use serde_json::{Value, json};

use super::{bearer, say, simulated};
use crate::harness::{Answer as _, Edge, Pair};

async fn export(edge: &Edge, pair: &Pair, id: &str, format: &str) -> HttpReply {
    let path = format!("/api/v1/chat/{id}/export{format}");
    edge.call("GET", &path, &[("Authorization", &bearer(pair))], None).await
}

fn is_file(reply: &HttpReply, content_type: &str, name: &str) {
    reply.is(200);
    assert_eq!(reply.header("content-type"), Some(content_type));
    let disposition = format!("attachment; filename=\"{name}\"");
    assert_eq!(reply.header("content-disposition"), Some(disposition.as_str()));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
}

/// A conversation of many messages, some of them long.
async fn long(edge: &Edge, pair: &Pair) -> String {
    let said = |n: usize| {
        let role = if n.is_multiple_of(2) { "user" } else { "assistant" };
        let content = format!(
            "message {n} \"quoted\"\n{}",
            "wörter ".repeat(if n.is_multiple_of(50) { 3000 } else { 3 })
        );
        json!({"role": role, "content": content, "timestamp": "2020-02-03T04:05:06Z"})
    };
    let messages: Vec<_> = (0..301).map(said).collect();
    let made = edge
        .post(
            "/api/v1/chat/conversation",
            Some(&pair.access),
            json!({"messages": messages}),
        )
        .await;
    made.expect(200)["conversation_id"].as_str().expect("an id").to_owned()
}

#[actix_web::test]
async fn json_has_every_message() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let pair = edge.login("ada").await;
    let id = long(&edge, &pair).await;
    for format in ["", "?format=json"] {
        let reply = export(&edge, &pair, &id, format).await;
        is_file(&reply, "application/json", &format!("conversation-{id}.json"));
        let body = reply.json();
        assert_eq!((&body["id"], &body["message_count"]), (&json!(id), &json!(302)));
        let messages = body["messages"].as_array().expect("messages");
        assert_eq!(messages.len(), 302);
        for (n, message) in messages.iter().enumerate().take(301) {
            let text = message["content"].as_str().expect("a text");
            assert!(text.starts_with(&format!("message {n} \"quoted\"\n")), "{text}");
        }
        let shown = edge
            .get(&format!("/api/v1/chat/{id}"), Some(&pair.access))
            .await
            .expect(200);
        assert_eq!(messages[202..], shown["messages"].as_array().expect("messages")[..]);
    }
    edge.finish().await;
}

#[actix_web::test]
async fn markdown_is_for_people() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let pair = edge.login("ada").await;
    let body = json!({"messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What is\nthe capital?", "timestamp": "2020-02-03T04:05:06Z"},
        {"role": "user", "content": "Of Switzerland."},
    ]});
    let made = edge
        .post("/api/v1/chat/conversation", Some(&pair.access), body)
        .await
        .expect(200);
    let id = made["conversation_id"].as_str().expect("an id");
    let reply = export(&edge, &pair, id, "?format=markdown").await;
    is_file(&reply, "text/markdown; charset=utf-8", &format!("conversation-{id}.md"));
    let text = reply.text();
    assert!(text.starts_with("# What is\n\n"), "{text}");
    for part in [
        "\n## system, ",
        "\n\nBe brief.\n",
        "\n## user, 2020-02-03T04:05:06Z\n\nWhat is\nthe capital?\n",
        "\n## assistant, ",
        made["message"].as_str().expect("an answer").trim_end(),
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    edge.finish().await;
}

#[actix_web::test]
async fn a_recording_has_the_commands_and_the_events() {
    let (edge, _sim) = simulated(0.0, |config| config.session.tail_bytes = 4096).await;
    let pair = edge.login("ada").await;
    let id = say(&edge, &pair, None, "[[tokens 500]] first").await;
    say(&edge, &pair, Some(&id), "second").await;
    let reply = export(&edge, &pair, &id, "?format=recording").await;
    is_file(&reply, "application/x-ndjson", &format!("conversation-{id}.kronosrec"));
    let text = reply.text();
    let mut lines = text.lines();
    let header: Header = lines.next().expect("a header").parse().expect("a header");
    assert_eq!((header.kronosrec, header.session.as_str()), (1, id.as_str()));
    let lines: Vec<Line> = lines.map(|line| line.parse().expect("a line")).collect();
    let (mut seq, mut at_ms, mut sent) = (0, 0, Vec::new());
    for line in &lines {
        assert!(line.at_ms() >= at_ms, "times never go back");
        at_ms = line.at_ms();
        match line {
            Line::Event(event) => {
                assert_eq!(event.first.unwrap_or(event.seq), seq + 1, "every event once");
                seq = event.seq;
            }
            Line::Command(command) => match &command.frame().command {
                Command::Send(send) => sent.push(send.content.text().into_owned()),
                other => panic!("{other:?}"),
            },
            Line::Link(_) | Line::Act(_) => panic!("the log knows neither connections nor what a hand wrote: {line:?}"),
        }
    }
    assert_eq!(sent, ["[[tokens 500]] first", "second"]);
    let of_history = long(&edge, &pair).await;
    let recorded = export(&edge, &pair, &of_history, "?format=recording").await.text();
    let sent = recorded.lines().filter(|line| line.contains("\"command\"")).count();
    assert_eq!(sent, 1, "what was said elsewhere was not sent here");
    edge.finish().await;
}

#[actix_web::test]
async fn only_what_is_ones_own_is_exported() {
    let (edge, _sim) = simulated(0.0, |_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let id = say(&edge, &ada, None, "hi").await;
    export(&edge, &eve, &id, "").await.is(404);
    export(&edge, &ada, "0192aaaa-0000-7000-8000-000000000000", "")
        .await
        .is(404);
    edge.get(&format!("/api/v1/chat/{id}/export"), None).await.is(401);
    export(&edge, &ada, &id, "?user_id=somebody").await.is(403);
    let error: Value = export(&edge, &ada, &id, "?format=pdf").await.expect(422);
    assert_eq!(error["error"]["details"]["errors"][0]["field"], "query.format");
    let head = edge
        .call(
            "HEAD",
            &format!("/api/v1/chat/{id}/export"),
            &[("Authorization", &bearer(&ada))],
            None,
        )
        .await;
    head.is(200);
    edge.finish().await;
}
