//! What is measured of a session: how its runs get on, as its readers see it. Decides nothing.

use std::time::Instant;

use kronos_protocol::{
    error::RunErrorCode,
    event::{Event, Outcome},
    position::Seq,
};

use super::{Session, log::Stored, marks::Marks, metrics};
use crate::{
    mailbox::SAMPLE,
    metrics::is_measured,
    tally::{self, Counted, Tally},
};

/// What is kept beside the state to measure it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// When the message that is being handled was taken: one look at the clock for everything it leads to.
    pub(super) now: Option<Instant>,
    /// When the oldest chunk of the model's that it holds was read.
    pub(super) read: Option<Instant>,
    run: Option<Watched>,
    /// Runs whose end is not durable.
    ending: Vec<Ending>,
    gaps: u32,
}

/// The active run.
#[derive(Debug)]
struct Watched {
    started: Instant,
    /// Readers have seen text of it.
    shown: bool,
    /// When they saw the last one of the answer that is being written.
    last: Option<Instant>,
    /// Text that readers may not see yet: the first and the last of it, and when its oldest chunk was read.
    unseen: Option<(Seq, Seq, Option<Instant>)>,
    _active: Counted,
}

#[derive(Debug)]
struct Ending {
    seq: Seq,
    started: Option<Instant>,
    outcome: &'static str,
    code: Option<RunErrorCode>,
}

impl Watch {
    /// Notes an event that was decided; `now` says what time it is.
    fn decided(&mut self, seq: Seq, event: &Event, now: impl FnOnce() -> Instant) {
        match event {
            Event::RunStarted(_) => {
                self.run = Some(Watched {
                    started: now(),
                    shown: false,
                    last: None,
                    unseen: None,
                    _active: Counted::new(Tally::RunsActive),
                });
            }
            Event::TextMessageStart(_) => {
                if let Some(run) = &mut self.run {
                    run.last = None;
                }
            }
            Event::TextMessageContent(_) => {
                let read = self.read.take();
                if let Some(run) = &mut self.run {
                    let (first, _, oldest) = run.unseen.unwrap_or((seq, seq, None));
                    run.unseen = Some((first, seq, oldest.or(read)));
                }
            }
            Event::RunFinished(event) => {
                let outcome = match &event.outcome {
                    Some(
                        Outcome::Interrupt { .. }
                        | Outcome::Success {
                            pending_tool_call_ids: Some(_),
                        },
                    ) => "waiting",
                    Some(Outcome::Cancelled) => "cancelled",
                    Some(Outcome::Success { .. }) | None => "finished",
                };
                self.ends(seq, outcome, None);
            }
            Event::RunError(event) => {
                let code = event.code.as_deref().and_then(code_of);
                match code {
                    Some(RunErrorCode::Interrupted) => self.ends(seq, "interrupted", None),
                    code => self.ends(seq, "failed", code.or(Some(RunErrorCode::Internal))),
                }
            }
            _ => {}
        }
    }

    fn ends(&mut self, seq: Seq, outcome: &'static str, code: Option<RunErrorCode>) {
        self.ending.push(Ending {
            seq,
            started: self.run.take().map(|run| run.started),
            outcome,
            code,
        });
    }

    /// Whether something is to be noted when readers may see more.
    fn waits(&self) -> bool {
        !self.ending.is_empty() || self.run.as_ref().is_some_and(|run| run.unseen.is_some())
    }

    /// Readers may see everything up to `visible` now, and `committed` is durable.
    fn shown(&mut self, visible: Seq, committed: Seq, now: Instant, marks: &mut Marks) {
        if let Some(run) = &mut self.run
            && let Some((first, last, read)) = run.unseen
            && first <= visible
        {
            run.unseen = (last > visible).then_some((visible + 1, last, None));
            let handles = metrics::handles();
            if !std::mem::replace(&mut run.shown, true) {
                handles.first_token.record(since(run.started, now));
            }
            if let Some(before) = run.last.replace(now) {
                self.gaps = (self.gaps + 1) % SAMPLE;
                if self.gaps == 1 {
                    handles.token_gap.record(since(before, now));
                }
            }
            if let Some(read) = read {
                marks.text(first, read);
            }
        }
        self.ending.retain(|ending| {
            let waits = ending.seq > committed;
            if !waits {
                metrics::run_ended(ending.outcome, ending.code);
                if let Some(started) = ending.started {
                    metrics::handles().run_duration.record(since(started, now));
                }
            }
            waits
        });
    }

    /// The log is folded again: nothing that was not durable has happened.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn code_of(text: &str) -> Option<RunErrorCode> {
    RunErrorCode::ALL.iter().copied().find(|code| code.as_str() == text)
}

fn since(begin: Instant, now: Instant) -> f64 {
    now.saturating_duration_since(begin).as_secs_f64()
}

impl Session {
    /// The time at which the present message was taken, or now.
    pub(super) fn time(&self) -> Instant {
        self.watch.now.unwrap_or_else(|| self.deps.clock.instant())
    }

    /// Appends an event to the log.
    pub(super) fn push(&mut self, seq: Seq, stored: Stored) {
        if is_measured() {
            let merged = seq <= self.log.last();
            tally::add(Tally::Appended, 1);
            if merged {
                tally::add(Tally::Merged, 1);
            }
            let (now, clock) = (self.watch.now, &self.deps.clock);
            let time = || now.unwrap_or_else(|| clock.instant());
            if stored.run.is_some() {
                self.watch.decided(seq, &stored.event, time);
            }
        }
        self.log.push(stored);
    }

    /// Notes what readers may see now.
    pub(super) fn note_shown(&mut self) {
        let (visible, committed) = (self.log.visible(), self.log.committed());
        self.pulse.show(visible);
        if self.watch.waits() {
            let now = self.time();
            self.watch.shown(visible, committed, now, &mut self.readers.marks);
        }
    }
}
