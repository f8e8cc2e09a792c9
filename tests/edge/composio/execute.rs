//! Calling a tool: what became of it is said truly, and nothing is done twice.

use std::time::Duration;

use kronos_sim::{ComposioScript, RecordedRequest};
use serde_json::{Value, json};

use super::*;
use crate::harness::Answer as _;

const CREATE: &str = "GITHUB_CREATE_ISSUE";
const LIST: &str = "GITHUB_LIST_REPOSITORY_ISSUES";

fn issue() -> Value {
    json!({"owner": "octocat", "repo": "hello-world", "title": "A title"})
}

fn issues() -> Value {
    json!({"owner": "octocat", "repo": "hello-world"})
}

fn executions(sim: &kronos_sim::ComposioHandle) -> Vec<RecordedRequest> {
    let requests = sim.requests().into_iter();
    requests
        .filter(|request| request.path.contains("/tools/execute/"))
        .collect()
}

/// How often tools have changed something.
fn effects(sim: &kronos_sim::ComposioHandle) -> u32 {
    sim.effects().iter().map(|effect| effect.count).sum()
}

#[actix_web::test]
async fn a_call_names_user_account_and_version() {
    let (edge, sim) = simulated(|config| {
        config.composio.toolkit_versions = [("slack".to_owned(), "00000000_00".to_owned())].into();
    })
    .await;
    let ada = edge.login("ada").await;
    let ada_id = id_of(&edge, &ada).await;
    let old = connected(&edge, &sim, &ada, "github").await;
    let new = connected(&edge, &sim, &ada, "github").await;
    connected(&edge, &sim, &ada, "slack").await;
    assert_eq!(execute(&edge, &ada, CREATE, issue()).await["success"], true);
    let call_with = json!({"action_name": CREATE, "params": issue(), "connected_account_id": old});
    let bearer = format!("Bearer {}", ada.access);
    let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", "intent-1")];
    for _ in 0..2 {
        edge.call("POST", EXECUTE, &headers, Some(&call_with)).await.is(200);
    }
    execute(&edge, &ada, "SLACK_LIST_ALL_CHANNELS", json!({})).await;
    let made = executions(&sim);
    assert_eq!(made.len(), 4);
    for (request, account) in made.iter().zip([&new, &old, &old]) {
        assert_eq!(request.body["user_id"], json!(ada_id));
        assert_eq!(
            request.body["connected_account_id"],
            json!(account),
            "the newest, or the named one"
        );
        assert_ne!(request.body["version"], "latest");
        assert!(request.body["version"].is_string());
        assert!(request.headers.contains_key("x-request-id"));
    }
    let key = |at: usize| made[at].headers.get("idempotency-key").cloned().expect("a key");
    assert_eq!(key(1), key(2), "the client's own");
    assert_ne!(key(0), key(1));
    assert_eq!(made[3].body["version"], "00000000_00", "pinned");
    // A tool that needs no account is called without one.
    let done = execute(&edge, &ada, "HACKERNEWS_GET_FRONTPAGE", json!({})).await;
    assert_eq!(done["success"], true, "{done}");
    edge.finish().await;
}

#[actix_web::test]
async fn a_tool_that_fails_is_an_answer() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    let none = execute(&edge, &ada, CREATE, issue()).await;
    assert_eq!(
        (&none["success"], &none["code"]),
        (&json!(false), &json!("not_connected"))
    );
    assert!(executions(&sim).is_empty(), "nothing is called without an account");
    connected(&edge, &sim, &ada, "github").await;
    let failed = execute(&edge, &ada, CREATE, json!({"owner": "octocat"})).await;
    assert_eq!((&failed["success"], &failed["code"]), (&json!(false), &json!("failed")));
    assert!(failed["error"].as_str().is_some_and(|text| !text.is_empty()));
    sim.script(vec![ComposioScript::fault("failed").on(CREATE)]);
    assert_eq!(execute(&edge, &ada, CREATE, issue()).await["code"], "failed");
    assert_eq!((effects(&sim), executions(&sim).len()), (0, 2), "nobody tries again");
    let body = json!({"action_name": "NO_SUCH_TOOL", "params": {}});
    call(&edge, "POST", EXECUTE, &ada, Some(&body)).await.is(404);
    edge.finish().await;
}

