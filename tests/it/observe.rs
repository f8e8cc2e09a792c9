//! What operators see: metrics that are true and name nobody, and log lines without what was said.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use kronos_actors::metrics::{ALL, Kind, Values};
use kronos_protocol::SendMode;
use kronos_testkit::{ConnectOptions, KronosOptions, KronosProc, eventually, eventually_now};
use serde_json::{Value, json};

use crate::harness::{Kronos, kronos, kronos_with};

const LIMIT: Duration = Duration::from_secs(10);

/// Families that nothing in these tests touches, and that have too many series to be there from the start.
const UNTOUCHED: &[&str] = &[
    "kronos_question_wait_seconds",
    "kronos_composio_requests_total",
    "kronos_composio_request_duration_seconds",
    "kronos_composio_catalogue_age_seconds",
];

/// One sample.
#[derive(Debug)]
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Sample {
    fn fits(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        let has = |(key, value): &(&str, &str)| self.labels.get(*key).is_some_and(|is| is == value);
        self.name == name && labels.iter().all(has)
    }
}

/// One scrape, checked against the text format of Prometheus.
#[derive(Debug)]
pub(crate) struct Scrape {
    /// Kind by family.
    types: BTreeMap<String, String>,
    samples: Vec<Sample>,
}

impl Scrape {
    pub(crate) async fn take(server: &KronosProc) -> Self {
        let reply = server.get("/metrics", &[]).await;
        assert_eq!(reply.status, 200);
        assert!(
            reply
                .header("content-type")
                .is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4"))
        );
        Self::parse(&reply.text())
    }

    fn parse(text: &str) -> Self {
        let (mut types, mut helps, mut samples) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        assert!(text.ends_with('\n'));
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, text) = help.split_once(' ').expect("a name and a text");
                assert!(helps.insert(name.to_owned()) && !text.is_empty(), "{line}");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a name and a kind");
                assert!(
                    types.insert(name.to_owned(), kind.to_owned()).is_none(),
                    "twice: {line}"
                );
            } else {
                let sample = sample(line);
                let known = types.contains_key(family(&sample.name)) || types.contains_key(&sample.name);
                assert!(known, "a sample before its type: {line}");
                samples.push(sample);
            }
        }
        for name in types.keys() {
            assert!(helps.contains(name), "{name} is not explained");
        }
        Self { types, samples }
    }

    /// The sum of all samples called `name` with these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |sample: &&Sample| sample.fits(name, labels);
        self.samples.iter().filter(fits).map(|sample| sample.value).sum()
    }

    /// How many samples are called `name` and have these labels.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> usize {
        self.samples.iter().filter(|sample| sample.fits(name, labels)).count()
    }
}

/// The family of a histogram's sample.
fn family(name: &str) -> &str {
    let tails = ["_bucket", "_sum", "_count"];
    tails.iter().find_map(|tail| name.strip_suffix(tail)).unwrap_or(name)
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').expect("an end of the labels");
    let label = |pair: &str| {
        let (name, value) = pair.split_once("=\"").expect("a label");
        let value = value.strip_suffix('"').expect("a quoted value");
        assert!(!value.contains(['"', '\\', '\n']), "{line}");
        (name.to_owned(), value.to_owned())
    };
    let pairs = labels.split_inclusive("\",").map(|pair| pair.trim_end_matches(','));
    Sample {
        name: name.to_owned(),
        labels: pairs.filter(|pair| !pair.is_empty()).map(label).collect(),
        value: value.parse().unwrap_or_else(|_| panic!("not a number: {line}")),
    }
}

