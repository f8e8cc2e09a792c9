//! Each sentence of the contract, over each backend.

use bytes::Bytes;
use kronos_actors::store::{
    Append, DocumentWrite, Expect, ListPosition, Pack, Record, Refusal, Request, SessionStore, memory::MemoryStore,
    sled::SledStore,
};

use crate::fixtures::{
    CACHE_BYTES, append, append_records, begin, delete, document, documents, merged, meta, one, pack, pack_records,
    record, records, seqs, session, user, with_meta,
};

contract!(
    a_session_reads_back_as_it_was_written,
    a_request_is_all_or_nothing,
    records_are_contiguous_from_one,
    one_group_is_applied_in_order,
    a_refused_request_leaves_the_others_alone,
    a_session_must_be_announced_first,
    what_makes_no_sense_is_refused,
    packs_move_records_and_lose_none,
    packs_follow_what_is_packed_and_stay_within_what_is_stored,
    a_packed_record_stands_for_several_events,
    merged_records_neither_overlap_nor_leave_a_gap,
    reading_within_a_merged_record_gives_the_whole_of_it,
    a_large_pack_reads_back,
    reading_starts_anywhere_and_stops_within_its_bytes,
    sessions_with_similar_ids_do_not_mix,
    lists_are_newest_first_and_page_without_gaps,
    a_new_meta_moves_its_session_in_every_list,
    unlisted_sessions_are_not_listed,
    unfinished_marks_are_found,
    a_deleted_session_does_not_exist,
    a_session_can_be_made_again_after_its_deletion,
    nothing_of_a_group_follows_a_deletion,
    the_oldest_come_in_the_order_of_the_list_turned_round,
);

fn a_session_reads_back_as_it_was_written(store: &dyn SessionStore) {
    assert_eq!(store.load(&session("a")).unwrap(), None);
    assert_eq!(store.meta(&session("a")).unwrap(), None);
    assert_eq!(store.read(&session("a"), 0, 1000).unwrap(), []);
    let request = Request {
        meta: Some(meta("a", "ann", 7)),
        unfinished: Some(true),
        ..append("a", 1..=3)
    };
    one(store, request).unwrap();
    one(store, append("a", 4..=4)).unwrap();
    let stored = store.load(&session("a")).unwrap().unwrap();
    assert_eq!(stored.meta, meta("a", "ann", 7));
    assert_eq!(stored.records, records("a", 1..=4));
    assert_eq!((stored.packed_upto, stored.unfinished), (0, true));
}

fn a_request_is_all_or_nothing(store: &dyn SessionStore) {
    begin(store, "a", 2);
    let failing = document("k", Some("v"), Expect::Value(Bytes::from_static(b"else")));
    let request = Request {
        append: append("a", 3..=4).append,
        pack: pack("a", 1..=4).pack,
        meta: Some(meta("a", "ann", 99)),
        unfinished: Some(true),
        delete: None,
        documents: vec![document("other", Some("v"), Expect::Any), failing],
    };
    let refused = one(store, request).unwrap_err();
    assert_eq!(
        refused,
        Refusal::Condition {
            family: "user",
            key: "k".to_owned()
        }
    );
    let stored = store.load(&session("a")).unwrap().unwrap();
    assert_eq!(
        (seqs(&stored.records), stored.packed_upto, stored.unfinished),
        (vec![1, 2], 0, false)
    );
    assert_eq!(stored.meta.updated_at_ms, 1);
    assert_eq!(store.document("user", "other").unwrap(), None);
    assert_eq!(store.unfinished().unwrap(), []);
}

