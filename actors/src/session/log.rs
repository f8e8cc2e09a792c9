//! The log of one live session: numbering, merging, the commit watermark, the tail in memory, reading from a cursor.
//!
//! Pure: no actix, IO, clock or randomness. What an event means is `state.rs`; what to append is `core.rs`.

use std::collections::VecDeque;

use bytes::Bytes;
use kronos_protocol::position::Seq;

use crate::{config::Durability, store::Record};

mod stored;

pub use self::stored::{DamagedRecord, MAX_DELTA_BYTES, Read, Stored, read_records};

/// What an event takes beside its text, about.
const EVENT_BYTES: usize = 256;

/// Events at the end of the tail that are looked at before the rest is searched.
const NEWEST: usize = 4;
/// Bytes that a stored event takes, mostly: where they are written, and what room is kept for the next.
const RECORD_BYTES: usize = 512;

#[derive(Debug, Clone)]
struct Kept {
    /// Of the last event that it stands for.
    seq: Seq,
    /// Apart: hundreds of bytes, that would be moved whenever the tail grows, and lie between the seqs that are searched.
    stored: Box<Stored>,
    /// The encoded form until it is packed; then empty.
    payload: Bytes,
    size: usize,
}

/// The log of a live session.
#[derive(Debug)]
pub struct Log {
    /// Not handed to the store yet; the last one may still grow while nobody has seen it.
    pending: Vec<Kept>,
    /// Handed to the store, newest last. Everything that is not packed is here.
    tail: VecDeque<Kept>,
    tail_bytes: usize,
    /// Of those, bytes that are not packed: asked at every commit, so it is counted, not summed.
    unpacked_bytes: usize,
    next: Seq,
    /// Events up to here do not grow any more.
    sealed: Seq,
    committed: Seq,
    /// What readers may see: with [`Durability::Relaxed`] text may be shown before its commit.
    visible: Seq,
    packed: Seq,
    budget: usize,
    durability: Durability,
}

impl Log {
    /// An empty log; `budget` is the size of the tail in bytes.
    pub fn new(budget: usize, durability: Durability) -> Self {
        Self {
            pending: Vec::new(),
            tail: VecDeque::new(),
            tail_bytes: 0,
            unpacked_bytes: 0,
            next: 1,
            sealed: 0,
            committed: 0,
            visible: 0,
            packed: 0,
            budget,
            durability,
        }
    }

    /// Takes a committed record while the session is folded, in order; those up to `packed_upto` live in segments.
    pub fn restore(&mut self, record: Record, stored: Stored, packed_upto: Seq) {
        let size = record.payload.len();
        let packed = record.seq <= packed_upto;
        let payload = if packed { Bytes::new() } else { record.payload };
        self.next = record.seq + 1;
        self.committed = record.seq;
        self.visible = record.seq;
        self.packed = packed_upto.min(record.seq);
        self.tail_bytes += size;
        self.unpacked_bytes += if packed { 0 } else { size };
        self.tail.push_back(Kept {
            seq: record.seq,
            stored: Box::new(stored),
            payload,
            size,
        });
        self.trim();
    }

    /// The pending delta that `stored` merges into as one event.
    fn grows(&self, stored: &Stored) -> Option<&Kept> {
        let last = self.pending.last()?;
        let told = self.visible.max(self.sealed);
        (last.seq > told && last.stored.takes(stored)).then_some(last)
    }

    /// Keeps the newest event as it is: a reader that was told all of it goes on after its seq, where what was merged into it
    /// later would be missing.
    pub fn seal(&mut self) {
        self.sealed = self.last();
    }

    /// The seq that an event will have: its own, or that of the last pending delta when it merges into it.
    pub fn seq_for(&self, stored: &Stored) -> Seq {
        self.grows(stored).map_or(self.next, |last| last.seq)
    }

    /// Appends an event; a delta merges into the pending one before it. [`Log::seq_for`] says where it went.
    pub fn push(&mut self, stored: Stored) {
        if self.grows(&stored).is_some()
            && let Some(last) = self.pending.last_mut()
        {
            return last.stored.grow(&stored);
        }
        let early = self.durability == Durability::Relaxed && stored.is_delta() && self.visible + 1 == self.next;
        self.pending.push(Kept {
            seq: self.next,
            stored: Box::new(stored),
            payload: Bytes::new(),
            size: 0,
        });
        if early {
            self.visible = self.next;
        }
        self.next += 1;
    }

    /// The seq of the newest event, committed or not.
    pub fn last(&self) -> Seq {
        self.next - 1
    }

    /// Everything up to here is durable.
    pub fn committed(&self) -> Seq {
        self.committed
    }

    /// The watermark: readers may see up to here.
    pub fn visible(&self) -> Seq {
        self.visible
    }

    /// The last record that lives in a segment.
    pub fn packed(&self) -> Seq {
        self.packed
    }

    /// Something waits for a commit.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Everything that waits for a commit has been shown already.
    pub fn pending_is_shown(&self) -> bool {
        self.visible == self.last()
    }

