//! The client frames of the files, made in Rust.

use kronos_protocol::client::Send;
use kronos_protocol::*;
use serde_json::json;

use super::{client_info, id, session};

pub(super) fn commands() -> Vec<(&'static str, &'static str, Command)> {
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
        tool_rules: None,
        branch: None,
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

fn words(list: &[&str]) -> Option<Vec<String>> {
    Some(list.iter().map(|word| (*word).to_owned()).collect())
}

fn cursor() -> Cursor {
    Cursor::new(id::<EpochId>("e_7f"), 3_u64)
}
