//! Erasure: everything that belongs to a user who was deleted goes, conversations first, the feed last.
//!
//! The user is marked as deleted in the store before ([`crate::principal::REMOVED`]), so that nothing new is made meanwhile:
//! what the listing does not show afterwards does not exist. It may be begun again at any time, after a crash too.

use std::{collections::HashSet, sync::Arc, time::Duration};

use kronos_protocol::{
    error::ErrorCode,
    ids::{SessionId, UserId},
};

use crate::{
    directory::DirectoryRef,
    principal::Principal,
    session::{
        message::{SessionCommand, SessionError},
        reader,
    },
    store::{StoreError, service::StoreRef},
};

/// Listings read at once.
const PAGE: usize = 128;
/// How often a session that restarts is asked again.
const TRIES: u32 = 5;
/// Pause before it is.
const PAUSE: Duration = Duration::from_millis(100);

/// Why something is left.
#[derive(Debug, thiserror::Error)]
pub enum ErasureError {
    /// The listing cannot be read.
    #[error("the listing cannot be read")]
    Store(#[from] StoreError),
    /// Some sessions could not be deleted.
    #[error("{left} sessions could not be deleted")]
    Left {
        /// How many.
        left: usize,
        /// Why the last of them was not.
        #[source]
        cause: SessionError,
    },
}

/// Deletes every session of `user`; returns how many there were. Runs are stopped, whoever is attached is told.
///
/// # Errors
/// [`ErasureError`]; what could be deleted is.
pub async fn erase(directory: &DirectoryRef, store: &StoreRef, user: &UserId) -> Result<usize, ErasureError> {
    let caller = Arc::new(Principal {
        user: user.clone(),
        name: None,
        superuser: true,
        login: None,
        expires_at_ms: None,
    });
    let mut erased = 0;
    let mut failed: HashSet<SessionId> = HashSet::new();
    let mut last = None;
    loop {
        // What is deleted leaves the listing: the next page is always the first one, less what could not be deleted.
        let page = store.list(Some(user), None, PAGE + failed.len()).await?;
        let fresh: Vec<_> = page
            .into_iter()
            .filter(|meta| !failed.contains(&meta.session))
            .collect();
        if fresh.is_empty() {
            break;
        }
        for meta in fresh {
            match erase_one(directory, &caller, &meta.session).await {
                Ok(()) => erased += 1,
                Err(error) => {
                    failed.insert(meta.session);
                    last = Some(error);
                }
            }
        }
    }
    if let Err(error) = erase_feed(directory, &caller).await {
        last = Some(error);
    }
    match last {
        None => Ok(erased),
        Some(cause) => Err(ErasureError::Left {
            left: failed.len().max(1),
            cause,
        }),
    }
}

async fn erase_feed(directory: &DirectoryRef, caller: &Arc<Principal>) -> Result<(), SessionError> {
    match DirectoryRef::feed_of(&caller.user) {
        Some(feed) => erase_one(directory, caller, &feed).await,
        None => Ok(()),
    }
}

/// Deletes one session through its actor, or without it when it is parked.
async fn erase_one(directory: &DirectoryRef, caller: &Arc<Principal>, session: &SessionId) -> Result<(), SessionError> {
    let mut tries = 0;
    loop {
        let result = ask(directory, caller, session).await;
        match result {
            Err(error) if error.code == ErrorCode::NotFound => return Ok(()),
            Err(error) if error.code == ErrorCode::Parked => return directory.discard_parked(session).await,
            Err(error) if tries < TRIES && (error.closed || error.after_ms.is_some()) => {
                tries += 1;
                actix::clock::sleep(PAUSE).await;
            }
            result => return result,
        }
    }
}

async fn ask(directory: &DirectoryRef, caller: &Arc<Principal>, session: &SessionId) -> Result<(), SessionError> {
    let found = directory.resolve_stored(session).await?;
    reader::ask(&found, caller, SessionCommand::Erase).await.map(drop)
}
