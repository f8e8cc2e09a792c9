//! What a user was promised: the account of the session over all devices, whose breaches go to the meter.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use kronos_check::{Breach, DeviceId, Ledger, RunEnd};
use kronos_protocol::{ClientFrame, Cursor, ServerFrame};

use crate::meter::{Broken, Meter};
use crate::script::Script;

/// The checks of one user.
pub(crate) struct Checks {
    ledger: RefCell<Ledger>,
    script: Rc<Script>,
    meter: Meter,
    /// A promise was broken: what is waited for may never come.
    broken: Cell<bool>,
}

impl Checks {
    /// Begins an account.
    pub(crate) fn new(script: Rc<Script>, meter: Meter) -> Self {
        Self {
            ledger: RefCell::default(),
            script,
            meter,
            broken: Cell::new(false),
        }
    }

    /// Adds a device.
    pub(crate) fn device(&self, name: &str) -> DeviceId {
        self.ledger.borrow_mut().device(name)
    }

    /// Takes note of a frame before it is sent.
    pub(crate) fn sent(&self, device: DeviceId, frame: &ClientFrame) {
        self.ledger.borrow_mut().sent(device, frame);
    }

    /// Checks a frame that has come.
    pub(crate) fn received(&self, device: DeviceId, frame: &ServerFrame) {
        let checked = self.ledger.borrow_mut().received(device, frame);
        if let Err(breach) = checked {
            self.breach(breach);
        }
    }

    /// Takes note of bytes that are no frame.
    pub(crate) fn undecodable(&self, device: DeviceId, bytes: &[u8]) {
        let breach = self.ledger.borrow_mut().undecodable(device, bytes);
        self.breach(breach);
    }

    /// Takes note that a connection is gone.
    pub(crate) fn cut(&self, device: DeviceId) {
        self.ledger.borrow_mut().cut(device);
    }

    /// Returns what a device comes back with.
    pub(crate) fn cursor(&self, device: DeviceId) -> Option<Cursor> {
        self.ledger.borrow().position(device)
    }

    /// Whether nothing runs and nothing waits, as far as a device knows.
    pub(crate) fn is_idle(&self, device: DeviceId) -> bool {
        self.ledger.borrow().is_idle(device)
    }

    /// Whether nobody has seen less than another.
    pub(crate) fn all_see_the_same(&self) -> bool {
        self.ledger.borrow().behind().is_empty()
    }

    /// Whether a promise was broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.get()
    }

    /// Ends the account; `audit` has read the whole log.
    pub(crate) fn finish(&self, device: DeviceId, audit: Option<DeviceId>) {
        let mut breaches = self.compare(device);
        breaches.extend(self.ledger.borrow_mut().finish(audit));
        for breach in breaches {
            self.breach(breach);
        }
    }

    /// Ends the account of a user that did not come to the end: what was broken until then counts, what is missing may be late.
    pub(crate) fn abandon(&self, devices: impl IntoIterator<Item = DeviceId>) {
        let mut ledger = self.ledger.borrow_mut();
        devices.into_iter().for_each(|device| ledger.cut(device));
        let breaches = ledger.finish(None);
        drop(ledger);
        for breach in breaches {
            self.breach(breach);
        }
    }

    /// Compares what the runs came to with the recording.
    fn compare(&self, device: DeviceId) -> Vec<Breach> {
        if self.script.shape.is_empty() {
            return Vec::new();
        }
        let ledger = self.ledger.borrow();
        let mut expected = self.script.shape.clone();
        for (expected, run) in expected.iter_mut().zip(ledger.runs()) {
            // A run that was stopped then may be faster now than who stops it.
            if expected.end == RunEnd::Cancelled
                && let Some(shape) = run.shape().filter(|shape| shape.end == RunEnd::Success)
            {
                *expected = shape;
            }
        }
        ledger.compare(device, &expected)
    }

    fn breach(&self, breach: Breach) {
        self.broken.set(true);
        self.meter.broken(Broken {
            check: breach.check,
            session: breach.session,
            seq: breach.seq,
            device: breach.device,
            script: self.script.name.clone(),
            what: breach.what,
            sent: breach.sent,
            received: breach.received,
        });
    }
}
