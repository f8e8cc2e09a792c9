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

/// The family of documents: key = user, a space, id of a token or a login (older ones: the id alone), value = [`Entry`].
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
pub(super) struct Revoked(RwLock<HashMap<String, Known>>);

#[derive(Debug)]
struct Known {
    expires_at_ms: Millis,
    /// Key of its document.
    key: String,
}

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
                let entry = serde_json::from_slice::<Entry>(&value);
                let expires_at_ms = entry.map_or(Millis::MAX, |entry| entry.expires_at_ms);
                let id = key.rsplit(' ').next().unwrap_or_default().to_owned();
                set.insert(id, Known { expires_at_ms, key });
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
    pub(super) fn add(&self, user: &str, id: &str, expires_at_ms: Millis) -> DocumentWrite {
        let key = super::family::key(user, id);
        let known = Known {
            expires_at_ms,
            key: key.clone(),
        };
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.to_owned(), known);
        let value = serde_json::to_vec(&Entry { expires_at_ms }).unwrap_or_default();
        DocumentWrite {
            family: FAMILY,
            key,
            value: Some(Bytes::from(value)),
            expect: Expect::Any,
        }
    }

    /// Forgets what has expired and returns the writes that delete it, one page at most.
    pub(super) fn sweep(&self, now: Millis) -> Vec<DocumentWrite> {
        let mut set = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<String> = set
            .iter()
            .filter(|(_, known)| known.expires_at_ms <= now)
            .map(|(id, _)| id.clone())
            .take(PAGE)
            .collect();
        let delete = |known: Known| DocumentWrite {
            family: FAMILY,
            key: known.key,
            value: None,
            expect: Expect::Any,
        };
        gone.iter().filter_map(|id| set.remove(id)).map(delete).collect()
    }
}
