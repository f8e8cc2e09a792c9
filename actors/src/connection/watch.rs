//! Looks at the connections of one core from outside and ends those whose peers read nothing.
//!
//! A websocket actor is polled only when its socket took what was written, so behind a peer that takes nothing its
//! timers stand still and its mailbox fills: it cannot end itself. One task for each thread that serves websockets looks at
//! what they share ([`Link`]). A peer that reads nothing is told so first, should it begin to read; then its socket is shut
//! down, which wakes its task. Nothing here knows what is sent.

use std::{
    cell::RefCell,
    net::Shutdown,
    rc::{Rc, Weak},
    time::{Duration, Instant},
};

use actix::Recipient;
use kronos_protocol::{close::CloseCode, ids::ConnectionId};
use tracing::debug;

use super::{link::Link, metrics, registry::Control};
use crate::clock::Clock;

/// Looks within one time-out.
const LOOKS: u32 = 8;
/// Pause between two looks at most and at least.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
/// Time between the close frame and the cut.
const GRACE: Duration = Duration::from_secs(1);

thread_local! {
    /// The connections of this thread; `None` while nobody watches.
    static WATCHED: RefCell<Option<Vec<Watched>>> = const { RefCell::new(None) };
}

/// One connection as the watch sees it. Keeps nothing of it alive.
pub(super) struct Watched {
    id: ConnectionId,
    link: Weak<Link>,
    control: Recipient<Control>,
}

impl Watched {
    pub(super) fn new(id: ConnectionId, link: &Rc<Link>, control: Recipient<Control>) -> Self {
        Self {
            id,
            link: Rc::downgrade(link),
            control,
        }
    }

    /// Why it must end, if it must: its peer reads nothing, or an operator wants it gone.
    fn doom(&self, now: Instant, write_timeout: Duration) -> Option<CloseCode> {
        let link = self.link.upgrade()?;
        let silent = link.reads_nothing(now, write_timeout).then_some(CloseCode::NotReading);
        silent.or_else(|| link.vitals().is_condemned())
    }

    /// Closes in order if the actor still can, and cuts when it had its time.
    async fn end(self, code: CloseCode) {
        let close = Control::Close { code, after_ms: None };
        // A mailbox that is full is one that nobody reads.
        drop(self.control.try_send(close));
        tokio::time::sleep(GRACE).await;
        let Some(link) = self.link.upgrade() else { return };
        if link.close() {
            debug!(connection.id = %self.id, code = code.code(), "cutting connection");
            metrics::closed(Some(code.code()));
        }
        link.hang_up().end(Shutdown::Both);
    }
}

/// Watches a connection of this thread until it has ended.
pub(super) fn watch(clock: &Clock, write_timeout: Duration, watched: Watched) {
    let first = WATCHED.with_borrow_mut(|all| {
        let first = all.is_none();
        all.get_or_insert_default().push(watched);
        first
    });
    if first {
        drop(actix::spawn(look_on(clock.clone(), write_timeout)));
    }
}

/// Looks again and again while there is anything to look at.
async fn look_on(clock: Clock, write_timeout: Duration) {
    let pause = (write_timeout / LOOKS).clamp(SHORTEST_PAUSE, LONGEST_PAUSE);
    loop {
        let before = clock.instant();
        tokio::time::sleep(pause).await;
        let now = clock.instant();
        // Then this thread stood still, or the process, and not the peers: their answers wait to be read.
        if now.saturating_duration_since(before) > pause * 2 {
            continue;
        }
        let dead = WATCHED.with_borrow_mut(|all| {
            let watched = all.as_mut()?;
            watched.retain(|one| one.link.strong_count() > 0);
            if watched.is_empty() {
                *all = None;
                return None;
            }
            let doomed = watched.extract_if(.., |one| one.doom(now, write_timeout).is_some());
            let doomed = doomed.filter_map(|one| one.doom(now, write_timeout).map(|code| (one, code)));
            Some(doomed.collect::<Vec<_>>())
        });
        let Some(dead) = dead else { return };
        for (watched, code) in dead {
            drop(actix::spawn(watched.end(code)));
        }
    }
}
