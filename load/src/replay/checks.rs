//! What a user was promised, watched on each of the devices.

use std::cell::RefCell;
use std::collections::VecDeque;

use kronos_check::{Checker, Track, Transcript, Violation};
use kronos_protocol::{ClientFrame, Codec, Command, Cursor, ServerFrame, SessionId};

use crate::meter::{Broken, Meter};

/// Frames of each side that a broken promise shows.
const FRAMES: usize = 5;
/// Bytes that are kept of each.
const KEPT: usize = 400;

/// The last frames of one side.
#[derive(Debug, Default)]
struct Last(VecDeque<Vec<u8>>);

impl Last {
    fn keep(&mut self, frame: &[u8]) {
        let mut slot = if self.0.len() == FRAMES {
            self.0.pop_front().unwrap_or_default()
        } else {
            Vec::new()
        };
        slot.clear();
        slot.extend_from_slice(frame.get(..KEPT).unwrap_or(frame));
        self.0.push_back(slot);
    }

    fn shown(&self, codec: Codec) -> Vec<String> {
        let show = |frame: &Vec<u8>| match codec {
            Codec::Json => String::from_utf8_lossy(frame).into_owned(),
            Codec::Msgpack => match codec.decode_value(frame) {
                Ok(value) => value.to_string(),
                Err(_) => frame.escape_ascii().to_string(),
            },
        };
        self.0.iter().map(show).collect()
    }
}

/// What one device sees.
#[derive(Debug)]
pub(crate) struct Witness {
    name: String,
    codec: Codec,
    inner: RefCell<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    checker: Checker,
    sent: Last,
    received: Last,
    /// What follows the first broken promise is its consequence.
    broken: bool,
}

impl Witness {
    /// Makes the witness of a device.
    pub(crate) fn new(name: String, codec: Codec) -> Self {
        Self {
            name,
            codec,
            inner: RefCell::default(),
        }
    }

    /// Takes note of a command before it is sent.
    pub(crate) fn sent(&self, frame: &ClientFrame, bytes: &[u8]) {
        let mut inner = self.inner.borrow_mut();
        inner.checker.asked(&frame.reference, &frame.command);
        // A token is nothing for reports.
        if !matches!(frame.command, Command::Hello(_) | Command::TokenUpdate(_)) {
            inner.sent.keep(bytes);
        }
    }

    /// Checks a frame that has come. A broken promise goes to the meter; only the first one of a device.
    pub(crate) fn received(&self, frame: &ServerFrame, bytes: &[u8], script: &str, meter: &Meter) {
        let mut inner = self.inner.borrow_mut();
        inner.received.keep(bytes);
        if inner.broken {
            return;
        }
        if let Err(violation) = inner.checker.received(frame) {
            inner.broken = true;
            let (check, session, seq) = about(&violation, frame);
            meter.broken(Broken {
                check,
                session,
                seq,
                device: self.name.clone(),
                script: script.to_owned(),
                what: violation.to_string(),
                sent: inner.sent.shown(self.codec),
                received: inner.received.shown(self.codec),
            });
        }
    }

    /// Takes note of a broken promise that others found.
    pub(crate) fn accuse(
        &self,
        check: &'static str,
        session: &str,
        seq: Option<u64>,
        script: &str,
        what: String,
    ) -> Broken {
        let mut inner = self.inner.borrow_mut();
        inner.broken = true;
        Broken {
            check,
            session: session.to_owned(),
            seq,
            device: self.name.clone(),
            script: script.to_owned(),
            what,
            sent: inner.sent.shown(self.codec),
            received: inner.received.shown(self.codec),
        }
    }

    /// Takes note that the connection is gone.
    pub(crate) fn disconnected(&self) {
        self.inner.borrow_mut().checker.disconnected();
    }

    /// Whether a promise was broken here.
    pub(crate) fn is_broken(&self) -> bool {
        self.inner.borrow().broken
    }

    fn track<T>(&self, session: &SessionId, read: impl FnOnce(&Track) -> T) -> Option<T> {
        self.inner.borrow().checker.track(session.as_str()).map(read)
    }

    /// Returns what to come back with.
    pub(crate) fn cursor(&self, session: &SessionId) -> Option<Cursor> {
        self.track(session, Track::cursor).flatten()
    }

    /// Whether nothing runs and nothing waits, as far as this device knows.
    pub(crate) fn is_idle(&self, session: &SessionId) -> bool {
        self.track(session, Track::is_idle).unwrap_or(false)
    }

    /// Returns what the device shows.
    pub(crate) fn transcript(&self, session: &SessionId) -> Option<Transcript> {
        self.track(session, |track| track.transcript().clone())
    }
}

/// Names the check, the session and the position of a broken promise.
fn about(violation: &Violation, frame: &ServerFrame) -> (&'static str, String, Option<u64>) {
    match violation {
        Violation::Gap { session, found, .. } => ("gap", session.to_string(), Some(*found)),
        Violation::Repeated { session, found, .. } => ("repeated", session.to_string(), Some(*found)),
        Violation::Merged { session, seq, .. } => ("merged", session.to_string(), Some(*seq)),
        Violation::Epoch { session, seq, .. } => ("epoch", session.to_string(), Some(*seq)),
        Violation::NotAttached { session, .. } => ("not_attached", session.to_string(), None),
        Violation::Attach { session, seq, .. } => ("attach", session.to_string(), Some(*seq)),
        Violation::Order { session, seq, .. } => ("order", session.to_string(), Some(*seq)),
        Violation::Reply { .. } => ("reply", session_of(frame), None),
        Violation::Overtook { .. } => ("overtook", session_of(frame), None),
    }
}

fn session_of(frame: &ServerFrame) -> String {
    match frame {
        ServerFrame::Events(events) => events.session.to_string(),
        ServerFrame::CaughtUp(frame) => frame.session.to_string(),
        ServerFrame::Presence(frame) => frame.session.to_string(),
        ServerFrame::Ok { .. } | ServerFrame::Error { .. } | ServerFrame::Goaway(_) => String::new(),
    }
}
