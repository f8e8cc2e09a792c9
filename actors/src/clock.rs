//! Time, injected: the only place that asks the machine what time it is.
//!
//! Actors hold a [`Clock`] and pass times into the pure core as plain numbers. Nothing else may be added here.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tokio::sync::Notify;

/// Longest sleep before the end is compared with the wall clock again: that may be set.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Milliseconds since the Unix epoch, the unit of every stored time.
pub type Millis = i64;

/// Returns a monotonic instant, for what is measured where no [`Clock`] is at hand.
#[expect(clippy::disallowed_methods, reason = "this is the one reader of the clock")]
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// Source of wall-clock and monotonic time; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clock(Arc<Shift>);

/// How tests move the wall clock.
#[derive(Debug, Default)]
struct Shift {
    /// Milliseconds added to it.
    offset: AtomicI64,
    /// Wakes who waits for a time.
    moved: Notify,
}

impl Clock {
    /// Returns the wall-clock time in milliseconds since the Unix epoch.
    #[expect(clippy::disallowed_methods, reason = "this is the one reader of the clock")]
    pub fn now_ms(&self) -> Millis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        i64::try_from(since.as_millis())
            .unwrap_or(i64::MAX)
            .saturating_add(self.0.offset.load(Ordering::Relaxed))
    }

    /// Returns a monotonic instant, for durations and deadlines inside the process.
    pub fn instant(&self) -> Instant {
        now()
    }

    /// Moves this clock and all its clones forward; for tests.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(0);
        self.0.offset.fetch_add(by, Ordering::Relaxed);
        self.0.moved.notify_waiters();
    }

    /// Waits until the wall clock shows `end`, also when it is moved or set meanwhile.
    pub async fn sleep_until(&self, end: Millis) {
        loop {
            let mut moved = pin!(self.0.moved.notified());
            // From here on no move is missed.
            moved.as_mut().enable();
            let left = u64::try_from(end.saturating_sub(self.now_ms())).unwrap_or(0);
            if left == 0 {
                return;
            }
            let pause = Duration::from_millis(left).min(LONGEST_SLEEP);
            // Whichever comes first, the clock says whether it was enough.
            drop(tokio::time::timeout(pause, moved).await);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_when_its_time_comes_or_the_clock_is_moved_there() {
        let clock = Clock::default();
        clock.sleep_until(clock.now_ms() - 1).await;
        clock.sleep_until(clock.now_ms() + 20).await;
        let end = clock.now_ms() + 3_600_000;
        let mut sleep = Box::pin(clock.sleep_until(end));
        assert!((&mut sleep).now_or_never().is_none());
        clock.advance(Duration::from_secs(3_000));
        assert!((&mut sleep).now_or_never().is_none());
        clock.clone().advance(Duration::from_secs(600));
        assert!((&mut sleep).now_or_never().is_some());
        assert!(clock.now_ms() >= end);
    }
}
