//! What is measured and recorded of a session: how its runs get on, as its readers see it. Decides nothing.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use kronos_protocol::{
    error::RunErrorCode,
    event::{Event, Outcome, TokenUsage},
    position::Seq,
};

use super::{Session, log::Stored, marks::Marks, metrics};
use crate::{
    flight::{Begun, Moment, Phase, Timeline},
    mailbox::SAMPLE,
    tally::{self, Counted, Tally},
};

/// What is kept beside the state to measure it.
#[derive(Debug)]
pub(super) struct Watch {
    /// Anything is measured or recorded.
    on: bool,
    /// When the message that is being handled was taken: one look at the clock for everything it leads to.
    pub(super) now: Option<Instant>,
    /// When the oldest chunk of the model's that it holds was read.
    pub(super) read: Option<Instant>,
    /// How long a command that is being handled waited in the mailbox, if that was measured.
    pub(super) waited: Option<Duration>,
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
    timeline: Option<Arc<Timeline>>,
    /// What it waits for, and since when.
    doing: Option<(Phase, Instant)>,
    _active: Counted,
}

impl Watched {
    /// From now on it waits for this, or for nothing that the session knows of.
    fn switch(&mut self, doing: Option<Phase>, now: impl FnOnce() -> Instant) {
        if self.doing.map(|(phase, _)| phase) == doing {
            return;
        }
        let now = now();
        if let (Some(timeline), Some((phase, since))) = (&self.timeline, self.doing) {
            timeline.add(phase, now.saturating_duration_since(since));
        }
        self.doing = doing.map(|phase| (phase, now));
    }
}

#[derive(Debug)]
struct Ending {
    seq: Seq,
    started: Option<Instant>,
    outcome: &'static str,
    code: Option<RunErrorCode>,
    timeline: Option<Arc<Timeline>>,
}

impl Watch {
    /// Nothing has happened yet.
    pub(super) fn new(on: bool) -> Self {
        Self {
            on,
            now: None,
            read: None,
            waited: None,
            run: None,
            ending: Vec::new(),
            gaps: 0,
        }
    }

