//! Chooses functions by the words of a prompt: their names say what they do to what, and their descriptions help.

use serde_json::Value;

use super::{Chosen, MAX_CALLS};
use crate::answer;
use crate::request::Declaration;

/// Words that say what is done; a function's name has one of them, or it reads.
const VERBS: &[&str] = &[
    "create", "send", "add", "remove", "delete", "update", "edit", "post", "reply", "star", "merge", "close", "open",
    "insert", "append", "invite", "schedule", "cancel", "archive", "upload", "move", "rename", "set", "make", "book",
    "forward", "share", "write", "publish", "start", "stop", "turn", "play", "order", "pay",
];
/// Words that say that something is looked up.
const READING: &[&str] = &[
    "get", "list", "fetch", "find", "search", "read", "show", "check", "query", "retrieve", "current",
];
/// Words of names and descriptions that tell nothing.
const WEAK: &[&str] = &[
    "a",
    "an",
    "the",
    "to",
    "of",
    "in",
    "for",
    "from",
    "with",
    "by",
    "on",
    "all",
    "my",
    "tool",
    "api",
    "and",
    "or",
    "is",
    "it",
    "at",
    "as",
    "this",
    "that",
    "your",
    "be",
    "authenticated",
    "user",
    "sends",
    "me",
    "new",
    "one",
];
/// Words that ask for something to be looked up.
const ASKING: &[&str] = &[
    "what", "whats", "which", "who", "when", "where", "how", "show", "list", "get", "fetch", "find", "search", "check",
    "tell", "give", "look", "any", "is", "are", "do", "read", "see",
];
/// What people say for what functions are called.
const SAME: &[(&str, &str)] = &[
    ("repo", "repository"),
    ("repos", "repository"),
    ("mail", "email"),
    ("mails", "email"),
    ("meeting", "event"),
    ("appointment", "event"),
    ("msg", "message"),
    ("bug", "issue"),
    ("make", "create"),
    ("file", "create"),
    ("schedule", "create"),
    ("book", "create"),
    ("write", "send"),
    ("post", "send"),
    ("add", "create"),
    ("comment", "create"),
    ("draft", "create"),
    ("pr", "pull"),
];
/// What asks for a text and not for a tool.
const TALK: &[&str] = &[
    "tell me about",
    "explain",
    "what is a ",
    "what is an ",
    "what are ",
    "why ",
    "how do ",
    "how does ",
    "poem",
    "script",
    "python",
    "program",
    "story",
    "essay",
    " words",
    "translate",
    "summar",
    "haiku",
    "write a function",
    "difference between",
];
/// Says whether a request in lower case means a function.
type Means = fn(&str) -> bool;

/// The functions that every conversation has: general words would choose them far too often.
const OWN: &[(&str, Means)] = &[
    ("current_time", asks_the_time),
    ("calculate", asks_a_sum),
    ("remember", tells_to_remember),
    ("recall", asks_what_is_known),
    ("forget", tells_to_forget),
];

/// Says whether a function response says that the call failed.
pub(crate) fn failed(response: &Value) -> bool {
    let error = &response["error"];
    let empty = error.is_null() || *error == false || error.as_str().is_some_and(str::is_empty);
    !empty || response["successful"] == false
}

/// Returns the functions that the prompt fits, or all of them when it fits none.
pub(super) fn all<'a>(functions: &[Declaration<'a>], prompt: &str) -> Vec<Chosen<'a>> {
    let said = words(prompt);
    let fits = |function: &&Declaration<'a>| nouns(function).iter().any(|noun| says(&said, noun));
    let mut fitting: Vec<_> = functions.iter().filter(fits).collect();
    if fitting.len() < 2 {
        fitting = functions.iter().take(MAX_CALLS).collect();
    }
    fitting.into_iter().map(|function| chosen(*function, prompt)).collect()
}

