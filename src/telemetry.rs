//! Log lines and the metrics recorder: what is written where. Names of metrics live in `kronos_actors::metrics`.

use std::{io::IsTerminal as _, sync::OnceLock, time::Duration};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// How often drained samples are folded into histograms; nobody else does it, and they pile up otherwise.
pub(crate) const UPKEEP: Duration = Duration::from_secs(5);

/// Upper bounds of every `_seconds` histogram: from a commit on a fast disk to a long answer.
const SECONDS: [f64; 16] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0,
];

/// Upper bounds of every `_bytes` histogram.
const BYTES: [f64; 9] = [
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    16_777_216.0,
];

/// Upper bounds of what is counted in powers of two: requests of a commit.
const COUNTS: [f64; 13] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0,
];

/// What a level does not mean, unless a filter names it: the web framework tells of every start and stop of a worker, sled of
/// every page (and at `trace` of every byte of what was said), the HTTP client of every connection that it keeps.
const QUIET: &str = ",actix_server=warn,actix_http=warn,actix_http::h1=off,sled=warn,hyper_util=info,reqwest=info";

/// What no level means: the HTTP parser writes an error for whatever a stranger sends; ours are written where they are made.
const NEVER: &str = ",actix_http::h1=off";

/// Completes a level; a filter is taken at its word, and a level that is as quiet needs nothing.
fn filter_for(level: &str) -> String {
    match level {
        "info" | "debug" | "trace" => format!("{level}{QUIET}"),
        "warn" | "error" => format!("{level}{NEVER}"),
        _ => level.to_owned(),
    }
}

/// Starts the log lines on stderr. Called again (tests), it changes nothing.
pub fn start(config: &LogConfig) {
    let level = filter_for(&config.level);
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_checked_at_load| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colours)
        // It would say so on stderr, which is what has failed, and panic.
        .log_internal_errors(false)
        .with_writer(std::io::stderr);
    // A second subscriber is refused; the first stays.
    drop(match config.format {
        LogFormat::Pretty => lines.with_target(false).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    });
}

/// Reads a level as guides spell it (`INFO`, `WARNING`, `CRITICAL`) or a filter; `None` when it is neither.
pub(crate) fn read_level(text: &str) -> Option<String> {
    let level = match text.to_ascii_lowercase().as_str() {
        "trace" | "debug" | "info" | "error" | "off" => text.to_ascii_lowercase(),
        "warn" | "warning" => "warn".to_owned(),
        "critical" | "fatal" => "error".to_owned(),
        _ if text.contains(['=', ',']) => text.to_owned(),
        _ => return None,
    };
    EnvFilter::try_new(&level).ok().map(|_filter| level)
}

/// Returns the process' recorder, installed at the first call; `None` when something else installed one before.
pub(crate) fn recorder() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let builder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_bytes".to_owned()), &BYTES))
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_requests".to_owned()), &COUNTS));
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        handle
            .inspect_err(|error| tracing::error!(%error, "metrics are off"))
            .ok()
    };
    let handle = HANDLE.get_or_init(install).as_ref();
    if handle.is_some() {
        kronos_actors::metrics::describe();
    }
    handle
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_is_never_made_louder_by_what_it_does_not_mean() {
        for level in ["off", "info,sled=trace"] {
            assert_eq!(filter_for(level), level);
        }
        for level in ["error", "warn"] {
            assert_eq!(filter_for(level), format!("{level},actix_http::h1=off"));
        }
        for level in ["info", "debug", "trace"] {
            assert!(EnvFilter::try_new(filter_for(level)).is_ok() && filter_for(level).contains("sled=warn"));
        }
    }

    #[test]
    fn levels_are_taken_as_older_guides_spell_them() {
        for (text, level) in [
            ("INFO", "info"),
            ("WARNING", "warn"),
            ("critical", "error"),
            ("info,kronos=debug", "info,kronos=debug"),
        ] {
            assert_eq!(read_level(text).as_deref(), Some(level));
        }
        for text in ["", "loud", "kronos=loud"] {
            assert_eq!(read_level(text), None, "{text}");
        }
    }
}
