//! Recordings of a session: files `*.kronosrec` of JSON objects, one a line, to be kept and replayed.
//!
//! The first line is a [`Header`], every other one a [`Line`]: what a device sent, or an entry of the log. Times are
//! milliseconds since the start of the recording and never go back. Lines of kinds and fields that a reader does not know
//! are to be skipped; a meaning that changes gets a new [`VERSION`].
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

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::client::{self, ClientFrame, Command, FrameError};
use crate::codec::Codec;
use crate::entry::LogEntry;
use crate::event::Event;
use crate::ids::{DeviceName, EpochId, RunId, SessionId};
use crate::position::Seq;
use crate::wire::macros::wire_struct;
use crate::wire::{Fields, tree};

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

/// What a device sent. Tokens are left out: a recording is no place for them.
#[derive(Debug, Clone, PartialEq)]
pub struct RecordedCommand {
    /// When, in milliseconds since the start.
    pub at_ms: u64,
    /// The device; who replays opens a connection for each.
    pub device: DeviceName,
    /// The frame as it was sent.
    frame: ClientFrame,
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
        Some(Self { at_ms, device, frame })
    }

    /// Returns the frame as it was sent, without tokens.
    #[must_use]
    pub fn frame(&self) -> &ClientFrame {
        &self.frame
    }
}

impl Serialize for RecordedCommand {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("at_ms", &self.at_ms)?;
        map.serialize_entry("device", &self.device)?;
        map.serialize_entry("command", &self.frame)?;
        map.end()
    }
}

/// A line after the first: it has `command` or `event`.
#[derive(Debug, Clone, PartialEq)]
pub enum Line {
    /// What a device sent.
    Command(RecordedCommand),
    /// What happened.
    Event(RecordedEvent),
}

impl Line {
    /// Returns when it was, in milliseconds since the start.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        match self {
            Self::Command(command) => command.at_ms,
            Self::Event(event) => event.at_ms,
        }
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Command(command) => command.serialize(serializer),
            Self::Event(event) => {
                let mut map = serializer.serialize_map(Some(event.count()))?;
                event.write(&mut map)?;
                map.end()
            }
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
    /// It has neither a command nor an event: to be skipped.
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
        let Some(command) = map.remove("command") else {
            if !map.contains_key("event") {
                return Err(RecordingError::Unknown);
            }
            return tree::read(Value::Object(map)).map(Self::Event).map_err(shape);
        };
        let frame = client::from_tree(command).map_err(RecordingError::Command)?;
        let at_ms = map.get("at_ms").and_then(Value::as_u64);
        let at_ms = at_ms.ok_or_else(|| shape("at_ms: expected a number of milliseconds"))?;
        let device = map.get("device").and_then(Value::as_str).unwrap_or_default();
        let device = DeviceName::try_from(device).map_err(|error| shape(format!("device: {error}")))?;
        RecordedCommand::new(at_ms, device, frame)
            .map(Self::Command)
            .ok_or(RecordingError::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use crate::client::{Hello, Send, TokenUpdate};
    use crate::event::TextMessageContent;
    use crate::ids::MessageId;

    use super::*;

    fn device() -> DeviceName {
        "1".parse().unwrap()
    }

    fn frame(command: impl Into<Command>) -> ClientFrame {
        ClientFrame::new("r".parse().unwrap(), command)
    }

    fn back(line: &Line) -> Line {
        let text = serde_json::to_string(line).unwrap();
        assert!(!text.contains('\n'));
        text.parse().unwrap()
    }

    #[test]
    fn a_header_comes_back_as_it_went() {
        let session: SessionId = "0192".parse().unwrap();
        let mut header = Header::new(
            VERSION,
            session,
            "e_1".parse::<EpochId>().unwrap(),
            1_790_000_000_000_i64,
        );
        header.title = Some("a \"title\"\n".to_owned());
        let text = serde_json::to_string(&header).unwrap();
        assert!(text.starts_with(r#"{"kronosrec":1,"#), "{text}");
        assert_eq!(text.parse::<Header>().unwrap(), header);
    }

    #[test]
    fn lines_come_back_as_they_went() {
        let message: MessageId = "m_1".parse().unwrap();
        let session: SessionId = "0192".parse().unwrap();
        let send = Send::new(
            session,
            message.clone(),
            crate::UserContent::Text("hi\n\u{2028}".to_owned()),
        );
        let command = RecordedCommand::new(7, device(), frame(send)).unwrap();
        assert_eq!(back(&Line::Command(command.clone())), Line::Command(command));
        let mut entry = LogEntry::new(
            9_u64,
            Event::from(TextMessageContent::new(message, "Grüezi".to_owned())),
        );
        entry.first = Some(8);
        entry.run = Some("r_1".parse().unwrap());
        let event = Line::Event(RecordedEvent::of_log(11, entry));
        assert_eq!(back(&event), event);
        assert_eq!(event.at_ms(), 11);
    }

    #[test]
    fn no_token_is_recorded() {
        let hello = Hello {
            token: Some("secret".to_owned()),
            ..Hello::default()
        };
        let command = RecordedCommand::new(0, device(), frame(hello)).unwrap();
        assert!(!serde_json::to_string(&command).unwrap().contains("secret"));
        let token = frame(TokenUpdate::new("secret".to_owned()));
        assert_eq!(RecordedCommand::new(0, device(), token), None);
        let line = r#"{"at_ms":0,"device":"1","command":{"op":"hello","ref":"1","token":"secret"}}"#;
        let Line::Command(read) = line.parse().unwrap() else {
            panic!("a command");
        };
        assert_eq!(
            read,
            RecordedCommand::new(0, device(), frame_of("1", Hello::default())).unwrap()
        );
    }

    fn frame_of(reference: &str, command: impl Into<Command>) -> ClientFrame {
        ClientFrame::new(reference.parse().unwrap(), command)
    }

    #[test]
    fn what_is_no_recording_is_refused() {
        let header = |text: &str| text.parse::<Header>().unwrap_err();
        assert_eq!(
            header(r#"{"kronosrec":2,"session":"s","epoch":"e","started_at_ms":1}"#),
            RecordingError::Newer { found: 2 }
        );
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"kronosrec":0,"session":"s","epoch":"e","started_at_ms":1}"#,
        ] {
            assert!(matches!(header(bad), RecordingError::Shape(_)), "{bad}");
        }
        let line = |text: &str| text.parse::<Line>().unwrap_err();
        assert_eq!(line(r#"{"at_ms":1,"note":"later"}"#), RecordingError::Unknown);
        assert!(matches!(
            line(r#"{"at_ms":1,"device":"1","command":{"op":"dance","ref":"1"}}"#),
            RecordingError::Command(_)
        ));
        for bad in [
            "",
            "{",
            r#"{"at_ms":-1,"seq":1,"event":{}}"#,
            r#"{"event":null,"at_ms":1,"seq":1}"#,
        ] {
            assert!(matches!(line(bad), RecordingError::Shape(_)), "{bad}");
        }
    }
}
