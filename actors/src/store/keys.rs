//! Every key of the embedded store, in one place. No other module builds or takes apart a key.
//!
//! One tree. Numbers are big-endian, so that bytes sort as numbers do. A text is followed by `00 01`, and a zero byte
//! within it is written `00 FF`: no key is a prefix of another text's key, and texts sort as themselves.
//!
//! | key | value |
//! |---|---|
//! | `v` | schema version: `u32`, crc32 of it |
//! | `w` number `u64` + part | write-ahead batch: what all sessions appended in one commit; the newest one always stays |
//! | `s` session, last seq `u64` + part | segment: packed records of one session, up to and including that seq |
//! | `m` session + part | [`SessionMeta`](super::SessionMeta) |
//! | `o` owner, updated `u64` inverted, session | empty: a listed session of this owner, newest first |
//! | `g` updated `u64` inverted, session | empty: a listed session of anybody, newest first |
//! | `u` session | empty: the session has unfinished work |
//! | `d` family, key + part | document |
//! | `x` session + part | grave of a deleted session: number `u64` of the commit that deleted it |
//! | `n` | empty: written to wake a stuck flush, never read |
//!
//! A value lies in parts (`u16` at the end of the key, from 0) of bounded size; how is told in `sled/value.rs`.

use kronos_protocol::{
    ids::{SessionId, UserId},
    position::Seq,
};

use crate::clock::Millis;

/// Key of the schema version.
pub const SCHEMA: &[u8] = b"v";
/// Prefix of write-ahead batches.
pub const BATCHES: &[u8] = b"w";
/// Prefix of the marks of unfinished work.
pub const UNFINISHED: &[u8] = b"u";
/// Prefix of the graves of deleted sessions.
pub const GRAVES: &[u8] = b"x";
/// Key of the row whose writing wakes a flush that waits for a failed write.
pub const NUDGE: &[u8] = b"n";

const ZERO: u8 = 0x00;
const ESCAPED: u8 = 0xFF;
const END: u8 = 0x01;

fn escaped(key: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        key.push(byte);
        if byte == ZERO {
            key.push(ESCAPED);
        }
    }
}

fn text(key: &mut Vec<u8>, text: &str) {
    escaped(key, text);
    key.extend([ZERO, END]);
}

