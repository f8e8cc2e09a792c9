//! Users, for superusers and for themselves: what each route promises, and each of its errors.

use kronos::config::FirstSuperuser;
use kronos_testkit::{HttpReply, SseClient};
use serde_json::{Value, json};

use crate::harness::{Answer as _, Edge, Pair};

const USERS: &str = "/api/v1/users/";
const ME: &str = "/api/v1/auth/me";
const PASSWORD: &str = "correct horse";
const NOBODY: &str = "0192aaaa-0000-7000-8000-000000000000";

/// A server with a superuser, and the superuser's tokens.
async fn with_root() -> (Edge, Pair) {
    let edge = Edge::with(|config| {
        config.auth.first = FirstSuperuser {
            username: Some("root".to_owned()),
            email: Some("root@example.com".to_owned()),
            password: Some(PASSWORD.into()),
        };
    })
    .await;
    let root = log_in(&edge, "root", PASSWORD).await;
    (edge, root)
}

async fn try_login(edge: &Edge, name: &str, password: &str) -> HttpReply {
    let body = json!({"username": name, "password": password});
    edge.post("/api/v1/auth/login", None, body).await
}

async fn log_in(edge: &Edge, name: &str, password: &str) -> Pair {
    Pair::of(&try_login(edge, name, password).await.expect(200))
}

async fn id_of(edge: &Edge, pair: &Pair) -> String {
    let me = edge.get(ME, Some(&pair.access)).await.expect(200);
    me["id"].as_str().expect("an id").to_owned()
}

async fn send(edge: &Edge, method: &str, path: &str, token: Option<&str>, body: Option<&Value>) -> HttpReply {
    let bearer = token.map(|token| format!("Bearer {token}"));
    let headers: Vec<_> = bearer.iter().map(|bearer| ("Authorization", bearer.as_str())).collect();
    edge.call(method, path, &headers, body).await
}

async fn put(edge: &Edge, id: &str, token: &str, body: Value) -> HttpReply {
    send(edge, "PUT", &format!("{USERS}{id}"), Some(token), Some(&body)).await
}

async fn delete(edge: &Edge, id: &str, token: &str) -> HttpReply {
    send(edge, "DELETE", &format!("{USERS}{id}"), Some(token), None).await
}

async fn refresh(edge: &Edge, pair: &Pair) -> HttpReply {
    let body = json!({"refresh_token": pair.refresh});
    edge.post("/api/v1/auth/refresh", None, body).await
}

fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or("no code")
}

fn names(list: &Value) -> Vec<&str> {
    let users = list.as_array().expect("a list").iter();
    users.map(|user| user["username"].as_str().expect("a name")).collect()
}

#[actix_web::test]
async fn a_superuser_makes_shows_changes_and_deletes_users() {
    let (edge, root) = with_root().await;
    let body = json!({"username": "Ada", "email": "ada@example.com", "password": PASSWORD, "full_name": "Ada L.",
        "bio": "", "profile_image_url": "https://example.com/a.png", "preferences": {"theme": "dark"}});
    let made = edge.post(USERS, Some(&root.access), body).await.expect(201);
    let id = made["id"].as_str().unwrap().to_owned();
    assert_eq!(
        (&made["bio"], &made["is_superuser"], &made["is_active"]),
        (&Value::Null, &json!(false), &json!(true))
    );
    assert_eq!(made.as_object().unwrap().len(), 12, "{made}");
    let shown = edge.get(&format!("{USERS}{id}"), Some(&root.access)).await.expect(200);
    assert_eq!(shown, made);
    let changed = put(
        &edge,
        &id,
        &root.access,
        json!({"bio": "Counts.", "full_name": "", "username": null}),
    )
    .await;
    let changed = changed.expect(200);
    assert_eq!(
        (&changed["bio"], &changed["full_name"]),
        (&json!("Counts."), &Value::Null)
    );
    for same in ["username", "email", "profile_image_url", "preferences", "created_at"] {
        assert_eq!(changed[same], made[same], "{same} was not sent");
    }
    let ada = log_in(&edge, "ADA", PASSWORD).await;
    assert_eq!(id_of(&edge, &ada).await, id);
    let gone = delete(&edge, &id, &root.access).await;
    assert!(gone.status == 204 && gone.body.is_empty(), "{}", gone.text());
    for reply in [
        edge.get(&format!("{USERS}{id}"), Some(&root.access)).await,
        put(&edge, &id, &root.access, json!({"bio": "x"})).await,
        delete(&edge, &id, &root.access).await,
    ] {
        let error = reply.expect(404);
        assert_eq!(error["error"]["details"], json!({"resource": "User", "identifier": id}));
    }
    edge.finish().await;
}

