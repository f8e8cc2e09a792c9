//! The end of a user: a fresh connection reads the whole log, and every device must have seen the same.

use std::time::Duration;

use kronos_protocol::client::{Attach, AttachTarget, Hello};
use kronos_protocol::{ClientFrame, Codec, Command, OkBody, Ref, Seq, ServerFrame, SessionId};
use tokio::time::timeout;

use super::checks::Witness;
use super::device::{Device, Link};
use super::user::User;
use super::wire::{Lost, Wire};
use crate::script::{RunEnd, RunShape};

/// Time to read a log to its end, runs included that go on without anybody.
const LONG: Duration = Duration::from_secs(120);
/// Tries, when the server does not take the connection.
const TRIES: u32 = 5;

/// Reads the log and compares. Errors of the connection are counted like those of any other.
pub(crate) async fn audit(user: &User) {
    compare_shape(user);
    let engine = &user.engine;
    let Some(session) = user.view.borrow().session.clone() else {
        return;
    };
    if !engine.audits(user.number) {
        return;
    }
    for left in (0..TRIES).rev() {
        let auditor = Witness::new("audit".to_owned(), Codec::Json);
        match timeout(LONG, read(user, &session, &auditor))
            .await
            .unwrap_or(Err(Lost::Timeout))
        {
            Ok(head) => return compare(user, &session, &auditor, head),
            Err(lost) if lost.may_return() && left > 0 => {
                let pause = lost.after().unwrap_or(Duration::from_millis(500));
                tokio::time::sleep(pause).await;
            }
            Err(lost) => return engine.meter.error(&lost.code()),
        }
    }
}

/// Reads the log until nothing runs; returns its last position.
async fn read(user: &User, session: &SessionId, auditor: &Witness) -> Result<Seq, Lost> {
    let engine = &user.engine;
    let _door = engine.doors.acquire().await;
    let codec = Codec::Json;
    let mut wire = Wire::open(&engine.target, user.person.name.as_deref(), codec, false).await?;
    let hello = Hello {
        token: user.person.token.clone(),
        ..Hello::default()
    };
    let attach = Attach::new(AttachTarget::Existing(session.clone()));
    for (command, name) in [(Command::Hello(hello), "1"), (Command::Attach(attach), "2")] {
        let frame = ClientFrame::new(Ref::from_trusted(name.to_owned()), command);
        let bytes = codec.encode(&frame).map_err(|_| Lost::Unreadable)?;
        auditor.sent(&frame, &bytes);
        wire.feed(bytes).await?;
    }
    wire.flush().await?;
    let asks = !user.view.borrow().open.is_empty();
    let (mut seq, mut caught_up) = (0, false);
    loop {
        let bytes = wire.next().await?;
        let frame = codec.decode_server(&bytes).map_err(|_| Lost::Unreadable)?;
        auditor.received(&frame, &bytes, &user.script.name, &engine.meter);
        match frame {
            ServerFrame::Error { error, .. } => {
                let after = error
                    .retry
                    .then(|| Duration::from_millis(error.after_ms.unwrap_or(500)));
                return Err(Lost::Unwelcome(error.code.as_str().to_owned(), after));
            }
            ServerFrame::Events(events) => seq = events.events.last().map_or(seq, |entry| entry.seq),
            ServerFrame::CaughtUp(frame) => (seq, caught_up) = (frame.seq, true),
            ServerFrame::Ok {
                body: OkBody::Attached(_),
                ..
            }
            | ServerFrame::Ok { .. }
            | ServerFrame::Presence(_)
            | ServerFrame::Goaway(_) => {}
        }
        if caught_up && (asks || auditor.is_idle(session) || auditor.is_broken()) {
            timeout(LONG, wire.close()).await.ok();
            return Ok(seq);
        }
    }
}

/// Compares what the devices show with the log.
fn compare(user: &User, session: &SessionId, auditor: &Witness, head: Seq) {
    let Some(log) = auditor.transcript(session) else {
        return;
    };
    for device in &user.devices {
        let here = device.link.get() == Link::Here;
        let seen = device.witness.cursor(session).map_or(0, |cursor| cursor.seq);
        if device.witness.is_broken() || (!here && seen < head) {
            continue;
        }
        if seen != head {
            let what = format!("the log ends at {head}, the device is at {seen}");
            accuse(user, device, "head", session, Some(head.min(seen)), what);
        } else if let Some(shown) = device.witness.transcript(session).filter(|shown| *shown != log) {
            let (shown, log) = (shown.lines(), log.lines());
            let place = shown.iter().zip(&log).take_while(|(shown, log)| shown == log).count();
            let line = |lines: &[String]| lines.get(place).map_or_else(|| "nothing".to_owned(), |line| cut(line));
            let what = format!(
                "message {}: the log says {}, the device shows {}",
                place + 1,
                line(&log),
                line(&shown)
            );
            accuse(user, device, "transcript", session, Some(head), what);
        }
    }
}

fn accuse(user: &User, device: &Device, check: &'static str, session: &SessionId, seq: Option<Seq>, what: String) {
    let broken = device
        .witness
        .accuse(check, session.as_str(), seq, &user.script.name, what);
    user.engine.meter.broken(broken);
}

/// Compares what the runs came to with the recording.
fn compare_shape(user: &User) {
    let view = user.view.borrow();
    let (Some(session), Some(device)) = (&view.session, user.devices.first()) else {
        return;
    };
    if view.patchy {
        return;
    }
    let shape = view.shape();
    for (index, recorded) in user.script.shape.iter().enumerate() {
        let here = shape.get(index);
        let what = match here {
            None => Some(format!("run {} of the recording did not come", index + 1)),
            Some(Some(here)) => differs(recorded, here).map(|what| format!("run {}: {what}", index + 1)),
            Some(None) => None,
        };
        if let Some(what) = what {
            let seq = view.runs.get(index).map(|run| run.begun.seq);
            accuse(user, device, "shape", session, seq, what);
            return;
        }
    }
}

/// Says in what a run differs from the recorded one. One that was stopped may have been faster than who stopped it.
fn differs(recorded: &RunShape, here: &RunShape) -> Option<String> {
    if recorded.end == RunEnd::Cancelled {
        let stopped = matches!(here.end, RunEnd::Cancelled | RunEnd::Success);
        return (!stopped).then(|| format!("it was cancelled when it was recorded, here it ended as {:?}", here.end));
    }
    if recorded.end != here.end {
        return Some(format!(
            "it ended as {:?} when it was recorded, here as {:?}",
            recorded.end, here.end
        ));
    }
    if recorded.text != here.text {
        let word = |text| if text { "text" } else { "no text" };
        return Some(format!(
            "{} when it was recorded, here {}",
            word(recorded.text),
            word(here.text)
        ));
    }
    (recorded.tools != here.tools).then(|| {
        format!(
            "it called {:?} when it was recorded, here {:?}",
            recorded.tools, here.tools
        )
    })
}

/// Cuts a line of a transcript to what a report can show.
fn cut(line: &str) -> String {
    let mut short: String = line.chars().take(80).collect();
    if short.len() < line.len() {
        short.push('…');
    }
    format!("{short:?}")
}
