//! The rows of `[server]`.

use super::{
    Setting, narrow,
    rows::{KIB, MIB, MINUTE, MS, SECOND, bytes, integer, span, word},
    size,
};
use crate::config::{Environment, Network, value::Kind};

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "server.environment",
        "ENVIRONMENT",
        "development",
        word(Environment::WORDS, |c, v| {
            c.server.environment = Environment::from_word(v)
        }),
        "What the server is run as. `production` refuses what is convenient and unsafe.",
    ),
    Setting::new(
        "server.debug",
        "DEBUG",
        "false",
        Kind::Bool(|c, v| c.server.debug = v),
        "Log at level `debug` unless `log.level` says something else.",
    ),
    Setting::new(
        "server.host",
        "HOST",
        "127.0.0.1",
        Kind::Text(|c, v| c.server.host = v),
        "Address or host name to listen on; `0.0.0.0` for all interfaces.",
    )
    .flag("--host"),
    Setting::new(
        "server.port",
        "PORT",
        "8000",
        integer(0, 65_535, |c, v| c.server.port = u16::try_from(v).unwrap_or(0)),
        "TCP port to listen on; 0 takes a free one.",
    )
    .flag("--port"),
    Setting::new(
        "server.workers",
        "WORKERS",
        "0",
        integer(0, 1024, |c, v| c.server.workers = size(v)),
        "Threads that serve requests and sessions; 0 for one per core.",
    ),
    Setting::new(
        "server.public_url",
        "PUBLIC_URL",
        "",
        Kind::Url(|c, v| c.server.public_url = Some(v)),
        "Where browsers reach this server, for the way back from other services; unset: where it listens, if that is a loopback address.",
    ),
    Setting::new(
        "server.allowed_hosts",
        "ALLOWED_HOSTS",
        "[]",
        Kind::List(|c, v| c.server.allowed_hosts = v),
        "Origins of browsers that may call: `https://app.example.com`, `app.example.com`, or `*` outside production.",
    ),
    Setting::new(
        "server.body_bytes",
        "BODY_BYTES",
        "1MiB",
        bytes(KIB, 64 * MIB, |c, v| c.server.body_bytes = size(v)),
        "Largest body of a request.",
    ),
    Setting::new(
        "server.trusted_proxies",
        "TRUSTED_PROXIES",
        "[]",
        Kind::Other {
            allowed: r#"a JSON list of addresses and networks such as ["10.0.0.0/8", "::1"]"#,
            read: |c, v| {
                Network::read_list(v)
                    .map(|list| c.server.trusted_proxies = list)
                    .is_some()
            },
        },
        "Proxies in front of the server: only their X-Forwarded-For, Forwarded and X-Forwarded-Host count.",
    ),
    Setting::new(
        "server.rate_limit_per_user",
        "RATE_LIMIT_PER_USER",
        "6000",
        integer(0, 1_000_000_000, |c, v| c.server.rate_limit_per_user = narrow(v)),
        "Requests of one user in RATE_LIMIT_WINDOW; 0 for no limit.",
    ),
    Setting::new(
        "server.rate_limit_per_address",
        "RATE_LIMIT_PER_ADDRESS",
        "12000",
        integer(0, 1_000_000_000, |c, v| c.server.rate_limit_per_address = narrow(v)),
        "Requests from one address (of IPv6 from one /64) in RATE_LIMIT_WINDOW; 0 for no limit.",
    ),
    Setting::new(
        "server.rate_limit_auth",
        "RATE_LIMIT_AUTH",
        "60",
        integer(0, 1_000_000_000, |c, v| c.server.rate_limit_auth = narrow(v)),
        "Logins, signups and refreshes from one address in RATE_LIMIT_WINDOW; 0 for no limit of their own.",
    ),
    Setting::new(
        "server.rate_limit_window",
        "RATE_LIMIT_WINDOW",
        "60s",
        span(SECOND, 60 * MINUTE, |c, v| c.server.rate_limit_window = v),
        "Sliding window of the rate limits.",
    ),
    Setting::new(
        "server.rate_limit_keys",
        "RATE_LIMIT_KEYS",
        "1000000",
        integer(1, 100_000_000, |c, v| c.server.rate_limit_keys = size(v)),
        "Users and addresses that are counted in one window; who comes beyond is served uncounted.",
    ),
    Setting::new(
        "server.request_timeout",
        "REQUEST_TIMEOUT",
        "10s",
        span(100 * MS, 10 * MINUTE, |c, v| c.server.request_timeout = v),
        "Time in which the head of a request must have come.",
    ),
    Setting::new(
        "server.body_timeout",
        "BODY_TIMEOUT",
        "30s",
        span(100 * MS, 10 * MINUTE, |c, v| c.server.body_timeout = v),
        "Time in which the body of a request must have come.",
    ),
    Setting::new(
        "server.answer_timeout",
        "ANSWER_TIMEOUT",
        "30s",
        span(100 * MS, 10 * MINUTE, |c, v| c.server.answer_timeout = v),
        "Time in which a client must take 32 KiB of its answer, or what is left of it.",
    ),
    Setting::new(
        "server.disconnect_timeout",
        "DISCONNECT_TIMEOUT",
        "1s",
        span(SECOND, 10 * 60 * SECOND, |c, v| c.server.disconnect_timeout = v),
        "Time for which a closed HTTP connection may still take its answer.",
    ),
    Setting::new(
        "server.keep_alive",
        "KEEP_ALIVE",
        "75s",
        span(SECOND, 60 * MINUTE, |c, v| c.server.keep_alive = v),
        "Time for which an idle HTTP connection is kept.",
    ),
    Setting::new(
        "server.backlog",
        "BACKLOG",
        "8192",
        integer(1, 65_535, |c, v| c.server.backlog = narrow(v)),
        "Connections that the kernel may hold until they are accepted.",
    ),
    Setting::new(
        "server.drain_deadline",
        "DRAIN_DEADLINE",
        "10s",
        span(100 * MS, 60 * MINUTE, |c, v| c.server.drain_deadline = v),
        "Time that active runs get to finish when the server stops.",
    ),
    Setting::new(
        "server.admin_timeout",
        "ADMIN_TIMEOUT",
        "1s",
        span(10 * MS, MINUTE, |c, v| c.server.admin_timeout = v),
        "Time in which sessions and other actors must answer what an operator asks; one that does not is listed as such.",
    ),
    Setting::new(
        "server.health_probe_interval",
        "HEALTH_PROBE_INTERVAL",
        "60s",
        span(0, 24 * 60 * MINUTE, |c, v| c.server.health_probe_interval = v),
        "Pause between probes of the store, the model and Composio that traffic has not told about meanwhile; 0 for none.",
    ),
    Setting::new(
        "server.reload",
        "RELOAD",
        "false",
        Kind::Bool(|c, v| c.server.reload = v),
        "Taken for compatibility; does nothing here.",
    ),
];
