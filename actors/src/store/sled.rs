//! The embedded store: sled 0.34.7, one tree, its own sync.
//!
//! - A commit is one sled batch with at most one write-ahead record, whatever number of sessions it holds; then sled's
//!   `flush` and an `fdatasync` of its file (`flush` alone leaves the bytes in the cache of the machine).
//! - In memory are only the sessions with records outside segments, and which write-ahead batches hold those. A batch is
//!   deleted by a later commit when all its sessions have packed past it.
//! - Reads go beside commits. They see records only after their sync; metas, listings and documents may be seen while the
//!   sync of their commit is still under way.
//!
//! # When the disk fails
//! A failed commit leaves the memory as it was and puts the store *in doubt*: the batch may have reached the file, and sled
//! refuses everything after its first failed write. Reads answer [`StoreError::Io`] until the next commit repairs it (an empty
//! group is enough): it probes the disk, closes sled, writes the file again when a sync had failed, opens sled, takes the
//! failed batch back, syncs, and reads its memory anew. Only a process killed in doubt may find the failed batch at its next
//! start, as one killed before its answer may.
//!
//! Owns the folder and the file. Knows nothing of what a payload means.

use std::{
    fs::File,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::Duration,
};

use bytes::Bytes;
use kronos_protocol::{
    ids::{SessionId, UserId},
    position::Seq,
};
use sled::Db;

use self::{
    disk::Disk,
    plan::{Planner, Writes},
    read::ReadError,
    state::{State, Tail},
    watch::Watch,
};
use super::{
    ListPosition, Record, Refusal, Request, SessionMeta, SessionStore, StoreError, StoredSession, keys, order::Budget,
};

pub use self::disk::SyncFile;

mod codec;
mod disk;
mod open;
mod plan;
mod read;
mod state;
mod value;
mod watch;

/// How often a read asks for a session's tail again when commits keep moving it.
const READ_ATTEMPTS: u32 = 16;
/// How long a repair waits for the reads under way, in steps of [`READERS_STEP`].
const READERS_STEPS: u32 = 5_000;
const READERS_STEP: Duration = Duration::from_millis(1);

/// A [`SessionStore`] in a folder of this machine, for one process.
pub struct SledStore {
    inner: RwLock<Inner>,
    /// Held through a commit and a repair: there is one at a time.
    committing: Mutex<()>,
    disk: Disk,
    cache_bytes: u64,
    watch: Watch,
}

struct Inner {
    /// Absent while a repair has it closed.
    open: Option<Open>,
    state: State,
    doubt: Option<Doubt>,
}

#[derive(Clone)]
struct Open {
    db: Arc<Db>,
    /// For syncing only.
    file: Arc<File>,
}

/// A commit that failed after it began to write.
#[derive(Debug, Clone, Default)]
struct Doubt {
    undo: Writes,
    /// A sync failed, so what is in the file may not be on the disk.
    rewrite: bool,
}

impl std::fmt::Debug for SledStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SledStore")
            .field("path", &self.disk.path)
            .finish_non_exhaustive()
    }
}

impl SledStore {
    /// Opens the store in the folder `path`, or makes one there.
    ///
    /// `cache_bytes` is a hint for sled's page cache.
    ///
    /// # Errors
    /// [`StoreError::Locked`], [`StoreError::Newer`], [`StoreError::Corrupt`], [`StoreError::Io`].
    pub fn open(path: &Path, cache_bytes: u64) -> Result<Self, StoreError> {
        Self::open_with_sync(path, cache_bytes, Arc::new(File::sync_data))
    }

    /// Like [`SledStore::open`], with another way to sync a file: for tests that let it fail.
    ///
    /// # Errors
    /// As [`SledStore::open`].
    pub fn open_with_sync(path: &Path, cache_bytes: u64, sync: SyncFile) -> Result<Self, StoreError> {
        let disk = Disk::new(path, sync);
        let db = open::open(&disk, cache_bytes)?;
        let state = open::recover(&db)?;
        let open = Some(Open {
            db: Arc::new(db),
            file: Arc::new(disk.data()?),
        });
        let inner = RwLock::new(Inner {
            open,
            state,
            doubt: None,
        });
        Ok(Self {
            inner,
            committing: Mutex::new(()),
            disk,
            cache_bytes,
            watch: Watch::start()?,
        })
    }

