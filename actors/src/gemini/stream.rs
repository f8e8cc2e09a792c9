//! Cuts the bytes of an answer into events, whatever framing the server chose.
//!
//! Google sends `data: {json}` and CRLF CRLF. Proxies and other servers send LF or CR, no space, comments, several data
//! lines for one event, bare JSON (in one line, pretty-printed, or as an array), a byte-order mark or a closing
//! `[DONE]`; all of that is read. Lines are split as bytes, so that a character cut in two by the network is whole again
//! before anybody decodes it. Nothing here knows what an event means.

const BYTE_ORDER_MARK: &[u8] = &[0xEF, 0xBB, 0xBF];
const END_MARK: &[u8] = b"[DONE]";

/// One event, or the line it comes in, is longer than its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of the stream is longer than {limit} bytes")]
pub(crate) struct TooLong {
    /// The bound in bytes.
    pub(crate) limit: usize,
}

/// Reads events from pieces of bytes; holds at most two events' worth of them.
#[derive(Debug)]
pub(crate) struct EventReader {
    limit: usize,
    /// Start of a line whose end has not come yet.
    line: Vec<u8>,
    /// The event that is being put together: JSON values, one or several.
    data: Vec<u8>,
    bare: BareJson,
    /// The last line ended with CR: an LF that follows belongs to it.
    after_cr: bool,
    /// No line has ended yet: the byte-order mark may come.
    at_start: bool,
    /// `data` was handed out: the next call begins a new event.
    handed_out: bool,
    foreign_lines: bool,
}

impl EventReader {
    /// Makes a reader that takes events of up to `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            line: Vec::new(),
            data: Vec::new(),
            bare: BareJson::default(),
            after_cr: false,
            at_start: true,
            handed_out: false,
            foreign_lines: false,
        }
    }

    /// Returns the next event that is complete, as one or more JSON values behind each other, and advances `input` past
    /// it. `None`: all of `input` was taken, and more is needed.
    pub(crate) fn next_event(&mut self, input: &mut &[u8]) -> Result<Option<&[u8]>, TooLong> {
        self.begin();
        while let Some(&first) = input.first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                *input = input.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = memchr::memchr2(b'\n', b'\r', input) else {
                self.keep(input)?;
                *input = &[];
                break;
            };
            let (head, tail) = input.split_at(end);
            self.after_cr = tail.first() == Some(&b'\r');
            *input = tail.get(1..).unwrap_or_default();
            if self.end_line(head)? {
                self.handed_out = true;
                return Ok(Some(&self.data));
            }
        }
        Ok(None)
    }

    /// Returns what is left when the bytes have ended without a final empty line. It may be the front half of an event.
    pub(crate) fn finish(&mut self) -> Result<Option<&[u8]>, TooLong> {
        self.begin();
        self.end_line(&[])?;
        self.handed_out = true;
        Ok((!self.data.is_empty()).then_some(&self.data))
    }

    /// Whether lines came that belong to no event stream: a web page, plain text.
    pub(crate) fn saw_foreign_lines(&self) -> bool {
        self.foreign_lines
    }

    fn begin(&mut self) {
        if std::mem::take(&mut self.handed_out) {
            self.data.clear();
        }
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), TooLong> {
        if self.line.len() + bytes.len() > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        self.line.extend_from_slice(bytes);
        Ok(())
    }

    /// Takes the rest of a line; says whether `data` now holds an event.
    fn end_line(&mut self, rest: &[u8]) -> Result<bool, TooLong> {
        if self.line.is_empty() {
            return self.take_line(rest);
        }
        self.keep(rest)?;
        let mut line = std::mem::take(&mut self.line);
        let complete = self.take_line(&line);
        line.clear();
        self.line = line;
        complete
    }

    fn take_line(&mut self, mut line: &[u8]) -> Result<bool, TooLong> {
        if std::mem::take(&mut self.at_start) {
            line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        }
        let value = line.strip_prefix(b"data:");
        if self.bare.is_open() {
            if value.is_none() {
                return self.take_bare(line);
            }
            // A value that was broken off: no JSON goes on with `data:` at the start of a line.
            self.bare = BareJson::default();
            self.data.clear();
        }
        if let Some(value) = value {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if value.trim_ascii() != END_MARK {
                self.append(value)?;
            }
            return Ok(false);
        }
        match line.trim_ascii().first() {
            None => Ok(line.is_empty() && !self.data.is_empty()),
            Some(b':') => Ok(false),
            Some(b'{' | b'[' | b']' | b',') => self.take_bare(line),
            Some(_) => {
                self.foreign_lines |= !is_other_field(line);
                Ok(false)
            }
        }
    }

    fn append(&mut self, value: &[u8]) -> Result<(), TooLong> {
        if self.data.len() + value.len() >= self.limit {
            return Err(TooLong { limit: self.limit });
        }
        if !self.data.is_empty() {
            self.data.push(b'\n');
        }
        self.data.extend_from_slice(value);
        Ok(())
    }

    fn take_bare(&mut self, line: &[u8]) -> Result<bool, TooLong> {
        if self.data.len() + line.len() >= self.limit {
            return Err(TooLong { limit: self.limit });
        }
        if !self.data.is_empty() {
            self.data.push(b'\n');
        }
        for &byte in line {
            if self.bare.takes(byte) {
                self.data.push(byte);
            }
        }
        Ok(!self.bare.is_open() && !self.data.is_empty())
    }
}

