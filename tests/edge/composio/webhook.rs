//! Composio's signed events.

use std::time::Duration;

use kronos_sim::{ComposioHandle, WebhookOrder};
use kronos_testkit::eventually;
use serde_json::{Value, json};

use super::*;
use crate::harness::Answer as _;

const SECRET: &str = "whsec_dGhlIHNlY3JldCBvZiB0aGUgdGVzdHM=";
const PATH: &str = "/api/v1/composio/webhook";
const FIRED: &str = "kronos.trigger_fired";

async fn signed(change: impl FnOnce(&mut Config)) -> (Edge, ComposioHandle) {
    simulated(|config| {
        config.composio.webhook_secret = Some(SECRET.into());
        change(config);
    })
    .await
}

fn order(edge: &Edge, account: &str) -> WebhookOrder {
    WebhookOrder {
        url: Some(format!("http://{}{PATH}", edge.addr)),
        secret: Some(SECRET.to_owned()),
        connected_account_id: Some(account.to_owned()),
        ..WebhookOrder::default()
    }
}

async fn deliver(sim: &ComposioHandle, order: &WebhookOrder) -> Vec<Option<u16>> {
    let sent = sim.deliver(order).await.expect("it is sent");
    sent.iter().map(|delivery| delivery.status).collect()
}

#[actix_web::test]
async fn a_trigger_that_fired_is_told_once_however_often_it_comes() {
    let (edge, sim) = signed(|_| {}).await;
    let ada = edge.login("ada").await;
    let mut feed = feed(&edge, &ada).await;
    let id = connected(&edge, &sim, &ada, "github").await;
    call(&edge, "GET", &connection(&format!("account/{id}")), &ada, None)
        .await
        .is(200);
    let first = WebhookOrder {
        times: 3,
        data: Some(json!({"message": "first"})),
        ..order(&edge, &id)
    };
    assert_eq!(deliver(&sim, &first).await, [Some(200); 3]);
    let second = WebhookOrder {
        data: Some(json!({"message": "second"})),
        ..order(&edge, &id)
    };
    assert_eq!(deliver(&sim, &second).await, [Some(200)]);
    let fired = told(&mut feed, FIRED).await;
    assert_eq!(
        (&fired["toolkit"], &fired["data"]["message"]),
        (&json!("github"), &json!("first"))
    );
    assert!(fired["triggerId"].is_string() && fired["triggerSlug"].is_string());
    assert_eq!(
        told(&mut feed, FIRED).await["data"]["message"],
        "second",
        "nothing in between"
    );
    edge.finish().await;
}

#[actix_web::test]
async fn forged_and_old_events_are_refused() {
    let (edge, sim) = signed(|_| {}).await;
    let ada = edge.login("ada").await;
    let id = connected(&edge, &sim, &ada, "github").await;
    sim.set_config(|config| config.webhook_attempts = 1);
    for order in [
        WebhookOrder {
            forged: true,
            ..order(&edge, &id)
        },
        WebhookOrder {
            stale: true,
            ..order(&edge, &id)
        },
        WebhookOrder {
            secret: Some("another secret".to_owned()),
            ..order(&edge, &id)
        },
    ] {
        assert_eq!(deliver(&sim, &order).await, [Some(401)]);
    }
    for headers in [
        &[][..],
        &[("webhook-id", "msg_1")],
        &[
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", "now"),
            ("webhook-signature", "v1,x"),
        ],
    ] {
        let reply = edge.call("POST", PATH, headers, Some(&json!({"type": "x"}))).await;
        assert_eq!(reply.expect(401)["error"]["code"], "AUTHENTICATION_ERROR");
    }
    edge.finish().await;
}

