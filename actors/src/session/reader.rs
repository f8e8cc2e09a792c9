//! A cursor inside the process: REST reads a session exactly as a socket does, by pulls.

use std::{sync::Arc, time::Duration};

use actix::prelude::*;
use kronos_protocol::{
    entry::LogEntry,
    error::ErrorCode,
    ids::EpochId,
    position::{Cursor, Seq},
};
use tokio::sync::mpsc;

use super::message::{
    Attach, Attached, AttachmentId, Delivery, Form, Payload, ReplyTo, SessionCall, SessionCommand, SessionError,
    SessionReply,
};
use crate::{
    directory::{DirectoryRef, SessionRef},
    ids,
    principal::Principal,
};

mod turn;

pub use self::turn::{TurnError, TurnReader, TurnResult, run_to_end};

/// A batch and the end notice: a session has at most one of each on its way.
const DELIVERIES: usize = 2;
/// How often a session that restarts is looked for.
const ATTEMPTS: u32 = 20;
/// The pause before it is looked for, unless it says how long.
const PAUSE_MS: u64 = 200;

/// Takes deliveries for a future.
struct Inbox(mpsc::Sender<Delivery>);

impl Actor for Inbox {
    type Context = Context<Self>;
}

impl Handler<Delivery> for Inbox {
    type Result = ();

    fn handle(&mut self, delivery: Delivery, ctx: &mut Self::Context) {
        if self.0.try_send(delivery).is_err() {
            ctx.stop();
        }
    }
}

/// What a reader gets at once.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The history that the positions belong to.
    pub epoch: EpochId,
    /// It is a snapshot, not the log.
    pub snapshot: bool,
    /// The last position in it.
    pub upto: Seq,
    /// The entries, in order.
    pub entries: Arc<Vec<LogEntry>>,
}

/// A cursor on a session for a future: REST, SSE, exports.
pub struct SessionReader {
    directory: DirectoryRef,
    session: SessionRef,
    caller: Arc<Principal>,
    attachment: AttachmentId,
    deliveries: mpsc::Receiver<Delivery>,
    epoch: EpochId,
    head: Seq,
    after: Seq,
    /// A pull is on its way: its answer is waited for, not asked for again.
    pulled: bool,
}

impl SessionReader {
    /// Attaches a cursor that reads what comes after `after` of the history that there is.
    ///
    /// # Errors
    /// What the session answers: `not_found`, `overloaded`, …
    pub async fn attach(
        directory: &DirectoryRef,
        session: &SessionRef,
        caller: &Arc<Principal>,
        after: Seq,
    ) -> Result<Self, SessionError> {
        let mut reader = Self::resume(directory, session, caller, None).await?;
        reader.after = after;
        Ok(reader)
    }

    /// Attaches a cursor that goes on after a position; from the beginning without one. A position that the history does not
    /// have gets a snapshot first.
    ///
    /// # Errors
    /// As [`SessionReader::attach`].
    pub async fn resume(
        directory: &DirectoryRef,
        session: &SessionRef,
        caller: &Arc<Principal>,
        after: Option<Cursor>,
    ) -> Result<Self, SessionError> {
        let attachment = AttachmentId {
            connection: ids::connection(),
            number: 1,
        };
        let (attached, deliveries) = subscribe(session, caller, &attachment, after).await?;
        Ok(Self {
            directory: directory.clone(),
            session: session.clone(),
            caller: Arc::clone(caller),
            attachment,
            deliveries,
            epoch: attached.epoch,
            head: attached.head,
            after: attached.start,
            pulled: false,
        })
    }

    /// The newest event when the cursor was attached.
    #[must_use]
    pub fn head(&self) -> Seq {
        self.head
    }

    /// Everything up to here has been read.
    #[must_use]
    pub fn position(&self) -> Seq {
        self.after
    }

    /// Identity of the history that is read.
    #[must_use]
    pub fn epoch(&self) -> &EpochId {
        &self.epoch
    }

    /// Waits for the next batch. A session that restarts is found again; when it begins a new history meanwhile, the next
    /// batch is a snapshot of it (or all of it, when it fits into none). May be dropped and called again: nothing is lost.
    ///
    /// # Errors
    /// When the session is gone for good; `shutting_down` when it ended because the process does.
    pub async fn next(&mut self) -> Result<Batch, SessionError> {
        loop {
            match self.pull().await {
                Ok(batch) => return Ok(batch),
                Err(ended) => self.find_again(ended).await?,
            }
        }
    }

