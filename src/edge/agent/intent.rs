//! `POST /agent/analyze-intent`: what a text wants, in a shape that programs can rely on.

use actix_web::{HttpResponse, web};
use kronos_actors::{
    analysis::{self, Intent},
    directory::DirectoryRef,
    gemini::TypedRequest,
};
use kronos_protocol::{error::ErrorCode, ids::UserId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use crate::edge::{
    EdgeState, analyze,
    auth::Caller,
    endpoint::{Endpoint, Tag, post},
    error::ApiError,
    input::{Fields, Input, JsonOrQuery, field},
    rfc3339,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(&["/api/v1/agent/analyze-intent"], analyze_intent)
            .named("agent_analyze_intent", Tag::Agent, "Find out what a text wants")
            .about(
                "Not a turn of a conversation: nothing is stored, no tool is called. The fields may come in the query instead \
                 of the body. An answer of the model that does not have the shape is asked for once more; then the answer is \
                 503 with `details.reason` `malformed_answer`.",
            )
            .body_or_query::<IntentBody>()
            .returns::<IntentAnswer>(200, "What was found out", example)
            .fails(&[
                ErrorCode::NotConfigured,
                ErrorCode::Upstream,
                ErrorCode::UpstreamTimeout,
                ErrorCode::Overloaded,
            ]),
    ]
}

fn example() -> Value {
    json!({
        "message": "Mail the report to Ana",
        "intent_analysis": {
            "intent": "send_email",
            "confidence": 0.96,
            "entities": [{"type": "person", "value": "Ana"}, {"type": "document", "value": "the report"}],
            "action": "Send the report to Ana by mail.",
        },
        "timestamp": "2026-11-27T10:00:00Z",
    })
}

struct IntentBody {
    message: String,
    user: Option<UserId>,
}

impl Input for IntentBody {
    const NAME: &'static str = "IntentBody";

    fn read(fields: &mut Fields) -> Option<Self> {
        let longest = fields.bounds().message_chars;
        let message = field("message").doc("The text.").example("Mail the report to Ana");
        let message = fields.required_text(message, 1, longest);
        let user = fields.id(field("user_id").doc("Who asks: the caller's own id, or anybody's for a superuser."));
        Some(Self {
            message: message?,
            user,
        })
    }
}

#[derive(Serialize, JsonSchema)]
struct IntentAnswer {
    /// The text as it was given.
    message: String,
    #[schemars(with = "IntentAnalysis")]
    intent_analysis: Intent,
    /// RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
}

/// What a text wants.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "says what an intent is, for the OpenAPI document only")]
struct IntentAnalysis {
    /// In a word or two, in snake case.
    intent: String,
    #[schemars(range(min = 0.0, max = 1.0))]
    confidence: f64,
    /// What the text names.
    entities: Vec<NamedEntity>,
    /// What would have to be done, in a sentence.
    action: String,
}

/// Something that a text names.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "says what an entity is, for the OpenAPI document only")]
struct NamedEntity {
    #[schemars(rename = "type")]
    kind: String,
    value: String,
}

async fn analyze_intent(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    input: JsonOrQuery<IntentBody>,
) -> Result<HttpResponse, ApiError> {
    let IntentBody { message, user } = input.0;
    let caller = caller.acting_as(&state, user)?;
    let gemini = directory.gemini().ok_or_else(ApiError::internal)?;
    let request = TypedRequest {
        user: caller.user.clone(),
        instruction: analysis::intent_instruction(),
        text: message.clone(),
        schema: analysis::intent_schema(),
        deadline: state.clock.instant() + state.wiring.analysis_timeout(),
    };
    let result = gemini.ask_typed(request, analysis::read_intent).await;
    let answer = IntentAnswer {
        message,
        intent_analysis: result.map_err(|failed| analyze::failure(&failed))?,
        timestamp: rfc3339(state.clock.now_ms()),
    };
    Ok(HttpResponse::Ok().json(answer))
}
