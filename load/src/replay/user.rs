//! One user: the director who goes through the script, step by step, and the end with its audit.

mod steps;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use kronos_protocol::ids::DeviceName;
use kronos_protocol::{Codec, SessionId};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep_until, timeout};

use super::checks::Checks;
use super::device::{Device, Link, Order};
use super::people::Person;
use super::view::View;
use super::{Engine, audit};
use crate::meter::Count;
use crate::scenario::CodecMix;
use crate::script::{Action, RunEnd, Script};

/// Time for the devices to say goodbye.
const GOODBYE: Duration = Duration::from_secs(6);

/// A user.
pub(crate) struct User {
    pub(crate) engine: Rc<Engine>,
    pub(crate) script: Rc<Script>,
    pub(crate) number: u64,
    pub(crate) person: Person,
    pub(crate) devices: Vec<Device>,
    pub(crate) checks: Checks,
    pub(crate) view: RefCell<View>,
    /// Something has changed that the director may wait for.
    pub(crate) changed: Notify,
    /// The director waits for deltas.
    pub(crate) wants_deltas: Cell<bool>,
    /// The director waits for everything.
    pub(crate) wants_all: Cell<bool>,
    /// The script is done: the network fails no more.
    ending: Cell<bool>,
    /// When the last reply came.
    pub(crate) replied: Cell<Option<Instant>>,
    /// The step that is waited for.
    at: Cell<usize>,
    failed: RefCell<Option<String>>,
    /// Draws think times: the same for each run.
    thinking: RefCell<StdRng>,
    /// Draws when the network fails, as often as there are connections.
    failing: RefCell<StdRng>,
    reminders: RefCell<Vec<AbortHandle>>,
}

impl User {
    /// Makes a user; `seed` says which draws there are.
    pub(crate) fn new(engine: Rc<Engine>, script: Rc<Script>, number: u64, person: Person, mut random: StdRng) -> Self {
        let network = engine.scenario.network;
        let checks = Checks::new(Rc::clone(&script), engine.meter.clone());
        let mut device = |name: DeviceName, of: Option<&crate::script::Device>| {
            let codec = of
                .and_then(|of| of.codec)
                .unwrap_or_else(|| match engine.scenario.codec {
                    CodecMix::Json => Codec::Json,
                    CodecMix::Msgpack => Codec::Msgpack,
                    CodecMix::Mixed if random.random() => Codec::Msgpack,
                    CodecMix::Mixed => Codec::Json,
                });
            let slow = random.random::<f64>() < network.slow_share;
            let pace = of.and_then(|of| of.bytes_per_second);
            let pace = pace.or(slow.then_some(network.slow_bytes_per_second));
            let account = checks.device(name.as_str());
            Device::new(name, account, of.and_then(|of| of.client.clone()), codec, pace)
        };
        let known = script.devices.len();
        let mut devices: Vec<_> = script
            .devices
            .iter()
            .map(|of| device(of.name.clone(), Some(of)))
            .collect();
        for number in known..network.devices {
            let name = DeviceName::from_trusted(format!("onlooker {}", number + 1 - known));
            devices.push(device(name, None));
        }
        Self {
            devices,
            engine,
            script,
            number,
            person,
            checks,
            view: RefCell::default(),
            changed: Notify::new(),
            wants_deltas: Cell::new(false),
            wants_all: Cell::new(false),
            ending: Cell::new(false),
            replied: Cell::new(None),
            at: Cell::new(0),
            failed: RefCell::new(None),
            thinking: RefCell::new(StdRng::seed_from_u64(random.random())),
            failing: RefCell::new(random),
            reminders: RefCell::default(),
        }
    }

    /// Takes note that the user cannot go on.
    pub(crate) fn fail(&self, why: &str) {
        self.failed.borrow_mut().get_or_insert_with(|| why.to_owned());
        self.changed.notify_one();
    }

    /// Whether the script is done.
    pub(crate) fn is_ending(&self) -> bool {
        self.ending.get()
    }

    /// Draws when the network of a device fails next.
    pub(crate) fn next_cut(&self, now: Instant) -> Option<Instant> {
        let mean = self.engine.scenario.network.cut_every?;
        if self.ending.get() {
            return None;
        }
        let share: f64 = self.failing.borrow_mut().random();
        Some(now + mean.mul_f64(-(1.0 - share).ln()))
    }

    /// Wakes a device at a time.
    pub(crate) fn remind(&self, device: &Device, at: Instant) {
        let Some(me) = self.engine.user(self.number) else {
            return;
        };
        let Some(index) = self.devices.iter().position(|other| std::ptr::eq(other, device)) else {
            return;
        };
        let task = tokio::task::spawn_local(async move {
            sleep_until(at.into()).await;
            if let Some(device) = me.devices.get(index) {
                device.order(Order::Say);
            }
        });
        let mut reminders = self.reminders.borrow_mut();
        reminders.retain(|task| !task.is_finished());
        reminders.push(task.abort_handle());
    }