#[actix_web::test]
async fn an_account_that_expires_is_told_once_by_event_and_by_look() {
    let (edge, sim) = signed(|_| {}).await;
    let ada = edge.login("ada").await;
    let mut feed = feed(&edge, &ada).await;
    let id = connected(&edge, &sim, &ada, "github").await;
    let shown = connection(&format!("account/{id}"));
    call(&edge, "GET", &shown, &ada, None).await.is(200);
    assert!(sim.set_status(&id, "EXPIRED"));
    let expired = WebhookOrder {
        event: "composio.connected_account.expired".to_owned(),
        times: 2,
        ..order(&edge, &id)
    };
    assert_eq!(deliver(&sim, &expired).await, [Some(200); 2]);
    call(&edge, "GET", &shown, &ada, None).await.is(200);
    assert!(sim.set_status(&id, "ACTIVE"));
    call(&edge, "GET", &shown, &ada, None).await.is(200);
    let states = [changed(&mut feed).await, changed(&mut feed).await];
    let states = states.map(|value| (value["status"].clone(), value["change"].clone()));
    assert_eq!(states, [(json!("EXPIRED"), json!(1)), (json!("ACTIVE"), json!(2))]);
    edge.finish().await;
}

#[actix_web::test]
async fn a_trigger_that_was_turned_off_is_told() {
    let (edge, sim) = signed(|_| {}).await;
    let ada = edge.login("ada").await;
    let mut feed = feed(&edge, &ada).await;
    let id = connected(&edge, &sim, &ada, "github").await;
    let disabled = WebhookOrder {
        event: "composio.trigger.disabled".to_owned(),
        ..order(&edge, &id)
    };
    assert_eq!(deliver(&sim, &disabled).await, [Some(200)]);
    let told = told(&mut feed, "kronos.trigger_disabled").await;
    assert!(told["triggerId"].is_string(), "{told}");
    edge.finish().await;
}

#[actix_web::test]
async fn ids_of_events_survive_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let backend = kronos_actors::config::StoreBackend::Sled(dir.path().to_owned());
    let (edge, sim) = signed(|config| config.store.backend = backend.clone()).await;
    let ada = edge.login("ada").await;
    let id = connected(&edge, &sim, &ada, "github").await;
    let (body, headers) = by_hand(&id_of(&edge, &ada).await, &id, "msg_1");
    post(&edge, &headers, &body).await.is(200);
    edge.finish().await;
    let edge = over(&sim, |config| {
        config.composio.webhook_secret = Some(SECRET.into());
        config.store.backend = backend;
    })
    .await;
    let mut feed = feed(&edge, &ada).await;
    eventually(LIMIT, "what was taken is known", || async {
        post(&edge, &headers, &body).await.status == 200
    })
    .await;
    let (other, other_headers) = by_hand(&id_of(&edge, &ada).await, &id, "msg_2");
    post(&edge, &other_headers, &other).await.is(200);
    let ids = [told(&mut feed, FIRED).await, told(&mut feed, FIRED).await];
    assert_eq!(
        ids.map(|value| value["data"]["id"].clone()),
        [json!("msg_1"), json!("msg_2")]
    );
    edge.finish().await;
}

#[actix_web::test]
async fn older_forms_are_read_where_a_user_can_be_found() {
    let (edge, sim) = signed(|_| {}).await;
    let ada = edge.login("ada").await;
    let user = id_of(&edge, &ada).await;
    let mut feed = feed(&edge, &ada).await;
    let id = connected(&edge, &sim, &ada, "github").await;
    call(&edge, "GET", &connection(&format!("account/{id}")), &ada, None)
        .await
        .is(200);
    let v1 = json!({"trigger_name": "github_commit_event", "connection_id": "3b04c83a-0a4b-40c5-81f1-7b3933506b67",
        "trigger_id": "x", "payload": {}, "log_id": "log_1"});
    let v2 = json!({"type": "github_commit_event", "timestamp": "2026-11-27T10:00:00Z", "log_id": "log_2",
        "data": {"connection_id": "3b04c83a-0a4b-40c5-81f1-7b3933506b67", "connection_nano_id": id,
            "trigger_id": "x", "trigger_nano_id": "ti_1", "user_id": user, "message": "V2"}});
    let stranger =
        json!({"type": "composio.something.new", "id": "msg_9", "timestamp": "", "metadata": {}, "data": {}});
    for (number, body) in [(1, &v1), (2, &stranger), (3, &v2)] {
        let (body, headers) = sign_by_hand(body, &format!("msg_{number}"));
        post(&edge, &headers, &body).await.is(200);
    }
    let fired = told(&mut feed, FIRED).await;
    assert_eq!(
        fired,
        json!({"triggerId": "ti_1", "triggerSlug": "GITHUB_COMMIT_EVENT", "toolkit": "github", "data": {"message": "V2"}})
    );
    let (body, headers) = sign_by_hand(&json!({"hello": 1}), "msg_4");
    post(&edge, &headers, &body).await.is(422);
    // An event that names another user than who has the account is nobody's.
    let mut lie = v2.clone();
    lie["data"]["user_id"] = json!("somebody-else");
    let (body, headers) = sign_by_hand(&lie, "msg_5");
    post(&edge, &headers, &body).await.is(200);
    let large = json!({"type": "composio.trigger.message", "id": "msg_6", "timestamp": "",
        "metadata": {"connected_account_id": id, "user_id": user, "trigger_id": "ti_1", "trigger_slug": "X"},
        "data": {"text": "x".repeat(70_000)}});
    let (body, headers) = sign_by_hand(&large, "msg_6");
    post(&edge, &headers, &body).await.is(200);
    let fired = told(&mut feed, FIRED).await;
    assert_eq!((&fired["data"], &fired["truncated"]), (&Value::Null, &json!(true)));
    edge.finish().await;
}

