//! What the session's actor does around the pure core, without actix: one flush in the air, answers that wait for their
//! commit, calls that leave when their intents are durable, a fold after every failure. It follows `Session::{drive, perform,
//! execute_due, flush, committed, commit_failed, refold}` line by line; what the core decides, the state folds and the log
//! keeps is the real thing.

use std::collections::{BTreeSet, VecDeque};

use kronos_actors::{
    config::{Durability, SessionConfig},
    session::{
        TOOL_RESULT,
        core::{self, Answer, Decision, Effect, Env, Execute, Generate, Input, Running},
        log::{Log, Stored},
        message::SessionError,
        result_key,
        state::State,
    },
    store::{
        Append, DocumentWrite, Expect, Pack, Request, SessionMeta, SessionStore, StoredSession, memory::MemoryStore,
    },
    tools::Offer,
};
use kronos_protocol::{
    error::ErrorCode,
    event::Event,
    ids::{EpochId, InterruptId, MessageId, RunId, SessionId, UserId},
    position::Seq,
};

/// Names an answer that is awaited.
pub(crate) type Token = u64;

/// What a session answers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reply {
    Done,
    Sent {
        seq: Seq,
        run: Option<RunId>,
        queued: Option<u32>,
        duplicate: bool,
    },
    Cancelled(Option<RunId>),
    Resumed {
        run: Option<RunId>,
        open: Vec<InterruptId>,
    },
}

/// What leaves a session.
#[derive(Debug)]
pub(crate) enum Out {
    Reply(Token, Result<Reply, ErrorCode>),
    /// For the store; its end comes back with [`Glue::settled`].
    Submit(Box<Request>),
    Generate(Box<Generate>),
    /// A call, whose intent is durable.
    Execute(Box<Execute>),
}

/// What is on its way for the active run and comes back with [`Glue::arrives`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pending {
    Offer,
    Call(String),
    Link(String),
    Summary(MessageId),
}

struct Deferred {
    upto: Seq,
    execute: Execute,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    upto: Seq,
    packed: Option<Seq>,
    unfinished: bool,
}

struct Waiting {
    upto: Seq,
    token: Option<Token>,
    reply: Reply,
}

/// One session: its core and log, and the part of the actor that decides about order.
pub(crate) struct Glue {
    pub(crate) config: SessionConfig,
    pub(crate) id: SessionId,
    pub(crate) state: State,
    pub(crate) log: Log,
    pub(crate) generating: Option<RunId>,
    /// What else is on its way for the active run.
    pub(crate) pending: BTreeSet<Pending>,
    /// Tools are offered at once, and there are none.
    pub(crate) without_tools: bool,
    /// Why the last command was refused.
    pub(crate) refused: Option<SessionError>,
    pub(crate) draining: bool,
    /// Its log has been folded.
    pub(crate) live: bool,
    pub(crate) now: i64,
    /// Identity of its history: the number of times that history was lost, and 1.
    pub(crate) epoch: u32,
    /// A flush waits for its timer: text that was shown for more of it, anything for room in the store.
    pub(crate) flush_later: bool,
    /// The store takes more.
    pub(crate) room: bool,
    /// What the core decided, in order, to be compared.
    pub(crate) appended: Vec<Stored>,
    pub(crate) out: VecDeque<Out>,
    meta: SessionMeta,
    running: Running,
    deferred: Vec<Deferred>,
    documents: Vec<DocumentWrite>,
    in_flight: Option<InFlight>,
    waiting: Vec<Waiting>,
    exists: bool,
    meta_due: bool,
    pack_due: bool,
    flush_due: bool,
    marked_unfinished: bool,
    runs: u32,
}

impl Glue {
    pub(crate) fn new(id: &str, config: SessionConfig) -> Self {
        let id = SessionId::try_from(id).unwrap();
        Self {
            log: Log::new(config.tail_bytes, config.durability),
            meta: SessionMeta {
                session: id.clone(),
                owner: UserId::try_from("ann").unwrap(),
                epoch: EpochId::try_from("e_1").unwrap(),
                title: None,
                settings: "{}".to_owned(),
                listed: true,
                created_at_ms: 1,
                updated_at_ms: 1,
                message_count: 0,
                preview: None,
                relaxed_run: false,
            },
            config,
            id,
            state: State::default(),
            generating: None,
            pending: BTreeSet::new(),
            without_tools: true,
            refused: None,
            draining: false,
            live: false,
            now: 1,
            epoch: 1,
            flush_later: false,
            room: true,
            appended: Vec::new(),
            out: VecDeque::new(),
            running: Running::default(),
            deferred: Vec::new(),
            documents: Vec::new(),
            in_flight: None,
            waiting: Vec::new(),
            exists: false,
            meta_due: false,
            pack_due: false,
            flush_due: false,
            marked_unfinished: false,
            runs: 0,
        }
    }

