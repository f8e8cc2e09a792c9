//! Checks every frame of the peer by RFC 6455 before a byte of its body is kept.
//!
//! actix-web-actors looks at a frame's size only when the whole frame is buffered, takes what the RFC forbids (long
//! forms of short lengths, invalid close codes), does not check text over fragments, reads on however much is already
//! waiting, and closes without a code. So the guard stands in front of it: what passes is correct and within the limit;
//! at the first byte that is not, the frames before it still pass, the code for the close frame goes to the actor, and
//! the rest of the input is thrown away until the peer closes. The guard knows nothing about what a message means.

use std::{
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_http::error::PayloadError;
use bytes::Bytes;
use futures_util::Stream;
use kronos_protocol::close::{CloseCode, is_valid_received};

use super::{link::Link, utf8::Utf8};

/// Most bytes of a control frame (RFC 6455, section 5.5).
const CONTROL_BYTES: usize = 125;
/// Longest header: two bytes, eight of length, four of mask.
const HEADER_BYTES: usize = 14;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PONG: u8 = 10;

/// The guarded payload of one websocket.
pub(super) struct Guard<S> {
    inner: S,
    link: Rc<Link>,
    reader: Reader,
    /// Nothing passes any more.
    over: bool,
}

impl<S> Guard<S> {
    pub(super) fn new(inner: S, link: Rc<Link>) -> Self {
        Self {
            inner,
            link,
            reader: Reader::new(),
            over: false,
        }
    }

    /// Checks a chunk and returns what of it may pass.
    fn check(&mut self, mut chunk: Bytes) -> Bytes {
        let reading = self.reader.read(&chunk, self.link.limit());
        self.link.pass(reading.frames);
        if let Some(end) = reading.end {
            self.over = true;
            chunk.truncate(reading.whole);
            if let End::Violation(code) = end {
                self.link.violate(code);
            }
        }
        chunk
    }
}

impl<S> Stream for Guard<S>
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin,
{
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        // The reader behind polls again after every frame it hands over, so nobody has to wake it for this.
        if !this.over && !this.link.idle() {
            return Poll::Pending;
        }
        loop {
            if this.link.is_violated() {
                cx.waker().wake_by_ref();
            }
            match Pin::new(&mut this.inner).poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                // A broken connection is an ended one: nobody is left to be told.
                Poll::Ready(None | Some(Err(_))) => return Poll::Ready(None),
                Poll::Ready(Some(Ok(chunk))) => {
                    this.link.hear();
                    if this.over {
                        continue;
                    }
                    let passed = this.check(chunk);
                    if !passed.is_empty() {
                        return Poll::Ready(Some(Ok(passed)));
                    }
                }
            }
        }
    }
}

/// Why nothing passes any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The peer has sent its close frame, and it was correct.
    Closed,
    /// The peer broke a rule; close with this code.
    Violation(CloseCode),
}

/// What one chunk brought.
#[derive(Debug, PartialEq, Eq)]
struct Reading {
    /// Frames that were completed.
    frames: u64,
    /// Where the last of them ends in the chunk; 0 when there is none.
    whole: usize,
    /// Set once; nothing may be read after it.
    end: Option<End>,
}

/// The parser: bytes in, verdict out, the same however the bytes are cut.
struct Reader {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that are there.
    have: usize,
    /// Bytes it will have, as far as is known.
    need: usize,
    /// The frame whose body is being read.
    body: Option<Body>,
    /// The message whose frames are being read.
    message: Option<Message>,
    /// The body of a close frame.
    close: Vec<u8>,
}

struct Body {
    opcode: u8,
    last: bool,
    left: usize,
    mask: [u8; 4],
    at: usize,
}

struct Message {
    bytes: usize,
    /// Set for text.
    text: Option<Utf8>,
}

const fn broken() -> End {
    End::Violation(CloseCode::Protocol)
}

impl Reader {
    fn new() -> Self {
        Self {
            header: [0; HEADER_BYTES],
            have: 0,
            need: 2,
            body: None,
            message: None,
            close: Vec::new(),
        }
    }

    fn read(&mut self, chunk: &[u8], limit: usize) -> Reading {
        let mut reading = Reading {
            frames: 0,
            whole: 0,
            end: None,
        };
        let mut rest = chunk;
        let end = loop {
            match self.step(&mut rest, limit) {
                Ok(Progress::Starved) => return reading,
                Ok(Progress::Going) => {}
                Ok(Progress::Frame) => {
                    reading.frames += 1;
                    reading.whole = chunk.len() - rest.len();
                }
                Ok(Progress::Closed) => {
                    reading.frames += 1;
                    reading.whole = chunk.len() - rest.len();
                    break End::Closed;
                }
                Err(end) => break end,
            }
        };
        reading.end = Some(end);
        reading
    }

    /// Takes a byte of a header, or as much as there is of a body.
    fn step(&mut self, rest: &mut &[u8], limit: usize) -> Result<Progress, End> {
        if let Some(body) = &mut self.body {
            if body.left > 0 {
                let (part, after) = rest.split_at(rest.len().min(body.left));
                if part.is_empty() {
                    return Ok(Progress::Starved);
                }
                *rest = after;
                return self.take(part).map(|()| Progress::Going);
            }
            return self.finish();
        }
        let Some((byte, after)) = rest.split_first() else {
            return Ok(Progress::Starved);
        };
        *rest = after;
        if let Some(slot) = self.header.get_mut(self.have) {
            *slot = *byte;
        }
        self.have += 1;
        self.check_header(limit)?;
        if self.have > 2 && self.have == self.need {
            self.begin();
        }
        Ok(Progress::Going)
    }

