//! Processes that end in the middle: killed, or on a full disk. The child is this test binary.

use std::{
    collections::HashMap,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use kronos_actors::{
    clock::Clock,
    config::StoreConfig,
    store::{
        Pack, Record, Request, SessionStore, StoreError,
        service::{StoreRef, StoreService},
        sled::SledStore,
    },
};

use crate::fixtures::{CACHE_BYTES, append_records, delete, meta, one, pack_records, record, seqs, session, with_meta};

const FOLDER: &str = "KRONOS_TEST_FOLDER";
const WRITES: &str = "crash::child_that_writes";
const WRITERS: usize = 8;
const TURN: u64 = 20;

/// The child: eight writers append and pack until the process ends, and tell what was acknowledged.
#[test]
fn child_that_writes() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = SledStore::open(Path::new(&folder), CACHE_BYTES).unwrap();
    let config = StoreConfig::default();
    let service = StoreService::start(Arc::new(store), &config, Clock::default()).unwrap();
    let out = Arc::new(Mutex::new(std::io::stdout()));
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (service, out) = (service.clone(), Arc::clone(&out));
            scope.spawn(move || write(&service, &format!("w{writer}"), &out));
        }
    });
}

fn write(service: &StoreRef, id: &str, out: &Mutex<std::io::Stdout>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let known = service.load(&session(id)).await.unwrap();
        let records = known.as_ref().map_or_else(Vec::new, |stored| stored.records.clone());
        let packed_upto = known.as_ref().map_or(0, |stored| stored.packed_upto) as usize;
        if known.is_none() {
            service.commit(with_meta(meta(id, "ann", 1))).await.unwrap();
        }
        let mut seq = records.len() as u64;
        let mut turn: Vec<Record> = records[packed_upto..].to_vec();
        loop {
            seq += 1;
            let record = record(id, seq, 200 + seq as usize % 300);
            turn.push(record.clone());
            let mut request = append_records(id, vec![record]);
            if seq.is_multiple_of(TURN) {
                let records = std::mem::take(&mut turn);
                request.pack = Some(Pack {
                    session: session(id),
                    records,
                });
                request.meta = Some(meta(id, "ann", seq.cast_signed()));
            }
            match service.commit(request).await {
                Ok(()) => writeln!(out.lock().unwrap(), "ack {id} {seq}").unwrap(),
                Err(StoreError::Io(_)) => {
                    writeln!(out.lock().unwrap(), "failed {id} {seq}").unwrap();
                    return;
                }
                Err(other) => panic!("{other}"),
            }
        }
    });
}

/// The other child: makes and deletes one session after the other until the process ends, and tells what was acknowledged.
#[test]
fn child_that_deletes() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let store = SledStore::open(Path::new(&folder), CACHE_BYTES).unwrap();
    let mut out = std::io::stdout();
    for made in generation(&store) + 1.. {
        one(&store, generation_of(made)).unwrap();
        one(
            &store,
            append_records("a", vec![record(&made.to_string(), GENERATION + 1, 50)]),
        )
        .unwrap();
        writeln!(out, "ack made {made}").unwrap();
        one(&store, delete("a")).unwrap();
        writeln!(out, "ack gone {made}").unwrap();
    }
}

/// Records that a generation is made with; more rows than one commit sweeps.
const GENERATION: u64 = 50;

/// Makes the session `a` for the time `number`.
fn generation_of(number: u64) -> Request {
    let size = |seq| if seq == 1 { 2_500_000 } else { 300 };
    let records: Vec<_> = (1..=GENERATION)
        .map(|seq| record(&number.to_string(), seq, size(seq)))
        .collect();
    Request {
        meta: Some(meta("a", "ann", number.cast_signed())),
        unfinished: Some(true),
        pack: pack_records("a", records[..40].to_vec()).pack,
        ..append_records("a", records)
    }
}

/// Checks that `a` is there as a whole or not at all; returns which one it is, or 0.
fn generation(store: &SledStore) -> u64 {
    let Some(stored) = store.load(&session("a")).unwrap() else {
        assert_eq!(store.list(None, None, 9).unwrap(), []);
        assert_eq!(store.unfinished().unwrap(), []);
        assert_eq!(store.read(&session("a"), 0, 1).unwrap(), []);
        one(store, delete("a")).unwrap();
        return 0;
    };
    let number = stored.meta.updated_at_ms.cast_unsigned();
    let made = generation_of(number).append.unwrap().records;
    assert!(stored.unfinished && stored.records.starts_with(&made));
    one(store, delete("a")).unwrap();
    number
}