    async fn pull(&mut self) -> Result<Batch, SessionError> {
        if !self.pulled {
            let command = SessionCommand::Pull {
                attachment: self.attachment.clone(),
                after: self.after,
            };
            let pull = SessionCall {
                caller: Arc::clone(&self.caller),
                command,
                reply: ReplyTo::NONE,
            };
            self.session.call(pull).map_err(|refused| refused.1)?;
            self.pulled = true;
        }
        loop {
            let delivery = self.deliveries.recv().await;
            let payload = delivery.map(|delivery| {
                delivery.queued.taken();
                delivery.payload
            });
            match payload {
                Some(Payload::Entries {
                    upto,
                    snapshot,
                    entries,
                }) => {
                    self.pulled = false;
                    self.after = upto;
                    return Ok(Batch {
                        epoch: self.epoch.clone(),
                        snapshot,
                        upto,
                        entries,
                    });
                }
                Some(Payload::Ended { error }) => return Err(error),
                Some(Payload::Woken) => return Err(SessionError::closed().after_ms(0)),
                // While the session sleeps there is nothing.
                Some(Payload::Frame { .. } | Payload::Presence { .. } | Payload::Asleep) => {}
                None => return Err(SessionError::closed()),
            }
        }
    }

    async fn find_again(&mut self, mut ended: SessionError) -> Result<(), SessionError> {
        for _ in 0..ATTEMPTS {
            if !ended.closed && ended.after_ms.is_none() {
                break;
            }
            if self.directory.is_draining() {
                let error = SessionError::new(ErrorCode::ShuttingDown, "the server restarts");
                return Err(error.after_ms(1000));
            }
            actix::clock::sleep(Duration::from_millis(ended.after_ms.unwrap_or(PAUSE_MS))).await;
            match self.reattach().await {
                Ok(()) => return Ok(()),
                Err(error) => ended = error,
            }
        }
        Err(ended)
    }

    async fn reattach(&mut self) -> Result<(), SessionError> {
        let session = self.directory.resolve(self.session.id()).await?;
        let after = Cursor {
            epoch: self.epoch.clone(),
            seq: self.after,
        };
        let (attached, deliveries) = subscribe(&session, &self.caller, &self.attachment, Some(after)).await?;
        (self.session, self.deliveries) = (session, deliveries);
        (self.epoch, self.after, self.pulled) = (attached.epoch, attached.start, false);
        Ok(())
    }
}

impl Drop for SessionReader {
    fn drop(&mut self) {
        let command = SessionCommand::Detach {
            attachment: self.attachment.clone(),
        };
        let call = SessionCall {
            caller: Arc::clone(&self.caller),
            command,
            reply: ReplyTo::NONE,
        };
        // A session that cannot take it notices at its next delivery.
        drop(self.session.call(call));
    }
}

async fn subscribe(
    session: &SessionRef,
    caller: &Arc<Principal>,
    attachment: &AttachmentId,
    after: Option<Cursor>,
) -> Result<(Attached, mpsc::Receiver<Delivery>), SessionError> {
    let (tx, rx) = mpsc::channel(DELIVERIES);
    let sink = Inbox(tx).start().recipient();
    let attach = Attach {
        attachment: attachment.clone(),
        client: None,
        form: Form::Entries,
        after,
        tail: None,
        sink,
    };
    match ask(session, caller, SessionCommand::Attach(attach)).await? {
        SessionReply::Attached(attached) => Ok((attached, rx)),
        other => {
            tracing::error!(?other, "an attach was answered with something else");
            Err(SessionError::new(
                ErrorCode::Internal,
                "the conversation cannot be followed",
            ))
        }
    }
}

/// Asks a session and waits for the answer.
///
/// # Errors
/// What the session answers.
pub async fn ask(
    session: &SessionRef,
    caller: &Arc<Principal>,
    command: SessionCommand,
) -> Result<SessionReply, SessionError> {
    let (reply, answer) = ReplyTo::oneshot();
    session
        .call(SessionCall {
            caller: Arc::clone(caller),
            command,
            reply,
        })
        .map_err(|refused| refused.1)?;
    answer.await.unwrap_or_else(|_| Err(SessionError::closed()))
}
