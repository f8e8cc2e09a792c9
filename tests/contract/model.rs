//! Random requests against a slow obvious model, with reopening at random points.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kronos_actors::store::{
    Append, DocumentWrite, Expect, Pack, Record, Request, SessionMeta, SessionStore, memory::MemoryStore,
    sled::SledStore,
};
use proptest::prelude::*;

use crate::fixtures::{CACHE_BYTES, meta, record, session, user};

const IDS: [&str; 4] = ["a", "a1", "b", "zz"];
const KEYS: [&str; 3] = ["k", "k1", "k\0"];

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Draft>),
    Reopen,
}

/// A request relative to what is stored, so that most of them fit and some do not.
#[derive(Debug, Clone)]
struct Draft {
    session: usize,
    /// How many records, their size, and how far beside the right place they start.
    append: Option<(u64, usize, i64)>,
    /// How many of the unpacked records stay unpacked, how far beside the right place the pack starts, and how many events
    /// become one record.
    pack: Option<(u64, i64, usize)>,
    meta: Option<(bool, i64, usize)>,
    unfinished: Option<bool>,
    /// Key, value, condition: 0 any, 1 absent, 2 what the model has, 3 something else.
    documents: Vec<(usize, Option<u8>, u8)>,
    /// Instead of all but the documents.
    delete: bool,
}

/// Mostly 0: in the right place.
fn beside() -> impl Strategy<Value = i64> {
    prop_oneof![8 => Just(0_i64), 1 => -2..3_i64]
}