    // A panic between two changes of `Inner` is impossible: each is one assignment or one call of `State`.
    fn inner(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner_mut(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a short read that no commit may change in the middle.
    fn short<T>(&self, read: impl FnOnce(&Db) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let inner = self.inner();
        read(&inner.healthy()?.db)
    }

    /// Reads records beside commits.
    fn records(&self, session: &SessionId, after: Seq, max_bytes: usize) -> Result<(Tail, Vec<Record>), StoreError> {
        let mut before = None;
        for _ in 0..READ_ATTEMPTS {
            let (db, tail) = self.inner().tail(session)?;
            let found = read::records(&db, session, &tail, after, &mut Budget::new(max_bytes));
            match found {
                Ok(records) => return Ok((tail, records)),
                // A batch that a commit deletes meanwhile looks damaged. If nothing moved, it is.
                Err(ReadError::Store(error @ StoreError::Corrupt { .. })) if before.as_ref() == Some(&tail.batches) => {
                    return Err(error);
                }
                Err(ReadError::Store(StoreError::Corrupt { .. }) | ReadError::Moved) => {}
                Err(ReadError::Store(error)) => return Err(error),
            }
            if before.as_ref() == Some(&tail.batches) {
                return Err(value::corrupt(keys::BATCHES, "a batch is missing"));
            }
            before = Some(tail.batches);
        }
        Err(StoreError::Io(
            "the session is written faster than it can be read".to_owned(),
        ))
    }

    /// Writes and syncs rows; the error tells whether a sync failed.
    fn write(&self, open: &Open, writes: &Writes) -> Result<(), (StoreError, bool)> {
        let mut batch = sled::Batch::default();
        for (key, value) in writes {
            match value {
                Some(value) => batch.insert(key.as_slice(), value.as_slice()),
                None => batch.remove(key.as_slice()),
            }
        }
        let failed = |error: sled::Error| {
            let early = matches!(&error, sled::Error::Io(error) if disk::refused_early(error.kind()));
            (value::failed(error), !early)
        };
        if !writes.is_empty() {
            let _readers_wait = self.inner_mut();
            open.db.apply_batch(batch).map_err(failed)?;
        }
        self.watch.flush(&open.db).map_err(failed)?;
        self.disk.sync(&open.file).map_err(|error| (disk::failed(error), true))
    }

    /// Brings a store in doubt back to what was durable before the commit that failed. Only within `committing`.
    fn repair(&self) -> Result<(), StoreError> {
        let Some(doubt) = self.inner().doubt.clone() else {
            return Ok(());
        };
        self.disk.probe()?;
        let open = self.inner_mut().open.take();
        if let Some(open) = open {
            self.close(open)?;
        }
        if doubt.rewrite {
            self.disk.rewrite()?;
            if let Some(doubt) = &mut self.inner_mut().doubt {
                doubt.rewrite = false;
            }
        }
        let db = open::open(&self.disk, self.cache_bytes)?;
        let open = Open {
            db: Arc::new(db),
            file: Arc::new(self.disk.data()?),
        };
        if let Err((error, sync_failed)) = self.write(&open, &doubt.undo) {
            let mut inner = self.inner_mut();
            inner.open = Some(open);
            inner.doubt = Some(Doubt {
                rewrite: sync_failed,
                ..doubt
            });
            return Err(error);
        }
        let state = open::recover(&open.db)?;
        *self.inner_mut() = Inner {
            open: Some(open),
            state,
            doubt: None,
        };
        tracing::warn!("the store has taken back a failed commit and works again");
        Ok(())
    }

    /// Closes sled, which lets go of its lock when the last read has ended.
    fn close(&self, mut open: Open) -> Result<(), StoreError> {
        for _ in 0..READERS_STEPS {
            match Arc::try_unwrap(open.db) {
                Ok(db) => {
                    drop(db);
                    return Ok(());
                }
                Err(db) => open.db = db,
            }
            std::thread::sleep(READERS_STEP);
        }
        self.inner_mut().open = Some(open);
        Err(StoreError::Io("reads of the failed store do not end".to_owned()))
    }
}

impl Inner {
    fn healthy(&self) -> Result<&Open, StoreError> {
        let in_doubt = || StoreError::Io("the last commit failed and is not yet taken back".to_owned());
        self.open.as_ref().filter(|_| self.doubt.is_none()).ok_or_else(in_doubt)
    }

    fn tail(&self, session: &SessionId) -> Result<(Arc<Db>, Tail), StoreError> {
        let db = Arc::clone(&self.healthy()?.db);
        let tail = match self.state.tails.get(session) {
            Some(tail) => tail.clone(),
            None => {
                let packed_upto = read::packed_upto(&db, session)?;
                Tail {
                    last: packed_upto,
                    packed_upto,
                    ..Tail::default()
                }
            }
        };
        Ok((db, tail))
    }
}

/// Puts the store in doubt unless its commit lands, also when that panics.
struct Flight<'a> {
    store: &'a SledStore,
    doubt: Option<Doubt>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(doubt) = self.doubt.take() {
            self.store.inner_mut().doubt = Some(doubt);
        }
    }
}

