//! The written contract of storage: what is atomic, what is ordered, what a success means.
//!
//! # The contract
//! - **A success is durable.** When [`SessionStore::commit`] returns `Ok`, every request whose own result is `Ok`
//!   survives `kill -9` and power loss (an embedded store has synced its file).
//! - **A request is atomic**: all of it or nothing. A group of requests is one write; they do not depend on each other,
//!   and a refused one (a broken order, a failed condition) leaves the others alone.
//! - **A session's records are contiguous**: `append.records` start at the session's last stored `seq + 1`
//!   (the first at 1) and grow by one. Anything else is refused with [`Refusal::OutOfOrder`] and nothing of that request is
//!   written. This is the fence of the embedded store: it has one process, and a stale writer is always out of order.
//! - **A packed record may stand for several events** ([`Record::merged`]): contiguous then means that each record begins
//!   ([`Record::first`]) right after the end of the one before it. What is appended is never merged.
//! - **A deleted session does not exist**: nothing of it is read or listed again, and it may be made again with a new meta,
//!   from seq 1. Within the group of its deletion it cannot: what names it there afterwards is [`Refusal::UnknownSession`].
//! - **Reads see commits**: what a commit made durable is visible to every later read.
//! - The store does not know what an event means: a payload is opaque bytes. It keeps a checksum and the seq in every
//!   value, and a value that fails them is [`StoreError::Corrupt`], never silently skipped.
//!
//! One conformance suite (`tests/contract`) runs over every backend.

use bytes::Bytes;
use kronos_protocol::{
    ids::{EpochId, SessionId, UserId},
    position::Seq,
};
use serde::{Deserialize, Serialize};

use crate::clock::Millis;

pub mod keys;
pub mod memory;
mod order;
pub mod service;
pub mod sled;

/// One event of a session as the store sees it, or several that were merged when they were packed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Position in its session, from 1, no gaps; of the last event that it stands for.
    pub seq: Seq,
    /// The stored form of the event; opaque here.
    pub payload: Bytes,
    /// How many events right before `seq` it stands for too; 0 for one event.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub merged: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_zero(merged: &u64) -> bool {
    *merged == 0
}

impl Record {
    /// Makes the record of one event.
    #[must_use]
    pub const fn new(seq: Seq, payload: Bytes) -> Self {
        Self {
            seq,
            payload,
            merged: 0,
        }
    }

    /// Returns the position of the first event that it stands for; 0, which no event has, when `merged` cannot be right.
    #[must_use]
    pub const fn first(&self) -> Seq {
        self.seq.saturating_sub(self.merged)
    }
}

/// What is listed about a session without opening it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionMeta {
    /// The session.
    pub session: SessionId,
    /// Whose it is.
    pub owner: UserId,
    /// Identity of its event history.
    pub epoch: EpochId,
    /// Its title, if it has one.
    pub title: Option<String>,
    /// Its settings as JSON text; opaque here.
    pub settings: String,
    /// False for a user's feed, which is not listed.
    pub listed: bool,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at_ms: Millis,
    /// When its last turn ended, in milliseconds since the Unix epoch. The order of [`SessionStore::list`].
    pub updated_at_ms: Millis,
    /// Messages of users and assistant.
    pub message_count: u64,
    /// The beginning of the last message, for a list.
    pub preview: Option<String>,
    /// A run began whose text may be shown before its commit; opaque here.
    #[serde(default)]
    pub relaxed_run: bool,
}

/// New records of one session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    /// The session.
    pub session: SessionId,
    /// Its new records: not empty, contiguous, none merged.
    pub records: Vec<Record>,
}

/// Tells the store that a session's records up to `upto` are to live in the session's own segments.
///
/// The records are given again, deltas merged (the session has them in memory): the store compresses them into segments and
/// may then drop the write-ahead batches that held them. From then on it serves the packed form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// The session.
    pub session: SessionId,
    /// They cover all events after the session's last packed one, up to and including the new last packed one.
    pub records: Vec<Record>,
}

/// What must hold for a [`DocumentWrite`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Write in any case.
    Any,
    /// Refuse when the key exists.
    Absent,
    /// Refuse unless the stored value is exactly this.
    Value(Bytes),
}

/// Puts or deletes one document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DocumentWrite {
    /// The family: `user`, `username`, `email`, `refresh`, …; `[a-z_]{1,24}`.
    pub family: &'static str,
    /// The key within the family, at most 256 bytes.
    pub key: String,
    /// The new value; `None` deletes.
    pub value: Option<Bytes>,
    /// The condition.
    pub expect: Expect,
}

