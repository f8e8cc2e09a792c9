//! The Composio service: tools of other services, and the accounts with which users let them be used.
//!
//! Owns the HTTP client, the permits, the circuit breaker, the catalogue of tools, the table of accounts and who they belong
//! to, the watchers of connections in the making, and the service's health. One per process, on a thread of its own: requests
//! run there, and answers come back to whoever asked, on whatever core. Knows nothing of runs.
//!
//! Nothing is sent twice unless nothing can have happened: a request that changes something is repeated only when it never
//! left, or when the rate limiter says so. An execution whose end nobody knows is [`Outcome::Unknown`].

use std::{
    fmt,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{dev::SendError, prelude::*};
use futures_util::future::{BoxFuture, LocalBoxFuture};
use kronos_protocol::ids::{SessionId, UserId};
use serde_json::{Map, Value};
use tokio::{sync::oneshot, time::timeout_at};
use tracing::{Instrument as _, Span};

pub use self::{
    client::ComposioConfigError,
    failure::{ComposioError, ComposioErrorKind},
    shared::{ComposioHealth, ComposioStatus, Probed},
    webhook::{WebhookError, WebhookHead},
    wire::{
        Account, AccountStatus, Action, AuthConfig, AuthConfigChange, AuthConfigFilter, NewAuthConfig, Page, Toolkit,
        Trigger, WebhookSubscription,
    },
};
use self::{
    service::{Service, ServiceDeps},
    shared::ComposioShared,
};
use crate::{
    clock::Clock,
    config::ComposioConfig,
    directory::DirectoryRef,
    lag,
    mailbox::{Mailbox, Queued},
    store::service::StoreRef,
    supervisor::{RestartPolicy, start_guarded},
    tools::{Execution, Link, Outcome, Tool},
    trace::Scope,
};

mod accounts;
mod auth_configs;
mod cached;
mod catalogue;
mod choose;
mod client;
mod connect;
mod execute;
mod failure;
mod forget;
mod metrics;
mod outbox;
mod requests;
mod schema;
mod service;
mod shared;
mod triggers;
mod watch;
mod webhook;
mod wire;

/// What a run is offered.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Offered {
    /// The tools, in a stable order.
    pub tools: Vec<Tool>,
    /// A sentence for each toolkit whose tools could not be had.
    pub missing: Vec<String>,
}

/// What a caller gives to begin a connection.
#[derive(Debug, Clone, Default)]
pub struct NewConnection {
    /// The toolkit's slug.
    pub toolkit: String,
    /// The auth config to use; `None`: the toolkit's newest, made if there is none.
    pub auth_config: Option<String>,
    /// Where the browser is to go when it is done; checked by the caller.
    pub redirect: Option<String>,
    /// Kept beside the account; Composio has no place for them.
    pub labels: Vec<String>,
    /// The session that is told when there is an account.
    pub session: Option<SessionId>,
}

/// What became of a connection that a browser came back from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Returned {
    /// How the account is now; `None`: nobody here knows it.
    pub status: Option<AccountStatus>,
    /// Where the client that began wants the browser.
    pub redirect: Option<String>,
}

/// Tells a session that an account of a toolkit is there; true when the session has it durably, or is gone.
pub type Awake = Arc<dyn Fn(UserId, SessionId, String) -> BoxFuture<'static, bool> + Send + Sync>;

/// What the service needs.
pub struct ComposioDeps {
    /// How Composio is asked.
    pub config: ComposioConfig,
    /// Time.
    pub clock: Clock,
    /// Where the accounts are kept.
    pub store: StoreRef,
    /// The users' feeds.
    pub directory: DirectoryRef,
    /// Tells sessions that wait for an account.
    pub awake: Awake,
}

/// Work that may wait in the mailbox, besides one for each [`ComposioRef`]: starting one takes microseconds.
const MAILBOX: usize = 1024;

/// The service never gives up: a panic was caused by one message, and the next may be sound.
const NEVER_GIVE_UP: RestartPolicy = RestartPolicy {
    max_restarts: u32::MAX,
    window: Duration::from_secs(1),
};

/// Longest time for anything that is not a tool's call, retries and waiting included, as a multiple of one request's.
const REQUESTS_OF_A_CALL: u32 = 4;

/// The service on its thread.
struct Composio {
    service: Rc<Service>,
}

