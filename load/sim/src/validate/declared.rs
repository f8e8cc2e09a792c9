//! What the service refuses of a `parametersJsonSchema`: no keyword it does not know, but what contradicts itself.

use serde_json::Value;

/// Levels that are looked at.
const MAX_DEPTH: usize = 64;

/// Returns the place and the sentence of the first fault.
pub(super) fn fault(schema: &Value) -> Option<String> {
    if schema.is_null() {
        return None;
    }
    if schema["$ref"].is_null()
        && schema["type"]
            .as_str()
            .is_none_or(|kind| !kind.eq_ignore_ascii_case("object"))
    {
        return Some(": the root schema of a function must be an object".to_owned());
    }
    node(schema, schema, "", 0)
}

fn node(root: &Value, schema: &Value, at: &str, depth: usize) -> Option<String> {
    if depth > MAX_DEPTH {
        return Some(format!("{at}: the schema is too deep"));
    }
    if let Some(target) = schema["$ref"].as_str() {
        let known = target
            .strip_prefix('#')
            .is_some_and(|path| root.pointer(path).is_some());
        return (!known).then(|| format!("{at}: reference to undefined schema at {at}"));
    }
    let properties = schema["properties"].as_object();
    let names = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str);
    for (place, name) in names.enumerate() {
        if properties.is_none_or(|properties| !properties.contains_key(name)) {
            return Some(format!("{at}.required[{place}]: property is not defined"));
        }
    }
    if schema["type"] == "array" && schema["items"].is_null() {
        return Some(format!("{at}.items: missing field."));
    }
    for (name, inner) in properties.into_iter().flatten() {
        if let Some(fault) = node(root, inner, &format!("{at}.properties[{name}]"), depth + 1) {
            return Some(fault);
        }
    }
    let lists = ["anyOf", "oneOf", "allOf", "prefixItems"].into_iter();
    let listed = lists.flat_map(|key| schema[key].as_array().into_iter().flatten());
    let mut inner = listed.chain(
        [&schema["items"], &schema["additionalProperties"]]
            .into_iter()
            .filter(|v| v.is_object()),
    );
    inner.find_map(|inner| node(root, inner, at, depth + 1))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn contradictions_are_refused_and_unknown_keywords_are_not() {
        let of = |inner: Value| json!({"type": "object", "properties": {"a": inner}});
        for (schema, expected) in [
            (json!({"type": "string"}), "must be an object"),
            (of(json!({"$ref": "#/$defs/x"})), "undefined schema"),
            (of(json!({"type": "array"})), ".properties[a].items: missing field"),
            (of(json!({"type": "object", "required": ["x"]})), "required[0]"),
            (of(json!({"anyOf": [{"type": "array"}]})), "missing field"),
        ] {
            assert!(fault(&schema).is_some_and(|fault| fault.contains(expected)), "{schema}");
        }
        let fine = json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/x"}, "b": {"const": 1, "title": "B"}},
            "$defs": {"x": {"type": "array", "items": {}}}, "x-new": 1});
        assert_eq!((fault(&fine), fault(&Value::Null)), (None, None));
    }
}
