//! Tokens of an outside identity provider: a real HTTP server publishes its keys, rotates them, fails.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, web};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use kronos::config::{Config, JwtAlgorithm};
use kronos_actors::config::StoreBackend;
use kronos_testkit::{ConnectOptions, HttpReply, WsClient};
use serde_json::{Value, json};

use crate::harness::{Answer as _, Edge, SECRET};

const ME: &str = "/api/v1/auth/me";
const ISSUER: &str = "https://id.example.com/";
const AUDIENCE: &str = "kronos";
const PAUSE: Duration = Duration::from_secs(600);
const TTL: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

/// A key of the provider.
#[derive(Clone)]
struct Key {
    kid: &'static str,
    algorithm: Algorithm,
    key: EncodingKey,
}

impl Key {
    fn rsa(kid: &'static str, der: &[u8]) -> Self {
        Self {
            kid,
            algorithm: Algorithm::RS256,
            key: EncodingKey::from_rsa_der(der),
        }
    }

    fn ec(kid: &'static str, der: &[u8]) -> Self {
        Self {
            kid,
            algorithm: Algorithm::ES256,
            key: EncodingKey::from_ec_der(der),
        }
    }

    /// Its public half, as a provider publishes it.
    fn public(&self) -> Value {
        let jwk = Jwk::from_encoding_key(&self.key, self.algorithm).expect("a public key");
        let mut jwk = serde_json::to_value(jwk).expect("JSON");
        jwk["kid"] = json!(self.kid);
        jwk["use"] = json!("sig");
        jwk
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_as(Some(self.kid), claims)
    }

    fn sign_as(&self, kid: Option<&str>, claims: &Value) -> String {
        let header = Header {
            kid: kid.map(str::to_owned),
            ..Header::new(self.algorithm)
        };
        jsonwebtoken::encode(&header, claims, &self.key).expect("signed")
    }
}

fn first() -> Key {
    Key::rsa("k1", include_bytes!("fixtures/rsa_1.der"))
}

fn second() -> Key {
    Key::rsa("k2", include_bytes!("fixtures/rsa_2.der"))
}

/// What the provider publishes, and how often it was asked.
struct Published {
    body: Mutex<String>,
    status: AtomicU16,
    asked: AtomicUsize,
}

/// The provider.
struct Provider {
    addr: SocketAddr,
    published: Arc<Published>,
    handle: actix_web::dev::ServerHandle,
}

impl Provider {
    fn start(keys: &[&Key]) -> Self {
        let published = Arc::new(Published {
            body: Mutex::default(),
            status: AtomicU16::new(200),
            asked: AtomicUsize::new(0),
        });
        let data = web::Data::from(Arc::clone(&published));
        let serve = async |published: web::Data<Published>| {
            published.asked.fetch_add(1, Ordering::SeqCst);
            let status = published.status.load(Ordering::SeqCst).try_into().expect("a status");
            HttpResponse::build(status).body(published.body.lock().unwrap().clone())
        };
        let server = HttpServer::new(move || App::new().app_data(data.clone()).route("/jwks", web::get().to(serve)))
            .workers(1)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .expect("the provider listens");
        let addr = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        let provider = Self {
            addr,
            published,
            handle,
        };
        provider.publish(keys);
        provider
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<Value> = keys.iter().map(|key| key.public()).collect();
        self.publish_raw(json!({ "keys": keys }).to_string());
    }

    fn publish_raw(&self, body: String) {
        *self.published.body.lock().unwrap() = body;
    }

    fn answer_with(&self, status: u16) {
        self.published.status.store(status, Ordering::SeqCst);
    }

    fn asked(&self) -> usize {
        self.published.asked.load(Ordering::SeqCst)
    }

    fn settings(&self, config: &mut Config, algorithm: JwtAlgorithm) {
        let outside = &mut config.auth.outside;
        outside.url = Some(format!("http://{}/jwks", self.addr));
        outside.algorithm = algorithm;
        outside.issuer = Some(ISSUER.to_owned());
        outside.audience = Some(AUDIENCE.to_owned());
        outside.timeout = Duration::from_secs(10);
        // Much longer than a test takes: its clock is moved.
        outside.pause = PAUSE;
        outside.ttl = TTL;
    }

