//! A websocket peer that may break every rule: for tests of RFC 6455.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The key of the example in RFC 6455, section 1.3; the server must answer it with [`ACCEPT`].
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// What a correct server answers to [`KEY`].
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// Largest answer to a handshake, in bytes.
const HEAD: usize = 16_384;

/// Opcodes of RFC 6455, section 5.2.
pub mod opcode {
    /// Goes on with a fragmented message.
    pub const CONTINUATION: u8 = 0;
    /// UTF-8 text.
    pub const TEXT: u8 = 1;
    /// Bytes.
    pub const BINARY: u8 = 2;
    /// The end.
    pub const CLOSE: u8 = 8;
    /// Asks for a pong.
    pub const PING: u8 = 9;
    /// Answers a ping.
    pub const PONG: u8 = 10;
}

/// A frame as it is to be sent, right or wrong.
#[derive(Debug, Clone)]
pub struct RawFrame {
    /// Whether it is the last of its message.
    pub fin: bool,
    /// The three reserved bits, 0 to 7.
    pub rsv: u8,
    /// The opcode, 0 to 15.
    pub opcode: u8,
    /// Whether it is masked, as everything from a client must be.
    pub masked: bool,
    /// The length to declare, when it is not that of the payload.
    pub declared: Option<u64>,
    /// What is sent.
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// Returns a correct frame of a client: final, masked, its true length.
    #[must_use]
    pub fn new(opcode: u8, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode,
            masked: true,
            declared: None,
            payload: payload.into(),
        }
    }

    /// Returns a correct text frame of a client.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::new(opcode::TEXT, text)
    }

    /// Returns the close frame with `code` and `reason`.
    #[must_use]
    pub fn close(code: u16, reason: &str) -> Self {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        Self::new(opcode::CLOSE, payload)
    }

    /// Returns it as a part of a message that goes on.
    #[must_use]
    pub fn not_final(mut self) -> Self {
        self.fin = false;
        self
    }

    /// Returns it with the reserved bits `rsv`.
    #[must_use]
    pub fn with_rsv(mut self, rsv: u8) -> Self {
        self.rsv = rsv;
        self
    }

    /// Returns it without a mask.
    #[must_use]
    pub fn unmasked(mut self) -> Self {
        self.masked = false;
        self
    }

    /// Returns it with a length that is not that of its payload.
    #[must_use]
    pub fn declaring(mut self, length: u64) -> Self {
        self.declared = Some(length);
        self
    }

    /// Returns its bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let length = self.declared.unwrap_or(self.payload.len() as u64);
        let mask_bit = if self.masked { 0x80 } else { 0 };
        let mut bytes = vec![(u8::from(self.fin) << 7) | ((self.rsv & 7) << 4) | (self.opcode & 15)];
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..=125), _) => bytes.push(mask_bit | short),
            (_, Ok(middle)) => {
                bytes.push(mask_bit | 126);
                bytes.extend_from_slice(&middle.to_be_bytes());
            }
            (_, Err(_)) => {
                bytes.push(mask_bit | 127);
                bytes.extend_from_slice(&length.to_be_bytes());
            }
        }
        if self.masked {
            bytes.extend_from_slice(&MASK);
            bytes.extend(
                self.payload
                    .iter()
                    .zip(MASK.iter().cycle())
                    .map(|(byte, mask)| byte ^ mask),
            );
        } else {
            bytes.extend_from_slice(&self.payload);
        }
        bytes
    }
}

/// A frame that the server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedFrame {
    /// Whether it is the last of its message.
    pub fin: bool,
    /// The three reserved bits.
    pub rsv: u8,
    /// The opcode.
    pub opcode: u8,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl ReceivedFrame {
    /// Returns code and reason of a close frame; `None` for any other, and for a close frame without a code.
    #[must_use]
    pub fn close(&self) -> Option<(u16, String)> {
        let (code, reason) = self
            .payload
            .split_first_chunk::<2>()
            .filter(|_| self.opcode == opcode::CLOSE)?;
        Some((u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned()))
    }
}

/// The answer to a handshake.
#[derive(Debug, Clone)]
pub struct Handshake {
    /// The status; 101 when the websocket is open.
    pub status: u16,
    /// The headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// What of a refusal's body has come with the headers.
    pub body: String,
}

