//! The Gemini service: permits, deadlines, retries before the first token, streaming, cancel by drop.
//!
//! Owns the HTTP client, the permits, the circuit breaker, the retry budget, the model's configuration and its health.
//! Knows nothing of sessions' state and nothing of websockets. When its actor panics it starts again with a new client, and
//! whoever waited for it is told: a generation ends with a last event, is cancelled, or was never accepted.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{dev::SendError, prelude::*};
use kronos_protocol::{
    error::RunErrorCode,
    ids::{RunId, SessionId, UserId},
};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tracing::Span;

mod answer;
mod client;
mod declare;
mod exchange;
mod failure;
mod finish;
mod function;
mod generation;
mod history;
mod metrics;
mod outlet;
mod probe;
mod schema;
mod shared;
mod stream;
mod timing;
mod typed;
mod wire;

pub use client::GeminiConfigError;
pub use function::{Calling, Function, FunctionCall, calls_of, function_response};
pub use probe::{GeminiProbe, Probed};
pub use shared::{GeminiHealth, GeminiShared, GeminiStatus};
pub use typed::{MALFORMED, TypedRequest};

use failure::Failure;
use generation::Generation;
use metrics::handles;
use outlet::Outlet;

use crate::{
    flight::Timeline,
    mailbox::{Mailbox, Queued},
    supervisor::{RestartPolicy, start_guarded},
    trace::Scope,
};

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
    /// What the model is told after the system prompt.
    pub notes: Option<String>,
    /// The turns so far, oldest first; the last one is the user's. Each is a Gemini `Content` whose parts are raw JSON.
    pub contents: Vec<Content>,
    /// 0..2; `None`: the configured one, if any.
    pub temperature: Option<f64>,
    /// Tokens of the answer; `None`: the configured bound.
    pub max_tokens: Option<u32>,
    /// When the run must have ended.
    pub deadline: std::time::Instant,
    /// The JSON schema that the answer is to have; `None`: free text.
    pub response_schema: Option<Arc<Value>>,
    /// What the model may call; empty: nothing is declared.
    pub functions: Arc<[Function]>,
    /// Whether it may or must call.
    pub calling: Calling,
    /// Where the flight recorder notes what it does.
    pub timeline: Option<Arc<Timeline>>,
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
    /// When the oldest chunk of the answer that is in it was read, if that is measured.
    pub read: Option<Instant>,
    /// When it was sent, if that is recorded.
    pub(crate) sent: Option<Instant>,
    /// Its place in the mailbox.
    pub(crate) queued: Queued,
}

impl GenerationEvent {
    /// An event on its way.
    pub(crate) fn new(run: RunId, progress: Progress) -> Self {
        Self {
            run,
            progress,
            read: None,
            sent: None,
            queued: Queued::new(Mailbox::Session),
        }
    }
}

/// The steps of a generation. After `Finished` or `Failed` nothing more comes.
#[derive(Debug, Clone)]
pub enum Progress {
    /// It has waited for its turn for a while, and goes on waiting.
    Waiting,
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
    /// The model asks for a call. Comes as soon as it was read, whole, in its order with the text; several may come in one
    /// answer, each once.
    ///
    /// It is news, not yet an order: an answer that was cut off at the token bound, or that fails, makes no calls. What is
    /// to be called is what [`calls_of`] finds in [`Finished::parts`].
    Call(FunctionCall),
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
    /// The model's parts to send back in later turns: consecutive unsigned text merged, calls and signed parts as they came.
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
    /// Gemini's finish or block reason, or the name of the bound that was reached, when that is what ended it.
    pub reason: Option<String>,
    /// Tokens used.
    pub usage: Usage,
    /// Attempts made.
    pub attempts: u32,
}

/// Starts that may wait in the mailbox, besides one for each [`GeminiRef`]: starting one takes microseconds, so that more
/// of them than this means that the core is stuck.
const MAILBOX: usize = 256;

/// The service never gives up: a panic was caused by one message, and the next may be sound. The window only bounds what
/// is remembered.
const NEVER_GIVE_UP: RestartPolicy = RestartPolicy {
    max_restarts: u32::MAX,
    window: Duration::from_secs(1),
};

