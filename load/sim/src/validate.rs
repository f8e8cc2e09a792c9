//! What the service refuses: first the shape (fields), then the meaning (contents, turns, signatures).

mod contents;
mod declared;
mod fields;

use serde_json::Value;

use crate::error::ApiError;

pub(crate) use fields::Shape;

/// Reads a JSON body of one shape: spelling becomes camelCase, unknown fields are an error.
pub(crate) fn parse(body: &[u8], shape: Shape) -> Result<Value, ApiError> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| ApiError::invalid(&format!("Invalid JSON payload received. {error}")))?;
    fields::normalise(&value, shape)
}

/// Checks a normalised GenerateContentRequest for `model`.
pub(crate) fn generate(request: &Value, model: &str) -> Result<(), ApiError> {
    contents::check(request, model)?;
    let config = &request["generationConfig"];
    let level = config["thinkingConfig"]["thinkingLevel"].as_str().unwrap_or_default();
    if model.starts_with("gemini-4") && level.eq_ignore_ascii_case("minimal") {
        return Err(ApiError::invalid(
            "Thinking level MINIMAL is not supported for this model.",
        ));
    }
    if config["maxOutputTokens"].as_i64().is_some_and(|max| max < 1) {
        return Err(ApiError::invalid(
            "* GenerateContentRequest.generation_config.max_output_tokens: must be positive",
        ));
    }
    let has_schema = config["responseSchema"].is_object() || !config["responseJsonSchema"].is_null();
    if has_schema && config["responseMimeType"].as_str() != Some("application/json") {
        return Err(ApiError::invalid(
            "Structured output requires response_mime_type to be application/json.",
        ));
    }
    check_functions(request)
}

fn check_functions(request: &Value) -> Result<(), ApiError> {
    let mut names = Vec::new();
    for (t, tool) in items(&request["tools"]).iter().enumerate() {
        for (f, function) in items(&tool["functionDeclarations"]).iter().enumerate() {
            let at = format!("GenerateContentRequest.tools[{t}].function_declarations[{f}]");
            let name = function["name"].as_str().unwrap_or_default();
            let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
            let rest = name.chars().all(|c| c.is_ascii_alphanumeric() || "_.:-".contains(c));
            if !first || !rest || name.len() > 128 {
                return Err(ApiError::invalid(&format!(
                    "* {at}.name: Invalid function name. Must start with a letter or an underscore. Must be \
                     alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:), or dashes (-), with a maximum \
                     length of 128."
                )));
            }
            if names.contains(&name) {
                return Err(ApiError::invalid(&format!(
                    "* {at}.name: Duplicate function declaration found: {name}"
                )));
            }
            names.push(name);
            let schema = &function["parametersJsonSchema"];
            if let Some(fault) = declared::fault(schema) {
                return Err(ApiError::invalid(&format!("* {at}.parameters_json_schema{fault}")));
            }
            if function["parameters"].is_object() && !function["parametersJsonSchema"].is_null() {
                return Err(ApiError::invalid(&format!(
                    "* {at}: only one of parameters and parameters_json_schema may be set"
                )));
            }
        }
    }
    Ok(())
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
