//! Composio's signed events: verified before they are read, taken once, told in the user's feed.
//!
//! Documents: `composio_event` (by the event's id), for as long as the same event may come again, and no more of them than
//! `COMPOSIO_WEBHOOK_IDS`.

use std::collections::{HashSet, VecDeque};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use kronos_protocol::ids::UserId;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sha2::Sha256;

use super::{
    accounts::{Stored, delete, encode, put, their_user},
    failure::ComposioError,
    metrics,
    outbox::Told,
    service::Service,
    wire::{AccountStatus, Read},
};
use crate::{
    clock::Millis,
    config::ComposioConfig,
    metrics as names,
    store::{DocumentWrite, Expect, Refusal, StoreError},
};

const EVENT: &str = "composio_event";

/// How far a sender's clock may be from ours, in either direction.
const TOLERANCE_MS: Millis = 300_000;
/// How long ids are remembered: a delivery is repeated for hours, not for days.
const REMEMBERED_MS: Millis = 3 * 86_400_000;
/// Longest id of an event.
const ID_BYTES: usize = 128;
/// Signatures looked at: a secret that is being replaced makes two.
const SIGNATURES: usize = 8;
/// Largest event that is told whole, in bytes.
const DATA_BYTES: usize = 64 * 1024;
/// Documents read at once.
const PAGE: usize = 1000;

/// The signed headers of an event.
#[derive(Debug, Clone, Default)]
pub struct WebhookHead {
    /// `webhook-id`.
    pub id: Option<String>,
    /// `webhook-timestamp`.
    pub timestamp: Option<String>,
    /// `webhook-signature`.
    pub signature: Option<String>,
}

/// Why an event is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// This server has no secret to check it with.
    #[error("COMPOSIO_WEBHOOK_SECRET is not set")]
    NotConfigured,
    /// Its signature is missing, wrong, or of another time.
    #[error("the signature is missing, wrong, or too old")]
    Forged,
    /// Its body is not an event.
    #[error("the body is not an event")]
    Malformed,
    /// It could not be kept: it should come again.
    #[error(transparent)]
    Failed(ComposioError),
}

/// Checks who sent an event, and when. The body as it came.
pub(super) fn verify(
    config: &ComposioConfig,
    head: &WebhookHead,
    body: &[u8],
    now_ms: Millis,
) -> Result<(), WebhookError> {
    let secret = config
        .webhook_secret
        .as_ref()
        .map(|secret| secret.expose_secret().trim());
    let secret = secret
        .filter(|secret| !secret.is_empty())
        .ok_or(WebhookError::NotConfigured)?;
    let result = check(secret, head, body, now_ms);
    if result.is_err() {
        metrics::event("forged");
    }
    result
}

fn check(secret: &str, head: &WebhookHead, body: &[u8], now_ms: Millis) -> Result<(), WebhookError> {
    let forged = WebhookError::Forged;
    let (Some(id), Some(timestamp), Some(signature)) = (&head.id, &head.timestamp, &head.signature) else {
        return Err(forged);
    };
    let sound = (1..=ID_BYTES).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    let sent_ms = timestamp
        .trim()
        .parse::<i64>()
        .ok()
        .and_then(|seconds| seconds.checked_mul(1000));
    let Some(sent_ms) = sent_ms.filter(|_| sound) else {
        return Err(forged);
    };
    // The secret is a key as it is shown: neither base64 nor a prefix is taken off.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else {
        return Err(forged);
    };
    for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
        mac.update(part);
    }
    let given = signature.split_ascii_whitespace().take(SIGNATURES);
    let given = given.filter_map(|part| STANDARD.decode(part.strip_prefix("v1,")?).ok());
    let genuine = given.fold(false, |found, tag| found | mac.clone().verify_slice(&tag).is_ok());
    // Looked at last: what it says counts only when it is signed.
    let timely = now_ms.abs_diff(sent_ms) <= TOLERANCE_MS.unsigned_abs();
    if genuine && timely { Ok(()) } else { Err(forged) }
}

/// Ids of events that were taken, oldest first.
#[derive(Debug)]
pub(super) struct Seen {
    bound: usize,
    order: VecDeque<(Millis, String)>,
    ids: HashSet<String>,
}

