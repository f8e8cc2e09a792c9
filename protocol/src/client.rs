//! What clients send: one frame, one command, one reply.

use serde::Serialize;
use serde::ser::SerializeMap;
use serde_json::{Map, Value, json};

use crate::error::ErrorCode;
use crate::ids::Ref;
use crate::wire::macros::words;
use crate::wire::{Fields, tree};

mod attach;
mod command;
mod settings;

pub use attach::{Attach, AttachTarget};
pub use command::{
    Answer, Cancel, ClientInfo, Detach, Edit, Hello, Regenerate, Resume, RunOptions, Send, SendMode, TokenUpdate,
    Typing, Unqueue,
};
pub use settings::{SessionSettings, Settings, ToolPolicy, ToolRule};

/// A frame from a client: an object with `op`, `ref`, and the command's fields beside them.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientFrame {
    /// What the client calls it; the reply repeats it. `ref` on the wire.
    pub reference: Ref,
    /// What is to be done.
    pub command: Command,
}

impl ClientFrame {
    /// Returns a frame of its two parts.
    #[must_use]
    pub fn new(reference: Ref, command: impl Into<Command>) -> Self {
        Self {
            reference,
            command: command.into(),
        }
    }
}

/// Declares [`Command`] and [`Op`] from one list.
macro_rules! commands {
    ($( $(#[doc = $doc:literal])* $variant:ident = $wire:literal ),* $(,)?) => {
        /// What a client wants done.
        #[derive(Debug, Clone, PartialEq)]
        pub enum Command {
            $( $(#[doc = $doc])* $variant($variant), )*
            /// Asks for the server's time; shows that the way there and back works.
            Ping,
        }

        words! {
            /// The name of a command.
            pub enum Op: "an op" {
                $( $(#[doc = $doc])* $variant = $wire, )*
                /// Asks for the server's time.
                Ping = "ping",
            }
        }

        impl Command {
            /// Returns its name; a label for metrics.
            #[must_use]
            pub const fn op(&self) -> Op {
                match self {
                    $( Self::$variant(_) => Op::$variant, )*
                    Self::Ping => Op::Ping,
                }
            }

            fn read(op: Op, fields: Map<String, Value>) -> Result<Self, tree::TreeError> {
                match op {
                    $( Op::$variant => tree::read(Value::Object(fields)).map(Self::$variant), )*
                    Op::Ping => Ok(Self::Ping),
                }
            }
        }

        impl Fields for Command {
            fn count(&self) -> usize {
                match self {
                    $( Self::$variant(command) => command.count(), )*
                    Self::Ping => 0,
                }
            }

            fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                match self {
                    $( Self::$variant(command) => command.write(map), )*
                    Self::Ping => Ok(()),
                }
            }
        }

        $(
            impl From<$variant> for Command {
                fn from(command: $variant) -> Self {
                    Self::$variant(command)
                }
            }
        )*

        #[cfg(feature = "schema")]
        impl Op {
            /// Returns the schema of the frame with this command, for the reader's side or the writer's as `generator` says.
            pub fn schema(self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                match self {
                    $( Self::$variant => generator.subschema_for::<CommandFrame<$variant>>(), )*
                    Self::Ping => generator.subschema_for::<CommandFrame<Ping>>(),
                }
            }
        }

        $(
            #[cfg(feature = "schema")]
            impl CommandFields for $variant {
                const OP: Op = Op::$variant;
            }
        )*
    };
}

#[cfg(feature = "schema")]
mod described {
    use std::borrow::Cow;
    use std::marker::PhantomData;

    use schemars::{JsonSchema, Schema, SchemaGenerator};

    use super::{ClientFrame, Op};
    use crate::ids::Ref;
    use crate::wire::schema::{DescribeFields, Object, one_of};

    /// The fields of a command, beside `op` and `ref`.
    pub(super) trait CommandFields: DescribeFields {
        const OP: Op;
    }

    /// `ping` has no fields.
    pub(super) struct Ping;

    impl DescribeFields for Ping {
        const NAME: &'static str = "Ping";
        const DOC: &'static [&'static str] =
            &["`ping`: ask for the server's time; shows that the way there and back works."];

        fn describe(_: &mut Object<'_>) {}
    }

    impl CommandFields for Ping {
        const OP: Op = Op::Ping;
    }

    /// A frame with one command.
    pub(super) struct CommandFrame<T>(PhantomData<T>);

    impl<T: CommandFields> JsonSchema for CommandFrame<T> {
        fn schema_name() -> Cow<'static, str> {
            format!("{}Command", T::NAME).into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let mut object = Object::new(generator);
            object.word("op", T::OP.as_str());
            object.required::<Ref>("ref", &["What the client calls it; the reply repeats it."]);
            T::describe(&mut object);
            object.finish(T::DOC)
        }
    }

    impl JsonSchema for ClientFrame {
        fn schema_name() -> Cow<'static, str> {
            "ClientFrame".into()
        }

        fn json_schema(generator: &mut SchemaGenerator) -> Schema {
            let frames = Op::ALL.iter().map(|op| op.schema(generator)).collect();
            one_of(
                &["A frame from a client: an object with `op`, `ref`, and the command's fields beside them."],
                frames,
            )
        }
    }
}
#[cfg(feature = "schema")]
use described::{CommandFields, CommandFrame, Ping};

commands! {
    /// Says who is there; the first command.
    Hello = "hello",
    /// Follows a session, from a position on.
    Attach = "attach",
    /// Stops following a session.
    Detach = "detach",
    /// Says something.
    Send = "send",
    /// Takes back what is still queued.
    Unqueue = "unqueue",
    /// Stops a run.
    Cancel = "cancel",
    /// Answers questions of a run.
    Resume = "resume",
    /// Changes an earlier message and runs again from there.
    Edit = "edit",
    /// Answers an earlier message again.
    Regenerate = "regenerate",
    /// Changes settings of a session.
    Settings = "settings",
    /// Tells the other devices that somebody types.
    Typing = "typing",
    /// Brings a fresh token before the old one expires.
    TokenUpdate = "token",
}

impl Serialize for ClientFrame {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.command.count().saturating_add(2)))?;
        map.serialize_entry("op", &self.command.op())?;
        map.serialize_entry("ref", &self.reference)?;
        self.command.write(&mut map)?;
        map.end()
    }
}

