//! What the cores share: configuration, permits, circuit, and the health that real traffic shows.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kronos_protocol::error::RunErrorCode;
use serde::Serialize;

use super::client::{self, Endpoint, GeminiConfigError};
use super::declare::Prepared;
use super::failure::{self, Failure};
use super::metrics::{self, handles};
use crate::clock::{Clock, Millis};
use crate::config::GeminiConfig;
use crate::upstream::{Backoff, Bounds, Breaker, CircuitState, Counts, Gauges, Permits, RetryBudget};

/// Shared by the Gemini actors of all cores.
pub struct GeminiShared {
    pub(super) config: GeminiConfig,
    pub(super) clock: Clock,
    pub(super) endpoint: Endpoint,
    pub(super) permits: Arc<Permits>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) backoff: Backoff,
    pub(super) retries: Arc<RetryBudget>,
    pub(super) prepared: Prepared,
    traffic: Traffic,
}

/// How the service is, from what real requests met. Asking costs the upstream nothing.
#[derive(Debug, Clone, Serialize)]
pub struct GeminiHealth {
    /// The summary.
    pub status: GeminiStatus,
    /// Requests can be made: there is a key, or the upstream is simulated.
    pub configured: bool,
    /// Time to the first byte of recent answers, in milliseconds.
    pub latency_ms: Option<u64>,
    /// What ails the upstream, if the last request showed something. Safe to show.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When a request last succeeded, or a probe.
    #[serde(skip)]
    pub last_success_ms: Option<Millis>,
    /// When one last failed through the upstream's fault or an operator's, and how.
    #[serde(skip)]
    pub last_failure: Option<(Millis, RunErrorCode)>,
    /// What the circuit breaker does.
    pub circuit: CircuitState,
    /// Generations that hold a permit.
    pub running: usize,
    /// Generations that may hold one: fewer than configured while the upstream pushes back.
    pub limit: usize,
    /// Generations that wait for one.
    pub waiting: usize,
    /// Attempts after the first that could be paid for.
    pub retry_budget: u64,
}

/// The summary of [`GeminiHealth`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GeminiStatus {
    /// As far as requests showed, it works.
    Healthy,
    /// Requests are refused by the circuit breaker, or fail until an operator does something.
    Unhealthy,
    /// There is no key.
    NotConfigured,
    /// Answers come from the simulator, whatever else is the case.
    Simulated,
}

impl GeminiShared {
    /// Checks the configuration and makes what the cores share.
    ///
    /// # Errors
    /// A setting with which no request could be made. A missing key is none: the service then says `not_configured`.
    pub fn new(config: GeminiConfig, clock: Clock) -> Result<Arc<Self>, GeminiConfigError> {
        let endpoint = Endpoint::new(&config)?;
        // Shows at the start, and not with the first question, whether certificates can be read.
        endpoint.client()?;
        let bounds = Bounds {
            running: config.max_concurrent,
            running_least: config.min_concurrent,
            running_per_user: config.max_concurrent_per_user,
            waiting: config.max_waiting,
        };
        let gauges = Gauges {
            running: handles().running.clone(),
            limit: handles().limit.clone(),
            waiting: handles().waiting.clone(),
            wait: handles().permit_wait.clone(),
        };
        let permits = Permits::new("gemini", bounds, gauges);
        let breaker = Breaker::new(config.breaker_failures, config.breaker_open, clock.clone());
        let backoff = Backoff {
            first: config.backoff,
            longest: config.max_backoff,
        };
        let retries = RetryBudget::new(config.retry_ratio, config.retry_burst, handles().retry_budget.clone());
        metrics::begin(&config);
        Ok(Arc::new(Self {
            config,
            clock,
            endpoint,
            permits,
            breaker,
            backoff,
            retries,
            prepared: Prepared::default(),
            traffic: Traffic::default(),
        }))
    }

    /// Returns the configuration.
    #[must_use]
    pub fn config(&self) -> &GeminiConfig {
        &self.config
    }

