//! Digests of texts and events: what was shown is compared without being kept.

use std::io;

use kronos_protocol::{Event, EventKind, LogEntry};

/// A digest (FNV-1a) that texts are added to piece by piece: how they were cut does not matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest {
    /// Bytes so far.
    pub(super) len: u64,
    hash: u64,
}

impl Digest {
    /// Of nothing.
    pub(super) const EMPTY: Self = Self {
        len: 0,
        hash: 0xcbf2_9ce4_8422_2325,
    };

    /// Returns that of a text.
    pub(super) fn of(text: &str) -> Self {
        Self::EMPTY.and(text.as_bytes())
    }

    /// Returns it with more behind it.
    #[must_use]
    pub(super) fn and(mut self, more: &[u8]) -> Self {
        for byte in more {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self.len += more.len() as u64;
        self
    }

    /// Whether `text` begins with what this is of.
    pub(super) fn begins(self, text: &str) -> bool {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        text.as_bytes()
            .get(..len)
            .is_some_and(|start| Self::EMPTY.and(start) == self)
    }

    fn with(self, other: Option<Self>) -> u64 {
        other.map_or(self.hash, |other| {
            self.and(&other.hash.to_le_bytes()).and(&other.len.to_le_bytes()).hash
        })
    }
}

impl io::Write for Digest {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        *self = self.and(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Something that comes in deltas.
#[derive(Debug, Clone)]
struct Stream {
    kind: EventKind,
    id: String,
    digest: Digest,
}

/// What is open at a position: texts, reasoning, arguments of calls. What began before one looked is not in it.
#[derive(Debug, Clone, Default)]
pub(super) struct Streams(Vec<Stream>);

/// A piece of something that comes in deltas.
pub(super) struct Delta<'a> {
    kind: EventKind,
    id: &'a str,
    /// The piece.
    pub(super) text: &'a str,
}

/// Returns the delta that an event is.
pub(super) fn delta(event: &Event) -> Option<Delta<'_>> {
    let (id, text) = match event {
        Event::TextMessageContent(event) => (event.message_id.as_str(), &event.delta),
        Event::ReasoningMessageContent(event) => (event.message_id.as_str(), &event.delta),
        Event::ToolCallArgs(event) => (event.tool_call_id.as_str(), &event.delta),
        _ => return None,
    };
    let kind = event.kind();
    Some(Delta { kind, id, text })
}

impl Streams {
    /// Forgets what is open.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Opens a text that has come so far.
    pub(super) fn open_text(&mut self, id: &str, digest: Digest) {
        self.open(EventKind::TextMessageContent, id, digest);
    }

    fn open(&mut self, kind: EventKind, id: &str, digest: Digest) {
        self.close(kind, id);
        let id = id.to_owned();
        self.0.push(Stream { kind, id, digest });
    }

    fn close(&mut self, kind: EventKind, id: &str) -> Option<Digest> {
        let at = self
            .0
            .iter()
            .position(|stream| stream.kind == kind && stream.id == id)?;
        Some(self.0.swap_remove(at).digest)
    }

    /// Returns the texts that are open, and what has come of them.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&str, Digest)> {
        let texts = self
            .0
            .iter()
            .filter(|stream| stream.kind == EventKind::TextMessageContent);
        texts.map(|stream| (stream.id.as_str(), stream.digest))
    }

    /// Returns what has come so far of what this is a delta of.
    pub(super) fn of(&mut self, delta: &Delta<'_>) -> Option<&mut Digest> {
        let mut all = self.0.iter_mut();
        let stream = all.find(|stream| stream.kind == delta.kind && stream.id == delta.id)?;
        Some(&mut stream.digest)
    }

    /// Takes the next entry; returns what stands for the log up to it, the same however deltas were merged; `None` when a part of it
    /// was not seen.
    pub(super) fn take(&mut self, entry: &LogEntry) -> Option<u64> {
        if let Some(delta) = delta(&entry.event) {
            let digest = self.of(&delta)?;
            *digest = digest.and(delta.text.as_bytes());
            return Some(digest.hash ^ digest.len);
        }
        let mut closed = None;
        match &entry.event {
            Event::TextMessageStart(event) => self.open_text(event.message_id.as_str(), Digest::EMPTY),
            Event::ReasoningMessageStart(event) => {
                self.open(
                    EventKind::ReasoningMessageContent,
                    event.message_id.as_str(),
                    Digest::EMPTY,
                );
            }
            Event::ToolCallStart(event) => self.open(EventKind::ToolCallArgs, &event.tool_call_id, Digest::EMPTY),
            Event::TextMessageEnd(event) => {
                closed = Some(self.close(EventKind::TextMessageContent, event.message_id.as_str())?);
            }
            Event::ReasoningMessageEnd(event) => {
                closed = Some(self.close(EventKind::ReasoningMessageContent, event.message_id.as_str())?);
            }
            Event::ToolCallEnd(event) => closed = Some(self.close(EventKind::ToolCallArgs, &event.tool_call_id)?),
            Event::RunStarted(_) | Event::RunFinished(_) | Event::RunError(_) => self.clear(),
            _ => {}
        }
        let mut digest = Digest::EMPTY;
        // Events always fit JSON, and the digest takes everything.
        serde_json::to_writer(&mut digest, &entry.event).ok()?;
        Some(digest.with(closed))
    }
}
