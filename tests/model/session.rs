//! The session's core and log against the promises: the fold of the log is the state, seqs have no gaps, a message is
//! taken once, every reader sees the same text, and after a crash nothing that was durable is lost.

use kronos_actors::{
    config::SessionConfig,
    gemini::{Failed, Finished, Progress, Usage},
    session::{
        core::{self, Answer, Decision, Effect, Env, Input, Running},
        log::{Log, Read, Stored},
        message::Submit,
        state::{Body, State},
        view,
    },
    store::Record,
};
use kronos_protocol::{
    client::{RunOptions, SendMode},
    entry::LogEntry,
    error::{ErrorCode, RunErrorCode},
    event::Event,
    ids::{MessageId, RunId, SessionId},
    message::UserContent,
    position::Seq,
    verify::Verifier,
};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Send {
        id: u8,
        mode: SendMode,
    },
    Unqueue(u8),
    Cancel,
    CancelOther,
    Delta(String),
    Thought(String),
    Retrying,
    Finish {
        truncated: bool,
    },
    Fail {
        blocked: bool,
    },
    Deadline,
    Commit,
    Pack,
    /// The process dies: what is not committed is gone.
    Crash,
    /// The process drains and comes back.
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![
        4 => Just(SendMode::Queue), 2 => Just(SendMode::Interrupt), 1 => Just(SendMode::Reject), 1 => Just(SendMode::Steer)
    ];
    prop_oneof![
        6 => (0u8..24, mode).prop_map(|(id, mode)| Step::Send { id, mode }),
        2 => (0u8..24).prop_map(Step::Unqueue),
        2 => Just(Step::Cancel),
        1 => Just(Step::CancelOther),
        12 => "[a-zäß日]{1,9} ?".prop_map(Step::Delta),
        1 => prop::collection::vec("[a-z ]{900,1000}", 5..9).prop_map(|texts| Step::Delta(texts.concat())),
        2 => "[a-z]{1,5}".prop_map(Step::Thought),
        1 => Just(Step::Retrying),
        4 => any::<bool>().prop_map(|truncated| Step::Finish { truncated }),
        2 => any::<bool>().prop_map(|blocked| Step::Fail { blocked }),
        1 => Just(Step::Deadline),
        6 => Just(Step::Commit),
        2 => Just(Step::Pack),
        2 => Just(Step::Crash),
        1 => Just(Step::Drain),
    ]
}

/// A session without actor, clock and disk.
struct World {
    config: SessionConfig,
    thread: SessionId,
    state: State,
    running: Running,
    log: Log,
    /// What is durable.
    disk: Vec<Record>,
    flight: Vec<Record>,
    packed: Seq,
    runs: u32,
    now: i64,
    draining: bool,
    generating: Option<RunId>,
    acked: Vec<(MessageId, Seq)>,
}

impl World {
    fn new() -> Self {
        let config = SessionConfig {
            inbox_messages: 3,
            tail_bytes: 2000,
            ..SessionConfig::default()
        };
        Self {
            log: Log::new(config.tail_bytes, config.durability),
            config,
            thread: SessionId::try_from("s").unwrap(),
            state: State::default(),
            running: Running::default(),
            disk: Vec::new(),
            flight: Vec::new(),
            packed: 0,
            runs: 0,
            now: 1,
            draining: false,
            generating: None,
            acked: Vec::new(),
        }
    }

    fn decide(&mut self, input: Input) -> Decision {
        self.now += 1;
        let runs = &mut self.runs;
        let mut fresh_run = || {
            *runs += 1;
            RunId::try_from(format!("r_{runs}")).unwrap()
        };
        let mut env = Env {
            now_ms: self.now,
            config: &self.config,
            thread: &self.thread,
            fresh_run: &mut fresh_run,
            draining: self.draining,
        };
        core::decide(&self.state, &self.running, input, &mut env)
    }