fn is_other_field(line: &[u8]) -> bool {
    [&b"event"[..], b"id", b"retry", b"data"].iter().any(|name| {
        line.strip_prefix(*name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b":"))
    })
}

/// Finds the objects in JSON that comes without a frame, by counting braces outside strings.
#[derive(Debug, Default)]
struct BareJson {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl BareJson {
    fn is_open(&self) -> bool {
        self.depth > 0
    }

    /// Says whether `byte` is part of an object; what is between objects (the array round them) is not.
    fn takes(&mut self, byte: u8) -> bool {
        if self.depth == 0 {
            if byte == b'{' {
                self.depth = 1;
            }
            return byte == b'{';
        }
        if self.in_string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_string = false,
                _ => {}
            }
            return true;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' => self.depth += 1,
            b'}' => self.depth -= 1,
            _ => {}
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Feeds `pieces` and returns all JSON values of all events; what is no JSON becomes a string of its bytes.
    fn read(pieces: &[&[u8]], limit: usize) -> Result<Vec<Value>, TooLong> {
        let mut reader = EventReader::new(limit);
        let mut values = Vec::new();
        for piece in pieces {
            let mut rest = *piece;
            while let Some(event) = reader.next_event(&mut rest)? {
                parse(event, &mut values);
            }
            assert!(rest.is_empty(), "all input is taken");
        }
        if let Some(event) = reader.finish()? {
            parse(event, &mut values);
        }
        Ok(values)
    }

    fn parse(event: &[u8], values: &mut Vec<Value>) {
        for value in serde_json::Deserializer::from_slice(event).into_iter::<Value>() {
            values.push(value.unwrap_or_else(|_| json!(String::from_utf8_lossy(event))));
        }
    }

    fn whole(text: &str) -> Vec<Value> {
        read(&[text.as_bytes()], 1024).unwrap()
    }

