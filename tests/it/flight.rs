//! The flight recorder: the phase that a trouble is in is the one that is named.

use std::{process::Command, time::Duration};

use kronos_protocol::SendMode;
use kronos_sim::ComposioScript;
use kronos_testkit::{HttpReply, WsClient, eventually};
use serde_json::{Value, json};

use crate::{
    agent::{Device, agent_with},
    harness::{Kronos, kronos_with},
};

const LIMIT: Duration = Duration::from_secs(20);
const PASSWORD: &str = "correct horse";
const ROOT: [(&str, &str); 3] = [
    ("FIRST_SUPERUSER_USERNAME", "root"),
    ("FIRST_SUPERUSER_EMAIL", "root@example.com"),
    ("FIRST_SUPERUSER_PASSWORD", PASSWORD),
];

/// Asks as the superuser.
struct Admin<'a> {
    kronos: &'a Kronos,
    token: String,
}

impl<'a> Admin<'a> {
    async fn of(kronos: &'a Kronos) -> Self {
        let body = json!({"username": "root", "password": PASSWORD});
        let tokens = kronos.server.post("/api/v1/auth/login", &[], &body).await.expect(200);
        let token = tokens["access_token"].as_str().expect("a token").to_owned();
        Self { kronos, token }
    }

    async fn get(&self, path: &str) -> HttpReply {
        let bearer = format!("Bearer {}", self.token);
        let path = format!("/api/v1/admin/{path}");
        self.kronos.server.get(&path, &[("Authorization", &bearer)]).await
    }

    async fn runs(&self) -> Vec<String> {
        let turns = self.get("turns?limit=100").await.expect(200);
        let items = turns["items"].as_array().unwrap();
        assert_eq!(turns["recorded"].as_u64().unwrap(), items.len() as u64);
        let run = |item: &Value| item["run"].as_str().unwrap().to_owned();
        items.iter().map(run).collect()
    }

    async fn timeline(&self, run: &str) -> Value {
        self.get(&format!("turns/{run}/timeline")).await.expect(200)
    }

    /// The timeline of the only run, once this is so.
    async fn only(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually(LIMIT, what, || async {
            let runs = self.runs().await;
            assert!(runs.len() < 2, "{runs:?}");
            let run = runs.first().ok_or(Value::Null)?;
            let timeline = self.timeline(run).await;
            if fits(&timeline) { Ok(timeline) } else { Err(timeline) }
        })
        .await
    }
}

/// Reads past the ping that follows the end of a run, and sends its answer.
async fn answer_pings(client: &mut WsClient) {
    for _ in 0..2 {
        client.request(json!({"op": "ping"})).await.expect("a pong");
    }
}

fn is_durable(timeline: &Value) -> bool {
    let mut moments = timeline["moments"].as_array().unwrap().iter();
    moments.any(|moment| moment["name"] == "end_durable")
}

fn is_acked(timeline: &Value) -> bool {
    timeline["devices_acked"] == 1
}

/// All of a phase, in milliseconds.
fn phase(timeline: &Value, name: &str) -> f64 {
    let phases = timeline["phases"].as_array().unwrap();
    let found = phases.iter().find(|phase| phase["name"] == name);
    found.map_or(0.0, |phase| phase["ms"].as_f64().unwrap())
}

fn moment(timeline: &Value, name: &str) -> f64 {
    let moments = timeline["moments"].as_array().unwrap();
    let found = moments.iter().find(|moment| moment["name"] == name);
    let found = found.unwrap_or_else(|| panic!("no {name}: {timeline:#}"));
    found["at_ms"].as_f64().unwrap()
}

fn assert_in_order(timeline: &Value, names: &[&str]) {
    let times: Vec<f64> = names.iter().map(|name| moment(timeline, name)).collect();
    assert!(times.is_sorted(), "{names:?} at {times:?}");
}

#[tokio::test]
async fn a_slow_model_is_named_with_its_retries() {
    let kronos = kronos_with(400.0, &[&ROOT[..], &[("GEMINI_BACKOFF", "5ms")]].concat()).await;
    let admin = Admin::of(&kronos).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client
        .ask(&session, "m_1", "[[503x2]] [[slow-first-byte 1500]] [[tokens 40]] a")
        .await;
    answer_pings(&mut client).await;
    let timeline = admin.only("its end was read", is_acked).await;
    assert_eq!(timeline["turn"]["outcome"], "finished", "{timeline:#}");
    assert_eq!(timeline["turn"]["largest"], "request", "{timeline:#}");
    assert!(phase(&timeline, "request") >= 1500.0, "{timeline:#}");
    assert_eq!((&timeline["attempts"], &timeline["retries"]), (&json!(3), &json!(2)));
    assert!(timeline["explained"].as_f64().unwrap() > 0.5, "{timeline:#}");
    assert!(timeline["turn"]["first_token_ms"].as_f64().unwrap() >= 1500.0);
    assert!(timeline["deltas"].as_u64().unwrap() > 0 && timeline["tokens"]["output"].as_u64().unwrap() > 0);
    for name in ["mailbox", "decide", "commit", "write", "permit", "upstream", "parse"] {
        assert!(
            timeline["phases"].to_string().contains(&format!("\"{name}\"")),
            "{name}: {timeline:#}"
        );
    }
    assert_in_order(
        &timeline,
        &["request", "first_byte", "first_token", "first_token_written"],
    );
    assert_in_order(&timeline, &["last_token", "end", "end_durable", "end_written", "acked"]);
    assert_eq!(kronos.series("kronos_turns_recorded").await, 1);
    client.finish().await;
}

