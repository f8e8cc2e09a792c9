//! Fills the arguments of a call from its schema and the words that ask for it.

use serde_json::{Map, Value, json};

use super::choose;
use crate::answer;
use crate::schema;

/// Words that introduce what something is called.
const TITLED: &[&str] = &[
    "titled ",
    "called ",
    "named ",
    "with title ",
    "title ",
    "with subject ",
    "subject ",
    "about ",
];
/// Words that introduce what something says.
const SAYING: &[&str] = &[
    "saying that ",
    "saying ",
    "that says ",
    "with body ",
    "with text ",
    "with the text ",
    "body ",
    "says ",
];

/// Returns arguments: what is required, and what the words tell.
pub(super) fn fill(schema: &Value, words: &str) -> Value {
    if schema.is_null() {
        return json!({});
    }
    let filled = serde_json::from_str(&schema::fill(schema, words)).unwrap_or(json!({}));
    let Value::Object(filled) = filled else {
        return json!({});
    };
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut args = Map::new();
    for (name, guess) in filled {
        let property = &schema["properties"][&name];
        match told(&name, property, words) {
            Some(value) => {
                args.insert(name, value);
            }
            None if required.contains(&name.as_str()) => {
                args.insert(name, guess);
            }
            None => {}
        }
    }
    Value::Object(args)
}

/// Returns arguments that violate the schema.
pub(super) fn spoil(schema: &Value, args: Value) -> Value {
    let mut args = match args {
        Value::Object(args) => args,
        _ => Map::new(),
    };
    let properties = schema["properties"].as_object();
    let required = schema["required"]
        .as_array()
        .and_then(|names| names.first())
        .and_then(Value::as_str);
    let first = required.or_else(|| properties.and_then(|properties| properties.keys().next().map(String::as_str)));
    match first {
        Some(name) => {
            let is_object = schema["properties"][name]["type"] == "object";
            let wrong = if is_object {
                json!("not an object")
            } else {
                json!({"wrong": true})
            };
            args.insert(name.to_owned(), wrong);
        }
        None => {
            args.insert("no_such_argument".to_owned(), json!({"wrong": true}));
        }
    }
    Value::Object(args)
}

/// Returns what the words tell of a property.
fn told(name: &str, schema: &Value, words: &str) -> Option<Value> {
    if let Some(text) = pair(name, words) {
        return typed(schema, &text);
    }
    let lower = name.to_ascii_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    match kind(schema) {
        "integer" | "number" => number(&lower, schema, words),
        "boolean" | "object" => None,
        "array" => {
            let items = &schema["items"];
            if has(&["email", "recipient", "attendee"]) || lower == "to" {
                let emails: Vec<_> = words.split_whitespace().filter_map(email).collect();
                return (!emails.is_empty()).then(|| json!(emails));
            }
            let singular = lower.strip_suffix('s').unwrap_or(&lower);
            let one = after(words, &[&format!("{singular} "), &format!("{lower} ")])?;
            Some(json!([typed(items, &one)?]))
        }
        _ => text(&lower, schema, words).map(Value::String),
    }
}

