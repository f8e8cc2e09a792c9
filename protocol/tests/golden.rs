//! Golden frames: one file per kind, compared with a value made here, read and written in both codecs.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kronos_protocol::client::Send;
use kronos_protocol::event::{
    Custom, MessagesSnapshot, RunStarted, TextMessageContent, TextMessageEnd, TextMessageStart,
};
use kronos_protocol::message::{AssistantMessage, UserMessage};
use kronos_protocol::*;
use serde::Serialize;
use serde_json::{Value, json};

const SESSION: &str = "01928f3e-7a6b-7c00-9d4e-5f60718293a4";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn fixture(path: &str) -> Value {
    serde_json::from_slice(&fs::read(folder().join(path)).unwrap()).unwrap()
}

fn id<T: for<'a> TryFrom<&'a str, Error = IdError>>(text: &str) -> T {
    T::try_from(text).unwrap()
}

fn session() -> SessionId {
    id(SESSION)
}

fn words(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|word| (*word).to_owned()).collect())
}

fn cursor() -> Cursor {
    Cursor::new(id::<EpochId>("e_7f"), 3_u64)
}

fn question() -> UserMessage {
    UserMessage::new(id::<MessageId>("m_1"), "What is the capital of Switzerland?")
}

fn parts() -> Vec<ContentPart> {
    let (value, mime_type) = ("iVBORw0KGgo=".to_owned(), "image/png".to_owned());
    let provider = Some("google".to_owned());
    vec![
        ContentPart::from_text("What is this? "),
        ContentPart::Image {
            source: Source::Data { value, mime_type },
            metadata: None,
        },
        ContentPart::Document {
            source: Source::File {
                value: "files/abc".to_owned(),
                provider,
                mime_type: None,
            },
            metadata: None,
        },
        ContentPart::Audio {
            source: Source::Url {
                value: "https://example.org/a.ogg".to_owned(),
                mime_type: None,
            },
            metadata: None,
        },
    ]
}

fn client_info() -> ClientInfo {
    ClientInfo::new(id::<DeviceName>("kronos-web"), id::<DeviceName>("1.4.0"))
}

fn commands() -> Vec<(&'static str, &'static str, Command)> {
    let hello = Hello {
        token: Some("eyJhbGciOiJIUzI1NiJ9.e30.c2ln".to_owned()),
        client: Some(client_info()),
        codec: Some(Codec::Json),
    };
    let answer = Answer {
        payload: Some(json!({ "approved": true })),
        ..Answer::new(id::<InterruptId>("i_1"), ResumeStatus::Resolved)
    };
    let answers = vec![answer, Answer::new(id::<InterruptId>("i_2"), ResumeStatus::Cancelled)];
    let change = SessionSettings {
        title: Some("Capitals of Europe".to_owned()),
        tool_policy: Some(ToolPolicy::AskWrites),
        ..SessionSettings::default()
    };
    vec![
        ("client_hello", "1", hello.into()),
        ("client_attach", "2", attach().into()),
        ("client_attach_feed", "3", Attach::new(AttachTarget::Feed).into()),
        ("client_attach_new", "4", attach_new().into()),
        ("client_detach", "5", Detach::new(session()).into()),
        (
            "client_send",
            "6",
            Send::new(session(), id::<MessageId>("m_1"), "What is the capital of Switzerland?").into(),
        ),
        ("client_send_parts", "7", send_parts().into()),
        (
            "client_unqueue",
            "8",
            Unqueue::new(session(), id::<MessageId>("m_2")).into(),
        ),
        (
            "client_cancel",
            "9",
            Cancel {
                session: session(),
                run: Some(id("r_1")),
            }
            .into(),
        ),
        ("client_resume", "10", Resume::new(session(), answers).into()),
        (
            "client_edit",
            "11",
            Edit::new(session(), id::<MessageId>("m_1"), "And of Austria?").into(),
        ),
        (
            "client_regenerate",
            "12",
            Regenerate {
                session: session(),
                message: Some(id("a_1")),
            }
            .into(),
        ),
        ("client_settings", "13", Settings::new(session(), change).into()),
        ("client_typing", "14", Typing::new(session(), true).into()),
        (
            "client_token",
            "15",
            TokenUpdate::new("eyJhbGciOiJIUzI1NiJ9.e30.bmV3").into(),
        ),
        ("client_ping", "16", Command::Ping),
    ]
}

fn attach() -> Attach {
    Attach {
        after: Some(cursor()),
        tail: Some(50),
        ..Attach::new(AttachTarget::Existing(session()))
    }
}

fn attach_new() -> Attach {
    let settings = SessionSettings {
        title: None,
        model: Some("gemini-flash".to_owned()),
        tool_policy: Some(ToolPolicy::AskAll),
        toolkits: words(&["gmail"]),
        system_prompt: Some("Be brief.".to_owned()),
    };
    Attach::new(AttachTarget::New {
        title: Some("Capitals".to_owned()),
        settings: Some(settings),
    })
}

fn send_parts() -> Send {
    let run = RunOptions {
        model: Some("gemini-pro".to_owned()),
        temperature: Some(0.5),
        max_tokens: Some(1024),
        system_prompt: Some("Look closely.".to_owned()),
        toolkits: words(&["github", "slack"]),
        tool_policy: Some(ToolPolicy::Auto),
    };
    Send {
        mode: SendMode::Steer,
        run,
        ..Send::new(session(), id::<MessageId>("m_2"), parts())
    }
}

