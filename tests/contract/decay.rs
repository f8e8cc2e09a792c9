//! Bytes that change or go missing anywhere in the folder, and files that end in the middle of a commit: what is served is
//! right, or the damage is named.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use kronos_actors::store::{
    Expect, Request, SessionStore, StoreError, StoredSession,
    sled::{Medium, SledStore},
};

use crate::{
    embedded::{open, wal_files},
    fixtures::{
        CACHE_BYTES, append, append_records, begin, delete, document, documents, merged, meta, one, pack_records,
        record, records, seqs, session, with_meta,
    },
};

/// A seeded sequence of numbers; the seed is printed.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        let given = std::env::var_os("KRONOS_SEED").and_then(|given| given.to_str()?.parse().ok());
        let seed = given.unwrap_or(seed);
        println!("KRONOS_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, limit: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

const IDS: [&str; 5] = ["a", "b", "c", "gone", "again"];

/// Everything that a store says, or its first complaint of each kind.
type Said = (BTreeMap<&'static str, Option<StoredSession>>, usize, Option<String>);

fn small(folder: &Path) -> Result<SledStore, StoreError> {
    let medium = Medium {
        wal_bytes: 8 * 1024,
        ..Medium::default()
    };
    SledStore::open_with(folder, CACHE_BYTES, medium)
}

/// Fills a store with some of everything, in many commits of both kinds.
fn fill(folder: &Path) {
    let store = small(folder).unwrap();
    for id in IDS {
        begin(&store, id, 0);
    }
    for seq in 1..=24 {
        store
            .commit(&["a", "b", "c", "gone", "again"].map(|id| append_records(id, vec![record(id, seq, 200)])))
            .unwrap();
        if seq == 12 {
            one(
                &store,
                pack_records("a", vec![merged("a", 1..=5), record("a", 6, 9_000)]),
            )
            .unwrap();
            one(&store, delete("gone")).unwrap();
            one(&store, delete("again")).unwrap();
            begin(&store, "again", 12);
        }
        if seq % 8 == 0 {
            one(&store, documents(vec![document("k", Some("value"), Expect::Any)])).unwrap();
        }
    }
    let marked = Request {
        unfinished: Some(true),
        ..with_meta(meta("b", "ann", 7))
    };
    one(&store, marked).unwrap();
    one(&store, append("c", 25..=25)).unwrap();
}

/// Asks for everything; an error of a single session leaves it out.
fn ask(folder: &Path) -> Result<Said, StoreError> {
    let store = small(folder)?;
    let mut sessions = BTreeMap::new();
    let mut named = 0;
    for id in IDS {
        match store.load(&session(id)) {
            Ok(stored) => drop(sessions.insert(id, stored)),
            Err(StoreError::Corrupt { at, what }) if !at.is_empty() && !what.is_empty() => named += 1,
            Err(other) => return Err(other),
        }
    }
    let document = store.document("user", "k")?;
    let listed = store.list(None, None, 99)?;
    assert!(listed.len() <= IDS.len());
    Ok((
        sessions,
        named,
        document.map(|value| String::from_utf8(value.to_vec()).unwrap()),
    ))
}

fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let paths = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let mut files: Vec<_> = paths
        .filter(|path| path.is_file())
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

/// Puts the folder back as it was.
fn restore(folder: &Path, files: &[(PathBuf, Vec<u8>)]) {
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_file() {
            fs::remove_file(entry).unwrap();
        }
    }
    for (path, bytes) in files {
        fs::write(path, bytes).unwrap();
    }
}

/// Damages one file after the other at random places; returns how often it was named and how often it made no difference.
fn decay(rounds: usize, seed: u64, damage: impl Fn(&mut Dice, &mut Vec<u8>)) -> (usize, usize) {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let whole = ask(folder.path()).unwrap();
    assert_eq!(whole.1, 0);
    let files = files(folder.path());
    assert!(wal_files(folder.path()).len() > 2);
    let (mut dice, mut named, mut harmless) = (Dice::new(seed), 0, 0);
    for round in 0..rounds {
        restore(folder.path(), &files);
        let (path, bytes) = &files[dice.below(files.len())];
        let mut damaged = bytes.clone();
        damage(&mut dice, &mut damaged);
        fs::write(path, damaged).unwrap();
        match ask(folder.path()) {
            Ok((sessions, complaints, document)) => {
                for (id, stored) in sessions {
                    assert_eq!(stored, whole.0[id], "round {round}: {id} after damage of {path:?}");
                }
                assert_eq!(document, whole.2, "round {round}: after damage of {path:?}");
                named += usize::from(complaints > 0);
                harmless += usize::from(complaints == 0);
            }
            Err(StoreError::Corrupt { at, what }) => {
                assert!(!at.is_empty() && !what.is_empty());
                named += 1;
            }
            // A digit of the version in the marker.
            Err(StoreError::Newer { .. }) if path.ends_with("format") => named += 1,
            Err(other) => panic!("round {round}: {path:?}: {other}"),
        }
    }
    println!("{named} named, {harmless} harmless");
    (named, harmless)
}

#[test]
fn a_flipped_bit_anywhere_is_harmless_or_named() {
    let (named, _) = decay(250, 1, |dice, bytes| {
        if !bytes.is_empty() {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
    });
    assert!(named > 50);
}

#[test]
fn a_file_cut_anywhere_is_harmless_or_named() {
    let (named, _) = decay(80, 2, |dice, bytes| bytes.truncate(dice.below(bytes.len() + 1)));
    assert!(named > 40);
}

#[test]
fn zeroed_blocks_are_harmless_or_named() {
    let (named, _) = decay(80, 3, |dice, bytes| {
        if !bytes.is_empty() {
            let at = dice.below(bytes.len()) / 512 * 512;
            let end = bytes.len().min(at + 512);
            bytes[at..end].fill(0);
        }
    });
    assert!(named > 20);
}

#[test]
fn a_torn_commit_is_cut_off_and_an_acknowledged_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    begin(&store, "a", 2);
    let [path] = wal_files(folder.path()).try_into().unwrap();
    let end = |bytes: &[u8]| bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let before = end(&fs::read(&path).unwrap());
    // As a crash leaves it: nobody was told of the last commit.
    let tip = fs::read(folder.path().join("tip")).unwrap();
    one(&store, append("a", 3..=3)).unwrap();
    drop(store);
    let whole = fs::read(&path).unwrap();
    let (told, files) = (fs::read(folder.path().join("tip")).unwrap(), files(folder.path()));
    let after = end(&whole);
    assert!(after > before + 60);
    let cuts = (before..after).step_by(17).chain([after - 1, after]);
    for (round, at) in cuts.enumerate() {
        restore(folder.path(), &files);
        let mut torn = whole.clone();
        // The rest of the file is zeros or was never written.
        if round % 2 == 0 {
            torn[at..].fill(0);
        } else {
            torn.truncate(at);
        }
        fs::write(&path, torn).unwrap();
        if at == after {
            fs::write(folder.path().join("tip"), &told).unwrap();
        } else {
            // Was it acknowledged, it is damage.
            fs::write(folder.path().join("tip"), &told).unwrap();
            assert!(
                matches!(
                    SledStore::open(folder.path(), CACHE_BYTES),
                    Err(StoreError::Corrupt { .. })
                ),
                "{at}"
            );
            fs::write(folder.path().join("tip"), &tip).unwrap();
        }
        let store = open(folder.path());
        let found = store.load(&session("a")).unwrap().unwrap().records;
        assert_eq!(found, records("a", 1..=if at == after { 3 } else { 2 }), "cut at {at}");
        let next = found.len() as u64 + 1;
        one(&store, append("a", next..=next)).unwrap();
        drop(store);
        assert_eq!(
            open(folder.path()).load(&session("a")).unwrap().unwrap().records,
            records("a", 1..=next)
        );
    }
}

#[test]
fn a_bad_batch_before_good_ones_is_damage_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    begin(&store, "a", 0);
    for seq in 1..=6 {
        one(&store, append("a", seq..=seq)).unwrap();
    }
    drop(store);
    let [path] = wal_files(folder.path()).try_into().unwrap();
    let (whole, tip) = (fs::read(&path).unwrap(), folder.path().join("tip"));
    // Even if nothing tells how far the commits had come.
    fs::remove_file(tip).unwrap();
    let frames: Vec<_> = whole
        .windows(2)
        .enumerate()
        .filter(|(_, two)| two == b"a:")
        .map(|(at, _)| at)
        .collect();
    assert_eq!(frames.len(), 6);
    for at in &frames[..5] {
        let mut damaged = whole.clone();
        damaged[*at] ^= 1;
        fs::write(&path, damaged).unwrap();
        let error = SledStore::open(folder.path(), CACHE_BYTES).unwrap_err();
        let StoreError::Corrupt { at, .. } = &error else {
            panic!("{error}")
        };
        assert!(at.contains("wal-"), "{error}");
    }
    fs::write(&path, &whole).unwrap();
    let store = open(folder.path());
    assert_eq!(
        seqs(&store.load(&session("a")).unwrap().unwrap().records),
        [1, 2, 3, 4, 5, 6]
    );
}

#[test]
fn a_missing_file_of_batches_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fill(folder.path());
    let files = files(folder.path());
    for path in wal_files(folder.path()) {
        restore(folder.path(), &files);
        fs::remove_file(&path).unwrap();
        let said = ask(folder.path());
        let named = said.as_ref().is_ok_and(|said| said.1 > 0);
        assert!(
            named || matches!(said, Err(StoreError::Corrupt { .. })),
            "without {path:?}: {said:?}"
        );
    }
}
