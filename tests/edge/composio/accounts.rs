//! Accounts: whose they are, and what their user may do with them.

use kronos_actors::config::StoreBackend;
use serde_json::{Value, json};

use super::*;
use crate::harness::Answer as _;

#[actix_web::test]
async fn what_is_somebody_elses_is_not_there() {
    let (edge, sim) = simulated(|_| {}).await;
    let (ada, eve, root) = (edge.login("ada").await, edge.login("eve").await, edge.superuser().await);
    let (ada_id, eve_id) = (id_of(&edge, &ada).await, id_of(&edge, &eve).await);
    let (made_here, page) = initiate(&edge, &ada, json!({"provider": "github"})).await;
    decide(&page, "approve").await;
    let made_elsewhere = connected(&edge, &sim, &ada, "slack").await;
    for id in [&made_here, &made_elsewhere] {
        sim.clear();
        let writes = |requests: Vec<kronos_sim::RecordedRequest>| {
            requests.iter().filter(|request| request.method != "GET").count()
        };
        for (method, rest) in [
            ("GET", format!("account/{id}")),
            ("POST", format!("{id}/enable")),
            ("POST", format!("{id}/disable")),
            ("POST", format!("{id}/refresh")),
            ("DELETE", id.clone()),
        ] {
            let path = connection(&rest);
            let reply = call(&edge, method, &path, &eve, None).await;
            reply.is(404);
            assert_eq!(reply.json()["error"]["details"]["identifier"], json!(id));
            // Nor by saying that she is ada.
            let claimed = format!("{path}?user_id={ada_id}");
            call(&edge, method, &claimed, &eve, None).await.is(403);
        }
        let body = json!({"action_name": "SLACK_LIST_ALL_CHANNELS", "params": {}, "connected_account_id": id});
        call(&edge, "POST", EXECUTE, &eve, Some(&body)).await.is(404);
        let mut claimed = body.clone();
        claimed["user_id"] = json!(ada_id);
        call(&edge, "POST", EXECUTE, &eve, Some(&claimed)).await.is(403);
        assert_eq!(writes(sim.requests()), 0, "composio is not asked to do any of it");
        assert_eq!(sim.status(id).as_deref(), Some("ACTIVE"));
    }
    call(&edge, "GET", &connection(&ada_id), &eve, None).await.is(403);
    let own = call(&edge, "GET", &connection(&eve_id), &eve, None).await.expect(200);
    assert_eq!(own, json!([]));
    for (path, body) in [
        ("initiate", json!({"provider": "github", "user_id": ada_id})),
        ("initiate-enhanced", json!({"app_name": "github", "user_id": ada_id})),
    ] {
        call(&edge, "POST", &connection(path), &eve, Some(&body)).await.is(403);
    }
    // Without an account of her own a tool is not called with his.
    let done = execute(&edge, &eve, "SLACK_LIST_ALL_CHANNELS", json!({})).await;
    assert_eq!(
        (&done["success"], &done["code"]),
        (&json!(false), &json!("not_connected"))
    );
    // A superuser may act for others.
    let listed = call(&edge, "GET", &connection(&ada_id), &root, None).await.expect(200);
    assert_eq!(listed.as_array().map(Vec::len), Some(2));
    let path = format!("{}?user_id={ada_id}", connection(&format!("{made_here}/disable")));
    assert_eq!(
        call(&edge, "POST", &path, &root, None).await.expect(200)["status"],
        "INACTIVE"
    );
    edge.finish().await;
}

#[actix_web::test]
async fn every_list_asks_for_one_user_and_believes_only_its_own_table() {
    let (edge, sim) = simulated(|_| {}).await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let ada_id = id_of(&edge, &ada).await;
    let id = connected(&edge, &sim, &ada, "github").await;
    let listed = call(&edge, "GET", &connection(&ada_id), &ada, None).await.expect(200);
    assert_eq!(listed[0]["account_id"], json!(id));
    for request in sim.requests() {
        if request.path.ends_with("/connected_accounts") {
            assert_eq!(request.query.get("user_ids"), Some(&ada_id));
        }
    }
    // Composio overlooks the filter, and does not say whose they are.
    let account = json!({"id": id, "status": "ACTIVE", "status_reason": null, "toolkit": {"slug": "github"},
        "auth_config": {"id": "ac_1"}});
    let page = json!({"items": [account], "next_cursor": null, "total_items": 1});
    let overlooked = || kronos_sim::ComposioScript::error(200, Some(page.clone())).at("/connected_accounts");
    sim.script(vec![overlooked()]);
    let eve_id = id_of(&edge, &eve).await;
    let listed = call(&edge, "GET", &connection(&eve_id), &eve, None).await.expect(200);
    assert_eq!(listed, json!([]), "it is ada's here");
    edge.finish().await;
}

