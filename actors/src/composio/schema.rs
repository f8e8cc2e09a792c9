//! What the schema of a tool's arguments says about whether the tool can be offered.

use serde_json::Value;

/// Largest schema that is offered, in bytes: it is sent with every request to the model.
const SCHEMA_BYTES: usize = 64 * 1024;
/// Longest name of an argument that a model takes.
const NAME_BYTES: usize = 64;
/// Schemas are not nested deeper than this: what is deeper is not looked at, and not offered.
const DEPTH: usize = 64;

/// Returns the schema as the model may see it: `None` when the tool takes no arguments.
pub(super) fn parameters(schema: &Value) -> Option<&Value> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let takes_some = properties.is_some_and(|properties| !properties.is_empty());
    let is_combined = ["$ref", "anyOf", "oneOf", "allOf"]
        .iter()
        .any(|key| schema.get(key).is_some());
    (takes_some || is_combined).then_some(schema)
}

/// Whether a tool with these arguments can be offered: it takes no files, its arguments have names that a model takes, and
/// its schema is not huge.
pub(super) fn is_offerable(schema: &Value) -> bool {
    let size = serde_json::to_vec(schema).map_or(usize::MAX, |bytes| bytes.len());
    size <= SCHEMA_BYTES && is_sound(schema, 0)
}

fn is_sound(schema: &Value, depth: usize) -> bool {
    if depth > DEPTH {
        return false;
    }
    match schema {
        Value::Object(map) => {
            if map.get("file_uploadable") == Some(&Value::Bool(true)) {
                return false;
            }
            let properties = map.get("properties").and_then(Value::as_object);
            let named = properties.is_none_or(|properties| properties.keys().all(|name| is_name(name)));
            named && map.values().all(|value| is_sound(value, depth + 1))
        }
        Value::Array(items) => items.iter().all(|item| is_sound(item, depth + 1)),
        _ => true,
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn tools_that_take_files_are_not_offered_however_deep_they_hide_it() {
        let plain = json!({"type": "object", "properties": {"to": {"type": "string"}}});
        assert!(is_offerable(&plain));
        let upload = json!({"type": "object", "properties": {"a": {"anyOf": [
            {"type": "null"}, {"type": "object", "file_uploadable": true}]}}});
        assert!(!is_offerable(&upload));
        let in_defs = json!({"$defs": {"F": {"file_uploadable": true}}, "properties": {"f": {"$ref": "#/$defs/F"}}});
        assert!(!is_offerable(&in_defs));
    }

    #[test]
    fn names_that_a_model_does_not_take_are_not_offered() {
        let of = |name: &str| json!({"properties": {name: {"type": "string"}}});
        assert!(is_offerable(&of(&"a".repeat(64))));
        for odd in ["a b", "a-b", "ä", "", &"a".repeat(65)] {
            assert!(!is_offerable(&of(odd)), "{odd}");
        }
    }

    #[test]
    fn a_schema_has_its_bound() {
        let of = |size: usize| {
            let empty = json!({"description": ""});
            let rest = size - serde_json::to_vec(&empty).unwrap().len();
            json!({"description": "x".repeat(rest)})
        };
        assert!(is_offerable(&of(SCHEMA_BYTES - 1)) && is_offerable(&of(SCHEMA_BYTES)));
        assert!(!is_offerable(&of(SCHEMA_BYTES + 1)));
    }

    #[test]
    fn a_tool_without_arguments_has_no_schema() {
        for empty in [
            json!({}),
            json!({"type": "object"}),
            json!({"type": "object", "properties": {}}),
            json!(null),
        ] {
            assert_eq!(parameters(&empty), None);
        }
        assert!(parameters(&json!({"properties": {"a": {}}})).is_some());
    }
}
