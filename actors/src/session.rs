//! The Session actor: one live conversation.
//!
//! Owns its state (the fold of its log), the tail of the log, its run and the cursors on it. Never does IO and never awaits
//! inside a handler: it decides in the pure core (`session/core.rs`), hands events to the store, and shows them when they
//! are durable. When it fails (a panic, a refused or failed commit) it folds its log again; its sockets stay.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use actix::prelude::*;
use bytes::Bytes;
use kronos_protocol::{
    client::SessionSettings,
    error::ErrorCode,
    event::Event,
    ids::{RunId, SessionId},
    position::Seq,
};

use crate::{
    clock::Clock,
    config::{Durability, SessionConfig},
    directory::{Directory, questions::Questions},
    flight::Flight,
    gemini::{Function, GeminiRef, GenerationEvent, GenerationHandle, Progress},
    ids,
    mailbox::Queued,
    metrics::is_measured,
    store::{Refusal, SessionMeta, StoreError, StoredSession, service::StoreRef},
    tools::ToolsRef,
    trace::Cause,
};

mod asked;
pub mod context;
pub mod core;
pub(crate) mod evict;
pub(crate) mod life;
pub mod log;
pub(crate) mod marks;
pub mod message;
pub(crate) mod metrics;
mod observe;
pub(crate) mod pulse;
pub mod reader;
mod readers;
mod removal;
mod serve;
pub mod state;
pub mod view;
mod watch;
mod work;

pub use self::observe::{Observe, Observed, ObservedReader, ObservedRun, Phase};
use self::{
    asked::Asked,
    core::{Answer, Decision, Effect, Env, Generate, Input, Running},
    evict::Leaving,
    log::Log,
    message::{Payload, Posted, ReplyTo, SessionCall, SessionCommand, SessionError, SessionReply, Sleeper},
    pulse::Pulse,
    readers::Readers,
    state::State,
    watch::Watch,
    work::{Deferred, Work},
};

/// Family of the documents that hold whole results of calls: JSON text, by session and call.
pub const TOOL_RESULT: &str = "tool_result";

/// The key of a call's whole result.
#[must_use]
pub fn result_key(session: &SessionId, call: &str) -> String {
    format!("{session}/{call}")
}

/// In a message it makes the session panic, where faults may be injected.
const PANIC_WORD: &str = "[[panic]]";
/// In a message it makes the session hang, where faults may be injected: it handles nothing any more, and blocks nobody.
const HANG_WORD: &str = "[[hang]]";
/// In a message it makes the session behave as if its core had broken the order of events, where faults may be injected.
const DISORDER_WORD: &str = "[[disorder]]";

#[expect(clippy::panic, reason = "asked for by a load test of the supervision")]
fn injected_panic() {
    panic!("a panic that was asked for");
}

/// What every session of a core shares.
#[derive(Clone)]
pub struct SessionDeps {
    /// Time.
    pub clock: Clock,
    /// Bounds.
    pub config: Arc<SessionConfig>,
    /// The log's home.
    pub store: StoreRef,
    /// The model, on this core.
    pub gemini: GeminiRef,
    /// The tools.
    pub tools: ToolsRef,
    /// This core's directory.
    pub directory: Addr<Directory>,
    /// The process drains: no new runs.
    pub draining: Arc<AtomicBool>,
    /// What waits for people, of all sessions.
    pub(crate) questions: Questions,
    /// Where the time of runs goes.
    pub(crate) flight: Flight,
}

/// How a session comes to life.
#[derive(Debug, Clone)]
pub enum Origin {
    /// It is in the store, or it does not exist.
    Stored,
    /// It is in the store, or it is made now with this listing.
    New(Box<SessionMeta>),
    /// The same, but nothing of it is stored before its first events: it begins with them or not at all.
    Held(Box<SessionMeta>),
}

