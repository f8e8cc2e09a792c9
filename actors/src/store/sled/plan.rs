//! Decides what a group of requests writes: all checks, all rows, before anything is touched.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use kronos_protocol::ids::SessionId;

use super::{
    codec,
    read::{self, packed_upto},
    state::{Change, NewBatch, Standing, State},
    value::{self, failed},
};
use crate::store::{DocumentWrite, Expect, Pack, Record, Refusal, Request, SessionMeta, StoreError, keys, order};

/// Most dead batches that one commit deletes, so that the end of a long turn does not make one commit long.
const DELETIONS: usize = 256;

/// Most rows of segments of deleted sessions that one commit deletes, and most graves.
const SWEPT_ROWS: usize = 256;

/// Rows to put (`Some`) and to delete (`None`).
pub(super) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// What a group does.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) results: Vec<Result<(), Refusal>>,
    pub(super) writes: Writes,
    /// What takes `writes` back, but for the deletion of dead batches and of what deleted sessions left.
    pub(super) undo: Writes,
    pub(super) change: Change,
}

/// Why planning one request stopped.
enum Stop {
    Refused(Refusal),
    Failed(StoreError),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

/// Plans one group; sees the requests before it in the group as done.
pub(super) struct Planner<'a> {
    db: &'a sled::Db,
    state: &'a State,
    sessions: HashMap<SessionId, Standing>,
    metas: HashMap<SessionId, SessionMeta>,
    documents: HashMap<(&'static str, &'a str), Option<Bytes>>,
    appended: BTreeMap<&'a SessionId, Vec<&'a Record>>,
    /// The sessions that this group deletes, existing or not.
    deleted: HashSet<SessionId>,
    buried: Vec<(SessionId, u64, bool)>,
    writes: Writes,
}

impl<'a> Planner<'a> {
    pub(super) fn new(db: &'a sled::Db, state: &'a State) -> Self {
        Self {
            db,
            state,
            sessions: HashMap::new(),
            metas: HashMap::new(),
            documents: HashMap::new(),
            appended: BTreeMap::new(),
            deleted: HashSet::new(),
            buried: Vec::new(),
            writes: Writes::new(),
        }
    }

    /// Plans the whole group; what it sweeps of deleted sessions begins with `sweep`.
    pub(super) fn plan(mut self, group: &'a [Request], sweep: Option<&SessionId>) -> Result<Plan, StoreError> {
        let mut results = Vec::with_capacity(group.len());
        for request in group {
            match self.check(request) {
                Ok(()) => {
                    self.take(request)?;
                    results.push(Ok(()));
                }
                Err(Stop::Refused(refusal)) => results.push(Err(refusal)),
                Err(Stop::Failed(error)) => return Err(error),
            }
        }
        let batch = self.write_batch()?;
        let mut undo = Writes::new();
        for key in self.writes.keys() {
            // Rows of segments and batches are always new.
            let new = matches!(key.first(), Some(b's' | b'w'));
            let old = if new { None } else { self.db.get(key).map_err(failed)? };
            undo.insert(key.clone(), old.map(|old| old.to_vec()));
        }
        let deleted = self.delete_batches();
        let swept = self.sweep(sweep)?;
        let forgotten = self.forget();
        let change = Change {
            sessions: self.sessions,
            batch,
            deleted,
            buried: self.buried,
            swept,
            forgotten,
        };
        Ok(Plan {
            results,
            writes: self.writes,
            undo,
            change,
        })
    }

    /// Deletes batches that no session needs.
    fn delete_batches(&mut self) -> Vec<u64> {
        let mut deleted = Vec::new();
        for (number, parts) in self.state.deletable().take(DELETIONS) {
            let base = keys::batch(number);
            let rows = (0..parts).map(|part| (keys::part(&base, part), None));
            self.writes.extend(rows);
            deleted.push(number);
        }
        deleted
    }

    /// Deletes rows of segments of sessions that earlier commits deleted; returns those of which nothing is left.
    fn sweep(&mut self, first: Option<&SessionId>) -> Result<Vec<SessionId>, StoreError> {
        let (mut swept, mut room) = (Vec::new(), SWEPT_ROWS);
        let others = self.state.graves.unswept().filter(|other| Some(*other) != first);
        for session in first.into_iter().chain(others) {
            if room == 0 {
                break;
            }
            let rows = self.db.scan_prefix(keys::segments(session)).keys().take(room);
            let rows: Vec<_> = rows.collect::<Result<_, _>>().map_err(failed)?;
            if rows.len() < room {
                swept.push(session.clone());
            }
            room -= rows.len();
            self.writes.extend(rows.into_iter().map(|key| (key.to_vec(), None)));
        }
        Ok(swept)
    }

