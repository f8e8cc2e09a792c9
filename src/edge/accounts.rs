//! Users, their passwords and their tokens. The only code that turns a token into a [`Principal`].
//!
//! Kept as documents: `user` (by id), `username` and `email` (lower case, pointing at the id: what makes them unique),
//! `refresh` (one per login, the token that may be used next), `revoked`. Nothing about sessions belongs here.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use kronos_actors::{
    clock::{Clock, Millis},
    ids, metrics as names,
    principal::{AuthError, Authenticator, Principal},
    store::{DocumentWrite, Expect, Refusal, Request, StoreError, service::StoreRef},
};
use kronos_protocol::{error::ErrorCode, ids::UserId};
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use self::{
    password::Passwords,
    revoked::Revoked,
    ticket::Tickets,
    token::{Claims, Keys, Kind},
    user::{Login, Signup, User},
};
use super::error::{ApiError, StoreFailure};
use crate::config::{AuthConfig, AuthMode};

mod family;
mod password;
mod revoked;
mod ticket;
mod token;
mod user;

/// Who a guest is that does not say who it is.
const GUEST: &str = "dev";

/// The development user, and its password.
const DEMO: &str = "demo";

/// Called with the id of a login whose tokens are refused from now on: closes their websockets.
pub type OnRevoked = Box<dyn Fn(&str) + Send + Sync>;

/// The accounts of this server. Cheap to clone.
#[derive(Clone)]
pub struct Accounts(Arc<Inner>);

struct Inner {
    config: AuthConfig,
    clock: Clock,
    store: StoreRef,
    keys: Keys,
    passwords: Passwords,
    revoked: Revoked,
    tickets: Tickets,
    on_revoked: OnRevoked,
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
}

