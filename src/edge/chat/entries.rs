//! Entries of a session's log as they leave over HTTP: as server-sent events, and as lines.

use bytes::{Bytes, BytesMut};
use kronos_actors::session::reader::Batch;
use kronos_protocol::{entry::LogEntry, ids::EpochId, position::Cursor};
use schemars::JsonSchema;
use serde::Serialize;

use super::sse::{write_event, write_json};

/// An entry with what a frame would say around it.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Entry")]
pub(super) struct Told<'a> {
    /// Only in lines: an event has it in its `id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    epoch: Option<&'a EpochId>,
    /// It is a part of a snapshot, not the log.
    #[serde(skip_serializing_if = "is_false")]
    snapshot: bool,
    #[serde(flatten)]
    entry: &'a LogEntry,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_false(value: &bool) -> bool {
    !*value
}

/// Writes a batch as server-sent events.
pub(super) fn as_events(batch: &Batch) -> Bytes {
    let mut out = BytesMut::new();
    let last = batch.entries.len().saturating_sub(1);
    for (index, entry) in batch.entries.iter().enumerate() {
        // A reader that was cut in a snapshot must not go on after it: only its last entry has the position.
        let id = (!batch.snapshot || index == last).then(|| Cursor {
            epoch: batch.epoch.clone(),
            seq: entry.seq,
        });
        let told = Told {
            epoch: None,
            snapshot: batch.snapshot,
            entry,
        };
        write_event(&mut out, id.as_ref(), None, &told);
    }
    out.freeze()
}

/// Writes a batch as lines.
pub(super) fn as_lines(batch: &Batch) -> Bytes {
    let mut out = BytesMut::new();
    for entry in batch.entries.iter() {
        let told = Told {
            epoch: Some(&batch.epoch),
            snapshot: batch.snapshot,
            entry,
        };
        write_json(&mut out, &told);
        out.extend_from_slice(b"\n");
    }
    out.freeze()
}
