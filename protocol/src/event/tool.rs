//! Tool calls.

use super::event;
use crate::ids::MessageId;
use crate::message::UserContent;
use crate::wire::macros::words;

words! {
    /// The role of a tool's result.
    pub enum ToolRole: "the role of a tool result" {
        /// The only one.
        Tool = "tool",
    }
}

event! {
    /// TOOL_CALL_START: a tool call begins.
    pub struct ToolCallStart in lane {
        required {
            /// The call; unique in the session.
            tool_call_id: String = "toolCallId",
            /// The tool.
            tool_call_name: String = "toolCallName",
        }
        nullable {
            /// The assistant message it belongs to; absent: one whose id is the call's.
            parent_message_id: MessageId = "parentMessageId",
        }
    }
}

event! {
    /// TOOL_CALL_ARGS: a piece of a call's arguments.
    pub struct ToolCallArgs in lane {
        required {
            /// The call, begun and not ended.
            tool_call_id: String = "toolCallId",
            /// JSON text to append.
            delta: String = "delta",
        }
    }
}

event! {
    /// TOOL_CALL_END: the arguments of a call are complete. The result follows, in this run or the next.
    pub struct ToolCallEnd in lane {
        required {
            /// The call.
            tool_call_id: String = "toolCallId",
        }
    }
}

event! {
    /// TOOL_CALL_CHUNK: start, arguments and end in shorthand. The first of a call needs its id and name.
    #[derive(Default)]
    pub struct ToolCallChunk in lane {
        optional {
            /// The call; absent: the one of the chunk before.
            tool_call_id: String = "toolCallId",
            /// The tool.
            tool_call_name: String = "toolCallName",
            /// JSON text to append.
            delta: String = "delta",
        }
        nullable {
            /// The assistant message it belongs to.
            parent_message_id: MessageId = "parentMessageId",
        }
    }
}

event! {
    /// TOOL_CALL_RESULT: what a tool returned. There is no flag for failure: the content says it.
    pub struct ToolCallResult in lane {
        required {
            /// The tool message this makes.
            message_id: MessageId = "messageId",
            /// The call it answers.
            tool_call_id: String = "toolCallId",
            /// What the tool returned: a text, or parts.
            content: UserContent = "content",
        }
        optional {
            /// `tool`.
            role: ToolRole = "role",
        }
    }
}
