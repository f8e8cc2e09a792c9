//! Answers: what is sent, what is shown, what is kept, and that cancelling ends it at once.

use std::time::Duration;

use kronos_actors::clock::Clock;
use kronos_actors::gemini::{Content, GeminiStatus, GenerateRequest, Progress, Role};
use kronos_sim::{Outcome, ScriptedChunk, ScriptedEnd, ScriptedReply};
use serde_json::json;

use crate::harness::{Bench, Close, KEY, eventually, finished, part, request, text};

#[actix::test]
async fn a_plain_answer_is_shown_chunk_by_chunk() {
    let bench = Bench::scripted(vec![ScriptedReply::text(["Hel", "lo"])]);
    let events = bench.events_of("hi").await;
    assert!(matches!(&events[0], Progress::Started { model } if model == "gemini-3.8-flash"));
    assert!(matches!(&events[1], Progress::Delta { text, usage: Some(usage) } if text == "Hel" && usage.total > 0));
    assert!(matches!(&events[2], Progress::Delta { text, .. } if text == "lo"));
    let done = finished(&events);
    assert_eq!(events.len(), 4);
    assert_eq!(done.parts, [json!({"text": "Hello"})]);
    assert_eq!((done.finish_reason.as_str(), done.truncated), ("STOP", false));
    assert_eq!(done.model, "gemini-3.8-flash");
    assert!(done.response_id.is_some());
    assert_eq!(done.usage.total, done.usage.prompt + done.usage.answer);
}

#[actix::test]
async fn the_request_is_what_the_api_wants_and_the_key_is_in_its_header_only() {
    let bench = Bench::start(|config| config.system_prompt = Some("Be brief.".to_owned()));
    bench.events_of("hi").await;
    let seen = bench.sim.requests().remove(0);
    assert_eq!(seen.path, "/v1beta/models/gemini-3.8-flash:streamGenerateContent");
    assert_eq!(
        seen.query.iter().collect::<Vec<_>>(),
        [(&"alt".to_owned(), &"sse".to_owned())]
    );
    assert!(seen.headers["user-agent"].starts_with("kronos/"));
    assert!(seen.headers.contains_key("x-goog-api-key"));
    assert_eq!(
        seen.body,
        json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}],
            "systemInstruction": {"parts": [{"text": "Be brief."}]},
            "generationConfig": {"maxOutputTokens": 8192, "thinkingConfig": {"thinkingLevel": "LOW"}}})
    );
}

#[actix::test]
async fn a_signature_comes_back_in_the_next_turn_as_it_was() {
    let bench = Bench::start(|_| {});
    let events = bench.events_of("What is the capital of Japan?").await;
    let parts = finished(&events).parts.clone();
    assert!(text(&events).contains("Tokyo"));
    assert!(
        parts.last().is_some_and(|part| part["thoughtSignature"].is_string()),
        "{parts:?}"
    );
    let mut next = request("And of Peru?");
    next.contents.splice(
        0..0,
        [
            Content {
                role: Role::User,
                parts: vec![json!({"text": "What is the capital of Japan?"})],
            },
            Content {
                role: Role::Model,
                parts: parts.clone(),
            },
        ],
    );
    finished(&bench.ask_with(next, None).end().await);
    assert_eq!(
        bench.sim.requests()[1].body["contents"][1],
        json!({"role": "model", "parts": parts})
    );
}

#[actix::test]
async fn thoughts_are_shown_apart_and_calls_are_kept() {
    let thought = ScriptedChunk {
        thought: Some("hm".to_owned()),
        ..ScriptedChunk::default()
    };
    let reply = ScriptedReply {
        chunks: vec![thought],
        ..ScriptedReply::default()
    };
    let bench = Bench::scripted(vec![reply.then_text(0, "I call.").then_call("f", json!({"a": 1}))]);
    let events = bench.events_of("hi").await;
    assert!(matches!(&events[1], Progress::Thought { text } if text == "hm"));
    let parts = &finished(&events).parts;
    assert_eq!((parts.len(), &parts[0]), (2, &json!({"text": "I call."})));
    assert_eq!(parts[1]["functionCall"]["args"], json!({"a": 1}));
}

#[actix::test]
async fn every_framing_gives_the_same_text() {
    let bench = Bench::start(|_| {});
    let question = "What is the capital of Japan?";
    let plain = text(&bench.events_of(question).await);
    for framing in ["lf", "split", "comment", "done", "event", "nospace"] {
        let events = bench.events_of(&format!("[[sse-{framing}]] {question}")).await;
        finished(&events);
        assert_eq!(text(&events), plain, "{framing}");
    }
    let events = bench.events_of(&format!("[[sse-u2028]] {question}")).await;
    assert_eq!(text(&events).replace(['\u{2028}', '\u{2029}'], ""), plain);
}

#[actix::test]
async fn an_answer_at_the_bound_of_tokens_is_truncated() {
    let bench = Bench::start(|_| {});
    let events = bench.events_of("[[max-tokens]] What is the capital of Japan?").await;
    assert!(finished(&events).truncated && !text(&events).is_empty());
    let events = bench.events_of("[[max-tokens-empty]] hi").await;
    assert!(finished(&events).truncated && text(&events).is_empty());
    assert_eq!(finished(&events).finish_reason, "MAX_TOKENS");
    let events = bench.events_of("[[continue]] hi").await;
    assert!(finished(&events).truncated);
    assert_eq!(finished(&events).finish_reason, "CONTINUATION");
}

