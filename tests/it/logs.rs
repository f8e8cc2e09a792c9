//! Log lines: where they go, whose they are, and what a storm, a full queue or a broken disk makes of them.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use kronos_testkit::{ConnectOptions, KronosOptions, KronosProc, eventually};
use serde_json::{Value, json};

use crate::harness::{Kronos, kronos_with};

const LIMIT: Duration = Duration::from_secs(20);
const LEFT_OUT: &str = "kronos_log_lines_dropped_total";

/// The lines of a log, each a JSON object.
fn lines(text: &str) -> Vec<Value> {
    let lines = text.lines().filter(|line| line.starts_with('{'));
    lines
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

async fn end(kronos: &mut Kronos) {
    kronos.server.sigterm();
    assert!(kronos.server.wait(LIMIT).await.success());
}

async fn turns(kronos: &Kronos, count: usize) {
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    for n in 0..count {
        client.ask(&session, &format!("m_{n}"), "[[tokens 1]] Hello!").await;
    }
    client.finish().await;
}

#[tokio::test]
async fn files_have_every_line_up_to_the_last_and_errors_have_one_of_their_own() {
    for format in ["json", "pretty"] {
        let env = [("LOG_DIR", "some/logs"), ("LOG_LEVEL", "debug"), ("LOG_FORMAT", format)];
        let mut kronos = kronos_with(0.0, &env).await;
        turns(&kronos, 2).await;
        kronos
            .gemini
            .set_config(|config| config.invalid_keys = vec!["test-key".to_owned()]);
        turns(&kronos, 1).await;
        end(&mut kronos).await;
        let dir = kronos.server.dir().join("some/logs");
        let (main, errors) = (read(&dir.join("kronos.log")), read(&dir.join("kronos-errors.log")));
        assert!(main.trim_end().lines().last().unwrap().contains("stopped"), "{main}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(
            errors.contains("until somebody mends it") && errors.contains("ERROR"),
            "{errors}"
        );
        let stderr = kronos.server.output();
        // Each output takes its own time.
        let told = |line: &str| line.split_once([',', ' ']).unwrap().1.to_owned();
        for line in main.lines().chain(errors.lines()) {
            assert!(stderr.contains(&told(line)), "{line} is not in {stderr}");
            assert!(main.contains(line) && !line.contains('\u{1b}'), "{line}");
        }
    }
}

#[tokio::test]
async fn a_disk_needs_no_more_than_so_many_files_of_such_a_size() {
    let env = [
        ("LOG_DIR", "logs"),
        ("LOG_LEVEL", "debug"),
        ("LOG_FILE_BYTES", "4KiB"),
        ("LOG_FILES", "3"),
    ];
    let mut kronos = kronos_with(0.0, &env).await;
    turns(&kronos, 40).await;
    end(&mut kronos).await;
    let entries = fs::read_dir(kronos.server.dir().join("logs")).unwrap();
    let sizes: BTreeMap<String, u64> = entries
        .map(|entry| entry.unwrap())
        .map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len()))
        .collect();
    let names: Vec<&str> = sizes.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        ["kronos-errors.log", "kronos.log", "kronos.log.1", "kronos.log.2"]
    );
    assert!(sizes.values().all(|size| *size <= 4096), "{sizes:?}");
    assert!(sizes["kronos.log.1"] > 3000, "{sizes:?}");
    let oldest = read(&kronos.server.dir().join("logs/kronos.log.2"));
    assert!(!lines(&oldest).is_empty());
}

#[test]
fn a_folder_that_takes_no_files_stops_the_start_with_one_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    for folder in ["file", "file/below", "/proc/nothing"] {
        let output = Command::new(env!("CARGO_BIN_EXE_kronos"))
            .args(["serve", "--port", "0"])
            .env_clear()
            .env("LOG_DIR", folder)
            .current_dir(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        assert!(
            text.contains(&format!("LOG_DIR={folder} cannot be written: ")),
            "{text}"
        );
    }
}

