use kronos_protocol::ClientFrame;
use serde_json::{Value, json};

use super::*;

/// A client that follows session `s` (epoch `e`), and the frames it gets.
struct Client(Checker);

impl Client {
    fn attached(attach: Value, reply: Value) -> Self {
        let mut client = Self(Checker::default());
        client.attach(attach, reply).unwrap();
        client
    }

    /// From the start of a session with `head` events.
    fn from_start(head: u64) -> Self {
        Self::attached(json!({}), json!({"head": head}))
    }

    fn ask(&mut self, mut frame: Value) {
        frame["session"] = frame.get("session").cloned().unwrap_or_else(|| "s".into());
        let frame: ClientFrame = kronos_protocol::Codec::Json
            .decode_client(frame.to_string().as_bytes())
            .unwrap();
        self.0.asked(&frame.reference, &frame.command);
    }

    fn get(&mut self, frame: Value) -> Result<(), Violation> {
        self.0.received(&serde_json::from_value(frame).unwrap())
    }

    fn attach(&mut self, mut attach: Value, mut reply: Value) -> Result<(), Violation> {
        attach["op"] = "attach".into();
        attach["ref"] = "a".into();
        self.ask(attach);
        for (name, value) in [("op", json!("ok")), ("ref", json!("a")), ("session", json!("s"))] {
            reply[name] = value;
        }
        for (name, value) in [("epoch", json!("e")), ("recovered", json!(true))] {
            reply[name] = reply.get(name).cloned().unwrap_or(value);
        }
        self.get(reply)
    }

    fn events(&mut self, entries: Value) -> Result<(), Violation> {
        self.get(json!({"op": "events", "session": "s", "epoch": "e", "events": entries}))
    }

    fn snapshot(&mut self, entries: Value) -> Result<(), Violation> {
        self.get(json!({"op": "events", "session": "s", "epoch": "e", "snapshot": true, "events": entries}))
    }

    fn caught_up(&mut self, seq: u64) -> Result<(), Violation> {
        self.get(json!({"op": "caught_up", "session": "s", "seq": seq}))
    }

    fn track(&self) -> &Track {
        self.0.track("s").unwrap()
    }
}

fn note(seq: u64) -> Value {
    json!({"seq": seq, "event": {"type": "CUSTOM", "name": "n", "value": null}})
}

fn entry(seq: u64, event: Value) -> Value {
    json!({"seq": seq, "run": "r", "event": event})
}

fn merged(first: u64, seq: u64, delta: &str) -> Value {
    let event = json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "a", "delta": delta});
    json!({"seq": seq, "first": first, "run": "r", "event": event})
}

fn run_started(seq: u64, message: &str) -> Value {
    entry(
        seq,
        json!({"type": "RUN_STARTED", "threadId": "s", "runId": "r", "input": {"threadId": "s", "runId": "r",
        "messages": [{"id": message, "role": "user", "content": "hi"}], "tools": [], "context": []}}),
    )
}

fn text_start(seq: u64) -> Value {
    entry(seq, json!({"type": "TEXT_MESSAGE_START", "messageId": "a"}))
}

fn text_end(seq: u64) -> Value {
    entry(seq, json!({"type": "TEXT_MESSAGE_END", "messageId": "a"}))
}

fn run_finished(seq: u64) -> Value {
    entry(seq, json!({"type": "RUN_FINISHED", "threadId": "s", "runId": "r"}))
}

#[test]
fn positions_once_in_order_without_gaps_are_accepted() {
    let mut client = Client::from_start(2);
    client.events(json!([note(1), note(2)])).unwrap();
    client.caught_up(2).unwrap();
    client.events(json!([note(3)])).unwrap();
    assert_eq!(client.track().cursor().unwrap().to_string(), "e:3");
}

#[test]
fn a_gap_is_caught() {
    let mut client = Client::from_start(3);
    client.events(json!([note(1)])).unwrap();
    let violation = client.events(json!([note(3)])).unwrap_err();
    assert_eq!(violation.to_string(), "session s: gap: after seq 1 came 3");
}

#[test]
fn a_gap_at_the_start_is_caught() {
    assert!(matches!(
        Client::from_start(3).events(json!([note(2)])),
        Err(Violation::Gap { after: 0, found: 2, .. })
    ));
    let after = json!({"after": {"epoch": "e", "seq": 5}});
    let mut client = Client::attached(after, json!({"head": 9}));
    assert!(matches!(
        client.events(json!([note(7)])),
        Err(Violation::Gap { after: 5, found: 7, .. })
    ));
}

