//! Which websockets are open, and how many may be.
//!
//! Owns the bounds on connections and the way to reach them from outside: revocation and shutdown. A place is taken
//! with a [`Permit`] and given back when that is dropped, whatever happened in between. Never add anything about
//! sessions here.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use actix::Message;
use futures_util::future::join_all;
use kronos_protocol::{
    close::CloseCode,
    ids::{ConnectionId, UserId},
};
use rand::Rng;
use tokio::sync::{oneshot, watch};

use super::{
    observe::{Card, ObservedConnection, SeenConnection},
    streams::StreamsRef,
};
use crate::{config::ConnectionConfig, principal::Principal};

/// There is no place for one more websocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Full {
    /// The process has as many as it takes.
    #[error("the server has {limit} connections, its limit")]
    Process {
        /// The limit.
        limit: usize,
    },
    /// The user has as many as one may have.
    #[error("the user has {limit} connections, the limit")]
    User {
        /// The limit.
        limit: usize,
    },
    /// The remote address has as many as one may have.
    #[error("the address has {limit} connections, the limit")]
    Address {
        /// The limit.
        limit: usize,
    },
}

impl Full {
    /// Returns the name of the bound and its value.
    pub(super) fn bound(self) -> (&'static str, usize) {
        match self {
            Self::Process { limit } => ("connections", limit),
            Self::User { limit } => ("connections_per_user", limit),
            Self::Address { limit } => ("connections_per_address", limit),
        }
    }
}

/// What a connection is told from outside.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) enum Control {
    /// Tell the client that the server goes away.
    Goaway { reason: String, after_ms: u64 },
    /// Close.
    Close { code: CloseCode, after_ms: Option<u64> },
    /// Say how it is.
    Observe(oneshot::Sender<ObservedConnection>),
}

/// The open websockets of this process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ConnectionsRef(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max: usize,
    max_per_user: usize,
    max_per_address: usize,
    state: Mutex<State>,
    count: watch::Sender<usize>,
    streams: StreamsRef,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    open: HashMap<u64, Open>,
    users: HashMap<UserId, usize>,
    addresses: HashMap<IpAddr, usize>,
}

#[derive(Debug, Default)]
struct Open {
    /// Boxed: one that has not started has none.
    card: Option<Box<Card>>,
    user: Option<UserId>,
    login: Option<String>,
    address: Option<IpAddr>,
}

impl ConnectionsRef {
    /// Returns an empty registry with the bounds of `config`.
    #[must_use]
    pub fn new(config: &ConnectionConfig) -> Self {
        Self(Arc::new(Inner {
            max: config.max_connections,
            max_per_user: config.max_connections_per_user,
            max_per_address: config.max_connections_per_address,
            state: Mutex::default(),
            count: watch::Sender::new(0),
            streams: StreamsRef::new(config),
        }))
    }

    /// Takes a place, before the upgrade. `caller`: who it is for, if that is proven already; `address`: where it is from.
    ///
    /// # Errors
    /// [`Full`]: answer 503, `overloaded`.
    pub fn admit(&self, caller: Option<&Principal>, address: Option<IpAddr>) -> Result<Permit, Full> {
        let admitted = self.place(address.map(network)).and_then(|permit| {
            caller.map_or(Ok(()), |caller| permit.identify(caller))?;
            Ok(permit)
        });
        admitted.inspect_err(|full| crate::metrics::refused(full.bound().0))
    }

    fn place(&self, address: Option<IpAddr>) -> Result<Permit, Full> {
        let mut state = self.0.lock();
        if state.open.len() >= self.0.max {
            return Err(Full::Process { limit: self.0.max });
        }
        if let Some(address) = address {
            let limit = self.0.max_per_address;
            let taken = state.addresses.entry(address).or_insert(0);
            if *taken >= limit {
                return Err(Full::Address { limit });
            }
            *taken += 1;
        }
        let number = state.next;
        state.next += 1;
        let open = Open {
            address,
            ..Open::default()
        };
        state.open.insert(number, open);
        self.0.count.send_replace(state.open.len());
        Ok(Permit {
            inner: self.0.clone(),
            number,
        })
    }

    /// Returns how many are open.
    #[must_use]
    pub fn count(&self) -> usize {
        *self.0.count.borrow()
    }

    /// Returns the event streams: they end when websockets of the same login, user or process would be closed.
    #[must_use]
    pub fn streams(&self) -> &StreamsRef {
        &self.0.streams
    }

    /// Closes the connections that the tokens of a login opened, with 4401, and ends its event streams. Returns how many were
    /// told.
    pub fn close_login(&self, login: &str) -> usize {
        self.tell(|open| open.login.as_deref() == Some(login), revoked) + self.0.streams.end_login(login)
    }

