//! Answers to the questions of a run: approvals, what became of a call, accounts that were connected. The first answer wins.

use actix_web::{HttpRequest, HttpResponse, web};
use kronos_actors::{
    directory::DirectoryRef,
    session::{
        message::{AnsweredBy, Resume, SessionCommand, SessionReply, Verdict},
        reader::SessionReader,
    },
};
use kronos_protocol::{
    error::ErrorCode,
    event::Event,
    ids::{InterruptId, RunId},
    message::{Interrupt, ResumeAnswer, ResumeStatus},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{
    Found, find,
    runs::{Question, example_question},
};
use crate::edge::{
    EdgeState,
    auth::Caller,
    chat::{ask, unexpected},
    endpoint::{Endpoint, Tag, get, post},
    error::{ApiError, Row},
    input::{CallId, Fields, Input, Json, PathId, detached, field, path_ids},
};

/// Reason of a question whether a call may be made.
const APPROVAL: &str = "tool_call";
/// Reason of a question what became of a call.
const UNKNOWN: &str = "kronos:unknown_outcome";
/// Reason of a question for an account.
const CONNECTION: &str = "kronos:connection_required";
/// Name of the event that says what became of a question.
const ANSWERED: &str = "kronos.interrupt_answered";

const RUN: &str = "Id of the run.";
const CALL: &str = "Id of the call.";

pub(super) fn endpoints() -> Vec<Endpoint> {
    const FIRST: &str = "The first answer wins: a later one is 409, with who decided in `details`. Once every question of the run is \
                         answered the turn goes on in a new run.";
    vec![
        get(&["/api/v1/agent/runs/{run_id}/approvals"], open)
            .named("agent_questions", Tag::Agent, "List the open questions of a run")
            .path::<RunId>("run_id", RUN)
            .returns::<Questions>(200, "The questions", || json!({"items": [example_question()]})),
        post(&["/api/v1/agent/runs/{run_id}/approvals/{tool_call_id}"], approve)
            .named("agent_approve", Tag::Agent, "Approve or reject a call of a tool")
            .about(FIRST)
            .path::<RunId>("run_id", RUN)
            .path::<CallId>("tool_call_id", CALL)
            .body::<Decision>()
            .returns::<Answered>(200, "It is decided", example)
            .fails(&[ErrorCode::Conflict, ErrorCode::Overloaded]),
        post(&["/api/v1/agent/runs/{run_id}/answers/{tool_call_id}"], answer)
            .named("agent_answer", Tag::Agent, "Answer another question about a call")
            .about(FIRST)
            .path::<RunId>("run_id", RUN)
            .path::<CallId>("tool_call_id", CALL)
            .body::<Other>()
            .returns::<Answered>(200, "It is decided", example)
            .fails(&[ErrorCode::Conflict, ErrorCode::Overloaded]),
    ]
}

fn example() -> Value {
    json!({"run_id": "r_01926f3e8b1c7d3e9f002b1d5c6e7f82", "verdict": "approved", "open": []})
}

/// Questions of a run.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentQuestions")]
struct Questions {
    items: Vec<Question>,
}

/// What an answer led to.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentAnswered")]
struct Answered {
    /// The run that goes on; null while other questions are open.
    run_id: Option<RunId>,
    /// What was decided: `approved`, `rejected`, `retry`, `skip`, `result`, `connected`.
    verdict: &'static str,
    /// Questions that are open still.
    open: Vec<InterruptId>,
}

/// Yes or no to a call.
struct Decision {
    approved: bool,
    arguments: Option<Map<String, Value>>,
}

impl Input for Decision {
    const NAME: &'static str = "AgentDecision";

    fn read(fields: &mut Fields) -> Option<Self> {
        let most = fields.bounds().body_bytes;
        let decision = field("decision").doc("What to do with the call.").example("approve");
        let decision = fields.required_word(decision, &["approve", "reject"]);
        let arguments = field("arguments").doc("With `approve`: arguments in place of the model's, all of them.");
        let arguments = fields.object(arguments, most);
        let approved = decision? == "approve";
        if !approved && arguments.is_some() {
            fields.refuse("arguments", "Only an approval may change the arguments", "value_error");
        }
        Some(Self { approved, arguments })
    }

    fn rules(schema: &mut Value) {
        schema["if"] = json!({"required": ["decision"], "properties": {"decision": {"const": "reject"}}});
        schema["then"] = json!({"properties": {"arguments": {"type": "null"}}});
    }
}

/// What became of a call, or that an account is there.
struct Other {
    action: &'static str,
    result: Option<Value>,
}

impl Input for Other {
    const NAME: &'static str = "AgentOtherAnswer";

    fn read(fields: &mut Fields) -> Option<Self> {
        let action = field("action")
            .doc(
                "To a call of which nobody knows what became: call again, tell the model that it was left out, or what it \
                 returned. To a missing account: it is connected now.",
            )
            .example("retry");
        let action = fields.required_word(action, &["retry", "skip", "result", "connected"]);
        let result = field("result").doc("With `result`: what the call returned.");
        let result = fields.value(result, false, || json!({}), Ok);
        let action = action?;
        if (action == "result") != result.is_some() {
            fields.refuse(
                "result",
                "Belongs to the action `result`, and only to it",
                "value_error",
            );
        }
        Some(Self { action, result })
    }

    fn rules(schema: &mut Value) {
        schema["if"] = json!({"required": ["action"], "properties": {"action": {"const": "result"}}});
        schema["then"] = json!({"required": ["result"], "properties": {"result": {"not": {"type": "null"}}}});
        schema["else"] = json!({"properties": {"result": {"type": "null"}}});
    }
}

async fn open(
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    run: PathId<RunId>,
) -> Result<HttpResponse, ApiError> {
    let caller = caller.acting_as(&state, None)?;
    let found = find(&directory, caller, &run.0).await?;
    let items = found.view.interrupts.into_iter().map(Question::from).collect();
    Ok(HttpResponse::Ok().json(Questions { items }))
}

async fn approve(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    body: Json<Decision>,
) -> Result<HttpResponse, ApiError> {
    let (run, call) = path_ids::<RunId, CallId>(&request, ("run_id", "tool_call_id"))?;
    let caller = caller.acting_as(&state, None)?;
    let Decision { approved, arguments } = body.0;
    let mut payload = json!({"approved": approved});
    if let Some(arguments) = arguments {
        payload["editedArgs"] = Value::Object(arguments);
    }
    let verdict = if approved { "approved" } else { "rejected" };
    detached(async move {
        let found = Box::pin(find(&directory, caller, &run)).await?;
        let asked = asked(&directory, &found, &call, &[APPROVAL]).await?;
        settle(&directory, found, asked.id, payload, verdict).await
    })
    .await
}

async fn answer(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    body: Json<Other>,
) -> Result<HttpResponse, ApiError> {
    let (run, call) = path_ids::<RunId, CallId>(&request, ("run_id", "tool_call_id"))?;
    let caller = caller.acting_as(&state, None)?;
    let Other { action, result } = body.0;
    detached(async move {
        let found = Box::pin(find(&directory, caller, &run)).await?;
        let asked = asked(&directory, &found, &call, &[UNKNOWN, CONNECTION]).await?;
        if (asked.reason == CONNECTION) != (action == "connected") {
            return Err(ApiError::validation(&[Row {
                field: "body.action".to_owned(),
                message: format!("Does not answer a question of the kind {}", asked.reason),
                kind: "value_error",
            }]));
        }
        let mut payload = json!({"action": action});
        if let Some(result) = result {
            payload["result"] = result;
        }
        settle(&directory, found, asked.id, payload, action).await
    })
    .await
}

/// The open question about a call; 409 when it was answered already.
async fn asked(
    directory: &DirectoryRef,
    found: &Found,
    call: &CallId,
    reasons: &[&str],
) -> Result<Interrupt, ApiError> {
    let about = |asked: &&Interrupt| {
        asked.tool_call_id.as_deref() == Some(call.as_str()) && reasons.contains(&asked.reason.as_str())
    };
    if let Some(asked) = found.view.interrupts.iter().find(about) {
        return Ok(asked.clone());
    }
    let not_found = || ApiError::not_found("Question about the call", call.as_str());
    if !found.view.calls.iter().any(|made| made.id == call.as_str()) {
        return Err(not_found());
    }
    match verdict(directory, found, call).await? {
        Some(verdict) => {
            let error = ApiError::new(ErrorCode::Conflict, "The question was answered already");
            Err(error.with_details(json!(verdict)))
        }
        None => Err(not_found()),
    }
}

/// What became of the last question about a call, as the log has it.
async fn verdict(directory: &DirectoryRef, found: &Found, call: &CallId) -> Result<Option<Verdict>, ApiError> {
    let mut reader = SessionReader::attach(directory, &found.session, &found.caller, 0).await?;
    let (head, mut last) = (reader.head(), None);
    while reader.position() < head {
        for entry in reader.next().await?.entries.iter() {
            if let Event::Custom(custom) = &entry.event
                && custom.name == ANSWERED
                && let Ok(verdict) = serde_json::from_value::<Verdict>(custom.value.clone())
                && verdict.tool_call_id.as_deref() == Some(call.as_str())
            {
                last = Some(verdict);
            }
        }
    }
    Ok(last)
}

async fn settle(
    directory: &DirectoryRef,
    found: Found,
    question: InterruptId,
    payload: Value,
    verdict: &'static str,
) -> Result<HttpResponse, ApiError> {
    let mut answer = ResumeAnswer::new(question, ResumeStatus::Resolved);
    answer.payload = Some(payload);
    let by = AnsweredBy {
        user: Some(found.caller.user.clone()),
        connection: None,
        device: Some("rest".to_owned()),
    };
    let resume = Resume {
        answers: vec![answer],
        results: Vec::new(),
        all: false,
        by,
    };
    let (_, reply) = ask(directory, found.session, &found.caller, SessionCommand::Resume(resume)).await?;
    let SessionReply::Resumed { run, open, .. } = reply else {
        return Err(unexpected("resume"));
    };
    Ok(HttpResponse::Ok().json(Answered {
        run_id: run,
        verdict,
        open,
    }))
}