fn text(name: &str, schema: &Value, words: &str) -> Option<String> {
    let has = |parts: &[&str]| parts.iter().any(|part| name.contains(part));
    let each = || words.split_whitespace();
    if let Some(options) = schema["enum"].as_array() {
        let said = choose::words(words);
        let options = options.iter().filter_map(Value::as_str);
        return options
            .into_iter()
            .find(|option| said.contains(&option.to_lowercase()))
            .map(str::to_owned);
    }
    if schema["format"] == "email" || has(&["email", "recipient", "attendee"]) || name == "to" {
        return each().find_map(email);
    }
    if has(&["url", "link", "uri"]) {
        let url = each().find(|word| word.starts_with("http://") || word.starts_with("https://"));
        return url.map(|url| url.trim_end_matches(['.', ',', ')']).to_owned());
    }
    if has(&["expression", "formula"]) {
        return answer::sum(words).map(|(expression, _)| expression);
    }
    if has(&["full_name", "repository_name"]) || name == "owner" || name.starts_with("repo") {
        return repository(name, words);
    }
    if has(&["channel"]) {
        let channel = each().find_map(|word| word.strip_prefix('#'));
        return channel.map(bare).or_else(|| after(words, &["channel "]));
    }
    if has(&["zone"]) {
        return each()
            .map(bare)
            .find(|word| word.contains('/') && word.starts_with(char::is_uppercase));
    }
    if has(&["date", "start", "end_time", "datetime", "due"]) {
        return each()
            .map(bare)
            .find(|word| word.len() >= 10 && word.as_bytes().get(4) == Some(&b'-'));
    }
    if has(&["title", "subject", "summary"]) {
        return after(words, TITLED).or_else(|| quoted(words, 0));
    }
    if has(&["body", "message", "text", "content", "markdown"]) || has(&["note", "fact", "memory", "value"]) {
        let told = after(words, SAYING).or_else(|| quoted(words, usize::from(quoted(words, 1).is_some())));
        return told.or_else(|| remainder(words));
    }
    if has(&["query", "search", "keyword"]) || name == "q" {
        let asked = after(words, &["for ", "about ", "matching ", "from "]).or_else(|| quoted(words, 0));
        let asked = asked.or_else(|| remainder(words))?;
        // Notes are found by what they are about.
        let about = ["my ", "the ", "our "]
            .iter()
            .find_map(|word| asked.strip_prefix(word))
            .unwrap_or(&asked);
        return (!matches!(about, "me" | "us" | "everything")).then(|| about.to_owned());
    }
    if has(&["city", "location", "place"]) {
        return None;
    }
    if name == "name" || name.ends_with("_name") {
        return after(words, &["named ", "called "]).or_else(|| quoted(words, 0));
    }
    let of_thing = name
        .strip_suffix("_id")
        .and_then(|thing| after(words, &[&format!("{thing} ")]));
    of_thing.or_else(|| remainder(words).filter(|_| has(&["id", "key", "topic"])))
}

fn number(name: &str, schema: &Value, words: &str) -> Option<Value> {
    let mut numbers = words.split_whitespace().map(bare).filter_map(|word| {
        let digits = word.strip_prefix('#').unwrap_or(&word);
        digits.parse::<f64>().ok()
    });
    let counts = [
        "limit", "max", "count", "number", "size", "page", "top", "amount", "days", "id",
    ];
    let wanted = counts.iter().any(|part| name.contains(part));
    let said = numbers.next().filter(|_| wanted)?;
    typed(schema, &said.to_string())
}

/// Returns the value of `name: value` or `name=value`.
fn pair(name: &str, words: &str) -> Option<String> {
    let lower = words.to_ascii_lowercase();
    let spoken = name.to_ascii_lowercase().replace('_', " ");
    for key in [name.to_ascii_lowercase(), spoken] {
        for sign in [":", "="] {
            let wanted = format!("{key}{sign}");
            let Some(at) = lower.find(&wanted) else { continue };
            let alone = lower
                .get(..at)?
                .chars()
                .next_back()
                .is_none_or(|c| !c.is_alphanumeric() && c != '_');
            let rest = words.get(at + wanted.len()..)?.trim_start();
            if !alone || rest.starts_with("//") {
                continue;
            }
            let value = match rest.chars().next()? {
                quote @ ('"' | '\'' | '`') => rest.get(1..)?.split(quote).next()?,
                _ => rest.split([',', ';', '\n']).next()?,
            };
            return Some(value.trim().to_owned()).filter(|value| !value.is_empty());
        }
    }
    None
}

/// Reads a text as the type of a schema; what cannot be read is no value.
fn typed(schema: &Value, text: &str) -> Option<Value> {
    match kind(schema) {
        "integer" => text.parse::<f64>().ok().map(|number| json!(number.round() as i64)),
        "number" => text.parse::<f64>().ok().map(|number| json!(number)),
        "boolean" => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" => Some(json!(true)),
            "false" | "no" => Some(json!(false)),
            _ => None,
        },
        "array" => {
            let items = text.split([' ', '|']).filter(|item| !item.is_empty());
            let items: Vec<_> = items.filter_map(|item| typed(&schema["items"], item)).collect();
            Some(Value::Array(items))
        }
        "object" => serde_json::from_str(text).ok(),
        _ => Some(json!(text)),
    }
}

