//! The service on its thread: what it holds, and how its parts come together.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, HashSet},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use kronos_protocol::ids::UserId;
use tokio::sync::Notify;

use super::{
    Awake,
    cached::Cached,
    catalogue::{Kit, OneTool},
    shared::ComposioShared,
    webhook::Seen,
    wire::{Account, AuthConfig, Toolkit},
};
use crate::{directory::DirectoryRef, store::service::StoreRef};

/// How long a list of accounts is good: changes that this server makes or is told of count at once.
const ACCOUNTS_TTL: Duration = Duration::from_secs(30);
/// How long it is served while it is asked for again.
const ACCOUNTS_OLD: Duration = Duration::from_secs(300);
/// Users whose accounts are kept in memory.
const ACCOUNTS_BOUND: usize = 10_000;
/// Tools that were asked for one by one.
const TOOLS_BOUND: usize = 2_000;
/// How long the catalogue is served while it cannot be asked for again.
const CATALOGUE_OLD: Duration = Duration::from_secs(24 * 3600);

/// What it is made of.
pub(super) struct ServiceDeps {
    pub(super) shared: Arc<ComposioShared>,
    pub(super) client: reqwest::Client,
    pub(super) store: StoreRef,
    pub(super) directory: DirectoryRef,
    pub(super) awake: Awake,
}

/// The service. Lives on one thread.
pub(super) struct Service {
    pub(super) shared: Arc<ComposioShared>,
    pub(super) client: reqwest::Client,
    pub(super) store: StoreRef,
    pub(super) directory: DirectoryRef,
    pub(super) awake: Awake,
    /// Itself, for the tasks that it starts.
    pub(super) own: std::rc::Weak<Self>,
    /// Tools by toolkit.
    pub(super) kits: Rc<Cached<Kit>>,
    /// Tools by slug, for those that were named without their toolkit.
    pub(super) tools: Rc<Cached<OneTool>>,
    /// All toolkits, under one name.
    pub(super) toolkits: Rc<Cached<Vec<Toolkit>>>,
    /// All enabled auth configs, under one name.
    pub(super) configs: Rc<Cached<Vec<AuthConfig>>>,
    /// The auth config with which a toolkit's accounts are made.
    pub(super) makers: Rc<Cached<String>>,
    /// Accounts by user.
    pub(super) connected: Rc<Cached<Vec<Account>>>,
    /// Ends a watcher's pause, by account.
    pub(super) watchers: RefCell<HashMap<String, Rc<Notify>>>,
    /// Connections in the making, by user.
    pub(super) pending: RefCell<HashMap<UserId, usize>>,
    /// Users whose feed is being told; true: there is more by now.
    pub(super) telling: RefCell<HashMap<UserId, bool>>,
    /// Numbers what is to be told, within one millisecond.
    pub(super) told: Cell<u64>,
    /// Users who are being forgotten.
    pub(super) forgetting: RefCell<HashSet<UserId>>,
    /// Ids of events that were taken.
    pub(super) seen: RefCell<Seen>,
    /// What a crash interrupted was taken up.
    pub(super) taken_up: Cell<bool>,
    /// The accounts were counted: their changes count from now on.
    pub(super) counted: Cell<bool>,
}

impl Service {
    pub(super) fn new(deps: ServiceDeps) -> Rc<Self> {
        let ServiceDeps {
            shared,
            client,
            store,
            directory,
            awake,
        } = deps;
        let clock = shared.clock.clone();
        let (ttl, kits) = (shared.config.catalogue_ttl, shared.config.catalogue_toolkits);
        let webhook_ids = shared.config.webhook_ids;
        Rc::new_cyclic(|own| Self {
            shared,
            client,
            store,
            directory,
            awake,
            own: own.clone(),
            kits: Cached::new(clock.clone(), ttl, CATALOGUE_OLD, kits),
            tools: Cached::new(clock.clone(), ttl, CATALOGUE_OLD, TOOLS_BOUND),
            toolkits: Cached::new(clock.clone(), ttl, CATALOGUE_OLD, 1),
            configs: Cached::new(clock.clone(), ttl, CATALOGUE_OLD, 1),
            makers: Cached::new(clock.clone(), ttl, ttl, kits),
            connected: Cached::new(clock, ACCOUNTS_TTL, ACCOUNTS_OLD, ACCOUNTS_BOUND),
            watchers: RefCell::default(),
            pending: RefCell::default(),
            telling: RefCell::default(),
            told: Cell::new(0),
            forgetting: RefCell::default(),
            seen: RefCell::new(Seen::new(webhook_ids)),
            taken_up: Cell::new(false),
            counted: Cell::new(false),
        })
    }

    /// Starts a task that has the service for itself.
    pub(super) fn spawn<F, Fut>(&self, work: F)
    where
        F: FnOnce(Rc<Self>) -> Fut,
        Fut: Future<Output = ()> + 'static,
    {
        if let Some(own) = self.own.upgrade() {
            actix::spawn(work(own));
        }
    }

    /// Called when the actor has started.
    pub(super) fn resume(&self) {
        tracing::debug!(configured = self.shared.is_configured(), "composio service runs");
    }

    /// Takes up what a crash or a stop interrupted. Once.
    pub(super) async fn take_up(&self) {
        if self.taken_up.replace(true) {
            return;
        }
        self.load_seen().await;
        self.take_up_watchers().await;
        self.take_up_outbox().await;
        self.take_up_awaits().await;
        self.take_up_forgets().await;
    }
}
