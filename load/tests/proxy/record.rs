//! What the proxy records can be replayed, and no token is in it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use kronos_protocol::recording::{Header, Line, LinkState};
use kronos_protocol::{Codec, ServerFrame};
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::support::{Process, Run, Server, binary};

fn recordings(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

fn read(path: &Path) -> (Header, Vec<Line>) {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let header = lines.next().unwrap().parse().unwrap();
    (header, lines.map(|line| line.parse().unwrap()).collect())
}

/// The terminal client with pipes, and what it has written.
struct Chat {
    process: Process,
    out: Arc<Mutex<Vec<u8>>>,
}

impl Chat {
    fn start(url: &str) -> Self {
        let mut chat = Command::new(binary("kronos"))
            .args(["chat", "--url", url, "--user", "ann"])
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut pipe = chat.stdout.take().unwrap();
        let out = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&out);
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = pipe.read(&mut buffer) {
                to.lock().unwrap().extend_from_slice(&buffer[..read]);
            }
        });
        let process = Process(chat);
        Self { process, out }
    }

    fn ask(&mut self, question: &str, answer: &str) {
        let stdin = self.process.0.stdin.as_mut().unwrap();
        stdin.write_all(format!("{question}\n").as_bytes()).unwrap();
        while !String::from_utf8_lossy(&self.out.lock().unwrap()).contains(answer) {
            sleep(Duration::from_millis(20));
        }
    }

    fn end(mut self) {
        drop(self.process.0.stdin.take());
        assert!(self.process.0.wait().unwrap().success());
    }
}

#[test]
fn a_chat_that_was_recorded_replays_against_a_fresh_server_with_all_checks_green() {
    let server = Server::start(200);
    let folder = server.folder.path();
    let (mut proxy, url) = server.behind(&["record", "--output", "chat.kronosrec"]);
    let mut chat = Chat::start(&url);
    chat.ask("What is the capital of Japan?", "Tokyo");
    chat.ask("What is the capital of Italy?", "Rome");
    chat.end();
    proxy.signal("-INT");
    assert!(proxy.0.wait().unwrap().success());

    let (_, lines) = read(&folder.join("chat.kronosrec"));
    let links: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Link(link) => Some(link.link),
            _ => None,
        })
        .collect();
    assert_eq!(links, [LinkState::Open, LinkState::Closed]);

    let run = Run::of(folder, &["chat.kronosrec", "--spawn"]);
    assert_eq!(run.report["broken"], json!({}), "{}", run.text);
    assert_eq!(run.report["errors"], json!({}), "{}", run.text);
    assert!(run.count("completed") >= 1, "{}", run.text);
    assert_eq!(run.count("runs"), 2 * run.count("completed"), "{}", run.text);
    assert!([0, 98].contains(&run.code), "exit code {}: {}", run.code, run.text);
}

/// A client of one codec.
struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    codec: Codec,
    refs: usize,
}

