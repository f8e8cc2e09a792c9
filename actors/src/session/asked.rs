//! The questions of a session that wait for people: told to the node with the events that ask and answer them.

use std::collections::HashMap;

use super::{Session, metrics, state::State};
use crate::{
    clock::Millis,
    directory::questions::{self, Open},
    store::DocumentWrite,
};

/// What the store knows.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// Something may have been asked or answered since it was told.
    pub(super) due: bool,
    /// What waits by what it is about, and since when; as it was told last.
    open: HashMap<String, Millis>,
    /// It is in the commit that is in the air.
    sent: bool,
}

impl Asked {
    fn sum(&self) -> Option<Open> {
        let since_ms = *self.open.values().min()?;
        Some(Open {
            count: u32::try_from(self.open.len()).unwrap_or(u32::MAX),
            since_ms,
        })
    }
}

fn open(state: &State) -> HashMap<String, Millis> {
    state.asked().map(|(what, since)| (what.to_owned(), since)).collect()
}

impl Session {
    /// The log was folded: what is open has been told, unless an older version wrote it.
    pub(super) fn asked_before(&mut self) {
        self.asked = Asked {
            open: open(&self.state),
            ..Asked::default()
        };
        self.asked.due = self.deps.questions.of(&self.id) != self.asked.sum();
        if self.asked.due {
            // The next commit tells all of it.
            self.asked.sent = false;
        }
    }

    /// What is to be written about them with the next commit, if that has changed.
    pub(super) fn asked_now(&mut self) -> Option<DocumentWrite> {
        if !std::mem::take(&mut self.asked.due) {
            return None;
        }
        let now = open(&self.state);
        let at = self.deps.clock.now_ms();
        for (what, since) in &self.asked.open {
            if !now.contains_key(what) {
                #[expect(clippy::cast_precision_loss, reason = "milliseconds of one question")]
                let seconds = at.saturating_sub(*since).max(0) as f64 / 1000.0;
                metrics::handles().question_wait.record(seconds);
            }
        }
        self.asked.open = now;
        let open = self.asked.sum();
        self.asked.sent = self.deps.questions.of(&self.id) != open;
        self.asked.sent.then(|| questions::write(&self.id, open))
    }

    /// The commit is durable.
    pub(super) fn asked_durably(&mut self) {
        if std::mem::take(&mut self.asked.sent) {
            self.deps.questions.set(&self.id, self.asked.sum());
        }
    }

    /// What deletes the document, if there is one.
    pub(super) fn asked_no_more(&self) -> Option<DocumentWrite> {
        let known = self.deps.questions.of(&self.id);
        known.map(|_| questions::write(&self.id, None))
    }
}
