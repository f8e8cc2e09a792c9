//! One websocket connection as a task: opens it, passes frames both ways, tells how it ended.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use kronos_protocol::{ClientFrame, CloseReason, Codec};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::address::Address;
use super::frame::{self, Incoming};

/// How long opening a connection may take, TLS and upgrade included.
const OPEN: Duration = Duration::from_secs(10);

/// How long a write or the closing handshake may take.
const WRITE: Duration = Duration::from_secs(10);

/// How long the server may be silent before it has said how often it pings.
const SILENCE: Duration = Duration::from_secs(75);

/// Frames that wait to be shown or sent; a terminal never lags behind by that much.
const QUEUE: usize = 256;

/// What a connection tells.
#[derive(Debug)]
pub(super) enum LinkEvent {
    /// It is open.
    Opened,
    /// A frame came.
    Frame(Box<Incoming>),
    /// It could not be opened, or it ended. Nothing follows.
    Ended(Ended),
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ended {
    /// Whether to connect again.
    pub(super) retry: bool,
    /// How long to wait before, if the server says so.
    pub(super) after: Option<Duration>,
    /// What happened.
    pub(super) why: String,
}

impl Ended {
    fn lost(why: impl Into<String>) -> Self {
        Self {
            retry: true,
            after: None,
            why: why.into(),
        }
    }
}

/// What a connection is told.
#[derive(Debug)]
enum Order {
    Send(Message),
    Pings(Duration),
    Close,
}

/// A connection, or the attempt to open one. Dropped: the connection is cut.
#[derive(Debug)]
pub(super) struct Link {
    orders: mpsc::Sender<Order>,
    events: mpsc::Receiver<LinkEvent>,
    task: JoinHandle<()>,
}

impl Link {
    /// Starts to connect.
    pub(super) fn open(address: &Address) -> Self {
        let (orders, inbox) = mpsc::channel(QUEUE);
        let (outbox, events) = mpsc::channel(QUEUE);
        let url = address.ws.as_str().to_owned();
        let task = tokio::spawn(async move {
            let ended = match connect(&url).await {
                Ok(socket) => converse(socket, inbox, &outbox).await,
                Err(ended) => ended,
            };
            if outbox.send(LinkEvent::Ended(ended)).await.is_err() {
                tracing::debug!("nobody waits for the end of the connection");
            }
        });
        Self { orders, events, task }
    }

    /// Waits for what happens next.
    pub(super) async fn next(&mut self) -> LinkEvent {
        self.events
            .recv()
            .await
            .unwrap_or_else(|| LinkEvent::Ended(Ended::lost("the connection's task ended")))
    }

