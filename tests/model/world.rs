//! One session with its devices, its flight to the store and the model beside it: every promise is checked where it could
//! be broken. The random test and the simulation drive it.

use std::collections::{HashMap, HashSet};

use kronos_actors::{
    config::{Durability, SessionConfig},
    gemini::{Failed, Finished, Progress, Role, Usage},
    session::{
        core::{Generate, Input},
        log::{Read, Stored, read_records},
        message::{Import, Past, Submit},
        view,
    },
    store::{Request, SessionStore, memory::MemoryStore},
};
use kronos_protocol::{
    client::{RunOptions, SendMode},
    error::{ErrorCode, RunErrorCode},
    event::TextRole,
    ids::{MessageId, RunId},
    message::UserContent,
    position::Seq,
};

use crate::{
    device::{Attach, Device, Stage},
    glue::{Glue, Out, Reply, Token},
    oracle::{self, Ask, Expected, Fact, Oracle},
};

/// What a session did to the outside, for whoever drives it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Did {
    /// A request waits for the store: [`World::take_request`].
    Submitted,
    /// The model is asked for this run.
    Generates(RunId),
    /// The answer to this message left.
    Answered(String, Result<Seq, ErrorCode>),
}

/// Bytes of messages in a snapshot: more than any case makes.
const SNAPSHOT_BYTES: usize = 64 * 1024 * 1024;
/// As the actor's `STORED_BATCH_FACTOR`.
const STORED_BATCH_FACTOR: usize = 4;

struct Flight {
    request: Request,
    written: bool,
}

/// A session without actor, clock and disk.
pub(crate) struct World {
    pub(crate) glue: Glue,
    pub(crate) oracle: Oracle,
    pub(crate) devices: Vec<Device>,
    pub(crate) did: Vec<Did>,
    flight: Option<Flight>,
    tokens: Token,
    expected: HashMap<Token, (Option<String>, Expected)>,
    /// Messages whose ack has left, with the seq it named.
    acked: HashMap<String, Seq>,
}

impl World {
    pub(crate) fn new(id: &str, devices: usize, durability: Durability) -> Self {
        let config = SessionConfig {
            durability,
            inbox_messages: 3,
            tail_bytes: 2000,
            ..SessionConfig::default()
        };
        Self {
            oracle: Oracle::new(id, config.inbox_messages, config.max_run_attempts),
            glue: Glue::new(id, config),
            devices: (0..devices).map(|_| Device::new()).collect(),
            did: Vec::new(),
            flight: None,
            tokens: 0,
            expected: HashMap::new(),
            acked: HashMap::new(),
        }
    }

    fn relaxed(&self) -> bool {
        self.glue.config.durability == Durability::Relaxed
    }

    fn expect(&mut self, message: Option<String>, expected: Expected) -> Token {
        self.tokens += 1;
        self.expected.insert(self.tokens, (message, expected));
        self.tokens
    }

    /// Asks the session and the model, and compares.
    fn ask(&mut self, message: Option<String>, input: Input, ask: Ask) -> Expected {
        let before = self.oracle.facts.len();
        let expected = self.oracle.ask(ask);
        let token = self.expect(message, expected.clone());
        self.glue.drive(input, Some(token));
        if expected == Expected::Nothing {
            self.expected.remove(&token);
        }
        self.compare(before);
        expected
    }

    /// What the core has just decided is what the model says, and what leaves the session may leave.
    fn compare(&mut self, before: usize) {
        let mut decided = Vec::new();
        for stored in self.glue.appended.drain(..) {
            oracle::add(&mut decided, Fact::of(stored.run.as_ref(), &stored.event));
        }
        assert_eq!(
            decided,
            oracle::joined(&self.oracle.facts[before..]),
            "the core decided something else than the model"
        );
        self.drain();
        let running = self.glue.state.run.as_ref().map(|run| run.id.to_string());
        assert_eq!(running, self.oracle.active(), "the active run");
        assert_eq!(
            self.glue.generating.as_ref().map(RunId::to_string),
            running,
            "a run is active iff the model is asked for it"
        );
        let queue: Vec<_> = self
            .glue
            .state
            .queue
            .iter()
            .map(|queued| queued.id.to_string())
            .collect();
        assert_eq!(queue, self.oracle.queue(), "the queue");
        assert_eq!(self.glue.state.title, self.oracle.title(), "the title");
    }

