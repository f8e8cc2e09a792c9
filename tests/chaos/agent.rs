//! A run with parallel calls, killed at every place of its log: each call has 0 or 1 effects, or somebody is asked about it.
//!
//! The server aborts by itself (`ABORT_AT`) when it is about to write an event, when it is durable, and when the calls that it
//! allows have left. 60 kills by default, spread over all places; all of them many times, at several speeds:
//! ```text
//! KRONOS_KILLS=1000 cargo test --release --test chaos every_place -- --nocapture
//! ```

use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use kronos_protocol::{Event, ServerFrame, event::Outcome, message::Interrupt};
use kronos_sim::{ComposioHandle, ComposioSim, ComposioSimConfig, Effect, SimHandle};
use kronos_testkit::{KronosProc, WsClient};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use crate::harness::{LIMIT, guest, number, options, seed, simulator};

/// Servers at once.
const AT_ONCE: usize = 3;
/// Beyond the last event of a run.
const PLACES: u64 = 34;
const POINTS: [&str; 3] = ["submit", "commit", "leave"];
/// A place that no run reaches.
const NOWHERE: &str = "commit:1000000";
const TEXT: &str = concat!(
    r#"[[call GITHUB_CREATE_ISSUE {"owner":"acme","repo":"shop","title":"Broken"}]] "#,
    r#"[[call SLACK_SEND_MESSAGE {"channel":"general","text":"It is broken"}]] both please"#
);

/// What became of one case.
#[derive(Debug, Default, Clone, Copy)]
struct Outcomes {
    kills: usize,
    asked: usize,
    effects: usize,
}

/// What a client saw a run end with.
enum End {
    Done,
    Asked(Vec<Interrupt>),
    /// The server is gone.
    Gone,
}

struct Case {
    user: String,
    session: String,
    client: WsClient,
    server: KronosProc,
}

impl Case {
    async fn send(&mut self) {
        let command = json!({
            "op": "send", "session": self.session, "id": "m_1", "content": TEXT, "run": {"tool_policy": "auto"},
        });
        let reference = self.client.start(command).await;
        drop(reference);
    }

    /// Reads until the turn is over, waits for a person, or the server is gone.
    async fn end(&mut self) -> End {
        loop {
            let Some(frame) = self.client.try_next_frame(LIMIT).await else {
                assert!(
                    self.client.is_closed(),
                    "{}: the run has stopped in the middle",
                    self.user
                );
                return End::Gone;
            };
            let ServerFrame::Events(events) = frame else { continue };
            for entry in events.events {
                match entry.event {
                    Event::RunFinished(finished) => match finished.outcome {
                        Some(Outcome::Interrupt { interrupts }) => return End::Asked(interrupts),
                        _ => return End::Done,
                    },
                    Event::RunError(error) if error.code.as_deref() != Some("interrupted") => {
                        panic!("{}: {error:?}", self.user)
                    }
                    _ => {}
                }
            }
        }
    }

    async fn answer(&mut self, interrupts: &[Interrupt]) {
        let answers: Vec<Value> = interrupts
            .iter()
            .map(|interrupt| {
                assert_eq!(interrupt.reason, "kronos:unknown_outcome", "{interrupt:?}");
                json!({"interrupt": interrupt.id, "status": "resolved", "payload": {"action": "skip"}})
            })
            .collect();
        let command = json!({"op": "resume", "session": self.session, "answers": answers});
        self.client.request(command).await.expect("answered");
    }
}