fn draft() -> impl Strategy<Value = Draft> {
    let size = prop_oneof![6 => 0..300_usize, 1 => 8_000..20_000_usize];
    (
        0..IDS.len(),
        proptest::option::of((1..5_u64, size, beside())),
        proptest::option::weighted(0.3, (0..4_u64, beside(), 1..4_usize)),
        proptest::option::weighted(0.4, (proptest::bool::weighted(0.8), -3..20_i64, 0..2_usize)),
        proptest::option::of(any::<bool>()),
        proptest::collection::vec((0..KEYS.len(), proptest::option::of(any::<u8>()), 0..4_u8), 0..3),
        proptest::bool::weighted(0.1),
    )
        .prop_map(|(session, append, pack, meta, unfinished, documents, delete)| Draft {
            session,
            append,
            pack,
            meta,
            unfinished,
            documents,
            delete,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![5 => proptest::collection::vec(draft(), 0..6).prop_map(Step::Commit), 1 => Just(Step::Reopen)]
}

/// One record for all of `records`, which may be merged ones themselves.
fn merge(records: &[Record]) -> Record {
    let (first, last) = (&records[0], &records[records.len() - 1]);
    Record {
        merged: last.seq - first.first(),
        ..last.clone()
    }
}

#[derive(Debug, Clone, Default)]
struct Model {
    metas: BTreeMap<&'static str, SessionMeta>,
    records: BTreeMap<&'static str, Vec<Record>>,
    /// Up to where each session is packed, and into how many records.
    packed: BTreeMap<&'static str, (u64, usize)>,
    unfinished: BTreeMap<&'static str, bool>,
    documents: BTreeMap<&'static str, Bytes>,
    /// Deleted in this group.
    deleted: BTreeSet<&'static str>,
}

impl Model {
    fn records(&self, id: &str) -> &[Record] {
        self.records.get(id).map_or(&[], Vec::as_slice)
    }

    fn last(&self, id: &str) -> u64 {
        self.records(id).last().map_or(0, |record| record.seq)
    }

    /// Builds the request and, when it must succeed, the model after it.
    fn request(&self, draft: &Draft) -> (Request, Option<Self>) {
        let id = IDS[draft.session];
        let (mut request, mut after, mut good) = (Request::default(), self.clone(), true);
        if draft.delete {
            request.delete = Some(session(id));
            after.forget(id);
            good &= self.write_documents(draft, &mut request, &mut after);
            return (request, good.then_some(after));
        }
        if let Some((listed, updated, owner)) = draft.meta {
            let meta = SessionMeta {
                listed,
                ..meta(id, ["ann", "bob"][owner], updated)
            };
            after.metas.insert(id, meta.clone());
            request.meta = Some(meta);
        }
        if let Some((count, bytes, beside)) = draft.append {
            let first = (self.last(id) + 1).saturating_add_signed(beside);
            let records: Vec<_> = (first..first + count).map(|seq| record(id, seq, bytes)).collect();
            after.records.entry(id).or_default().extend(records.clone());
            request.append = Some(Append {
                session: session(id),
                records,
            });
            good &= first == self.last(id) + 1;
        }
        if let Some((keep, beside, chunk)) = draft.pack {
            let (_, packed) = self.packed.get(id).copied().unwrap_or((0, 0));
            let upto = after.records(id).len().saturating_sub(keep as usize).max(packed);
            let shifted = packed.saturating_add_signed(beside as isize).min(upto);
            let records: Vec<_> = after.records(id)[shifted..upto].chunks(chunk).map(merge).collect();
            good &= records.is_empty() || shifted == packed;
            if let Some(last) = records.last().filter(|_| shifted == packed) {
                after.packed.insert(id, (last.seq, packed + records.len()));
                after
                    .records
                    .entry(id)
                    .or_default()
                    .splice(packed..upto, records.clone());
            }
            request.pack = Some(Pack {
                session: session(id),
                records,
            });
        }
        good &= after.metas.contains_key(id) || (request.append.is_none() && request.pack.is_none());
        request.unfinished = draft.unfinished;
        if let Some(unfinished) = draft.unfinished {
            good &= request.append.is_some() || request.pack.is_some() || request.meta.is_some();
            after.unfinished.insert(id, unfinished);
        }
        let names = request.append.is_some() || request.pack.is_some() || request.meta.is_some();
        good &= !(names && self.deleted.contains(id));
        good &= self.write_documents(draft, &mut request, &mut after);
        (request, good.then_some(after))
    }

    fn forget(&mut self, id: &'static str) {
        self.metas.remove(id);
        self.records.remove(id);
        self.packed.remove(id);
        self.unfinished.remove(id);
        self.deleted.insert(id);
    }

    /// Adds the documents of the draft; false when a condition of them does not hold.
    fn write_documents(&self, draft: &Draft, request: &mut Request, after: &mut Self) -> bool {
        let mut good = true;
        for (key, value, condition) in &draft.documents {
            let (key, stored) = (KEYS[*key], self.documents.get(KEYS[*key]));
            let other = Bytes::from_static(b"something else");
            let expect = match condition {
                0 => Expect::Any,
                1 => Expect::Absent,
                2 => stored.map_or(Expect::Absent, |stored| Expect::Value(stored.clone())),
                _ => Expect::Value(other),
            };
            good &= match expect {
                Expect::Any => true,
                Expect::Absent => stored.is_none(),
                Expect::Value(_) => *condition == 2,
            };
            let value = value.map(|value| Bytes::from(vec![value; usize::from(value) * 100]));
            match &value {
                Some(value) => after.documents.insert(key, value.clone()),
                None => after.documents.remove(key),
            };
            request.documents.push(DocumentWrite {
                family: "user",
                key: key.to_owned(),
                value,
                expect,
            });
        }
        good
    }

    fn check(&self, store: &dyn SessionStore) {
        for id in IDS {
            let stored = store.load(&session(id)).unwrap();
            assert_eq!(stored.as_ref().map(|stored| &stored.meta), self.metas.get(id));
            let Some(stored) = stored else {
                assert_eq!(store.read(&session(id), 0, usize::MAX).unwrap(), []);
                continue;
            };
            assert_eq!(stored.records, self.records(id), "records of {id}");
            assert_eq!(stored.packed_upto, self.packed.get(id).map_or(0, |(upto, _)| *upto));
            assert_eq!(stored.unfinished, self.unfinished.get(id).copied().unwrap_or(false));
            for after in [1, stored.packed_upto, self.last(id) / 2] {
                let rest: Vec<_> = stored
                    .records
                    .iter()
                    .filter(|record| record.seq > after)
                    .cloned()
                    .collect();
                assert_eq!(store.read(&session(id), after, usize::MAX).unwrap(), rest);
            }
        }
        for owner in [None, Some(user("ann")), Some(user("bob"))] {
            let mine = |meta: &&SessionMeta| meta.listed && owner.as_ref().is_none_or(|owner| meta.owner == *owner);
            let mut metas: Vec<_> = self.metas.values().filter(mine).cloned().collect();
            metas.sort_by_key(|meta| (std::cmp::Reverse(meta.updated_at_ms), meta.session.clone()));
            assert_eq!(store.list(owner.as_ref(), None, 99).unwrap(), metas);
            if owner.is_none() {
                metas.reverse();
                assert_eq!(store.oldest(None, 99).unwrap(), metas);
            }
        }
        let marked: Vec<_> = self
            .unfinished
            .iter()
            .filter(|(_, marked)| **marked)
            .map(|(id, _)| session(id))
            .collect();
        assert_eq!(store.unfinished().unwrap(), marked);
        let mut documents: Vec<_> = self
            .documents
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()))
            .collect();
        documents.sort();
        assert_eq!(store.documents("user", "", None, 99).unwrap(), documents);
    }
}

fn run(steps: Vec<Step>, mut store: Box<dyn SessionStore>, reopen: impl Fn() -> Option<Box<dyn SessionStore>>) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Reopen => {
                drop(std::mem::replace(&mut store, Box::new(MemoryStore::default())));
                let Some(again) = reopen() else { return };
                store = again;
            }
            Step::Commit(drafts) => {
                let (mut group, mut expected) = (Vec::new(), Vec::new());
                for draft in &drafts {
                    let (request, after) = model.request(draft);
                    expected.push(after.is_some());
                    model = after.unwrap_or(model);
                    group.push(request);
                }
                model.deleted.clear();
                let results = store.commit(&group).unwrap();
                let found: Vec<_> = results.iter().map(Result::is_ok).collect();
                assert_eq!(found, expected, "{results:?}");
            }
        }
        model.check(store.as_ref());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_store_is_the_model(steps in proptest::collection::vec(step(), 1..14)) {
        let folder = tempfile::tempdir().unwrap();
        let open = || Box::new(SledStore::open(folder.path(), CACHE_BYTES).unwrap()) as Box<dyn SessionStore>;
        run(steps, open(), || Some(open()));
    }

    #[test]
    fn the_store_in_memory_is_the_model(steps in proptest::collection::vec(step(), 1..14)) {
        run(steps, Box::new(MemoryStore::default()), || None);
    }
}
