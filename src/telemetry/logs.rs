//! Log lines: what is written where, and which lines.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

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
pub(crate) fn start(config: &LogConfig) {
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
