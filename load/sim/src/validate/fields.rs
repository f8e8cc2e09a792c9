//! The fields of each message, as the service's JSON parser knows them: both spellings, nothing unknown.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// A message: its fields by camelCase name.
type Message = [(&'static str, Kind)];

/// What a field holds.
#[derive(Clone, Copy)]
enum Kind {
    /// A scalar, or a list of them.
    Plain,
    /// Any JSON.
    Free,
    /// A JSON object with any content.
    Object,
    Of(&'static Message),
    List(&'static Message),
    /// A map from names to messages.
    Map(&'static Message),
}

use Kind::{Free, List, Map as MapOf, Object, Of, Plain};

/// The bodies that are accepted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    Generate,
    CountTokens,
    Embed,
    BatchEmbed,
    CachedContent,
}

static CONTENT: &Message = &[("parts", List(PART)), ("role", Plain)];
static BLOB: &Message = &[("mimeType", Plain), ("data", Plain), ("displayName", Plain)];
static PART: &Message = &[
    ("text", Plain),
    ("thought", Plain),
    ("thoughtSignature", Plain),
    ("inlineData", Of(BLOB)),
    (
        "fileData",
        Of(&[("mimeType", Plain), ("fileUri", Plain), ("displayName", Plain)]),
    ),
    (
        "functionCall",
        Of(&[
            ("id", Plain),
            ("name", Plain),
            ("args", Object),
            ("partialArgs", Free),
            ("willContinue", Plain),
        ]),
    ),
    (
        "functionResponse",
        Of(&[
            ("id", Plain),
            ("name", Plain),
            ("response", Object),
            ("parts", List(&[("inlineData", Of(BLOB)), ("fileData", Free)])),
            ("willContinue", Plain),
            ("scheduling", Plain),
        ]),
    ),
    (
        "executableCode",
        Of(&[("id", Plain), ("language", Plain), ("code", Plain)]),
    ),
    (
        "codeExecutionResult",
        Of(&[("id", Plain), ("outcome", Plain), ("output", Plain)]),
    ),
    ("toolCall", Free),
    ("toolResponse", Free),
    (
        "videoMetadata",
        Of(&[("startOffset", Plain), ("endOffset", Plain), ("fps", Plain)]),
    ),
    ("mediaResolution", Free),
    ("partMetadata", Object),
    ("audioTranscription", Free),
];
/// An array rather than a slice, so that it can refer to itself.
static SCHEMA: [(&str, Kind); 22] = [
    ("type", Plain),
    ("format", Plain),
    ("title", Plain),
    ("description", Plain),
    ("nullable", Plain),
    ("enum", Plain),
    ("items", Of(&SCHEMA)),
    ("minItems", Plain),
    ("maxItems", Plain),
    ("properties", MapOf(&SCHEMA)),
    ("required", Plain),
    ("minProperties", Plain),
    ("maxProperties", Plain),
    ("minimum", Plain),
    ("maximum", Plain),
    ("minLength", Plain),
    ("maxLength", Plain),
    ("pattern", Plain),
    ("example", Free),
    ("anyOf", List(&SCHEMA)),
    ("propertyOrdering", Plain),
    ("default", Free),
];
static TOOL: &Message = &[
    (
        "functionDeclarations",
        List(&[
            ("name", Plain),
            ("description", Plain),
            ("parameters", Of(&SCHEMA)),
            ("parametersJsonSchema", Free),
            ("response", Of(&SCHEMA)),
            ("responseJsonSchema", Free),
            ("behavior", Plain),
        ]),
    ),
    ("googleSearch", Free),
    ("googleSearchRetrieval", Free),
    ("googleMaps", Free),
    ("codeExecution", Free),
    ("urlContext", Free),
    ("computerUse", Free),
    ("fileSearch", Free),
    ("mcpServers", Free),
];
static TOOL_CONFIG: &Message = &[
    (
        "functionCallingConfig",
        Of(&[
            ("mode", Plain),
            ("allowedFunctionNames", Plain),
            ("streamFunctionCallArguments", Plain),
        ]),
    ),
    ("retrievalConfig", Free),
    ("includeServerSideToolInvocations", Plain),
];
static GENERATION_CONFIG: &Message = &[
    ("maxOutputTokens", Plain),
    ("stopSequences", Plain),
    ("seed", Plain),
    ("responseModalities", Plain),
    ("responseMimeType", Plain),
    ("responseSchema", Of(&SCHEMA)),
    ("responseJsonSchema", Free),
    ("responseFormat", Free),
    (
        "thinkingConfig",
        Of(&[
            ("includeThoughts", Plain),
            ("thinkingBudget", Plain),
            ("thinkingLevel", Plain),
        ]),
    ),
    ("mediaResolution", Plain),
    ("presencePenalty", Plain),
    ("frequencyPenalty", Plain),
    ("responseLogprobs", Plain),
    ("logprobs", Plain),
    ("speechConfig", Free),
    ("imageConfig", Free),
    ("enableEnhancedCivicAnswers", Plain),
    ("temperature", Plain),
    ("topP", Plain),
    ("topK", Plain),
    ("candidateCount", Plain),
];
static GENERATE: &Message = &[
    ("model", Plain),
    ("contents", List(CONTENT)),
    ("systemInstruction", Of(CONTENT)),
    ("tools", List(TOOL)),
    ("toolConfig", Of(TOOL_CONFIG)),
    (
        "safetySettings",
        List(&[("category", Plain), ("threshold", Plain), ("method", Plain)]),
    ),
    ("generationConfig", Of(GENERATION_CONFIG)),
    ("cachedContent", Plain),
    ("serviceTier", Plain),
    ("store", Plain),
    ("labels", Object),
    ("continuationToken", Plain),
];
static EMBED: &Message = &[
    ("model", Plain),
    ("content", Of(CONTENT)),
    ("taskType", Plain),
    ("title", Plain),
    ("outputDimensionality", Plain),
    ("embedContentConfig", Free),
];
static COUNT: &Message = &[
    ("contents", List(CONTENT)),
    ("generateContentRequest", Of(GENERATE)),
    ("model", Plain),
];
static BATCH_EMBED: &Message = &[("requests", List(EMBED))];
static CACHED: &Message = &[
    ("model", Plain),
    ("contents", List(CONTENT)),
    ("systemInstruction", Of(CONTENT)),
    ("tools", List(TOOL)),
    ("toolConfig", Of(TOOL_CONFIG)),
    ("ttl", Plain),
    ("expireTime", Plain),
    ("displayName", Plain),
];

/// Returns `value` with camelCase names, or all its unknown names as one error.
pub(super) fn normalise(value: &Value, shape: Shape) -> Result<Value, ApiError> {
    let message: &Message = match shape {
        Shape::Generate => GENERATE,
        Shape::CountTokens => COUNT,
        Shape::Embed => EMBED,
        Shape::BatchEmbed => BATCH_EMBED,
        Shape::CachedContent => CACHED,
    };
    let mut violations = Vec::new();
    let value = read(value, Of(message), "", &mut violations);
    if violations.is_empty() {
        Ok(value)
    } else {
        Err(ApiError::bad_fields(&violations))
    }
}

/// Pairs of (path, description).
type Violations = Vec<(String, String)>;

fn read(value: &Value, kind: Kind, path: &str, violations: &mut Violations) -> Value {
    match (kind, value) {
        (_, Value::Null) | (Free, _) | (Object, Value::Object(_)) => value.clone(),
        (Plain, Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::String(_)) => value.clone(),
        (Of(message), Value::Object(object)) => read_message(object, message, path, violations),
        (List(message), Value::Array(items)) => items
            .iter()
            .enumerate()
            .map(|(at, item)| read(item, Of(message), &format!("{path}[{at}]"), violations))
            .collect(),
        // The parser takes a lone message where a list is expected.
        (List(message), Value::Object(_)) => {
            Value::Array(vec![read(value, Of(message), &format!("{path}[0]"), violations)])
        }
        (MapOf(message), Value::Object(object)) => object
            .iter()
            .map(|(name, item)| {
                (
                    name.clone(),
                    read(item, Of(message), &format!("{path}[{name}]"), violations),
                )
            })
            .collect::<Map<_, _>>()
            .into(),
        (Plain | Object | Of(_) | List(_) | MapOf(_), _) => {
            let text = format!("Invalid value at '{path}', {value}");
            violations.push((path.to_owned(), text));
            Value::Null
        }
    }
}

fn read_message(object: &Map<String, Value>, message: &Message, path: &str, violations: &mut Violations) -> Value {
    let mut known = Map::new();
    for (name, value) in object {
        let camel = camel_case(name);
        if let Some((field, kind)) = message.iter().find(|(field, _)| *field == camel) {
            let dot = if path.is_empty() { "" } else { "." };
            let inner = format!("{path}{dot}{}", snake_case(field));
            known.insert(camel, read(value, *kind, &inner, violations));
        } else {
            let place = if path.is_empty() {
                String::new()
            } else {
                format!(" at '{path}'")
            };
            let text = format!("Invalid JSON payload received. Unknown name \"{name}\"{place}: Cannot find field.");
            violations.push((path.to_owned(), text));
        }
    }
    Value::Object(known)
}

fn camel_case(name: &str) -> String {
    let mut upper = false;
    let mut camel = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '_' if !camel.is_empty() => upper = true,
            c if std::mem::take(&mut upper) => camel.push(c.to_ascii_uppercase()),
            c => camel.push(c),
        }
    }
    camel
}

fn snake_case(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 4);
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Shape, normalise};

    #[test]
    fn both_spellings_are_one_field() {
        let body = json!({"contents": {"parts": {"inline_data": {"mime_type": "a", "data": "b"}}},
            "tools": [{"function_declarations": [{"name": "f", "parameters_json_schema": {"any_thing": 1}}]}]});
        let expected = json!({"contents": [{"parts": [{"inlineData": {"mimeType": "a", "data": "b"}}]}],
            "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {"any_thing": 1}}]}]});
        assert_eq!(normalise(&body, Shape::Generate).unwrap(), expected);
    }

    #[test]
    fn an_unknown_name_is_reported_with_its_place() {
        let body = json!({"tools": [{"functionDeclarations": [{"name": "f", "parameters": {"$schema": "x"}}]}]});
        let error = normalise(&body, Shape::Generate).unwrap_err();
        let place = "tools[0].function_declarations[0].parameters";
        let text = format!("Invalid JSON payload received. Unknown name \"$schema\" at '{place}': Cannot find field.");
        assert_eq!(error.body["error"]["message"], text);
        assert_eq!(
            error.body["error"]["details"][0]["fieldViolations"],
            json!([{"field": place, "description": text}])
        );
    }
}
