//! Kronos: a stateful realtime server for AI chat.

pub mod chat;
