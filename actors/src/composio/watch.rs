//! Watchers of connections in the making: each looks again and again, soon at first, until the connection is made, has
//! failed, or its link has lapsed. A browser that comes back and an event of Composio's end a pause early.

use std::{rc::Rc, time::Duration};

use tokio::sync::Notify;

use super::{
    accounts::{PENDING, encode, put},
    connect::Pending,
    failure::ComposioErrorKind,
    metrics::handles,
    outbox,
    service::Service,
    wire::AccountStatus,
};
use crate::{
    clock::Millis,
    store::{Expect, StoreError},
};

/// The first pause, and how it grows while the connection is watched closely.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5);
/// The pause after that, until the link lapses: most who have not come within a minute never do.
const LATE: Duration = Duration::from_secs(30);
/// Composio's clock and ours may differ by so much.
const GRACE_MS: Millis = 15_000;
/// Connections read at once after a start.
const PAGE: usize = 200;

impl Service {
    /// Starts the watcher of a connection.
    pub(super) fn watch(&self, id: String, pending: Pending) {
        let nudged = Rc::new(Notify::new());
        self.watchers.borrow_mut().insert(id.clone(), Rc::clone(&nudged));
        self.show_watchers();
        self.spawn(|service| async move {
            let user = pending.user.clone();
            service.follow(&id, pending, &nudged).await;
            service.watchers.borrow_mut().remove(&id);
            service.uncount(&user);
            service.show_watchers();
        });
    }

    #[expect(clippy::cast_precision_loss, reason = "a gauge of a few")]
    fn show_watchers(&self) {
        handles().watchers.set(self.watchers.borrow().len() as f64);
    }

    /// Ends the pause of a connection's watcher, if there is one.
    pub(super) fn nudge(&self, id: &str) {
        if let Some(nudged) = self.watchers.borrow().get(id) {
            nudged.notify_one();
        }
    }

    async fn follow(&self, id: &str, mut pending: Pending, nudged: &Notify) {
        let mut pause = FIRST;
        loop {
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = nudged.notified() => {}
            }
            match self.look(&pending.user, id).await {
                Ok(account) if !account.status.is_pending() && account.status != AccountStatus::Unknown => {
                    self.made(id, &pending, account.status).await;
                    return;
                }
                Err(error) if error.kind == ComposioErrorKind::NotFound => return,
                Ok(_) | Err(_) => {}
            }
            // Somebody deleted it, or its user.
            if matches!(self.pending(id).await, Ok(None)) {
                return;
            }
            let now = self.shared.clock.now_ms();
            if now > pending.expires_ms + GRACE_MS {
                let reason = Some("The link has lapsed.");
                match self.note(id, AccountStatus::Expired, reason).await {
                    Ok(_) => return,
                    Err(error) => tracing::warn!(account = id, %error, "a lapsed connection cannot be noted"),
                }
            }
            let is_late = now >= pending.watch_until_ms;
            if is_late && !pending.told_late {
                pending.told_late = self.tell_late(id, &pending).await.is_ok();
            }
            pause = if is_late { LATE } else { (pause * 3 / 2).min(LONGEST) };
        }
    }

    /// What follows when a connection is made.
    async fn made(&self, id: &str, pending: &Pending, status: AccountStatus) {
        let Some(old) = &pending.replaces else { return };
        if status != AccountStatus::Active || old == id {
            return;
        }
        let gone = self.disconnect(&pending.user, old).await;
        if let Err(error) = gone
            && error.kind != ComposioErrorKind::NotFound
        {
            tracing::warn!(account = old, %error, "an account that was replaced is left");
        }
    }

    /// Tells the user that nothing has happened so far.
    async fn tell_late(&self, id: &str, pending: &Pending) -> Result<(), StoreError> {
        let told = outbox::connection_late(id, pending);
        let noted = Pending {
            told_late: true,
            ..pending.clone()
        };
        let documents = match (encode(&noted), self.to_tell(&pending.user, &told)) {
            (Ok(noted), Ok(told)) => vec![put(PENDING, id.to_owned(), noted, Expect::Any), told],
            _ => return Ok(()),
        };
        self.commit(documents).await?;
        self.tell(&pending.user);
        Ok(())
    }

    /// Watches on what was in the making when the process ended.
    pub(super) async fn take_up_watchers(&self) {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.documents(PENDING, "", after.as_deref(), PAGE).await;
            let Ok(page) = page.inspect_err(|error| tracing::error!(%error, "pending connections cannot be read"))
            else {
                return;
            };
            after = page.last().map(|(key, _)| key.clone());
            let is_last = page.len() < PAGE;
            for (id, bytes) in page {
                let Ok(pending) = serde_json::from_slice::<Pending>(&bytes) else {
                    tracing::error!(account = id, "a pending connection cannot be read");
                    continue;
                };
                if self.watchers.borrow().contains_key(&id) {
                    continue;
                }
                *self.pending.borrow_mut().entry(pending.user.clone()).or_default() += 1;
                self.watch(id, pending);
            }
            if is_last {
                return;
            }
        }
    }
}