    #[test]
    fn google_framing_and_its_variants_give_the_same_events() {
        let expected = vec![json!({"a": 1}), json!({"b": "x"})];
        for text in [
            "data: {\"a\": 1}\r\n\r\ndata: {\"b\": \"x\"}\r\n\r\n",
            "data: {\"a\": 1}\n\ndata: {\"b\": \"x\"}\n\n",
            "data: {\"a\": 1}\r\rdata: {\"b\": \"x\"}\r\r",
            "data:{\"a\": 1}\n\ndata:{\"b\": \"x\"}\n\n",
            "\u{feff}data: {\"a\": 1}\n\ndata: {\"b\": \"x\"}\n\n",
            ": hello\n\ndata: {\"a\": 1}\n\n:\n\ndata: {\"b\": \"x\"}\n\n",
            "event: message\nid: 7\nretry: 10\ndata: {\"a\": 1}\n\ndata\n\ndata: {\"b\": \"x\"}\n\n",
            "data: {\"a\":\ndata: 1}\n\ndata: {\ndata: \"b\": \"x\"\ndata: }\n\n",
            "data: {\"a\": 1}\n\ndata: {\"b\": \"x\"}\n\ndata: [DONE]\n\n",
            "data: {\"a\": 1}\ndata: {\"b\": \"x\"}\ndata: [DONE]\n\n",
            "data: {\"a\": 1}\n\ndata: {\"b\": \"x\"}",
            "data: {\"a\": 1}\n\ndata: {\"b\": \"x\"}\n",
            "{\"a\": 1}\n{\"b\": \"x\"}\n",
            "[{\"a\": 1},{\"b\": \"x\"}]",
            "\u{feff}[{\n  \"a\": 1\n}\n,\r\n{\n  \"b\": \"x\"\n}\n]\n",
            "data: {\"a\": 1}\n\n{\n  \"b\":\r\n\r\n \"x\"\n}",
            "{\"broken\": [\ndata: {\"a\": 1}\n\ndata: {\"b\": \"x\"}\n\n",
        ] {
            assert_eq!(whole(text), expected, "{text:?}");
        }
    }

    #[test]
    fn braces_and_escapes_within_strings_do_not_end_a_bare_value() {
        assert_eq!(whole("{\"a\": \"}{\\\"}\\\\\"}\n"), [json!({"a": "}{\"}\\"})]);
        assert_eq!(
            whole("data: {\"a\": \"\u{2028}\u{2029}\"}\n\n"),
            [json!({"a": "\u{2028}\u{2029}"})]
        );
    }

    #[test]
    fn a_page_is_told_from_a_stream() {
        let mut reader = EventReader::new(1024);
        let mut rest = &b"<html>\n<body>Bad gateway</body>\n"[..];
        assert_eq!(reader.next_event(&mut rest), Ok(None));
        assert_eq!(reader.finish(), Ok(None));
        assert!(reader.saw_foreign_lines());
    }

    #[test]
    fn an_event_is_bounded_in_one_line_in_many_lines_and_bare() {
        let fits = "x".repeat(80);
        for (prefix, suffix) in [("data: {\"a\":\"", "\"}\n\n"), ("{\"a\":\"", "\"}\n")] {
            assert_eq!(
                read(&[format!("{prefix}{fits}{suffix}").as_bytes()], 100)
                    .unwrap()
                    .len(),
                1
            );
            let large = format!("{prefix}{}{suffix}", "x".repeat(100));
            assert_eq!(read(&[large.as_bytes()], 100), Err(TooLong { limit: 100 }));
        }
        let many = format!("data: {fits}\n").repeat(2);
        assert_eq!(read(&[many.as_bytes()], 100), Err(TooLong { limit: 100 }));
        let endless = [b"x".as_slice(); 101];
        assert_eq!(read(&endless, 100), Err(TooLong { limit: 100 }));
        let many_small = "data: {\"a\":1}\n\n".repeat(100);
        assert_eq!(read(&[many_small.as_bytes()], 100).unwrap().len(), 100);
    }

    proptest! {
        #[test]
        fn any_split_of_the_bytes_gives_the_same_events(
            texts in prop::collection::vec("[a-zäß€🦀{}\\\\\"\\[\\],: ]{0,12}", 0..6),
            ends in prop::collection::vec(prop::sample::select(vec!["\n", "\r\n", "\r"]), 6),
            framed in prop::collection::vec(any::<bool>(), 6),
            mark in any::<bool>(),
            cuts in prop::collection::vec(0_usize..4096, 0..24),
        ) {
            let mut stream = String::from(if mark { "\u{feff}" } else { "" });
            let mut expected = Vec::new();
            for ((text, end), framed) in texts.iter().zip(&ends).zip(&framed) {
                let value = json!({"text": text});
                stream += &if *framed { format!("data: {value}{end}{end}") } else { format!("{value}{end}") };
                expected.push(value);
            }
            let bytes = stream.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut % (bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            prop_assert_eq!(read(&pieces, 1024).unwrap(), expected.clone());
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            prop_assert_eq!(read(&single, 1024).unwrap(), expected);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            read(&[&bytes], 64).ok();
        }
    }
}
