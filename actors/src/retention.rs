//! Retention: conversations that are too old, or too many of one user, are deleted. Off unless configured.
//!
//! A sweep reads the listing only, oldest first, and deletes through each session, which tells its readers. A conversation
//! that has unfinished work is left alone: its time comes when it is over.

use std::{collections::HashMap, sync::Arc};

use kronos_protocol::{error::ErrorCode, ids::UserId};
use metrics::counter;

use crate::{
    clock::{Clock, Millis},
    config::RetentionConfig,
    directory::DirectoryRef,
    metrics::RETENTION_DELETED,
    principal::Principal,
    session::{
        message::{SessionCommand, SessionError},
        reader,
    },
    store::{ListPosition, SessionMeta, StoreError, service::StoreRef},
};

/// Listings read at once.
const PAGE: usize = 256;

/// Why a conversation is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Age,
    Count,
}

impl Rule {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Count => "count",
        }
    }
}

/// The rules, and what is left of them while a sweep goes on.
struct Sweep {
    before_ms: Option<Millis>,
    per_user: Option<usize>,
    counts: HashMap<UserId, usize>,
}

impl Sweep {
    fn new(config: &RetentionConfig, now_ms: Millis) -> Self {
        let age_ms = config.age.map(|age| i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
        Self {
            before_ms: age_ms.map(|age| now_ms.saturating_sub(age)),
            per_user: config.sessions_per_user,
            counts: HashMap::new(),
        }
    }

    fn count(&mut self, meta: &SessionMeta) {
        if self.per_user.is_some() {
            *self.counts.entry(meta.owner.clone()).or_default() += 1;
        }
    }

    /// Whether the conversation is to go; asked oldest first.
    fn rule(&self, meta: &SessionMeta) -> Option<Rule> {
        if self.before_ms.is_some_and(|before| meta.updated_at_ms < before) {
            return Some(Rule::Age);
        }
        let count = self.counts.get(&meta.owner).copied().unwrap_or(0);
        self.per_user.is_some_and(|most| count > most).then_some(Rule::Count)
    }

    fn deleted(&mut self, meta: &SessionMeta) {
        if let Some(count) = self.counts.get_mut(&meta.owner) {
            *count = count.saturating_sub(1);
        }
    }

    /// Nothing newer can be too old, and nobody has too many any more.
    fn is_over(&self, meta: &SessionMeta) -> bool {
        let young = self.before_ms.is_none_or(|before| meta.updated_at_ms >= before);
        let few = self
            .per_user
            .is_none_or(|most| self.counts.values().all(|count| *count <= most));
        young && few
    }
}

/// Sweeps now and then, for ever; returns at once when nothing is configured.
pub async fn run(config: RetentionConfig, directory: DirectoryRef, store: StoreRef, clock: Clock) {
    if config.age.is_none() && config.sessions_per_user.is_none() {
        return;
    }
    loop {
        match sweep(&config, &directory, &store, &clock).await {
            Ok(0) => {}
            Ok(deleted) => tracing::info!(deleted, "conversations deleted by retention"),
            Err(error) => tracing::warn!(%error, "retention could not finish and tries again"),
        }
        tokio::time::sleep(config.interval).await;
    }
}

/// Deletes what the rules say; returns how many.
///
/// # Errors
/// The listing cannot be read.
pub async fn sweep(
    config: &RetentionConfig,
    directory: &DirectoryRef,
    store: &StoreRef,
    clock: &Clock,
) -> Result<usize, StoreError> {
    let mut sweep = Sweep::new(config, clock.now_ms());
    if sweep.per_user.is_some() {
        each(store, |meta| {
            sweep.count(meta);
            false
        })
        .await?;
    }
    let mut doomed = Vec::new();
    each(store, |meta| {
        if let Some(rule) = sweep.rule(meta) {
            sweep.deleted(meta);
            doomed.push((meta.clone(), rule));
        }
        sweep.is_over(meta)
    })
    .await?;
    let mut deleted = 0;
    for (meta, rule) in doomed {
        match delete(directory, &meta).await {
            Ok(()) => {
                counter!(RETENTION_DELETED, "rule" => rule.as_str()).increment(1);
                deleted += 1;
            }
            Err(error) if error.code == ErrorCode::NotFound => {}
            Err(error) => {
                tracing::debug!(session.id = %meta.session, %error, "retention leaves a conversation for later")
            }
        }
    }
    Ok(deleted)
}

/// Reads the listing, oldest first, until `done`.
async fn each(store: &StoreRef, mut done: impl FnMut(&SessionMeta) -> bool) -> Result<(), StoreError> {
    let mut after: Option<ListPosition> = None;
    loop {
        let page = store.oldest(after.as_ref(), PAGE).await?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some(ListPosition {
            updated_at_ms: last.updated_at_ms,
            session: last.session.clone(),
        });
        if page.iter().any(&mut done) {
            return Ok(());
        }
    }
}

async fn delete(directory: &DirectoryRef, meta: &SessionMeta) -> Result<(), SessionError> {
    let owner = Arc::new(Principal {
        user: meta.owner.clone(),
        name: None,
        superuser: false,
        login: None,
        expires_at_ms: None,
    });
    let session = directory.resolve(&meta.session).await?;
    let command = SessionCommand::Delete { unless_busy: true };
    reader::ask(&session, &owner, command).await?;
    directory.tell_deleted(&owner, &meta.session).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn meta(session: &str, owner: &str, updated_at_ms: Millis) -> SessionMeta {
        SessionMeta {
            session: session.parse().unwrap(),
            owner: owner.parse().unwrap(),
            epoch: "e".parse().unwrap(),
            title: None,
            settings: "{}".to_owned(),
            listed: true,
            created_at_ms: 0,
            updated_at_ms,
            message_count: 0,
            preview: None,
            relaxed_run: false,
        }
    }

    #[test]
    fn age_is_exclusive_at_its_edge_and_the_oldest_surplus_of_a_user_goes() {
        let config = RetentionConfig {
            age: Some(Duration::from_millis(100)),
            sessions_per_user: Some(2),
            interval: Duration::from_secs(1),
        };
        let mut sweep = Sweep::new(&config, 1_000);
        let all = [
            meta("a", "ann", 899),
            meta("b", "ann", 900),
            meta("c", "ann", 901),
            meta("d", "bob", 902),
            meta("e", "ann", 903),
        ];
        all.iter().for_each(|meta| sweep.count(meta));
        let mut rules = Vec::new();
        for meta in &all {
            let rule = sweep.rule(meta);
            if rule.is_some() {
                sweep.deleted(meta);
            }
            rules.push(rule);
        }
        assert_eq!(rules, [Some(Rule::Age), Some(Rule::Count), None, None, None]);
        assert!(sweep.is_over(&all[4]));
    }
}
