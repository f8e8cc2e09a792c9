//! The one REST call of this client: the list of conversations.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Deserialize;

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

/// Asks for the first page of the caller's conversations.
pub(super) async fn conversations(address: Address, token: Option<String>) -> anyhow::Result<Vec<Listed>> {
    let client = reqwest::Client::builder()
        .timeout(LIMIT)
        .build()
        .context("no HTTP client")?;
    let mut request = client.get(address.conversations);
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    // The address may hold a user: errors are shown without it.
    let response = request
        .send()
        .await
        .map_err(reqwest::Error::without_url)
        .context("no answer")?;
    let status = response.status();
    ensure!(status.is_success(), "HTTP {status}");
    let page: Page = response
        .json()
        .await
        .map_err(reqwest::Error::without_url)
        .context("not a list")?;
    Ok(page.items)
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
