//! `/tool_router` and `/mcp`: as much as the SDKs need to make one and use its tools over REST.

use serde_json::{Value, json};

use super::accounts::Account;
use super::auth_configs;
use super::call::{Call, Version};
use super::connect;
use super::error::{Answer, ApiError, Reply};
use super::execute;
use super::page::{self, page};
use super::state::{Store, stamp};

const ROUTER_TOOLS: &[&str] = &[
    "COMPOSIO_SEARCH_TOOLS",
    "COMPOSIO_MULTI_EXECUTE_TOOL",
    "COMPOSIO_MANAGE_CONNECTIONS",
];

/// One session of the tool router.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    id: String,
    user_id: String,
    /// The toolkits that are enabled; all when empty.
    toolkits: Vec<String>,
    configs: Value,
}

/// `/tool_router/session`.
pub(crate) fn route(call: &Call<'_>, rest: &[&str]) -> Reply {
    match (call.method, rest) {
        ("POST", ["session"]) => create(call),
        (_, ["session", id, rest @ ..]) => {
            let session = call.state.store().sessions.iter().find(|own| own.id == *id).cloned();
            let missing =
                || ApiError::bad_session(404, 4304, "ToolRouterV2_NotFound", format!("Session {id} not found"));
            one(call, &session.ok_or_else(missing)?, rest)
        }
        _ => Err(call.no_route()),
    }
}

fn create(call: &Call<'_>) -> Reply {
    let user_id = call.text("/user_id")?;
    let names = &call.body["toolkits"];
    let names = names["enable"].as_array().or_else(|| names.as_array());
    let toolkits = names
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let mut store = call.state.store();
    let session = Session {
        id: store.ids.id("trs"),
        user_id,
        toolkits,
        configs: call.body["auth_configs"].clone(),
    };
    let body = render(call, &session);
    store.sessions.push(session);
    Ok(Answer::new(201, body))
}

fn render(call: &Call<'_>, session: &Session) -> Value {
    json!({
        "session_id": session.id, "config_version": 1, "tool_router_tools": ROUTER_TOOLS,
        "config": {"user_id": session.user_id, "execute": {}, "search": {"enable": true}, "preload": {"tools": []},
                   "instant": false, "toolkits": {"enabled": session.toolkits}},
        "mcp": {"type": "http", "url": format!("{}/tool_router/{}/mcp", call.state.base(), session.id)},
    })
}

fn one(call: &Call<'_>, session: &Session, rest: &[&str]) -> Reply {
    let enabled = |slug: &String| session.toolkits.is_empty() || session.toolkits.contains(slug);
    let catalog = &call.state.catalog;
    match (call.method, rest) {
        ("GET", []) => Ok(Answer::ok(render(call, session))),
        ("DELETE", []) => {
            call.state.store().sessions.retain(|own| own.id != session.id);
            Ok(Answer::ok(json!({"success": true})))
        }
        ("GET", ["tools"]) => {
            let tools = catalog.tools().filter(|(toolkit, _)| enabled(&toolkit.slug));
            let tools: Vec<Value> = tools
                .map(|(toolkit, tool)| tool.render(toolkit, toolkit.newest()))
                .collect();
            page(call, &tools, 500)
        }
        ("GET", ["toolkits"]) => {
            let store = call.state.store();
            let toolkits = catalog.toolkits.iter().filter(|toolkit| enabled(&toolkit.slug));
            let toolkits = toolkits.map(|toolkit| {
                let account = store.accounts.iter().rfind(|account| {
                    account.user_id == session.user_id && account.toolkit == toolkit.slug && account.status == "ACTIVE"
                });
                let managed = toolkit.auth.iter().filter(|auth| auth.managed).map(|auth| &auth.mode);
                json!({
                    "slug": toolkit.slug, "name": toolkit.name, "enabled": true, "is_no_auth": toolkit.no_auth(),
                    "composio_managed_auth_schemes": managed.collect::<Vec<_>>(),
                    "meta": {"description": toolkit.description, "logo": toolkit.logo()},
                    "connected_account": account.map(connected),
                })
            });
            page(call, &toolkits.collect::<Vec<_>>(), page::MAX)
        }
        ("POST", ["execute"]) => run(call, session),
        ("POST", ["link"]) => link(call, session),
        _ => Err(call.no_route()),
    }
}

fn connected(account: &Account) -> Value {
    json!({
        "id": account.id, "status": account.status, "user_id": account.user_id, "created_at": stamp(account.created),
        "auth_config": {"id": account.auth_config_id, "auth_scheme": account.scheme,
                        "is_composio_managed": account.managed},
    })
}

