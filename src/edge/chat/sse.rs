//! Answers that go on for as long as there is something to tell: a body that a task feeds from a cursor.
//!
//! Between the cursor and the socket there is one chunk: a reader that takes nothing stops the cursor, and is cut when it has
//! taken nothing for the write time-out. A stream ends with its login, its user and the server, as websockets do.

use std::{
    net::Shutdown,
    pin::{Pin, pin},
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, http::Method, http::header};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::Stream;
use kronos_actors::{
    clock::{Clock, Millis},
    connection::streams::{StreamEnd, StreamPermit},
    metrics as names,
    principal::{AuthError, Authenticator as _, Principal},
    session::message::SessionError,
};
use kronos_protocol::{error::ErrorCode, position::Cursor};
use serde::Serialize;
use serde_json::json;
use tokio::sync::mpsc;

use super::StreamRules;
use crate::edge::{EdgeState, error::ApiError, ws::Socket};

/// The content type of server-sent events.
pub(in crate::edge) const EVENT_STREAM: &str = "text/event-stream";
/// Bytes that are handed over at once: a slow reader is only asked to take so many within the time-out.
const PIECE: usize = 8 * 1024;
/// Says nothing, so that proxies and readers see that the stream lives.
const KEEP_ALIVE: Bytes = Bytes::from_static(b": keep-alive\n\n");
/// When there may be a place again, in milliseconds.
const FULL_RETRY_MS: u64 = 5000;
/// Time in which the last events of a session that the server's end has closed come through.
const LAST_EVENTS: Duration = Duration::from_millis(300);
/// Time for the last words to a reader.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A place for a stream, taken before anything is done for it.
pub(in crate::edge) struct Opening {
    permit: StreamPermit,
    socket: Option<Socket>,
    expires: Option<Millis>,
    clock: Clock,
    rules: StreamRules,
}

impl Opening {
    /// Takes a place.
    pub(in crate::edge) fn take(
        state: &EdgeState,
        request: &HttpRequest,
        caller: &Principal,
    ) -> Result<Self, ApiError> {
        let permit = state.wiring.connections.streams().admit(caller).map_err(|full| {
            let (name, limit) = full.bound();
            ApiError {
                after_ms: Some(FULL_RETRY_MS),
                ..ApiError::new(ErrorCode::Overloaded, full.to_string())
                    .with_details(json!({"name": name, "limit": limit}))
            }
        })?;
        // Now that it can be reached: a login that ended in between leaves nothing open.
        if !state.accounts.holds(caller) {
            names::auth_failed(&AuthError::Revoked);
            return Err(AuthError::Revoked.into());
        }
        Ok(Self {
            permit,
            socket: request.conn_data::<Socket>().copied(),
            expires: caller.expires_at_ms,
            clock: state.clock.clone(),
            rules: state.streams,
        })
    }

    /// The same with comments at least so often.
    pub(in crate::edge) fn heartbeat_within(mut self, longest: Duration) -> Self {
        self.rules.heartbeat = self.rules.heartbeat.min(longest);
        self
    }
}

/// What a stream tells.
pub(in crate::edge) trait Source: 'static {
    /// Comments may come between chunks, and a last word at the end. Without them a stream that ends early is broken off, so
    /// that its reader does not take it for whole.
    const IS_EVENTS: bool;

    /// Waits for the next chunk; `None` at the end. May be dropped and called again.
    async fn next(&mut self) -> Result<Option<Bytes>, SessionError>;

    /// The last word to the reader, when the stream ends otherwise than by itself.
    fn farewell(&mut self, _why: &Stop) -> Option<Bytes> {
        None
    }

    /// The reader has left before the end.
    async fn abandoned(&mut self) {}
}

/// Why a stream ended.
#[derive(Debug)]
pub(in crate::edge) enum Stop {
    /// Everything was told.
    Finished,
    /// The reader has left.
    Left,
    /// The reader took nothing.
    NotReading,
    /// The login was revoked, or its user is gone.
    Revoked,
    /// The token has expired.
    Expired,
    /// The server goes away.
    Restart,
    /// The session cannot be followed any longer.
    Failed(SessionError),
}

