//! Connecting an account: a link for the user, the records of it, and the sessions that wait for an account.
//!
//! Documents: `composio_await` (key = user, a space, toolkit, a space, session).

use bytes::Bytes;
use kronos_protocol::ids::{SessionId, UserId};
use reqwest::{Method, Url};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    NewConnection, Returned,
    accounts::{OWNED, PENDING, Record, delete, encode, making, owned_key, put, refused, their_user, unless_removed},
    client::{self, Ask, Op},
    failure::{ComposioError, ComposioErrorKind},
    service::Service,
    wire::{AccountStatus, Read},
};
use crate::{clock::Millis, metrics as names, store::Expect, tools::Link};

pub(super) const AWAIT: &str = "composio_await";

/// How long a link is good when Composio does not say.
const LINK_MS: Millis = 10 * 60_000;
/// The longest that one is believed to be good.
const LONGEST_LINK_MS: Millis = 24 * 3_600_000;
/// A link that is given once more must be good for so long still.
const STILL_GOOD_MS: Millis = 120_000;
/// Sessions told at once.
const PAGE: usize = 100;
/// How often a session that does not take it is told again.
const TRIES: u32 = 6;
/// The first pause before it is, doubled each time.
const PAUSE: std::time::Duration = std::time::Duration::from_secs(1);

/// A connection in the making.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pending {
    pub(super) user: UserId,
    pub(super) toolkit: String,
    /// The page for the user.
    pub(super) page: String,
    /// When it is no longer watched closely, and its user is told that nothing has happened yet.
    pub(super) watch_until_ms: Millis,
    /// When the link lapses.
    pub(super) expires_ms: Millis,
    /// That time has passed, and the user was told.
    #[serde(default)]
    pub(super) told_late: bool,
    /// The session for which it is made.
    pub(super) session: Option<SessionId>,
    /// The account that it replaces.
    pub(super) replaces: Option<String>,
}

impl Pending {
    fn link(&self, id: &str) -> Link {
        Link {
            connection: id.to_owned(),
            redirect_url: self.page.clone(),
            expires_at_ms: Some(self.expires_ms),
        }
    }
}

/// What Composio says to a new link.
struct Linked {
    id: String,
    page: String,
    expires_ms: Millis,
}

impl Service {
    /// Begins to connect an account.
    pub(super) async fn connect(&self, user: &UserId, new: NewConnection) -> Result<Link, ComposioError> {
        self.connect_instead(user, new, None).await
    }

    /// Begins to connect an account that is to take another's place.
    pub(super) async fn connect_again(&self, user: &UserId, id: &str, record: Record) -> Result<Link, ComposioError> {
        // With the same auth config, if there still is one.
        let same = match record.auth_config {
            Some(config) => {
                let shown = self.auth_config(&config).await;
                shown.is_ok_and(|shown| shown.status == "ENABLED").then_some(config)
            }
            None => None,
        };
        let new = NewConnection {
            toolkit: record.toolkit,
            auth_config: same,
            labels: record.labels,
            ..NewConnection::default()
        };
        self.connect_instead(user, new, Some(id.to_owned())).await
    }

    async fn connect_instead(
        &self,
        user: &UserId,
        new: NewConnection,
        replaces: Option<String>,
    ) -> Result<Link, ComposioError> {
        if !self.shared.is_configured() {
            return Err(ComposioError::not_configured());
        }
        let (toolkit, auth_config) = self.how_to_connect(&new).await?;
        if let Some(session) = &new.session {
            self.remember_await(user, &toolkit, session).await?;
            if let Some(link) = self.link_of(user, &toolkit, session).await? {
                return Ok(link);
            }
        }
        self.check_pending(user)?;
        // From here on it is counted, so that two at once do not both take the last place.
        *self.pending.borrow_mut().entry(user.clone()).or_default() += 1;
        let made = self.make_link(user, &toolkit, auth_config, new, replaces).await;
        if made.is_err() {
            self.uncount(user);
        }
        made
    }

