//! The server frames of the files, made in Rust.

use kronos_protocol::event::{Custom, MessagesSnapshot, RunStarted, TextMessageContent};
use kronos_protocol::message::{AssistantMessage, UserMessage};
use kronos_protocol::*;
use serde_json::json;

use super::{SESSION, client_info, id, session};

pub(super) fn log() -> Vec<LogEntry> {
    let run: Option<RunId> = Some(id("r_1"));
    let input = RunInput::new(SESSION, id::<RunId>("r_1"), vec![Message::from(question())]);
    let started = RunStarted {
        protocol_version: Some(AG_UI_VERSION.to_owned()),
        input: Some(Box::new(input)),
        ..RunStarted::new(SESSION, id::<RunId>("r_1"))
    };
    let custom = Custom::new("kronos.title_changed", json!({ "title": "Capitals" }));
    let text = TextMessageContent::new(id::<MessageId>("a_1"), "Bern is ");
    vec![
        LogEntry {
            run: run.clone(),
            ..LogEntry::new(1_u64, started.with_timestamp(1_790_000_000_000))
        },
        LogEntry {
            run,
            first: Some(2),
            ..LogEntry::new(4_u64, text)
        },
        LogEntry::new(5_u64, custom),
    ]
}

fn ok(reference: &str, body: impl Into<OkBody>) -> ServerFrame {
    ServerFrame::ok(id(reference), body)
}

fn settings(title: &str) -> SessionSettings {
    let (title, tool_policy) = (Some(title.to_owned()), Some(ToolPolicy::AskWrites));
    SessionSettings {
        title,
        tool_policy,
        ..SessionSettings::default()
    }
}

fn welcome() -> Welcome {
    let user = UserInfo {
        name: Some("Ana".to_owned()),
        ..UserInfo::new(id::<UserId>("u_ana"))
    };
    Welcome {
        server: ServerInfo {
            name: "kronos".to_owned(),
            version: "0.1.0".to_owned(),
            simulated: true,
        },
        time: "2026-11-22T10:00:00Z".to_owned(),
        ..Welcome::new(id::<ConnectionId>("c_1"), user)
    }
}

pub(super) fn replies() -> Vec<(&'static str, ServerFrame)> {
    let attached = Attached::new(session(), id::<EpochId>("e_7f"), 5_u64, true);
    let attached = Attached {
        settings: settings("Capitals"),
        ..attached
    };
    let usage = TokenUsage {
        provider: Some("google".to_owned()),
        model: Some("gemini-flash".to_owned()),
        input_tokens: Some(41),
        output_tokens: Some(12),
        total_tokens: Some(53),
        ..TokenUsage::default()
    };
    vec![
        ("server_ok_welcome", ok("1", welcome())),
        ("server_ok_attached", ok("2", attached)),
        (
            "server_ok_sent",
            ok(
                "6",
                Sent {
                    run: Some(id("r_1")),
                    ..Sent::new(1_u64)
                },
            ),
        ),
        (
            "server_ok_queued",
            ok(
                "7",
                Sent {
                    queued: Some(1),
                    duplicate: true,
                    ..Sent::new(9_u64)
                },
            ),
        ),
        (
            "server_ok_cancelled",
            ok(
                "9",
                Cancelled {
                    run: Some(id("r_1")),
                    usage: Some(vec![usage]),
                },
            ),
        ),
        ("server_ok_token", ok("15", TokenAccepted::new("2026-11-22T11:00:00Z"))),
        ("server_ok_pong", ok("16", Pong::new("2026-11-22T10:00:01Z"))),
        (
            "server_ok_settings",
            ok("13", SettingsReply::new(settings("Capitals of Europe"))),
        ),
        ("server_ok_done", ok("5", OkBody::Done)),
    ]
}

pub(super) fn refusals() -> Vec<(&'static str, ServerFrame)> {
    let conflict = WireError {
        details: json!({ "answered_by": "c_2" }),
        ..WireError::of(ErrorCode::Conflict, "somebody answered first")
    };
    let limited = WireError {
        after_ms: Some(1200),
        ..WireError::of(ErrorCode::RateLimited, "too many messages")
    };
    let no_ref = Codec::Json.decode_client(br#"{"op":"ping"}"#).unwrap_err();
    vec![
        ("server_error", ServerFrame::error(Some(id("10")), conflict)),
        ("server_error_retry", ServerFrame::error(Some(id("6")), limited)),
        ("server_error_without_ref", ServerFrame::error(None, no_ref.into())),
    ]
}

pub(super) fn notices() -> Vec<(&'static str, ServerFrame)> {
    let answer = AssistantMessage {
        content: Some("Bern.".to_owned()),
        ..AssistantMessage::new(id::<MessageId>("a_1"))
    };
    let messages = vec![Message::from(question()), answer.into()];
    let entries = vec![LogEntry::new(5_u64, MessagesSnapshot::new(messages))];
    let snapshot = Events {
        snapshot: true,
        ..Events::new(session(), id::<EpochId>("e_7f"), entries)
    };
    let devices = vec![
        Device {
            client: Some(client_info()),
            typing: true,
            ..Device::new(id::<ConnectionId>("c_1"))
        },
        Device::new(id::<ConnectionId>("c_2")),
    ];
    vec![
        (
            "server_events",
            Events::new(session(), id::<EpochId>("e_7f"), log()).into(),
        ),
        ("server_events_snapshot", snapshot.into()),
        ("server_caught_up", CaughtUp::new(session(), 5_u64).into()),
        ("server_presence", Presence::new(session(), devices).into()),
        ("server_goaway", Goaway::new("drain", 1200_u64).into()),
    ]
}

fn question() -> UserMessage {
    UserMessage::new(id::<MessageId>("m_1"), "What is the capital of Switzerland?")
}
