//! The figures of a latency.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::meter::Pair;

/// A latency, both ways.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Both {
    /// From the intended start.
    pub(crate) corrected: Figures,
    /// From the actual start.
    pub(crate) raw: Figures,
}

impl Both {
    /// Reads them off.
    pub(crate) fn of(pair: &Pair) -> Self {
        Self {
            corrected: Figures::of(&pair.corrected),
            raw: Figures::of(&pair.raw),
        }
    }
}

/// What is read off a histogram, in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figures {
    /// Samples; everything else is 0 when there are none.
    pub(crate) count: u64,
    /// The fastest.
    pub(crate) min_us: u64,
    /// Half were faster.
    pub(crate) p50_us: u64,
    /// 75 of 100 were faster.
    pub(crate) p75_us: u64,
    /// 90 of 100 were faster.
    pub(crate) p90_us: u64,
    /// 95 of 100 were faster.
    pub(crate) p95_us: u64,
    /// 99 of 100 were faster.
    pub(crate) p99_us: u64,
    /// 999 of 1,000 were faster.
    pub(crate) p999_us: u64,
    /// The slowest.
    pub(crate) max_us: u64,
    /// On average.
    pub(crate) mean_us: f64,
    /// The curve: shares of [`SHARES`] and the latency below which they lie, as far as there are samples to tell.
    pub(crate) curve: Vec<(f64, u64)>,
}

/// Shares of the samples at which the curve is drawn: evenly in the number of nines.
const SHARES: [f64; 34] = [
    0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.84, 0.88, 0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985,
    0.99, 0.9925, 0.995, 0.9965, 0.998, 0.999, 0.9993, 0.9995, 0.9998, 0.9999, 0.999_95, 0.999_98, 0.999_99, 0.999_999,
];

impl Figures {
    /// Reads them off.
    #[expect(clippy::cast_precision_loss, reason = "numbers of samples")]
    pub(crate) fn of(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        let at = |share| histogram.value_at_quantile(share);
        let count = histogram.len();
        // A share that is less than one sample away from all of them says the same as the slowest.
        let told = SHARES.iter().filter(|share| (1.0 - **share) * count as f64 >= 1.0);
        Self {
            count,
            min_us: histogram.min(),
            p50_us: at(0.5),
            p75_us: at(0.75),
            p90_us: at(0.9),
            p95_us: at(0.95),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: histogram.max(),
            mean_us: histogram.mean(),
            curve: told.map(|share| (*share, at(*share))).collect(),
        }
    }
}
