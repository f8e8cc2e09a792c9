//! Turns the JSON schema of a function's arguments, as its source gives it, into one that Gemini takes. Pure.
//!
//! What the model understands stays; references are inlined, what it ignores goes into the description where that is
//! short, and what its validation refuses is mended. Names of properties come back in the arguments: never changed.

use serde_json::{Map, Value, json};

/// References and levels that are followed; deeper, anything goes.
const MAX_DEPTH: usize = 24;
/// Nodes of one prepared schema: references that refer to many others must not grow without end.
const MAX_NODES: usize = 1_500;
/// Characters of a property's description. It counts as input in every request.
pub(crate) const PROPERTY_DESCRIPTION_CHARS: usize = 600;
/// Characters of a name: of a property, by what the API says of parameters.
const NAME_CHARS: usize = 64;
/// Longest pattern that is told in a description.
const TOLD_PATTERN_CHARS: usize = 100;

/// A required property, or one of the first level, has a name that Gemini refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a property has a name that cannot be declared")]
pub(crate) struct BadName;

/// Returns the schema of a declaration; `None`: the function takes no arguments.
///
/// # Errors
/// A property that is needed cannot be declared.
pub(crate) fn prepare(schema: &Value) -> Result<Option<Value>, BadName> {
    let mut preparing = Preparing {
        root: schema,
        nodes: 0,
        following: vec![String::new()],
    };
    let Value::Object(mut root) = preparing.node(schema, 0)? else {
        return Ok(None);
    };
    if let Some(Value::Array(options)) = root.remove("anyOf") {
        take_alternatives(&mut root, options);
    }
    if root
        .get("properties")
        .and_then(Value::as_object)
        .is_none_or(Map::is_empty)
    {
        return Ok(None);
    }
    root.insert("type".to_owned(), json!("object"));
    for of_others in ["enum", "items", "prefixItems", "minItems", "maxItems"] {
        root.remove(of_others);
    }
    Ok(Some(Value::Object(root)))
}

/// Returns `text`, cut to `most` characters.
pub(crate) fn shorten(text: &str, most: usize) -> String {
    if text.chars().nth(most).is_none() {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.truncate(short.trim_end().len());
    short.push('…');
    short
}

/// A root that is one of several objects has the properties of all of them, and none is required.
fn take_alternatives(root: &mut Map<String, Value>, options: Vec<Value>) {
    let mut all = Map::new();
    for option in options {
        if let Value::Object(mut option) = option
            && let Some(Value::Object(properties)) = option.remove("properties")
        {
            for (name, property) in properties {
                all.entry(name).or_insert(property);
            }
        }
    }
    if all.is_empty() {
        return;
    }
    let own = root.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(own) = own {
        for (name, property) in all {
            own.entry(name).or_insert(property);
        }
    }
}

struct Preparing<'a> {
    root: &'a Value,
    nodes: usize,
    /// The references that lead to the node at work.
    following: Vec<String>,
}

