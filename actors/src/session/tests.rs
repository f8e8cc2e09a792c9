//! What only the inside can provoke: a panic of a live session.

use kronos_protocol::{entry::LogEntry, error::RunErrorCode, message::UserContent};
use kronos_sim::{GeminiSim, SimConfig, SimHandle};

use super::{
    message::{Import, Page, Past, Submit},
    reader::{SessionReader, TurnReader, ask},
    *,
};
use crate::{
    config::{Durability, GeminiConfig, RetentionConfig, StoreBackend, StoreConfig},
    directory::{DirectoryRef, SessionRef},
    gemini::GeminiShared,
    principal::Principal,
    retention,
    store::service::{self, StoreRef, StoreService},
};

mod erasure;

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

/// Makes a session do something bad.
#[derive(Message, Clone, Copy)]
#[rtype(result = "()")]
enum Mischief {
    /// A timer of its own panics.
    Timer,
    /// A future of its own panics.
    Future,
    /// It awaits for ever: nothing of its mailbox is handled any more.
    Hang,
}

impl Handler<Mischief> for Session {
    type Result = ();

    fn handle(&mut self, mischief: Mischief, ctx: &mut Self::Context) {
        match mischief {
            Mischief::Timer => drop(ctx.run_later(Duration::from_millis(1), |_, _| panic!("a timer"))),
            Mischief::Future => drop(ctx.spawn(async { panic!("a future") }.into_actor(self))),
            Mischief::Hang => {
                self.life = Life::Loading;
                self.beat();
                ctx.wait(std::future::pending::<()>().into_actor(self));
            }
        }
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
    let store = StoreConfig {
        backend: StoreBackend::Memory,
        ..StoreConfig::default()
    };
    let store = StoreService::start(service::open(&store).unwrap(), &store, Clock::default()).unwrap();
    directory_over(config, store)
}

fn directory_over(config: SessionConfig, store: StoreRef) -> (DirectoryRef, SimHandle) {
    drop(rustls::crypto::ring::default_provider().install_default());
    let pace = SimConfig {
        tokens_per_second: 200.0,
        first_token_ms: 5,
        ..SimConfig::default()
    };
    let sim = GeminiSim::start(pace).unwrap();
    let clock = Clock::default();
    let gemini = GeminiConfig {
        base_url: sim.url(),
        api_key: Some("key".into()),
        ..GeminiConfig::default()
    };
    let directory = DirectoryRef::new(
        config,
        store.clone(),
        GeminiShared::new(gemini, clock.clone()).unwrap(),
        ToolsRef::new(store, clock.clone(), Arc::default()),
        clock,
    );
    directory.join();
    (directory, sim)
}

async fn say(session: &SessionRef, id: &str, text: &str) {
    let submit = Submit {
        id: id.parse().unwrap(),
        content: UserContent::Text(text.to_owned()),
        mode: kronos_protocol::SendMode::Queue,
        run: kronos_protocol::RunOptions::default(),
        context: None,
        client_tools: Vec::new(),
    };
    ask(session, &ann(), SessionCommand::Submit(submit)).await.unwrap();
}

/// Reads on until an entry is as asked; checks that no event is missing, repeated or out of order.
async fn until(reader: &mut SessionReader, seen: &mut Vec<LogEntry>, wanted: impl Fn(&Event) -> bool) {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(20), reader.next()).await;
        for entry in next.expect("in time").unwrap().entries.iter() {
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
async fn a_panic_in_a_timer_or_a_future_is_a_panic_like_any_other() {
    let (directory, _sim) = directory(SessionConfig::default());
    for mischief in [Mischief::Timer, Mischief::Future] {
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
        session.addr().send(mischief).await.unwrap();
        until(&mut reader, &mut seen, |event| matches!(event, Event::RunFinished(_))).await;
        assert_eq!(codes(&seen), [RunErrorCode::Interrupted.as_str(), "finished"]);
        assert_eq!(session.addr().send(Observe).await.unwrap().incarnation, 1);
    }
}

/// Waits until the directory has no session in memory.
async fn all_left(directory: &DirectoryRef) {
    let left = tokio::time::timeout(Duration::from_secs(20), async {
        while directory.live() > 0 {
            actix::clock::sleep(Duration::from_millis(5)).await;
        }
    });
    left.await.expect("every session leaves memory");
}

fn sleepy() -> SessionConfig {
    SessionConfig {
        idle_timeout: Duration::from_millis(100),
        ..SessionConfig::default()
    }
}

#[actix::test]
async fn a_session_leaves_memory_under_its_readers_and_wakes_for_them() {
    let (directory, _sim) = directory(sleepy());
    let session = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    let mut one = SessionReader::attach(&directory, &session, &ann(), 0).await.unwrap();
    let mut other = SessionReader::attach(&directory, &session, &ann(), 0).await.unwrap();
    say(&session, "m_1", "[[tokens 5]] hello").await;
    let (mut seen, mut seen_too) = (Vec::new(), Vec::new());
    let finished = |event: &Event| matches!(event, Event::RunFinished(_));
    until(&mut one, &mut seen, finished).await;
    until(&mut other, &mut seen_too, finished).await;
    for turn in 2..5 {
        let id = session.id().clone();
        // The readers wait while it sleeps, and must see the next turn all the same.
        let ask = async {
            all_left(&directory).await;
            assert!(!session.addr().connected(), "its actor is gone");
            let woken = directory.resolve(&id).await.unwrap();
            say(&woken, &format!("m_{turn}"), "[[tokens 5]] and again").await;
        };
        let wanted = seen.len();
        // A session sleeps only under readers that wait.
        let (mine, theirs) = (
            until(&mut one, &mut seen, |_| true),
            until(&mut other, &mut seen_too, |_| true),
        );
        tokio::join!(ask, mine, theirs);
        while codes(&seen).len() < turn {
            until(&mut one, &mut seen, |_| true).await;
        }
        while codes(&seen_too).len() < turn {
            until(&mut other, &mut seen_too, |_| true).await;
        }
        assert!(seen.len() > wanted);
    }
    assert_eq!(codes(&seen), ["finished"; 4]);
}

#[actix::test]
async fn a_reader_that_leaves_a_sleeping_session_is_forgotten() {
    let (directory, _sim) = directory(sleepy());
    let session = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    let reader = SessionReader::attach(&directory, &session, &ann(), 0).await.unwrap();
    say(&session, "m_1", "[[tokens 5]] hello").await;
    drop(reader);
    all_left(&directory).await;
    let woken = directory.resolve(session.id()).await.unwrap();
    let readers = woken.addr().send(Observe).await.unwrap().readers;
    assert!(readers.is_empty(), "{readers:?}");
}

#[actix::test]
async fn a_session_that_hangs_is_started_again_and_its_readers_miss_nothing() {
    let (directory, _sim) = directory(SessionConfig {
        hang_timeout: Duration::from_millis(200),
        ..SessionConfig::default()
    });
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
    session.addr().send(Mischief::Hang).await.unwrap();
    until(&mut reader, &mut seen, |event| matches!(event, Event::RunFinished(_))).await;
    assert_eq!(codes(&seen), [RunErrorCode::Interrupted.as_str(), "finished"]);
    assert!(!session.addr().connected(), "the one that hung is gone");
}

#[actix::test]
async fn a_parked_session_stays_so_over_a_restart_until_it_is_unparked() {
    let store = StoreConfig {
        backend: StoreBackend::Memory,
        ..StoreConfig::default()
    };
    let store = StoreService::start(service::open(&store).unwrap(), &store, Clock::default()).unwrap();
    let config = SessionConfig {
        max_restarts: 0,
        ..SessionConfig::default()
    };
    let (directory, _sim) = directory_over(config.clone(), store.clone());
    let session = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    say(&session, "m_1", "[[tokens 60]] tell me a story").await;
    assert_eq!(session.addr().send(Bomb).await, Err(MailboxError::Closed));
    while !directory.is_parked(session.id()) {
        tokio::task::yield_now().await;
    }
    let restarted = DirectoryRef::new(
        config,
        store.clone(),
        GeminiShared::new(GeminiConfig::default(), Clock::default()).unwrap(),
        ToolsRef::new(store, Clock::default(), Arc::default()),
        Clock::default(),
    );
    while restarted.load_parked().await.unwrap() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(restarted.is_parked(session.id()));
    assert_eq!(
        directory.resolve(session.id()).await.unwrap_err().code,
        ErrorCode::Parked
    );
    assert!(directory.unpark(session.id()).await.unwrap());
    assert!(!directory.unpark(session.id()).await.unwrap(), "once");
    let open = directory.resolve(session.id()).await.unwrap();
    let mut reader = SessionReader::attach(&directory, &open, &ann(), 0).await.unwrap();
    let mut seen = Vec::new();
    until(&mut reader, &mut seen, |event| matches!(event, Event::RunFinished(_))).await;
    assert_eq!(
        codes(&seen),
        [RunErrorCode::Interrupted.as_str(), "finished"],
        "what it left unfinished is taken up"
    );
    assert_eq!(restarted.load_parked().await.unwrap(), 0);
}

#[actix::test]
async fn relaxed_text_is_shown_before_its_commit_and_a_crash_then_voids_the_cursors() {
    let config = SessionConfig {
        durability: Durability::Relaxed,
        relaxed_flush: Duration::from_secs(5),
        ..SessionConfig::default()
    };
    let (directory, _sim) = directory(config);
    let session = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    let mut reader = SessionReader::attach(&directory, &session, &ann(), 0).await.unwrap();
    let mut seen = Vec::new();
    say(&session, "m_1", "[[tokens 60]] tell me a story").await;
    let before = view(&session).await;
    let mut shown = 0;
    while shown < 10 {
        until(&mut reader, &mut seen, |_| true).await;
        shown = seen
            .iter()
            .filter(|entry| matches!(entry.event, Event::TextMessageContent(_)))
            .count();
    }
    let observed = session.addr().send(Observe).await.unwrap();
    let last = seen.last().map_or(0, |entry| entry.seq);
    assert!(
        observed.committed < last,
        "{observed:?}: text waits for its commit and was shown"
    );
    assert_eq!(session.addr().send(Bomb).await, Err(MailboxError::Closed));
    let mut again = SessionReader::attach(&directory, &session, &ann(), 0).await.unwrap();
    let mut log = Vec::new();
    until(&mut again, &mut log, |event| matches!(event, Event::RunFinished(_))).await;
    assert_eq!(codes(&log), [RunErrorCode::Interrupted.as_str(), "finished"]);
    let after = view(&session).await;
    assert_ne!(before.epoch, after.epoch, "cursors on what was lost are void");
    assert!(!after.relaxed_run, "nothing is at stake any more");
}

async fn view(session: &SessionRef) -> SessionMeta {
    match ask(session, &ann(), SessionCommand::View(Page::last(100))).await {
        Ok(SessionReply::View(view)) => view.meta,
        other => panic!("{other:?}"),
    }
}

#[actix::test]
async fn a_finished_turn_is_packed_merged_and_read_from_any_cursor() {
    let (directory, _sim) = directory(SessionConfig {
        tail_bytes: 0,
        ..SessionConfig::default()
    });
    let session = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    let mut reader = SessionReader::attach(&directory, &session, &ann(), 0).await.unwrap();
    let mut seen = Vec::new();
    say(&session, "m_1", "[[tokens 60]] tell me a story").await;
    until(&mut reader, &mut seen, |event| matches!(event, Event::RunFinished(_))).await;
    let last = seen.last().map_or(0, |entry| entry.seq);
    let settled = async {
        while session.addr().send(Observe).await.unwrap().packed < last {
            actix::clock::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), settled).await.unwrap();
    let text = |entries: &[LogEntry]| -> String {
        let delta = |entry: &LogEntry| match &entry.event {
            Event::TextMessageContent(content) => Some(content.delta.clone()),
            _ => None,
        };
        entries.iter().filter_map(delta).collect()
    };
    let whole = text(&seen);
    for after in 0..last {
        let mut late = SessionReader::attach(&directory, &session, &ann(), after)
            .await
            .unwrap();
        let mut rest = Vec::new();
        let mut upto = after;
        while upto < last {
            for entry in late.next().await.unwrap().entries.iter() {
                assert_eq!(entry.first_seq(), upto + 1);
                upto = entry.seq;
                rest.push(entry.clone());
            }
        }
        assert!(whole.ends_with(&text(&rest)), "after {after}");
    }
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
            context: None,
            client_tools: Vec::new(),
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

#[actix::test]
async fn a_prepared_conversation_is_stored_with_its_history_or_not_at_all() {
    let store = StoreConfig {
        backend: StoreBackend::Memory,
        ..StoreConfig::default()
    };
    let store = StoreService::start(service::open(&store).unwrap(), &store, Clock::default()).unwrap();
    let (directory, _sim) = directory_over(SessionConfig::default(), store.clone());
    let session = directory.prepare(&ann(), SessionSettings::default()).await.unwrap();
    let import = |text: &str| {
        let past = Past {
            id: "p_1".parse().unwrap(),
            role: kronos_protocol::event::TextRole::Assistant,
            text: text.to_owned(),
            at_ms: Some(5),
        };
        let submit = Submit {
            id: "m_1".parse().unwrap(),
            content: UserContent::Text("[[tokens 3]] hi".to_owned()),
            mode: kronos_protocol::SendMode::Queue,
            run: kronos_protocol::RunOptions::default(),
            context: None,
            client_tools: Vec::new(),
        };
        SessionCommand::Import(Import {
            history: vec![past],
            submit,
        })
    };
    let refused = ask(&session, &ann(), import("")).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::Validation);
    session.addr().send(Observe).await.unwrap();
    assert_eq!(
        store.meta(session.id()).await.unwrap(),
        None,
        "nothing is stored before"
    );
    let taken = ask(&session, &ann(), import("Hello.")).await;
    assert!(
        matches!(taken, Ok(SessionReply::Sent { duplicate: false, .. })),
        "{taken:?}"
    );
    let stored = store.load(session.id()).await.unwrap().unwrap();
    assert!(stored.records.len() >= 6, "the history and its turn");
    let again = ask(&session, &ann(), import("Hello.")).await;
    assert!(
        matches!(again, Ok(SessionReply::Sent { duplicate: true, .. })),
        "{again:?}"
    );
    let feed = directory.feed(&ann().user).await.unwrap();
    for command in [
        import("Hello."),
        SessionCommand::Rename {
            title: "mine".to_owned(),
        },
    ] {
        let refused = ask(&feed, &ann(), command).await;
        assert_eq!(refused.unwrap_err().code, ErrorCode::Unsupported);
    }
}

#[actix::test]
async fn a_turn_is_followed_over_an_interruption() {
    follow_over_a_panic(Durability::Commit).await;
}

#[actix::test]
async fn a_turn_is_followed_over_a_history_that_begins_anew() {
    follow_over_a_panic(Durability::Relaxed).await;
}

async fn follow_over_a_panic(durability: Durability) {
    let (directory, _sim) = directory(SessionConfig {
        durability,
        ..SessionConfig::default()
    });
    let session = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    say(&session, "m_1", "[[tokens 60]] tell me a story").await;
    let message = "m_1".parse().unwrap();
    let mut turn = TurnReader::attach(&directory, &session, &ann(), &message, 1)
        .await
        .unwrap();
    let (mut verifier, mut text, mut runs) = (kronos_protocol::Verifier::new(), String::new(), 0);
    while !turn.ended() {
        let next = tokio::time::timeout(Duration::from_secs(20), turn.next()).await;
        for entry in next.expect("in time").unwrap() {
            verifier.accept(&entry.event).expect("what a client takes");
            match &entry.event {
                Event::RunStarted(_) => {
                    runs += 1;
                    text.clear();
                }
                Event::TextMessageContent(content) => text.push_str(&content.delta),
                _ => {}
            }
        }
        if runs == 1 && text.len() > 20 {
            assert_eq!(session.addr().send(Bomb).await, Err(MailboxError::Closed));
            text.clear();
        }
    }
    assert_eq!(runs, 2, "{durability:?}");
    let Ok(SessionReply::View(view)) = ask(&session, &ann(), SessionCommand::View(Page::last(1))).await else {
        panic!("a view");
    };
    let (_, kronos_protocol::Message::Assistant(answer)) = &view.messages[0] else {
        panic!("an answer");
    };
    assert_eq!(answer.content.as_deref(), Some(text.as_str()), "{durability:?}");
}

#[actix::test]
async fn a_deleted_conversation_is_gone_for_its_readers_and_from_the_store() {
    let store = StoreConfig {
        backend: StoreBackend::Memory,
        ..StoreConfig::default()
    };
    let store = StoreService::start(service::open(&store).unwrap(), &store, Clock::default()).unwrap();
    let (directory, _sim) = directory_over(SessionConfig::default(), store.clone());
    let session = directory
        .create(&ann(), None, SessionSettings::default())
        .await
        .unwrap();
    let mut reader = SessionReader::attach(&directory, &session, &ann(), 0).await.unwrap();
    say(&session, "m_1", "[[tokens 200]] tell me a story").await;
    let busy = ask(&session, &ann(), SessionCommand::Delete { unless_busy: true }).await;
    assert_eq!(busy.unwrap_err().code, ErrorCode::Busy);
    let done = ask(&session, &ann(), SessionCommand::Delete { unless_busy: false }).await;
    assert!(matches!(done, Ok(SessionReply::Done)));
    assert_eq!(store.meta(session.id()).await.unwrap(), None);
    let end = loop {
        match tokio::time::timeout(Duration::from_secs(10), reader.next())
            .await
            .unwrap()
        {
            Ok(_) => {}
            Err(error) => break error.code,
        }
    };
    assert_eq!(end, ErrorCode::NotFound);
    let found = loop {
        // The actor that deleted it may just be leaving: then it is asked for again, as every caller does.
        let again = directory.resolve(session.id()).await.unwrap();
        match ask(&again, &ann(), SessionCommand::View(Page::last(100))).await {
            Err(error) if error.closed => {}
            found => break found,
        }
    };
    assert_eq!(found.unwrap_err().code, ErrorCode::NotFound);
    let feed = directory.feed(&ann().user).await.unwrap();
    let refused = ask(&feed, &ann(), SessionCommand::Delete { unless_busy: false }).await;
    assert_eq!(refused.unwrap_err().code, ErrorCode::Unsupported, "a feed stays");
}

#[actix::test]
async fn retention_keeps_the_newest_of_each_user_and_what_is_busy() {
    let store = StoreConfig {
        backend: StoreBackend::Memory,
        ..StoreConfig::default()
    };
    let clock = Clock::default();
    let store = StoreService::start(service::open(&store).unwrap(), &store, clock.clone()).unwrap();
    let (directory, _sim) = directory_over(SessionConfig::default(), store.clone());
    let mut made = Vec::new();
    for turn in 0..4 {
        let session = directory
            .create(&ann(), None, SessionSettings::default())
            .await
            .unwrap();
        let mut reader = SessionReader::attach(&directory, &session, &ann(), 0).await.unwrap();
        // The oldest is still at work.
        let text = if turn == 0 {
            "[[tokens 5000]] a novel"
        } else {
            "[[tokens 3]] a word"
        };
        say(&session, "m_1", text).await;
        if turn > 0 {
            until(&mut reader, &mut Vec::new(), |event| {
                matches!(event, Event::RunFinished(_))
            })
            .await;
        }
        made.push(session.id().clone());
    }
    let config = RetentionConfig {
        sessions_per_user: Some(2),
        ..RetentionConfig::default()
    };
    let listed = async || {
        let page = store.list(None, None, 10).await.unwrap();
        let mut ids: Vec<_> = page.into_iter().map(|meta| meta.session).collect();
        ids.sort();
        ids
    };
    let settled = async {
        while listed().await.len() < 4 {
            actix::clock::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), settled).await.unwrap();
    let deleted = retention::sweep(&config, &directory, &store, &clock).await.unwrap();
    assert_eq!(deleted, 1, "one is busy and left for later");
    assert_eq!(listed().await, [&made[0], &made[2], &made[3]].map(Clone::clone));
    let off = RetentionConfig::default();
    assert_eq!(retention::sweep(&off, &directory, &store, &clock).await.unwrap(), 0);
}