impl Seen {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound: bound.max(1),
            order: VecDeque::new(),
            ids: HashSet::new(),
        }
    }

    fn contains(&self, id: &str) -> bool {
        self.ids.contains(id)
    }

    /// Adds an id; returns those that are to be forgotten: too old, or too many.
    fn add(&mut self, id: String, at_ms: Millis) -> Vec<String> {
        let mut gone = Vec::new();
        if self.ids.insert(id.clone()) {
            self.order.push_back((at_ms, id));
        }
        let old = |first: &(Millis, String)| at_ms.saturating_sub(first.0) > REMEMBERED_MS;
        while self.order.len() > self.bound || self.order.front().is_some_and(old) {
            let too_many = self.order.len() > self.bound;
            let Some((_, first)) = self.order.pop_front() else {
                break;
            };
            if too_many {
                names::refused("composio_webhook_ids");
            }
            self.ids.remove(&first);
            gone.push(first);
        }
        gone
    }

    fn remove(&mut self, id: &str) {
        if self.ids.remove(id) {
            self.order.retain(|(_, other)| other != id);
        }
    }
}

/// What an event is about.
enum Event {
    /// Something happened in an app.
    Fired { user: UserId, told: Told },
    /// An account has expired.
    Expired { account: String, reason: Option<String> },
    /// Nothing that this server tells, or nobody's.
    Ignored,
}

impl Service {
    /// Takes an event whose signature was checked: durable when this returns. One that was taken before is as good.
    pub(super) async fn take_event(&self, head: WebhookHead, body: Bytes) -> Result<(), WebhookError> {
        let id = head.id.unwrap_or_default();
        if self.seen.borrow().contains(&id) {
            metrics::event("duplicate");
            return Ok(());
        }
        let Ok(payload) = serde_json::from_slice::<Value>(&body) else {
            metrics::event("malformed");
            return Err(WebhookError::Malformed);
        };
        let event = self.read_event(&id, &payload).await.map_err(WebhookError::Failed)?;
        let taken = match event {
            Some(Event::Fired { user, told }) => self.take_fired(&id, &user, &told).await,
            Some(Event::Expired { account, reason }) => self.take_expired(&id, &account, reason.as_deref()).await,
            Some(Event::Ignored) => Ok("ignored"),
            None => {
                metrics::event("malformed");
                return Err(WebhookError::Malformed);
            }
        };
        match taken {
            Ok(result) => {
                metrics::event(result);
                Ok(())
            }
            Err(error) => {
                metrics::event("failed");
                Err(WebhookError::Failed(error))
            }
        }
    }

