//! Every code that a client may meet is provoked here at least once; the tables say how, or why this version cannot.
//!
//! The tables match exhaustively: a new code does not compile without its line. What exactly belongs to each code is the
//! matter of the other files; here a code only has to come.

use std::{rc::Rc, time::Duration};

use futures_util::{StreamExt as _, future::LocalBoxFuture, stream};
use kronos_protocol::{CloseCode, ErrorCode, RunErrorCode, SendMode, WireError};
use kronos_testkit::{ConnectOptions, RawFrame, RawWs, WsClient, eventually, opcode};
use serde_json::{Value, json};

use crate::{
    auth::Member,
    faults::Turn,
    harness::{Kronos, kronos_with},
    parking,
    rfc6455::{answer, stranger, welcomed},
};

const LIMIT: Duration = Duration::from_secs(15);
/// Servers that are tried at once.
const AT_ONCE: usize = 4;

/// What is said of a code.
enum Proof {
    /// This brings it about, and fails when it does not come.
    By(LocalBoxFuture<'static, ()>),
    /// Why nothing does.
    Cannot(&'static str),
}

fn by(scenario: impl Future<Output = ()> + 'static) -> Proof {
    Proof::By(Box::pin(scenario))
}

/// Runs all scenarios.
async fn prove(proofs: impl IntoIterator<Item = (String, Proof)>) {
    let scenarios = proofs.into_iter().filter_map(|(code, proof)| match proof {
        Proof::By(scenario) => Some(async move {
            println!("{code}: begun");
            scenario.await;
            println!("{code}: came");
        }),
        Proof::Cannot(why) => {
            println!("{code}: {why}");
            None
        }
    });
    stream::iter(scenarios).buffer_unordered(AT_ONCE).collect::<()>().await;
}

/// A server for all that need no setting of their own.
async fn shared() -> Rc<Kronos> {
    let env = [
        ("GEMINI_FIRST_BYTE_TIMEOUT", "500ms"),
        ("GEMINI_IDLE_TIMEOUT", "500ms"),
        ("GEMINI_MAX_ATTEMPTS", "1"),
        ("GEMINI_BREAKER_FAILURES", "10000"),
    ];
    Rc::new(kronos_with(100.0, &env).await)
}

async fn own(env: &[(&str, &str)]) -> Kronos {
    kronos_with(100.0, env).await
}

#[tokio::test]
async fn every_error_code_comes() {
    let kronos = shared().await;
    prove(
        ErrorCode::ALL
            .iter()
            .map(|code| (code.to_string(), of_error(*code, &kronos))),
    )
    .await;
}

#[tokio::test]
async fn every_close_code_comes() {
    let kronos = shared().await;
    prove(
        CloseCode::ALL
            .iter()
            .map(|code| (code.to_string(), of_close(*code, &kronos))),
    )
    .await;
}

#[tokio::test]
async fn every_run_error_code_comes() {
    let kronos = shared().await;
    prove(
        RunErrorCode::ALL
            .iter()
            .map(|code| (code.to_string(), of_run(*code, &kronos))),
    )
    .await;
}

fn of_error(code: ErrorCode, kronos: &Rc<Kronos>) -> Proof {
    let kronos = Rc::clone(kronos);
    match code {
        ErrorCode::Validation => by(refused(kronos, code, json!({"op": "send"}))),
        ErrorCode::Unsupported => by(refused(kronos, code, json!({"op": "dance"}))),
        ErrorCode::NotFound => by(refused(kronos, code, json!({"op": "attach", "session": "nothing"}))),
        ErrorCode::Conflict => by(refused(kronos, code, json!({"op": "hello"}))),
        ErrorCode::Unauthenticated => by(before_hello(kronos)),
        ErrorCode::Forbidden => by(another_users_token(kronos)),
        ErrorCode::Busy => by(while_a_run_is_active(kronos, code)),
        ErrorCode::TooLarge => by(too_many_characters(kronos)),
        ErrorCode::RateLimited => by(too_fast()),
        ErrorCode::Overloaded => by(an_attachment_too_many()),
        ErrorCode::NotConfigured => by(rest_without_a_key()),
        ErrorCode::Upstream => by(over_rest(kronos, "blocked", 503)),
        ErrorCode::UpstreamTimeout => by(over_rest(kronos, "stall;after=0", 504)),
        ErrorCode::Storage => by(a_full_disk()),
        ErrorCode::ShuttingDown => by(a_send_while_draining()),
        ErrorCode::Parked => by(async { drop(parking::parked().await) }),
        ErrorCode::Internal => by(a_session_that_broke_its_order()),
        ErrorCode::BadFrame => by(no_frame(kronos)),
    }
}

async fn a_session_that_broke_its_order() {
    let kronos = own(&[("FAULT_INJECTION", "true")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let refused = client.try_send(&session, "m_1", "[[disorder]]", SendMode::Queue).await;
    assert_eq!(refused.expect_err("it failed").code, ErrorCode::Internal);
    let answer = client.ask(&session, "m_2", "Hello!").await;
    assert!(!answer.is_empty(), "it works again, its sockets stayed");
    client.finish().await;
}

fn of_close(code: CloseCode, kronos: &Rc<Kronos>) -> Proof {
    let kronos = Rc::clone(kronos);
    let violation = |frame: RawFrame| by(closed_for(Rc::clone(&kronos), code, frame));
    match code {
        CloseCode::Normal => violation(RawFrame::close(1000, "")),
        CloseCode::Protocol => violation(RawFrame::text("{}").unmasked()),
        CloseCode::UnsupportedData => violation(RawFrame::new(opcode::BINARY, "{}")),
        CloseCode::InvalidText => violation(RawFrame::new(opcode::TEXT, [0xFF])),
        CloseCode::TooLarge => violation(RawFrame::text(&" ".repeat(kronos_protocol::limits::FRAME_BYTES + 1))),
        CloseCode::BadFrame => by(no_frame(kronos)),
        CloseCode::GoingAway => by(a_silent_peer()),
        CloseCode::Internal => Proof::Cannot(
            "only a bug panics in a connection; its own tests provoke one, as no server that is built can",
        ),
        CloseCode::Restart => by(a_stop()),
        CloseCode::TryLater => by(a_socket_too_many()),
        CloseCode::Unauthenticated => by(a_bad_token(kronos)),
        CloseCode::Forbidden => by(another_users_token(kronos)),
        CloseCode::HelloTimeout => by(no_hello()),
        CloseCode::Replaced => Proof::Cannot("a user may have many sockets: none takes another's place"),
        CloseCode::RateLimited => by(too_fast()),
        CloseCode::NotReading => by(a_reader_that_reads_nothing()),
    }
}

fn of_run(code: RunErrorCode, kronos: &Rc<Kronos>) -> Proof {
    let word = |word: &'static str| by(a_run_that_meets(Rc::clone(kronos), word, code));
    match code {
        RunErrorCode::Interrupted => by(a_run_that_is_killed()),
        RunErrorCode::Blocked => word("blocked"),
        RunErrorCode::UpstreamRateLimited => word("429-daily"),
        RunErrorCode::UpstreamUnavailable => word("503"),
        RunErrorCode::UpstreamTimeout => word("stall"),
        RunErrorCode::UpstreamError => word("400"),
        RunErrorCode::UpstreamAuth => word("403"),
        RunErrorCode::StreamBroken => word("cut"),
        RunErrorCode::EmptyAnswer => word("empty"),
        RunErrorCode::MalformedCall => word("malformed"),
        RunErrorCode::TooManySteps => {
            Proof::Cannot("in the last step the model may make no calls, and a real one obeys")
        }
        RunErrorCode::NotConfigured => by(a_run_without_a_key()),
        RunErrorCode::Overloaded => by(a_run_without_a_place()),
        RunErrorCode::Deadline => by(a_run_that_takes_too_long()),
        RunErrorCode::Internal => Proof::Cannot("only a bug of the server ends a run with it"),
        RunErrorCode::Continuation => Proof::Cannot("an answer that goes on in a new request does so without a notice"),
    }
}

fn expect(error: &WireError, code: ErrorCode) {
    assert_eq!((error.code, error.retry), (code, code.retry()), "{error:?}");
}

async fn refused(kronos: Rc<Kronos>, code: ErrorCode, command: Value) {
    let mut client = kronos.client("ann").await;
    expect(&client.request(command).await.expect_err("refused"), code);
}

async fn before_hello(kronos: Rc<Kronos>) {
    let options = ConnectOptions {
        hello: false,
        ..ConnectOptions::user("ann")
    };
    let mut client = kronos.server.connect(options).await;
    let error = client.request(json!({"op": "ping"})).await.expect_err("refused");
    expect(&error, ErrorCode::Unauthenticated);
}

/// An error, and 4403.
async fn another_users_token(kronos: Rc<Kronos>) {
    let member = Member::sign_up(&kronos, "bob").await;
    let mut socket = stranger(&kronos, &[]).await;
    let hello = json!({"op": "hello", "ref": "1", "token": member.access}).to_string();
    socket.send(&RawFrame::text(&hello)).await.unwrap();
    assert_eq!(answer(&mut socket).await["code"], ErrorCode::Forbidden.as_str());
    socket.expect_close(CloseCode::Forbidden.code()).await;
}

async fn while_a_run_is_active(kronos: Rc<Kronos>, code: ErrorCode) {
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.send(&session, "m_1", "[[tokens 900]] a", SendMode::Queue).await;
    let error = client.try_send(&session, "m_2", "b", SendMode::Reject).await;
    expect(&error.expect_err("refused"), code);
}

async fn too_many_characters(kronos: Rc<Kronos>) {
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let error = client
        .try_send(&session, "m_1", &"a".repeat(32_001), SendMode::Queue)
        .await;
    expect(&error.expect_err("refused"), ErrorCode::TooLarge);
}

/// An error for each, and 4429.
async fn too_fast() {
    let kronos = own(&[("COMMANDS_PER_SECOND", "1"), ("COMMANDS_BURST", "2")]).await;
    let mut socket = welcomed(&kronos).await;
    let ping = RawFrame::text(r#"{"op":"ping","ref":"1"}"#).encode();
    socket.send_bytes(&ping.repeat(9)).await.unwrap();
    assert_eq!(answer(&mut socket).await["op"], "ok");
    assert_eq!(answer(&mut socket).await["code"], ErrorCode::RateLimited.as_str());
    socket.expect_close(CloseCode::RateLimited.code()).await;
}

async fn an_attachment_too_many() {
    let kronos = own(&[("CONNECTION_ATTACHMENTS", "1")]).await;
    let mut client = kronos.client("ann").await;
    client.attach_new().await;
    let error = client.request(json!({"op": "attach", "session": "new"})).await;
    expect(&error.expect_err("refused"), ErrorCode::Overloaded);
}

async fn post(kronos: &Kronos, message: &str, status: u16, name: &str) {
    let body = json!({"message": message, "user_id": "rest"});
    let reply = kronos.server.post("/api/v1/chat/message", &[], &body).await;
    assert_eq!(reply.expect(status)["error"]["code"], name);
}

async fn over_rest(kronos: Rc<Kronos>, word: &'static str, status: u16) {
    post(&kronos, &format!("[[{word}]] a"), status, "EXTERNAL_SERVICE_ERROR").await;
}

async fn without_a_key() -> Kronos {
    own(&[
        ("GEMINI_API_KEY", ""),
        ("GEMINI_BASE_URL", ""),
        ("ENVIRONMENT", "staging"),
        ("AUTH_MODE", "development"),
        ("SECRET_KEY", "0123456789abcdef0123456789abcdef"),
    ])
    .await
}

async fn rest_without_a_key() {
    post(&without_a_key().await, "Hello!", 503, "CONFIGURATION_ERROR").await;
}

/// No file may grow beyond what the shell allows, and a write that would is an error instead of a signal.
async fn a_full_disk() {
    let gemini = kronos_sim::GeminiSim::start(kronos_sim::SimConfig::default()).unwrap();
    let script = format!(
        "trap '' XFSZ; ulimit -f 4096; exec {} serve",
        env!("CARGO_BIN_EXE_kronos")
    );
    let mut options = kronos_testkit::KronosOptions::new("sh")
        .env("GEMINI_BASE_URL", gemini.url())
        .env("GEMINI_API_KEY", "test-key")
        .env("LOG_LEVEL", "off");
    options.args = vec!["-c".to_owned(), script];
    let server = kronos_testkit::KronosProc::start(options).await;
    let mut client = server.connect(ConnectOptions::user("ann")).await;
    let text = "a".repeat(32_000);
    for n in 0..10_000 {
        // One message in each conversation: none is busy.
        let attached = client.request(json!({"op": "attach", "session": "new"})).await;
        let failed = match attached {
            Ok(kronos_protocol::OkBody::Attached(attached)) => {
                let session = attached.session;
                let sent = client
                    .try_send(&session, &format!("m_{n}"), &text, SendMode::Queue)
                    .await;
                drop(client.detach(&session).await);
                sent.err()
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            return expect(&error, ErrorCode::Storage);
        }
    }
    panic!("the disk was never full");
}

async fn streaming(env: &[(&str, &str)]) -> (Kronos, WsClient, kronos_protocol::SessionId) {
    let kronos = own(env).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.send(&session, "m_1", "[[tokens 2000]] a", SendMode::Queue).await;
    client
        .until("some text", |client| {
            !client.transcript(&session).last_answer().is_empty()
        })
        .await;
    (kronos, client, session)
}

async fn a_send_while_draining() {
    let (kronos, mut client, session) = streaming(&[("DRAIN_DEADLINE", "1h")]).await;
    kronos.server.sigterm();
    while !matches!(client.next_frame(LIMIT).await, kronos_protocol::ServerFrame::Goaway(_)) {}
    let error = client.try_send(&session, "m_2", "b", SendMode::Queue).await;
    expect(&error.expect_err("refused"), ErrorCode::ShuttingDown);
}

/// An error, and 4400.
async fn no_frame(kronos: Rc<Kronos>) {
    let mut socket = welcomed(&kronos).await;
    socket.send(&RawFrame::text("{")).await.unwrap();
    assert_eq!(answer(&mut socket).await["code"], ErrorCode::BadFrame.as_str());
    socket.expect_close(CloseCode::BadFrame.code()).await;
}

async fn closed_for(kronos: Rc<Kronos>, code: CloseCode, frame: RawFrame) {
    let mut socket = welcomed(&kronos).await;
    // Of a frame that is too large the server takes only the header.
    drop(socket.send(&frame).await);
    socket.expect_close(code.code()).await;
}

async fn a_silent_peer() {
    let kronos = own(&[("PING_INTERVAL", "200ms")]).await;
    let mut socket = stranger(&kronos, &[]).await;
    socket.expect_close(CloseCode::GoingAway.code()).await;
}

async fn a_stop() {
    let kronos = own(&[]).await;
    let mut client = kronos.client("ann").await;
    kronos.server.sigterm();
    assert_eq!(client.close_code().await, CloseCode::Restart.code());
}

async fn a_socket_too_many() {
    let kronos = own(&[("MAX_CONNECTIONS_PER_USER", "1")]).await;
    // A guest without a name is known only from `hello`.
    let _first = kronos.server.connect(ConnectOptions::default()).await;
    let options = ConnectOptions {
        hello: false,
        ..ConnectOptions::default()
    };
    let mut second = kronos.server.connect(options).await;
    let error = second.request(json!({"op": "hello"})).await.expect_err("refused");
    expect(&error, ErrorCode::Overloaded);
    assert_eq!(second.close_code().await, CloseCode::TryLater.code());
}

async fn a_bad_token(kronos: Rc<Kronos>) {
    let mut socket = stranger(&kronos, &[("Authorization", "Bearer nothing")]).await;
    socket.expect_close(CloseCode::Unauthenticated.code()).await;
}

async fn no_hello() {
    let kronos = own(&[("HELLO_TIMEOUT", "100ms")]).await;
    let mut socket = stranger(&kronos, &[]).await;
    socket.expect_close(CloseCode::HelloTimeout.code()).await;
}

async fn a_reader_that_reads_nothing() {
    let kronos = kronos_with(4000.0, &[("WRITE_TIMEOUT", "300ms"), ("UNREAD_BYTES", "4KiB")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let mut dead = RawWs::open(kronos.server.address(), "/ws?user=ann", &[], LIMIT)
        .await
        .unwrap();
    for command in [
        json!({"op": "hello", "ref": "1"}),
        json!({"op": "attach", "ref": "2", "session": session}),
    ] {
        dead.send(&RawFrame::text(&command.to_string())).await.unwrap();
    }
    client.ask(&session, "m_1", "[[tokens 2000]] a").await;
    client.finish().await;
    eventually(LIMIT, "it is closed", || async { kronos.closes(4450).await == 1 }).await;
    dead.expect_close(CloseCode::NotReading.code()).await;
}

/// Says something on a socket of its own; how the run ended.
async fn run(kronos: &Kronos, user: &str, text: &str) -> Turn {
    let mut client = kronos.client(user).await;
    let session = client.attach_new().await;
    let sent = client.send(&session, "m_1", text, SendMode::Queue).await;
    Turn::follow(&mut client, &sent.run.expect("it begins at once")).await
}

async fn a_run_that_meets(kronos: Rc<Kronos>, word: &'static str, code: RunErrorCode) {
    let turn = run(
        &kronos,
        word.split([';', '-']).next().unwrap(),
        &format!("[[{word}]] [[tokens 40]] a"),
    )
    .await;
    assert_eq!(turn.code, code.as_str(), "{turn:?}");
}

async fn a_run_that_is_killed() {
    let (mut kronos, mut client, session) = streaming(&[("MAX_RUN_ATTEMPTS", "1")]).await;
    let interrupted = client.active_run(&session).expect("a run").clone();
    kronos.server.restart().await;
    client.reconnect(&kronos.server.ws_url()).await;
    client.reattach(&session).await;
    let turn = Turn::follow(&mut client, &interrupted).await;
    assert_eq!(turn.code, RunErrorCode::Interrupted.as_str());
}

async fn a_run_without_a_key() {
    let turn = run(&without_a_key().await, "ann", "Hello!").await;
    assert_eq!(turn.code, RunErrorCode::NotConfigured.as_str());
}

async fn a_run_without_a_place() {
    let env = [("GEMINI_MAX_CONCURRENT", "1"), ("GEMINI_MAX_WAITING", "1")];
    let kronos = own(&env).await;
    let mut clients = Vec::new();
    for (n, user) in ["ann", "bob"].into_iter().enumerate() {
        let mut client = kronos.client(user).await;
        let session = client.attach_new().await;
        client.send(&session, "m_1", "[[tokens 2000]] a", SendMode::Queue).await;
        let taken = if n == 0 {
            "kronos_gemini_running"
        } else {
            "kronos_gemini_waiting"
        };
        eventually(LIMIT, "its place is taken", || async {
            kronos.series(taken).await == 1
        })
        .await;
        clients.push(client);
    }
    let turn = run(&kronos, "eve", "a").await;
    assert_eq!(turn.code, RunErrorCode::Overloaded.as_str());
}

async fn a_run_that_takes_too_long() {
    let turn = run(&own(&[("RUN_DEADLINE", "400ms")]).await, "ann", "[[tokens 2000]] a").await;
    assert_eq!(turn.code, RunErrorCode::Deadline.as_str());
}
