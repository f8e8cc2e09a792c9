//! Who runs, who waits, who gives way: the permits of the process as many users with many conversations meet them.

use std::time::Duration;

use kronos_protocol::{RunId, SendMode, ServerFrame, SessionId};
use kronos_sim::RecordedRequest;
use kronos_testkit::{WsClient, eventually, eventually_now};
use serde_json::json;

use crate::{
    faults::Turn,
    harness::{Kronos, kronos_with},
};

const LIMIT: Duration = Duration::from_secs(20);

/// Holds its permit until it is cancelled.
const HOLD: &str = "[[stall;after=0]] hold";

/// Generations that hold a permit, and that wait for one.
async fn permits(kronos: &Kronos) -> (u64, u64) {
    let health = kronos.server.get("/api/v1/health/gemini", &[]).await.expect(200);
    (health["running"].as_u64().unwrap(), health["waiting"].as_u64().unwrap())
}

async fn until_permits(kronos: &Kronos, running: u64, waiting: u64) {
    let what = format!("{running} run and {waiting} wait");
    eventually(LIMIT, &what, || async {
        let now = permits(kronos).await;
        if now == (running, waiting) { Ok(()) } else { Err(now) }
    })
    .await;
}

/// Says something in a session of its own.
async fn begin(client: &mut WsClient, text: &str) -> (SessionId, RunId) {
    let session = client.attach_new().await;
    let sent = client.send(&session, "m_1", text, SendMode::Queue).await;
    (session, sent.run.expect("the run begins at once"))
}

/// How often a bound has refused something.
async fn refusals(kronos: &Kronos, bound: &str) -> u64 {
    let metrics = kronos.server.get("/metrics", &[]).await;
    let series = format!("kronos_refusals_total{{bound=\"{bound}\"}} ");
    metrics
        .text()
        .lines()
        .find_map(|line| line.strip_prefix(&series)?.parse().ok())
        .unwrap_or(0)
}

fn is_of(request: &RecordedRequest, user: &str) -> bool {
    request.body["contents"].to_string().contains(user)
}

#[tokio::test]
async fn a_user_with_two_hundred_turns_does_not_make_ten_others_wait() {
    const HOG_CLIENTS: usize = 4;
    const TURNS_OF_EACH: usize = 48;
    const AT_ONCE: u64 = 8;
    // The bound of a user is out of the way: it is the order of the queue that is fair.
    let env = [
        ("GEMINI_MAX_CONCURRENT", "8"),
        ("GEMINI_MAX_CONCURRENT_PER_USER", "1000"),
    ];
    let kronos = kronos_with(0.0, &env).await;
    let mut holder = kronos.client("hog").await;
    let mut held = Vec::new();
    for _ in 0..AT_ONCE {
        held.push(begin(&mut holder, HOLD).await.0);
    }
    until_permits(&kronos, AT_ONCE, 0).await;
    let hogs = (0..HOG_CLIENTS).map(|_| async {
        let mut client = kronos.client("hog").await;
        let mut sessions = Vec::new();
        for _ in 0..TURNS_OF_EACH {
            sessions.push(begin(&mut client, "[[tokens 3]] hog").await.0);
        }
        (client, sessions)
    });
    let hogs = futures_util::future::join_all(hogs).await;
    let queued = (HOG_CLIENTS * TURNS_OF_EACH) as u64;
    until_permits(&kronos, AT_ONCE, queued).await;
    let mut others = Vec::new();
    for number in 0..10 {
        let mut client = kronos.client(&format!("user-{number}")).await;
        let (session, _) = begin(&mut client, &format!("[[tokens 3]] other {number}")).await;
        others.push((client, session));
    }
    until_permits(&kronos, AT_ONCE, queued + 10).await;

    kronos.gemini.clear();
    for session in &held {
        holder.cancel(session).await.expect("cancelled");
    }
    for (client, session) in &mut others {
        client.until_idle(session).await;
    }
    for (mut client, sessions) in hogs {
        for session in sessions {
            client.until_idle(&session).await;
            assert!(!client.transcript(&session).last_answer().is_empty());
        }
    }
    let order = kronos.gemini.requests();
    assert_eq!(order.len() as u64, queued + 10, "everybody is answered, each once");
    let before: Vec<usize> = (0..10)
        .map(|number| {
            let name = format!("other {number}");
            let at = order.iter().position(|request| is_of(request, &name)).expect("asked");
            order[..at].iter().filter(|request| is_of(request, "hog")).count()
        })
        .collect();
    println!("turns of the hog before each of the ten: {before:?}");
    assert!(before.iter().all(|turns| *turns <= 4), "{before:?}");
    until_permits(&kronos, 0, 0).await;
}

