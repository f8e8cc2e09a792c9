//! A few threads that read, so that no actor ever waits for a disk.

use std::{
    collections::VecDeque,
    panic::AssertUnwindSafe,
    sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use metrics::{Counter, Histogram, counter, histogram};
use tokio::sync::oneshot;

use super::committer::restarting;
use crate::{
    clock,
    metrics::{STORE_READ_DURATION, STORE_READ_ERRORS},
    store::{SessionStore, StoreError},
};

/// Reads that may wait for a thread: a few seconds of work for a busy disk.
const WAITING: usize = 4096;

type Job = Box<dyn FnOnce(&dyn SessionStore) + Send>;

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next(&self) -> Option<Job> {
        let idle = |state: &mut State| state.jobs.is_empty() && !state.closed;
        let mut state = self
            .changed
            .wait_while(self.state(), idle)
            .unwrap_or_else(PoisonError::into_inner);
        state.jobs.pop_front()
    }
}

/// Handles of what is measured at every read.
struct ReadMetrics {
    duration: Histogram,
    errors: Counter,
}

/// The handles; the recorder is installed before a store is started.
fn handles() -> &'static ReadMetrics {
    static HANDLES: LazyLock<ReadMetrics> = LazyLock::new(|| ReadMetrics {
        duration: histogram!(STORE_READ_DURATION),
        errors: counter!(STORE_READ_ERRORS),
    });
    &HANDLES
}

/// The door to the reading threads.
#[derive(Clone)]
pub(super) struct Readers {
    shared: Arc<Shared>,
}

impl Readers {
    /// Starts the threads; each ends after [`Readers::close`], when no job is left.
    pub(super) fn start(
        store: &Arc<dyn SessionStore>,
        threads: usize,
    ) -> Result<(Self, Vec<JoinHandle<()>>), StoreError> {
        let shared = Arc::<Shared>::default();
        let spawn = |number| {
            let (shared, store) = (Arc::clone(&shared), Arc::clone(store));
            let run = move || {
                restarting("reader", || {
                    while let Some(job) = shared.next() {
                        job(store.as_ref());
                    }
                });
            };
            let thread = std::thread::Builder::new()
                .name(format!("kronos-read-{number}"))
                .spawn(run);
            thread.map_err(|error| StoreError::Io(format!("cannot start a thread: {error}")))
        };
        let threads = (0..threads.max(1)).map(spawn).collect::<Result<_, _>>();
        let readers = Self { shared };
        match threads {
            Ok(threads) => Ok((readers, threads)),
            Err(error) => {
                readers.close();
                Err(error)
            }
        }
    }

    /// Runs one read on one of the threads.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn SessionStore) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let begun = clock::now();
        let job: Job = Box::new(move |store| {
            if answer.is_closed() {
                return;
            }
            let read = std::panic::catch_unwind(AssertUnwindSafe(|| read(store)));
            let failed = |_panic| Err(StoreError::Io("a read panicked".to_owned()));
            let read = read.unwrap_or_else(failed);
            let took = clock::now().saturating_duration_since(begun);
            handles().duration.record(took.as_secs_f64());
            if read.is_err() {
                handles().errors.increment(1);
            }
            // Who asked may have gone.
            drop(answer.send(read));
        });
        {
            let mut state = self.shared.state();
            if state.closed {
                return Err(StoreError::Closed);
            }
            if state.jobs.len() >= WAITING {
                handles().errors.increment(1);
                return Err(StoreError::Overloaded);
            }
            state.jobs.push_back(job);
        }
        self.shared.changed.notify_one();
        answered.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Refuses later reads.
    pub(super) fn close(&self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
    }
}
