//! JSON schemas of what the macros declare: the same sections, the same words, in the terms of JSON Schema.
//!
//! Everything made here is valid in draft 2020-12 and, but for descriptions beside a `$ref`, in draft 7.

use std::borrow::Cow;
use std::marker::PhantomData;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Tagged;

/// Every type of JSON but null.
const NOT_NULL: [&str; 5] = ["array", "boolean", "number", "object", "string"];

/// A wire struct: its fields may be put into a bigger object.
pub(crate) trait DescribeFields {
    /// Name of the schema.
    const NAME: &'static str;
    /// Lines of its doc comment.
    const DOC: &'static [&'static str];

    /// Adds the fields.
    fn describe(object: &mut Object<'_>);
}

/// A member of the tagged enum `E`.
pub(crate) trait MemberOf<E> {
    /// Value of the telling field.
    const WORD: &'static str;
}

/// The schema of a member of a tagged enum: its fields beside the telling one.
pub(crate) struct Member<E, T>(PhantomData<(E, T)>);

impl<E: Tagged, T: MemberOf<E> + DescribeFields> JsonSchema for Member<E, T> {
    fn schema_name() -> Cow<'static, str> {
        T::NAME.into()
    }

    fn schema_id() -> Cow<'static, str> {
        format!("{}::{}::{}", module_path!(), E::TAG, T::NAME).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut object = Object::new(generator);
        object.word(E::TAG, T::WORD);
        T::describe(&mut object);
        object.finish(T::DOC)
    }
}

/// An object schema that grows field by field.
pub(crate) struct Object<'g> {
    generator: &'g mut SchemaGenerator,
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl<'g> Object<'g> {
    pub(crate) fn new(generator: &'g mut SchemaGenerator) -> Self {
        Self {
            generator,
            properties: Map::new(),
            required: Vec::new(),
        }
    }

    /// A telling field.
    pub(crate) fn word(&mut self, name: &'static str, word: &str) {
        let word = json_schema!({ "type": "string", "const": word });
        self.put(name, &[], word, true);
    }

    /// Must be there, and not null.
    pub(crate) fn required<T: JsonSchema>(&mut self, name: &'static str, doc: &[&str]) {
        let schema = self.not_null::<T>();
        self.put(name, doc, schema, true);
    }

    /// Must be there; null is a value.
    pub(crate) fn any<T: JsonSchema>(&mut self, name: &'static str, doc: &[&str]) {
        let schema = self.generator.subschema_for::<T>();
        self.put(name, doc, schema, true);
    }

    /// A required list; when it is read, members of a later version pass.
    pub(crate) fn listed<T: JsonSchema + Tagged>(&mut self, name: &'static str, doc: &[&str]) {
        let items = self.or_unknown::<T>(false);
        self.put(name, doc, json_schema!({ "type": "array", "items": items }), true);
    }

    /// Always written; absent and null read as `default`.
    pub(crate) fn defaulted<T: JsonSchema + Serialize>(&mut self, name: &'static str, doc: &[&str], default: &T) {
        if self.generator.contract().is_serialize() {
            return self.any::<T>(name, doc);
        }
        let mut schema = self.generator.subschema_for::<Option<T>>();
        if let Ok(default) = serde_json::to_value(default) {
            schema.insert("default".to_owned(), default);
        }
        self.put(name, doc, schema, false);
    }

    /// May be left out; never null.
    pub(crate) fn optional<T: JsonSchema>(&mut self, name: &'static str, doc: &[&str]) {
        let schema = self.not_null::<T>();
        self.put(name, doc, schema, false);
    }

    /// May be left out; null reads as absent, and is not written.
    pub(crate) fn nullable<T: JsonSchema>(&mut self, name: &'static str, doc: &[&str]) {
        if self.generator.contract().is_serialize() {
            return self.optional::<T>(name, doc);
        }
        let schema = self.generator.subschema_for::<Option<T>>();
        self.put(name, doc, schema, false);
    }

    /// May be left out; when it is read, null and members of a later version pass.
    pub(crate) fn known<T: JsonSchema + Tagged>(&mut self, name: &'static str, doc: &[&str]) {
        let schema = self.or_unknown::<T>(true);
        self.put(name, doc, schema, false);
    }

    /// Replaces the schema of a field that is there, and keeps its description.
    pub(crate) fn refine(&mut self, name: &'static str, mut schema: Schema) {
        if let Some(description) = self.properties.get_mut(name).and_then(|old| old.get_mut("description")) {
            schema.insert("description".to_owned(), description.take());
        }
        self.properties.insert(name.to_owned(), schema.to_value());
    }

    /// Whether it says what is read, not what is written.
    pub(crate) fn is_read(&self) -> bool {
        self.generator.contract().is_deserialize()
    }

    /// Says that a field may be left out after all.
    pub(crate) fn may_miss(&mut self, name: &str) {
        self.required.retain(|required| *required != name);
    }

    /// Returns the schema.
    pub(crate) fn finish(self, doc: &[&str]) -> Schema {
        let mut schema = json_schema!({ "type": "object" });
        if !self.properties.is_empty() {
            schema.insert("properties".to_owned(), Value::Object(self.properties));
        }
        if !self.required.is_empty() {
            schema.insert("required".to_owned(), json!(self.required));
        }
        describe(&mut schema, doc);
        schema
    }

    fn put(&mut self, name: &'static str, doc: &[&str], mut schema: Schema, required: bool) {
        if schema.get("format").is_some_and(|format| format == "uint32") {
            schema.insert("maximum".to_owned(), u32::MAX.into());
        }
        describe(&mut schema, doc);
        self.properties.insert(name.to_owned(), schema.to_value());
        if required {
            self.required.push(name);
        }
    }

    fn not_null<T: JsonSchema>(&mut self) -> Schema {
        let schema = self.generator.subschema_for::<T>();
        if schema.as_bool() == Some(true) {
            return json_schema!({ "type": NOT_NULL });
        }
        schema
    }

    fn or_unknown<T: JsonSchema + Tagged>(&mut self, or_null: bool) -> Schema {
        let known = self.generator.subschema_for::<T>();
        if self.generator.contract().is_serialize() {
            return known;
        }
        let unknown = json!({
            "description": "Of a later version: ignored.",
            "type": "object",
            "properties": { T::TAG: { "type": "string", "not": { "enum": T::KNOWN } } },
            "required": [T::TAG],
        });
        if or_null {
            json_schema!({ "anyOf": [known, unknown, { "type": "null" }] })
        } else {
            json_schema!({ "anyOf": [known, unknown] })
        }
    }
}

