//! What can go wrong with one request, and what follows: a word, a sentence that is safe to show, when to come back.

use std::{borrow::Cow, time::Duration};

use serde_json::Value;

use crate::store::StoreError;

/// Longest text of Composio's that is passed on, in characters.
const MESSAGE_CHARS: usize = 300;

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ComposioErrorKind {
    /// There is no key.
    NotConfigured,
    /// Too many requests wait here; nothing was sent.
    Overloaded,
    /// Composio failed too often just now; nothing was sent.
    CircuitOpen,
    /// Composio is asked too often.
    RateLimited,
    /// Composio cannot be reached, or fails.
    Unavailable,
    /// It did not answer in time.
    Timeout,
    /// It does not accept this server's key.
    Auth,
    /// There is no such thing, or it is somebody else's.
    NotFound,
    /// It refused the request as it is.
    Refused,
    /// What was asked for does not fit the state of things.
    Conflict,
    /// The answer is larger than the bound.
    TooLarge,
    /// The answer cannot be read.
    Unreadable,
    /// A bound of connections in the making is reached.
    TooManyPending,
    /// The user was deleted.
    Removed,
    /// This server's store failed.
    Store,
    /// A bug of ours, or the service is gone.
    Internal,
}

impl ComposioErrorKind {
    /// Returns its word, for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotConfigured => "not_configured",
            Self::Overloaded => "overloaded",
            Self::CircuitOpen => "circuit_open",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::Auth => "auth",
            Self::NotFound => "not_found",
            Self::Refused => "refused",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Unreadable => "unreadable",
            Self::TooManyPending => "too_many_pending",
            Self::Removed => "removed",
            Self::Store => "store",
            Self::Internal => "internal",
        }
    }
}

/// Why a request failed. Its text is safe for a client: no key, no address, nothing of other users.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ComposioError {
    /// What kind.
    pub kind: ComposioErrorKind,
    /// One sentence.
    pub message: Cow<'static, str>,
    /// The HTTP status of the answer, when there was one.
    pub status: Option<u16>,
    /// Composio's own word for it.
    pub slug: Option<String>,
    /// Composio's own number for it.
    pub code: Option<i64>,
    /// Composio's id of the request, for its support.
    pub request_id: Option<String>,
    /// When to come back, when that is known.
    pub after: Option<Duration>,
    /// The request left, so that something may have happened.
    pub(super) left: bool,
}

impl ComposioError {
    /// Makes a failure before which nothing left.
    pub(super) fn new(kind: ComposioErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            message: message.into(),
            status: None,
            slug: None,
            code: None,
            request_id: None,
            after: None,
            left: false,
        }
    }

    pub(super) fn after(mut self, after: Duration) -> Self {
        self.after = Some(after);
        self
    }

    /// The request had left when it failed.
    pub(super) fn left(mut self) -> Self {
        self.left = true;
        self
    }

    /// There is no key.
    #[must_use]
    pub fn not_configured() -> Self {
        Self::new(
            ComposioErrorKind::NotConfigured,
            "Composio is not configured: COMPOSIO_API_KEY is not set",
        )
    }

    /// There is no such thing, or it is somebody else's.
    pub(super) fn not_found(what: &'static str) -> Self {
        Self::new(ComposioErrorKind::NotFound, format!("{what} not found"))
    }

    pub(super) fn refused(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ComposioErrorKind::Refused, message)
    }

    pub(super) fn internal() -> Self {
        Self::new(ComposioErrorKind::Internal, "Something went wrong on this server")
    }

    /// The work ended without a word, nobody knows where.
    pub(super) fn cut_off() -> Self {
        Self::internal().left()
    }

    /// The answer did not come before the deadline.
    pub(super) fn silent() -> Self {
        Self::new(ComposioErrorKind::Timeout, "Composio did not answer in time").left()
    }

    /// There was no time left to send it.
    pub(super) fn too_late() -> Self {
        Self::new(ComposioErrorKind::Timeout, "There was no time left to ask Composio")
    }

    pub(super) fn unreadable() -> Self {
        Self::new(
            ComposioErrorKind::Unreadable,
            "Composio sent an answer that cannot be read",
        )
        .left()
    }

    pub(super) fn too_large(limit: usize) -> Self {
        Self::new(
            ComposioErrorKind::TooLarge,
            format!("The answer is larger than {limit} bytes: ask for less at once"),
        )
        .left()
    }

    pub(super) fn circuit_open(after: Duration) -> Self {
        Self::new(
            ComposioErrorKind::CircuitOpen,
            "Composio cannot be reached at the moment",
        )
        .after(after)
    }

    pub(super) fn overloaded(after: Duration) -> Self {
        Self::new(
            ComposioErrorKind::Overloaded,
            "Too many requests to Composio wait already",
        )
        .after(after)
    }

    /// There was no connection, or it broke. The text of `error` may hold addresses: unused.
    pub(super) fn transport(error: &reqwest::Error) -> Self {
        if error.is_builder() {
            return Self::internal();
        }
        let unreached = error.is_connect();
        let failure = if error.is_timeout() {
            Self::new(ComposioErrorKind::Timeout, "Composio did not answer in time")
        } else {
            Self::new(ComposioErrorKind::Unavailable, "Composio cannot be reached")
        };
        if unreached { failure } else { failure.left() }
    }

    /// Reads an error answer.
    pub(super) fn answered(status: u16, body: &[u8], after: Option<Duration>) -> Self {
        let told = Told::of(body);
        let (kind, message): (_, Cow<'static, str>) = match status {
            401 if told.is_about_the_key() => (
                ComposioErrorKind::Auth,
                "Composio does not accept this server's key".into(),
            ),
            429 => (ComposioErrorKind::RateLimited, "Composio is asked too often".into()),
            408 | 504 => (ComposioErrorKind::Timeout, "Composio did not answer in time".into()),
            500..=599 => (ComposioErrorKind::Unavailable, "Composio fails at the moment".into()),
            404 => (ComposioErrorKind::NotFound, told.or("Composio knows no such thing")),
            _ => (ComposioErrorKind::Refused, told.or("Composio refused the request")),
        };
        // The limiter stands before everything else; it is recognised by the shape of its answer.
        let unlimited = status != 429 || !told.of_limiter;
        let failure = Self {
            status: Some(status),
            slug: told.slug,
            code: told.code,
            request_id: told.request_id,
            after: after.filter(|_| matches!(status, 429 | 503)),
            ..Self::new(kind, message)
        };
        if unlimited { failure.left() } else { failure }
    }

    /// Whether the same request may succeed a little later.
    #[must_use]
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.kind,
            ComposioErrorKind::Overloaded
                | ComposioErrorKind::CircuitOpen
                | ComposioErrorKind::RateLimited
                | ComposioErrorKind::Unavailable
                | ComposioErrorKind::Timeout
                | ComposioErrorKind::Store
        )
    }
}

