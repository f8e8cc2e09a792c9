//! Users, their passwords and their tokens. The only code that turns a token into a [`Principal`].
//!
//! Kept as documents: `user` (by id), `username` and `email` (lower case, pointing at the id: what makes them unique),
//! `refresh` (one per login, the token that may be used next), `revoked`, `removed`. With `JWT_JWKS_URL` tokens come from an
//! outside identity provider and only from there: this server makes none.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use kronos_actors::{
    clock::Clock,
    composio::ComposioRef,
    connection::registry::ConnectionsRef,
    directory::DirectoryRef,
    metrics as names,
    principal::{AuthError, Authenticator, Principal, REMOVED},
    store::{StoreError, service::StoreRef},
};
use kronos_protocol::{error::ErrorCode, ids::UserId};
use schemars::JsonSchema;
use serde::Serialize;

use self::{
    ended::Ended,
    outside::Outside,
    password::Passwords,
    records::Records,
    revoked::Revoked,
    ticket::Tickets,
    token::{Keys, Kind},
    user::{User, owner_of},
};
use super::error::ApiError;
use crate::config::{AuthConfig, AuthMode};

mod ended;
mod family;
mod first;
pub(crate) mod inputs;
mod login;
pub(crate) mod offline;
mod outside;
mod password;
mod records;
mod removal;
mod revoked;
mod ticket;
mod token;
mod user;
mod users;

pub(crate) use self::{
    family::TokenPair,
    user::{Me, UserInDb, UserProfile},
};

/// Who a guest is that does not say who it is.
const GUEST: &str = "dev";

/// The accounts of this server. Cheap to clone.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    config: AuthConfig,
    clock: Clock,
    store: StoreRef,
    records: Records,
    keys: Keys,
    /// The identity provider, when tokens come from one.
    outside: Option<Outside>,
    passwords: Passwords,
    revoked: Revoked,
    ended: Ended,
    tickets: Tickets,
    connections: ConnectionsRef,
    directory: DirectoryRef,
    composio: ComposioRef,
}

/// What ends with a login or with a user.
pub struct Reach {
    /// The open websockets.
    pub connections: ConnectionsRef,
    /// The sessions.
    pub directory: DirectoryRef,
    /// The accounts at other services.
    pub composio: ComposioRef,
}

/// A ticket for a browser's websocket.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Ticket {
    /// Used once, as `?ticket=` of the websocket's address.
    ticket: String,
    /// Its life in seconds.
    expires_in: u64,
}

/// Why the accounts cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The store did not answer.
    #[error("the accounts cannot be read: {0}")]
    Store(#[from] StoreError),
    /// A password cannot be hashed on this machine.
    #[error("passwords cannot be hashed: {0}")]
    Hash(argon2::password_hash::Error),
    /// No client for the identity provider can be made on this machine.
    #[error("the identity provider of JWT_JWKS_URL cannot be asked: {0}")]
    Client(reqwest::Error),
}

impl Accounts {
    /// Reads what is revoked, and makes the users that the configuration asks for when they do not exist.
    ///
    /// # Errors
    /// [`AccountsError`].
    pub async fn start(config: AuthConfig, clock: Clock, store: StoreRef, reach: Reach) -> Result<Self, AccountsError> {
        let revoked = Revoked::load(&store).await?;
        let passwords =
            Passwords::new(config.password_concurrency, config.password_waiting).map_err(AccountsError::Hash)?;
        let keys = Keys::new(config.secret_key.as_ref());
        let outside = Outside::new(&config.outside, &clock).map_err(AccountsError::Client)?;
        let tickets = Tickets::new(clock.clone(), config.ticket_expire, config.max_tickets);
        let accounts = Self(Arc::new(Inner {
            config,
            clock,
            records: Records(store.clone()),
            store,
            keys,
            outside,
            passwords,
            revoked,
            ended: Ended::default(),
            tickets,
            connections: reach.connections,
            directory: reach.directory,
            composio: reach.composio,
        }));
        match &accounts.0.outside {
            Some(outside) => outside.warm_up(),
            None => {
                if accounts.takes_guests() {
                    accounts.ensure_demo().await;
                }
                accounts.ensure_superuser(&accounts.0.config.first).await;
            }
        }
        Ok(accounts)
    }

    /// Whether a caller without a token is served.
    #[must_use]
    pub fn takes_guests(&self) -> bool {
        self.0.config.mode == AuthMode::Development
    }

    /// Returns a guest with the given id, `dev` without one, where guests are served.
    ///
    /// # Errors
    /// [`AuthError::Missing`] where they are not, [`AuthError::Invalid`] for an id that is none.
    pub fn guest(&self, user: Option<&str>) -> Result<Principal, AuthError> {
        if !self.takes_guests() {
            return Err(AuthError::Missing);
        }
        let user = UserId::try_from(user.unwrap_or(GUEST)).map_err(|_rule| AuthError::Invalid)?;
        Ok(Principal {
            user,
            name: None,
            superuser: false,
            login: None,
            expires_at_ms: None,
        })
    }

