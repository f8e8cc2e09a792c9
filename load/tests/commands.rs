//! The commands that make and change recordings.

#![expect(clippy::expect_used, reason = "a test fails by a panic")]

use std::path::Path;
use std::process::{Command, Output};

fn kronos_load(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_kronos-load")).args(arguments).output();
    output.expect("the program starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_string_lossy().into_owned()
}

#[test]
fn the_scenarios_that_ship_are_listed_and_shown() {
    let list = text(&kronos_load(&["scenarios"]).stdout);
    for name in [
        "smoke",
        "chat",
        "idle",
        "storm",
        "stream",
        "slow-readers",
        "agent",
        "soak",
    ] {
        assert!(list.lines().any(|line| line.starts_with(name)), "{list}");
        let shown = text(&kronos_load(&["scenarios", name]).stdout);
        assert!(shown.contains(&format!("name = \"{name}\"")), "{shown}");
    }
    let unknown = kronos_load(&["scenarios", "none"]);
    assert!(!unknown.status.success() && text(&unknown.stderr).contains("one of smoke, chat"));
}

#[test]
fn hand_written_steps_become_a_recording_that_can_be_scrubbed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (recording, scrubbed) = (
        path(folder.path(), "in.kronosrec"),
        path(folder.path(), "out.kronosrec"),
    );
    let which = kronos_load(&["script", "smoke", "-o", &recording]);
    assert!(
        text(&which.stderr).contains("--name with one of questions"),
        "{}",
        text(&which.stderr)
    );
    let made = kronos_load(&["script", "smoke", "--name", "cancel", "-o", &recording]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let before = std::fs::read_to_string(&recording).expect("a recording");
    assert!(
        before.contains(r#""after":{"deltas":10,"run":0},"think_ms":100"#),
        "{before}"
    );
    let made = kronos_load(&["scrub", &recording, "-o", &scrubbed]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let after = std::fs::read_to_string(&scrubbed).expect("a recording");
    assert_eq!(before.lines().count(), after.lines().count());
    assert!(
        before.contains("A sentence will do") && !after.contains("sentence"),
        "{after}"
    );
    let kept = kronos_load(&["scrub", &recording, "-o", &scrubbed, "--keep-directives"]);
    assert!(kept.status.success());
    let after = std::fs::read_to_string(&scrubbed).expect("a recording");
    assert!(
        after.contains("[[tokens 500]]") && !after.contains("sentence"),
        "{after}"
    );
    let same = kronos_load(&["scrub", &recording, "-o", &recording]);
    assert!(
        text(&same.stderr).contains("a file of its own"),
        "{}",
        text(&same.stderr)
    );
}
