//! A whole process under virtual time: sessions, devices, a model, a committer and a disk that fails, all driven by one seed.
//!
//! An event loop with a queue of (time, action), no threads and no clock: a seed gives one history, byte for byte. The core,
//! the state, the log and the store in memory are the real ones. What the actor does around them is modelled in `glue.rs`
//! (it cannot run without actix), the committer and the directory here, by the rules of `store/service/committer.rs`: one
//! group commit at a time takes all that waits, a failed one counts for nothing, and a session reads its log only after
//! everything that it submitted is settled. How results reach the sessions has no order between sessions.
//!
//! 500 seeds are run by default. More, and one seed again:
//! ```text
//! KRONOS_CASES=20000 cargo test --release --test model whatever_fails -- --nocapture
//! KRONOS_SEED=4711 KRONOS_CASES=1 cargo test --test model whatever_fails
//! ```

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, hash_map::DefaultHasher},
    hash::{Hash, Hasher},
    sync::Mutex,
};

use kronos_actors::{
    config::Durability,
    store::{Request, SessionStore, memory::MemoryStore},
};
use kronos_protocol::{
    client::SendMode,
    error::{ErrorCode, RunErrorCode},
    event::EventKind,
    ids::RunId,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{
    cases,
    device::{Attach, Stage},
    in_parallel, seed,
    world::{Did, World},
};

const SESSIONS: usize = 3;
const DEVICES: usize = 2;
/// Virtual milliseconds in which things go wrong; then everything works, and everything must come right.
const TROUBLE: u64 = 6_000;
/// By then, nothing may be left to do.
const END: u64 = 300_000;

/// What happens next.
#[derive(Debug, Clone, Hash)]
enum Action {
    /// A user does something on a device.
    User { session: usize, device: usize },
    /// A device without a connection comes back.
    Connect { session: usize, device: usize },
    /// A device reads.
    Pull { session: usize, device: usize },
    /// The ack of a message reaches the device that sent it, unless that was cut or the process died.
    Ack {
        session: usize,
        id: String,
        taken: bool,
        process: u32,
    },
    /// The model goes on with a run.
    Model { session: usize, run: String, left: u32 },
    /// The wall time of a run is over.
    Deadline { session: usize, run: String },
    /// The committer begins with what waits.
    Flush { process: u32 },
    /// The disk has done it, or not.
    Flushed { process: u32, fails: bool },
    /// A session hears how its flush ended.
    Settled { session: usize, process: u32, fails: bool },
    /// A session reads its log, if everything that it submitted is settled.
    Load { session: usize, process: u32 },
    /// A flush has waited long enough: for more text, or for room in the store.
    FlushTimer { session: usize, process: u32 },
    /// A session that nobody needs leaves memory.
    Sleep { session: usize },
    /// `kill -9`.
    Crash,
    /// The process runs again.
    Start,
}

/// A message on its way: sent again until it is acked.
#[derive(Debug, Clone)]
struct Unacked {
    id: String,
    mode: SendMode,
}

/// One session and what its devices and the process keep about it.
struct Place {
    world: World,
    unacked: VecDeque<Unacked>,
    sent: u32,
    /// Messages that reached the session while its log was being read.
    mailbox: VecDeque<Unacked>,
    failures: u32,
}

/// What the committer has.
#[derive(Default)]
struct Committer {
    waiting: Vec<usize>,
    /// The group on its way to the disk.
    flying: Vec<usize>,
    /// Sessions that have not heard of their flush yet.
    unsettled: Vec<usize>,
}

/// What one seed came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct History {
    /// The hash of everything that happened, in order.
    hash: u64,
    crashes: u64,
    /// Group commits that failed.
    failures: u64,
    /// Histories that were lost with relaxed durability.
    epochs: u64,
    passivations: u64,
    turns: u64,
}

impl History {
    fn add(&mut self, other: &Self) {
        self.crashes += other.crashes;
        self.failures += other.failures;
        self.epochs += other.epochs;
        self.passivations += other.passivations;
        self.turns += other.turns;
    }
}

