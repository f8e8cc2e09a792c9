//! What users asked to be remembered: notes that later conversations see.
//!
//! Each is a document ([`FAMILY`], keyed by user and id), so that it goes when the user asks for it or is deleted. A note is added
//! only while nothing else was added since its user's notes were counted ([`TURN`]): no more of them can be made than are
//! allowed, and a retried key makes one note.

use bytes::Bytes;
use kronos_protocol::ids::{MemoryId, SessionId, UserId};
use serde::{Deserialize, Serialize};

use crate::{
    clock::{Clock, Millis},
    config::ToolsConfig,
    ids, metrics,
    principal::REMOVED,
    store::{DocumentWrite, Expect, Refusal, Request, StoreError, service::StoreRef},
};

/// The family of notes: key = user, a space, id; value = JSON of `Stored`.
pub const FAMILY: &str = "memory";
/// The family of the marks of the last note that was added: key = user, a space; value = its id.
pub const TURN: &str = "memory_turn";

/// Documents read or deleted at once.
const PAGE: usize = 256;
/// How often an addition is overtaken by others of the same user before it is refused.
const TRIES: u32 = 16;
/// Characters of notes that a run begins with: the newest.
const OFFERED_CHARS: usize = 16_000;

/// A note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Its id: newer ones sort after older ones.
    pub id: MemoryId,
    /// What is to be remembered.
    pub text: String,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at_ms: Millis,
    /// The conversation in which it was made; `None`: none, the user wrote it down.
    pub session: Option<SessionId>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    text: String,
    created_at_ms: Millis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    /// The key of the call that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// A note to make.
#[derive(Debug, Clone)]
pub struct NewMemory {
    /// What is to be remembered.
    pub text: String,
    /// The conversation in which it is made.
    pub session: Option<SessionId>,
    /// Unique for each note: the same key makes no second one.
    pub key: Option<String>,
}

/// Why a note was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoryError {
    /// The text is empty.
    #[error("there is nothing to remember in an empty text")]
    Empty,
    /// The text is too long.
    #[error("a note has at most {limit} characters, this one has {length}")]
    TooLong {
        /// The bound.
        limit: usize,
        /// What came.
        length: usize,
    },
    /// The user has as many notes as are allowed.
    #[error("{limit} notes are remembered, no more are: forget some first")]
    Full {
        /// The bound.
        limit: usize,
    },
    /// The user was deleted.
    #[error("the user is gone")]
    UserGone,
    /// The store failed.
    #[error("notes cannot be stored or read now")]
    Store(#[from] StoreError),
}

/// The notes of all users.
#[derive(Debug, Clone)]
pub struct Memories {
    store: StoreRef,
    clock: Clock,
    most: usize,
    most_chars: usize,
}

impl Memories {
    /// Notes in this store.
    #[must_use]
    pub fn new(store: StoreRef, clock: Clock, config: &ToolsConfig) -> Self {
        Self {
            store,
            clock,
            most: config.memories,
            most_chars: config.memory_chars,
        }
    }

    /// Adds a note; durable when it returns. With a key that made one already, returns that one.
    ///
    /// # Errors
    /// Any [`MemoryError`].
    pub async fn add(&self, user: &UserId, new: NewMemory) -> Result<Memory, MemoryError> {
        let text = self.bounded(new.text)?;
        let stored = Stored {
            text,
            created_at_ms: self.clock.now_ms(),
            session: new.session,
            key: new.key,
        };
        let mut tries = 0;
        loop {
            // Before the notes: who adds one after they are read changes it.
            let turn = self.store.document(TURN, &key(user, "")).await?;
            let known = self.stored(user, None, self.most).await?;
            let made = known
                .iter()
                .find(|(_, known)| known.key.is_some() && known.key == stored.key);
            if let Some((id, made)) = made {
                return Ok(memory(id.clone(), made));
            }
            if known.len() >= self.most {
                metrics::refused("memories");
                return Err(MemoryError::Full { limit: self.most });
            }
            let id = ids::memory();
            match self.store.commit(addition(user, &id, &stored, turn)?).await {
                Ok(()) => return Ok(memory(id, &stored)),
                Err(StoreError::Refused(Refusal::Condition { family, .. })) if family == REMOVED => {
                    return Err(MemoryError::UserGone);
                }
                Err(StoreError::Refused(Refusal::Condition { .. })) if tries < TRIES => tries += 1,
                Err(StoreError::Refused(Refusal::Condition { .. })) => return Err(StoreError::Overloaded.into()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn bounded(&self, text: String) -> Result<String, MemoryError> {
        let length = text.chars().count();
        if text.is_empty() {
            return Err(MemoryError::Empty);
        }
        if length > self.most_chars {
            metrics::refused("memory_chars");
            let limit = self.most_chars;
            return Err(MemoryError::TooLong { limit, length });
        }
        Ok(text)
    }

    /// Lists notes of a user, oldest first, after `after`, at most `limit`.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn list(&self, user: &UserId, after: Option<&MemoryId>, limit: usize) -> Result<Vec<Memory>, StoreError> {
        let found = self.stored(user, after, limit).await?;
        Ok(found.into_iter().map(|(id, stored)| memory(id, &stored)).collect())
    }

    /// The notes of a user that contain a text, whatever its case, or all; oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn find(&self, user: &UserId, query: Option<&str>) -> Result<Vec<Memory>, StoreError> {
        let mut found = self.list(user, None, self.most).await?;
        if let Some(query) = query {
            let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
            found.retain(|memory| {
                let text = memory.text.to_lowercase();
                words.iter().all(|word| text.contains(word))
            });
        }
        Ok(found)
    }

    /// What a run begins with: the texts of the newest notes that fit, oldest first.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn notes(&self, user: &UserId) -> Result<Vec<String>, StoreError> {
        let mut left = OFFERED_CHARS;
        let mut notes = Vec::new();
        for memory in self.list(user, None, self.most).await?.into_iter().rev() {
            let Some(rest) = left.checked_sub(memory.text.chars().count()) else {
                break;
            };
            left = rest;
            notes.push(memory.text);
        }
        notes.reverse();
        Ok(notes)
    }

    /// Deletes a note; false: there is no such note of this user.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn forget(&self, user: &UserId, id: &MemoryId) -> Result<bool, StoreError> {
        let key = key(user, id.as_str());
        let there = self.store.document(FAMILY, &key).await?.is_some();
        if there {
            self.store.commit(deletions(vec![(FAMILY, key)])).await?;
        }
        Ok(there)
    }

