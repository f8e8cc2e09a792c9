//! Starting, refusing to start, stopping, and what the command line says about it.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use kronos_protocol::{SendMode, ServerFrame};
use kronos_testkit::{KronosOptions, KronosProc, WsClient, eventually_now};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{Kronos, kronos, kronos_with};

const LONG: &str = "[[tokens 400]] tell me a long story";

/// Runs `kronos` to its end, with nothing in its environment but `env`.
fn run(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kronos"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("kronos runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// It refused: exit code 2, nothing on stdout, one line on stderr. Returns that line.
fn refused(output: &Output) -> String {
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{line}");
    assert_eq!(stdout(output), "");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("kronos: "), "{line}");
    line
}

fn assert_says(line: &str, words: &[&str]) {
    for word in words {
        assert!(line.contains(word), "{word:?} is missing: {line}");
    }
}

/// The environment, and what the refusal must say.
type Case = (&'static [(&'static str, &'static str)], &'static [&'static str]);

const NOT_ALLOWED: &[Case] = &[
    (&[("PORT", "99999")], &["PORT=99999", "65535"]),
    (&[("GEMINI_TEMPERATURE", "3")], &["GEMINI_TEMPERATURE=3", "0 to 2"]),
    (&[("LOG_FORMAT", "xml")], &["LOG_FORMAT=xml", "pretty, json"]),
    (&[("LOG_LEVEL", "loud")], &["LOG_LEVEL=loud", "debug", "warning"]),
    (&[("ENVIRONMENT", "prod")], &["ENVIRONMENT=prod", "production"]),
    (&[("DRAIN_DEADLINE", "soon")], &["DRAIN_DEADLINE=soon", "10m"]),
    (&[("FRAME_BYTES", "1")], &["FRAME_BYTES=1", "4KiB"]),
    (&[("ALLOWED_HOSTS", "a, b")], &["ALLOWED_HOSTS=", "JSON list"]),
    (
        &[("DATABASE_URL", "postgresql://u:hunter2@db/x")],
        &["DATABASE_URL=postgresql://", "sled://PATH"],
    ),
    (
        &[("DATABASE_URL", "redis://:hunter2@db/0")],
        &["DATABASE_URL=redis://", "sled://PATH"],
    ),
    (
        &[("GEMINI_BASE_URL", "https://u:hunter2@h")],
        &["GEMINI_BASE_URL=https://", "http://"],
    ),
    (&[("ENVIRONMENT", "production")], &["SECRET_KEY", "32"]),
    (
        &[("ENVIRONMENT", "production"), ("SECRET_KEY", "hunter2")],
        &["SECRET_KEY=***", "32"],
    ),
    (
        &[("ENVIRONMENT", "production"), ("AUTH_MODE", "development")],
        &["AUTH_MODE=development", "ENVIRONMENT=production"],
    ),
    (&[("JWT_ALGORITHM", "none")], &["JWT_ALGORITHM=none", "HS256"]),
];

#[test]
fn a_setting_that_is_not_allowed_stops_the_start_with_its_name_its_value_and_what_is_allowed() {
    let dir = TempDir::new().unwrap();
    for (env, words) in NOT_ALLOWED {
        let line = refused(&run(dir.path(), &["serve"], env));
        assert_says(&line, words);
        assert!(!line.contains("hunter2"), "a secret is shown: {line}");
    }
    let line = refused(&run(dir.path(), &["--port", "x"], &[("PORT", "1")]));
    assert_says(&line, &["--port=x", "65535"]);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "nothing was made");
}

#[test]
fn a_settings_file_that_is_wrong_stops_the_start_with_its_name_and_place() {
    let dir = TempDir::new().unwrap();
    for (text, words) in [
        ("[server\nport = 1", &["line 1"][..]),
        ("[server]\n\nport = = 1\n", &["line 3"]),
        ("[server]\nprot = 1\n", &["server.prot", "unknown"]),
        ("[srever]\nport = 1\n", &["srever", "unknown"]),
        ("port = 1\n", &["port", "unknown"]),
        ("[server]\nport = \"x\"\n", &["server.port=x", "65535"]),
        ("[server]\nport = 2026-01-01\n", &["server.port=", "65535"]),
        ("[gemini]\napi_key = 2026-01-01\n", &["gemini.api_key=***"]),
    ] {
        std::fs::write(dir.path().join("kronos.toml"), text).unwrap();
        let line = refused(&run(dir.path(), &["serve"], &[]));
        assert_says(&line, words);
        assert_says(&line, &["kronos.toml"]);
    }
    let line = refused(&run(dir.path(), &["--config", "other.toml", "serve"], &[]));
    assert_says(&line, &["other.toml"]);
    std::fs::remove_file(dir.path().join("kronos.toml")).unwrap();
    std::fs::write(dir.path().join(".env"), "GEMINI_API_KEY=ok\nhunter2 is no variable\n").unwrap();
    let line = refused(&run(dir.path(), &["serve"], &[]));
    assert_says(&line, &[".env", "variable 2"]);
    assert!(!line.contains("hunter2"), "{line}");
}

#[tokio::test]
async fn a_port_in_use_and_a_store_in_use_stop_the_start() {
    let kronos = kronos().await;
    let dir = TempDir::new().unwrap();
    let port = kronos.server.address().port().to_string();
    let line = refused(&run(dir.path(), &["serve", "--port", &port], &[]));
    assert_says(&line, &["cannot listen on 127.0.0.1:", &port, "in use"]);
    let store = format!("sled://{}", kronos.server.data_dir().display());
    let line = refused(&run(
        dir.path(),
        &["serve", "--port", "0", "--database-url", &store],
        &[],
    ));
    assert_says(&line, &[&store, "in use by another process"]);
    let line = refused(&run(
        dir.path(),
        &["serve", "--port", "0", "--host", "203.0.113.9"],
        &[("SECRET_KEY", "0123456789abcdef0123456789abcdef")],
    ));
    assert_says(&line, &["cannot listen on 203.0.113.9:0"]);
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
}

#[tokio::test]
async fn a_store_that_is_damaged_or_newer_stops_the_start_and_is_left_as_it_is() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("file"), "not a folder").unwrap();
    let line = refused(&run(
        dir.path(),
        &["serve", "--port", "0", "--database-url", "sled://./file"],
        &[],
    ));
    assert_says(&line, &["cannot open the store sled://./file"]);

    let mut kronos = kronos().await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    kronos.server.kill9();
    let data = kronos.server.data_dir();
    let store = format!("sled://{}", data.display());
    let start = || {
        refused(&run(
            dir.path(),
            &["serve", "--port", "0", "--database-url", &store],
            &[],
        ))
    };
    let (marker, db) = (data.join("format"), data.join("db"));
    let good = std::fs::read_to_string(&marker).unwrap();
    std::fs::write(&marker, good.replace(char::is_numeric, "999")).unwrap();
    assert_says(&start(), &[&store, "999"]);
    std::fs::write(&marker, "something else").unwrap();
    assert_says(&start(), &[&store]);
    std::fs::write(&marker, &good).unwrap();

    let bytes = std::fs::read(&db).unwrap();
    std::fs::write(&db, vec![0x5a; bytes.len()]).unwrap();
    assert_says(&start(), &[&store, "damaged"]);
    std::fs::write(&db, bytes).unwrap();
    kronos.server.restart().await;
    assert_eq!(
        kronos.stored("ann", session.as_str()).await.len(),
        2,
        "nothing was lost"
    );
}