impl Handshake {
    /// Returns the first header called `name` (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// A TCP connection that speaks websocket as far as the test wants it to.
#[derive(Debug)]
pub struct RawWs {
    stream: TcpStream,
    read: Vec<u8>,
    limit: Duration,
}

impl RawWs {
    /// Connects without sending anything. `limit` bounds every later wait.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub async fn connect(address: SocketAddr, limit: Duration) -> anyhow::Result<Self> {
        let stream = timeout(limit, TcpStream::connect(address)).await.context("connect")??;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            read: Vec::new(),
            limit,
        })
    }

    /// Connects and shakes hands at `path` with the usual headers and `extra`.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or accepts with a wrong key.
    pub async fn open(
        address: SocketAddr,
        path: &str,
        extra: &[(&str, &str)],
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let mut socket = Self::connect(address, limit).await?;
        let host = address.to_string();
        let mut headers = vec![
            ("Host", host.as_str()),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", KEY),
            ("Sec-WebSocket-Version", "13"),
        ];
        headers.extend_from_slice(extra);
        let answer = socket.handshake(path, &headers).await?;
        ensure!(answer.status == 101, "refused with {}: {}", answer.status, answer.body);
        ensure!(
            answer.header("sec-websocket-accept") == Some(ACCEPT),
            "wrong accept key"
        );
        Ok(socket)
    }

    /// Sends a GET with exactly these headers and reads the answer's head, whatever it is.
    ///
    /// # Errors
    /// No answer within the limit, or not an HTTP answer.
    pub async fn handshake(&mut self, path: &str, headers: &[(&str, &str)]) -> anyhow::Result<Handshake> {
        let mut text = format!("GET {path} HTTP/1.1\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        self.send_bytes(text.as_bytes()).await?;
        let end = loop {
            if let Some(end) = self.read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            ensure!(self.read.len() <= HEAD, "the head of the answer has no end");
            ensure!(
                self.fill().await?,
                "closed before an answer: {:?}",
                String::from_utf8_lossy(&self.read)
            );
        };
        let head = String::from_utf8(self.read.drain(..end).collect()).context("the head is not text")?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
        let status = status.parse().with_context(|| format!("no status in {head:?}"))?;
        let headers = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let body = if status == 101 {
            String::new()
        } else {
            String::from_utf8_lossy(&self.read).into_owned()
        };
        Ok(Handshake { status, headers, body })
    }

    /// Sends a frame.
    ///
    /// # Errors
    /// The connection is gone, or the server takes nothing within the limit.
    pub async fn send(&mut self, frame: &RawFrame) -> anyhow::Result<()> {
        self.send_bytes(&frame.encode()).await
    }

    /// Sends bytes that need not be frames.
    ///
    /// # Errors
    /// As [`RawWs::send`].
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        timeout(self.limit, self.stream.write_all(bytes))
            .await
            .context("send")?
            .context("send")
    }

    /// Reads the next frame; `None` when the server closed the connection cleanly between two frames.
    ///
    /// # Errors
    /// Nothing comes within the limit, the connection is cut, or the server masks a frame, which it must not.
    pub async fn next_frame(&mut self) -> anyhow::Result<Option<ReceivedFrame>> {
        loop {
            if let Some((frame, used)) = decode(&self.read)? {
                self.read.drain(..used);
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                ensure!(self.read.is_empty(), "the connection ended within a frame");
                return Ok(None);
            }
        }
    }

    /// Reads on until the server closes, and returns code and reason; the code is 1005 when the close frame has none.
    /// Frames before it are skipped.
    ///
    /// # Errors
    /// The connection ends without a close frame, or nothing comes within the limit.
    pub async fn close_code(&mut self) -> anyhow::Result<(u16, String)> {
        loop {
            match self.next_frame().await? {
                Some(frame) if frame.opcode == opcode::CLOSE => {
                    return Ok(frame.close().unwrap_or((1005, String::new())));
                }
                Some(_) => {}
                None => bail!("the connection ended without a close frame"),
            }
        }
    }

    /// Reads on until the server closes with `code`; returns the reason.
    ///
    /// # Panics
    /// When it closes with another one, or not at all.
    pub async fn expect_close(&mut self, code: u16) -> String {
        match self.close_code().await {
            Ok((found, reason)) => {
                assert_eq!(found, code, "close code; reason {reason:?}");
                reason
            }
            Err(error) => panic!("expected close {code}: {error:#}"),
        }
    }

    /// Reads on until the server has closed the TCP connection, whatever it sends before.
    ///
    /// # Errors
    /// It is still open after the limit.
    pub async fn expect_eof(&mut self) -> anyhow::Result<()> {
        loop {
            self.read.clear();
            match self.fill().await {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(error) if error.is::<std::io::Error>() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the TCP connection away, for tests of what lies below: half-close, a small receive buffer.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.stream
    }

    async fn fill(&mut self) -> anyhow::Result<bool> {
        let mut buffer = [0; 8192];
        let read = timeout(self.limit, self.stream.read(&mut buffer))
            .await
            .with_context(|| format!("nothing within {:?}", self.limit))??;
        self.read.extend_from_slice(buffer.get(..read).unwrap_or_default());
        Ok(read > 0)
    }
}

fn decode(bytes: &[u8]) -> anyhow::Result<Option<(ReceivedFrame, usize)>> {
    let Some(([first, second], rest)) = bytes.split_first_chunk::<2>() else {
        return Ok(None);
    };
    ensure!(second & 0x80 == 0, "the server masked a frame");
    let (length, header) = match second & 0x7f {
        126 => match rest.first_chunk::<2>() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 4),
            None => return Ok(None),
        },
        127 => match rest.first_chunk::<8>() {
            Some(length) => (u64::from_be_bytes(*length), 10),
            None => return Ok(None),
        },
        short => (u64::from(short), 2),
    };
    let end = header + usize::try_from(length).context("a frame larger than memory")?;
    let Some(payload) = bytes.get(header..end) else {
        return Ok(None);
    };
    let frame = ReceivedFrame {
        fin: first & 0x80 != 0,
        rsv: (first >> 4) & 7,
        opcode: first & 15,
        payload: payload.to_vec(),
    };
    Ok(Some((frame, end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_rfc_is_encoded_bit_by_bit() {
        // RFC 6455, section 5.7.
        assert_eq!(RawFrame::text("Hello").encode(), hex("818537fa213d7f9f4d5158"));
        assert_eq!(RawFrame::text("Hello").unmasked().encode(), hex("810548656c6c6f"));
        assert_eq!(RawFrame::text("Hel").unmasked().not_final().encode(), hex("010348656c"));
        assert_eq!(
            RawFrame::new(opcode::BINARY, vec![0; 256]).unmasked().encode()[..4],
            hex("827e0100")
        );
        assert_eq!(
            RawFrame::new(opcode::BINARY, vec![0; 65_536]).unmasked().encode()[..10],
            hex("827f0000000000010000")
        );
    }

    #[test]
    fn a_frame_may_lie_about_its_length_and_use_reserved_bits() {
        assert_eq!(
            RawFrame::text("a").unmasked().declaring(1 << 40).encode(),
            hex("817f000001000000000061")
        );
        assert_eq!(RawFrame::text("").unmasked().with_rsv(4).encode(), hex("c100"));
    }

    #[test]
    fn what_is_encoded_without_a_mask_is_decoded() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let bytes = RawFrame::new(opcode::BINARY, vec![7; length]).unmasked().encode();
            let (frame, used) = decode(&bytes).unwrap().unwrap();
            assert_eq!((frame.payload.len(), used), (length, bytes.len()));
            assert!(decode(&bytes[..bytes.len() - 1]).unwrap().is_none());
        }
        assert!(decode(&RawFrame::text("masked").encode()).is_err());
    }

    #[test]
    fn a_close_frame_tells_code_and_reason() {
        let bytes = RawFrame::close(4408, "slow").unmasked().encode();
        let (frame, _) = decode(&bytes).unwrap().unwrap();
        assert_eq!(frame.close(), Some((4408, "slow".to_owned())));
    }

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap())
            .collect()
    }
}
