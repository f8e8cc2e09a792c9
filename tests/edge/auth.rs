//! Signup, login, tokens: what each promises.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::harness::{Answer as _, Edge, Pair, SECRET};

const ME: &str = "/api/v1/auth/me";

async fn refresh(edge: &Edge, token: &str) -> kronos_testkit::HttpReply {
    edge.post("/api/v1/auth/refresh", None, json!({"refresh_token": token}))
        .await
}

fn code(body: &Value) -> &str {
    body["error"]["code"].as_str().unwrap_or("no code")
}

#[actix_web::test]
async fn a_new_user_sees_its_profile_and_nobody_elses_secrets() {
    let edge = Edge::start().await;
    let body = json!({"username": "Ada", "email": "ada@example.com", "password": "correct horse",
        "confirm_password": "correct horse", "full_name": "Ada L.", "preferences": {"theme": "dark"}});
    let profile = edge.post("/api/v1/auth/signup", None, body).await.expect(201);
    assert_eq!(
        (profile["username"].as_str(), profile["full_name"].as_str()),
        (Some("Ada"), Some("Ada L."))
    );
    assert_eq!(profile["preferences"]["theme"], "dark");
    assert!(profile.get("password").is_none());
    let reply = edge
        .post(
            "/api/v1/auth/login",
            None,
            json!({"email": "ADA@example.com", "password": "correct horse"}),
        )
        .await;
    assert_eq!(reply.header("cache-control"), Some("no-store"));
    let login = reply.expect(200);
    assert_eq!(
        (login["token_type"].as_str(), login["expires_in"].as_i64()),
        (Some("bearer"), Some(1800))
    );
    let me = edge.get(ME, login["access_token"].as_str()).await.expect(200);
    assert_eq!(
        (me["user_id"].as_str(), &me["roles"]),
        (profile["id"].as_str(), &json!(["user"]))
    );
    assert!(me["last_login"].is_string());
    edge.finish().await;
}

#[actix_web::test]
async fn a_name_or_address_is_taken_in_any_case() {
    let edge = Edge::start().await;
    edge.login("ada").await;
    for (name, email, field) in [
        ("ADA", "other@example.com", "username"),
        ("other", "Ada@Example.com", "email"),
    ] {
        let body = json!({"username": name, "email": email, "password": "correct horse"});
        let error = edge.post("/api/v1/auth/signup", None, body).await.expect(409);
        assert_eq!(
            (code(&error), error["error"]["details"]["field"].as_str()),
            ("CONFLICT", Some(field))
        );
    }
    edge.finish().await;
}

