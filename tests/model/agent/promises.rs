//! What must hold at any time, read straight from the log: it shares no code with the core.

use std::collections::{BTreeMap, HashMap, HashSet};

use kronos_actors::{
    gemini::{Content, Role, calls_of},
    session::{
        context,
        core::{Execute, Generate},
        log::Stored,
        state::{Stage, State},
    },
};
use kronos_protocol::{
    client::{SessionSettings, ToolPolicy, ToolRule},
    event::{Event, Outcome, TextRole},
    message::Interrupt,
};
use serde_json::{Value, json};

use crate::glue::Glue;

/// A call that has left.
pub(super) struct Left {
    pub(super) call: String,
    pub(super) key: String,
    pub(super) incarnation: u32,
    /// It came back, and nothing had been done.
    pub(super) nothing_done: bool,
}

/// A verdict as JSON, and the call it is about.
pub(super) type Said = (Value, Option<String>);

/// What a log tells.
#[derive(Default)]
pub(super) struct Told {
    /// Messages of users that were taken.
    pub(super) taken: HashSet<String>,
    /// Every question, in order.
    pub(super) asked: Vec<Interrupt>,
    /// The verdict of each.
    pub(super) verdicts: HashMap<String, Said>,
    /// Results, by call.
    pub(super) results: HashMap<String, u32>,
    /// Every call, in order.
    calls: Vec<String>,
    /// Calls without a result that are on a branch that was left.
    left_behind: HashSet<String>,
    /// Calls of runs that were given up while they waited.
    given_up: HashSet<String>,
    /// What was decided about calls: the call, in one word.
    decided: Vec<(String, String)>,
    /// Keys of intents, and their calls.
    intents: HashSet<(String, String)>,
    /// Ids of the model's calls in complete answers of the last turn, on this branch.
    made: Vec<String>,
    /// Messages that were handed to the last turn, on this branch.
    handed: Vec<String>,
}

impl Told {
    pub(super) fn of<'a>(log: impl IntoIterator<Item = &'a Stored>) -> Self {
        let mut told = Self::default();
        let mut turn = String::new();
        for stored in log {
            match &stored.event {
                Event::RunStarted(event) => {
                    let messages = event.input.iter().flat_map(|input| &input.messages);
                    let carried = messages.map(|message| message.id().to_string()).next();
                    let before = stored.private.as_ref().and_then(|record| record["message"].as_str());
                    let of_turn = carried
                        .clone()
                        .or_else(|| before.map(str::to_owned))
                        .unwrap_or_default();
                    told.taken.extend(carried);
                    if of_turn != turn {
                        turn = of_turn;
                        told.made.clear();
                        told.handed.clear();
                    }
                }
                Event::RunFinished(event) => {
                    if let Some(Outcome::Interrupt { interrupts }) = &event.outcome {
                        told.asked.extend(interrupts.iter().cloned());
                    }
                }
                Event::TextMessageStart(event) if event.role == Some(TextRole::User) => {
                    told.handed.push(event.message_id.to_string());
                }
                Event::ToolCallStart(event) => told.calls.push(event.tool_call_id.clone()),
                Event::ToolCallResult(event) => *told.results.entry(event.tool_call_id.clone()).or_default() += 1,
                Event::Custom(event) => told.custom(&event.name, &event.value, stored.private.as_ref()),
                _ => {}
            }
        }
        told
    }

    fn custom(&mut self, name: &str, value: &Value, private: Option<&Value>) {
        let word = |value: &Value, key: &str| value[key].as_str().unwrap_or_default().to_owned();
        match name {
            "kronos.message_accepted" => drop(self.taken.insert(word(value, "messageId"))),
            "kronos.interrupt_answered" => {
                let id = word(value, "interruptId");
                let call = value["toolCallId"].as_str().map(str::to_owned);
                let before = self.verdicts.insert(id.clone(), (value.clone(), call));
                assert!(before.is_none(), "{id} is answered twice");
            }
            "kronos.run_cancelled" => self.given_up.extend(self.calls.iter().cloned()),
            "kronos.branched" | "kronos.branch_selected" => {
                let open = self.calls.iter().filter(|call| !self.results.contains_key(*call));
                self.left_behind.extend(open.cloned());
                self.made.clear();
                self.handed.clear();
            }
            "kronos.tool_calls" => {
                for call in value["calls"].as_array().into_iter().flatten() {
                    self.decided.push((word(call, "toolCallId"), word(call, "decision")));
                }
                let Some(private) = private else { return };
                for intent in private["intents"].as_array().into_iter().flatten() {
                    self.intents.insert((word(intent, "call"), word(intent, "key")));
                }
                let parts = private["parts"].as_array().cloned().unwrap_or_default();
                self.made
                    .extend(calls_of(&parts).into_iter().filter_map(|call| call.id));
            }
            _ => {}
        }
    }

    /// Verdicts about a call with this word.
    fn said(&self, call: &str, word: &str) -> usize {
        let said = |(verdict, of): &&Said| of.as_deref() == Some(call) && verdict["verdict"] == word;
        self.verdicts.values().filter(said).count()
    }
}

