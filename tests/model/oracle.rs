//! The slow, obvious model: a list of facts, and every question answered by reading it from the start.
//!
//! Written from the contract, not from the core: it shares no code with `core`, `state` and `log`. A fact has no number
//! and no run of its own beyond a name; how facts become events, batches and entries is what is tested.

use std::borrow::Cow;

use kronos_protocol::{
    client::SendMode,
    error::ErrorCode,
    event::{Event, EventKind, Outcome, TextRole},
    ids::RunId,
    message::Message,
};

/// A message waits, for its turn or for the next step of the run that is active.
const ACCEPTED: &str = "kronos.message_accepted ";
const STEERED: &str = "kronos.message_accepted, steering ";

/// One thing that happened, as a client sees it: what kind, in which run, and what about it matters.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fact {
    pub(crate) kind: EventKind,
    pub(crate) run: Option<String>,
    pub(crate) what: String,
}

impl Fact {
    fn new(kind: EventKind, run: Option<&str>, what: impl Into<String>) -> Self {
        Self {
            kind,
            run: run.map(str::to_owned),
            what: what.into(),
        }
    }

    /// Reads an event as the fact it tells.
    pub(crate) fn of(run: Option<&RunId>, event: &Event) -> Self {
        let what = match event {
            Event::RunStarted(event) => {
                let messages = event.input.iter().flat_map(|input| &input.messages);
                messages.map(|message| message.id().to_string()).collect()
            }
            Event::RunFinished(event) => match event.outcome {
                Some(Outcome::Cancelled) => "cancelled".to_owned(),
                _ => "success".to_owned(),
            },
            Event::RunError(event) => event.code.clone().unwrap_or_default(),
            Event::TextMessageStart(event) => match event.role {
                Some(role) => format!("{role} {}", event.message_id),
                None => String::new(),
            },
            Event::TextMessageContent(event) => event.delta.clone(),
            Event::ReasoningMessageContent(event) => event.delta.clone(),
            Event::Custom(event) if event.name == "kronos.title_changed" => {
                format!("{} {}", event.name, event.value["title"].as_str().unwrap_or_default())
            }
            Event::Custom(event) if event.value.get("mode").is_some_and(|mode| mode == "steer") => {
                format!("{STEERED}{}", event.value["messageId"].as_str().unwrap_or_default())
            }
            Event::Custom(event) => match event.value.get("messageId").and_then(|id| id.as_str()) {
                Some(id) => format!("{} {id}", event.name),
                None => event.name.clone(),
            },
            _ => String::new(),
        };
        Self::new(event.kind(), run.map(RunId::as_str), what)
    }

    pub(crate) fn is_text(&self) -> bool {
        matches!(
            self.kind,
            EventKind::TextMessageContent | EventKind::ReasoningMessageContent
        )
    }

    fn continues(&self, other: &Self) -> bool {
        self.is_text() && self.kind == other.kind && self.run == other.run
    }

    /// Whether `other` tells the same, or the beginning of it.
    fn begins_with(&self, other: &Self) -> bool {
        let same = self.kind == other.kind && self.run == other.run;
        same && (self.what == other.what || (self.is_text() && self.what.starts_with(&other.what)))
    }

    /// Whether `other` tells the same, or the end of it.
    fn ends_with(&self, other: &Self) -> bool {
        let same = self.kind == other.kind && self.run == other.run;
        same && (self.what == other.what || (self.is_text() && self.what.ends_with(&other.what)))
    }
}

/// Appends a fact; neighbouring pieces of one text are one text, however they were cut.
pub(crate) fn add(facts: &mut Vec<Fact>, fact: Fact) {
    match facts.last_mut() {
        Some(last) if last.continues(&fact) => last.what.push_str(&fact.what),
        _ => facts.push(fact),
    }
}

/// Whole texts instead of pieces.
pub(crate) fn joined(facts: &[Fact]) -> Vec<Fact> {
    let mut all = Vec::new();
    for fact in facts {
        add(&mut all, fact.clone());
    }
    all
}

