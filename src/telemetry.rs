//! What operators see: log lines and metrics.

pub(crate) mod logs;
pub(crate) mod recorder;
