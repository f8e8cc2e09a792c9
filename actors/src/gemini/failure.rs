//! What can go wrong with one attempt, and what follows: the code, what the user reads, whether to try again.

use std::time::Duration;

use kronos_protocol::error::RunErrorCode;
use serde_json::Value;

use super::wire::ErrorStatus;
use super::{Failed, Usage};

/// How often a failed attempt may be repeated while nothing was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Not at all: the same request fails the same way.
    Never,
    /// Once in a generation: it may have been chance.
    Once,
    /// Not by the same request: whoever asked may ask otherwise.
    Otherwise,
    /// As long as there are attempts: the upstream said or showed that it is temporary.
    Always,
}

/// Why one attempt failed.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Failure {
    pub(crate) code: RunErrorCode,
    /// What the user reads.
    pub(crate) message: &'static str,
    pub(crate) retry: Retry,
    /// When the upstream wants to be asked again.
    pub(crate) after: Option<Duration>,
    /// HTTP status, or the code of an error within the stream.
    pub(crate) status: Option<u16>,
    /// Gemini's finish or block reason, or the name of the bound of ours that ended it.
    pub(crate) reason: Option<String>,
    /// The upstream is in trouble, not this request: counts for the circuit breaker.
    pub(crate) outage: bool,
    /// Nobody's request will succeed until an operator has done something: counts for health.
    pub(crate) operator: bool,
    /// The pieces of the request that the upstream named, for the log.
    pub(crate) fields: Option<String>,
    /// The declared functions that the upstream named, by their place in the request.
    pub(crate) functions: Vec<usize>,
}

/// The bound that refuses generations when too many wait.
pub(super) const WAITING: &str = "gemini_waiting";

const UNAVAILABLE: &str = "The AI model is overloaded or cannot be reached at the moment. Please try again.";
const TIMEOUT: &str = "The AI model did not answer in time. Please try again.";

impl Failure {
    /// Makes a failure that ends the generation.
    pub(crate) fn new(code: RunErrorCode, message: &'static str) -> Self {
        Self {
            code,
            message,
            retry: Retry::Never,
            after: None,
            status: None,
            reason: None,
            outage: false,
            operator: false,
            fields: None,
            functions: Vec::new(),
        }
    }

    /// Sets how often it may be tried again.
    pub(crate) fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    fn outage(mut self) -> Self {
        self.outage = true;
        self
    }

    fn operator(mut self) -> Self {
        self.operator = true;
        self
    }

    /// The server has no key.
    pub(crate) fn not_configured() -> Self {
        Self::new(RunErrorCode::NotConfigured, "No AI model is configured on this server.").operator()
    }

    /// The name of the model cannot be one.
    pub(crate) fn bad_model_name() -> Self {
        Self::new(RunErrorCode::UpstreamError, "This is not the name of an AI model.")
    }

    /// There is nothing to answer.
    pub(crate) fn nothing_to_answer() -> Self {
        Self::new(RunErrorCode::UpstreamError, "There is no message to answer.")
    }

    /// The queue for a permit is full.
    pub(crate) fn overloaded(after: Duration) -> Self {
        let failure = Self::new(
            RunErrorCode::Overloaded,
            "Too many answers are being written. Please try again shortly.",
        );
        Self {
            after: Some(after),
            reason: Some(WAITING.to_owned()),
            ..failure
        }
        .retry(Retry::Always)
    }

    /// The circuit is open: no request was made.
    pub(crate) fn circuit_open(after: Duration) -> Self {
        let failure = Self::new(RunErrorCode::UpstreamUnavailable, UNAVAILABLE);
        Self {
            after: Some(after),
            ..failure
        }
        .retry(Retry::Always)
    }

    /// The run must have ended by now.
    pub(crate) fn deadline() -> Self {
        Self::new(RunErrorCode::Deadline, "The answer took longer than an answer may.").retry(Retry::Always)
    }

    /// A bug of ours.
    pub(crate) fn internal() -> Self {
        Self::new(
            RunErrorCode::Internal,
            "Something went wrong on this server. Please try again.",
        )
        .retry(Retry::Always)
    }

