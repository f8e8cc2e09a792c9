//! The websocket of a device: made small, since there are thousands; cut and closed as the script says.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use kronos_protocol::{CloseReason, Codec};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, Uri, header};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_tls_with_config};

use crate::bare;

/// Bytes that the kernel holds for a device that reads slowly: what it does not read must reach the server.
const SLOW_BUFFER: u32 = 4096;
/// Close codes with which a server that restarts says goodbye.
const PLANNED: [u16; 2] = [1001, 1012];

/// The server under load.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    /// The websocket, without a query.
    pub(crate) url: String,
    /// The same server over HTTP, without a path.
    pub(crate) http: String,
    address: SocketAddr,
}

impl Target {
    /// Reads `ws://host:port/path` or `wss://…` and finds the address.
    pub(crate) async fn of(url: &str) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("not an address: {url}"))?;
        let secure = match uri.scheme_str() {
            Some("ws") => false,
            Some("wss") => true,
            _ => anyhow::bail!("{url}: the address must begin with ws:// or wss://"),
        };
        ensure!(uri.query().is_none(), "{url}: without a query, please");
        let host = uri.host().with_context(|| format!("{url}: a host"))?;
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let name = host.trim_start_matches('[').trim_end_matches(']');
        let mut found = tokio::net::lookup_host((name, port)).await?;
        Ok(Self {
            url: url.to_owned(),
            http: format!("{}://{host}:{port}", if secure { "https" } else { "http" }),
            address: found.next().with_context(|| format!("{host} has no address"))?,
        })
    }
}

/// Why a connection is no more, or never was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The server closed it.
    Closed(u16, Option<CloseReason>),
    /// The server refused the upgrade with this status.
    Refused(u16, Option<Duration>),
    /// The server refused `hello` or `attach`: the code, and how long to wait where another try may help.
    Unwelcome(String, Option<Duration>),
    /// There was no connection to be had.
    Connect,
    /// It broke.
    Io,
    /// Connecting or attaching took too long.
    Timeout,
    /// What came is not the protocol.
    Unreadable,
}

impl Lost {
    /// Returns the name under which it is counted.
    pub(crate) fn code(&self) -> String {
        match self {
            Self::Closed(code, _) => code.to_string(),
            Self::Refused(status, _) => format!("http_{status}"),
            Self::Unwelcome(code, _) => code.clone(),
            Self::Connect => "connect".to_owned(),
            Self::Io => "io".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Unreadable => "unreadable".to_owned(),
        }
    }

    /// Whether it is how a server restarts.
    pub(crate) fn is_planned(&self) -> bool {
        matches!(self, Self::Closed(code, _) if PLANNED.contains(code))
    }

    /// Whether to come back.
    pub(crate) fn may_return(&self) -> bool {
        match self {
            Self::Closed(_, Some(reason)) => reason.retry,
            Self::Closed(code, None) => *code != 1000 && *code < 4000,
            Self::Refused(status, _) => *status >= 500 || *status == 429,
            Self::Unwelcome(_, after) => after.is_some(),
            Self::Connect | Self::Io | Self::Timeout => true,
            Self::Unreadable => false,
        }
    }

    /// Returns how long the server asks to stay away.
    pub(crate) fn after(&self) -> Option<Duration> {
        match self {
            Self::Closed(_, reason) => reason.and_then(|reason| reason.after_ms).map(Duration::from_millis),
            Self::Refused(_, after) | Self::Unwelcome(_, after) => *after,
            Self::Connect | Self::Io | Self::Timeout | Self::Unreadable => None,
        }
    }
}

impl From<tungstenite::Error> for Lost {
    fn from(error: tungstenite::Error) -> Self {
        match error {
            tungstenite::Error::Http(response) => {
                let after = response.headers().get(header::RETRY_AFTER);
                let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
                Self::Refused(response.status().as_u16(), after.map(Duration::from_secs))
            }
            tungstenite::Error::Utf8(_) | tungstenite::Error::Capacity(_) => Self::Unreadable,
            _ => Self::Io,
        }
    }
}