async fn in_mid_run(kronos: &Kronos) -> (WsClient, kronos_protocol::SessionId) {
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.send(&session, "m_1", LONG, SendMode::Queue).await;
    client
        .until("some text", |client| {
            client.transcript(&session).last_answer().len() > 20
        })
        .await;
    (client, session)
}

async fn told_to_go(client: &mut WsClient) {
    while !matches!(client.next_frame(Duration::from_secs(5)).await, ServerFrame::Goaway(_)) {}
}

#[tokio::test]
async fn a_second_sigterm_skips_the_waiting_and_never_the_commit() {
    let mut kronos = kronos_with(40.0, &[("DRAIN_DEADLINE", "1h"), ("MAX_RUN_ATTEMPTS", "1")]).await;
    let (mut client, session) = in_mid_run(&kronos).await;
    kronos.server.sigterm();
    told_to_go(&mut client).await;
    kronos.server.sigterm();
    assert_eq!(client.closed().await.code, 1012);
    let status = kronos.server.wait(Duration::from_secs(5)).await;
    assert!(status.success(), "{status}\n{}", kronos.server.output());
    kronos.server.restart().await;
    let shown = client.transcript(&session);
    client.reconnect(&kronos.server.ws_url()).await;
    assert!(client.reattach(&session).await.recovered);
    client.until_idle(&session).await;
    let stored = kronos.stored("ann", session.as_str()).await;
    assert_eq!(stored, shown.lines(), "all that was shown, and nothing else");
}

