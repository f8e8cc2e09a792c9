//! What a connection writes: frames, replies, and the end.

use std::time::Duration;

use actix::{ActorContext, AsyncContext};
use actix_web_actors::ws;
use bytes::Bytes;
use bytestring::ByteString;
use kronos_protocol::{
    client::Op,
    close::{CloseCode, CloseReason},
    error::ErrorCode,
    ids::Ref,
    server::{OkBody, ServerFrame, WireError},
};
use serde_json::{Value, json};
use tracing::{debug, error};

use super::{Connection, Ctx, metrics};
use crate::session::message::SessionError;

/// How long the peer may take to answer a close frame before the connection is cut.
///
/// Cutting at once would make the kernel reset the connection while the peer still sends, and the code would be lost.
const CLOSE_LINGER: Duration = Duration::from_secs(1);

impl Connection {
    /// Writes an encoded frame.
    pub(super) fn write(&mut self, bytes: Bytes, ctx: &mut Ctx) {
        if self.closing {
            return;
        }
        let mark = self.link.spend(bytes.len(), || self.deps.clock.instant());
        metrics::traffic(self.codec).went(bytes.len());
        if self.codec.is_binary() {
            ctx.binary(bytes);
        } else {
            // Checks the text, does not copy it.
            match ByteString::try_from(bytes) {
                Ok(text) => ctx.text(text),
                Err(_) => return self.fail("a frame is not text", ctx),
            }
        }
        if let Some(mark) = mark {
            ctx.ping(&mark);
        }
    }

    /// Writes a frame.
    pub(super) fn frame(&mut self, frame: &ServerFrame, ctx: &mut Ctx) {
        match self.codec.encode(frame) {
            Ok(bytes) => self.write(bytes, ctx),
            Err(_) => self.fail("a frame cannot be encoded", ctx),
        }
    }

    /// Answers a command: done.
    pub(super) fn confirm(&mut self, op: Op, reference: Ref, body: impl Into<OkBody>, ctx: &mut Ctx) {
        self.deps.metrics.answered(Some(op), true);
        self.frame(&ServerFrame::ok(reference, body), ctx);
    }

    /// Answers a command: refused.
    pub(super) fn refuse(&mut self, op: Option<Op>, reference: Option<Ref>, error: WireError, ctx: &mut Ctx) {
        self.deps.metrics.answered(op, false);
        self.frame(&ServerFrame::error(reference, error), ctx);
    }

    /// Closes with the usual reason of `code`.
    pub(super) fn close(&mut self, code: CloseCode, ctx: &mut Ctx) {
        self.close_with(code, CloseReason::of(code), ctx);
    }

    /// Sends the close frame, lets go of all sessions, and waits a moment for the peer to close too.
    pub(super) fn close_with(&mut self, code: CloseCode, reason: CloseReason, ctx: &mut Ctx) {
        if self.closing {
            return;
        }
        self.closing = true;
        if self.link.close() {
            debug!(connection.id = %self.id, user.id = self.user(), code = code.code(), "closing connection");
            metrics::closed(Some(code.code()));
        }
        ctx.close(Some(ws::CloseReason {
            code: code.code().into(),
            description: Some(reason.encode()),
        }));
        self.leave();
        ctx.run_later(CLOSE_LINGER, |_, ctx| ctx.stop());
    }

    /// Answers the peer's close frame, which has been checked, with the same code, and ends.
    pub(super) fn echo_close(&mut self, reason: Option<ws::CloseReason>, ctx: &mut Ctx) {
        if !self.closing {
            self.closing = true;
            self.link.close();
            metrics::closed(reason.as_ref().map(|reason| reason.code.into()));
            ctx.close(reason.map(|reason| ws::CloseReason {
                code: reason.code,
                description: None,
            }));
        }
        ctx.stop();
    }

    /// Ends after a bug of ours.
    pub(super) fn fail(&mut self, what: &'static str, ctx: &mut Ctx) {
        error!(connection.id = %self.id, user.id = self.user(), what, "connection failed");
        self.close(CloseCode::Internal, ctx);
    }
}

/// A session's error as it is on the wire.
pub(super) fn wire(error: SessionError) -> WireError {
    let details = if error.details.is_null() {
        json!({})
    } else {
        error.details
    };
    WireError {
        details,
        after_ms: error.after_ms,
        ..WireError::of(error.code, error.message)
    }
}

/// A bound of this server was reached.
pub(super) fn bound(name: &'static str, limit: usize, after_ms: u64) -> WireError {
    crate::metrics::refused(name);
    WireError {
        details: json!({ "name": name, "limit": limit }),
        after_ms: Some(after_ms),
        ..WireError::of(ErrorCode::Overloaded, format!("{name}: at most {limit}"))
    }
}

/// The same error with the session it is about, for a frame that answers no command.
pub(super) fn about(session: &str, mut error: WireError) -> WireError {
    match &mut error.details {
        Value::Object(details) => drop(details.insert("session".to_owned(), json!(session))),
        other => *other = json!({ "session": session }),
    }
    error
}