    fn drain(&mut self) {
        while let Some(out) = self.glue.out.pop_front() {
            match out {
                Out::Reply(token, reply) => self.answered(token, reply),
                Out::Submit(request) => {
                    assert!(self.flight.is_none(), "one flush of a session at a time");
                    self.oracle.hand_over();
                    self.flight = Some(Flight {
                        request: *request,
                        written: false,
                    });
                    self.did.push(Did::Submitted);
                }
                Out::Execute(execute) => panic!("there are no tools here: {execute:?}"),
                Out::Generate(generate) => {
                    check_question(&generate);
                    self.did.push(Did::Generates(generate.run));
                }
            }
        }
    }

    fn answered(&mut self, token: Token, reply: Result<Reply, ErrorCode>) {
        if let Some(device) = self
            .devices
            .iter_mut()
            .find(|device| device.stage == Stage::Asked(token))
        {
            device.stage = if reply.is_ok() { Stage::On } else { Stage::Off };
            return;
        }
        let Some((message, expected)) = self.expected.remove(&token) else {
            return;
        };
        match (&expected, &reply) {
            (Expected::Refused(code), Err(refused)) => assert_eq!(code, refused),
            // The commit failed: whatever it would have been, it did not happen.
            (_, Err(ErrorCode::Storage)) => {}
            (Expected::Done, Ok(Reply::Done)) => {}
            (Expected::Cancelled(run), Ok(Reply::Cancelled(cancelled))) => {
                assert_eq!(*run, cancelled.as_ref().map(RunId::to_string));
            }
            (
                Expected::Sent { run, queued, duplicate },
                Ok(Reply::Sent {
                    run: in_run,
                    queued: place,
                    duplicate: again,
                    ..
                }),
            ) => {
                assert_eq!(*run, in_run.as_ref().map(RunId::to_string));
                assert_eq!((queued, duplicate), (place, again));
            }
            _ => panic!("expected {expected:?}, answered {reply:?}"),
        }
        if let Some(id) = message {
            if let Ok(Reply::Sent { seq, .. }) = reply {
                self.acknowledged(&id, seq);
            }
            let result = reply.map(|reply| match reply {
                Reply::Sent { seq, .. } => seq,
                Reply::Done | Reply::Cancelled(_) | Reply::Resumed { .. } => 0,
            });
            self.did.push(Did::Answered(id, result));
        }
    }

    fn acknowledged(&mut self, id: &str, seq: Seq) {
        assert!(
            oracle::taken(self.oracle.durable_facts()).any(|taken| taken == id),
            "{id} is acked and not durable"
        );
        assert!(seq <= self.glue.log.committed(), "an ack names what is committed");
        let before = self.acked.insert(id.to_owned(), seq);
        assert!(
            before.is_none_or(|before| before == seq),
            "{id} was acked at another seq"
        );
    }

    pub(crate) fn send(&mut self, id: &str, mode: SendMode) -> Expected {
        self.submit(id, format!("text of {id}"), mode, true)
    }

    /// The same id for another text.
    pub(crate) fn send_other(&mut self, id: &str) -> Expected {
        self.submit(id, format!("another text than that of {id}"), SendMode::Queue, false)
    }

    fn submit(&mut self, id: &str, text: String, mode: SendMode, same_text: bool) -> Expected {
        // A new id has no text yet that another could differ from.
        let known = oracle::taken(&self.oracle.facts).any(|known| known == id);
        if !same_text && !known {
            return Expected::Nothing;
        }
        let submit = Submit {
            content: UserContent::Text(text),
            mode,
            ..submit_of(id)
        };
        let ask = Ask::Send {
            id: id.to_owned(),
            mode,
            same_text,
        };
        self.ask(Some(id.to_owned()), Input::Submit(submit), ask)
    }

    /// Sends what the model does not know about; the code with which it is refused.
    pub(crate) fn refused(&mut self, submit: Submit) -> Option<ErrorCode> {
        self.code(Input::Submit(submit))
    }

    /// Everything goes into segments with the next flush.
    pub(crate) fn packs(&mut self) {
        self.glue.pack();
        self.drain();
    }

    pub(crate) fn unqueue(&mut self, id: &str) {
        let input = Input::Unqueue(MessageId::try_from(id).unwrap());
        self.ask(None, input, Ask::Unqueue(id.to_owned()));
    }

    pub(crate) fn cancel(&mut self) {
        self.ask(None, Input::Cancel(None), Ask::Cancel);
    }

