//! Opens the tree and reads back what the memory of the store needs: the write-ahead batches that are left, only those.

use std::{collections::HashMap, panic::AssertUnwindSafe, time::Duration};

use kronos_protocol::ids::SessionId;

use super::{
    codec,
    disk::{Disk, SCHEMA_VERSION, check_version},
    graves::Graves,
    read::packed_upto,
    state::{NewBatch, State, Tail},
    value::{self, SEGMENT_BYTES, corrupt, failed},
};
use crate::store::{StoreError, keys, order::follows};

/// Smallest page cache: below it sled evicts what it is working on.
const MIN_CACHE_BYTES: u64 = 1024 * 1024;
/// How often sled writes by itself; the same thread moves pages out of sparse segments, so it must run.
const BACKGROUND_FLUSH_MS: u64 = 500;

/// The number of the first batch: 0 is the tip of a store without commits.
const FIRST_BATCH: u64 = 1;

/// How often a locked store is tried again, and the pause between: a `Db` of this process that was just dropped keeps its
/// lock until sled's own threads have let go of it.
const LOCK_TRIES: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(error) if error.to_string().contains("could not acquire lock"))
}

/// Opens sled's files, as soon as they are not locked any more, or not at all.
fn unlocked(config: &sled::Config) -> std::thread::Result<sled::Result<sled::Db>> {
    let mut tries = 0;
    loop {
        // Recovery asserts what a damaged file breaks.
        let opened = std::panic::catch_unwind(AssertUnwindSafe(|| config.open()));
        match &opened {
            Ok(Err(error)) if is_locked(error) && tries < LOCK_TRIES => tries += 1,
            _ => return opened,
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// Opens sled's files; refuses a store that is locked, damaged or newer, and makes a new one when there is none.
pub(super) fn open(disk: &Disk, cache_bytes: u64) -> Result<sled::Db, StoreError> {
    let marked = disk.prepare()?;
    let config = sled::Config::new()
        .path(&disk.path)
        .cache_capacity(cache_bytes.max(MIN_CACHE_BYTES))
        .segment_size(SEGMENT_BYTES)
        .mode(sled::Mode::LowSpace)
        .flush_every_ms(Some(BACKGROUND_FLUSH_MS));
    let opened = unlocked(&config);
    let damaged = |what: &str| StoreError::Corrupt {
        at: disk.path.display().to_string(),
        what: what.to_owned(),
    };
    let db = match opened {
        Err(_panic) => return Err(damaged("the file cannot be recovered")),
        Ok(Err(error)) if is_locked(&error) => {
            return Err(StoreError::Locked {
                path: disk.path.display().to_string(),
            });
        }
        Ok(Err(sled::Error::Unsupported(what) | sled::Error::ReportableBug(what))) => return Err(damaged(&what)),
        Ok(opened) => opened.map_err(failed)?,
    };
    let stored = match db.get(keys::SCHEMA).map_err(failed)? {
        Some(version) => Some(check_version(read_schema(&version)?)?),
        None if marked.is_some() || !db.is_empty() => return Err(damaged("its schema version is gone")),
        None => None,
    };
    // Whatever version 1 holds is a valid version 2: only its number is to be rewritten.
    if stored != Some(SCHEMA_VERSION) {
        db.insert(keys::SCHEMA, schema(SCHEMA_VERSION)).map_err(failed)?;
    }
    disk.sync_folders()?;
    db.flush().map_err(failed)?;
    disk.sync(&disk.data()?).map_err(super::disk::failed)?;
    if marked != Some(SCHEMA_VERSION) {
        disk.mark()?;
    }
    Ok(db)
}

fn schema(version: u32) -> Vec<u8> {
    let version = version.to_be_bytes();
    [version, crc32fast::hash(&version).to_be_bytes()].concat()
}

fn read_schema(value: &[u8]) -> Result<u32, StoreError> {
    let version = value.first_chunk::<4>().map(|version| u32::from_be_bytes(*version));
    version
        .filter(|version| schema(*version) == value)
        .ok_or_else(|| corrupt(keys::SCHEMA, "its checksum does not fit"))
}

/// Reads the write-ahead batches that are left.
pub(super) fn recover(db: &sled::Db) -> Result<State, StoreError> {
    let mut state = State {
        next_batch: FIRST_BATCH,
        graves: Graves::read(db)?,
        ..State::default()
    };
    let mut tails: HashMap<SessionId, Tail> = HashMap::new();
    for batch in value::values(db.scan_prefix(keys::BATCHES)) {
        let batch = batch?;
        let at = batch.base.as_slice();
        let number = keys::batch_number(at).ok_or_else(|| corrupt(at, "not the key of a batch"))?;
        let mut sessions = Vec::new();
        for entry in codec::entries(at, &batch.body)? {
            let session = entry.session(at)?;
            if state.graves.covers(&session, number) {
                continue;
            }
            let tail = match tails.entry(session.clone()) {
                std::collections::hash_map::Entry::Occupied(tail) => tail.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => {
                    let packed_upto = packed_upto(db, &session)?;
                    place.insert(Tail {
                        last: packed_upto,
                        packed_upto,
                        ..Tail::default()
                    })
                }
            };
            let records = entry.records(at)?;
            let unpacked = records.into_iter().skip_while(|record| record.seq <= tail.packed_upto);
            let before = tail.last;
            for record in unpacked {
                if !follows(tail.last, &record) {
                    return Err(corrupt(at, "records of a session before it are missing"));
                }
                tail.last = record.seq;
                tail.recovered.push(record);
            }
            if tail.last > before {
                sessions.push((session, tail.last));
            }
        }
        state.add(NewBatch {
            number,
            parts: batch.parts,
            sessions,
        });
    }
    for (session, mut tail) in tails.into_iter().filter(|(_, tail)| tail.last > tail.packed_upto) {
        tail.batches = state
            .tails
            .remove(&session)
            .map(|tail| tail.batches)
            .unwrap_or_default();
        state.tails.insert(session, tail);
    }
    Ok(state)
}
