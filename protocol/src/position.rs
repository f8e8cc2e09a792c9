//! Where something is in a session's log, and where a reader of it is.

use std::fmt;
use std::str::FromStr;

use crate::ids::{EpochId, IdError};
use crate::wire::macros::wire_struct;

/// Position of an event in its session: from 1, no gaps within an epoch. 0 is "before everything".
pub type Seq = u64;

wire_struct! {
    /// The last position a reader has seen; it goes on after it, or is told to start over.
    ///
    /// As text (`Display`, `FromStr`; the `id` of server-sent events) `<epoch>:<seq>`.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    pub struct Cursor {
        required {
            /// The history the position belongs to.
            epoch: EpochId = "epoch",
            /// The last position seen; 0 for none.
            seq: Seq = "seq",
        }
    }
}

/// Why a text is not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// There is no colon between epoch and seq.
    #[error("a cursor must be <epoch>:<seq>")]
    Form,
    /// The part before the last colon is not an epoch.
    #[error("the epoch of the cursor is not one")]
    Epoch(#[source] IdError),
    /// The part after the last colon is not an unsigned 64-bit number.
    #[error("the seq of the cursor is not a number")]
    Seq(#[source] std::num::ParseIntError),
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.seq)
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let (epoch, seq) = text.rsplit_once(':').ok_or(CursorError::Form)?;
        Ok(Self {
            epoch: epoch.parse().map_err(CursorError::Epoch)?,
            seq: seq.parse().map_err(CursorError::Seq)?,
        })
    }
}
