//! The handle of the Composio simulator.

use std::io;
use std::sync::Arc;

use actix_web::web;
use serde_json::Value;

use super::catalog::Catalog;
use super::config::ComposioSimConfig;
use super::control::{self, NewAccount};
use super::deliver::{self, DeliverError, Delivery, WebhookOrder};
use super::effects::Effect;
use super::routes;
use super::script::ComposioScript;
use super::state::State;
use crate::record::RecordedRequest;
use crate::server::Running;

/// The Composio simulator.
#[derive(Debug, Clone, Copy)]
pub struct ComposioSim;

impl ComposioSim {
    /// Starts a simulator and returns its handle once it accepts connections.
    ///
    /// It runs on threads of its own with one worker, so it may be started from any context.
    ///
    /// # Errors
    /// The address is in use or cannot be bound, a thread cannot be started, or an extra toolkit cannot be read.
    pub fn start(config: ComposioSimConfig) -> io::Result<ComposioHandle> {
        let address = (config.host.clone(), config.port);
        let catalog = Catalog::load(&config.extra_toolkits).map_err(io::Error::other)?;
        // Whoever was first has installed one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(io::Error::other)?;
        let state = Arc::new(State::new(config, catalog, client));
        let shared = web::Data::from(Arc::clone(&state));
        let server = Running::start(address, move |app| {
            if let Some(mut jobs) = shared.outbox.take() {
                let sender = web::Data::clone(&shared);
                actix_web::rt::spawn(async move {
                    while let Some(job) = jobs.recv().await {
                        let sender = web::Data::clone(&sender);
                        actix_web::rt::spawn(async move { deliver::send(&sender, job).await });
                    }
                });
            }
            app.app_data(shared.clone()).configure(routes::configure);
        })?;
        state.listens_at(server.url());
        Ok(ComposioHandle { server, state })
    }
}

/// A running Composio simulator; it stops when the handle is dropped.
#[derive(Debug)]
pub struct ComposioHandle {
    server: Running,
    state: Arc<State>,
}

impl ComposioHandle {
    /// Returns the base URL without a trailing slash: `http://127.0.0.1:PORT`. The API is below `/api/v3.1`.
    #[must_use]
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Returns the recorded requests of the API, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.state.recorder.all()
    }

    /// Forgets recorded requests, the rest of the script and the counts of `[[503x2]]`; keeps accounts and effects.
    pub fn clear(&self) {
        self.state.clear();
    }

    /// Queues steps; each meets the next requests that fit.
    pub fn script(&self, steps: Vec<ComposioScript>) {
        self.state.script().push(steps);
    }

    /// Changes the configuration of requests that arrive from now on.
    pub fn set_config(&self, f: impl FnOnce(&mut ComposioSimConfig)) {
        self.state.set_config(f);
    }

    /// Returns what tools have changed, oldest first.
    #[must_use]
    pub fn effects(&self) -> Vec<Effect> {
        self.state.store().effects.all().to_vec()
    }

    /// Forgets all effects.
    pub fn clear_effects(&self) {
        self.state.store().effects.clear();
    }

    /// Makes an ACTIVE account and returns its id; makes an auth config when the toolkit has none.
    ///
    /// # Errors
    /// The toolkit is unknown or needs no account.
    pub fn connect(&self, user_id: &str, toolkit: &str) -> io::Result<String> {
        let wish = NewAccount {
            user_id: user_id.to_owned(),
            toolkit: toolkit.to_owned(),
            auth_config_id: None,
            id: None,
            alias: None,
            status: None,
        };
        let made = control::make_account(&self.state, &mut self.state.store(), wish);
        let id = made.map(|account| account["id"].as_str().map(str::to_owned));
        let unusable = || io::Error::other(format!("toolkit {toolkit} takes no accounts"));
        id.ok().flatten().ok_or_else(unusable)
    }

    /// Sets the status of an account; `false` when there is none of this id. One that expires is told to the subscriber.
    pub fn set_status(&self, account: &str, status: &str) -> bool {
        control::change_status(&self.state, &mut self.state.store(), account, status, None)
    }

    /// Returns the status of an account.
    #[must_use]
    pub fn status(&self, account: &str) -> Option<String> {
        let store = self.state.store();
        let account = store.accounts.iter().find(|own| own.id == account);
        account.map(|own| own.status.clone())
    }

    /// Moves the clock of the simulator forward: links expire, the minute of the rate limit ends.
    pub fn advance(&self, millis: i64) {
        self.state.advance(millis);
    }

    /// Sends a webhook and returns what became of each sending.
    ///
    /// # Errors
    /// Nobody has subscribed to the event, it names something unknown, or the simulator has stopped.
    pub async fn deliver(&self, order: &WebhookOrder) -> Result<Vec<Delivery>, DeliverError> {
        deliver::deliver(&self.state, order).await
    }

    /// Returns the webhooks that were sent, oldest first.
    #[must_use]
    pub fn deliveries(&self) -> Vec<Delivery> {
        self.state.store().deliveries.clone()
    }

    /// Returns the slugs of all tools that change something.
    #[must_use]
    pub fn writing_tools(&self) -> Vec<String> {
        let tools = self.state.catalog.tools().filter(|(_, tool)| tool.writes());
        tools.map(|(_, tool)| tool.slug.clone()).collect()
    }

    /// Returns the input schema of a tool in its newest version.
    #[must_use]
    pub fn schema(&self, tool: &str) -> Option<Value> {
        let (toolkit, tool) = self.state.catalog.tool(tool)?;
        Some(tool.input_in(toolkit.newest()))
    }

    /// Stops the simulator: open connections are dropped, the port is free when this returns.
    pub fn stop(self) {
        drop(self);
    }
}
