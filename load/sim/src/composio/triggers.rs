//! `/triggers_types` and `/trigger_instances`.

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::call::{Call, Version};
use super::catalog::{Toolkit, TriggerType};
use super::error::{Answer, ApiError, Reply};
use super::page::{self, page};
use super::state::{Store, stamp};
use super::validate;

/// One trigger that somebody has set up.
#[derive(Debug, Clone)]
pub(crate) struct Trigger {
    pub(crate) id: String,
    pub(crate) uuid: String,
    pub(crate) slug: String,
    pub(crate) account_id: String,
    pub(crate) user_id: String,
    pub(crate) config: Value,
    pub(crate) version: String,
    egress_url: Option<String>,
    created: OffsetDateTime,
    updated: OffsetDateTime,
    pub(crate) disabled: Option<OffsetDateTime>,
}

/// `/triggers_types`.
pub(crate) fn types(call: &Call<'_>, rest: &[&str]) -> Reply {
    let all = || call.state.catalog.triggers();
    match (call.method, rest) {
        ("GET", []) => {
            let fits = |toolkit: &Toolkit| call.query.allows("toolkit_slugs", &toolkit.slug);
            let found = all().filter(|(toolkit, _)| fits(toolkit));
            let found: Vec<Value> = found.map(|(toolkit, kind)| render_type(toolkit, kind)).collect();
            page(call, &found, page::MAX)
        }
        ("GET", ["list", "enum"]) => Ok(Answer::ok(json!(
            all().map(|(_, kind)| kind.slug.as_str()).collect::<Vec<_>>()
        ))),
        ("GET", [slug]) => {
            let found = all().find(|(_, kind)| kind.slug == *slug);
            let found = found.map(|(toolkit, kind)| render_type(toolkit, kind));
            found.map(Answer::ok).ok_or_else(|| ApiError::unknown_trigger(slug))
        }
        _ => Err(call.no_route()),
    }
}

fn render_type(toolkit: &Toolkit, kind: &TriggerType) -> Value {
    json!({
        "slug": kind.slug, "name": kind.name, "description": kind.description, "instructions": kind.instructions,
        "type": kind.kind, "toolkit": toolkit.short(), "config": kind.config, "payload": kind.payload,
        "version": toolkit.newest(),
    })
}

/// `/trigger_instances`.
pub(crate) fn instances(call: &Call<'_>, rest: &[&str]) -> Reply {
    let mut store = call.state.store();
    let store = &mut *store;
    match (call.method, rest) {
        ("GET", ["active"]) => active(call, store),
        ("POST", [slug, "upsert"]) => upsert(call, store, slug),
        ("PATCH", ["manage", id]) => {
            let status = call.text("/status")?;
            let now = call.state.now();
            let trigger = store.triggers.iter_mut().find(|trigger| trigger.id == *id);
            let trigger = trigger.ok_or_else(|| ApiError::unknown_trigger(id))?;
            trigger.disabled = match status.as_str() {
                "enable" => None,
                "disable" => Some(now),
                _ => {
                    return Err(ApiError::bad_body(vec![
                        "status: Expected enable or disable".to_owned(),
                    ]));
                }
            };
            trigger.updated = now;
            Ok(Answer::ok(json!({"status": "success"})))
        }
        ("DELETE", ["manage", id]) => {
            let at = store.triggers.iter().position(|trigger| trigger.id == *id);
            let trigger = store.triggers.remove(at.ok_or_else(|| ApiError::unknown_trigger(id))?);
            Ok(Answer::ok(json!({"trigger_id": trigger.id})))
        }
        _ => Err(call.no_route()),
    }
}