    /// The toolkit, and the auth config if one is named.
    async fn how_to_connect(&self, new: &NewConnection) -> Result<(String, Option<String>), ComposioError> {
        let mut toolkit = new.toolkit.trim().to_ascii_lowercase();
        if let Some(id) = &new.auth_config {
            let config = self.auth_config(id).await?;
            if config.status != "ENABLED" {
                let message = "The auth config is disabled";
                return Err(ComposioError::new(ComposioErrorKind::Conflict, message));
            }
            if toolkit.is_empty() {
                toolkit.clone_from(&config.toolkit);
            }
            if toolkit != config.toolkit {
                let message = "The auth config is of another toolkit";
                return Err(ComposioError::new(ComposioErrorKind::Conflict, message));
            }
        }
        if !client::is_word(&toolkit) {
            return Err(ComposioError::not_found("Toolkit"));
        }
        Ok((toolkit, new.auth_config.clone()))
    }

    fn check_pending(&self, user: &UserId) -> Result<(), ComposioError> {
        let pending = self.pending.borrow();
        let config = &self.shared.config;
        let of_user = pending.get(user).copied().unwrap_or(0);
        let too_many = |bound, text: &'static str| {
            names::refused(bound);
            ComposioError::new(ComposioErrorKind::TooManyPending, text).after(config.connection_timeout)
        };
        if of_user >= config.max_pending_per_user {
            let text = "Too many of your connections are in the making: finish some, or wait until their links lapse";
            return Err(too_many("composio_pending_per_user", text));
        }
        if pending.values().sum::<usize>() >= config.max_pending {
            return Err(too_many("composio_pending", "Too many connections are in the making"));
        }
        Ok(())
    }

    pub(super) fn uncount(&self, user: &UserId) {
        let mut pending = self.pending.borrow_mut();
        if let Some(count) = pending.get_mut(user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                pending.remove(user);
            }
        }
    }

    async fn make_link(
        &self,
        user: &UserId,
        toolkit: &str,
        auth_config: Option<String>,
        new: NewConnection,
        replaces: Option<String>,
    ) -> Result<Link, ComposioError> {
        let given = auth_config.is_some();
        let mut config = match auth_config {
            Some(id) => id,
            None => self.maker(toolkit).await?.to_string(),
        };
        let linked = match self.ask_for_link(user, &config, new.redirect.as_deref()).await {
            // The one that was remembered may have been deleted since.
            Err(error) if !given && matches!(error.status, Some(400 | 404)) => {
                self.makers.forget(toolkit);
                let other = self.maker(toolkit).await?.to_string();
                if other == config {
                    return Err(error);
                }
                config = other;
                self.ask_for_link(user, &config, new.redirect.as_deref()).await?
            }
            linked => linked?,
        };
        let now = self.shared.clock.now_ms();
        let closely = i64::try_from(self.shared.config.connection_timeout.as_millis()).unwrap_or(i64::MAX);
        let record = Record {
            user: user.clone(),
            toolkit: toolkit.to_owned(),
            auth_config: Some(config),
            status: AccountStatus::Initiated,
            since_ms: now,
            changes: 0,
            labels: new.labels,
            redirect: new.redirect,
        };
        let pending = Pending {
            user: user.clone(),
            toolkit: toolkit.to_owned(),
            page: linked.page,
            watch_until_ms: now.saturating_add(closely),
            expires_ms: linked.expires_ms,
            told_late: false,
            session: new.session,
            replaces,
        };
        let mut documents = making(&linked.id, &record)?;
        documents.push(put(PENDING, linked.id.clone(), encode(&pending)?, Expect::Any));
        if let Err(error) = self.commit(documents).await {
            // Nobody would ever find it again.
            drop(self.delete_account(user, &linked.id).await);
            return Err(refused(error));
        }
        self.recount(None, Some(AccountStatus::Initiated));
        self.connected.forget(user.as_str());
        let link = pending.link(&linked.id);
        self.watch(linked.id, pending);
        Ok(link)
    }

    async fn ask_for_link(&self, user: &UserId, config: &str, redirect: Option<&str>) -> Result<Linked, ComposioError> {
        let mut body = json!({"auth_config_id": config, "user_id": their_user(user)});
        // The browser comes by here on its way, so that its coming back is noticed.
        if let Some(callback) = self.shared.callback().as_deref().or(redirect) {
            body["callback_url"] = json!(callback);
        }
        let ask = Ask::change(Op::AccountLink, Method::POST, "connected_accounts/link").json(&body)?;
        let answer = self.ask(Some(user), ask).await?;
        let now = self.shared.clock.now_ms();
        let expires = answer.get("expires_at").and_then(Value::as_str).and_then(ms);
        let id = answer.text("connected_account_id").filter(|id| client::is_word(id));
        let page = answer.text("redirect_url").filter(|page| is_page(page));
        match (id, page) {
            (Some(id), Some(page)) => Ok(Linked {
                id,
                page,
                expires_ms: expires.unwrap_or(now + LINK_MS).clamp(now, now + LONGEST_LINK_MS),
            }),
            _ => Err(ComposioError::unreadable()),
        }
    }

    /// Reads a connection in the making.
    pub(super) async fn pending(&self, id: &str) -> Result<Option<Pending>, ComposioError> {
        let bytes = self.store.document(PENDING, id).await?;
        Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
    }

    /// The link of a connection in the making.
    pub(super) async fn pending_link(&self, id: &str) -> Result<Option<Link>, ComposioError> {
        Ok(self.pending(id).await?.map(|pending| pending.link(id)))
    }

    /// A link that was made for the same session and is good for a while still.
    async fn link_of(&self, user: &UserId, toolkit: &str, session: &SessionId) -> Result<Option<Link>, ComposioError> {
        if !self.pending.borrow().contains_key(user) {
            return Ok(None);
        }
        let now = self.shared.clock.now_ms();
        let prefix = owned_key(user, "");
        let owned = self.store.documents(OWNED, &prefix, None, 500).await?;
        for (key, _) in owned.into_iter().rev() {
            let Some(id) = key.strip_prefix(&prefix) else { continue };
            let Some(pending) = self.pending(id).await? else {
                continue;
            };
            let same = pending.toolkit == toolkit && pending.session.as_ref() == Some(session);
            if same && pending.expires_ms - now >= STILL_GOOD_MS {
                return Ok(Some(pending.link(id)));
            }
        }
        Ok(None)
    }

    /// A browser came back from Composio.
    pub(super) async fn returned(&self, id: &str) -> Result<Returned, ComposioError> {
        let nobody = Returned {
            status: None,
            redirect: None,
        };
        if !client::is_word(id) {
            return Ok(nobody);
        }
        let Some(stored) = self.stored(id).await? else {
            return Ok(nobody);
        };
        let record = stored.record;
        let redirect = record.redirect;
        if !record.status.is_pending() {
            // Known already: whoever comes by here again costs Composio nothing.
            return Ok(Returned {
                status: Some(record.status),
                redirect,
            });
        }
        let status = match self.look(&record.user, id).await {
            Ok(account) => Some(account.status),
            Err(error) if error.kind == ComposioErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        self.nudge(id);
        Ok(Returned { status, redirect })
    }
}