    /// The feed's entry and the event's id are one write: neither is there without the other.
    async fn take_fired(&self, id: &str, user: &UserId, told: &Told) -> Result<&'static str, ComposioError> {
        let entry = self.to_tell(user, told)?;
        if !self.remember(id, vec![entry]).await? {
            return Ok("duplicate");
        }
        self.tell(user);
        Ok("told")
    }

    /// The change of the account is told once however often it is noted: the id may come after it.
    async fn take_expired(&self, id: &str, account: &str, reason: Option<&str>) -> Result<&'static str, ComposioError> {
        let known = self.note(account, AccountStatus::Expired, reason).await?.is_some();
        self.nudge(account);
        self.remember(id, Vec::new()).await?;
        Ok(if known { "told" } else { "ignored" })
    }

    /// Remembers an event's id together with what follows from it; false when it is known already.
    async fn remember(&self, id: &str, mut documents: Vec<DocumentWrite>) -> Result<bool, ComposioError> {
        let now = self.shared.clock.now_ms();
        documents.push(put(EVENT, id.to_owned(), encode(&now)?, Expect::Absent));
        let gone = self.seen.borrow_mut().add(id.to_owned(), now);
        documents.extend(gone.into_iter().map(|old| delete(EVENT, old)));
        match self.commit(documents).await {
            Ok(()) => Ok(true),
            Err(StoreError::Refused(Refusal::Condition { family: EVENT, .. })) => Ok(false),
            Err(error) => {
                self.seen.borrow_mut().remove(id);
                Err(error.into())
            }
        }
    }

    /// Tells the three forms apart, in this order. `None`: it is none of them.
    async fn read_event(&self, id: &str, payload: &Value) -> Result<Option<Event>, ComposioError> {
        let kind = payload.text_or_empty("type");
        let (data, metadata) = (payload.get("data"), payload.get("metadata"));
        if let (true, Some(data), Some(metadata), Some(_)) = (
            kind.starts_with("composio."),
            data,
            metadata.filter(|metadata| metadata.is_object()),
            payload.text("id"),
        ) {
            return Ok(Some(self.read_v3(id, &kind, data, metadata).await?));
        }
        if let Some(data) = data.filter(|data| !kind.is_empty() && data.text("connection_id").is_some()) {
            return Ok(Some(self.read_v2(id, &kind, data).await?));
        }
        let is_v1 = ["trigger_name", "connection_id", "trigger_id", "payload"];
        if is_v1.iter().all(|name| payload.get(name).is_some()) {
            // It does not say whose it is.
            return Ok(Some(Event::Ignored));
        }
        Ok(None)
    }

    async fn read_v3(&self, id: &str, kind: &str, data: &Value, metadata: &Value) -> Result<Event, ComposioError> {
        match kind {
            "composio.trigger.message" => {
                let account = metadata.text("connected_account_id");
                let known = self.known(account.as_deref()).await?;
                let Some(user) = whose(known.as_ref(), metadata.text("user_id")) else {
                    return Ok(Event::Ignored);
                };
                let toolkit = known.map(|stored| stored.record.toolkit);
                let value = fired(
                    metadata.text("trigger_id"),
                    metadata.text("trigger_slug"),
                    toolkit,
                    data,
                );
                Ok(told(id, user, "kronos.trigger_fired", value))
            }
            "composio.connected_account.expired" => Ok(match data.text("id") {
                Some(account) => Event::Expired {
                    account,
                    reason: data
                        .text("status_reason")
                        .and_then(|text| super::failure::presentable(&text)),
                },
                None => Event::Ignored,
            }),
            "composio.trigger.disabled" => {
                let known = self.known(data.text("connected_account_id").as_deref()).await?;
                let Some(user) = whose(known.as_ref(), data.text("user_id")) else {
                    return Ok(Event::Ignored);
                };
                let value = json!({
                    "triggerId": data.text("id"),
                    "triggerSlug": data.text("trigger_name"),
                    "toolkit": known.map(|stored| stored.record.toolkit),
                    "reason": data.text("disabled_reason").and_then(|text| super::failure::presentable(&text)),
                });
                Ok(told(id, user, "kronos.trigger_disabled", value))
            }
            _ => Ok(Event::Ignored),
        }
    }

    async fn read_v2(&self, id: &str, kind: &str, data: &Value) -> Result<Event, ComposioError> {
        let account = data.text("connection_nano_id");
        let known = self.known(account.as_deref()).await?;
        let Some(user) = whose(known.as_ref(), data.text("user_id")) else {
            return Ok(Event::Ignored);
        };
        let mut rest = data.clone();
        if let Some(rest) = rest.as_object_mut() {
            for own in [
                "connection_id",
                "connection_nano_id",
                "trigger_id",
                "trigger_nano_id",
                "user_id",
            ] {
                rest.remove(own);
            }
        }
        let trigger = data.text("trigger_nano_id").or_else(|| data.text("trigger_id"));
        let toolkit = known.map(|stored| stored.record.toolkit);
        let value = fired(trigger, Some(kind.to_ascii_uppercase()), toolkit, &rest);
        Ok(told(id, user, "kronos.trigger_fired", value))
    }

    async fn known(&self, account: Option<&str>) -> Result<Option<Stored>, ComposioError> {
        match account {
            Some(id) if super::client::is_word(id) => self.stored(id).await,
            _ => Ok(None),
        }
    }

    /// Reads the ids that were taken before this process.
    pub(super) async fn load_seen(&self) {
        let mut all: Vec<(Millis, String)> = Vec::new();
        let mut after: Option<String> = None;
        loop {
            let page = self.store.documents(EVENT, "", after.as_deref(), PAGE).await;
            let Ok(page) = page.inspect_err(|error| tracing::error!(%error, "ids of events cannot be read")) else {
                break;
            };
            after = page.last().map(|(key, _)| key.clone());
            let is_last = page.len() < PAGE;
            all.extend(
                page.into_iter()
                    .map(|(id, at)| (serde_json::from_slice(&at).unwrap_or(0), id)),
            );
            if is_last {
                break;
            }
        }
        all.sort();
        let gone: Vec<_> = {
            let mut seen = self.seen.borrow_mut();
            let gone = all.into_iter().flat_map(|(at_ms, id)| seen.add(id, at_ms));
            gone.map(|id| delete(EVENT, id)).collect()
        };
        if !gone.is_empty()
            && let Err(error) = self.commit(gone).await
        {
            tracing::warn!(%error, "ids of old events are left");
        }
    }
}

/// Whose an event is: of who has the account here, else of whom Composio names.
fn whose(known: Option<&Stored>, named: Option<String>) -> Option<UserId> {
    match known {
        Some(stored) => {
            let named_other = named.is_some_and(|named| named != their_user(&stored.record.user));
            if named_other {
                tracing::warn!("composio names another user of an account");
                return None;
            }
            Some(stored.record.user.clone())
        }
        None => UserId::try_from(named?.replace("%2C", ",").replace("%25", "%")).ok(),
    }
}

