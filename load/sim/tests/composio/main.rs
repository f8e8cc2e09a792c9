//! What the Composio simulator promises, one file for each part.

#![expect(clippy::unwrap_used, reason = "the functions beside the tests are tests, too")]

mod captures;
mod connect;
mod faults;
mod harness;
mod tools;
mod webhooks;
