//! The end of a user: a fresh connection reads the whole log, and every device must have seen the same.

use std::time::Duration;

use kronos_check::DeviceId;
use kronos_protocol::client::{Attach, AttachTarget, Hello};
use kronos_protocol::{ClientFrame, Codec, Command, Ref, ServerFrame, SessionId};
use tokio::time::timeout;

use super::user::User;
use super::wire::{Lost, Wire};

/// Time to read a log to its end, runs included that go on without anybody.
const LONG: Duration = Duration::from_secs(120);
/// Time for the devices to see what the audit saw.
const SOON: Duration = Duration::from_secs(20);
/// Time for a proper end.
const GOODBYE: Duration = Duration::from_secs(5);
/// Tries, when the server does not take the connection.
const TRIES: u32 = 5;

/// Reads the log, compares, and ends the account. Errors of the connection are counted like those of any other.
pub(crate) async fn audit(user: &User) {
    let Some(first) = user.devices.first().map(|device| device.account) else {
        return;
    };
    let session = user.view.borrow().session.clone();
    let session = session.filter(|_| user.engine.audits(user.number));
    let Some(session) = session else {
        return user.checks.finish(first, None);
    };
    let account = user.checks.device("audit");
    let mut left = TRIES;
    let wire = loop {
        left -= 1;
        match timeout(LONG, read(user, &session, account))
            .await
            .unwrap_or(Err(Lost::Timeout))
        {
            Ok(wire) => break Some(wire),
            Err(lost) => {
                user.checks.cut(account);
                if !lost.is_planned() {
                    user.engine.meter.error(&lost.code());
                }
                if !lost.may_return() || left == 0 {
                    break None;
                }
                tokio::time::sleep(lost.after().unwrap_or(Duration::from_millis(500))).await;
            }
        }
    };
    if wire.is_some() {
        // A device that reads slowly may still be at it.
        timeout(SOON, user.agreed()).await.ok();
    }
    user.checks.finish(first, wire.is_some().then_some(account));
    if let Some(wire) = wire {
        timeout(GOODBYE, wire.close()).await.ok();
    }
}

/// Reads the log until nothing runs.
async fn read(user: &User, session: &SessionId, account: DeviceId) -> Result<Wire, Lost> {
    let engine = &user.engine;
    let codec = Codec::Json;
    let door = engine.doors.acquire().await;
    let mut wire = Wire::open(&engine.target, user.person.name.as_deref(), codec, false).await?;
    drop(door);
    let hello = Hello {
        token: user.person.token.clone(),
        ..Hello::default()
    };
    let attach = Attach::new(AttachTarget::Existing(session.clone()));
    for (command, name) in [(Command::Hello(hello), "1"), (Command::Attach(attach), "2")] {
        let frame = ClientFrame::new(Ref::from_trusted(name.to_owned()), command);
        let bytes = codec.encode(&frame).map_err(|_why| Lost::Unreadable)?;
        user.checks.sent(account, &frame);
        wire.feed(bytes).await?;
    }
    wire.flush().await?;
    let mut caught_up = false;
    loop {
        let bytes = wire.next().await?;
        let Ok(frame) = codec.decode_server(&bytes) else {
            user.checks.undecodable(account, &bytes);
            return Err(Lost::Unreadable);
        };
        user.checks.received(account, &frame);
        match frame {
            ServerFrame::Error { error, .. } => {
                let after = error
                    .retry
                    .then(|| Duration::from_millis(error.after_ms.unwrap_or(500)));
                return Err(Lost::Unwelcome(error.code.as_str().to_owned(), after));
            }
            ServerFrame::CaughtUp(_) => caught_up = true,
            ServerFrame::Ok { .. } | ServerFrame::Events(_) | ServerFrame::Presence(_) | ServerFrame::Goaway(_) => {}
        }
        let rests = user.checks.is_idle(account) || user.checks.is_broken() || user.asks();
        if caught_up && rests {
            return Ok(wire);
        }
    }
}
