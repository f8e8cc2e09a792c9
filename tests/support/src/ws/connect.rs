//! Opening the connection: who, with which codec, from which origin.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use kronos_protocol::{ClientInfo, Codec, Hello, OkBody};
use tokio::time::timeout;
use tokio_tungstenite::connect_async_with_config;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::WsClient;

/// How a [`WsClient`] connects.
#[derive(Debug, Clone)]
pub struct ConnectOptions {
    /// How frames are written; asked for as subprotocol. Default JSON.
    pub codec: Codec,
    /// The subprotocols to offer instead of the codec's own; empty: none, the server must choose JSON.
    pub subprotocols: Option<Vec<String>>,
    /// An access token for the `hello` frame.
    pub token: Option<String>,
    /// An access token for the `Authorization` header.
    pub bearer: Option<String>,
    /// A ticket for the query.
    pub ticket: Option<String>,
    /// The guest of a development server, for the query.
    pub user: Option<String>,
    /// The `Origin` header, as a browser sends it.
    pub origin: Option<String>,
    /// Whether to say hello at once. Default true.
    pub hello: bool,
    /// How long any single wait may take. Default 10 s.
    pub limit: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            codec: Codec::Json,
            subprotocols: None,
            token: None,
            bearer: None,
            ticket: None,
            user: None,
            origin: None,
            hello: true,
            limit: Duration::from_secs(10),
        }
    }
}

impl ConnectOptions {
    /// Returns the options of a guest of a development server.
    #[must_use]
    pub fn user(user: &str) -> Self {
        Self {
            user: Some(user.to_owned()),
            ..Self::default()
        }
    }

    /// Returns the options for an access token, said in `hello`.
    #[must_use]
    pub fn token(token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..Self::default()
        }
    }

    /// Sets the codec.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    fn offered(&self) -> Vec<String> {
        self.subprotocols
            .clone()
            .unwrap_or_else(|| vec![self.codec.subprotocol().to_owned()])
    }

    fn url(&self, url: &str) -> String {
        let query = [("user", &self.user), ("ticket", &self.ticket)]
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
        query.fold(url.to_owned(), |url, pair| {
            let separator = if url.contains('?') { '&' } else { '?' };
            format!("{url}{separator}{pair}")
        })
    }
}

impl WsClient {
    pub(super) async fn open(&mut self, url: &str) -> anyhow::Result<()> {
        self.cut();
        self.closed = None;
        self.inbox.clear();
        self.replies.clear();
        let mut request = self.options.url(url).into_client_request()?;
        let offered = self.options.offered();
        let headers = [
            (
                "sec-websocket-protocol",
                Some(offered.join(", ")).filter(|list| !list.is_empty()),
            ),
            (
                "authorization",
                self.options.bearer.as_ref().map(|token| format!("Bearer {token}")),
            ),
            ("origin", self.options.origin.clone()),
        ];
        for (name, value) in headers {
            if let Some(value) = value {
                request.headers_mut().insert(name, HeaderValue::try_from(value)?);
            }
        }
        // Small buffers: a test that does not read is a slow reader soon, not after 128 KiB.
        let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
        let connecting = connect_async_with_config(request, Some(config), true);
        let (socket, response) = timeout(self.options.limit, connecting)
            .await
            .context("no answer to the upgrade request")??;
        let chosen = response
            .headers()
            .get("sec-websocket-protocol")
            .and_then(|value| value.to_str().ok());
        match chosen {
            Some(name) => ensure!(
                offered.iter().any(|offer| offer == name) && Codec::from_subprotocol(name) == Some(self.options.codec),
                "the server chose the subprotocol {name}"
            ),
            None => ensure!(
                offered.is_empty(),
                "the server chose none of the subprotocols {offered:?}"
            ),
        }
        self.socket = Some(socket);
        if self.options.hello {
            self.say_hello().await
        } else {
            Ok(())
        }
    }

    /// Says hello with the token of the options.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn hello(&mut self) {
        if let Err(error) = self.say_hello().await {
            panic!("{error:#}");
        }
    }

    async fn say_hello(&mut self) -> anyhow::Result<()> {
        let hello = Hello {
            token: self.options.token.clone(),
            client: Some(ClientInfo::new(
                "kronos-testkit".parse::<kronos_protocol::DeviceName>()?,
                "1".parse::<kronos_protocol::DeviceName>()?,
            )),
            codec: Some(self.options.codec),
        };
        match self.command(hello).await {
            Ok(OkBody::Welcome(welcome)) => {
                self.welcome = Some(welcome);
                Ok(())
            }
            Ok(other) => bail!("hello was answered with {other:?}"),
            Err(error) => bail!("hello was refused: {} {}", error.code, error.message),
        }
    }
}
