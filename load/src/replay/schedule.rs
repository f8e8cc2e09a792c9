//! When users come: exact times out of the stages, drawn from the seed alone, so that a slow server or load tester changes none of them.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::scenario::Stage;

/// A stage with what it adds to the sum of arrivals.
#[derive(Debug, Clone, Copy)]
struct Leg {
    /// Seconds after the start of the load.
    begin: f64,
    seconds: f64,
    /// Arrivals a second at its two ends.
    from: f64,
    to: f64,
    /// Arrivals before it.
    before: f64,
}

impl Leg {
    fn arrivals(&self) -> f64 {
        (self.from + self.to) / 2.0 * self.seconds
    }

    /// Returns the seconds into the leg after which the integral of the rate is `sum`.
    fn after(&self, sum: f64) -> f64 {
        // The root of `from t + (to - from) / (2 seconds) t² = sum`, in the form that does not cancel.
        let bend = (self.to - self.from) / self.seconds;
        let root = (self.from * self.from + 2.0 * bend * sum).max(0.0).sqrt();
        let below = self.from + root;
        if below > 0.0 {
            (2.0 * sum / below).min(self.seconds)
        } else {
            0.0
        }
    }
}

/// The arrivals of an open load, in order.
///
/// The n-th comes where the integral of the rate is `n + u`, with `u` drawn from 0 to 1: evenly spaced with a jitter of one
/// space, so that neither does everybody come in step nor does chance make the load heavier.
#[derive(Debug)]
pub(crate) struct Arrivals {
    legs: Vec<Leg>,
    next: f64,
    random: StdRng,
}

impl Arrivals {
    /// Makes them of stages that say arrivals a second.
    pub(crate) fn new(stages: &[Stage], seed: u64) -> Self {
        let (mut begin, mut from, mut before) = (0.0, 0.0, 0.0);
        let mut legs = Vec::new();
        for stage in stages {
            let seconds = stage.over.as_secs_f64();
            if seconds > 0.0 {
                let leg = Leg {
                    begin,
                    seconds,
                    from,
                    to: stage.to,
                    before,
                };
                before += leg.arrivals();
                begin += seconds;
                legs.push(leg);
            }
            from = stage.to;
        }
        Self {
            legs,
            next: 0.0,
            random: StdRng::seed_from_u64(seed),
        }
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let sum = self.next + self.random.random::<f64>();
        self.next += 1.0;
        let leg = self.legs.iter().find(|leg| sum < leg.before + leg.arrivals())?;
        Some(Duration::from_secs_f64(leg.begin + leg.after(sum - leg.before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stages(stages: &[(u64, f64)]) -> Vec<Stage> {
        let stage = |&(seconds, to)| Stage {
            over: Duration::from_secs(seconds),
            to,
        };
        stages.iter().map(stage).collect()
    }

    fn between(arrivals: &[Duration], from: u64, to: u64) -> usize {
        let (from, to) = (Duration::from_secs(from), Duration::from_secs(to));
        arrivals.iter().filter(|at| (from..to).contains(*at)).count()
    }

    #[test]
    fn as_many_come_as_the_stages_say() {
        // A ramp to 10/s in 10 s, a spike to 30/s for 5 s, down to nothing in 20 s.
        let load = stages(&[(10, 10.0), (0, 30.0), (5, 30.0), (0, 10.0), (20, 0.0)]);
        for seed in 0..20 {
            let arrivals: Vec<_> = Arrivals::new(&load, seed).collect();
            assert_eq!(arrivals.len(), 50 + 150 + 100, "seed {seed}");
            assert!(arrivals.is_sorted());
            assert_eq!(between(&arrivals, 0, 10), 50);
            assert_eq!(between(&arrivals, 10, 15), 150);
            assert_eq!(between(&arrivals, 15, 25), 75);
        }
    }

    #[test]
    fn they_come_evenly_and_not_in_step() {
        let arrivals: Vec<_> = Arrivals::new(&stages(&[(0, 100.0), (10, 100.0)]), 7).collect();
        assert_eq!(arrivals.len(), 1000);
        for (at, space) in arrivals.iter().zip(0_u32..) {
            let first = Duration::from_millis(10) * space;
            assert!((first..=first + Duration::from_millis(10)).contains(at), "{at:?}");
        }
        let mut phases: Vec<_> = arrivals.iter().map(|at| at.as_micros() % 10_000 / 2500).collect();
        phases.sort_unstable();
        phases.dedup();
        assert_eq!(phases, [0, 1, 2, 3]);
    }

    #[test]
    fn the_seed_says_when() {
        let load = stages(&[(5, 20.0)]);
        let of = |seed| Arrivals::new(&load, seed).collect::<Vec<_>>();
        assert_eq!(of(3), of(3));
        assert_ne!(of(3), of(4));
        assert_eq!(Arrivals::new(&stages(&[(10, 0.0)]), 1).next(), None);
        assert_eq!(Arrivals::new(&[], 1).next(), None);
    }
}
