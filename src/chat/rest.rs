//! The few REST calls of this client: the list of conversations, what is remembered, an account to connect.

use std::time::Duration;

use anyhow::{Context as _, bail};
use kronos_protocol::ids::MemoryId;
use reqwest::{Method, RequestBuilder, Url};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::address::Address;

/// How long the call may take.
const LIMIT: Duration = Duration::from_secs(10);

/// The caller's conversations, newest first.
#[derive(Debug, Deserialize)]
struct Page {
    items: Vec<Listed>,
}

/// One conversation of the list.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Listed {
    /// Its id.
    pub(super) id: String,
    /// Its title.
    #[serde(default)]
    title: Option<String>,
    /// How many messages it has.
    #[serde(default)]
    message_count: Option<u64>,
    /// How its last message begins.
    #[serde(default)]
    last_message_preview: Option<String>,
}

impl Listed {
    /// Returns the line of a list, without its number.
    pub(super) fn line(&self) -> String {
        let title = self
            .title
            .as_deref()
            .filter(|title| !title.is_empty())
            .unwrap_or("(no title)");
        let count = self
            .message_count
            .map(|count| format!(", {count} messages"))
            .unwrap_or_default();
        let preview = self
            .last_message_preview
            .as_deref()
            .filter(|preview| !preview.is_empty());
        let preview = preview
            .map(|preview| format!(": {}", preview.replace(['\r', '\n'], " ")))
            .unwrap_or_default();
        format!("{title}{count}{preview}")
    }
}

/// What a call brought.
#[derive(Debug)]
pub(super) enum Fetched {
    /// The caller's conversations.
    Conversations(Vec<Listed>),
    /// What is remembered about the caller.
    Memories(Vec<Note>),
    /// Something was forgotten.
    Forgotten,
    /// A page to open, where an account is connected.
    Page { url: String },
}

/// Something that is remembered.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Note {
    /// Its id.
    pub(super) id: MemoryId,
    /// What it is.
    pub(super) text: String,
}

#[derive(Debug, Deserialize)]
struct Notes {
    items: Vec<Note>,
}

#[derive(Debug, Deserialize)]
struct Initiated {
    redirect_url: String,
}

/// How the server says what went wrong.
#[derive(Debug, Default, Deserialize)]
struct Failure {
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    error: Option<Box<Failure>>,
}

/// Asks for the first page of the caller's conversations.
pub(super) async fn conversations(address: Address, token: Option<String>) -> anyhow::Result<Fetched> {
    let request = request(Method::GET, address.conversations, token)?;
    let page: Page = read(request).await?;
    Ok(Fetched::Conversations(page.items))
}

/// Asks for what is remembered about the caller.
pub(super) async fn memories(address: Address, token: Option<String>) -> anyhow::Result<Fetched> {
    let request = request(Method::GET, address.api("users/me/memories"), token)?;
    let notes: Notes = read(request).await?;
    Ok(Fetched::Memories(notes.items))
}

/// Forgets one thing.
pub(super) async fn forget(address: Address, token: Option<String>, note: MemoryId) -> anyhow::Result<Fetched> {
    let url = address.api(&format!("users/me/memories/{note}"));
    send(request(Method::DELETE, url, token)?).await?;
    Ok(Fetched::Forgotten)
}

/// Begins to connect an account of a toolkit.
pub(super) async fn connect(address: Address, token: Option<String>, toolkit: String) -> anyhow::Result<Fetched> {
    let mut url = address.api("composio/connections/initiate-enhanced");
    url.set_query(None);
    let mut body = json!({"app_name": toolkit});
    if let (Some(user), Some(body)) = (address.user, body.as_object_mut()) {
        body.insert("user_id".to_owned(), user.into());
    }
    let initiated: Initiated = read(request(Method::POST, url, token)?.json(&body)).await?;
    Ok(Fetched::Page {
        url: initiated.redirect_url,
    })
}

fn request(method: Method, url: Url, token: Option<String>) -> anyhow::Result<RequestBuilder> {
    let client = reqwest::Client::builder()
        .timeout(LIMIT)
        .build()
        .context("no HTTP client")?;
    let request = client.request(method, url);
    Ok(match token {
        Some(token) => request.bearer_auth(token),
        None => request,
    })
}

async fn send(request: RequestBuilder) -> anyhow::Result<reqwest::Response> {
    // The address may hold a user: errors are shown without it.
    let response = request
        .send()
        .await
        .map_err(reqwest::Error::without_url)
        .context("no answer")?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let failure: Failure = response.json().await.unwrap_or_default();
    match failure.message.or(failure.error.and_then(|error| error.message)) {
        Some(message) => bail!("{message} (HTTP {})", status.as_u16()),
        None => bail!("HTTP {status}"),
    }
}

async fn read<T: DeserializeOwned>(request: RequestBuilder) -> anyhow::Result<T> {
    let response = send(request).await?;
    let body = response.json().await.map_err(reqwest::Error::without_url);
    body.context("an answer that cannot be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_one_line() {
        let page: Page = serde_json::from_str(
            r#"{"items":[{"id":"1","title":"Trip","message_count":4,"last_message_preview":"a\nb","new":1},
                {"id":"2","title":null}],"next_cursor":null}"#,
        )
        .unwrap();
        assert_eq!(page.items[0].line(), "Trip, 4 messages: a b");
        assert_eq!(page.items[1].line(), "(no title)");
    }
}
