//! Sessions that are out of service: those that failed too often, until somebody opens them or a newer version does; and those
//! that an operator closed, until an operator opens them.
//!
//! Kept in the store, so that a restart does not begin the same failures again.

use std::collections::{HashMap, hash_map::Entry};

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
pub enum Reason {
    /// It panicked too often.
    Panics,
    /// It hung too often.
    Hangs,
    /// An operator wanted it. No other version of this program opens it.
    Operator,
}

impl Reason {
    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Panics => "panics",
            Self::Hangs => "hangs",
            Self::Operator => "operator",
        }
    }
}

/// Why and since when a session is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parking {
    /// Why.
    pub reason: Reason,
    /// Since when.
    pub at_ms: Millis,
}

#[derive(Debug, Serialize, Deserialize)]
struct Parked {
    version: String,
    reason: Reason,
    at_ms: Millis,
}

impl Parked {
    fn write(session: &SessionId, parking: Parking) -> Result<Request, serde_json::Error> {
        let parked = Self {
            version: VERSION.to_owned(),
            reason: parking.reason,
            at_ms: parking.at_ms,
        };
        Ok(write(session, Some(serde_json::to_vec(&parked)?.into())))
    }

    /// Whether this version leaves it parked: what another one failed at may be mended.
    fn stays(&self) -> bool {
        self.version == VERSION || self.reason == Reason::Operator
    }
}

/// What a caller of a parked session is told.
pub(super) fn refusal(reason: Reason) -> SessionError {
    let text = match reason {
        Reason::Panics | Reason::Hangs => "the conversation failed repeatedly and is closed",
        Reason::Operator => "an operator has closed the conversation",
    };
    SessionError::new(ErrorCode::Parked, text).with_details(serde_json::json!({"reason": reason}))
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
        let mut parked = HashMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.node.store.documents(FAMILY, "", after.as_deref(), PAGE).await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in page {
                let Ok(session) = SessionId::try_from(key) else {
                    continue;
                };
                match serde_json::from_slice::<Parked>(&value) {
                    Ok(found) if found.stays() => {
                        let Parked { reason, at_ms, .. } = found;
                        parked.insert(session, Parking { reason, at_ms });
                    }
                    _ => {
                        self.node.store.commit(write(&session, None)).await?;
                        tracing::info!(session.id = %session, "a session that another version parked is open again");
                    }
                }
            }
        }
        let count = parked.len();
        self.node.parked(|all| *all = parked);
        Ok(count)
    }

    /// Whether a session is parked.
    pub fn is_parked(&self, session: &SessionId) -> bool {
        self.parking(session).is_some()
    }

    /// Why and since when a session is parked, if it is.
    #[must_use]
    pub fn parking(&self, session: &SessionId) -> Option<Parking> {
        self.node.parked(|parked| parked.get(session).copied())
    }

    /// Notes durably that an operator wants a session out of service. Returns whether it was in service.
    ///
    /// # Errors
    /// The store does not take it: nothing changed.
    pub(super) async fn note_parked(&self, session: &SessionId) -> Result<bool, StoreError> {
        let parking = Parking {
            reason: Reason::Operator,
            at_ms: self.node.clock.now_ms(),
        };
        let before = self.parking(session);
        if before.is_some_and(|before| before.reason == Reason::Operator) {
            return Ok(false);
        }
        let request = Parked::write(session, parking).map_err(|error| StoreError::Io(error.to_string()))?;
        self.node.store.commit(request).await?;
        self.node.parked(|parked| parked.insert(session.clone(), parking));
        Ok(before.is_none())
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
        let parking = Parking {
            reason,
            at_ms: self.clock.now_ms(),
        };
        let known = self.parked(|parked| match parked.entry(session.clone()) {
            Entry::Occupied(_) => true,
            Entry::Vacant(place) => {
                place.insert(parking);
                false
            }
        });
        if known {
            return;
        }
        tracing::error!(session.id = %session, reason = ?reason, "session failed too often and is parked");
        let Ok(request) = Parked::write(session, parking) else {
            return;
        };
        let told = session.clone();
        self.store.submit(request, move |result| {
            if let Err(error) = result {
                tracing::warn!(session.id = %told, %error, "a parked session will be tried again after a restart");
            }
        });
    }

    /// Reads or changes the set of parked sessions; a change is shown by the gauge.
    pub(super) fn parked<T>(&self, with: impl FnOnce(&mut HashMap<SessionId, Parking>) -> T) -> T {
        let mut parked = self.parked.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let result = with(&mut parked);
        #[expect(clippy::cast_precision_loss, reason = "a gauge of a few sessions")]
        metrics::handles().parked.set(parked.len() as f64);
        result
    }
}

/// Takes a session out of service in a store that no server has open. Returns whether it was in service; `None` when there is
/// none.
///
/// # Errors
/// The store cannot be read or written.
pub async fn park_stored(
    store: &crate::store::service::StoreRef,
    session: &SessionId,
    at_ms: Millis,
) -> Result<Option<bool>, StoreError> {
    if store.meta(session).await?.is_none() {
        return Ok(None);
    }
    let known = store.document(FAMILY, session.as_str()).await?;
    let parking = Parking {
        reason: Reason::Operator,
        at_ms,
    };
    let request = Parked::write(session, parking).map_err(|error| StoreError::Io(error.to_string()))?;
    store.commit(request).await?;
    Ok(Some(known.is_none()))
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