struct Simulation {
    random: StdRng,
    now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    actions: HashMap<u64, Action>,
    number: u64,
    store: MemoryStore,
    places: Vec<Place>,
    committer: Committer,
    /// Grows with each start; what belongs to an earlier one is dropped.
    process: u32,
    up: bool,
    trace: DefaultHasher,
    crashes: u64,
    failures: u64,
    passivations: u64,
}

impl Simulation {
    fn new(seed: u64) -> Self {
        let places = (0..SESSIONS).map(|n| Place {
            world: World::new(
                &format!("s{n}"),
                DEVICES,
                if n == 0 {
                    Durability::Relaxed
                } else {
                    Durability::Commit
                },
            ),
            unacked: VecDeque::new(),
            sent: 0,
            mailbox: VecDeque::new(),
            failures: 0,
        });
        let mut simulation = Self {
            random: StdRng::seed_from_u64(seed),
            now: 0,
            queue: BinaryHeap::new(),
            actions: HashMap::new(),
            number: 0,
            store: MemoryStore::default(),
            places: places.collect(),
            committer: Committer::default(),
            process: 0,
            up: false,
            trace: DefaultHasher::new(),
            crashes: 0,
            failures: 0,
            passivations: 0,
        };
        simulation.later(0, Action::Start);
        for session in 0..SESSIONS {
            for device in 0..DEVICES {
                simulation.within(50, Action::Connect { session, device });
                simulation.within(1000, Action::User { session, device });
                simulation.within(50, Action::Pull { session, device });
            }
        }
        simulation
    }

    fn troubled(&self) -> bool {
        self.now < TROUBLE
    }

    fn later(&mut self, delay: u64, action: Action) {
        self.number += 1;
        self.queue.push(Reverse((self.now + delay, self.number)));
        self.actions.insert(self.number, action);
    }

    fn within(&mut self, limit: u64, action: Action) {
        let delay = self.random.random_range(0..=limit);
        self.later(delay, action);
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.random.random_ratio(1, one_in)
    }

    /// Runs to the end.
    fn run(mut self) -> History {
        while let Some(Reverse((now, number))) = self.queue.pop() {
            if now > END {
                break;
            }
            self.now = now;
            let action = self.actions.remove(&number).expect("an action for each number");
            (now, &action).hash(&mut self.trace);
            self.act(action);
        }
        self.finish();
        let worlds = || self.places.iter().map(|place| &place.world);
        let runs = worlds().flat_map(|world| world.oracle.durable_facts());
        History {
            hash: self.trace.finish(),
            crashes: self.crashes,
            failures: self.failures,
            epochs: worlds().map(|world| u64::from(world.glue.epoch) - 1).sum(),
            passivations: self.passivations,
            turns: runs.filter(|fact| fact.kind == EventKind::RunStarted).count() as u64,
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::User { session, device } => self.user(session, device),
            Action::Connect { session, device } => self.connect(session, device),
            Action::Pull { session, device } => self.pull(session, device),
            Action::Ack {
                session,
                id,
                taken,
                process,
            } => self.ack(session, &id, taken, process),
            Action::Model { session, run, left } => self.model(session, run, left),
            Action::Deadline { session, run } => {
                if self.generates(session, &run) {
                    self.places[session].world.runs_late();
                    self.follow(session);
                }
            }
            Action::Flush { process } => self.flush(process),
            Action::Flushed { process, fails } => self.flushed(process, fails),
            Action::Settled {
                session,
                process,
                fails,
            } => self.settled(session, process, fails),
            Action::Load { session, process } => self.load(session, process),
            Action::FlushTimer { session, process } => {
                if process == self.process && self.is_live(session) {
                    self.places[session].world.glue.room |= !self.troubled();
                    self.places[session].world.flush_timer();
                    self.follow(session);
                }
            }
            Action::Sleep { session } => {
                if self.is_live(session) && self.places[session].world.passivate(&self.store) {
                    self.passivations += 1;
                    self.follow(session);
                }
            }
            Action::Crash => self.crash(),
            Action::Start => self.start(),
        }
    }

