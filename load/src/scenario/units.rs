//! How scenarios write spans of time and paces: `250ms`, `2s`, `["1s", "4s"]`, `4KiB/s`.

use std::fmt;
use std::time::Duration;

use anyhow::Context as _;
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use crate::script::Think;

/// Milliseconds of a unit.
const SPANS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// Bytes of a unit.
const SIZES: [(&str, u64); 5] = [
    ("B", 1),
    ("kB", 1000),
    ("KiB", 1 << 10),
    ("MB", 1_000_000),
    ("MiB", 1 << 20),
];

/// Reads a span of time: a whole number and its unit.
pub(crate) fn parse_span(text: &str) -> anyhow::Result<Duration> {
    let ms = scaled(text.trim(), &SPANS);
    let ms = ms.with_context(|| format!("`{text}` is not a span of time such as 250ms, 2s, 5m or 1h"))?;
    Ok(Duration::from_millis(ms))
}

/// Reads a pace in bytes a second: `4KiB/s`; `None` for `fast`.
pub(super) fn pace(text: &str) -> anyhow::Result<Option<u32>> {
    if text == "fast" {
        return Ok(None);
    }
    let bytes = text.strip_suffix("/s").and_then(|text| scaled(text.trim(), &SIZES));
    let bytes = bytes
        .and_then(|bytes| u32::try_from(bytes).ok())
        .filter(|bytes| *bytes > 0);
    let bytes = bytes.with_context(|| format!("`{text}` is not a pace such as 500B/s, 4KiB/s, 1MB/s or fast"))?;
    Ok(Some(bytes))
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at_checked(end)?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit)?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// A span of time in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Span;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time in quotes, such as \"250ms\" or \"2s\"")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
                parse_span(text).map(Span).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl<'de> Deserialize<'de> for Think {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Think;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a span of time such as \"2s\", or the shortest and the longest: [\"1s\", \"4s\"]")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Think, E> {
                parse_span(text).map(Think::from).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Think, A::Error> {
                let both = (seq.next_element::<Span>()?, seq.next_element::<Span>()?);
                let (Some(from), Some(to), None) = (both.0, both.1, seq.next_element::<Span>()?) else {
                    return Err(A::Error::custom("a range has two spans: the shortest and the longest"));
                };
                if from.0 > to.0 {
                    return Err(A::Error::custom("a range begins with the shorter span"));
                }
                Ok(Think { from: from.0, to: to.0 })
            }
        }
        deserializer.deserialize_any(One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_paces_are_read_as_they_are_written() {
        for (text, ms) in [
            ("0ms", 0),
            ("250ms", 250),
            ("2s", 2000),
            ("5m", 300_000),
            (" 1h ", 3_600_000),
        ] {
            assert_eq!(parse_span(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "1.5s",
            "-1s",
            "1 week",
            "99999999999999999999s",
            "18446744073709551615h",
        ] {
            assert!(parse_span(text).unwrap_err().to_string().contains("such as"), "{text}");
        }
        for (text, bytes) in [
            ("1B/s", Some(1)),
            ("4KiB/s", Some(4096)),
            ("1MB/s", Some(1_000_000)),
            ("fast", None),
        ] {
            assert_eq!(pace(text).unwrap(), bytes, "{text}");
        }
        for text in ["", "4KiB", "0B/s", "4/s", "5000MiB/s"] {
            assert!(pace(text).unwrap_err().to_string().contains("such as"), "{text}");
        }
    }
}
