//! Ids, cursors, codes and close codes at their bounds.

use std::collections::BTreeSet;

use kronos_protocol::close::is_valid_received;
use kronos_protocol::*;

#[test]
fn plain_ids_have_up_to_64_bytes_of_visible_ascii() {
    for length in [1, 63, 64] {
        SessionId::try_from("x".repeat(length)).unwrap();
    }
    assert_eq!(SessionId::try_from("").unwrap_err().problem, IdProblem::Empty);
    assert_eq!(
        SessionId::try_from("x".repeat(65)).unwrap_err().problem,
        IdProblem::TooLong { length: 65 }
    );
    for text in ["a b", "a\"", "a'", "a\\", "a\u{7f}", "a\n", "é", "\u{1f600}"] {
        assert_eq!(
            RunId::try_from(text).unwrap_err().problem,
            IdProblem::Character,
            "{text:?}"
        );
    }
    for text in ["@me", "thr_01k6f3", "a/b:c?d#e", "<script>", "0192-8f3e"] {
        assert_eq!(SessionId::try_from(text).unwrap().as_str(), text);
    }
    assert_eq!(SessionId::try_from("new").unwrap_err().problem, IdProblem::Reserved);
    RunId::try_from("new").unwrap();
}

#[test]
fn free_ids_are_counted_in_characters() {
    for length in [1, 127, 128] {
        MessageId::try_from("é".repeat(length)).unwrap();
    }
    assert_eq!(
        MessageId::try_from("é".repeat(129)).unwrap_err().problem,
        IdProblem::TooLong { length: 129 }
    );
    for length in [1, 63, 64] {
        Ref::try_from("\u{1f600}".repeat(length)).unwrap();
    }
    assert_eq!(
        Ref::try_from("x".repeat(65)).unwrap_err().problem,
        IdProblem::TooLong { length: 65 }
    );
    assert_eq!(Ref::try_from("a\u{0}").unwrap_err().problem, IdProblem::Character);
    assert_eq!(Ref::try_from("a \"b\"").unwrap().as_str(), "a \"b\"");
}

#[test]
fn an_id_error_says_what_and_how_long() {
    let error = serde_json::from_str::<SessionId>(&format!("{:?}", "x".repeat(65)))
        .unwrap_err()
        .to_string();
    assert!(error.contains("session id") && error.contains("64"), "{error}");
}

#[test]
fn only_the_alias_is_the_feed() {
    assert!(SessionId::try_from(SessionId::FEED).unwrap().is_feed_alias());
    assert!(!SessionId::try_from("@me2").unwrap().is_feed_alias());
    assert_eq!(
        AttachTarget::of(SessionId::try_from("@me").unwrap()),
        AttachTarget::Feed
    );
}

#[test]
fn a_cursor_is_an_epoch_and_a_number() {
    for text in ["e_1:0", "e:1:18446744073709551615", "a:b:7"] {
        assert_eq!(text.parse::<Cursor>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "e_1",
        "e_1:",
        ":1",
        "e_1:-1",
        "e_1:x",
        "e 1:1",
        "e_1:18446744073709551616",
    ] {
        assert!(text.parse::<Cursor>().is_err(), "{text}");
    }
}

#[test]
fn every_word_reads_as_it_is_written() {
    for code in ErrorCode::ALL.iter().copied() {
        assert_eq!(code.as_str().parse(), Ok(code));
        assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        assert_eq!(WireError::of(code, "").retry, code.retry());
    }
    for code in RunErrorCode::ALL.iter().copied() {
        assert_eq!(code.as_str().parse(), Ok(code));
    }
    for kind in EventKind::ALL.iter().copied() {
        assert_eq!(kind.as_str().parse(), Ok(kind));
    }
    assert_eq!(EventKind::ALL.len(), 31);
    assert_eq!(ErrorCode::ALL.len(), 18);
    let error = "nope".parse::<ErrorCode>().unwrap_err();
    assert!(error.to_string().contains("validation, unsupported") && !error.to_string().contains("nope"));
}

#[test]
fn subprotocols_name_the_codecs() {
    for (codec, name) in Codec::ALL.iter().copied().zip(Codec::SUBPROTOCOLS) {
        assert_eq!(codec.subprotocol(), name);
        assert_eq!(Codec::from_subprotocol(name), Some(codec));
        assert_eq!(name, format!("kronos.v{PROTOCOL_VERSION}.{codec}"));
    }
    for name in ["", "kronos.v1", "kronos.v2.json", "KRONOS.V1.JSON", "json"] {
        assert_eq!(Codec::from_subprotocol(name), None);
    }
}

#[test]
fn close_codes_are_distinct_and_may_travel() {
    let codes: BTreeSet<_> = CloseCode::ALL.iter().map(|code| code.code()).collect();
    let names: BTreeSet<_> = CloseCode::ALL.iter().map(|code| code.as_str()).collect();
    assert_eq!(
        codes.iter().copied().collect::<Vec<_>>(),
        [
            1000, 1001, 1002, 1003, 1007, 1009, 1011, 1012, 1013, 4400, 4401, 4403, 4408, 4409, 4429, 4450
        ]
    );
    assert_eq!(names.len(), codes.len());
    for code in CloseCode::ALL.iter().copied() {
        assert!(is_valid_received(code.code()));
        assert_eq!(CloseCode::from_code(code.code()), Some(code));
    }
    assert_eq!(CloseCode::from_code(1005), None);
}

#[test]
fn codes_that_never_travel_are_refused() {
    for code in [
        0,
        1,
        999,
        1004,
        1005,
        1006,
        1015,
        1016,
        1999,
        2000,
        2999,
        5000,
        u16::MAX,
    ] {
        assert!(!is_valid_received(code), "{code}");
    }
    for code in [1000, 1003, 1007, 1008, 1010, 1014, 3000, 3999, 4000, 4999] {
        assert!(is_valid_received(code), "{code}");
    }
}

#[test]
fn a_close_reason_fits_its_frame_and_reads_back() {
    for retry in [true, false] {
        for after_ms in [None, Some(0), Some(1200), Some(u64::MAX)] {
            let reason = CloseReason { retry, after_ms };
            let text = reason.encode();
            assert!(text.len() <= limits::CLOSE_REASON_BYTES && text.len() <= 50, "{text}");
            assert_eq!(text, serde_json::to_string(&reason).unwrap());
            assert_eq!(CloseReason::decode(&text), Some(reason));
        }
    }
    assert_eq!(
        CloseReason {
            retry: true,
            after_ms: Some(1200)
        }
        .encode(),
        r#"{"retry":true,"after_ms":1200}"#
    );
    assert_eq!(CloseReason::decode("going away"), None);
}

#[test]
fn text_of_a_message_is_that_of_its_text_parts() {
    assert_eq!(UserContent::from("é").text(), "é");
    assert_eq!(UserContent::from("éa").text_chars(), 2);
    let source = Source::Url {
        value: "https://example.org".to_owned(),
        mime_type: None,
    };
    let image = ContentPart::Image { source, metadata: None };
    let parts = UserContent::from(vec![ContentPart::from_text("a"), image, ContentPart::from_text("é")]);
    assert_eq!(parts.text(), "aé");
    assert_eq!(parts.text_chars(), 2);
}
