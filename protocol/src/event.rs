//! The 31 events of AG-UI 1.0: one struct each, and [`Event`] over them.
//!
//! An event says nothing about its place: `seq` and `run` are in the [`LogEntry`](crate::LogEntry) around it.

use serde::Deserialize;
use serde_json::Value;

use crate::wire::macros::{wire_enum, words};
use crate::wire::{Tagged, tree};

mod open;
mod reasoning;
mod run;
mod state;
mod subagent;
mod text;
mod tool;

pub use open::{Custom, Raw};
pub use reasoning::{
    EncryptedSubtype, ReasoningEncryptedValue, ReasoningEnd, ReasoningMessageChunk, ReasoningMessageContent,
    ReasoningMessageEnd, ReasoningMessageStart, ReasoningRole, ReasoningStart,
};
pub use run::{Outcome, RunError, RunFinished, RunStarted, StepFinished, StepStarted, TokenUsage};
pub use state::{ActivityDelta, ActivitySnapshot, MessagesSnapshot, StateDelta, StateSnapshot};
pub use subagent::{SubagentError, SubagentFinished, SubagentOutcome, SubagentStarted};
pub use text::{TextMessageChunk, TextMessageContent, TextMessageEnd, TextMessageStart, TextRole};
pub use tool::{ToolCallArgs, ToolCallChunk, ToolCallEnd, ToolCallResult, ToolCallStart, ToolRole};

