//! Lets users come as a scenario says, each of whom replays a script against the server, and measures and checks what they see.
//!
//! One thread drives all of it. A user has a director that walks through the steps, and a task for each device that owns its websocket.
//! Starts are fixed before: who comes late because the load tester or the server is slow was still meant to come at that time, and the
//! latencies count from there.

mod audit;
mod checks;
mod clocks;
mod device;
mod names;
mod people;
mod schedule;
mod user;
mod view;
mod wire;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use kronos_protocol::WireError;
use rand::Rng as _;
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::{AbortHandle, LocalSet};
use tokio::time::sleep_until;

use crate::clock;
use crate::meter::{Count, Level, Meter};
use crate::scenario::{Model, Scenario};
use crate::script::Script;
use device::{Link, Order};
use people::People;
use schedule::Arrivals;
use user::User;
pub(crate) use wire::Target;

/// Handshakes at once: more would only wait in the server's backlog.
const DOORS: usize = 1024;
/// Between two looks at how many users a closed load wants.
const TICK: Duration = Duration::from_millis(20);
/// In a closed load nobody takes the place of a user that could not go on before.
const BREATHER: Duration = Duration::from_secs(1);
/// Time for who is at it when somebody has interrupted the load.
const HURRY: Duration = Duration::from_secs(5);
/// How much earlier a timer is set, since it fires up to this much late. What begins early was intended then.
const TIMER: Duration = Duration::from_millis(2);
/// Users that are named of those that did not come to the end.
const NAMED: usize = 20;

/// How a load is driven, beside what the scenario says.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// This share of the users (0 to 1) is audited in the end.
    pub(crate) audit_share: f64,
    /// Counts up when somebody wants it to end: once to let no more users come, twice to end at once.
    pub(crate) stop: watch::Receiver<u8>,
}

/// How a load went, beside what the meter has.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Users that were not done in time, and where each was; the first of them.
    pub(crate) unfinished: Vec<String>,
    /// Users that gave up, and why; the first of them.
    pub(crate) gave_up: Vec<String>,
    /// Commands that were refused, and how often; the first kinds of them.
    pub(crate) refused: BTreeMap<String, u64>,
    /// Somebody stopped it.
    pub(crate) interrupted: bool,
}

/// What all users share.
pub(crate) struct Engine {
    pub(crate) scenario: Scenario,
    pub(crate) target: Target,
    pub(crate) meter: Meter,
    /// Permits for handshakes.
    pub(crate) doors: Semaphore,
    /// When everybody was cut.
    pub(crate) stormed: Cell<Option<Instant>>,
    scripts: Vec<(u32, Rc<Script>)>,
    people: People,
    audit_share: f64,
    stop: watch::Receiver<u8>,
    start: Instant,
    users: RefCell<HashMap<u64, Rc<User>>>,
    tasks: RefCell<BTreeMap<u64, AbortHandle>>,
    next: Cell<u64>,
    gone: Notify,
    gave_up: RefCell<Vec<String>>,
    refused: RefCell<BTreeMap<String, u64>>,
}

/// Something that is counted as long as it is there.
pub(crate) struct Counted(Meter, Level);

impl Counted {
    pub(crate) fn new(meter: &Meter, level: Level) -> Self {
        meter.level(level, 1);
        Self(meter.clone(), level)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.level(self.1, -1);
    }
}

/// Drives a load to its end.
///
/// # Errors
/// When it cannot begin. What goes wrong later is in the meter.
pub(crate) async fn run(
    scenario: &Scenario,
    target: Target,
    meter: Meter,
    options: Options,
) -> anyhow::Result<Outcome> {
    ensure!(scenario.speed > 0.0, "the speed must be above 0");
    let scripts: Vec<_> = scenario
        .mix
        .iter()
        .filter(|part| part.weight > 0)
        .map(|part| (part.weight, Rc::new(part.script.clone())))
        .collect();
    ensure!(!scripts.is_empty(), "nobody does anything");
    let engine = Rc::new(Engine {
        scripts,
        people: People::new(&scenario.users, &target)?,
        scenario: scenario.clone(),
        target,
        meter,
        doors: Semaphore::new(DOORS),
        stormed: Cell::new(None),
        audit_share: options.audit_share,
        stop: options.stop,
        start: clock::instant(),
        users: RefCell::default(),
        tasks: RefCell::default(),
        next: Cell::new(0),
        gone: Notify::new(),
        gave_up: RefCell::default(),
        refused: RefCell::default(),
    });
    LocalSet::new().run_until(engine.drive()).await
}

