//! What every backend must refuse: the order of records, and requests that make no sense. Pure.

use std::collections::HashSet;

use kronos_protocol::{ids::SessionId, position::Seq};

use super::{Record, Refusal, Request};

/// Longest key of a document, in bytes: keys are repeated in inner pages, which must stay small.
const DOCUMENT_KEY_BYTES: usize = 256;

/// Whether `record` begins right after `last`.
pub(crate) fn follows(last: Seq, record: &Record) -> bool {
    last.checked_add(1) == Some(record.first())
}

/// Checks that `records` follow `last` without a gap; returns the last of them, or `last` when there are none.
pub(crate) fn follow(session: &SessionId, last: Seq, records: &[Record]) -> Result<Seq, Refusal> {
    records.iter().try_fold(last, |last, record| {
        if follows(last, record) {
            return Ok(record.seq);
        }
        Err(Refusal::OutOfOrder {
            session: session.clone(),
            expected: last.saturating_add(1),
            got: record.first(),
        })
    })
}

/// Checks a pack against what is packed already and what is stored; returns the new last packed seq.
pub(crate) fn follow_packed(
    session: &SessionId,
    packed_upto: Seq,
    last: Seq,
    records: &[Record],
) -> Result<Seq, Refusal> {
    let upto = follow(session, packed_upto, records)?;
    if upto > last {
        return Err(Refusal::OutOfOrder {
            session: session.clone(),
            expected: last.saturating_add(1),
            got: upto,
        });
    }
    Ok(upto)
}

/// Refuses what no state of a store could take.
pub(crate) fn well_formed(request: &Request) -> Result<(), Refusal> {
    let malformed = |what| Err(Refusal::Malformed { what });
    if request.append.as_ref().is_some_and(|append| append.records.is_empty()) {
        return malformed("an append has no records");
    }
    let appended = request.append.iter().flat_map(|append| &append.records);
    if appended.into_iter().any(|record| record.merged != 0) {
        return malformed("an appended record stands for several events");
    }
    if request.delete.is_some()
        && (request.append.is_some()
            || request.pack.is_some()
            || request.meta.is_some()
            || request.unfinished.is_some())
    {
        return malformed("a deletion comes with something else about a session");
    }
    if request.unfinished.is_some() && marked(request).is_none() {
        return malformed("a mark of unfinished work has no session");
    }
    for write in &request.documents {
        if !(1..=24).contains(&write.family.len())
            || !write
                .family
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        {
            return malformed("the name of a document family is not [a-z_]{1,24}");
        }
        if write.key.len() > DOCUMENT_KEY_BYTES {
            return malformed("the key of a document is longer than 256 bytes");
        }
    }
    Ok(())
}

/// Returns the sessions that a request writes to, a deleted one not included.
pub(crate) fn touched(request: &Request) -> impl Iterator<Item = &SessionId> {
    let appended = request.append.as_ref().map(|append| &append.session);
    let packed = request.pack.as_ref().map(|pack| &pack.session);
    let announced = request.meta.as_ref().map(|meta| &meta.session);
    appended.into_iter().chain(packed).chain(announced)
}

/// Returns the session that [`Request::unfinished`] marks.
pub(crate) fn marked(request: &Request) -> Option<&SessionId> {
    touched(request).next()
}

/// Refuses what names a session that its group has deleted before.
pub(crate) fn not_after_deletion(request: &Request, deleted: &HashSet<SessionId>) -> Result<(), Refusal> {
    match touched(request).find(|session| deleted.contains(*session)) {
        Some(session) => Err(Refusal::UnknownSession {
            session: session.clone(),
        }),
        None => Ok(()),
    }
}

/// How much one [`read`](super::SessionStore::read) may still return.
#[derive(Debug)]
pub(crate) struct Budget {
    left: Option<usize>,
    started: bool,
}

impl Budget {
    pub(crate) const fn new(bytes: usize) -> Self {
        Self {
            left: Some(bytes),
            started: false,
        }
    }

    /// Takes the payload of `record` out; false when it no longer fits (the first one always does).
    pub(crate) fn take(&mut self, record: &Record) -> bool {
        self.left = self.left.and_then(|left| left.checked_sub(record.payload.len()));
        !std::mem::replace(&mut self.started, true) || self.left.is_some()
    }

    /// Whether the next record could fit.
    pub(crate) const fn open(&self) -> bool {
        self.left.is_some()
    }
}
