//! The log of one live session: numbering, merging, the commit watermark, the tail in memory, reading from a cursor.
//!
//! Pure: no actix, IO, clock or randomness. What an event means is `state.rs`; what to append is `core.rs`.

use std::collections::VecDeque;

use bytes::Bytes;
use kronos_protocol::{
    entry::LogEntry,
    event::{Event, TextMessageContent},
    ids::RunId,
    position::Seq,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::Record;

/// Bytes of text that one event may hold, whether it came so or was merged: a frame with it stays far below its bound.
pub const MAX_DELTA_BYTES: usize = 4096;

/// An event as it is stored: what clients see, and beside it what they never do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// The run it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// The AG-UI event.
    pub event: Event,
    /// The provider's raw parts (thought signatures), options of a run: never shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private: Option<Value>,
}

/// Why stored bytes could not be read as an event.
#[derive(Debug, thiserror::Error)]
#[error("record {seq} cannot be read")]
pub struct DamagedRecord {
    /// Its seq.
    pub seq: Seq,
    #[source]
    source: rmp_serde::decode::Error,
}

impl Stored {
    /// Reads a record of the store.
    ///
    /// # Errors
    /// [`DamagedRecord`] when the payload is not an event of this version or an older one.
    pub fn decode(record: &Record) -> Result<Self, DamagedRecord> {
        rmp_serde::from_slice(&record.payload).map_err(|source| DamagedRecord {
            seq: record.seq,
            source,
        })
    }
}

/// Text appended by an event that may merge with its neighbours: the message and the text.
fn delta_of(event: &Event) -> Option<&TextMessageContent> {
    match event {
        Event::TextMessageContent(content) => Some(content),
        _ => None,
    }
}

/// True when `next` may be merged into `last`: deltas of the same message, together within [`MAX_DELTA_BYTES`].
fn merges(last: (&Option<RunId>, &Event), next: (&Option<RunId>, &Event), limit: usize) -> bool {
    match (delta_of(last.1), delta_of(next.1)) {
        (Some(a), Some(b)) => {
            last.0 == next.0
                && a.message_id == b.message_id
                && a.metadata.is_none()
                && b.metadata.is_none()
                && a.delta.len() + b.delta.len() <= limit
        }
        _ => false,
    }
}

#[derive(Debug, Clone)]
struct Kept {
    seq: Seq,
    stored: Stored,
    /// The encoded form until it is packed; then empty.
    payload: Bytes,
    size: usize,
}

impl Kept {
    fn takes(&self, next: &Stored) -> bool {
        next.private.is_none()
            && merges(
                (&self.stored.run, &self.stored.event),
                (&next.run, &next.event),
                MAX_DELTA_BYTES,
            )
    }
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    /// There is nothing after the cursor that is committed.
    UpToDate,
    /// Entries up to `upto`, neighbouring deltas merged.
    Entries {
        /// The last seq they cover.
        upto: Seq,
        /// The entries.
        entries: Vec<LogEntry>,
    },
    /// The memory starts after the cursor: read the store.
    Behind,
}

/// The log of a live session.
#[derive(Debug)]
pub struct Log {
    /// Not handed to the store yet; the last one may still grow.
    pending: Vec<Kept>,
    /// Handed to the store, newest last. Everything that is not packed is here.
    tail: VecDeque<Kept>,
    tail_bytes: usize,
    /// Of those, bytes that are not packed: asked at every commit, so it is counted, not summed.
    unpacked_bytes: usize,
    next: Seq,
    committed: Seq,
    packed: Seq,
    budget: usize,
}

impl Log {
    /// A log whose records up to `packed` live in segments; `budget` is the size of the tail in bytes.
    pub fn new(budget: usize) -> Self {
        Self {
            pending: Vec::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            unpacked_bytes: 0,
            next: 1,
            committed: 0,
            packed: 0,
            budget,
        }
    }

    /// Takes a committed record while the session is folded, in order.
    pub fn restore(&mut self, record: Record, stored: Stored, packed_upto: Seq) {
        let size = record.payload.len();
        let packed = record.seq <= packed_upto;
        let payload = if packed { Bytes::new() } else { record.payload };
        self.next = record.seq + 1;
        self.committed = record.seq;
        self.packed = packed_upto.min(record.seq);
        self.tail_bytes += size;
        self.unpacked_bytes += if packed { 0 } else { size };
        self.tail.push_back(Kept {
            seq: record.seq,
            stored,
            payload,
            size,
        });
        self.trim();
    }

    /// The seq that an event will have: its own, or that of the last pending delta when it merges into it.
    pub fn seq_for(&self, stored: &Stored) -> Seq {
        self.pending
            .last()
            .filter(|last| last.takes(stored))
            .map_or(self.next, |last| last.seq)
    }

    /// Appends an event; a delta merges into the pending one before it. [`Log::seq_for`] says where it went.
    pub fn push(&mut self, stored: Stored) {
        if let Some(last) = self.pending.last_mut()
            && last.takes(&stored)
            && let (Event::TextMessageContent(old), Event::TextMessageContent(new)) =
                (&mut last.stored.event, &stored.event)
        {
            old.delta.push_str(&new.delta);
            return;
        }
        self.pending.push(Kept {
            seq: self.next,
            stored,
            payload: Bytes::new(),
            size: 0,
        });
        self.next += 1;
    }

