//! What the simulator promises beside the shapes of its answers: pace, faults, scripts and its record.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the functions beside the tests are tests, too"
)]

use std::time::Duration;

use kronos_sim::{GeminiSim, Outcome, ScriptedEnd, ScriptedReply, SimConfig, SimHandle};
use reqwest::{Client, RequestBuilder, Response};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

const STREAM: &str = "streamGenerateContent?alt=sse";

/// A simulator without pauses.
fn fast() -> SimHandle {
    start(|_| {})
}

fn start(change: impl FnOnce(&mut SimConfig)) -> SimHandle {
    let mut config = SimConfig {
        tokens_per_second: 0.0,
        first_token_ms: 0,
        ..SimConfig::default()
    };
    change(&mut config);
    GeminiSim::start(config).unwrap()
}

fn ask(sim: &SimHandle, method: &str, text: &str) -> RequestBuilder {
    send(
        sim,
        method,
        &json!({"contents": [{"role": "user", "parts": [{"text": text}]}]}),
    )
}

/// A client of its own connections.
fn client() -> Client {
    // Another test of the process may have installed it already.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder().no_proxy().build().unwrap()
}

fn send(sim: &SimHandle, method: &str, body: &Value) -> RequestBuilder {
    let client = client();
    let url = format!("{}/v1beta/models/gemini-3.8-flash:{method}", sim.url());
    client
        .post(url)
        .header("x-goog-api-key", "test-key")
        .body(body.to_string())
}

async fn json(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    (
        response.status().as_u16(),
        serde_json::from_slice(&response.bytes().await.unwrap()).unwrap(),
    )
}

/// Reads the chunks of a whole stream.
async fn chunks(request: RequestBuilder) -> Vec<Value> {
    let body = request.send().await.unwrap().text().await.unwrap();
    let events = body.split("\r\n\r\n").filter(|event| !event.is_empty());
    events
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect()
}

fn text(chunks: &[Value]) -> String {
    chunks
        .iter()
        .filter_map(|chunk| chunk["candidates"][0]["content"]["parts"][0]["text"].as_str())
        .collect()
}

/// Waits until the last recorded request has left the state in flight.
async fn last_outcome(sim: &SimHandle) -> Outcome {
    let wait = async {
        loop {
            match sim.requests().pop() {
                Some(request) if request.outcome != Outcome::InFlight => return request.outcome,
                _ => sleep(Duration::from_millis(2)).await,
            }
        }
    };
    timeout(Duration::from_secs(10), wait).await.expect("the exchange ends")
}

/// Reads until `wanted` bytes are there.
async fn read_some(response: &mut Response, wanted: usize) {
    let mut read = 0;
    while read < wanted {
        read += response.chunk().await.unwrap().expect("more to come").len();
    }
}