/// Where a session is in its life.
#[derive(Debug)]
enum Life {
    /// Its log is being read.
    Loading,
    /// It works.
    Live,
    /// It does not exist.
    Missing,
    /// Its log cannot be read now.
    Unavailable(StoreError),
}

/// A commit in the air.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    upto: Seq,
    packed: Option<Seq>,
    unfinished: bool,
    since: Instant,
}

/// An answer that waits for its events to become durable.
struct Waiting {
    upto: Seq,
    reply: ReplyTo,
    result: Result<SessionReply, SessionError>,
}

/// One live conversation.
pub struct Session {
    id: SessionId,
    /// As clients name it: `@me` for a feed.
    wire: SessionId,
    deps: SessionDeps,
    origin: Origin,
    /// Grows with each fold; what belongs to an older one is dropped when it arrives.
    incarnation: u64,
    life: Life,
    meta: Option<SessionMeta>,
    settings: SessionSettings,
    /// The listing is durable: the session exists.
    exists: bool,
    meta_due: bool,
    pack_due: bool,
    marked_unfinished: bool,
    state: State,
    log: Log,
    running: Running,
    /// What is on its way for the active run.
    work: Option<Work>,
    /// What began the active run, until its work begins.
    cause: Option<Box<Cause>>,
    /// Calls that leave when their intents are durable.
    deferred: Vec<Deferred>,
    /// What the model was told last that it may call.
    functions: Arc<[Function]>,
    /// Whole results of calls, for the next commit.
    documents: Vec<(String, Bytes)>,
    deadline: Option<SpawnHandle>,
    /// When the next open question lapses.
    expiry: Option<SpawnHandle>,
    in_flight: Option<InFlight>,
    waiting: Vec<Waiting>,
    readers: Readers,
    presence_timer: Option<SpawnHandle>,
    /// With relaxed durability: text that was shown waits for it.
    flush_timer: Option<SpawnHandle>,
    flush_due: bool,
    last_input: Instant,
    commit_failures: u32,
    /// Panics since something was last committed.
    panics: u32,
    /// Shows the directory that it gets on.
    pulse: Rc<Pulse>,
    watch: Watch,
    /// What waits for people.
    asked: Asked,
    /// Readers that stayed attached while it was not in memory: woken once the log is folded.
    sleepers: Vec<Sleeper>,
    on_idle: Vec<tokio::sync::oneshot::Sender<()>>,
    finishing: bool,
    /// Its deletion is on its way to the store.
    deleting: bool,
    /// It leaves memory as soon as everything is durable.
    leaving: Option<Leaving>,
}

impl Session {
    /// A session that will read its log as soon as it is started.
    pub(crate) fn new(
        id: SessionId,
        wire: SessionId,
        origin: Origin,
        deps: SessionDeps,
        pulse: Rc<Pulse>,
        sleepers: Vec<Sleeper>,
    ) -> Self {
        Self {
            wire: wire.clone(),
            incarnation: 0,
            life: Life::Loading,
            meta: None,
            settings: SessionSettings::default(),
            exists: false,
            meta_due: false,
            pack_due: false,
            marked_unfinished: false,
            state: State::default(),
            log: Log::new(deps.config.tail_bytes, deps.config.durability),
            running: Running::default(),
            work: None,
            cause: None,
            deferred: Vec::new(),
            functions: Arc::default(),
            documents: Vec::new(),
            deadline: None,
            expiry: None,
            in_flight: None,
            waiting: Vec::new(),
            readers: Readers::new(wire),
            presence_timer: None,
            flush_timer: None,
            flush_due: false,
            last_input: deps.clock.instant(),
            commit_failures: 0,
            panics: 0,
            pulse,
            watch: Watch::new(is_measured() || deps.flight.is_on()),
            asked: Asked::default(),
            sleepers,
            on_idle: Vec::new(),
            finishing: false,
            deleting: false,
            leaving: None,
            id,
            origin,
            deps,
        }
    }

