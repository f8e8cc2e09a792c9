//! Analyses of a text: their shapes, and what becomes of a model that does not keep them.

use kronos_sim::{GeminiSim, ScriptedReply, SimConfig, SimHandle};
use serde_json::{Value, json};

use crate::harness::{Answer as _, Edge};

const PATH: &str = "/api/v1/chat/analyze";

async fn with_sim(change: impl FnOnce(&mut kronos::config::Config)) -> (Edge, SimHandle) {
    let pace = SimConfig {
        tokens_per_second: 0.0,
        first_token_ms: 0,
        ..SimConfig::default()
    };
    let sim = GeminiSim::start(pace).expect("the simulator starts");
    let edge = Edge::with(|config| {
        config.gemini.base_url = sim.url();
        config.gemini.api_key = Some("test-key".into());
        config.auth.mode = kronos::config::AuthMode::Development;
        change(config);
    })
    .await;
    (edge, sim)
}

#[actix_web::test]
async fn every_type_has_its_shape() {
    let (edge, sim) = with_sim(|_| {}).await;
    for (kind, fields) in [
        ("general", &["analysis"][..]),
        ("sentiment", &["confidence", "explanation", "sentiment"]),
        ("summary", &["summary"]),
        ("keywords", &["keywords", "topics"]),
        ("topics", &["keywords", "topics"]),
    ] {
        let body = json!({"message": "I love this!", "analysis_type": kind, "user_id": "ann"});
        let answer = edge.post(PATH, None, body).await.expect(200);
        assert_eq!(
            (&answer["message"], &answer["analysis_type"]),
            (&json!("I love this!"), &json!(kind))
        );
        let mut names: Vec<&String> = answer["result"].as_object().expect("a result").keys().collect();
        names.sort();
        assert_eq!(names, fields, "{answer}");
        assert!(answer["timestamp"].is_string());
        let asked = sim.requests().pop().expect("a request").body;
        assert_eq!(asked["generationConfig"]["responseMimeType"], "application/json");
        assert!(asked["generationConfig"]["responseJsonSchema"]["properties"].is_object());
    }
    let body = edge.post(PATH, None, json!({"message": "Hello"})).await.expect(200);
    assert_eq!(body["analysis_type"], "general");
    edge.finish().await;
}

#[actix_web::test]
async fn the_fields_may_come_in_the_query() {
    let (edge, _sim) = with_sim(|_| {}).await;
    let path = format!("{PATH}?message=I%20love%20this&analysis_type=sentiment&user_id=ann");
    let answer = edge.call("POST", &path, &[], None).await.expect(200);
    assert_eq!(answer["message"], "I love this");
    assert!(answer["result"]["confidence"].is_number());
    let wrong = edge
        .call("POST", &format!("{PATH}?message=x&analysis_type=mood"), &[], None)
        .await
        .expect(422);
    assert_eq!(wrong["error"]["details"]["errors"][0]["field"], "query.analysis_type");
    edge.finish().await;
}

#[actix_web::test]
async fn an_answer_without_the_shape_is_mended_once() {
    let (edge, sim) = with_sim(|_| {}).await;
    let body = || json!({"message": "I love this!", "analysis_type": "sentiment"});
    sim.script(vec![ScriptedReply::text(["I think ", "it is positive."])]);
    let answer = edge.post(PATH, None, body()).await.expect(200);
    assert!(answer["result"]["sentiment"].is_string());
    let requests = sim.requests();
    assert_eq!(requests.len(), 2);
    let turns = requests[1].body["contents"].as_array().expect("turns").clone();
    assert_eq!(turns[1]["parts"][0]["text"], "I think it is positive.");
    sim.script(vec![
        ScriptedReply::text(["no"]),
        ScriptedReply::text([r#"{"sentiment":"glad"}"#]),
    ]);
    let error = edge.post(PATH, None, body()).await.expect(503);
    assert_eq!(error["error"]["code"], "EXTERNAL_SERVICE_ERROR");
    let details = &error["error"]["details"];
    assert_eq!(
        (
            &details["service"],
            &details["operation"],
            &details["reason"],
            &details["retryable"]
        ),
        (
            &json!("Gemini"),
            &json!("analyze"),
            &json!("malformed_answer"),
            &json!(true)
        )
    );
    edge.finish().await;
}

#[actix_web::test]
async fn failures_of_the_model_are_told() {
    let (edge, sim) = with_sim(|config| {
        config.gemini.max_attempts = 1;
        config.gemini.analysis_timeout = std::time::Duration::from_millis(300);
    })
    .await;
    let ask = async |text: &str, status| edge.post(PATH, None, json!({"message": text})).await.expect(status);
    let error = ask("[[503]] x", 503).await;
    assert_eq!(error["error"]["details"]["upstream_status"], 503);
    let error = ask("[[slow-first-byte 60000]] x", 504).await;
    assert_eq!(error["error"]["code"], "EXTERNAL_SERVICE_ERROR");
    let before = sim.requests().len();
    for (body, field) in [
        (json!({}), "body.message"),
        (json!({"message": ""}), "body.message"),
        (json!({"message": "x", "analysis_type": 1}), "body.analysis_type"),
    ] {
        let error = edge.post(PATH, None, body).await.expect(422);
        assert_eq!(error["error"]["details"]["errors"][0]["field"], field);
    }
    assert_eq!(sim.requests().len(), before);
    edge.finish().await;
}

#[actix_web::test]
async fn who_may_not_ask_is_told_so() {
    let edge = Edge::start().await;
    edge.post(PATH, None, json!({"message": "x"})).await.is(401);
    let ada = edge.login("ada").await;
    let body = json!({"message": "x", "user_id": "somebody-else"});
    edge.post(PATH, Some(&ada.access), body).await.is(403);
    let error: Value = edge
        .post(PATH, Some(&ada.access), json!({"message": "x"}))
        .await
        .expect(503);
    assert_eq!(error["error"]["details"]["config_key"], "GEMINI_API_KEY");
    edge.finish().await;
}
