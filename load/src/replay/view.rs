//! What a user knows of the session, on whichever device it came first: runs, answers, questions, in the order in which it made them.

use std::time::Instant;

use kronos_protocol::event::{RunFinished, RunStarted, TextRole};
use kronos_protocol::{EpochId, Event, InterruptId, LogEntry, MessageId, Outcome, RunId, Seq, SessionId};

use crate::script::RunEnd;

/// When something was seen, and where it is in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) seq: Seq,
    pub(crate) at: Instant,
}

/// A run of the session.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    pub(crate) id: RunId,
    pub(crate) begun: Moment,
    pub(crate) ended: Option<Moment>,
    pub(crate) end: Option<RunEnd>,
    /// Why it failed.
    pub(crate) code: Option<String>,
    /// Deltas of its texts.
    pub(crate) deltas: u64,
    /// Somebody stopped it, or sent a message that does.
    pub(crate) stopped: bool,
}

/// The session.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) session: Option<SessionId>,
    epoch: Option<EpochId>,
    /// The last position that any device has seen.
    pub(crate) seq: Seq,
    pub(crate) runs: Vec<Run>,
    /// Messages of the assistant.
    pub(crate) answers: Vec<MessageId>,
    /// Questions that were ever asked.
    pub(crate) interrupts: Vec<InterruptId>,
    /// When each was.
    pub(crate) asked: Vec<Moment>,
    /// Those that nobody has answered.
    pub(crate) open: Vec<InterruptId>,
    /// Runs that replies have announced and no event has begun.
    expected: Vec<RunId>,
    /// A part of the history came as a snapshot: what was in between is not known.
    pub(crate) patchy: bool,
}

/// What an entry changed that somebody may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing.
    None,
    /// A run has begun or a question was asked.
    Some,
    /// The run with this index has ended.
    Ended(usize),
}

impl View {
    /// Takes note of the session that was attached.
    pub(crate) fn attached(&mut self, session: &SessionId, epoch: &EpochId) {
        self.session.get_or_insert_with(|| session.clone());
        if self.epoch.as_ref() != Some(epoch) {
            // Another history: positions count anew.
            self.epoch = Some(epoch.clone());
            self.seq = 0;
        }
    }

    /// Returns which run has this id.
    pub(crate) fn index(&self, run: &RunId) -> Option<usize> {
        self.runs.iter().rposition(|known| &known.id == run)
    }

    /// Returns the run that is active.
    pub(crate) fn active(&self) -> Option<&Run> {
        self.runs.last().filter(|run| run.ended.is_none())
    }

    /// Takes note that the active run will be stopped.
    pub(crate) fn stopping(&mut self) {
        if let Some(run) = self.runs.last_mut().filter(|run| run.ended.is_none()) {
            run.stopped = true;
        }
    }

    /// Takes note of a run that a reply has announced.
    pub(crate) fn expect(&mut self, run: &RunId) {
        if self.index(run).is_none() && !self.expected.contains(run) {
            self.expected.push(run.clone());
        }
    }

    /// Takes an entry that some device received; those that another one received before change nothing.
    pub(crate) fn take(&mut self, entry: &LogEntry, at: Instant) -> News {
        if entry.seq <= self.seq {
            return News::None;
        }
        let new = entry.seq - self.seq.max(entry.first_seq().saturating_sub(1));
        self.seq = entry.seq;
        let moment = Moment { seq: entry.seq, at };
        match &entry.event {
            Event::TextMessageContent(_) => {
                let run = entry.run.as_ref().and_then(|run| self.index(run));
                if let Some(run) = run.and_then(|run| self.runs.get_mut(run)) {
                    run.deltas += new;
                }
                News::None
            }
            Event::TextMessageStart(event) => {
                if event.role.is_none_or(|role| role == TextRole::Assistant)
                    && !self.answers.contains(&event.message_id)
                {
                    self.answers.push(event.message_id.clone());
                }
                News::None
            }
            Event::RunStarted(event) => self.begun(event, moment),
            Event::RunFinished(event) => self.finished(event, moment),
            Event::RunError(event) => {
                let index = entry.run.as_ref().map(|run| self.known(run, moment));
                let stopped = index
                    .and_then(|index| self.runs.get(index))
                    .is_some_and(|run| run.stopped);
                let end = if stopped { RunEnd::Cancelled } else { RunEnd::Failed };
                self.ended(index, end, moment, event.code.clone())
            }
            _ => News::None,
        }
    }

    fn begun(&mut self, event: &RunStarted, begun: Moment) -> News {
        self.expected.retain(|run| run != &event.run_id);
        let answers = event.input.iter().filter_map(|input| input.resume.as_ref()).flatten();
        for answer in answers {
            self.open.retain(|open| open != &answer.interrupt_id);
        }
        if self.index(&event.run_id).is_some() {
            return News::None;
        }
        self.known(&event.run_id, begun);
        News::Some
    }

    /// Returns which run it is; one that nobody saw begin, since a snapshot stood for that, begins now.
    fn known(&mut self, run: &RunId, begun: Moment) -> usize {
        if let Some(index) = self.index(run) {
            return index;
        }
        self.expected.retain(|expected| expected != run);
        self.runs.push(Run {
            id: run.clone(),
            begun,
            ended: None,
            end: None,
            code: None,
            deltas: 0,
            stopped: false,
        });
        self.runs.len() - 1
    }

    fn finished(&mut self, event: &RunFinished, moment: Moment) -> News {
        let index = Some(self.known(&event.run_id, moment));
        let end = match &event.outcome {
            None | Some(Outcome::Success { .. }) => RunEnd::Success,
            Some(Outcome::Interrupt { interrupts }) => {
                for interrupt in interrupts {
                    if !self.interrupts.contains(&interrupt.id) {
                        self.interrupts.push(interrupt.id.clone());
                        self.asked.push(moment);
                    }
                    if !self.open.contains(&interrupt.id) {
                        self.open.push(interrupt.id.clone());
                    }
                }
                RunEnd::Asks
            }
            Some(Outcome::Cancelled) => RunEnd::Cancelled,
        };
        self.ended(index, end, moment, None)
    }

    fn ended(&mut self, index: Option<usize>, end: RunEnd, moment: Moment, code: Option<String>) -> News {
        let Some(run) = index.and_then(|index| self.runs.get_mut(index)) else {
            return News::None;
        };
        if run.ended.is_some() {
            return News::None;
        }
        (run.ended, run.end, run.code) = (Some(moment), Some(end), code);
        index.map_or(News::None, News::Ended)
    }

    /// Takes note that a snapshot has told everything and nothing runs: whatever was to begin has ended unseen.
    pub(crate) fn settle(&mut self, at: Instant) {
        self.patchy = true;
        let moment = Moment { seq: self.seq, at };
        for run in std::mem::take(&mut self.expected) {
            self.known(&run, moment);
        }
        for run in self.runs.iter_mut().filter(|run| run.ended.is_none()) {
            run.ended = Some(moment);
        }
    }
}
