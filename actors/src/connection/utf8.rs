//! UTF-8 checked byte by byte, so that text is refused at its first wrong byte and not at its end.

/// Where a text is: at most one character is incomplete.
#[derive(Debug, Clone, Copy)]
pub(super) struct Utf8 {
    /// Bytes that the character still needs.
    need: u8,
    /// Bounds of the next one: narrower than `80..=BF` right after some first bytes.
    low: u8,
    high: u8,
}

impl Utf8 {
    /// Returns the state before any text.
    pub(super) const fn new() -> Self {
        Self {
            need: 0,
            low: 0x80,
            high: 0xBF,
        }
    }

    /// Takes one byte; false: no continuation can make this text valid (Unicode 16, table 3-7).
    pub(super) fn push(&mut self, byte: u8) -> bool {
        if self.need > 0 {
            let fits = (self.low..=self.high).contains(&byte);
            self.need -= 1;
            (self.low, self.high) = (0x80, 0xBF);
            return fits;
        }
        match byte {
            0x00..=0x7F => {}
            0xC2..=0xDF => self.need = 1,
            0xE0 => (self.need, self.low) = (2, 0xA0),
            0xED => (self.need, self.high) = (2, 0x9F),
            0xE1..=0xEF => self.need = 2,
            0xF0 => (self.need, self.low) = (3, 0x90),
            0xF1..=0xF3 => self.need = 3,
            0xF4 => (self.need, self.high) = (3, 0x8F),
            0x80..=0xC1 | 0xF5..=0xFF => return false,
        }
        true
    }

    /// Whether the text may end here.
    pub(super) const fn complete(self) -> bool {
        self.need == 0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Utf8;

    /// The verdict of the standard library: the prefix length at which the text became hopeless, and whether it is whole.
    fn model(bytes: &[u8]) -> (Option<usize>, bool) {
        for n in 1..=bytes.len() {
            if let Err(error) = std::str::from_utf8(&bytes[..n])
                && error.error_len().is_some()
            {
                return (Some(n), false);
            }
        }
        (None, std::str::from_utf8(bytes).is_ok())
    }

    fn ours(bytes: &[u8]) -> (Option<usize>, bool) {
        let mut state = Utf8::new();
        for (at, byte) in bytes.iter().enumerate() {
            if !state.push(*byte) {
                return (Some(at + 1), false);
            }
        }
        (None, state.complete())
    }

    #[test]
    fn every_pair_of_bytes_is_judged_as_by_the_standard_library() {
        for a in 0..=255_u8 {
            for b in 0..=255_u8 {
                for tail in [&[][..], &[0x80], &[0xBF, 0xBF]] {
                    let text = [&[a, b], tail].concat();
                    assert_eq!(ours(&text), model(&text), "{text:x?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_as_by_the_standard_library(
            text in "\\PC{0,8}",
            at in any::<proptest::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = text.into_bytes();
            bytes.insert(at.index(bytes.len() + 1), byte);
            prop_assert_eq!(ours(&bytes), model(&bytes));
        }
    }
}
