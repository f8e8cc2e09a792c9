//! Faults and other behaviour on demand: the words of magic brackets, of the fault header and of scripts.
//!
//! A word is `name`, `name arg`, `name;key=value`, and may end in `-once` or `x3`: then it applies that many times to
//! the same text. The README lists all names.

use serde_json::Value;

use crate::error::{ApiError, Quota};

/// The request header that carries fault words, separated by commas.
pub(crate) const HEADER: &str = "x-kronos-sim-fault";
/// Chunks that leave before a stream breaks, unless `after=N` says otherwise.
const GOOD_CHUNKS: usize = 2;
/// Default delay of `slow-first-byte`.
const SLOW_MS: u64 = 3_000;

/// How the HTTP exchange fails instead of giving an answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    Status(u16),
    Quota {
        quota: Quota,
        retry_after: f64,
        header: bool,
    },
    EmptyBody(u16),
    Html(u16),
}

/// How an answer ends when it does not end with STOP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finish {
    Blocked,
    Safety,
    Malformed,
    MaxTokens { with_text: bool },
    Empty,
    Continue,
    Reason(String),
}

/// How a stream breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Break {
    /// Inside an event, then the connection is dropped.
    Cut,
    /// The connection is dropped between two events.
    Drop,
    /// The body ends cleanly without finishReason.
    CleanEnd,
    /// Nothing more comes; the connection stays open.
    Stall,
    /// An event with an error.
    Error(u16),
    /// A bare error document.
    RawError(u16),
    /// An event that is not JSON.
    Garbage,
}

/// How the events of a stream are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Framing {
    #[default]
    Crlf,
    Lf,
    /// Seven bytes per write, also inside a character.
    Split,
    /// A comment after the first event.
    Comment,
    /// `data: [DONE]` at the end.
    Done,
    /// An `event:` line before the first event.
    EventLine,
    NoSpace,
    /// Raw U+2028 and U+2029 in the text.
    LineSeparator,
}

/// Everything one request is told to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Directives {
    pub(crate) refusal: Option<Refusal>,
    pub(crate) finish: Option<Finish>,
    pub(crate) broken: Option<(usize, Break)>,
    pub(crate) framing: Framing,
    pub(crate) slow_first_byte_ms: u64,
    pub(crate) words: Option<usize>,
    pub(crate) think: bool,
    /// Each text becomes the time at which it leaves.
    pub(crate) clock: bool,
    pub(crate) parallel: bool,
    pub(crate) calls: Vec<WantedCall>,
    /// Steps in which functions are called, one after the other.
    pub(crate) steps: Option<usize>,
    /// The first call's arguments violate the schema.
    pub(crate) bad_args: bool,
    /// The first call is of a function that was not declared.
    pub(crate) bad_name: bool,
    /// What is said of calls was said before the results that came last.
    pub(crate) inherited: bool,
}

/// A call that a word asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WantedCall {
    pub(crate) name: String,
    /// Exact arguments.
    pub(crate) args: Option<Value>,
    /// The word names the step: it is made then, whatever came before.
    pub(crate) now: bool,
}

/// One word with its argument and parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word<'a> {
    name: &'a str,
    arg: Option<&'a str>,
    params: Vec<(&'a str, &'a str)>,
    /// How often it applies to the same text.
    pub(crate) times: Option<u32>,
}

/// Reads the fault words of a header or a script, separated by commas.
pub(crate) fn parse_list(text: &str) -> Vec<Word<'_>> {
    text.split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(parse)
        .collect()
}

/// Finds the magic words in a message.
pub(crate) fn in_text(text: &str) -> Vec<Word<'_>> {
    pieces(text).filter_map(|(_, word)| word).map(parse).collect()
}

/// Returns the message without its magic words.
pub(crate) fn strip(text: &str) -> String {
    pieces(text)
        .map(|(plain, _)| plain)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// Splits a text into (plain text, the word after it).
fn pieces(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let current = rest.take()?;
        let found = current.split_once("[[").and_then(|(plain, after)| {
            let (word, tail) = split_word(after)?;
            Some((plain, word, tail))
        });
        let Some((plain, word, tail)) = found else {
            return Some((current, None));
        };
        rest = Some(tail);
        Some((plain, Some(word)))
    })
}

/// Splits behind the brackets that end a word; they may also stand within the arguments of a call.
fn split_word(text: &str) -> Option<(&str, &str)> {
    let end = text.find("]]")?;
    let end = match json_end(text) {
        Some(json) if json > end => json + text.get(json..)?.find("]]")?,
        _ => end,
    };
    Some((text.get(..end)?, text.get(end + 2..)?))
}

