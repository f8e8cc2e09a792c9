//! Subagents: agents a run starts, each with a lane of its own.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event;
use crate::ids::{InterruptId, MessageId};
use crate::wire::macros::object_enums;
use crate::wire::{Tagged, not_null};

event! {
    /// SUBAGENT_STARTED: a subagent begins.
    pub struct SubagentStarted {
        required {
            /// The subagent; never reused within a run.
            subagent_run_id: String = "subagentRunId",
            /// What it is called.
            name: String = "name",
        }
        optional {
            /// What it is for.
            description: String = "description",
            /// The subagent that started it; absent: the run.
            parent_subagent_run_id: String = "parentSubagentRunId",
            /// The tool call that started it.
            parent_tool_call_id: String = "parentToolCallId",
        }
        nullable {
            /// The message it belongs to.
            parent_message_id: MessageId = "parentMessageId",
        }
    }
}

event! {
    /// SUBAGENT_FINISHED: a subagent ended as it should.
    pub struct SubagentFinished {
        required {
            /// The subagent.
            subagent_run_id: String = "subagentRunId",
        }
        nullable {
            /// What it returns.
            result: Value = "result",
        }
        known {
            /// How it ended; absent: success.
            outcome: SubagentOutcome = "outcome",
        }
    }
}

event! {
    /// SUBAGENT_ERROR: a subagent failed; the run may go on.
    pub struct SubagentError {
        required {
            /// The subagent.
            subagent_run_id: String = "subagentRunId",
            /// What happened, for people.
            message: String = "message",
        }
        optional {
            /// What happened, for programs.
            code: String = "code",
        }
    }
}

/// How a subagent ended, when it did not fail: an object with `type`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    remote = "Self",
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "SubagentOutcome", transform = crate::wire::schema::refuse_nulls)
)]
pub enum SubagentOutcome {
    /// It is done.
    Success,
    /// It waits for people.
    Suspended {
        /// The questions it waits for.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
        interrupt_ids: Option<Vec<InterruptId>>,
    },
}

impl Tagged for SubagentOutcome {
    const TAG: &'static str = "type";
    const KNOWN: &'static [&'static str] = &["success", "suspended"];
}

object_enums!(SubagentOutcome);
