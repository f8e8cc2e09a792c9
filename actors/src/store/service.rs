//! The group commit: one thread commits what all sessions submitted while the last commit was under way; a few others read.
//!
//! Results come in the order of submission. Everything has a bound: bytes that wait ([`StoreConfig::pending_bytes`]), the
//! size of one group, reads that wait. Names of the metrics are in [`metrics`].

use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use ::bytes::Bytes;
use kronos_protocol::{
    ids::{SessionId, UserId},
    position::Seq,
};
use tokio::sync::oneshot;

use self::{
    committer::{Committer, Health},
    pending::Done,
    queue::Queue,
    readers::Readers,
};
use super::{
    ListPosition, Record, Request, SessionMeta, SessionStore, StoreError, StoredSession, memory::MemoryStore,
    sled::SledStore,
};
use crate::{
    clock::Clock,
    config::{StoreBackend, StoreConfig},
};

mod committer;
mod pending;
mod queue;
mod readers;

/// Opens the backend that the configuration names.
///
/// # Errors
/// [`StoreError::Locked`], [`StoreError::Newer`], [`StoreError::Corrupt`], [`StoreError::Io`].
pub fn open(config: &StoreConfig) -> Result<Arc<dyn SessionStore>, StoreError> {
    Ok(match &config.backend {
        StoreBackend::Sled(path) => Arc::new(SledStore::open(path, config.cache_bytes)?),
        StoreBackend::Memory => Arc::new(MemoryStore::default()),
    })
}

/// What the store has done since its start.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct StoreStats {
    /// Group commits, failed ones too.
    pub commits: u64,
    /// Requests in them.
    pub requests: u64,
    /// Commits that failed as a whole.
    pub failed: u64,
    /// How often a thread of the store panicked and began again since the process did.
    pub restarts: u64,
    /// Time of the last commit that succeeded, its sync included; `None` before the first.
    #[serde(skip)]
    pub latency: Option<Duration>,
    /// Bytes that wait for their commit or are in it.
    pub pending_bytes: usize,
    /// The last failure, also when commits succeed again.
    pub last_error: Option<String>,
}

/// Starts the service.
#[derive(Debug)]
pub struct StoreService;

impl StoreService {
    /// Starts the committer (`kronos-store`) and the readers (`kronos-read-<n>`) over `store`.
    ///
    /// They end, and let go of `store`, after [`StoreRef::close`] or when the last [`StoreRef`] is dropped.
    ///
    /// # Errors
    /// [`StoreError::Io`] when a thread cannot be started.
    pub fn start(store: Arc<dyn SessionStore>, config: &StoreConfig, clock: Clock) -> Result<StoreRef, StoreError> {
        let (readers, threads) = Readers::start(&store, config.readers)?;
        let queue = Arc::new(Queue::new(config.pending_bytes));
        let health = Arc::new(Health::new());
        let committer = Committer {
            store,
            queue: Arc::clone(&queue),
            health: Arc::clone(&health),
            clock,
        };
        let service = Arc::new(Service { queue, readers, health });
        let spawned = thread::Builder::new()
            .name("kronos-store".to_owned())
            .spawn(move || committer.run(threads));
        spawned.map_err(|error| StoreError::Io(format!("cannot start a thread: {error}")))?;
        Ok(StoreRef { service })
    }
}

struct Service {
    queue: Arc<Queue>,
    readers: Readers,
    health: Arc<Health>,
}

impl Service {
    fn close(&self) {
        self.queue.close();
        self.readers.close();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.close();
    }
}

/// The store as actors use it: nothing here blocks. Cheap to clone.
#[derive(Clone)]
pub struct StoreRef {
    service: Arc<Service>,
}

impl std::fmt::Debug for StoreRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreRef").finish_non_exhaustive()
    }
}

impl StoreRef {
    /// Submits a request; `done` is called exactly once with its result, and must be quick.
    ///
    /// [`StoreError::Closed`] for a request that had been taken says that nobody knows how it ended. The callback
    /// is called on the committer's thread; only refusals of what was not taken ([`StoreError::Overloaded`],
    /// [`StoreError::Closed`]) are told on the caller's, before this returns. Requests are committed in the order of
    /// submission.
    pub fn submit(&self, request: Request, done: impl FnOnce(Result<(), StoreError>) + Send + 'static) {
        if let Err((done, error)) = self.service.queue.submit(request, Done::new(done)) {
            done.answer(Err(error));
        }
    }