/// Whether `seen` is the beginning of `all` (both joined).
pub(crate) fn is_prefix(seen: &[Fact], all: &[Fact]) -> bool {
    let Some((last, whole)) = seen.split_last() else {
        return true;
    };
    all.len() >= seen.len() && all[..whole.len()] == *whole && all[whole.len()].begins_with(last)
}

/// Whether `seen` is a part of `all`, cut anywhere (both joined).
pub(crate) fn is_part(seen: &[Fact], all: &[Fact]) -> bool {
    let (Some(first), Some(last)) = (seen.first(), seen.last()) else {
        return true;
    };
    (0..all.len()).any(|at| {
        let Some(window) = all.get(at..at + seen.len()) else {
            return false;
        };
        match seen.len() {
            1 => first.is_text() && window[0].what.contains(&first.what) || window[0] == *first,
            n => window[0].ends_with(first) && window[1..n - 1] == seen[1..n - 1] && window[n - 1].begins_with(last),
        }
    })
}

/// How an input is to be answered.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Expected {
    Nothing,
    Done,
    Sent {
        run: Option<String>,
        queued: Option<u32>,
        duplicate: bool,
    },
    Cancelled(Option<String>),
    Refused(ErrorCode),
}

/// What a session is asked, in the model's own words.
#[derive(Debug, Clone)]
pub(crate) enum Ask {
    Send {
        id: String,
        mode: SendMode,
        same_text: bool,
    },
    Unqueue(String),
    Cancel,
    CancelOther,
    Text(String),
    Thought(String),
    Retrying,
    Finish {
        truncated: bool,
    },
    Fail(&'static str),
    Interrupt,
    Notify,
    /// After these messages: who, id, text.
    Import {
        id: String,
        past: Vec<(TextRole, String, String)>,
    },
    Rename(String),
}

/// The model of one session.
#[derive(Debug)]
pub(crate) struct Oracle {
    session: String,
    pub(crate) facts: Vec<Fact>,
    /// So many facts are with the store, which has not said yet that it has them.
    handed: usize,
    /// So many facts can never be unsaid.
    pub(crate) durable: usize,
    /// Those, joined: they only ever grow.
    told: Vec<Fact>,
    pub(crate) draining: bool,
    runs: u32,
    inbox: usize,
    max_attempts: usize,
}

impl Oracle {
    pub(crate) fn new(session: &str, inbox: usize, max_attempts: u32) -> Self {
        Self {
            session: session.to_owned(),
            facts: Vec::new(),
            handed: 0,
            durable: 0,
            told: Vec::new(),
            draining: false,
            runs: 0,
            inbox,
            max_attempts: max_attempts as usize,
        }
    }

    /// Whole texts instead of pieces.
    pub(crate) fn durable_facts(&self) -> &[Fact] {
        &self.told
    }

    /// What may be shown: what is durable, and with relaxed durability the text that follows it directly.
    pub(crate) fn showable_facts(&self, relaxed: bool) -> Cow<'_, [Fact]> {
        if !relaxed {
            return Cow::Borrowed(&self.told);
        }
        let mut showable = self.told.clone();
        let rest = self.facts[self.durable..].iter();
        for fact in rest.take_while(|fact| fact.kind == EventKind::TextMessageContent) {
            add(&mut showable, fact.clone());
        }
        Cow::Owned(showable)
    }

    /// Everything so far goes to the store.
    pub(crate) fn hand_over(&mut self) {
        self.handed = self.facts.len();
    }

    /// What was handed over is durable.
    pub(crate) fn commit(&mut self) {
        for fact in &self.facts[self.durable..self.handed] {
            add(&mut self.told, fact.clone());
        }
        self.durable = self.handed;
    }

    /// Nothing is left but what is durable.
    pub(crate) fn forget(&mut self) {
        self.facts.truncate(self.durable);
        self.handed = self.durable;
    }

