//! Tokens on a live socket: refreshed before they end, ended, revoked; in the middle of a stream.

use std::{net::SocketAddr, time::Duration};

use kronos::{
    Server, Stop,
    config::{AuthMode, Config},
};
use kronos_actors::{clock::Clock, config::StoreBackend};
use kronos_protocol::{OkBody, SendMode, SessionId};
use kronos_sim::{GeminiSim, SimConfig};
use kronos_testkit::{ConnectOptions, WsClient, eventually, request};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    auth::{Member, strict},
    harness::Kronos,
};

const LIMIT: Duration = Duration::from_secs(10);
const MINUTE: u64 = 60;

async fn post(addr: SocketAddr, path: &str, body: Value) -> Value {
    let reply = request(addr, "POST", path, &[], Some(&body)).await.unwrap();
    assert!(reply.status < 300, "{path}: {}", reply.text());
    reply.json()
}

fn text<'a>(body: &'a Value, name: &str) -> &'a str {
    body[name].as_str().expect("a token")
}

/// Reads until the answer has grown.
async fn more_text(client: &mut WsClient, session: &SessionId) {
    let before = client.transcript(session).last_answer().len();
    client
        .until("more text", |client| {
            client.transcript(session).last_answer().len() > before
        })
        .await;
}

#[actix_web::test]
async fn a_turn_of_half_an_hour_over_three_refreshes_has_no_gap() {
    let sim = GeminiSim::start(SimConfig {
        tokens_per_second: 120.0,
        first_token_ms: 5,
        ..SimConfig::default()
    });
    let sim = sim.unwrap();
    let mut config = Config::default();
    config.server.port = 0;
    config.server.workers = 1;
    config.store.backend = StoreBackend::Memory;
    config.auth.mode = AuthMode::Required;
    config.auth.secret_key = Some("0123456789abcdef0123456789abcdef".into());
    config.auth.access_token_ms = 10 * 60_000;
    config.gemini.base_url = sim.url();
    config.gemini.api_key = Some("test-key".into());
    config.log.stderr = false;
    config.session.run_deadline = Duration::from_secs(3600);
    let clock = Clock::default();
    let server = Server::bind_with(config, clock.clone()).await.unwrap();
    let (addr, stop) = (server.addr(), Stop::default());
    let task = actix_web::rt::spawn(server.run(stop.clone()));
    let ready = || async {
        request(addr, "GET", "/health/ready", &[], None)
            .await
            .map(|reply| reply.status)
            .ok()
            == Some(200)
    };
    eventually(LIMIT, "ready", ready).await;

    let user = json!({"username": "ann", "email": "ann@example.com", "password": "correct horse"});
    post(addr, "/api/v1/auth/signup", user.clone()).await;
    let mut tokens = post(addr, "/api/v1/auth/login", user).await;
    let mut client = WsClient::connect(
        &format!("ws://{addr}/ws"),
        ConnectOptions::token(text(&tokens, "access_token")),
    )
    .await;
    let session = client.attach_new().await;
    client
        .send(&session, "m_1", "[[tokens 700]] a long story", SendMode::Queue)
        .await;
    let begun = clock.now_ms();
    for _ in 0..3 {
        more_text(&mut client, &session).await;
        clock.advance(Duration::from_secs(9 * MINUTE + 30));
        more_text(&mut client, &session).await;
        let refresh = json!({"refresh_token": text(&tokens, "refresh_token")});
        tokens = post(addr, "/api/v1/auth/refresh", refresh).await;
        let reply = client
            .request(json!({"op": "token", "token": text(&tokens, "access_token")}))
            .await;
        assert!(matches!(reply, Ok(OkBody::TokenAccepted(_))), "{reply:?}");
    }
    more_text(&mut client, &session).await;
    clock.advance(Duration::from_secs(2 * MINUTE));
    more_text(&mut client, &session).await;
    assert!(client.active_run(&session).is_some(), "all within one turn");
    assert!(clock.now_ms() - begun > 30 * 60_000);
    client.until_idle(&session).await;
    let shown = client.transcript(&session);
    assert_eq!(shown.last_answer().split_whitespace().count(), 700);

    let mut other = WsClient::connect(
        &format!("ws://{addr}/ws"),
        ConnectOptions::token(text(&tokens, "access_token")),
    )
    .await;
    other.attach(&session, None).await;
    other.until_caught_up(&session).await;
    assert_eq!(
        other.transcript(&session).lines(),
        shown.lines(),
        "nothing missing, nothing twice"
    );

    client.request(json!({"op": "ping"})).await.expect("its token counts");
    clock.advance(Duration::from_secs(8 * MINUTE));
    for client in [&mut client, &mut other] {
        assert_eq!(client.closed().await.code, 4401, "its token has ended");
    }
    stop.signal();
    task.await.unwrap().unwrap();
    sim.stop();
}

/// Opens a socket in the middle of a stream.
async fn streaming(kronos: &Kronos, member: &Member) -> (WsClient, SessionId) {
    kronos.gemini.set_config(|config| config.tokens_per_second = 40.0);
    let mut client = kronos.server.connect(ConnectOptions::token(&member.access)).await;
    let session = client.attach_new().await;
    client
        .send(&session, "m_1", "[[tokens 2000]] a long story", SendMode::Queue)
        .await;
    more_text(&mut client, &session).await;
    (client, session)
}

async fn expect_revoked(client: &mut WsClient, since: Instant) {
    let closed = client.closed().await;
    let took = since.elapsed();
    assert_eq!((closed.code, closed.text.as_str()), (4401, r#"{"retry":false}"#));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[tokio::test]
async fn a_logout_ends_a_stream_within_a_second() {
    let kronos = strict().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let (mut client, session) = streaming(&kronos, &ann).await;
    let since = Instant::now();
    ann.log_out(&kronos).await;
    expect_revoked(&mut client, since).await;
    assert!(client.active_run(&session).is_some(), "in the middle of it");
}

#[tokio::test]
async fn a_refresh_token_used_twice_ends_a_stream_within_a_second() {
    let kronos = strict().await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let (mut client, session) = streaming(&kronos, &ann).await;
    let fresh = ann.refreshed(&kronos).await;
    let reply = client.request(json!({"op": "token", "token": fresh.access})).await;
    assert!(matches!(reply, Ok(OkBody::TokenAccepted(_))), "{reply:?}");
    let since = Instant::now();
    let reused = json!({"refresh_token": ann.refresh});
    kronos
        .server
        .post("/api/v1/auth/refresh", &[], &reused)
        .await
        .expect(401);
    expect_revoked(&mut client, since).await;
    assert!(client.active_run(&session).is_some(), "in the middle of it");
}
