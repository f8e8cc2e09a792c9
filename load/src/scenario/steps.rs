//! Hand-written steps: what they may say, and the script that they make.
//!
//! `wait` and `think` say when the next thing is done; everything else is a thing that is done.

mod compile;

use anyhow::{bail, ensure};
use kronos_protocol::{Codec, SendMode, ToolPolicy};
use serde::Deserialize;

use super::units::Span;
use crate::script::{Script, Think};

/// One step as it is written. At most one of the fields that do something is there.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct StepPart {
    wait: Option<Wait>,
    think: Option<Think>,
    /// Which device does it; absent: the one before.
    device: Option<String>,
    // What is done: one of these.
    say: Option<String>,
    edit: Option<String>,
    regenerate: Option<Which>,
    unqueue: Option<String>,
    cancel: Option<bool>,
    answer: Option<Verdict>,
    settings: Option<toml::Table>,
    typing: Option<bool>,
    rest: Option<Think>,
    join: Option<String>,
    leave: Option<Which>,
    cut: Option<Which>,
    read: Option<String>,
    repeat: Option<u32>,
    // What belongs to one of them.
    id: Option<String>,
    mode: Option<SendMode>,
    model: Option<String>,
    temperature: Option<f64>,
    max_tokens: Option<u32>,
    system_prompt: Option<String>,
    toolkits: Option<Vec<String>>,
    tool_policy: Option<ToolPolicy>,
    away: Option<Span>,
    steps: Option<Vec<StepPart>>,
}

/// What a step waits for.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(
    untagged,
    expecting = "wait: \"reply\", \"run\", \"first_token\", \"approval\", \"ack\", \"storm\", { deltas = 5 } or { approvals = 2 }"
)]
enum Wait {
    Word(WaitWord),
    Deltas(Deltas),
    Approvals(Approvals),
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WaitWord {
    Reply,
    Run,
    FirstToken,
    Approval,
    Ack,
    Storm,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Deltas {
    deltas: u64,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
struct Approvals {
    approvals: usize,
}

/// The one before, or one by its name.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "expected true or a name")]
enum Which {
    Last(True),
    Named(String),
}

/// `true`, and nothing else.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(try_from = "bool")]
struct True;

impl TryFrom<bool> for True {
    type Error = &'static str;

    fn try_from(value: bool) -> Result<Self, Self::Error> {
        value.then_some(Self).ok_or("true, or nothing of it")
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Approve,
    Reject,
}

/// A device as it is written.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DevicePart {
    name: String,
    codec: Option<Codec>,
    client: Option<String>,
    read: Option<String>,
}

/// The thing that a step does.
#[derive(Debug, Clone)]
enum Doing {
    Say(String),
    Edit(String, String),
    Regenerate(Which),
    Unqueue(String),
    Cancel,
    Answer(Verdict),
    Settings(toml::Table),
    Typing(bool),
    Rest(Think),
    Join(String),
    Leave(Which),
    Cut(Which),
    Read(String),
    Repeat(u32, Vec<StepPart>),
}

impl Doing {
    const WORDS: &str = "say, edit with say, regenerate, unqueue, cancel, answer, settings, typing, rest, join, leave, cut, read, \
                         repeat with steps; or only wait and think";
}

impl StepPart {
    /// Returns what is done; `None` when it only waits or thinks.
    fn doing(&self) -> anyhow::Result<Option<Doing>> {
        let all = [
            match (&self.edit, &self.say) {
                (Some(message), Some(text)) => Some(Doing::Edit(message.clone(), text.clone())),
                (Some(_), None) => bail!("edit needs say: what the message says then"),
                (None, text) => text.clone().map(Doing::Say),
            },
            self.regenerate.clone().map(Doing::Regenerate),
            self.unqueue.clone().map(Doing::Unqueue),
            match self.cancel {
                Some(true) => Some(Doing::Cancel),
                Some(false) => bail!("cancel = true, or nothing of it"),
                None => None,
            },
            self.answer.map(Doing::Answer),
            self.settings.clone().map(Doing::Settings),
            self.typing.map(Doing::Typing),
            self.rest.map(Doing::Rest),
            self.join.clone().map(Doing::Join),
            self.leave.clone().map(Doing::Leave),
            self.cut.clone().map(Doing::Cut),
            self.read.clone().map(Doing::Read),
            match (self.repeat, &self.steps) {
                (Some(times), Some(steps)) => Some(Doing::Repeat(times, steps.clone())),
                (None, None) => None,
                _ => bail!("repeat and steps belong together: {{ repeat = 3, steps = [ … ] }}"),
            },
        ];
        let mut all = all.into_iter().flatten();
        let (first, second) = (all.next(), all.next());
        ensure!(second.is_none(), "does two things: one of {}", Doing::WORDS);
        let says = matches!(first, Some(Doing::Say(_)));
        self.options_fit(says, matches!(first, Some(Doing::Cut(_))))?;
        let idle = self.wait.is_none() && self.think.is_none();
        ensure!(first.is_some() || !idle, "does nothing: one of {}", Doing::WORDS);
        Ok(first)
    }

    /// Refuses what belongs to another thing.
    fn options_fit(&self, says: bool, cuts: bool) -> anyhow::Result<()> {
        let of_say = [
            ("id", self.id.is_some()),
            ("mode", self.mode.is_some()),
            ("model", self.model.is_some()),
            ("temperature", self.temperature.is_some()),
            ("max_tokens", self.max_tokens.is_some()),
            ("system_prompt", self.system_prompt.is_some()),
            ("toolkits", self.toolkits.is_some()),
            ("tool_policy", self.tool_policy.is_some()),
        ];
        if let Some((name, _)) = of_say.iter().find(|(_, there)| *there && !says) {
            bail!("{name} belongs to say");
        }
        ensure!(self.away.is_none() || cuts, "away belongs to cut");
        Ok(())
    }
}

/// Makes a script of hand-written steps.
///
/// # Errors
/// The step, by its number from 1, and what is wrong with it.
pub(super) fn script(name: &str, devices: Vec<DevicePart>, steps: &[StepPart]) -> anyhow::Result<Script> {
    let mut compiler = compile::Compiler::new(devices)?;
    ensure!(!steps.is_empty(), "steps: at least one");
    compiler.all(steps)?;
    compiler.finish(name)
}

#[cfg(test)]
mod tests;
