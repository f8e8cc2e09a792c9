//! How many messages wait in mailboxes, and how long: actix tells neither.
//!
//! A message carries a [`Queued`]; whoever handles it calls [`Queued::taken`]. Counting is two additions to cells of the thread; a
//! time is taken of one message in [`SAMPLE`], because looking at the clock and recording cost more than most messages do.

use std::{cell::Cell, sync::LazyLock, time::Instant};

use metrics::{Gauge, Histogram, gauge, histogram};

use crate::{
    clock,
    metrics::{MAILBOX_MESSAGES, MAILBOX_WAIT, is_measured},
    tally::{self, Tally},
};

/// Of so many messages one has its time taken.
pub const SAMPLE: u32 = 8;

/// The kinds of actors whose mailboxes are measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mailbox {
    /// Of a session: commands, what the model and tools say, settled commits.
    Session,
    /// Of a websocket: what sessions deliver and answer.
    Connection,
    /// Of a core's directory.
    Directory,
    /// Of the service for Composio.
    Composio,
    /// Of the store: requests that wait for a group commit to begin.
    Store,
}

impl Mailbox {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Session,
        Self::Connection,
        Self::Directory,
        Self::Composio,
        Self::Store,
    ];

    /// Its word in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Connection => "connection",
            Self::Directory => "directory",
            Self::Composio => "composio",
            Self::Store => "store",
        }
    }

    const fn tally(self) -> Tally {
        match self {
            Self::Session => Tally::SessionMail,
            Self::Connection => Tally::ConnectionMail,
            Self::Directory => Tally::DirectoryMail,
            Self::Composio => Tally::ComposioMail,
            Self::Store => Tally::StoreMail,
        }
    }
}

thread_local! {
    static TURN: Cell<u32> = const { Cell::new(0) };
}

/// The place of one message in a mailbox. Dropped, it is given back without a time: the message was refused or lost.
#[derive(Debug)]
pub struct Queued {
    mailbox: Mailbox,
    counted: bool,
    since: Option<Instant>,
}

impl Queued {
    /// A message is on its way.
    #[must_use]
    pub fn new(mailbox: Mailbox) -> Self {
        if !is_measured() {
            return Self {
                mailbox,
                counted: false,
                since: None,
            };
        }
        tally::add(mailbox.tally(), 1);
        let turn = TURN.get().wrapping_add(1);
        TURN.set(turn);
        Self {
            mailbox,
            counted: true,
            since: turn.is_multiple_of(SAMPLE).then(clock::now),
        }
    }

    /// The message is handled now.
    pub fn taken(self) {
        if let Some(since) = self.since {
            handles()[self.mailbox as usize]
                .1
                .record(clock::now().saturating_duration_since(since).as_secs_f64());
        }
    }
}

impl Clone for Queued {
    fn clone(&self) -> Self {
        Self::new(self.mailbox)
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        if self.counted {
            tally::add(self.mailbox.tally(), -1);
        }
    }
}

fn handles() -> &'static [(Gauge, Histogram); Mailbox::ALL.len()] {
    static HANDLES: LazyLock<[(Gauge, Histogram); Mailbox::ALL.len()]> = LazyLock::new(|| {
        Mailbox::ALL.map(|mailbox| {
            let actor = mailbox.as_str();
            (
                gauge!(MAILBOX_MESSAGES, "actor" => actor),
                histogram!(MAILBOX_WAIT, "actor" => actor),
            )
        })
    });
    &HANDLES
}

/// Shows how many wait: called before each scrape.
pub fn report() {
    for (mailbox, (gauge, _)) in Mailbox::ALL.iter().zip(handles()) {
        gauge.set(tally::float(tally::sum(mailbox.tally())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_given_back_whether_the_message_is_handled_or_lost() {
        let waiting = || tally::sum(Tally::ComposioMail);
        let before = waiting();
        let (one, two) = (Queued::new(Mailbox::Composio), Queued::new(Mailbox::Composio));
        let three = two.clone();
        assert_eq!(waiting() - before, 3);
        one.taken();
        drop((two, three));
        assert_eq!(waiting(), before);
    }

    #[test]
    fn one_message_in_a_sample_has_its_time_taken() {
        let timed = (0..SAMPLE * 4).filter(|_| Queued::new(Mailbox::Directory).since.is_some());
        assert_eq!(timed.count(), 4);
    }
}
