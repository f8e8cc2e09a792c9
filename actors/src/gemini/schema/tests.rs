//! What Gemini gets of schemas as they are found, and of any JSON at all.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{BadName, MAX_NODES, PROPERTY_DESCRIPTION_CHARS, prepare, shorten};

fn prepared(schema: Value) -> Value {
    prepare(&schema).unwrap().unwrap()
}

fn property(schema: Value) -> Value {
    prepared(json!({"type": "object", "properties": {"a": schema}}))["properties"]["a"].clone()
}

/// Calls `look` on each schema within `schema`.
fn walk(schema: &Value, look: &mut impl FnMut(&Value)) {
    look(schema);
    for key in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(key).filter(|inner| inner.is_object()) {
            walk(inner, look);
        }
    }
    for key in ["anyOf", "prefixItems"] {
        schema[key]
            .as_array()
            .into_iter()
            .flatten()
            .for_each(|inner| walk(inner, look));
    }
    let properties = schema.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .for_each(|(_, inner)| walk(inner, look));
}

#[test]
fn references_are_inlined_and_circular_ones_become_any_object() {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema", "$id": "x", "title": "Args", "type": "object",
        "$defs": {
            "Label": {"title": "Label", "type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            "Node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/Node", "description": "what follows"}}}
        },
        "properties": {
            "label": {"$ref": "#/$defs/Label", "description": "the label"},
            "node": {"allOf": [{"$ref": "#/$defs/Node"}]},
            "lost": {"$ref": "#/$defs/Nowhere"},
            "self": {"$ref": "#"},
            "away": {"$ref": "https://example.com/schema"}
        }
    });
    assert_eq!(
        prepared(schema),
        json!({"type": "object", "properties": {
            "label": {"type": "object", "description": "the label", "properties": {"name": {"type": "string"}},
                "required": ["name"]},
            "node": {"type": "object", "properties": {"next": {"type": "object", "description": "what follows"}}},
            "lost": {"type": "object"},
            "self": {"type": "object"},
            "away": {"type": "object"}
        }})
    );
}

#[test]
fn what_validation_refuses_is_mended() {
    assert_eq!(
        property(json!({"type": "array"})),
        json!({"type": "array", "items": {"type": "string"}})
    );
    assert_eq!(
        property(json!({"items": [{"type": "string"}, {"type": "integer"}]})),
        json!({"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": {"type": "string"}})
    );
    assert_eq!(
        property(json!({"const": "x"})),
        json!({"type": "string", "enum": ["x"]})
    );
    assert_eq!(
        property(json!({"type": "boolean", "enum": [true, false]})),
        json!({"type": "boolean"})
    );
    assert_eq!(
        property(json!({"type": "string", "enum": ["a", null], "default": null, "examples": ["a"], "title": "A"})),
        json!({"type": "string", "enum": ["a"]})
    );
    assert_eq!(
        property(json!({"oneOf": [{"type": "string", "file_uploadable": true}, {"type": "null"}]})),
        json!({"anyOf": [{"type": "string"}, {"type": "null"}]})
    );
    assert_eq!(
        property(json!({"type": ["string", "null"]})),
        json!({"type": ["string", "null"]})
    );
    assert_eq!(
        property(json!({"properties": {"b": {"type": "STRING"}}, "required": ["b", "b", "gone"]})),
        json!({"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]})
    );
}

#[test]
fn rules_that_the_model_ignores_are_told() {
    let schema = json!({"type": "number", "description": "Price.", "exclusiveMinimum": 0, "multipleOf": 0.5});
    assert_eq!(
        property(schema),
        json!({"type": "number", "description": "Price. (more than 0, a multiple of 0.5)"})
    );
    let schema = json!({"type": "string", "pattern": "^a+$", "minLength": 2, "maxLength": 9});
    assert_eq!(
        property(schema)["description"],
        "(at least 2 characters, at most 9 characters, matching ^a+$)"
    );
}

#[test]
fn a_function_without_properties_takes_no_arguments() {
    for none in [
        json!({}),
        json!(null),
        json!(true),
        json!({"type": "object"}),
        json!({"type": "object", "properties": {}}),
        json!({"type": "string"}),
        json!({"$ref": "#/$defs/x"}),
    ] {
        assert_eq!(prepare(&none), Ok(None), "{none}");
    }
}

#[test]
fn a_root_of_alternatives_has_the_properties_of_all() {
    let schema = json!({"anyOf": [
        {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]},
        {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]}
    ]});
    assert_eq!(
        prepared(schema),
        json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "string"}}})
    );
}

