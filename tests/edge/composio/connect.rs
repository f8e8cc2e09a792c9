//! Connecting an account: from the link to the feed.

use std::time::Duration;

use kronos::config::{AuthMode, Environment};
use kronos_actors::config::StoreBackend;
use kronos_sim::{ComposioScript, ComposioSim, ComposioSimConfig};
use kronos_testkit::{ConnectOptions, eventually};
use serde_json::{Value, json};

use super::*;
use crate::harness::Answer as _;

#[actix_web::test]
async fn the_whole_flow_works_as_the_guide_has_it() {
    let (edge, sim) = simulated(|config| config.auth.mode = AuthMode::Development).await;
    let mut feed = Feed::on(&edge, ConnectOptions::user("test-user")).await;
    let body = json!({"user_id": "test-user", "provider": "github"});
    let begun = edge.post(&connection("initiate"), None, body).await.expect(200);
    let id = begun["connection_id"].as_str().expect("an id").to_owned();
    let page = begun["redirect_url"].as_str().expect("a page");
    assert!(begun["expires_at"].is_string());

    let back = decide(page, "approve").await.expect("the browser comes back");
    assert!(
        back.starts_with(&format!("http://{}/api/v1/composio/callback?", edge.addr)),
        "{back}"
    );
    let shown = browse(&back, None).await;
    assert_eq!(shown.status, 200);
    assert!(shown.text.contains("You may close this window") && shown.text.contains("Connected"));
    assert!(shown.policy.contains("default-src 'none'") && !shown.text.contains("<script"));
    let change = changed(&mut feed).await;
    assert_eq!(
        change,
        json!({"connectionId": id, "toolkit": "github", "status": "ACTIVE", "change": 1})
    );

    let listed = edge.get(&connection("test-user"), None).await.expect(200);
    assert_eq!(
        (&listed[0]["account_id"], &listed[0]["status"], &listed[0]["provider"]),
        (&json!(id), &json!("ACTIVE"), &json!("github"))
    );
    let body = json!({"user_id": "test-user", "action_name": "github_create_issue",
        "params": {"owner": "octocat", "repo": "hello-world", "title": "It works"}});
    let done = edge.post(EXECUTE, None, body).await.expect(200);
    assert_eq!(
        (&done["success"], &done["data"]["title"]),
        (&json!(true), &json!("It works"))
    );
    let effects = sim.effects();
    assert_eq!((effects.len(), effects[0].count), (1, 1));
    assert_eq!(effects[0].connected_account_id.as_deref(), Some(id.as_str()));
    let path = format!("{}?user_id=test-user", connection(&id));
    let gone = edge.call("DELETE", &path, &[], None).await.expect(200);
    assert_eq!(gone["success"], true);
    assert_eq!(changed(&mut feed).await["status"], "DELETED");
    edge.finish().await;
}

#[actix_web::test]
async fn polling_alone_notices_and_the_change_is_told_once() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    let mut first = feed(&edge, &ada).await;
    let (id, page) = initiate(&edge, &ada, json!({"provider": "slack"})).await;
    // The browser never comes back.
    decide(&page, "approve").await;
    assert_eq!(changed(&mut first).await["status"], "ACTIVE");
    // A late browser, and others who ask: nothing is told again.
    let back = format!(
        "http://{}/api/v1/composio/callback?connected_account_id={id}",
        edge.addr
    );
    browse(&back, None).await;
    let shown = connection(&format!("account/{id}"));
    assert_eq!(
        call(&edge, "GET", &shown, &ada, None).await.expect(200)["status"],
        "ACTIVE"
    );
    assert!(sim.set_status(&id, "REVOKED"));
    call(&edge, "GET", &shown, &ada, None).await.is(200);
    let next = changed(&mut first).await;
    assert_eq!((&next["status"], &next["change"]), (&json!("REVOKED"), &json!(2)));
    // The feed is durable: who comes later reads the same.
    let mut second = feed(&edge, &ada).await;
    let states = [changed(&mut second).await, changed(&mut second).await];
    assert_eq!(
        states.map(|value| value["status"].clone()),
        [json!("ACTIVE"), json!("REVOKED")]
    );
    edge.finish().await;
}

