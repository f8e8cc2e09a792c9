//! `POST /agent/invoke` and `POST /agent/stream`: one message in, the whole run out, at its end or as it happens.

use actix_web::{HttpRequest, HttpResponse, web};
use kronos_actors::{
    directory::DirectoryRef,
    ids as mint,
    session::{
        message::{SessionCommand, SessionReply, Submit},
        reader::{self, TurnResult},
    },
};
use kronos_protocol::{
    client::{RunOptions, ToolPolicy},
    event::{Event, TokenUsage},
    ids::{MessageId, RunId, SessionId, UserId},
    message::UserContent,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::runs::{Call, Question};
use crate::edge::{
    EdgeState,
    auth::Caller,
    chat::{
        ask,
        sse::Opening,
        stream::{LOOK_FOR_READER, follow},
        turn::{self, TURN_FAILS, Taken, TurnBody},
        unexpected,
    },
    endpoint::{Endpoint, Tag, post},
    error::{ApiError, from_run},
    input::{Fields, Input, Json, detached, field},
    rfc3339,
};

/// Most toolkits that a run may name.
const TOOLKITS: usize = 64;
/// Longest name of one, in characters.
const TOOLKIT_CHARS: usize = 64;

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(&["/api/v1/agent/invoke"], invoke)
            .named("agent_invoke", Tag::Agent, "Run the agent to its end")
            .about(
                "The model may call tools, as often as it needs, until it answers. The message is a turn of its conversation's \
                 session: it is stored, and attached websockets see it live; a caller that goes away does not stop it. A run \
                 that needs a person ends with `status` `waiting` and its questions in `interrupts`; once all of them are \
                 answered the turn goes on in a run of its own.",
            )
            .body::<InvokeBody>()
            .returns::<AgentAnswer>(200, "What came of it", example)
            .fails(&TURN_FAILS),
        post(&["/api/v1/agent/stream"], stream)
            .named("agent_stream", Tag::Agent, "Run the agent and watch")
            .about(
                "As `/agent/invoke`, with AG-UI events of the run as server-sent events, from its RUN_STARTED to its \
                 RUN_FINISHED or RUN_ERROR, then the end of the body. `id` is the position in the session's log: \
                 `GET /chat/{id}/events` goes on after it.",
            )
            .body::<AgentStreamBody>()
            .streams::<Event>(200, "The run's events", stream_example)
            .fails(&TURN_FAILS),
    ]
}

fn example() -> Value {
    json!({
        "response": "17 * 23 is 391.",
        "user_id": "ada",
        "timestamp": "2026-11-27T12:00:01.5Z",
        "run_id": "r_01926f3e8b1c7d3e9f002b1d5c6e7f80",
        "conversation_id": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80",
        "message_id": "a_01926f3e8b1c7d3e9f002b1d5c6e7f81",
        "status": "succeeded",
        "interrupts": [],
        "tool_calls": [super::runs::example_call()],
        "steps": 2,
        "usage": {"provider": "google", "model": "gemini-3.8-flash", "inputTokens": 90, "outputTokens": 30, "totalTokens": 120},
        "model": "gemini-3.8-flash",
    })
}

