//! Bounds: permits, queue, circuit, deadline, and the backpressure of a slow session.

use std::sync::Arc;
use std::time::Duration;

use kronos_actors::clock::Clock;
use kronos_actors::gemini::{GeminiStatus, GenerateRequest};
use kronos_actors::upstream::CircuitState;
use kronos_sim::{Outcome, ScriptedEnd, ScriptedReply};
use tokio::sync::Semaphore;

use crate::harness::{Asked, Bench, eventually, failed, finished, request, retries, text};

fn stalled() -> ScriptedReply {
    ScriptedReply::text(["begun"]).ending(ScriptedEnd::Stall)
}

async fn waiting(bench: &Bench, number: usize) {
    eventually(|| bench.shared.health().waiting == number).await;
}

#[actix::test]
async fn the_queue_takes_its_bound_and_refuses_one_more() {
    let bench = Bench::start(|config| {
        config.max_concurrent = 1;
        config.max_waiting = 2;
    });
    bench.sim.script(vec![stalled()]);
    let running = bench.ask("hi");
    running.shown().await;
    let first = bench.ask("hi");
    waiting(&bench, 1).await;
    let second = bench.ask("hi");
    waiting(&bench, 2).await;
    let events = bench.events_of("hi").await;
    let refused = failed(&events);
    assert_eq!(
        (refused.code.as_str(), refused.retryable, refused.attempts),
        ("overloaded", true, 0)
    );
    assert!(refused.after_ms.is_some_and(|ms| ms >= 1000));
    drop(second.handle);
    waiting(&bench, 1).await;
    let third = bench.ask("hi");
    waiting(&bench, 2).await;
    drop(running.handle);
    finished(&first.end().await);
    finished(&third.end().await);
    assert_eq!((bench.shared.health().running, bench.shared.health().waiting), (0, 0));
}

#[actix::test]
async fn a_user_with_a_hundred_waiting_does_not_starve_another() {
    let bench = Bench::start(|config| config.max_concurrent = 1);
    bench.sim.script(vec![stalled()]);
    let running = bench.ask_as("a", "hi");
    running.shown().await;
    let of_a: Vec<Asked> = (0..100).map(|_| bench.ask_as("a", "hi")).collect();
    waiting(&bench, 100).await;
    let of_b = bench.ask_as("b", "hi");
    waiting(&bench, 101).await;
    drop(running.handle);
    finished(&of_b.end().await);
    let ended = of_a
        .iter()
        .filter(|asked| asked.events.all().last().is_some_and(crate::harness::is_end))
        .count();
    assert!(ended <= 3, "{ended} of a's ended before b's");
    for asked in of_a {
        finished(&asked.end().await);
    }
}

#[actix::test]
async fn one_user_runs_no_more_than_the_bound_of_a_user() {
    let bench = Bench::start(|config| config.max_concurrent_per_user = 2);
    bench.sim.script(vec![stalled(), stalled()]);
    let running = [bench.ask_as("a", "hi"), bench.ask_as("a", "hi")];
    for asked in &running {
        asked.shown().await;
    }
    let third = bench.ask_as("a", "hi");
    waiting(&bench, 1).await;
    finished(&bench.ask_as("b", "hi").end().await);
    assert_eq!(bench.shared.health().waiting, 1);
    drop(running);
    finished(&third.end().await);
}

#[actix::test]
async fn the_circuit_opens_refuses_and_recovers() {
    let bench = Bench::start(|config| {
        config.max_attempts = 1;
        config.breaker_failures = 3;
        config.breaker_open = Duration::from_millis(100);
    });
    for _ in 0..3 {
        assert_eq!(failed(&bench.events_of("[[503]]").await).upstream_status, Some(503));
    }
    let health = bench.shared.health();
    assert_eq!(
        (health.circuit, health.status),
        (CircuitState::Open, GeminiStatus::Unhealthy)
    );
    let events = bench.events_of("hi").await;
    let refused = failed(&events);
    assert_eq!(
        (refused.code.as_str(), refused.attempts, refused.retryable),
        ("upstream_unavailable", 0, true)
    );
    assert!(refused.after_ms.is_some_and(|ms| ms <= 100));
    assert_eq!(bench.sim.requests().len(), 3, "no request was made");
    let recovered = async {
        while failed_or_text(&bench, "hi").await.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), recovered).await.unwrap();
    assert_eq!(bench.shared.health().circuit, CircuitState::Closed);
    assert_eq!(bench.shared.health().status, GeminiStatus::Healthy);
    assert_eq!(bench.sim.requests().len(), 4);
}

async fn failed_or_text(bench: &Bench, ask: &str) -> Option<String> {
    let events = bench.events_of(ask).await;
    Some(text(&events)).filter(|text| !text.is_empty())
}

#[actix::test]
async fn failures_that_are_the_requests_own_do_not_open_the_circuit() {
    let bench = Bench::start(|config| {
        config.max_attempts = 1;
        config.breaker_failures = 1;
    });
    for words in ["400", "404", "429", "blocked", "empty", "safety"] {
        failed(&bench.events_of(&format!("[[{words}]]")).await);
        assert_eq!(bench.shared.health().circuit, CircuitState::Closed, "{words}");
    }
}

