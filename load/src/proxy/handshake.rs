//! The handshake of HTTP/1.1, passed on from one side to the other.

use anyhow::{bail, ensure};
use bytes::BytesMut;
use kronos_protocol::Codec;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Upstream;
use crate::stamps::find;

/// Bytes of the head of a request or of a reply.
const HEAD: usize = 64 * 1024;
/// What ends a head.
const END: &[u8] = b"\r\n\r\n";

/// What was opened.
pub(super) enum Opened {
    /// A websocket; with what came behind the heads: of the client, of the server.
    Websocket { codec: Codec, up: BytesMut, down: BytesMut },
    /// Something else: both heads were passed on, the rest is between the two.
    Other,
    /// The client left before it said anything.
    Nothing,
}

/// Passes on the request and the reply.
pub(super) async fn pass(
    client: &mut TcpStream,
    server: &mut TcpStream,
    upstream: &Upstream,
) -> anyhow::Result<Opened> {
    let mut request = BytesMut::new();
    let Some(end) = head(client, &mut request).await? else {
        return Ok(Opened::Nothing);
    };
    let up = request.split_off(end);
    let request = String::from_utf8_lossy(&request).into_owned();
    let websocket = header(&request, "upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
    server
        .write_all(rewritten(&request, upstream, websocket).as_bytes())
        .await?;
    if !websocket {
        server.write_all(&up).await?;
        return Ok(Opened::Other);
    }
    let mut reply = BytesMut::new();
    let Some(end) = head(server, &mut reply).await? else {
        bail!("the server ended the connection before it answered");
    };
    let down = reply.split_off(end);
    client.write_all(&reply).await?;
    let text = String::from_utf8_lossy(&reply);
    if text.split_whitespace().nth(1) != Some("101") {
        client.write_all(&down).await?;
        return Ok(Opened::Other);
    }
    let named = header(&text, "sec-websocket-protocol").and_then(Codec::from_subprotocol);
    let codec = named.unwrap_or_default();
    Ok(Opened::Websocket { codec, up, down })
}

/// Reads to the end of a head; `None` when nothing came at all.
async fn head(stream: &mut TcpStream, buffer: &mut BytesMut) -> anyhow::Result<Option<usize>> {
    loop {
        if let Some(at) = find(buffer, END) {
            return Ok(Some(at + END.len()));
        }
        ensure!(buffer.len() < HEAD, "a head of more than {HEAD} bytes");
        if stream.read_buf(buffer).await? == 0 {
            ensure!(buffer.is_empty(), "the connection ended in the middle of a head");
            return Ok(None);
        }
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let fields = head.lines().skip(1).filter_map(|line| line.split_once(':'));
    let mut found = fields.filter(|(field, _)| field.trim().eq_ignore_ascii_case(name));
    found.next().map(|(_, value)| value.trim())
}

/// The request as the server gets it: of its host, without the page that it comes from, and without extensions, which would change what
/// frames mean. A request that is not for a websocket asks for one reply: the next may be for one, and has to be looked at.
fn rewritten(request: &str, upstream: &Upstream, websocket: bool) -> String {
    let mut lines = request.trim_end().split("\r\n");
    let first = lines.next().unwrap_or_default();
    let path = format!(" {} ", upstream.path);
    let first = if websocket {
        first.replacen(" / ", &path, 1)
    } else {
        first.to_owned()
    };
    let left_out = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().trim();
        let out = ["host", "origin", "sec-websocket-extensions"];
        let connection = !websocket && name.eq_ignore_ascii_case("connection");
        connection || out.iter().any(|out| name.eq_ignore_ascii_case(out))
    };
    let mut head = format!("{first}\r\nHost: {}\r\n", upstream.authority);
    if !websocket {
        head.push_str("Connection: close\r\n");
    }
    for line in lines.filter(|line| !left_out(line)) {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream() -> Upstream {
        "ws://127.0.0.1:8000/ws".parse().unwrap()
    }

    #[test]
    fn a_websocket_keeps_what_counts_and_loses_its_origin() {
        let request = "GET /ws?ticket=t HTTP/1.1\r\nHost: 127.0.0.1:9000\r\nUpgrade: websocket\r\nOrigin: http://a\r\n\
            Authorization: Bearer x\r\nSec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: kronos.v1.msgpack\r\n\r\n";
        assert_eq!(
            rewritten(request, &upstream(), true),
            "GET /ws?ticket=t HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUpgrade: websocket\r\nAuthorization: Bearer x\r\n\
             Sec-WebSocket-Protocol: kronos.v1.msgpack\r\n\r\n"
        );
    }

    #[test]
    fn anything_else_is_asked_once() {
        let request = "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n";
        let expected = "GET / HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nConnection: close\r\n\r\n";
        assert_eq!(rewritten(request, &upstream(), false), expected);
    }

    #[test]
    fn an_upstream_has_a_port_and_a_path() {
        let parsed: Upstream = "ws://example.org".parse().unwrap();
        assert_eq!(
            (parsed.authority.as_str(), parsed.path.as_str()),
            ("example.org:80", "/ws")
        );
        assert!("wss://example.org".parse::<Upstream>().is_err());
    }
}
