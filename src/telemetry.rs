//! What operators see: log lines, traces and metrics.

pub(crate) mod logs;
pub(crate) mod recorder;
pub(crate) mod traces;

use crate::config::Config;

/// Why log lines or traces cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The folder for log files cannot be written.
    #[error(transparent)]
    Logs(#[from] logs::LogError),
    /// Settings with which no trace can be exported.
    #[error(transparent)]
    Traces(#[from] traces::TracesError),
}

/// Starts the log lines and traces of this process, the first time; called again, it changes nothing.
///
/// # Errors
/// [`TelemetryError`].
pub(crate) fn start(config: &Config) -> Result<(), TelemetryError> {
    logs::start(&config.log, || traces::start(&config.traces))
}

/// Writes and sends what is on its way. Lines and spans that come later may be lost.
pub(crate) fn finish() {
    traces::finish();
    logs::finish();
}

/// Brings the metrics of lines and spans up to date.
pub(crate) fn report() {
    logs::report();
    traces::report();
}
