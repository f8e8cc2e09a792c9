//! The Connection actor: one accepted websocket.
//!
//! Owns the framing, who is on the other end, the order of replies, and one cursor with one parked pull for each
//! attached session. Never knows what a conversation is, and never keeps a queue that a slow peer could let grow:
//!
//! - Input is read as fast as it is handled: the `guard` takes nothing more while frames wait, and nothing at all while
//!   the peer does not read (this actor is polled only when its socket took what was written).
//! - Output is pulled: a session sends a batch when asked, and is asked again when the last batch could be written and
//!   the peer has answered enough of the pings within what it was sent (`link` says why).
//! - A peer that answers none of them for `write_timeout` reads nothing: the `watch` of its core closes it with 4450 and
//!   soon after cuts its socket, because this actor may be one that is not polled any more.
//! - Commands in flight and by time, attachments and connections have bounds, each with an error code.
//!
//! How it fails: a panic ends this connection with 1011 and nothing else; whatever ends it, its cursors are taken down
//! and its place in the registry is given back.
//!
//! Choices where the contract leaves one: a binary message on a JSON subprotocol, or text on a MessagePack one, is 1003;
//! a refused `token` changes nothing, the connection goes on until the old one ends; `hello` with another user's token than
//! the upgrade's is `forbidden` and 4403; `detach` without an attachment is `ok`; refusals for a bound come at once, all other
//! replies in order per session; a peer that is silent for two pings gets 1001 and is cut.

use std::{collections::HashMap, io, rc::Rc, sync::Arc};

use actix::{Actor, ActorContext, AsyncContext, Handler, SpawnHandle, StreamHandler};
use actix_http::error::PayloadError;
use actix_web_actors::ws::{self, WebsocketContext};
use bytes::Bytes;
use futures_util::Stream;
use kronos_protocol::{
    client::ClientInfo,
    close::{CloseCode, CloseReason},
    codec::Codec,
    ids::{ConnectionId, SessionId},
    server::{Goaway, Limits, ServerFrame, ServerInfo},
};
use tracing::{Span, debug};

use crate::{
    clock::Clock,
    config::{ConnectionConfig, SessionConfig},
    directory::{DirectoryRef, SessionRef},
    flight::Timeline,
    ids,
    principal::{AuthError, Authenticator, Principal},
    trace::{self, TraceContext},
};

mod assembly;
mod body;
pub use body::HangUp;
mod commands;
mod cursors;
mod guard;
mod hello;
mod lane;
mod link;
pub mod metrics;
pub mod observe;
mod output;
mod rate;
pub mod registry;
mod replies;
pub mod streams;
mod utf8;
mod watch;

use assembly::Assembly;
use body::Body;
use guard::Guard;
use lane::Lane;
use link::{Link, Signal, Signals};
use metrics::ConnectionMetrics;
use observe::Card;
use rate::Bucket;
use registry::{Control, Permit};

type Ctx = WebsocketContext<Connection>;

/// Silent ping intervals after which a peer is gone.
const SILENT_PINGS: u32 = 2;
/// Messages that a connection takes beside replies and deliveries: revocation, shutdown.
const SPARE_MAILBOX: usize = 16;

/// What all connections share.
pub struct ConnectionDeps {
    /// The time.
    pub clock: Clock,
    /// The bounds.
    pub config: ConnectionConfig,
    /// The bounds as `welcome` tells them; see [`limits`].
    pub limits: Limits,
    /// This server, as `welcome` tells it.
    pub server: ServerInfo,
    /// Checks tokens.
    pub authenticator: Arc<dyn Authenticator>,
    /// Finds sessions.
    pub directory: DirectoryRef,
    /// The metrics.
    pub metrics: ConnectionMetrics,
}

/// Returns the bounds that clients are told.
#[must_use]
pub fn limits(connection: &ConnectionConfig, session: &SessionConfig) -> Limits {
    Limits {
        frame_bytes: connection.frame_bytes,
        message_chars: session.message_chars,
        attachments: connection.attachments,
        pending_commands: connection.pending_commands,
        title_chars: session.title_chars,
        ..Limits::new()
    }
}

/// What the upgrade request settled.
#[derive(Debug)]
pub struct Upgrade {
    /// The codec of the subprotocol.
    pub codec: Codec,
    /// Who the request's credentials proved; `None` without any. An error closes the connection at once.
    pub credentials: Result<Option<Principal>, AuthError>,
    /// The connection's place.
    pub permit: Permit,
    /// Ends its socket.
    pub hang_up: HangUp,
}