/// Returns where the JSON of a word such as `call f {"a": [[1]]}` ends.
fn json_end(text: &str) -> Option<usize> {
    if !text.trim_start().starts_with("call") {
        return None;
    }
    let begin = text
        .find('{')
        .filter(|at| text.find("]]").is_none_or(|end| *at < end))?;
    let mut values = serde_json::Deserializer::from_str(text.get(begin..)?).into_iter::<Value>();
    values.next()?.ok()?;
    Some(begin + values.byte_offset())
}

fn parse(text: &str) -> Word<'_> {
    let json = json_end(text).unwrap_or(0);
    let head_end = text[json..].find(';').map_or(text.len(), |at| json + at);
    let head = text[..head_end].trim();
    let fields = text.get(head_end + 1..).unwrap_or_default().split(';').map(str::trim);
    let (name, arg) = head
        .split_once(char::is_whitespace)
        .map_or((head, None), |(name, arg)| (name, Some(arg.trim())));
    let params = fields
        .filter(|field| !field.is_empty())
        .map(|field| field.split_once('=').unwrap_or((field, "")))
        .collect();
    let (name, times) = split_times(name);
    Word {
        name,
        arg,
        params,
        times,
    }
}

fn split_times(name: &str) -> (&str, Option<u32>) {
    if let Some(name) = name.strip_suffix("-once") {
        return (name, Some(1));
    }
    let counted = name
        .rsplit_once('x')
        .and_then(|(name, times)| Some((name, times.parse().ok()?)));
    counted.map_or((name, None), |(name, times)| (name, Some(times)))
}

impl Word<'_> {
    /// Names the word for the count of its uses.
    pub(crate) fn name(&self) -> &str {
        self.name
    }

    /// Returns the step of the turn for which it is meant, if it names one.
    pub(crate) fn step(&self) -> Option<usize> {
        self.param("step").and_then(|step| step.parse().ok())
    }

    /// Says whether it is about the calls of the whole turn.
    pub(crate) fn is_about_calls(&self) -> bool {
        matches!(self.name, "call" | "parallel" | "steps" | "badargs" | "badname")
    }

    fn wanted_call(&self) -> Option<WantedCall> {
        let arg = self.arg?;
        let (name, args) = arg.split_once(char::is_whitespace).unwrap_or((arg, ""));
        Some(WantedCall {
            name: name.to_owned(),
            args: serde_json::from_str(args).ok(),
            now: self.step().is_some(),
        })
    }

    /// Returns the argument after the name.
    pub(crate) fn arg(&self) -> Option<&str> {
        self.arg
    }

    /// Returns a parameter; one without a value is empty.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        self.params
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }

    /// Returns the number of a parameter, or else of the argument.
    pub(crate) fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.param(name).or(self.arg).and_then(|text| text.parse().ok())
    }
}

impl Directives {
    /// Applies one word; an unknown one has no effect.
    pub(crate) fn apply(&mut self, word: &Word<'_>) {
        let applied = self.apply_refusal(word) || self.apply_finish(word) || self.apply_break(word);
        if applied || self.apply_framing(word.name) {
            return;
        }
        match word.name {
            "bad-framing" => {
                let _known: bool = self.apply_framing(&format!("sse-{}", word.arg.unwrap_or("lf")));
            }
            "slow-first-byte" => self.slow_first_byte_ms = word.number("ms").unwrap_or(SLOW_MS),
            "tokens" | "words" => self.words = word.number("n"),
            "think" => self.think = true,
            "clock" => self.clock = true,
            "parallel" => self.parallel = true,
            "call" => self.calls.extend(word.wanted_call()),
            "steps" => self.steps = word.number("n"),
            "badargs" => self.bad_args = true,
            "badname" => self.bad_name = true,
            _ => {}
        }
    }

    fn apply_refusal(&mut self, word: &Word<'_>) -> bool {
        let quota = |quota| Refusal::Quota {
            quota,
            retry_after: word.number("retry_after").unwrap_or(1.25),
            header: word.param("header").is_some(),
        };
        let refusal = match word.name {
            "429" => quota(Quota::PerMinute),
            "429-daily" => quota(Quota::PerDay),
            "429-bare" => quota(Quota::Unsaid),
            "empty-body" => Refusal::EmptyBody(word.number("status").unwrap_or(503)),
            "html" => Refusal::Html(word.number("status").unwrap_or(502)),
            name => match name.parse() {
                Ok(status @ 400..=599) => Refusal::Status(status),
                Ok(_) | Err(_) => return false,
            },
        };
        self.refusal = Some(refusal);
        true
    }

