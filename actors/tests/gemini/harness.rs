//! A simulator, the service pointed at it, and sinks that record. Waits for conditions, never for time.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use kronos_actors::clock::Clock;
use kronos_actors::config::GeminiConfig;
use kronos_actors::gemini::{
    Content, Failed, Finished, GeminiRef, GeminiShared, GenerateRequest, GenerationEvent, GenerationHandle, Progress,
    Role,
};
use kronos_sim::{GeminiSim, Outcome, ScriptedReply, SimConfig, SimHandle};
use serde_json::{Value, json};
use tokio::sync::{Notify, Semaphore};

pub(crate) const KEY: &str = "AIza-secret-of-the-tests";
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) sim: SimHandle,
    pub(crate) shared: Arc<GeminiShared>,
    pub(crate) gemini: GeminiRef,
}

impl Bench {
    /// Starts a simulator without delays and a service with short pauses, changed by `change`.
    pub(crate) fn start(change: impl FnOnce(&mut GeminiConfig)) -> Self {
        let sim = GeminiSim::start(SimConfig {
            tokens_per_second: 0.0,
            first_token_ms: 0,
            ..SimConfig::default()
        });
        let sim = sim.unwrap();
        let mut config = GeminiConfig {
            base_url: sim.url(),
            api_key: Some(KEY.into()),
            backoff: Duration::from_millis(2),
            max_backoff: Duration::from_secs(2),
            ..GeminiConfig::default()
        };
        change(&mut config);
        let shared = GeminiShared::new(config, Clock::default()).unwrap();
        let gemini = GeminiRef::start(Arc::clone(&shared));
        Self { sim, shared, gemini }
    }

    pub(crate) fn scripted(replies: Vec<ScriptedReply>) -> Self {
        let bench = Self::start(|_| {});
        bench.sim.script(replies);
        bench
    }

    pub(crate) fn ask(&self, text: &str) -> Asked {
        self.ask_with(request(text), None)
    }

    pub(crate) fn ask_as(&self, user: &str, text: &str) -> Asked {
        self.ask_with(
            GenerateRequest {
                user: user.try_into().unwrap(),
                ..request(text)
            },
            None,
        )
    }

    /// Asks; each event is handled only when `gate` has a permit for it.
    pub(crate) fn ask_with(&self, request: GenerateRequest, gate: Option<Arc<Semaphore>>) -> Asked {
        let events = Events::default();
        let sink = Sink {
            events: events.clone(),
            gate,
        }
        .start();
        let handle = self.gemini.generate(request, sink.clone().recipient()).unwrap();
        Asked { events, sink, handle }
    }

    /// Asks one thing and returns all that came of it.
    pub(crate) async fn events_of(&self, text: &str) -> Vec<Progress> {
        self.ask(text).end().await
    }

    /// Waits until the outcome of the `number`th request (from 1) fits.
    pub(crate) async fn outcome(&self, number: usize, fits: impl Fn(&Outcome) -> bool) {
        eventually(|| {
            self.sim
                .requests()
                .get(number - 1)
                .is_some_and(|request| fits(&request.outcome))
        })
        .await;
    }
}

pub(crate) fn request(text: &str) -> GenerateRequest {
    GenerateRequest {
        run: "r_1".try_into().unwrap(),
        session: "s_1".try_into().unwrap(),
        user: "u_1".try_into().unwrap(),
        model: None,
        system_prompt: None,
        notes: None,
        contents: vec![Content {
            role: Role::User,
            parts: vec![json!({"text": text})],
        }],
        temperature: None,
        max_tokens: None,
        deadline: Clock::default().instant() + Duration::from_secs(600),
        response_schema: None,
        functions: Arc::default(),
        calling: kronos_actors::gemini::Calling::Auto,
        timeline: None,
    }
}

/// Waits until `condition` holds.
pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait)
        .await
        .expect("the condition holds in time");
}

#[derive(Clone, Default)]
pub(crate) struct Events {
    list: Arc<Mutex<Vec<Progress>>>,
    changed: Arc<Notify>,
}

impl Events {
    pub(crate) fn all(&self) -> Vec<Progress> {
        self.list.lock().unwrap().clone()
    }

    pub(crate) async fn until(&self, fits: impl Fn(&[Progress]) -> bool) -> Vec<Progress> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                if fits(&self.list.lock().unwrap()) {
                    return self.all();
                }
                changed.await;
            }
        };
        match tokio::time::timeout(LIMIT, wait).await {
            Ok(events) => events,
            Err(_) => panic!("not in time: {:?}", self.all().last()),
        }
    }
}

pub(crate) struct Sink {
    events: Events,
    gate: Option<Arc<Semaphore>>,
}

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<GenerationEvent> for Sink {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, event: GenerationEvent, _: &mut Self::Context) -> Self::Result {
        let gate = self.gate.clone();
        let events = self.events.clone();
        let record = async move {
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            events.list.lock().unwrap().push(event.progress);
            events.changed.notify_one();
        };
        AtomicResponse::new(Box::pin(record.into_actor(self)))
    }
}

#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Close;

impl Handler<Close> for Sink {
    type Result = ();
    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        ctx.terminate();
    }
}

pub(crate) struct Asked {
    pub(crate) events: Events,
    pub(crate) sink: Addr<Sink>,
    pub(crate) handle: GenerationHandle,
}

impl Asked {
    pub(crate) async fn end(&self) -> Vec<Progress> {
        self.events.until(|events| events.last().is_some_and(is_end)).await
    }

    /// Waits until text was shown.
    pub(crate) async fn shown(&self) {
        self.events.until(|events| !text(events).is_empty()).await;
    }

    /// Waits until the next attempt was announced.
    pub(crate) async fn retrying(&self) {
        self.events.until(|events| !retries(events).is_empty()).await;
    }
}

pub(crate) fn is_end(progress: &Progress) -> bool {
    matches!(progress, Progress::Finished(_) | Progress::Failed(_))
}

pub(crate) fn text(events: &[Progress]) -> String {
    let deltas = events.iter().filter_map(|progress| match progress {
        Progress::Delta { text, .. } => Some(text.as_str()),
        _ => None,
    });
    deltas.collect()
}

/// Returns the announced attempts: number, code, pause.
pub(crate) fn retries(events: &[Progress]) -> Vec<(u32, &'static str, u64)> {
    let retries = events.iter().filter_map(|progress| match progress {
        Progress::Retrying {
            attempt,
            code,
            after_ms,
        } => Some((*attempt, code.as_str(), *after_ms)),
        _ => None,
    });
    retries.collect()
}

pub(crate) fn failed(events: &[Progress]) -> &Failed {
    match events.last() {
        Some(Progress::Failed(failed)) => failed,
        _ => panic!("it did not fail: {events:?}"),
    }
}

pub(crate) fn finished(events: &[Progress]) -> &Finished {
    match events.last() {
        Some(Progress::Finished(finished)) => finished,
        _ => panic!("it did not finish: {events:?}"),
    }
}

pub(crate) fn part(parts: Value) -> Value {
    json!({"candidates": [{"content": {"parts": [parts], "role": "model"}, "index": 0}]})
}
