//! What the store keeps in memory: which sessions have records outside segments, and which write-ahead batches hold them.
//!
//! Always equal to what is durable: a commit plans a [`Change`] and applies it after its sync.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kronos_protocol::{ids::SessionId, position::Seq};

use super::graves::Graves;
use crate::store::Record;

/// A session with records outside segments.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    pub(super) last: Seq,
    pub(super) packed_upto: Seq,
    /// The batches that hold records after `packed_upto`, ascending: number, last seq of the session in it.
    pub(super) batches: VecDeque<(u64, Seq)>,
    /// Records that were read from batches at opening and are not packed yet: a prefix of what `batches` hold.
    pub(super) recovered: Vec<Record>,
}

impl Tail {
    /// Forgets what is in segments now; returns the batches that this session needs no longer.
    fn pack(&mut self, upto: Seq) -> Vec<u64> {
        self.packed_upto = upto;
        self.recovered
            .drain(..self.recovered.partition_point(|record| record.seq <= upto));
        let passed = self.batches.partition_point(|(_, last)| *last <= upto);
        self.batches.drain(..passed).map(|(number, _)| number).collect()
    }
}

/// One write-ahead batch in the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    /// Sessions that have records in it outside segments.
    pub(super) sessions: usize,
    pub(super) parts: u16,
}

/// The memory of the store.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tails: HashMap<SessionId, Tail>,
    pub(super) next_batch: u64,
    pub(super) batches: BTreeMap<u64, Row>,
    /// Batches that no session needs, with their parts: a later commit deletes them.
    pub(super) dead: BTreeMap<u64, u16>,
    pub(super) graves: Graves,
}

/// Where a session stands after a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) last: Seq,
    pub(super) packed_upto: Seq,
}

/// A write-ahead batch as it comes into the memory.
#[derive(Debug)]
pub(super) struct NewBatch {
    pub(super) number: u64,
    pub(super) parts: u16,
    /// The sessions with records outside segments in it, each with the last seq of them.
    pub(super) sessions: Vec<(SessionId, Seq)>,
}

/// What a commit does to the memory once it is durable.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) sessions: HashMap<SessionId, Standing>,
    pub(super) batch: Option<NewBatch>,
    /// The dead batches that were deleted.
    pub(super) deleted: Vec<u64>,
    /// The sessions that were deleted, each with the number for its grave and whether it has segments to sweep.
    pub(super) buried: Vec<(SessionId, u64, bool)>,
    /// The graves whose last segments were deleted.
    pub(super) swept: Vec<SessionId>,
    /// The graves that were removed.
    pub(super) forgotten: Vec<SessionId>,
}

impl State {
    pub(super) fn apply(&mut self, change: Change) {
        for number in &change.deleted {
            self.dead.remove(number);
        }
        if let Some(batch) = change.batch {
            self.add(batch);
        }
        for session in &change.swept {
            self.graves.swept(session);
        }
        for session in &change.forgotten {
            self.graves.remove(session);
        }
        for (session, number, unswept) in change.buried {
            self.bury(session, number, unswept);
        }
        for (session, standing) in change.sessions {
            let Some(tail) = self.tails.get_mut(&session) else {
                continue;
            };
            tail.last = standing.last;
            let passed = if standing.packed_upto > tail.packed_upto {
                tail.pack(standing.packed_upto)
            } else {
                Vec::new()
            };
            if tail.packed_upto == tail.last {
                self.tails.remove(&session);
            }
            for number in passed {
                self.release(number);
            }
        }
    }

    pub(super) fn add(
        &mut self,
        NewBatch {
            number,
            parts,
            sessions,
        }: NewBatch,
    ) {
        self.next_batch = self.next_batch.max(number.saturating_add(1));
        if sessions.is_empty() {
            self.dead.insert(number, parts);
            return;
        }
        self.batches.insert(
            number,
            Row {
                sessions: sessions.len(),
                parts,
            },
        );
        for (session, last) in sessions {
            self.tails.entry(session).or_default().batches.push_back((number, last));
        }
    }

    /// Returns dead batches to delete, but never the newest one: its number tells up to where the file is whole.
    pub(super) fn deletable(&self) -> impl Iterator<Item = (u64, u16)> {
        self.dead
            .range(..self.next_batch.saturating_sub(1))
            .map(|(number, parts)| (*number, *parts))
    }

    fn bury(&mut self, session: SessionId, number: u64, unswept: bool) {
        let held = self.tails.remove(&session).map(|tail| tail.batches);
        for (number, _) in held.unwrap_or_default() {
            self.release(number);
        }
        self.graves.add(session, number, unswept);
    }

    /// Returns the number of the oldest batch in the tree.
    pub(super) fn oldest_batch(&self) -> u64 {
        let live = self.batches.first_key_value().map(|(number, _)| *number);
        let dead = self.dead.first_key_value().map(|(number, _)| *number);
        live.into_iter().chain(dead).min().unwrap_or(0)
    }

    fn release(&mut self, number: u64) {
        let Some(row) = self.batches.get_mut(&number) else {
            return;
        };
        row.sessions = row.sessions.saturating_sub(1);
        if row.sessions == 0 {
            self.dead.insert(number, row.parts);
            self.batches.remove(&number);
        }
    }
}
