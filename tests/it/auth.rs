//! Who is calling, over websockets and REST, on a server that wants tokens.

use std::{
    process::{Command, Stdio},
    time::Duration,
};

use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use kronos_actors::clock::Clock;
use kronos_protocol::{ErrorCode, OkBody};
use kronos_testkit::{ConnectOptions, HttpReply, WsClient};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Kronos, kronos, kronos_with};

const SECRET: &str = "a secret of the tests, 32 bytes and more";
const LIMIT: Duration = Duration::from_secs(10);
const PASSWORD: &str = "correct horse";

pub(crate) async fn strict() -> Kronos {
    kronos_with(400.0, &[("AUTH_MODE", "required"), ("SECRET_KEY", SECRET)]).await
}

/// A user who has logged in.
pub(crate) struct Member {
    id: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
}

impl Member {
    pub(crate) async fn sign_up(kronos: &Kronos, name: &str) -> Self {
        let body = json!({"username": name, "email": format!("{name}@example.com"), "password": PASSWORD});
        let profile = kronos.server.post("/api/v1/auth/signup", &[], &body).await.expect(201);
        let login = log_in(kronos, name, PASSWORD).await.expect(200);
        Self::of(profile["id"].as_str().unwrap(), &login)
    }

    fn of(id: &str, login: &Value) -> Self {
        let text = |name: &str| login[name].as_str().expect("a token").to_owned();
        Self {
            id: id.to_owned(),
            access: text("access_token"),
            refresh: text("refresh_token"),
        }
    }

    pub(crate) async fn refreshed(&self, kronos: &Kronos) -> Self {
        let body = json!({"refresh_token": self.refresh});
        let reply = kronos.server.post("/api/v1/auth/refresh", &[], &body).await.expect(200);
        Self::of(&self.id, &reply)
    }

    pub(crate) async fn log_out(&self, kronos: &Kronos) {
        send(kronos, "POST", "/api/v1/auth/logout", &self.access, None)
            .await
            .expect(200);
    }

    async fn ticket(&self, kronos: &Kronos) -> String {
        let body = send(kronos, "POST", "/api/v1/auth/ticket", &self.access, None)
            .await
            .expect(200);
        body["ticket"].as_str().unwrap().to_owned()
    }

    /// A token as the server would sign it for this user, with other claims in it.
    fn forge(&self, change: &Value) -> String {
        self.sign(Algorithm::HS256, SECRET, change)
    }

    fn sign(&self, algorithm: Algorithm, secret: &str, change: &Value) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Header::new(algorithm), &self.claims(change), &key).unwrap()
    }

    fn claims(&self, change: &Value) -> Value {
        let now = now();
        let mut claims = json!({"sub": self.id, "jti": "j", "iat": now, "exp": now + 600, "typ": "access", "fam": "f"});
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }
}

/// Seconds since 1970, as tokens count.
fn now() -> u64 {
    Clock::default().now_ms().unsigned_abs() / 1000
}

async fn log_in(kronos: &Kronos, name: &str, password: &str) -> HttpReply {
    let body = json!({"username": name, "password": password});
    kronos.server.post("/api/v1/auth/login", &[], &body).await
}

async fn send(kronos: &Kronos, method: &str, path: &str, token: &str, body: Option<&Value>) -> HttpReply {
    let bearer = format!("Bearer {token}");
    kronos
        .server
        .request(method, path, &[("Authorization", &bearer)], body)
        .await
}

async fn me(kronos: &Kronos, token: &str) -> HttpReply {
    send(kronos, "GET", "/api/v1/auth/me", token, None).await
}

/// Opens a websocket that is upgraded, whatever it says, and has not said hello.
async fn open(kronos: &Kronos, options: ConnectOptions) -> WsClient {
    let silent = ConnectOptions {
        hello: false,
        ..options
    };
    kronos.server.connect(silent).await
}

fn bearer(token: &str) -> ConnectOptions {
    ConnectOptions {
        bearer: Some(token.to_owned()),
        ..ConnectOptions::default()
    }
}

fn with_ticket(ticket: &str) -> ConnectOptions {
    ConnectOptions {
        ticket: Some(ticket.to_owned()),
        ..ConnectOptions::default()
    }
}