#[test]
fn a_duplicate_is_caught() {
    let mut client = Client::from_start(3);
    client.events(json!([note(1), note(2)])).unwrap();
    let violation = client.events(json!([note(2)])).unwrap_err();
    assert_eq!(violation.to_string(), "session s: seq 2 came again, 2 had been reached");
}

#[test]
fn a_reorder_is_caught() {
    let mut client = Client::from_start(3);
    assert!(matches!(
        client.events(json!([note(1), note(3), note(2)])),
        Err(Violation::Gap { after: 1, found: 3, .. })
    ));
}

#[test]
fn a_merged_entry_covers_its_positions() {
    let mut client = Client::from_start(5);
    client
        .events(json!([run_started(1, "u"), text_start(2), merged(3, 5, "abc")]))
        .unwrap();
    client.caught_up(5).unwrap();
    assert!(matches!(
        client.events(json!([merged(5, 6, "c")])),
        Err(Violation::Repeated { after: 5, found: 5, .. })
    ));
    assert!(matches!(
        client.events(json!([merged(7, 8, "c")])),
        Err(Violation::Gap { after: 5, found: 7, .. })
    ));
}

#[test]
fn an_order_that_ag_ui_refuses_is_caught() {
    let mut client = Client::from_start(3);
    let violation = client
        .events(json!([run_started(1, "u"), text_start(2), run_finished(3)]))
        .unwrap_err();
    assert!(
        violation.to_string().starts_with("session s: seq 3, run r: "),
        "{violation}"
    );
    let mut client = Client::from_start(3);
    assert!(
        matches!(
            client.events(json!([text_start(1)])),
            Err(Violation::Order { seq: 1, .. })
        ),
        "before a run"
    );
}

#[test]
fn a_client_that_comes_in_the_middle_checks_from_the_next_run_on() {
    let mut client = Client::attached(json!({"tail": 1}), json!({"head": 7}));
    client
        .events(json!([
            merged(7, 7, "x"),
            text_end(8),
            run_finished(9),
            run_started(10, "v")
        ]))
        .unwrap();
    assert!(matches!(
        client.events(json!([text_end(11)])),
        Err(Violation::Order { seq: 11, .. })
    ));
}

#[test]
fn only_deltas_are_merged_and_never_backwards() {
    let mut odd = run_finished(4);
    odd["first"] = 1.into();
    let mut client = Client::from_start(4);
    assert!(matches!(
        client.events(json!([odd])),
        Err(Violation::Merged { first: 1, seq: 4, .. })
    ));
    assert!(matches!(
        client.events(json!([merged(4, 1, "")])),
        Err(Violation::Merged { first: 4, seq: 1, .. })
    ));
}

#[test]
fn another_epoch_without_an_attach_is_caught() {
    let mut client = Client::from_start(1);
    let frame = json!({"op": "events", "session": "s", "epoch": "f", "events": [note(1)]});
    assert!(matches!(client.get(frame), Err(Violation::Epoch { seq: 1, .. })));
}

#[test]
fn the_reply_to_attach_must_keep_what_it_says() {
    let after = || json!({"after": {"epoch": "e", "seq": 5}});
    let mut client = Client(Checker::default());
    assert!(
        client.attach(after(), json!({"head": 4})).is_err(),
        "a cursor after the head cannot be recovered"
    );
    assert!(
        client.attach(after(), json!({"head": 6, "epoch": "f"})).is_err(),
        "nor one of another epoch"
    );
    client.attach(after(), json!({"head": 6})).unwrap();
    assert!(client.caught_up(5).is_err(), "the head was not reached");
    client.events(json!([note(6)])).unwrap();
    client.caught_up(6).unwrap();
    assert!(client.caught_up(6).is_err(), "a second time");
}

#[test]
fn a_snapshot_resets_and_is_not_sent_unannounced() {
    let snapshot = || {
        json!([{"seq": 8, "event": {"type": "MESSAGES_SNAPSHOT", "messages": [
        {"id": "u", "role": "user", "content": "hi"}, {"id": "a", "role": "assistant", "content": "he"}]}}])
    };
    let after = json!({"after": {"epoch": "old", "seq": 5}});
    let mut client = Client::attached(after, json!({"head": 8, "recovered": false}));
    assert!(client.caught_up(8).is_err(), "no snapshot came");
    assert!(client.events(json!([note(6)])).is_err(), "events before the snapshot");
    client.snapshot(snapshot()).unwrap();
    client.caught_up(8).unwrap();
    assert_eq!(client.track().transcript().lines(), ["user: hi", "assistant: he"]);
    assert!(matches!(
        client.events(json!([note(8)])),
        Err(Violation::Repeated { .. })
    ));
    client.events(json!([note(9)])).unwrap();
    client
        .snapshot(json!([{"seq": 12, "event": {"type": "MESSAGES_SNAPSHOT", "messages": []}}]))
        .unwrap();
    assert_eq!(client.track().transcript().lines(), [""; 0]);
    assert!(matches!(
        client.snapshot(snapshot()),
        Err(Violation::Repeated {
            after: 12,
            found: 8,
            ..
        })
    ));
}

