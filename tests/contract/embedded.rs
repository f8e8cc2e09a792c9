//! What only a store with a file promises: to be the same after reopening, to stay small, to open fast.

use std::{fs, path::Path};

use bytes::Bytes;
use kronos_actors::clock::Clock;
use kronos_actors::store::{Expect, Record, Request, SessionStore, StoreError, StoredSession, keys, sled::SledStore};

use crate::fixtures::{
    CACHE_BYTES, append, append_records, begin, delete, document, documents, meta, one, pack, pack_records, record,
    records, seqs, session, with_meta,
};

pub(crate) fn open(folder: &Path) -> SledStore {
    SledStore::open(folder, CACHE_BYTES).unwrap()
}

/// Opens the files without Kronos, as Kronos opens them.
pub(crate) fn raw(folder: &Path) -> sled::Db {
    let config = sled::Config::new().path(folder).segment_size(1024 * 1024);
    // A store that was just dropped keeps its lock until sled's own threads have let go of it.
    for _ in 0..500 {
        match config.open() {
            Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
            opened => return opened.unwrap(),
        }
    }
    panic!("the store stays locked");
}

/// Lets a last commit delete what it may, closes the store and counts the batches that are left.
fn batches_after(store: SledStore, folder: &Path) -> usize {
    store.commit(&[]).unwrap();
    drop(store);
    raw(folder).scan_prefix(keys::BATCHES).count()
}

fn sessions(store: &SledStore, ids: &[&str]) -> Vec<Option<StoredSession>> {
    ids.iter().map(|id| store.load(&session(id)).unwrap()).collect()
}

#[test]
fn a_reopened_store_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for id in ["a", "a1", "b", "packed", "empty"] {
        begin(&store, id, if id == "empty" { 0 } else { 5 });
    }
    one(&store, pack("a", 1..=2)).unwrap();
    one(
        &store,
        Request {
            unfinished: Some(true),
            ..append("a", 6..=9)
        },
    )
    .unwrap();
    one(&store, pack("a", 3..=7)).unwrap();
    one(&store, pack("packed", 1..=5)).unwrap();
    one(&store, documents(vec![document("k", Some("v"), Expect::Any)])).unwrap();
    let ids = ["a", "a1", "b", "packed", "empty", "none"];
    let before = (
        sessions(&store, &ids),
        store.list(None, None, 99).unwrap(),
        store.unfinished().unwrap(),
    );
    drop(store);
    for _ in 0..3 {
        let store = open(folder.path());
        let after = (
            sessions(&store, &ids),
            store.list(None, None, 99).unwrap(),
            store.unfinished().unwrap(),
        );
        assert_eq!(after, before);
        assert_eq!(store.document("user", "k").unwrap().unwrap(), "v");
        assert_eq!(store.read(&session("a"), 6, 80).unwrap(), records("a", 7..=8));
        assert!(one(&store, append("a", 9..=9)).is_err());
    }
}

#[test]
fn a_session_goes_on_after_reopening() {
    let folder = tempfile::tempdir().unwrap();
    for turn in 0..6 {
        let store = open(folder.path());
        if turn == 0 {
            begin(&store, "a", 0);
        }
        let first = turn * 10 + 1;
        one(&store, append("a", first..=first + 4)).unwrap();
        drop(store);
        let store = open(folder.path());
        one(&store, append("a", first + 5..=first + 9)).unwrap();
        if turn % 2 == 1 {
            let packed_upto = store.load(&session("a")).unwrap().unwrap().packed_upto;
            one(&store, pack("a", packed_upto + 1..=first + 7)).unwrap();
        }
        assert_eq!(
            store.load(&session("a")).unwrap().unwrap().records,
            records("a", 1..=first + 9)
        );
    }
}

