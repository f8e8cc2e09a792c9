//! Reading: segments by their keys, then what is only in write-ahead batches.

use bytes::Bytes;
use kronos_protocol::{
    ids::{SessionId, UserId},
    position::Seq,
};

use super::{
    codec,
    state::Tail,
    value::{self, corrupt, failed},
};
use crate::store::{
    ListPosition, Record, SessionMeta, StoreError, keys,
    order::{Budget, follows},
};

/// A read met a batch that a commit deleted meanwhile: ask for the tail again.
#[derive(Debug)]
pub(super) enum ReadError {
    Moved,
    Store(StoreError),
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Returns the last packed seq of a session as its segments tell it; 0 without one.
pub(super) fn packed_upto(db: &sled::Db, session: &SessionId) -> Result<Seq, StoreError> {
    let prefix = keys::segments(session);
    let after = keys::part(&keys::segment(session, Seq::MAX), u16::MAX);
    let Some((key, _)) = db
        .get_lt(after)
        .map_err(failed)?
        .filter(|(key, _)| key.starts_with(&prefix))
    else {
        return Ok(0);
    };
    let base = keys::split_part(&key).map(|(base, _)| base);
    base.and_then(keys::segment_last)
        .ok_or_else(|| corrupt(&key, "not the key of a segment"))
}

/// Reads the records of a session after `after` within `budget`.
pub(super) fn records(
    db: &sled::Db,
    session: &SessionId,
    tail: &Tail,
    after: Seq,
    budget: &mut Budget,
) -> Result<Vec<Record>, ReadError> {
    let mut found = Found {
        records: Vec::new(),
        after,
        budget,
    };
    let from = keys::part(&keys::segment(session, after.saturating_add(1)), 0);
    let upto = keys::part(&keys::segment(session, tail.packed_upto), u16::MAX);
    if after < tail.packed_upto {
        for segment in value::values(db.range(from..=upto)) {
            let segment = segment?;
            let last =
                keys::segment_last(&segment.base).ok_or_else(|| corrupt(&segment.base, "not a segment's key"))?;
            if !found.add(
                &segment.base,
                codec::segment_records(&segment.base, &segment.body, last)?,
            )? {
                return Ok(found.records);
            }
        }
        if found.after < tail.packed_upto {
            return Err(corrupt(&keys::segments(session), "its last segment is missing").into());
        }
    }
    if !found.add(b"w", tail.recovered.clone())? {
        return Ok(found.records);
    }
    for (number, last) in &tail.batches {
        if *last <= found.after {
            continue;
        }
        let base = keys::batch(*number);
        let batch = value::get(db, &base)?.ok_or(ReadError::Moved)?;
        for entry in codec::entries(&base, &batch.body)?
            .iter()
            .filter(|entry| entry.is_of(session))
        {
            if !found.add(&base, entry.records(&base)?)? {
                return Ok(found.records);
            }
        }
    }
    if found.after < tail.last {
        return Err(corrupt(b"w", "records of a session are missing").into());
    }
    Ok(found.records)
}

struct Found<'a> {
    records: Vec<Record>,
    after: Seq,
    budget: &'a mut Budget,
}

impl Found<'_> {
    /// Adds what follows; false when the budget is used up.
    fn add(&mut self, at: &[u8], records: Vec<Record>) -> Result<bool, StoreError> {
        let first = records.partition_point(|record| record.seq <= self.after);
        for record in records.into_iter().skip(first) {
            // Only the first may begin earlier: where the reader asks may be within a merged record.
            let begins = if self.records.is_empty() {
                record.first() != 0 && record.first() <= self.after + 1
            } else {
                follows(self.after, &record)
            };
            if !begins {
                return Err(corrupt(at, "records before it are missing"));
            }
            if !self.budget.take(&record) {
                return Ok(false);
            }
            self.after = record.seq;
            self.records.push(record);
        }
        Ok(self.budget.open())
    }
}

/// Reads the meta of a session.
pub(super) fn meta(db: &sled::Db, session: &SessionId) -> Result<Option<SessionMeta>, StoreError> {
    value::get(db, &keys::meta(session))?
        .map(|value| codec::read_meta(&value.base, &value.body))
        .transpose()
}

/// Reads a page of a listing.
pub(super) fn list(
    db: &sled::Db,
    owner: Option<&UserId>,
    after: Option<&ListPosition>,
    limit: usize,
) -> Result<Vec<SessionMeta>, StoreError> {
    let prefix = keys::listing(owner);
    let mut from = after.map_or_else(
        || prefix.clone(),
        |after| keys::listed(owner, after.updated_at_ms, &after.session),
    );
    if after.is_some() {
        from.push(0);
    }
    let rows = db
        .range(from..)
        .keys()
        .take_while(|key| key.as_ref().map_or(true, |key| key.starts_with(&prefix)));
    rows.take(limit)
        .map(|key| listed(db, &prefix, &key.map_err(failed)?))
        .collect()
}

/// Reads a page of the listing of everybody from its other end.
pub(super) fn oldest(
    db: &sled::Db,
    after: Option<&ListPosition>,
    limit: usize,
) -> Result<Vec<SessionMeta>, StoreError> {
    let prefix = keys::listing(None);
    let rows = match after {
        Some(after) => db.range(prefix.clone()..keys::listed(None, after.updated_at_ms, &after.session)),
        None => db.scan_prefix(&prefix),
    };
    rows.keys()
        .rev()
        .take(limit)
        .map(|key| listed(db, &prefix, &key.map_err(failed)?))
        .collect()
}

/// Reads the meta of the session in a row of a listing.
fn listed(db: &sled::Db, prefix: &[u8], key: &[u8]) -> Result<SessionMeta, StoreError> {
    let (_, session) = keys::listed_session(prefix, key).ok_or_else(|| corrupt(key, "not a listed session"))?;
    meta(db, &session)?.ok_or_else(|| corrupt(key, "lists a session without a meta"))
}

/// Reads the marks of unfinished work.
pub(super) fn unfinished(db: &sled::Db) -> Result<Vec<SessionId>, StoreError> {
    let session = |key: sled::Result<sled::IVec>| {
        let key = key.map_err(failed)?;
        keys::unfinished_session(&key).ok_or_else(|| corrupt(&key, "not the mark of a session"))
    };
    db.scan_prefix(keys::UNFINISHED).keys().map(session).collect()
}

/// Reads one document.
pub(super) fn document(db: &sled::Db, family: &str, key: &str) -> Result<Option<Bytes>, StoreError> {
    Ok(value::get(db, &keys::document(family, key))?.map(|value| Bytes::from(value.body)))
}

/// Reads a page of documents.
pub(super) fn documents(
    db: &sled::Db,
    family: &str,
    prefix: &str,
    after: Option<&str>,
    limit: usize,
) -> Result<Vec<(String, Bytes)>, StoreError> {
    let prefix_key = keys::documents(family, prefix);
    let from = after.map(|after| keys::part(&keys::document(family, after), u16::MAX));
    let from = from
        .filter(|from| *from > prefix_key)
        .unwrap_or_else(|| prefix_key.clone());
    let rows = db
        .range(from..)
        .take_while(|row| row.as_ref().map_or(true, |(key, _)| key.starts_with(&prefix_key)));
    value::values(rows)
        .take(limit)
        .map(|value| {
            let value = value?;
            let key =
                keys::document_key(family, &value.base).ok_or_else(|| corrupt(&value.base, "not a document's key"))?;
            Ok((key, Bytes::from(value.body)))
        })
        .collect()
}
