//! Requests and what they are made of.

use bytes::Bytes;
use kronos_actors::store::{Append, DocumentWrite, Expect, Pack, Record, Refusal, Request, SessionMeta, SessionStore};
use kronos_protocol::{
    ids::{EpochId, SessionId, UserId},
    position::Seq,
};

pub(crate) const CACHE_BYTES: u64 = 8 * 1024 * 1024;

pub(crate) fn session(id: &str) -> SessionId {
    SessionId::try_from(id).unwrap()
}

pub(crate) fn user(id: &str) -> UserId {
    UserId::try_from(id).unwrap()
}

/// A record whose payload tells session and seq, so that a mix-up shows, and cannot be compressed.
pub(crate) fn record(id: &str, seq: Seq, bytes: usize) -> Record {
    let mut payload = format!("{id}:{seq};").into_bytes();
    let mut noise = seq;
    payload.extend((payload.len()..bytes).map(|_| {
        noise = noise
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (noise >> 56) as u8
    }));
    Record::new(seq, Bytes::from(payload))
}

pub(crate) fn records(id: &str, seqs: std::ops::RangeInclusive<Seq>) -> Vec<Record> {
    seqs.map(|seq| record(id, seq, 40)).collect()
}

pub(crate) fn meta(id: &str, owner: &str, updated_at_ms: i64) -> SessionMeta {
    SessionMeta {
        session: session(id),
        owner: user(owner),
        epoch: EpochId::try_from("e_1").unwrap(),
        title: Some(format!("title of {id}")),
        settings: "{}".to_owned(),
        listed: true,
        created_at_ms: 1,
        updated_at_ms,
        message_count: 3,
        preview: None,
        relaxed_run: false,
    }
}

pub(crate) fn with_meta(meta: SessionMeta) -> Request {
    Request {
        meta: Some(meta),
        ..Request::default()
    }
}

pub(crate) fn append(id: &str, seqs: std::ops::RangeInclusive<Seq>) -> Request {
    append_records(id, records(id, seqs))
}

pub(crate) fn append_records(id: &str, records: Vec<Record>) -> Request {
    Request {
        append: Some(Append {
            session: session(id),
            records,
        }),
        ..Request::default()
    }
}

/// One record that stands for all events of `seqs`.
pub(crate) fn merged(id: &str, seqs: std::ops::RangeInclusive<Seq>) -> Record {
    Record {
        merged: seqs.end() - seqs.start(),
        ..record(id, *seqs.end(), 40)
    }
}

pub(crate) fn pack(id: &str, seqs: std::ops::RangeInclusive<Seq>) -> Request {
    pack_records(id, records(id, seqs))
}

pub(crate) fn pack_records(id: &str, records: Vec<Record>) -> Request {
    Request {
        pack: Some(Pack {
            session: session(id),
            records,
        }),
        ..Request::default()
    }
}

pub(crate) fn document(key: &str, value: Option<&str>, expect: Expect) -> DocumentWrite {
    let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    DocumentWrite {
        family: "user",
        key: key.to_owned(),
        value,
        expect,
    }
}

pub(crate) fn documents(documents: Vec<DocumentWrite>) -> Request {
    Request {
        documents,
        ..Request::default()
    }
}

pub(crate) fn delete(id: &str) -> Request {
    Request {
        delete: Some(session(id)),
        ..Request::default()
    }
}

/// Commits one request and returns its own result.
pub(crate) fn one(store: &dyn SessionStore, request: Request) -> Result<(), Refusal> {
    store.commit(&[request]).unwrap().remove(0)
}

/// Makes a session with records `1..=last`, none of them packed.
pub(crate) fn begin(store: &dyn SessionStore, id: &str, last: Seq) {
    one(store, with_meta(meta(id, "ann", 1))).unwrap();
    if last > 0 {
        one(store, append(id, 1..=last)).unwrap();
    }
}

pub(crate) fn seqs(records: &[Record]) -> Vec<Seq> {
    records.iter().map(|record| record.seq).collect()
}