async fn expect_4401(client: &mut WsClient, what: &str) {
    let closed = client.closed().await;
    assert_eq!(
        (closed.code, closed.text.as_str()),
        (4401, r#"{"retry":false}"#),
        "{what}"
    );
}

/// Says hello with a token that must be refused: an error, then 4401.
async fn expect_no_hello(kronos: &Kronos, token: Option<&str>, what: &str) {
    let mut client = open(kronos, ConnectOptions::default()).await;
    let error = client
        .request(json!({"op": "hello", "token": token}))
        .await
        .expect_err(what);
    assert_eq!((error.code, error.retry), (ErrorCode::Unauthenticated, false), "{what}");
    expect_4401(&mut client, what).await;
}

async fn answers(client: &mut WsClient) {
    let session = client.attach_new().await;
    let answer = client.ask(&session, "m_1", "What is the capital of Switzerland?").await;
    assert!(answer.contains("Bern"), "{answer}");
}

#[tokio::test]
async fn a_token_opens_a_websocket_in_hello_in_the_header_and_as_a_ticket() {
    let kronos = strict().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let ticket = ann.ticket(&kronos).await;
    for options in [
        ConnectOptions::token(&ann.access),
        bearer(&ann.access),
        with_ticket(&ticket),
    ] {
        let mut client = kronos.server.connect(options).await;
        let user = &client.welcome().user;
        assert_eq!((user.id.as_str(), user.name.as_deref()), (ann.id.as_str(), Some("ann")));
        answers(&mut client).await;
        client.finish().await;
    }
    let mut again = open(&kronos, with_ticket(&ticket)).await;
    expect_4401(&mut again, "a ticket is used once").await;
    let listed = send(&kronos, "GET", "/api/v1/chat/", &ann.access, None)
        .await
        .expect(200);
    assert_eq!(listed["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_token_that_is_none_is_refused_everywhere() {
    let kronos = strict().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let unsigned = |header: &str| {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let claims = ann.claims(&json!({})).to_string();
        format!("{}.{}.", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    };
    let good = ann.forge(&json!({}));
    me(&kronos, &good).await.expect(200);
    let mut cut = good.clone();
    cut.pop();
    let tokens = [
        ("expired", ann.forge(&json!({"exp": now() - 1}))),
        (
            "of another secret",
            ann.sign(Algorithm::HS256, "another secret, also of 32 bytes", &json!({})),
        ),
        ("of another algorithm", ann.sign(Algorithm::HS512, SECRET, &json!({}))),
        ("without an algorithm", unsigned(r#"{"alg":"none","typ":"JWT"}"#)),
        ("with a strange algorithm", unsigned(r#"{"alg":"nOnE"}"#)),
        ("for refreshing", ann.refresh.clone()),
        (
            "of nobody",
            ann.forge(&json!({"sub": "0192aaaa-0000-7000-8000-000000000000"})),
        ),
        ("without an end", ann.forge(&json!({"exp": null}))),
        ("cut", cut),
        ("no token", "not-a-token".to_owned()),
    ];
    let cases = tokens.iter().map(|(what, token)| {
        let kronos = &kronos;
        async move {
            expect_no_hello(kronos, Some(token), what).await;
            let mut client = open(kronos, bearer(token)).await;
            expect_4401(&mut client, what).await;
            let reply = me(kronos, token).await;
            assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{what}");
            assert_eq!(reply.expect(401)["error"]["code"], "AUTHENTICATION_ERROR", "{what}");
        }
    });
    join_all(cases).await;
    expect_no_hello(&kronos, None, "no token at all").await;
    expect_no_hello(&kronos, Some(""), "an empty token").await;
    let mut ticket = open(&kronos, with_ticket("no-ticket")).await;
    expect_4401(&mut ticket, "an unknown ticket").await;
    let mut guest = open(&kronos, ConnectOptions::user(&ann.id)).await;
    let error = guest.request(json!({"op": "hello"})).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::Unauthenticated, "nobody is a guest here");
    expect_4401(&mut guest, "a guest").await;
    answers(&mut kronos.server.connect(ConnectOptions::token(&ann.access)).await).await;
    for (reason, times) in [("expired", 3), ("revoked", 3), ("missing", 2), ("invalid", 26)] {
        let series = format!("kronos_auth_failures_total{{reason=\"{reason}\"}}");
        assert_eq!(kronos.series(&series).await, times, "{reason}: each counts once");
    }
}

#[tokio::test]
async fn hello_with_the_token_of_another_user_than_the_upgrade_is_4403() {
    let kronos = strict().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let bob = Member::sign_up(&kronos, "bob").await;
    let mut client = open(&kronos, bearer(&ann.access)).await;
    let error = client
        .request(json!({"op": "hello", "token": bob.access}))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::Forbidden);
    assert_eq!(client.close_code().await, 4403);
    answers(&mut kronos.server.connect(ConnectOptions::token(&ann.access)).await).await;
}

#[tokio::test]
async fn logout_closes_the_sockets_of_the_login_and_refuses_its_tokens() {
    let kronos = strict().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let elsewhere = Member::of(&ann.id, &log_in(&kronos, "ann", PASSWORD).await.expect(200));
    let bob = Member::sign_up(&kronos, "bob").await;
    let mut stay = [
        kronos.server.connect(ConnectOptions::token(&elsewhere.access)).await,
        kronos.server.connect(ConnectOptions::token(&bob.access)).await,
    ];
    let ticket = ann.ticket(&kronos).await;
    let unused = ann.ticket(&kronos).await;
    let mut ended = [
        kronos.server.connect(ConnectOptions::token(&ann.access)).await,
        kronos.server.connect(bearer(&ann.access)).await,
        kronos.server.connect(with_ticket(&ticket)).await,
    ];
    ann.log_out(&kronos).await;
    for client in &mut ended {
        expect_4401(client, "logged out").await;
    }
    expect_no_hello(&kronos, Some(&ann.access), "logged out").await;
    me(&kronos, &ann.access).await.expect(401);
    let mut client = open(&kronos, with_ticket(&unused)).await;
    expect_4401(&mut client, "a ticket of a login that has ended").await;
    let refresh = json!({"refresh_token": ann.refresh});
    kronos
        .server
        .post("/api/v1/auth/refresh", &[], &refresh)
        .await
        .expect(401);
    for client in &mut stay {
        answers(client).await;
    }
}

#[tokio::test]
async fn logout_also_ends_what_the_logins_earlier_tokens_opened() {
    let kronos = strict().await;
    let first = Member::sign_up(&kronos, "ann").await;
    let mut socket = kronos.server.connect(ConnectOptions::token(&first.access)).await;
    let ticket = first.ticket(&kronos).await;
    let second = first.refreshed(&kronos).await;
    let mut newer = kronos.server.connect(ConnectOptions::token(&second.access)).await;
    second.log_out(&kronos).await;
    me(&kronos, &first.access).await.expect(401);
    expect_4401(&mut newer, "of the token that logged out").await;
    expect_4401(&mut socket, "of the token before it").await;
    let mut late = open(&kronos, with_ticket(&ticket)).await;
    expect_4401(&mut late, "a ticket of the token before it").await;
}

#[tokio::test]
async fn a_socket_that_has_not_said_hello_is_revoked_like_any_other() {
    let kronos = strict().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let ticket = ann.ticket(&kronos).await;
    let mut early = [
        open(&kronos, bearer(&ann.access)).await,
        open(&kronos, with_ticket(&ticket)).await,
    ];
    ann.log_out(&kronos).await;
    for client in &mut early {
        client.start(json!({"op": "hello"})).await;
        expect_4401(client, "proven before the logout, hello after it").await;
    }
}

#[tokio::test]
async fn a_logout_during_hello_leaves_no_socket_open() {
    let kronos = strict().await;
    let mut ann = Member::sign_up(&kronos, "ann").await;
    for _ in 0..8 {
        let mut sockets = Vec::new();
        for _ in 0..6 {
            sockets.push(open(&kronos, ConnectOptions::default()).await);
        }
        let hello = json!({"op": "hello", "token": ann.access});
        let greetings = join_all(sockets.iter_mut().map(|client| client.start(hello.clone())));
        tokio::join!(greetings, ann.log_out(&kronos));
        for client in &mut sockets {
            expect_4401(client, "whoever was first").await;
        }
        ann = Member::of(&ann.id, &log_in(&kronos, "ann", PASSWORD).await.expect(200));
    }
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_the_login_and_all_its_sockets() {
    let kronos = strict().await;
    let first = Member::sign_up(&kronos, "ann").await;
    let mut sockets = vec![kronos.server.connect(ConnectOptions::token(&first.access)).await];
    let second = first.refreshed(&kronos).await;
    sockets.push(kronos.server.connect(ConnectOptions::token(&second.access)).await);
    let third = second.refreshed(&kronos).await;
    sockets.push(kronos.server.connect(ConnectOptions::token(&third.access)).await);
    let reused = json!({"refresh_token": first.refresh});
    kronos
        .server
        .post("/api/v1/auth/refresh", &[], &reused)
        .await
        .expect(401);
    for member in [&first, &second, &third] {
        me(&kronos, &member.access).await.expect(401);
        expect_no_hello(&kronos, Some(&member.access), "its family is revoked").await;
        let refresh = json!({"refresh_token": member.refresh});
        kronos
            .server
            .post("/api/v1/auth/refresh", &[], &refresh)
            .await
            .expect(401);
    }
    for client in &mut sockets {
        expect_4401(client, "its family is revoked").await;
    }
    let again = Member::of(&first.id, &log_in(&kronos, "ann", PASSWORD).await.expect(200));
    answers(&mut kronos.server.connect(ConnectOptions::token(&again.access)).await).await;
}

#[tokio::test]
async fn a_fresh_token_keeps_a_socket_open_and_without_one_it_ends_with_its_token() {
    let kronos = strict().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let bob = Member::sign_up(&kronos, "bob").await;
    let short = ann.forge(&json!({"exp": now() + 3}));
    let mut kept = kronos.server.connect(ConnectOptions::token(&short)).await;
    let mut left = kronos.server.connect(ConnectOptions::token(&short)).await;
    for (token, code) in [
        (bob.access.as_str(), ErrorCode::Forbidden),
        (&ann.refresh, ErrorCode::Unauthenticated),
        ("not-a-token", ErrorCode::Unauthenticated),
    ] {
        for client in [&mut kept, &mut left] {
            let error = client
                .request(json!({"op": "token", "token": token}))
                .await
                .unwrap_err();
            assert_eq!(error.code, code);
            client
                .request(json!({"op": "ping"}))
                .await
                .expect("a refused token changes nothing");
        }
    }
    let until = now() + 300;
    let long = ann.forge(&json!({"exp": until, "jti": "j2", "fam": "f2"}));
    match kept.request(json!({"op": "token", "token": long})).await {
        Ok(OkBody::TokenAccepted(accepted)) => {
            let end = time::OffsetDateTime::parse(&accepted.expires_at, &time::format_description::well_known::Rfc3339);
            assert_eq!(end.unwrap().unix_timestamp().unsigned_abs(), until);
        }
        other => panic!("{other:?}"),
    }
    expect_4401(&mut left, "its token has ended").await;
    assert!(now() >= until - 300, "not before");
    answers(&mut kept).await;
    expect_no_hello(&kronos, Some(&short), "it has ended").await;
}

#[tokio::test]
async fn two_users_see_nothing_of_each_other() {
    let kronos = strict().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let bob = Member::sign_up(&kronos, "bob").await;
    let mut hers = kronos.server.connect(ConnectOptions::token(&ann.access)).await;
    let mut his = kronos.server.connect(ConnectOptions::token(&bob.access)).await;
    hers.attach("@me", None).await;
    his.attach("@me", None).await;
    let session = hers.attach_new().await;
    hers.ask(&session, "m_1", "a secret").await;
    hers.until("her feed", |client| {
        client.cursor("@me").is_some_and(|cursor| cursor.seq >= 1)
    })
    .await;

    let error = his
        .request(json!({"op": "attach", "session": session}))
        .await
        .unwrap_err();
    assert_eq!(error.code, ErrorCode::NotFound);
    let theft = json!({"op": "send", "session": session, "id": "m_2", "content": "mine now"});
    assert_eq!(his.request(theft).await.unwrap_err().code, ErrorCode::NotFound);
    let show = format!("/api/v1/chat/{session}");
    send(&kronos, "GET", &show, &bob.access, None).await.expect(404);
    let list = send(&kronos, "GET", "/api/v1/chat/", &bob.access, None)
        .await
        .expect(200);
    assert_eq!(list["items"], json!([]));
    for path in [
        format!("{show}?user_id={}", ann.id),
        format!("/api/v1/chat/?user_id={}", ann.id),
    ] {
        let error = send(&kronos, "GET", &path, &bob.access, None).await.expect(403);
        assert_eq!(error["error"]["code"], "AUTHORIZATION_ERROR");
    }
    let into = json!({"message": "mine now", "conversation_id": session});
    send(&kronos, "POST", "/api/v1/chat/message", &bob.access, Some(&into))
        .await
        .expect(404);
    let as_her = json!({"message": "Hello!", "user_id": ann.id});
    send(&kronos, "POST", "/api/v1/chat/message", &bob.access, Some(&as_her))
        .await
        .expect(403);

    let own = his.attach_new().await;
    his.until("his feed", |client| {
        client.cursor("@me").is_some_and(|cursor| cursor.seq >= 1)
    })
    .await;
    let mut again = kronos.server.connect(ConnectOptions::token(&bob.access)).await;
    again.attach("@me", None).await;
    again.until_caught_up("@me").await;
    let seen = format!("{:?}", again.try_next_frame(LIMIT).await);
    assert!(
        seen.contains(own.as_str()) && !seen.contains(session.as_str()),
        "{seen}"
    );
    let shown = send(&kronos, "GET", &show, &ann.access, None).await.expect(200);
    assert_eq!(shown["messages"].as_array().unwrap().len(), 2, "nothing was added");
}

#[tokio::test]
async fn a_login_does_not_tell_whether_the_user_or_the_password_was_wrong() {
    let kronos = strict().await;
    Member::sign_up(&kronos, "ann").await;
    let mut answers = Vec::new();
    for (name, password) in [
        ("ann", "wrong horse"),
        ("nobody", PASSWORD),
        ("ann@example.com", "x"),
        ("@", "x"),
    ] {
        let mut body = log_in(&kronos, name, password).await.expect(401);
        body["error"]["request_id"] = Value::Null;
        answers.push(body);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:?}");
}

/// Starts the binary with an environment that it must refuse; what it says.
fn refusal(env: &[(&str, &str)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_kronos"))
        .arg("serve")
        .env_clear()
        .env("HOME", dir.path())
        .env("PORT", "0")
        .envs(env.iter().copied())
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{env:?}: {stderr}");
    assert_eq!(stderr.trim_end().lines().count(), 1, "{stderr}");
    assert!(
        output.stdout.is_empty(),
        "{:?}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(
        std::fs::read_dir(dir.path()).unwrap().next().is_none(),
        "nothing was made on disk"
    );
    stderr
}

#[test]
fn production_does_not_start_with_what_only_development_may_have() {
    let production = ("ENVIRONMENT", "production");
    let good = ("SECRET_KEY", SECRET);
    let published = "your-secret-key-here-change-in-production";
    for (env, names) in [
        (vec![production], "SECRET_KEY"),
        (vec![production, ("SECRET_KEY", published)], "SECRET_KEY"),
        (
            vec![production, ("SECRET_KEY", "of-31-bytes-0123456789-abcdefgh")],
            "SECRET_KEY",
        ),
        (vec![production, good, ("AUTH_MODE", "development")], "AUTH_MODE"),
        (vec![production, good, ("ALLOWED_HOSTS", r#"["*"]"#)], "ALLOWED_HOSTS"),
    ] {
        let line = refusal(&env);
        assert!(line.contains(names) && line.contains("production"), "{line}");
        for (name, value) in env {
            assert!(name != "SECRET_KEY" || !line.contains(value), "a secret in {line}");
        }
    }
}

/// Sends an HTTP request as it is and returns status, `x-request-id` and body.
async fn raw_http(kronos: &Kronos, head: &str, body: &[u8]) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(kronos.server.address()).await.unwrap();
    stream
        .write_all(format!("{head}\r\nHost: kronos.test\r\nConnection: close\r\n\r\n").as_bytes())
        .await
        .unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(LIMIT, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let id = head
        .lines()
        .find_map(|line| line.strip_prefix("x-request-id: "))
        .unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (
        status,
        id.to_owned(),
        serde_json::from_str(body).unwrap_or_else(|_| panic!("no JSON: {answer}")),
    )
}

/// A request line with headers, a body, and the status and code that it gets.
type Refused = (String, &'static str, u16, &'static str);

fn refused_requests(token: &str) -> Vec<Refused> {
    let auth = format!("Authorization: Bearer {token}");
    let get = |path: &str| format!("GET {path} HTTP/1.1");
    let post = |kind: &str, body: &'static str, status, code| {
        let length = body.len();
        let head = format!("{auth}\r\nContent-Type: {kind}\r\nContent-Length: {length}");
        (
            format!("POST /api/v1/chat/message HTTP/1.1\r\n{head}"),
            body,
            status,
            code,
        )
    };
    let invalid = |body| post("application/json", body, 422, "VALIDATION_ERROR");
    let basic = format!("{}\r\nAuthorization: Basic eDp5", get("/api/v1/auth/me"));
    let long = format!("POST /api/v1/chat/message HTTP/1.1\r\n{auth}\r\nContent-Length: 9999999");
    let delete = "DELETE /ws HTTP/1.1".to_owned();
    let unknown = format!("{}\r\n{auth}", get("/api/v1/chat/unknown"));
    let forbidden = r#"{"message":"x","user_id":"somebody-else"}"#;
    vec![
        (get("/api/v1/auth/me"), "", 401, "AUTHENTICATION_ERROR"),
        (get("/api/v1/chat/"), "", 401, "AUTHENTICATION_ERROR"),
        (basic, "", 401, "AUTHENTICATION_ERROR"),
        post("application/json", forbidden, 403, "AUTHORIZATION_ERROR"),
        (unknown, "", 404, "NOT_FOUND"),
        (get("/nowhere"), "", 404, "NOT_FOUND"),
        (get("/api/v1/auth/login"), "", 405, "METHOD_NOT_ALLOWED"),
        (delete, "", 405, "METHOD_NOT_ALLOWED"),
        (long, "", 413, "PAYLOAD_TOO_LARGE"),
        post("text/plain", "{}", 415, "UNSUPPORTED_MEDIA_TYPE"),
        invalid("{}"),
        invalid("{"),
        invalid("[]"),
        invalid(""),
        invalid(r#"{"message":7}"#),
        (get("/ws"), "", 400, "VALIDATION_ERROR"),
    ]
}

async fn expect_error_shape(kronos: &Kronos, (head, body, status, code): Refused) {
    let (found, id, answer) = raw_http(kronos, &head, body.as_bytes()).await;
    let what = format!("{} {body}: {answer}", head.lines().next().unwrap());
    let error = &answer["error"];
    assert_eq!((found, error["code"].as_str()), (status, Some(code)), "{what}");
    assert_eq!(error["request_id"].as_str(), Some(id.as_str()), "{what}");
    let typed = error["message"].is_string() && error["details"].is_object();
    assert!(!id.is_empty() && typed, "{what}");
    let fields = (answer.as_object().unwrap().len(), error.as_object().unwrap().len());
    assert_eq!(fields, (1, 4), "{what}");
    if status == 422 {
        let rows = error["details"]["errors"].as_array().expect("one row a field");
        assert!(
            !rows.is_empty() && rows.iter().all(|row| row["field"].is_string()),
            "{what}"
        );
    }
}

#[tokio::test]
async fn every_error_of_rest_has_the_one_shape_and_its_request_id() {
    let kronos = strict().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    for refused in refused_requests(&ann.access) {
        expect_error_shape(&kronos, refused).await;
    }
    let named = "GET /nowhere HTTP/1.1\r\nX-Request-ID: my-own-id";
    assert_eq!(raw_http(&kronos, named, b"").await.1, "my-own-id");
    answers(&mut kronos.server.connect(ConnectOptions::token(&ann.access)).await).await;
}

#[tokio::test]
async fn a_development_server_takes_tokens_too_and_a_wrong_one_makes_nobody_a_guest() {
    let kronos = kronos().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let client = kronos.server.connect(ConnectOptions::token(&ann.access)).await;
    assert_eq!(client.welcome().user.id.as_str(), ann.id);
    expect_no_hello(&kronos, Some("not-a-token"), "a wrong token").await;
    let mut wrong = open(
        &kronos,
        ConnectOptions {
            user: Some("eve".to_owned()),
            ..bearer("not-a-token")
        },
    )
    .await;
    expect_4401(&mut wrong, "a wrong bearer beside a guest's name").await;
    let demo = log_in(&kronos, "demo", "demo").await.expect(200);
    me(&kronos, demo["access_token"].as_str().unwrap()).await.expect(200);
}
