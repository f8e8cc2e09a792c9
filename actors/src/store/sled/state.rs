//! What the store keeps in memory: which sessions have records outside segments, and which write-ahead batches hold them.
//!
//! Always equal to what is durable: a commit plans a [`Change`] and applies it after its sync.

use std::collections::{BTreeMap, HashMap, VecDeque};

use kronos_protocol::{ids::SessionId, position::Seq};

use super::{graves::Graves, wal::Place};
use crate::store::Record;

/// Where a write-ahead batch lies.
#[derive(Debug, Clone)]
pub(super) enum Spot {
    /// In the tree, in so many parts: it came with other rows.
    Rows(u16),
    /// In a file of batches.
    File(Place),
}

/// What a batch holds of one session.
#[derive(Debug, Clone)]
pub(super) struct Held {
    pub(super) number: u64,
    /// The last seq of the session in it.
    pub(super) last: Seq,
    pub(super) spot: Spot,
}

/// A session with records outside segments.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    pub(super) last: Seq,
    pub(super) packed_upto: Seq,
    /// The batches that hold records after `packed_upto`, ascending.
    pub(super) batches: VecDeque<Held>,
    /// Records that were read from batches at opening and are not packed yet: a prefix of what `batches` hold.
    pub(super) recovered: Vec<Record>,
}

impl Tail {
    /// The numbers of its batches, which tell whether a commit has moved anything.
    pub(super) fn numbers(&self) -> Vec<u64> {
        self.batches.iter().map(|held| held.number).collect()
    }

    /// Forgets what is in segments now; returns the batches that this session needs no longer.
    fn pack(&mut self, upto: Seq) -> Vec<u64> {
        self.packed_upto = upto;
        self.recovered
            .drain(..self.recovered.partition_point(|record| record.seq <= upto));
        let passed = self.batches.partition_point(|held| held.last <= upto);
        self.batches.drain(..passed).map(|held| held.number).collect()
    }
}

/// One write-ahead batch that is needed.
#[derive(Debug, Clone)]
pub(super) struct Needed {
    /// Sessions that have records in it outside segments.
    pub(super) sessions: usize,
    pub(super) spot: Spot,
}

/// The memory of the store.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) tails: HashMap<SessionId, Tail>,
    pub(super) next_batch: u64,
    pub(super) batches: BTreeMap<u64, Needed>,
    /// Batches in the tree that no session needs, with their parts: a later commit deletes them.
    pub(super) dead: BTreeMap<u64, u16>,
    /// The number of the newest batch in the tree.
    pub(super) newest_row: u64,
    /// The files of batches, by their first number, with the number of their batches that are needed.
    pub(super) files: BTreeMap<u64, usize>,
    /// The number of the last batch in a file that the tree tells.
    pub(super) told: u64,
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
    /// Not known before it is written to a file.
    pub(super) spot: Option<Spot>,
    /// The sessions with records outside segments in it, each with the last seq of them.
    pub(super) sessions: Vec<(SessionId, Seq)>,
}

/// What a commit does to the memory once it is durable.
#[derive(Debug, Default)]
pub(super) struct Change {
    pub(super) sessions: HashMap<SessionId, Standing>,
    pub(super) batch: Option<NewBatch>,
    /// What the tree tells about the files now, if that changed.
    pub(super) told: Option<u64>,
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
        self.told = change.told.unwrap_or(self.told);
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

    pub(super) fn add(&mut self, NewBatch { number, spot, sessions }: NewBatch) {
        self.next_batch = self.next_batch.max(number.saturating_add(1));
        let Some(spot) = spot else { return };
        match &spot {
            Spot::Rows(_) => self.newest_row = self.newest_row.max(number),
            Spot::File(place) => *self.files.entry(place.file()).or_default() += 1,
        }
        for (session, last) in &sessions {
            self.tails.entry(session.clone()).or_default().batches.push_back(Held {
                number,
                last: *last,
                spot: spot.clone(),
            });
        }
        let sessions = sessions.len();
        self.batches.insert(number, Needed { sessions, spot });
        if sessions == 0 {
            self.forget(number);
        }
    }

    /// Returns dead batches to delete, but never the newest one: its number tells up to where sled's file is whole.
    pub(super) fn deletable(&self) -> impl Iterator<Item = (u64, u16)> {
        self.dead
            .range(..self.newest_row)
            .map(|(number, parts)| (*number, *parts))
    }

    /// Returns the files that nobody needs, but never the newest one, for the same reason.
    pub(super) fn removable(&self) -> Vec<u64> {
        let newest = self.files.last_key_value().map(|(first, _)| *first);
        let unneeded = self.files.iter().filter(|(_, needed)| **needed == 0);
        unneeded
            .map(|(first, _)| *first)
            .filter(|first| Some(*first) != newest)
            .collect()
    }

    fn bury(&mut self, session: SessionId, number: u64, unswept: bool) {
        let held = self.tails.remove(&session).map(|tail| tail.batches);
        for held in held.unwrap_or_default() {
            self.release(held.number);
        }
        self.graves.add(session, number, unswept);
    }

    /// Returns the number of the oldest batch that is stored, needed or not.
    pub(super) fn oldest_batch(&self) -> u64 {
        let needed = self.batches.first_key_value().map(|(number, _)| *number);
        let dead = self.dead.first_key_value().map(|(number, _)| *number);
        let filed = self.files.first_key_value().map(|(number, _)| *number);
        needed.into_iter().chain(dead).chain(filed).min().unwrap_or(0)
    }

    fn release(&mut self, number: u64) {
        let Some(row) = self.batches.get_mut(&number) else {
            return;
        };
        row.sessions = row.sessions.saturating_sub(1);
        if row.sessions == 0 {
            self.forget(number);
        }
    }

    fn forget(&mut self, number: u64) {
        match self.batches.remove(&number).map(|needed| needed.spot) {
            Some(Spot::Rows(parts)) => drop(self.dead.insert(number, parts)),
            Some(Spot::File(place)) => {
                if let Some(needed) = self.files.get_mut(&place.file()) {
                    *needed = needed.saturating_sub(1);
                }
            }
            None => {}
        }
    }
}
