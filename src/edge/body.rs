//! The bodies on their way: a request's is bounded in bytes and in time whoever reads it, an answer's is watched to its end.

use std::{
    cell::Cell,
    panic::AssertUnwindSafe,
    pin::Pin,
    rc::Rc,
    sync::Arc,
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
            fresh: false,
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
    /// Something came since nothing was there: there may be more that the server has not looked at.
    fresh: bool,
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
        match Pin::new(&mut this.payload).poll_next(cx) {
            Poll::Ready(Some(Ok(chunk))) => match this.left.checked_sub(chunk.len()) {
                Some(left) => {
                    (this.left, this.fresh) = (left, true);
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
                let fresh = std::mem::take(&mut this.fresh);
                let time = this.time;
                let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(time)));
                if timer.as_mut().poll(cx).is_ready() {
                    if !fresh {
                        this.fate.set(Fate::TooSlow);
                        return Poll::Ready(Some(Err(late())));
                    }
                    timer.as_mut().reset(tokio::time::Instant::now());
                    cx.waker().wake_by_ref();
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
    made_later: Option<Box<(Span, Arc<str>)>>,
}

impl Outgoing {
    /// Watches over `body`; `made_by` is the span and the id of its request.
    pub(crate) fn new(body: BoxBody, serving: Option<Serving>, made_by: Option<(&Span, &Arc<str>)>) -> Self {
        let later = matches!(body.size(), BodySize::Stream);
        let made_later = made_by
            .filter(|_| later)
            .map(|(span, id)| Box::new((span.clone(), Arc::clone(id))));
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

#[cfg(test)]
mod tests {
    use actix_web::{HttpResponse, test::TestRequest};
    use futures_util::{StreamExt as _, stream};

    use super::*;

    /// Reads an answer to its end or to where it breaks off.
    async fn read(parts: Vec<fn() -> Result<Bytes, std::io::Error>>) -> (Vec<Bytes>, bool) {
        let body = stream::iter(parts).map(|part| part());
        let response = HttpResponse::Ok().streaming(body);
        let span = tracing::error_span!("request");
        let mut body = Outgoing::new(response.into_body(), None, Some((&span, &"id".into())));
        let (mut chunks, mut broken) = (Vec::new(), false);
        while let Some(chunk) = std::future::poll_fn(|cx| Pin::new(&mut body).poll_next(cx)).await {
            match chunk {
                Ok(chunk) => chunks.push(chunk),
                Err(BrokenOff) => broken = true,
            }
        }
        (chunks, broken)
    }

    #[actix_web::test]
    async fn a_panic_or_an_error_in_a_body_breaks_it_off_and_nothing_else() {
        let good: fn() -> _ = || Ok(Bytes::from_static(b"a"));
        assert_eq!(read(vec![good, good]).await, (vec![Bytes::from_static(b"a"); 2], false));
        let bad: [fn() -> Result<Bytes, std::io::Error>; 2] =
            [|| Err(std::io::Error::other("secret")), || panic!("secret")];
        for bad in bad {
            assert_eq!(
                read(vec![good, bad, good]).await,
                (vec![Bytes::from_static(b"a")], true)
            );
        }
    }

    #[actix_web::test]
    async fn what_a_body_is_made_in_knows_its_request() {
        let seen: fn() -> _ = || Ok(Bytes::from(request::current_id().unwrap_or_default().to_string()));
        assert_eq!(read(vec![seen]).await.0, [Bytes::from_static(b"id")]);
    }

    #[actix_web::test]
    async fn a_body_is_bounded_whoever_reads_it() {
        for (bytes, fate) in [(3, Fate::Whole), (4, Fate::Whole), (5, Fate::TooLarge)] {
            let mut request = TestRequest::post().set_payload(vec![b'x'; bytes]).to_srv_request();
            request.headers_mut().remove(header::CONTENT_LENGTH);
            let incoming = Incoming::bound(&mut request, 4, Duration::from_secs(60));
            assert_eq!(incoming.fate(), Fate::Open);
            let mut payload = request.take_payload();
            let mut read = 0;
            while let Some(Ok(chunk)) = payload.next().await {
                read += chunk.len();
            }
            assert_eq!((incoming.fate(), read <= 4), (fate, true), "{bytes}");
        }
    }
}