    /// Checks what the newest byte of the header decided.
    fn check_header(&mut self, limit: usize) -> Result<(), End> {
        match self.have {
            1 => self.check_first(),
            2 => {
                let [_, second, ..] = self.header;
                if second & 0x80 == 0 || (self.is_control() && usize::from(second & 0x7F) > CONTROL_BYTES) {
                    return Err(broken());
                }
                self.need = 6 + self.extension();
                self.check_length(limit)
            }
            _ => self.check_length(limit),
        }
    }

    fn check_first(&self) -> Result<(), End> {
        let [first, ..] = self.header;
        let known = matches!(first & 0x0F, CONTINUATION..=BINARY | CLOSE..=PONG);
        let reserved = first & 0x70 != 0;
        let cut_control = self.is_control() && first & 0x80 == 0;
        let continues = first & 0x0F == CONTINUATION;
        if !known || reserved || cut_control || (!self.is_control() && continues != self.message.is_some()) {
            return Err(broken());
        }
        Ok(())
    }

    fn is_control(&self) -> bool {
        self.header[0] & 0x08 != 0
    }

    /// Bytes of the length beyond the second byte.
    fn extension(&self) -> usize {
        match self.header[1] & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        }
    }

    /// Checks the length once it is there: shortest form, below 2^63, within the limit together with what came before.
    fn check_length(&self, limit: usize) -> Result<(), End> {
        let extension = self.extension();
        if self.have != 2 + extension {
            return Ok(());
        }
        let length = self.length();
        let shortest = match extension {
            0 => true,
            2 => length > 125,
            _ => length > u64::from(u16::MAX) && length <= i64::MAX.unsigned_abs(),
        };
        if !shortest {
            return Err(broken());
        }
        let before = self.message.as_ref().map_or(0, |message| message.bytes);
        let room = u64::try_from(limit.saturating_sub(before)).unwrap_or(u64::MAX);
        if !self.is_control() && length > room {
            return Err(End::Violation(CloseCode::TooLarge));
        }
        Ok(())
    }

    fn length(&self) -> u64 {
        let extension = self.extension();
        if extension == 0 {
            return u64::from(self.header[1] & 0x7F);
        }
        let digits = self.header.iter().skip(2).take(extension);
        digits.fold(0, |length, byte| (length << 8) | u64::from(*byte))
    }

    /// Goes from a complete header to its body.
    fn begin(&mut self) {
        let [first, ..] = self.header;
        let opcode = first & 0x0F;
        let mut mask = [0; 4];
        for (to, from) in mask.iter_mut().zip(self.header.iter().skip(self.need - 4)) {
            *to = *from;
        }
        // Within the limit, or a control frame: fits.
        let left = usize::try_from(self.length()).unwrap_or(usize::MAX);
        if matches!(opcode, TEXT | BINARY) {
            self.message = Some(Message {
                bytes: 0,
                text: (opcode == TEXT).then(Utf8::new),
            });
        }
        if opcode <= BINARY
            && let Some(message) = &mut self.message
        {
            message.bytes = message.bytes.saturating_add(left);
        }
        self.body = Some(Body {
            opcode,
            last: first & 0x80 != 0,
            left,
            mask,
            at: 0,
        });
        (self.have, self.need) = (0, 2);
    }

    /// Takes a part of the body.
    fn take(&mut self, part: &[u8]) -> Result<(), End> {
        let Some(body) = &mut self.body else { return Ok(()) };
        let [a, b, c, d] = body.mask;
        let unmasked = part
            .iter()
            .zip([a, b, c, d].into_iter().cycle().skip(body.at))
            .map(|(byte, key)| byte ^ key);
        match (body.opcode, &mut self.message) {
            (CLOSE, _) => self.close.extend(unmasked),
            (TEXT | CONTINUATION, Some(Message { text: Some(text), .. })) => {
                for byte in unmasked {
                    if !text.push(byte) {
                        return Err(End::Violation(CloseCode::InvalidText));
                    }
                }
            }
            _ => {}
        }
        body.at = (body.at + part.len()) % 4;
        body.left -= part.len();
        Ok(())
    }

    /// Ends the frame whose body is complete.
    fn finish(&mut self) -> Result<Progress, End> {
        let Some(body) = self.body.take() else {
            return Ok(Progress::Going);
        };
        if body.opcode == CLOSE {
            return check_close(&self.close).map(|()| Progress::Closed);
        }
        if body.opcode <= BINARY
            && body.last
            && let Some(Message { text: Some(text), .. }) = self.message.take()
            && !text.complete()
        {
            return Err(End::Violation(CloseCode::InvalidText));
        }
        Ok(Progress::Frame)
    }
}

enum Progress {
    /// The chunk is used up.
    Starved,
    /// There may be more to do.
    Going,
    /// A frame is complete.
    Frame,
    /// A close frame is complete.
    Closed,
}

/// Checks the body of a close frame: nothing, or a code that may be sent and a reason in UTF-8.
fn check_close(body: &[u8]) -> Result<(), End> {
    match body {
        [] => Ok(()),
        [high, low, reason @ ..] => {
            if !is_valid_received(u16::from_be_bytes([*high, *low])) {
                return Err(broken());
            }
            if std::str::from_utf8(reason).is_err() {
                return Err(End::Violation(CloseCode::InvalidText));
            }
            Ok(())
        }
        [_] => Err(broken()),
    }
}

#[cfg(test)]
mod tests;
