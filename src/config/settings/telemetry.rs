//! The rows of `[log]`, `[metrics]` and `[recorder]`: what operators see.

use super::{
    Setting,
    rows::{integer, word},
    size,
};
use crate::config::{LogFormat, value::Kind};

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "log.level",
        "LOG_LEVEL",
        "info",
        Kind::Other {
            allowed: "one of trace, debug, info, warning, error, critical, off, or a filter such as info,kronos=debug",
            read: |c, v| {
                crate::telemetry::logs::read_level(v)
                    .map(|level| c.log.level = level)
                    .is_some()
            },
        },
        "Which log lines are written: a level, or levels by module.",
    )
    .flag("--log-level"),
    Setting::new(
        "log.format",
        "LOG_FORMAT",
        "pretty",
        word(LogFormat::WORDS, |c, v| c.log.format = LogFormat::from_word(v)),
        "Form of the log lines: for people or for machines.",
    ),
    Setting::new(
        "metrics.enabled",
        "METRICS_ENABLED",
        "true",
        Kind::Bool(|c, v| c.metrics.enabled = v),
        "Measure, and answer `/metrics`. Without it the server does a few percent less work.",
    ),
    Setting::new(
        "recorder.turns",
        "RECORDER_TURNS",
        "1000",
        integer(0, 100_000, |c, v| c.session.recorder_turns = size(v)),
        "Runs of which the flight recorder holds where their time went: the newest, with at most 4 KiB of memory each; 0 records nothing.",
    ),
];
