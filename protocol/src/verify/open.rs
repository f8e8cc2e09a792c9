//! What can be open in a stream.

use crate::ids::MessageId;
use crate::wire::macros::words;

words! {
    /// What can be open.
    pub enum OpenKind: "a kind of bracket" {
        /// Between TEXT_MESSAGE_START and TEXT_MESSAGE_END.
        TextMessage = "text message",
        /// Between TOOL_CALL_START and TOOL_CALL_END.
        ToolCall = "tool call",
        /// Between STEP_STARTED and STEP_FINISHED.
        Step = "step",
        /// Between REASONING_MESSAGE_START and REASONING_MESSAGE_END.
        ReasoningMessage = "reasoning message",
        /// Between REASONING_START and REASONING_END.
        ReasoningSpan = "reasoning span",
        /// Between SUBAGENT_STARTED and SUBAGENT_FINISHED or SUBAGENT_ERROR.
        Subagent = "subagent",
    }
}

/// Something open.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum OpenEntity {
    /// A text message.
    TextMessage(MessageId),
    /// A tool call, by its id.
    ToolCall(String),
    /// A step: names are unique within a lane.
    Step {
        /// Its name.
        name: String,
        /// The subagent whose lane it is in; `None`: the run itself.
        subagent: Option<String>,
    },
    /// A reasoning message.
    ReasoningMessage(MessageId),
    /// A span of reasoning.
    ReasoningSpan(MessageId),
    /// A subagent, by its run id.
    Subagent(String),
}

impl OpenEntity {
    /// Returns which kind it is.
    #[must_use]
    pub const fn kind(&self) -> OpenKind {
        match self {
            Self::TextMessage(_) => OpenKind::TextMessage,
            Self::ToolCall(_) => OpenKind::ToolCall,
            Self::Step { .. } => OpenKind::Step,
            Self::ReasoningMessage(_) => OpenKind::ReasoningMessage,
            Self::ReasoningSpan(_) => OpenKind::ReasoningSpan,
            Self::Subagent(_) => OpenKind::Subagent,
        }
    }

    /// Returns its id, of a step the name.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::TextMessage(id) | Self::ReasoningMessage(id) | Self::ReasoningSpan(id) => id.as_str(),
            Self::ToolCall(id) | Self::Subagent(id) => id,
            Self::Step { name, .. } => name,
        }
    }
}
