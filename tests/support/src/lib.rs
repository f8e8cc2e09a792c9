//! What the tests of Kronos share: the real process, strict and rule-breaking websocket clients, waiting for conditions.
//!
//! A [`WsClient`] checks the promises of the protocol on every frame, whatever the test is about: each position of a
//! session once, in order, without gaps; every command answered once; only event sequences that AG-UI's verifier accepts.
//! Nothing here sleeps for a fixed time to let something happen, and nothing here knows the inside of the server.

#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "this crate is only used by tests, where a panic is how a broken promise shows"
)]

mod http;
mod kronos_proc;
mod raw_ws;
mod sse;
mod wait;
mod ws;

pub use http::{HttpReply, parse_reply, request};
pub use kronos_check::{Checker, ShownMessage, Transcript, Violation};
pub use kronos_proc::{KronosOptions, KronosProc, log_folder};
pub use raw_ws::{Handshake, RawFrame, RawWs, ReceivedFrame, opcode};
pub use sse::{SseClient, SseEvent, text_of};
pub use wait::{Condition, eventually, eventually_now};
pub use ws::{Closed, ConnectOptions, Reply, WsClient};
