//! Sessions: those in memory, those asleep under their sockets, those out of service; and what is done to them.

use actix_web::{HttpResponse, web};
use kronos_actors::{
    directory::{
        DirectoryRef,
        evict::Eviction,
        observe::{SeenSession, Standing},
    },
    session::{Observed, ObservedReader, ObservedRun, Phase, message::SessionError},
};
use kronos_protocol::{
    error::ErrorCode,
    ids::{ConnectionId, RunId, SessionId, UserId},
    position::Seq,
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::page::{self, Paging, Wanted, ms, state};
use crate::edge::{
    EdgeState,
    accounts::Accounts,
    auth::Caller,
    endpoint::{Endpoint, Tag, get, post},
    error::{ApiError, StoreFailure},
    input::{Fields, Input, PathId, QueryOf, detached, field},
    rfc3339,
};

/// The endpoints of this file.
pub(super) fn endpoints() -> Vec<Endpoint> {
    vec![
        get(&["/api/v1/admin/sessions"], list)
            .named("admin_sessions", Tag::Admin, "List sessions")
            .about(
                "Those in memory, those that left it under their sockets, and those out of service, in the order of their ids. \
                 Each is asked; one that does not answer in time is listed all the same, with `answering` false. With a filter a \
                 page may be short although there is a next one.",
            )
            .superuser()
            .query::<ListSessions>()
            .returns::<Sessions>(200, "A page of the list", || json!({"items": [example()], "next_cursor": null})),
        get(&["/api/v1/admin/sessions/{id}"], show)
            .named("admin_session", Tag::Admin, "Show a session")
            .about("Also one that is stored only.")
            .superuser()
            .path::<SessionId>("id", "The session; of a user's feed `@` and the user's id")
            .returns::<SessionItem>(200, "The session", example)
            .fails(&[ErrorCode::Storage]),
        post(&["/api/v1/admin/sessions/{id}/park"], park)
            .named("admin_park", Tag::Admin, "Take a session out of service")
            .about(
                "Its run is closed as interrupted, its clients are told with the error `parked`, and it stays closed until it is \
                 unparked, over restarts and newer versions.",
            )
            .superuser()
            .path::<SessionId>("id", "The session")
            .returns::<Parked>(200, "Whether it was in service", || json!({"id": ID, "parked": true}))
            .fails(&[ErrorCode::Storage]),
        post(&["/api/v1/admin/sessions/{id}/unpark"], unpark)
            .named("admin_unpark", Tag::Admin, "Bring a session back into service")
            .about("Whatever took it out. What it left unfinished goes on.")
            .superuser()
            .path::<SessionId>("id", "The session")
            .returns::<Unparked>(200, "Whether it was out of service", || json!({"id": ID, "unparked": true}))
            .fails(&[ErrorCode::Storage]),
        post(&["/api/v1/admin/sessions/{id}/evict"], evict)
            .named("admin_evict", Tag::Admin, "Take a session out of memory")
            .about(
                "As if it had been idle: its sockets stay attached, and any input brings it back. Refused while it has a run. With \
                 `force` the run is closed as interrupted and tried again, as after a crash, and one that does not answer is ended as \
                 it is.",
            )
            .superuser()
            .path::<SessionId>("id", "The session")
            .query::<HowToEvict>()
            .returns::<Evicted>(
                200,
                "What became of it",
                || json!({"id": ID, "evicted": true, "interrupted": false, "ended": false}),
            )
            .fails(&[ErrorCode::Busy, ErrorCode::Storage]),
    ]
}

const ID: &str = "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f80";

fn example() -> Value {
    json!({
        "id": ID, "owner": "01926f3e-8b1c-7d3e-9f00-2b1d5c6e7f79", "state": "live", "core": 0, "answering": true,
        "attachments": 1, "still_ms": 12, "working": false, "parked": null,
        "seen": {
            "phase": "live", "last": 42, "committed": 42, "packed": 40, "queued": 0, "questions": 0, "tail_bytes": 5120,
            "waiting": 0, "committing": false, "incarnation": 0, "panics": 0, "commit_failures": 0, "idle_ms": 310,
            "readers": [{"connection": "c_01926f3e8b1c7d3e9f002b1d5c6e7f83", "seq": 42, "lag": 0, "waits": true, "quiet_ms": 310}],
            "run": null,
        },
    })
}

/// A session.
#[derive(Debug, Serialize, JsonSchema)]
struct SessionItem {
    /// Its id; of a user's feed `@` and the user's id.
    id: SessionId,
    /// Whose it is; null when that cannot be told now.
    owner: Option<UserId>,
    /// `live`: in memory; `asleep`: out of memory under its sockets; `parked`: out of service; `stored`: none of these.
    state: &'static str,
    /// The core that has it.
    core: Option<usize>,
    /// False: it is in memory and did not answer in time.
    answering: bool,
    /// Cursors on it; null when it does not answer.
    attachments: Option<usize>,
    /// Milliseconds since it last got on, as its core sees it.
    still_ms: Option<u64>,
    /// It has work that must get on by itself: still for long, it hangs.
    working: Option<bool>,
    /// Why it is out of service.
    parked: Option<ParkedBecause>,
    /// What it says.
    seen: Option<SessionSeen>,
}

/// Why a session is out of service.
#[derive(Debug, Serialize, JsonSchema)]
struct ParkedBecause {
    /// `panics`, `hangs`, `operator`.
    reason: &'static str,
    /// Since when.
    #[schemars(extend("format" = "date-time"))]
    since: String,
}

/// What a session says about itself.
#[derive(Debug, Serialize, JsonSchema)]
struct SessionSeen {
    /// `loading`, `live`, `missing`, `unavailable`.
    phase: &'static str,
    /// The newest event.
    last: Seq,
    /// The newest durable event.
    committed: Seq,
    /// The last event that is packed.
    packed: Seq,
    /// Messages that wait.
    queued: usize,
    /// Questions that nobody has answered.
    questions: usize,
    /// Bytes of its log in memory.
    tail_bytes: usize,
    /// Answers that wait for a commit.
    waiting: usize,
    /// A commit is on its way.
    committing: bool,
    /// How often its log was folded again.
    incarnation: u64,
    /// Panics since something was last committed.
    panics: u32,
    /// Commits that failed since the last that did not.
    commit_failures: u32,
    /// Milliseconds since it was last asked for something.
    idle_ms: u64,
    /// Its cursors, by connection.
    readers: Vec<ReaderItem>,
    /// Its run, also one that waits for people.
    run: Option<RunSeen>,
}

/// A cursor.
#[derive(Debug, Serialize, JsonSchema)]
struct ReaderItem {
    /// The connection; of REST one that is not among the connections.
    connection: ConnectionId,
    /// Everything up to here it has taken.
    seq: Seq,
    /// Events that it has not taken yet.
    lag: u64,
    /// It has everything and waits for news; false: it is busy with what it got, or takes nothing.
    waits: bool,
    /// Milliseconds since it last asked for more.
    quiet_ms: u64,
}

/// A run as its session sees it.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct RunSeen {
    /// Its id.
    pub(super) id: RunId,
    /// `running`, or `waiting` for people.
    pub(super) state: &'static str,
    /// When it started.
    #[schemars(extend("format" = "date-time"))]
    pub(super) started_at: String,
    /// Milliseconds since then.
    pub(super) age_ms: u64,
    /// The number of its attempt since the turn last got on.
    pub(super) attempt: u32,
    /// Steps that the turn has taken.
    pub(super) steps: u32,
    /// The model that answers, once it does.
    pub(super) model: Option<String>,
    /// `model`, `tool`, `link`, `catalogue`, `summary`, `commit`, `people`, `client`.
    pub(super) waits_for: Vec<&'static str>,
}

