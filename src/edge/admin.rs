//! The routes under `/admin`: what the server is doing, and what operators do about it. For superusers.
//!
//! What is shown are numbers and ids: never what was said, what something is called, or who somebody is beyond an id.

use super::endpoint::Endpoint;

mod actors;
mod connections;
mod log_level;
pub(crate) mod node;
mod page;
mod runs;
mod sessions;
mod turns;

/// Every endpoint of this folder.
pub(super) fn endpoints() -> Vec<Endpoint> {
    [
        sessions::endpoints(),
        connections::endpoints(),
        runs::endpoints(),
        actors::endpoints(),
        log_level::endpoints(),
        turns::endpoints(),
        node::endpoints(),
    ]
    .into_iter()
    .flatten()
    .collect()
}
