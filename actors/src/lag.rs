//! How late timers fire on the threads of the actors, and how many tasks live there.
//!
//! A thread that is busy with one thing keeps everything else on it waiting: each watches itself, twice a second.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use metrics::{gauge, histogram};
use tokio::{runtime::Handle, time};

use crate::{
    clock,
    metrics::{ARBITER_LAG, TOKIO_TASKS, is_measured},
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

/// Tasks of all threads, each as it was when it last looked.
static TASKS: AtomicI64 = AtomicI64::new(0);

/// Watches this thread until its runtime ends. Once per thread.
pub(crate) fn watch(arbiter: Arbiter) {
    if is_measured() {
        actix::spawn(run(arbiter));
    }
}

async fn run(arbiter: Arbiter) {
    let late = histogram!(ARBITER_LAG, "arbiter" => arbiter.as_str());
    let runtime = Handle::current().metrics();
    let mut tasks = Tasks(0);
    loop {
        tasks.set(i64::try_from(runtime.num_alive_tasks()).unwrap_or(i64::MAX));
        let due = clock::now() + PERIOD;
        time::sleep_until(due.into()).await;
        late.record(clock::now().saturating_duration_since(due).as_secs_f64());
    }
}

/// The tasks of one thread as part of all.
struct Tasks(i64);

impl Tasks {
    fn set(&mut self, now: i64) {
        TASKS.fetch_add(now - self.0, Ordering::Relaxed);
        self.0 = now;
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Shows how many tasks there are: called before each scrape.
pub fn report() {
    #[expect(clippy::cast_precision_loss, reason = "a gauge")]
    gauge!(TOKIO_TASKS).set(TASKS.load(Ordering::Relaxed) as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tasks_of_a_thread_go_with_it() {
        let before = TASKS.load(Ordering::Relaxed);
        let (mut one, mut two) = (Tasks(0), Tasks(0));
        one.set(5);
        two.set(3);
        one.set(4);
        assert_eq!(TASKS.load(Ordering::Relaxed) - before, 7);
        drop((one, two));
        assert_eq!(TASKS.load(Ordering::Relaxed), before);
    }
}