#[actix_web::test]
async fn a_call_whose_end_nobody_knows_is_not_made_again() {
    let (edge, sim) = simulated(|config| config.composio.execute_timeout = Duration::from_millis(500)).await;
    let ada = edge.login("ada").await;
    connected(&edge, &sim, &ada, "github").await;
    for fault in [
        "hang-after-effect",
        "cut-after-effect",
        "500-after-effect",
        "502-after-effect",
        "503-after-effect",
        "504-after-effect",
        "413",
        "html-after-effect;status=200",
        "empty-body-after-effect;status=200",
    ] {
        sim.clear();
        sim.clear_effects();
        sim.script(vec![ComposioScript::fault(fault).on(CREATE)]);
        let done = execute(&edge, &ada, CREATE, issue()).await;
        assert_eq!(
            (&done["success"], &done["code"]),
            (&json!(false), &json!("unknown")),
            "{fault}: {done}"
        );
        assert!(
            done["error"]
                .as_str()
                .is_some_and(|text| text.contains("may have done it"))
        );
        assert_eq!((executions(&sim).len(), effects(&sim)), (1, 1), "{fault}");
    }
    edge.finish().await;
}

#[actix_web::test]
async fn what_was_not_run_is_tried_again_and_acts_once() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    connected(&edge, &sim, &ada, "github").await;
    for fault in ["429;retry_after=1", "429-bare", "429-edge", "429-flat"] {
        sim.clear();
        sim.clear_effects();
        sim.script(vec![ComposioScript::fault(fault).on(CREATE)]);
        let done = execute(&edge, &ada, CREATE, issue()).await;
        assert_eq!(done["success"], true, "{fault}: {done}");
        let made = executions(&sim);
        assert_eq!((made.len(), effects(&sim)), (2, 1), "{fault}");
        let keys: Vec<_> = made
            .iter()
            .map(|request| request.headers.get("idempotency-key"))
            .collect();
        assert_eq!(keys[0], keys[1], "one intent, one key");
    }
    edge.finish().await;
}

#[actix_web::test]
async fn reading_may_be_tried_again() {
    let (edge, sim) = simulated(|config| config.composio.breaker_failures = 1000).await;
    let ada = edge.login("ada").await;
    connected(&edge, &sim, &ada, "github").await;
    for fault in ["500", "502", "503", "cut", "empty-body", "429-bare"] {
        sim.clear();
        sim.script(vec![ComposioScript::fault(fault).on(LIST)]);
        let done = execute(&edge, &ada, LIST, issues()).await;
        assert_eq!(done["success"], true, "{fault}: {done}");
        assert_eq!(executions(&sim).len(), 2, "{fault}");
    }
    // As often as attempts are allowed, and no more.
    sim.clear();
    sim.script(vec![ComposioScript::fault("503").on(LIST).times(10)]);
    let done = execute(&edge, &ada, LIST, issues()).await;
    assert_eq!((&done["code"], executions(&sim).len()), (&json!("failed"), 3));
    edge.finish().await;
}

#[actix_web::test]
async fn an_account_that_turns_out_to_be_expired_is_told() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    let id = connected(&edge, &sim, &ada, "github").await;
    let mut feed = feed(&edge, &ada).await;
    sim.script(vec![ComposioScript::fault("expired").on(CREATE)]);
    let done = execute(&edge, &ada, CREATE, issue()).await;
    assert_eq!(done["code"], "not_connected", "{done}");
    assert_eq!(effects(&sim), 0);
    let change = changed(&mut feed).await;
    assert_eq!(
        (&change["connectionId"], &change["status"]),
        (&json!(id), &json!("EXPIRED"))
    );
    edge.finish().await;
}

#[actix_web::test]
async fn a_key_that_composio_refuses_is_an_operators_matter() {
    let (edge, sim) = simulated(|config| config.composio.api_key = Some("ak_invalid".into())).await;
    let ada = edge.login("ada").await;
    let reply = call(&edge, "GET", "/api/v1/composio/toolkits", &ada, None).await;
    let error = reply.expect(503);
    assert_eq!(error["error"]["code"], "EXTERNAL_SERVICE_ERROR");
    let details = &error["error"]["details"];
    assert_eq!(
        (&details["service"], &details["retryable"], &details["upstream_status"]),
        (&json!("Composio"), &json!(false), &json!(401))
    );
    assert!(!reply.text().contains("ak_invalid"));
    let health = edge.get("/api/v1/health/composio", None).await;
    let body = health.expect(200);
    assert_eq!(
        (&body["status"], &body["last_failure_code"]),
        (&json!("unhealthy"), &json!("auth"))
    );
    assert!(!health.text().contains("ak_invalid") && !health.text().contains("127.0.0.1"));
    assert_eq!(sim.requests().len(), 1, "no use in trying again");
    edge.finish().await;
}

