//! The tools that need no other service: what they are, and what they do.

use std::sync::{Arc, LazyLock};

use serde_json::{Map, Value, json};

use super::{
    BUILTIN, Execution, Outcome, Tool, calculate,
    memory::{Memories, Memory, MemoryError, NewMemory},
    now,
};
use crate::clock::Clock;
use kronos_protocol::ids::MemoryId;

/// The built-in tools, in their order.
#[must_use]
pub fn tools() -> Vec<Tool> {
    static TOOLS: LazyLock<Vec<Tool>> = LazyLock::new(all);
    TOOLS.clone()
}

fn all() -> Vec<Tool> {
    vec![
        tool(
            "current_time",
            "The date, the time and the weekday now, in a time zone.",
            true,
            json!({"timezone": {"type": "string", "maxLength": 64,
                "description": "A name of the IANA database, such as Europe/Zurich. Without it: UTC."}}),
            &[],
        ),
        tool(
            "calculate",
            "Evaluates an arithmetic expression. Understands + - * / % ^, parentheses, e, pi, and the functions abs, acos, asin, \
             atan, cbrt, ceil, cos, exp, factorial, floor, ln, log10, log2, max, min, round, sin, sqrt, tan, trunc. Angles are in \
             radians; max and min take two arguments; thousands have no separators.",
            true,
            json!({"expression": {"type": "string", "minLength": 1, "maxLength": calculate::MAX_BYTES,
                "description": "For example (1200 - 80) * 1.19 / 3."}}),
            &["expression"],
        ),
        tool(
            "remember",
            "Remembers something about the user for all later conversations: a fact, a preference, how to do things for them. Use it \
             when the user asks for it, or tells something that will matter later. One fact in one short sentence.",
            false,
            json!({"text": {"type": "string", "minLength": 1,
                "description": "What to remember, understandable without this conversation."}}),
            &["text"],
        ),
        tool(
            "recall",
            "Lists what was remembered about the user, with the ids that `forget` takes.",
            true,
            json!({"query": {"type": "string",
                "description": "Words that must be in what is listed. Without it: everything."}}),
            &[],
        ),
        tool(
            "forget",
            "Forgets one thing that was remembered about the user.",
            false,
            json!({"id": {"type": "string", "minLength": 1, "maxLength": MemoryId::MAX,
                "description": "Its id, as `recall` or `remember` gave it."}}),
            &["id"],
        ),
    ]
}

fn tool(name: &str, description: &str, read_only: bool, properties: Value, required: &[&str]) -> Tool {
    Tool {
        name: name.to_owned(),
        description: description.to_owned(),
        parameters: Some(Arc::new(json!({
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        }))),
        toolkit: BUILTIN.to_owned(),
        version: None,
        read_only,
        // What they change is the user's own notes, which the user can list and delete.
        asks: false,
        repeatable: true,
    }
}

/// Runs a built-in tool. Twice with the same key it has its effect once.
pub(super) async fn execute(memories: &Memories, clock: &Clock, execution: &Execution) -> Outcome {
    match run(memories, clock, execution).await {
        Ok(value) => Outcome::Done(value),
        Err(Problem::Told(text)) => Outcome::Failed(text),
        Err(Problem::Store(text)) if execution.read_only => Outcome::Failed(text),
        Err(Problem::Store(text)) => Outcome::Unknown(text),
    }
}

/// Why a tool has no result.
enum Problem {
    /// Nothing was done, and this is why.
    Told(String),
    /// The store failed: what it did is not known.
    Store(String),
}

impl From<String> for Problem {
    fn from(text: String) -> Self {
        Self::Told(text)
    }
}

impl From<MemoryError> for Problem {
    fn from(error: MemoryError) -> Self {
        match &error {
            MemoryError::Store(cause) => {
                tracing::warn!(error = %cause, "a note cannot be stored or read");
                Self::Store(error.to_string())
            }
            MemoryError::Empty | MemoryError::TooLong { .. } | MemoryError::Full { .. } | MemoryError::UserGone => {
                Self::Told(error.to_string())
            }
        }
    }
}

async fn run(memories: &Memories, clock: &Clock, execution: &Execution) -> Result<Value, Problem> {
    let Execution { arguments, user, .. } = execution;
    match execution.tool.as_str() {
        "current_time" => Ok(now::current_time(clock.now_ms(), text(arguments, "timezone")?)?),
        "calculate" => {
            let result = calculate::calculate(required(arguments, "expression")?)?;
            Ok(json!({ "result": plain(result) }))
        }
        "remember" => {
            let new = NewMemory {
                text: required(arguments, "text")?.to_owned(),
                session: Some(execution.session.clone()),
                key: Some(execution.key.clone()),
            };
            Ok(shown(&memories.add(user, new).await?))
        }
        "recall" => {
            let query = text(arguments, "query")?;
            let found = memories.find(user, query).await.map_err(MemoryError::from)?;
            Ok(json!({"memories": found.iter().map(shown).collect::<Vec<_>>()}))
        }
        "forget" => {
            let id = required(arguments, "id")?;
            let forgotten = match MemoryId::try_from(id) {
                Ok(id) => memories.forget(user, &id).await.map_err(MemoryError::from)?,
                Err(_no_id) => false,
            };
            // Also of a call that is made again: what is gone is gone.
            Ok(json!({ "forgotten": forgotten }))
        }
        other => {
            let other: String = other.chars().take(64).collect();
            Err(format!("there is no tool {other}").into())
        }
    }
}

fn shown(memory: &Memory) -> Value {
    json!({"id": memory.id, "text": memory.text})
}

/// Whole numbers without a fraction, as far as they are exact.
fn plain(number: f64) -> Value {
    #[expect(clippy::cast_possible_truncation, reason = "checked to be whole and small enough")]
    if number.fract() == 0.0 && number.abs() < 1e15 {
        json!(number as i64)
    } else {
        json!(number)
    }
}

/// A text that may be absent or null.
fn text<'a>(arguments: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match arguments.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("{name} must be a text")),
    }
}

fn required<'a>(arguments: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    match text(arguments, name)? {
        Some(text) if !text.is_empty() => Ok(text),
        _ => Err(format!("{name} is required")),
    }
}
