//! Takes fields out of an object, keeps a row for each that is wrong, and describes itself as a JSON schema.
//!
//! One function reads a request and, run on [`Fields::describing`], says what it accepts: the two cannot drift apart.

use serde_json::{Map, Value, json};

use super::Bounds;
use crate::edge::error::{ApiError, Row};

/// A field as its reader names it.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    doc: &'static str,
    example: Option<Value>,
}

/// Starts a field.
pub(crate) fn field(name: &'static str) -> Field {
    Field {
        name,
        doc: "",
        example: None,
    }
}

impl Field {
    /// What it is, for people: a sentence.
    pub(crate) fn doc(mut self, doc: &'static str) -> Self {
        self.doc = doc;
        self
    }

    /// What it may look like.
    pub(crate) fn example(mut self, example: impl Into<Value>) -> Self {
        self.example = Some(example.into());
        self
    }
}

impl From<&'static str> for Field {
    fn from(name: &'static str) -> Self {
        field(name)
    }
}

/// A rule for a text beyond its length: told to clients as a pattern, checked by code of the same meaning.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    /// ECMA 262, anchored.
    pub(crate) pattern: &'static str,
    /// Whether a text keeps it.
    pub(crate) keeps: fn(&str) -> bool,
    /// What is said to one that does not.
    pub(crate) message: &'static str,
    /// The type of that error.
    pub(crate) kind: &'static str,
}

/// An id that clients name.
pub(crate) trait Id: TryFrom<String, Error: std::fmt::Display> {
    /// Its JSON schema.
    fn schema() -> Value;
}

/// Visible ASCII without quotes and backslash.
const PLAIN: &str = r#"^[!#-&(-\[\]-~]+$"#;
/// Anything but control characters.
const FREE: &str = r"^[^\u0000-\u001f\u007f-\u009f]+$";

/// A tool call, as its model or its client named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CallId(String);

/// A conversation, as a client of AG-UI named it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ThreadId(String);

macro_rules! texts {
    ($( $name:ident $most:literal $what:literal ),*) => {$(
        impl $name {
            /// Longest, in characters.
            pub(crate) const MAX: usize = $most;

            /// Its text.
            pub(crate) fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = &'static str;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                let count = text.chars().count();
                if count == 0 || count > Self::MAX || text.chars().any(char::is_control) {
                    return Err(concat!($what, " must be 1 to ", $most, " characters without control characters"));
                }
                Ok(Self(text))
            }
        }

        impl Id for $name {
            fn schema() -> Value {
                json!({"type": "string", "minLength": 1, "maxLength": Self::MAX, "pattern": FREE})
            }
        }
    )*};
}

texts!(CallId 256 "call id", ThreadId 256 "thread id");

macro_rules! ids {
    ($( $name:ident $pattern:expr ),* $(,)?) => {$(
        impl Id for kronos_protocol::ids::$name {
            fn schema() -> Value {
                json!({"type": "string", "minLength": 1, "maxLength": Self::MAX, "pattern": $pattern})
            }
        }
    )*};
}

ids!(
    SessionId r#"^(?!new$)[!#-&(-\[\]-~]+$"#,
    UserId PLAIN,
    RunId PLAIN,
    MessageId FREE,
    MemoryId PLAIN,
    ConnectionId PLAIN,
);

/// What a reader accepts.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    /// In the order in which they are read.
    pub(crate) fields: Vec<Described>,
}

/// One field of a [`Shape`].
#[derive(Debug, Clone)]
pub(crate) struct Described {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    /// Its JSON schema, without null.
    pub(crate) schema: Value,
    pub(crate) example: Option<Value>,
}

impl Shape {
    /// The JSON schema of the object.
    pub(crate) fn schema(&self) -> Value {
        let required: Vec<&str> = self.fields.iter().filter(|f| f.required).map(|f| f.name).collect();
        let property = |field: &Described| {
            let mut schema = field.schema.clone();
            if let Some(example) = &field.example {
                schema["examples"] = json!([example]);
            }
            if !field.required {
                allow_null(&mut schema);
            }
            (field.name.to_owned(), schema)
        };
        let properties: Map<String, Value> = self.fields.iter().map(property).collect();
        let mut schema = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            schema["required"] = json!(required);
        }
        schema
    }

    /// An example of the object.
    pub(crate) fn example(&self) -> Value {
        let shown = self
            .fields
            .iter()
            .filter_map(|f| Some((f.name.to_owned(), f.example.clone()?)));
        Value::Object(shown.collect())
    }
}