#[test]
fn batches_go_when_all_their_sessions_have_packed_past_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    begin(&store, "a", 0);
    begin(&store, "b", 0);
    store.commit(&[append("a", 1..=1), append("b", 1..=1)]).unwrap();
    store.commit(&[append("a", 2..=2)]).unwrap();
    store.commit(&[append("b", 2..=2), append("a", 3..=3)]).unwrap();
    one(&store, pack("a", 1..=3)).unwrap();
    // The first and the third are needed by `b`; the newest one always stays.
    assert_eq!(batches_after(store, folder.path()), 3);
    let store = open(folder.path());
    one(&store, pack("b", 1..=1)).unwrap();
    assert_eq!(batches_after(store, folder.path()), 2);
    let store = open(folder.path());
    one(&store, pack("b", 2..=2)).unwrap();
    // What is packed with its append is written once.
    one(
        &store,
        Request {
            pack: pack("a", 4..=6).pack,
            ..append("a", 4..=6)
        },
    )
    .unwrap();
    assert_eq!(batches_after(store, folder.path()), 1);
    let store = open(folder.path());
    assert_eq!(store.load(&session("a")).unwrap().unwrap().records, records("a", 1..=6));
    assert_eq!(store.load(&session("b")).unwrap().unwrap().records, records("b", 1..=2));
}

#[test]
fn a_long_deleted_session_is_swept_in_bounded_commits() {
    const PARTS_OF_ONE_COMMIT: usize = 256;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let rows = |id: &str| raw(folder.path()).scan_prefix(keys::segments(&session(id))).count();
    let graves = || raw(folder.path()).scan_prefix(keys::GRAVES).count();
    for id in ["a", "b"] {
        begin(&store, id, 0);
        let large: Vec<_> = (1..=12).map(|seq| record(id, seq, 500_000)).collect();
        for record in &large {
            one(&store, append_records(id, vec![record.clone()])).unwrap();
        }
        one(&store, pack_records(id, large)).unwrap();
    }
    begin(&store, "other", 3);
    one(&store, delete("a")).unwrap();
    one(&store, append("other", 4..=4)).unwrap();
    drop(store);
    let (left, kept) = (rows("a"), rows("b"));
    assert!(
        kept > 700 && left == kept - PARTS_OF_ONE_COMMIT,
        "{left} of {kept} rows"
    );
    assert_eq!(graves(), 1);
    // At any point the session is gone, and the rest goes on after an opening.
    let store = open(folder.path());
    assert_eq!(store.load(&session("a")).unwrap(), None);
    assert_eq!(store.read(&session("a"), 0, usize::MAX).unwrap(), []);
    store.commit(&[]).unwrap();
    one(&store, delete("b")).unwrap();
    // Made again in the middle of it: nothing of the old one is seen, then or later.
    begin(&store, "b", 2);
    assert_eq!(store.load(&session("b")).unwrap().unwrap().records, records("b", 1..=2));
    one(&store, pack("b", 1..=1)).unwrap();
    drop(store);
    assert_eq!(rows("b"), 1);
    let store = open(folder.path());
    assert_eq!(store.load(&session("b")).unwrap().unwrap().records, records("b", 1..=2));
    // The graves go with the last batch from before the deletions.
    one(&store, pack("b", 2..=2)).unwrap();
    one(&store, pack("other", 1..=4)).unwrap();
    for _ in 0..6 {
        store.commit(&[]).unwrap();
    }
    drop(store);
    assert_eq!((rows("a"), rows("b"), graves()), (0, 2, 0));
    assert_eq!(
        open(folder.path()).load(&session("b")).unwrap().unwrap().records,
        records("b", 1..=2)
    );
}

/// A delta as models write them: alike, so that a packed turn is small.
fn delta_of(seq: u64) -> Record {
    let payload = format!(r#"{{"type":"TEXT_MESSAGE_CONTENT","messageId":"a_1","delta":"word {seq}","#);
    Record::new(seq, Bytes::from(payload.repeat(4)))
}

#[test]
fn turns_without_end_do_not_fill_the_disk() {
    const SESSIONS: usize = 8;
    const DELTAS: u64 = 40;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let ids: Vec<_> = (0..SESSIONS).map(|n| format!("s{n}")).collect();
    for id in &ids {
        begin(&store, id, 0);
    }
    let mut early = 0;
    for turn in 0..60 {
        let first = turn * DELTAS + 1;
        for delta in 0..DELTAS {
            let group: Vec<_> = ids
                .iter()
                .map(|id| append_records(id, vec![delta_of(first + delta)]))
                .collect();
            assert!(store.commit(&group).unwrap().iter().all(Result::is_ok));
        }
        for id in &ids {
            let turn: Vec<_> = (first..first + DELTAS).map(delta_of).collect();
            one(
                &store,
                Request {
                    pack: Some(kronos_actors::store::Pack {
                        session: session(id),
                        records: turn,
                    }),
                    meta: Some(meta(id, "ann", first.cast_signed())),
                    ..Request::default()
                },
            )
            .unwrap();
        }
        if turn == 19 {
            early = store.size_bytes().unwrap();
        }
    }
    let late = store.size_bytes().unwrap();
    let payload = SESSIONS as u64 * DELTAS * 60 * 300;
    assert!(
        late < early + payload / 2,
        "{early} bytes after 20 turns, {late} after 60, {payload} of payload"
    );
    assert_eq!(batches_after(store, folder.path()), 1);
    assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 0);
}

