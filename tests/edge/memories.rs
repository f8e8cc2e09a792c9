//! What is remembered about users: listed, added and forgotten by themselves, and by nobody else.

use kronos_testkit::HttpReply;
use serde_json::{Value, json};

use crate::harness::{Answer as _, Edge, Pair, rooted};

const MEMORIES: &str = "/api/v1/users/me/memories";

async fn add(edge: &Edge, who: &Pair, text: &str) -> HttpReply {
    edge.post(MEMORIES, Some(&who.access), json!({ "text": text })).await
}

async fn delete(edge: &Edge, who: &Pair, path: &str) -> HttpReply {
    let bearer = format!("Bearer {}", who.access);
    edge.call("DELETE", path, &[("Authorization", &bearer)], None).await
}

async fn list(edge: &Edge, who: &Pair, query: &str) -> Value {
    edge.get(&format!("{MEMORIES}{query}"), Some(&who.access))
        .await
        .expect(200)
}

fn texts(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("items").iter();
    items.map(|item| item["text"].as_str().expect("a text")).collect()
}

#[actix_web::test]
async fn a_user_adds_pages_through_and_forgets_notes() {
    let edge = Edge::start().await;
    let ada = edge.login("ada").await;
    assert_eq!(list(&edge, &ada, "").await, json!({"items": [], "next_cursor": null}));
    let mut ids = Vec::new();
    for text in ["Likes tea.", "Has a dog.", "Lives in Bern."] {
        let made = add(&edge, &ada, text).await.expect(201);
        assert_eq!((&made["text"], &made["conversation_id"]), (&json!(text), &Value::Null));
        ids.push(made["id"].as_str().expect("an id").to_owned());
    }
    let first = list(&edge, &ada, "?limit=2").await;
    assert_eq!(texts(&first), ["Likes tea.", "Has a dog."]);
    let cursor = first["next_cursor"].as_str().expect("a cursor");
    let rest = list(&edge, &ada, &format!("?limit=2&cursor={cursor}")).await;
    assert_eq!(texts(&rest), ["Lives in Bern."]);
    assert_eq!(rest["next_cursor"], Value::Null);
    let whole = list(&edge, &ada, "?limit=3").await;
    assert_eq!((texts(&whole).len(), &whole["next_cursor"]), (3, &Value::Null));
    let one = format!("{MEMORIES}/{}", ids[1]);
    delete(&edge, &ada, &one).await.is(204);
    delete(&edge, &ada, &one).await.is(404);
    assert_eq!(texts(&list(&edge, &ada, "").await), ["Likes tea.", "Lives in Bern."]);
    delete(&edge, &ada, MEMORIES).await.is(204);
    assert_eq!(texts(&list(&edge, &ada, "").await).len(), 0);
    delete(&edge, &ada, MEMORIES).await.is(204);
    edge.finish().await;
}

#[actix_web::test]
async fn notes_are_bounded_in_number_and_length() {
    let edge = Edge::with(|config| {
        config.tools.memories = 3;
        config.tools.memory_chars = 10;
    })
    .await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    for (text, status) in [
        ("x".repeat(9), 201),
        ("é".repeat(10), 201),
        ("x".repeat(11), 422),
        (String::new(), 422),
    ] {
        add(&edge, &ada, &text).await.is(status);
    }
    add(&edge, &ada, "the third").await.is(201);
    let full: Value = add(&edge, &ada, "a fourth").await.expect(409);
    assert_eq!(full["error"]["details"], json!({"name": "memories", "limit": 3}));
    // Others have theirs.
    add(&edge, &eve, "a first").await.is(201);
    let metrics = edge.get("/metrics", None).await.text();
    for bound in ["memories", "memory_chars"] {
        let line = format!("kronos_refusals_total{{bound=\"{bound}\"}}");
        assert!(metrics.contains(&line), "{line}");
    }
    edge.finish().await;
}

#[actix_web::test]
async fn others_neither_see_nor_forget_notes_but_a_superuser_does() {
    let edge = Edge::with(rooted).await;
    let (ada, eve, root) = (edge.login("ada").await, edge.login("eve").await, edge.superuser().await);
    let note = add(&edge, &ada, "a secret").await.expect(201);
    let one = format!("{MEMORIES}/{}", note["id"].as_str().expect("an id"));
    let me = edge.get("/api/v1/auth/me", Some(&ada.access)).await.expect(200);
    let ada_id = me["id"].as_str().expect("an id");
    assert_eq!(texts(&list(&edge, &eve, "").await).len(), 0);
    delete(&edge, &eve, &one).await.is(404);
    for path in [one.as_str(), MEMORIES] {
        delete(&edge, &eve, &format!("{path}?user_id={ada_id}")).await.is(403);
    }
    let body = json!({"text": "planted", "user_id": ada_id});
    edge.post(MEMORIES, Some(&eve.access), body).await.is(403);
    let path = format!("{MEMORIES}?user_id={ada_id}");
    edge.get(&path, Some(&eve.access)).await.is(403);
    delete(&edge, &eve, MEMORIES).await.is(204);
    assert_eq!(texts(&list(&edge, &ada, "").await), ["a secret"]);
    let seen = edge.get(&path, Some(&root.access)).await.expect(200);
    assert_eq!(texts(&seen), ["a secret"]);
    delete(&edge, &root, &format!("{one}?user_id={ada_id}")).await.is(204);
    edge.finish().await;
}

#[actix_web::test]
async fn what_is_remembered_goes_with_the_user() {
    let edge = Edge::with(|config| {
        rooted(config);
        // An id that is free again keeps its notes, if any were left.
        config.tools.memories = 3;
    })
    .await;
    let (ada, root) = (edge.login("ada").await, edge.superuser().await);
    for text in ["one", "two", "three"] {
        add(&edge, &ada, text).await.is(201);
    }
    let me = edge.get("/api/v1/auth/me", Some(&ada.access)).await.expect(200);
    let ada_id = me["id"].as_str().expect("an id");
    let path = format!("{MEMORIES}?user_id={ada_id}");
    assert_eq!(texts(&edge.get(&path, Some(&root.access)).await.expect(200)).len(), 3);
    delete(&edge, &root, &format!("/api/v1/users/{ada_id}")).await.is(204);
    assert_eq!(texts(&edge.get(&path, Some(&root.access)).await.expect(200)).len(), 0);
    edge.get(MEMORIES, Some(&ada.access)).await.is(401);
    // Nothing is made for who is gone.
    let body = json!({"text": "more", "user_id": ada_id});
    edge.post(MEMORIES, Some(&root.access), body).await.is(409);
    edge.finish().await;
}
