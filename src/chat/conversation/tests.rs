use serde_json::{Value, json};

use super::*;
use crate::chat::frame::read;

/// A conversation and what it did.
struct Chat {
    conversation: Conversation,
    steps: Vec<Step>,
}

impl Chat {
    fn new(target: AttachTarget) -> Self {
        let identity = Identity {
            token: Some("t".to_owned()),
            client: None,
        };
        Self {
            conversation: Conversation::new(identity, target, false),
            steps: Vec::new(),
        }
    }

    /// A new session `s`, attached and caught up.
    fn online() -> Self {
        let mut chat = Self::new(AttachTarget::New {
            title: None,
            settings: None,
        });
        chat.connect(json!({"head": 0, "recovered": true}));
        chat.get(json!({"op": "caught_up", "session": "s", "seq": 0}));
        chat.steps.clear();
        chat
    }

    fn connect(&mut self, mut attached: Value) {
        let steps = self.conversation.opened();
        self.steps.extend(steps);
        self.answer(json!({"connection": "c", "user": {"id": "u"}, "server": {"simulated": true}, "ping_seconds": 25}));
        for (name, value) in [("session", "s"), ("epoch", "e")] {
            attached[name] = value.into();
        }
        self.answer(attached);
    }

    fn get(&mut self, frame: Value) {
        let steps = self.conversation.received(read(frame.to_string().as_bytes()).unwrap());
        self.steps.extend(steps);
    }

    /// Answers the last command that was sent.
    fn answer(&mut self, mut body: Value) {
        let reference = self.sent().last().unwrap()["ref"].clone();
        body["ref"] = reference;
        body["op"] = body.get("code").map_or("ok", |_| "error").into();
        self.get(body);
    }

    fn say(&mut self, id: &str, text: &str) {
        let steps = self
            .conversation
            .say(id.parse().unwrap(), text.to_owned(), SendMode::Queue);
        self.steps.extend(steps);
    }

    fn lose(&mut self) {
        let steps = self.conversation.lost();
        self.steps.extend(steps);
    }

    fn events(&mut self, first: u64, events: Value) {
        let entries: Vec<_> = (first..)
            .zip(events.as_array().unwrap())
            .map(|(seq, event)| json!({"seq": seq, "run": "r", "event": event}))
            .collect();
        self.get(json!({"op": "events", "session": "s", "epoch": "e", "events": entries}));
    }

    fn sent(&self) -> Vec<Value> {
        let frames = self.steps.iter().filter_map(|step| {
            if let Step::Send(frame) = step {
                Some(frame)
            } else {
                None
            }
        });
        frames.map(|frame| serde_json::to_value(frame).unwrap()).collect()
    }

    fn sent_ops(&self) -> Vec<String> {
        self.sent()
            .iter()
            .map(|frame| frame["op"].as_str().unwrap().to_owned())
            .collect()
    }

    fn remarks(&self) -> Vec<&Remark> {
        self.steps
            .iter()
            .filter_map(|step| {
                if let Step::Remark(remark) = step {
                    Some(remark)
                } else {
                    None
                }
            })
            .collect()
    }

    fn text(&self) -> String {
        let news = self.steps.iter().filter_map(|step| match step {
            Step::News(News::Text { delta, .. }) => Some(delta.as_str()),
            _ => None,
        });
        news.collect()
    }
}

fn started(run: &str, message: &str) -> Value {
    json!({"type": "RUN_STARTED", "threadId": "s", "runId": run, "input": {"threadId": "s", "runId": run,
        "messages": [{"id": message, "role": "user", "content": "hi"}], "tools": [], "context": []}})
}

fn content(delta: &str) -> Value {
    json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "a", "delta": delta})
}

fn finished() -> Value {
    json!({"type": "RUN_FINISHED", "threadId": "s", "runId": "r"})
}

#[test]
fn a_connection_begins_with_hello_attach_and_what_was_said_before() {
    let mut chat = Chat::new(AttachTarget::New {
        title: None,
        settings: None,
    });
    chat.say("m", "hi");
    assert!(chat.sent().is_empty());
    chat.connect(json!({"head": 0, "recovered": true}));
    assert_eq!(chat.sent_ops(), ["hello", "attach", "send"]);
    assert_eq!(chat.sent()[0]["token"], "t");
    assert_eq!(chat.sent()[1]["session"], "new");
    assert_eq!(chat.sent()[2]["id"], "m");
    assert_eq!(chat.remarks()[0], &Remark::Welcome { simulated: true });
}

