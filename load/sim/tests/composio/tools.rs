//! Tools and lists: whose account it is, what is found again, effects.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::harness::{ISSUE, call, client, counts, execute, get, issue, start};

#[tokio::test]
async fn what_a_tool_makes_is_found_again() {
    let sim = start(|_| {});
    sim.connect("anna", "github").unwrap();
    sim.connect("anna", "gmail").unwrap();
    sim.connect("ben", "gmail").unwrap();
    let (_, made) = execute(&sim, ISSUE, "k1", &issue("A title")).await;
    assert_eq!(
        (&made["successful"], &made["error"], &made["data"]["number"]),
        (&json!(true), &Value::Null, &json!(1))
    );
    let place = json!({"user_id": "anna", "arguments": {"owner": "Octocat", "repo": "notes"}});
    let (_, listed) = execute(&sim, "GITHUB_LIST_REPOSITORY_ISSUES", "k2", &place).await;
    assert_eq!(listed["data"]["issues"][0]["title"], "A title");
    let close = json!({"user_id": "anna", "arguments": {"owner": "octocat", "repo": "notes", "issue_number": 1, "state": "closed"}});
    execute(&sim, "GITHUB_UPDATE_AN_ISSUE", "k3", &close).await;
    let (_, listed) = execute(&sim, "GITHUB_LIST_REPOSITORY_ISSUES", "k4", &place).await;
    assert_eq!(listed["data"]["issues"], json!([]), "only open issues are listed");
    let mail = json!({"user_id": "anna", "arguments": {"recipient_email": "cleo@example.com", "subject": "Otters", "body": "x"}});
    execute(&sim, "GMAIL_SEND_EMAIL", "k5", &mail).await;
    for (user, found) in [("anna", 1), ("ben", 0)] {
        let search = json!({"user_id": user, "arguments": {"query": "subject:otters"}});
        let (_, mails) = execute(&sim, "GMAIL_FETCH_EMAILS", "k6", &search).await;
        assert_eq!(
            mails["data"]["messages"].as_array().map(Vec::len),
            Some(found),
            "{user}"
        );
    }
    let expected = ["k1", "k3", "k5"].map(|key| (key.to_owned(), 1));
    assert_eq!(counts(&sim), expected, "reading is no effect");
}