    /// Counts a run that failed although it did not when it was recorded.
    pub(crate) fn run_ended(&self, index: usize, view: &View) {
        let Some(run) = view.runs.get(index) else { return };
        let recorded = self.script.shape.get(index).map(|shape| shape.end);
        if run.end == Some(RunEnd::Failed) && recorded != Some(RunEnd::Failed) {
            let code = run.code.as_deref().unwrap_or("unknown");
            self.engine.meter.error(&format!("run_{code}"));
        }
    }

    /// Says where the user is, for whoever did not come to the end.
    pub(crate) fn whereabouts(&self) -> String {
        let at = self.at.get();
        let name = &self.script.name;
        let number = self.number;
        let session = self
            .view
            .borrow()
            .session
            .as_ref()
            .map_or_else(|| "none".to_owned(), SessionId::to_string);
        match self.script.steps.get(at) {
            Some(step) => {
                let what = match &step.action {
                    Action::Command(command) => command.op().as_str().to_owned(),
                    Action::Join
                    | Action::Leave
                    | Action::Cut
                    | Action::Answer { .. }
                    | Action::Read(_)
                    | Action::Rest => format!("{:?}", step.action).to_lowercase(),
                };
                let cause = format!("{:?}", step.cause).to_lowercase();
                format!(
                    "{name}, user {number}, session {session}: step {} ({what} after {cause})",
                    at + 1
                )
            }
            None => format!("{name}, user {number}, session {session}: after the last step"),
        }
    }

    /// Waits until `ready` gives something; `None` when the user cannot go on.
    async fn until<T>(&self, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
        loop {
            if self.failed.borrow().is_some() {
                return None;
            }
            if let Some(ready) = ready() {
                return Some(ready);
            }
            self.changed.notified().await;
        }
    }

    /// Waits until every device that is there has everything and nothing runs any more.
    async fn settled(&self) -> Option<()> {
        self.wants_all.set(true);
        self.until(|| {
            let view = self.view.borrow();
            if view.session.is_none() {
                return Some(());
            }
            let rests = self.asks() || self.checks.is_broken();
            let settled = |device: &Device| match device.link.get() {
                Link::Off => true,
                Link::Away | Link::Joining => false,
                Link::Here => {
                    let idle = rests || self.checks.is_idle(device.account);
                    let even = device.position.get() >= view.seq || self.checks.is_broken();
                    idle && even && device.has_all_replies()
                }
            };
            self.devices.iter().all(settled).then_some(())
        })
        .await
    }

    /// Whether the session waits for an answer that nobody gives.
    pub(crate) fn asks(&self) -> bool {
        let view = self.view.borrow();
        !view.open.is_empty() && view.active().is_none()
    }

    /// Waits until everybody is there and nobody has seen less than another.
    pub(crate) async fn agreed(&self) {
        loop {
            if self.settled().await.is_none() || self.checks.all_see_the_same() {
                return;
            }
            self.changed.notified().await;
        }
    }

    /// Ends the account early.
    pub(crate) fn abandon(&self) {
        self.checks.abandon(self.devices.iter().map(|device| device.account));
    }

    /// Comes, does everything, is audited, goes. Records what it came to; false: it could not go on.
    pub(crate) async fn live(self: Rc<Self>, arrival: Instant) -> bool {
        let tasks: Vec<_> = (0..self.devices.len())
            .map(|index| {
                let me = Rc::clone(&self);
                tokio::task::spawn_local(async move {
                    if let Some(device) = me.devices.get(index) {
                        device.run(&me).await;
                    }
                })
            })
            .collect();
        let _ends = Tasks(tasks.iter().map(tokio::task::JoinHandle::abort_handle).collect());
        let done = async {
            self.follow(arrival).await?;
            self.ending.set(true);
            self.settled().await
        };
        let done = done.await.is_some();
        if done {
            audit::audit(&self).await;
        }
        for device in &self.devices {
            device.order(Order::End);
        }
        let goodbye = async {
            for task in tasks {
                // An error is a panic of ours, and has been printed.
                task.await.ok();
            }
        };
        timeout(GOODBYE, goodbye).await.ok();
        for reminder in self.reminders.borrow_mut().drain(..) {
            reminder.abort();
        }
        if done {
            self.engine.meter.count(Count::Completed, 1);
        } else {
            self.abandon();
            let why = self
                .failed
                .borrow()
                .clone()
                .unwrap_or_else(|| "no such device".to_owned());
            self.engine.gave_up(&self, &why);
        }
        done
    }
}

/// Tasks that end with whoever holds them.
struct Tasks(Vec<AbortHandle>);

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in &self.0 {
            task.abort();
        }
    }
}

/// Returns the random numbers of a user.
pub(super) fn random(seed: u64, number: u64) -> StdRng {
    // Another number for each user, far from that of its neighbours (the golden ratio, as Knuth does it).
    StdRng::seed_from_u64(seed ^ number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}
