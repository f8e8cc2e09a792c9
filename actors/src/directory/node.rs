//! What the cores of one process share: the table of routes, and the handle that finds sessions in it.

use std::{
    cell::Cell,
    collections::HashMap,
    future::Future,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix::prelude::*;
use futures_util::future::join_all;
use kronos_protocol::{
    client::SessionSettings,
    error::ErrorCode,
    ids::{SessionId, UserId},
};
use tokio::sync::oneshot;

use super::{DIRECTORY_MAILBOX, Directory, Locate, Located, Phase, TellAll, parked, questions::Questions};
use crate::{
    clock::Clock,
    config::SessionConfig,
    flight::Flight,
    gemini::{GeminiRef, GeminiShared},
    ids, lag,
    mailbox::{Mailbox, Queued},
    metrics,
    principal::Principal,
    session::{
        Origin, Session,
        message::{Posted, ReplyTo, SessionCall, SessionCommand, SessionError},
    },
    store::{SessionMeta, StoreError, service::StoreRef},
    supervisor::{RestartPolicy, start_guarded},
    tools::ToolsRef,
};

/// Locks of the table of routes: enough that cores rarely meet.
const ROUTE_SHARDS: usize = 64;
/// Sessions with unfinished work that are activated at the same time after a start.
const RECOVER_AT_ONCE: usize = 64;
/// Panics of a directory that are forgiven within [`DIRECTORY_WINDOW`]: its sessions need it, so many.
const DIRECTORY_RESTARTS: u32 = 1_000;
const DIRECTORY_WINDOW: Duration = Duration::from_secs(60);
/// Time for the last commits after the drain's deadline.
const FINISH_TIMEOUT: Duration = Duration::from_secs(10);
thread_local! {
    /// The index of the core that this thread is, once it has joined.
    pub(super) static CORE: Cell<Option<usize>> = const { Cell::new(None) };
}

struct Core {
    directory: Addr<Directory>,
    sessions: Arc<AtomicUsize>,
    gemini: GeminiRef,
}

/// What the cores of one process share.
pub(super) struct Node {
    pub(super) clock: Clock,
    pub(super) config: Arc<SessionConfig>,
    pub(super) store: StoreRef,
    gemini: Arc<GeminiShared>,
    pub(super) tools: ToolsRef,
    cores: RwLock<Vec<Core>>,
    hasher: RandomState,
    routes: Vec<Mutex<HashMap<SessionId, usize>>>,
    joined: tokio::sync::watch::Sender<usize>,
    pub(super) draining: Arc<AtomicBool>,
    pub(super) parked: Mutex<HashMap<SessionId, parked::Parking>>,
    pub(super) questions: Questions,
    pub(super) flight: Flight,
}

impl Node {
    fn shard(&self, session: &SessionId) -> &Mutex<HashMap<SessionId, usize>> {
        let hash = usize::try_from(self.hasher.hash_one(session) % ROUTE_SHARDS as u64).unwrap_or(0);
        &self.routes[hash]
    }

    /// The core that has the session; `prefer` takes it when none has.
    pub(super) fn route(&self, session: &SessionId, prefer: usize) -> usize {
        let mut routes = self.shard(session).lock().unwrap_or_else(PoisonError::into_inner);
        *routes.entry(session.clone()).or_insert(prefer)
    }

    /// The directory of the core that has the session, if one has.
    pub(super) fn routed(&self, session: &SessionId) -> Option<Addr<Directory>> {
        self.core_of(session).and_then(|core| self.directory(core))
    }

    /// Every session that a core has, with its core.
    pub(super) fn all_routes(&self) -> Vec<(SessionId, usize)> {
        let mut all = Vec::new();
        for shard in &self.routes {
            let routes = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(routes.iter().map(|(session, core)| (session.clone(), *core)));
        }
        all
    }

    /// The core that has the session, if one has.
    pub(super) fn core_of(&self, session: &SessionId) -> Option<usize> {
        let routes = self.shard(session).lock().unwrap_or_else(PoisonError::into_inner);
        routes.get(session).copied()
    }

    pub(super) fn unroute(&self, session: &SessionId) {
        self.shard(session)
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(session);
    }

    fn pick(&self) -> Option<usize> {
        let cores = self.cores.read().unwrap_or_else(PoisonError::into_inner);
        let own = CORE.get().filter(|core| *core < cores.len());
        own.or_else(|| {
            let least = cores
                .iter()
                .enumerate()
                .min_by_key(|(_, core)| core.sessions.load(Ordering::Relaxed));
            least.map(|(index, _)| index)
        })
    }

    pub(super) fn directory(&self, core: usize) -> Option<Addr<Directory>> {
        let cores = self.cores.read().unwrap_or_else(PoisonError::into_inner);
        cores.get(core).map(|core| core.directory.clone())
    }
}

/// Finds and activates sessions. Cheap to clone.
#[derive(Clone)]
pub struct DirectoryRef {
    pub(super) node: Arc<Node>,
}

/// The session as its clients name it.
pub(super) fn wire(session: &SessionId) -> SessionId {
    if session.as_str().starts_with('@') {
        SessionId::from_trusted(SessionId::FEED.to_owned())
    } else {
        session.clone()
    }
}

/// A conversation by the name that a client gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its id.
    pub id: SessionId,
    /// It is there.
    pub exists: bool,
}