fn records_are_contiguous_from_one(store: &dyn SessionStore) {
    begin(store, "a", 0);
    let out_of_order = |expected, got| {
        Err(Refusal::OutOfOrder {
            session: session("a"),
            expected,
            got,
        })
    };
    assert_eq!(one(store, append("a", 0..=1)), out_of_order(1, 0));
    assert_eq!(one(store, append("a", 2..=2)), out_of_order(1, 2));
    assert_eq!(one(store, append("a", 1..=2)), Ok(()));
    assert_eq!(one(store, append("a", 2..=3)), out_of_order(3, 2));
    assert_eq!(one(store, append("a", 4..=4)), out_of_order(3, 4));
    let gap = vec![record("a", 3, 10), record("a", 5, 10)];
    assert_eq!(one(store, append_records("a", gap)), out_of_order(4, 5));
    assert_eq!(one(store, append("a", 3..=3)), Ok(()));
    assert_eq!(seqs(&store.read(&session("a"), 0, 1000).unwrap()), [1, 2, 3]);
}

fn one_group_is_applied_in_order(store: &dyn SessionStore) {
    let group = [
        Request {
            meta: Some(meta("a", "ann", 1)),
            ..append("a", 1..=2)
        },
        append("a", 3..=3),
        append("a", 3..=4),
        Request {
            pack: pack("a", 1..=5).pack,
            ..append("a", 4..=5)
        },
        append("a", 6..=6),
        documents(vec![document("k", Some("1"), Expect::Absent)]),
        documents(vec![document("k", Some("2"), Expect::Absent)]),
        documents(vec![document("k", Some("3"), Expect::Value(Bytes::from_static(b"1")))]),
    ];
    let results: Vec<_> = store.commit(&group).unwrap().iter().map(Result::is_ok).collect();
    assert_eq!(results, [true, true, false, true, true, true, false, true]);
    let stored = store.load(&session("a")).unwrap().unwrap();
    assert_eq!((seqs(&stored.records), stored.packed_upto), ((1..=6).collect(), 5));
    assert_eq!(store.document("user", "k").unwrap().unwrap(), "3");
    assert_eq!(store.commit(&[]).unwrap(), []);
}

fn a_refused_request_leaves_the_others_alone(store: &dyn SessionStore) {
    begin(store, "a", 1);
    begin(store, "b", 1);
    let results = store
        .commit(&[append("a", 2..=2), append("b", 9..=9), append("a", 3..=3)])
        .unwrap();
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, false, true]
    );
    assert_eq!(store.commit(&[append("b", 9..=9)]).unwrap().len(), 1);
    assert_eq!(seqs(&store.load(&session("a")).unwrap().unwrap().records), [1, 2, 3]);
    assert_eq!(seqs(&store.load(&session("b")).unwrap().unwrap().records), [1]);
}

fn a_session_must_be_announced_first(store: &dyn SessionStore) {
    let unknown = Err(Refusal::UnknownSession { session: session("a") });
    assert_eq!(one(store, append("a", 1..=1)), unknown);
    assert_eq!(one(store, pack("a", 1..=1)), unknown);
    let other = Request {
        meta: Some(meta("b", "ann", 1)),
        ..append("a", 1..=1)
    };
    assert_eq!(one(store, other), unknown);
    assert_eq!(store.meta(&session("b")).unwrap(), None);
    let both = Request {
        meta: Some(meta("a", "ann", 1)),
        ..append("a", 1..=1)
    };
    assert_eq!(one(store, both), Ok(()));
}

fn what_makes_no_sense_is_refused(store: &dyn SessionStore) {
    begin(store, "a", 1);
    let malformed = |request| matches!(one(store, request), Err(Refusal::Malformed { .. }));
    assert!(malformed(append_records("a", Vec::new())));
    let deletes = |request| Request {
        delete: Some(session("a")),
        ..request
    };
    assert!(malformed(deletes(append("a", 2..=2))) && malformed(deletes(pack("b", 1..=1))));
    assert!(malformed(deletes(with_meta(meta("a", "ann", 1)))));
    assert!(malformed(Request {
        unfinished: Some(false),
        ..delete("a")
    }));
    assert!(malformed(Request {
        unfinished: Some(true),
        ..Request::default()
    }));
    let keyed = |bytes| documents(vec![document(&"k".repeat(bytes), Some("v"), Expect::Any)]);
    assert!(malformed(keyed(257)));
    assert!(!malformed(keyed(256)));
    let family = |family| {
        documents(vec![DocumentWrite {
            family,
            ..document("k", Some("v"), Expect::Any)
        }])
    };
    assert!(malformed(family("")) && malformed(family("User")) && malformed(family("abcdefghijklmnopqrstuvwxy")));
    assert!(!malformed(family("abcdefghijklmnopqrstuvwx")));
    assert_eq!(one(store, Request::default()), Ok(()));
}

