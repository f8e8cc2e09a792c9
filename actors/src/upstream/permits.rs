//! The right to make a call: bounded for the process and for each user, with a queue that is fair over users.
//!
//! Users take turns: whoever has one call waiting gets the next free permit before anybody gets a second one. When
//! the queue is full, the user with the longest part of it gives way. When the upstream pushes back, fewer run at once
//! until it answers again; what runs already goes on.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kronos_protocol::ids::UserId;
use metrics::{Gauge, Histogram};
use tokio::sync::oneshot;

use super::AdaptiveLimit;
use crate::clock;

/// The queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many calls wait")]
pub(crate) struct Refused {
    /// When to try again: about one second for each round that the queue needs.
    pub(crate) after: Duration,
}

/// How many there are of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) running: usize,
    pub(crate) limit: usize,
    pub(crate) waiting: usize,
}

/// The bounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) running: usize,
    /// What is left of `running` when the upstream pushes back.
    pub(crate) running_least: usize,
    pub(crate) running_per_user: usize,
    pub(crate) waiting: usize,
}

/// Show the counts, and how long calls wait.
#[derive(Debug, Clone)]
pub(crate) struct Gauges {
    /// Calls that hold a permit.
    pub(crate) running: Gauge,
    /// Calls that may hold one.
    pub(crate) limit: Gauge,
    /// Calls that wait for one.
    pub(crate) waiting: Gauge,
    /// How long each waited, whatever ended it; 0 for one that had its permit at once.
    pub(crate) wait: Histogram,
}

/// All permits of the process for one upstream.
#[derive(Debug)]
pub(crate) struct Permits {
    /// The upstream, for the log.
    upstream: &'static str,
    bounds: Bounds,
    wait: Histogram,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    gauges: Gauges,
    limit: AdaptiveLimit,
    running: usize,
    waiting: usize,
    last_ticket: u64,
    users: HashMap<UserId, User>,
    /// Users who have somebody waiting and may run more, in the order of their turns; each once.
    turns: VecDeque<UserId>,
}

#[derive(Debug, Default)]
struct User {
    running: usize,
    waiting: VecDeque<Waiter>,
    in_turns: bool,
}

#[derive(Debug)]
struct Waiter {
    ticket: u64,
    grant: oneshot::Sender<Result<Permit, Refused>>,
}

/// Grants that were decided under the lock and are handed over outside it: a grant that nobody takes any more drops its
/// permit, and that needs the lock.
type Decided = Vec<(oneshot::Sender<Result<Permit, Refused>>, Result<Permit, Refused>)>;

impl Permits {
    /// Makes the permits of a process.
    pub(crate) fn new(upstream: &'static str, bounds: Bounds, gauges: Gauges) -> Arc<Self> {
        let wait = gauges.wait.clone();
        let state = State {
            gauges,
            limit: AdaptiveLimit::new(bounds.running_least, bounds.running),
            running: 0,
            waiting: 0,
            last_ticket: 0,
            users: HashMap::new(),
            turns: VecDeque::new(),
        };
        state.report();
        Arc::new(Self {
            upstream,
            bounds,
            wait,
            state: Mutex::new(state),
        })
    }

    /// Waits for a permit; dropping the future leaves the queue.
    pub(crate) async fn acquire(self: &Arc<Self>, user: &UserId) -> Result<Permit, Refused> {
        let (grant, granted) = oneshot::channel();
        let ticket = match self.enter(user, grant)? {
            Entered::Granted(permit) => {
                self.wait.record(0.0);
                return Ok(permit);
            }
            Entered::Waits(ticket) => ticket,
        };
        let _place = Place {
            permits: self,
            user,
            ticket,
            since: clock::now(),
        };
        // The sender is dropped without a word only together with the permits themselves.
        granted.await.unwrap_or(Err(Refused { after: Duration::ZERO }))
    }

    /// Returns how many run, how many may run now, and how many wait.
    pub(crate) fn counts(&self) -> Counts {
        let state = self.lock();
        Counts {
            running: state.running,
            limit: state.limit.now(),
            waiting: state.waiting,
        }
    }

