//! From a script to a recording in which every line says what it reacts to.

use std::io::Write;
use std::time::Duration;

use anyhow::Context as _;
use kronos_protocol::client::ClientFrame;
use kronos_protocol::ids::{EpochId, Ref, SessionId};
use kronos_protocol::recording::{
    Act, After, Header, Line, LinkState, RecordedAct, RecordedCommand, RecordedLink, VERSION,
};

use crate::script::{Action, Cause, SESSION, Script, Step};

/// Writes a script. What was known of its runs is not in it: [`crate::recording::read`] gives the same steps and devices.
///
/// # Errors
/// When it cannot be written, or a device is not there.
pub(crate) fn write(script: &Script, out: &mut impl Write) -> anyhow::Result<()> {
    let session = SessionId::from_trusted(SESSION.to_owned());
    let mut header = Header::new(VERSION, session, EpochId::from_trusted(SESSION.to_owned()), 0_i64);
    header.title = Some(script.name.clone());
    header.recorder = Some(concat!("kronos-load ", env!("CARGO_PKG_VERSION")).to_owned());
    line(out, &header)?;
    let mut at_ms = 0;
    for (index, step) in script.steps.iter().enumerate() {
        at_ms += millis(step.think.from);
        line(out, &recorded(script, step, index + 1, at_ms)?)?;
    }
    Ok(())
}

fn line(out: &mut impl Write, line: &impl serde::Serialize) -> anyhow::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")?;
    Ok(())
}

fn recorded(script: &Script, step: &Step, number: usize, at_ms: u64) -> anyhow::Result<Line> {
    let device = script
        .devices
        .get(step.device)
        .context("a step of a device that is not there")?;
    let name = device.name.clone();
    let after = Some(step.cause.into());
    let think = (millis(step.think.from), millis(step.think.to));
    let think_ms = (think != (0, 0)).then_some(think.0);
    let think_to_ms = (think.0 != think.1).then_some(think.1);
    let link = |link| RecordedLink {
        after,
        think_ms,
        think_to_ms,
        ..RecordedLink::new(at_ms, name.clone(), link)
    };
    let act = |act| RecordedAct {
        after,
        think_ms,
        think_to_ms,
        ..RecordedAct::new(at_ms, name.clone(), act)
    };
    Ok(match &step.action {
        Action::Join => Line::Link(RecordedLink {
            client: device.client.clone(),
            codec: device.codec,
            read_bytes_per_second: device.bytes_per_second,
            ..link(LinkState::Open)
        }),
        Action::Leave => Line::Link(link(LinkState::Closed)),
        Action::Cut => Line::Link(link(LinkState::Cut)),
        Action::Answer { approved: true } => Line::Act(act(Act::Approve)),
        Action::Answer { approved: false } => Line::Act(act(Act::Reject)),
        Action::Rest => Line::Act(act(Act::Rest)),
        Action::Read(pace) => Line::Act(RecordedAct {
            read_bytes_per_second: *pace,
            ..act(Act::Read)
        }),
        Action::Command(command) => {
            let frame = ClientFrame::new(Ref::from_trusted(number.to_string()), command.as_ref().clone());
            let command = RecordedCommand::new(at_ms, name.clone(), frame);
            let mut command = command.context("a token is no part of a script")?;
            (command.after, command.think_ms, command.think_to_ms) = (after, think_ms, think_to_ms);
            Line::Command(command)
        }
    })
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

impl From<Cause> for After {
    fn from(cause: Cause) -> Self {
        let index = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        match cause {
            Cause::Previous => Self::Previous,
            Cause::Replied => Self::Replied,
            Cause::Storm => Self::Storm,
            Cause::RunStarted(run) => Self::RunStarted(index(run)),
            Cause::Deltas { run, count } => Self::Deltas { run: index(run), count },
            Cause::RunEnded(run) => Self::RunEnded(index(run)),
            Cause::Asked(count) => Self::Asked(index(count)),
        }
    }
}
