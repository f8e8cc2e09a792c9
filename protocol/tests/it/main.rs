//! The crate as its users see it: one file per promise.

#![expect(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

mod ag_ui;
mod any_event;
mod events;
mod golden;
mod order;
mod schema;
mod total;
mod words;
