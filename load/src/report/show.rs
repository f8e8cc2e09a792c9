//! Numbers as people read them.

/// A span in microseconds: `870 µs`, `12.3 ms`, `4.56 s`.
pub(crate) fn micros(micros: f64) -> String {
    let (value, unit) = match micros {
        size if size < 1e3 => (size, "µs"),
        size if size < 1e6 => (size / 1e3, "ms"),
        size if size < 600e6 => (size / 1e6, "s"),
        size => (size / 60e6, "min"),
    };
    format!("{} {unit}", digits(value))
}

/// Bytes: `12.3 MiB`.
pub(crate) fn bytes(bytes: f64) -> String {
    let (value, unit) = match bytes {
        size if size < 1024.0 => return format!("{size:.0} B"),
        size if size < 1_048_576.0 => (size / 1024.0, "KiB"),
        size if size < 1_073_741_824.0 => (size / 1_048_576.0, "MiB"),
        size => (size / 1_073_741_824.0, "GiB"),
    };
    format!("{} {unit}", digits(value))
}

/// A number with thousands apart; what is below 100 has up to two decimals.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 100.0 {
        let text = format!("{value:.2}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

/// A share from 0 to 1.
pub(crate) fn percent(share: f64) -> String {
    format!("{} %", number(share * 100.0))
}

/// A time: `45 s`, `3:20 min`, `1:02:05 h`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "seconds of a load"
)]
pub(crate) fn clock(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (hours, minutes, rest) = (whole / 3600, whole / 60 % 60, whole % 60);
    match (hours, minutes) {
        (0, 0) => format!("{} s", number((seconds * 10.0).round() / 10.0)),
        (0, _) => format!("{minutes}:{rest:02} min"),
        _ => format!("{hours}:{minutes:02}:{rest:02} h"),
    }
}

/// Three digits that mean something.
fn digits(value: f64) -> String {
    match value {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(micros(870.0), "870 µs");
        assert_eq!(micros(12_340.0), "12.3 ms");
        assert_eq!(micros(4_560_000.0), "4.56 s");
        assert_eq!(micros(1_200e6), "20.0 min");
        assert_eq!(bytes(12.0), "12 B");
        assert_eq!(bytes(314_572_800.0), "300 MiB");
        assert_eq!(number(0.0), "0");
        assert_eq!(number(1.5), "1.5");
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(number(-1_234.0), "-1,234");
        assert_eq!(percent(0.0123), "1.23 %");
        assert_eq!(clock(4.04), "4 s");
        assert_eq!(clock(200.0), "3:20 min");
        assert_eq!(clock(3725.0), "1:02:05 h");
    }
}