#[actix_web::test]
async fn a_wrong_user_and_a_wrong_password_are_the_same_answer() {
    let edge = Edge::start().await;
    edge.login("ada").await;
    let mut answers = Vec::new();
    for (name, password) in [
        ("ada", "wrong horse"),
        ("nobody", "correct horse"),
        (&"x".repeat(900), "y"),
    ] {
        let reply = edge
            .post(
                "/api/v1/auth/login",
                None,
                json!({"username": name, "password": password}),
            )
            .await;
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"));
        let mut body = reply.expect(401);
        body["error"]["request_id"] = Value::Null;
        answers.push(body);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
    edge.finish().await;
}

#[actix_web::test]
async fn a_refresh_token_used_twice_revokes_its_whole_family() {
    let edge = Edge::start().await;
    let first = edge.login("ada").await;
    let second = Pair::of(&refresh(&edge, &first.refresh).await.expect(200));
    edge.get(ME, Some(&second.access)).await.is(200);
    assert_eq!(
        code(&refresh(&edge, &first.refresh).await.expect(401)),
        "AUTHENTICATION_ERROR"
    );
    refresh(&edge, &second.refresh).await.is(401);
    edge.get(ME, Some(&first.access)).await.is(401);
    edge.get(ME, Some(&second.access)).await.is(401);
    // Another login of the same user is another family.
    let other = edge
        .post(
            "/api/v1/auth/login",
            None,
            json!({"username": "ada", "password": "correct horse"}),
        )
        .await;
    edge.get(ME, Some(&Pair::of(&other.expect(200)).access)).await.is(200);
    edge.finish().await;
}

#[actix_web::test]
async fn a_refresh_token_used_twice_at_once_gives_at_most_one_pair() {
    let edge = Edge::start().await;
    let pair = edge.login("ada").await;
    let (a, b) = tokio::join!(refresh(&edge, &pair.refresh), refresh(&edge, &pair.refresh));
    let good = [a.status, b.status].iter().filter(|status| **status == 200).count();
    assert!(good <= 1, "{} {}", a.status, b.status);
    edge.get(ME, Some(&pair.access)).await.is(401);
    edge.finish().await;
}

#[actix_web::test]
async fn logout_ends_the_access_token_and_its_family() {
    let edge = Edge::start().await;
    let pair = edge.login("ada").await;
    let reply = edge
        .post(
            "/api/v1/auth/logout",
            Some(&pair.access),
            json!({"refresh_token": pair.refresh}),
        )
        .await;
    assert_eq!(reply.expect(200), json!({"message": "Successfully logged out"}));
    edge.get(ME, Some(&pair.access)).await.is(401);
    refresh(&edge, &pair.refresh).await.is(401);
    let again = Pair::of(
        &edge
            .post(
                "/api/v1/auth/login",
                None,
                json!({"username": "ada", "password": "correct horse"}),
            )
            .await
            .expect(200),
    );
    edge.call(
        "POST",
        "/api/v1/auth/logout",
        &[("Authorization", &format!("Bearer {}", again.access))],
        None,
    )
    .await
    .is(200);
    edge.get(ME, Some(&again.access)).await.is(401);
    edge.finish().await;
}

#[actix_web::test]
async fn tokens_end_with_their_life() {
    let edge = Edge::start().await;
    let pair = edge.login("ada").await;
    edge.clock.advance(Duration::from_secs(30 * 60 + 1));
    let error = edge.get(ME, Some(&pair.access)).await.expect(401);
    assert!(
        error["error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("expired"))
    );
    let pair = Pair::of(&refresh(&edge, &pair.refresh).await.expect(200));
    edge.clock.advance(Duration::from_secs(31 * 86_400));
    refresh(&edge, &pair.refresh).await.is(401);
    edge.finish().await;
}

#[actix_web::test]
async fn forged_tokens_are_refused() {
    let edge = Edge::start().await;
    let pair = edge.login("ada").await;
    let claims = pair.access.split('.').nth(1).unwrap().to_owned();
    let read: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(&claims).unwrap()).unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let signed = |algorithm, key: &str| {
        jsonwebtoken::encode(
            &Header::new(algorithm),
            &read,
            &EncodingKey::from_secret(key.as_bytes()),
        )
        .unwrap()
    };
    for token in [
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{}", pair.access.split('.').nth(2).unwrap()),
        signed(Algorithm::HS512, SECRET),
        signed(Algorithm::HS256, "another key of thirty-two bytes!!"),
        pair.refresh.clone(),
        "x".to_owned(),
    ] {
        let error = edge.get(ME, Some(&token)).await.expect(401);
        assert_eq!(code(&error), "AUTHENTICATION_ERROR", "{token}");
    }
    edge.get(ME, Some(&signed(Algorithm::HS256, SECRET))).await.is(200);
    edge.finish().await;
}

#[actix_web::test]
async fn a_token_is_required_unless_guests_are_served_and_a_bad_one_never_makes_a_guest() {
    let edge = Edge::start().await;
    edge.get(ME, None).await.is(401);
    edge.finish().await;
    let open = Edge::open().await;
    let me = open.get(ME, None).await.expect(200);
    assert_eq!((me["user_id"].as_str(), &me["roles"]), (Some("dev"), &json!(["guest"])));
    open.get(ME, Some("x")).await.is(401);
    open.call("GET", ME, &[("Authorization", "Basic eDp5")], None)
        .await
        .is(401);
    let demo = open
        .post(
            "/api/v1/auth/login",
            None,
            json!({"username": "demo", "password": "demo"}),
        )
        .await;
    open.get(ME, Some(&Pair::of(&demo.expect(200)).access)).await.is(200);
    open.finish().await;
}

#[actix_web::test]
async fn a_ticket_is_made_for_a_caller() {
    let edge = Edge::start().await;
    let pair = edge.login("ada").await;
    edge.call("POST", "/api/v1/auth/ticket", &[], None).await.is(401);
    let ticket = edge
        .call(
            "POST",
            "/api/v1/auth/ticket",
            &[("Authorization", &format!("Bearer {}", pair.access))],
            None,
        )
        .await
        .expect(200);
    assert_eq!(ticket["expires_in"], 30);
    assert_eq!(ticket["ticket"].as_str().map(str::len), Some(32));
    edge.finish().await;
}