    /// The seq of the newest event, committed or not.
    pub fn last(&self) -> Seq {
        self.next - 1
    }

    /// The watermark: readers may see up to here.
    pub fn committed(&self) -> Seq {
        self.committed
    }

    /// The last record that lives in a segment.
    pub fn packed(&self) -> Seq {
        self.packed
    }

    /// Something waits for a commit.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Encodes what waits and hands it over; it is in flight until [`Log::commit`].
    ///
    /// # Errors
    /// When an event cannot be encoded, which no event of ours is.
    pub fn take_batch(&mut self) -> Result<Vec<Record>, rmp_serde::encode::Error> {
        let mut records = Vec::with_capacity(self.pending.len());
        for mut kept in self.pending.drain(..) {
            kept.payload = Bytes::from(rmp_serde::to_vec_named(&kept.stored)?);
            kept.size = kept.payload.len();
            records.push(Record::new(kept.seq, kept.payload.clone()));
            self.tail_bytes += kept.size;
            self.unpacked_bytes += kept.size;
            self.tail.push_back(kept);
        }
        Ok(records)
    }

    /// Moves the watermark: everything up to `upto` is durable.
    pub fn commit(&mut self, upto: Seq) {
        self.committed = self.committed.max(upto);
        self.trim();
    }

    /// All handed records that are not packed yet, for the store's segments.
    pub fn unpacked(&self) -> Vec<Record> {
        self.tail
            .iter()
            .filter(|kept| kept.seq > self.packed)
            .map(|kept| Record::new(kept.seq, kept.payload.clone()))
            .collect()
    }

    /// Bytes of what is not packed yet.
    pub fn unpacked_bytes(&self) -> usize {
        self.unpacked_bytes
    }

    /// The store holds everything up to `upto` in segments.
    pub fn mark_packed(&mut self, upto: Seq) {
        for kept in self
            .tail
            .iter_mut()
            .filter(|kept| kept.seq <= upto && kept.seq > self.packed)
        {
            kept.payload = Bytes::new();
            self.unpacked_bytes -= kept.size;
        }
        self.packed = self.packed.max(upto);
        self.trim();
    }

    fn trim(&mut self) {
        while self.tail_bytes > self.budget
            && let Some(front) = self.tail.front()
            && front.seq <= self.packed
            && front.seq <= self.committed
        {
            self.tail_bytes -= front.size;
            self.tail.pop_front();
        }
    }

    /// Reads what is committed after `after`, at most about `max_bytes` of it (one larger event comes alone).
    pub fn read(&self, after: Seq, max_bytes: usize) -> Read {
        if after >= self.committed {
            return Read::UpToDate;
        }
        let Some(first) = self.tail.front().map(|kept| kept.seq) else {
            return Read::Behind;
        };
        if after + 1 < first {
            return Read::Behind;
        }
        let skip = usize::try_from(after + 1 - first).unwrap_or(usize::MAX);
        let entries = self
            .tail
            .iter()
            .skip(skip)
            .take_while(|kept| kept.seq <= self.committed)
            .map(|kept| (kept.seq, &kept.stored, kept.size));
        batch(entries, max_bytes)
    }
}

/// Reads a batch from records of the store; those after `committed` are left out.
///
/// # Errors
/// [`DamagedRecord`].
pub fn read_records(records: &[Record], committed: Seq, max_bytes: usize) -> Result<Read, DamagedRecord> {
    let mut decoded = Vec::with_capacity(records.len());
    for record in records.iter().take_while(|record| record.seq <= committed) {
        decoded.push((record.seq, Stored::decode(record)?, record.payload.len()));
    }
    Ok(batch(
        decoded.iter().map(|(seq, stored, size)| (*seq, stored, *size)),
        max_bytes,
    ))
}

fn batch<'a>(items: impl Iterator<Item = (Seq, &'a Stored, usize)>, max_bytes: usize) -> Read {
    let mut entries: Vec<LogEntry> = Vec::new();
    let mut bytes = 0;
    let mut upto = None;
    for (seq, stored, size) in items {
        let merged = entries.last_mut().is_some_and(|last| merge_entry(last, seq, stored));
        if !merged {
            if !entries.is_empty() && bytes + size > max_bytes {
                break;
            }
            entries.push(LogEntry {
                seq,
                first: None,
                run: stored.run.clone(),
                event: stored.event.clone(),
            });
            bytes += size;
        } else if let Some(content) = delta_of(&stored.event) {
            bytes += content.delta.len();
        }
        upto = Some(seq);
        if bytes >= max_bytes {
            break;
        }
    }
    upto.map_or(Read::UpToDate, |upto| Read::Entries { upto, entries })
}

/// Merges a delta into the entry before it, which then stands for `first..=seq`.
fn merge_entry(last: &mut LogEntry, seq: Seq, stored: &Stored) -> bool {
    if !merges((&last.run, &last.event), (&stored.run, &stored.event), MAX_DELTA_BYTES) {
        return false;
    }
    if let (Event::TextMessageContent(old), Event::TextMessageContent(new)) = (&mut last.event, &stored.event) {
        old.delta.push_str(&new.delta);
    }
    last.first = Some(last.first.unwrap_or(last.seq));
    last.seq = seq;
    true
}
