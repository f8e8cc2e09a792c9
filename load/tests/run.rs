//! `kronos-load run` against the real server, which it starts itself: what a load comes to, and what it says of it.
//!
//! The binaries `kronos` and `kronos-sim` must lie beside that of the load tester (`cargo build --workspace --bins`). No figure is
//! asserted: a machine that is busy may be too slow for one, and then the run is void (exit code 98).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// Everything held, or nothing that was measured counts because the machine was busy.
const HELD: [i32; 2] = [0, 98];
/// A threshold did not hold.
const MISSED: i32 = 99;
/// Somebody ended it.
const INTERRUPTED: i32 = 105;

/// A run that is over.
struct Run {
    code: i32,
    report: Value,
    /// What was written to stderr and to stdout.
    text: String,
}

impl Run {
    fn count(&self, name: &str) -> u64 {
        self.report["counts"][name].as_u64().unwrap_or_default()
    }

    fn samples(&self, latency: &str) -> u64 {
        let both = &self.report["latencies"][latency];
        both["corrected"]["count"].as_u64().unwrap_or_default()
    }

    /// Everybody came to the end, nothing was refused, no promise was broken.
    fn is_clean(&self) {
        assert_eq!(self.report["errors"], serde_json::json!({}), "{}", self.text);
        assert_eq!(self.report["broken"], serde_json::json!({}), "{}", self.text);
        assert!(self.count("offered") > 0, "{}", self.text);
        assert_eq!(self.count("completed"), self.count("offered"), "{}", self.text);
        assert!(HELD.contains(&self.code), "exit code {}: {}", self.code, self.text);
    }
}

/// A load with its files.
struct Load {
    folder: TempDir,
}

impl Load {
    fn new(scenario: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("load.toml"), scenario).unwrap();
        Self { folder }
    }

    fn start(&self, arguments: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_kronos-load"))
            .current_dir(self.folder.path())
            .args(["run", "load.toml", "--json", "report.json"])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn finish(&self, child: Child) -> Run {
        let output = child.wait_with_output().unwrap();
        let text = format!(
            "{}\n{}",
            String::from_utf8_lossy(&output.stderr),
            String::from_utf8_lossy(&output.stdout)
        );
        let report = fs::read(self.folder.path().join("report.json"));
        let report = report.unwrap_or_else(|error| panic!("no report ({error}): {text}"));
        Run {
            code: output.status.code().unwrap_or(-1),
            report: serde_json::from_slice(&report).unwrap(),
            text,
        }
    }
}

fn run(scenario: &str, arguments: &[&str]) -> Run {
    let load = Load::new(scenario);
    load.finish(load.start(&[&["--spawn", "--quiet"], arguments].concat()))
}

#[test]
fn two_devices_are_cut_and_come_back_and_a_cancel_is_heard() {
    let run = run(
        r#"
        thresholds = ["errors == 0", "broken == 0"]
        [load]
        stages = [{ over = "0ms", to = 3 }, { over = "3s", to = 3 }]
        [spawn.sim]
        tokens_per_second = 50.0
        [[mix]]
        name = "two"
        devices = [{ name = "phone" }, { name = "laptop", codec = "msgpack" }]
        steps = [
          { join = "phone" },
          { join = "laptop" },
          { device = "phone", say = "[[clock]][[tokens 40]]" },
          { wait = { deltas = 5 } },
          { cut = "laptop", away = "200ms" },
          { wait = "reply" },
          { device = "phone", say = "[[clock]][[tokens 1000]]" },
          { wait = { deltas = 10 } },
          { device = "laptop", cancel = true },
          { wait = "reply" },
          { device = "phone", say = "What is the capital of Japan?" },
          { wait = "reply" },
        ]
        "#,
        &[],
    );
    run.is_clean();
    let users = run.count("completed");
    assert_eq!(users, 9, "{}", run.text);
    assert_eq!(
        (run.count("runs"), run.count("cuts"), run.count("resumes")),
        (3 * users, users, users)
    );
    for latency in [
        "connect",
        "attach",
        "ack",
        "first_token",
        "token_gap",
        "delivery",
        "cancel_to_silence",
        "resume",
    ] {
        assert!(run.samples(latency) >= users, "{latency}: {}", run.text);
    }
    assert_eq!(run.report["server"]["name"], "kronos");
}