    /// `started`: folds what the store has; a session that is not there is a new one.
    pub(crate) fn load(&mut self, store: &MemoryStore) {
        match store.load(&self.id).unwrap() {
            Some(stored) => self.fold(stored),
            None => self.meta_due = true,
        }
        self.live = true;
        let max_attempts = self.config.max_run_attempts;
        if self.state.run.is_some() || self.state.retriable(max_attempts).is_some() || self.state.goes_on() {
            self.drive(Input::Recovered, None);
        } else if !self.state.queue.is_empty() && !self.draining {
            self.drive(Input::Next, None);
        }
        self.flush();
    }

    fn fold(&mut self, stored: StoredSession) {
        for record in stored.records {
            let event = Stored::decode(&record).expect("what was stored can be read");
            self.state
                .apply(record.seq, &event)
                .expect("what was stored may follow");
            self.log.restore(record, event, stored.packed_upto);
        }
        self.meta = stored.meta;
        if self.meta.relaxed_run && self.state.run.is_some() {
            // Readers may have seen text that is lost now: their cursors are void.
            self.epoch += 1;
            self.meta.epoch = EpochId::try_from(format!("e_{}", self.epoch)).unwrap();
            self.meta_due = true;
        }
        self.exists = true;
        self.marked_unfinished = stored.unfinished;
    }

    /// `reset`: nothing of memory is left; who waits for an answer gets none, or `failure`.
    pub(crate) fn reset(&mut self, failure: Option<ErrorCode>) {
        self.live = false;
        self.stop_work();
        self.documents.clear();
        self.in_flight = None;
        self.state = State::default();
        self.log = Log::new(self.config.tail_bytes, self.config.durability);
        self.running = Running::default();
        self.exists = false;
        self.pack_due = true;
        self.meta_due = false;
        self.flush_later = false;
        let waiting = std::mem::take(&mut self.waiting);
        if let Some(failure) = failure {
            for token in waiting.into_iter().filter_map(|waiting| waiting.token) {
                self.out.push_back(Out::Reply(token, Err(failure)));
            }
        }
    }

    fn decide(&mut self, input: Input) -> Decision {
        self.now += 1;
        self.running.observe(&self.state, &input);
        let (runs, id) = (&mut self.runs, &self.id);
        let mut fresh_run = || {
            *runs += 1;
            run_id(id, *runs)
        };
        let mut env = Env {
            now_ms: self.now,
            config: &self.config,
            thread: &self.id,
            settings: &self.state.settings,
            fresh_run: &mut fresh_run,
            draining: self.draining,
        };
        core::decide(&self.state, &self.running, input, &mut env)
    }

    /// `stop_work`: nothing is done for a run any more.
    fn stop_work(&mut self) {
        self.generating = None;
        self.pending.clear();
        self.deferred.clear();
    }

    /// Whether something is on its way that will go on with the active run.
    pub(crate) fn is_busy(&self) -> bool {
        self.generating.is_some() || !self.pending.is_empty() || !self.deferred.is_empty()
    }

    /// `drive`: decides, appends, performs; the answer is given when its events are durable.
    pub(crate) fn drive(&mut self, input: Input, token: Option<Token>) {
        assert!(self.live, "nothing reaches a session before its log is folded");
        let Decision {
            events,
            documents,
            reached: _,
            effects,
            answer,
        } = self.decide(input);
        let mut seqs = Vec::new();
        let started = events.iter().any(|stored| matches!(stored.event, Event::RunStarted(_)));
        for stored in events {
            let ends_run = matches!(stored.event, Event::RunFinished(_) | Event::RunError(_));
            let seq = self.log.seq_for(&stored);
            self.state
                .apply(seq, &stored)
                .expect("the core decides only what may follow");
            self.appended.push(stored.clone());
            if matches!(stored.event, Event::RunStarted(_)) {
                self.running = Running::default();
            }
            self.log.push(stored);
            if ends_run {
                self.stop_work();
            }
            if self.state.run.is_none() {
                self.pack_due = true;
                self.meta_due = true;
            }
            seqs.push(seq);
        }
        for (call, whole) in documents {
            self.documents.push(DocumentWrite {
                family: TOOL_RESULT,
                key: result_key(&self.id, &call),
                value: Some(whole),
                expect: Expect::Any,
            });
        }
        if started && self.config.durability == Durability::Relaxed {
            self.meta_due = true;
        }
        if let Some(answer) = answer {
            self.refused = answer.as_ref().err().cloned();
            self.answer(answer.map_err(|error| error.code), &seqs, token);
        }
        let upto = self.log.last();
        for effect in effects {
            self.perform(effect, upto);
        }
        if self.state.run.is_none() && !self.state.queue.is_empty() && !self.draining {
            let first = self.state.retriable(self.config.max_run_attempts).is_some()
                || self.state.goes_on()
                || self.state.waits();
            if !first {
                self.drive(Input::Next, None);
            }
        }
        self.flush();
    }

