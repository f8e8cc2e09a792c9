//! The embedded store: sled 0.34.7, one tree, its own sync.
//!
//! - A commit that does nothing but append is one write to a file of write-ahead batches and one `fdatasync`, whatever number
//!   of sessions it holds (`wal.rs`): sled costs many times the CPU time of that. Any other is one sled batch, with its
//!   write-ahead batch in it; then sled's `flush` and an `fdatasync` of its file (`flush` alone leaves the bytes in the cache
//!   of the machine). Both are numbered together, and each tells how far the other had come, so that a lost end is noticed.
//! - In memory are only the sessions with records outside segments, and which write-ahead batches hold those. A batch is
//!   deleted by a later commit when all its sessions have packed past it, a file of them as a whole.
//! - Reads go beside commits. They see records only after their sync; metas, listings and documents may be seen while the
//!   sync of their commit is still under way.
//!
//! # When the disk fails
//! A failed write to a file of batches leaves the memory as it was; reads go on, and the next commit overwrites what it may have
//! left. Any other failed commit leaves the memory as it was and puts the store *in doubt*: the batch may have reached the file, and sled
//! refuses everything after its first failed write. Reads answer [`StoreError::Io`] until the next commit repairs it (an empty
//! group is enough): it probes the disk, closes sled, writes the file again when a sync had failed, opens sled, takes the
//! failed batch back, syncs, and reads its memory anew. Only a process killed in doubt may find the failed batch at its next
//! start, as one killed before its answer may.
//!
//! The folder: `wal-<number>`, sled's files (`db`, `conf`, `snap.*`, an empty `blobs`), `format` with the version, `tip` with the number of the
//! last commit, and now and then `probe`.
//!
//! Owns the folder and the files. Knows nothing of what a payload means.

use std::{
    fs::File,
    path::Path,
    sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
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
    repair::{Doubt, Flight},
    state::Spot,
    state::{State, Tail},
    tip::Tip,
    wal::Wal,
    watch::Watch,
};
use super::{
    ListPosition, Record, Refusal, Request, SessionMeta, SessionStore, StoreError, StoredSession, keys, order::Budget,
};

pub use self::disk::{Medium, SyncFile, WriteFile};

mod codec;
mod disk;
mod graves;
mod open;
mod pack;
mod plan;
mod read;
mod repair;
mod state;
mod tip;
mod value;
mod wal;
mod watch;

/// How often a read asks for a session's tail again when commits keep moving it.
const READ_ATTEMPTS: u32 = 16;
/// A [`SessionStore`] in a folder of this machine, for one process.
pub struct SledStore {
    inner: RwLock<Inner>,
    /// Held through a commit and a repair: there is one at a time.
    committing: Mutex<Writer>,
    disk: Disk,
    cache_bytes: u64,
    watch: Watch,
}

