//! Reading is total: whatever comes, there is a frame or an error, and the error is the right one.

use std::fs;
use std::path::Path;

use kronos_protocol::{Codec, ErrorCode, Event, FrameError, limits};
use proptest::prelude::*;
use serde_json::{Value, json};

fn read_everything(bytes: &[u8]) {
    for codec in Codec::ALL.iter().copied() {
        drop(codec.decode_client(bytes));
        drop(codec.decode_server(bytes));
        if let Ok(value) = codec.decode_value(bytes) {
            drop(Event::decode_value(value));
        }
    }
    drop(serde_json::from_slice::<Event>(bytes));
    drop(rmp_serde::from_slice::<Event>(bytes));
}

fn golden_frames() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/frames");
    let mut frames = Vec::new();
    for file in fs::read_dir(folder).unwrap() {
        let value: Value = serde_json::from_slice(&fs::read(file.unwrap().path()).unwrap()).unwrap();
        for codec in Codec::ALL {
            frames.push(codec.encode(&value).unwrap().to_vec());
        }
    }
    frames
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        read_everything(&bytes);
    }

    #[test]
    fn mutated_golden_frames_never_panic(
        frame in prop::sample::select(golden_frames()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        do_cut in any::<bool>(),
    ) {
        let mut bytes = frame;
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if do_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read_everything(&bytes);
    }

    #[test]
    fn arbitrary_fields_never_panic(op in "hello|attach|send|resume|settings|token|ok|error|events|presence", fields in tree()) {
        let mut frame = json!({ "op": op, "ref": "1" });
        if let Value::Object(fields) = fields {
            frame.as_object_mut().unwrap().extend(fields);
        }
        for codec in Codec::ALL {
            read_everything(&codec.encode(&frame).unwrap());
        }
    }
}

/// Any JSON, with the keys of frames likely.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "new|@me|s_1|queue|resolved|json".prop_map(Value::from),
    ];
    let key = "session|id|content|mode|run|after|epoch|seq|events|event|type|token|answers|title|toolkits|details|ref|[a-z]{1,3}";
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(key, inner, 0..6).prop_map(Value::from_iter),
        ]
    })
}

fn refusal(frame: &str) -> FrameError {
    Codec::Json.decode_client(frame.as_bytes()).unwrap_err()
}

#[test]
fn what_is_no_object_is_fatal() {
    for text in [
        "",
        "{",
        "[]",
        "1",
        "null",
        "\"ping\"",
        "{}{}",
        "{\"op\":\"ping\",\"ref\":\"1\"} x",
        "\u{feff}{}",
        "{\"a\":1,\"a\":2}",
    ] {
        let error = refusal(text);
        assert!(error.fatal, "{text}");
        assert_eq!(error.code, ErrorCode::BadFrame, "{text}");
        assert_eq!(error.reference, None, "{text}");
    }
    assert!(
        Codec::Json
            .decode_client(b"{\"op\":\"\xff\",\"ref\":\"1\"}")
            .unwrap_err()
            .fatal
    );
}