    /// Shows that something was done, and whether there is more that must get on by itself.
    fn beat(&self) {
        let now = self.time();
        let (working, run_ends) = match self.life {
            Life::Loading => (true, None),
            Life::Missing | Life::Unavailable(_) => (false, None),
            Life::Live => {
                let busy = self.is_busy();
                let abandoned = self.state.run.is_some() && !busy;
                let run_ends = self.work.as_ref().filter(|_| busy).map(|work| work.ends);
                (self.in_flight.is_some() || abandoned, run_ends)
            }
        };
        self.pulse.beat(now, working, run_ends);
    }

    /// Whose it is, for logs.
    fn owner(&self) -> Option<&str> {
        self.meta.as_ref().map(|meta| meta.owner.as_str())
    }

    /// No new runs: the process drains, or this session leaves.
    fn draining(&self) -> bool {
        self.leaving.is_some() || self.deps.draining.load(Ordering::Relaxed)
    }

    /// Decides, appends, performs; the answer is given when its events are durable.
    fn drive(&mut self, input: Input, mut reply: ReplyTo, ctx: &mut Context<Self>) {
        let begun = self.begin_deciding();
        let decision = self.decide(input);
        let Decision {
            events,
            documents,
            reached,
            effects,
            answer,
        } = decision;
        let mut seqs = Vec::with_capacity(events.len());
        let started = events.iter().any(|stored| matches!(stored.event, Event::RunStarted(_)));
        if started {
            self.cause = reply.take_cause();
        }
        // Only what is of no run changes the listing: a delta copies nothing.
        let outside = events.iter().any(|stored| stored.run.is_none());
        let listed = outside.then(|| (self.state.title.clone(), self.state.settings.clone()));
        for stored in events {
            if let Event::RunError(failure) = &stored.event {
                self.tell_failure(failure);
            }
            let ends_run = matches!(stored.event, Event::RunFinished(_) | Event::RunError(_));
            let starts_run = matches!(stored.event, Event::RunStarted(_));
            let seq = self.log.seq_for(&stored);
            let outside_run = stored.run.is_none();
            self.asked.due |= ends_run || starts_run || outside_run;
            if let Err(error) = self.state.apply(seq, &stored) {
                return self.broken_order(&error, reply, ctx);
            }
            self.push(seq, stored);
            if ends_run {
                self.run_ended(ctx);
            } else if starts_run {
                self.running = Running::default();
            } else if outside_run && self.state.run.is_none() {
                self.pack_due = true;
            }
            seqs.push(seq);
        }
        self.end_deciding(begun);
        self.documents.extend(documents);
        for bound in reached {
            crate::metrics::refused(bound);
        }
        // The listing changes in the commit of the event that changes it.
        self.meta_due |=
            listed.is_some_and(|(title, settings)| self.state.title != title || self.state.settings != settings);
        if started && self.deps.config.durability == Durability::Relaxed {
            // Committed with the start: after a crash the log alone does not tell that text was shown early.
            self.meta_due = true;
        }
        if let Some(answer) = answer {
            self.answer(answer, &seqs, reply);
        }
        let upto = self.log.last();
        for effect in effects {
            self.perform(effect, upto, ctx);
        }
        if !matches!(self.life, Life::Live) {
            // An effect has made it fold again.
            return;
        }
        if self.state.run.is_none() && !self.state.queue.is_empty() && !self.draining() {
            self.start_next(ctx);
        }
        self.note_doing();
        self.flush(ctx);
        if self.deps.config.durability == Durability::Relaxed {
            self.serve_all(ctx);
        }
    }

    /// The core decided an event that may not follow: the log is folded again, and whoever asked is told.
    fn broken_order(&mut self, error: &dyn std::fmt::Display, reply: ReplyTo, ctx: &mut Context<Self>) {
        tracing::error!(session.id = %self.id, user.id = self.owner(), %error, "the core decided an event that may not follow");
        metrics::handles().restarted_order.increment(1);
        let failure = SessionError::new(ErrorCode::Internal, "the session had to restart").after_ms(200);
        reply.send(Err(failure.clone()));
        self.refold(&failure, Duration::ZERO, ctx);
    }

