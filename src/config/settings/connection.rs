//! The rows of `[connection]`.

use super::{
    Setting,
    rows::{GIB, HOUR, KIB, MINUTE, MS, bytes, integer, span},
    size,
};

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "connection.hello_timeout",
        "HELLO_TIMEOUT",
        "10s",
        span(100 * MS, 10 * MINUTE, |c, v| c.connection.hello_timeout = v),
        "Time in which the first frame of a websocket must come.",
    ),
    Setting::new(
        "connection.ping_interval",
        "PING_INTERVAL",
        "25s",
        span(100 * MS, HOUR, |c, v| c.connection.ping_interval = v),
        "Interval of the server's pings; a peer silent for two of them is gone.",
    ),
    Setting::new(
        "connection.frame_bytes",
        "FRAME_BYTES",
        "512KiB",
        bytes(4 * KIB, GIB, |c, v| c.connection.frame_bytes = size(v)),
        "Bytes of one websocket message, in both directions.",
    ),
    Setting::new(
        "connection.pre_auth_frame_bytes",
        "PRE_AUTH_FRAME_BYTES",
        "16KiB",
        bytes(KIB, GIB, |c, v| c.connection.pre_auth_frame_bytes = size(v)),
        "Bytes of one websocket message before `hello` was answered; at most FRAME_BYTES.",
    ),
    Setting::new(
        "connection.attachments",
        "CONNECTION_ATTACHMENTS",
        "64",
        integer(1, 100_000, |c, v| c.connection.attachments = size(v)),
        "Sessions that one socket may attach.",
    ),
    Setting::new(
        "connection.pending_commands",
        "PENDING_COMMANDS",
        "64",
        integer(1, 100_000, |c, v| c.connection.pending_commands = size(v)),
        "Commands of one socket that may wait for their reply.",
    ),
    Setting::new(
        "connection.commands_per_second",
        "COMMANDS_PER_SECOND",
        "200",
        integer(1, 1_000_000, |c, v| c.connection.commands_per_second = size(v)),
        "Commands that one socket may send in a second, on average.",
    ),
    Setting::new(
        "connection.commands_burst",
        "COMMANDS_BURST",
        "400",
        integer(1, 1_000_000, |c, v| c.connection.commands_burst = size(v)),
        "Commands that one socket may send at once; who sends as many again without a pause is closed.",
    ),
    Setting::new(
        "connection.write_timeout",
        "WRITE_TIMEOUT",
        "30s",
        span(100 * MS, HOUR, |c, v| c.connection.write_timeout = v),
        "Time in which a peer must read something of what was written to it.",
    ),
    Setting::new(
        "connection.unread_bytes",
        "UNREAD_BYTES",
        "32KiB",
        bytes(4 * KIB, GIB, |c, v| c.connection.unread_bytes = size(v)),
        "Bytes written to one socket beyond the last answered ping among them; then the rest waits.",
    ),
    Setting::new(
        "connection.max_connections",
        "MAX_CONNECTIONS",
        "20000",
        integer(1, 1_000_000, |c, v| c.connection.max_connections = size(v)),
        "Websockets of this process.",
    ),
    Setting::new(
        "connection.max_connections_per_user",
        "MAX_CONNECTIONS_PER_USER",
        "256",
        integer(1, 1_000_000, |c, v| c.connection.max_connections_per_user = size(v)),
        "Websockets of one user.",
    ),
    Setting::new(
        "connection.max_connections_per_address",
        "MAX_CONNECTIONS_PER_ADDRESS",
        "20000",
        integer(1, 1_000_000, |c, v| c.connection.max_connections_per_address = size(v)),
        "Websockets of one remote address (IPv6: of one /64 network); a proxy counts as one.",
    ),
];
