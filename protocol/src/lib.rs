//! Wire types of Kronos: AG-UI 1.0 events and their ordering rules, websocket frames, codecs, codes, ids.
//!
//! # Guarantees
//! * **Stable**: field names, `op`s, event types, codes and close codes of protocol version
//!   [`PROTOCOL_VERSION`] do not change their meaning; new ones may be added.
//! * **Unknown fields are ignored** everywhere. An unknown `op` is refused with `unsupported`, and the connection
//!   goes on. Unknown event types and unknown members of AG-UI's unions are dropped by tolerant reading.
//! * **Null**: in AG-UI events absent means absent, and null is an error for every optional field but the four that
//!   AG-UI forgives (`parentMessageId`, `outcome`, `result`, `rawEvent`), which read as absent; so do `state`, `forwardedProps`,
//!   `tools` and `context` of an input, and `payload` of an answer. In commands null reads as absent, except within
//!   `settings`. Nothing is ever written as null but `ref` of an error to a frame without one.
//! * **Same in both codecs**: a frame has the same fields in JSON and in MessagePack.
//! * **Reading is total**: it never panics, recurses at most [`limits::DEPTH`] levels, and its errors never repeat
//!   what was read.
//!
//! Nothing here does IO, reads a clock, makes an id or knows about actors.

#![deny(clippy::indexing_slicing, clippy::string_slice)]

mod wire;

pub mod client;
pub mod close;
pub mod codec;
pub mod entry;
pub mod error;
pub mod event;
pub mod ids;
pub mod limits;
pub mod message;
pub mod patch;
pub mod position;
pub mod recording;
#[cfg(feature = "schema")]
pub mod schema;
pub mod server;
pub mod verify;
pub mod version;

pub use client::{
    Answer, Attach, AttachTarget, Cancel, ClientFrame, ClientInfo, Command, Detach, Edit, FrameError, Hello, Op,
    Regenerate, Resume, RunOptions, SendMode, SessionSettings, Settings, TokenUpdate, ToolPolicy, ToolRule, Typing,
    Unqueue,
};
pub use close::{CloseCode, CloseReason};
pub use codec::{Codec, DecodeError, EncodeError};
pub use entry::LogEntry;
pub use error::{ErrorCode, RunErrorCode, UnknownWord};
pub use event::{Event, EventError, EventKind, Incoming, Outcome, TokenUsage};
pub use ids::{
    ConnectionId, DeviceName, EpochId, IdError, IdProblem, InterruptId, MessageId, Ref, RunId, SessionId, UserId,
};
pub use message::{
    ContentPart, Interrupt, Message, ResumeAnswer, ResumeStatus, RunInput, Source, ToolCall, UserContent,
};
pub use patch::{PatchOp, Pointer};
pub use position::{Cursor, CursorError, Seq};
pub use server::{
    Attached, Cancelled, CaughtUp, Device, Events, EventsRef, Goaway, Limits, OkBody, OkKind, Pong, Presence, Sent,
    ServerFrame, ServerInfo, ServerOp, SettingsReply, TokenAccepted, UserInfo, Welcome, WireError,
};
pub use verify::{OpenEntity, OpenKind, OrderError, Verifier, verify_stream};
pub use version::{AG_UI_VERSION, PROTOCOL_VERSION};