impl SessionStore for SledStore {
    fn commit(&self, group: &[Request]) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        let _one_at_a_time = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        self.repair()?;
        let (open, planned) = {
            let inner = self.inner();
            let open = inner.healthy()?.clone();
            let planned = Planner::new(&open.db, &inner.state).plan(group);
            (open, planned)
        };
        let plan = planned.inspect_err(|error| {
            // Sled answers nothing after a background write failed, until it is opened again.
            if matches!(error, StoreError::Io(_)) {
                self.inner_mut().doubt = Some(Doubt {
                    rewrite: true,
                    ..Doubt::default()
                });
            }
        })?;
        if plan.writes.is_empty() && !group.is_empty() {
            return Ok(plan.results);
        }
        let mut flight = Flight {
            store: self,
            doubt: Some(Doubt {
                undo: plan.undo,
                rewrite: true,
            }),
        };
        if let Err((error, sync_failed)) = self.write(&open, &plan.writes) {
            if let Some(doubt) = &mut flight.doubt {
                doubt.rewrite = sync_failed;
            }
            return Err(error);
        }
        self.inner_mut().state.apply(plan.change);
        flight.doubt = None;
        Ok(plan.results)
    }

    fn load(&self, session: &SessionId) -> Result<Option<StoredSession>, StoreError> {
        let listed = self.short(|db| {
            let unfinished = db.contains_key(keys::unfinished(session)).map_err(value::failed)?;
            Ok(read::meta(db, session)?.map(|meta| (meta, unfinished)))
        });
        let Some((meta, unfinished)) = listed? else {
            return Ok(None);
        };
        let (tail, records) = self.records(session, 0, usize::MAX)?;
        Ok(Some(StoredSession {
            meta,
            records,
            packed_upto: tail.packed_upto,
            unfinished,
        }))
    }

    fn read(&self, session: &SessionId, after: Seq, max_bytes: usize) -> Result<Vec<Record>, StoreError> {
        Ok(self.records(session, after, max_bytes)?.1)
    }

    fn meta(&self, session: &SessionId) -> Result<Option<SessionMeta>, StoreError> {
        self.short(|db| read::meta(db, session))
    }

    fn list(
        &self,
        owner: Option<&UserId>,
        after: Option<&ListPosition>,
        limit: usize,
    ) -> Result<Vec<SessionMeta>, StoreError> {
        self.short(|db| read::list(db, owner, after, limit))
    }

    fn unfinished(&self) -> Result<Vec<SessionId>, StoreError> {
        self.short(read::unfinished)
    }

    fn document(&self, family: &'static str, key: &str) -> Result<Option<Bytes>, StoreError> {
        self.short(|db| read::document(db, family, key))
    }

    fn documents(
        &self,
        family: &'static str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        self.short(|db| read::documents(db, family, prefix, after, limit))
    }

    fn size_bytes(&self) -> Option<u64> {
        self.disk.size_bytes()
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let healthy = self.inner().healthy().cloned();
        let Ok(open) = healthy else { return };
        // Every commit has been synced; what sled moved since then loses nothing.
        let synced = self.watch.flush(&open.db).map_err(value::failed);
        let synced = synced.and_then(|()| self.disk.sync(&open.file).map_err(disk::failed));
        if let Err(error) = synced {
            tracing::warn!(%error, "the store could not be synced at its end");
        }
    }
}