/// Starts a connection on the payload of an upgraded request; returns the body of the response.
///
/// The actor lives in the body: it runs while the body is polled, and ends when it is dropped.
pub fn serve<S>(
    deps: Arc<ConnectionDeps>,
    upgrade: Upgrade,
    payload: S,
) -> impl Stream<Item = io::Result<Bytes>> + Unpin + 'static
where
    S: Stream<Item = Result<Bytes, PayloadError>> + Unpin + 'static,
{
    let mut upgrade = upgrade;
    let hang_up = std::mem::take(&mut upgrade.hang_up);
    let config = &deps.config;
    let link = Link::new(config.pre_auth_frame_bytes, config.unread_bytes, hang_up);
    // The guard keeps the real limit; this one only must not be in its way.
    let largest = deps
        .config
        .frame_bytes
        .max(deps.config.pre_auth_frame_bytes)
        .saturating_add(1);
    let connection = Connection::new(deps, upgrade, link.clone());
    let id = connection.id.clone();
    // Here, within the span of the request, so that the line says which it was.
    debug!(connection.id = %id, user.id = connection.user(), codec = connection.codec.as_str(), "connection opened");
    let guard = Guard::new(payload, link.clone());
    let frames = actix_http::ws::Codec::new().max_size(largest);
    Body::new(WebsocketContext::with_codec(connection, guard, frames), link, id)
}

/// Who is on the other end.
enum Standing {
    /// Has not said `hello`; `proven` by the upgrade request, perhaps.
    Stranger { proven: Option<Principal> },
    /// Was welcomed.
    Known(Arc<Principal>),
}

/// The actor.
pub(crate) struct Connection {
    deps: Arc<ConnectionDeps>,
    id: ConnectionId,
    /// The upgrade's place in a trace.
    trace: Option<Arc<TraceContext>>,
    codec: Codec,
    link: Rc<Link>,
    permit: Permit,
    /// Why the upgrade's credentials are no good: closes as soon as it starts.
    rejected: Option<AuthError>,
    standing: Standing,
    client: Option<ClientInfo>,
    assembly: Assembly,
    rate: Bucket,
    /// The close frame is out: nothing is written or taken any more.
    closing: bool,
    silent_pings: u32,
    expiry: Option<SpawnHandle>,
    /// By the session's id as the client writes it.
    /// Boxed: a table has room for four, and most sockets have one.
    lanes: HashMap<SessionId, Box<Lane<SessionRef>>>,
    /// The lanes of cursors that stand, and of calls that are not answered.
    numbers: HashMap<u64, SessionId>,
    slots: HashMap<u64, SessionId>,
    next_number: u64,
    next_slot: u64,
    /// Commands without a reply.
    pending: usize,
    /// Sessions being made.
    creating: usize,
    feed: SessionId,
    /// Ends of runs that were written, up to these bytes, and not read yet, oldest first.
    unread_ends: Vec<(u64, Arc<Timeline>)>,
}

impl Connection {
    fn new(deps: Arc<ConnectionDeps>, upgrade: Upgrade, link: Rc<Link>) -> Self {
        deps.metrics.connections.increment(1);
        let (proven, rejected) = match upgrade.credentials {
            Ok(proven) => (proven, None),
            Err(error) => (None, Some(error)),
        };
        let rate = Bucket::new(deps.clock.instant());
        Self {
            deps,
            id: ids::connection(),
            trace: trace::outgoing(&Span::current()),
            codec: upgrade.codec,
            link,
            permit: upgrade.permit,
            rejected,
            standing: Standing::Stranger { proven },
            client: None,
            assembly: Assembly::default(),
            rate,
            closing: false,
            silent_pings: 0,
            expiry: None,
            lanes: HashMap::new(),
            numbers: HashMap::new(),
            slots: HashMap::new(),
            next_number: 0,
            next_slot: 0,
            pending: 0,
            creating: 0,
            feed: SessionId::from_trusted(SessionId::FEED.to_owned()),
            unread_ends: Vec::new(),
        }
    }

    /// Who is on the other end, as far as that is proven, for logs.
    fn user(&self) -> Option<&str> {
        match &self.standing {
            Standing::Known(principal) => Some(principal.user.as_str()),
            Standing::Stranger { proven } => proven.as_ref().map(|principal| principal.user.as_str()),
        }
    }

    /// Takes a whole message.
    fn message(&mut self, binary: bool, bytes: &[u8], ctx: &mut Ctx) {
        metrics::traffic(self.codec).came(bytes.len());
        self.link.vitals().came(bytes.len(), self.deps.clock.now_ms());
        if binary != self.codec.is_binary() {
            return self.close(CloseCode::UnsupportedData, ctx);
        }
        match (self.codec.decode_client(bytes), self.too_fast()) {
            (Ok(frame), None) => self.command(frame, ctx),
            (Ok(frame), Some(wait)) => self.slow_down(Some(frame.command.op()), Some(frame.reference), wait, ctx),
            (Err(error), Some(wait)) if !error.fatal => self.slow_down(None, error.reference, wait, ctx),
            (Err(error), _) => self.unreadable(error, ctx),
        }
    }