#[actix_web::test]
async fn a_refusal_ends_the_wait_with_a_reason() {
    let (edge, _sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    let mut feed = feed(&edge, &ada).await;
    let (id, page) = initiate(&edge, &ada, json!({"provider": "github"})).await;
    let back = decide(&page, "deny").await.expect("the browser comes back");
    assert!(browse(&back, None).await.text.contains("was not connected"));
    let change = changed(&mut feed).await;
    assert_eq!(
        (&change["connectionId"], &change["status"]),
        (&json!(id), &json!("FAILED"))
    );
    assert!(change["reason"].is_string(), "{change}");
    edge.finish().await;
}

#[actix_web::test]
async fn a_browser_goes_on_to_the_place_of_the_client_if_its_host_is_allowed() {
    let (edge, _sim) = simulated(|config| {
        config.server.environment = Environment::Production;
        config.composio.redirect_hosts = vec!["app.example.com".to_owned()];
    })
    .await;
    let ada = edge.login("ada").await;
    for bad in [
        "https://evil.example/x",
        "http://localhost:3000/x",
        "javascript:alert(1)",
        "app.example.com",
    ] {
        for (path, field, name) in [
            ("initiate", "callback_url", "provider"),
            ("initiate-enhanced", "redirect_url", "app_name"),
        ] {
            let body = json!({name: "github", field: bad});
            let refused = call(&edge, "POST", &connection(path), &ada, Some(&body))
                .await
                .expect(422);
            assert_eq!(
                refused["error"]["details"]["errors"][0]["field"],
                format!("body.{field}")
            );
        }
    }
    let place = "https://app.example.com/done?keep=1";
    let (id, page) = initiate(&edge, &ada, json!({"provider": "github", "callback_url": place})).await;
    let back = decide(&page, "approve").await.expect("the browser comes back");
    let on = browse(&back, None).await;
    let to = format!("{place}&status=success&connected_account_id={id}");
    assert_eq!((on.status, on.location.as_deref()), (303, Some(to.as_str())));
    edge.finish().await;
}

#[actix_web::test]
async fn what_a_browser_brings_proves_nothing() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    let (id, _page) = initiate(&edge, &ada, json!({"provider": "github"})).await;
    let back = |query: &str| format!("http://{}/api/v1/composio/callback{query}", edge.addr);
    let claimed = browse(&back(&format!("?status=success&connected_account_id={id}")), None).await;
    assert!(claimed.text.contains("being made"), "{}", claimed.text);
    let listed = call(&edge, "GET", &connection(&id_of(&edge, &ada).await), &ada, None)
        .await
        .expect(200);
    assert_ne!(listed[0]["status"], "ACTIVE");
    sim.clear();
    for query in [
        "",
        "?connected_account_id=",
        "?connected_account_id=ca_nobody",
        "?connectedAccountId=..%2F..%2Fx",
        "?session_uri=sess_1",
        "?connected_account_id=%3Cscript%3E",
    ] {
        let shown = browse(&back(query), None).await;
        assert_eq!(shown.status, 200);
        assert!(
            shown.text.contains("knows no such connection") && !shown.text.contains("script"),
            "{query}"
        );
    }
    let asked = sim.requests();
    assert!(
        asked.iter().all(|request| request.path.ends_with(&id)),
        "nobody is asked about what nobody knows"
    );
    edge.finish().await;
}

#[actix_web::test]
async fn who_does_not_come_is_told_and_may_come_still() {
    let (edge, _sim) = simulated(|config| config.composio.connection_timeout = Duration::from_millis(1)).await;
    let ada = edge.login("ada").await;
    let mut feed = feed(&edge, &ada).await;
    let (id, page) = initiate(&edge, &ada, json!({"provider": "github"})).await;
    let late = changed(&mut feed).await;
    assert_eq!(
        (&late["connectionId"], &late["status"]),
        (&json!(id), &json!("TIMED_OUT"))
    );
    assert!(late["reason"].is_string());
    let back = decide(&page, "approve").await.expect("the link works still");
    browse(&back, None).await;
    assert_eq!(changed(&mut feed).await["status"], "ACTIVE");
    edge.finish().await;
}

