//! The account of one session over all devices of its user: what each was sent, whether they agree, whether anything was taken back,
//! and what became of every message.
//!
//! Pure. A [`Checker`] per device says whether what it is sent is in order; the account (`ledger/account.rs`) says whether it is what
//! everybody else was sent. Texts are kept as digests only. Who drives many sessions has a ledger for each.

mod account;
mod breach;
mod digest;
mod judge;
mod recent;
mod told;

use kronos_protocol::{ClientFrame, Command, Cursor, MessageId, Ref, Seq, ServerFrame, SessionId};

pub use breach::Breach;

use crate::checker::Checker;
use crate::shape::{Run, RunShape};
use account::Account;
use breach::Fault;
use digest::Streams;
use recent::Recent;

/// Breaches that are kept until the end beside those that were returned.
const LATER: usize = 100;

/// A device of a [`Ledger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(usize);

/// A command whose reply says more than that it came.
#[derive(Debug)]
enum Asked {
    Attach {
        after: Option<Cursor>,
        tail: bool,
        feed: bool,
        /// The head of the account when it was asked.
        head: Seq,
    },
    Send(MessageId),
}

/// Positions that were left out, until it is known whether they come late.
#[derive(Debug)]
struct Missing {
    session: SessionId,
    first: Seq,
    last: Seq,
    breach: Box<Breach>,
}

#[derive(Debug)]
struct Device {
    name: String,
    checker: Checker,
    connected: bool,
    asked: Vec<(Ref, Asked)>,
    streams: Streams,
    /// Whether what comes was there before it attached.
    history: bool,
    /// Whether it was sent everything from the first position on.
    whole: bool,
    missing: Option<Missing>,
    sent: Recent,
    received: Recent,
}

/// The account of one session over all devices of its user.
#[derive(Debug, Default)]
pub struct Ledger {
    session: Option<SessionId>,
    devices: Vec<Device>,
    account: Account,
    later: Vec<Breach>,
}

impl Ledger {
    /// Returns one without devices.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a device: it is one over all its connections.
    pub fn device(&mut self, name: impl Into<String>) -> DeviceId {
        self.devices.push(Device {
            name: name.into(),
            checker: Checker::lean(),
            connected: true,
            asked: Vec::new(),
            streams: Streams::default(),
            history: false,
            whole: false,
            missing: None,
            sent: Recent::default(),
            received: Recent::default(),
        });
        DeviceId(self.devices.len() - 1)
    }

    /// The session: the first that a device attached, feeds apart. Other sessions are checked for each device alone.
    #[must_use]
    pub fn session(&self) -> Option<&SessionId> {
        self.session.as_ref()
    }

    /// Takes note of a frame before it is sent.
    pub fn sent(&mut self, device: DeviceId, frame: &ClientFrame) {
        let head = self.account.head;
        let Some(device) = self.devices.get_mut(device.0) else {
            return;
        };
        device.connected = true;
        device.sent.push_command(frame);
        device.checker.asked(&frame.reference, &frame.command);
        let asked = match &frame.command {
            Command::Attach(attach) => Asked::Attach {
                after: attach.after.clone(),
                tail: attach.tail.is_some(),
                feed: attach.session.as_str() == SessionId::FEED,
                head,
            },
            Command::Send(send) => Asked::Send(send.id.clone()),
            _ => return,
        };
        device.asked.push((frame.reference.clone(), asked));
    }

    /// Checks a frame that was received.
    ///
    /// # Errors
    /// The promise that it breaks; when it breaks several, [`Ledger::finish`] returns the others.
    #[expect(clippy::result_large_err, reason = "it is rare, and kept whole by whoever gets it")]
    pub fn received(&mut self, device: DeviceId, frame: &ServerFrame) -> Result<(), Breach> {
        let Some(about) = self.devices.get_mut(device.0) else {
            return Ok(());
        };
        about.received.push(frame);
        let mut breaches = Vec::new();
        self.take(device, frame, &mut breaches);
        let mut breaches = breaches.into_iter();
        let first = breaches.next();
        self.keep(breaches);
        first.map_or(Ok(()), Err)
    }

    fn keep(&mut self, breaches: impl IntoIterator<Item = Breach>) {
        let room = LATER.saturating_sub(self.later.len());
        self.later.extend(breaches.into_iter().take(room));
    }

    /// Returns the breach that bytes are which cannot be read as a frame.
    #[must_use]
    pub fn undecodable(&mut self, device: DeviceId, bytes: &[u8]) -> Breach {
        if let Some(about) = self.devices.get_mut(device.0) {
            about.received.push_bytes(bytes);
        }
        let what = format!("{} bytes that are no frame", bytes.len());
        self.breach(device, Fault::new("undecodable", None, what))
    }

    /// The connection is gone: no reply will come. Positions are kept.
    pub fn cut(&mut self, device: DeviceId) {
        if let Some(about) = self.devices.get_mut(device.0) {
            about.connected = false;
            about.checker.disconnected();
            about.asked.clear();
            let missing = about.missing.take();
            self.keep(missing.map(|missing| *missing.breach));
        }
    }