/// A websocket.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Box<WebSocketStream<MaybeTlsStream<TcpStream>>>,
    codec: Codec,
}

impl Wire {
    /// Connects. `user` is who a server in development takes the word for.
    pub(crate) async fn open(target: &Target, user: Option<&str>, codec: Codec, slow: bool) -> Result<Self, Lost> {
        let socket = match target.address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        };
        let socket = socket.map_err(|_why| Lost::Connect)?;
        if slow {
            socket.set_recv_buffer_size(SLOW_BUFFER).ok();
        }
        let stream = socket.connect(target.address).await.map_err(|_why| Lost::Connect)?;
        stream.set_nodelay(true).map_err(|_why| Lost::Connect)?;
        let url = match user {
            Some(user) => format!("{}?user={user}", target.url),
            None => target.url.clone(),
        };
        let mut request = url.into_client_request()?;
        request.headers_mut().insert(
            header::SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::from_static(codec.subprotocol()),
        );
        let opened = client_async_tls_with_config(request, stream, Some(bare::small_buffers()), None);
        let (socket, _) = Box::pin(opened).await?;
        Ok(Self {
            socket: Box::new(socket),
            codec,
        })
    }

    /// Puts a frame behind those that wait to be written.
    pub(crate) async fn feed(&mut self, frame: Bytes) -> Result<(), Lost> {
        let message = if self.codec.is_binary() {
            Message::Binary(frame)
        } else {
            Message::Text(Utf8Bytes::try_from(frame).map_err(|_why| Lost::Unreadable)?)
        };
        Ok(self.socket.feed(message).await?)
    }

    /// Writes what waits.
    pub(crate) async fn flush(&mut self) -> Result<(), Lost> {
        Ok(self.socket.flush().await?)
    }

    /// Waits for the next frame. Nothing is lost when it is not waited for to the end.
    pub(crate) async fn next(&mut self) -> Result<Bytes, Lost> {
        loop {
            match self.socket.next().await.ok_or(Lost::Io)?? {
                Message::Text(text) => return Ok(text.into()),
                Message::Binary(bytes) => return Ok(bytes),
                Message::Close(frame) => {
                    let (code, reason) = match &frame {
                        Some(frame) => (u16::from(frame.code), CloseReason::decode(&frame.reason)),
                        None => (1005, None),
                    };
                    // The answer to it; whether it arrives is the server's business.
                    self.socket.flush().await.ok();
                    return Err(Lost::Closed(code, reason));
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
    }

    /// Lets the kernel hold less of what is not read, or as much as it likes to.
    pub(crate) fn narrow(&self) {
        SockRef::from(self.tcp())
            .set_recv_buffer_size(SLOW_BUFFER as usize)
            .ok();
    }

    /// Resets the connection, as a lost network does once it is noticed: no close frame, and the port is free at once.
    pub(crate) fn cut(self) {
        SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO)).ok();
    }

    /// Closes properly: says so, and reads until the server has said so, too.
    pub(crate) async fn close(mut self) -> Result<(), Lost> {
        let normal = CloseFrame {
            code: CloseCode::Normal,
            reason: Utf8Bytes::default(),
        };
        WebSocketStream::close(&mut self.socket, Some(normal)).await?;
        while let Some(message) = self.socket.next().await {
            if message.is_err() {
                break;
            }
        }
        Ok(())
    }

    fn tcp(&self) -> &TcpStream {
        match self.socket.get_ref() {
            MaybeTlsStream::Rustls(stream) => stream.get_ref().0,
            MaybeTlsStream::Plain(stream) => stream,
            #[expect(clippy::unreachable, reason = "no other feature is on")]
            _ => unreachable!("another kind of TLS"),
        }
    }
}