/// A live session. Cheap to clone, but hold one per (sender, session): a clone has a mailbox slot of its own.
#[derive(Debug, Clone)]
pub struct SessionRef {
    pub(super) id: SessionId,
    pub(super) addr: Addr<Session>,
}

impl SessionRef {
    /// The session's internal id (of a feed not `@me`).
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Hands a call to the session.
    ///
    /// # Errors
    /// Gives the call back with an error that is `closed` (ask the directory again and resend, once) or `overloaded` (the
    /// mailbox is full).
    pub fn call(&self, call: SessionCall) -> Result<(), Box<(SessionCall, SessionError)>> {
        let queued = match call.command {
            // One for each batch.
            SessionCommand::Pull { .. } => Queued::new(Mailbox::Session),
            _ => Queued::timed(Mailbox::Session),
        };
        self.addr.try_send(Posted { call, queued }).map_err(|error| {
            Box::new(match error {
                SendError::Full(posted) => {
                    metrics::refused("session_mailbox");
                    let error = SessionError::new(ErrorCode::Overloaded, "the conversation has too much to do");
                    (posted.call, error.after_ms(500))
                }
                SendError::Closed(posted) => (posted.call, SessionError::closed()),
            })
        })
    }

    /// The actor, for tests and operators.
    pub fn addr(&self) -> &Addr<Session> {
        &self.addr
    }
}

impl DirectoryRef {
    /// A directory without cores: each thread that is to hold sessions calls [`DirectoryRef::join`].
    pub fn new(
        config: SessionConfig,
        store: StoreRef,
        gemini: Arc<GeminiShared>,
        tools: ToolsRef,
        clock: Clock,
    ) -> Self {
        let flight = Flight::new(config.recorder_turns);
        Self {
            node: Arc::new(Node {
                clock,
                config: Arc::new(config),
                store,
                gemini,
                tools,
                cores: RwLock::new(Vec::new()),
                hasher: RandomState::new(),
                routes: (0..ROUTE_SHARDS).map(|_| Mutex::default()).collect(),
                joined: tokio::sync::watch::Sender::new(0),
                draining: Arc::default(),
                parked: Mutex::default(),
                questions: Questions::default(),
                flight,
            }),
        }
    }

    /// Makes the current arbiter's thread a core: starts its directory and its Gemini actor. Once per thread.
    pub fn join(&self) {
        if CORE.get().is_some() {
            return;
        }
        lag::watch(lag::Arbiter::Core);
        let gemini = GeminiRef::start(Arc::clone(&self.node.gemini));
        let sessions = Arc::new(AtomicUsize::new(0));
        let directory = Directory {
            node: Arc::clone(&self.node),
            gemini: gemini.clone(),
            live: HashMap::new(),
            asleep: HashMap::new(),
            strikes: HashMap::new(),
            generation: 0,
            sessions: Arc::clone(&sessions),
        };
        let policy = RestartPolicy {
            max_restarts: DIRECTORY_RESTARTS,
            window: DIRECTORY_WINDOW,
        };
        let (directory, _) = start_guarded(
            directory,
            DIRECTORY_MAILBOX,
            policy,
            self.node.clock.clone(),
            || tracing::error!("a directory panicked and goes on"),
            |exit| tracing::debug!(?exit, "a directory ended"),
        );
        let mut cores = self.node.cores.write().unwrap_or_else(PoisonError::into_inner);
        CORE.set(Some(cores.len()));
        cores.push(Core {
            directory,
            sessions,
            gemini,
        });
        self.node.joined.send_replace(cores.len());
    }

