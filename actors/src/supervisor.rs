//! Our own supervision: a panic in an actor restarts it with the same address and the messages that wait.
//!
//! `actix::Supervisor` does not restart after a panic; this guard does. The actor folds its state again in
//! [`Supervised::restarting`]. After too many panics in a window it gives up and says so: the directory is the backstop.

use std::{
    collections::VecDeque,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context as TaskContext, Poll},
    time::{Duration, Instant},
};

use actix::{dev::ContextFut, prelude::*};

use crate::clock::Clock;

/// How an actor ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It stopped by itself.
    Stopped,
    /// It panicked more often than its policy allows.
    GaveUp,
    /// Its arbiter went away.
    Dropped,
}

/// How often an actor may panic.
#[derive(Debug, Clone)]
pub struct RestartPolicy {
    /// Panics that are forgiven within `window`.
    pub max_restarts: u32,
    /// The window.
    pub window: Duration,
}

/// Starts an actor on this thread under guard; `on_exit` is called exactly once, when it is over.
///
/// `on_panic` is called at each panic, before the restart.
pub fn start_guarded<A>(
    actor: A,
    mailbox: usize,
    policy: RestartPolicy,
    clock: Clock,
    on_panic: impl Fn() + 'static,
    on_exit: impl FnOnce(Exit) + 'static,
) -> Addr<A>
where
    A: Supervised + Actor<Context = Context<A>> + Unpin,
{
    let mut context = Context::new();
    context.set_mailbox_capacity(mailbox);
    let addr = context.address();
    let guarded = Guarded {
        fut: context.into_future(actor),
        panics: VecDeque::new(),
        policy,
        clock,
        on_panic: Box::new(on_panic),
        on_exit: Some(Box::new(on_exit)),
    };
    actix::spawn(guarded);
    addr
}

struct Guarded<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    fut: ContextFut<A, Context<A>>,
    panics: VecDeque<Instant>,
    policy: RestartPolicy,
    clock: Clock,
    on_panic: Box<dyn Fn()>,
    on_exit: Option<Box<dyn FnOnce(Exit)>>,
}

impl<A> Guarded<A>
where
    A: Supervised + Actor<Context = Context<A>> + Unpin,
{
    /// True when the policy allows one more restart.
    fn forgiven(&mut self) -> bool {
        let now = self.clock.instant();
        self.panics.push_back(now);
        while self
            .panics
            .front()
            .is_some_and(|at| now.duration_since(*at) > self.policy.window)
        {
            self.panics.pop_front();
        }
        self.panics.len() <= usize::try_from(self.policy.max_restarts).unwrap_or(usize::MAX)
    }

    fn exit(&mut self, exit: Exit) {
        if let Some(on_exit) = self.on_exit.take() {
            on_exit(exit);
        }
    }
}

impl<A> Future for Guarded<A>
where
    A: Supervised + Actor<Context = Context<A>> + Unpin,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<()> {
        let me = &mut *self;
        loop {
            match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut me.fut).poll(cx))) {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(())) => {
                    me.exit(Exit::Stopped);
                    return Poll::Ready(());
                }
                Err(_) => {
                    (me.on_panic)();
                    if !me.forgiven() {
                        me.exit(Exit::GaveUp);
                        return Poll::Ready(());
                    }
                    // A panic while restarting counts like any other; without addresses nobody would notice it again.
                    match catch_unwind(AssertUnwindSafe(|| me.fut.restart())) {
                        Ok(true) | Err(_) => {}
                        Ok(false) => {
                            me.exit(Exit::Stopped);
                            return Poll::Ready(());
                        }
                    }
                }
            }
        }
    }
}

impl<A> Drop for Guarded<A>
where
    A: Supervised + Actor<Context = Context<A>>,
{
    fn drop(&mut self) {
        if let Some(on_exit) = self.on_exit.take() {
            on_exit(Exit::Dropped);
        }
    }
}