fn kind(schema: &Value) -> &str {
    let first = |types: &Value| -> Option<&'static str> {
        let known = ["integer", "number", "boolean", "array", "object", "string"];
        let is = |name: &str, word: &str| word.eq_ignore_ascii_case(name);
        match types {
            Value::String(word) => known.into_iter().find(|name| is(name, word)),
            Value::Array(words) => {
                let mut words = words.iter().filter_map(Value::as_str);
                words.find_map(|word| known.into_iter().find(|name| is(name, word)))
            }
            _ => None,
        }
    };
    let options = schema["anyOf"].as_array().into_iter().flatten();
    first(&schema["type"])
        .or_else(|| options.into_iter().find_map(|option| first(&option["type"])))
        .unwrap_or("string")
}

/// Returns what follows one of `openings`, up to the end of its phrase.
fn after(words: &str, openings: &[&str]) -> Option<String> {
    let lower = words.to_ascii_lowercase();
    let begins = |opening: &&str| {
        let found = lower.match_indices(*opening).find(|(at, _)| {
            lower
                .get(..*at)
                .is_some_and(|before| before.chars().next_back().is_none_or(|c| !c.is_alphanumeric()))
        });
        found.map(|(at, _)| at + opening.len())
    };
    let begin = openings.iter().find_map(begins)?;
    let rest = words.get(begin..)?.trim_start();
    if let Some(quote) = rest.chars().next().filter(|c| matches!(c, '"' | '“' | '\'' | '`')) {
        let end = if quote == '“' { '”' } else { quote };
        return rest.get(quote.len_utf8()..)?.split(end).next().map(str::to_owned);
    }
    let tail = rest.to_ascii_lowercase();
    let stops = [
        " in repo",
        " in the repo",
        " on the repo",
        " in ",
        " to ",
        " with ",
        " saying ",
        " that says ",
        " at ",
        " for ",
        " on ",
        ", ",
    ];
    let is_text = openings == SAYING;
    let end = stops
        .iter()
        .filter(|_| !is_text)
        .filter_map(|stop| tail.find(stop))
        .min();
    let text = rest
        .get(..end.unwrap_or(rest.len()))?
        .trim()
        .trim_end_matches(['?', '.', '!']);
    (!text.is_empty()).then(|| text.to_owned())
}

/// Returns the text in the quotes of this place.
fn quoted(words: &str, place: usize) -> Option<String> {
    let plain = words.replace(['“', '”'], "\"");
    plain.split('"').skip(1).step_by(2).nth(place).map(str::to_owned)
}

/// Returns what follows the verb of a request: `remember that` my cat is Tom.
fn remainder(words: &str) -> Option<String> {
    let lower = words.to_lowercase();
    let begin = words.len().checked_sub(choose::polite_end(&lower).len())?;
    let request = words.get(begin..)?;
    let openings = [
        "remember that ",
        "remember: ",
        "remember ",
        "note that ",
        "keep in mind that ",
        "don't forget that ",
        "recall what you know about ",
        "recall ",
        "what do you remember about ",
        "what do you know about ",
        "do you know ",
        "forget about ",
        "forget that ",
        "forget ",
    ];
    let small = request.to_lowercase();
    let opening = openings.iter().find(|opening| small.starts_with(**opening))?;
    let rest = request.get(opening.len()..)?.trim().trim_end_matches(['?', '.', '!']);
    (!rest.is_empty()).then(|| rest.to_owned())
}

/// Returns owner, name or both of a repository.
fn repository(name: &str, words: &str) -> Option<String> {
    let each = words.split_whitespace().map(bare);
    let both = each.into_iter().find_map(|word| {
        let (owner, repo) = word.split_once('/')?;
        let plain = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c));
        let named = plain(owner) && plain(repo) && owner.chars().any(char::is_alphabetic);
        named.then(|| (owner.to_owned(), repo.to_owned()))
    });
    match (name, both) {
        ("owner", Some((owner, _))) => Some(owner),
        ("owner", None) => Some("octocat".to_owned()),
        (name, Some((owner, repo))) if name.contains("full") => Some(format!("{owner}/{repo}")),
        (_, Some((_, repo))) => Some(repo),
        (_, None) => after(words, &["repository ", "repo "]),
    }
}

fn email(word: &str) -> Option<String> {
    let word = word.trim_matches(|c: char| !c.is_alphanumeric());
    word.split_once('@')
        .filter(|(user, host)| !user.is_empty() && host.contains('.'))
        .map(|_| word.to_owned())
}

/// Returns a word without the signs around it.
fn bare(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphanumeric() && c != '#').to_owned()
}
