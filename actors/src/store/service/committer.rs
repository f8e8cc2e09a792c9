//! The one thread that commits.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{
    pending::{Group, Pending},
    queue::{Next, Queue},
};
use crate::{
    clock::Clock,
    store::{Refusal, Request, SessionStore, StoreError},
};

/// How often a failing store without work is tried again.
const PROBE_PERIOD: Duration = Duration::from_secs(1);
/// How often the size is measured.
const SIZE_PERIOD: Duration = Duration::from_secs(10);
/// How long a committer or reader that panicked rests, so that one that always does leaves the machine to the others.
pub(super) const RESTART_PAUSE: Duration = Duration::from_millis(100);
/// The value of `size` when the backend cannot say.
const UNKNOWN_SIZE: u64 = u64::MAX;

/// What the committer tells about itself.
pub(super) struct Health {
    pub(super) commits: AtomicU64,
    pub(super) requests: AtomicU64,
    pub(super) failed: AtomicU64,
    healthy: AtomicBool,
    size: AtomicU64,
    /// Microseconds of the last commit that succeeded; 0 before the first.
    latency_us: AtomicU64,
    last_error: Mutex<Option<StoreError>>,
}

impl Health {
    pub(super) fn new() -> Self {
        Self {
            commits: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            healthy: AtomicBool::new(true),
            size: AtomicU64::new(UNKNOWN_SIZE),
            latency_us: AtomicU64::new(0),
            last_error: Mutex::new(None),
        }
    }

    pub(super) fn healthy(&self) -> bool {
        self.healthy.load(Ordering::Acquire)
    }

    pub(super) fn size(&self) -> Option<u64> {
        Some(self.size.load(Ordering::Relaxed)).filter(|size| *size != UNKNOWN_SIZE)
    }

    pub(super) fn latency(&self) -> Option<Duration> {
        let us = self.latency_us.load(Ordering::Relaxed);
        (us > 0).then(|| Duration::from_micros(us))
    }

    pub(super) fn last_error(&self) -> Option<StoreError> {
        self.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn works(&self) {
        if !self.healthy.swap(true, Ordering::AcqRel) {
            tracing::info!("the store takes commits again");
        }
    }

    fn fails(&self, error: &StoreError) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(crate::metrics::STORE_COMMIT_ERRORS).increment(1);
        *self.last_error.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.clone());
    }

    /// After a panic nothing is known to work until a commit has succeeded.
    fn begins_again(&self) {
        let error = StoreError::Io("the committer panicked".to_owned());
        self.fails(&error);
        self.is_down(&error);
    }

    fn is_down(&self, error: &StoreError) {
        if self.healthy.swap(false, Ordering::AcqRel) {
            tracing::error!(%error, "the store takes no commits");
        }
    }
}

/// Handles of what is measured at every commit: looking one up costs more than counting.
struct CommitMetrics {
    pending_bytes: metrics::Gauge,
    duration: metrics::Histogram,
    requests: metrics::Histogram,
    bytes: metrics::Histogram,
}

/// The handles; the recorder is installed before a store is started.
fn handles() -> &'static CommitMetrics {
    static HANDLES: LazyLock<CommitMetrics> = LazyLock::new(|| CommitMetrics {
        pending_bytes: metrics::gauge!(crate::metrics::STORE_PENDING_BYTES),
        duration: metrics::histogram!(crate::metrics::STORE_COMMIT_DURATION),
        requests: metrics::histogram!(crate::metrics::STORE_COMMIT_REQUESTS),
        bytes: metrics::histogram!(crate::metrics::STORE_COMMIT_BYTES),
    });
    &HANDLES
}

/// Says that the committer has finished, whatever ended it.
struct Finish(Arc<Queue>);

impl Drop for Finish {
    fn drop(&mut self) {
        self.0.finish();
    }
}

/// Restarts of the store's threads since the process began.
pub(super) static RESTARTS: AtomicU64 = AtomicU64::new(0);

/// Runs `work` until it returns, again whenever it panics. What it had in its hands answers for itself when it is dropped.
pub(super) fn restarting(thread: &'static str, mut work: impl FnMut()) {
    while let Err(panic) = std::panic::catch_unwind(AssertUnwindSafe(&mut work)) {
        RESTARTS.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(crate::metrics::STORE_RESTARTS, "thread" => thread).increment(1);
        tracing::error!(thread, "a thread of the store panicked and begins again");
        // What a panic carries may panic again when it is dropped.
        drop(std::panic::catch_unwind(AssertUnwindSafe(|| drop(panic))));
        std::thread::sleep(RESTART_PAUSE);
    }
}

