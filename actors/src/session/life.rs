//! A session's life: folding its log, committing, failing and folding again, idleness, the end.

use super::*;
use crate::{
    config::{AbortAt, AbortPoint, Durability},
    directory::{MayStop, Staying, sleep::FallAsleep},
    mailbox::{Mailbox, Queued},
    principal::REMOVED,
    session::log::Stored,
    store::{Append, DocumentWrite, Expect, Pack, Record, Request},
};

/// The longest pause before a session reads its log again after a failed commit.
const MAX_REFOLD_DELAY: Duration = Duration::from_secs(5);

/// The pause before a session tries again to hand its events to a store that has no room.
const FULL_PAUSE: Duration = Duration::from_millis(20);
/// How long a session that does not exist waits for whoever asked for it.
const LINGER: Duration = Duration::from_secs(1);
/// Time in which a call that may leave does, before a test ends the process.
const LEAVING: Duration = Duration::from_millis(20);
/// The pause before the log is read again after a second panic; doubled each time.
const PANIC_PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
const MAX_PANIC_PAUSE: Duration = Duration::from_secs(5);

impl Session {
    /// How long to wait before the log is read: nothing at first, longer each time that it panics again before it got on.
    pub(super) fn pause(&self) -> Duration {
        match self.panics {
            0 | 1 => Duration::ZERO,
            panics => (PANIC_PAUSE * (1 << (panics - 2).min(10))).min(MAX_PANIC_PAUSE),
        }
    }

    /// Reads the log; until it is folded the mailbox waits.
    pub(super) fn load(&mut self, delay: Duration, ctx: &mut Context<Self>) {
        self.life = Life::Loading;
        self.beat();
        let store = self.deps.store.clone();
        let id = self.id.clone();
        let load = async move {
            if !delay.is_zero() {
                actix::clock::sleep(delay).await;
            }
            store.load(&id).await
        };
        ctx.wait(load.into_actor(self).map(|stored, act, ctx| act.loaded(stored, ctx)));
    }

    fn loaded(&mut self, stored: Result<Option<StoredSession>, StoreError>, ctx: &mut Context<Self>) {
        metrics::handles().activations.increment(1);
        match stored {
            Err(error) => self.unavailable(error, ctx),
            Ok(Some(stored)) => match self.fold(stored) {
                Ok(()) => self.live(ctx),
                Err(error) => self.unavailable(error, ctx),
            },
            Ok(None) => match &self.origin {
                Origin::Stored => {
                    self.life = Life::Missing;
                    self.readers.end_all(&SessionError::not_found(&self.wire));
                    self.wake_readers();
                    // Whoever asked for it is about to be answered: then it leaves at once.
                    ctx.run_later(LINGER, |act, ctx| act.tell_may_stop(ctx));
                }
                Origin::New(meta) | Origin::Held(meta) => {
                    self.settings = serde_json::from_str(&meta.settings).unwrap_or_default();
                    self.meta = Some(meta.as_ref().clone());
                    self.meta_due = true;
                    self.live(ctx);
                }
            },
        }
    }

    fn unavailable(&mut self, error: StoreError, ctx: &mut Context<Self>) {
        tracing::error!(session.id = %self.id, %error, "session cannot be read");
        self.life = Life::Unavailable(error);
        self.readers.end_all(&SessionError::closed());
        self.wake_readers();
        self.tell_may_stop(ctx);
    }

    /// Tells the readers of a session that slept to attach again.
    fn wake_readers(&mut self) {
        self.beat();
        for sleeper in self.sleepers.drain(..) {
            sleeper.tell(Payload::Woken);
        }
    }

