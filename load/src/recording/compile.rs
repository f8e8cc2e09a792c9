//! From the lines of a recording to what each person reacted to.
//!
//! A command's cause is the last milestone that its device had shown before (a device that showed nothing: that the
//! session had reached), unless the person had already acted on it; the rest of the time they thought.

use std::collections::HashMap;
use std::time::Duration;

use kronos_protocol::client::{AttachTarget, Command, SessionSettings, Settings};
use kronos_protocol::ids::{DeviceName, SessionId};
use kronos_protocol::recording::{
    Act, After, Line, LinkState, RecordedAct, RecordedCommand, RecordedEvent, RecordedLink,
};
use kronos_protocol::{Event, Outcome, Seq};

use super::shape::Told;
use crate::script::{Action, Cause, Device, Script, Step, Think};

/// What one device showed, or the session as a whole.
#[derive(Debug, Default)]
struct View {
    /// The last milestone: the number of its line, its time, and what it was.
    last: Option<(usize, u64, Cause)>,
    head: Seq,
    /// Deltas of each run's texts so far.
    deltas: HashMap<usize, u64>,
}

/// A device on the way.
#[derive(Debug, Default)]
struct State {
    joined: bool,
    view: View,
    /// The number of the line of its last step.
    acted: Option<usize>,
}

/// When and why a line was, as far as it says so itself.
#[derive(Debug, Clone, Copy)]
struct When {
    at_ms: u64,
    after: Option<After>,
    think_ms: Option<u64>,
    think_to_ms: Option<u64>,
}

/// The script so far.
#[derive(Debug)]
pub(super) struct Compiler {
    session: SessionId,
    script: Script,
    states: Vec<State>,
    told: Told,
    /// What the session had reached, whoever saw it.
    all: View,
    /// Lines so far.
    line: usize,
    /// The time of the last step.
    acted_ms: Option<u64>,
}

impl Compiler {
    pub(super) fn new(name: &str, session: SessionId) -> Self {
        Self {
            session,
            script: Script {
                name: name.to_owned(),
                ..Script::default()
            },
            states: Vec::new(),
            told: Told::default(),
            all: View::default(),
            line: 0,
            acted_ms: None,
        }
    }