    fn drive(&mut self, input: Input) -> Option<Result<Answer, ErrorCode>> {
        let submitted = match &input {
            Input::Submit(submit) => Some(submit.id.clone()),
            _ => None,
        };
        let Decision {
            events,
            effects,
            answer,
        } = self.decide(input);
        let mut seqs = Vec::new();
        for stored in events {
            let seq = self.log.seq_for(&stored);
            self.state
                .apply(seq, &stored)
                .expect("the core decides only what may follow");
            self.log.push(stored);
            seqs.push(seq);
        }
        for effect in effects {
            match effect {
                Effect::Stop(run) => assert_eq!(self.generating.take(), Some(run), "only what runs is stopped"),
                Effect::Generate(generate) => {
                    let last = generate.contents.last().expect("the model is asked something");
                    assert_eq!(
                        last.role,
                        kronos_actors::gemini::Role::User,
                        "the last turn is the user's"
                    );
                    for pair in generate.contents.windows(2) {
                        assert_ne!(pair[0].role, pair[1].role, "turns alternate");
                    }
                    self.generating = Some(generate.run);
                }
            }
        }
        if self.state.run.is_none() {
            self.generating = None;
        }
        let answer = answer.map(|answer| answer.map_err(|error| error.code));
        if let (Some(id), Some(Ok(answer))) = (submitted, &answer)
            && let Some(seq) = core::seq_of(answer, &seqs)
        {
            self.acked.push((id, seq));
        }
        if self.state.run.is_none() && !self.state.queue.is_empty() && !self.draining {
            self.drive(Input::Next);
        }
        answer
    }

    fn commit(&mut self) {
        self.flight = self.log.take_batch().unwrap();
        self.disk.append(&mut self.flight);
        self.log.commit(self.log.last());
    }

    fn pack(&mut self) {
        self.commit();
        let unpacked = self.log.unpacked().unwrap();
        let mut covered = self.packed;
        for record in &unpacked {
            assert_eq!(
                record.first(),
                covered + 1,
                "memory keeps what is not packed, whatever its budget"
            );
            covered = record.seq;
        }
        assert_eq!(covered, self.log.committed());
        let bytes: usize = unpacked.iter().map(|record| record.payload.len()).sum();
        assert!(self.log.unpacked_bytes() >= bytes, "merging makes it smaller");
        if covered > self.packed {
            let keep = self.disk.partition_point(|record| record.seq <= self.packed);
            self.disk.truncate(keep);
            self.disk.extend(unpacked);
            self.packed = covered;
            self.log.mark_packed(covered);
            assert_eq!(self.log.unpacked_bytes(), 0);
        }
    }

    fn crash(&mut self) {
        let durable = self.log.committed();
        self.acked.retain(|(_, seq)| *seq <= durable);
        self.state = State::default();
        self.running = Running::default();
        self.log = Log::new(self.config.tail_bytes, self.config.durability);
        self.generating = None;
        for record in self.disk.clone() {
            let stored = Stored::decode(&record).unwrap();
            self.state.apply(record.seq, &stored).expect("what was appended folds");
            self.log.restore(record, stored, self.packed);
        }
        self.draining = false;
        self.drive(Input::Recovered);
        if self.state.run.is_none() && !self.state.queue.is_empty() {
            self.drive(Input::Next);
        }
    }

