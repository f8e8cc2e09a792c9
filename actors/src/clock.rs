//! Time, injected: the only place that asks the machine what time it is.
//!
//! Actors hold a [`Clock`] and pass times into the pure core as plain numbers. Nothing else may be added here.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Milliseconds since the Unix epoch, the unit of every stored time.
pub type Millis = i64;

/// Source of wall-clock and monotonic time; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clock {
    /// Milliseconds added to the wall clock, so that tests can move it.
    offset: Arc<AtomicI64>,
}

impl Clock {
    /// Returns the wall-clock time in milliseconds since the Unix epoch.
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the clock")]
    pub fn now_ms(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since.as_millis())
            .unwrap_or(i64::MAX)
            .saturating_add(self.offset.load(Ordering::Relaxed))
    }

    /// Returns a monotonic instant, for durations and deadlines inside the process.
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the clock")]
    pub fn instant(&self) -> Instant {
        Instant::now()
    }

    /// Moves this clock and all its clones forward; for tests.
    pub fn advance(&self, by: Duration) {
        self.offset
            .fetch_add(i64::try_from(by.as_millis()).unwrap_or(0), Ordering::Relaxed);
    }
}
