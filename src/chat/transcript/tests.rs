use serde_json::json;

use super::*;
use crate::chat::frame::{Incoming, read};

const PLAIN: &str = include_str!("../../../protocol/fixtures/ag-ui/a_plain_answer.json");
const FAILED: &str = include_str!("../../../protocol/fixtures/ag-ui/d_run_error.json");
const CANCELLED: &str = include_str!("../../../protocol/fixtures/ag-ui/e_cancelled.json");
const MID_RUN: &str = include_str!("../../../protocol/fixtures/ag-ui/j_connect_mid_run.json");
const IDLE: &str = include_str!("../../../protocol/fixtures/ag-ui/k_connect_idle.json");

/// The events of a capture's first stream.
fn capture(text: &str) -> Vec<Value> {
    let capture: Value = serde_json::from_str(text).unwrap();
    capture["streams"][0]["events"].as_array().unwrap().clone()
}

fn frame(entries: Vec<Value>, snapshot: bool) -> EventsFrame {
    let frame = json!({"op": "events", "session": "s", "epoch": "e", "snapshot": snapshot, "events": entries});
    match read(frame.to_string().as_bytes()) {
        Some(Incoming::Events(frame)) => frame,
        other => panic!("{other:?}"),
    }
}

/// `events` as entries from seq `first` on.
fn numbered(first: u64, events: &[Value]) -> Vec<Value> {
    (first..)
        .zip(events)
        .map(|(seq, event)| json!({"seq": seq, "run": "r", "event": event}))
        .collect()
}

fn attached() -> Transcript {
    let mut transcript = Transcript::default();
    transcript.attached("e".parse().unwrap(), true, true);
    transcript
}

fn said(news: &[News]) -> Vec<&str> {
    news.iter()
        .filter_map(|news| {
            if let News::Said { text, .. } = news {
                Some(text.as_str())
            } else {
                None
            }
        })
        .collect()
}

fn text(news: &[News]) -> String {
    let pieces = news.iter().filter_map(|news| match news {
        News::Text { delta, .. } => Some(delta.as_str()),
        _ => None,
    });
    pieces.collect()
}