/// Why a client's frame was not understood, and what to do about it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct FrameError {
    /// The frame's `ref`, where it could be read: goes into the reply.
    pub reference: Option<Ref>,
    /// For programs: `bad_frame`, `validation` or `unsupported`.
    pub code: ErrorCode,
    /// For people; names fields and kinds, never repeats what the client sent.
    pub message: String,
    /// For programs: an object, with `op` where it is known.
    pub details: Value,
    /// True: not a frame at all, close with 4400. False: reply with `error` and go on.
    pub fatal: bool,
}

impl FrameError {
    pub(crate) fn fatal(message: impl Into<String>) -> Self {
        let details = Value::Object(Map::new());
        Self {
            reference: None,
            code: ErrorCode::BadFrame,
            message: message.into(),
            details,
            fatal: true,
        }
    }

    fn reply(reference: Option<Ref>, code: ErrorCode, message: impl Into<String>, details: Value) -> Self {
        Self {
            reference,
            code,
            message: message.into(),
            details,
            fatal: false,
        }
    }
}

/// Reads a frame from a tree that a codec has built.
pub(crate) fn from_tree(value: Value) -> Result<ClientFrame, FrameError> {
    let Value::Object(mut fields) = value else {
        return Err(FrameError::fatal("a frame must be an object"));
    };
    let reference = read_ref(fields.remove("ref"))?;
    let op = match fields.remove("op") {
        Some(Value::String(word)) => word,
        Some(_) => return Err(missing_op(reference, "op: must be a string")),
        None => return Err(missing_op(reference, "op: required, but missing")),
    };
    let Ok(op) = op.parse::<Op>() else {
        let known: Vec<_> = Op::ALL.iter().map(|op| op.as_str()).collect();
        let details = json!({ "known": known });
        return Err(FrameError::reply(
            Some(reference),
            ErrorCode::Unsupported,
            "op: not known to this server",
            details,
        ));
    };
    match Command::read(op, fields) {
        Ok(command) => Ok(ClientFrame { reference, command }),
        Err(error) => {
            let details = json!({ "op": op });
            Err(FrameError::reply(
                Some(reference),
                ErrorCode::Validation,
                error.to_string(),
                details,
            ))
        }
    }
}

fn missing_op(reference: Ref, message: &str) -> FrameError {
    FrameError::reply(
        Some(reference),
        ErrorCode::Validation,
        message,
        json!({ "field": "op" }),
    )
}

fn read_ref(value: Option<Value>) -> Result<Ref, FrameError> {
    let refuse = |message: String| FrameError::reply(None, ErrorCode::Validation, message, json!({ "field": "ref" }));
    match value {
        Some(Value::String(text)) => Ref::try_from(text).map_err(|error| refuse(format!("ref: {error}"))),
        Some(_) => Err(refuse("ref: must be a string".to_owned())),
        None => Err(refuse("ref: required, but missing".to_owned())),
    }
}