    fn is_live(&self, session: usize) -> bool {
        self.up && self.places[session].world.glue.live
    }

    fn generates(&self, session: usize, run: &str) -> bool {
        let generating = self.places[session].world.glue.generating.as_ref();
        self.is_live(session) && generating.is_some_and(|generating| generating.as_str() == run)
    }

    /// What a session did reaches the committer, the model and the devices.
    fn follow(&mut self, session: usize) {
        for did in std::mem::take(&mut self.places[session].world.did) {
            let process = self.process;
            match did {
                Did::Submitted => {
                    self.committer.unsettled.push(session);
                    self.committer.waiting.push(session);
                    self.later(0, Action::Flush { process });
                }
                Did::Generates(run) => self.generate(session, &run),
                Did::Answered(id, answer) => {
                    let taken = answer.is_ok();
                    (session, &id, taken).hash(&mut self.trace);
                    self.within(
                        30,
                        Action::Ack {
                            session,
                            id,
                            taken,
                            process,
                        },
                    );
                }
            }
        }
        self.flush_later(session);
    }

    /// The timer of a flush that waits; one that comes too early or twice does no harm.
    fn flush_later(&mut self, session: usize) {
        if self.places[session].world.glue.flush_later {
            let process = self.process;
            self.later(50, Action::FlushTimer { session, process });
        }
    }

    fn generate(&mut self, session: usize, run: &RunId) {
        let run = run.to_string();
        let left = self.random.random_range(0..40);
        self.within(
            200,
            Action::Model {
                session,
                run: run.clone(),
                left,
            },
        );
        self.later(1500, Action::Deadline { session, run });
    }

    fn model(&mut self, session: usize, run: String, left: u32) {
        if !self.generates(session, &run) {
            return;
        }
        let what = self.random.random_range(0..100);
        let world = &mut self.places[session].world;
        match what {
            0 if left > 0 => world.fails(RunErrorCode::UpstreamError),
            1 => world.fails(RunErrorCode::Blocked),
            2 | 3 => world.retries(),
            4..=12 => world.thinks("hm, "),
            13 if left > 0 => world.says(&"lange Wörter ".repeat(500)),
            14 => {} // It stalls: the deadline ends it.
            _ if left == 0 => world.finishes(what % 2 == 0),
            _ => world.says(&format!("wörd{left} ")),
        }
        self.follow(session);
        if what != 14 {
            let left = left.saturating_sub(1);
            self.within(60, Action::Model { session, run, left });
        }
    }

    fn user(&mut self, session: usize, device: usize) {
        if self.troubled() {
            self.within(1500, Action::User { session, device });
        } else if self.places[session].unacked.is_empty() {
            return;
        } else {
            self.within(300, Action::User { session, device });
        }
        match self.places[session].world.devices[device].stage {
            Stage::Off => return self.within(200, Action::Connect { session, device }),
            Stage::On if self.up => {}
            Stage::On | Stage::Asked(_) => return,
        }
        match self.random.random_range(0..20) {
            0..=3 => self.resend(session),
            4 if self.troubled() && self.is_live(session) => self.places[session].world.cancel(),
            5 if self.troubled() && self.is_live(session) => {
                let last = self.places[session].sent;
                let id = format!("m_{}", self.random.random_range(0..=last));
                self.places[session].world.unqueue(&id);
            }
            6 | 7 => self.places[session].world.devices[device].cut(),
            8 => self.within(0, Action::Sleep { session }),
            9 => self.places[session].world.glue.room = self.chance(2),
            _ if self.troubled() => self.send(session),
            _ => self.resend(session),
        }
        self.follow(session);
        if self.places[session].world.devices[device].stage == Stage::Off {
            self.within(500, Action::Connect { session, device });
        }
    }

