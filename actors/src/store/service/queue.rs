//! What waits for the committer, and who waits for what has been submitted.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    sync::{
        Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use kronos_protocol::ids::SessionId;
use tokio::sync::oneshot;

use super::pending::{Done, Pending};
use crate::{
    mailbox::{Mailbox, Queued},
    metrics,
    store::{Request, StoreError, order},
};

/// Most requests of one commit: about what one flush can carry without the others noticing.
const GROUP_REQUESTS: usize = 4096;
/// Most bytes of one commit; one larger request still goes, alone.
const GROUP_BYTES: usize = 8 * 1024 * 1024;
/// What a request counts beside its payloads: its ids, its queue entry.
const REQUEST_BYTES: usize = 128;

/// What the committer is to do next.
pub(super) enum Next {
    Commit(Vec<Pending>),
    /// Nothing came in the time that it wanted to wait.
    Idle,
    /// Closed, and everything that was submitted is settled.
    Finished,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    /// The number of the last submitted request.
    issued: u64,
    /// The last ticket of each session with something unsettled.
    unsettled: HashMap<SessionId, u64>,
    waiters: BTreeMap<u64, Vec<oneshot::Sender<()>>>,
    closed: bool,
    finished: bool,
    closers: Vec<oneshot::Sender<()>>,
}

/// The queue between submitters and the committer.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
    /// Bytes of what waits or is in a commit. Written within the lock only.
    pending_bytes: AtomicUsize,
}

fn sessions(request: &Request) -> impl Iterator<Item = &SessionId> {
    order::touched(request).chain(&request.delete)
}

fn bytes(request: &Request) -> usize {
    let appended = request.append.iter().flat_map(|append| &append.records);
    let packed = request.pack.iter().flat_map(|pack| &pack.records);
    let records: usize = appended.chain(packed).map(|record| record.payload.len()).sum();
    let documents = request
        .documents
        .iter()
        .map(|write| write.key.len() + write.value.as_ref().map_or(0, bytes::Bytes::len));
    let meta = request.meta.as_ref().map_or(0, |meta| {
        meta.settings.len() + meta.title.as_ref().map_or(0, String::len) + meta.preview.as_ref().map_or(0, String::len)
    });
    REQUEST_BYTES + records + documents.sum::<usize>() + meta
}

impl Queue {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: Mutex::default(),
            changed: Condvar::new(),
            limit,
            pending_bytes: AtomicUsize::new(0),
        }
    }

    // The lock is held for assignments only, which do not panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request in, or gives its callback back with the reason why not.
    pub(super) fn submit(&self, request: Request, done: Done) -> Result<(), (Done, StoreError)> {
        let bytes = bytes(&request);
        let mut state = self.state();
        if state.closed {
            return Err((done, StoreError::Closed));
        }
        if !self.fits(bytes) {
            metrics::refused("store_pending_bytes");
            return Err((done, StoreError::Overloaded));
        }
        state.issued += 1;
        self.pending_bytes.fetch_add(bytes, Ordering::Relaxed);
        let ticket = state.issued;
        for session in sessions(&request) {
            state.unsettled.insert(session.clone(), ticket);
        }
        let first = state.waiting.is_empty();
        state.waiting.push_back(Pending {
            request,
            done,
            bytes,
            ticket,
            queued: Queued::new(Mailbox::Store),
        });
        drop(state);
        // Behind another request the committer knows already that there is work; waking costs a call of the system.
        if first {
            self.changed.notify_all();
        }
        Ok(())
    }

    // Alone, even one above the bound goes: else it could never be written.
    fn fits(&self, bytes: usize) -> bool {
        let pending = self.pending_bytes();
        pending == 0 || pending.saturating_add(bytes) <= self.limit
    }

    /// Whether a request with so many bytes would be taken now.
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.fits(bytes.saturating_add(REQUEST_BYTES))
    }

    /// Waits for work, at most `patience`.
    pub(super) fn next(&self, patience: Duration) -> Next {
        let state = self.state();
        let idle = |state: &mut State| state.waiting.is_empty() && !state.closed;
        let waited = self.changed.wait_timeout_while(state, patience, idle);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if state.waiting.is_empty() {
            return if state.closed { Next::Finished } else { Next::Idle };
        }
        let mut bytes = 0;
        let fits = |pending: &&Pending| {
            let first = bytes == 0;
            bytes += pending.bytes;
            first || bytes <= GROUP_BYTES
        };
        // A session is not made again in the group that deletes it.
        let mut deleted = HashSet::new();
        let apart = |pending: &&Pending| {
            let again = !deleted.is_empty() && sessions(&pending.request).any(|session| deleted.contains(session));
            deleted.extend(pending.request.delete.clone());
            !again
        };
        let group = state.waiting.iter().take(GROUP_REQUESTS);
        let count = group.take_while(fits).take_while(apart).count();
        Next::Commit(state.waiting.drain(..count).collect())
    }

    /// Lets go of the bytes of a group that has been committed or has failed.
    pub(super) fn release(&self, bytes: usize) {
        let _submitters_wait = self.state();
        self.pending_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Settles everything up to `ticket` and wakes who waited for it.
    pub(super) fn settle(&self, ticket: u64) {
        let mut state = self.state();
        state.unsettled.retain(|_, last| *last > ticket);
        let later = state.waiters.split_off(&ticket.saturating_add(1));
        let woken = std::mem::replace(&mut state.waiters, later);
        drop(state);
        for waiter in woken.into_values().flatten() {
            // One that no longer waits needs no waking.
            waiter.send(()).ok();
        }
    }

    /// Waits until everything that was submitted about `session` so far is settled.
    pub(super) async fn settled(&self, session: &SessionId) {
        let settled = {
            let mut state = self.state();
            let Some(ticket) = state.unsettled.get(session).copied() else {
                return;
            };
            let (wake, settled) = oneshot::channel();
            state.waiters.entry(ticket).or_default().push(wake);
            settled
        };
        // A lost committer settles nothing; the read that follows tells.
        drop(settled.await);
    }

    /// Refuses everything from now on; what was submitted is still settled.
    pub(super) fn close(&self) {
        self.state().closed = true;
        self.changed.notify_all();
    }

    /// Waits until the committer has finished.
    pub(super) async fn finished(&self) {
        let finished = {
            let mut state = self.state();
            if state.finished {
                return;
            }
            let (wake, finished) = oneshot::channel();
            state.closers.push(wake);
            finished
        };
        drop(finished.await);
    }

    /// Says that the committer has finished.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        state.finished = true;
        state.closed = true;
        let closers = std::mem::take(&mut state.closers);
        // Nothing waits after an orderly end. After another one nobody else will answer it.
        let lost = (std::mem::take(&mut state.waiting), std::mem::take(&mut state.waiters));
        drop(state);
        drop(lost);
        for closer in closers {
            closer.send(()).ok();
        }
    }

    pub(super) fn is_finished(&self) -> bool {
        self.state().finished
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.pending_bytes.load(Ordering::Relaxed)
    }
}
