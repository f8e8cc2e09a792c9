//! Finding scenarios, and what the command line changes about them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use super::file::{self, GRACE, MAX_USERS};
use super::{CodecMix, Model, Network, Part, Scenario, Spawn, Stage, Users, shipped};
use crate::recording;

/// What the command line changes; absent: as the scenario has it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// Think times are divided by it.
    pub(crate) speed: Option<f64>,
    /// Users at a time at the peak: the closed model, with stages of the same form.
    pub(crate) users: Option<f64>,
    /// Arrivals a second at the peak: the open model, with stages of the same form.
    pub(crate) rate: Option<f64>,
    /// How long the stages take together, with the same form; the storm moves along.
    pub(crate) duration: Option<Duration>,
    /// What devices speak that do not say.
    pub(crate) codec: Option<CodecMix>,
    /// Whatever is drawn is drawn from it.
    pub(crate) seed: Option<u64>,
    /// Time for those who are at it when the stages are over.
    pub(crate) grace: Option<Duration>,
    /// Most users at a time in the open model.
    pub(crate) max_users: Option<usize>,
    /// How users prove who they are.
    pub(crate) users_kind: Option<Users>,
}

/// Reads what is to be run: a scenario that ships, by its name; a file `*.toml`; or recordings, around which a load is made.
///
/// # Errors
/// What cannot be found or read, with the file and the place in it.
pub(crate) fn load(names: &[String], overrides: &Overrides) -> anyhow::Result<Scenario> {
    let mut scenario = match names {
        [] => bail!(
            "a scenario is needed: one of {}, a file *.toml, or recordings",
            shipped::names().join(", ")
        ),
        [name] if !is(name, "kronosrec") => one(name)?,
        _ => recordings(names)?,
    };
    overrides.apply(&mut scenario)?;
    Ok(scenario)
}

fn is(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

fn one(name: &str) -> anyhow::Result<Scenario> {
    if is(name, "toml") {
        let path = Path::new(name);
        let text = fs::read_to_string(path).with_context(|| name.to_owned())?;
        let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or(name);
        let folder = path.parent().unwrap_or_else(|| Path::new(""));
        return file::read(&text, stem, Some(folder)).with_context(|| name.to_owned());
    }
    let text = shipped::scenario(name);
    let known = || shipped::names().join(", ");
    let text =
        text.with_context(|| format!("no scenario {name}: one of {}, a file *.toml, or *.kronosrec", known()))?;
    file::read(text, name, None).with_context(|| format!("scenario {name}"))
}

/// A load around recordings: one arrival a second for ten seconds, each of them as often.
fn recordings(names: &[String]) -> anyhow::Result<Scenario> {
    let mut mix = Vec::new();
    for name in names {
        ensure!(
            is(name, "kronosrec"),
            "{name}: several files are recordings (*.kronosrec), all of them"
        );
        let path = Path::new(name);
        // Those that ship are found by their names alone.
        let script = match shipped::recording(path) {
            Ok(script) if !path.exists() => script,
            _ => recording::load(path)?,
        };
        mix.push(Part { weight: 1, script });
    }
    let called: Vec<_> = mix.iter().map(|part| part.script.name.as_str()).collect();
    let second = Duration::from_secs(1);
    Ok(Scenario {
        name: called.join("+"),
        about: "Replays what was recorded.".to_owned(),
        seed: 1,
        model: Model::Open,
        stages: vec![
            Stage {
                over: Duration::ZERO,
                to: 1.0,
            },
            Stage {
                over: 10 * second,
                to: 1.0,
            },
        ],
        grace: GRACE,
        max_users: MAX_USERS,
        speed: 1.0,
        codec: CodecMix::Json,
        users: Users::Named,
        mix,
        network: Network {
            away: second,
            devices: 1,
            ..Network::default()
        },
        thresholds: vec!["errors == 0".parse()?],
        spawn: Spawn::default(),
    })
}

impl Overrides {
    fn apply(&self, scenario: &mut Scenario) -> anyhow::Result<()> {
        let above_zero = |name: &str, value: Option<f64>| match value {
            Some(value) if !(value.is_finite() && value > 0.0) => bail!("--{name}: above 0, not {value}"),
            value => Ok(value),
        };
        if let Some(speed) = above_zero("speed", self.speed)? {
            scenario.speed = speed;
        }
        match (above_zero("users", self.users)?, above_zero("rate", self.rate)?) {
            (Some(_), Some(_)) => bail!("--users (the closed model) or --rate (the open one), not both"),
            (Some(users), None) => scenario.peak(Model::Closed, users)?,
            (None, Some(rate)) => scenario.peak(Model::Open, rate)?,
            (None, None) => {}
        }
        if let Some(duration) = self.duration {
            scenario.stretch(duration)?;
        }
        if let Some(users) = &self.users_kind {
            scenario.users = users.clone();
        }
        scenario.codec = self.codec.unwrap_or(scenario.codec);
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        scenario.grace = self.grace.unwrap_or(scenario.grace);
        scenario.max_users = self.max_users.unwrap_or(scenario.max_users);
        Ok(())
    }
}

impl Scenario {
    /// Gives the stages another peak, and a model.
    fn peak(&mut self, model: Model, to: f64) -> anyhow::Result<()> {
        let peak = self.stages.iter().map(|stage| stage.to).fold(0.0, f64::max);
        ensure!(
            peak > 0.0,
            "load.stages: no stage goes above 0, so there is nothing to scale"
        );
        for stage in &mut self.stages {
            stage.to = stage.to / peak * to;
            if model == Model::Closed {
                stage.to = stage.to.round();
            }
        }
        self.model = model;
        Ok(())
    }

    /// Lets the stages take longer or shorter.
    fn stretch(&mut self, to: Duration) -> anyhow::Result<()> {
        let length = self.length();
        ensure!(
            !length.is_zero(),
            "load.stages: no stage takes any time, so there is nothing to stretch"
        );
        let factor = to.as_secs_f64() / length.as_secs_f64();
        for stage in &mut self.stages {
            stage.over = stage.over.mul_f64(factor);
        }
        self.network.storm_at = self.network.storm_at.map(|at| at.mul_f64(factor));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