/// The schema of a wire struct by itself.
pub(crate) fn of_fields<T: DescribeFields>(generator: &mut SchemaGenerator) -> Schema {
    let mut object = Object::new(generator);
    T::describe(&mut object);
    object.finish(T::DOC)
}

/// The schema of an enum whose members exclude each other.
pub(crate) fn one_of(doc: &[&str], members: Vec<Schema>) -> Schema {
    let mut schema = json_schema!({ "oneOf": members });
    describe(&mut schema, doc);
    schema
}

/// The schema of a closed set of words.
pub(crate) fn words(doc: &[&str], members: &[(&str, &[&str])]) -> Schema {
    let words: Vec<_> = members.iter().map(|(word, _)| *word).collect();
    if let [only] = words.as_slice() {
        let mut schema = json_schema!({ "type": "string", "const": only });
        describe(&mut schema, doc);
        return schema;
    }
    let mut about = text(doc);
    about.push('\n');
    for (word, doc) in members {
        about.push_str(&format!("\n* `{word}`: {}", text(doc)));
    }
    json_schema!({ "type": "string", "enum": words, "description": about })
}

/// The schema of a text of 1 to `limit` characters of an alphabet.
pub(crate) fn id(doc: &[&str], class: &str, limit: usize, reserved: &[&str]) -> Schema {
    let mut schema = json_schema!({
        "type": "string",
        "minLength": 1,
        "maxLength": limit,
        "pattern": format!("^{class}+$"),
    });
    if let [reserved] = reserved {
        schema.insert("not".to_owned(), json!({ "const": reserved }));
    }
    describe(&mut schema, doc);
    schema
}

/// Makes the optional fields refuse null in every variant of an enum, as `not_null` does for serde's derive.
pub(crate) fn refuse_nulls(schema: &mut Schema) {
    let variants = schema.get_mut("oneOf").and_then(Value::as_array_mut);
    for variant in variants.into_iter().flatten() {
        let required = variant.get("required").cloned().unwrap_or_default();
        let is_required = |name: &String| required.as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let properties = variant.get_mut("properties").and_then(Value::as_object_mut);
        for (name, property) in properties.into_iter().flatten() {
            if !is_required(name) {
                refuse_null(property);
            }
        }
    }
}

fn refuse_null(property: &mut Value) {
    let Some(property) = property.as_object_mut() else {
        *property = json!({ "type": NOT_NULL });
        return;
    };
    if let Some(kinds) = property.get_mut("type").and_then(Value::as_array_mut) {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_mut_slice() {
            let only = only.take();
            property.insert("type".to_owned(), only);
        }
    } else if let Some(members) = property.get_mut("anyOf").and_then(Value::as_array_mut) {
        members.retain(|member| member["type"] != "null");
    } else if !property.contains_key("type") && !property.contains_key("$ref") {
        property.insert("type".to_owned(), json!(NOT_NULL));
    }
}

fn describe(schema: &mut Schema, doc: &[&str]) {
    let about = text(doc);
    if !about.is_empty() {
        schema.insert("description".to_owned(), about.into());
    }
}

/// Returns a doc comment as a person reads it: lines joined, links and examples left out.
pub(crate) fn text(doc: &[&str]) -> String {
    let mut text = String::new();
    let (mut fenced, mut gap) = (false, "");
    for line in doc.iter().map(|line| line.trim()) {
        if line.starts_with("```") {
            fenced = !fenced;
        } else if line.is_empty() {
            gap = "\n\n";
        } else if !fenced {
            if !text.is_empty() {
                text.push_str(gap);
            }
            text.push_str(&without_links(line));
            gap = " ";
        }
    }
    text
}

/// Replaces ``[`Name`](path)`` and ``[`Name`]`` by `` `Name` ``.
fn without_links(line: &str) -> String {
    let mut pieces = line.split("[`");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once("`]").unwrap_or((piece, ""));
        let rest = match rest.strip_prefix('(').and_then(|rest| rest.split_once(')')) {
            Some((_, after)) => after,
            None => rest,
        };
        text.push('`');
        text.push_str(name.rsplit("::").next().unwrap_or(name));
        text.push('`');
        text.push_str(rest);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doc_comments_become_plain_sentences() {
        let doc = [
            " One [`Thing`](crate::Thing), and",
            " [`other::Name`].",
            "",
            " ```",
            " let code;",
            " ```",
            " More.",
        ];
        assert_eq!(text(&doc), "One `Thing`, and `Name`.\n\nMore.");
        assert_eq!(text(&[]), "");
    }
}
