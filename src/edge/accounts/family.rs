//! Families of tokens: what one login gets, how a refresh token is rotated, and how all of it ends.

use bytes::Bytes;
use kronos_actors::{
    clock::Millis,
    metrics as names,
    principal::{AuthError, Principal},
    store::{DocumentWrite, Expect, Refusal, StoreError},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Accounts,
    inputs::{Logout, Refresh},
    records::{encode, failed, write},
    token::{self, Claims, Kind},
    user::{User, login_id},
};
use crate::edge::error::ApiError;

/// The family of documents: key = user, a space, id of a login (older ones: the id alone), value = [`Family`].
pub(super) const FAMILY: &str = "refresh";

/// Documents looked at in one sweep.
pub(super) const PAGE: usize = 500;

/// What is stored about a login.
#[derive(Debug, Serialize, Deserialize)]
struct Family {
    /// Whose it is.
    user: String,
    /// The refresh token that may be used next; any other of this family was used before.
    refresh: String,
    /// When the refresh token ends.
    expires_at_ms: Millis,
}

/// A login as it is stored now.
struct Stored {
    key: String,
    bytes: Bytes,
    family: Family,
}

/// The key of what belongs to a user: no id has a space, so no user's keys begin with another's.
pub(super) fn key(user: &str, id: &str) -> String {
    format!("{user} {id}")
}

/// What a login or a refresh is answered with.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TokenPair {
    /// Goes with every request.
    access_token: String,
    /// Always `bearer`.
    token_type: &'static str,
    /// Life of the access token in seconds.
    expires_in: i64,
    /// Gets a new pair, once.
    refresh_token: String,
    /// Life of the refresh token in seconds.
    refresh_expires_in: i64,
}

impl Accounts {
    /// Makes the first pair of a new login, and the write that begins it.
    pub(super) fn first_pair(&self, user: &User) -> Result<(DocumentWrite, TokenPair), ApiError> {
        let id = login_id(&token::unguessable(), &user.id, user.era);
        let (family, pair) = self.pair(&user.id, &id)?;
        Ok((
            write(FAMILY, key(&user.id, &id), Some(encode(&family)?), Expect::Absent),
            pair,
        ))
    }

    /// Signs a new pair for a login.
    fn pair(&self, user: &str, login: &str) -> Result<(Family, TokenPair), ApiError> {
        let config = &self.0.config;
        let now = self.0.clock.now_ms();
        let sign = |typ, life_ms: Millis| {
            let jti = token::unguessable();
            let claims = Claims {
                sub: user.to_owned(),
                jti: jti.clone(),
                iat: now / 1000,
                exp: (now + life_ms) / 1000,
                typ,
                fam: login.to_owned(),
            };
            let token = self.0.keys.sign(&claims).map_err(|error| {
                tracing::error!(%error, "token cannot be signed");
                ApiError::internal()
            })?;
            Ok::<_, ApiError>((jti, token))
        };
        let (_, access_token) = sign(Kind::Access, config.access_token_ms)?;
        let (refresh, refresh_token) = sign(Kind::Refresh, config.refresh_token_ms)?;
        let pair = TokenPair {
            access_token,
            token_type: "bearer",
            expires_in: config.access_token_ms / 1000,
            refresh_token,
            refresh_expires_in: config.refresh_token_ms / 1000,
        };
        let family = Family {
            user: user.to_owned(),
            refresh,
            expires_at_ms: now + config.refresh_token_ms,
        };
        Ok((family, pair))
    }

    /// Uses a refresh token up for a new pair. One that was used before ends its whole family: somebody has a copy.
    pub(in crate::edge) async fn refresh(&self, refresh: Refresh) -> Result<TokenPair, ApiError> {
        self.has_passwords()?;
        let result = self.rotate(&refresh.token).await;
        let label = match &result {
            Ok(_) => "ok",
            Err(Refused::Reused) => "reused",
            Err(Refused::Api(_)) => "refused",
        };
        metrics::counter!(names::REFRESHES, "result" => label).increment(1);
        result.map_err(|refused| match refused {
            Refused::Reused => AuthError::Revoked.into(),
            Refused::Api(error) => error,
        })
    }

    async fn rotate(&self, token: &str) -> Result<TokenPair, Refused> {
        let checked = self.0.keys.check(token, Kind::Refresh, self.0.clock.now_ms());
        let claims = checked.map_err(ApiError::from)?;
        let (user, login) = (claims.sub.as_str(), claims.fam.as_str());
        let Some(stored) = self.family(user, login).await? else {
            return Err(ApiError::from(AuthError::Revoked).into());
        };
        if stored.family.refresh != claims.jti {
            tracing::warn!(user.id = %user, "refresh token used twice, its family is revoked");
            self.end_family(user, login).await?;
            return Err(Refused::Reused);
        }
        let found = self
            .0
            .records
            .get(user)
            .await
            .map_err(|cause| failed("refresh", cause))?;
        if found.is_none_or(|record| !record.user.admits(login)) {
            self.end_family(user, login).await?;
            return Err(ApiError::from(AuthError::Revoked).into());
        }
        let (next, pair) = self.pair(user, login)?;
        let document = write(FAMILY, stored.key, Some(encode(&next)?), Expect::Value(stored.bytes));
        match self.0.records.commit(vec![document]).await {
            Ok(()) => Ok(pair),
            // Two came at once with the same token: that is twice, too.
            Err(StoreError::Refused(Refusal::Condition { .. })) => {
                self.end_family(user, login).await?;
                Err(Refused::Reused)
            }
            Err(cause) => Err(failed("refresh", cause).into()),
        }
    }

