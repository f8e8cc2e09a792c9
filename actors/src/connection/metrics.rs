//! Held handles of the websockets' metrics.

use kronos_protocol::{client::Op, close::CloseCode, codec::Codec};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::{
    metrics::{CLOSES, COMMANDS, CONNECTIONS, DELTA_DELIVERY, is_measured},
    tally::{self, Tally},
};

/// What is counted of one codec: for each frame, so in cells of each thread.
#[derive(Debug)]
pub(super) struct Traffic {
    frames_in: Tally,
    frames_out: Tally,
    bytes_in: Tally,
    bytes_out: Tally,
}

static JSON: Traffic = Traffic {
    frames_in: Tally::JsonFramesIn,
    frames_out: Tally::JsonFramesOut,
    bytes_in: Tally::JsonBytesIn,
    bytes_out: Tally::JsonBytesOut,
};

static MSGPACK: Traffic = Traffic {
    frames_in: Tally::MsgpackFramesIn,
    frames_out: Tally::MsgpackFramesOut,
    bytes_in: Tally::MsgpackBytesIn,
    bytes_out: Tally::MsgpackBytesOut,
};

impl Traffic {
    pub(super) fn came(&self, bytes: usize) {
        count(self.frames_in, self.bytes_in, bytes);
    }

    pub(super) fn went(&self, bytes: usize) {
        count(self.frames_out, self.bytes_out, bytes);
    }
}

fn count(frames: Tally, all: Tally, bytes: usize) {
    if is_measured() {
        tally::add(frames, 1);
        tally::add(all, i64::try_from(bytes).unwrap_or(i64::MAX));
    }
}

/// What is counted of a codec.
pub(super) fn traffic(codec: Codec) -> &'static Traffic {
    match codec {
        Codec::Json => &JSON,
        Codec::Msgpack => &MSGPACK,
    }
}

/// Handles that all connections share; made once, after the recorder was installed.
#[derive(Debug)]
pub struct ConnectionMetrics {
    pub(super) connections: Gauge,
    /// Time from a chunk of the model's to the write of its text.
    pub(super) delta_delivery: Histogram,
    /// Done and refused, in the order of [`Op::ALL`].
    commands: Vec<(Op, Counter, Counter)>,
    unknown: Counter,
}

impl ConnectionMetrics {
    /// Asks the installed recorder for the handles.
    #[must_use]
    pub fn new() -> Self {
        let command = |op: &'static str, outcome: &'static str| counter!(COMMANDS, "op" => op, "outcome" => outcome);
        let commands = Op::ALL
            .iter()
            .map(|op| (*op, command(op.as_str(), "ok"), command(op.as_str(), "error")));
        Self {
            connections: gauge!(CONNECTIONS),
            delta_delivery: histogram!(DELTA_DELIVERY),
            commands: commands.collect(),
            unknown: command("unknown", "error"),
        }
    }

    /// Counts the answer to a command; `None`: to what was none.
    pub(super) fn answered(&self, op: Option<Op>, done: bool) {
        let known = self.commands.iter().find(|(known, ..)| Some(*known) == op);
        match known {
            Some((_, ok, _)) if done => ok.increment(1),
            Some((_, _, error)) => error.increment(1),
            None => self.unknown.increment(1),
        }
    }
}

impl Default for ConnectionMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts a close frame.
pub(super) fn closed(code: Option<u16>) {
    let label = match code {
        None => "none".to_owned(),
        Some(code) => CloseCode::from_code(code).map_or_else(|| "other".to_owned(), |code| code.code().to_string()),
    };
    counter!(CLOSES, "code" => label).increment(1);
}
