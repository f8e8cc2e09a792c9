//! `/auth_configs`.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::accounts::masked;
use super::call::Call;
use super::catalog::Toolkit;
use super::error::{Answer, ApiError, Reply};
use super::page::{self, page};
use super::state::{State, Store, stamp};
use super::toolkits::field;

/// How accounts of one toolkit authenticate.
#[derive(Debug, Clone)]
pub(crate) struct AuthConfig {
    pub(crate) id: String,
    pub(crate) uuid: String,
    pub(crate) name: String,
    pub(crate) toolkit: String,
    pub(crate) scheme: String,
    pub(crate) managed: bool,
    pub(crate) enabled: bool,
    pub(crate) credentials: Map<String, Value>,
    pub(crate) tool_access: Map<String, Value>,
    tool_router: bool,
    shared: Option<Value>,
    proxy: Option<Value>,
    created: OffsetDateTime,
    updated: OffsetDateTime,
}

pub(crate) fn route(call: &Call<'_>, rest: &[&str]) -> Reply {
    match (call.method, rest) {
        ("GET", []) => list(call),
        ("POST", []) => create(call),
        ("GET", [id]) => with(call, id, |store, at| {
            let config = store.auth_configs.get(at);
            Ok(Answer::ok(
                config
                    .map(|config| render(call.state, store, config))
                    .unwrap_or_default(),
            ))
        }),
        ("PATCH", [id]) => with(call, id, |store, at| update(call, store, at)),
        ("PATCH", [id, status @ ("ENABLED" | "DISABLED")]) => with(call, id, |store, at| {
            if let Some(config) = store.auth_configs.get_mut(at) {
                config.enabled = *status == "ENABLED";
                config.updated = call.state.now();
            }
            let text = format!("Auth config {}", status.to_lowercase());
            Ok(Answer::ok(json!({"success": true, "message": text})))
        }),
        ("DELETE", [id]) => with(call, id, |store, at| {
            let config = store.auth_configs.remove(at);
            store.accounts.retain(|account| account.auth_config_id != config.id);
            let mut body = json!({"success": true, "message": "Auth config deleted"});
            if call.query.flag("revoke_on_delete") == Some(true) {
                body["revoke_job_id"] = json!(store.ids.id("rj"));
            }
            Ok(Answer::ok(body))
        }),
        _ => Err(call.no_route()),
    }
}

fn with(call: &Call<'_>, id: &str, run: impl FnOnce(&mut Store, usize) -> Reply) -> Reply {
    let mut store = call.state.store();
    let at = store.auth_configs.iter().position(|config| config.id == id);
    run(&mut store, at.ok_or_else(|| ApiError::unknown_auth_config(id))?)
}

fn list(call: &Call<'_>) -> Reply {
    let store = call.state.store();
    let search = call.query.get("search").map(str::to_lowercase);
    let managed = call.query.flag("is_composio_managed");
    let disabled = call.query.flag("show_disabled") == Some(true);
    let found = store.auth_configs.iter().filter(|config| {
        let named = |text: &String| {
            let own = format!("{} {} {}", config.name, config.id, config.toolkit).to_lowercase();
            own.contains(text.as_str())
        };
        call.query.allows("toolkit_slug", &config.toolkit)
            && managed.is_none_or(|managed| config.managed == managed)
            && (config.enabled || disabled)
            && search.as_ref().is_none_or(named)
    });
    let found: Vec<Value> = found.map(|config| render(call.state, &store, config)).collect();
    page(call, &found, page::AUTH_CONFIGS)
}

fn render(state: &State, store: &Store, config: &AuthConfig) -> Value {
    let connections = store
        .accounts
        .iter()
        .filter(|account| account.auth_config_id == config.id)
        .count();
    let toolkit = state.catalog.toolkit(&config.toolkit);
    let fields = toolkit.map_or_else(Vec::new, |toolkit| user_fields(toolkit, &config.scheme));
    let fields: Vec<Value> = fields.iter().map(|name| field(name, true, true)).collect();
    let mut body = json!({
        "id": config.id, "uuid": config.uuid, "name": config.name,
        "type": if config.managed { "default" } else { "custom" },
        "status": if config.enabled { "ENABLED" } else { "DISABLED" },
        "toolkit": {"slug": config.toolkit, "logo": toolkit.map(Toolkit::logo)},
        "auth_scheme": config.scheme, "is_composio_managed": config.managed,
        "is_enabled_for_tool_router": config.tool_router, "no_of_connections": connections,
        "credentials": masked(&config.credentials, false), "expected_input_fields": fields,
        "restrict_to_following_tools": [], "tool_access_config": config.tool_access,
        "created_by": "synthetic@example.com", "created_at": stamp(config.created),
        "last_updated_at": stamp(config.updated), "deprecated_params": {},
    });
    if let Some(shared) = &config.shared {
        body["shared_credentials"] = shared.clone();
    }
    if let Some(proxy) = &config.proxy {
        body["proxy_config"] = proxy.clone();
    }
    body
}

