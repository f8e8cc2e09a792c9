//! Time: of day, because what is measured crosses processes, and monotonic for spans within this one.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Returns microseconds since 1970, as the simulator writes them into its answers.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the load tester")]
pub(crate) fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Returns the monotonic time.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the load tester")]
pub(crate) fn instant() -> Instant {
    Instant::now()
}