#[actix_web::test]
async fn a_link_that_lapses_ends_the_wait() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    let mut feed = feed(&edge, &ada).await;
    let (id, page) = initiate(&edge, &ada, json!({"provider": "github"})).await;
    sim.advance(700_000);
    let change = changed(&mut feed).await;
    assert_eq!(
        (&change["connectionId"], &change["status"]),
        (&json!(id), &json!("EXPIRED"))
    );
    assert_eq!(browse(&page, None).await.status, 410);
    edge.finish().await;
}

#[actix_web::test]
async fn connections_in_the_making_have_their_bounds() {
    let (edge, _sim) = simulated(|config| {
        config.composio.max_pending_per_user = 2;
        config.composio.max_pending = 3;
    })
    .await;
    let (ada, eve, bob) = (
        edge.login("ada").await,
        edge.login("eve").await,
        edge.login("bob").await,
    );
    let ask = async |pair: &Pair| {
        let body = json!({"provider": "github"});
        call(&edge, "POST", &connection("initiate"), pair, Some(&body)).await
    };
    let first = ask(&ada).await.expect(200);
    ask(&ada).await.is(200);
    let refused = ask(&ada).await;
    refused.is(429);
    assert!(refused.header("retry-after").is_some());
    ask(&eve).await.is(200);
    ask(&bob).await.is(429);
    // One that is over makes room.
    let id = first["connection_id"].as_str().expect("an id");
    call(&edge, "DELETE", &connection(id), &ada, None).await.is(200);
    eventually(LIMIT, "there is room again", || async { ask(&bob).await.status == 200 }).await;
    edge.finish().await;
}

#[actix_web::test]
async fn a_restart_loses_no_connection() {
    let sim = ComposioSim::start(ComposioSimConfig::default()).expect("the simulator starts");
    let dir = tempfile::tempdir().expect("a folder");
    let backend = StoreBackend::Sled(dir.path().to_owned());
    let edge = over(&sim, |config| config.store.backend = backend.clone()).await;
    let ada = edge.login("ada").await;
    let (id, page) = initiate(&edge, &ada, json!({"provider": "github"})).await;
    edge.finish().await;
    // Meanwhile, its user connects.
    decide(&page, "approve").await;
    let edge = eventually_over(&sim, &backend).await;
    let mut feed = feed(&edge, &ada).await;
    let change = changed(&mut feed).await;
    assert_eq!(
        (&change["connectionId"], &change["status"]),
        (&json!(id), &json!("ACTIVE"))
    );
    edge.finish().await;
}

/// The same server again.
async fn eventually_over(sim: &ComposioHandle, backend: &StoreBackend) -> Edge {
    over(sim, |config| config.store.backend = backend.clone()).await
}

#[actix_web::test]
async fn a_toolkit_needs_an_auth_config_and_gets_one_of_composios_own() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    initiate(&edge, &ada, json!({"provider": "GitHub"})).await;
    initiate(&edge, &ada, json!({"provider": "github"})).await;
    let made = |requests: Vec<kronos_sim::RecordedRequest>| {
        let made = |r: &&kronos_sim::RecordedRequest| r.method == "POST" && r.path.ends_with("/auth_configs");
        requests.iter().filter(made).count()
    };
    assert_eq!(made(sim.requests()), 1, "the second uses the first one's");
    for (provider, status) in [("hackernews", 422), ("nonsense", 404)] {
        let body = json!({"provider": provider});
        call(&edge, "POST", &connection("initiate"), &ada, Some(&body))
            .await
            .is(status);
    }
    // One that is named: of this toolkit, enabled.
    let configs = call(&edge, "GET", "/api/v1/composio/auth-configs", &ada, None)
        .await
        .expect(200);
    let config = configs["items"][0]["id"].as_str().expect("an id");
    initiate(&edge, &ada, json!({"provider": config})).await;
    let body = json!({"app_name": "github", "auth_config_id": config, "labels": ["work"]});
    let path = connection("initiate-enhanced");
    let begun = call(&edge, "POST", &path, &ada, Some(&body)).await.expect(200);
    let shown = connection(&format!("account/{}", begun["connection_id"].as_str().expect("an id")));
    assert_eq!(
        call(&edge, "GET", &shown, &ada, None).await.expect(200)["labels"],
        json!(["work"])
    );
    let body = json!({"app_name": "slack", "auth_config_id": config});
    call(&edge, "POST", &path, &ada, Some(&body)).await.is(409);
    let body = json!({"app_name": "github", "auth_config_id": "ac_nobody"});
    call(&edge, "POST", &path, &ada, Some(&body)).await.is(404);
    edge.finish().await;
}