#[test]
fn an_answer_makes_the_conversation_busy_until_it_ends() {
    let mut chat = Chat::online();
    assert!(!chat.conversation.is_busy());
    chat.say("m", "hi");
    assert!(chat.conversation.is_answering());
    chat.answer(json!({"seq": 1, "run": "r"}));
    assert!(chat.conversation.is_answering(), "accepted, not begun");
    chat.events(1, json!([started("r", "m"), content("he")]));
    assert!(chat.conversation.is_running() && chat.conversation.is_busy());
    chat.events(3, json!([finished()]));
    assert!(!chat.conversation.is_busy() && !chat.conversation.is_answering());
    assert_eq!(chat.conversation.outcome(), Some(&End::Done));
}

#[test]
fn events_may_come_before_the_reply() {
    let mut chat = Chat::online();
    chat.say("m", "hi");
    chat.events(1, json!([started("r", "m"), content("he"), finished()]));
    assert!(chat.conversation.is_busy(), "not confirmed");
    chat.steps.retain(|step| matches!(step, Step::Send(_)));
    chat.answer(json!({"seq": 1, "run": "r"}));
    assert!(!chat.conversation.is_busy());
    assert_eq!(chat.conversation.outcome(), Some(&End::Done));
}

#[test]
fn after_a_cut_it_resumes_with_its_cursor_and_says_so() {
    let mut chat = Chat::online();
    chat.say("m", "hi");
    chat.answer(json!({"seq": 1, "run": "r"}));
    chat.events(1, json!([started("r", "m"), content("Be")]));
    chat.lose();
    chat.lose();
    chat.connect(json!({"head": 4, "recovered": true}));
    let attach = chat.sent().last().unwrap().clone();
    assert_eq!(
        (&attach["session"], &attach["after"]),
        (&json!("s"), &json!({"epoch": "e", "seq": 2}))
    );
    assert_eq!(chat.remarks(), [&Remark::Lost, &Remark::Resumed { after: 2 }]);
    chat.events(3, json!([content("rn"), finished()]));
    assert_eq!(chat.text(), "Bern");
    assert!(!chat.conversation.is_busy());
}

#[test]
fn what_was_not_confirmed_is_sent_again_with_the_same_id() {
    let mut chat = Chat::online();
    chat.say("m1", "one");
    chat.lose();
    chat.say("m2", "two");
    assert!(!chat.conversation.is_answering(), "the user may go on typing");
    chat.steps.clear();
    chat.connect(json!({"head": 0, "recovered": true}));
    let sends: Vec<_> = chat
        .sent()
        .iter()
        .filter(|frame| frame["op"] == "send")
        .map(|send| send["id"].clone())
        .collect();
    assert_eq!(sends, ["m1", "m2"]);
    chat.answer(json!({"seq": 2, "queued": 1}));
    assert_eq!(chat.steps.last(), Some(&Step::Remark(Remark::Queued { place: 1 })));
}

#[test]
fn a_gap_makes_it_attach_again_and_in_the_end_from_the_start() {
    let mut chat = Chat::online();
    chat.events(1, json!([started("r", "m")]));
    for after in [json!({"epoch": "e", "seq": 1}), Value::Null] {
        chat.steps.clear();
        chat.events(4, json!([content("x")]));
        assert_eq!(chat.sent_ops(), ["attach"]);
        assert_eq!(chat.sent()[0]["after"], after);
        chat.events(5, json!([content("y")]));
        assert_eq!(
            chat.sent_ops(),
            ["attach"],
            "what comes before the reply belongs to the old attachment"
        );
        chat.answer(json!({"session": "s", "epoch": "e", "head": 4, "recovered": true}));
    }
    chat.events(1, json!([started("r", "m"), content("x"), content("y"), finished()]));
    assert_eq!(chat.text(), "xy");
}

#[test]
fn a_server_that_leaves_out_events_for_ever_is_given_up() {
    let mut chat = Chat::online();
    for _ in 0..10 {
        chat.events(4, json!([content("x")]));
        if let Some(Step::Fail(_)) = chat.steps.last() {
            return;
        }
        chat.answer(json!({"session": "s", "epoch": "e", "head": 4, "recovered": true}));
    }
    panic!("it still tries");
}

