//! Writes an answer to the connection: pace, framing, breaking off, and the report of how it ended.

use std::collections::VecDeque;
use std::io;

use actix_web::HttpResponse;
use actix_web::body::SizedStream;
use bytes::Bytes;
use futures_util::stream::{self, Stream};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep, sleep_until};

use crate::chunk::{Chunk, Content, Envelope, Used, merge};
use crate::directive::{Break, Directives, Framing};
use crate::error::{ApiError, JSON};
use crate::record::Ticket;

/// Bytes per write of the split framing.
const SPLIT: usize = 7;
/// Lets the connection write what it has before it is dropped, and a bare error arrive in a read of its own.
const FLUSH: Duration = Duration::from_millis(5);

/// An answer ready to be sent.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) envelope: Envelope,
    pub(crate) chunks: Vec<Chunk>,
    pub(crate) directives: Directives,
}

/// How the chunks are wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrapping {
    /// Server-sent events.
    Sse,
    /// One JSON array.
    Array,
    /// One JSON object, without streaming.
    Single,
}

/// What the writer does next.
#[derive(Debug)]
enum Step {
    Chunk(Chunk),
    /// Bytes, and when they are due.
    Bytes(Bytes, Duration),
    Break(Break, Duration),
}

struct Writer {
    steps: VecDeque<Step>,
    /// Writes of the current event.
    writes: VecDeque<Bytes>,
    envelope: Envelope,
    used: Used,
    framing: Framing,
    clock: bool,
    wrapping: Wrapping,
    model: String,
    first: bool,
    ended: bool,
    ticket: Ticket,
}

impl Reply {
    /// Starts the stream; the body reports to `ticket`.
    pub(crate) fn stream(self, wrapping: Wrapping, ticket: Ticket) -> HttpResponse {
        let media = if wrapping == Wrapping::Sse {
            "text/event-stream"
        } else {
            JSON
        };
        HttpResponse::Ok()
            .content_type(media)
            .streaming(self.body(wrapping, ticket))
    }

    /// Answers at once, after the time the answer takes.
    pub(crate) async fn send(mut self, mut ticket: Ticket) -> HttpResponse {
        let one = merge(&self.chunks);
        sleep_until(ticket.started() + one.due).await;
        match self.directives.broken {
            Some((_, Break::Error(status) | Break::RawError(status))) => {
                ticket.failed(status.to_string());
                return ApiError::status(status, &self.envelope.model).response(false);
            }
            Some((_, broken)) => {
                self.chunks = vec![one];
                self.directives.broken = Some((0, broken));
                return self.stream(Wrapping::Single, ticket);
            }
            None => {}
        }
        let mut used = Used::default();
        used.add(&one);
        let body = self.envelope.render(&one.content, used).unwrap_or_default().to_string();
        ticket.chunk_sent();
        ticket.completed();
        let size = body.len() as u64;
        // Sized, so that the answer carries its length like the real one.
        let body = SizedStream::new(size, stream::iter([Ok::<_, io::Error>(Bytes::from(body))]));
        HttpResponse::Ok().content_type(JSON).body(body)
    }

    fn body(self, wrapping: Wrapping, ticket: Ticket) -> impl Stream<Item = io::Result<Bytes>> + 'static {
        let (framing, clock) = (self.directives.framing, self.directives.clock);
        let broken = self
            .directives
            .broken
            .map(|(after, broken)| (after.min(self.chunks.len().saturating_sub(1)), broken));
        let mut chunks = self.chunks;
        let mut steps = VecDeque::new();
        match broken {
            Some((after, broken)) => {
                let next = chunks.get(after).cloned();
                let due = next.as_ref().map_or(Duration::ZERO, |chunk| chunk.due);
                let halves = broken == Break::Cut || (broken == Break::Stall && wrapping == Wrapping::Single);
                let half = next
                    .filter(|_| halves)
                    .map(|chunk| self.envelope.half(&chunk, wrapping));
                chunks.truncate(after);
                steps.extend(chunks.into_iter().map(Step::Chunk));
                steps.extend(half.map(|half| Step::Bytes(half, due)));
                steps.push_back(Step::Break(broken, due));
            }
            None => {
                steps.extend(chunks.into_iter().map(Step::Chunk));
                let done = Bytes::from_static(b"data: [DONE]\r\n\r\n");
                steps.extend((framing == Framing::Done).then_some(Step::Bytes(done, Duration::ZERO)));
            }
        }
        let model = self.envelope.model.clone();
        let writer = Writer {
            steps,
            writes: VecDeque::new(),
            envelope: self.envelope,
            used: Used::default(),
            framing,
            clock,
            wrapping,
            model,
            first: true,
            ended: false,
            ticket,
        };
        stream::unfold(writer, |mut writer| async move {
            writer.next().await.map(|item| (item, writer))
        })
    }
}

