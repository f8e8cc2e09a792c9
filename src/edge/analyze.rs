//! `POST /chat/analyze`: what a text says, in a shape that programs can rely on.

use actix_web::{HttpResponse, web};
use kronos_actors::{
    analysis::{Analysis, AnalysisType},
    directory::DirectoryRef,
    gemini::{Failed, TypedRequest},
    session::reader::TurnError,
};
use kronos_protocol::{error::ErrorCode, ids::UserId};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, post},
    error::{ApiError, from_run},
    input::{Fields, Input, JsonOrQuery, field},
    rfc3339,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(&["/api/v1/chat/analyze"], analyze)
            .named("chat_analyze", Tag::Chat, "Analyse a text")
            .about(
                "Not a turn of a conversation: nothing is stored. The fields may come in the query instead of the body. An \
                 answer of the model that does not have the shape is asked for once more; then the answer is 503 with \
                 `details.reason` `malformed_answer`.",
            )
            .body_or_query::<AnalyzeBody>()
            .returns::<AnalyzeAnswer>(200, "What was found out", example)
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
        "message": "I love this!",
        "analysis_type": "sentiment",
        "result": {"sentiment": "positive", "confidence": 0.97, "explanation": "The author is enthusiastic."},
        "timestamp": "2026-11-27T10:00:00Z",
    })
}

struct AnalyzeBody {
    message: String,
    kind: AnalysisType,
    user: Option<UserId>,
}

impl Input for AnalyzeBody {
    const NAME: &'static str = "AnalyzeBody";

    fn read(fields: &mut Fields) -> Option<Self> {
        let longest = fields.bounds().message_chars;
        let message = fields.required_text(field("message").doc("The text.").example("I love this!"), 1, longest);
        let kind = fields.word(
            field("analysis_type")
                .doc("What to find out; left out: `general`.")
                .example("sentiment"),
            AnalysisType::WORDS,
        );
        let user = fields.id(field("user_id").doc("Who asks: the caller's own id, or anybody's for a superuser."));
        Some(Self {
            message: message?,
            kind: kind.and_then(AnalysisType::from_word).unwrap_or_default(),
            user,
        })
    }
}

#[derive(Serialize, JsonSchema)]
struct AnalyzeAnswer {
    /// The text as it was given.
    message: String,
    /// What was asked for.
    analysis_type: &'static str,
    #[schemars(with = "AnalysisResult")]
    result: Analysis,
    /// RFC 3339.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
}

/// By `analysis_type`: `general`, `sentiment`, `summary`, and one shape for `keywords` and `topics`.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "says what an analysis is, for the OpenAPI document only")]
enum AnalysisResult {
    General {
        analysis: String,
    },
    Sentiment {
        sentiment: Feeling,
        #[schemars(range(min = 0.0, max = 1.0))]
        confidence: f64,
        explanation: String,
    },
    Summary {
        summary: String,
    },
    Words {
        keywords: Vec<String>,
        topics: Vec<String>,
    },
}

#[derive(JsonSchema)]
#[schemars(rename_all = "lowercase")]
#[expect(dead_code, reason = "says what an analysis is, for the OpenAPI document only")]
enum Feeling {
    Positive,
    Negative,
    Neutral,
}

async fn analyze(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    input: JsonOrQuery<AnalyzeBody>,
) -> Result<HttpResponse, ApiError> {
    let AnalyzeBody { message, kind, user } = input.0;
    let caller = caller.acting_as(&state, user)?;
    let gemini = directory.gemini().ok_or_else(ApiError::internal)?;
    let request = TypedRequest {
        user: caller.user.clone(),
        instruction: kind.instruction(),
        text: message.clone(),
        schema: kind.schema(),
        deadline: state.clock.instant() + state.wiring.analysis_timeout(),
    };
    let result = gemini.ask_typed(request, |text| kind.read(text)).await;
    let answer = AnalyzeAnswer {
        message,
        analysis_type: kind.as_str(),
        result: result.map_err(|failed| failure(&failed))?,
        timestamp: rfc3339(state.clock.now_ms()),
    };
    Ok(HttpResponse::Ok().json(answer))
}

/// A generation that failed is for clients what a turn that failed is.
pub(super) fn failure(failed: &Failed) -> ApiError {
    let mut error = from_run(&TurnError {
        code: failed.code.as_str().to_owned(),
        message: failed.message.clone(),
        after_ms: failed.after_ms,
        upstream_status: failed.upstream_status.map(u64::from),
        retryable: Some(failed.retryable),
    });
    if error.details.get("operation").is_some() {
        error.details["operation"] = json!("analyze");
        if let Some(reason) = &failed.reason {
            error.details["reason"] = json!(reason);
        }
    }
    error
}
