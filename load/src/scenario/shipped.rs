//! The scenarios and recordings that ship with the program.

use std::path::Path;

use anyhow::Context as _;

use crate::recording;
use crate::script::Script;

/// Declares files of a folder by their names.
macro_rules! files {
    ($folder:literal, $end:literal, [$($name:literal),* $(,)?]) => {
        &[$( ($name, include_str!(concat!("../../", $folder, "/", $name, $end))) ),*]
    };
}

const SCENARIOS: &[(&str, &str)] = files!(
    "scenarios",
    ".toml",
    [
        "smoke",
        "chat",
        "idle",
        "storm",
        "stream",
        "slow-readers",
        "agent",
        "soak"
    ]
);

const RECORDINGS: &[(&str, &str)] = files!(
    "recordings",
    ".kronosrec",
    ["approval", "cancel", "exported", "question", "two-devices"]
);

/// Returns the text of a scenario that ships.
pub(super) fn scenario(name: &str) -> Option<&'static str> {
    SCENARIOS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, text)| *text)
}

/// Returns all scenarios that ship: their names and texts.
pub(super) fn all() -> &'static [(&'static str, &'static str)] {
    SCENARIOS
}

/// Returns the names of the scenarios that ship.
pub(super) fn names() -> Vec<&'static str> {
    SCENARIOS.iter().map(|(name, _)| *name).collect()
}

/// Returns the script of a recording that ships.
pub(super) fn recording(file: &Path) -> anyhow::Result<Script> {
    let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let found = RECORDINGS.iter().find(|(known, _)| *known == name);
    let (name, text) = found.with_context(|| format!("no recording {} ships with the program", file.display()))?;
    recording::read(text.as_bytes(), name)
}

#[cfg(test)]
mod tests {
    use kronos_protocol::recording::{Header, Line};

    use super::super::file;
    use super::*;

    #[test]
    fn every_scenario_that_ships_can_be_read() {
        for (name, text) in SCENARIOS {
            let scenario = file::read(text, name, None).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert_eq!(&scenario.name, name);
            assert!(!scenario.about.is_empty(), "{name}");
            assert!(!scenario.thresholds.is_empty(), "{name}");
        }
    }

    #[test]
    fn every_recording_that_ships_becomes_a_script() {
        for (name, text) in RECORDINGS {
            let script = recording::read(text.as_bytes(), name).unwrap_or_else(|error| panic!("{name}: {error:#}"));
            assert!(!script.steps.is_empty() && !script.shape.is_empty(), "{name}");
            for (index, line) in text.lines().enumerate() {
                let back = match index {
                    0 => serde_json::to_string(&line.parse::<Header>().unwrap()),
                    _ => serde_json::to_string(&line.parse::<Line>().unwrap()),
                };
                assert_eq!(back.unwrap(), line, "{name}");
            }
        }
    }

    #[test]
    fn nothing_that_ships_is_forgotten() {
        for (folder, files) in [("scenarios", SCENARIOS), ("recordings", RECORDINGS)] {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
            assert_eq!(std::fs::read_dir(folder).unwrap().count(), files.len());
        }
    }
}
