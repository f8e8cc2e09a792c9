//! The routes under `/composio`: accounts at other services, their tools, and what Composio itself calls.
//!
//! Who an account belongs to is known by the service; here it is decided for whom a caller may act, and what of an answer
//! leaves. Credentials come in and never go out.

use std::{collections::HashSet, net::SocketAddr};

use actix_web::{HttpResponse, web};
use kronos_actors::composio::{ComposioError, ComposioErrorKind, ComposioStatus};
use kronos_protocol::error::ErrorCode;
use reqwest::Url;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    EdgeState,
    auth::Caller,
    endpoint::{Endpoint, Tag, get},
    error::{ApiError, Row},
    input::Id,
};
use crate::config::Config;

mod accounts;
mod auth_configs;
mod callback;
mod inputs;
mod tools;
mod webhook;

/// The setting without which nothing of this works.
const KEY: &str = "COMPOSIO_API_KEY";
/// Where a browser comes back.
const CALLBACK: &str = "/api/v1/composio/callback";

/// What every operation that asks Composio may answer.
const FAILS: &[ErrorCode] = &[
    ErrorCode::NotConfigured,
    ErrorCode::Upstream,
    ErrorCode::UpstreamTimeout,
    ErrorCode::Overloaded,
    ErrorCode::Storage,
];

pub(super) fn endpoints() -> Vec<Endpoint> {
    let health = get(&["/api/v1/composio/health"], health)
        .named("composio_health", Tag::Composio, "Whether Composio is configured")
        .returns::<Configured>(
            200,
            "Whether it is",
            || json!({"configured": true, "message": "Composio is configured"}),
        );
    let mut all = vec![health];
    all.extend(accounts::endpoints());
    all.extend(auth_configs::endpoints());
    all.extend(tools::endpoints());
    all.extend(callback::endpoints());
    all.extend(webhook::endpoints());
    all
}

/// What `GET /composio/health` says.
#[derive(Debug, Serialize, JsonSchema)]
struct Configured {
    /// Requests to Composio can be made.
    configured: bool,
    /// For people.
    message: &'static str,
}

async fn health(state: web::Data<EdgeState>, _caller: Caller) -> HttpResponse {
    let health = state.wiring.composio.health();
    let message = match health.status {
        ComposioStatus::Healthy => "Composio is configured",
        ComposioStatus::Unhealthy => "Composio is configured, but does not answer as it should",
        ComposioStatus::Simulated => "Composio is simulated: COMPOSIO_API_KEY is not set",
        ComposioStatus::NotConfigured => "Composio is not configured: COMPOSIO_API_KEY is not set",
    };
    let configured = health.configured;
    std::future::ready(HttpResponse::Ok().json(Configured { configured, message })).await
}

/// An id, a slug or a name of Composio's: letters, digits, `_` and `-`.
#[derive(Debug, Clone)]
struct Word(String);

/// What is wrong with one that is none.
#[derive(Debug, thiserror::Error)]
#[error("must be 1 to 100 letters, digits, underscores or dashes")]
struct NotAWord;

impl Word {
    const MAX: usize = 100;
    const PATTERN: &str = "^[A-Za-z0-9_-]+$";

    fn keeps(text: &str) -> bool {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        (1..=Self::MAX).contains(&text.len()) && text.bytes().all(plain)
    }
}

impl TryFrom<String> for Word {
    type Error = NotAWord;

    fn try_from(text: String) -> Result<Self, NotAWord> {
        if Self::keeps(&text) {
            Ok(Self(text))
        } else {
            Err(NotAWord)
        }
    }
}

impl Id for Word {
    fn schema() -> Value {
        json!({"type": "string", "minLength": 1, "maxLength": Self::MAX, "pattern": Self::PATTERN})
    }
}

/// What a failure of the service is for a client. `what`: what was asked for, and its name.
fn failed(error: &ComposioError, operation: &'static str, what: (&str, &str)) -> ApiError {
    let after_ms = error
        .after
        .map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    let message = error.message.clone();
    let upstream = |code| {
        let mut details = json!({"service": "Composio", "operation": operation, "retryable": error.is_temporary(),
            "upstream_status": error.status, "reason": error.kind.as_str()});
        if let Some(id) = &error.request_id {
            details["upstream_request_id"] = json!(id);
        }
        ApiError {
            after_ms,
            ..ApiError::new(code, message.clone()).with_details(details)
        }
    };
    match error.kind {
        ComposioErrorKind::NotConfigured => ApiError::not_configured(&message, KEY),
        ComposioErrorKind::NotFound => ApiError::not_found(what.0, what.1),
        ComposioErrorKind::Removed => ApiError::new(ErrorCode::Forbidden, "The user was deleted"),
        ComposioErrorKind::Refused => {
            let row = Row {
                field: "body".to_owned(),
                message: message.clone().into_owned(),
                kind: "upstream_refused",
            };
            ApiError {
                message: message.into_owned(),
                ..ApiError::validation(&[row])
            }
        }
        ComposioErrorKind::Conflict => ApiError::new(ErrorCode::Conflict, message)
            .with_details(json!({"resource": what.0, "field": "status", "identifier": what.1})),
        ComposioErrorKind::TooManyPending => {
            let error = ApiError::new(ErrorCode::RateLimited, message).with_details(json!({"operation": operation}));
            ApiError { after_ms, ..error }
        }
        ComposioErrorKind::Store => {
            ApiError::new(ErrorCode::Storage, message).with_details(json!({"operation": operation}))
        }
        ComposioErrorKind::Overloaded => ApiError {
            after_ms,
            ..ApiError::new(ErrorCode::Overloaded, message)
        },
        ComposioErrorKind::Timeout => upstream(ErrorCode::UpstreamTimeout),
        ComposioErrorKind::CircuitOpen
        | ComposioErrorKind::RateLimited
        | ComposioErrorKind::Unavailable
        | ComposioErrorKind::Auth
        | ComposioErrorKind::TooLarge
        | ComposioErrorKind::Unreadable => upstream(ErrorCode::Upstream),
        ComposioErrorKind::Internal => ApiError::internal(),
    }
}

