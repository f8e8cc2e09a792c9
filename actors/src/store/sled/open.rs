//! Opens the tree and reads back what the memory of the store needs: the write-ahead batches that are left, only those.

use std::{
    collections::{BTreeMap, HashMap},
    panic::AssertUnwindSafe,
    time::Duration,
};

use kronos_protocol::ids::SessionId;

use super::{
    codec,
    disk::{Disk, SCHEMA_VERSION, check_version},
    graves::Graves,
    read::{self, packed_upto},
    state::{NewBatch, Spot, State, Tail},
    value::{self, SEGMENT_BYTES, corrupt, failed},
    wal::Found,
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
    // Whatever versions 1 and 2 hold is valid in version 3: only their number is to be rewritten.
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

/// Finds all batches, and checks that neither the tree nor the files have lost their end.
fn batches(db: &sled::Db, found: &Found) -> Result<BTreeMap<u64, Spot>, StoreError> {
    let mut batches = BTreeMap::new();
    for row in db.scan_prefix(keys::BATCHES) {
        let (key, first) = row.map_err(failed)?;
        let (base, part) = keys::split_part(&key).ok_or_else(|| corrupt(&key, "a key without a part"))?;
        let number = keys::batch_number(base).ok_or_else(|| corrupt(&key, "not the key of a batch"))?;
        if part == 0 {
            batches.insert(number, Spot::Rows(value::parts(&key, &first)?));
        } else if !batches.contains_key(&number) {
            return Err(corrupt(&key, "its first part is missing"));
        }
    }
    let newest = batches.last_key_value().map_or(0, |(number, _)| *number);
    let lost = |at: &str, made: u64, ends: u64| StoreError::Corrupt {
        at: at.to_owned(),
        what: format!("commit {made} was made, it ends with {ends}"),
    };
    if newest < found.elsewhere {
        return Err(lost("the end of the log", found.elsewhere, newest));
    }
    let told = told(db)?;
    if found.wal.last() < told {
        return Err(lost("the end of the files of batches", told, found.wal.last()));
    }
    for (number, place) in &found.batches {
        if batches.insert(*number, Spot::File(place.clone())).is_some() {
            return Err(corrupt(&keys::batch(*number), "it is in a file, too"));
        }
    }
    Ok(batches)
}

/// Reads which batch in a file was the last when the tree was last written.
fn told(db: &sled::Db) -> Result<u64, StoreError> {
    let Some(value) = value::get(db, keys::LAST_FILE)? else {
        return Ok(0);
    };
    let number = <[u8; 8]>::try_from(value.body.as_slice()).ok();
    number
        .map(u64::from_be_bytes)
        .ok_or_else(|| corrupt(keys::LAST_FILE, "not a number"))
}

/// Reads the write-ahead batches that are left.
pub(super) fn recover(db: &sled::Db, found: &Found) -> Result<State, StoreError> {
    let mut state = State {
        next_batch: FIRST_BATCH.max(found.wal.last() + 1),
        graves: Graves::read(db)?,
        files: found.files.iter().map(|first| (*first, 0)).collect(),
        told: told(db)?,
        ..State::default()
    };
    let mut tails: HashMap<SessionId, Tail> = HashMap::new();
    for (number, spot) in batches(db, found)? {
        let base = keys::batch(number);
        let at = base.as_slice();
        let body = read::batch(db, number, &spot)?.ok_or_else(|| corrupt(at, "it is missing"))?;
        let mut sessions = Vec::new();
        for entry in codec::entries(at, &body)? {
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
            spot: Some(spot),
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