    /// A server that takes this provider's tokens, once it has asked for the keys.
    async fn edge(&self, change: impl FnOnce(&mut Config)) -> Edge {
        let before = self.asked();
        let edge = Edge::with(|config| {
            self.settings(config, JwtAlgorithm::Rs256);
            change(config);
        })
        .await;
        kronos_testkit::eventually(Duration::from_secs(10), "the keys were asked for", async || {
            self.asked() > before
        })
        .await;
        edge
    }

    async fn stop(self) {
        self.handle.stop(false).await;
    }
}

fn now(edge: &Edge) -> i64 {
    edge.clock.now_ms() / 1000
}

fn claims(edge: &Edge, change: &Value) -> Value {
    let now = now(edge);
    let mut claims = json!({"sub": "auth0|ada", "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 600});
    for (name, value) in change.as_object().expect("an object") {
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value.clone(),
        }
    }
    claims
}

async fn me(edge: &Edge, token: &str) -> HttpReply {
    edge.get(ME, Some(token)).await
}

fn is_no_key(reply: &HttpReply) {
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    let error = &reply.json()["error"];
    assert_eq!(
        (error["code"].as_str(), error["details"]["service"].as_str()),
        (Some("EXTERNAL_SERVICE_ERROR"), Some("JWKS"))
    );
}

#[actix_web::test]
async fn a_token_of_the_provider_says_who_is_calling() {
    let key = first();
    let provider = Provider::start(&[&key]);
    let edge = provider.edge(|_| {}).await;
    let token = key.sign(&claims(
        &edge,
        &json!({"aud": ["other", AUDIENCE], "preferred_username": "Ada", "is_superuser": true,
        "roles": ["superuser"]}),
    ));
    let caller = me(&edge, &token).await.expect(200);
    assert_eq!(
        (
            caller["user_id"].as_str(),
            caller["username"].as_str(),
            &caller["roles"]
        ),
        (Some("auth0|ada"), Some("Ada"), &json!(["user"])),
        "no claim makes a superuser"
    );
    edge.get("/api/v1/chat/", Some(&token)).await.is(200);
    edge.get("/api/v1/users/", Some(&token)).await.is(403);
    edge.get("/api/v1/users/auth0%7Cada", Some(&token)).await.is(404);
    let other = key.sign(&claims(&edge, &json!({"sub": "auth0|bob"})));
    edge.get("/api/v1/users/auth0%7Cada", Some(&other)).await.is(403);
    let mut socket = WsClient::connect(&format!("ws://{}/ws", edge.addr), ConnectOptions::token(&token)).await;
    let user = socket.welcome().user.clone();
    assert_eq!((user.id.as_str(), user.name.as_deref()), ("auth0|ada", Some("Ada")));
    let bearer = format!("Bearer {token}");
    edge.call("POST", "/api/v1/auth/logout", &[("Authorization", &bearer)], None)
        .await
        .is(200);
    assert_eq!(socket.closed().await.code, 4401);
    me(&edge, &token).await.is(401);
    me(&edge, &other).await.is(200);
    assert_eq!(provider.asked(), 1);
    edge.finish().await;
    provider.stop().await;
}

#[actix_web::test]
async fn this_server_makes_no_tokens_beside_a_provider() {
    let provider = Provider::start(&[&first()]);
    let edge = provider.edge(|_| {}).await;
    for (path, body) in [
        ("login", json!({"username": "demo", "password": "demo"})),
        (
            "signup",
            json!({"username": "ada", "email": "ada@example.com", "password": "correct horse"}),
        ),
        ("refresh", json!({"refresh_token": "x"})),
    ] {
        let error = edge.post(&format!("/api/v1/auth/{path}"), None, body).await.expect(503);
        assert_eq!(error["error"]["code"], "CONFIGURATION_ERROR");
        assert_eq!(error["error"]["details"]["config_key"], "JWT_JWKS_URL");
    }
    let own = json!({"sub": "ada", "jti": "j", "fam": "f", "typ": "access", "iss": ISSUER, "aud": AUDIENCE});
    let own = jsonwebtoken::encode(
        &Header::new(Algorithm::HS256),
        &claims(&edge, &own),
        &EncodingKey::from_secret(SECRET.as_bytes()),
    );
    me(&edge, &own.unwrap()).await.is(401);
    edge.finish().await;
    provider.stop().await;
}

#[actix_web::test]
async fn only_what_the_provider_signed_for_this_server_is_taken() {
    let (key, stranger) = (first(), second());
    let provider = Provider::start(&[&key]);
    let edge = provider.edge(|_| {}).await;
    let good = claims(&edge, &json!({}));
    me(&edge, &key.sign(&good)).await.is(200);
    me(&edge, &key.sign_as(None, &good)).await.is(200);
    let unsigned = |header: Value| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(&header), part(&good))
    };
    let public = key.public();
    let confused = |secret: &[u8]| {
        let header = Header {
            kid: Some("k1".to_owned()),
            ..Header::new(Algorithm::HS256)
        };
        jsonwebtoken::encode(&header, &good, &EncodingKey::from_secret(secret)).unwrap()
    };
    let wrong = |change: Value| key.sign(&claims(&edge, &change));
    let modulus = public["n"].as_str().unwrap();
    for (what, token) in [
        ("another issuer", wrong(json!({"iss": "https://evil.example.com/"}))),
        ("a list of issuers", wrong(json!({"iss": [ISSUER]}))),
        ("no issuer", wrong(json!({"iss": null}))),
        ("another audience", wrong(json!({"aud": "other"}))),
        ("other audiences", wrong(json!({"aud": ["other", "third"]}))),
        ("no audience", wrong(json!({"aud": null}))),
        ("no end", wrong(json!({"exp": null}))),
        ("no user", wrong(json!({"sub": null}))),
        ("a user that is no id", wrong(json!({"sub": "a b"}))),
        ("a user that is no text", wrong(json!({"sub": 7}))),
        ("a strange key under its id", stranger.sign_as(Some("k1"), &good)),
        ("a strange key without an id", stranger.sign_as(None, &good)),
        (
            "an elliptic key",
            Key::ec("k1", include_bytes!("fixtures/ec_1.der")).sign(&good),
        ),
        ("the public key as a secret", confused(modulus.as_bytes())),
        (
            "its bytes as a secret",
            confused(&URL_SAFE_NO_PAD.decode(modulus).unwrap()),
        ),
        ("no algorithm", unsigned(json!({"alg": "none", "kid": "k1"}))),
        (
            "its own key",
            unsigned(json!({"alg": "RS256", "jwk": stranger.public()})),
        ),
        ("no signature", unsigned(json!({"alg": "RS256", "kid": "k1"}))),
        (
            "a long key id",
            unsigned(json!({"alg": "RS256", "kid": "k".repeat(257)})),
        ),
        (
            "something critical",
            unsigned(json!({"alg": "RS256", "kid": "k1", "crit": ["exp"]})),
        ),
        ("nothing", "x".to_owned()),
    ] {
        let error = me(&edge, &token).await.expect(401);
        assert_eq!(error["error"]["code"], "AUTHENTICATION_ERROR", "{what}");
    }
    assert_eq!(provider.asked(), 1, "none of them was worth a question");
    edge.finish().await;
    provider.stop().await;
}

