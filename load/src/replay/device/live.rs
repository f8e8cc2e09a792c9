//! A device while it is connected: reads, obeys, says what waits.

use std::pin::pin;
use std::time::{Duration, Instant};

use kronos_protocol::server::Events;
use kronos_protocol::{Command, Event, LogEntry, OkBody, Ref, ServerFrame};
use tokio::time::sleep_until;

use super::super::clocks::Now;
use super::super::user::User;
use super::super::view::News;
use super::super::wire::{Lost, Wire};
use super::{Device, Link, Order, Over, PATIENCE, Return, wide};
use crate::clock;
use crate::meter::{Count, Latency};

/// Far away: an alarm that nobody waits for.
const NEVER: Duration = Duration::from_secs(86_400 * 365);

/// When something is to happen that no frame brings.
#[derive(Debug, Clone, Copy)]
struct Alarms {
    /// The device may read again.
    read: Option<Instant>,
    /// The network fails.
    cut: Option<Instant>,
    /// It must have caught up.
    joined: Option<Instant>,
}

impl Alarms {
    fn next(&self) -> Option<Instant> {
        [self.read, self.cut, self.joined].into_iter().flatten().min()
    }
}

impl Device {
    /// Reads and obeys until the connection is over.
    pub(super) async fn live(&self, user: &User, wire: &mut Wire, back: &mut Return) -> Over {
        let opened = clock::instant();
        self.link.set(Link::Joining);
        let mut alarms = Alarms {
            read: None,
            cut: user.next_cut(opened),
            joined: Some(opened + PATIENCE),
        };
        let mut alarm = pin!(sleep_until((opened + PATIENCE).into()));
        let mut set = Some(opened + PATIENCE);
        loop {
            let next = alarms.next();
            if next != set {
                alarm.as_mut().reset(next.unwrap_or(opened + NEVER).into());
                set = next;
            }
            tokio::select! {
                biased;
                () = self.wake.notified() => {
                    match self.obey(user, wire).await {
                        Ok(None) => {}
                        Ok(Some(over)) => return over,
                        Err(lost) => return Over::Lost(lost),
                    }
                }
                () = alarm.as_mut(), if next.is_some() => {
                    let now = clock::instant();
                    let due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
                    if due(alarms.joined) {
                        return Over::Lost(Lost::Timeout);
                    }
                    if due(alarms.cut) {
                        if !user.is_ending() {
                            return Over::Fall(now);
                        }
                        alarms.cut = None;
                    }
                    if due(alarms.read) {
                        alarms.read = None;
                    }
                    // It has fired: it must be set again.
                    set = None;
                }
                frame = wire.next(), if alarms.read.is_none() => {
                    let bytes = match frame {
                        Ok(bytes) => bytes,
                        Err(lost) => return Over::Lost(lost),
                    };
                    let now = Now { at: clock::instant(), micros: clock::micros() };
                    match self.take(user, &bytes, now, opened, back) {
                        Ok(false) => {}
                        Ok(true) => {
                            alarms.joined = None;
                            if let Err(lost) = self.speak(user, wire).await {
                                return Over::Lost(lost);
                            }
                        }
                        Err(lost) => return Over::Lost(lost),
                    }
                    if let Some(pace) = self.pace.get() {
                        let time = Duration::from_secs(wide(bytes.len())) / pace.max(1);
                        alarms.read = Some(now.at + time);
                    }
                }
            }
        }
    }

    /// Does what the director wants.
    async fn obey(&self, user: &User, wire: &mut Wire) -> Result<Option<Over>, Lost> {
        while let Some(order) = self.next_order() {
            match order {
                Order::Join { .. } => user.changed.notify_one(),
                Order::Leave => return Ok(Some(Over::Leave)),
                Order::Cut => return Ok(Some(Over::Cut)),
                Order::Fall { at } => return Ok(Some(Over::Fall(at))),
                Order::End => return Ok(Some(Over::End)),
                Order::Say => {
                    if self.pace.get().is_some() {
                        wire.narrow();
                    }
                    if self.link.get() == Link::Here {
                        self.speak(user, wire).await?;
                    }
                }
            }
        }
        Ok(None)
    }

