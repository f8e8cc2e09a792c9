//! Triggers on users' accounts, and where Composio sends its events.

use kronos_protocol::ids::UserId;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{
    client::{self, Ask, Op},
    failure::ComposioError,
    service::Service,
    wire::{Read, Trigger, WebhookSubscription},
};

/// Triggers asked for with one request.
const PAGE: usize = 50;

/// The events that this server understands.
const EVENTS: [&str; 3] = [
    "composio.trigger.message",
    "composio.connected_account.expired",
    "composio.trigger.disabled",
];

impl Service {
    /// Sets a trigger up on an account of the user.
    pub(super) async fn set_trigger(
        &self,
        user: &UserId,
        slug: &str,
        account: &str,
        config: Map<String, Value>,
    ) -> Result<String, ComposioError> {
        if !client::is_word(slug) {
            return Err(ComposioError::not_found("Trigger"));
        }
        self.owned(user, account).await?;
        let body = json!({"connected_account_id": account, "trigger_config": config});
        let ask = Ask::change(Op::TriggerSet, Method::POST, format!("trigger_instances/{slug}/upsert"));
        let answer = self.ask(Some(user), ask.json(&body)?).await?;
        let id = answer.text("trigger_id").filter(|id| client::is_word(id));
        id.ok_or_else(ComposioError::unreadable)
    }

    /// Lists the triggers on a user's accounts.
    pub(super) async fn triggers(&self, user: &UserId) -> Result<Vec<Trigger>, ComposioError> {
        let accounts = self.connected(user).await?;
        if accounts.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&str> = accounts.iter().map(|account| account.id.as_str()).collect();
        let ask = Ask::get(Op::Triggers, "trigger_instances/active")
            .with("connected_account_ids", ids.join(","))
            .with("show_disabled", "true");
        self.pages(Some(user), &ask, PAGE, |value| {
            let trigger = Trigger {
                id: value.text("id").filter(|id| client::is_word(id))?,
                slug: value.text("trigger_name").or_else(|| value.text("triggerName"))?,
                account: value
                    .text("connected_account_id")
                    .or_else(|| value.text("connectedAccountId"))?,
                disabled: value.get("disabled_at").is_some_and(|at| !at.is_null()),
            };
            // A filter that was overlooked would show others' triggers.
            ids.contains(&trigger.account.as_str()).then_some(trigger)
        })
        .await
    }

    /// Deletes one of a user's triggers.
    pub(super) async fn delete_trigger(&self, user: &UserId, id: &str) -> Result<(), ComposioError> {
        let own = self.triggers(user).await?;
        if !own.iter().any(|trigger| trigger.id == id) {
            return Err(ComposioError::not_found("Trigger"));
        }
        let path = format!("trigger_instances/manage/{id}");
        self.ask(Some(user), Ask::change(Op::TriggerDelete, Method::DELETE, path).safe())
            .await?;
        Ok(())
    }

    /// Has Composio send its events to an address: there is one subscription in a project.
    pub(super) async fn subscribe(&self, url: &str) -> Result<WebhookSubscription, ComposioError> {
        let list = Ask::get(Op::Webhooks, "webhook_subscriptions").with("limit", "1");
        let listed = self.ask(None, list).await?;
        let first = listed.get("items").and_then(|items| items.get(0)).cloned();
        let existing = first
            .and_then(|first| first.text("id"))
            .filter(|id| client::is_word(id));
        let body = json!({"webhook_url": url, "enabled_events": EVENTS, "version": "V3"});
        let ask = match &existing {
            Some(id) => Ask::change(Op::WebhookSet, Method::PATCH, format!("webhook_subscriptions/{id}")).safe(),
            None => Ask::change(Op::WebhookSet, Method::POST, "webhook_subscriptions"),
        };
        let answer = self.ask(None, ask.json(&body)?).await?;
        Ok(WebhookSubscription {
            id: answer.text("id").or(existing).ok_or_else(ComposioError::unreadable)?,
            secret: answer.text("secret"),
        })
    }
}