/// Everything that a server does in a day: two codecs, REST, a login, a retry, a failure, a cancel, a refused command.
async fn a_day(kronos: &Kronos) {
    let mut client = kronos.client("secret-user").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "What is the capital of Japan?").await;
    client
        .ask(&session, "m_2", "[[503-once]] What is the capital of Japan?")
        .await;
    client.ask(&session, "m_3", "[[400]] a").await;
    client
        .send(&session, "m_4", "[[stall]] [[tokens 40]] a", SendMode::Queue)
        .await;
    client.until_running(&session).await;
    client.cancel(&session).await.expect("cancelled");
    client
        .request(json!({"op": "attach", "session": "none"}))
        .await
        .unwrap_err();
    let long = "long ".repeat(10_000);
    client
        .try_send(&session, "m_5", &long, SendMode::Queue)
        .await
        .unwrap_err();
    let mut msgpack = kronos.msgpack("secret-user").await;
    msgpack.attach(&session, None).await;
    msgpack.until_caught_up(&session).await;
    let body = json!({"message": "What is the capital of Italy?", "user_id": "secret-user"});
    kronos.server.post("/api/v1/chat/message", &[], &body).await.expect(200);
    for password in ["demo", "wrong"] {
        let body = json!({"username": "demo", "password": password});
        let reply = kronos.server.post("/api/v1/auth/login", &[], &body).await;
        if reply.status == 200 {
            let bearer = format!("Bearer {}", reply.json()["access_token"].as_str().unwrap());
            kronos
                .server
                .post("/api/v1/auth/ticket", &[("authorization", &bearer)], &json!({}))
                .await
                .expect(200);
        }
    }
    client.finish().await;
}

#[tokio::test]
async fn metrics_are_what_is_declared_and_name_nobody() {
    let kronos = kronos_with(0.0, &[("GEMINI_BACKOFF", "5ms")]).await;
    Box::pin(a_day(&kronos)).await;
    let scrape = eventually(LIMIT, "every family that was touched", || async {
        let scrape = Scrape::take(&kronos.server).await;
        let missing: Vec<_> = ALL
            .iter()
            .map(|metric| metric.name)
            .filter(|name| !UNTOUCHED.contains(name) && !scrape.types.contains_key(*name))
            .collect();
        if missing.is_empty() { Ok(scrape) } else { Err(missing) }
    })
    .await;
    for (name, kind) in &scrape.types {
        let declared = ALL.iter().find(|metric| metric.name == name);
        let declared = declared.unwrap_or_else(|| panic!("{name} is not declared"));
        let expected = match declared.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert_eq!(kind, expected, "{name}");
    }
    for sample in &scrape.samples {
        let declared = ALL
            .iter()
            .find(|metric| metric.name == family(&sample.name) || metric.name == sample.name);
        let labels = declared.expect("declared").labels;
        for (name, value) in &sample.labels {
            let values = labels
                .iter()
                .find(|(label, _)| label == name)
                .map(|(_, values)| *values);
            assert!(
                name == "le" || values.is_some_and(|values| values.may_be(value)),
                "{sample:?}"
            );
            // What stands in a closed list names nobody.
            if matches!(values, Some(Values::One(_))) {
                continue;
            }
            for said in [
                "secret-user",
                "demo",
                "capital",
                "Tokyo",
                "m_1",
                "c_",
                "r_",
                "0192",
                "01a2",
            ] {
                assert!(!value.contains(said), "{sample:?}");
            }
        }
    }
}

#[tokio::test]
async fn histograms_have_buckets_that_add_up() {
    let kronos = kronos_with(0.0, &[("GEMINI_BACKOFF", "5ms")]).await;
    Box::pin(a_day(&kronos)).await;
    let scrape = Scrape::take(&kronos.server).await;
    for (name, _) in scrape.types.iter().filter(|(_, kind)| *kind == "histogram") {
        let mut series: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        let buckets = format!("{name}_bucket");
        for sample in scrape.samples.iter().filter(|sample| sample.name == buckets) {
            let mut labels = sample.labels.clone();
            let bound = labels.remove("le").expect("le").replace("+Inf", "inf");
            series
                .entry(format!("{labels:?}"))
                .or_default()
                .push((bound.parse().unwrap(), sample.value));
        }
        assert!(!series.is_empty(), "{name} has no buckets");
        for (labels, buckets) in series {
            assert!(buckets.len() > 5, "{name}{labels}");
            assert!(
                buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
                "{name}{labels}: {buckets:?}"
            );
            assert!(
                buckets.last().is_some_and(|(bound, _)| bound.is_infinite()),
                "{name}{labels}"
            );
        }
        let all: f64 = scrape
            .samples
            .iter()
            .filter(|sample| sample.name == buckets && sample.labels["le"] == "+Inf")
            .map(|sample| sample.value)
            .sum();
        assert_eq!(all, scrape.sum(&format!("{name}_count"), &[]), "{name}");
    }
}

