//! Accounts, and who they belong to.
//!
//! Composio's answers may say whose an account is, or not: what counts is the table of this server, written when a
//! connection is made. An account that was made elsewhere is taken in when Composio lists it among the user's own. Documents:
//! `composio_account` (by id), `composio_owned` (key = user, a space, id: what a user has), `composio_pending` (by id, while it
//! is being made).

use std::{collections::HashMap, rc::Rc};

use bytes::Bytes;
use futures_util::FutureExt;
use kronos_protocol::ids::UserId;
use reqwest::Method;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    client::{self, Ask, Op},
    failure::{ComposioError, ComposioErrorKind},
    metrics, outbox,
    service::Service,
    wire::{self, Account, AccountStatus, Read},
};
use crate::{
    clock::Millis,
    principal::REMOVED,
    store::{DocumentWrite, Expect, Refusal, Request, StoreError, service::StoreRef},
    tools::Link,
};

pub(super) const ACCOUNT: &str = "composio_account";
pub(super) const OWNED: &str = "composio_owned";
pub(super) const PENDING: &str = "composio_pending";

/// Accounts asked for with one request.
const PAGE: usize = 100;
/// Accounts read at once when they are counted.
const COUNTED_PAGE: usize = 1000;
/// How often a change at the same time is overtaken.
const TRIES: u32 = 16;

/// What is stored about an account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Whose it is.
    pub(super) user: UserId,
    pub(super) toolkit: String,
    pub(super) auth_config: Option<String>,
    /// As it was last seen.
    pub(super) status: AccountStatus,
    /// When it was made or taken in.
    pub(super) since_ms: Millis,
    /// Changes of the status that were seen.
    pub(super) changes: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) labels: Vec<String>,
    /// Where the client that began it wants the browser.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) redirect: Option<String>,
}

/// What of a record counts.
#[derive(Deserialize)]
struct Counted {
    status: AccountStatus,
}

/// A record, and the bytes that it was read from.
pub(super) struct Stored {
    pub(super) bytes: Bytes,
    pub(super) record: Record,
}

/// The user as Composio knows them: a list of users is separated by commas, and an id may hold one.
pub(super) fn their_user(user: &UserId) -> String {
    user.as_str().replace('%', "%25").replace(',', "%2C")
}

/// The key of what belongs to a user: no id has a space, so no user's keys begin with another's.
pub(super) fn owned_key(user: &UserId, id: &str) -> String {
    format!("{user} {id}")
}

pub(super) fn put(family: &'static str, key: String, value: Bytes, expect: Expect) -> DocumentWrite {
    DocumentWrite {
        family,
        key,
        value: Some(value),
        expect,
    }
}

pub(super) fn delete(family: &'static str, key: String) -> DocumentWrite {
    DocumentWrite {
        family,
        key,
        value: None,
        expect: Expect::Any,
    }
}

/// Nothing is made for a user who was deleted: fails with a condition on [`REMOVED`].
pub(super) fn unless_removed(user: &UserId) -> DocumentWrite {
    DocumentWrite {
        family: REMOVED,
        key: user.to_string(),
        value: None,
        expect: Expect::Absent,
    }
}

pub(super) fn encode(value: &impl Serialize) -> Result<Bytes, ComposioError> {
    let bytes = serde_json::to_vec(value).map_err(|_not_json| ComposioError::internal())?;
    Ok(bytes.into())
}

/// Makes the documents of a new account.
pub(super) fn making(id: &str, record: &Record) -> Result<Vec<DocumentWrite>, ComposioError> {
    Ok(vec![
        unless_removed(&record.user),
        put(ACCOUNT, id.to_owned(), encode(record)?, Expect::Absent),
        put(
            OWNED,
            owned_key(&record.user, id),
            Bytes::from_static(b"{}"),
            Expect::Any,
        ),
    ])
}

/// What the service says to a user who was deleted, and to a store that failed.
pub(super) fn refused(error: StoreError) -> ComposioError {
    match error {
        StoreError::Refused(Refusal::Condition { family: REMOVED, .. }) => {
            ComposioError::new(ComposioErrorKind::Removed, "The user was deleted")
        }
        error => error.into(),
    }
}

/// Shows how many accounts the table has; false when it cannot be read. Once: from then on each durable change counts, and
/// nothing is kept in memory but the gauges.
pub(super) async fn count(store: &StoreRef) -> bool {
    let mut counts: HashMap<AccountStatus, f64> = AccountStatus::ALL.into_iter().map(|status| (status, 0.0)).collect();
    let mut after: Option<String> = None;
    loop {
        let page = store.documents(ACCOUNT, "", after.as_deref(), COUNTED_PAGE).await;
        let Ok(page) = page.inspect_err(|error| tracing::error!(%error, "accounts cannot be counted")) else {
            return false;
        };
        after = page.last().map(|(key, _)| key.clone());
        for (_, bytes) in &page {
            if let Ok(record) = serde_json::from_slice::<Counted>(bytes) {
                *counts.entry(record.status).or_default() += 1.0;
            }
        }
        if page.len() < COUNTED_PAGE {
            break;
        }
    }
    for (status, count) in counts {
        metrics::accounts(status).set(count);
    }
    true
}

