//! THE map of errors: what a code of the domain is over HTTP, and the one shape in which every error leaves.
//!
//! Nothing else in the server writes an error body, chooses a status for a failure, or names a close code for one.

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        Method, StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use kronos_actors::{
    principal::AuthError,
    session::{message::SessionError, reader::TurnError},
    store::{Refusal, StoreError},
};
use kronos_protocol::{
    close::CloseCode,
    error::{ErrorCode, RunErrorCode},
};
use serde_json::{Value, json};

use super::{request, ws::UpgradeError};

/// What a client waits when its token cannot be checked.
const AUTH_RETRY_MS: u64 = 2_000;

/// What an [`ErrorCode`] is outside of the websocket protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapped {
    /// `error.code` of a body.
    pub name: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// The close code when a websocket cannot go on because of it.
    pub close: CloseCode,
}

/// THE map.
#[must_use]
pub const fn map(code: ErrorCode) -> Mapped {
    let (name, status, close) = match code {
        ErrorCode::Validation | ErrorCode::Unsupported | ErrorCode::BadFrame => (
            "VALIDATION_ERROR",
            StatusCode::UNPROCESSABLE_ENTITY,
            CloseCode::BadFrame,
        ),
        ErrorCode::Unauthenticated => (
            "AUTHENTICATION_ERROR",
            StatusCode::UNAUTHORIZED,
            CloseCode::Unauthenticated,
        ),
        ErrorCode::Forbidden => ("AUTHORIZATION_ERROR", StatusCode::FORBIDDEN, CloseCode::Forbidden),
        ErrorCode::NotFound => ("NOT_FOUND", StatusCode::NOT_FOUND, CloseCode::Forbidden),
        ErrorCode::Conflict => ("CONFLICT", StatusCode::CONFLICT, CloseCode::BadFrame),
        ErrorCode::Busy => ("CONFLICT", StatusCode::CONFLICT, CloseCode::TryLater),
        ErrorCode::TooLarge => ("PAYLOAD_TOO_LARGE", StatusCode::PAYLOAD_TOO_LARGE, CloseCode::TooLarge),
        ErrorCode::RateLimited => (
            "RATE_LIMIT_EXCEEDED",
            StatusCode::TOO_MANY_REQUESTS,
            CloseCode::RateLimited,
        ),
        ErrorCode::Overloaded => (
            "SERVICE_UNAVAILABLE",
            StatusCode::SERVICE_UNAVAILABLE,
            CloseCode::TryLater,
        ),
        ErrorCode::ShuttingDown => (
            "SERVICE_UNAVAILABLE",
            StatusCode::SERVICE_UNAVAILABLE,
            CloseCode::Restart,
        ),
        ErrorCode::Parked => (
            "SERVICE_UNAVAILABLE",
            StatusCode::SERVICE_UNAVAILABLE,
            CloseCode::Internal,
        ),
        ErrorCode::NotConfigured => (
            "CONFIGURATION_ERROR",
            StatusCode::SERVICE_UNAVAILABLE,
            CloseCode::TryLater,
        ),
        ErrorCode::Upstream => (
            "EXTERNAL_SERVICE_ERROR",
            StatusCode::SERVICE_UNAVAILABLE,
            CloseCode::TryLater,
        ),
        ErrorCode::UpstreamTimeout => (
            "EXTERNAL_SERVICE_ERROR",
            StatusCode::GATEWAY_TIMEOUT,
            CloseCode::TryLater,
        ),
        ErrorCode::Storage => ("DATABASE_ERROR", StatusCode::SERVICE_UNAVAILABLE, CloseCode::TryLater),
        ErrorCode::Internal => (
            "INTERNAL_SERVER_ERROR",
            StatusCode::INTERNAL_SERVER_ERROR,
            CloseCode::Internal,
        ),
    };
    Mapped { name, status, close }
}

/// An error on its way to an HTTP client.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name}: {message}")]
pub struct ApiError {
    /// `error.code`.
    pub name: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// `error.message`: safe for a client.
    pub message: String,
    /// `error.details`: an object.
    pub details: Value,
    /// `Retry-After`, in milliseconds.
    pub after_ms: Option<u64>,
    /// A header that says what would do: `Allow`, `Sec-WebSocket-Version`.
    pub hint: Option<Box<(HeaderName, HeaderValue)>>,
}

impl ApiError {
    /// An error of the domain with a text.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let Mapped { name, status, .. } = map(code);
        Self {
            name,
            status,
            message: message.into(),
            details: json!({}),
            after_ms: None,
            hint: None,
        }
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(mut self, details: Value) -> Self {
        if details.is_object() {
            self.details = details;
        }
        self
    }

    /// A bug: says nothing about it to the client.
    pub fn internal() -> Self {
        Self::new(ErrorCode::Internal, "Internal server error")
    }

    /// The fields that are wrong, one row each.
    pub fn validation(errors: &[Row]) -> Self {
        Self::new(ErrorCode::Validation, "Request validation failed").with_details(json!({ "errors": errors }))
    }