fn packs_move_records_and_lose_none(store: &dyn SessionStore) {
    begin(store, "a", 5);
    one(store, pack("a", 1..=3)).unwrap();
    assert_eq!(store.load(&session("a")).unwrap().unwrap().packed_upto, 3);
    one(
        store,
        Request {
            pack: pack("a", 4..=7).pack,
            ..append("a", 6..=8)
        },
    )
    .unwrap();
    let stored = store.load(&session("a")).unwrap().unwrap();
    assert_eq!((stored.packed_upto, stored.records), (7, records("a", 1..=8)));
    one(store, pack("a", 8..=8)).unwrap();
    one(store, append("a", 9..=9)).unwrap();
    let stored = store.load(&session("a")).unwrap().unwrap();
    assert_eq!((stored.packed_upto, stored.records), (8, records("a", 1..=9)));
    let empty = Pack {
        session: session("a"),
        records: Vec::new(),
    };
    one(
        store,
        Request {
            pack: Some(empty),
            ..Request::default()
        },
    )
    .unwrap();
    assert_eq!(store.load(&session("a")).unwrap().unwrap().packed_upto, 8);
}

fn packs_follow_what_is_packed_and_stay_within_what_is_stored(store: &dyn SessionStore) {
    begin(store, "a", 5);
    let out_of_order = |expected, got| {
        Err(Refusal::OutOfOrder {
            session: session("a"),
            expected,
            got,
        })
    };
    assert_eq!(one(store, pack("a", 2..=3)), out_of_order(1, 2));
    assert_eq!(one(store, pack("a", 1..=6)), out_of_order(6, 6));
    assert_eq!(one(store, pack("a", 1..=2)), Ok(()));
    assert_eq!(one(store, pack("a", 1..=3)), out_of_order(3, 1));
    assert_eq!(one(store, pack("a", 3..=5)), Ok(()));
    assert_eq!(store.load(&session("a")).unwrap().unwrap().records, records("a", 1..=5));
}

fn a_packed_record_stands_for_several_events(store: &dyn SessionStore) {
    begin(store, "a", 6);
    let packed = [merged("a", 1..=3), record("a", 4, 40)];
    one(store, pack_records("a", packed.to_vec())).unwrap();
    let stored = store.load(&session("a")).unwrap().unwrap();
    let served = [packed.as_slice(), &records("a", 5..=6)].concat();
    assert_eq!((&stored.records, stored.packed_upto), (&served, 4));
    // With the events that it ends in one request, and after it everything goes on as before.
    let whole = Request {
        pack: pack_records("a", vec![merged("a", 5..=9)]).pack,
        ..append("a", 7..=10)
    };
    one(store, whole).unwrap();
    one(store, append("a", 11..=11)).unwrap();
    let served = [packed.as_slice(), &[merged("a", 5..=9)], &records("a", 10..=11)].concat();
    let stored = store.load(&session("a")).unwrap().unwrap();
    assert_eq!((&stored.records, stored.packed_upto), (&served, 9));
    assert_eq!(store.read(&session("a"), 0, usize::MAX).unwrap(), served);
}