    /// What a session does on its own when it is folded again.
    pub(crate) fn recover(&mut self) {
        if self.active().is_some() {
            self.end(EventKind::RunError, "interrupted");
        }
        if self.draining {
            return;
        }
        if let Some(message) = self.retriable() {
            let run = self.start(&message);
            self.hand_over_steered(&run);
        }
        self.next();
    }

    /// Takes an input and says how it must be answered.
    pub(crate) fn ask(&mut self, ask: Ask) -> Expected {
        let expected = match ask {
            Ask::Send { id, mode, same_text } => self.send(&id, mode, same_text),
            Ask::Unqueue(id) => self.unqueue(&id),
            Ask::Cancel => {
                let run = self.active();
                if run.is_some() {
                    self.end(EventKind::RunFinished, "cancelled");
                }
                Expected::Cancelled(run)
            }
            Ask::CancelOther => Expected::Refused(ErrorCode::Conflict),
            Ask::Notify => {
                self.say(EventKind::Custom, None, "kronos.note");
                Expected::Done
            }
            Ask::Import { id, past } => self.import(&id, past),
            Ask::Rename(title) => {
                if self.title().as_ref() != Some(&title) {
                    self.say(EventKind::Custom, None, format!("kronos.title_changed {title}"));
                }
                Expected::Done
            }
            Ask::Text(_) | Ask::Thought(_) | Ask::Retrying | Ask::Finish { .. } | Ask::Fail(_) | Ask::Interrupt => {
                if let Some(run) = self.active() {
                    self.progress(&run, ask);
                }
                Expected::Nothing
            }
        };
        self.next();
        expected
    }

    fn say(&mut self, kind: EventKind, run: Option<&str>, what: impl Into<String>) {
        self.facts.push(Fact::new(kind, run, what));
    }

    fn send(&mut self, id: &str, mode: SendMode, same_text: bool) -> Expected {
        if self.accepted().any(|known| known == id) {
            return if same_text || self.removed(id) {
                let place = self.queue().iter().position(|queued| queued == id);
                Expected::Sent {
                    run: self.first_run(id),
                    queued: place.map(|place| place as u32 + 1),
                    duplicate: true,
                }
            } else {
                Expected::Refused(ErrorCode::Conflict)
            };
        }
        if self.draining {
            return Expected::Refused(ErrorCode::ShuttingDown);
        }
        let busy = self.active().is_some();
        match mode {
            SendMode::Queue | SendMode::Steer if busy && self.queue().len() >= self.inbox => {
                Expected::Refused(ErrorCode::Overloaded)
            }
            SendMode::Queue | SendMode::Steer if busy => {
                let how = if mode == SendMode::Steer { STEERED } else { ACCEPTED };
                self.say(EventKind::Custom, None, format!("{how}{id}"));
                Expected::Sent {
                    run: None,
                    queued: Some(self.queue().len() as u32),
                    duplicate: false,
                }
            }
            SendMode::Reject if busy => Expected::Refused(ErrorCode::Busy),
            SendMode::Queue | SendMode::Reject | SendMode::Steer | SendMode::Interrupt => {
                if busy {
                    self.end(EventKind::RunFinished, "cancelled");
                }
                let run = self.start(id);
                Expected::Sent {
                    run: Some(run),
                    queued: None,
                    duplicate: false,
                }
            }
        }
    }

    fn import(&mut self, id: &str, past: Vec<(TextRole, String, String)>) -> Expected {
        let known = self.accepted().any(|known| known == id);
        if !known && !self.draining && self.accepted().next().is_some() {
            return Expected::Refused(ErrorCode::Conflict);
        }
        if !known && !self.draining && !past.is_empty() {
            let run = self.start("");
            for (role, id, text) in past {
                self.say(EventKind::TextMessageStart, Some(&run), format!("{role} {id}"));
                self.say(EventKind::TextMessageContent, Some(&run), text);
                self.say(EventKind::TextMessageEnd, Some(&run), "");
            }
            self.say(EventKind::RunFinished, Some(&run), "success");
        }
        // Then it is a message like any other.
        self.send(id, SendMode::Queue, true)
    }

