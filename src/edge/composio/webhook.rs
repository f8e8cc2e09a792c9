//! What Composio calls: its signed events.

use actix_web::{HttpRequest, HttpResponse, web};
use kronos_actors::composio::{WebhookError, WebhookHead};
use kronos_protocol::error::ErrorCode;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;

use super::failed;
use crate::edge::{
    EdgeState,
    endpoint::{Endpoint, Tag, post},
    error::{ApiError, Row},
    input::Raw,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(&["/api/v1/composio/webhook"], take)
            .named("composio_webhook", Tag::Composio, "Take an event of Composio")
            .about(
                "Composio's own call: the body is its event, form V3 (V2 is understood), signed with the webhook's secret: headers \
                 `webhook-id`, `webhook-timestamp`, `webhook-signature`. The same event counts once, however often it comes. What a \
                 trigger found is told in the user's feed `@me` as `kronos.trigger_fired`.",
            )
            .public()
            .returns::<Received>(200, "It was taken, now or before", || json!({"received": true}))
            .fails(&[
                ErrorCode::Unauthenticated,
                ErrorCode::Validation,
                ErrorCode::TooLarge,
                ErrorCode::NotConfigured,
                ErrorCode::Storage,
            ]),
    ]
}

/// The event was taken.
#[derive(Debug, Serialize, JsonSchema)]
struct Received {
    received: bool,
}

async fn take(state: web::Data<EdgeState>, request: HttpRequest, body: Raw) -> Result<HttpResponse, ApiError> {
    let text = |name: &str| {
        let value = request.headers().get(name)?;
        value.to_str().ok().map(str::to_owned)
    };
    let head = WebhookHead {
        id: text("webhook-id"),
        timestamp: text("webhook-timestamp"),
        signature: text("webhook-signature"),
    };
    match state.wiring.composio.webhook(head, body.0).await {
        Ok(()) => Ok(HttpResponse::Ok().json(Received { received: true })),
        Err(error) => Err(refused(&error)),
    }
}

fn refused(error: &WebhookError) -> ApiError {
    match error {
        WebhookError::NotConfigured => ApiError::not_configured(
            "Events are not taken: COMPOSIO_WEBHOOK_SECRET is not set",
            "COMPOSIO_WEBHOOK_SECRET",
        ),
        WebhookError::Forged => ApiError::new(ErrorCode::Unauthenticated, error.to_string()),
        WebhookError::Malformed => ApiError::validation(&[Row {
            field: "body".to_owned(),
            message: error.to_string(),
            kind: "json_invalid",
        }]),
        WebhookError::Failed(cause) => failed(cause, "webhook", ("Event", "")),
    }
}
