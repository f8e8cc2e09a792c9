//! Asks a running server over REST.

use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::Method;
use serde_json::Value;

use crate::config;

/// Time for an answer of the server.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A server, and who asks it.
pub(super) struct Remote<'a> {
    pub(super) url: &'a str,
    /// Access token; else KRONOS_TOKEN.
    pub(super) token: Option<&'a str>,
}

/// What a server answered.
pub(super) struct Answered {
    pub(super) status: u16,
    /// Null when there is no body.
    pub(super) body: Value,
}

impl Answered {
    pub(super) const fn is_good(&self) -> bool {
        self.status >= 200 && self.status < 300
    }
}

impl Remote<'_> {
    /// Asks; `None` when nothing listens there.
    pub(super) async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> anyhow::Result<Option<Answered>> {
        // A second call finds it installed: that is as good.
        drop(rustls::crypto::ring::default_provider().install_default());
        let url = self.url.trim_end_matches('/');
        let mut address = reqwest::Url::parse(url).with_context(|| format!("--url {url} is not an address"))?;
        match address.path_segments_mut() {
            Ok(mut segments) => drop(segments.pop_if_empty().extend(["api", "v1"]).extend(path)),
            Err(()) => bail!("--url {url} is not an address"),
        }
        if !query.is_empty() {
            address.query_pairs_mut().extend_pairs(query);
        }
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let mut request = client.request(method, address);
        if let Some(token) = self.token.map(str::to_owned).or_else(config::client_token) {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("no answer from {url}")),
        };
        let status = response.status().as_u16();
        let bytes = response
            .bytes()
            .await
            .with_context(|| format!("no answer from {url}"))?;
        let body = if bytes.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&bytes).with_context(|| format!("{url} is not a kronos server"))?
        };
        Ok(Some(Answered { status, body }))
    }

    /// The body of a good answer; else an error that says what the server said.
    pub(super) fn good(&self, answered: Answered) -> anyhow::Result<Value> {
        if answered.is_good() {
            return Ok(answered.body);
        }
        let error = &answered.body["error"];
        let message = error["message"].as_str().unwrap_or("no reason given");
        bail!(
            "{} answered {}: {message}{}",
            self.url,
            answered.status,
            rows(&error["details"])
        );
    }
}

/// The fields that are wrong, in brackets.
pub(super) fn rows(details: &Value) -> String {
    let rows = details["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let shown: Vec<String> = rows
        .iter()
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or_default();
            let field = text("field");
            format!("{}: {}", field.strip_prefix("body.").unwrap_or(field), text("message"))
        })
        .collect();
    if shown.is_empty() {
        String::new()
    } else {
        format!(" ({})", shown.join("; "))
    }
}
