//! A budget for repeated attempts of the whole process, so that an outage is not multiplied by those who try again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Gauge;

/// Parts of one token: a ratio such as 0.2 is then a whole number, and no rounding adds up.
const PARTS: u64 = 1000;

/// Tokens that attempts after the first are paid with. Successes earn them, up to a bound, so that there are at most
/// `burst + ratio * successes` such attempts, however many callers there are. No clock: what did not succeed earns nothing,
/// however long it lasts.
#[derive(Debug)]
pub struct RetryBudget {
    earned: u64,
    most: u64,
    /// In parts of a token.
    left: AtomicU64,
    gauge: Gauge,
}

impl RetryBudget {
    /// Makes a full budget of `burst` tokens to which each success adds `ratio`; `gauge` shows what is left.
    #[must_use]
    pub fn new(ratio: f64, burst: u32, gauge: Gauge) -> Arc<Self> {
        let most = u64::from(burst) * PARTS;
        let budget = Self {
            earned: parts(ratio),
            most,
            left: AtomicU64::new(most),
            gauge,
        };
        budget.show(most);
        Arc::new(budget)
    }

    /// A call succeeded.
    pub fn succeed(&self) {
        self.add(self.earned);
    }

    /// Sets one token aside for an attempt that is to follow; `None`: there is none.
    #[must_use]
    pub fn reserve(self: &Arc<Self>) -> Option<Reserved> {
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        let before = self
            .left
            .fetch_update(set, fetch, |left| left.checked_sub(PARTS))
            .ok()?;
        self.show(before - PARTS);
        Some(Reserved {
            budget: Some(Arc::clone(self)),
        })
    }

    /// Returns how many attempts could be paid now.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left.load(Ordering::Acquire) / PARTS
    }

    fn add(&self, more: u64) {
        let grow = |left: u64| Some(left.saturating_add(more).min(self.most));
        let (set, fetch) = (Ordering::AcqRel, Ordering::Acquire);
        let before = self.left.fetch_update(set, fetch, grow).unwrap_or_default();
        self.show(before.saturating_add(more).min(self.most));
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float, and no budget has 2^52 parts"
    )]
    fn show(&self, left: u64) {
        self.gauge.set(left as f64 / PARTS as f64);
    }
}

/// Returns a number of tokens in parts, none for what is no number of them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "within bounds by the clamp"
)]
fn parts(tokens: f64) -> u64 {
    let bounded = if tokens.is_nan() { 0.0 } else { tokens.clamp(0.0, 1e6) };
    (bounded * PARTS as f64).round() as u64
}

/// A token set aside for one attempt. Dropped unspent (the attempt was never made: cancelled, or an open circuit refused
/// it) it goes back.
#[derive(Debug)]
#[must_use = "a token that is dropped goes back"]
pub struct Reserved {
    budget: Option<Arc<RetryBudget>>,
}

impl Reserved {
    /// The attempt is made.
    pub fn spend(mut self) {
        self.budget = None;
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(budget) = self.budget.take() {
            budget.add(PARTS);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget(ratio: f64, burst: u32) -> Arc<RetryBudget> {
        RetryBudget::new(ratio, burst, Gauge::noop())
    }

    fn spend(budget: &Arc<RetryBudget>, times: u32) -> u32 {
        let granted = (0..times).filter_map(|_| budget.reserve()).map(Reserved::spend);
        u32::try_from(granted.count()).unwrap()
    }

    #[test]
    fn a_burst_is_paid_and_not_one_more() {
        for burst in [0, 1, 20] {
            let budget = budget(0.2, burst);
            assert_eq!(spend(&budget, burst + 1), burst);
            assert_eq!(budget.left(), 0);
        }
    }

    #[test]
    fn five_successes_at_a_fifth_each_earn_one() {
        let budget = budget(0.2, 2);
        assert_eq!(spend(&budget, 2), 2);
        for _ in 0..4 {
            budget.succeed();
        }
        assert!(budget.reserve().is_none(), "four fifths are no token");
        budget.succeed();
        assert_eq!(spend(&budget, 2), 1);
        for _ in 0..1000 {
            budget.succeed();
        }
        assert_eq!(spend(&budget, 3), 2, "no more than the burst is kept");
    }

    #[test]
    fn an_attempt_that_was_not_made_costs_nothing() {
        let budget = budget(0.0, 1);
        drop(budget.reserve().unwrap());
        let held = budget.reserve().unwrap();
        assert!(budget.reserve().is_none(), "it is set aside meanwhile");
        held.spend();
        assert!(budget.reserve().is_none());
    }

    #[test]
    fn odd_ratios_earn_nothing_or_a_bounded_amount() {
        for (ratio, earned) in [(f64::NAN, 0), (-1.0, 0), (f64::INFINITY, 5)] {
            let budget = budget(ratio, 5);
            assert_eq!(spend(&budget, 5), 5);
            budget.succeed();
            assert_eq!(spend(&budget, 9), earned, "{ratio}");
        }
    }

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Succeed,
        Reserve,
        Spend(usize),
        GiveBack(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            Just(Step::Succeed),
            Just(Step::Reserve),
            any::<usize>().prop_map(Step::Spend),
            any::<usize>().prop_map(Step::GiveBack),
        ]
    }

    proptest! {
        #[test]
        fn attempts_never_exceed_the_burst_and_what_successes_earned(
            thousandths in 0_u32..2500,
            burst in 0_u32..12,
            steps in prop::collection::vec(step(), 0..400),
        ) {
            let budget = budget(f64::from(thousandths) / 1000.0, burst);
            let (mut held, mut spent, mut successes) = (Vec::new(), 0_u64, 0_u64);
            for step in steps {
                match step {
                    Step::Succeed => {
                        successes += 1;
                        budget.succeed();
                    }
                    Step::Reserve => held.extend(budget.reserve()),
                    Step::Spend(at) if !held.is_empty() => {
                        spent += 1;
                        held.swap_remove(at % held.len()).spend();
                    }
                    Step::GiveBack(at) if !held.is_empty() => drop(held.swap_remove(at % held.len())),
                    Step::Spend(_) | Step::GiveBack(_) => {}
                }
                let earned = u64::from(burst) * 1000 + successes * u64::from(thousandths);
                prop_assert!((spent + held.len() as u64) * 1000 <= earned, "{spent} of {earned}");
                prop_assert!(budget.left() <= u64::from(burst));
            }
            // It recovers by itself: enough successes fill it again, whatever came before.
            held.clear();
            if thousandths > 0 {
                (0..u64::from(burst) * 1000 / u64::from(thousandths) + 1).for_each(|_| budget.succeed());
                prop_assert_eq!(budget.left(), u64::from(burst));
            }
        }
    }
}