#[test]
fn a_message_that_was_cut_off_before_its_reply_is_applied_once() {
    let run = run(
        r#"
        thresholds = ["errors == 0", "broken == 0"]
        [load]
        stages = [{ over = "0ms", to = 5 }, { over = "3s", to = 5 }]
        codec = "mixed"
        [spawn.sim]
        tokens_per_second = 200.0
        [[mix]]
        name = "cut"
        steps = [
          { say = "[[tokens 20]]" },
          { wait = "reply" },
          { say = "[[tokens 30]]" },
          { cut = true, away = "100ms" },
          { wait = "reply" },
          { say = "[[tokens 10]]" },
          { wait = "reply" },
        ]
        "#,
        &[],
    );
    run.is_clean();
    let users = run.count("completed");
    assert_eq!(run.count("runs"), 3 * users, "{}", run.text);
    assert_eq!(run.count("sends"), 4 * users, "{}", run.text);
    assert_eq!(run.count("resumes"), users, "{}", run.text);
}

#[test]
fn a_closed_load_keeps_its_users_and_replaces_who_is_done() {
    let run = run(
        r#"
        thresholds = ["errors == 0"]
        [load]
        model = "closed"
        stages = [{ over = "1s", to = 4 }, { over = "3s", to = 4 }]
        [spawn.sim]
        tokens_per_second = 200.0
        [[mix]]
        name = "short"
        steps = [{ say = "[[tokens 20]]" }, { wait = "reply" }]
        "#,
        &[],
    );
    run.is_clean();
    assert!(run.count("completed") > 4, "{}", run.text);
    let most = run.report["series"].as_array().unwrap().iter();
    assert_eq!(
        most.filter_map(|second| second["users"].as_i64()).max(),
        Some(4),
        "{}",
        run.text
    );
}

#[test]
fn slow_readers_miss_nothing_while_the_network_fails() {
    let run = run(
        r#"
        thresholds = ["errors == 0", "broken == 0"]
        [load]
        stages = [{ over = "0ms", to = 2 }, { over = "3s", to = 2 }]
        codec = "mixed"
        [network]
        cut_every = "700ms"
        away = "50ms"
        devices = 3
        [spawn.sim]
        tokens_per_second = 400.0
        [[mix]]
        name = "slow"
        devices = [{ name = "desk" }, { name = "train", read = "20KiB/s" }]
        steps = [
          { join = "desk" },
          { join = "train" },
          { device = "desk", say = "[[tokens 400]]" },
          { device = "train", wait = "reply" },
          { device = "train", say = "[[tokens 100]]" },
          { wait = "reply" },
        ]
        "#,
        &[],
    );
    run.is_clean();
    assert!(run.count("cuts") > 0, "{}", run.text);
    assert!(run.count("resumes") > 0, "{}", run.text);
    assert_eq!(run.count("runs"), 2 * run.count("completed"), "{}", run.text);
}

#[test]
fn after_a_storm_everybody_is_back() {
    let run = run(
        r#"
        thresholds = ["errors == 0", "broken == 0"]
        [load]
        stages = [{ over = "0ms", to = 10 }, { over = "1s", to = 10 }, { over = "0ms", to = 0 }, { over = "2s", to = 0 }]
        [network]
        storm_at = "2500ms"
        away = "100ms"
        devices = 2
        [spawn.sim]
        tokens_per_second = 20.0
        [[mix]]
        name = "stormy"
        steps = [{ say = "[[tokens 80]]" }, { wait = "storm" }, { wait = "reply" }]
        "#,
        &[],
    );
    run.is_clean();
    assert_eq!(run.count("completed"), 10);
    assert_eq!((run.count("cuts"), run.count("resumes")), (20, 20), "{}", run.text);
    assert_eq!(run.samples("resume"), 20, "{}", run.text);
}

#[test]
fn users_sign_up_and_come_with_their_tokens() {
    let run = run(
        r#"
        thresholds = ["errors == 0", "broken == 0"]
        [load]
        stages = [{ over = "0ms", to = 2 }, { over = "2s", to = 2 }]
        users = "sign-up"
        [spawn.env]
        AUTH_MODE = "required"
        [spawn.sim]
        tokens_per_second = 200.0
        [[mix]]
        name = "member"
        steps = [{ say = "What is the capital of Japan?" }, { wait = "reply" }]
        "#,
        &["--codec", "msgpack"],
    );
    run.is_clean();
    assert_eq!(run.count("completed"), 4);
}

#[test]
fn an_answer_to_a_question_is_measured() {
    let run = run(
        r#"
        thresholds = ["errors == 0", "broken == 0"]
        [load]
        stages = [{ over = "0ms", to = 2 }, { over = "2s", to = 2 }]
        [spawn.sim]
        tokens_per_second = 200.0
        [[mix]]
        name = "asked"
        steps = [
          { say = "what time is it?", tool_policy = "ask_all" },
          { wait = "approval" },
          { answer = "approve" },
          { wait = "reply" },
        ]
        "#,
        &[],
    );
    run.is_clean();
    assert_eq!(run.samples("approval"), run.count("completed"), "{}", run.text);
}

