//! The socket below the HTTP parser: it measures how slow the other end is, and sees what the parser answers by itself.
//!
//! The parser knows one time-out, for the head of the first request, and answers what it cannot read with an empty body.
//! Here every head has its time, a reader that does not read has an end, and an error that none of our code made leaves in our
//! shape. What a request says is not looked at; a websocket leaves the parser when its handshake is answered ([`upgraded`]): its
//! connection watches over itself.

use std::{
    cell::{Cell, RefCell},
    future::Future as _,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use actix_web::rt::net::TcpStream;
use bytes::{Buf as _, Bytes};
use kronos_actors::{clock::Clock, metrics as names};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    time::Sleep,
};

use self::bare::Bare;

mod bare;
pub(crate) mod upgraded;

/// Bytes that a client must take in each [`Pace::answer`], if it does not take all: half a kilobyte in a second is slower
/// than any network that a person would use.
const LEAST_BYTES: usize = 32 * 1024;
/// Bytes that are read at once, and ahead of the request that is being answered. The parser takes all requests out of what it
/// has, and each of them takes a hundred times the bytes that it came in: without this bound a client that sends many and
/// reads nothing takes megabytes, and has the parser look for room again and again.
const PIECE: usize = 1024;
/// Bytes that are read at once of a body.
const BODY_PIECE: usize = 16 * 1024;
/// Time in which the rest of a refused request is thrown away, so that the client can read why.
const LINGER: Duration = Duration::from_secs(1);

/// How slow a client may be.
#[derive(Debug, Clone)]
pub(crate) struct Pace {
    /// Time in which the head of a request must have come, from its first byte (the first one: from the connect).
    pub(crate) head: Duration,
    /// Time in which [`LEAST_BYTES`] of an answer, or the rest of it, must be taken.
    pub(crate) answer: Duration,
    /// Time in which the rest of a body is thrown away that nobody reads.
    pub(crate) rest: Duration,
}

/// The pace of a socket is that of the machine, whatever time the clock of the domain shows.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// How far a socket is on its way from the parser to its websocket.
#[derive(Debug, Default)]
enum Handover {
    /// It belongs to the parser.
    #[default]
    None,
    /// It is wanted when the head of the answer is written. Nothing is read any more.
    Wanted,
    /// The head is written.
    Due,
    /// It was given away: what comes next belongs to whoever takes it.
    Given(TcpStream),
    /// It was taken.
    Over,
}

/// What the socket and the requests on it tell each other.
#[derive(Debug)]
pub(crate) struct Link {
    /// Requests whose answers are not written yet.
    serving: Cell<u32>,
    /// Since when a head is awaited.
    head_since: Cell<Option<Instant>>,
    /// Everything that our answers had to say is with the kernel.
    quiet: Cell<bool>,
    /// What comes now is a body that somebody reads.
    body: Cell<bool>,
    /// It is a websocket now.
    upgraded: Cell<bool>,
    /// The answer said that the connection ends here.
    ends: Cell<bool>,
    handover: RefCell<Handover>,
}

impl Link {
    fn new() -> Rc<Self> {
        Rc::new(Self {
            serving: Cell::new(0),
            head_since: Cell::new(None),
            quiet: Cell::new(true),
            body: Cell::new(false),
            upgraded: Cell::new(false),
            ends: Cell::new(false),
            handover: RefCell::default(),
        })
    }

    /// The socket is to be given away once the head of this answer is written: [`Link::take`].
    pub(crate) fn want(&self) {
        self.handover.replace(Handover::Wanted);
    }

    /// Takes the socket when it was given away.
    pub(crate) fn take(&self) -> Option<TcpStream> {
        let mut handover = self.handover.borrow_mut();
        match std::mem::take(&mut *handover) {
            Handover::Given(socket) => {
                *handover = Handover::Over;
                Some(socket)
            }
            other => {
                *handover = other;
                None
            }
        }
    }

    /// Whether the socket belongs to the parser no longer, or soon.
    fn leaves(&self) -> bool {
        !matches!(*self.handover.borrow(), Handover::None)
    }

    /// The head of the answer is with the kernel.
    fn head_written(&self) -> bool {
        let mut handover = self.handover.borrow_mut();
        let wanted = self.upgraded.get() && matches!(*handover, Handover::Wanted);
        if wanted {
            *handover = Handover::Due;
        }
        wanted
    }

    /// A request is being answered, until what this returns is dropped.
    pub(crate) fn serve(self: &Rc<Self>) -> Serving {
        self.serving.set(self.serving.get() + 1);
        self.head_since.set(None);
        self.quiet.set(false);
        Serving(Rc::clone(self))
    }

    /// Says whether a body is to be read.
    pub(crate) fn read_body(&self, body: bool) {
        self.body.set(body);
    }

    /// From here on it is a websocket.
    pub(crate) fn upgrade(&self) {
        self.upgraded.set(true);
    }

    /// What still comes of this request is not wanted: the connection ends after its answer.
    pub(crate) fn end(&self) {
        self.ends.set(true);
    }
}

/// A request that is being answered. Dropped with the body of its answer.
#[derive(Debug)]
pub(crate) struct Serving(Rc<Link>);