#[test]
fn a_message_that_is_refused_for_now_is_kept_one_that_is_refused_is_not() {
    let mut chat = Chat::online();
    chat.say("m", "hi");
    chat.answer(json!({"code": "rate_limited", "message": "slow down", "retry": true, "after_ms": 700}));
    assert_eq!(chat.steps.last(), Some(&Step::SendLater(Duration::from_millis(700))));
    assert!(chat.conversation.is_busy());
    let again = chat.conversation.send_pending();
    assert!(matches!(again.as_slice(), [Step::Send(_)]));
    chat.steps.extend(again);
    chat.answer(json!({"code": "too_large", "message": "too long"}));
    assert!(!chat.conversation.is_busy());
    assert!(matches!(chat.conversation.outcome(), Some(End::Failed { .. })));
}

#[test]
fn cancel_names_the_run_that_is_active() {
    let mut chat = Chat::online();
    chat.events(1, json!([started("r7", "other")]));
    assert!(
        chat.conversation.is_running() && !chat.conversation.is_busy(),
        "another device's run"
    );
    let steps = chat.conversation.cancel();
    chat.steps.extend(steps);
    assert_eq!(chat.sent().last().unwrap()["run"], "r7");
    chat.lose();
    assert_eq!(chat.conversation.cancel(), []);
}

#[test]
fn a_run_that_ended_within_a_snapshot_is_over() {
    let mut chat = Chat::online();
    chat.say("m", "hi");
    chat.answer(json!({"seq": 1, "run": "r"}));
    chat.events(1, json!([started("r", "m"), content("Be")]));
    chat.lose();
    chat.connect(json!({"head": 9, "recovered": false}));
    let snapshot = json!({"seq": 9, "event": {"type": "MESSAGES_SNAPSHOT", "messages": [
        {"id": "m", "role": "user", "content": "hi"}, {"id": "a", "role": "assistant", "content": "Bern"}]}});
    chat.get(json!({"op": "events", "session": "s", "epoch": "e", "snapshot": true, "events": [snapshot]}));
    chat.get(json!({"op": "caught_up", "session": "s", "seq": 9}));
    assert_eq!(chat.text(), "Bern");
    assert!(!chat.conversation.is_busy());
    assert_eq!(chat.conversation.outcome(), Some(&End::Done));
}

#[test]
fn an_older_conversation_is_shown_from_its_last_messages_on() {
    let mut chat = Chat::new(AttachTarget::of("s".parse().unwrap()));
    chat.say("mine", "and now?");
    chat.connect(json!({"head": 24, "recovered": true}));
    let runs: Vec<_> = (0..12)
        .flat_map(|run| [started(&format!("r{run}"), &format!("u{run}")), finished()])
        .collect();
    chat.events(1, runs.into());
    assert!(
        !chat.steps.iter().any(|step| matches!(step, Step::News(_))),
        "nothing before all is there"
    );
    assert_eq!(chat.sent_ops(), ["hello", "attach"]);
    assert!(chat.conversation.is_opening());
    chat.get(json!({"op": "caught_up", "session": "s", "seq": 24}));
    assert!(!chat.conversation.is_opening());
    assert!(chat.remarks().contains(&&Remark::Earlier { messages: 2 }));
    let said = chat
        .steps
        .iter()
        .filter(|step| matches!(step, Step::News(News::Said { .. })))
        .count();
    assert_eq!(said, HISTORY);
    assert_eq!(chat.sent_ops(), ["hello", "attach", "send"]);
}

#[test]
fn only_its_own_answer_is_shown_when_asked_for_nothing_else() {
    let mut chat = Chat::new(AttachTarget::of("s".parse().unwrap()));
    chat.conversation.only_own = true;
    chat.say("mine", "hi");
    chat.connect(json!({"head": 2, "recovered": true}));
    chat.events(1, json!([started("r1", "theirs"), content("not for me")]));
    chat.get(json!({"op": "caught_up", "session": "s", "seq": 2}));
    chat.answer(json!({"seq": 3, "queued": 1}));
    chat.events(
        3,
        json!([content(", really"), {"type": "RUN_FINISHED", "threadId": "s", "runId": "r"}]),
    );
    let mine = json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "b", "delta": "for me"});
    chat.events(5, json!([started("r", "mine"), mine]));
    assert_eq!(chat.text(), "for me");
    assert!(chat.conversation.is_busy());
}

#[test]
fn going_to_another_conversation_leaves_the_first() {
    let mut chat = Chat::online();
    let steps = chat.conversation.switch(AttachTarget::of("t".parse().unwrap()));
    chat.steps.extend(steps);
    assert_eq!(chat.sent_ops(), ["detach", "attach"]);
    assert_eq!(chat.sent()[1]["session"], "t");
    chat.events(1, json!([content("late")]));
    assert_eq!(chat.text(), "");
}

