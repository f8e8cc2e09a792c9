//! The bodies on their way: a request's is bounded in bytes and in time whoever reads it, an answer's is watched to its end.

use std::{
    cell::Cell,
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpMessage as _,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    http::header,
};
use bytes::Bytes;
use futures_util::Stream;
use kronos_actors::metrics as names;
use tokio::time::Sleep;
use tracing::Span;

use super::{request, stream::Serving};

/// How far the body of a request got.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// There is none.
    #[default]
    None,
    /// Not read to its end.
    Open,
    /// Read to its end.
    Whole,
    /// It had more bytes than allowed.
    TooLarge,
    /// It did not come in time.
    TooSlow,
}

/// The body of a request, for who answers it: whatever became of it in the hands of a handler.
#[derive(Debug, Clone, Default)]
pub(crate) struct Incoming(Rc<Cell<Fate>>);

impl Incoming {
    /// Puts bounds on a request's body, when it has one.
    pub(crate) fn bound(request: &mut ServiceRequest, bytes: usize, time: Duration) -> Self {
        let incoming = Self::default();
        let payload = request.take_payload();
        if matches!(payload, Payload::None) {
            return incoming;
        }
        let declared = request.headers().get(header::CONTENT_LENGTH);
        let declared = declared.and_then(|length| length.to_str().ok()?.trim().parse::<u64>().ok());
        if declared.is_some_and(|length| length > bytes as u64) {
            // Nothing of it is read.
            incoming.0.set(Fate::TooLarge);
            return incoming;
        }
        incoming.0.set(Fate::Open);
        let bounded = Bounded {
            payload,
            left: bytes,
            time,
            timer: None,
            fate: Rc::clone(&incoming.0),
        };
        request.set_payload(Payload::Stream {
            payload: Box::pin(bounded),
        });
        incoming
    }

    /// Returns how far it got.
    pub(crate) fn fate(&self) -> Fate {
        self.0.get()
    }
}

struct Bounded {
    payload: Payload,
    left: usize,
    time: Duration,
    /// Runs from the first time that nothing is there.
    timer: Option<Pin<Box<Sleep>>>,
    fate: Rc<Cell<Fate>>,
}

impl Stream for Bounded {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let late = || PayloadError::Io(std::io::ErrorKind::TimedOut.into());
        match this.fate.get() {
            Fate::None | Fate::Open => {}
            Fate::Whole => return Poll::Ready(None),
            Fate::TooLarge => return Poll::Ready(Some(Err(PayloadError::Overflow))),
            Fate::TooSlow => return Poll::Ready(Some(Err(late()))),
        }
        // A body that drips is late, too, although something is always there.
        if this
            .timer
            .as_mut()
            .is_some_and(|timer| timer.as_mut().poll(cx).is_ready())
        {
            this.fate.set(Fate::TooSlow);
            return Poll::Ready(Some(Err(late())));
        }
        match Pin::new(&mut this.payload).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => match this.left.checked_sub(chunk.len()) {
                Some(left) => {
                    this.left = left;
                    Poll::Ready(Some(Ok(chunk)))
                }
                None => {
                    this.fate.set(Fate::TooLarge);
                    Poll::Ready(Some(Err(PayloadError::Overflow)))
                }
            },
            Poll::Ready(None) => {
                this.fate.set(Fate::Whole);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Pending => {
                if this.timer.is_none() {
                    let mut timer = Box::pin(tokio::time::sleep(this.time));
                    if timer.as_mut().poll(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                    this.timer = Some(timer);
                }
                Poll::Pending
            }
        }
    }
}

/// The body of an answer on its way out.
pub(crate) struct Outgoing {
    body: BoxBody,
    /// Says with its end that the answer is written.
    _serving: Option<Serving>,
    /// For log lines of a body that is made while it is sent: the span and the id of its request.
    made_later: Option<Box<(Span, String)>>,
}

impl Outgoing {
    /// Watches over `body`; `made_by` is the span and the id of its request.
    pub(crate) fn new(body: BoxBody, serving: Option<Serving>, made_by: Option<(&Span, &str)>) -> Self {
        let later = matches!(body.size(), BodySize::Stream);
        let made_later = made_by
            .filter(|_| later)
            .map(|(span, id)| Box::new((span.clone(), id.to_owned())));
        Self {
            body,
            _serving: serving,
            made_later,
        }
    }
}

/// Why an answer broke off in the middle; the client sees its connection end.
#[derive(Debug, thiserror::Error)]
#[error("the answer broke off")]
pub(crate) struct BrokenOff;

impl MessageBody for Outgoing {
    type Error = BrokenOff;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BrokenOff>>> {
        let this = &mut *self;
        let body = Pin::new(&mut this.body);
        let poll = || std::panic::catch_unwind(AssertUnwindSafe(|| body.poll_next(cx)));
        let polled = match &this.made_later {
            Some(made_by) => {
                let (span, id) = &**made_by;
                span.in_scope(|| request::with_id(id, || report(poll())))
            }
            None => report(poll()),
        };
        if matches!(polled, Poll::Ready(Some(Err(_)))) {
            // What panicked is not asked again.
            this.body = BoxBody::new(());
        }
        polled
    }
}

type Polled<E> = Poll<Option<Result<Bytes, E>>>;

/// Counts and logs what broke an answer off, within the span of its request.
fn report(polled: std::thread::Result<Polled<Box<dyn std::error::Error>>>) -> Polled<BrokenOff> {
    let broken = |reason: &'static str| {
        metrics::counter!(names::HTTP_BODY_ERRORS, "reason" => reason).increment(1);
        tracing::error!(reason, "an answer broke off");
        Poll::Ready(Some(Err(BrokenOff)))
    };
    match polled {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(None)) => Poll::Ready(None),
        Ok(Poll::Ready(Some(Ok(chunk)))) => Poll::Ready(Some(Ok(chunk))),
        // Its text may hold anything.
        Ok(Poll::Ready(Some(Err(_error)))) => broken("error"),
        Err(_panic) => {
            metrics::counter!(names::HTTP_PANICS).increment(1);
            broken("panic")
        }
    }
}
