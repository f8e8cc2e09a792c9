//! Signup, login, and who the caller is.

use kronos_actors::{
    metrics as names,
    principal::Principal,
    store::{Expect, Refusal, StoreError},
};
use kronos_protocol::error::ErrorCode;
use serde_json::json;

use super::{
    Accounts,
    family::TokenPair,
    inputs::{Login, Signup},
    records::{Record, USER, encode, failed, write},
    user::{Me, OUTSIDE, User, UserProfile},
};
use crate::edge::error::ApiError;

/// How often a login is tried again because somebody else changed the user meanwhile.
const TRIES: u32 = 16;

impl Accounts {
    /// Makes a user; the answer is its profile.
    pub(in crate::edge) async fn signup(&self, signup: Signup) -> Result<UserProfile, ApiError> {
        self.has_passwords()?;
        Ok(self.insert(signup.into()).await?.profile())
    }

    /// Says that there are no passwords where tokens come from elsewhere.
    pub(super) fn has_passwords(&self) -> Result<(), ApiError> {
        if self.0.outside.is_none() {
            return Ok(());
        }
        let text = "Tokens come from the identity provider of JWT_JWKS_URL, not from here";
        Err(ApiError::new(ErrorCode::NotConfigured, text).with_details(json!({"config_key": "JWT_JWKS_URL"})))
    }

    /// Checks a password and starts a login.
    ///
    /// The same work whether the user or the password is wrong or the user is inactive: two reads and one hash.
    pub(in crate::edge) async fn login(&self, login: Login) -> Result<TokenPair, ApiError> {
        self.has_passwords()?;
        let found = self.0.records.find(&login.name).await;
        let found = found.map_err(|cause| failed("login", cause))?;
        let stored = found.as_ref().map(|record| record.user.password.clone());
        let good = self.0.passwords.verify(login.password, stored).await?;
        let pair = match found.filter(|record| good && record.user.is_active) {
            Some(record) => self.begin(record).await?,
            None => None,
        };
        let result = if pair.is_some() { "ok" } else { "refused" };
        metrics::counter!(names::LOGINS, "result" => result).increment(1);
        let wrong = || ApiError::new(ErrorCode::Unauthenticated, "Incorrect username or password");
        pair.ok_or_else(wrong)
    }

    /// Starts a login of a user whose password was right, unless it has another one, or none, meanwhile.
    async fn begin(&self, mut record: Record) -> Result<Option<TokenPair>, ApiError> {
        let checked = record.user.password.clone();
        for _ in 0..TRIES {
            let Record { bytes, user } = record;
            let (family, pair) = self.first_pair(&user)?;
            let seen = User {
                last_login_ms: Some(self.0.clock.now_ms()),
                ..user
            };
            // One write: a password that changes at the same time is either the one that was checked, or ends this login.
            let login = write(USER, seen.id.clone(), Some(encode(&seen)?), Expect::Value(bytes));
            match self.0.records.commit(vec![login, family]).await {
                Ok(()) => return Ok(Some(pair)),
                Err(StoreError::Refused(Refusal::Condition { .. })) => {}
                Err(cause) => return Err(failed("login", cause)),
            }
            match self
                .0
                .records
                .get(&seen.id)
                .await
                .map_err(|cause| failed("login", cause))?
            {
                Some(again) if again.user.is_active && again.user.password == checked => record = again,
                _ => return Ok(None),
            }
        }
        Err(ApiError {
            after_ms: Some(1000),
            ..ApiError::new(ErrorCode::Overloaded, "The user is changed by too many at once")
        })
    }

    /// Returns who the caller is.
    pub(in crate::edge) async fn me(&self, principal: &Principal) -> Result<Me, ApiError> {
        let id = principal.user.as_str();
        let found = self.0.records.get(id).await.map_err(|cause| failed("me", cause))?;
        let outside = principal
            .login
            .as_deref()
            .is_some_and(|login| login.starts_with(OUTSIDE));
        Ok(match (&principal.login, found) {
            (Some(_), Some(record)) => Me::known(&record.user, roles(principal)),
            (Some(_), None) if !outside => return Err(kronos_actors::principal::AuthError::Revoked.into()),
            // A guest is nobody, whatever it calls itself.
            (Some(_) | None, _) => Me::stranger(id, principal.name.as_deref(), roles(principal)),
        })
    }
}

fn roles(principal: &Principal) -> Vec<&'static str> {
    match (principal.login.is_some(), principal.superuser) {
        (false, _) => vec!["guest"],
        (true, false) => vec!["user"],
        (true, true) => vec!["user", "superuser"],
    }
}
