//! The store does not grow without bound, and costs what its content costs.

use std::{fs, sync::Arc};

use bytes::Bytes;
use kronos_actors::{
    clock::Clock,
    store::{
        Expect, Record, Request, SessionStore, keys,
        sled::{Medium, SledStore},
    },
};

use crate::{
    embedded::{open, raw, wal_files},
    fixtures::{
        CACHE_BYTES, append, append_records, begin, delete, document, documents, meta, one, pack, pack_records, record,
        seqs, session, with_meta,
    },
};

/// A medium that does not wait for its disk, with small files.
fn quick() -> Medium {
    Medium {
        sync: Arc::new(|_| Ok(())),
        wal_bytes: 64 * 1024,
        ..Medium::default()
    }
}

/// The largest of the last third must be no larger than 1.3 times the largest of the middle one.
fn assert_plateau(sizes: &[u64]) {
    let third = sizes.len() / 3;
    let largest = |sizes: &[u64]| sizes.iter().copied().max().unwrap();
    let (middle, last) = (largest(&sizes[third..2 * third]), largest(&sizes[2 * third..]));
    assert!(
        last * 10 <= middle * 13,
        "{middle} bytes in the middle third, {last} in the last: {sizes:?}"
    );
}

#[test]
fn sessions_made_and_deleted_without_end_do_not_fill_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open_with(folder.path(), CACHE_BYTES, quick()).unwrap();
    let mut sizes = Vec::new();
    for round in 0..300 {
        let id = format!("s{round}");
        one(&store, with_meta(meta(&id, "ann", round))).unwrap();
        let turn: Vec<_> = (1..=20).map(|seq| record(&id, seq, 1_000)).collect();
        for records in turn.chunks(5) {
            one(&store, append_records(&id, records.to_vec())).unwrap();
        }
        // Some are deleted in the middle of a turn.
        if round % 3 != 0 {
            one(&store, pack_records(&id, turn)).unwrap();
        }
        // Five are kept at a time.
        if round >= 5 {
            one(&store, delete(&format!("s{}", round - 5))).unwrap();
        }
        sizes.push(store.size_bytes().unwrap());
    }
    assert_plateau(&sizes);
    assert_eq!(store.list(None, None, 99).unwrap().len(), 5);
    assert!(wal_files(folder.path()).len() < 12);
    drop(store);
    let rows = raw(folder.path()).scan_prefix(keys::GRAVES).count();
    assert!(rows < 20, "{rows} graves");
}

#[test]
fn documents_edited_without_end_do_not_fill_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open_with(folder.path(), CACHE_BYTES, quick()).unwrap();
    let mut sizes = Vec::new();
    // 10,000 edits, some of several parts.
    for round in 0..500_usize {
        let group: Vec<_> = (0..20)
            .map(|n| {
                let value = (n + round) % 7 != 6;
                let value = value.then(|| format!("{round} ").repeat(if n == 5 { 6_000 } else { 1_000 + n }));
                documents(vec![document(&format!("k{n}"), value.as_deref(), Expect::Any)])
            })
            .collect();
        assert!(store.commit(&group).unwrap().iter().all(Result::is_ok));
        sizes.push(store.size_bytes().unwrap());
    }
    assert_plateau(&sizes);
    assert!(store.documents("user", "", None, 99).unwrap().len() <= 20);
}

const WORDS: &str = "the sea was calm that morning and nobody in the small harbour expected that before noon a storm would \
    come over the islands with rain so heavy that fishermen who had gone out at dawn could see neither lighthouse nor shore \
    they waited under sails which were too old for such weather while children asked why boats need so much time to return \
    because every answer about winds tides currents and distances only raised another question concerning fathers brothers";

/// English of `count` words, in no order that a compressor knows.
fn text(seed: &mut u64, count: usize) -> String {
    let words: Vec<_> = WORDS.split_whitespace().collect();
    let word = |_| {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        words[(*seed >> 33) as usize % words.len()]
    };
    (0..count).map(word).collect::<Vec<_>>().join(" ")
}

