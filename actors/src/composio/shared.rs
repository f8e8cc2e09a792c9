//! What all threads see: configuration, permits, circuit, and the health that real traffic shows.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;

use super::{
    client::{self, ComposioConfigError, Endpoint},
    failure::{ComposioError, ComposioErrorKind},
    metrics::handles,
};
use crate::{
    clock::{Clock, Millis},
    config::ComposioConfig,
    upstream::{Backoff, Bounds, Breaker, CircuitState, Counts, Permits, RetryBudget},
};

/// One word about Composio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ComposioStatus {
    /// As far as is known it works.
    Healthy,
    /// It does not.
    Unhealthy,
    /// There is no key.
    NotConfigured,
    /// Its answers are simulated.
    Simulated,
}

/// What a probe did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probed {
    /// Nothing: requests have told, or there is nothing to ask.
    NotNeeded,
    /// It was answered.
    Answered,
    /// It was not, or with an error; the health says which.
    Failed,
}

/// How Composio is, from what real requests met.
#[derive(Debug, Clone, Serialize)]
pub struct ComposioHealth {
    /// The summary.
    pub status: ComposioStatus,
    /// Requests can be made: there is a key, or the upstream is simulated.
    pub configured: bool,
    /// Time of recent answers that no tool was waited for, in milliseconds.
    pub latency_ms: Option<u64>,
    /// What ails it, if the last request showed something. Safe to show.
    pub error: Option<String>,
    /// When a request last succeeded, or a probe.
    pub last_success_ms: Option<Millis>,
    /// When one last failed through Composio's fault or an operator's, and how.
    pub last_failure: Option<(Millis, &'static str)>,
    /// What the circuit breaker does.
    pub circuit: CircuitState,
    /// Requests under way.
    pub running: usize,
    /// Requests that may be: fewer than configured while Composio pushes back.
    pub limit: usize,
    /// Requests that wait for their turn.
    pub waiting: usize,
}

/// Shared by the service's thread and all who ask for it.
pub(super) struct ComposioShared {
    pub(super) config: ComposioConfig,
    pub(super) clock: Clock,
    pub(super) endpoint: Endpoint,
    pub(super) permits: Arc<Permits>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) backoff: Backoff,
    pub(super) retries: Arc<RetryBudget>,
    /// A moving average; 0 before the first answer.
    latency_ms: AtomicU64,
    seen: Mutex<Seen>,
    callback: Mutex<Option<String>>,
}

#[derive(Debug, Clone, Default)]
struct Seen {
    trouble: Option<Trouble>,
    success_ms: Option<Millis>,
    failure: Option<(Millis, &'static str)>,
    told: Option<Instant>,
}

#[derive(Debug, Clone)]
struct Trouble {
    message: String,
    /// It stays until an operator has done something.
    lasting: bool,
}

impl ComposioShared {
    /// Checks the configuration.
    pub(super) fn new(config: ComposioConfig, clock: Clock) -> Result<Arc<Self>, ComposioConfigError> {
        let endpoint = Endpoint::new(&config)?;
        let bounds = Bounds {
            running: config.max_concurrent,
            running_least: config.min_concurrent,
            running_per_user: config.max_concurrent_per_user,
            waiting: config.max_waiting,
        };
        let permits = Permits::new("composio", bounds, handles().permits.clone());
        let breaker = Breaker::new(config.breaker_failures, config.breaker_open, clock.clone());
        let backoff = Backoff {
            first: config.backoff,
            longest: config.max_backoff,
        };
        let retries = RetryBudget::new(config.retry_ratio, config.retry_burst, handles().retry_budget.clone());
        Ok(Arc::new(Self {
            config,
            clock,
            endpoint,
            permits,
            breaker,
            backoff,
            retries,
            latency_ms: AtomicU64::new(0),
            seen: Mutex::default(),
            callback: Mutex::default(),
        }))
    }