impl Actor for Composio {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.service.resume();
    }
}

/// What it holds is whole after a panic: a handler only starts tasks.
impl Supervised for Composio {}

/// What the service holds.
#[derive(Debug, Clone, Copy)]
pub struct ObservedComposio {
    /// Connections in the making that are watched.
    pub watchers: usize,
    /// Of those, users who have any.
    pub users_connecting: usize,
    /// Toolkits whose tools are in memory.
    pub toolkits: usize,
    /// Age of the oldest of them.
    pub catalogue_age: Option<Duration>,
    /// Attempts after the first that could be paid for.
    pub retry_budget: u64,
}

impl Service {
    fn observe(&self) -> ObservedComposio {
        ObservedComposio {
            watchers: self.watchers.borrow().len(),
            users_connecting: self.pending.borrow().len(),
            toolkits: self.kits.len(),
            catalogue_age: self.kits.oldest(),
            retry_budget: self.shared.retries.left(),
        }
    }
}

type Job = Box<dyn FnOnce(Rc<Service>) -> LocalBoxFuture<'static, ()> + Send>;

/// Something to do on the service's thread.
#[derive(Message)]
#[rtype(result = "()")]
struct Work(Queued, Job);

impl Handler<Work> for Composio {
    type Result = ();

    fn handle(&mut self, Work(queued, job): Work, _: &mut Self::Context) {
        queued.taken();
        actix::spawn(job(Rc::clone(&self.service)));
    }
}

/// Ends the service's thread when it is dropped.
struct Thread(Arbiter);

impl Drop for Thread {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// The Composio service as others hold it. Cheap to clone; its calls may be made on any thread.
#[derive(Clone)]
pub struct ComposioRef {
    address: Addr<Composio>,
    shared: Arc<ComposioShared>,
    _thread: Arc<Thread>,
}

impl fmt::Debug for ComposioRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComposioRef")
            .field("connected", &self.address.connected())
            .finish_non_exhaustive()
    }
}

impl ComposioRef {
    /// Starts the service on a thread of its own. Within an actix system. Without a key it answers, too: that there is none.
    ///
    /// Watchers of connections in the making, and what is left to tell or to delete, go on from [`ComposioRef::resume`].
    ///
    /// # Errors
    /// [`ComposioConfigError`].
    pub async fn start(deps: ComposioDeps) -> Result<Self, ComposioConfigError> {
        let shared = ComposioShared::new(deps.config, deps.clock)?;
        let client = shared.endpoint.client()?;
        // Before there are changes, which it would miss or count twice.
        let counted = accounts::count(&deps.store).await;
        let arbiter = Arbiter::new();
        let (tell, told) = oneshot::channel();
        let service = ServiceDeps {
            shared: Arc::clone(&shared),
            client,
            store: deps.store,
            directory: deps.directory,
            awake: deps.awake,
        };
        let clock = shared.clock.clone();
        let spawned = arbiter.spawn(async move {
            lag::watch(lag::Arbiter::Composio);
            let service = Service::new(service);
            service.counted.set(counted);
            let actor = Composio { service };
            let on_panic = || tracing::error!("composio service panicked and goes on");
            let (address, _) = start_guarded(actor, MAILBOX, NEVER_GIVE_UP, clock, on_panic, |exit| {
                tracing::debug!(?exit, "composio service ended");
            });
            drop(tell.send(address));
        });
        let thread = Arc::new(Thread(arbiter));
        let address = match told.await {
            Ok(address) if spawned => address,
            _ => return Err(ComposioConfigError::Thread),
        };
        Ok(Self {
            address,
            shared,
            _thread: thread,
        })
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &ComposioConfig {
        &self.shared.config
    }

    /// Returns how the service is. Costs Composio nothing.
    #[must_use]
    pub fn health(&self) -> ComposioHealth {
        self.shared.health()
    }

    /// Shows in the metrics what time alone has changed: before each scrape.
    pub fn report(&self) {
        self.shared.report();
    }

    /// Whether requests can be made.
    #[must_use]
    pub fn is_configured(&self) -> bool {
        self.shared.is_configured()
    }

    /// Says where browsers reach this server's callback route. Without it Composio shows a page of its own at the end.
    pub fn set_callback(&self, url: String) {
        self.shared.set_callback(url);
    }

    /// Returns the address of this server's callback route, when it is known.
    #[must_use]
    pub fn callback(&self) -> Option<String> {
        self.shared.callback()
    }

    /// Chooses tools for a run: of the toolkits that are named, or of those that the user has accounts for and that need
    /// none from them. Never fails: what cannot be had is said in [`Offered::missing`].
    pub async fn offer(&self, user: &UserId, toolkits: Option<&[String]>, hint: &str) -> Offered {
        if !self.is_configured() {
            return choose::without_key(toolkits);
        }
        let asked: Option<Vec<String>> = toolkits.map(<[String]>::to_vec);
        let (user, wanted, hint) = (user.clone(), asked.clone(), hint.to_owned());
        let offered = self.read(move |service| async move { Ok(service.offer(&user, wanted, &hint).await) });
        offered
            .await
            .unwrap_or_else(|error| choose::without_answer(asked.as_deref(), &error))
    }

    /// Calls a tool. Ends before the execution's deadline and after `COMPOSIO_EXECUTE_TIMEOUT` at the latest; what became of
    /// the call is said as far as it is known. Dropping the future does not take the call back.
    pub async fn execute(&self, execution: &Execution) -> Outcome {
        let (given, read_only) = (execution.clone(), execution.read_only);
        let done = self.write(move |service| async move { Ok(service.execute(&given).await) });
        match done.await {
            Ok(outcome) => outcome,
            Err(error) => execute::without_answer(error, read_only),
        }
    }

    /// Begins to connect an account; its progress is told in the user's feed, and a session that is named is told when an
    /// account is there. A link that was made for the same session lately is given again.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn link(&self, user: &UserId, toolkit: &str, session: Option<SessionId>) -> Result<Link, ComposioError> {
        let new = NewConnection {
            toolkit: toolkit.to_owned(),
            session,
            ..NewConnection::default()
        };
        self.connect(user, new).await
    }

