//! AG-UI 1.0's ordering rules: which event may follow which.
//!
//! A port of the verifier and the chunk expansion of the official client 1.0.0: what this accepts, that client does not
//! throw on. Where several things are wrong at once, which one is named may differ. Schema rules are not here: a value
//! that was read as an [`Event`] has kept them. One made in Rust can still break two: an interrupt outcome must have an
//! interrupt, and integers (`timestamp`, token counts) must stay within ±(2^53 - 1).
//!
//! Events outside a run are not for it: entries of a log without `run` must not be fed to it.

use serde_json::Value;

use crate::event::{Event, Incoming};

mod brackets;
mod chunks;
mod closers;
mod error;
mod open;
mod owners;

pub use error::OrderError;
pub use open::{OpenEntity, OpenKind};

use brackets::Brackets;
use chunks::Lanes;

/// Follows one stream of AG-UI events and says whether the next one may come.
///
/// Cheap per event: a scan over what is open. Chunk events, which we only read, cost copies of the state.
///
/// ```
/// use kronos_protocol::event::{RunFinished, RunStarted, TextMessageStart};
/// use kronos_protocol::{MessageId, RunId, Verifier};
///
/// let run: RunId = "r_1".parse()?;
/// let message: MessageId = "m_1".parse()?;
/// let finished = RunFinished::new("s_1", &run).into();
/// let mut verifier = Verifier::new();
/// verifier.accept(&RunStarted::new("s_1", &run).into())?;
/// verifier.accept(&TextMessageStart::new(&message).into())?;
/// assert!(verifier.check(&finished).is_err());
/// for closer in verifier.closers(1_790_000_000_000) {
///     verifier.accept(&closer)?;
/// }
/// verifier.accept(&finished)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Verifier {
    brackets: Brackets,
    lanes: Lanes,
}

impl Verifier {
    /// Returns a verifier at the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether `event` may come next, and changes nothing.
    ///
    /// # Errors
    /// The rule it would break.
    pub fn check(&self, event: &Event) -> Result<(), OrderError> {
        if self.is_plain(event) {
            self.brackets.check(event)
        } else {
            self.expanded(event).map(drop)
        }
    }

    /// Takes `event` as the next one.
    ///
    /// # Errors
    /// The rule it breaks; the verifier is then as it was.
    pub fn accept(&mut self, event: &Event) -> Result<(), OrderError> {
        if self.is_plain(event) {
            self.brackets.accept(event)
        } else {
            *self = self.expanded(event)?;
            Ok(())
        }
    }

    /// Whether a run is active: begun, and neither finished nor failed.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.brackets.is_running()
    }

    /// Returns what is open, in the order it was opened.
    #[must_use]
    pub fn open(&self) -> &[OpenEntity] {
        self.brackets.open()
    }

    /// Returns the calls of the latest run that have no result, in the order they began. They may well have ended.
    #[must_use]
    pub fn unanswered_calls(&self) -> &[String] {
        self.brackets.unanswered()
    }

    /// Returns the events that close everything open, innermost first, so that RUN_FINISHED may follow.
    ///
    /// A call of this run without a result gets one that says `{"status":"stopped"}`, so that the history stays valid
    /// for a provider; its message id is made from the call's. A subagent ends with SUBAGENT_ERROR, code `stopped`.
    /// Empty when no run is active. All have `timestamp`, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn closers(&self, timestamp: i64) -> Vec<Event> {
        closers::closers(self, timestamp)
    }

    /// Whether `event` needs no expansion: it is no chunk, and there is no chunk stream that it might close.
    fn is_plain(&self, event: &Event) -> bool {
        self.lanes.is_empty() && !chunks::is_chunk(event)
    }

    /// Returns the state after `event` and what it stands for.
    fn expanded(&self, event: &Event) -> Result<Self, OrderError> {
        let mut next = self.clone();
        for part in next.lanes.expand(event)? {
            next.brackets.accept(&part)?;
        }
        // Stricter than the client, which throws later: a chunk stream must stay closable.
        let mut end = next.clone();
        for part in end.lanes.close_all() {
            if end.brackets.accept(&part).is_err() {
                return Err(OrderError::ChunkUnclosable { event: event.kind() });
            }
        }
        Ok(next)
    }
}

/// Reads and verifies one stream of events as an AG-UI 1.0 client does: malformed ones and wrong order are errors,
/// unknown types are dropped.
///
/// # Errors
/// What is wrong, as text for people.
pub fn verify_stream(values: &[Value]) -> Result<(), String> {
    let mut verifier = Verifier::new();
    for value in values {
        match Event::decode_value(value.clone()).map_err(|error| error.to_string())? {
            Incoming::Known(event) => verifier.accept(&event).map_err(|error| error.to_string())?,
            Incoming::Unknown { .. } => {}
        }
    }
    Ok(())
}
