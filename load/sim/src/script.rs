//! Scripted replies: what the next generate requests get instead of a made-up answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// One scripted reply: a fault, an error, or literal chunks and an end.
///
/// The first of `fault`, `error`, `chunks` that is set counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptedReply {
    /// Faults in the words of the README, such as `429;retry_after=1.5` or `stall`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// An HTTP error with its body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ScriptedError>,
    /// Chunks in order, sent as they are.
    pub chunks: Vec<ScriptedChunk>,
    /// What follows the last chunk.
    pub end: ScriptedEnd,
}

/// One chunk of a scripted reply; the first of `json`, `raw`, `call`, `thought`, `text` that is set counts.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptedChunk {
    /// Time before this chunk, after the one before it, in milliseconds.
    pub delay_ms: u64,
    /// Text of the answer.
    pub text: Option<String>,
    /// Text of a thought summary.
    pub thought: Option<String>,
    /// A function call: `{"name": .., "args": {..}}`, `id` is filled in when absent.
    pub call: Option<Value>,
    /// A whole chunk, sent as one event.
    pub json: Option<Value>,
    /// Bytes sent verbatim, without framing.
    pub raw: Option<String>,
}

/// What follows the last chunk of a scripted reply.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScriptedEnd {
    /// A closing chunk with `finishReason: STOP`.
    #[default]
    Stop,
    /// A closing chunk with another finishReason.
    Finish(String),
    /// A clean end of the body without finishReason.
    Truncate,
    /// The connection is dropped.
    Cut,
    /// Nothing more; the connection stays open.
    Stall,
}

/// A scripted HTTP error.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptedError {
    /// HTTP status.
    pub status: u16,
    /// Body; the usual one of the status when absent.
    pub body: Option<Value>,
    /// Further headers.
    pub headers: BTreeMap<String, String>,
}

impl ScriptedReply {
    /// Makes a reply of text chunks that ends with STOP.
    pub fn text<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Self {
        let chunk = |text: T| ScriptedChunk {
            text: Some(text.into()),
            ..ScriptedChunk::default()
        };
        Self {
            chunks: texts.into_iter().map(chunk).collect(),
            ..Self::default()
        }
    }

    /// Makes a reply that fails in the words of the README: `503`, `429;retry_after=1.5`, `cut`.
    #[must_use]
    pub fn fault(words: &str) -> Self {
        Self {
            fault: Some(words.to_owned()),
            ..Self::default()
        }
    }

    /// Makes a reply of one HTTP error.
    #[must_use]
    pub fn error(status: u16, body: Option<Value>) -> Self {
        Self {
            error: Some(ScriptedError {
                status,
                body,
                headers: BTreeMap::new(),
            }),
            ..Self::default()
        }
    }

    /// Makes a reply of one function call that ends with STOP.
    #[must_use]
    pub fn call(name: &str, args: Value) -> Self {
        Self::default().then_call(name, args)
    }

    /// Adds a text chunk that follows after `delay_ms`.
    #[must_use]
    pub fn then_text(mut self, delay_ms: u64, text: &str) -> Self {
        self.chunks.push(ScriptedChunk {
            delay_ms,
            text: Some(text.to_owned()),
            ..ScriptedChunk::default()
        });
        self
    }

    /// Adds a function call.
    #[must_use]
    pub fn then_call(mut self, name: &str, args: Value) -> Self {
        let call = Some(json!({"name": name, "args": args}));
        self.chunks.push(ScriptedChunk {
            call,
            ..ScriptedChunk::default()
        });
        self
    }

    /// Adds bytes that are sent verbatim.
    #[must_use]
    pub fn then_raw(mut self, raw: &str) -> Self {
        self.chunks.push(ScriptedChunk {
            raw: Some(raw.to_owned()),
            ..ScriptedChunk::default()
        });
        self
    }

    /// Sets what follows the last chunk.
    #[must_use]
    pub fn ending(mut self, end: ScriptedEnd) -> Self {
        self.end = end;
        self
    }
}
