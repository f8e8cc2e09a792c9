//! The promises of the protocol, checked on every frame that a client sends and receives: each position of a session once, in
//! order, without gaps; every command answered once; only event sequences that AG-UI's verifier accepts; the same on every
//! device; nothing taken back.
//!
//! Pure: no sockets, no clock. The load tester and the tests share it.

mod checker;
mod ledger;
mod shape;
mod transcript;

pub use checker::{Checker, Track, Violation};
pub use ledger::{Breach, DeviceId, Ledger};
pub use shape::{Run, RunEnd, RunShape};
pub use transcript::{ShownMessage, Transcript};