    pub(crate) fn cancel_other(&mut self) {
        let other = RunId::try_from("r_none").unwrap();
        self.ask(None, Input::Cancel(Some(other)), Ask::CancelOther);
    }

    pub(crate) fn notify(&mut self) {
        let input = Input::Notify("kronos.note".to_owned(), serde_json::json!({}));
        self.ask(None, input, Ask::Notify);
    }

    /// A conversation held elsewhere goes on with `id`, after `past` messages.
    pub(crate) fn import(&mut self, id: &str, past: u8) -> Expected {
        let history: Vec<_> = (0..past).map(|n| told(id, n)).collect();
        let facts = history
            .iter()
            .map(|past| (past.role, past.id.to_string(), past.text.clone()));
        let ask = Ask::Import {
            id: id.to_owned(),
            past: facts.collect(),
        };
        let import = Import {
            history,
            submit: submit_of(id),
        };
        self.ask(Some(id.to_owned()), Input::Import(Box::new(import)), ask)
    }

    /// The code with which a history of `messages` messages of `chars` characters each is refused.
    pub(crate) fn import_refused(&mut self, messages: usize, chars: usize) -> Option<ErrorCode> {
        let past = |n: usize| Past {
            id: MessageId::try_from(format!("p_{n}")).unwrap(),
            role: TextRole::User,
            text: "ä".repeat(chars),
            at_ms: None,
        };
        let import = Import {
            history: (0..messages).map(past).collect(),
            submit: submit_of("m_1"),
        };
        self.code(Input::Import(Box::new(import)))
    }

    pub(crate) fn rename(&mut self, title: &str) {
        self.ask(None, Input::Rename(title.to_owned()), Ask::Rename(title.to_owned()));
    }

    /// The code with which a title is refused.
    pub(crate) fn rename_refused(&mut self, title: &str) -> Option<ErrorCode> {
        self.code(Input::Rename(title.to_owned()))
    }

    fn code(&mut self, input: Input) -> Option<ErrorCode> {
        self.glue.drive(input, Some(0));
        self.glue.out.iter().find_map(|out| match out {
            Out::Reply(0, reply) => reply.as_ref().err().copied(),
            _ => None,
        })
    }

    fn progress(&mut self, progress: Progress, ask: Ask) {
        if self.glue.generating.is_none() {
            return;
        }
        let before = self.oracle.facts.len();
        self.oracle.ask(ask);
        self.glue.generated(progress, None);
        self.compare(before);
    }

    pub(crate) fn says(&mut self, text: &str) {
        let progress = Progress::Delta {
            text: text.to_owned(),
            usage: None,
        };
        self.progress(progress, Ask::Text(text.to_owned()));
    }

    pub(crate) fn thinks(&mut self, text: &str) {
        let progress = Progress::Thought { text: text.to_owned() };
        self.progress(progress, Ask::Thought(text.to_owned()));
    }

    pub(crate) fn retries(&mut self) {
        let progress = Progress::Retrying {
            attempt: 2,
            code: RunErrorCode::UpstreamUnavailable,
            after_ms: 10,
        };
        self.progress(progress, Ask::Retrying);
    }

    pub(crate) fn finishes(&mut self, truncated: bool) {
        let finished = Finished {
            finish_reason: "STOP".to_owned(),
            truncated,
            usage: Usage::default(),
            parts: Vec::new(),
            model: "m".to_owned(),
            response_id: None,
        };
        self.progress(Progress::Finished(finished), Ask::Finish { truncated });
    }

    pub(crate) fn fails(&mut self, code: RunErrorCode) {
        let failed = Failed {
            code,
            message: "no".to_owned(),
            retryable: false,
            after_ms: None,
            upstream_status: None,
            reason: None,
            usage: Usage::default(),
            attempts: 1,
        };
        self.progress(Progress::Failed(failed), Ask::Fail(code.as_str()));
    }

    pub(crate) fn runs_late(&mut self) {
        if let Some(run) = self.glue.generating.clone() {
            self.ask(None, Input::Deadline(run), Ask::Fail(RunErrorCode::Deadline.as_str()));
        }
    }

    /// The process drains: the active run is closed, no new one begins.
    pub(crate) fn drain_begins(&mut self) {
        self.glue.draining = true;
        self.oracle.draining = true;
        self.ask(None, Input::Interrupt, Ask::Interrupt);
        assert!(self.glue.state.run.is_none(), "a drain leaves no run open");
    }