    /// Sends a frame. What cannot be sent is sent again on the next connection.
    pub(super) async fn send(&self, frame: &ClientFrame) {
        let text = Codec::Json
            .encode(frame)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes.to_vec()).ok());
        if let Some(text) = text {
            self.order(Order::Send(Message::text(text))).await;
        }
    }

    /// Takes note of how often the server pings: silent for more than two of them, it is gone.
    pub(super) async fn pings_every(&self, period: Duration) {
        self.order(Order::Pings(period)).await;
    }

    /// Closes in good form, as far as the server takes part.
    pub(super) async fn close(mut self) {
        self.order(Order::Close).await;
        let ended = async { while !matches!(self.next().await, LinkEvent::Ended(_)) {} };
        if timeout(Duration::from_secs(1), ended).await.is_err() {
            tracing::debug!("the server did not answer the close frame");
        }
    }

    async fn order(&self, order: Order) {
        if self.orders.send(order).await.is_err() {
            tracing::debug!("the connection has ended");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn connect(url: &str) -> Result<Socket, Ended> {
    let mut request = url.into_client_request().map_err(refused)?;
    let subprotocol = HeaderValue::from_static(Codec::Json.subprotocol());
    request.headers_mut().insert("sec-websocket-protocol", subprotocol);
    match timeout(OPEN, connect_async(request)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(refused(error)),
        Err(_) => Err(Ended::lost(format!("no answer within {OPEN:?}"))),
    }
}

fn refused(error: Error) -> Ended {
    match error {
        Error::Http(response) => {
            let status = response.status().as_u16();
            let text = response
                .body()
                .as_deref()
                .map(String::from_utf8_lossy)
                .unwrap_or_default();
            let message = serde_json::from_str::<serde_json::Value>(&text)
                .ok()
                .and_then(|body| Some(body.get("error")?.get("message")?.as_str()?.to_owned()));
            let why = message.map_or_else(
                || format!("HTTP {status}"),
                |message| format!("HTTP {status}: {message}"),
            );
            Ended {
                retry: matches!(status, 408 | 425 | 429 | 500..),
                after: None,
                why,
            }
        }
        Error::Io(error) => Ended::lost(error.to_string()),
        error => Ended {
            retry: false,
            after: None,
            why: error.to_string(),
        },
    }
}

async fn converse(mut socket: Socket, mut orders: mpsc::Receiver<Order>, events: &mpsc::Sender<LinkEvent>) -> Ended {
    let gone = || Ended::lost("nobody listens");
    if events.send(LinkEvent::Opened).await.is_err() {
        return gone();
    }
    let mut silence = SILENCE;
    loop {
        tokio::select! {
            message = timeout(silence, socket.next()) => {
                let frame = match message {
                    Err(_) => return Ended::lost("the server is silent"),
                    Ok(None) => return Ended::lost("the connection was cut"),
                    Ok(Some(Err(error))) => return Ended::lost(error.to_string()),
                    Ok(Some(Ok(Message::Close(frame)))) => return closed(frame),
                    Ok(Some(Ok(Message::Text(text)))) => frame::read(text.as_bytes()),
                    Ok(Some(Ok(_))) => Some(Incoming::Ignored),
                };
                let Some(frame) = frame else { return Ended::lost("the server sent something that is no frame") };
                if events.send(LinkEvent::Frame(Box::new(frame))).await.is_err() {
                    return gone();
                }
            }
            order = orders.recv() => {
                let done = match order {
                    Some(Order::Pings(period)) => {
                        silence = period.mul_f64(2.5).max(Duration::from_secs(1));
                        continue;
                    }
                    Some(Order::Send(message)) => timeout(WRITE, socket.send(message)).await,
                    Some(Order::Close) | None => timeout(WRITE, socket.close(None)).await,
                };
                match done {
                    // Its close frame may say more.
                    Ok(Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Protocol(_))) => {}
                    Ok(Err(error)) => return Ended::lost(error.to_string()),
                    Err(_) => return Ended::lost("the server takes nothing"),
                }
            }
        }
    }
}

fn closed(frame: Option<tokio_tungstenite::tungstenite::protocol::CloseFrame>) -> Ended {
    let Some(frame) = frame else {
        return Ended::lost("the server closed the connection");
    };
    let code = u16::from(frame.code);
    let known = kronos_protocol::CloseCode::from_code(code);
    let name = known.map_or_else(|| code.to_string(), |known| known.to_string());
    // The reason counts, not the code; another program's close frame has none, and the code is all there is.
    let reason = CloseReason::decode(&frame.reason);
    let retry = reason.map_or_else(
        || known.is_none_or(kronos_protocol::CloseCode::retry),
        |reason| reason.retry,
    );
    let after = reason.and_then(|reason| reason.after_ms).map(Duration::from_millis);
    Ended {
        retry,
        after,
        why: format!("the server closed the connection: {name}"),
    }
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::CloseFrame;

    use super::*;

    fn close(code: u16, reason: &str) -> Ended {
        closed(Some(CloseFrame {
            code: code.into(),
            reason: reason.to_owned().into(),
        }))
    }

    #[test]
    fn the_reason_of_a_close_frame_is_obeyed_not_its_code() {
        assert!(close(4401, r#"{"retry":true}"#).retry);
        let ended = close(1012, r#"{"retry":false,"after_ms":1200}"#);
        assert_eq!((ended.retry, ended.after), (false, Some(Duration::from_millis(1200))));
        assert!(ended.why.contains("1012"), "{}", ended.why);
    }

    #[test]
    fn without_a_reason_the_code_decides() {
        assert!(close(1012, "").retry);
        assert!(!close(4401, "bye").retry);
        assert!(close(3999, "").retry);
        assert!(closed(None).retry);
    }
}
