//! One connection, byte by byte: for what a well-behaved client never does.

use std::{net::SocketAddr, time::Duration};

use kronos_testkit::{HttpReply, parse_reply};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Longest wait for anything: far above every time-out of these tests.
const LIMIT: Duration = Duration::from_secs(20);

/// An open connection.
pub(crate) struct Wire {
    stream: TcpStream,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("connects");
        Self {
            stream,
            read: Vec::new(),
        }
    }

    /// Sends bytes; a server that has closed already takes none.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let sent = timeout(LIMIT, self.stream.write_all(bytes.as_ref())).await;
        sent.expect("sends in time").is_ok()
    }

    /// Reads one answer with a length; the connection may go on.
    pub(crate) async fn answer(&mut self) -> HttpReply {
        timeout(LIMIT, async {
            loop {
                if let Some(reply) = self.take() {
                    return reply;
                }
                let mut bytes = [0; 4096];
                let count = self.stream.read(&mut bytes).await.expect("reads");
                assert!(count > 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
                self.read.extend_from_slice(&bytes[..count]);
            }
        })
        .await
        .expect("an answer in time")
    }

    fn take(&mut self) -> Option<HttpReply> {
        let head = self.read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&self.read[..head]).to_lowercase();
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        let end = head + length.expect("an answer with a length");
        if self.read.len() < end {
            return None;
        }
        let rest = self.read.split_off(end);
        let reply = parse_reply(&std::mem::replace(&mut self.read, rest)).expect("an answer");
        Some(reply)
    }

    /// Reads to the end and returns what came.
    pub(crate) async fn end(mut self) -> Vec<u8> {
        let reading = async {
            let mut rest = Vec::new();
            // Whether it is closed or reset, it is over.
            drop(self.stream.read_to_end(&mut rest).await);
            rest
        };
        let rest = timeout(LIMIT, reading).await.expect("it ends in time");
        [self.read, rest].concat()
    }

    /// The stream itself.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}