    fn progress(&mut self, progress: Progress) {
        if let Some(run) = self.generating.clone() {
            self.drive(Input::Progress(run, progress));
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Send { id, mode } => self.send(id, mode),
            Step::Unqueue(id) => drop(self.drive(Input::Unqueue(message_id(id)))),
            Step::Cancel => drop(self.drive(Input::Cancel(None))),
            Step::CancelOther => {
                let answer = self.drive(Input::Cancel(Some(RunId::try_from("r_none").unwrap())));
                assert_eq!(answer, Some(Err(ErrorCode::Conflict)));
            }
            Step::Delta(text) => self.progress(Progress::Delta { text, usage: None }),
            Step::Thought(text) => self.progress(Progress::Thought { text }),
            Step::Retrying => self.progress(Progress::Retrying {
                attempt: 2,
                code: RunErrorCode::UpstreamUnavailable,
                after_ms: 10,
            }),
            Step::Finish { truncated } => self.progress(Progress::Finished(Finished {
                finish_reason: "STOP".to_owned(),
                truncated,
                usage: Usage::default(),
                parts: Vec::new(),
                model: "m".to_owned(),
                response_id: None,
            })),
            Step::Fail { blocked } => self.progress(Progress::Failed(Failed {
                code: if blocked {
                    RunErrorCode::Blocked
                } else {
                    RunErrorCode::UpstreamError
                },
                message: "no".to_owned(),
                retryable: !blocked,
                after_ms: None,
                upstream_status: None,
                reason: None,
                usage: Usage::default(),
                attempts: 1,
            })),
            Step::Deadline => {
                if let Some(run) = self.generating.clone() {
                    self.drive(Input::Deadline(run));
                }
            }
            Step::Commit => self.commit(),
            Step::Pack => self.pack(),
            Step::Crash => self.crash(),
            Step::Drain => {
                self.draining = true;
                self.drive(Input::Interrupt);
                assert!(self.state.run.is_none(), "a drain leaves no run open");
                self.commit();
                self.crash();
            }
        }
    }

    fn send(&mut self, id: u8, mode: SendMode) {
        let id = message_id(id);
        let known = self.state.sends.get(&id).cloned();
        let busy = self.state.run.is_some();
        let full = self.state.queue.len() >= self.config.inbox_messages;
        let before = self.log.last();
        let content = UserContent::Text(format!("text of {id}"));
        let submit = Submit {
            id: id.clone(),
            content,
            mode,
            run: RunOptions::default(),
        };
        let answer = self.drive(Input::Submit(submit)).expect("a send is answered");
        match (known, busy, mode) {
            (Some(sent), ..) => {
                assert!(matches!(answer, Ok(Answer::Duplicate { seq, .. }) if seq == sent.seq));
                assert_eq!(self.log.last(), before, "a duplicate changes nothing");
            }
            (None, false, _) | (None, true, SendMode::Interrupt) => {
                assert!(matches!(
                    answer,
                    Ok(Answer::Sent {
                        run: Some(_),
                        queued: None,
                        ..
                    })
                ));
            }
            (None, true, SendMode::Queue) if full => assert_eq!(answer, Err(ErrorCode::Overloaded)),
            (None, true, SendMode::Queue) => {
                assert!(matches!(
                    answer,
                    Ok(Answer::Sent {
                        run: None,
                        queued: Some(_),
                        ..
                    })
                ));
            }
            (None, true, SendMode::Reject) => assert_eq!(answer, Err(ErrorCode::Busy)),
            (None, true, SendMode::Steer) => assert_eq!(answer, Err(ErrorCode::Unsupported)),
        }
    }

    /// Everything that must hold at any time.
    fn check(&mut self) {
        assert_eq!(
            self.state.run.as_ref().map(|run| &run.id),
            self.generating.as_ref(),
            "a run is active iff it runs"
        );
        for (id, _) in &self.acked {
            let removed = self.state.sends.get(id).is_some_and(|sent| sent.removed);
            assert!(
                removed || self.state.user_content(id).is_some(),
                "an acked message is there"
            );
        }
        let ids: Vec<_> = self.state.messages.iter().map(|said| &said.id).collect();
        for queued in &self.state.queue {
            assert!(
                !ids.contains(&&queued.id),
                "a message that was started does not wait any more"
            );
        }
        let mut unique = ids.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(ids.len(), unique.len(), "message ids are unique");
    }

