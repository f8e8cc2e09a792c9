//! Faults on demand, from scripts, the request header and words in arguments.

use serde_json::{Value, json};

use super::script::ToolResult;
use crate::directive::Word;
use crate::script::ScriptedError;

/// Default delay of `slow`.
const SLOW_MS: u64 = 3_000;
const AFTER: &str = "-after-effect";

/// How a 429 is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limited {
    /// As documented: only a message.
    Documented,
    /// In the envelope, as the edge does, without rate-limit headers.
    Envelope,
    /// The fields of the envelope without `error` around them.
    Flat,
}

/// How the exchange fails.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Refusal {
    /// No answer, ever or for that many milliseconds.
    Hang(Option<u64>),
    /// The connection is dropped.
    Cut,
    Status(u16),
    TooMany {
        form: Limited,
        retry_after: Option<String>,
    },
    EmptyBody(u16),
    Html(u16),
}

/// Everything one request is told to do.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Faults {
    pub(crate) slow_ms: u64,
    /// Instead of doing what was asked.
    pub(crate) before: Option<Refusal>,
    /// Instead of the answer, when it has been done.
    pub(crate) after: Option<Refusal>,
    /// Bytes of the result; 0 stands for the configured size.
    pub(crate) big: Option<usize>,
    /// The tool fails with this text and changes nothing.
    pub(crate) failed: Option<String>,
    /// The tool says that it failed although it did its work.
    pub(crate) failed_after: bool,
    /// The tool says that it succeeded, with an error in its data.
    pub(crate) error_inside: bool,
    /// The account turns out to be expired.
    pub(crate) expired: bool,
    pub(crate) result: Option<ToolResult>,
}

impl Faults {
    /// Applies one word; an unknown one has no effect.
    pub(crate) fn apply(&mut self, word: &Word<'_>) {
        let (name, after) = word
            .name()
            .strip_suffix(AFTER)
            .map_or((word.name(), false), |name| (name, true));
        match name {
            "slow" => self.slow_ms = word.number("ms").unwrap_or(SLOW_MS),
            "big" => self.big = Some(word.number("bytes").unwrap_or(0)),
            "failed" if after => self.failed_after = true,
            "failed" => self.failed = Some(word.arg().unwrap_or("HTTP error 500: {}").to_owned()),
            "error-inside" => self.error_inside = true,
            "expired" => self.expired = true,
            _ => {
                if let Some(refusal) = refusal(name, word) {
                    // The output of a tool is too big when there is one.
                    let late = after || refusal == Refusal::Status(413);
                    *(if late { &mut self.after } else { &mut self.before }) = Some(refusal);
                }
            }
        }
    }
}

fn refusal(name: &str, word: &Word<'_>) -> Option<Refusal> {
    let limited = |form, usual: Option<&str>| Refusal::TooMany {
        form,
        retry_after: word.param("retry_after").or(usual).map(str::to_owned),
    };
    Some(match name {
        "hang" => Refusal::Hang(word.number("ms")),
        "cut" => Refusal::Cut,
        "429" => limited(Limited::Documented, Some("1")),
        "429-bare" => limited(Limited::Documented, None),
        "429-edge" => limited(Limited::Envelope, None),
        "429-flat" => limited(Limited::Flat, None),
        "empty-body" => Refusal::EmptyBody(word.number("status").unwrap_or(503)),
        "html" => Refusal::Html(word.number("status").unwrap_or(502)),
        name => match name.parse() {
            Ok(status @ 400..=599) => Refusal::Status(status),
            Ok(_) | Err(_) => return None,
        },
    })
}

impl Limited {
    /// Renders the body.
    pub(crate) fn body(self, request_id: &str) -> Value {
        let message = "Rate limit exceeded. Please slow down and try again later.";
        let error = json!({
            "message": message, "code": 10429, "slug": "HTTP_TooManyRequests", "status": 429, "request_id": request_id,
            "suggested_fix": "Please try again later.",
        });
        match self {
            Self::Documented => json!({ "message": message }),
            Self::Envelope => json!({ "error": error }),
            Self::Flat => error,
        }
    }
}

/// Returns the status that the record names for a scripted error.
pub(crate) fn scripted_body(error: &ScriptedError, request_id: &str) -> Value {
    let usual = || super::error::ApiError::status(error.status).body(request_id);
    error.body.clone().unwrap_or_else(usual)
}

#[cfg(test)]
mod tests {
    use super::{Faults, Limited, Refusal};
    use crate::directive;

    fn faults(words: &str) -> Faults {
        let mut faults = Faults::default();
        directive::parse_list(words).iter().for_each(|word| faults.apply(word));
        faults
    }

    #[test]
    fn words_say_whether_the_effect_comes_first() {
        for (word, before, after) in [
            ("hang", Some(Refusal::Hang(None)), None),
            ("hang-after-effect 50", None, Some(Refusal::Hang(Some(50)))),
            ("503", Some(Refusal::Status(503)), None),
            ("503-after-effectx2", None, Some(Refusal::Status(503))),
            ("413", None, Some(Refusal::Status(413))),
            ("cut-after-effect-once", None, Some(Refusal::Cut)),
            ("nonsense", None, None),
            ("200", None, None),
        ] {
            let found = faults(word);
            assert_eq!((found.before, found.after), (before, after), "{word}");
        }
    }

    #[test]
    fn a_limit_has_three_forms() {
        let limited = |words: &str| match faults(words).before {
            Some(Refusal::TooMany { form, retry_after }) => Some((form, retry_after)),
            _ => None,
        };
        assert_eq!(limited("429"), Some((Limited::Documented, Some("1".to_owned()))));
        assert_eq!(limited("429-bare"), Some((Limited::Documented, None)));
        let edge = Some((Limited::Envelope, Some("7".to_owned())));
        assert_eq!(limited("429-edge;retry_after=7"), edge);
        assert_eq!(limited("429-flat"), Some((Limited::Flat, None)));
    }
}