#[actix::test]
async fn an_answer_that_is_finished_waits_for_no_end_of_the_body() {
    let end = json!({"candidates": [{"content": {}, "finishReason": "STOP"}]});
    let chunks = [part(json!({"text": "all"})), end];
    let chunks = chunks.map(|json| ScriptedChunk {
        json: Some(json),
        ..ScriptedChunk::default()
    });
    let reply = |end| ScriptedReply {
        chunks: chunks.to_vec(),
        end,
        ..ScriptedReply::default()
    };
    let bench = Bench::scripted(vec![reply(ScriptedEnd::Stall), reply(ScriptedEnd::Cut)]);
    for _ in 0..2 {
        assert_eq!(finished(&bench.events_of("hi").await).parts, [json!({"text": "all"})]);
    }
}

#[actix::test]
async fn dropping_the_handle_closes_the_connection_within_50_ms() {
    let bench = Bench::start(|_| {});
    let clock = Clock::default();
    let mut times = Vec::new();
    for round in 1..=5 {
        bench
            .sim
            .script(vec![ScriptedReply::text(["begun"]).ending(ScriptedEnd::Stall)]);
        let asked = bench.ask("hi");
        asked.shown().await;
        let dropped_at = clock.instant();
        drop(asked.handle);
        bench
            .outcome(round, |outcome| matches!(outcome, Outcome::ClientGone { .. }))
            .await;
        times.push(clock.instant() - dropped_at);
        assert!(
            !asked.events.all().iter().any(crate::harness::is_end),
            "no event follows"
        );
    }
    // The best of five: the machine that runs the tests may be busy.
    assert!(
        times.iter().min().is_some_and(|best| *best < Duration::from_millis(50)),
        "{times:?}"
    );
    eventually(|| bench.shared.health().running == 0).await;
}

#[actix::test]
async fn a_handle_dropped_before_the_first_byte_and_in_a_pause_ends_it_too() {
    let bench = Bench::start(|config| config.backoff = Duration::from_secs(2));
    let asked = bench.ask("[[slow-first-byte 60000]]");
    eventually(|| bench.sim.requests().len() == 1).await;
    asked.handle.cancel();
    bench
        .outcome(1, |outcome| matches!(outcome, Outcome::ClientGone { .. }))
        .await;
    let asked = bench.ask("[[503-once]] hi");
    asked.retrying().await;
    drop(asked.handle);
    eventually(|| bench.shared.health().running == 0).await;
    assert_eq!(bench.sim.requests().len(), 2);
}

#[actix::test]
async fn a_generation_whose_session_is_gone_stops() {
    let bench = Bench::start(|_| {});
    bench.sim.set_config(|config| config.tokens_per_second = 400.0);
    let asked = bench.ask("[[tokens 100000]]");
    asked.shown().await;
    asked.sink.send(Close).await.unwrap();
    bench
        .outcome(1, |outcome| matches!(outcome, Outcome::ClientGone { .. }))
        .await;
    eventually(|| bench.shared.health().running == 0).await;
}

#[actix::test]
async fn health_is_what_traffic_showed() {
    let bench = Bench::start(|_| {});
    let health = bench.shared.health();
    assert_eq!(
        (health.status, health.configured, health.latency_ms),
        (GeminiStatus::Healthy, true, None)
    );
    bench.events_of("[[slow-first-byte 20]] hi").await;
    assert!(bench.shared.health().latency_ms.is_some_and(|ms| ms >= 20));
    bench.events_of("[[401]]").await;
    let health = bench.shared.health();
    assert_eq!(health.status, GeminiStatus::Unhealthy);
    assert!(health.error.is_some_and(|error| error.contains("key")));
    bench.events_of("hi").await;
    assert_eq!(bench.shared.health().status, GeminiStatus::Healthy);
    assert_eq!(
        serde_json::to_value(bench.shared.health()).unwrap()["circuit"],
        json!("closed"),
    );
}

#[actix::test]
async fn a_simulated_upstream_needs_no_key_and_says_so() {
    let bench = Bench::start(|config| {
        config.api_key = None;
        config.simulated = true;
    });
    assert_eq!(bench.shared.health().status, GeminiStatus::Simulated);
    finished(&bench.events_of("hi").await);
}

#[actix::test]
async fn settings_of_one_request_win_over_the_configuration() {
    let bench = Bench::start(|config| config.system_prompt = Some("configured".to_owned()));
    let asked = GenerateRequest {
        model: Some("gemini-3.5-flash".to_owned()),
        system_prompt: Some("asked".to_owned()),
        temperature: Some(0.5),
        max_tokens: Some(99),
        ..request("hi")
    };
    let events = bench.ask_with(asked, None).end().await;
    assert!(matches!(&events[0], Progress::Started { model } if model == "gemini-3.5-flash"));
    let seen = bench.sim.requests().remove(0);
    assert!(seen.path.contains("gemini-3.5-flash"));
    assert_eq!(seen.body["systemInstruction"]["parts"][0]["text"], "asked");
    assert_eq!(seen.body["generationConfig"]["temperature"], 0.5);
    assert_eq!(seen.body["generationConfig"]["maxOutputTokens"], 99);
    assert!(
        !seen.headers.values().any(|value| value.contains(KEY)),
        "the record masks it"
    );
}