/// Returns a function for each request of the prompt that one fits; `must`: at least one.
pub(super) fn by_words<'a>(functions: &[Declaration<'a>], prompt: &str, must: bool) -> Vec<Chosen<'a>> {
    let mut found: Vec<Chosen<'a>> = Vec::new();
    let mut before = String::new();
    let mut asks = false;
    for segment in segments(prompt) {
        let lower = segment.to_lowercase();
        let asking = is_asking(&lower);
        let carried = asks && segment.split_whitespace().count() <= 4;
        match best(functions, &segment, asking || carried) {
            Some(function) => {
                found.push(chosen(function, &segment));
                asks = asking || carried;
            }
            None => {
                // What fits nothing belongs to the request before it: "saying hi and bye".
                let words = found.last_mut().map_or(&mut before, |last| &mut last.words);
                if !words.is_empty() {
                    words.push_str(" and ");
                }
                words.push_str(&segment);
            }
        }
    }
    if let [only] = found.as_mut_slice() {
        prompt.clone_into(&mut only.words);
    }
    if found.is_empty() && must {
        let said = words(prompt);
        let score = |function: &&Declaration<'a>| nouns(function).iter().filter(|noun| says(&said, noun)).count();
        let most = functions.iter().map(|function| score(&function)).max().unwrap_or(0);
        let many = prompt.split_whitespace().any(|word| word == "and") && most > 0;
        let fitting = functions.iter().filter(|function| score(function) == most);
        return fitting
            .take(if many { MAX_CALLS } else { 1 })
            .map(|function| chosen(*function, prompt))
            .collect();
    }
    found
}

fn chosen<'a>(function: Declaration<'a>, words: &str) -> Chosen<'a> {
    Chosen {
        function,
        words: words.to_owned(),
        args: None,
    }
}

/// Splits a prompt into what it asks for, outside of quotes.
fn segments(prompt: &str) -> Vec<String> {
    let mut segments = vec![String::new()];
    let mut quote = None;
    for piece in prompt.split_inclusive(char::is_whitespace) {
        let word = piece.trim();
        let joins = matches!(word.to_lowercase().as_str(), "and" | "then" | "&");
        if joins && quote.is_none() {
            segments.push(String::new());
            continue;
        }
        for c in piece.chars() {
            match (quote, c) {
                (None, '"' | '“' | '`') => quote = Some(if c == '“' { '”' } else { c }),
                (Some(end), c) if c == end => quote = None,
                _ => {}
            }
        }
        if let Some(last) = segments.last_mut() {
            last.push_str(piece);
        }
        let ends = word.ends_with(['?', '!', ';', ',']) || (word.ends_with('.') && word.len() > 2);
        if ends && quote.is_none() {
            segments.push(String::new());
        }
    }
    let trimmed = segments
        .into_iter()
        .map(|segment| segment.trim().trim_end_matches([',', ';']).to_owned());
    trimmed.filter(|segment| !segment.is_empty()).collect()
}

fn best<'a>(functions: &[Declaration<'a>], segment: &str, asking: bool) -> Option<Declaration<'a>> {
    let lower = polite_end(&segment.to_lowercase()).to_owned();
    let own = |function: &&Declaration<'_>| OWN.iter().find(|(name, _)| *name == function.name);
    if let Some(function) = functions
        .iter()
        .find(|function| own(function).is_some_and(|(_, fits)| fits(&lower)))
    {
        return Some(*function);
    }
    if TALK.iter().any(|talk| format!("{lower} ").contains(talk)) {
        return None;
    }
    let said = spoken(segment);
    let is_time = |noun: &String| matches!(noun.as_str(), "date" | "time");
    let clock = |function: &&Declaration<'_>| nouns(function).iter().all(is_time);
    let others = functions.iter().filter(|function| own(function).is_none());
    let others = others.filter(|function| !clock(function) || asks_the_time(&lower));
    let scored = others.filter_map(|function| Some((score(function, &said, asking)?, function)));
    let mut best: Option<(i32, &Declaration<'a>)> = None;
    for (score, function) in scored {
        if best.is_none_or(|(most, _)| score > most) {
            best = Some((score, function));
        }
    }
    best.map(|(_, function)| *function)
}