#[tokio::test]
async fn one_turn_moves_what_it_should() {
    let kronos = kronos_with(0.0, &[("GEMINI_BACKOFF", "5ms")]).await;
    let before = Scrape::take(&kronos.server).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client
        .ask(&session, "m_1", "[[503-once]] What is the capital of Japan?")
        .await;
    let after = eventually(LIMIT, "the turn is counted", || async {
        let scrape = Scrape::take(&kronos.server).await;
        (scrape.sum("kronos_gemini_requests_total", &[("outcome", "finished")]) >= 1.0).then_some(scrape)
    })
    .await;
    let moved = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);
    for (name, labels, by) in [
        ("kronos_connections", &[][..], 1.0),
        ("kronos_frames_in_total", &[("codec", "json")], 3.0),
        ("kronos_commands_total", &[("op", "hello"), ("outcome", "ok")], 1.0),
        ("kronos_commands_total", &[("op", "attach"), ("outcome", "ok")], 1.0),
        ("kronos_commands_total", &[("op", "send"), ("outcome", "ok")], 1.0),
        (
            "kronos_gemini_requests_total",
            &[("model", "gemini-3.8-flash"), ("outcome", "finished")],
            1.0,
        ),
        ("kronos_permit_wait_seconds_count", &[("upstream", "gemini")], 1.0),
        ("kronos_gemini_circuit", &[], 0.0),
        ("kronos_auth_failures_total", &[], 0.0),
        (
            "kronos_gemini_retries_total",
            &[("reason", "upstream_unavailable")],
            1.0,
        ),
        ("kronos_gemini_first_token_seconds_count", &[], 1.0),
        ("kronos_gemini_running", &[], 0.0),
    ] {
        assert_eq!(moved(name, labels), by, "{name}{labels:?}");
    }
    for (name, labels) in [
        ("kronos_frames_out_total", &[("codec", "json")][..]),
        ("kronos_frames_in_bytes_total", &[("codec", "json")]),
        ("kronos_frames_out_bytes_total", &[("codec", "json")]),
        ("kronos_events_appended_total", &[]),
        ("kronos_store_commit_duration_seconds_count", &[]),
        ("kronos_store_commit_duration_seconds_sum", &[]),
        ("kronos_store_commit_requests_count", &[]),
        ("kronos_store_commit_bytes_sum", &[]),
        ("kronos_store_read_duration_seconds_count", &[]),
        ("kronos_gemini_cost_dollars_total", &[("model", "gemini-3.8-flash")]),
        ("kronos_gemini_tokens_total", &[("kind", "prompt")]),
        ("kronos_gemini_tokens_total", &[("kind", "answer")]),
        ("kronos_http_requests_total", &[("route", "/metrics")]),
    ] {
        assert!(moved(name, labels) > 0.0, "{name}{labels:?}");
    }
    tells_of_its_process(&after);
    client.finish().await;
    eventually(LIMIT, "the connection is gone", || async {
        Scrape::take(&kronos.server).await.sum("kronos_connections", &[]) == 0.0
    })
    .await;
}

fn tells_of_its_process(scrape: &Scrape) {
    for name in [
        "kronos_store_size_bytes",
        "kronos_sessions_live",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_threads",
        "process_start_time_seconds",
    ] {
        assert!(scrape.sum(name, &[]) > 0.0, "{name}");
    }
    for name in ["kronos_ready", "kronos_build_info"] {
        assert_eq!(scrape.sum(name, &[]), 1.0, "{name}");
    }
}

