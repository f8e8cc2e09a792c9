//! Wakes a flush that waits for a write which failed.
//!
//! Sled 0.34.7 remembers a failed write of its IO threads but does not always tell the flush that waits for it
//! (`exit_reservation` in `pagecache/logger.rs` sets the error and notifies nobody), so a full disk could stop the committer
//! for good. Any later write notifies; this thread makes one when a flush takes longer than [`TICK`].

use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use crate::store::{StoreError, keys};

const TICK: Duration = Duration::from_millis(500);

#[derive(Default)]
struct Watched {
    flushing: Option<Arc<sled::Db>>,
    /// Flushes begun so far.
    begun: u64,
    stopped: bool,
}

#[derive(Default)]
struct Shared {
    watched: Mutex<Watched>,
    changed: Condvar,
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread and what it looks at.
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start() -> Result<Self, StoreError> {
        let shared = Arc::new(Shared::default());
        let watched = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("kronos-store-watch".to_owned())
            .spawn(move || run(&watched));
        Ok(Self {
            shared,
            thread: Some(thread.map_err(super::disk::failed)?),
        })
    }

    /// Flushes `db`; an error of a background write is found in the end.
    pub(super) fn flush(&self, db: &Arc<sled::Db>) -> sled::Result<()> {
        {
            let mut watched = self.shared.watched();
            watched.flushing = Some(Arc::clone(db));
            watched.begun += 1;
        }
        let flushed = db.flush();
        self.shared.watched().flushing = None;
        flushed.map(drop)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.watched().stopped = true;
        self.shared.changed.notify_all();
        // A panic of the thread has been reported by its hook; there is nothing left that it could do.
        drop(self.thread.take().map(JoinHandle::join));
    }
}

fn run(shared: &Shared) {
    let mut seen = 0;
    let mut watched = shared.watched();
    while !watched.stopped {
        watched = shared
            .changed
            .wait_timeout(watched, TICK)
            .unwrap_or_else(PoisonError::into_inner)
            .0;
        let stuck = watched
            .flushing
            .clone()
            .filter(|_| watched.begun == seen && !watched.stopped);
        seen = watched.begun;
        if let Some(db) = stuck {
            drop(watched);
            // It fails with the error that the flush is to find; the row itself is never read.
            drop(db.insert(keys::NUDGE, Vec::new()));
            drop(db);
            watched = shared.watched();
        }
    }
}
