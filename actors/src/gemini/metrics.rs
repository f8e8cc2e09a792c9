//! Held handles of the service's metrics: looking one up costs more than counting.

use std::sync::LazyLock;

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::metrics as names;

/// Handles of the service's metrics; those with labels are looked up once for each generation.
pub(super) struct GeminiMetrics {
    /// Generations that hold a permit.
    pub(super) running: Gauge,
    /// Generations that wait for one.
    pub(super) waiting: Gauge,
    /// Generations that may hold one.
    pub(super) limit: Gauge,
    /// Attempts after the first that could be paid for.
    pub(super) retry_budget: Gauge,
    /// Time to the first text.
    pub(super) first_token: Histogram,
    /// Panics of the service.
    pub(super) restarts: Counter,
}

/// The handles. Ask for them only after the recorder is installed: earlier ones count nothing.
pub(super) fn handles() -> &'static GeminiMetrics {
    static HANDLES: LazyLock<GeminiMetrics> = LazyLock::new(|| GeminiMetrics {
        running: gauge!(names::GEMINI_RUNNING),
        waiting: gauge!(names::GEMINI_WAITING),
        limit: gauge!(names::GEMINI_LIMIT),
        retry_budget: gauge!(names::GEMINI_RETRY_BUDGET),
        first_token: histogram!(names::GEMINI_FIRST_TOKEN),
        restarts: counter!(names::GEMINI_RESTARTS),
    });
    &HANDLES
}
