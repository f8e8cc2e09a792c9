//! Ids that look like Composio's; the same seed gives the same ones in the same order.

use crate::random;

const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const COLOURS: &[&str] = &["red", "amber", "olive", "teal", "navy", "plum", "coral", "ivory"];
const THINGS: &[&str] = &[
    "castle", "river", "otter", "maple", "comet", "harbor", "lantern", "meadow",
];

/// Mints ids.
#[derive(Debug)]
pub(crate) struct Ids {
    seed: u64,
    minted: u64,
}

impl Ids {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, minted: 0 }
    }

    /// Returns the next number that looks random.
    pub(crate) fn number(&mut self) -> u64 {
        self.minted += 1;
        random::mix(random::mix(self.seed) ^ self.minted)
    }

    /// Returns `prefix_` and 12 letters or digits.
    pub(crate) fn id(&mut self, prefix: &str) -> String {
        let tail: String = self.digits(12).into_iter().map(char::from).collect();
        format!("{prefix}_{tail}")
    }

    /// Returns a word of `length` letters or digits.
    pub(crate) fn word(&mut self, length: usize) -> String {
        self.digits(length).into_iter().map(char::from).collect()
    }

    /// Returns a UUID of version 4.
    pub(crate) fn uuid(&mut self) -> String {
        let (high, low) = (self.number(), self.number());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:x}{:03x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xfff,
            8 | (low >> 60 & 3),
            low >> 48 & 0xfff,
            low & 0xffff_ffff_ffff
        )
    }

    /// Returns 32 hexadecimal digits.
    pub(crate) fn hex(&mut self) -> String {
        format!("{:016x}{:016x}", self.number(), self.number())
    }

    /// Returns the readable name of an account: `github_red-castle`.
    pub(crate) fn word_id(&mut self, toolkit: &str) -> String {
        let colour = random::pick(COLOURS, self.number()).unwrap_or(&"red");
        let thing = random::pick(THINGS, self.number()).unwrap_or(&"castle");
        format!("{toolkit}_{colour}-{thing}")
    }

    fn digits(&mut self, length: usize) -> Vec<u8> {
        let mut picked = || random::pick(ALPHABET, self.number()).copied().unwrap_or(b'A');
        (0..length).map(|_| picked()).collect()
    }
}