    /// What waits for the store, for a committer that takes many.
    pub(crate) fn request(&self) -> Option<&Request> {
        self.flight
            .as_ref()
            .filter(|flight| !flight.written)
            .map(|flight| &flight.request)
    }

    /// The store has it, though nobody knows yet.
    pub(crate) fn written(&mut self) {
        if let Some(flight) = &mut self.flight {
            flight.written = true;
        }
    }

    fn write(&mut self, store: &MemoryStore) {
        if let Some(request) = self.request() {
            let results = store.commit(std::slice::from_ref(request)).unwrap();
            assert_eq!(results, [Ok(())], "the store takes what a session hands over");
            self.written();
        }
    }

    /// The session hears how its flush ended.
    pub(crate) fn settled(&mut self, result: Result<(), ErrorCode>) {
        let Some(flight) = self.flight.take() else { return };
        assert_eq!(flight.written, result.is_ok());
        let before = match result {
            Ok(()) => {
                self.oracle.commit();
                self.oracle.facts.len()
            }
            Err(_) => {
                self.oracle.forget();
                self.oracle.facts.len()
            }
        };
        self.glue.settled(result);
        if self.glue.live {
            self.compare(before);
        } else {
            self.drain();
        }
    }

    /// A flush has waited long enough.
    pub(crate) fn flush_timer(&mut self) {
        self.glue.flush_timer();
        self.drain();
    }

    /// A commit that succeeds.
    pub(crate) fn commit(&mut self, store: &MemoryStore) {
        self.write(store);
        self.settled(Ok(()));
    }

    /// Commits until nothing waits for it.
    pub(crate) fn commit_all(&mut self, store: &MemoryStore) {
        self.glue.room = true;
        while self.flight.is_some() || self.glue.flush_later {
            self.flush_timer();
            self.commit(store);
        }
    }

    /// A commit that fails, and the fold after it.
    pub(crate) fn commit_fails(&mut self, store: &MemoryStore) {
        if self.flight.is_some() {
            self.settled(Err(ErrorCode::Storage));
            self.load(store);
        }
    }

    /// The process dies; what is in the air is on the disk or it is not.
    pub(crate) fn crash(&mut self, written: bool, store: &MemoryStore) {
        if written {
            self.write(store);
        }
        if self.flight.take().is_some_and(|flight| flight.written) {
            self.oracle.commit();
        }
        self.oracle.forget();
        self.oracle.draining = false;
        self.glue.draining = false;
        self.glue.reset(None);
        self.glue.out.clear();
        self.did.clear();
        self.expected.clear();
        for device in &mut self.devices {
            device.cut();
        }
    }

    /// Folds the log again.
    pub(crate) fn load(&mut self, store: &MemoryStore) {
        self.check_stored(store);
        let before = self.oracle.facts.len();
        let epoch = self.glue.epoch;
        self.oracle.recover();
        self.glue.load(store);
        if self.glue.epoch != epoch {
            assert!(self.relaxed(), "history is lost only with relaxed durability");
            self.devices.iter_mut().for_each(Device::cut);
        }
        self.compare(before);
        self.check();
    }

    /// It leaves memory, when it may, and comes back from the store; its devices stay attached.
    pub(crate) fn passivate(&mut self, store: &MemoryStore) -> bool {
        let idle = self.glue.is_idle();
        let promised = |device: &Device| device.snapshot.is_some() || matches!(device.stage, Stage::Asked(_));
        if !idle || self.devices.iter().any(promised) {
            return false;
        }
        assert_eq!(
            self.oracle.durable,
            self.oracle.facts.len(),
            "an idle session has nothing to lose"
        );
        self.glue.reset(None);
        self.load(store);
        true
    }

    /// The log as the store has it is what the model says is durable.
    fn check_stored(&self, store: &MemoryStore) {
        let mut facts = Vec::new();
        if let Some(stored) = store.load(&self.glue.id).unwrap() {
            for record in &stored.records {
                let event = Stored::decode(record).unwrap();
                oracle::add(&mut facts, Fact::of(event.run.as_ref(), &event.event));
            }
        }
        assert_eq!(
            facts,
            self.oracle.durable_facts(),
            "the store has exactly what is durable"
        );
        check_order(&facts);
        self.check_acked(&facts);
    }

    /// Everything that must hold at any time.
    pub(crate) fn check(&self) {
        let showable = self.oracle.showable_facts(self.relaxed());
        let of_this_history = |device: &&Device| device.epoch == self.glue.epoch;
        for device in self.devices.iter().filter(of_this_history) {
            device.check(&showable);
        }
        self.check_acked(self.oracle.durable_facts());
        let mut unique = HashSet::new();
        for said in &self.glue.state.messages {
            assert!(unique.insert(&said.id), "message ids are unique");
        }
    }

