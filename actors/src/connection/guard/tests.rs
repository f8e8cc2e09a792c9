//! The guard against a slow, obvious parser that sees all bytes at once.

use futures_util::{StreamExt, stream};
use proptest::{prelude::*, sample::Index};

use super::{super::body::HangUp, *};

const LIMIT: usize = 300;

/// Frames and verdict of a whole input.
#[derive(Debug, Default, PartialEq)]
struct Verdict {
    /// Opcode, final, body.
    frames: Vec<(u8, bool, Vec<u8>)>,
    code: Option<u16>,
    closed: bool,
}

/// RFC 6455 as prose: reads the input from the front, one rule after the other.
fn model(mut input: &[u8]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut open: Option<(u8, Vec<u8>)> = None;
    loop {
        match model_frame(&mut input, &open) {
            Err(code) => {
                verdict.code = code;
                return verdict;
            }
            Ok((opcode, last, body)) => {
                if opcode < 8 {
                    let (kind, mut all) = open.take().unwrap_or((opcode, Vec::new()));
                    all.extend(&body);
                    if last && kind == 1 && std::str::from_utf8(&all).is_err() {
                        verdict.code = Some(1007);
                        return verdict;
                    }
                    if !last {
                        open = Some((kind, all));
                    }
                }
                if opcode == 8 {
                    verdict.code = model_close(&body);
                    if verdict.code.is_some() {
                        return verdict;
                    }
                }
                verdict.frames.push((opcode, last, body));
                if opcode == 8 {
                    verdict.closed = true;
                    return verdict;
                }
            }
        }
    }
}

/// One frame; `Err(None)`: the input ends before it does.
fn model_frame(input: &mut &[u8], open: &Option<(u8, Vec<u8>)>) -> Result<(u8, bool, Vec<u8>), Option<u16>> {
    let bytes = *input;
    let first = *bytes.first().ok_or(None)?;
    let (last, opcode) = (first >= 0x80, first & 15);
    if first & 0x70 != 0 || ![0, 1, 2, 8, 9, 10].contains(&opcode) {
        return Err(Some(1002));
    }
    if (opcode >= 8 && !last) || (opcode == 0 && open.is_none()) || ((1..=2).contains(&opcode) && open.is_some()) {
        return Err(Some(1002));
    }
    let second = *bytes.get(1).ok_or(None)?;
    if second < 0x80 || (opcode >= 8 && second & 0x7F > 125) {
        return Err(Some(1002));
    }
    let (length, header) = match second & 0x7F {
        126 => {
            let length = u64::from(u16::from_be_bytes(bytes.get(2..4).ok_or(None)?.try_into().unwrap()));
            if length < 126 {
                return Err(Some(1002));
            }
            (length, 4)
        }
        127 => {
            let length = u64::from_be_bytes(bytes.get(2..10).ok_or(None)?.try_into().unwrap());
            if length < 65_536 || length >> 63 == 1 {
                return Err(Some(1002));
            }
            (length, 10)
        }
        short => (u64::from(short), 2),
    };
    let before = open.as_ref().map_or(0, |(_, all)| all.len());
    if opcode < 8 && before as u64 + length > LIMIT as u64 {
        return Err(Some(1009));
    }
    let length = length as usize;
    let mask = bytes.get(header..header + 4).ok_or(None)?;
    let there = &bytes[header + 4..bytes.len().min(header + 4 + length)];
    let body: Vec<u8> = there.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]).collect();
    let text = opcode == 1 || (opcode == 0 && open.as_ref().is_some_and(|(kind, _)| *kind == 1));
    if text {
        let mut all = open.as_ref().map_or(Vec::new(), |(_, all)| all.clone());
        all.extend(&body);
        if std::str::from_utf8(&all).is_err_and(|error| error.error_len().is_some()) {
            return Err(Some(1007));
        }
    }
    if body.len() < length {
        return Err(None);
    }
    *input = &bytes[header + 4 + length..];
    Ok((opcode, last, body))
}

