//! Webhooks that are sent.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use kronos_sim::{DeliverError, WebhookOrder};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::time::{sleep, timeout};

use super::harness::{ISSUE, Webhook, call, counts, execute, issue, receiver, start};

fn header((headers, _): &Webhook, name: &str) -> String {
    let found = headers.iter().find(|(key, _)| key == name);
    found.map(|(_, value)| value.clone()).unwrap()
}

/// Says whether a webhook is signed with this secret.
fn genuine(webhook: &Webhook, secret: &str) -> bool {
    let (id, at) = (header(webhook, "webhook-id"), header(webhook, "webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{id}.{at}.{}", webhook.1).as_bytes());
    header(webhook, "webhook-signature") == format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
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
    let header = |at: usize, name: &str| header(&got[at], name);
    assert_eq!(
        header(0, "webhook-id"),
        header(1, "webhook-id"),
        "a repeated message keeps its id"
    );
    assert_eq!(got[0].1, got[1].1);
    assert_ne!(header(0, "webhook-id"), header(2, "webhook-id"));
    let secret = subscription["secret"].as_str().unwrap();
    let genuine = |at: usize| genuine(&got[at], secret);
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