    /// Submits a request and waits for its commit. Dropping the future does not take the request back.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub async fn commit(&self, request: Request) -> Result<(), StoreError> {
        let (answer, answered) = oneshot::channel();
        // Who asked may have gone.
        self.submit(request, move |result| drop(answer.send(result)));
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Waits until everything that was submitted about `session` is settled, then reads the whole session.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`], [`StoreError::Overloaded`], [`StoreError::Closed`]; the same for all
    /// reads.
    pub async fn load(&self, session: &SessionId) -> Result<Option<StoredSession>, StoreError> {
        self.service.queue.settled(session).await;
        let session = session.clone();
        self.service.readers.run(move |store| store.load(&session)).await
    }

    /// Reads records after `after`; see [`SessionStore::read`].
    ///
    /// # Errors
    /// As [`StoreRef::load`].
    pub async fn read(&self, session: &SessionId, after: Seq, max_bytes: usize) -> Result<Vec<Record>, StoreError> {
        let session = session.clone();
        self.service
            .readers
            .run(move |store| store.read(&session, after, max_bytes))
            .await
    }

    /// Reads a session's listing.
    ///
    /// # Errors
    /// As [`StoreRef::load`].
    pub async fn meta(&self, session: &SessionId) -> Result<Option<SessionMeta>, StoreError> {
        let session = session.clone();
        self.service.readers.run(move |store| store.meta(&session)).await
    }

    /// Lists sessions, newest first; see [`SessionStore::list`].
    ///
    /// # Errors
    /// As [`StoreRef::load`].
    pub async fn list(
        &self,
        owner: Option<&UserId>,
        after: Option<&ListPosition>,
        limit: usize,
    ) -> Result<Vec<SessionMeta>, StoreError> {
        let (owner, after) = (owner.cloned(), after.cloned());
        self.service
            .readers
            .run(move |store| store.list(owner.as_ref(), after.as_ref(), limit))
            .await
    }

    /// Lists sessions, those that have not changed for longest first; see [`SessionStore::oldest`].
    ///
    /// # Errors
    /// As [`StoreRef::load`].
    pub async fn oldest(&self, after: Option<&ListPosition>, limit: usize) -> Result<Vec<SessionMeta>, StoreError> {
        let after = after.cloned();
        self.service
            .readers
            .run(move |store| store.oldest(after.as_ref(), limit))
            .await
    }

    /// Returns the sessions with unfinished work.
    ///
    /// # Errors
    /// As [`StoreRef::load`].
    pub async fn unfinished(&self) -> Result<Vec<SessionId>, StoreError> {
        self.service.readers.run(|store| store.unfinished()).await
    }

    /// Reads one document.
    ///
    /// # Errors
    /// As [`StoreRef::load`].
    pub async fn document(&self, family: &'static str, key: &str) -> Result<Option<Bytes>, StoreError> {
        let key = key.to_owned();
        self.service
            .readers
            .run(move |store| store.document(family, &key))
            .await
    }

    /// Reads documents in key order; see [`SessionStore::documents`].
    ///
    /// # Errors
    /// As [`StoreRef::load`].
    pub async fn documents(
        &self,
        family: &'static str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.service
            .readers
            .run(move |store| store.documents(family, &prefix, after.as_deref(), limit))
            .await
    }

    /// Whether a request with so many bytes of payload would be taken now, so that it can be refused before it costs anything.
    ///
    /// Cheap; nothing is reserved.
    #[must_use]
    pub fn has_room(&self, bytes: usize) -> bool {
        self.service.queue.has_room(bytes)
    }

    /// Whether the last commit succeeded and the committer lives. A failing store is tried again every second.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.service.health.healthy() && !self.service.queue.is_finished()
    }

    /// Returns what the store has done since its start.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let health = &self.service.health;
        StoreStats {
            commits: health.commits.load(Ordering::Relaxed),
            requests: health.requests.load(Ordering::Relaxed),
            failed: health.failed.load(Ordering::Relaxed),
            restarts: committer::RESTARTS.load(Ordering::Relaxed),
            latency: health.latency(),
            pending_bytes: self.service.queue.pending_bytes(),
            last_error: health.last_error().map(|error| error.to_string()),
        }
    }

    /// Bytes that the store takes on its medium, as measured in the last ten seconds; `None` when it cannot say.
    #[must_use]
    pub fn size_bytes(&self) -> Option<u64> {
        self.service.health.size()
    }

    /// Refuses everything later with [`StoreError::Closed`], waits for what was submitted, and lets go of the store, which
    /// syncs and unlocks it.
    pub async fn close(&self) {
        self.service.close();
        self.service.queue.finished().await;
    }
}