/// A stored event, about as sessions store it.
fn event(seq: u64, kind: &str, id: &str, text: &str) -> Record {
    let json = format!(r#"{{"type":"{kind}","messageId":"{id}","timestamp":17642400{seq:05},"delta":"{text}"}}"#);
    Record::new(seq, Bytes::from(json))
}

#[test]
fn storage_is_linear_in_the_conversation() {
    const TURN_CONSTANT: usize = 512;
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    begin(&store, "a", 0);
    let (mut seed, mut seq, mut transcript) = (7, 0, 0);
    println!("KRONOS_SEED={seed}");
    for turn in 0..200 {
        let (question, answer) = (text(&mut seed, 12), text(&mut seed, 150 + turn));
        transcript += question.len() + answer.len();
        let mut appended = Vec::new();
        let mut next = |kind, text: &str| {
            seq += 1;
            event(seq, kind, &format!("m_{turn}"), text)
        };
        let before = [
            next("RUN_STARTED", ""),
            next("CUSTOM", &question),
            next("TEXT_MESSAGE_START", ""),
        ];
        appended.extend(before.clone());
        let words: Vec<_> = answer
            .split_inclusive(' ')
            .map(|word| next("TEXT_MESSAGE_CONTENT", word))
            .collect();
        let after = [next("TEXT_MESSAGE_END", ""), next("RUN_FINISHED", "")];
        appended.extend(words.clone());
        appended.extend(after.clone());
        // The deltas of the answer become one.
        let whole = Record {
            merged: words.len() as u64 - 1,
            ..event(
                words.last().unwrap().seq,
                "TEXT_MESSAGE_CONTENT",
                &format!("m_{turn}"),
                &answer,
            )
        };
        let packed = [before.as_slice(), &[whole], &after].concat();
        let request = Request {
            pack: pack_records("a", packed).pack,
            ..append_records("a", appended)
        };
        one(&store, request).unwrap();
    }
    drop(store);
    let rows = raw(folder.path()).scan_prefix(keys::segments(&session("a")));
    let stored: usize = rows
        .map(|row| row.unwrap())
        .map(|(key, value)| key.len() + value.len())
        .sum();
    println!("{transcript} bytes of text in 200 turns, {stored} bytes stored");
    assert!(
        stored * 2 <= transcript * 3 + 2 * 200 * TURN_CONSTANT,
        "{stored} bytes for {transcript}"
    );
}

#[test]
fn opening_does_not_read_what_is_finished() {
    const SESSIONS: usize = 20_000;
    const UNFINISHED: usize = 50;
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open_with(folder.path(), CACHE_BYTES, quick()).unwrap();
    let new = |n: usize| {
        let (id, running) = (format!("s{n:05}"), n < UNFINISHED);
        Request {
            meta: Some(meta(&id, "ann", n as i64)),
            pack: pack(&id, 1..=2).pack.filter(|_| !running),
            unfinished: Some(running),
            ..append(&id, 1..=2)
        }
    };
    for group in (0..SESSIONS).collect::<Vec<_>>().chunks(1_000) {
        store
            .commit(&group.iter().map(|n| new(*n)).collect::<Vec<_>>())
            .unwrap();
    }
    one(&store, append("s00007", 3..=3)).unwrap();
    drop(store);
    // Many finished ones are damaged: whoever reads them at opening stumbles.
    let db = raw(folder.path());
    for n in (UNFINISHED..SESSIONS).step_by(50) {
        let id = session(&format!("s{n:05}"));
        for base in [keys::segment(&id, 2), keys::meta(&id)] {
            db.insert(keys::part(&base, 0), b"damaged").unwrap();
        }
    }
    drop(db);
    let start = Clock::default().instant();
    let store = open(folder.path());
    println!("opened in {:?}", start.elapsed());
    assert_eq!(store.unfinished().unwrap().len(), UNFINISHED);
    assert_eq!(
        seqs(&store.load(&session("s00007")).unwrap().unwrap().records),
        [1, 2, 3]
    );
    store.load(&session("s00050")).unwrap_err();
    assert!(fs::metadata(folder.path().join("db")).unwrap().len() > 0);
}