#[tokio::test]
async fn a_draining_server_is_not_ready_and_takes_no_new_messages() {
    let kronos = kronos_with(40.0, &[("DRAIN_DEADLINE", "1h")]).await;
    let (mut client, session) = in_mid_run(&kronos).await;
    let mut probe = TcpStream::connect(kronos.server.address()).await.unwrap();
    assert!(ask(&mut probe, "/health/ready").await.starts_with("HTTP/1.1 200"));
    kronos.server.sigterm();
    told_to_go(&mut client).await;
    let answer = ask(&mut probe, "/health/ready").await;
    assert_says(&answer, &["HTTP/1.1 503", "draining"]);
    assert!(ask(&mut probe, "/health/live").await.starts_with("HTTP/1.1 200"));
    let error = client
        .try_send(&session, "m_2", "Hello!", SendMode::Queue)
        .await
        .unwrap_err();
    assert_eq!(error.code.as_str(), "shutting_down");
    assert!(error.after_ms.is_some());
}

/// One request on a connection that stays open.
async fn ask(stream: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let mut buffer = [0; 1024];
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "closed: {}", String::from_utf8_lossy(&answer));
        answer.extend_from_slice(&buffer[..read]);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_start_says_where_it_listens_and_what_answers() {
    let options = KronosOptions::new(env!("CARGO_BIN_EXE_kronos")).env("GEMINI_MODEL", "gemini-3.8-flash");
    let server = KronosProc::start(options).await;
    let store = format!("sled://{}", server.data_dir().display());
    let listening = format!("listening on {}", server.http_url());
    eventually_now(Duration::from_secs(5), "the start is said", || {
        server.output().contains("kronos chat")
    })
    .await;
    assert_says(
        &server.output(),
        &[&listening, &store, "gemini-3.8-flash", "simulated", "GEMINI_API_KEY"],
    );
    let health = server.get("/api/v1/health/gemini", &[]).await.expect(200);
    assert_eq!(health["status"], "simulated");
    let real = kronos().await;
    let model = real.server.output();
    let model = model.lines().find(|line| line.trim_start().starts_with("model"));
    assert!(model.is_some_and(|line| !line.contains("simulated")), "{model:?}");
    assert!(!real.server.output().contains("test-key"));
}

