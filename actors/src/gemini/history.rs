//! Puts a conversation into the form that Gemini takes. Pure.
//!
//! Roles alternate, no part and no turn is empty, the last turn is the user's; each call has its one result, right behind
//! it; in the turn at work each step's first call is signed. What the model sent goes back as it came.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::function::{self, FunctionCall};
use super::wire::{FUNCTION_CALL, FUNCTION_RESPONSE, SIGNATURE, Turn};
use super::{Content, Role};

/// Stands for the signature of a call that another model made: Gemini then asks for none.
const NO_SIGNATURE: &str = "skip_thought_signature_validator";
/// What the model reads of a call whose result is not in the conversation.
const NO_RESULT: &str = "There is no result: the call was not finished.";

/// Makes the turns of a request.
///
/// An empty text with a signature is not empty. A call without a result gets one that says so, and a result without a
/// call is left out: Gemini refuses both. Results come first in their turn, in the order of their calls.
pub(crate) fn turns(contents: &[Content]) -> Vec<Turn<'_>> {
    let mut turns: Vec<Turn<'_>> = Vec::with_capacity(contents.len());
    for turn in merged(contents) {
        let turn = match turn.role {
            Role::User => answered(turns.last(), turn),
            Role::Model => turn,
        };
        push(&mut turns, turn);
    }
    while turns.last().is_some_and(|turn| turn.role == Role::Model) {
        turns.pop();
    }
    sign(&mut turns);
    turns
}

/// Neighbours of a role become one turn.
fn merged(contents: &[Content]) -> Vec<Turn<'_>> {
    let mut turns = Vec::with_capacity(contents.len());
    for content in contents {
        let parts = content
            .parts
            .iter()
            .filter(|part| has_data(part))
            .map(Cow::Borrowed)
            .collect();
        let role = content.role;
        push(&mut turns, Turn { role, parts });
    }
    turns
}

fn push<'a>(turns: &mut Vec<Turn<'a>>, turn: Turn<'a>) {
    match turns.last_mut() {
        Some(last) if last.role == turn.role => last.parts.extend(turn.parts),
        _ if turn.parts.is_empty() => {}
        _ => turns.push(turn),
    }
}

/// Pairs the results of a user's turn with the calls of the model's turn before it.
fn answered<'a>(before: Option<&Turn<'a>>, turn: Turn<'a>) -> Turn<'a> {
    let calls = before.map(|turn| turn.parts.as_slice()).unwrap_or_default();
    let calls: Vec<FunctionCall> = calls.iter().filter_map(|part| FunctionCall::of_part(part)).collect();
    let is_result = |part: &Cow<'_, Value>| part.get(FUNCTION_RESPONSE).is_some();
    let (mut results, rest): (Vec<_>, Vec<_>) = turn.parts.into_iter().partition(is_result);
    if calls.is_empty() && results.is_empty() {
        return Turn {
            role: turn.role,
            parts: rest,
        };
    }
    let mut parts = Vec::with_capacity(calls.len() + rest.len());
    for call in &calls {
        parts.push(match results.iter().position(|result| answers(result, call)) {
            Some(at) => results.remove(at),
            None => Cow::Owned(function::function_response(call, json!({"error": NO_RESULT}))),
        });
    }
    parts.extend(rest);
    Turn { role: turn.role, parts }
}

fn answers(result: &Value, call: &FunctionCall) -> bool {
    let word = |key: &str| result[FUNCTION_RESPONSE][key].as_str();
    match (word("id"), call.id.as_deref()) {
        (Some(id), Some(of_call)) => id == of_call,
        _ => word("name") == Some(call.name.as_str()),
    }
}

/// Signs the first call of each step since the newest message where it has no signature.
fn sign(turns: &mut [Turn<'_>]) {
    let is_message = |turn: &Turn<'_>| {
        turn.role == Role::User && turn.parts.iter().all(|part| part.get(FUNCTION_RESPONSE).is_none())
    };
    let begin = turns.iter().rposition(is_message).unwrap_or(0);
    for turn in turns.iter_mut().skip(begin).filter(|turn| turn.role == Role::Model) {
        let first = turn.parts.iter_mut().find(|part| part.get(FUNCTION_CALL).is_some());
        let signed = |part: &Value| part[SIGNATURE].as_str().is_some_and(|text| !text.is_empty());
        if let Some(part) = first.filter(|part| !signed(part)) {
            part.to_mut()[SIGNATURE] = json!(NO_SIGNATURE);
        }
    }
}

