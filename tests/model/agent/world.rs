//! A session whose model makes calls, with everything that is on its way for it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use kronos_actors::{
    config::{Durability, SessionConfig},
    gemini::{Failed, Finished, FunctionCall, Progress, Usage},
    session::{
        TOOL_RESULT,
        core::{Execute, Input},
        log::Stored,
        message::{AnsweredBy, Edit, Resume, Submit},
        result_key,
        state::{Body, Stage, State},
        view,
    },
    store::{Request, SessionStore, memory::MemoryStore},
    tools::{Link, Offer, Outcome, Tool},
};
use kronos_protocol::{
    client::{SendMode, SessionSettings},
    error::{ErrorCode, RunErrorCode},
    ids::{InterruptId, MessageId, RunId},
    message::{Interrupt, ResumeAnswer, Tool as ClientTool, UserContent},
    position::Seq,
    verify::Verifier,
};
use serde_json::{Map, Value, json};

use super::{
    Kind, Word,
    promises::{self, Left, Seen, Told},
};
use crate::glue::{Glue, Out, Pending, Reply, Token};

const TOOLKIT: &str = "mail";

pub(super) struct World {
    pub(super) glue: Glue,
    pub(super) store: MemoryStore,
    flight: Option<(Request, bool)>,
    /// Calls that have left and are not over.
    calls: BTreeMap<String, Execute>,
    /// Calls of the answer that is being written.
    streamed: Vec<FunctionCall>,
    incarnation: u32,
    left: Vec<Left>,
    /// Every event of the log, durable or not.
    log: Vec<Stored>,
    /// What of it the store has, as it has it, by seq.
    durable: Vec<(Seq, Stored)>,
    tokens: Token,
    sent: HashMap<Token, String>,
    acked: HashSet<String>,
    /// Clients that were given a snapshot and read on.
    watchers: Vec<Verifier>,
    /// Makes names that were not used before.
    number: u32,
}

impl World {
    pub(super) fn new(durability: Durability, trims: bool) -> Self {
        let config = SessionConfig {
            durability,
            inbox_messages: 3,
            tail_bytes: 4000,
            max_steps: 3,
            max_calls_per_step: 3,
            max_call_mends: 1,
            tool_result_bytes: 200,
            stored_result_bytes: 2000,
            question_timeout: Duration::from_secs(1000),
            context_tokens: if trims { 60 } else { 200_000 },
            ..SessionConfig::default()
        };
        let mut glue = Glue::new("s", config);
        glue.without_tools = false;
        let mut world = Self {
            glue,
            store: MemoryStore::default(),
            flight: None,
            calls: BTreeMap::new(),
            streamed: Vec::new(),
            incarnation: 0,
            left: Vec::new(),
            log: Vec::new(),
            durable: Vec::new(),
            tokens: 0,
            sent: HashMap::new(),
            acked: HashSet::new(),
            watchers: Vec::new(),
            number: 0,
        };
        world.load();
        world
    }

    pub(super) fn state(&self) -> &State {
        &self.glue.state
    }

    /// How often a call has left.
    pub(super) fn calls_made(&self) -> usize {
        self.left.len()
    }

