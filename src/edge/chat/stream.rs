//! `POST /chat/stream`: one message in, its turn's AG-UI events out.

use std::{sync::Arc, time::Duration};

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use kronos_actors::{
    directory::{DirectoryRef, SessionRef},
    principal::Principal,
    session::{
        message::{SessionCommand, SessionError},
        reader::{self, TurnReader},
    },
};
use kronos_protocol::{
    entry::LogEntry,
    error::ErrorCode,
    event::{Event, RunError},
    ids::MessageId,
    position::Cursor,
};

use serde_json::{Value, json};

use super::{
    sse::{EVENT_STREAM, Opening, Source, Stop, respond, write_event},
    turn::{self, TURN_FAILS, Taken, TurnBody},
};
use crate::edge::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, post},
    error::ApiError,
    input::{Fields, Input, Json, detached, field},
};

/// How often a reader whose leaving stops the run is looked for: only writing shows that it has left.
const LOOK_FOR_READER: Duration = Duration::from_secs(1);
/// Time for a run to begin whose reader has left meanwhile.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        post(&["/api/v1/chat/stream"], stream)
            .named("chat_stream", Tag::Chat, "Send a message and follow the answer")
            .about(
                "AG-UI events of the turn as server-sent events, from its RUN_STARTED to its RUN_FINISHED or RUN_ERROR, then \
                 the end of the body; a turn that is interrupted and starts again goes on in the same stream. `id` is the \
                 position in the session's log: `GET /chat/{id}/events` goes on after it.",
            )
            .body::<StreamBody>()
            .streams::<Event>(200, "The turn's events", example)
            .fails(&TURN_FAILS),
    ]
}

fn example() -> Value {
    json!({"id": "e_01926f3e:3",
        "data": r#"{"type":"TEXT_MESSAGE_CONTENT","messageId":"a_01926f3e","delta":"Bern"}"#})
}

/// A turn that is followed.
#[derive(Debug)]
struct StreamBody {
    turn: TurnBody,
    cancel_on_disconnect: bool,
}

impl Input for StreamBody {
    const NAME: &'static str = "ChatStream";

    fn read(fields: &mut Fields) -> Option<Self> {
        let turn = TurnBody::read(fields);
        let cancel = field("cancel_on_disconnect").doc("Stop the answer when the caller goes away; else it goes on");
        let cancel = fields.boolean(cancel);
        Some(Self {
            turn: turn?,
            cancel_on_disconnect: cancel.unwrap_or(false),
        })
    }
}

async fn stream(
    request: HttpRequest,
    state: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    body: Json<StreamBody>,
) -> Result<HttpResponse, ApiError> {
    let StreamBody {
        turn,
        cancel_on_disconnect: cancel,
    } = body.0;
    let mut opening = Opening::take(&state, &request, &caller.principal)?;
    if cancel {
        opening = opening.heartbeat_within(LOOK_FOR_READER);
    }
    let caller = caller.acting_as(&state, turn.user.clone())?;
    // Whoever leaves while the turn begins is missed at the first chunk.
    detached(async move {
        let taken = Box::pin(turn::take(&directory, caller, turn)).await?;
        let source = TurnSource::attach(&directory, taken, cancel).await?;
        Ok(respond(EVENT_STREAM, opening, source))
    })
    .await
}

/// The events of one turn.
struct TurnSource {
    turn: TurnReader,
    directory: DirectoryRef,
    session: SessionRef,
    caller: Arc<Principal>,
    message: MessageId,
    /// A reader that leaves stops the run.
    cancel: bool,
    /// Something was told.
    begun: bool,
    /// A run was told of, and not its end.
    open: bool,
}

impl TurnSource {
    async fn attach(directory: &DirectoryRef, taken: Taken, cancel: bool) -> Result<Self, SessionError> {
        let Taken {
            session,
            caller,
            message,
            seq,
        } = taken;
        Ok(Self {
            turn: TurnReader::attach(directory, &session, &caller, &message, seq).await?,
            directory: directory.clone(),
            session,
            caller,
            message,
            cancel,
            begun: false,
            open: false,
        })
    }

    fn write(&mut self, entries: &[LogEntry]) -> Bytes {
        let mut out = BytesMut::new();
        for entry in entries {
            self.begun = true;
            match entry.event {
                Event::RunStarted(_) => self.open = true,
                Event::RunFinished(_) | Event::RunError(_) => self.open = false,
                _ => {}
            }
            let id = Cursor {
                epoch: self.turn.epoch().clone(),
                seq: entry.seq,
            };
            write_event(&mut out, Some(&id), None, &entry.event);
        }
        out.freeze()
    }

    async fn ask(&mut self, command: SessionCommand) -> Result<(), SessionError> {
        if let Err(error) = reader::ask(&self.session, &self.caller, command.clone()).await {
            if !error.closed {
                return Err(error);
            }
            self.session = self.directory.resolve(self.session.id()).await?;
            reader::ask(&self.session, &self.caller, command).await?;
        }
        Ok(())
    }

    /// Stops the run, or takes the message back before it has one.
    async fn stop(&mut self) -> Result<(), SessionError> {
        while !self.turn.ended() {
            if let Some(run) = self.turn.run().cloned() {
                return self.ask(SessionCommand::Cancel { run: Some(run) }).await;
            }
            let id = self.message.clone();
            match self.ask(SessionCommand::Unqueue { id }).await {
                // It has a run, or is about to have another one.
                Err(error) if error.code == ErrorCode::Conflict => {}
                result => return result,
            }
            actix_web::rt::time::timeout(BEGIN_TIMEOUT, self.turn.next())
                .await
                .map_err(|_elapsed| SessionError::closed())??;
        }
        Ok(())
    }
}

impl Source for TurnSource {
    const IS_EVENTS: bool = true;

    async fn next(&mut self) -> Result<Option<Bytes>, SessionError> {
        loop {
            if self.turn.ended() {
                return Ok(None);
            }
            let entries = self.turn.next().await?;
            if !entries.is_empty() {
                return Ok(Some(self.write(&entries)));
            }
        }
    }

    /// AG-UI clients wait for the end of a run: one that does not come here is told of.
    fn farewell(&mut self, why: &Stop) -> Option<Bytes> {
        let error = why.error().filter(|_| self.open || !self.begun)?;
        let mut event = RunError::new(error.message);
        event.code = Some(error.code.as_str().to_owned());
        let mut out = BytesMut::new();
        write_event(&mut out, None, None, &Event::from(event));
        Some(out.freeze())
    }

    async fn abandoned(&mut self) {
        if !self.cancel {
            return;
        }
        if let Err(error) = Box::pin(self.stop()).await {
            tracing::debug!(%error, "a run whose reader left was not stopped");
        }
    }
}
