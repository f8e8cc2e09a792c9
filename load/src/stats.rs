//! Numbers out of samples: percentiles, and the middle of several rounds.

use std::fmt;

use serde::Serialize;

/// Median and extremes of one number over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// The middle; of an even number of rounds the upper one of the two.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) min: f64,
    /// The largest.
    pub(crate) max: f64,
}

impl Spread {
    /// Returns the spread of `values`; `None` when there are none.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Some(Self {
            median: *sorted.get(sorted.len() / 2)?,
            min: *sorted.first()?,
            max: *sorted.last()?,
        })
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (median, min, max) = (Short(self.median), Short(self.min), Short(self.max));
        if min.to_string() == max.to_string() {
            write!(f, "{median}")
        } else {
            write!(f, "{median} ({min} – {max})")
        }
    }
}

/// A number with about three digits.
pub(crate) struct Short(pub(crate) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        match value.abs() {
            size if size >= 100.0 => write!(f, "{value:.0}"),
            size if size >= 10.0 => write!(f, "{value:.1}"),
            _ => write!(f, "{value:.2}"),
        }
    }
}

/// Returns the sample below which `part` (0 to 1) of them lie; 0 without samples. Sorts them.
pub(crate) fn percentile(samples: &mut [u32], part: f64) -> f64 {
    samples.sort_unstable();
    let last = samples.len().saturating_sub(1);
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an index into a few million samples"
    )]
    let at = (last as f64 * part).round() as usize;
    samples.get(at).copied().map_or(0.0, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_edges() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!((spread.min, spread.median, spread.max), (1.0, 2.0, 3.0));
        assert_eq!(Spread::of([]), None);
        assert_eq!(spread.to_string(), "2.00 (1.00 – 3.00)");
        assert_eq!(Spread::of([123.4]).unwrap().to_string(), "123");
    }

    #[test]
    fn percentiles_are_samples() {
        let mut samples: Vec<u32> = (0..=100).rev().collect();
        assert_eq!(percentile(&mut samples, 0.5), 50.0);
        assert_eq!(percentile(&mut samples, 0.99), 99.0);
        assert_eq!(percentile(&mut [], 0.5), 0.0);
    }
}
