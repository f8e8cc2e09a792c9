//! Sessions that failed too often: closed until somebody opens them, or a newer version does.
//!
//! Kept in the store, so that a restart does not begin the same failures again.

use std::collections::HashSet;

use bytes::Bytes;
use kronos_protocol::{error::ErrorCode, ids::SessionId};
use serde::{Deserialize, Serialize};

use super::{DirectoryRef, questions};
use crate::{
    clock::Millis,
    session::{message::SessionError, metrics},
    store::{DocumentWrite, Expect, Request, StoreError},
};

/// Family of the documents; the key is the session.
const FAMILY: &str = "parked";
/// Documents read at once.
const PAGE: usize = 256;
/// The version whose failures are remembered: another one may have mended them.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a session was parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// It panicked too often.
    Panics,
    /// It hung too often.
    Hangs,
}

#[derive(Debug, Serialize, Deserialize)]
struct Parked {
    version: String,
    reason: Reason,
    at_ms: Millis,
}

/// What a caller of a parked session is told.
pub(super) fn refusal() -> SessionError {
    SessionError::new(ErrorCode::Parked, "the conversation failed repeatedly and is closed")
}

fn write(session: &SessionId, value: Option<Bytes>) -> Request {
    Request {
        documents: vec![DocumentWrite {
            family: FAMILY,
            key: session.to_string(),
            value,
            expect: Expect::Any,
        }],
        ..Request::default()
    }
}

impl DirectoryRef {
    /// Reads which sessions are parked; those that another version of this program parked are opened again.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub async fn load_parked(&self) -> Result<usize, StoreError> {
        let mut parked = HashSet::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.node.store.documents(FAMILY, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                let Ok(session) = SessionId::try_from(key) else {
                    continue;
                };
                let ours = serde_json::from_slice::<Parked>(&value).is_ok_and(|parked| parked.version == VERSION);
                if ours {
                    parked.insert(session);
                } else {
                    self.node.store.commit(write(&session, None)).await?;
                    tracing::info!(session.id = %session, "a session that another version parked is open again");
                }
            }
        }
        let count = parked.len();
        self.node.parked(|all| *all = parked);
        Ok(count)
    }

    /// Whether a session is parked.
    pub fn is_parked(&self, session: &SessionId) -> bool {
        self.node.parked(|parked| parked.contains(session))
    }

    /// Opens a parked session again and takes up what it left unfinished. Returns whether it was parked.
    ///
    /// # Errors
    /// The store does not take the change: it stays parked.
    pub async fn unpark(&self, session: &SessionId) -> Result<bool, StoreError> {
        if !self.is_parked(session) {
            return Ok(false);
        }
        self.node.store.commit(write(session, None)).await?;
        self.node.parked(|parked| parked.remove(session));
        tracing::info!(session.id = %session, "session is unparked");
        if let Err(error) = self.resolve_stored(session).await {
            tracing::warn!(session.id = %session, %error, "an unparked session was not activated");
        }
        Ok(true)
    }
}

impl DirectoryRef {
    /// Deletes a parked session, which no actor holds.
    pub(crate) async fn discard_parked(&self, session: &SessionId) -> Result<(), SessionError> {
        let mut request = Request {
            delete: Some(session.clone()),
            ..write(session, None)
        };
        request.documents.push(questions::write(session, None));
        self.node.store.commit(request).await.map_err(|error| {
            tracing::warn!(session.id = %session, %error, "a parked session was not deleted");
            SessionError::new(ErrorCode::Storage, "the conversation's storage does not work now").after_ms(1000)
        })?;
        self.node.parked(|parked| parked.remove(session));
        self.node.questions.set(session, None);
        Ok(())
    }
}

impl super::node::Node {
    /// Takes a session out of service until [`DirectoryRef::unpark`].
    pub(super) fn park(&self, session: &SessionId, reason: Reason) {
        if !self.parked(|parked| parked.insert(session.clone())) {
            return;
        }
        tracing::error!(session.id = %session, reason = ?reason, "session failed too often and is parked");
        let parked = Parked {
            version: VERSION.to_owned(),
            reason,
            at_ms: self.clock.now_ms(),
        };
        let Ok(value) = serde_json::to_vec(&parked) else { return };
        let told = session.clone();
        self.store.submit(write(session, Some(value.into())), move |result| {
            if let Err(error) = result {
                tracing::warn!(session.id = %told, %error, "a parked session will be tried again after a restart");
            }
        });
    }

    /// Reads or changes the set of parked sessions; a change is shown by the gauge.
    pub(super) fn parked<T>(&self, with: impl FnOnce(&mut HashSet<SessionId>) -> T) -> T {
        let mut parked = self.parked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let result = with(&mut parked);
        #[expect(clippy::cast_precision_loss, reason = "a gauge of a few sessions")]
        metrics::handles().parked.set(parked.len() as f64);
        result
    }
}

/// Opens a parked session in a store that no server has open. Returns whether it was parked.
///
/// # Errors
/// The store cannot be read or written.
pub async fn unpark_stored(store: &crate::store::service::StoreRef, session: &SessionId) -> Result<bool, StoreError> {
    let parked = store.document(FAMILY, session.as_str()).await?.is_some();
    if parked {
        store.commit(write(session, None)).await?;
    }
    Ok(parked)
}
