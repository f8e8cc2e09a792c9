//! Reads the text of one setting into a typed value, and says what would have been allowed.
//!
//! Pure: no environment, no files. Cross checks between settings are not made here.

use std::time::Duration;

use secrecy::SecretString;

use super::Config;

/// What a setting takes, its bounds, and where the value goes.
pub(crate) enum Kind {
    /// Any text that is not empty.
    Text(fn(&mut Config, String)),
    /// Text that is never printed.
    Secret(fn(&mut Config, SecretString)),
    /// An `http://` or `https://` address without a trailing slash.
    Url(fn(&mut Config, String)),
    /// A whole number within bounds, both included.
    Integer {
        min: u64,
        max: u64,
        set: fn(&mut Config, u64),
    },
    /// A number within bounds, both included.
    Float {
        min: f64,
        max: f64,
        set: fn(&mut Config, f64),
    },
    /// `true` or `false`.
    Bool(fn(&mut Config, bool)),
    /// A time span such as `500ms` or `60s` within bounds, both included.
    Span {
        min: Duration,
        max: Duration,
        set: fn(&mut Config, Duration),
    },
    /// A byte count such as `256KiB` within bounds, both included.
    Bytes {
        min: u64,
        max: u64,
        set: fn(&mut Config, u64),
    },
    /// A JSON list of texts.
    List(fn(&mut Config, Vec<String>)),
    /// One of these words.
    Word {
        words: &'static [&'static str],
        set: fn(&mut Config, &'static str),
    },
    /// Something with a grammar of its own: `read` tells whether the text was understood.
    Other {
        allowed: &'static str,
        read: fn(&mut Config, &str) -> bool,
    },
}

impl Kind {
    /// Reads `text` and stores the value; false when the text is not allowed. Nothing is stored then.
    pub(crate) fn apply(&self, config: &mut Config, text: &str) -> bool {
        match self {
            Self::Text(set) => store(Some(text.to_owned()), |value| set(config, value)),
            Self::Secret(set) => store(Some(SecretString::from(text)), |value| set(config, value)),
            Self::Url(set) => store(read_url(text), |value| set(config, value)),
            Self::Integer { min, max, set } => store(
                text.parse().ok().filter(|value| (min..=max).contains(&value)),
                |value| set(config, value),
            ),
            Self::Float { min, max, set } => store(
                text.parse().ok().filter(|value| (min..=max).contains(&value)),
                |value| set(config, value),
            ),
            Self::Bool(set) => store(read_bool(text), |value| set(config, value)),
            Self::Span { min, max, set } => {
                store(read_span(text).filter(|value| (min..=max).contains(&value)), |value| {
                    set(config, value)
                })
            }
            Self::Bytes { min, max, set } => {
                store(read_bytes(text).filter(|value| (min..=max).contains(&value)), |value| {
                    set(config, value)
                })
            }
            Self::List(set) => store(serde_json::from_str(text).ok(), |value| set(config, value)),
            Self::Word { words, set } => store(
                words.iter().copied().find(|word| word.eq_ignore_ascii_case(text)),
                |value| set(config, value),
            ),
            Self::Other { read, .. } => read(config, text),
        }
    }

    /// Says in words what is allowed.
    pub(crate) fn allowed(&self) -> String {
        match self {
            Self::Text(_) | Self::Secret(_) => "text".to_owned(),
            Self::Url(_) => "an http:// or https:// address".to_owned(),
            Self::Integer { min, max, .. } => format!("a whole number from {min} to {max}"),
            Self::Float { min, max, .. } => format!("a number from {min} to {max}"),
            Self::Bool(_) => "true or false".to_owned(),
            Self::Span { min, max, .. } => {
                format!(
                    "a time span from {} to {}, such as 500ms, 60s or 10m",
                    show_span(*min),
                    show_span(*max)
                )
            }
            Self::Bytes { min, max, .. } => {
                format!(
                    "a size from {} to {}, such as 65536, 64KiB or 1MiB",
                    show_bytes(*min),
                    show_bytes(*max)
                )
            }
            Self::List(_) => r#"a JSON list of texts such as ["https://example.com"]"#.to_owned(),
            Self::Word { words, .. } => format!("one of {}", words.join(", ")),
            Self::Other { allowed, .. } => (*allowed).to_owned(),
        }
    }

    /// Whether the value must never be printed.
    pub(crate) fn is_secret(&self) -> bool {
        matches!(self, Self::Secret(_))
    }
}

fn store<T>(value: Option<T>, set: impl FnOnce(T)) -> bool {
    value.map(set).is_some()
}

fn read_url(text: &str) -> Option<String> {
    let url = reqwest::Url::parse(text).ok()?;
    let good = matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty();
    good.then(|| text.trim_end_matches('/').to_owned())
}

fn read_bool(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Some(true),
        "false" | "0" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// The units of a time span in milliseconds, longest first.
const SPANS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads `500ms`, `60s`, `10m`, `12h`, `30d`; a bare number is seconds, as in older configurations.
pub(crate) fn read_span(text: &str) -> Option<Duration> {
    let (number, unit) = split_unit(text);
    let unit = if unit.is_empty() { "s" } else { unit };
    let (_, factor) = SPANS.iter().find(|(name, _)| *name == unit)?;
    number
        .parse::<u64>()
        .ok()?
        .checked_mul(*factor)
        .map(Duration::from_millis)
}

/// Writes a time span in the longest unit that divides it.
pub(crate) fn show_span(span: Duration) -> String {
    let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
    let (unit, factor) = SPANS
        .iter()
        .find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor))
        .unwrap_or(&("s", 1000));
    format!("{}{unit}", ms / factor)
}

/// The units of a byte count, largest first within each family.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1000),
    ("B", 1),
];

/// Reads `65536`, `64KiB`, `1MiB`, `1MB`.
pub(crate) fn read_bytes(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text);
    let unit = if unit.is_empty() { "B" } else { unit };
    let (_, factor) = SIZES.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn show_bytes(bytes: u64) -> String {
    match SIZES
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor))
    {
        Some((unit, factor)) if *factor > 1 => format!("{}{unit}", bytes / factor),
        _ => bytes.to_string(),
    }
}

fn split_unit(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    (number, unit.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_spans_are_read_in_every_unit() {
        for (text, ms) in [
            ("500ms", 500),
            ("60s", 60_000),
            ("60", 60_000),
            ("10m", 600_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            assert_eq!(read_span(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "s",
            "-1s",
            "1.5s",
            "1 week",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert_eq!(read_span(text), None, "{text}");
        }
    }

    #[test]
    fn a_time_span_is_written_as_it_is_read() {
        for text in ["500ms", "60s", "90s", "3h", "30d", "1500ms"] {
            let span = read_span(text).unwrap();
            assert_eq!(read_span(&show_span(span)), Some(span), "{text}");
        }
    }

    #[test]
    fn byte_counts_are_read_in_every_unit() {
        for (text, bytes) in [
            ("0", 0),
            ("65536", 65_536),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1MB", 1_000_000),
            ("1GiB", 1 << 30),
        ] {
            assert_eq!(read_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "KiB", "1.5MiB", "1TB", "-1", "18446744073709551615KiB"] {
            assert_eq!(read_bytes(text), None, "{text}");
        }
    }

    #[test]
    fn addresses_need_a_scheme_and_a_host_and_no_password() {
        assert_eq!(read_url("https://example.com/"), Some("https://example.com".to_owned()));
        for text in [
            "",
            "example.com",
            "ftp://example.com",
            "http://",
            "https://user:pw@example.com",
        ] {
            assert_eq!(read_url(text), None, "{text}");
        }
    }
}
