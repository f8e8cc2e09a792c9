//! What a ledger makes of a frame: first whether it is in order, then whether it is what the others were sent.

use kronos_protocol::{Cursor, Events, OkBody, Ref, ServerFrame, SessionId};

use super::breach::{Breach, Fault, fault};
use super::{Asked, DeviceId, Ledger, Missing};
use crate::checker::Track;

impl Ledger {
    /// Takes a frame; what is broken is added.
    pub(super) fn take(&mut self, device: DeviceId, frame: &ServerFrame, breaches: &mut Vec<Breach>) {
        if self.late(device, frame, breaches) {
            return;
        }
        let before = self.position(device);
        let Some(about) = self.devices.get_mut(device.0) else {
            return;
        };
        if let ServerFrame::CaughtUp(frame) = frame
            && let Some(position) = about.checker.track(frame.session.as_str()).and_then(Track::cursor)
            && position.seq < frame.seq
        {
            about.checker.resync(&frame.session, frame.seq);
            about.whole = false;
            about.streams.clear();
            let what = format!("after seq {} came caught_up at {}", position.seq, frame.seq);
            let fault = Fault::new("gap", Some(position.seq + 1), what);
            breaches.push(self.breach(device, fault));
        }
        let Some(about) = self.devices.get_mut(device.0) else {
            return;
        };
        if let Err(violation) = about.checker.received(frame) {
            let (fault, session) = fault(&violation);
            self.violated(device, frame, (fault, session), breaches);
            return;
        }
        let faults = match frame {
            ServerFrame::Ok { reference, body } => self.replied(device, reference, body, before.as_ref()),
            ServerFrame::Error {
                reference: Some(reference),
                ..
            } => {
                about.asked.retain(|(asked, _)| asked != reference);
                Vec::new()
            }
            ServerFrame::Events(events) if self.session.as_ref() == Some(&events.session) => {
                self.events(device, events)
            }
            ServerFrame::CaughtUp(frame) if self.session.as_ref() == Some(&frame.session) => {
                about.history = false;
                self.account.caught_up()
            }
            _ => Vec::new(),
        };
        for fault in faults {
            breaches.push(self.breach(device, fault));
        }
    }

    /// Settles whether positions that were left out come late; returns whether the frame is nothing else.
    fn late(&mut self, device: DeviceId, frame: &ServerFrame, breaches: &mut Vec<Breach>) -> bool {
        let Some(about) = self.devices.get_mut(device.0) else {
            return false;
        };
        let session = match frame {
            ServerFrame::Events(events) => &events.session,
            ServerFrame::CaughtUp(frame) => &frame.session,
            _ => return false,
        };
        let Some(mut missing) = about.missing.take_if(|missing| missing.session == *session) else {
            return false;
        };
        let (first, last) = match frame {
            ServerFrame::Events(events) => {
                let first = events.events.first().map_or(0, kronos_protocol::LogEntry::first_seq);
                (first, events.events.last().map_or(0, |entry| entry.seq))
            }
            _ => (0, 0),
        };
        let late = first == missing.first && last <= missing.last;
        if late {
            missing.breach.check = "reordered";
            missing.breach.what = format!("seq {first} to {last} came after what follows them");
            missing.breach.received = about.received.shown();
        }
        breaches.push(*missing.breach);
        late
    }

    /// The checker has refused a frame: says so, and goes on behind it.
    fn violated(
        &mut self,
        device: DeviceId,
        frame: &ServerFrame,
        (fault, session): (Fault, Option<SessionId>),
        breaches: &mut Vec<Breach>,
    ) {
        let seq = fault.seq;
        let check = fault.check;
        let mut breach = self.breach(device, fault);
        if let Some(session) = &session {
            session.as_str().clone_into(&mut breach.session);
        }
        let Some(about) = self.devices.get_mut(device.0) else {
            return;
        };
        about.whole = false;
        let (Some(session), ServerFrame::Events(events)) = (session, frame) else {
            breaches.push(breach);
            return;
        };
        let after = about.checker.track(session.as_str()).and_then(Track::cursor);
        let after = after.map_or(0, |cursor| cursor.seq);
        if matches!(check, "gap" | "repeated" | "merged" | "order") {
            let last = events.events.last().map_or(after, |entry| entry.seq);
            // A history that begins too early is read on; a single frame that came again is left out.
            let on = if about.history { last } else { last.max(after) };
            about.checker.resync(&session, on);
            about.streams.clear();
            if self.session.as_ref() == Some(&session) {
                // What is in it counts; what else is wrong with it does not.
                self.events(device, events);
            }
        }
        let Some(about) = self.devices.get_mut(device.0) else {
            return;
        };
        about.streams.clear();
        match seq {
            Some(found) if check == "gap" => {
                about.missing = Some(Missing {
                    session,
                    first: after + 1,
                    last: found.saturating_sub(1),
                    breach: Box::new(breach),
                });
            }
            _ => breaches.push(breach),
        }
    }

    fn replied(&mut self, device: DeviceId, reference: &Ref, body: &OkBody, before: Option<&Cursor>) -> Vec<Fault> {
        let Some(about) = self.devices.get_mut(device.0) else {
            return Vec::new();
        };
        let at = about.asked.iter().position(|(asked, _)| asked == reference);
        match (at.map(|at| about.asked.swap_remove(at).1), body) {
            (Some(Asked::Send(id)), OkBody::Sent(sent)) => {
                let fault = self.account.acked(id, sent.seq, sent.duplicate);
                fault.into_iter().collect()
            }
            (
                Some(Asked::Attach {
                    after,
                    tail,
                    feed,
                    head,
                }),
                OkBody::Attached(attached),
            ) => {
                if !feed && self.session.is_none() {
                    self.session = Some(attached.session.clone());
                }
                if self.session.as_ref() != Some(&attached.session) {
                    return Vec::new();
                }
                let known = self.account.epoch.clone();
                self.account.attached(&attached.epoch);
                let start = match &after {
                    Some(after) if attached.recovered => Some(after.seq),
                    None if attached.recovered && !tail => Some(0),
                    _ => None,
                };
                let goes_on = before.is_some_and(|before| Some(before.seq) == start && before.epoch == attached.epoch);
                if !goes_on {
                    about.whole = start == Some(0);
                    if attached.recovered {
                        about.streams.clear();
                    }
                }
                about.history = true;
                let asked = after
                    .filter(|after| after.epoch == attached.epoch)
                    .map_or(0, |after| after.seq);
                let shown = if known.as_ref() == Some(&attached.epoch) {
                    head
                } else {
                    0
                };
                let shown = shown.max(asked);
                if attached.head < shown {
                    let what = format!("seq {shown} was shown, and the log now ends at {}", attached.head);
                    return vec![Fault::new("unsaid", Some(shown), what)];
                }
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    fn events(&mut self, device: DeviceId, frame: &Events) -> Vec<Fault> {
        let Some(about) = self.devices.get_mut(device.0) else {
            return Vec::new();
        };
        if self.account.epoch.as_ref() != Some(&frame.epoch) {
            return Vec::new();
        }
        if frame.snapshot {
            about.whole = false;
            return self.account.snapshot(frame, &mut about.streams);
        }
        let mut faults = Vec::new();
        for entry in &frame.events {
            if let Err(fault) = self.account.entry(entry, &mut about.streams, about.history) {
                if matches!(fault.check, "diverged" | "unsaid") {
                    // What is open differs from here on: once is enough.
                    about.streams.clear();
                }
                faults.push(fault);
            }
        }
        faults
    }
}
