//! What in a line is text of people, what an id, and what belongs to the protocol.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::json;
use super::streams::{self, Streams};
use super::words::Words;

/// Fields whose values are words of the protocol, names of tools and models, or numbers: kept.
const KEPT: &[&str] = &[
    "act",
    "activityType",
    "at_ms",
    "code",
    "codec",
    "duplicate",
    "first",
    "head",
    "inputTokens",
    "kronosrec",
    "link",
    "max_tokens",
    "mimeType",
    "mime_type",
    "mode",
    "model",
    "on",
    "op",
    "outputTokens",
    "protocolVersion",
    "provider",
    "read_bytes_per_second",
    "reason",
    "reasoningTokens",
    "recorder",
    "replace",
    "role",
    "seq",
    "started_at_ms",
    "status",
    "stepName",
    "subtype",
    "tail",
    "temperature",
    "think_ms",
    "think_to_ms",
    "timestamp",
    "tool_policy",
    "tool_rules",
    "toolCallName",
    "toolkits",
    "totalTokens",
    "run_started",
    "run_ended",
    "deltas",
    "asked",
    "type",
    "cachedInputTokens",
    "cacheWriteInputTokens",
    "expiresAt",
];

/// Fields whose values are ids, or lists of them: replaced, another one for another one.
const IDS: &[&str] = &[
    "branch",
    "device",
    "entityId",
    "epoch",
    "id",
    "interrupt",
    "interruptId",
    "interruptIds",
    "messageId",
    "parentMessageId",
    "parentRunId",
    "parentSubagentRunId",
    "parentToolCallId",
    "pendingToolCallIds",
    "ref",
    "run",
    "runId",
    "session",
    "subagentRunId",
    "threadId",
    "toolCallId",
];

/// Fields with a form of their own: whatever is in them is looked at again.
const FORMS: &[&str] = &[
    "after",
    "answers",
    "client",
    "command",
    "event",
    "function",
    "input",
    "interrupts",
    "messages",
    "outcome",
    "resume",
    "settings",
    "source",
    "toolCalls",
    "usage",
];

/// Keys that are kept in JSON of any form, beside those above.
const KEYS: &[&str] = &[
    "approved",
    "content",
    "delta",
    "editedArgs",
    "message",
    "name",
    "text",
    "title",
];

/// Words that are kept in JSON of any form, where they are values of `mode`, `role`, `status` or `type`.
const WORDS: &[&str] = &[
    "activity",
    "assistant",
    "cancelled",
    "developer",
    "function",
    "interrupt",
    "queue",
    "reasoning",
    "reject",
    "resolved",
    "steer",
    "success",
    "system",
    "text",
    "tool",
    "user",
];

/// Scrubs the lines of one recording.
#[derive(Debug)]
pub(super) struct Scrubber {
    words: Words,
    streams: Streams,
    /// Texts that were put together, scrubbed.
    scrubbed: HashMap<(&'static str, String), String>,
}

/// Where a field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// The line itself, or something within it that has no rule of its own.
    Line,
    Command,
    Event,
    /// A custom event: its name says what it is.
    Custom,
    Function,
}

impl Scrubber {
    /// Looks at all lines first: for texts that came in pieces, and for ids.
    pub(super) fn new(lines: &[Value], keep_directives: bool) -> Self {
        let mut words = Words::new(keep_directives);
        for line in lines {
            collect(line, &mut words);
        }
        Self {
            words,
            streams: Streams::of(lines),
            scrubbed: HashMap::new(),
        }
    }

    /// Scrubs a line.
    pub(super) fn line(&mut self, line: Value) -> Value {
        let Value::Object(mut line) = line else {
            return Value::Null;
        };
        // The piece must be found before the line is changed.
        let delta = self.delta(&line);
        if let (Some(delta), Some(event)) = (delta, line.get_mut("event")) {
            let event = event.take();
            let Value::Object(mut event) = self.form(event, Place::Event) else {
                return Value::Null;
            };
            event.insert("delta".to_owned(), Value::String(delta));
            line.remove("event");
            let Value::Object(mut line) = self.form(Value::Object(line), Place::Line) else {
                return Value::Null;
            };
            line.insert("event".to_owned(), Value::Object(event));
            return Value::Object(line);
        }
        self.form(Value::Object(line), Place::Line)
    }

    /// The scrubbed piece of a text that came in pieces.
    fn delta(&mut self, line: &Map<String, Value>) -> Option<String> {
        let event = line.get("event")?.as_object()?;
        let (name, piece) = streams::piece(line, event)?;
        let stream = self.streams.get(&name)?;
        let start = stream.start(piece)?;
        let is_json = name.0 == "TOOL_CALL_ARGS";
        let whole = self.scrubbed.entry(name).or_insert_with(|| {
            if is_json {
                json::scrub(&stream.text, &self.words)
            } else {
                text(&self.words, &stream.text)
            }
        });
        whole.get(start..start + piece.text.len()).map(str::to_owned)
    }

