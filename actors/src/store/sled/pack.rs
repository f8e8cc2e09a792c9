//! How a segment is compressed.
//!
//! A turn is small, and most of it is the same in every turn: the names of events and fields. So it is deflated with a
//! dictionary that holds those. Form: `FF FF FF FF`, length of the raw bytes `u32` little-endian, raw deflate. Segments of stores
//! before version 3 are lz4 with the length in front, which never begins like that.

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use crate::store::StoreError;

/// What turns have in common, as MessagePack; the most frequent last. Fixed for ever: what was packed with it needs it.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
const MARK: [u8; 4] = [0xFF; 4];
/// Most bytes that a segment may unpack to: far more than any holds.
const MAX_RAW_BYTES: usize = 256 * 1024 * 1024;

/// Compresses the bytes of a segment.
pub(super) fn pack(raw: &[u8]) -> Result<Vec<u8>, StoreError> {
    let fail = |what: &str| StoreError::Io(format!("a segment cannot be packed: {what}"));
    let length = u32::try_from(raw.len()).map_err(|error| fail(&error.to_string()))?;
    let mut deflate = Compress::new(Compression::default(), false);
    deflate
        .set_dictionary(DICTIONARY)
        .map_err(|error| fail(&error.to_string()))?;
    let mut packed = Vec::with_capacity(raw.len() / 2 + 64);
    packed.extend(MARK);
    packed.extend(length.to_le_bytes());
    loop {
        let taken = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = raw.get(taken..).unwrap_or_default();
        match deflate.compress_vec(rest, &mut packed, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => return Ok(packed),
            Ok(Status::Ok | Status::BufError) => packed.reserve(packed.len().max(256)),
            Err(error) => return Err(fail(&error.to_string())),
        }
    }
}

/// Reads what [`pack`] wrote, or a segment of an older store.
pub(super) fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let Some(rest) = packed.strip_prefix(&MARK) else {
        return lz4_flex::block::decompress_size_prepended(packed).map_err(|error| error.to_string());
    };
    let (length, deflated) = rest.split_first_chunk::<4>().ok_or("shorter than its header")?;
    let length = u32::from_le_bytes(*length) as usize;
    if length > MAX_RAW_BYTES {
        return Err("longer than a segment may be".to_owned());
    }
    let mut inflate = Decompress::new(false);
    inflate.set_dictionary(DICTIONARY).map_err(|error| error.to_string())?;
    let mut raw = Vec::with_capacity(length);
    match inflate.decompress_vec(deflated, &mut raw, FlushDecompress::Finish) {
        Ok(Status::StreamEnd) if raw.len() == length => Ok(raw),
        Ok(_) => Err("it holds another number of bytes than it says".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_back_and_what_was_changed_does_not() {
        for raw in [&b""[..], b"x", &[7; 100_000], &b"TEXT_MESSAGE_CONTENT".repeat(50)] {
            let packed = pack(raw).unwrap();
            assert_eq!(unpack(&packed).unwrap(), raw);
            for cut in 0..packed.len().min(40) {
                assert!(unpack(&packed[..cut]).is_err(), "{cut} of {}", packed.len());
            }
            let mut longer = packed.clone();
            longer[4] = longer[4].wrapping_add(1);
            assert!(unpack(&longer).is_err());
        }
    }

    #[test]
    fn a_segment_of_an_older_store_is_read() {
        let raw = b"an older segment, an older segment".to_vec();
        assert_eq!(unpack(&lz4_flex::block::compress_prepend_size(&raw)).unwrap(), raw);
    }

    #[test]
    fn the_dictionary_never_changes() {
        assert_eq!(crc32fast::hash(DICTIONARY), 0x5927A93E, "stores are packed with it");
    }
}