    /// The last title.
    pub(crate) fn title(&self) -> Option<String> {
        let titles = self.facts.iter().rev();
        let mut titles = titles.filter_map(|fact| fact.what.strip_prefix("kronos.title_changed "));
        titles.next().map(str::to_owned)
    }

    fn unqueue(&mut self, id: &str) -> Expected {
        if self.queue().iter().any(|queued| queued == id) {
            self.say(EventKind::Custom, None, format!("kronos.message_unqueued {id}"));
            Expected::Done
        } else if self.removed(id) {
            Expected::Done
        } else if self.accepted().any(|known| known == id) {
            Expected::Refused(ErrorCode::Conflict)
        } else {
            Expected::Refused(ErrorCode::NotFound)
        }
    }

    fn progress(&mut self, run: &str, ask: Ask) {
        match ask {
            Ask::Text(text) => {
                if !self.is_open(EventKind::TextMessageStart, EventKind::TextMessageEnd) {
                    self.close_thought(run);
                    self.say(EventKind::TextMessageStart, Some(run), "");
                }
                self.say(EventKind::TextMessageContent, Some(run), text);
            }
            Ask::Thought(text) => {
                if self.is_open(EventKind::TextMessageStart, EventKind::TextMessageEnd) {
                    return;
                }
                if !self.is_open(EventKind::ReasoningStart, EventKind::ReasoningEnd) {
                    self.say(EventKind::ReasoningStart, Some(run), "");
                    self.say(EventKind::ReasoningMessageStart, Some(run), "");
                }
                self.say(EventKind::ReasoningMessageContent, Some(run), text);
            }
            Ask::Retrying => self.say(EventKind::Custom, Some(run), "kronos.retry"),
            Ask::Finish { truncated } => {
                let answered = self.is_open(EventKind::TextMessageStart, EventKind::TextMessageEnd);
                let goes_on = answered && !self.steered().is_empty();
                self.close_answer(run);
                if truncated && goes_on {
                    self.say(EventKind::Custom, Some(run), "kronos.notice");
                }
                self.close_step(run);
                if goes_on {
                    self.hand_over_steered(run);
                    return self.say(EventKind::StepStarted, Some(run), "");
                }
                if truncated {
                    self.say(EventKind::Custom, Some(run), "kronos.notice");
                }
                self.say(EventKind::RunFinished, Some(run), "success");
            }
            Ask::Fail(code) => self.end(EventKind::RunError, code),
            Ask::Interrupt => self.end(EventKind::RunError, "interrupted"),
            Ask::Send { .. }
            | Ask::Unqueue(_)
            | Ask::Cancel
            | Ask::CancelOther
            | Ask::Notify
            | Ask::Import { .. }
            | Ask::Rename(_) => unreachable!(),
        }
    }

    fn close_thought(&mut self, run: &str) {
        if self.is_open(EventKind::ReasoningStart, EventKind::ReasoningEnd) {
            self.say(EventKind::ReasoningMessageEnd, Some(run), "");
            self.say(EventKind::ReasoningEnd, Some(run), "");
        }
    }

    fn close(&mut self, run: &str) {
        self.close_answer(run);
        self.close_step(run);
    }

    fn close_step(&mut self, run: &str) {
        if self.is_open(EventKind::StepStarted, EventKind::StepFinished) {
            self.say(EventKind::StepFinished, Some(run), "");
        }
    }

    /// What was steered into the run becomes part of it, before the model is asked again.
    fn hand_over_steered(&mut self, run: &str) {
        for id in self.steered() {
            self.say(EventKind::TextMessageStart, Some(run), format!("user {id}"));
            self.say(EventKind::TextMessageContent, Some(run), format!("text of {id}"));
            self.say(EventKind::TextMessageEnd, Some(run), "");
        }
    }

