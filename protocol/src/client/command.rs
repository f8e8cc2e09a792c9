//! The commands' fields. In commands, null for an optional field reads as absent, except in settings.

use std::fmt;

use serde_json::Value;

use super::settings::ToolPolicy;
use crate::codec::Codec;
use crate::ids::{DeviceName, InterruptId, MessageId, RunId, SessionId};
use crate::message::{ResumeAnswer, ResumeStatus, UserContent};
use crate::wire::macros::{wire_struct, words};

wire_struct! {
    /// `hello`: who is there; the first command.
    #[derive(Clone, Default, PartialEq)]
    pub struct Hello {
        nullable {
            /// The access token, where none came with the upgrade request.
            token: String = "token",
            /// The client program, shown to the user's other devices.
            client: ClientInfo = "client",
            /// The codec the client thinks it speaks; the subprotocol decides.
            codec: Codec = "codec",
        }
    }
}

// The token must not get into logs.
impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello")
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("client", &self.client)
            .field("codec", &self.codec)
            .finish()
    }
}

wire_struct! {
    /// A client program.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    pub struct ClientInfo {
        required {
            /// What it is called.
            name: DeviceName = "name",
            /// Which version.
            version: DeviceName = "version",
        }
    }
}

wire_struct! {
    /// `detach`: stop following a session.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Detach {
        required {
            /// The session.
            session: SessionId = "session",
        }
    }
}

words! {
    /// What to do with a message that comes while a run is active.
    #[derive(Default)]
    pub enum SendMode: "the mode of send" {
        /// Run it afterwards.
        #[default]
        Queue = "queue",
        /// Stop the run and run it at once.
        Interrupt = "interrupt",
        /// Give it to the run, before its next step.
        Steer = "steer",
        /// Refuse it with `busy`.
        Reject = "reject",
    }
}

wire_struct! {
    /// `send`: say something.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Send {
        required {
            /// The session.
            session: SessionId = "session",
            /// The message, named by the client; also the idempotency key.
            id: MessageId = "id",
            /// What is said.
            content: UserContent = "content",
        }
        defaulted {
            /// What to do when a run is active; absent: queue.
            mode: SendMode = "mode" or SendMode::Queue,
            /// How to run it; absent: as the session's settings say.
            run: RunOptions = "run" or RunOptions::default(),
        }
    }
}

wire_struct! {
    /// How to run one message; what is absent is as the session's settings say.
    #[derive(Debug, Clone, Default, PartialEq)]
    pub struct RunOptions {
        nullable {
            /// The model.
            model: String = "model",
            /// How freely it chooses words; 0 to 2.
            temperature: f64 = "temperature",
            /// Most tokens to write.
            max_tokens: u32 = "max_tokens",
            /// The system prompt.
            system_prompt: String = "system_prompt",
            /// Toolkits whose tools it may use, by slug.
            toolkits: Vec<String> = "toolkits",
            /// Which tool calls wait for a person.
            tool_policy: ToolPolicy = "tool_policy",
        }
    }
}

wire_struct! {
    /// `unqueue`: take back what is still queued.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Unqueue {
        required {
            /// The session.
            session: SessionId = "session",
            /// The message.
            id: MessageId = "id",
        }
    }
}

wire_struct! {
    /// `cancel`: stop a run.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Cancel {
        required {
            /// The session.
            session: SessionId = "session",
        }
        nullable {
            /// The run; absent: the active one.
            run: RunId = "run",
        }
    }
}

wire_struct! {
    /// `resume`: answer questions of a run.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Resume {
        required {
            /// The session.
            session: SessionId = "session",
            /// The answers; they must cover every open question.
            answers: Vec<Answer> = "answers",
        }
    }
}

wire_struct! {
    /// The answer to one question.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Answer {
        required {
            /// The question.
            interrupt: InterruptId = "interrupt",
            /// Whether it was answered.
            status: ResumeStatus = "status",
        }
        nullable {
            /// The answer, such as `{"approved":true}`.
            payload: Value = "payload",
        }
    }
}

impl From<Answer> for ResumeAnswer {
    fn from(answer: Answer) -> Self {
        let Answer {
            interrupt,
            status,
            payload,
        } = answer;
        Self {
            interrupt_id: interrupt,
            status,
            metadata: None,
            payload,
        }
    }
}

wire_struct! {
    /// `edit`: change an earlier message and run again from there; what followed is kept as a branch.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Edit {
        required {
            /// The session.
            session: SessionId = "session",
            /// The message to change.
            message: MessageId = "message",
            /// What it says now.
            content: UserContent = "content",
        }
    }
}

wire_struct! {
    /// `regenerate`: answer an earlier message again; what followed is kept as a branch.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Regenerate {
        required {
            /// The session.
            session: SessionId = "session",
        }
        nullable {
            /// The message to answer, or the answer to replace; absent: the last.
            message: MessageId = "message",
        }
    }
}

wire_struct! {
    /// `typing`: tell the other devices that somebody types.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Typing {
        required {
            /// The session.
            session: SessionId = "session",
            /// Whether somebody does.
            on: bool = "on",
        }
    }
}

wire_struct! {
    /// `token`: a fresh token before the old one expires.
    #[derive(Clone, PartialEq, Eq)]
    pub struct TokenUpdate {
        required {
            /// The access token.
            token: String = "token",
        }
    }
}

// The token must not get into logs.
impl fmt::Debug for TokenUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenUpdate").field("token", &"***").finish()
    }
}
