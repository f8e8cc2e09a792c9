//! Executions of tools, the proxy, and the making of arguments.

use serde_json::{Map, Value, json};

use super::accounts::{self, Account};
use super::call::Call;
use super::catalog::{Tool, Toolkit};
use super::deliver;
use super::effects::Effect;
use super::error::{Answer, ApiError, Reply};
use super::state::{Store, stamp};
use super::tools;
use super::validate;
use super::world::{Actor, Failure};

/// `POST /tools/execute/{slug}`.
pub(crate) fn execute(call: &Call<'_>, slug: &str) -> Reply {
    let result = run(call, slug)?;
    let mut body = result;
    body["session_info"] = Value::Null;
    Ok(Answer::ok(body))
}

/// Runs a tool and returns `data`, `error`, `successful` and `log_id`.
pub(crate) fn run(call: &Call<'_>, slug: &str) -> Result<Value, ApiError> {
    if call.state.catalog.was_removed(slug) {
        return Err(ApiError::removed_tool(slug));
    }
    let version = call.optional("/version");
    let (toolkit, tool, version) = tools::find(call, slug, version.as_deref())?;
    let mut store = call.state.store();
    let user = call.optional("/user_id").or_else(|| call.optional("/entity_id"));
    let account = if toolkit.no_auth() {
        None
    } else {
        let wanted = call.optional("/connected_account_id");
        let at = choose(call, &mut store, toolkit, wanted.as_deref(), user.as_deref())?;
        check_allowed(&store, at, slug)?;
        expire_on_demand(call, &mut store, at)?;
        store.accounts.get(at).cloned()
    };
    let user = user
        .or_else(|| account.as_ref().map(|account| account.user_id.clone()))
        .unwrap_or_default();
    let given = if call.body["arguments"].is_null() && call.body["text"].is_string() {
        written(tool, call.body["text"].as_str().unwrap_or_default())
    } else {
        call.body["arguments"].clone()
    };
    let outcome = validate::arguments(&tool.input_in(version), &given)
        .map_err(|wrong| (json!({"status_code": 400}), wrong))
        .and_then(|arguments| act(call, &mut store, (toolkit, tool), &user, account.as_ref(), &arguments));
    Ok(answer(call, outcome, &store.ids.id("log")))
}

/// Finds the account that acts: the one that is named, or the newest active one of the user.
fn choose(
    call: &Call<'_>,
    store: &mut Store,
    toolkit: &Toolkit,
    wanted: Option<&str>,
    user: Option<&str>,
) -> Result<usize, ApiError> {
    accounts::expire_links(store, call.state.now());
    let mine = |account: &&Account| user.is_none_or(|user| account.user_id == user);
    if let Some(id) = wanted {
        let at = store.accounts.iter().position(|account| account.id == id);
        let at = at.ok_or_else(|| ApiError::no_account(format!("No connected account found with ID {id}")))?;
        let account = store
            .accounts
            .get(at)
            .filter(mine)
            .ok_or_else(ApiError::other_users_account)?;
        if account.toolkit != toolkit.slug {
            let message = format!("Connected account {id} is not of toolkit {}", toolkit.slug);
            return Err(ApiError::no_account(message));
        }
        return if account.status == "ACTIVE" {
            Ok(at)
        } else {
            Err(ApiError::inactive_account(id, &account.status))
        };
    }
    let Some(user) = user else {
        return Err(ApiError::bad_body(vec![
            "user_id: Required without connected_account_id".to_owned(),
        ]));
    };
    let fits =
        |account: &Account| account.user_id == user && account.toolkit == toolkit.slug && account.status == "ACTIVE";
    let at = store.accounts.iter().rposition(fits);
    at.ok_or_else(|| {
        ApiError::no_account(format!(
            "No connected account found for user ID {user} for toolkit {}",
            toolkit.slug
        ))
    })
}

/// An auth config may name the only tools that its accounts may run.
fn check_allowed(store: &Store, at: usize, slug: &str) -> Result<(), ApiError> {
    let account = store.accounts.get(at);
    let config = account.and_then(|account| {
        store
            .auth_configs
            .iter()
            .find(|config| config.id == account.auth_config_id)
    });
    let allowed = config.and_then(|config| config.tool_access.get("tools_available_for_execution")?.as_array());
    match allowed {
        Some(allowed) if !allowed.is_empty() && !allowed.iter().any(|own| own == slug) => {
            Err(ApiError::forbidden_tool(slug))
        }
        Some(_) | None => Ok(()),
    }
}

/// The fault `expired`: the account turns out to be expired when it is used.
fn expire_on_demand(call: &Call<'_>, store: &mut Store, at: usize) -> Result<(), ApiError> {
    if !call.faults.expired {
        return Ok(());
    }
    let id = store
        .accounts
        .get(at)
        .map(|account| account.id.clone())
        .unwrap_or_default();
    let reason = "Permanent auth error during token refresh";
    accounts::set_status(store, &id, "EXPIRED", Some(reason), call.state.now());
    deliver::account_expired(call.state, store, &id);
    Err(ApiError::inactive_account(&id, "EXPIRED"))
}

