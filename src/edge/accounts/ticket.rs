//! Tickets for browsers, whose websockets cannot send a header: single use, short lived, in memory, bounded.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use kronos_actors::{
    clock::{Clock, Millis},
    metrics as names,
    principal::Principal,
};
use kronos_protocol::ids::UserId;

use super::token;

/// The tickets that wait for their use.
pub(super) struct Tickets {
    clock: Clock,
    life: Duration,
    bound: usize,
    waiting: Mutex<HashMap<String, (Millis, Principal)>>,
}

impl Tickets {
    pub(super) fn new(clock: Clock, life: Duration, bound: usize) -> Self {
        Self {
            clock,
            life,
            bound,
            waiting: Mutex::default(),
        }
    }

    /// Makes a ticket for a caller; `None` when too many wait.
    pub(super) fn issue(&self, principal: Principal) -> Option<String> {
        let now = self.clock.now_ms();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= self.bound {
            waiting.retain(|_, (expires, _)| *expires > now);
        }
        if waiting.len() >= self.bound {
            return None;
        }
        let ticket = token::unguessable();
        let life = i64::try_from(self.life.as_millis()).unwrap_or(i64::MAX);
        waiting.insert(ticket.clone(), (now.saturating_add(life), principal));
        gauge(waiting.len());
        Some(ticket)
    }

    /// Uses a ticket up.
    pub(super) fn redeem(&self, ticket: &str) -> Option<Principal> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (expires, principal) = waiting.remove(ticket)?;
        gauge(waiting.len());
        (expires > self.clock.now_ms()).then_some(principal)
    }

    /// Drops a user's.
    pub(super) fn end(&self, user: &UserId) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (_, principal)| principal.user != *user);
        gauge(waiting.len());
    }

    /// Drops what has expired.
    pub(super) fn sweep(&self) {
        let now = self.clock.now_ms();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (expires, _)| *expires > now);
        gauge(waiting.len());
    }
}

fn gauge(count: usize) {
    metrics::gauge!(names::TICKETS).set(count as f64);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal() -> Principal {
        let user = UserId::try_from("u").unwrap();
        Principal {
            user,
            name: None,
            superuser: false,
            login: None,
            expires_at_ms: None,
        }
    }

    #[test]
    fn a_ticket_is_used_once_within_its_life() {
        let clock = Clock::default();
        let tickets = Tickets::new(clock.clone(), Duration::from_secs(30), 2);
        let ticket = tickets.issue(principal()).unwrap();
        assert_eq!(tickets.redeem(&ticket), Some(principal()));
        assert_eq!(tickets.redeem(&ticket), None);
        let late = tickets.issue(principal()).unwrap();
        clock.advance(Duration::from_secs(31));
        assert_eq!(tickets.redeem(&late), None);
    }

    #[test]
    fn tickets_are_bounded_and_expired_ones_make_room() {
        let clock = Clock::default();
        let tickets = Tickets::new(clock.clone(), Duration::from_secs(30), 2);
        assert!(tickets.issue(principal()).is_some() && tickets.issue(principal()).is_some());
        assert!(tickets.issue(principal()).is_none());
        clock.advance(Duration::from_secs(31));
        assert!(tickets.issue(principal()).is_some());
    }
}