impl From<StoreError> for ComposioError {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "composio: the store failed");
        Self::new(ComposioErrorKind::Store, "The database failed")
    }
}

/// What the body of an error says.
#[derive(Debug, Default)]
struct Told {
    message: Option<String>,
    slug: Option<String>,
    code: Option<i64>,
    request_id: Option<String>,
    /// It looks like what the rate limiter sends: before anything was run.
    of_limiter: bool,
}

impl Told {
    fn of(body: &[u8]) -> Self {
        let Ok(Value::Object(whole)) = serde_json::from_slice::<Value>(body) else {
            return Self::default();
        };
        let ran = ["data", "successful", "log_id"]
            .iter()
            .any(|key| whole.contains_key(*key));
        let enveloped = whole.get("error").filter(|error| error.is_object());
        let error = enveloped.and_then(Value::as_object).unwrap_or(&whole);
        let text = |key: &str| error.get(key).and_then(Value::as_str);
        let word = |key: &str| text(key).filter(|text| is_word(text)).map(str::to_owned);
        Self {
            message: text("message").and_then(presentable),
            slug: word("slug"),
            code: error.get("code").and_then(Value::as_i64),
            request_id: word("request_id"),
            of_limiter: !ran && text("message").is_some(),
        }
    }

    /// The one code and slug for a missing or wrong key; a bare 401 can be about nothing else.
    fn is_about_the_key(&self) -> bool {
        matches!(self.code, None | Some(10401)) && self.slug.as_deref().is_none_or(|slug| slug == "HTTP_Unauthorized")
    }

    fn or(&self, other: &'static str) -> Cow<'static, str> {
        self.message.clone().map_or(Cow::Borrowed(other), Cow::Owned)
    }
}

fn is_word(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Makes a text of Composio's fit to be shown: one line, not long, without addresses and without what looks like a key.
pub(super) fn presentable(text: &str) -> Option<String> {
    let suspect = ["://", "ak_", "uak_", "oak_", "Bearer ", "x-api-key"];
    if text.trim().is_empty() || suspect.iter().any(|part| text.contains(part)) {
        return None;
    }
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(MESSAGE_CHARS)
        .collect();
    Some(line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> ComposioError {
        ComposioError::answered(status, body.as_bytes(), None)
    }

    #[test]
    fn both_forms_of_the_limiter_prove_that_nothing_was_run() {
        let envelope = r#"{"error":{"message":"Too many","code":10429,"slug":"HTTP_TooManyRequests","status":429}}"#;
        for body in [envelope, r#"{"message":"Rate limit exceeded."}"#] {
            let error = of(429, body);
            assert_eq!(
                (error.kind, error.left),
                (ComposioErrorKind::RateLimited, false),
                "{body}"
            );
        }
        for body in ["", "<html>", r#"{"data":{},"successful":false,"message":"x"}"#, "[]"] {
            assert!(of(429, body).left, "{body}");
        }
    }

    #[test]
    fn a_401_is_about_the_key_unless_it_says_otherwise() {
        for body in [
            "",
            r#"{"error":{"message":"x","code":10401,"slug":"HTTP_Unauthorized","status":401}}"#,
        ] {
            assert_eq!(of(401, body).kind, ComposioErrorKind::Auth, "{body}");
        }
        let other = r#"{"error":{"message":"x","code":1820,"slug":"ConnectedAccount_Expired","status":401}}"#;
        assert_eq!(of(401, other).kind, ComposioErrorKind::Refused);
    }

    #[test]
    fn what_may_hold_a_secret_is_not_passed_on() {
        for text in ["see https://x/?key=1", "key ak_1234 is bad", "", "  "] {
            assert_eq!(presentable(text), None, "{text}");
        }
        assert_eq!(presentable("a\nb").as_deref(), Some("a b"));
        assert_eq!(
            presentable(&"ä".repeat(301)).map(|text| text.chars().count()),
            Some(300)
        );
        let error = of(
            400,
            r#"{"error":{"message":"alias taken","code":600,"slug":"ConnectedAccount_BadRequest","status":400,"request_id":"r1"}}"#,
        );
        assert_eq!(error.message, "alias taken");
        assert_eq!(error.code, Some(600));
        assert_eq!(error.request_id.as_deref(), Some("r1"));
    }
}
