//! Errors in Composio's envelope, and the answers that are none.

use serde_json::{Value, json};

const CHECK: &str = "Check your input.";

/// What one request is answered with.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    pub(crate) headers: Vec<(String, String)>,
    /// Whether the rate-limit headers are left out, as the edge does.
    pub(crate) bare: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, body: Value) -> Self {
        Self {
            status,
            body,
            headers: Vec::new(),
            bare: false,
        }
    }

    pub(crate) fn ok(body: Value) -> Self {
        Self::new(200, body)
    }
}

/// A refusal in the envelope `{"error": {message, code, slug, status, request_id, suggested_fix}}`.
#[derive(Debug, Clone)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    code: u32,
    slug: &'static str,
    message: String,
    fix: &'static str,
    errors: Vec<String>,
}

/// The usual result of a route.
pub(crate) type Reply = Result<Answer, ApiError>;

impl ApiError {
    pub(crate) fn new(status: u16, code: u32, slug: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            slug,
            message: message.into(),
            fix: CHECK,
            errors: Vec::new(),
        }
    }

    fn fix(mut self, fix: &'static str) -> Self {
        self.fix = fix;
        self
    }

    /// Renders the envelope.
    pub(crate) fn body(&self, request_id: &str) -> Value {
        let mut error = json!({
            "message": self.message, "code": self.code, "slug": self.slug, "status": self.status,
            "request_id": request_id, "suggested_fix": self.fix,
        });
        if !self.errors.is_empty() {
            error["errors"] = json!(self.errors);
        }
        json!({ "error": error })
    }

    pub(crate) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(401, 10401, "HTTP_Unauthorized", message).fix("Please check you are using a valid API key.")
    }

    pub(crate) fn no_route(method: &str, path: &str) -> Self {
        Self::new(404, 10404, "HTTP_NotFound", format!("Cannot {method} {path}"))
    }

    /// A body or query that does not fit; `errors` names each field.
    pub(crate) fn bad_body(errors: Vec<String>) -> Self {
        let message = format!("Validation failed: {}", errors.join("; "));
        let mut error = Self::new(400, 10400, "HTTP_BadRequest", message);
        error.errors = errors;
        error
    }

    pub(crate) fn unknown_toolkit(slug: &str) -> Self {
        Self::new(
            404,
            2201,
            "Toolkit_ToolkitNotFound",
            format!("Toolkit {slug} not found"),
        )
    }

    pub(crate) fn unknown_tool(slug: &str) -> Self {
        Self::new(404, 2401, "Tool_ToolNotFound", format!("Tool {slug} not found"))
    }

    pub(crate) fn removed_tool(slug: &str) -> Self {
        let message = format!("Tool {slug} was removed and can no longer be executed");
        Self::new(410, 2410, "Tool_ToolRemoved", message).fix("List the tools of the toolkit and choose another one.")
    }

    pub(crate) fn unknown_auth_config(id: &str) -> Self {
        let message = format!("Auth config \"{id}\" not found");
        Self::new(404, 305, "AuthConfig_ResourceNotFound", message)
    }

    pub(crate) fn bad_auth_config(message: impl Into<String>) -> Self {
        Self::new(400, 301, "AuthConfig_BadRequest", message)
    }

    pub(crate) fn unknown_account(id: &str) -> Self {
        let message = format!("Connected account \"{id}\" not found");
        Self::new(404, 606, "ConnectedAccount_ResourceNotFound", message)
    }

    pub(crate) fn bad_account(message: impl Into<String>) -> Self {
        Self::new(400, 600, "ConnectedAccount_BadRequest", message)
    }

    pub(crate) fn wrong_account_state(message: impl Into<String>) -> Self {
        Self::new(409, 609, "ConnectedAccount_Conflict", message)
    }

    pub(crate) fn missing_fields(fields: &[String]) -> Self {
        let message = format!("Missing required fields: {}", fields.join(", "));
        Self::new(400, 612, "ConnectedAccount_MissingRequiredFields", message)
    }

    /// The old way to connect; SDKs look for both phrases of the message.
    pub(crate) fn retired() -> Self {
        Self::bad_account(
            "Creating connections on this endpoint for Composio-managed OAuth auth configs is no longer supported. Use \
             POST /api/v3/connected_accounts/link instead.",
        )
        .fix(
            "Call POST /api/v3/connected_accounts/link with the same auth_config_id and user_id to get a redirect URL \
             for the end user.",
        )
    }

    pub(crate) fn no_account(message: impl Into<String>) -> Self {
        Self::new(404, 1810, "ActionExecute_ConnectedAccountNotFound", message).fix("Connect the user first")
    }

    pub(crate) fn other_users_account() -> Self {
        let message = "Connected account user ID does not match the provided user ID.";
        Self::new(400, 1812, "ActionExecute_ConnectedAccountEntityIdMismatch", message)
            .fix("Send the user_id that owns the connected account")
    }

    pub(crate) fn inactive_account(id: &str, status: &str) -> Self {
        let message = format!("Connected account {id} is in {status} state");
        Self::new(422, 1899, "ActionExecute_SyntheticInvalidAccountState", message)
    }

    pub(crate) fn forbidden_tool(slug: &str) -> Self {
        let message = format!("Tool {slug} is not allowed by the auth config of the connected account");
        Self::new(403, 1803, "ActionExecute_ToolNotAllowed", message)
    }

    pub(crate) fn unknown_trigger(id: &str) -> Self {
        Self::new(404, 2501, "Trigger_NotFound", format!("Trigger {id} not found"))
    }

    pub(crate) fn bad_trigger(message: impl Into<String>) -> Self {
        Self::new(400, 2502, "TriggerInstance_PollingConfigInvalid", message)
    }

    pub(crate) fn unknown_webhook(id: &str) -> Self {
        let message = format!("Webhook subscription {id} not found");
        Self::new(404, 2601, "WebhookSubscription_NotFound", message)
    }

    pub(crate) fn bad_session(status: u16, code: u32, slug: &'static str, message: impl Into<String>) -> Self {
        Self::new(status, code, slug, message)
    }

    /// A fault that was asked for.
    pub(crate) fn status(status: u16) -> Self {
        let (slug, message) = match status {
            400 => ("HTTP_BadRequest", "The request was refused"),
            401 => ("HTTP_Unauthorized", "Invalid API key"),
            403 => ("HTTP_Forbidden", "Access to this resource is forbidden"),
            404 => ("HTTP_NotFound", "The resource was not found"),
            408 => ("HTTP_RequestTimeout", "The request timed out"),
            409 => ("HTTP_Conflict", "The resource is in another state"),
            413 => ("HTTP_PayloadTooLarge", "The response of the tool is too large"),
            422 => ("HTTP_UnprocessableEntity", "The request cannot be processed"),
            501 => ("HTTP_NotImplemented", "Not implemented"),
            502 => ("HTTP_BadGateway", "The provider gave no usable answer"),
            503 => ("HTTP_ServiceUnavailable", "The service is temporarily unavailable"),
            504 => ("HTTP_GatewayTimeout", "The provider did not answer in time"),
            _ => ("HTTP_InternalServerError", "Something went wrong"),
        };
        Self::new(status, 10_000 + u32::from(status), slug, message).fix("Please try again later.")
    }
}
