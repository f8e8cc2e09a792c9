//! Text messages.

use super::event;
use crate::ids::MessageId;
use crate::wire::macros::words;

words! {
    /// Who speaks in a text message.
    pub enum TextRole: "the role of a text message" {
        /// The developer of the application.
        Developer = "developer",
        /// The system prompt.
        System = "system",
        /// The model.
        Assistant = "assistant",
        /// The user.
        User = "user",
    }
}

event! {
    /// TEXT_MESSAGE_START: a text message begins.
    pub struct TextMessageStart in lane {
        required {
            /// The message; unique in the session, or the text is appended to the old one.
            message_id: MessageId = "messageId",
        }
        optional {
            /// Who speaks; absent: the assistant.
            role: TextRole = "role",
            /// Name of the speaker, where several share a role.
            name: String = "name",
        }
    }
}

event! {
    /// TEXT_MESSAGE_CONTENT: a piece of text.
    pub struct TextMessageContent in lane {
        required {
            /// The message, begun and not ended.
            message_id: MessageId = "messageId",
            /// Text to append; may be empty.
            delta: String = "delta",
        }
    }
}

event! {
    /// TEXT_MESSAGE_END: a text message is complete.
    pub struct TextMessageEnd in lane {
        required {
            /// The message.
            message_id: MessageId = "messageId",
        }
    }
}

event! {
    /// TEXT_MESSAGE_CHUNK: start, content and end in shorthand. The first of a message needs its id.
    #[derive(Default)]
    pub struct TextMessageChunk in lane {
        optional {
            /// The message; absent: the one of the chunk before.
            message_id: MessageId = "messageId",
            /// Who speaks; absent: the assistant.
            role: TextRole = "role",
            /// Text to append.
            delta: String = "delta",
            /// Name of the speaker.
            name: String = "name",
        }
    }
}