    pub(super) fn is_configured(&self) -> bool {
        self.config.simulated || client::key(&self.config).is_some()
    }

    pub(super) fn set_callback(&self, url: String) {
        *self.callback.lock().unwrap_or_else(PoisonError::into_inner) = Some(url);
    }

    pub(super) fn callback(&self) -> Option<String> {
        self.callback.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn health(&self) -> ComposioHealth {
        let configured = self.is_configured();
        let circuit = self.breaker.state();
        let Seen {
            trouble,
            success_ms,
            failure,
            ..
        } = self.lock().clone();
        let status = match &trouble {
            _ if self.config.simulated => ComposioStatus::Simulated,
            _ if !configured => ComposioStatus::NotConfigured,
            Some(Trouble { lasting: true, .. }) => ComposioStatus::Unhealthy,
            _ if circuit == CircuitState::Open => ComposioStatus::Unhealthy,
            Some(_) if circuit == CircuitState::HalfOpen => ComposioStatus::Unhealthy,
            _ => ComposioStatus::Healthy,
        };
        let Counts {
            running,
            limit,
            waiting,
        } = self.permits.counts();
        ComposioHealth {
            status,
            configured,
            latency_ms: Some(self.latency_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0),
            error: trouble.map(|trouble| trouble.message),
            last_success_ms: success_ms,
            last_failure: failure,
            circuit,
            running,
            limit,
            waiting,
        }
    }

    /// Notes how long an answer took that no tool was waited for.
    pub(super) fn note_latency(&self, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let last = self.latency_ms.load(Ordering::Relaxed);
        let next = if last == 0 {
            ms
        } else {
            (last.saturating_mul(3).saturating_add(ms) / 4).max(1)
        };
        self.latency_ms.store(next, Ordering::Relaxed);
    }

    /// Notes how a request ended. `outage`: it says something about Composio, not about the request.
    pub(super) fn note_end(&self, failure: Option<&ComposioError>, outage: bool) {
        match failure {
            None => {
                self.retries.succeed();
                self.permits.succeed();
            }
            Some(failure) if matches!(failure.status, Some(429 | 503)) => {
                self.permits.push_back(self.clock.instant());
            }
            Some(_) => {}
        }
        let lasting = failure.is_some_and(|failure| failure.kind == ComposioErrorKind::Auth);
        let trouble = failure.filter(|_| outage || lasting).map(|failure| Trouble {
            message: failure.message.clone().into_owned(),
            lasting,
        });
        self.note(failure, trouble);
    }

    /// Notes how a probe ended. Nobody tries again after it: a failure counts until something succeeds.
    pub(super) fn note_probe(&self, result: Result<Duration, &ComposioError>) {
        match result {
            Ok(took) => {
                self.note_latency(took);
                self.note(None, None);
            }
            Err(failure) => {
                let trouble = Trouble {
                    message: failure.message.clone().into_owned(),
                    lasting: true,
                };
                self.note(Some(failure), Some(trouble));
            }
        }
    }

    /// Shows what time alone has changed: before each scrape.
    pub(super) fn report(&self) {
        handles().circuit.set(self.breaker.state().level());
    }

    /// Returns for how long nothing was heard of Composio; `None` when nothing ever was.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        let told = self.lock().told?;
        Some(self.clock.instant().saturating_duration_since(told))
    }

    fn note(&self, failure: Option<&ComposioError>, trouble: Option<Trouble>) {
        let (now_ms, now) = (self.clock.now_ms(), self.clock.instant());
        let mut seen = self.lock();
        seen.told = Some(now);
        match failure {
            None => seen.success_ms = Some(now_ms),
            Some(failure) if trouble.is_some() => seen.failure = Some((now_ms, failure.kind.as_str())),
            Some(_) => {}
        }
        seen.trouble = trouble;
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ComposioShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComposioShared").finish_non_exhaustive()
    }
}