fn run(call: &Call<'_>, session: &Session) -> Reply {
    let slug = call.text("/tool_slug")?;
    let inner = Call {
        state: call.state,
        version: Version::V31,
        method: call.method,
        path: call.path,
        query: super::call::Query::default(),
        body: json!({"user_id": session.user_id, "arguments": call.body["arguments"],
                     "connected_account_id": call.body["account"]}),
        key: call.key.clone(),
        faults: call.faults,
    };
    let mut body = execute::run(&inner, &slug)?;
    let kind = if body["successful"] == true {
        "completed"
    } else {
        "failed"
    };
    body["result_type"] = json!(kind);
    if let Some(fields) = body.as_object_mut() {
        fields.remove("successful");
    }
    Ok(Answer::ok(body))
}

fn link(call: &Call<'_>, session: &Session) -> Reply {
    let slug = call.text("/toolkit")?;
    let toolkit = call
        .state
        .catalog
        .toolkit(&slug)
        .ok_or_else(|| ApiError::unknown_toolkit(&slug))?;
    let mut store = call.state.store();
    let named = session.configs[slug.as_str()].as_str().map(str::to_owned);
    let config = match named {
        Some(id) => id,
        None => managed_config(call, &mut store, toolkit)?,
    };
    let inner = Call {
        state: call.state,
        version: call.version,
        method: call.method,
        path: call.path,
        query: super::call::Query::default(),
        body: json!({"user_id": session.user_id, "callback_url": call.body["callback_url"], "alias": call.body["alias"]}),
        key: call.key.clone(),
        faults: call.faults,
    };
    let mut body = connect::link(&inner, &mut store, &config)?;
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|name, _| ["connected_account_id", "link_token", "redirect_url"].contains(&name.as_str()));
    }
    Ok(Answer::new(201, body))
}

/// Finds the newest enabled auth config of a toolkit or makes a managed one.
fn managed_config(call: &Call<'_>, store: &mut Store, toolkit: &super::catalog::Toolkit) -> Result<String, ApiError> {
    if toolkit.no_auth() {
        let message = format!("Toolkit {} needs no authentication", toolkit.slug);
        return Err(ApiError::bad_session(400, 4326, "ToolRouterV2_NoAuthToolkit", message));
    }
    let known = store
        .auth_configs
        .iter()
        .rfind(|config| config.toolkit == toolkit.slug && config.enabled);
    if let Some(known) = known {
        return Ok(known.id.clone());
    }
    let managed = toolkit.auth.iter().find(|auth| auth.managed);
    let message = || format!("Toolkit {} has no managed authentication", toolkit.slug);
    let managed = managed.ok_or_else(|| ApiError::bad_session(400, 4308, "ToolRouterV2_NoManagedAuth", message()))?;
    Ok(auth_configs::add(call.state, store, toolkit, &managed.mode, true, &Value::Null).id)
}

/// `/mcp`.
pub(crate) fn servers(call: &Call<'_>, rest: &[&str]) -> Reply {
    let mut store = call.state.store();
    match (call.method, rest) {
        ("POST", ["servers", "custom"]) => {
            let name = call.text("/name")?;
            if !(4..=30).contains(&name.chars().count()) {
                return Err(ApiError::bad_body(vec![
                    "name: Must have 4 to 30 characters".to_owned(),
                ]));
            }
            let list = |field: &str| call.body[field].as_array().cloned().unwrap_or_default();
            let id = store.ids.uuid();
            let now = stamp(call.state.now());
            let body = json!({
                "id": id, "name": name, "allowed_tools": list("allowed_tools"),
                "auth_config_ids": list("auth_config_ids"), "mcp_url": format!("{}/v3/mcp/{id}", call.state.base()),
                "commands": {"claude": "x", "cursor": "x", "windsurf": "x"}, "created_at": now, "updated_at": now,
                "managed_auth_via_composio": call.body["managed_auth_via_composio"] == true,
                "server_instance_count": 0, "toolkit_icons": {}, "toolkits": list("toolkits"),
            });
            store.servers.push(body.clone());
            Ok(Answer::new(201, body))
        }
        ("GET", ["servers"]) => page(call, &store.servers, page::MAX),
        ("GET", [id]) => {
            let server = store.servers.iter().find(|server| server["id"] == **id);
            server.cloned().map(Answer::ok).ok_or_else(|| call.no_route())
        }
        _ => Err(call.no_route()),
    }
}
