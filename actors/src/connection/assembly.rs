//! Puts fragments together. The guard has checked their order, their total size and their text.

use actix_http::ws::Item;
use bytes::{Bytes, BytesMut};

/// The message that is on its way in pieces.
#[derive(Debug, Default)]
pub(super) struct Assembly {
    binary: bool,
    bytes: BytesMut,
}

impl Assembly {
    /// Takes a fragment; with the last one, returns whether the message is binary, and the message.
    pub(super) fn push(&mut self, item: Item) -> Option<(bool, Bytes)> {
        match item {
            Item::FirstText(part) => self.begin(false, &part),
            Item::FirstBinary(part) => self.begin(true, &part),
            Item::Continue(part) => self.bytes.extend_from_slice(&part),
            Item::Last(part) => {
                self.bytes.extend_from_slice(&part);
                return Some((self.binary, std::mem::take(&mut self.bytes).freeze()));
            }
        }
        None
    }

    fn begin(&mut self, binary: bool, part: &[u8]) {
        self.binary = binary;
        self.bytes = BytesMut::from(part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_become_one_message_and_leave_nothing_behind() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.push(Item::FirstText(Bytes::from_static(b"a"))), None);
        assert_eq!(assembly.push(Item::Continue(Bytes::new())), None);
        assert_eq!(
            assembly.push(Item::Last(Bytes::from_static(b"b"))),
            Some((false, Bytes::from_static(b"ab")))
        );
        assert_eq!(assembly.push(Item::FirstBinary(Bytes::from_static(b"c"))), None);
        assert_eq!(
            assembly.push(Item::Last(Bytes::new())),
            Some((true, Bytes::from_static(b"c")))
        );
    }
}
