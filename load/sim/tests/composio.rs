//! What the Composio simulator promises beside the shapes of its answers: whose account it is, effects, faults, the page
//! behind a link, webhooks.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests, too")]

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use kronos_sim::{ComposioHandle, ComposioScript, ComposioSim, ComposioSimConfig, DeliverError, Outcome, WebhookOrder};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Response};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::{sleep, timeout};

const ISSUE: &str = "GITHUB_CREATE_ISSUE";

fn start(change: impl FnOnce(&mut ComposioSimConfig)) -> ComposioHandle {
    let mut config = ComposioSimConfig::default();
    change(&mut config);
    ComposioSim::start(config).unwrap()
}

fn client() -> Client {
    Client::builder().no_proxy().redirect(Policy::none()).build().unwrap()
}

async fn send(sim: &ComposioHandle, method: &str, path: &str, body: &Value) -> Response {
    let url = format!("{}/api/v3.1{path}", sim.url());
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = client().request(method, url).header("x-api-key", "ak_test");
    if !body.is_null() {
        request = request.body(body.to_string());
    }
    request.send().await.unwrap()
}

async fn call(sim: &ComposioHandle, method: &str, path: &str, body: Value) -> (u16, Value) {
    let response = send(sim, method, path, &body).await;
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

async fn get(sim: &ComposioHandle, path: &str) -> Value {
    call(sim, "GET", path, Value::Null).await.1
}

/// Executes a tool under a key.
fn request(sim: &ComposioHandle, tool: &str, key: &str, body: &Value) -> reqwest::RequestBuilder {
    let url = format!("{}/api/v3.1/tools/execute/{tool}", sim.url());
    let request = client()
        .post(url)
        .header("x-api-key", "ak_test")
        .header("idempotency-key", key);
    request.body(body.to_string())
}

async fn execute(sim: &ComposioHandle, tool: &str, key: &str, body: &Value) -> (u16, Value) {
    let response = request(sim, tool, key, body).send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

fn issue(title: &str) -> Value {
    json!({"user_id": "anna", "arguments": {"owner": "octocat", "repo": "notes", "title": title}})
}

fn counts(sim: &ComposioHandle) -> Vec<(String, u32)> {
    sim.effects()
        .into_iter()
        .map(|effect| (effect.key, effect.count))
        .collect()
}

#[tokio::test]
async fn what_a_tool_makes_is_found_again() {
    let sim = start(|_| {});
    sim.connect("anna", "github").unwrap();
    sim.connect("anna", "gmail").unwrap();
    sim.connect("ben", "gmail").unwrap();
    let (_, made) = execute(&sim, ISSUE, "k1", &issue("A title")).await;
    assert_eq!(
        (&made["successful"], &made["error"], &made["data"]["number"]),
        (&json!(true), &Value::Null, &json!(1))
    );
    let place = json!({"user_id": "anna", "arguments": {"owner": "Octocat", "repo": "notes"}});
    let (_, listed) = execute(&sim, "GITHUB_LIST_REPOSITORY_ISSUES", "k2", &place).await;
    assert_eq!(listed["data"]["issues"][0]["title"], "A title");
    let close = json!({"user_id": "anna", "arguments": {"owner": "octocat", "repo": "notes", "issue_number": 1, "state": "closed"}});
    execute(&sim, "GITHUB_UPDATE_AN_ISSUE", "k3", &close).await;
    let (_, listed) = execute(&sim, "GITHUB_LIST_REPOSITORY_ISSUES", "k4", &place).await;
    assert_eq!(listed["data"]["issues"], json!([]), "only open issues are listed");
    let mail = json!({"user_id": "anna", "arguments": {"recipient_email": "cleo@example.com", "subject": "Otters", "body": "x"}});
    execute(&sim, "GMAIL_SEND_EMAIL", "k5", &mail).await;
    for (user, found) in [("anna", 1), ("ben", 0)] {
        let search = json!({"user_id": user, "arguments": {"query": "subject:otters"}});
        let (_, mails) = execute(&sim, "GMAIL_FETCH_EMAILS", "k6", &search).await;
        assert_eq!(
            mails["data"]["messages"].as_array().map(Vec::len),
            Some(found),
            "{user}"
        );
    }
    let expected = ["k1", "k3", "k5"].map(|key| (key.to_owned(), 1));
    assert_eq!(counts(&sim), expected, "reading is no effect");
}

#[tokio::test]
async fn an_effect_is_counted_under_its_key_each_time() {
    let sim = start(|_| {});
    let account = sim.connect("anna", "github").unwrap();
    for _ in 0..2 {
        execute(&sim, ISSUE, "same", &issue("Twice")).await;
    }
    let url = format!("{}/api/v3.1/tools/execute/{ISSUE}", sim.url());
    for id in [Some("request-7"), None] {
        let mut request = client()
            .post(&url)
            .header("x-api-key", "ak_test")
            .body(issue("x").to_string());
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let keys: Vec<_> = counts(&sim);
    assert_eq!(keys[..2], [("same".to_owned(), 2), ("request-7".to_owned(), 1)]);
    assert!(keys[2].0.starts_with("made-up-"), "{keys:?}");
    let first = &sim.effects()[0];
    assert_eq!((first.tool.as_str(), first.user_id.as_str()), (ISSUE, "anna"));
    assert_eq!(first.connected_account_id.as_ref(), Some(&account));
    assert_eq!(first.arguments["title"], "Twice");
    let seen: Value = client()
        .get(format!("{}/sim/effects", sim.url()))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(seen[0]["count"], 2);
    client()
        .delete(format!("{}/sim/effects", sim.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(counts(&sim), []);
}

#[tokio::test]
async fn nobody_acts_with_the_account_of_another() {
    let sim = start(|_| {});
    let account = sim.connect("anna", "github").unwrap();
    let mut body = issue("x");
    body["connected_account_id"] = json!(account);
    body["user_id"] = json!("ben");
    let (status, answer) = execute(&sim, ISSUE, "k", &body).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(1812)));
    body["connected_account_id"] = Value::Null;
    let (status, answer) = execute(&sim, ISSUE, "k", &body).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!(1810)));
    let gmail = sim.connect("anna", "gmail").unwrap();
    body = issue("x");
    body["connected_account_id"] = json!(gmail);
    assert_eq!(
        execute(&sim, ISSUE, "k", &body).await.0,
        404,
        "an account of another toolkit"
    );
    for status in ["INACTIVE", "EXPIRED", "REVOKED", "FAILED", "INITIATED"] {
        assert!(sim.set_status(&account, status));
        body["connected_account_id"] = json!(account);
        let (code, answer) = execute(&sim, ISSUE, "k", &body).await;
        assert_eq!(code, 422, "{status}");
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(status),
            "{answer}"
        );
    }
    assert_eq!(counts(&sim), []);
}