/// Takes the text at the front of `key`; returns it and what follows its end.
fn take_text(key: &[u8]) -> Option<(String, &[u8])> {
    let mut bytes = Vec::new();
    let mut rest = key;
    loop {
        match rest {
            [ZERO, END, after @ ..] => return Some((String::from_utf8(bytes).ok()?, after)),
            [ZERO, ESCAPED, after @ ..] => {
                bytes.push(ZERO);
                rest = after;
            }
            [ZERO, ..] | [] => return None,
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
}

/// Newest first: the order of `i64` kept, then turned round.
fn newest_first(updated: Millis) -> [u8; 8] {
    let ascending = updated.cast_unsigned() ^ (1 << 63);
    (!ascending).to_be_bytes()
}

fn take_updated(key: &[u8]) -> Option<(Millis, &[u8])> {
    let (number, rest) = key.split_first_chunk::<8>()?;
    Some(((!u64::from_be_bytes(*number) ^ (1 << 63)).cast_signed(), rest))
}

fn with_text(prefix: u8, of: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(of.len() + 16);
    key.push(prefix);
    text(&mut key, of);
    key
}

/// Returns the key of one part of a value.
#[must_use]
pub fn part(base: &[u8], number: u16) -> Vec<u8> {
    let mut key = Vec::with_capacity(base.len() + 2);
    key.extend_from_slice(base);
    key.extend(number.to_be_bytes());
    key
}

/// Takes a part's key apart into its base and its number.
#[must_use]
pub fn split_part(key: &[u8]) -> Option<(&[u8], u16)> {
    let (base, number) = key.split_last_chunk::<2>()?;
    Some((base, u16::from_be_bytes(*number)))
}

/// Returns the base key of a write-ahead batch.
#[must_use]
pub fn batch(number: u64) -> Vec<u8> {
    let mut key = BATCHES.to_vec();
    key.extend(number.to_be_bytes());
    key
}

/// Reads the number out of a base key made by [`batch`].
#[must_use]
pub fn batch_number(base: &[u8]) -> Option<u64> {
    let number = base.strip_prefix(BATCHES)?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}

/// Returns the prefix of all segments of `session`.
#[must_use]
pub fn segments(session: &SessionId) -> Vec<u8> {
    with_text(b's', session.as_str())
}

/// Returns the base key of the segment of `session` that ends with `last`.
#[must_use]
pub fn segment(session: &SessionId, last: Seq) -> Vec<u8> {
    let mut key = segments(session);
    key.extend(last.to_be_bytes());
    key
}

/// Reads the last seq out of a base key made by [`segment`].
#[must_use]
pub fn segment_last(base: &[u8]) -> Option<Seq> {
    let (_, last) = base.split_last_chunk::<8>()?;
    Some(Seq::from_be_bytes(*last))
}

/// Returns the base key of a session's meta.
#[must_use]
pub fn meta(session: &SessionId) -> Vec<u8> {
    with_text(b'm', session.as_str())
}

/// Returns the prefix of the listing of `owner`, or of everybody.
#[must_use]
pub fn listing(owner: Option<&UserId>) -> Vec<u8> {
    owner.map_or_else(|| b"g".to_vec(), |owner| with_text(b'o', owner.as_str()))
}

/// Returns the row of a session in the listing of `owner`, or of everybody.
#[must_use]
pub fn listed(owner: Option<&UserId>, updated: Millis, session: &SessionId) -> Vec<u8> {
    let mut key = listing(owner);
    key.extend(newest_first(updated));
    text(&mut key, session.as_str());
    key
}

/// Reads time and session out of a row of the listing with `prefix`.
#[must_use]
pub fn listed_session(prefix: &[u8], key: &[u8]) -> Option<(Millis, SessionId)> {
    let (updated, rest) = take_updated(key.strip_prefix(prefix)?)?;
    let (session, []) = take_text(rest)? else { return None };
    Some((updated, SessionId::try_from(session).ok()?))
}

/// Returns the mark of unfinished work of `session`.
#[must_use]
pub fn unfinished(session: &SessionId) -> Vec<u8> {
    with_text(UNFINISHED[0], session.as_str())
}

/// Reads the session out of a key made by [`unfinished`].
#[must_use]
pub fn unfinished_session(key: &[u8]) -> Option<SessionId> {
    let (session, []) = take_text(key.strip_prefix(UNFINISHED)?)? else {
        return None;
    };
    SessionId::try_from(session).ok()
}

/// Returns the base key of the grave of `session`.
#[must_use]
pub fn grave(session: &SessionId) -> Vec<u8> {
    with_text(GRAVES[0], session.as_str())
}

/// Reads the session out of a base key made by [`grave`].
#[must_use]
pub fn grave_session(base: &[u8]) -> Option<SessionId> {
    let (session, []) = take_text(base.strip_prefix(GRAVES)?)? else {
        return None;
    };
    SessionId::try_from(session).ok()
}

/// Returns the base key of a document.
#[must_use]
pub fn document(family: &str, key: &str) -> Vec<u8> {
    let mut base = with_text(b'd', family);
    text(&mut base, key);
    base
}

/// Returns the prefix of the documents of `family` whose keys start with `prefix`.
#[must_use]
pub fn documents(family: &str, prefix: &str) -> Vec<u8> {
    let mut base = with_text(b'd', family);
    escaped(&mut base, prefix);
    base
}

/// Reads the document's key out of a base key made by [`document`] for `family`.
#[must_use]
pub fn document_key(family: &str, base: &[u8]) -> Option<String> {
    let (key, []) = take_text(base.strip_prefix(with_text(b'd', family).as_slice())?)? else {
        return None;
    };
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_is_a_prefix_of_another_and_texts_sort_as_themselves() {
        let texts = [
            "", "\0", "\0\0", "\0a", "a", "a\0", "a\0b", "a\u{1}", "a1", "ab", "b", "ä",
        ];
        let keys: Vec<_> = texts.iter().map(|text| document("user", text)).collect();
        assert!(keys.is_sorted());
        for (n, key) in keys.iter().enumerate() {
            assert_eq!(document_key("user", key).as_deref(), Some(texts[n]));
            assert!(
                keys.iter()
                    .enumerate()
                    .all(|(m, other)| m == n || !other.starts_with(key))
            );
        }
    }

    #[test]
    fn listings_sort_newest_first_and_read_back() {
        let session = SessionId::try_from("a").unwrap();
        let times = [Millis::MAX, 5, 0, -1, Millis::MIN];
        let keys: Vec<_> = times.iter().map(|time| listed(None, *time, &session)).collect();
        assert!(keys.is_sorted());
        for (key, time) in keys.iter().zip(times) {
            assert_eq!(listed_session(b"g", key), Some((time, session.clone())));
        }
    }
}
