//! Messages and what a run is asked, as AG-UI 1.0 has them.

mod content;
mod input;

use serde_json::{Map, Value};

use crate::ids::MessageId;
use crate::wire::macros::{wire_enum, wire_struct, words};

pub use content::{ContentPart, Source, UserContent};
pub use input::{Context, Interrupt, ResumeAnswer, ResumeStatus, RunInput, Tool};

wire_enum! {
    /// A message of a conversation: an object with `role`.
    #[derive(Debug, Clone, PartialEq)]
    pub enum Message by "role" {
        /// From the developer of the application.
        Developer(DeveloperMessage) = "developer",
        /// The system prompt.
        System(SystemMessage) = "system",
        /// From the model.
        Assistant(AssistantMessage) = "assistant",
        /// From the user.
        User(UserMessage) = "user",
        /// What a tool returned.
        Tool(ToolMessage) = "tool",
        /// Something shown that never goes back to the server.
        Activity(ActivityMessage) = "activity",
        /// What the model thought.
        Reasoning(ReasoningMessage) = "reasoning",
    }
}

wire_struct! {
    /// A message from the developer of the application.
    #[derive(Debug, Clone, PartialEq)]
    pub struct DeveloperMessage {
        required {
            /// The message.
            id: MessageId = "id",
            /// The text.
            content: String = "content",
        }
        optional {
            /// Name of the speaker.
            name: String = "name",
            /// What only the provider can read.
            encrypted_value: String = "encryptedValue",
            /// The subagent it came from.
            subagent_run_id: String = "subagentRunId",
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
    }
}

wire_struct! {
    /// A system prompt.
    #[derive(Debug, Clone, PartialEq)]
    pub struct SystemMessage {
        required {
            /// The message.
            id: MessageId = "id",
            /// The text.
            content: String = "content",
        }
        optional {
            /// Name of the speaker.
            name: String = "name",
            /// What only the provider can read.
            encrypted_value: String = "encryptedValue",
            /// The subagent it came from.
            subagent_run_id: String = "subagentRunId",
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
    }
}

wire_struct! {
    /// A message from the model: text, calls, or both.
    #[derive(Debug, Clone, PartialEq)]
    pub struct AssistantMessage {
        required {
            /// The message.
            id: MessageId = "id",
        }
        optional {
            /// The text.
            content: String = "content",
            /// Name of the speaker.
            name: String = "name",
            /// The calls it makes.
            tool_calls: Vec<ToolCall> = "toolCalls",
            /// What only the provider can read.
            encrypted_value: String = "encryptedValue",
            /// The subagent it came from.
            subagent_run_id: String = "subagentRunId",
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
    }
}

wire_struct! {
    /// A message from the user.
    #[derive(Debug, Clone, PartialEq)]
    pub struct UserMessage {
        required {
            /// The message.
            id: MessageId = "id",
            /// What it says.
            content: UserContent = "content",
        }
        optional {
            /// Name of the speaker.
            name: String = "name",
            /// What only the provider can read.
            encrypted_value: String = "encryptedValue",
            /// The subagent it came from.
            subagent_run_id: String = "subagentRunId",
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
    }
}

wire_struct! {
    /// What a tool returned.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ToolMessage {
        required {
            /// The message.
            id: MessageId = "id",
            /// What it returned.
            content: UserContent = "content",
            /// The call it answers.
            tool_call_id: String = "toolCallId",
        }
        optional {
            /// What went wrong, if something did.
            error: String = "error",
            /// What only the provider can read.
            encrypted_value: String = "encryptedValue",
            /// The subagent it came from.
            subagent_run_id: String = "subagentRunId",
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
    }
}

wire_struct! {
    /// Something shown that never goes back to the server.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ActivityMessage {
        required {
            /// The message.
            id: MessageId = "id",
            /// What kind it is.
            activity_type: String = "activityType",
            /// What to show.
            content: Map<String, Value> = "content",
        }
        optional {
            /// The subagent it came from.
            subagent_run_id: String = "subagentRunId",
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
    }
}

wire_struct! {
    /// What the model thought.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ReasoningMessage {
        required {
            /// The message.
            id: MessageId = "id",
            /// The text.
            content: String = "content",
        }
        optional {
            /// What only the provider can read.
            encrypted_value: String = "encryptedValue",
            /// The subagent it came from.
            subagent_run_id: String = "subagentRunId",
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
    }
}

words! {
    /// The type of a tool call.
    pub enum ToolCallType: "the type of a tool call" {
        /// The only one.
        Function = "function",
    }
}

wire_struct! {
    /// A tool call within an assistant message.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ToolCall {
        required {
            /// The call.
            id: String = "id",
            /// What is called.
            function: FunctionCall = "function",
        }
        constant {
            /// `function`.
            kind: ToolCallType = "type" is ToolCallType::Function,
        }
        optional {
            /// What only the provider can read.
            encrypted_value: String = "encryptedValue",
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
    }
}

wire_struct! {
    /// Name and arguments of a tool call.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct FunctionCall {
        required {
            /// The tool.
            name: String = "name",
            /// The arguments as JSON text; need not parse.
            arguments: String = "arguments",
        }
    }
}

impl Message {
    /// Returns the message's id.
    #[must_use]
    pub fn id(&self) -> &MessageId {
        match self {
            Self::Developer(message) => &message.id,
            Self::System(message) => &message.id,
            Self::Assistant(message) => &message.id,
            Self::User(message) => &message.id,
            Self::Tool(message) => &message.id,
            Self::Activity(message) => &message.id,
            Self::Reasoning(message) => &message.id,
        }
    }
}