impl RunSeen {
    pub(super) fn of(run: ObservedRun, now_ms: i64) -> Self {
        Self {
            id: run.id,
            state: if run.waits { "waiting" } else { "running" },
            started_at: rfc3339(run.started_ms),
            age_ms: now_ms.saturating_sub(run.started_ms).max(0).unsigned_abs(),
            attempt: run.attempt,
            steps: run.steps,
            model: run.model,
            waits_for: run.waits_for,
        }
    }
}

impl SessionSeen {
    fn of(seen: Observed, now_ms: i64) -> Self {
        let reader = |reader: ObservedReader| ReaderItem {
            connection: reader.connection,
            seq: reader.seq,
            lag: reader.lag,
            waits: reader.waits,
            quiet_ms: ms(reader.quiet),
        };
        Self {
            phase: match seen.phase {
                Phase::Loading => "loading",
                Phase::Live => "live",
                Phase::Missing => "missing",
                Phase::Unavailable => "unavailable",
            },
            last: seen.last,
            committed: seen.committed,
            packed: seen.packed,
            queued: seen.queued,
            questions: seen.questions,
            tail_bytes: seen.tail_bytes,
            waiting: seen.waiting,
            committing: seen.committing,
            incarnation: seen.incarnation,
            panics: seen.panics,
            commit_failures: seen.commit_failures,
            idle_ms: ms(seen.idle),
            readers: seen.readers.into_iter().map(reader).collect(),
            run: seen.run.map(|run| RunSeen::of(run, now_ms)),
        }
    }
}

