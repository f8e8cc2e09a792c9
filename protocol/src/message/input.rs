//! What a run is asked: RunAgentInput, questions to people, and their answers.

use serde_json::{Map, Value};

use super::Message;
use crate::ids::{InterruptId, RunId};
use crate::wire::macros::{wire_struct, words};

wire_struct! {
    /// RunAgentInput: the body of an AG-UI request, and `input` of RUN_STARTED.
    ///
    /// `tools` and `context` are always written, empty or not: clients before 1.0 need them.
    #[derive(Debug, Clone, PartialEq)]
    pub struct RunInput {
        required {
            /// The session.
            thread_id: String = "threadId",
            /// The run, named by the client.
            run_id: RunId = "runId",
        }
        listed {
            /// In a request the whole history as the client has it, in the log only what is new. Messages with a role
            /// this version does not know are left out.
            messages: Message = "messages",
        }
        defaulted {
            /// Tools the client runs itself.
            tools: Vec<Tool> = "tools" or Vec::new(),
            /// What the application wants the model to know.
            context: Vec<Context> = "context" or Vec::new(),
        }
        optional {
            /// The client's AG-UI version; absent before 1.0.
            protocol_version: String = "protocolVersion",
            /// The run this one branches from.
            parent_run_id: RunId = "parentRunId",
            /// Answers to the questions of the run before.
            resume: Vec<ResumeAnswer> = "resume",
        }
        nullable {
            /// The shared state as the client has it.
            state: Value = "state",
            /// Any JSON for the agent.
            forwarded_props: Value = "forwardedProps",
        }
    }
}

wire_struct! {
    /// A tool the client runs itself.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Tool {
        required {
            /// What the model calls it.
            name: String = "name",
            /// What it does, for the model.
            description: String = "description",
        }
        optional {
            /// Its arguments as a JSON Schema.
            parameters: Value = "parameters",
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
    }
}

wire_struct! {
    /// Something the application wants the model to know.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct Context {
        required {
            /// What it is.
            description: String = "description",
            /// The thing itself.
            value: String = "value",
        }
    }
}

wire_struct! {
    /// A question to a person; the run ended with it and the next one brings the answer.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Interrupt {
        required {
            /// The question.
            id: InterruptId = "id",
            /// Why: `tool_call`, `input_required`, `confirmation`, or `<framework>:<name>`.
            reason: String = "reason",
        }
        optional {
            /// The question in words.
            message: String = "message",
            /// The call that waits.
            tool_call_id: String = "toolCallId",
            /// What an answer looks like, as a JSON Schema. `editedArgs` in it offers editing.
            response_schema: Map<String, Value> = "responseSchema",
            /// When the question lapses (RFC 3339).
            expires_at: String = "expiresAt",
            /// The subagent that asks.
            subagent_run_id: String = "subagentRunId",
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
    }
}

words! {
    /// Whether a question was answered.
    pub enum ResumeStatus: "the status of an answer" {
        /// Somebody answered, yes or no.
        Resolved = "resolved",
        /// Nobody answered.
        Cancelled = "cancelled",
    }
}

wire_struct! {
    /// The answer to one [`Interrupt`] in AG-UI's form.
    #[derive(Debug, Clone, PartialEq)]
    pub struct ResumeAnswer {
        required {
            /// The question.
            interrupt_id: InterruptId = "interruptId",
            /// Whether it was answered.
            status: ResumeStatus = "status",
        }
        optional {
            /// Any JSON of the application.
            metadata: Map<String, Value> = "metadata",
        }
        nullable {
            /// The answer, such as `{"approved":true}`.
            payload: Value = "payload",
        }
    }
}
