//! Checks the arguments of a tool against its schema, in the words of the real service.

use serde_json::{Map, Value};

/// How deep references and nested values are followed.
const DEPTH: usize = 24;

/// Fills in defaults at the top level and returns the arguments, or what is wrong with them.
pub(crate) fn arguments(schema: &Value, given: &Value) -> Result<Map<String, Value>, String> {
    let mut arguments = match given {
        Value::Null => Map::new(),
        Value::Object(fields) => fields.clone(),
        _ => return Err("Input should be a valid dictionary on parameter `arguments`".to_owned()),
    };
    let mut wrong = Vec::new();
    check(schema, schema, &Value::Object(arguments.clone()), "", DEPTH, &mut wrong);
    if !wrong.is_empty() {
        return Err(wrong.join("; "));
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(default) = property.get("default") {
            arguments.entry(name.clone()).or_insert_with(|| default.clone());
        }
    }
    Ok(arguments)
}

/// Follows `#/$defs/Name`.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, depth: usize, wrong: &mut Vec<String>) {
    let Some(depth) = depth.checked_sub(1) else {
        return;
    };
    let schema = resolve(root, schema);
    if let Some(choices) = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array()) {
        check_choices(root, choices, value, at, depth, wrong);
        return;
    }
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let names: Vec<String> = allowed.iter().map(|name| name.to_string().replace('"', "'")).collect();
        wrong.push(format!("Input should be {} on parameter `{at}`", names.join(" or ")));
        return;
    }
    if let Some(fault) = wrong_type(schema, value) {
        wrong.push(format!("Input should be {fault} on parameter `{at}`"));
        return;
    }
    check_bounds(schema, value, at, wrong);
    if let Some(items) = value.as_array().filter(|_| schema["items"].is_object()) {
        for (number, item) in items.iter().enumerate() {
            check(
                root,
                &schema["items"],
                item,
                &join(at, &number.to_string()),
                depth,
                wrong,
            );
        }
    }
    if let Some(fields) = value.as_object() {
        check_fields(root, schema, fields, at, depth, wrong);
    }
}

fn check_choices(root: &Value, choices: &[Value], value: &Value, at: &str, depth: usize, wrong: &mut Vec<String>) {
    let mut first: Option<Vec<String>> = None;
    for choice in choices {
        let mut found = Vec::new();
        check(root, choice, value, at, depth, &mut found);
        if found.is_empty() {
            return;
        }
        first.get_or_insert(found);
    }
    wrong.extend(first.into_iter().flatten());
}

fn check_fields(
    root: &Value,
    schema: &Value,
    fields: &Map<String, Value>,
    at: &str,
    depth: usize,
    wrong: &mut Vec<String>,
) {
    for name in schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        if !fields.contains_key(name) {
            wrong.push(format!("Field required on parameter `{}`", join(at, name)));
        }
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(value) = fields.get(name) {
            check(root, property, value, &join(at, name), depth, wrong);
        }
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() {
        name.to_owned()
    } else {
        format!("{at}.{name}")
    }
}

/// Names the type that `value` should have, if it has another one.
fn wrong_type(schema: &Value, value: &Value) -> Option<&'static str> {
    let (fits, name) = match schema["type"].as_str()? {
        "string" => (value.is_string(), "a valid string"),
        "integer" => (
            value.as_f64().is_some_and(|number| number.fract() == 0.0),
            "a valid integer",
        ),
        "number" => (value.is_number(), "a valid number"),
        "boolean" => (value.is_boolean(), "a valid boolean"),
        "array" => (value.is_array(), "a valid list"),
        "object" => (value.is_object(), "a valid dictionary"),
        "null" => (value.is_null(), "None"),
        _ => return None,
    };
    (!fits).then_some(name)
}

fn check_bounds(schema: &Value, value: &Value, at: &str, wrong: &mut Vec<String>) {
    let number = value.as_f64();
    let bound = |name: &str| schema[name].as_f64();
    if let (Some(number), Some(least)) = (number, bound("minimum"))
        && number < least
    {
        wrong.push(format!(
            "Input should be greater than or equal to {least} on parameter `{at}`"
        ));
    }
    if let (Some(number), Some(most)) = (number, bound("maximum"))
        && number > most
    {
        wrong.push(format!(
            "Input should be less than or equal to {most} on parameter `{at}`"
        ));
    }
    let shortest = schema["minLength"]
        .as_u64()
        .and_then(|length| usize::try_from(length).ok());
    if let (Some(text), Some(shortest)) = (value.as_str(), shortest)
        && text.chars().count() < shortest
    {
        wrong.push(format!(
            "String should have at least {shortest} characters on parameter `{at}`"
        ));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::arguments;

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let schema = json!({
            "type": "object", "required": ["owner", "when"],
            "properties": {
                "owner": {"type": "string", "minLength": 1}, "when": {"$ref": "#/$defs/When"},
                "draft": {"anyOf": [{"type": "boolean"}, {"type": "null"}], "default": null},
                "size": {"type": "integer", "minimum": 1, "maximum": 3, "default": 2},
                "state": {"type": "string", "enum": ["open", "closed"]},
                "labels": {"type": "array", "items": {"type": "string"}},
            },
            "$defs": {"When": {"type": "object", "required": ["date"], "properties": {"date": {"type": "string"}}}},
        });
        let wrong = |given| arguments(&schema, &given).err().unwrap_or_default();
        assert_eq!(
            wrong(json!({})),
            "Field required on parameter `owner`; Field required on parameter `when`"
        );
        let rest = |name: &str, value| {
            let mut given = json!({"owner": "o", "when": {"date": "d"}});
            given[name] = value;
            wrong(given)
        };
        for (name, value, text) in [
            ("when", json!({}), "Field required on parameter `when.date`"),
            (
                "draft",
                json!("x"),
                "Input should be a valid boolean on parameter `draft`",
            ),
            ("draft", json!(null), ""),
            ("size", json!(1), ""),
            ("size", json!(3), ""),
            (
                "size",
                json!(0),
                "Input should be greater than or equal to 1 on parameter `size`",
            ),
            (
                "size",
                json!(4),
                "Input should be less than or equal to 3 on parameter `size`",
            ),
            (
                "size",
                json!(1.5),
                "Input should be a valid integer on parameter `size`",
            ),
            (
                "state",
                json!("x"),
                "Input should be 'open' or 'closed' on parameter `state`",
            ),
            (
                "labels",
                json!(["a", 1]),
                "Input should be a valid string on parameter `labels.1`",
            ),
            (
                "owner",
                json!(""),
                "String should have at least 1 characters on parameter `owner`",
            ),
            ("unknown", json!(1), ""),
        ] {
            assert_eq!(rest(name, value), text, "{name}");
        }
        assert_eq!(
            arguments(&schema, &json!({"owner": "o", "when": {"date": "d"}})).map(|given| json!(given)),
            Ok(json!({"owner": "o", "when": {"date": "d"}, "draft": null, "size": 2}))
        );
        assert!(arguments(&schema, &json!([])).is_err());
    }
}