#[test]
fn the_tail_of_a_history_may_begin_anywhere() {
    let mut client = Client::attached(json!({"tail": 2}), json!({"head": 7}));
    client.events(json!([note(6), note(7)])).unwrap();
    client.caught_up(7).unwrap();
    let mut client = Client::attached(json!({"tail": 0}), json!({"head": 7}));
    client.caught_up(7).unwrap();
    assert!(matches!(
        client.events(json!([note(9)])),
        Err(Violation::Gap { after: 7, found: 9, .. })
    ));
}

#[test]
fn events_of_a_session_that_is_not_attached_are_caught() {
    let mut client = Client::from_start(0);
    client.ask(json!({"op": "detach", "ref": "d"}));
    client.events(json!([note(1)])).unwrap();
    client.get(json!({"op": "ok", "ref": "d"})).unwrap();
    assert!(matches!(
        client.events(json!([note(2)])),
        Err(Violation::NotAttached { op: "events", .. })
    ));
    assert!(matches!(client.caught_up(1), Err(Violation::NotAttached { .. })));
}

#[test]
fn a_cursor_survives_a_cut_and_the_transcript_goes_on() {
    let mut client = Client::from_start(0);
    client.caught_up(0).unwrap();
    client
        .events(json!([run_started(1, "u"), text_start(2), merged(3, 3, "Be")]))
        .unwrap();
    client.0.disconnected();
    assert_eq!(client.0.unanswered(), []);
    client
        .attach(json!({"after": {"epoch": "e", "seq": 3}}), json!({"head": 6}))
        .unwrap();
    client
        .events(json!([merged(4, 4, "rn"), text_end(5), run_finished(6)]))
        .unwrap();
    client.caught_up(6).unwrap();
    assert_eq!(client.track().transcript().lines(), ["user: hi", "assistant: Bern"]);
    assert!(client.track().is_idle());
}

#[test]
fn every_ref_is_answered_once_and_in_order_within_a_session() {
    let mut client = Client::from_start(0);
    for (reference, session) in [("1", "s"), ("2", "s"), ("3", "other")] {
        client.ask(json!({"op": "cancel", "ref": reference, "session": session}));
    }
    let ok = |reference: &str| json!({"op": "ok", "ref": reference});
    client.get(ok("3")).unwrap();
    assert!(matches!(client.get(ok("3")), Err(Violation::Reply { .. })));
    assert!(matches!(client.get(ok("9")), Err(Violation::Reply { .. })));
    let mut ordered = Client::from_start(0);
    ordered.ask(json!({"op": "cancel", "ref": "1"}));
    ordered.ask(json!({"op": "cancel", "ref": "2"}));
    assert!(matches!(ordered.get(ok("2")), Err(Violation::Overtook { .. })));
    client.get(ok("1")).unwrap();
    assert_eq!(client.0.unanswered().len(), 1);
    client
        .get(json!({"op": "error", "ref": "2", "code": "busy", "message": "m"}))
        .unwrap();
    client
        .get(json!({"op": "error", "ref": null, "code": "validation", "message": "m"}))
        .unwrap();
    assert!(client.0.unanswered().is_empty());
}

#[test]
fn a_session_is_idle_only_after_the_run_of_what_was_sent() {
    let mut client = Client::from_start(0);
    client.caught_up(0).unwrap();
    assert!(client.track().is_idle());
    client.ask(json!({"op": "send", "ref": "1", "id": "u", "content": "hi"}));
    client
        .get(json!({"op": "ok", "ref": "1", "seq": 1, "run": "r"}))
        .unwrap();
    assert!(!client.track().is_idle(), "accepted, not begun");
    client.events(json!([note(1), run_started(2, "u")])).unwrap();
    assert!(!client.track().is_idle(), "begun");
    client.ask(json!({"op": "send", "ref": "2", "id": "v", "content": "and"}));
    client
        .get(json!({"op": "ok", "ref": "2", "seq": 3, "queued": 1}))
        .unwrap();
    client.events(json!([note(3), run_finished(4)])).unwrap();
    assert!(!client.track().is_idle(), "one is queued");
    client.events(json!([run_started(5, "v"), run_finished(6)])).unwrap();
    assert!(client.track().is_idle());
}
