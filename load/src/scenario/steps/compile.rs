//! From steps as they are written to causes and actions.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use kronos_protocol::client::{
    Cancel, ClientInfo, Command, Edit, Regenerate, RunOptions, Send, Settings, Typing, Unqueue,
};
use kronos_protocol::ids::{DeviceName, MessageId, SessionId};
use kronos_protocol::{SendMode, SessionSettings};

use super::super::units::pace;
use super::{DevicePart, Doing, StepPart, Verdict, Wait, WaitWord, Which};
use crate::script::{Action, Cause, Device, SESSION, Script, Step, Think};

/// What a device is called that nobody names.
const FIRST: &str = "1";
/// Most steps that a script may come to.
const STEPS: usize = 100_000;

/// Keys of `settings`.
const SETTINGS: [&str; 7] = [
    "title",
    "model",
    "tool_policy",
    "toolkits",
    "system_prompt",
    "tool_rules",
    "branch",
];

/// The script so far.
#[derive(Debug)]
pub(super) struct Compiler {
    devices: Vec<Device>,
    /// Whether it is connected, by device.
    joined: Vec<bool>,
    /// The device that acted last.
    current: usize,
    steps: Vec<Step>,
    cause: Cause,
    think: Think,
    /// Runs that were asked for.
    runs: usize,
    /// Of them those that the script has waited for.
    over: usize,
    /// Questions that the script has waited for.
    asked: usize,
    said: usize,
    /// What a message is called in the script, by what it is called in the file.
    messages: BTreeMap<String, MessageId>,
    /// How often the innermost group has been repeated, with those around it: makes ids of messages differ.
    round: String,
}

impl Compiler {
    pub(super) fn new(parts: Vec<DevicePart>) -> anyhow::Result<Self> {
        let mut compiler = Self {
            devices: Vec::new(),
            joined: Vec::new(),
            current: 0,
            steps: Vec::new(),
            cause: Cause::Previous,
            think: Think::default(),
            runs: 0,
            over: 0,
            asked: 0,
            said: 0,
            messages: BTreeMap::new(),
            round: String::new(),
        };
        for part in parts {
            let name = part.name.clone();
            compiler.declare(part).with_context(|| format!("device {name:?}"))?;
        }
        Ok(compiler)
    }

    fn declare(&mut self, part: DevicePart) -> anyhow::Result<()> {
        ensure!(
            self.devices.iter().all(|device| device.name.as_str() != part.name),
            "is declared twice"
        );
        let at = self.device(&part.name)?;
        let bytes_per_second = part.read.map(|text| pace(&text)).transpose()?.flatten();
        let client = part.client.map(|text| client(&text)).transpose()?;
        let device = self.devices.get_mut(at).context("no such device")?;
        (device.codec, device.client, device.bytes_per_second) = (part.codec, client, bytes_per_second);
        Ok(())
    }

    /// Finds a device by its name, or makes it.
    fn device(&mut self, name: &str) -> anyhow::Result<usize> {
        if let Some(at) = self.devices.iter().position(|device| device.name.as_str() == name) {
            return Ok(at);
        }
        self.devices.push(Device {
            name: DeviceName::try_from(name).context("device")?,
            client: None,
            codec: None,
            bytes_per_second: None,
        });
        self.joined.push(false);
        Ok(self.devices.len() - 1)
    }

    pub(super) fn all(&mut self, steps: &[StepPart]) -> anyhow::Result<()> {
        for (index, step) in steps.iter().enumerate() {
            self.one(step).with_context(|| format!("step {}", index + 1))?;
            ensure!(self.steps.len() <= STEPS, "step {}: more than {STEPS} steps", index + 1);
        }
        Ok(())
    }

    fn one(&mut self, step: &StepPart) -> anyhow::Result<()> {
        let doing = step.doing()?;
        if let Some(name) = &step.device {
            self.current = self.device(name)?;
        }
        if let Some(wait) = step.wait {
            self.wait(wait)?;
        }
        if let Some(think) = step.think {
            self.think = self.think.plus(think);
        }
        match doing {
            None => Ok(()),
            Some(Doing::Repeat(times, steps)) => self.repeat(times, &steps),
            Some(doing) => self.act(step, doing),
        }
    }

