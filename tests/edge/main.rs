//! The HTTP surface as a client meets it: the real server on a free port, real requests.

mod auth;
mod chat;
mod errors;
mod harness;
mod headers;
mod health;