    /// The same, with all that a client may choose.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn connect(&self, user: &UserId, new: NewConnection) -> Result<Link, ComposioError> {
        let user = user.clone();
        self.write(move |service| async move { service.connect(&user, new).await })
            .await
    }

    /// Remembers durably that a session waits for an account of a toolkit; it is told at once if there is one already.
    ///
    /// # Errors
    /// [`ComposioErrorKind::Store`].
    pub async fn awaits(&self, user: &UserId, toolkit: &str, session: &SessionId) -> Result<(), ComposioError> {
        let (user, toolkit, session) = (user.clone(), toolkit.to_owned(), session.clone());
        self.write(move |service| async move { service.awaits(&user, &toolkit, &session).await })
            .await
    }

    /// A session waits no longer.
    ///
    /// # Errors
    /// [`ComposioErrorKind::Store`].
    pub async fn waits_no_more(&self, user: &UserId, toolkit: &str, session: &SessionId) -> Result<(), ComposioError> {
        let (user, toolkit, session) = (user.clone(), toolkit.to_owned(), session.clone());
        self.write(move |service| async move { service.waits_no_more(&user, &toolkit, &session).await })
            .await
    }

    /// Deletes everything that a user has at Composio, and all that is known of it here. Durable when it returns, done soon,
    /// also when Composio is down now.
    ///
    /// # Errors
    /// [`ComposioErrorKind::Store`].
    pub async fn forget(&self, user: &UserId) -> Result<(), ComposioError> {
        let user = user.clone();
        self.write(move |service| async move { service.forget(&user).await })
            .await
    }

    /// Takes up what a crash or a stop interrupted: watchers, what is to be told, what is to be deleted. Once sessions can be
    /// found.
    pub async fn resume(&self) {
        let resumed = self.write(|service| async move {
            service.take_up().await;
            Ok(())
        });
        if let Err(error) = resumed.await {
            tracing::error!(%error, "composio: nothing was taken up");
        }
    }

    /// Asks Composio something that costs nothing, unless something was heard of it within `quiet`.
    pub async fn probe(&self, quiet: Duration) -> Probed {
        self.read(move |service| async move { Ok(service.probe(quiet).await) })
            .await
            .unwrap_or(Probed::Failed)
    }

    /// Asks the service what it holds. Costs Composio nothing.
    ///
    /// # Errors
    /// It takes no more, or is gone.
    pub async fn observe(&self) -> Result<ObservedComposio, ComposioError> {
        self.read(|service| async move { Ok(service.observe()) }).await
    }

    /// Something that only reads: ends with whoever asked.
    async fn read<T, F, Fut>(&self, work: F) -> Result<T, ComposioError>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Service>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, ComposioError>> + 'static,
    {
        let patience = self.shared.config.request_timeout.saturating_mul(REQUESTS_OF_A_CALL);
        let deadline = self.shared.clock.instant() + patience;
        self.call(move |service, reply| async move {
            let mut reply = reply;
            let result = tokio::select! {
                biased;
                () = reply.closed() => return,
                result = timeout_at(deadline.into(), work(service)) => result,
            };
            drop(reply.send(result.unwrap_or_else(|_elapsed| Err(ComposioError::silent()))));
        })
        .await
    }

    /// Something that changes something: goes on to its end whoever listens.
    async fn write<T, F, Fut>(&self, work: F) -> Result<T, ComposioError>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Service>) -> Fut + Send + 'static,
        Fut: Future<Output = Result<T, ComposioError>> + 'static,
    {
        self.call(move |service, reply| async move {
            let result = work(service).await;
            drop(reply.send(result));
        })
        .await
    }

    async fn call<T, F, Fut>(&self, job: F) -> Result<T, ComposioError>
    where
        T: Send + 'static,
        F: FnOnce(Rc<Service>, oneshot::Sender<Result<T, ComposioError>>) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let (span, scope) = (Span::current(), Scope::current());
        let job: Job = Box::new(move |service| Box::pin(scope.around(job(service, reply)).instrument(span)));
        match self.address.try_send(Work(Queued::new(Mailbox::Composio), job)) {
            Ok(()) => answer.await.unwrap_or_else(|_gone| Err(ComposioError::cut_off())),
            Err(SendError::Full(_)) => Err(ComposioError::overloaded(Duration::from_secs(1))),
            Err(SendError::Closed(_)) => Err(ComposioError::internal()),
        }
    }
}