#[tokio::test]
async fn a_disk_that_breaks_later_costs_lines_and_nothing_else() {
    let env = [("LOG_DIR", "logs"), ("LOG_LEVEL", "debug"), ("LOG_FILE_BYTES", "4KiB")];
    let mut kronos = kronos_with(0.0, &env).await;
    fs::remove_dir_all(kronos.server.dir().join("logs")).unwrap();
    let lost = format!(r#"{LEFT_OUT}{{reason="slow_disk"}}"#);
    eventually(LIMIT, "lines are lost", || async {
        turns(&kronos, 5).await;
        kronos.series(&lost).await > 0
    })
    .await;
    fs::create_dir(kronos.server.dir().join("logs")).unwrap();
    turns(&kronos, 1).await;
    end(&mut kronos).await;
    assert!(read(&kronos.server.dir().join("logs/kronos.log")).contains("stopped"));
}

#[tokio::test]
async fn nobody_waits_for_a_stderr_that_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_kronos"))
        .args(["serve", "--port", &address.port().to_string()])
        .env_clear()
        .envs([("LOG_LEVEL", "trace"), ("LOG_QUEUE_LINES", "10"), ("LOG_BURST", "0")])
        .env("GEMINI_SIM_TOKENS_PER_SECOND", "0")
        .current_dir(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let get = async |path: &str| {
        let reply = kronos_testkit::request(address, "GET", path, &[], None).await;
        reply.ok().filter(|reply| reply.status == 200)
    };
    eventually(LIMIT, "it is ready", || async { get("/health/ready").await.is_some() }).await;
    eventually(LIMIT, "lines are left out", || async {
        let message = json!({"message": "Hello!", "user_id": "ann"});
        let reply = kronos_testkit::request(address, "POST", "/api/v1/chat/message", &[], Some(&message)).await;
        reply.expect("an answer").expect(200);
        let metrics = get("/metrics").await.expect("metrics").text();
        let series = format!(r#"{LEFT_OUT}{{reason="slow_disk"}} "#);
        let left_out = metrics
            .lines()
            .find_map(|line| line.strip_prefix(&series))
            .map(str::to_owned);
        left_out.is_some_and(|count| count != "0")
    })
    .await;
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test]
async fn a_storm_writes_some_lines_and_says_how_many_it_left_out() {
    const STORM: usize = 160;
    let env = [
        ("LOG_DIR", "logs"),
        ("LOG_LEVEL", "warn"),
        ("LOG_BURST", "2"),
        ("GEMINI_MAX_ATTEMPTS", "1"),
        ("GEMINI_BREAKER_FAILURES", "10000"),
    ];
    let mut kronos = kronos_with(0.0, &env).await;
    let body = json!({"message": "[[503]] a", "user_id": "ann"});
    let server = &kronos.server;
    let failures = (0..STORM / 20).map(|_| async {
        for _ in 0..20 {
            server.post("/api/v1/chat/message", &[], &body).await.expect(503);
        }
    });
    futures_util::future::join_all(failures).await;
    let left_out = kronos.series(&format!(r#"{LEFT_OUT}{{reason="burst"}}"#)).await;
    end(&mut kronos).await;
    let log = lines(&read(&kronos.server.dir().join("logs/kronos.log")));
    let failed: Vec<&Value> = log
        .iter()
        .filter(|line| line["message"] == "generation failed")
        .collect();
    let told: Vec<&Value> = log
        .iter()
        .filter(|line| line["message"] == "log lines were left out")
        .collect();
    let said: u64 = told
        .iter()
        .filter(|line| line["place"].as_str().unwrap().contains("gemini::generation:"))
        .map(|line| line["left_out"].as_u64().unwrap())
        .sum();
    assert_eq!(failed.len() as u64 + said, STORM as u64, "{told:#?}");
    assert!(said > 0 && left_out >= said, "{left_out} {said}");
    let mut by_second: BTreeMap<&str, usize> = BTreeMap::new();
    for line in &failed {
        let second = line["timestamp"].as_str().unwrap().split('.').next().unwrap();
        *by_second.entry(second).or_default() += 1;
    }
    // Its seconds are not those of the wall.
    assert!(by_second.values().all(|lines| *lines <= 4), "{by_second:?}");
    assert!(told.iter().all(|line| line["level"] == "WARN"));
}

#[tokio::test]
async fn lines_say_whose_they_are() {
    let mut kronos = kronos_with(0.0, &[("LOG_LEVEL", "debug")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    let body = json!({"message": "Hello!", "user_id": "ben"});
    let headers = [("X-Request-ID", "asked-here")];
    let reply = kronos.server.post("/api/v1/chat/message", &headers, &body).await;
    reply.expect(200);
    client.finish().await;
    end(&mut kronos).await;
    let log = lines(&kronos.server.output());
    let find = |message: &str, user: &str| {
        let fits = |line: &&Value| line["message"] == message && line["user.id"] == user;
        log.iter().find(fits).unwrap_or_else(|| panic!("{message}: {log:#?}"))
    };
    let opened = find("connection opened", "ann");
    let connection = opened["connection.id"].as_str().expect("a connection");
    assert!(
        opened["request.id"].is_string() && opened["url.path"] == "/ws",
        "{opened}"
    );
    assert_eq!(find("connection ended", "ann")["connection.id"], connection);
    let begins = find("run begins", "ann");
    let of_rest = find("run begins", "ben");
    assert_eq!(
        (&begins["connection.id"], &begins["session.id"]),
        (&json!(connection), &json!(session.as_str()))
    );
    assert_eq!(of_rest["request.id"], "asked-here");
    for (user, begins) in [("ann", begins), ("ben", of_rest)] {
        let finished = find("generation finished", user);
        for field in ["run.id", "session.id"] {
            assert!(
                finished[field].is_string() && finished[field] == begins[field],
                "{finished}"
            );
        }
    }
    for line in &log {
        let fields = line.as_object().unwrap().keys();
        assert!(
            fields
                .into_iter()
                .all(|name| !name.starts_with("otel.") && !name.starts_with("gen_ai.")),
            "{line}"
        );
    }
}

#[tokio::test]
async fn the_level_changes_while_the_server_runs_and_goes_back() {
    let options = [
        ("LOG_LEVEL", "info"),
        ("FIRST_SUPERUSER_USERNAME", "root"),
        ("FIRST_SUPERUSER_EMAIL", "root@example.com"),
        ("FIRST_SUPERUSER_PASSWORD", "correct horse"),
    ];
    let options = options.into_iter().fold(
        KronosOptions::new(env!("CARGO_BIN_EXE_kronos")),
        |options, (name, value)| options.env(name, value),
    );
    let mut server = KronosProc::start(options).await;
    let login = json!({"username": "root", "password": "correct horse"});
    let login = server.post("/api/v1/auth/login", &[], &login).await.expect(200);
    let bearer = format!("Bearer {}", login["access_token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let put = async |body: Value| {
        let reply = server
            .request("PUT", "/api/v1/admin/log-level", &headers, Some(&body))
            .await;
        reply.expect(200)
    };
    let opened = || server.output().matches("connection opened").count();
    let connect = async || server.connect(ConnectOptions::user("ann")).await.finish().await;
    connect().await;
    let changed = put(json!({"level": "debug", "for_seconds": 2})).await;
    assert_eq!(
        (&changed["was"], &changed["level"], &changed["then"]),
        (&json!("info"), &json!("debug"), &json!("info"))
    );
    eventually(LIMIT, "connections are told", || async {
        connect().await;
        opened() > 0
    })
    .await;
    eventually(LIMIT, "the level is what it was", || async {
        let now = server.get("/api/v1/admin/log-level", &headers).await.expect(200);
        now == json!({"level": "info", "until": null, "then": null})
    })
    .await;
    assert_eq!(put(json!({"level": "CRITICAL"})).await["level"], "error");
    assert_eq!(put(json!({"level": "info,kronos_actors=debug"})).await["was"], "error");
    server.sigterm();
    assert!(server.wait(LIMIT).await.success());
    let log = lines(&server.output());
    let changes: Vec<_> = log
        .iter()
        .filter(|line| line["message"] == "the log level is changed")
        .map(|line| {
            (
                line["was"].as_str().unwrap(),
                line["level"].clone(),
                line["user.id"].is_string(),
            )
        })
        .collect();
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert!(changes.iter().all(|(_, _, who)| *who), "{changes:?}");
}