#[actix_web::test]
async fn users_are_listed_by_age_page_by_page() {
    let (edge, root) = with_root().await;
    let mut expected = vec!["root".to_owned()];
    for n in 0..7 {
        let name = format!("user-{}", 9 - n);
        let body = json!({"username": name, "email": format!("{name}@example.com"), "password": PASSWORD,
            "is_active": n != 3});
        edge.post(USERS, Some(&root.access), body).await.is(201);
        expected.push(name);
    }
    let page = async |query: &str| {
        edge.get(&format!("{USERS}{query}"), Some(&root.access))
            .await
            .expect(200)
    };
    assert_eq!(names(&page("").await), expected);
    assert_eq!(names(&page("?skip=2&limit=3").await), expected[2..5]);
    assert_eq!(names(&page("?skip=7&limit=100").await), expected[7..]);
    assert_eq!(page("?skip=8").await, json!([]));
    assert_eq!(page(&format!("?skip={}", i64::MAX)).await, json!([]));
    assert_eq!(names(&page("?name=USER-9").await), ["user-9"]);
    assert_eq!(names(&page("?name=user-8@EXAMPLE.com").await), ["user-8"]);
    assert_eq!(page("?name=user-1").await, json!([]));
    let without_slash = edge.get("/api/v1/users?limit=1", Some(&root.access)).await.expect(200);
    assert_eq!(names(&without_slash), ["root"]);
    for (query, kind) in [
        ("limit=0", "greater_than_equal"),
        ("limit=101", "less_than_equal"),
        ("limit=x", "int_type"),
        ("skip=-1", "greater_than_equal"),
    ] {
        let error = edge
            .get(&format!("{USERS}?{query}"), Some(&root.access))
            .await
            .expect(422);
        assert_eq!(error["error"]["details"]["errors"][0]["type"], kind, "{query}");
    }
    edge.finish().await;
}

#[actix_web::test]
async fn without_a_token_nobody_and_with_one_only_the_right_ones() {
    let (edge, _root) = with_root().await;
    let (ada, bob) = (edge.login("ada").await, edge.login("bob").await);
    let (ada_id, bob_id) = (id_of(&edge, &ada).await, id_of(&edge, &bob).await);
    let new = json!({"username": "eve", "email": "eve@example.com", "password": PASSWORD, "is_superuser": true});
    let change = json!({"full_name": "Eve"});
    let one = format!("{USERS}{bob_id}");
    let routes = [
        ("GET", USERS, None),
        ("POST", USERS, Some(&new)),
        ("GET", one.as_str(), None),
        ("PUT", one.as_str(), Some(&change)),
        ("DELETE", one.as_str(), None),
    ];
    for (method, path, body) in routes {
        let error = send(&edge, method, path, None, body).await.expect(401);
        assert_eq!(code(&error), "AUTHENTICATION_ERROR", "{method} {path}");
        let error = send(&edge, method, path, Some(&ada.access), body).await.expect(403);
        assert_eq!(code(&error), "AUTHORIZATION_ERROR", "{method} {path}");
        assert_eq!(error["error"]["details"], json!({}));
    }
    let unknown = send(&edge, "GET", &format!("{USERS}{NOBODY}"), Some(&ada.access), None).await;
    assert_eq!(
        code(&unknown.expect(403)),
        "AUTHORIZATION_ERROR",
        "a matter of role, whoever exists"
    );
    for roles in [
        json!({"is_superuser": true}),
        json!({"is_active": true}),
        json!({"is_active": false, "bio": "x"}),
    ] {
        let error = put(&edge, &ada_id, &ada.access, roles).await.expect(403);
        assert_eq!(code(&error), "AUTHORIZATION_ERROR");
    }
    let shown = edge
        .get(&format!("{USERS}{ada_id}"), Some(&ada.access))
        .await
        .expect(200);
    assert_eq!(
        (&shown["bio"], &shown["is_superuser"]),
        (&Value::Null, &json!(false)),
        "nothing of it was done"
    );
    edge.finish().await;
}

