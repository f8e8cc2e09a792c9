//! Which ordering rule an event breaks.

use super::open::OpenKind;
use super::owners::{Bucket, Owner};
use crate::event::EventKind;

/// An event that may not come here. The texts follow the official client's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A stream begins with something else than a run.
    #[error("First event must be 'RUN_STARTED', not '{event}'")]
    First {
        /// What came.
        event: EventKind,
    },
    /// The run is over: it failed.
    #[error("Cannot send event type '{event}': The run has already errored with 'RUN_ERROR'")]
    AlreadyErrored {
        /// What came.
        event: EventKind,
    },
    /// The run is over.
    #[error("Cannot send event type '{event}': The run has already finished with 'RUN_FINISHED'")]
    AlreadyFinished {
        /// What came.
        event: EventKind,
    },
    /// A run begins within a run.
    #[error("Cannot send 'RUN_STARTED' while a run is still active")]
    RunActive,
    /// Something is opened that is open.
    #[error("Cannot send '{event}': A {entity} with ID '{id}' is already in progress")]
    AlreadyOpen {
        /// What came.
        event: EventKind,
        /// What it opens.
        entity: OpenKind,
        /// Which one.
        id: String,
    },
    /// Something is continued or closed that is not open.
    #[error("Cannot send '{event}': No active {entity} found with ID '{id}'")]
    NotOpen {
        /// What came.
        event: EventKind,
        /// What it continues or closes.
        entity: OpenKind,
        /// Which one.
        id: String,
    },
    /// A step is started that is active in its lane.
    #[error("Step \"{name}\" is already active for 'STEP_STARTED'")]
    StepActive {
        /// The step.
        name: String,
    },
    /// A step is finished that is not active in any lane.
    #[error("Cannot send 'STEP_FINISHED' for step \"{name}\" that was not started")]
    StepNotStarted {
        /// The step.
        name: String,
    },
    /// A step is finished by another than its starter.
    #[error("Cannot send 'STEP_FINISHED' for step \"{name}\": that step is open under {owner}")]
    StepOfAnother {
        /// The step.
        name: String,
        /// Who started it.
        owner: String,
    },
    /// A subagent's id is used a second time in a run.
    #[error(
        "Cannot send 'SUBAGENT_STARTED': subagent '{id}' has already finished in this run, its id cannot be reused"
    )]
    SubagentReused {
        /// The subagent.
        id: String,
    },
    /// A subagent is started by one that is not known.
    #[error("Cannot send 'SUBAGENT_STARTED': parentSubagentRunId '{id}' has not been started in this run")]
    ParentUnknown {
        /// The parent.
        id: String,
    },
    /// An event's tag names another owner than that of the thing it belongs to.
    #[error("Cannot send '{event}': its subagentRunId does not match {owner}, who owns the {entity} '{id}'")]
    OwnerMismatch {
        /// What came.
        event: EventKind,
        /// What kind of thing it belongs to.
        entity: &'static str,
        /// Which one.
        id: String,
        /// Who owns it.
        owner: String,
    },
    /// A run finishes with something open.
    #[error("Cannot send 'RUN_FINISHED' while {entity}s are still active: {}", ids.join(", "))]
    StillOpen {
        /// What is open.
        entity: OpenKind,
        /// Which ones.
        ids: Vec<String>,
    },
    /// The first chunk of a stream lacks what the later ones may leave out.
    #[error("First {event} must have a {field}")]
    FirstChunk {
        /// The chunk.
        event: EventKind,
        /// What it lacks.
        field: &'static str,
    },
    /// A chunk repeats a field of its stream with another value.
    #[error("Cannot continue '{id}': {event} has a {field} that does not match the first one")]
    ChunkDisagrees {
        /// The chunk.
        event: EventKind,
        /// The stream.
        id: String,
        /// The field.
        field: &'static str,
    },
    /// A chunk says neither which stream it continues nor in which lane, and there are several.
    #[error("Ambiguous {event}: several lanes have an open stream it could continue")]
    ChunkAmbiguous {
        /// The chunk.
        event: EventKind,
    },
    /// The event takes away what a chunk stream needs to be closed.
    #[error("Cannot send '{event}': a stream of chunks could not be closed any more")]
    ChunkUnclosable {
        /// What came.
        event: EventKind,
    },
}

impl OrderError {
    pub(super) fn mismatch(event: EventKind, bucket: Bucket, id: &str, owner: &Owner) -> Self {
        Self::OwnerMismatch {
            event,
            entity: bucket.noun(),
            id: id.to_owned(),
            owner: named(owner),
        }
    }
}

/// The words for an owner.
pub(super) fn named(owner: &Owner) -> String {
    owner
        .as_ref()
        .map_or_else(|| "the parent agent".to_owned(), |id| format!("subagent '{id}'"))
}