    fn fold(&mut self, stored: StoredSession) -> Result<(), StoreError> {
        for record in stored.records {
            let seq = record.seq;
            let damaged = |what: String| StoreError::Corrupt {
                at: format!("{} seq {seq}", self.id),
                what,
            };
            let event = Stored::decode(&record).map_err(|error| damaged(error.to_string()))?;
            self.state
                .apply(seq, &event)
                .map_err(|error| damaged(error.to_string()))?;
            self.log.restore(record, event, stored.packed_upto);
        }
        self.settings = serde_json::from_str(&stored.meta.settings).unwrap_or_default();
        let mut meta = stored.meta;
        if meta.relaxed_run && self.state.run.is_some() {
            // Readers may have seen text that is lost now: their cursors are void.
            meta.epoch = ids::epoch();
            self.meta_due = true;
            metrics::handles().epochs.increment(1);
            self.readers.end_all(&SessionError::closed());
        }
        self.meta = Some(meta);
        self.exists = true;
        self.marked_unfinished = stored.unfinished;
        self.asked_before();
        Ok(())
    }

    fn live(&mut self, ctx: &mut Context<Self>) {
        self.life = Life::Live;
        self.wake_readers();
        let retriable = self.state.retriable(self.deps.config.max_run_attempts).is_some();
        if self.state.run.is_some() || retriable || self.state.goes_on() {
            metrics::handles().runs_interrupted.increment(1);
            self.drive(Input::Recovered, ReplyTo::NONE, ctx);
        } else if !self.state.queue.is_empty() && !self.draining() {
            self.drive(Input::Next, ReplyTo::NONE, ctx);
        }
        self.watch_questions(ctx);
        self.flush(ctx);
        self.serve_all(ctx);
    }

    /// Drops everything that is not durable and reads the log again; readers stay where they are.
    pub(super) fn refold(&mut self, failure: &SessionError, delay: Duration, ctx: &mut Context<Self>) {
        self.reset(failure, ctx);
        self.load(delay, ctx);
    }

    /// Drops everything that is not durable.
    pub(super) fn reset(&mut self, failure: &SessionError, ctx: &mut Context<Self>) {
        self.incarnation += 1;
        self.stay(failure);
        self.stop_work(ctx);
        self.documents.clear();
        self.watch.clear();
        self.asked = Asked::default();
        self.readers.marks.clear();
        self.in_flight = None;
        self.state = State::default();
        self.log = Log::new(self.deps.config.tail_bytes, self.deps.config.durability);
        self.running = Running::default();
        self.exists = false;
        self.pack_due = true;
        self.meta_due = false;
        if let Some(timer) = self.flush_timer.take() {
            ctx.cancel_future(timer);
        }
        for waiting in self.waiting.drain(..) {
            waiting.reply.send(Err(failure.clone()));
        }
        self.life = Life::Loading;
    }

