//! The rows of `[auth]`.

use super::{
    Setting,
    rows::{SECOND, integer, span, word},
    size,
};
use crate::config::{AuthMode, value::Kind};

pub(super) static SETTINGS: &[Setting] = &[
    Setting::new(
        "auth.mode",
        "AUTH_MODE",
        "",
        word(AuthMode::WORDS, |c, v| c.auth.mode = AuthMode::from_word(v)),
        "`development` serves guests without a token; unset: only when ENVIRONMENT is development and HOST is loopback.",
    ),
    Setting::new(
        "auth.secret_key",
        "SECRET_KEY",
        "",
        Kind::Secret(|c, v| c.auth.secret_key = Some(v)),
        "Signs tokens, at least 32 bytes; unset: a random one for this process, refused in staging and production.",
    ),
    Setting::new(
        "auth.jwt_algorithm",
        "JWT_ALGORITHM",
        "HS256",
        word(&["HS256"], |_, _| ()),
        "Algorithm of tokens. The one in a token's header is never believed.",
    ),
    Setting::new(
        "auth.access_token_expire_minutes",
        "ACCESS_TOKEN_EXPIRE_MINUTES",
        "30",
        integer(1, 1440, |c, v| {
            c.auth.access_token_ms = i64::try_from(v).unwrap_or(1) * 60_000
        }),
        "Life of an access token in minutes.",
    ),
    Setting::new(
        "auth.refresh_token_expire_days",
        "REFRESH_TOKEN_EXPIRE_DAYS",
        "30",
        integer(1, 365, |c, v| {
            c.auth.refresh_token_ms = i64::try_from(v).unwrap_or(1) * 86_400_000
        }),
        "Life of a refresh token in days; each use starts it again.",
    ),
    Setting::new(
        "auth.ticket_expire",
        "TICKET_EXPIRE",
        "30s",
        span(SECOND, 300 * SECOND, |c, v| c.auth.ticket_expire = v),
        "Life of a ticket for a browser's websocket.",
    ),
    Setting::new(
        "auth.max_tickets",
        "MAX_TICKETS",
        "100000",
        integer(1, 10_000_000, |c, v| c.auth.max_tickets = size(v)),
        "Tickets that may wait for their use.",
    ),
    Setting::new(
        "auth.password_concurrency",
        "PASSWORD_CONCURRENCY",
        "2",
        integer(1, 256, |c, v| c.auth.password_concurrency = size(v)),
        "Passwords hashed at once; each takes 19 MiB for a moment.",
    ),
    Setting::new(
        "auth.password_waiting",
        "PASSWORD_WAITING",
        "128",
        integer(1, 100_000, |c, v| c.auth.password_waiting = size(v)),
        "Logins and signups that may wait for their hash; more are refused.",
    ),
];
