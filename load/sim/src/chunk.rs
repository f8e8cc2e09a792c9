//! The chunks of one answer and how they become JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};
use time::format_description::well_known::Rfc3339;

use crate::clock;

/// What a chunk carries.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// Parts of candidate 0; fields beside `content` such as finishReason.
    Candidate {
        parts: Vec<Value>,
        beside: Map<String, Value>,
    },
    /// A blocked prompt: no candidates.
    Blocked,
    /// A whole chunk from a script.
    Literal(Value),
    /// Bytes from a script, without framing.
    Raw(String),
}

/// One chunk and when it is due.
#[derive(Debug, Clone)]
pub(crate) struct Chunk {
    pub(crate) content: Content,
    /// Time from the arrival of the request.
    pub(crate) due: Duration,
    /// Tokens in this chunk.
    pub(crate) tokens: u32,
    pub(crate) thought_tokens: u32,
}

impl Chunk {
    pub(crate) fn parts(parts: Vec<Value>, tokens: u32) -> Self {
        Self::new(
            Content::Candidate {
                parts,
                beside: Map::new(),
            },
            tokens,
        )
    }

    pub(crate) fn text(text: &str, tokens: u32) -> Self {
        Self::parts(vec![json!({"text": text})], tokens)
    }

    pub(crate) fn new(content: Content, tokens: u32) -> Self {
        Self {
            content,
            due: Duration::ZERO,
            tokens,
            thought_tokens: 0,
        }
    }

    /// Puts the time in the place of its text: microseconds since 1970 and a space.
    pub(crate) fn tell_time(&mut self) {
        let Content::Candidate { parts, .. } = &mut self.content else {
            return;
        };
        let said = |part: &&mut Value| part["text"].as_str().is_some_and(|text| !text.is_empty());
        if let Some(part) = parts.iter_mut().find(said) {
            part["text"] = json!(format!("{} ", clock::now().unix_timestamp_nanos() / 1000));
        }
    }

    /// Sets a field beside `content` of the candidate.
    pub(crate) fn set(&mut self, field: &str, value: Value) {
        if let Content::Candidate { beside, .. } = &mut self.content {
            beside.insert(field.to_owned(), value);
        }
    }
}

/// What all chunks of an answer share.
#[derive(Debug, Clone)]
pub(crate) struct Envelope {
    pub(crate) model: String,
    pub(crate) response_id: String,
    pub(crate) prompt_tokens: u32,
    pub(crate) cached_tokens: u32,
    pub(crate) stamped: bool,
}

/// Tokens of an answer so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) answer: u32,
    pub(crate) thoughts: u32,
}

impl Used {
    pub(crate) fn add(&mut self, chunk: &Chunk) {
        self.answer += chunk.tokens;
        self.thoughts += chunk.thought_tokens;
    }
}

impl Envelope {
    /// Renders a chunk after whose tokens `used` are spent; `None` for raw bytes.
    pub(crate) fn render(&self, content: &Content, used: Used) -> Option<Value> {
        let mut chunk = match content {
            Content::Raw(_) => return None,
            Content::Literal(value) => value.clone(),
            Content::Blocked => json!({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
            Content::Candidate { parts, beside } => {
                let mut candidate = beside.clone();
                let content = if parts.is_empty() {
                    json!({})
                } else {
                    json!({"parts": parts, "role": "model"})
                };
                candidate.insert("content".to_owned(), content);
                candidate.insert("index".to_owned(), json!(0));
                json!({"candidates": [candidate]})
            }
        };
        if !matches!(content, Content::Literal(_)) {
            chunk["usageMetadata"] = self.usage(used);
            chunk["modelVersion"] = json!(self.model);
            chunk["responseId"] = json!(self.response_id);
        }
        if self.stamped && chunk.is_object() {
            let now = clock::now();
            chunk["createTime"] = json!(now.format(&Rfc3339).unwrap_or_default());
            chunk["simSentUnixNanos"] = json!(now.unix_timestamp_nanos().to_string());
        }
        Some(chunk)
    }

    fn usage(&self, used: Used) -> Value {
        let mut usage = json!({
            "promptTokenCount": self.prompt_tokens,
            "totalTokenCount": self.prompt_tokens + used.answer + used.thoughts,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": self.prompt_tokens}],
            "serviceTier": "standard",
        });
        let counts = [
            ("candidatesTokenCount", used.answer),
            ("thoughtsTokenCount", used.thoughts),
            ("cachedContentTokenCount", self.cached_tokens),
        ];
        for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            usage[name] = json!(count);
        }
        usage
    }
}

/// Merges the chunks of an answer into the one of a call without streaming.
pub(crate) fn merge(chunks: &[Chunk]) -> Chunk {
    let mut merged = Chunk::parts(Vec::new(), 0);
    for chunk in chunks {
        merged.tokens += chunk.tokens;
        merged.thought_tokens += chunk.thought_tokens;
        merged.due = merged.due.max(chunk.due);
        match (&chunk.content, &mut merged.content) {
            (
                Content::Candidate { parts, beside },
                Content::Candidate {
                    parts: all,
                    beside: all_beside,
                },
            ) => {
                all_beside.extend(beside.clone());
                parts.iter().for_each(|part| append(all, part));
            }
            (Content::Raw(_), _) => {}
            (other, _) => merged.content = other.clone(),
        }
    }
    merged
}

/// Appends a part, joining texts of the same kind; a signature stays on the part that carries it.
fn append(parts: &mut Vec<Value>, part: &Value) {
    let joinable = part["text"].is_string();
    if let Some(last) = parts.last_mut().filter(|_| joinable) {
        let open = last["text"].is_string() && last["thoughtSignature"].is_null() && last["thought"] == part["thought"];
        if open {
            let text = [&last["text"], &part["text"]]
                .map(|text| text.as_str().unwrap_or_default())
                .concat();
            let mut joined = part.clone();
            joined["text"] = json!(text);
            *last = joined;
            return;
        }
        if part["text"] == "" && part["thoughtSignature"].is_null() {
            return;
        }
    }
    parts.push(part.clone());
}
