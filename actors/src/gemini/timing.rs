//! Where the time of a generation goes: always one phase at a time. Costs nothing without a timeline.

use std::{sync::Arc, time::Instant};

use crate::{
    clock,
    flight::{Moment, Phase, Timeline},
};

/// What a generation does now, and since when.
pub(super) struct Timing {
    timeline: Option<Arc<Timeline>>,
    open: Option<(Phase, Instant)>,
}

impl Timing {
    /// A request of a run that asks this model.
    pub(super) fn new(timeline: Option<Arc<Timeline>>, model: &str) -> Self {
        if let Some(timeline) = &timeline {
            timeline.asked(model);
        }
        Self { timeline, open: None }
    }

    /// Whether anybody wants to know.
    pub(super) fn is_on(&self) -> bool {
        self.timeline.is_some()
    }

    /// From `now` on it does this, or nothing that has a name.
    pub(super) fn enter_at(&mut self, phase: Option<Phase>, now: Instant) {
        let Some(timeline) = &self.timeline else { return };
        if let Some((before, since)) = self.open.take() {
            timeline.add(before, now.saturating_duration_since(since));
        }
        self.open = phase.map(|phase| (phase, now));
    }

    /// The same from now on.
    pub(super) fn enter(&mut self, phase: Option<Phase>) {
        if self.is_on() {
            self.enter_at(phase, clock::now());
        }
    }

    /// A request leaves.
    pub(super) fn attempt(&mut self) {
        if let Some(timeline) = &self.timeline {
            let now = clock::now();
            timeline.attempted(now);
            self.enter_at(Some(Phase::Request), now);
        }
    }

    /// It failed, and another one follows.
    pub(super) fn retry(&mut self) {
        if let Some(timeline) = &self.timeline {
            timeline.retried();
        }
        self.enter(Some(Phase::Pause));
    }

    /// The first bytes of an answer came.
    pub(super) fn first_byte(&self, now: Instant) {
        if let Some(timeline) = &self.timeline {
            timeline.first(Moment::FirstByte, now);
        }
    }
}

impl Drop for Timing {
    /// Whatever ends it, also when nobody waits for it any more.
    fn drop(&mut self) {
        self.enter(None);
    }
}
