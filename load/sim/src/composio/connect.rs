//! How accounts come to be: by a link, by credentials that are given, and once more by OAuth.

use serde_json::{Value, json};
use time::Duration;

use super::accounts::{Account, Link, Wish, add, render, set_status};
use super::auth_configs::{AuthConfig, user_fields};
use super::call::Call;
use super::error::{Answer, ApiError, Reply};
use super::state::{Store, stamp};

fn usable(store: &Store, id: &str) -> Result<AuthConfig, ApiError> {
    let config = store.auth_configs.iter().find(|config| config.id == id);
    let config = config.ok_or_else(|| ApiError::unknown_auth_config(id))?.clone();
    if config.enabled {
        Ok(config)
    } else {
        Err(ApiError::bad_account(format!("Auth config {id} is disabled")))
    }
}

/// Gives an account a new link and returns its URL.
fn open_link(call: &Call<'_>, store: &mut Store, id: &str, callback: Option<String>, camel: bool) -> (Link, String) {
    let expiry = i64::try_from(call.state.config().link_expiry_ms).unwrap_or(i64::MAX);
    let link = Link {
        token: store.ids.id("lk"),
        expires: call.state.now().saturating_add(Duration::milliseconds(expiry)),
        callback,
        camel,
        session_uri: None,
    };
    if let Some(account) = store.accounts.iter_mut().find(|account| account.id == id) {
        account.link = Some(link.clone());
    }
    let url = format!("{}/link/{}", call.state.base(), link.token);
    (link, url)
}

fn callback(call: &Call<'_>, pointer: &str) -> Result<Option<String>, ApiError> {
    let url = call.optional(pointer);
    let valid = url.as_ref().is_none_or(|url| reqwest::Url::parse(url).is_ok());
    let name = pointer.trim_start_matches('/');
    valid
        .then_some(url)
        .ok_or_else(|| ApiError::bad_body(vec![format!("{name}: Invalid url")]))
}

/// Starts a connection by a link; `POST /connected_accounts/link` and the link of a session.
pub(crate) fn link(call: &Call<'_>, store: &mut Store, config: &str) -> Result<Value, ApiError> {
    let callback = callback(call, "/callback_url")?;
    let config = usable(store, config)?;
    let user_id = call.text("/user_id")?;
    let wish = Wish {
        user_id,
        alias: call.optional("/alias"),
        kind: call.optional("/experimental/account_type"),
        id: None,
    };
    let account = add(call.state, store, &config, wish)?;
    let (link, url) = open_link(call, store, &account.id, callback, false);
    Ok(json!({
        "link_token": link.token, "redirect_url": url, "expires_at": stamp(link.expires),
        "connected_account_id": account.id, "experimental": {"account_type": account.kind},
    }))
}

/// `POST /connected_accounts`: retired for managed OAuth, alive for everything else.
pub(super) fn create(call: &Call<'_>, store: &mut Store) -> Reply {
    let config = usable(store, &call.text("/auth_config/id")?)?;
    let oauth = config.scheme.contains("OAUTH");
    if config.managed && oauth {
        return Err(ApiError::retired());
    }
    let user_id = call.text("/connection/user_id")?;
    let target = callback(call, "/connection/callback_url")?.or(call.optional("/connection/redirect_uri"));
    let state = &call.body["connection"]["state"];
    let given = state["val"]
        .as_object()
        .or_else(|| call.body["connection"]["data"].as_object());
    let mut values = given.cloned().unwrap_or_default();
    let wished = values
        .remove("status")
        .and_then(|status| status.as_str().map(str::to_owned));
    let needed = call.state.catalog.toolkit(&config.toolkit);
    let needed = needed
        .map(|toolkit| user_fields(toolkit, &config.scheme))
        .unwrap_or_default();
    let missing: Vec<String> = needed.into_iter().filter(|name| !values.contains_key(name)).collect();
    if given.is_some() && !oauth && !missing.is_empty() && values.is_empty() {
        return Err(ApiError::missing_fields(&missing));
    }
    let wish = Wish {
        user_id,
        alias: call.optional("/connection/alias"),
        ..Wish::default()
    };
    let account = add(call.state, store, &config, wish)?;
    let ready = !oauth || wished.as_deref() == Some("ACTIVE");
    let url = if ready {
        for name in missing {
            values.insert(name, json!("abcdef-made-up"));
        }
        None
    } else {
        let (_, url) = open_link(call, store, &account.id, target.clone(), true);
        values.insert("redirectUrl".to_owned(), json!(url));
        if let Some(target) = target {
            values.insert("callback_url".to_owned(), json!(target));
        }
        Some(url)
    };
    if let Some(own) = store.accounts.iter_mut().find(|own| own.id == account.id) {
        own.values = values;
    }
    let status = if ready { "ACTIVE" } else { "INITIATED" };
    set_status(store, &account.id, status, None, call.state.now());
    let made = store
        .accounts
        .iter()
        .find(|own| own.id == account.id)
        .map(|own| render(store, own));
    let made = made.unwrap_or_default();
    Ok(Answer::new(
        201,
        json!({
            "id": account.id, "status": status, "connectionData": made["state"], "redirect_url": url, "redirect_uri": url,
            "deprecated": {"uuid": account.uuid, "authConfigUuid": config.uuid},
        }),
    ))
}

/// Does not refresh a token: it starts OAuth again.
pub(super) fn refresh(call: &Call<'_>, store: &mut Store, account: &Account) -> Reply {
    if !account.scheme.contains("OAUTH") {
        return Ok(Answer::ok(
            json!({"id": account.id, "status": account.status, "redirect_url": null}),
        ));
    }
    let target = call.query.get("redirect_url").map(str::to_owned);
    let target = target.or_else(|| call.optional("/redirect_url"));
    let target = target.or_else(|| account.link.as_ref().and_then(|link| link.callback.clone()));
    let (_, url) = open_link(call, store, &account.id, target, true);
    if let Some(own) = store.accounts.iter_mut().find(|own| own.id == account.id) {
        own.values.clear();
        own.values.insert("redirectUrl".to_owned(), json!(url));
    }
    set_status(store, &account.id, "INITIATED", None, call.state.now());
    Ok(Answer::ok(
        json!({"id": account.id, "status": "INITIATED", "redirect_url": url}),
    ))
}

/// Binds a verified callback to the user who is logged in.
pub(super) fn complete(call: &Call<'_>, store: &mut Store) -> Reply {
    let uri = call.text("/session_uri")?;
    let user = call.text("/user_id")?;
    let waits = |account: &&Account| {
        let session = account.link.as_ref().and_then(|link| link.session_uri.as_deref());
        account.status == "INITIATED" && session == Some(uri.as_str())
    };
    let account = store.accounts.iter().find(waits).cloned();
    let account = account.ok_or_else(|| ApiError::unknown_account(&uri))?;
    let now = call.state.now();
    if account.user_id != user {
        set_status(
            store,
            &account.id,
            "FAILED",
            Some("Identity of the user did not match"),
            now,
        );
        return Err(ApiError::bad_account(
            "The user does not match the one who started the connection",
        ));
    }
    set_status(store, &account.id, "ACTIVE", None, now);
    Ok(Answer::ok(
        json!({"connected_account_id": account.id, "toolkit_slug": account.toolkit}),
    ))
}