/// One atomic write.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// New records.
    pub append: Option<Append>,
    /// Records to move to segments; applied after `append`.
    pub pack: Option<Pack>,
    /// The new listing of a session. Required before or with a session's first append.
    pub meta: Option<SessionMeta>,
    /// Marks the session of `append`, `pack` or `meta` as having unfinished work (a run, queued messages) or none.
    pub unfinished: Option<bool>,
    /// Deletes this session with everything about it, if it exists; goes with documents only.
    pub delete: Option<SessionId>,
    /// Documents, applied in order, all conditions checked against the state before this request.
    pub documents: Vec<DocumentWrite>,
}

/// Why one request was refused while the store itself is well.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The records do not follow what is stored: another writer was here, or this one is stale.
    #[error("session {session} expects seq {expected}, got {got}")]
    OutOfOrder {
        /// The session.
        session: SessionId,
        /// The seq that would have been taken.
        expected: Seq,
        /// The seq that came.
        got: Seq,
    },
    /// A document's condition did not hold.
    #[error("condition on {family} failed")]
    Condition {
        /// The family of the document.
        family: &'static str,
        /// Its key.
        key: String,
    },
    /// The session was never announced with a meta, or has been deleted.
    #[error("session {session} does not exist")]
    UnknownSession {
        /// The session.
        session: SessionId,
    },
    /// The request makes no sense, whatever is stored.
    #[error("malformed request: {what}")]
    Malformed {
        /// What is wrong with it.
        what: &'static str,
    },
}

/// Why the store could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// This request was refused; nothing of it was written.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk (or the network to the store) failed; nothing of the group counts.
    #[error("storage failed: {0}")]
    Io(String),
    /// Stored bytes fail their checksum or cannot be read.
    #[error("stored data is damaged at {at}: {what}")]
    Corrupt {
        /// Where.
        at: String,
        /// How.
        what: String,
    },
    /// Another process has the store open.
    #[error("the store at {path} is in use by another process")]
    Locked {
        /// The folder.
        path: String,
    },
    /// A newer version of Kronos wrote it.
    #[error("the store has schema version {found}, this version of kronos reads up to {supported}")]
    Newer {
        /// The stored version.
        found: u32,
        /// The newest this build can read.
        supported: u32,
    },
    /// More bytes wait for their commit than the configured bound.
    #[error("too many bytes wait for their commit")]
    Overloaded,
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
}

/// A session as read for its activation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredSession {
    /// Its listing.
    pub meta: SessionMeta,
    /// All its records, from seq 1, ascending, without gaps: the packed form, then what was appended since.
    pub records: Vec<Record>,
    /// The last record that lives in a segment; 0 when none does.
    pub packed_upto: Seq,
    /// The mark of [`Request::unfinished`].
    pub unfinished: bool,
}

/// Where a page of a listing ended: continue with the sessions after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPosition {
    /// `updated_at_ms` of the last one on the page.
    pub updated_at_ms: Millis,
    /// Its id.
    pub session: SessionId,
}

/// The log of every session, its listing, and the documents beside it. Blocking: called from threads of the store only.
pub trait SessionStore: Send + Sync + 'static {
    /// Makes a group of requests durable with one write.
    ///
    /// # Errors
    /// The outer error means that nothing of the group counts. The inner ones are per request, in order.
    fn commit(&self, group: &[Request]) -> Result<Vec<Result<(), Refusal>>, StoreError>;

    /// Reads a whole session, or `None` when it does not exist.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`].
    fn load(&self, session: &SessionId) -> Result<Option<StoredSession>, StoreError>;

    /// Reads records after `after`, ascending, at least one if there is any, stopping after `max_bytes` of payload.
    ///
    /// The first one covers `after + 1`: it begins before it when `after` lies within a merged record.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`].
    fn read(&self, session: &SessionId, after: Seq, max_bytes: usize) -> Result<Vec<Record>, StoreError>;

    /// Reads a session's listing.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`].
    fn meta(&self, session: &SessionId) -> Result<Option<SessionMeta>, StoreError>;

    /// Lists the listed sessions of `owner` (of everybody when `None`), newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`].
    fn list(
        &self,
        owner: Option<&UserId>,
        after: Option<&ListPosition>,
        limit: usize,
    ) -> Result<Vec<SessionMeta>, StoreError>;

    /// Lists the listed sessions of everybody the other way round: those that have not changed for longest first.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`].
    fn oldest(&self, after: Option<&ListPosition>, limit: usize) -> Result<Vec<SessionMeta>, StoreError>;

    /// Sessions marked as having unfinished work, found without reading their logs.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`].
    fn unfinished(&self) -> Result<Vec<SessionId>, StoreError>;

    /// Reads one document.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`].
    fn document(&self, family: &'static str, key: &str) -> Result<Option<Bytes>, StoreError>;

    /// Reads documents of a family whose keys start with `prefix`, in key order, after `after`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Io`], [`StoreError::Corrupt`].
    fn documents(
        &self,
        family: &'static str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Bytes)>, StoreError>;

    /// Bytes that the store takes on its medium, when it can say so.
    fn size_bytes(&self) -> Option<u64>;
}
