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
use tokio::task::AbortHandle;

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
/// `on_panic` is called at each panic, before the restart. The handle ends an actor that hangs: it is dropped as it is.
pub fn start_guarded<A>(
    actor: A,
    mailbox: usize,
    policy: RestartPolicy,
    clock: Clock,
    on_panic: impl Fn() + 'static,
    on_exit: impl FnOnce(Exit) + 'static,
) -> (Addr<A>, AbortHandle)
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
    let task = actix::spawn(guarded).abort_handle();
    (addr, task)
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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[derive(Default)]
    struct Fragile {
        handled: u32,
        restarts: Rc<RefCell<u32>>,
    }

    impl Actor for Fragile {
        type Context = Context<Self>;
    }

    impl Supervised for Fragile {
        fn restarting(&mut self, _: &mut Self::Context) {
            self.handled = 0;
            *self.restarts.borrow_mut() += 1;
        }
    }

    #[derive(Message)]
    #[rtype(result = "u32")]
    struct Poke {
        bomb: bool,
    }

    impl Handler<Poke> for Fragile {
        type Result = u32;

        fn handle(&mut self, poke: Poke, _: &mut Self::Context) -> u32 {
            assert!(!poke.bomb, "a bomb");
            self.handled += 1;
            self.handled
        }
    }

    type Exits = Rc<RefCell<Vec<Exit>>>;

    fn start(max_restarts: u32) -> (Addr<Fragile>, Rc<RefCell<u32>>, Exits) {
        let (restarts, exits) = (Rc::default(), Exits::default());
        let actor = Fragile {
            handled: 0,
            restarts: Rc::clone(&restarts),
        };
        let policy = RestartPolicy {
            max_restarts,
            window: Duration::from_secs(60),
        };
        let told = Rc::clone(&exits);
        let (addr, _) = start_guarded(
            actor,
            16,
            policy,
            Clock::default(),
            || {},
            move |exit| told.borrow_mut().push(exit),
        );
        (addr, restarts, exits)
    }

    #[actix::test]
    async fn a_panic_keeps_the_address_and_the_messages_that_wait() {
        let (addr, restarts, exits) = start(3);
        assert_eq!(addr.send(Poke { bomb: false }).await, Ok(1));
        let bomb = addr.send(Poke { bomb: true });
        let behind = addr.send(Poke { bomb: false });
        let (bomb, behind) = futures_util::future::join(bomb, behind).await;
        assert_eq!(bomb, Err(MailboxError::Closed), "its sender is told");
        assert_eq!(behind, Ok(1), "who waited behind it is answered by the new state");
        assert_eq!(*restarts.borrow(), 1);
        assert!(exits.borrow().is_empty());
    }

    #[actix::test]
    async fn one_panic_more_than_allowed_is_the_end_and_is_told_once() {
        let (addr, restarts, exits) = start(2);
        for _ in 0..3 {
            assert_eq!(addr.send(Poke { bomb: true }).await, Err(MailboxError::Closed));
        }
        assert!(!addr.connected());
        assert_eq!(*restarts.borrow(), 2);
        assert_eq!(*exits.borrow(), [Exit::GaveUp]);
    }

    #[actix::test]
    async fn an_actor_whose_last_address_goes_has_stopped() {
        let (addr, _, exits) = start(2);
        addr.send(Poke { bomb: false }).await.unwrap();
        drop(addr);
        for _ in 0..100 {
            actix::clock::sleep(Duration::from_millis(1)).await;
            if !exits.borrow().is_empty() {
                break;
            }
        }
        assert_eq!(*exits.borrow(), [Exit::Stopped]);
    }
}
