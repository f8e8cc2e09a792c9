//! What operators do to sessions: out of memory now, or out of service.

use std::time::Duration;

use actix::prelude::*;
use kronos_protocol::{error::ErrorCode, ids::SessionId};
use tokio::sync::oneshot;

use super::{Directory, DirectoryRef, Staying, node::wire};
use crate::session::{
    Origin,
    evict::{Evict as EvictSession, Evicted},
    message::{Payload, SessionError},
    metrics,
};

type Answer = oneshot::Receiver<Result<Evicted, SessionError>>;

/// A session is to leave memory.
#[derive(Debug, Message)]
#[rtype(result = "Begun")]
struct Evict {
    session: SessionId,
    force: bool,
    /// Its readers stay attached; else they are told that it closed.
    keep_readers: bool,
}

#[derive(MessageResponse)]
enum Begun {
    /// It was told.
    Told(Answer),
    /// It leaves already.
    Leaving,
    /// Its mailbox is full.
    Full,
    /// It is not in memory.
    NotHere,
}

impl Handler<Evict> for Directory {
    type Result = Begun;

    fn handle(&mut self, evict: Evict, _: &mut Self::Context) -> Begun {
        let Evict {
            session,
            force,
            keep_readers,
        } = evict;
        if !keep_readers {
            // They attach again, and learn why they cannot.
            for sleeper in self.take_sleepers(&session) {
                sleeper.tell(Payload::Woken);
            }
            if !self.live.contains_key(&session) {
                self.node.unroute(&session);
            }
        }
        let Some(live) = self.live.get_mut(&session) else {
            return Begun::NotHere;
        };
        if live.stopping.is_some() {
            return Begun::Leaving;
        }
        let (done, answer) = oneshot::channel();
        let told = live.addr.try_send(EvictSession {
            force,
            keep_readers,
            done,
        });
        match told {
            Ok(()) => {
                live.stopping = Some(Vec::new());
                Begun::Told(answer)
            }
            Err(_full_or_closed) => Begun::Full,
        }
    }
}

/// A session that does not answer is ended as it is.
#[derive(Debug, Message)]
#[rtype(result = "bool")]
struct End {
    session: SessionId,
    /// It begins again, from its log; else it stays out of memory.
    again: bool,
}

impl Handler<End> for Directory {
    type Result = bool;

    fn handle(&mut self, End { session, again }: End, ctx: &mut Self::Context) -> bool {
        if !self.abort(&session) {
            return false;
        }
        metrics::handles().restarted_hang.increment(u64::from(again));
        if again {
            self.activate(&session, wire(&session), Origin::Stored, ctx.address());
        } else {
            self.node.unroute(&session);
        }
        true
    }
}

/// What an eviction came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Eviction {
    /// It was in memory and is not any more.
    pub evicted: bool,
    /// A run was interrupted, and is tried again.
    pub interrupted: bool,
    /// It did not answer, and was ended as it was; what was not durable is gone, and it began again.
    pub ended: bool,
}

impl Eviction {
    const NOTHING: Self = Self {
        evicted: false,
        interrupted: false,
        ended: false,
    };
}

impl DirectoryRef {
    /// Takes a session out of memory now; its sockets stay attached, and any input wakes it. With `force` its run is closed as
    /// interrupted and tried again, as after a crash, and one that does not answer within `limit` is ended as it is.
    ///
    /// # Errors
    /// `busy` when it has a run, or does not answer, and is not forced; `not_found`; `storage` when it cannot become durable.
    pub async fn evict(&self, session: &SessionId, force: bool, limit: Duration) -> Result<Eviction, SessionError> {
        if !self.is_known(session) {
            return self.is_stored(session).await.map(|()| Eviction::NOTHING);
        }
        let eviction = self.take_out(session, force, true, limit).await?;
        if eviction.interrupted && !self.is_draining() {
            // As after a crash: what is unfinished is taken up at once.
            if let Err(error) = self.resolve_stored(session).await {
                tracing::warn!(session.id = %session, %error, "an evicted session with unfinished work was not activated");
            }
        }
        Ok(eviction)
    }

    /// Takes a session out of service until [`DirectoryRef::unpark`]: its run is closed as interrupted, its clients are told. Returns
    /// whether it was in service.
    ///
    /// # Errors
    /// `not_found`; `storage` when that cannot be noted: it stays in service then.
    pub async fn park(&self, session: &SessionId, limit: Duration) -> Result<bool, SessionError> {
        if !self.is_known(session) {
            self.is_stored(session).await?;
        }
        let parked = self
            .note_parked(session)
            .await
            .map_err(|error| storage(session, &error))?;
        // Also of one that is parked: a try before this one may have been cut off.
        self.take_out(session, true, false, limit).await?;
        Ok(parked)
    }

    /// That there is such a session, in memory or not.
    async fn is_stored(&self, session: &SessionId) -> Result<(), SessionError> {
        match self.node.store.meta(session).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(SessionError::not_found(session)),
            Err(error) => Err(storage(session, &error)),
        }
    }

    async fn take_out(
        &self,
        session: &SessionId,
        force: bool,
        keep_readers: bool,
        limit: Duration,
    ) -> Result<Eviction, SessionError> {
        let Some(directory) = self.node.routed(session) else {
            return Ok(Eviction::NOTHING);
        };
        let evict = Evict {
            session: session.clone(),
            force,
            keep_readers,
        };
        let begun = tokio::time::timeout(limit, directory.send(evict)).await;
        let silent = || SessionError::new(ErrorCode::Busy, "the conversation does not answer").after_ms(1000);
        let answer = match begun {
            Ok(Ok(Begun::Told(answer))) => answer,
            Ok(Ok(Begun::NotHere)) => return Ok(Eviction::NOTHING),
            Ok(Ok(Begun::Leaving)) => {
                return Ok(Eviction {
                    evicted: true,
                    ..Eviction::NOTHING
                });
            }
            Ok(Ok(Begun::Full)) if force => return self.end(&directory, session, keep_readers).await,
            // A core that does not answer can do nothing for us.
            Ok(Ok(Begun::Full) | Err(_)) | Err(_) => return Err(silent()),
        };
        match tokio::time::timeout(limit, answer).await {
            Ok(Ok(Ok(Evicted { interrupted }))) => Ok(Eviction {
                evicted: true,
                interrupted,
                ended: false,
            }),
            Ok(Ok(Err(error))) => Err(error),
            // It ended by itself meanwhile: a panic, or the watch.
            Ok(Err(_ended)) => Ok(Eviction {
                ended: true,
                ..Eviction::NOTHING
            }),
            Err(_late) if force => self.end(&directory, session, keep_readers).await,
            Err(_late) => {
                let staying = Staying {
                    session: session.clone(),
                };
                #[expect(clippy::disallowed_methods, reason = "one per eviction; others wait for it")]
                directory.do_send(staying);
                Err(silent())
            }
        }
    }

    async fn end(
        &self,
        directory: &Addr<Directory>,
        session: &SessionId,
        again: bool,
    ) -> Result<Eviction, SessionError> {
        let end = End {
            session: session.clone(),
            again,
        };
        let ended = directory.send(end).await.map_err(|_gone| SessionError::closed())?;
        Ok(Eviction {
            ended,
            ..Eviction::NOTHING
        })
    }
}

fn storage(session: &SessionId, error: &crate::store::StoreError) -> SessionError {
    tracing::warn!(session.id = %session, %error, "the store does not do what an operator wants");
    SessionError::new(ErrorCode::Storage, "the conversation's storage does not work now").after_ms(1000)
}