    /// The caller may not act for somebody else.
    pub fn forbidden() -> Self {
        Self::new(ErrorCode::Forbidden, "Not allowed to act for another user")
    }

    /// There is no such thing, or it is somebody else's.
    pub fn not_found(resource: &str, identifier: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("{resource} not found: {identifier}"))
            .with_details(json!({"resource": resource, "identifier": identifier}))
    }

    /// A body over its limit.
    pub fn too_large(limit: usize) -> Self {
        Self::new(ErrorCode::TooLarge, format!("The body is larger than {limit} bytes"))
            .with_details(json!({"limit": limit}))
    }

    /// A request that did not come in time; its connection ends.
    pub fn request_timeout(message: &str) -> Self {
        Self {
            name: "REQUEST_TIMEOUT",
            status: StatusCode::REQUEST_TIMEOUT,
            ..Self::new(ErrorCode::Validation, message)
        }
    }

    /// Something that this server has not been given what it needs for; `config_key` names the setting.
    pub fn not_configured(message: &str, config_key: &str) -> Self {
        Self::new(ErrorCode::NotConfigured, message).with_details(json!({ "config_key": config_key }))
    }

    /// A path that exists for other methods only.
    pub fn method_not_allowed(allowed: &[Method]) -> Self {
        let names: Vec<&str> = allowed.iter().map(Method::as_str).collect();
        let hint = HeaderValue::from_str(&names.join(", "))
            .ok()
            .map(|value| Box::new((header::ALLOW, value)));
        let error = Self::new(ErrorCode::Validation, "Method not allowed").with_details(json!({ "allowed": names }));
        Self {
            name: "METHOD_NOT_ALLOWED",
            status: StatusCode::METHOD_NOT_ALLOWED,
            hint,
            ..error
        }
    }

    /// A body that is not JSON.
    pub fn unsupported_media_type() -> Self {
        let error = Self::new(ErrorCode::Validation, "The body must be application/json")
            .with_details(json!({"expected": "application/json"}));
        Self {
            name: "UNSUPPORTED_MEDIA_TYPE",
            status: StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ..error
        }
    }

    /// A failure that a library met before any of our code ran: keeps its status where it has a meaning here.
    pub fn from_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::new(ErrorCode::NotFound, "Not found"),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(ErrorCode::TooLarge, "The body is too large"),
            StatusCode::METHOD_NOT_ALLOWED => Self::method_not_allowed(&[]),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::unsupported_media_type(),
            StatusCode::REQUEST_TIMEOUT => Self::request_timeout("The request did not come in time"),
            StatusCode::UNAUTHORIZED => AuthError::Invalid.into(),
            StatusCode::FORBIDDEN => Self::new(ErrorCode::Forbidden, "Forbidden"),
            status if status.is_client_error() => {
                let error = Self::new(ErrorCode::Validation, "The request cannot be read");
                Self { status, ..error }
            }
            _ => Self::internal(),
        }
    }
}

/// One field that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Row {
    /// Where: `body.message`, `query.limit`, `path.id`.
    pub field: String,
    /// What is wrong, for people.
    pub message: String,
    /// What is wrong, for programs, as FastAPI names it: `missing`, `string_too_long`, ….
    #[serde(rename = "type")]
    pub kind: &'static str,
}

impl ResponseError for ApiError {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status).json(json!({"error": {
            "code": self.name,
            "message": self.message,
            "details": self.details,
            "request_id": request::current_id(),
        }}));
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(after_ms) = self.after_ms {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after_ms.div_ceil(1000).max(1)));
        }
        if let Some((name, value)) = self.hint.as_deref().cloned() {
            headers.insert(name, value);
        }
        response
    }
}

impl From<SessionError> for ApiError {
    fn from(error: SessionError) -> Self {
        let after_ms = error.after_ms;
        Self {
            after_ms,
            ..Self::new(error.code, error.message).with_details(error.details)
        }
    }
}

impl From<UpgradeError> for ApiError {
    fn from(error: UpgradeError) -> Self {
        let hint = error
            .hint
            .map(|(name, value)| Box::new((name, HeaderValue::from_static(value))));
        let after_ms = error.retry_after.map(|seconds| u64::from(seconds) * 1000);
        let base = Self::new(ErrorCode::Validation, error.message);
        Self {
            name: error.code,
            status: error.status,
            after_ms,
            hint,
            ..base
        }
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::Missing | AuthError::Invalid | AuthError::Expired | AuthError::Revoked => {
                ErrorCode::Unauthenticated
            }
            AuthError::Unavailable => ErrorCode::Storage,
            AuthError::NoKey => ErrorCode::Upstream,
        };
        let details = match error {
            AuthError::Unavailable => json!({"operation": "authenticate"}),
            AuthError::NoKey => json!({"service": "JWKS", "operation": "authenticate", "retryable": true,
                "upstream_status": null}),
            _ => json!({}),
        };
        Self {
            after_ms: matches!(error, AuthError::Unavailable | AuthError::NoKey).then_some(AUTH_RETRY_MS),
            ..Self::new(code, error.to_string()).with_details(details)
        }
    }
}

