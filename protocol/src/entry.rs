//! One entry of a session's log, as `events` frames carry it.

use crate::event::Event;
use crate::ids::RunId;
use crate::position::Seq;
use crate::wire::macros::wire_struct;

wire_struct! {
    /// An event with its place in the log.
    #[derive(Debug, Clone, PartialEq)]
    pub struct LogEntry {
        required {
            /// Its position, from 1; of merged deltas that of the last.
            seq: Seq = "seq",
            /// What happened.
            event: Event = "event",
        }
        optional {
            /// Of merged deltas the position of the first: positions `first` to `seq` are all in here.
            first: Seq = "first",
            /// The run it belongs to; absent: to the session, and it is never shown to AG-UI clients.
            run: RunId = "run",
        }
    }
}

impl LogEntry {
    /// Returns the first position in it: `first`, or its own.
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        self.first.unwrap_or(self.seq)
    }
}
