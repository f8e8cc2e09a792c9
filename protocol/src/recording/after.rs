//! What a line of a recording reacts to, where it says so itself.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::wire::macros::json_schema_of;

/// A moment that a line reacts to. Runs and questions are counted from 0, in the order in which the session began them.
///
/// On the wire a word (`"previous"`, `"replied"`, `"storm"`) or an object: `{"run_started":0}`, `{"deltas":5,"run":0}`,
/// `{"run_ended":0}`, `{"asked":1}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// The line before it of a person.
    Previous,
    /// Every command so far has its reply.
    Replied,
    /// The moment in which a load cuts everybody.
    Storm,
    /// The run has begun.
    RunStarted(u32),
    /// That many deltas of the run's texts were seen, merged ones counted for all of them.
    Deltas {
        /// The run.
        run: u32,
        /// How many.
        count: u64,
    },
    /// The run has ended, however.
    RunEnded(u32),
    /// That many questions were asked in the session.
    Asked(u32),
}

const WORDS: &str = "a word (previous, replied, storm) or an object (run_started, deltas with run, run_ended, asked)";

impl Serialize for After {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let one = |serializer: S, key: &str, value: u32| {
            let mut map = serializer.serialize_map(Some(1))?;
            map.serialize_entry(key, &value)?;
            map.end()
        };
        match *self {
            Self::Previous => serializer.serialize_str("previous"),
            Self::Replied => serializer.serialize_str("replied"),
            Self::Storm => serializer.serialize_str("storm"),
            Self::RunStarted(run) => one(serializer, "run_started", run),
            Self::RunEnded(run) => one(serializer, "run_ended", run),
            Self::Asked(count) => one(serializer, "asked", count),
            Self::Deltas { run, count } => {
                let mut map = serializer.serialize_map(Some(2))?;
                map.serialize_entry("deltas", &count)?;
                map.serialize_entry("run", &run)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for After {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let found = match &value {
            Value::String(word) => match word.as_str() {
                "previous" => Some(Self::Previous),
                "replied" => Some(Self::Replied),
                "storm" => Some(Self::Storm),
                _ => None,
            },
            Value::Object(map) => object(map),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => None,
        };
        found.ok_or_else(|| D::Error::custom(format_args!("expected {WORDS}")))
    }
}

fn object(map: &Map<String, Value>) -> Option<After> {
    let count = |key: &str| map.get(key).and_then(Value::as_u64);
    let small = |key: &str| count(key).and_then(|value| u32::try_from(value).ok());
    if let Some(deltas) = count("deltas") {
        let run = small("run")?;
        return Some(After::Deltas { run, count: deltas });
    }
    let run_started = small("run_started").map(After::RunStarted);
    let run_ended = || small("run_ended").map(After::RunEnded);
    run_started
        .or_else(run_ended)
        .or_else(|| small("asked").map(After::Asked))
}

json_schema_of!(After, _generator => schemars::json_schema!({
    "description": "A moment that a line reacts to.",
    "anyOf": [
        {"enum": ["previous", "replied", "storm"]},
        {"type": "object", "properties": {
            "run_started": {"type": "integer", "minimum": 0},
            "deltas": {"type": "integer", "minimum": 0},
            "run": {"type": "integer", "minimum": 0},
            "run_ended": {"type": "integer", "minimum": 0},
            "asked": {"type": "integer", "minimum": 0}
        }}
    ]
}));
