//! What stands beside the AsyncAPI document's own words: codes and bounds.

use std::time::Duration;

use kronos_actors::{
    config::{ConnectionConfig, SessionConfig},
    connection::limits,
};
use kronos_protocol::{
    close::CloseCode,
    error::{ErrorCode, RunErrorCode},
    limits::PARTS,
};
use serde_json::{Map, Value, json};

/// Every close code, with what clients should do about it.
pub(super) fn close_codes() -> Vec<Value> {
    let row = |code: &CloseCode| json!({"code": code.code(), "name": code.as_str(), "retry": code.retry(), "description": code.about()});
    CloseCode::ALL.iter().map(row).collect()
}

/// Every code of an `error` frame.
pub(super) fn error_codes() -> Vec<Value> {
    let row = |code: &ErrorCode| json!({"code": code, "retry": code.retry(), "description": code.about()});
    ErrorCode::ALL.iter().map(row).collect()
}

/// Every code of RUN_ERROR.
pub(super) fn run_error_codes() -> Vec<Value> {
    let row = |code: &RunErrorCode| json!({"code": code, "retry": code.retry(), "description": code.about()});
    RunErrorCode::ALL.iter().map(row).collect()
}

/// The bounds in effect, by the names that `details.name` of an error has.
pub(super) fn bounds(connection: &ConnectionConfig, session: &SessionConfig) -> Value {
    let rows = of_messages(connection, session)
        .into_iter()
        .chain(of_connections(connection))
        .chain(times(connection));
    rows.map(|(name, limit, text)| (name.to_owned(), json!({"limit": limit, "description": text})))
        .collect::<Map<_, _>>()
        .into()
}

/// Name, bound, and what it is of.
type Row = (&'static str, Value, &'static str);

fn of_messages(connection: &ConnectionConfig, session: &SessionConfig) -> [Row; 7] {
    let told = limits(connection, session);
    let frame = "One message in either direction; over it: close 1009.";
    let text = "The text of one user message; over it: `too_large`.";
    let parts = "The parts of one user message; over it: `validation`.";
    let attachments = "Sessions that one connection follows; over it: `overloaded`.";
    let pending = "Commands that wait for their reply; over it: `overloaded`.";
    let inbox = "Messages that wait behind a run; over it: `overloaded`.";
    [
        ("frame_bytes", json!(told.frame_bytes), frame),
        ("message_chars", json!(told.message_chars), text),
        ("parts", json!(PARTS), parts),
        (
            "title_chars",
            json!(told.title_chars),
            "A title; over it: `validation`.",
        ),
        ("attachments", json!(told.attachments), attachments),
        ("pending_commands", json!(told.pending_commands), pending),
        ("inbox_messages", json!(session.inbox_messages), inbox),
    ]
}

fn of_connections(connection: &ConnectionConfig) -> [Row; 5] {
    let early = "One message before `hello` was answered; over it: close 1009.";
    let average = "Commands of one connection, on average; over it: `rate_limited`.";
    let burst = "Commands of one connection at once; over it: `rate_limited`.";
    let user = "Connections of one user; over it: close 1013.";
    let unread = "Sent beyond the last ping that was answered; the rest waits.";
    [
        ("pre_auth_frame_bytes", json!(connection.pre_auth_frame_bytes), early),
        ("commands_per_second", json!(connection.commands_per_second), average),
        ("commands_burst", json!(connection.commands_burst), burst),
        ("connections_per_user", json!(connection.max_connections_per_user), user),
        ("unread_bytes", json!(connection.unread_bytes), unread),
    ]
}

fn times(connection: &ConnectionConfig) -> [Row; 3] {
    let seconds = |time: Duration| json!(time.as_secs_f64());
    let hello = "Time until `hello`; over it: close 4408.";
    let ping = "Time between pings; a peer silent for two of them is gone.";
    let unread = "Time in which something of what was sent must be read; over it: close 4450.";
    [
        ("hello_seconds", seconds(connection.hello_timeout), hello),
        ("ping_seconds", seconds(connection.ping_interval), ping),
        ("unread_seconds", seconds(connection.write_timeout), unread),
    ]
}