#[tokio::test]
async fn arguments_versions_and_removed_tools_are_told_apart() {
    let sim = start(|_| {});
    sim.connect("anna", "github").unwrap();
    let (status, answer) = execute(
        &sim,
        ISSUE,
        "k",
        &json!({"user_id": "anna", "arguments": {"owner": "o", "labels": "x"}}),
    )
    .await;
    assert_eq!(
        (status, &answer["successful"], &answer["data"]["status_code"]),
        (200, &json!(false), &json!(400))
    );
    let text = answer["error"].as_str().unwrap();
    for part in [
        "Field required on parameter `repo`",
        "Input should be a valid list on parameter `labels`",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(
        execute(&sim, "GITHUB_NO_SUCH_TOOL", "k", &issue("x")).await.1["error"]["code"],
        2401
    );
    assert_eq!(
        execute(&sim, "GITHUB_ACTIVITY_LIST_WATCHERS", "k", &issue("x")).await.0,
        410
    );
    let mut old = issue("x");
    old["version"] = json!("19990101_00");
    assert_eq!(
        execute(&sim, ISSUE, "k", &old).await.0,
        404,
        "a version that the toolkit does not have"
    );
    // Without a version v3 takes the oldest, v3.1 the newest.
    let late = "/tools/GITHUB_CREATE_OR_UPDATE_FILE_CONTENTS";
    assert_eq!(call(&sim, "GET", late, Value::Null).await.0, 200);
    let v3 = client()
        .get(format!("{}/api/v3{late}", sim.url()))
        .header("x-api-key", "ak_test");
    assert_eq!(v3.send().await.unwrap().status(), 404);
    let has = |tool: &Value| tool["input_parameters"]["properties"].get("milestone").is_some();
    assert!(has(&get(&sim, &format!("/tools/{ISSUE}?version=20251027_00")).await));
    assert!(!has(&get(
        &sim,
        &format!("/tools/{ISSUE}?toolkit_versions[github]=00000000_00")
    )
    .await));
    assert_eq!(counts(&sim), []);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let sim = start(|_| {});
    let mut seen = BTreeSet::new();
    let mut path = "/tools?limit=9".to_owned();
    let total = loop {
        let page = get(&sim, &path).await;
        let slugs = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| tool["slug"].as_str().unwrap().to_owned());
        seen.extend(slugs);
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/tools?limit=9&cursor={cursor}"),
            None => break page["total_items"].as_u64().unwrap(),
        }
    };
    assert_eq!(u64::try_from(seen.len()).unwrap(), total);
    assert!(total > 45);
    let slugs = |page: &Value| -> BTreeSet<String> {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|tool| tool["toolkit"]["slug"].as_str().unwrap().to_owned())
            .collect()
    };
    let two = get(&sim, "/tools?toolkit_slug=github%2Cgmail&limit=9999").await;
    assert_eq!(slugs(&two), ["github", "gmail"].map(str::to_owned).into());
    assert_eq!(get(&sim, "/tools?toolkit_slug=nosuch").await["items"], json!([]));
    let important = get(&sim, "/tools?toolkit_slug=github&important=true&limit=99").await;
    let all = get(&sim, "/tools?toolkit_slug=github&limit=99").await;
    assert!(important["total_items"].as_u64() < all["total_items"].as_u64());
    assert_eq!(
        get(&sim, "/tools?query=send+email").await["items"][0]["slug"],
        "GMAIL_SEND_EMAIL"
    );
    let (anna, ben) = (
        sim.connect("anna", "slack").unwrap(),
        sim.connect("ben", "slack").unwrap(),
    );
    sim.set_status(&ben, "INACTIVE");
    for (query, expected) in [
        ("user_ids=anna,ben", vec![&ben, &anna]),
        ("user_ids=anna%2Cben&statuses=ACTIVE", vec![&anna]),
        ("user_ids=ben", vec![&ben]),
        ("user_ids=nobody", vec![]),
        ("toolkit_slugs=slack&order_direction=asc", vec![&anna, &ben]),
    ] {
        let page = get(&sim, &format!("/connected_accounts?{query}")).await;
        let ids: Vec<&str> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, expected, "{query}");
    }
}