/// What the end user has to enter for this scheme.
pub(crate) fn user_fields(toolkit: &Toolkit, scheme: &str) -> Vec<String> {
    let auth = toolkit.auth.iter().find(|auth| auth.mode == scheme);
    auth.map(|auth| auth.user_fields.clone()).unwrap_or_default()
}

fn create(call: &Call<'_>) -> Reply {
    let slug = call.text("/toolkit/slug")?;
    let toolkit = call
        .state
        .catalog
        .toolkit(&slug)
        .ok_or_else(|| ApiError::unknown_toolkit(&slug))?;
    let given = &call.body["auth_config"];
    let kind = given["type"].as_str().unwrap_or("use_composio_managed_auth");
    let scheme = match kind {
        "use_composio_managed_auth" => {
            let managed = toolkit.auth.iter().find(|auth| auth.managed);
            let message = || format!("Composio does not manage authentication for toolkit {slug}");
            managed
                .ok_or_else(|| ApiError::bad_auth_config(message()))?
                .mode
                .clone()
        }
        "use_custom_auth" => call.text("/auth_config/authScheme")?,
        other => {
            return Err(ApiError::bad_body(vec![format!(
                "auth_config.type: Invalid value {other}"
            )]));
        }
    };
    let own = toolkit.auth.iter().find(|auth| auth.mode == scheme);
    if own.is_none() {
        let message = format!("Toolkit {slug} does not support the auth scheme {scheme}");
        return Err(ApiError::bad_auth_config(message));
    }
    let mut store = call.state.store();
    let config = add(
        call.state,
        &mut store,
        toolkit,
        &scheme,
        kind == "use_composio_managed_auth",
        given,
    );
    let auth_config = json!({"id": config.id, "auth_scheme": config.scheme, "is_composio_managed": config.managed});
    Ok(Answer::new(
        201,
        json!({"toolkit": {"slug": config.toolkit}, "auth_config": auth_config}),
    ))
}

/// Stores a new auth config; `given` is the one of a create body.
pub(crate) fn add(
    state: &State,
    store: &mut Store,
    toolkit: &Toolkit,
    scheme: &str,
    managed: bool,
    given: &Value,
) -> AuthConfig {
    let object = |name: &str| given[name].as_object().cloned().unwrap_or_default();
    let tail: String = store.ids.hex().chars().take(6).collect();
    let name = given["name"]
        .as_str()
        .map_or_else(|| format!("{}-{tail}", toolkit.slug), str::to_owned);
    let config = AuthConfig {
        id: store.ids.id("ac"),
        uuid: store.ids.uuid(),
        name,
        toolkit: toolkit.slug.clone(),
        scheme: scheme.to_owned(),
        managed,
        enabled: true,
        credentials: object("credentials"),
        tool_access: object("tool_access_config"),
        tool_router: given["is_enabled_for_tool_router"].as_bool().unwrap_or(true),
        shared: given.get("shared_credentials").cloned(),
        proxy: given.get("proxy_config").cloned(),
        created: state.now(),
        updated: state.now(),
    };
    store.auth_configs.push(config.clone());
    config
}

/// Merges what is given; what is left out stays.
fn update(call: &Call<'_>, store: &mut Store, at: usize) -> Reply {
    let kind = call.text("/type")?;
    let Some(config) = store.auth_configs.get_mut(at) else {
        return Err(call.no_route());
    };
    if (kind == "default") != config.managed {
        let message = format!("type {kind} does not fit this auth config");
        return Err(ApiError::bad_auth_config(message));
    }
    if let Some(name) = call.optional("/name") {
        config.name = name;
    }
    for name in ["scopes", "user_scopes"] {
        if let Some(value) = call.body.get(name) {
            config.credentials.insert(name.to_owned(), value.clone());
        }
    }
    let given = |name: &str| call.body[name].as_object().cloned().unwrap_or_default();
    config.credentials.extend(given("credentials"));
    config.tool_access.extend(given("tool_access_config"));
    if let Some(flag) = call.body["is_enabled_for_tool_router"].as_bool() {
        config.tool_router = flag;
    }
    if let Some(shared) = call.body.get("shared_credentials") {
        config.shared = Some(shared.clone());
    }
    if let Some(proxy) = call.body.get("proxy_config") {
        config.proxy = Some(proxy.clone());
    }
    config.updated = call.state.now();
    Ok(Answer::ok(json!({"success": true, "message": "Auth config updated"})))
}