impl Engine {
    async fn drive(self: Rc<Self>) -> anyhow::Result<Outcome> {
        if let Some(at) = self.scenario.network.storm_at {
            let me = Rc::clone(&self);
            tokio::task::spawn_local(async move {
                sleep_until((me.start + at).into()).await;
                me.storm();
            });
        }
        match self.scenario.model {
            Model::Open => self.open().await,
            Model::Closed => self.closed().await,
        }
        let interrupted = self.stops() > 0;
        let unfinished = self.finish(interrupted).await;
        Ok(Outcome {
            unfinished,
            gave_up: self.gave_up.take(),
            refused: self.refused.take(),
            interrupted: interrupted || self.stops() > 0,
        })
    }

    /// Waits until it is time and returns when it was meant to be: then, or now, when the timer fired early.
    pub(crate) async fn on_time(&self, due: Instant) -> Instant {
        let early = due.checked_sub(TIMER).unwrap_or(due);
        if clock::instant() < early {
            sleep_until(early.into()).await;
            self.meter.lag(clock::instant().saturating_duration_since(due));
        }
        due.min(clock::instant())
    }

    fn stops(&self) -> u8 {
        *self.stop.borrow()
    }

    /// Lets users come at their times, however those before them fare.
    async fn open(self: &Rc<Self>) {
        let mut stop = self.stop.clone();
        for at in Arrivals::new(&self.scenario.stages, self.scenario.seed) {
            let due = self.start + at;
            let intended = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop > 0) => return,
                intended = self.on_time(due) => intended,
            };
            self.meter.count(Count::Offered, 1);
            if self.tasks.borrow().len() >= self.scenario.max_users {
                self.meter.error("dropped");
            } else {
                self.begin(intended);
            }
            // Whoever is late must let the others work, too.
            tokio::task::yield_now().await;
        }
        let end = self.start + self.scenario.length();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop > 0) => {}
            () = sleep_until(end.into()) => {}
        }
    }

    /// Keeps as many users at it as are wanted.
    async fn closed(self: &Rc<Self>) {
        let length = self.scenario.length();
        let mut stop = self.stop.clone();
        loop {
            let at = self.start.elapsed();
            if at >= length || self.stops() > 0 {
                return;
            }
            let wanted = self.wanted(at);
            while self.tasks.borrow().len() < wanted {
                self.meter.count(Count::Offered, 1);
                self.begin(clock::instant());
            }
            tokio::select! {
                _ = stop.wait_for(|stop| *stop > 0) => {}
                () = tokio::time::sleep(TICK) => {}
                () = self.gone.notified() => {}
            }
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of users, not below 0"
    )]
    fn wanted(&self, at: Duration) -> usize {
        self.scenario.wanted(at).round().max(0.0) as usize
    }

    /// Lets a user begin.
    fn begin(self: &Rc<Self>, intended: Instant) {
        let number = self.next.replace(self.next.get() + 1);
        let me = Rc::clone(self);
        let task = tokio::task::spawn_local(async move {
            if !me.one(number, intended).await && me.scenario.model == Model::Closed {
                // Whoever takes the place must not fail in a loop.
                tokio::time::sleep(BREATHER).await;
            }
            me.tasks.borrow_mut().remove(&number);
            me.gone.notify_one();
        });
        self.tasks.borrow_mut().insert(number, task.abort_handle());
    }

    /// One user, from the door to the end; false for one that could not go on.
    async fn one(self: &Rc<Self>, number: u64, arrival: Instant) -> bool {
        let _here = Counted::new(&self.meter, Level::Users);
        self.meter.count(Count::Started, 1);
        let before = clock::instant();
        let person = match self.people.person(number).await {
            Ok(person) => person,
            Err(code) => {
                self.meter.error(&code);
                return false;
            }
        };
        // Signing up is no part of what is replayed.
        let arrival = arrival + before.elapsed();
        let mut random = user::random(self.scenario.seed, number);
        let script = self.draw(random.random());
        let user = Rc::new(User::new(Rc::clone(self), script, number, person, random));
        let _known = Known::new(self, &user);
        user.live(arrival).await
    }

    /// Draws a script by weight.
    fn draw(&self, share: f64) -> Rc<Script> {
        let total: u32 = self.scripts.iter().map(|(weight, _)| weight).sum();
        let mut left = share * f64::from(total);
        let drawn = self.scripts.iter().find(|(weight, _)| {
            left -= f64::from(*weight);
            left < 0.0
        });
        drawn
            .or(self.scripts.last())
            .map(|(_, script)| Rc::clone(script))
            .unwrap_or_default()
    }

    /// Whether this user is audited: every so many-th.
    pub(crate) fn audits(&self, number: u64) -> bool {
        user::random(!self.scenario.seed, number).random::<f64>() < self.audit_share
    }

    /// Returns a user that is at it.
    pub(crate) fn user(&self, number: u64) -> Option<Rc<User>> {
        self.users.borrow().get(&number).cloned()
    }

    /// Takes note of a user that could not go on.
    pub(crate) fn gave_up(&self, user: &User, why: &str) {
        let mut gave_up = self.gave_up.borrow_mut();
        if gave_up.len() < NAMED {
            gave_up.push(format!("{}: {why}", user.whereabouts()));
        }
    }

    /// Counts a command that was refused.
    pub(crate) fn refused(&self, error: &WireError, command: &str, script: &str) {
        let code = error.code.as_str();
        self.meter.error(code);
        let mut refused = self.refused.borrow_mut();
        let kind = format!("{command} ({script}): {code}: {}", error.message);
        if refused.len() < NAMED || refused.contains_key(&kind) {
            *refused.entry(kind).or_default() += 1;
        }
    }

    /// Cuts everybody who is connected.
    fn storm(&self) {
        let at = clock::instant();
        self.stormed.set(Some(at));
        for user in self.users.borrow().values() {
            for device in &user.devices {
                if matches!(device.link.get(), Link::Joining | Link::Here) {
                    device.order(Order::Fall { at });
                }
            }
            user.changed.notify_one();
        }
    }

    /// Waits for who is at it; returns who was not done in time.
    async fn finish(&self, interrupted: bool) -> Vec<String> {
        let grace = self.scenario.grace;
        let grace = if interrupted { grace.min(HURRY) } else { grace };
        let over = clock::instant() + grace;
        let mut stop = self.stop.clone();
        let enough = if interrupted { 1 } else { 0 };
        while !self.tasks.borrow().is_empty() {
            tokio::select! {
                () = self.gone.notified() => {}
                () = sleep_until(over.into()) => break,
                _ = stop.wait_for(|stop| *stop > enough) => break,
            }
        }
        let interrupted = interrupted || self.stops() > 0;
        let mut unfinished = Vec::new();
        let left = std::mem::take(&mut *self.tasks.borrow_mut());
        for (number, task) in left {
            if !interrupted {
                self.meter.error("unfinished");
            }
            let user = self.user(number);
            if let Some(user) = &user {
                user.abandon();
            }
            if unfinished.len() < NAMED {
                let name = user.map(|user| user.whereabouts());
                unfinished.push(name.unwrap_or_else(|| format!("user {number}: signing up")));
            }
            task.abort();
        }
        // The tasks are gone when they were polled once more.
        tokio::task::yield_now().await;
        unfinished
    }
}

/// A user that can be found as long as it is at it.
struct Known<'a>(&'a Engine, u64);

impl<'a> Known<'a> {
    fn new(engine: &'a Engine, user: &Rc<User>) -> Self {
        engine.users.borrow_mut().insert(user.number, Rc::clone(user));
        Self(engine, user.number)
    }
}

impl Drop for Known<'_> {
    fn drop(&mut self) {
        self.0.users.borrow_mut().remove(&self.1);
    }
}
