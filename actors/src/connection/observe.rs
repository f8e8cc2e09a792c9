//! What a connection says about itself to operators.
//!
//! Two ways, because an actor whose peer reads nothing is not polled and cannot answer: what it counts lies where others can read
//! it (one writer, so plain loads and stores do), and the rest it says when it is asked.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use actix::Recipient;
use kronos_protocol::{
    client::ClientInfo,
    close::CloseCode,
    codec::Codec,
    ids::{ConnectionId, SessionId, UserId},
    position::Seq,
};
use tokio::sync::oneshot;

use super::{Connection, registry::Control};
use crate::clock::Millis;

/// What a connection counts. Written by its own thread only.
#[derive(Debug, Default)]
pub(super) struct Vitals {
    frames_in: AtomicU64,
    bytes_in: AtomicU64,
    frames_out: AtomicU64,
    /// Bytes of frames written, and those of them that the peer has surely read.
    written: AtomicU64,
    confirmed: AtomicU64,
    /// When a message or the answer to a mark last came.
    heard_ms: AtomicI64,
    /// The close code with which an operator wants it gone; 0: none.
    condemned: AtomicU16,
}

fn add(counter: &AtomicU64, more: u64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

impl Vitals {
    /// A frame came.
    pub(super) fn came(&self, bytes: usize, now: Millis) {
        add(&self.frames_in, 1);
        add(&self.bytes_in, u64::try_from(bytes).unwrap_or(u64::MAX));
        self.heard(now);
    }

    /// The peer showed that it is there.
    pub(super) fn heard(&self, now: Millis) {
        self.heard_ms.store(now, Ordering::Relaxed);
    }

    /// A frame was written, the last byte of all at `position`.
    pub(super) fn went(&self, position: u64) {
        add(&self.frames_out, 1);
        self.written.store(position, Ordering::Relaxed);
    }

    /// The peer has read everything up to `position`.
    pub(super) fn confirmed(&self, position: u64) {
        self.confirmed.store(position, Ordering::Relaxed);
    }

    /// It is to be gone soon, also when it is not polled.
    fn condemn(&self, code: CloseCode) {
        self.condemned.store(code.code(), Ordering::Relaxed);
    }

    /// Whether it is to be gone, and with which code.
    pub(super) fn is_condemned(&self) -> Option<CloseCode> {
        CloseCode::from_code(self.condemned.load(Ordering::Relaxed))
    }
}

/// What the registry knows of a connection that has started.
#[derive(Debug, Clone)]
pub(super) struct Card {
    pub(super) id: ConnectionId,
    pub(super) codec: Codec,
    pub(super) since_ms: Millis,
    pub(super) vitals: Arc<Vitals>,
    pub(super) control: Recipient<Control>,
}

/// A connection as the registry and itself see it.
#[derive(Debug, Clone)]
pub struct SeenConnection {
    /// Its id.
    pub id: ConnectionId,
    /// Whose it is, once that is proven.
    pub user: Option<UserId>,
    /// The remote address, of IPv6 its network.
    pub network: Option<IpAddr>,
    /// What it speaks.
    pub codec: Codec,
    /// When it began.
    pub since_ms: Millis,
    /// When a message or the answer to a mark last came.
    pub heard_ms: Millis,
    /// Frames that came.
    pub frames_in: u64,
    /// Their bytes.
    pub bytes_in: u64,
    /// Frames that were written.
    pub frames_out: u64,
    /// Their bytes.
    pub bytes_out: u64,
    /// Bytes written of which nothing shows that the peer has read them.
    pub unread_bytes: u64,
    /// What it says; `None` when it does not answer in time, as when its peer reads nothing.
    pub observed: Option<ObservedConnection>,
}

/// What a connection says.
#[derive(Debug, Clone)]
pub struct ObservedConnection {
    /// What its client said about itself.
    pub client: Option<ClientInfo>,
    /// The close frame is out.
    pub closing: bool,
    /// Commands without a reply.
    pub pending: usize,
    /// Its cursors, by session.
    pub attachments: Vec<ObservedAttachment>,
}

/// A cursor as its connection sees it.
#[derive(Debug, Clone)]
pub struct ObservedAttachment {
    /// The session as the client names it.
    pub session: SessionId,
    /// The last event that was written.
    pub seq: Seq,
    /// How it is: `following`, `starved` (no room to write), `asleep`, `recovering`.
    pub state: &'static str,
}

impl Card {
    /// Sends the question; the answer may never come.
    fn ask(&self) -> Option<oneshot::Receiver<ObservedConnection>> {
        let (answer, answered) = oneshot::channel();
        self.control.try_send(Control::Observe(answer)).ok()?;
        Some(answered)
    }

    /// Closes it in order if it still can, and cuts it else.
    pub(super) fn end(&self, code: CloseCode, after_ms: Option<u64>) {
        self.vitals.condemn(code);
        // A mailbox that is full is one that nobody reads: the watch cuts it.
        drop(self.control.try_send(Control::Close { code, after_ms }));
    }

    /// Asks it, at most for `limit`.
    pub(super) async fn look(self, user: Option<UserId>, network: Option<IpAddr>, limit: Duration) -> SeenConnection {
        let observed = match self.ask() {
            Some(answer) => tokio::time::timeout(limit, answer).await.ok().and_then(Result::ok),
            None => None,
        };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let vitals = &self.vitals;
        // The other way round, one that confirms meanwhile would have read more than was written.
        let confirmed = read(&vitals.confirmed);
        let written = read(&vitals.written);
        SeenConnection {
            user,
            network,
            codec: self.codec,
            since_ms: self.since_ms,
            heard_ms: vitals.heard_ms.load(Ordering::Relaxed).max(self.since_ms),
            frames_in: read(&vitals.frames_in),
            bytes_in: read(&vitals.bytes_in),
            frames_out: read(&vitals.frames_out),
            bytes_out: written,
            unread_bytes: written.saturating_sub(confirmed),
            observed,
            id: self.id,
        }
    }
}

impl Connection {
    /// Says how it is.
    pub(super) fn observe(&self) -> ObservedConnection {
        let cursors = self.lanes.values().filter_map(|lane| lane.attachment.as_ref());
        let mut attachments: Vec<_> = cursors
            .map(|attachment| ObservedAttachment {
                session: attachment.session.clone(),
                seq: attachment.seq,
                state: match attachment {
                    attachment if attachment.recovering.is_some() => "recovering",
                    attachment if attachment.asleep => "asleep",
                    attachment if attachment.starved => "starved",
                    _ => "following",
                },
            })
            .collect();
        attachments.sort_by(|a, b| a.session.cmp(&b.session));
        ObservedConnection {
            client: self.client.clone(),
            closing: self.closing,
            pending: self.pending,
            attachments,
        }
    }
}
