//! Finds the times in a stream of answers: the simulator writes when each delta left, and whoever reads it here knows its age.
//!
//! It looks for the field that holds text instead of parsing JSON, so that the reader costs as little as it can. The text is digits and
//! spaces, which no encoder escapes; merged deltas are several times behind each other.

/// Reads times out of pieces of bytes, also when one is cut in two.
#[derive(Debug)]
pub(crate) struct Stamps {
    field: &'static [u8],
    /// The end of the last piece, when a text may have begun there.
    rest: Vec<u8>,
}

impl Stamps {
    /// Makes a reader of the text after `field`, such as `"delta":"`.
    pub(crate) fn new(field: &'static str) -> Self {
        Self {
            field: field.as_bytes(),
            rest: Vec::new(),
        }
    }

    /// Reads a message that is whole.
    pub(crate) fn read(field: &str, message: &[u8], stamp: impl FnMut(u64)) {
        scan(field.as_bytes(), message, stamp);
    }

    /// Reads the next piece of a stream.
    pub(crate) fn read_piece(&mut self, piece: &[u8], stamp: impl FnMut(u64)) {
        if self.rest.is_empty() {
            let used = scan(self.field, piece, stamp);
            self.rest.extend_from_slice(piece.get(used..).unwrap_or_default());
        } else {
            self.rest.extend_from_slice(piece);
            let used = scan(self.field, &self.rest, stamp);
            self.rest.drain(..used);
        }
    }
}

/// Calls `stamp` for each time in a complete text; returns how many bytes need not be seen again.
fn scan(field: &[u8], bytes: &[u8], mut stamp: impl FnMut(u64)) -> usize {
    let mut at = 0;
    while let Some(found) = find(bytes.get(at..).unwrap_or_default(), field) {
        let start = at + found;
        let text = bytes.get(start + field.len()..).unwrap_or_default();
        let Some(end) = text.iter().position(|byte| *byte == b'"') else {
            return start;
        };
        let (text, _) = text.split_at(end);
        for digits in text.split(|byte| *byte == b' ').filter(|digits| !digits.is_empty()) {
            stamp(number(digits));
        }
        at = start + field.len() + end;
    }
    at.max(bytes.len().saturating_sub(field.len()))
}

fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number: u64, digit| {
        number
            .wrapping_mul(10)
            .wrapping_add(u64::from(digit.wrapping_sub(b'0')))
    })
}

/// Returns where `needle` begins.
pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    let first = *needle.first()?;
    let mut from = 0;
    while let Some(at) = haystack.get(from..)?.iter().position(|byte| *byte == first) {
        if haystack.get(from + at..)?.starts_with(needle) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_however_the_stream_is_cut() {
        let stream = br#"9\r\ndata: {"text":"12 "}..{"text":"","x":1}{"text":"3 45 "}"#;
        for size in 1..=stream.len() {
            let (mut reader, mut found) = (Stamps::new("\"text\":\""), Vec::new());
            for piece in stream.chunks(size) {
                reader.read_piece(piece, |stamp| found.push(stamp));
            }
            assert_eq!(found, [12, 3, 45], "pieces of {size}");
        }
    }
}
