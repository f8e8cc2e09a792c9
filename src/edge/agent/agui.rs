//! `POST /agent/ag-ui`: AG-UI clients connect with no adapter. RunAgentInput in, AG-UI events out.

use std::sync::Arc;

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use kronos_actors::{directory::DirectoryRef, principal::Principal, session::message::SessionError};
use kronos_protocol::{
    error::ErrorCode,
    event::{Event, RunError},
};
use serde_json::{Value, json};

use self::{begin::Begun, echo::Echo};
use crate::edge::{
    EdgeState,
    auth::Caller,
    chat::{
        sse::{EVENT_STREAM, Opening, Source, respond, write_event},
        stream::{LOOK_FOR_READER, Leaving},
    },
    endpoint::{Endpoint, Tag, post},
    error::ApiError,
    input::{Json, detached},
};

mod begin;
pub(super) mod echo;
pub(super) mod input;

pub(super) use self::input::RunBody;

/// How a run of an AG-UI client may fail before its events begin.
pub(super) const FAILS: [ErrorCode; 2] = [ErrorCode::Busy, ErrorCode::Overloaded];

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(&["/api/v1/agent/ag-ui"], run)
            .named("agent_ag_ui", Tag::Agent, "Run the agent for an AG-UI client")
            .about(
                "AG-UI 1.0 (and clients before 1.0, which send no `protocolVersion`). `threadId` is a conversation's id, or any \
                 name that the caller gave to one: the same name is the same conversation, and nobody else's. Of `messages` only \
                 what is new is taken, by id: user messages, and results of `tools` that the client was left to run. Answers to \
                 questions come in `resume`, all of them at once; one that is missing, wrong or late is a RUN_ERROR. The same \
                 request again streams the run that it started. A run whose connection is closed is stopped after a short while, \
                 unless `forwardedProps.kronos.onDisconnect` is `continue`; beside it `toolkits` and `toolPolicy` mean what they do in \
                 `/agent/invoke`.",
            )
            .body::<RunBody>()
            .streams::<Event>(200, "The run's events", example)
            .fails(&FAILS),
    ]
}

pub(super) fn example() -> Value {
    json!({"id": "e_01926f3e:3",
        "data": r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"a_01926f3e","delta":"Bern"}"#})
}

async fn run(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    body: Json<RunBody>,
) -> Result<HttpResponse, ApiError> {
    let body = body.0;
    let leaving = if body.wishes.goes_on {
        Leaving::GoesOn
    } else {
        Leaving::StopsAfter(state.agent.grace, state.agent.followers.clone())
    };
    let opening = Opening::take(&state, &request, &caller.principal)?;
    let caller = caller.acting_as(&state, None)?;
    serve(directory, opening, caller, body, leaving).await
}

/// Begins what the body asks for, or finds what it began before, and answers with its events.
pub(super) async fn serve(
    directory: web::Data<DirectoryRef>,
    mut opening: Opening,
    caller: Arc<Principal>,
    body: RunBody,
    leaving: Leaving,
) -> Result<HttpResponse, ApiError> {
    if matches!(leaving, Leaving::StopsAfter(..)) {
        opening = opening.heartbeat_within(LOOK_FOR_READER);
    }
    // Whoever leaves while the run begins is missed at the first chunk.
    detached(async move {
        let echo = Echo::of(&body);
        Ok(match Box::pin(begin::begin(&directory, caller, body, leaving)).await? {
            Begun::Follow(source) => {
                let source = source.projected(Box::new(move |entry| echo.tell(entry)));
                respond(EVENT_STREAM, opening, source)
            }
            Begun::Refused(error) => respond(EVENT_STREAM, opening, Refusal(Some(error))),
        })
    })
    .await
}

/// A run that did not begin: clients look for that in the stream.
struct Refusal(Option<SessionError>);

impl Source for Refusal {
    const IS_EVENTS: bool = true;

    async fn next(&mut self) -> Result<Option<Bytes>, SessionError> {
        let told = self.0.take().map(|error| {
            let mut event = RunError::new(error.message);
            event.code = Some(error.code.as_str().to_owned());
            let mut out = BytesMut::new();
            write_event(&mut out, None, None, &Event::from(event));
            out.freeze()
        });
        std::future::ready(Ok(told)).await
    }
}
