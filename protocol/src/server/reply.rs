//! What `ok` carries, by command.

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::client::SessionSettings;
use crate::event::TokenUsage;
use crate::ids::{ConnectionId, EpochId, RunId, SessionId, UserId};
use crate::limits;
use crate::position::Seq;
use crate::wire::macros::{wire_struct, words};
use crate::wire::{Fields, write_map};

/// Declares [`OkBody`]: on the wire its fields are beside `ref`.
macro_rules! bodies {
    ($( $(#[doc = $doc:literal])* $variant:ident($inner:ident) = $wire:literal ),* $(,)?) => {
        /// What a command gives. On the wire its fields are beside `op` and `ref`.
        #[derive(Debug, Clone, PartialEq)]
        pub enum OkBody {
            $( $(#[doc = $doc])* $variant($inner), )*
            /// To `detach`, `unqueue`, `typing`: nothing but that it was done.
            Done,
        }

        words! {
            /// What a command gives, by name. Not on the wire: the fields tell.
            pub enum OkKind: "what a command gives" {
                $( $(#[doc = $doc])* $variant = $wire, )*
                /// To `detach`, `unqueue`, `typing`: nothing but that it was done.
                Done = "done",
            }
        }

        impl OkBody {
            /// Returns which of them it is.
            #[must_use]
            pub const fn kind(&self) -> OkKind {
                match self {
                    $( Self::$variant(_) => OkKind::$variant, )*
                    Self::Done => OkKind::Done,
                }
            }
        }

        #[cfg(feature = "schema")]
        impl OkKind {
            /// Returns the schema of an `ok` frame with this body.
            pub fn schema(self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                use super::described::{Done, OkFrame};
                match self {
                    $( Self::$variant => generator.subschema_for::<OkFrame<$inner>>(), )*
                    Self::Done => generator.subschema_for::<OkFrame<Done>>(),
                }
            }
        }

        impl Fields for OkBody {
            fn count(&self) -> usize {
                match self {
                    $( Self::$variant(body) => body.count(), )*
                    Self::Done => 0,
                }
            }

            fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                match self {
                    $( Self::$variant(body) => body.write(map), )*
                    Self::Done => Ok(()),
                }
            }
        }

        $(
            impl From<$inner> for OkBody {
                fn from(body: $inner) -> Self {
                    Self::$variant(body)
                }
            }
        )*
    };
}

bodies! {
    /// To `hello`.
    Welcome(Welcome) = "welcome",
    /// To `attach`; the events follow, then `caught_up`.
    Attached(Attached) = "attached",
    /// To `send`, `resume`, `edit` and `regenerate`: it is durable, not answered.
    Sent(Sent) = "sent",
    /// To `cancel`.
    Cancelled(Cancelled) = "cancelled",
    /// To `token`.
    TokenAccepted(TokenAccepted) = "token",
    /// To `ping`.
    Pong(Pong) = "pong",
    /// To `settings`.
    Settings(SettingsReply) = "settings",
}

impl Serialize for OkBody {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        write_map(self, serializer)
    }
}

wire_struct! {
    /// The reply to `hello`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Welcome {
        required {
            /// This connection.
            connection: ConnectionId = "connection",
            /// Who the token speaks for.
            user: UserInfo = "user",
        }
        defaulted {
            /// The server program.
            server: ServerInfo = "server" or ServerInfo::default(),
            /// The server's bounds.
            limits: Limits = "limits" or Limits::default(),
            /// Seconds between the server's pings; a peer silent for two of them is gone.
            ping_seconds: u32 = "ping_seconds" or limits::PING_SECONDS,
            /// The server's time (RFC 3339).
            time: String = "time" or String::new(),
        }
    }
}

wire_struct! {
    /// Who a token speaks for.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct UserInfo {
        required {
            /// The user.
            id: UserId = "id",
        }
        optional {
            /// What they are called.
            name: String = "name",
        }
    }
}

wire_struct! {
    /// The server program.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct ServerInfo {
        defaulted {
            /// What it is called.
            name: String = "name" or String::new(),
            /// Which version.
            version: String = "version" or String::new(),
            /// Whether answers come from simulators instead of a model.
            simulated: bool = "simulated" or false,
        }
    }
}

wire_struct! {
    /// The server's bounds; absent ones are the protocol's defaults.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Limits {
        defaulted {
            /// Largest websocket message in either direction, in bytes.
            frame_bytes: usize = "frame_bytes" or limits::FRAME_BYTES,
            /// Longest text of one user message, in characters.
            message_chars: usize = "message_chars" or limits::MESSAGE_CHARS,
            /// Most parts of one user message.
            parts: usize = "parts" or limits::PARTS,
            /// Sessions one connection may follow at once.
            attachments: usize = "attachments" or limits::ATTACHMENTS_PER_CONNECTION,
            /// Commands of one connection that may wait for their reply.
            pending_commands: usize = "pending_commands" or limits::PENDING_COMMANDS,
            /// Longest title, in characters.
            title_chars: usize = "title_chars" or limits::TITLE_CHARS,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::new()
    }
}

wire_struct! {
    /// The reply to `attach`.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Attached {
        required {
            /// The session; for `new` and `@me` its id.
            session: SessionId = "session",
            /// The history the positions belong to.
            epoch: EpochId = "epoch",
            /// The last position there is; 0 for none.
            head: Seq = "head",
            /// True: the gap follows event by event. False: a snapshot follows.
            recovered: bool = "recovered",
        }
        defaulted {
            /// The session's settings.
            settings: SessionSettings = "settings" or SessionSettings::default(),
        }
    }
}

wire_struct! {
    /// The reply to `send`, `resume`, `edit` and `regenerate`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Sent {
        required {
            /// Position of the entry that made it durable.
            seq: Seq = "seq",
        }
        defaulted {
            /// Whether it had been accepted before under the same id; the rest is as it was then.
            duplicate: bool = "duplicate" or false,
        }
        optional {
            /// The run that answers it; absent while it is queued.
            run: RunId = "run",
            /// Its place in the queue, from 1; absent when it runs.
            queued: u32 = "queued",
        }
    }
}

// Without any field it reads back as `OkBody::Done`: nothing on the wire tells them apart.
wire_struct! {
    /// The reply to `cancel`; without fields when nothing ran.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct Cancelled {
        optional {
            /// The run that was stopped; absent: none was active.
            run: RunId = "run",
            /// What it had used, one entry per model.
            usage: Vec<TokenUsage> = "usage",
        }
    }
}

wire_struct! {
    /// The reply to `token`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct TokenAccepted {
        required {
            /// When the new token expires (RFC 3339).
            expires_at: String = "expires_at",
        }
    }
}

wire_struct! {
    /// The reply to `ping`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Pong {
        required {
            /// The server's time (RFC 3339).
            time: String = "time",
        }
    }
}

wire_struct! {
    /// The reply to `settings`.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct SettingsReply {
        required {
            /// The session's settings after the change.
            settings: SessionSettings = "settings",
        }
    }
}
