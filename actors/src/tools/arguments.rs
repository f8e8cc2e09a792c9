//! Whether the arguments of a call are what its tool says that it takes.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{Arc, Mutex, PoisonError},
};

use jsonschema::{Retrieve, Uri, ValidationError, Validator};
use serde_json::{Map, Value};

/// Longest text about what is wrong, in characters.
const MAX_CHARS: usize = 500;
/// Mistakes that are named.
const MAX_MISTAKES: usize = 5;
/// Compiled schemas that are kept; then all are dropped.
const KEPT: usize = 512;

/// Checks the arguments of a call against the JSON schema of its tool. Without a schema, or with one that is itself broken or refers
/// to another document, everything passes: the tool will say.
///
/// # Errors
/// What is wrong where, for the model; at most 500 characters.
pub fn check_arguments(parameters: Option<&Value>, arguments: &Map<String, Value>) -> Result<(), String> {
    let Some(validator) = parameters.and_then(compiled) else {
        return Ok(());
    };
    let arguments = Value::Object(arguments.clone());
    let mut mistakes = validator.iter_errors(&arguments);
    let said = |mistake: ValidationError<'_>| {
        let place = mistake.instance_path().to_string();
        let place = if place.is_empty() {
            "the arguments"
        } else {
            place.as_str()
        };
        // What came is not repeated: it may be long.
        format!("{place}: {}", mistake.masked())
    };
    let named: Vec<String> = mistakes.by_ref().take(MAX_MISTAKES).map(said).collect();
    if named.is_empty() {
        return Ok(());
    }
    let more = if mistakes.next().is_some() { "; and more" } else { "" };
    let text = named.join("; ") + more;
    Err(shortened(text))
}

fn shortened(text: String) -> String {
    match text.char_indices().nth(MAX_CHARS - 1) {
        Some((cut, last)) if cut + last.len_utf8() < text.len() => format!("{}…", &text[..cut]),
        _ => text,
    }
}

/// No document but the schema itself is read.
struct Nothing;

impl Retrieve for Nothing {
    fn retrieve(&self, _: &Uri<String>) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
        Err("other documents are not read".into())
    }
}

/// A compiled schema beside what it was made of; `None`: it is broken.
type Kept = (Value, Option<Arc<Validator>>);

/// Compiling costs a hundred times what checking does.
fn compiled(schema: &Value) -> Option<Arc<Validator>> {
    static CACHE: Mutex<Option<HashMap<u64, Kept>>> = Mutex::new(None);
    let mut hasher = DefaultHasher::new();
    schema.hash(&mut hasher);
    let hash = hasher.finish();
    let known = |cache: &HashMap<u64, Kept>| match cache.get(&hash) {
        Some((known, validator)) if known == schema => Some(validator.clone()),
        _ => None,
    };
    let cache = || CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(validator) = cache().as_ref().and_then(known) {
        return validator;
    }
    let validator = jsonschema::options()
        .with_retriever(Nothing)
        .build(schema)
        .ok()
        .map(Arc::new);
    let mut cache = cache();
    let cache = cache.get_or_insert_with(HashMap::new);
    if cache.len() >= KEPT {
        cache.clear();
    }
    cache.insert(hash, (schema.clone(), validator.clone()));
    validator
}