fn merged_records_neither_overlap_nor_leave_a_gap(store: &dyn SessionStore) {
    begin(store, "a", 5);
    let out_of_order = |expected, got| {
        Err(Refusal::OutOfOrder {
            session: session("a"),
            expected,
            got,
        })
    };
    let try_pack = |records| one(store, pack_records("a", records));
    assert_eq!(try_pack(vec![merged("a", 2..=3)]), out_of_order(1, 2));
    assert_eq!(
        try_pack(vec![merged("a", 1..=2), merged("a", 2..=3)]),
        out_of_order(3, 2)
    );
    assert_eq!(
        try_pack(vec![merged("a", 1..=2), merged("a", 4..=5)]),
        out_of_order(3, 4)
    );
    assert_eq!(try_pack(vec![merged("a", 1..=6)]), out_of_order(6, 6));
    let impossible = |merged| Record {
        merged,
        ..record("a", 3, 40)
    };
    assert_eq!(try_pack(vec![impossible(3)]), out_of_order(1, 0));
    assert_eq!(try_pack(vec![impossible(u64::MAX)]), out_of_order(1, 0));
    let appended = append_records("a", vec![merged("a", 6..=7)]);
    assert!(matches!(one(store, appended), Err(Refusal::Malformed { .. })));
    assert_eq!(store.load(&session("a")).unwrap().unwrap().records, records("a", 1..=5));
    assert_eq!(try_pack(vec![merged("a", 1..=5)]), Ok(()));
    assert_eq!(try_pack(vec![merged("a", 4..=5)]), out_of_order(6, 4));
}

fn reading_within_a_merged_record_gives_the_whole_of_it(store: &dyn SessionStore) {
    begin(store, "a", 9);
    one(store, pack_records("a", vec![merged("a", 1..=3), record("a", 4, 40)])).unwrap();
    one(store, pack_records("a", vec![merged("a", 5..=7)])).unwrap();
    let served = [merged("a", 1..=3), record("a", 4, 40), merged("a", 5..=7)];
    let served = [served.as_slice(), &records("a", 8..=9)].concat();
    for after in 0..=10 {
        let rest: Vec<_> = served.iter().filter(|record| record.seq > after).cloned().collect();
        assert_eq!(
            store.read(&session("a"), after, usize::MAX).unwrap(),
            rest,
            "after {after}"
        );
        assert_eq!(store.read(&session("a"), after, 0).unwrap(), rest[..rest.len().min(1)]);
        assert_eq!(store.read(&session("a"), after, 80).unwrap(), rest[..rest.len().min(2)]);
    }
}

fn a_large_pack_reads_back(store: &dyn SessionStore) {
    begin(store, "a", 0);
    let sizes = [10, 700_000, 500_000, 0, 1_500_000, 30];
    let large: Vec<_> = (1..).zip(sizes).map(|(seq, bytes)| record("a", seq, bytes)).collect();
    for record in &large {
        one(store, append_records("a", vec![record.clone()])).unwrap();
    }
    let pack = Pack {
        session: session("a"),
        records: large.clone(),
    };
    assert_eq!(store.load(&session("a")).unwrap().unwrap().records, large);
    one(
        store,
        Request {
            pack: Some(pack),
            ..Request::default()
        },
    )
    .unwrap();
    assert_eq!(store.load(&session("a")).unwrap().unwrap().records, large);
    assert_eq!(store.read(&session("a"), 3, usize::MAX).unwrap(), large[3..]);
}

fn reading_starts_anywhere_and_stops_within_its_bytes(store: &dyn SessionStore) {
    begin(store, "a", 4);
    one(store, pack("a", 1..=4)).unwrap();
    one(store, append("a", 5..=8)).unwrap();
    one(store, pack("a", 5..=6)).unwrap();
    one(store, append("a", 9..=9)).unwrap();
    for after in 0..=10 {
        let rest = store.read(&session("a"), after, usize::MAX).unwrap();
        assert_eq!(rest, records("a", after + 1..=9), "after {after}");
        assert_eq!(store.read(&session("a"), after, 0).unwrap(), rest[..rest.len().min(1)]);
        assert_eq!(store.read(&session("a"), after, 79).unwrap(), rest[..rest.len().min(1)]);
        assert_eq!(store.read(&session("a"), after, 80).unwrap(), rest[..rest.len().min(2)]);
        assert_eq!(store.read(&session("a"), after, 81).unwrap(), rest[..rest.len().min(2)]);
    }
    assert_eq!(store.read(&session("a"), u64::MAX, 100).unwrap(), []);
}