#[test]
fn a_conversation_that_does_not_exist_leaves_the_user_where_he_was() {
    let mut chat = Chat::online();
    chat.events(1, json!([started("r", "m"), content("he"), finished()]));
    let steps = chat.conversation.switch(AttachTarget::of("t".parse().unwrap()));
    chat.steps.extend(steps);
    chat.answer(json!({"code": "not_found", "message": "no such conversation"}));
    let attach = chat.sent().last().unwrap().clone();
    assert_eq!((&attach["session"], &attach["after"]["seq"]), (&json!("s"), &json!(3)));
    chat.answer(json!({"session": "s", "epoch": "e", "head": 3, "recovered": true}));
    chat.events(4, json!([started("r2", "n"), content("llo")]));
    assert_eq!(chat.text(), "hello");
}

#[test]
fn a_token_that_is_refused_is_the_end() {
    let mut chat = Chat::new(AttachTarget::New {
        title: None,
        settings: None,
    });
    let steps = chat.conversation.opened();
    chat.steps.extend(steps);
    chat.answer(json!({"code": "unauthenticated", "message": "the token has expired"}));
    let why = "the token has expired (unauthenticated)".to_owned();
    assert_eq!(chat.steps.last(), Some(&Step::Fail(why)));
}

#[test]
fn goaway_is_obeyed() {
    let mut chat = Chat::online();
    chat.get(json!({"op": "goaway", "reason": "drain", "reconnect_after_ms": 900}));
    assert_eq!(chat.steps, [Step::ComeBack(Duration::from_millis(900))]);
}

fn asks(id: &str) -> Value {
    json!({"type": "RUN_FINISHED", "threadId": "s", "runId": "r", "outcome": {"type": "interrupt", "interrupts": [
        {"id": id, "reason": "tool_call", "message": "May SEND be called?", "toolCallId": "c1"}]}})
}

fn answered(id: &str, connection: &str) -> Value {
    json!({"type": "CUSTOM", "name": "kronos.interrupt_answered", "value": {"interruptId": id, "toolCallId": "c1",
        "status": "resolved", "verdict": "approved", "answeredBy": {"user": "u", "connection": connection}}})
}

fn resumed(run: &str) -> Value {
    json!({"type": "RUN_STARTED", "threadId": "s", "runId": run})
}

/// A conversation that asks `i_1`.
fn asking() -> Chat {
    let mut chat = Chat::online();
    chat.say("m", "hi");
    chat.answer(json!({"seq": 1, "run": "r"}));
    chat.events(1, json!([started("r", "m"), asks("i_1")]));
    chat
}

impl Chat {
    fn open(&self) -> Vec<String> {
        let questions = self.conversation.questions();
        questions.map(|question| question.id.to_string()).collect()
    }

    fn approve(&mut self, id: &str) {
        let payload = Some(json!({"approved": true}));
        let steps = self.conversation.answer(&id.parse().unwrap(), payload);
        self.steps.extend(steps);
    }

    fn verdicts(&self) -> Vec<bool> {
        let news = self.steps.iter().filter_map(|step| match step {
            Step::News(News::Answered { own, .. }) => Some(*own),
            _ => None,
        });
        news.collect()
    }
}

#[test]
fn an_answer_makes_the_conversation_busy_until_the_run_that_goes_on_ends() {
    let mut chat = asking();
    assert!(!chat.conversation.is_busy());
    assert_eq!(chat.conversation.outcome(), Some(&End::Asks));
    assert_eq!(chat.open(), ["i_1"]);
    chat.approve("i_1");
    let sent = chat.sent().last().unwrap().clone();
    assert_eq!(sent["op"], "resume");
    assert_eq!(
        sent["answers"],
        json!([{"interrupt": "i_1", "status": "resolved", "payload": {"approved": true}}])
    );
    assert_eq!(chat.open(), [""; 0]);
    assert!(chat.conversation.is_busy() && chat.conversation.is_answering());
    chat.answer(json!({"seq": 4, "run": "r2"}));
    assert!(chat.conversation.is_busy(), "the run is awaited");
    chat.events(3, json!([answered("i_1", "c"), resumed("r2"), content("he")]));
    assert_eq!(chat.verdicts(), [true]);
    assert!(chat.conversation.is_busy());
    let end = json!({"seq": 6, "run": "r2", "event": {"type": "RUN_FINISHED", "threadId": "s", "runId": "r2"}});
    chat.get(json!({"op": "events", "session": "s", "epoch": "e", "events": [end]}));
    assert!(!chat.conversation.is_busy());
    assert_eq!(chat.conversation.outcome(), Some(&End::Done));
}

