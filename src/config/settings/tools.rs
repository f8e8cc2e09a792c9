//! The rows of `[tools]`.

use super::{
    Setting,
    rows::{MINUTE, MS, integer, span},
    size,
};

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "tools.offer_timeout",
        "TOOL_OFFER_TIMEOUT",
        "3s",
        span(MS, MINUTE, |c, v| c.tools.offer_timeout = v),
        "Time in which the tools of a run must be known; it begins without those that are not known then, and says so.",
    ),
    Setting::new(
        "tools.memories",
        "MAX_MEMORIES",
        "200",
        integer(0, 10_000, |c, v| c.tools.memories = size(v)),
        "Notes that may be remembered about one user.",
    ),
    Setting::new(
        "tools.memory_chars",
        "MAX_MEMORY_CHARS",
        "1000",
        integer(1, 16_000, |c, v| c.tools.memory_chars = size(v)),
        "Characters of one note.",
    ),
];