#[tokio::test]
async fn routes_of_strangers_make_no_series() {
    let kronos = kronos().await;
    for n in 0..20 {
        kronos.server.get(&format!("/secret-path-{n}"), &[]).await.expect(404);
        kronos
            .server
            .get(&format!("/api/v1/chat/secret-id-{n}"), &[])
            .await
            .expect(404);
        kronos.server.request("PURGE", "/health", &[], None).await;
    }
    let scrape = Scrape::take(&kronos.server).await;
    let series: Vec<_> = scrape
        .samples
        .iter()
        .filter(|sample| sample.name == "kronos_http_requests_total")
        .collect();
    assert!(series.len() <= 6, "{series:?}");
    for sample in &series {
        assert!(!format!("{sample:?}").contains("secret"), "{sample:?}");
    }
}

/// Words that must never be in a log line.
const PLANTED: &[&str] = &[
    "plantedquestion",
    "plantedanswer",
    "plantedtitle",
    "plantedkey",
    "plantedpassword",
    "plantedprompt",
    "planted-secret-0123456789abcdef-0123456789",
];

async fn turns_with_planted_words(kronos: &Kronos) -> Vec<String> {
    use kronos_sim::ScriptedReply;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    kronos.gemini.script(vec![
        ScriptedReply::text(["the plantedanswer ", "is long"]),
        ScriptedReply::fault("503"),
        ScriptedReply::text(["another plantedanswer"]),
        ScriptedReply::error(400, Some(json!({"error": {"code": 400, "message": "plantedquestion is bad",
            "details": [{"@type": "x.BadRequest", "fieldViolations": [{"field": "contents[0].plantedquestion why"}]}]}}))),
        ScriptedReply::default().then_raw("data: plantedanswer {\r\n\r\n"),
    ]);
    for n in 0..5 {
        client.ask(&session, &format!("m_{n}"), "a plantedquestion?").await;
    }
    client.request(json!({"op": "plantedquestion"})).await.unwrap_err();
    client
        .request(json!({"op": "attach", "session": "new", "title": "plantedtitle"}))
        .await
        .expect("attached");
    let body = json!({"message": "plantedquestion", "user_id": "ann", "system_prompt": "plantedprompt"});
    kronos.server.post("/api/v1/chat/message", &[], &body).await.expect(200);
    kronos
        .server
        .post("/api/v1/chat/message", &[], &json!({"message": ["plantedquestion"]}))
        .await
        .expect(422);
    let user = json!({"username": "eve", "email": "eve@example.com", "password": "plantedpassword"});
    kronos.server.post("/api/v1/auth/signup", &[], &user).await.expect(201);
    let tokens = kronos
        .server
        .post(
            "/api/v1/auth/login",
            &[],
            &json!({"username": "eve", "password": "plantedpassword"}),
        )
        .await
        .expect(200);
    let secret = |name: &str| tokens[name].as_str().unwrap().to_owned();
    let mut eve = kronos
        .server
        .connect(ConnectOptions::token(&secret("access_token")))
        .await;
    eve.attach_new().await;
    let bearer = format!("Bearer {}", secret("access_token"));
    let ticket = kronos
        .server
        .post("/api/v1/auth/ticket", &[("authorization", &bearer)], &json!({}))
        .await
        .expect(200);
    let ticket = ticket["ticket"].as_str().unwrap().to_owned();
    let options = ConnectOptions {
        ticket: Some(ticket.clone()),
        ..ConnectOptions::default()
    };
    kronos.server.connect(options).await.finish().await;
    eve.finish().await;
    client.finish().await;
    vec![secret("access_token"), secret("refresh_token"), ticket]
}