/// Does what the tool does and counts the effect.
fn act(
    call: &Call<'_>,
    store: &mut Store,
    (toolkit, tool): (&Toolkit, &Tool),
    user: &str,
    account: Option<&Account>,
    arguments: &Map<String, Value>,
) -> Result<Value, Failure> {
    if let Some(text) = &call.faults.failed {
        return Err((json!({}), text.clone()));
    }
    let now = call.state.now();
    let actor = Actor {
        user,
        now: stamp(now),
        unix: now.unix_timestamp(),
        hex: store.ids.hex(),
        arguments,
    };
    let scripted = call.faults.result.clone();
    let outcome = match scripted {
        Some(result) => result
            .error
            .map_or_else(|| Ok(result.data.clone()), |error| Err((result.data.clone(), error))),
        None => store.world.act(toolkit, &tool.act, &actor),
    };
    let happened = outcome.is_ok() || call.faults.result.is_some();
    if tool.writes() && happened {
        store.effects.count(Effect {
            key: call.key.clone(),
            tool: tool.slug.clone(),
            user_id: user.to_owned(),
            connected_account_id: account.map(|account| account.id.clone()),
            count: 1,
            arguments: json!(arguments),
            at: now,
            last_at: now,
        });
    }
    if call.faults.failed_after {
        return Err((
            json!({}),
            "HTTP error 504: {\"message\": \"upstream timed out\"}".to_owned(),
        ));
    }
    outcome
}

fn answer(call: &Call<'_>, outcome: Result<Value, Failure>, log_id: &str) -> Value {
    let mut body = match outcome {
        Ok(data) => json!({"data": data, "error": null, "successful": true, "log_id": log_id}),
        Err((data, error)) => json!({"data": data, "error": error, "successful": false, "log_id": log_id}),
    };
    if !body["data"].is_object() {
        body["data"] = json!({"result": body["data"]});
    }
    if call.faults.error_inside {
        body["data"]["error"] = json!({"status": 403, "message": "Insufficient permission"});
    }
    if let Some(bytes) = call.faults.big {
        let bytes = if bytes == 0 {
            call.state.config().big_bytes
        } else {
            bytes
        };
        body["data"]["padding"] = json!(filler(bytes));
    }
    body
}

/// Makes a text of exactly `bytes` bytes.
fn filler(bytes: usize) -> String {
    const WORDS: &str = "the quick brown fox jumps over the lazy dog and ";
    WORDS.chars().cycle().take(bytes).collect()
}

/// `POST /tools/execute/proxy`.
pub(crate) fn proxy(call: &Call<'_>) -> Reply {
    let endpoint = call.text("/endpoint")?;
    let method = call.text("/method")?;
    let mut store = call.state.store();
    accounts::expire_links(&mut store, call.state.now());
    let id = call.optional("/connected_account_id");
    let user = call.optional("/user_id");
    let fits = |account: &&Account| match (&id, &user) {
        (Some(id), _) => account.id == *id,
        (None, Some(user)) => account.user_id == *user && account.status == "ACTIVE",
        (None, None) => false,
    };
    let account = store.accounts.iter().rfind(fits);
    let account = account
        .ok_or_else(|| ApiError::unknown_account(id.as_deref().unwrap_or_default()))?
        .clone();
    if user.as_ref().is_some_and(|user| *user != account.user_id) {
        return Err(ApiError::other_users_account());
    }
    if account.status != "ACTIVE" {
        return Err(ApiError::inactive_account(&account.id, &account.status));
    }
    let toolkit = call.state.catalog.toolkit(&account.toolkit);
    let base = toolkit.and_then(|toolkit| toolkit.base_url.clone()).unwrap_or_default();
    let path = endpoint.strip_prefix(base.as_str()).unwrap_or(&endpoint);
    if path.contains("://") {
        return Err(ApiError::bad_body(vec![
            "endpoint: Must be on the domain of the toolkit".to_owned(),
        ]));
    }
    if method != "GET" && method != "HEAD" {
        let now = call.state.now();
        store.effects.count(Effect {
            key: call.key.clone(),
            tool: format!("proxy {method} {path}"),
            user_id: account.user_id.clone(),
            connected_account_id: Some(account.id.clone()),
            count: 1,
            arguments: call.body["body"].clone(),
            at: now,
            last_at: now,
        });
    }
    let current = toolkit
        .and_then(|toolkit| toolkit.current_user.as_ref())
        .filter(|user| user.path == path);
    let (status, data) = match (method.as_str(), current) {
        ("GET", Some(user)) => (200, user.data.clone()),
        ("GET" | "HEAD", None) => (404, json!({"message": "Not Found"})),
        _ => (200, json!({"method": method, "path": path, "body": call.body["body"]})),
    };
    let headers = json!({"content-type": "application/json"});
    Ok(Answer::ok(json!({"status": status, "data": data, "headers": headers})))
}

/// `POST /tools/execute/{slug}/input`: arguments made of a text.
pub(crate) fn input(call: &Call<'_>, slug: &str) -> Reply {
    let version = call.optional("/version");
    let (_, tool, _) = tools::find(call, slug, version.as_deref())?;
    let text = call.text("/text")?;
    Ok(Answer::ok(json!({"arguments": written(tool, &text), "error": null})))
}

/// Gives the text to each required argument that takes one.
fn written(tool: &Tool, text: &str) -> Value {
    let properties = tool.input["properties"].as_object();
    let required = tool.input["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    let value = |name: &str| {
        let property = properties
            .and_then(|properties| properties.get(name))
            .cloned()
            .unwrap_or_default();
        let example = property["examples"].get(0).or_else(|| property.get("default")).cloned();
        example.unwrap_or_else(|| match property["type"].as_str() {
            Some("integer" | "number") => json!(1),
            Some("boolean") => json!(true),
            Some("array") => json!([]),
            Some("object") => json!({}),
            Some(_) | None => json!(text),
        })
    };
    required
        .map(|name| (name.to_owned(), value(name)))
        .collect::<Map<_, _>>()
        .into()
}