/// How often what happened, in words.
pub(super) type Seen = BTreeMap<String, u64>;

/// Counts what a log tells, so that a test can say that it has seen all of it.
pub(super) fn seen(log: &[Stored]) -> Seen {
    let mut seen = Seen::new();
    let mut count = |what: String| *seen.entry(what).or_default() += 1;
    for stored in log {
        match &stored.event {
            Event::RunFinished(event) => match &event.outcome {
                Some(Outcome::Interrupt { .. }) => count("asks".to_owned()),
                Some(Outcome::Cancelled) => count("cancelled".to_owned()),
                Some(Outcome::Success { pending_tool_call_ids }) if pending_tool_call_ids.is_some() => {
                    count("waits for its client".to_owned());
                }
                _ => count("succeeds".to_owned()),
            },
            Event::RunError(event) => count(format!("fails: {}", event.code.as_deref().unwrap_or_default())),
            Event::TextMessageStart(event) if event.role == Some(TextRole::User) => count("steered".to_owned()),
            Event::ToolCallResult(_) => {
                let private = stored.private.clone().unwrap_or_default();
                count(format!(
                    "result: {}",
                    private["status"].as_str().unwrap_or("stopped by the end")
                ));
                if private["stored"] == true {
                    count("result: stored".to_owned());
                }
            }
            Event::Custom(event) if event.name == "kronos.interrupt_answered" => {
                count(format!(
                    "verdict: {}",
                    event.value["verdict"].as_str().unwrap_or_default()
                ));
            }
            Event::Custom(event) if event.name == "kronos.tool_calls" => {
                for call in event.value["calls"].as_array().into_iter().flatten() {
                    count(format!("decided: {}", call["decision"].as_str().unwrap_or_default()));
                }
            }
            Event::Custom(event) => count(event.name.clone()),
            _ => {}
        }
    }
    seen
}

/// A call may leave: it is the first time, or nothing was done, or a person said so.
pub(super) fn check_leaves(execute: &Execute, incarnation: u32, left: &[Left], durable: &Told) {
    let intent = &execute.intent;
    let call = &intent.call;
    assert!(
        durable.intents.contains(&(call.clone(), intent.key.clone())),
        "{call} leaves before its intent is durable"
    );
    let effects = || left.iter().filter(|left| left.call == *call && !left.nothing_done);
    assert!(
        !effects().any(|left| left.key == intent.key && left.incarnation == incarnation),
        "{} leaves twice",
        intent.key
    );
    if !intent.repeatable {
        let retries = durable.said(call, "retry");
        assert!(effects().count() <= retries, "{call} may have its effect twice");
        assert!(
            !effects().any(|left| left.key == intent.key),
            "{} is used again",
            intent.key
        );
    }
    assert_eq!(durable.said(call, "rejected"), 0, "{call} was rejected");
    let asked = durable
        .decided
        .iter()
        .any(|(of, decision)| of == call && decision == "ask");
    assert_eq!(
        asked,
        durable.said(call, "approved") > 0,
        "{call} leaves without an approval"
    );
    assert!(!durable.results.contains_key(call), "{call} is over");
}