impl Drop for Serving {
    fn drop(&mut self) {
        let link = &self.0;
        link.serving.set(link.serving.get().saturating_sub(1));
        if link.ends.get() && link.serving.get() == 0 {
            // The parser may wait for the rest of a body: not for ever.
            link.head_since.set(Some(now()));
        }
    }
}

/// A socket that is watched.
pub(crate) struct Watched {
    /// Absent when it was given away at the end.
    socket: Option<TcpStream>,
    link: Rc<Link>,
    pace: Pace,
    bare: Bare,
    /// One for all time-outs; armed late, and left to run when it comes too early.
    timer: Option<Pin<Box<Sleep>>>,
    /// What is written instead of an answer of the parser's own.
    instead: Option<Bytes>,
    /// Since when the client takes too little, and how much it took since.
    stalled: Option<(Instant, usize)>,
    /// Bytes that were read ahead of the request that is being answered.
    ahead: usize,
    /// There may be more to read at once.
    more: bool,
    /// Nothing is read until the request is answered.
    paused: bool,
    /// Something was read that the parser has not seen: it may be just what is awaited, and the server that was slow.
    fresh: bool,
    /// It was polled before: until then nothing is the client's fault.
    begun: bool,
    /// Nothing is read any more.
    cut: bool,
    /// There may be bytes of a request that nobody read: closing at once would take the answer from the client.
    unread: bool,
}

impl Watched {
    pub(crate) fn new(socket: TcpStream, pace: Pace, clock: Clock, hsts: bool) -> Self {
        let bare = Bare::new(clock, hsts);
        Self {
            socket: Some(socket),
            link: Link::new(),
            pace,
            bare,
            timer: None,
            instead: None,
            stalled: None,
            ahead: 0,
            more: false,
            paused: false,
            fresh: false,
            begun: false,
            cut: false,
            unread: false,
        }
    }

    /// Returns the socket, to set its options.
    pub(crate) fn socket(&self) -> Option<&TcpStream> {
        self.socket.as_ref()
    }

    /// Returns what requests on it tell it.
    pub(crate) fn link(&self) -> Rc<Link> {
        Rc::clone(&self.link)
    }