#[test]
fn config_shows_each_value_with_its_source_and_no_secret() {
    let dir = TempDir::new().unwrap();
    let file = "[server]\nport = 7001\n[session]\nrun_deadline = \"9m\"\n[composio]\napi_key = \"hunter2-file\"\n";
    std::fs::write(dir.path().join("kronos.toml"), file).unwrap();
    std::fs::write(dir.path().join(".env"), "GEMINI_MODEL=from-dotenv\nHOST=127.0.0.9\n").unwrap();
    let env = [
        ("GEMINI_API_KEY", "hunter2-env"),
        ("SECRET_KEY", "hunter2-hunter2-hunter2-hunter2-hunter2"),
        ("PORT", "7002"),
        ("HOST", "127.0.0.8"),
    ];
    let output = run(dir.path(), &["config", "--json", "--port", "7003"], &env);
    assert!(output.status.success());
    assert!(!stdout(&output).contains("hunter2"));
    let config: Value = serde_json::from_slice(&output.stdout).unwrap();
    let shown = |key: &str| {
        let entry = &config[key];
        format!(
            "{} {}",
            entry["value"].as_str().unwrap_or("-"),
            entry["source"].as_str().unwrap()
        )
    };
    assert_eq!(shown("server.port"), "7003 --port");
    assert_eq!(shown("server.host"), "127.0.0.8 environment");
    assert_eq!(shown("gemini.model"), "from-dotenv .env");
    assert_eq!(shown("session.run_deadline"), "9m kronos.toml");
    assert_eq!(shown("gemini.backoff"), "500ms default");
    assert_eq!(shown("gemini.api_key"), "*** environment");
    assert_eq!(shown("composio.api_key"), "*** kronos.toml");
    let table = run(dir.path(), &["config"], &env);
    let text = stdout(&table);
    assert!(!text.contains("hunter2"), "{text}");
    for line in ["7002", "***", "# environment", "# .env", "# kronos.toml", "# default"] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

#[test]
fn the_reference_is_a_settings_file_that_changes_nothing() {
    let dir = TempDir::new().unwrap();
    let before = run(dir.path(), &["config", "--json"], &[]);
    let reference = run(dir.path(), &["config", "--reference"], &[]);
    std::fs::write(dir.path().join("kronos.toml"), &reference.stdout).unwrap();
    let after = run(dir.path(), &["config", "--json"], &[]);
    let values = |output: &Output| -> Vec<(String, Value)> {
        let all: serde_json::Map<String, Value> = serde_json::from_slice(&output.stdout).unwrap();
        all.into_iter()
            .map(|(key, entry)| (key, entry["value"].clone()))
            .collect()
    };
    assert_eq!(values(&before), values(&after));
}

#[tokio::test]
async fn sessions_are_listed_and_shown_from_a_running_server_and_from_its_folder() {
    let mut kronos = kronos().await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "What is the capital of Japan?").await;
    let dir = TempDir::new().unwrap();
    let (url, port) = (kronos.server.http_url(), kronos.server.address().port().to_string());
    let store = format!("sled://{}", kronos.server.data_dir().display());
    let id = session.as_str();
    let kronos_run = |args: &[&str], env: &[(&str, &str)]| {
        let output = run(dir.path(), args, env);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        stdout(&output)
    };
    let list = kronos_run(&["sessions", "list", "--url", &url, "--user", "ann"], &[]);
    assert_says(&list, &[id, "capital of Japan"]);
    let list = kronos_run(&["sessions", "list", "--user", "ann"], &[("PORT", &port)]);
    assert_says(&list, &[id]);
    let shown = kronos_run(&["sessions", "show", id, "--url", &url, "--user", "ann"], &[]);
    assert_says(
        &shown,
        &[id, "user", "What is the capital of Japan?", "assistant", "Tokyo"],
    );
    let other = kronos_run(&["sessions", "list", "--url", &url, "--user", "bob"], &[]);
    assert!(!other.contains(id), "{other}");
    let line = refused(&run(
        dir.path(),
        &["sessions", "show", id, "--url", &url, "--user", "bob"],
        &[],
    ));
    assert_says(&line, &["404"]);

    kronos.server.kill9();
    let line = refused(&run(dir.path(), &["sessions", "list", "--url", &url], &[]));
    assert_says(&line, &["no answer from", &url]);
    let line = refused(&run(dir.path(), &["sessions", "list", "--url", "nowhere"], &[]));
    assert_says(&line, &["--url nowhere is not an address"]);
    let env = [("DATABASE_URL", store.as_str()), ("PORT", port.as_str())];
    assert_says(&kronos_run(&["sessions", "list"], &env), &[id, "capital of Japan"]);
    assert_says(
        &kronos_run(&["sessions", "show", id], &env),
        &[id, "ann", "assistant", "Tokyo"],
    );
    let line = refused(&run(dir.path(), &["sessions", "list"], &[("PORT", &port)]));
    assert_says(&line, &["./data does not exist"]);
    assert_eq!(dir.path().read_dir().unwrap().count(), 0, "looking makes no store");
    kronos.server.restart().await;
    assert_eq!(kronos.stored("ann", id).await.len(), 2);
}