    /// Deletes all notes of a user.
    ///
    /// # Errors
    /// Those of the store.
    pub async fn forget_all(&self, user: &UserId) -> Result<(), StoreError> {
        loop {
            let page = self.store.documents(FAMILY, &key(user, ""), None, PAGE).await?;
            let is_last = page.len() < PAGE;
            let mut gone: Vec<_> = page.into_iter().map(|(key, _)| (FAMILY, key)).collect();
            if is_last {
                gone.push((TURN, key(user, "")));
            }
            self.store.commit(deletions(gone)).await?;
            if is_last {
                return Ok(());
            }
        }
    }

    async fn stored(
        &self,
        user: &UserId,
        after: Option<&MemoryId>,
        limit: usize,
    ) -> Result<Vec<(MemoryId, Stored)>, StoreError> {
        let prefix = key(user, "");
        let after = after.map(|after| key(user, after.as_str()));
        let found = self.store.documents(FAMILY, &prefix, after.as_deref(), limit).await?;
        let read = |(key, value): (String, Bytes)| {
            let id = key.strip_prefix(&prefix)?;
            let stored = serde_json::from_slice(&value);
            let stored = stored.inspect_err(|error| tracing::error!(%error, "a note cannot be read"));
            Some((MemoryId::try_from(id).ok()?, stored.ok()?))
        };
        Ok(found.into_iter().filter_map(read).collect())
    }
}

/// The key of what belongs to a user: no id has a space, so that no user's keys begin with another's.
fn key(user: &UserId, id: &str) -> String {
    format!("{user} {id}")
}

fn memory(id: MemoryId, stored: &Stored) -> Memory {
    Memory {
        id,
        text: stored.text.clone(),
        created_at_ms: stored.created_at_ms,
        session: stored.session.clone(),
    }
}

fn addition(user: &UserId, id: &MemoryId, stored: &Stored, turn: Option<Bytes>) -> Result<Request, StoreError> {
    let value = serde_json::to_vec(stored).map_err(|error| StoreError::Io(error.to_string()))?;
    let put = |family, key, value: Vec<u8>, expect| DocumentWrite {
        family,
        key,
        value: Some(value.into()),
        expect,
    };
    let documents = vec![
        // Nothing is made for a user who was deleted.
        DocumentWrite {
            family: REMOVED,
            key: user.to_string(),
            value: None,
            expect: Expect::Absent,
        },
        put(
            TURN,
            key(user, ""),
            id.as_str().as_bytes().to_vec(),
            turn.map_or(Expect::Absent, Expect::Value),
        ),
        put(FAMILY, key(user, id.as_str()), value, Expect::Absent),
    ];
    Ok(Request {
        documents,
        ..Request::default()
    })
}

fn deletions(keys: Vec<(&'static str, String)>) -> Request {
    let delete = |(family, key)| DocumentWrite {
        family,
        key,
        value: None,
        expect: Expect::Any,
    };
    Request {
        documents: keys.into_iter().map(delete).collect(),
        ..Request::default()
    }
}