impl SessionItem {
    fn of(seen: SeenSession, now_ms: i64) -> Self {
        let SeenSession {
            session,
            owner,
            standing,
        } = seen;
        let item = Self {
            id: session,
            owner,
            state: state(&standing),
            core: None,
            answering: !standing.is_silent(),
            attachments: Some(0),
            still_ms: None,
            working: None,
            parked: None,
            seen: None,
        };
        match standing {
            Standing::Live { core, seen, still } => Self {
                core: Some(core),
                attachments: seen.as_ref().map(|seen| seen.readers.len()),
                still_ms: still.map(|(still, _)| ms(still)),
                working: still.map(|(_, working)| working),
                seen: seen.map(|seen| SessionSeen::of(*seen, now_ms)),
                ..item
            },
            Standing::Asleep { core, sleepers } => Self {
                core: Some(core),
                attachments: Some(sleepers),
                ..item
            },
            Standing::Parked(parking) => Self {
                parked: Some(ParkedBecause {
                    reason: parking.reason.as_str(),
                    since: rfc3339(parking.at_ms),
                }),
                ..item
            },
        }
    }

    fn stored(session: SessionId, owner: UserId) -> Self {
        Self {
            id: session,
            owner: Some(owner),
            state: "stored",
            core: None,
            answering: true,
            attachments: Some(0),
            still_ms: None,
            working: None,
            parked: None,
            seen: None,
        }
    }
}

/// A page of sessions.
#[derive(Debug, Serialize, JsonSchema)]
struct Sessions {
    /// In the order of their ids.
    items: Vec<SessionItem>,
    /// `cursor` of the next page; null when this is the last.
    next_cursor: Option<String>,
}

struct ListSessions {
    paging: Paging,
    user: Option<UserId>,
    state: Option<&'static str>,
}

impl Input for ListSessions {
    const NAME: &'static str = "ListSessions";

    fn read(fields: &mut Fields) -> Option<Self> {
        let paging = Paging::read(fields);
        let user = fields.id(field("user").doc("Only sessions of this user"));
        let state = fields.word(
            field("state").doc("Only those in memory, out of it under their sockets, or out of service"),
            &["live", "asleep", "parked"],
        );
        Some(Self { paging, user, state })
    }
}

async fn list(
    edge: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    query: QueryOf<ListSessions>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let ListSessions {
        paging,
        user,
        state: wanted,
    } = query.0;
    let wanted = Wanted {
        paging,
        user,
        and: move |seen: &SeenSession| wanted.is_none_or(|wanted| state(&seen.standing) == wanted),
    };
    let (found, next_cursor) = page::sessions(&directory, wanted, edge.admin_timeout).await;
    let now_ms = edge.clock.now_ms();
    let items = found.into_iter().map(|seen| SessionItem::of(seen, now_ms)).collect();
    Ok(HttpResponse::Ok().json(Sessions { items, next_cursor }))
}

