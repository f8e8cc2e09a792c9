//! What a session lets its directory see without a message: whether it gets on. Both live on one thread.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::{Duration, Instant},
};

use kronos_protocol::position::Seq;

/// How long a cursor may leave what is there before it lags.
const LAGGING_AFTER: Duration = Duration::from_secs(1);

/// Where one cursor stands.
#[derive(Debug)]
pub(crate) struct Place {
    /// The last event that it has, or that is on its way to it.
    has: Cell<Seq>,
    /// Since when it has not asked for more; `None`: it has asked.
    rests: Cell<Option<Instant>>,
}

impl Place {
    /// It asks for what is after this event.
    pub(crate) fn asks(&self, after: Seq) {
        self.has.set(after);
        self.rests.set(None);
    }

    /// Everything up to this event is on its way to it.
    pub(crate) fn has(&self, upto: Seq) {
        self.has.set(upto);
    }

    /// For how long it has not asked for more.
    pub(crate) fn rests_for(&self, now: Instant) -> Duration {
        let since = self.rests.get();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// It was answered, and has not asked again.
    pub(crate) fn rests(&self, now: Instant) {
        self.rests.set(Some(now));
    }
}

/// The shared cells of one activation.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// When it last got on, or found that it has nothing to do.
    moved: Cell<Instant>,
    /// It has work that must get on: a log being read, a commit in the air, a run that nobody works on.
    working: Cell<bool>,
    /// When its run must have ended by itself.
    run_ends: Cell<Option<Instant>>,
    /// What readers may see.
    visible: Cell<Seq>,
    /// Its cursors; one that is gone is found by nobody else holding it.
    places: RefCell<Vec<Rc<Place>>>,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Rc<Self> {
        Rc::new(Self {
            moved: Cell::new(now),
            working: Cell::new(true),
            run_ends: Cell::new(None),
            visible: Cell::new(0),
            places: RefCell::default(),
        })
    }

    /// Notes that something was done, and whether there is more that must get on.
    pub(crate) fn beat(&self, now: Instant, working: bool, run_ends: Option<Instant>) {
        self.moved.set(now);
        self.working.set(working);
        self.run_ends.set(run_ends);
    }

    /// Notes what readers may see.
    pub(crate) fn show(&self, visible: Seq) {
        self.visible.set(visible);
    }

    /// A cursor that has everything up to `has`.
    pub(crate) fn cursor(&self, has: Seq, now: Instant) -> Rc<Place> {
        let place = Rc::new(Place {
            has: Cell::new(has),
            rests: Cell::new(Some(now)),
        });
        self.places.borrow_mut().push(Rc::clone(&place));
        place
    }

    /// Events that its slowest cursor has not asked for, and how many cursors have not for more than a second.
    pub(crate) fn lag(&self, now: Instant) -> (Seq, usize) {
        let mut places = self.places.borrow_mut();
        places.retain(|place| Rc::strong_count(place) > 1);
        let (mut lag, mut lagging) = (0, 0);
        for place in places.iter() {
            let Some(since) = place.rests.get() else { continue };
            let behind = self.visible.get().saturating_sub(place.has.get());
            lag = lag.max(behind);
            if behind > 0 && now.saturating_duration_since(since) > LAGGING_AFTER {
                lagging += 1;
            }
        }
        (lag, lagging)
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
    fn a_cursor_lags_when_it_leaves_what_is_there_for_more_than_a_second() {
        let start = Clock::default().instant();
        let pulse = Pulse::new(start);
        let (slow, quick) = (pulse.cursor(0, start), pulse.cursor(0, start));
        let second = start + LAGGING_AFTER;
        assert_eq!(pulse.lag(second + LAGGING_AFTER), (0, 0), "nothing is there");
        pulse.show(7);
        quick.asks(0);
        slow.has(3);
        assert_eq!(pulse.lag(second), (4, 0), "n");
        assert_eq!(pulse.lag(second + Duration::from_millis(1)), (4, 1), "n+1");
        slow.rests(second);
        assert_eq!(pulse.lag(second + Duration::from_millis(1)), (4, 0));
        drop(slow);
        assert_eq!(pulse.lag(second + LAGGING_AFTER * 2), (0, 0), "it is gone");
    }

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
