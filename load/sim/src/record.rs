//! What the simulator received, and how each exchange ended. Bounded: the oldest record goes first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use actix_web::{HttpRequest, web};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::time::Instant;

use crate::clock;

/// How an exchange ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Outcome {
    /// The answer is still being made or sent.
    InFlight,
    /// The whole answer was handed to the connection.
    Completed,
    /// The client closed the connection first.
    ClientGone {
        /// Chunks sent until then.
        chunks_sent: usize,
        /// Milliseconds from the arrival of the request.
        after_ms: u64,
    },
    /// The simulator answered with an error or broke the answer off, as it was told to.
    Failed {
        /// What it did: an HTTP status or the name of a fault.
        reason: String,
    },
}

/// One request as it arrived, with the API key masked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordedRequest {
    /// Number of the request, from 1.
    pub id: u64,
    /// HTTP method.
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query parameters; `key` is masked.
    pub query: BTreeMap<String, String>,
    /// Headers with lower-case names; API keys and `authorization` are masked.
    pub headers: BTreeMap<String, String>,
    /// Body as it was sent; `null` when there was none or it is not JSON.
    pub body: Value,
    /// When it arrived.
    #[serde(with = "time::serde::rfc3339")]
    pub at: OffsetDateTime,
    /// How it ended.
    pub outcome: Outcome,
    /// When it ended.
    #[serde(with = "time::serde::rfc3339::option", default)]
    pub ended_at: Option<OffsetDateTime>,
    /// Chunks sent so far.
    pub chunks_sent: usize,
}

/// Names of headers and query parameters whose value is a secret.
const SECRETS: &[&str] = &[
    "access_token",
    "authorization",
    "key",
    "x-api-key",
    "x-goog-api-key",
    "x-org-api-key",
    "x-user-api-key",
];

impl RecordedRequest {
    /// Reads a request that has just arrived; it gets its number later.
    pub(crate) fn read(request: &HttpRequest, body: &[u8]) -> Self {
        let mask = |name: &str, value: &str| {
            let secret = SECRETS.contains(&name);
            if secret { "***".to_owned() } else { value.to_owned() }
        };
        let query = web::Query::<BTreeMap<String, String>>::from_query(request.query_string());
        let query = query.map(web::Query::into_inner).unwrap_or_default();
        let headers = request.headers().iter();
        Self {
            id: 0,
            method: request.method().to_string(),
            path: request.path().to_owned(),
            query: query
                .iter()
                .map(|(name, value)| (name.clone(), mask(name, value)))
                .collect(),
            headers: headers
                .map(|(name, value)| {
                    let text = String::from_utf8_lossy(value.as_bytes());
                    (name.to_string(), mask(name.as_str(), &text))
                })
                .collect(),
            body: serde_json::from_slice(body).unwrap_or_default(),
            at: clock::now(),
            outcome: Outcome::InFlight,
            ended_at: None,
            chunks_sent: 0,
        }
    }
}

#[derive(Debug, Default)]
struct Log {
    last_id: u64,
    records: VecDeque<RecordedRequest>,
}

/// The shared record.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    log: Mutex<Log>,
}

impl Recorder {
    /// Stores a request and returns the ticket that reports its end.
    pub(crate) fn open(self: &Arc<Self>, mut request: RecordedRequest, limit: usize) -> Ticket {
        let mut log = self.lock();
        log.last_id += 1;
        request.id = log.last_id;
        let ticket = Ticket {
            recorder: Arc::clone(self),
            id: request.id,
            started: Instant::now(),
            chunks_sent: 0,
            done: false,
        };
        log.records.push_back(request);
        while log.records.len() > limit {
            log.records.pop_front();
        }
        ticket
    }

    pub(crate) fn all(&self) -> Vec<RecordedRequest> {
        self.lock().records.iter().cloned().collect()
    }

    pub(crate) fn clear(&self) {
        self.lock().records.clear();
    }

    fn update(&self, id: u64, change: impl FnOnce(&mut RecordedRequest)) {
        let mut log = self.lock();
        let first = log.records.front().map_or(u64::MAX, |record| record.id);
        let record = usize::try_from(id.wrapping_sub(first))
            .ok()
            .and_then(|at| log.records.get_mut(at));
        if let Some(record) = record.filter(|record| record.id == id) {
            change(record);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports how one exchange ends; dropped without a report, the client is gone.
#[derive(Debug)]
pub(crate) struct Ticket {
    recorder: Arc<Recorder>,
    id: u64,
    started: Instant,
    chunks_sent: usize,
    done: bool,
}

impl Ticket {
    /// The number of the request.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// When the request arrived.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    pub(crate) fn chunk_sent(&mut self) {
        self.chunks_sent += 1;
        self.recorder.update(self.id, |record| record.chunks_sent += 1);
    }

    pub(crate) fn completed(&mut self) {
        self.end(Outcome::Completed);
    }

    pub(crate) fn failed(&mut self, reason: impl Into<String>) {
        self.end(Outcome::Failed { reason: reason.into() });
    }

    fn end(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.done, true) {
            self.recorder.update(self.id, |record| {
                record.outcome = outcome;
                record.ended_at = Some(clock::now());
            });
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let after_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.end(Outcome::ClientGone {
            chunks_sent: self.chunks_sent,
            after_ms,
        });
    }
}
