//! The Gemini service: permits, deadlines, retries before the first token, streaming, cancel by drop.
//!
//! Owns the HTTP client, the permits, the circuit breaker, the model's configuration and its health. Knows nothing of
//! sessions' state and nothing of websockets.

use std::{fmt, sync::Arc};

use actix::{ArbiterHandle, dev::SendError, prelude::*};
use kronos_protocol::{
    error::RunErrorCode,
    ids::{RunId, SessionId, UserId},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

mod answer;
mod client;
mod exchange;
mod failure;
mod finish;
mod generation;
mod permits;
mod shared;
mod stream;
mod wire;

pub use client::GeminiConfigError;
pub use shared::{GeminiHealth, GeminiShared, GeminiStatus};

use failure::Failure;
use generation::Generation;

/// One answer to generate.
#[derive(Debug, Clone)]
pub struct GenerateRequest {
    /// The run that asks.
    pub run: RunId,
    /// Its session, for logs.
    pub session: SessionId,
    /// Its user, for the fair queue.
    pub user: UserId,
    /// `None`: the configured model.
    pub model: Option<String>,
    /// `None`: the configured system prompt, if any.
    pub system_prompt: Option<String>,
    /// The turns so far, oldest first; the last one is the user's. Each is a Gemini `Content` whose parts are raw JSON.
    pub contents: Vec<Content>,
    /// 0..2; `None`: the configured one, if any.
    pub temperature: Option<f64>,
    /// Tokens of the answer; `None`: the configured bound.
    pub max_tokens: Option<u32>,
    /// When the run must have ended.
    pub deadline: std::time::Instant,
}

/// One turn as Gemini reads it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Content {
    /// `user` or `model`.
    pub role: Role,
    /// Raw parts: what the model sent comes back unchanged, thought signatures included.
    pub parts: Vec<Value>,
}

/// Who speaks in a [`Content`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The person, and results of tools.
    User,
    /// The model.
    Model,
}

/// Tokens of one request so far, cumulative. Absent upstream fields are 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub prompt: u64,
    /// Of those, read from the cache.
    pub cached: u64,
    /// Tokens of the answer.
    pub answer: u64,
    /// Tokens of thinking, billed as output.
    pub thoughts: u64,
    /// All of them.
    pub total: u64,
}

/// What a generation tells the session that asked; sent one at a time, the next only when the last was handled.
#[derive(Debug, Clone, Message)]
#[rtype(result = "()")]
pub struct GenerationEvent {
    /// The run that asked.
    pub run: RunId,
    /// What happened.
    pub progress: Progress,
}

/// The steps of a generation. After `Finished` or `Failed` nothing more comes.
#[derive(Debug, Clone)]
pub enum Progress {
    /// The upstream accepted the request with this model.
    Started {
        /// The model that answers.
        model: String,
    },
    /// An attempt failed before anything was shown; the next starts after the pause.
    Retrying {
        /// The number of the attempt that comes, from 2.
        attempt: u32,
        /// Why the last one failed.
        code: RunErrorCode,
        /// The pause in milliseconds.
        after_ms: u64,
    },
    /// More text of the answer; never empty.
    Delta {
        /// The text.
        text: String,
        /// Tokens so far, when the chunk said so.
        usage: Option<Usage>,
    },
    /// More text of the model's thinking (only when it was asked to include it); never empty.
    Thought {
        /// The text.
        text: String,
    },
    /// The answer is complete.
    Finished(Finished),
    /// The generation failed; what was shown stays.
    Failed(Failed),
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Gemini's own word, for example `STOP` or `MAX_TOKENS`.
    pub finish_reason: String,
    /// The answer was cut off at the token bound: said to the user.
    pub truncated: bool,
    /// Tokens used.
    pub usage: Usage,
    /// The model's parts to send back in later turns: consecutive unsigned text merged, signed parts as they came.
    pub parts: Vec<Value>,
    /// What Gemini called the model.
    pub model: String,
    /// Gemini's id of the response, when it gave one.
    pub response_id: Option<String>,
}

/// A failed generation.
#[derive(Debug, Clone)]
pub struct Failed {
    /// The code that clients read.
    pub code: RunErrorCode,
    /// One sentence that a user understands; holds nothing of upstream's that is not safe to show.
    pub message: String,
    /// A later try may succeed.
    pub retryable: bool,
    /// When, in milliseconds, if known.
    pub after_ms: Option<u64>,
    /// HTTP status of the upstream, when it answered.
    pub upstream_status: Option<u16>,
    /// Gemini's finish or block reason, when that is what ended it.
    pub reason: Option<String>,
    /// Tokens used.
    pub usage: Usage,
    /// Attempts made.
    pub attempts: u32,
}

/// Starts that may wait in the mailbox, besides one for each [`GeminiRef`]: starting one takes microseconds, so that more
/// of them than this means that the core is stuck.
const MAILBOX: usize = 256;

/// The Gemini service of one core, with connections of its own. Each generation is a task of that core: what one of them
/// does or suffers touches neither this actor nor the others.
pub struct Gemini {
    shared: Arc<GeminiShared>,
    /// Absent if it could not be made, which was logged.
    client: Option<reqwest::Client>,
}

