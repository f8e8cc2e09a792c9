//! The rows of `[log]`, `[metrics]`, `[traces]` and `[recorder]`: what operators see.

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
    Setting::new(
        "traces.endpoint",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "",
        Kind::Url(|c, v| c.traces.endpoint = Some(v)),
        "Address of an OpenTelemetry collector that takes OTLP over HTTP, such as `http://localhost:4318`. Without it no traces are made.",
    ),
    Setting::new(
        "traces.headers",
        "OTEL_EXPORTER_OTLP_HEADERS",
        "",
        Kind::Secret(|c, v| c.traces.headers = Some(v)),
        "Headers for the collector: `NAME=VALUE,NAME=VALUE`. Without it none.",
    ),
    Setting::new(
        "traces.service_name",
        "OTEL_SERVICE_NAME",
        "kronos",
        Kind::Text(|c, v| c.traces.service_name = v),
        "What this server is called in traces.",
    ),
    Setting::new(
        "traces.sample_ratio",
        "OTEL_TRACES_SAMPLER_ARG",
        "1",
        Kind::Float {
            min: 0.0,
            max: 1.0,
            set: |c, v| c.traces.sample_ratio = v,
        },
        "The share of traces that are exported, of those that begin here; others follow the `traceparent` that they came with.",
    ),
    Setting::new(
        "traces.queue_spans",
        "OTEL_BSP_MAX_QUEUE_SIZE",
        "2048",
        integer(1, 1_000_000, |c, v| c.traces.queue_spans = size(v)),
        "Spans that wait for the collector; beyond them spans are dropped and counted, and nobody waits.",
    ),
    Setting::new(
        "recorder.turns",
        "RECORDER_TURNS",
        "1000",
        integer(0, 100_000, |c, v| c.session.recorder_turns = size(v)),
        "Runs of which the flight recorder holds where their time went: the newest, with at most 4 KiB of memory each; 0 records nothing.",
    ),
];
