//! What the server sends, read as a client should: what it does not know passes.
//!
//! A reply's body is read by whoever asked, with the structs here; unknown fields, ops, event types and error codes are
//! no reason to stop.

use kronos_protocol::event::Incoming as IncomingEvent;
use kronos_protocol::{Codec, EpochId, Event, RunId, Seq, SessionId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A frame of the server.
#[derive(Debug)]
pub(super) enum Incoming {
    /// The command called `reference` was done.
    Ok { reference: String, body: Value },
    /// A command was refused.
    Error(Refusal),
    /// A part of a session's log.
    Events(EventsFrame),
    /// Everything up to here has come.
    CaughtUp(CaughtUp),
    /// The server goes away.
    Goaway(Goaway),
    /// Something of no interest here, or not known.
    Ignored,
}

/// Why a command was refused.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Refusal {
    #[serde(rename = "ref", default)]
    pub(super) reference: Option<String>,
    #[serde(default)]
    pub(super) code: String,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) retry: bool,
    #[serde(default)]
    pub(super) after_ms: Option<u64>,
    #[serde(default)]
    pub(super) details: Value,
}

/// The reply to `hello`, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Welcome {
    #[serde(default)]
    pub(super) server: Server,
    #[serde(default)]
    pub(super) ping_seconds: Option<u64>,
    #[serde(default)]
    pub(super) connection: Option<String>,
}

/// The server program.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Server {
    #[serde(default)]
    pub(super) simulated: bool,
}

/// The reply to `attach`, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Attached {
    pub(super) session: SessionId,
    pub(super) epoch: EpochId,
    pub(super) recovered: bool,
    #[serde(default)]
    pub(super) settings: Map<String, Value>,
}

/// The reply to `send`, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Sent {
    #[serde(default)]
    pub(super) run: Option<RunId>,
    #[serde(default)]
    pub(super) queued: Option<u32>,
}

/// The reply to a command that may start a run, as far as it matters here.
#[derive(Debug, Deserialize)]
pub(super) struct Begun {
    #[serde(default)]
    pub(super) run: Option<RunId>,
}

/// The reply to `settings`.
#[derive(Debug, Deserialize)]
pub(super) struct Set {
    #[serde(default)]
    pub(super) settings: Map<String, Value>,
}

/// `events`: entries of a session's log.
#[derive(Debug)]
pub(super) struct EventsFrame {
    pub(super) session: SessionId,
    pub(super) epoch: EpochId,
    pub(super) snapshot: bool,
    pub(super) entries: Vec<Entry>,
}

/// One entry; without an event when this version does not know its type.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) seq: Seq,
    pub(super) first: Seq,
    pub(super) run: Option<RunId>,
    pub(super) event: Option<Event>,
}

/// `caught_up`.
#[derive(Debug, Deserialize)]
pub(super) struct CaughtUp {
    pub(super) session: SessionId,
    pub(super) seq: Seq,
}

/// `goaway`.
#[derive(Debug, Deserialize)]
pub(super) struct Goaway {
    #[serde(default)]
    pub(super) reconnect_after_ms: u64,
}

#[derive(Deserialize)]
struct RawEvents {
    session: SessionId,
    epoch: EpochId,
    #[serde(default)]
    snapshot: bool,
    events: Vec<RawEntry>,
}

#[derive(Deserialize)]
struct RawEntry {
    seq: Seq,
    #[serde(default)]
    first: Option<Seq>,
    #[serde(default)]
    run: Option<RunId>,
    event: Value,
}

/// Reads a JSON frame. `None`: it is no frame at all.
pub(super) fn read(bytes: &[u8]) -> Option<Incoming> {
    let mut value = Codec::Json.decode_value(bytes).ok()?;
    let op = value.get("op")?.as_str()?.to_owned();
    match op.as_str() {
        "ok" => {
            let reference = value.get_mut("ref")?.take().as_str()?.to_owned();
            Some(Incoming::Ok { reference, body: value })
        }
        "error" => body(value).map(Incoming::Error),
        "events" => body(value).map(events).map(Incoming::Events),
        "caught_up" => body(value).map(Incoming::CaughtUp),
        "goaway" => body(value).map(Incoming::Goaway),
        _ => Some(Incoming::Ignored),
    }
}

/// Reads the fields of a frame or a reply.
pub(super) fn body<T: DeserializeOwned>(value: Value) -> Option<T> {
    serde_json::from_value(value).ok()
}

fn events(raw: RawEvents) -> EventsFrame {
    let RawEvents {
        session,
        epoch,
        snapshot,
        events,
    } = raw;
    let entries = events
        .into_iter()
        .map(|RawEntry { seq, first, run, event }| {
            let event = match Event::decode_value(event) {
                Ok(IncomingEvent::Known(event)) => Some(event),
                Ok(IncomingEvent::Unknown { .. }) | Err(_) => None,
            };
            Entry {
                seq,
                first: first.unwrap_or(seq),
                run,
                event,
            }
        })
        .collect();
    EventsFrame {
        session,
        epoch,
        snapshot,
        entries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_passes() {
        assert!(matches!(read(br#"{"op":"confetti"}"#), Some(Incoming::Ignored)));
        assert!(matches!(
            read(br#"{"op":"presence","session":"s","devices":[]}"#),
            Some(Incoming::Ignored)
        ));
        let frame = read(
            br#"{"op":"events","session":"s","epoch":"e","new":1,"events":[
                {"seq":1,"event":{"type":"FIREWORKS"}},{"seq":4,"first":2,"event":{"type":"TEXT_MESSAGE_CONTENT",
                "messageId":"a","delta":"x","sparkle":true}}]}"#,
        );
        let Some(Incoming::Events(frame)) = frame else {
            panic!("{frame:?}")
        };
        assert!(frame.entries[0].event.is_none());
        assert!(frame.entries[1].event.is_some());
        assert_eq!((frame.entries[1].first, frame.entries[1].seq), (2, 4));
    }

    #[test]
    fn an_error_of_an_unknown_code_is_still_an_error() {
        let frame = read(br#"{"op":"error","ref":"1","code":"too_rainy","message":"m","retry":true,"after_ms":5}"#);
        let Some(Incoming::Error(refusal)) = frame else {
            panic!("{frame:?}")
        };
        assert_eq!(
            (refusal.code.as_str(), refusal.retry, refusal.after_ms),
            ("too_rainy", true, Some(5))
        );
    }

    #[test]
    fn what_is_no_frame_is_none() {
        for bytes in [&b"hello"[..], b"[]", b"{}", br#"{"op":7}"#, br#"{"op":"ok"}"#] {
            assert!(read(bytes).is_none());
        }
    }
}