    /// Hands to the store what waits, unless a commit is in the air: then the next one takes it.
    pub(super) fn flush(&mut self, ctx: &mut Context<Self>) {
        if self.in_flight.is_some() || !matches!(self.life, Life::Live) {
            return;
        }
        if matches!(self.origin, Origin::Held(_)) && !self.exists && !self.log.has_pending() {
            return self.settle(ctx);
        }
        let unfinished = self.state.has_work(self.deps.config.max_run_attempts);
        let mark = (unfinished != self.marked_unfinished).then_some(unfinished);
        let overfull = self.log.unpacked_bytes() > self.deps.config.tail_bytes;
        let idle = !self.log.has_pending() && !self.meta_due && !self.asked.due && mark.is_none();
        if idle && !(self.pack_due || overfull) {
            return self.settle(ctx);
        }
        let pack = self.pack_due || overfull;
        let urgent = self.meta_due
            || self.asked.due
            || mark.is_some()
            || pack
            || !self.waiting.is_empty()
            || !self.deferred.is_empty();
        let urgent = std::mem::take(&mut self.flush_due) || urgent;
        if !urgent && self.log.pending_is_shown() {
            return self.flush_later(ctx);
        }
        if !self.deps.store.has_room(self.log.waiting_bytes(pack)) {
            // Nothing is lost: what waits goes with a later commit.
            return self.flush_again(ctx);
        }
        let request = match self.request(mark, pack) {
            Ok(request) => request,
            Err(error) => {
                tracing::error!(session.id = %self.id, user.id = self.owner(), %error, "an event cannot be encoded");
                let failure = SessionError::new(ErrorCode::Internal, "the session had to restart");
                return self.refold(&failure, Duration::from_millis(200), ctx);
            }
        };
        if request == Request::default() {
            return self.settle(ctx);
        }
        let upto = self.log.last();
        self.abort_if_due(AbortPoint::Submit, upto);
        let packed_upto = request
            .pack
            .as_ref()
            .and_then(|pack| pack.records.last())
            .map(|record| record.seq);
        self.in_flight = Some(InFlight {
            upto,
            packed: packed_upto,
            unfinished,
            since: self.time(),
        });
        self.beat();
        let incarnation = self.incarnation;
        let addr = ctx.address();
        self.deps.store.submit(request, move |result| {
            let queued = Queued::new(Mailbox::Session);
            #[expect(
                clippy::disallowed_methods,
                reason = "at most one in flight per session, and it must never be refused"
            )]
            addr.do_send(Settled {
                incarnation,
                result,
                queued,
            });
        });
    }

    /// Takes what waits for the store, and with `pack` everything that is not in segments yet.
    fn request(&mut self, mark: Option<bool>, pack: bool) -> Result<Request, rmp_serde::encode::Error> {
        let records = self.log.take_batch()?;
        let packed = if pack { self.log.unpacked()? } else { Vec::new() };
        self.pack_due = false;
        let of_session = |records: Vec<Record>| (!records.is_empty()).then(|| (self.id.clone(), records));
        let mut request = Request {
            append: of_session(records).map(|(session, records)| Append { session, records }),
            pack: of_session(packed).map(|(session, records)| Pack { session, records }),
            unfinished: mark,
            ..Request::default()
        };
        if std::mem::take(&mut self.meta_due) || mark.is_some() {
            self.refresh_meta();
            request.meta.clone_from(&self.meta);
        }
        request.documents.extend(self.asked_now());
        for (call, whole) in std::mem::take(&mut self.documents) {
            request.documents.push(DocumentWrite {
                family: TOOL_RESULT,
                key: result_key(&self.id, &call),
                value: Some(whole),
                expect: Expect::Any,
            });
        }
        if let Some(meta) = request.meta.as_ref().filter(|_| !self.exists) {
            // Nothing is made for a user who was deleted since this was asked for.
            request.documents.push(DocumentWrite {
                family: REMOVED,
                key: meta.owner.to_string(),
                value: None,
                expect: Expect::Absent,
            });
        }
        Ok(request)
    }

    /// Tries again when the store may have room.
    fn flush_again(&mut self, ctx: &mut Context<Self>) {
        self.flush_due = true;
        if self.flush_timer.is_none() {
            self.flush_timer = Some(ctx.run_later(FULL_PAUSE, |act, ctx| {
                act.flush_timer = None;
                act.flush(ctx);
            }));
        }
    }

    /// Lets text that was shown already wait for more: they share a commit.
    fn flush_later(&mut self, ctx: &mut Context<Self>) {
        if self.flush_timer.is_none() {
            // At the same moment for all sessions: they share one commit.
            let period = i64::try_from(self.deps.config.relaxed_flush.as_millis())
                .unwrap_or(i64::MAX)
                .max(1);
            let left = period - self.deps.clock.now_ms().rem_euclid(period);
            let left = Duration::from_millis(left.unsigned_abs());
            self.flush_timer = Some(ctx.run_later(left, |act, ctx| {
                act.flush_timer = None;
                act.flush_due = true;
                act.flush(ctx);
            }));
        }
    }

    fn refresh_meta(&mut self) {
        let Some(meta) = &mut self.meta else { return };
        meta.relaxed_run = self.deps.config.durability == Durability::Relaxed && self.state.run.is_some();
        meta.message_count = self.state.message_count();
        if self.state.updated_ms > 0 {
            meta.updated_at_ms = self.state.updated_ms;
        }
        let spoken = |said: &&state::Said| match &said.body {
            state::Body::System(_) | state::Body::Tool { .. } => false,
            state::Body::Assistant { text, calls, .. } => calls.is_empty() || !text.is_empty(),
            state::Body::User(_) => true,
        };
        if let Some(said) = self.state.messages.iter().rfind(spoken) {
            meta.preview = Some(first_line(&said.body.text(), 140));
        }
        if let Some(title) = &self.state.title {
            meta.title = Some(title.clone());
        }
        let before = self.settings.clone();
        state::overlay(&mut self.settings, self.state.settings.clone());
        self.settings.title = self.state.title.clone().or(self.settings.title.take());
        if self.settings != before {
            meta.settings = serde_json::to_string(&self.settings).unwrap_or_else(|_| "{}".to_owned());
        }
        if meta.title.is_none()
            && meta.listed
            && let Some(content) = self.state.messages.iter().find_map(|said| match &said.body {
                state::Body::User(content) => Some(content),
                state::Body::System(_) | state::Body::Assistant { .. } | state::Body::Tool { .. } => None,
            })
        {
            meta.title = Some(first_line(&content.text(), 60));
        }
    }

    pub(super) fn committed(&mut self, flight: InFlight, ctx: &mut Context<Self>) {
        self.commit_failures = 0;
        self.panics = 0;
        self.exists = true;
        self.marked_unfinished = flight.unfinished;
        self.asked_durably();
        self.log.commit(flight.upto);
        if let Some(packed) = flight.packed {
            self.log.mark_packed(packed);
        }
        self.abort_if_due(AbortPoint::Commit, flight.upto);
        self.execute_due(ctx);
        if self
            .deps
            .config
            .abort_at
            .is_some_and(|at| at.point == AbortPoint::Leave && at.seq <= flight.upto)
        {
            // Calls that leave are on their way when they have had a moment.
            ctx.run_later(LEAVING, move |act, _| act.abort_if_due(AbortPoint::Leave, flight.upto));
            return;
        }
        let committed = self.log.committed();
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.upto <= committed {
                waiting.reply.send(waiting.result);
            } else {
                self.waiting.push(waiting);
            }
        }
        self.flush(ctx);
        self.serve_all(ctx);
        self.beat();
    }

    /// Ends the process where a test of crashes wants that.
    fn abort_if_due(&self, point: AbortPoint, upto: Seq) {
        let listed = self.meta.as_ref().is_some_and(|meta| meta.listed);
        let due = |at: AbortAt| at.point == point && upto >= at.seq;
        if listed && self.deps.config.abort_at.is_some_and(due) {
            std::process::abort();
        }
    }

    /// Nothing of it counts: what waited is told, and the session starts again from what is durable.
    pub(super) fn commit_failed(&mut self, error: &StoreError, ctx: &mut Context<Self>) {
        if Self::is_ownerless(error) {
            return self.never_was(ctx);
        }
        metrics::handles().restarted_commit.increment(1);
        tracing::warn!(session.id = %self.id, user.id = self.owner(), %error, "commit failed, session folds its log again");
        self.commit_failures = self.commit_failures.saturating_add(1);
        let delay = Duration::from_millis(100 << self.commit_failures.min(6)).min(MAX_REFOLD_DELAY);
        self.refold(&storage_error(error), delay, ctx);
    }

    /// Everything is durable and nothing runs: those who wait for that are told.
    fn settle(&mut self, ctx: &mut Context<Self>) {
        if self.state.run.is_some() {
            return;
        }
        for waiting in self.on_idle.drain(..) {
            if waiting.send(()).is_err() {
                tracing::debug!(session.id = %self.id, "nobody waits for the end of the drain any more");
            }
        }
        if self.finishing {
            ctx.stop();
        } else {
            self.leave(ctx);
        }
    }

    pub(super) fn watch_idleness(&mut self, ctx: &mut Context<Self>) {
        let every = (self.deps.config.idle_timeout / 2).max(Duration::from_millis(50));
        ctx.run_interval(every, |act, ctx| {
            if act.is_idle() {
                act.tell_may_stop(ctx);
            }
        });
    }

    fn is_idle(&self) -> bool {
        let quiet = self.deps.clock.instant().duration_since(self.last_input) >= self.deps.config.idle_timeout;
        match self.life {
            Life::Loading => false,
            // One that is being deleted stays until its readers were told, and whoever deleted it.
            Life::Missing => self.readers.all.is_empty() && !self.deleting,
            Life::Unavailable(_) => true,
            Life::Live => {
                quiet
                    && self.readers.all_wait()
                    && self.presence_timer.is_none()
                    && self.in_flight.is_none()
                    && self.waiting.is_empty()
                    && !self.log.has_pending()
                    && self.state.run.is_none()
                    && (self.state.queue.is_empty() || self.draining() || self.state.waits())
            }
        }
    }

    /// Leaves the readers to the directory, which wakes this session for them.
    pub(super) fn fall_asleep(&mut self) {
        let mut sleepers = self.readers.put_to_sleep();
        sleepers.append(&mut self.sleepers);
        if sleepers.is_empty() {
            return;
        }
        let asleep = FallAsleep {
            session: self.id.clone(),
            sleepers,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "one per passivation, on the same thread; refused, it would lose attachments"
        )]
        self.deps.directory.do_send(asleep);
    }

    pub(super) fn tell_may_stop(&mut self, ctx: &mut Context<Self>) {
        // Asked again at the next tick when the directory's mailbox is full.
        drop(self.deps.directory.try_send(MayStop {
            session: self.id.clone(),
            addr: ctx.address(),
            queued: Queued::new(Mailbox::Directory),
        }));
    }
}