    /// The name of the bound on messages that counts now.
    fn frame_bound(&self) -> &'static str {
        match self.standing {
            Standing::Stranger { .. } => "pre_auth_frame_bytes",
            Standing::Known(_) => "frame_bytes",
        }
    }

    /// Pings, or cuts a peer from which nothing came since the last two pings.
    fn beat(&mut self, ctx: &mut Ctx) {
        if self.closing {
            return;
        }
        self.silent_pings = if self.link.take_heard() {
            0
        } else {
            self.silent_pings.saturating_add(1)
        };
        if self.silent_pings >= SILENT_PINGS {
            self.close(CloseCode::GoingAway, ctx);
            return ctx.stop();
        }
        ctx.ping(b"");
        // Not an interval: one that was late makes up for it, and takes its own silence for the peer's.
        ctx.run_later(self.deps.config.ping_interval, Self::beat);
    }
}

impl Actor for Connection {
    type Context = Ctx;

    fn started(&mut self, ctx: &mut Ctx) {
        let config = &self.deps.config;
        ctx.set_mailbox_capacity(config.attachments * 2 + config.pending_commands + SPARE_MAILBOX);
        ctx.add_stream(Signals(self.link.clone()));
        let now = self.deps.clock.now_ms();
        self.link.vitals().heard(now);
        self.permit.register(Card {
            id: self.id.clone(),
            codec: self.codec,
            since_ms: now,
            vitals: Arc::clone(self.link.vitals()),
            control: ctx.address().recipient(),
        });
        watch::watch(
            &self.deps.clock,
            config.write_timeout,
            watch::Watched::new(self.id.clone(), &self.link, ctx.address().recipient()),
        );
        if let Some(error) = self.rejected.take() {
            return self.turn_away(&error, ctx);
        }
        ctx.run_later(config.hello_timeout, |this, ctx| {
            if matches!(this.standing, Standing::Stranger { .. }) {
                this.close(CloseCode::HelloTimeout, ctx);
            }
        });
        ctx.run_later(config.ping_interval, Self::beat);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Not in `stopped`: this also runs when the context never started.
        self.leave();
        self.deps.metrics.connections.decrement(1);
        debug!(connection.id = %self.id, user.id = self.user(), "connection ended");
    }
}

impl StreamHandler<Result<ws::Message, ws::ProtocolError>> for Connection {
    fn handle(&mut self, item: Result<ws::Message, ws::ProtocolError>, ctx: &mut Ctx) {
        self.link.handle();
        match item {
            Ok(ws::Message::Close(reason)) => self.echo_close(reason, ctx),
            _ if self.closing => {}
            Ok(ws::Message::Text(text)) => self.message(false, text.as_bytes(), ctx),
            Ok(ws::Message::Binary(bytes)) => self.message(true, &bytes, ctx),
            Ok(ws::Message::Continuation(item)) => {
                if let Some((binary, bytes)) = self.assembly.push(item) {
                    self.message(binary, &bytes, ctx);
                }
            }
            Ok(ws::Message::Ping(bytes)) => ctx.pong(&bytes),
            Ok(ws::Message::Pong(bytes)) => {
                if self.link.confirm(&bytes, || self.deps.clock.instant()) {
                    self.link.vitals().heard(self.deps.clock.now_ms());
                    self.note_read();
                    self.pull_starved(ctx);
                }
            }
            Ok(ws::Message::Nop) => {}
            // The guard lets nothing pass that actix refuses.
            Err(_) => self.close(CloseCode::Protocol, ctx),
        }
    }
}

impl StreamHandler<Signal> for Connection {
    fn handle(&mut self, signal: Signal, ctx: &mut Ctx) {
        match signal {
            Signal::Violation(code) => {
                if code == CloseCode::TooLarge {
                    crate::metrics::refused(self.frame_bound());
                }
                self.close(code, ctx);
            }
            Signal::Resume => self.pull_starved(ctx),
        }
    }
}

impl Handler<Control> for Connection {
    type Result = ();

    fn handle(&mut self, control: Control, ctx: &mut Ctx) {
        match control {
            Control::Goaway { reason, after_ms } => {
                self.frame(&ServerFrame::Goaway(Goaway::new(reason, after_ms)), ctx);
            }
            Control::Close { code, after_ms } => {
                self.close_with(
                    code,
                    CloseReason {
                        retry: code.retry(),
                        after_ms,
                    },
                    ctx,
                );
            }
            // Who asked may not have waited.
            Control::Observe(answer) => drop(answer.send(self.observe())),
        }
    }
}

#[cfg(test)]
mod tests;
