//! A small HTTP/1.1 client: one request, one connection. It shows status, headers and body as they came.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest an answer may take: above every time-out the server has in tests, below the 30 s after which a test is killed.
const LIMIT: Duration = Duration::from_secs(20);

/// An answer of the server.
#[derive(Debug, Clone)]
pub struct HttpReply {
    /// The status code.
    pub status: u16,
    /// The headers in order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, put together when it came in chunks.
    pub body: Vec<u8>,
}

impl HttpReply {
    /// Returns the first header called `name` (lower case).
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// Returns the body as text; bytes that are not UTF-8 show as `U+FFFD`.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Returns the body as JSON.
    ///
    /// # Panics
    /// When it is not JSON: with status and body.
    #[must_use]
    pub fn json(&self) -> Value {
        match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => panic!("HTTP {}: body is not JSON ({error}): {}", self.status, self.text()),
        }
    }

    /// Returns the body as JSON when the status is `status`.
    ///
    /// # Panics
    /// When it is another: with the body.
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "body: {}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }
}

/// Sends one request and reads the answer to its end. `path` starts with `/` and may have a query.
///
/// # Errors
/// The server cannot be reached, does not answer within 20 s, or does not speak HTTP.
pub async fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> anyhow::Result<HttpReply> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    let body = body.map(Value::to_string).unwrap_or_default();
    if !body.is_empty() {
        text.push_str(&format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        ));
    }
    text.push_str("\r\n");
    text.push_str(&body);
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.context("cannot connect")?;
        stream.write_all(text.as_bytes()).await.context("cannot send")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.context("cannot read")?;
        parse_reply(&answer)
    };
    timeout(LIMIT, exchange)
        .await
        .with_context(|| format!("no answer to {method} {path} within {LIMIT:?}"))?
}

/// Reads an answer that is there in full.
///
/// # Errors
/// It is not HTTP/1.1, or is not whole.
pub fn parse_reply(answer: &[u8]) -> anyhow::Result<HttpReply> {
    let end = find(answer, b"\r\n\r\n").context("the answer has no end of headers")?;
    let (head, rest) = answer.split_at(end);
    let head = std::str::from_utf8(head).context("the headers are not text")?;
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    ensure!(
        status_line.starts_with("HTTP/1.1 "),
        "not an HTTP/1.1 answer: {status_line:?}"
    );
    let status = status_line
        .split(' ')
        .nth(1)
        .unwrap_or_default()
        .parse()
        .context("no status code")?;
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = rest.get(4..).unwrap_or_default();
    let mut reply = HttpReply {
        status,
        headers,
        body: Vec::new(),
    };
    reply.body = match (reply.header("transfer-encoding"), reply.header("content-length")) {
        (Some("chunked"), _) => dechunk(rest)?,
        (None, Some(length)) => {
            let length: usize = length.parse().context("content-length is not a number")?;
            // A HEAD answer states a length and sends nothing.
            ensure!(
                rest.len() == length || rest.is_empty(),
                "{} bytes of body, announced {length}",
                rest.len()
            );
            rest.to_vec()
        }
        (Some(other), _) => bail!("transfer encoding {other} was not asked for"),
        (None, None) => rest.to_vec(),
    };
    Ok(reply)
}

fn dechunk(mut rest: &[u8]) -> anyhow::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n").context("a chunk has no size")?;
        let size = std::str::from_utf8(&rest[..end]).context("a chunk's size is not text")?;
        let size =
            usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).context("chunk size")?;
        if size == 0 {
            return Ok(body);
        }
        let start = end + 2;
        body.extend_from_slice(
            rest.get(start..start + size)
                .context("the body was cut off in a chunk")?,
        );
        rest = rest
            .get(start + size + 2..)
            .context("the body was cut off after a chunk")?;
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_with_a_length_is_read() {
        let reply = parse_reply(b"HTTP/1.1 201 Created\r\nX-A: b\r\ncontent-length: 7\r\n\r\n{\"a\":1}").unwrap();
        assert_eq!(reply.header("x-a"), Some("b"));
        assert_eq!(reply.expect(201)["a"], 1);
    }

    #[test]
    fn a_body_in_chunks_is_put_together() {
        let reply =
            parse_reply(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
                .unwrap();
        assert_eq!(reply.text(), "abcde");
    }

    #[test]
    fn a_body_that_was_cut_off_is_an_error() {
        assert!(parse_reply(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\"").is_err());
        assert!(parse_reply(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nabc").is_err());
        assert!(parse_reply(b"HTTP/1.1 200 OK").is_err());
    }
}
