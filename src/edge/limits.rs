//! How many requests a user and an address may make, and what answers say about it.
//!
//! Counted are requests, when they come: by address before anything is done for them, by user once the caller is known.
//! Each answer says how the tighter of the two stands, in the headers of draft-ietf-httpapi-ratelimit-headers.

use std::{
    cell::Cell,
    hash::Hash,
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
    time::Duration,
};

use actix_web::{
    HttpMessage as _, HttpRequest,
    dev::ServiceRequest,
    http::{
        Method,
        header::{self, HeaderMap, HeaderName, HeaderValue},
    },
};
use kronos_actors::{clock::Clock, connection::registry::network, metrics as names};
use kronos_protocol::{error::ErrorCode, ids::UserId};
use serde_json::json;

use self::window::{Verdict, Windows};
use super::error::ApiError;
use crate::config::ServerConfig;

mod window;

const RATELIMIT_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");
const RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("ratelimit-remaining");
const RATELIMIT_RESET: HeaderName = HeaderName::from_static("ratelimit-reset");
const RATELIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The limits of this process.
pub(crate) struct Limits {
    windows: Windows,
    clock: Clock,
    window: Duration,
    per_user: u32,
    per_address: u32,
    auth: u32,
}

/// What is counted, with its own numbers for the same key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Scope {
    User,
    Address,
    Auth,
}

impl Scope {
    /// The bound's name in metrics.
    const fn bound(self) -> &'static str {
        match self {
            Self::User => "rate_limit_per_user",
            Self::Address => "rate_limit_per_address",
            Self::Auth => "rate_limit_auth",
        }
    }
}

/// How a limit stands after this request.
#[derive(Debug, Clone, Copy)]
struct Standing {
    limit: u32,
    window: Duration,
    remaining: u32,
    reset: Duration,
}

/// What was counted for one request. Cheap to clone; the clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted(Rc<Cell<Option<Standing>>>);

impl Limits {
    /// Reads the limits.
    pub(crate) fn new(config: &ServerConfig, clock: Clock) -> Self {
        Self {
            windows: Windows::new(config.rate_limit_window, config.rate_limit_keys, clock.instant()),
            clock,
            window: config.rate_limit_window,
            per_user: config.rate_limit_per_user,
            per_address: config.rate_limit_per_address,
            auth: config.rate_limit_auth,
        }
    }

    /// Counts a request for its address. What it counted is kept with the request, for [`Limits::user`].
    ///
    /// # Errors
    /// `RATE_LIMIT_EXCEEDED`.
    pub(crate) fn address(
        &self,
        request: &ServiceRequest,
        from: Option<IpAddr>,
        counted: &Counted,
    ) -> Result<(), ApiError> {
        // Decoded, as the router reads it: `/api/v1/auth/l%6fgin` is a login.
        let path = request.match_info().as_str();
        if is_exempt(path) {
            return Ok(());
        }
        request.extensions_mut().insert(counted.clone());
        // Who is gone already is one client.
        let from = network(from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
        if self.auth > 0 && is_auth(request.method(), path) {
            self.count(Scope::Auth, from, self.auth, counted)?;
        }
        self.count(Scope::Address, from, self.per_address, counted)
    }

    /// Counts a request for its user, when it was counted for its address.
    ///
    /// # Errors
    /// `RATE_LIMIT_EXCEEDED`.
    pub(crate) fn user(&self, request: &HttpRequest, user: &UserId) -> Result<(), ApiError> {
        let counted = request.extensions().get::<Counted>().cloned();
        match counted {
            Some(counted) => self.count(Scope::User, user.as_str(), self.per_user, &counted),
            None => Ok(()),
        }
    }

    fn count(&self, scope: Scope, key: impl Hash, limit: u32, counted: &Counted) -> Result<(), ApiError> {
        if limit == 0 {
            return Ok(());
        }
        let standing = |remaining, reset| Standing {
            limit,
            window: self.window,
            remaining,
            reset,
        };
        match self.windows.count((scope, key), limit, self.clock.instant()) {
            Verdict::Passed { remaining, reset } => {
                counted.keep_tighter(standing(remaining, reset));
                Ok(())
            }
            Verdict::Refused { after } => {
                counted.0.set(Some(standing(0, after)));
                names::refused(scope.bound());
                Err(exceeded(limit, self.window, after))
            }
            Verdict::Uncounted => {
                metrics::counter!(names::RATE_LIMIT_UNCOUNTED).increment(1);
                Ok(())
            }
        }
    }
}

fn exceeded(limit: u32, window: Duration, after: Duration) -> ApiError {
    let details = json!({"limit": limit, "window_seconds": seconds(window)});
    ApiError {
        after_ms: Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        ..ApiError::new(ErrorCode::RateLimited, "Too many requests. Please wait a moment.").with_details(details)
    }
}

/// Whole seconds, rounded up, at least one: who waits for so long has waited long enough.
fn seconds(span: Duration) -> u64 {
    u64::try_from(span.as_millis().div_ceil(1000))
        .unwrap_or(u64::MAX)
        .max(1)
}

/// Probes must never be refused, and websockets have bounds of their own.
fn is_exempt(path: &str) -> bool {
    path == "/health"
        || path.starts_with("/health/")
        || path == "/api/v1/health"
        || path.starts_with("/api/v1/health/")
        || path == "/metrics"
        || is_websocket(path)
}

/// Whether it is where websockets are opened.
pub(crate) fn is_websocket(path: &str) -> bool {
    matches!(path, "/ws" | "/api/v1/ws")
}

/// Where passwords and refresh tokens can be tried.
fn is_auth(method: &Method, path: &str) -> bool {
    method == Method::POST
        && matches!(
            path,
            "/api/v1/auth/login" | "/api/v1/auth/signup" | "/api/v1/auth/refresh"
        )
}

impl Counted {
    fn keep_tighter(&self, standing: Standing) {
        let tighter = |known: Standing| known.remaining <= standing.remaining;
        if !self.0.get().is_some_and(tighter) {
            self.0.set(Some(standing));
        }
    }

    /// Says on the answer how the limit stands, when there is one.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        let Some(standing) = self.0.get() else { return };
        // A refusal names one moment only.
        let after = headers
            .get(header::RETRY_AFTER)
            .filter(|_| standing.remaining == 0)
            .cloned();
        headers.insert(RATELIMIT_LIMIT, standing.limit.into());
        headers.insert(RATELIMIT_REMAINING, standing.remaining.into());
        headers.insert(RATELIMIT_RESET, after.unwrap_or_else(|| seconds(standing.reset).into()));
        let policy = format!("{};w={}", standing.limit, seconds(standing.window));
        if let Ok(policy) = HeaderValue::from_str(&policy) {
            headers.insert(RATELIMIT_POLICY, policy);
        }
    }
}
