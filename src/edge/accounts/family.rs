//! Families of tokens: what one login gets, how a refresh token is rotated, and how all of it ends.

use bytes::Bytes;
use kronos_actors::{
    clock::Millis,
    metrics as names,
    principal::{AuthError, Principal},
    store::{DocumentWrite, Expect, Refusal, Request, StoreError},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Accounts, Claims, Kind, encode, seconds, token, write};
use crate::edge::{
    error::{ApiError, StoreFailure},
    input::Fields,
};

/// The family of documents: key = id of a login.
const FAMILY: &str = "refresh";

/// Documents looked at in one sweep.
const PAGE: usize = 500;

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

impl Accounts {
    /// Starts a family: the answer of a login.
    pub(super) async fn start_family(&self, user: &str) -> Result<Value, ApiError> {
        let id = token::unguessable();
        let (family, answer) = self.pair(user, &id)?;
        let document = write(FAMILY, id, Some(encode(&family)?), Expect::Absent);
        self.commit(vec![document], "login").await?;
        Ok(answer)
    }

    /// Signs a new pair for a family.
    fn pair(&self, user: &str, id: &str) -> Result<(Family, Value), ApiError> {
        let config = &self.0.config;
        let now = self.0.clock.now_ms();
        let sign = |typ, life_ms: Millis| {
            let jti = token::unguessable();
            let (sub, fam) = (user.to_owned(), id.to_owned());
            let claims = Claims {
                sub,
                jti: jti.clone(),
                iat: now / 1000,
                exp: (now + life_ms) / 1000,
                typ,
                fam,
            };
            let token = self.0.keys.sign(&claims).map_err(|error| {
                tracing::error!(%error, "token cannot be signed");
                ApiError::internal()
            })?;
            Ok::<_, ApiError>((jti, token))
        };
        let (_, access_token) = sign(Kind::Access, config.access_token_ms)?;
        let (refresh, refresh_token) = sign(Kind::Refresh, config.refresh_token_ms)?;
        let answer = json!({
            "access_token": access_token,
            "token_type": "bearer",
            "expires_in": seconds(config.access_token_ms),
            "refresh_token": refresh_token,
            "refresh_expires_in": seconds(config.refresh_token_ms),
        });
        let expires_at_ms = now + config.refresh_token_ms;
        Ok((
            Family {
                user: user.to_owned(),
                refresh,
                expires_at_ms,
            },
            answer,
        ))
    }

    /// Uses a refresh token up for a new pair. One that was used before ends its whole family: somebody has a copy.
    pub(in crate::edge) async fn refresh(&self, body: Map<String, Value>) -> Result<Value, ApiError> {
        let mut fields = Fields::new("body", body);
        let token = fields.required_text("refresh_token", 1, 4096);
        fields.finish()?;
        let result = self.rotate(&token.unwrap_or_default()).await;
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

    async fn rotate(&self, token: &str) -> Result<Value, Refused> {
        let claims = self
            .0
            .keys
            .check(token, Kind::Refresh, self.0.clock.now_ms())
            .map_err(ApiError::from)?;
        let Some((bytes, family)) = self.family(&claims.fam).await? else {
            return Err(ApiError::from(AuthError::Revoked).into());
        };
        if family.refresh != claims.jti {
            tracing::warn!(user.id = %claims.sub, "refresh token used twice, its family is revoked");
            self.end_family(&claims.fam).await?;
            return Err(Refused::Reused);
        }
        let user = self.user(&claims.sub).await.map_err(|cause| {
            ApiError::from(StoreFailure {
                operation: "refresh",
                cause,
            })
        })?;
        if user.is_none_or(|(_, user)| !user.is_active) {
            self.end_family(&claims.fam).await?;
            return Err(ApiError::from(AuthError::Revoked).into());
        }
        let (next, answer) = self.pair(&claims.sub, &claims.fam)?;
        let document = write(FAMILY, claims.fam.clone(), Some(encode(&next)?), Expect::Value(bytes));
        match self
            .0
            .store
            .commit(Request {
                documents: vec![document],
                ..Request::default()
            })
            .await
        {
            Ok(()) => Ok(answer),
            // Two came at once with the same token: that is twice, too.
            Err(StoreError::Refused(Refusal::Condition { .. })) => {
                self.end_family(&claims.fam).await?;
                Err(Refused::Reused)
            }
            Err(cause) => Err(ApiError::from(StoreFailure {
                operation: "refresh",
                cause,
            })
            .into()),
        }
    }

    /// Ends the caller's login: its access token, its family, its websockets.
    pub(in crate::edge) async fn logout(
        &self,
        principal: &Principal,
        token: &str,
        body: Map<String, Value>,
    ) -> Result<(), ApiError> {
        let mut fields = Fields::new("body", body);
        let refresh = fields.text("refresh_token", 1, 4096);
        fields.finish()?;
        let now = self.0.clock.now_ms();
        let claims = self.0.keys.check(token, Kind::Access, now)?;
        // A refresh token of another login of the same user ends that one as well.
        if let Some(other) = refresh.and_then(|token| self.0.keys.check(&token, Kind::Refresh, now).ok())
            && other.sub == principal.user.as_str()
            && other.fam != claims.fam
        {
            self.end_family(&other.fam).await?;
        }
        let document = self.0.revoked.add(&claims.jti, claims.exp.saturating_mul(1000));
        self.commit(vec![document], "logout").await?;
        self.end_family(&claims.fam).await
    }

    /// Refuses everything that descends from a login from now on, and closes its websockets.
    async fn end_family(&self, id: &str) -> Result<(), ApiError> {
        // Access tokens of the family live on at most this long.
        let until = self.0.clock.now_ms() + self.0.config.access_token_ms;
        let documents = vec![
            self.0.revoked.add(id, until),
            write(FAMILY, id.to_owned(), None, Expect::Any),
        ];
        self.commit(documents, "revoke").await?;
        (self.0.on_revoked)(id);
        Ok(())
    }

    async fn family(&self, id: &str) -> Result<Option<(Bytes, Family)>, ApiError> {
        let fail = |cause| StoreFailure {
            operation: "refresh",
            cause,
        };
        let found = self.0.store.document(FAMILY, id).await.map_err(fail)?;
        Ok(found.and_then(|bytes| serde_json::from_slice(&bytes).ok().map(|family| (bytes, family))))
    }

    async fn commit(&self, documents: Vec<DocumentWrite>, operation: &'static str) -> Result<(), ApiError> {
        let request = Request {
            documents,
            ..Request::default()
        };
        self.0
            .store
            .commit(request)
            .await
            .map_err(|cause| StoreFailure { operation, cause }.into())
    }

    /// Deletes what has expired: tickets, revocations, logins. Called now and then.
    pub(crate) async fn sweep(&self) {
        self.0.tickets.sweep();
        let now = self.0.clock.now_ms();
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
            if !documents.is_empty() {
                let request = Request {
                    documents: std::mem::take(&mut documents),
                    ..Request::default()
                };
                if let Err(error) = self.0.store.commit(request).await {
                    tracing::warn!(%error, "expired tokens not deleted");
                    return;
                }
            }
            if after.is_none() {
                return;
            }
        }
    }

    async fn expired(
        &self,
        now: Millis,
        after: Option<&str>,
    ) -> Result<(Vec<DocumentWrite>, Option<String>), StoreError> {
        let page = self.0.store.documents(FAMILY, "", after, PAGE).await?;
        let next = if page.len() == PAGE {
            page.last().map(|(key, _)| key.clone())
        } else {
            None
        };
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