    /// Uses a ticket up.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] when it is unknown, used or too old; [`AuthError::Revoked`] when its login has ended.
    pub async fn redeem(&self, ticket: &str) -> Result<Principal, AuthError> {
        let redeemed = self.use_up(ticket).await;
        redeemed.inspect_err(names::auth_failed)
    }

    async fn use_up(&self, ticket: &str) -> Result<Principal, AuthError> {
        let principal = self.0.tickets.redeem(ticket).ok_or(AuthError::Invalid)?;
        match &principal.login {
            Some(login) => {
                let user = self.still(&principal.user, &[login]).await?;
                let superuser = user.is_some_and(|user| user.is_superuser);
                Ok(Principal { superuser, ..principal })
            }
            None => Ok(principal),
        }
    }

    /// Makes a ticket for a caller.
    pub(super) fn ticket(&self, principal: Principal) -> Result<Ticket, ApiError> {
        let full = || {
            names::refused("max_tickets");
            ApiError {
                after_ms: Some(1000),
                ..ApiError::new(ErrorCode::Overloaded, "Too many tickets are waiting")
            }
        };
        let ticket = self.0.tickets.issue(principal).ok_or_else(full)?;
        let expires_in = self.0.config.ticket_expire.as_secs();
        Ok(Ticket { ticket, expires_in })
    }

    async fn check(self, token: String) -> Result<Principal, AuthError> {
        let now = self.0.clock.now_ms();
        if let Some(outside) = &self.0.outside {
            let known = outside.check(&token).await?;
            let user = self.still(&known.user, &[&known.login]).await?;
            return Ok(Principal {
                user: known.user,
                superuser: user.as_ref().is_some_and(|user| user.is_superuser),
                name: user.map(|user| user.username).or(known.name),
                login: Some(known.login),
                expires_at_ms: Some(known.expires_at_ms),
            });
        }
        let claims = self.0.keys.check(&token, Kind::Access, now)?;
        let id = UserId::try_from(claims.sub).map_err(|_rule| AuthError::Invalid)?;
        let user = self.still(&id, &[&claims.fam, &claims.jti]).await?;
        let user = user.ok_or(AuthError::Revoked)?;
        Ok(Principal {
            user: id,
            name: Some(user.username),
            superuser: user.is_superuser,
            login: Some(claims.fam),
            expires_at_ms: Some(claims.exp.saturating_mul(1000)),
        })
    }

    /// Closes what a user has open, also what it opened as somebody else; all but that of one login.
    fn close_all_of(&self, user: &UserId, keep: Option<&str>) {
        self.0.connections.close_where(|whose, login| {
            let owner = login.and_then(owner_of);
            (whose == user || owner == Some(user.as_str())) && (keep.is_none() || login != keep)
        });
    }

    /// Returns the user of a login that counts still. `ids`: of the login, and of its token. There need not be a user where
    /// an outside provider vouches for it.
    async fn still(&self, id: &UserId, ids: &[&str]) -> Result<Option<User>, AuthError> {
        let unavailable = |error: StoreError| {
            tracing::error!(%error, "token cannot be checked");
            AuthError::Unavailable
        };
        let found = self.0.records.get(id.as_str()).await.map_err(unavailable)?;
        let user = found.map(|record| record.user);
        if self.0.outside.is_some() {
            let removed = self.0.store.document(REMOVED, id.as_str()).await.map_err(unavailable)?;
            if removed.is_some() {
                return Err(AuthError::Revoked);
            }
        } else if user.is_none() {
            return Err(AuthError::Revoked);
        }
        let login = ids.first().copied().unwrap_or_default();
        // After the wait for the store: a login that ended meanwhile may have closed its websockets already.
        let ended = ids.iter().any(|id| self.0.revoked.contains(id)) || !self.0.ended.admits(id.as_str(), login);
        if ended || user.as_ref().is_some_and(|user| !user.admits(login)) {
            return Err(AuthError::Revoked);
        }
        Ok(user)
    }
}

impl Authenticator for Accounts {
    fn authenticate(&self, token: Option<String>) -> BoxFuture<'static, Result<Principal, AuthError>> {
        match token {
            Some(token) => {
                let checked = self.clone().check(token);
                Box::pin(async move { checked.await.inspect_err(names::auth_failed) })
            }
            None => Box::pin(std::future::ready(self.guest(None).inspect_err(names::auth_failed))),
        }
    }

    fn holds(&self, principal: &Principal) -> bool {
        let Some(login) = &principal.login else { return true };
        let expired = principal.expires_at_ms.is_some_and(|end| end <= self.0.clock.now_ms());
        let owner = owner_of(login).unwrap_or(principal.user.as_str());
        !expired && !self.0.revoked.contains(login) && self.0.ended.admits(owner, login)
    }
}