    /// Takes the next line.
    pub(super) fn line(&mut self, line: Line) -> anyhow::Result<()> {
        self.line += 1;
        match line {
            Line::Event(event) => self.event(&event),
            Line::Command(command) => self.command(&command),
            Line::Link(link) => self.link(&link),
            Line::Act(act) => self.act(&act)?,
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Script {
        let (names, shape) = self.told.finish();
        Script {
            names,
            shape,
            ..self.script
        }
    }

    fn device(&mut self, name: &DeviceName) -> usize {
        if let Some(at) = self.script.devices.iter().position(|device| device.name == *name) {
            return at;
        }
        self.script.devices.push(Device {
            name: name.clone(),
            client: None,
            codec: None,
            bytes_per_second: None,
        });
        self.states.push(State::default());
        self.states.len() - 1
    }

    fn event(&mut self, recorded: &RecordedEvent) {
        self.told.event(recorded);
        let milestone = self.all.event(recorded, &self.told);
        self.all.reach(self.line, recorded.at_ms, milestone);
        let Some(name) = &recorded.device else { return };
        let at = self.device(name);
        self.join(at, When::of(recorded.at_ms));
        if let Some(state) = self.states.get_mut(at) {
            let milestone = state.view.event(recorded, &self.told);
            state.view.reach(self.line, recorded.at_ms, milestone);
        }
    }

    fn command(&mut self, recorded: &RecordedCommand) {
        let at = self.device(&recorded.device);
        let when = When {
            at_ms: recorded.at_ms,
            after: recorded.after,
            think_ms: recorded.think_ms,
            think_to_ms: recorded.think_to_ms,
        };
        let command = &recorded.frame().command;
        match command {
            Command::Hello(hello) => {
                if let Some(device) = self.script.devices.get_mut(at) {
                    device.client = device.client.take().or_else(|| hello.client.clone());
                    device.codec = device.codec.or(hello.codec);
                }
            }
            Command::Attach(attach) => match &attach.session {
                AttachTarget::New { title, settings } => {
                    let first = self.script.steps.is_empty();
                    self.join(at, when);
                    if first {
                        self.settings(at, when, title.clone(), settings.clone());
                    }
                }
                AttachTarget::Existing(session) if *session == self.session => self.join(at, when),
                AttachTarget::Existing(_) | AttachTarget::Feed => {}
            },
            Command::Detach(detach) if detach.session == self.session => self.part(at, when, Action::Leave),
            Command::Detach(_) | Command::TokenUpdate(_) | Command::Ping => {}
            command if *session_of(command) != self.session => {}
            command => {
                self.join(at, when.unexplained());
                self.push(at, when, Action::Command(Box::new(command.clone())));
            }
        }
    }

    /// The first to join makes the session: what it was made with is set then.
    fn settings(&mut self, at: usize, when: When, title: Option<String>, settings: Option<SessionSettings>) {
        let settings = SessionSettings {
            title: title.clone(),
            ..settings.unwrap_or_default()
        };
        if settings != SessionSettings::default() {
            let command = Settings::new(self.session.clone(), settings);
            self.push(at, When::of(when.at_ms), Action::Command(Box::new(command.into())));
        }
    }

    fn link(&mut self, link: &RecordedLink) {
        let at = self.device(&link.device);
        let when = When {
            at_ms: link.at_ms,
            after: link.after,
            think_ms: link.think_ms,
            think_to_ms: link.think_to_ms,
        };
        match link.link {
            LinkState::Open => {
                if let Some(device) = self.script.devices.get_mut(at) {
                    device.client = device.client.take().or_else(|| link.client.clone());
                    device.codec = device.codec.or(link.codec);
                    device.bytes_per_second = device.bytes_per_second.or(link.read_bytes_per_second);
                }
                self.join(at, when);
            }
            LinkState::Closed => self.part(at, when, Action::Leave),
            LinkState::Cut => self.part(at, when, Action::Cut),
        }
    }

    fn act(&mut self, act: &RecordedAct) -> anyhow::Result<()> {
        let at = self.device(&act.device);
        let when = When {
            at_ms: act.at_ms,
            after: act.after,
            think_ms: act.think_ms,
            think_to_ms: act.think_to_ms,
        };
        let action = match act.act {
            Act::Approve => Action::Answer { approved: true },
            Act::Reject => Action::Answer { approved: false },
            Act::Rest => Action::Rest,
            Act::Read => {
                anyhow::ensure!(
                    act.read_bytes_per_second != Some(0),
                    "read_bytes_per_second: at least 1"
                );
                Action::Read(act.read_bytes_per_second)
            }
        };
        self.join(at, when.unexplained());
        self.push(at, when, action);
        Ok(())
    }

    fn join(&mut self, at: usize, when: When) {
        if let Some(state) = self.states.get_mut(at).filter(|state| !state.joined) {
            state.joined = true;
            self.push(at, when, Action::Join);
        }
    }

    fn part(&mut self, at: usize, when: When, action: Action) {
        if let Some(state) = self.states.get_mut(at).filter(|state| state.joined) {
            state.joined = false;
            self.push(at, when, action);
        }
    }

    fn push(&mut self, at: usize, when: When, action: Action) {
        let Some(state) = self.states.get_mut(at) else { return };
        let view = if state.view.head > 0 { &state.view } else { &self.all };
        let news = view
            .last
            .filter(|(line, ..)| state.acted.is_none_or(|acted| acted < *line));
        let (cause, think) = match when.after {
            Some(after) => (after.into(), Think::default()),
            None => {
                let (reached, cause) = news.map_or((0, Cause::Previous), |(_, at_ms, cause)| (at_ms, cause));
                // The first step of all is where the time begins.
                let since = self.acted_ms.unwrap_or(when.at_ms).max(reached);
                (cause, Duration::from_millis(when.at_ms.saturating_sub(since)).into())
            }
        };
        state.acted = Some(self.line);
        self.acted_ms = Some(when.at_ms);
        self.script.steps.push(Step {
            device: at,
            cause,
            think: when.think().unwrap_or(think),
            action,
        });
    }
}

impl When {
    fn of(at_ms: u64) -> Self {
        Self {
            at_ms,
            after: None,
            think_ms: None,
            think_to_ms: None,
        }
    }

    /// The same time, for a join that the line does not speak of.
    fn unexplained(self) -> Self {
        Self::of(self.at_ms)
    }

    fn think(self) -> Option<Think> {
        let from = Duration::from_millis(self.think_ms?);
        let to = self.think_to_ms.map_or(from, Duration::from_millis);
        Some(Think { from, to: to.max(from) })
    }
}

impl View {
    /// Takes an event; returns the milestone that it is.
    fn event(&mut self, recorded: &RecordedEvent, told: &Told) -> Option<Cause> {
        let first = recorded.first.unwrap_or(recorded.seq).max(self.head.saturating_add(1));
        if recorded.seq < first {
            return None;
        }
        self.head = recorded.seq;
        let run = told.run_of(recorded)?;
        match &recorded.event {
            Event::RunStarted(_) => Some(Cause::RunStarted(run)),
            Event::TextMessageContent(_) => {
                let count = self.deltas.entry(run).or_default();
                *count += recorded.seq - first + 1;
                Some(Cause::Deltas { run, count: *count })
            }
            Event::RunFinished(finished) => match finished.outcome {
                Some(Outcome::Interrupt { .. }) => Some(Cause::Asked(told.asked())),
                None | Some(Outcome::Success { .. } | Outcome::Cancelled) => Some(Cause::RunEnded(run)),
            },
            Event::RunError(_) => Some(Cause::RunEnded(run)),
            _ => None,
        }
    }

    fn reach(&mut self, line: usize, at_ms: u64, milestone: Option<Cause>) {
        if let Some(cause) = milestone {
            self.last = Some((line, at_ms, cause));
        }
    }
}

impl From<After> for Cause {
    fn from(after: After) -> Self {
        let index = |value: u32| usize::try_from(value).unwrap_or(usize::MAX);
        match after {
            After::Previous => Self::Previous,
            After::Replied => Self::Replied,
            After::Storm => Self::Storm,
            After::RunStarted(run) => Self::RunStarted(index(run)),
            After::Deltas { run, count } => Self::Deltas { run: index(run), count },
            After::RunEnded(run) => Self::RunEnded(index(run)),
            After::Asked(count) => Self::Asked(index(count)),
        }
    }
}

/// Returns the session that a command names; hello, attach, tokens and pings do not get here.
fn session_of(command: &Command) -> &SessionId {
    match command {
        Command::Detach(command) => &command.session,
        Command::Send(command) => &command.session,
        Command::Unqueue(command) => &command.session,
        Command::Cancel(command) => &command.session,
        Command::Resume(command) => &command.session,
        Command::Edit(command) => &command.session,
        Command::Regenerate(command) => &command.session,
        Command::Settings(command) => &command.session,
        Command::Typing(command) => &command.session,
        Command::Hello(_) | Command::Attach(_) | Command::TokenUpdate(_) | Command::Ping => unreachable!("no session"),
    }
}