/// One run with a kill at one place.
async fn one(gemini: &SimHandle, composio: &ComposioHandle, number: usize, point: &str, seq: u64) -> Outcomes {
    let user = format!("user-{number}");
    for toolkit in ["github", "slack"] {
        composio.connect(&user, toolkit).expect("an account");
    }
    let url = composio.url();
    let at = format!("{point}:{seq}");
    let env = [
        ("COMPOSIO_BASE_URL", url.as_str()),
        ("COMPOSIO_API_KEY", "ak_test"),
        ("ABORT_AT", at.as_str()),
    ];
    let server = KronosProc::start(options(gemini, &env)).await;
    let mut client = server.connect(guest(&user, number)).await;
    let session = client.attach_new().await.to_string();
    let mut case = Case {
        user: user.clone(),
        session,
        client,
        server,
    };
    case.send().await;
    let mut outcomes = Outcomes::default();
    let mut end = case.end().await;
    if matches!(end, End::Gone) {
        outcomes.kills += 1;
        case.server.set_env("ABORT_AT", NOWHERE);
        case.server.restart().await;
        let url = case.server.ws_url();
        case.client.reconnect(&url).await;
        case.client.reattach(&case.session).await;
        // Its ack may be lost: the same again is harmless.
        case.send().await;
        end = case.end().await;
    }
    let mut asked: Vec<String> = Vec::new();
    while let End::Asked(interrupts) = end {
        outcomes.asked += interrupts.len();
        asked.extend(interrupts.iter().filter_map(|interrupt| interrupt.tool_call_id.clone()));
        case.answer(&interrupts).await;
        end = case.end().await;
    }
    assert!(matches!(end, End::Done), "{user} {at}: the server is gone again");
    let effects: Vec<Effect> = composio
        .effects()
        .into_iter()
        .filter(|effect| effect.user_id == user)
        .collect();
    outcomes.effects = effects.len();
    let tools: Vec<&str> = effects.iter().map(|effect| effect.tool.as_str()).collect();
    assert!(
        effects.iter().all(|effect| effect.count == 1),
        "{user} {at}: {effects:#?}"
    );
    for tool in ["GITHUB_CREATE_ISSUE", "SLACK_SEND_MESSAGE"] {
        let times = tools.iter().filter(|known| **known == tool).count();
        assert!(times <= 1, "{user} {at}: {tool} {times} times");
    }
    assert!(
        effects.len() + asked.len() >= 2,
        "{user} {at}: a call was neither made nor asked about: {tools:?}, {asked:?}"
    );
    outcomes
}

#[tokio::test]
async fn at_every_place_of_a_run_each_call_has_one_effect_or_is_asked_about() {
    let kills = number("KRONOS_KILLS", 60);
    let mut random = StdRng::seed_from_u64(seed());
    let places = POINTS.len() as u64 * PLACES;
    let gemini = simulator(400.0);
    let composio = ComposioSim::start(ComposioSimConfig::default()).expect("the simulator starts");
    let cases: Vec<(usize, &str, u64)> = (0..kills)
        .map(|number| {
            // All places once, evenly, before any is taken again.
            let place = (number as u64 * places / kills.min(places as usize) as u64) % places;
            (number, POINTS[(place % 3) as usize], place / 3 + 1)
        })
        .collect();
    let slow = random.random_range(0..30);
    composio.set_config(|config| config.tool_ms = slow);
    let done: Vec<Outcomes> = stream::iter(cases)
        .map(|(number, point, seq)| {
            let (gemini, composio) = (&gemini, &composio);
            async move {
                let case = one(gemini, composio, number, point, seq);
                tokio::time::timeout(Duration::from_secs(120), Box::pin(case))
                    .await
                    .unwrap_or_else(|_| panic!("case {number} {point}:{seq} hangs"))
            }
        })
        .buffer_unordered(AT_ONCE)
        .collect()
        .await;
    let sum = |of: fn(&Outcomes) -> usize| done.iter().map(of).sum::<usize>();
    println!(
        "KRONOS_SEED={} cases {}, kills {}, calls asked about {}, effects {}, doubled 0",
        seed(),
        done.len(),
        sum(|outcomes| outcomes.kills),
        sum(|outcomes| outcomes.asked),
        sum(|outcomes| outcomes.effects),
    );
    assert!(
        sum(|outcomes| outcomes.kills) * 2 > kills,
        "most cases were to be killed"
    );
    assert!(
        sum(|outcomes| outcomes.asked) > 0,
        "no case was killed while a call was out"
    );
}