/// The Gemini service of one core, with connections of its own. Each generation is a task of that core: what one of them
/// does or suffers touches neither this actor nor the others.
pub struct Gemini {
    shared: Arc<GeminiShared>,
    /// Absent if it could not be made, which was logged.
    client: Option<reqwest::Client>,
}

impl Gemini {
    fn new(shared: Arc<GeminiShared>) -> Self {
        let client = shared.endpoint.client();
        let client = client
            .inspect_err(|error| tracing::error!(%error, "gemini client cannot be made"))
            .ok();
        Self { shared, client }
    }
}

impl Actor for Gemini {
    type Context = Context<Self>;
}

impl Supervised for Gemini {
    /// Nothing of the old state is trusted; generations that run are tasks of their own and go on.
    fn restarting(&mut self, _: &mut Self::Context) {
        *self = Self::new(Arc::clone(&self.shared));
    }
}

/// Starts a generation. Dropped unhandled, for whatever reason, it has told its sink.
#[derive(Message)]
#[rtype(result = "()")]
struct Start {
    request: GenerateRequest,
    outlet: Outlet,
    caller: Caller,
}

/// Where whoever asks is.
struct Caller {
    span: Span,
    scope: Scope,
}

impl Handler<Start> for Gemini {
    type Result = ();

    fn handle(&mut self, msg: Start, _: &mut Self::Context) {
        let Start {
            request,
            mut outlet,
            caller,
        } = msg;
        #[cfg(test)]
        assert!(request.model.as_deref() != Some(tests::POISON_OF_THE_SERVICE), "a bomb");
        let Some(client) = self.client.clone() else {
            return outlet.end(Progress::Failed(Failure::internal().into_failed(Usage::default(), 0)));
        };
        let generation = Generation::new(Arc::clone(&self.shared), client, request, outlet, caller);
        actix::spawn(generation.run());
    }
}

/// Answered by a service that does what it is told.
#[derive(Message)]
#[rtype(result = "()")]
struct Observe;

impl Handler<Observe> for Gemini {
    type Result = ();

    fn handle(&mut self, _: Observe, _: &mut Self::Context) {}
}

/// The Gemini service of one core, as others hold it. Each clone has one place in the mailbox for itself: whoever starts
/// generations keeps one clone, and makes none for each message.
#[derive(Clone)]
pub struct GeminiRef {
    address: Addr<Gemini>,
}

impl GeminiRef {
    /// Starts the service on this thread's core, under guard.
    #[must_use]
    pub fn start(shared: Arc<GeminiShared>) -> Self {
        let clock = shared.clock.clone();
        let on_panic = || {
            handles().restarts.increment(1);
            tracing::error!("gemini service panicked and starts again");
        };
        let (address, _) = start_guarded(Gemini::new(shared), MAILBOX, NEVER_GIVE_UP, clock, on_panic, |exit| {
            tracing::debug!(?exit, "gemini service ended");
        });
        Self { address }
    }

    /// Waits until the service takes a message: it does what it is told. False when it is gone.
    pub async fn answers(&self) -> bool {
        self.address.send(Observe).await.is_ok()
    }

    /// Starts a generation; its events go to `sink` one at a time, the next only when the last was handled. What comes
    /// meanwhile is put together to one event, and when that is large the upstream's answer is not read on.
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
        let outlet = Outlet::new(request.run.clone(), sink, handle.cancel.clone());
        let caller = Caller {
            span: Span::current(),
            scope: Scope::current(),
        };
        let start = Start {
            request,
            outlet,
            caller,
        };
        let failure = match self.address.try_send(start) {
            Ok(()) => return Ok(handle),
            Err(SendError::Full(mut start)) => {
                start.outlet.abandon();
                Failure {
                    reason: None,
                    ..Failure::overloaded(BUSY_CORE)
                }
            }
            Err(SendError::Closed(mut start)) => {
                start.outlet.abandon();
                Failure::internal()
            }
        };
        Err(failure.into_failed(Usage::default(), 0))
    }
}

/// When to come back to a core that is stuck.
const BUSY_CORE: Duration = Duration::from_secs(1);

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
pub(crate) mod tests;
