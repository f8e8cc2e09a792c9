//! Which event streams are open, and how many may be: answers over HTTP that go on for as long as their reader likes.
//!
//! Beside the websockets' registry because both are reached for the same reasons: a login ends, the server goes away. What is
//! streamed is not known here.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use kronos_protocol::ids::UserId;
use tokio::sync::watch;

use crate::{config::ConnectionConfig, metrics, principal::Principal};

/// There is no place for one more event stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamsFull {
    /// The process has as many as it takes.
    #[error("the server has {limit} event streams, its limit")]
    Process {
        /// The limit.
        limit: usize,
    },
    /// The user has as many as one may have.
    #[error("the user has {limit} event streams, the limit")]
    User {
        /// The limit.
        limit: usize,
    },
}

impl StreamsFull {
    /// Returns the name of the bound and its value.
    #[must_use]
    pub fn bound(self) -> (&'static str, usize) {
        match self {
            Self::Process { limit } => ("event_streams", limit),
            Self::User { limit } => ("event_streams_per_user", limit),
        }
    }
}

/// Why a stream has to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// Its login was revoked, or its user is gone.
    Revoked,
    /// The server goes away.
    Restart,
}

/// The open event streams of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct StreamsRef(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    max_per_user: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    closing: bool,
    open: HashMap<u64, Open>,
    users: HashMap<UserId, usize>,
}

#[derive(Debug)]
struct Open {
    user: UserId,
    login: Option<String>,
    end: watch::Sender<Option<StreamEnd>>,
}

impl StreamsRef {
    /// Returns an empty registry with the bounds of `config`.
    #[must_use]
    pub fn new(config: &ConnectionConfig) -> Self {
        Self(Arc::new(Inner {
            max: config.max_event_streams,
            max_per_user: config.max_event_streams_per_user,
            state: Mutex::default(),
        }))
    }

    /// Takes a place.
    ///
    /// # Errors
    /// [`StreamsFull`]: answer 503, `overloaded`.
    pub fn admit(&self, caller: &Principal) -> Result<StreamPermit, StreamsFull> {
        let admitted = self.place(caller);
        match &admitted {
            Ok(_) => ::metrics::gauge!(metrics::EVENT_STREAMS).increment(1.0),
            Err(full) => metrics::refused(full.bound().0),
        }
        admitted
    }

    fn place(&self, caller: &Principal) -> Result<StreamPermit, StreamsFull> {
        let mut state = self.0.lock();
        let State {
            open,
            users,
            next,
            closing,
        } = &mut *state;
        if open.len() >= self.0.max {
            return Err(StreamsFull::Process { limit: self.0.max });
        }
        let taken = users.entry(caller.user.clone()).or_insert(0);
        if *taken >= self.0.max_per_user {
            return Err(StreamsFull::User {
                limit: self.0.max_per_user,
            });
        }
        *taken += 1;
        let (end, ended) = watch::channel(closing.then_some(StreamEnd::Restart));
        let number = *next;
        *next += 1;
        let stream = Open {
            user: caller.user.clone(),
            login: caller.login.clone(),
            end,
        };
        open.insert(number, stream);
        Ok(StreamPermit {
            inner: Arc::clone(&self.0),
            number,
            ended,
        })
    }

    /// Returns how many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.lock().open.len()
    }

    /// Ends the streams of a login. Returns how many.
    pub(super) fn end_login(&self, login: &str) -> usize {
        self.end(StreamEnd::Revoked, |open| open.login.as_deref() == Some(login))
    }

    /// Ends a user's streams. Returns how many.
    pub(super) fn end_user(&self, user: &UserId) -> usize {
        self.end(StreamEnd::Revoked, |open| open.user == *user)
    }

    /// Ends streams by their user and login. Returns how many.
    pub(super) fn end_where(&self, which: impl Fn(&UserId, Option<&str>) -> bool) -> usize {
        self.end(StreamEnd::Revoked, |open| which(&open.user, open.login.as_deref()))
    }

    /// Ends all streams, also those that come later.
    pub(super) fn end_all(&self) -> usize {
        self.0.lock().closing = true;
        self.end(StreamEnd::Restart, |_| true)
    }

    fn end(&self, why: StreamEnd, which: impl Fn(&Open) -> bool) -> usize {
        let state = self.0.lock();
        let mut told = 0;
        for open in state.open.values().filter(|open| which(open)) {
            open.end.send_replace(Some(why));
            told += 1;
        }
        told
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place. Dropping it gives the place back.
#[derive(Debug)]
pub struct StreamPermit {
    inner: Arc<Inner>,
    number: u64,
    ended: watch::Receiver<Option<StreamEnd>>,
}

impl StreamPermit {
    /// Waits until the stream has to end.
    pub async fn ended(&mut self) -> StreamEnd {
        // The sender lives in the registry until this is dropped.
        let why = self.ended.wait_for(Option::is_some).await;
        why.ok().and_then(|why| *why).unwrap_or(StreamEnd::Restart)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        let Some(open) = state.open.remove(&self.number) else {
            return;
        };
        if let Some(count) = state.users.get_mut(&open.user) {
            *count -= 1;
            if *count == 0 {
                state.users.remove(&open.user);
            }
        }
        drop(state);
        ::metrics::gauge!(metrics::EVENT_STREAMS).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn streams(max: usize, per_user: usize) -> StreamsRef {
        StreamsRef::new(&ConnectionConfig {
            max_event_streams: max,
            max_event_streams_per_user: per_user,
            ..ConnectionConfig::default()
        })
    }

    fn caller(name: &str, login: &str) -> Principal {
        Principal {
            user: name.parse().unwrap(),
            name: None,
            superuser: false,
            login: Some(login.to_owned()),
            expires_at_ms: None,
        }
    }

    #[test]
    fn both_bounds_hold_and_places_come_back() {
        let all = streams(3, 2);
        let first = all.admit(&caller("ann", "1")).unwrap();
        let _second = all.admit(&caller("ann", "2")).unwrap();
        let ann = all.admit(&caller("ann", "1"));
        assert_eq!(ann.unwrap_err(), StreamsFull::User { limit: 2 });
        let _third = all.admit(&caller("bob", "3")).unwrap();
        let carl = all.admit(&caller("carl", "4"));
        assert_eq!(carl.unwrap_err(), StreamsFull::Process { limit: 3 });
        drop(first);
        let _fourth = all.admit(&caller("ann", "1")).unwrap();
        assert_eq!(all.count(), 3, "a refused one keeps no place");
    }

    #[actix::test]
    async fn a_stream_ends_with_its_login_its_user_or_the_server() {
        let all = streams(9, 9);
        let mut one = all.admit(&caller("ann", "1")).unwrap();
        let mut two = all.admit(&caller("ann", "2")).unwrap();
        let mut bob = all.admit(&caller("bob", "3")).unwrap();
        assert_eq!((all.end_login("1"), all.end_login("9")), (1, 0));
        assert_eq!(one.ended().await, StreamEnd::Revoked);
        drop(one);
        assert_eq!(all.end_user(&"ann".parse().unwrap()), 1);
        assert_eq!(two.ended().await, StreamEnd::Revoked);
        all.end_all();
        assert_eq!(bob.ended().await, StreamEnd::Restart);
        let mut late = all.admit(&caller("carl", "4")).unwrap();
        assert_eq!(late.ended().await, StreamEnd::Restart);
    }
}
