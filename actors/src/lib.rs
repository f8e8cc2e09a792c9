//! The domain of Kronos as actors.
pub mod clock;
pub mod config;
pub mod directory;
pub mod gemini;
pub mod ids;
pub mod metrics;
pub mod principal;
pub mod session;
pub mod store;
pub mod supervisor;
