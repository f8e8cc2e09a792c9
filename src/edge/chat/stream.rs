//! `POST /chat/stream`: one message in, its turn's AG-UI events out.

use std::{
    borrow::Cow,
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

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
    ids::{MessageId, SessionId},
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
pub(in crate::edge) const LOOK_FOR_READER: Duration = Duration::from_secs(1);
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
    let submit = turn::submit(turn.text, turn.run);
    let session = turn.session;
    follow(directory, opening, cancel, async move |directory| {
        turn::take(directory, caller, session.as_ref(), submit).await
    })
    .await
}

/// Takes a turn and answers with its events. Whoever leaves while it begins is missed at the first chunk.
pub(in crate::edge) async fn follow(
    directory: web::Data<DirectoryRef>,
    opening: Opening,
    cancel: bool,
    take: impl AsyncFnOnce(&DirectoryRef) -> Result<Taken, ApiError> + 'static,
) -> Result<HttpResponse, ApiError> {
    detached(async move {
        let taken = Box::pin(take(&directory)).await?;
        let source = TurnSource::attach(&directory, taken, cancel).await?;
        Ok(respond(EVENT_STREAM, opening, source))
    })
    .await
}

/// What becomes of a run whose reader leaves.
#[derive(Debug, Clone)]
pub(in crate::edge) enum Leaving {
    /// It goes on.
    GoesOn,
    /// It is stopped.
    Stops,
    /// It is stopped after a while in which nobody follows its conversation.
    StopsAfter(Duration, Followers),
}

/// How many follow the run of a conversation, so that one who comes back in time finds it going on. One per process.
#[derive(Debug, Clone, Default)]
pub(in crate::edge) struct Followers(Arc<Mutex<HashMap<SessionId, usize>>>);

/// One who follows, until it is dropped.
#[derive(Debug)]
pub(in crate::edge) struct Following {
    followers: Followers,
    session: SessionId,
}

impl Followers {
    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more follows.
    pub(in crate::edge) fn join(&self, session: &SessionId) -> Following {
        *self.table().entry(session.clone()).or_default() += 1;
        Following {
            followers: self.clone(),
            session: session.clone(),
        }
    }

    /// Whether anybody follows.
    fn any(&self, session: &SessionId) -> bool {
        self.table().contains_key(session)
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.followers.table().entry(self.session.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

/// Makes of an entry what is told; `None`: nothing.
pub(in crate::edge) type Projection = Box<dyn Fn(&LogEntry) -> Option<Event>>;

/// The events of one turn.
pub(in crate::edge) struct TurnSource {
    turn: TurnReader,
    directory: DirectoryRef,
    session: SessionRef,
    caller: Arc<Principal>,
    /// What can be taken back while it waits.
    message: Option<MessageId>,
    leaving: Leaving,
    following: Option<Following>,
    /// What is told instead of the entries themselves.
    projection: Option<Projection>,
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
        let turn = TurnReader::attach(directory, &session, &caller, &message, seq).await?;
        let leaving = if cancel { Leaving::Stops } else { Leaving::GoesOn };
        Ok(Self::new(directory, (session, caller), turn, leaving).taken_back_as(message))
    }

    pub(in crate::edge) fn new(
        directory: &DirectoryRef,
        (session, caller): (SessionRef, Arc<Principal>),
        turn: TurnReader,
        leaving: Leaving,
    ) -> Self {
        let following = match &leaving {
            Leaving::StopsAfter(_, followers) => Some(followers.join(session.id())),
            Leaving::GoesOn | Leaving::Stops => None,
        };
        Self {
            turn,
            directory: directory.clone(),
            session,
            caller,
            message: None,
            leaving,
            following,
            projection: None,
            begun: false,
            open: false,
        }
    }

    /// The same of a message that can be taken back while it waits.
    pub(in crate::edge) fn taken_back_as(mut self, message: MessageId) -> Self {
        self.message = Some(message);
        self
    }

    /// The same with something else told than the entries themselves.
    pub(in crate::edge) fn projected(mut self, projection: Projection) -> Self {
        self.projection = Some(projection);
        self
    }

    fn write(&mut self, entries: &[LogEntry]) -> Bytes {
        let mut out = BytesMut::new();
        for entry in entries {
            let projected = match &self.projection {
                None => Cow::Borrowed(&entry.event),
                Some(projection) => match projection(entry) {
                    Some(event) => Cow::Owned(event),
                    None => continue,
                },
            };
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
            write_event(&mut out, Some(&id), None, projected.as_ref());
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
            let Some(id) = self.message.clone() else {
                self.read_on().await?;
                continue;
            };
            match self.ask(SessionCommand::Unqueue { id }).await {
                // It has a run, or is about to have another one.
                Err(error) if error.code == ErrorCode::Conflict => {}
                result => return result,
            }
            self.read_on().await?;
        }
        Ok(())
    }

    async fn read_on(&mut self) -> Result<(), SessionError> {
        let read = actix_web::rt::time::timeout(BEGIN_TIMEOUT, self.turn.next()).await;
        read.map_err(|_elapsed| SessionError::closed())?.map(drop)
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
            let chunk = self.write(&entries);
            if !chunk.is_empty() {
                return Ok(Some(chunk));
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
        match &self.leaving {
            Leaving::GoesOn => return,
            Leaving::Stops => {}
            Leaving::StopsAfter(grace, followers) => {
                self.following = None;
                actix_web::rt::time::sleep(*grace).await;
                if followers.any(self.session.id()) {
                    return;
                }
            }
        }
        if let Err(error) = Box::pin(self.stop()).await {
            tracing::debug!(%error, "a run whose reader left was not stopped");
        }
    }
}