    /// Removes graves that no batch needs any more.
    fn forget(&mut self) -> Vec<SessionId> {
        let removable = self.state.graves.removable(self.state.oldest_batch());
        let again = |session: &&SessionId| !self.deleted.contains(*session);
        let forgotten: Vec<_> = removable.filter(again).take(SWEPT_ROWS).cloned().collect();
        let rows = forgotten
            .iter()
            .map(|session| (keys::part(&keys::grave(session), 0), None));
        self.writes.extend(rows);
        forgotten
    }

    /// Checks everything about a request, so that taking it cannot be refused half way.
    fn check(&mut self, request: &'a Request) -> Result<(), Stop> {
        order::well_formed(request)?;
        order::not_after_deletion(request, &self.deleted)?;
        if let Some(append) = &request.append {
            self.check_known(&append.session, request)?;
            let standing = self.standing(&append.session)?;
            order::follow(&append.session, standing.last, &append.records)?;
        }
        if let Some(pack) = &request.pack {
            self.check_known(&pack.session, request)?;
            let standing = self.standing(&pack.session)?;
            let appended = request.append.as_ref().filter(|append| append.session == pack.session);
            let last = appended
                .and_then(|append| append.records.last())
                .map_or(standing.last, |record| record.seq);
            order::follow_packed(&pack.session, standing.packed_upto, last, &pack.records)?;
        }
        for write in &request.documents {
            self.check_document(write)?;
        }
        Ok(())
    }

    fn check_known(&self, session: &SessionId, request: &Request) -> Result<(), Stop> {
        let announced = request.meta.as_ref().is_some_and(|meta| meta.session == *session);
        if announced
            || self.metas.contains_key(session)
            || self.state.tails.contains_key(session)
            || self
                .db
                .contains_key(keys::part(&keys::meta(session), 0))
                .map_err(failed)?
        {
            return Ok(());
        }
        Err(Refusal::UnknownSession {
            session: session.clone(),
        }
        .into())
    }

    fn check_document(&mut self, write: &'a DocumentWrite) -> Result<(), Stop> {
        let holds = match &write.expect {
            Expect::Any => true,
            Expect::Absent => self.document(write)?.is_none(),
            Expect::Value(value) => self.document(write)?.as_ref() == Some(value),
        };
        if holds {
            Ok(())
        } else {
            Err(Refusal::Condition {
                family: write.family,
                key: write.key.clone(),
            }
            .into())
        }
    }

    fn document(&self, write: &'a DocumentWrite) -> Result<Option<Bytes>, StoreError> {
        if let Some(value) = self.documents.get(&(write.family, write.key.as_str())) {
            return Ok(value.clone());
        }
        Ok(value::get(self.db, &keys::document(write.family, &write.key))?.map(|value| Bytes::from(value.body)))
    }

    fn standing(&mut self, session: &SessionId) -> Result<Standing, StoreError> {
        if let Some(standing) = self.sessions.get(session) {
            return Ok(*standing);
        }
        let standing = match self.state.tails.get(session) {
            Some(tail) => Standing {
                last: tail.last,
                packed_upto: tail.packed_upto,
            },
            None => {
                let packed_upto = packed_upto(self.db, session)?;
                Standing {
                    last: packed_upto,
                    packed_upto,
                }
            }
        };
        self.sessions.insert(session.clone(), standing);
        Ok(standing)
    }

    /// Writes what a checked request asks for.
    fn take(&mut self, request: &'a Request) -> Result<(), StoreError> {
        if let Some(meta) = &request.meta {
            self.take_meta(meta)?;
        }
        if let Some(append) = &request.append {
            let standing = self.standing(&append.session)?;
            let last = append.records.last().map_or(standing.last, |record| record.seq);
            self.sessions
                .insert(append.session.clone(), Standing { last, ..standing });
            self.appended
                .entry(&append.session)
                .or_default()
                .extend(&append.records);
        }
        if let Some(pack) = &request.pack {
            self.take_pack(pack)?;
        }
        if let (Some(unfinished), Some(session)) = (request.unfinished, order::marked(request)) {
            self.writes.insert(keys::unfinished(session), unfinished.then(Vec::new));
        }
        if let Some(session) = &request.delete {
            self.take_deletion(session)?;
        }
        for write in &request.documents {
            self.put(&keys::document(write.family, &write.key), write.value.as_deref())?;
            self.documents.insert((write.family, &write.key), write.value.clone());
        }
        Ok(())
    }

