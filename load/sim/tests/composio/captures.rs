//! Replays the recorded requests of Composio's SDKs: the same request gets an answer of the same shape.

use std::collections::BTreeSet;
use std::path::Path;

use kronos_sim::{ComposioHandle, ComposioSim, ComposioSimConfig};
use reqwest::{Client, Method};
use serde_json::{Value, json};

/// Ids in the recorded requests, by what they stand for.
const MANAGED: [&str; 2] = ["ac_EsiimfktFAMw", "ac_L9sSbjqDnW0v"];
const CUSTOM: [&str; 2] = ["ac_3bTtBAGXUQnZ", "ac_ZiApBMvbvCAw"];
const KEYED: &str = "ac_R3v589JNnEbC";
const FIRST: [&str; 2] = ["ca_My9Xwqq7Q02J", "ca_Y3oywHUnDlj9"];
const SECOND: [&str; 2] = ["ca_yisiW90zJI0A", "ca_ai4D3K9JaSzA"];
const THIRD: &str = "ca_fmg7Oa6B4v5o";
const TRIGGER: &str = "ti_AJUOEbqzcokC";
const WEBHOOK: &str = "ws_ZsFMtFZQMfXt";
const SESSIONS: [&str; 2] = ["trs_1Lk2ZbOwgjRu", "trs_fLA0WgA9xXKc"];

/// Objects whose fields are up to the tool or the trigger.
const FREE: &[&str] = &[
    "input_parameters",
    "output_parameters",
    "config",
    "payload",
    "arguments",
    "scopes",
    "tags",
];
/// Values on which clients branch.
const TELLING: &[&str] = &[
    "status",
    "code",
    "auth_scheme",
    "authScheme",
    "is_composio_managed",
    "type",
    "successful",
    "result_type",
    "is_disabled",
    "account_type",
    "no_auth",
    "message",
    "suggested_fix",
    "current_page",
    "required",
];

struct World {
    sim: ComposioHandle,
    client: Client,
}

impl World {
    async fn post(&self, path: &str, body: &Value) -> Value {
        let url = format!("{}{path}", self.sim.url());
        let request = self
            .client
            .post(url)
            .header("x-api-key", "ak_test")
            .body(body.to_string());
        let answer = request.send().await.unwrap();
        assert!(answer.status().is_success(), "{path}: {}", answer.status());
        answer.json().await.unwrap()
    }

