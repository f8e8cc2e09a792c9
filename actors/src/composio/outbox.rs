//! What is to be put into users' feeds: written together with the change that it tells of, taken away when the feed has it.
//! So a change is told once; should the process end in between, it may be told once more, with the same number.
//!
//! Documents: `composio_outbox` (key = user, a space, time and number, a space, a name of its own).

use std::time::Duration;

use kronos_protocol::ids::UserId;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    accounts::{Record, delete, encode, put},
    connect::Pending,
    failure::ComposioError,
    service::Service,
};
use crate::store::{DocumentWrite, Expect};

pub(super) const OUTBOX: &str = "composio_outbox";

/// Entries read at once.
const PAGE: usize = 64;
/// Pauses between attempts to reach a feed.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Longest reason that is told, in characters.
const REASON_CHARS: usize = 300;

/// Something to tell.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Told {
    /// Unique among what is told of the same user at the same time.
    #[serde(skip)]
    pub(super) own: String,
    /// The event's name.
    pub(super) name: String,
    /// Its value.
    pub(super) value: Value,
}

/// A connection has changed.
pub(super) fn connection_changed(id: &str, record: &Record, reason: Option<&str>) -> Told {
    let mut value = json!({
        "connectionId": id,
        "toolkit": record.toolkit,
        "status": record.status.as_str(),
        "change": record.changes,
    });
    if let Some(reason) = reason {
        value["reason"] = json!(reason.chars().take(REASON_CHARS).collect::<String>());
    }
    Told {
        own: format!("{id}-{:08}", record.changes),
        name: "kronos.connection_changed".to_owned(),
        value,
    }
}

/// Nobody has finished a connection yet.
pub(super) fn connection_late(id: &str, pending: &Pending) -> Told {
    let value = json!({
        "connectionId": id,
        "toolkit": pending.toolkit,
        "status": "TIMED_OUT",
        "reason": "The connection was not finished in time. Its link still works until it lapses.",
    });
    Told {
        own: format!("{id}-late"),
        name: "kronos.connection_changed".to_owned(),
        value,
    }
}

impl Service {
    /// The document that has something told.
    pub(super) fn to_tell(&self, user: &UserId, told: &Told) -> Result<DocumentWrite, ComposioError> {
        let (now, number) = (self.shared.clock.now_ms(), self.told.get());
        self.told.set(number + 1);
        let key = format!("{user} {now:015}-{number:010} {}", told.own);
        Ok(put(OUTBOX, key, encode(told)?, Expect::Any))
    }

    /// Starts to tell a user what is to be told; one at a time, in order.
    pub(super) fn tell(&self, user: &UserId) {
        let mut telling = self.telling.borrow_mut();
        if let Some(again) = telling.get_mut(user) {
            *again = true;
            return;
        }
        telling.insert(user.clone(), false);
        drop(telling);
        let user = user.clone();
        self.spawn(|service| async move {
            loop {
                service.tell_all(&user).await;
                let mut telling = service.telling.borrow_mut();
                match telling.get_mut(&user) {
                    Some(again) if *again => *again = false,
                    _ => {
                        telling.remove(&user);
                        return;
                    }
                }
            }
        });
    }

    async fn tell_all(&self, user: &UserId) {
        let prefix = format!("{user} ");
        let mut pause = PAUSE;
        loop {
            let page = match self.store.documents(OUTBOX, &prefix, None, PAGE).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, "what is to be told cannot be read");
                    Vec::new()
                }
            };
            if page.is_empty() {
                return;
            }
            for (key, bytes) in page {
                while !self.tell_one(user, &bytes).await {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                pause = PAUSE;
                if let Err(error) = self.commit(vec![delete(OUTBOX, key)]).await {
                    tracing::warn!(%error, "what was told is told once more after the next start");
                    return;
                }
            }
        }
    }

    /// True when there is nothing more to do about it.
    async fn tell_one(&self, user: &UserId, bytes: &[u8]) -> bool {
        let Ok(told) = serde_json::from_slice::<Told>(bytes) else {
            tracing::error!("something to tell cannot be read");
            return true;
        };
        match self.directory.tell(user, &told.name, told.value).await {
            Ok(()) => true,
            Err(error) if error.closed || error.after_ms.is_some() => false,
            Err(error) => {
                tracing::warn!(%error, event = told.name, "a feed does not take an event");
                true
            }
        }
    }

    /// Tells what was left when the process ended.
    pub(super) async fn take_up_outbox(&self) {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.documents(OUTBOX, "", after.as_deref(), PAGE).await;
            let Ok(page) = page.inspect_err(|error| tracing::error!(%error, "what is to be told cannot be read"))
            else {
                return;
            };
            after = page.last().map(|(key, _)| key.clone());
            let is_last = page.len() < PAGE;
            for (key, _) in page {
                if let Some(Ok(user)) = key.split(' ').next().map(UserId::try_from) {
                    self.tell(&user);
                }
            }
            if is_last {
                return;
            }
        }
    }
}