#[tokio::test]
async fn a_client_that_leaves_in_mid_stream_is_noticed_promptly() {
    let sim = start(|config| (config.tokens_per_second, config.first_token_ms) = (60.0, 10));
    for prompt in ["[[tokens 5000]]", "[[tokens 5000]] [[stall]]"] {
        let mut response = ask(&sim, STREAM, prompt).send().await.unwrap();
        read_some(&mut response, 600).await;
        let left = Instant::now();
        drop(response);
        let outcome = last_outcome(&sim).await;
        assert!(
            left.elapsed() < Duration::from_millis(100),
            "noticed after {:?}",
            left.elapsed()
        );
        assert!(
            matches!(outcome, Outcome::ClientGone { chunks_sent: 1..10, .. }),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_answer_is_noticed() {
    let sim = start(|config| config.first_token_ms = 60_000);
    let call = ask(&sim, "generateContent", "hello")
        .timeout(Duration::from_millis(50))
        .send()
        .await;
    assert!(call.is_err());
    assert!(matches!(
        last_outcome(&sim).await,
        Outcome::ClientGone { chunks_sent: 0, .. }
    ));
}

#[tokio::test]
async fn a_stream_keeps_its_pace() {
    let sim = start(|config| (config.tokens_per_second, config.first_token_ms) = (400.0, 50));
    let started = Instant::now();
    let chunks = chunks(ask(&sim, STREAM, "[[tokens 200]]")).await;
    let took = started.elapsed();
    assert_eq!(text(&chunks).split_whitespace().count(), 200);
    // 50 ms, then 200 tokens at 400 a second.
    assert!(
        took >= Duration::from_millis(540) && took < Duration::from_millis(1500),
        "{took:?}"
    );
}

#[tokio::test]
async fn many_streams_keep_their_pace_together() {
    let sim = start(|config| (config.tokens_per_second, config.first_token_ms) = (60.0, 100));
    let client = client();
    let started = Instant::now();
    let streams = (0..300).map(|_| {
        let client = client.clone();
        let url = format!("{}/v1/models/gemini-3.8-flash:{STREAM}", sim.url());
        let body = json!({"contents": [{"parts": [{"text": "[[tokens 60]]"}]}]});
        tokio::spawn(async move {
            let response = client
                .post(url)
                .header("x-goog-api-key", "k")
                .body(body.to_string())
                .send()
                .await
                .unwrap();
            response.text().await.unwrap()
        })
    });
    for stream in streams.collect::<Vec<_>>() {
        assert!(stream.await.unwrap().contains("STOP"));
    }
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
}

#[tokio::test]
async fn chunks_carry_the_time_at_which_they_left() {
    let sim = start(|config| config.stamp_chunks = true);
    let chunks = chunks(ask(&sim, STREAM, "hello")).await;
    let stamps: Vec<u128> = chunks
        .iter()
        .map(|chunk| chunk["simSentUnixNanos"].as_str().unwrap().parse().unwrap())
        .collect();
    assert!(stamps.is_sorted() && stamps.len() > 2);
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["createTime"].as_str().unwrap().ends_with('Z'))
    );
}

#[tokio::test]
async fn the_text_can_be_the_time_at_which_it_left() {
    let sim = start(|config| (config.tokens_per_second, config.tokens_per_chunk) = (100.0, 1));
    let before = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000;
    let chunks = chunks(ask(&sim, STREAM, "[[clock]][[tokens 8]]")).await;
    let after = time::OffsetDateTime::now_utc().unix_timestamp_nanos() / 1000;
    let stamps: Vec<i128> = text(&chunks)
        .split_whitespace()
        .map(|stamp| stamp.parse().unwrap())
        .collect();
    assert_eq!(stamps.len(), 8);
    assert!(stamps.is_sorted() && before < stamps[0] && stamps[7] < after);
    assert!(stamps[7] - stamps[0] >= 60_000, "{stamps:?}");
}

#[tokio::test]
async fn without_alt_a_stream_is_one_json_array() {
    let sim = fast();
    let (status, body) = json(ask(&sim, "streamGenerateContent", "hello")).await;
    let chunks = body.as_array().unwrap();
    assert!(status == 200 && chunks.len() > 2, "{body}");
    assert_eq!(chunks.last().unwrap()["candidates"][0]["finishReason"], "STOP");
    let (status, body) = json(ask(&sim, "streamGenerateContent", "[[503]]")).await;
    assert_eq!(
        (status, body[0]["error"]["status"].as_str()),
        (503, Some("UNAVAILABLE"))
    );
}

#[tokio::test]
async fn a_script_is_followed_and_then_forgotten() {
    let sim = fast();
    sim.script(vec![
        ScriptedReply::fault("429;retry_after=7;header"),
        ScriptedReply::text(["Hel", "lo"]),
        ScriptedReply::call("get_weather", json!({"city": "Oslo"})),
        ScriptedReply::text(["half"]).ending(ScriptedEnd::Cut),
        ScriptedReply::error(418, Some(json!({"teapot": true}))),
    ]);
    let limited = ask(&sim, STREAM, "hi").send().await.unwrap();
    assert_eq!(
        (
            limited.status().as_u16(),
            limited.headers()["retry-after"].to_str().unwrap()
        ),
        (429, "7")
    );
    let hello = chunks(ask(&sim, STREAM, "hi")).await;
    assert_eq!((text(&hello).as_str(), hello.len()), ("Hello", 3));
    let call = chunks(ask(&sim, STREAM, "hi")).await;
    let part = &call[0]["candidates"][0]["content"]["parts"][0];
    assert_eq!(part["functionCall"]["args"]["city"], "Oslo");
    assert!(part["thoughtSignature"].is_string());
    assert!(ask(&sim, STREAM, "hi").send().await.unwrap().text().await.is_err());
    assert_eq!(
        last_outcome(&sim).await,
        Outcome::Failed {
            reason: "cut".to_owned()
        }
    );
    assert_eq!(json(ask(&sim, STREAM, "hi")).await, (418, json!({"teapot": true})));
    assert!(!chunks(ask(&sim, STREAM, "hi")).await.is_empty());
}

#[tokio::test]
async fn magic_words_make_each_failure() {
    let sim = fast();
    for (word, status) in [
        ("429", 429),
        ("500", 500),
        ("503", 503),
        ("402", 402),
        ("empty-body", 503),
        ("html", 502),
    ] {
        let response = ask(&sim, STREAM, &format!("[[{word}]] hi")).send().await.unwrap();
        assert_eq!(response.status().as_u16(), status, "{word}");
    }
    for (word, reason) in [
        ("safety", "SAFETY"),
        ("recitation", "RECITATION"),
        ("max-tokens", "MAX_TOKENS"),
        ("empty", "STOP"),
    ] {
        let chunks = chunks(ask(&sim, STREAM, &format!("[[{word}]] tell me a story"))).await;
        assert_eq!(
            chunks.last().unwrap()["candidates"][0]["finishReason"],
            reason,
            "{word}"
        );
    }
    for (word, whole) in [
        ("cut", false),
        ("truncate", false),
        ("truncate-clean", true),
        ("garbage", true),
    ] {
        let body = ask(&sim, STREAM, &format!("[[{word}]] tell me a story"))
            .send()
            .await
            .unwrap()
            .bytes()
            .await;
        assert_eq!(body.is_ok(), whole, "{word}");
        let single = ask(&sim, "generateContent", &format!("[[{word}]] tell me a story"))
            .send()
            .await;
        assert_eq!(single.unwrap().bytes().await.is_ok(), whole, "{word} without streaming");
    }
}

#[tokio::test]
async fn a_limited_fault_ends_after_its_count() {
    let sim = fast();
    for (prompt, statuses) in [
        ("[[503-once]] a", vec![503, 200, 200]),
        ("[[429x2]] a", vec![429, 429, 200]),
    ] {
        for status in statuses {
            assert_eq!(
                ask(&sim, STREAM, prompt).send().await.unwrap().status().as_u16(),
                status,
                "{prompt}"
            );
        }
    }
}

#[tokio::test]
async fn a_slow_first_byte_is_slow() {
    let sim = fast();
    let started = Instant::now();
    ask(&sim, STREAM, "[[slow-first-byte 200]] hi")
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(started.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn faults_come_by_header_and_by_chance() {
    let sim = fast();
    let failed = ask(&sim, STREAM, "hi")
        .header("x-kronos-sim-fault", "504")
        .send()
        .await
        .unwrap();
    assert_eq!(failed.status().as_u16(), 504);
    sim.set_config(|config| config.fault_rate = 0.5);
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(ask(&sim, STREAM, "hi").send().await.unwrap().status().as_u16());
    }
    let good = statuses.iter().filter(|status| **status == 200).count();
    assert!((5..35).contains(&good), "{statuses:?}");
}

#[tokio::test]
async fn the_same_seed_and_request_give_the_same_text() {
    let mut texts = Vec::new();
    for seed in [5, 5, 6] {
        let sim = start(|config| config.seed = seed);
        texts.push(text(&chunks(ask(&sim, STREAM, "[[tokens 300]]")).await));
    }
    assert_eq!(texts[0], texts[1]);
    assert_ne!(texts[0], texts[2]);
}

#[tokio::test]
async fn wrong_requests_get_the_errors_of_the_service() {
    let sim = fast();
    let user = json!({"role": "user", "parts": [{"text": "hi"}]});
    let model = json!({"role": "model", "parts": [{"text": "ho"}]});
    let call = json!({"role": "model", "parts": [{"functionCall": {"name": "f"}, "thoughtSignature": "skip_thought_signature_validator"}]});
    let response = json!({"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {}}}]});
    for (body, expected) in [
        (json!({"contents": []}), "contents is not specified"),
        (
            json!({"contents": [{"parts": []}]}),
            "contents[0].parts: contents.parts must not be empty",
        ),
        (
            json!({"contents": [{"parts": [{"thought": true}]}]}),
            "contents[0].parts[0].data: required oneof field 'data'",
        ),
        (
            json!({"contents": [{"role": "function", "parts": [{"text": "x"}]}]}),
            "valid role: user, model",
        ),
        (json!({"contents": [user, model]}), "last turn"),
        (
            json!({"contents": [user], "generation_config": {"nope": 1}}),
            "\"nope\" at 'generation_config': Cannot find field.",
        ),
        (
            json!({"contents": [user, call, user]}),
            "number of function response parts",
        ),
        (
            json!({"contents": [user, response]}),
            "immediately after a function call turn",
        ),
        (
            json!({"contents": [{"parts": [{"functionResponse": {"name": "f", "response": [1]}}]}]}),
            "Invalid value at",
        ),
    ] {
        let (status, answer) = json(send(&sim, STREAM, &body)).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(expected), "{message}");
    }
    let (status, _) = json(send(
        &sim,
        "generateContent",
        &json!({"contents": [user, call, response]}),
    ))
    .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn a_missing_key_is_refused_and_a_key_in_the_query_is_taken() {
    let sim = fast();
    let client = client();
    let url = format!("{}/v1/models", sim.url());
    assert_eq!(client.get(&url).send().await.unwrap().status().as_u16(), 403);
    assert_eq!(
        client
            .get(format!("{url}?key=secret"))
            .send()
            .await
            .unwrap()
            .status()
            .as_u16(),
        200
    );
    let requests = sim.requests();
    assert_eq!(requests[1].query["key"], "***");
    assert_eq!(
        requests[0].outcome,
        Outcome::Failed {
            reason: "403".to_owned()
        }
    );
}

#[tokio::test]
async fn the_record_is_bounded_and_hides_the_key() {
    let sim = start(|config| config.max_recorded = 3);
    for at in 0..5 {
        ask(&sim, STREAM, &format!("hello {at}"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
    }
    let requests = sim.requests();
    assert_eq!(requests.iter().map(|request| request.id).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(requests[2].body["contents"][0]["parts"][0]["text"], "hello 4");
    assert_eq!(requests[2].headers["x-goog-api-key"], "***");
    assert_eq!(last_outcome(&sim).await, Outcome::Completed);
    assert!(requests[2].chunks_sent > 1);
    sim.clear();
    assert!(sim.requests().is_empty());
}

#[tokio::test]
async fn other_processes_control_it_over_http() {
    let sim = fast();
    let client = client();
    let at = |path: &str| format!("{}/sim/{path}", sim.url());
    assert_eq!(client.get(at("health")).send().await.unwrap().status().as_u16(), 200);
    let (status, config) = json(client.put(at("config")).body(r#"{"seed": 9}"#)).await;
    assert_eq!((status, config["seed"].as_u64()), (200, Some(9)));
    assert_eq!(json(client.put(at("config")).body(r#"{"sed": 9}"#)).await.0, 400);
    let script = r#"[{"fault": "503"}, {"chunks": [{"text": "scripted"}], "end": {"finish": "OTHER"}}]"#;
    assert_eq!(
        json(client.post(at("script")).body(script)).await,
        (200, json!({"queued": 2}))
    );
    assert_eq!(ask(&sim, STREAM, "hi").send().await.unwrap().status().as_u16(), 503);
    let scripted = chunks(ask(&sim, STREAM, "hi")).await;
    assert_eq!(scripted[1]["candidates"][0]["finishReason"], "OTHER");
    let (_, requests) = json(client.get(at("requests"))).await;
    assert_eq!(requests[0]["outcome"], json!({"state": "failed", "reason": "503"}));
    assert_eq!(
        client.delete(at("requests")).send().await.unwrap().status().as_u16(),
        200
    );
    assert!(sim.requests().is_empty());
}

#[tokio::test]
async fn a_stopped_simulator_frees_its_port_and_a_taken_port_is_an_error() {
    let sim = fast();
    let port: u16 = sim.url().rsplit(':').next().unwrap().parse().unwrap();
    let config = || SimConfig {
        port,
        ..SimConfig::default()
    };
    assert_eq!(
        GeminiSim::start(config()).unwrap_err().kind(),
        std::io::ErrorKind::AddrInUse
    );
    let mut stalled = ask(&sim, STREAM, "[[stall]] tell me a story").send().await.unwrap();
    read_some(&mut stalled, 100).await;
    sim.stop();
    GeminiSim::start(config()).unwrap().stop();
}

#[tokio::test]
async fn calls_and_their_results_are_checked_when_they_come_back() {
    let sim = fast();
    let tools = json!([{"functionDeclarations": [{"name": "current_time"}, {"name": "calculate", "parametersJsonSchema":
        {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]}}]}]);
    let user = |parts: Value| json!({"role": "user", "parts": parts});
    let question = user(json!([{"text": "What time is it and what is 3*4?"}]));
    let asked = json!({"contents": [question], "tools": tools});
    let (status, answer) = json(send(&sim, "generateContent", &asked)).await;
    let parts = answer["candidates"][0]["content"]["parts"].clone();
    assert_eq!((status, parts.as_array().map(Vec::len)), (200, Some(2)), "{answer}");
    assert!(parts[0]["thoughtSignature"].is_string() && parts[1]["thoughtSignature"].is_null());
    assert_eq!(parts[1]["functionCall"]["args"], json!({"expression": "3*4"}));
    let response = |at: usize, value: Value| {
        let call = &parts[at]["functionCall"];
        json!({"functionResponse": {"id": call["id"], "name": call["name"], "response": value}})
    };
    let (time, sum) = (
        response(0, json!({"error": "no clock"})),
        response(1, json!({"output": 12})),
    );
    let follow = |parts: &Value, responses: Value| json!({"contents": [question, {"role": "model", "parts": parts}, user(responses)], "tools": tools});
    let (status, answer) = json(send(&sim, "generateContent", &follow(&parts, json!([time, sum])))).await;
    let said = answer["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap();
    assert!(
        status == 200 && said.contains("12") && said.contains("no clock"),
        "{answer}"
    );

    let mut unsigned = parts.clone();
    unsigned[0].as_object_mut().unwrap().remove("thoughtSignature");
    let mut swapped = parts.clone();
    swapped[0]["functionCall"]["args"] = json!({"zone": "other"});
    let mut foreign = sum.clone();
    foreign["functionResponse"]["id"] = json!("another");
    for (parts, responses, expected) in [
        (&unsigned, json!([time, sum]), "missing a thought_signature"),
        (&swapped, json!([time, sum]), "Corrupted thought signature"),
        (&parts, json!([time]), "number of function response parts"),
        (&parts, json!([time, foreign]), "number of function response parts"),
        (&parts, json!([time, {"text": "x"}, sum]), "before any other part"),
    ] {
        let (status, answer) = json(send(&sim, "generateContent", &follow(parts, responses))).await;
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(status == 400 && message.contains(expected), "{message}");
    }
}

#[tokio::test]
async fn a_word_may_be_meant_for_one_step_of_a_turn() {
    let sim = fast();
    let tools = json!([{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}]);
    let said = "[[call f;step=1]] [[call g;step=2]] [[503;step=3]] go";
    let mut contents = vec![json!({"role": "user", "parts": [{"text": said}]})];
    for name in ["f", "g"] {
        let body = json!({"contents": contents, "tools": tools});
        let (_, answer) = json(send(&sim, "generateContent", &body)).await;
        let content = answer["candidates"][0]["content"].clone();
        assert_eq!(content["parts"][0]["functionCall"]["name"], name, "{answer}");
        contents.push(content);
        contents.push(json!({"role": "user", "parts": [{"functionResponse": {"name": name, "response": {}}}]}));
    }
    let body = json!({"contents": contents, "tools": tools});
    assert_eq!(json(send(&sim, "generateContent", &body)).await.0, 503);
}
