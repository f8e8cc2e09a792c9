//! What only the inside can provoke: panics of the service and of generations, and work that is dropped.

use kronos_sim::{GeminiSim, SimConfig, SimHandle};
use tokio::sync::mpsc;

use super::*;
use crate::{clock::Clock, config::GeminiConfig};

/// A model whose request makes the service's handler panic.
pub(crate) const POISON_OF_THE_SERVICE: &str = "poison-of-the-service";
/// A model whose generation panics.
pub(crate) const POISON_OF_A_GENERATION: &str = "poison-of-a-generation";

const LIMIT: Duration = Duration::from_secs(20);

struct Sink(mpsc::Sender<Progress>);

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<GenerationEvent> for Sink {
    type Result = ();
    fn handle(&mut self, event: GenerationEvent, _: &mut Self::Context) {
        self.0.try_send(event.progress).unwrap();
    }
}

/// What one generation tells, in order; the channel ends with the generation.
struct Told(mpsc::Receiver<Progress>);

impl Told {
    fn new() -> (Self, Recipient<GenerationEvent>) {
        let (events, told) = mpsc::channel(10_000);
        (Self(told), Sink(events).start().recipient())
    }

    /// Everything until nobody can tell any more.
    async fn all(mut self) -> Vec<Progress> {
        let mut all = Vec::new();
        let read = async {
            while let Some(progress) = self.0.recv().await {
                all.push(progress);
            }
        };
        tokio::time::timeout(LIMIT, read).await.expect("in time");
        all
    }

    async fn first_text(&mut self) {
        let read = async { while !matches!(self.0.recv().await, Some(Progress::Delta { .. })) {} };
        tokio::time::timeout(LIMIT, read).await.expect("in time");
    }
}

/// The codes of the failures among what was told.
fn failures(told: &[Progress]) -> Vec<RunErrorCode> {
    told.iter()
        .filter_map(|progress| match progress {
            Progress::Failed(failed) => Some(failed.code),
            _ => None,
        })
        .collect()
}

fn finished(told: &[Progress]) -> bool {
    matches!(told.last(), Some(Progress::Finished(_)))
}

fn request(model: Option<&str>) -> GenerateRequest {
    GenerateRequest {
        run: "r_1".try_into().unwrap(),
        session: "s_1".try_into().unwrap(),
        user: "u_1".try_into().unwrap(),
        model: model.map(str::to_owned),
        system_prompt: None,
        notes: None,
        contents: vec![Content {
            role: Role::User,
            parts: vec![serde_json::json!({"text": "[[tokens 400]] hi"})],
        }],
        temperature: None,
        max_tokens: None,
        deadline: Clock::default().instant() + Duration::from_secs(600),
        response_schema: None,
        functions: std::sync::Arc::default(),
        calling: crate::gemini::Calling::Auto,
        timeline: None,
    }
}

fn service(tokens_per_second: f64) -> (Arc<GeminiShared>, SimHandle) {
    let sim = GeminiSim::start(SimConfig {
        tokens_per_second,
        first_token_ms: 0,
        ..SimConfig::default()
    });
    let sim = sim.unwrap();
    let config = GeminiConfig {
        base_url: sim.url(),
        api_key: Some("key".into()),
        ..GeminiConfig::default()
    };
    (GeminiShared::new(config, Clock::default()).unwrap(), sim)
}

#[actix::test]
async fn a_panic_of_the_service_is_told_once_and_the_next_is_answered() {
    let (shared, _sim) = service(0.0);
    let gemini = GeminiRef::start(shared);
    for _ in 0..20 {
        let ((bombed, bomb), (behind, sink)) = (Told::new(), Told::new());
        let _bomb = gemini.generate(request(Some(POISON_OF_THE_SERVICE)), bomb).unwrap();
        let _behind = gemini.generate(request(None), sink).unwrap();
        assert_eq!(failures(&bombed.all().await), [RunErrorCode::Internal]);
        assert!(
            finished(&behind.all().await),
            "who waited behind it is answered by the new state"
        );
    }
    let (told, sink) = Told::new();
    let _handle = gemini.generate(request(None), sink).unwrap();
    assert!(finished(&told.all().await), "over the same address");
}

