//! Makes a JSON text that satisfies a schema (JSON Schema or the OpenAPI subset), with hints from the prompt.

use serde_json::{Value, json};

/// References followed before a value is cut short, so that a cyclic schema ends.
const MAX_DEPTH: usize = 12;

/// Returns a JSON text for `schema`; properties come in the order the schema asks for.
pub(crate) fn fill(schema: &Value, prompt: &str) -> String {
    Filler { root: schema, prompt }.value(schema, "", 0)
}

struct Filler<'a> {
    root: &'a Value,
    prompt: &'a str,
}

impl Filler<'_> {
    fn value(&self, schema: &Value, name: &str, depth: usize) -> String {
        if depth > MAX_DEPTH {
            return "null".to_owned();
        }
        if let Some(target) = schema["$ref"]
            .as_str()
            .and_then(|path| self.root.pointer(path.trim_start_matches('#')))
        {
            return self.value(target, name, depth + 1);
        }
        if let Some(constant) = schema.get("const") {
            return constant.to_string();
        }
        if let Some(first) = schema["enum"].as_array().and_then(|values| values.first()) {
            return first.to_string();
        }
        for union in ["anyOf", "oneOf", "allOf"] {
            let options = schema[union].as_array().map_or(&[][..], Vec::as_slice);
            if let Some(option) = options.iter().find(|option| kind(option) != "null").or(options.first()) {
                return self.value(option, name, depth + 1);
            }
        }
        match kind(schema).as_str() {
            "object" => self.object(schema, depth),
            "array" => self.array(schema, name, depth),
            "integer" => self.number(schema, true),
            "number" => self.number(schema, false),
            "boolean" => "true".to_owned(),
            "null" => "null".to_owned(),
            _ => self.string(schema, name),
        }
    }

    fn object(&self, schema: &Value, depth: usize) -> String {
        let required = names(&schema["required"]);
        let mut order = names(&schema["propertyOrdering"]);
        let properties = schema["properties"].as_object();
        // Deep down only what must be there, or an optional cycle would grow.
        let optional = properties
            .into_iter()
            .flatten()
            .map(|(name, _)| name.as_str())
            .filter(|_| depth < 4);
        for name in required.into_iter().chain(optional) {
            if !order.contains(&name) {
                order.push(name);
            }
        }
        let fields = order.iter().map(|name| {
            let inner = &schema["properties"][*name];
            format!("{}: {}", json!(name), self.value(inner, name, depth + 1))
        });
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
    }

    fn array(&self, schema: &Value, name: &str, depth: usize) -> String {
        let fixed = schema["prefixItems"].as_array().map_or(&[][..], Vec::as_slice);
        let least = schema["minItems"].as_u64().unwrap_or(1).clamp(1, 100);
        let wanted = schema["maxItems"].as_u64().map_or(least, |most| least.min(most));
        let wanted = usize::try_from(wanted).unwrap_or(1).max(fixed.len());
        let items = (0..wanted).map(|at| self.value(fixed.get(at).unwrap_or(&schema["items"]), name, depth + 1));
        format!("[{}]", items.collect::<Vec<_>>().join(", "))
    }

    fn number(&self, schema: &Value, whole: bool) -> String {
        let bound = |name: &str| number_of(&schema[name]);
        let low = bound("minimum").or_else(|| bound("exclusiveMinimum").map(|low| low + 1.0));
        let high = bound("maximum").or_else(|| bound("exclusiveMaximum").map(|high| high - 1.0));
        let said = self
            .prompt
            .split(|c: char| !c.is_ascii_digit() && c != '.')
            .find_map(|word| word.parse::<f64>().ok());
        let mut value = said.unwrap_or(3.0);
        value = low.map_or(value, |low| value.max(low));
        value = high.map_or(value, |high| value.min(high));
        if whole {
            format!("{}", value.round())
        } else {
            json!(value).to_string()
        }
    }

    fn string(&self, schema: &Value, name: &str) -> String {
        let mut text = match schema["format"].as_str() {
            Some("date-time") => "2026-01-01T12:00:00Z".to_owned(),
            Some("date") => "2026-01-01".to_owned(),
            Some("time") => "12:00:00Z".to_owned(),
            Some("email") => self.email(),
            Some("uri" | "url") => "https://example.com/".to_owned(),
            Some("uuid") => "00000000-0000-4000-8000-000000000001".to_owned(),
            Some(_) | None => self.hint(&name.to_ascii_lowercase()),
        };
        let length = |key: &str| number_of(&schema[key]).map(|length| length as usize);
        while length("minLength").is_some_and(|least| text.chars().count() < least.min(10_000)) {
            text.push('x');
        }
        if let Some(most) = length("maxLength") {
            text = text.chars().take(most).collect();
        }
        json!(text).to_string()
    }

    /// Guesses a text from the name of its property and the prompt.
    fn hint(&self, name: &str) -> String {
        let has = |words: &[&str]| words.iter().any(|word| name.contains(word));
        if has(&["email", "recipient"]) {
            self.email()
        } else if has(&["city", "location", "place", "country"]) {
            self.place().unwrap_or_else(|| "Paris".to_owned())
        } else if has(&["zone"]) {
            "Europe/Paris".to_owned()
        } else if has(&["date", "day"]) {
            "2026-01-01".to_owned()
        } else if has(&["query", "prompt", "text", "body", "message", "question", "content"]) && !self.prompt.is_empty()
        {
            self.prompt.to_owned()
        } else if has(&["subject", "title", "summary"]) {
            self.prompt.split_whitespace().take(6).collect::<Vec<_>>().join(" ")
        } else if name == "name" {
            "Ada Lovelace".to_owned()
        } else {
            "value".to_owned()
        }
    }

    fn email(&self) -> String {
        let words = self
            .prompt
            .split_whitespace()
            .map(|word| word.trim_matches(|c: char| !c.is_alphanumeric()));
        words
            .into_iter()
            .find(|word| word.contains('@'))
            .unwrap_or("ada@example.com")
            .to_owned()
    }

    /// Returns the capitalised words after "in", "at", "for", "of" or "to".
    fn place(&self) -> Option<String> {
        let words: Vec<&str> = self.prompt.split_whitespace().collect();
        let clean = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_owned();
        let capital = |word: &str| word.chars().next().is_some_and(char::is_uppercase);
        words.windows(2).enumerate().find_map(|(at, pair)| {
            let leads = ["in", "at", "for", "of", "to"].contains(&pair[0].to_ascii_lowercase().as_str());
            let mut place = Vec::new();
            for word in words[at + 1..].iter().take(3).take_while(|word| capital(word)) {
                place.push(clean(word));
                // A sign after the word ends the name.
                if !word.ends_with(char::is_alphanumeric) {
                    break;
                }
            }
            (leads && !place.is_empty()).then(|| place.join(" "))
        })
    }
}

