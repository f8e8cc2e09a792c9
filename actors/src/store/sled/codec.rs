//! The bodies of the embedded store's values.
//!
//! - Write-ahead batch: MessagePack list of (session, records as MessagePack), so that one session's records are found
//!   without reading those of the others.
//! - Segment: first covered seq `u64`, last seq `u64`, then the records as MessagePack, packed (`pack.rs`).
//! - Meta: MessagePack of [`SessionMeta`].
//! - Document: as given.

use std::borrow::Cow;

use bytes::Bytes;
use kronos_protocol::{ids::SessionId, position::Seq};
use serde::Deserialize;

use super::{pack, value::corrupt};
use crate::store::{Record, SessionMeta, StoreError, order::follows};

/// Raw bytes at which a pack starts its next segment, so that reading a little never means unpacking a lot.
const SEGMENT_RAW_BYTES: usize = 1024 * 1024;
/// Bytes that the frame of a record takes beside its payload, about.
const RECORD_FRAME_BYTES: usize = 16;

fn unwritable(error: &rmp_serde::encode::Error) -> StoreError {
    StoreError::Io(format!("cannot be encoded: {error}"))
}

/// Records of one session in a write-ahead batch.
#[derive(Debug, Deserialize)]
pub(super) struct Entry<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] &'a [u8]);

impl Entry<'_> {
    pub(super) fn is_of(&self, session: &SessionId) -> bool {
        self.0 == session.as_str()
    }

    pub(super) fn session(&self, at: &[u8]) -> Result<SessionId, StoreError> {
        SessionId::try_from(self.0.as_ref()).map_err(|error| corrupt(at, &error.to_string()))
    }

    pub(super) fn records(&self, at: &[u8]) -> Result<Vec<Record>, StoreError> {
        records(at, self.1)
    }
}

fn records(at: &[u8], bytes: &[u8]) -> Result<Vec<Record>, StoreError> {
    let records: Vec<Record> = rmp_serde::from_slice(bytes).map_err(|error| corrupt(at, &error.to_string()))?;
    if records.windows(2).any(|pair| !follows(pair[0].seq, &pair[1])) {
        return Err(corrupt(at, "its records have a gap"));
    }
    Ok(records)
}

/// Writes a write-ahead batch.
pub(super) fn batch(entries: &[(&SessionId, Vec<&Record>)]) -> Result<Vec<u8>, StoreError> {
    let size = |records: &[&Record]| -> usize {
        let frames = records.len() * RECORD_FRAME_BYTES;
        records.iter().map(|record| record.payload.len()).sum::<usize>() + frames
    };
    let mut whole = 0;
    let encode = |(session, records): &(&SessionId, Vec<&Record>)| {
        let mut encoded = Vec::with_capacity(size(records));
        rmp_serde::encode::write(&mut encoded, records)?;
        whole += session.as_str().len() + encoded.len() + RECORD_FRAME_BYTES;
        Ok((session.as_str().to_owned(), Bytes::from(encoded)))
    };
    let entries: Result<Vec<_>, rmp_serde::encode::Error> = entries.iter().map(encode).collect();
    let write = |entries| {
        let mut batch = Vec::with_capacity(whole + RECORD_FRAME_BYTES);
        rmp_serde::encode::write(&mut batch, &entries).map(|()| batch)
    };
    entries.and_then(write).map_err(|error| unwritable(&error))
}

/// Reads what a write-ahead batch holds, session by session.
pub(super) fn entries<'a>(at: &[u8], body: &'a [u8]) -> Result<Vec<Entry<'a>>, StoreError> {
    rmp_serde::from_slice(body).map_err(|error| corrupt(at, &error.to_string()))
}

/// Writes a segment of records, which must not be empty.
pub(super) fn segment(records: &[Record]) -> Result<Vec<u8>, StoreError> {
    let (first, last) = records
        .first()
        .zip(records.last())
        .map_or((0, 0), |(first, last)| (first.first(), last.seq));
    let raw = rmp_serde::to_vec(records).map_err(|error| unwritable(&error))?;
    let mut body = Vec::new();
    body.extend(first.to_be_bytes());
    body.extend(last.to_be_bytes());
    body.extend(pack::pack(&raw)?);
    Ok(body)
}

