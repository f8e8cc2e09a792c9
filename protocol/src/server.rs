//! What the server sends: replies, events, and notices that are never stored.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use crate::client::{ClientInfo, FrameError};
use crate::entry::LogEntry;
use crate::error::ErrorCode;
use crate::ids::{ConnectionId, EpochId, Ref, SessionId};
use crate::position::Seq;
use crate::wire::Fields;
use crate::wire::macros::{wire_struct, words};

#[cfg(feature = "schema")]
mod described;
mod read;
mod reply;

pub use reply::{
    Attached, Cancelled, Limits, OkBody, OkKind, Pong, Sent, ServerInfo, SettingsReply, TokenAccepted, UserInfo,
    Welcome,
};

/// A frame from the server: an object with `op` and the fields beside it.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerFrame {
    /// The command was done, or at least accepted.
    Ok {
        /// The command's `ref`.
        reference: Ref,
        /// What the command gives, beside `ref`.
        body: OkBody,
    },
    /// The command was refused.
    Error {
        /// The command's `ref`; null on the wire when it had none that could be read.
        reference: Option<Ref>,
        /// Why, beside `ref`.
        error: WireError,
    },
    /// Events of a session, in order.
    Events(Events),
    /// The attached client has everything up to here; what follows is live.
    CaughtUp(CaughtUp),
    /// Who else is there; no seq, never stored.
    Presence(Presence),
    /// The server goes away: finish reading, then come back.
    Goaway(Goaway),
}

words! {
    /// The name of a server frame; a label for metrics.
    pub enum ServerOp: "an op" {
        /// The command was done, or at least accepted.
        Ok = "ok",
        /// The command was refused.
        Error = "error",
        /// Events of a session, in order.
        Events = "events",
        /// The attached client has everything up to here; what follows is live.
        CaughtUp = "caught_up",
        /// Who else is there; no seq, never stored.
        Presence = "presence",
        /// The server goes away: finish reading, then come back.
        Goaway = "goaway",
    }
}

wire_struct! {
    /// Why a command was refused.
    #[derive(Debug, Clone, PartialEq)]
    pub struct WireError {
        required {
            /// For programs.
            code: ErrorCode = "code",
            /// For people.
            message: String = "message",
        }
        defaulted {
            /// For programs: an object, empty when there is nothing to say.
            details: Value = "details" or Value::Object(Map::new()),
            /// Whether the same command may succeed later.
            retry: bool = "retry" or false,
        }
        optional {
            /// Milliseconds to wait before.
            after_ms: u64 = "after_ms",
        }
    }
}

impl WireError {
    /// Returns an error whose `retry` is that of its code.
    #[must_use]
    pub fn of(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            retry: code.retry(),
            ..Self::new(code, message)
        }
    }
}

impl From<FrameError> for WireError {
    fn from(error: FrameError) -> Self {
        Self {
            details: error.details,
            ..Self::of(error.code, error.message)
        }
    }
}

wire_struct! {
    /// `events`: one or more entries of a session's log. Without `op`: send it as a [`ServerFrame`].
    #[derive(Debug, Clone, PartialEq)]
    pub struct Events {
        required {
            /// The session.
            session: SessionId = "session",
            /// The history the positions belong to.
            epoch: EpochId = "epoch",
            /// The entries, in order.
            events: Vec<LogEntry> = "events",
        }
        defaulted {
            /// Whether the entries stand for the history up to their seq, instead of being all of it.
            snapshot: bool = "snapshot" or false,
        }
    }
}

/// `events`, borrowed: writes the same as [`Events`] without owning or cloning the entries.
///
/// `E` is anything that writes as a [`LogEntry`]: itself, a reference, an `Arc`.
#[derive(Debug, Clone, Copy)]
pub struct EventsRef<'a, E = LogEntry> {
    /// The session.
    pub session: &'a SessionId,
    /// The history the positions belong to.
    pub epoch: &'a EpochId,
    /// Whether the entries stand for the history up to their seq.
    pub snapshot: bool,
    /// The entries, in order.
    pub events: &'a [E],
}