fn sessions_with_similar_ids_do_not_mix(store: &dyn SessionStore) {
    let ids = ["a", "a1", "a!", "aa", "A", "a~~~~~~~~"];
    for (n, id) in (1..).zip(ids) {
        one(store, with_meta(meta(id, id, n))).unwrap();
        one(store, append(id, 1..=n as u64)).unwrap();
        one(store, pack(id, 1..=n as u64)).unwrap();
    }
    one(
        store,
        Request {
            unfinished: Some(true),
            ..append("a", 2..=2)
        },
    )
    .unwrap();
    for (n, id) in (1..).zip(ids) {
        let stored = store.load(&session(id)).unwrap().unwrap();
        assert_eq!(stored.records, records(id, 1..=if id == "a" { 2 } else { n }));
        assert_eq!((stored.packed_upto, stored.unfinished), (n, id == "a"));
        let listed = store.list(Some(&user(id)), None, 10).unwrap();
        assert_eq!(listed, [meta(id, id, n.cast_signed())]);
    }
    assert_eq!(store.unfinished().unwrap(), [session("a")]);
}

fn lists_are_newest_first_and_page_without_gaps(store: &dyn SessionStore) {
    let times = [("d", 5), ("a", 9), ("c", 5), ("b", -3), ("e", 5), ("f", 100)];
    for (id, updated) in times {
        one(
            store,
            with_meta(meta(id, if id == "f" { "bob" } else { "ann" }, updated)),
        )
        .unwrap();
    }
    let ids = |metas: Vec<kronos_actors::store::SessionMeta>| {
        metas
            .into_iter()
            .map(|meta| meta.session.as_str().to_owned())
            .collect::<String>()
    };
    assert_eq!(ids(store.list(Some(&user("ann")), None, 10).unwrap()), "acdeb");
    assert_eq!(ids(store.list(None, None, 10).unwrap()), "facdeb");
    assert_eq!(ids(store.list(Some(&user("an")), None, 10).unwrap()), "");
    assert_eq!(ids(store.list(None, None, 0).unwrap()), "");
    for owner in [None, Some(&user("ann"))] {
        for limit in 1..=6 {
            let (mut paged, mut after) = (Vec::new(), None);
            loop {
                let page = store.list(owner, after.as_ref(), limit).unwrap();
                let Some(last) = page.last() else { break };
                after = Some(ListPosition {
                    updated_at_ms: last.updated_at_ms,
                    session: last.session.clone(),
                });
                paged.extend(page);
            }
            assert_eq!(paged, store.list(owner, None, 10).unwrap());
        }
    }
    let gone = ListPosition {
        updated_at_ms: 5,
        session: session("cc"),
    };
    assert_eq!(ids(store.list(None, Some(&gone), 10).unwrap()), "deb");
}

fn a_new_meta_moves_its_session_in_every_list(store: &dyn SessionStore) {
    one(store, with_meta(meta("a", "ann", 1))).unwrap();
    one(store, with_meta(meta("b", "ann", 2))).unwrap();
    let group = [
        with_meta(meta("a", "ann", 3)),
        with_meta(meta("a", "ann", 4)),
        with_meta(meta("b", "bob", 9)),
    ];
    store.commit(&group).unwrap();
    assert_eq!(store.list(Some(&user("ann")), None, 10).unwrap(), [meta("a", "ann", 4)]);
    assert_eq!(store.list(Some(&user("bob")), None, 10).unwrap(), [meta("b", "bob", 9)]);
    assert_eq!(
        store.list(None, None, 10).unwrap(),
        [meta("b", "bob", 9), meta("a", "ann", 4)]
    );
    assert_eq!(store.meta(&session("a")).unwrap(), Some(meta("a", "ann", 4)));
}