    /// The log, read from the start and from every cursor, with batches of any size, is the same conversation.
    fn check_readers(&mut self, max_bytes: usize) {
        self.commit();
        let full = self.read_all(0, usize::MAX);
        let mut verifier = Verifier::default();
        for entry in full.iter().filter(|entry| entry.run.is_some()) {
            verifier
                .accept(&entry.event)
                .expect("readers get what a verifier accepts");
        }
        let small = self.read_all(0, max_bytes);
        assert_eq!(text_of(&full), text_of(&small));
        let last = self.log.last();
        for after in [last / 3, last / 2, last.saturating_sub(1)] {
            let mut seen = after;
            for entry in self.read_all(after, max_bytes) {
                assert_eq!(entry.first_seq(), seen + 1, "no gap and no repetition");
                seen = entry.seq;
            }
            assert_eq!(seen, last);
        }
        let refolded = self.refold();
        assert_eq!(refolded.messages, self.state.messages);
        assert_eq!(refolded.queue, self.state.queue);
        assert_eq!(refolded.run, self.state.run);
        assert_eq!(refolded.sends, self.state.sends);
        assert_eq!(refolded.interrupted, self.state.interrupted);
        let mut verifier = Verifier::default();
        let snapshot = view::snapshot(&self.state, &self.thread, last, self.now, 1_000_000);
        for entry in snapshot.expect("small enough") {
            verifier
                .accept(&entry.event)
                .expect("a snapshot is a valid start of a stream");
        }
    }

    fn refold(&self) -> State {
        let mut state = State::default();
        for record in &self.disk {
            state.apply(record.seq, &Stored::decode(record).unwrap()).unwrap();
        }
        state
    }

    fn read_all(&self, mut after: Seq, max_bytes: usize) -> Vec<LogEntry> {
        let mut all = Vec::new();
        loop {
            let read = match self.log.read(after, max_bytes) {
                Read::Behind => {
                    let from = self.disk.partition_point(|record| record.seq <= after);
                    let committed = self.log.committed();
                    kronos_actors::session::log::read_records(&self.disk[from..], after, committed, max_bytes).unwrap()
                }
                read => read,
            };
            match read {
                Read::UpToDate => return all,
                Read::Behind => unreachable!(),
                Read::Entries { upto, entries } => {
                    assert!(upto > after, "a reader makes progress");
                    all.extend(entries);
                    after = upto;
                }
            }
        }
    }
}

fn message_id(id: u8) -> MessageId {
    MessageId::try_from(format!("m_{id}")).unwrap()
}

fn text_of(entries: &[LogEntry]) -> Vec<(MessageId, String)> {
    let mut texts: Vec<(MessageId, String)> = Vec::new();
    for entry in entries {
        match &entry.event {
            Event::TextMessageStart(start) => texts.push((start.message_id.clone(), String::new())),
            Event::TextMessageContent(content) => {
                let text = texts
                    .iter_mut()
                    .find(|(id, _)| *id == content.message_id)
                    .expect("started before");
                text.1.push_str(&content.delta);
            }
            _ => {}
        }
    }
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, max_shrink_iters: 4000, ..ProptestConfig::default() })]

    #[test]
    fn a_session_keeps_its_promises_whatever_comes(steps in prop::collection::vec(step(), 1..120), max in 1usize..4000) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
            world.check();
        }
        world.check_readers(max);
    }

    #[test]
    fn after_a_crash_the_durable_text_is_still_there(deltas in prop::collection::vec("[a-z]{1,5}", 1..40), cut in 0usize..40) {
        let mut world = World::new();
        world.take(Step::Send { id: 1, mode: SendMode::Queue });
        let mut durable = String::new();
        for (at, delta) in deltas.iter().enumerate() {
            world.take(Step::Delta(delta.clone()));
            if at <= cut {
                world.commit();
                durable.push_str(delta);
            }
        }
        world.crash();
        let first = world.state.messages.iter().find_map(|said| match &said.body {
            Body::Assistant { text, .. } => Some(text.clone()),
            Body::User(_) => None,
        });
        prop_assert_eq!(first.unwrap_or_default(), durable);
        prop_assert!(world.state.run.is_some(), "the turn is tried again");
    }
}