impl<E: Serialize> Serialize for EventsRef<'_, E> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(4 + usize::from(self.snapshot)))?;
        map.serialize_entry("op", &ServerOp::Events)?;
        map.serialize_entry("session", self.session)?;
        map.serialize_entry("epoch", self.epoch)?;
        if self.snapshot {
            map.serialize_entry("snapshot", &true)?;
        }
        map.serialize_entry("events", self.events)?;
        map.end()
    }
}

wire_struct! {
    /// `caught_up`: the attached client has everything up to here. Without `op`: send it as a [`ServerFrame`].
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct CaughtUp {
        required {
            /// The session.
            session: SessionId = "session",
            /// The position.
            seq: Seq = "seq",
        }
    }
}

wire_struct! {
    /// `presence`: who else follows a session. Without `op`: send it as a [`ServerFrame`].
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Presence {
        required {
            /// The session.
            session: SessionId = "session",
            /// Everybody, the receiver included.
            devices: Vec<Device> = "devices",
        }
    }
}

wire_struct! {
    /// One connection that follows a session.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Device {
        required {
            /// The connection.
            connection: ConnectionId = "connection",
        }
        defaulted {
            /// Whether somebody types there.
            typing: bool = "typing" or false,
        }
        optional {
            /// The client program, where it said so.
            client: ClientInfo = "client",
        }
    }
}

wire_struct! {
    /// `goaway`: the server goes away. Without `op`: send it as a [`ServerFrame`].
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Goaway {
        required {
            /// Why, for programs and people.
            reason: String = "reason",
            /// Milliseconds to wait before connecting again.
            reconnect_after_ms: u64 = "reconnect_after_ms",
        }
    }
}

macro_rules! frame_of {
    ($($name:ident),*) => {$(
        impl From<$name> for ServerFrame {
            fn from(frame: $name) -> Self {
                Self::$name(frame)
            }
        }
    )*};
}

frame_of!(Events, CaughtUp, Presence, Goaway);

impl ServerFrame {
    /// Returns a reply that the command was done.
    #[must_use]
    pub fn ok(reference: Ref, body: impl Into<OkBody>) -> Self {
        Self::Ok {
            reference,
            body: body.into(),
        }
    }

    /// Returns a reply that the command was refused.
    #[must_use]
    pub fn error(reference: Option<Ref>, error: WireError) -> Self {
        Self::Error { reference, error }
    }

    /// Returns its name.
    #[must_use]
    pub const fn op(&self) -> ServerOp {
        match self {
            Self::Ok { .. } => ServerOp::Ok,
            Self::Error { .. } => ServerOp::Error,
            Self::Events(_) => ServerOp::Events,
            Self::CaughtUp(_) => ServerOp::CaughtUp,
            Self::Presence(_) => ServerOp::Presence,
            Self::Goaway(_) => ServerOp::Goaway,
        }
    }
}

/// Writes `op`, `ref` and the fields beside them.
fn write_reply<S, R, F>(op: ServerOp, reference: &R, fields: &F, serializer: S) -> Result<S::Ok, S::Error>
where
    S: Serializer,
    R: Serialize,
    F: Fields,
{
    let mut map = serializer.serialize_map(Some(fields.count().saturating_add(2)))?;
    map.serialize_entry("op", &op)?;
    map.serialize_entry("ref", reference)?;
    fields.write(&mut map)?;
    map.end()
}

impl Serialize for ServerFrame {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use crate::wire::write_tagged;
        let op = self.op();
        match self {
            Self::Ok { reference, body } => write_reply(op, reference, body, serializer),
            Self::Error { reference, error } => write_reply(op, reference, error, serializer),
            Self::Events(Events {
                session,
                epoch,
                events,
                snapshot,
            }) => EventsRef {
                session,
                epoch,
                snapshot: *snapshot,
                events,
            }
            .serialize(serializer),
            Self::CaughtUp(frame) => write_tagged("op", op.as_str(), frame, serializer),
            Self::Presence(frame) => write_tagged("op", op.as_str(), frame, serializer),
            Self::Goaway(frame) => write_tagged("op", op.as_str(), frame, serializer),
        }
    }
}