fn ends(news: &[News]) -> Vec<&End> {
    news.iter()
        .filter_map(|news| {
            if let News::Ended { end, .. } = news {
                Some(end)
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn an_answer_comes_piece_by_piece() {
    let mut transcript = attached();
    let mut all = Vec::new();
    for entry in numbered(1, &capture(PLAIN)) {
        all.extend(transcript.events(frame(vec![entry], false)).unwrap());
    }
    assert_eq!(said(&all), ["What is the capital of Switzerland?"]);
    assert_eq!(text(&all), "Bern is the de facto capital.");
    assert_eq!(ends(&all), [&End::Done]);
    assert_eq!(transcript.cursor().unwrap().to_string(), "e:7");
    assert_eq!(transcript.run(), None);
}

#[test]
fn what_was_seen_is_skipped_and_nothing_is_shown_twice() {
    let entries = numbered(1, &capture(PLAIN));
    let mut transcript = attached();
    let first = transcript.events(frame(entries[..5].to_vec(), false)).unwrap();
    let second = transcript.events(frame(entries[2..].to_vec(), false)).unwrap();
    assert_eq!(text(&first) + &text(&second), "Bern is the de facto capital.");
    assert_eq!(transcript.events(frame(entries, false)).unwrap(), []);
}

#[test]
fn a_merged_entry_stands_for_its_positions() {
    let events = capture(PLAIN);
    let mut transcript = attached();
    transcript.events(frame(numbered(1, &events[..2]), false)).unwrap();
    let merged = json!({"seq": 5, "first": 3, "run": "r", "event":
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "msg_a1", "delta": "Bern is the de facto capital."}});
    let news = transcript.events(frame(vec![merged.clone()], false)).unwrap();
    assert_eq!(text(&news), "Bern is the de facto capital.");
    assert_eq!(transcript.events(frame(vec![merged], false)).unwrap(), []);
    transcript.events(frame(numbered(6, &events[5..]), false)).unwrap();
    assert_eq!(transcript.cursor().unwrap().seq, 7);
}

#[test]
fn a_gap_is_detected_and_changes_nothing() {
    let entries = numbered(1, &capture(PLAIN));
    let mut transcript = attached();
    transcript.events(frame(entries[..2].to_vec(), false)).unwrap();
    assert_eq!(
        transcript.events(frame(entries[3..].to_vec(), false)),
        Err(Gap { after: 2, found: 4 })
    );
    let overlap = json!({"seq": 4, "first": 2, "run": "r", "event":
        {"type": "TEXT_MESSAGE_CONTENT", "messageId": "msg_a1", "delta": "x"}});
    assert_eq!(
        transcript.events(frame(vec![overlap], false)),
        Err(Gap { after: 2, found: 2 })
    );
    assert_eq!(transcript.cursor().unwrap().seq, 2);
    let news = transcript.events(frame(entries[2..].to_vec(), false)).unwrap();
    assert_eq!(text(&news), "Bern is the de facto capital.");
}

#[test]
fn another_epoch_is_a_gap() {
    let mut transcript = attached();
    let mut other = frame(numbered(1, &capture(PLAIN)), false);
    other.epoch = "f".parse().unwrap();
    assert_eq!(transcript.events(other), Err(Gap { after: 0, found: 1 }));
}

#[test]
fn a_replay_from_the_start_shows_only_what_is_new() {
    let entries = numbered(1, &capture(PLAIN));
    let mut transcript = attached();
    let first = transcript.events(frame(entries[..4].to_vec(), false)).unwrap();
    transcript.attached("e".parse().unwrap(), true, true);
    let again = transcript.events(frame(entries, false)).unwrap();
    assert_eq!(said(&again), [""; 0]);
    assert_eq!(text(&first) + &text(&again), "Bern is the de facto capital.");
    assert_eq!(ends(&again), [&End::Done]);
}

#[test]
fn a_failed_and_a_cancelled_run_say_so() {
    let mut transcript = attached();
    let news = transcript.events(frame(numbered(1, &capture(FAILED)), false)).unwrap();
    assert_eq!(text(&news), "Roses are");
    let failed = End::Failed {
        message: "The model provider did not answer.".to_owned(),
        code: Some("upstream_unavailable".to_owned()),
    };
    assert_eq!(ends(&news), [&failed]);
    assert!(!failed.may_be_tried_again());
    let mut transcript = attached();
    let news = transcript
        .events(frame(numbered(1, &capture(CANCELLED)), false))
        .unwrap();
    assert_eq!(ends(&news), [&End::Cancelled]);
}

/// The snapshot of a running answer, for a client that holds a part of it (the capture's `local`).
#[test]
fn a_snapshot_amid_a_run_adds_what_is_missing_and_the_rest_follows() {
    let events = capture(MID_RUN);
    let mut transcript = attached();
    let local = [
        json!({"type": "RUN_STARTED", "threadId": "s", "runId": "run_j1", "input": {"threadId": "s", "runId": "run_j1",
            "messages": [{"id": "msg_u1", "role": "user", "content": "one"}], "tools": [], "context": []}}),
        json!({"type": "TEXT_MESSAGE_START", "messageId": "msg_a1"}),
        json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "msg_a1", "delta": "fi"}),
    ];
    let seen = transcript.events(frame(numbered(1, &local), false)).unwrap();
    transcript.attached("e".parse().unwrap(), false, false);
    let at_9: Vec<_> = events[..5]
        .iter()
        .map(|event| json!({"seq": 9, "run": "r", "event": event}))
        .collect();
    let snapshot = transcript.events(frame(at_9, true)).unwrap();
    assert_eq!(said(&snapshot), [""; 0], "the question was shown");
    assert_eq!(transcript.run().unwrap().as_str(), "run_j1");
    let rest = transcript.events(frame(numbered(10, &events[5..]), false)).unwrap();
    assert_eq!(text(&seen) + &text(&snapshot) + &text(&rest), "first");
    assert_eq!(ends(&rest), [&End::Done]);
    assert_eq!(transcript.cursor().unwrap().seq, 15);
}

#[test]
fn a_snapshot_of_an_idle_session_shows_what_is_missing_once() {
    let events = capture(IDLE);
    let mut transcript = attached();
    transcript.attached("f".parse().unwrap(), false, false);
    for round in 0..2 {
        let entries = events
            .iter()
            .map(|event| json!({"seq": 4, "run": "r", "event": event}))
            .collect();
        let mut snapshot = frame(entries, true);
        snapshot.epoch = "f".parse().unwrap();
        let news = transcript.events(snapshot).unwrap();
        let expected: &[&str] = if round == 0 { &["one"] } else { &[] };
        assert_eq!(said(&news), expected);
        assert_eq!(text(&news), if round == 0 { "first" } else { "" });
        transcript.attached("f".parse().unwrap(), false, false);
    }
}

#[test]
fn a_text_that_was_taken_back_is_shown_anew() {
    let mut transcript = attached();
    let snapshot = |text: &str| {
        let event =
            json!({"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "a", "role": "assistant", "content": text}]});
        frame(vec![json!({"seq": 1, "event": event})], true)
    };
    assert_eq!(text(&transcript.events(snapshot("one two")).unwrap()), "one two");
    assert_eq!(
        transcript.events(snapshot("one")).unwrap(),
        [],
        "a part of what was shown"
    );
    let rewritten = News::Rewritten {
        id: "a".parse().unwrap(),
        text: "three".to_owned(),
    };
    assert_eq!(transcript.events(snapshot("three")).unwrap(), [rewritten]);
}

#[test]
fn notices_and_cut_off_answers_are_told_and_the_rest_is_ignored() {
    let mut transcript = attached();
    let events = [
        json!({"type": "CUSTOM", "name": "kronos.notice", "value": {"message": "busy"}}),
        json!({"type": "CUSTOM", "name": "kronos.retry", "value": {}}),
        json!({"type": "CUSTOM", "name": "kronos.presence", "value": {"message": "x"}}),
        json!({"type": "FIREWORKS"}),
        json!({"type": "TEXT_MESSAGE_END", "messageId": "a", "metadata": {"finishReason": "max_tokens"}}),
        json!({"type": "TEXT_MESSAGE_END", "messageId": "b", "metadata": {"finishReason": "stop"}}),
    ];
    let news = transcript.events(frame(numbered(1, &events), false)).unwrap();
    let notice = |text: &str| News::Notice { text: text.to_owned() };
    let cut_off = News::CutOff {
        reason: "the token limit was reached".to_owned(),
    };
    assert_eq!(news, [notice("busy"), notice("trying again"), cut_off]);
    assert_eq!(
        transcript.cursor().unwrap().seq,
        6,
        "what is not known has a position too"
    );
}

#[test]
fn what_was_said_elsewhere_is_shown_by_who_said_it() {
    let mut transcript = attached();
    let told = |id: &str, role: &str, text: &str| {
        vec![
            json!({"type": "TEXT_MESSAGE_START", "messageId": id, "role": role}),
            json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": id, "delta": text}),
            json!({"type": "TEXT_MESSAGE_END", "messageId": id}),
        ]
    };
    let mut events = vec![json!({"type": "RUN_STARTED", "threadId": "s", "runId": "r"})];
    events.extend(told("p_1", "system", "Be brief."));
    events.extend(told("p_2", "user", "Capital of France?"));
    events.extend(told("p_3", "assistant", "Paris."));
    events.push(json!({"type": "RUN_FINISHED", "threadId": "s", "runId": "r"}));
    let news = transcript.events(frame(numbered(1, &events), false)).unwrap();
    assert_eq!(said(&news), ["Capital of France?"]);
    assert_eq!(text(&news), "Paris.");
}

fn tool_events() -> Vec<Value> {
    vec![
        json!({"type": "TOOL_CALL_START", "toolCallId": "c1", "toolCallName": "SEND", "parentMessageId": "a"}),
        json!({"type": "TOOL_CALL_ARGS", "toolCallId": "c1", "delta": "{\"to\":"}),
        json!({"type": "TOOL_CALL_ARGS", "toolCallId": "c1", "delta": "\"ann\"}"}),
        json!({"type": "TOOL_CALL_END", "toolCallId": "c1"}),
        json!({"type": "TOOL_CALL_START", "toolCallId": "c2", "toolCallName": "SEND", "parentMessageId": "a"}),
        json!({"type": "TOOL_CALL_END", "toolCallId": "c2"}),
        json!({"type": "ACTIVITY_SNAPSHOT", "messageId": "progress_c1", "activityType": "kronos.tool_progress",
            "content": {"toolCallId": "c1", "tool": "SEND", "status": "running"}}),
        json!({"type": "TOOL_CALL_RESULT", "messageId": "t1", "toolCallId": "c1", "content": "{\"error\":\"no\"}"}),
        json!({"type": "ACTIVITY_DELTA", "messageId": "progress_c1", "activityType": "kronos.tool_progress",
            "patch": [{"op": "replace", "path": "/status", "value": "failed"}]}),
    ]
}

#[test]
fn calls_are_told_once_and_two_of_the_same_tool_apart() {
    let mut transcript = attached();
    let news = transcript.events(frame(numbered(1, &tool_events()), false)).unwrap();
    let called = |tool: &str, arguments: &str| News::Called {
        tool: tool.to_owned(),
        arguments: arguments.to_owned(),
    };
    let expected = [
        called("SEND", r#"{"to":"ann"}"#),
        called("SEND #2", ""),
        News::Progress {
            tool: "SEND".to_owned(),
            status: "running".to_owned(),
            why: None,
        },
        News::Returned {
            tool: "SEND".to_owned(),
            text: "no".to_owned(),
            failed: true,
        },
    ];
    assert_eq!(news, expected);
    assert!(!transcript.is_calling());
    transcript.attached("e".parse().unwrap(), true, true);
    let again = transcript.events(frame(numbered(1, &tool_events()), false)).unwrap();
    assert_eq!(again, []);
    transcript.attached("e".parse().unwrap(), false, false);
    let messages = json!({"type": "MESSAGES_SNAPSHOT", "messages": [
        {"id": "a", "role": "assistant", "toolCalls": [
            {"id": "c1", "type": "function", "function": {"name": "SEND", "arguments": "{}"}},
            {"id": "c3", "type": "function", "function": {"name": "LIST", "arguments": "{}"}}]},
        {"id": "t3", "role": "tool", "toolCallId": "c3", "content": "[]"}]});
    let snapshot = transcript
        .events(frame(vec![json!({"seq": 12, "event": messages})], true))
        .unwrap();
    let returned = News::Returned {
        tool: "LIST".to_owned(),
        text: "[]".to_owned(),
        failed: false,
    };
    assert_eq!(snapshot, [called("LIST", "{}"), returned]);
}

fn asks(id: &str) -> Value {
    json!({"type": "RUN_FINISHED", "threadId": "s", "runId": "r", "outcome": {"type": "interrupt", "interrupts": [
        {"id": id, "reason": "tool_call", "message": "May SEND be called?", "toolCallId": "c1",
            "metadata": {"kronos": {"tool": "SEND", "toolkit": "mail"}}}]}})
}

fn verdict(id: &str, word: &str) -> Value {
    json!({"type": "CUSTOM", "name": "kronos.interrupt_answered", "value": {"interruptId": id, "toolCallId": "c1",
        "status": "resolved", "verdict": word, "answeredBy": {"user": "ann", "connection": "c_2"}, "atMs": 1}})
}

#[test]
fn a_question_is_open_until_it_is_answered_or_a_run_begins() {
    let mut transcript = attached();
    let mut events = tool_events();
    events.push(asks("i_1"));
    let news = transcript.events(frame(numbered(1, &events), false)).unwrap();
    assert_eq!(ends(&news), [&End::Asks]);
    let question = transcript.questions()[0].clone();
    assert_eq!((question.about, question.tool.as_str()), (About::Approval, "SEND"));
    assert_eq!(question.arguments.unwrap()["to"], "ann");
    let news = transcript
        .events(frame(numbered(11, &[verdict("i_1", "approved")]), false))
        .unwrap();
    assert!(
        matches!(&news[..], [News::Answered { tool, verdict, own: false }]
            if tool == "SEND" && verdict.verdict == "approved"),
        "{news:?}"
    );
    assert_eq!(transcript.questions(), []);
    let started = json!({"type": "RUN_STARTED", "threadId": "s", "runId": "r2"});
    let next = [asks("i_2"), started];
    transcript.events(frame(numbered(12, &next[..1]), false)).unwrap();
    assert_eq!(transcript.questions().len(), 1);
    transcript.events(frame(numbered(13, &next[1..]), false)).unwrap();
    assert_eq!(transcript.questions(), []);
}

#[test]
fn what_waits_is_known_until_it_is_said_or_taken_back() {
    let mut transcript = attached();
    let accepted = |id: &str, mode: &str| {
        json!({"type": "CUSTOM", "name": "kronos.message_accepted", "value": {"messageId": id, "queued": true,
            "mode": mode, "message": {"id": id, "role": "user", "content": format!("text of {id}")}}})
    };
    let mut events = vec![
        accepted("m_1", "queue"),
        accepted("m_2", "steer"),
        accepted("m_3", "queue"),
    ];
    transcript.events(frame(numbered(1, &events), false)).unwrap();
    let waits = |transcript: &Transcript| -> Vec<(String, bool)> {
        let queue = transcript.queue().iter();
        queue.map(|queued| (queued.text.clone(), queued.steers)).collect()
    };
    let expected = [("text of m_1", false), ("text of m_2", true), ("text of m_3", false)];
    assert_eq!(
        waits(&transcript),
        expected.map(|(text, steers)| (text.to_owned(), steers))
    );
    events = vec![
        json!({"type": "CUSTOM", "name": "kronos.message_unqueued", "value": {"messageId": "m_1"}}),
        json!({"type": "TEXT_MESSAGE_START", "messageId": "m_2", "role": "user"}),
        json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m_2", "delta": "text of m_2"}),
        json!({"type": "TEXT_MESSAGE_END", "messageId": "m_2"}),
    ];
    let news = transcript.events(frame(numbered(4, &events), false)).unwrap();
    let id = "m_1".parse().unwrap();
    let text = "text of m_1".to_owned();
    assert_eq!(news[0], News::Unqueued { id, text });
    assert_eq!(said(&news), ["text of m_2"]);
    assert_eq!(waits(&transcript), [("text of m_3".to_owned(), false)]);
    transcript.attached("e".parse().unwrap(), false, false);
    let snapshot = json!({"type": "CUSTOM", "name": "kronos.queue_snapshot", "value": {"messages": [
        {"id": "m_9", "role": "user", "content": "nine"}]}});
    transcript
        .events(frame(vec![json!({"seq": 9, "event": snapshot})], true))
        .unwrap();
    assert_eq!(waits(&transcript), [("nine".to_owned(), false)]);
}

#[test]
fn the_last_message_is_that_of_the_chosen_branch() {
    let mut transcript = attached();
    let started = |run: &str, id: &str| {
        json!({"type": "RUN_STARTED", "threadId": "s", "runId": run, "input": {"threadId": "s", "runId": run,
            "messages": [{"id": id, "role": "user", "content": format!("text of {id}")}], "tools": [], "context": []}})
    };
    let text = |id: &str| json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": id, "delta": "x"});
    let custom = |name: &str, value: Value| json!({"type": "CUSTOM", "name": name, "value": value});
    let events = [
        started("r1", "m_1"),
        text("a_1"),
        started("r2", "m_2"),
        text("a_2"),
        custom(
            "kronos.branched",
            json!({"branch": "b_1", "parent": "main", "after": "a_1"}),
        ),
    ];
    let news = transcript.events(frame(numbered(1, &events), false)).unwrap();
    let branched = News::Branched {
        branch: "b_1".to_owned(),
        after: Some("x".to_owned()),
    };
    assert_eq!(news.last(), Some(&branched));
    assert_eq!(transcript.last_said().unwrap().as_str(), "m_1", "what both have");
    let events = [
        started("r3", "m_3"),
        custom("kronos.branch_selected", json!({"branch": "main"})),
    ];
    let news = transcript.events(frame(numbered(6, &events), false)).unwrap();
    let selected = News::Selected {
        branch: "main".to_owned(),
        last: Some("text of m_2".to_owned()),
    };
    assert_eq!(news.last(), Some(&selected));
    assert_eq!(transcript.last_said().unwrap().as_str(), "m_2");
    let branches: Vec<_> = transcript.branches().collect();
    assert_eq!(branches, [("main", "text of m_2", true), ("b_1", "text of m_3", false)]);
}