    fn socket_mut(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        let socket = self.socket.as_mut().map(Pin::new);
        socket.ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Waits for the nearer of the two ends; says which has passed.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Option<Late> {
        let ends = self.link.ends.get() && self.link.serving.get() == 0;
        let patience = if ends { self.pace.rest } else { self.pace.head };
        let head = self
            .link
            .head_since
            .get()
            .filter(|_| !self.cut)
            .map(|since| since + patience);
        let answer = self.stalled.map(|(since, _)| since + self.pace.answer);
        let next = match (head, answer) {
            (None, None) => return None,
            (Some(one), None) | (None, Some(one)) => one,
            (Some(one), Some(other)) => one.min(other),
        };
        let time = now();
        if answer.is_some_and(|at| at <= time) {
            return Some(Late::Answer);
        }
        if head.is_some_and(|at| at <= time) {
            return Some(Late::Head);
        }
        let next = tokio::time::Instant::from_std(next);
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
        if timer.deadline() > next {
            timer.as_mut().reset(next);
        }
        while timer.as_mut().poll(cx).is_ready() {
            timer.as_mut().reset(next);
            if tokio::time::Instant::from_std(now()) >= next {
                // It is now, to the millisecond: the next poll sees it.
                cx.waker().wake_by_ref();
                break;
            }
        }
        None
    }

    /// Reads one piece in each poll, and little ahead. Returns how many bytes.
    fn poll_piece(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<usize>> {
        let body = self.link.body.get();
        let is_ahead = self.link.serving.get() > 0 && !body;
        if std::mem::take(&mut self.more) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if !is_ahead {
            self.ahead = 0;
        } else if self.ahead >= PIECE {
            self.paused = true;
            return Poll::Pending;
        }
        let Some(socket) = &self.socket else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let count = if body {
            ready!(read_into::<BODY_PIECE>(socket, cx, buffer))?
        } else {
            ready!(read_into::<PIECE>(socket, cx, buffer))?
        };
        // One that fills its place may be followed by more that is there already.
        self.more = count >= PIECE || buffer.remaining() == 0;
        if is_ahead {
            self.ahead += count;
        }
        Poll::Ready(Ok(count))
    }

    /// Gives the socket away if that is due; for the parser it ends then. Until then nothing is read: it would be lost.
    fn give_away(&mut self) -> Poll<io::Result<()>> {
        self.timer = None;
        let mut handover = self.link.handover.borrow_mut();
        if matches!(*handover, Handover::Due)
            && let Some(socket) = self.socket.take()
        {
            *handover = Handover::Given(socket);
        }
        match *handover {
            Handover::None | Handover::Wanted | Handover::Due => Poll::Pending,
            Handover::Given(_) | Handover::Over => Poll::Ready(Ok(())),
        }
    }

    /// Ends the reading because a head, or the rest of a body, did not come. Says so when somebody waits for an answer.
    fn cut_head(&mut self) {
        self.cut = true;
        self.timer = None;
        let began = self.link.head_since.take().is_some() && self.unread;
        if self.link.ends.get() {
            return;
        }
        names::refused("request_timeout");
        if began && self.link.quiet.get() {
            let answer = self.bare.timeout();
            // A socket on which nothing is under way takes it whole, or its client is gone.
            drop(self.socket.as_ref().map(|socket| socket.try_write(&answer)));
        }
    }

    /// Writes what stands instead of the parser's answer, to its end.
    fn poll_instead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(mut rest) = self.instead.take_if(|rest| !rest.is_empty()) {
            let written = self.socket_mut()?.poll_write(cx, &rest);
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => rest.advance(count),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {}
            }
            self.instead = Some(rest);
            if written.is_pending() {
                return self.stall(cx).map(Err);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// The client takes nothing now: waits, but not for ever.
    fn stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if self.link.upgraded.get() {
            return Poll::Pending;
        }
        self.stalled.get_or_insert_with(|| (now(), 0));
        match self.poll_pace(cx) {
            Some(Late::Answer) => {
                names::refused("answer_timeout");
                Poll::Ready(io::ErrorKind::TimedOut.into())
            }
            Some(Late::Head) | None => Poll::Pending,
        }
    }
}

/// Reads at most `MOST` bytes.
fn read_into<const MOST: usize>(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<usize>> {
    let mut piece = [0; MOST];
    let room = MOST.min(buffer.remaining());
    let piece = piece.get_mut(..room).unwrap_or_default();
    loop {
        ready!(socket.poll_read_ready(cx))?;
        match socket.try_read(piece) {
            Ok(count) => {
                buffer.put_slice(piece.get(..count).unwrap_or_default());
                return Poll::Ready(Ok(count));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
    }
}

enum Late {
    Head,
    Answer,
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.cut {
            return Poll::Ready(Ok(()));
        }
        if this.link.upgraded.get() && this.link.leaves() {
            return this.give_away();
        }
        if !std::mem::replace(&mut this.begun, true) {
            this.link.head_since.set(Some(now()));
        }
        if this.link.upgraded.get() {
            this.timer = None;
            return this.socket_mut()?.poll_read(cx, buffer);
        }
        let read = this.poll_piece(cx, buffer);
        if matches!(read, Poll::Ready(Ok(1..))) {
            (this.unread, this.fresh) = (true, true);
            if this.link.serving.get() == 0 && this.link.head_since.get().is_none() {
                this.link.head_since.set(Some(now()));
            }
        }
        let read = read.map_ok(drop);
        if this.link.serving.get() > 0 {
            this.link.head_since.set(None);
        }
        if read.is_ready() {
            return read;
        }
        let fresh = std::mem::take(&mut this.fresh);
        match this.poll_pace(cx) {
            // First the parser looks at what came.
            Some(Late::Head) if fresh => cx.waker().wake_by_ref(),
            Some(Late::Head) => {
                this.cut_head();
                return Poll::Ready(Ok(()));
            }
            // Whether the client takes something now is seen when it is written.
            Some(Late::Answer) | None => {}
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.instead.is_none() && this.link.quiet.get() {
            this.instead = this.bare.instead_of(bytes);
        }
        if this.instead.is_some() {
            ready!(this.poll_instead(cx))?;
            this.instead = None;
            return Poll::Ready(Ok(bytes.len()));
        }
        match this.socket_mut()?.poll_write(cx, bytes) {
            Poll::Ready(Ok(count)) => {
                if let Some((since, taken)) = &mut this.stalled {
                    *taken += count;
                    if *taken >= LEAST_BYTES {
                        (*since, *taken) = (now(), 0);
                    }
                }
                Poll::Ready(Ok(count))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => this.stall(cx).map(Err),
        }
    }

    /// Called when all that was to be written was taken.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stalled = None;
        if self.link.head_written() {
            cx.waker().wake_by_ref();
        }
        if self.socket.is_none() {
            return Poll::Ready(Ok(()));
        }
        if self.link.serving.get() == 0 {
            self.link.quiet.set(true);
            let paused = std::mem::take(&mut self.paused);
            if self.poll_pace(cx).is_some() || paused {
                cx.waker().wake_by_ref();
            }
        }
        self.socket_mut()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.socket.is_none() {
            return Poll::Ready(Ok(()));
        }
        self.socket_mut()?.poll_shutdown(cx)
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let refused = self.bare.answered() || self.cut && self.unread;
        let (Some(socket), Ok(runtime)) = (
            self.socket.take().filter(|_| refused),
            tokio::runtime::Handle::try_current(),
        ) else {
            return;
        };
        runtime.spawn(linger(socket));
    }
}

/// Closes the sending half, and throws away what still comes, for a moment: a socket that is closed with unread bytes in it
/// takes back what was sent last.
async fn linger(mut socket: TcpStream) {
    let mut thrown_away = [0; 4096];
    let reading = async {
        socket.shutdown().await?;
        while socket.read(&mut thrown_away).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // It is over, whichever way.
    drop(tokio::time::timeout(LINGER, reading).await);
}