#[actix_web::test]
async fn a_guest_of_development_is_nobodys_self() {
    let edge = Edge::open().await;
    let demo = log_in(&edge, "demo", "demo").await;
    let id = id_of(&edge, &demo).await;
    for (method, path) in [
        ("GET", USERS.to_owned()),
        ("GET", format!("{USERS}{id}")),
        ("GET", format!("{USERS}dev")),
        ("DELETE", format!("{USERS}{id}")),
        ("DELETE", format!("{USERS}dev")),
    ] {
        let error = send(&edge, method, &path, None, None).await.expect(401);
        assert_eq!(code(&error), "AUTHENTICATION_ERROR", "{method} {path}");
    }
    edge.get(&format!("{USERS}{id}"), Some(&demo.access)).await.is(200);
    edge.finish().await;
}

#[actix_web::test]
async fn a_user_changes_and_deletes_itself() {
    let (edge, _root) = with_root().await;
    let ada = edge.login("ada").await;
    let id = id_of(&edge, &ada).await;
    let body = json!({"username": "countess", "email": "countess@example.com", "preferences": {"a": [1]}});
    let changed = put(&edge, &id, &ada.access, body).await.expect(200);
    assert_eq!(
        (changed["username"].as_str(), &changed["preferences"]),
        (Some("countess"), &json!({"a": [1]}))
    );
    try_login(&edge, "ada", PASSWORD).await.is(401);
    log_in(&edge, "countess", PASSWORD).await;
    // The old names are free, the new ones are not.
    let other = edge.login("ada").await;
    let other_id = id_of(&edge, &other).await;
    for (body, field) in [
        (json!({"username": "COUNTESS"}), "username"),
        (json!({"email": "Countess@Example.com", "bio": "x"}), "email"),
    ] {
        let error = put(&edge, &other_id, &other.access, body).await.expect(409);
        assert_eq!(code(&error), "CONFLICT");
        assert_eq!(error["error"]["details"], json!({"resource": "User", "field": field}));
    }
    let shown = edge
        .get(&format!("{USERS}{other_id}"), Some(&other.access))
        .await
        .expect(200);
    assert_eq!(
        (shown["email"].as_str(), &shown["bio"]),
        (Some("ada@example.com"), &Value::Null)
    );
    let upper = put(&edge, &other_id, &other.access, json!({"username": "ADA"}))
        .await
        .expect(200);
    assert_eq!(
        upper["username"], "ADA",
        "one's own name in another case is no conflict"
    );
    delete(&edge, &id, &ada.access).await.is(204);
    edge.get(ME, Some(&ada.access)).await.is(401);
    try_login(&edge, "countess", PASSWORD).await.is(401);
    edge.login("countess").await;
    edge.finish().await;
}

#[actix_web::test]
async fn wrong_fields_are_named_one_by_one() {
    let (edge, root) = with_root().await;
    let id = id_of(&edge, &root).await;
    let body = json!({"username": "a b", "email": "x", "password": "short", "profile_image_url": "ftp://x.ch",
        "preferences": {"k": "x".repeat(16 * 1024)}, "is_active": "yes", "bio": "x".repeat(1001)});
    let expected = [
        "username",
        "email",
        "password",
        "bio",
        "profile_image_url",
        "preferences",
        "is_active",
    ];
    for reply in [
        edge.post(USERS, Some(&root.access), body.clone()).await,
        put(&edge, &id, &root.access, body).await,
    ] {
        let error = reply.expect(422);
        let rows = error["error"]["details"]["errors"].as_array().unwrap();
        let mut fields: Vec<_> = rows.iter().map(|row| row["field"].as_str().unwrap()).collect();
        let mut expected = expected.map(|field| format!("body.{field}"));
        fields.sort_unstable();
        expected.sort_unstable();
        assert_eq!(fields, expected);
    }
    let error = edge
        .post(USERS, Some(&root.access), json!({"id": "x"}))
        .await
        .expect(422);
    let rows = error["error"]["details"]["errors"].as_array().unwrap();
    assert_eq!(rows.len(), 3, "an id is nothing here: {rows:?}");
    edge.get(&format!("{USERS}%C3%A4"), Some(&root.access)).await.is(422);
    edge.finish().await;
}