async fn show(
    edge: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let id = id.0;
    let item = match directory
        .look_at(std::slice::from_ref(&id), edge.admin_timeout)
        .await
        .pop()
    {
        Some(seen) => SessionItem::of(seen, edge.clock.now_ms()),
        None => {
            let failed = |cause| StoreFailure {
                operation: "read_conversation",
                cause,
            };
            let meta = edge.wiring.store.meta(&id).await.map_err(failed)?;
            let meta = meta.ok_or_else(|| SessionError::not_found(&id))?;
            SessionItem::stored(id, meta.owner)
        }
    };
    Ok(HttpResponse::Ok().json(item))
}

/// What parking came to.
#[derive(Debug, Serialize, JsonSchema)]
struct Parked {
    /// The session.
    id: SessionId,
    /// It was in service and is not any more; false: it was not.
    parked: bool,
}

async fn park(
    edge: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let id = id.0;
    let parked = detached(async move {
        let parked = directory.park(&id, edge.admin_timeout).await?;
        tracing::info!(user.id = %caller.principal.user, session.id = %id, parked, "an operator parked a session");
        Ok(Parked { id, parked })
    });
    Ok(HttpResponse::Ok().json(parked.await?))
}

/// What unparking came to.
#[derive(Debug, Serialize, JsonSchema)]
struct Unparked {
    /// The session.
    id: SessionId,
    /// It was out of service and is not any more; false: it was not.
    unparked: bool,
}

async fn unpark(
    edge: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let id = id.0;
    let unparked = detached(async move {
        let failed = |operation| move |cause| StoreFailure { operation, cause };
        if !directory.is_parked(&id) {
            let meta = edge.wiring.store.meta(&id).await.map_err(failed("read_conversation"))?;
            meta.ok_or_else(|| SessionError::not_found(&id))?;
        }
        let unparked = directory.unpark(&id).await.map_err(failed("unpark"))?;
        tracing::info!(user.id = %caller.principal.user, session.id = %id, unparked, "an operator unparked a session");
        Ok(Unparked { id, unparked })
    });
    Ok(HttpResponse::Ok().json(unparked.await?))
}

struct HowToEvict {
    force: bool,
}

impl Input for HowToEvict {
    const NAME: &'static str = "HowToEvict";

    fn read(fields: &mut Fields) -> Option<Self> {
        let force = fields.boolean(field("force").doc("Also when it has a run, or does not answer; false by default"));
        Some(Self {
            force: force.unwrap_or(false),
        })
    }
}

/// What evicting came to.
#[derive(Debug, Serialize, JsonSchema)]
struct Evicted {
    /// The session.
    id: SessionId,
    /// It was in memory and left it in order; false: it was not, or did not.
    evicted: bool,
    /// A run was closed as interrupted, and is tried again.
    interrupted: bool,
    /// It did not answer, was ended as it was, and began again from its log.
    ended: bool,
}

async fn evict(
    edge: web::Data<EdgeState>,
    directory: web::Data<DirectoryRef>,
    caller: Caller,
    id: PathId<SessionId>,
    query: QueryOf<HowToEvict>,
) -> Result<HttpResponse, ApiError> {
    Accounts::only_superusers(&caller.principal)?;
    let (id, HowToEvict { force }) = (id.0, query.0);
    let evicted = detached(async move {
        let Eviction {
            evicted,
            interrupted,
            ended,
        } = directory.evict(&id, force, edge.admin_timeout).await?;
        tracing::info!(
            user.id = %caller.principal.user, session.id = %id, force, evicted, interrupted, ended,
            "an operator evicted a session"
        );
        Ok(Evicted {
            id,
            evicted,
            interrupted,
            ended,
        })
    });
    Ok(HttpResponse::Ok().json(evicted.await?))
}