#[test]
fn names_that_cannot_be_declared_are_refused_where_they_are_needed() {
    let of = |name: &str| json!({"type": "object", "properties": {name: {"type": "string"}}});
    let nested = |name: &str, required: &[&str]| {
        let inner = json!({"type": "object", "properties": {name: {}, "ok": {}}, "required": required});
        json!({"type": "object", "properties": {"a": inner}})
    };
    for (chars, fits) in [(63, true), (64, true), (65, false)] {
        assert_eq!(prepare(&of(&"a".repeat(chars))).is_ok(), fits, "{chars}");
    }
    for odd in ["", "a-b", "a b", "$a", "é"] {
        assert_eq!(prepare(&of(odd)), Err(BadName), "{odd}");
        assert_eq!(prepare(&nested(odd, &[odd])), Err(BadName), "{odd}");
        let left = prepared(nested(odd, &["ok"]));
        assert_eq!(left["properties"]["a"]["properties"], json!({"ok": {}}), "{odd}");
    }
}

#[test]
fn long_descriptions_are_cut_at_the_bound() {
    for (chars, kept) in [
        (PROPERTY_DESCRIPTION_CHARS - 1, PROPERTY_DESCRIPTION_CHARS - 1),
        (PROPERTY_DESCRIPTION_CHARS, PROPERTY_DESCRIPTION_CHARS),
        (PROPERTY_DESCRIPTION_CHARS + 1, PROPERTY_DESCRIPTION_CHARS),
    ] {
        let made = property(json!({"type": "string", "description": "é".repeat(chars)}));
        let text = made["description"].as_str().unwrap();
        assert_eq!(
            (text.chars().count(), text.ends_with('…')),
            (kept, chars > kept),
            "{chars}"
        );
    }
    assert_eq!(shorten("a b c", 3), "a…");
}

#[test]
fn references_that_multiply_are_bounded() {
    let mut definitions = json!({"d0": {"type": "string"}});
    for level in 1..40 {
        let below = json!({"$ref": format!("#/$defs/d{}", level - 1)});
        definitions[format!("d{level}")] =
            json!({"type": "object", "properties": {"a": below, "b": below, "c": below}});
    }
    let made = prepared(json!({"type": "object", "properties": {"a": {"$ref": "#/$defs/d39"}}, "$defs": definitions}));
    let mut nodes = 0;
    walk(&made, &mut |_| nodes += 1);
    assert!(nodes <= MAX_NODES * 3, "{nodes}");
}

/// A schema of any shape, with the words of schemas as its keys.
fn any_schema() -> impl Strategy<Value = Value> {
    let path = prop::sample::select(vec![
        "#",
        "#/$defs/a",
        "#/$defs/b",
        "#/definitions/a",
        "#/properties/a",
        "x",
    ]);
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        (-9_i32..9).prop_map(Value::from),
        "[a-zé ]{0,12}".prop_map(Value::from),
        prop::sample::select(vec!["object", "array", "string", "integer", "null"]).prop_map(Value::from),
        path.prop_map(|path| json!({"$ref": path})),
        Just(json!(["a", "b", "gone"])),
        Just(json!(["array", "null"])),
    ];
    let key = prop::sample::select(vec![
        "type",
        "properties",
        "items",
        "prefixItems",
        "anyOf",
        "oneOf",
        "allOf",
        "required",
        "enum",
        "const",
        "$ref",
        "$defs",
        "definitions",
        "description",
        "default",
        "additionalProperties",
        "exclusiveMinimum",
        "pattern",
        "minLength",
        "propertyOrdering",
        "title",
        "a",
        "b",
        "x-y",
    ]);
    leaf.prop_recursive(5, 96, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
            prop::collection::btree_map(key.clone(), inner, 0..6)
                .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_prepared_is_closed_and_stays_as_it_is(inner in any_schema(), more in any_schema()) {
        let schema = json!({"type": "object", "properties": {"a": inner, "b": more}, "required": ["a", "c"],
            "$defs": {"a": more, "b": inner}});
        if let Ok(Some(once)) = prepare(&schema) {
            prop_assert_eq!(&once["type"], "object");
            let mut fault = None;
            walk(&once, &mut |node| {
                let known = |name: &Value| name.as_str().is_some_and(|name| node["properties"].get(name).is_some());
                let required_exist = node["required"].as_array().is_none_or(|names| names.iter().all(known));
                let is_array = node["type"] == "array"
                    || node["type"].as_array().is_some_and(|words| words.iter().any(|word| word == "array"));
                let odd = ["$ref", "$defs", "definitions", "title", "const", "allOf", "oneOf", "examples"];
                let clean = odd.iter().all(|key| node.get(key).is_none());
                if !clean || !required_exist || (is_array && node.get("items").is_none()) {
                    fault = Some(node.clone());
                }
            });
            prop_assert_eq!(fault, None);
            let twice = prepare(&once);
            prop_assert_eq!(twice, Ok(Some(once)));
        }
    }
}
