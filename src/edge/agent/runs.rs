//! Runs as they stand: show, cancel, and the whole of a large result.

use actix_web::{HttpRequest, HttpResponse, web};
use kronos_actors::{
    directory::DirectoryRef,
    session::{
        TOOL_RESULT,
        message::{CallView, RunStatus, RunView, SessionCommand, SessionReply},
        result_key,
    },
};
use kronos_protocol::{
    error::ErrorCode,
    event::TokenUsage,
    ids::{InterruptId, MessageId, RunId, SessionId},
    message::Interrupt,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Found, find};
use crate::edge::{
    EdgeState,
    auth::Caller,
    chat::{ask, turn::usage, unexpected},
    endpoint::{Endpoint, Tag, get, post},
    error::{ApiError, StoreFailure},
    input::{CallId, PathId, path_ids},
    rfc3339,
};

const RUN: &str = "Id of the run.";
const CALL: &str = "Id of the call.";

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/agent/runs/{run_id}"], show)
            .named("agent_run", Tag::Agent, "Show a run of the agent")
            .path::<RunId>("run_id", RUN)
            .returns::<Run>(200, "The run", example),
        post(&["/api/v1/agent/runs/{run_id}/cancel"], cancel)
            .named("agent_cancel", Tag::Agent, "Cancel a run of the agent")
            .about("Answered when the run is over. One that is over already is 409.")
            .path::<RunId>("run_id", RUN)
            .returns::<CancelledRun>(
                200,
                "It is over",
                || json!({"run_id": "r_01926f3e8b1c7d3e9f002b1d5c6e7f80", "status": "cancelled", "usage": null}),
            )
            .fails(&[ErrorCode::Conflict, ErrorCode::Overloaded]),
        get(
            &["/api/v1/agent/runs/{run_id}/tool-calls/{tool_call_id}/result"],
            result,
        )
        .named("agent_tool_result", Tag::Agent, "Read what a tool returned")
        .about("All of it, also where the model and the log have only the beginning.")
        .path::<RunId>("run_id", RUN)
        .path::<CallId>("tool_call_id", CALL)
        .returns::<Value>(200, "What it returned", || json!({"items": [1, 2, 3]})),
    ]
}

/// A run.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentRun")]
struct Run {
    run_id: RunId,
    conversation_id: SessionId,
    /// The message that its turn answers.
    message_id: MessageId,
    /// `running`; `waiting` for answers; `answered`: it waited, and another run went on; `succeeded`, `failed`, `cancelled`.
    status: Status,
    /// When it began.
    #[schemars(extend("format" = "date-time"))]
    started_at: String,
    /// When it ended.
    #[schemars(extend("format" = "date-time"))]
    ended_at: Option<String>,
    /// Steps it has taken.
    steps: u32,
    /// Tokens it used.
    usage: Option<TokenUsage>,
    /// What it failed with.
    error: Option<Failure>,
    /// Calls that it made or went on with, in order.
    tool_calls: Vec<Call>,
    /// Questions that are open.
    interrupts: Vec<Question>,
    /// The run that went on after this one.
    next_run_id: Option<RunId>,
}

#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "AgentRunStatus")]
enum Status {
    Running,
    Waiting,
    Answered,
    Succeeded,
    Failed,
    Cancelled,
}

/// Why a run failed.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentRunFailure")]
struct Failure {
    code: String,
    message: String,
}

/// A call of a tool.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentToolCall")]
pub(super) struct Call {
    id: String,
    tool: String,
    /// The toolkit of the tool, once known.
    toolkit: Option<String>,
    /// The arguments as JSON text.
    arguments: String,
    /// Where it stands: `waiting`, `running`, `done`, `failed`, `rejected`, `unknown`, ….
    status: String,
    /// What it returned, or the beginning of it.
    result: Option<String>,
}

impl From<CallView> for Call {
    fn from(call: CallView) -> Self {
        Self {
            id: call.id,
            tool: call.tool,
            toolkit: call.toolkit,
            arguments: call.arguments,
            status: call.status,
            result: call.result,
        }
    }
}

/// A question to a person.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentQuestion")]
pub(super) struct Question {
    id: InterruptId,
    /// `tool_call`: may this call be made? `kronos:unknown_outcome`: what became of it? `kronos:connection_required`: connect
    /// an account first.
    reason: String,
    /// The question in words.
    message: Option<String>,
    /// The call it is about.
    tool_call_id: Option<String>,
    /// What an answer looks like, as a JSON schema.
    response_schema: Option<Map<String, Value>>,
    /// When it lapses.
    #[schemars(extend("format" = "date-time"))]
    expires_at: Option<String>,
    /// Where an account is connected.
    redirect_url: Option<String>,
    /// More about it.
    metadata: Option<Map<String, Value>>,
}

