//! The configuration sections that actors take, each with its default and its bounds.
//!
//! Values come in already parsed; the root configuration (environment, file, flags) is the edge's.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use kronos_protocol::limits;
use secrecy::SecretString;

mod price;

pub use price::ModelPrice;

/// When a reader may see an event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// After its commit: nothing that was shown is ever unsaid.
    #[default]
    Commit,
    /// Text of an answer at once: a crash may take back the last of it, and starts a new epoch then. Everything else, and
    /// every acknowledgement, after its commit.
    Relaxed,
}

impl Durability {
    /// The words of the configuration.
    pub const WORDS: &'static [&'static str] = &["commit", "relaxed"];

    /// Returns the variant with this word; the default for any other.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        if word == "relaxed" { Self::Relaxed } else { Self::Commit }
    }
}

/// A place in the log of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortAt {
    /// What is done with the event there.
    pub point: AbortPoint,
    /// Its seq.
    pub seq: kronos_protocol::position::Seq,
}

impl AbortAt {
    /// Reads `submit:12`, `commit:12` or `leave:12`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (point, seq) = text.split_once(':')?;
        let point = match point {
            "submit" => AbortPoint::Submit,
            "commit" => AbortPoint::Commit,
            "leave" => AbortPoint::Leave,
            _ => return None,
        };
        let seq = seq.parse().ok().filter(|seq| *seq > 0)?;
        Some(Self { point, seq })
    }
}

/// What is done with an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortPoint {
    /// It is about to be handed to the store.
    Submit,
    /// It is durable, and nothing was done about it yet.
    Commit,
    /// It is durable, what it allows was done (calls left), and nobody was shown it yet.
    Leave,
}

/// How sessions live: memory, runs, restarts.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// When readers may see an event. Default after its commit.
    pub durability: Durability,
    /// With relaxed durability: how long text that was shown may wait for a commit that it shares. Default 50 ms.
    pub relaxed_flush: Duration,
    /// Time without a run and an input before a session leaves memory; its sockets stay attached. Default 60 s.
    pub idle_timeout: Duration,
    /// Bytes of its log that a live session keeps in memory. Default 256 KiB.
    pub tail_bytes: usize,
    /// Bytes of events that one batch to a reader may hold (one larger event is a batch of its own). Default 8 KiB.
    pub batch_bytes: usize,
    /// Messages that may wait behind a run. Default 16.
    pub inbox_messages: usize,
    /// Sockets that may be attached to one session. Default 64.
    pub attachments: usize,
    /// Characters of one user message. Default 32 000.
    pub message_chars: usize,
    /// Characters of a title. Default 200.
    pub title_chars: usize,
    /// Messages with which a conversation may begin. Default 1000.
    pub import_messages: usize,
    /// Characters of them before the last. Default 500 000.
    pub import_chars: usize,
    /// Wall time of one run. Default 10 min.
    pub run_deadline: Duration,
    /// Runs of one turn when crashes interrupt them; the last one stays interrupted. Default 3.
    pub max_run_attempts: u32,
    /// Steps of one turn: answers of the model, each with its calls. In the last one it may make none. Default 25.
    pub max_steps: u32,
    /// Calls that the model may make at once. Default 16.
    pub max_calls_per_step: usize,
    /// How often in a turn the model is told that it made a call that cannot be made. Default 3.
    pub max_call_mends: u32,
    /// Bytes of a call's result (JSON text) that the model and clients read. Default 32 KiB.
    pub tool_result_bytes: usize,
    /// Bytes of a call's result that are stored when it is larger than that. Default 8 MiB.
    pub stored_result_bytes: usize,
    /// Time in which a person must answer a question. Default 24 h.
    pub question_timeout: Duration,
    /// Tokens of a conversation, about, that the model reads before the beginning is summed up. Default 200 000.
    pub context_tokens: usize,
    /// Panics within `restart_window` before a session is parked. Default 5.
    pub max_restarts: u32,
    /// The window of `max_restarts`. Default 60 s.
    pub restart_window: Duration,
    /// Time without progress after which a session that has work counts as dead and is started again. Default 30 s.
    pub hang_timeout: Duration,
    /// Commands that may wait in a session's mailbox. Default 64 (and one for each sender).
    pub mailbox: usize,
    /// Runs whose timeline the flight recorder holds, with at most 4 KiB each; 0: nothing is recorded. Default 1000.
    pub recorder_turns: usize,
    /// The process aborts at this place in the log of a conversation: for tests of what a crash leaves. Default nowhere.
    pub abort_at: Option<AbortAt>,
    /// A message whose text has `[[panic]]`, `[[disorder]]` or `[[hang]]` in it makes its session fail: for tests of the
    /// supervision. Default off.
    pub fault_injection: bool,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            durability: Durability::Commit,
            relaxed_flush: Duration::from_millis(50),
            idle_timeout: Duration::from_secs(60),
            tail_bytes: 256 * 1024,
            batch_bytes: limits::BATCH_BYTES,
            inbox_messages: 16,
            attachments: 64,
            message_chars: limits::MESSAGE_CHARS,
            title_chars: limits::TITLE_CHARS,
            import_messages: 1000,
            import_chars: 500_000,
            run_deadline: Duration::from_secs(600),
            max_run_attempts: 3,
            max_steps: 25,
            max_calls_per_step: 16,
            max_call_mends: 3,
            tool_result_bytes: 32 * 1024,
            stored_result_bytes: 8 * 1024 * 1024,
            question_timeout: Duration::from_secs(86_400),
            context_tokens: 200_000,
            max_restarts: 5,
            restart_window: Duration::from_secs(60),
            hang_timeout: Duration::from_secs(30),
            mailbox: 64,
            recorder_turns: 1000,
            abort_at: None,
            fault_injection: false,
        }
    }
}

