//! What one client has been sent of one session.

use std::collections::HashSet;

use kronos_protocol::server::{Attached, Sent};
use kronos_protocol::{Cursor, EpochId, Event, Events, LogEntry, Message, MessageId, RunId, Seq, SessionId, Verifier};
use serde_json::Value;

use super::{Violation, may_be_merged};
use crate::transcript::{Fold, Transcript};

/// Where an attachment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Not attached.
    Off,
    /// The history up to `head` comes, event by event or as a snapshot.
    History { head: Seq, snapshot: bool },
    /// `caught_up` has come.
    Live,
}

/// One session as one client sees it.
#[derive(Debug)]
pub struct Track {
    session: SessionId,
    epoch: EpochId,
    stage: Stage,
    /// The last position seen; `None` when any may come next.
    position: Option<Seq>,
    /// A position that must be reached before everything sent is in.
    must_reach: Seq,
    run: Option<RunId>,
    /// Runs that have begun.
    started: HashSet<RunId>,
    /// Runs that were announced and have not begun.
    expected: HashSet<RunId>,
    /// Messages accepted and in no run yet.
    waiting: HashSet<MessageId>,
    /// Messages that a run has taken up.
    taken: HashSet<MessageId>,
    /// Follows the order of events; `None` when the client came in the middle of a run.
    verifier: Option<Verifier>,
    fold: Fold,
    /// Keeps no transcript.
    lean: bool,
}

impl Track {
    pub(crate) fn new(attached: &Attached, lean: bool) -> Self {
        Self {
            session: attached.session.clone(),
            epoch: attached.epoch.clone(),
            stage: Stage::Off,
            position: None,
            must_reach: 0,
            run: None,
            started: HashSet::new(),
            expected: HashSet::new(),
            waiting: HashSet::new(),
            taken: HashSet::new(),
            verifier: None,
            fold: Fold::default(),
            lean,
        }
    }

    /// Goes on after `seq`, whatever came before; the order of the events is followed again from the next run on.
    pub(crate) fn resync(&mut self, seq: Seq) {
        self.position = Some(seq);
        self.verifier = None;
    }

