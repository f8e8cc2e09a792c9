//! What the directories say to operators: which sessions there are, how each is, how the cores are.
//!
//! Every answer is waited for at most for as long as the caller says: what does not answer is what an operator looks for.

use std::{collections::HashMap, time::Duration};

use actix::prelude::*;
use futures_util::{
    StreamExt,
    future::{join, join_all},
    stream,
};
use kronos_protocol::ids::{SessionId, UserId};

use super::{Directory, DirectoryRef, parked::Parking};
use crate::session::{Observe as ObserveSession, Observed, Session};

/// Listings that are read at once for sessions that cannot say whose they are.
const READS: usize = 8;

/// Asks a directory what it holds.
#[derive(Debug, Message)]
#[rtype(result = "ObservedDirectory")]
struct Observe;

/// What a directory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, MessageResponse)]
pub struct ObservedDirectory {
    /// Sessions in memory.
    pub live: usize,
    /// Sessions that left memory under their sockets.
    pub asleep: usize,
    /// Their attachments.
    pub sleepers: usize,
    /// Sessions that are leaving memory.
    pub stopping: usize,
    /// Sessions that hung not long ago.
    pub striking: usize,
}

impl Handler<Observe> for Directory {
    type Result = ObservedDirectory;

    fn handle(&mut self, _: Observe, _: &mut Self::Context) -> ObservedDirectory {
        ObservedDirectory {
            live: self.live.len(),
            asleep: self.asleep.len(),
            sleepers: self.asleep.values().map(|sleepers| sleepers.len()).sum(),
            stopping: self.live.values().filter(|live| live.stopping.is_some()).count(),
            striking: self.strikes.len(),
        }
    }
}

/// Asks a directory where sessions of its core are, in this order.
#[derive(Debug, Message)]
#[rtype(result = "Places")]
struct WhereAre(Vec<SessionId>);

#[derive(MessageResponse)]
struct Places(Vec<Place>);

enum Place {
    Live {
        addr: Addr<Session>,
        still: Duration,
        working: bool,
    },
    Asleep {
        sleepers: usize,
    },
    Gone,
}

impl Handler<WhereAre> for Directory {
    type Result = Places;

    fn handle(&mut self, WhereAre(sessions): WhereAre, _: &mut Self::Context) -> Places {
        let now = self.node.clock.instant();
        let place = |session: &SessionId| match (self.live.get(session), self.asleep.get(session)) {
            (Some(live), _) => {
                let (still, working) = live.pulse.still_for(now);
                Place::Live {
                    addr: live.addr.clone(),
                    still,
                    working,
                }
            }
            (None, Some(sleepers)) => Place::Asleep {
                sleepers: sleepers.len(),
            },
            (None, None) => Place::Gone,
        };
        Places(sessions.iter().map(place).collect())
    }
}

/// A session as its core and itself see it.
#[derive(Debug, Clone)]
pub struct SeenSession {
    /// Its id.
    pub session: SessionId,
    /// Whose it is, if that can be told.
    pub owner: Option<UserId>,
    /// Where it is.
    pub standing: Standing,
}

/// Where a session is.
#[derive(Debug, Clone)]
pub enum Standing {
    /// In memory.
    Live {
        /// Its core.
        core: usize,
        /// What it says; `None` when it does not answer in time.
        seen: Option<Box<Observed>>,
        /// Time since it last got on, and whether it has work that must; `None` when its core does not answer.
        still: Option<(Duration, bool)>,
    },
    /// Out of memory under its sockets.
    Asleep {
        /// Its core.
        core: usize,
        /// Its attachments.
        sleepers: usize,
    },
    /// Out of service.
    Parked(Parking),
}

impl Standing {
    /// What it says about itself, if it is in memory and answers.
    #[must_use]
    pub fn seen(&self) -> Option<&Observed> {
        match self {
            Self::Live { seen, .. } => seen.as_deref(),
            Self::Asleep { .. } | Self::Parked(_) => None,
        }
    }

    /// Whether it is in memory and does not answer.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Live { seen: None, .. })
    }
}

