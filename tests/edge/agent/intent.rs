//! What a text wants: its shape, and what becomes of a model that does not keep it.

use kronos_sim::ScriptedReply;
use serde_json::{Value, json};

use crate::{
    chat::simulated,
    harness::{Answer as _, Edge},
};

const PATH: &str = "/api/v1/agent/analyze-intent";

#[actix_web::test]
async fn an_intent_has_its_shape_from_the_body_or_the_query() {
    let (edge, sim) = simulated(0.0, |_| {}).await;
    let ada = edge.login("ada").await;
    let body = json!({"message": "Mail the report to Ana"});
    let answer = edge.post(PATH, Some(&ada.access), body).await.expect(200);
    let intent = &answer["intent_analysis"];
    assert!(intent["intent"].is_string() && intent["action"].is_string(), "{answer}");
    assert!(
        intent["confidence"]
            .as_f64()
            .is_some_and(|sure| (0.0..=1.0).contains(&sure))
    );
    for entity in intent["entities"].as_array().expect("a list") {
        assert!(entity["type"].is_string() && entity["value"].is_string());
    }
    assert!(answer["timestamp"].is_string());
    assert_eq!(answer["message"], "Mail the report to Ana");
    let asked = sim.requests().pop().expect("a request").body;
    assert_eq!(asked["generationConfig"]["responseMimeType"], "application/json");
    let path = format!("{PATH}?message=Mail%20it");
    let answer = edge
        .call(
            "POST",
            &path,
            &[("Authorization", &format!("Bearer {}", ada.access))],
            None,
        )
        .await
        .expect(200);
    assert_eq!(answer["message"], "Mail it");
    // Beside a body it does not count, but must be right.
    let error = edge
        .post(
            &format!("{PATH}?user_id=%C3%97"),
            Some(&ada.access),
            json!({"message": "x"}),
        )
        .await
        .expect(422);
    assert_eq!(error["error"]["details"]["errors"][0]["field"], "query.user_id");
    edge.finish().await;
}

#[actix_web::test]
async fn an_answer_without_the_shape_is_mended_once() {
    let (edge, sim) = simulated(0.0, |config| config.gemini.max_attempts = 1).await;
    let ada = edge.login("ada").await;
    let ask = async |status| -> Value {
        let body = json!({"message": "Mail it"});
        edge.post(PATH, Some(&ada.access), body).await.expect(status)
    };
    sim.script(vec![ScriptedReply::text(["It wants mail."])]);
    assert!(ask(200).await["intent_analysis"]["intent"].is_string());
    let sure = r#"{"intent":"mail","confidence":7,"entities":[],"action":"Mail it."}"#;
    sim.script(vec![ScriptedReply::text([sure]), ScriptedReply::text([sure])]);
    let error = ask(503).await;
    assert_eq!(error["error"]["details"]["reason"], "malformed_answer");
    sim.script(vec![ScriptedReply::fault("503")]);
    assert_eq!(ask(503).await["error"]["details"]["upstream_status"], 503);
    edge.finish().await;
}

#[actix_web::test]
async fn who_may_not_ask_is_told_so() {
    let edge = Edge::start().await;
    edge.post(PATH, None, json!({"message": "x"})).await.is(401);
    let ada = edge.login("ada").await;
    let body = json!({"message": "x", "user_id": "somebody-else"});
    edge.post(PATH, Some(&ada.access), body).await.is(403);
    for body in [
        json!({}),
        json!({"message": ""}),
        json!({"message": "x".repeat(32_001)}),
    ] {
        let error = edge.post(PATH, Some(&ada.access), body).await.expect(422);
        assert_eq!(error["error"]["details"]["errors"][0]["field"], "body.message");
    }
    let error = edge
        .post(PATH, Some(&ada.access), json!({"message": "x"}))
        .await
        .expect(503);
    assert_eq!(error["error"]["details"]["config_key"], "GEMINI_API_KEY");
    edge.finish().await;
}