/// The committer's side of the service.
pub(super) struct Committer {
    pub(super) store: Arc<dyn SessionStore>,
    pub(super) queue: Arc<Queue>,
    pub(super) health: Arc<Health>,
    pub(super) clock: Clock,
}

impl Committer {
    /// Commits until the queue is closed and empty, waits for the readers, lets go of the store.
    pub(super) fn run(self, readers: Vec<JoinHandle<()>>) {
        // Declared first, so told last: the store is let go of before.
        let _finish = Finish(Arc::clone(&self.queue));
        let committer = self;
        let mut measured = None;
        let mut begun = false;
        restarting("committer", || {
            if std::mem::replace(&mut begun, true) {
                committer.health.begins_again();
            }
            committer.work(&mut measured);
        });
        for reader in readers {
            // Its panic was reported by the hook, and its reads were answered.
            drop(reader.join());
        }
    }

    /// Commits until the queue is closed and empty.
    fn work(&self, measured: &mut Option<Instant>) {
        loop {
            self.measure(measured);
            let healthy = self.health.healthy();
            let patience = if healthy { SIZE_PERIOD } else { PROBE_PERIOD };
            match self.queue.next(patience) {
                Next::Commit(group) => self.settle(group),
                Next::Idle if !healthy => drop(self.commit(&[])),
                Next::Idle => {}
                Next::Finished => return,
            }
        }
    }

    fn measure(&self, measured: &mut Option<Instant>) {
        let now = self.clock.instant();
        if measured.is_some_and(|at| now.saturating_duration_since(at) < SIZE_PERIOD) {
            return;
        }
        *measured = Some(now);
        if let Ok(Some(bytes)) = std::panic::catch_unwind(AssertUnwindSafe(|| self.store.size_bytes())) {
            self.health.size.store(bytes, Ordering::Relaxed);
            #[expect(clippy::cast_precision_loss, reason = "a gauge; exact up to 9 PB")]
            metrics::gauge!(crate::metrics::STORE_SIZE_BYTES).set(bytes as f64);
        }
    }

    fn settle(&self, group: Vec<Pending>) {
        let group = Group::new(&self.queue, group);
        #[expect(clippy::cast_precision_loss, reason = "a histogram of a few MB")]
        handles().bytes.record(group.bytes() as f64);
        self.gauge();
        let results = self.commit_all(&group.requests);
        group.answer(results);
        self.gauge();
    }

    fn gauge(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge; exact up to 9 PB")]
        handles().pending_bytes.set(self.queue.pending_bytes() as f64);
    }

    /// Commits a group, with one result for each request.
    fn commit_all(&self, requests: &[Request]) -> Vec<Result<(), StoreError>> {
        match self.commit(requests) {
            Ok(results) => results
                .into_iter()
                .map(|result| result.map_err(StoreError::from))
                .collect(),
            // What is damaged belongs to one of them: the others must not suffer.
            Err(StoreError::Corrupt { .. }) if requests.len() > 1 => requests
                .iter()
                .flat_map(|request| self.commit_all(std::slice::from_ref(request)))
                .collect(),
            Err(error) => requests.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn commit(&self, requests: &[Request]) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        let start = self.clock.instant();
        let committed = self.guarded(requests);
        let took = self.clock.instant().saturating_duration_since(start);
        handles().duration.record(took.as_secs_f64());
        #[expect(clippy::cast_precision_loss, reason = "a count of a few thousand")]
        handles().requests.record(requests.len() as f64);
        self.health.commits.fetch_add(1, Ordering::Relaxed);
        self.health.requests.fetch_add(requests.len() as u64, Ordering::Relaxed);
        match &committed {
            Ok(_) => {
                let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX).max(1);
                self.health.latency_us.store(us, Ordering::Relaxed);
                self.health.works();
            }
            Err(error) => {
                self.health.fails(error);
                // One damaged session is no reason to take nothing from the others.
                let only_damage = matches!(error, StoreError::Corrupt { .. }) && !requests.is_empty();
                match if only_damage {
                    self.guarded(&[])
                } else {
                    committed.clone()
                } {
                    Ok(_) => self.health.works(),
                    Err(error) => self.health.is_down(&error),
                }
            }
        }
        committed
    }

    fn guarded(&self, requests: &[Request]) -> Result<Vec<Result<(), Refusal>>, StoreError> {
        let committed = std::panic::catch_unwind(AssertUnwindSafe(|| self.store.commit(requests)));
        let panicked = |_panic| Err(StoreError::Io("the store panicked".to_owned()));
        let results = committed.unwrap_or_else(panicked)?;
        if results.len() == requests.len() {
            return Ok(results);
        }
        Err(StoreError::Io(
            "the store answered another number of requests".to_owned(),
        ))
    }
}