fn unlisted_sessions_are_not_listed(store: &dyn SessionStore) {
    let feed = kronos_actors::store::SessionMeta {
        listed: false,
        ..meta("feed", "ann", 5)
    };
    one(store, with_meta(feed.clone())).unwrap();
    assert_eq!(store.list(None, None, 10).unwrap(), []);
    one(store, with_meta(meta("feed", "ann", 6))).unwrap();
    assert_eq!(store.list(Some(&user("ann")), None, 10).unwrap().len(), 1);
    one(store, with_meta(feed.clone())).unwrap();
    assert_eq!(store.list(Some(&user("ann")), None, 10).unwrap(), []);
    assert_eq!(store.list(None, None, 10).unwrap(), []);
    assert_eq!(store.meta(&session("feed")).unwrap(), Some(feed));
}

fn unfinished_marks_are_found(store: &dyn SessionStore) {
    for id in ["c", "a", "b"] {
        begin(store, id, 1);
    }
    one(
        store,
        Request {
            unfinished: Some(true),
            ..append("a", 2..=2)
        },
    )
    .unwrap();
    one(
        store,
        Request {
            unfinished: Some(true),
            ..with_meta(meta("b", "ann", 2))
        },
    )
    .unwrap();
    one(store, append("a", 3..=3)).unwrap();
    assert_eq!(store.unfinished().unwrap(), [session("a"), session("b")]);
    assert!(store.load(&session("a")).unwrap().unwrap().unfinished);
    one(
        store,
        Request {
            unfinished: Some(false),
            ..pack("a", 1..=3)
        },
    )
    .unwrap();
    one(
        store,
        Request {
            unfinished: Some(false),
            ..append("c", 2..=2)
        },
    )
    .unwrap();
    assert_eq!(store.unfinished().unwrap(), [session("b")]);
    // The session of the append is meant, not the one of the meta.
    let created = Request {
        append: Some(Append {
            session: session("c"),
            records: records("c", 3..=3),
        }),
        unfinished: Some(true),
        ..with_meta(meta("d", "ann", 2))
    };
    one(store, created).unwrap();
    assert_eq!(store.unfinished().unwrap(), [session("b"), session("c")]);
}

/// Everything that can be asked about a session.
fn assert_gone(store: &dyn SessionStore, id: &str) {
    assert_eq!(store.load(&session(id)).unwrap(), None);
    assert_eq!(store.meta(&session(id)).unwrap(), None);
    assert_eq!(store.read(&session(id), 0, usize::MAX).unwrap(), []);
    assert!(!store.unfinished().unwrap().contains(&session(id)));
    for listed in [store.list(None, None, 99), store.oldest(None, 99)] {
        assert!(listed.unwrap().iter().all(|meta| meta.session != session(id)));
    }
    let unknown = || Err(Refusal::UnknownSession { session: session(id) });
    assert_eq!(one(store, append(id, 1..=1)), unknown());
    assert_eq!(one(store, append(id, 6..=6)), unknown());
    assert_eq!(one(store, pack(id, 1..=1)), unknown());
}

fn a_deleted_session_does_not_exist(store: &dyn SessionStore) {
    for id in ["a", "a1"] {
        let whole = Request {
            unfinished: Some(true),
            pack: pack(id, 1..=3).pack,
            meta: Some(meta(id, "ann", 7)),
            ..append(id, 1..=5)
        };
        one(store, whole).unwrap();
    }
    begin(store, "empty", 0);
    let with_documents = Request {
        documents: vec![document("k", Some("v"), Expect::Absent)],
        ..delete("a")
    };
    assert_eq!(one(store, with_documents.clone()), Ok(()));
    assert_gone(store, "a");
    assert_eq!(store.document("user", "k").unwrap().unwrap(), "v");
    // All or nothing.
    let refused = Request {
        delete: Some(session("a1")),
        ..with_documents
    };
    assert!(matches!(one(store, refused), Err(Refusal::Condition { .. })));
    assert_eq!(
        store.load(&session("a1")).unwrap().unwrap().records,
        records("a1", 1..=5)
    );
    // What does not exist, or no longer, is deleted already.
    for id in ["a", "never", "empty", "empty"] {
        assert_eq!(one(store, delete(id)), Ok(()));
        assert_gone(store, id);
    }
    assert_eq!(store.unfinished().unwrap(), [session("a1")]);
    one(store, append("a1", 6..=6)).unwrap();
}

