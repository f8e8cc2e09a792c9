//! Deleting a user with everything that is theirs.
//!
//! One write takes the user and its names away and leaves a mark (family [`REMOVED`]): from then on no token of theirs works
//! and nothing new is made for them. The rest is done page by page; what a crash interrupts goes on after the next start. The
//! mark stays for a while, until nobody can come with something that was begun before.

use std::time::Duration;

use kronos_actors::{
    clock::Millis,
    erasure, metrics as names,
    principal::REMOVED,
    store::{Expect, Refusal, StoreError},
    tools::memory,
};
use kronos_protocol::ids::UserId;
use serde::{Deserialize, Serialize};

use super::{
    Accounts,
    family::{self, PAGE},
    records::{Records, encode, failed, write},
    revoked,
};
use crate::edge::error::ApiError;

/// How long the answer to a deletion waits for the end of it; it goes on in any case.
const WAIT: Duration = Duration::from_secs(15);

/// How long the mark of a deleted user stays when its tokens are of this server: longer than any of them, or any request.
const KEPT_MS: Millis = 7 * 86_400_000;

/// How often a change of the user at the same time is overtaken.
const TRIES: u32 = 16;

/// The mark of a deleted user.
#[derive(Debug, Serialize, Deserialize)]
struct Removal {
    at_ms: Millis,
    /// When nothing of the user was left; absent: there is work to do.
    done_ms: Option<Millis>,
}

impl Accounts {
    /// Deletes a user. Durable when it returns; what is theirs is gone then, too, or soon.
    pub(in crate::edge) async fn remove_user(&self, id: &UserId) -> Result<(), ApiError> {
        self.mark_removed(id).await?;
        metrics::counter!(names::USERS_DELETED).increment(1);
        self.0.ended.deleted(id, self.0.clock.now_ms());
        self.0.tickets.end(id);
        self.close_all_of(id, None);
        tracing::info!(user.id = %id, "user is deleted");
        let (accounts, id) = (self.clone(), id.clone());
        let work = actix_web::rt::spawn(async move { accounts.finish_removal(&id).await });
        if tokio::time::timeout(WAIT, work).await.is_err() {
            tracing::info!("the deletion of a user goes on");
        }
        Ok(())
    }

    /// The first write: the user is gone, and marked.
    async fn mark_removed(&self, id: &UserId) -> Result<(), ApiError> {
        let fail = |cause| failed("delete_user", cause);
        for _ in 0..TRIES {
            let found = self.0.records.get(id.as_str()).await.map_err(fail)?;
            let record = found.ok_or_else(|| ApiError::not_found("User", id.as_str()))?;
            let mut documents = Records::removal(&record);
            let removal = Removal {
                at_ms: self.0.clock.now_ms(),
                done_ms: None,
            };
            documents.push(write(REMOVED, id.to_string(), Some(encode(&removal)?), Expect::Any));
            match self.0.records.commit(documents).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Refused(Refusal::Condition { .. })) => {}
                Err(cause) => return Err(fail(cause)),
            }
        }
        Err(fail(StoreError::Overloaded))
    }

    /// Deletes what is left of a user, then notes that nothing is.
    async fn finish_removal(&self, id: &UserId) -> bool {
        let left = match self.erase(id).await {
            Ok(sessions) => {
                tracing::info!(user.id = %id, sessions, "nothing of a deleted user is left");
                return true;
            }
            Err(left) => left,
        };
        tracing::warn!(user.id = %id, error = %left, "a deleted user is not gone altogether, tried again later");
        false
    }

    async fn erase(&self, id: &UserId) -> Result<usize, Box<dyn std::error::Error>> {
        for documents in [family::FAMILY, revoked::FAMILY, memory::FAMILY, memory::TURN] {
            self.delete_all(documents, &family::key(id.as_str(), "")).await?;
        }
        // Noted before anything else is over; what Composio has of them goes as soon as it can be asked.
        self.0.composio.forget(id).await?;
        let sessions = erasure::erase(&self.0.directory, &self.0.store, id).await?;
        let now = self.0.clock.now_ms();
        let done = Removal {
            at_ms: now,
            done_ms: Some(now),
        };
        let mark = write(REMOVED, id.to_string(), Some(encode(&done)?), Expect::Any);
        self.0.records.commit(vec![mark]).await?;
        Ok(sessions)
    }

    /// Deletes the documents of a family whose keys begin with `prefix`.
    async fn delete_all(&self, family: &'static str, prefix: &str) -> Result<(), StoreError> {
        loop {
            let page = self.0.store.documents(family, prefix, None, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            let delete = |(key, _)| write(family, key, None, Expect::Any);
            self.0.records.commit(page.into_iter().map(delete).collect()).await?;
        }
    }

    /// Goes on with deletions that a crash or a failure interrupted. Once sessions can be found.
    pub(crate) async fn resume_removals(&self) {
        let marks = match self.marks().await {
            Ok(marks) => marks,
            Err(error) => {
                tracing::error!(%error, "deleted users cannot be read");
                return;
            }
        };
        let unfinished: Vec<_> = marks.into_iter().filter(|(_, mark)| mark.done_ms.is_none()).collect();
        let mut left = unfinished.len();
        for (id, _) in unfinished {
            gauge(left);
            if self.finish_removal(&id).await {
                left -= 1;
            }
        }
        gauge(left);
    }

    /// Forgets users who were deleted long ago. Those of an outside provider are remembered: a token of any age may come.
    pub(super) async fn sweep_deleted(&self, now: Millis) {
        if self.0.directory.cores() > 0 {
            self.resume_removals().await;
        }
        if self.0.outside.is_some() {
            return;
        }
        let marks = self.marks().await.unwrap_or_default();
        let old = |mark: &Removal| mark.done_ms.is_some_and(|done| now.saturating_sub(done) > KEPT_MS);
        let gone: Vec<_> = marks
            .into_iter()
            .filter(|(_, mark)| old(mark))
            .map(|(id, _)| write(REMOVED, id.to_string(), None, Expect::Any))
            .collect();
        if !gone.is_empty()
            && let Err(error) = self.0.records.commit(gone).await
        {
            tracing::warn!(%error, "marks of deleted users not forgotten");
        }
    }

    async fn marks(&self) -> Result<Vec<(UserId, Removal)>, StoreError> {
        let mut marks = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.0.store.documents(REMOVED, "", after.as_deref(), PAGE).await?;
            after = page.last().map(|(key, _)| key.clone());
            let is_last = page.len() < PAGE;
            marks.extend(page.into_iter().filter_map(|(key, value)| {
                let id = UserId::try_from(key).ok()?;
                // One that cannot be read is done again: that harms nobody.
                let mark = serde_json::from_slice(&value).unwrap_or(Removal {
                    at_ms: 0,
                    done_ms: None,
                });
                Some((id, mark))
            }));
            if is_last {
                return Ok(marks);
            }
        }
    }
}

fn gauge(left: usize) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge of a few")]
    metrics::gauge!(names::DELETIONS_UNFINISHED).set(left as f64);
}
