//! Frames of a websocket (RFC 6455), taken apart and put together without changing a byte.

use std::io::{self, Cursor};

use bytes::{Buf as _, Bytes, BytesMut};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Control, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};

/// Bytes of one message: more than any server of ours takes.
const LARGEST: usize = 64 * 1024 * 1024;

/// Which way frames go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From the client to the server: masked.
    Up,
    /// From the server to the client.
    Down,
}

/// One message as it came, or one control frame.
pub(super) struct Frames {
    bytes: Bytes,
    /// The message, without masks; `None`: a control frame.
    message: Option<Bytes>,
    opcode: OpCode,
    way: Way,
}

impl Frames {
    /// What came.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The message in it.
    pub(super) fn message(&self) -> Option<&[u8]> {
        self.message.as_deref()
    }

    /// Writes another message of the same kind.
    pub(super) fn write_instead(&self, other: Bytes, out: &mut Vec<u8>) -> io::Result<()> {
        let header = FrameHeader {
            opcode: self.opcode,
            // It hides nothing: between the proxy and the server nobody has to be fooled.
            mask: (self.way == Way::Up).then_some([0; 4]),
            ..FrameHeader::default()
        };
        Frame::from_payload(header, other).format(out).map_err(io::Error::other)
    }
}

/// The messages of one direction.
pub(super) struct Messages {
    way: Way,
    buffer: BytesMut,
    /// The frames so far of a message that is not complete, its text so far, and its kind.
    part: Option<(BytesMut, BytesMut, OpCode)>,
    closed: Option<Option<u16>>,
}

impl Messages {
    pub(super) fn new(way: Way, buffer: BytesMut) -> Self {
        Self {
            way,
            buffer,
            part: None,
            closed: None,
        }
    }

    /// Where what is read goes.
    pub(super) fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// The code of the close frame that came, if one did.
    pub(super) fn closed(&self) -> Option<Option<u16>> {
        self.closed
    }

    /// Returns the next message or control frame that is complete.
    ///
    /// # Errors
    /// What came is no frame, or a message is too large to be looked at.
    pub(super) fn next(&mut self) -> io::Result<Option<Frames>> {
        loop {
            let Some((bytes, header, payload)) = self.frame()? else {
                return Ok(None);
            };
            let way = self.way;
            if let OpCode::Control(control) = header.opcode {
                if control == Control::Close {
                    let code = payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    self.closed.get_or_insert(code);
                }
                return Ok(Some(Frames {
                    bytes,
                    message: None,
                    opcode: header.opcode,
                    way,
                }));
            }
            let (frames, text, opcode) = match self.part.take() {
                Some((mut frames, mut text, opcode)) => {
                    frames.extend_from_slice(&bytes);
                    text.extend_from_slice(&payload);
                    (frames, text, opcode)
                }
                None if header.is_final => {
                    return Ok(Some(Frames {
                        bytes,
                        message: Some(payload),
                        opcode: header.opcode,
                        way,
                    }));
                }
                None => (BytesMut::from(&*bytes), BytesMut::from(&*payload), header.opcode),
            };
            if text.len() > LARGEST {
                return Err(invalid("a message is too large"));
            }
            if header.is_final {
                return Ok(Some(Frames {
                    bytes: frames.freeze(),
                    message: Some(text.freeze()),
                    opcode,
                    way,
                }));
            }
            self.part = Some((frames, text, opcode));
        }
    }

