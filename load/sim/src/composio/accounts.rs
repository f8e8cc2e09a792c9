//! `/connected_accounts`.

use std::cmp::Reverse;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::auth_configs::AuthConfig;
use super::call::Call;
use super::connect;
use super::error::{Answer, ApiError, Reply};
use super::page::{self, page};
use super::state::{State, Store, stamp};

/// All statuses there are.
pub(crate) const STATUSES: &[&str] = &[
    "INITIALIZING",
    "INITIATED",
    "ACTIVE",
    "FAILED",
    "EXPIRED",
    "INACTIVE",
    "REVOKED",
];
const SECRET_WORDS: &[&str] = &["token", "key", "secret", "password"];

/// The page on which a user allows the connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    pub(crate) token: String,
    pub(crate) expires: OffsetDateTime,
    pub(crate) callback: Option<String>,
    /// Whether the callback names the account in camel case, as the older flow does.
    pub(crate) camel: bool,
    /// What `complete_auth` has to name when callbacks are verified.
    pub(crate) session_uri: Option<String>,
}

/// What one user has connected.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) id: String,
    pub(crate) uuid: String,
    pub(crate) user_id: String,
    pub(crate) auth_config_id: String,
    pub(crate) toolkit: String,
    pub(crate) scheme: String,
    pub(crate) managed: bool,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) alias: Option<String>,
    pub(crate) word_id: String,
    pub(crate) kind: String,
    /// Credentials and other fields of the scheme.
    pub(crate) values: Map<String, Value>,
    pub(crate) created: OffsetDateTime,
    pub(crate) updated: OffsetDateTime,
    pub(crate) link: Option<Link>,
}

/// Whose account is made, and how it is to be called.
#[derive(Debug, Default)]
pub(crate) struct Wish {
    pub(crate) user_id: String,
    pub(crate) alias: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) id: Option<String>,
}

pub(crate) fn route(call: &Call<'_>, rest: &[&str]) -> Reply {
    let mut store = call.state.store();
    let store = &mut *store;
    expire_links(store, call.state.now());
    match (call.method, rest) {
        ("GET", []) => list(call, store),
        ("POST", []) => connect::create(call, store),
        ("POST", ["link"]) => {
            let config = call.text("/auth_config_id")?;
            let answer = connect::link(call, store, &config)?;
            Ok(Answer::new(201, answer))
        }
        ("POST", ["complete_auth"]) => connect::complete(call, store),
        (_, [id, rest @ ..]) => {
            let at = store.accounts.iter().position(|account| account.id == *id);
            let at = at.ok_or_else(|| ApiError::unknown_account(id))?;
            one(call, store, at, rest)
        }
        _ => Err(call.no_route()),
    }
}

fn one(call: &Call<'_>, store: &mut Store, at: usize, rest: &[&str]) -> Reply {
    let now = call.state.now();
    if (call.method, rest) == ("DELETE", &[]) {
        store.accounts.remove(at);
        let mut body = json!({"success": true});
        if call.query.flag("revoke_on_delete") == Some(true) {
            body["revoke_job_id"] = json!(store.ids.id("rj"));
        }
        return Ok(Answer::ok(body));
    }
    let Some(account) = store.accounts.get(at).cloned() else {
        return Err(call.no_route());
    };
    match (call.method, rest) {
        ("GET", []) => {
            let mut body = render(store, &account);
            body["params"] = json!({});
            Ok(Answer::ok(body))
        }
        ("PATCH", []) => update(call, store, &account),
        ("PATCH", ["status"]) => {
            let enabled = call.body["enabled"].as_bool();
            let enabled = enabled.ok_or_else(|| ApiError::bad_body(vec!["enabled: Required".to_owned()]))?;
            let (status, reason) = if enabled {
                ("ACTIVE", None)
            } else {
                ("INACTIVE", Some("Changed by user"))
            };
            set_status(store, &account.id, status, reason, now);
            Ok(Answer::ok(json!({"success": true})))
        }
        ("POST", ["refresh"]) => connect::refresh(call, store, &account),
        ("POST", ["revoke"]) => {
            if account.status == "REVOKED" {
                return Err(ApiError::wrong_account_state(
                    "The connected account is already revoked",
                ));
            }
            set_status(store, &account.id, "REVOKED", Some("Revoked by user"), now);
            Ok(Answer::ok(json!({
                "revoked_tokens": ["access_token", "refresh_token"],
                "connected_account": {"id": account.id, "status": "REVOKED"},
            })))
        }
        _ => Err(call.no_route()),
    }
}

