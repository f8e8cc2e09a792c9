//! Documents and their conditions, over each backend.

use bytes::Bytes;
use kronos_actors::store::{DocumentWrite, Expect, SessionStore, memory::MemoryStore, sled::SledStore};

use crate::fixtures::{CACHE_BYTES, document, documents, one};

contract!(
    documents_obey_their_conditions,
    conditions_of_one_request_see_the_state_before_it,
    documents_come_in_key_order_by_prefix,
    documents_of_any_size_and_key_read_back,
);

fn documents_obey_their_conditions(store: &dyn SessionStore) {
    let put = |value, expect| one(store, documents(vec![document("k", value, expect)])).is_ok();
    let is = |value: &'static str| Expect::Value(Bytes::from_static(value.as_bytes()));
    assert!(!put(Some("x"), is("")));
    assert!(put(None, Expect::Absent) && put(None, Expect::Any));
    assert!(put(Some("1"), Expect::Absent));
    assert!(!put(Some("2"), Expect::Absent) && !put(Some("2"), is("2")) && !put(None, is("10")));
    assert!(put(Some("2"), is("1")));
    assert_eq!(store.document("user", "k").unwrap().unwrap(), "2");
    assert_eq!(store.document("email", "k").unwrap(), None);
    assert!(put(Some(""), Expect::Any) && put(Some("3"), is("")));
    assert!(put(None, is("3")));
    assert_eq!(store.document("user", "k").unwrap(), None);
    assert!(put(Some("4"), Expect::Absent));
}

fn conditions_of_one_request_see_the_state_before_it(store: &dyn SessionStore) {
    let twice = documents(vec![
        document("k", Some("1"), Expect::Absent),
        document("k", Some("2"), Expect::Absent),
    ]);
    assert_eq!(one(store, twice), Ok(()));
    assert_eq!(store.document("user", "k").unwrap().unwrap(), "2");
    let moved = documents(vec![
        document("k", None, Expect::Value(Bytes::from_static(b"2"))),
        document("other", Some("2"), Expect::Absent),
    ]);
    assert_eq!(one(store, moved), Ok(()));
    assert_eq!(
        store.documents("user", "", None, 9).unwrap(),
        [("other".to_owned(), Bytes::from_static(b"2"))]
    );
}

fn documents_come_in_key_order_by_prefix(store: &dyn SessionStore) {
    let keys = ["", "a", "a\0", "a\0b", "a/1", "a/10", "a/2", "a0", "b", "ä"];
    let writes = keys
        .iter()
        .rev()
        .map(|key| document(key, Some(key), Expect::Any))
        .collect();
    one(store, documents(writes)).unwrap();
    one(
        store,
        documents(vec![DocumentWrite {
            family: "use",
            ..document("a/3", Some("x"), Expect::Any)
        }]),
    )
    .unwrap();
    let found = |prefix: &str, after: Option<&str>, limit| {
        let found = store.documents("user", prefix, after, limit).unwrap();
        found
            .into_iter()
            .map(|(key, value)| {
                assert_eq!(value, key);
                key
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(found("", None, 99), keys);
    assert_eq!(found("a", None, 99), keys[1..8]);
    assert_eq!(found("a/1", None, 99), ["a/1", "a/10"]);
    assert_eq!(found("a/", Some("a/1"), 99), ["a/10", "a/2"]);
    assert_eq!(found("a/", Some("a/1"), 1), ["a/10"]);
    assert_eq!(found("a/", Some("a"), 99), ["a/1", "a/10", "a/2"]);
    assert_eq!(found("a/", Some("b"), 99), Vec::<String>::new());
    assert_eq!(found("zz", None, 99), Vec::<String>::new());
    assert_eq!(found("", Some("ä"), 99), Vec::<String>::new());
}

fn documents_of_any_size_and_key_read_back(store: &dyn SessionStore) {
    let sizes = [0, 1, 8182, 8183, 8184, 20_000, 1_000_000, 100, 8183, 0];
    for (n, bytes) in sizes.into_iter().enumerate() {
        let value = vec![b'a' + n as u8; bytes];
        let write = DocumentWrite {
            value: Some(Bytes::from(value.clone())),
            ..document("k", None, Expect::Any)
        };
        let neighbour = document(&format!("k{n}"), Some("n"), Expect::Any);
        one(store, documents(vec![write, neighbour])).unwrap();
        assert_eq!(store.document("user", "k").unwrap().unwrap(), value);
        assert_eq!(store.documents("user", "", None, 99).unwrap().len(), n + 2);
    }
    one(store, documents(vec![document("k", None, Expect::Any)])).unwrap();
    assert_eq!(store.documents("user", "", None, 99).unwrap().len(), sizes.len());
}
