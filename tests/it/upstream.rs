//! The model in trouble, through the whole server: what it is spared, how it recovers, and how fast it is let go.

use std::time::Duration;

use kronos_protocol::{RunId, SendMode, ServerFrame, SessionId};
use kronos_sim::{GeminiSim, Outcome, RecordedRequest, SimConfig};
use kronos_testkit::{KronosProc, WsClient, eventually, eventually_now};
use serde_json::Value;
use time::OffsetDateTime;

use crate::{
    faults::Turn,
    harness::{Kronos, kronos_with},
};

const LIMIT: Duration = Duration::from_secs(20);

async fn health(server: &KronosProc) -> Value {
    server.get("/api/v1/health/gemini", &[]).await.expect(200)
}

/// Says something in each of `sessions` new sessions at once, and follows all runs to their ends.
async fn turns_at_once(client: &mut WsClient, sessions: &[SessionId], id: &str, text: &str) -> Vec<Turn> {
    let mut runs = Vec::new();
    for session in sessions {
        let sent = client.send(session, id, text, SendMode::Queue).await;
        runs.push(sent.run.expect("the run begins at once"));
    }
    let mut turns: Vec<Option<Turn>> = runs.iter().map(|_| None).collect();
    let mut open: Vec<Turn> = runs.iter().map(|_| Turn::default()).collect();
    while turns.iter().any(Option::is_none) {
        let ServerFrame::Events(frame) = client.next_frame(LIMIT).await else {
            continue;
        };
        for entry in frame.events {
            let at = runs.iter().position(|run| Some(run) == entry.run.as_ref());
            if let Some(at) = at
                && open[at].take(entry.event)
            {
                turns[at] = Some(std::mem::take(&mut open[at]));
            }
        }
    }
    turns.into_iter().flatten().collect()
}

async fn sessions(client: &mut WsClient, number: usize) -> Vec<SessionId> {
    let mut sessions = Vec::new();
    for _ in 0..number {
        sessions.push(client.attach_new().await);
    }
    sessions
}

async fn turn(client: &mut WsClient, session: &SessionId, id: &str, text: &str) -> Turn {
    let sent = client.send(session, id, text, SendMode::Queue).await;
    Turn::follow(client, &sent.run.expect("the run begins at once")).await
}

fn attempts(turn: &Turn) -> u64 {
    turn.about["attempts"].as_u64().unwrap_or_default()
}

/// The value of a series of `/metrics`.
async fn metric(server: &KronosProc, series: &str) -> f64 {
    let metrics = server.get("/metrics", &[]).await;
    let value = metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    value.unwrap_or_else(|| panic!("no {series}"))
}

#[tokio::test]
async fn an_outage_is_not_multiplied_by_those_who_try_again_and_recovers_by_itself() {
    const SESSIONS: usize = 30;
    const BURST: usize = 5;
    let env = [
        ("GEMINI_RETRY_BURST", "5"),
        ("GEMINI_RETRY_RATIO", "0.2"),
        ("GEMINI_MAX_ATTEMPTS", "4"),
        ("GEMINI_BACKOFF", "5ms"),
        ("GEMINI_BREAKER_FAILURES", "10000"),
        ("GEMINI_MAX_CONCURRENT_PER_USER", "100"),
    ];
    let kronos = kronos_with(0.0, &env).await;
    let mut client = kronos.client("ann").await;
    let sessions = sessions(&mut client, SESSIONS).await;
    kronos.gemini.set_config(|config| {
        config.fault_rate = 1.0;
        config.fault_kinds = vec!["503".to_owned()];
    });
    let failed = turns_at_once(&mut client, &sessions, "m_1", "a").await;
    for turn in &failed {
        assert_eq!(
            (turn.code.as_str(), &turn.about["retryable"]),
            ("upstream_unavailable", &true.into())
        );
        assert_eq!(attempts(turn), turn.retries.len() as u64 + 1, "{turn:?}");
    }
    assert_eq!(kronos.gemini.requests().len(), SESSIONS + BURST);
    let refused = failed
        .iter()
        .filter(|turn| turn.about["reason"] == "gemini_retry_budget");
    let refused = refused.count();
    assert!(refused >= SESSIONS - BURST, "{refused}");
    let series = "kronos_refusals_total{bound=\"gemini_retry_budget\"}";
    assert_eq!(metric(&kronos.server, series).await, refused as f64);
    assert_eq!(metric(&kronos.server, "kronos_gemini_retry_budget").await, 0.0);

    kronos.gemini.set_config(|config| config.fault_rate = 0.0);
    for turn in turns_at_once(&mut client, &sessions[..10], "m_2", "Hello!").await {
        assert!(turn.success, "{turn:?}");
    }
    assert_eq!(
        health(&kronos.server).await["retry_budget"],
        2,
        "ten successes earn two"
    );
    kronos.gemini.clear();
    for (number, session) in sessions[..3].iter().enumerate() {
        // Each of the two that are tried again succeeds and earns a fifth: not enough for the third.
        let turn = turn(&mut client, session, "m_3", &format!("[[503-once]] {number}")).await;
        assert_eq!(turn.success, number < 2, "{turn:?}");
    }
    assert_eq!(kronos.gemini.requests().len(), 5);
}

