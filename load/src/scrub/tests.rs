//! No secret survives, and what is left replays the same.

use serde_json::json;

use super::*;
use crate::recording::compiled;
use crate::script::{Action, Script};

/// What must be gone.
const SECRETS: [&str; 16] = [
    "hunter2",
    "annabella",
    "Oerlikon",
    "41112222",
    "acmecorp",
    "sk-live",
    "Zürich",
    "Müller",
    "wort, ",
    "geheim",
    "Titelseite",
    "laptop",
    "0192aaaa",
    "m_ziel",
    "schlüssel",
    "secretfield",
];

fn lines() -> Vec<String> {
    let event = |at: u64, device: &str, seq: u64, event: Value| {
        json!({"at_ms": at, "device": device, "seq": seq, "run": "r_annabella", "event": event}).to_string()
    };
    let command =
        |at: u64, command: Value| json!({"at_ms": at, "device": "laptop of annabella", "command": command}).to_string();
    let args = r#"{"owner":"acmecorp","n":41112222,"t":"Z\u00fcrich\n"}"#;
    let (head, tail) = args.split_at(14);
    vec![
        json!({"kronosrec": 1, "session": "0192aaaa", "epoch": "e_geheim", "started_at_ms": 5, "title": "Titelseite hunter2",
            "recorder": "kronos 0.1.0", "secretfield": "hunter2"}).to_string(),
        command(0, json!({"op": "hello", "ref": "annabella", "client": {"name": "annabellas app", "version": "41112222"}})),
        command(1, json!({"op": "attach", "ref": "2", "session": "new", "title": "Titelseite", "settings":
            {"system_prompt": "be kind to annabella", "tool_policy": "ask_all", "model": "gemini-3.8-flash"}})),
        command(9, json!({"op": "send", "ref": "3", "session": "0192aaaa", "id": "m_ziel", "mode": "interrupt",
            "content": "annabella@acmecorp.com lives in Zürich-Oerlikon, pays with 41112222 1111 and sk-live [[tokens 5]] Müller",
            "run": {"system_prompt": "hunter2", "toolkits": ["github"], "temperature": 0.5}})),
        event(20, "laptop of annabella", 1, json!({"type": "RUN_STARTED", "threadId": "0192aaaa", "runId": "r_annabella", "timestamp": 7,
            "input": {"threadId": "0192aaaa", "runId": "r_annabella", "tools": [{"name": "geheim", "description": "hunter2"}],
                "context": [{"description": "acmecorp", "value": "41112222"}], "state": {"annabella": "hunter2"},
                "messages": [{"role": "user", "id": "m_ziel", "name": "annabella", "metadata": {"geheim": [41112222, "acmecorp"]},
                    "content": [{"type": "text", "text": "Müller"},
                        {"type": "image", "source": {"type": "url", "value": "https://acmecorp.com/annabella.png"}}]}]}})),
        event(30, "laptop of annabella", 2, json!({"type": "TOOL_CALL_START", "toolCallId": "t_annabella", "toolCallName": "calculate"})),
        event(31, "laptop of annabella", 3, json!({"type": "TOOL_CALL_ARGS", "toolCallId": "t_annabella", "delta": head})),
        event(32, "laptop of annabella", 4, json!({"type": "TOOL_CALL_ARGS", "toolCallId": "t_annabella", "delta": tail})),
        event(33, "laptop of annabella", 5, json!({"type": "TOOL_CALL_RESULT", "messageId": "x_annabella", "toolCallId": "t_annabella",
            "content": "{\"geheim\": \"hunter2\", \"n\": 41112222}"})),
        event(40, "laptop of annabella", 6, json!({"type": "TEXT_MESSAGE_START", "messageId": "a_annabella", "role": "assistant"})),
        event(41, "laptop of annabella", 7, json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "a_annabella", "delta": "Your pass"})),
        event(42, "laptop of annabella", 8, json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "a_annabella", "delta": "wort, Mül"})),
        event(43, "laptop of annabella", 9, json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "a_annabella", "delta": "ler"})),
        event(44, "laptop of annabella", 10, json!({"type": "CUSTOM", "name": "kronos.note", "value": {"messageId": "m_ziel",
            "schlüssel": "hunter2", "n": 41112222}})),
        event(45, "laptop of annabella", 11, json!({"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/annabella", "value": "acmecorp"}]})),
        event(50, "laptop of annabella", 12, json!({"type": "RUN_FINISHED", "threadId": "0192aaaa", "runId": "r_annabella",
            "result": {"geheim": 41112222}, "outcome": {"type": "interrupt", "interrupts": [{"id": "i_annabella",
            "reason": "tool_call", "message": "May acmecorp?", "toolCallId": "t_annabella", "metadata": {"annabella": "hunter2"}}]}})),
        command(900, json!({"op": "resume", "ref": "4", "session": "0192aaaa", "answers": [{"interrupt": "i_annabella",
            "status": "resolved", "payload": {"approved": true, "editedArgs": {"owner": "acmecorp"}, "note": "hunter2"}}]})),
        command(950, json!({"op": "edit", "ref": "5", "session": "0192aaaa", "message": "m_ziel", "content": "hunter2"})),
        json!({"at_ms": 960, "device": "laptop of annabella", "link": "cut", "after": {"deltas": 3, "run": 0}, "think_ms": 5}).to_string(),
    ]
}