#[actix_web::test]
async fn a_new_password_ends_every_other_login() {
    let (edge, root) = with_root().await;
    let (first, second) = (edge.login("ada").await, log_in(&edge, "ada", PASSWORD).await);
    let id = id_of(&edge, &first).await;
    put(&edge, &id, &first.access, json!({"password": "another horse"}))
        .await
        .is(200);
    edge.get(ME, Some(&first.access)).await.is(200);
    edge.get(ME, Some(&second.access)).await.is(401);
    refresh(&edge, &second).await.is(401);
    try_login(&edge, "ada", PASSWORD).await.is(401);
    let first = Pair::of(&refresh(&edge, &first).await.expect(200));
    edge.get(ME, Some(&first.access)).await.is(200);
    let third = log_in(&edge, "ada", "another horse").await;
    put(&edge, &id, &root.access, json!({"password": "a third horse"}))
        .await
        .is(200);
    for pair in [&first, &third] {
        edge.get(ME, Some(&pair.access)).await.is(401);
        refresh(&edge, pair).await.is(401);
    }
    log_in(&edge, "ada", "a third horse").await;
    edge.finish().await;
}

#[actix_web::test]
async fn an_inactive_users_tokens_stop_at_once_and_stay_so() {
    let (edge, root) = with_root().await;
    let ada = edge.login("ada").await;
    let id = id_of(&edge, &ada).await;
    let off = put(&edge, &id, &root.access, json!({"is_active": false}))
        .await
        .expect(200);
    assert_eq!(off["is_active"], false);
    edge.get(ME, Some(&ada.access)).await.is(401);
    send(&edge, "POST", "/api/v1/auth/ticket", Some(&ada.access), None)
        .await
        .is(401);
    refresh(&edge, &ada).await.is(401);
    // A right password is no better than a wrong one, and says as little.
    let mut answers = [
        try_login(&edge, "ada", PASSWORD).await.expect(401),
        try_login(&edge, "ada", "wrong horse").await.expect(401),
    ];
    for answer in &mut answers {
        answer["error"]["request_id"] = Value::Null;
    }
    assert_eq!(answers[0], answers[1]);
    put(&edge, &id, &root.access, json!({"is_active": true})).await.is(200);
    edge.get(ME, Some(&ada.access)).await.is(401);
    let again = log_in(&edge, "ada", PASSWORD).await;
    edge.get(ME, Some(&again.access)).await.is(200);
    edge.finish().await;
}

#[actix_web::test]
async fn who_is_no_superuser_any_more_is_so_at_once() {
    let (edge, root) = with_root().await;
    let ada = edge.login("ada").await;
    let id = id_of(&edge, &ada).await;
    put(&edge, &id, &root.access, json!({"is_superuser": true}))
        .await
        .is(200);
    let me = edge.get(ME, Some(&ada.access)).await.expect(200);
    assert_eq!(me["roles"], json!(["user", "superuser"]));
    edge.get(USERS, Some(&ada.access)).await.is(200);
    put(&edge, &id, &root.access, json!({"is_superuser": false}))
        .await
        .is(200);
    edge.get(USERS, Some(&ada.access)).await.is(401);
    let again = log_in(&edge, "ada", PASSWORD).await;
    edge.get(USERS, Some(&again.access)).await.is(403);
    edge.finish().await;
}

#[actix_web::test]
async fn a_deleted_user_leaves_nothing() {
    let (edge, root) = with_root().await;
    let ada = edge.login("ada").await;
    let id = id_of(&edge, &ada).await;
    let mut chats = Vec::new();
    for _ in 0..3 {
        // Without a model the turn fails, but the conversation is there.
        let body = json!({"message": "Hello!"});
        edge.post("/api/v1/chat/message", Some(&ada.access), body).await.is(503);
    }
    let listed = edge.get("/api/v1/chat/", Some(&ada.access)).await.expect(200);
    for item in listed["items"].as_array().unwrap() {
        chats.push(item["id"].as_str().unwrap().to_owned());
    }
    assert_eq!(chats.len(), 3);
    delete(&edge, &id, &root.access).await.is(204);
    edge.get(ME, Some(&ada.access)).await.is(401);
    refresh(&edge, &ada).await.is(401);
    for chat in chats {
        edge.get(&format!("/api/v1/chat/{chat}"), Some(&root.access))
            .await
            .is(404);
    }
    let path = format!("/api/v1/chat/?user_id={id}");
    let left = edge.get(&path, Some(&root.access)).await.expect(200);
    assert_eq!(left["items"], json!([]));
    // Nothing is made for who is gone, not even by a superuser.
    let body = json!({"message": "Hello!", "user_id": id});
    edge.post("/api/v1/chat/message", Some(&root.access), body)
        .await
        .is(404);
    let left = edge.get(&path, Some(&root.access)).await.expect(200);
    assert_eq!(left["items"], json!([]));
    edge.finish().await;
}