#[actix::test]
async fn a_deadline_ends_waiting_streaming_and_pausing() {
    let within = |ms| GenerateRequest {
        deadline: Clock::default().instant() + Duration::from_millis(ms),
        ..request("hi")
    };
    let bench = Bench::start(|config| config.max_concurrent = 1);
    bench.sim.script(vec![stalled()]);
    let running = bench.ask_with(within(500), None);
    running.shown().await;
    let events = bench.ask_with(within(50), None).end().await;
    assert_eq!(
        (failed(&events).code.as_str(), failed(&events).attempts),
        ("deadline", 0)
    );
    let events = running.end().await;
    assert_eq!(
        (failed(&events).code.as_str(), text(&events).as_str()),
        ("deadline", "begun")
    );
    assert!(failed(&events).usage.total > 0);
    bench
        .outcome(1, |outcome| matches!(outcome, Outcome::ClientGone { .. }))
        .await;
    let past = GenerateRequest {
        deadline: Clock::default().instant(),
        ..request("hi")
    };
    assert_eq!(
        failed(&bench.ask_with(past, None).end().await).code.as_str(),
        "deadline"
    );
    assert_eq!(bench.sim.requests().len(), 1);
    bench.sim.script(vec![ScriptedReply::fault("429;retry_after=1.5")]);
    let events = bench.ask_with(within(1000), None).end().await;
    assert_eq!(
        failed(&events).code.as_str(),
        "upstream_rate_limited",
        "a pause beyond it is not begun"
    );
    assert!(retries(&events).is_empty());
}

#[actix::test]
async fn a_session_that_takes_nothing_stops_the_reading() {
    let bench = Bench::start(|config| config.max_tokens = 65_536);
    bench.sim.set_config(|config| config.tokens_per_chunk = 1);
    let gate = Arc::new(Semaphore::new(3));
    let asked = bench.ask_with(request("[[tokens 60000]]"), Some(Arc::clone(&gate)));
    asked.events.until(|events| events.len() == 3).await;
    let sent = || bench.sim.requests()[0].chunks_sent;
    // Nothing moves any more: what the kernel and the connection hold is full.
    let mut last = usize::MAX;
    while sent() != last {
        last = sent();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(
        matches!(bench.sim.requests()[0].outcome, Outcome::InFlight),
        "{last} chunks"
    );
    assert_eq!(asked.events.all().len(), 3);
    gate.add_permits(3);
    let events = asked.events.until(|events| events.len() == 6).await;
    let longest = events.iter().map(|event| text(std::slice::from_ref(event)).len()).max();
    assert!(
        longest.is_some_and(|bytes| (1024..10 * 1024).contains(&bytes)),
        "what came meanwhile is one event, and a bounded one: {longest:?}"
    );
    drop(asked.handle);
    bench
        .outcome(1, |outcome| matches!(outcome, Outcome::ClientGone { .. }))
        .await;
}

#[actix::test]
async fn attempts_after_the_first_are_paid_and_without_a_token_a_failure_is_final() {
    let bench = Bench::start(|config| {
        config.retry_burst = 2;
        config.retry_ratio = 0.5;
        config.breaker_failures = 1000;
    });
    for attempts in [3, 1] {
        let events = bench.events_of("[[503]]").await;
        let failed = failed(&events);
        assert_eq!(
            (failed.code.as_str(), failed.attempts),
            ("upstream_unavailable", attempts)
        );
        assert_eq!((failed.retryable, failed.upstream_status), (true, Some(503)));
        assert_eq!(failed.reason.as_deref(), Some("gemini_retry_budget"));
    }
    for _ in 0..2 {
        finished(&bench.events_of("hi").await);
    }
    assert_eq!(bench.shared.health().retry_budget, 1, "two successes earn one");
    finished(&bench.events_of("[[503-once]] hi").await);
    bench.sim.script(vec![ScriptedReply::fault("429;retry_after=1.5")]);
    let events = bench.events_of("hi").await;
    assert_eq!(failed(&events).attempts, 1);
    assert_eq!(
        failed(&events).after_ms,
        Some(1500),
        "when to come back is told all the same"
    );
}

#[actix::test]
async fn an_open_circuit_costs_no_attempt_of_the_budget() {
    let bench = Bench::start(|config| {
        config.retry_burst = 5;
        config.breaker_failures = 2;
        config.breaker_open = Duration::from_secs(60);
    });
    let events = bench.events_of("[[503]]").await;
    assert_eq!(failed(&events).attempts, 2, "nobody waits for an open circuit");
    assert!(failed(&events).after_ms.is_some_and(|ms| ms > 50_000), "{events:?}");
    assert_eq!(retries(&events).len(), 1, "no attempt is promised that is not made");
    assert_eq!(bench.shared.health().retry_budget, 4);
    assert_eq!(failed(&bench.events_of("hi").await).attempts, 0);
    assert_eq!(bench.shared.health().retry_budget, 4);
}

#[actix::test]
async fn a_circuit_that_opens_during_a_pause_gives_the_token_back() {
    let bench = Bench::start(|config| {
        config.retry_burst = 5;
        config.breaker_failures = 1;
        config.breaker_open = Duration::from_secs(60);
    });
    bench.sim.script(vec![ScriptedReply::fault("429;retry_after=0.5")]);
    let pausing = bench.ask("hi");
    pausing.retrying().await;
    assert_eq!(bench.shared.health().retry_budget, 4, "set aside");
    assert_eq!(failed(&bench.events_of("[[503]]").await).attempts, 1);
    let events = pausing.end().await;
    assert_eq!(
        (failed(&events).code.as_str(), failed(&events).attempts),
        ("upstream_unavailable", 1)
    );
    assert_eq!(bench.shared.health().retry_budget, 5);
    assert_eq!(bench.sim.requests().len(), 2);
}