    /// Scrubs an object of the protocol.
    fn form(&mut self, value: Value, place: Place) -> Value {
        match value {
            Value::Object(map) => {
                let place = match map.get("type").and_then(Value::as_str) {
                    Some("CUSTOM") if place == Place::Event => Place::Custom,
                    _ => place,
                };
                let fields = map.into_iter().map(|(key, value)| {
                    let value = self.field(&key, value, place);
                    (self.key(&key), value)
                });
                Value::Object(fields.collect())
            }
            Value::Array(list) => list.into_iter().map(|value| self.form(value, place)).collect(),
            other => self.free(None, other),
        }
    }

    fn field(&mut self, key: &str, value: Value, place: Place) -> Value {
        match (key, place, &value) {
            ("name", Place::Custom | Place::Function, Value::String(_)) => value,
            ("message", Place::Command, Value::String(_)) => self.ids(value),
            ("arguments", _, Value::String(arguments)) => Value::String(json::scrub(arguments, &self.words)),
            ("command", ..) => self.form(value, Place::Command),
            ("event", ..) => self.form(value, Place::Event),
            ("function", ..) => self.form(value, Place::Function),
            // The options of a message, the position of an attach, what a line reacts to.
            ("run" | "after", _, Value::Object(_)) => self.form(value, place),
            ("after", _, Value::String(_)) => value,
            // Text, or parts with a form of their own.
            ("content", _, Value::Array(_)) => self.form(value, Place::Line),
            (key, ..) if KEPT.contains(&key) && is_plain(&value) => value,
            (key, ..) if IDS.contains(&key) => self.ids(value),
            (key, ..) if FORMS.contains(&key) => self.form(value, Place::Line),
            (key, ..) => self.free(Some(key), value),
        }
    }

    fn ids(&mut self, value: Value) -> Value {
        match value {
            // What the protocol itself calls a session.
            Value::String(word) if word == "new" || word == "@me" => Value::String(word),
            Value::String(id) => Value::String(self.words.id(&id)),
            Value::Array(ids) => ids.into_iter().map(|id| self.ids(id)).collect(),
            // The number of a run.
            Value::Number(_) => value,
            other => self.free(None, other),
        }
    }

    /// Scrubs JSON of any form: every text, number and key.
    fn free(&self, key: Option<&str>, value: Value) -> Value {
        match value {
            Value::String(word) if self.is_word(key, &word) => Value::String(word),
            Value::String(old) => Value::String(text(&self.words, &old)),
            Value::Number(number) => {
                let new = self.words.number(&number.to_string());
                serde_json::from_str(&new).map_or(Value::Null, Value::Number)
            }
            Value::Array(list) => list.into_iter().map(|value| self.free(None, value)).collect(),
            Value::Object(map) => {
                let mut fields = Map::new();
                for (key, value) in map {
                    let value = self.free(Some(&key), value);
                    let new = self.key(&key);
                    // Short keys have few others of their shape.
                    let free = |new: &String| !fields.contains_key(new);
                    let others = (1..100).map(|salt| self.words.drawn(&key, salt));
                    let new = std::iter::once(new).chain(others).find(free).unwrap_or(key);
                    fields.insert(new, value);
                }
                Value::Object(fields)
            }
            Value::Bool(_) | Value::Null => value,
        }
    }

    fn is_word(&self, key: Option<&str>, word: &str) -> bool {
        match key {
            Some("mode" | "role" | "status" | "type") => WORDS.contains(&word),
            Some("op") => ["add", "remove", "replace", "move", "copy", "test"].contains(&word),
            _ => false,
        }
    }

    fn key(&self, key: &str) -> String {
        let known = [KEPT, IDS, FORMS, KEYS, FIELDS].iter().any(|list| list.contains(&key));
        if known { key.to_owned() } else { self.words.text(key) }
    }
}

/// Fields of the protocol whose values may be anything.
const FIELDS: &[&str] = &[
    "arguments",
    "context",
    "from",
    "path",
    "description",
    "encryptedValue",
    "error",
    "forwardedProps",
    "metadata",
    "parameters",
    "patch",
    "payload",
    "rawEvent",
    "responseSchema",
    "result",
    "snapshot",
    "state",
    "system_prompt",
    "tools",
    "value",
    "version",
];

/// Whether a value of a field that is kept is what such fields have: no JSON of any other form.
fn is_plain(value: &Value) -> bool {
    let is_scalar = |value: &Value| !value.is_object() && !value.is_array();
    match value {
        Value::Array(list) => list.iter().all(is_scalar),
        Value::Object(map) => map
            .values()
            .all(|rule| matches!(rule.as_str(), Some("auto" | "ask" | "deny"))),
        _ => true,
    }
}

/// Scrubs a text: an id that is known, JSON, or words.
fn text(words: &Words, old: &str) -> String {
    match words.known_id(old) {
        Some(id) => id.clone(),
        None if json::is_json(old) => json::scrub(old, words),
        None => words.text(old),
    }
}

/// Finds ids, so that they are the same wherever they stand.
fn collect(value: &Value, words: &mut Words) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(id) if IDS.contains(&key.as_str()) && id != "new" && id != "@me" => {
                        words.id(id);
                    }
                    value if FORMS.contains(&key.as_str()) => collect(value, words),
                    _ => {}
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, words)),
        Value::String(_) | Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}
