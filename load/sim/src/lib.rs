//! Simulators of the upstreams of Kronos over real HTTP.
//!
//! [`GeminiSim`] serves the text half of Google's Gemini API so faithfully that Google's own SDKs work unchanged. It
//! paces its streams, answers the same request with the same text, fails on demand (configuration, request header,
//! magic words in the prompt, or a script) and records what it received and how each exchange ended.
//!
//! ```no_run
//! use kronos_sim::{GeminiSim, ScriptedReply, SimConfig};
//!
//! let sim = GeminiSim::start(SimConfig { tokens_per_second: 0.0, ..SimConfig::default() })?;
//! sim.script(vec![ScriptedReply::fault("503"), ScriptedReply::text(["Hel", "lo"])]);
//! println!("{}", sim.url());
//! # Ok::<(), std::io::Error>(())
//! ```

mod answer;
mod auth;
mod chunk;
mod clock;
mod composio;
mod config;
mod control;
mod directive;
mod error;
mod gemini;
mod generate;
mod models;
mod random;
mod record;
mod request;
mod routes;
mod schema;
mod script;
mod server;
mod shared;
mod signature;
mod stream;
mod tokens;
mod tools;
mod validate;

pub use composio::{
    ComposioHandle, ComposioScript, ComposioSim, ComposioSimConfig, DeliverError, Delivery, Effect, ToolResult,
    WebhookOrder,
};
pub use config::SimConfig;
pub use gemini::{GeminiSim, SimHandle};
pub use record::{Outcome, RecordedRequest};
pub use script::{ScriptedChunk, ScriptedEnd, ScriptedError, ScriptedReply};
