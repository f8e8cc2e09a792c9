//! What one user does, in the form that is replayed: recordings and hand-written scenarios both become this.
//!
//! A step does not have a time but a cause: the moment in what the server shows that the person reacted to, and how long they thought
//! then. A slower server is thus not spoken to before it has answered, and a faster one not later than the person would have.

use std::time::Duration;

pub(crate) use kronos_check::{RunEnd, RunShape};
use kronos_protocol::Codec;
use kronos_protocol::client::{ClientInfo, Command};
use kronos_protocol::ids::{DeviceName, InterruptId, MessageId, RunId};

/// The session that hand-written commands name; a replay puts its own in the place of whatever a command names.
pub(crate) const SESSION: &str = "script";

/// One user: devices, and what is done on them, in order.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Script {
    /// For reports: the file or the part of the scenario that it comes from.
    pub(crate) name: String,
    /// At least one; the first to join creates the session, the others attach to it.
    pub(crate) devices: Vec<Device>,
    /// In order. A step waits for the one before it and for its own cause.
    pub(crate) steps: Vec<Step>,
    /// The ids that the commands mention, as they were when it was recorded.
    pub(crate) names: Names,
    /// What the runs came to when it was recorded; empty: nothing is known of them.
    pub(crate) shape: Vec<RunShape>,
}

/// One device of a user: a websocket.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Device {
    /// What recordings call it.
    pub(crate) name: DeviceName,
    /// What it says it is.
    pub(crate) client: Option<ClientInfo>,
    /// Its codec; absent: as the load says.
    pub(crate) codec: Option<Codec>,
    /// Bytes a second that it reads; absent: as fast as it can.
    pub(crate) bytes_per_second: Option<u32>,
}

/// One thing that is done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// Index into [`Script::devices`].
    pub(crate) device: usize,
    /// What it waits for, beside the step before it.
    pub(crate) cause: Cause,
    /// How long the person thought after the later of the two; divided by the speed of the load.
    pub(crate) think: Think,
    /// What is done then.
    pub(crate) action: Action,
}

/// How long somebody thinks: drawn evenly between the two for each user that replays the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Think {
    /// At least.
    pub(crate) from: Duration,
    /// At most; not below `from`.
    pub(crate) to: Duration,
}

impl From<Duration> for Think {
    fn from(time: Duration) -> Self {
        Self { from: time, to: time }
    }
}

impl Think {
    /// Returns both, one after the other.
    pub(crate) fn plus(self, other: Self) -> Self {
        Self {
            from: self.from + other.from,
            to: self.to + other.to,
        }
    }

    /// Draws a time.
    pub(crate) fn draw(self, random: &mut impl rand::Rng) -> Duration {
        self.from + self.to.saturating_sub(self.from).mul_f64(random.random::<f64>())
    }
}

/// A moment that somebody reacts to. Runs and questions are counted from 0, in the order in which the session began them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Nothing but the step before: a command was written, a join caught up.
    Previous,
    /// Every command so far has its reply.
    Replied,
    /// The run has begun.
    RunStarted(usize),
    /// That many deltas of the run's texts have come to the device, merged ones counted for all of them.
    Deltas {
        /// The run.
        run: usize,
        /// How many.
        count: u64,
    },
    /// The run has ended, however.
    RunEnded(usize),
    /// That many questions (interrupts) have been asked in the session.
    Asked(usize),
    /// The moment in which the load cuts everybody.
    Storm,
}

/// What is done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Connects, says hello and attaches, after the position that the device has if it was there before. Done when caught up.
    Join,
    /// Closes the websocket properly.
    Leave,
    /// Resets the connection, as a lost network does. What has no reply is sent again with the same id after the next join.
    Cut,
    /// Sends a command. Ids that are in [`Script::names`] are replaced by those that this session has in their places.
    Command(Box<Command>),
    /// Answers every question that is open.
    Answer {
        /// Whether the answer is yes.
        approved: bool,
    },
    /// From now on the device reads that fast; `None`: as fast as it can.
    Read(Option<u32>),
    /// Does nothing: the think time is all.
    Rest,
}

/// Ids by the order in which they were made: the first run of a replay takes the place of the first one of its recording.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Names {
    /// Runs.
    pub(crate) runs: Vec<RunId>,
    /// Messages of the assistant.
    pub(crate) answers: Vec<MessageId>,
    /// Questions.
    pub(crate) interrupts: Vec<InterruptId>,
}
