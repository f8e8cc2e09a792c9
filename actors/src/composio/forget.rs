//! Forgetting a user who was deleted: their accounts at Composio go, and all that is known of them here. What is to be done
//! is written down first, so that it is done after an outage and after a crash too.
//!
//! Documents: `composio_forget` (by user).

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use kronos_protocol::ids::UserId;

use super::{
    accounts::{ACCOUNT, OWNED, PENDING, delete, owned_key, put, their_user},
    client::{Ask, Op},
    connect::AWAIT,
    failure::ComposioError,
    metrics::handles,
    outbox::OUTBOX,
    service::Service,
    wire::{self, Read},
};
use crate::store::{Expect, StoreError};

const FORGET: &str = "composio_forget";

/// Documents read at once.
const PAGE: usize = 200;
/// Pauses between attempts.
const PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

impl Service {
    /// Writes down that a user is to be forgotten, and begins.
    pub(super) async fn forget(&self, user: &UserId) -> Result<(), ComposioError> {
        let mark = put(FORGET, user.to_string(), Bytes::from_static(b"{}"), Expect::Any);
        self.commit(vec![mark]).await?;
        self.begin_to_forget(user);
        Ok(())
    }

    fn begin_to_forget(&self, user: &UserId) {
        if !self.forgetting.borrow_mut().insert(user.clone()) {
            return;
        }
        self.show_forgetting();
        let user = user.clone();
        self.spawn(|service| async move {
            let mut pause = PAUSE;
            loop {
                match service.forget_all(&user).await {
                    Ok(()) => break,
                    Err(error) => tracing::warn!(user.id = %user, %error, "accounts of a deleted user are left, tried again later"),
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            service.forgetting.borrow_mut().remove(&user);
            service.show_forgetting();
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge of a few")]
    fn show_forgetting(&self) {
        handles().forgets.set(self.forgetting.borrow().len() as f64);
    }

    async fn forget_all(&self, user: &UserId) -> Result<(), ComposioError> {
        let prefix = owned_key(user, "");
        let mut ids = BTreeSet::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.documents(OWNED, &prefix, after.as_deref(), PAGE).await?;
            after = page.last().map(|(key, _)| key.clone());
            let is_last = page.len() < PAGE;
            ids.extend(
                page.iter()
                    .filter_map(|(key, _)| key.strip_prefix(&prefix))
                    .map(str::to_owned),
            );
            if is_last {
                break;
            }
        }
        if self.shared.is_configured() {
            ids.extend(self.listed(user).await?);
            for id in &ids {
                self.delete_account(user, id).await?;
            }
        } else if !ids.is_empty() {
            // There will be a key again, or the project is gone.
            return Err(ComposioError::not_configured());
        }
        for id in ids {
            let nudge = id.clone();
            let before = self.stored(&id).await?.map(|stored| stored.record.status);
            self.commit(vec![
                delete(ACCOUNT, id.clone()),
                delete(OWNED, owned_key(user, &id)),
                delete(PENDING, id),
            ])
            .await?;
            self.recount(before, None);
            self.nudge(&nudge);
        }
        for family in [AWAIT, OUTBOX] {
            self.delete_all(family, &prefix).await?;
        }
        self.commit(vec![delete(FORGET, user.to_string())]).await?;
        self.connected.forget(user.as_str());
        tracing::info!(user.id = %user, "nothing of a deleted user is left at composio");
        Ok(())
    }

    /// The accounts that Composio lists for a user and nobody else has here.
    async fn listed(&self, user: &UserId) -> Result<Vec<String>, ComposioError> {
        let ask = Ask::get(Op::Accounts, "connected_accounts").with("user_ids", their_user(user));
        let listed = self
            .pages(Some(user), &ask, 100, |value| {
                let account = wire::account(value)?;
                // Without a word about whose it is, the filter is not believed: this deletes.
                let own = value.text("user_id").is_some_and(|theirs| theirs == their_user(user));
                own.then_some(account.id)
            })
            .await?;
        let mut own = Vec::new();
        for id in listed {
            if self.stored(&id).await?.is_none_or(|stored| stored.record.user == *user) {
                own.push(id);
            }
        }
        Ok(own)
    }

    async fn delete_all(&self, family: &'static str, prefix: &str) -> Result<(), StoreError> {
        loop {
            let page = self.store.documents(family, prefix, None, PAGE).await?;
            if page.is_empty() {
                return Ok(());
            }
            self.commit(page.into_iter().map(|(key, _)| delete(family, key)).collect())
                .await?;
        }
    }

    /// Goes on with what was left when the process ended.
    pub(super) async fn take_up_forgets(&self) {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.documents(FORGET, "", after.as_deref(), PAGE).await;
            let Ok(page) = page.inspect_err(|error| tracing::error!(%error, "users to forget cannot be read")) else {
                return;
            };
            after = page.last().map(|(key, _)| key.clone());
            let is_last = page.len() < PAGE;
            for (key, _) in page {
                if let Ok(user) = UserId::try_from(key) {
                    self.begin_to_forget(&user);
                }
            }
            if is_last {
                return;
            }
        }
    }
}