impl Preparing<'_> {
    fn node(&mut self, schema: &Value, depth: usize) -> Result<Value, BadName> {
        self.nodes += 1;
        let Value::Object(source) = schema else {
            // `true`: anything. `false` and what is no schema have no better word.
            return Ok(json!({}));
        };
        if depth > MAX_DEPTH || self.nodes > MAX_NODES {
            return Ok(free(source));
        }
        if let Some(Value::String(target)) = source.get("$ref") {
            return self.follow(target, source, depth);
        }
        if let Some(Value::Array(all)) = source.get("allOf").filter(|all| is_filled(all)) {
            return self.all_of(all, source, depth);
        }
        let mut made = Map::new();
        self.keep_plain(source, &mut made);
        self.keep_alternatives(source, &mut made, depth)?;
        self.keep_object(source, &mut made, depth)?;
        self.keep_array(source, &mut made, depth)?;
        if let Some(text) = description(source) {
            made.insert("description".to_owned(), Value::String(text));
        }
        Ok(Value::Object(made))
    }

    /// Puts what a reference means into its place, with what is said beside it.
    fn follow(&mut self, target: &str, source: &Map<String, Value>, depth: usize) -> Result<Value, BadName> {
        let Some(path) = target.strip_prefix('#') else {
            return Ok(free(source));
        };
        let circular = self.following.iter().any(|known| known == path);
        let Some(meant) = self.root.pointer(path).filter(|_| !circular) else {
            return Ok(free(source));
        };
        let mut merged = meant.as_object().cloned().unwrap_or_default();
        for (key, value) in source.iter().filter(|(key, _)| *key != "$ref") {
            merged.insert(key.clone(), value.clone());
        }
        self.following.push(path.to_owned());
        let made = self.node(&Value::Object(merged), depth + 1);
        self.following.pop();
        made
    }

    /// Makes one node of several that all apply: the first word of each kind counts, properties add up.
    fn all_of(&mut self, all: &[Value], source: &Map<String, Value>, depth: usize) -> Result<Value, BadName> {
        let mut rest = source.clone();
        rest.remove("allOf");
        let mut made = match self.node(&Value::Object(rest), depth + 1)? {
            Value::Object(made) => made,
            _ => Map::new(),
        };
        for one in all {
            let Value::Object(one) = self.node(one, depth + 1)? else {
                continue;
            };
            for (key, value) in one {
                match (made.get_mut(&key), value) {
                    (Some(Value::Object(own)), Value::Object(more)) if key == "properties" => {
                        for (name, property) in more {
                            own.entry(name).or_insert(property);
                        }
                    }
                    (Some(Value::Array(own)), Value::Array(more)) if key == "required" => {
                        let new: Vec<_> = more.into_iter().filter(|name| !own.contains(name)).collect();
                        own.extend(new);
                    }
                    (Some(_), _) => {}
                    (None, value) => {
                        made.insert(key, value);
                    }
                }
            }
        }
        Ok(Value::Object(made))
    }

    /// Keeps what is understood as it is.
    fn keep_plain(&self, source: &Map<String, Value>, made: &mut Map<String, Value>) {
        for key in ["format", "minItems", "maxItems", "minimum", "maximum", "default"] {
            if let Some(value) = source.get(key).filter(|value| !value.is_null()) {
                made.insert(key.to_owned(), value.clone());
            }
        }
        match source.get("type") {
            Some(Value::String(word)) if !word.is_empty() => {
                made.insert("type".to_owned(), json!(word.to_ascii_lowercase()));
            }
            Some(Value::Array(words)) => {
                let words = words.iter().filter_map(Value::as_str).filter(|word| !word.is_empty());
                let words: Vec<_> = words.map(str::to_ascii_lowercase).collect();
                match words.as_slice() {
                    [] => {}
                    [one] => {
                        made.insert("type".to_owned(), json!(one));
                    }
                    several => {
                        made.insert("type".to_owned(), json!(several));
                    }
                }
            }
            _ => {}
        }
        let only = source.get("const").map(|only| vec![only.clone()]);
        let listed = source.get("enum").and_then(Value::as_array).cloned();
        let values: Vec<Value> = only
            .or(listed)
            .into_iter()
            .flatten()
            .filter(|value| value.is_string() || value.is_number())
            .collect();
        if !values.is_empty() {
            if !made.contains_key("type") {
                let all_text = values.iter().all(Value::is_string);
                made.insert("type".to_owned(), json!(if all_text { "string" } else { "number" }));
            }
            made.insert("enum".to_owned(), Value::Array(values));
        }
    }

    fn keep_alternatives(
        &mut self,
        source: &Map<String, Value>,
        made: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), BadName> {
        let mut options = Vec::new();
        for key in ["anyOf", "oneOf"] {
            for option in source.get(key).and_then(Value::as_array).into_iter().flatten() {
                options.push(self.node(option, depth + 1)?);
            }
        }
        if !options.is_empty() {
            made.insert("anyOf".to_owned(), Value::Array(options));
        }
        Ok(())
    }

    fn keep_object(
        &mut self,
        source: &Map<String, Value>,
        made: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), BadName> {
        let required: Vec<&str> = source
            .get("required")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        if let Some(properties) = source.get("properties").and_then(Value::as_object) {
            let mut kept = Map::new();
            for (name, property) in properties {
                if is_name(name) {
                    kept.insert(name.clone(), self.node(property, depth + 1)?);
                } else if depth == 0 || required.contains(&name.as_str()) {
                    return Err(BadName);
                }
            }
            let mut needed: Vec<&str> = Vec::new();
            for name in required {
                if kept.contains_key(name) && !needed.contains(&name) {
                    needed.push(name);
                }
            }
            if !needed.is_empty() {
                made.insert("required".to_owned(), json!(needed));
            }
            if let Some(order) = source.get("propertyOrdering").and_then(Value::as_array) {
                let known = |name: &&Value| name.as_str().is_some_and(|name| kept.contains_key(name));
                let order: Vec<_> = order.iter().filter(known).collect();
                made.insert("propertyOrdering".to_owned(), json!(order));
            }
            made.insert("properties".to_owned(), Value::Object(kept));
            made.entry("type").or_insert_with(|| json!("object"));
        }
        match source.get("additionalProperties") {
            Some(Value::Bool(more)) => {
                made.insert("additionalProperties".to_owned(), json!(more));
            }
            Some(more @ Value::Object(_)) => {
                let more = self.node(more, depth + 1)?;
                made.insert("additionalProperties".to_owned(), more);
            }
            _ => {}
        }
        Ok(())
    }

    fn keep_array(
        &mut self,
        source: &Map<String, Value>,
        made: &mut Map<String, Value>,
        depth: usize,
    ) -> Result<(), BadName> {
        // An older draft lists the items of a tuple under `items`.
        let (items, fixed) = match source.get("items") {
            Some(Value::Array(fixed)) => (None, Some(fixed)),
            items => (items, source.get("prefixItems").and_then(Value::as_array)),
        };
        if let Some(fixed) = fixed {
            let mut kept = Vec::new();
            for item in fixed {
                kept.push(self.node(item, depth + 1)?);
            }
            made.insert("prefixItems".to_owned(), Value::Array(kept));
        }
        if let Some(items) = items {
            let items = self.node(items, depth + 1)?;
            made.insert("items".to_owned(), items);
        }
        if made.contains_key("items") || made.contains_key("prefixItems") {
            made.entry("type").or_insert_with(|| json!("array"));
        }
        let is_array = match made.get("type") {
            Some(Value::String(word)) => word == "array",
            Some(Value::Array(words)) => words.iter().any(|word| word == "array"),
            _ => false,
        };
        if is_array {
            made.entry("items").or_insert_with(|| json!({"type": "string"}));
        }
        Ok(())
    }
}