    /// The Gemini service of this thread's core, or of any; `None` before a thread has joined.
    pub fn gemini(&self) -> Option<GeminiRef> {
        let cores = self.node.cores.read().unwrap_or_else(PoisonError::into_inner);
        let own = CORE.get().and_then(|core| cores.get(core));
        own.or_else(|| cores.first()).map(|core| core.gemini.clone())
    }

    /// Waits until `cores` threads have joined.
    pub async fn joined(&self, cores: usize) {
        let mut joined = self.node.joined.subscribe();
        // The sender lives in the node that this holds.
        drop(joined.wait_for(|count| *count >= cores).await);
    }

    /// The Gemini services of all cores, in the order of the cores.
    #[must_use]
    pub fn geminis(&self) -> Vec<GeminiRef> {
        let cores = self.node.cores.read().unwrap_or_else(PoisonError::into_inner);
        cores.iter().map(|core| core.gemini.clone()).collect()
    }

    /// The flight recorder.
    #[must_use]
    pub fn flight(&self) -> &Flight {
        &self.node.flight
    }

    /// How many cores have joined.
    pub fn cores(&self) -> usize {
        self.node.cores.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Live sessions of this process.
    pub fn live(&self) -> usize {
        let cores = self.node.cores.read().unwrap_or_else(PoisonError::into_inner);
        cores.iter().map(|core| core.sessions.load(Ordering::Relaxed)).sum()
    }

    /// Finds the live actor of a session, activating it if need be. Whether it exists the session itself answers.
    ///
    /// # Errors
    /// `parked`, `overloaded` (no core yet), `shutting_down`; `not_found` for the inner name of a feed.
    pub async fn resolve(&self, session: &SessionId) -> Result<SessionRef, SessionError> {
        // A feed has one name, `@me`: two names of one log on one socket would be two cursors that take each other's place.
        if session.as_str().starts_with('@') {
            return Err(SessionError::not_found(session));
        }
        self.locate(session.clone(), session.clone(), Origin::Stored).await
    }

    /// The inner id of a user's feed; `None` when the user's id is too long to have one.
    pub(crate) fn feed_of(user: &UserId) -> Option<SessionId> {
        SessionId::try_from(format!("@{user}")).ok()
    }

    /// The same for a user's feed (`@me`), made when it does not exist.
    ///
    /// # Errors
    /// As [`DirectoryRef::resolve`]; `validation` when the user's id is too long to have a feed.
    pub async fn feed(&self, user: &UserId) -> Result<SessionRef, SessionError> {
        let long = || SessionError::new(ErrorCode::Validation, "this user id is too long for a feed");
        let id = Self::feed_of(user).ok_or_else(long)?;
        let wire = wire(&id);
        let meta = self.new_meta(id.clone(), user.clone(), None, &SessionSettings::default(), false);
        self.locate(id, wire, Origin::New(Box::new(meta))).await
    }

    /// Makes a conversation. The reference takes calls at once; its first answers come when it is durable.
    ///
    /// # Errors
    /// As [`DirectoryRef::resolve`]; `validation` for a bad title.
    pub async fn create(
        &self,
        owner: &Arc<Principal>,
        title: Option<String>,
        settings: SessionSettings,
    ) -> Result<SessionRef, SessionError> {
        if self.node.draining.load(Ordering::Relaxed) {
            return Err(SessionError::new(ErrorCode::ShuttingDown, "the server restarts").after_ms(1000));
        }
        let title = title.or_else(|| settings.title.clone());
        if title
            .as_ref()
            .is_some_and(|title| title.is_empty() || title.chars().count() > self.node.config.title_chars)
        {
            let limit = self.node.config.title_chars;
            return Err(
                SessionError::new(ErrorCode::Validation, format!("title: 1 to {limit} characters"))
                    .with_details(serde_json::json!({"field": "title", "limit": limit})),
            );
        }
        let id = ids::session();
        let meta = self.new_meta(id.clone(), owner.user.clone(), title.clone(), &settings, true);
        let session = self.locate(id.clone(), id.clone(), Origin::New(Box::new(meta))).await?;
        self.tell_created(owner, &id, title.as_deref()).await;
        Ok(session)
    }

    /// Prepares a conversation that is to begin with [`SessionCommand::Import`]: until then nothing of it is stored, and nobody
    /// is told.
    ///
    /// # Errors
    /// As [`DirectoryRef::resolve`].
    pub async fn prepare(&self, owner: &Arc<Principal>, settings: SessionSettings) -> Result<SessionRef, SessionError> {
        let id = ids::session();
        let meta = self.new_meta(id.clone(), owner.user.clone(), None, &settings, true);
        self.locate(id.clone(), id, Origin::Held(Box::new(meta))).await
    }

    /// Finds the conversation that the caller calls `thread`: one of the caller's own by its id, else the one that this name
    /// stands for, which may not exist yet.
    ///
    /// # Errors
    /// `storage` when that cannot be looked up.
    pub async fn thread(&self, owner: &Arc<Principal>, thread: &str) -> Result<Thread, SessionError> {
        let failed = |error: StoreError| {
            tracing::error!(%error, "a thread cannot be looked up");
            SessionError::new(ErrorCode::Storage, "The database failed")
                .with_details(serde_json::json!({"operation": "find_thread"}))
        };
        let store = &self.node.store;
        if let Ok(id) = SessionId::try_from(thread)
            && !id.as_str().starts_with('@')
            && let Some(meta) = store.meta(&id).await.map_err(failed)?
            && meta.owner == owner.user
        {
            return Ok(Thread { id, exists: true });
        }
        let id = ids::thread(&owner.user, thread);
        let exists = store.meta(&id).await.map_err(failed)?.is_some();
        Ok(Thread { id, exists })
    }

    /// Opens the conversation of a thread, made when it does not exist.
    ///
    /// # Errors
    /// As [`DirectoryRef::create`].
    pub async fn open(&self, owner: &Arc<Principal>, thread: &Thread) -> Result<SessionRef, SessionError> {
        let id = thread.id.clone();
        if thread.exists {
            return self.resolve(&id).await;
        }
        if self.is_draining() {
            return Err(SessionError::new(ErrorCode::ShuttingDown, "the server restarts").after_ms(1000));
        }
        let meta = self.new_meta(id.clone(), owner.user.clone(), None, &SessionSettings::default(), true);
        let session = self.locate(id.clone(), id.clone(), Origin::New(Box::new(meta))).await?;
        self.tell_created(owner, &id, None).await;
        Ok(session)
    }

    /// Tells a user's devices of a new conversation.
    pub async fn tell_created(&self, owner: &Arc<Principal>, session: &SessionId, title: Option<&str>) {
        let value = serde_json::json!({"id": session, "title": title});
        self.notify(owner, "kronos.conversation_created", value).await;
    }

    /// Tells a user's devices of a conversation's new title.
    pub async fn tell_updated(&self, owner: &Arc<Principal>, session: &SessionId, title: &str) {
        let value = serde_json::json!({"id": session, "title": title});
        self.notify(owner, "kronos.conversation_updated", value).await;
    }

    /// Whether the process drains: nothing new begins.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.node.draining.load(Ordering::Relaxed)
    }

