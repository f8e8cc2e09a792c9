//! The routes that CopilotKit's client calls on its runtime, so that a page needs none but this server.

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use kronos_actors::{
    directory::DirectoryRef,
    session::{
        message::{SessionCommand, SessionError, SessionReply},
        reader::{Batch, SessionReader},
    },
};
use kronos_protocol::{
    error::ErrorCode,
    event::{Event, RunError},
    ids::{EpochId, RunId, UserId},
    position::{Cursor, Seq},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::agui::{self, RunBody, echo::Echo};
use crate::edge::{
    EdgeState,
    auth::Caller,
    chat::{
        ask,
        sse::{EVENT_STREAM, Opening, Source, Stop, respond, write_event},
        stream::Leaving,
        unexpected,
    },
    endpoint::{Endpoint, Tag, get, post},
    error::ApiError,
    input::{Fields, Input, Json, OptionalJson, PathId, ThreadId, detached, field, path_ids},
};

/// The one agent; what CopilotKit calls it when nothing else is said.
const AGENT: &str = "default";
const AGENT_DOC: &str = "Id of the agent: `default`.";

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/agent/copilotkit/info"], info)
            .named("copilotkit_info", Tag::Agent, "Describe the runtime to CopilotKit")
            .returns::<Info>(200, "The agents", example),
        post(&["/api/v1/agent/copilotkit/agent/{agent_id}/run"], run)
            .named("copilotkit_run", Tag::Agent, "Run the agent for CopilotKit")
            .about("As `/agent/ag-ui`, but the run goes on when the page leaves: it connects again, or stops it.")
            .path::<UserId>("agent_id", AGENT_DOC)
            .body::<RunBody>()
            .streams::<Event>(200, "The run's events", agui::example)
            .fails(&agui::FAILS),
        post(&["/api/v1/agent/copilotkit/agent/{agent_id}/connect"], connect)
            .named("copilotkit_connect", Tag::Agent, "Show a thread to CopilotKit")
            .about(
                "The thread's messages as a snapshot within the brackets of a run, and while a run is active its events to its \
                 end. Nothing for a thread that does not exist.",
            )
            .path::<UserId>("agent_id", AGENT_DOC)
            .body::<RunBody>()
            .streams::<Event>(200, "The thread", agui::example)
            .fails(&[ErrorCode::Overloaded]),
        post(&["/api/v1/agent/copilotkit/agent/{agent_id}/stop/{thread_id}"], stop)
            .named("copilotkit_stop", Tag::Agent, "Stop the active run of a thread")
            .path::<UserId>("agent_id", AGENT_DOC)
            .path::<ThreadId>("thread_id", "The thread, as the client calls it.")
            .optional_body::<StopBody>()
            .returns::<Stopped>(200, "What was stopped", || json!({"stopped": true, "run_id": "r_01926f3e"}))
            .fails(&[ErrorCode::Overloaded]),
    ]
}

/// What CopilotKit asks first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "CopilotKitInfo")]
struct Info {
    version: &'static str,
    mode: &'static str,
    audio_file_transcription_enabled: bool,
    /// By id.
    agents: Value,
}

fn example() -> Value {
    json!(Info::of(json!({})))
}

impl Info {
    fn of(capabilities: Value) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            mode: "sse",
            audio_file_transcription_enabled: false,
            agents: json!({AGENT: {
                "name": AGENT,
                "description": "Kronos",
                "className": "Kronos",
                "capabilities": capabilities,
            }}),
        }
    }
}

async fn info(state: web::Data<EdgeState>, _caller: Caller) -> Result<HttpResponse, ApiError> {
    let info = Info::of(state.agent.about.ag_ui());
    std::future::ready(Ok(HttpResponse::Ok().json(info))).await
}

fn known(agent: &str) -> Result<(), ApiError> {
    if agent == AGENT {
        Ok(())
    } else {
        Err(ApiError::not_found("Agent", agent))
    }
}

async fn run(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    agent: PathId<UserId>,
    body: Json<RunBody>,
) -> Result<HttpResponse, ApiError> {
    known(agent.0.as_str())?;
    let opening = Opening::take(&state, &request, &caller.principal)?;
    let caller = caller.acting_as(&state, None)?;
    agui::serve(directory, opening, caller, body.0, Leaving::GoesOn).await
}