impl Stop {
    fn label(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Left => "left",
            Self::NotReading => "not_reading",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::Restart => "restart",
            Self::Failed(error) if error.code == ErrorCode::ShuttingDown => "restart",
            Self::Failed(_) => "failed",
        }
    }

    /// What the reader is told: `None` when there is no reader, or nothing to tell.
    pub(in crate::edge) fn error(&self) -> Option<SessionError> {
        let error = match self {
            Self::Finished | Self::Left | Self::NotReading => return None,
            Self::Revoked => SessionError::new(ErrorCode::Unauthenticated, "the token was revoked"),
            Self::Expired => SessionError::new(ErrorCode::Unauthenticated, "the token has expired"),
            Self::Restart => SessionError::new(ErrorCode::ShuttingDown, "the server restarts").after_ms(1000),
            Self::Failed(error) => error.clone(),
        };
        Some(error)
    }
}

/// Answers with what `source` tells.
pub(in crate::edge) fn respond<S: Source>(content_type: &str, opening: Opening, source: S) -> HttpResponse {
    let chunks = start(opening, source);
    headers(content_type).streaming(chunks)
}

/// Answers a `HEAD`: the stream itself would never end. `None` for any other method.
pub(in crate::edge) fn head_only(request: &HttpRequest, content_type: &str) -> Option<HttpResponse> {
    (request.method() == Method::HEAD).then(|| headers(content_type).finish())
}

fn headers(content_type: &str) -> actix_web::HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(content_type)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header(("x-accel-buffering", "no"));
    response
}

/// Starts the task that feeds a body.
pub(in crate::edge) fn start<S: Source>(opening: Opening, mut source: S) -> Chunks {
    let (tx, rx) = mpsc::channel(1);
    let heartbeat = opening.rules.heartbeat;
    let mut line = Line { tx, opening };
    // For one line: the task is not within it, as it is polled for every delta.
    let span = tracing::Span::current();
    drop(actix_web::rt::spawn(async move {
        let stop = Box::pin(pump(&mut line, &mut source, heartbeat)).await;
        tracing::debug!(parent: &span, reason = stop.label(), "event stream ended");
        metrics::counter!(names::EVENT_STREAMS_ENDED, "reason" => stop.label()).increment(1);
        let left = matches!(stop, Stop::Left | Stop::NotReading);
        match source.farewell(&stop) {
            Some(words) => line.last_words(Ok(words)).await,
            None if !S::IS_EVENTS && stop.error().is_some() => line.last_words(Err(BrokenOff)).await,
            None => {}
        }
        // The place is free before what the reader left is put in order.
        drop(line);
        if left {
            Box::pin(source.abandoned()).await;
        }
    }));
    Chunks(rx)
}

/// Carries chunks until there are no more, nobody takes them, or the stream may not go on.
async fn pump<S: Source>(line: &mut Line, source: &mut S, heartbeat: Duration) -> Stop {
    loop {
        let next = match wait(line, source, heartbeat).await {
            Ok(next) => next,
            Err(Stop::Restart) => return last_events(line, source).await,
            Err(stop) => return stop,
        };
        match next {
            Ok(Some(chunk)) => match line.send(chunk).await {
                Ok(()) => {}
                Err(Stop::Restart) => return last_events(line, source).await,
                Err(stop) => return stop,
            },
            Ok(None) => return Stop::Finished,
            Err(error) => return Stop::Failed(error),
        }
    }
}

/// Waits for the next chunk, with comments meanwhile.
async fn wait<S: Source>(
    line: &mut Line,
    source: &mut S,
    heartbeat: Duration,
) -> Result<Result<Option<Bytes>, SessionError>, Stop> {
    let mut next = pin!(source.next());
    loop {
        tokio::select! {
            stop = line.ended() => return Err(stop),
            next = &mut next => return Ok(next),
            () = actix_web::rt::time::sleep(heartbeat), if S::IS_EVENTS => {}
        }
        line.send(KEEP_ALIVE).await?;
    }
}

/// The server goes away, and every session has said its last: that is on its way.
async fn last_events<S: Source>(line: &mut Line, source: &mut S) -> Stop {
    let rest = async {
        loop {
            match source.next().await {
                Ok(Some(chunk)) => {
                    if !line.hand_over(chunk).await {
                        return Stop::Left;
                    }
                }
                Ok(None) => return Stop::Finished,
                Err(_gone) => return Stop::Restart,
            }
        }
    };
    let ended = actix_web::rt::time::timeout(LAST_EVENTS, rest).await;
    ended.unwrap_or(Stop::Restart)
}

/// The way to one reader.
struct Line {
    tx: mpsc::Sender<Result<Bytes, BrokenOff>>,
    opening: Opening,
}