fn log() -> Vec<LogEntry> {
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

fn replies() -> Vec<(&'static str, ServerFrame)> {
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

fn refusals() -> Vec<(&'static str, ServerFrame)> {
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

fn notices() -> Vec<(&'static str, ServerFrame)> {
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

fn server_frames() -> Vec<(&'static str, ServerFrame)> {
    replies().into_iter().chain(refusals()).chain(notices()).collect()
}

/// Writes `frame` in both codecs, compares with the file, and reads it back.
fn golden<F, E>(name: &str, frame: &F, read: impl Fn(Codec, &[u8]) -> Result<F, E>)
where
    F: Serialize + PartialEq + Debug,
    E: Debug,
{
    let file = fs::read(folder().join("frames").join(format!("{name}.json"))).unwrap();
    assert_eq!(&read(Codec::Json, &file).unwrap(), frame, "{name}");
    for codec in Codec::ALL.iter().copied() {
        let bytes = codec.encode(frame).unwrap();
        assert_eq!(
            codec.decode_value(&bytes).unwrap(),
            serde_json::from_slice::<Value>(&file).unwrap(),
            "{name} {codec}"
        );
        assert_eq!(&read(codec, &bytes).unwrap(), frame, "{name} {codec}");
    }
}

#[test]
fn client_frames_are_as_in_their_files() {
    for (name, reference, command) in commands() {
        golden(name, &ClientFrame::new(id(reference), command), |codec, bytes| {
            codec.decode_client(bytes)
        });
    }
}

#[test]
fn server_frames_are_as_in_their_files() {
    for (name, frame) in server_frames() {
        golden(name, &frame, |codec, bytes| codec.decode_server(bytes));
    }
}

#[test]
fn every_kind_of_frame_has_a_file_and_every_file_a_frame() {
    let files: BTreeSet<_> = fs::read_dir(folder().join("frames"))
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    let names = commands()
        .into_iter()
        .map(|(name, ..)| name)
        .chain(server_frames().into_iter().map(|(name, _)| name));
    assert_eq!(files, names.map(|name| format!("{name}.json")).collect());
    let ops: BTreeSet<_> = commands().iter().map(|(_, _, command)| command.op()).collect();
    assert_eq!(ops, Op::ALL.iter().copied().collect());
    let ops: BTreeSet<_> = server_frames().iter().map(|(_, frame)| frame.op()).collect();
    assert_eq!(ops, ServerOp::ALL.iter().copied().collect());
}

#[test]
fn borrowed_events_are_written_like_owned_ones() {
    let (session, epoch) = (session(), id::<EpochId>("e_7f"));
    let entries = log();
    let shared: Vec<_> = entries.iter().cloned().map(Arc::new).collect();
    let references: Vec<_> = entries.iter().collect();
    for snapshot in [false, true] {
        let owned = Events {
            snapshot,
            ..Events::new(&session, &epoch, entries.clone())
        };
        let (session, epoch) = (&session, &epoch);
        for codec in Codec::ALL.iter().copied() {
            let expected = codec.encode(&ServerFrame::from(owned.clone())).unwrap();
            assert_eq!(
                codec
                    .encode(&EventsRef {
                        session,
                        epoch,
                        snapshot,
                        events: &entries
                    })
                    .unwrap(),
                expected
            );
            assert_eq!(
                codec
                    .encode(&EventsRef {
                        session,
                        epoch,
                        snapshot,
                        events: &shared
                    })
                    .unwrap(),
                expected
            );
            assert_eq!(
                codec
                    .encode(&EventsRef {
                        session,
                        epoch,
                        snapshot,
                        events: &references
                    })
                    .unwrap(),
                expected
            );
        }
    }
}

#[test]
fn the_example_of_the_protocol_page_is_understood() {
    let conversation = fixture("conversation.json");
    let mut events = Vec::new();
    for step in conversation.as_array().unwrap() {
        let bytes = step["frame"].to_string();
        if step["from"] == "client" {
            Codec::Json.decode_client(bytes.as_bytes()).unwrap();
            continue;
        }
        match Codec::Json.decode_server(bytes.as_bytes()).unwrap() {
            ServerFrame::Events(frame) => events.extend(frame.events),
            ServerFrame::Ok {
                body: OkBody::Welcome(welcome),
                ..
            } => {
                assert_eq!(
                    welcome.limits,
                    Limits {
                        frame_bytes: 65_536,
                        ..Limits::default()
                    }
                );
            }
            ServerFrame::Ok {
                body: OkBody::Attached(_) | OkBody::Sent(_),
                ..
            }
            | ServerFrame::CaughtUp(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(
        events.iter().map(|entry| entry.seq).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5]
    );
    let mut verifier = Verifier::new();
    for entry in &events {
        verifier.accept(&entry.event).unwrap();
    }
    let text: [Event; 2] = [
        TextMessageStart {
            role: Some(event::TextRole::Assistant),
            ..TextMessageStart::new(id::<MessageId>("a_1"))
        }
        .into(),
        TextMessageEnd::new(id::<MessageId>("a_1")).into(),
    ];
    assert_eq!([&events[1].event, &events[3].event], [&text[0], &text[1]]);
}