#[tokio::test]
async fn no_log_line_holds_what_was_said_or_a_secret() {
    for (level, format) in [("debug", "json"), ("trace", "pretty"), ("trace", "json")] {
        let mut kronos = kronos_with(
            0.0,
            &[
                ("LOG_LEVEL", level),
                ("LOG_FORMAT", format),
                ("LOG_DIR", "logs"),
                ("LOG_BURST", "0"),
                ("GEMINI_API_KEY", "plantedkey"),
                ("GEMINI_BACKOFF", "5ms"),
                ("SECRET_KEY", "planted-secret-0123456789abcdef-0123456789"),
            ],
        )
        .await;
        let secrets = Box::pin(turns_with_planted_words(&kronos)).await;
        kronos.server.sigterm();
        assert!(kronos.server.wait(LIMIT).await.success());
        let files = ["kronos.log", "kronos-errors.log"].map(|name| kronos.server.dir().join("logs").join(name));
        let files = files
            .map(|file| std::fs::read_to_string(file).expect("a log file"))
            .concat();
        let output = kronos.server.output() + &files;
        assert!(files.contains("generation finished"), "{files}");
        assert!(!output.contains("sled::"), "the store's pages are no news");
        assert!(output.len() < 1 << 21, "some of it was dropped");
        let found = |word: &str| output.lines().find(|line| line.contains(word)).map(str::to_owned);
        for word in PLANTED.iter().copied().chain(secrets.iter().map(String::as_str)) {
            assert_eq!(found(word), None, "{level}: {word}");
            let bytes: Vec<String> = word.bytes().map(|byte| byte.to_string()).collect();
            assert_eq!(found(&bytes.join(", ")), None, "{level}: {word} in numbers");
        }
    }
}

#[tokio::test]
async fn json_log_lines_are_objects_that_name_run_and_session() {
    let mut kronos = kronos_with(0.0, &[("LOG_LEVEL", "info"), ("LOG_FORMAT", "json")]).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "Hello!").await;
    kronos.server.sigterm();
    assert!(kronos.server.wait(LIMIT).await.success());
    let output = kronos.server.output();
    let lines: Vec<Value> = output
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let finished = lines
        .iter()
        .find(|line| line["message"] == "generation finished")
        .expect("the turn is told");
    assert_eq!(finished["session.id"], session.as_str());
    assert!(
        finished["run.id"].as_str().is_some_and(|run| run.starts_with("r_")),
        "{finished}"
    );
    for line in &lines {
        let names = line.as_object().unwrap().keys();
        assert!(
            names.into_iter().all(|name| name != "fields" && name != "spans"),
            "{line}"
        );
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
}

#[tokio::test]
async fn the_default_log_says_each_turn_in_one_line_and_nothing_of_the_framework() {
    let options = KronosOptions::new(env!("CARGO_BIN_EXE_kronos"))
        .env("LOG_FORMAT", "pretty")
        .env("GEMINI_SIM_TOKENS_PER_SECOND", "0");
    let mut server = KronosProc::start(options).await;
    let mut client = server.connect(ConnectOptions::user("ann")).await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "What is the capital of Japan?").await;
    client.ask(&session, "m_2", "[[tokens 200]] a story").await;
    server.get("/health", &[]).await.expect(200);
    eventually_now(LIMIT, "both turns are told", || {
        server.output().matches("generation finished").count() == 2
    })
    .await;
    server.sigterm();
    assert!(server.wait(LIMIT).await.success());
    let output = server.output();
    for chatter in [
        "starting",
        "workers",
        "Actix",
        "actix",
        "shutting down",
        "sim_",
        "frame",
    ] {
        assert!(!output.contains(chatter), "{chatter}: {output}");
    }
    assert!(output.lines().count() <= 13, "{output}");
    assert!(!output.contains('\u{1b}'), "colours in a pipe: {output}");
}

#[tokio::test]
async fn a_request_keeps_its_id_and_strangers_write_no_log_lines() {
    let kronos = kronos_with(0.0, &[("LOG_LEVEL", "warn"), ("LOG_FORMAT", "json")]).await;
    let headers = [("X-Request-ID", "the-id-of-this-request")];
    let body = json!({"message": "[[503]] a", "user_id": "ann"});
    let reply = kronos.server.post("/api/v1/chat/message", &headers, &body).await;
    assert_eq!(reply.header("x-request-id"), Some("the-id-of-this-request"));
    // Strangers cannot fill the log with what they send.
    for text in ["nonsense\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"] {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let mut stream = tokio::net::TcpStream::connect(kronos.server.address()).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let output = kronos.server.output();
    assert!(!output.contains("stream error"), "{output}");
}
