//! The slow background probe: it asks what traffic has not told about lately, and leaves the answer for who asks for health.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use actix_web::web;
use bytes::Bytes;
use futures_util::FutureExt as _;
use kronos_actors::{
    composio::Probed as ComposioProbed,
    gemini::{GeminiProbe, Probed as GeminiProbed},
    metrics as names,
    store::{DocumentWrite, Expect, Request},
};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Outcome;
use crate::{config::Config, edge::EdgeState};

/// Longest wait for any one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the store is asked for, and asked to keep when nothing else was written meanwhile.
const PROBE: (&str, &str) = ("health", "probe");

/// Asks, again and again.
pub(crate) struct Prober {
    interval: Duration,
}

impl Prober {
    /// Reads what is to be asked; `None` when nothing is.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let interval = config.server.health_probe_interval;
        (!interval.is_zero()).then_some(Self { interval })
    }

    /// Asks at once and in each interval, for ever.
    pub(crate) async fn run(self, state: web::Data<EdgeState>) {
        let gemini = state.wiring.gemini_probe();
        let mut tick = interval(self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut commits = None;
        loop {
            tick.tick().await;
            let round = async {
                tokio::join!(
                    database(&state, &mut commits),
                    ask_gemini(gemini.as_ref(), self.interval),
                    ask_composio(&state, self.interval),
                )
            };
            if AssertUnwindSafe(round).catch_unwind().await.is_err() {
                tracing::error!("a health probe panicked");
            }
        }
    }
}

/// Reads something, and writes something when nobody did since the last time.
async fn database(state: &EdgeState, commits: &mut Option<u64>) {
    let store = &state.wiring.store;
    let begun = state.clock.instant();
    let so_far = store.stats().commits;
    let idle = commits.is_none_or(|before| before == so_far);
    let ask = async {
        store.document(PROBE.0, PROBE.1).await?;
        if idle {
            store.commit(write(state)).await?;
        }
        Ok::<_, kronos_actors::store::StoreError>(())
    };
    let error = match timeout(PATIENCE, ask).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::error!(%error, "the store does not answer a probe");
            Some("the store failed")
        }
        Err(_elapsed) => {
            tracing::error!("the store does not answer a probe in time");
            Some("the store does not answer in time")
        }
    };
    *commits = Some(store.stats().commits);
    state.health.probed().database = Some(outcome(state, begun, error));
    count("database", error.is_none());
}

fn write(state: &EdgeState) -> Request {
    let document = DocumentWrite {
        family: PROBE.0,
        key: PROBE.1.to_owned(),
        value: Some(Bytes::from(state.clock.now_ms().to_string())),
        expect: Expect::Any,
    };
    Request {
        documents: vec![document],
        ..Request::default()
    }
}

async fn ask_gemini(probe: Option<&GeminiProbe>, quiet: Duration) {
    let Some(probe) = probe else { return };
    match probe.run(quiet).await {
        GeminiProbed::NotNeeded => {}
        GeminiProbed::Answered => count("gemini", true),
        GeminiProbed::Failed => count("gemini", false),
    }
}

async fn ask_composio(state: &EdgeState, quiet: Duration) {
    match state.wiring.composio.probe(quiet).await {
        ComposioProbed::NotNeeded => {}
        ComposioProbed::Answered => count("composio", true),
        ComposioProbed::Failed => count("composio", false),
    }
}

fn outcome(state: &EdgeState, begun: Instant, error: Option<&'static str>) -> Outcome {
    let took = state.clock.instant().saturating_duration_since(begun);
    Outcome {
        at_ms: state.clock.now_ms(),
        latency_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        error,
    }
}

fn count(service: &'static str, good: bool) {
    let result = if good { "ok" } else { "failed" };
    metrics::counter!(names::PROBES, "service" => service, "result" => result).increment(1);
}
