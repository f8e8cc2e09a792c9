//! The rows of `[log]` and `[metrics]`: what operators see.

use super::{
    Setting, narrow,
    rows::{GIB, KIB, bytes, integer, word},
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
        "log.dir",
        "LOG_DIR",
        "",
        Kind::Text(|c, v| c.log.dir = Some(v.into())),
        "Folder for log files beside stderr: `kronos.log` has every line, `kronos-errors.log` the errors. Without it there are none.",
    ),
    Setting::new(
        "log.file_bytes",
        "LOG_FILE_BYTES",
        "16MiB",
        bytes(4 * KIB, 4 * GIB, |c, v| c.log.file_bytes = v),
        "Size at which a log file is set aside and another begun.",
    ),
    Setting::new(
        "log.files",
        "LOG_FILES",
        "5",
        integer(1, 100, |c, v| c.log.files = narrow(v)),
        "Files that are kept of each of the two logs, the one that is written included: the disk needs 2 × LOG_FILES × LOG_FILE_BYTES.",
    ),
    Setting::new(
        "log.queue_lines",
        "LOG_QUEUE_LINES",
        "8192",
        integer(1, 1_000_000, |c, v| c.log.queue_lines = size(v)),
        "Lines that wait for stderr, and for each file; beyond them lines are left out and counted, and nobody waits.",
    ),
    Setting::new(
        "log.burst",
        "LOG_BURST",
        "100",
        integer(0, 1_000_000, |c, v| c.log.burst = narrow(v)),
        "Lines of one place in the code in a second, 0 for no limit; beyond them lines are left out, and one line a second says how many.",
    ),
    Setting::new(
        "metrics.enabled",
        "METRICS_ENABLED",
        "true",
        Kind::Bool(|c, v| c.metrics.enabled = v),
        "Measure, and answer `/metrics`. Without it the server does a few percent less work.",
    ),
];
