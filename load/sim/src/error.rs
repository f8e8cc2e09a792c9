//! Errors as the service sends them: HTTP status, `error` body, details.

use actix_web::HttpResponse;
use serde_json::{Value, json};

/// The media type of every answer that is not a stream.
pub(crate) const JSON: &str = "application/json; charset=UTF-8";
const HIGH_DEMAND: &str = "This model is currently experiencing high demand. Spikes in demand are usually temporary. \
                           Please try again later.";

/// An error answer; `body` is the whole JSON document.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) retry_after: Option<String>,
}

/// What a 429 says about the quota.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quota {
    PerMinute,
    PerDay,
    Unsaid,
}

impl ApiError {
    fn new(status: u16, name: &str, message: &str) -> Self {
        let body = json!({"error": {"code": status, "message": message, "status": name}});
        Self {
            status,
            body,
            retry_after: None,
        }
    }

    fn with_details(mut self, details: Value) -> Self {
        self.body["error"]["details"] = details;
        self
    }

    pub(crate) fn invalid(message: &str) -> Self {
        Self::new(400, "INVALID_ARGUMENT", message)
    }

    /// A 400 of the JSON parser; each violation is (path, description).
    pub(crate) fn bad_fields(violations: &[(String, String)]) -> Self {
        let message = violations
            .iter()
            .map(|(_, text)| text.as_str())
            .collect::<Vec<_>>()
            .join("\n");
        let list: Vec<Value> = violations
            .iter()
            .map(|(path, text)| {
                if path.is_empty() {
                    json!({"description": text})
                } else {
                    json!({"field": path, "description": text})
                }
            })
            .collect();
        Self::invalid(&message)
            .with_details(json!([{"@type": "type.googleapis.com/google.rpc.BadRequest", "fieldViolations": list}]))
    }

    pub(crate) fn missing_key() -> Self {
        Self::new(
            403,
            "PERMISSION_DENIED",
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or \
             other form of API consumer identity to call this API.",
        )
    }

    pub(crate) fn invalid_key() -> Self {
        let message = "API key not valid. Please pass a valid API key.";
        Self::invalid(message).with_details(json!([
            {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID",
             "domain": "googleapis.com", "metadata": {"service": "generativelanguage.googleapis.com"}},
            {"@type": "type.googleapis.com/google.rpc.LocalizedMessage", "locale": "en-US", "message": message},
        ]))
    }

    pub(crate) fn unknown_model(model: &str, version: &str, method: &str) -> Self {
        Self::new(
            404,
            "NOT_FOUND",
            &format!(
                "models/{model} is not found for API version {version}, or is not supported for {method}. Call \
                 ModelService.ListModels to see the list of available models and their supported methods."
            ),
        )
    }

    pub(crate) fn not_found() -> Self {
        Self::new(404, "NOT_FOUND", "Requested entity was not found.")
    }

    /// A 429; `retry_after` is in seconds.
    pub(crate) fn quota(model: &str, quota: Quota, retry_after: f64, header: bool) -> Self {
        let metric = "generativelanguage.googleapis.com/generate_content_free_tier_requests";
        let help = "https://ai.google.dev/gemini-api/docs/rate-limits";
        let id = match quota {
            Quota::Unsaid => {
                return Self::new(
                    429,
                    "RESOURCE_EXHAUSTED",
                    "Resource has been exhausted (e.g. check quota).",
                );
            }
            Quota::PerMinute => "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
            Quota::PerDay => "GenerateRequestsPerDayPerProjectPerModel-FreeTier",
        };
        let message = format!(
            "You exceeded your current quota, please check your plan and billing details. For more information on this \
             error, head to: {help}.\n* Quota exceeded for metric: {metric}, limit: 2\nPlease retry in {retry_after}s."
        );
        let delay = if retry_after.fract() == 0.0 {
            format!("{retry_after}s")
        } else {
            format!("{retry_after:.3}s")
        };
        let mut error = Self::new(429, "RESOURCE_EXHAUSTED", &message).with_details(json!([
            {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{
                "quotaMetric": metric, "quotaId": id,
                "quotaDimensions": {"location": "global", "model": model}, "quotaValue": "2"}]},
            {"@type": "type.googleapis.com/google.rpc.Help",
             "links": [{"description": "Learn more about Gemini API quotas", "url": help}]},
            {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
        ]));
        error.retry_after = header.then(|| format!("{}", retry_after.ceil()));
        error
    }

    /// The error for an HTTP status that needs nothing but its usual text.
    pub(crate) fn status(status: u16, model: &str) -> Self {
        let (name, message) = match status {
            400 => ("INVALID_ARGUMENT", "Request contains an invalid argument."),
            401 => ("UNAUTHENTICATED", "Request had invalid authentication credentials."),
            402 => (
                "RESOURCE_EXHAUSTED",
                "Your prepaid credit is used up. Please add credit to continue.",
            ),
            403 => ("PERMISSION_DENIED", "The caller does not have permission."),
            404 => ("NOT_FOUND", "Requested entity was not found."),
            429 => return Self::quota(model, Quota::PerMinute, 1.25, false),
            499 => ("CANCELLED", "The operation was cancelled."),
            500 => (
                "INTERNAL",
                "An internal error has occurred. Please retry or report in \
                     https://developers.generativeai.google/guide/troubleshooting",
            ),
            502 => ("UNAVAILABLE", "Bad gateway."),
            503 => ("UNAVAILABLE", HIGH_DEMAND),
            504 => ("DEADLINE_EXCEEDED", "The request timed out. Please try again."),
            _ => ("UNKNOWN", "Unknown error."),
        };
        Self::new(status, name, message)
    }

    /// Renders the error; `in_array` wraps it as a stream without `alt=sse` does.
    pub(crate) fn response(&self, in_array: bool) -> HttpResponse {
        let mut response = response(self.status);
        if let Some(seconds) = &self.retry_after {
            response.insert_header(("retry-after", seconds.as_str()));
        }
        let body = if in_array {
            json!([self.body])
        } else {
            self.body.clone()
        };
        response.body(body.to_string())
    }
}

/// Starts a JSON answer; a status that HTTP does not know becomes 500.
pub(crate) fn response(status: u16) -> actix_web::HttpResponseBuilder {
    let status =
        actix_web::http::StatusCode::from_u16(status).unwrap_or(actix_web::http::StatusCode::INTERNAL_SERVER_ERROR);
    let mut builder = HttpResponse::build(status);
    builder.content_type(JSON);
    builder
}
