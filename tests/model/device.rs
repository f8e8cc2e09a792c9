//! A device of the model: its cursor, what it shows, and whether that may be.

use kronos_protocol::{
    entry::LogEntry,
    event::{Event, EventKind},
    position::Seq,
    verify::Verifier,
};

use crate::{
    glue::Token,
    oracle::{self, Fact, Picture},
};

/// How a device comes back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Attach {
    /// After the last event that it has; from the start when it has none.
    Resume,
    /// From the start, as a new device.
    Fresh,
    /// Only the last events of history.
    Tail(u64),
    /// With a cursor that this history does not know: it gets the snapshot.
    Foreign,
}

/// Where its attachment stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Stage {
    Off,
    Asked(Token),
    On,
}

/// One device of one session.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) stage: Stage,
    /// The last seq it has; it resumes here.
    pub(crate) cursor: Option<Seq>,
    /// The history that it has this of.
    pub(crate) epoch: u32,
    /// What the session keeps for it until it pulls: a snapshot, its seq, and how many facts it tells.
    pub(crate) snapshot: Option<(Seq, Vec<LogEntry>, usize)>,
    /// It has seen the log from its first event on.
    whole: bool,
    /// Joined facts since it began or got its snapshot.
    seen: Vec<Fact>,
    /// What it shows; `None` when it came in the middle.
    shown: Option<Picture>,
    verifier: Option<Verifier>,
}

impl Device {
    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Off,
            cursor: None,
            epoch: 0,
            snapshot: None,
            whole: true,
            seen: Vec::new(),
            shown: Some(Picture::default()),
            verifier: Some(Verifier::new()),
        }
    }

    /// It stands after `start` and knows nothing of what is before, unless there is nothing.
    pub(crate) fn start_at(&mut self, start: Seq) {
        let whole = start == 0;
        *self = Self {
            stage: self.stage,
            snapshot: self.snapshot.take(),
            cursor: Some(start),
            epoch: self.epoch,
            whole,
            seen: Vec::new(),
            shown: whole.then(Picture::default),
            verifier: whole.then(Verifier::new),
        };
    }

    pub(crate) fn cut(&mut self) {
        self.stage = Stage::Off;
        self.snapshot = None;
    }

    /// Shows a snapshot; returns the conversation it tells.
    pub(crate) fn take_snapshot(&mut self, upto: Seq, entries: &[LogEntry]) -> Vec<(String, String)> {
        let mut verifier = Verifier::new();
        let mut shown = Vec::new();
        for entry in entries {
            verifier
                .accept(&entry.event)
                .expect("a snapshot is a valid start of a stream");
            assert!(entry.seq <= upto);
            if let Event::MessagesSnapshot(snapshot) = &entry.event {
                shown = oracle::picture_of(&snapshot.messages);
            }
        }
        self.start_at(upto);
        self.whole = false;
        self.verifier = Some(verifier);
        self.shown = Some(Picture::of(shown.clone()));
        shown
    }

    /// Shows a batch that covers everything from its cursor to `upto`.
    pub(crate) fn take(&mut self, upto: Seq, entries: &[LogEntry]) {
        let mut at = self.cursor.unwrap_or(0);
        assert!(upto > at, "a batch makes progress");
        for entry in entries {
            assert_eq!(entry.first_seq(), at + 1, "no gap and no repetition");
            let merged = entry.first_seq() < entry.seq;
            assert!(
                entry.seq >= entry.first_seq() && (!merged || entry.event.kind() == EventKind::TextMessageContent),
                "only text is merged"
            );
            at = entry.seq;
            self.show(entry);
        }
        assert_eq!(at, upto, "the entries cover the batch");
        self.cursor = Some(upto);
    }

    fn show(&mut self, entry: &LogEntry) {
        if entry.run.is_some() {
            if entry.event.kind() == EventKind::RunStarted {
                self.verifier.get_or_insert_default();
            }
            if let Some(verifier) = &mut self.verifier {
                verifier.accept(&entry.event).expect("what a verifier accepts");
            }
        }
        let fact = Fact::of(entry.run.as_ref(), &entry.event);
        if let Some(shown) = &mut self.shown {
            shown.take(&fact);
        }
        oracle::add(&mut self.seen, fact);
    }

    /// It shows nothing that may not be shown, in the one order.
    pub(crate) fn check(&self, showable: &[Fact]) {
        let holds = if self.whole {
            oracle::is_prefix(&self.seen, showable)
        } else {
            oracle::is_part(&self.seen, showable)
        };
        assert!(
            holds,
            "a device shows what may not be shown, or not in order\nit shows: {:#?}\nmay be shown: {showable:#?}",
            self.seen
        );
    }

    /// It has everything.
    pub(crate) fn check_complete(&self, durable: &[Fact]) {
        if self.whole {
            assert_eq!(self.seen, durable, "a device that has caught up shows everything");
        }
        if let Some(shown) = &self.shown {
            assert_eq!(
                shown.shown,
                oracle::picture(durable),
                "a device that has caught up shows the conversation"
            );
        }
    }
}