    fn close_answer(&mut self, run: &str) {
        if self.is_open(EventKind::TextMessageStart, EventKind::TextMessageEnd) {
            self.say(EventKind::TextMessageEnd, Some(run), "");
        }
        self.close_thought(run);
    }

    fn end(&mut self, kind: EventKind, what: &str) {
        let run = self.active().expect("only a run that is active ends");
        self.close(&run);
        self.say(kind, Some(&run), what);
    }

    fn start(&mut self, message: &str) -> String {
        self.runs += 1;
        let run = format!("r_{}_{}", self.session, self.runs);
        self.say(EventKind::RunStarted, Some(&run), message);
        run
    }

    fn next(&mut self) {
        if self.draining || self.active().is_some() || self.retriable().is_some() {
            return;
        }
        if let Some(first) = self.queue().first() {
            self.start(first);
        }
    }

    /// The run that is active, by name.
    pub(crate) fn active(&self) -> Option<String> {
        let mut active = None;
        for fact in &self.facts {
            match fact.kind {
                EventKind::RunStarted => active.clone_from(&fact.run),
                EventKind::RunFinished | EventKind::RunError => active = None,
                _ => {}
            }
        }
        active
    }

    /// The message whose last run was interrupted, with nothing begun since, when it may be tried again.
    fn retriable(&self) -> Option<String> {
        let mut message = None;
        let mut interrupted = None;
        for fact in &self.facts {
            match fact.kind {
                EventKind::RunStarted => {
                    message = Some(fact.what.clone());
                    interrupted = None;
                }
                EventKind::RunError if fact.what == "interrupted" => interrupted.clone_from(&message),
                _ => {}
            }
        }
        interrupted.filter(|message| self.attempts(message) < self.max_attempts)
    }

    /// Runs of the last turn since it got on: since an answer of it was complete.
    fn attempts(&self, message: &str) -> usize {
        let mut attempts = 0;
        for fact in &self.facts {
            match fact.kind {
                EventKind::RunStarted if fact.what == message => attempts += 1,
                EventKind::RunStarted | EventKind::StepStarted => attempts = 0,
                _ => {}
            }
        }
        attempts
    }

    fn first_run(&self, message: &str) -> Option<String> {
        let starts = |fact: &&Fact| match fact.kind {
            EventKind::RunStarted => fact.what == message,
            _ => steered_in(fact) == Some(message),
        };
        self.facts.iter().find(starts).and_then(|fact| fact.run.clone())
    }

    /// Every message that was ever taken, in order; a retried one comes again.
    fn accepted(&self) -> impl Iterator<Item = &str> {
        taken(&self.facts)
    }

    fn removed(&self, id: &str) -> bool {
        let removed = format!("kronos.message_unqueued {id}");
        self.facts.iter().any(|fact| fact.what == removed)
    }

    pub(crate) fn queue(&self) -> Vec<String> {
        let mut queue: Vec<String> = Vec::new();
        for fact in &self.facts {
            if let Some(id) = accepted(fact) {
                queue.push(id.to_owned());
            } else if let Some(id) = steered_in(fact) {
                queue.retain(|queued| queued != id);
            } else if let Some(id) = fact.what.strip_prefix("kronos.message_unqueued ") {
                queue.retain(|queued| queued != id);
            } else if fact.kind == EventKind::RunStarted {
                queue.retain(|queued| *queued != fact.what);
            }
        }
        queue
    }

    /// What waits for the next step of the active turn; when another begins, it waits like the rest.
    fn steered(&self) -> Vec<String> {
        let mut steered: Vec<String> = Vec::new();
        let mut turn = "";
        for fact in &self.facts {
            if let Some(id) = fact.what.strip_prefix(STEERED) {
                steered.push(id.to_owned());
            } else if fact.kind == EventKind::RunStarted && fact.what != turn {
                turn = &fact.what;
                steered.clear();
            }
        }
        let queue = self.queue();
        steered.retain(|id| queue.contains(id));
        steered
    }

