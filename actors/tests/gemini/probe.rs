//! The probe: it asks only when nobody told, takes nothing from requests, and its result is the service's health.

use std::time::Duration;

use kronos_actors::gemini::{GeminiProbe, GeminiStatus, Probed};
use kronos_actors::upstream::CircuitState;

use crate::harness::{Bench, finished};

const HOUR: Duration = Duration::from_secs(3600);

#[actix::test]
async fn traffic_makes_it_unnecessary() {
    let bench = Bench::start(|_| {});
    let probe = GeminiProbe::new(&bench.shared).unwrap().expect("something to ask");
    assert_eq!(probe.run(HOUR).await, Probed::Answered, "nothing was ever heard");
    assert_eq!(probe.run(HOUR).await, Probed::NotNeeded, "the last probe has told");
    assert_eq!(probe.run(Duration::ZERO).await, Probed::Answered);
    finished(&bench.events_of("hi").await);
    assert_eq!(probe.run(HOUR).await, Probed::NotNeeded);
    let asked: Vec<String> = bench.sim.requests().into_iter().map(|request| request.method).collect();
    assert_eq!(asked, ["GET", "GET", "POST"]);
    let health = bench.shared.health();
    assert!(health.last_success_ms.is_some() && health.latency_ms.is_some());
}

#[actix::test]
async fn its_failures_are_health_and_no_circuit() {
    let bench = Bench::start(|config| config.breaker_failures = 1);
    let probe = GeminiProbe::new(&bench.shared).unwrap().expect("something to ask");
    bench
        .sim
        .set_config(|config| config.invalid_keys = vec!["AIza".to_owned()]);
    assert_eq!(probe.run(HOUR).await, Probed::Failed);
    let health = bench.shared.health();
    assert_eq!(
        (health.status, health.circuit),
        (GeminiStatus::Unhealthy, CircuitState::Closed)
    );
    assert_eq!(
        health.last_failure.map(|(_, code)| code.as_str()),
        Some("upstream_auth")
    );
    bench.sim.set_config(|config| config.invalid_keys = Vec::new());
    finished(&bench.events_of("hi").await);
    assert_eq!(
        bench.shared.health().status,
        GeminiStatus::Healthy,
        "requests know better"
    );
}

#[actix::test]
async fn a_model_that_does_not_exist_shows() {
    let bench = Bench::start(|config| config.model = "gemini-never".to_owned());
    let probe = GeminiProbe::new(&bench.shared).unwrap().expect("something to ask");
    assert_eq!(probe.run(HOUR).await, Probed::Failed);
    let health = bench.shared.health();
    assert_eq!(health.status, GeminiStatus::Unhealthy);
    assert!(health.error.is_some_and(|text| text.contains("does not exist")));
}

#[actix::test]
async fn there_is_nothing_to_ask_without_a_key_or_when_simulated() {
    for simulated in [false, true] {
        let bench = Bench::start(|config| {
            config.api_key = None;
            config.simulated = simulated;
        });
        assert!(GeminiProbe::new(&bench.shared).unwrap().is_none());
    }
}
