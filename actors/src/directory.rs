//! The directory: which sessions are live, and where. Single-flight activation, passivation, the attachments of sleeping
//! sessions, restart backstop, parking, drain.
//!
//! One [`Directory`] actor per core owns the sessions that live there. A table shared by the cores says which core has a
//! session; a session starts on the core of the connection that asks first, else on the least busy one. Nothing here
//! knows a rule of conversations.

use std::{
    collections::HashMap,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use actix::prelude::*;
use kronos_protocol::ids::SessionId;
use tokio::{sync::oneshot, task::AbortHandle};

use self::{
    node::{CORE, Node},
    parked::Reason,
};
use crate::{
    gemini::GeminiRef,
    mailbox::Queued,
    session::{
        Origin, Session, SessionDeps,
        life::{Drain, Finish, StopIfIdle},
        message::Sleeper,
        metrics,
        pulse::Pulse,
    },
    supervisor::{Exit, RestartPolicy, start_guarded},
};

pub mod evict;
mod node;
pub mod observe;
pub mod parked;
pub mod questions;
pub(crate) mod sleep;
mod watch;

pub use self::node::{DirectoryRef, SessionRef, Thread};

/// Mailbox of a directory: all connections of a core ask it when they attach.
const DIRECTORY_MAILBOX: usize = 4096;

/// A session in memory.
struct Live {
    addr: Addr<Session>,
    generation: u64,
    /// Whether it gets on.
    pulse: Rc<Pulse>,
    /// Ends its task, for one that hangs.
    task: AbortHandle,
    /// Set after it was told to stop if idle: who asks meanwhile waits.
    stopping: Option<Vec<Waiter>>,
}

struct Waiter {
    wire: SessionId,
    origin: Origin,
    tx: oneshot::Sender<Located>,
}

/// The sessions that live on one core.
pub struct Directory {
    node: Arc<Node>,
    gemini: GeminiRef,
    live: HashMap<SessionId, Live>,
    /// The attachments of sessions that left memory under their sockets.
    asleep: HashMap<SessionId, Box<[Sleeper]>>,
    /// When sessions hung that had to be ended.
    strikes: HashMap<SessionId, Vec<Instant>>,
    generation: u64,
    sessions: Arc<AtomicUsize>,
}

impl Actor for Directory {
    type Context = Context<Self>;

    /// Also called after a restart, which ends all timers.
    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(DIRECTORY_MAILBOX);
        self.watch(ctx);
    }
}

/// Its tables are whole after a panic: each handler changes one entry, and that last.
impl Supervised for Directory {}

impl Directory {
    fn activate(&mut self, id: &SessionId, wire: SessionId, origin: Origin, directory: Addr<Self>) -> SessionRef {
        self.generation += 1;
        let generation = self.generation;
        let deps = SessionDeps {
            clock: self.node.clock.clone(),
            config: Arc::clone(&self.node.config),
            store: self.node.store.clone(),
            gemini: self.gemini.clone(),
            tools: self.node.tools.clone(),
            directory: directory.clone(),
            draining: Arc::clone(&self.node.draining),
            questions: self.node.questions.clone(),
            flight: self.node.flight.clone(),
        };
        let sleepers = self.take_sleepers(id);
        let pulse = Pulse::new(self.node.clock.instant());
        let actor = Session::new(id.clone(), wire, origin, deps, Rc::clone(&pulse), sleepers);
        let config = &self.node.config;
        let policy = RestartPolicy {
            max_restarts: config.max_restarts,
            window: config.restart_window,
        };
        let panicked = id.clone();
        let exited = id.clone();
        let (addr, task) = start_guarded(
            actor,
            config.mailbox,
            policy,
            self.node.clock.clone(),
            move || {
                metrics::handles().restarted_panic.increment(1);
                tracing::error!(session.id = %panicked, "session panicked and folds its log again");
            },
            move |exit| {
                let down = Down {
                    session: exited,
                    generation,
                    exit,
                };
                #[expect(
                    clippy::disallowed_methods,
                    reason = "an exit notice must never be refused; one per activation"
                )]
                directory.do_send(down);
            },
        );
        self.live.insert(
            id.clone(),
            Live {
                addr: addr.clone(),
                generation,
                pulse,
                task,
                stopping: None,
            },
        );
        self.sessions.fetch_add(1, Ordering::Relaxed);
        SessionRef { id: id.clone(), addr }
    }
}

/// Asks a core's directory for a session.
#[derive(Debug, Message)]
#[rtype(result = "Located")]
struct Locate {
    session: SessionId,
    wire: SessionId,
    origin: Origin,
    core: usize,
    queued: Queued,
}

#[derive(Debug)]
enum Located {
    Here(SessionRef),
    /// The route has changed meanwhile: look again.
    Moved,
}

impl Handler<Locate> for Directory {
    type Result = Response<Located>;