#[tokio::test]
async fn a_model_that_pushes_back_is_asked_less_at_once_until_it_answers() {
    let env = [
        ("GEMINI_MAX_CONCURRENT", "16"),
        ("GEMINI_MIN_CONCURRENT", "4"),
        ("GEMINI_MAX_CONCURRENT_PER_USER", "100"),
        ("GEMINI_MAX_ATTEMPTS", "1"),
    ];
    let kronos = kronos_with(0.0, &env).await;
    let mut client = kronos.client("ann").await;
    let sessions = sessions(&mut client, 12).await;
    let limit = async |kronos: &Kronos| health(&kronos.server).await["limit"].as_u64().unwrap();
    assert_eq!(limit(&kronos).await, 16);
    kronos.gemini.set_config(|config| {
        config.fault_rate = 1.0;
        config.fault_kinds = vec!["429-bare".to_owned()];
    });
    let mut lowest = 16;
    // A burst is a number within a second; on a slow machine one round may take longer.
    for round in 0..50 {
        turns_at_once(&mut client, &sessions, &format!("m_{round}"), "a").await;
        let now = limit(&kronos).await;
        assert!((4..=lowest).contains(&now), "{now}");
        lowest = now;
        if lowest == 4 {
            break;
        }
    }
    assert_eq!(lowest, 4, "down to the floor and no lower");
    assert_eq!(metric(&kronos.server, "kronos_gemini_concurrency_limit").await, 4.0);
    kronos.gemini.set_config(|config| config.fault_rate = 0.0);
    for turn in turns_at_once(&mut client, &sessions, "m_ok", "Hello!").await {
        assert!(turn.success, "who had to wait is answered: {turn:?}");
    }
    assert_eq!(limit(&kronos).await, 16, "one more for each of twelve successes");
}