impl SessionConfig {
    /// The time in which a person must answer a question, in milliseconds.
    #[must_use]
    pub fn question_timeout_ms(&self) -> crate::clock::Millis {
        crate::clock::Millis::try_from(self.question_timeout.as_millis()).unwrap_or(crate::clock::Millis::MAX)
    }
}

/// How long conversations are kept; nothing is deleted by default.
#[derive(Debug, Clone)]
pub struct RetentionConfig {
    /// Conversations that have not changed for so long are deleted. Default never.
    pub age: Option<Duration>,
    /// Of one user, so many conversations are kept: the newest. Default all.
    pub sessions_per_user: Option<usize>,
    /// How often that is looked for. Default 10 min.
    pub interval: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            age: None,
            sessions_per_user: None,
            interval: Duration::from_secs(600),
        }
    }
}

/// How websockets are guarded.
#[derive(Debug, Clone)]
pub struct ConnectionConfig {
    /// Time in which the first frame `hello` must come. Default 10 s.
    pub hello_timeout: Duration,
    /// Interval of the server's pings; a peer silent for two of them is gone. Default 25 s.
    pub ping_interval: Duration,
    /// Bytes of one assembled message, in both directions. Default 512 KiB.
    pub frame_bytes: usize,
    /// Bytes of one message before `hello` was answered. Default 16 KiB.
    pub pre_auth_frame_bytes: usize,
    /// Sessions that one socket may attach. Default 64.
    pub attachments: usize,
    /// Commands of one socket that may wait for their reply. Default 64.
    pub pending_commands: usize,
    /// Commands that one socket may send in a second, on average. Default 200.
    pub commands_per_second: usize,
    /// Commands that one socket may send at once. Default 400.
    pub commands_burst: usize,
    /// Time in which a peer must read something of what was written to it. Default 30 s.
    pub write_timeout: Duration,
    /// Bytes written to a peer beyond the last ping among them that it answered; then the rest waits. Bounds what a slow
    /// reader holds, and with the round trip how fast a far one is served. Default 32 KiB.
    pub unread_bytes: usize,
    /// Event streams (SSE, NDJSON, exports) of this process. Default 10 000.
    pub max_event_streams: usize,
    /// Event streams of one user. Default 64.
    pub max_event_streams_per_user: usize,
    /// Silence after which an event stream sends a comment. Default 15 s.
    pub sse_heartbeat: Duration,
    /// Websockets of this process. Default 20 000.
    pub max_connections: usize,
    /// Websockets of one user. Default 256.
    pub max_connections_per_user: usize,
    /// Websockets of one remote address; of IPv6, of one /64 network. Default 20 000: off in effect, because many users may
    /// share the address of a proxy.
    pub max_connections_per_address: usize,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self {
            hello_timeout: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            frame_bytes: limits::FRAME_BYTES,
            pre_auth_frame_bytes: limits::PRE_AUTH_FRAME_BYTES,
            attachments: limits::ATTACHMENTS_PER_CONNECTION,
            pending_commands: limits::PENDING_COMMANDS,
            commands_per_second: 200,
            commands_burst: 400,
            write_timeout: Duration::from_secs(30),
            unread_bytes: 32 * 1024,
            max_event_streams: 10_000,
            max_event_streams_per_user: 64,
            sse_heartbeat: Duration::from_secs(15),
            max_connections: 20_000,
            max_connections_per_user: 256,
            max_connections_per_address: 20_000,
        }
    }
}

