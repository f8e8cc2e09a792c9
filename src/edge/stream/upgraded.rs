//! A websocket after its handshake: the socket without the HTTP parser, whose buffers take more than all the rest of an idle one.
//!
//! The answer to the handshake goes out as any other. Its body waits until the head is written, takes the socket, and leaves
//! the parser with an end. From then on a task of its own polls the websocket while the socket takes what it writes: one
//! that is not read holds one chunk, and is not polled. Nothing is kept to read into.

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_web::{error::PayloadError, rt::net::TcpStream, web};
use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::Stream;

use super::{Link, linger};

/// Bytes that are read at once.
const PIECE: usize = 4096;
/// Bytes that wait for what is said at the same time, so that it leaves in one write.
const TOGETHER: usize = 32 * 1024;

/// The socket, for both halves; absent while the parser has it.
type Slot = Rc<RefCell<Option<Rc<TcpStream>>>>;

/// What the peer sends: first what the parser has read, then the socket.
pub(crate) struct Incoming {
    /// Gone at its end.
    payload: Option<web::Payload>,
    slot: Slot,
}

impl Stream for Incoming {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let socket = this.slot.borrow().clone();
        if let Some(payload) = &mut this.payload {
            match ready!(Pin::new(payload).poll_next(cx)) {
                Some(Ok(chunk)) => return Poll::Ready(Some(Ok(chunk))),
                // The parser has let go of the socket, or its peer has.
                Some(Err(_)) | None => this.payload = None,
            }
        }
        let Some(socket) = socket else {
            return Poll::Ready(None);
        };
        let mut piece = [0; PIECE];
        loop {
            ready!(socket.poll_read_ready(cx))?;
            match socket.try_read(&mut piece) {
                Ok(0) => return Poll::Ready(None),
                Ok(count) => {
                    let read = piece.get(..count).unwrap_or_default();
                    return Poll::Ready(Some(Ok(Bytes::copy_from_slice(read))));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}

/// The body of the answer to a handshake: it has no bytes.
pub(crate) struct Upgrading<S> {
    link: Rc<Link>,
    slot: Slot,
    websocket: Option<S>,
}

/// Prepares the handover of the socket that `link` belongs to: what `make` makes of the peer's bytes runs on it.
pub(crate) fn upgrade<S>(link: Rc<Link>, payload: web::Payload, make: impl FnOnce(Incoming) -> S) -> Upgrading<S> {
    let slot = Slot::default();
    link.want();
    let websocket = make(Incoming {
        payload: Some(payload),
        slot: Rc::clone(&slot),
    });
    Upgrading {
        link,
        slot,
        websocket: Some(websocket),
    }
}

impl<S> Stream for Upgrading<S>
where
    S: Stream<Item = io::Result<Bytes>> + Unpin + 'static,
{
    type Item = io::Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // Whoever writes the head wakes the task that polls this.
        let Some(socket) = self.link.take() else {
            return Poll::Pending;
        };
        if let Some(websocket) = self.websocket.take() {
            let socket = Rc::new(socket);
            self.slot.replace(Some(Rc::clone(&socket)));
            actix_web::rt::spawn(run(websocket, Rc::clone(&self.slot), socket));
        }
        Poll::Ready(None)
    }
}

async fn run<S>(websocket: S, slot: Slot, socket: Rc<TcpStream>)
where
    S: Stream<Item = io::Result<Bytes>> + Unpin,
{
    let writing = Writing {
        websocket,
        socket: &socket,
        rest: Bytes::new(),
    };
    // It is dropped here: nobody reads any more.
    let whole = writing.await.is_ok();
    slot.take();
    if let Some(socket) = Rc::into_inner(socket).filter(|_| whole) {
        // Closed with unread bytes in it, it would take back what was sent last. A task of its own: with room to read into.
        actix_web::rt::spawn(linger(socket));
    }
}

/// Writes what a websocket says until its end.
struct Writing<'a, S> {
    websocket: S,
    socket: &'a TcpStream,
    /// What the socket did not take yet.
    rest: Bytes,
}

impl<S> Future for Writing<'_, S>
where
    S: Stream<Item = io::Result<Bytes>> + Unpin,
{
    type Output = io::Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            while !this.rest.is_empty() {
                ready!(this.socket.poll_write_ready(cx))?;
                match this.socket.try_write(&this.rest) {
                    Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Ok(count) => this.rest.advance(count),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            let said = this.gather(cx);
            if this.rest.is_empty() {
                return said;
            }
        }
    }
}

impl<S> Writing<'_, S>
where
    S: Stream<Item = io::Result<Bytes>> + Unpin,
{
    /// Takes what is there to be said, to leave in one write; returns what there is to wait for when that is nothing.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.rest.len() < TOGETHER {
            match ready!(Pin::new(&mut self.websocket).poll_next(cx)) {
                Some(Ok(bytes)) if self.rest.is_empty() => self.rest = bytes,
                Some(Ok(bytes)) => {
                    let mut both = BytesMut::from(std::mem::take(&mut self.rest));
                    both.extend_from_slice(&bytes);
                    self.rest = both.freeze();
                }
                Some(Err(error)) => return Poll::Ready(Err(error)),
                None => return Poll::Ready(Ok(())),
            }
        }
        Poll::Pending
    }
}
