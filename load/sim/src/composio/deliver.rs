//! The sending of webhooks: signed, repeated, forged or too old.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use super::accounts;
use super::sign::sign;
use super::state::{State, Store, stamp};
use super::webhooks::{DISABLED, EXPIRED, MESSAGE};

/// How old a stale webhook is, in seconds: beyond the 300 that SDKs accept.
const STALE_SECONDS: i64 = 3600;
/// How long the receiver may take.
const ANSWER_TIME: Duration = Duration::from_secs(10);
/// Webhooks that wait to be sent.
const MAX_WAITING: usize = 1000;
/// Deliveries that are remembered.
const MAX_DELIVERIES: usize = 1000;
/// The secret where nobody has subscribed and none is given.
const DEFAULT_SECRET: &str = "synthetic-webhook-secret-1";

/// An event that is to be sent.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookOrder {
    /// `composio.trigger.message` (default), `composio.connected_account.expired` or `composio.trigger.disabled`.
    pub event: String,
    /// Where it goes; the subscribed URL when absent.
    pub url: Option<String>,
    /// How often the same message is sent, with the same id. Default 1.
    pub times: u32,
    /// Whether the signature is one of another secret.
    pub forged: bool,
    /// Whether the time in it is an hour ago.
    pub stale: bool,
    /// The trigger it is about; made up when absent.
    pub trigger_id: Option<String>,
    /// The account it is about; made up when absent.
    pub connected_account_id: Option<String>,
    /// Whose account it is, when it is made up.
    pub user_id: Option<String>,
    /// What happened; the example of the trigger when absent.
    pub data: Option<Value>,
    /// The secret; the subscribed one when absent.
    pub secret: Option<String>,
}

impl Default for WebhookOrder {
    fn default() -> Self {
        Self {
            event: MESSAGE.to_owned(),
            url: None,
            times: 1,
            forged: false,
            stale: false,
            trigger_id: None,
            connected_account_id: None,
            user_id: None,
            data: None,
            secret: None,
        }
    }
}

/// What became of one sending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// The header `webhook-id`.
    pub webhook_id: String,
    /// Type of the event.
    pub event: String,
    /// Where it went.
    pub url: String,
    /// Number of the attempt, from 1.
    pub attempt: u32,
    /// HTTP status of the answer; `None` when there was none.
    pub status: Option<u16>,
}

/// Why an event was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliverError {
    /// Nobody has subscribed to the event and no URL was given.
    NoTarget,
    /// The event, account or trigger is unknown.
    Unknown(String),
    /// The simulator has stopped.
    Stopped,
}

impl std::fmt::Display for DeliverError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTarget => f.write_str("nobody has subscribed to the event and no URL was given"),
            Self::Unknown(what) => write!(f, "unknown: {what}"),
            Self::Stopped => f.write_str("the simulator has stopped"),
        }
    }
}

impl std::error::Error for DeliverError {}

/// A message as it is sent each time.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    id: String,
    event: String,
    url: String,
    timestamp: String,
    signature: String,
    body: String,
}

/// A message with how often it is sent and who waits for the end.
#[derive(Debug)]
pub(crate) struct Job {
    message: Message,
    times: u32,
    /// Stops at the first answer of 2xx and waits between two attempts.
    retry: Option<Duration>,
    reply: Option<oneshot::Sender<Vec<Delivery>>>,
}

/// The way to the task that sends.
#[derive(Debug)]
pub(crate) struct Outbox {
    sender: mpsc::Sender<Job>,
    receiver: Mutex<Option<mpsc::Receiver<Job>>>,
}

impl Default for Outbox {
    fn default() -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        Self {
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }
}

