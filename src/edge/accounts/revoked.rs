//! Tokens and token families that are refused before their time. In memory for every check, in the store for restarts.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use bytes::Bytes;
use kronos_actors::{
    clock::Millis,
    store::{DocumentWrite, Expect, StoreError, service::StoreRef},
};
use serde::{Deserialize, Serialize};

/// The family of documents: key = id of a token or a family, value = [`Entry`].
pub(super) const FAMILY: &str = "revoked";

/// Documents read or deleted at once.
const PAGE: usize = 500;

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    /// When nothing that it refuses can be valid any more.
    expires_at_ms: Millis,
}

/// The set.
#[derive(Debug, Default)]
pub(super) struct Revoked(RwLock<HashMap<String, Millis>>);

impl Revoked {
    /// Reads the set from the store.
    pub(super) async fn load(store: &StoreRef) -> Result<Self, StoreError> {
        let mut set = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = store.documents(FAMILY, "", after.as_deref(), PAGE).await?;
            after = page.last().map(|(key, _)| key.clone());
            let full = page.len() == PAGE;
            for (key, value) in page {
                let expires = serde_json::from_slice::<Entry>(&value).map_or(Millis::MAX, |entry| entry.expires_at_ms);
                set.insert(key, expires);
            }
            if !full {
                return Ok(Self(RwLock::new(set)));
            }
        }
    }

    /// Whether a token or family id is refused.
    pub(super) fn contains(&self, id: &str) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    /// Refuses an id from now on in this process, and returns the write that makes it last.
    pub(super) fn add(&self, id: &str, expires_at_ms: Millis) -> DocumentWrite {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned(), expires_at_ms);
        let value = serde_json::to_vec(&Entry { expires_at_ms }).unwrap_or_default();
        DocumentWrite {
            family: FAMILY,
            key: id.to_owned(),
            value: Some(Bytes::from(value)),
            expect: Expect::Any,
        }
    }

    /// Forgets what has expired and returns the writes that delete it, one page at most.
    pub(super) fn sweep(&self, now: Millis) -> Vec<DocumentWrite> {
        let mut set = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<String> = set
            .iter()
            .filter(|(_, expires)| **expires <= now)
            .map(|(id, _)| id.clone())
            .take(PAGE)
            .collect();
        let delete = |id: &String| {
            set.remove(id);
            DocumentWrite {
                family: FAMILY,
                key: id.clone(),
                value: None,
                expect: Expect::Any,
            }
        };
        gone.iter().map(delete).collect()
    }
}