#[tokio::test]
async fn a_user_who_has_filled_the_queue_gives_way_to_another() {
    let env = [("GEMINI_MAX_CONCURRENT", "1"), ("GEMINI_MAX_WAITING", "3")];
    let kronos = kronos_with(0.0, &env).await;
    let mut hog = kronos.client("hog").await;
    let (held, _) = begin(&mut hog, HOLD).await;
    until_permits(&kronos, 1, 0).await;
    let mut waiting = Vec::new();
    for number in 1..=3 {
        waiting.push(begin(&mut hog, "[[tokens 3]] hog").await);
        until_permits(&kronos, 1, number).await;
    }
    let refused = begin(&mut hog, "one too many").await;
    let turn = Turn::follow(&mut hog, &refused.1).await;
    assert_overloaded(&turn);
    assert_eq!(refusals(&kronos, "gemini_waiting").await, 1);

    let mut other = kronos.client("other").await;
    let (session, _) = begin(&mut other, "What is the capital of Italy?").await;
    let (_, newest) = waiting.pop().unwrap();
    let turn = Turn::follow(&mut hog, &newest).await;
    assert_overloaded(&turn);
    until_permits(&kronos, 1, 3).await;
    assert_eq!(refusals(&kronos, "gemini_waiting").await, 2);

    hog.cancel(&held).await.expect("cancelled");
    other.until_idle(&session).await;
    assert!(other.transcript(&session).last_answer().contains("Rome"));
    for (session, _) in waiting {
        hog.until_idle(&session).await;
        assert!(
            !hog.transcript(&session).last_answer().is_empty(),
            "the others kept their places"
        );
    }
    until_permits(&kronos, 0, 0).await;
}

fn assert_overloaded(turn: &Turn) {
    assert_eq!(turn.code, "overloaded", "{turn:?}");
    assert_eq!(turn.about["reason"], "gemini_waiting");
    assert_eq!(
        (&turn.about["retryable"], &turn.about["attempts"]),
        (&json!(true), &json!(0))
    );
    assert!(turn.about["afterMs"].as_u64() >= Some(1000), "{turn:?}");
}

#[tokio::test]
async fn below_and_at_the_bound_runs_run_and_one_more_waits_and_is_told_so() {
    for (name, users) in [
        ("GEMINI_MAX_CONCURRENT", ["a", "b", "c"]),
        ("GEMINI_MAX_CONCURRENT_PER_USER", ["a", "a", "a"]),
    ] {
        let kronos = kronos_with(0.0, &[(name, "2")]).await;
        let mut held = Vec::new();
        for (user, (running, waiting)) in users.into_iter().zip([(1, 0), (2, 0), (2, 1)]) {
            let mut client = kronos.client(user).await;
            let (session, run) = begin(&mut client, HOLD).await;
            until_permits(&kronos, running, waiting).await;
            held.push((client, session, run));
        }
        let (waiter, session, run) = held.last_mut().unwrap();
        let mut turn = Turn::default();
        while turn.notices.is_empty() {
            let ServerFrame::Events(frame) = waiter.next_frame(LIMIT).await else {
                continue;
            };
            frame.events.into_iter().for_each(|entry| _ = turn.take(entry.event));
        }
        assert_eq!(turn.notices[0]["code"], "waiting", "{name}");
        assert!(
            turn.notices[0]["message"]
                .as_str()
                .is_some_and(|text| text.ends_with('.'))
        );
        waiter.cancel(&*session).await.expect("cancelled");
        assert!(Turn::follow(waiter, run).await.cancelled);
        until_permits(&kronos, 2, 0).await;
        eventually_now(LIMIT, "who waited never asked the model", || {
            kronos.gemini.requests().len() == 2
        })
        .await;
        assert_eq!(refusals(&kronos, "gemini_waiting").await, 0);
    }
}
