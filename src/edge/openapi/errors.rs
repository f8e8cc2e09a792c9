//! Errors and headers of answers, as the OpenAPI document shows them.

use serde_json::{Map, Value, json};

/// A name of an error, its status, and the details that it may have.
struct Shown {
    name: &'static str,
    status: u16,
    message: &'static str,
    details: fn() -> Value,
}

const SHOWN: [Shown; 15] = [
    Shown {
        name: "AUTHENTICATION_ERROR",
        status: 401,
        message: "The token has expired",
        details: || json!({}),
    },
    Shown {
        name: "AUTHORIZATION_ERROR",
        status: 403,
        message: "Not allowed to act for another user",
        details: || json!({}),
    },
    Shown {
        name: "NOT_FOUND",
        status: 404,
        message: "Conversation not found: 01926f3e-…",
        details: || json!({"resource": "Conversation", "identifier": "01926f3e-…"}),
    },
    Shown {
        name: "METHOD_NOT_ALLOWED",
        status: 405,
        message: "Method not allowed",
        details: || json!({"allowed": ["GET", "HEAD"]}),
    },
    Shown {
        name: "REQUEST_TIMEOUT",
        status: 408,
        message: "The body did not come in time",
        details: || json!({}),
    },
    Shown {
        name: "CONFLICT",
        status: 409,
        message: "This username is taken",
        details: || json!({"resource": "User", "field": "username"}),
    },
    Shown {
        name: "PAYLOAD_TOO_LARGE",
        status: 413,
        message: "The body is larger than 1048576 bytes",
        details: || json!({"limit": 1_048_576}),
    },
    Shown {
        name: "UNSUPPORTED_MEDIA_TYPE",
        status: 415,
        message: "The body must be application/json",
        details: || json!({"expected": "application/json"}),
    },
    Shown {
        name: "VALIDATION_ERROR",
        status: 422,
        message: "Request validation failed",
        details: || json!({"errors": [{"field": "body.message", "message": "Field required", "type": "missing"}]}),
    },
    Shown {
        name: "RATE_LIMIT_EXCEEDED",
        status: 429,
        message: "Too many requests",
        details: || json!({"limit": 600, "window_seconds": 60}),
    },
    Shown {
        name: "INTERNAL_SERVER_ERROR",
        status: 500,
        message: "Internal server error",
        details: || json!({}),
    },
    Shown {
        name: "CONFIGURATION_ERROR",
        status: 503,
        message: "GEMINI_API_KEY is not configured",
        details: || json!({"config_key": "GEMINI_API_KEY"}),
    },
    Shown {
        name: "EXTERNAL_SERVICE_ERROR",
        status: 503,
        message: "The model is overloaded",
        details: || json!({"service": "Gemini", "operation": "generate", "retryable": true, "upstream_status": 503}),
    },
    Shown {
        name: "DATABASE_ERROR",
        status: 503,
        message: "The database failed",
        details: || json!({"operation": "list_conversations"}),
    },
    Shown {
        name: "SERVICE_UNAVAILABLE",
        status: 503,
        message: "The server is shutting down",
        details: || json!({}),
    },
];

/// An upstream's time-out has a status of its own under the same name.
const TIMED_OUT: Shown = Shown {
    name: "EXTERNAL_SERVICE_ERROR",
    status: 504,
    message: "The model did not answer in time",
    details: || json!({"service": "Gemini", "operation": "generate", "retryable": true, "upstream_status": null}),
};

fn shown() -> impl Iterator<Item = &'static Shown> {
    static LAST: Shown = TIMED_OUT;
    SHOWN.iter().chain(std::iter::once(&LAST))
}

/// The name of the response of a status among the components.
pub(super) fn response_name(status: u16) -> String {
    format!("Error{status}")
}

/// The response of a status.
pub(super) fn error_response(status: u16) -> Value {
    let named: Vec<&Shown> = shown().filter(|shown| shown.status == status).collect();
    let names: Vec<&str> = named.iter().map(|shown| shown.name).collect();
    let examples: Map<String, Value> = named
        .iter()
        .map(|shown| {
            let body = json!({"error": {"code": shown.name, "message": shown.message, "details": (shown.details)(),
                "request_id": "req_01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80"}});
            (shown.name.to_owned(), json!({"value": body}))
        })
        .collect();
    let mut headers = headers(status == 429);
    let mut add = |name: &str| headers[name] = json!({"$ref": format!("#/components/headers/{name}")});
    match status {
        401 => add("WWW-Authenticate"),
        429 | 503 | 504 => add("Retry-After"),
        _ => {}
    }
    json!({
        "description": names.join(", "),
        "headers": headers,
        "content": {"application/json": {
            "schema": {"allOf": [
                {"$ref": "#/components/schemas/Error"},
                {"type": "object", "properties": {"error": {"type": "object", "properties": {"code": {"enum": names}}}}},
            ]},
            "examples": examples,
        }},
    })
}

/// The one shape of every error.
pub(super) fn error_schema() -> Value {
    let mut names: Vec<&str> = shown().map(|shown| shown.name).collect();
    names.dedup();
    json!({
        "type": "object",
        "description": "Every error, on every route.",
        "required": ["error"],
        "properties": {"error": {
            "type": "object",
            "required": ["code", "message", "details", "request_id"],
            "properties": {
                "code": {"type": "string", "enum": names},
                "message": {"type": "string", "description": "For people."},
                "details": {"type": "object", "description": "Depends on the code: see the examples."},
                "request_id": {"type": ["string", "null"], "description": "The same as in `X-Request-ID`."},
            },
        }},
    })
}

/// References to the headers of an answer.
pub(super) fn headers(counted: bool) -> Value {
    let always = ["X-Request-ID", "X-Process-Time"];
    let limits = [
        "RateLimit-Limit",
        "RateLimit-Remaining",
        "RateLimit-Reset",
        "RateLimit-Policy",
    ];
    let names = always.iter().chain(limits.iter().filter(|_| counted));
    let references = names.map(|name| {
        (
            (*name).to_owned(),
            json!({"$ref": format!("#/components/headers/{name}")}),
        )
    });
    Value::Object(references.collect())
}

/// The headers that answers refer to.
pub(super) fn header_components() -> Value {
    let header = |text: &str, schema: Value| json!({"description": text, "schema": schema});
    let count = || json!({"type": "integer", "minimum": 0});
    json!({
        "X-Request-ID": header("The request's own id when it had a sane one, else made here.", json!({"type": "string"})),
        "X-Process-Time": header("Seconds that the answer took.", json!({"type": "number", "minimum": 0})),
        "RateLimit-Limit": header("Requests of a window; absent where nothing is limited.", count()),
        "RateLimit-Remaining": header("Requests that are left.", count()),
        "RateLimit-Reset": header("Seconds until there are more.", count()),
        "RateLimit-Policy": header("The limit and its window in seconds: `6000;w=60`.", json!({"type": "string"})),
        "Retry-After": header("Seconds after which another try may succeed.", count()),
        "WWW-Authenticate": header("How to authenticate: `Bearer`.", json!({"type": "string"})),
    })
}

#[cfg(test)]
mod tests {
    use kronos_protocol::error::ErrorCode;

    use super::*;
    use crate::edge::error::map;

    #[test]
    fn every_error_that_can_leave_is_shown() {
        for code in ErrorCode::ALL {
            let mapped = map(*code);
            assert!(
                shown().any(|shown| shown.name == mapped.name && shown.status == mapped.status.as_u16()),
                "{code}: {} {}",
                mapped.name,
                mapped.status
            );
        }
    }
}