/// What asks is what the settings say.
pub(super) fn check_decided(stored: &Stored, settings: &SessionSettings) {
    let Event::Custom(event) = &stored.event else { return };
    let first = stored
        .private
        .as_ref()
        .is_some_and(|private| private["parts"].is_array());
    if event.name != "kronos.tool_calls" || !first {
        return;
    }
    for call in event.value["calls"].as_array().into_iter().flatten() {
        let tool = call["tool"].as_str().unwrap_or_default();
        let rule = settings.tool_rules.as_ref().and_then(|rules| rules.get(tool));
        let asks = match (rule, settings.tool_policy.unwrap_or_default()) {
            (Some(ToolRule::Auto), _) => false,
            (Some(ToolRule::Ask), _) | (None, ToolPolicy::AskAll) => true,
            (None, ToolPolicy::AskWrites) => tool == "WRITE",
            _ => false,
        };
        let denied = rule == Some(&ToolRule::Deny) || tool == "NONE";
        let decision = call["decision"].as_str().unwrap_or_default();
        match decision {
            "run" => assert!(!asks && !denied && tool != "PICK", "{call} runs"),
            "ask" => assert!(asks && !denied && tool != "PICK", "{call} is asked about"),
            "client" => assert_eq!(tool, "PICK"),
            other => assert_eq!(other, "refused"),
        }
    }
}

/// The model is asked about the whole of the turn.
pub(super) fn check_question(generate: &Generate, state: &State, told: &Told) {
    let contents = &generate.contents;
    check_contents(contents);
    let last = contents.last().expect("the model is asked something");
    assert_eq!(last.role, Role::User, "the last turn is the user's");
    let mut calls: Vec<String> = Vec::new();
    for turn in contents.iter().filter(|turn| turn.role == Role::Model) {
        calls.extend(calls_of(&turn.parts).into_iter().filter_map(|call| call.id));
    }
    for made in &told.made {
        let times = calls.iter().filter(|call| *call == made).count();
        assert_eq!(times, 1, "{made} is a step that was done");
    }
    let texts = || contents.iter().flat_map(|turn| &turn.parts);
    for handed in &told.handed {
        let text = json!({"text": format!("text of {handed}")});
        assert_eq!(
            texts().filter(|part| **part == text).count(),
            1,
            "{handed} was handed over"
        );
    }
    assert!(
        !state.queue.iter().any(|queued| queued.is_steering()),
        "what was steered reaches the next request"
    );
}

/// Turns alternate, and each call has its result right behind it.
fn check_contents(contents: &[Content]) {
    for pair in contents.windows(2) {
        assert_ne!(pair[0].role, pair[1].role, "turns alternate");
    }
    let mut made = Vec::new();
    for turn in contents {
        assert!(!turn.parts.is_empty(), "no turn is empty");
        let responses = turn.parts.iter().filter_map(|part| part.get("functionResponse"));
        let answered: Vec<(&Value, &Value)> = responses.map(|answer| (&answer["id"], &answer["name"])).collect();
        let expected: Vec<(Value, Value)> = std::mem::take(&mut made);
        let expected: Vec<(&Value, &Value)> = expected.iter().map(|(id, name)| (id, name)).collect();
        assert_eq!(answered, expected, "each call has one result right behind it");
        let first = turn.parts.iter().take(answered.len());
        assert!(first.into_iter().all(|part| part.get("functionResponse").is_some()));
        let calls = calls_of(&turn.parts).into_iter();
        made = calls.map(|call| (json!(call.id), json!(call.name))).collect();
    }
    assert!(made.is_empty(), "the last calls have results");
}