    /// Tells a user's devices that a conversation is gone.
    pub async fn tell_deleted(&self, owner: &Arc<Principal>, session: &SessionId) {
        self.notify(owner, "kronos.conversation_deleted", serde_json::json!({"id": session}))
            .await;
    }

    /// Puts a fact into the caller's feed; a feed that cannot take it now is not the caller's problem.
    async fn notify(&self, owner: &Arc<Principal>, name: &str, value: serde_json::Value) {
        let Ok(feed) = self.feed(&owner.user).await else { return };
        let command = SessionCommand::Notify {
            name: name.to_owned(),
            value,
        };
        let call = SessionCall {
            caller: Arc::clone(owner),
            command,
            reply: ReplyTo::NONE,
        };
        if let Err(refused) = feed.call(call) {
            tracing::warn!(error = %refused.1, "a feed did not take an event");
        }
    }

    /// Puts a fact into a user's feed; durable when it returns.
    ///
    /// # Errors
    /// What the feed answers; `closed` and one with a time to come back are worth another try.
    pub async fn tell(&self, user: &UserId, name: &str, value: serde_json::Value) -> Result<(), SessionError> {
        let owner = Arc::new(Principal {
            user: user.clone(),
            name: None,
            superuser: false,
            login: None,
            expires_at_ms: None,
        });
        let feed = self.feed(user).await?;
        let command = SessionCommand::Notify {
            name: name.to_owned(),
            value,
        };
        crate::session::reader::ask(&feed, &owner, command).await.map(drop)
    }

