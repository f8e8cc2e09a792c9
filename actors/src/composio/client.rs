//! The HTTP client and one exchange: address, headers, body, answer within its bound.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use reqwest::{
    Client, Method, Response, Url,
    header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER},
};
use secrecy::ExposeSecret;

use super::failure::ComposioError;
use crate::{config::ComposioConfig, http, trace};

/// The API: v3.1 runs the newest version of a tool where none is named, and one is always named here.
const VERSION: &str = "api/v3.1";
/// Most bytes of a key that make sense.
const KEY_BYTES: usize = 1024;
/// Longest id, slug or version that can be one.
const WORD_BYTES: usize = 100;
/// Most bytes of an error's body that are read.
const ERROR_BYTES: usize = 64 * 1024;

const API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A setting with which no request can be made. Never holds the key.
#[derive(Debug, thiserror::Error)]
pub enum ComposioConfigError {
    /// `base_url` is no http or https address, or carries a query or a password.
    #[error("COMPOSIO_BASE_URL must be an http or https address without a query or credentials")]
    BaseUrl,
    /// `api_key` cannot be sent in a header.
    #[error("COMPOSIO_API_KEY must be visible ASCII")]
    ApiKey,
    /// The HTTP client could not be made: its certificates could not be read.
    #[error("the HTTP client for Composio cannot be made")]
    Client(#[source] reqwest::Error),
    /// The service's thread could not be started.
    #[error("the thread for Composio cannot be started")]
    Thread,
}

macro_rules! operations {
    ($($name:ident = $word:literal),+ $(,)?) => {
        /// What is asked: the values of a metric's label.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Op { $($name),+ }

        impl Op {
            /// Returns its word.
            pub(super) const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }
        }
    };
}

operations! {
    Tools = "tools_list",
    Tool = "tool_get",
    Toolkits = "toolkits_list",
    Toolkit = "toolkit_get",
    AuthConfigs = "auth_configs_list",
    AuthConfig = "auth_config_get",
    AuthConfigCreate = "auth_config_create",
    AuthConfigUpdate = "auth_config_update",
    AuthConfigDelete = "auth_config_delete",
    Accounts = "accounts_list",
    Account = "account_get",
    AccountLink = "account_link",
    AccountStatus = "account_status",
    AccountDelete = "account_delete",
    Execute = "execute",
    Triggers = "triggers_list",
    TriggerSet = "trigger_set",
    TriggerDelete = "trigger_delete",
    Webhooks = "webhooks_list",
    WebhookSet = "webhook_set",
    Probe = "probe",
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Ask {
    pub(super) op: Op,
    pub(super) method: Method,
    /// Below the version; made of words.
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Option<Bytes>,
    pub(super) key: Option<HeaderValue>,
    /// To send it twice does what sending it once does.
    pub(super) safe: bool,
}

impl Ask {
    /// Starts a request that only reads.
    pub(super) fn get(op: Op, path: impl Into<String>) -> Self {
        Self {
            op,
            method: Method::GET,
            path: path.into(),
            query: Vec::new(),
            body: None,
            key: None,
            safe: true,
        }
    }

    /// Starts a request that changes something.
    pub(super) fn change(op: Op, method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            safe: false,
            ..Self::get(op, path)
        }
    }

    /// Adds a parameter.
    pub(super) fn with(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    /// Adds a parameter that may be absent.
    pub(super) fn with_some(self, name: &str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds a body.
    pub(super) fn json(mut self, body: &impl serde::Serialize) -> Result<Self, ComposioError> {
        let bytes = serde_json::to_vec(body).map_err(|_not_json| ComposioError::internal())?;
        self.body = Some(bytes.into());
        Ok(self)
    }

    /// May be sent again.
    pub(super) fn safe(mut self) -> Self {
        self.safe = true;
        self
    }

    /// Has the key of an intent: the same for each attempt that is known to have had no effect.
    pub(super) fn key(mut self, key: &str) -> Self {
        self.key = HeaderValue::from_str(key).ok();
        self
    }
}

/// A good answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) body: Vec<u8>,
}

/// Makes requests of one configuration; cheap to clone.
#[derive(Clone)]
pub(super) struct Endpoint {
    base: Arc<str>,
    headers: HeaderMap,
    tls: bool,
    connect_timeout: Duration,
}

impl Endpoint {
    /// Checks the settings that a request is made of.
    pub(super) fn new(config: &ComposioConfig) -> Result<Self, ComposioConfigError> {
        let base = base_url(&config.base_url)?;
        let mut headers = HeaderMap::new();
        if let Some(key) = key(config).or(config.simulated.then_some("ak_simulated")) {
            let visible = key.len() <= KEY_BYTES && key.bytes().all(|byte| byte.is_ascii_graphic());
            let mut value = HeaderValue::from_str(key).map_err(|_odd| ComposioConfigError::ApiKey)?;
            if !visible {
                return Err(ComposioConfigError::ApiKey);
            }
            value.set_sensitive(true);
            headers.insert(API_KEY, value);
        }
        Ok(Self {
            base: format!("{}/{VERSION}", base.as_str().trim_end_matches('/')).into(),
            headers,
            tls: base.scheme() == "https",
            connect_timeout: config.connect_timeout,
        })
    }

    /// Makes a client with connections of its own.
    pub(super) fn client(&self) -> Result<Client, ComposioConfigError> {
        http::client(self.tls, self.connect_timeout).map_err(ComposioConfigError::Client)
    }

    /// Makes one exchange: answers up to `limit` bytes are read, more is refused.
    pub(super) async fn exchange(
        &self,
        client: &Client,
        ask: &Ask,
        request_id: &str,
        limit: usize,
    ) -> Result<Answer, ComposioError> {
        let mut url = Url::parse(&format!("{}/{}", self.base, ask.path)).map_err(|_odd| ComposioError::internal())?;
        if !ask.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&ask.query);
        }
        let mut headers = self.headers.clone();
        if let Some(place) = trace::outgoing(&tracing::Span::current()) {
            place.write(&mut headers);
        }
        let mut request = client.request(ask.method.clone(), url).headers(headers);
        if let Ok(id) = HeaderValue::from_str(request_id) {
            request = request.header(REQUEST_ID, id);
        }
        if let Some(key) = &ask.key {
            request = request.header(IDEMPOTENCY_KEY, key.clone());
        }
        if let Some(body) = &ask.body {
            request = request
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(body.clone());
        }
        let response = request.send().await;
        let response = response.map_err(|error| ComposioError::transport(&error))?;
        let status = response.status();
        if status.is_success() {
            let body = read(response, limit).await?;
            return Ok(Answer { body });
        }
        let after = retry_after(&response);
        // An error whose body breaks off is an error still.
        let body = read_some(response).await;
        Err(ComposioError::answered(status.as_u16(), &body, after))
    }
}

