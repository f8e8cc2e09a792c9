//! The directory: which sessions are live, and where. Single-flight activation, passivation, restart backstop, drain.
//!
//! One [`Directory`] actor per core owns the sessions that live there. A table shared by the cores says which core has a
//! session; a session starts on the core of the connection that asks first, else on the least busy one. Nothing here
//! knows a rule of conversations.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix::prelude::*;
use kronos_protocol::{error::ErrorCode, ids::SessionId};
use tokio::sync::oneshot;

use self::node::{CORE, Node};
use crate::{
    gemini::GeminiRef,
    session::{
        Origin, Session, SessionDeps,
        life::{Drain, Finish, StopIfIdle},
        message::SessionError,
        metrics,
    },
    supervisor::{Exit, RestartPolicy, start_guarded},
};

mod node;

pub use self::node::{DirectoryRef, SessionRef};

/// Mailbox of a directory: all connections of a core ask it when they attach.
const DIRECTORY_MAILBOX: usize = 4096;

enum Entry {
    /// Takes calls.
    Live { addr: Addr<Session>, generation: u64 },
    /// Was told to stop if idle; who asks meanwhile waits.
    Stopping {
        addr: Addr<Session>,
        generation: u64,
        waiters: Vec<Waiter>,
    },
    /// Panicked too often; stays closed until the process restarts.
    Parked,
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
    live: HashMap<SessionId, Entry>,
    generation: u64,
    sessions: Arc<AtomicUsize>,
}

impl Actor for Directory {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(DIRECTORY_MAILBOX);
    }
}

impl Directory {
    fn activate(&mut self, id: &SessionId, wire: SessionId, origin: Origin, directory: Addr<Self>) -> SessionRef {
        self.generation += 1;
        let generation = self.generation;
        let deps = SessionDeps {
            clock: self.node.clock.clone(),
            config: Arc::clone(&self.node.config),
            store: self.node.store.clone(),
            gemini: self.gemini.clone(),
            directory: directory.clone(),
            draining: Arc::clone(&self.node.draining),
        };
        let actor = Session::new(id.clone(), wire, origin, deps);
        let config = &self.node.config;
        let policy = RestartPolicy {
            max_restarts: config.max_restarts,
            window: config.restart_window,
        };
        let panicked = id.clone();
        let exited = id.clone();
        let addr = start_guarded(
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
            Entry::Live {
                addr: addr.clone(),
                generation,
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
}

#[derive(Debug)]
enum Located {
    Here(SessionRef),
    /// The route has changed meanwhile: look again.
    Moved,
    Refused(SessionError),
}

impl Handler<Locate> for Directory {
    type Result = Response<Located>;

    fn handle(&mut self, locate: Locate, ctx: &mut Self::Context) -> Self::Result {
        let Locate {
            session,
            wire,
            origin,
            core,
        } = locate;
        match self.live.get_mut(&session) {
            Some(Entry::Live { addr, .. }) => Response::reply(Located::Here(SessionRef {
                id: session,
                addr: addr.clone(),
            })),
            Some(Entry::Parked) => {
                let error = SessionError::new(ErrorCode::Parked, "the conversation failed repeatedly and is closed");
                Response::reply(Located::Refused(error))
            }
            Some(Entry::Stopping { waiters, .. }) => {
                let (tx, rx) = oneshot::channel();
                waiters.push(Waiter { wire, origin, tx });
                Response::fut(async move { rx.await.unwrap_or(Located::Moved) })
            }
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
}

impl Handler<MayStop> for Directory {
    type Result = ();

    fn handle(&mut self, ask: MayStop, _: &mut Self::Context) {
        let Some(entry) = self.live.get_mut(&ask.session) else {
            return;
        };
        if let Entry::Live { addr, generation } = entry
            && *addr == ask.addr
        {
            let (addr, generation) = (addr.clone(), *generation);
            if addr.try_send(StopIfIdle).is_ok() {
                *entry = Entry::Stopping {
                    addr,
                    generation,
                    waiters: Vec::new(),
                };
            }
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
        let Some(entry) = self.live.get_mut(&staying.session) else {
            return;
        };
        if let Entry::Stopping {
            addr,
            generation,
            waiters,
        } = entry
        {
            for waiter in waiters.drain(..) {
                let session = SessionRef {
                    id: staying.session.clone(),
                    addr: addr.clone(),
                };
                drop(waiter.tx.send(Located::Here(session)));
            }
            *entry = Entry::Live {
                addr: addr.clone(),
                generation: *generation,
            };
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
        let current = match self.live.get(&session) {
            Some(Entry::Live { generation, .. } | Entry::Stopping { generation, .. }) => *generation,
            Some(Entry::Parked) | None => return,
        };
        if current != generation {
            return;
        }
        self.sessions.fetch_sub(1, Ordering::Relaxed);
        let entry = self.live.remove(&session);
        if exit == Exit::GaveUp {
            metrics::handles().parked.increment(1.0);
            tracing::error!(session.id = %session, "session panicked too often and is parked");
            self.live.insert(session.clone(), Entry::Parked);
        } else {
            self.node.unroute(&session);
        }
        let Some(Entry::Stopping { waiters, .. }) = entry else {
            return;
        };
        for waiter in waiters {
            if exit == Exit::GaveUp || self.node.draining.load(Ordering::Relaxed) {
                drop(waiter.tx.send(Located::Moved));
                continue;
            }
            let core = CORE.get().unwrap_or(0);
            let located = if self.node.route(&session, core) == core {
                match self.live.get(&session) {
                    Some(Entry::Live { addr, .. }) => Located::Here(SessionRef {
                        id: session.clone(),
                        addr: addr.clone(),
                    }),
                    _ => Located::Here(self.activate(&session, waiter.wire, waiter.origin, ctx.address())),
                }
            } else {
                Located::Moved
            };
            drop(waiter.tx.send(located));
        }
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
        for entry in self.live.values() {
            let (Entry::Live { addr, .. } | Entry::Stopping { addr, .. }) = entry else {
                continue;
            };
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
