//! Where the server is: the websocket's address and, from it, that of the REST surface. Pure.

use anyhow::{Context as _, bail};
use reqwest::Url;

/// The addresses of one server, for one user.
#[derive(Debug, Clone)]
pub(super) struct Address {
    /// The websocket, with `user` in the query when there is one.
    pub(super) ws: Url,
    /// The list of conversations, with `user_id` in the query when there is one.
    pub(super) conversations: Url,
    /// The guest, if there is one.
    pub(super) user: Option<String>,
}

impl Address {
    /// Reads the address of a websocket; `http` and `https` are taken for `ws` and `wss`, no path for `/ws`.
    pub(super) fn new(url: &str, user: Option<&str>) -> anyhow::Result<Self> {
        let mut ws = Url::parse(url).with_context(|| format!("--url {url} is not an address"))?;
        let (ws_scheme, http_scheme) = match ws.scheme() {
            "ws" | "http" => ("ws", "http"),
            "wss" | "https" => ("wss", "https"),
            other => bail!("--url {url}: {other} is not ws or wss"),
        };
        if ws.host_str().is_none_or(str::is_empty) {
            bail!("--url {url} has no host");
        }
        // `set_scheme` refuses to go from http to ws; both are written by hand instead.
        let rest = ws
            .as_str()
            .split_once("://")
            .map(|(_, rest)| rest.to_owned())
            .unwrap_or_default();
        ws = Url::parse(&format!("{ws_scheme}://{rest}"))?;
        if ws.path() == "/" {
            ws.set_path("/ws");
        }
        let mut conversations = Url::parse(&format!("{http_scheme}://{rest}"))?;
        conversations.set_path("/api/v1/chat/");
        conversations.set_query(None);
        conversations.set_fragment(None);
        ws.set_fragment(None);
        if let Some(user) = user {
            ws.query_pairs_mut().append_pair("user", user);
            conversations.query_pairs_mut().append_pair("user_id", user);
        }
        Ok(Self {
            ws,
            conversations,
            user: user.map(str::to_owned),
        })
    }

    /// Returns the address of another part of the REST surface, for the same user.
    pub(super) fn api(&self, path: &str) -> Url {
        let mut url = self.conversations.clone();
        url.set_path(&format!("/api/v1/{path}"));
        url
    }

    /// Returns the address to show, without a query: that may hold a ticket.
    pub(super) fn shown(&self) -> String {
        let mut shown = self.ws.clone();
        shown.set_query(None);
        shown.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_surface_is_beside_the_websocket() {
        let address = Address::new("ws://127.0.0.1:8000/ws", None).unwrap();
        assert_eq!(address.ws.as_str(), "ws://127.0.0.1:8000/ws");
        assert_eq!(address.conversations.as_str(), "http://127.0.0.1:8000/api/v1/chat/");
        let address = Address::new("https://chat.example.org", None).unwrap();
        assert_eq!(address.ws.as_str(), "wss://chat.example.org/ws");
        assert_eq!(address.conversations.as_str(), "https://chat.example.org/api/v1/chat/");
    }

    #[test]
    fn a_guest_is_in_both_queries() {
        let address = Address::new("ws://h/api/v1/ws?x=1", Some("Ann & Bo")).unwrap();
        assert_eq!(address.ws.as_str(), "ws://h/api/v1/ws?x=1&user=Ann+%26+Bo");
        assert_eq!(
            address.conversations.as_str(),
            "http://h/api/v1/chat/?user_id=Ann+%26+Bo"
        );
        assert_eq!(
            address.api("users/me/memories").as_str(),
            "http://h/api/v1/users/me/memories?user_id=Ann+%26+Bo"
        );
        assert_eq!(address.shown(), "ws://h/api/v1/ws");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for url in ["", "127.0.0.1:8000", "ftp://h/", "ws://"] {
            assert!(Address::new(url, None).is_err(), "{url}");
        }
    }
}
