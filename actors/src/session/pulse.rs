//! What a session lets its directory see without a message: whether it gets on. Both live on one thread.

use std::{
    cell::Cell,
    rc::Rc,
    time::{Duration, Instant},
};

/// The shared cells of one activation.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// When it last got on, or found that it has nothing to do.
    moved: Cell<Instant>,
    /// It has work that must get on: a log being read, a commit in the air, a run that nobody works on.
    working: Cell<bool>,
    /// When its run must have ended by itself.
    run_ends: Cell<Option<Instant>>,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            moved: Cell::new(now),
            working: Cell::new(true),
            run_ends: Cell::new(None),
        })
    }

    /// Notes that something was done, and whether there is more that must get on.
    pub(crate) fn beat(&self, now: Instant, working: bool, run_ends: Option<Instant>) {
        self.moved.set(now);
        self.working.set(working);
        self.run_ends.set(run_ends);
    }

    /// For how long it did nothing, and whether it has work that must get on.
    pub(crate) fn still_for(&self, now: Instant) -> (Duration, bool) {
        (now.saturating_duration_since(self.moved.get()), self.working.get())
    }

    /// Whether it hangs: no progress for `limit` while it has work, or a run that outlived its deadline by as much.
    pub(crate) fn hangs(&self, now: Instant, limit: Duration) -> bool {
        let still = self.working.get() && now.saturating_duration_since(self.moved.get()) >= limit;
        let overdue = self
            .run_ends
            .get()
            .is_some_and(|ends| now.saturating_duration_since(ends) >= limit);
        still || overdue
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    const LIMIT: Duration = Duration::from_secs(30);

    #[test]
    fn only_work_without_progress_and_overdue_runs_hang() {
        let start = Clock::default().instant();
        let pulse = Pulse::new(start);
        let almost = start + LIMIT - Duration::from_millis(1);
        assert!(!pulse.hangs(almost, LIMIT), "n-1");
        assert!(pulse.hangs(start + LIMIT, LIMIT), "n: its log is not read");
        pulse.beat(start, false, None);
        assert!(!pulse.hangs(start + 10 * LIMIT, LIMIT), "nothing to do is no hang");
        pulse.beat(start, false, Some(start + LIMIT));
        assert!(!pulse.hangs(start + LIMIT, LIMIT), "a run may take until its deadline");
        assert!(pulse.hangs(start + 2 * LIMIT, LIMIT), "its deadline did not end it");
    }
}
