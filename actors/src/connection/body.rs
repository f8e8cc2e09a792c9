//! The outgoing half of a websocket, between the actor's context and whoever writes to its socket.
//!
//! Marks the turns of [`Link`], ends the connection with 1011 when its actor panics, so that the client learns that the
//! server was at fault instead of seeing a cut, and hangs up as soon as the last bytes are written: the dispatcher itself
//! would linger for as long as it grants an HTTP client to take its answer.

use std::{
    io,
    net::Shutdown,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::Stream;
use kronos_protocol::{close::CloseCode, ids::ConnectionId};
use tracing::error;

use super::{link::Link, metrics};

/// A close frame with code 1011 and no reason.
const INTERNAL_ERROR: Bytes = Bytes::from_static(&[0x88, 0x02, 0x03, 0xF3]);

/// Ends the connection's socket; does nothing where there is no socket to be had.
#[derive(Default)]
pub struct HangUp(Option<Box<dyn Fn(Shutdown)>>);

impl HangUp {
    /// What ends the socket: the sending half when everything is written, or both when nobody takes it.
    pub fn new(end: impl Fn(Shutdown) + 'static) -> Self {
        Self(Some(Box::new(end)))
    }

    /// Ends it; what the kernel holds is still sent.
    pub(super) fn end(&self, how: Shutdown) {
        if let Some(end) = &self.0 {
            end(how);
        }
    }
}

impl std::fmt::Debug for HangUp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HangUp({})", self.0.is_some())
    }
}

pub(super) struct Body<S> {
    /// Gone after its end or a panic.
    inner: Option<S>,
    link: Rc<Link>,
    id: ConnectionId,
    /// There was a poll to write the last bytes.
    written: bool,
}

impl<S> Body<S> {
    pub(super) fn new(inner: S, link: Rc<Link>, id: ConnectionId) -> Self {
        Self {
            inner: Some(inner),
            link,
            id,
            written: false,
        }
    }

    /// Ends the body one poll after its last bytes: the HTTP dispatcher, should it be the one, writes at the end of each.
    fn end<T>(&mut self, cx: &Context<'_>) -> Poll<Option<T>> {
        if !std::mem::replace(&mut self.written, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.link.hang_up().end(Shutdown::Write);
        Poll::Ready(None)
    }

    /// Drops the actor and says goodbye in its place.
    fn bury(&mut self) -> Bytes {
        let inner = self.inner.take();
        // Dropping the context polls the actor once more, so it may panic again.
        let again = catch_unwind(AssertUnwindSafe(|| drop(inner))).is_err();
        error!(connection.id = %self.id, again, "connection actor panicked");
        if self.link.close() {
            metrics::closed(Some(CloseCode::Internal.code()));
        }
        INTERNAL_ERROR
    }
}

impl<S, E> Stream for Body<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    type Item = io::Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(inner) = &mut this.inner else {
            return this.end(cx);
        };
        this.link.begin_turn();
        match catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_next(cx))) {
            Ok(Poll::Ready(None)) => {
                this.inner = None;
                this.end(cx)
            }
            Ok(poll) => poll.map_err(|error| io::Error::other(error.to_string())),
            Err(_) => Poll::Ready(Some(Ok(this.bury()))),
        }
    }
}