#[actix_web::test]
async fn a_deleted_user_is_forgotten_even_after_an_outage() {
    let (edge, sim) = simulated(|config| config.composio.breaker_failures = 1000).await;
    let (ada, eve, root) = (edge.login("ada").await, edge.login("eve").await, edge.superuser().await);
    let ada_id = id_of(&edge, &ada).await;
    let (id, _page) = initiate(&edge, &ada, json!({"provider": "github"})).await;
    let elsewhere = connected(&edge, &sim, &ada, "slack").await;
    let of_eve = connected(&edge, &sim, &eve, "slack").await;
    // All attempts of the first try.
    sim.script(vec![ComposioScript::fault("503").at("/connected_accounts").times(3)]);
    let path = format!("/api/v1/users/{ada_id}");
    call(&edge, "DELETE", &path, &root, None).await.is(204);
    eventually(Duration::from_secs(25), "nothing of the user is left", || async {
        let left = [&id, &elsewhere].map(|id| sim.status(id));
        if left == [None, None] { Ok(()) } else { Err(left) }
    })
    .await;
    assert_eq!(sim.status(&of_eve).as_deref(), Some("ACTIVE"));
    edge.finish().await;
}

#[actix_web::test]
async fn without_a_key_every_route_names_the_setting() {
    let edge = Edge::start().await;
    let ada = edge.login("ada").await;
    let health = call(&edge, "GET", "/api/v1/composio/health", &ada, None)
        .await
        .expect(200);
    assert_eq!(health["configured"], false);
    let ada_id = id_of(&edge, &ada).await;
    for (method, path, body) in [
        ("POST", connection("initiate"), Some(json!({"provider": "github"}))),
        (
            "POST",
            connection("initiate-enhanced"),
            Some(json!({"app_name": "github"})),
        ),
        ("GET", connection(&ada_id), None),
        ("GET", connection("account/ca_1"), None),
        ("POST", connection("ca_1/enable"), None),
        ("POST", connection("ca_1/disable"), None),
        ("POST", connection("ca_1/refresh"), None),
        ("DELETE", connection("ca_1"), None),
        (
            "POST",
            EXECUTE.to_owned(),
            Some(json!({"action_name": "X_Y", "params": {}})),
        ),
        ("GET", "/api/v1/composio/auth-configs".to_owned(), None),
        ("GET", "/api/v1/composio/auth-configs/ac_1".to_owned(), None),
        ("GET", "/api/v1/composio/toolkits".to_owned(), None),
        ("GET", "/api/v1/composio/toolkits/gmail/actions".to_owned(), None),
    ] {
        let reply = call(&edge, method, &path, &ada, body.as_ref()).await;
        let error: Value = reply.expect(503);
        assert_eq!(error["error"]["code"], "CONFIGURATION_ERROR", "{method} {path}");
        assert_eq!(error["error"]["details"], json!({"config_key": "COMPOSIO_API_KEY"}));
        assert_eq!(reply.header("retry-after"), None, "no use in trying again");
    }
    let reply = edge.post("/api/v1/composio/webhook", None, json!({})).await.expect(503);
    assert_eq!(
        reply["error"]["details"],
        json!({"config_key": "COMPOSIO_WEBHOOK_SECRET"})
    );
    edge.finish().await;
}
