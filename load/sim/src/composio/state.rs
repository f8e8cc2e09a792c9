//! State shared by the handle, the control routes and the API.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;
use time::{Duration, OffsetDateTime, UtcOffset};

use super::accounts::Account;
use super::auth_configs::AuthConfig;
use super::catalog::Catalog;
use super::config::ComposioSimConfig;
use super::deliver::{Delivery, Outbox};
use super::effects::Effects;
use super::ids::Ids;
use super::script::Script;
use super::sessions::Session;
use super::triggers::Trigger;
use super::uploads::Upload;
use super::webhooks::Subscription;
use super::world::World;
use crate::clock;
use crate::random;
use crate::record::Recorder;

/// Distinct texts whose `[[503x2]]` count is remembered; beyond it all are forgotten.
const MAX_REPEATS: usize = 10_000;

/// What the project at Composio consists of.
#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) ids: Ids,
    pub(crate) auth_configs: Vec<AuthConfig>,
    pub(crate) accounts: Vec<Account>,
    pub(crate) triggers: Vec<Trigger>,
    pub(crate) subscriptions: Vec<Subscription>,
    pub(crate) sessions: Vec<Session>,
    pub(crate) servers: Vec<Value>,
    pub(crate) uploads: HashMap<String, Upload>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) world: World,
    pub(crate) effects: Effects,
}

impl Store {
    fn new(seed: u64) -> Self {
        Self {
            ids: Ids::new(seed),
            auth_configs: Vec::new(),
            accounts: Vec::new(),
            triggers: Vec::new(),
            subscriptions: Vec::new(),
            sessions: Vec::new(),
            servers: Vec::new(),
            uploads: HashMap::new(),
            deliveries: Vec::new(),
            world: World::default(),
            effects: Effects::default(),
        }
    }
}

/// Everything that outlives one request.
#[derive(Debug)]
pub(crate) struct State {
    config: Mutex<Arc<ComposioSimConfig>>,
    script: Mutex<Script>,
    repeats: Mutex<HashMap<u64, u32>>,
    store: Mutex<Store>,
    /// The minute that is counted and the requests in it.
    window: Mutex<(i64, u32)>,
    ahead_ms: AtomicI64,
    address: OnceLock<String>,
    pub(crate) catalog: Catalog,
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) outbox: Outbox,
    /// Sends webhooks.
    pub(crate) client: reqwest::Client,
}

impl State {
    pub(crate) fn new(config: ComposioSimConfig, catalog: Catalog, client: reqwest::Client) -> Self {
        Self {
            store: Mutex::new(Store::new(config.seed)),
            config: Mutex::new(Arc::new(config)),
            script: Mutex::default(),
            repeats: Mutex::default(),
            window: Mutex::default(),
            ahead_ms: AtomicI64::new(0),
            address: OnceLock::new(),
            catalog,
            recorder: Arc::default(),
            outbox: Outbox::default(),
            client,
        }
    }

    pub(crate) fn config(&self) -> Arc<ComposioSimConfig> {
        Arc::clone(&lock(&self.config))
    }

    pub(crate) fn set_config(&self, change: impl FnOnce(&mut ComposioSimConfig)) {
        let mut config = lock(&self.config);
        change(Arc::make_mut(&mut config));
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        lock(&self.script)
    }

    pub(crate) fn store(&self) -> MutexGuard<'_, Store> {
        lock(&self.store)
    }

    /// Says once where the simulator listens.
    pub(crate) fn listens_at(&self, url: String) {
        self.address.get_or_init(|| url);
    }

    /// Returns the URL that links begin with.
    pub(crate) fn base(&self) -> String {
        let public = self.config().public_url.clone();
        let public = public.map(|url| url.trim_end_matches('/').to_owned());
        public.unwrap_or_else(|| self.address.get().cloned().unwrap_or_default())
    }

    /// Returns the time as this simulator sees it.
    pub(crate) fn now(&self) -> OffsetDateTime {
        clock::now().saturating_add(Duration::milliseconds(self.ahead_ms.load(Ordering::Relaxed)))
    }

    /// Moves the clock forward.
    pub(crate) fn advance(&self, millis: i64) {
        self.ahead_ms.fetch_add(millis, Ordering::Relaxed);
    }

    /// Counts one request against the limit of this minute; returns what remains, `None` when it is used up.
    pub(crate) fn count_request(&self, limit: u32) -> Option<u32> {
        let minute = self.now().unix_timestamp().div_euclid(60);
        let mut window = lock(&self.window);
        if window.0 != minute {
            *window = (minute, 0);
        }
        window.1 = window.1.saturating_add(1);
        limit.checked_sub(window.1)
    }

    /// Counts one use of a fault that is limited to `times` for this text; says whether it still applies.
    pub(crate) fn still_applies(&self, text: &str, times: u32) -> bool {
        let mut repeats = lock(&self.repeats);
        if repeats.len() >= MAX_REPEATS {
            repeats.clear();
        }
        let used = repeats.entry(random::hash(0, text)).or_insert(0);
        *used = used.saturating_add(1);
        *used <= times
    }

    /// Forgets records, script and the counts of repeated faults; keeps accounts and effects.
    pub(crate) fn clear(&self) {
        self.recorder.clear();
        self.script().clear();
        lock(&self.repeats).clear();
    }

    /// Forgets everything, as after a new start.
    pub(crate) fn reset(&self) {
        self.clear();
        let seed = self.config().seed;
        *self.store() = Store::new(seed);
    }
}

/// Renders a time as the API does: `2026-11-22T22:41:05.000Z`.
pub(crate) fn stamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(UtcOffset::UTC);
    let (year, month, day) = (at.year(), u8::from(at.month()), at.day());
    let (hour, minute, second, milli) = (at.hour(), at.minute(), at.second(), at.millisecond());
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