async fn read(mut response: Response, limit: usize) -> Result<Vec<u8>, ComposioError> {
    let too_large = || {
        crate::metrics::refused("composio_response_bytes");
        ComposioError::too_large(limit)
    };
    let announced = response.content_length().unwrap_or(0);
    if announced > limit as u64 {
        return Err(too_large());
    }
    let mut body = Vec::with_capacity(usize::try_from(announced).unwrap_or(0));
    loop {
        match response.chunk().await {
            Ok(Some(bytes)) if body.len() + bytes.len() > limit => return Err(too_large()),
            Ok(Some(bytes)) => body.extend_from_slice(&bytes),
            Ok(None) => return Ok(body),
            Err(error) => {
                // The head was there: the request had left.
                let failure = ComposioError::transport(&error);
                return Err(ComposioError { left: true, ..failure });
            }
        }
    }
}

async fn read_some(mut response: Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < ERROR_BYTES
        && let Ok(Some(bytes)) = response.chunk().await
    {
        let room = ERROR_BYTES - body.len();
        body.extend_from_slice(bytes.get(..room).unwrap_or(&bytes));
    }
    body
}

fn retry_after(response: &Response) -> Option<Duration> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?;
    text.trim().parse().ok().map(Duration::from_secs)
}

/// Returns the key, if there is one.
pub(super) fn key(config: &ComposioConfig) -> Option<&str> {
    let key = config.api_key.as_ref()?.expose_secret().trim();
    (!key.is_empty()).then_some(key)
}

/// Whether a text can be an id, a slug or a version: it cannot change the address that it is a part of.
pub(super) fn is_word(text: &str) -> bool {
    (1..=WORD_BYTES).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn base_url(text: &str) -> Result<Url, ComposioConfigError> {
    let url = Url::parse(text.trim()).map_err(|_odd| ComposioConfigError::BaseUrl)?;
    let plain =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    if matches!(url.scheme(), "http" | "https") && url.has_host() && plain {
        Ok(url)
    } else {
        Err(ComposioConfigError::BaseUrl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_make_no_request_are_refused_without_showing_the_key() {
        let with = |url: &str, key: &str| {
            let config = ComposioConfig {
                base_url: url.to_owned(),
                api_key: Some(key.into()),
                ..ComposioConfig::default()
            };
            Endpoint::new(&config)
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default()
        };
        for url in ["", "example.com", "ftp://x", "https://user:pw@x", "https://x/?a=b"] {
            assert!(with(url, "ak_x").contains("COMPOSIO_BASE_URL"), "{url}");
        }
        for key in ["hush\nhush", "hush hush", "hüsh"] {
            let error = with("https://x", key);
            assert!(error.contains("COMPOSIO_API_KEY") && !error.contains("ush"), "{error}");
        }
        assert_eq!(with("https://x", "ak_x"), "");
    }

    #[test]
    fn a_word_cannot_change_an_address() {
        assert!(is_word("ca_My9Xwqq7Q02J") && is_word("GITHUB_CREATE_AN_ISSUE") && is_word(&"a".repeat(100)));
        for odd in ["", "..", "a/b", "a?b", "a#b", "a%2fb", "a b", "é", &"a".repeat(101)] {
            assert!(!is_word(odd), "{odd}");
        }
    }
}