fn active(call: &Call<'_>, store: &Store) -> Reply {
    let disabled = call.query.flag("show_disabled") == Some(true);
    let account = |id: &str| store.accounts.iter().find(|account| account.id == id);
    let found = store.triggers.iter().filter(|trigger| {
        let config = account(&trigger.account_id).map_or("", |account| account.auth_config_id.as_str());
        call.query.allows("connected_account_ids", &trigger.account_id)
            && call.query.allows("auth_config_ids", config)
            && call.query.allows("trigger_ids", &trigger.id)
            && call.query.allows("trigger_names", &trigger.slug)
            && call.query.allows("user_ids", &trigger.user_id)
            && (disabled || trigger.disabled.is_none())
    });
    let uuid = |id: &str| account(id).map(|account| account.uuid.clone());
    let found: Vec<Value> = found
        .map(|trigger| render(trigger, uuid(&trigger.account_id)))
        .collect();
    page(call, &found, page::MAX)
}

fn render(trigger: &Trigger, account_uuid: Option<String>) -> Value {
    let disabled = trigger.disabled.map(stamp);
    json!({
        "id": trigger.id, "uuid": trigger.uuid, "user_id": trigger.user_id, "state": {}, "trigger_data": null,
        "connected_account_id": trigger.account_id, "connectedAccountId": trigger.account_id,
        "connected_account_uuid": account_uuid, "trigger_name": trigger.slug, "triggerName": trigger.slug,
        "trigger_config": trigger.config, "triggerConfig": trigger.config, "version": trigger.version,
        "updated_at": stamp(trigger.updated), "updatedAt": stamp(trigger.updated),
        "disabled_at": disabled, "disabledAt": disabled, "egress_url": trigger.egress_url,
        "deprecated": {"createdAt": stamp(trigger.created)},
    })
}

fn upsert(call: &Call<'_>, store: &mut Store, slug: &str) -> Reply {
    let found = call.state.catalog.triggers().find(|(_, kind)| kind.slug == slug);
    let (toolkit, kind) = found.ok_or_else(|| ApiError::unknown_trigger(slug))?;
    let (id, user) = (call.optional("/connected_account_id"), call.optional("/user_id"));
    let account = store.accounts.iter().rfind(|account| {
        let named = id.as_ref().is_none_or(|id| account.id == *id);
        let owned = user.as_ref().is_none_or(|user| account.user_id == *user);
        named && owned && account.toolkit == toolkit.slug && account.status == "ACTIVE"
    });
    if id.is_none() && user.is_none() {
        return Err(ApiError::bad_body(vec![
            "connected_account_id: Required without user_id".to_owned(),
        ]));
    }
    let wanted = id.or(user).unwrap_or_default();
    let account = account.ok_or_else(|| ApiError::unknown_account(&wanted))?.clone();
    let config = validate::arguments(&kind.config, &call.body["trigger_config"]).map_err(ApiError::bad_trigger)?;
    let config = Value::Object(config);
    let asked = call.body["toolkit_versions"].as_str();
    let asked = asked.or_else(|| call.body["toolkit_versions"][toolkit.slug.as_str()].as_str());
    let version = toolkit
        .version(asked, Version::V31)
        .unwrap_or(toolkit.newest())
        .to_owned();
    let now = call.state.now();
    let same =
        |trigger: &&mut Trigger| trigger.slug == slug && trigger.account_id == account.id && trigger.config == config;
    if let Some(known) = store.triggers.iter_mut().find(same) {
        known.updated = now;
        known.disabled = None;
        return Ok(Answer::ok(
            json!({"trigger_id": known.id, "deprecated": {"uuid": known.uuid}}),
        ));
    }
    let trigger = Trigger {
        id: store.ids.id("ti"),
        uuid: store.ids.uuid(),
        slug: slug.to_owned(),
        account_id: account.id,
        user_id: account.user_id,
        config,
        version,
        egress_url: call.optional("/egress_url"),
        created: now,
        updated: now,
        disabled: None,
    };
    let body = json!({"trigger_id": trigger.id, "deprecated": {"uuid": trigger.uuid}});
    store.triggers.push(trigger);
    Ok(Answer::ok(body))
}
