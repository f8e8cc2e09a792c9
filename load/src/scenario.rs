//! A load: who comes when, what they do, and what must hold.
//!
//! How it is written is in `SCENARIOS.md`; `scenario/file.rs` reads it, `scenario/steps.rs` makes scripts of its steps.

mod command;
mod file;
mod load;
mod shipped;
mod steps;
mod units;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

pub(crate) use command::{ScenariosArgs, ScriptArgs};
pub(crate) use load::{Overrides, load};
pub(crate) use units::parse_span;

use crate::script::Script;
use crate::threshold::Threshold;

/// A load, read from a `scenario.toml`, one that ships with the crate, or made around recordings.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    /// A short name.
    pub(crate) name: String,
    /// What it is for, in a sentence.
    pub(crate) about: String,
    /// Whatever is drawn is drawn from it.
    pub(crate) seed: u64,
    /// What the stages count.
    pub(crate) model: Model,
    /// One after the other.
    pub(crate) stages: Vec<Stage>,
    /// Time for those who are at it when the stages are over; whoever needs longer is an error (`unfinished`).
    pub(crate) grace: Duration,
    /// Most users at a time in the open model; an arrival above it is dropped and counts as an error (`dropped`).
    pub(crate) max_users: usize,
    /// Think times are divided by it.
    pub(crate) speed: f64,
    /// What devices speak that do not say.
    pub(crate) codec: CodecMix,
    /// How users prove who they are.
    pub(crate) users: Users,
    /// What they do, by weight.
    pub(crate) mix: Vec<Part>,
    /// What happens to their connections beside what the scripts say.
    pub(crate) network: Network,
    /// What must hold at the end.
    pub(crate) thresholds: Vec<Threshold>,
    /// What `--spawn` starts.
    pub(crate) spawn: Spawn,
}

/// What the stages count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Model {
    /// Arrivals a second, however slow the server is.
    Open,
    /// Users at a time; whoever has come to the end begins again as somebody new.
    Closed,
}

/// A part of the load: a straight line from where the stage before it ended (at first: 0) to `to`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(crate) struct Stage {
    /// How long it takes; zero: a jump.
    pub(crate) over: Duration,
    /// Arrivals a second or users at its end.
    pub(crate) to: f64,
}

/// Who speaks what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CodecMix {
    /// JSON.
    Json,
    /// MessagePack.
    Msgpack,
    /// Each device draws.
    Mixed,
}

/// How users prove who they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Users {
    /// By name alone, as a server with `AUTH_MODE=optional` in development lets them.
    Named,
    /// Each signs up first and logs in.
    SignUp,
    /// Tokens from a file, one a line, in turns.
    Tokens(PathBuf),
}

/// A script and how often it is drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Part {
    /// How often, against the other weights.
    pub(crate) weight: u32,
    /// What is done.
    pub(crate) script: Script,
}

/// What happens to connections beside what the scripts say.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Network {
    /// Each device is cut at random, on average that often; it comes back after `away`.
    pub(crate) cut_every: Option<Duration>,
    /// How long it is away then, and after the storm.
    pub(crate) away: Duration,
    /// From the start of the load: everybody who is connected is cut at this moment and comes back after `away`.
    pub(crate) storm_at: Option<Duration>,
    /// Each user has at least that many devices; those that the script does not know only look on.
    pub(crate) devices: usize,
    /// This share of the devices (0 to 1) reads slowly.
    pub(crate) slow_share: f64,
    /// As many bytes a second.
    pub(crate) slow_bytes_per_second: u32,
}

/// What `--spawn` starts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spawn {
    /// Environment of the server, beside what the load tester sets.
    pub(crate) env: BTreeMap<String, String>,
    /// Settings of the simulator of the model (`PUT /sim/config`).
    pub(crate) sim: Value,
    /// Whether the simulator of Composio is started too.
    pub(crate) composio: bool,
}

impl Scenario {
    /// Returns how long the stages take.
    pub(crate) fn length(&self) -> Duration {
        self.stages.iter().map(|stage| stage.over).sum()
    }

    /// Returns what the stages want at a time after the start: arrivals a second, or users.
    pub(crate) fn wanted(&self, at: Duration) -> f64 {
        let (mut from, mut begin) = (0.0, Duration::ZERO);
        for stage in &self.stages {
            let end = begin + stage.over;
            if at < end {
                let part = (at - begin).as_secs_f64() / stage.over.as_secs_f64();
                return from + (stage.to - from) * part;
            }
            (from, begin) = (stage.to, end);
        }
        from
    }
}