fn has_data(part: &Value) -> bool {
    let Some(fields) = part.as_object() else { return false };
    let beside_data = [
        "text",
        "thought",
        SIGNATURE,
        "partMetadata",
        "videoMetadata",
        "mediaResolution",
    ];
    match fields.get("text") {
        Some(Value::String(text)) if !text.is_empty() => true,
        Some(Value::String(_)) if fields.contains_key(SIGNATURE) => true,
        _ => fields
            .iter()
            .any(|(key, value)| !beside_data.contains(&key.as_str()) && !value.is_null()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(role: Role, parts: Value) -> Content {
        Content {
            role,
            parts: parts.as_array().unwrap().clone(),
        }
    }

    #[test]
    fn neighbours_are_merged_and_empty_parts_dropped_but_no_signature() {
        let contents = [
            content(Role::User, json!([{"text": ""}])),
            content(Role::User, json!([{"text": "a"}, {}, {"thought": true}, null])),
            content(Role::User, json!([{"text": "b"}])),
            content(Role::Model, json!([{"text": ""}])),
            content(
                Role::Model,
                json!([{"text": "c"}, {"text": "", "thoughtSignature": "s"}]),
            ),
            content(Role::User, json!([{"text": "d"}])),
            content(Role::Model, json!([{"text": "unfinished"}])),
        ];
        let turns = serde_json::to_value(turns(&contents)).unwrap();
        assert_eq!(
            turns,
            json!([
                {"role": "user", "parts": [{"text": "a"}, {"text": "b"}]},
                {"role": "model", "parts": [{"text": "c"}, {"text": "", "thoughtSignature": "s"}]},
                {"role": "user", "parts": [{"text": "d"}]},
            ])
        );
    }

    #[test]
    fn a_turn_without_parts_between_two_of_a_role_does_not_part_them() {
        let contents = [
            content(Role::User, json!([{"text": "a"}])),
            content(Role::Model, json!([])),
            content(Role::User, json!([{"text": "b"}])),
        ];
        assert_eq!(turns(&contents).len(), 1);
    }

    fn call(id: &str, name: &str, signature: Option<&str>) -> Value {
        let mut part = json!({"functionCall": {"id": id, "name": name, "args": {}}});
        if let Some(signature) = signature {
            part[SIGNATURE] = json!(signature);
        }
        part
    }

    fn result(id: &str, name: &str) -> Value {
        json!({"functionResponse": {"id": id, "name": name, "response": {"output": id}}})
    }

    fn json_of(contents: &[Content]) -> Value {
        serde_json::to_value(turns(contents)).unwrap()
    }

    #[test]
    fn calls_and_their_results_go_back_as_they_came() {
        let contents = [
            content(Role::User, json!([{"text": "a"}])),
            content(
                Role::Model,
                json!([{"text": "I look."}, call("1", "f", Some("s")), call("2", "g", None)]),
            ),
            content(
                Role::User,
                json!([result("1", "f"), result("2", "g"), {"text": "steered in"}]),
            ),
        ];
        assert_eq!(json_of(&contents), serde_json::to_value(&contents).unwrap());
    }

    #[test]
    fn each_call_has_one_result_in_its_order() {
        let contents = [
            content(Role::User, json!([{"text": "a"}, result("0", "f")])),
            content(
                Role::Model,
                json!([call("1", "f", Some("s")), call("2", "g", None), call("3", "h", None)]),
            ),
            content(Role::User, json!([{"text": "b"}])),
            content(
                Role::User,
                json!([result("3", "h"), result("1", "f"), result("9", "f")]),
            ),
            content(Role::Model, json!([{"text": "c"}])),
            content(Role::User, json!([result("1", "f")])),
            content(Role::Model, json!([{"text": "d"}])),
            content(Role::User, json!([{"text": "e"}])),
        ];
        let missing = json!({"functionResponse": {"id": "2", "name": "g", "response": {"error": NO_RESULT}}});
        assert_eq!(
            json_of(&contents),
            json!([
                {"role": "user", "parts": [{"text": "a"}]},
                {"role": "model", "parts": [call("1", "f", Some("s")), call("2", "g", None), call("3", "h", None)]},
                {"role": "user", "parts": [result("1", "f"), missing, result("3", "h"), {"text": "b"}]},
                {"role": "model", "parts": [{"text": "c"}, {"text": "d"}]},
                {"role": "user", "parts": [{"text": "e"}]},
            ])
        );
    }

    #[test]
    fn results_without_ids_are_told_apart_by_their_names() {
        let response = |name: &str, n: u8| json!({"functionResponse": {"name": name, "response": {"output": n}}});
        let plain = |name: &str| json!({"functionCall": {"name": name}, SIGNATURE: "s"});
        let contents = [
            content(Role::User, json!([{"text": "a"}])),
            content(Role::Model, json!([plain("f"), plain("g"), plain("f")])),
            content(
                Role::User,
                json!([response("g", 1), response("f", 2), response("f", 3)]),
            ),
        ];
        let sorted = json!([response("f", 2), response("g", 1), response("f", 3)]);
        assert_eq!(json_of(&contents)[2]["parts"], sorted);
    }

    #[test]
    fn a_call_that_another_model_made_in_this_turn_needs_no_signature() {
        let contents = [
            content(Role::User, json!([{"text": "a"}])),
            content(Role::Model, json!([call("0", "f", None)])),
            content(Role::User, json!([result("0", "f")])),
            content(Role::Model, json!([{"text": "done"}])),
            content(Role::User, json!([{"text": "b"}])),
            content(Role::Model, json!([call("1", "f", None), call("2", "g", None)])),
            content(
                Role::User,
                json!([result("1", "f"), result("2", "g"), {"text": "steered in"}]),
            ),
            content(Role::Model, json!([call("3", "f", Some("own"))])),
            content(Role::User, json!([result("3", "f")])),
        ];
        let sent = json_of(&contents);
        let signatures = |turn: usize| {
            let parts = sent[turn]["parts"].as_array().unwrap();
            parts
                .iter()
                .map(|part| part[SIGNATURE].as_str().unwrap_or(""))
                .collect::<Vec<_>>()
        };
        assert_eq!(signatures(1), [""], "an older turn is not checked");
        assert_eq!(signatures(5), [NO_SIGNATURE, ""]);
        assert_eq!(signatures(7), ["own"]);
    }
}
