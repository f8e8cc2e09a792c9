//! One device of a user: it connects, attaches, says what it is told to, reads, is cut and comes back.
//!
//! Each has a task of its own that owns the websocket. The director gives [`Order`]s and looks at what is shared; nobody else writes.

mod live;
mod words;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kronos_protocol::client::{Attach, AttachTarget, ClientInfo, Hello};
use kronos_protocol::ids::DeviceName;
use kronos_protocol::{ClientFrame, Codec, Command, Ref, Seq};
use rand::Rng as _;
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout};

use super::Counted;
use super::clocks::Clocks;
use super::user::User;
use super::wire::{Lost, Wire};
use crate::clock;
use crate::meter::{Count, Latency, Level};
use kronos_check::DeviceId;
use words::Waiting;

/// Time for the handshake, and then for attaching, on a server that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a device tries to come back to a server that does not take it.
const RETURN: Duration = Duration::from_secs(60);
/// First and longest pause between two tries, where the server says nothing.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Time for a proper end.
const GOODBYE: Duration = Duration::from_secs(5);

/// What the director wants.
#[derive(Debug)]
pub(crate) enum Order {
    /// Be there.
    Join {
        /// When it was meant to.
        intended: Instant,
    },
    /// Close properly.
    Leave,
    /// Lose the connection, and stay away.
    Cut,
    /// Lose the connection, and come back after a while.
    Fall {
        /// When it is lost.
        at: Instant,
    },
    /// Something waits to be said.
    Say,
    /// The user has come to the end.
    End,
}

/// Where a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// Not there, and not meant to.
    Off,
    /// Not there, but it comes back.
    Away,
    /// The websocket is open, the history comes.
    Joining,
    /// It has everything.
    Here,
}

/// A device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) name: DeviceName,
    client: Option<ClientInfo>,
    codec: Codec,
    /// Bytes a second that it reads.
    pace: Cell<Option<u32>>,
    /// Its place in the account of the session.
    pub(crate) account: DeviceId,
    orders: RefCell<VecDeque<Order>>,
    wake: Notify,
    pub(crate) link: Cell<Link>,
    waiting: RefCell<VecDeque<Waiting>>,
    refs: Cell<u64>,
    /// The last position that it has seen.
    pub(crate) position: Cell<Seq>,
    /// The run with this index, and how many deltas of it have come here.
    pub(crate) deltas: Cell<(usize, u64)>,
    /// When it was back from a cut of ours: nobody could have done anything here before.
    pub(crate) back: Cell<Option<Instant>>,
    clocks: RefCell<Clocks>,
    /// It was there before.
    joined: Cell<bool>,
}

/// How the device comes to its next connection.
#[derive(Debug, Clone, Copy)]
struct Return {
    /// When to try.
    at: Instant,
    /// From when on it is measured.
    intended: Instant,
    /// When it was tried.
    began: Instant,
    /// Since when the server does not take it.
    since: Option<Instant>,
    tries: u32,
    /// The server said that it restarts: that it does not answer is no error.
    planned: bool,
    /// It was cut by us or by the server.
    resumes: bool,
    /// The cut was ours.
    own: bool,
}

/// What becomes of a device.
enum Stay {
    /// It comes back.
    Again(Return),
    /// It waits for the next order to join.
    Off,
    /// It is done.
    End,
}

/// Why a connection is over.
enum Over {
    Leave,
    Cut,
    Fall(Instant),
    Lost(Lost),
    End,
}

impl Device {
    /// Makes a device that is not there yet.
    pub(crate) fn new(
        name: DeviceName,
        account: DeviceId,
        client: Option<ClientInfo>,
        codec: Codec,
        pace: Option<u32>,
    ) -> Self {
        Self {
            account,
            name,
            client,
            codec,
            pace: Cell::new(pace),
            orders: RefCell::default(),
            wake: Notify::new(),
            link: Cell::new(Link::Off),
            waiting: RefCell::default(),
            refs: Cell::new(0),
            position: Cell::new(0),
            deltas: Cell::new((0, 0)),
            back: Cell::new(None),
            clocks: RefCell::default(),
            joined: Cell::new(false),
        }
    }

    /// Gives an order.
    pub(crate) fn order(&self, order: Order) {
        self.orders.borrow_mut().push_back(order);
        self.wake.notify_one();
    }

    /// Reads at another pace from now on.
    pub(crate) fn read_at(&self, pace: Option<u32>) {
        self.pace.set(pace);
        self.order(Order::Say);
    }

    fn next_order(&self) -> Option<Order> {
        self.orders.borrow_mut().pop_front()
    }

    fn next_ref(&self) -> Ref {
        let number = self.refs.get() + 1;
        self.refs.set(number);
        Ref::from_trusted(number.to_string())
    }

    /// Lives until the user's end.
    pub(crate) async fn run(&self, user: &User) {
        loop {
            let mut back = match self.off().await {
                Some(back) => back,
                None => return,
            };
            loop {
                match self.stay(user, back).await {
                    Stay::Again(next) => back = next,
                    Stay::Off => break,
                    Stay::End => return self.link.set(Link::Off),
                }
            }
            self.link.set(Link::Off);
            user.changed.notify_one();
        }
    }

