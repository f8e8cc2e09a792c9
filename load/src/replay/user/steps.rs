//! The director: goes through the steps of a script, each after its cause and a while of thinking.

use std::time::Instant;

use kronos_protocol::ResumeStatus;
use kronos_protocol::client::{Answer, Command, Resume};
use serde_json::json;

use super::super::device::{Device, Link, Order};
use super::super::names;
use super::super::view::Moment;
use super::User;
use crate::clock;
use crate::script::{Action, Cause, Step};

impl User {
    /// Goes through the script, from when it was meant to begin. False: it did not come to the end.
    pub(super) async fn follow(&self, arrival: Instant) -> Option<()> {
        let mut done = arrival;
        for (number, step) in self.script.steps.iter().enumerate() {
            self.at.set(number);
            let device = self.devices.get(step.device)?;
            let cause = self.caused(step, device, done).await?;
            let think = step
                .think
                .draw(&mut *self.thinking.borrow_mut())
                .div_f64(self.engine.scenario.speed);
            let intended = self.engine.on_time(done.max(cause) + think).await;
            done = self.act(step, device, intended).await?;
        }
        self.at.set(self.script.steps.len());
        Some(())
    }

    /// Waits for the cause of a step; returns when it was.
    async fn caused(&self, step: &Step, device: &Device, done: Instant) -> Option<Instant> {
        if step.cause == Cause::Previous {
            return Some(done);
        }
        let mut waited = false;
        self.wants_deltas.set(matches!(step.cause, Cause::Deltas { .. }));
        let cause = self.until(|| {
            let cause = self.has_come(step.cause, device, done);
            // On this device it may have come later than on others, but just now if it had not come before.
            let now = waited.then(clock::instant);
            waited = true;
            cause.map(|at| now.unwrap_or(at))
        });
        let cause = cause.await;
        self.wants_deltas.set(false);
        cause
    }

    /// Returns when the cause came, if the device shows it. What is not connected shows what the others do.
    fn has_come(&self, cause: Cause, device: &Device, done: Instant) -> Option<Instant> {
        let view = self.view.borrow();
        let shown = |moment: Moment| {
            let shows = device.link.get() != Link::Here || device.position.get() >= moment.seq;
            shows.then_some(moment.at)
        };
        match cause {
            Cause::Previous => Some(done),
            Cause::Replied => {
                let all = self.devices.iter().all(Device::has_all_replies);
                all.then(|| self.replied.get().unwrap_or(done))
            }
            Cause::RunStarted(run) => shown(view.runs.get(run)?.begun),
            Cause::RunEnded(run) => shown(view.runs.get(run)?.ended?),
            Cause::Deltas { run, count } => {
                let known = view.runs.get(run)?;
                // An answer that was shorter than the recorded one is as good as read.
                if let Some(ended) = known.ended {
                    return shown(ended);
                }
                let here = device.link.get() == Link::Here;
                let (counted, deltas) = device.deltas.get();
                let come = if here && counted == run {
                    deltas
                } else if here {
                    0
                } else {
                    known.deltas
                };
                (come >= count).then(clock::instant)
            }
            Cause::Asked(count) => match count.checked_sub(1) {
                Some(last) => shown(*view.asked.get(last)?),
                None => Some(done),
            },
            Cause::Storm => self.engine.stormed.get(),
        }
    }

    /// Does a step; returns when it was done.
    async fn act(&self, step: &Step, device: &Device, intended: Instant) -> Option<Instant> {
        match &step.action {
            Action::Join => {
                let first = self.view.borrow().session.is_none();
                let here = self.join(device, intended).await?;
                if first {
                    self.let_look_on(here);
                }
                Some(here)
            }
            Action::Leave => self.be_off(device, Order::Leave).await,
            Action::Cut => self.be_off(device, Order::Cut).await,
            Action::Command(command) => {
                let intended = self.present(device, intended).await?;
                let command = self.until(|| {
                    let view = self.view.borrow();
                    names::translate(command, &self.script.names, &view, view.session.as_ref()?)
                });
                device.say(command.await?, intended, self);
                Some(intended)
            }
            Action::Answer { approved } => {
                let intended = self.present(device, intended).await?;
                let command = self.until(|| self.answers(*approved)).await?;
                device.say(command, intended, self);
                Some(intended)
            }
            Action::Read(pace) => {
                device.read_at(*pace);
                Some(intended)
            }
            Action::Rest => Some(intended),
        }
    }

    async fn join(&self, device: &Device, intended: Instant) -> Option<Instant> {
        device.order(Order::Join { intended });
        self.until(|| (device.link.get() == Link::Here).then(clock::instant))
            .await
    }

    /// Waits until somebody can act on the device. That the load tester itself had cut it is no delay of the server.
    async fn present(&self, device: &Device, intended: Instant) -> Option<Instant> {
        if device.link.get() == Link::Off {
            self.join(device, intended).await?;
        }
        self.until(|| (device.link.get() == Link::Here).then_some(())).await?;
        Some(device.back.get().map_or(intended, |back| back.max(intended)))
    }

    async fn be_off(&self, device: &Device, order: Order) -> Option<Instant> {
        if device.link.get() != Link::Off {
            device.order(order);
        }
        self.until(|| (device.link.get() == Link::Off).then(clock::instant))
            .await
    }

    /// Brings the devices that the script does not know.
    fn let_look_on(&self, now: Instant) {
        for device in self.devices.iter().skip(self.script.devices.len()) {
            device.order(Order::Join { intended: now });
        }
    }

    /// Returns the command that answers every open question; `None` while there is none.
    fn answers(&self, approved: bool) -> Option<Command> {
        let view = self.view.borrow();
        let answers: Vec<_> = view
            .open
            .iter()
            .map(|interrupt| Answer {
                payload: Some(json!({ "approved": approved })),
                ..Answer::new(interrupt.clone(), ResumeStatus::Resolved)
            })
            .collect();
        if answers.is_empty() {
            return None;
        }
        Some(Command::Resume(Resume::new(view.session.clone()?, answers)))
    }
}
