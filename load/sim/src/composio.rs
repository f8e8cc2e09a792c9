//! The Composio simulator: the REST API of version 3 and 3.1, the page behind a link, and webhooks.

mod accounts;
mod auth_configs;
mod call;
mod catalog;
mod config;
mod connect;
mod control;
mod deliver;
mod effects;
mod error;
mod execute;
mod fault;
mod handle;
mod ids;
mod link;
mod page;
mod routes;
mod script;
mod sessions;
mod sign;
mod state;
mod toolkits;
mod tools;
mod triggers;
mod uploads;
mod validate;
mod webhooks;
mod world;

pub use config::ComposioSimConfig;
pub use deliver::{DeliverError, Delivery, WebhookOrder};
pub use effects::Effect;
pub use handle::{ComposioHandle, ComposioSim};
pub use script::{ComposioScript, ToolResult};