/// How well a function fits; `None`: it does not.
fn score(function: &Declaration<'_>, said: &[String], asking: bool) -> Option<i32> {
    let name = words(function.name);
    let nouns = nouns(function);
    let matched = nouns.iter().filter(|noun| says(said, noun)).count();
    let described = words(function.description);
    let described = described
        .iter()
        .filter(|word| !WEAK.contains(&word.as_str()) && word.len() > 2);
    let told = described
        .clone()
        .filter(|word| said.iter().any(|other| alike(other, word)))
        .count();
    let mut verbs = name.iter().filter(|word| VERBS.contains(&word.as_str())).peekable();
    let reads = verbs.peek().is_none();
    let done = verbs.any(|verb| says(said, verb));
    let mut reading = name.iter().filter(|word| READING.contains(&word.as_str()));
    let named = done || reading.any(|word| says(said, word));
    if matched == 0 {
        let of_toolkit = name
            .first()
            .is_some_and(|toolkit| nouns.len() < name.len() && says(said, toolkit));
        if named && of_toolkit {
            return Some(5 + count(told));
        }
        // By its description alone: what it does comes first in it, and in the prompt.
        let first = described.clone().next()?;
        let leads = said
            .iter()
            .find(|word| !WEAK.contains(&word.as_str()) && *word != "please")?;
        let about = |word: &String| !alike(first, word) && said.iter().any(|other| alike(other, word));
        let fits = alike(first, leads) && described.clone().any(about);
        return fits.then(|| 1 + count(told));
    }
    let does = done || (reads && asking);
    if !does {
        return None;
    }
    let bonus = if named { 5 } else { 0 };
    let old = if function.description.starts_with("Deprecated") {
        5
    } else {
        0
    };
    Some(10 * count(matched) + bonus + count(told.min(4)) - 3 * count(nouns.len() - matched) - old)
}

/// The words of a request, with what its signs mean, and neighbours that a name may write as one.
fn spoken(segment: &str) -> Vec<String> {
    let mut said = words(segment);
    let pairs: Vec<_> = said.windows(2).map(<[String]>::concat).collect();
    let letter = |text: &str| text.starts_with(char::is_alphabetic);
    let is_repository = |word: &str| {
        word.split_once('/')
            .is_some_and(|(owner, name)| letter(owner) && letter(name))
    };
    if segment.split_whitespace().any(is_repository) {
        said.push("repository".to_owned());
    }
    if segment
        .split_whitespace()
        .any(|word| word.strip_prefix('#').is_some_and(letter))
    {
        said.extend(["message", "channel"].map(str::to_owned));
    }
    said.extend(pairs);
    said
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX / 100)
}

/// What a function is about: the words of its name without verbs and without the name of its toolkit.
fn nouns(function: &Declaration<'_>) -> Vec<String> {
    let mut name = words(function.name);
    if function.name.bytes().all(|byte| !byte.is_ascii_lowercase()) && name.len() > 2 {
        let toolkit = name.remove(0);
        name.retain(|word| *word != toolkit);
    }
    let telling: Vec<String> = name
        .iter()
        .filter(|word| {
            let word = word.as_str();
            !WEAK.contains(&word) && !VERBS.contains(&word) && !READING.contains(&word)
        })
        .cloned()
        .collect();
    if telling.is_empty() { name } else { telling }
}

fn says(said: &[String], wanted: &str) -> bool {
    said.iter().any(|word| {
        alike(word, wanted)
            || SAME
                .iter()
                .any(|(people, names)| alike(word, people) && alike(names, wanted))
    })
}

/// Says whether two words are the same but for an ending of the plural or of a time.
fn alike(a: &str, b: &str) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let ending = long
        .strip_prefix(short)
        .filter(|ending| ending.is_empty() || short.len() > 2);
    ending.is_some_and(|ending| matches!(ending, "" | "s" | "es" | "d" | "ed" | "ing"))
}

