//! Something asked for seldom and used often: kept for a time, asked for by one at a time, and served old while it is
//! asked for again. Lives on one thread.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt,
    future::{LocalBoxFuture, Shared},
};

use super::failure::ComposioError;
use crate::clock::Clock;

/// After a failed refresh the next is tried no earlier.
const PAUSE: Duration = Duration::from_secs(10);

type Flight<V> = Shared<LocalBoxFuture<'static, Result<Rc<V>, ComposioError>>>;

/// Values by name.
pub(super) struct Cached<V> {
    clock: Clock,
    /// Age at which a value is asked for again.
    ttl: Duration,
    /// Age beyond which a value is served only when no new one can be had.
    old: Duration,
    bound: usize,
    flights: Cell<u64>,
    slots: RefCell<HashMap<String, Slot<V>>>,
}

struct Slot<V> {
    value: Option<(Rc<V>, Instant)>,
    tried: Option<Instant>,
    used: Instant,
    /// With its number: one of a slot that was forgotten leaves nothing in the next.
    flight: Option<(u64, Flight<V>)>,
}

impl<V: 'static> Cached<V> {
    /// Keeps at most `bound` values.
    pub(super) fn new(clock: Clock, ttl: Duration, old: Duration, bound: usize) -> Rc<Self> {
        Rc::new(Self {
            clock,
            ttl,
            old,
            bound: bound.max(1),
            flights: Cell::new(0),
            slots: RefCell::default(),
        })
    }

    /// Values that are kept.
    pub(super) fn len(&self) -> usize {
        self.slots.borrow().values().filter(|slot| slot.value.is_some()).count()
    }

    /// Age of the oldest of them.
    pub(super) fn oldest(&self) -> Option<Duration> {
        let slots = self.slots.borrow();
        let made = slots
            .values()
            .filter_map(|slot| slot.value.as_ref().map(|(_, at)| *at))
            .min()?;
        Some(self.clock.instant().saturating_duration_since(made))
    }

    /// Returns a value, asking with `fetch` if need be; with its age.
    pub(super) async fn get(
        self: &Rc<Self>,
        name: &str,
        fetch: impl FnOnce() -> LocalBoxFuture<'static, Result<V, ComposioError>>,
    ) -> Result<(Rc<V>, Duration), ComposioError> {
        let now = self.clock.instant();
        let since = |at: Instant| now.saturating_duration_since(at);
        let (value, flight) = {
            let mut slots = self.slots.borrow_mut();
            if !slots.contains_key(name) {
                self.make_room(&mut slots);
            }
            let slot = slots.entry(name.to_owned()).or_insert_with(|| Slot {
                value: None,
                tried: None,
                used: now,
                flight: None,
            });
            slot.used = now;
            // One whose task panicked has nobody who takes it away.
            if slot.flight.as_ref().is_some_and(|(_, flight)| flight.peek().is_some()) {
                slot.flight = None;
            }
            let age = slot.value.as_ref().map(|(_, at)| since(*at));
            let may_try = age.is_none() || slot.tried.is_none_or(|at| since(at) >= PAUSE);
            if age.is_none_or(|age| age >= self.ttl) && may_try && slot.flight.is_none() {
                slot.tried = Some(now);
                slot.flight = Some(self.fly(name.to_owned(), fetch()));
            }
            let value = slot.value.as_ref().map(|(value, _)| Rc::clone(value)).zip(age);
            (value, slot.flight.as_ref().map(|(_, flight)| flight.clone()))
        };
        match (value, flight) {
            (Some((value, age)), _) if age < self.old => Ok((value, age)),
            (value, Some(flight)) => match (flight.await, value) {
                (Ok(fresh), _) => Ok((fresh, Duration::ZERO)),
                // Something old is better than nothing.
                (Err(_), Some(value)) => Ok(value),
                (Err(error), None) => Err(error),
            },
            (Some(value), None) => Ok(value),
            (None, None) => Err(ComposioError::internal()),
        }
    }

    /// Forgets a value: the next who wants it waits for a new one.
    pub(super) fn forget(&self, name: &str) {
        // One that is being asked for now may be from before.
        self.slots.borrow_mut().remove(name);
    }

    /// Forgets all.
    pub(super) fn clear(&self) {
        self.slots.borrow_mut().clear();
    }

    fn fly(
        self: &Rc<Self>,
        name: String,
        fetch: LocalBoxFuture<'static, Result<V, ComposioError>>,
    ) -> (u64, Flight<V>) {
        let cached = Rc::clone(self);
        let number = self.flights.get() + 1;
        self.flights.set(number);
        let task = actix::spawn(async move {
            let result = fetch.await.map(Rc::new);
            let mut slots = cached.slots.borrow_mut();
            let own = |slot: &&mut Slot<V>| slot.flight.as_ref().is_some_and(|(other, _)| *other == number);
            if let Some(slot) = slots.get_mut(&name).filter(own) {
                slot.flight = None;
                if let Ok(value) = &result {
                    slot.value = Some((Rc::clone(value), cached.clock.instant()));
                    slot.tried = None;
                } else if slot.value.is_none() {
                    slots.remove(&name);
                }
            }
            result
        });
        let landed = task.map(|ended| ended.unwrap_or_else(|_panicked| Err(ComposioError::internal())));
        (number, landed.boxed_local().shared())
    }

    /// Makes room for one more: who was not wanted for longest goes.
    fn make_room(&self, slots: &mut HashMap<String, Slot<V>>) {
        while slots.len() >= self.bound {
            let idle = slots.iter().filter(|(_, slot)| slot.flight.is_none());
            let Some(oldest) = idle.min_by_key(|(_, slot)| slot.used).map(|(name, _)| name.clone()) else {
                break;
            };
            slots.remove(&oldest);
        }
    }
}