async fn connect(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    agent: PathId<UserId>,
    body: Json<RunBody>,
) -> Result<HttpResponse, ApiError> {
    known(agent.0.as_str())?;
    let opening = Opening::take(&state, &request, &caller.principal)?;
    let caller = caller.acting_as(&state, None)?;
    let echo = Echo::watching(&body.0);
    let thread = directory.thread(&caller, body.0.thread.as_str()).await?;
    let reader = if thread.exists {
        let session = directory.resolve(&thread.id).await?;
        // A position that no history has: what comes first is a picture of all of it.
        let nowhere = Cursor {
            epoch: EpochId::from_trusted("nowhere".to_owned()),
            seq: 1,
        };
        Some(SessionReader::resume(&directory, &session, &caller, Some(nowhere)).await?)
    } else {
        None
    };
    Ok(respond(EVENT_STREAM, opening, Replay::new(reader, echo)))
}

/// A thread as it is, and the run that is active to its end.
struct Replay {
    /// `None`: there is nothing to tell.
    reader: Option<SessionReader>,
    echo: Echo,
    /// What was there at the start.
    head: Seq,
    /// Something was told.
    begun: bool,
    /// A run was told of, and not its end.
    open: bool,
}

impl Replay {
    fn new(reader: Option<SessionReader>, echo: Echo) -> Self {
        Self {
            head: reader.as_ref().map_or(0, SessionReader::head),
            reader,
            echo,
            begun: false,
            open: false,
        }
    }

    /// Writes what belongs to runs, until all that was there is told and no run is open.
    fn write(&mut self, batch: &Batch) -> Bytes {
        let mut out = BytesMut::new();
        for entry in batch.entries.iter() {
            if self.begun && !self.open && entry.seq > self.head {
                break;
            }
            let Some(event) = self.echo.tell(entry) else {
                continue;
            };
            match event {
                Event::RunStarted(_) => self.open = true,
                Event::RunFinished(_) | Event::RunError(_) => self.open = false,
                _ => {}
            }
            self.begun = true;
            let id = Cursor {
                epoch: batch.epoch.clone(),
                seq: entry.seq,
            };
            write_event(&mut out, Some(&id), None, &event);
        }
        out.freeze()
    }
}

impl Source for Replay {
    const IS_EVENTS: bool = true;

    async fn next(&mut self) -> Result<Option<Bytes>, SessionError> {
        loop {
            let Some(reader) = &mut self.reader else {
                return Ok(None);
            };
            if reader.position() >= self.head && !self.open {
                return Ok(None);
            }
            let batch = reader.next().await?;
            if batch.snapshot && self.begun {
                // Another history: what was told of this one cannot be gone on with.
                return Err(SessionError::closed());
            }
            let chunk = self.write(&batch);
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    fn farewell(&mut self, why: &Stop) -> Option<Bytes> {
        let error = why.error().filter(|_| self.open || !self.begun)?;
        let mut event = RunError::new(error.message);
        event.code = Some(error.code.as_str().to_owned());
        let mut out = BytesMut::new();
        write_event(&mut out, None, None, &Event::from(event));
        Some(out.freeze())
    }
}

/// What CopilotKit says when it stops a run.
struct StopBody;

impl Input for StopBody {
    const NAME: &'static str = "CopilotKitStop";

    fn read(fields: &mut Fields) -> Option<Self> {
        let run = field("runId").doc("The run, as the client calls it: the active one is stopped, whatever this says.");
        drop(fields.text(run, 0, 256));
        Some(Self)
    }
}

/// What was stopped.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CopilotKitStopped")]
struct Stopped {
    /// There was a run.
    stopped: bool,
    run_id: Option<RunId>,
}

async fn stop(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    _body: OptionalJson<StopBody>,
) -> Result<HttpResponse, ApiError> {
    let (agent, thread) = path_ids::<UserId, ThreadId>(&request, ("agent_id", "thread_id"))?;
    known(agent.as_str())?;
    let caller = caller.acting_as(&state, None)?;
    detached(async move {
        let found = directory.thread(&caller, thread.as_str()).await?;
        if !found.exists {
            return Err(ApiError::not_found("Thread", thread.as_str()));
        }
        let session = directory.resolve(&found.id).await?;
        let (_, reply) = ask(&directory, session, &caller, SessionCommand::Cancel { run: None }).await?;
        let SessionReply::Cancelled { run, .. } = reply else {
            return Err(unexpected("cancel"));
        };
        Ok(HttpResponse::Ok().json(Stopped {
            stopped: run.is_some(),
            run_id: run,
        }))
    })
    .await
}