/// What stands for a schema that cannot be told: any object.
fn free(source: &Map<String, Value>) -> Value {
    let mut made = json!({"type": "object"});
    let text = source
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .trim();
    if !text.is_empty() {
        made["description"] = json!(shorten(text, PROPERTY_DESCRIPTION_CHARS));
    }
    made
}

/// The description of a node, with what the model would otherwise not be told.
fn description(source: &Map<String, Value>) -> Option<String> {
    let text = source
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .trim();
    let mut rules = Vec::new();
    let mut tell = |key: &str, rule: &dyn Fn(&Value) -> Option<String>| {
        rules.extend(source.get(key).and_then(rule));
    };
    let number = |word: &'static str| move |value: &Value| value.is_number().then(|| format!("{word} {value}"));
    tell("exclusiveMinimum", &number("more than"));
    tell("exclusiveMaximum", &number("less than"));
    tell("multipleOf", &number("a multiple of"));
    tell("minLength", &|value| {
        value.is_u64().then(|| format!("at least {value} characters"))
    });
    tell("maxLength", &|value| {
        value.is_u64().then(|| format!("at most {value} characters"))
    });
    tell("uniqueItems", &|value| {
        (*value == true).then(|| "no item twice".to_owned())
    });
    tell("pattern", &|value| {
        let pattern = value
            .as_str()
            .filter(|text| text.chars().count() <= TOLD_PATTERN_CHARS)?;
        Some(format!("matching {pattern}"))
    });
    if rules.is_empty() {
        return (!text.is_empty()).then(|| shorten(text, PROPERTY_DESCRIPTION_CHARS));
    }
    let rules = format!("({})", rules.join(", "));
    let room = PROPERTY_DESCRIPTION_CHARS.saturating_sub(rules.chars().count() + 1);
    let text = shorten(text, room);
    Some(format!("{text} {rules}").trim().to_owned())
}

fn is_filled(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty())
}

fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests;
