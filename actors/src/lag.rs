//! How late timers fire on the threads of the actors.
//!
//! A thread that is busy with one thing keeps everything else on it waiting: each watches itself, twice a second.

use std::time::Duration;

use metrics::histogram;
use tokio::time;

use crate::{
    clock,
    metrics::{ARBITER_LAG, is_measured},
};

/// How often a thread looks.
const PERIOD: Duration = Duration::from_millis(500);

/// Whose thread it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arbiter {
    /// Sessions and connections.
    Core,
    /// The service for Composio.
    Composio,
}

impl Arbiter {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::Composio => "composio",
        }
    }
}

/// Watches this thread until its runtime ends. Once per thread.
pub(crate) fn watch(arbiter: Arbiter) {
    if is_measured() {
        actix::spawn(run(arbiter));
    }
}

async fn run(arbiter: Arbiter) {
    let late = histogram!(ARBITER_LAG, "arbiter" => arbiter.as_str());
    loop {
        let due = clock::now() + PERIOD;
        time::sleep_until(due.into()).await;
        late.record(clock::now().saturating_duration_since(due).as_secs_f64());
    }
}