#[test]
fn who_is_not_done_in_time_is_named_and_who_is_too_many_is_dropped() {
    let run = run(
        r#"
        thresholds = ["errors == 0"]
        [load]
        stages = [{ over = "0ms", to = 4 }, { over = "1s", to = 4 }]
        grace = "1s"
        max_users = 3
        [[mix]]
        name = "never"
        steps = [{ say = "hello" }, { wait = "approval", cancel = true }]
        "#,
        &[],
    );
    assert!([MISSED, 98].contains(&run.code), "{}", run.text);
    assert_eq!(
        run.report["errors"],
        serde_json::json!({"unfinished": 3, "dropped": 1}),
        "{}",
        run.text
    );
    assert!(run.text.contains("unfinished: never, user 0, session "), "{}", run.text);
    assert!(run.text.contains(": step 3 (cancel after asked(1))"), "{}", run.text);
}

/// A process that is killed in the end.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Server {
    fn start(binary: &str, folder: &Path, arguments: &[String], env: &[(&str, String)]) -> Self {
        let binaries = Path::new(env!("CARGO_BIN_EXE_kronos-load")).parent().unwrap();
        let child = Command::new(binaries.join(binary))
            .env_clear()
            .envs(env.iter().map(|(name, value)| (*name, value.as_str())))
            .current_dir(folder)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        Self(child.unwrap())
    }
}

/// Waits until a page says something.
fn until(address: SocketAddr, path: &str, says: &str) {
    loop {
        let mut page = String::new();
        if let Ok(mut stream) = TcpStream::connect(address) {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).ok();
            stream.read_to_string(&mut page).ok();
        }
        if page.contains(says) {
            return;
        }
        sleep(Duration::from_millis(20));
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_server_that_restarts_is_no_error() {
    let load = Load::new(
        r#"
        thresholds = ["errors == 0", "broken == 0"]
        [load]
        stages = [{ over = "0ms", to = 5 }, { over = "1s", to = 5 }]
        grace = "60s"
        [network]
        devices = 2
        [[mix]]
        name = "patient"
        steps = [
          { say = "What is the capital of Japan?" },
          { wait = "reply", think = "4s" },
          { say = "And of Italy?" },
          { wait = "reply" },
        ]
        "#,
    );
    let (simulator, server, metrics) = (free(), free(), free());
    let folder = load.folder.path().to_owned();
    let simulate = ["--port".to_owned(), simulator.port().to_string()];
    let _simulator = Server::start("kronos-sim", &folder, &simulate, &[]);
    let env = [
        ("HOME", folder.display().to_string()),
        ("HOST", "127.0.0.1".to_owned()),
        ("PORT", server.port().to_string()),
        ("DATABASE_URL", format!("sled://{}/data", folder.display())),
        ("ENVIRONMENT", "development".to_owned()),
        ("GEMINI_BASE_URL", format!("http://{simulator}")),
        ("GEMINI_API_KEY", "load".to_owned()),
    ];
    let start = || Server::start("kronos", &folder, &["serve".to_owned()], &env);
    let mut old = start();
    until(server, "/health/ready", "200 OK");
    let (url, address) = (format!("ws://{server}/ws"), metrics.to_string());
    let child = load.start(&["--quiet", "--url", &url, "--metrics", &address]);
    until(metrics, "/metrics", "\nkronos_load_runs_total 5\n");
    let killed = Command::new("kill")
        .args(["-TERM", &old.0.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    old.0.wait().unwrap();
    let _new = start();
    let run = load.finish(child);
    run.is_clean();
    assert_eq!((run.count("completed"), run.count("runs")), (5, 10), "{}", run.text);
    assert!(run.count("resumes") >= 10, "{}", run.text);
    assert_eq!(run.count("cuts"), 0, "{}", run.text);
}

#[test]
fn an_interrupted_load_says_so() {
    let load = Load::new(
        r#"
        [load]
        stages = [{ over = "0ms", to = 5 }, { over = "600s", to = 5 }]
        [[mix]]
        name = "long"
        steps = [{ say = "hello" }]
        "#,
    );
    // Nobody listens at either; the second one will be the load tester itself.
    let (nobody, metrics) = (free(), free());
    let url = format!("ws://{nobody}/ws");
    let child = load.start(&["--quiet", "--url", &url, "--metrics", &metrics.to_string()]);
    while TcpStream::connect(metrics).is_err() {
        sleep(Duration::from_millis(20));
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let run = load.finish(child);
    assert_eq!(run.report["interrupted"], true, "{}", run.text);
    assert!(
        [INTERRUPTED, 98, MISSED].contains(&run.code),
        "exit code {}: {}",
        run.code,
        run.text
    );
}