#[tokio::test]
async fn a_key_is_needed_exactly_once() {
    let sim = start(|_| {});
    let url = format!("{}/api/v3/toolkits", sim.url());
    for (headers, status) in [
        (vec![], 401),
        (vec![("x-api-key", "ak_bad-key")], 401),
        (vec![("x-api-key", "ak_1"), ("x-org-api-key", "oak_1")], 401),
        (vec![("x-user-api-key", "uak_1"), ("x-org-id", "o")], 200),
        (vec![("x-api-key", "ak_1")], 200),
    ] {
        let mut request = client().get(&url);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        assert_eq!(request.send().await.unwrap().status(), status, "{headers:?}");
    }
    assert!(
        sim.requests()
            .iter()
            .all(|request| !format!("{request:?}").contains("ak_")),
        "keys are masked"
    );
}

/// Makes a managed auth config and a link of it: (account id, URL).
async fn link(sim: &ComposioHandle, toolkit: &str, callback: &str) -> (String, String) {
    let config = json!({"toolkit": {"slug": toolkit}});
    let (_, config) = call(sim, "POST", "/auth_configs", config).await;
    let body = json!({"auth_config_id": config["auth_config"]["id"], "user_id": "anna", "callback_url": callback});
    let (status, made) = call(sim, "POST", "/connected_accounts/link", body).await;
    assert_eq!(status, 201);
    let text = |name: &str| made[name].as_str().unwrap().to_owned();
    (text("connected_account_id"), text("redirect_url"))
}

async fn press(url: &str, decision: &str) -> Response {
    let form = format!("decision={decision}");
    let request = client()
        .post(url)
        .header("content-type", "application/x-www-form-urlencoded");
    request.body(form).send().await.unwrap()
}

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
        let gone = |request: &kronos_sim::RecordedRequest| matches!(request.outcome, Outcome::ClientGone { .. });
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

/// What a webhook receiver has got: headers by name and the raw body.
type Inbox = Arc<Mutex<Vec<(Vec<(String, String)>, String)>>>;

/// Starts a receiver that answers the first `refused` webhooks with 500.
fn receiver(refused: usize) -> (String, Inbox) {
    let inbox = Inbox::default();
    let shared = Arc::clone(&inbox);
    let (ready, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let take = move |request: HttpRequest, body: String| {
                let headers = request.headers().iter();
                let headers = headers.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()));
                let mut inbox = shared.lock().unwrap();
                inbox.push((headers.collect(), body));
                let status = if inbox.len() <= refused { 500 } else { 200 };
                let status = actix_web::http::StatusCode::from_u16(status).unwrap();
                async move { HttpResponse::build(status).finish() }
            };
            let server = HttpServer::new(move || App::new().route("/hook", web::post().to(take.clone())));
            let server = server.workers(1).bind(("127.0.0.1", 0)).unwrap();
            ready.send(server.addrs()[0]).unwrap();
            server.run().await.unwrap();
        });
    });
    (format!("http://{}/hook", address.recv().unwrap()), inbox)
}