#[actix_web::test]
async fn times_are_checked_with_the_leeway_and_no_more() {
    let key = first();
    let provider = Provider::start(&[&key]);
    let edge = provider
        .edge(|config| config.auth.outside.leeway = Duration::from_secs(100))
        .await;
    let now = now(&edge);
    for (change, status) in [
        (json!({"exp": now - 90}), 200),
        (json!({"exp": now - 100}), 401),
        (json!({"exp": now - 110}), 401),
        (json!({"exp": now as f64 + 0.5}), 200),
        (json!({"exp": 1e300}), 200),
        (json!({"exp": "tomorrow"}), 401),
        (json!({"nbf": now + 90}), 200),
        (json!({"nbf": now + 150}), 401),
    ] {
        let reply = me(&edge, &key.sign(&claims(&edge, &change))).await;
        assert_eq!(reply.status, status, "{change}");
    }
    edge.finish().await;
    provider.stop().await;
}

#[actix_web::test]
async fn rotated_keys_are_picked_up_and_old_ones_end() {
    let (old, new) = (first(), second());
    let provider = Provider::start(&[&old]);
    let edge = provider.edge(|_| {}).await;
    let token = |key: &Key| key.sign(&claims(&edge, &json!({"exp": now(&edge) + 86_400})));
    me(&edge, &token(&old)).await.is(200);
    provider.publish(&[&old, &new]);
    edge.clock.advance(PAUSE + SECOND);
    let fresh = token(&new);
    for reply in join_all((0..20).map(|_| me(&edge, &fresh))).await {
        reply.is(200);
    }
    assert_eq!(provider.asked(), 2, "one question for all of them");
    me(&edge, &token(&old)).await.is(200);
    provider.publish(&[&new]);
    edge.clock.advance(TTL - PAUSE);
    me(&edge, &token(&old)).await.is(200);
    edge.clock.advance(PAUSE + SECOND);
    me(&edge, &token(&old)).await.is(401);
    me(&edge, &token(&new)).await.is(200);
    assert_eq!(provider.asked(), 3);
    edge.finish().await;
    provider.stop().await;
}