/// Splits at everything that is not a letter or digit, and inside camelCase; lower-case.
pub(super) fn words(text: &str) -> Vec<String> {
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
    words.retain(|word| !word.is_empty());
    words
}

fn is_asking(lower: &str) -> bool {
    words(lower).iter().take(4).any(|word| ASKING.contains(&word.as_str()))
        || lower.ends_with('?')
        || lower.ends_with("please")
}

/// Returns a request without the words of politeness before it.
pub(super) fn polite_end(lower: &str) -> &str {
    let mut rest = lower.trim();
    let openings = [
        "please ",
        "can you ",
        "could you ",
        "would you ",
        "will you ",
        "now ",
        "also ",
        "ok ",
        "okay ",
        "hey ",
        "hi, ",
        "kronos, ",
        "i want you to ",
        "i would like you to ",
        "i'd like you to ",
        "let's ",
        "just ",
        "so ",
    ];
    while let Some(shorter) = openings.iter().find_map(|opening| rest.strip_prefix(opening)) {
        rest = shorter.trim_start();
    }
    rest
}

fn asks_the_time(lower: &str) -> bool {
    [
        "what time is it",
        "what time do we",
        "what's the time",
        "whats the time",
        "what is the time",
        "current time",
        "time is it",
        "tell me the time",
        "time right now",
        "what day is",
        "which day is",
        "what date",
        "today's date",
        "current date",
        "what is the date",
        "what's the date",
        "date today",
    ]
    .iter()
    .any(|words| lower.contains(words))
}

/// A sum is asked for when nothing but the asking stands beside it.
fn asks_a_sum(lower: &str) -> bool {
    let Some((expression, _)) = answer::sum(lower) else {
        return lower.starts_with("calculate ") && lower.bytes().any(|byte| byte.is_ascii_digit());
    };
    if lower.starts_with("calculate") || lower.starts_with("compute") || lower.starts_with("evaluate") {
        return true;
    }
    // A date or a range is no sum.
    if !expression.contains(['+', '*', '/', '^', '%', '(']) && !expression.contains(" - ") {
        return false;
    }
    const BESIDE: &[&str] = &[
        "what",
        "is",
        "s",
        "whats",
        "calculate",
        "compute",
        "how",
        "much",
        "the",
        "result",
        "of",
        "please",
        "equals",
        "work",
        "out",
        "value",
        "sum",
        "tell",
        "me",
        "solve",
        "evaluate",
        "times",
        "plus",
        "minus",
        "divided",
        "by",
    ];
    let spoken = words(lower);
    let beside = |word: &String| BESIDE.contains(&word.as_str()) || word.bytes().all(|byte| byte.is_ascii_digit());
    spoken.iter().all(beside)
}

fn tells_to_remember(lower: &str) -> bool {
    let told = [
        "remember ",
        "remember:",
        "note that ",
        "keep in mind ",
        "don't forget that ",
        "do not forget that ",
    ];
    let asked = [
        "remember what",
        "remember when",
        "remember how",
        "remember who",
        "remember me",
        "remember our",
    ];
    told.iter().any(|words| lower.starts_with(words))
        && !asked.iter().any(|words| lower.starts_with(words))
        && !lower.ends_with('?')
}

fn asks_what_is_known(lower: &str) -> bool {
    let asked = [
        "recall ",
        "what do you remember",
        "what do you know about me",
        "what do you know about my",
        "do you know my ",
        "what have you remembered",
        "what did i ask you to remember",
        "what did i tell you to remember",
    ];
    asked.iter().any(|words| lower.starts_with(words))
}

fn tells_to_forget(lower: &str) -> bool {
    let about = lower
        .strip_prefix("forget ")
        .filter(|rest| !rest.starts_with("it") && !rest.starts_with("to "));
    about.is_some()
}