impl Actor for Gemini {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }
}

/// Starts a generation.
#[derive(Message)]
#[rtype(result = "()")]
struct Start {
    request: GenerateRequest,
    sink: Recipient<GenerationEvent>,
    cancel: CancellationToken,
}

impl Handler<Start> for Gemini {
    type Result = ();

    fn handle(&mut self, msg: Start, _: &mut Self::Context) {
        let Start { request, sink, cancel } = msg;
        let Some(client) = self.client.clone() else {
            let outlet = generation::Outlet { run: request.run, sink };
            actix::spawn(async move {
                let failed = Failure::internal().into_failed(Usage::default(), 0);
                // If the sink is gone, nobody is left to tell.
                drop(outlet.emit(Progress::Failed(failed)).await);
            });
            return;
        };
        let generation = Generation::new(Arc::clone(&self.shared), client, request, sink);
        let outlet = generation.outlet();
        actix::spawn(generation::guard(generation.run(), outlet, cancel));
    }
}

/// The Gemini service of one core, as others hold it. Each clone has one place in the mailbox for itself: whoever starts
/// generations keeps one clone, and makes none for each message.
#[derive(Clone)]
pub struct GeminiRef {
    address: Addr<Gemini>,
}

impl GeminiRef {
    /// Starts the service on the core of `arbiter`.
    #[must_use]
    pub fn start(arbiter: &ArbiterHandle, shared: Arc<GeminiShared>) -> Self {
        let address = Gemini::start_in_arbiter(arbiter, move |_| {
            let client = shared.endpoint.client();
            let client = client
                .inspect_err(|error| tracing::error!(%error, "gemini client cannot be made"))
                .ok();
            Gemini { shared, client }
        });
        Self { address }
    }

    /// Starts a generation; its events go to `sink` one at a time, the next only when the last was handled, and while
    /// one waits the upstream's answer is not read.
    ///
    /// The generation lives as long as the handle: drop it, and the upstream connection is closed at once, and no event
    /// follows. A generation whose sink is closed stops as well.
    ///
    /// # Errors
    /// The core takes no more (`overloaded`), or its service is gone (`internal`). Every other failure is an event.
    pub fn generate(
        &self,
        request: GenerateRequest,
        sink: Recipient<GenerationEvent>,
    ) -> Result<GenerationHandle, Failed> {
        let handle = GenerationHandle {
            cancel: CancellationToken::new(),
        };
        let start = Start {
            request,
            sink,
            cancel: handle.cancel.clone(),
        };
        match self.address.try_send(start) {
            Ok(()) => Ok(handle),
            Err(SendError::Full(_)) => Err(Failure::overloaded(BUSY_CORE).into_failed(Usage::default(), 0)),
            Err(SendError::Closed(_)) => Err(Failure::internal().into_failed(Usage::default(), 0)),
        }
    }
}

/// When to come back to a core that is stuck.
const BUSY_CORE: std::time::Duration = std::time::Duration::from_secs(1);

impl fmt::Debug for GeminiRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeminiRef")
            .field("connected", &self.address.connected())
            .finish()
    }
}

/// Keeps a generation going; dropping it cancels the generation.
#[derive(Debug)]
#[must_use = "a generation ends when its handle is dropped"]
pub struct GenerationHandle {
    cancel: CancellationToken,
}

impl GenerationHandle {
    /// Cancels the generation: its upstream connection is closed, and no event follows but one already on its way.
    pub fn cancel(self) {
        drop(self);
    }
}

impl Drop for GenerationHandle {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Default)]
    struct Sink(Arc<Mutex<Vec<GenerationEvent>>>);

    impl Actor for Sink {
        type Context = Context<Self>;
    }

    impl Handler<GenerationEvent> for Sink {
        type Result = ();
        fn handle(&mut self, event: GenerationEvent, _: &mut Self::Context) {
            self.0.lock().unwrap().push(event);
        }
    }

    #[actix::test]
    async fn a_panic_is_the_last_event() {
        let events = Arc::default();
        let sink = Sink(Arc::clone(&events)).start().recipient();
        let outlet = generation::Outlet {
            run: "r_1".try_into().unwrap(),
            sink,
        };
        generation::guard(async { panic!("bug") }, outlet, CancellationToken::new()).await;
        let events = events.lock().unwrap();
        assert!(
            matches!(&events[..], [GenerationEvent { progress: Progress::Failed(failed), .. }]
            if failed.code == RunErrorCode::Internal)
        );
    }

    #[actix::test]
    async fn a_cancelled_generation_is_dropped_at_once() {
        let events = Arc::default();
        let sink = Sink(Arc::clone(&events)).start().recipient();
        let outlet = generation::Outlet {
            run: "r_1".try_into().unwrap(),
            sink,
        };
        let cancel = CancellationToken::new();
        let handle = GenerationHandle { cancel: cancel.clone() };
        let endless = generation::guard(std::future::pending(), outlet, cancel);
        handle.cancel();
        endless.await;
        assert!(events.lock().unwrap().is_empty());
    }
}
