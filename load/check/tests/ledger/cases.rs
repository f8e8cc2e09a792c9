//! One case for each check that random histories do not reach.

use kronos_check::{Breach, DeviceId, Ledger, RunEnd, RunShape};
use kronos_protocol::Codec;
use serde_json::{Value, json};

/// A ledger with one device that is attached to session `s` from its start.
struct Case {
    ledger: Ledger,
    device: DeviceId,
}

impl Case {
    fn new() -> Self {
        let mut ledger = Ledger::new();
        let device = ledger.device("phone");
        let mut case = Self { ledger, device };
        case.attach(json!({"op": "attach", "ref": "a", "session": "new"}), "e", 0, true)
            .unwrap();
        case.get(json!({"op": "caught_up", "session": "s", "seq": 0})).unwrap();
        case
    }

    fn ask(&mut self, frame: Value) {
        let frame = Codec::Json.decode_client(frame.to_string().as_bytes()).unwrap();
        self.ledger.sent(self.device, &frame);
    }

    #[expect(clippy::result_large_err, reason = "as the ledger gives it")]
    fn get(&mut self, frame: Value) -> Result<(), Breach> {
        let frame = Codec::Json.decode_server(frame.to_string().as_bytes()).unwrap();
        self.ledger.received(self.device, &frame)
    }

    #[expect(clippy::result_large_err, reason = "as the ledger gives it")]
    fn attach(&mut self, attach: Value, epoch: &str, head: u64, recovered: bool) -> Result<(), Breach> {
        self.ask(attach);
        let reply =
            json!({"op": "ok", "ref": "a", "session": "s", "epoch": epoch, "head": head, "recovered": recovered});
        self.get(reply)
    }

    #[expect(clippy::result_large_err, reason = "as the ledger gives it")]
    fn events(&mut self, entries: &[Value]) -> Result<(), Breach> {
        self.get(json!({"op": "events", "session": "s", "epoch": "e", "events": entries}))
    }

    /// A run that answers `m` with a text.
    fn answered(&mut self, text: &str) {
        self.events(&[
            started(1, "r", "m"),
            entry(2, json!({"type": "TEXT_MESSAGE_START", "messageId": "a"})),
            entry(
                3,
                json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "a", "delta": text}),
            ),
            entry(4, json!({"type": "TEXT_MESSAGE_END", "messageId": "a"})),
            entry(
                5,
                json!({"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "add", "parentMessageId": "a"}),
            ),
            entry(6, json!({"type": "TOOL_CALL_END", "toolCallId": "c"})),
            entry(
                7,
                json!({"type": "TOOL_CALL_RESULT", "toolCallId": "c", "messageId": "t", "content": "2"}),
            ),
            entry(8, json!({"type": "RUN_FINISHED", "threadId": "s", "runId": "r"})),
        ])
        .unwrap();
    }

    /// Comes back by a snapshot of position `at`.
    fn snapshot(&mut self, epoch: &str, at: u64, messages: &Value, truncated: bool) -> Vec<Breach> {
        let after = json!({"epoch": "e", "seq": 8});
        self.ledger.cut(self.device);
        let attach = json!({"op": "attach", "ref": "a", "session": "s", "after": after});
        let mut breaches: Vec<_> = self.attach(attach, epoch, at, false).err().into_iter().collect();
        let mut snapshot = json!({"type": "MESSAGES_SNAPSHOT", "messages": messages});
        if truncated {
            snapshot["metadata"] = json!({"kronos": {"truncated": true, "total": 9}});
        }
        let entries = [
            json!({"seq": at, "run": "r_snapshot_9", "event": {"type": "RUN_STARTED", "threadId": "s", "runId": "r_snapshot_9"}}),
            json!({"seq": at, "run": "r_snapshot_9", "event": snapshot}),
            json!({"seq": at, "run": "r_snapshot_9", "event": {"type": "RUN_FINISHED", "threadId": "s", "runId": "r_snapshot_9"}}),
        ];
        let frame = json!({"op": "events", "session": "s", "epoch": epoch, "snapshot": true, "events": entries});
        breaches.extend(self.get(frame).err());
        breaches.extend(self.ledger.finish(None));
        breaches
    }
}

fn entry(seq: u64, event: Value) -> Value {
    json!({"seq": seq, "run": "r", "event": event})
}

fn started(seq: u64, run: &str, message: &str) -> Value {
    let input = json!({"threadId": "s", "runId": run, "tools": [], "context": [],
        "messages": [{"id": message, "role": "user", "content": "hi"}]});
    json!({"seq": seq, "run": run, "event": {"type": "RUN_STARTED", "threadId": "s", "runId": run, "input": input}})
}

fn said(id: &str, role: &str, text: &str) -> Value {
    let mut message = json!({"id": id, "role": role, "content": text});
    if role == "tool" {
        message["toolCallId"] = "c".into();
    }
    message
}

fn found(breaches: &[Breach]) -> Vec<&'static str> {
    breaches.iter().map(|breach| breach.check).collect()
}

#[test]
fn a_breach_says_where_it_is_and_what_came_before() {
    let mut case = Case::new();
    case.ask(json!({"op": "hello", "ref": "h", "token": "secret"}));
    let breach = case.get(json!({"op": "ok", "ref": "?"})).unwrap_err();
    assert_eq!(
        (breach.check, breach.session.as_str(), breach.device.as_str()),
        ("reply", "s", "phone")
    );
    assert_eq!(
        breach.sent,
        [
            r#"{"op":"attach","ref":"a","session":"new"}"#,
            r#"{"op":"hello","ref":"h"}"#
        ]
    );
    assert_eq!(breach.received.len(), 3);
    let breach = case.ledger.undecodable(case.device, b"\xff?");
    assert_eq!((breach.check, breach.received.len()), ("undecodable", 4));
    assert!(Breach::CHECKS.contains(&breach.check));
}

