//! Brackets of a run and of its steps, and what a run ends with.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event;
use crate::ids::RunId;
use crate::message::{Interrupt, RunInput};
use crate::wire::macros::{object_enums, wire_struct};
use crate::wire::{Tagged, not_null};

event! {
    /// RUN_STARTED: a run begins. Its `input` is how a user message enters the log and reaches other devices.
    pub struct RunStarted {
        required {
            /// The session.
            thread_id: String = "threadId",
            /// The run.
            run_id: RunId = "runId",
        }
        optional {
            /// The AG-UI version of what follows, such as `1.0`.
            protocol_version: String = "protocolVersion",
            /// The run this one branches from.
            parent_run_id: RunId = "parentRunId",
            /// What the run was asked; of the messages only the new ones.
            input: Box<RunInput> = "input",
        }
    }
}

event! {
    /// RUN_FINISHED: a run ended as it should.
    pub struct RunFinished {
        required {
            /// The session.
            thread_id: String = "threadId",
            /// The run.
            run_id: RunId = "runId",
        }
        optional {
            /// What was used, one entry per model; a resumed run reports only its own calls.
            usage: Vec<TokenUsage> = "usage",
        }
        nullable {
            /// What the run returns, besides its messages.
            result: Value = "result",
        }
        known {
            /// How it ended; absent: success.
            outcome: Outcome = "outcome",
        }
    }
}

event! {
    /// RUN_ERROR: a run failed. Whatever was open is closed by it.
    pub struct RunError {
        required {
            /// What happened, for people.
            message: String = "message",
        }
        optional {
            /// What happened, for programs; ours are [`RunErrorCode`](crate::RunErrorCode).
            code: String = "code",
            /// What was used, one entry per model.
            usage: Vec<TokenUsage> = "usage",
        }
    }
}

event! {
    /// STEP_STARTED: a step begins.
    pub struct StepStarted in lane {
        required {
            /// The step's identity within its lane.
            step_name: String = "stepName",
        }
    }
}

event! {
    /// STEP_FINISHED: a step ends.
    pub struct StepFinished in lane {
        required {
            /// The step's identity within its lane.
            step_name: String = "stepName",
        }
    }
}

/// How a run ended, when it did not fail: an object with `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    remote = "Self",
    tag = "type",
    rename_all = "lowercase",
    rename_all_fields = "camelCase"
)]
#[cfg_attr(
    feature = "schema",
    derive(schemars::JsonSchema),
    schemars(rename = "Outcome", transform = crate::wire::schema::refuse_nulls)
)]
pub enum Outcome {
    /// It is done.
    Success {
        /// Calls left for the client to run; it answers them in its next run.
        #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "not_null")]
        pending_tool_call_ids: Option<Vec<String>>,
    },
    /// It waits for people; the next run brings their answers.
    Interrupt {
        /// The questions, at least one.
        #[serde(deserialize_with = "at_least_one")]
        #[cfg_attr(feature = "schema", schemars(length(min = 1)))]
        interrupts: Vec<Interrupt>,
    },
    /// Somebody stopped it.
    Cancelled,
}

impl Tagged for Outcome {
    const TAG: &'static str = "type";
    const KNOWN: &'static [&'static str] = &["success", "interrupt", "cancelled"];
}

fn at_least_one<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Interrupt>, D::Error> {
    let interrupts = Vec::deserialize(deserializer)?;
    if interrupts.is_empty() {
        return Err(serde::de::Error::custom("interrupts: must have at least one"));
    }
    Ok(interrupts)
}

wire_struct! {
    /// Tokens used with one model. The last three counts are parts of the totals, never additions.
    #[derive(Debug, Clone, Default, PartialEq, Eq)]
    pub struct TokenUsage {
        optional {
            /// Who was paid, such as `google`.
            provider: String = "provider",
            /// Which model.
            model: String = "model",
            /// Tokens read.
            input_tokens: u64 = "inputTokens",
            /// Tokens written.
            output_tokens: u64 = "outputTokens",
            /// Both together, as the provider counts.
            total_tokens: u64 = "totalTokens",
            /// Of the written ones, those of reasoning.
            reasoning_tokens: u64 = "reasoningTokens",
            /// Of the read ones, those from a cache.
            cached_input_tokens: u64 = "cachedInputTokens",
            /// Of the read ones, those written to a cache.
            cache_write_input_tokens: u64 = "cacheWriteInputTokens",
        }
    }
}

object_enums!(Outcome);