fn model_close(body: &[u8]) -> Option<u16> {
    if body.len() == 1 {
        return Some(1002);
    }
    if body.is_empty() {
        return None;
    }
    let code = u16::from_be_bytes([body[0], body[1]]);
    let allowed = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014];
    if !allowed.contains(&code) && !(3000..5000).contains(&code) {
        return Some(1002);
    }
    std::str::from_utf8(&body[2..]).is_err().then_some(1007)
}

/// A correct, masked frame.
fn frame(opcode: u8, last: bool, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![opcode | if last { 0x80 } else { 0 }];
    match body.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        middle @ 126..=65_535 => {
            bytes.push(0x80 | 126);
            bytes.extend((middle as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    let mask = [0x11, 0xA2, 0x3C, 0xFE];
    bytes.extend(mask);
    bytes.extend(body.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
    bytes
}

/// What the guard makes of chunks, with an actor that handles each frame at once.
fn guarded(chunks: Vec<Vec<u8>>) -> Verdict {
    let link = Link::new(LIMIT, 1 << 20, HangUp::default());
    let input = stream::iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))));
    let mut guard = Guard::new(input, link.clone());
    let mut passed = Vec::new();
    futures_util::FutureExt::now_or_never(async {
        while let Some(part) = guard.next().await {
            passed.extend(part.unwrap());
            while !link.idle() {
                link.handle();
            }
        }
    })
    .expect("never waits");
    let mut verdict = Verdict::default();
    let mut rest = &passed[..];
    let mut open = None;
    while let Ok((opcode, last, body)) = model_frame(&mut rest, &open) {
        match (opcode, last) {
            (0..=2, false) => {
                let (kind, mut all): (u8, Vec<u8>) = open.take().unwrap_or((opcode, Vec::new()));
                all.extend(&body);
                open = Some((kind, all));
            }
            (0..=2, true) => open = None,
            _ => {}
        }
        verdict.closed = opcode == 8;
        verdict.frames.push((opcode, last, body));
    }
    verdict.code = match futures_util::FutureExt::now_or_never(super::super::link::Signals(link).next()) {
        Some(Some(super::super::link::Signal::Violation(code))) => Some(code.code()),
        _ => None,
    };
    verdict
}

fn code_of(bytes: &[u8]) -> Option<u16> {
    let verdict = guarded(vec![bytes.to_vec()]);
    assert_eq!(verdict, model(bytes), "{bytes:x?}");
    verdict.code
}

fn check(cases: Vec<(&str, Vec<u8>, Option<u16>)>) {
    for (name, bytes, code) in cases {
        assert_eq!(code_of(&bytes), code, "{name}");
    }
}

#[test]
fn each_rule_of_headers_has_its_code() {
    check(vec![
        ("reserved bit", vec![0xC1], Some(1002)),
        ("opcode 3", vec![0x83], Some(1002)),
        ("opcode 11", vec![0x8B], Some(1002)),
        ("fragmented ping", vec![0x09], Some(1002)),
        ("long ping", vec![0x89, 0xFE], Some(1002)),
        ("unmasked", vec![0x81, 0x05], Some(1002)),
        ("continuation of nothing", vec![0x80], Some(1002)),
        ("long form of 125", vec![0x82, 0xFE, 0, 125], Some(1002)),
        ("short form of 126", vec![0x82, 0xFE, 0, 126], None),
        (
            "longest form of 65535",
            vec![0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF],
            Some(1002),
        ),
        ("63 bits", vec![0x82, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0], Some(1009)),
        ("64 bits", vec![0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0], Some(1002)),
        ("at the limit", frame(2, true, &[7; LIMIT]), None),
        (
            "over the limit",
            frame(2, true, &[7; LIMIT + 1])[..4].to_vec(),
            Some(1009),
        ),
        (
            "text within text",
            [frame(1, false, b"a"), frame(1, true, b"b")].concat(),
            Some(1002),
        ),
        (
            "fragments over it",
            [frame(2, false, &[1; 200]), frame(0, false, &[1; 101])].concat(),
            Some(1009),
        ),
        (
            "fragments at it",
            [frame(2, false, &[1; 200]), frame(0, true, &[1; 100])].concat(),
            None,
        ),
    ]);
}

