//! Connections: the page behind a link, and the ways without one.

use serde_json::json;

use super::harness::{call, client, get, link, press, start};

#[tokio::test]
async fn a_user_approves_or_denies_on_the_page_of_a_link() {
    let sim = start(|_| {});
    for (decision, status, word) in [("approve", "ACTIVE", "success"), ("deny", "FAILED", "failed")] {
        let (account, url) = link(&sim, "github", "https://kronos.example/back?x=1").await;
        assert_eq!(sim.status(&account).as_deref(), Some("INITIALIZING"));
        let page = client().get(&url).send().await.unwrap();
        assert!(
            page.headers()["content-security-policy"]
                .to_str()
                .unwrap()
                .starts_with("default-src 'none'")
        );
        assert!(page.text().await.unwrap().contains("<form method=\"post\">"));
        assert_eq!(sim.status(&account).as_deref(), Some("INITIATED"));
        let answer = press(&url, decision).await;
        assert_eq!(answer.status(), 303);
        let target = answer.headers()["location"].to_str().unwrap().to_owned();
        assert_eq!(
            target,
            format!("https://kronos.example/back?x=1&status={word}&connected_account_id={account}")
        );
        assert_eq!(sim.status(&account).as_deref(), Some(status));
        assert_eq!(press(&url, "approve").await.status(), 410, "a link is used once");
        assert_eq!(sim.status(&account).as_deref(), Some(status));
    }
}

#[tokio::test]
async fn a_link_expires() {
    let sim = start(|config| config.link_expiry_ms = 60_000);
    let (account, url) = link(&sim, "gmail", "https://kronos.example/back").await;
    sim.advance(59_000);
    assert_eq!(client().get(&url).send().await.unwrap().status(), 200);
    sim.advance(1_001);
    assert_eq!(client().get(&url).send().await.unwrap().status(), 410);
    let read = get(&sim, &format!("/connected_accounts/{account}")).await;
    assert_eq!(
        (&read["status"], read["status_reason"].is_string()),
        (&json!("EXPIRED"), true)
    );
}

#[tokio::test]
async fn a_verified_callback_waits_for_the_right_user() {
    let sim = start(|config| config.verify_callbacks = true);
    for (user, code, status) in [("anna", 200, "ACTIVE"), ("ben", 400, "FAILED")] {
        let (account, url) = link(&sim, "github", "https://kronos.example/back").await;
        let answer = press(&url, "approve").await;
        let target = answer.headers()["location"].to_str().unwrap();
        let session = target
            .strip_prefix("https://kronos.example/back?session_uri=")
            .expect("only the session");
        assert_eq!(sim.status(&account).as_deref(), Some("INITIATED"));
        let body = json!({"session_uri": session, "user_id": user});
        assert_eq!(
            call(&sim, "POST", "/connected_accounts/complete_auth", body.clone())
                .await
                .0,
            code
        );
        assert_eq!(sim.status(&account).as_deref(), Some(status));
        assert_eq!(
            call(&sim, "POST", "/connected_accounts/complete_auth", body).await.0,
            404,
            "stale"
        );
    }
}

#[tokio::test]
async fn the_retired_endpoint_says_where_to_go() {
    let sim = start(|_| {});
    let (_, config) = call(&sim, "POST", "/auth_configs", json!({"toolkit": {"slug": "github"}})).await;
    let body = json!({"auth_config": {"id": config["auth_config"]["id"]}, "connection": {"user_id": "anna"}});
    let (status, answer) = call(&sim, "POST", "/connected_accounts", body).await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(600)));
    assert!(message.contains("no longer supported") && message.contains("/api/v3/connected_accounts/link"));
    let (status, _) = call(
        &sim,
        "POST",
        "/auth_configs",
        json!({"toolkit": {"slug": "perplexityai"}}),
    )
    .await;
    assert_eq!(status, 400, "no managed authentication");
}

#[tokio::test]
async fn an_alias_is_taken_once_and_secrets_are_masked() {
    let sim = start(|_| {});
    let config =
        json!({"toolkit": {"slug": "notion"}, "auth_config": {"type": "use_custom_auth", "authScheme": "API_KEY"}});
    let (_, config) = call(&sim, "POST", "/auth_configs", config).await;
    let body = |alias: &str| {
        json!({"auth_config": {"id": config["auth_config"]["id"]}, "connection": {"user_id": "anna", "alias": alias,
               "state": {"authScheme": "API_KEY", "val": {"status": "ACTIVE", "generic_api_key": "secret-value"}}}})
    };
    let (status, made) = call(&sim, "POST", "/connected_accounts", body("work")).await;
    assert_eq!((status, &made["status"]), (201, &json!("ACTIVE")));
    assert_eq!(made["connectionData"]["val"]["generic_api_key"], "secr...");
    assert_eq!(
        call(&sim, "POST", "/connected_accounts", body("work")).await.1["error"]["code"],
        600
    );
    assert_eq!(call(&sim, "POST", "/connected_accounts", body("home")).await.0, 201);
}
