//! How long to wait before the next attempt to connect. Pure.

use std::time::Duration;

/// Bound of the first waiting time.
const FIRST: Duration = Duration::from_millis(250);

/// Bound of every later one: a server that is back is found again within it.
const MOST: Duration = Duration::from_secs(10);

/// Growing waiting times, drawn at random so that many clients do not come back at once.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Starts over after a success.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the time to wait now. `random` is in 0..1. What the server asks for (`after`) is waited at least.
    pub(super) fn next(&mut self, after: Option<Duration>, random: f64) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(10)).min(MOST);
        self.failures = self.failures.saturating_add(1);
        let jittered = bound.mul_f64(random.clamp(0.0, 1.0));
        after.map_or(jittered, |after| after + FIRST.mul_f64(random.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_times_grow_to_a_bound_and_start_over() {
        let mut backoff = Backoff::default();
        let bounds: Vec<_> = (0..8).map(|_| backoff.next(None, 1.0).as_millis()).collect();
        assert_eq!(bounds, [250, 500, 1000, 2000, 4000, 8000, 10_000, 10_000]);
        backoff.reset();
        assert_eq!(backoff.next(None, 0.5), Duration::from_millis(125));
    }

    #[test]
    fn what_the_server_asks_for_is_waited() {
        let mut backoff = Backoff::default();
        for random in [0.0, 0.3, 1.0] {
            let wait = backoff.next(Some(Duration::from_secs(2)), random);
            assert!((2000..=2250).contains(&wait.as_millis()), "{wait:?}");
        }
    }
}