/// What one commit after the other writes to.
struct Writer {
    tip: Tip,
    wal: Wal,
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
        Self::open_with(path, cache_bytes, Medium::default())
    }

    /// Like [`SledStore::open`], with another way to sync a file: for tests that let it fail.
    ///
    /// # Errors
    /// As [`SledStore::open`].
    pub fn open_with_sync(path: &Path, cache_bytes: u64, sync: SyncFile) -> Result<Self, StoreError> {
        let medium = Medium {
            sync,
            ..Medium::default()
        };
        Self::open_with(path, cache_bytes, medium)
    }

    /// Like [`SledStore::open`], with another way to write and sync files: for tests that let them fail.
    ///
    /// # Errors
    /// As [`SledStore::open`].
    pub fn open_with(path: &Path, cache_bytes: u64, medium: Medium) -> Result<Self, StoreError> {
        let disk = Disk::new(path, medium);
        let db = open::open(&disk, cache_bytes)?;
        let tip = Tip::open(path)?;
        let (state, wal) = Self::recover(&disk, &db, &tip)?;
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
            committing: Mutex::new(Writer { tip, wal }),
            disk,
            cache_bytes,
            watch: Watch::start()?,
        })
    }

    /// Reads what the memory needs; cuts files only when nothing is missing.
    fn recover(disk: &Disk, db: &Db, tip: &Tip) -> Result<(State, Wal), StoreError> {
        let found = Wal::open(&disk.path, disk.wal_bytes())?;
        let state = open::recover(db, &found)?;
        tip.check(state.next_batch)?;
        Ok((state, found.cut(disk)?))
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
                Err(ReadError::Store(error @ StoreError::Corrupt { .. }))
                    if before.as_ref() == Some(&tail.numbers()) =>
                {
                    return Err(error);
                }
                Err(ReadError::Store(StoreError::Corrupt { .. }) | ReadError::Moved) => {}
                Err(ReadError::Store(error)) => return Err(error),
            }
            if before.as_ref() == Some(&tail.numbers()) {
                return Err(value::corrupt(keys::BATCHES, "a batch is missing"));
            }
            before = Some(tail.numbers());
        }
        Err(StoreError::Io(
            "the session is written faster than it can be read".to_owned(),
        ))
    }

    /// Returns a session that `group` makes while segments of a deleted one with its id are left.
    fn unswept(&self, group: &[Request]) -> Option<SessionId> {
        let inner = self.inner();
        let mut made = group.iter().filter_map(|request| request.meta.as_ref());
        let meta = made.find(|meta| inner.state.graves.is_unswept(&meta.session))?;
        Some(meta.session.clone())
    }

    /// Commits a group; what it sweeps of deleted sessions begins with `sweep`.
    fn commit_once(
        &self,
        writer: &mut Writer,
        group: &[Request],
        sweep: Option<&SessionId>,
    ) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        let (open, planned) = {
            let inner = self.inner();
            let open = inner.healthy()?.clone();
            let planned = Planner::new(&open.db, &inner.state, writer.wal.last()).plan(group, sweep);
            (open, planned)
        };
        let mut plan = planned.inspect_err(|error| {
            // Sled answers nothing after a background write failed, until it is opened again.
            if matches!(error, StoreError::Io(_)) {
                self.inner_mut().doubt = Some(Doubt {
                    rewrite: true,
                    ..Doubt::default()
                });
            }
        })?;
        let number = plan.change.batch.as_ref().map(|batch| batch.number);
        if let (Some(body), Some(batch)) = (&plan.batch, &mut plan.change.batch) {
            let place = writer.wal.append(&self.disk, batch.number, body)?;
            batch.spot = Some(Spot::File(place));
        } else if !plan.writes.is_empty() || group.is_empty() {
            self.write_rows(&open, &plan.writes, plan.undo)?;
        }
        self.inner_mut().state.apply(plan.change);
        if let Some(Err(error)) = number.map(|number| writer.tip.advance(number)) {
            // The commit counts; only a later loss of it might not be noticed.
            tracing::warn!(%error, "the number of a commit could not be noted");
        }
        self.remove_files(writer);
        Ok(plan.results)
    }

    /// Removes the files of batches that nobody needs any more. One that stays is in nobody's way: it is tried again.
    fn remove_files(&self, writer: &Writer) {
        let removable = self.inner().state.removable();
        for first in removable {
            match writer.wal.remove(&self.disk, first) {
                Ok(()) => drop(self.inner_mut().state.files.remove(&first)),
                Err(error) => tracing::warn!(%error, "a file of batches that is not needed could not be removed"),
            }
        }
    }

    /// Writes and syncs rows, or puts the store in doubt.
    fn write_rows(&self, open: &Open, writes: &Writes, undo: Writes) -> Result<(), StoreError> {
        let mut flight = Flight {
            store: self,
            doubt: Some(Doubt { undo, rewrite: true }),
        };
        if let Err((error, sync_failed)) = self.write(open, writes) {
            if let Some(doubt) = &mut flight.doubt {
                doubt.rewrite = sync_failed;
            }
            return Err(error);
        }
        flight.doubt = None;
        Ok(())
    }

    fn load_once(&self, session: &SessionId) -> Result<Option<StoredSession>, StoreError> {
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
            None if self.state.graves.is_unswept(session) => Tail::default(),
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

impl SessionStore for SledStore {
    fn commit(&self, group: &[Request]) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        let mut writer = self.committing.lock().unwrap_or_else(PoisonError::into_inner);
        self.repair(&mut writer)?;
        if group.is_empty() {
            let next = self.inner().state.next_batch;
            writer.wal.probe(&self.disk, next)?;
        }
        // A session that is made again must not meet what is left of its predecessor.
        while let Some(session) = self.unswept(group) {
            self.commit_once(&mut writer, &[], Some(&session))?;
        }
        self.commit_once(&mut writer, group, None)
    }

    fn load(&self, session: &SessionId) -> Result<Option<StoredSession>, StoreError> {
        for _ in 0..READ_ATTEMPTS {
            let Some(stored) = self.load_once(session)? else {
                return Ok(None);
            };
            // It may have been deleted meanwhile, and even made again.
            match self.meta(session)? {
                Some(meta) if meta.epoch == stored.meta.epoch => return Ok(Some(stored)),
                Some(_) => {}
                None => return Ok(None),
            }
        }
        Err(StoreError::Io(
            "the session is made again faster than it can be read".to_owned(),
        ))
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

    fn oldest(&self, after: Option<&ListPosition>, limit: usize) -> Result<Vec<SessionMeta>, StoreError> {
        self.short(|db| read::oldest(db, after, limit))
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
        let Some(open) = self.inner_mut().open.take() else {
            return;
        };
        // Every commit has been synced; what sled moved since then loses nothing.
        let synced = self.watch.flush(&open.db).map_err(value::failed);
        let synced = synced.and_then(|()| self.disk.sync(&open.file).map_err(disk::failed));
        if let Err(error) = synced.and(self.close(open)) {
            tracing::warn!(%error, "the store could not be closed well");
        }
    }
}
