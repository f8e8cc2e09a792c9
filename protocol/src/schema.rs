//! JSON schemas of the protocol, and a golden frame of each kind as example: what a description of it is made of.
//!
//! Every wire type implements [`schemars::JsonSchema`]. A generator for reading describes what this crate accepts, one for
//! writing what it sends: in commands null reads as absent, but is never written. Unknown fields are allowed by all.
//! What a schema cannot say is left to the texts: a size in bytes, that ids are unique, the order of events.

use serde_json::Value;

use crate::client::Op;
use crate::codec::Codec;
use crate::entry::LogEntry;
use crate::event::EventKind;
use crate::server::{OkKind, ServerFrame, ServerOp};

/// Declares the golden frames by their file names.
macro_rules! golden {
    ($( $name:literal ),* $(,)?) => {
        /// The golden frames: name, and text in JSON. Names start with `client_` or `server_`.
        pub const FRAMES: &[(&str, &str)] =
            &[$( ($name, include_str!(concat!("../fixtures/frames/", $name, ".json"))) ),*];
    };
}

golden! {
    "client_attach",
    "client_attach_feed",
    "client_attach_new",
    "client_cancel",
    "client_detach",
    "client_edit",
    "client_hello",
    "client_ping",
    "client_regenerate",
    "client_resume",
    "client_send",
    "client_send_parts",
    "client_settings",
    "client_token",
    "client_typing",
    "client_unqueue",
    "server_caught_up",
    "server_error",
    "server_error_retry",
    "server_error_without_ref",
    "server_events",
    "server_events_snapshot",
    "server_goaway",
    "server_ok_attached",
    "server_ok_cancelled",
    "server_ok_done",
    "server_ok_pong",
    "server_ok_queued",
    "server_ok_sent",
    "server_ok_settings",
    "server_ok_token",
    "server_ok_welcome",
    "server_presence",
}

/// One golden log entry for each kind of event: a list in JSON.
pub const ENTRIES: &str = include_str!("../fixtures/events.json");

/// A golden frame.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Its name, such as `client_hello`.
    pub name: &'static str,
    /// The frame.
    pub frame: Value,
}

/// Returns the golden frames with a command.
#[must_use]
pub fn examples_of_command(op: Op) -> Vec<Example> {
    examples(|name, value| name.starts_with("client_") && value["op"] == op.as_str())
}

/// Returns the golden frames of the server of a kind.
#[must_use]
pub fn examples_of_frame(op: ServerOp) -> Vec<Example> {
    examples(|name, value| name.starts_with("server_") && value["op"] == op.as_str())
}

/// Returns the golden `ok` frames with a body of a kind.
#[must_use]
pub fn examples_of_ok(kind: OkKind) -> Vec<Example> {
    let mut found = examples_of_frame(ServerOp::Ok);
    found.retain(|example| {
        let read = Codec::Json.decode_server(example.frame.to_string().as_bytes());
        matches!(read, Ok(ServerFrame::Ok { body, .. }) if body.kind() == kind)
    });
    found
}

/// Returns the golden log entry with an event of a kind.
#[must_use]
pub fn example_of_event(kind: EventKind) -> Option<LogEntry> {
    let entries: Vec<LogEntry> = serde_json::from_str(ENTRIES).unwrap_or_default();
    entries.into_iter().find(|entry| entry.event.kind() == kind)
}

fn examples(wanted: impl Fn(&str, &Value) -> bool) -> Vec<Example> {
    let read = FRAMES.iter().filter_map(|(name, text)| {
        let frame = serde_json::from_str(text).ok()?;
        Some(Example { name, frame })
    });
    read.filter(|example| wanted(example.name, &example.frame)).collect()
}