    fn check_acked(&self, durable: &[Fact]) {
        let taken: HashSet<&str> = oracle::taken(durable).collect();
        for id in self.acked.keys() {
            assert!(taken.contains(id.as_str()), "{id} was acked and is lost");
        }
    }

    pub(crate) fn attach(&mut self, at: usize, how: Attach) {
        self.devices[at].cut();
        let (visible, last) = (self.glue.log.visible(), self.glue.log.last());
        let epoch = self.glue.epoch;
        let device = &mut self.devices[at];
        let lost = device.cursor.is_some() && device.epoch != epoch;
        let how = if how == Attach::Resume && lost {
            Attach::Foreign
        } else {
            how
        };
        // A snapshot is of this history once it is shown: until then the device has the old one.
        device.epoch = if how == Attach::Foreign && last > 0 {
            device.epoch
        } else {
            epoch
        };
        let mut durable = 0;
        match how {
            Attach::Resume if device.cursor.is_some() => {
                assert!(
                    device.cursor <= Some(visible),
                    "a device has what the log has not: {:?} of {visible}",
                    device.cursor
                );
            }
            Attach::Resume | Attach::Fresh => device.start_at(0),
            Attach::Tail(n) => device.start_at(visible.saturating_sub(n)),
            Attach::Foreign if last == 0 => device.start_at(0),
            Attach::Foreign => {
                let glue = &self.glue;
                let snapshot = view::snapshot(&glue.state, &glue.id, last, glue.now, SNAPSHOT_BYTES);
                let facts = self.oracle.facts.len();
                self.glue.log.seal();
                device.snapshot = Some((last, snapshot.expect("small enough"), facts));
                durable = last;
            }
        }
        let token = self.expect(None, Expected::Done);
        self.devices[at].stage = Stage::Asked(token);
        self.glue.reply_when_durable(durable, Some(token), Reply::Done);
        self.drain();
    }

    /// Answers a pull; false when there is nothing.
    pub(crate) fn pull(&mut self, at: usize, max_bytes: usize, store: &MemoryStore) -> bool {
        if self.devices[at].stage != Stage::On || !self.glue.live {
            return false;
        }
        let device = &mut self.devices[at];
        if let Some((upto, entries, facts)) = device.snapshot.take() {
            let shown = device.take_snapshot(upto, &entries);
            device.epoch = self.glue.epoch;
            assert_eq!(
                shown,
                oracle::picture(&self.oracle.facts[..facts]),
                "the snapshot's conversation"
            );
            assert!(facts <= self.oracle.durable, "a snapshot shows what is durable");
            return true;
        }
        let after = device.cursor.unwrap_or(0);
        let log = &self.glue.log;
        let read = match log.read(after, max_bytes) {
            Read::Behind => {
                let records = store
                    .read(&self.glue.id, after, max_bytes * STORED_BATCH_FACTOR)
                    .unwrap();
                let read = read_records(&records, after, log.committed(), max_bytes).unwrap();
                assert!(
                    matches!(read, Read::Entries { .. }),
                    "the store has what memory has not"
                );
                read
            }
            read => read,
        };
        let Read::Entries { upto, entries } = read else {
            assert_eq!(after, log.visible(), "nothing to read means everything read");
            return false;
        };
        assert!(upto <= log.visible(), "what may not be shown is read");
        assert!(
            self.relaxed() || upto <= log.committed(),
            "what is not committed is read"
        );
        self.devices[at].take(upto, &entries);
        self.devices[at].check(&self.oracle.showable_facts(self.relaxed()));
        true
    }

    /// Everything is committed and every device, a new one too, has caught up: they all show the same.
    pub(crate) fn quiesce(&mut self, max_bytes: usize, store: &MemoryStore) {
        self.commit_all(store);
        assert_eq!(
            self.oracle.durable,
            self.oracle.facts.len(),
            "something was never handed over"
        );
        self.devices.push(Device::new());
        for at in 0..self.devices.len() {
            if self.devices[at].stage == Stage::Off {
                self.attach(at, Attach::Resume);
            }
            assert_eq!(self.devices[at].stage, Stage::On, "what was committed is answered");
            while self.pull(at, max_bytes, store) {}
            self.devices[at].check_complete(self.oracle.durable_facts());
        }
        self.devices.pop();
        self.check_stored(store);
        self.check_fold(store);
        self.check();
        let left = self.expected.values().filter(|(message, _)| message.is_some()).count();
        assert_eq!(left, 0, "every send is answered");
    }