#[tokio::test]
async fn a_slow_tool_is_named() {
    let agent = agent_with(&ROOT).await;
    agent.composio.connect("ann", "github").unwrap();
    agent.composio.script(vec![
        ComposioScript::fault("slow 1500").on("GITHUB_LIST_REPOSITORY_ISSUES"),
    ]);
    let admin = Admin::of(&agent.kronos).await;
    let mut device = Device::new(&agent, "ann").await;
    let text = r#"[[call GITHUB_LIST_REPOSITORY_ISSUES {"owner":"acme","repo":"shop"}]] please"#;
    device.say("m_1", text).await;
    let during = admin.only("the call is shown while it runs", |timeline| {
        timeline["calls"].as_array().is_some_and(|calls| !calls.is_empty())
    });
    let (end, _) = tokio::join!(device.finished(), during);
    assert_eq!(end["type"], "RUN_FINISHED", "{end}");
    let timeline = admin
        .only("it is over", |timeline| timeline["turn"]["outcome"] == "finished")
        .await;
    assert_eq!(timeline["turn"]["largest"], "tools", "{timeline:#}");
    assert!(phase(&timeline, "tools") >= 1500.0, "{timeline:#}");
    let call = &timeline["calls"][0];
    assert_eq!(
        (&call["tool"], &call["outcome"]),
        (&json!("GITHUB_LIST_REPOSITORY_ISSUES"), &json!("done"))
    );
    assert!(call["ended_ms"].as_f64().unwrap() - call["began_ms"].as_f64().unwrap() >= 1500.0);
    assert_eq!(timeline["generations"], 2);
}

#[tokio::test]
async fn a_reader_that_stalls_is_named() {
    let kronos = kronos_with(0.0, &[&ROOT[..], &[("UNREAD_BYTES", "16KiB")]].concat()).await;
    let admin = Admin::of(&kronos).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.send(&session, "m_1", "[[tokens 8000]] a", SendMode::Queue).await;
    // Nobody reads, and no ping is answered, for longer than everything else took.
    let ended = admin.only("its end is durable", is_durable).await;
    assert_eq!(ended["devices"], 0, "the end cannot be written: {ended:#}");
    let stalled = ended["turn"]["wall_ms"].as_f64().unwrap() + 300.0;
    tokio::time::sleep(Duration::from_secs_f64(stalled / 1000.0)).await;
    client.until_running(&session).await;
    client.until_idle(&session).await;
    answer_pings(&mut client).await;
    let timeline = admin.only("its end was read", is_acked).await;
    assert_eq!(timeline["turn"]["largest"], "final_write", "{timeline:#}");
    assert!(phase(&timeline, "final_write") >= stalled, "{timeline:#}");
    client.finish().await;
}

#[tokio::test]
async fn the_oldest_run_goes_first_and_none_is_held_when_it_is_off() {
    let kronos = kronos_with(0.0, &[&ROOT[..], &[("RECORDER_TURNS", "2")]].concat()).await;
    let admin = Admin::of(&kronos).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    let mut first = Vec::new();
    for (n, held) in [(1, 1), (2, 2), (3, 2)] {
        client.ask(&session, &format!("m_{n}"), "[[tokens 5]] a").await;
        let runs = admin.runs().await;
        assert_eq!(runs.len(), held, "{n}");
        if n == 1 {
            first = runs;
        }
    }
    assert_eq!(kronos.series("kronos_turns_recorded").await, 2);
    admin.get(&format!("turns/{}/timeline", first[0])).await.expect(404);
    client.finish().await;
    let off = kronos_with(0.0, &[&ROOT[..], &[("RECORDER_TURNS", "0")]].concat()).await;
    let mut client = off.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "[[tokens 5]] a").await;
    assert!(Admin::of(&off).await.runs().await.is_empty());
    client.finish().await;
}

#[tokio::test]
async fn the_command_line_shows_the_slowest_turns_and_where_the_time_of_one_went() {
    let kronos = kronos_with(0.0, &ROOT).await;
    let admin = Admin::of(&kronos).await;
    let mut client = kronos.client("ann").await;
    let session = client.attach_new().await;
    client.ask(&session, "m_1", "[[tokens 5]] a").await;
    client
        .ask(&session, "m_2", "[[slow-first-byte 1500]] [[tokens 5]] a")
        .await;
    let url = kronos.server.http_url();
    let ask = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kronos"));
        command.args(arguments).args(["--url", &url, "--token", &admin.token]);
        async move {
            let output = tokio::task::spawn_blocking(move || command.output())
                .await
                .unwrap()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            String::from_utf8(output.stdout).unwrap()
        }
    };
    for sort in ["duration", "first_token"] {
        let json = ask(&["turns", "slow", "--sort", sort, "--limit", "1", "--json"]).await;
        let slow: Value = serde_json::from_str(&json).unwrap();
        let run = slow["items"][0]["run"].as_str().unwrap();
        assert_eq!(
            (slow["items"].as_array().unwrap().len(), &slow["recorded"]),
            (1, &json!(2))
        );
        let shown = ask(&["turns", "show", run]).await;
        assert!(
            shown.contains(run) && shown.contains("request") && shown.contains("end_durable"),
            "{shown}"
        );
        assert!(
            shown
                .lines()
                .any(|line| line.starts_with("outcome") && line.contains("finished")),
            "{shown}"
        );
    }
    let table = ask(&["turns", "slow"]).await;
    assert_eq!(table.lines().count(), 3, "{table}");
    client.finish().await;
}