    /// Closes a user's connections with 4401, and ends its event streams. Returns how many were told.
    pub fn close_user(&self, user: &UserId) -> usize {
        self.tell(|open| open.user.as_ref() == Some(user), revoked) + self.0.streams.end_user(user)
    }

    /// Closes connections by their user and login, with 4401, and ends such event streams. Returns how many were told.
    pub fn close_where(&self, which: impl Fn(&UserId, Option<&str>) -> bool) -> usize {
        let told = self.tell(
            |open| {
                open.user
                    .as_ref()
                    .is_some_and(|user| which(user, open.login.as_deref()))
            },
            revoked,
        );
        told + self.0.streams.end_where(which)
    }

    /// Tells every client to come back later: each after `after` and up to as long again, so that they come one by one.
    pub fn goaway_all(&self, reason: &str, after: Duration) -> usize {
        self.tell(
            |_| true,
            || Control::Goaway {
                reason: reason.to_owned(),
                after_ms: jittered(after),
            },
        )
    }

    /// Closes every connection, with a waiting time as in [`Self::goaway_all`], and ends every event stream. Returns how many
    /// were told.
    pub fn close_all(&self, code: CloseCode, after: Duration) -> usize {
        let told = self.tell(
            |_| true,
            || Control::Close {
                code,
                after_ms: Some(jittered(after)),
            },
        );
        told + self.0.streams.end_all()
    }

    /// Looks at the connections after `after` in the order of their ids (oldest first), of one user only if one is named; at most
    /// `most` of them, all at once, each for at most `limit`.
    pub async fn look_at(
        &self,
        user: Option<&UserId>,
        after: Option<&ConnectionId>,
        most: usize,
        limit: Duration,
    ) -> Vec<SeenConnection> {
        let mut found = self.cards(|card, open| {
            user.is_none_or(|user| open.user.as_ref() == Some(user)) && after.is_none_or(|after| card.id > *after)
        });
        found.sort_unstable_by(|a, b| a.0.id.cmp(&b.0.id));
        found.truncate(most);
        let looks = found
            .into_iter()
            .map(|(card, user, network)| card.look(user, network, limit));
        join_all(looks).await
    }

    /// Looks at one connection, at most for `limit`.
    pub async fn look_at_one(&self, id: &ConnectionId, limit: Duration) -> Option<SeenConnection> {
        let (card, user, network) = self.cards(|card, _| card.id == *id).pop()?;
        Some(card.look(user, network, limit).await)
    }

    /// Closes one connection; one whose peer reads nothing is cut soon after. Returns whether there is such a connection.
    #[must_use]
    pub fn close_one(&self, id: &ConnectionId, code: CloseCode, after_ms: Option<u64>) -> bool {
        let found = self.cards(|card, _| card.id == *id).pop();
        found.inspect(|(card, ..)| card.end(code, after_ms)).is_some()
    }

    fn cards(&self, which: impl Fn(&Card, &Open) -> bool) -> Vec<(Card, Option<UserId>, Option<IpAddr>)> {
        let state = self.0.lock();
        let started = state.open.values().filter_map(|open| {
            let card = open.card.as_deref().filter(|card| which(card, open))?;
            Some((card.clone(), open.user.clone(), open.address))
        });
        started.collect()
    }

    /// Waits until none is open, at most for `limit`; whether that came true.
    pub async fn wait_empty(&self, limit: Duration) -> bool {
        let mut count = self.0.count.subscribe();
        tokio::time::timeout(limit, count.wait_for(|count| *count == 0))
            .await
            .is_ok_and(|waited| waited.is_ok())
    }

    fn tell(&self, which: impl Fn(&Open) -> bool, what: impl Fn() -> Control) -> usize {
        let recipients: Vec<_> = {
            let state = self.0.lock();
            // A clone for each message: actix counts per clone, so it is never refused for want of room.
            state
                .open
                .values()
                .filter(|open| which(open))
                .filter_map(|open| open.card.as_ref().map(|card| card.control.clone()))
                .collect()
        };
        recipients
            .into_iter()
            .filter(|control| control.try_send(what()).is_ok())
            .count()
    }
}

fn revoked() -> Control {
    Control::Close {
        code: CloseCode::Unauthenticated,
        after_ms: None,
    }
}

/// `after`, and up to as long again.
fn jittered(after: Duration) -> u64 {
    let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 2);
    after.saturating_add(rand::rng().random_range(0..=after))
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that could panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One place. Dropping it gives the place back.
#[derive(Debug)]
pub struct Permit {
    inner: Arc<Inner>,
    number: u64,
}

impl Permit {
    /// Makes the connection reachable.
    pub(super) fn register(&self, card: Card) {
        if let Some(open) = self.inner.lock().open.get_mut(&self.number) {
            open.card = Some(Box::new(card));
        }
    }