    /// Holds its mailbox and whoever asked, until its task is ended.
    fn hang(&self, reply: ReplyTo, ctx: &mut Context<Self>) {
        let hanging = async move {
            std::future::pending::<()>().await;
            drop(reply);
        };
        ctx.wait(hanging.into_actor(self));
        self.pulse.beat(self.deps.clock.instant(), true, None);
    }

    /// Takes a message, unless the store has no room for it now.
    fn submit(&mut self, submit: message::Submit, reply: ReplyTo, ctx: &mut Context<Self>) {
        let text = submit.content.text();
        if self.deps.config.fault_injection {
            if text.contains(PANIC_WORD) {
                injected_panic();
            }
            if text.contains(HANG_WORD) {
                drop(text);
                return self.hang(reply, ctx);
            }
            if text.contains(DISORDER_WORD) {
                drop(text);
                return self.broken_order(&"asked for", reply, ctx);
            }
        }
        if !self.deps.store.has_room(text.len()) {
            return reply.send(Err(no_room()));
        }
        drop(text);
        self.drive(Input::Submit(submit), reply, ctx);
    }

    /// Takes a history and its turn, unless the store has no room for them now.
    fn import(&mut self, import: message::Import, reply: ReplyTo, ctx: &mut Context<Self>) {
        if !self.meta.as_ref().is_some_and(|meta| meta.listed) {
            let error = SessionError::new(ErrorCode::Unsupported, "a feed has no messages");
            return reply.send(Err(error));
        }
        let bytes: usize = import.history.iter().map(|past| past.text.len()).sum();
        if !self.deps.store.has_room(bytes + import.submit.content.text().len()) {
            return reply.send(Err(no_room()));
        }
        self.drive(Input::Import(Box::new(import)), reply, ctx);
    }

    /// Takes another text for an earlier message, unless the store has no room for it now.
    fn edit(&mut self, edit: message::Edit, reply: ReplyTo, ctx: &mut Context<Self>) {
        if !self.deps.store.has_room(edit.submit.content.text().len()) {
            return reply.send(Err(no_room()));
        }
        self.drive(Input::Edit(Box::new(edit)), reply, ctx);
    }

    fn configure(&mut self, change: Box<SessionSettings>, reply: ReplyTo, ctx: &mut Context<Self>) {
        if !self.meta.as_ref().is_some_and(|meta| meta.listed) {
            let error = SessionError::new(ErrorCode::Unsupported, "a feed has no settings");
            return reply.send(Err(error));
        }
        self.drive(Input::Configure(change), reply, ctx);
    }

    fn rename(&mut self, title: String, reply: ReplyTo, ctx: &mut Context<Self>) {
        if !self.meta.as_ref().is_some_and(|meta| meta.listed) {
            let error = SessionError::new(ErrorCode::Unsupported, "a feed has no title");
            return reply.send(Err(error));
        }
        self.drive(Input::Rename(title), reply, ctx);
    }

    fn start_next(&mut self, ctx: &mut Context<Self>) {
        let first = self.state.retriable(self.deps.config.max_run_attempts).is_some()
            || self.state.goes_on()
            || self.state.waits();
        if !first {
            self.drive(Input::Next, ReplyTo::NONE, ctx);
        }
    }

    fn decide(&mut self, input: Input) -> Decision {
        self.running.observe(&self.state, &input);
        let mut fresh_run = || ids::run(&self.id);
        let mut env = Env {
            now_ms: self.deps.clock.now_ms(),
            config: &self.deps.config,
            thread: &self.wire,
            settings: &self.settings,
            fresh_run: &mut fresh_run,
            draining: self.draining(),
        };
        core::decide(&self.state, &self.running, input, &mut env)
    }

