//! One question whose answer has a shape: asked with a response schema, read, and mended once when it does not fit.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use kronos_protocol::error::RunErrorCode;
use kronos_protocol::ids::UserId;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::failure::Failure;
use super::{Calling, Content, Failed, Finished, GeminiRef, GenerateRequest, GenerationEvent, Progress, Role, Usage};
use crate::ids;

/// `reason` of a failure: the model's answers did not have the shape.
pub const MALFORMED: &str = "malformed_answer";

/// What the model is told after an answer that does not fit.
const MEND: &str =
    "Your last answer was not JSON of the required schema. Answer again, with that JSON only, for this text:";

/// A question that is no turn of a conversation.
#[derive(Debug, Clone)]
pub struct TypedRequest {
    /// Who asks, for the fair queue.
    pub user: UserId,
    /// What to do with the text.
    pub instruction: String,
    /// What the user gave: data, not instructions.
    pub text: String,
    /// The JSON schema of the answer.
    pub schema: Arc<Value>,
    /// When there must be an answer.
    pub deadline: Instant,
}

impl GeminiRef {
    /// Asks until `read` understands the answer: once, and once more with what was wrong.
    ///
    /// Dropped, it closes the upstream connection.
    ///
    /// # Errors
    /// What a generation fails with; `upstream_error` with reason [`MALFORMED`] when the second answer does not fit either.
    pub async fn ask_typed<T>(&self, request: TypedRequest, read: impl Fn(&str) -> Option<T>) -> Result<T, Failed> {
        let first = self.ask(&request, vec![turn(Role::User, &[&request.text])]).await?;
        if let Some(answer) = read(&first.text) {
            return Ok(answer);
        }
        tracing::info!("an answer did not have the required shape and is asked for again");
        let mut contents = vec![turn(Role::User, &[&request.text])];
        if !first.text.is_empty() {
            contents.push(turn(Role::Model, &[&first.text]));
        }
        contents.push(turn(Role::User, &[MEND, &request.text]));
        let second = self.ask(&request, contents).await?;
        read(&second.text).ok_or_else(|| malformed(second.finished.usage))
    }

    async fn ask(&self, request: &TypedRequest, contents: Vec<Content>) -> Result<Answer, Failed> {
        let (done, answer) = oneshot::channel();
        let collector = Collector {
            text: String::new(),
            done: Some(done),
        };
        let generate = GenerateRequest {
            run: ids::detached_run(),
            session: ids::session(),
            user: request.user.clone(),
            model: None,
            system_prompt: Some(request.instruction.clone()),
            notes: None,
            contents,
            temperature: None,
            max_tokens: None,
            deadline: request.deadline,
            response_schema: Some(Arc::clone(&request.schema)),
            functions: Arc::default(),
            calling: Calling::Auto,
            timeline: None,
        };
        let _going = self.generate(generate, collector.start().recipient())?;
        let internal = || Failure::internal().into_failed(Usage::default(), 0);
        answer.await.unwrap_or_else(|_gone| Err(internal()))
    }
}

fn turn(role: Role, texts: &[&str]) -> Content {
    Content {
        role,
        parts: texts.iter().map(|text| json!({"text": text})).collect(),
    }
}

fn malformed(usage: Usage) -> Failed {
    Failed {
        code: RunErrorCode::UpstreamError,
        message: "The model's answer did not have the required form. Please try again.".to_owned(),
        retryable: true,
        after_ms: None,
        upstream_status: None,
        reason: Some(MALFORMED.to_owned()),
        usage,
        attempts: 2,
    }
}

struct Answer {
    text: String,
    finished: Finished,
}

/// Puts the pieces of an answer together. Ends with the last of them, or when nobody asks any more.
struct Collector {
    text: String,
    done: Option<oneshot::Sender<Result<Answer, Failed>>>,
}

impl Actor for Collector {
    type Context = Context<Self>;
}

impl Handler<GenerationEvent> for Collector {
    type Result = ();

    fn handle(&mut self, event: GenerationEvent, ctx: &mut Self::Context) {
        let result = match event.progress {
            Progress::Delta { text, .. } => return self.text.push_str(&text),
            Progress::Waiting
            | Progress::Started { .. }
            | Progress::Retrying { .. }
            | Progress::Thought { .. }
            | Progress::Call(_) => return,
            Progress::Finished(finished) => Ok(Answer {
                text: std::mem::take(&mut self.text),
                finished,
            }),
            Progress::Failed(failed) => Err(failed),
        };
        if let Some(done) = self.done.take() {
            // Whoever asked may have gone.
            drop(done.send(result));
        }
        ctx.stop();
    }
}