/// How the model is asked.
#[derive(Debug, Clone)]
pub struct GeminiConfig {
    /// Scheme and host, without a version. Default `https://generativelanguage.googleapis.com`.
    pub base_url: String,
    /// API version in the path. Default `v1beta`.
    pub api_version: String,
    /// The key; without one the service answers `not_configured`.
    pub api_key: Option<SecretString>,
    /// The upstream is the simulator: said everywhere it matters.
    pub simulated: bool,
    /// Model of a run that names none. Default `gemini-3.8-flash`.
    pub model: String,
    /// What models cost; of others no cost is estimated. At most 100.
    pub prices: BTreeMap<String, ModelPrice>,
    /// Sent only when set: Gemini from 3.6 on ignores it. 0..2.
    pub temperature: Option<f64>,
    /// Most tokens of one answer. Default 8192; 1..65 536.
    pub max_tokens: u32,
    /// `MINIMAL`, `LOW`, `MEDIUM`, `HIGH`; default `LOW` (chat latency); `None` sends none.
    pub thinking_level: Option<String>,
    /// System prompt of a run that names none.
    pub system_prompt: Option<String>,
    /// Time to connect. Default 5 s.
    pub connect_timeout: Duration,
    /// Time from the request to the first byte of the answer. Default 60 s.
    pub first_byte_timeout: Duration,
    /// Silence within a stream. Default 60 s.
    pub idle_timeout: Duration,
    /// Time in which an analysis must be done. Default 60 s.
    pub analysis_timeout: Duration,
    /// Attempts of one generation while nothing was shown. Default 4.
    pub max_attempts: u32,
    /// First pause between attempts, doubled each time, with jitter. Default 500 ms.
    pub backoff: Duration,
    /// Longest pause between attempts; a longer `RetryInfo` ends the run instead. Default 20 s.
    pub max_backoff: Duration,
    /// Attempts after the first that each success of the process pays for. Default 0.2.
    pub retry_ratio: f64,
    /// Attempts after the first that are paid for at the start, and at most. Default 20.
    pub retry_burst: u32,
    /// Generations at once in this process. Default 256.
    pub max_concurrent: usize,
    /// Generations at once that are left when the upstream pushes back; at most `max_concurrent` counts. Default 8.
    pub min_concurrent: usize,
    /// Generations at once of one user. Default 8.
    pub max_concurrent_per_user: usize,
    /// Generations that may wait for a permit. Default 4096.
    pub max_waiting: usize,
    /// Bytes of one event of the stream. Default 1 MiB.
    pub event_bytes: usize,
    /// Functions that are declared in one request. Default 64.
    pub max_functions: usize,
    /// Failures in a row that open the circuit. Default 8.
    pub breaker_failures: u32,
    /// Time for which an open circuit refuses before it lets one attempt through. Default 5 s.
    pub breaker_open: Duration,
}

impl Default for GeminiConfig {
    fn default() -> Self {
        Self {
            base_url: "https://generativelanguage.googleapis.com".to_owned(),
            api_version: "v1beta".to_owned(),
            api_key: None,
            simulated: false,
            model: "gemini-3.8-flash".to_owned(),
            prices: ModelPrice::listed(),
            temperature: None,
            max_tokens: 8192,
            thinking_level: Some("LOW".to_owned()),
            system_prompt: None,
            connect_timeout: Duration::from_secs(5),
            first_byte_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            analysis_timeout: Duration::from_secs(60),
            max_attempts: 4,
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(20),
            retry_ratio: 0.2,
            retry_burst: 20,
            max_concurrent: 256,
            min_concurrent: 8,
            max_concurrent_per_user: 8,
            max_waiting: 4096,
            event_bytes: 1024 * 1024,
            max_functions: 64,
            breaker_failures: 8,
            breaker_open: Duration::from_secs(5),
        }
    }
}

