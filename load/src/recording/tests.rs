//! Recordings become scripts, and scripts recordings.

use std::time::Duration;

use kronos_check::RunEnd;
use proptest::prelude::*;

use super::*;
use crate::script::{Action, Cause, Device, Step, Think};

const HEADER: &str = r#"{"kronosrec":1,"session":"s","epoch":"e","started_at_ms":0}"#;

fn compile(lines: &[String]) -> anyhow::Result<Compiled> {
    let text = format!("{HEADER}\n{}\n", lines.join("\n"));
    compiled(text.as_bytes(), "test")
}

fn script(lines: &[String]) -> Script {
    compile(lines).unwrap_or_else(|error| panic!("{error:#}")).script
}

fn command(at_ms: u64, device: &str, fields: &str) -> String {
    format!(r#"{{"at_ms":{at_ms},"device":"{device}","command":{{"ref":"1","session":"s",{fields}}}}}"#)
}

fn send(at_ms: u64, device: &str, id: &str) -> String {
    command(at_ms, device, &format!(r#""op":"send","id":"{id}","content":"hi""#))
}

fn link(at_ms: u64, device: &str, state: &str) -> String {
    format!(r#"{{"at_ms":{at_ms},"device":"{device}","link":"{state}"}}"#)
}

/// An event of run `r`, as `device` saw it (empty: of the log).
fn event(at_ms: u64, device: &str, place: &str, event: &str) -> String {
    let device = if device.is_empty() {
        String::new()
    } else {
        format!(r#""device":"{device}","#)
    };
    format!(r#"{{"at_ms":{at_ms},{device}{place},"run":"r","event":{{{event}}}}}"#)
}

const STARTED: &str = r#""type":"RUN_STARTED","threadId":"s","runId":"r""#;
const FINISHED: &str = r#""type":"RUN_FINISHED","threadId":"s","runId":"r""#;
const ASKS: &str = concat!(
    r#""type":"RUN_FINISHED","threadId":"s","runId":"r","outcome":{"type":"interrupt","#,
    r#""interrupts":[{"id":"i_1","reason":"tool_call"},{"id":"i_2","reason":"tool_call"}]}"#
);
const TEXT: &str = r#""type":"TEXT_MESSAGE_START","messageId":"a_1","role":"assistant""#;
const DELTA: &str = r#""type":"TEXT_MESSAGE_CONTENT","messageId":"a_1","delta":"x""#;
const CALL: &str = r#""type":"TOOL_CALL_START","toolCallId":"t","toolCallName":"calculate""#;

fn told(script: &Script) -> Vec<(usize, Cause, u64, &'static str)> {
    let step = |step: &Step| {
        let think = u64::try_from(step.think.from.as_millis()).unwrap();
        let word = match &step.action {
            Action::Join => "join",
            Action::Leave => "leave",
            Action::Cut => "cut",
            Action::Command(command) => command.op().as_str(),
            Action::Answer { .. } => "answer",
            Action::Read(_) => "read",
            Action::Rest => "rest",
        };
        (step.device, step.cause, think, word)
    };
    script.steps.iter().map(step).collect()
}

#[test]
fn a_command_reacts_to_what_its_device_showed_last() {
    let lines = [
        r#"{"at_ms":0,"device":"a","command":{"op":"hello","ref":"1","client":{"name":"app","version":"2"},"codec":"msgpack"}}"#.to_owned(),
        r#"{"at_ms":5,"device":"a","command":{"op":"attach","ref":"2","session":"new","title":"T"}}"#.to_owned(),
        send(1005, "a", "m_1"),
        event(1100, "a", r#""seq":1"#, STARTED),
        event(1110, "a", r#""seq":2"#, TEXT),
        event(1120, "a", r#""seq":5,"first":3"#, DELTA),
        link(1200, "b", "open"),
        event(1201, "b", r#""seq":1"#, STARTED),
        event(1202, "b", r#""seq":6,"first":2"#, DELTA),
        event(1300, "a", r#""seq":8,"first":6"#, DELTA),
        command(1400, "b", r#""op":"typing","on":true"#),
        command(1450, "a", r#""op":"typing","on":true"#),
        event(1500, "a", r#""seq":9"#, FINISHED),
        send(3500, "a", "m_2"),
        send(3600, "a", "m_3"),
    ];
    let script = script(&lines);
    let expected = [
        (0, Cause::Previous, 0, "join"),
        (0, Cause::Previous, 0, "settings"),
        (0, Cause::Previous, 1000, "send"),
        (1, Cause::Deltas { run: 0, count: 3 }, 80, "join"),
        (1, Cause::Deltas { run: 0, count: 5 }, 198, "typing"),
        (0, Cause::Deltas { run: 0, count: 6 }, 50, "typing"),
        (0, Cause::RunEnded(0), 2000, "send"),
        (0, Cause::Previous, 100, "send"),
    ];
    assert_eq!(told(&script), expected);
    assert_eq!(script.devices[0].codec, Some(kronos_protocol::Codec::Msgpack));
    assert_eq!(script.devices[0].client.as_ref().unwrap().name.as_str(), "app");
    assert_eq!(script.names.runs[0].as_str(), "r");
    assert_eq!(script.names.answers[0].as_str(), "a_1");
    assert_eq!(
        (script.shape.len(), script.shape[0].end, script.shape[0].text),
        (1, RunEnd::Success, true)
    );
}

#[test]
fn an_exported_log_has_one_device_that_joins_first() {
    let lines = [
        send(40, "1", "m_1"),
        event(40, "", r#""seq":1"#, STARTED),
        event(50, "", r#""seq":2"#, CALL),
        event(60, "", r#""seq":3"#, ASKS),
        command(
            560,
            "1",
            r#""op":"resume","answers":[{"interrupt":"i_1","status":"resolved"}]"#,
        ),
        command(600, "1", r#""op":"dance","on":true"#),
    ];
    let error = format!("{:#}", compile(&lines).unwrap_err());
    assert!(error.starts_with("line 7"), "{error}");
    let script = script(&lines[..5]);
    let expected = [
        (0, Cause::Previous, 0, "join"),
        (0, Cause::Previous, 0, "send"),
        (0, Cause::Asked(2), 500, "resume"),
    ];
    assert_eq!(told(&script), expected);
    assert_eq!(script.names.interrupts.len(), 2);
    assert_eq!(
        (script.shape[0].end, script.shape[0].tools.as_slice()),
        (RunEnd::Asks, &["calculate".to_owned()][..])
    );
}

#[test]
fn links_become_joins_leaves_and_cuts() {
    let lines = [
        link(0, "a", "open"),
        command(1, "a", r#""op":"attach","after":{"epoch":"e","seq":1}"#),
        link(100, "a", "cut"),
        link(1100, "a", "open"),
        r#"{"at_ms":1150,"device":"a","command":{"op":"attach","ref":"1","session":"@me"}}"#.to_owned(),
        command(1200, "a", r#""op":"detach""#),
        link(1300, "a", "closed"),
        send(1400, "a", "m_1"),
        send(1400, "a", "m_2").replace(r#""session":"s""#, r#""session":"other""#),
    ];
    let expected = [
        (0, Cause::Previous, 0, "join"),
        (0, Cause::Previous, 100, "cut"),
        (0, Cause::Previous, 1000, "join"),
        (0, Cause::Previous, 100, "leave"),
        (0, Cause::Previous, 200, "join"),
        (0, Cause::Previous, 0, "send"),
    ];
    assert_eq!(told(&script(&lines)), expected);
}

#[test]
fn a_run_without_an_end_has_no_shape() {
    let error = r#""type":"RUN_ERROR","message":"x""#;
    let cancelled = |ends: &str| {
        let lines = [
            send(0, "a", "m_1"),
            event(1, "", r#""seq":1"#, STARTED),
            command(2, "a", r#""op":"cancel""#),
            event(3, "", r#""seq":2"#, ends),
        ];
        script(&lines).shape
    };
    assert_eq!(cancelled(error)[0].end, RunEnd::Failed);
    let outcome = format!(r#"{FINISHED},"outcome":{{"type":"cancelled"}}"#);
    assert_eq!(cancelled(&outcome)[0].end, RunEnd::Cancelled);
    let lines = [
        send(0, "a", "m_1"),
        event(1, "", r#""seq":1"#, STARTED),
        event(2, "", r#""seq":2"#, error),
    ];
    assert_eq!(script(&lines).shape[0].end, RunEnd::Failed);
    assert!(script(&lines[..2]).shape.is_empty());
    assert_eq!(script(&lines[..2]).names.runs.len(), 1);
}

#[test]
fn a_line_may_say_itself_what_it_reacts_to() {
    let lines = [
        send(0, "a", "m_1").replacen('{', r#"{"after":{"deltas":5,"run":1},"think_ms":7,"think_to_ms":9,"#, 1),
        send(50, "a", "m_2").replacen('{', r#"{"after":"storm","#, 1),
        r#"{"at_ms":60,"device":"a","act":"approve","think_ms":3}"#.to_owned(),
    ];
    let script = script(&lines);
    let expected = [
        (0, Cause::Previous, 0, "join"),
        (0, Cause::Deltas { run: 1, count: 5 }, 7, "send"),
        (0, Cause::Storm, 0, "send"),
        (0, Cause::Previous, 3, "answer"),
    ];
    assert_eq!(told(&script), expected);
    assert_eq!(script.steps[1].think.to, Duration::from_millis(9));
}

#[test]
fn a_torn_last_line_is_left_out_and_anything_else_is_named() {
    let text = |end: &str| format!("{HEADER}\n{}\n{end}", send(5, "a", "m_1"));
    let torn = compiled(text(r#"{"at_ms":9,"dev"#).as_bytes(), "x").unwrap();
    assert_eq!((torn.script.steps.len(), torn.warnings.len()), (2, 1));
    assert!(torn.warnings[0].starts_with("line 3 was torn"), "{:?}", torn.warnings);
    let whole = compiled(text(send(9, "a", "m_2").as_str()).as_bytes(), "x").unwrap();
    assert_eq!((whole.script.steps.len(), whole.warnings.len()), (3, 0));
    let within_a_character = [text("").as_bytes(), b"{\"\xc3"].concat();
    assert_eq!(compiled(within_a_character.as_slice(), "x").unwrap().warnings.len(), 1);
    let unknown = compiled(text("{\"at_ms\":9,\"mood\":1}\n\n").as_bytes(), "x").unwrap();
    assert_eq!(unknown.warnings, ["1 lines of unknown kinds are left out"]);
    for (bad, expected) in [
        ("{\"at_ms\":9,\"dev\n", "line 3: not a line of a recording"),
        (send(4, "a", "m_2").as_str(), "line 3: at_ms goes back from 5 to 4"),
    ] {
        let error = format!("{:#}", compiled(text(bad).as_bytes(), "x").unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    for (bad, expected) in [
        ("", "an empty file"),
        (HEADER, "nobody does anything"),
        ("{}", "line 1, the header"),
        (&HEADER.replace(":1,", ":2,"), "version 2"),
    ] {
        let error = format!("{:#}", compiled(bad.as_bytes(), "x").unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_file_is_named_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.kronosrec");
    assert!(format!("{:#}", load(&path).unwrap_err()).contains("mine.kronosrec"));
    std::fs::write(&path, format!("{HEADER}\n{}", send(1, "a", "m"))).unwrap();
    assert_eq!(load(&path).unwrap().name, "mine");
}

fn back(script: &Script) -> Script {
    let mut text = Vec::new();
    write(script, &mut text).unwrap();
    read(text.as_slice(), &script.name).unwrap()
}

fn causes() -> impl Strategy<Value = Cause> {
    prop_oneof![
        Just(Cause::Previous),
        Just(Cause::Replied),
        Just(Cause::Storm),
        (0_usize..9).prop_map(Cause::RunStarted),
        (0_usize..9).prop_map(Cause::RunEnded),
        (0_usize..9).prop_map(Cause::Asked),
        (0_usize..9, 0_u64..99).prop_map(|(run, count)| Cause::Deltas { run, count }),
    ]
}

/// Steps that a person can do: whoever is away joins first, who is there does not join.
fn scripts() -> impl Strategy<Value = Script> {
    let step = (0_usize..3, 0_usize..8, causes(), 0_u64..5000, 0_u64..5000);
    proptest::collection::vec(step, 1..30).prop_map(|drawn| {
        let device = |name: &str, pace| Device {
            name: name.parse().unwrap(),
            client: None,
            codec: None,
            bytes_per_second: pace,
        };
        let (mut joined, mut order, mut steps) = ([false; 3], Vec::new(), Vec::new());
        for (at, kind, cause, from, more) in drawn {
            let at = order.iter().position(|known| *known == at).unwrap_or_else(|| {
                order.push(at);
                order.len() - 1
            });
            let cancel = kronos_protocol::Cancel::new("script".parse::<kronos_protocol::SessionId>().unwrap());
            let action = match (joined[at], kind) {
                (false, _) => Action::Join,
                (true, 0) => Action::Leave,
                (true, 1) => Action::Cut,
                (true, 2) => Action::Rest,
                (true, 3) => Action::Read(None),
                (true, 4) => Action::Read(Some(7)),
                (true, 5) => Action::Answer { approved: from > 2500 },
                (true, _) => Action::Command(Box::new(cancel.into())),
            };
            joined[at] = !matches!(action, Action::Leave | Action::Cut);
            let think = Think {
                from: Duration::from_millis(from),
                to: Duration::from_millis(from + more),
            };
            steps.push(Step {
                device: at,
                cause,
                think,
                action,
            });
        }
        let devices = order
            .iter()
            .map(|at| device(&format!("d{at}"), (*at == 1).then_some(9)));
        Script {
            name: "drawn".to_owned(),
            devices: devices.collect(),
            steps,
            ..Script::default()
        }
    })
}

proptest! {
    #[test]
    fn a_script_comes_back_as_it_was_written(script in scripts()) {
        prop_assert_eq!(back(&script), script);
    }
}
