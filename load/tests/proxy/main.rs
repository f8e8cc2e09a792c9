//! The proxy in the middle, between the real clients and the real server: what it plants is found, what it records can be replayed.
//!
//! The binaries `kronos` and `kronos-sim` must lie beside that of the load tester (`cargo build --workspace --bins`).

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by a panic")]

mod faults;
mod record;
mod support;