fn list(call: &Call<'_>, store: &Store) -> Reply {
    let kind = call.query.get("account_type").unwrap_or("PRIVATE");
    let query = &call.query;
    let fits = |account: &&Account| {
        query.allows("user_ids", &account.user_id)
            && query.allows("toolkit_slugs", &account.toolkit)
            && query.allows("auth_config_ids", &account.auth_config_id)
            && query.allows("connected_account_ids", &account.id)
            && query.allows("statuses", &account.status)
            && (kind == "ALL" || account.kind == kind)
    };
    let mut found: Vec<&Account> = store.accounts.iter().rev().filter(fits).collect();
    let by_update = query.get("order_by") == Some("updated_at");
    let moment = |account: &Account| if by_update { account.updated } else { account.created };
    if query.get("order_direction") == Some("asc") {
        found.reverse();
        found.sort_by_key(|account| moment(account));
    } else {
        found.sort_by_key(|account| Reverse(moment(account)));
    }
    let found: Vec<Value> = found.into_iter().map(|account| render(store, account)).collect();
    page(call, &found, page::MAX)
}

/// Renders an account as lists do.
pub(crate) fn render(store: &Store, account: &Account) -> Value {
    let config = store
        .auth_configs
        .iter()
        .find(|config| config.id == account.auth_config_id);
    let mut values = masked(&account.values, account.managed);
    values.insert("status".to_owned(), json!(account.status));
    json!({
        "id": account.id, "user_id": account.user_id, "status": account.status, "status_reason": account.reason,
        "is_disabled": account.status == "INACTIVE", "alias": account.alias, "word_id": account.word_id,
        "toolkit": {"slug": account.toolkit},
        "auth_config": {"id": account.auth_config_id, "auth_scheme": account.scheme,
                        "is_composio_managed": account.managed,
                        "is_disabled": config.is_some_and(|config| !config.enabled)},
        "state": {"authScheme": account.scheme, "val": values}, "data": values,
        "created_at": stamp(account.created), "updated_at": stamp(account.updated),
        "experimental": {"account_type": account.kind}, "deprecated": {"uuid": account.uuid, "labels": []},
    })
}

/// Hides secrets: all of a managed account, the tail of others.
pub(crate) fn masked(values: &Map<String, Value>, managed: bool) -> Map<String, Value> {
    let readable = [
        "client_id",
        "consumer_key",
        "token_type",
        "scope",
        "scopes",
        "user_scopes",
        "status",
        "error",
    ];
    let hide = |name: &str, value: &Value| -> Option<Value> {
        let text = value.as_str()?;
        let open = readable.contains(&name) || name == "redirectUrl" || name == "callback_url";
        let secret = SECRET_WORDS.iter().any(|word| name.to_lowercase().contains(word));
        match (open, managed && secret) {
            (true, _) => None,
            (false, true) => Some(json!("REDACTED")),
            (false, false) => Some(json!(format!("{}...", text.chars().take(4).collect::<String>()))),
        }
    };
    let shown = |(name, value): (&String, &Value)| (name.clone(), hide(name, value).unwrap_or_else(|| value.clone()));
    values.iter().map(shown).collect()
}

/// Turns accounts whose link was not used in time to EXPIRED.
pub(crate) fn expire_links(store: &mut Store, now: OffsetDateTime) {
    for account in &mut store.accounts {
        let pending = matches!(account.status.as_str(), "INITIALIZING" | "INITIATED");
        if pending && account.link.as_ref().is_some_and(|link| link.expires <= now) {
            account.status = "EXPIRED".to_owned();
            account.reason = Some("Connection was not completed within 10 minutes".to_owned());
            account.values.clear();
            account.updated = now;
        }
    }
}

