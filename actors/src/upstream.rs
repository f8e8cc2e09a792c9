//! Common to every upstream: pauses between attempts, their budget, permits for calls at once, and the circuit breaker. No
//! provider's name, no HTTP.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::clock::Clock;

mod budget;
mod limit;
mod permits;

pub use budget::{Reserved, RetryBudget};
pub use limit::AdaptiveLimit;
pub(crate) use permits::{Bounds, Counts, Gauges, Permit, Permits, Refused};

/// Pauses between attempts: doubled each time up to a bound, with jitter so that callers do not come back together.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    /// The first pause, before jitter.
    pub first: Duration,
    /// The longest pause, before and after jitter.
    pub longest: Duration,
}

impl Backoff {
    /// Returns the pause after the `failures`th failure in a row (from 1): between half of its step and all of it.
    #[must_use]
    pub fn pause(&self, failures: u32) -> Duration {
        self.pause_at(failures, rand::random())
    }

    /// Returns the pause when the upstream asked for `wanted`: never shorter than that, and a little longer, for jitter.
    /// `None`: longer than this policy waits.
    #[must_use]
    pub fn pause_of_at_least(&self, wanted: Duration, failures: u32) -> Option<Duration> {
        const SPREAD: f64 = 0.1;
        let jitter = wanted.min(self.first).mul_f64(SPREAD * rand::random::<f64>());
        (wanted <= self.longest).then(|| self.pause(failures).max(wanted + jitter))
    }

    fn pause_at(&self, failures: u32, chance: f64) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let step = self.first.saturating_mul(1 << doublings).min(self.longest);
        step.mul_f64(0.5 + chance.clamp(0.0, 1.0) / 2.0)
    }
}

/// What a [`Breaker`] does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// Calls pass.
    Closed,
    /// Calls are refused.
    Open,
    /// One call passes, to find out.
    HalfOpen,
}

impl CircuitState {
    /// Returns the word for health reports and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }

    /// Returns the number for metrics.
    pub(crate) fn level(self) -> f64 {
        match self {
            Self::Closed => 0.0,
            Self::HalfOpen => 1.0,
            Self::Open => 2.0,
        }
    }
}

/// Refuses calls to an upstream that fails, so that neither side wastes work on them.
///
/// Opens after a number of failures in a row. After a while it lets one call through: that one's success closes it, its
/// failure opens it again.
#[derive(Debug)]
pub struct Breaker {
    failures: u32,
    open_for: Duration,
    clock: Clock,
    state: Mutex<Circuit>,
}

#[derive(Debug, Clone, Copy)]
enum Circuit {
    Closed { failures: u32 },
    Open { until: Instant },
    HalfOpen,
}

/// The circuit is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the circuit is open")]
pub struct CircuitOpen {
    /// When a call may pass again.
    pub after: Duration,
}

impl Breaker {
    /// Makes a closed breaker that opens for `open_for` after `failures` failures in a row (0 counts as 1).
    #[must_use]
    pub fn new(failures: u32, open_for: Duration, clock: Clock) -> Arc<Self> {
        let state = Mutex::new(Circuit::Closed { failures: 0 });
        Arc::new(Self {
            failures: failures.max(1),
            open_for,
            clock,
            state,
        })
    }

    /// Asks whether a call may be made; the answer to it is told to the [`Pass`].
    ///
    /// # Errors
    /// The circuit is open, or another call is finding out.
    pub fn enter(self: &Arc<Self>) -> Result<Pass, CircuitOpen> {
        let mut state = self.lock();
        let probe = match *state {
            Circuit::Closed { .. } => false,
            Circuit::Open { until } => {
                let after = until.saturating_duration_since(self.clock.instant());
                if !after.is_zero() {
                    return Err(CircuitOpen { after });
                }
                *state = Circuit::HalfOpen;
                true
            }
            Circuit::HalfOpen => return Err(CircuitOpen { after: self.open_for }),
        };
        drop(state);
        Ok(Pass {
            breaker: Arc::clone(self),
            probe,
            told: false,
        })
    }

    /// Returns for how long it surely refuses calls: `None` if the next may pass.
    pub fn refuses_for(&self) -> Option<Duration> {
        match *self.lock() {
            Circuit::Open { until } => {
                let after = until.saturating_duration_since(self.clock.instant());
                (!after.is_zero()).then_some(after)
            }
            Circuit::Closed { .. } | Circuit::HalfOpen => None,
        }
    }

    /// Returns what it does with calls now: half open, too, once the next call would be the one that finds out.
    pub fn state(&self) -> CircuitState {
        match *self.lock() {
            Circuit::Closed { .. } => CircuitState::Closed,
            Circuit::Open { until } if until > self.clock.instant() => CircuitState::Open,
            Circuit::Open { .. } | Circuit::HalfOpen => CircuitState::HalfOpen,
        }
    }

    fn succeeded(&self, probe: bool) {
        let mut state = self.lock();
        // A call from before the circuit opened says nothing about now.
        if probe || matches!(*state, Circuit::Closed { .. }) {
            *state = Circuit::Closed { failures: 0 };
        }
    }