impl From<Interrupt> for Question {
    fn from(interrupt: Interrupt) -> Self {
        let ours = interrupt.metadata.as_ref().and_then(|metadata| metadata.get("kronos"));
        let redirect_url = ours
            .and_then(|ours| ours.get("redirectUrl"))
            .and_then(Value::as_str)
            .map(ToOwned::to_owned);
        Self {
            id: interrupt.id,
            reason: interrupt.reason,
            message: interrupt.message,
            tool_call_id: interrupt.tool_call_id,
            response_schema: interrupt.response_schema,
            expires_at: interrupt.expires_at,
            redirect_url,
            metadata: interrupt.metadata,
        }
    }
}

pub(super) fn example_call() -> Value {
    json!({"id": "call_1", "tool": "calculate", "toolkit": "kronos", "arguments": r#"{"expression":"17 * 23"}"#,
        "status": "done", "result": "391"})
}

pub(super) fn example_question() -> Value {
    json!({"id": "i_1", "reason": "tool_call", "message": "May GMAIL_SEND_EMAIL be called?", "tool_call_id": "call_2",
        "response_schema": {"type": "object"}, "expires_at": "2026-11-28T12:00:00Z", "redirect_url": null, "metadata": null})
}

fn example() -> Value {
    json!({
        "run_id": "r_01926f3e8b1c7d3e9f002b1d5c6e7f80",
        "conversation_id": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80",
        "message_id": "m_01926f3e8b1c7d3e9f002b1d5c6e7f80",
        "status": "waiting",
        "started_at": "2026-11-27T12:00:00Z",
        "ended_at": "2026-11-27T12:00:01.5Z",
        "steps": 1,
        "usage": null,
        "error": null,
        "tool_calls": [example_call()],
        "interrupts": [example_question()],
        "next_run_id": null,
    })
}

impl From<RunView> for Run {
    fn from(view: RunView) -> Self {
        Self {
            run_id: view.run,
            conversation_id: view.session,
            message_id: view.message,
            status: match view.status {
                RunStatus::Running => Status::Running,
                RunStatus::Waiting => Status::Waiting,
                RunStatus::Answered => Status::Answered,
                RunStatus::Succeeded => Status::Succeeded,
                RunStatus::Failed => Status::Failed,
                RunStatus::Cancelled => Status::Cancelled,
            },
            started_at: rfc3339(view.started_ms),
            ended_at: view.ended_ms.map(rfc3339),
            steps: view.steps,
            usage: usage(&view.usage),
            error: view.error.map(|(code, message)| Failure { code, message }),
            tool_calls: view.calls.into_iter().map(Call::from).collect(),
            interrupts: view.interrupts.into_iter().map(Question::from).collect(),
            next_run_id: view.next,
        }
    }
}

async fn show(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    run: PathId<RunId>,
) -> Result<HttpResponse, ApiError> {
    let caller = caller.acting_as(&state, None)?;
    let found = find(&directory, caller, &run.0).await?;
    Ok(HttpResponse::Ok().json(Run::from(found.view)))
}

/// A run that is over because it was cancelled.
#[derive(Debug, Serialize, JsonSchema)]
struct CancelledRun {
    run_id: RunId,
    status: Status,
    /// Tokens used until then.
    usage: Option<TokenUsage>,
}

async fn cancel(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    run: PathId<RunId>,
) -> Result<HttpResponse, ApiError> {
    let caller = caller.acting_as(&state, None)?;
    let run_id = run.0;
    let Found { session, caller, view } = find(&directory, caller, &run_id).await?;
    if !matches!(view.status, RunStatus::Running) {
        let error = ApiError::new(ErrorCode::Conflict, format!("Run {run_id} is over"));
        return Err(error.with_details(json!({"resource": "Run", "field": "status"})));
    }
    let command = SessionCommand::Cancel {
        run: Some(run_id.clone()),
    };
    let (_, reply) = ask(&directory, session, &caller, command).await?;
    let SessionReply::Cancelled { usage, .. } = reply else {
        return Err(unexpected("cancel"));
    };
    Ok(HttpResponse::Ok().json(CancelledRun {
        run_id,
        status: Status::Cancelled,
        usage,
    }))
}

async fn result(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
) -> Result<HttpResponse, ApiError> {
    let (run, call) = path_ids::<RunId, CallId>(&request, ("run_id", "tool_call_id"))?;
    let caller = caller.acting_as(&state, None)?;
    let Found { session, view, .. } = find(&directory, caller, &run).await?;
    let not_found = || ApiError::not_found("Tool result", call.as_str());
    let made = view.calls.into_iter().find(|made| made.id == call.as_str());
    let made = made.ok_or_else(not_found)?;
    let key = result_key(session.id(), &made.id);
    let stored = state.wiring.store.document(TOOL_RESULT, &key).await;
    let stored = stored.map_err(|cause| StoreFailure {
        operation: "read_tool_result",
        cause,
    })?;
    if let Some(whole) = stored {
        return Ok(HttpResponse::Ok().content_type("application/json").body(whole));
    }
    let text = made.result.ok_or_else(not_found)?;
    let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(HttpResponse::Ok().json(value))
}