#[tokio::test]
async fn an_effect_is_counted_under_its_key_each_time() {
    let sim = start(|_| {});
    let account = sim.connect("anna", "github").unwrap();
    for _ in 0..2 {
        execute(&sim, ISSUE, "same", &issue("Twice")).await;
    }
    let url = format!("{}/api/v3.1/tools/execute/{ISSUE}", sim.url());
    for id in [Some("request-7"), None] {
        let mut request = client()
            .post(&url)
            .header("x-api-key", "ak_test")
            .body(issue("x").to_string());
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    let keys: Vec<_> = counts(&sim);
    assert_eq!(keys[..2], [("same".to_owned(), 2), ("request-7".to_owned(), 1)]);
    assert!(keys[2].0.starts_with("made-up-"), "{keys:?}");
    let first = &sim.effects()[0];
    assert_eq!((first.tool.as_str(), first.user_id.as_str()), (ISSUE, "anna"));
    assert_eq!(first.connected_account_id.as_ref(), Some(&account));
    assert_eq!(first.arguments["title"], "Twice");
    let seen: Value = client()
        .get(format!("{}/sim/effects", sim.url()))
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(seen[0]["count"], 2);
    client()
        .delete(format!("{}/sim/effects", sim.url()))
        .send()
        .await
        .unwrap();
    assert_eq!(counts(&sim), []);
}

#[tokio::test]
async fn nobody_acts_with_the_account_of_another() {
    let sim = start(|_| {});
    let account = sim.connect("anna", "github").unwrap();
    let mut body = issue("x");
    body["connected_account_id"] = json!(account);
    body["user_id"] = json!("ben");
    let (status, answer) = execute(&sim, ISSUE, "k", &body).await;
    assert_eq!((status, &answer["error"]["code"]), (400, &json!(1812)));
    body["connected_account_id"] = Value::Null;
    let (status, answer) = execute(&sim, ISSUE, "k", &body).await;
    assert_eq!((status, &answer["error"]["code"]), (404, &json!(1810)));
    let gmail = sim.connect("anna", "gmail").unwrap();
    body = issue("x");
    body["connected_account_id"] = json!(gmail);
    assert_eq!(
        execute(&sim, ISSUE, "k", &body).await.0,
        404,
        "an account of another toolkit"
    );
    for status in ["INACTIVE", "EXPIRED", "REVOKED", "FAILED", "INITIATED"] {
        assert!(sim.set_status(&account, status));
        body["connected_account_id"] = json!(account);
        let (code, answer) = execute(&sim, ISSUE, "k", &body).await;
        assert_eq!(code, 422, "{status}");
        assert!(
            answer["error"]["message"].as_str().unwrap().contains(status),
            "{answer}"
        );
    }
    assert_eq!(counts(&sim), []);
}

#[tokio::test]
async fn arguments_versions_and_removed_tools_are_told_apart() {
    let sim = start(|_| {});
    sim.connect("anna", "github").unwrap();
    let (status, answer) = execute(
        &sim,
        ISSUE,
        "k",
        &json!({"user_id": "anna", "arguments": {"owner": "o", "labels": "x"}}),
    )
    .await;
    assert_eq!(
        (status, &answer["successful"], &answer["data"]["status_code"]),
        (200, &json!(false), &json!(400))
    );
    let text = answer["error"].as_str().unwrap();
    for part in [
        "Field required on parameter `repo`",
        "Input should be a valid list on parameter `labels`",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(
        execute(&sim, "GITHUB_NO_SUCH_TOOL", "k", &issue("x")).await.1["error"]["code"],
        2401
    );
    assert_eq!(
        execute(&sim, "GITHUB_ACTIVITY_LIST_WATCHERS", "k", &issue("x")).await.0,
        410
    );
    let mut old = issue("x");
    old["version"] = json!("19990101_00");
    assert_eq!(
        execute(&sim, ISSUE, "k", &old).await.0,
        404,
        "a version that the toolkit does not have"
    );
    // Without a version v3 takes the oldest, v3.1 the newest.
    let late = "/tools/GITHUB_CREATE_OR_UPDATE_FILE_CONTENTS";
    assert_eq!(call(&sim, "GET", late, Value::Null).await.0, 200);
    let v3 = client()
        .get(format!("{}/api/v3{late}", sim.url()))
        .header("x-api-key", "ak_test");
    assert_eq!(v3.send().await.unwrap().status(), 404);
    let has = |tool: &Value| tool["input_parameters"]["properties"].get("milestone").is_some();
    assert!(has(&get(&sim, &format!("/tools/{ISSUE}?version=20251027_00")).await));
    assert!(!has(&get(
        &sim,
        &format!("/tools/{ISSUE}?toolkit_versions[github]=00000000_00")
    )
    .await));
    assert_eq!(counts(&sim), []);
}

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let sim = start(|_| {});
    let mut seen = BTreeSet::new();
    let mut path = "/tools?limit=9".to_owned();
    let total = loop {
        let page = get(&sim, &path).await;
        let slugs = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|tool| tool["slug"].as_str().unwrap().to_owned());
        seen.extend(slugs);
        match page["next_cursor"].as_str() {
            Some(cursor) => path = format!("/tools?limit=9&cursor={cursor}"),
            None => break page["total_items"].as_u64().unwrap(),
        }
    };
    assert_eq!(u64::try_from(seen.len()).unwrap(), total);
    assert!(total > 45);
    let slugs = |page: &Value| -> BTreeSet<String> {
        let items = page["items"].as_array().unwrap().iter();
        items
            .map(|tool| tool["toolkit"]["slug"].as_str().unwrap().to_owned())
            .collect()
    };
    let two = get(&sim, "/tools?toolkit_slug=github%2Cgmail&limit=9999").await;
    assert_eq!(slugs(&two), ["github", "gmail"].map(str::to_owned).into());
    assert_eq!(get(&sim, "/tools?toolkit_slug=nosuch").await["items"], json!([]));
    let important = get(&sim, "/tools?toolkit_slug=github&important=true&limit=99").await;
    let all = get(&sim, "/tools?toolkit_slug=github&limit=99").await;
    assert!(important["total_items"].as_u64() < all["total_items"].as_u64());
    assert_eq!(
        get(&sim, "/tools?query=send+email").await["items"][0]["slug"],
        "GMAIL_SEND_EMAIL"
    );
    let (anna, ben) = (
        sim.connect("anna", "slack").unwrap(),
        sim.connect("ben", "slack").unwrap(),
    );
    sim.set_status(&ben, "INACTIVE");
    for (query, expected) in [
        ("user_ids=anna,ben", vec![&ben, &anna]),
        ("user_ids=anna%2Cben&statuses=ACTIVE", vec![&anna]),
        ("user_ids=ben", vec![&ben]),
        ("user_ids=nobody", vec![]),
        ("toolkit_slugs=slack&order_direction=asc", vec![&anna, &ben]),
    ] {
        let page = get(&sim, &format!("/connected_accounts?{query}")).await;
        let ids: Vec<&str> = page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, expected, "{query}");
    }
}

#[tokio::test]
async fn a_key_is_needed_exactly_once() {
    let sim = start(|_| {});
    let url = format!("{}/api/v3/toolkits", sim.url());
    for (headers, status) in [
        (vec![], 401),
        (vec![("x-api-key", "ak_bad-key")], 401),
        (vec![("x-api-key", "ak_1"), ("x-org-api-key", "oak_1")], 401),
        (vec![("x-user-api-key", "uak_1"), ("x-org-id", "o")], 200),
        (vec![("x-api-key", "ak_1")], 200),
    ] {
        let mut request = client().get(&url);
        for (name, value) in &headers {
            request = request.header(*name, *value);
        }
        assert_eq!(request.send().await.unwrap().status(), status, "{headers:?}");
    }
    assert!(
        sim.requests()
            .iter()
            .all(|request| !format!("{request:?}").contains("ak_")),
        "keys are masked"
    );
}

#[tokio::test]
async fn the_same_seed_gives_the_same_ids() {
    let ids = |seed| start(|config| config.seed = seed).connect("anna", "github").unwrap();
    assert_eq!(ids(7), ids(7));
    assert_ne!(ids(7), ids(8));
}