    /// Takes a frame from the buffer: as it came, its header, its payload without the mask.
    fn frame(&mut self) -> io::Result<Option<(Bytes, FrameHeader, Bytes)>> {
        let mut cursor = Cursor::new(&self.buffer[..]);
        let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(io::Error::other)? else {
            return Ok(None);
        };
        let start = usize::try_from(cursor.position()).map_err(io::Error::other)?;
        let length = usize::try_from(length).map_err(io::Error::other)?;
        if length > LARGEST {
            return Err(invalid("a frame is too large"));
        }
        if self.buffer.len() < start + length {
            self.buffer.reserve(start + length - self.buffer.len());
            return Ok(None);
        }
        let bytes = self.buffer.split_to(start + length).freeze();
        let mut payload = bytes.clone();
        payload.advance(start);
        if let Some(mask) = header.mask {
            let plain = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
            payload = plain.collect();
        }
        Ok(Some((bytes, header, payload)))
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use tokio_tungstenite::tungstenite::protocol::frame::coding::Data;

    use super::*;

    fn frame(opcode: OpCode, is_final: bool, mask: Option<[u8; 4]>, text: &str) -> Vec<u8> {
        let header = FrameHeader {
            opcode,
            is_final,
            mask,
            ..FrameHeader::default()
        };
        let mut bytes = Vec::new();
        let frame = Frame::from_payload(header, Bytes::copy_from_slice(text.as_bytes()));
        frame.format(&mut bytes).unwrap();
        bytes
    }

    /// What comes out when the bytes arrive one by one: frames as they came, and messages.
    fn one_by_one(way: Way, bytes: &[u8]) -> (Vec<u8>, Vec<Option<String>>, Messages) {
        let mut messages = Messages::new(way, BytesMut::new());
        let (mut out, mut texts) = (Vec::new(), Vec::new());
        for byte in bytes {
            messages.buffer().extend_from_slice(&[*byte]);
            while let Some(frames) = messages.next().unwrap() {
                out.extend_from_slice(frames.bytes());
                let text = frames.message().map(|text| String::from_utf8(text.to_vec()).unwrap());
                texts.push(text);
            }
        }
        (out, texts, messages)
    }

    #[test]
    fn messages_are_seen_whole_and_passed_on_as_they_came() {
        let mask = Some([1, 2, 3, 4]);
        let long = "x".repeat(70_000);
        let bytes = [
            frame(OpCode::Data(Data::Text), true, mask, "one"),
            frame(OpCode::Data(Data::Text), false, mask, "t"),
            frame(OpCode::Control(Control::Ping), true, mask, "?"),
            frame(OpCode::Data(Data::Continue), false, mask, "w"),
            frame(OpCode::Data(Data::Continue), true, mask, "o"),
            frame(OpCode::Data(Data::Binary), true, mask, &long),
        ]
        .concat();
        let (out, texts, messages) = one_by_one(Way::Up, &bytes);
        let one_way: usize = out.len();
        assert_eq!(one_way, bytes.len());
        assert_eq!(
            texts,
            [Some("one".to_owned()), None, Some("two".to_owned()), Some(long)]
        );
        assert_eq!(messages.closed(), None);
    }

    #[test]
    fn a_close_frame_is_seen_with_its_code() {
        let mut bytes = vec![0x88, 4];
        bytes.extend_from_slice(&4409_u16.to_be_bytes());
        bytes.extend_from_slice(b"{}");
        let (out, texts, messages) = one_by_one(Way::Down, &bytes);
        assert_eq!((out, texts), (bytes, vec![None]));
        assert_eq!(messages.closed(), Some(Some(4409)));
        assert_eq!(one_by_one(Way::Down, &[0x88, 0]).2.closed(), Some(None));
    }

    #[test]
    fn what_is_sent_instead_can_be_read() {
        for way in [Way::Up, Way::Down] {
            let mut messages = Messages::new(
                way,
                BytesMut::from(&frame(OpCode::Data(Data::Text), true, None, "a")[..]),
            );
            let mut out = Vec::new();
            let frames = messages.next().unwrap().unwrap();
            frames.write_instead(Bytes::from_static(b"another"), &mut out).unwrap();
            assert_eq!(out[1] & 0x80 != 0, way == Way::Up, "masked when it goes up");
            assert_eq!(one_by_one(way, &out).1, [Some("another".to_owned())]);
        }
    }

    #[test]
    fn a_frame_of_a_size_that_nobody_sends_is_refused() {
        let mut bytes = vec![0x82, 127];
        bytes.extend_from_slice(&(LARGEST as u64 + 1).to_be_bytes());
        assert!(Messages::new(Way::Down, BytesMut::from(&bytes[..])).next().is_err());
    }
}