    /// The state is the fold of what is stored.
    fn check_fold(&self, store: &MemoryStore) {
        let mut state = kronos_actors::session::state::State::default();
        let Some(stored) = store.load(&self.glue.id).unwrap() else {
            return;
        };
        for record in &stored.records {
            state.apply(record.seq, &Stored::decode(record).unwrap()).unwrap();
        }
        let live = &self.glue.state;
        assert_eq!(state.messages, live.messages);
        assert_eq!(state.queue, live.queue);
        assert_eq!(state.run, live.run);
        assert_eq!(state.sends, live.sends);
        assert_eq!(state.interrupted, live.interrupted);
        assert_eq!(state.title, live.title);
        for (id, seq) in &self.acked {
            let record = stored.records.iter().rfind(|record| record.seq <= *seq);
            let event = Stored::decode(record.expect("an acked seq exists")).unwrap();
            let fact = Fact::of(event.run.as_ref(), &event.event);
            assert!(
                oracle::taken(&[fact]).any(|taken| taken == id),
                "the ack of {id} names seq {seq}, which is something else"
            );
        }
    }
}

fn submit_of(id: &str) -> Submit {
    Submit {
        id: MessageId::try_from(id).unwrap(),
        content: UserContent::Text(format!("text of {id}")),
        mode: SendMode::Queue,
        run: RunOptions::default(),
        context: None,
        client_tools: Vec::new(),
    }
}

/// The `n`th message of the history that comes with `id`; the last of each four is longer than one event may be.
fn told(id: &str, n: u8) -> Past {
    let (role, prefix) = match n % 4 {
        0 => (TextRole::System, "p"),
        1 | 3 => (TextRole::User, "p"),
        _ => (TextRole::Assistant, "a_p"),
    };
    let length = if n % 4 == 3 { 9000 } else { 7 };
    Past {
        id: MessageId::try_from(format!("{prefix}_{id}_{n}")).unwrap(),
        role,
        text: "wörter ".chars().cycle().take(length).collect(),
        at_ms: (n > 0).then(|| i64::from(n) - 3),
    }
}

/// Straight from the log, whatever was predicted: an id is taken once, a turn is retried only after an interruption, and
/// what waited starts in the order in which it was accepted.
fn check_order(facts: &[Fact]) {
    let mut waiting: Vec<&str> = Vec::new();
    let mut begun: Vec<&str> = Vec::new();
    let mut last_run: Option<(&str, &str)> = None;
    for fact in facts {
        if let Some(id) = oracle::accepted(fact) {
            assert!(!waiting.contains(&id) && !begun.contains(&id), "{id} is taken twice");
            waiting.push(id);
        } else if let Some(id) = fact.what.strip_prefix("kronos.message_unqueued ") {
            waiting.retain(|waits| *waits != id);
        } else if let Some(id) = oracle::steered_in(fact).filter(|id| waiting.contains(id)) {
            waiting.retain(|waits| *waits != id);
            begun.push(id);
        } else if fact.kind == kronos_protocol::event::EventKind::RunStarted && fact.what.is_empty() {
            assert!(begun.is_empty() && waiting.is_empty(), "a history comes first");
        } else if fact.kind == kronos_protocol::event::EventKind::RunStarted {
            let id = fact.what.as_str();
            if begun.contains(&id) {
                assert_eq!(last_run, Some((id, "interrupted")), "{id} is started twice");
            } else if waiting.contains(&id) {
                assert_eq!(waiting.remove(0), id, "{id} overtakes what waited before it");
                begun.push(id);
            } else {
                begun.push(id);
            }
            last_run = Some((id, ""));
        } else if let (Some(last), true) = (&mut last_run, is_end(fact)) {
            last.1 = &fact.what;
        }
    }
}

fn is_end(fact: &Fact) -> bool {
    use kronos_protocol::event::EventKind;
    matches!(fact.kind, EventKind::RunFinished | EventKind::RunError)
}

fn check_question(generate: &Generate) {
    let last = generate.contents.last().expect("the model is asked something");
    assert_eq!(last.role, Role::User, "the last turn is the user's");
    for pair in generate.contents.windows(2) {
        assert_ne!(pair[0].role, pair[1].role, "turns alternate");
    }
}
