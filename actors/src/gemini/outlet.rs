//! Where the events of a generation go, and the promise that one of them is the last.

use std::time::Instant;

use actix::{Recipient, dev::RecipientRequest};
use kronos_protocol::ids::RunId;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::generation::Stop;
use super::{GenerationEvent, Progress, Usage};

/// Where the events of a generation go. It travels with the work: whoever drops it without a last event (a panic, a
/// message that nobody handles any more, a core that goes away) has told the session that its generation failed, unless
/// that was cancelled.
pub(super) struct Outlet {
    run: RunId,
    sink: Recipient<GenerationEvent>,
    cancel: CancellationToken,
    /// The last event is out.
    ended: bool,
}

impl Outlet {
    /// Makes the outlet of one generation.
    pub(super) fn new(run: RunId, sink: Recipient<GenerationEvent>, cancel: CancellationToken) -> Self {
        Self {
            run,
            sink,
            cancel,
            ended: false,
        }
    }

    /// Returns what cancels the generation.
    pub(super) fn cancellation(&self) -> CancellationToken {
        self.cancel.clone()
    }

    /// Sends one event; the request is over when it was handled: that is the backpressure.
    pub(super) fn send(&self, progress: Progress) -> RecipientRequest<GenerationEvent> {
        self.sink.send(self.event(progress))
    }

    /// The same with when the oldest chunk in it was read.
    pub(super) fn send_read(&self, progress: Progress, read: Option<Instant>) -> RecipientRequest<GenerationEvent> {
        let mut event = self.event(progress);
        event.read = read;
        self.sink.send(event)
    }

    /// Sends one event and waits until it was handled.
    pub(super) async fn emit(&self, progress: Progress) -> Result<(), Stop> {
        match self.send(progress).await {
            Ok(()) => Ok(()),
            Err(_closed) => Err(Stop::SinkGone),
        }
    }

    /// Nobody listens any more: nobody is left to tell the end.
    pub(super) fn abandon(&mut self) {
        self.ended = true;
    }

    /// Sends the last event. Nothing follows it, so that nothing waits until it was handled.
    pub(super) fn end(&mut self, last: Progress) {
        self.ended = true;
        #[expect(
            clippy::disallowed_methods,
            reason = "a last event must never be refused; there is one for each generation"
        )]
        self.sink.do_send(self.event(last));
    }

    fn event(&self, progress: Progress) -> GenerationEvent {
        GenerationEvent::new(self.run.clone(), progress)
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if !self.ended && !self.cancel.is_cancelled() {
            let panicked = std::thread::panicking();
            tracing::error!(run.id = %self.run, panicked, "generation was lost");
            self.end(Progress::Failed(Failure::internal().into_failed(Usage::default(), 0)));
        }
    }
}
