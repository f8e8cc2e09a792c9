//! The domain of Kronos.

pub mod clock;
pub mod config;
pub mod store;
