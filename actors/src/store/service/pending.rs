//! Requests on their way, each with its callback: answered exactly once, whatever happens to who holds them.

use std::{panic::AssertUnwindSafe, sync::Arc};

use super::queue::Queue;
use crate::{
    mailbox::Queued,
    store::{Request, StoreError},
};

type Callback = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Told how a request ended. Dropped without an answer, it tells [`StoreError::Closed`]: nobody knows how it ended.
pub(super) struct Done(Option<Callback>);

impl Done {
    pub(super) fn new(callback: impl FnOnce(Result<(), StoreError>) + Send + 'static) -> Self {
        Self(Some(Box::new(callback)))
    }

    pub(super) fn answer(mut self, result: Result<(), StoreError>) {
        self.tell(result);
    }

    fn tell(&mut self, result: Result<(), StoreError>) {
        let Some(callback) = self.0.take() else { return };
        if std::panic::catch_unwind(AssertUnwindSafe(|| callback(result))).is_err() {
            tracing::error!("a callback of the store panicked");
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        self.tell(Err(StoreError::Closed));
    }
}

/// One submitted request.
pub(super) struct Pending {
    pub(super) request: Request,
    pub(super) done: Done,
    pub(super) bytes: usize,
    pub(super) ticket: u64,
    pub(super) queued: Queued,
}

/// The group that the committer works on. However it is let go of, its bytes are released, its requests are answered, and
/// then who waited for them is woken.
pub(super) struct Group {
    queue: Arc<Queue>,
    pub(super) requests: Vec<Request>,
    callbacks: Vec<Done>,
    bytes: usize,
    ticket: u64,
}

impl Group {
    pub(super) fn new(queue: &Arc<Queue>, pending: Vec<Pending>) -> Self {
        let bytes = pending.iter().map(|pending| pending.bytes).sum();
        let ticket = pending.last().map_or(0, |pending| pending.ticket);
        let (requests, callbacks) = pending
            .into_iter()
            .map(|pending| {
                pending.queued.taken();
                (pending.request, pending.done)
            })
            .unzip();
        Self {
            queue: Arc::clone(queue),
            requests,
            callbacks,
            bytes,
            ticket,
        }
    }

    /// Bytes of its requests, as they count while they wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Answers each request with its own result.
    pub(super) fn answer(mut self, results: Vec<Result<(), StoreError>>) {
        self.release();
        for (done, result) in self.callbacks.drain(..).zip(results) {
            done.answer(result);
        }
    }

    fn release(&mut self) {
        self.queue.release(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.release();
        self.callbacks.clear();
        self.queue.settle(self.ticket);
    }
}
