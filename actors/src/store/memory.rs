//! The store in memory: the same contract without a disk, for tests. Nothing of it outlives the process.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use kronos_protocol::{
    ids::{SessionId, UserId},
    position::Seq,
};

use super::{
    DocumentWrite, Expect, ListPosition, Record, Refusal, Request, SessionMeta, SessionStore, StoreError,
    StoredSession, order,
};

type Documents = BTreeMap<(&'static str, String), Bytes>;

/// A [`SessionStore`] in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    data: Mutex<Data>,
}

#[derive(Debug, Default)]
struct Data {
    sessions: HashMap<SessionId, StoredSession>,
    documents: Documents,
}

impl Data {
    fn last(&self, session: &SessionId) -> Seq {
        self.sessions
            .get(session)
            .and_then(|stored| stored.records.last())
            .map_or(0, |record| record.seq)
    }

    fn check(&self, request: &Request) -> Result<(), Refusal> {
        order::well_formed(request)?;
        let known = |session: &SessionId| {
            if self.sessions.contains_key(session) || request.meta.as_ref().is_some_and(|meta| meta.session == *session)
            {
                return Ok(());
            }
            Err(Refusal::UnknownSession {
                session: session.clone(),
            })
        };
        if let Some(append) = &request.append {
            known(&append.session)?;
            order::follow(&append.session, self.last(&append.session), &append.records)?;
        }
        if let Some(pack) = &request.pack {
            known(&pack.session)?;
            let packed_upto = self.sessions.get(&pack.session).map_or(0, |stored| stored.packed_upto);
            let appended = request.append.as_ref().filter(|append| append.session == pack.session);
            let last = appended
                .and_then(|append| append.records.last())
                .map_or_else(|| self.last(&pack.session), |record| record.seq);
            order::follow_packed(&pack.session, packed_upto, last, &pack.records)?;
        }
        request
            .documents
            .iter()
            .try_for_each(|write| self.check_document(write))
    }

    fn check_document(&self, write: &DocumentWrite) -> Result<(), Refusal> {
        let stored = self.documents.get(&(write.family, write.key.clone()));
        let holds = match &write.expect {
            Expect::Any => true,
            Expect::Absent => stored.is_none(),
            Expect::Value(value) => stored == Some(value),
        };
        if holds {
            Ok(())
        } else {
            Err(Refusal::Condition {
                family: write.family,
                key: write.key.clone(),
            })
        }
    }

    fn apply(&mut self, request: &Request) {
        if let Some(meta) = &request.meta {
            self.sessions
                .entry(meta.session.clone())
                .and_modify(|stored| stored.meta = meta.clone())
                .or_insert_with(|| StoredSession {
                    meta: meta.clone(),
                    records: Vec::new(),
                    packed_upto: 0,
                    unfinished: false,
                });
        }
        if let Some(append) = &request.append
            && let Some(stored) = self.sessions.get_mut(&append.session)
        {
            stored.records.extend_from_slice(&append.records);
        }
        if let Some(pack) = &request.pack
            && let Some(stored) = self.sessions.get_mut(&pack.session)
        {
            let end = |upto| move |record: &Record| record.seq <= upto;
            let upto = pack.records.last().map_or(stored.packed_upto, |record| record.seq);
            let covered =
                stored.records.partition_point(end(stored.packed_upto))..stored.records.partition_point(end(upto));
            stored.records.splice(covered, pack.records.iter().cloned());
            stored.packed_upto = upto;
        }
        if let Some(unfinished) = request.unfinished
            && let Some(stored) = order::marked(request).and_then(|session| self.sessions.get_mut(session))
        {
            stored.unfinished = unfinished;
        }
        if let Some(session) = &request.delete {
            self.sessions.remove(session);
        }
        for write in &request.documents {
            let key = (write.family, write.key.clone());
            match &write.value {
                Some(value) => self.documents.insert(key, value.clone()),
                None => self.documents.remove(&key),
            };
        }
    }
}

