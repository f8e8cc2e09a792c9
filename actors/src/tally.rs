//! Counts of hot paths: cells of each thread, put together when somebody looks.
//!
//! Adding costs a nanosecond, and no core waits for another. What is counted here is shown by [`report`], before each scrape.

use std::{
    array,
    sync::{
        Arc, LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
};

use metrics::{Counter, Gauge, counter, gauge};

use crate::metrics as names;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tally {
    /// Messages in mailboxes of sessions.
    SessionMail,
    /// The same of websockets.
    ConnectionMail,
    /// The same of directories.
    DirectoryMail,
    /// The same of Composio's service.
    ComposioMail,
    /// Requests that wait for a group commit.
    StoreMail,
    /// Events that sessions decided.
    Appended,
    /// Events that became part of the one before them.
    Merged,
    /// Events given to cursors.
    Delivered,
    /// Messages from clients with JSON.
    JsonFramesIn,
    /// Messages to them.
    JsonFramesOut,
    /// Bytes from them.
    JsonBytesIn,
    /// Bytes to them.
    JsonBytesOut,
    /// Messages from clients with MessagePack.
    MsgpackFramesIn,
    /// Messages to them.
    MsgpackFramesOut,
    /// Bytes from them.
    MsgpackBytesIn,
    /// Bytes to them.
    MsgpackBytesOut,
    /// Cursors of websockets.
    Attachments,
    /// Runs that work.
    RunsActive,
    /// Of this thread: sessions that left memory under their sockets.
    Hibernated,
    /// Of this thread: cursors that lag.
    Lagging,
    /// Of this thread: events that the slowest cursor has not asked for.
    Lag,
}

const COUNT: usize = Tally::Lag as usize + 1;

/// The cells of one thread, which alone writes them.
#[derive(Debug)]
struct Cells([AtomicI64; COUNT]);

/// The cells of all threads, and the sums of those that are gone.
struct All {
    threads: Vec<Arc<Cells>>,
    gone: [i64; COUNT],
}

static ALL: Mutex<All> = Mutex::new(All {
    threads: Vec::new(),
    gone: [0; COUNT],
});

fn all() -> MutexGuard<'static, All> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// This thread's part.
struct Local(Arc<Cells>);

impl Local {
    fn new() -> Self {
        let cells = Arc::new(Cells(array::from_fn(|_| AtomicI64::new(0))));
        all().threads.push(Arc::clone(&cells));
        Self(cells)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let mut all = all();
        all.threads.retain(|cells| !Arc::ptr_eq(cells, &self.0));
        for (gone, cell) in all.gone.iter_mut().zip(&self.0.0) {
            *gone += cell.load(Ordering::Relaxed);
        }
    }
}

thread_local! {
    static LOCAL: Local = Local::new();
}

/// Adds to a count.
pub(crate) fn add(tally: Tally, by: i64) {
    let added = LOCAL.try_with(|local| {
        let cell = &local.0.0[tally as usize];
        // Nobody else writes it.
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    });
    if added.is_err() {
        // This thread is ending.
        all().gone[tally as usize] += by;
    }
}

/// Says what there is on this thread.
pub(crate) fn set(tally: Tally, value: i64) {
    // Of a thread that ends nothing is left to say.
    LOCAL
        .try_with(|local| local.0.0[tally as usize].store(value, Ordering::Relaxed))
        .ok();
}

/// What was added on all threads, those that are gone too.
pub(crate) fn sum(tally: Tally) -> i64 {
    let all = all();
    let live = all
        .threads
        .iter()
        .map(|cells| cells.0[tally as usize].load(Ordering::Relaxed));
    live.fold(all.gone[tally as usize], i64::wrapping_add)
}

/// What the threads that live say, put together by `with`.
fn now(tally: Tally, with: impl Fn(i64, i64) -> i64) -> i64 {
    let all = all();
    let live = all
        .threads
        .iter()
        .map(|cells| cells.0[tally as usize].load(Ordering::Relaxed));
    live.fold(0, with)
}

/// One of those that are there: counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Counted(Tally);

impl Counted {
    /// There is one more.
    pub(crate) fn new(tally: Tally) -> Self {
        add(tally, 1);
        Self(tally)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        add(self.0, -1);
    }
}

struct Handles {
    counters: [(Tally, Counter); 11],
    gauges: [(Tally, Gauge); 2],
    hibernated: Gauge,
    lagging: Gauge,
    lag: Gauge,
}

/// Shows everything that is not a mailbox's; those [`crate::mailbox::report`] shows.
pub fn report() {
    static HANDLES: LazyLock<Handles> = LazyLock::new(|| Handles {
        counters: [
            (Tally::Appended, counter!(names::EVENTS_APPENDED)),
            (Tally::Merged, counter!(names::EVENTS_MERGED)),
            (Tally::Delivered, counter!(names::EVENTS_DELIVERED)),
            (Tally::JsonFramesIn, counter!(names::FRAMES_IN, "codec" => "json")),
            (Tally::JsonFramesOut, counter!(names::FRAMES_OUT, "codec" => "json")),
            (Tally::JsonBytesIn, counter!(names::BYTES_IN, "codec" => "json")),
            (Tally::JsonBytesOut, counter!(names::BYTES_OUT, "codec" => "json")),
            (Tally::MsgpackFramesIn, counter!(names::FRAMES_IN, "codec" => "msgpack")),
            (
                Tally::MsgpackFramesOut,
                counter!(names::FRAMES_OUT, "codec" => "msgpack"),
            ),
            (Tally::MsgpackBytesIn, counter!(names::BYTES_IN, "codec" => "msgpack")),
            (Tally::MsgpackBytesOut, counter!(names::BYTES_OUT, "codec" => "msgpack")),
        ],
        gauges: [
            (Tally::Attachments, gauge!(names::ATTACHMENTS)),
            (Tally::RunsActive, gauge!(names::RUNS_ACTIVE)),
        ],
        hibernated: gauge!(names::SESSIONS_HIBERNATED),
        lagging: gauge!(names::CURSORS_LAGGING),
        lag: gauge!(names::CURSOR_LAG),
    });
    for (tally, counter) in &HANDLES.counters {
        counter.absolute(sum(*tally).unsigned_abs());
    }
    for (tally, gauge) in &HANDLES.gauges {
        gauge.set(float(sum(*tally)));
    }
    HANDLES.hibernated.set(float(now(Tally::Hibernated, i64::wrapping_add)));
    HANDLES.lagging.set(float(now(Tally::Lagging, i64::wrapping_add)));
    HANDLES.lag.set(float(now(Tally::Lag, i64::max)));
}

#[expect(clippy::cast_precision_loss, reason = "a gauge")]
pub(crate) fn float(value: i64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_add_up_and_what_a_thread_added_outlives_it() {
        let before = sum(Tally::Merged);
        add(Tally::Merged, 2);
        let one = Counted::new(Tally::Merged);
        let other = std::thread::spawn(|| {
            add(Tally::Merged, 5);
            Counted::new(Tally::Merged)
        });
        let moved = other.join().unwrap();
        assert_eq!(sum(Tally::Merged) - before, 9);
        drop((one, moved));
        assert_eq!(sum(Tally::Merged) - before, 7);
    }

    #[test]
    fn what_a_thread_said_of_itself_goes_with_it() {
        set(Tally::Lag, 3);
        std::thread::spawn(|| set(Tally::Lag, 7)).join().unwrap();
        assert_eq!(now(Tally::Lag, i64::max), 3);
        set(Tally::Lag, 0);
    }
}