/// How Composio is asked.
#[derive(Debug, Clone)]
pub struct ComposioConfig {
    /// Its key; without one there are no tools but the built-in ones.
    pub api_key: Option<SecretString>,
    /// Its address, without a version. Default `https://backend.composio.dev`.
    pub base_url: String,
    /// The upstream is the simulator: said everywhere it matters.
    pub simulated: bool,
    /// Time for which a connection that is being made is watched closely. Default 60 s.
    pub connection_timeout: Duration,
    /// Time to connect. Default 5 s.
    pub connect_timeout: Duration,
    /// Time for one answer that is not a tool's. Default 30 s.
    pub request_timeout: Duration,
    /// Time for a tool's answer. Default 90 s.
    pub execute_timeout: Duration,
    /// Bytes of one answer. Default 8 MiB.
    pub max_response_bytes: usize,
    /// Attempts of one request while nothing can have happened. Default 3.
    pub max_attempts: u32,
    /// First pause between attempts, doubled each time, with jitter. Default 500 ms.
    pub backoff: Duration,
    /// Longest pause between attempts. Default 8 s.
    pub max_backoff: Duration,
    /// Attempts after the first that each success of the process pays for. Default 0.2.
    pub retry_ratio: f64,
    /// Attempts after the first that are paid for at the start, and at most. Default 20.
    pub retry_burst: u32,
    /// Requests at once in this process. Default 64.
    pub max_concurrent: usize,
    /// Requests at once that are left when Composio pushes back. Default 4.
    pub min_concurrent: usize,
    /// Requests at once of one user. Default 8.
    pub max_concurrent_per_user: usize,
    /// Requests that may wait for their turn. Default 1024.
    pub max_waiting: usize,
    /// Failures in a row that open the circuit. Default 8.
    pub breaker_failures: u32,
    /// Time for which an open circuit refuses before it lets one request through. Default 5 s.
    pub breaker_open: Duration,
    /// Age at which what is known of toolkits, tools and auth configs is asked for again. Default 15 min.
    pub catalogue_ttl: Duration,
    /// Toolkits whose tools are kept in memory. Default 128.
    pub catalogue_toolkits: usize,
    /// Tools that one run is offered. Default 32.
    pub max_tools: usize,
    /// Toolkits that are offered beside those of a user's accounts; empty: those with an enabled auth config.
    pub toolkits: Vec<String>,
    /// Versions by toolkit; others run with the version that was newest when their tools were listed.
    pub toolkit_versions: BTreeMap<String, String>,
    /// Connections that may be in the making at once. Default 1000.
    pub max_pending: usize,
    /// The same of one user. Default 16.
    pub max_pending_per_user: usize,
    /// What Composio signs its events with; without it none is taken.
    pub webhook_secret: Option<SecretString>,
    /// Ids of events that are remembered, so that none counts twice. Default 100 000.
    pub webhook_ids: usize,
    /// Hosts to which a browser may be sent back, beside the server's own and those of the allowed origins.
    pub redirect_hosts: Vec<String>,
}

impl Default for ComposioConfig {
    fn default() -> Self {
        Self {
            api_key: None,
            base_url: "https://backend.composio.dev".to_owned(),
            simulated: false,
            connection_timeout: Duration::from_secs(60),
            connect_timeout: Duration::from_secs(5),
            request_timeout: Duration::from_secs(30),
            execute_timeout: Duration::from_secs(90),
            max_response_bytes: 8 * 1024 * 1024,
            max_attempts: 3,
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(8),
            retry_ratio: 0.2,
            retry_burst: 20,
            max_concurrent: 64,
            min_concurrent: 4,
            max_concurrent_per_user: 8,
            max_waiting: 1024,
            breaker_failures: 8,
            breaker_open: Duration::from_secs(5),
            catalogue_ttl: Duration::from_secs(15 * 60),
            catalogue_toolkits: 128,
            max_tools: 32,
            toolkits: Vec::new(),
            toolkit_versions: BTreeMap::new(),
            max_pending: 1000,
            max_pending_per_user: 16,
            webhook_secret: None,
            webhook_ids: 100_000,
            redirect_hosts: Vec::new(),
        }
    }
}

/// What the model may work with.
#[derive(Debug, Clone)]
pub struct ToolsConfig {
    /// Time in which the tools of a run must be known; what is not known then is said to be missing. Default 3 s.
    pub offer_timeout: Duration,
    /// Notes that one user may have. Default 200.
    pub memories: usize,
    /// Characters of one note. Default 1000.
    pub memory_chars: usize,
}

impl Default for ToolsConfig {
    fn default() -> Self {
        Self {
            offer_timeout: Duration::from_secs(3),
            memories: 200,
            memory_chars: 1000,
        }
    }
}

/// Where the log is kept.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// Which backend.
    pub backend: StoreBackend,
    /// Bytes that may wait for their commit, over all sessions. Default 64 MiB.
    pub pending_bytes: usize,
    /// Page cache of the embedded store, a hint. Default 64 MiB.
    pub cache_bytes: u64,
    /// Reads at once. Default 4.
    pub readers: usize,
}

/// The backends of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreBackend {
    /// Embedded, in this folder.
    Sled(PathBuf),
    /// In memory, lost at exit; for tests.
    Memory,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            backend: StoreBackend::Sled(PathBuf::from("./data")),
            pending_bytes: 64 * 1024 * 1024,
            cache_bytes: 64 * 1024 * 1024,
            readers: 4,
        }
    }
}
