//! Whose logins were ended a moment ago, in memory: what was proven just before does not open anything just after.
//!
//! The records in the store decide; this covers only the time between a check and the place that its caller takes.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use kronos_actors::clock::Millis;
use kronos_protocol::ids::UserId;

use super::user::{Standing, User};

/// How long an end is remembered: much longer than any check takes.
const KEPT_MS: Millis = 10 * 60_000;

/// The set.
#[derive(Debug, Default)]
pub(super) struct Ended(RwLock<HashMap<UserId, Entry>>);

#[derive(Debug)]
struct Entry {
    /// What the user was like afterwards; `None`: deleted.
    standing: Option<Standing>,
    at_ms: Millis,
}

impl Ended {
    /// Notes what a user is like now. Before its connections are closed.
    pub(super) fn note(&self, id: &UserId, user: &User, now: Millis) {
        self.insert(id, Some(user.standing()), now);
    }

    /// Notes that a user was deleted. Before its connections are closed.
    pub(super) fn deleted(&self, id: &UserId, now: Millis) {
        self.insert(id, None, now);
    }

    fn insert(&self, id: &UserId, standing: Option<Standing>, at_ms: Millis) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // Two changes may arrive in the other order: the later era counts.
        let era = |standing: &Option<Standing>| standing.as_ref().map_or(u64::MAX, |standing| standing.era);
        if all.get(id).is_none_or(|known| era(&known.standing) <= era(&standing)) {
            all.insert(id.clone(), Entry { standing, at_ms });
        }
    }

    /// Whether a login of a user counts still, as far as is known here.
    pub(super) fn admits(&self, id: &str, login: &str) -> bool {
        let all = self.0.read().unwrap_or_else(PoisonError::into_inner);
        all.get(id)
            .is_none_or(|entry| entry.standing.as_ref().is_some_and(|standing| standing.admits(login)))
    }

    /// Forgets what is long past.
    pub(super) fn sweep(&self, now: Millis) {
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, entry| now.saturating_sub(entry.at_ms) < KEPT_MS);
    }
}