    /// An answer from outside: taken when it is awaited.
    pub(crate) fn arrives(&mut self, pending: &Pending, input: Input) {
        if self.pending.remove(pending) {
            self.drive(input, None);
        }
    }

    fn awaits(&mut self, pending: Pending) {
        assert!(self.pending.insert(pending.clone()), "asked for twice: {pending:?}");
    }

    /// `execute_due`: calls whose intents are durable leave.
    fn execute_due(&mut self) {
        let committed = self.log.committed();
        for deferred in std::mem::take(&mut self.deferred) {
            if deferred.upto > committed {
                self.deferred.push(deferred);
            } else if self.is_active(&deferred.execute.run) {
                self.awaits(Pending::Call(deferred.execute.intent.call.clone()));
                self.out.push_back(Out::Execute(Box::new(deferred.execute)));
            }
        }
    }

    fn is_active(&self, run: &RunId) -> bool {
        self.state.run.as_ref().is_some_and(|active| active.id == *run)
    }

    fn perform(&mut self, effect: Effect, upto: Seq) {
        match effect {
            Effect::Stop(run) => {
                // The work of a run ends with it; what a new one has begun stays.
                assert!(!self.is_active(&run), "a run is stopped when it is over");
                self.deferred.retain(|deferred| deferred.execute.run != run);
            }
            Effect::Continue(run) => self.drive(Input::Continue(run), None),
            Effect::Offer { run, .. } if self.without_tools => {
                self.drive(Input::Offered(run, Offer::default()), None);
            }
            Effect::Offer { .. } => self.awaits(Pending::Offer),
            Effect::Execute(execute) => self.deferred.push(Deferred {
                upto,
                execute: *execute,
            }),
            // One that is being made serves all calls that need it.
            Effect::Link { toolkit, .. } => {
                self.pending.insert(Pending::Link(toolkit));
            }
            Effect::Summarize { from, .. } => self.awaits(Pending::Summary(from)),
            Effect::Generate(generate) => {
                assert_eq!(self.generating, None, "the model is asked while it answers");
                self.running.asks();
                self.generating = Some(generate.run.clone());
                self.out.push_back(Out::Generate(generate));
            }
        }
    }

    /// `GenerationEvent`: the model is done with the last of them.
    pub(crate) fn generated(&mut self, progress: kronos_actors::gemini::Progress, token: Option<Token>) {
        use kronos_actors::gemini::Progress;
        let Some(run) = self.generating.clone() else { return };
        if matches!(progress, Progress::Finished(_) | Progress::Failed(_)) {
            self.generating = None;
        }
        self.drive(Input::Progress(run, progress), token);
    }

