//! Runs with tools: random answers of the model, outcomes of calls, answers of people and failures, and after each step every
//! promise about effects, questions and the log, read straight from the log.
//!
//! 1,200 cases are run by default. The long run, and one case again:
//! ```text
//! KRONOS_CASES=100000 cargo test --release --test model with_tools_keeps -- --nocapture
//! KRONOS_SEED=4711 KRONOS_CASES=1 cargo test --test model with_tools_keeps
//! ```
//! A failing case is made small and printed with its seed.

use std::sync::Mutex;

use kronos_actors::{config::Durability, session::core::questions, tools::Outcome};
use kronos_protocol::{
    client::{SendMode, SessionSettings, ToolPolicy, ToolRule},
    error::RunErrorCode,
    message::ResumeStatus,
};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::{cases, in_parallel, seed};

mod promises;
mod world;

use promises::Seen;
use world::World;

/// What the model calls.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// It only reads.
    Read,
    /// It asks first, and may not be made twice.
    Write,
    /// It does not ask, and may not be made twice.
    Act,
    /// There is no such tool.
    Unknown,
    /// Its arguments do not fit.
    Bad,
    /// The client makes it.
    Client,
}

/// What a person answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Word {
    Approve,
    Edit,
    EditBadly,
    Reject,
    Retry,
    Skip,
    Result,
    Connected,
    Cancel,
    Nonsense,
}

impl Word {
    fn status(self) -> ResumeStatus {
        match self {
            Self::Cancel => ResumeStatus::Cancelled,
            _ => ResumeStatus::Resolved,
        }
    }

    fn payload(self) -> Option<Value> {
        match self {
            Self::Approve => Some(json!({"approved": true})),
            Self::Edit => Some(json!({"approved": true, "editedArgs": {"n": -1}})),
            Self::EditBadly => Some(json!({"approved": true, "editedArgs": {"n": "no number"}})),
            Self::Reject => Some(json!({"approved": false})),
            Self::Retry => Some(json!({"action": "retry"})),
            Self::Skip => Some(json!({"action": "skip"})),
            Self::Result => Some(json!({"action": "result", "result": {"id": 7}})),
            Self::Connected | Self::Cancel => None,
            Self::Nonsense => Some(json!({"approved": "perhaps", "action": "wait"})),
        }
    }

    /// What it means for a question with this reason; `None`: nothing.
    fn verdict(self, reason: &str) -> Option<&'static str> {
        match (reason, self) {
            (_, Self::Cancel) => Some("cancelled"),
            (questions::CONNECTION_REQUIRED, _) => Some("connected"),
            (questions::UNKNOWN_OUTCOME, Self::Retry) => Some("retry"),
            (questions::UNKNOWN_OUTCOME, Self::Skip) => Some("skip"),
            (questions::UNKNOWN_OUTCOME, Self::Result) => Some("result"),
            (questions::TOOL_CALL, Self::Approve | Self::Edit) => Some("approved"),
            (questions::TOOL_CALL, Self::Reject) => Some("rejected"),
            _ => None,
        }
    }

    fn fits(self, reason: &str) -> bool {
        self.verdict(reason).is_some()
    }

    /// Answers that fit.
    fn fitting(reason: &str) -> &'static [Self] {
        match reason {
            questions::UNKNOWN_OUTCOME => &[Self::Retry, Self::Skip, Self::Result, Self::Cancel],
            questions::CONNECTION_REQUIRED => &[Self::Connected, Self::Connected, Self::Cancel],
            _ => &[Self::Approve, Self::Approve, Self::Reject, Self::Edit],
        }
    }

    /// The answer with which the call is made.
    fn good(reason: &str) -> Self {
        match reason {
            questions::UNKNOWN_OUTCOME => Self::Retry,
            questions::CONNECTION_REQUIRED => Self::Connected,
            _ => Self::Approve,
        }
    }
}

