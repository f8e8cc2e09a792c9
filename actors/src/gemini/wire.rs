//! The shapes that travel: the body of a request, the chunks of an answer, the body of an error.
//!
//! Reading is tolerant: every field may be absent or null, unknown ones are skipped. No rule about what a chunk means.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Role, Usage};

/// The key of a part that must come back with it unchanged.
pub(super) const SIGNATURE: &str = "thoughtSignature";
/// The key of a part that asks for a tool.
pub(super) const FUNCTION_CALL: &str = "functionCall";
/// The key of a part that brings the result of one.
pub(super) const FUNCTION_RESPONSE: &str = "functionResponse";

/// Body of `streamGenerateContent`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RequestBody<'a> {
    pub(crate) contents: Vec<Turn<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) system_instruction: Option<SystemInstruction<'a>>,
    pub(crate) generation_config: GenerationConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tools: Option<[Tool<'a>; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_config: Option<ToolConfig>,
}

/// All functions of a request: Gemini wants them in one tool.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tool<'a> {
    pub(crate) function_declarations: Vec<&'a Value>,
}

/// Whether functions may be called.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolConfig {
    pub(crate) function_calling_config: FunctionCallingConfig,
}

/// The mode of calling.
#[derive(Debug, Serialize)]
pub(crate) struct FunctionCallingConfig {
    pub(crate) mode: &'static str,
}

/// One turn of the request.
#[derive(Debug, Serialize)]
pub(crate) struct Turn<'a> {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Cow<'a, Value>>,
}

/// The system prompt.
#[derive(Debug, Serialize)]
pub(crate) struct SystemInstruction<'a> {
    pub(crate) parts: Vec<TextPart<'a>>,
}

/// A part that is text and nothing else.
#[derive(Debug, Serialize)]
pub(crate) struct TextPart<'a> {
    pub(crate) text: &'a str,
}

/// How the model answers. What is not set is not sent: later models refuse some of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GenerationConfig<'a> {
    pub(crate) max_output_tokens: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) thinking_config: Option<ThinkingConfig<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) response_json_schema: Option<&'a Value>,
}

/// How much the model thinks before it answers.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ThinkingConfig<'a> {
    pub(crate) thinking_level: &'a str,
}

/// One event of the stream.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Chunk<'a> {
    #[serde(borrow, default)]
    pub(crate) candidates: First<Candidate<'a>>,
    #[serde(borrow)]
    pub(crate) prompt_feedback: Option<PromptFeedback<'a>>,
    pub(crate) usage_metadata: Option<UsageMetadata>,
    #[serde(borrow)]
    pub(crate) model_version: Option<Text<'a>>,
    #[serde(borrow)]
    pub(crate) response_id: Option<Text<'a>>,
    pub(crate) error: Option<ErrorStatus>,
}

/// The first of a list, read without a list; the rest is skipped.
#[derive(Debug)]
pub(crate) struct First<T>(pub(crate) Option<T>);

impl<T> Default for First<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for First<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
            type Value = First<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }
            fn visit_unit<E: de::Error>(self) -> Result<First<T>, E> {
                Ok(First(None))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<First<T>, A::Error> {
                let first = seq.next_element()?;
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(First(first))
            }
        }
        deserializer.deserialize_any(Items(PhantomData))
    }
}

/// One answer; only the first is ever asked for.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Candidate<'a> {
    pub(crate) content: Option<CandidateContent>,
    #[serde(borrow)]
    pub(crate) finish_reason: Option<Text<'a>>,
}

/// The content of an answer.
#[derive(Debug, Deserialize)]
pub(crate) struct CandidateContent {
    pub(crate) parts: Option<Vec<Part>>,
}

/// Says that the prompt was refused.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PromptFeedback<'a> {
    #[serde(borrow)]
    pub(crate) block_reason: Option<Text<'a>>,
}

/// A string that is not copied when it needs no unescaping.
#[derive(Debug, Deserialize)]
pub(crate) struct Text<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// Tokens, as Gemini names them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UsageMetadata {
    #[serde(default)]
    prompt_token_count: Count,
    #[serde(default)]
    cached_content_token_count: Count,
    #[serde(default)]
    candidates_token_count: Count,
    #[serde(default)]
    thoughts_token_count: Count,
    #[serde(default)]
    total_token_count: Count,
}

impl From<UsageMetadata> for Usage {
    fn from(from: UsageMetadata) -> Self {
        Self {
            prompt: from.prompt_token_count.0,
            cached: from.cached_content_token_count.0,
            answer: from.candidates_token_count.0,
            thoughts: from.thoughts_token_count.0,
            total: from.total_token_count.0,
        }
    }
}

