//! At most so many lines a second of one place in the code: a storm cannot fill a disk, and its first lines are there.

use std::{
    collections::HashMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use kronos_actors::clock;
use tracing::{Level, Metadata, callsite::Identifier};

/// The target of the lines that say what was left out; they are never left out themselves.
pub(super) const TARGET: &str = "kronos::logs";

/// Counts the lines of each place in the code.
#[derive(Debug)]
pub(super) struct Burst {
    /// Lines of one place in a second; 0 for no limit.
    limit: u32,
    since: Instant,
    /// Grows to the number of places in the code that write.
    places: RwLock<HashMap<Identifier, Arc<Place>>>,
    left_out: AtomicU64,
}

#[derive(Debug)]
struct Place {
    metadata: &'static Metadata<'static>,
    /// A second in the upper half, its lines in the lower.
    window: AtomicU64,
    left_out: AtomicU64,
}

impl Burst {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            since: clock::now(),
            places: RwLock::default(),
            left_out: AtomicU64::new(0),
        }
    }

    /// Whether a line of this place is to be written now.
    pub(super) fn admits(&self, metadata: &'static Metadata<'static>) -> bool {
        if self.limit == 0 || metadata.target() == TARGET {
            return true;
        }
        self.admits_in(self.since.elapsed().as_secs(), metadata)
    }

    fn admits_in(&self, second: u64, metadata: &'static Metadata<'static>) -> bool {
        let admitted = self.with_place(metadata, |place| {
            let admitted = place.count(second, self.limit);
            if !admitted {
                place.left_out.fetch_add(1, Ordering::Relaxed);
            }
            admitted
        });
        if !admitted {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }

    fn with_place<T>(&self, metadata: &'static Metadata<'static>, work: impl FnOnce(&Place) -> T) -> T {
        let id = metadata.callsite();
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(&id) {
            return work(place);
        }
        drop(places);
        let mut places = self.places.write().unwrap_or_else(PoisonError::into_inner);
        let place = places.entry(id).or_insert_with(|| {
            Arc::new(Place {
                metadata,
                // No line yet, in no second.
                window: AtomicU64::new(u64::MAX << 32),
                left_out: AtomicU64::new(0),
            })
        });
        let place = Arc::clone(place);
        drop(places);
        work(&place)
    }

    /// Lines that were left out so far.
    pub(super) fn left_out(&self) -> u64 {
        self.left_out.load(Ordering::Relaxed)
    }

    /// Says how many lines were left out since the last time, a line for each place that had too many.
    pub(super) fn tell(&self) {
        let places = self.places.read().unwrap_or_else(PoisonError::into_inner);
        let told: Vec<_> = places
            .values()
            .map(|place| (place.metadata, place.left_out.swap(0, Ordering::Relaxed)))
            .filter(|(_, left_out)| *left_out > 0)
            .collect();
        // Not under the lock: a line of another kind takes it.
        drop(places);
        for (metadata, left_out) in told {
            say(metadata, left_out);
        }
    }
}

impl Place {
    fn count(&self, second: u64, limit: u32) -> bool {
        let now = second << 32;
        let counted = self
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |window| {
                if window >> 32 != second {
                    Some(now | 1)
                } else if window & u64::from(u32::MAX) < u64::from(limit) {
                    Some(window + 1)
                } else {
                    None
                }
            });
        counted.is_ok()
    }
}

/// At the level of what was left out: whoever reads those lines reads this one.
fn say(metadata: &Metadata<'_>, left_out: u64) {
    let place = format_args!("{}:{}", metadata.target(), metadata.line().unwrap_or_default());
    macro_rules! line {
        ($level:ident) => {
            tracing::event!(target: TARGET, Level::$level, %place, left_out, "log lines were left out")
        };
    }
    match *metadata.level() {
        Level::ERROR => line!(ERROR),
        Level::WARN => line!(WARN),
        Level::INFO => line!(INFO),
        Level::DEBUG => line!(DEBUG),
        Level::TRACE => line!(TRACE),
    }
}

#[cfg(test)]
mod tests {
    use tracing::{Callsite as _, callsite::DefaultCallsite, field::FieldSet, metadata::Kind};

    use super::*;

    macro_rules! place {
        () => {{
            static CALLSITE: DefaultCallsite = DefaultCallsite::new(&METADATA);
            static METADATA: Metadata<'static> = Metadata::new(
                "event",
                "test",
                Level::WARN,
                None,
                Some(line!()),
                None,
                FieldSet::new(&[], Identifier(&CALLSITE)),
                Kind::EVENT,
            );
            CALLSITE.metadata()
        }};
    }

    #[test]
    fn each_place_has_its_own_limit_in_each_second() {
        let burst = Burst::new(3);
        let (one, other) = (place!(), place!());
        let admitted = |second, place, times| (0..times).filter(|_| burst.admits_in(second, place)).count();
        assert_eq!(admitted(0, one, 2), 2);
        assert_eq!(admitted(0, one, 1), 1);
        assert_eq!(admitted(0, one, 1), 0);
        assert_eq!(admitted(0, one, 996), 0);
        assert_eq!(admitted(0, other, 3), 3);
        assert_eq!(burst.left_out(), 997);
        assert_eq!(admitted(1, one, 5), 3);
        assert_eq!(burst.left_out(), 999);
        burst.tell();
        assert_eq!(burst.left_out(), 999, "what was left out stays counted");
    }

    #[test]
    fn no_limit_leaves_nothing_out() {
        let burst = Burst::new(0);
        let place = place!();
        assert!((0..10_000).all(|_| burst.admits(place)));
    }
}
