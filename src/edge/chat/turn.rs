//! `POST /chat/message`: one message in, the whole answer out.

use std::sync::Arc;

use actix_web::{HttpResponse, web};
use kronos_actors::{
    directory::{DirectoryRef, SessionRef},
    ids,
    principal::Principal,
    session::{
        message::{SessionCommand, SessionReply, Submit},
        reader,
    },
};
use kronos_protocol::{
    client::{RunOptions, SessionSettings},
    error::ErrorCode,
    event::TokenUsage,
    ids::{MessageId, SessionId, UserId},
    limits,
    message::UserContent,
    position::Seq,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{ask, unexpected};
use crate::edge::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, post},
    error::{ApiError, from_run},
    input::{Fields, Input, Json, Rule, detached, field},
    rfc3339,
};

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(&["/api/v1/chat/message"], message)
            .named("chat_message", Tag::Chat, "Send a message and wait for the answer")
            .about(
                "The message is a turn of its conversation's session: it is stored, and attached websockets see it live. A \
                 caller that goes away does not stop it.",
            )
            .body::<TurnBody>()
            .returns::<ChatAnswer>(200, "The answer", example)
            .fails(&TURN_FAILS),
    ]
}

/// How a turn may fail beyond what every route may.
pub(in crate::edge) const TURN_FAILS: [ErrorCode; 6] = [
    ErrorCode::NotFound,
    ErrorCode::Conflict,
    ErrorCode::Overloaded,
    ErrorCode::NotConfigured,
    ErrorCode::Upstream,
    ErrorCode::UpstreamTimeout,
];

pub(in crate::edge) fn example() -> Value {
    json!({
        "message": "Bern is the capital of Switzerland.",
        "conversation_id": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80",
        "timestamp": "2026-11-27T12:00:01.5Z",
        "message_id": "a_01926f3e8b1c7d3e9f002b1d5c6e7f81",
        "model": "gemini-3.8-flash",
        "usage": {"provider": "google", "model": "gemini-3.8-flash", "inputTokens": 9, "outputTokens": 8, "totalTokens": 17},
        "cancelled": false,
    })
}

/// A turn as it is asked for.
#[derive(Debug)]
pub(in crate::edge) struct TurnBody {
    pub(in crate::edge) user: Option<UserId>,
    pub(in crate::edge) session: Option<SessionId>,
    pub(in crate::edge) text: String,
    pub(in crate::edge) run: RunOptions,
}

impl Input for TurnBody {
    const NAME: &'static str = "ChatMessage";

    fn read(fields: &mut Fields) -> Option<Self> {
        let most = fields.bounds().message_chars;
        let text = field("message")
            .doc("What to say")
            .example("What is the capital of Switzerland?");
        let text = fields.required_text(text, 1, most);
        let user = fields.id(field("user_id").doc("The caller's own id; may be left out"));
        let session = field("conversation_id").doc("The conversation to go on with; a new one when it is left out");
        let session = fields.id(session);
        let run = RunOptions {
            system_prompt: fields.text(
                field("system_prompt").doc("How the model is to behave in this turn"),
                0,
                limits::SYSTEM_PROMPT_CHARS,
            ),
            model: fields.text_of(field("model").doc("The model that is to answer"), 1, 100, MODEL),
            ..sampling(fields)
        };
        Some(Self {
            user,
            session,
            text: text?,
            run,
        })
    }
}

/// A model's name goes into a path.
pub(in crate::edge) const MODEL: Rule = Rule {
    pattern: r"^[A-Za-z0-9._-]+$",
    keeps: |text| {
        text.bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
    },
    message: "Input should be a model's name: letters, digits, '.', '_', '-'",
    kind: "string_pattern_mismatch",
};

/// How words are chosen, and how many.
pub(in crate::edge) fn sampling(fields: &mut Fields) -> RunOptions {
    let temperature = field("temperature").doc("How freely words are chosen").example(0.7);
    let max_tokens = field("max_tokens").doc("Most tokens of the answer").example(1024);
    RunOptions {
        temperature: fields.number(temperature, 0.0, 2.0),
        max_tokens: fields
            .integer(max_tokens, 1, 65_536)
            .and_then(|tokens| u32::try_from(tokens).ok()),
        ..RunOptions::default()
    }
}

/// The answer to a message.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::edge) struct ChatAnswer {
    /// What the model said.
    message: String,
    /// The conversation it was said in.
    conversation_id: SessionId,
    /// When the answer was complete.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    /// The answer's id; null when the model said nothing.
    message_id: Option<MessageId>,
    /// The model that answered.
    model: Option<String>,
    /// Tokens used.
    usage: Option<TokenUsage>,
    /// Somebody stopped the answer: the text is what there was.
    cancelled: bool,
}