/// Declares an event: its own fields, and those that every event has. `in lane` adds the owner of the lane.
macro_rules! event {
    (
        $(#[doc = $doc:literal])*
        $(#[derive($derive:ident)])?
        pub struct $name:ident in lane { $($sections:tt)* }
    ) => {
        $crate::event::event! { @split [$(#[doc = $doc])* $(#[derive($derive)])?] $name
            [
                /// The subagent whose lane this is; absent: the run itself.
                subagent_run_id: String = "subagentRunId",
            ]
            $($sections)*
        }
    };
    (
        $(#[doc = $doc:literal])*
        $(#[derive($derive:ident)])?
        pub struct $name:ident { $($sections:tt)* }
    ) => {
        $crate::event::event! { @split [$(#[doc = $doc])* $(#[derive($derive)])?] $name [] $($sections)* }
    };
    (
        @split [$(#[doc = $doc:literal])* $(#[derive($derive:ident)])?] $name:ident [$($lane:tt)*]
        $(required { $($required:tt)* })?
        $(any { $($any:tt)* })?
        $(listed { $($listed:tt)* })?
        $(constant { $($constant:tt)* })?
        $(optional { $($optional:tt)* })?
        $(nullable { $($nullable:tt)* })?
        $(known { $($known:tt)* })?
    ) => {
        $crate::wire::macros::wire_struct! {
            $(#[doc = $doc])*
            #[derive(Debug, Clone, PartialEq $(, $derive)?)]
            pub struct $name {
                $(required { $($required)* })?
                $(any { $($any)* })?
                $(listed { $($listed)* })?
                $(constant { $($constant)* })?
                optional {
                    $($($optional)*)?
                    $($lane)*
                    /// When it happened, in milliseconds since the Unix epoch.
                    timestamp: i64 = "timestamp",
                    /// Any JSON under any key; `ag-ui` is reserved. Clients fold it into the message it belongs to.
                    metadata: serde_json::Map<String, serde_json::Value> = "metadata",
                }
                nullable {
                    $($($nullable)*)?
                    /// What a provider sent, as it was.
                    raw_event: serde_json::Value = "rawEvent",
                }
                $(known { $($known)* })?
            }
        }
    };
}
pub(crate) use event;

/// Declares [`Event`] and [`EventKind`] from one list.
macro_rules! events {
    ($( $(#[doc = $doc:literal])* $variant:ident = $wire:literal ),* $(,)?) => {
        wire_enum! {
            /// An AG-UI 1.0 event: an object with `type`.
            ///
            /// Reading refuses an unknown `type` and a malformed known field, and ignores unknown fields.
            /// [`Event::decode_value`] is the tolerant way to read.
            #[derive(Debug, Clone, PartialEq)]
            pub enum Event by "type" {
                $( $(#[doc = $doc])* $variant($variant) = $wire ),*
            }
        }

        words! {
            /// The `type` of an event.
            pub enum EventKind: "an event type" {
                $( $(#[doc = $doc])* $variant = $wire ),*
            }
        }

        impl Event {
            /// Returns which of the 31 it is.
            #[must_use]
            pub const fn kind(&self) -> EventKind {
                match self {
                    $( Self::$variant(_) => EventKind::$variant, )*
                }
            }

            /// Returns when it happened, in milliseconds since the Unix epoch, if it says so.
            #[must_use]
            pub const fn timestamp(&self) -> Option<i64> {
                match self {
                    $( Self::$variant(event) => event.timestamp, )*
                }
            }

            /// Sets when it happened, in milliseconds since the Unix epoch.
            pub const fn set_timestamp(&mut self, timestamp_ms: i64) {
                match self {
                    $( Self::$variant(event) => event.timestamp = Some(timestamp_ms), )*
                }
            }
        }

        #[cfg(feature = "schema")]
        impl EventKind {
            /// Returns the schema of an event of this kind.
            pub fn schema(self, generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                use crate::wire::schema::Member;
                match self {
                    $( Self::$variant => generator.subschema_for::<Member<Event, $variant>>(), )*
                }
            }
        }

        $(
            impl $variant {
                /// Returns it with the time it happened, in milliseconds since the Unix epoch.
                #[must_use]
                pub const fn with_timestamp(mut self, timestamp_ms: i64) -> Self {
                    self.timestamp = Some(timestamp_ms);
                    self
                }
            }
        )*
    };
}

events! {
    /// A run begins.
    RunStarted = "RUN_STARTED",
    /// A run ended as it should: done, waiting for a person, or cancelled.
    RunFinished = "RUN_FINISHED",
    /// A run failed.
    RunError = "RUN_ERROR",
    /// A step begins: one model turn, one stage.
    StepStarted = "STEP_STARTED",
    /// A step ends.
    StepFinished = "STEP_FINISHED",
    /// A text message begins.
    TextMessageStart = "TEXT_MESSAGE_START",
    /// A piece of text.
    TextMessageContent = "TEXT_MESSAGE_CONTENT",
    /// A text message is complete.
    TextMessageEnd = "TEXT_MESSAGE_END",
    /// Start, content and end of a text message in shorthand.
    TextMessageChunk = "TEXT_MESSAGE_CHUNK",
    /// A tool call begins.
    ToolCallStart = "TOOL_CALL_START",
    /// A piece of a call's arguments.
    ToolCallArgs = "TOOL_CALL_ARGS",
    /// The arguments of a call are complete.
    ToolCallEnd = "TOOL_CALL_END",
    /// Start, arguments and end of a call in shorthand.
    ToolCallChunk = "TOOL_CALL_CHUNK",
    /// What a tool returned.
    ToolCallResult = "TOOL_CALL_RESULT",
    /// The shared state as a whole.
    StateSnapshot = "STATE_SNAPSHOT",
    /// A change of the shared state.
    StateDelta = "STATE_DELTA",
    /// The messages as a whole.
    MessagesSnapshot = "MESSAGES_SNAPSHOT",
    /// An activity as a whole.
    ActivitySnapshot = "ACTIVITY_SNAPSHOT",
    /// A change of an activity.
    ActivityDelta = "ACTIVITY_DELTA",
    /// A span of reasoning begins.
    ReasoningStart = "REASONING_START",
    /// A span of reasoning ends.
    ReasoningEnd = "REASONING_END",
    /// A reasoning message begins.
    ReasoningMessageStart = "REASONING_MESSAGE_START",
    /// A piece of reasoning text.
    ReasoningMessageContent = "REASONING_MESSAGE_CONTENT",
    /// A reasoning message is complete.
    ReasoningMessageEnd = "REASONING_MESSAGE_END",
    /// Start, content and end of a reasoning message in shorthand.
    ReasoningMessageChunk = "REASONING_MESSAGE_CHUNK",
    /// Reasoning that only its provider can read, to be sent back.
    ReasoningEncryptedValue = "REASONING_ENCRYPTED_VALUE",
    /// A subagent begins.
    SubagentStarted = "SUBAGENT_STARTED",
    /// A subagent ended as it should.
    SubagentFinished = "SUBAGENT_FINISHED",
    /// A subagent failed; the run may go on.
    SubagentError = "SUBAGENT_ERROR",
    /// An application's own event.
    Custom = "CUSTOM",
    /// A foreign event, passed on.
    Raw = "RAW",
}

/// Why a JSON value is not an event: the text names the field and does not repeat its content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {reason}")]
pub struct EventError {
    /// The event's `type`, or `event` when it has none.
    pub kind: &'static str,
    /// What is wrong, starting with the path of the field.
    pub reason: String,
}

/// What tolerant reading gives.
#[derive(Debug, Clone, PartialEq)]
pub enum Incoming {
    /// An event of this version.
    Known(Event),
    /// An event type this version does not know, to be dropped.
    Unknown {
        /// Its `type`.
        kind: String,
    },
}

impl Event {
    /// Returns it with the time it happened, in milliseconds since the Unix epoch.
    #[must_use]
    pub const fn with_timestamp(mut self, timestamp_ms: i64) -> Self {
        self.set_timestamp(timestamp_ms);
        self
    }

    /// Reads an event as an AG-UI 1.0 client does: unknown fields, union members and event types pass.
    ///
    /// # Errors
    /// When it is not an object, has no `type`, or a known field is missing or malformed.
    pub fn decode_value(value: Value) -> Result<Incoming, EventError> {
        let word = value.get(Self::TAG).and_then(Value::as_str);
        if let Some(kind) = word.filter(|word| !Self::is_known(word)) {
            return Ok(Incoming::Unknown { kind: kind.to_owned() });
        }
        let kind = word
            .and_then(|word| word.parse().ok())
            .map_or("event", EventKind::as_str);
        match tree::read(value) {
            Ok(event) => Ok(Incoming::Known(event)),
            Err(error) => Err(EventError {
                kind,
                reason: error.to_string(),
            }),
        }
    }
}

/// Reads a list of events strictly; a convenience for tests and tools.
///
/// # Errors
/// On the first value that is not an event of this version.
pub fn decode_all(values: &[Value]) -> Result<Vec<Event>, serde_json::Error> {
    values.iter().map(Event::deserialize).collect()
}
