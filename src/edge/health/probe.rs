//! The slow background probe: it asks what traffic has not told about lately, and leaves the answer for who asks for health.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use actix_web::web;
use bytes::Bytes;
use futures_util::FutureExt as _;
use kronos_actors::{
    gemini::{GeminiProbe, Probed as GeminiProbed},
    http, metrics as names,
    store::{DocumentWrite, Expect, Request},
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Outcome;
use crate::{config::Config, edge::EdgeState};

/// Longest wait for any one answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What the store is asked for, and asked to keep when nothing else was written meanwhile.
const PROBE: (&str, &str) = ("health", "probe");
/// What Composio is asked: the shortest list that a key is needed for. It costs no tool call.
const COMPOSIO_PATH: &str = "/api/v3.1/toolkits?limit=1";

/// Asks, again and again.
pub(crate) struct Prober {
    interval: Duration,
    composio: Option<ComposioProbe>,
}

struct ComposioProbe {
    key: SecretString,
    base_url: String,
}

impl Prober {
    /// Reads what is to be asked; `None` when nothing is.
    pub(crate) fn new(config: &Config) -> Option<Self> {
        let interval = config.server.health_probe_interval;
        let key = config.composio.api_key.clone();
        (!interval.is_zero()).then(|| Self {
            interval,
            composio: key.map(|key| ComposioProbe {
                key,
                base_url: config.composio.base_url.clone(),
            }),
        })
    }

    /// Asks at once and in each interval, for ever.
    pub(crate) async fn run(self, state: web::Data<EdgeState>) {
        let gemini = state.wiring.gemini_probe();
        let composio = self.composio.as_ref().and_then(ComposioProbe::client);
        let mut tick = interval(self.interval);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut commits = None;
        loop {
            tick.tick().await;
            let round = async {
                tokio::join!(
                    database(&state, &mut commits),
                    ask_gemini(gemini.as_ref(), self.interval),
                    ask_composio(&state, composio.as_ref()),
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

impl ComposioProbe {
    fn client(&self) -> Option<(reqwest::Client, &Self)> {
        let client = http::client(self.base_url.starts_with("https://"), PATIENCE);
        let client = client.inspect_err(|error| tracing::error!(%error, "no client for probes of Composio"));
        Some((client.ok()?, self))
    }

    /// What is wrong, if anything.
    async fn ask(&self, client: &reqwest::Client) -> Option<&'static str> {
        let url = format!("{}{COMPOSIO_PATH}", self.base_url);
        let request = client.get(url).header("x-api-key", self.key.expose_secret());
        // An error of the client may name the address: it is told to nobody.
        let Ok(Ok(response)) = timeout(PATIENCE, request.send()).await else {
            return Some("Composio cannot be reached");
        };
        match response.status().as_u16() {
            401 | 403 => Some("Composio does not accept this server's key"),
            429 => Some("Composio is asked too often"),
            500.. => Some("Composio fails"),
            _ => None,
        }
    }
}

async fn ask_composio(state: &EdgeState, probe: Option<&(reqwest::Client, &ComposioProbe)>) {
    let Some((client, probe)) = probe else { return };
    let begun = state.clock.instant();
    let error = probe.ask(client).await;
    if let Some(error) = error {
        tracing::warn!(error, "Composio does not answer a probe");
    }
    state.health.probed().composio = Some(outcome(state, begun, error));
    count("composio", error.is_none());
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