    /// The upstream has answered that it has too much to do.
    pub(crate) fn push_back(&self, at: Instant) {
        let mut state = self.lock();
        if state.limit.push_back(at) {
            let (upstream, limit) = (self.upstream, state.limit.now());
            tracing::warn!(upstream, limit, "an upstream pushes back: fewer calls at once");
            state.report();
        }
    }

    /// A call has succeeded.
    pub(crate) fn succeed(self: &Arc<Self>) {
        let mut state = self.lock();
        if state.limit.succeed() {
            let decided = self.grant_free(&mut state);
            state.report();
            drop(state);
            hand_over(decided);
        }
    }

    fn enter(
        self: &Arc<Self>,
        user: &UserId,
        grant: oneshot::Sender<Result<Permit, Refused>>,
    ) -> Result<Entered, Refused> {
        let mut decided = Decided::new();
        let mut state = self.lock();
        let has_room = state.running < state.limit.now();
        let after = patience(&state);
        let full = state.waiting >= self.bounds.waiting;
        let entry = state.users.entry(user.clone()).or_default();
        if has_room && entry.running < self.bounds.running_per_user {
            entry.running += 1;
            state.running += 1;
            state.report();
            return Ok(Entered::Granted(Permit {
                permits: Arc::clone(self),
                user: user.clone(),
            }));
        }
        let own = entry.waiting.len();
        if full && !state.displace(own, after, &mut decided) {
            state.forget_if_idle(user);
            return Err(Refused { after });
        }
        state.last_ticket += 1;
        let ticket = state.last_ticket;
        state.waiting += 1;
        if let Some(entry) = state.users.get_mut(user) {
            entry.waiting.push_back(Waiter { ticket, grant });
        }
        state.queue_turn(user, self.bounds.running_per_user);
        state.report();
        drop(state);
        hand_over(decided);
        Ok(Entered::Waits(ticket))
    }

    fn release(self: &Arc<Self>, user: &UserId) {
        let mut state = self.lock();
        state.running = state.running.saturating_sub(1);
        if let Some(entry) = state.users.get_mut(user) {
            entry.running = entry.running.saturating_sub(1);
        }
        state.queue_turn(user, self.bounds.running_per_user);
        let decided = self.grant_free(&mut state);
        state.forget_if_idle(user);
        state.report();
        drop(state);
        hand_over(decided);
    }

    fn leave(&self, user: &UserId, ticket: u64) {
        let mut state = self.lock();
        let Some(entry) = state.users.get_mut(user) else { return };
        let Some(at) = entry.waiting.iter().position(|waiter| waiter.ticket == ticket) else {
            return;
        };
        entry.waiting.remove(at);
        state.waiting -= 1;
        state.forget_if_idle(user);
        state.report();
    }