impl Client {
    async fn connect(url: &str, codec: Codec) -> Self {
        let mut request = format!("{url}?user=ann").into_client_request().unwrap();
        let protocol = codec.subprotocol().parse().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", protocol);
        let (socket, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], codec.subprotocol());
        let mut client = Self { socket, codec, refs: 0 };
        client.send(json!({"op": "hello"})).await;
        client
    }

    async fn send(&mut self, mut frame: Value) {
        self.refs += 1;
        frame["ref"] = self.refs.to_string().into();
        let bytes = self.codec.encode(&frame).unwrap();
        let message = match self.codec {
            Codec::Json => Message::text(String::from_utf8(bytes.to_vec()).unwrap()),
            Codec::Msgpack => Message::Binary(bytes),
        };
        self.socket.send(message).await.unwrap();
    }

    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let message = self.socket.next().await.unwrap().unwrap();
            if !message.is_text() && !message.is_binary() {
                continue;
            }
            let frame: ServerFrame = self.codec.decode_server(&message.into_data()).unwrap();
            let frame = serde_json::to_value(&frame).unwrap();
            if wanted(&frame) {
                return frame;
            }
        }
    }

    async fn attach(&mut self, session: &str, after: Option<Value>) -> String {
        let mut attach = json!({"op": "attach", "session": session});
        if let Some(after) = after {
            attach["after"] = after;
        }
        self.send(attach).await;
        let reply = self.until(|frame| frame.get("epoch").is_some()).await;
        reply["session"].as_str().unwrap().to_owned()
    }

    /// Resets the connection.
    fn cut(self) {
        if let MaybeTlsStream::Plain(stream) = self.socket.get_ref() {
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

fn ended(frame: &Value) -> bool {
    let mut events = frame["events"].as_array().into_iter().flatten();
    events.any(|entry| entry["event"]["type"] == "RUN_FINISHED")
}

/// Waits until the recording has so many lines of a kind.
fn until_links(path: &Path, state: &str, count: usize) {
    let wanted = format!("\"link\":\"{state}\"");
    while fs::read_to_string(path).unwrap().matches(&wanted).count() < count {
        sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn several_devices_and_sessions_are_told_apart_and_a_killed_proxy_loses_nothing() {
    let server = Server::start(0);
    let output = server.folder.path().join("recordings");
    let (mut proxy, url) = server.behind(&["record", "--output", "recordings"]);
    let mut phone = Client::connect(&url, Codec::Json).await;
    let session = phone.attach("new", None).await;
    let mut laptop = Client::connect(&url, Codec::Msgpack).await;
    laptop.attach(&session, None).await;
    let say = |id: &str, session: &str| json!({"op": "send", "session": session, "id": id, "content": "hi"});
    phone.send(say("m_1", &session)).await;
    phone.until(ended).await;
    let last = laptop.until(ended).await;
    laptop.cut();
    let path = output.join(format!("{session}.kronosrec"));
    until_links(&path, "cut", 1);
    let mut laptop = Client::connect(&url, Codec::Msgpack).await;
    let seq = last["events"].as_array().unwrap().last().unwrap()["seq"].clone();
    laptop
        .attach(&session, Some(json!({"epoch": last["epoch"], "seq": seq})))
        .await;
    let other = laptop.attach("new", None).await;
    laptop.send(say("m_2", &other)).await;
    laptop.until(ended).await;
    laptop.send(json!({"op": "token", "token": "secret"})).await;
    laptop.socket.close(None).await.unwrap();
    until_links(&path, "closed", 1);
    proxy.0.kill().unwrap();

    assert_eq!(recordings(&output).len(), 2, "one for each session");
    let (header, lines) = read(&path);
    assert_eq!(header.session.as_str(), session);
    let links: Vec<_> = lines
        .iter()
        .filter_map(|line| match line {
            Line::Link(link) => Some((link.device.as_str(), link.link, link.codec)),
            _ => None,
        })
        .collect();
    let (json, msgpack) = (Some(Codec::Json), Some(Codec::Msgpack));
    assert_eq!(
        links,
        [
            ("1", LinkState::Open, json),
            ("2", LinkState::Open, msgpack),
            ("2", LinkState::Cut, None),
            ("2", LinkState::Open, msgpack),
            ("2", LinkState::Closed, None),
        ]
    );
    let sent = |lines: &[Line]| lines.iter().filter(|line| matches!(line, Line::Command(_))).count();
    assert_eq!(sent(&lines), 7, "hello and attach three times, and a message");
    for device in ["1", "2"] {
        let seen = lines.iter().filter_map(|line| match line {
            Line::Event(event) if event.device.as_ref().is_some_and(|name| name.as_str() == device) => Some(event.seq),
            _ => None,
        });
        assert_eq!(seen.max(), seq.as_u64(), "device {device}");
    }
    assert!(lines.windows(2).all(|pair| pair[0].at_ms() <= pair[1].at_ms()));
    let (_, lines) = read(&output.join(format!("{other}.kronosrec")));
    assert_eq!(sent(&lines), 3);
    for path in recordings(&output) {
        assert!(!fs::read_to_string(path).unwrap().contains("secret"));
    }
}
