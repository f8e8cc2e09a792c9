//! Following sessions: the commands by name, and what was seen.

use kronos_protocol::client::Send;
use kronos_protocol::server::{Attached, Cancelled, Sent};
use kronos_protocol::{Attach, AttachTarget, Cancel, Cursor, Detach, OkBody, RunId, SendMode, SessionId, WireError};

use super::{Reply, WsClient};
use kronos_check::Transcript;

impl WsClient {
    /// Makes a session and follows it; returns its id.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn attach_new(&mut self) -> SessionId {
        let target = AttachTarget::New {
            title: None,
            settings: None,
        };
        self.try_attach(Attach::new(target))
            .await
            .unwrap_or_else(|error| panic!("attach new: {error:?}"))
            .session
    }

    /// Follows a session (an id or `@me`) from `after` on, from the start without it.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn attach(&mut self, session: impl AsRef<str>, after: Option<Cursor>) -> Attached {
        let session: SessionId = session.as_ref().parse().expect("a session id");
        let attach = Attach {
            after,
            ..Attach::new(AttachTarget::of(session.clone()))
        };
        self.try_attach(attach)
            .await
            .unwrap_or_else(|error| panic!("attach {session}: {error:?}"))
    }

    /// Follows a session on from where this client was, after a [`WsClient::reconnect`].
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn reattach(&mut self, session: impl AsRef<str>) -> Attached {
        let after = self.cursor(&session);
        self.attach(session, after).await
    }

    /// Follows a session as asked.
    ///
    /// # Errors
    /// As the server says.
    ///
    /// # Panics
    /// When the reply does not come, or is not one to `attach`.
    pub async fn try_attach(&mut self, attach: Attach) -> Result<Attached, WireError> {
        match self.command(attach).await? {
            OkBody::Attached(attached) => Ok(attached),
            other => panic!("attach was answered with {other:?}"),
        }
    }

    /// Says something in a session and returns the reply, which comes when it is durable.
    ///
    /// # Panics
    /// When the server refuses.
    pub async fn send(&mut self, session: impl AsRef<str>, id: &str, text: &str, mode: SendMode) -> Sent {
        let reply = self.try_send(session, id, text, mode).await;
        reply.unwrap_or_else(|error| panic!("send {id}: {error:?}"))
    }

    /// Says something in a session.
    ///
    /// # Errors
    /// As the server says.
    ///
    /// # Panics
    /// When the reply does not come, or is not one to `send`.
    pub async fn try_send(
        &mut self,
        session: impl AsRef<str>,
        id: &str,
        text: &str,
        mode: SendMode,
    ) -> Result<Sent, WireError> {
        let session: SessionId = session.as_ref().parse().expect("a session id");
        let id: kronos_protocol::MessageId = id.parse().expect("a message id");
        let send = Send {
            mode,
            ..Send::new(session, id, text.to_owned())
        };
        match self.command(send).await? {
            OkBody::Sent(sent) => Ok(sent),
            other => panic!("send was answered with {other:?}"),
        }
    }

    /// Says something and waits until it is answered; returns the last answer's text.
    ///
    /// # Panics
    /// When the server refuses, or the answer does not come in time.
    pub async fn ask(&mut self, session: impl AsRef<str>, id: &str, text: &str) -> String {
        self.send(&session, id, text, SendMode::Queue).await;
        self.until_idle(&session).await;
        self.transcript(&session).last_answer().to_owned()
    }

    /// Stops the active run of a session.
    ///
    /// # Errors
    /// As the server says.
    ///
    /// # Panics
    /// When the reply does not come, or is not one to `cancel`.
    pub async fn cancel(&mut self, session: impl AsRef<str>) -> Result<Cancelled, WireError> {
        let session: SessionId = session.as_ref().parse().expect("a session id");
        match self.command(Cancel::new(session)).await? {
            OkBody::Cancelled(cancelled) => Ok(cancelled),
            OkBody::Done => Ok(Cancelled::new()),
            other => panic!("cancel was answered with {other:?}"),
        }
    }

    /// Stops following a session; anything that comes for it later is a broken promise.
    pub async fn detach(&mut self, session: impl AsRef<str>) -> Reply {
        let session: SessionId = session.as_ref().parse().expect("a session id");
        self.command(Detach::new(session)).await
    }

    /// Reads on until the server has said that the client has everything.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn until_caught_up(&mut self, session: impl AsRef<str>) {
        let session = session.as_ref();
        self.until(&format!("session {session} caught up"), |client| {
            client.checker.track(session).is_some_and(|track| track.is_caught_up())
        })
        .await;
    }

    /// Reads on until no run is active and nothing that is known to be queued waits for one.
    ///
    /// After a run that ended with the error `interrupted` the server may try its turn again: that run is only awaited
    /// once it has begun.
    ///
    /// # Panics
    /// When it does not in time.
    pub async fn until_idle(&mut self, session: impl AsRef<str>) {
        let session = session.as_ref();
        self.until(&format!("session {session} idle"), |client| {
            client.checker.track(session).is_some_and(|track| track.is_idle())
        })
        .await;
    }

    /// Reads on until a run is active.
    ///
    /// # Panics
    /// When none is in time.
    pub async fn until_running(&mut self, session: impl AsRef<str>) {
        let session = session.as_ref();
        self.until(&format!("a run in session {session}"), |client| {
            client.active_run(session).is_some()
        })
        .await;
    }

    /// Returns the run that is active, as far as this client has seen.
    #[must_use]
    pub fn active_run(&self, session: impl AsRef<str>) -> Option<&RunId> {
        self.checker.track(session.as_ref())?.run()
    }

    /// Returns the last position seen of a session; `None` when it was never attached or nothing is known yet.
    #[must_use]
    pub fn cursor(&self, session: impl AsRef<str>) -> Option<Cursor> {
        self.checker.track(session.as_ref())?.cursor()
    }

    /// Returns what this client shows of a session; empty when it was never attached.
    #[must_use]
    pub fn transcript(&self, session: impl AsRef<str>) -> Transcript {
        self.checker
            .track(session.as_ref())
            .map(|track| track.transcript().clone())
            .unwrap_or_default()
    }
}
