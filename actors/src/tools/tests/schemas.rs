//! Arguments against the schemas of their tools.

use super::*;

fn check(schema: &Value, arguments: Value) -> Result<(), String> {
    let Value::Object(arguments) = arguments else {
        panic!("{arguments}")
    };
    check_arguments(Some(schema), &arguments)
}

#[test]
fn arguments_are_checked_and_mistakes_are_placed() {
    let schema = json!({"type": "object", "required": ["owner"], "additionalProperties": false, "properties": {
        "owner": {"type": "string", "minLength": 1},
        "labels": {"type": "array", "items": {"$ref": "#/$defs/label"}},
    }, "$defs": {"label": {"type": "object", "properties": {"name": {"type": "string"}}}}});
    assert_eq!(
        check(&schema, json!({"owner": "ada", "labels": [{"name": "bug"}]})),
        Ok(())
    );
    let error = check(&schema, json!({"owner": 5, "labels": [{}, {"name": false}]})).unwrap_err();
    assert!(error.contains("/owner") && error.contains("/labels/1/name"), "{error}");
    let error = check(&schema, json!({"labels": []})).unwrap_err();
    assert!(error.contains("owner"), "{error}");
    assert!(
        check(&schema, json!({"owner": "ada", "other": 1}))
            .unwrap_err()
            .contains("other")
    );
    // What came is not repeated.
    let error = check(&schema, json!({"owner": ["secret"]})).unwrap_err();
    assert!(!error.contains("secret"), "{error}");
    // Twice: the second time the compiled one is used.
    assert_eq!(check(&schema, json!({"owner": "ada"})), Ok(()));
    let none = Map::new();
    assert_eq!(check_arguments(None, &none), Ok(()));
}

#[test]
fn what_is_said_of_mistakes_is_bounded() {
    let names: Vec<String> = (0..500)
        .map(|n| format!("a_very_long_name_of_a_property_{n}"))
        .collect();
    let error = check(&json!({"type": "object", "required": names}), json!({})).unwrap_err();
    assert!(error.chars().count() <= 500, "{error}");
    assert!(error.ends_with("; and more") || error.ends_with('…'), "{error}");
    let wide = "é".repeat(2000);
    let error = check(&json!({"type": "object", "required": [wide]}), json!({})).unwrap_err();
    assert_eq!(error.chars().count(), 500);
}

#[test]
fn a_broken_schema_lets_everything_pass() {
    for broken in [
        json!({"type": "no-such-type"}),
        json!({"type": 5}),
        json!({"properties": []}),
        json!({"$ref": "#/$defs/nowhere"}),
        json!({"$ref": "https://example.com/schema.json"}),
        json!({"$ref": "file:///etc/passwd"}),
        json!({"properties": {"a": {"pattern": "("}}}),
        json!("text"),
        json!([]),
        json!(null),
    ] {
        assert_eq!(check(&broken, json!({"a": 1})), Ok(()), "{broken}");
    }
}

#[test]
fn built_in_tools_take_what_they_say() {
    for tool in builtin::tools() {
        let schema = tool.parameters.as_deref().unwrap();
        jsonschema::meta::validate(schema).unwrap();
        assert!(check(schema, json!({"no such argument": 1})).is_err(), "{}", tool.name);
    }
}
