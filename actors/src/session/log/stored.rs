//! The stored form of an event, and the merging of text deltas: several events in one record, each still a position.

use std::borrow::Cow;

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
    /// Where the deltas end that were merged into the text of `event`, but for the last: bytes of each. A cursor that stands
    /// between two of them goes on exactly there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<u32>,
}

/// Why stored bytes could not be read as an event.
#[derive(Debug, thiserror::Error)]
#[error("record {seq} cannot be read")]
pub struct DamagedRecord {
    /// Its seq.
    pub seq: Seq,
    #[source]
    source: Option<rmp_serde::decode::Error>,
}

impl Stored {
    /// An event of its own.
    pub fn new(run: Option<RunId>, event: Event, private: Option<Value>) -> Self {
        Self {
            run,
            event,
            private,
            cuts: Vec::new(),
        }
    }

    /// Reads a record of the store.
    ///
    /// # Errors
    /// [`DamagedRecord`] when the payload is not an event of this version or an older one, or not of as many as it says.
    pub fn decode(record: &Record) -> Result<Self, DamagedRecord> {
        let damaged = |source| DamagedRecord {
            seq: record.seq,
            source,
        };
        let stored: Self = rmp_serde::from_slice(&record.payload).map_err(|source| damaged(Some(source)))?;
        if stored.merged() != record.merged || !stored.cuts_fit() {
            return Err(damaged(None));
        }
        Ok(stored)
    }

    /// How many events before its own seq it stands for too.
    pub fn merged(&self) -> u64 {
        u64::try_from(self.cuts.len()).unwrap_or(u64::MAX)
    }

    fn delta(&self) -> Option<&TextMessageContent> {
        match &self.event {
            Event::TextMessageContent(content) => Some(content),
            _ => None,
        }
    }

    /// Whether it only adds text to a message.
    pub(super) fn is_delta(&self) -> bool {
        self.delta().is_some()
    }

    /// Bytes of the text that it adds to a message.
    pub(super) fn text_bytes(&self) -> usize {
        self.delta().map_or(0, |content| content.delta.len())
    }

    /// Whether every cut lies between two characters of the text.
    fn cuts_fit(&self) -> bool {
        let Some(content) = self.delta() else {
            return self.cuts.is_empty();
        };
        let mut at = 0_usize;
        self.cuts.iter().all(|bytes| {
            at = at.saturating_add(*bytes as usize);
            content.delta.is_char_boundary(at)
        })
    }

    /// Whether `next` may be merged into it: deltas of the same message, together within [`MAX_DELTA_BYTES`].
    pub(super) fn takes(&self, next: &Self) -> bool {
        match (self.delta(), next.delta()) {
            (Some(a), Some(b)) => {
                self.run == next.run
                    && a.message_id == b.message_id
                    && a.metadata.is_none()
                    && b.metadata.is_none()
                    && next.private.is_none()
                    && a.delta.len() + b.delta.len() <= MAX_DELTA_BYTES
            }
            _ => false,
        }
    }

    /// Adds the text of `next` as if it had come with it: they are one event.
    pub(super) fn grow(&mut self, next: &Self) {
        if let (Event::TextMessageContent(old), Event::TextMessageContent(new)) = (&mut self.event, &next.event) {
            old.delta.push_str(&new.delta);
        }
    }

    /// Adds `next` as the events after it: they stay several.
    pub(super) fn merge(&mut self, next: &Self) {
        let before: usize = self.cuts.iter().map(|bytes| *bytes as usize).sum();
        let last = self.delta().map_or(0, |content| content.delta.len() - before);
        self.cuts.push(u32::try_from(last).unwrap_or(u32::MAX));
        self.cuts.extend_from_slice(&next.cuts);
        self.grow(next);
    }

