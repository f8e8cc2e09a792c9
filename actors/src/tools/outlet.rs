//! Where the answer goes, and the promise that there is exactly one.

use std::time::Instant;

use actix::Recipient;
use kronos_protocol::ids::RunId;
use tokio_util::sync::CancellationToken;

use super::{Offer, Outcome, ToolAnswer, ToolEvent, metrics};
use crate::{
    clock::Clock,
    mailbox::{Mailbox, Queued},
};

/// What was asked, so that it can be answered in any case.
pub(super) enum Asked {
    /// The tools of a run.
    Offer,
    /// A call.
    Call {
        /// Its id.
        call: String,
        /// The toolkit of its tool.
        toolkit: String,
        /// It changes nothing.
        read_only: bool,
    },
    /// A link.
    Link {
        /// The toolkit.
        toolkit: String,
    },
}

/// Where the answer goes. It travels with the work: whoever drops it without an answer (a panic, a core that goes away) has told the
/// session that the answer was lost, unless nobody waits for it.
pub(super) struct Outlet {
    run: RunId,
    asked: Asked,
    sink: Recipient<ToolEvent>,
    cancel: CancellationToken,
    clock: Clock,
    since: Instant,
    answered: bool,
}

impl Outlet {
    /// The outlet of one request.
    pub(super) fn new(
        run: RunId,
        asked: Asked,
        sink: Recipient<ToolEvent>,
        cancel: CancellationToken,
        clock: Clock,
    ) -> Self {
        let since = clock.instant();
        Self {
            run,
            asked,
            sink,
            cancel,
            clock,
            since,
            answered: false,
        }
    }

    /// Answers [`Asked::Offer`].
    pub(super) fn offer(mut self, offer: Offer) {
        metrics::offered(offer.missing.is_empty());
        self.send(ToolAnswer::Offered(offer));
    }

    /// Answers [`Asked::Call`].
    pub(super) fn finish(mut self, outcome: Outcome) {
        let answer = self.finished(outcome);
        self.send(answer);
    }

    /// Answers [`Asked::Link`].
    pub(super) fn link(mut self, link: Result<super::Link, String>) {
        let toolkit = match &self.asked {
            Asked::Link { toolkit } | Asked::Call { toolkit, .. } => toolkit.clone(),
            Asked::Offer => String::new(),
        };
        self.send(ToolAnswer::Linked { toolkit, link });
    }

    fn finished(&self, outcome: Outcome) -> ToolAnswer {
        let call = match &self.asked {
            Asked::Call { call, toolkit, .. } => {
                metrics::ended(
                    toolkit,
                    &outcome,
                    self.clock.instant().saturating_duration_since(self.since),
                );
                call.clone()
            }
            Asked::Offer | Asked::Link { .. } => String::new(),
        };
        ToolAnswer::Finished { call, outcome }
    }

    fn lost(&self) -> ToolAnswer {
        match &self.asked {
            Asked::Offer => {
                metrics::offered(false);
                ToolAnswer::Offered(Offer {
                    missing: vec!["The tools could not be had: the server failed.".to_owned()],
                    ..Offer::default()
                })
            }
            Asked::Call { read_only: true, .. } => {
                self.finished(Outcome::Failed("the server failed while the tool ran".to_owned()))
            }
            Asked::Call { .. } => self.finished(Outcome::Unknown("the server failed while the tool ran".to_owned())),
            Asked::Link { toolkit } => ToolAnswer::Linked {
                toolkit: toolkit.clone(),
                link: Err("the server failed while it asked for a link".to_owned()),
            },
        }
    }

    fn send(&mut self, answer: ToolAnswer) {
        self.answered = true;
        if self.cancel.is_cancelled() {
            return;
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "an answer must never be refused; there is one for each request"
        )]
        self.sink.do_send(ToolEvent {
            run: self.run.clone(),
            answer,
            queued: Queued::new(Mailbox::Session),
        });
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        if self.answered {
            return;
        }
        if self.cancel.is_cancelled() {
            if let Asked::Call { toolkit, .. } = &self.asked {
                metrics::abandoned(toolkit);
            }
            return;
        }
        let panicked = std::thread::panicking();
        tracing::error!(run.id = %self.run, panicked, "the work of a tool was lost");
        let answer = self.lost();
        self.send(answer);
    }
}
