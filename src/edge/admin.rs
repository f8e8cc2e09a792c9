//! The routes under `/admin`: what the server is doing, and what operators do about it. For superusers.

use super::endpoint::Endpoint;

mod actors;
mod log_level;
mod turns;

/// Every endpoint of this folder.
pub(super) fn endpoints() -> Vec<Endpoint> {
    [actors::endpoints(), log_level::endpoints(), turns::endpoints()]
        .into_iter()
        .flatten()
        .collect()
}