impl Line {
    /// Waits until the stream may not go on, or its reader has left.
    async fn ended(&mut self) -> Stop {
        let Self { tx, opening } = self;
        let expired = async {
            match opening.expires {
                Some(end) => opening.clock.sleep_until(end).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = tx.closed() => Stop::Left,
            why = opening.permit.ended() => match why {
                StreamEnd::Revoked => Stop::Revoked,
                StreamEnd::Restart => Stop::Restart,
            },
            () = expired => Stop::Expired,
        }
    }

    /// Hands a chunk over, piece by piece, each when the one before was taken; cuts a reader that takes nothing.
    async fn send(&mut self, mut chunk: Bytes) -> Result<(), Stop> {
        // An empty piece would be the end of the body.
        while !chunk.is_empty() {
            let piece = chunk.split_to(chunk.len().min(PIECE));
            if let Err((stop, unsent)) = self.send_piece(piece).await {
                return Err(self.wind_up(stop, unsent, chunk).await);
            }
        }
        Ok(())
    }

    /// A chunk is told to its end before a last word follows, or its reader could not tell the one from the other.
    async fn wind_up(&self, stop: Stop, unsent: Bytes, mut rest: Bytes) -> Stop {
        if matches!(stop, Stop::Left | Stop::NotReading) {
            return self.cut(stop);
        }
        let told = async {
            let mut piece = unsent;
            while self.hand_over(piece).await {
                if rest.is_empty() {
                    return true;
                }
                piece = rest.split_to(rest.len().min(PIECE));
            }
            false
        };
        match actix_web::rt::time::timeout(LAST_WORDS, told).await {
            Ok(true) => stop,
            Ok(false) => Stop::Left,
            Err(_elapsed) => self.cut(stop),
        }
    }

    /// Hands one piece over; what ends the stream meanwhile comes back with the piece.
    async fn send_piece(&mut self, piece: Bytes) -> Result<(), (Stop, Bytes)> {
        // Twice the half: a process that stood still finds one half over, and its readers had no time.
        let half = self.opening.rules.write_timeout / 2;
        let tx = self.tx.clone();
        let mut room = pin!(tx.reserve());
        for _ in 0..2 {
            let waited = tokio::select! {
                stop = self.ended() => return Err((stop, piece)),
                waited = actix_web::rt::time::timeout(half, &mut room) => waited,
            };
            match waited {
                Ok(Ok(room)) => {
                    room.send(Ok(piece));
                    return Ok(());
                }
                Ok(Err(_closed)) => return Err((Stop::Left, piece)),
                Err(_elapsed) => {}
            }
        }
        Err((Stop::NotReading, piece))
    }

    /// The same near the end: whether it went.
    async fn hand_over(&self, chunk: Bytes) -> bool {
        chunk.is_empty() || self.tx.send(Ok(chunk)).await.is_ok()
    }

    /// Ends the socket of a reader to which nothing can be said any more. While the body lives, the socket is this one.
    fn cut(&self, stop: Stop) -> Stop {
        if !self.tx.is_closed()
            && let Some(socket) = self.opening.socket
        {
            socket.end(Shutdown::Both);
        }
        stop
    }

    /// Says a last word to a reader that still takes something.
    async fn last_words(&self, words: Result<Bytes, BrokenOff>) {
        let said = actix_web::rt::time::timeout(LAST_WORDS, self.tx.send(words)).await;
        if said.is_err() {
            self.cut(Stop::NotReading);
        }
    }
}

/// A stream that did not come to its end.
#[derive(Debug, thiserror::Error)]
#[error("the stream was broken off")]
pub(in crate::edge) struct BrokenOff;

/// The body.
pub(in crate::edge) struct Chunks(mpsc::Receiver<Result<Bytes, BrokenOff>>);

impl Stream for Chunks {
    type Item = Result<Bytes, BrokenOff>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}

/// Writes one server-sent event; its data is one line of JSON.
pub(in crate::edge) fn write_event(out: &mut BytesMut, id: Option<&Cursor>, name: Option<&str>, data: &impl Serialize) {
    if let Some(id) = id {
        out.extend_from_slice(format!("id: {id}\n").as_bytes());
    }
    if let Some(name) = name {
        out.extend_from_slice(format!("event: {name}\n").as_bytes());
    }
    out.extend_from_slice(b"data: ");
    write_json(out, data);
    out.extend_from_slice(b"\n\n");
}

/// Writes JSON without line breaks.
pub(in crate::edge) fn write_json(out: &mut BytesMut, data: &impl Serialize) {
    if let Err(error) = serde_json::to_writer(out.writer(), data) {
        // No type that is sent here has anything that JSON lacks.
        tracing::error!(%error, "an event could not be written");
    }
}
