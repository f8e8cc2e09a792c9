//! What was measured: for each measure and way one number a round.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stats::Spread;
use crate::stream::Way;

/// All numbers of a run.
#[derive(Debug, Default, Serialize)]
pub(super) struct Samples(BTreeMap<String, BTreeMap<Way, Vec<f64>>>);

impl Samples {
    /// Adds the number of the next round.
    pub(super) fn add(&mut self, measure: &str, way: Way, value: f64) {
        let ways = self.0.entry(measure.to_owned()).or_default();
        ways.entry(way).or_default().push(value);
    }

    /// Returns the numbers of a way, round by round.
    pub(super) fn rounds(&self, measure: &str, way: Way) -> &[f64] {
        let ways = self.0.get(measure);
        ways.and_then(|ways| ways.get(&way)).map_or(&[], Vec::as_slice)
    }

    /// Returns the spread of a way.
    pub(super) fn spread(&self, measure: &str, way: Way) -> Option<Spread> {
        Spread::of(self.rounds(measure, way).iter().copied())
    }

    /// Returns the spread of what a way adds to reading the simulator itself, in the same round.
    pub(super) fn added(&self, measure: &str, way: Way) -> Option<Spread> {
        Spread::of(self.added_rounds(measure, way))
    }

    /// Returns the spread of the ratio of two ways in the same round; of what both add, with `added`.
    pub(super) fn ratio(&self, measure: &str, way: Way, base: Way, added: bool) -> Option<Spread> {
        let rounds = |way| {
            if added {
                self.added_rounds(measure, way)
            } else {
                self.rounds(measure, way).to_vec()
            }
        };
        let pairs = rounds(way).into_iter().zip(rounds(base));
        // Where the other one adds nothing that can be measured there is no ratio.
        let pairs = pairs.filter(|(_, base)| *base > 0.0);
        Spread::of(pairs.map(|(value, base)| value / base))
    }

    fn added_rounds(&self, measure: &str, way: Way) -> Vec<f64> {
        let pairs = self.rounds(measure, way).iter().zip(self.rounds(measure, Way::Direct));
        pairs.map(|(value, direct)| value - direct).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let mut samples = Samples::default();
        for (direct, bare, commit) in [(1.0, 2.0, 3.0), (10.0, 11.0, 13.0)] {
            samples.add("x", Way::Direct, direct);
            samples.add("x", Way::Bare, bare);
            samples.add("x", Way::Commit, commit);
        }
        let ratio = samples.ratio("x", Way::Commit, Way::Bare, true).unwrap();
        assert_eq!((ratio.min, ratio.max), (2.0, 3.0));
        assert_eq!(samples.added("x", Way::Bare).unwrap().max, 1.0);
        assert_eq!(samples.ratio("x", Way::Relaxed, Way::Bare, false), None);
        assert_eq!(samples.spread("y", Way::Bare), None);
    }
}