    fn apply_finish(&mut self, word: &Word<'_>) -> bool {
        self.finish = Some(match word.name {
            "blocked" => Finish::Blocked,
            "safety" => Finish::Safety,
            "recitation" => Finish::Reason("RECITATION".to_owned()),
            "malformed" => Finish::Malformed,
            "max-tokens" => Finish::MaxTokens { with_text: true },
            "max-tokens-empty" => Finish::MaxTokens { with_text: false },
            "empty" => Finish::Empty,
            "continue" => Finish::Continue,
            "finish" => Finish::Reason(word.arg.unwrap_or("OTHER").to_owned()),
            _ => return false,
        });
        true
    }

    fn apply_break(&mut self, word: &Word<'_>) -> bool {
        let status = || word.number("status").unwrap_or(503);
        let broken = match word.name {
            "cut" => Break::Cut,
            "truncate" => Break::Drop,
            "truncate-clean" => Break::CleanEnd,
            "stall" => Break::Stall,
            "midstream" | "midstream-error" => Break::Error(status()),
            "midstream-raw" => Break::RawError(status()),
            "garbage" => Break::Garbage,
            _ => return false,
        };
        let after = word
            .param("after")
            .and_then(|text| text.parse().ok())
            .unwrap_or(GOOD_CHUNKS);
        self.broken = Some((after, broken));
        true
    }

    fn apply_framing(&mut self, name: &str) -> bool {
        self.framing = match name {
            "sse-lf" => Framing::Lf,
            "sse-split" => Framing::Split,
            "sse-comment" => Framing::Comment,
            "sse-done" => Framing::Done,
            "sse-event" => Framing::EventLine,
            "sse-nospace" => Framing::NoSpace,
            "sse-u2028" => Framing::LineSeparator,
            _ => return false,
        };
        true
    }
}

impl Refusal {
    /// Returns the HTTP status.
    pub(crate) fn status(&self) -> u16 {
        match self {
            Self::Status(status) | Self::EmptyBody(status) | Self::Html(status) => *status,
            Self::Quota { .. } => 429,
        }
    }

    /// Renders the refusal for a request to `model`.
    pub(crate) fn response(&self, model: &str, in_array: bool) -> actix_web::HttpResponse {
        match self {
            Self::Status(status) => ApiError::status(*status, model).response(in_array),
            Self::Quota {
                quota,
                retry_after,
                header,
            } => ApiError::quota(model, *quota, *retry_after, *header).response(in_array),
            Self::EmptyBody(status) => crate::error::response(*status).finish(),
            Self::Html(status) => crate::error::response(*status)
                .content_type("text/html; charset=UTF-8")
                .body(format!(
                    "<html><title>Error {status}</title><p>The server is unavailable.</html>"
                )),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Break, Directives, Refusal, in_text, parse_list, strip};
    use crate::error::Quota;

    fn directives(text: &str) -> Directives {
        let mut directives = Directives::default();
        in_text(text).iter().for_each(|word| directives.apply(word));
        directives
    }

    #[test]
    fn magic_words_add_up_and_leave_the_text() {
        let both = directives("[[slow-first-byte 5000]] hi [[truncate]][[truncate-clean]] there");
        assert_eq!(
            (both.slow_first_byte_ms, both.broken),
            (5000, Some((2, Break::CleanEnd)))
        );
        assert_eq!(strip("[[503]] hi [[cut]]there"), "hi there");
        assert_eq!(strip("a [[b"), "a [[b");
    }

    #[test]
    fn a_call_may_carry_exact_arguments() {
        let text = r#"[[call f {"a": [[1]], "b": ";]]"};step=2]] then [[call g]][[steps 3]]"#;
        let found = directives(text);
        let (f, g) = (&found.calls[0], &found.calls[1]);
        assert_eq!((f.name.as_str(), f.now), ("f", true));
        assert_eq!(f.args, Some(json!({"a": [[1]], "b": ";]]"})));
        assert_eq!((g.name.as_str(), &g.args, g.now), ("g", &None, false));
        assert_eq!((found.steps, strip(text).as_str()), (Some(3), "then"));
        assert_eq!(directives("[[call f {broken]] a").calls[0].args, None);
    }

    #[test]
    fn a_word_may_be_limited_to_some_times() {
        for (text, times) in [("503", None), ("503-once", Some(1)), ("503x2", Some(2))] {
            let words = parse_list(text);
            assert_eq!((words[0].name, words[0].times), ("503", times), "{text}");
        }
    }

    #[test]
    fn parameters_are_read() {
        let mut found = Directives::default();
        parse_list("429;retry_after=1.5;header, stall;after=0")
            .iter()
            .for_each(|word| found.apply(word));
        assert_eq!(
            found.refusal,
            Some(Refusal::Quota {
                quota: Quota::PerMinute,
                retry_after: 1.5,
                header: true
            })
        );
        assert_eq!(found.broken, Some((0, Break::Stall)));
    }
}