    /// Gives free permits to those whose turn it is.
    fn grant_free(self: &Arc<Self>, state: &mut State) -> Decided {
        let mut decided = Decided::new();
        while state.running < state.limit.now() {
            let Some(user) = state.turns.pop_front() else { break };
            let Some(entry) = state.users.get_mut(&user) else {
                continue;
            };
            entry.in_turns = false;
            let Some(waiter) = entry.waiting.pop_front() else {
                state.forget_if_idle(&user);
                continue;
            };
            entry.running += 1;
            state.running += 1;
            state.waiting -= 1;
            state.queue_turn(&user, self.bounds.running_per_user);
            decided.push((
                waiter.grant,
                Ok(Permit {
                    permits: Arc::clone(self),
                    user,
                }),
            ));
        }
        decided
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns about one second for each round that the queue needs.
fn patience(state: &State) -> Duration {
    const LONGEST_SECONDS: usize = 30;
    let rounds = (state.waiting / state.limit.now().max(1)).clamp(1, LONGEST_SECONDS);
    Duration::from_secs(u64::try_from(rounds).unwrap_or(1))
}

impl State {
    /// Puts a user at the end of the turns if somebody of theirs waits and may run.
    fn queue_turn(&mut self, user: &UserId, per_user: usize) {
        let Some(entry) = self.users.get_mut(user) else { return };
        if !entry.in_turns && !entry.waiting.is_empty() && entry.running < per_user {
            entry.in_turns = true;
            self.turns.push_back(user.clone());
        }
    }

    /// Refuses the newest of the user who has most waiting, if that is fairer than to refuse one who has `own` waiting.
    fn displace(&mut self, own: usize, after: Duration, decided: &mut Decided) -> bool {
        let longest = self.users.values_mut().max_by_key(|user| user.waiting.len());
        let Some(longest) = longest.filter(|user| user.waiting.len() > own + 1) else {
            return false;
        };
        let Some(waiter) = longest.waiting.pop_back() else {
            return false;
        };
        self.waiting -= 1;
        decided.push((waiter.grant, Err(Refused { after })));
        true
    }

    fn forget_if_idle(&mut self, user: &UserId) {
        let idle = |user: &User| user.running == 0 && user.waiting.is_empty() && !user.in_turns;
        if self.users.get(user).is_some_and(idle) {
            self.users.remove(user);
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float, and no process has 2^52 calls"
    )]
    fn report(&self) {
        self.gauges.running.set(self.running as f64);
        self.gauges.waiting.set(self.waiting as f64);
        self.gauges.limit.set(self.limit.now() as f64);
    }
}

fn hand_over(decided: Decided) {
    for (grant, result) in decided {
        // Whoever waited may be gone: the permit inside is dropped, and the next one gets it.
        drop(grant.send(result));
    }
}

enum Entered {
    Granted(Permit),
    Waits(u64),
}

/// A place in the queue; left when dropped.
struct Place<'a> {
    permits: &'a Permits,
    user: &'a UserId,
    ticket: u64,
    since: Instant,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let waited = clock::now().saturating_duration_since(self.since);
        self.permits.wait.record(waited.as_secs_f64());
        self.permits.leave(self.user, self.ticket);
    }
}

