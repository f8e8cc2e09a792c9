//! The rows of `[auth]`.

use super::{
    Setting,
    rows::{DAY, HOUR, KIB, MIB, MINUTE, MS, SECOND, bytes, integer, span, word},
    size,
};
use crate::{
    config::{AuthMode, JwtAlgorithm, value::Kind},
    edge::accounts::inputs,
};

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
        word(JwtAlgorithm::WORDS, |c, v| {
            c.auth.outside.algorithm = JwtAlgorithm::from_word(v)
        }),
        "Algorithm of tokens: HS256 with SECRET_KEY, the others with JWT_JWKS_URL. The one in a token's header is never believed.",
    ),
    Setting::new(
        "auth.jwt_jwks_url",
        "JWT_JWKS_URL",
        "",
        Kind::Url(|c, v| c.auth.outside.url = Some(v)),
        "Keys of an identity provider (JWKS): its tokens are taken then, and no others; /auth/login, signup and refresh answer CONFIGURATION_ERROR.",
    ),
    Setting::new(
        "auth.jwt_issuer",
        "JWT_ISSUER",
        "",
        Kind::Text(|c, v| c.auth.outside.issuer = Some(v)),
        "What `iss` of the provider's tokens must be; required with JWT_JWKS_URL.",
    ),
    Setting::new(
        "auth.jwt_audience",
        "JWT_AUDIENCE",
        "",
        Kind::Text(|c, v| c.auth.outside.audience = Some(v)),
        "What `aud` of the provider's tokens must include; required with JWT_JWKS_URL.",
    ),
    Setting::new(
        "auth.jwt_leeway",
        "JWT_LEEWAY",
        "30s",
        span(0, 10 * MINUTE, |c, v| c.auth.outside.leeway = v),
        "How far the provider's clock may be off, for `exp` and `nbf` of its tokens.",
    ),
    Setting::new(
        "auth.jwt_jwks_ttl",
        "JWT_JWKS_TTL",
        "5m",
        span(SECOND, DAY, |c, v| c.auth.outside.ttl = v),
        "How long the provider's keys are taken without asking again; a token with an unknown key asks at once.",
    ),
    Setting::new(
        "auth.jwt_jwks_stale",
        "JWT_JWKS_STALE",
        "24h",
        span(0, 30 * DAY, |c, v| c.auth.outside.stale = v),
        "How much longer they are taken while the provider does not answer.",
    ),
    Setting::new(
        "auth.jwt_jwks_pause",
        "JWT_JWKS_PAUSE",
        "5s",
        span(100 * MS, HOUR, |c, v| c.auth.outside.pause = v),
        "Least time between two questions to the provider, whatever key ids tokens name.",
    ),
    Setting::new(
        "auth.jwt_jwks_timeout",
        "JWT_JWKS_TIMEOUT",
        "5s",
        span(100 * MS, MINUTE, |c, v| c.auth.outside.timeout = v),
        "Time for an answer of the provider.",
    ),
    Setting::new(
        "auth.jwt_jwks_bytes",
        "JWT_JWKS_BYTES",
        "256KiB",
        bytes(KIB, 16 * MIB, |c, v| c.auth.outside.bytes = size(v)),
        "Largest answer of the provider.",
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
    Setting::new(
        "auth.first_superuser_username",
        "FIRST_SUPERUSER_USERNAME",
        "",
        Kind::Other {
            allowed: "3 to 50 letters, digits, _, . or -",
            read: |c, text| {
                let good = inputs::is_username(text);
                c.auth.first.username = Some(text.to_owned()).filter(|_| good);
                good
            },
        },
        "Superuser that is made at the start when nobody has its name; with FIRST_SUPERUSER_EMAIL and FIRST_SUPERUSER_PASSWORD.",
    ),
    Setting::new(
        "auth.first_superuser_email",
        "FIRST_SUPERUSER_EMAIL",
        "",
        Kind::Other {
            allowed: "an e-mail address",
            read: |c, text| {
                let good = inputs::is_email(text);
                c.auth.first.email = Some(text.to_owned()).filter(|_| good);
                good
            },
        },
        "Its e-mail address.",
    ),
    Setting::new(
        "auth.first_superuser_password",
        "FIRST_SUPERUSER_PASSWORD",
        "",
        Kind::Secret(|c, v| c.auth.first.password = Some(v)),
        "Its password, 8 to 128 characters. Not read again once the user exists.",
    ),
];
