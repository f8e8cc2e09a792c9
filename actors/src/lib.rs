//! The domain of Kronos as supervised actors.

pub mod clock;
pub mod config;
pub mod connection;
pub mod directory;
pub mod ids;
pub mod principal;
pub mod session;
pub mod store;
