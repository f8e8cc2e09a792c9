//! The account of a session: its log as the devices saw it together, in digests.

mod snapshot;

use std::collections::HashMap;

use kronos_protocol::event::{Outcome, RunStarted};
use kronos_protocol::{EpochId, Event, LogEntry, Message, MessageId, RunId, Seq};
use serde_json::Value;

use super::breach::Fault;
use super::digest::{Delta, Digest, Streams, delta};
use super::told::{Conversation, text_of};
use crate::shape::{Run, RunEnd};

/// What stands for the log up to a position.
#[derive(Debug, Clone, Copy)]
struct Mark {
    seq: Seq,
    digest: u64,
    /// It is of a delta: of no more use when what it is a piece of has ended.
    inner: bool,
}

/// A message of the user, by its id.
#[derive(Debug, Clone, Default)]
struct Sent {
    /// The position that its ack named.
    acked: Option<Seq>,
    /// Whether an ack said that it was new.
    fresh: bool,
    /// Whether it is in the log.
    logged: bool,
    /// How often it was queued.
    queued: u32,
    /// The last run that took it up, and how many branches there had been then.
    applied: Option<(RunId, usize)>,
}

/// The account. Positions are of its epoch.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) epoch: Option<EpochId>,
    /// The last position that any device has seen.
    pub(super) head: Seq,
    /// Whether every position up to the head was seen by some device.
    pub(super) whole: bool,
    marks: Vec<Mark>,
    streams: Streams,
    conversation: Conversation,
    /// What an earlier epoch showed, until it is compared.
    before: Option<Conversation>,
    branchings: usize,
    pub(super) runs: Vec<Run>,
    failed: Vec<RunId>,
    sends: HashMap<MessageId, Sent>,
}

impl Account {
    /// A device is attached: in a new epoch the account starts over, and nothing may be gone.
    pub(super) fn attached(&mut self, epoch: &EpochId) {
        if self.epoch.as_ref() == Some(epoch) {
            return;
        }
        if self.epoch.is_some() {
            self.before = Some(std::mem::take(&mut self.conversation));
        }
        self.epoch = Some(epoch.clone());
        self.head = 0;
        self.whole = true;
        self.marks.clear();
        self.streams.clear();
        for sent in self.sends.values_mut() {
            (sent.queued, sent.applied) = (0, None);
        }
    }

    /// A device has everything that there was: the history before is compared with this one.
    pub(super) fn caught_up(&mut self) -> Vec<Fault> {
        let before = self.before.take();
        before.map_or_else(Vec::new, |before| self.conversation.compare_with(&before))
    }

    /// Takes note of an ack.
    pub(super) fn acked(&mut self, id: MessageId, seq: Seq, duplicate: bool) -> Option<Fault> {
        let sent = self.sends.entry(id.clone()).or_default();
        let first = sent.acked.replace(seq);
        let elsewhere = first.is_some_and(|first| first != seq);
        let twice = sent.fresh && (!duplicate || elsewhere);
        sent.fresh |= !duplicate;
        twice.then(|| {
            let first = first.unwrap_or_default();
            let what = format!("message {id} was acked as seq {first}, and then as seq {seq}, duplicate {duplicate}");
            Fault::new("applied_twice", Some(seq), what)
        })
    }

    /// Returns what was acked and is nowhere in the log.
    pub(super) fn never_applied(&self, whole: bool) -> Vec<Fault> {
        if !(whole || self.whole) {
            return Vec::new();
        }
        let lost = self.sends.iter().filter(|(_, sent)| !sent.logged);
        let mut lost: Vec<_> = lost
            .filter_map(|(id, sent)| Some((sent.acked.filter(|seq| *seq <= self.head)?, id)))
            .collect();
        lost.sort();
        let fault = |(seq, id): (Seq, &MessageId)| {
            let what = format!(
                "message {id} was acked as seq {seq}, and is nowhere in the log up to {}",
                self.head
            );
            Fault::new("never_applied", Some(seq), what)
        };
        lost.into_iter().map(fault).collect()
    }

    /// Takes an entry that a device sees. `streams`: what is open there; `history`: whether it was there before the device.
    pub(super) fn entry(&mut self, entry: &LogEntry, streams: &mut Streams, history: bool) -> Result<(), Fault> {
        let piece = delta(&entry.event);
        let before = piece.as_ref().and_then(|piece| streams.of(piece).copied());
        let text = match &entry.event {
            Event::TextMessageEnd(event) => streams.texts().find(|(id, _)| *id == event.message_id.as_str()),
            _ => None,
        };
        let text = text.map(|(_, text)| text);
        let digest = streams.take(entry);
        if entry.seq <= self.head {
            self.note(entry);
            if let (Event::TextMessageEnd(event), Some(text)) = (&entry.event, text)
                && self.conversation.is_another(event.message_id.as_str(), text)
            {
                return Err(differs(entry, history));
            }
            return self.again(entry, digest, history);
        }
        let first = entry.first_seq();
        let known = if first > self.head + 1 {
            // Nobody has seen what is between.
            self.unseen();
            self.streams.clear();
            self.streams.take(entry);
            0
        } else {
            match self.go_on(entry, piece.zip(before)) {
                Some(known) => known,
                None => {
                    self.head = entry.seq;
                    return Err(differs(entry, history));
                }
            }
        };
        self.mark(entry, digest);
        self.head = entry.seq;
        self.apply(entry, known)
    }