/// The beginning of a text, one line, at most `chars` characters.
fn first_line(text: &str, chars: usize) -> String {
    let line = text.trim().lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(chars).collect();
    if line.chars().nth(chars).is_some() {
        short.push('…');
    }
    short
}

/// The directory has stopped handing this session out: stop, unless something came meanwhile.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct StopIfIdle;

impl Handler<StopIfIdle> for Session {
    type Result = ();

    fn handle(&mut self, _: StopIfIdle, ctx: &mut Self::Context) {
        if self.is_idle() {
            metrics::handles().passivations.increment(1);
            self.fall_asleep();
            ctx.stop();
        } else {
            self.beat();
            let staying = Staying {
                session: self.id.clone(),
            };
            #[expect(clippy::disallowed_methods, reason = "one per StopIfIdle; others wait for it")]
            self.deps.directory.do_send(staying);
        }
    }
}

/// The process drains: no new runs. The sender hears when the active one is over and everything durable.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Drain {
    pub(crate) idle: tokio::sync::oneshot::Sender<()>,
}

impl Handler<Drain> for Session {
    type Result = ();

    fn handle(&mut self, drain: Drain, ctx: &mut Self::Context) {
        self.on_idle.push(drain.idle);
        self.flush(ctx);
    }
}

/// The drain's deadline is over: the active run is closed as interrupted, everything committed, the session stopped.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Finish {
    pub(crate) done: tokio::sync::oneshot::Sender<()>,
}

impl Handler<Finish> for Session {
    type Result = ();

    fn handle(&mut self, finish: Finish, ctx: &mut Self::Context) {
        self.finishing = true;
        self.on_idle.push(finish.done);
        if matches!(self.life, Life::Live) {
            self.drive(Input::Interrupt, ReplyTo::NONE, ctx);
        } else {
            self.settle(ctx);
        }
    }
}