    fn new_meta(
        &self,
        session: SessionId,
        owner: UserId,
        title: Option<String>,
        settings: &SessionSettings,
        listed: bool,
    ) -> SessionMeta {
        let now = self.node.clock.now_ms();
        SessionMeta {
            session,
            owner,
            epoch: ids::epoch(),
            title,
            settings: serde_json::to_string(settings).unwrap_or_else(|_| "{}".to_owned()),
            listed,
            created_at_ms: now,
            updated_at_ms: now,
            message_count: 0,
            preview: None,
            relaxed_run: false,
        }
    }

    async fn locate(&self, id: SessionId, wire: SessionId, origin: Origin) -> Result<SessionRef, SessionError> {
        let unavailable = || SessionError::new(ErrorCode::Overloaded, "the server starts").after_ms(500);
        let prefer = self.node.pick().ok_or_else(unavailable)?;
        loop {
            if let Some(parking) = self.parking(&id) {
                return Err(parked::refusal(parking.reason));
            }
            let core = self.node.route(&id, prefer);
            let directory = self.node.directory(core).ok_or_else(unavailable)?;
            let locate = Locate {
                session: id.clone(),
                wire: wire.clone(),
                origin: origin.clone(),
                core,
                queued: Queued::new(Mailbox::Directory),
            };
            match directory.send(locate).await {
                Ok(Located::Here(session)) => return Ok(session),
                Ok(Located::Moved) => {}
                Err(_) => return Err(SessionError::closed()),
            }
        }
    }

    /// Activates the sessions that a crash or a drain left with unfinished work.
    ///
    /// # Errors
    /// When the store cannot say which.
    pub async fn recover(&self) -> Result<usize, StoreError> {
        let unfinished = self.node.store.unfinished().await?;
        let count = unfinished.len();
        for group in unfinished.chunks(RECOVER_AT_ONCE) {
            for found in join_all(group.iter().map(|session| self.resolve_stored(session))).await {
                if let Err(error) = found {
                    tracing::warn!(%error, "a session with unfinished work was not activated");
                }
            }
        }
        Ok(count)
    }

    /// Finds a session that is stored, whatever it is.
    pub(crate) async fn resolve_stored(&self, session: &SessionId) -> Result<SessionRef, SessionError> {
        self.locate(session.clone(), wire(session), Origin::Stored).await
    }

    /// Starts no new runs from now on: the first step of a drain, before clients are told to go.
    pub fn stop_new_runs(&self) {
        self.node.draining.store(true, Ordering::Relaxed);
    }

    /// Lets runs end until the deadline, closes the rest as interrupted, commits everything and stops all sessions.
    /// When `hurry` resolves the waiting is skipped, the commits are not.
    pub async fn drain(&self, deadline: Duration, hurry: impl Future<Output = ()>) {
        self.stop_new_runs();
        let idle = self.each(Phase::Drain).await;
        tokio::select! {
            _ = join_all(idle) => {}
            () = actix::clock::sleep(deadline) => {}
            () = hurry => {}
        }
        let done = self.each(Phase::Finish).await;
        if actix::clock::timeout(FINISH_TIMEOUT, join_all(done)).await.is_err() {
            tracing::error!("some sessions did not finish in time");
        }
    }

    async fn each(&self, phase: Phase) -> Vec<oneshot::Receiver<()>> {
        let directories: Vec<_> = {
            let cores = self.node.cores.read().unwrap_or_else(PoisonError::into_inner);
            cores.iter().map(|core| core.directory.clone()).collect()
        };
        let mut receivers = Vec::new();
        for directory in directories {
            // A directory whose arbiter is gone has no sessions any more.
            receivers.extend(
                directory
                    .send(TellAll(phase))
                    .await
                    .map(|told| told.0)
                    .unwrap_or_default(),
            );
        }
        receivers
    }
}