    /// Whether the last `start` in the active run has no `end` after it.
    fn is_open(&self, start: EventKind, end: EventKind) -> bool {
        let mut open = false;
        for fact in &self.facts {
            if fact.kind == start {
                open = true;
            } else if fact.kind == end || fact.kind == EventKind::RunStarted {
                open = false;
            }
        }
        open
    }
}

/// Ids of messages that `facts` take, in order.
pub(crate) fn taken(facts: &[Fact]) -> impl Iterator<Item = &str> {
    facts.iter().filter_map(|fact| match fact.kind {
        EventKind::RunStarted if fact.what.is_empty() => None,
        EventKind::RunStarted => Some(fact.what.as_str()),
        _ => accepted(fact),
    })
}

/// The message that this fact makes wait.
pub(crate) fn accepted(fact: &Fact) -> Option<&str> {
    let plain = fact.what.strip_prefix(ACCEPTED);
    plain.or_else(|| fact.what.strip_prefix(STEERED))
}

/// The message that this fact puts into the active run.
pub(crate) fn steered_in(fact: &Fact) -> Option<&str> {
    let starts = fact.kind == EventKind::TextMessageStart;
    starts.then(|| fact.what.strip_prefix("user ")).flatten()
}

/// A conversation as it is shown: `(who, text)`, a question by its id, an answer by its run.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Picture {
    pub(crate) shown: Vec<(String, String)>,
    /// Of what was said elsewhere, the message that is being told, and whether its text is shown here.
    told: Option<(String, bool)>,
}

impl Picture {
    /// One that begins with a snapshot.
    pub(crate) fn of(shown: Vec<(String, String)>) -> Self {
        Self { shown, told: None }
    }

    pub(crate) fn take(&mut self, fact: &Fact) {
        let run = fact.run.clone().unwrap_or_default();
        match fact.kind {
            EventKind::RunStarted => {
                let known = self.shown.iter().any(|(who, _)| *who == fact.what);
                if !known && !fact.what.is_empty() {
                    self.shown.push((fact.what.clone(), String::new()));
                }
            }
            EventKind::TextMessageStart => {
                let (role, id) = fact.what.split_once(' ').unwrap_or_default();
                let earlier = self.shown.iter().filter(|(who, _)| is_answer(who, &run)).count();
                let who = match (id.is_empty(), earlier) {
                    (true, 0) => run,
                    (true, earlier) => format!("{run}_{}", earlier + 1),
                    (false, _) => answer_of(id),
                };
                self.told = (!id.is_empty()).then(|| (who.clone(), role == "assistant"));
                self.shown.push((who, String::new()));
            }
            EventKind::TextMessageEnd => self.told = None,
            EventKind::TextMessageContent => {
                let (whose, shows) = self.told.clone().unwrap_or((run, true));
                let text = self.shown.iter_mut().rev().find(|(who, _)| is_answer(who, &whose));
                let (_, text) = text.expect("a text has begun");
                if shows {
                    text.push_str(&fact.what);
                }
            }
            _ => {}
        }
    }
}

/// Whether `who` is an answer of this run: the second is called after it and `_2`.
fn is_answer(who: &str, run: &str) -> bool {
    let rest = who.strip_prefix(run);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
}

/// What an answer is called here.
fn answer_of(id: &str) -> String {
    id.replacen("a_", "r_", 1)
}

/// The conversation that `facts` tell.
pub(crate) fn picture(facts: &[Fact]) -> Vec<(String, String)> {
    let mut picture = Picture::default();
    facts.iter().for_each(|fact| picture.take(fact));
    picture.shown
}

/// The conversation as a snapshot gives it, in the same form.
pub(crate) fn picture_of(messages: &[Message]) -> Vec<(String, String)> {
    let shown = messages.iter().map(|message| match message {
        Message::Assistant(answer) => (
            answer_of(answer.id.as_str()),
            answer.content.clone().unwrap_or_default(),
        ),
        other => (other.id().to_string(), String::new()),
    });
    shown.collect()
}