/// The right to make one call; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Arc<Permits>,
    user: UserId,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.permits.release(&self.user);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::FutureExt;

    use super::*;

    type Waiting<'a> = Pin<Box<dyn Future<Output = Result<Permit, Refused>> + 'a>>;

    fn user(name: &str) -> UserId {
        UserId::try_from(name).unwrap()
    }

    fn permits(running: usize, running_per_user: usize, waiting: usize) -> Arc<Permits> {
        let bounds = Bounds {
            running,
            running_least: 1,
            running_per_user,
            waiting,
        };
        let gauges = Gauges {
            running: Gauge::noop(),
            limit: Gauge::noop(),
            waiting: Gauge::noop(),
            wait: Histogram::noop(),
        };
        Permits::new("test", bounds, gauges)
    }

    fn counts(permits: &Permits) -> (usize, usize) {
        let Counts { running, waiting, .. } = permits.counts();
        (running, waiting)
    }

    /// Enters the queue; the answer, if there is one at once, or the waiting future.
    fn enter<'a>(permits: &'a Arc<Permits>, user: &'a UserId) -> Result<Result<Permit, Refused>, Waiting<'a>> {
        let mut waiting: Waiting<'a> = Box::pin(permits.acquire(user));
        match waiting.as_mut().now_or_never() {
            Some(answer) => Ok(answer),
            None => Err(waiting),
        }
    }

    fn granted(permits: &Arc<Permits>, user: &UserId) -> Permit {
        enter(permits, user).ok().unwrap().unwrap()
    }

    fn waits<'a>(permits: &'a Arc<Permits>, user: &'a UserId) -> Waiting<'a> {
        enter(permits, user).err().unwrap()
    }

    #[test]
    fn users_take_turns() {
        let (a, b) = (user("a"), user("b"));
        let permits = permits(1, 8, 1000);
        let first = granted(&permits, &a);
        let mut of_a: Vec<Waiting<'_>> = (0..100).map(|_| waits(&permits, &a)).collect();
        let mut of_b = waits(&permits, &b);
        drop(first);
        let next = of_a.remove(0).now_or_never().expect("a was first").unwrap();
        assert!(of_b.as_mut().now_or_never().is_none());
        drop(next);
        let of_b = of_b.now_or_never().expect("then it is b's turn").unwrap();
        assert!(of_a[0].as_mut().now_or_never().is_none());
        drop(of_b);
        assert!(of_a[0].as_mut().now_or_never().is_some());
    }

    #[test]
    fn a_user_at_the_bound_waits_and_holds_up_nobody() {
        let (a, b) = (user("a"), user("b"));
        let permits = permits(10, 2, 1000);
        let mut of_a = vec![granted(&permits, &a), granted(&permits, &a)];
        let third = waits(&permits, &a);
        let of_b = granted(&permits, &b);
        drop(of_b);
        assert_eq!(counts(&permits), (2, 1));
        of_a.pop();
        assert!(third.now_or_never().is_some_and(|permit| permit.is_ok()));
    }

    #[test]
    fn the_queue_takes_its_bound_and_no_more() {
        let a = user("a");
        let permits = permits(1, 1, 3);
        let running = granted(&permits, &a);
        let mut queue: Vec<Waiting<'_>> = (0..2).map(|_| waits(&permits, &a)).collect();
        queue.push(waits(&permits, &a));
        assert_eq!(
            enter(&permits, &a).ok().unwrap().unwrap_err(),
            Refused {
                after: Duration::from_secs(3)
            }
        );
        assert_eq!(counts(&permits), (1, 3));
        queue.pop();
        queue.push(waits(&permits, &a));
        assert!(enter(&permits, &a).ok().unwrap().is_err());
        drop((running, queue));
        assert_eq!(counts(&permits), (0, 0));
        assert!(permits.lock().users.is_empty());
    }

    #[test]
    fn a_full_queue_of_one_user_makes_room_for_another() {
        let (a, b) = (user("a"), user("b"));
        let permits = permits(1, 1, 3);
        let _running = granted(&permits, &a);
        let mut of_a: Vec<Waiting<'_>> = (0..3).map(|_| waits(&permits, &a)).collect();
        let first_of_b = waits(&permits, &b);
        assert!(
            of_a.pop().unwrap().now_or_never().is_some_and(|answer| answer.is_err()),
            "a's newest gives way"
        );
        assert!(enter(&permits, &b).ok().unwrap().is_err(), "2 and 1 are fair");
        assert!(of_a.iter_mut().all(|waiting| waiting.as_mut().now_or_never().is_none()));
        assert_eq!(counts(&permits), (1, 3));
        drop(first_of_b);
    }

    #[test]
    fn who_leaves_the_queue_gets_and_keeps_nothing() {
        let (a, b) = (user("a"), user("b"));
        let permits = permits(1, 1, 10);
        let running = granted(&permits, &a);
        let gone = waits(&permits, &a);
        let kept = waits(&permits, &b);
        drop(gone);
        assert_eq!(counts(&permits), (1, 1));
        drop(running);
        let permit = kept.now_or_never().expect("b is next").unwrap();
        assert_eq!(counts(&permits), (1, 0));
        drop(permit);
        assert!(permits.lock().users.is_empty());
    }

    #[test]
    fn a_grant_that_nobody_takes_any_more_goes_to_the_next() {
        let (a, b) = (user("a"), user("b"));
        let permits = permits(1, 1, 10);
        let running = granted(&permits, &a);
        let granted_but_gone = waits(&permits, &a);
        let next = waits(&permits, &b);
        drop(running);
        drop(granted_but_gone);
        assert!(next.now_or_never().is_some_and(|permit| permit.is_ok()));
        assert_eq!(counts(&permits), (0, 0));
    }

    #[test]
    fn when_the_upstream_pushes_back_fewer_run_until_it_answers() {
        let (a, at) = (user("a"), crate::clock::Clock::default().instant());
        let permits = permits(4, 8, 10);
        let mut running: Vec<Permit> = (0..4).map(|_| granted(&permits, &a)).collect();
        (0..4).for_each(|_| permits.push_back(at));
        assert_eq!(permits.counts().limit, 2);
        let mut next = waits(&permits, &a);
        running.truncate(2);
        assert!(next.as_mut().now_or_never().is_none(), "two run, and two may");
        permits.succeed();
        let third = next.now_or_never().expect("three may run").unwrap();
        let last = waits(&permits, &a);
        drop(third);
        assert!(last.now_or_never().is_some_and(|permit| permit.is_ok()));
    }
}