impl Envelope {
    /// The first half of a chunk.
    fn half(&self, chunk: &Chunk, wrapping: Wrapping) -> Bytes {
        let mut used = Used::default();
        used.add(chunk);
        let text = self.render(&chunk.content, used).unwrap_or_default().to_string();
        let prefix = if wrapping == Wrapping::Sse { "data: " } else { "" };
        let middle = text.len() / 2;
        Bytes::from([prefix.as_bytes(), &text.as_bytes()[..middle]].concat())
    }
}

impl Writer {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        if let Some(bytes) = self.writes.pop_front() {
            // Gives the connection the chance to write each piece by itself.
            tokio::task::yield_now().await;
            return Some(Ok(bytes));
        }
        if self.ended {
            return None;
        }
        let Some(step) = self.steps.pop_front() else {
            return self.finish();
        };
        match step {
            Step::Chunk(mut chunk) => {
                sleep_until(self.ticket.started() + chunk.due).await;
                if self.clock {
                    chunk.tell_time();
                }
                self.used.add(&chunk);
                let bytes = self.frame(&chunk.content);
                self.ticket.chunk_sent();
                if self.steps.is_empty() && self.wrapping != Wrapping::Array {
                    self.ticket.completed();
                }
                Some(Ok(bytes))
            }
            Step::Bytes(bytes, due) => {
                sleep_until(self.ticket.started() + due).await;
                Some(Ok(bytes))
            }
            Step::Break(broken, due) => {
                sleep_until(self.ticket.started() + due).await;
                self.break_off(broken).await
            }
        }
    }

    fn finish(&mut self) -> Option<io::Result<Bytes>> {
        self.ended = true;
        self.ticket.completed();
        let close = if self.first { "[]" } else { "\r\n]" };
        (self.wrapping == Wrapping::Array).then(|| Ok(Bytes::from_static(close.as_bytes())))
    }

    async fn break_off(&mut self, broken: Break) -> Option<io::Result<Bytes>> {
        self.ended = true;
        sleep(FLUSH).await;
        match broken {
            Break::Stall => std::future::pending().await,
            Break::CleanEnd => {
                self.ticket.failed("truncate-clean");
                None
            }
            Break::Cut | Break::Drop => {
                self.ticket
                    .failed(if broken == Break::Cut { "cut" } else { "truncate" });
                Some(Err(io::Error::other("dropped on purpose")))
            }
            Break::Error(status) => {
                self.ticket.failed(format!("midstream {status}"));
                let error = ApiError::status(status, &self.model).body;
                Some(Ok(self.event(&error)))
            }
            Break::RawError(status) => {
                self.ticket.failed(format!("midstream-raw {status}"));
                let error = ApiError::status(status, &self.model).body;
                let pretty = serde_json::to_string_pretty(&error).unwrap_or_default();
                Some(Ok(Bytes::from(format!("{pretty}\r\n"))))
            }
            Break::Garbage => {
                self.ticket.failed("garbage");
                Some(Ok(Bytes::from_static(
                    b"data: {\"candidates\": [{\"content\"<<<\xff\xfe not json\r\n\r\n",
                )))
            }
        }
    }

    /// Frames a chunk; what does not fit into the first write is queued.
    fn frame(&mut self, content: &Content) -> Bytes {
        let bytes = match (self.envelope.render(content, self.used), content) {
            (Some(value), _) => self.event(&value),
            (None, Content::Raw(raw)) => Bytes::from(raw.clone()),
            (None, _) => Bytes::new(),
        };
        if self.framing != Framing::Split {
            return bytes;
        }
        self.writes
            .extend(bytes.chunks(SPLIT).map(|piece| bytes.slice_ref(piece)));
        self.writes.pop_front().unwrap_or_default()
    }

    fn event(&mut self, value: &Value) -> Bytes {
        let json = value.to_string();
        let first = std::mem::replace(&mut self.first, false);
        let text = match self.wrapping {
            Wrapping::Array if first => format!("[{json}"),
            Wrapping::Array => format!(",\r\n{json}"),
            Wrapping::Single => json,
            Wrapping::Sse => match self.framing {
                Framing::Lf => format!("data: {json}\n\n"),
                Framing::NoSpace => format!("data:{json}\r\n\r\n"),
                Framing::EventLine if first => format!("event: message\r\ndata: {json}\r\n\r\n"),
                Framing::Comment if first => format!("data: {json}\r\n\r\n: keep-alive\r\n\r\n"),
                Framing::Crlf
                | Framing::Split
                | Framing::Comment
                | Framing::Done
                | Framing::EventLine
                | Framing::LineSeparator => format!("data: {json}\r\n\r\n"),
            },
        };
        Bytes::from(text)
    }
}

/// Adds the separators that the `sse-u2028` framing puts into a text.
pub(crate) fn with_separators(text: &str) -> Value {
    json!({"text": format!("{text}\u{2028}\u{2029}")})
}