#[actix_web::test]
async fn made_up_key_ids_ask_once_and_then_wait() {
    let key = first();
    let provider = Provider::start(&[&key]);
    let edge = provider.edge(|_| {}).await;
    let forged: Vec<String> = (0..30)
        .map(|n| second().sign_as(Some(&format!("forged-{n}")), &claims(&edge, &json!({}))))
        .collect();
    // One that is known: from here on the keys are there, whoever asked for them first.
    me(&edge, &key.sign(&claims(&edge, &json!({})))).await.is(200);
    // The keys were asked for a moment ago: nobody is asked again yet, and nobody says no for the provider.
    is_no_key(&me(&edge, &forged[0]).await);
    assert_eq!(provider.asked(), 1);
    edge.clock.advance(PAUSE + SECOND);
    let replies = join_all(forged.iter().map(|token| me(&edge, token))).await;
    assert!(replies.iter().all(|reply| matches!(reply.status, 401 | 503)));
    assert!(
        replies.iter().any(|reply| reply.status == 401),
        "the provider does not know it"
    );
    assert_eq!(provider.asked(), 2);
    me(&edge, &key.sign(&claims(&edge, &json!({})))).await.is(200);
    edge.finish().await;
    provider.stop().await;
}

#[actix_web::test]
async fn known_keys_go_on_while_the_provider_is_down_but_not_for_ever() {
    let (key, new) = (first(), second());
    let provider = Provider::start(&[&key]);
    let edge = provider.edge(|config| config.auth.outside.stale = 10 * TTL).await;
    let token = |key: &Key| key.sign(&claims(&edge, &json!({"exp": now(&edge) + 86_400})));
    me(&edge, &token(&key)).await.is(200);
    provider.answer_with(500);
    edge.clock.advance(TTL + SECOND);
    me(&edge, &token(&key)).await.is(200);
    assert_eq!(provider.asked(), 2, "asked in vain");
    me(&edge, &token(&key)).await.is(200);
    assert_eq!(provider.asked(), 2, "and not at once again");
    edge.clock.advance(PAUSE + SECOND);
    is_no_key(&me(&edge, &token(&new)).await);
    edge.clock.advance(10 * TTL);
    is_no_key(&me(&edge, &token(&key)).await);
    let socket = WsClient::try_connect(&format!("ws://{}/ws", edge.addr), ConnectOptions::token(&token(&key))).await;
    assert!(socket.is_err(), "a socket is sent away, to come back");
    provider.answer_with(200);
    provider.publish(&[&key, &new]);
    edge.clock.advance(PAUSE + SECOND);
    me(&edge, &token(&key)).await.is(200);
    me(&edge, &token(&new)).await.is(200);
    edge.finish().await;
    provider.stop().await;
}

#[actix_web::test]
async fn a_provider_that_talks_nonsense_gives_no_keys() {
    let key = first();
    let good = json!({"keys": [key.public()]}).to_string();
    let provider = Provider::start(&[&key]);
    let limit = good.len() + 64;
    let edge = provider.edge(|config| config.auth.outside.bytes = limit).await;
    let token = key.sign(&claims(&edge, &json!({"exp": now(&edge) + 86_400})));
    me(&edge, &token).await.is(200);
    let with = |name: &str, value: Value| {
        let mut public = key.public();
        public[name] = value;
        json!({ "keys": [public] }).to_string()
    };
    let short = Key::rsa("k1", include_bytes!("fixtures/rsa_short.der")).public();
    let padded = |bytes: usize| format!("{good}{}", " ".repeat(bytes - good.len()));
    for (body, status) in [
        (String::new(), 503),
        ("<html>".to_owned(), 503),
        (json!({"keys": []}).to_string(), 503),
        (json!({"keys": [7, {"kty": "new"}]}).to_string(), 503),
        (json!({ "keys": [short] }).to_string(), 503),
        (with("use", json!("enc")), 503),
        (with("alg", json!("RS512")), 503),
        (with("kty", json!("EC")), 503),
        (padded(limit + 1), 503),
        (padded(limit), 200),
        (padded(limit - 1), 200),
        (json!({"keys": [{"kty": "new"}, key.public()]}).to_string(), 200),
    ] {
        provider.publish_raw(body.clone());
        // Past the time in which the known keys go on.
        edge.clock.advance(Duration::from_secs(2 * 86_400));
        let token = key.sign(&claims(&edge, &json!({"exp": now(&edge) + 600})));
        let reply = me(&edge, &token).await;
        assert_eq!(reply.status, status, "{body:.60}");
    }
    edge.finish().await;
    provider.stop().await;
}

