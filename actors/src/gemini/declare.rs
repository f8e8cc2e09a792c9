//! What is declared of the functions that the model may call: prepared once for each list, and without those that Gemini
//! refused.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use metrics::counter;
use serde_json::{Value, json};

use super::function::Function;
use super::schema::{self, BadName};
use crate::metrics::{GEMINI_FUNCTIONS_LEFT_OUT, refused};

/// Bytes of a function's name. Some of Google's pages say 64, others 128.
const NAME_BYTES: usize = 63;
/// Characters of a function's description. It counts as input in every request.
const DESCRIPTION_CHARS: usize = 1_024;
/// Lists whose preparation is kept: a run's list is the same from step to step.
const KEPT: usize = 64;
/// The bound of functions in one request.
const BOUND: &str = "gemini_functions";

/// One function as it is declared.
#[derive(Debug)]
pub(super) struct Declared {
    pub(super) name: String,
    pub(super) json: Value,
    /// Gemini refused a request for it.
    refused: AtomicBool,
}

impl Declared {
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// It is not declared any more.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }
}

/// A list of functions as it is declared, the refused ones included.
pub(super) type Declarations = Arc<[Declared]>;

/// Keeps what was prepared of the newest lists.
#[derive(Debug, Default)]
pub(super) struct Prepared(Mutex<Vec<(Weak<[Function]>, Declarations)>>);

impl Prepared {
    /// Returns the declarations of a list, at most `most`.
    pub(super) fn of(&self, functions: &Arc<[Function]>, most: usize) -> Declarations {
        if functions.is_empty() {
            return Declarations::default();
        }
        let is_it =
            |(list, _): &&(Weak<[Function]>, Declarations)| std::ptr::addr_eq(list.as_ptr(), Arc::as_ptr(functions));
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, declared)) = kept.iter().find(is_it) {
            return Arc::clone(declared);
        }
        let declared: Declarations = prepare(functions, most).into();
        // A list that is gone leaves its address to others only when nobody points at it any more.
        kept.retain(|(list, _)| list.strong_count() > 0);
        if kept.len() >= KEPT {
            kept.remove(0);
        }
        kept.push((Arc::downgrade(functions), Arc::clone(&declared)));
        declared
    }
}

fn prepare(functions: &[Function], most: usize) -> Vec<Declared> {
    let mut names = HashSet::new();
    let mut declared = Vec::new();
    for function in functions {
        let reason = match declare(function) {
            Ok(_) if !names.insert(function.name.as_str()) => "twice",
            Ok(_) if declared.len() >= most => {
                refused(BOUND);
                "bound"
            }
            Ok(made) => {
                declared.push(made);
                continue;
            }
            Err(LeftOut::Name) => "name",
            Err(LeftOut::Property) => "property",
        };
        counter!(GEMINI_FUNCTIONS_LEFT_OUT, "reason" => reason).increment(1);
        let name: String = function.name.chars().take(NAME_BYTES).collect();
        tracing::debug!(function = name, reason, "a function is not declared");
    }
    declared
}

/// Why a function is not declared.
enum LeftOut {
    Name,
    Property,
}

impl From<BadName> for LeftOut {
    fn from(_: BadName) -> Self {
        Self::Property
    }
}

fn declare(function: &Function) -> Result<Declared, LeftOut> {
    let name = function.name.as_str();
    let first = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let rest = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !first || !rest || name.len() > NAME_BYTES {
        return Err(LeftOut::Name);
    }
    let mut json = json!({"name": name});
    let description = function.description.trim();
    if !description.is_empty() {
        json["description"] = json!(schema::shorten(description, DESCRIPTION_CHARS));
    }
    let parameters = function
        .parameters
        .as_deref()
        .map(schema::prepare)
        .transpose()?
        .flatten();
    if let Some(parameters) = parameters {
        json["parametersJsonSchema"] = parameters;
    }
    Ok(Declared {
        name: name.to_owned(),
        json,
        refused: AtomicBool::new(false),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str) -> Function {
        Function {
            name: name.to_owned(),
            description: "What it does.".to_owned(),
            parameters: Some(Arc::new(
                json!({"type": "object", "properties": {"a": {"type": "string"}}}),
            )),
        }
    }

    fn names(declared: &[Declared]) -> Vec<&str> {
        declared.iter().map(|function| function.name.as_str()).collect()
    }

    #[test]
    fn a_function_is_declared_with_what_it_has() {
        let plain = Function {
            description: String::new(),
            parameters: None,
            ..function("f")
        };
        let declared = prepare(&[function("GMAIL_SEND_EMAIL"), plain], 64);
        assert_eq!(
            declared[0].json,
            json!({"name": "GMAIL_SEND_EMAIL", "description": "What it does.",
                "parametersJsonSchema": {"type": "object", "properties": {"a": {"type": "string"}}}})
        );
        assert_eq!(declared[1].json, json!({"name": "f"}));
    }

    #[test]
    fn what_gemini_would_refuse_is_left_out() {
        let odd = Function {
            parameters: Some(Arc::new(json!({"type": "object", "properties": {"a-b": {}}}))),
            ..function("odd")
        };
        let long = [62, 63, 64].map(|bytes| function(&"a".repeat(bytes)));
        let functions = [
            function("f"),
            function(""),
            function("1a"),
            function("a b"),
            function("é"),
            odd,
            function("f"),
            function("_g-2"),
        ];
        assert_eq!(names(&prepare(&functions, 64)), ["f", "_g-2"]);
        assert_eq!(prepare(&long, 64).len(), 2, "the bound of a name");
    }

    #[test]
    fn the_first_functions_up_to_the_bound_are_declared() {
        let functions = ["a", "b", "c", "d"].map(function);
        for (given, declared) in [(2, 2), (3, 3), (4, 3)] {
            assert_eq!(prepare(&functions[..given], 3).len(), declared, "{given}");
        }
    }

    #[test]
    fn a_list_is_prepared_once_and_remembers_what_was_refused() {
        let prepared = Prepared::default();
        let list: Arc<[Function]> = vec![function("f")].into();
        prepared.of(&list, 64)[0].refuse();
        assert!(prepared.of(&Arc::clone(&list), 64)[0].is_refused());
        let other: Arc<[Function]> = vec![function("f")].into();
        assert!(!prepared.of(&other, 64)[0].is_refused());
        drop(list);
        for _ in 0..2 * KEPT {
            let list: Arc<[Function]> = vec![function("f")].into();
            assert!(!prepared.of(&list, 64)[0].is_refused());
        }
        assert!(prepared.0.lock().unwrap().len() <= KEPT);
        assert!(prepared.of(&Arc::default(), 64).is_empty());
    }
}
