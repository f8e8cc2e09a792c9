//! How a value lies in the tree: framed with version and checksum, in parts of bounded size.
//!
//! A page of sled holds up to about twenty neighbouring rows, and a page over a quarter of a segment is written as a file of
//! its own that nobody syncs (`blobs/`, `pagecache/logger.rs` of sled 0.34.7). So no row is larger than [`PART_BYTES`]:
//! twenty of them stay under a quarter of [`SEGMENT_BYTES`], and every byte is in the one file that a commit syncs.
//!
//! Frame, at the front of part 0: version `u8`, crc32 `u32` over base key and body, length of the body `u32`.

use sled::IVec;

use crate::store::{StoreError, keys};

/// Bytes of one segment of sled's file. Fixed when a store is made: sled refuses to open it with another one.
pub(super) const SEGMENT_BYTES: usize = 1024 * 1024;
/// Most bytes of one row's value.
pub(super) const PART_BYTES: usize = 8 * 1024;

const VERSION: u8 = 1;
const HEADER: usize = 9;

/// Key and value of one row.
pub(super) type Row = (Vec<u8>, Vec<u8>);

/// A value put together from its parts.
#[derive(Debug)]
pub(super) struct Value {
    /// Key without the number of a part.
    pub(super) base: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// Cuts `body` into the rows of `base`.
pub(super) fn rows(base: &[u8], body: &[u8]) -> Result<Vec<Row>, StoreError> {
    let too_large = || StoreError::Io(format!("a value of {} bytes is too large", body.len()));
    let length = u32::try_from(body.len())
        .ok()
        .filter(|_| body.len() < PART_BYTES * usize::from(u16::MAX));
    let length = length.ok_or_else(too_large)?;
    let mut framed = Vec::with_capacity(HEADER + body.len());
    framed.push(VERSION);
    framed.extend(checksum(base, body).to_be_bytes());
    framed.extend(length.to_be_bytes());
    framed.extend_from_slice(body);
    Ok((0..=u16::MAX)
        .zip(framed.chunks(PART_BYTES))
        .map(|(n, part)| (keys::part(base, n), part.to_vec()))
        .collect())
}

/// Tells how many parts a value has from the first of them.
pub(super) fn parts(at: &[u8], first: &[u8]) -> Result<u16, StoreError> {
    let header = Header::read(at, first)?;
    u16::try_from((HEADER + header.length).div_ceil(PART_BYTES)).map_err(|error| corrupt(at, &error.to_string()))
}

fn checksum(base: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(base);
    hasher.update(body);
    hasher.finalize()
}

struct Header {
    checksum: u32,
    length: usize,
}

impl Header {
    fn read(at: &[u8], first: &[u8]) -> Result<Self, StoreError> {
        let (header, _) = first
            .split_first_chunk::<HEADER>()
            .ok_or_else(|| corrupt(at, "shorter than its header"))?;
        let [version, c0, c1, c2, c3, l0, l1, l2, l3] = *header;
        if version != VERSION {
            return Err(corrupt(at, "unknown version of the frame"));
        }
        Ok(Self {
            checksum: u32::from_be_bytes([c0, c1, c2, c3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]) as usize,
        })
    }
}

/// Puts the values in a range of rows together, one after the other.
pub(super) struct Values<I> {
    rows: I,
}

/// Reads whole values from `rows`, which must start at a first part.
pub(super) fn values<I: Iterator<Item = sled::Result<(IVec, IVec)>>>(rows: I) -> Values<I> {
    Values { rows }
}

impl<I: Iterator<Item = sled::Result<(IVec, IVec)>>> Values<I> {
    fn rest(&mut self, key: &IVec, first: &IVec) -> Result<Value, StoreError> {
        let (base, 0) = keys::split_part(key).ok_or_else(|| corrupt(key, "a key without a part"))? else {
            return Err(corrupt(key, "its first part is missing"));
        };
        let header = Header::read(key, first)?;
        let parts = parts(key, first)?;
        let mut body = Vec::with_capacity(header.length.min(PART_BYTES * usize::from(parts)));
        body.extend_from_slice(first.get(HEADER..).unwrap_or_default());
        for number in 1..parts {
            let (key, part) = self
                .rows
                .next()
                .ok_or_else(|| corrupt(key, "it ends early"))?
                .map_err(failed)?;
            if keys::split_part(&key) != Some((base, number)) {
                return Err(corrupt(&key, "a part is missing before it"));
            }
            body.extend_from_slice(&part);
        }
        if body.len() != header.length || checksum(base, &body) != header.checksum {
            return Err(corrupt(key, "its checksum does not fit"));
        }
        Ok(Value {
            base: base.to_vec(),
            body,
        })
    }
}

impl<I: Iterator<Item = sled::Result<(IVec, IVec)>>> Iterator for Values<I> {
    type Item = Result<Value, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, first) = match self.rows.next()? {
            Ok(row) => row,
            Err(error) => return Some(Err(failed(error))),
        };
        Some(self.rest(&key, &first))
    }
}

/// Reads the one value at `base`.
pub(super) fn get(db: &sled::Db, base: &[u8]) -> Result<Option<Value>, StoreError> {
    let key = keys::part(base, 0);
    let Some(first) = db.get(&key).map_err(failed)? else {
        return Ok(None);
    };
    let rest = (1..parts(&key, &first)?).map(|number| {
        let key = keys::part(base, number);
        db.get(&key).map(|part| (IVec::from(key), part.unwrap_or_default()))
    });
    values(std::iter::once(Ok((IVec::from(key), first))).chain(rest))
        .next()
        .transpose()
}

/// Returns the error for stored bytes that cannot be right. The bytes themselves are never told, only the key.
pub(super) fn corrupt(at: &[u8], what: &str) -> StoreError {
    StoreError::Corrupt {
        at: format!("key {}", at.escape_ascii()),
        what: what.to_owned(),
    }
}

/// Translates an error of sled.
pub(super) fn failed(error: sled::Error) -> StoreError {
    match error {
        sled::Error::Corruption { at, .. } => StoreError::Corrupt {
            at: at.map_or_else(
                || "an unknown place in the file".to_owned(),
                |at| format!("{at:?} in the file"),
            ),
            what: "a page fails its checksum".to_owned(),
        },
        sled::Error::Io(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => StoreError::Corrupt {
            at: "the file".to_owned(),
            what: "it ends early".to_owned(),
        },
        sled::Error::Io(error) => StoreError::Io(error.to_string()),
        sled::Error::CollectionNotFound(_) | sled::Error::Unsupported(_) | sled::Error::ReportableBug(_) => {
            StoreError::Io(error.to_string())
        }
    }
}
