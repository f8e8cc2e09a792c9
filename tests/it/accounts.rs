//! Users who are turned off or deleted, and `kronos users`, with the real binary.

use std::{
    io::{Read as _, Write as _},
    process::{Command, Output, Stdio},
    time::Duration,
};

use kronos_testkit::{ConnectOptions, HttpReply, WsClient, eventually};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    auth::Member,
    harness::{Kronos, kronos_with},
};

const LIMIT: Duration = Duration::from_secs(20);
const SECRET: &str = "a secret of the tests, 32 bytes and more";
const PASSWORD: &str = "correct horse";

/// A server that wants tokens, with a superuser called root.
async fn with_root(more: &[(&str, &str)]) -> (Kronos, String) {
    let env = [
        ("AUTH_MODE", "required"),
        ("SECRET_KEY", SECRET),
        ("FIRST_SUPERUSER_USERNAME", "root"),
        ("FIRST_SUPERUSER_EMAIL", "root@example.com"),
        ("FIRST_SUPERUSER_PASSWORD", PASSWORD),
    ];
    let kronos = kronos_with(400.0, &[&env[..], more].concat()).await;
    let root = log_in(&kronos, "root", PASSWORD).await.expect(200);
    let root = root["access_token"].as_str().expect("a token").to_owned();
    (kronos, root)
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

async fn id_of(kronos: &Kronos, token: &str) -> String {
    let me = send(kronos, "GET", "/api/v1/auth/me", token, None).await.expect(200);
    me["id"].as_str().expect("an id").to_owned()
}

async fn socket(kronos: &Kronos, member: &Member) -> WsClient {
    kronos.server.connect(ConnectOptions::token(&member.access)).await
}

async fn expect_4401(client: &mut WsClient, since: Instant, what: &str) {
    let closed = client.closed().await;
    let took = since.elapsed();
    assert_eq!(
        (closed.code, closed.text.as_str()),
        (4401, r#"{"retry":false}"#),
        "{what}"
    );
    assert!(took < Duration::from_secs(1), "{what}: {took:?}");
}

/// A socket in the middle of a turn.
async fn in_a_turn(kronos: &Kronos, member: &Member) -> WsClient {
    kronos.gemini.set_config(|config| config.tokens_per_second = 40.0);
    let mut client = socket(kronos, member).await;
    let session = client.attach_new().await;
    client
        .send(
            &session,
            "m_1",
            "[[tokens 2000]] a long story",
            kronos_protocol::SendMode::Queue,
        )
        .await;
    client.until_running(&session).await;
    client
}

#[tokio::test]
async fn the_sockets_of_a_user_who_is_turned_off_close_within_a_second() {
    let (kronos, root) = with_root(&[]).await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let bob = Member::sign_up(&kronos, "bob").await;
    let mut stay = socket(&kronos, &bob).await;
    let mut sockets = [in_a_turn(&kronos, &ann).await, socket(&kronos, &ann).await];
    let path = format!("/api/v1/users/{}", id_of(&kronos, &ann.access).await);
    let ticket = send(&kronos, "POST", "/api/v1/auth/ticket", &ann.access, None)
        .await
        .expect(200);
    let since = Instant::now();
    send(&kronos, "PUT", &path, &root, Some(&json!({"is_active": false})))
        .await
        .expect(200);
    for client in &mut sockets {
        expect_4401(client, since, "turned off").await;
    }
    let late = ConnectOptions {
        ticket: ticket["ticket"].as_str().map(str::to_owned),
        hello: false,
        ..ConnectOptions::default()
    };
    let mut late = kronos.server.connect(late).await;
    assert_eq!(late.closed().await.code, 4401, "a ticket from before");
    stay.request(json!({"op": "ping"})).await.expect("bob stays");
}

#[tokio::test]
async fn the_sockets_of_a_deleted_user_close_within_a_second_and_its_runs_stop() {
    let (kronos, root) = with_root(&[]).await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let id = id_of(&kronos, &ann.access).await;
    let mut client = in_a_turn(&kronos, &ann).await;
    let listed = send(&kronos, "GET", "/api/v1/chat/", &ann.access, None)
        .await
        .expect(200);
    let session = listed["items"][0]["id"].as_str().expect("a conversation").to_owned();
    // Who watches somebody else's conversation is told that it is gone.
    let mut watcher = kronos.server.connect(ConnectOptions::token(&root)).await;
    watcher
        .request(json!({"op": "attach", "session": session}))
        .await
        .expect("attached");
    let since = Instant::now();
    send(&kronos, "DELETE", &format!("/api/v1/users/{id}"), &root, None)
        .await
        .expect(204);
    expect_4401(&mut client, since, "deleted").await;
    eventually(LIMIT, "nothing runs", async || {
        kronos.series("kronos_gemini_running").await == 0
    })
    .await;
    let error = watcher
        .request(json!({"op": "attach", "session": session}))
        .await
        .expect_err("gone");
    assert_eq!(error.code, kronos_protocol::ErrorCode::NotFound);
    send(&kronos, "GET", &format!("/api/v1/chat/{session}"), &root, None)
        .await
        .expect(404);
    assert_eq!(kronos.series("kronos_users_deleted_total").await, 1);
    assert_eq!(kronos.series("kronos_user_deletions_unfinished").await, 0);
}

#[tokio::test]
async fn a_new_password_closes_the_other_sockets_and_keeps_its_own() {
    let (kronos, _root) = with_root(&[]).await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let elsewhere = log_in(&kronos, "ann", PASSWORD).await.expect(200);
    let elsewhere = ConnectOptions::token(elsewhere["access_token"].as_str().expect("a token"));
    let (mut own, mut other) = (socket(&kronos, &ann).await, kronos.server.connect(elsewhere).await);
    let path = format!("/api/v1/users/{}", id_of(&kronos, &ann.access).await);
    let since = Instant::now();
    send(
        &kronos,
        "PUT",
        &path,
        &ann.access,
        Some(&json!({"password": "another horse"})),
    )
    .await
    .expect(200);
    expect_4401(&mut other, since, "of another login").await;
    own.request(json!({"op": "ping"})).await.expect("its own stays");
}

#[tokio::test]
async fn a_deletion_that_a_crash_interrupts_goes_on_after_it() {
    const CHATS: usize = 60;
    let (mut kronos, root) = with_root(&[]).await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let id = id_of(&kronos, &ann.access).await;
    let mut client = socket(&kronos, &ann).await;
    client.attach("@me", None).await;
    for _ in 0..CHATS {
        let session = client.attach_new().await;
        client
            .request(json!({"op": "detach", "session": session}))
            .await
            .expect("detached");
    }
    let list = format!("/api/v1/chat/?user_id={id}&limit=100");
    let listed = send(&kronos, "GET", &list, &root, None).await.expect(200);
    assert_eq!(listed["items"].as_array().map(Vec::len), Some(CHATS));
    let path = format!("/api/v1/users/{id}");
    let gone = async {
        // From the first commit on the token is refused; then the server dies in the middle of the work.
        eventually(LIMIT, "the user is gone", async || {
            send(&kronos, "GET", "/api/v1/auth/me", &ann.access, None).await.status == 401
        })
        .await;
    };
    tokio::select! {
        _ = send(&kronos, "DELETE", &path, &root, None) => {}
        () = gone => {}
    }
    kronos.server.kill9();
    kronos.server.restart().await;
    send(&kronos, "GET", "/api/v1/auth/me", &ann.access, None)
        .await
        .expect(401);
    let refresh = json!({"refresh_token": ann.refresh});
    kronos
        .server
        .post("/api/v1/auth/refresh", &[], &refresh)
        .await
        .expect(401);
    assert_eq!(log_in(&kronos, "ann", PASSWORD).await.status, 401);
    send(&kronos, "GET", &path, &root, None).await.expect(404);
    eventually(LIMIT, "nothing is left", async || {
        let left = send(&kronos, "GET", &list, &root, None).await.expect(200);
        left["items"] == json!([]) && kronos.series("kronos_user_deletions_unfinished").await == 0
    })
    .await;
    Member::sign_up(&kronos, "ann").await;
}

/// Runs `kronos users` beside a server, or without one, with a line on stdin.
fn users(kronos: &Kronos, arguments: &[&str], env: &[(&str, &str)], stdin: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kronos"))
        .arg("users")
        .args(arguments)
        .env_clear()
        .env("DATABASE_URL", format!("sled://{}", kronos.server.data_dir().display()))
        .env("PORT", kronos.server.address().port().to_string())
        .envs(env.iter().copied())
        .current_dir(kronos.server.dir())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kronos starts");
    let mut input = child.stdin.take().expect("a pipe");
    // One that needs no password does not read.
    drop(input.write_all(stdin.as_bytes()));
    drop(input);
    child.wait_with_output().expect("kronos ends")
}

fn good(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

fn bad(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert_eq!(text.trim_end().lines().count(), 1, "{text}");
    text
}

#[tokio::test]
async fn without_a_server_the_command_line_changes_the_store() {
    let mut kronos = kronos_with(400.0, &[("AUTH_MODE", "required"), ("SECRET_KEY", SECRET)]).await;
    kronos.server.sigterm();
    kronos.server.wait(LIMIT).await;
    let create = [
        "create",
        "ann",
        "--email",
        "ann@example.com",
        "--superuser",
        "--full-name",
        "Ann",
    ];
    let made = good(&users(&kronos, &create, &[], "correct horse\n"));
    assert!(made.starts_with("superuser ann made: "), "{made}");
    let taken = bad(&users(&kronos, &create, &[], "correct horse\n"));
    assert!(taken.contains("This username is taken"), "{taken}");
    let short = bad(&users(
        &kronos,
        &["create", "b", "--email", "x"],
        &[("KRONOS_PASSWORD", "short")],
        "",
    ));
    assert!(
        ["username", "email", "password"]
            .iter()
            .all(|field| short.contains(field)),
        "{short}"
    );
    assert!(!short.contains("\"short\""));
    let none = bad(&users(&kronos, &["passwd", "ann"], &[], ""));
    assert!(none.contains("KRONOS_PASSWORD"), "{none}");
    good(&users(
        &kronos,
        &["create", "bob", "--email", "bob@example.com"],
        &[("KRONOS_PASSWORD", PASSWORD)],
        "",
    ));
    let unknown = bad(&users(&kronos, &["disable", "carol"], &[], ""));
    assert!(unknown.contains("User not found: carol"), "{unknown}");
    assert_eq!(
        good(&users(&kronos, &["disable", "BOB@example.com"], &[], "")),
        "bob is off\n"
    );
    good(&users(&kronos, &["passwd", "ann"], &[], "another horse\n"));
    let table = good(&users(&kronos, &["list"], &[], ""));
    let lines: Vec<_> = table.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("ID"), "{table}");
    assert!(
        lines[1].contains("ann  ") && lines[1].contains("superuser  on"),
        "{table}"
    );
    assert!(
        lines[2].contains("bob  ") && lines[2].contains("user       off"),
        "{table}"
    );
    let listed: Value =
        serde_json::from_str(&good(&users(&kronos, &["list", "--json", "--skip", "1"], &[], ""))).unwrap();
    assert_eq!(
        (listed.as_array().map(Vec::len), &listed[0]["username"]),
        (Some(1), &json!("bob"))
    );
    kronos.server.restart().await;
    assert_eq!(log_in(&kronos, "ann", PASSWORD).await.status, 401);
    let ann = log_in(&kronos, "ann", "another horse").await.expect(200);
    let token = ann["access_token"].as_str().unwrap();
    send(&kronos, "GET", "/api/v1/users/", token, None).await.expect(200);
    assert_eq!(log_in(&kronos, "bob", PASSWORD).await.status, 401);
    // Now a server has the store, and is asked.
    let env = [("KRONOS_TOKEN", token)];
    assert_eq!(good(&users(&kronos, &["enable", "bob"], &env, "")), "bob is on\n");
    log_in(&kronos, "bob", PASSWORD).await.expect(200);
}

#[tokio::test]
async fn with_a_server_the_command_line_asks_it_as_a_superuser() {
    let (kronos, root) = with_root(&[]).await;
    let ann = Member::sign_up(&kronos, "ann").await;
    let mut client = socket(&kronos, &ann).await;
    let token = [("KRONOS_TOKEN", root.as_str())];
    for env in [
        &[][..],
        &[("KRONOS_TOKEN", ann.access.as_str())],
        &[("KRONOS_TOKEN", "nonsense")],
    ] {
        let refused = bad(&users(&kronos, &["disable", "ann"], env, ""));
        assert!(refused.contains("the token of a superuser"), "{refused}");
    }
    client.request(json!({"op": "ping"})).await.expect("nothing happened");
    let table = good(&users(&kronos, &["list"], &token, ""));
    assert!(
        table.contains("root@example.com") && table.contains("ann@example.com"),
        "{table}"
    );
    assert_eq!(good(&users(&kronos, &["disable", "ann"], &token, "")), "ann is off\n");
    assert_eq!(client.closed().await.code, 4401);
    let id = {
        let listed: Value = serde_json::from_str(&good(&users(&kronos, &["list", "--json"], &token, ""))).unwrap();
        listed[1]["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(good(&users(&kronos, &["enable", &id], &token, "")), "ann is on\n");
    good(&users(
        &kronos,
        &["passwd", "ann@example.com"],
        &token,
        "another horse\n",
    ));
    log_in(&kronos, "ann", "another horse").await.expect(200);
    let create = ["create", "bob", "--email", "bob@example.com", "--token", &root];
    assert!(good(&users(&kronos, &create, &[], "correct horse\n")).starts_with("user bob made: "));
    let taken = bad(&users(&kronos, &create, &[], "correct horse\n"));
    assert!(
        taken.contains("409") && taken.contains("This username is taken"),
        "{taken}"
    );
    let wrong = bad(&users(
        &kronos,
        &["create", "b", "--email", "b@example.com"],
        &token,
        "correct horse\n",
    ));
    assert!(wrong.contains("username: String should have at least 3"), "{wrong}");
    let unknown = bad(&users(&kronos, &["disable", "carol"], &token, ""));
    assert!(unknown.contains("no user carol"), "{unknown}");
    let nowhere = bad(&users(&kronos, &["list", "--url", "http://127.0.0.1:1"], &token, ""));
    assert!(nowhere.contains("no answer"), "{nowhere}");
}

#[tokio::test]
async fn a_guest_of_development_changes_no_user() {
    let kronos = kronos_with(400.0, &[]).await;
    for arguments in [&["list"][..], &["disable", "demo"], &["passwd", "demo"]] {
        let refused = bad(&users(&kronos, arguments, &[], "correct horse\n"));
        assert!(refused.contains("the token of a superuser"), "{refused}");
    }
    log_in(&kronos, "demo", "demo").await.expect(200);
}

#[tokio::test]
async fn a_password_that_is_typed_is_not_shown() {
    const PTY: &str = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
    let dir = tempfile::tempdir().unwrap();
    let type_in = |first: &str, second: &str| {
        let mut child = Command::new("python3")
            .args(["-c", PTY, env!("CARGO_BIN_EXE_kronos"), "users", "create", "ann"])
            .args(["--email", "ann@example.com"])
            .env("DATABASE_URL", format!("sled://{}", dir.path().join("data").display()))
            .env("PORT", "1")
            .env_remove("KRONOS_PASSWORD")
            .current_dir(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut input = child.stdin.take().expect("a pipe");
        let mut output = child.stdout.take().expect("a pipe");
        let mut shown = String::new();
        for (prompt, line) in [("Password: ", first), ("The same again: ", second)] {
            let mut byte = [0];
            while !shown.ends_with(prompt) {
                output.read_exact(&mut byte).expect("a prompt");
                shown.push(char::from(byte[0]));
            }
            input.write_all(format!("{line}\n").as_bytes()).expect("it reads");
        }
        output.read_to_string(&mut shown).expect("text");
        child.wait().expect("it ends");
        shown
    };
    let shown = type_in("correct horse", "wrong horse");
    assert!(
        shown.contains("the two passwords differ") && !shown.contains("horse"),
        "{shown}"
    );
    let shown = type_in("correct horse", "correct horse");
    assert!(shown.contains("user ann made: ") && !shown.contains("horse"), "{shown}");
}

#[tokio::test]
async fn the_first_superuser_is_in_the_log_without_its_password() {
    let (kronos, _root) = with_root(&[("LOG_LEVEL", "info")]).await;
    let log = kronos.server.output();
    assert!(log.contains("first superuser made"), "{log}");
    assert!(!log.contains(PASSWORD), "{log}");
    let output = Command::new(env!("CARGO_BIN_EXE_kronos"))
        .arg("config")
        .env_clear()
        .env("FIRST_SUPERUSER_USERNAME", "root")
        .env("FIRST_SUPERUSER_EMAIL", "root@example.com")
        .env("FIRST_SUPERUSER_PASSWORD", PASSWORD)
        .current_dir(kronos.server.dir())
        .output()
        .expect("kronos runs");
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(
        shown.contains("first_superuser_password") && !shown.contains(PASSWORD),
        "{shown}"
    );
}
