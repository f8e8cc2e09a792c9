//! Decides whether an answer is a function call, and which.

mod arguments;
mod choose;

use serde_json::{Value, json};

use crate::directive::{Directives, WantedCall};
use crate::random;
use crate::request::{Declaration, GenerateRequest};

pub(crate) use choose::failed;

/// Most calls in one answer.
const MAX_CALLS: usize = 8;
/// A function that nobody declares.
const UNDECLARED: &str = "no_such_function";

/// A call to make.
struct Chosen<'a> {
    function: Declaration<'a>,
    /// The words that give its arguments.
    words: String,
    /// Exact arguments.
    args: Option<Value>,
}

/// Returns the functionCall objects of the answer; none means the answer is text.
///
/// `prompt` is the text of the last turn without magic words.
pub(crate) fn decide(request: &GenerateRequest, directives: &Directives, prompt: &str, seed: u64) -> Vec<Value> {
    let config = &request.body["toolConfig"]["functionCallingConfig"];
    let mode = config["mode"].as_str().unwrap_or("AUTO").to_ascii_uppercase();
    if mode == "NONE" {
        return Vec::new();
    }
    let allowed: Vec<&str> = config["allowedFunctionNames"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let declared = request.declarations().into_iter();
    let candidates: Vec<Declaration<'_>> = declared
        .filter(|function| mode == "AUTO" || allowed.is_empty() || allowed.contains(&function.name))
        .collect();
    let turn = request.contents().len();
    let step = request.step();
    let began = crate::directive::strip(request.turn_said());
    let words = if prompt.is_empty() { began.as_str() } else { prompt };
    if directives.bad_name && step == 1 && !candidates.is_empty() {
        return vec![call(UNDECLARED, json!({}), seed, turn, 0)];
    }
    let must = mode == "ANY";
    let mut chosen = due(request, directives, &candidates, words, must);
    chosen.truncate(MAX_CALLS);
    let calls = chosen.into_iter().enumerate().map(|(at, chosen)| {
        let Chosen { function, words, args } = chosen;
        let spoil = directives.bad_args && step == 1 && at == 0;
        let args = args.unwrap_or_else(|| arguments::fill(function.schema, &words));
        let args = if spoil {
            arguments::spoil(function.schema, args)
        } else {
            args
        };
        call(function.name, args, seed, turn, at)
    });
    calls.collect()
}

/// Chooses what is called in this step.
fn due<'a>(
    request: &GenerateRequest,
    directives: &Directives,
    candidates: &[Declaration<'a>],
    words: &str,
    must: bool,
) -> Vec<Chosen<'a>> {
    let (now, any_time): (Vec<_>, Vec<_>) = directives.calls.iter().partition(|wanted| wanted.now);
    if !now.is_empty() {
        return wanted(candidates, &now, words);
    }
    if let Some(chosen) = forget_what_was_found(request, candidates, words) {
        return chosen;
    }
    let responses = request.function_responses();
    let usual = || match any_time.as_slice() {
        [] if directives.parallel => choose::all(candidates, words),
        [] => choose::by_words(candidates, words, must),
        some => wanted(candidates, some, words),
    };
    let step = request.step();
    let steered = !request.last_said().is_empty();
    if responses.is_empty() || (steered && !directives.inherited) {
        return usual();
    }
    let mends = (directives.bad_args || directives.bad_name) && step == 2;
    let has_failed = |name: &str| {
        responses
            .iter()
            .any(|(other, response)| *other == name && failed(response))
    };
    if mends && responses.iter().any(|(_, response)| failed(response)) {
        usual()
    } else if directives.steps.is_some_and(|steps| step <= steps) {
        let mut again = usual();
        again.retain(|chosen| !has_failed(chosen.function.name));
        again
    } else if must {
        usual()
    } else if steered {
        choose::by_words(candidates, words, false)
    } else {
        Vec::new()
    }
}

/// What is to be forgotten is found first, when it is forgotten by its id: two steps.
fn forget_what_was_found<'a>(
    request: &GenerateRequest,
    candidates: &[Declaration<'a>],
    words: &str,
) -> Option<Vec<Chosen<'a>>> {
    let declared = |name: &str| candidates.iter().find(|function| function.name == name).copied();
    let (forget, recall) = (declared("forget")?, declared("recall")?);
    let by_id = forget.schema["properties"]["id"].is_object();
    let [only] = choose::by_words(candidates, words, false).try_into().ok()?;
    if !by_id || only.function.name != forget.name {
        return None;
    }
    let step = |function, args| {
        vec![Chosen {
            function,
            words: words.to_owned(),
            args,
        }]
    };
    match (request.step(), request.function_responses().as_slice()) {
        (1, _) => Some(step(recall, None)),
        (2, [(name, found)]) if *name == recall.name => {
            let found = if found["output"].is_object() {
                &found["output"]
            } else {
                *found
            };
            let id = &found["memories"][0]["id"];
            id.is_string().then(|| step(forget, Some(json!({"id": id}))))
        }
        _ => None,
    }
}

fn wanted<'a>(candidates: &[Declaration<'a>], calls: &[&WantedCall], words: &str) -> Vec<Chosen<'a>> {
    let found = calls.iter().filter_map(|wanted| {
        let function = candidates.iter().find(|function| function.name == wanted.name)?;
        Some(Chosen {
            function: *function,
            words: words.to_owned(),
            args: wanted.args.clone(),
        })
    });
    found.collect()
}

fn call(name: &str, args: Value, seed: u64, turn: usize, at: usize) -> Value {
    let id = random::hash(seed, &format!("{turn}/{at}/{name}/{args}")) >> 32;
    json!({"name": name, "args": args, "id": format!("call_{id:08x}")})
}

#[cfg(test)]
mod tests;
