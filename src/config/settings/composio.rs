//! The rows of `[composio]`.

use std::collections::BTreeMap;

use super::{
    Setting, narrow,
    rows::{DAY, HOUR, KIB, MIB, MINUTE, MS, SECOND, bytes, integer, span},
    size,
};
use crate::config::{Config, value::Kind};

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "composio.api_key",
        "COMPOSIO_API_KEY",
        "",
        Kind::Secret(|c, v| c.composio.api_key = Some(v)),
        "Key of Composio; unset: the simulator in development and testing, else no tools but the built-in ones.",
    ),
    Setting::new(
        "composio.base_url",
        "COMPOSIO_BASE_URL",
        "https://backend.composio.dev",
        Kind::Url(|c, v| c.composio.base_url = v),
        "Address of Composio, without a version.",
    ),
    Setting::new(
        "composio.connection_timeout",
        "COMPOSIO_CONNECTION_TIMEOUT",
        "60s",
        span(SECOND, 60 * MINUTE, |c, v| c.composio.connection_timeout = v),
        "Time in which a user should have connected an account: it is told when it passes; the link works until it lapses.",
    ),
    Setting::new(
        "composio.webhook_secret",
        "COMPOSIO_WEBHOOK_SECRET",
        "",
        Kind::Secret(|c, v| c.composio.webhook_secret = Some(v)),
        "What Composio signs its events with; unset: none is taken.",
    ),
    Setting::new(
        "composio.webhook_ids",
        "COMPOSIO_WEBHOOK_IDS",
        "100000",
        integer(1, 10_000_000, |c, v| c.composio.webhook_ids = size(v)),
        "Ids of Composio's events that are remembered, so that none counts twice; beyond them the oldest is forgotten.",
    ),
    Setting::new(
        "composio.redirect_hosts",
        "COMPOSIO_REDIRECT_HOSTS",
        "[]",
        Kind::List(|c, v| c.composio.redirect_hosts = v),
        "Hosts to which a browser may be sent back when an account is connected, beside the server's own and those of ALLOWED_HOSTS.",
    ),
    Setting::new(
        "composio.toolkits",
        "COMPOSIO_TOOLKITS",
        "[]",
        Kind::List(|c, v| c.composio.toolkits = v),
        "Toolkits that runs are offered beside those of the user's accounts; empty: those with an enabled auth config.",
    ),
    Setting::new(
        "composio.toolkit_versions",
        "COMPOSIO_TOOLKIT_VERSIONS",
        "{}",
        Kind::Other {
            allowed: r#"a JSON object of versions by toolkit such as {"github": "20251027_00"}"#,
            read: read_versions,
        },
        "Versions of toolkits; others run with the version that was newest when their tools were listed.",
    ),
    Setting::new(
        "composio.max_tools",
        "COMPOSIO_MAX_TOOLS",
        "32",
        integer(1, 128, |c, v| c.composio.max_tools = size(v)),
        "Tools of Composio that one run is offered.",
    ),
    Setting::new(
        "composio.catalogue_ttl",
        "COMPOSIO_CATALOGUE_TTL",
        "15m",
        span(SECOND, DAY, |c, v| c.composio.catalogue_ttl = v),
        "Age at which what is known of toolkits, tools and auth configs is asked for again.",
    ),
    Setting::new(
        "composio.catalogue_toolkits",
        "COMPOSIO_CATALOGUE_TOOLKITS",
        "128",
        integer(1, 10_000, |c, v| c.composio.catalogue_toolkits = size(v)),
        "Toolkits whose tools are kept in memory; beyond them the least wanted goes.",
    ),
    Setting::new(
        "composio.connect_timeout",
        "COMPOSIO_CONNECT_TIMEOUT",
        "5s",
        span(10 * MS, 10 * MINUTE, |c, v| c.composio.connect_timeout = v),
        "Time to connect.",
    ),
    Setting::new(
        "composio.request_timeout",
        "COMPOSIO_REQUEST_TIMEOUT",
        "30s",
        span(10 * MS, HOUR, |c, v| c.composio.request_timeout = v),
        "Time for an answer of Composio that no tool is waited for.",
    ),
    Setting::new(
        "composio.execute_timeout",
        "COMPOSIO_EXECUTE_TIMEOUT",
        "90s",
        span(10 * MS, HOUR, |c, v| c.composio.execute_timeout = v),
        "Time for a tool's answer; after it nobody knows whether the tool did it.",
    ),
    Setting::new(
        "composio.max_response_bytes",
        "COMPOSIO_MAX_RESPONSE_BYTES",
        "8MiB",
        bytes(4 * KIB, 256 * MIB, |c, v| c.composio.max_response_bytes = size(v)),
        "Bytes of one answer of Composio; a larger one is refused while it is read.",
    ),
    Setting::new(
        "composio.max_attempts",
        "COMPOSIO_MAX_ATTEMPTS",
        "3",
        integer(1, 20, |c, v| c.composio.max_attempts = narrow(v)),
        "Attempts of one request while nothing can have happened.",
    ),
    Setting::new(
        "composio.backoff",
        "COMPOSIO_BACKOFF",
        "500ms",
        span(MS, 10 * MINUTE, |c, v| c.composio.backoff = v),
        "First pause between attempts, doubled each time, with jitter.",
    ),
    Setting::new(
        "composio.max_backoff",
        "COMPOSIO_MAX_BACKOFF",
        "8s",
        span(MS, HOUR, |c, v| c.composio.max_backoff = v),
        "Longest pause between attempts; at least COMPOSIO_BACKOFF.",
    ),
    Setting::new(
        "composio.retry_ratio",
        "COMPOSIO_RETRY_RATIO",
        "0.2",
        Kind::Float {
            min: 0.0,
            max: 100.0,
            set: |c, v| c.composio.retry_ratio = v,
        },
        "Attempts after the first that each success of the process pays for.",
    ),
    Setting::new(
        "composio.retry_burst",
        "COMPOSIO_RETRY_BURST",
        "20",
        integer(0, 1_000_000, |c, v| c.composio.retry_burst = narrow(v)),
        "Attempts after the first that are paid for at the start, and at most; 0 repeats none.",
    ),
    Setting::new(
        "composio.max_concurrent",
        "COMPOSIO_MAX_CONCURRENT",
        "64",
        integer(1, 100_000, |c, v| c.composio.max_concurrent = size(v)),
        "Requests to Composio at once in this process.",
    ),
    Setting::new(
        "composio.min_concurrent",
        "COMPOSIO_MIN_CONCURRENT",
        "4",
        integer(1, 100_000, |c, v| c.composio.min_concurrent = size(v)),
        "Requests at once that are left when Composio pushes back; at most COMPOSIO_MAX_CONCURRENT counts.",
    ),
    Setting::new(
        "composio.max_concurrent_per_user",
        "COMPOSIO_MAX_CONCURRENT_PER_USER",
        "8",
        integer(1, 100_000, |c, v| c.composio.max_concurrent_per_user = size(v)),
        "Requests to Composio at once of one user.",
    ),
    Setting::new(
        "composio.max_waiting",
        "COMPOSIO_MAX_WAITING",
        "1024",
        integer(0, 1_000_000, |c, v| c.composio.max_waiting = size(v)),
        "Requests to Composio that may wait for their turn.",
    ),
    Setting::new(
        "composio.max_pending",
        "COMPOSIO_MAX_PENDING",
        "1000",
        integer(1, 1_000_000, |c, v| c.composio.max_pending = size(v)),
        "Connections that may be in the making at once: each is looked after.",
    ),
    Setting::new(
        "composio.max_pending_per_user",
        "COMPOSIO_MAX_PENDING_PER_USER",
        "16",
        integer(1, 1_000_000, |c, v| c.composio.max_pending_per_user = size(v)),
        "The same of one user.",
    ),
    Setting::new(
        "composio.breaker_failures",
        "COMPOSIO_BREAKER_FAILURES",
        "8",
        integer(1, 10_000, |c, v| c.composio.breaker_failures = narrow(v)),
        "Failures in a row that open the circuit.",
    ),
    Setting::new(
        "composio.breaker_open",
        "COMPOSIO_BREAKER_OPEN",
        "5s",
        span(10 * MS, HOUR, |c, v| c.composio.breaker_open = v),
        "Time for which an open circuit refuses before it lets one request through.",
    ),
];

/// Reads a JSON object whose names are toolkits and whose values are versions.
fn read_versions(config: &mut Config, text: &str) -> bool {
    let Ok(versions) = serde_json::from_str::<BTreeMap<String, String>>(text) else {
        return false;
    };
    let word = |text: &String| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        (1..=100).contains(&text.len()) && text.bytes().all(plain)
    };
    if !versions.iter().all(|(toolkit, version)| word(toolkit) && word(version)) {
        return false;
    }
    config.composio.toolkit_versions = versions
        .into_iter()
        .map(|(toolkit, version)| (toolkit.to_ascii_lowercase(), version))
        .collect();
    true
}