    /// Ends the caller's login: its access token, its family, its websockets.
    pub(in crate::edge) async fn logout(
        &self,
        principal: &Principal,
        token: &str,
        logout: Logout,
    ) -> Result<(), ApiError> {
        let (user, now) = (principal.user.as_str(), self.0.clock.now_ms());
        if self.0.outside.is_some() {
            return self.end_outside(principal).await;
        }
        let claims = self.0.keys.check(token, Kind::Access, now)?;
        // A refresh token of another login of the same user ends that one as well.
        if let Some(other) = logout
            .refresh_token
            .and_then(|token| self.0.keys.check(&token, Kind::Refresh, now).ok())
            && other.sub == user
            && other.fam != claims.fam
        {
            self.end_family(user, &other.fam).await?;
        }
        let document = self.0.revoked.add(user, &claims.jti, claims.exp.saturating_mul(1000));
        let written = self.0.records.commit(vec![document]).await;
        written.map_err(|cause| failed("logout", cause))?;
        self.end_family(user, &claims.fam).await
    }

    /// Refuses a token of the outside provider until it ends, and closes its websockets.
    async fn end_outside(&self, principal: &Principal) -> Result<(), ApiError> {
        let (Some(login), Some(until)) = (&principal.login, principal.expires_at_ms) else {
            return Ok(());
        };
        let document = self.0.revoked.add(principal.user.as_str(), login, until);
        let written = self.0.records.commit(vec![document]).await;
        written.map_err(|cause| failed("logout", cause))?;
        self.0.connections.close_login(login);
        Ok(())
    }

    /// Refuses everything that descends from a login from now on, and closes its websockets.
    async fn end_family(&self, user: &str, login: &str) -> Result<(), ApiError> {
        // Access tokens of the family live on at most this long.
        let until = self.0.clock.now_ms() + self.0.config.access_token_ms;
        let documents = vec![
            self.0.revoked.add(user, login, until),
            write(FAMILY, key(user, login), None, Expect::Any),
            write(FAMILY, login.to_owned(), None, Expect::Any),
        ];
        let written = self.0.records.commit(documents).await;
        // Whatever the store says: in this process the login has ended.
        self.0.connections.close_login(login);
        written.map_err(|cause| failed("revoke", cause))
    }

    async fn family(&self, user: &str, login: &str) -> Result<Option<Stored>, ApiError> {
        for key in [key(user, login), login.to_owned()] {
            let found = self.0.store.document(FAMILY, &key).await;
            let Some(bytes) = found.map_err(|cause| failed("refresh", cause))? else {
                continue;
            };
            let family: Option<Family> = serde_json::from_slice(&bytes).ok();
            return Ok(family
                .filter(|family| family.user == user)
                .map(|family| Stored { key, bytes, family }));
        }
        Ok(None)
    }

    /// Deletes what has expired: tickets, revocations, logins, marks of deleted users. Called now and then.
    pub(crate) async fn sweep(&self) {
        self.0.tickets.sweep();
        let now = self.0.clock.now_ms();
        self.0.ended.sweep(now);
        let mut documents = self.0.revoked.sweep(now);
        let mut after: Option<String> = None;
        loop {
            match self.expired(now, after.as_deref()).await {
                Ok((expired, next)) => {
                    documents.extend(expired);
                    after = next;
                }
                Err(error) => {
                    tracing::warn!(%error, "expired logins not read");
                    return;
                }
            }
            if !documents.is_empty()
                && let Err(error) = self.0.records.commit(std::mem::take(&mut documents)).await
            {
                tracing::warn!(%error, "expired tokens not deleted");
                return;
            }
            if after.is_none() {
                break;
            }
        }
        self.sweep_deleted(now).await;
    }

    async fn expired(
        &self,
        now: Millis,
        after: Option<&str>,
    ) -> Result<(Vec<DocumentWrite>, Option<String>), StoreError> {
        let page = self.0.store.documents(FAMILY, "", after, PAGE).await?;
        let next = page.last().filter(|_| page.len() == PAGE).map(|(key, _)| key.clone());
        let is_over =
            |bytes: &Bytes| serde_json::from_slice::<Family>(bytes).is_ok_and(|family| family.expires_at_ms <= now);
        let expired = page
            .into_iter()
            .filter(|(_, bytes)| is_over(bytes))
            .map(|(key, bytes)| write(FAMILY, key, None, Expect::Value(bytes)))
            .collect();
        Ok((expired, next))
    }
}

/// Why a refresh token got no new pair.
enum Refused {
    /// It was used before.
    Reused,
    /// Anything else.
    Api(ApiError),
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}