#[actix_web::test]
async fn an_account_is_turned_off_and_on() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    let mut feed = feed(&edge, &ada).await;
    let id = connected(&edge, &sim, &ada, "github").await;
    let turn = async |word: &str| call(&edge, "POST", &connection(&format!("{id}/{word}")), &ada, None).await;
    assert_eq!(turn("enable").await.expect(200)["status"], "ACTIVE", "it is");
    assert_eq!(turn("disable").await.expect(200)["status"], "INACTIVE");
    assert_eq!(changed(&mut feed).await["status"], "INACTIVE");
    assert_eq!(turn("disable").await.expect(200)["status"], "INACTIVE");
    let issues = json!({"owner": "octocat", "repo": "hello-world"});
    let done = execute(&edge, &ada, "GITHUB_LIST_REPOSITORY_ISSUES", issues.clone()).await;
    assert_eq!(done["code"], "not_connected");
    assert_eq!(turn("enable").await.expect(200)["status"], "ACTIVE");
    assert_eq!(changed(&mut feed).await["status"], "ACTIVE");
    let done = execute(&edge, &ada, "GITHUB_LIST_REPOSITORY_ISSUES", issues).await;
    assert_eq!(done["success"], true, "{done}");
    // What only its user can mend is not turned on.
    assert!(sim.set_status(&id, "EXPIRED"));
    let refused = turn("enable").await.expect(409);
    assert_eq!(refused["error"]["code"], "CONFLICT");
    turn("disable").await.is(409);
    edge.finish().await;
}

#[actix_web::test]
async fn a_refresh_asks_nobody_for_anything_unless_it_must() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    let id = connected(&edge, &sim, &ada, "github").await;
    let path = connection(&format!("{id}/refresh"));
    let looked = call(&edge, "POST", &path, &ada, None).await.expect(200);
    assert_eq!(
        (&looked["status"], &looked["redirect_url"]),
        (&json!("ACTIVE"), &Value::Null)
    );
    assert!(sim.requests().iter().all(|request| request.method == "GET"));

    let mut feed = feed(&edge, &ada).await;
    assert!(sim.set_status(&id, "EXPIRED"));
    let anew = call(&edge, "POST", &path, &ada, None).await.expect(200);
    assert_eq!(anew["status"], "EXPIRED");
    assert_eq!(changed(&mut feed).await["status"], "EXPIRED");
    let new = anew["connection_id"].as_str().expect("a connection").to_owned();
    decide(anew["redirect_url"].as_str().expect("a page"), "approve").await;
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let change = changed(&mut feed).await;
        seen.push((change["connectionId"].clone(), change["status"].clone()));
    }
    assert_eq!(seen, [(json!(new), json!("ACTIVE")), (json!(id), json!("DELETED"))]);
    assert_eq!(sim.status(&id), None, "the new one takes its place");
    edge.finish().await;
}

#[actix_web::test]
async fn a_deleted_account_is_gone_for_good_also_when_composio_had_lost_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let backend = StoreBackend::Sled(dir.path().to_owned());
    let (edge, sim) = simulated(|config| config.store.backend = backend).await;
    let ada = edge.login("ada").await;
    let (id, _page) = initiate(&edge, &ada, json!({"provider": "github"})).await;
    call(&edge, "DELETE", &connection(&id), &ada, None).await.is(200);
    assert_eq!(sim.status(&id), None);
    call(&edge, "DELETE", &connection(&id), &ada, None).await.is(404);
    let lost = connected(&edge, &sim, &ada, "github").await;
    call(&edge, "GET", &connection(&format!("account/{lost}")), &ada, None)
        .await
        .is(200);
    sim.script(vec![
        kronos_sim::ComposioScript::fault("404").at("/connected_accounts/"),
    ]);
    call(&edge, "DELETE", &connection(&lost), &ada, None).await.is(200);
    edge.finish().await;
}

#[actix_web::test]
async fn ids_that_are_none_never_reach_composio() {
    let (edge, sim) = simulated(|_| {}).await;
    let ada = edge.login("ada").await;
    for odd in ["..%2Fx", "a%20b", "a%3Fb", &"a".repeat(101)] {
        for path in [
            connection(&format!("account/{odd}")),
            format!("/api/v1/composio/auth-configs/{odd}"),
            format!("/api/v1/composio/toolkits/{odd}/actions"),
        ] {
            call(&edge, "GET", &path, &ada, None).await.is(422);
        }
    }
    assert!(sim.requests().is_empty());
    let long = "a".repeat(100);
    call(&edge, "GET", &connection(&format!("account/{long}")), &ada, None)
        .await
        .is(404);
    edge.finish().await;
}