    /// What of it comes after `after`, when it ends with `seq`.
    fn after(&self, seq: Seq, after: Seq) -> Cow<'_, Self> {
        let first = seq - self.merged();
        let skip = usize::try_from((after + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        if skip == 0 || skip > self.cuts.len() {
            return Cow::Borrowed(self);
        }
        let mut rest = self.clone();
        let bytes: usize = rest.cuts.drain(..skip).map(|bytes| bytes as usize).sum();
        if let Event::TextMessageContent(content) = &mut rest.event {
            content.delta.drain(..bytes.min(content.delta.len()));
        }
        Cow::Owned(rest)
    }
}

/// What a reader gets.
#[derive(Debug, Clone, PartialEq)]
pub enum Read {
    /// There is nothing after the cursor that may be shown.
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

/// Reads a batch of what comes after `after` from records of the store; those that end after `committed` are left out.
///
/// # Errors
/// [`DamagedRecord`].
pub fn read_records(records: &[Record], after: Seq, committed: Seq, max_bytes: usize) -> Result<Read, DamagedRecord> {
    let mut decoded = Vec::with_capacity(records.len());
    for record in records.iter().take_while(|record| record.seq <= committed) {
        decoded.push((record.seq, Stored::decode(record)?, record.payload.len()));
    }
    let items = decoded.iter().map(|(seq, stored, size)| (*seq, stored, *size));
    Ok(batch(items, after, max_bytes))
}

/// Puts a batch together from items in order, each with its (last) seq and its size; the first may begin before `after`.
pub(super) fn batch<'a>(items: impl Iterator<Item = (Seq, &'a Stored, usize)>, after: Seq, max_bytes: usize) -> Read {
    let mut batch = Batch::default();
    for (seq, stored, size) in items {
        if !batch.add(seq, &stored.after(seq, after), size, max_bytes) {
            break;
        }
    }
    batch.upto.map_or(Read::UpToDate, |upto| Read::Entries {
        upto,
        entries: batch.entries,
    })
}

#[derive(Default)]
struct Batch {
    entries: Vec<LogEntry>,
    bytes: usize,
    upto: Option<Seq>,
}

impl Batch {
    /// Adds an item; false when the batch is full, with or without it.
    fn add(&mut self, seq: Seq, stored: &Stored, size: usize, max_bytes: usize) -> bool {
        if self.merge_into_last(seq, stored) {
            self.bytes += stored.text_bytes();
        } else {
            if !self.entries.is_empty() && self.bytes + size > max_bytes {
                return false;
            }
            self.entries.push(LogEntry {
                seq,
                first: (stored.merged() > 0).then(|| seq - stored.merged()),
                run: stored.run.clone(),
                event: stored.event.clone(),
            });
            self.bytes += size;
        }
        self.upto = Some(seq);
        self.bytes < max_bytes
    }

    /// Merges a delta into the entry before it, which then stands for `first..=seq`.
    fn merge_into_last(&mut self, seq: Seq, stored: &Stored) -> bool {
        let (Some(last), Some(new)) = (self.entries.last_mut(), stored.delta()) else {
            return false;
        };
        let Event::TextMessageContent(old) = &mut last.event else {
            return false;
        };
        let fits = last.run == stored.run
            && old.message_id == new.message_id
            && old.metadata.is_none()
            && new.metadata.is_none()
            && old.delta.len() + new.delta.len() <= MAX_DELTA_BYTES;
        if fits {
            old.delta.push_str(&new.delta);
            last.first = Some(last.first.unwrap_or(last.seq));
            last.seq = seq;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use kronos_protocol::ids::MessageId;

    use super::*;

    fn delta(text: &str) -> Stored {
        let content = TextMessageContent::new(MessageId::from_trusted("a".to_owned()), text.to_owned());
        Stored::new(Some("r".parse().unwrap()), content.into(), None)
    }

    #[test]
    fn a_merged_record_is_cut_exactly_where_a_cursor_stands() {
        let pieces = ["Grü", "ezi", " ", "mit", "enand"];
        let mut merged = delta(pieces[0]);
        let mut rest = delta(pieces[3]);
        rest.merge(&delta(pieces[4]));
        for piece in &pieces[1..3] {
            merged.merge(&delta(piece));
        }
        merged.merge(&rest);
        assert_eq!(merged.cuts, [4, 3, 1, 3]);
        let seq = 14;
        let record = Record {
            seq,
            payload: rmp_serde::to_vec_named(&merged).unwrap().into(),
            merged: 4,
        };
        assert_eq!(Stored::decode(&record).unwrap(), merged);
        assert!(
            Stored::decode(&Record {
                merged: 3,
                ..record.clone()
            })
            .is_err(),
            "it stands for another number of events"
        );
        for (skip, after) in (9..14).enumerate() {
            let read = read_records(std::slice::from_ref(&record), after, seq, 8192).unwrap();
            let Read::Entries { upto, entries } = read else {
                panic!("{read:?}")
            };
            let [entry] = entries.as_slice() else {
                panic!("{entries:?}")
            };
            let Event::TextMessageContent(content) = &entry.event else {
                panic!("{entry:?}")
            };
            assert_eq!(content.delta, pieces[skip..].concat());
            assert_eq!((upto, entry.first_seq(), entry.seq), (seq, after + 1, seq));
        }
    }

    #[test]
    fn cuts_that_do_not_fit_the_text_are_damage() {
        let mut bad = delta("ä");
        bad.cuts = vec![1];
        let record = Record {
            seq: 2,
            payload: rmp_serde::to_vec_named(&bad).unwrap().into(),
            merged: 1,
        };
        assert!(Stored::decode(&record).is_err());
    }
}