    /// No byte came in time, or no more bytes came.
    pub(crate) fn silent() -> Self {
        Self::new(RunErrorCode::UpstreamTimeout, TIMEOUT)
            .retry(Retry::Once)
            .outage()
    }

    /// There was no connection, or it broke before the answer began. The text of `error` may hold addresses: unused.
    pub(crate) fn transport(error: &reqwest::Error) -> Self {
        if error.is_builder() {
            return Self::internal();
        }
        let code = if error.is_timeout() {
            RunErrorCode::UpstreamTimeout
        } else {
            RunErrorCode::UpstreamUnavailable
        };
        let message = if error.is_timeout() { TIMEOUT } else { UNAVAILABLE };
        Self::new(code, message).retry(Retry::Always).outage()
    }

    /// The stream ended, or its connection broke, before the model had said that it is done.
    pub(crate) fn broken() -> Self {
        Self::new(RunErrorCode::StreamBroken, "The answer broke off in the middle.").retry(Retry::Always)
    }

    /// The bytes of the answer are no answer.
    pub(crate) fn unreadable() -> Self {
        Self::new(
            RunErrorCode::UpstreamError,
            "The AI model sent an answer that cannot be read. Please try again.",
        )
        .retry(Retry::Once)
    }

    /// The model ended normally and had said nothing.
    pub(crate) fn empty() -> Self {
        Self::new(
            RunErrorCode::EmptyAnswer,
            "The AI model gave no answer. Please try again.",
        )
        .retry(Retry::Once)
    }

    /// Reads an error answer: its status and what its body says. `wait` is the Retry-After header.
    pub(crate) fn answered(status: u16, error: &ErrorStatus, wait: Option<Duration>) -> Self {
        let mut failure = Self::of_status(status, error);
        failure.status = Some(status);
        // The upstream names a pause of seconds even when a day's quota is gone: no promise to pass on.
        let temporary = failure.retry != Retry::Never;
        failure.after = retry_delay(error).or(wait).filter(|_| temporary);
        failure.fields = violated_fields(error);
        if status == 400 {
            failure.functions = named_functions(error);
        }
        failure
    }

    /// Reads an error within a stream.
    pub(crate) fn in_stream(error: &ErrorStatus) -> Self {
        let status = error
            .code
            .or_else(|| error.status.as_deref().and_then(status_of_word))
            .unwrap_or(500);
        Self::answered(status, error, None)
    }

    fn of_status(status: u16, error: &ErrorStatus) -> Self {
        match status {
            400 if key_is_invalid(error) => Self::auth(),
            400 if error.status.as_deref() == Some("FAILED_PRECONDITION") => Self::new(
                RunErrorCode::UpstreamError,
                "The AI model is not available for this server's account.",
            )
            .operator(),
            401 | 403 => Self::auth(),
            402 => Self::new(
                RunErrorCode::UpstreamRateLimited,
                "This server's credit for the AI model is used up.",
            )
            .operator(),
            404 => Self::new(
                RunErrorCode::UpstreamError,
                "This AI model does not exist or is no longer available.",
            ),
            408 | 504 => Self::silent(),
            429 if quota_is_daily(error) => Self::new(
                RunErrorCode::UpstreamRateLimited,
                "Today's quota for the AI model is used up.",
            )
            .operator(),
            429 => Self::new(
                RunErrorCode::UpstreamRateLimited,
                "The AI model is in high demand. Please try again shortly.",
            )
            .retry(Retry::Always),
            500..=599 => Self::new(RunErrorCode::UpstreamUnavailable, UNAVAILABLE)
                .retry(Retry::Always)
                .outage(),
            _ => Self::new(RunErrorCode::UpstreamError, "The AI model refused the request."),
        }
    }

    /// Whether the upstream says that it has too much to do now.
    pub(crate) fn pushes_back(&self) -> bool {
        self.retry == Retry::Always && matches!(self.status, Some(429 | 503))
    }

