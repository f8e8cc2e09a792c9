//! The level, changed while the server runs: for good, or for a while.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use kronos_actors::clock::{Clock, Millis};
use tracing::Level;
use tracing_subscriber::{EnvFilter, Registry, reload};

use super::{LOGS, filter_for, lock};

/// Which lines are written, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InEffect {
    /// A level or a filter.
    pub(crate) level: String,
    /// For how long, and what comes then; `None`: for good.
    pub(crate) then: Option<Then>,
}

/// What a level that was set for a while is followed by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Then {
    /// When it ends.
    pub(crate) at_ms: Millis,
    /// The level that comes then: the last that was set for good.
    pub(crate) level: String,
}

/// The level cannot be changed: somebody else's subscriber writes the lines of this process.
#[derive(Debug, thiserror::Error)]
#[error("the log lines of this process are written by another subscriber")]
pub(crate) struct NotOurs;

/// The level of this process.
pub(super) struct Control {
    state: Mutex<State>,
    filter: reload::Handle<EnvFilter, Registry>,
    spans: Arc<AtomicBool>,
}

struct State {
    now: InEffect,
    /// Changes so far: what was set for a while ends only what it began.
    changes: u64,
}

impl Control {
    pub(super) fn new(level: &str, filter: reload::Handle<EnvFilter, Registry>) -> Self {
        Self {
            state: Mutex::new(State {
                now: InEffect {
                    level: level.to_owned(),
                    then: None,
                },
                changes: 0,
            }),
            filter,
            spans: Arc::new(AtomicBool::new(names_spans(level))),
        }
    }

    /// Whether the filter names spans.
    pub(super) fn spans(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.spans)
    }

    fn set(&self, state: &mut State, next: InEffect) -> Result<(), NotOurs> {
        let filter = EnvFilter::new(filter_for(&next.level));
        self.spans.store(names_spans(&next.level), Ordering::Relaxed);
        self.filter.reload(filter).map_err(|_gone| NotOurs)?;
        state.now = next;
        state.changes += 1;
        Ok(())
    }
}

fn names_spans(filter: &str) -> bool {
    filter.contains('[')
}

/// Returns which lines are written; `None` where no lines were started.
pub(crate) fn in_effect() -> Option<InEffect> {
    LOGS.get().map(|logs| lock(&logs.level.state).now.clone())
}

/// Writes the lines of `level`, which [`super::read_level`] made, from here on or for a while. `by` is told in a line.
/// Returns what was, and what is. Within an actix system.
///
/// # Errors
/// [`NotOurs`].
pub(crate) fn change(
    level: String,
    during: Option<Duration>,
    by: &str,
    clock: &Clock,
) -> Result<(InEffect, InEffect), NotOurs> {
    let control = &LOGS.get().ok_or(NotOurs)?.level;
    let mut state = lock(&control.state);
    let was = state.now.clone();
    let lasting = was.then.as_ref().map_or(&was.level, |then| &then.level).clone();
    let ends_at = |during: Duration| {
        let during = Millis::try_from(during.as_millis()).unwrap_or(Millis::MAX);
        clock.now_ms().saturating_add(during)
    };
    let now = InEffect {
        level,
        then: during.map(|during| Then {
            at_ms: ends_at(during),
            level: lasting,
        }),
    };
    let say = || {
        tracing::warn!(
            user.id = by,
            was = was.level,
            level = now.level,
            for_seconds = during.map(|during| during.as_secs()),
            "the log level is changed"
        );
    };
    // The line is written if either level has it.
    let before = tracing::enabled!(Level::WARN);
    if before {
        say();
    }
    control.set(&mut state, now.clone())?;
    if !before {
        say();
    }
    if let Some(then) = now.then.clone() {
        actix_web::rt::spawn(end(state.changes, then, clock.clone()));
    }
    Ok((was, now))
}

/// Goes back when the time is over, unless the level was changed meanwhile.
async fn end(change: u64, then: Then, clock: Clock) {
    clock.sleep_until(then.at_ms).await;
    let Some(logs) = LOGS.get() else { return };
    let control = &logs.level;
    let mut state = lock(&control.state);
    if state.changes != change {
        return;
    }
    let next = InEffect {
        level: then.level,
        then: None,
    };
    if control.set(&mut state, next.clone()).is_ok() {
        tracing::info!(level = next.level, "the log level is what it was");
    }
}