#[actix_web::test]
async fn changes_at_once_are_all_made_and_a_name_goes_to_one() {
    let (edge, root) = with_root().await;
    let ada = edge.login("ada").await;
    let id = id_of(&edge, &ada).await;
    let (a, b, c, d) = tokio::join!(
        put(&edge, &id, &root.access, json!({"full_name": "Ada"})),
        put(&edge, &id, &root.access, json!({"bio": "Counts."})),
        put(&edge, &id, &ada.access, json!({"preferences": {"x": 1}})),
        put(
            &edge,
            &id,
            &ada.access,
            json!({"profile_image_url": "https://example.com/a.png"})
        ),
    );
    for reply in [a, b, c, d] {
        reply.is(200);
    }
    let shown = edge.get(&format!("{USERS}{id}"), Some(&root.access)).await.expect(200);
    assert_eq!(
        (
            &shown["full_name"],
            &shown["bio"],
            &shown["preferences"],
            &shown["profile_image_url"]
        ),
        (
            &json!("Ada"),
            &json!("Counts."),
            &json!({"x": 1}),
            &json!("https://example.com/a.png")
        )
    );
    let bob = edge.login("bob").await;
    let bob_id = id_of(&edge, &bob).await;
    let (a, b) = tokio::join!(
        put(&edge, &id, &ada.access, json!({"username": "winner"})),
        put(&edge, &bob_id, &bob.access, json!({"username": "Winner"})),
    );
    let mut statuses = [a.status, b.status];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409]);
    edge.finish().await;
}

#[actix_web::test]
async fn the_first_superuser_is_made_once_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |password: &str| {
        Edge::with(|config| {
            config.store.backend = kronos_actors::config::StoreBackend::Sled(dir.path().join("data"));
            config.auth.first = FirstSuperuser {
                username: Some("root".to_owned()),
                email: Some("root@example.com".to_owned()),
                password: Some(password.into()),
            };
        })
        .await
    };
    let edge = start(PASSWORD).await;
    let root = log_in(&edge, "root", PASSWORD).await;
    let me = edge.get(ME, Some(&root.access)).await.expect(200);
    assert_eq!(me["roles"], json!(["user", "superuser"]));
    let id = id_of(&edge, &root).await;
    put(&edge, &id, &root.access, json!({"password": "changed since"}))
        .await
        .is(200);
    edge.finish().await;
    let edge = start("another one").await;
    try_login(&edge, "root", "another one").await.is(401);
    log_in(&edge, "root", "changed since").await;
    edge.finish().await;
}

#[actix_web::test]
async fn streams_end_with_the_user_who_opened_them_also_as_somebody_else() {
    let (edge, root) = with_root().await;
    let (ada, eve) = (edge.login("ada").await, edge.login("eve").await);
    let (ada_id, eve_id) = (id_of(&edge, &ada).await, id_of(&edge, &eve).await);
    put(&edge, &eve_id, &root.access, json!({"is_superuser": true}))
        .await
        .is(200);
    edge.post("/api/v1/chat/message", Some(&ada.access), json!({"message": "Hello!"}))
        .await
        .is(503);
    let listed = edge.get("/api/v1/chat/", Some(&ada.access)).await.expect(200);
    let chat = listed["items"][0]["id"].as_str().expect("a conversation").to_owned();
    let open = async |pair: &Pair| {
        let path = format!("/api/v1/chat/{chat}/events?user_id={ada_id}");
        let bearer = format!("Bearer {}", pair.access);
        let stream = SseClient::open(edge.addr, "GET", &path, &[("Authorization", &bearer)], None).await;
        stream.expect("a stream")
    };
    let (mut own, mut other, mut roots) = (open(&ada).await, open(&eve).await, open(&root).await);
    for stream in [&mut own, &mut other, &mut roots] {
        assert_eq!(stream.reply.status, 200);
        stream.until(|event| event.event.as_deref() == Some("caught_up")).await;
    }
    // Eve reads as ada, and loses the right to.
    put(&edge, &eve_id, &root.access, json!({"is_active": false}))
        .await
        .is(200);
    other.rest().await;
    // Ada changes her password elsewhere: what her other logins opened ends.
    let elsewhere = log_in(&edge, "ada", PASSWORD).await;
    put(&edge, &ada_id, &elsewhere.access, json!({"password": "another horse"}))
        .await
        .is(200);
    own.rest().await;
    delete(&edge, &ada_id, &root.access).await.is(204);
    roots.rest().await;
    edge.finish().await;
}
