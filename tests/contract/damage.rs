//! Files that are damaged, cut short, or of another version: noticed, never silently skipped.

use std::{fs, path::Path};

use kronos_actors::store::{Expect, Request, SessionStore, StoreError, keys, sled::SledStore};

use crate::{
    embedded::{open, raw},
    fixtures::{CACHE_BYTES, append, append_records, begin, document, documents, one, pack, record, seqs, session},
};

#[test]
fn a_newer_store_is_refused_untouched() {
    let newer = StoreError::Newer { found: 4, supported: 3 };
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    raw(folder.path()).insert(keys::SCHEMA, schema(4)).unwrap();
    assert_eq!(SledStore::open(folder.path(), CACHE_BYTES).unwrap_err(), newer);

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("format"), "kronos store 4\n").unwrap();
    assert_eq!(SledStore::open(folder.path(), CACHE_BYTES).unwrap_err(), newer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}

/// The row that tells a store's version.
fn schema(version: u32) -> Vec<u8> {
    let version = version.to_be_bytes();
    [version, crc32fast_of(&version)].concat()
}

#[test]
fn an_older_store_is_migrated_wherever_its_migration_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    begin(&store, "a", 3);
    one(&store, pack("a", 1..=2)).unwrap();
    drop(store);
    let marker = folder.path().join("format");
    for (row, marked) in [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (2, 3)] {
        raw(folder.path()).insert(keys::SCHEMA, schema(row)).unwrap();
        fs::write(&marker, format!("kronos store {marked}\n")).unwrap();
        let store = open(folder.path());
        assert_eq!(seqs(&store.load(&session("a")).unwrap().unwrap().records), [1, 2, 3]);
        drop(store);
        assert_eq!(fs::read_to_string(&marker).unwrap(), "kronos store 3\n");
        assert_eq!(raw(folder.path()).get(keys::SCHEMA).unwrap().unwrap(), schema(3));
    }
}

/// Crc32 (IEEE), bit by bit: the slow obvious one.
fn crc32fast_of(bytes: &[u8]) -> [u8; 4] {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 }
        })
    });
    (!crc).to_be_bytes()
}

#[test]
fn every_flipped_byte_of_a_value_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    begin(&store, "a", 0);
    let large = record("a", 1, 30_000);
    let packed = kronos_actors::store::Pack {
        session: session("a"),
        records: vec![large.clone()],
    };
    one(
        &store,
        Request {
            pack: Some(packed),
            ..append_records("a", vec![large])
        },
    )
    .unwrap();
    one(&store, append("a", 2..=3)).unwrap();
    one(&store, documents(vec![document("k", Some("v"), Expect::Any)])).unwrap();
    begin(&store, "well", 1);
    drop(store);
    let rows: Vec<_> = raw(folder.path())
        .iter()
        .map(|row| row.unwrap())
        .filter(|(_, value)| !value.is_empty())
        .collect();
    assert!(rows.len() > 8);
    for (key, value) in rows {
        for at in [0, 1, 5, 8, 9, value.len() / 2, value.len() - 1] {
            let at = at.min(value.len() - 1);
            let mut damaged = value.to_vec();
            damaged[at] ^= 0x10;
            raw(folder.path()).insert(&key, damaged).unwrap();
            let read = read_all(folder.path());
            assert!(
                matches!(read, Err(StoreError::Corrupt { .. })),
                "{key:?} byte {at}: {read:?}"
            );
        }
        raw(folder.path()).insert(&key, &value[..value.len() - 1]).unwrap();
        assert!(
            matches!(read_all(folder.path()), Err(StoreError::Corrupt { .. })),
            "{key:?} cut"
        );
        raw(folder.path()).insert(&key, value).unwrap();
        read_all(folder.path()).unwrap();
    }
}

fn read_all(folder: &Path) -> Result<(), StoreError> {
    let store = SledStore::open(folder, CACHE_BYTES)?;
    for meta in store.list(None, None, 99)? {
        store.load(&meta.session)?;
    }
    store.documents("user", "", None, 99)?;
    store.unfinished()?;
    Ok(())
}

#[test]
fn a_missing_row_is_noticed_and_nobody_else_suffers() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    for id in ["a", "b"] {
        begin(&store, id, 3);
        one(&store, pack(id, 1..=2)).unwrap();
        one(&store, pack(id, 3..=3)).unwrap();
        one(&store, append(id, 4..=4)).unwrap();
    }
    drop(store);
    raw(folder.path())
        .remove(keys::part(&keys::segment(&session("a"), 2), 0))
        .unwrap()
        .unwrap();
    let store = open(folder.path());
    assert!(matches!(store.load(&session("a")), Err(StoreError::Corrupt { .. })));
    assert!(matches!(
        store.read(&session("a"), 0, 10),
        Err(StoreError::Corrupt { .. })
    ));
    assert_eq!(seqs(&store.load(&session("b")).unwrap().unwrap().records), [1, 2, 3, 4]);
    one(&store, append("b", 5..=5)).unwrap();
}

#[test]
fn a_damaged_file_is_refused_and_an_emptied_one_is_not_a_new_store() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()));
    for entry in fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_string_lossy().starts_with("snap") || entry.file_name() == "db" {
            fs::remove_file(entry.path()).unwrap();
        }
    }
    assert!(matches!(
        SledStore::open(folder.path(), CACHE_BYTES),
        Err(StoreError::Corrupt { .. })
    ));

    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("format"), [0xFF, 0xFE]).unwrap();
    assert!(matches!(
        SledStore::open(folder.path(), CACHE_BYTES),
        Err(StoreError::Corrupt { .. })
    ));
}