fn scrub(lines: &[String], keep_directives: bool) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("in.kronosrec");
    fs::write(&path, lines.join("\n") + "\n").unwrap();
    scrubbed(&path, keep_directives)
        .unwrap_or_else(|error| panic!("{error:#}"))
        .0
}

fn script(lines: &[String]) -> Script {
    compiled(lines.join("\n").as_bytes(), "x").unwrap().script
}

#[test]
fn no_secret_survives_and_lengths_do() {
    let old = lines();
    let new = scrub(&old, false);
    let text = new.join("\n").to_lowercase();
    for secret in SECRETS {
        assert!(old.join("\n").contains(secret), "{secret} was planted");
        assert!(!text.contains(&secret.to_lowercase()), "{secret}\n{text}");
    }
    for (old, new) in old.iter().zip(&new).skip(1) {
        let written = |text: &str| serde_json::to_string(&text.parse::<Line>().unwrap()).unwrap();
        assert_eq!(written(old).len(), new.len(), "{old}\n{new}");
    }
    assert!(
        text.contains("\"calculate\"") && text.contains("gemini-3.8-flash") && text.contains("\"kronos.note\""),
        "{text}"
    );
}

#[test]
fn what_is_left_replays_the_same() {
    let (old, new) = (script(&lines()), script(&scrub(&lines(), false)));
    assert_eq!(old.shape, new.shape);
    let steps = |script: &Script| -> Vec<_> {
        let op = |action: &Action| match action {
            Action::Command(command) => command.op().to_string(),
            other => format!("{other:?}"),
        };
        script
            .steps
            .iter()
            .map(|step| (step.device, step.cause, step.think, op(&step.action)))
            .collect()
    };
    assert_eq!(steps(&old), steps(&new));
    let (Action::Command(send), Action::Command(resume), Action::Command(edit)) =
        (&new.steps[2].action, &new.steps[3].action, &new.steps[4].action)
    else {
        panic!("{new:?}");
    };
    let (kronos_protocol::Command::Send(send), kronos_protocol::Command::Edit(edit)) = (send.as_ref(), edit.as_ref())
    else {
        panic!("{new:?}");
    };
    assert_eq!(send.id, edit.message, "ids are the same wherever they stand");
    let kronos_protocol::Command::Resume(resume) = resume.as_ref() else {
        panic!("{new:?}")
    };
    assert_eq!(resume.answers[0].interrupt, new.names.interrupts[0]);
    assert_eq!(resume.answers[0].payload.as_ref().unwrap()["approved"], true);
}

#[test]
fn a_word_cut_in_two_is_the_same_word_elsewhere() {
    let new = scrub(&lines(), false);
    let value = |at: usize| serde_json::from_str::<Value>(&new[at]).unwrap();
    let deltas: String = (10..13)
        .map(|at| value(at)["event"]["delta"].as_str().unwrap().to_owned())
        .collect();
    let said = value(4)["event"]["input"]["messages"][0]["content"][0]["text"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(deltas.ends_with(&format!(", {said}")), "{deltas} {said}");
    let args: String = (6..8)
        .map(|at| value(at)["event"]["delta"].as_str().unwrap().to_owned())
        .collect();
    assert!(serde_json::from_str::<Value>(&args).unwrap().is_object(), "{args}");
    let result = value(8)["event"]["content"].as_str().unwrap().to_owned();
    assert!(serde_json::from_str::<Value>(&result).unwrap().is_object(), "{result}");
}

#[test]
fn directives_are_kept_when_asked_for() {
    assert!(scrub(&lines(), true).join("").contains("[[tokens 5]]"));
    assert!(!scrub(&lines(), false).join("").contains("[["));
}

#[test]
fn each_file_has_a_key_of_its_own() {
    assert_ne!(scrub(&lines(), false), scrub(&lines(), false));
}