/// Where a browser may be sent back to: the server's own host, those of the allowed origins, those of
/// `COMPOSIO_REDIRECT_HOSTS`; on a desk, this machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Redirects {
    any: bool,
    this_machine: bool,
    /// Lower case, with or without a port.
    hosts: HashSet<String>,
}

impl Redirects {
    /// Reads the configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let listed = config
            .server
            .allowed_hosts
            .iter()
            .chain(&config.composio.redirect_hosts);
        let own = config.server.public_url.iter().chain(listed);
        let host = |entry: &String| {
            let entry = entry.trim().to_ascii_lowercase();
            let rest = entry.split_once("://").map_or(entry.as_str(), |(_, rest)| rest);
            rest.split('/').next().unwrap_or(rest).to_owned()
        };
        Self {
            any: config.server.allowed_hosts.iter().any(|entry| entry == "*"),
            this_machine: !config.server.environment.is_guarded(),
            hosts: own.map(host).filter(|host| !host.is_empty() && host != "*").collect(),
        }
    }

    /// Whether a browser may be sent there.
    pub(crate) fn allow(&self, text: &str) -> bool {
        let Ok(url) = Url::parse(text) else { return false };
        let plain = url.username().is_empty() && url.password().is_none();
        let Some(host) = url.host_str().map(str::to_ascii_lowercase) else {
            return false;
        };
        if !matches!(url.scheme(), "http" | "https") || !plain {
            return false;
        }
        let port = url.port_or_known_default().unwrap_or(0);
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let local = bare == "localhost" || bare.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        self.any
            || (self.this_machine && local)
            || self.hosts.contains(&host)
            || self.hosts.contains(&format!("{host}:{port}"))
    }
}

/// Where browsers reach the callback route: of the configured address, else of where the server listens if that is this
/// machine only.
pub(crate) fn callback_url(config: &Config, listens: SocketAddr) -> Option<String> {
    let own = listens.ip().is_loopback().then(|| format!("http://{listens}"));
    let base = config.server.public_url.clone().or(own)?;
    Some(format!("{}{CALLBACK}", base.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;

    fn redirects(environment: Environment, allowed: &[&str], hosts: &[&str]) -> Redirects {
        let owned = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect();
        let mut config = Config::default();
        config.server.environment = environment;
        config.server.allowed_hosts = owned(allowed);
        config.composio.redirect_hosts = owned(hosts);
        config.server.public_url = Some("https://kronos.example.com".to_owned());
        Redirects::of(&config)
    }

    #[test]
    fn only_hosts_of_the_list_are_sent_to() {
        let list = redirects(
            Environment::Production,
            &["https://app.example.com", "other.example.com:8443"],
            &["third.example.com"],
        );
        for good in [
            "https://kronos.example.com/x?y=1",
            "https://APP.example.com",
            "https://other.example.com:8443/",
            "http://third.example.com:81/a",
        ] {
            assert!(list.allow(good), "{good}");
        }
        for bad in [
            "https://evil.example",
            "https://app.example.com.evil.example",
            "https://other.example.com/",
            "https://app.example.com@evil.example/",
            "https://user:pw@app.example.com/",
            "javascript:alert(1)",
            "ftp://app.example.com/",
            "//app.example.com",
            "/relative",
            "",
            "http://localhost:3000",
            "http://127.0.0.1/",
        ] {
            assert!(!list.allow(bad), "{bad}");
        }
    }

    #[test]
    fn on_a_desk_this_machine_is_good() {
        let list = redirects(Environment::Development, &[], &[]);
        for good in ["http://localhost:3000/x", "http://127.0.0.1/", "http://[::1]:9/"] {
            assert!(list.allow(good), "{good}");
        }
        assert!(!list.allow("http://example.com"));
        assert!(redirects(Environment::Development, &["*"], &[]).allow("http://example.com"));
    }
}