    fn answer(&mut self, answer: Result<Answer, ErrorCode>, seqs: &[Seq], token: Option<Token>) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(code) => {
                if let Some(token) = token {
                    self.out.push_back(Out::Reply(token, Err(code)));
                }
                return;
            }
        };
        let seq = core::seq_of(&answer, seqs);
        let upto = seqs.last().copied().or(seq).unwrap_or(0);
        let reply = match answer {
            Answer::Done => Reply::Done,
            Answer::Sent { run, queued, .. } => Reply::Sent {
                seq: seq.unwrap_or(upto),
                run,
                queued,
                duplicate: false,
            },
            Answer::Duplicate { seq, run, queued } => Reply::Sent {
                seq,
                run,
                queued,
                duplicate: true,
            },
            Answer::Cancelled { run, .. } => Reply::Cancelled(run),
            Answer::Resumed { run, open, .. } => Reply::Resumed { run, open },
            Answer::Configured => Reply::Done,
        };
        self.reply_when_durable(upto, token, reply);
    }

    pub(crate) fn reply_when_durable(&mut self, upto: Seq, token: Option<Token>, reply: Reply) {
        if self.exists && upto <= self.log.committed() {
            self.out.extend(token.map(|token| Out::Reply(token, Ok(reply))));
        } else {
            self.waiting.push(Waiting { upto, token, reply });
        }
    }

    /// Everything that is not packed goes with the next flush.
    pub(crate) fn pack(&mut self) {
        self.pack_due = true;
        self.flush();
    }

    /// The time is over for which a flush waits.
    pub(crate) fn flush_timer(&mut self) {
        if std::mem::take(&mut self.flush_later) {
            self.flush_due = true;
            self.flush();
        }
    }

    fn flush(&mut self) {
        if self.in_flight.is_some() || !self.live {
            return;
        }
        let unfinished = self.state.has_work(self.config.max_run_attempts);
        let mark = (unfinished != self.marked_unfinished).then_some(unfinished);
        let overfull = self.log.unpacked_bytes() > self.config.tail_bytes;
        let idle = !self.log.has_pending() && !self.meta_due && mark.is_none();
        if idle && !(self.pack_due || overfull) {
            return;
        }
        let urgent = self.meta_due
            || mark.is_some()
            || self.pack_due
            || overfull
            || !self.waiting.is_empty()
            || !self.deferred.is_empty()
            || std::mem::take(&mut self.flush_due);
        if !urgent && self.log.pending_is_shown() {
            self.flush_later = true;
            return;
        }
        if !self.room {
            self.flush_due = true;
            self.flush_later = true;
            return;
        }
        let records = self.log.take_batch().unwrap();
        let upto = self.log.last();
        let mut request = Request {
            unfinished: mark,
            ..Request::default()
        };
        if !records.is_empty() {
            request.append = Some(Append {
                session: self.id.clone(),
                records,
            });
        }
        let mut packed = None;
        if self.pack_due || overfull {
            let records = self.log.unpacked().unwrap();
            packed = records.last().map(|record| record.seq);
            if !records.is_empty() {
                request.pack = Some(Pack {
                    session: self.id.clone(),
                    records,
                });
            }
        }
        self.pack_due = false;
        if std::mem::take(&mut self.meta_due) || mark.is_some() {
            self.meta.relaxed_run = self.config.durability == Durability::Relaxed && self.state.run.is_some();
            request.meta = Some(self.meta.clone());
        }
        request.documents = std::mem::take(&mut self.documents);
        if request == Request::default() {
            return;
        }
        self.in_flight = Some(InFlight {
            upto,
            packed,
            unfinished,
        });
        self.out.push_back(Out::Submit(Box::new(request)));
    }

    /// `Settled`: what was submitted last is durable, or it is not and the session folds its log again.
    pub(crate) fn settled(&mut self, result: Result<(), ErrorCode>) {
        let Some(flight) = self.in_flight.take() else { return };
        match result {
            Ok(()) => self.committed(flight),
            Err(code) => self.reset(Some(code)),
        }
    }

    fn committed(&mut self, flight: InFlight) {
        self.exists = true;
        self.marked_unfinished = flight.unfinished;
        self.log.commit(flight.upto);
        if let Some(packed) = flight.packed {
            self.log.mark_packed(packed);
        }
        self.execute_due();
        let committed = self.log.committed();
        let (durable, waiting) = std::mem::take(&mut self.waiting)
            .into_iter()
            .partition(|waiting| waiting.upto <= committed);
        self.waiting = waiting;
        for Waiting { token, reply, .. } in durable {
            self.out.extend(token.map(|token| Out::Reply(token, Ok(reply))));
        }
        self.flush();
    }

    /// `is_idle`: nothing is lost when it leaves memory.
    pub(crate) fn is_idle(&self) -> bool {
        self.live
            && self.in_flight.is_none()
            && self.waiting.is_empty()
            && !self.log.has_pending()
            && self.state.run.is_none()
            && (self.state.queue.is_empty() || self.draining || self.state.waits())
    }
}

/// The id of a session's n-th run.
pub(crate) fn run_id(session: &SessionId, n: u32) -> RunId {
    RunId::try_from(format!("r_{session}_{n}")).unwrap()
}