fn fired(trigger: Option<String>, slug: Option<String>, toolkit: Option<String>, data: &Value) -> Value {
    let size = serde_json::to_vec(data).map_or(usize::MAX, |bytes| bytes.len());
    let mut value = json!({
        "triggerId": trigger,
        "triggerSlug": slug,
        "toolkit": toolkit,
        "data": if size <= DATA_BYTES { data.clone() } else { Value::Null },
    });
    if size > DATA_BYTES {
        value["truncated"] = json!(true);
    }
    value
}

fn told(id: &str, user: UserId, name: &str, value: Value) -> Event {
    let own = id.to_owned();
    let name = name.to_owned();
    Event::Fired {
        user,
        told: Told { own, name, value },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = 1_790_000_000_000;
    const SECRET: &str = "whsec_dGVzdA==";

    fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        for part in [id.as_bytes(), b".", timestamp.as_bytes(), b".", body] {
            mac.update(part);
        }
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    }

    fn head(id: &str, timestamp: &str, signature: &str) -> WebhookHead {
        WebhookHead {
            id: Some(id.to_owned()),
            timestamp: Some(timestamp.to_owned()),
            signature: Some(signature.to_owned()),
        }
    }

    #[test]
    fn the_window_is_three_hundred_seconds_in_both_directions() {
        for (off, good) in [(-301, false), (-300, true), (0, true), (300, true), (301, false)] {
            let timestamp = (NOW / 1000 + off).to_string();
            let head = head("msg_1", &timestamp, &sign(SECRET, "msg_1", &timestamp, b"{}"));
            assert_eq!(check(SECRET, &head, b"{}", NOW).is_ok(), good, "{off}");
        }
    }

    #[test]
    fn one_of_several_signatures_is_enough_and_none_is_not() {
        let timestamp = (NOW / 1000).to_string();
        let good = sign(SECRET, "msg_1", &timestamp, b"{}");
        let bad = sign("other", "msg_1", &timestamp, b"{}");
        for (signature, expected) in [
            (good.clone(), true),
            (format!("{bad} {good}"), true),
            (format!("v2,xyz {good}"), true),
            (bad, false),
            (good.replacen("v1,", "v2,", 1), false),
            (good.replacen("v1,", "", 1), false),
            ("v1,".to_owned(), false),
            ("v1,not base64".to_owned(), false),
            (String::new(), false),
        ] {
            let head = head("msg_1", &timestamp, &signature);
            assert_eq!(check(SECRET, &head, b"{}", NOW).is_ok(), expected, "{signature}");
        }
        let other_body = head("msg_1", &timestamp, &good);
        assert!(check(SECRET, &other_body, b"{ }", NOW).is_err());
        let other_id = head("msg_2", &timestamp, &good);
        assert!(check(SECRET, &other_id, b"{}", NOW).is_err());
    }

    #[test]
    fn what_composios_own_clients_accept_is_accepted() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../load/sim/tests/captures/composio");
        let mut vectors = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if !path.file_name().unwrap().to_string_lossy().starts_with("webhook__") {
                continue;
            }
            let vector: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            let header = |name: &str| vector["request"]["headers"][name].as_str().unwrap();
            let secret = vector["secret"].as_str().unwrap();
            let body = vector["request"]["raw_body"].as_str().unwrap().as_bytes();
            let timestamp = header("webhook-timestamp");
            let head = head(header("webhook-id"), timestamp, header("webhook-signature"));
            let sent_ms = timestamp.parse::<i64>().unwrap() * 1000;
            assert_eq!(check(secret, &head, body, sent_ms), Ok(()), "{}", path.display());
            assert_eq!(check(secret, &head, body, sent_ms + 300_001), Err(WebhookError::Forged));
            assert_eq!(check("another", &head, body, sent_ms), Err(WebhookError::Forged));
            vectors += 1;
        }
        assert_eq!(vectors, 5);
    }

    #[test]
    fn ids_have_their_bound_and_their_time() {
        let mut seen = Seen::new(2);
        assert!(seen.add("a".to_owned(), 0).is_empty());
        assert!(seen.add("b".to_owned(), 1).is_empty());
        assert_eq!(seen.add("c".to_owned(), 2), ["a"]);
        assert!(!seen.contains("a") && seen.contains("b") && seen.contains("c"));
        assert_eq!(seen.add("d".to_owned(), REMEMBERED_MS + 3), ["b", "c"]);
        seen.remove("d");
        assert!(!seen.contains("d") && seen.order.is_empty());
    }
}
