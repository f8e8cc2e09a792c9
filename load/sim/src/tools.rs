//! Decides whether an answer is a function call, and which.

use serde_json::{Value, json};

use crate::directive::Directives;
use crate::random;
use crate::request::{Declaration, GenerateRequest};
use crate::schema;

/// Words of a function name that say little about what it is for.
const WEAK: &[&str] = &[
    "get", "set", "list", "fetch", "find", "make", "create", "tool", "api", "the", "for", "with",
];
/// Most calls in one answer.
const MAX_CALLS: usize = 8;

/// Returns the functionCall objects of the answer; none means the answer is text.
pub(crate) fn decide(request: &GenerateRequest, directives: &Directives, prompt: &str, seed: u64) -> Vec<Value> {
    let declared = request.declarations();
    let config = &request.body["toolConfig"]["functionCallingConfig"];
    let mode = config["mode"].as_str().unwrap_or("AUTO").to_ascii_uppercase();
    let allowed: Vec<&str> = config["allowedFunctionNames"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let candidates: Vec<Declaration<'_>> = declared
        .into_iter()
        .filter(|function| mode == "AUTO" || allowed.is_empty() || allowed.contains(&function.name))
        .collect();
    let answered = !request.function_responses().is_empty();
    let chosen: Vec<Declaration<'_>> = match mode.as_str() {
        "NONE" => Vec::new(),
        _ if answered && mode != "ANY" => Vec::new(),
        _ if directives.parallel => candidates,
        _ => match &directives.call {
            Some(name) => candidates
                .into_iter()
                .filter(|function| function.name == name)
                .collect(),
            None => by_words(&candidates, prompt, mode == "ANY"),
        },
    };
    let turn = request.contents().len();
    chosen
        .into_iter()
        .take(MAX_CALLS)
        .enumerate()
        .map(|(at, function)| call(function, prompt, seed, turn, at))
        .collect()
}

/// Picks the functions whose names share telling words with the prompt; several only when joined by "and".
fn by_words<'a>(functions: &[Declaration<'a>], prompt: &str, must: bool) -> Vec<Declaration<'a>> {
    let said = words(prompt);
    let score = |function: &Declaration<'_>| {
        let name = words(function.name);
        let shared = name.iter().filter(|word| said.iter().any(|other| alike(word, other)));
        shared.filter(|word| !WEAK.contains(&word.as_str())).count()
    };
    let best = functions.iter().map(score).max().unwrap_or(0);
    let matching: Vec<_> = functions
        .iter()
        .copied()
        .filter(|function| score(function) == best && best > 0)
        .collect();
    if matching.is_empty() {
        return if must {
            functions.iter().copied().take(1).collect()
        } else {
            Vec::new()
        };
    }
    let many = said.iter().any(|word| word == "and");
    matching.into_iter().take(if many { MAX_CALLS } else { 1 }).collect()
}

fn call(function: Declaration<'_>, prompt: &str, seed: u64, turn: usize, at: usize) -> Value {
    let args = if function.schema.is_null() {
        "{}".to_owned()
    } else {
        schema::fill(function.schema, prompt)
    };
    let args: Value = serde_json::from_str(&args).unwrap_or_default();
    let id = random::hash(seed, &format!("{turn}/{at}/{}/{prompt}", function.name)) >> 32;
    json!({"name": function.name, "args": args, "id": format!("call_{id:08x}")})
}

/// Splits at everything that is not a letter or digit, and inside camelCase; lower-case.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut lower = false;
    for c in text.chars() {
        if !c.is_alphanumeric() || (lower && c.is_uppercase()) {
            words.push(String::new());
        }
        lower = c.is_lowercase();
        if let Some(last) = words.last_mut().filter(|_| c.is_alphanumeric()) {
            last.extend(c.to_lowercase());
        }
    }
    words.retain(|word| word.len() > 2);
    words
}

/// Says whether two words are the same but for an ending ("email" and "emails").
fn alike(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    long.starts_with(short) && long.len() - short.len() <= 3
}