/// A turn that has been taken: it is stored, and runs or waits for its run.
pub(in crate::edge) struct Taken {
    pub(in crate::edge) session: SessionRef,
    pub(in crate::edge) caller: Arc<Principal>,
    pub(in crate::edge) message: MessageId,
    pub(in crate::edge) seq: Seq,
}

async fn message(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    body: Json<TurnBody>,
) -> Result<HttpResponse, ApiError> {
    let turn = body.0;
    let caller = caller.acting_as(&state, turn.user.clone())?;
    let answer = detached(async move {
        let submit = submit(turn.text, turn.run);
        let taken = Box::pin(take(&directory, caller, turn.session.as_ref(), submit)).await?;
        Box::pin(answer(&directory, taken)).await
    });
    Ok(HttpResponse::Ok().json(answer.await?))
}

/// Hands a message to its conversation, or to a new one.
pub(in crate::edge) async fn take(
    directory: &DirectoryRef,
    caller: Arc<Principal>,
    session: Option<&SessionId>,
    submit: Submit,
) -> Result<Taken, ApiError> {
    let session = match session {
        Some(id) => directory.resolve(id).await?,
        None => directory.create(&caller, None, SessionSettings::default()).await?,
    };
    let message = submit.id.clone();
    let (session, reply) = ask(directory, session, &caller, SessionCommand::Submit(submit)).await?;
    let SessionReply::Sent { seq, .. } = reply else {
        return Err(unexpected("submit"));
    };
    Ok(Taken {
        session,
        caller,
        message,
        seq,
    })
}

/// A message of the user with an id of its own, which the model answers without tools.
pub(in crate::edge) fn submit(text: String, run: RunOptions) -> Submit {
    let run = RunOptions {
        toolkits: Some(Vec::new()),
        ..run
    };
    Submit {
        run,
        ..Submit::new(ids::user_message(), UserContent::Text(text))
    }
}

/// Waits for the end of a turn.
pub(in crate::edge) async fn answer(directory: &DirectoryRef, taken: Taken) -> Result<ChatAnswer, ApiError> {
    let Taken {
        session,
        caller,
        message,
        seq,
    } = taken;
    let result = reader::run_to_end(directory, &session, &caller, &message, seq).await?;
    if let Some(error) = result.error {
        return Err(from_run(&error));
    }
    Ok(ChatAnswer {
        message: result.text,
        conversation_id: session.id().clone(),
        timestamp: rfc3339(result.finished_at_ms),
        message_id: result.message_id,
        model: result.model,
        usage: usage(&result.usage),
        cancelled: result.cancelled,
    })
}

/// Tokens of a turn: of its only model call, or of all together.
pub(in crate::edge) fn usage(calls: &[TokenUsage]) -> Option<TokenUsage> {
    let (first, rest) = calls.split_first()?;
    let add = |a: Option<u64>, b: Option<u64>| a.or(b).map(|_| a.unwrap_or(0) + b.unwrap_or(0));
    Some(rest.iter().fold(first.clone(), |sum, call| TokenUsage {
        input_tokens: add(sum.input_tokens, call.input_tokens),
        output_tokens: add(sum.output_tokens, call.output_tokens),
        total_tokens: add(sum.total_tokens, call.total_tokens),
        reasoning_tokens: add(sum.reasoning_tokens, call.reasoning_tokens),
        cached_input_tokens: add(sum.cached_input_tokens, call.cached_input_tokens),
        ..sum
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::input::{Bounds, read};

    #[test]
    fn a_turn_is_checked_at_its_bounds() {
        let bounds = Bounds {
            message_chars: 5,
            ..Bounds::default()
        };
        let turn = |body: Value| match body {
            Value::Object(map) => read::<TurnBody>("body", map, bounds),
            _ => panic!("not an object"),
        };
        assert!(turn(json!({"message": "12345", "temperature": 2, "max_tokens": 65536, "model": "m-1.0_x"})).is_ok());
        for (body, field) in [
            (json!({}), "body.message"),
            (json!({"message": ""}), "body.message"),
            (json!({"message": "123456"}), "body.message"),
            (json!({"message": "1", "temperature": 2.1}), "body.temperature"),
            (json!({"message": "1", "max_tokens": 0}), "body.max_tokens"),
            (json!({"message": "1", "model": "../m"}), "body.model"),
            (
                json!({"message": "1", "conversation_id": "new"}),
                "body.conversation_id",
            ),
            (json!({"message": "1", "user_id": 7}), "body.user_id"),
        ] {
            let error = turn(body).map(|_| ()).unwrap_err();
            assert_eq!(error.details["errors"][0]["field"], field);
        }
    }
}
