//! The promises of the protocol, checked on every frame that a client sends and receives: each position of a session once, in
//! order, without gaps; every command answered once; only event sequences that AG-UI's verifier accepts.
//!
//! Pure: no sockets, no clock. The load tester and the tests share it.

mod checker;
mod transcript;

pub use checker::{Checker, Track, Violation};
pub use transcript::{ShownMessage, Transcript};