fn allow_null(schema: &mut Value) {
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    match schema.get("type").cloned() {
        Some(Value::Array(kinds)) if kinds.contains(&json!("null")) => {}
        Some(Value::Array(mut kinds)) => {
            kinds.push(json!("null"));
            schema["type"] = json!(kinds);
        }
        Some(kind) => schema["type"] = json!([kind, "null"]),
        None => {}
    }
}

/// Takes fields out of an object and keeps a row for each that is wrong.
pub(crate) struct Fields {
    place: String,
    map: Map<String, Value>,
    rows: Vec<Row>,
    bounds: Bounds,
    /// Texts are read as what they stand for: a query has nothing else.
    texts: bool,
    shape: Option<Shape>,
}

impl Fields {
    /// Starts on an object; `place` is `body` or `query`.
    pub(crate) fn new(place: &str, map: Map<String, Value>) -> Self {
        Self {
            place: place.to_owned(),
            map,
            rows: Vec::new(),
            bounds: Bounds::default(),
            texts: place == "query",
            shape: None,
        }
    }

    /// Reads nothing; notes what is asked for.
    pub(crate) fn describing(bounds: Bounds) -> Self {
        let mut fields = Self::new("body", Map::new()).within(bounds);
        fields.shape = Some(Shape::default());
        fields
    }

    /// What was asked for.
    pub(crate) fn into_shape(self) -> Shape {
        self.shape.unwrap_or_default()
    }