    /// Waits for the order to join.
    async fn off(&self) -> Option<Return> {
        loop {
            match self.next_order() {
                Some(Order::Join { intended }) => {
                    return Some(Return {
                        at: intended,
                        intended,
                        began: intended,
                        since: None,
                        tries: 0,
                        planned: false,
                        resumes: self.joined.get(),
                        own: true,
                    });
                }
                Some(Order::End) => return None,
                Some(Order::Leave | Order::Cut | Order::Fall { .. } | Order::Say) => {}
                None => self.wake.notified().await,
            }
        }
    }

    /// Waits until it is time; returns what came instead.
    async fn wait(&self, until: Instant) -> Option<Stay> {
        while clock::instant() < until {
            tokio::select! {
                () = sleep_until(until.into()) => {}
                () = self.wake.notified() => {}
            }
            while let Some(order) = self.next_order() {
                match order {
                    Order::Leave | Order::Cut => return Some(Stay::Off),
                    Order::End => return Some(Stay::End),
                    Order::Join { .. } | Order::Fall { .. } | Order::Say => {}
                }
            }
        }
        None
    }

    /// One connection, from its beginning to what comes after it.
    async fn stay(&self, user: &User, mut back: Return) -> Stay {
        self.link.set(Link::Away);
        if let Some(stay) = self.wait(back.at).await {
            return stay;
        }
        let meter = &user.engine.meter;
        let opened = self.open(user, &mut back).await;
        let mut wire = match opened {
            Ok(wire) => wire,
            Err(lost) => return self.lost(user, lost, back),
        };
        let open = Counted::new(meter, Level::Sockets);
        let over = self.live(user, &mut wire, &mut back).await;
        drop(open);
        user.checks.cut(self.account);
        let planned = !matches!(over, Over::Lost(_));
        self.ended(user, planned);
        match over {
            Over::Leave | Over::End => {
                timeout(GOODBYE, wire.close()).await.ok();
                if matches!(over, Over::End) {
                    Stay::End
                } else {
                    Stay::Off
                }
            }
            Over::Cut => {
                wire.cut();
                meter.count(Count::Cuts, 1);
                Stay::Off
            }
            Over::Fall(at) => {
                wire.cut();
                meter.count(Count::Cuts, 1);
                let at = at + user.engine.scenario.network.away;
                Stay::Again(Return {
                    at,
                    intended: at,
                    began: at,
                    since: None,
                    tries: 0,
                    planned: false,
                    resumes: true,
                    own: true,
                })
            }
            Over::Lost(lost) => self.lost(user, lost, back),
        }
    }

    /// Connects and asks for the session; the answers come later.
    async fn open(&self, user: &User, back: &mut Return) -> Result<Wire, Lost> {
        let engine = &user.engine;
        let door = engine.doors.acquire().await;
        let began = clock::instant();
        back.began = began;
        let opening = Wire::open(
            &engine.target,
            user.person.name.as_deref(),
            self.codec,
            self.pace.get().is_some(),
        );
        let mut wire = timeout(PATIENCE, opening).await.map_err(|_why| Lost::Timeout)??;
        let opened = clock::instant();
        drop(door);
        engine.meter.latency(Latency::Connect, back.intended, began, opened);
        let hello = Hello {
            token: user.person.token.clone(),
            client: self.client.clone(),
            codec: None,
        };
        let session = user.view.borrow().session.clone();
        let attach = Attach {
            after: session.as_ref().and_then(|_| user.checks.cursor(self.account)),
            ..Attach::new(match session {
                Some(session) => AttachTarget::Existing(session),
                None => AttachTarget::New {
                    title: None,
                    settings: None,
                },
            })
        };
        for command in [Command::Hello(hello), Command::Attach(attach)] {
            let (_, bytes) = self.frame(user, command)?;
            engine.meter.count(Count::BytesOut, wide(bytes.len()));
            wire.feed(bytes).await?;
        }
        wire.flush().await?;
        Ok(wire)
    }

    /// Writes a command as a frame with a name of its own.
    fn frame(&self, user: &User, command: Command) -> Result<(Ref, Bytes), Lost> {
        let frame = ClientFrame::new(self.next_ref(), command);
        let bytes = self.codec.encode(&frame).map_err(|_why| Lost::Unreadable)?;
        user.checks.sent(self.account, &frame);
        Ok((frame.reference, bytes))
    }

    /// What to do after the server ended the connection, or would not have it.
    fn lost(&self, user: &User, lost: Lost, before: Return) -> Stay {
        let now = clock::instant();
        let planned = lost.is_planned() || (before.planned && matches!(lost, Lost::Connect | Lost::Io));
        if !planned {
            user.engine.meter.error(&lost.code());
        }
        let since = before.since.unwrap_or(now);
        if !lost.may_return() || now.saturating_duration_since(since) > RETURN {
            user.fail(&format!("{}: {}", self.name, lost.code()));
            return Stay::Off;
        }
        let backoff = BACKOFF.0.saturating_mul(1 << before.tries.min(8)).min(BACKOFF.1);
        let jitter = rand::rng().random_range(0.5..1.0);
        let pause = lost.after().unwrap_or_else(|| backoff.mul_f64(jitter));
        let at = now + pause;
        Stay::Again(Return {
            at,
            // Who waits at the door waits since the first try.
            intended: if before.tries > 0 { before.intended } else { at },
            began: at,
            since: Some(since),
            tries: before.tries + 1,
            planned,
            resumes: before.resumes || self.joined.get(),
            own: false,
        })
    }
}

/// Returns a length as the meter counts it.
pub(super) fn wide(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