impl Outbox {
    /// Takes the receiving end; only the first caller gets it.
    pub(crate) fn take(&self) -> Option<mpsc::Receiver<Job>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Sends what is ordered and waits for the answers.
pub(crate) async fn deliver(state: &State, order: &WebhookOrder) -> Result<Vec<Delivery>, DeliverError> {
    let message = message(state, order)?;
    let (reply, done) = oneshot::channel();
    let job = Job {
        message,
        times: order.times.max(1),
        retry: None,
        reply: Some(reply),
    };
    let sent = state.outbox.sender.send(job).await;
    sent.map_err(|_gone| DeliverError::Stopped)?;
    done.await.map_err(|_gone| DeliverError::Stopped)
}

/// Tells the subscriber that an account has expired, if it wants to know.
pub(crate) fn account_expired(state: &State, store: &mut Store, id: &str) {
    let config = state.config();
    let order = WebhookOrder {
        event: EXPIRED.to_owned(),
        connected_account_id: Some(id.to_owned()),
        ..WebhookOrder::default()
    };
    if !config.auto_webhooks {
        return;
    }
    if let Ok(message) = compose(state, store, &order) {
        let job = Job {
            message,
            times: config.webhook_attempts.max(1),
            retry: Some(Duration::from_millis(config.webhook_retry_ms)),
            reply: None,
        };
        if state.outbox.sender.try_send(job).is_err() {
            tracing::warn!("too many webhooks wait: one is not sent");
        }
    }
}

/// Sends one message as often as it has to be.
pub(crate) async fn send(state: &State, job: Job) {
    let mut deliveries = Vec::new();
    for attempt in 1..=job.times {
        if attempt > 1
            && let Some(pause) = job.retry
        {
            tokio::time::sleep(pause).await;
        }
        let message = &job.message;
        let request = state
            .client
            .post(&message.url)
            .timeout(ANSWER_TIME)
            .header("content-type", "application/json")
            .header("webhook-id", &message.id)
            .header("webhook-timestamp", &message.timestamp)
            .header("webhook-signature", &message.signature)
            .header("x-composio-webhook-version", "V3")
            .header("x-composio-delivery-attempt", attempt.to_string())
            .body(message.body.clone());
        let status = request.send().await.ok().map(|response| response.status());
        deliveries.push(Delivery {
            webhook_id: message.id.clone(),
            event: message.event.clone(),
            url: message.url.clone(),
            attempt,
            status: status.map(|status| status.as_u16()),
        });
        if job.retry.is_some() && status.is_some_and(|status| status.is_success()) {
            break;
        }
    }
    let mut store = state.store();
    store.deliveries.extend(deliveries.iter().cloned());
    let surplus = store.deliveries.len().saturating_sub(MAX_DELIVERIES);
    store.deliveries.drain(..surplus);
    drop(store);
    if let Some(reply) = job.reply {
        drop(reply.send(deliveries));
    }
}

fn message(state: &State, order: &WebhookOrder) -> Result<Message, DeliverError> {
    compose(state, &mut state.store(), order)
}

fn compose(state: &State, store: &mut Store, order: &WebhookOrder) -> Result<Message, DeliverError> {
    let subscription = store.subscriptions.first().cloned();
    let subscribed = subscription.as_ref().filter(|own| own.events.contains(&order.event));
    let url = order.url.clone().or_else(|| subscribed.map(|own| own.url.clone()));
    let url = url.ok_or(DeliverError::NoTarget)?;
    let secret = order.secret.clone().or_else(|| subscription.map(|own| own.secret));
    let mut secret = secret.unwrap_or_else(|| DEFAULT_SECRET.to_owned());
    if order.forged {
        secret = format!("not-{secret}");
    }
    let age = if order.stale { STALE_SECONDS } else { 0 };
    let at = state.now().saturating_sub(time::Duration::seconds(age));
    let (metadata, data) = match order.event.as_str() {
        MESSAGE => trigger_message(state, store, order)?,
        EXPIRED => expired(store, order)?,
        DISABLED => trigger_disabled(state, store, order)?,
        other => return Err(DeliverError::Unknown(other.to_owned())),
    };
    let id = format!("msg_{}", store.ids.uuid());
    let body = json!({
        "id": id, "timestamp": stamp(at), "type": order.event, "metadata": metadata, "data": data,
    })
    .to_string();
    let timestamp = at.unix_timestamp().to_string();
    Ok(Message {
        signature: sign(&secret, &id, &timestamp, &body),
        id,
        event: order.event.clone(),
        url,
        timestamp,
        body,
    })
}

/// The ids an event is about: (trigger id, trigger slug, account id, auth config id, user id).
fn about(store: &mut Store, order: &WebhookOrder) -> Result<[String; 5], DeliverError> {
    let named = order.trigger_id.as_ref();
    let trigger = match named {
        Some(id) => {
            let own = store.triggers.iter().find(|own| own.id == *id);
            Some(own.ok_or_else(|| DeliverError::Unknown(id.clone()))?.clone())
        }
        None => {
            let of_account = order.connected_account_id.as_ref();
            let mut own = store.triggers.iter();
            own.find(|own| of_account.is_none_or(|id| own.account_id == *id))
                .cloned()
        }
    };
    let trigger = trigger.filter(|own| {
        let right = order.user_id.as_ref().is_none_or(|user| own.user_id == *user);
        right || named.is_some()
    });
    let account = order
        .connected_account_id
        .clone()
        .or_else(|| trigger.as_ref().map(|own| own.account_id.clone()));
    let known = account
        .as_ref()
        .and_then(|id| store.accounts.iter().find(|own| own.id == *id))
        .cloned();
    let user = known
        .as_ref()
        .map(|own| own.user_id.clone())
        .or_else(|| order.user_id.clone());
    Ok([
        trigger
            .as_ref()
            .map_or_else(|| store.ids.id("ti"), |own| own.id.clone()),
        trigger
            .as_ref()
            .map_or_else(|| "GITHUB_COMMIT_EVENT".to_owned(), |own| own.slug.clone()),
        account.unwrap_or_else(|| store.ids.id("ca")),
        known.map_or_else(|| store.ids.id("ac"), |own| own.auth_config_id),
        user.unwrap_or_else(|| "user_1".to_owned()),
    ])
}

fn trigger_message(state: &State, store: &mut Store, order: &WebhookOrder) -> Result<(Value, Value), DeliverError> {
    let [trigger, slug, account, config, user] = about(store, order)?;
    let kind = state.catalog.triggers().find(|(_, kind)| kind.slug == slug);
    let example = kind.map(|(_, kind)| kind.example.clone()).unwrap_or_else(|| json!({}));
    let metadata = json!({
        "log_id": store.ids.id("log"), "trigger_slug": slug, "trigger_id": trigger, "connected_account_id": account,
        "auth_config_id": config, "user_id": user,
    });
    Ok((metadata, order.data.clone().unwrap_or(example)))
}

fn expired(store: &mut Store, order: &WebhookOrder) -> Result<(Value, Value), DeliverError> {
    let metadata = json!({"project_id": "pr_synthetic", "org_id": "ok_synthetic"});
    let Some(id) = &order.connected_account_id else {
        let [_, _, account, config, user] = about(store, order)?;
        let data = json!({
            "id": account, "toolkit": {"slug": "github"}, "user_id": user, "status": "EXPIRED",
            "auth_config": {"id": config, "auth_scheme": "OAUTH2", "is_composio_managed": true, "is_disabled": false},
            "status_reason": "Permanent auth error during token refresh", "is_disabled": false,
            "state": {"authScheme": "OAUTH2", "val": {"status": "EXPIRED"}}, "data": {}, "params": {},
            "created_at": "2026-10-01T10:00:00.000Z", "updated_at": "2026-10-31T10:00:00.000Z",
        });
        return Ok((metadata, order.data.clone().unwrap_or(data)));
    };
    let account = store.accounts.iter().find(|own| own.id == *id);
    let account = account.ok_or_else(|| DeliverError::Unknown(id.clone()))?;
    let mut data = accounts::render(store, account);
    data["params"] = json!({});
    Ok((metadata, order.data.clone().unwrap_or(data)))
}

fn trigger_disabled(state: &State, store: &mut Store, order: &WebhookOrder) -> Result<(Value, Value), DeliverError> {
    let [trigger, slug, account, _, user] = about(store, order)?;
    let now = state.now();
    let own = store.triggers.iter_mut().find(|own| own.id == trigger);
    let config = own.map_or_else(
        || json!({"owner": "octocat", "repo": "hello-world"}),
        |own| {
            own.disabled = Some(now);
            own.config.clone()
        },
    );
    let data = json!({
        "id": trigger, "connected_account_id": account, "trigger_name": slug, "user_id": user,
        "trigger_config": config, "disabled_at": stamp(now), "disabled_reason": "connection_expired",
    });
    Ok((
        json!({"project_id": "pr_synthetic"}),
        order.data.clone().unwrap_or(data),
    ))
}