    /// The bounds that the configuration sets.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// The same within other bounds.
    pub(crate) fn within(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    /// Notes that a field is wrong.
    pub(crate) fn refuse(&mut self, name: &str, message: impl Into<String>, kind: &'static str) {
        if self.shape.is_none() {
            self.rows.push(Row {
                field: format!("{}.{name}", self.place),
                message: message.into(),
                kind,
            });
        }
    }

    /// Whether a field was refused with an error of this type.
    pub(crate) fn refused(&self, name: &str, kind: &str) -> bool {
        let field = format!("{}.{name}", self.place);
        self.rows.iter().any(|row| row.field == field && row.kind == kind)
    }

    /// Ends: an error with all rows when there is any.
    pub(crate) fn finish(&mut self) -> Result<(), ApiError> {
        if self.rows.is_empty() {
            Ok(())
        } else {
            Err(ApiError::validation(&self.rows))
        }
    }

    /// The same where nothing must be there.
    pub(crate) fn finish_what_is_there(&mut self) -> Result<(), ApiError> {
        self.rows.retain(|row| row.kind != "missing");
        self.finish()
    }

    /// Takes a field; null counts as absent.
    fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Notes a field; true when that was all there is to do.
    fn describe(&mut self, field: &Field, required: bool, schema: impl FnOnce() -> Value) -> bool {
        let Some(shape) = &mut self.shape else {
            return false;
        };
        let mut schema = schema();
        if !field.doc.is_empty() {
            schema["description"] = json!(field.doc);
        }
        // A field that several ways of reading share is described once.
        if !shape.fields.iter().any(|known| known.name == field.name) {
            shape.fields.push(Described {
                name: field.name,
                required,
                schema,
                example: field.example.clone(),
            });
        }
        true
    }

    /// Whether a field that must be there is; else it gets its row.
    fn is_there(&mut self, name: &str) -> bool {
        let there = self.map.get(name).is_some_and(|value| !value.is_null());
        if !there {
            self.refuse(name, "Field required", "missing");
        }
        there
    }

    /// Takes a text that may be absent, within a number of characters.
    pub(crate) fn text(&mut self, field: impl Into<Field>, min: usize, max: usize) -> Option<String> {
        let field = field.into();
        if self.describe(&field, false, || text_schema(min, max)) {
            return None;
        }
        self.read_text(field.name, min, max)
    }

    /// Takes a text that must be there.
    pub(crate) fn required_text(&mut self, field: impl Into<Field>, min: usize, max: usize) -> Option<String> {
        let field = field.into();
        if self.describe(&field, true, || text_schema(min, max)) || !self.is_there(field.name) {
            return None;
        }
        self.read_text(field.name, min, max)
    }

    /// Takes a text that keeps a rule and may be absent.
    pub(crate) fn text_of(&mut self, field: impl Into<Field>, min: usize, max: usize, rule: Rule) -> Option<String> {
        let field = field.into();
        if self.describe(&field, false, || rule_schema(min, max, rule)) {
            return None;
        }
        let text = self.read_text(field.name, min, max)?;
        self.keep(field.name, text, rule)
    }

    /// Takes a text that keeps a rule and must be there.
    pub(crate) fn required_text_of(
        &mut self,
        field: impl Into<Field>,
        min: usize,
        max: usize,
        rule: Rule,
    ) -> Option<String> {
        let field = field.into();
        if self.describe(&field, true, || rule_schema(min, max, rule)) || !self.is_there(field.name) {
            return None;
        }
        let text = self.read_text(field.name, min, max)?;
        self.keep(field.name, text, rule)
    }

    fn keep(&mut self, name: &str, text: String, rule: Rule) -> Option<String> {
        if (rule.keeps)(&text) {
            return Some(text);
        }
        self.refuse(name, rule.message, rule.kind);
        None
    }

    fn read_text(&mut self, name: &str, min: usize, max: usize) -> Option<String> {
        let Value::String(text) = self.take(name)? else {
            self.refuse(name, "Input should be a valid string", "string_type");
            return None;
        };
        let count = text.chars().count();
        if count < min {
            let message = format!("String should have at least {min} characters");
            self.refuse(name, message, "string_too_short");
        } else if count > max {
            let message = format!("String should have at most {max} characters");
            self.refuse(name, message, "string_too_long");
        } else {
            return Some(text);
        }
        None
    }

    /// Takes one of some words that may be absent.
    pub(crate) fn word(&mut self, field: impl Into<Field>, words: &'static [&'static str]) -> Option<&'static str> {
        let field = field.into();
        if self.describe(&field, false, || json!({"type": "string", "enum": words})) {
            return None;
        }
        self.read_word(field.name, words)
    }

    /// Takes one of some words that must be there.
    pub(crate) fn required_word(
        &mut self,
        field: impl Into<Field>,
        words: &'static [&'static str],
    ) -> Option<&'static str> {
        let field = field.into();
        if self.describe(&field, true, || json!({"type": "string", "enum": words})) || !self.is_there(field.name) {
            return None;
        }
        self.read_word(field.name, words)
    }

    fn read_word(&mut self, name: &str, words: &'static [&'static str]) -> Option<&'static str> {
        let value = self.take(name)?;
        let word = words.iter().find(|word| value.as_str() == Some(**word)).copied();
        if word.is_none() {
            self.refuse(name, format!("Input should be one of {}", words.join(", ")), "enum");
        }
        word
    }

    /// Takes a truth value that may be absent.
    pub(crate) fn boolean(&mut self, field: impl Into<Field>) -> Option<bool> {
        let field = field.into();
        if self.describe(&field, false, || json!({"type": "boolean"})) {
            return None;
        }
        match self.take(field.name)? {
            Value::Bool(value) => return Some(value),
            Value::String(text) if self.texts && text == "true" => return Some(true),
            Value::String(text) if self.texts && text == "false" => return Some(false),
            _ => self.refuse(field.name, "Input should be a valid boolean", "bool_type"),
        }
        None
    }

    /// Takes a number that may be absent, within bounds.
    pub(crate) fn number(&mut self, field: impl Into<Field>, min: f64, max: f64) -> Option<f64> {
        let field = field.into();
        if self.describe(
            &field,
            false,
            || json!({"type": "number", "minimum": min, "maximum": max}),
        ) {
            return None;
        }
        let number = match self.take(field.name)? {
            Value::Number(number) => number.as_f64(),
            Value::String(text) if self.texts => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if number < min => self.too_small(field.name, min),
            Some(number) if number > max => self.too_big(field.name, max),
            Some(number) if number.is_finite() => return Some(number),
            _ => self.refuse(field.name, "Input should be a valid number", "float_type"),
        }
        None
    }

    /// Takes a whole number that may be absent, within bounds.
    pub(crate) fn integer(&mut self, field: impl Into<Field>, min: u64, max: u64) -> Option<u64> {
        let field = field.into();
        if self.describe(
            &field,
            false,
            || json!({"type": "integer", "minimum": min, "maximum": max}),
        ) {
            return None;
        }
        let number = match self.take(field.name)? {
            Value::Number(number) => whole(&number),
            Value::String(text) if self.texts => text.parse().ok(),
            _ => None,
        };
        match number {
            None => self.refuse(field.name, "Input should be a valid integer", "int_type"),
            Some(number) if number < i128::from(min) => self.too_small(field.name, min),
            Some(number) => match u64::try_from(number) {
                Ok(number) if number <= max => return Some(number),
                _ => self.too_big(field.name, max),
            },
        }
        None
    }

    fn too_small(&mut self, name: &str, min: impl std::fmt::Display) {
        let message = format!("Input should be greater than or equal to {min}");
        self.refuse(name, message, "greater_than_equal");
    }

    fn too_big(&mut self, name: &str, max: impl std::fmt::Display) {
        let message = format!("Input should be less than or equal to {max}");
        self.refuse(name, message, "less_than_equal");
    }

    /// Takes a JSON object that may be absent, within a number of encoded bytes.
    pub(crate) fn object(&mut self, field: impl Into<Field>, max_bytes: usize) -> Option<Map<String, Value>> {
        let field = field.into();
        if self.describe(&field, false, || json!({"type": "object", "x-max-bytes": max_bytes})) {
            return None;
        }
        let name = field.name;
        match self.take(name)? {
            Value::Object(map) if serde_json::to_vec(&map).is_ok_and(|bytes| bytes.len() <= max_bytes) => {
                return Some(map);
            }
            Value::Object(_) => self.refuse(
                name,
                format!("Object should have at most {max_bytes} bytes"),
                "too_long",
            ),
            _ => self.refuse(name, "Input should be a valid dictionary", "dict_type"),
        }
        None
    }

    /// Takes a value that `read` understands, or says in a sentence why not; `schema` says the same to clients.
    pub(crate) fn value<T>(
        &mut self,
        field: impl Into<Field>,
        required: bool,
        schema: impl FnOnce() -> Value,
        read: impl FnOnce(Value) -> Result<T, String>,
    ) -> Option<T> {
        let field = field.into();
        if self.describe(&field, required, schema) || required && !self.is_there(field.name) {
            return None;
        }
        let value = self.take(field.name)?;
        read(value)
            .map_err(|why| self.refuse(field.name, why, "value_error"))
            .ok()
    }

    /// Takes a list of objects that must be there, each read by `read`; the rows of a wrong one name its place.
    pub(crate) fn required_list<T>(
        &mut self,
        field: impl Into<Field>,
        min: usize,
        max: usize,
        read: fn(&mut Fields) -> Option<T>,
    ) -> Option<Vec<T>> {
        let field = field.into();
        let bounds = self.bounds;
        let schema = || {
            let mut item = Fields::describing(bounds);
            read(&mut item);
            json!({"type": "array", "minItems": min, "maxItems": max, "items": item.into_shape().schema()})
        };
        if self.describe(&field, true, schema) || !self.is_there(field.name) {
            return None;
        }
        let name = field.name;
        let Some(Value::Array(items)) = self.take(name) else {
            self.refuse(name, "Input should be a valid list", "list_type");
            return None;
        };
        if items.len() < min {
            self.refuse(name, format!("List should have at least {min} items"), "too_short");
            return None;
        }
        if items.len() > max {
            self.refuse(name, format!("List should have at most {max} items"), "too_long");
            return None;
        }
        let mut all = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let Value::Object(map) = item else {
                self.refuse(
                    &format!("{name}.{index}"),
                    "Input should be a valid dictionary",
                    "dict_type",
                );
                continue;
            };
            let mut fields = Fields::new(&format!("{}.{name}.{index}", self.place), map).within(bounds);
            let item = read(&mut fields);
            self.rows.append(&mut fields.rows);
            all.extend(item);
        }
        Some(all)
    }

    /// Takes a list of texts that may be absent, each within a number of characters.
    pub(crate) fn texts(
        &mut self,
        field: impl Into<Field>,
        max_items: usize,
        min: usize,
        max: usize,
    ) -> Option<Vec<String>> {
        let field = field.into();
        let schema = || json!({"type": "array", "items": text_schema(min, max), "maxItems": max_items});
        if self.describe(&field, false, schema) {
            return None;
        }
        let name = field.name;
        let Value::Array(items) = self.take(name)? else {
            self.refuse(name, "Input should be a valid list", "list_type");
            return None;
        };
        if items.len() > max_items {
            self.refuse(name, format!("List should have at most {max_items} items"), "too_long");
            return None;
        }
        let mut texts = Vec::with_capacity(items.len());
        for (index, item) in items.into_iter().enumerate() {
            let place = format!("{name}.{index}");
            match item {
                Value::String(text) if (min..=max).contains(&text.chars().count()) => texts.push(text),
                Value::String(_) => self.refuse(
                    &place,
                    format!("String should have {min} to {max} characters"),
                    "string_length",
                ),
                _ => self.refuse(&place, "Input should be a valid string", "string_type"),
            }
        }
        Some(texts)
    }

    /// Takes an id that may be absent.
    pub(crate) fn id<T: Id>(&mut self, field: impl Into<Field>) -> Option<T> {
        let field = field.into();
        if self.describe(&field, false, T::schema) {
            return None;
        }
        let name = field.name;
        let Value::String(text) = self.take(name)? else {
            self.refuse(name, "Input should be a valid string", "string_type");
            return None;
        };
        T::try_from(text)
            .map_err(|error| self.refuse(name, error.to_string(), "value_error"))
            .ok()
    }
}

