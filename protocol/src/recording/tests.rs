//! Lines come back as they went, and what is no recording is refused.

use crate::client::{Cancel, Hello, Send, TokenUpdate};
use crate::event::TextMessageContent;
use crate::ids::MessageId;

use proptest::prelude::*;

use super::*;

fn device() -> DeviceName {
    "1".parse().unwrap()
}

fn frame(command: impl Into<Command>) -> ClientFrame {
    ClientFrame::new("r".parse().unwrap(), command)
}

fn back(line: &Line) -> Line {
    let text = serde_json::to_string(line).unwrap();
    assert!(!text.contains('\n'));
    text.parse().unwrap()
}

#[test]
fn a_header_comes_back_as_it_went() {
    let session: SessionId = "0192".parse().unwrap();
    let mut header = Header::new(
        VERSION,
        session,
        "e_1".parse::<EpochId>().unwrap(),
        1_790_000_000_000_i64,
    );
    header.title = Some("a \"title\"\n".to_owned());
    let text = serde_json::to_string(&header).unwrap();
    assert!(text.starts_with(r#"{"kronosrec":1,"#), "{text}");
    assert_eq!(text.parse::<Header>().unwrap(), header);
}

#[test]
fn lines_come_back_as_they_went() {
    let message: MessageId = "m_1".parse().unwrap();
    let session: SessionId = "0192".parse().unwrap();
    let send = Send::new(
        session,
        message.clone(),
        crate::UserContent::Text("hi\n\u{2028}".to_owned()),
    );
    let command = RecordedCommand::new(7, device(), frame(send)).unwrap();
    assert_eq!(back(&Line::Command(command.clone())), Line::Command(command));
    let mut entry = LogEntry::new(
        9_u64,
        Event::from(TextMessageContent::new(message, "Grüezi".to_owned())),
    );
    entry.first = Some(8);
    entry.run = Some("r_1".parse().unwrap());
    let event = Line::Event(RecordedEvent::of_log(11, entry));
    assert_eq!(back(&event), event);
    assert_eq!(event.at_ms(), 11);
}

#[test]
fn no_token_is_recorded() {
    let hello = Hello {
        token: Some("secret".to_owned()),
        ..Hello::default()
    };
    let command = RecordedCommand::new(0, device(), frame(hello)).unwrap();
    assert!(!serde_json::to_string(&command).unwrap().contains("secret"));
    let token = frame(TokenUpdate::new("secret".to_owned()));
    assert_eq!(RecordedCommand::new(0, device(), token), None);
    let line = r#"{"at_ms":0,"device":"1","command":{"op":"hello","ref":"1","token":"secret"}}"#;
    let Line::Command(read) = line.parse().unwrap() else {
        panic!("a command");
    };
    assert_eq!(
        read,
        RecordedCommand::new(0, device(), frame_of("1", Hello::default())).unwrap()
    );
}

fn frame_of(reference: &str, command: impl Into<Command>) -> ClientFrame {
    ClientFrame::new(reference.parse().unwrap(), command)
}

#[test]
fn what_is_no_recording_is_refused() {
    let header = |text: &str| text.parse::<Header>().unwrap_err();
    assert_eq!(
        header(r#"{"kronosrec":2,"session":"s","epoch":"e","started_at_ms":1}"#),
        RecordingError::Newer { found: 2 }
    );
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"kronosrec":0,"session":"s","epoch":"e","started_at_ms":1}"#,
    ] {
        assert!(matches!(header(bad), RecordingError::Shape(_)), "{bad}");
    }
    let line = |text: &str| text.parse::<Line>().unwrap_err();
    for unknown in [
        r#"{"at_ms":1,"note":"later"}"#,
        r#"{"at_ms":1,"device":"1","link":"frozen"}"#,
        r#"{"at_ms":1,"device":"1","act":"dance"}"#,
    ] {
        assert_eq!(line(unknown), RecordingError::Unknown, "{unknown}");
    }
    assert!(matches!(
        line(r#"{"at_ms":1,"device":"1","command":{"op":"dance","ref":"1"}}"#),
        RecordingError::Command(_)
    ));
    for bad in [
        "",
        "{",
        r#"{"at_ms":-1,"seq":1,"event":{}}"#,
        r#"{"event":null,"at_ms":1,"seq":1}"#,
        r#"{"at_ms":1,"link":"open"}"#,
        r#"{"at_ms":1,"device":"1","link":"closed","code":70000}"#,
        r#"{"at_ms":1,"device":"1","act":"rest","after":"later"}"#,
        r#"{"at_ms":1,"device":"1","act":"rest","after":{"deltas":5}}"#,
        r#"{"at_ms":1,"device":"1","command":{"op":"ping","ref":"1"},"think_ms":-1}"#,
    ] {
        assert!(matches!(line(bad), RecordingError::Shape(_)), "{bad}");
    }
}

#[test]
fn links_and_acts_have_the_fields_that_are_documented() {
    let text = |line: &Line| serde_json::to_string(line).unwrap();
    let mut link = RecordedLink::new(5_u64, device(), LinkState::Open);
    link.codec = Some(Codec::Msgpack);
    link.client = Some(ClientInfo::new(device(), device()));
    link.read_bytes_per_second = Some(4096);
    let link = Line::Link(link);
    let expected = r#"{"at_ms":5,"device":"1","link":"open","client":{"name":"1","version":"1"},"codec":"msgpack","#;
    assert_eq!(text(&link), format!(r#"{expected}"read_bytes_per_second":4096}}"#));
    assert_eq!(back(&link), link);
    let mut act = RecordedAct::new(6_u64, device(), Act::Approve);
    act.after = Some(After::Asked(1));
    let act = Line::Act(act);
    assert_eq!(
        text(&act),
        r#"{"at_ms":6,"device":"1","act":"approve","after":{"asked":1}}"#
    );
    let later = r#"{"at_ms":6,"device":"1","act":"approve","after":{"asked":1},"mood":"good"}"#;
    assert_eq!(later.parse(), Ok(act));
}

fn after() -> impl Strategy<Value = After> {
    prop_oneof![
        Just(After::Previous),
        Just(After::Replied),
        Just(After::Storm),
        any::<u32>().prop_map(After::RunStarted),
        any::<u32>().prop_map(After::RunEnded),
        any::<u32>().prop_map(After::Asked),
        (any::<u32>(), any::<u64>()).prop_map(|(run, count)| After::Deltas { run, count }),
    ]
}

type Beside = (u64, Option<After>, Option<u64>, Option<u64>);

fn beside() -> impl Strategy<Value = Beside> {
    let think = || proptest::option::of(any::<u64>());
    (any::<u64>(), proptest::option::of(after()), think(), think())
}

fn lines() -> impl Strategy<Value = Line> {
    let link = (beside(), 0..LinkState::ALL.len(), proptest::option::of(any::<u16>()));
    let act = (beside(), 0..Act::ALL.len(), proptest::option::of(any::<u32>()));
    prop_oneof![
        beside().prop_map(|(at_ms, after, think_ms, think_to_ms)| {
            let cancel = Cancel::new("0192".parse::<SessionId>().unwrap());
            let command = RecordedCommand::new(at_ms, device(), frame(cancel)).unwrap();
            Line::Command(RecordedCommand {
                after,
                think_ms,
                think_to_ms,
                ..command
            })
        }),
        link.prop_map(|((at_ms, after, think_ms, think_to_ms), state, code)| {
            let link = RecordedLink::new(at_ms, device(), LinkState::ALL[state]);
            Line::Link(RecordedLink {
                code,
                after,
                think_ms,
                think_to_ms,
                ..link
            })
        }),
        act.prop_map(|((at_ms, after, think_ms, think_to_ms), act, read_bytes_per_second)| {
            let act = RecordedAct::new(at_ms, device(), Act::ALL[act]);
            Line::Act(RecordedAct {
                read_bytes_per_second,
                after,
                think_ms,
                think_to_ms,
                ..act
            })
        }),
    ]
}

proptest! {
    #[test]
    fn any_line_comes_back_as_it_went(line in lines()) {
        prop_assert_eq!(back(&line), line);
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in r#"\{("(at_ms|device|link|act|after|event|command)":("open"|"rest"|1|\{\}|null),?){0,6}\}?"#) {
        drop(text.parse::<Line>());
        drop(text.parse::<Header>());
    }
}