/// Frame, the `ref` of the reply, its code, and how its message starts.
const REFUSED: &[(&str, Option<&str>, ErrorCode, &str)] = &[
    (r#"{"ref":"1"}"#, Some("1"), ErrorCode::Validation, "op: required"),
    (
        r#"{"op":7,"ref":"1"}"#,
        Some("1"),
        ErrorCode::Validation,
        "op: must be a string",
    ),
    (
        r#"{"op":"fly","ref":"1"}"#,
        Some("1"),
        ErrorCode::Unsupported,
        "op: not known",
    ),
    (r#"{"op":"fly"}"#, None, ErrorCode::Validation, "ref: required"),
    (
        r#"{"op":"ping","ref":1}"#,
        None,
        ErrorCode::Validation,
        "ref: must be a string",
    ),
    (
        r#"{"op":"ping","ref":null}"#,
        None,
        ErrorCode::Validation,
        "ref: must be a string",
    ),
    (
        r#"{"op":"ping","ref":""}"#,
        None,
        ErrorCode::Validation,
        "ref: ref must be 1 to 64",
    ),
    (
        r#"{"op":"detach","ref":"1"}"#,
        Some("1"),
        ErrorCode::Validation,
        "session: required",
    ),
    (
        r#"{"op":"detach","ref":"1","session":null}"#,
        Some("1"),
        ErrorCode::Validation,
        "session: expected",
    ),
    (
        r#"{"op":"detach","ref":"1","session":"a b"}"#,
        Some("1"),
        ErrorCode::Validation,
        "session: session id must be",
    ),
    (
        r#"{"op":"attach","ref":"1","session":""}"#,
        Some("1"),
        ErrorCode::Validation,
        "session: session id must be",
    ),
    (
        r#"{"op":"attach","ref":"1","session":"s","tail":-1}"#,
        Some("1"),
        ErrorCode::Validation,
        "tail: expected u32",
    ),
    (
        r#"{"op":"attach","ref":"1","session":"s","after":{"epoch":"e"}}"#,
        Some("1"),
        ErrorCode::Validation,
        "after: seq: required",
    ),
    (
        r#"{"op":"send","ref":"1","session":"s","id":"m","content":7}"#,
        Some("1"),
        ErrorCode::Validation,
        "content: expected a string or a list",
    ),
    (
        r#"{"op":"send","ref":"1","session":"s","id":"m","content":[{"type":"hologram"}]}"#,
        Some("1"),
        ErrorCode::Validation,
        "content: expected one of text, image",
    ),
    (
        r#"{"op":"send","ref":"1","session":"s","id":"m","content":"","mode":"shout"}"#,
        Some("1"),
        ErrorCode::Validation,
        "mode: the mode of send must be one of queue",
    ),
    (
        r#"{"op":"settings","ref":"1","session":"s","title":null}"#,
        Some("1"),
        ErrorCode::Validation,
        "title: expected",
    ),
    (
        r#"{"op":"resume","ref":"1","session":"s","answers":[{"interrupt":"i"}]}"#,
        Some("1"),
        ErrorCode::Validation,
        "answers: status: required",
    ),
];

#[test]
fn what_is_an_object_gets_a_reply() {
    for (frame, reference, code, text) in REFUSED.iter().copied() {
        for codec in Codec::ALL {
            let value: Value = serde_json::from_str(frame).unwrap();
            let error = codec.decode_client(&codec.encode(&value).unwrap()).unwrap_err();
            assert!(!error.fatal, "{frame}");
            assert_eq!(error.reference.as_ref().map(AsRef::as_ref), reference, "{frame}");
            assert_eq!(error.code, code, "{frame}");
            assert!(error.message.starts_with(text), "{frame}: {}", error.message);
        }
    }
}

#[test]
fn errors_never_repeat_what_was_sent() {
    let secret = "hunter2";
    let frames = [
        json!({ "op": "hello", "ref": "1", "token": { "token": secret } }),
        json!({ "op": "hello", "ref": "1", "client": secret }),
        json!({ "op": "hello", "ref": "1", "codec": secret }),
        json!({ "op": "token", "ref": "1", "token": [secret] }),
        json!({ "op": "send", "ref": "1", "session": "s", "id": "m", "content": { "text": secret } }),
        json!({ "op": "send", "ref": "1", "session": "s", "id": "m", "content": [{ "type": secret }] }),
        json!({ "op": "send", "ref": "1", "session": format!("{secret} "), "id": "m", "content": "" }),
        json!({ "op": "typing", "ref": "1", "session": "s", "on": secret }),
        json!({ "op": secret, "ref": "1" }),
        json!({ "op": "cancel", "ref": format!("{secret}\n"), "session": "s" }),
        json!([secret]),
        json!(secret),
    ];
    for frame in frames {
        for codec in Codec::ALL {
            let error = codec.decode_client(&codec.encode(&frame).unwrap()).unwrap_err();
            assert!(!format!("{error:?} {error}").contains(secret), "{frame}: {error:?}");
        }
    }
    let hello = Codec::Json
        .decode_client(br#"{"op":"hello","ref":"1","token":"hunter2"}"#)
        .unwrap();
    let update = Codec::Json
        .decode_client(br#"{"op":"token","ref":"1","token":"hunter2"}"#)
        .unwrap();
    assert!(!format!("{hello:?} {update:?}").contains(secret));
}

#[test]
fn null_and_unknown_fields_in_commands_are_ignored() {
    let with = r#"{"op":"cancel","ref":"1","session":"s","run":null,"later":{"x":[1]}}"#;
    let without = r#"{"op":"cancel","ref":"1","session":"s"}"#;
    assert_eq!(
        Codec::Json.decode_client(with.as_bytes()),
        Codec::Json.decode_client(without.as_bytes())
    );
    let with = r#"{"op":"send","ref":"1","session":"s","id":"m","content":"","mode":null,"run":{"model":null}}"#;
    let without = r#"{"op":"send","ref":"1","session":"s","id":"m","content":""}"#;
    assert_eq!(
        Codec::Json.decode_client(with.as_bytes()),
        Codec::Json.decode_client(without.as_bytes())
    );
}

/// `levels` lists within each other.
fn nested(codec: Codec, levels: usize) -> Vec<u8> {
    match codec {
        Codec::Json => ["[".repeat(levels), "]".repeat(levels)].concat().into_bytes(),
        Codec::Msgpack => {
            let mut bytes = vec![0x91; levels - 1];
            bytes.push(0x90);
            bytes
        }
    }
}

#[test]
fn nesting_is_bounded_in_both_codecs() {
    for codec in Codec::ALL.iter().copied() {
        for (levels, fits) in [
            (limits::DEPTH - 1, true),
            (limits::DEPTH, true),
            (limits::DEPTH + 1, false),
            (100_000, false),
        ] {
            let result = codec.decode_value(&nested(codec, levels));
            assert_eq!(result.is_ok(), fits, "{codec} {levels}: {result:?}");
        }
    }
}

#[test]
fn messagepack_that_json_has_no_word_for_is_malformed() {
    let cases: [(&str, &[u8]); 12] = [
        ("key twice", b"\x82\xa1a\x01\xa1a\x02"),
        ("number as key", b"\x81\x01\x02"),
        ("nil as key", b"\x81\xc0\x02"),
        ("map as key", b"\x81\x80\x02"),
        ("binary string", b"\x81\xa1a\xc4\x01x"),
        ("extension type", b"\x81\xa1a\xd4\x01x"),
        ("timestamp", b"\x81\xa1a\xd6\xff\x00\x00\x00\x00"),
        ("reserved byte", b"\xc1"),
        ("text that is not UTF-8", b"\x81\xa1a\xa1\xff"),
        ("not a number", b"\x81\xa1a\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"),
        ("infinity", b"\x81\xa1a\xca\x7f\x80\x00\x00"),
        ("bytes after the end", b"\x80\x80"),
    ];
    for (name, bytes) in cases {
        assert!(Codec::Msgpack.decode_value(bytes).is_err(), "{name}");
        assert!(Codec::Msgpack.decode_client(bytes).unwrap_err().fatal, "{name}");
    }
}

#[test]
fn declared_lengths_are_not_believed() {
    let cases: [&[u8]; 6] = [
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
        b"\xc9\xff\xff\xff\xff\x01",
        b"\x81\xa6events\xdd\xff\xff\xff\xff\x01",
    ];
    for bytes in cases {
        assert!(Codec::Msgpack.decode_client(bytes).unwrap_err().fatal, "{bytes:?}");
        assert!(rmp_serde::from_slice::<Event>(bytes).is_err());
    }
}

#[test]
fn a_message_of_the_longest_text_fits_a_frame() {
    for (character, escaped) in [
        ("a", "a"),
        ("\u{1f600}", "\u{1f600}"),
        ("\u{7f51}", "\\u7f51"),
        ("\n", "\\u000a"),
    ] {
        let text = escaped.repeat(limits::MESSAGE_CHARS);
        let frame = format!(r#"{{"op":"send","ref":"1","session":"s","id":"m","content":"{text}"}}"#);
        assert!(frame.len() < limits::FRAME_BYTES, "{character:?} {}", frame.len());
        let read = Codec::Json.decode_client(frame.as_bytes()).unwrap();
        assert!(Codec::Msgpack.encode(&read).unwrap().len() < limits::FRAME_BYTES);
    }
}