#[test]
fn no_value_leaves_the_one_file_that_is_synced() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    begin(&store, "a", 0);
    for seq in 1..=30 {
        one(&store, append_records("a", vec![record("a", seq, 300_000)])).unwrap();
        let large = "x".repeat(8100 + seq as usize * 1000);
        let key = "k".repeat(250) + &seq.to_string();
        one(&store, documents(vec![document(&key, Some(&large), Expect::Any)])).unwrap();
    }
    let all: Vec<_> = (1..=30).map(|seq| record("a", seq, 300_000)).collect();
    let packed = kronos_actors::store::Pack {
        session: session("a"),
        records: all.clone(),
    };
    one(
        &store,
        Request {
            pack: Some(packed),
            ..Request::default()
        },
    )
    .unwrap();
    store.commit(&[]).unwrap();
    drop(store);
    assert_eq!(fs::read_dir(folder.path().join("blobs")).unwrap().count(), 0);
    assert_eq!(open(folder.path()).load(&session("a")).unwrap().unwrap().records, all);
}

#[test]
fn a_second_opening_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let locked = StoreError::Locked {
        path: folder.path().display().to_string(),
    };
    assert_eq!(SledStore::open(folder.path(), CACHE_BYTES).unwrap_err(), locked);
    drop(store);
    drop(open(folder.path()));
}

#[test]
fn many_sessions_open_at_once() {
    const SESSIONS: usize = 4_000;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let new = |n: usize| {
        let id = format!("s{n}");
        Request {
            meta: Some(meta(&id, "ann", n as i64)),
            pack: pack(&id, 1..=2).pack,
            ..append(&id, 1..=2)
        }
    };
    for group in (0..SESSIONS).collect::<Vec<_>>().chunks(1_000) {
        store
            .commit(&group.iter().map(|n| new(*n)).collect::<Vec<_>>())
            .unwrap();
    }
    one(&store, append("s77", 3..=3)).unwrap();
    drop(store);
    let start = Clock::default().instant();
    let store = open(folder.path());
    let took = start.elapsed();
    assert_eq!(seqs(&store.load(&session("s77")).unwrap().unwrap().records), [1, 2, 3]);
    assert!(took.as_millis() < 1_000, "opening took {took:?}");
}

#[test]
fn records_are_read_while_commits_move_them() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    begin(&store, "a", 0);
    one(&store, with_meta(meta("b", "ann", 1))).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let stored = store.load(&session("a")).unwrap().unwrap();
                    assert_eq!(stored.records, records("a", 1..=stored.records.len() as u64));
                    assert!(stored.records.len() >= seen && stored.packed_upto <= stored.records.len() as u64);
                    seen = stored.records.len();
                    assert_eq!(store.list(None, None, 9).unwrap().len(), 2);
                }
            });
        }
        for turn in 0..150 {
            let first = turn * 5 + 1;
            for seq in first..first + 5 {
                one(&store, append("a", seq..=seq)).unwrap();
            }
            let moved = with_meta(meta("a", "ann", turn.cast_signed()));
            one(
                &store,
                Request {
                    pack: pack("a", first..=first + 4).pack,
                    ..moved
                },
            )
            .unwrap();
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    let empty = Record::new(751, Bytes::new());
    one(&store, append_records("a", vec![empty.clone()])).unwrap();
    assert_eq!(store.read(&session("a"), 750, 0).unwrap(), [empty]);
}