    /// Says whose connection it is and which login opened it; again when the token is replaced.
    pub(super) fn identify(&self, caller: &Principal) -> Result<(), Full> {
        let user = &caller.user;
        let mut state = self.inner.lock();
        let State { open, users, .. } = &mut *state;
        let Some(open) = open.get_mut(&self.number) else {
            return Ok(());
        };
        if open.user.as_ref() != Some(user) {
            let taken = users.get(user).copied().unwrap_or(0);
            if taken >= self.inner.max_per_user {
                return Err(Full::User {
                    limit: self.inner.max_per_user,
                });
            }
            users.insert(user.clone(), taken + 1);
            if let Some(before) = open.user.replace(user.clone()) {
                leave(users, &before);
            }
        }
        open.login.clone_from(&caller.login);
        Ok(())
    }
}

/// Returns what counts as one remote address: of IPv6 the network of one site, because a host may take any address in it.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn leave<K: Eq + Hash>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.inner.lock();
        if let Some(open) = state.open.remove(&self.number) {
            if let Some(user) = open.user {
                leave(&mut state.users, &user);
            }
            if let Some(address) = open.address {
                leave(&mut state.addresses, &address);
            }
        }
        self.inner.count.send_replace(state.open.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry(max: usize, per_user: usize) -> ConnectionsRef {
        let config = ConnectionConfig {
            max_connections: max,
            max_connections_per_user: per_user,
            ..ConnectionConfig::default()
        };
        ConnectionsRef::new(&config)
    }

    fn caller(name: &str, login: Option<&str>) -> Principal {
        Principal {
            user: name.parse().unwrap(),
            name: None,
            superuser: false,
            login: login.map(str::to_owned),
            expires_at_ms: None,
        }
    }

    #[test]
    fn the_bound_of_the_process_holds_and_places_come_back() {
        let all = registry(2, 9);
        let first = all.admit(None, None).unwrap();
        let second = all.admit(None, None).unwrap();
        assert_eq!(all.admit(None, None).unwrap_err(), Full::Process { limit: 2 });
        drop(first);
        let third = all.admit(None, None).unwrap();
        assert_eq!(all.count(), 2);
        drop((second, third));
        assert_eq!(all.count(), 0);
    }

    #[test]
    fn the_bound_of_a_user_holds_at_the_upgrade_and_at_hello() {
        let all = registry(9, 1);
        let early = all.admit(Some(&caller("ann", None)), None).unwrap();
        assert_eq!(
            all.admit(Some(&caller("ann", None)), None).unwrap_err(),
            Full::User { limit: 1 }
        );
        assert_eq!(all.count(), 1, "a refused one keeps no place");
        let late = all.admit(None, None).unwrap();
        assert_eq!(late.identify(&caller("ann", Some("t"))), Err(Full::User { limit: 1 }));
        late.identify(&caller("bob", Some("t"))).unwrap();
        drop(early);
        late.identify(&caller("ann", Some("t"))).unwrap();
        late.identify(&caller("ann", Some("u"))).unwrap();
        assert!(all.admit(Some(&caller("bob", None)), None).is_ok());
    }

    #[test]
    fn the_bound_of_an_address_holds_and_places_come_back() {
        let config = ConnectionConfig {
            max_connections_per_address: 2,
            ..ConnectionConfig::default()
        };
        let all = ConnectionsRef::new(&config);
        let from = |address: &str| all.admit(None, Some(address.parse().unwrap()));
        let first = from("192.0.2.1").unwrap();
        let _mapped = from("::ffff:192.0.2.1").unwrap();
        assert_eq!(from("192.0.2.1").unwrap_err(), Full::Address { limit: 2 });
        let _other = from("192.0.2.2").unwrap();
        let _site = [from("2001:db8:1:2::1").unwrap(), from("2001:db8:1:2:ffff::9").unwrap()];
        assert_eq!(from("2001:db8:1:2::3").unwrap_err(), Full::Address { limit: 2 });
        let _next = from("2001:db8:1:3::1").unwrap();
        drop(first);
        let _again = from("192.0.2.1").unwrap();
        assert_eq!(all.count(), 6, "a refused one keeps no place");
    }

    #[actix::test]
    async fn waiting_ends_with_the_last_connection_or_the_limit() {
        let all = registry(9, 9);
        let permit = all.admit(None, None).unwrap();
        assert!(!all.wait_empty(Duration::from_millis(5)).await);
        let waiting = all.clone();
        let (emptied, ()) = tokio::join!(waiting.wait_empty(Duration::from_secs(9)), async { drop(permit) });
        assert!(emptied);
    }

    #[test]
    fn jitter_stays_between_once_and_twice() {
        for _ in 0..100 {
            assert!((1000..=2000).contains(&jittered(Duration::from_secs(1))));
        }
    }
}
