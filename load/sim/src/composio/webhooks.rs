//! `/webhook_subscriptions`.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::call::Call;
use super::error::{Answer, ApiError, Reply};
use super::page::{self, page};
use super::state::{Store, stamp};

/// Something happened that a trigger watches.
pub(super) const MESSAGE: &str = "composio.trigger.message";
/// An account has expired.
pub(super) const EXPIRED: &str = "composio.connected_account.expired";
/// A trigger was switched off.
pub(super) const DISABLED: &str = "composio.trigger.disabled";

/// Where events go.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    id: String,
    pub(super) url: String,
    version: String,
    pub(super) events: Vec<String>,
    pub(super) secret: String,
    created: OffsetDateTime,
    updated: OffsetDateTime,
}

pub(crate) fn route(call: &Call<'_>, rest: &[&str]) -> Reply {
    let mut store = call.state.store();
    let store = &mut *store;
    match (call.method, rest) {
        ("GET", []) => page(
            call,
            &store.subscriptions.iter().map(render).collect::<Vec<_>>(),
            page::MAX,
        ),
        ("POST", []) => create(call, store),
        ("GET", ["event_types"]) => {
            let kind = |name: &str, versions: &[&str]| json!({"event_type": name, "description": name, "supported_versions": versions});
            let all = [
                kind(MESSAGE, &["V1", "V2", "V3"]),
                kind(EXPIRED, &["V3"]),
                kind(DISABLED, &["V3"]),
            ];
            Ok(Answer::ok(json!({"items": all})))
        }
        (_, [id, rest @ ..]) => {
            let at = store.subscriptions.iter().position(|own| own.id == *id);
            let at = at.ok_or_else(|| ApiError::unknown_webhook(id))?;
            one(call, store, at, rest)
        }
        _ => Err(call.no_route()),
    }
}

fn one(call: &Call<'_>, store: &mut Store, at: usize, rest: &[&str]) -> Reply {
    let secret = secret(store);
    if (call.method, rest) == ("DELETE", &[]) {
        store.subscriptions.remove(at);
        return Ok(Answer::ok(json!({"success": true})));
    }
    let Some(own) = store.subscriptions.get_mut(at) else {
        return Err(call.no_route());
    };
    match (call.method, rest) {
        ("GET", []) => {}
        ("PATCH", []) => {
            if let Some(url) = call.optional("/webhook_url") {
                own.url = valid_url(url)?;
            }
            if let Some(events) = events(call)? {
                own.events = events;
            }
            if let Some(version) = call.optional("/version") {
                own.version = version;
            }
            own.updated = call.state.now();
        }
        ("POST", ["rotate_secret"]) => {
            own.secret = secret;
            own.updated = call.state.now();
            return Ok(Answer::ok(json!({"id": own.id, "secret": own.secret})));
        }
        _ => return Err(call.no_route()),
    }
    Ok(Answer::ok(render(own)))
}

fn create(call: &Call<'_>, store: &mut Store) -> Reply {
    let url = valid_url(call.text("/webhook_url")?)?;
    let events = events(call)?.ok_or_else(|| ApiError::bad_body(vec!["enabled_events: Required".to_owned()]))?;
    if !store.subscriptions.is_empty() {
        let message = "A webhook subscription already exists for this project";
        return Err(ApiError::new(409, 2602, "WebhookSubscription_Conflict", message));
    }
    let subscription = Subscription {
        id: store.ids.id("ws"),
        url,
        version: call.optional("/version").unwrap_or_else(|| "V3".to_owned()),
        events,
        secret: secret(store),
        created: call.state.now(),
        updated: call.state.now(),
    };
    let body = render(&subscription);
    store.subscriptions.push(subscription);
    Ok(Answer::new(201, body))
}

fn secret(store: &mut Store) -> String {
    format!("whsec_{}", store.ids.hex())
}

fn valid_url(url: String) -> Result<String, ApiError> {
    let valid = reqwest::Url::parse(&url).is_ok_and(|parsed| matches!(parsed.scheme(), "http" | "https"));
    valid
        .then_some(url)
        .ok_or_else(|| ApiError::bad_body(vec!["webhook_url: Invalid url".to_owned()]))
}

fn events(call: &Call<'_>) -> Result<Option<Vec<String>>, ApiError> {
    let Some(given) = call.body["enabled_events"].as_array() else {
        return Ok(None);
    };
    let events: Vec<String> = given.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let unknown = events
        .iter()
        .find(|event| ![MESSAGE, EXPIRED, DISABLED].contains(&event.as_str()));
    match unknown {
        Some(event) => Err(ApiError::bad_body(vec![format!(
            "enabled_events: Unknown event {event}"
        )])),
        None => Ok(Some(events)),
    }
}

fn render(own: &Subscription) -> Value {
    json!({
        "id": own.id, "webhook_url": own.url, "version": own.version, "enabled_events": own.events,
        "secret": own.secret, "created_at": stamp(own.created), "updated_at": stamp(own.updated),
    })
}
