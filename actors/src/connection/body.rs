//! The outgoing half of a websocket, between the actor's context and the HTTP dispatcher.
//!
//! Marks the turns of [`Link`], and ends the connection with 1011 when its actor panics, so that the client learns that
//! the server was at fault instead of seeing a cut.

use std::{
    io,
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

pub(super) struct Body<S> {
    /// Gone after a panic.
    inner: Option<S>,
    link: Rc<Link>,
    id: ConnectionId,
}

impl<S> Body<S> {
    pub(super) fn new(inner: S, link: Rc<Link>, id: ConnectionId) -> Self {
        Self {
            inner: Some(inner),
            link,
            id,
        }
    }

    /// Drops the actor and says goodbye in its place.
    fn bury(&mut self) -> Bytes {
        let inner = self.inner.take();
        // Dropping the context polls the actor once more, so it may panic again.
        let again = catch_unwind(AssertUnwindSafe(|| drop(inner))).is_err();
        error!(connection.id = %self.id, again, "connection actor panicked");
        metrics::closed(Some(CloseCode::Internal.code()));
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
            return Poll::Ready(None);
        };
        this.link.begin_turn();
        match catch_unwind(AssertUnwindSafe(|| Pin::new(inner).poll_next(cx))) {
            Ok(poll) => poll.map_err(|error| io::Error::other(error.to_string())),
            Err(_) => Poll::Ready(Some(Ok(this.bury()))),
        }
    }
}
