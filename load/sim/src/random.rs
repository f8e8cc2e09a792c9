//! Seeded choice: the same seed and the same text give the same number on every machine.

/// Returns the FNV-1a hash of `text`, started from `seed`.
pub(crate) fn hash(seed: u64, text: &str) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325 ^ mix(seed);
    mix(text.bytes().fold(start, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    }))
}

/// Spreads the bits of `value` (the finalizer of splitmix64).
pub(crate) fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns a number in `0.0..1.0` made from `value`.
#[expect(clippy::cast_precision_loss, reason = "53 bits are kept exactly")]
pub(crate) fn unit(value: u64) -> f64 {
    (mix(value) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Picks an element by `key`; `None` when there is none.
pub(crate) fn pick<T>(items: &[T], key: u64) -> Option<&T> {
    let len = u64::try_from(items.len()).ok().filter(|len| *len > 0)?;
    items.get(usize::try_from(mix(key) % len).ok()?)
}