#[tokio::test]
async fn webhooks_are_signed_repeated_forged_and_stale() {
    let sim = start(|_| {});
    sim.connect("anna", "github").unwrap();
    let (url, inbox) = receiver(0);
    let unsubscribed = sim.deliver(&WebhookOrder::default()).await;
    assert_eq!(unsubscribed, Err(DeliverError::NoTarget));
    let body = json!({"webhook_url": url, "enabled_events": ["composio.trigger.message"], "version": "V3"});
    let (_, subscription) = call(&sim, "POST", "/webhook_subscriptions", body).await;
    assert!(subscription["secret"].as_str().unwrap().starts_with("whsec_"));
    let trigger = json!({"user_id": "anna", "trigger_config": {"owner": "o", "repo": "r"}});
    let (_, trigger) = call(&sim, "POST", "/trigger_instances/GITHUB_COMMIT_EVENT/upsert", trigger).await;
    let sent = sim
        .deliver(&WebhookOrder {
            times: 2,
            ..WebhookOrder::default()
        })
        .await
        .unwrap();
    assert_eq!(
        sent.iter().map(|one| (one.attempt, one.status)).collect::<Vec<_>>(),
        [(1, Some(200)), (2, Some(200))]
    );
    for order in [
        WebhookOrder {
            forged: true,
            ..WebhookOrder::default()
        },
        WebhookOrder {
            stale: true,
            ..WebhookOrder::default()
        },
    ] {
        assert_eq!(sim.deliver(&order).await.unwrap().len(), 1);
    }
    let got = inbox.lock().unwrap().clone();
    let header = |at: usize, name: &str| {
        let (headers, _) = &got[at];
        headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.clone())
            .unwrap()
    };
    assert_eq!(
        header(0, "webhook-id"),
        header(1, "webhook-id"),
        "a repeated message keeps its id"
    );
    assert_eq!(got[0].1, got[1].1);
    assert_ne!(header(0, "webhook-id"), header(2, "webhook-id"));
    let secret = subscription["secret"].as_str().unwrap();
    let genuine = |at: usize| {
        let signed = format!(
            "{}.{}.{}",
            header(at, "webhook-id"),
            header(at, "webhook-timestamp"),
            got[at].1
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(signed.as_bytes());
        header(at, "webhook-signature") == format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    assert_eq!([0, 1, 2, 3].map(genuine), [true, true, false, true]);
    let event: Value = serde_json::from_str(&got[0].1).unwrap();
    assert_eq!(
        (&event["id"], &event["type"]),
        (&json!(header(0, "webhook-id")), &json!("composio.trigger.message"))
    );
    assert_eq!(event["metadata"]["trigger_id"], trigger["trigger_id"]);
    assert_eq!(event["metadata"]["user_id"], "anna");
    let age = |at| {
        header(0, "webhook-timestamp").parse::<i64>().unwrap() - header(at, "webhook-timestamp").parse::<i64>().unwrap()
    };
    assert!(age(3) > 3500 && age(2) < 100);
}

#[tokio::test]
async fn an_account_that_expires_is_told_until_somebody_listens() {
    let sim = start(|config| config.webhook_retry_ms = 5);
    let account = sim.connect("anna", "github").unwrap();
    let (url, inbox) = receiver(2);
    let body = json!({"webhook_url": url, "enabled_events": ["composio.connected_account.expired"], "version": "V3"});
    call(&sim, "POST", "/webhook_subscriptions", body).await;
    let (status, answer) = execute(&sim, ISSUE, "k", &issue("[[expired]]")).await;
    assert_eq!(status, 422, "{answer}");
    assert_eq!(sim.status(&account).as_deref(), Some("EXPIRED"));
    let told = async {
        while inbox.lock().unwrap().len() < 3 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(10), told).await.expect("three attempts");
    let event: Value = serde_json::from_str(&inbox.lock().unwrap()[2].1).unwrap();
    assert_eq!(
        (&event["data"]["id"], &event["data"]["status"]),
        (&json!(account), &json!("EXPIRED"))
    );
    assert_eq!(counts(&sim), []);
}

#[tokio::test]
async fn the_same_seed_gives_the_same_ids() {
    let ids = |seed| start(|config| config.seed = seed).connect("anna", "github").unwrap();
    assert_eq!(ids(7), ids(7));
    assert_ne!(ids(7), ids(8));
}