    /// Brings the simulator into the state that the recorder had; returns (recorded id, id here).
    async fn prepare(&self, name: &str) -> Vec<(&'static str, String)> {
        self.post("/sim/reset", &json!({})).await;
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let mut ids = Vec::new();
        let mut configs = Vec::new();
        for (slug, config) in [
            (
                "github",
                json!({"type": "use_composio_managed_auth", "name": "Kronos GitHub"}),
            ),
            (
                "github",
                json!({"type": "use_custom_auth", "authScheme": "OAUTH2", "name": "Own OAuth app",
                       "credentials": {"client_id": "cid", "client_secret": "csecret-synthetic",
                                       "oauth_redirect_uri": "https://example.com/cb", "scopes": ["repo"]}}),
            ),
            (
                "perplexityai",
                json!({"type": "use_custom_auth", "authScheme": "API_KEY", "credentials": {}}),
            ),
        ] {
            let body = json!({"toolkit": {"slug": slug}, "auth_config": config});
            let made = self.post("/api/v3.1/auth_configs", &body).await;
            configs.push(text(&made["auth_config"]["id"]));
        }
        ids.extend(MANAGED.map(|id| (id, configs[0].clone())));
        ids.extend(CUSTOM.map(|id| (id, configs[1].clone())));
        ids.push((KEYED, configs[2].clone()));
        let mut accounts = Vec::new();
        for (user, toolkit, config, alias) in [
            ("user_1", "github", &configs[0], Some("work-github")),
            ("user_2", "github", &configs[1], None),
            ("user_3", "perplexityai", &configs[2], None),
        ] {
            // A recorded link takes the alias again.
            let alias = alias.filter(|_| !name.contains("_link__2of2"));
            let wish = json!({"user_id": user, "toolkit": toolkit, "auth_config_id": config, "alias": alias});
            accounts.push(text(&self.post("/sim/accounts", &wish).await["id"]));
        }
        ids.extend(FIRST.map(|id| (id, accounts[0].clone())));
        ids.extend(SECOND.map(|id| (id, accounts[1].clone())));
        ids.push((THIRD, accounts[2].clone()));
        self.adjust(name, &configs[0], &accounts).await;
        if name.contains("triggers") {
            let body = json!({"user_id": "user_1", "trigger_config": {"owner": "octocat", "repo": "hello"}});
            let made = self
                .post("/api/v3.1/trigger_instances/GITHUB_COMMIT_EVENT/upsert", &body)
                .await;
            ids.push((TRIGGER, text(&made["trigger_id"])));
        }
        if name.contains("webhooks") && !name.contains("create") && !name.starts_with("ts__webhooks_set__2") {
            let body = json!({"webhook_url": "https://kronos.example/hook", "version": "V3",
                              "enabled_events": ["composio.trigger.message"]});
            let made = self.post("/api/v3.1/webhook_subscriptions", &body).await;
            ids.push((WEBHOOK, text(&made["id"])));
        }
        if name.contains("sessions") {
            let body = json!({"user_id": "user_1", "toolkits": {"enable": ["github"]}});
            let made = self.post("/api/v3.1/tool_router/session", &body).await;
            ids.extend(SESSIONS.map(|id| (id, text(&made["session_id"]))));
        }
        ids
    }

    async fn adjust(&self, name: &str, managed: &str, accounts: &[String]) {
        let set = |id: &str, status: &str| assert!(self.sim.set_status(id, status), "{id}");
        if name.contains("wait_active__1of2") {
            let made = self
                .post(
                    "/api/v3.1/connected_accounts/link",
                    &json!({"auth_config_id": managed, "user_id": "user_0"}),
                )
                .await;
            assert_eq!(
                self.sim.status(made["connected_account_id"].as_str().unwrap()).unwrap(),
                "INITIALIZING"
            );
        } else if name.contains("inactive") {
            set(&accounts[0], "INACTIVE");
        } else if name.contains("wait_failed") || name.starts_with("ts__connected_accounts_list_filters") {
            set(&accounts[1], "FAILED");
        } else if name.ends_with("connected_accounts_list") {
            self.post(
                "/api/v3.1/connected_accounts/link",
                &json!({"auth_config_id": managed, "user_id": "user_1"}),
            )
            .await;
        }
    }

    async fn replay(&self, request: &Value, ids: &[(&str, String)]) -> (u64, Value) {
        let mapped = |text: &str| {
            ids.iter()
                .fold(text.to_owned(), |text, (old, new)| text.replace(old, new))
        };
        let query = mapped(request["query"].as_str().unwrap());
        let mark = if query.is_empty() { "" } else { "?" };
        let path = mapped(request["path"].as_str().unwrap());
        let url = format!("{}{path}{mark}{query}", self.sim.url());
        let method = Method::from_bytes(request["method"].as_str().unwrap().as_bytes()).unwrap();
        let mut send = self.client.request(method, url);
        let skipped = ["host", "content-length", "connection", "accept-encoding"];
        for (name, value) in request["headers"].as_object().unwrap() {
            if !skipped.contains(&name.to_lowercase().as_str()) {
                send = send.header(name, value.as_str().unwrap());
            }
        }
        if !request["body"].is_null() {
            send = send.body(mapped(&request["body"].to_string()).replace(":PORT", ":1"));
        }
        let answer = send.send().await.unwrap();
        let status = u64::from(answer.status().as_u16());
        assert_eq!(answer.headers()["content-type"], "application/json");
        assert!(answer.headers().contains_key("x-ratelimit-remaining"));
        (status, answer.json().await.unwrap())
    }
}

