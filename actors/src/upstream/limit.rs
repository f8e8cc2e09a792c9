//! How many calls run at once, learned from what the upstream says: halved when it pushes back, one more for each success.

use std::time::{Duration, Instant};

/// Answers that push back within [`WINDOW`] before the limit is halved: a single one is chance, and has its own pause.
const BURST: u32 = 4;
/// The limit is halved at most once in this time.
const WINDOW: Duration = Duration::from_secs(1);

/// A limit between a floor and a ceiling: additive increase, multiplicative decrease. Fed with times, reads no clock.
#[derive(Debug)]
pub struct AdaptiveLimit {
    floor: usize,
    ceiling: usize,
    now: usize,
    window: Option<Instant>,
    in_window: u32,
}

impl AdaptiveLimit {
    /// Makes a limit that stands at its ceiling; a floor above it counts as the ceiling, and 0 as 1.
    #[must_use]
    pub fn new(floor: usize, ceiling: usize) -> Self {
        let ceiling = ceiling.max(1);
        Self {
            floor: floor.clamp(1, ceiling),
            ceiling,
            now: ceiling,
            window: None,
            in_window: 0,
        }
    }

    /// Returns the limit.
    #[must_use]
    pub fn now(&self) -> usize {
        self.now
    }

    /// The upstream answered that it has too much to do; says whether that has halved the limit.
    pub fn push_back(&mut self, at: Instant) -> bool {
        let passed = |since: Instant| at.saturating_duration_since(since) >= WINDOW;
        if self.window.is_none_or(passed) {
            self.window = Some(at);
            self.in_window = 0;
        }
        self.in_window = self.in_window.saturating_add(1);
        let halves = self.in_window == BURST && self.now > self.floor;
        if halves {
            self.now = (self.now / 2).max(self.floor);
            // What is answered within the next second was asked before.
            self.window = Some(at);
        }
        halves
    }

    /// A call succeeded; says whether that has raised the limit.
    pub fn succeed(&mut self) -> bool {
        let grows = self.now < self.ceiling;
        if grows {
            self.now += 1;
        }
        grows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::Clock;

    fn push_back(limit: &mut AdaptiveLimit, times: u32, at: Instant) {
        (0..times).for_each(|_| _ = limit.push_back(at));
    }

    #[test]
    fn a_burst_halves_it_once_a_second_down_to_the_floor() {
        let start = Clock::default().instant();
        let mut limit = AdaptiveLimit::new(8, 64);
        push_back(&mut limit, BURST - 1, start);
        assert_eq!(limit.now(), 64, "too few to mean anything");
        push_back(&mut limit, 100, start);
        assert_eq!(limit.now(), 32, "once in a second");
        for (second, expected) in [(1, 16), (2, 8), (3, 8)] {
            push_back(&mut limit, 100, start + WINDOW * second);
            assert_eq!(limit.now(), expected);
        }
    }

    #[test]
    fn a_few_in_different_seconds_are_no_burst() {
        let start = Clock::default().instant();
        let mut limit = AdaptiveLimit::new(1, 64);
        for second in 0..20 {
            push_back(&mut limit, BURST - 1, start + WINDOW * second);
        }
        assert_eq!(limit.now(), 64);
    }

    #[test]
    fn each_success_raises_it_by_one_up_to_the_ceiling() {
        let mut limit = AdaptiveLimit::new(1, 8);
        push_back(&mut limit, BURST, Clock::default().instant());
        assert_eq!(limit.now(), 4);
        assert_eq!((0..9).filter(|_| limit.succeed()).count(), 4);
        assert_eq!(limit.now(), 8);
    }

    #[test]
    fn a_floor_above_the_ceiling_is_the_ceiling() {
        let mut limit = AdaptiveLimit::new(8, 2);
        push_back(&mut limit, BURST, Clock::default().instant());
        assert_eq!(limit.now(), 2);
        assert_eq!(AdaptiveLimit::new(0, 0).now(), 1);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds_and_falls_at_most_once_a_second(
            floor in 0_usize..20,
            ceiling in 0_usize..300,
            steps in prop::collection::vec((any::<bool>(), 0_u64..300), 0..400),
        ) {
            let mut limit = AdaptiveLimit::new(floor, ceiling);
            let mut at = Clock::default().instant();
            let mut fell_at: Option<Instant> = None;
            for (pushes_back, pause) in steps {
                at += Duration::from_millis(pause);
                if pushes_back {
                    if limit.push_back(at) {
                        prop_assert!(fell_at.is_none_or(|last| at.duration_since(last) >= WINDOW));
                        fell_at = Some(at);
                    }
                } else {
                    limit.succeed();
                }
                prop_assert!(limit.now() >= floor.clamp(1, ceiling.max(1)) && limit.now() <= ceiling.max(1));
            }
        }
    }
}