/// The calls that the REST routes make beyond those of sessions.
impl ComposioRef {
    /// Lists auth configs of the project.
    ///
    /// # Errors
    /// [`ComposioError`]; the same for all that follow.
    pub async fn auth_configs(&self, filter: AuthConfigFilter) -> Result<Page<AuthConfig>, ComposioError> {
        self.read(move |service| async move { service.auth_configs(filter).await })
            .await
    }

    /// Shows an auth config.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn auth_config(&self, id: &str) -> Result<AuthConfig, ComposioError> {
        let id = id.to_owned();
        self.read(move |service| async move { service.auth_config(&id).await })
            .await
    }

    /// Makes an auth config: with Composio's own OAuth app when there are no credentials.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn create_auth_config(&self, new: NewAuthConfig) -> Result<AuthConfig, ComposioError> {
        self.write(move |service| async move { service.create_auth_config(new).await })
            .await
    }

    /// Changes an auth config: what is absent stays.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn update_auth_config(&self, id: &str, change: AuthConfigChange) -> Result<AuthConfig, ComposioError> {
        let id = id.to_owned();
        self.write(move |service| async move { service.update_auth_config(&id, change).await })
            .await
    }

    /// Deletes an auth config.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn delete_auth_config(&self, id: &str) -> Result<(), ComposioError> {
        let id = id.to_owned();
        self.write(move |service| async move { service.delete_auth_config(&id).await })
            .await
    }

    /// Lists toolkits, at most `limit`, whose slug, name or description holds `search`.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn toolkits(&self, search: Option<String>, limit: usize) -> Result<Vec<Toolkit>, ComposioError> {
        self.read(move |service| async move { service.toolkits(search.as_deref(), limit).await })
            .await
    }

    /// Lists the tools of a toolkit, at most `limit`.
    ///
    /// # Errors
    /// [`ComposioError`]; `not_found` for a toolkit that does not exist.
    pub async fn actions(&self, toolkit: &str, limit: usize) -> Result<Vec<Action>, ComposioError> {
        let toolkit = toolkit.to_owned();
        self.read(move |service| async move { service.actions(&toolkit, limit).await })
            .await
    }

    /// Lists a user's accounts, newest first.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn accounts(&self, user: &UserId) -> Result<Vec<Account>, ComposioError> {
        let user = user.clone();
        self.read(move |service| async move { service.accounts(&user).await })
            .await
    }

    /// Shows an account as it is now; `not_found` when it is not this user's.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn account(&self, user: &UserId, id: &str) -> Result<Account, ComposioError> {
        let (user, id) = (user.clone(), id.to_owned());
        self.read(move |service| async move { service.account(&user, &id).await })
            .await
    }

    /// Lets tools use an account again, or no longer.
    ///
    /// # Errors
    /// [`ComposioError`]; `conflict` for one that only its user can mend.
    pub async fn enable(&self, user: &UserId, id: &str, enabled: bool) -> Result<Account, ComposioError> {
        let (user, id) = (user.clone(), id.to_owned());
        self.write(move |service| async move { service.enable(&user, &id, enabled).await })
            .await
    }

    /// Looks how an account is; for one that needs its user, begins anew: a link for them.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn refresh(&self, user: &UserId, id: &str) -> Result<(Account, Option<Link>), ComposioError> {
        let (user, id) = (user.clone(), id.to_owned());
        self.write(move |service| async move { service.refresh(&user, &id).await })
            .await
    }

    /// Deletes an account.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn disconnect(&self, user: &UserId, id: &str) -> Result<(), ComposioError> {
        let (user, id) = (user.clone(), id.to_owned());
        self.write(move |service| async move { service.disconnect(&user, &id).await })
            .await
    }

    /// Calls a tool for a client, with one of the user's accounts: the one named, or the newest that is active.
    ///
    /// # Errors
    /// [`ComposioError`] when nothing was called; what became of a call is its [`Outcome`].
    pub async fn execute_as(
        &self,
        user: &UserId,
        tool: &str,
        arguments: Map<String, Value>,
        account: Option<String>,
        key: Option<String>,
    ) -> Result<Outcome, ComposioError> {
        let (user, tool) = (user.clone(), tool.to_owned());
        self.write(move |service| async move { service.execute_as(&user, &tool, arguments, account, key).await })
            .await
    }

    /// A browser came back: looks at the connection, if it is one of ours. What the address says proves nothing.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn returned(&self, id: &str) -> Result<Returned, ComposioError> {
        let id = id.to_owned();
        self.write(move |service| async move { service.returned(&id).await })
            .await
    }

    /// Takes an event of Composio's: its body as it came.
    ///
    /// # Errors
    /// [`WebhookError`].
    pub async fn webhook(&self, head: WebhookHead, body: bytes::Bytes) -> Result<(), WebhookError> {
        webhook::verify(&self.shared.config, &head, &body, self.shared.clock.now_ms())?;
        self.write(move |service| async move { Ok(service.take_event(head, body).await) })
            .await
            .map_err(WebhookError::Failed)?
    }

    /// Sets a trigger up on an account of the user.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn set_trigger(
        &self,
        user: &UserId,
        slug: &str,
        account: &str,
        config: Map<String, Value>,
    ) -> Result<String, ComposioError> {
        let (user, slug, account) = (user.clone(), slug.to_owned(), account.to_owned());
        self.write(move |service| async move { service.set_trigger(&user, &slug, &account, config).await })
            .await
    }

    /// Lists a user's triggers.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn triggers(&self, user: &UserId) -> Result<Vec<Trigger>, ComposioError> {
        let user = user.clone();
        self.read(move |service| async move { service.triggers(&user).await })
            .await
    }

    /// Deletes one of a user's triggers.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn delete_trigger(&self, user: &UserId, id: &str) -> Result<(), ComposioError> {
        let (user, id) = (user.clone(), id.to_owned());
        self.write(move |service| async move { service.delete_trigger(&user, &id).await })
            .await
    }

    /// Has Composio send its events to `url`, in form V3. The answer holds the secret to sign with: store it.
    ///
    /// # Errors
    /// [`ComposioError`].
    pub async fn subscribe(&self, url: &str) -> Result<WebhookSubscription, ComposioError> {
        let url = url.to_owned();
        self.write(move |service| async move { service.subscribe(&url).await })
            .await
    }

    /// Returns a time from now, for a call that has a limit.
    #[must_use]
    pub fn within(&self, limit: Duration) -> Instant {
        self.shared.clock.instant() + limit
    }
}