#[test]
fn each_violation_of_the_order_has_its_name() {
    let mut case = Case::new();
    let check = |result: Result<(), Breach>| result.unwrap_err().check;
    let other = json!({"op": "events", "session": "s", "epoch": "f", "events": [started(1, "r", "m")]});
    assert_eq!(check(case.get(other)), "epoch");
    assert_eq!(
        check(case.get(json!({"op": "caught_up", "session": "o", "seq": 1}))),
        "not_attached"
    );
    assert_eq!(
        check(case.get(json!({"op": "caught_up", "session": "s", "seq": 0}))),
        "attach"
    );
    let mut merged = started(1, "r", "m");
    merged["first"] = 0.into();
    assert_eq!(check(case.events(&[merged])), "merged");
    let mut case = Case::new();
    let end = entry(2, json!({"type": "TEXT_MESSAGE_END", "messageId": "a"}));
    assert_eq!(check(case.events(&[started(1, "r", "m"), end])), "order");
    let mut case = Case::new();
    for reference in ["1", "2"] {
        case.ask(json!({"op": "cancel", "ref": reference, "session": "s"}));
    }
    assert_eq!(check(case.get(json!({"op": "ok", "ref": "2"}))), "overtook");
    assert_eq!(found(&case.ledger.finish(None)), ["unacked"]);
}

#[test]
fn a_log_that_ends_before_what_was_shown_is_unsaid() {
    let mut case = Case::new();
    case.answered("Bern");
    case.ledger.cut(case.device);
    let attach = json!({"op": "attach", "ref": "a", "session": "s", "after": {"epoch": "e", "seq": 8}});
    let breach = case.attach(attach, "e", 7, false).unwrap_err();
    assert_eq!((breach.check, breach.seq), ("unsaid", Some(8)));
}

#[test]
fn a_snapshot_of_another_history_must_have_what_was_shown() {
    let user = said("m", "user", "hi");
    let tool = said("t", "tool", "2");
    for (answer, expected) in [
        ("Bern", &[][..]),
        ("Bern is", &[]),
        ("Be", &["unsaid"]),
        ("Rome", &["unsaid"]),
    ] {
        let mut case = Case::new();
        case.answered("Bern");
        let messages = json!([user, said("a", "assistant", answer), tool]);
        assert_eq!(found(&case.snapshot("f", 3, &messages, false)), expected, "{answer}");
    }
}

#[test]
fn a_snapshot_must_have_exactly_what_had_ended_and_may_leave_out_the_oldest() {
    let user = said("m", "user", "hi");
    let (answer, tool) = (said("a", "assistant", "Bern"), said("t", "tool", "2"));
    let cases = [
        (json!([user, answer, tool]), false, &[][..]),
        (
            json!([user, said("a", "assistant", "Bern!"), tool]),
            false,
            &["diverged"],
        ),
        (json!([user, tool]), false, &["unsaid"]),
        (json!([answer, tool]), true, &[]),
        (json!([answer]), true, &["unsaid"]),
        (json!([answer, tool]), false, &["unsaid"]),
    ];
    for (messages, truncated, expected) in cases {
        let mut case = Case::new();
        case.answered("Bern");
        assert_eq!(
            found(&case.snapshot("e", 9, &messages, truncated)),
            expected,
            "{messages}"
        );
    }
}

#[test]
fn what_an_edit_leaves_behind_is_not_missed_and_what_a_choice_brings_back_is() {
    let branched = |seq: u64| {
        json!({"seq": seq, "event": {"type": "CUSTOM", "name": "kronos.branched",
        "value": {"branch": "b", "parent": "main"}}})
    };
    let chosen = |seq: u64| {
        json!({"seq": seq, "event": {"type": "CUSTOM", "name": "kronos.branch_selected",
        "value": {"branch": "main"}}})
    };
    let finished =
        |seq: u64| json!({"seq": seq, "run": "r2", "event": {"type": "RUN_FINISHED", "threadId": "s", "runId": "r2"}});
    let edited = json!([said("n", "user", "hi")]);
    let mut case = Case::new();
    case.answered("Bern");
    case.events(&[branched(9), started(10, "r2", "n"), finished(11)])
        .unwrap();
    assert_eq!(found(&case.snapshot("e", 12, &edited, false)), [""; 0]);
    let mut case = Case::new();
    case.answered("Bern");
    case.events(&[branched(9), started(10, "r2", "n"), finished(11), chosen(12)])
        .unwrap();
    assert_eq!(
        found(&case.snapshot("e", 13, &edited, false)),
        ["unsaid"; 3],
        "each of its messages"
    );
}

#[test]
fn runs_are_compared_with_what_they_came_to() {
    let mut case = Case::new();
    case.answered("Bern");
    let shape = RunShape {
        end: RunEnd::Success,
        text: true,
        tools: vec!["add".to_owned()],
    };
    assert_eq!(case.ledger.runs()[0].shape().as_ref(), Some(&shape));
    let compare = |expected: &[RunShape]| found(&case.ledger.compare(case.device, expected));
    assert_eq!(compare(std::slice::from_ref(&shape)), [""; 0]);
    assert_eq!(compare(&[]), ["shape"], "one too many");
    assert_eq!(compare(&[shape.clone(), shape.clone()]), ["shape"], "one too few");
    for other in [
        RunShape {
            end: RunEnd::Failed,
            ..shape.clone()
        },
        RunShape {
            text: false,
            ..shape.clone()
        },
        RunShape {
            tools: Vec::new(),
            ..shape
        },
    ] {
        assert_eq!(compare(&[other]), ["shape"]);
    }
}