    /// Whether it is attached.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.stage != Stage::Off
    }

    /// Whether it is attached and has everything that there was.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Whether no run is active and nothing waits for one.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        let nothing_waits = self.waiting.is_empty() && self.expected.is_empty();
        self.is_caught_up() && self.run.is_none() && nothing_waits && self.seen() >= self.must_reach
    }

    /// The run that is active.
    #[must_use]
    pub fn run(&self) -> Option<&RunId> {
        self.run.as_ref()
    }

    /// What the client shows.
    #[must_use]
    pub fn transcript(&self) -> &Transcript {
        &self.fold.transcript
    }

    /// Where it stands: what to come back with after a cut.
    #[must_use]
    pub fn cursor(&self) -> Option<Cursor> {
        Some(Cursor {
            epoch: self.epoch.clone(),
            seq: self.position?,
        })
    }

    fn seen(&self) -> Seq {
        self.position.unwrap_or(0)
    }

    pub(crate) fn detach(&mut self) {
        self.stage = Stage::Off;
    }

    /// Takes note of an accepted message: idle is only after its run.
    pub(crate) fn sent(&mut self, id: MessageId, reply: &Sent) {
        self.must_reach = self.must_reach.max(reply.seq);
        if reply.duplicate {
            return;
        }
        match &reply.run {
            Some(run) if !self.started.contains(run) => {
                self.expected.insert(run.clone());
            }
            None if !self.taken.contains(&id) => {
                self.waiting.insert(id);
            }
            Some(_) | None => {}
        }
    }

    pub(crate) fn unqueued(&mut self, id: &MessageId) {
        self.waiting.remove(id);
    }

    pub(crate) fn attach(&mut self, reply: &Attached, after: Option<&Cursor>, tail: bool) -> Result<(), Violation> {
        let start = match after {
            Some(after) if reply.recovered => {
                if after.epoch != reply.epoch {
                    return Err(self.broken(after.seq, "recovered, but in another epoch"));
                }
                if after.seq > reply.head {
                    return Err(self.broken(after.seq, "recovered, but after the head"));
                }
                Some(after.seq)
            }
            None if reply.recovered && !tail => Some(0),
            _ => None,
        };
        if start.is_none() || start != self.position || self.epoch != reply.epoch {
            self.forget();
        }
        if self.epoch != reply.epoch {
            self.must_reach = 0;
        }
        self.epoch = reply.epoch.clone();
        self.position = start;
        if start == Some(0) {
            self.verifier = Some(Verifier::new());
        }
        self.stage = Stage::History {
            head: reply.head,
            snapshot: !reply.recovered,
        };
        Ok(())
    }

    fn forget(&mut self) {
        self.fold = Fold::default();
        self.run = None;
        self.verifier = None;
    }

    pub(crate) fn caught_up(&mut self, seq: Seq) -> Result<(), Violation> {
        let Stage::History { head, snapshot } = self.stage else {
            return Err(self.broken(seq, "caught up a second time"));
        };
        if snapshot {
            return Err(self.broken(seq, "caught up without the snapshot that was announced"));
        }
        if seq < head {
            return Err(self.broken(seq, "caught up before the head that was announced"));
        }
        if self.position.is_some_and(|position| position != seq) {
            return Err(self.broken(seq, "caught up at another position than that of the last event"));
        }
        self.position = Some(seq);
        self.stage = Stage::Live;
        Ok(())
    }

    pub(crate) fn events(&mut self, frame: &Events) -> Result<(), Violation> {
        let seq = frame.events.first().map_or(0, |entry| entry.seq);
        if frame.epoch != self.epoch {
            let (epoch, found) = (self.epoch.as_str().to_owned(), frame.epoch.as_str().to_owned());
            return Err(Violation::Epoch {
                session: self.session.clone(),
                epoch,
                found,
                seq,
            });
        }
        if frame.events.is_empty() {
            return Err(self.broken(seq, "an events frame without events"));
        }
        match self.stage {
            Stage::History { head, snapshot: true } if frame.snapshot => {
                self.stage = Stage::History { head, snapshot: false };
                self.position = None;
                self.forget();
                self.snapshot(frame)
            }
            Stage::History { snapshot: true, .. } => Err(self.broken(seq, "events before the snapshot")),
            Stage::History { .. } | Stage::Live if frame.snapshot => self.later_snapshot(frame),
            Stage::Off | Stage::History { .. } | Stage::Live => frame.events.iter().try_for_each(|entry| {
                self.place(entry)?;
                self.apply(entry)
            }),
        }
    }

    /// A snapshot in several frames, or one for a reader that compaction has overtaken while it was live.
    fn later_snapshot(&mut self, frame: &Events) -> Result<(), Violation> {
        let starts_over = frame
            .events
            .iter()
            .any(|entry| matches!(entry.event, Event::MessagesSnapshot(_)));
        if starts_over {
            self.forget();
        }
        self.snapshot(frame)
    }

    /// Entries of a snapshot stand for what is before them: positions may be left out, but never go back.
    fn snapshot(&mut self, frame: &Events) -> Result<(), Violation> {
        for entry in &frame.events {
            let after = self.seen();
            if entry.seq < after {
                return Err(Violation::Repeated {
                    session: self.session.clone(),
                    after,
                    found: entry.seq,
                });
            }
            self.position = Some(entry.seq);
            self.apply(entry)?;
        }
        Ok(())
    }

    fn place(&mut self, entry: &LogEntry) -> Result<(), Violation> {
        let (first, seq) = (entry.first_seq(), entry.seq);
        let kind = entry.event.kind();
        if seq == 0 || first == 0 || first > seq || (first < seq && !may_be_merged(kind)) {
            return Err(Violation::Merged {
                session: self.session.clone(),
                first,
                seq,
                kind,
            });
        }
        if let Some(after) = self.position {
            let session = self.session.clone();
            if first <= after {
                return Err(Violation::Repeated {
                    session,
                    after,
                    found: first,
                });
            }
            if first > after + 1 {
                return Err(Violation::Gap {
                    session,
                    after,
                    found: first,
                });
            }
        }
        self.position = Some(seq);
        Ok(())
    }

    /// Asks AG-UI's verifier; what is in no run is never shown to an AG-UI client, and nothing to it.
    fn verify(&mut self, entry: &LogEntry) -> Result<(), Violation> {
        let Some(run) = &entry.run else { return Ok(()) };
        let broken = |reason| Violation::Order {
            session: self.session.clone(),
            seq: entry.seq,
            run: run.clone(),
            reason,
        };
        if let Event::RunStarted(event) = &entry.event {
            if &event.run_id != run {
                return Err(broken(format!("RUN_STARTED names the run {}", event.run_id)));
            }
            self.verifier.get_or_insert_default();
        }
        match &mut self.verifier {
            Some(verifier) => verifier.accept(&entry.event).map_err(|error| broken(error.to_string())),
            None => Ok(()),
        }
    }

    fn apply(&mut self, entry: &LogEntry) -> Result<(), Violation> {
        self.verify(entry)?;
        match &entry.event {
            Event::RunStarted(event) => {
                self.run = Some(event.run_id.clone());
                self.expected.remove(&event.run_id);
                self.started.insert(event.run_id.clone());
                for message in event.input.iter().flat_map(|input| &input.messages) {
                    self.take(message.id());
                }
            }
            Event::RunFinished(_) | Event::RunError(_) => self.run = None,
            Event::TextMessageStart(event) => self.take(&event.message_id),
            Event::MessagesSnapshot(event) => event.messages.iter().map(Message::id).for_each(|id| self.take(id)),
            Event::Custom(event) => self.custom(&event.name, &event.value),
            _ => {}
        }
        if !self.lean {
            self.fold.apply(entry);
        }
        Ok(())
    }

    fn take(&mut self, id: &MessageId) {
        self.waiting.remove(id);
        self.taken.insert(id.clone());
    }

    /// Follows the queue of other devices too.
    fn custom(&mut self, name: &str, value: &Value) {
        let id = value
            .get("messageId")
            .or_else(|| value.get("id"))
            .and_then(Value::as_str);
        let Some(id) = id.and_then(|id| id.parse::<MessageId>().ok()) else {
            return;
        };
        match name {
            "kronos.message_accepted" | "kronos.message_queued"
                if value["queued"] != false && !self.taken.contains(&id) =>
            {
                self.waiting.insert(id);
            }
            "kronos.message_unqueued" | "kronos.message_steered" => self.take(&id),
            _ => {}
        }
    }

    fn broken(&self, seq: Seq, what: &'static str) -> Violation {
        Violation::Attach {
            session: self.session.clone(),
            seq,
            what,
        }
    }
}
