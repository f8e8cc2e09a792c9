//! What the agent says that it can do is what its configuration says.

use serde_json::json;

use crate::harness::{Answer as _, Edge};

const PATH: &str = "/api/v1/agent/capabilities";

#[actix_web::test]
async fn capabilities_are_those_of_the_configuration() {
    let edge = Edge::with(|config| {
        config.composio.api_key = Some("key".into());
        config.gemini.model = "gemini-x".to_owned();
        config.session.message_chars = 777;
        config.agent.client_tools = 0;
    })
    .await;
    edge.get(PATH, None).await.is(401);
    let ada = edge.login("ada").await;
    let told = edge.get(PATH, Some(&ada.access)).await.expect(200);
    assert_eq!(told["name"], "Kronos");
    assert_eq!(told["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(told["limits"]["message_chars"], 777);
    assert_eq!(
        (&told["features"]["composio_tools"], &told["features"]["answers"]),
        (&json!(true), &json!(false))
    );
    assert_eq!(
        (&told["model_info"]["model"], &told["model_info"]["configured"]),
        (&json!("gemini-x"), &json!(false))
    );
    let names = told["capabilities"].as_array().expect("names");
    assert!(names.contains(&json!("composio_tools")) && !names.contains(&json!("answers")));
    assert_eq!(told["ag_ui"]["tools"]["clientProvided"], false);
    edge.finish().await;

    let edge = Edge::simulated().await;
    let ada = edge.login("ada").await;
    let told = edge.get(PATH, Some(&ada.access)).await.expect(200);
    assert_eq!(
        (&told["features"]["composio_tools"], &told["features"]["answers"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(told["model_info"]["simulated"], true);
    assert_eq!(told["ag_ui"]["tools"]["clientProvided"], true);
    edge.finish().await;
}