/// A number of tokens; anything that is none counts as 0, so that no answer fails for its statistics.
#[derive(Debug, Clone, Copy, Default)]
struct Count(u64);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Tolerant;
        impl<'de> Visitor<'de> for Tolerant {
            type Value = Count;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of tokens")
            }
            fn visit_u64<E: de::Error>(self, count: u64) -> Result<Count, E> {
                Ok(Count(count))
            }
            fn visit_i64<E: de::Error>(self, _: i64) -> Result<Count, E> {
                Ok(Count(0))
            }
            fn visit_f64<E: de::Error>(self, _: f64) -> Result<Count, E> {
                Ok(Count(0))
            }
            fn visit_bool<E: de::Error>(self, _: bool) -> Result<Count, E> {
                Ok(Count(0))
            }
            fn visit_str<E: de::Error>(self, count: &str) -> Result<Count, E> {
                Ok(Count(count.parse().unwrap_or(0)))
            }
            fn visit_unit<E: de::Error>(self) -> Result<Count, E> {
                Ok(Count(0))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Count, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Count(0))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Count, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Count(0))
            }
        }
        deserializer.deserialize_any(Tolerant)
    }
}

/// One part of an answer. Plain text, by far the most frequent, is one `String` and nothing else.
#[derive(Debug, Default)]
pub(crate) struct Part {
    pub(crate) text: Option<String>,
    /// The text is a summary of thinking, not of the answer.
    pub(crate) thought: bool,
    /// Every other field as it came.
    pub(crate) other: Map<String, Value>,
}

impl Part {
    /// Rebuilds the JSON of the part as it came.
    pub(crate) fn into_value(self) -> Value {
        let mut fields = self.other;
        if let Some(text) = self.text {
            fields.insert("text".to_owned(), Value::String(text));
        }
        if self.thought {
            fields.insert("thought".to_owned(), Value::Bool(true));
        }
        Value::Object(fields)
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Part;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a part")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
                let mut part = Part::default();
                while let Some(key) = map.next_key::<Text<'de>>()? {
                    match &*key.0 {
                        "text" => part.text = map.next_value()?,
                        "thought" => part.thought = map.next_value::<Option<bool>>()?.unwrap_or(false),
                        _ => {
                            let value: Value = map.next_value()?;
                            if !value.is_null() {
                                part.other.insert(key.0.into_owned(), value);
                            }
                        }
                    }
                }
                Ok(part)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

/// An error, as the body of an answer or within a stream.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct ErrorStatus {
    pub(crate) code: Option<u16>,
    pub(crate) status: Option<String>,
    /// Never shown and never logged: it may repeat what the user wrote.
    pub(crate) message: Option<String>,
    pub(crate) details: Option<Vec<Value>>,
}

impl ErrorStatus {
    /// Reads the body of an error answer: `{"error": ..}`, the same in an array, or nothing that can be read.
    pub(crate) fn from_body(body: &[u8]) -> Self {
        #[derive(Deserialize)]
        struct Wrapped {
            error: ErrorStatus,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Body {
            // First: a struct may be read from an array, too.
            Array([Wrapped; 1]),
            Plain(Wrapped),
        }
        let body = body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body);
        match serde_json::from_slice(body) {
            Ok(Body::Plain(wrapped) | Body::Array([wrapped])) => wrapped.error,
            Err(_) => Self::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_keeps_every_field_but_null() {
        let raw = json!({"text": "", "thought": true, "thoughtSignature": "s", "functionCall": {"args": {"a": 1}}});
        let part: Part = serde_json::from_value(raw.clone()).unwrap();
        assert_eq!(part.into_value(), raw);
        let part: Part = serde_json::from_str(r#"{"text": null, "thought": null, "functionCall": null}"#).unwrap();
        assert_eq!(part.into_value(), json!({}));
    }

    #[test]
    fn statistics_never_fail_an_answer() {
        let text = r#"{"usageMetadata": {"promptTokenCount": "9", "candidatesTokenCount": -1, "totalTokenCount": 1.5,
            "thoughtsTokenCount": {"a": [1]}, "cachedContentTokenCount": null, "new": true}}"#;
        let chunk: Chunk<'_> = serde_json::from_str(text).unwrap();
        assert_eq!(
            Usage::from(chunk.usage_metadata.unwrap()),
            Usage {
                prompt: 9,
                ..Usage::default()
            }
        );
    }

    #[test]
    fn error_bodies_are_read_in_every_form() {
        for body in [
            r#"{"error":{"code":429}}"#,
            r#"[{"error":{"code":429}}]"#,
            "\u{feff}\n[{\"error\":{\"code\":429}}]",
        ] {
            assert_eq!(ErrorStatus::from_body(body.as_bytes()).code, Some(429), "{body}");
        }
        for body in ["", "<html>", "[]", "{}", "null", r#"{"error":"text"}"#] {
            assert_eq!(ErrorStatus::from_body(body.as_bytes()).code, None, "{body}");
        }
    }
}