    /// Takes a frame; true: it has everything now.
    fn take(&self, user: &User, bytes: &[u8], now: Now, opened: Instant, back: &mut Return) -> Result<bool, Lost> {
        let meter = &user.engine.meter;
        let Ok(frame) = self.codec.decode_server(bytes) else {
            user.checks.undecodable(self.account, bytes);
            return Err(Lost::Unreadable);
        };
        user.checks.received(self.account, &frame);
        meter.count(Count::BytesIn, wide(bytes.len()));
        match &frame {
            ServerFrame::Events(events) => self.events(user, events, now),
            ServerFrame::Ok { reference, body } => self.answered(user, reference, body, now.at),
            ServerFrame::Error { reference, error } => return self.refused(user, reference.as_ref(), error, now.at),
            ServerFrame::CaughtUp(caught_up) => {
                if user.view.borrow().session.as_ref() == Some(&caught_up.session) && self.link.get() == Link::Joining {
                    self.position.set(caught_up.seq);
                    self.caught_up(user, now.at, opened, back);
                    return Ok(true);
                }
            }
            ServerFrame::Goaway(_) => back.planned = true,
            ServerFrame::Presence(_) => {}
        }
        Ok(false)
    }

    fn caught_up(&self, user: &User, now: Instant, opened: Instant, back: &mut Return) {
        let meter = &user.engine.meter;
        if self.joined.replace(true) {
            meter.latency(Latency::Resume, back.intended, back.began, now);
        } else {
            meter.latency(Latency::Attach, opened, opened, now);
        }
        if back.resumes {
            meter.count(Count::Resumes, 1);
        }
        if back.own {
            self.back.set(Some(now));
        }
        *back = Return {
            since: None,
            tries: 0,
            planned: false,
            own: false,
            ..*back
        };
        self.link.set(Link::Here);
        self.settle(user, now);
        user.changed.notify_one();
    }

    /// When a snapshot stood for a part of the history, what nobody saw has ended.
    fn settle(&self, user: &User, now: Instant) {
        let mut view = user.view.borrow_mut();
        if view.patchy && user.checks.is_idle(self.account) && view.seq <= self.position.get() {
            view.settle(now);
        }
    }

    fn answered(&self, user: &User, reference: &Ref, body: &OkBody, now: Instant) {
        match body {
            OkBody::Welcome(welcome) => return user.engine.meter.server(&welcome.server.name, &welcome.server.version),
            OkBody::Attached(attached) if self.link.get() == Link::Joining => {
                let mut view = user.view.borrow_mut();
                view.attached(&attached.session, &attached.epoch);
                view.patchy |= !attached.recovered;
                return;
            }
            _ => {}
        }
        let Some(waiting) = self.replied(user, reference, now) else {
            return;
        };
        let meter = &user.engine.meter;
        meter.latency(Latency::Ack, waiting.start.intended, waiting.start.began, now);
        match body {
            OkBody::Sent(sent) => {
                if let Some(run) = &sent.run {
                    user.view.borrow_mut().expect(run);
                }
            }
            OkBody::Cancelled(cancelled) if cancelled.run.is_none() => {
                self.clocks.borrow_mut().refused(&waiting.command);
            }
            OkBody::Done if matches!(waiting.command, Command::Cancel(_)) => {
                self.clocks.borrow_mut().refused(&waiting.command);
            }
            _ => {}
        }
    }

    fn events(&self, user: &User, events: &Events, now: Now) {
        let meter = &user.engine.meter;
        let (live, fast) = (self.link.get() == Link::Here, self.pace.get().is_none());
        let (mut count, mut deltas, mut news) = (0, 0, user.wants_deltas.get());
        let mut view = user.view.borrow_mut();
        if view.session.as_ref() != Some(&events.session) {
            // The feed of the user, say.
            return;
        }
        let mut clocks = self.clocks.borrow_mut();
        for entry in &events.events {
            let width = entry.seq.saturating_sub(entry.first_seq()) + 1;
            count += width;
            if matches!(entry.event, Event::TextMessageContent(_)) {
                deltas += width;
                self.count_delta(entry, width, &view);
            }
            clocks.entry(entry, now, live, fast, meter);
            match view.take(entry, now.at) {
                News::None => {}
                News::Some => news = true,
                News::Ended(run) => {
                    news = true;
                    meter.count(Count::Runs, 1);
                    user.run_ended(run, &view);
                }
            }
            self.position.set(entry.seq);
            news |= matches!(
                entry.event,
                Event::RunFinished(_) | Event::RunError(_) | Event::RunStarted(_)
            );
        }
        view.patchy |= events.snapshot;
        drop(view);
        meter.count(Count::Events, count);
        if deltas > 0 {
            meter.count(Count::Deltas, deltas);
        }
        if news || user.wants_all.get() {
            user.changed.notify_one();
        }
        if events.snapshot && live {
            self.settle(user, now.at);
        }
    }

    fn count_delta(&self, entry: &LogEntry, width: u64, view: &super::super::view::View) {
        let Some(run) = entry.run.as_ref().and_then(|run| view.index(run)) else {
            return;
        };
        let (counted, count) = self.deltas.get();
        let count = if counted == run { count } else { 0 };
        self.deltas.set((run, count + width));
    }
}