    /// Encodes what waits and hands it over; it is in flight until [`Log::commit`].
    ///
    /// # Errors
    /// When an event cannot be encoded, which no event of ours is.
    pub fn take_batch(&mut self) -> Result<Vec<Record>, rmp_serde::encode::Error> {
        let mut records = Vec::with_capacity(self.pending.len());
        // Written once in a place that is large enough, then taken as long as it is: the tail keeps it.
        let mut written = Vec::with_capacity(RECORD_BYTES);
        for mut kept in self.pending.drain(..) {
            written.clear();
            rmp_serde::encode::write_named(&mut written, &*kept.stored)?;
            kept.payload = Bytes::copy_from_slice(&written);
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
        self.visible = self.visible.max(self.committed);
        if self.durability == Durability::Relaxed {
            let shown = self.visible;
            let from = self.tail.partition_point(|kept| kept.seq <= shown);
            let pending = self.pending.iter().skip_while(|kept| kept.seq <= shown);
            let rest = self.tail.range(from..).chain(pending);
            let more = rest.take_while(|kept| kept.stored.is_delta()).last();
            self.visible = more.map_or(shown, |kept| kept.seq);
        }
        self.trim();
    }

    /// All handed records that are not packed yet, for the store's segments, the deltas of a message merged.
    ///
    /// # Errors
    /// As [`Log::take_batch`].
    pub fn unpacked(&self) -> Result<Vec<Record>, rmp_serde::encode::Error> {
        let from = self.tail.partition_point(|kept| kept.seq <= self.packed);
        let record = |run: Run| {
            let merged = run.stored.merged();
            let payload = match run.payload {
                Some(payload) => payload,
                None => Bytes::from(rmp_serde::to_vec_named(&run.stored)?),
            };
            Ok(Record {
                seq: run.seq,
                payload,
                merged,
            })
        };
        runs(self.tail.range(from..)).map(record).collect()
    }

    /// About the bytes of the next batch, with what is not packed yet if that goes with it.
    pub fn waiting_bytes(&self, pack: bool) -> usize {
        let pending: usize = self
            .pending
            .iter()
            .map(|kept| kept.stored.text_bytes() + EVENT_BYTES)
            .sum();
        if pack {
            2 * pending + self.unpacked_bytes
        } else {
            pending
        }
    }

    /// Bytes of what is in memory.
    pub fn tail_bytes(&self) -> usize {
        self.tail_bytes
    }

    /// Bytes of what is not packed yet, before deltas merge.
    pub fn unpacked_bytes(&self) -> usize {
        self.unpacked_bytes
    }

    /// The store holds everything up to `upto` in segments.
    pub fn mark_packed(&mut self, upto: Seq) {
        let from = self.tail.partition_point(|kept| kept.seq <= self.packed);
        let to = self.tail.partition_point(|kept| kept.seq <= upto);
        if from < to {
            let after = self.tail.split_off(to);
            let now_packed: Vec<Kept> = self.tail.drain(from..).collect();
            for run in runs(now_packed.iter()) {
                self.unpacked_bytes -= run.size;
                self.tail_bytes = self.tail_bytes + run.merged_size - run.size;
                self.tail.push_back(Kept {
                    seq: run.seq,
                    stored: Box::new(run.stored),
                    payload: Bytes::new(),
                    size: run.merged_size,
                });
            }
            self.tail.extend(after);
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

    /// The place in the tail of what comes after `after`. Looked for at the end first: most readers miss only the newest.
    fn place_after(&self, after: Seq) -> usize {
        let newest = self.tail.iter().rev().take(NEWEST);
        let missed = newest.take_while(|kept| kept.seq > after).count();
        if missed < NEWEST {
            self.tail.len() - missed
        } else {
            self.tail.partition_point(|kept| kept.seq <= after)
        }
    }

    /// Reads what may be shown after `after`, at most about `max_bytes` of it (one larger event comes alone).
    pub fn read(&self, after: Seq, max_bytes: usize) -> Read {
        if after >= self.visible {
            return Read::UpToDate;
        }
        let front = self.tail.front().or(self.pending.first());
        if front.is_none_or(|kept| after + 1 < kept.seq - kept.stored.merged()) {
            return Read::Behind;
        }
        let items = self
            .tail
            .range(self.place_after(after)..)
            .chain(&self.pending)
            .skip_while(|kept| kept.seq <= after)
            .take_while(|kept| kept.seq <= self.visible)
            .map(|kept| (kept.seq, &*kept.stored, kept.size));
        stored::batch(items, after, max_bytes)
    }
}

/// Neighbouring records that become one when they are packed.
struct Run {
    /// Of the last of them.
    seq: Seq,
    stored: Stored,
    /// The encoded form, of a record that stays as it is.
    payload: Option<Bytes>,
    /// Bytes of the records.
    size: usize,
    /// About the bytes of the one: the first with its frame, of the others the text.
    merged_size: usize,
}

/// Merges the deltas of each message.
fn runs<'a>(kept: impl Iterator<Item = &'a Kept>) -> impl Iterator<Item = Run> {
    let mut rest = kept.peekable();
    std::iter::from_fn(move || {
        let first = rest.next()?;
        let mut run = Run {
            seq: first.seq,
            stored: (*first.stored).clone(),
            payload: Some(first.payload.clone()),
            size: first.size,
            merged_size: first.size,
        };
        while let Some(next) = rest.next_if(|next| run.stored.takes(&next.stored)) {
            run.stored.merge(&next.stored);
            run.seq = next.seq;
            run.payload = None;
            run.size += next.size;
            run.merged_size += next.stored.text_bytes();
        }
        Some(run)
    })
}
