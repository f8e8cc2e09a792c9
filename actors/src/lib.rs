//! The domain of Kronos: sessions, connections, directory, store and upstream services as supervised actors.

pub mod clock;
pub mod config;
pub mod gemini;
pub mod upstream;