/// Lists what differs: missing and surplus fields, other types, other telling values.
fn differences(expected: &Value, actual: &Value, at: &str, found: &mut Vec<String>) {
    match (expected, actual) {
        // What may be null is null somewhere.
        (Value::Null, Value::Null | Value::String(_) | Value::Object(_)) | (Value::String(_), Value::Null) => {}
        (Value::Object(expected), Value::Object(actual)) => {
            let names = |fields: &serde_json::Map<String, Value>| fields.keys().cloned().collect::<BTreeSet<_>>();
            for name in names(expected).symmetric_difference(&names(actual)) {
                found.push(format!("{at}.{name} is only in one"));
            }
            for (name, inner) in expected.iter().filter(|(name, _)| !FREE.contains(&name.as_str())) {
                let Some(other) = actual.get(name) else { continue };
                let place = format!("{at}.{name}");
                let scalar = !inner.is_object() && !inner.is_array() && !inner.is_null();
                if scalar && TELLING.contains(&name.as_str()) && inner != other {
                    found.push(format!("{place}: {inner} became {other}"));
                }
                differences(inner, other, &place, found);
            }
        }
        (Value::Array(expected), Value::Array(actual)) => match (expected.first(), actual.first()) {
            (Some(expected), Some(actual)) => differences(expected, actual, &format!("{at}[0]"), found),
            (Some(_), None) => found.push(format!("{at} is empty")),
            (None, _) => {}
        },
        (Value::String(_), Value::String(_))
        | (Value::Number(_), Value::Number(_))
        | (Value::Bool(_), Value::Bool(_)) => {}
        _ => found.push(format!("{at}: {expected} became {actual}")),
    }
}

#[tokio::test]
async fn every_capture_gets_an_answer_of_its_shape() {
    let sim = ComposioSim::start(ComposioSimConfig::default()).unwrap();
    let client = Client::builder().no_proxy().build().unwrap();
    let world = World { sim, client };
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures/composio");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| !path.file_name().unwrap().to_string_lossy().starts_with("webhook__"))
        .collect();
    files.sort();
    assert!(files.len() > 150, "captures are missing");
    let mut wrong = Vec::new();
    for file in files {
        let capture: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
        let name = capture["name"].as_str().unwrap();
        let mut ids = world.prepare(name).await;
        if name.contains("wait_active__1of2") {
            let pending = pending(&world).await;
            ids.retain(|(old, _)| !FIRST.contains(old));
            ids.extend(FIRST.map(|old| (old, pending.clone())));
        }
        let (status, mut body) = world.replay(&capture["request"], &ids).await;
        let mut expected = capture["response"]["body"].clone();
        // The result of a tool is its own; failures are told in one way.
        let proxied = name.contains("proxy");
        if expected["successful"] == true || expected["result_type"].is_string() || proxied {
            assert!(body["data"].is_object(), "{name}");
            expected["data"] = json!({});
            body["data"] = json!({});
        }
        let mut found = Vec::new();
        if Some(status) != capture["response"]["status"].as_u64() {
            found.push(format!("status {status}"));
        }
        let known = ids
            .iter()
            .fold(expected.to_string(), |text, (old, new)| text.replace(old, new));
        differences(&serde_json::from_str(&known).unwrap(), &body, "", &mut found);
        wrong.extend(found.into_iter().map(|text| format!("{name}: {text}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns the account whose link nobody has opened.
async fn pending(world: &World) -> String {
    let url = format!("{}/api/v3/connected_accounts?statuses=INITIALIZING", world.sim.url());
    let answer = world
        .client
        .get(url)
        .header("x-api-key", "ak_test")
        .send()
        .await
        .unwrap();
    let body: Value = answer.json().await.unwrap();
    body["items"][0]["id"].as_str().unwrap().to_owned()
}