    fn answer(&mut self, answer: Result<Answer, SessionError>, seqs: &[Seq], reply: ReplyTo) {
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                if let Some(bound) = error.details.get("name").and_then(serde_json::Value::as_str) {
                    crate::metrics::refused(bound);
                }
                return reply.send(Err(error));
            }
        };
        let seq = core::seq_of(&answer, seqs);
        let upto = seqs.last().copied().or(seq).unwrap_or(0);
        let result = match answer {
            Answer::Done => SessionReply::Done,
            Answer::Sent { run, queued, .. } => SessionReply::Sent {
                seq: seq.unwrap_or(upto),
                run,
                queued,
                duplicate: false,
            },
            Answer::Duplicate { seq, run, queued } => SessionReply::Sent {
                seq,
                run,
                queued,
                duplicate: true,
            },
            Answer::Cancelled { run, usage } => SessionReply::Cancelled { run, usage },
            Answer::Resumed { run, open, .. } => SessionReply::Resumed {
                seq: seq.unwrap_or(upto),
                run,
                open,
            },
            Answer::Configured => {
                state::overlay(&mut self.settings, self.state.settings.clone());
                let mut settings = self.settings.clone();
                settings.branch = Some(self.state.branches.chosen().to_owned());
                settings.title = self.state.title.clone().or(settings.title);
                SessionReply::Settings(Box::new(settings))
            }
        };
        self.reply_when_durable(upto, reply, Ok(result));
    }

    fn reply_when_durable(&mut self, upto: Seq, reply: ReplyTo, result: Result<SessionReply, SessionError>) {
        if self.exists && upto <= self.log.committed() {
            reply.send(result);
        } else {
            self.waiting.push(Waiting { upto, reply, result });
        }
    }

    fn run_ended(&mut self, ctx: &mut Context<Self>) {
        self.pack_due = true;
        self.meta_due = true;
        self.stop_work(ctx);
        self.watch_questions(ctx);
    }
}

impl Actor for Session {
    type Context = Context<Self>;

    /// Also called after each restart.
    fn started(&mut self, ctx: &mut Self::Context) {
        if self.incarnation == 0 {
            metrics::handles().live.increment(1.0);
        }
        self.load(self.pause(), ctx);
        self.watch_idleness(ctx);
    }

    fn stopped(&mut self, _ctx: &mut Self::Context) {
        metrics::handles().live.decrement(1.0);
        self.readers.end_all(&SessionError::closed());
    }
}

impl Supervised for Session {
    /// After a panic nothing of the old state is trusted: `started` folds the log again. Timers are gone; readers stay.
    fn restarting(&mut self, ctx: &mut Self::Context) {
        self.panics = self.panics.saturating_add(1);
        self.reset(&SessionError::closed(), ctx);
        self.presence_timer = None;
    }
}

impl Handler<Posted> for Session {
    type Result = ();