#[test]
fn an_answer_that_was_lost_is_given_again_unless_somebody_else_was_first() {
    for first in [false, true] {
        let mut chat = asking();
        chat.approve("i_1");
        chat.lose();
        chat.steps.clear();
        chat.connect(json!({"head": 3, "recovered": true}));
        if first {
            chat.events(3, json!([answered("i_1", "other")]));
        }
        chat.get(json!({"op": "caught_up", "session": "s", "seq": if first { 3 } else { 2 }}));
        let resumes = chat.sent_ops().iter().filter(|op| *op == "resume").count();
        assert_eq!(resumes, usize::from(!first));
        assert_eq!(chat.verdicts(), if first { vec![false] } else { vec![] });
        assert_eq!(chat.open(), [""; 0]);
    }
}

#[test]
fn who_was_first_is_told_once_and_a_bad_answer_is_asked_for_again() {
    let conflict = || {
        json!({"code": "conflict", "message": "it was answered already", "details": {"interruptId": "i_1",
            "verdict": "rejected", "answeredBy": {"user": "u", "connection": "other"}}})
    };
    let mut chat = asking();
    chat.approve("i_1");
    chat.answer(conflict());
    assert_eq!((chat.verdicts(), chat.open()), (vec![false], vec![]));
    let mut chat = asking();
    chat.approve("i_1");
    let reply = chat.sent().last().unwrap()["ref"].clone();
    chat.events(3, json!([answered("i_1", "other")]));
    let mut late = conflict();
    late["op"] = "error".into();
    late["ref"] = reply;
    chat.get(late);
    assert_eq!(chat.verdicts(), [false], "not twice");
    let mut chat = asking();
    chat.approve("i_1");
    chat.answer(json!({"code": "validation", "message": "answers.payload.editedArgs: no"}));
    assert!(matches!(
        chat.remarks().last(),
        Some(Remark::Refused {
            what: "not answered",
            ..
        })
    ));
    assert_eq!(chat.open(), ["i_1"]);
    assert!(!chat.conversation.is_busy());
    chat.approve("i_1");
    chat.answer(json!({"code": "overloaded", "message": "later", "retry": true, "after_ms": 50}));
    assert_eq!(chat.steps.last(), Some(&Step::SendLater(Duration::from_millis(50))));
    assert!(matches!(chat.conversation.answer_again().as_slice(), [Step::Send(_)]));
}

#[test]
fn a_message_that_is_taken_back_is_not_waited_for() {
    let mut chat = Chat::online();
    chat.events(1, json!([started("r7", "other")]));
    chat.say("m", "hi");
    chat.answer(json!({"seq": 2, "queued": 1}));
    let message = json!({"id": "m", "role": "user", "content": "hi"});
    chat.events(
        2,
        json!([{"type": "CUSTOM", "name": "kronos.message_accepted",
        "value": {"messageId": "m", "queued": true, "message": message, "mode": "queue"}}]),
    );
    assert!(chat.conversation.is_busy());
    let queued = chat.conversation.queue()[0].id.clone();
    let steps = chat.conversation.unqueue(queued);
    chat.steps.extend(steps);
    assert_eq!(chat.sent().last().unwrap()["op"], "unqueue");
    chat.events(
        3,
        json!([{"type": "CUSTOM", "name": "kronos.message_unqueued", "value": {"messageId": "m"}}]),
    );
    assert!(!chat.conversation.is_busy());
}

#[test]
fn changing_a_message_names_the_last_one_and_waits_for_its_run() {
    let mut chat = Chat::online();
    let steps = chat.conversation.edit("x".to_owned());
    assert!(
        matches!(steps.as_slice(), [Step::Remark(Remark::Line(_))]),
        "nothing to change"
    );
    chat.say("m", "hi");
    chat.answer(json!({"seq": 1, "run": "r"}));
    chat.events(1, json!([started("r", "m"), content("he"), finished()]));
    let steps = chat.conversation.edit("ho".to_owned());
    chat.steps.extend(steps);
    let sent = chat.sent().last().unwrap().clone();
    assert_eq!(
        (&sent["op"], &sent["message"], &sent["content"]),
        (&json!("edit"), &json!("m"), &json!("ho"))
    );
    assert!(chat.conversation.is_answering());
    chat.answer(json!({"seq": 5, "run": "r2"}));
    assert!(chat.conversation.is_answering());
    chat.events(4, json!([started("r2", "m2")]));
    assert!(chat.conversation.is_running() && chat.conversation.is_busy());
}
