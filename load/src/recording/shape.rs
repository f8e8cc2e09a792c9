//! What the session of a recording was: its runs, messages and questions in order, and what each run came to.

use std::collections::HashMap;

use kronos_check::{RunEnd, RunShape};
use kronos_protocol::event::TextRole;
use kronos_protocol::recording::RecordedEvent;
use kronos_protocol::{Event, Outcome, RunId, Seq};

use crate::script::Names;

/// The session so far, whoever saw it first.
#[derive(Debug, Default)]
pub(super) struct Told {
    names: Names,
    runs: HashMap<RunId, usize>,
    shapes: Vec<(RunShape, bool)>,
    head: Seq,
}

impl Told {
    /// Takes an event, from whichever device or from the log; what was told before is not told again.
    pub(super) fn event(&mut self, recorded: &RecordedEvent) {
        if recorded.seq <= self.head {
            return;
        }
        self.head = recorded.seq;
        if let Event::RunStarted(started) = &recorded.event {
            self.begin(&started.run_id);
        }
        let run = self.run_of(recorded);
        match &recorded.event {
            Event::TextMessageStart(start)
                if start.role.is_none_or(|role| role == TextRole::Assistant)
                    && !self.names.answers.contains(&start.message_id) =>
            {
                self.names.answers.push(start.message_id.clone());
            }
            Event::TextMessageContent(content) if !content.delta.is_empty() => {
                if let Some((shape, _)) = self.shape(run) {
                    shape.text = true;
                }
            }
            Event::ToolCallStart(start) => {
                if let Some((shape, _)) = self.shape(run) {
                    shape.tools.push(start.tool_call_name.clone());
                }
            }
            Event::RunFinished(finished) => {
                if let Some(Outcome::Interrupt { interrupts }) = &finished.outcome {
                    self.names
                        .interrupts
                        .extend(interrupts.iter().map(|one| one.id.clone()));
                }
                self.end(
                    run,
                    match finished.outcome {
                        None | Some(Outcome::Success { .. }) => RunEnd::Success,
                        Some(Outcome::Interrupt { .. }) => RunEnd::Asks,
                        Some(Outcome::Cancelled) => RunEnd::Cancelled,
                    },
                );
            }
            Event::RunError(_) => self.end(run, RunEnd::Failed),
            _ => {}
        }
    }

    fn begin(&mut self, id: &RunId) {
        if self.runs.contains_key(id) {
            return;
        }
        self.runs.insert(id.clone(), self.names.runs.len());
        self.names.runs.push(id.clone());
        let shape = RunShape {
            end: RunEnd::Failed,
            text: false,
            tools: Vec::new(),
        };
        self.shapes.push((shape, false));
    }

    fn shape(&mut self, run: Option<usize>) -> Option<&mut (RunShape, bool)> {
        self.shapes.get_mut(run?)
    }

    fn end(&mut self, run: Option<usize>, end: RunEnd) {
        if let Some((shape, ended)) = self.shape(run) {
            (shape.end, *ended) = (end, true);
        }
    }

    /// Returns which run an event belongs to, counted from 0.
    pub(super) fn run_of(&self, recorded: &RecordedEvent) -> Option<usize> {
        let id = match &recorded.event {
            Event::RunStarted(started) => Some(&started.run_id),
            Event::RunFinished(finished) => Some(&finished.run_id),
            _ => recorded.run.as_ref(),
        };
        self.runs.get(id?).copied()
    }

    /// Returns how many questions were asked so far.
    pub(super) fn asked(&self) -> usize {
        self.names.interrupts.len()
    }

    /// Returns the names, and the shapes of the runs up to the first one whose end is not in the recording.
    pub(super) fn finish(self) -> (Names, Vec<RunShape>) {
        let known = self.shapes.into_iter().take_while(|(_, ended)| *ended);
        (self.names, known.map(|(shape, _)| shape).collect())
    }
}
