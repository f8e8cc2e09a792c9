//! Sessions that hang: no progress while they have work counts as dead.

use std::time::Duration;

use actix::prelude::*;
use kronos_protocol::ids::SessionId;

use super::{Directory, parked::Reason};
use crate::{
    metrics::is_measured,
    session::{Origin, metrics},
    tally::{self, Tally},
};

/// How often a directory looks within the time after which a session hangs.
const LOOKS: u32 = 4;
/// How often it looks at the cursors.
const LAG_EVERY: Duration = Duration::from_secs(1);

impl Directory {
    /// Looks at all sessions of this core now and then.
    pub(super) fn watch(&self, ctx: &mut Context<Self>) {
        let every = (self.node.config.hang_timeout / LOOKS).max(Duration::from_millis(10));
        ctx.run_interval(every, |act, ctx| act.end_hanging(ctx));
        if is_measured() {
            ctx.run_interval(LAG_EVERY, |act, _| act.note_lag());
        }
    }

    /// Says how far the cursors of this core are behind.
    fn note_lag(&self) {
        let now = self.node.clock.instant();
        let (mut lag, mut lagging) = (0, 0);
        for live in self.live.values() {
            let (slowest, slow) = live.pulse.lag(now);
            lag = lag.max(slowest);
            lagging += slow;
        }
        tally::set(Tally::Lag, i64::try_from(lag).unwrap_or(i64::MAX));
        tally::set(Tally::Lagging, i64::try_from(lagging).unwrap_or(i64::MAX));
    }

    fn end_hanging(&mut self, ctx: &mut Context<Self>) {
        let (now, limit) = (self.node.clock.instant(), self.node.config.hang_timeout);
        let hanging: Vec<SessionId> = self
            .live
            .iter()
            .filter(|(_, live)| live.pulse.hangs(now, limit))
            .map(|(session, _)| session.clone())
            .collect();
        for session in hanging {
            self.end_one(&session, ctx);
        }
    }

    /// Ends a session that hangs and starts it again from its log; one that does so too often is parked. Its readers are told
    /// that it closed, and find it again.
    fn end_one(&mut self, session: &SessionId, ctx: &mut Context<Self>) {
        if !self.abort(session) {
            return;
        }
        metrics::handles().restarted_hang.increment(1);
        tracing::error!(session.id = %session, "session hangs and is started again");
        let (now, config) = (self.node.clock.instant(), &self.node.config);
        let strikes = self.strikes.entry(session.clone()).or_default();
        strikes.retain(|at| now.saturating_duration_since(*at) <= config.restart_window);
        strikes.push(now);
        if strikes.len() > usize::try_from(config.max_restarts).unwrap_or(usize::MAX) {
            self.strikes.remove(session);
            self.node.park(session, Reason::Hangs);
            self.node.unroute(session);
            return;
        }
        let wire = super::node::wire(session);
        self.activate(session, wire, Origin::Stored, ctx.address());
    }

    /// Ends the actor of a session as it is. Its route stays. Returns whether there was one.
    pub(super) fn abort(&mut self, session: &SessionId) -> bool {
        let Some(live) = self.live.remove(session) else {
            return false;
        };
        self.sessions.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        live.task.abort();
        // Who waited for it to stop looks again.
        drop(live.stopping);
        true
    }
}
