//! Recordings of a session: files `*.kronosrec` of JSON objects, one a line, to be kept and replayed.
//!
//! The first line is a [`Header`], every other one a [`Line`]: what a device sent, what became of its connection, or an
//! entry of the log. Times are milliseconds since the start of the recording and never go back. Lines of kinds and fields
//! that a reader does not know are to be skipped; a meaning that changes gets a new [`VERSION`].
//!
//! A recording may be written by hand: then a line says itself what it reacts to ([`After`]), and [`RecordedAct`] stands
//! for what has no command of its own.
//!
//! ```
//! use kronos_protocol::recording::{Header, Line};
//!
//! let header: Header = r#"{"kronosrec":1,"session":"0192","epoch":"e_1","started_at_ms":1790000000000}"#.parse()?;
//! assert_eq!(header.session.as_str(), "0192");
//! let line: Line = r#"{"at_ms":0,"device":"1","command":{"op":"cancel","ref":"1","session":"0192"}}"#.parse()?;
//! assert_eq!(line.at_ms(), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::str::FromStr;

pub use after::After;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::client::{self, ClientFrame, ClientInfo, Command, FrameError};
use crate::codec::Codec;
use crate::entry::LogEntry;
use crate::event::Event;
use crate::ids::{DeviceName, EpochId, RunId, SessionId};
use crate::position::Seq;
use crate::wire::macros::{wire_struct, words};
use crate::wire::{Fields, tree};

mod after;

/// The version of the format that this crate writes and reads.
pub const VERSION: u32 = 1;

wire_struct! {
    /// The first line: what was recorded.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Header {
        required {
            /// The version of the format.
            kronosrec: u32 = "kronosrec",
            /// The session.
            session: SessionId = "session",
            /// The history that the positions belong to.
            epoch: EpochId = "epoch",
            /// When the recording starts, in milliseconds since the Unix epoch.
            started_at_ms: i64 = "started_at_ms",
        }
        optional {
            /// The session's title.
            title: String = "title",
            /// The program that recorded, such as `kronos 0.1.0`.
            recorder: String = "recorder",
        }
    }
}

wire_struct! {
    /// An entry of the log, as a device saw it or as it is stored.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RecordedEvent {
        required {
            /// When, in milliseconds since the start.
            at_ms: u64 = "at_ms",
            /// Its position; of merged deltas that of the last.
            seq: Seq = "seq",
            /// What happened.
            event: Event = "event",
        }
        optional {
            /// The device that saw it; absent: it is from the log itself.
            device: DeviceName = "device",
            /// Of merged deltas the position of the first.
            first: Seq = "first",
            /// The run it belongs to.
            run: RunId = "run",
        }
    }
}

impl RecordedEvent {
    /// Returns an entry of the log itself.
    #[must_use]
    pub fn of_log(at_ms: u64, entry: LogEntry) -> Self {
        let LogEntry { seq, event, first, run } = entry;
        Self {
            first,
            run,
            ..Self::new(at_ms, seq, event)
        }
    }
}

words! {
    /// What became of a connection.
    pub enum LinkState: "a state of a connection" {
        /// The websocket was opened.
        Open = "open",
        /// It was closed properly, by either side.
        Closed = "closed",
        /// It broke, as a lost network does it.
        Cut = "cut",
    }
}

wire_struct! {
    /// What became of the connection of a device.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RecordedLink {
        required {
            /// When, in milliseconds since the start.
            at_ms: u64 = "at_ms",
            /// The device.
            device: DeviceName = "device",
            /// What became of it.
            link: LinkState = "link",
        }
        optional {
            /// Of a closed one the close code.
            code: u16 = "code",
            /// Of an open one the program, where no `hello` says it.
            client: ClientInfo = "client",
            /// Of an open one the codec that was agreed.
            codec: Codec = "codec",
            /// Of an open one: the device reads no faster.
            read_bytes_per_second: u32 = "read_bytes_per_second",
            /// What it reacts to; absent: to be found from what came before.
            after: After = "after",
            /// How long the person thought then.
            think_ms: u64 = "think_ms",
            /// The longest thinking, where it is drawn between `think_ms` and this.
            think_to_ms: u64 = "think_to_ms",
        }
    }
}

words! {
    /// What a person does that has no command of its own, in a recording written by hand.
    pub enum Act: "an act" {
        /// Says yes to every open question.
        Approve = "approve",
        /// Says no to every open question.
        Reject = "reject",
        /// Nothing: lets time pass.
        Rest = "rest",
        /// From now on reads at another pace.
        Read = "read",
    }
}

wire_struct! {
    /// What a person does at a device that has no command of its own.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct RecordedAct {
        required {
            /// When, in milliseconds since the start.
            at_ms: u64 = "at_ms",
            /// The device.
            device: DeviceName = "device",
            /// What is done.
            act: Act = "act",
        }
        optional {
            /// Of `read` the pace; absent: as fast as it can.
            read_bytes_per_second: u32 = "read_bytes_per_second",
            /// What it reacts to; absent: to be found from what came before.
            after: After = "after",
            /// How long the person thought then.
            think_ms: u64 = "think_ms",
            /// The longest thinking, where it is drawn between `think_ms` and this.
            think_to_ms: u64 = "think_to_ms",
        }
    }
}

/// What a device sent. Tokens are left out: a recording is no place for them.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedCommand {
    /// When, in milliseconds since the start.
    pub at_ms: u64,
    /// The device; who replays opens a connection for each.
    pub device: DeviceName,
    /// What it reacts to; absent: to be found from what came before.
    pub after: Option<After>,
    /// How long the person thought then; absent: to be found likewise.
    pub think_ms: Option<u64>,
    /// The longest thinking, where it is drawn between `think_ms` and this.
    pub think_to_ms: Option<u64>,
    /// The frame as it was sent.
    frame: ClientFrame,
}

