//! Steps become causes and actions, and what is wrong is named.

use std::time::Duration;

use kronos_protocol::Command;

use crate::scenario::file;
use crate::script::{Action, Cause, Script};

fn read(steps: &str) -> anyhow::Result<Script> {
    let text =
        format!("[load]\nstages = [{{ over = \"1s\", to = 1 }}]\n[[mix]]\nname = \"x\"\nsteps = [\n{steps}\n]\n");
    Ok(file::read(&text, "test", None)?.mix.remove(0).script)
}

fn script(steps: &str) -> Script {
    read(steps).unwrap_or_else(|error| panic!("{error:#}"))
}

fn error(steps: &str) -> String {
    format!("{:#}", read(steps).unwrap_err())
}

fn op(action: &Action) -> String {
    match action {
        Action::Command(command) => match command.as_ref() {
            Command::Send(send) => format!("send {}", send.id),
            Command::Edit(edit) => format!("edit {}", edit.message),
            Command::Unqueue(unqueue) => format!("unqueue {}", unqueue.id),
            other => other.op().to_string(),
        },
        other => format!("{other:?}"),
    }
}

fn told(script: &Script) -> Vec<(usize, Cause, String)> {
    let step = |step: &crate::script::Step| (step.device, step.cause, op(&step.action));
    script.steps.iter().map(step).collect()
}

#[test]
fn a_question_is_asked_when_somebody_has_joined() {
    let script = script(r#"{ say = "hi" }, { wait = "reply", think = ["1s", "3s"] }, { say = "more", think = "1s" }"#);
    let expected = [
        (0, Cause::Previous, "Join".to_owned()),
        (0, Cause::Previous, "send m_1".to_owned()),
        (0, Cause::RunEnded(0), "send m_2".to_owned()),
    ];
    assert_eq!(told(&script), expected);
    let think = script.steps[2].think;
    assert_eq!((think.from, think.to), (Duration::from_secs(2), Duration::from_secs(4)));
    assert_eq!(script.devices.len(), 1);
}

#[test]
fn every_wait_has_its_cause() {
    let script = script(
        r#"{ say = "a" }, { wait = "run" }, { wait = "first_token" }, { wait = { deltas = 7 } }, { wait = "ack" },
           { say = "b", mode = "queue" }, { say = "c", mode = "steer" }, { say = "d", mode = "reject" },
           { wait = "reply" }, { say = "e", mode = "steer" }, { wait = "approval" }, { answer = "approve" },
           { wait = "reply" }, { regenerate = true }, { wait = { approvals = 2 } }, { answer = "reject" }, { wait = "reply" }"#,
    );
    let causes: Vec<_> = told(&script)
        .into_iter()
        .map(|(_, cause, op)| format!("{cause:?} {op}"))
        .collect();
    assert_eq!(
        causes,
        [
            "Previous Join",
            "Previous send m_1",
            "RunStarted(0) Rest",
            "Deltas { run: 0, count: 1 } Rest",
            "Deltas { run: 0, count: 7 } Rest",
            "Replied send m_2",
            "Previous send m_3",
            "Previous send m_4",
            "RunEnded(1) send m_5",
            "Asked(1) Answer { approved: true }",
            "RunEnded(3) regenerate",
            "Asked(3) Answer { approved: false }",
            "RunEnded(5) Rest",
        ]
    );
}

#[test]
fn devices_come_and_go() {
    let script = script(
        r#"{ join = "laptop" }, { join = "phone", think = "1s" }, { say = "x", device = "laptop" }, { cut = true, away = "2s" },
           { leave = "phone" }, { typing = true }, { read = "4KiB/s", device = "phone" }, { rest = "1m" }"#,
    );
    let expected = [
        (0, "Join".to_owned()),
        (1, "Join".to_owned()),
        (0, "send m_1".to_owned()),
        (0, "Cut".to_owned()),
        (0, "Join".to_owned()),
        (1, "Leave".to_owned()),
        (0, "typing".to_owned()),
        (1, "Join".to_owned()),
        (1, "Read(Some(4096))".to_owned()),
        (1, "Rest".to_owned()),
    ];
    let told: Vec<_> = told(&script).into_iter().map(|(device, _, op)| (device, op)).collect();
    assert_eq!(told, expected);
    assert_eq!(script.steps[4].think.from, Duration::from_secs(2));
    assert_eq!(script.steps[9].think.from, Duration::from_secs(60));
}

#[test]
fn what_is_repeated_says_something_new_each_time() {
    let script = script(
        r#"{ repeat = 2, steps = [
             { say = "a", id = "q" },
             { repeat = 2, steps = [{ say = "b" }, { edit = "q", say = "c" }] },
           ] }, { unqueue = "q" }"#,
    );
    let told: Vec<_> = told(&script).into_iter().map(|(_, _, op)| op).collect();
    let expected = [
        "Join",
        "send q",
        "send m_2",
        "edit q",
        "send m_3",
        "edit q",
        "send q.2",
        "send m_5",
        "edit q.2",
        "send m_6",
        "edit q.2",
        "unqueue q.2",
    ];
    assert_eq!(told, expected);
}

#[test]
fn what_is_wrong_is_named_with_its_step() {
    let cases = [
        (
            r#"{ say = "x" }, { wait = "reply", cut = "phone" }"#,
            "mix \"x\": step 2: the device is not there",
        ),
        (
            r#"{ wait = "reply" }"#,
            "step 1: waits for an answer, but nothing was said before",
        ),
        (r#"{ say = "x", rest = "1s" }"#, "does two things: one of say"),
        ("{ }", "step 1: does nothing: one of say"),
        (r#"{ edit = "m_1" }"#, "edit needs say"),
        (
            r#"{ say = "x" }, { edit = "m_2", say = "y" }"#,
            "step 2: no message \"m_2\" was said before",
        ),
        (r#"{ rest = "1s", id = "m" }"#, "id belongs to say"),
        (r#"{ say = "x", away = "1s" }"#, "away belongs to cut"),
        (r#"{ repeat = 2 }"#, "repeat and steps belong together"),
        (
            r#"{ repeat = 2, steps = [{ say = "x" }, { cancel = false }] }"#,
            "step 1: step 2: cancel = true",
        ),
        (
            r#"{ settings = { titel = "x" } }"#,
            "settings.titel is not known: one of title, model",
        ),
        (r#"{ read = "4" }"#, "such as 500B/s"),
        (r#"{ say = "x", mode = "later" }"#, "queue"),
        (r#"{ wait = "replies" }"#, "wait: \"reply\", \"run\""),
        (r#"{ shout = "x" }"#, "unknown field `shout`"),
        (r#"{ rest = 5 }"#, "a span of time such as \"2s\""),
        (r#"{ think = ["3s", "1s"] }"#, "begins with the shorter"),
        (r#"{ say = "x" }, { wait = "storm" }"#, "[network] needs storm_at"),
        (r#"{ join = "a" }, { join = "a" }"#, "is there already"),
        (
            r#"{ repeat = 1000, steps = [{ repeat = 1000, steps = [{ typing = true }] }] }"#,
            "more than 100000 steps",
        ),
    ];
    for (steps, expected) in cases {
        let found = error(steps);
        assert!(found.contains(expected), "{steps}\n{found}");
    }
}
