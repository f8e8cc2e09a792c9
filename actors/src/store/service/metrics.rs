//! Names of the store's metrics.

/// Histogram, seconds: one group commit, from its first check to its answer.
pub const COMMIT_DURATION_SECONDS: &str = "kronos_store_commit_duration_seconds";
/// Histogram, requests: how many shared one commit.
pub const COMMIT_REQUESTS: &str = "kronos_store_commit_requests";
/// Counter: commits that failed as a whole.
pub const COMMIT_ERRORS_TOTAL: &str = "kronos_store_commit_errors_total";
/// Gauge, bytes: requests that wait for their commit or are in it.
pub const PENDING_BYTES: &str = "kronos_store_pending_bytes";
/// Gauge, bytes: what the store takes on its medium.
pub const SIZE_BYTES: &str = "kronos_store_size_bytes";
