//! Functions that the model may call, its calls, and what goes back for them.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::wire::{FUNCTION_CALL, FUNCTION_RESPONSE};

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name, as calls repeat it.
    pub name: String,
    /// What it is for, in the words that the model reads.
    pub description: String,
    /// JSON schema of its arguments, as its source gives it; `None`: it takes none.
    pub parameters: Option<Arc<Value>>,
}

/// Whether the model may call functions.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Calling {
    /// As it sees fit.
    #[default]
    Auto,
    /// It must call one of them.
    Any,
    /// It must not.
    None,
    /// Text, or a call that fits its schema.
    Validated,
}

/// A call that the model asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct FunctionCall {
    /// Gemini's id of the call, when it gave one; goes back with the result.
    pub id: Option<String>,
    /// Name of the function; never empty. It need not be one that was declared.
    pub name: String,
    /// The arguments; empty when there are none. They need not fit the function's schema.
    pub arguments: Map<String, Value>,
}

impl FunctionCall {
    /// Reads a call from a part; `None` when the part is none, or names no function.
    pub(super) fn of_part(part: &Value) -> Option<Self> {
        let call = part.get(FUNCTION_CALL)?;
        let word = |key: &str| call.get(key)?.as_str().filter(|text| !text.is_empty());
        Some(Self {
            id: word("id").map(str::to_owned),
            name: word("name")?.to_owned(),
            arguments: call.get("args").and_then(Value::as_object).cloned().unwrap_or_default(),
        })
    }
}

/// Returns the calls among a model's parts, in their order.
#[must_use]
pub fn calls_of(parts: &[Value]) -> Vec<FunctionCall> {
    parts.iter().filter_map(FunctionCall::of_part).collect()
}

/// Makes the part that answers `call`: with its id when it had one.
///
/// An object goes back as it is (`{"error": ..}` says that the call failed); anything else as `{"output": ..}`.
#[must_use]
pub fn function_response(call: &FunctionCall, response: Value) -> Value {
    let response = match response {
        object @ Value::Object(_) => object,
        other => json!({"output": other}),
    };
    let mut answer = json!({"name": call.name, "response": response});
    if let Some(id) = &call.id {
        answer["id"] = json!(id);
    }
    json!({FUNCTION_RESPONSE: answer})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_read_in_order_and_tolerantly() {
        let parts = [
            json!({"text": "I look."}),
            json!({"functionCall": {"id": "1", "name": "f", "args": {"a": 1}}, "thoughtSignature": "s"}),
            json!({"functionCall": {"id": "", "name": "g"}}),
            json!({"functionCall": {"id": "3", "args": {}}}),
            json!({"functionCall": {"name": "h", "args": "text"}}),
        ];
        let calls = calls_of(&parts);
        let names: Vec<_> = calls.iter().map(|call| (call.id.as_deref(), &*call.name)).collect();
        assert_eq!(names, [(Some("1"), "f"), (None, "g"), (None, "h")]);
        assert_eq!(calls[0].arguments["a"], 1);
        assert!(calls[1].arguments.is_empty() && calls[2].arguments.is_empty());
    }

    #[test]
    fn a_response_is_an_object_with_the_id_of_its_call() {
        let mut call = calls_of(&[json!({"functionCall": {"id": "1", "name": "f"}})]).remove(0);
        assert_eq!(
            function_response(&call, json!({"error": "no"})),
            json!({"functionResponse": {"id": "1", "name": "f", "response": {"error": "no"}}})
        );
        call.id = None;
        for plain in [json!([1]), json!(null), json!("a"), json!(2), json!(true)] {
            assert_eq!(
                function_response(&call, plain.clone()),
                json!({"functionResponse": {"name": "f", "response": {"output": plain}}})
            );
        }
    }
}