    fn fresh(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    fn drive(&mut self, input: Input) -> Result<(), ErrorCode> {
        self.glue.refused = None;
        self.tokens += 1;
        self.glue.drive(input, Some(self.tokens));
        let refused = self.glue.refused.as_ref().map(|error| error.code);
        self.sync();
        refused.map_or(Ok(()), Err)
    }

    /// The same, however it is answered.
    fn tries(&mut self, input: Input) {
        let _answered = self.drive(input);
    }

    /// Takes in what the session did.
    fn sync(&mut self) {
        for stored in self.glue.appended.drain(..) {
            promises::check_decided(&stored, &self.glue.state.settings);
            for watcher in self.watchers.iter_mut().filter(|_| stored.run.is_some()) {
                watcher
                    .accept(&stored.event)
                    .expect("what follows a snapshot may follow it");
            }
            self.log.push(stored);
        }
        while let Some(out) = self.glue.out.pop_front() {
            match out {
                Out::Submit(request) => {
                    assert!(self.flight.is_none(), "one flush at a time");
                    self.flight = Some((*request, false));
                }
                Out::Generate(generate) => {
                    self.streamed.clear();
                    promises::check_question(&generate, &self.glue.state, &self.told());
                }
                Out::Execute(execute) => {
                    promises::check_leaves(&execute, self.incarnation, &self.left, &self.durable());
                    assert!(!self.told().results.contains_key(&execute.intent.call), "it is over");
                    self.left.push(Left {
                        call: execute.intent.call.clone(),
                        key: execute.intent.key.clone(),
                        incarnation: self.incarnation,
                        nothing_done: false,
                    });
                    self.calls.insert(execute.intent.call.clone(), *execute);
                }
                Out::Reply(token, reply) => {
                    let id = self.sent.remove(&token);
                    if let (Some(id), Ok(Reply::Sent { .. })) = (id, reply) {
                        assert!(self.durable().taken.contains(&id), "{id} is acked and not durable");
                        self.acked.insert(id);
                    }
                }
            }
        }
        let pending = &self.glue.pending;
        self.calls
            .retain(|call, _| pending.contains(&Pending::Call(call.clone())));
    }

    fn durable(&self) -> Told {
        Told::of(self.durable.iter().map(|(_, stored)| stored))
    }

    fn told(&self) -> Told {
        Told::of(&self.log)
    }

    /// Every promise that can be read off what is there.
    pub(super) fn check(&self) {
        promises::check(&self.glue, &self.told());
    }

    /// A client is given a snapshot.
    pub(super) fn shows(&mut self) {
        let at = self.glue.log.last();
        let snapshot = view::snapshot(&self.glue.state, &self.glue.id, at, self.glue.now, usize::MAX);
        let mut watcher = Verifier::new();
        for entry in snapshot.expect("it fits") {
            watcher.accept(&entry.event).expect("a snapshot begins a stream");
        }
        self.watchers.push(watcher);
    }

    pub(super) fn seen(&self) -> Seen {
        promises::seen(&self.log)
    }

    pub(super) fn send(&mut self, id: u8, mode: SendMode) {
        let id = format!("m_{id}");
        let submit = submit_of(&id, mode);
        self.sent.insert(self.tokens + 1, id);
        self.tries(Input::Submit(submit));
    }

    pub(super) fn cancel(&mut self) {
        self.drive(Input::Cancel(None)).unwrap();
        assert!(!self.state().waits(), "a run that waits can be given up");
    }

    pub(super) fn unqueue(&mut self, id: u8) {
        let id = MessageId::try_from(format!("m_{id}")).unwrap();
        self.tries(Input::Unqueue(id));
    }

    pub(super) fn edit(&mut self, place: usize) {
        let number = self.fresh();
        let users: Vec<MessageId> = self.users();
        if let Some(message) = users.get(place % users.len().max(1)) {
            let edit = Edit {
                message: message.clone(),
                submit: submit_of(&format!("e_{number}"), SendMode::Queue),
            };
            self.tries(Input::Edit(Box::new(edit)));
        }
    }

    fn users(&self) -> Vec<MessageId> {
        let users = self.state().messages.iter();
        let users = users.filter(|said| matches!(said.body, Body::User(_)));
        users.map(|said| said.id.clone()).collect()
    }

    pub(super) fn regenerate(&mut self, place: Option<usize>) {
        let all = &self.state().messages;
        let message = place.and_then(|place| all.get(place % all.len().max(1)).map(|said| said.id.clone()));
        self.tries(Input::Regenerate(message));
    }

    pub(super) fn select(&mut self, place: usize) {
        let all: Vec<String> = self.state().branches.iter().map(|branch| branch.id.clone()).collect();
        self.tries(Input::SelectBranch(all[place % all.len()].clone()));
    }

    pub(super) fn configure(&mut self, change: SessionSettings) {
        self.drive(Input::Configure(Box::new(change))).unwrap();
    }

    pub(super) fn offered(&mut self) {
        if let Some(run) = self.active() {
            let offer = Offer {
                tools: tools(),
                ..Offer::default()
            };
            self.glue.arrives(&Pending::Offer, Input::Offered(run, offer));
            self.sync();
        }
    }

    pub(super) fn active(&self) -> Option<RunId> {
        self.state().run.as_ref().map(|run| run.id.clone())
    }

    fn progress(&mut self, progress: Progress) {
        self.glue.generated(progress, None);
        self.sync();
    }

    pub(super) fn says(&mut self, text: &str) {
        let text = text.to_owned();
        self.progress(Progress::Delta { text, usage: None });
    }

    pub(super) fn thinks(&mut self, text: &str) {
        self.progress(Progress::Thought { text: text.to_owned() });
    }

    fn call(&mut self, kind: Kind) -> FunctionCall {
        let number = self.fresh();
        let (name, argument) = match kind {
            Kind::Read => ("READ", json!(number)),
            Kind::Write => ("WRITE", json!(number)),
            Kind::Act => ("ACT", json!(number)),
            Kind::Unknown => ("NONE", json!(number)),
            Kind::Bad => ("READ", json!("not a number")),
            Kind::Client => ("PICK", json!(number)),
        };
        FunctionCall {
            id: Some(format!("g_{number}")),
            name: name.to_owned(),
            arguments: Map::from_iter([("n".to_owned(), argument)]),
        }
    }

    /// The model makes a call before its answer is complete.
    pub(super) fn streams(&mut self, kind: Kind) {
        if self.glue.generating.is_some() {
            let call = self.call(kind);
            self.streamed.push(call.clone());
            self.progress(Progress::Call(call));
        }
    }

    /// The answer is complete: with the calls that were streamed, unless it was `cut` off, and more.
    pub(super) fn answers(&mut self, text: &str, calls: &[Kind], cut: bool) {
        if self.glue.generating.is_none() {
            return;
        }
        let mut made = std::mem::take(&mut self.streamed);
        for kind in calls {
            made.push(self.call(*kind));
        }
        if !text.is_empty() {
            self.says(text);
        }
        let mut parts = vec![json!({"text": format!("answer {}", self.fresh())})];
        let part = |call: &FunctionCall| json!({"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}, "thoughtSignature": "s"});
        if !cut {
            parts.extend(made.iter().map(part));
        }
        self.progress(Progress::Finished(Finished {
            finish_reason: "STOP".to_owned(),
            truncated: cut,
            usage: Usage::default(),
            parts,
            model: "m".to_owned(),
            response_id: None,
        }));
    }

    pub(super) fn fails(&mut self, code: RunErrorCode) {
        self.progress(Progress::Failed(Failed {
            code,
            message: "no".to_owned(),
            retryable: false,
            after_ms: None,
            upstream_status: None,
            reason: None,
            usage: Usage::default(),
            attempts: 1,
        }));
    }

    /// One of the calls that have left is over.
    pub(super) fn outcome(&mut self, place: usize, outcome: Outcome) {
        let Some(call) = self.calls.keys().nth(place % self.calls.len().max(1)).cloned() else {
            return;
        };
        if matches!(outcome, Outcome::NotConnected { .. })
            && let Some(left) = self.left.iter_mut().rfind(|left| left.call == call)
        {
            left.nothing_done = true;
        }
        let run = self.calls[&call].run.clone();
        let input = Input::Called(run, call.clone(), outcome);
        self.glue.arrives(&Pending::Call(call), input);
        self.sync();
    }

    /// A link or a summary comes, if one is awaited.
    pub(super) fn linked(&mut self, made: bool) {
        let Some(run) = self.active() else { return };
        let pending: Vec<Pending> = self.glue.pending.iter().cloned().collect();
        for pending in pending {
            let input = match &pending {
                Pending::Link(toolkit) => {
                    let link = Link {
                        connection: "c".to_owned(),
                        redirect_url: "https://example.com".to_owned(),
                        expires_at_ms: None,
                    };
                    let link = if made { Ok(link) } else { Err("no".to_owned()) };
                    Input::Linked(run.clone(), toolkit.clone(), link)
                }
                Pending::Summary(from) => Input::Summarized(run.clone(), from.clone(), "before".to_owned()),
                Pending::Offer | Pending::Call(_) => continue,
            };
            self.glue.arrives(&pending, input);
            self.sync();
        }
    }

    /// What is awaited comes.
    pub(super) fn next(&mut self, calls: &[Kind], outcome: Outcome, way: usize) {
        let number = self.fresh();
        match self.glue.pending.first() {
            Some(Pending::Offer) => self.offered(),
            Some(Pending::Call(_)) => self.outcome(way, outcome),
            Some(Pending::Link(_) | Pending::Summary(_)) => self.linked(way > 0),
            None if self.glue.generating.is_some() => self.answers("text", calls, way == 0),
            None if self.state().run.is_some() => self.commit(),
            None => match self.open().first() {
                Some(asked) => {
                    let asked = asked.clone();
                    let fitting = Word::fitting(&asked.reason);
                    self.answers_one(&asked.id, fitting[way % fitting.len()]);
                }
                None if self.client_answers(way > 3) => {}
                None => self.send(20 + u8::try_from(number % 200).unwrap(), SendMode::Queue),
            },
        }
    }

    fn answers_one(&mut self, question: &InterruptId, word: Word) {
        let told = self.told();
        let newer = told.asked.iter().rev().position(|known| known.id == *question);
        self.resume(&[(newer.expect("it was asked"), word)], false);
    }

    pub(super) fn connected(&mut self) {
        self.drive(Input::Connected(TOOLKIT.to_owned())).unwrap();
    }

    pub(super) fn expire(&mut self) {
        self.glue.now += self.glue.config.question_timeout_ms() + 1;
        self.drive(Input::Expire).unwrap();
        assert!(self.open().is_empty(), "a question outlives its deadline");
    }

    pub(super) fn deadline(&mut self) {
        if let Some(run) = self.active() {
            self.drive(Input::Deadline(run)).unwrap();
        }
    }

    fn open(&self) -> Vec<Interrupt> {
        let told = self.told();
        let open = told.asked.into_iter();
        open.filter(|asked| !told.verdicts.contains_key(asked.id.as_str()))
            .collect()
    }

    /// Answers questions, the newest has number 0; it is compared with what must come of it.
    pub(super) fn resume(&mut self, answers: &[(usize, Word)], all: bool) {
        let told = self.told();
        let mut chosen: Vec<(Interrupt, Word)> = Vec::new();
        for (place, word) in answers {
            let Some(asked) = told.asked.iter().rev().nth(place % told.asked.len().max(1)) else {
                return;
            };
            if !chosen.iter().any(|(known, _)| known.id == asked.id) {
                chosen.push((asked.clone(), *word));
            }
        }
        let open = self.open();
        let mut expected = if self.glue.draining {
            Err(ErrorCode::ShuttingDown)
        } else {
            let judged = chosen
                .iter()
                .map(|(asked, word)| match told.verdicts.get(asked.id.as_str()) {
                    Some(_) => Err(ErrorCode::Conflict),
                    None if word.fits(&asked.reason) => Ok(()),
                    None => Err(ErrorCode::Validation),
                });
            judged.collect()
        };
        let leaves_some = open
            .iter()
            .any(|open| !chosen.iter().any(|(asked, _)| asked.id == open.id));
        if all && leaves_some && expected.is_ok() {
            expected = Err(ErrorCode::Validation);
        }
        let resume = Resume {
            answers: chosen.iter().map(|(asked, word)| answer(&asked.id, *word)).collect(),
            results: Vec::new(),
            all,
            by: AnsweredBy::default(),
        };
        let taken = self.drive(Input::Resume(Box::new(resume)));
        assert_eq!(taken, expected, "{chosen:?} of {open:?}");
        if taken == Err(ErrorCode::Conflict) {
            let error = self.glue.refused.as_ref().expect("it was refused");
            let first = chosen
                .iter()
                .find_map(|(asked, _)| told.verdicts.get(asked.id.as_str()));
            assert_eq!(
                Some(&error.details),
                first.as_ref().map(|first| &first.0),
                "the loser is told who won"
            );
        }
        if taken.is_ok() {
            let told = self.told();
            for (asked, word) in &chosen {
                let verdict = &told.verdicts[asked.id.as_str()];
                assert_eq!(verdict.0["verdict"].as_str(), word.verdict(&asked.reason));
            }
        }
    }

    /// The client answers the calls that it is to make: the first of them, or all.
    pub(super) fn client_answers(&mut self, all: bool) -> bool {
        let calls = self.state().step.iter().flat_map(|step| &step.calls);
        let calls = calls
            .filter(|call| call.stage == Stage::Client)
            .map(|call| call.id.clone());
        let calls: Vec<String> = calls.take(if all { usize::MAX } else { 1 }).collect();
        if calls.is_empty() || self.state().run.is_some() {
            return false;
        }
        let resume = Resume {
            answers: Vec::new(),
            results: calls
                .iter()
                .map(|call| (call.clone(), UserContent::Text("picked".to_owned())))
                .collect(),
            all: false,
            by: AnsweredBy::default(),
        };
        if self.drive(Input::Resume(Box::new(resume))).is_err() {
            return false;
        }
        let told = self.told();
        for call in calls {
            assert_eq!(told.results.get(&call), Some(&1), "a result that was taken is there");
        }
        true
    }

    pub(super) fn drains(&mut self) {
        self.glue.draining = true;
        self.drive(Input::Interrupt).unwrap();
        assert_eq!(self.state().run, None, "a drain leaves no run open");
    }

    fn write(&mut self) {
        if let Some((request, written)) = &mut self.flight
            && !*written
        {
            let results = self.store.commit(std::slice::from_ref(request)).unwrap();
            assert_eq!(results, [Ok(())], "the store takes what a session hands over");
            let records = request.append.iter().flat_map(|append| &append.records);
            let stored = records.map(|record| (record.seq, Stored::decode(record).unwrap()));
            self.durable.extend(stored);
            *written = true;
        }
    }

    pub(super) fn commit(&mut self) {
        self.glue.flush_timer();
        self.sync();
        self.write();
        if self.flight.take().is_some() {
            self.glue.settled(Ok(()));
            self.sync();
        }
        // Each time would take most of the time.
        if self.flight.is_none() && !self.glue.log.has_pending() && self.durable.len().is_multiple_of(4) {
            self.check_fold();
        }
    }

    fn commit_all(&mut self) {
        self.commit();
        while self.flight.is_some() || self.glue.flush_later {
            self.commit();
        }
    }

    pub(super) fn commit_fails(&mut self) {
        if self.flight.take().is_some() {
            self.glue.settled(Err(ErrorCode::Storage));
            self.sync();
            self.load();
        }
    }

    pub(super) fn crash(&mut self, written: bool) {
        if written {
            self.write();
        }
        self.flight = None;
        self.sent.clear();
        self.glue.draining = false;
        self.glue.reset(None);
        self.glue.out.clear();
        self.load();
    }

    pub(super) fn passivate(&mut self) {
        if self.glue.is_idle() {
            let before = self.glue.log.last();
            self.glue.reset(None);
            self.load();
            assert_eq!(self.glue.log.last(), before, "there was nothing left to do");
        }
    }

    fn load(&mut self) {
        self.incarnation += 1;
        self.watchers.clear();
        let stored = self.store.load(&self.glue.id).unwrap();
        let records = stored.into_iter().flat_map(|stored| stored.records);
        let stored = records.map(|record| (record.seq, Stored::decode(&record).unwrap()));
        self.durable = stored.collect();
        self.log = self.durable.iter().map(|(_, stored)| stored.clone()).collect();
        self.calls.clear();
        self.streamed.clear();
        self.glue.load(&self.store);
        self.sync();
        let told = self.told();
        for id in &self.acked {
            assert!(told.taken.contains(id), "{id} was acked and is lost");
        }
    }

    /// The state is the fold of what is stored.
    fn check_fold(&self) {
        let mut folded = State::default();
        for (seq, stored) in &self.durable {
            folded.apply(*seq, stored).unwrap();
        }
        promises::check_same(&folded, self.state());
    }

    /// Everything that is awaited comes, every question is answered: then nothing is left to do.
    pub(super) fn comes_to_rest(&mut self) {
        if self.glue.draining {
            self.crash(true);
        }
        for _ in 0..500 {
            self.commit_all();
            self.check();
            let pending = self.glue.pending.first().cloned();
            match pending {
                Some(Pending::Offer) => self.offered(),
                Some(Pending::Call(_)) => self.outcome(0, Outcome::Done(json!({"ok": true}))),
                Some(Pending::Link(_) | Pending::Summary(_)) => self.linked(true),
                None if self.glue.generating.is_some() => self.answers("done", &[], false),
                None => match self.open().first() {
                    Some(asked) => {
                        let (id, word) = (asked.id.clone(), Word::good(&asked.reason));
                        self.answers_one(&id, word);
                    }
                    None if self.client_answers(true) => {}
                    None => return self.check_rest(),
                },
            }
        }
        panic!("it does not come to rest");
    }

    fn check_rest(&self) {
        self.check_fold();
        let state = self.state();
        assert_eq!(state.run, None);
        assert!(state.queue.is_empty() && !state.waits());
        assert!(!state.has_work(self.glue.config.max_run_attempts));
        for call in state.stored_results() {
            let whole = self
                .store
                .document(TOOL_RESULT, &result_key(&self.glue.id, call))
                .unwrap();
            assert!(whole.is_some_and(|whole| whole.len() > self.glue.config.tool_result_bytes));
        }
    }
}

fn answer(id: &InterruptId, word: Word) -> ResumeAnswer {
    let mut answer = ResumeAnswer::new(id.clone(), word.status());
    answer.payload = word.payload();
    answer
}

fn submit_of(id: &str, mode: SendMode) -> Submit {
    let mut pick = ClientTool::new("PICK".to_owned(), "picks".to_owned());
    pick.parameters = Some(json!({"type": "object"}));
    Submit {
        mode,
        client_tools: vec![pick],
        ..Submit::new(
            MessageId::try_from(id).unwrap(),
            UserContent::Text(format!("text of {id}")),
        )
    }
}

/// One that only reads, one that asks, and one that does not ask and may not be made twice.
pub(super) fn tools() -> Vec<Tool> {
    let schema: Value = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let schema = std::sync::Arc::new(schema);
    let tool = |name: &str, toolkit: &str, reads: bool, asks: bool| Tool {
        name: name.to_owned(),
        description: "does something".to_owned(),
        parameters: Some(schema.clone()),
        toolkit: toolkit.to_owned(),
        version: Some("1".to_owned()),
        read_only: reads,
        asks,
        repeatable: reads,
    };
    vec![
        tool("READ", "kronos", true, false),
        tool("WRITE", TOOLKIT, false, true),
        tool("ACT", TOOLKIT, false, false),
    ]
}
