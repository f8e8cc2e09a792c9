//! Texts that came in pieces, put together over all devices: a word that was cut in two is still one word.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Value};

/// Kinds of events with pieces, and the field that names the text.
const KINDS: [(&str, &str); 3] = [
    ("TEXT_MESSAGE_CONTENT", "messageId"),
    ("REASONING_MESSAGE_CONTENT", "messageId"),
    ("TOOL_CALL_ARGS", "toolCallId"),
];

/// Which text: the kind of its events, and its id.
type Name = (&'static str, String);

/// A piece as a line has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    first: u64,
    seq: u64,
    pub(super) text: &'a str,
}

/// One text.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// All of it that any device saw.
    pub(super) text: String,
    starts: HashMap<u64, usize>,
    ends: HashMap<u64, usize>,
    /// The position up to which it is known.
    covered: u64,
}

/// All texts of a recording.
#[derive(Debug, Default)]
pub(super) struct Streams(HashMap<Name, Stream>);

/// Returns the text that an event is a piece of, and the piece; `line` is the whole line.
pub(super) fn piece<'a>(line: &'a Map<String, Value>, event: &'a Map<String, Value>) -> Option<(Name, Piece<'a>)> {
    let kind = event.get("type")?.as_str()?;
    let (kind, field) = KINDS.into_iter().find(|(known, _)| *known == kind)?;
    let id = event.get(field)?.as_str()?.to_owned();
    let seq = line.get("seq")?.as_u64()?;
    let first = line.get("first").and_then(Value::as_u64).unwrap_or(seq);
    let text = event.get("delta")?.as_str()?;
    Some(((kind, id), Piece { first, seq, text }))
}

impl Streams {
    /// Puts the pieces of all lines together.
    pub(super) fn of(lines: &[Value]) -> Self {
        let mut sorted: BTreeMap<(Name, u64, std::cmp::Reverse<u64>), Piece<'_>> = BTreeMap::new();
        for line in lines {
            let event = line.get("event").and_then(Value::as_object);
            let found = line.as_object().zip(event).and_then(|(line, event)| piece(line, event));
            if let Some((name, piece)) = found {
                sorted.insert((name, piece.first, std::cmp::Reverse(piece.seq)), piece);
            }
        }
        let mut streams = Self::default();
        for ((name, ..), piece) in sorted {
            streams.0.entry(name).or_default().add(piece);
        }
        streams
    }

    /// Returns a text.
    pub(super) fn get(&self, name: &Name) -> Option<&Stream> {
        self.0.get(name)
    }
}

impl Stream {
    /// Adds a piece; they come by their first position, the longer of two first.
    fn add(&mut self, piece: Piece<'_>) {
        let start = if piece.first > self.covered {
            Some(self.text.len())
        } else {
            self.start(piece)
        };
        let Some(start) = start else { return };
        let known = self.text.len() - start;
        self.text.push_str(piece.text.get(known..).unwrap_or_default());
        self.starts.insert(piece.first, start);
        self.ends.insert(piece.seq, start + piece.text.len());
        self.covered = self.covered.max(piece.seq);
    }

    /// Returns where a piece stands in the text, if that can be found.
    pub(super) fn start(&self, piece: Piece<'_>) -> Option<usize> {
        let before = piece.first.checked_sub(1).and_then(|seq| self.ends.get(&seq));
        let ends = || self.ends.get(&piece.seq)?.checked_sub(piece.text.len());
        let start = self.starts.get(&piece.first).or(before).copied().or_else(ends);
        let fits = |start: &usize| {
            let there = self.text.get(*start..).unwrap_or_default();
            there.starts_with(piece.text) || piece.text.starts_with(there)
        };
        start.filter(fits).or_else(|| self.text.find(piece.text))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pieces_of_several_devices_are_one_text() {
        let line = |device: &str, first: u64, seq: u64, delta: &str| {
            json!({"at_ms": 0, "device": device, "first": first, "seq": seq,
                "event": {"type": "TEXT_MESSAGE_CONTENT", "messageId": "a", "delta": delta}})
        };
        let lines = [
            line("a", 1, 1, "Hel"),
            line("a", 2, 2, "lo wo"),
            line("b", 2, 3, "lo world"),
            line("a", 3, 3, "rld"),
            line("c", 3, 5, "rld and more"),
            line("a", 4, 6, " and more!"),
        ];
        let streams = Streams::of(&lines);
        let stream = streams.get(&("TEXT_MESSAGE_CONTENT", "a".to_owned())).unwrap();
        assert_eq!(stream.text, "Hello world and more!");
        for line in &lines {
            let (_, piece) = piece(line.as_object().unwrap(), line["event"].as_object().unwrap()).unwrap();
            let start = stream.start(piece).unwrap();
            assert_eq!(&stream.text[start..start + piece.text.len()], piece.text);
        }
    }
}