    fn auth() -> Self {
        Self::new(
            RunErrorCode::UpstreamAuth,
            "The AI model does not accept this server's key.",
        )
        .operator()
    }

    /// Makes what the session gets.
    pub(crate) fn into_failed(self, usage: Usage, attempts: u32) -> Failed {
        Failed {
            code: self.code,
            message: self.message.to_owned(),
            retryable: self.retry != Retry::Never,
            after_ms: self.after.map(millis),
            upstream_status: self.status,
            reason: self.reason,
            usage,
            attempts,
        }
    }
}

/// Returns a duration in milliseconds.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn details<'a>(error: &'a ErrorStatus, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    let is_kind = move |detail: &&Value| detail["@type"].as_str().is_some_and(|name| name.ends_with(kind));
    error.details.iter().flatten().filter(is_kind)
}

fn key_is_invalid(error: &ErrorStatus) -> bool {
    details(error, "ErrorInfo").any(|info| {
        info["reason"]
            .as_str()
            .is_some_and(|reason| reason.starts_with("API_KEY"))
    }) || error
        .message
        .as_deref()
        .is_some_and(|message| message.contains("API key"))
}

fn quota_is_daily(error: &ErrorStatus) -> bool {
    details(error, "QuotaFailure")
        .filter_map(|failure| failure["violations"].as_array())
        .flatten()
        .any(|violation| violation["quotaId"].as_str().is_some_and(|id| id.contains("PerDay")))
}

/// Returns the `RetryInfo` of an error; a protobuf duration such as `53s` or `1.250s`.
fn retry_delay(error: &ErrorStatus) -> Option<Duration> {
    details(error, "RetryInfo").find_map(|info| duration(info["retryDelay"].as_str()?))
}

fn duration(text: &str) -> Option<Duration> {
    let seconds = text.strip_suffix('s')?;
    if !seconds.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return None;
    }
    Duration::try_from_secs_f64(seconds.parse().ok()?).ok()
}

/// Returns the time that a Retry-After header names, when it names seconds.
pub(crate) fn retry_after(header: &str) -> Option<Duration> {
    header.trim().parse().ok().map(Duration::from_secs)
}

/// Returns the names of the fields that a 400 complains about; their descriptions may repeat what the user wrote.
fn violated_fields(error: &ErrorStatus) -> Option<String> {
    const MOST: usize = 4;
    let safe = |name: &&str| name.len() <= 100 && name.bytes().all(|byte| byte.is_ascii_graphic());
    let names: Vec<&str> = details(error, "BadRequest")
        .filter_map(|bad| bad["fieldViolations"].as_array())
        .flatten()
        .filter_map(|violation| violation["field"].as_str())
        .filter(safe)
        .take(MOST)
        .collect();
    (!names.is_empty()).then(|| names.join(" "))
}

/// Returns the places of the declared functions that a 400 names, as `tools[0].function_declarations[3]`.
fn named_functions(error: &ErrorStatus) -> Vec<usize> {
    let violations = details(error, "BadRequest")
        .filter_map(|bad| bad["fieldViolations"].as_array())
        .flatten();
    let texts = violations
        .flat_map(|violation| [violation["field"].as_str(), violation["description"].as_str()])
        .chain([error.message.as_deref()])
        .flatten();
    let mut places = Vec::new();
    for text in texts {
        for piece in text.split("tools[0].").skip(1) {
            let names = ["function_declarations[", "functionDeclarations["];
            let index = names.into_iter().find_map(|name| piece.strip_prefix(name));
            let place = index.and_then(|index| index.split_once(']')?.0.parse().ok());
            places.extend(place.filter(|place| !places.contains(place)));
        }
    }
    places
}