    fn send(&mut self, session: usize) {
        let mode = match self.random.random_range(0..8) {
            0 => SendMode::Interrupt,
            1 => SendMode::Reject,
            _ => SendMode::Queue,
        };
        let place = &mut self.places[session];
        place.sent += 1;
        let message = Unacked {
            id: format!("m_{}", place.sent),
            mode,
        };
        place.unacked.push_back(message.clone());
        self.deliver(session, message);
    }

    /// What has no ack yet is sent again, with the same id.
    fn resend(&mut self, session: usize) {
        if let Some(message) = self.places[session].unacked.front().cloned() {
            self.deliver(session, message);
        }
    }

    fn deliver(&mut self, session: usize, message: Unacked) {
        let place = &mut self.places[session];
        if place.world.glue.live {
            place.world.send(&message.id, message.mode);
        } else {
            place.mailbox.push_back(message);
        }
    }

    fn ack(&mut self, session: usize, id: &str, taken: bool, process: u32) {
        if process != self.process || self.chance(10) {
            return;
        }
        let place = &mut self.places[session];
        let Some(at) = place.unacked.iter().position(|unacked| unacked.id == id) else {
            return;
        };
        if taken {
            place.unacked.remove(at);
        } else if let Some(mut refused) = place.unacked.remove(at) {
            // Refused, or not durable: tried again later, and then it waits if it must.
            refused.mode = SendMode::Queue;
            place.unacked.push_back(refused);
        }
    }

    fn connect(&mut self, session: usize, device: usize) {
        if !self.is_live(session) {
            return self.within(200, Action::Connect { session, device });
        }
        if self.places[session].world.devices[device].stage != Stage::Off {
            return;
        }
        let how = match self.random.random_range(0..10) {
            0 => Attach::Fresh,
            1 => Attach::Tail(self.random.random_range(0..30)),
            2 => Attach::Foreign,
            _ => Attach::Resume,
        };
        self.places[session].world.attach(device, how);
        self.follow(session);
    }

    fn pull(&mut self, session: usize, device: usize) {
        let max = self.random.random_range(1..4000);
        if self.up && self.places[session].world.pull(device, max, &self.store) {
            let cursor = self.places[session].world.devices[device].cursor;
            (session, device, cursor).hash(&mut self.trace);
        }
        let slow = if self.chance(8) { 1500 } else { 60 };
        if self.troubled() {
            self.within(slow, Action::Pull { session, device });
        }
    }

    fn flush(&mut self, process: u32) {
        let busy = !self.committer.flying.is_empty();
        if process != self.process || !self.up || busy || self.committer.waiting.is_empty() {
            return;
        }
        self.committer.flying = std::mem::take(&mut self.committer.waiting);
        let fails = self.troubled() && self.chance(25);
        let slow = if self.troubled() && self.chance(20) { 800 } else { 8 };
        self.within(slow, Action::Flushed { process, fails });
    }

    fn flushed(&mut self, process: u32, fails: bool) {
        if process != self.process || !self.up {
            return;
        }
        if !fails {
            self.write();
        }
        self.failures += u64::from(fails);
        for session in std::mem::take(&mut self.committer.flying) {
            // Completions of different sessions overtake each other.
            let delay = self.random.random_range(0..20);
            self.later(
                delay,
                Action::Settled {
                    session,
                    process,
                    fails,
                },
            );
        }
        self.later(0, Action::Flush { process });
    }

    /// One write for the whole group.
    fn write(&mut self) {
        let flying = self.committer.flying.clone();
        let group: Vec<Request> = flying
            .iter()
            .filter_map(|session| self.places[*session].world.request().cloned())
            .collect();
        assert_eq!(group.len(), flying.len());
        for result in self.store.commit(&group).unwrap() {
            assert_eq!(result, Ok(()), "the store takes what a session hands over");
        }
        for session in flying {
            self.places[session].world.written();
        }
    }