fn stream_example() -> Value {
    json!({"id": "e_01926f3e:7",
        "data": r#"{"type":"TOOL_CALL_START","toolCallId":"call_1","toolCallName":"calculate"}"#})
}

/// A message to the agent.
struct InvokeBody {
    user: Option<UserId>,
    session: Option<SessionId>,
    text: String,
    context: Option<String>,
    run: RunOptions,
}

impl Input for InvokeBody {
    const NAME: &'static str = "AgentInvoke";

    fn read(fields: &mut Fields) -> Option<Self> {
        let turn = TurnBody::read(fields);
        let context = context(fields);
        let toolkits = toolkits(fields);
        let policy = field("tool_policy").doc(
            "Which calls wait for a person: none, those of tools that are not known to change nothing, or all; left out: as \
             the conversation is set.",
        );
        let policy = fields.word(policy, &["auto", "ask_writes", "ask_all"]);
        let turn = turn?;
        Some(Self {
            user: turn.user,
            session: turn.session,
            text: turn.text,
            context,
            run: RunOptions {
                toolkits,
                tool_policy: policy.and_then(|word| match word {
                    "auto" => Some(ToolPolicy::Auto),
                    "ask_writes" => Some(ToolPolicy::AskWrites),
                    "ask_all" => Some(ToolPolicy::AskAll),
                    _ => None,
                }),
                ..turn.run
            },
        })
    }
}

/// What the model is to know beside the conversation: a text, or an object that it reads as JSON.
fn context(fields: &mut Fields) -> Option<String> {
    let most = fields.bounds().context_chars;
    let about = field("context")
        .doc("What the model is to know beside the conversation, in this turn only: a text, or an object.")
        .example(json!({"timezone": "Europe/Zurich"}));
    let schema = || json!({"type": ["string", "object"], "maxLength": most, "x-max-chars": most});
    fields.value(about, false, schema, |value| {
        let text = match value {
            Value::String(text) => text,
            Value::Object(map) => Value::Object(map).to_string(),
            _ => return Err("Input should be a string or an object".to_owned()),
        };
        within(text, most)
    })
}

/// Checks a context's length.
pub(super) fn within(text: String, most: usize) -> Result<String, String> {
    if text.chars().count() > most {
        kronos_actors::metrics::refused("agent_context_chars");
        return Err(format!("The context should have at most {most} characters"));
    }
    Ok(text)
}

fn toolkits(fields: &mut Fields) -> Option<Vec<String>> {
    let about = field("toolkits").doc(
        "Toolkits whose tools the run may use, by slug, `kronos` for the built-in ones; left out: the built-in ones and those \
         that the user has connected; empty: no tools.",
    );
    let schema = || {
        json!({"type": "array", "maxItems": TOOLKITS, "items":
            {"type": "string", "minLength": 1, "maxLength": TOOLKIT_CHARS, "pattern": "^[A-Za-z0-9_-]+$"}})
    };
    fields.value(about, false, schema, slugs)
}

/// Reads the slugs of toolkits.
pub(super) fn slugs(value: Value) -> Result<Vec<String>, String> {
    let wrong = || format!("Input should be a list of at most {TOOLKITS} slugs");
    let slugs: Vec<String> = serde_json::from_value(value).map_err(|_shape| wrong())?;
    let is_slug = |slug: &String| {
        (1..=TOOLKIT_CHARS).contains(&slug.len())
            && slug
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if slugs.len() > TOOLKITS || !slugs.iter().all(is_slug) {
        return Err(wrong());
    }
    Ok(slugs)
}

impl InvokeBody {
    fn submit(self) -> Submit {
        Submit {
            run: self.run,
            context: self.context,
            ..Submit::new(mint::user_message(), UserContent::Text(self.text))
        }
    }
}

/// A run that is followed.
struct AgentStreamBody {
    turn: InvokeBody,
    cancel_on_disconnect: bool,
}

impl Input for AgentStreamBody {
    const NAME: &'static str = "AgentStream";

    fn read(fields: &mut Fields) -> Option<Self> {
        let turn = InvokeBody::read(fields);
        let cancel = field("cancel_on_disconnect").doc("Stop the run when the caller goes away; else it goes on");
        let cancel = fields.boolean(cancel);
        Some(Self {
            turn: turn?,
            cancel_on_disconnect: cancel.unwrap_or(false),
        })
    }
}

/// How a run of the agent ended.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AgentStatus")]
enum Status {
    /// It is done.
    Succeeded,
    /// It waits for answers to its questions.
    Waiting,
    /// Somebody stopped it: the response is what there was.
    Cancelled,
}

/// What came of a message to the agent.
#[derive(Debug, Serialize, JsonSchema)]
struct AgentAnswer {
    /// What the model said last.
    response: String,
    /// Whose run it was.
    user_id: UserId,
    /// When it ended.
    #[schemars(extend("format" = "date-time"))]
    timestamp: String,
    /// The run.
    run_id: Option<RunId>,
    /// The conversation it belongs to.
    conversation_id: SessionId,
    /// The answer's id; null when the model said nothing.
    message_id: Option<MessageId>,
    status: Status,
    /// Questions that wait for an answer.
    interrupts: Vec<Question>,
    /// Calls of tools, in order.
    tool_calls: Vec<Call>,
    /// Steps that the run took.
    steps: u32,
    /// Tokens used.
    usage: Option<TokenUsage>,
    /// The model that answered.
    model: Option<String>,
}

async fn invoke(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    body: Json<InvokeBody>,
) -> Result<HttpResponse, ApiError> {
    let mut body = body.0;
    let caller = caller.acting_as(&state, body.user.take())?;
    let answer = detached(async move {
        let session = body.session.take();
        let taken = Box::pin(turn::take(&directory, caller, session.as_ref(), body.submit())).await?;
        Box::pin(answer(&directory, taken)).await
    });
    Ok(HttpResponse::Ok().json(answer.await?))
}

/// Waits for the end of a run.
async fn answer(directory: &DirectoryRef, taken: Taken) -> Result<AgentAnswer, ApiError> {
    let Taken {
        session,
        caller,
        message,
        seq,
    } = taken;
    let result = reader::run_to_end(directory, &session, &caller, &message, seq).await?;
    if let Some(error) = &result.error {
        return Err(from_run(error));
    }
    let conversation_id = session.id().clone();
    let (mut steps, mut tool_calls) = (0, Vec::new());
    if let Some(run) = result.run.clone() {
        let (_, reply) = ask(directory, session, &caller, SessionCommand::Run { run }).await?;
        let SessionReply::Run(view) = reply else {
            return Err(unexpected("run"));
        };
        steps = view.steps;
        tool_calls = view.calls.into_iter().map(Call::from).collect();
    }
    let status = status(&result);
    Ok(AgentAnswer {
        response: result.text,
        user_id: caller.user.clone(),
        timestamp: rfc3339(result.finished_at_ms),
        run_id: result.run,
        conversation_id,
        message_id: result.message_id,
        status,
        interrupts: result.interrupts.into_iter().map(Question::from).collect(),
        tool_calls,
        steps,
        usage: turn::usage(&result.usage),
        model: result.model,
    })
}

fn status(result: &TurnResult) -> Status {
    if result.cancelled {
        Status::Cancelled
    } else if result.interrupts.is_empty() {
        Status::Succeeded
    } else {
        Status::Waiting
    }
}

async fn stream(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    body: Json<AgentStreamBody>,
) -> Result<HttpResponse, ApiError> {
    let AgentStreamBody {
        mut turn,
        cancel_on_disconnect: cancel,
    } = body.0;
    let mut opening = Opening::take(&state, &request, &caller.principal)?;
    if cancel {
        opening = opening.heartbeat_within(LOOK_FOR_READER);
    }
    let caller = caller.acting_as(&state, turn.user.take())?;
    let session = turn.session.take();
    follow(directory, opening, cancel, async move |directory| {
        turn::take(directory, caller, session.as_ref(), turn.submit()).await
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::input::{Bounds, read};

    fn turn(body: Value) -> Result<InvokeBody, ApiError> {
        let bounds = Bounds {
            context_chars: 9,
            ..Bounds::default()
        };
        match body {
            Value::Object(map) => read::<InvokeBody>("body", map, bounds),
            _ => panic!("not an object"),
        }
    }

    #[test]
    fn a_context_is_a_text_or_an_object_within_its_bound() {
        for (context, kept) in [
            (json!("12345678"), "12345678"),
            (json!("123456789"), "123456789"),
            (json!({"a": "23"}), r#"{"a":"23"}"#.get(..10).unwrap_or_default()),
        ] {
            let read = turn(json!({"message": "hi", "context": context}));
            match read {
                Ok(body) => assert_eq!(body.context.as_deref(), Some(kept)),
                Err(error) => {
                    assert!(kept.chars().count() > 9, "{error}");
                    assert_eq!(error.details["errors"][0]["field"], "body.context");
                }
            }
        }
        for context in [json!("1234567890"), json!(7), json!(["x"]), json!({"a": "234"})] {
            let error = turn(json!({"message": "hi", "context": context}))
                .map(|_| ())
                .unwrap_err();
            assert_eq!(error.details["errors"][0]["field"], "body.context");
        }
        assert_eq!(
            turn(json!({"message": "hi", "context": {"a": 1}}))
                .unwrap()
                .context
                .as_deref(),
            Some(r#"{"a":1}"#)
        );
    }

    #[test]
    fn toolkits_are_slugs_and_policies_are_words() {
        let body = json!({"message": "hi", "toolkits": ["kronos", "github"], "tool_policy": "ask_all"});
        let run = turn(body).unwrap().run;
        assert_eq!(run.toolkits, Some(vec!["kronos".to_owned(), "github".to_owned()]));
        assert_eq!(run.tool_policy, Some(ToolPolicy::AskAll));
        assert_eq!(turn(json!({"message": "hi"})).unwrap().run.toolkits, None);
        assert_eq!(
            turn(json!({"message": "hi", "toolkits": []})).unwrap().run.toolkits,
            Some(vec![])
        );
        let many = |n: usize| json!({"message": "hi", "toolkits": vec!["a"; n]});
        assert!(turn(many(TOOLKITS)).is_ok());
        for (body, field) in [
            (many(TOOLKITS + 1), "body.toolkits"),
            (json!({"message": "hi", "toolkits": ["git hub"]}), "body.toolkits"),
            (json!({"message": "hi", "toolkits": "github"}), "body.toolkits"),
            (json!({"message": "hi", "tool_policy": "never"}), "body.tool_policy"),
        ] {
            let error = turn(body).map(|_| ()).unwrap_err();
            assert_eq!(error.details["errors"][0]["field"], field);
        }
    }
}
