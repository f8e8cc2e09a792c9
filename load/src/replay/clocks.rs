//! The stopwatches of one device: what began, when it was meant to, and what will stop it.
//!
//! What the load tester itself is in the way of is not measured: deltas that a device reads slowly, or that it catches up on, and
//! whatever a planned cut interrupts.

use std::time::{Duration, Instant};

use kronos_protocol::client::Command;
use kronos_protocol::{Event, LogEntry, MessageId, RunId};

use crate::meter::{Latency, Meter};

/// A stamp of the simulator is not older than this; other digits in texts are no stamps.
const OLDEST_STAMP: u64 = 600_000_000;
/// Digits of microseconds since 1970, until the year 2286.
const STAMP_DIGITS: usize = 16;

/// When something began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    /// When it was meant to.
    pub(crate) intended: Instant,
    /// When it did.
    pub(crate) began: Instant,
}

/// The moment of a frame, on both clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// Monotonic.
    pub(crate) at: Instant,
    /// Microseconds since 1970.
    pub(crate) micros: u64,
}

/// The stopwatches.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    /// Messages whose run has not begun.
    sends: Vec<(MessageId, Start)>,
    /// The run whose first delta is awaited.
    answer: Option<(RunId, Start)>,
    /// When the last run ended.
    ended: Option<Instant>,
    /// The last delta of the answer that is being written.
    delta: Option<Instant>,
    /// A cancel, with the run that it stops.
    cancel: Option<(RunId, Start)>,
    /// An answer to questions.
    approval: Option<Start>,
}

impl Clocks {
    /// Takes note of a command that is sent for the first time; `active` is the run that a cancel stops.
    pub(crate) fn said(&mut self, command: &Command, start: Start, active: Option<&RunId>) {
        match command {
            Command::Send(send) => self.sends.push((send.id.clone(), start)),
            Command::Cancel(cancel) => {
                let run = cancel.run.as_ref().or(active);
                self.cancel = run.map(|run| (run.clone(), start));
            }
            Command::Resume(_) => self.approval = Some(start),
            _ => {}
        }
    }

    /// Takes note of a command that came to nothing.
    pub(crate) fn refused(&mut self, command: &Command) {
        match command {
            Command::Send(send) => self.sends.retain(|(id, _)| id != &send.id),
            Command::Cancel(_) => self.cancel = None,
            Command::Resume(_) => self.approval = None,
            _ => {}
        }
    }

    /// Stops everything: the load tester cut the connection itself.
    pub(crate) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Takes note that the connection is gone: gaps do not reach over it.
    pub(crate) fn interrupted(&mut self) {
        self.delta = None;
    }

    /// Takes an entry. `live` is false for what is caught up on, `fast` for a device that reads as fast as it can.
    pub(crate) fn entry(&mut self, entry: &LogEntry, now: Now, live: bool, fast: bool, meter: &Meter) {
        if let Some(start) = self.approval.take() {
            meter.latency(Latency::Approval, start.intended, start.began, now.at);
        }
        match &entry.event {
            Event::TextMessageContent(event) => {
                if let Some((_, start)) = self.answer.take_if(|(run, _)| entry.run.as_ref() == Some(run))
                    && live
                    && fast
                {
                    meter.latency(Latency::FirstToken, start.intended, start.began, now.at);
                }
                if !live || !fast {
                    return;
                }
                if let Some(before) = self.delta.replace(now.at) {
                    meter.latency(Latency::TokenGap, before, before, now.at);
                }
                for age in stamps(&event.delta, now.micros) {
                    let age = Duration::from_micros(age);
                    meter.span(Latency::Delivery, age, age);
                }
            }
            Event::TextMessageStart(_) | Event::TextMessageEnd(_) => self.delta = None,
            Event::RunStarted(event) => {
                let messages = event.input.iter().flat_map(|input| &input.messages);
                let mut start = None;
                for message in messages {
                    if let Some(place) = self.sends.iter().position(|(id, _)| id == message.id()) {
                        start = Some(self.sends.remove(place).1);
                    }
                }
                let after = |at: Instant| self.ended.map_or(at, |ended| ended.max(at));
                self.answer = start.map(|start| {
                    let start = Start {
                        intended: after(start.intended),
                        began: after(start.began),
                    };
                    (event.run_id.clone(), start)
                });
            }
            Event::RunFinished(_) | Event::RunError(_) => {
                (self.ended, self.answer, self.delta) = (Some(now.at), None, None);
                let stopped = self.cancel.take_if(|(run, _)| entry.run.as_ref() == Some(run));
                if let Some((_, start)) = stopped {
                    meter.latency(Latency::CancelToSilence, start.intended, start.began, now.at);
                }
            }
            _ => {}
        }
    }
}

/// Returns the ages in microseconds of the stamps in a text; none when it is not made of stamps.
fn stamps(text: &str, now: u64) -> impl Iterator<Item = u64> {
    let stamp = move |word: &str| {
        let stamp: u64 = (word.len() == STAMP_DIGITS).then(|| word.parse().ok())??;
        // The clock may have been set back a little since.
        let age = now.saturating_sub(stamp);
        (age < OLDEST_STAMP && stamp < now.saturating_add(OLDEST_STAMP)).then_some(age)
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b' ');
    let text = if digits { text } else { "" };
    text.split(' ').filter_map(stamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stamps_are_taken_for_stamps() {
        let now = 1_790_000_000_000_000;
        let ages = |text| stamps(text, now).collect::<Vec<_>>();
        assert_eq!(ages("1789999999999000 "), [1000]);
        assert_eq!(ages("1789999999999000 1789999999999999 "), [1000, 1]);
        for text in ["1780000000000000 ", "12 of them", "12 34 ", ""] {
            assert!(ages(text).is_empty(), "{text}");
        }
    }
}