    fn take_pack(&mut self, pack: &Pack) -> Result<(), StoreError> {
        for run in codec::segments(&pack.records) {
            let Some(last) = run.last() else { continue };
            let rows = value::rows(&keys::segment(&pack.session, last.seq), &codec::segment(run)?)?;
            self.writes
                .extend(rows.into_iter().map(|(key, part)| (key, Some(part))));
        }
        let standing = self.standing(&pack.session)?;
        let packed_upto = pack.records.last().map_or(standing.packed_upto, |record| record.seq);
        self.sessions.insert(
            pack.session.clone(),
            Standing {
                packed_upto,
                ..standing
            },
        );
        Ok(())
    }

    fn take_meta(&mut self, meta: &SessionMeta) -> Result<(), StoreError> {
        let old = self.old_meta(&meta.session)?;
        self.unlist(old.as_ref());
        if meta.listed {
            for owner in [None, Some(&meta.owner)] {
                self.writes
                    .insert(keys::listed(owner, meta.updated_at_ms, &meta.session), Some(Vec::new()));
            }
        }
        self.put(&keys::meta(&meta.session), Some(&codec::meta(meta)?))?;
        self.metas.insert(meta.session.clone(), meta.clone());
        Ok(())
    }

    fn old_meta(&self, session: &SessionId) -> Result<Option<SessionMeta>, StoreError> {
        match self.metas.get(session) {
            Some(old) => Ok(Some(old.clone())),
            None => read::meta(self.db, session),
        }
    }

    fn unlist(&mut self, old: Option<&SessionMeta>) {
        let Some(old) = old.filter(|old| old.listed) else {
            return;
        };
        for owner in [None, Some(&old.owner)] {
            self.writes
                .insert(keys::listed(owner, old.updated_at_ms, &old.session), None);
        }
    }

    /// Removes a session at once from everything but the batches and segments, and digs its grave.
    fn take_deletion(&mut self, session: &'a SessionId) -> Result<(), StoreError> {
        let first = self.deleted.insert(session.clone());
        let Some(old) = first.then(|| self.old_meta(session)).transpose()?.flatten() else {
            return Ok(());
        };
        self.unlist(Some(&old));
        self.put(&keys::meta(session), None)?;
        self.writes.insert(keys::unfinished(session), None);
        // What the group wrote of it before.
        self.metas.remove(session);
        self.sessions.remove(session);
        self.appended.remove(session);
        let segments = keys::segments(session);
        let packed = self.writes.range(segments.clone()..).map(|(key, _)| key);
        let packed: Vec<_> = packed.take_while(|key| key.starts_with(&segments)).cloned().collect();
        for key in packed {
            self.writes.remove(&key);
        }
        let number = self.state.next_batch;
        self.put(&keys::grave(session), Some(&number.to_be_bytes()))?;
        let unswept = read::packed_upto(self.db, session)? > 0;
        self.buried.push((session.clone(), number, unswept));
        Ok(())
    }

    /// Replaces the value at `base`, whatever number of parts it had.
    fn put(&mut self, base: &[u8], body: Option<&[u8]>) -> Result<(), StoreError> {
        let first = keys::part(base, 0);
        for (_, row) in self.writes.range_mut(first.clone()..=keys::part(base, u16::MAX)) {
            *row = None;
        }
        if let Some(old) = self.db.get(&first).map_err(failed)? {
            let parts = value::parts(&first, &old)?;
            self.writes
                .extend((0..parts).map(|part| (keys::part(base, part), None)));
        }
        let rows = body
            .map(|body| value::rows(base, body))
            .transpose()?
            .unwrap_or_default();
        self.writes
            .extend(rows.into_iter().map(|(key, part)| (key, Some(part))));
        Ok(())
    }

    /// Writes what the group appended and did not pack as the one write-ahead batch.
    ///
    /// A group that writes anything else has one too, if an empty one: its number tells that the commit was made.
    fn write_batch(&mut self) -> Result<Option<NewBatch>, StoreError> {
        let mut entries: Vec<(&SessionId, Vec<&Record>)> = std::mem::take(&mut self.appended).into_iter().collect();
        for (session, records) in &mut entries {
            let packed_upto = self.sessions.get(*session).map_or(0, |standing| standing.packed_upto);
            records.retain(|record| record.seq > packed_upto);
        }
        entries.retain(|(_, records)| !records.is_empty());
        if self.writes.is_empty() && entries.is_empty() {
            return Ok(None);
        }
        let number = self.state.next_batch;
        let rows = value::rows(&keys::batch(number), &codec::batch(&entries)?)?;
        let parts = u16::try_from(rows.len()).map_err(|error| StoreError::Io(error.to_string()))?;
        self.writes
            .extend(rows.into_iter().map(|(key, part)| (key, Some(part))));
        let last = |records: &[&Record]| records.last().map_or(0, |record| record.seq);
        let sessions = entries
            .iter()
            .map(|(session, records)| ((*session).clone(), last(records)))
            .collect();
        Ok(Some(NewBatch {
            number,
            parts,
            sessions,
        }))
    }
}