#[actix::test]
async fn a_generation_in_progress_outlives_a_panic_of_the_service() {
    let (shared, _sim) = service(1000.0);
    let gemini = GeminiRef::start(shared);
    let ((mut running, sink), (bombed, bomb)) = (Told::new(), Told::new());
    let _running = gemini.generate(request(None), sink).unwrap();
    running.first_text().await;
    let _bomb = gemini.generate(request(Some(POISON_OF_THE_SERVICE)), bomb).unwrap();
    assert_eq!(bombed.all().await.len(), 1);
    assert!(finished(&running.all().await));
}

#[actix::test]
async fn a_restart_makes_the_client_anew() {
    let (shared, _sim) = service(0.0);
    let broken = Gemini { shared, client: None };
    let (address, _) = start_guarded(broken, MAILBOX, NEVER_GIVE_UP, Clock::default(), || {}, |_| {});
    let gemini = GeminiRef { address };
    for (model, expected) in [
        (None, &[RunErrorCode::Internal][..]),
        (Some(POISON_OF_THE_SERVICE), &[RunErrorCode::Internal]),
        (None, &[]),
    ] {
        let (told, sink) = Told::new();
        let _handle = gemini.generate(request(model), sink).unwrap();
        assert_eq!(failures(&told.all().await), expected);
    }
}

#[actix::test]
async fn a_panic_of_a_generation_is_its_last_event() {
    let (shared, _sim) = service(0.0);
    let gemini = GeminiRef::start(shared);
    let (told, sink) = Told::new();
    let _handle = gemini.generate(request(Some(POISON_OF_A_GENERATION)), sink).unwrap();
    assert_eq!(failures(&told.all().await), [RunErrorCode::Internal]);
}

#[actix::test]
async fn a_core_that_goes_away_leaves_no_generation_without_an_end() {
    let (shared, _sim) = service(40.0);
    let core = Arbiter::new();
    let (started, service) = tokio::sync::oneshot::channel();
    core.spawn_fn(move || assert!(started.send(GeminiRef::start(shared)).is_ok()));
    let gemini = service.await.unwrap();
    let (mut told, sink) = Told::new();
    let _handle = gemini.generate(request(None), sink).unwrap();
    told.first_text().await;
    core.stop();
    assert_eq!(failures(&told.all().await), [RunErrorCode::Internal]);
    core.join().unwrap();
    let (told, sink) = Told::new();
    let refused = gemini.generate(request(None), sink).unwrap_err();
    assert_eq!(refused.code, RunErrorCode::Internal);
    assert!(told.all().await.is_empty(), "a refusal is no event");
}

#[actix::test]
async fn a_start_that_nobody_handles_is_told_unless_it_was_cancelled() {
    for (cancelled, expected) in [(false, &[RunErrorCode::Internal][..]), (true, &[])] {
        let (told, sink) = Told::new();
        let request = request(None);
        let cancel = CancellationToken::new();
        let outlet = Outlet::new(request.run.clone(), sink, cancel.clone());
        let start = Start {
            request,
            outlet,
            caller: Caller {
                span: Span::none(),
                scope: Scope::default(),
            },
        };
        if cancelled {
            cancel.cancel();
        }
        drop(start);
        assert_eq!(failures(&told.all().await), expected);
    }
}

#[actix::test]
async fn a_cancelled_generation_is_dropped_at_once_and_tells_nothing_more() {
    let (shared, sim) = service(40.0);
    let gemini = GeminiRef::start(shared);
    let (mut told, sink) = Told::new();
    let handle = gemini.generate(request(None), sink).unwrap();
    told.first_text().await;
    handle.cancel();
    assert!(failures(&told.all().await).is_empty());
    let gone = async {
        while !matches!(sim.requests()[0].outcome, kronos_sim::Outcome::ClientGone { .. }) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(LIMIT, gone).await.unwrap();
}

#[actix::test]
async fn a_core_that_is_stuck_refuses_and_that_is_no_event() {
    let (shared, _sim) = service(0.0);
    let gemini = GeminiRef::start(shared);
    let mut handles = Vec::new();
    // Nothing yields here: the service handles none of them meanwhile.
    let refused = loop {
        let (told, sink) = Told::new();
        match gemini.generate(request(None), sink) {
            Ok(handle) => handles.push(handle),
            Err(failed) => break (failed, told),
        }
    };
    assert!((MAILBOX..=MAILBOX + 2).contains(&handles.len()), "{}", handles.len());
    assert_eq!(
        (refused.0.code, refused.0.after_ms),
        (RunErrorCode::Overloaded, Some(1000))
    );
    assert!(refused.1.all().await.is_empty());
}