    fn repeat(&mut self, times: u32, steps: &[StepPart]) -> anyhow::Result<()> {
        ensure!(times > 0, "repeat: at least once");
        let outer = self.round.clone();
        for round in 1..=times {
            if round > 1 {
                self.round = format!("{outer}.{round}");
            }
            self.all(steps)?;
        }
        self.round = outer;
        Ok(())
    }

    fn wait(&mut self, wait: Wait) -> anyhow::Result<()> {
        // Somebody who thinks and then waits, or waits for two things, one after the other.
        if self.cause != Cause::Previous || self.think != Think::default() {
            self.push(self.current, Action::Rest);
        }
        let last = self.runs.checked_sub(1);
        let last = last.context("waits for an answer, but nothing was said before");
        self.cause = match wait {
            Wait::Word(WaitWord::Reply) => {
                self.over = self.runs;
                Cause::RunEnded(last?)
            }
            Wait::Word(WaitWord::Run) => Cause::RunStarted(last?),
            Wait::Word(WaitWord::FirstToken) => Cause::Deltas { run: last?, count: 1 },
            Wait::Deltas(deltas) => Cause::Deltas {
                run: last?,
                count: deltas.deltas,
            },
            Wait::Word(WaitWord::Approval) => self.approvals(1),
            Wait::Approvals(approvals) => self.approvals(approvals.approvals),
            Wait::Word(WaitWord::Ack) => Cause::Replied,
            Wait::Word(WaitWord::Storm) => Cause::Storm,
        };
        Ok(())
    }

    fn approvals(&mut self, count: usize) -> Cause {
        self.over = self.runs;
        self.asked += count;
        Cause::Asked(self.asked)
    }

    fn push(&mut self, device: usize, action: Action) {
        self.steps.push(Step {
            device,
            cause: std::mem::replace(&mut self.cause, Cause::Previous),
            think: std::mem::take(&mut self.think),
            action,
        });
    }

    /// Does it at the current device, which joins first if it is not there.
    fn command(&mut self, command: impl Into<Command>) -> anyhow::Result<()> {
        let at = self.here()?;
        self.push(at, Action::Command(Box::new(command.into())));
        Ok(())
    }

    fn here(&mut self) -> anyhow::Result<usize> {
        if self.devices.is_empty() {
            self.current = self.device(FIRST)?;
        }
        let at = self.current;
        self.join(at);
        Ok(at)
    }

    fn join(&mut self, at: usize) {
        if let Some(joined) = self.joined.get_mut(at).filter(|joined| !**joined) {
            *joined = true;
            self.push(at, Action::Join);
        }
    }

    fn gone(&mut self, which: &Which, action: Action) -> anyhow::Result<usize> {
        let at = match which {
            Which::Last(_) => self.current,
            Which::Named(name) => self.device(name)?,
        };
        let joined = self.joined.get_mut(at).filter(|joined| **joined);
        *joined.context("the device is not there")? = false;
        self.push(at, action);
        Ok(at)
    }