/// Starts `kronos` and stops reading what it prints, as `head` does.
fn unread(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> std::process::Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kronos"))
        .args(args)
        .env_clear()
        .envs(env.iter().copied())
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kronos starts");
    child.stdout = None;
    child.stderr = None;
    child
}

#[tokio::test]
async fn nobody_has_to_read_what_is_printed() {
    let dir = TempDir::new().unwrap();
    let status = unread(dir.path(), &["config", "--reference"], &[]).wait().unwrap();
    assert_eq!(status.code(), Some(0));
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let port = address.port().to_string();
    let mut server = unread(dir.path(), &["serve", "--port", &port, "--log-level", "debug"], &[]);
    let limit = Duration::from_secs(15);
    let get = || kronos_testkit::request(address, "GET", "/health/ready", &[], None);
    let is_ready = || async { get().await.is_ok_and(|reply| reply.status == 200) };
    kronos_testkit::eventually(limit, "ready", is_ready).await;
    let body = serde_json::json!({"message": "[[400]] a line in the log"});
    let failed = kronos_testkit::request(address, "POST", "/api/v1/chat/message", &[], Some(&body))
        .await
        .unwrap();
    assert_eq!(failed.status, 503);
    assert!(server.try_wait().unwrap().is_none() && is_ready().await, "it goes on");
    server.kill().unwrap();
    server.wait().unwrap();
}

#[test]
fn help_and_version_need_nothing() {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("kronos.toml"), "broken").unwrap();
    let version = run(dir.path(), &["--version"], &[("PORT", "x")]);
    assert_eq!(stdout(&version), format!("kronos {}\n", env!("CARGO_PKG_VERSION")));
    for args in [
        &["--help"][..],
        &["serve", "--help"],
        &["chat", "--help"],
        &["config", "--help"],
        &["sessions", "--help"],
    ] {
        let help = run(dir.path(), args, &[("PORT", "x")]);
        assert!(help.status.success());
        assert_says(&stdout(&help), &["Usage: kronos"]);
    }
    assert_says(
        &stdout(&run(dir.path(), &["--help"], &[])),
        &["chat", "config", "sessions", "exit code 2"],
    );
    let wrong = run(dir.path(), &["sevre"], &[]);
    assert_eq!(wrong.status.code(), Some(2));
}

#[test]
fn asyncapi_prints_the_document_with_the_bounds_in_effect() {
    let dir = TempDir::new().expect("a temporary directory");
    let output = run(
        dir.path(),
        &["asyncapi"],
        &[("MAX_MESSAGE_CHARS", "77"), ("PORT", "9001")],
    );
    assert!(output.status.success());
    let document: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
    assert_eq!(document["asyncapi"], "3.0.0");
    assert_eq!(document["channels"]["ws"]["x-limits"]["message_chars"]["limit"], 77);
    assert_eq!(
        document["servers"]["root"]["variables"]["host"]["default"],
        "127.0.0.1:9001"
    );
    refused(&run(dir.path(), &["asyncapi"], &[("PORT", "99999")]));
}