/// What came of a call.
#[derive(Debug, Clone, Copy)]
enum Came {
    Done,
    /// So many bytes.
    Large(usize),
    Failed,
    Unknown,
    NotConnected {
        other_toolkit: bool,
    },
}

impl Came {
    fn outcome(self) -> Outcome {
        match self {
            Self::Done => Outcome::Done(json!({"ok": true})),
            Self::Large(bytes) => Outcome::Done(json!("ä".repeat(bytes / 2))),
            Self::Failed => Outcome::Failed("it did not work ".repeat(30)),
            Self::Unknown => Outcome::Unknown("the line broke".to_owned()),
            Self::NotConnected { other_toolkit } => Outcome::NotConnected {
                toolkit: if other_toolkit { "other" } else { "mail" }.to_owned(),
                message: "there is no account".to_owned(),
            },
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// What is awaited comes, in one of the ways in which it may.
    Next {
        calls: Vec<Kind>,
        came: Came,
        way: usize,
    },
    Send {
        id: u8,
        mode: SendMode,
    },
    Unqueue(u8),
    Cancel,
    Offered,
    Says(String),
    Thinks,
    /// A call is read before the answer is complete.
    Streams(Kind),
    Answers {
        text: bool,
        calls: Vec<Kind>,
        cut: bool,
    },
    Fails(u8),
    Outcome {
        place: usize,
        came: Came,
    },
    Linked(bool),
    Connected,
    Resume {
        answers: Vec<(usize, Word)>,
        all: bool,
    },
    ClientAnswers {
        all: bool,
    },
    Expire,
    Deadline,
    Edit(usize),
    Regenerate(Option<usize>),
    Select(usize),
    Configure(u8),
    Commit,
    CommitFails,
    Crash {
        written: bool,
    },
    Drain,
    Passivate,
    /// A client is given a snapshot, and reads on.
    Shows,
}

fn step() -> impl Strategy<Value = Step> {
    let mode = prop_oneof![
        4 => Just(SendMode::Queue), 3 => Just(SendMode::Steer), 1 => Just(SendMode::Interrupt), 1 => Just(SendMode::Reject)
    ];
    let kind = || {
        prop_oneof![
            3 => Just(Kind::Read), 3 => Just(Kind::Write), 3 => Just(Kind::Act),
            1 => Just(Kind::Unknown), 1 => Just(Kind::Bad), 1 => Just(Kind::Client)
        ]
    };
    let came = || {
        prop_oneof![
            4 => Just(Came::Done), 1 => (150usize..3000).prop_map(Came::Large), 1 => Just(Came::Failed),
            2 => Just(Came::Unknown), 2 => (0..4u8).prop_map(|n| Came::NotConnected { other_toolkit: n == 0 })
        ]
    };
    let word = prop_oneof![
        4 => Just(Word::Approve), 1 => Just(Word::Edit), 1 => Just(Word::EditBadly), 2 => Just(Word::Reject),
        3 => Just(Word::Retry), 1 => Just(Word::Skip), 1 => Just(Word::Result), 3 => Just(Word::Connected),
        1 => Just(Word::Cancel), 1 => Just(Word::Nonsense)
    ];
    let answers = prop::collection::vec((0usize..4, word), 1..4);
    let several = || prop::collection::vec(kind(), 0..4);
    prop_oneof![
        60 => (several(), came(), 0usize..12).prop_map(|(calls, came, way)| Step::Next { calls, came, way }),
        8 => (0u8..20, mode).prop_map(|(id, mode)| Step::Send { id, mode }),
        1 => (0u8..20).prop_map(Step::Unqueue),
        1 => Just(Step::Cancel),
        2 => Just(Step::Offered),
        3 => "[a-zß]{1,9} ".prop_map(Step::Says),
        1 => Just(Step::Thinks),
        2 => kind().prop_map(Step::Streams),
        4 => (any::<bool>(), several(), prop::bool::weighted(0.1))
            .prop_map(|(text, calls, cut)| Step::Answers { text, calls, cut }),
        2 => (0u8..4).prop_map(Step::Fails),
        4 => (0usize..3, came()).prop_map(|(place, came)| Step::Outcome { place, came }),
        2 => prop::bool::weighted(0.5).prop_map(Step::Linked),
        2 => Just(Step::Connected),
        5 => (answers, prop::bool::weighted(0.1)).prop_map(|(answers, all)| Step::Resume { answers, all }),
        3 => any::<bool>().prop_map(|all| Step::ClientAnswers { all }),
        1 => Just(Step::Expire),
        1 => Just(Step::Deadline),
        1 => (0usize..9).prop_map(Step::Edit),
        1 => prop::option::of(0usize..9).prop_map(Step::Regenerate),
        3 => (0usize..4).prop_map(Step::Select),
        1 => (0u8..7).prop_map(Step::Configure),
        20 => Just(Step::Commit),
        1 => Just(Step::CommitFails),
        3 => any::<bool>().prop_map(|written| Step::Crash { written }),
        1 => Just(Step::Drain),
        1 => Just(Step::Passivate),
        2 => Just(Step::Shows),
    ]
}

fn change(number: u8) -> SessionSettings {
    let rule = |rule| Some([("WRITE".to_owned(), rule)].into());
    let mut change = SessionSettings::default();
    match number {
        0 => change.tool_policy = Some(ToolPolicy::Auto),
        1 => change.tool_policy = Some(ToolPolicy::AskWrites),
        2 => change.tool_policy = Some(ToolPolicy::AskAll),
        3 => change.tool_rules = rule(ToolRule::Auto),
        4 => change.tool_rules = rule(ToolRule::Ask),
        5 => change.tool_rules = rule(ToolRule::Deny),
        _ => change.tool_rules = Some([].into()),
    }
    change
}

fn take(world: &mut World, step: &Step) {
    match step {
        Step::Next { calls, came, way } => world.next(calls, came.outcome(), *way),
        Step::Send { id, mode } => world.send(*id, *mode),
        Step::Unqueue(id) => world.unqueue(*id),
        Step::Cancel => world.cancel(),
        Step::Offered => world.offered(),
        Step::Says(text) => world.says(text),
        Step::Thinks => world.thinks("hm"),
        Step::Streams(kind) => world.streams(*kind),
        Step::Answers { text, calls, cut } => world.answers(if *text { "text" } else { "" }, calls, *cut),
        Step::Fails(0) => world.fails(RunErrorCode::UpstreamError),
        Step::Fails(1) => world.fails(RunErrorCode::Blocked),
        Step::Fails(_) => world.fails(RunErrorCode::MalformedCall),
        Step::Outcome { place, came } => world.outcome(*place, came.outcome()),
        Step::Linked(made) => world.linked(*made),
        Step::Connected => world.connected(),
        Step::Resume { answers, all } => world.resume(answers, *all),
        Step::ClientAnswers { all } => {
            world.client_answers(*all);
        }
        Step::Expire => world.expire(),
        Step::Deadline => world.deadline(),
        Step::Edit(place) => world.edit(*place),
        Step::Regenerate(place) => world.regenerate(*place),
        Step::Select(place) => world.select(*place),
        Step::Configure(number) => world.configure(change(*number)),
        Step::Commit => world.commit(),
        Step::CommitFails => world.commit_fails(),
        Step::Crash { written } => world.crash(*written),
        Step::Drain => world.drains(),
        Step::Passivate => world.passivate(),
        Step::Shows => world.shows(),
    }
    world.check();
}

fn run(steps: &[Step], relaxed: bool, trims: bool) -> World {
    let durability = if relaxed {
        Durability::Relaxed
    } else {
        Durability::Commit
    };
    let mut world = World::new(durability, trims);
    for step in steps {
        take(&mut world, step);
    }
    world.comes_to_rest();
    world
}

/// Runs one case; when it fails, the smallest one that does.
fn try_case(seed: u64, sums: &Mutex<Seen>) -> Result<(), String> {
    let config = Config {
        cases: 1,
        max_shrink_iters: 5000,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::XorShift,
        ..Config::default()
    };
    // Neighbouring seeds must not give neighbouring cases.
    let scattered = (u128::from(seed) + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    let rng = TestRng::from_seed(RngAlgorithm::XorShift, &scattered.to_le_bytes());
    let steps = prop::collection::vec(step(), 1..70);
    let strategy = (steps, prop::bool::weighted(0.3), prop::bool::weighted(0.2));
    let tried = TestRunner::new_with_rng(config, rng).run(&strategy, |(steps, relaxed, trims)| {
        let seen = run(&steps, relaxed, trims).seen();
        let mut sums = sums.lock().unwrap();
        for (what, times) in seen {
            *sums.entry(what).or_default() += times;
        }
        Ok(())
    });
    tried.map_err(|error| match error {
        TestError::Fail(reason, (steps, relaxed, trims)) => {
            format!("{reason}\nrelaxed {relaxed}, trims {trims}, steps {steps:?}")
        }
        TestError::Abort(reason) => reason.to_string(),
    })
}

#[test]
fn a_session_with_tools_keeps_its_promises_whatever_comes() {
    let (first, cases) = (seed(1), cases(1200));
    println!("KRONOS_SEED={first} KRONOS_CASES={cases}");
    let sums = Mutex::new(Seen::new());
    in_parallel(first, cases, |seed| {
        if let Err(reason) = try_case(seed, &sums) {
            panic!("KRONOS_SEED={seed} KRONOS_CASES=1: {reason}");
        }
    });
    let sums = sums.into_inner().unwrap();
    println!("over all cases: {sums:#?}");
    let some_of_each = [
        "asks",
        "waits for its client",
        "steered",
        "fails: interrupted",
        "fails: deadline",
        "fails: too_many_steps",
        "fails: malformed_call",
        "fails: blocked",
        "decided: run",
        "decided: ask",
        "decided: unknown",
        "decided: connect",
        "decided: client",
        "decided: refused",
        "result: done",
        "result: failed",
        "result: rejected",
        "result: unknown",
        "result: stopped",
        "result: stored",
        "verdict: approved",
        "verdict: rejected",
        "verdict: retry",
        "verdict: skip",
        "verdict: result",
        "verdict: connected",
        "verdict: cancelled",
        "verdict: expired",
        "verdict: superseded",
        "kronos.branched",
        "kronos.branch_selected",
        "kronos.context_trimmed",
        "kronos.run_cancelled",
        "kronos.message_unqueued",
    ];
    for what in some_of_each {
        assert!(cases < 300 || sums.contains_key(what), "never seen: {what}");
    }
}

/// A run whose model makes these calls, with everything durable.
fn begun(calls: &[Kind]) -> World {
    let mut world = World::new(Durability::Commit, false);
    for step in [
        Step::Send {
            id: 1,
            mode: SendMode::Queue,
        },
        Step::Offered,
        made(calls),
        Step::Commit,
        Step::Commit,
    ] {
        take(&mut world, &step);
    }
    world
}

fn made(calls: &[Kind]) -> Step {
    Step::Answers {
        text: false,
        calls: calls.to_vec(),
        cut: false,
    }
}

fn goes(world: &mut World, steps: &[Step]) {
    for step in steps {
        take(world, step);
    }
}

fn came(came: Came) -> Step {
    Step::Outcome { place: 0, came }
}

fn answers(answers: &[(usize, Word)]) -> Step {
    Step::Resume {
        answers: answers.to_vec(),
        all: false,
    }
}

const NOT_CONNECTED: Came = Came::NotConnected { other_toolkit: false };

#[test]
fn a_call_that_was_approved_is_not_made_when_the_rest_is_given_up() {
    let mut world = begun(&[Kind::Write, Kind::Write]);
    goes(
        &mut world,
        &[
            answers(&[(0, Word::Approve)]),
            Step::Cancel,
            Step::Commit,
            Step::Commit,
            Step::Crash { written: true },
        ],
    );
    assert_eq!(world.active(), None);
    world.comes_to_rest();
    assert_eq!(world.calls_made(), 0);
}

#[test]
fn a_run_that_waits_for_its_client_can_be_given_up() {
    let mut world = begun(&[Kind::Client]);
    assert!(world.state().waits());
    goes(&mut world, &[Step::Cancel]);
    world.comes_to_rest();
}

#[test]
fn a_result_of_the_client_is_kept_or_refused() {
    let mut world = begun(&[Kind::Client, Kind::Client, Kind::Write]);
    goes(
        &mut world,
        &[
            Step::ClientAnswers { all: false },
            Step::ClientAnswers { all: true },
            answers(&[(0, Word::Reject)]),
        ],
    );
    world.comes_to_rest();
}

#[test]
fn an_answer_that_could_not_be_read_is_not_part_of_the_next_one() {
    let mut world = begun(&[]);
    goes(
        &mut world,
        &[
            Step::Send {
                id: 2,
                mode: SendMode::Queue,
            },
            Step::Offered,
            Step::Says("a ".to_owned()),
            Step::Streams(Kind::Read),
            Step::Fails(2),
            Step::Says("b ".to_owned()),
            Step::Streams(Kind::Read),
            made(&[Kind::Act]),
            Step::Commit,
        ],
    );
    world.comes_to_rest();
}

#[test]
fn calls_that_cannot_be_made_end_the_run_in_order() {
    let mut world = begun(&[Kind::Bad]);
    goes(
        &mut world,
        &[
            Step::Thinks,
            Step::Says("so ".to_owned()),
            Step::Streams(Kind::Bad),
            made(&[Kind::Unknown]),
        ],
    );
    assert_eq!(world.active(), None);
}

#[test]
fn a_call_waits_for_the_account_of_its_own_toolkit() {
    let mut world = begun(&[Kind::Act]);
    goes(
        &mut world,
        &[came(Came::NotConnected { other_toolkit: true }), Step::Linked(true)],
    );
    assert!(world.state().waits());
}

#[test]
fn an_account_that_is_never_good_enough_is_asked_about() {
    let mut world = begun(&[Kind::Act]);
    goes(&mut world, &[came(NOT_CONNECTED), Step::Connected, Step::Linked(true)]);
    goes(
        &mut world,
        &[Step::Commit, Step::Commit, came(NOT_CONNECTED), Step::Linked(true)],
    );
    assert!(world.state().waits(), "it is not tried for ever");
}

#[test]
fn the_calls_of_a_turn_that_is_not_tried_again_have_results() {
    let mut world = begun(&[Kind::Read]);
    for _ in 0..4 {
        goes(&mut world, &[Step::Crash { written: true }, Step::Commit, Step::Commit]);
    }
    assert_eq!(world.active(), None);
}

#[test]
fn two_calls_that_need_one_account_wait_for_one_link() {
    let mut world = begun(&[Kind::Act, Kind::Act]);
    goes(&mut world, &[came(NOT_CONNECTED), Step::Linked(true), Step::Connected]);
    goes(&mut world, &[came(NOT_CONNECTED), Step::Linked(true)]);
    assert!(world.state().waits());
}

#[test]
fn a_message_that_was_blocked_is_not_answered_again() {
    let mut world = World::new(Durability::Commit, false);
    let id = 1;
    let mode = SendMode::Queue;
    goes(
        &mut world,
        &[
            Step::Send { id, mode },
            Step::Offered,
            Step::Fails(1),
            Step::Regenerate(None),
        ],
    );
    assert_eq!(world.active(), None);
}
