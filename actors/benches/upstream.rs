//! What one event of an answer costs on its way from the socket to the session that asked.
//!
//! `cargo bench -p kronos-actors --bench upstream` prints times; for counts that no neighbour disturbs, run its binary under
//! `valgrind --tool=callgrind` with two numbers of events and divide the difference.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actix::prelude::*;
use kronos_actors::clock::Clock;
use kronos_actors::config::GeminiConfig;
use kronos_actors::gemini::{Content, GeminiRef, GeminiShared, GenerateRequest, GenerationEvent, Progress, Role};
use tokio::sync::oneshot;

/// Events of one answer, unless the first argument says otherwise.
const EVENTS: usize = 20_000;

/// Answers each request with `events` chunks of one event each, as fast as the socket takes them.
fn serve(listener: &TcpListener, events: usize) {
    let mut answer =
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for number in 0..=events {
        let (text, finish) = if number == events {
            ("", ",\"finishReason\":\"STOP\"")
        } else {
            ("some words of it ", "")
        };
        let event = format!(
            "data: {{\"candidates\":[{{\"content\":{{\"parts\":[{{\"text\":\"{text}\"}}],\"role\":\"model\"}},\"index\":0{finish}}}],\
             \"usageMetadata\":{{\"promptTokenCount\":8,\"candidatesTokenCount\":{number},\"totalTokenCount\":{number},\
             \"promptTokensDetails\":[{{\"modality\":\"TEXT\",\"tokenCount\":8}}],\"thoughtsTokenCount\":0}},\
             \"modelVersion\":\"gemini-3.8-flash\",\"responseId\":\"abcdefghijklmnop\"}}\r\n\r\n"
        );
        answer.extend(format!("{:x}\r\n{event}\r\n", event.len()).into_bytes());
    }
    answer.extend(b"0\r\n\r\n");
    for mut socket in listener.incoming().flatten() {
        if take_request(&mut socket) && socket.write_all(&answer).is_err() {
            break;
        }
    }
}

fn take_request(socket: &mut TcpStream) -> bool {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = socket.read(&mut buffer) {
        seen.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if seen.ends_with(b"}") {
            return true;
        }
    }
    false
}

#[derive(Debug, Default)]
struct Seen {
    deltas: usize,
    bytes: usize,
}

struct Sink {
    seen: Arc<Mutex<Seen>>,
    end: Option<oneshot::Sender<bool>>,
}

impl Actor for Sink {
    type Context = Context<Self>;
}

impl Handler<GenerationEvent> for Sink {
    type Result = ();

    fn handle(&mut self, event: GenerationEvent, _: &mut Self::Context) {
        match event.progress {
            Progress::Delta { text, .. } => {
                if let Ok(mut seen) = self.seen.lock() {
                    seen.deltas += 1;
                    seen.bytes += text.len();
                }
            }
            Progress::Finished(_) | Progress::Failed(_) => {
                let finished = matches!(event.progress, Progress::Finished(_));
                if let Some(end) = self.end.take() {
                    end.send(finished).ok();
                }
            }
            _ => {}
        }
    }
}

fn request() -> Option<GenerateRequest> {
    Some(GenerateRequest {
        run: "r_1".try_into().ok()?,
        session: "s_1".try_into().ok()?,
        user: "u_1".try_into().ok()?,
        model: None,
        system_prompt: None,
        notes: None,
        contents: vec![Content {
            role: Role::User,
            parts: vec![serde_json::json!({"text": "Hi"})],
        }],
        temperature: None,
        max_tokens: None,
        deadline: Clock::default().instant() + Duration::from_secs(600),
        response_schema: None,
        functions: Arc::default(),
        calling: kronos_actors::gemini::Calling::Auto,
        timeline: None,
    })
}

#[expect(clippy::print_stdout, reason = "a benchmark's result")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let events = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(EVENTS);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let base_url = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || serve(&listener, events));
    let config = GeminiConfig {
        base_url,
        api_key: Some("key".into()),
        ..GeminiConfig::default()
    };
    System::new().block_on(async move {
        let clock = Clock::default();
        let gemini = GeminiRef::start(GeminiShared::new(config, clock.clone())?);
        let seen = Arc::<Mutex<Seen>>::default();
        let (end, ended) = oneshot::channel();
        let sink = Sink {
            seen: Arc::clone(&seen),
            end: Some(end),
        };
        let request = request().ok_or("no ids")?;
        let began = clock.instant();
        let handle = gemini
            .generate(request, sink.start().recipient())
            .map_err(|failed| failed.message)?;
        let finished = ended.await?;
        let each = began.elapsed() / u32::try_from(events.max(1))?;
        println!(
            "{events} events, finished: {finished}, {each:?} each, {:?}",
            seen.lock()
        );
        handle.cancel();
        Ok(())
    })
}
