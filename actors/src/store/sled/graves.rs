//! What is left of deleted sessions: which write-ahead batches no longer speak for them, and whose segments are still to go.
//!
//! A deletion is one small commit, whatever the length of the session: it removes the meta, the listing and the mark, and
//! writes a *grave* (`x`) with its own number. What the batches up to that number hold of the session is void from then on.
//! Later commits sweep the segments, some rows each, and remove the grave when no such batch is left.

use std::collections::{BTreeSet, HashMap};

use kronos_protocol::ids::SessionId;

use super::{read, value};
use crate::store::{StoreError, keys};

/// All graves of a store.
#[derive(Debug, Default)]
pub(super) struct Graves {
    numbers: HashMap<SessionId, u64>,
    by_number: BTreeSet<(u64, SessionId)>,
    /// Those whose segments are not all swept; such a session is made again only afterwards.
    unswept: BTreeSet<SessionId>,
}

impl Graves {
    /// Reads the graves that are left.
    pub(super) fn read(db: &sled::Db) -> Result<Self, StoreError> {
        let mut graves = Self::default();
        for grave in value::values(db.scan_prefix(keys::GRAVES)) {
            let grave = grave?;
            let at = grave.base.as_slice();
            let damaged = || value::corrupt(at, "not a grave");
            let session = keys::grave_session(at).ok_or_else(damaged)?;
            let number = <[u8; 8]>::try_from(grave.body.as_slice()).ok().ok_or_else(damaged)?;
            // One that was made again has been swept before that: its segments are new ones.
            let unswept = read::meta(db, &session)?.is_none() && read::packed_upto(db, &session)? > 0;
            graves.add(session, u64::from_be_bytes(number), unswept);
        }
        Ok(graves)
    }

    /// Notes that `session` was deleted by the commit `number`.
    pub(super) fn add(&mut self, session: SessionId, number: u64, unswept: bool) {
        if let Some(before) = self.numbers.insert(session.clone(), number) {
            self.by_number.remove(&(before, session.clone()));
        }
        self.by_number.insert((number, session.clone()));
        if unswept {
            self.unswept.insert(session);
        }
    }

    /// Whether what the batch `number` holds of `session` is void.
    pub(super) fn covers(&self, session: &SessionId, number: u64) -> bool {
        self.numbers.get(session).is_some_and(|deleted| number <= *deleted)
    }

    pub(super) fn is_unswept(&self, session: &SessionId) -> bool {
        self.unswept.contains(session)
    }

    pub(super) fn unswept(&self) -> impl Iterator<Item = &SessionId> {
        self.unswept.iter()
    }

    pub(super) fn swept(&mut self, session: &SessionId) {
        self.unswept.remove(session);
    }

    /// Those that nobody needs while the oldest batch is `oldest`.
    pub(super) fn removable(&self, oldest: u64) -> impl Iterator<Item = &SessionId> {
        let passed = self.by_number.iter().take_while(move |(number, _)| *number < oldest);
        passed
            .map(|(_, session)| session)
            .filter(|session| !self.is_unswept(session))
    }

    pub(super) fn remove(&mut self, session: &SessionId) {
        if let Some(number) = self.numbers.remove(session) {
            self.by_number.remove(&(number, session.clone()));
        }
    }
}
