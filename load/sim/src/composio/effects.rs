//! What tools have changed: counted, so that a test can see whether one intent acted twice.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

/// What executions under one idempotency key changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The header `Idempotency-Key`, else `x-request-id`, else made up.
    pub key: String,
    /// Slug of the tool.
    pub tool: String,
    /// Whose account it was; empty when the request named nobody.
    pub user_id: String,
    /// The account that acted; `None` for a tool without authentication.
    pub connected_account_id: Option<String>,
    /// How often it happened. More than 1 is what idempotency shall prevent.
    pub count: u32,
    /// Arguments of the first time.
    pub arguments: Value,
    /// When it happened first.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// When it happened last.
    #[serde(with = "time::serde::rfc3339")]
    pub last_at: OffsetDateTime,
}

/// All effects, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    list: Vec<Effect>,
    places: HashMap<(String, String), usize>,
}

impl Effects {
    /// Counts an effect; one under the same key and tool is counted there.
    pub(crate) fn count(&mut self, effect: Effect) {
        let place = (effect.key.clone(), effect.tool.clone());
        let known = self.places.get(&place).and_then(|at| self.list.get_mut(*at));
        if let Some(known) = known {
            known.count = known.count.saturating_add(1);
            known.last_at = effect.at;
        } else {
            self.places.insert(place, self.list.len());
            self.list.push(effect);
        }
    }

    pub(crate) fn all(&self) -> &[Effect] {
        &self.list
    }

    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.places.clear();
    }
}