/// Sessions that wait for an account.
impl Service {
    async fn remember_await(&self, user: &UserId, toolkit: &str, session: &SessionId) -> Result<(), ComposioError> {
        let key = format!("{user} {toolkit} {session}");
        let documents = vec![
            unless_removed(user),
            put(AWAIT, key, Bytes::from_static(b"{}"), Expect::Any),
        ];
        self.commit(documents).await.map_err(refused)
    }

    /// Remembers that a session waits; it is told at once if there is an account.
    pub(super) async fn awaits(&self, user: &UserId, toolkit: &str, session: &SessionId) -> Result<(), ComposioError> {
        let toolkit = toolkit.to_ascii_lowercase();
        self.remember_await(user, &toolkit, session).await?;
        if self
            .active_account(user, &toolkit)
            .await
            .is_ok_and(|account| account.is_some())
        {
            self.wake(user, &toolkit);
        }
        Ok(())
    }

    /// Forgets that a session waits.
    pub(super) async fn waits_no_more(
        &self,
        user: &UserId,
        toolkit: &str,
        session: &SessionId,
    ) -> Result<(), ComposioError> {
        let toolkit = toolkit.to_ascii_lowercase();
        let key = format!("{user} {toolkit} {session}");
        Ok(self.commit(vec![delete(AWAIT, key)]).await?)
    }

