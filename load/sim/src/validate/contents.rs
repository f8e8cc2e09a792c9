//! Rules for `contents`: roles, parts, the order of turns, calls and their responses, thought signatures.

use serde_json::Value;

use super::items;
use crate::error::ApiError;
use crate::models;
use crate::signature;

/// The fields of a Part of which exactly one must be set.
const DATA: &[&str] = &[
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
];

pub(super) fn check(request: &Value, model: &str) -> Result<(), ApiError> {
    let contents = items(&request["contents"]);
    if contents.is_empty() {
        return Err(ApiError::invalid(
            "* GenerateContentRequest.contents: contents is not specified\n",
        ));
    }
    for (at, content) in contents.iter().enumerate() {
        check_content(content, at)?;
    }
    if models::generation(model) >= (3, 6) && contents.last().is_some_and(is_model) {
        return Err(ApiError::invalid(
            "Please ensure that the last turn is a user turn: a request that ends with a model turn is not supported \
             for this model.",
        ));
    }
    check_pairs(contents)?;
    if models::generation(model) >= (3, 0) {
        check_signatures(contents)
    } else {
        Ok(())
    }
}

fn check_content(content: &Value, at: usize) -> Result<(), ApiError> {
    let path = format!("GenerateContentRequest.contents[{at}]");
    if !matches!(content["role"].as_str(), None | Some("" | "user" | "model")) {
        return Err(ApiError::invalid("Please use a valid role: user, model."));
    }
    let parts = items(&content["parts"]);
    if parts.is_empty() {
        return Err(ApiError::invalid(&format!(
            "* {path}.parts: contents.parts must not be empty.\n"
        )));
    }
    for (p, part) in parts.iter().enumerate() {
        if DATA.iter().filter(|name| !part[**name].is_null()).count() != 1 {
            return Err(ApiError::invalid(&format!(
                "* {path}.parts[{p}].data: required oneof field 'data' must have one initialized field\n"
            )));
        }
        let response = &part["functionResponse"];
        if response.is_object() && response["name"].as_str().is_none_or(str::is_empty) {
            return Err(ApiError::invalid(&format!(
                "* {path}.parts[{p}].function_response.name: Name cannot be empty.\n"
            )));
        }
    }
    Ok(())
}

/// Each turn of calls is followed by exactly as many responses, and responses follow calls only.
fn check_pairs(contents: &[Value]) -> Result<(), ApiError> {
    for (at, content) in contents.iter().enumerate() {
        let calls = count(content, "functionCall");
        let responses = count(content, "functionResponse");
        if calls > 0
            && let Some(next) = contents.get(at + 1)
            && (count(next, "functionResponse") != calls || !ids_match(content, next))
        {
            return Err(ApiError::invalid(
                "Please ensure that the number of function response parts is equal to the number of function call \
                 parts of the function call turn.",
            ));
        }
        if responses > 0 && interleaved(content) {
            return Err(ApiError::invalid(
                "Please ensure that function response parts come before any other part of their turn.",
            ));
        }
        let previous = at.checked_sub(1).and_then(|before| contents.get(before));
        if responses > 0 && previous.is_none_or(|turn| count(turn, "functionCall") == 0) {
            return Err(ApiError::invalid(
                "Please ensure that function response turn comes immediately after a function call turn.",
            ));
        }
    }
    Ok(())
}

/// In the current turn, the first call of each model step carries its signature.
fn check_signatures(contents: &[Value]) -> Result<(), ApiError> {
    let ordinary = |content: &Value| !is_model(content) && count(content, "functionResponse") == 0;
    let turn = contents.iter().rposition(ordinary).unwrap_or(0);
    for (at, content) in contents.iter().enumerate().skip(turn) {
        let first = items(&content["parts"])
            .iter()
            .find(|part| part["functionCall"].is_object());
        let Some(part) = first else { continue };
        let signature = part["thoughtSignature"].as_str().unwrap_or_default();
        let name = part["functionCall"]["name"].as_str().unwrap_or_default();
        if !signature.is_empty() && !signature::fits(signature, &part["functionCall"]) {
            return Err(ApiError::invalid("Corrupted thought signature."));
        }
        if signature.is_empty() {
            return Err(ApiError::invalid(&format!(
                "Function call is missing a thought_signature in functionCall parts. This is required for tools to \
                 work correctly, and missing thought_signature may lead to degraded model performance. Additional \
                 data, function call `default_api:{name}` , position {}.",
                at + 1
            )));
        }
    }
    Ok(())
}

/// Says whether each id of a response is that of a call.
fn ids_match(calls: &Value, responses: &Value) -> bool {
    let ids = |content: &'_ Value, field: &str| -> Vec<String> {
        let ids = items(&content["parts"])
            .iter()
            .filter_map(|part| part[field]["id"].as_str());
        ids.map(str::to_owned).collect()
    };
    let asked = ids(calls, "functionCall");
    asked.is_empty() || ids(responses, "functionResponse").iter().all(|id| asked.contains(id))
}

/// Says whether another part stands before a function response.
fn interleaved(content: &Value) -> bool {
    let is_response = |part: &Value| part["functionResponse"].is_object();
    items(&content["parts"])
        .iter()
        .skip_while(|part| is_response(part))
        .any(is_response)
}

fn is_model(content: &Value) -> bool {
    content["role"].as_str() == Some("model")
}

fn count(content: &Value, field: &str) -> usize {
    items(&content["parts"])
        .iter()
        .filter(|part| part[field].is_object())
        .count()
}