    /// Returns where a device stands in the session: what to come back with after a cut.
    #[must_use]
    pub fn position(&self, device: DeviceId) -> Option<Cursor> {
        let session = self.session.as_ref()?;
        self.devices.get(device.0)?.checker.track(session.as_str())?.cursor()
    }

    /// Whether a device is attached to the session and has everything that there was.
    #[must_use]
    pub fn is_caught_up(&self, device: DeviceId) -> bool {
        let about = self.devices.get(device.0).zip(self.session.as_ref());
        let track = about.and_then(|(about, session)| about.checker.track(session.as_str()));
        track.is_some_and(crate::Track::is_caught_up)
    }

    /// Whether a device is attached to the session, has everything, and knows of no run and of no message that waits for one.
    #[must_use]
    pub fn is_idle(&self, device: DeviceId) -> bool {
        let about = self.devices.get(device.0).zip(self.session.as_ref());
        let track = about.and_then(|(about, session)| about.checker.track(session.as_str()));
        track.is_some_and(crate::Track::is_idle)
    }

    /// Returns the commands of a device that have no reply yet.
    #[must_use]
    pub fn unanswered(&self, device: DeviceId) -> Vec<Ref> {
        self.devices
            .get(device.0)
            .map_or_else(Vec::new, |about| about.checker.unanswered())
    }

    /// Returns the runs of the session, in the order in which they began.
    #[must_use]
    pub fn runs(&self) -> &[Run] {
        &self.account.runs
    }

    /// Returns the last position that any device has seen.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.account.head
    }

    /// Returns the attached devices that have not seen all that another has: wait for them before [`Ledger::finish`].
    #[must_use]
    pub fn behind(&self) -> Vec<DeviceId> {
        let all = (0..self.devices.len()).map(DeviceId);
        let behind = |device: &DeviceId| {
            let position = self.position(*device);
            let epoch = position.as_ref().map(|position| &position.epoch);
            self.is_caught_up(*device)
                && epoch == self.account.epoch.as_ref()
                && position.is_some_and(|position| position.seq < self.account.head)
        };
        all.filter(behind).collect()
    }

    /// Compares the runs with those of a recording, in order; a breach for each that came to something else. Runs of which a part
    /// was not seen are not compared.
    #[must_use]
    pub fn compare(&self, device: DeviceId, expected: &[RunShape]) -> Vec<Breach> {
        let mut breaches = Vec::new();
        for (at, expected) in expected.iter().enumerate() {
            let run = self.account.runs.get(at);
            let shape = run.and_then(Run::shape);
            let unseen = run.is_some_and(|run| !run.whole);
            if unseen || shape.as_ref().is_some_and(|shape| expected.matches(shape)) {
                continue;
            }
            let found = shape.map_or_else(
                || run.map_or_else(|| "there was none".to_owned(), |_| "it did not end".to_owned()),
                |shape| format!("{shape:?}"),
            );
            let what = format!("run {at}: expected {expected:?}, found {found}");
            breaches.push(self.breach(device, Fault::new("shape", None, what)));
        }
        if self.account.runs.len() > expected.len() {
            let what = format!("expected {} runs, found {}", expected.len(), self.account.runs.len());
            breaches.push(self.breach(device, Fault::new("shape", None, what)));
        }
        breaches
    }

    /// Ends the account; returns what is broken and was not returned yet. `audit`: a device that was attached from the start of the
    /// session at the end of everything, and is caught up; with it, whoever is attached must have seen all that it saw.
    pub fn finish(&mut self, audit: Option<DeviceId>) -> Vec<Breach> {
        let mut breaches = std::mem::take(&mut self.later);
        for about in &mut self.devices {
            breaches.extend(about.missing.take().map(|missing| *missing.breach));
        }
        for device in (0..self.devices.len()).map(DeviceId) {
            for reference in self.unanswered(device) {
                let what = format!("ref {reference} was never answered, and the connection lives");
                breaches.push(self.breach(device, Fault::new("unacked", None, what)));
            }
        }
        let late = if audit.is_some() { self.behind() } else { Vec::new() };
        for device in late {
            let found = self.position(device).map_or(0, |position| position.seq);
            let what = format!(
                "the last seq that came is {found}, the log goes on to {}",
                self.account.head
            );
            breaches.push(self.breach(device, Fault::new("gap", Some(found + 1), what)));
        }
        let audited = audit.and_then(|audit| self.devices.get(audit.0));
        // An audit by snapshot knows only the branch that is chosen.
        let audited = audited.is_some_and(|audit| audit.whole || !self.account.has_branches());
        let anybody = audit.unwrap_or(DeviceId(0));
        for fault in self.account.never_applied(audited) {
            breaches.push(self.breach(anybody, fault));
        }
        breaches
    }

    fn breach(&self, device: DeviceId, fault: Fault) -> Breach {
        let about = self.devices.get(device.0);
        let session = self.session.as_ref();
        Breach {
            check: fault.check,
            session: session.map_or_else(String::new, |session| session.as_str().to_owned()),
            seq: fault.seq,
            device: about.map_or_else(String::new, |about| about.name.clone()),
            what: fault.what,
            sent: about.map_or_else(Vec::new, |about| about.sent.shown()),
            received: about.map_or_else(Vec::new, |about| about.received.shown()),
        }
    }
}