/// Sets a status with what belongs to it; `false` when there is no such account.
pub(crate) fn set_status(store: &mut Store, id: &str, status: &str, reason: Option<&str>, now: OffsetDateTime) -> bool {
    let (first, second) = (store.ids.word(36), store.ids.word(36));
    let Some(account) = store.accounts.iter_mut().find(|account| account.id == id) else {
        return false;
    };
    status.clone_into(&mut account.status);
    account.reason = reason.map(str::to_owned);
    account.updated = now;
    match status {
        "ACTIVE" => {
            for pending in ["redirectUrl", "callback_url", "error"] {
                account.values.remove(pending);
            }
            if account.scheme.contains("OAUTH") && !account.values.contains_key("access_token") {
                account
                    .values
                    .insert("access_token".to_owned(), json!(format!("gho_{first}")));
                account
                    .values
                    .insert("refresh_token".to_owned(), json!(format!("ghr_{second}")));
                account.values.insert("token_type".to_owned(), json!("bearer"));
                account.values.insert("scope".to_owned(), json!("read,write"));
            }
        }
        "FAILED" => {
            account.values.clear();
            account.values.insert("error".to_owned(), json!("access_denied"));
        }
        _ => {}
    }
    true
}

/// Makes an account without credentials.
pub(crate) fn add(state: &State, store: &mut Store, config: &AuthConfig, wish: Wish) -> Result<Account, ApiError> {
    check_alias(store, &wish.user_id, &config.toolkit, wish.alias.as_deref(), None)?;
    let account = Account {
        id: wish.id.unwrap_or_else(|| store.ids.id("ca")),
        uuid: store.ids.uuid(),
        user_id: wish.user_id,
        auth_config_id: config.id.clone(),
        toolkit: config.toolkit.clone(),
        scheme: config.scheme.clone(),
        managed: config.managed,
        status: "INITIALIZING".to_owned(),
        reason: None,
        alias: wish.alias,
        word_id: store.ids.word_id(&config.toolkit),
        kind: wish.kind.unwrap_or_else(|| "PRIVATE".to_owned()),
        values: Map::new(),
        created: state.now(),
        updated: state.now(),
        link: None,
    };
    store.accounts.push(account.clone());
    Ok(account)
}

fn check_alias(
    store: &Store,
    user: &str,
    toolkit: &str,
    alias: Option<&str>,
    except: Option<&str>,
) -> Result<(), ApiError> {
    let taken = |account: &Account| {
        account.user_id == user
            && account.toolkit == toolkit
            && account.alias.as_deref() == alias
            && Some(account.id.as_str()) != except
    };
    if alias.is_some() && store.accounts.iter().any(taken) {
        let alias = alias.unwrap_or_default();
        return Err(ApiError::bad_account(format!(
            "Alias \"{alias}\" is already used for this user and toolkit"
        )));
    }
    Ok(())
}

fn update(call: &Call<'_>, store: &mut Store, account: &Account) -> Reply {
    let alias = call.optional("/alias");
    check_alias(
        store,
        &account.user_id,
        &account.toolkit,
        alias.as_deref(),
        Some(&account.id),
    )?;
    let now = call.state.now();
    let given = call
        .body
        .pointer("/connection/state/val")
        .and_then(Value::as_object)
        .cloned();
    let mut status = account.status.clone();
    if let Some(own) = store.accounts.iter_mut().find(|own| own.id == account.id) {
        if call.body.get("alias").is_some() {
            own.alias = alias;
        }
        own.updated = now;
        if let Some(given) = given {
            own.values
                .extend(given.into_iter().filter(|(name, _)| name != "status"));
            "ACTIVE".clone_into(&mut own.status);
            own.reason = None;
        }
        status.clone_from(&own.status);
    }
    Ok(Answer::ok(json!({"id": account.id, "status": status, "success": true})))
}