impl DirectoryRef {
    /// Every session that is in memory, asleep under its sockets, or parked, in the order of their ids.
    #[must_use]
    pub fn known_sessions(&self) -> Vec<SessionId> {
        let mut all: Vec<SessionId> = self.node.all_routes().into_iter().map(|(session, _)| session).collect();
        self.node.parked(|parked| all.extend(parked.keys().cloned()));
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether a session is known at all, in memory or not.
    pub(super) fn is_known(&self, session: &SessionId) -> bool {
        self.is_parked(session) || self.node.core_of(session).is_some()
    }

    /// Looks at sessions and asks those in memory, all at once and each for at most `limit`. Those that are not there are left out;
    /// the order stays.
    pub async fn look_at(&self, sessions: &[SessionId], limit: Duration) -> Vec<SeenSession> {
        let mut standing: HashMap<&SessionId, Standing> = HashMap::new();
        let mut cores: HashMap<usize, Vec<&SessionId>> = HashMap::new();
        for session in sessions {
            match (self.parking(session), self.node.core_of(session)) {
                (Some(parking), _) => drop(standing.insert(session, Standing::Parked(parking))),
                (None, Some(core)) => cores.entry(core).or_default().push(session),
                (None, None) => {}
            }
        }
        let asked = cores
            .into_iter()
            .map(|(core, sessions)| self.ask_core(core, sessions, limit));
        standing.extend(join_all(asked).await.into_iter().flatten());
        let found = sessions
            .iter()
            .filter_map(|session| Some((session, standing.remove(session)?)));
        let found: Vec<_> = found.collect();
        stream::iter(found)
            .map(|(session, standing)| self.with_owner(session, standing, limit))
            .buffered(READS)
            .collect()
            .await
    }

    /// Asks one core and its sessions.
    async fn ask_core<'a>(
        &self,
        core: usize,
        sessions: Vec<&'a SessionId>,
        limit: Duration,
    ) -> Vec<(&'a SessionId, Standing)> {
        let ids = sessions.iter().copied().cloned().collect();
        let places = match self.node.directory(core) {
            Some(directory) => within(limit, directory.send(WhereAre(ids))).await,
            None => None,
        };
        let Some(Places(places)) = places else {
            let silent = |session| {
                let (seen, still) = (None, None);
                (session, Standing::Live { core, seen, still })
            };
            return sessions.into_iter().map(silent).collect();
        };
        let asked = sessions.into_iter().zip(places).map(|(session, place)| async move {
            let standing = match place {
                Place::Live { addr, still, working } => Standing::Live {
                    core,
                    seen: within(limit, addr.send(ObserveSession)).await.map(Box::new),
                    still: Some((still, working)),
                },
                Place::Asleep { sleepers } => Standing::Asleep { core, sleepers },
                Place::Gone => return None,
            };
            Some((session, standing))
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn with_owner(&self, session: &SessionId, standing: Standing, limit: Duration) -> SeenSession {
        let told = standing.seen().and_then(|seen| seen.owner.clone());
        let owner = match (told, session.as_str().strip_prefix('@')) {
            (Some(owner), _) => Some(owner),
            (None, Some(user)) => UserId::try_from(user).ok(),
            (None, None) => {
                let meta = tokio::time::timeout(limit, self.node.store.meta(session)).await;
                let meta = meta.ok().and_then(|read| read.ok().flatten());
                meta.map(|meta| meta.owner)
            }
        };
        SeenSession {
            session: session.clone(),
            owner,
            standing,
        }
    }

    /// How the cores' directories are, in order; `None` for one that does not answer in time. With each whether the core's Gemini
    /// service answers.
    pub async fn look_at_cores(&self, limit: Duration) -> Vec<(Option<ObservedDirectory>, bool)> {
        let asked = self.geminis().into_iter().enumerate().map(|(core, gemini)| async move {
            let directory = async {
                match self.node.directory(core) {
                    Some(directory) => within(limit, directory.send(Observe)).await,
                    None => None,
                }
            };
            let gemini = async { tokio::time::timeout(limit, gemini.answers()).await.unwrap_or(false) };
            join(directory, gemini).await
        });
        join_all(asked).await
    }
}

/// An answer that comes in time.
async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, MailboxError>>) -> Option<T> {
    tokio::time::timeout(limit, answer).await.ok()?.ok()
}