#[tokio::test]
async fn a_model_that_is_gone_is_left_alone_until_one_call_has_found_it_again() {
    let env = [
        ("GEMINI_BREAKER_FAILURES", "3"),
        ("GEMINI_BREAKER_OPEN", "1s"),
        ("GEMINI_MAX_ATTEMPTS", "1"),
    ];
    let Kronos { server, gemini } = kronos_with(0.0, &env).await;
    let mut client = server.connect(kronos_testkit::ConnectOptions::user("ann")).await;
    let session = client.attach_new().await;
    let port = gemini
        .url()
        .rsplit_once(':')
        .and_then(|(_, port)| port.parse().ok())
        .unwrap();
    gemini.stop();
    for number in 1..=3 {
        assert_eq!(health(&server).await["circuit"], "closed");
        let turn = turn(&mut client, &session, &format!("m_{number}"), "Hello!").await;
        assert_eq!((turn.code.as_str(), attempts(&turn)), ("upstream_unavailable", 1));
    }
    let after = health(&server).await;
    assert_eq!(
        (&after["circuit"], &after["status"]),
        (&"open".into(), &"unhealthy".into())
    );

    let gemini = GeminiSim::start(SimConfig {
        port,
        tokens_per_second: 0.0,
        first_token_ms: 0,
        ..SimConfig::default()
    });
    let gemini = gemini.expect("the port is free again");
    gemini.set_config(|config| {
        config.fault_rate = 1.0;
        config.fault_kinds = vec!["503".to_owned()];
    });
    // Refused at once until one may find out; that one fails, and it is refused again.
    let mut said = 3;
    let mut refused = 0;
    for probes in 1..=2 {
        loop {
            said += 1;
            let turn = turn(&mut client, &session, &format!("m_{said}"), "Hello!").await;
            assert_eq!(
                (turn.code.as_str(), turn.retries.len()),
                ("upstream_unavailable", 0),
                "{turn:?}"
            );
            assert_eq!(turn.about["retryable"], true);
            if attempts(&turn) == 1 {
                break;
            }
            refused += 1;
            assert!(turn.about["afterMs"].as_u64().is_some_and(|ms| ms <= 1000), "{turn:?}");
            assert_eq!(gemini.requests().len(), probes - 1, "the model is left alone");
        }
        assert_eq!(gemini.requests().len(), probes);
        assert_ne!(health(&server).await["circuit"], "closed", "the probe failed");
    }
    assert!(refused >= 2, "{refused}");

    gemini.set_config(|config| config.fault_rate = 0.0);
    loop {
        said += 1;
        if turn(&mut client, &session, &format!("m_{said}"), "Hello!")
            .await
            .success
        {
            break;
        }
    }
    assert_eq!(gemini.requests().len(), 3);
    assert_recovered(&server).await;
}

async fn assert_recovered(server: &KronosProc) {
    let after = health(server).await;
    assert_eq!(
        (&after["circuit"], &after["status"]),
        (&"closed".into(), &"healthy".into())
    );
}

#[tokio::test]
async fn while_one_call_finds_out_all_others_are_refused_and_one_that_gives_up_leaves_it_to_the_next() {
    let env = [
        ("GEMINI_BREAKER_FAILURES", "1"),
        ("GEMINI_BREAKER_OPEN", "300ms"),
        ("GEMINI_MAX_ATTEMPTS", "1"),
    ];
    let kronos = kronos_with(0.0, &env).await;
    let mut client = kronos.client("ann").await;
    let (session, other) = (client.attach_new().await, client.attach_new().await);
    assert_eq!(attempts(&turn(&mut client, &session, "m_0", "[[503]] a").await), 1);
    let probe = until_probe(&mut client, &other, &kronos.gemini).await;
    assert_eq!(health(&kronos.server).await["circuit"], "half_open");
    for number in 1..=5 {
        let turn = turn(&mut client, &session, &format!("m_{number}"), "Hello!").await;
        assert_eq!((turn.code.as_str(), attempts(&turn)), ("upstream_unavailable", 0));
    }
    assert_eq!(kronos.gemini.requests().len(), 2);
    client.cancel(&other).await.expect("cancelled");
    assert!(Turn::follow(&mut client, &probe).await.cancelled);
    assert!(turn(&mut client, &session, "m_last", "Hello!").await.success);
    assert_recovered(&kronos.server).await;
}

/// Asks until a call is let through that then hears nothing; returns its run.
async fn until_probe(client: &mut WsClient, session: &SessionId, gemini: &kronos_sim::SimHandle) -> RunId {
    let before = gemini.requests().len();
    for number in 0.. {
        let text = "[[stall;after=0]] probe";
        let sent = client
            .send(session, &format!("p_{number}"), text, SendMode::Queue)
            .await;
        let run = sent.run.expect("the run begins at once");
        let mut turn = Turn::default();
        let ended = loop {
            if gemini.requests().len() > before {
                return run;
            }
            if let Some(ServerFrame::Events(frame)) = client.try_next_frame(Duration::from_millis(20)).await
                && frame.events.into_iter().any(|entry| turn.take(entry.event))
            {
                break turn;
            }
        };
        assert_eq!(attempts(&ended), 0, "{ended:?}");
    }
    unreachable!("an open circuit lets one call through after a while")
}