/// A number without a fraction, however it is written: for JSON 1.0 is one.
fn whole(number: &serde_json::Number) -> Option<i128> {
    if let Some(number) = number.as_i128() {
        return Some(number);
    }
    let number = number.as_f64().filter(|number| number.fract() == 0.0)?;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "saturates, and what is so large is over every bound"
    )]
    Some(number as i128)
}

fn text_schema(min: usize, max: usize) -> Value {
    let mut schema = json!({"type": "string"});
    if min > 0 {
        schema["minLength"] = json!(min);
    }
    if max < usize::MAX {
        schema["maxLength"] = json!(max);
    }
    schema
}

fn rule_schema(min: usize, max: usize, rule: Rule) -> Value {
    let mut schema = text_schema(min, max);
    schema["pattern"] = json!(rule.pattern);
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        let Value::Object(map) = value else {
            panic!("not an object")
        };
        map
    }

    fn fields(value: Value) -> Fields {
        Fields::new("body", object(value))
    }

    fn kinds(fields: &mut Fields) -> Vec<(String, &'static str)> {
        fields.rows.drain(..).map(|row| (row.field, row.kind)).collect()
    }

    #[test]
    fn text_is_counted_in_characters_at_its_bounds() {
        for (text, min, max, good) in [
            ("ä", 1, 1, true),
            ("", 1, 2, false),
            ("äöü", 1, 2, false),
            ("äö", 1, 2, true),
            ("äö", 3, 4, false),
        ] {
            let mut fields = fields(json!({"a": text}));
            assert_eq!(fields.text("a", min, max).is_some(), good, "{text}");
        }
    }

    #[test]
    fn numbers_are_read_at_their_bounds() {
        let mut f = fields(
            json!({"a": 0, "b": 2.0, "c": 2.001, "d": 50.0, "e": "1", "f": -1, "g": 101, "h": 1e300,
            "i": 1.5, "j": "0.5"}),
        );
        assert_eq!(f.number("a", 0.0, 2.0), Some(0.0));
        assert_eq!(f.number("b", 0.0, 2.0), Some(2.0));
        assert_eq!(f.number("c", 0.0, 2.0), None);
        assert_eq!(f.integer("d", 1, 100), Some(50));
        for name in ["e", "f", "g", "h", "i"] {
            assert_eq!(f.integer(name, 1, 100), None, "{name}");
        }
        assert_eq!(f.number("j", 0.0, 2.0), None);
        let expected = [
            ("body.c", "less_than_equal"),
            ("body.e", "int_type"),
            ("body.f", "greater_than_equal"),
            ("body.g", "less_than_equal"),
            ("body.h", "less_than_equal"),
            ("body.i", "int_type"),
            ("body.j", "float_type"),
        ];
        assert_eq!(kinds(&mut f), expected.map(|(field, kind)| (field.to_owned(), kind)));
    }

    #[test]
    fn a_query_has_texts_only() {
        let map = object(json!({"limit": "50", "on": "true", "t": "0.5", "bad": "x"}));
        let mut f = Fields::new("query", map);
        assert_eq!(f.integer("limit", 1, 100), Some(50));
        assert_eq!(f.boolean("on"), Some(true));
        assert_eq!(f.number("t", 0.0, 2.0), Some(0.5));
        assert_eq!(f.integer("bad", 1, 100), None);
        assert_eq!(kinds(&mut f), [("query.bad".to_owned(), "int_type")]);
    }

    #[test]
    fn every_wrong_field_has_a_row() {
        let mut f = fields(json!({"b": 1, "c": null, "d": [], "e": {"k": "xxxxxxxxxx"}, "f": "z",
            "g": [{"a": "1"}, {"a": 7}, 3]}));
        for name in ["a", "b", "c"] {
            assert_eq!(f.required_text(name, 1, 5), None);
        }
        assert_eq!(f.object("d", 100), None);
        assert_eq!(f.object("e", 10), None);
        assert_eq!(f.word("f", &["x", "y"]), None);
        let list = f.required_list("g", 1, 3, |item| item.required_text("a", 1, 5));
        assert_eq!(list, Some(vec!["1".to_owned()]));
        let rows = kinds(&mut f);
        let expected = [
            ("body.a", "missing"),
            ("body.b", "string_type"),
            ("body.c", "missing"),
            ("body.d", "dict_type"),
            ("body.e", "too_long"),
            ("body.f", "enum"),
            ("body.g.1.a", "string_type"),
            ("body.g.2", "dict_type"),
        ];
        assert_eq!(rows, expected.map(|(field, kind)| (field.to_owned(), kind)));
    }

    #[test]
    fn a_reader_describes_what_it_reads() {
        let mut f = Fields::describing(Bounds::default());
        assert_eq!(
            f.required_text(field("name").doc("The name.").example("Ada"), 1, 5),
            None
        );
        assert_eq!(f.integer("limit", 1, 100), None);
        assert_eq!(f.word("kind", &["x", "y"]), None);
        let lists = || json!({"type": ["array", "null"]});
        assert_eq!(f.value("list", false, lists, Ok::<Value, String>), None);
        assert_eq!(
            f.value(
                "any",
                false,
                || json!({"type": ["string", "object"]}),
                Ok::<Value, String>
            ),
            None
        );
        assert!(f.finish().is_ok());
        let shape = f.into_shape();
        assert_eq!(
            shape.schema(),
            json!({"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 5, "description": "The name.", "examples": ["Ada"]},
                "limit": {"type": ["integer", "null"], "minimum": 1, "maximum": 100},
                "kind": {"type": ["string", "null"], "enum": ["x", "y", null]},
                "list": {"type": ["array", "null"]},
                "any": {"type": ["string", "object", "null"]},
            }})
        );
        assert_eq!(shape.example(), json!({"name": "Ada"}));
    }
}
