//! The Gemini service: permits, deadlines, retries before the first token, streaming, cancel by drop.
//!
//! Owns the HTTP client, the permits, the circuit breaker, the model's configuration and its health. Knows nothing of
//! sessions' state and nothing of websockets.

use actix::prelude::*;
use kronos_protocol::{
    error::RunErrorCode,
    ids::{RunId, SessionId, UserId},
};
use serde_json::Value;

/// One answer to generate.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// The run that asks.
    pub run: RunId,
    /// Its session, for logs.
    pub session: SessionId,
    /// Its user, for the fair queue.
    pub user: UserId,
    /// `None`: the configured model.
    pub model: Option<String>,
    /// `None`: the configured system prompt, if any.
    pub system_prompt: Option<String>,
    /// The turns so far, oldest first; the last one is the user's. Each is a Gemini `Content` whose parts are raw JSON.
    pub contents: Vec<Content>,
    /// 0..2; `None`: the configured one, if any.
    pub temperature: Option<f64>,
    /// Tokens of the answer; `None`: the configured bound.
    pub max_tokens: Option<u32>,
    /// When the run must have ended.
    pub deadline: std::time::Instant,
}

/// One turn as Gemini reads it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Content {
    /// `user` or `model`.
    pub role: Role,
    /// Raw parts: what the model sent comes back unchanged, thought signatures included.
    pub parts: Vec<Value>,
}

/// Who speaks in a [`Content`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person, and results of tools.
    User,
    /// The model.
    Model,
}

/// Tokens of one request so far, cumulative. Absent upstream fields are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt: u64,
    /// Of those, read from the cache.
    pub cached: u64,
    /// Tokens of the answer.
    pub answer: u64,
    /// Tokens of thinking, billed as output.
    pub thoughts: u64,
    /// All of them.
    pub total: u64,
}

/// What a generation tells the session that asked; sent one at a time, the next only when the last was handled.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct GenerationEvent {
    /// The run that asked.
    pub run: RunId,
    /// What happened.
    pub progress: Progress,
}

/// The steps of a generation. After `Finished` or `Failed` nothing more comes.
#[derive(Debug, Clone)]
pub enum Progress {
    /// The upstream accepted the request with this model.
    Started {
        /// The model that answers.
        model: String,
    },
    /// An attempt failed before anything was shown; the next starts after the pause.
    Retrying {
        /// The number of the attempt that comes, from 2.
        attempt: u32,
        /// Why the last one failed.
        code: RunErrorCode,
        /// The pause in milliseconds.
        after_ms: u64,
    },
    /// More text of the answer; never empty.
    Delta {
        /// The text.
        text: String,
        /// Tokens so far, when the chunk said so.
        usage: Option<Usage>,
    },
    /// More text of the model's thinking (only when it was asked to include it); never empty.
    Thought {
        /// The text.
        text: String,
    },
    /// The answer is complete.
    Finished(Finished),
    /// The generation failed; what was shown stays.
    Failed(Failed),
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Gemini's own word, for example `STOP` or `MAX_TOKENS`.
    pub finish_reason: String,
    /// The answer was cut off at the token bound: said to the user.
    pub truncated: bool,
    /// Tokens used.
    pub usage: Usage,
    /// The model's parts to send back in later turns: consecutive unsigned text merged, signed parts as they came.
    pub parts: Vec<Value>,
    /// What Gemini called the model.
    pub model: String,
    /// Gemini's id of the response, when it gave one.
    pub response_id: Option<String>,
}

/// A failed generation.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The code that clients read.
    pub code: RunErrorCode,
    /// One sentence that a user understands; holds nothing of upstream's that is not safe to show.
    pub message: String,
    /// A later try may succeed.
    pub retryable: bool,
    /// When, in milliseconds, if known.
    pub after_ms: Option<u64>,
    /// HTTP status of the upstream, when it answered.
    pub upstream_status: Option<u16>,
    /// Gemini's finish or block reason, when that is what ended it.
    pub reason: Option<String>,
    /// Tokens used.
    pub usage: Usage,
    /// Attempts made.
    pub attempts: u32,
}

/// Stub.
#[derive(Clone)]
pub struct GeminiRef;
/// Stub.
pub struct GeminiShared;
/// Stub.
pub struct GenerationHandle;
impl GeminiRef {
    /// Stub.
    pub fn start_here(_: std::sync::Arc<GeminiShared>) -> Self {
        Self
    }
    /// Stub.
    pub fn generate(&self, _r: GenerateRequest, _s: Recipient<GenerationEvent>) -> Result<GenerationHandle, Failed> {
        Ok(GenerationHandle)
    }
}