    fn failed(&self, probe: bool) {
        let mut state = self.lock();
        let failures = match *state {
            Circuit::Closed { failures } => failures + 1,
            Circuit::HalfOpen if probe => self.failures,
            Circuit::HalfOpen | Circuit::Open { .. } => return,
        };
        *state = if failures >= self.failures {
            Circuit::Open {
                until: self.clock.instant() + self.open_for,
            }
        } else {
            Circuit::Closed { failures }
        };
    }

    fn lock(&self) -> MutexGuard<'_, Circuit> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call that a [`Breaker`] let through. Dropped without a word (the caller gave up) it changes nothing, but that the
/// next call may find out instead.
#[derive(Debug)]
pub struct Pass {
    breaker: Arc<Breaker>,
    probe: bool,
    told: bool,
}

impl Pass {
    /// The upstream answered; cheap to repeat.
    pub fn succeed(&mut self) {
        if !std::mem::replace(&mut self.told, true) {
            self.breaker.succeeded(self.probe);
        }
    }

    /// The upstream failed; may follow [`Pass::succeed`] when the answer broke off later.
    pub fn fail(&mut self) {
        self.breaker.failed(self.probe && !self.told);
        self.told = true;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.probe && !self.told {
            let mut state = self.breaker.lock();
            *state = Circuit::Open {
                until: self.breaker.clock.instant(),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Duration = Duration::from_millis(20);

    fn breaker(failures: u32, open_for: Duration) -> Arc<Breaker> {
        Breaker::new(failures, open_for, Clock::default())
    }

    fn wait_until_it_may_pass(breaker: &Arc<Breaker>) -> Pass {
        loop {
            match breaker.enter() {
                Ok(pass) => return pass,
                Err(open) => std::thread::sleep(open.after),
            }
        }
    }

    #[test]
    fn pauses_double_up_to_their_bound_and_vary_by_half() {
        let backoff = Backoff {
            first: Duration::from_millis(500),
            longest: Duration::from_secs(20),
        };
        let range = |failures| (backoff.pause_at(failures, 0.0), backoff.pause_at(failures, 1.0));
        assert_eq!(range(1), (Duration::from_millis(250), Duration::from_millis(500)));
        assert_eq!(range(2), (Duration::from_millis(500), Duration::from_secs(1)));
        assert_eq!(range(7), (Duration::from_secs(10), Duration::from_secs(20)));
        assert_eq!(range(u32::MAX), (Duration::from_secs(10), Duration::from_secs(20)));
    }

    #[test]
    fn a_pause_that_was_asked_for_is_kept_up_to_the_bound() {
        let backoff = Backoff {
            first: Duration::from_millis(1),
            longest: Duration::from_secs(20),
        };
        let asked = backoff.pause_of_at_least(Duration::from_secs(20), 1).unwrap();
        assert!(asked >= Duration::from_secs(20) && asked < Duration::from_secs(21));
        assert_eq!(backoff.pause_of_at_least(Duration::from_millis(20_001), 1), None);
    }

    #[test]
    fn it_opens_at_its_number_of_failures_in_a_row() {
        let breaker = breaker(3, Duration::from_secs(60));
        for _ in 0..2 {
            breaker.enter().unwrap().fail();
        }
        breaker.enter().unwrap().succeed();
        for _ in 0..2 {
            breaker.enter().unwrap().fail();
            assert_eq!(breaker.state(), CircuitState::Closed);
        }
        breaker.enter().unwrap().fail();
        assert_eq!(breaker.state(), CircuitState::Open);
        assert!(breaker.enter().unwrap_err().after > Duration::from_secs(59));
        assert!(
            breaker
                .refuses_for()
                .is_some_and(|after| after > Duration::from_secs(59))
        );
    }

    #[test]
    fn one_call_finds_out_and_decides() {
        let breaker = breaker(1, OPEN);
        breaker.enter().unwrap().fail();
        let mut probe = wait_until_it_may_pass(&breaker);
        assert_eq!(breaker.state(), CircuitState::HalfOpen);
        assert_eq!(breaker.enter().unwrap_err().after, OPEN);
        probe.fail();
        assert_ne!(breaker.state(), CircuitState::Closed);
        while breaker.refuses_for().is_some() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(breaker.state(), CircuitState::HalfOpen, "the next one may find out");
        wait_until_it_may_pass(&breaker).succeed();
        assert_eq!(breaker.state(), CircuitState::Closed);
    }

    #[test]
    fn a_probe_that_was_given_up_leaves_it_to_the_next() {
        let breaker = breaker(1, OPEN);
        breaker.enter().unwrap().fail();
        drop(wait_until_it_may_pass(&breaker));
        breaker.enter().unwrap().succeed();
        assert_eq!(breaker.state(), CircuitState::Closed);
    }

    #[test]
    fn a_late_success_of_an_old_call_does_not_close_it() {
        let breaker = breaker(1, Duration::from_secs(60));
        let mut old = breaker.enter().unwrap();
        breaker.enter().unwrap().fail();
        old.succeed();
        assert_eq!(breaker.state(), CircuitState::Open);
    }

    #[test]
    fn an_answer_that_breaks_off_later_counts_as_a_failure() {
        let breaker = breaker(1, Duration::from_secs(60));
        let mut pass = breaker.enter().unwrap();
        pass.succeed();
        pass.fail();
        assert_eq!(breaker.state(), CircuitState::Open);
    }
}