#[test]
fn a_turn_is_tried_again_at_most_max_run_attempts_times() {
    let mut world = World::new();
    world.take(Step::Send {
        id: 1,
        mode: SendMode::Queue,
    });
    world.commit();
    for attempt in 2..=world.config.max_run_attempts {
        world.crash();
        world.commit();
        assert_eq!(world.state.run.as_ref().map(|run| run.attempt), Some(attempt));
    }
    world.crash();
    world.commit();
    assert_eq!(world.state.run, None, "the last attempt stays interrupted");
    assert!(!world.state.has_work(world.config.max_run_attempts));
}

#[test]
fn the_model_is_not_asked_again_about_a_blocked_message() {
    let mut world = World::new();
    world.take(Step::Send {
        id: 1,
        mode: SendMode::Queue,
    });
    world.take(Step::Fail { blocked: true });
    world.take(Step::Send {
        id: 2,
        mode: SendMode::Queue,
    });
    let contents = kronos_actors::session::context::contents(&world.state, None);
    assert_eq!(contents.len(), 1);
    assert_eq!(contents[0].parts, vec![serde_json::json!({"text": "text of m_2"})]);
}

#[test]
fn an_interrupting_message_goes_before_those_that_wait() {
    let mut world = World::new();
    world.take(Step::Send {
        id: 1,
        mode: SendMode::Queue,
    });
    world.take(Step::Send {
        id: 2,
        mode: SendMode::Queue,
    });
    world.take(Step::Send {
        id: 3,
        mode: SendMode::Interrupt,
    });
    assert_eq!(world.state.run.as_ref().map(|run| run.message.as_str()), Some("m_3"));
    world.take(Step::Finish { truncated: false });
    assert_eq!(world.state.run.as_ref().map(|run| run.message.as_str()), Some("m_2"));
}

#[test]
fn a_message_id_cannot_be_used_for_another_text() {
    let mut world = World::new();
    world.take(Step::Send {
        id: 1,
        mode: SendMode::Queue,
    });
    let submit = Submit {
        id: message_id(1),
        content: UserContent::Text("something else".to_owned()),
        mode: SendMode::Queue,
        run: RunOptions::default(),
    };
    assert_eq!(world.drive(Input::Submit(submit)), Some(Err(ErrorCode::Conflict)));
}

#[test]
fn a_message_may_have_exactly_as_many_characters_as_the_bound() {
    for (extra, taken) in [(-1i64, true), (0, true), (1, false)] {
        let mut world = World::new();
        let chars = usize::try_from(i64::try_from(world.config.message_chars).unwrap() + extra).unwrap();
        let submit = Submit {
            id: message_id(1),
            content: UserContent::Text("ä".repeat(chars)),
            mode: SendMode::Queue,
            run: RunOptions::default(),
        };
        let answer = world.drive(Input::Submit(submit)).unwrap();
        assert_eq!(answer.is_ok(), taken);
        if !taken {
            assert_eq!(answer, Err(ErrorCode::TooLarge));
        }
    }
}

#[test]
fn a_snapshot_holds_the_newest_messages_that_fit_and_none_when_none_does() {
    let mut world = World::new();
    for id in 1..=5 {
        world.take(Step::Send {
            id,
            mode: SendMode::Queue,
        });
        world.take(Step::Delta("x".repeat(1000)));
        world.take(Step::Finish { truncated: false });
    }
    let shown = |max_bytes| {
        view::snapshot(&world.state, &world.thread, 1, 1, max_bytes).map(|entries| match &entries[1].event {
            Event::MessagesSnapshot(snapshot) => (snapshot.messages.len(), snapshot.metadata.is_some()),
            other => panic!("{other:?}"),
        })
    };
    assert_eq!(shown(100_000), Some((10, false)));
    let (fit, truncated) = shown(2500).expect("some fit");
    assert!((2..10).contains(&fit) && truncated);
    assert_eq!(shown(900), None);
}