fn status_of_word(word: &str) -> Option<u16> {
    Some(match word {
        "INVALID_ARGUMENT" | "FAILED_PRECONDITION" | "OUT_OF_RANGE" => 400,
        "UNAUTHENTICATED" => 401,
        "PERMISSION_DENIED" => 403,
        "NOT_FOUND" => 404,
        "RESOURCE_EXHAUSTED" => 429,
        "CANCELLED" => 499,
        "INTERNAL" => 500,
        "UNAVAILABLE" => 503,
        "DEADLINE_EXCEEDED" => 504,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answered(status: u16, body: Value) -> Failure {
        Failure::answered(status, &ErrorStatus::from_body(body.to_string().as_bytes()), None)
    }

    #[test]
    fn every_status_has_its_code_and_rule() {
        use RunErrorCode::*;
        for (status, code, retry, outage) in [
            (302, UpstreamError, Retry::Never, false),
            (400, UpstreamError, Retry::Never, false),
            (401, UpstreamAuth, Retry::Never, false),
            (402, UpstreamRateLimited, Retry::Never, false),
            (403, UpstreamAuth, Retry::Never, false),
            (404, UpstreamError, Retry::Never, false),
            (408, UpstreamTimeout, Retry::Once, true),
            (413, UpstreamError, Retry::Never, false),
            (429, UpstreamRateLimited, Retry::Always, false),
            (499, UpstreamError, Retry::Never, false),
            (500, UpstreamUnavailable, Retry::Always, true),
            (502, UpstreamUnavailable, Retry::Always, true),
            (503, UpstreamUnavailable, Retry::Always, true),
            (504, UpstreamTimeout, Retry::Once, true),
            (599, UpstreamUnavailable, Retry::Always, true),
        ] {
            let failure = answered(status, json!("<html>"));
            assert_eq!(
                (failure.code, failure.retry, failure.outage),
                (code, retry, outage),
                "{status}"
            );
            assert_eq!(failure.status, Some(status));
        }
    }

    #[test]
    fn an_invalid_key_is_a_400() {
        let by_reason = json!({"error": {"code": 400, "details": [
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}]}});
        let by_text = json!([{"error": {"message": "API key not valid. Please pass a valid API key."}}]);
        for body in [by_reason, by_text] {
            assert_eq!(answered(400, body).code, RunErrorCode::UpstreamAuth);
        }
    }

    #[test]
    fn a_daily_quota_is_not_asked_again_and_a_delay_is_read() {
        let quota = |id: &str, delay: &str| {
            json!({"error": {"code": 429, "details": [
                {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": id}]},
                {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]}})
        };
        let minute = answered(429, quota("GenerateRequestsPerMinutePerProjectPerModel", "1.250s"));
        assert_eq!(
            (minute.retry, minute.after),
            (Retry::Always, Some(Duration::from_millis(1250)))
        );
        let day = answered(429, quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier", "53s"));
        assert_eq!((day.retry, day.after), (Retry::Never, None));
        for odd in [
            "",
            "s",
            "53",
            "-1s",
            "1e9s",
            "infs",
            "99999999999999999999999999s",
            "1.2.3s",
        ] {
            assert_eq!(answered(429, quota("x", odd)).after, None, "{odd}");
        }
        assert_eq!(answered(429, quota("x", "0s")).after, Some(Duration::ZERO));
    }

    #[test]
    fn an_error_in_a_stream_is_known_by_its_code_or_its_word() {
        let of = |error: Value| Failure::in_stream(&serde_json::from_value(error).unwrap());
        assert_eq!(of(json!({"code": 429})).code, RunErrorCode::UpstreamRateLimited);
        assert_eq!(of(json!({"status": "UNAVAILABLE"})).status, Some(503));
        assert_eq!(of(json!({"message": "?"})).code, RunErrorCode::UpstreamUnavailable);
    }

    #[test]
    fn only_names_of_fields_reach_the_log() {
        let failure = answered(
            400,
            json!({"error": {"message": "secret text", "details": [{"@type": "x/google.rpc.BadRequest", "fieldViolations": [
                {"field": "contents[1].parts", "description": "secret text"}, {"field": "with a space"}]}]}}),
        );
        assert_eq!(failure.fields.as_deref(), Some("contents[1].parts"));
        assert!(!format!("{failure:?}").contains("secret"));
    }
}
