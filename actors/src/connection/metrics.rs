//! Held handles of the websockets' metrics.

use kronos_protocol::{client::Op, close::CloseCode, codec::Codec};
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use crate::metrics::{BYTES_IN, BYTES_OUT, CLOSES, COMMANDS, CONNECTIONS, DELTA_DELIVERY, FRAMES_IN, FRAMES_OUT};

/// Handles of one codec.
#[derive(Debug)]
pub(super) struct Traffic {
    frames_in: Counter,
    frames_out: Counter,
    bytes_in: Counter,
    bytes_out: Counter,
}

impl Traffic {
    fn new(codec: Codec) -> Self {
        let codec = codec.as_str();
        Self {
            frames_in: counter!(FRAMES_IN, "codec" => codec),
            frames_out: counter!(FRAMES_OUT, "codec" => codec),
            bytes_in: counter!(BYTES_IN, "codec" => codec),
            bytes_out: counter!(BYTES_OUT, "codec" => codec),
        }
    }

    pub(super) fn came(&self, bytes: usize) {
        self.frames_in.increment(1);
        self.bytes_in.increment(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(super) fn went(&self, bytes: usize) {
        self.frames_out.increment(1);
        self.bytes_out.increment(u64::try_from(bytes).unwrap_or(u64::MAX));
    }
}

/// Handles that all connections share; made once, after the recorder was installed.
#[derive(Debug)]
pub struct ConnectionMetrics {
    pub(super) connections: Gauge,
    /// Time from a chunk of the model's to the write of its text.
    pub(super) delta_delivery: Histogram,
    json: Traffic,
    msgpack: Traffic,
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
            json: Traffic::new(Codec::Json),
            msgpack: Traffic::new(Codec::Msgpack),
            commands: commands.collect(),
            unknown: command("unknown", "error"),
        }
    }

    pub(super) fn traffic(&self, codec: Codec) -> &Traffic {
        match codec {
            Codec::Json => &self.json,
            Codec::Msgpack => &self.msgpack,
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