/// When the simulator saw that the client was gone.
fn gone_at(request: &RecordedRequest) -> Option<OffsetDateTime> {
    match request.outcome {
        Outcome::ClientGone { after_ms, .. } => Some(request.at + Duration::from_millis(after_ms)),
        _ => None,
    }
}

/// Reads on until `reached`.
async fn read_until(client: &mut WsClient, run: &RunId, reached: impl Fn(&Turn) -> bool) -> Turn {
    let mut turn = Turn::default();
    while !reached(&turn) {
        if let ServerFrame::Events(frame) = client.next_frame(LIMIT).await {
            for entry in frame.events {
                if entry.run.as_ref() == Some(run) {
                    assert!(!turn.take(entry.event), "it ended: {turn:?}");
                }
            }
        }
    }
    turn
}

fn percentile(sorted: &[i128], percent: usize) -> i128 {
    sorted[(sorted.len() * percent).div_ceil(100).max(1) - 1]
}

#[tokio::test]
async fn fifty_cancels_close_the_upstream_connection_and_are_acknowledged() {
    /// Far above what it takes: a neighbour may have the machine for a while.
    const AT_MOST: i128 = 5_000_000_000;
    let env = [("GEMINI_MAX_BACKOFF", "60s"), ("GEMINI_RETRY_BURST", "3")];
    let kronos = kronos_with(50.0, &env).await;
    let mut client = kronos.client("ann").await;
    let mut other_device = kronos.client("ann").await;
    let session = client.attach_new().await;
    other_device.attach(&session, None).await;
    let (mut closed, mut acked) = (Vec::new(), Vec::new());
    for number in 0..50 {
        kronos.gemini.clear();
        let (text, in_stream) = match number % 5 {
            0 => ("[[slow-first-byte 60000]] a story", false),
            1 => ("[[429;retry_after=30]] a story", false),
            _ => ("[[tokens 2000]] a story", true),
        };
        let pausing = number % 5 == 1;
        let sent = client
            .send(&session, &format!("m_{number}"), text, SendMode::Queue)
            .await;
        let run = sent.run.expect("the run begins at once");
        eventually_now(LIMIT, "the model was asked", || !kronos.gemini.requests().is_empty()).await;
        if in_stream {
            read_until(&mut client, &run, |turn| !turn.text.is_empty()).await;
        } else if pausing {
            read_until(&mut client, &run, |turn| !turn.retries.is_empty()).await;
        }
        let at = OffsetDateTime::now_utc();
        // Any device may.
        let canceller = if number % 2 == 0 {
            &mut client
        } else {
            &mut other_device
        };
        let cancelled = canceller.cancel(&session).await.expect("cancelled");
        acked.push((OffsetDateTime::now_utc() - at).whole_nanoseconds());
        assert_eq!(cancelled.run.as_ref(), Some(&run));
        assert_eq!(
            cancelled.usage.is_some(),
            in_stream,
            "the tokens used are told: {cancelled:?}"
        );
        assert!(Turn::follow(&mut client, &run).await.cancelled);
        if !pausing {
            let gone = eventually(LIMIT, "the upstream connection is closed", || async {
                kronos.gemini.requests().first().and_then(gone_at)
            });
            closed.push((gone.await - at).whole_nanoseconds().max(0));
        }
        assert_eq!(kronos.gemini.requests().len(), 1, "it is never asked again");
    }
    closed.sort_unstable();
    acked.sort_unstable();
    for (what, times) in [("upstream closed", &closed), ("acknowledged", &acked)] {
        let (p50, p99) = (percentile(times, 50), percentile(times, 99));
        println!(
            "cancel to {what}: p50 {:.1} ms, p99 {:.1} ms, {} times",
            p50 as f64 / 1e6,
            p99 as f64 / 1e6,
            times.len()
        );
        assert!(p99 < AT_MOST, "{what}: {times:?}");
    }
    let budget = health(&kronos.server).await["retry_budget"].clone();
    assert_eq!(budget, 3, "a pause that was cancelled cost no attempt");
    let tokens = metric(&kronos.server, "kronos_gemini_tokens_total{kind=\"answer\"}").await;
    assert!(tokens >= 30.0, "{tokens}");
}