#[test]
fn a_session_whose_deletion_is_cut_is_whole_or_gone() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..5 {
        let mut child = child(folder.path(), "", "crash::child_that_deletes");
        let mut lines = 0;
        let acknowledged = listen(&mut child, |child, line| {
            lines += usize::from(line.starts_with("ack"));
            if lines == 3 + round {
                child.kill().unwrap();
            }
        });
        let found = generation(&SledStore::open(folder.path(), CACHE_BYTES).unwrap());
        let of = |what| acknowledged.get(what).copied().unwrap_or(0);
        let (made, gone) = (of("made"), of("gone"));
        assert!(made > 0);
        // The one after the last that was acknowledged may have been made, or deleted.
        let possible = if made > gone { [made, 0] } else { [gone + 1, 0] };
        assert!(possible.contains(&found), "found {found}, made {made}, gone {gone}");
    }
}

/// Starts the test `name` as a child; `before` is put before the command in a shell.
fn child(folder: &Path, before: &str, name: &str) -> Child {
    let test = std::env::current_exe().unwrap();
    Command::new("sh")
        .arg("-c")
        .arg(format!(
            "{before} exec \"$0\" --exact {name} --nocapture --test-threads 1"
        ))
        .arg(test)
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Reads what the child says until it ends; `seen` is asked after every line.
fn listen(child: &mut Child, mut seen: impl FnMut(&mut Child, &str)) -> HashMap<String, u64> {
    let mut acknowledged = HashMap::new();
    let output = BufReader::new(child.stdout.take().unwrap());
    for line in output.lines() {
        let line = line.unwrap();
        let words: Vec<_> = line.split(' ').collect();
        if let ["ack", id, seq] = words[..] {
            acknowledged.insert(id.to_owned(), seq.parse().unwrap());
        }
        seen(child, &line);
    }
    child.wait().unwrap();
    acknowledged
}

fn check(folder: &Path, acknowledged: &HashMap<String, u64>) {
    let store = SledStore::open(folder, CACHE_BYTES).unwrap();
    for (id, last) in acknowledged {
        let stored = store.load(&session(id)).unwrap().unwrap();
        let found = seqs(&stored.records);
        assert_eq!(found, (1..=found.len() as u64).collect::<Vec<_>>());
        assert!(
            found.len() as u64 >= *last,
            "{id}: {last} was acknowledged, {} is there",
            found.len()
        );
        for kept in &stored.records {
            assert_eq!(*kept, record(id, kept.seq, 200 + kept.seq as usize % 300));
        }
        let turns = (found.len() as u64 / TURN * TURN).cast_signed();
        assert_eq!(
            (stored.packed_upto, stored.meta.updated_at_ms),
            (turns.cast_unsigned(), turns.max(1))
        );
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut total = 0;
    for round in 0..6 {
        let mut child = child(folder.path(), "", WRITES);
        let mut lines = 0;
        let acknowledged = listen(&mut child, |child, line| {
            lines += usize::from(line.starts_with("ack"));
            if lines == 150 + round * 130 {
                // SIGKILL.
                child.kill().unwrap();
            }
        });
        check(folder.path(), &acknowledged);
        total += lines;
    }
    assert!(total > 2_000, "{total} acknowledged");
}

#[test]
fn a_full_disk_stops_the_writers_and_nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    // A limit on the size of a file, in blocks of 512 bytes: sled's writes fail beyond 4 MiB.
    let mut child = child(folder.path(), "trap '' XFSZ; ulimit -f 8192;", WRITES);
    let mut failed = 0;
    let acknowledged = listen(&mut child, |child, line| {
        failed += usize::from(line.starts_with("failed"));
        if failed == WRITERS {
            child.kill().unwrap();
        }
    });
    assert_eq!(failed, WRITERS);
    check(folder.path(), &acknowledged);
    assert!(acknowledged.values().sum::<u64>() > 100);
    // With room again everything goes on.
    let mut child = self::child(folder.path(), "", WRITES);
    let more = listen(&mut child, |child, line| {
        if line.starts_with("ack") {
            child.kill().unwrap();
        }
    });
    check(folder.path(), &more);
}