#[actix_web::test]
async fn an_answer_may_be_as_large_as_its_bound() {
    let (edge, sim) = simulated(|_| {}).await;
    let root = edge.superuser().await;
    let new = json!({"name": "x", "toolkit_slug": "github"});
    let made = call(&edge, "POST", "/api/v1/composio/auth-configs", &root, Some(&new))
        .await
        .expect(201);
    let id = made["id"].as_str().expect("an id").to_owned();
    edge.finish().await;
    let client = kronos_actors::http::client(false, LIMIT).expect("a client");
    let url = format!("{}/api/v3.1/auth_configs/{id}", sim.url());
    let answer = client
        .get(url)
        .header("x-api-key", KEY)
        .send()
        .await
        .expect("an answer");
    let size = answer.bytes().await.expect("a body").len();
    for (limit, status) in [(size - 1, 503), (size, 200), (size + 1, 200)] {
        let edge = over(&sim, |config| config.composio.max_response_bytes = limit).await;
        let ada = edge.login("ada").await;
        let path = format!("/api/v1/composio/auth-configs/{id}");
        call(&edge, "GET", &path, &ada, None).await.is(status);
        edge.finish().await;
    }
}

#[actix_web::test]
async fn a_result_that_is_too_large_is_refused_while_it_is_read() {
    let (edge, sim) = simulated(|config| config.composio.max_response_bytes = 100_000).await;
    let ada = edge.login("ada").await;
    connected(&edge, &sim, &ada, "github").await;
    sim.script(vec![
        ComposioScript::fault("big").on(LIST),
        ComposioScript::fault("big").on(CREATE),
    ]);
    let read = execute(&edge, &ada, LIST, issues()).await;
    assert_eq!(read["code"], "failed");
    assert!(
        read["error"]
            .as_str()
            .is_some_and(|text| text.contains("larger than 100000 bytes"))
    );
    // What it changed it has changed.
    assert_eq!(execute(&edge, &ada, CREATE, issue()).await["code"], "unknown");
    edge.finish().await;
}

#[actix_web::test]
async fn an_outage_opens_the_circuit_and_a_broken_tool_does_not() {
    let (edge, sim) = simulated(|config| {
        config.composio.max_attempts = 1;
        config.composio.breaker_failures = 3;
        config.composio.breaker_open = Duration::from_secs(60);
    })
    .await;
    let ada = edge.login("ada").await;
    connected(&edge, &sim, &ada, "github").await;
    sim.script(vec![ComposioScript::fault("500").on(CREATE).times(6)]);
    for _ in 0..6 {
        assert_eq!(execute(&edge, &ada, CREATE, issue()).await["code"], "unknown");
    }
    let circuit = async || edge.get("/api/v1/health/composio", None).await.expect(200)["circuit"].clone();
    assert_eq!(circuit().await, "closed");
    sim.script(vec![ComposioScript::fault("503").at("/auth_configs").times(3)]);
    for _ in 0..3 {
        let reply = call(&edge, "GET", "/api/v1/composio/auth-configs", &ada, None)
            .await
            .expect(503);
        assert_eq!(reply["error"]["details"]["upstream_status"], 503);
    }
    assert_eq!(circuit().await, "open");
    sim.clear();
    let refused = call(&edge, "GET", "/api/v1/composio/auth-configs", &ada, None).await;
    refused.is(503);
    assert!(refused.header("retry-after").is_some());
    assert!(sim.requests().is_empty(), "nobody is asked");
    let done = execute(&edge, &ada, CREATE, issue()).await;
    assert_eq!(
        done["code"], "failed",
        "nothing left: it is known that nothing happened"
    );
    edge.finish().await;
}

#[actix_web::test]
async fn a_silent_composio_is_a_time_out() {
    let (edge, sim) = simulated(|config| {
        config.composio.request_timeout = Duration::from_millis(100);
        config.composio.max_attempts = 2;
    })
    .await;
    let ada = edge.login("ada").await;
    sim.script(vec![ComposioScript::fault("hang").at("/auth_configs").times(2)]);
    let reply = call(&edge, "GET", "/api/v1/composio/auth-configs", &ada, None)
        .await
        .expect(504);
    assert_eq!(reply["error"]["details"]["retryable"], true);
    edge.finish().await;
}

#[actix_web::test]
async fn requests_that_wait_have_their_bound() {
    let (edge, sim) = simulated(|config| {
        config.composio.max_concurrent = 1;
        config.composio.max_waiting = 1;
    })
    .await;
    let ada = edge.login("ada").await;
    connected(&edge, &sim, &ada, "github").await;
    // What is known already is not asked for by those who race.
    assert_eq!(execute(&edge, &ada, LIST, issues()).await["success"], true);
    sim.script(vec![ComposioScript::fault("hang 1500").on(LIST).times(2)]);
    let three = futures_util::future::join_all((0..3).map(|_| execute(&edge, &ada, LIST, issues()))).await;
    let refused = three.iter().filter(|done| {
        let text = done["error"].as_str().unwrap_or_default();
        text.contains("wait already")
    });
    assert_eq!(refused.count(), 1, "one runs, one waits, one is refused: {three:?}");
    edge.finish().await;
}