/// Returns the lower-case type of a schema node; of several types the first that is not null.
fn kind(schema: &Value) -> String {
    let named = match &schema["type"] {
        Value::String(name) => Some(name.as_str()),
        Value::Array(names) => names.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
    };
    let guess = if schema["properties"].is_object() {
        "object"
    } else if schema["items"].is_object() {
        "array"
    } else {
        "string"
    };
    named.unwrap_or(guess).to_ascii_lowercase()
}

/// Reads a number that may be spelled as a text, as int64 fields are.
fn number_of(value: &Value) -> Option<f64> {
    value
        .as_f64()
        .or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

fn names(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::fill;

    fn filled(schema: &Value, prompt: &str) -> Value {
        serde_json::from_str(&fill(schema, prompt)).unwrap()
    }

    #[test]
    fn every_required_property_has_its_type() {
        let schema = json!({"type": "OBJECT", "required": ["name", "age", "tags", "ok"], "properties": {
            "name": {"type": "STRING"}, "age": {"type": "INTEGER", "minimum": 18}, "ok": {"type": "boolean"},
            "tags": {"type": "ARRAY", "minItems": "2", "items": {"type": "STRING", "enum": ["a", "b"]}}}});
        let value = filled(&schema, "a person");
        assert_eq!((value["age"].as_i64(), value["ok"].as_bool()), (Some(18), Some(true)));
        assert!(value["name"].is_string() && value["tags"][0] == "a");
    }

    #[test]
    fn a_cyclic_schema_ends() {
        let schema = json!({"$ref": "#/$defs/node", "$defs": {"node": {"type": "object", "properties": {
            "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}}}}});
        assert!(filled(&schema, "").is_object());
    }

    #[test]
    fn the_prompt_gives_hints() {
        let schema =
            json!({"type": "object", "properties": {"city": {"type": "string"}, "to_email": {"type": "string"}}});
        let value = filled(&schema, "Weather in New York? Tell bob@x.org.");
        assert_eq!(value, json!({"city": "New York", "to_email": "bob@x.org"}));
    }
}
