//! `/toolkits`.

use serde_json::{Value, json};

use super::call::Call;
use super::catalog::{Auth, Category, Toolkit};
use super::error::{Answer, ApiError, Reply};
use super::page::{self, page, page_of_body};

/// When the catalogue was made.
const MADE_AT: &str = "2026-11-01T10:00:00.000Z";

pub(crate) fn route(call: &Call<'_>, rest: &[&str]) -> Reply {
    match (call.method, rest) {
        ("GET", []) => page(
            call,
            &list(call, |name| call.query.get(name).map(str::to_owned)),
            page::MAX,
        ),
        ("POST", ["multi"]) => {
            let filter = |name: &str| {
                let value = &call.body[name];
                value
                    .as_str()
                    .map(str::to_owned)
                    .or_else(|| value.as_bool().map(|flag| flag.to_string()))
            };
            page_of_body(call, &list(call, filter), page::MAX)
        }
        ("GET", ["categories"]) => page(call, &categories(call), page::MAX),
        ("GET", [slug]) => {
            let toolkit = call
                .state
                .catalog
                .toolkit(slug)
                .ok_or_else(|| ApiError::unknown_toolkit(slug))?;
            let version = toolkit.version(call.query.get("version"), super::call::Version::V31);
            let version = version.ok_or_else(|| ApiError::unknown_toolkit(slug))?;
            Ok(Answer::ok(whole(toolkit, version)))
        }
        _ => Err(call.no_route()),
    }
}

fn list(call: &Call<'_>, filter: impl Fn(&str) -> Option<String>) -> Vec<Value> {
    let category = filter("category");
    let managed = filter("managed_by").or_else(|| filter("type"));
    let search = filter("search").map(|text| text.to_lowercase());
    let wanted: Option<Vec<&str>> = call.body["toolkits"]
        .as_array()
        .map(|slugs| slugs.iter().filter_map(Value::as_str).collect());
    let mut found: Vec<&Toolkit> = call
        .state
        .catalog
        .toolkits
        .iter()
        .filter(|toolkit| {
            let fits = |text: &String| {
                let name = format!("{} {}", toolkit.slug, toolkit.name).to_lowercase();
                name.contains(text.as_str())
            };
            let categorized = |id: &String| {
                toolkit
                    .categories
                    .iter()
                    .any(|known| known.id == *id || known.name == *id)
            };
            let kept = match managed.as_deref() {
                Some("composio") => toolkit.auth.iter().any(|auth| auth.managed),
                Some("project") => false,
                Some(_) | None => true,
            };
            kept && category.as_ref().is_none_or(categorized)
                && search.as_ref().is_none_or(fits)
                && wanted
                    .as_ref()
                    .is_none_or(|slugs| slugs.contains(&toolkit.slug.as_str()))
        })
        .collect();
    if filter("sort_by").as_deref() == Some("alphabetically") {
        found.sort_by_key(|toolkit| toolkit.name.to_lowercase());
    }
    found.into_iter().map(item).collect()
}

fn categories(call: &Call<'_>) -> Vec<Value> {
    let all = call
        .state
        .catalog
        .toolkits
        .iter()
        .flat_map(|toolkit| &toolkit.categories);
    let mut all: Vec<&Category> = all.collect();
    all.sort_by_key(|category| &category.id);
    all.dedup_by_key(|category| &category.id);
    all.into_iter()
        .map(|category| json!({"id": category.id, "name": category.name}))
        .collect()
}

/// What both forms of a toolkit have in common.
fn meta(toolkit: &Toolkit, version: &str, categories: &[Value]) -> Value {
    let tools = toolkit.tools.iter().filter(|tool| tool.in_version(version)).count();
    json!({
        "app_url": toolkit.app_url, "categories": categories, "created_at": MADE_AT, "updated_at": MADE_AT,
        "description": toolkit.description, "logo": toolkit.logo(), "tools_count": tools,
        "triggers_count": toolkit.triggers.len(), "version": version,
    })
}

fn managed(toolkit: &Toolkit) -> Vec<&str> {
    let managed = toolkit.auth.iter().filter(|auth| auth.managed);
    managed.map(|auth| auth.mode.as_str()).collect()
}

fn item(toolkit: &Toolkit) -> Value {
    let categories = toolkit.categories.iter();
    let categories: Vec<Value> = categories.map(|own| json!({"id": own.id, "name": own.name})).collect();
    let schemes: Vec<&str> = toolkit.auth.iter().map(|auth| auth.mode.as_str()).collect();
    json!({
        "slug": toolkit.slug, "name": toolkit.name, "type": "native", "is_local_toolkit": false,
        "no_auth": toolkit.no_auth(), "auth_schemes": schemes, "composio_managed_auth_schemes": managed(toolkit),
        "deprecated": {"toolkitId": format!("tk-{}", toolkit.slug)},
        "meta": meta(toolkit, toolkit.newest(), &categories),
    })
}

/// The single form: what a developer and what a user enters, all versions.
fn whole(toolkit: &Toolkit, version: &str) -> Value {
    let categories = toolkit.categories.iter();
    let categories: Vec<Value> = categories
        .map(|own| json!({"slug": own.id, "name": own.name}))
        .collect();
    let modes: Vec<Value> = toolkit
        .auth
        .iter()
        .filter(|auth| auth.managed)
        .map(|auth| json!({"mode": auth.mode, "scopes": {"available": auth.scopes}}))
        .collect();
    let mut body = json!({
        "slug": toolkit.slug, "name": toolkit.name, "type": "native", "enabled": true, "is_local_toolkit": false,
        "composio_managed_auth": modes, "composio_managed_auth_schemes": managed(toolkit),
        "auth_config_details": toolkit.auth.iter().map(|auth| details(toolkit, auth)).collect::<Vec<_>>(),
        "deprecated": {"rawProxyInfoByAuthSchemes": [], "toolkitId": format!("tk-{}", toolkit.slug)},
        "meta": meta(toolkit, version, &categories),
    });
    body["meta"]["available_versions"] = json!(toolkit.versions);
    if let Some(url) = &toolkit.base_url {
        body["base_url"] = json!(url);
    }
    if let Some(user) = &toolkit.current_user {
        body["get_current_user_endpoint"] = json!(user.path);
        body["get_current_user_endpoint_method"] = json!("GET");
    }
    body
}

fn details(toolkit: &Toolkit, auth: &Auth) -> Value {
    let oauth = auth.mode.contains("OAUTH");
    let (required, optional) = if oauth {
        let mut scopes = field("scopes", false, false);
        scopes["default"] = json!(auth.scopes.join(","));
        (
            vec![field("client_id", true, false), field("client_secret", true, true)],
            vec![scopes],
        )
    } else {
        (Vec::new(), Vec::new())
    };
    let entered: Vec<Value> = auth.user_fields.iter().map(|name| field(name, true, true)).collect();
    json!({
        "mode": auth.mode, "name": format!("{}_{}", toolkit.slug, auth.mode.to_lowercase()), "required_scopes": [],
        "fields": {"auth_config_creation": {"required": required, "optional": optional},
                   "connected_account_initiation": {"required": entered, "optional": []}},
    })
}

/// One field that somebody has to fill in.
pub(crate) fn field(name: &str, required: bool, secret: bool) -> Value {
    let words = name.replace('_', " ");
    let mut shown = words.clone();
    if let Some(first) = shown.get_mut(0..1) {
        first.make_ascii_uppercase();
    }
    json!({
        "name": name, "displayName": shown, "description": format!("The {words}."), "type": "string",
        "required": required, "is_secret": secret, "user_visible": true,
    })
}
