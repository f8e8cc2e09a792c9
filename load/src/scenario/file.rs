//! A scenario's file: its shape, its defaults, and what must not be in it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::steps::{self, DevicePart, StepPart};
use super::units::{Span, pace};
use super::{CodecMix, Model, Network, Part, Scenario, Spawn, Stage, Users, shipped};
use crate::recording;
use crate::script::{Cause, Script};
use crate::threshold::Threshold;

/// Users at a time that the open model allows when the file does not say.
pub(super) const MAX_USERS: usize = 20_000;
/// Time to finish when the file does not say.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// How long a device that was cut is away when the file does not say.
const AWAY: Duration = Duration::from_secs(1);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: Option<String>,
    #[serde(default)]
    about: String,
    #[serde(default)]
    seed: Option<u64>,
    load: LoadPart,
    #[serde(default)]
    network: NetworkPart,
    #[serde(default)]
    thresholds: Vec<String>,
    #[serde(default)]
    spawn: SpawnPart,
    mix: Vec<MixPart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoadPart {
    model: Option<Model>,
    stages: Vec<StagePart>,
    grace: Option<Span>,
    max_users: Option<usize>,
    speed: Option<f64>,
    codec: Option<CodecMix>,
    users: Option<UsersPart>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct StagePart {
    over: Span,
    to: f64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum UsersPart {
    Named,
    SignUp,
    Tokens(PathBuf),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct NetworkPart {
    cut_every: Option<Span>,
    away: Option<Span>,
    storm_at: Option<Span>,
    devices: Option<usize>,
    slow_share: Option<f64>,
    slow_bytes_per_second: Option<u32>,
    slow: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SpawnPart {
    env: BTreeMap<String, String>,
    sim: toml::Table,
    composio: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MixPart {
    weight: Option<u32>,
    name: Option<String>,
    recording: Option<PathBuf>,
    #[serde(default)]
    devices: Vec<DevicePart>,
    steps: Option<Vec<StepPart>>,
}

/// Reads a scenario. `folder` is where the files are that it names; `None` for one that ships with the program.
///
/// # Errors
/// What is wrong: the line and the key, or the part and the step, and what would be right.
pub(super) fn read(text: &str, stem: &str, folder: Option<&Path>) -> anyhow::Result<Scenario> {
    let file: File = toml::from_str(text)?;
    let mix = file.mix.into_iter().enumerate();
    let mix: Vec<Part> = mix
        .map(|(index, part)| part.read(index, folder))
        .collect::<anyhow::Result<_>>()?;
    ensure!(
        !mix.is_empty(),
        "[[mix]]: at least one part is needed, with steps or a recording"
    );
    let network = file.network.read()?;
    let waits = |part: &&Part| part.script.steps.iter().any(|step| step.cause == Cause::Storm);
    if let (Some(part), None) = (mix.iter().find(waits), network.storm_at) {
        bail!(
            "mix {:?} waits for the storm: [network] needs storm_at",
            part.script.name
        );
    }
    let thresholds = file.thresholds.iter().map(|text| text.parse::<Threshold>());
    let thresholds = thresholds.collect::<anyhow::Result<_>>().context("thresholds")?;
    let load = file.load;
    let speed = load.speed.unwrap_or(1.0);
    ensure!(speed.is_finite() && speed > 0.0, "load.speed: above 0, not {speed}");
    let max_users = load.max_users.unwrap_or(MAX_USERS);
    ensure!(max_users > 0, "load.max_users: at least 1");
    Ok(Scenario {
        name: file.name.unwrap_or_else(|| stem.to_owned()),
        about: file.about,
        seed: file.seed.unwrap_or(1),
        model: load.model.unwrap_or(Model::Open),
        stages: stages(&load.stages)?,
        grace: load.grace.map_or(GRACE, |span| span.0),
        max_users,
        speed,
        codec: load.codec.unwrap_or(CodecMix::Json),
        users: users(load.users, folder)?,
        mix,
        network,
        thresholds,
        spawn: Spawn {
            env: file.spawn.env,
            sim: sim(file.spawn.sim)?,
            composio: file.spawn.composio,
        },
    })
}

fn stages(parts: &[StagePart]) -> anyhow::Result<Vec<Stage>> {
    ensure!(
        !parts.is_empty(),
        "load.stages: at least one, such as {{ over = \"10s\", to = 5 }}"
    );
    for part in parts {
        ensure!(
            part.to.is_finite() && part.to >= 0.0,
            "load.stages: to is 0 or more, not {}",
            part.to
        );
    }
    let stage = |part: &StagePart| Stage {
        over: part.over.0,
        to: part.to,
    };
    Ok(parts.iter().map(stage).collect())
}

fn users(part: Option<UsersPart>, folder: Option<&Path>) -> anyhow::Result<Users> {
    match (part, folder) {
        (None | Some(UsersPart::Named), _) => Ok(Users::Named),
        (Some(UsersPart::SignUp), _) => Ok(Users::SignUp),
        (Some(UsersPart::Tokens(file)), Some(folder)) => Ok(Users::Tokens(folder.join(file))),
        (Some(UsersPart::Tokens(_)), None) => bail!("load.users: no file of tokens ships with the program"),
    }
}

fn sim(table: toml::Table) -> anyhow::Result<Value> {
    if table.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::to_value(table).context("spawn.sim")
}

impl NetworkPart {
    fn read(self) -> anyhow::Result<Network> {
        let slow_share = self.slow_share.unwrap_or(0.0);
        ensure!(
            (0.0..=1.0).contains(&slow_share),
            "network.slow_share: from 0 to 1, not {slow_share}"
        );
        let slow = match (self.slow_bytes_per_second, self.slow) {
            (Some(bytes), None) => Some(bytes),
            (None, Some(text)) => pace(&text).context("network.slow")?,
            (None, None) => None,
            (Some(_), Some(_)) => bail!("network: slow or slow_bytes_per_second, not both"),
        };
        ensure!(
            slow_share == 0.0 || slow.is_some_and(|bytes| bytes > 0),
            "network.slow_share needs slow_bytes_per_second: at least 1"
        );
        let devices = self.devices.unwrap_or(1);
        ensure!(
            (1..=100).contains(&devices),
            "network.devices: from 1 to 100, not {devices}"
        );
        let cut_every = self.cut_every.map(|span| span.0);
        ensure!(
            cut_every != Some(Duration::ZERO),
            "network.cut_every: more than nothing"
        );
        Ok(Network {
            cut_every,
            away: self.away.map_or(AWAY, |span| span.0),
            storm_at: self.storm_at.map(|span| span.0),
            devices,
            slow_share,
            slow_bytes_per_second: slow.unwrap_or(0),
        })
    }
}

impl MixPart {
    fn read(self, index: usize, folder: Option<&Path>) -> anyhow::Result<Part> {
        let number = index + 1;
        let name = self.name.clone().unwrap_or_else(|| format!("part {number}"));
        let weight = self.weight.unwrap_or(1);
        ensure!(weight > 0, "mix {name:?}: weight is at least 1");
        let context = || format!("mix {name:?}");
        let script = match (self.steps, self.recording) {
            (Some(steps), None) => steps::script(&name, self.devices, &steps).with_context(context)?,
            (None, Some(file)) => {
                ensure!(
                    self.devices.is_empty(),
                    "mix {name:?}: a recording brings its own devices"
                );
                let script = recorded(&file, folder).with_context(context)?;
                Script {
                    name: self.name.unwrap_or(script.name),
                    ..script
                }
            }
            (None, None) => bail!("mix {name:?}: needs steps = [ … ] or recording = \"file.kronosrec\""),
            (Some(_), Some(_)) => bail!("mix {name:?}: steps or a recording, not both"),
        };
        Ok(Part { weight, script })
    }
}

fn recorded(file: &Path, folder: Option<&Path>) -> anyhow::Result<Script> {
    match folder {
        Some(folder) => recording::load(&folder.join(file)),
        None => shipped::recording(file),
    }
}