    fn act(&mut self, step: &StepPart, doing: Doing) -> anyhow::Result<()> {
        let session = || SessionId::from_trusted(SESSION.to_owned());
        match doing {
            Doing::Say(text) => self.say(step, text),
            Doing::Edit(message, text) => {
                let edit = Edit::new(session(), self.known(&message)?, text);
                self.runs += 1;
                self.command(edit)
            }
            Doing::Regenerate(which) => {
                let mut regenerate = Regenerate::new(session());
                if let Which::Named(message) = which {
                    regenerate.message = Some(self.known(&message)?);
                }
                self.runs += 1;
                self.command(regenerate)
            }
            Doing::Unqueue(message) => {
                let unqueue = Unqueue::new(session(), self.known(&message)?);
                self.runs = self.runs.saturating_sub(1);
                self.command(unqueue)
            }
            Doing::Cancel => self.command(Cancel::new(session())),
            Doing::Settings(table) => self.command(Settings::new(session(), settings(table)?)),
            Doing::Typing(on) => self.command(Typing::new(session(), on)),
            Doing::Answer(verdict) => {
                let at = self.here()?;
                self.runs += 1;
                let approved = verdict == Verdict::Approve;
                self.push(at, Action::Answer { approved });
                Ok(())
            }
            Doing::Rest(think) => {
                let at = self.here()?;
                self.think = self.think.plus(think);
                self.push(at, Action::Rest);
                Ok(())
            }
            Doing::Read(text) => {
                let at = self.here()?;
                self.push(at, Action::Read(pace(&text)?));
                Ok(())
            }
            Doing::Join(name) => {
                self.current = self.device(&name)?;
                ensure!(
                    !self.joined.get(self.current).copied().unwrap_or(false),
                    "device {name:?} is there already"
                );
                self.join(self.current);
                Ok(())
            }
            Doing::Leave(which) => self.gone(&which, Action::Leave).map(drop),
            Doing::Cut(which) => {
                let at = self.gone(&which, Action::Cut)?;
                if let Some(away) = step.away {
                    self.think = away.0.into();
                    self.join(at);
                }
                Ok(())
            }
            Doing::Repeat(times, steps) => self.repeat(times, &steps),
        }
    }

    fn say(&mut self, step: &StepPart, text: String) -> anyhow::Result<()> {
        self.said += 1;
        let name = step.id.clone().unwrap_or_else(|| format!("m_{}", self.said));
        let made = if step.id.is_some() {
            format!("{name}{}", self.round)
        } else {
            name.clone()
        };
        let id = MessageId::try_from(made).context("id")?;
        let again = self.messages.values().any(|known| *known == id);
        self.messages.insert(name, id.clone());
        let mut send = Send::new(SessionId::from_trusted(SESSION.to_owned()), id, text);
        send.mode = step.mode.unwrap_or_default();
        send.run = RunOptions {
            model: step.model.clone(),
            temperature: step.temperature,
            max_tokens: step.max_tokens,
            system_prompt: step.system_prompt.clone(),
            toolkits: step.toolkits.clone(),
            tool_policy: step.tool_policy,
        };
        let runs = match send.mode {
            SendMode::Queue | SendMode::Interrupt => true,
            SendMode::Steer | SendMode::Reject => self.runs == self.over,
        };
        // The same id again is the same message: a duplicate has no run of its own.
        self.runs += usize::from(runs && !again);
        self.command(send)
    }

    fn known(&self, name: &str) -> anyhow::Result<MessageId> {
        let id = self.messages.get(name).cloned();
        id.with_context(|| format!("no message {name:?} was said before: ids are given with say, or m_1, m_2, …"))
    }

    pub(super) fn finish(mut self, name: &str) -> anyhow::Result<Script> {
        if self.cause != Cause::Previous || self.think != Think::default() {
            let at = self.here()?;
            if self.cause != Cause::Previous || self.think != Think::default() {
                self.push(at, Action::Rest);
            }
        }
        Ok(Script {
            name: name.to_owned(),
            devices: self.devices,
            steps: self.steps,
            ..Script::default()
        })
    }
}

fn settings(table: toml::Table) -> anyhow::Result<SessionSettings> {
    if let Some(key) = table.keys().find(|key| !SETTINGS.contains(&key.as_str())) {
        anyhow::bail!("settings.{key} is not known: one of {}", SETTINGS.join(", "));
    }
    toml::Value::Table(table).try_into().context("settings")
}

fn client(text: &str) -> anyhow::Result<ClientInfo> {
    let (name, version) = text
        .split_once(' ')
        .context("client: a name and a version, such as \"app 1.0\"")?;
    let (name, version) = (DeviceName::try_from(name)?, DeviceName::try_from(version)?);
    Ok(ClientInfo::new(name, version))
}