#[test]
fn each_rule_of_bodies_has_its_code() {
    let around_ping = [
        frame(1, false, b"\xE2"),
        frame(9, true, b"\xFF"),
        frame(0, true, b"\x82\xAC"),
    ]
    .concat();
    check(vec![
        (
            "bad text, still incomplete",
            frame(1, true, b"abc\xC0\x80defghi")[..12].to_vec(),
            Some(1007),
        ),
        (
            "text that ends in a character",
            frame(1, true, b"abc\xE2\x82"),
            Some(1007),
        ),
        ("the same as binary", frame(2, true, b"abc\xE2\x82"), None),
        (
            "character over fragments",
            [frame(1, false, b"\xE2\x82"), frame(0, true, b"\xAC")].concat(),
            None,
        ),
        ("character around a ping", around_ping, None),
        ("one byte of close", frame(8, true, &[3]), Some(1002)),
        ("close 1005", frame(8, true, &1005_u16.to_be_bytes()), Some(1002)),
        ("close 999", frame(8, true, &999_u16.to_be_bytes()), Some(1002)),
        ("close 4401", frame(8, true, &4401_u16.to_be_bytes()), None),
        ("close with a bad reason", frame(8, true, &[3, 0xE8, 0xFF]), Some(1007)),
    ]);
}

#[test]
fn frames_before_the_bad_one_pass_and_nothing_after_a_close() {
    let verdict = guarded(vec![
        [frame(1, true, b"one"), vec![0x83], frame(1, true, b"two")].concat(),
    ]);
    assert_eq!((verdict.frames.len(), verdict.code), (1, Some(1002)));
    let verdict = guarded(vec![
        [frame(8, true, &[3, 0xE8]), vec![0x83]].concat(),
        frame(1, true, b"two"),
    ]);
    assert_eq!((verdict.frames.len(), verdict.code, verdict.closed), (1, None, true));
}

#[test]
fn a_new_limit_counts_from_the_next_header() {
    let mut reader = Reader::new();
    assert_eq!(reader.read(&frame(2, true, &[0; 10]), 10).end, None);
    assert_eq!(reader.read(&frame(2, true, &[0; 11]), 11).end, None);
    assert_eq!(
        reader.read(&frame(2, true, &[0; 11])[..2], 10).end,
        Some(End::Violation(CloseCode::TooLarge))
    );
}

#[test]
fn nothing_more_is_read_while_frames_wait_for_the_actor() {
    let link = Link::new(LIMIT, 1 << 20, HangUp::default());
    let chunks = stream::iter([
        Ok(Bytes::from(frame(9, true, b""))),
        Ok(Bytes::from(frame(9, true, b""))),
    ]);
    let mut guard = Guard::new(chunks, link.clone());
    let mut next = || futures_util::FutureExt::now_or_never(guard.next());
    assert!(matches!(next(), Some(Some(Ok(_)))));
    assert!(next().is_none());
    link.handle();
    assert!(matches!(next(), Some(Some(Ok(_)))));
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let text = "[aé€😀]{0,40}".prop_map(String::into_bytes);
    let body = prop_oneof![4 => text, 1 => prop::collection::vec(any::<u8>(), 0..140)];
    let opcode = prop_oneof![4 => 0_u8..3, 2 => 8_u8..11, 1 => 0_u8..16];
    let close = (990_u16..1020, "[a€]{0,4}")
        .prop_map(|(code, reason)| frame(8, true, &[&code.to_be_bytes()[..], reason.as_bytes()].concat()));
    let usual = (opcode, any::<bool>(), body).prop_map(|(opcode, last, body)| frame(opcode, last || opcode > 7, &body));
    prop_oneof![12 => usual, 1 => close]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_splitting_gives_the_verdict_of_the_model(
        frames in prop::collection::vec(any_frame(), 0..8),
        flips in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let mut bytes = frames.concat();
        for (at, with) in flips {
            if !bytes.is_empty() {
                let at = at.index(bytes.len());
                bytes[at] ^= with;
            }
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|pair| bytes[pair[0]..pair[1]].to_vec()).collect();
        prop_assert_eq!(guarded(chunks), model(&bytes));
    }
}