    /// Follows what is open; returns how many bytes of a delta are there already (the most there are: not known), `None` when they are
    /// others. `piece`: the delta, and
    /// what the device had of what it is a piece of.
    fn go_on(&mut self, entry: &LogEntry, piece: Option<(Delta<'_>, Digest)>) -> Option<usize> {
        let Some((piece, before)) = piece else {
            if entry.first_seq() > self.head || delta(&entry.event).is_none() {
                self.streams.take(entry);
            } else {
                // Merged for a device that came in the middle: how much of it is new cannot be said.
                self.streams.clear();
                return Some(usize::MAX);
            }
            return Some(0);
        };
        let Some(there) = self.streams.of(&piece) else {
            return Some(if entry.first_seq() > self.head { 0 } else { usize::MAX });
        };
        // The device may be behind the others within what was merged for it.
        let known = there.len.checked_sub(before.len).map_or(usize::MAX, size);
        let same = piece.text.as_bytes().get(..known);
        let fits = same.is_some_and(|same| before.and(same) == *there);
        *there = before.and(piece.text.as_bytes());
        fits.then_some(known)
    }

    fn mark(&mut self, entry: &LogEntry, digest: Option<u64>) {
        let inner = delta(&entry.event).is_some();
        let ends = matches!(
            entry.event,
            Event::TextMessageEnd(_) | Event::ToolCallEnd(_) | Event::ReasoningMessageEnd(_)
        );
        while ends && self.marks.last().is_some_and(|mark| mark.inner) {
            self.marks.pop();
        }
        if let Some(digest) = digest {
            let seq = entry.seq;
            self.marks.push(Mark { seq, digest, inner });
        }
    }

    /// An entry that another device has seen before.
    fn again(&mut self, entry: &LogEntry, digest: Option<u64>, history: bool) -> Result<(), Fault> {
        let Some(digest) = digest else { return Ok(()) };
        match self.marks.binary_search_by_key(&entry.seq, |mark| mark.seq) {
            Ok(at) if self.marks.get(at).is_some_and(|mark| mark.digest == digest) => Ok(()),
            Ok(_) => Err(differs(entry, history)),
            Err(at) => {
                if delta(&entry.event).is_none() {
                    let (seq, inner) = (entry.seq, false);
                    self.marks.insert(at, Mark { seq, digest, inner });
                }
                Ok(())
            }
        }
    }

    /// Takes note of which messages of the user the log has.
    fn note(&mut self, entry: &LogEntry) {
        match &entry.event {
            Event::RunStarted(event) => {
                let messages = event.input.iter().flat_map(|input| &input.messages);
                messages.for_each(|message| self.logged(message.id()));
            }
            Event::TextMessageStart(event) if event.role.is_some() => self.logged(&event.message_id),
            Event::Custom(event) if event.name == "kronos.message_accepted" => {
                if let Some(id) = message_id(&event.value) {
                    self.logged(&id);
                }
            }
            _ => {}
        }
    }

    fn logged(&mut self, id: &MessageId) {
        match self.sends.get_mut(id) {
            Some(sent) => sent.logged = true,
            None => {
                let logged = true;
                let sent = Sent {
                    logged,
                    ..Sent::default()
                };
                self.sends.insert(id.clone(), sent);
            }
        }
    }

    /// Takes the next entry of the log; of a delta the first `known` bytes are there already.
    fn apply(&mut self, entry: &LogEntry, known: usize) -> Result<(), Fault> {
        self.note(entry);
        let seq = entry.seq;
        match &entry.event {
            Event::RunStarted(event) => return self.run_started(event, seq),
            Event::RunFinished(event) => {
                let end = match event.outcome {
                    None | Some(Outcome::Success { .. }) => RunEnd::Success,
                    Some(Outcome::Interrupt { .. }) => RunEnd::Asks,
                    Some(Outcome::Cancelled) => RunEnd::Cancelled,
                };
                self.run_ended(&event.run_id, end);
            }
            Event::RunError(_) => self.run_failed(entry.run.as_ref()),
            Event::TextMessageStart(event) => {
                self.conversation.show(&event.message_id, Digest::EMPTY, seq, false);
                if event.role.is_some_and(|role| role.as_str() == "user") {
                    return self.applied(&event.message_id, entry.run.as_ref(), seq);
                }
            }
            Event::TextMessageContent(event) => {
                let more = event.delta.get(known..);
                self.conversation.append(event.message_id.as_str(), more, seq);
                if let Some(run) = self.run(entry.run.as_ref()) {
                    run.text = true;
                }
            }
            Event::TextMessageEnd(event) => self.conversation.end(event.message_id.as_str()),
            Event::ToolCallStart(event) => {
                if let Some(run) = self.run(entry.run.as_ref()) {
                    run.tools.push(event.tool_call_name.clone());
                }
            }
            Event::ToolCallResult(event) => {
                let text = Digest::of(&event.content.text());
                self.conversation.show(&event.message_id, text, seq, true);
            }
            Event::Custom(event) => return self.custom(&event.name, &event.value, seq),
            _ => {}
        }
        Ok(())
    }

    fn custom(&mut self, name: &str, value: &Value, seq: Seq) -> Result<(), Fault> {
        match name {
            "kronos.branched" => {
                self.branchings += 1;
                self.conversation.branch(value);
            }
            "kronos.branch_selected" => {
                self.branchings += 1;
                self.conversation.choose(value);
            }
            "kronos.message_accepted" => {
                if let Some(id) = message_id(value) {
                    let sent = self.sends.entry(id.clone()).or_default();
                    sent.queued += 1;
                    if sent.queued > 1 || sent.applied.is_some() {
                        let what = format!("message {id} was queued, and had been taken before");
                        return Err(Fault::new("applied_twice", Some(seq), what));
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn run(&mut self, id: Option<&RunId>) -> Option<&mut Run> {
        self.runs.iter_mut().rev().find(|run| Some(&run.id) == id)
    }

    fn run_started(&mut self, event: &RunStarted, seq: Seq) -> Result<(), Fault> {
        self.begin_run(&event.run_id, true);
        let mut result = Ok(());
        for message in event.input.iter().flat_map(|input| &input.messages) {
            if let Some(text) = text_of(message) {
                self.conversation.show(message.id(), Digest::of(&text), seq, true);
            }
            if matches!(message, Message::User(_)) {
                result = result.and(self.applied(message.id(), Some(&event.run_id), seq));
            }
        }
        result
    }

    fn begin_run(&mut self, id: &RunId, whole: bool) {
        if self.run(Some(id)).is_none() {
            self.runs.push(Run {
                id: id.clone(),
                end: None,
                text: false,
                tools: Vec::new(),
                whole,
            });
        }
    }

    fn run_ended(&mut self, id: &RunId, end: RunEnd) {
        self.conversation.end_all();
        if let Some(run) = self.run(Some(id)) {
            run.end = Some(end);
        }
    }

    fn run_failed(&mut self, id: Option<&RunId>) {
        let Some(id) = id else { return };
        self.run_ended(id, RunEnd::Failed);
        self.failed.push(id.clone());
    }

    /// A run takes up a message: once, or again on another branch, or after a run that failed.
    fn applied(&mut self, id: &MessageId, run: Option<&RunId>, seq: Seq) -> Result<(), Fault> {
        let Some(run) = run else { return Ok(()) };
        let branchings = self.branchings;
        let sent = self.sends.entry(id.clone()).or_default();
        let before = sent.applied.replace((run.clone(), branchings));
        match before {
            Some((before, then)) if then == branchings && !self.failed.contains(&before) && before != *run => {
                let what = format!("message {id} was taken up by run {run}, and by run {before} before");
                Err(Fault::new("applied_twice", Some(seq), what))
            }
            _ => Ok(()),
        }
    }

    /// Positions were passed that nobody has seen.
    fn unseen(&mut self) {
        self.whole = false;
        for run in self.runs.iter_mut().filter(|run| run.end.is_none()) {
            run.whole = false;
        }
        // How the runs ended that took up messages is not known.
        for sent in self.sends.values_mut() {
            sent.applied = None;
        }
        self.conversation.unseen();
    }

    /// Whether the conversation has ever gone another way.
    pub(super) fn has_branches(&self) -> bool {
        self.conversation.has_branches()
    }
}

fn size(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

fn message_id(value: &Value) -> Option<MessageId> {
    value.get("messageId").and_then(Value::as_str)?.parse().ok()
}

fn differs(entry: &LogEntry, history: bool) -> Fault {
    let kind = entry.event.kind();
    let seq = Some(entry.seq);
    if history {
        let what = format!(
            "{kind} was shown at seq {}, and the history now has something else there",
            entry.seq
        );
        Fault::new("unsaid", seq, what)
    } else {
        let what = format!("{kind} at seq {} is not what another device was shown there", entry.seq);
        Fault::new("diverged", seq, what)
    }
}