fn a_session_can_be_made_again_after_its_deletion(store: &dyn SessionStore) {
    // Keeps the batches of all.
    begin(store, "other", 1);
    for round in 1..=4_u64 {
        let mut first = meta("a", "ann", 5);
        first.title = Some(format!("round {round}"));
        one(store, with_meta(first.clone())).unwrap();
        assert_eq!(store.load(&session("a")).unwrap().unwrap().records, []);
        one(store, append("a", 1..=round + 1)).unwrap();
        if round % 2 == 0 {
            one(store, pack("a", 1..=round)).unwrap();
        }
        let stored = store.load(&session("a")).unwrap().unwrap();
        assert_eq!((stored.meta, stored.unfinished), (first, false));
        assert_eq!(stored.records, records("a", 1..=round + 1));
        assert_eq!(stored.packed_upto, if round % 2 == 0 { round } else { 0 });
        one(store, delete("a")).unwrap();
        assert_gone(store, "a");
    }
    assert_eq!(
        store.load(&session("other")).unwrap().unwrap().records,
        records("other", 1..=1)
    );
}

fn nothing_of_a_group_follows_a_deletion(store: &dyn SessionStore) {
    begin(store, "a", 2);
    let new = |id| Request {
        meta: Some(meta(id, "ann", 9)),
        pack: pack(id, 1..=1).pack,
        unfinished: Some(true),
        ..append(id, 1..=2)
    };
    let group = [
        new("b"),
        append("a", 3..=3),
        delete("a"),
        append("a", 4..=4),
        with_meta(meta("a", "ann", 2)),
        delete("b"),
        delete("b"),
        append("b", 3..=3),
        new("c"),
    ];
    let results: Vec<_> = store.commit(&group).unwrap().iter().map(Result::is_ok).collect();
    assert_eq!(results, [true, true, true, false, false, true, true, false, true]);
    assert_gone(store, "a");
    assert_gone(store, "b");
    assert_eq!(store.load(&session("c")).unwrap().unwrap().records, records("c", 1..=2));
    for id in ["a", "b"] {
        assert_eq!(one(store, new(id)), Ok(()));
        assert_eq!(store.load(&session(id)).unwrap().unwrap().records, records(id, 1..=2));
    }
}

fn the_oldest_come_in_the_order_of_the_list_turned_round(store: &dyn SessionStore) {
    for (id, updated) in [
        ("d", 5),
        ("a", 9),
        ("c", 5),
        ("b", -3),
        ("e", 5),
        ("f", 100),
        ("feed", 0),
    ] {
        let meta = kronos_actors::store::SessionMeta {
            listed: id != "feed",
            ..meta(id, if id == "f" { "bob" } else { "ann" }, updated)
        };
        one(store, with_meta(meta)).unwrap();
    }
    let mut all = store.list(None, None, 99).unwrap();
    all.reverse();
    assert_eq!(all.len(), 6);
    assert_eq!(store.oldest(None, 99).unwrap(), all);
    assert_eq!(store.oldest(None, 0).unwrap(), []);
    for limit in 1..=6 {
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = store.oldest(after.as_ref(), limit).unwrap();
            let Some(last) = page.last() else { break };
            after = Some(ListPosition {
                updated_at_ms: last.updated_at_ms,
                session: last.session.clone(),
            });
            paged.extend(page);
        }
        assert_eq!(paged, all);
    }
    let gone = ListPosition {
        updated_at_ms: 5,
        session: session("cc"),
    };
    let rest: Vec<_> = store.oldest(Some(&gone), 9).unwrap();
    let ids: String = rest.iter().map(|meta| meta.session.as_str()).collect();
    assert_eq!(ids, "caf");
}