impl Service {
    pub(super) async fn commit(&self, documents: Vec<DocumentWrite>) -> Result<(), StoreError> {
        let request = Request {
            documents,
            ..Request::default()
        };
        self.store.commit(request).await
    }

    /// Reads what is stored about an account. One that cannot be read is nobody's.
    pub(super) async fn stored(&self, id: &str) -> Result<Option<Stored>, ComposioError> {
        let Some(bytes) = self.store.document(ACCOUNT, id).await? else {
            return Ok(None);
        };
        let record = serde_json::from_slice(&bytes).map_err(|error| {
            tracing::error!(account = id, %error, "an account's record cannot be read");
            ComposioError::new(ComposioErrorKind::Store, "The database failed")
        })?;
        Ok(Some(Stored { bytes, record }))
    }

    /// An account that was as `before` is as `after` now; `None`: it is not in the table.
    pub(super) fn recount(&self, before: Option<AccountStatus>, after: Option<AccountStatus>) {
        if !self.counted.get() {
            return;
        }
        if let Some(before) = before {
            metrics::accounts(before).decrement(1.0);
        }
        if let Some(after) = after {
            metrics::accounts(after).increment(1.0);
        }
    }

    /// Notes how an account was seen; a change is told in the feed, once. Returns what is stored now; `None`: the account is
    /// not in the table.
    pub(super) async fn note(
        &self,
        id: &str,
        status: AccountStatus,
        reason: Option<&str>,
    ) -> Result<Option<Record>, ComposioError> {
        for _ in 0..TRIES {
            let Some(Stored { bytes, mut record }) = self.stored(id).await? else {
                return Ok(None);
            };
            let same = record.status == status || (record.status.is_pending() && status.is_pending());
            if same || status == AccountStatus::Unknown {
                return Ok(Some(record));
            }
            let before = std::mem::replace(&mut record.status, status);
            record.changes += 1;
            let told = outbox::connection_changed(id, &record, reason);
            let mut documents = vec![put(ACCOUNT, id.to_owned(), encode(&record)?, Expect::Value(bytes))];
            documents.push(self.to_tell(&record.user, &told)?);
            if status == AccountStatus::Deleted {
                documents.truncate(1);
                documents.push(self.to_tell(&record.user, &told)?);
                if let Some(write) = documents.first_mut() {
                    write.value = None;
                }
                documents.push(delete(OWNED, owned_key(&record.user, id)));
            }
            if !status.is_pending() {
                documents.push(delete(PENDING, id.to_owned()));
            }
            match self.commit(documents).await {
                Ok(()) => {
                    let after = (status != AccountStatus::Deleted).then_some(status);
                    self.recount(Some(before), after);
                    self.changed(id, &record);
                    return Ok(Some(record));
                }
                Err(StoreError::Refused(Refusal::Condition { .. })) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Overloaded.into())
    }

    /// What follows from a change that is durable.
    fn changed(&self, id: &str, record: &Record) {
        metrics::changed(record.status);
        tracing::info!(
            account = id,
            toolkit = record.toolkit,
            status = record.status.as_str(),
            "an account has changed"
        );
        self.connected.forget(record.user.as_str());
        self.tell(&record.user);
        if record.status == AccountStatus::Active {
            self.wake(&record.user, &record.toolkit);
        }
        if !record.status.is_pending() {
            self.nudge(id);
        }
    }

    /// Returns a user's accounts as they were lately, newest first.
    pub(super) async fn connected(&self, user: &UserId) -> Result<Rc<Vec<Account>>, ComposioError> {
        let own = self.own.clone();
        let whose = user.clone();
        let fetch = move || {
            async move {
                let service = own.upgrade().ok_or_else(ComposioError::internal)?;
                service.accounts(&whose).await
            }
            .boxed_local()
        };
        self.connected
            .get(user.as_str(), fetch)
            .await
            .map(|(accounts, _)| accounts)
    }

    /// Lists a user's accounts, newest first. What Composio lists and somebody else has here is left out.
    pub(super) async fn accounts(&self, user: &UserId) -> Result<Vec<Account>, ComposioError> {
        let ask = Ask::get(Op::Accounts, "connected_accounts")
            .with("user_ids", their_user(user))
            .with("order_by", "created_at")
            .with("order_direction", "desc");
        let listed = self.pages(Some(user), &ask, PAGE, |value| Some(value.clone())).await?;
        let mut accounts = Vec::with_capacity(listed.len());
        for value in &listed {
            if let Some(account) = self.own_account(user, value).await? {
                accounts.push(account);
            }
        }
        Ok(accounts)
    }

    /// Takes one that Composio listed for a user, if nobody else has it.
    async fn own_account(&self, user: &UserId, value: &Value) -> Result<Option<Account>, ComposioError> {
        let Some(mut account) = wire::account(value) else {
            return Ok(None);
        };
        let theirs = value.text("user_id");
        if theirs.is_some_and(|theirs| theirs != their_user(user)) {
            tracing::warn!(account = account.id, "composio listed another user's account");
            return Ok(None);
        }
        match self.stored(&account.id).await? {
            Some(Stored { record, .. }) if record.user == *user => {
                account.labels = record.labels;
                self.note(&account.id, account.status, account.reason.as_deref())
                    .await?;
            }
            Some(_) => {
                tracing::warn!(
                    account = account.id,
                    "composio listed an account that another user has here"
                );
                return Ok(None);
            }
            None => {
                let record = Record {
                    user: user.clone(),
                    toolkit: account.toolkit.clone(),
                    auth_config: account.auth_config.clone(),
                    status: account.status,
                    since_ms: self.shared.clock.now_ms(),
                    changes: 0,
                    labels: Vec::new(),
                    redirect: None,
                };
                match self.commit(making(&account.id, &record)?).await {
                    Ok(()) => self.recount(None, Some(account.status)),
                    // Somebody took it in meanwhile: the next look shows who.
                    Err(StoreError::Refused(Refusal::Condition { family: ACCOUNT, .. })) => return Ok(None),
                    Err(error) => return Err(refused(error)),
                }
            }
        }
        Ok(Some(account))
    }

    /// Whether an account is this user's; `not_found` when it is not.
    pub(super) async fn owned(&self, user: &UserId, id: &str) -> Result<Record, ComposioError> {
        if !client::is_word(id) {
            return Err(ComposioError::not_found("Account"));
        }
        if self.stored(id).await?.is_none() {
            // Made elsewhere, or nobody's: Composio knows, and only what it lists for this user is theirs.
            self.accounts(user).await?;
        }
        match self.stored(id).await? {
            Some(Stored { record, .. }) if record.user == *user => Ok(record),
            _ => Err(ComposioError::not_found("Account")),
        }
    }

    /// Looks how an account is now, and notes it.
    pub(super) async fn look(&self, user: &UserId, id: &str) -> Result<Account, ComposioError> {
        let ask = Ask::get(Op::Account, format!("connected_accounts/{id}"));
        let value = match self.ask(Some(user), ask).await {
            Ok(value) => value,
            Err(error) if error.kind == ComposioErrorKind::NotFound => {
                self.note(id, AccountStatus::Deleted, None).await?;
                return Err(ComposioError::not_found("Account"));
            }
            Err(error) => return Err(error),
        };
        let mut account = wire::account(&value).ok_or_else(ComposioError::unreadable)?;
        if account.id != id || value.text("user_id").is_some_and(|theirs| theirs != their_user(user)) {
            tracing::warn!(account = id, "composio showed another account, or another user's");
            return Err(ComposioError::not_found("Account"));
        }
        if let Some(record) = self.note(id, account.status, account.reason.as_deref()).await? {
            account.labels = record.labels;
        }
        Ok(account)
    }

    /// Shows an account.
    pub(super) async fn account(&self, user: &UserId, id: &str) -> Result<Account, ComposioError> {
        self.owned(user, id).await?;
        self.look(user, id).await
    }

    /// Lets tools use an account, or no longer.
    pub(super) async fn enable(&self, user: &UserId, id: &str, enabled: bool) -> Result<Account, ComposioError> {
        let account = self.account(user, id).await?;
        let (from, to) = if enabled {
            (AccountStatus::Inactive, AccountStatus::Active)
        } else {
            (AccountStatus::Active, AccountStatus::Inactive)
        };
        if account.status == to {
            return Ok(account);
        }
        if account.status != from {
            let status = account.status.as_str();
            let message = format!("The account is {status}: its user must connect it anew");
            return Err(ComposioError::new(ComposioErrorKind::Conflict, message));
        }
        let path = format!("connected_accounts/{id}/status");
        let ask = Ask::change(Op::AccountStatus, Method::PATCH, path).safe();
        self.ask(Some(user), ask.json(&json!({"enabled": enabled}))?).await?;
        self.look(user, id).await
    }

    /// Looks how an account is. For one that only its user can mend, a link is made; the old account goes when the new one
    /// is there.
    pub(super) async fn refresh(&self, user: &UserId, id: &str) -> Result<(Account, Option<Link>), ComposioError> {
        let record = self.owned(user, id).await?;
        let account = self.look(user, id).await?;
        if account.status.is_pending() {
            let link = self.pending_link(id).await?;
            return Ok((account, link));
        }
        if !account.status.needs_user() {
            return Ok((account, None));
        }
        let link = self.connect_again(user, id, record).await?;
        Ok((account, Some(link)))
    }

    /// Deletes an account.
    pub(super) async fn disconnect(&self, user: &UserId, id: &str) -> Result<(), ComposioError> {
        self.owned(user, id).await?;
        self.delete_account(user, id).await?;
        self.note(id, AccountStatus::Deleted, None).await?;
        Ok(())
    }

    /// Deletes an account at Composio; one that is gone is as good.
    pub(super) async fn delete_account(&self, user: &UserId, id: &str) -> Result<(), ComposioError> {
        let ask = Ask::change(Op::AccountDelete, Method::DELETE, format!("connected_accounts/{id}")).safe();
        match self.ask(Some(user), ask).await {
            Err(error) if error.kind != ComposioErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