/// Cuts the records of one pack into the runs that become segments.
pub(super) fn segments(records: &[Record]) -> impl Iterator<Item = &[Record]> {
    let mut rest = records;
    std::iter::from_fn(move || {
        let mut raw = 0;
        let fits = |record: &&Record| {
            let first = raw == 0;
            raw += record.payload.len() + RECORD_FRAME_BYTES;
            first || raw <= SEGMENT_RAW_BYTES
        };
        let (run, after) = rest.split_at(rest.iter().take_while(fits).count());
        rest = after;
        (!run.is_empty()).then_some(run)
    })
}

/// Reads the records of a segment that must end with `last`.
pub(super) fn segment_records(at: &[u8], body: &[u8], last: Seq) -> Result<Vec<Record>, StoreError> {
    let short = || corrupt(at, "shorter than its header");
    let (first, rest) = body.split_first_chunk::<8>().ok_or_else(short)?;
    let (upto, packed) = rest.split_first_chunk::<8>().ok_or_else(short)?;
    let raw = pack::unpack(packed).map_err(|what| corrupt(at, &what))?;
    let records = records(at, &raw)?;
    let bounds = records
        .first()
        .zip(records.last())
        .map(|(first, last)| (first.first(), last.seq));
    if Seq::from_be_bytes(*upto) != last || bounds != Some((Seq::from_be_bytes(*first), last)) {
        return Err(corrupt(at, "it holds other records than it says"));
    }
    Ok(records)
}

/// Writes a meta.
pub(super) fn meta(meta: &SessionMeta) -> Result<Vec<u8>, StoreError> {
    rmp_serde::to_vec_named(meta).map_err(|error| unwritable(&error))
}

/// Reads a meta.
pub(super) fn read_meta(at: &[u8], body: &[u8]) -> Result<SessionMeta, StoreError> {
    rmp_serde::from_slice(body).map_err(|error| corrupt(at, &error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(seq: Seq, bytes: usize) -> Record {
        Record::new(seq, Bytes::from(vec![b'x'; bytes]))
    }

    #[test]
    fn a_long_pack_is_cut_before_a_mebibyte_and_one_large_record_is_a_segment_of_its_own() {
        let sizes = [600_000, 400_000, 100_000, 3_000_000, 1];
        let records: Vec<_> = (1..).zip(sizes).map(|(seq, bytes)| record(seq, bytes)).collect();
        let runs: Vec<_> = segments(&records)
            .map(|run| run.iter().map(|record| record.seq).collect::<Vec<_>>())
            .collect();
        assert_eq!(runs, [vec![1, 2], vec![3], vec![4], vec![5]]);
        for run in segments(&records) {
            let body = segment(run).unwrap();
            assert_eq!(segment_records(b"", &body, run.last().unwrap().seq).unwrap(), run);
            assert!(segment_records(b"", &body, 9).is_err());
        }
        assert_eq!(segments(&[]).count(), 0);
    }

    #[test]
    fn a_merged_record_is_stored_with_its_extent_and_one_event_as_before() {
        #[derive(serde::Serialize)]
        struct Older {
            seq: Seq,
            payload: Bytes,
        }
        let older = rmp_serde::to_vec(&[Older {
            seq: 7,
            payload: Bytes::from_static(b"x"),
        }])
        .unwrap();
        assert_eq!(records(b"", &older).unwrap(), [record(7, 1)]);
        assert_eq!(rmp_serde::to_vec(&[record(7, 1)]).unwrap(), older);

        let merged = [
            Record {
                merged: 3,
                ..record(9, 5)
            },
            record(10, 1),
        ];
        let body = segment(&merged).unwrap();
        assert_eq!(body[..16], [6_u64.to_be_bytes(), 10_u64.to_be_bytes()].concat());
        assert_eq!(segment_records(b"", &body, 10).unwrap(), merged);
        let overlapping = [
            record(9, 5),
            Record {
                merged: 1,
                ..record(10, 1)
            },
        ];
        assert!(segment_records(b"", &segment(&overlapping).unwrap(), 10).is_err());
    }

    #[test]
    fn a_batch_tells_its_sessions_apart() {
        let (a, b) = (SessionId::try_from("a").unwrap(), SessionId::try_from("a1").unwrap());
        let (first, second) = (record(1, 3), record(2, 0));
        let body = batch(&[(&a, vec![&first, &second]), (&b, vec![&first])]).unwrap();
        let entries = entries(b"", &body).unwrap();
        assert!(entries[0].is_of(&a) && !entries[0].is_of(&b) && entries[1].is_of(&b));
        assert_eq!(entries[0].records(b"").unwrap(), [first, second]);
    }
}