    /// Notes an event of a run that was decided at `now`, except the first.
    fn decided(&mut self, seq: Seq, event: &Event, now: impl FnOnce() -> Instant) {
        match event {
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
                    if let Some(timeline) = &run.timeline {
                        timeline.delta();
                    }
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
                self.ends(seq, (outcome, None), event.usage.as_ref(), now());
            }
            Event::RunError(event) => {
                let code = event.code.as_deref().and_then(code_of);
                let end = match code {
                    Some(RunErrorCode::Interrupted) => ("interrupted", None),
                    code => ("failed", code.or(Some(RunErrorCode::Internal))),
                };
                self.ends(seq, end, event.usage.as_ref(), now());
            }
            _ => {}
        }
    }

    fn ends(
        &mut self,
        seq: Seq,
        (outcome, code): (&'static str, Option<RunErrorCode>),
        usage: Option<&Vec<TokenUsage>>,
        now: Instant,
    ) {
        let run = self.run.take().map(|mut run| {
            run.switch(None, || now);
            if let Some(timeline) = &run.timeline {
                timeline.ended((outcome, code.map(RunErrorCode::as_str)), usage, now);
            }
            run
        });
        self.ending.push(Ending {
            seq,
            started: run.as_ref().map(|run| run.started),
            outcome,
            code,
            timeline: run.and_then(|run| run.timeline),
        });
    }

    /// Whether something is to be noted when readers may see more.
    fn waits(&self) -> bool {
        !self.ending.is_empty() || self.run.as_ref().is_some_and(|run| run.unseen.is_some())
    }

    /// Readers may see everything up to `visible` now, and `committed` is durable.
    fn shown(&mut self, visible: Seq, committed: Seq, now: Instant, marks: &mut Marks) {
        if let Some(run) = &mut self.run
            && let Some((from, last, read)) = run.unseen
            && from <= visible
        {
            run.unseen = (last > visible).then_some((visible + 1, last, None));
            let handles = metrics::handles();
            let first = !std::mem::replace(&mut run.shown, true);
            if first {
                handles.first_token.record(since(run.started, now));
            }
            let gap = run
                .last
                .replace(now)
                .map(|before| now.saturating_duration_since(before));
            if let Some(timeline) = &run.timeline {
                timeline.shown(now, gap);
            }
            if let Some(gap) = gap {
                self.gaps = (self.gaps + 1) % SAMPLE;
                if self.gaps == 1 {
                    handles.token_gap.record(gap.as_secs_f64());
                }
            }
            marks.text(from, (read, now), first, run.timeline.as_ref());
        }
        self.ending.retain_mut(|ending| {
            let waits = ending.seq > committed;
            if !waits {
                metrics::run_ended(ending.outcome, ending.code);
                if let Some(started) = ending.started {
                    metrics::handles().run_duration.record(since(started, now));
                }
                if let Some(timeline) = ending.timeline.take() {
                    timeline.first(Moment::EndDurable, now);
                    marks.end(ending.seq, timeline);
                }
            }
            waits
        });
    }

    /// A commit took so long.
    pub(super) fn committed(&self, took: Duration) {
        let active = self.run.iter().map(|run| &run.timeline);
        let all = active.chain(self.ending.iter().map(|ending| &ending.timeline));
        all.flatten().for_each(|timeline| timeline.add(Phase::Commit, took));
    }

    /// The timeline of the active run.
    pub(super) fn timeline(&self) -> Option<&Arc<Timeline>> {
        self.run.as_ref()?.timeline.as_ref()
    }

    /// The log is folded again: nothing that was not durable has happened.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.on);
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

    /// Appends an event, which is in the state already, to the log.
    pub(super) fn push(&mut self, seq: Seq, stored: Stored) {
        if self.watch.on {
            let merged = seq <= self.log.last();
            tally::add(Tally::Appended, 1);
            if merged {
                tally::add(Tally::Merged, 1);
            }
            match &stored.event {
                Event::RunStarted(_) => self.run_began(),
                event if stored.run.is_some() => {
                    let (now, clock) = (self.watch.now, &self.deps.clock);
                    self.watch
                        .decided(seq, event, || now.unwrap_or_else(|| clock.instant()));
                }
                _ => {}
            }
        }
        self.log.push(stored);
    }

    fn run_began(&mut self) {
        let Some(run) = &self.state.run else { return };
        let now = self.time();
        let timeline = self.deps.flight.begin(&Begun {
            run: &run.id,
            session: &self.id,
            attempt: run.record.attempt,
            at: now,
            at_ms: run.started_ms,
        });
        if let Some(timeline) = &timeline {
            if let Some(queued_ms) = run.queued_ms {
                let waited = run.started_ms.saturating_sub(queued_ms).max(0).unsigned_abs();
                timeline.add(Phase::Queue, Duration::from_millis(waited));
            }
            let at_once = run.queued_ms.is_none();
            if let Some(waited) = self.watch.waited.take().filter(|_| at_once) {
                timeline.add(Phase::Mailbox, waited);
            }
        }
        self.watch.run = Some(Watched {
            started: now,
            shown: false,
            last: None,
            unseen: None,
            timeline,
            doing: None,
            _active: Counted::new(Tally::RunsActive),
        });
    }

    /// A message of the run waited in the mailbox since it was `sent`.
    pub(super) fn note_wait(&self, sent: Option<Instant>) {
        if let (Some(timeline), Some(sent), Some(now)) = (self.watch.timeline(), sent, self.watch.now) {
            timeline.add(Phase::Mailbox, now.saturating_duration_since(sent));
        }
    }

    /// When deciding begins, if that is recorded.
    pub(super) fn begin_deciding(&self) -> Option<Instant> {
        self.watch.timeline().map(|_| self.time())
    }

    /// It was decided what follows, beginning at `begun`, and the log has it.
    pub(super) fn end_deciding(&mut self, begun: Option<Instant>) {
        let Some(begun) = begun else { return };
        let now = self.deps.clock.instant();
        if let Some(timeline) = self.watch.timeline() {
            timeline.add(Phase::Decide, now.saturating_duration_since(begun));
        }
        // Of a message that is handled for long the time goes on.
        if self.watch.now.is_some() {
            self.watch.now = Some(now);
        }
    }

    /// Notes what the active run waits for now.
    pub(super) fn note_doing(&mut self) {
        if self.watch.timeline().is_none() {
            return;
        }
        let (doing, now, clock) = (self.doing(), self.watch.now, &self.deps.clock);
        if let Some(run) = &mut self.watch.run {
            run.switch(doing, || now.unwrap_or_else(|| clock.instant()));
        }
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
