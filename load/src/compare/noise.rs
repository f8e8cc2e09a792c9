//! How much a figure varies within a load, and what ratio of two loads that leaves open.
//!
//! The time of a load is cut into 20 to 39 steps. Of two loads with the same stages, each step is set against that of the other at the
//! same time, so that a ramp is no noise; the logarithms of these ratios have a mean and a spread. Of loads that differ, the logarithms
//! of all steps are compared as Welch does. Seconds that follow each other resemble each other: the more they do, the fewer of them
//! count (first-order autocorrelation).

use serde::Serialize;

use crate::report::{Report, Second};

/// Fewer steps say nothing.
const FEWEST: usize = 10;
/// Steps that are aimed at.
const STEPS: usize = 20;

/// The steps of all loads of a side; what had no value in a step is `None`.
pub(super) struct Side(Vec<Vec<Option<f64>>>);

impl Side {
    /// Cuts the loads, the shortest of which has that many seconds, into steps.
    pub(super) fn of(reports: &[Report], shortest: usize, value: impl Fn(&[Second]) -> Option<f64>) -> Self {
        let size = (shortest / STEPS).max(1);
        let cut = |report: &Report| steady(report).chunks_exact(size).map(&value).collect();
        Self(reports.iter().map(cut).collect())
    }
}

/// Returns the seconds of a load without the last one, which its end cut short.
pub(super) fn steady(report: &Report) -> &[Second] {
    match report.series.split_last() {
        Some((last, rest)) if last.seconds < 0.5 => rest,
        _ => &report.series,
    }
}

/// A ratio, after to before, and the interval in which the true one is 99 times of 100.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Estimate {
    pub(super) ratio: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Estimate {
    /// Says whether it may be chance, or is too small to matter.
    pub(super) fn is_noise(&self, tolerance: f64) -> bool {
        let contains_one = self.low <= 1.0 && 1.0 <= self.high;
        contains_one || (self.ratio > 1.0 / (1.0 + tolerance) && self.ratio < 1.0 + tolerance)
    }

    fn of(mean: f64, error: f64, degrees: f64) -> Self {
        let reach = student(degrees) * error;
        Self {
            ratio: mean.exp(),
            low: (mean - reach).exp(),
            high: (mean + reach).exp(),
        }
    }
}

/// Estimates the ratio of two sides; nothing when there is too little.
pub(super) fn ratio(before: &Side, after: &Side, is_paired: bool) -> Option<Estimate> {
    let logs = |load: &Vec<Option<f64>>| -> Vec<Option<f64>> {
        load.iter()
            .map(|value| value.filter(|value| *value > 0.0).map(f64::ln))
            .collect()
    };
    if is_paired {
        let pairs: Vec<Vec<f64>> = before
            .0
            .iter()
            .zip(&after.0)
            .map(|(one, other)| {
                let pairs = logs(one).into_iter().zip(logs(other));
                pairs.filter_map(|(one, other)| Some(other? - one?)).collect()
            })
            .collect();
        let sample = Sample::of(&pairs)?;
        return Some(Estimate::of(sample.mean, sample.error, sample.degrees));
    }
    let all = |side: &Side| -> Vec<Vec<f64>> {
        side.0
            .iter()
            .map(|load| logs(load).into_iter().flatten().collect())
            .collect()
    };
    let (before, after) = (Sample::of(&all(before))?, Sample::of(&all(after))?);
    let error = before.error.hypot(after.error);
    Some(Estimate::of(
        after.mean - before.mean,
        error,
        before.degrees.min(after.degrees),
    ))
}

/// What is known of numbers that one looks at.
struct Sample {
    mean: f64,
    /// The standard error of the mean.
    error: f64,
    degrees: f64,
}

