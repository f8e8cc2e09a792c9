//! A disk that fails: what was acknowledged stays, what failed does not count, and the store comes back by itself.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use kronos_actors::store::{
    Expect, Request, SessionStore, StoreError,
    sled::{SledStore, SyncFile},
};

use crate::fixtures::{
    CACHE_BYTES, append, begin, delete, document, documents, meta, one, pack, records, seqs, session, user,
};

/// A sync that can be told to fail.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    broken: Arc<AtomicBool>,
    pub(crate) syncs: Arc<AtomicUsize>,
}

impl Disk {
    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    pub(crate) fn sync(&self) -> SyncFile {
        let disk = self.clone();
        Arc::new(move |file| {
            disk.syncs.fetch_add(1, Ordering::SeqCst);
            if disk.broken.load(Ordering::SeqCst) {
                return Err(io::Error::other("the disk is broken"));
            }
            file.sync_data()
        })
    }
}

#[test]
fn a_failed_commit_counts_for_nothing_and_the_next_one_repairs() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let store = SledStore::open_with_sync(folder.path(), CACHE_BYTES, disk.sync()).unwrap();
    begin(&store, "a", 4);
    one(&store, pack("a", 1..=2)).unwrap();
    one(
        &store,
        documents(vec![
            document("k", Some("old"), Expect::Any),
            document("gone", Some("x"), Expect::Any),
        ]),
    )
    .unwrap();
    let before = store.load(&session("a")).unwrap();
    let listed = store.list(None, None, 9).unwrap();

    disk.set_broken(true);
    let everything = Request {
        append: append("a", 5..=6).append,
        pack: pack("a", 3..=5).pack,
        meta: Some(meta("a", "bob", 99)),
        unfinished: Some(true),
        delete: None,
        documents: vec![
            document("k", Some("new"), Expect::Any),
            document("gone", None, Expect::Any),
            document("fresh", Some("y"), Expect::Absent),
        ],
    };
    for _ in 0..2 {
        assert!(matches!(
            store.commit(std::slice::from_ref(&everything)),
            Err(StoreError::Io(_))
        ));
        // Nobody is told what may not be true.
        assert!(matches!(store.load(&session("a")), Err(StoreError::Io(_))));
        assert!(matches!(store.list(None, None, 9), Err(StoreError::Io(_))));
        assert!(matches!(store.document("user", "k"), Err(StoreError::Io(_))));
    }
    disk.set_broken(false);
    assert_eq!(store.commit(&[]).unwrap(), []);
    assert_eq!(store.load(&session("a")).unwrap(), before);
    assert_eq!(store.list(None, None, 9).unwrap(), listed);
    assert_eq!(store.list(Some(&user("bob")), None, 9).unwrap(), []);
    assert_eq!(store.unfinished().unwrap(), []);
    assert_eq!(store.document("user", "k").unwrap().unwrap(), "old");
    assert_eq!(store.document("user", "gone").unwrap().unwrap(), "x");
    assert_eq!(store.document("user", "fresh").unwrap(), None);

    one(&store, everything).unwrap();
    drop(store);
    let store = SledStore::open(folder.path(), CACHE_BYTES).unwrap();
    let stored = store.load(&session("a")).unwrap().unwrap();
    assert_eq!(
        (stored.records, stored.packed_upto, stored.unfinished),
        (records("a", 1..=6), 5, true)
    );
    assert_eq!(store.document("user", "fresh").unwrap().unwrap(), "y");
}

#[test]
fn a_deletion_that_failed_is_taken_back() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let store = SledStore::open_with_sync(folder.path(), CACHE_BYTES, disk.sync()).unwrap();
    begin(&store, "a", 4);
    let marked = Request {
        unfinished: Some(true),
        ..pack("a", 1..=2)
    };
    one(&store, marked).unwrap();
    let before = store.load(&session("a")).unwrap();
    disk.set_broken(true);
    store.commit(&[delete("a")]).unwrap_err();
    disk.set_broken(false);
    store.commit(&[]).unwrap();
    assert_eq!(store.load(&session("a")).unwrap(), before);
    assert_eq!(store.list(None, None, 9).unwrap().len(), 1);
    one(&store, append("a", 5..=5)).unwrap();

    // Whatever fails on the way, what was deleted does not come back.
    one(&store, delete("a")).unwrap();
    disk.set_broken(true);
    store
        .commit(&[Request {
            meta: Some(meta("a", "ann", 1)),
            ..append("a", 1..=1)
        }])
        .unwrap_err();
    disk.set_broken(false);
    store.commit(&[]).unwrap();
    assert_eq!(store.load(&session("a")).unwrap(), None);
    drop(store);
    let store = SledStore::open(folder.path(), CACHE_BYTES).unwrap();
    assert_eq!(store.load(&session("a")).unwrap(), None);
    begin(&store, "a", 1);
    assert_eq!(store.load(&session("a")).unwrap().unwrap().records, records("a", 1..=1));
}

#[test]
fn a_store_that_fails_again_and_again_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let store = SledStore::open_with_sync(folder.path(), CACHE_BYTES, disk.sync()).unwrap();
    begin(&store, "a", 0);
    let mut last = 0;
    for round in 0..12 {
        disk.set_broken(round % 3 == 1);
        let request = append("a", last + 1..=last + 2);
        if store.commit(&[request]).is_ok_and(|results| results[0].is_ok()) {
            last += 2;
        }
    }
    assert_eq!(last, 16);
    assert_eq!(
        seqs(&store.load(&session("a")).unwrap().unwrap().records),
        (1..=16).collect::<Vec<_>>()
    );
}

#[test]
fn a_store_closed_in_doubt_opens_again() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    let store = SledStore::open_with_sync(folder.path(), CACHE_BYTES, disk.sync()).unwrap();
    begin(&store, "a", 2);
    disk.set_broken(true);
    store.commit(&[append("a", 3..=3)]).unwrap_err();
    drop(store);
    let store = SledStore::open(folder.path(), CACHE_BYTES).unwrap();
    let stored = seqs(&store.load(&session("a")).unwrap().unwrap().records);
    assert!(stored == [1, 2] || stored == [1, 2, 3]);
    one(&store, append("a", stored.len() as u64 + 1..=9)).unwrap();
}

#[test]
fn a_disk_that_fails_at_opening_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Disk::default();
    disk.set_broken(true);
    assert!(matches!(
        SledStore::open_with_sync(folder.path(), CACHE_BYTES, disk.sync()),
        Err(StoreError::Io(_))
    ));
    disk.set_broken(false);
    let opened = (0..100).find_map(|_| SledStore::open_with_sync(folder.path(), CACHE_BYTES, disk.sync()).ok());
    begin(&opened.unwrap(), "a", 1);
}