    fn settled(&mut self, session: usize, process: u32, fails: bool) {
        if process != self.process || !self.up {
            return;
        }
        self.committer.unsettled.retain(|unsettled| *unsettled != session);
        let place = &mut self.places[session];
        if fails {
            place.failures += 1;
            let delay = (100 << place.failures.min(6)).min(5000);
            place.world.settled(Err(ErrorCode::Storage));
            self.follow(session);
            self.later(delay, Action::Load { session, process });
        } else {
            place.failures = 0;
            place.world.settled(Ok(()));
            self.follow(session);
        }
    }

    fn load(&mut self, session: usize, process: u32) {
        if process != self.process || !self.up || self.places[session].world.glue.live {
            return;
        }
        if self.committer.unsettled.contains(&session) {
            return self.later(5, Action::Load { session, process });
        }
        self.places[session].world.load(&self.store);
        while let Some(message) = self.places[session].mailbox.pop_front() {
            self.places[session].world.send(&message.id, message.mode);
        }
        self.follow(session);
    }

    fn crash(&mut self) {
        if !self.troubled() || !self.up {
            return;
        }
        self.crashes += 1;
        // A group on its way to the disk has arrived as a whole, or not at all; what waited has not.
        if !self.committer.flying.is_empty() && self.chance(2) {
            self.write();
        }
        self.committer = Committer::default();
        self.up = false;
        for place in &mut self.places {
            place.world.crash(false, &self.store);
            place.mailbox.clear();
        }
        self.within(1000, Action::Start);
    }

    fn start(&mut self) {
        self.process += 1;
        self.up = true;
        self.within(4000, Action::Crash);
        for session in 0..SESSIONS {
            let process = self.process;
            self.within(20, Action::Load { session, process });
            for device in 0..DEVICES {
                self.within(300, Action::Connect { session, device });
            }
        }
    }

    /// Everything has come right: every message was taken, every turn has ended, all devices show the same.
    fn finish(&mut self) {
        for (n, place) in self.places.iter_mut().enumerate() {
            assert!(
                place.unacked.is_empty(),
                "session {n}: never acked: {:?} (its devices: {:?})",
                place.unacked,
                place
                    .world
                    .devices
                    .iter()
                    .map(|device| device.stage)
                    .collect::<Vec<_>>(),
            );

            assert!(place.world.glue.live, "session {n} is not served");
            assert_eq!(place.world.oracle.active(), None, "session {n}: a run that never ended");
            assert_eq!(
                place.world.oracle.queue(),
                [""; 0],
                "session {n}: messages that never started"
            );
            place.world.quiesce(4000, &self.store);
            for fact in place.world.oracle.durable_facts() {
                (fact.run.as_ref(), &fact.what).hash(&mut self.trace);
            }
        }
    }
}

#[test]
fn a_process_keeps_its_promises_whatever_fails() {
    let (first, seeds) = (seed(1), cases(500));
    println!("KRONOS_SEED={first} KRONOS_CASES={seeds}");
    let sums = Mutex::new(History::default());
    in_parallel(first, seeds, |seed| {
        let tried = std::panic::catch_unwind(|| Simulation::new(seed).run());
        let history = tried.unwrap_or_else(|_| panic!("KRONOS_SEED={seed} KRONOS_CASES=1"));
        sums.lock().unwrap().add(&history);
    });
    let sums = sums.into_inner().unwrap();
    println!("over all seeds: {sums:?}");
    let some_of_each = [sums.crashes, sums.failures, sums.epochs, sums.passivations, sums.turns];
    assert!(seeds < 100 || some_of_each.iter().all(|sum| *sum > 0), "{sums:?}");
}

#[test]
fn a_seed_gives_one_history_and_another_seed_another() {
    let first = seed(1);
    let mut histories = Vec::new();
    for seed in first..first + 5 {
        let history = Simulation::new(seed).run();
        assert_eq!(Simulation::new(seed).run(), history, "seed {seed}");
        histories.push(history.hash);
    }
    histories.sort_unstable();
    histories.dedup();
    assert_eq!(histories.len(), 5);
}