impl Sample {
    /// Takes the loads together; with several, what differs between them counts if it is more than what differs within them.
    #[expect(clippy::cast_precision_loss, reason = "a few hundred steps")]
    fn of(loads: &[Vec<f64>]) -> Option<Self> {
        let all: Vec<f64> = loads.iter().flatten().copied().collect();
        if all.len() < FEWEST {
            return None;
        }
        let mean = average(&all);
        let effective = loads.iter().map(|load| independent(load)).sum::<f64>();
        let within = Self {
            mean,
            error: (variance(&all, mean) / effective).sqrt(),
            degrees: (effective - 1.0).max(1.0),
        };
        let means: Vec<f64> = loads
            .iter()
            .filter(|load| !load.is_empty())
            .map(|load| average(load))
            .collect();
        if means.len() < 3 {
            return Some(within);
        }
        let between = Self {
            mean,
            error: (variance(&means, average(&means)) / means.len() as f64).sqrt(),
            degrees: means.len() as f64 - 1.0,
        };
        let reach = |sample: &Self| student(sample.degrees) * sample.error;
        Some(if reach(&between) > reach(&within) {
            between
        } else {
            within
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred steps")]
fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "a few hundred steps")]
fn variance(values: &[f64], mean: f64) -> f64 {
    values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len().saturating_sub(1).max(1) as f64
}

/// Returns how many values that do not depend on each other would say as much as these.
#[expect(clippy::cast_precision_loss, reason = "a few hundred steps")]
fn independent(values: &[f64]) -> f64 {
    let (count, mean) = (values.len() as f64, average(values));
    let together: f64 = values
        .windows(2)
        .map(|pair| pair.iter().map(|value| value - mean).product::<f64>())
        .sum();
    let alone: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let alike = if alone > 0.0 {
        (together / alone).clamp(0.0, 0.95)
    } else {
        0.0
    };
    (count * (1.0 - alike) / (1.0 + alike)).max(2.0_f64.min(count))
}

/// Returns how many standard errors 99 of 100 lie within (two-sided, Student's t), after Cornish and Fisher; exact to two percent from
/// four degrees on.
fn student(degrees: f64) -> f64 {
    match degrees {
        few if few < 1.5 => 63.66,
        few if few < 2.5 => 9.925,
        few if few < 3.5 => 5.841,
        n => {
            let z: f64 = 2.575_829;
            let (z3, z5, z7) = (z.powi(3), z.powi(5), z.powi(7));
            z + (z3 + z) / (4.0 * n)
                + (5.0 * z5 + 16.0 * z3 + 3.0 * z) / (96.0 * n * n)
                + (3.0 * z7 + 19.0 * z5 + 17.0 * z3 - 15.0 * z) / (384.0 * n.powi(3))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn student_is_that_of_the_tables() {
        for (degrees, expected) in [(1.0, 63.66), (4.0, 4.604), (9.0, 3.250), (19.0, 2.861), (100.0, 2.626)] {
            let found = student(degrees);
            assert!((found / expected - 1.0).abs() < 0.02, "{degrees}: {found}");
        }
    }

    #[test]
    fn what_drifts_counts_less_than_what_jumps() {
        let drift: Vec<f64> = (0..40).map(f64::from).collect();
        let jump: Vec<f64> = (0..40).map(|n| f64::from(n % 2)).collect();
        assert!(independent(&drift) < 4.0);
        assert!(independent(&jump) > 39.0);
    }

    fn side(values: &[f64]) -> Side {
        Side(vec![values.iter().copied().map(Some).collect()])
    }

    #[test]
    fn a_ramp_is_no_noise_when_both_have_it() {
        let ramp: Vec<f64> = (1..=30).map(f64::from).collect();
        let higher: Vec<f64> = (1..=30)
            .map(|n| f64::from(n) * if n % 2 == 0 { 1.11 } else { 1.09 })
            .collect();
        let paired = ratio(&side(&ramp), &side(&higher), true).unwrap();
        assert!(paired.low > 1.08 && paired.high < 1.12, "{paired:?}");
        let apart = ratio(&side(&ramp), &side(&higher), false).unwrap();
        assert!(apart.is_noise(0.0), "{apart:?}");
    }

    #[test]
    fn too_little_says_nothing() {
        assert_eq!(ratio(&side(&[1.0; 9]), &side(&[2.0; 9]), true), None);
        assert_eq!(ratio(&side(&[0.0; 20]), &side(&[2.0; 20]), true), None);
    }
}