wire_struct! {
    /// What stands beside the command of a line.
    struct Beside {
        required {
            /// When.
            at_ms: u64 = "at_ms",
            /// The device.
            device: DeviceName = "device",
        }
        optional {
            /// What it reacts to.
            after: After = "after",
            /// How long the person thought.
            think_ms: u64 = "think_ms",
            /// The longest thinking.
            think_to_ms: u64 = "think_to_ms",
        }
    }
}

impl RecordedCommand {
    /// Returns a command; `None` for one that only brings a token.
    #[must_use]
    pub fn new(at_ms: u64, device: DeviceName, mut frame: ClientFrame) -> Option<Self> {
        match &mut frame.command {
            Command::TokenUpdate(_) => return None,
            Command::Hello(hello) => hello.token = None,
            Command::Attach(_)
            | Command::Detach(_)
            | Command::Send(_)
            | Command::Unqueue(_)
            | Command::Cancel(_)
            | Command::Resume(_)
            | Command::Edit(_)
            | Command::Regenerate(_)
            | Command::Settings(_)
            | Command::Typing(_)
            | Command::Ping => {}
        }
        Some(Self {
            at_ms,
            device,
            after: None,
            think_ms: None,
            think_to_ms: None,
            frame,
        })
    }

    /// Returns the frame as it was sent, without tokens.
    #[must_use]
    pub fn frame(&self) -> &ClientFrame {
        &self.frame
    }

    fn read(beside: Beside, frame: ClientFrame) -> Option<Self> {
        let Beside {
            at_ms,
            device,
            after,
            think_ms,
            think_to_ms,
        } = beside;
        Some(Self {
            after,
            think_ms,
            think_to_ms,
            ..Self::new(at_ms, device, frame)?
        })
    }
}

impl Serialize for RecordedCommand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let beside = Beside {
            after: self.after,
            think_ms: self.think_ms,
            think_to_ms: self.think_to_ms,
            ..Beside::new(self.at_ms, self.device.clone())
        };
        let mut map = serializer.serialize_map(Some(beside.count().saturating_add(1)))?;
        beside.write(&mut map)?;
        map.serialize_entry("command", &self.frame)?;
        map.end()
    }
}

/// A line after the first: it has `command`, `event`, `link` or `act`.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// What a device sent.
    Command(RecordedCommand),
    /// What happened.
    Event(RecordedEvent),
    /// What became of a connection.
    Link(RecordedLink),
    /// What a person does that has no command of its own.
    Act(RecordedAct),
}

impl Line {
    /// Returns when it was, in milliseconds since the start.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        match self {
            Self::Command(command) => command.at_ms,
            Self::Event(event) => event.at_ms,
            Self::Link(link) => link.at_ms,
            Self::Act(act) => act.at_ms,
        }
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Command(command) => command.serialize(serializer),
            Self::Event(event) => event.serialize(serializer),
            Self::Link(link) => link.serialize(serializer),
            Self::Act(act) => act.serialize(serializer),
        }
    }
}

/// Why a line is not one of a recording. Does not repeat it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RecordingError {
    /// It is not a JSON object of the expected shape.
    #[error("not a line of a recording: {0}")]
    Shape(String),
    /// It is of a newer version than this crate reads.
    #[error("the recording has version {found}, this version of kronos reads up to {VERSION}")]
    Newer {
        /// The version found.
        found: u32,
    },
    /// It is of a kind that this crate does not know: to be skipped.
    #[error("a line of a kind that is not known")]
    Unknown,
    /// Its command is not one.
    #[error("the command of a line cannot be read")]
    Command(#[source] FrameError),
}

fn shape(error: impl std::fmt::Display) -> RecordingError {
    RecordingError::Shape(error.to_string())
}

fn object(line: &str) -> Result<serde_json::Map<String, Value>, RecordingError> {
    match Codec::Json.decode_value(line.as_bytes()).map_err(shape)? {
        Value::Object(map) => Ok(map),
        _ => Err(shape("expected an object")),
    }
}

impl FromStr for Header {
    type Err = RecordingError;

    fn from_str(line: &str) -> Result<Self, RecordingError> {
        let header: Self = tree::read(Value::Object(object(line)?)).map_err(shape)?;
        match header.kronosrec {
            1..=VERSION => Ok(header),
            0 => Err(shape("kronosrec: from 1")),
            found => Err(RecordingError::Newer { found }),
        }
    }
}

impl FromStr for Line {
    type Err = RecordingError;

    fn from_str(line: &str) -> Result<Self, RecordingError> {
        let mut map = object(line)?;
        if let Some(command) = map.remove("command") {
            let frame = client::from_tree(command).map_err(RecordingError::Command)?;
            let beside = tree::read(Value::Object(map)).map_err(shape)?;
            let command = RecordedCommand::read(beside, frame);
            return command.map(Self::Command).ok_or(RecordingError::Unknown);
        }
        if map.contains_key("event") {
            return tree::read(Value::Object(map)).map(Self::Event).map_err(shape);
        }
        if knows::<LinkState>(&map, "link") {
            return tree::read(Value::Object(map)).map(Self::Link).map_err(shape);
        }
        if knows::<Act>(&map, "act") {
            return tree::read(Value::Object(map)).map(Self::Act).map_err(shape);
        }
        Err(RecordingError::Unknown)
    }
}

/// Whether a line is of the kind that this field makes, with a word that is known.
fn knows<T: FromStr>(map: &serde_json::Map<String, Value>, field: &str) -> bool {
    let word = map.get(field).and_then(Value::as_str);
    word.is_some_and(|word| word.parse::<T>().is_ok())
}

#[cfg(test)]
mod tests;
