//! Faults before and after the effect, limits, scripts.

use std::time::Duration;

use kronos_sim::{ComposioScript, Outcome, RecordedRequest};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use super::harness::{ISSUE, call, counts, execute, issue, request, send, start};

#[tokio::test]
async fn faults_come_before_or_after_the_effect() {
    let sim = start(|_| {});
    sim.connect("anna", "github").unwrap();
    for (word, status, effects) in [
        ("500", 500, 0),
        ("502", 502, 0),
        ("503-after-effect", 503, 1),
        ("413", 413, 1),
        ("429", 429, 0),
        ("429-edge", 429, 0),
        ("failed nope", 200, 0),
        ("failed-after-effect", 200, 1),
        ("error-inside", 200, 1),
        ("hang 20", 200, 1),
        ("hang-after-effect 20", 200, 1),
        ("slow 20", 200, 1),
    ] {
        sim.clear_effects();
        let (code, answer) = execute(&sim, ISSUE, "k", &issue(&format!("[[{word}]] x"))).await;
        assert_eq!((code, counts(&sim).len()), (status, effects), "{word}");
        if code == 200 {
            assert_eq!(answer["successful"], !word.starts_with("failed"), "{word}");
        }
    }
    assert_eq!(execute(&sim, ISSUE, "k", &issue("[[503-once]] y")).await.0, 503);
    assert_eq!(execute(&sim, ISSUE, "k", &issue("[[503-once]] y")).await.0, 200);
    let (_, big) = execute(&sim, ISSUE, "k", &issue("[[big 100000]]")).await;
    assert_eq!(big["data"]["padding"].as_str().map(str::len), Some(100_000));
}

#[tokio::test]
async fn an_answer_may_never_come_or_break() {
    let sim = start(|_| {});
    sim.connect("anna", "github").unwrap();
    for (word, effects) in [("hang", 0), ("hang-after-effect", 1)] {
        sim.clear_effects();
        let asked = request(&sim, ISSUE, "k", &issue(&format!("[[{word}]]")))
            .timeout(Duration::from_millis(300))
            .send();
        assert!(asked.await.unwrap_err().is_timeout(), "{word}");
        assert_eq!(counts(&sim).len(), effects, "{word}");
        let gone = |request: &RecordedRequest| matches!(request.outcome, Outcome::ClientGone { .. });
        let noticed = async {
            while !sim.requests().last().is_some_and(gone) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(Duration::from_secs(10), noticed)
            .await
            .expect("it is seen that the client has gone");
    }
    for (word, effects) in [("cut", 0), ("cut-after-effect", 1)] {
        sim.clear_effects();
        let answer = request(&sim, ISSUE, "k", &issue(&format!("[[{word}]]"))).send().await;
        let broken = match answer {
            Ok(answer) => answer.bytes().await.is_err(),
            Err(_) => true,
        };
        assert!(broken, "{word}");
        assert_eq!(counts(&sim).len(), effects, "{word}");
    }
}

#[tokio::test]
async fn a_tool_ends_its_work_for_a_client_that_has_gone() {
    let sim = start(|_| {});
    sim.connect("anna", "github").unwrap();
    let asked = request(&sim, ISSUE, "k", &issue("[[slow 400]] x")).timeout(Duration::from_millis(100));
    assert!(asked.send().await.unwrap_err().is_timeout());
    let done = async {
        while counts(&sim).is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), done).await.expect("the effect");
}

#[tokio::test]
async fn a_limit_is_told_in_three_ways() {
    let sim = start(|_| {});
    for (word, after, limits, code) in [
        ("429;retry_after=7", Some("7"), true, Value::Null),
        ("429-bare", None, true, Value::Null),
        ("429-edge", None, false, json!(10429)),
        ("429-flat", None, false, json!(10429)),
    ] {
        sim.script(vec![ComposioScript::fault(word).at("/toolkits")]);
        let answer = send(&sim, "GET", "/toolkits", &Value::Null).await;
        assert_eq!(answer.status(), 429, "{word}");
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(header("retry-after").as_deref(), after, "{word}");
        assert_eq!(header("x-ratelimit-remaining").is_some(), limits, "{word}");
        let body: Value = answer.json().await.unwrap();
        assert_eq!(
            body.pointer("/error/code")
                .or(body.get("code"))
                .cloned()
                .unwrap_or_default(),
            code,
            "{word}"
        );
    }
    sim.set_config(|config| (config.rate_limit, config.enforce_rate_limit) = (2, true));
    sim.advance(60_000);
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(send(&sim, "GET", "/toolkits", &Value::Null).await.status().as_u16());
    }
    // Also when a minute ends between two of them.
    assert!(seen.contains(&429), "{seen:?}");
}

#[tokio::test]
async fn a_script_meets_the_requests_that_fit() {
    let sim = start(|_| {});
    sim.connect("anna", "github").unwrap();
    sim.script(vec![
        ComposioScript::fault("500").on(ISSUE).times(2),
        ComposioScript::result(json!({"made": "by script"})).on("GITHUB_CREATE*"),
        ComposioScript::error(418, Some(json!({"teapot": true}))).at("/connected_accounts"),
    ]);
    assert_eq!(call(&sim, "GET", "/toolkits", Value::Null).await.0, 200);
    assert_eq!(execute(&sim, ISSUE, "a", &issue("x")).await.0, 500);
    assert_eq!(execute(&sim, ISSUE, "a", &issue("x")).await.0, 500);
    assert_eq!(
        execute(&sim, ISSUE, "a", &issue("x")).await.1["data"],
        json!({"made": "by script"})
    );
    assert_eq!(execute(&sim, ISSUE, "b", &issue("x")).await.1["data"]["title"], "x");
    assert_eq!(
        call(&sim, "GET", "/connected_accounts", Value::Null).await,
        (418, json!({"teapot": true}))
    );
    assert_eq!(
        counts(&sim).len(),
        2,
        "a scripted result counts, a fault before does not"
    );
}

#[tokio::test]
async fn chance_meets_the_same_executions_for_the_same_seed() {
    let mut runs = Vec::new();
    for rate in [0.5, 0.5, 0.0, 1.0] {
        let sim = start(|config| (config.fault_rate, config.fault_kinds) = (rate, vec!["503".to_owned()]));
        sim.connect("anna", "github").unwrap();
        let mut seen = Vec::new();
        for _ in 0..20 {
            seen.push(execute(&sim, ISSUE, "k", &issue("x")).await.0);
        }
        runs.push(seen);
    }
    assert_eq!(runs[0], runs[1]);
    assert!(runs[0].contains(&200) && runs[0].contains(&503), "{:?}", runs[0]);
    assert_eq!((&runs[2], &runs[3]), (&vec![200; 20], &vec![503; 20]));
}