/// Where an operation of the store failed. What the store says goes to the log only: it may name paths.
#[derive(Debug)]
pub struct StoreFailure {
    /// `details.operation`.
    pub operation: &'static str,
    /// What happened.
    pub cause: StoreError,
}

impl From<StoreFailure> for ApiError {
    fn from(failure: StoreFailure) -> Self {
        let StoreFailure { operation, cause } = failure;
        let (code, text) = match &cause {
            StoreError::Refused(Refusal::Condition { .. }) => {
                (ErrorCode::Conflict, "Changed by somebody else meanwhile")
            }
            StoreError::Refused(
                Refusal::OutOfOrder { .. } | Refusal::UnknownSession { .. } | Refusal::Malformed { .. },
            )
            | StoreError::Io(_)
            | StoreError::Corrupt { .. }
            | StoreError::Locked { .. }
            | StoreError::Newer { .. } => (ErrorCode::Storage, "The database failed"),
            StoreError::Overloaded => (ErrorCode::Overloaded, "Too many writes are waiting"),
            StoreError::Closed => (ErrorCode::ShuttingDown, "The server is shutting down"),
        };
        if code == ErrorCode::Storage {
            tracing::error!(operation, error = %cause, "store failed");
        }
        Self::new(code, text).with_details(json!({"operation": operation}))
    }
}

/// What a run that ended in an error is for the client of a request that waited for it.
#[must_use]
pub fn from_run(error: &TurnError) -> ApiError {
    let run = error.code.parse::<RunErrorCode>().unwrap_or(RunErrorCode::Internal);
    let mapped = match run {
        RunErrorCode::UpstreamTimeout | RunErrorCode::Deadline => ErrorCode::UpstreamTimeout,
        RunErrorCode::UpstreamRateLimited
        | RunErrorCode::UpstreamUnavailable
        | RunErrorCode::UpstreamError
        | RunErrorCode::UpstreamAuth
        | RunErrorCode::StreamBroken
        | RunErrorCode::EmptyAnswer
        | RunErrorCode::MalformedCall
        | RunErrorCode::TooManySteps
        | RunErrorCode::Continuation
        | RunErrorCode::Blocked => ErrorCode::Upstream,
        RunErrorCode::NotConfigured => ErrorCode::NotConfigured,
        RunErrorCode::Overloaded => ErrorCode::Overloaded,
        RunErrorCode::Interrupted => ErrorCode::ShuttingDown,
        RunErrorCode::Internal => ErrorCode::Internal,
    };
    let details = match mapped {
        ErrorCode::NotConfigured => json!({"config_key": "GEMINI_API_KEY"}),
        ErrorCode::Internal => json!({}),
        _ => {
            json!({"service": "Gemini", "operation": "generate", "retryable": error.retryable.unwrap_or(run.retry()), "reason": run.as_str(),
            "upstream_status": error.upstream_status})
        }
    };
    ApiError {
        after_ms: error.after_ms,
        ..ApiError::new(mapped, error.message.clone()).with_details(details)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_error_status_and_the_rest_name_of_the_contract() {
        for code in ErrorCode::ALL {
            let mapped = map(*code);
            assert!(
                mapped.status.is_client_error() || mapped.status.is_server_error(),
                "{code}"
            );
            assert!(
                mapped.name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'),
                "{code}"
            );
        }
        assert_eq!(map(ErrorCode::UpstreamTimeout).status, 504);
        assert_eq!(map(ErrorCode::Unauthenticated).close.code(), 4401);
    }

    #[test]
    fn a_failed_run_is_an_answer_that_a_client_can_act_on() {
        for (code, name, status) in [
            ("upstream_timeout", "EXTERNAL_SERVICE_ERROR", 504),
            ("upstream_rate_limited", "EXTERNAL_SERVICE_ERROR", 503),
            ("not_configured", "CONFIGURATION_ERROR", 503),
            ("something_new", "INTERNAL_SERVER_ERROR", 500),
        ] {
            let (code, message) = (code.to_owned(), "text".to_owned());
            let error = from_run(&TurnError {
                code,
                message,
                after_ms: Some(1),
                upstream_status: None,
                retryable: None,
            });
            assert_eq!((error.name, error.status.as_u16()), (name, status));
        }
    }

    #[test]
    fn what_the_store_says_stays_inside() {
        let cause = StoreError::Io("/var/lib/kronos/db: no space left".to_owned());
        let error = ApiError::from(StoreFailure {
            operation: "signup",
            cause,
        });
        assert_eq!(error.name, "DATABASE_ERROR");
        assert!(!error.message.contains("/var") && !error.details.to_string().contains("/var"));
    }
}