#[actix_web::test]
async fn elliptic_keys_are_taken_where_they_are_configured() {
    let (key, other) = (
        Key::ec("e1", include_bytes!("fixtures/ec_1.der")),
        Key::ec("e2", include_bytes!("fixtures/ec_2.der")),
    );
    let rsa = first();
    let provider = Provider::start(&[&key, &rsa]);
    let edge = provider
        .edge(|config| config.auth.outside.algorithm = JwtAlgorithm::Es256)
        .await;
    let good = claims(&edge, &json!({}));
    me(&edge, &key.sign(&good)).await.is(200);
    me(&edge, &key.sign_as(None, &good)).await.is(200);
    me(&edge, &other.sign_as(Some("e1"), &good)).await.is(401);
    me(&edge, &rsa.sign(&good)).await.is(401);
    edge.finish().await;
    provider.stop().await;
}

/// Runs `kronos users` on a store that no server has open.
fn users(data: &std::path::Path, provider: &Provider, arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_kronos"))
        .args(["users", "--json"])
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", format!("sled://{}", data.display()))
        .env("PORT", "1")
        .env("JWT_JWKS_URL", format!("http://{}/jwks", provider.addr))
        .env("JWT_ALGORITHM", "RS256")
        .env("JWT_ISSUER", ISSUER)
        .env("JWT_AUDIENCE", AUDIENCE)
        .current_dir(data.parent().expect("a folder"))
        .stdin(Stdio::null())
        .output()
        .expect("kronos runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[actix_web::test]
async fn a_record_kept_here_gives_and_takes_rights() {
    let key = first();
    let provider = Provider::start(&[&key]);
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let root = [
        "create",
        "root",
        "--email",
        "root@example.com",
        "--superuser",
        "--id",
        "auth0|root",
    ];
    assert_eq!(users(&data, &provider, &root)["id"], "auth0|root");
    let edge = provider
        .edge(|config| config.store.backend = StoreBackend::Sled(data))
        .await;
    let token = |sub: &str| key.sign(&claims(&edge, &json!({"sub": sub, "exp": now(&edge) + 30 * 86_400})));
    let (root, ada) = (token("auth0|root"), token("auth0|ada"));
    let caller = me(&edge, &root).await.expect(200);
    assert_eq!(
        (&caller["roles"], caller["username"].as_str()),
        (&json!(["user", "superuser"]), Some("root"))
    );
    let body = json!({"id": "auth0|ada", "username": "ada", "email": "ada@example.com"});
    edge.post("/api/v1/users/", Some(&root), body.clone()).await.is(201);
    let again = edge.post(
        "/api/v1/users/",
        Some(&root),
        json!({"id": "auth0|ada", "username": "ada2", "email": "a2@example.com"}),
    );
    assert_eq!(again.await.expect(409)["error"]["details"]["field"], "id");
    assert_eq!(me(&edge, &ada).await.expect(200)["email"], "ada@example.com");
    let mut socket = WsClient::connect(&format!("ws://{}/ws", edge.addr), ConnectOptions::token(&ada)).await;
    let bearer = format!("Bearer {root}");
    let headers = [("Authorization", bearer.as_str())];
    let path = "/api/v1/users/auth0%7Cada";
    edge.call("PUT", path, &headers, Some(&json!({"is_active": false})))
        .await
        .is(200);
    assert_eq!(socket.closed().await.code, 4401);
    me(&edge, &ada).await.is(401);
    edge.call("PUT", path, &headers, Some(&json!({"is_active": true})))
        .await
        .is(200);
    me(&edge, &ada).await.is(200);
    edge.call("DELETE", path, &headers, None).await.is(204);
    me(&edge, &ada).await.is(401);
    edge.clock.advance(Duration::from_secs(20 * 86_400));
    me(&edge, &token("auth0|ada")).await.is(401);
    edge.post("/api/v1/users/", Some(&root), body).await.is(409);
    edge.finish().await;
    provider.stop().await;
}