/// Everything else.
pub(super) fn check(glue: &Glue, told: &Told) {
    let state = &glue.state;
    check_contents(&context::contents(state));
    let mut ids = HashSet::new();
    assert!(
        state.messages.iter().all(|said| ids.insert(&said.id)),
        "message ids are unique"
    );
    let retriable = state.retriable(glue.config.max_run_attempts).is_some();
    if state.run.is_some() {
        assert!(glue.is_busy(), "a run is active and nothing is on its way");
    } else {
        assert!(!glue.is_busy(), "something is done for no run");
        assert!(
            glue.draining || !(retriable || state.goes_on()),
            "what can go on goes on"
        );
        assert!(
            glue.draining || state.waits() || state.queue.is_empty(),
            "what waits starts"
        );
    }
    check_calls(glue, told, retriable);
    check_questions(state, told);
}

fn check_calls(glue: &Glue, told: &Told, retriable: bool) {
    let state = &glue.state;
    let mut unique = HashSet::new();
    for call in &told.calls {
        assert!(unique.insert(call), "{call} is made twice");
        let results = told.results.get(call).copied().unwrap_or(0);
        assert!(results <= 1, "{call} has {results} results");
        if results == 1 || told.left_behind.contains(call) {
            continue;
        }
        let known = state
            .step
            .iter()
            .flat_map(|step| &step.calls)
            .find(|known| known.id == *call);
        let known = known.unwrap_or_else(|| panic!("{call} is forgotten"));
        assert_ne!(known.stage, Stage::Answered);
        let given_up = told.given_up.contains(call);
        let waits = known.question.is_some() || known.stage == Stage::Client || given_up;
        assert!(
            state.run.is_some() || retriable || waits,
            "nobody is asked about {call}: {known:?}"
        );
    }
}

fn check_questions(state: &State, told: &Told) {
    let mut unique = HashSet::new();
    let mut open = HashSet::new();
    for asked in &told.asked {
        assert!(unique.insert(&asked.id), "{} is asked twice", asked.id);
        if !told.verdicts.contains_key(asked.id.as_str()) {
            open.insert(asked.id.clone());
        }
    }
    let questions = state.step.iter().flat_map(|step| step.questions());
    let known: HashSet<_> = questions
        .filter(|question| question.verdict.is_none())
        .map(|question| question.interrupt.id.clone())
        .collect();
    assert_eq!(open, known, "a question is open until it has a verdict");
    assert!(
        state.run.is_none() || open.is_empty(),
        "a run goes on when all is answered"
    );
}

/// All fields but the map, whose order is not its own, are compared as they are.
pub(super) fn check_same(folded: &State, live: &State) {
    assert_eq!(folded.messages, live.messages);
    assert_eq!(folded.branches, live.branches);
    assert_eq!(folded.queue, live.queue);
    assert_eq!(folded.run, live.run);
    assert_eq!(folded.interrupted, live.interrupted);
    assert_eq!(folded.step, live.step);
    assert_eq!(folded.runs, live.runs);
    assert_eq!(folded.verdicts, live.verdicts);
    assert_eq!(folded.sends, live.sends);
    assert_eq!(
        (folded.reasoning_open, &folded.text_open, &folded.step_open),
        (live.reasoning_open, &live.text_open, &live.step_open)
    );
    let order = |state: &State| {
        let verifier = &state.verifier;
        (
            verifier.is_running(),
            verifier.open().to_vec(),
            verifier.unanswered_calls().to_vec(),
        )
    };
    assert_eq!(order(folded), order(live));
    assert_eq!((folded.updated_ms, &folded.title), (live.updated_ms, &live.title));
    assert_eq!(folded.settings, live.settings);
    assert_eq!(folded.summary, live.summary);
}