    fn handle(&mut self, locate: Locate, ctx: &mut Self::Context) -> Self::Result {
        let Locate {
            session,
            wire,
            origin,
            core,
            queued,
        } = locate;
        queued.taken();
        match self.live.get_mut(&session) {
            Some(Live {
                stopping: Some(waiters),
                ..
            }) => {
                let (tx, rx) = oneshot::channel();
                waiters.push(Waiter { wire, origin, tx });
                Response::fut(async move { rx.await.unwrap_or(Located::Moved) })
            }
            Some(live) => Response::reply(Located::Here(SessionRef {
                id: session,
                addr: live.addr.clone(),
            })),
            None => {
                // The route may have gone with a passivation since the caller read it.
                if self.node.route(&session, core) != core {
                    return Response::reply(Located::Moved);
                }
                Response::reply(Located::Here(self.activate(&session, wire, origin, ctx.address())))
            }
        }
    }
}

/// A session has nothing to do and would leave memory.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct MayStop {
    pub(crate) session: SessionId,
    pub(crate) addr: Addr<Session>,
    pub(crate) queued: Queued,
}

impl Handler<MayStop> for Directory {
    type Result = ();

    fn handle(&mut self, ask: MayStop, _: &mut Self::Context) {
        ask.queued.taken();
        let Some(live) = self.live.get_mut(&ask.session) else {
            return;
        };
        if live.stopping.is_none() && live.addr == ask.addr && live.addr.try_send(StopIfIdle).is_ok() {
            live.stopping = Some(Vec::new());
        }
    }
}

/// A session that was asked to stop has found something to do.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Staying {
    pub(crate) session: SessionId,
}

impl Handler<Staying> for Directory {
    type Result = ();

    fn handle(&mut self, staying: Staying, _: &mut Self::Context) {
        let Some(live) = self.live.get_mut(&staying.session) else {
            return;
        };
        for waiter in live.stopping.take().unwrap_or_default() {
            let session = SessionRef {
                id: staying.session.clone(),
                addr: live.addr.clone(),
            };
            drop(waiter.tx.send(Located::Here(session)));
        }
    }
}

/// The exit notice of a session.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct Down {
    session: SessionId,
    generation: u64,
    exit: Exit,
}

impl Handler<Down> for Directory {
    type Result = ();

    fn handle(&mut self, down: Down, ctx: &mut Self::Context) {
        let Down {
            session,
            generation,
            exit,
        } = down;
        if self.live.get(&session).is_none_or(|live| live.generation != generation) {
            return;
        }
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        let waiters = self.live.remove(&session).and_then(|live| live.stopping);
        if exit == Exit::GaveUp {
            self.node.park(&session, Reason::Panics);
        }
        // One that sleeps under its sockets is woken here, whoever asks.
        if !self.asleep.contains_key(&session) {
            self.node.unroute(&session);
        }
        for waiter in waiters.unwrap_or_default() {
            let located = self.locate_again(&session, waiter.wire, waiter.origin, exit, ctx);
            drop(waiter.tx.send(located));
        }
    }
}

impl Directory {
    /// Answers who waited while a session stopped.
    fn locate_again(
        &mut self,
        session: &SessionId,
        wire: SessionId,
        origin: Origin,
        exit: Exit,
        ctx: &Context<Self>,
    ) -> Located {
        let core = CORE.get().unwrap_or(0);
        let parked = self.node.parked(|parked| parked.contains_key(session));
        if exit == Exit::GaveUp
            || parked
            || self.node.draining.load(Ordering::Relaxed)
            || self.node.route(session, core) != core
        {
            return Located::Moved;
        }
        Located::Here(match self.live.get(session) {
            Some(live) => SessionRef {
                id: session.clone(),
                addr: live.addr.clone(),
            },
            None => self.activate(session, wire, origin, ctx.address()),
        })
    }
}

/// The steps of a drain.
#[derive(Debug, Clone, Copy)]
enum Phase {
    /// No new runs; tell when the active one is over.
    Drain,
    /// Close what runs, commit, stop.
    Finish,
}

/// Tells every session of this core; the answer holds one receiver for each.
#[derive(Debug, Message)]
#[rtype(result = "Told")]
struct TellAll(Phase);

#[derive(MessageResponse)]
struct Told(Vec<oneshot::Receiver<()>>);

impl Handler<TellAll> for Directory {
    type Result = Told;

    fn handle(&mut self, TellAll(phase): TellAll, _: &mut Self::Context) -> Told {
        let mut receivers = Vec::with_capacity(self.live.len());
        for Live { addr, .. } in self.live.values() {
            let (tx, rx) = oneshot::channel();
            #[expect(
                clippy::disallowed_methods,
                reason = "the end of the process must reach every session; twice each"
            )]
            match phase {
                Phase::Drain => addr.do_send(Drain { idle: tx }),
                Phase::Finish => addr.do_send(Finish { done: tx }),
            }
            receivers.push(rx);
        }
        Told(receivers)
    }
}
