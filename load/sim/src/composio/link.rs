//! The page behind a link, on which a user allows or refuses a connection. Works without scripts.

use actix_web::http::header;
use actix_web::{HttpResponse, web};
use reqwest::Url;

use super::accounts::{self, Account};
use super::auth_configs::user_fields;
use super::state::{State, Store};

const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'";

/// Shows the page; opening it moves the account to INITIATED.
pub(crate) async fn show(state: web::Data<State>, token: web::Path<String>) -> HttpResponse {
    let mut store = state.store();
    accounts::expire_links(&mut store, state.now());
    let Some(at) = waiting(&store, &token) else {
        return over();
    };
    let Some(account) = store.accounts.get_mut(at) else {
        return over();
    };
    if account.status == "INITIALIZING" {
        "INITIATED".clone_into(&mut account.status);
        account.updated = state.now();
    }
    let account = account.clone();
    form(&state, &account, "")
}

/// Takes the decision and sends the browser back.
pub(crate) async fn decide(
    state: web::Data<State>,
    token: web::Path<String>,
    form: web::Form<Vec<(String, String)>>,
) -> HttpResponse {
    let mut store = state.store();
    let now = state.now();
    accounts::expire_links(&mut store, now);
    let Some(account) = waiting(&store, &token).and_then(|at| store.accounts.get(at)).cloned() else {
        return over();
    };
    let given = |name: &str| {
        let mut fields = form.iter().filter(|(key, _)| key == name);
        fields
            .next()
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    };
    if given("decision") != Some("approve") {
        accounts::set_status(&mut store, &account.id, "FAILED", Some("denied"), now);
        return back(&account, "failed");
    }
    let fields = fields(&state, &account);
    if fields.iter().any(|name| given(name).is_none()) {
        return self::form(&state, &account, "Please fill in all fields.");
    }
    let session = store.ids.id("sess");
    if let Some(own) = store.accounts.iter_mut().find(|own| own.id == account.id) {
        for name in &fields {
            own.values.insert(name.clone(), given(name).into());
        }
        if let Some(link) = own.link.as_mut().filter(|_| state.config().verify_callbacks) {
            "INITIATED".clone_into(&mut own.status);
            link.session_uri = Some(session.clone());
            return redirect(&account, &[("session_uri", &session)]);
        }
    }
    accounts::set_status(&mut store, &account.id, "ACTIVE", None, now);
    back(&account, "success")
}

/// Finds the account whose link still waits for a decision.
fn waiting(store: &Store, token: &str) -> Option<usize> {
    store.accounts.iter().position(|account| {
        let pending = matches!(account.status.as_str(), "INITIALIZING" | "INITIATED");
        let link = account.link.as_ref().filter(|link| link.token == token);
        pending && link.is_some_and(|link| link.session_uri.is_none())
    })
}

fn fields(state: &State, account: &Account) -> Vec<String> {
    let toolkit = state.catalog.toolkit(&account.toolkit);
    toolkit
        .map(|toolkit| user_fields(toolkit, &account.scheme))
        .unwrap_or_default()
}

fn form(state: &State, account: &Account, message: &str) -> HttpResponse {
    let toolkit = state
        .catalog
        .toolkit(&account.toolkit)
        .map_or("", |toolkit| toolkit.name.as_str());
    let inputs = fields(state, account).into_iter().map(|name| {
        let name = escape(&name);
        format!("<p><label>{name} <input name=\"{name}\" autocomplete=\"off\"></label></p>")
    });
    let inputs: String = inputs.collect();
    let body = format!(
        "<h1>Connect {name}</h1><p>The application wants to use {name} for <b>{user}</b>.</p><p>{message}</p>\
         <form method=\"post\">{inputs}<button id=\"approve\" name=\"decision\" value=\"approve\">Approve</button> \
         <button id=\"deny\" name=\"decision\" value=\"deny\">Deny</button></form>",
        name = escape(toolkit),
        user = escape(&account.user_id),
    );
    html(200, &format!("Connect {}", escape(toolkit)), &body)
}

fn over() -> HttpResponse {
    let text = "<h1>This link is no longer valid</h1><p>It was used or has expired. Please start again.</p>";
    html(410, "Link expired", text)
}

/// Sends the browser to the callback with what became of it, or shows that itself.
fn back(account: &Account, status: &str) -> HttpResponse {
    let camel = account.link.as_ref().is_some_and(|link| link.camel);
    if camel {
        let pairs = [
            ("status", status),
            ("connectedAccountId", &account.id),
            ("appName", &account.toolkit),
        ];
        redirect(account, &pairs)
    } else {
        redirect(account, &[("status", status), ("connected_account_id", &account.id)])
    }
}

fn redirect(account: &Account, pairs: &[(&str, &str)]) -> HttpResponse {
    let target = account.link.as_ref().and_then(|link| link.callback.as_deref());
    let Some(mut url) = target.and_then(|target| Url::parse(target).ok()) else {
        let failed = pairs.contains(&("status", "failed"));
        let word = if failed { "failed" } else { "succeeded" };
        return html(
            200,
            "Connection",
            &format!("<h1>The connection {word}</h1><p>You may close this page.</p>"),
        );
    };
    url.query_pairs_mut().extend_pairs(pairs);
    HttpResponse::SeeOther()
        .insert_header((header::LOCATION, url.as_str()))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .finish()
}

fn html(status: u16, title: &str, body: &str) -> HttpResponse {
    crate::error::response(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .body(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\
             <style>body{{font:16px sans-serif;max-width:32rem;margin:4rem auto}}</style>{body}</html>"
        ))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}
