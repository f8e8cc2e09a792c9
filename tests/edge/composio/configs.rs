//! Auth configs, toolkits and their tools.

use serde_json::{Value, json};

use super::*;
use crate::harness::Answer as _;

const CONFIGS: &str = "/api/v1/composio/auth-configs";
const SECRET: &str = "hush-hush-client-secret";

#[actix_web::test]
async fn auth_configs_are_written_by_superusers_and_never_show_credentials() {
    let (edge, sim) = simulated(|_| {}).await;
    let (ada, root) = (edge.login("ada").await, edge.superuser().await);
    let new = json!({"name": "Own app", "toolkit_slug": "github", "credentials":
        {"client_id": "Iv1.abc", "client_secret": SECRET, "oauth_redirect_uri": "https://x.example/cb"}});
    call(&edge, "POST", CONFIGS, &ada, Some(&new)).await.is(403);
    let reply = call(&edge, "POST", CONFIGS, &root, Some(&new)).await;
    let made = reply.expect(201);
    assert_eq!(
        (&made["type"], &made["toolkit"]["slug"], &made["name"], &made["status"]),
        (&json!("custom"), &json!("github"), &json!("Own app"), &json!("ENABLED"))
    );
    let id = made["id"].as_str().expect("an id").to_owned();
    let one = format!("{CONFIGS}/{id}");
    let change = json!({"name": "Renamed", "enabled": false, "credentials": {"client_secret": "hush...", "client_id": "Iv1.new"}});
    call(&edge, "PUT", &one, &ada, Some(&change)).await.is(403);
    sim.clear();
    let changed = call(&edge, "PUT", &one, &root, Some(&change)).await.expect(200);
    assert_eq!(
        (&changed["name"], &changed["status"]),
        (&json!("Renamed"), &json!("DISABLED"))
    );
    let patched: Vec<_> = sim.requests().into_iter().filter(|r| r.method == "PATCH").collect();
    assert_eq!(patched.len(), 2, "PUT is PATCH at composio");
    assert_eq!(
        patched[0].body["credentials"],
        json!({"client_id": "Iv1.new"}),
        "masked values stay"
    );
    assert!(patched[1].path.ends_with("/DISABLED"));

    let managed = json!({"name": "Theirs", "toolkit_slug": "slack"});
    let managed = call(&edge, "POST", CONFIGS, &root, Some(&managed)).await.expect(201);
    assert_eq!(
        (&managed["type"], &managed["is_composio_managed"]),
        (&json!("default"), &json!(true))
    );
    for (query, count) in [
        ("", 1),
        ("?show_disabled=true", 2),
        ("?toolkit_slug=github&show_disabled=true", 1),
        ("?toolkit_slug=github", 0),
        ("?is_composio_managed=false&show_disabled=true", 1),
    ] {
        let reply = call(&edge, "GET", &format!("{CONFIGS}{query}"), &ada, None).await;
        let page = reply.expect(200);
        assert_eq!(page["items"].as_array().map(Vec::len), Some(count), "{query}: {page}");
        for secret in [SECRET, "Iv1", "credentials"] {
            assert!(!reply.text().contains(secret), "{}", reply.text());
        }
    }
    let first = call(
        &edge,
        "GET",
        &format!("{CONFIGS}?show_disabled=true&limit=1"),
        &ada,
        None,
    )
    .await
    .expect(200);
    let cursor = first["next_cursor"].as_str().expect("a next page");
    let path = format!("{CONFIGS}?show_disabled=true&limit=1&cursor={cursor}");
    let second = call(&edge, "GET", &path, &ada, None).await.expect(200);
    assert_ne!(first["items"][0]["id"], second["items"][0]["id"]);
    assert_eq!(second["next_cursor"], Value::Null);

    call(&edge, "DELETE", &one, &ada, None).await.is(403);
    call(&edge, "DELETE", &one, &root, None).await.is(200);
    call(&edge, "GET", &one, &ada, None).await.is(404);
    call(&edge, "DELETE", &one, &root, None).await.is(404);
    call(&edge, "PUT", &one, &root, Some(&json!({"name": "x"})))
        .await
        .is(404);
    let nowhere = json!({"name": "x", "toolkit_slug": "nonsense"});
    call(&edge, "POST", CONFIGS, &root, Some(&nowhere)).await.is(404);
    edge.finish().await;
}

#[actix_web::test]
async fn toolkits_and_tools_are_asked_for_once() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    let list = async |query: &str| {
        let path = format!("/api/v1/composio/toolkits{query}");
        let all = call(&edge, "GET", &path, &ada, None).await.expect(200);
        all.as_array().expect("a list").clone()
    };
    let all = list("").await;
    let slugs: Vec<&str> = all.iter().filter_map(|toolkit| toolkit["slug"].as_str()).collect();
    for slug in ["github", "gmail", "slack", "googlecalendar", "notion"] {
        assert!(slugs.contains(&slug), "{slugs:?}");
    }
    assert_eq!(list("?limit=2").await.len(), 2);
    let found = list("?search=GIT").await;
    assert!(found.iter().any(|toolkit| toolkit["slug"] == "github") && found.len() < all.len());
    assert_eq!(list("?search=no-such-thing-at-all").await.len(), 0);

    let actions = async |slug: &str, query: &str| {
        let path = format!("/api/v1/composio/toolkits/{slug}/actions{query}");
        call(&edge, "GET", &path, &ada, None).await
    };
    let tools = actions("GitHub", "").await.expect(200);
    let named = |name: &str| {
        let all = tools.as_array().expect("a list").iter();
        all.clone().find(|tool| tool["name"] == name).cloned().expect(name)
    };
    let create = named("GITHUB_CREATE_ISSUE");
    assert_eq!(create["app_name"], "github");
    assert_eq!(create["parameters"]["required"], json!(["owner", "repo", "title"]));
    assert!(create["response"].is_object());
    assert_eq!(
        actions("github", "?limit=3").await.expect(200).as_array().map(Vec::len),
        Some(3)
    );
    actions("nonsense", "").await.is(404);
    actions("github", "?limit=0").await.is(422);
    actions("github", "?limit=1001").await.is(422);
    let asked = |part: &str, slug: Option<&str>| {
        let requests = sim.requests();
        let fits = |r: &&kronos_sim::RecordedRequest| {
            r.path.ends_with(part) && slug.is_none_or(|slug| r.query.get("toolkit_slug").is_some_and(|s| s == slug))
        };
        requests.iter().filter(fits).count()
    };
    assert_eq!((asked("/toolkits", None), asked("/tools", Some("github"))), (1, 1));
    edge.finish().await;
}
