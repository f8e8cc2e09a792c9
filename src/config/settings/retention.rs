//! The rows of `[retention]`.

use super::{
    Setting,
    rows::{DAY, SECOND, integer, span},
    size,
};

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "retention.age",
        "RETENTION_AGE",
        "",
        span(SECOND, 36_500 * DAY, |c, v| c.retention.age = Some(v)),
        "Conversations that have not changed for so long are deleted; unset: never.",
    ),
    Setting::new(
        "retention.sessions_per_user",
        "RETENTION_SESSIONS_PER_USER",
        "",
        integer(1, 1_000_000, |c, v| c.retention.sessions_per_user = Some(size(v))),
        "Conversations kept for one user, the newest; the others are deleted. Unset: all are kept.",
    ),
    Setting::new(
        "retention.interval",
        "RETENTION_INTERVAL",
        "10m",
        span(SECOND, 30 * DAY, |c, v| c.retention.interval = v),
        "How often conversations to delete are looked for.",
    ),
];