impl MemoryStore {
    /// Returns the listed sessions of `owner` or of everybody, newest first.
    fn listed(&self, owner: Option<&UserId>) -> Vec<SessionMeta> {
        let data = self.data();
        let metas = data.sessions.values().map(|stored| &stored.meta);
        let mut metas: Vec<_> = metas
            .filter(|meta| meta.listed && owner.is_none_or(|owner| meta.owner == *owner))
            .cloned()
            .collect();
        metas.sort_by(newest_first);
        metas
    }

    fn data(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn newest_first(a: &SessionMeta, b: &SessionMeta) -> Ordering {
    let by_time = b.updated_at_ms.cmp(&a.updated_at_ms);
    by_time.then_with(|| a.session.cmp(&b.session))
}

/// Where `meta` stands in a list, newest first, compared with `position`.
fn place(meta: &SessionMeta, position: &ListPosition) -> Ordering {
    let by_time = position.updated_at_ms.cmp(&meta.updated_at_ms);
    by_time.then_with(|| meta.session.cmp(&position.session))
}

impl SessionStore for MemoryStore {
    fn commit(&self, group: &[Request]) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        let mut data = self.data();
        let mut deleted = HashSet::new();
        let commit = |request: &Request| {
            data.check(request)?;
            order::not_after_deletion(request, &deleted)?;
            data.apply(request);
            deleted.extend(request.delete.clone());
            Ok(())
        };
        Ok(group.iter().map(commit).collect())
    }

    fn load(&self, session: &SessionId) -> Result<Option<StoredSession>, StoreError> {
        Ok(self.data().sessions.get(session).cloned())
    }

    fn read(&self, session: &SessionId, after: Seq, max_bytes: usize) -> Result<Vec<Record>, StoreError> {
        let data = self.data();
        let records = data.sessions.get(session).map_or(&[][..], |stored| &stored.records);
        let mut budget = order::Budget::new(max_bytes);
        let rest = records.iter().skip_while(|record| record.seq <= after);
        Ok(rest.take_while(|record| budget.take(record)).cloned().collect())
    }

    fn meta(&self, session: &SessionId) -> Result<Option<SessionMeta>, StoreError> {
        Ok(self.data().sessions.get(session).map(|stored| stored.meta.clone()))
    }

    fn list(
        &self,
        owner: Option<&UserId>,
        after: Option<&ListPosition>,
        limit: usize,
    ) -> Result<Vec<SessionMeta>, StoreError> {
        let passed = |meta: &SessionMeta| after.is_some_and(|after| place(meta, after).is_le());
        let metas = self.listed(owner).into_iter().skip_while(passed);
        Ok(metas.take(limit).collect())
    }

    fn oldest(&self, after: Option<&ListPosition>, limit: usize) -> Result<Vec<SessionMeta>, StoreError> {
        let passed = |meta: &SessionMeta| after.is_some_and(|after| place(meta, after).is_ge());
        let metas = self.listed(None).into_iter().rev().skip_while(passed);
        Ok(metas.take(limit).collect())
    }

    fn unfinished(&self) -> Result<Vec<SessionId>, StoreError> {
        let data = self.data();
        let mut marked: Vec<_> = data
            .sessions
            .iter()
            .filter(|(_, stored)| stored.unfinished)
            .map(|(session, _)| session.clone())
            .collect();
        marked.sort();
        Ok(marked)
    }

    fn document(&self, family: &'static str, key: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.data().documents.get(&(family, key.to_owned())).cloned())
    }

    fn documents(
        &self,
        family: &'static str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError> {
        let data = self.data();
        let from = (family, after.unwrap_or("").max(prefix).to_owned());
        Ok(data
            .documents
            .range(from..)
            .take_while(|((of, key), _)| *of == family && key.starts_with(prefix))
            .filter(|((_, key), _)| after.is_none_or(|after| key.as_str() > after))
            .take(limit)
            .map(|((_, key), value)| (key.clone(), value.clone()))
            .collect())
    }

    fn size_bytes(&self) -> Option<u64> {
        None
    }
}
