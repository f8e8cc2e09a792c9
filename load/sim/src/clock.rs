//! The time of day. Pacing uses the timers of tokio and never comes here.

use time::OffsetDateTime;

/// Returns the current time in UTC.
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