    /// Returns how the service is.
    #[must_use]
    pub fn health(&self) -> GeminiHealth {
        let configured = self.is_configured();
        let circuit = self.breaker.state();
        let Seen {
            trouble,
            success_ms,
            failure,
            ..
        } = *self.traffic.lock();
        let status = match trouble {
            _ if self.config.simulated => GeminiStatus::Simulated,
            _ if !configured => GeminiStatus::NotConfigured,
            Some(Trouble { lasting: true, .. }) => GeminiStatus::Unhealthy,
            _ if circuit == CircuitState::Open => GeminiStatus::Unhealthy,
            // A probe may have succeeded meanwhile: then the next request will.
            Some(_) if circuit == CircuitState::HalfOpen => GeminiStatus::Unhealthy,
            _ => GeminiStatus::Healthy,
        };
        let Counts {
            running,
            limit,
            waiting,
        } = self.permits.counts();
        GeminiHealth {
            status,
            configured,
            latency_ms: self.traffic.latency_ms(),
            error: trouble.map(|trouble| trouble.message.to_owned()),
            last_success_ms: success_ms,
            last_failure: failure,
            circuit,
            running,
            limit,
            waiting,
            retry_budget: self.retries.left(),
        }
    }

    /// Shows in the metrics what time alone has changed: before each scrape.
    pub fn report(&self) {
        handles().circuit.set(self.breaker.state().level());
    }

    /// Whether requests can be made.
    pub(super) fn is_configured(&self) -> bool {
        self.config.simulated || client::key(&self.config).is_some()
    }

    /// Notes that the first byte of an answer came.
    pub(super) fn note_first_byte(&self, after: Duration) {
        self.traffic.note_latency(failure::millis(after));
    }

    /// Notes how a request ended.
    pub(super) fn note_end(&self, failure: Option<&Failure>) {
        match failure {
            None => {
                self.retries.succeed();
                self.permits.succeed();
            }
            Some(failure) if failure.pushes_back() => self.permits.push_back(self.clock.instant()),
            Some(_) => {}
        }
        let trouble = match failure {
            Some(failure) if failure.outage || failure.operator => Some(Trouble {
                message: failure.message,
                lasting: failure.operator,
            }),
            // It is this request's fault: says nothing about the upstream, but that it answers.
            Some(_) | None => None,
        };
        self.note(failure, trouble);
    }

    /// Notes how a probe ended. Nobody tries again after it: a failure counts until something succeeds.
    pub(super) fn note_probe(&self, result: Result<Duration, &Failure>) {
        match result {
            Ok(after) => {
                self.note_first_byte(after);
                self.note(None, None);
            }
            Err(failure) => {
                let trouble = Trouble {
                    message: failure.message,
                    lasting: !failure.pushes_back() || failure.outage,
                };
                self.note(Some(failure), Some(trouble));
            }
        }
    }

    /// Returns for how long nothing was heard of the upstream; `None` when nothing ever was.
    pub(super) fn silent_for(&self) -> Option<Duration> {
        let told = self.traffic.lock().told?;
        Some(self.clock.instant().saturating_duration_since(told))
    }

    fn note(&self, failure: Option<&Failure>, trouble: Option<Trouble>) {
        let (now_ms, now) = (self.clock.now_ms(), self.clock.instant());
        let mut seen = self.traffic.lock();
        seen.told = Some(now);
        seen.trouble = trouble;
        match failure {
            None => seen.success_ms = Some(now_ms),
            Some(failure) if trouble.is_some() => seen.failure = Some((now_ms, failure.code)),
            Some(_) => {}
        }
    }
}

impl fmt::Debug for GeminiShared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GeminiShared")
            .field("health", &self.health())
            .finish_non_exhaustive()
    }
}

/// What recent requests met.
#[derive(Debug, Default)]
struct Traffic {
    /// A moving average; 0 before the first answer.
    latency_ms: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    trouble: Option<Trouble>,
    success_ms: Option<Millis>,
    failure: Option<(Millis, RunErrorCode)>,
    /// When anything was last heard of the upstream.
    told: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Trouble {
    message: &'static str,
    /// It stays until an operator has done something.
    lasting: bool,
}

impl Traffic {
    fn note_latency(&self, ms: u64) {
        let last = self.latency_ms.load(Ordering::Relaxed);
        let ms = ms.max(1);
        let next = if last == 0 {
            ms
        } else {
            (last.saturating_mul(3).saturating_add(ms) / 4).max(1)
        };
        self.latency_ms.store(next, Ordering::Relaxed);
    }

    fn latency_ms(&self) -> Option<u64> {
        Some(self.latency_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
