//! Writing durably, and taking a failed commit back.

use std::{sync::Arc, time::Duration};

use super::{Inner, Open, SledStore, Writer, disk, open, plan::Writes, value};
use crate::store::StoreError;

/// How long a repair waits for the reads under way, in steps of [`READERS_STEP`].
const READERS_STEPS: u32 = 5_000;
const READERS_STEP: Duration = Duration::from_millis(1);

/// A commit that failed after it began to write.
#[derive(Debug, Clone, Default)]
pub(super) struct Doubt {
    pub(super) undo: Writes,
    /// A sync failed, so what is in the file may not be on the disk.
    pub(super) rewrite: bool,
}

/// Puts the store in doubt unless its commit lands, also when that panics.
pub(super) struct Flight<'a> {
    pub(super) store: &'a SledStore,
    pub(super) doubt: Option<Doubt>,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if let Some(doubt) = self.doubt.take() {
            self.store.inner_mut().doubt = Some(doubt);
        }
    }
}

impl SledStore {
    /// Writes and syncs rows; the error tells whether a sync failed.
    pub(super) fn write(&self, open: &Open, writes: &Writes) -> Result<(), (StoreError, bool)> {
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
    pub(super) fn repair(&self, writer: &mut Writer) -> Result<(), StoreError> {
        writer.wal.mend(&self.disk)?;
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
        let (state, wal) = Self::recover(&self.disk, &open.db, &writer.tip)?;
        writer.wal = wal;
        *self.inner_mut() = Inner {
            open: Some(open),
            state,
            doubt: None,
        };
        tracing::warn!("the store has taken back a failed commit and works again");
        Ok(())
    }

    /// Closes sled, which lets go of its lock when the last read has ended.
    pub(super) fn close(&self, mut open: Open) -> Result<(), StoreError> {
        for _ in 0..READERS_STEPS {
            match Arc::try_unwrap(open.db) {
                Ok(db) => {
                    drop(db);
                    let still_locked = || StoreError::Io("sled does not let go of its file".to_owned());
                    return self.disk.unlocked().then_some(()).ok_or_else(still_locked);
                }
                Err(db) => open.db = db,
            }
            std::thread::sleep(READERS_STEP);
        }
        self.inner_mut().open = Some(open);
        Err(StoreError::Io("reads of the failed store do not end".to_owned()))
    }
}
