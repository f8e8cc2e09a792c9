//! Reasoning: spans, messages within them, and what only the provider can read.

use super::event;
use crate::ids::MessageId;
use crate::wire::macros::words;

words! {
    /// The role of a reasoning message.
    pub enum ReasoningRole: "the role of a reasoning message" {
        /// The only one.
        Reasoning = "reasoning",
    }
}

words! {
    /// What an encrypted value belongs to.
    pub enum EncryptedSubtype: "the subtype of an encrypted value" {
        /// A message.
        Message = "message",
        /// A tool call.
        ToolCall = "tool-call",
    }
}

event! {
    /// REASONING_START: a span of reasoning begins.
    pub struct ReasoningStart in lane {
        required {
            /// The span; a message within may have the same id.
            message_id: MessageId = "messageId",
        }
    }
}

event! {
    /// REASONING_END: a span of reasoning ends.
    pub struct ReasoningEnd in lane {
        required {
            /// The span.
            message_id: MessageId = "messageId",
        }
    }
}

event! {
    /// REASONING_MESSAGE_START: a reasoning message begins.
    pub struct ReasoningMessageStart in lane {
        required {
            /// The message.
            message_id: MessageId = "messageId",
        }
        constant {
            /// `reasoning`.
            role: ReasoningRole = "role" is ReasoningRole::Reasoning,
        }
    }
}

event! {
    /// REASONING_MESSAGE_CONTENT: a piece of reasoning text.
    pub struct ReasoningMessageContent in lane {
        required {
            /// The message, begun and not ended.
            message_id: MessageId = "messageId",
            /// Text to append.
            delta: String = "delta",
        }
    }
}

event! {
    /// REASONING_MESSAGE_END: a reasoning message is complete.
    pub struct ReasoningMessageEnd in lane {
        required {
            /// The message.
            message_id: MessageId = "messageId",
        }
    }
}

event! {
    /// REASONING_MESSAGE_CHUNK: start, content and end in shorthand. The first of a message needs its id.
    #[derive(Default)]
    pub struct ReasoningMessageChunk in lane {
        optional {
            /// The message; absent: the one of the chunk before.
            message_id: MessageId = "messageId",
            /// Text to append.
            delta: String = "delta",
        }
    }
}

event! {
    /// REASONING_ENCRYPTED_VALUE: reasoning that only its provider can read, to be sent back.
    pub struct ReasoningEncryptedValue in lane {
        required {
            /// What it belongs to.
            subtype: EncryptedSubtype = "subtype",
            /// Id of the message or call it belongs to.
            entity_id: String = "entityId",
            /// The value, opaque.
            encrypted_value: String = "encryptedValue",
        }
    }
}
