//! What only the inside can provoke: a panic of a live session.

use kronos_protocol::{entry::LogEntry, error::RunErrorCode, message::UserContent};
use kronos_sim::{GeminiSim, SimConfig, SimHandle};

use super::{
    message::Submit,
    reader::{SessionReader, ask},
    *,
};
use crate::{
    config::{GeminiConfig, StoreBackend, StoreConfig},
    directory::{DirectoryRef, SessionRef},
    gemini::GeminiShared,
    principal::Principal,
    store::service::{self, StoreService},
};

/// Makes a session panic.
#[derive(Message)]
#[rtype(result = "()")]
struct Bomb;

impl Handler<Bomb> for Session {
    type Result = ();

    fn handle(&mut self, _: Bomb, _: &mut Self::Context) {
        panic!("a bomb");
    }
}

fn ann() -> Arc<Principal> {
    let user = "ann".parse().unwrap();
    Arc::new(Principal {
        user,
        name: None,
        superuser: false,
        login: None,
        expires_at_ms: None,
    })
}

fn directory(config: SessionConfig) -> (DirectoryRef, SimHandle) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let pace = SimConfig {
        tokens_per_second: 200.0,
        first_token_ms: 5,
        ..SimConfig::default()
    };
    let sim = GeminiSim::start(pace).unwrap();
    let clock = Clock::default();
    let store = StoreConfig {
        backend: StoreBackend::Memory,
        ..StoreConfig::default()
    };
    let store = StoreService::start(service::open(&store).unwrap(), &store, clock.clone()).unwrap();
    let gemini = GeminiConfig {
        base_url: sim.url(),
        api_key: Some("key".into()),
        ..GeminiConfig::default()
    };
    let directory = DirectoryRef::new(config, store, GeminiShared::new(gemini, clock.clone()).unwrap(), clock);
    directory.join();
    (directory, sim)
}

async fn say(session: &SessionRef, id: &str, text: &str) {
    let submit = Submit {
        id: id.parse().unwrap(),
        content: UserContent::Text(text.to_owned()),
        mode: kronos_protocol::SendMode::Queue,
        run: kronos_protocol::RunOptions::default(),
    };
    ask(session, &ann(), SessionCommand::Submit(submit)).await.unwrap();
}

/// Reads on until an entry is as asked; checks that no event is missing, repeated or out of order.
async fn until(reader: &mut SessionReader, seen: &mut Vec<LogEntry>, wanted: impl Fn(&Event) -> bool) {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), reader.next()).await;
        for entry in next.expect("in time").unwrap().iter() {
            assert_eq!(
                entry.first_seq(),
                seen.last().map_or(0, |last| last.seq) + 1,
                "each event once, in order"
            );
            seen.push(entry.clone());
        }
        if seen.iter().any(|entry| wanted(&entry.event)) {
            return;
        }
    }
}

fn codes(seen: &[LogEntry]) -> Vec<&str> {
    seen.iter()
        .filter_map(|entry| match &entry.event {
            Event::RunError(error) => error.code.as_deref(),
            Event::RunFinished(_) => Some("finished"),
            _ => None,
        })
        .collect()
}

#[actix::test]
async fn a_panic_in_mid_answer_takes_nothing_back_and_the_turn_starts_again() {
    let (directory, _sim) = directory(SessionConfig::default());
    let session = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    let mut reader = SessionReader::attach(&directory, &session, &ann(), 0).await.unwrap();
    let mut seen = Vec::new();
    say(&session, "m_1", "[[tokens 60]] tell me a story").await;
    until(&mut reader, &mut seen, |event| {
        matches!(event, Event::TextMessageContent(_))
    })
    .await;
    assert_eq!(
        session.addr().send(Bomb).await,
        Err(MailboxError::Closed),
        "its sender is told"
    );
    until(&mut reader, &mut seen, |event| matches!(event, Event::RunFinished(_))).await;
    assert_eq!(codes(&seen), [RunErrorCode::Interrupted.as_str(), "finished"]);
    say(&session, "m_2", "[[tokens 3]] and then?").await;
    let observed = session.addr().send(Observe).await.unwrap();
    assert_eq!(observed.incarnation, 1, "the same actor, folded again");
}

#[actix::test]
async fn a_session_that_panics_too_often_is_parked_and_nobody_else_notices() {
    let (directory, _sim) = directory(SessionConfig {
        max_restarts: 2,
        ..SessionConfig::default()
    });
    let poisoned = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    let well = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    let mut reader = SessionReader::attach(&directory, &well, &ann(), 0).await.unwrap();
    say(&well, "m_1", "[[tokens 60]] tell me a story").await;
    for _ in 0..3 {
        assert_eq!(poisoned.addr().send(Bomb).await, Err(MailboxError::Closed));
    }
    let parked = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            match directory.resolve(poisoned.id()).await {
                Err(error) => return error.code,
                Ok(_) => tokio::task::yield_now().await,
            }
        }
    });
    assert_eq!(parked.await.unwrap(), ErrorCode::Parked);
    let mut seen = Vec::new();
    until(&mut reader, &mut seen, |event| matches!(event, Event::RunFinished(_))).await;
    assert_eq!(codes(&seen), ["finished"]);
}

#[actix::test]
async fn a_panic_on_the_way_to_the_model_ends_the_run_as_internal_and_the_next_turn_is_answered() {
    use crate::gemini::tests::{POISON_OF_A_GENERATION, POISON_OF_THE_SERVICE};
    let (directory, _sim) = directory(SessionConfig::default());
    let session = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    let mut reader = SessionReader::attach(&directory, &session, &ann(), 0).await.unwrap();
    let mut seen = Vec::new();
    for (number, model) in [POISON_OF_A_GENERATION, POISON_OF_THE_SERVICE].into_iter().enumerate() {
        let run = kronos_protocol::RunOptions {
            model: Some(model.to_owned()),
            ..kronos_protocol::RunOptions::default()
        };
        let submit = Submit {
            id: format!("m_{number}").parse().unwrap(),
            content: UserContent::Text("hi".to_owned()),
            mode: kronos_protocol::SendMode::Queue,
            run,
        };
        ask(&session, &ann(), SessionCommand::Submit(submit)).await.unwrap();
        let before = seen.len();
        while codes(&seen[before..]).is_empty() {
            until(&mut reader, &mut seen, |_| true).await;
        }
    }
    say(&session, "m_9", "[[tokens 3]] and then?").await;
    until(&mut reader, &mut seen, |event| matches!(event, Event::RunFinished(_))).await;
    let internal = RunErrorCode::Internal.as_str();
    assert_eq!(codes(&seen), [internal, internal, "finished"]);
    let observed = session.addr().send(Observe).await.unwrap();
    assert_eq!(observed.incarnation, 0, "the session itself is well");
}