    fn handle(&mut self, posted: Posted, ctx: &mut Self::Context) {
        let Posted { call, queued } = posted;
        self.watch.waited = queued.taken();
        let SessionCall { caller, command, reply } = call;
        if self.leaving.is_some() && self.is_leaving(ctx) {
            return reply.send(Err(SessionError::closed()));
        }
        self.last_input = self.deps.clock.instant();
        match &self.life {
            Life::Live => {}
            // The mailbox waits while the log is read; whoever comes through all the same is to ask again.
            Life::Loading => return reply.send(Err(SessionError::closed())),
            Life::Missing => {
                reply.send(Err(SessionError::not_found(&self.wire)));
                return self.tell_may_stop(ctx);
            }
            Life::Unavailable(_) if caller.superuser && matches!(command, SessionCommand::Erase) => {
                return self.erase(reply, ctx);
            }
            Life::Unavailable(error) => return reply.send(Err(storage_error(error))),
        }
        let allowed = self
            .meta
            .as_ref()
            .is_some_and(|meta| meta.owner == caller.user || caller.superuser);
        if !allowed {
            return reply.send(Err(SessionError::not_found(&self.id)));
        }
        match command {
            SessionCommand::Attach(attach) => self.attach(attach, reply, ctx),
            SessionCommand::Detach { attachment } => {
                self.detach(&attachment, ctx);
                reply.send(Ok(SessionReply::Done));
            }
            SessionCommand::Pull { attachment, after } => self.pull(&attachment, after, ctx),
            SessionCommand::Typing { attachment, on } => self.typing(&attachment, on, reply, ctx),
            SessionCommand::View(page) => self.show(&page, reply),
            SessionCommand::Submit(submit) => self.submit(submit, reply, ctx),
            SessionCommand::Import(import) => self.import(import, reply, ctx),
            SessionCommand::Rename { title } => self.rename(title, reply, ctx),
            SessionCommand::Unqueue { id } => self.drive(Input::Unqueue(id), reply, ctx),
            SessionCommand::Cancel { run } => self.drive(Input::Cancel(run), reply, ctx),
            SessionCommand::Delete { unless_busy } => {
                if unless_busy && self.state.has_work(self.deps.config.max_run_attempts) {
                    return reply.send(Err(SessionError::new(ErrorCode::Busy, "a run is active").after_ms(1000)));
                }
                self.delete(reply, ctx);
            }
            SessionCommand::Erase => self.erase(reply, ctx),
            SessionCommand::Notify { name, value } => self.drive(Input::Notify(name, value), reply, ctx),
            SessionCommand::Resume(resume) => self.drive(Input::Resume(Box::new(resume)), reply, ctx),
            SessionCommand::Edit(edit) => self.edit(edit, reply, ctx),
            SessionCommand::Regenerate { message } => self.drive(Input::Regenerate(message), reply, ctx),
            SessionCommand::Configure(change) => self.configure(change, reply, ctx),
            SessionCommand::SelectBranch { branch } => self.drive(Input::SelectBranch(branch), reply, ctx),
            SessionCommand::Run { run } => self.show_run(&run, reply),
            SessionCommand::Connected { toolkit } => self.drive(Input::Connected(toolkit), reply, ctx),
        }
    }
}

/// A commit is settled.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Settled {
    incarnation: u64,
    result: Result<(), StoreError>,
    queued: Queued,
}

impl Handler<Settled> for Session {
    type Result = ();

    fn handle(&mut self, settled: Settled, ctx: &mut Self::Context) {
        settled.queued.taken();
        if settled.incarnation != self.incarnation {
            return;
        }
        let Some(flight) = self.in_flight.take() else { return };
        let now = self.deps.clock.instant();
        (self.watch.now, self.watch.waited) = (Some(now), None);
        self.watch.committed(now.saturating_duration_since(flight.since));
        match settled.result {
            Ok(()) => self.committed(flight, ctx),
            Err(error) => self.commit_failed(&error, ctx),
        }
        self.watch.now = None;
    }
}

/// What a caller is told when too much waits to be stored.
fn no_room() -> SessionError {
    crate::metrics::refused("store_pending_bytes");
    SessionError::new(ErrorCode::Overloaded, "too much waits to be stored")
        .with_details(serde_json::json!({"name": "store_pending_bytes"}))
        .after_ms(500)
}

/// What a caller is told when the store fails.
fn storage_error(error: &StoreError) -> SessionError {
    let code = match error {
        StoreError::Overloaded => ErrorCode::Overloaded,
        StoreError::Refused(
            Refusal::OutOfOrder { .. }
            | Refusal::Condition { .. }
            | Refusal::UnknownSession { .. }
            | Refusal::Malformed { .. },
        )
        | StoreError::Io(_)
        | StoreError::Corrupt { .. }
        | StoreError::Locked { .. }
        | StoreError::Newer { .. }
        | StoreError::Closed => ErrorCode::Storage,
    };
    SessionError::new(code, "the conversation's storage does not work now").after_ms(1000)
}

#[cfg(test)]
mod tests;