#[actix_web::test]
async fn ids_of_events_have_their_bound() {
    let (edge, sim) = signed(|config| config.composio.webhook_ids = 2).await;
    let ada = edge.login("ada").await;
    let user = id_of(&edge, &ada).await;
    let mut feed = feed(&edge, &ada).await;
    let id = connected(&edge, &sim, &ada, "github").await;
    // The third makes the first be forgotten: it counts anew; the second is known until then.
    for name in ["a", "b", "a", "c", "a", "b"] {
        let (body, headers) = by_hand(&user, &id, name);
        post(&edge, &headers, &body).await.is(200);
    }
    let mut seen = Vec::new();
    while seen.len() < 5 {
        seen.push(
            told(&mut feed, FIRED).await["data"]["id"]
                .as_str()
                .expect("an id")
                .to_owned(),
        );
    }
    assert_eq!(seen, ["a", "b", "c", "a", "b"]);
    edge.finish().await;
}

/// A V3 event whose data holds its id.
fn by_hand(user: &str, account: &str, id: &str) -> (Value, Vec<(String, String)>) {
    let body = json!({"type": "composio.trigger.message", "id": id, "timestamp": "2026-11-27T10:00:00Z",
        "metadata": {"log_id": "log_1", "trigger_slug": "X", "trigger_id": "ti_1", "connected_account_id": account,
            "auth_config_id": "ac_1", "user_id": user},
        "data": {"id": id}});
    sign_by_hand(&body, id)
}

/// Signs an event as Composio does, now.
fn sign_by_hand(body: &Value, id: &str) -> (Value, Vec<(String, String)>) {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use hmac::{Hmac, Mac};
    let seconds = kronos_actors::clock::Clock::default().now_ms() / 1000;
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(SECRET.as_bytes()).expect("any key will do");
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    let signature = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    let headers = [
        ("webhook-id", id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ];
    let headers = headers.map(|(name, value)| (name.to_owned(), value));
    (body.clone(), headers.to_vec())
}

async fn post(edge: &Edge, headers: &[(String, String)], body: &Value) -> HttpReply {
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    edge.call("POST", PATH, &headers, Some(body)).await
}

#[actix_web::test]
async fn an_event_is_taken_in_no_time_while_composio_is_silent() {
    let (edge, sim) = signed(|config| config.composio.request_timeout = Duration::from_secs(60)).await;
    let ada = edge.login("ada").await;
    let user = id_of(&edge, &ada).await;
    let mut feed = feed(&edge, &ada).await;
    sim.script(vec![kronos_sim::ComposioScript::fault("hang").times(1000)]);
    let (body, headers) = by_hand(&user, "ca_made_elsewhere", "msg_1");
    post(&edge, &headers, &body).await.is(200);
    let fired = told(&mut feed, FIRED).await;
    assert_eq!(
        (&fired["toolkit"], &fired["data"]["id"]),
        (&Value::Null, &json!("msg_1"))
    );
    edge.finish().await;
}