impl Accounts {
    /// Reads what is revoked, and in development makes the user `demo` when it does not exist.
    ///
    /// # Errors
    /// [`AccountsError`].
    pub async fn start(
        config: AuthConfig,
        clock: Clock,
        store: StoreRef,
        on_revoked: OnRevoked,
    ) -> Result<Self, AccountsError> {
        let revoked = Revoked::load(&store).await?;
        let passwords =
            Passwords::new(config.password_concurrency, config.password_waiting).map_err(AccountsError::Hash)?;
        let keys = Keys::new(config.secret_key.as_ref());
        let tickets = Tickets::new(clock.clone(), config.ticket_expire, config.max_tickets);
        let accounts = Self(Arc::new(Inner {
            config,
            clock,
            store,
            keys,
            passwords,
            revoked,
            tickets,
            on_revoked,
        }));
        if accounts.takes_guests() {
            accounts.ensure_demo().await;
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

    /// Uses a ticket up; `None` when it is unknown, used or too old.
    #[must_use]
    pub fn redeem(&self, ticket: &str) -> Option<Principal> {
        let principal = self.0.tickets.redeem(ticket)?;
        let revoked = principal.login.as_deref().is_some_and(|id| self.0.revoked.contains(id));
        (!revoked).then_some(principal)
    }

    /// Makes a ticket for a caller.
    pub(super) fn ticket(&self, principal: Principal) -> Result<Value, ApiError> {
        let full = || ApiError {
            after_ms: Some(1000),
            ..ApiError::new(ErrorCode::Overloaded, "Too many tickets are waiting")
        };
        let ticket = self.0.tickets.issue(principal).ok_or_else(full)?;
        Ok(json!({"ticket": ticket, "expires_in": self.0.config.ticket_expire.as_secs()}))
    }

    /// Makes a user; the answer is its profile.
    pub(super) async fn signup(&self, body: Map<String, Value>) -> Result<Value, ApiError> {
        let signup = Signup::read(body)?;
        for (family, name) in [("username", &signup.username), ("email", &signup.email)] {
            if self.lookup(family, name).await?.is_some() {
                return Err(taken(family));
            }
        }
        let password = self.0.passwords.hash(signup.password).await?;
        let now = self.0.clock.now_ms();
        let user = User {
            id: ids::session().as_str().to_owned(),
            username: signup.username,
            email: signup.email,
            password,
            full_name: signup.full_name,
            bio: signup.bio,
            profile_image_url: None,
            preferences: signup.preferences,
            is_active: true,
            is_superuser: false,
            last_login_ms: None,
            created_at_ms: now,
            updated_at_ms: now,
        };
        self.insert(&user).await?;
        Ok(user.profile())
    }

    async fn insert(&self, user: &User) -> Result<(), ApiError> {
        let id = || Bytes::from(user.id.clone());
        let documents = vec![
            write("user", user.id.clone(), Some(encode(user)?), Expect::Absent),
            write("username", user.username.to_lowercase(), Some(id()), Expect::Absent),
            write("email", user.email.to_lowercase(), Some(id()), Expect::Absent),
        ];
        match self
            .0
            .store
            .commit(Request {
                documents,
                ..Request::default()
            })
            .await
        {
            Ok(()) => Ok(()),
            Err(StoreError::Refused(Refusal::Condition { family, .. })) => Err(taken(family)),
            Err(cause) => Err(StoreFailure {
                operation: "signup",
                cause,
            }
            .into()),
        }
    }

    /// Checks a password and starts a family of tokens.
    pub(super) async fn login(&self, body: Map<String, Value>) -> Result<Value, ApiError> {
        let login = Login::read(body)?;
        let found = self.find(&login.name).await?;
        let stored = found.as_ref().map(|(_, user)| user.password.clone());
        let good = self.0.passwords.verify(login.password, stored).await?;
        let Some((bytes, user)) = found.filter(|(_, user)| good && user.is_active) else {
            metrics::counter!(names::LOGINS, "result" => "refused").increment(1);
            return Err(ApiError::new(
                ErrorCode::Unauthenticated,
                "Incorrect username or password",
            ));
        };
        metrics::counter!(names::LOGINS, "result" => "ok").increment(1);
        let now = self.0.clock.now_ms();
        let seen = User {
            last_login_ms: Some(now),
            ..user
        };
        let documents = vec![write(
            "user",
            seen.id.clone(),
            Some(encode(&seen)?),
            Expect::Value(bytes),
        )];
        // Somebody else changed the user meanwhile: theirs counts, and the time of a login is not worth a retry.
        if let Err(error) = self
            .0
            .store
            .commit(Request {
                documents,
                ..Request::default()
            })
            .await
        {
            tracing::debug!(%error, "time of login not kept");
        }
        self.start_family(&seen.id).await
    }

    async fn find(&self, name: &str) -> Result<Option<(Bytes, User)>, ApiError> {
        let family = if name.contains('@') { "email" } else { "username" };
        match self.lookup(family, name).await? {
            Some(id) => self.user(&id).await.map_err(|cause| {
                StoreFailure {
                    operation: "login",
                    cause,
                }
                .into()
            }),
            None => Ok(None),
        }
    }

    async fn lookup(&self, family: &'static str, name: &str) -> Result<Option<String>, ApiError> {
        let name = name.to_lowercase();
        // A name longer than any that can exist is nobody's, and no key.
        if name.len() > 254 {
            return Ok(None);
        }
        let found = self.0.store.document(family, &name).await;
        let bytes = found.map_err(|cause| StoreFailure {
            operation: "find_user",
            cause,
        })?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    async fn user(&self, id: &str) -> Result<Option<(Bytes, User)>, StoreError> {
        let Some(bytes) = self.0.store.document("user", id).await? else {
            return Ok(None);
        };
        let damaged = |what: serde_json::Error| StoreError::Corrupt {
            at: "user".to_owned(),
            what: what.to_string(),
        };
        let user = serde_json::from_slice(&bytes).map_err(damaged)?;
        Ok(Some((bytes, user)))
    }

    /// Returns the caller's profile with `user_id` and `roles`.
    pub(super) async fn me(&self, principal: &Principal) -> Result<Value, ApiError> {
        let id = principal.user.as_str();
        let found = self
            .user(id)
            .await
            .map_err(|cause| StoreFailure { operation: "me", cause })?;
        let mut profile = match found {
            Some((_, user)) => user.profile(),
            None => json!({"id": id, "username": id, "email": null, "full_name": null, "bio": null,
                "profile_image_url": null, "preferences": {}, "is_active": true, "last_login": null,
                "created_at": null, "updated_at": null}),
        };
        let roles: &[&str] = match (principal.login.is_some(), principal.superuser) {
            (false, _) => &["guest"],
            (true, false) => &["user"],
            (true, true) => &["user", "superuser"],
        };
        profile["user_id"] = json!(id);
        profile["roles"] = json!(roles);
        Ok(profile)
    }

    async fn check(self, token: String) -> Result<Principal, AuthError> {
        let claims = self.0.keys.check(&token, Kind::Access, self.0.clock.now_ms())?;
        let found = self.user(&claims.sub).await.map_err(|error| {
            tracing::error!(%error, "token cannot be checked");
            AuthError::Unavailable
        })?;
        // After the wait for the store: a login that ended meanwhile may have closed its websockets already.
        if self.0.revoked.contains(&claims.jti) || self.0.revoked.contains(&claims.fam) {
            return Err(AuthError::Revoked);
        }
        let (_, user) = found.filter(|(_, user)| user.is_active).ok_or(AuthError::Revoked)?;
        let id = UserId::try_from(claims.sub).map_err(|_rule| AuthError::Invalid)?;
        Ok(Principal {
            user: id,
            name: Some(user.username),
            superuser: user.is_superuser,
            login: Some(claims.fam),
            expires_at_ms: Some(claims.exp.saturating_mul(1000)),
        })
    }

    async fn ensure_demo(&self) {
        if matches!(self.lookup("username", DEMO).await, Ok(Some(_))) {
            return;
        }
        let Ok(password) = self.0.passwords.hash(SecretString::from(DEMO)).await else {
            return;
        };
        let now = self.0.clock.now_ms();
        let user = User {
            id: ids::session().as_str().to_owned(),
            username: DEMO.to_owned(),
            email: "demo@example.com".to_owned(),
            password,
            full_name: Some("Demo".to_owned()),
            bio: None,
            profile_image_url: None,
            preferences: Map::new(),
            is_active: true,
            is_superuser: false,
            last_login_ms: None,
            created_at_ms: now,
            updated_at_ms: now,
        };
        if let Err(error) = self.insert(&user).await {
            tracing::warn!(%error, "user demo not made");
        }
    }
}

impl Authenticator for Accounts {
    fn authenticate(&self, token: Option<String>) -> BoxFuture<'static, Result<Principal, AuthError>> {
        match token {
            Some(token) => Box::pin(self.clone().check(token)),
            None => Box::pin(std::future::ready(self.guest(None))),
        }
    }
}

fn write(family: &'static str, key: String, value: Option<Bytes>, expect: Expect) -> DocumentWrite {
    DocumentWrite {
        family,
        key,
        value,
        expect,
    }
}

fn encode(value: &impl serde::Serialize) -> Result<Bytes, ApiError> {
    serde_json::to_vec(value).map(Bytes::from).map_err(|error| {
        tracing::error!(%error, "document cannot be written");
        ApiError::internal()
    })
}

fn taken(family: &str) -> ApiError {
    let field = if family == "email" { "email" } else { "username" };
    ApiError::new(ErrorCode::Conflict, format!("This {field} is taken"))
        .with_details(json!({"resource": "User", "field": field}))
}

/// Seconds of a life given in milliseconds.
fn seconds(life_ms: Millis) -> i64 {
    life_ms / 1000
}