    /// Tells the sessions that wait for an account of a toolkit.
    pub(super) fn wake(&self, user: &UserId, toolkit: &str) {
        let (user, toolkit) = (user.clone(), toolkit.to_owned());
        self.spawn(|service| async move {
            let mut pause = PAUSE;
            for _ in 0..TRIES {
                match service.wake_all(&user, &toolkit).await {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(error) => tracing::warn!(%error, "sessions that wait for an account cannot be found"),
                }
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            tracing::warn!(toolkit, "a session that waits for an account was not told");
        });
    }

    /// True when none is left.
    async fn wake_all(&self, user: &UserId, toolkit: &str) -> Result<bool, ComposioError> {
        let prefix = format!("{user} {toolkit} ");
        let waiting = self.store.documents(AWAIT, &prefix, None, PAGE).await?;
        let is_last = waiting.len() < PAGE;
        let mut all = is_last;
        for (key, _) in waiting {
            let session = key.strip_prefix(&prefix).map(SessionId::try_from);
            let told = match session {
                Some(Ok(session)) => (self.awake)(user.clone(), session, toolkit.to_owned()).await,
                _ => true,
            };
            if told {
                self.commit(vec![delete(AWAIT, key)]).await?;
            } else {
                all = false;
            }
        }
        Ok(all)
    }

    /// Tells sessions of accounts that came while this process was not there.
    pub(super) async fn take_up_awaits(&self) {
        let mut after: Option<String> = None;
        loop {
            let page = self.store.documents(AWAIT, "", after.as_deref(), PAGE).await;
            let Ok(page) = page.inspect_err(|error| tracing::error!(%error, "waiting sessions cannot be read")) else {
                return;
            };
            after = page.last().map(|(key, _)| key.clone());
            let is_last = page.len() < PAGE;
            for (key, _) in page {
                let mut parts = key.splitn(3, ' ');
                let user = parts.next().map(UserId::try_from);
                let (Some(Ok(user)), Some(toolkit)) = (user, parts.next()) else {
                    continue;
                };
                if self.has_active(&user, toolkit).await {
                    self.wake(&user, toolkit);
                }
            }
            if is_last {
                return;
            }
        }
    }

    /// Whether the table knows an active account: Composio is not asked.
    async fn has_active(&self, user: &UserId, toolkit: &str) -> bool {
        let prefix = owned_key(user, "");
        let owned = self
            .store
            .documents(OWNED, &prefix, None, 500)
            .await
            .unwrap_or_default();
        for (key, _) in owned {
            let id = key.strip_prefix(&prefix).unwrap_or_default();
            if let Ok(Some(stored)) = self.stored(id).await
                && stored.record.toolkit == toolkit
                && stored.record.status == AccountStatus::Active
            {
                return true;
            }
        }
        false
    }
}

/// Whether a browser may be sent there.
fn is_page(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

fn ms(text: &str) -> Option<Millis> {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    Millis::try_from(time.unix_timestamp_nanos() / 1_000_000).ok()
}
